/* clock.h - time is a parameter: real, or moved by a test. No promise depends on any clock. */
#ifndef FAR_BASE_CLOCK_H
#define FAR_BASE_CLOCK_H

#include <stdint.h>

#define FAR_NS_PER_US  1000ULL
#define FAR_NS_PER_MS  1000000ULL
#define FAR_NS_PER_S   1000000000ULL
#define FAR_TIME_NEVER UINT64_MAX

struct far_clock {
	/* Absolute CLOCK_MONOTONIC nanoseconds, or a fake's. Never goes back. */
	uint64_t (*now_ns)(struct far_clock *clock);
};

/* A clock that stands still until it is moved. */
struct far_clock_fake {
	struct far_clock clock;
	uint64_t ns;
};

/* The machine's monotonic clock; static, never released. Thread: any. */
struct far_clock *far_clock_real(void);

void far_clock_fake_init(struct far_clock_fake *fake, uint64_t start_ns);
void far_clock_fake_advance(struct far_clock_fake *fake, uint64_t by_ns);

/* A moment @by_ns later; the end of time stays where it is. */
static inline uint64_t
far_time_after(uint64_t at_ns, uint64_t by_ns)
{
	return at_ns > FAR_TIME_NEVER - by_ns ? FAR_TIME_NEVER : at_ns + by_ns;
}

static inline uint64_t
far_clock_now(struct far_clock *clock)
{
	return clock->now_ns(clock);
}

/* CPU time of the calling process in nanoseconds, user and system. Thread: any. */
uint64_t far_clock_cpu_ns(void);
/* The same of the calling thread. */
uint64_t far_clock_thread_cpu_ns(void);

/* Sleeps on the real clock until @until_ns (absolute); for shells and tests, and helpers.c. */
void far_clock_sleep_until(uint64_t until_ns);

#endif
