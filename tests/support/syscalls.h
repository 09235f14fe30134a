/* syscalls.h - system calls of this thread, counted by a process that traces it. */
#ifndef FAR_TESTS_SUPPORT_SYSCALLS_H
#define FAR_TESTS_SUPPORT_SYSCALLS_H

#include <stdint.h>

/* Counts from here on, until syscalls_end(). Everything is slower meanwhile. Returns 0, or -1: this
 * kernel lets nobody trace. One at a time. */
int syscalls_begin(void);
/* So far; 0 where nobody counts. Costs no system call. */
uint64_t syscalls_count(void);
void syscalls_end(void);

#endif
