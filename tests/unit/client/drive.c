/* drive.c - tests: a caller that waits does the work of the client's thread while that sleeps. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pages.h"
#include "client/config.h"
#include "farpool/farpool.h"

#define CALLERS 4
#define ROUNDS  2000

/* ---- the thread's sleep: counted, and prolonged as long as a test wants ---- */

static _Atomic bool held;
static _Atomic uint32_t sleeps;
static _Atomic uint32_t wakes;

int __real_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		 const sigset_t *mask);

int
__wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	int rc;

	atomic_fetch_add(&sleeps, 1);
	rc = __real_ppoll(fds, count, timeout, mask);
	while (atomic_load(&held))
		far_clock_sleep_until(far_now_ns() + FAR_NS_PER_MS);
	atomic_fetch_add(&wakes, 1);
	return rc;
}

static uint64_t
soon(void)
{
	return far_now_ns() + 10 * FAR_NS_PER_S;
}

static struct far_client *
client_open(uint32_t wait)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = 1U << 20};
	char error[FAR_PARAM_ERROR_BYTES];
	struct far_client_config config;
	struct far_client *client = NULL;

	assert_int_equal(far_client_config_from_options(&options, &config, error), 0);
	config.prefetch_wait = wait;
	assert_int_equal(far_client_open_config(&config, &client, error), 0);
	return client;
}

static void
client_close(struct far_client *client)
{
	far_client_close(client);
	assert_int_equal(far_alloc_live_bytes(), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
}

/* Until the thread sleeps, and will not wake up by itself. */
static void
thread_hold(void)
{
	uint64_t until_ns = soon();

	atomic_store(&held, true);
	while (atomic_load(&sleeps) == atomic_load(&wakes) && far_now_ns() < until_ns)
		far_clock_sleep_until(far_now_ns() + FAR_NS_PER_MS);
	assert_true(atomic_load(&sleeps) > atomic_load(&wakes));
	/* It lets go of the client just before it sleeps. */
	far_clock_sleep_until(far_now_ns() + 5 * FAR_NS_PER_MS);
}

/* One key that nobody has. */
static int
ask(struct far_client *client, uint32_t n, uint32_t flags, uint64_t wait_ns)
{
	struct far_key_parts parts = {
		.size_bytes = sizeof(parts), .chunk_hash = &n, .chunk_hash_bytes = sizeof(n)};
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options), .flags = flags, .deadline_ns = soon()};
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_prefetch_handle *handle;
	struct far_key key;
	int rc;

	assert_int_equal(far_key_make(&parts, &key), 0);
	assert_int_equal(far_prefetch(client, &key, 1, &options, &handle), 0);
	rc = far_prefetch_wait(handle, far_now_ns() + wait_ns, &status);
	if (rc == 0) {
		assert_int_equal(status.ended, 1);
		assert_int_equal(status.prefix_count, 0);
	}
	far_prefetch_release(handle);
	return rc;
}

static void
who_waits_does_the_work_while_the_thread_sleeps(void **state)
{
	struct far_client *client = client_open(FAR_CLIENT_WAIT_DRIVES);
	(void)state;

	thread_hold();
	for (uint32_t n = 0; n < 10; n++) {
		assert_int_equal(ask(client, n, 0, FAR_NS_PER_S), 0);
		assert_int_equal(ask(client, n, FAR_PREFETCH_WAIT_FOLLOWS, FAR_NS_PER_S), 0);
	}
	/* Who only looks does nothing; that it was asked for is told to the thread. */
	assert_int_equal(ask(client, 11, FAR_PREFETCH_WAIT_FOLLOWS, 0), -ETIMEDOUT);
	atomic_store(&held, false);
	client_close(client);
}

static void
who_shall_sleep_does_nothing_of_it(void **state)
{
	struct far_client *client = client_open(FAR_CLIENT_WAIT_SLEEPS);
	(void)state;

	thread_hold();
	assert_int_equal(ask(client, 1, 0, 20 * FAR_NS_PER_MS), -ETIMEDOUT);
	assert_int_equal(ask(client, 2, FAR_PREFETCH_WAIT_FOLLOWS, 20 * FAR_NS_PER_MS), -ETIMEDOUT);
	atomic_store(&held, false);
	/* It was woken for them. */
	assert_int_equal(ask(client, 3, FAR_PREFETCH_WAIT_FOLLOWS, 10 * FAR_NS_PER_S), 0);
	client_close(client);
}

