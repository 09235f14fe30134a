/* client.c - the public interface over a real donor: what is loaded, kept, let go, and listed. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define BLOCK_BYTES 4096U
#define KEYS_MAX    16U

struct world {
	struct rig rig;
	struct rig_donor *donor;
	struct far_client *client;
	struct far_key keys[KEYS_MAX];
};

static uint64_t
soon(void)
{
	return far_now_ns() + rig_seconds(20) * FAR_NS_PER_S;
}

static void
store(struct far_client *client, uint64_t id)
{
	static uint8_t bytes[BLOCK_BYTES];
	struct far_key key;

	far_fill_key(id, BLOCK_BYTES, &key);
	far_fill_block(&key, bytes, BLOCK_BYTES);
	assert_int_equal(far_put(client, &key, bytes, BLOCK_BYTES), 0);
}

/* The donor has the keys whose bits are set, L1 has none. */
static void
world_open(struct world *world, uint64_t stored, const char *extra)
{
	rig_open(&world->rig);
	world->donor = rig_donor_add(&world->rig, "donor-a", "64MiB", NULL);
	world->client = rig_client(&world->rig, "8MiB", extra);
	for (uint32_t i = 0; i < KEYS_MAX; i++) {
		far_fill_key(i, BLOCK_BYTES, &world->keys[i]);
		if ((stored >> i & 1) != 0)
			store(world->client, i);
	}
	assert_int_equal(far_flush(world->client, soon(), NULL), 0);
	assert_int_equal(far_clear(world->client, 0), __builtin_popcountll(stored));
}

static void
world_close(struct world *world)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	far_stats_get(world->client, &stats);
	assert_true(stats.l1_capacity_bytes > 0);
	assert_int_equal(stats.l1_locked_bytes, 0);
	far_client_close(world->client);
	rig_close(&world->rig);
}

static struct far_prefetch_handle *
prefetch(struct world *world, size_t count, struct far_prefetch_options options,
	 struct far_prefetch_status *status)
{
	struct far_prefetch_handle *handle = NULL;

	options.size_bytes = sizeof(options);
	options.deadline_ns = soon();
	assert_int_equal(far_prefetch(world->client, world->keys, count, &options, &handle), 0);
	*status = (struct far_prefetch_status){.size_bytes = sizeof(*status)};
	assert_int_equal(far_prefetch_wait(handle, soon(), status), 0);
	assert_int_equal(status->rc, 0);
	assert_int_equal(status->found_is_final, 1);
	return handle;
}

static void
state_is(struct far_prefetch_handle *handle, const struct far_key *keys, size_t idx, uint32_t want)
{
	struct far_prefetch_key key = {.size_bytes = sizeof(key)};
	const void *data;
	uint32_t size_bytes;

	assert_int_equal(far_prefetch_key_get(handle, idx, &key), 0);
	assert_int_equal(key.state, want);
	assert_int_equal(key.donor, want == FAR_KEY_LOADED ? 0 : -1);
	if (want == FAR_KEY_MISSING)
		return;
	assert_int_equal(far_prefetch_block(handle, idx, &data, &size_bytes), 0);
	assert_int_equal(size_bytes, BLOCK_BYTES);
	assert_int_equal(far_fill_check(&keys[idx], data, size_bytes), 0);
}

/* Behind what the client's thread has queued: the last loan may be given back there. */
static void
l1_has(struct world *world, size_t idx, uint32_t want)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	uint32_t state = 77;

	far_stats_get(world->client, &stats);
	assert_int_equal(far_l1_query(world->client, &world->keys[idx], 1, &state), 0);
	assert_int_equal(state, want);
}

