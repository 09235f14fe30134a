/* client.c - the public interface over L1 alone: loans, handles, threads, close, fork. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pages.h"
#include "farpool/farpool.h"

static struct far_client *
open_client(uint64_t l1_bytes)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = l1_bytes};
	struct far_client *client = NULL;

	assert_int_equal(far_client_open(&options, &client), 0);
	assert_non_null(client);
	return client;
}

static void
close_client(struct far_client *client)
{
	far_client_close(client);
	assert_int_equal(far_alloc_live_bytes(), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
}

static struct far_key
key_of(uint32_t n)
{
	struct far_key_parts parts = {
		.size_bytes = sizeof(parts),
		.chunk_hash = &n,
		.chunk_hash_bytes = sizeof(n),
	};
	struct far_key key;

	assert_int_equal(far_key_make(&parts, &key), 0);
	return key;
}

static void
ignore_line(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static uint64_t
soon(void)
{
	return far_now_ns() + 10 * FAR_NS_PER_S;
}

static void
put_block_is_borrowed_and_given_back(void **state)
{
	struct far_client *client = open_client(1 << 20);
	struct far_key key = key_of(1);
	struct far_block *block = NULL;

	(void)state;
	assert_int_equal(far_put(client, &key, "hello", 5), 0);
	assert_int_equal(far_put(client, &key, "again", 5), -EEXIST);
	assert_int_equal(far_get(client, &key, soon(), &block), 0);
	assert_int_equal(far_block_size(block), 5);
	assert_memory_equal(far_block_data(block), "hello", 5);
	assert_null(far_block_buffer(block));
	assert_int_equal(far_commit(block), -EINVAL);
	assert_int_equal(far_delete(client, &key, soon()), -EBUSY);
	far_release(block);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	assert_int_equal(far_delete(client, &key, soon()), 0);
	assert_int_equal(far_delete(client, &key, soon()), -ENOENT);
	assert_int_equal(far_get(client, &key, soon(), &block), -ENOENT);
	close_client(client);
}

static void
reserved_block_is_invisible_until_its_commit(void **state)
{
	struct far_client *client = open_client(1 << 20);
	struct far_key key = key_of(1);
	struct far_block *writing;
	struct far_block *block;

	(void)state;
	assert_int_equal(far_reserve(client, &key, 100, &writing), 0);
	assert_int_not_equal(far_get(client, &key, soon(), &block), 0);
	assert_int_equal(far_abort(writing), 0);
	assert_int_equal(far_get(client, &key, soon(), &block), -ENOENT);
	assert_int_equal(far_reserve(client, &key, 100, &writing), 0);
	memset(far_block_buffer(writing), 7, 100);
	assert_int_equal(far_commit(writing), 0);
	assert_int_equal(far_get(client, &key, soon(), &block), 0);
	far_release(block);
	close_client(client);
}

static void
prefetch_that_l1_serves_has_ended_when_it_returns(void **state)
{
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_client *client = open_client(1 << 20);
	struct far_prefetch_handle *handle;
	struct far_key keys[4];
	struct pollfd fd = {.events = POLLIN};
	const void *data;

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		keys[i] = key_of(i);
		assert_int_equal(far_put(client, &keys[i], "data", 4), 0);
	}
	options.deadline_ns = soon();
	assert_int_equal(far_prefetch(client, keys, 4, &options, &handle), 0);
	far_prefetch_poll(handle, &status);
	assert_int_equal(status.ended, 1);
	assert_int_equal(status.prefix_count, 4);
	assert_int_equal(status.l1_prefix_hit_count, 4);
	assert_int_equal(status.l2_bytes, 0);
	fd.fd = far_prefetch_event_fd(handle);
	assert_int_equal(poll(&fd, 1, 0), 1);
	assert_int_equal(far_prefetch_block(handle, 3, &data, NULL), 0);
	assert_memory_equal(data, "data", 4);
	assert_int_equal(far_prefetch_block(handle, 4, &data, NULL), -EINVAL);
	far_prefetch_release(handle);
	close_client(client);
}

static void
prefetch_ends_at_the_first_key_that_nobody_has(void **state)
{
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_client *client = open_client(1 << 20);
	struct far_prefetch_handle *handle;
	struct far_key keys[4];
	const void *data;

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		keys[i] = key_of(i);
		if (i != 2)
			assert_int_equal(far_put(client, &keys[i], "data", 4), 0);
	}
	options.deadline_ns = soon();
	assert_int_equal(far_prefetch(client, keys, 4, &options, &handle), 0);
	assert_int_equal(far_prefetch_wait(handle, soon(), &status), 0);
	assert_int_equal(status.prefix_count, 2);
	assert_int_equal(status.gap_rc, -ENOENT);
	assert_int_equal(far_prefetch_block(handle, 1, &data, NULL), 0);
	assert_int_equal(far_prefetch_block(handle, 2, &data, NULL), -ENOENT);
	far_prefetch_release(handle);
	close_client(client);
}

static void
warm_prefetch_holds_nothing_when_it_has_ended(void **state)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.flags = FAR_PREFETCH_WARM_ONLY,
	};
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct far_client *client = open_client(1 << 20);
	struct far_prefetch_handle *handle;
	struct far_key keys[3] = {key_of(0), key_of(1), key_of(2)};
	const void *data;

	(void)state;
	assert_int_equal(far_put(client, &keys[0], "data", 4), 0);
	assert_int_equal(far_put(client, &keys[1], "data", 4), 0);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	for (size_t count = 2; count <= 3; count++) {
		options.deadline_ns = soon();
		assert_int_equal(far_prefetch(client, keys, count, &options, &handle), 0);
		assert_int_equal(far_prefetch_wait(handle, soon(), &status), 0);
		assert_int_equal(status.prefix_count, 2);
		assert_int_equal(far_prefetch_block(handle, 0, &data, NULL), -ENOENT);
		far_stats_get(client, &stats);
		assert_int_equal(stats.l1_locked_bytes, 0);
		far_prefetch_release(handle);
	}
	close_client(client);
}

static void
deadline_at_the_end_of_time_waits(void **state)
{
	struct far_client *client = open_client(1 << 20);
	struct far_key key = key_of(1);
	struct far_block *block;

	(void)state;
	assert_int_equal(far_put(client, &key, "data", 4), 0);
	assert_int_equal(far_flush(client, UINT64_MAX, NULL), 0);
	assert_int_equal(far_delete(client, &key, UINT64_MAX), 0);
	assert_int_equal(far_get(client, &key, UINT64_MAX, &block), -ENOENT);
	assert_int_equal(far_client_wait_donors(client, UINT64_MAX, NULL, 0), 0);
	close_client(client);
}

static void
second_release_harms_nobody(void **state)
{
	struct far_client *client = open_client(1 << 20);
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct far_prefetch_handle *handle;
	struct far_key key = key_of(1);
	struct far_block *first;
	struct far_block *second;

	(void)state;
	far_log_sink_set(ignore_line, NULL);
	assert_int_equal(far_put(client, &key, "data", 4), 0);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	assert_int_equal(far_get(client, &key, soon(), &first), 0);
	far_release(first);
	assert_int_equal(far_get(client, &key, soon(), &second), 0);
	far_release(first);
	far_stats_get(client, &stats);
	assert_true(stats.l1_locked_bytes > 0);
	far_release(second);
	options.deadline_ns = soon();
	assert_int_equal(far_prefetch(client, &key, 1, &options, &handle), 0);
	far_prefetch_release(handle);
	far_prefetch_release(handle);
	far_stats_get(client, &stats);
	assert_int_equal(stats.l1_locked_bytes, 0);
	far_log_sink_set(NULL, NULL);
	close_client(client);
}

static void
handles_and_blocks_that_nobody_released_end_with_the_client(void **state)
{
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_client *client = open_client(1 << 20);
	struct far_prefetch_handle *handle;
	struct far_key keys[3] = {key_of(0), key_of(1), key_of(2)};
	struct far_block *block;

	(void)state;
	assert_int_equal(far_put(client, &keys[0], "data", 4), 0);
	options.deadline_ns = soon();
	for (int i = 0; i < 20; i++) {
		assert_int_equal(far_prefetch(client, keys, 3, &options, &handle), 0);
		if (i % 3 == 0)
			far_prefetch_cancel(handle);
		if (i % 4 == 0)
			far_prefetch_release(handle);
	}
	assert_int_equal(far_get(client, &keys[0], soon(), &block), 0);
	assert_int_equal(far_reserve(client, &keys[1], 10, &block), 0);
	close_client(client);
}

static void
arguments_that_make_no_sense_are_refused(void **state)
{
	struct far_prefetch_options options = {.size_bytes = sizeof(options), .deadline_ns = 1};
	struct far_client *client = open_client(1 << 20);
	struct far_prefetch_handle *handle;
	struct far_key zero = {{0}};
	struct far_key key = key_of(1);
	struct far_block *block;

	(void)state;
	assert_int_equal(far_put(client, &zero, "x", 1), -EINVAL);
	assert_int_equal(far_put(client, &key, "x", 0), -EINVAL);
	assert_int_equal(far_reserve(client, &key, 1U << 31, &block), -EINVAL);
	assert_int_equal(far_prefetch(client, &zero, 1, &options, &handle), -EINVAL);
	assert_int_equal(far_prefetch(client, &key, 0, &options, &handle), -EINVAL);
	assert_int_equal(far_prefetch(client, &key, 100000, &options, &handle), -E2BIG);
	options.deadline_ns = 0;
	assert_int_equal(far_prefetch(client, &key, 1, &options, &handle), -EINVAL);
	assert_int_equal(far_put(NULL, &key, "x", 1), -EINVAL);
	close_client(client);
}

static void
child_of_a_fork_is_refused_and_harms_nobody(void **state)
{
	struct far_client *client = open_client(1 << 20);
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_prefetch_handle *handle;
	struct far_key key = key_of(1);
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(far_put(client, &key, "data", 4), 0);
	options.deadline_ns = soon();
	assert_int_equal(far_prefetch(client, &key, 1, &options, &handle), 0);
	pid = fork();
	if (pid == 0) {
		struct far_block *block;
		int bad = far_get(client, &key, soon(), &block) != -EPERM ||
			  far_prefetch_wait(handle, soon(), NULL) != -EPERM;

		far_prefetch_release(handle);
		far_client_close(client);
		_exit(bad);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(far_put(client, &key, "data", 4), -EEXIST);
	close_client(client);
}

/* ---- many threads ---- */
struct worker {
	struct far_client *client;
	uint32_t seed;
};

