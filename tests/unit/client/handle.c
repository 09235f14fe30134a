/* handle.c - what a prefetch may be asked to keep and how long, over L1 alone. */
#include <errno.h>
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

#define KEYS_MAX 16u

struct world {
	struct far_client *client;
	struct far_key keys[KEYS_MAX];
};

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

static uint64_t
soon(void)
{
	return far_now_ns() + 10 * FAR_NS_PER_S;
}

/* L1 has the keys whose bits are set; the bytes of a block are its number. */
static void
world_open(struct world *world, uint64_t present)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = 1 << 20};

	assert_int_equal(far_client_open(&options, &world->client), 0);
	for (uint32_t i = 0; i < KEYS_MAX; i++) {
		world->keys[i] = key_of(i);
		if ((present >> i & 1) != 0)
			assert_int_equal(far_put(world->client, &world->keys[i], &i, sizeof(i)), 0);
	}
	assert_int_equal(far_flush(world->client, soon(), NULL), 0);
}

static uint64_t
locked_bytes(struct far_client *client)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	far_stats_get(client, &stats);
	assert_true(stats.l1_capacity_bytes > 0);
	return stats.l1_locked_bytes;
}

static void
world_close(struct world *world)
{
	assert_int_equal(locked_bytes(world->client), 0);
	far_client_close(world->client);
	assert_int_equal(far_alloc_live_bytes(), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
}

static struct far_prefetch_handle *
prefetch(struct world *world, size_t count, struct far_prefetch_options *options,
	 struct far_prefetch_status *status)
{
	struct far_prefetch_handle *handle = NULL;

	options->size_bytes = sizeof(*options);
	options->deadline_ns = soon();
	assert_int_equal(far_prefetch(world->client, world->keys, count, options, &handle), 0);
	*status = (struct far_prefetch_status){.size_bytes = sizeof(*status)};
	assert_int_equal(far_prefetch_wait(handle, soon(), status), 0);
	assert_int_equal(status->ended, 1);
	assert_int_equal(status->found_is_final, 1);
	return handle;
}

/* Exactly these are readable, by every call that says so, and their bytes are right. */
static void
readable_are(struct far_prefetch_handle *handle, uint64_t want)
{
	uint64_t words[2] = {~0ULL, ~0ULL};
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	size_t count;

	far_prefetch_poll(handle, &status);
	count = status.total_requested_keys;
	assert_int_equal(far_prefetch_bitmap(handle, words, 128), __builtin_popcountll(want));
	assert_int_equal(words[0], want);
	assert_int_equal(words[1], 0);
	assert_int_equal(status.readable_count, __builtin_popcountll(want));
	for (uint32_t i = 0; i < count; i++) {
		struct far_prefetch_key key = {.size_bytes = sizeof(key)};
		const void *data = NULL;
		uint32_t size_bytes = 0;
		int rc = far_prefetch_block(handle, i, &data, &size_bytes);

		assert_int_equal(far_prefetch_key_get(handle, i, &key), 0);
		assert_int_equal(key.rc, rc);
		assert_int_equal(key.donor, -1);
		if ((want >> i & 1) == 0) {
			assert_true(rc == -ENOENT || rc == -ECANCELED || rc == -EBUSY);
			assert_int_equal(key.state, FAR_KEY_MISSING);
			continue;
		}
		assert_int_equal(rc, 0);
		assert_int_equal(size_bytes, sizeof(i));
		assert_memory_equal(data, &i, sizeof(i));
		assert_int_equal(key.state, FAR_KEY_IN_L1);
		assert_int_equal(key.block_bytes, sizeof(i));
	}
}

static void
keys_behind_a_gap_are_kept_where_all_are_wanted(void **state)
{
	struct far_prefetch_options options = {.trim = FAR_TRIM_ALL};
	struct far_prefetch_status status;
	struct far_prefetch_handle *handle;
	struct world world;

	(void)state;
	world_open(&world, 0x1b);
	handle = prefetch(&world, 5, &options, &status);
	assert_int_equal(status.rc, 0);
	assert_int_equal(status.prefix_count, 2);
	assert_int_equal(status.found_count, 2);
	assert_int_equal(status.gap_rc, -ENOENT);
	readable_are(handle, 0x1b);
	assert_true(locked_bytes(world.client) > 0);
	far_prefetch_release(handle);
	/* Not even the first one. */
	options.trim = FAR_TRIM_ALL;
	assert_int_equal(far_delete(world.client, &world.keys[0], soon()), 0);
	handle = prefetch(&world, 5, &options, &status);
	assert_int_equal(status.prefix_count, 0);
	readable_are(handle, 0x1a);
	far_prefetch_release(handle);
	world_close(&world);
}

static void
prefix_is_all_that_is_kept_by_default(void **state)
{
	struct far_prefetch_options options = {0};
	struct far_prefetch_status status;
	struct far_prefetch_handle *handle;
	struct world world;
	const void *data;

	(void)state;
	world_open(&world, 0x1b);
	handle = prefetch(&world, 5, &options, &status);
	assert_int_equal(status.prefix_count, 2);
	assert_int_equal(far_prefetch_block(handle, 3, &data, NULL), -ECANCELED);
	readable_are(handle, 0x3);
	far_prefetch_release(handle);
	world_close(&world);
}

static void
wait_does_not_consume_the_result(void **state)
{
	struct far_prefetch_options options = {0};
	struct far_prefetch_status first;
	struct far_prefetch_status again = {.size_bytes = sizeof(again)};
	struct far_prefetch_handle *handle;
	struct world world;

	(void)state;
	world_open(&world, 0x7);
	handle = prefetch(&world, 4, &options, &first);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(far_prefetch_wait(handle, soon(), &again), 0);
		assert_memory_equal(&again, &first, sizeof(first));
		far_prefetch_poll(handle, &again);
		assert_memory_equal(&again, &first, sizeof(first));
		readable_are(handle, 0x7);
	}
	assert_true(first.request_id > 0);
	assert_int_equal(first.l1_prefix_hit_count, 3);
	assert_int_equal(first.total_requested_keys, 4);
	far_prefetch_release(handle);
	world_close(&world);
}

