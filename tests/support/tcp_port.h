/* tcp_port.h - a TCP port of 127.0.0.1 for a test to listen on. */
#ifndef FAR_TESTS_SUPPORT_TCP_PORT_H
#define FAR_TESTS_SUPPORT_TCP_PORT_H

/* One that nobody has, that was not returned before, and that the kernel gives to nobody: those
 * that it hands out by itself may be taken, by this very process, before the test listens. Returns
 * 0: there is none. */
unsigned far_test_tcp_port(void);

#endif
