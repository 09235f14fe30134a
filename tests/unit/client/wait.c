/* wait.c - the end of a prefetch is told to whoever waits, kept for whoever asks late, and once. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pages.h"
#include "farpool/farpool.h"

static uint64_t
soon(void)
{
	return far_now_ns() + 10 * FAR_NS_PER_S;
}

static struct far_client *
open_client(void)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = 1 << 20};
	struct far_key key = {{1}};
	struct far_client *client = NULL;

	assert_int_equal(far_client_open(&options, &client), 0);
	assert_int_equal(far_put(client, &key, "data", 4), 0);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	return client;
}

static void
close_client(struct far_client *client)
{
	far_client_close(client);
	assert_int_equal(far_alloc_live_bytes(), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
}

/* One key that is there and one that is not: the client's thread has to end it. */
static struct far_prefetch_handle *
prefetch(struct far_client *client)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = soon(),
	};
	struct far_key keys[2] = {{{1}}, {{2}}};
	struct far_prefetch_handle *handle;

	assert_int_equal(far_prefetch(client, keys, 2, &options, &handle), 0);
	return handle;
}

static void *
wait_it(void *arg)
{
	uint64_t deadline_ns = soon();

	if (far_prefetch_wait(arg, deadline_ns, NULL) != 0)
		return "wait";
	/* Whom nobody wakes finds the answer as well, at his deadline. */
	return far_now_ns() < deadline_ns ? NULL : "wait: woken by nothing but the deadline";
}

static void *
poll_it(void *arg)
{
	struct pollfd fd = {.fd = far_prefetch_event_fd(arg), .events = POLLIN};

	return poll(&fd, 1, 10000) == 1 ? NULL : "poll";
}

static void
every_waiter_is_told_though_nobody_asks_for_the_status(void **state)
{
	struct far_client *client = open_client();

	(void)state;
	for (int round = 0; round < 50; round++) {
		struct far_prefetch_handle *handle = prefetch(client);
		pthread_t threads[4];

		for (size_t i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&threads[i], NULL,
							i % 2 == 0 ? wait_it : poll_it, handle),
					 0);
		for (size_t i = 0; i < 4; i++) {
			void *failed;

			pthread_join(threads[i], &failed);
			if (failed != NULL)
				fail_msg("%s", (const char *)failed);
		}
		far_prefetch_release(handle);
	}
	close_client(client);
}

static void
cancel_is_acknowledged_and_then_nothing_is_held(void **state)
{
	struct far_client *client = open_client();
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct far_key key = {{1}};

	(void)state;
	for (int round = 0; round < 50; round++) {
		struct far_prefetch_handle *handle = prefetch(client);
		struct far_prefetch_status status = {.size_bytes = sizeof(status)};

		far_prefetch_cancel(handle);
		assert_int_equal(far_prefetch_wait(handle, soon(), &status), 0);
		assert_true(status.rc == -ECANCELED || status.rc == 0);
		if (status.rc == -ECANCELED) {
			assert_int_equal(status.prefix_count, 0);
			far_stats_get(client, &stats);
			assert_int_equal(stats.l1_locked_bytes, 0);
		}
		far_prefetch_release(handle);
	}
	assert_int_equal(far_delete(client, &key, soon()), 0);
	close_client(client);
}

static void
result_that_nobody_asked_for_is_kept_until_release_and_no_longer(void **state)
{
	struct far_client *client = open_client();
	struct far_prefetch_handle *handle = prefetch(client);
	struct far_key key = {{1}};
	const void *data;

	(void)state;
	assert_int_equal(far_prefetch_wait(handle, soon(), NULL), 0);
	for (int i = 0; i < 3; i++) {
		struct far_prefetch_status status = {.size_bytes = sizeof(status)};

		far_prefetch_poll(handle, &status);
		assert_int_equal(status.ended, 1);
		assert_int_equal(status.prefix_count, 1);
		assert_int_equal(far_prefetch_block(handle, 0, &data, NULL), 0);
	}
	far_prefetch_release(handle);
	/* Released unasked: its locks go all the same. */
	far_prefetch_release(prefetch(client));
	assert_int_equal(far_delete(client, &key, soon()), 0);
	close_client(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_waiter_is_told_though_nobody_asks_for_the_status),
		cmocka_unit_test(cancel_is_acknowledged_and_then_nothing_is_held),
		cmocka_unit_test(result_that_nobody_asked_for_is_kept_until_release_and_no_longer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
