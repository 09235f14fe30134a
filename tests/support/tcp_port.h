/* tcp_port.h - TCP ports: one of 127.0.0.1 for a test to listen on, and those of a process. */
#ifndef FAR_TESTS_SUPPORT_TCP_PORT_H
#define FAR_TESTS_SUPPORT_TCP_PORT_H

#include <sys/types.h>

/* One that nobody has, that was not returned before, and that the kernel gives to nobody: those
 * that it hands out by itself may be taken, by this very process, before the test listens. Returns
 * 0: there is none. */
unsigned far_test_tcp_port(void);

/* The ports that a process listens at: their number, and up to @ports_max of them; @elsewhere: how
 * many are not at 127.0.0.1. */
unsigned far_test_tcp_listens(pid_t pid, unsigned *ports, unsigned ports_max, unsigned *elsewhere);

#endif