static void *
work(void *arg)
{
	struct worker *worker = arg;
	uint32_t x = worker->seed;

	for (int i = 0; i < 300; i++) {
		struct far_prefetch_options options = {
			.size_bytes = sizeof(options),
			.deadline_ns = soon(),
		};
		struct far_prefetch_status status = {.size_bytes = sizeof(status)};
		struct far_prefetch_handle *handle;
		struct far_key keys[8];
		uint32_t data[64];

		x = x * 1664525 + 1013904223;
		for (uint32_t k = 0; k < 8; k++)
			keys[k] = key_of((x >> 16) % 32 + k);
		for (size_t w = 0; w < 64; w++)
			data[w] = (x >> 16) % 32;
		(void)far_put(worker->client, &keys[0], data, sizeof(data));
		if (far_prefetch(worker->client, keys, 8, &options, &handle) != 0)
			return "prefetch";
		if (i % 5 == 0)
			far_prefetch_cancel(handle);
		if (i % 3 != 0 && far_prefetch_wait(handle, soon(), &status) != 0)
			return "wait";
		for (uint32_t k = 0; status.ended != 0 && k < status.prefix_count; k++) {
			const void *bytes;

			if (far_prefetch_block(handle, k, &bytes, NULL) != 0)
				return "block";
			if (*(const uint32_t *)bytes != (x >> 16) % 32 + k)
				return "wrong byte";
		}
		far_prefetch_release(handle);
	}
	return NULL;
}