static void
each_key_says_whether_it_was_loaded_or_there(void **state)
{
	struct far_prefetch_status status;
	struct far_prefetch_handle *handle;
	struct far_block *block;
	struct world world;
	uint64_t word;

	(void)state;
	world_open(&world, 0x6f, NULL);
	assert_int_equal(far_get(world.client, &world.keys[0], soon(), &block), 0);
	far_release(block);
	handle = prefetch(&world, 7, (struct far_prefetch_options){.trim = FAR_TRIM_ALL}, &status);
	assert_int_equal(status.l1_prefix_hit_count, 1);
	assert_int_equal(status.prefix_count, 4);
	assert_int_equal(status.found_count, 4);
	assert_int_equal(status.readable_count, 6);
	assert_int_equal(status.l2_bytes, 5 * BLOCK_BYTES);
	assert_int_equal(far_prefetch_bitmap(handle, &word, 64), 6);
	assert_int_equal(word, 0x6f);
	state_is(handle, world.keys, 0, FAR_KEY_IN_L1);
	for (size_t i = 1; i < 7; i++)
		state_is(handle, world.keys, i, i == 4 ? FAR_KEY_MISSING : FAR_KEY_LOADED);
	far_prefetch_release(handle);
	/* The second one finds in L1 what the first one loaded. */
	handle = prefetch(&world, 7, (struct far_prefetch_options){.trim = FAR_TRIM_ALL}, &status);
	assert_int_equal(status.l1_prefix_hit_count, 4);
	assert_int_equal(status.l2_bytes, 0);
	state_is(handle, world.keys, 6, FAR_KEY_IN_L1);
	far_prefetch_release(handle);
	world_close(&world);
}

static void
request_says_what_becomes_of_its_blocks_over_the_policy(void **state)
{
	static const struct {
		const char *policy;
		uint32_t flags;
		uint32_t want;
	} rows[] = {
		{"placement,retain", 0, FAR_BLOCK_READY},
		{"placement,retain", FAR_PREFETCH_LET_GO, FAR_BLOCK_ABSENT},
		{"placement", 0, FAR_BLOCK_ABSENT},
		{"placement", FAR_PREFETCH_RETAIN, FAR_BLOCK_READY},
		{"placement", FAR_PREFETCH_WARM_ONLY, FAR_BLOCK_READY},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct far_prefetch_status status;
		struct far_prefetch_handle *handle;
		struct world world;
		char extra[96];

		snprintf(extra, sizeof(extra), "prefetch:\n  policy: '%s'\n", rows[i].policy);
		world_open(&world, 0x7, extra);
		/* What the client wrote itself is not theirs to let go. */
		store(world.client, 3);
		assert_int_equal(far_flush(world.client, soon(), NULL), 0);
		handle = prefetch(&world, 4, (struct far_prefetch_options){.flags = rows[i].flags},
				  &status);
		assert_int_equal(status.prefix_count, 4);
		far_prefetch_release(handle);
		for (size_t k = 0; k < 3; k++)
			l1_has(&world, k, rows[i].want);
		l1_has(&world, 3, FAR_BLOCK_READY);
		world_close(&world);
	}
}

static void
block_that_l1_has_is_loaded_anew_past_it(void **state)
{
	struct far_prefetch_options past = {.flags = FAR_PREFETCH_PAST_L1};
	struct far_prefetch_status status;
	struct far_prefetch_handle *handle;
	struct world world;

	(void)state;
	world_open(&world, 0x3, NULL);
	for (int i = 0; i < 3; i++) {
		handle = prefetch(&world, 2, past, &status);
		assert_int_equal(status.l1_prefix_hit_count, 0);
		assert_int_equal(status.l2_bytes, 2 * BLOCK_BYTES);
		state_is(handle, world.keys, 0, FAR_KEY_LOADED);
		state_is(handle, world.keys, 1, FAR_KEY_LOADED);
		far_prefetch_release(handle);
		l1_has(&world, 0, FAR_BLOCK_READY);
	}
	world_close(&world);
}

/* Cell of (chunk, group), one rank: 2 * chunk + group; group 1 has a window of one chunk. */
static void
windows_load_no_more_than_the_prefix_needs(void **state)
{
	static const int32_t windows[] = {0, 1};
	struct far_prefetch_options options = {.groups = 2, .ranks = 1, .windows = windows};
	struct far_prefetch_status status;
	struct far_prefetch_handle *handle;
	struct world world;

	(void)state;
	world_open(&world, 0xff, NULL);
	handle = prefetch(&world, 8, options, &status);
	assert_int_equal(status.chunk_count, 4);
	assert_int_equal(status.found_count, 8);
	assert_int_equal(status.readable_count, 5);
	assert_int_equal(status.l2_bytes, 5 * BLOCK_BYTES);
	for (size_t i = 0; i < 8; i++)
		state_is(handle, world.keys, i,
			 i % 2 == 0 || i == 7 ? FAR_KEY_LOADED : FAR_KEY_MISSING);
	l1_has(&world, 1, FAR_BLOCK_ABSENT);
	far_prefetch_release(handle);
	world_close(&world);
}

