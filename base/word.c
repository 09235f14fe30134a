/* word.c - words that threads wait on. */
#include "base/word.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

int
far_word_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
	/* Absolute CLOCK_MONOTONIC: FUTEX_WAIT_BITSET without FUTEX_CLOCK_REALTIME, futex(2). */
	struct timespec until = {
		.tv_sec = (time_t)(deadline_ns / FAR_NS_PER_S),
		.tv_nsec = (long)(deadline_ns % FAR_NS_PER_S),
	};

	while (atomic_load_explicit(word, memory_order_acquire) == value) {
		long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, &until, NULL,
				  FUTEX_BITSET_MATCH_ANY);

		if (rc < 0 && errno == ETIMEDOUT)
			return atomic_load_explicit(word, memory_order_acquire) == value
				       ? -ETIMEDOUT
				       : 0;
	}
	return 0;
}

void
far_word_wake(_Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}