static void
result_that_nobody_asked_for_ends_with_its_handle(void **state)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.trim = FAR_TRIM_ALL,
	};
	struct far_prefetch_handle *handle;
	struct world world;

	(void)state;
	world_open(&world, 0x1b);
	for (int i = 0; i < 200; i++) {
		options.deadline_ns = soon();
		assert_int_equal(far_prefetch(world.client, world.keys, 5, &options, &handle), 0);
		far_prefetch_release(handle);
	}
	world_close(&world); /* nothing is locked once the thread has come to it */
}

static void
what_l1_has_is_readable_when_prefetch_returns(void **state)
{
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_prefetch_handle *handle;
	struct world world;

	(void)state;
	world_open(&world, 0x7);
	for (int i = 0; i < 200; i++) {
		uint64_t word;
		const void *data;

		options.deadline_ns = soon();
		assert_int_equal(far_prefetch(world.client, world.keys, 5, &options, &handle), 0);
		assert_int_equal(far_prefetch_block(handle, 2, &data, NULL), 0);
		assert_int_equal(far_prefetch_bitmap(handle, &word, 64), 3);
		assert_int_equal(word, 0x7);
		far_prefetch_poll(handle, &status);
		assert_int_equal(status.readable_count, 3);
		assert_int_equal(status.found_count, 3);
		far_prefetch_release(handle);
	}
	world_close(&world);
}