/* Pages of @max; each of the first @count blocks once and nothing else. */
static void
list_all(struct far_client *client, size_t max, uint64_t count)
{
	static struct far_listed blocks[FAR_LIST_BLOCKS_MAX];
	static struct far_key keys[512];
	static uint8_t seen[512];
	uint64_t listed = 0;
	uint64_t cursor = 0;

	assert_true(count <= 512);
	memset(seen, 0, sizeof(seen));
	for (uint64_t i = 0; i < count; i++)
		far_fill_key(i, BLOCK_BYTES, &keys[i]);
	do {
		size_t found = 0;

		assert_int_equal(far_list(client, 0, &cursor, blocks, max, &found, soon()), 0);
		assert_true(found <= max);
		for (size_t b = 0; b < found; b++) {
			uint64_t i = 0;

			while (i < count && memcmp(&keys[i], &blocks[b].key, sizeof(keys[i])) != 0)
				i++;
			assert_true(i < count);
			assert_int_equal(seen[i]++, 0);
			assert_int_equal(blocks[b].block_bytes, BLOCK_BYTES);
		}
		listed += found;
	} while (cursor != 0);
	assert_int_equal(listed, count);
}

static void
donor_lists_what_it_holds_and_says_how_full_it_is(void **state)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_listed block = {.block_bytes = 77};
	uint64_t cursor = 0;
	uint64_t until_ns = soon();
	size_t count = 77;
	struct world world;

	(void)state;
	world_open(&world, 0, NULL);
	list_all(world.client, 64, 0);
	for (uint64_t i = 0; i < 300; i++)
		store(world.client, i);
	assert_int_equal(far_flush(world.client, soon(), NULL), 0);
	list_all(world.client, 1, 300);
	list_all(world.client, 64, 300);
	list_all(world.client, FAR_LIST_BLOCKS_MAX, 300);
	assert_int_equal(far_donor_status_get(world.client, 0, soon(), &status), 0);
	assert_int_equal(status.usage_known, 1);
	assert_int_equal(status.block_count, 300);
	assert_int_equal(status.block_bytes, 300 * BLOCK_BYTES);
	assert_int_equal(status.capacity_bytes, 64 << 20);
	assert_true(status.used_bytes >= status.block_bytes);
	assert_true(status.used_bytes < status.capacity_bytes);

	assert_int_equal(far_list(world.client, 1, &cursor, &block, 1, &count, soon()), -ENOENT);
	cursor = 1ULL << 63 | 12345;
	assert_int_equal(far_list(world.client, 0, &cursor, &block, 1, &count, soon()), -ESTALE);
	assert_true(cursor == (1ULL << 63 | 12345));
	cursor = 0;
	rig_donor_signal(world.donor, SIGKILL);
	do
		assert_int_equal(far_donor_status_get(world.client, 0, soon(), &status), 0);
	while (strcmp(status.state, "up") == 0 && far_now_ns() < until_ns);
	assert_int_equal(far_list(world.client, 0, &cursor, &block, 1, &count, soon()), -EHOSTDOWN);
	assert_int_equal(status.usage_known, 0);
	assert_int_equal(status.capacity_bytes, 0);
	assert_int_equal(count, 77);
	assert_int_equal(block.block_bytes, 77);
	world_close(&world);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_key_says_whether_it_was_loaded_or_there),
		cmocka_unit_test(request_says_what_becomes_of_its_blocks_over_the_policy),
		cmocka_unit_test(block_that_l1_has_is_loaded_anew_past_it),
		cmocka_unit_test(windows_load_no_more_than_the_prefix_needs),
		cmocka_unit_test(donor_lists_what_it_holds_and_says_how_full_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
