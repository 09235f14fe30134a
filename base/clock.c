/* clock.c - the machine's monotonic clock, and one that only a test moves. */
#include "base/clock.h"

#include <errno.h>
#include <time.h>

#include "base/assert.h"

static uint64_t
clock_read(clockid_t id)
{
	struct timespec ts;
	int rc = clock_gettime(id, &ts);

	FAR_ASSERT(rc == 0);
	return (uint64_t)ts.tv_sec * FAR_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t
real_now(struct far_clock *clock)
{
	(void)clock;
	return clock_read(CLOCK_MONOTONIC);
}

struct far_clock *
far_clock_real(void)
{
	static struct far_clock real = {.now_ns = real_now};

	return &real;
}

static uint64_t
fake_now(struct far_clock *clock)
{
	return ((struct far_clock_fake *)clock)->ns;
}

void
far_clock_fake_init(struct far_clock_fake *fake, uint64_t start_ns)
{
	fake->clock.now_ns = fake_now;
	fake->ns = start_ns;
}

void
far_clock_fake_advance(struct far_clock_fake *fake, uint64_t by_ns)
{
	FAR_ASSERT(by_ns <= FAR_TIME_NEVER - fake->ns);
	fake->ns += by_ns;
}

uint64_t
far_clock_cpu_ns(void)
{
	return clock_read(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t
far_clock_thread_cpu_ns(void)
{
	return clock_read(CLOCK_THREAD_CPUTIME_ID);
}

void
far_clock_sleep_until(uint64_t until_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(until_ns / FAR_NS_PER_S),
		.tv_nsec = (long)(until_ns % FAR_NS_PER_S),
	};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}