static void
many_threads_put_prefetch_cancel_and_release(void **state)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct far_client *client = open_client(1 << 20);
	struct worker workers[4];
	pthread_t threads[4];

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		workers[i] = (struct worker){client, i + 1};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (size_t i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		if (failed != NULL)
			fail_msg("%s", (const char *)failed);
	}
	far_stats_get(client, &stats);
	assert_int_equal(stats.prefetches, 1200);
	assert_int_equal(stats.l1_locked_bytes, 0);
	close_client(client);
}

static void
wait_for_donors_without_donors_is_over_at_once(void **state)
{
	struct far_client *client = open_client(1 << 20);
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_flush_result result = {.size_bytes = sizeof(result)};

	(void)state;
	assert_int_equal(far_client_wait_donors(client, soon(), NULL, 0), 0);
	assert_int_equal(far_donor_status_get(client, 0, soon(), &status), -ENOENT);
	assert_int_equal(far_flush(client, soon(), &result), 0);
	assert_int_equal(result.failed, 0);
	close_client(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put_block_is_borrowed_and_given_back),
		cmocka_unit_test(reserved_block_is_invisible_until_its_commit),
		cmocka_unit_test(prefetch_that_l1_serves_has_ended_when_it_returns),
		cmocka_unit_test(prefetch_ends_at_the_first_key_that_nobody_has),
		cmocka_unit_test(warm_prefetch_holds_nothing_when_it_has_ended),
		cmocka_unit_test(deadline_at_the_end_of_time_waits),
		cmocka_unit_test(second_release_harms_nobody),
		cmocka_unit_test(handles_and_blocks_that_nobody_released_end_with_the_client),
		cmocka_unit_test(arguments_that_make_no_sense_are_refused),
		cmocka_unit_test(child_of_a_fork_is_refused_and_harms_nobody),
		cmocka_unit_test(many_threads_put_prefetch_cancel_and_release),
		cmocka_unit_test(wait_for_donors_without_donors_is_over_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