/* Whether the thread slept on. It has ticks of its own, so that once in a while it does not. */
static bool
thread_slept_on(struct far_client *client, uint32_t flags)
{
	uint32_t before;

	thread_hold();
	before = atomic_load(&wakes);
	atomic_store(&held, false);
	assert_int_equal(ask(client, 7, flags, 10 * FAR_NS_PER_S), 0);
	far_clock_sleep_until(far_now_ns() + 20 * FAR_NS_PER_MS);
	return atomic_load(&wakes) == before;
}

static void
nobody_is_woken_where_the_wait_follows(void **state)
{
	struct far_client *client = client_open(FAR_CLIENT_WAIT_DRIVES);
	uint32_t slept_on = 0;
	(void)state;

	for (int i = 0; i < 10; i++) {
		slept_on += thread_slept_on(client, FAR_PREFETCH_WAIT_FOLLOWS);
		assert_false(thread_slept_on(client, 0)); /* it might go on without us */
	}
	assert_true(slept_on >= 5);
	client_close(client);
}

/* Not waited for, and given up: it ends all the same. */
static void
a_promise_that_is_not_kept_leaves_nothing(void **state)
{
	struct far_client *client = client_open(FAR_CLIENT_WAIT_DRIVES);
	struct far_prefetch_options options = {.size_bytes = sizeof(options),
					       .flags = FAR_PREFETCH_WAIT_FOLLOWS,
					       .deadline_ns = soon()};
	struct far_prefetch_handle *handle;
	struct far_key key = {.bytes = {1}};
	(void)state;

	far_prefetch_cancel(NULL);
	far_prefetch_release(NULL);
	assert_int_equal(far_prefetch(client, &key, 1, &options, &handle), 0);
	far_prefetch_release(handle);
	assert_int_equal(far_prefetch(client, &key, 1, &options, &handle), 0);
	client_close(client); /* and the other one with it */
}

static _Atomic bool flushed;

static void *
flush_main(void *arg)
{
	void *failed = far_flush(arg, soon(), NULL) == 0 ? NULL : arg;

	atomic_store(&flushed, true);
	return failed;
}

/* Questions may open a device, or pin memory: no caller with a deadline of his own comes to do that. */
static void
what_may_take_long_is_left_to_the_thread(void **state)
{
	struct far_client *client = client_open(FAR_CLIENT_WAIT_DRIVES);
	pthread_t flusher;
	void *failed;
	(void)state;

	thread_hold();
	atomic_store(&flushed, false);
	assert_int_equal(pthread_create(&flusher, NULL, flush_main, client), 0);
	far_clock_sleep_until(far_now_ns() + 50 * FAR_NS_PER_MS);
	assert_int_equal(ask(client, 1, FAR_PREFETCH_WAIT_FOLLOWS, 50 * FAR_NS_PER_MS), -ETIMEDOUT);
	assert_false(atomic_load(&flushed));
	atomic_store(&held, false);
	assert_int_equal(ask(client, 2, FAR_PREFETCH_WAIT_FOLLOWS, 10 * FAR_NS_PER_S), 0);
	assert_int_equal(pthread_join(flusher, &failed), 0);
	assert_null(failed);
	client_close(client);
}

static void *
caller_main(void *arg)
{
	struct far_client *client = arg;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t flags = i % 3 == 0 ? 0 : FAR_PREFETCH_WAIT_FOLLOWS;

		if (ask(client, i, flags, 10 * FAR_NS_PER_S) != 0)
			return arg;
		if (i % 64 == 0)
			far_clock_sleep_until(far_now_ns() + 100 * FAR_NS_PER_US);
	}
	return NULL;
}

/* A wake-up that is lost would be a second that nobody does anything in. */
static void
callers_and_the_thread_take_turns(void **state)
{
	struct far_client *client = client_open(FAR_CLIENT_WAIT_DRIVES);
	pthread_t callers[CALLERS];
	(void)state;

	for (int i = 0; i < CALLERS; i++)
		assert_int_equal(pthread_create(&callers[i], NULL, caller_main, client), 0);
	for (int i = 0; i < CALLERS; i++) {
		void *failed;

		assert_int_equal(pthread_join(callers[i], &failed), 0);
		assert_null(failed);
	}
	client_close(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_waits_does_the_work_while_the_thread_sleeps),
		cmocka_unit_test(who_shall_sleep_does_nothing_of_it),
		cmocka_unit_test(nobody_is_woken_where_the_wait_follows),
		cmocka_unit_test(a_promise_that_is_not_kept_leaves_nothing),
		cmocka_unit_test(what_may_take_long_is_left_to_the_thread),
		cmocka_unit_test(callers_and_the_thread_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
