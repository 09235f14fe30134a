/* helpers.h - threads that take their share of what one thread works on, while it works on it. */
#ifndef FAR_BASE_HELPERS_H
#define FAR_BASE_HELPERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#define FAR_HELPERS_MAX 16u
/* Longer than what mostly lies between two slices of one transfer. */
#define FAR_HELPERS_SPIN_NS (100 * FAR_NS_PER_US)

struct far_helpers;

/* One item of a job. Runs in any of the threads, and should be short: the others wait for it. */
typedef void far_helpers_fn(void *arg, uint32_t item);

/* How many have a processor of their own where the calling thread may run: one is the caller's, one is left to
 * whom it works for. */
uint32_t far_helpers_spare(void);

/**
 * far_helpers_open - threads that sleep until there is something to do.
 *
 * @name:    of the threads, 15 characters of it.
 * @count:   how many, at most FAR_HELPERS_MAX; 0: the caller will do it all.
 * @out:     set only on success; owned: far_helpers_close().
 * @spin_ns: how long one that finds nothing to do looks on before it sleeps.
 *
 * They take no signals and run where the caller may. Where the system gives fewer threads, there are fewer,
 * and the log has a warning.
 * Thread:  any.
 * Returns: 0, or -ENOMEM.
 */
int far_helpers_open(const char *name, uint32_t count, uint64_t spin_ns, struct far_helpers **out);

/* No run is going on, and no child of fork() calls it. Takes NULL. Thread: any. */
void far_helpers_close(struct far_helpers *helpers);

/* How many threads there are beside the caller. Takes NULL: 0. Thread: any. */
uint32_t far_helpers_count(const struct far_helpers *helpers);

/**
 * far_helpers_run - a job: fn(arg, i) for each i below @count, once each, in no order.
 *
 * @helpers: NULL, or without threads: the caller does it all.
 * @count: 65535 at most.
 * @wake: whether those who sleep are woken, at the price of a system call. Who is awake takes part, whatever
 *        it says.
 *
 * @fn, @arg: used until it returns.
 *
 * Returns when all have returned; what they wrote, streamed or not, is visible to the caller. It never waits
 * for a thread that sleeps, but for one that was taken from its processor in the middle of an item, and that
 * without a deadline: as if it had lost its own.
 * Thread:  any, one at a time.
 */
void far_helpers_run(struct far_helpers *helpers, far_helpers_fn *fn, void *arg, uint32_t count,
		     bool wake);

#endif
