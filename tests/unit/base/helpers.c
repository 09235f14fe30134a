/* helpers.c - jobs shared among threads: each item once, seen by the caller, nobody waited for who sleeps. */
#include "base/helpers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/copy.h"
#include "base/rng.h"
#include "tests/support/log_capture.h"

#define SPIN_NS  (20 * FAR_NS_PER_US)
#define ITEMS    200u
#define AREA     ((size_t)8192)
#define PATIENCE (5 * FAR_NS_PER_S) /* shorter than they sleep at a time */
#define ROUNDS   2000

struct counting {
	uint32_t ran[ITEMS]; /* plain: the end of a run is what makes it visible */
	const uint8_t *from;
	uint8_t *to;
};

static void
count_one(void *arg, uint32_t item)
{
	struct counting *counting = arg;

	counting->ran[item]++;
	if (item < 4)
		far_copy_stream(counting->to + item * AREA, counting->from, AREA);
}

static void
each_item_runs_once_and_what_it_wrote_is_seen(void **state)
{
	static struct counting counting;
	struct far_helpers *helpers;
	struct far_rng rng;
	uint8_t *area = far_zalloc_aligned(64, 5 * AREA);

	(void)state;
	assert_non_null(area);
	far_rng_init(&rng, 7);
	counting.from = area;
	counting.to = area + AREA;
	assert_int_equal(far_helpers_open("test", 3, SPIN_NS, &helpers), 0);
	assert_int_equal(far_helpers_count(helpers), 3);
	for (int round = 0; round < ROUNDS; round++) {
		uint32_t count = (uint32_t)far_rng_below(&rng, ITEMS + 1);

		memset(&counting.ran, 0, sizeof(counting.ran));
		memset(area, round, AREA);
		far_helpers_run(helpers, count_one, &counting, count, round % 3 != 0);
		for (uint32_t i = 0; i < ITEMS; i++)
			assert_int_equal(counting.ran[i], i < count ? 1 : 0);
		for (uint32_t i = 0; i < 4 && i < count; i++)
			assert_memory_equal(counting.to + i * AREA, area, AREA);
		/* Now and then they have gone to sleep. */
		if (round % 50 == 0)
			(void)usleep(500);
	}
	far_helpers_close(helpers);
	far_free(area);
}

struct meeting {
	_Atomic uint32_t there;
	pthread_t threads[3];
};

/* Ends when all three are in one of their own. */
static void
meet(void *arg, uint32_t item)
{
	struct meeting *meeting = arg;
	uint64_t until_ns = far_clock_now(far_clock_real()) + PATIENCE;

	meeting->threads[item] = pthread_self();
	atomic_fetch_add(&meeting->there, 1);
	while (atomic_load(&meeting->there) < 3 && far_clock_now(far_clock_real()) < until_ns)
		(void)sched_yield();
}

static void
sleepers_are_woken_and_run_at_the_same_time(void **state)
{
	struct far_helpers *helpers;
	(void)state;

	assert_int_equal(far_helpers_open("test", 2, 0, &helpers), 0);
	for (int round = 0; round < 20; round++) {
		struct meeting meeting = {.there = 0};

		(void)usleep(2000);
		far_helpers_run(helpers, meet, &meeting, 3, true);
		assert_int_equal(atomic_load(&meeting.there), 3);
		assert_false(pthread_equal(meeting.threads[0], meeting.threads[1]));
		assert_false(pthread_equal(meeting.threads[1], meeting.threads[2]));
		assert_false(pthread_equal(meeting.threads[0], meeting.threads[2]));
	}
	far_helpers_close(helpers);
}

static void
who_is_it(void *arg, uint32_t item)
{
	pthread_t *threads = arg;

	threads[item] = pthread_self();
}

static void
without_helpers_the_caller_does_it_all(void **state)
{
	pthread_t threads[5] = {0};
	struct far_helpers *none;
	(void)state;

	assert_int_equal(far_helpers_open("test", 0, SPIN_NS, &none), 0);
	assert_int_equal(far_helpers_count(none), 0);
	assert_int_equal(far_helpers_count(NULL), 0);
	far_helpers_run(none, who_is_it, threads, 3, true);
	far_helpers_run(NULL, who_is_it, threads + 3, 2, true);
	for (int i = 0; i < 5; i++)
		assert_true(pthread_equal(threads[i], pthread_self()));
	far_helpers_close(none);
	far_helpers_close(NULL);
}

static void
count_calls(void *arg, uint32_t item)
{
	_Atomic uint32_t *calls = arg;

	atomic_fetch_add(&calls[item], 1);
}

static void
nobody_is_waited_for_who_sleeps(void **state)
{
	_Atomic uint32_t calls[4] = {0};
	uint64_t began_ns = far_clock_now(far_clock_real());
	struct far_helpers *helpers;
	(void)state;

	assert_int_equal(far_helpers_open("test", 2, 0, &helpers), 0);
	(void)usleep(20000);
	for (int round = 0; round < 1000; round++)
		far_helpers_run(helpers, count_calls, calls, 4, false);
	for (int i = 0; i < 4; i++)
		assert_int_equal(atomic_load(&calls[i]), 1000);
	/* Nor does the end wait until they wake by themselves. */
	(void)usleep(2000);
	far_helpers_close(helpers);
	assert_true(far_clock_now(far_clock_real()) - began_ns < PATIENCE);
}

static int threads_left = INT_MAX;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
		      void *arg)
{
	return threads_left-- > 0 ? __real_pthread_create(thread, attr, run, arg) : EAGAIN;
}

static void
where_there_are_no_more_threads_there_are_fewer(void **state)
{
	_Atomic uint32_t calls[4] = {0};
	struct far_helpers *helpers;
	(void)state;

	for (int left = 0; left < 2; left++) {
		threads_left = left;
		far_log_capture_start();
		far_log_capture_expect("helpers run");
		assert_int_equal(far_helpers_open("test", 3, 0, &helpers), 0);
		far_log_capture_finish();
		assert_int_equal(far_helpers_count(helpers), left);
		far_helpers_run(helpers, count_calls, calls, 4, true);
		far_helpers_close(helpers);
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(atomic_load(&calls[i]), 2);
	threads_left = INT_MAX;
}

static void
two_processors_are_left_free(void **state)
{
	cpu_set_t all, one;
	uint32_t count, cpu = 0;
	(void)state;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	count = (uint32_t)CPU_COUNT(&all);
	assert_int_equal(far_helpers_spare(), count > 2 ? count - 2 : 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_int_equal(far_helpers_spare(), 0);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

static void
no_memory_is_told_and_leaves_nothing(void **state)
{
	struct far_helpers *helpers = NULL;
	(void)state;

	far_alloc_fail_nth(1);
	assert_int_equal(far_helpers_open("test", 1, 0, &helpers), -ENOMEM);
	assert_null(helpers);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_item_runs_once_and_what_it_wrote_is_seen),
		cmocka_unit_test(sleepers_are_woken_and_run_at_the_same_time),
		cmocka_unit_test(without_helpers_the_caller_does_it_all),
		cmocka_unit_test(nobody_is_waited_for_who_sleeps),
		cmocka_unit_test(where_there_are_no_more_threads_there_are_fewer),
		cmocka_unit_test(two_processors_are_left_free),
		cmocka_unit_test(no_memory_is_told_and_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