/* Cell of (chunk, group) with one rank: 2 * chunk + group; group 1 has a window of one chunk. */
static void
windows_keep_what_the_longest_prefix_needs(void **state)
{
	static const int32_t windows[] = {0, 1};
	static const struct {
		uint64_t present;
		uint64_t kept;
		uint32_t chunks;
	} rows[] = {
		{0xff, 0xd5, 4}, /* all of group 0, the last of group 1 */
		{0x5d, 0x0d, 2}, /* group 1 has chunk 1 alone */
		{0xfe, 0, 0},    /* group 0 lacks the first */
		{0x57, 0x03, 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct far_prefetch_options options = {.groups = 2, .ranks = 1, .windows = windows};
		struct far_prefetch_status status;
		struct far_prefetch_handle *handle;
		struct world world;

		world_open(&world, rows[i].present);
		handle = prefetch(&world, 8, &options, &status);
		assert_int_equal(status.chunk_count, rows[i].chunks);
		assert_int_equal(status.found_count, 2 * rows[i].chunks);
		assert_int_equal(status.l1_prefix_hit_count, 0);
		readable_are(handle, rows[i].kept);
		far_prefetch_release(handle);
		world_close(&world);
	}
}

static void
blocks_are_held_until_the_last_reader_released_them(void **state)
{
	struct far_prefetch_options options = {.readers = 3};
	struct far_prefetch_status status;
	struct far_prefetch_handle *handle;
	struct world world;

	(void)state;
	world_open(&world, 0x3);
	for (size_t count = 2; count <= 3; count++) {
		handle = prefetch(&world, count, &options, &status);
		for (int i = 0; i < 2; i++) {
			far_prefetch_release(handle);
			assert_true(locked_bytes(world.client) > 0);
			readable_are(handle, 0x3);
		}
		far_prefetch_release(handle);
		assert_int_equal(locked_bytes(world.client), 0);
	}
	/* Whoever is left when the client closes. */
	options.readers = UINT32_MAX;
	handle = prefetch(&world, 2, &options, &status);
	far_prefetch_release(handle);
	far_client_close(world.client);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

struct reader {
	struct far_prefetch_handle *handle;
	const char *failed;
};

/* Reads all and lets go; whoever is last ends it under nobody's hands. */
static void *
read_and_release(void *arg)
{
	struct reader *reader = arg;

	for (uint32_t i = 0; i < 2; i++) {
		const void *data;

		if (far_prefetch_block(reader->handle, i, &data, NULL) != 0)
			reader->failed = "block";
		else if (memcmp(data, &i, sizeof(i)) != 0)
			reader->failed = "wrong byte";
	}
	far_prefetch_release(reader->handle);
	return NULL;
}

static void
readers_in_threads_of_their_own_share_a_handle(void **state)
{
	struct far_prefetch_options options = {.readers = 4};
	struct far_prefetch_status status;
	struct reader readers[4];
	pthread_t threads[4];
	struct world world;

	(void)state;
	world_open(&world, 0x3);
	for (int round = 0; round < 50; round++) {
		struct far_prefetch_handle *handle = prefetch(&world, 3, &options, &status);

		for (size_t i = 0; i < 4; i++) {
			readers[i] = (struct reader){.handle = handle};
			assert_int_equal(
				pthread_create(&threads[i], NULL, read_and_release, &readers[i]),
				0);
		}
		for (size_t i = 0; i < 4; i++) {
			pthread_join(threads[i], NULL);
			if (readers[i].failed != NULL)
				fail_msg("%s", readers[i].failed);
		}
		assert_int_equal(locked_bytes(world.client), 0);
	}
	world_close(&world);
}

static void
nothing_of_l1_is_served_past_it(void **state)
{
	struct far_prefetch_options hold = {0};
	struct far_prefetch_options past = {.flags = FAR_PREFETCH_PAST_L1, .trim = FAR_TRIM_ALL};
	struct far_prefetch_status status;
	struct far_prefetch_handle *held;
	struct far_prefetch_handle *handle;
	struct world world;
	const void *data;

	(void)state;
	world_open(&world, 0x7);
	held = prefetch(&world, 1, &hold, &status);
	handle = prefetch(&world, 3, &past, &status);
	assert_int_equal(status.l1_prefix_hit_count, 0);
	assert_int_equal(far_prefetch_block(handle, 0, &data, NULL), -EBUSY);
	assert_int_equal(far_prefetch_block(handle, 1, &data, NULL), -ENOENT);
	readable_are(handle, 0);
	far_prefetch_release(handle);
	readable_are(held, 0x1);
	far_prefetch_release(held);
	world_close(&world);
}

static void
options_that_contradict_themselves_are_refused(void **state)
{
	static const int32_t windows[] = {0, 1};
	static const struct far_prefetch_options rows[] = {
		{.flags = 1U << 31},
		{.flags = FAR_PREFETCH_RETAIN | FAR_PREFETCH_LET_GO},
		{.flags = FAR_PREFETCH_WARM_ONLY | FAR_PREFETCH_LET_GO},
		{.trim = 2},
		{.ranks = 1},
		{.windows = windows},
		{.groups = 2, .ranks = 1},
		{.groups = 2, .windows = windows},
		{.groups = 2, .ranks = 2, .windows = windows}, /* 6 keys */
		{.groups = 1U << 31, .ranks = 1U << 31, .windows = windows},
		{.groups = 2, .ranks = 1, .windows = windows, .trim = FAR_TRIM_ALL},
		{.groups = 2, .ranks = 1, .windows = windows, .flags = FAR_PREFETCH_PAST_L1},
	};
	struct far_prefetch_options options;
	struct far_prefetch_handle *handle;
	struct world world;

	(void)state;
	world_open(&world, 0x3f);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		options = rows[i];
		options.size_bytes = sizeof(options);
		options.deadline_ns = soon();
		assert_int_equal(far_prefetch(world.client, world.keys, 6, &options, &handle),
				 -EINVAL);
	}
	/* Nobody reads beyond what the caller has. */
	options = rows[0];
	options.flags = 0;
	options.trim = 77;
	options.deadline_ns = soon();
	options.size_bytes = offsetof(struct far_prefetch_options, trim);
	assert_int_equal(far_prefetch(world.client, world.keys, 6, &options, &handle), 0);
	far_prefetch_release(handle);
	options.size_bytes--;
	assert_int_equal(far_prefetch(world.client, world.keys, 6, &options, &handle), -EINVAL);
	world_close(&world);
}

static void
questions_about_keys_that_are_not_there_are_refused(void **state)
{
	struct far_prefetch_options options = {0};
	struct far_prefetch_key key = {.size_bytes = sizeof(key)};
	struct far_prefetch_status status;
	struct far_prefetch_handle *handle;
	struct world world;
	uint64_t word = 7;

	(void)state;
	world_open(&world, 0x3);
	handle = prefetch(&world, 2, &options, &status);
	assert_int_equal(far_prefetch_key_get(handle, 2, &key), -EINVAL);
	assert_int_equal(far_prefetch_bitmap(handle, &word, 1), -EINVAL);
	assert_int_equal(word, 7);
	assert_int_equal(far_prefetch_bitmap(handle, NULL, 64), -EINVAL);
	assert_int_equal(far_prefetch_bitmap(handle, &word, 2), 2);
	key.size_bytes = 0;
	assert_int_equal(far_prefetch_key_get(handle, 0, &key), -EINVAL);
	far_prefetch_release(handle);
	world_close(&world);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_behind_a_gap_are_kept_where_all_are_wanted),
		cmocka_unit_test(prefix_is_all_that_is_kept_by_default),
		cmocka_unit_test(wait_does_not_consume_the_result),
		cmocka_unit_test(result_that_nobody_asked_for_ends_with_its_handle),
		cmocka_unit_test(what_l1_has_is_readable_when_prefetch_returns),
		cmocka_unit_test(windows_keep_what_the_longest_prefix_needs),
		cmocka_unit_test(blocks_are_held_until_the_last_reader_released_them),
		cmocka_unit_test(readers_in_threads_of_their_own_share_a_handle),
		cmocka_unit_test(nothing_of_l1_is_served_past_it),
		cmocka_unit_test(options_that_contradict_themselves_are_refused),
		cmocka_unit_test(questions_about_keys_that_are_not_there_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
