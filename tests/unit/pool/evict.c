/* evict.c - tests: the coldest lane goes, hot blocks stay, and no byte changes before its grace. */
#include "tests/unit/pool/test.h"

#define BLOCK MIB /* four to a lane */

static struct rig *
open_lanes(uint64_t lanes, uint64_t lanes_free_min)
{
	struct far_pool_config config;

	rig_config(&config);
	config.capacity_bytes = lanes * RIG_LANE_BYTES;
	config.lanes_free_min = lanes_free_min;
	config.lanes_open_max = 0;
	return rig_open(&config, 1, false);
}

static uint32_t
held_count(struct rig *rig, uint64_t first, uint32_t count)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < count; i++)
		held += rig_holds(rig, first + i);
	return held;
}

static void
oldest_lane_goes_when_free_ones_run_low(void **state)
{
	struct rig *rig = open_lanes(4, 1);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	for (uint64_t lane = 0; lane < 3; lane++)
		assert_int_equal(rig_lane_fill(client, lane * 4, BLOCK), 4);
	assert_int_equal(held_count(rig, 0, 12), 12); /* one is still free */
	rig_lane_fill(client, 12, BLOCK);
	assert_int_equal(held_count(rig, 0, 4), 0);
	assert_int_equal(held_count(rig, 4, 12), 12);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_evicted), 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_evicted), 4);
	rig_close(rig);
}

static void
evicted_lane_is_not_written_before_its_grace(void **state)
{
	struct rig *rig = open_lanes(4, 1);
	struct rig_client *client = rig_client_open(rig, 0);
	struct far_slot slot;
	uint8_t *bytes;
	uint8_t *before = far_zalloc(BLOCK);

	(void)state;
	rig_lane_fill(client, 0, BLOCK);
	assert_true(rig_find(rig, 0, &slot));
	bytes = rig_bytes(rig, &slot);
	memcpy(before, bytes, BLOCK);
	for (uint64_t lane = 1; lane < 4; lane++)
		rig_lane_fill(client, lane * 4, BLOCK);
	assert_false(rig_find(rig, 0, &slot));
	/* Whoever found it before the eviction can still read it in peace. */
	for (int i = 0; i < 40; i++) {
		assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 0);
		assert_int_equal(rig_lane_ask(client), -1);
		assert_memory_equal(bytes, before, BLOCK);
		rig_run(rig, FAR_NS_PER_MS);
	}
	rig_run(rig, rig->config.grace_ns);
	assert_true(rig_stat(rig, FAR_STATUS_lanes_free) > 0);
	assert_true(rig_lane_ask(client) >= 0);
	far_free(before);
	rig_close(rig);
}

static void
cold_lane_goes_before_an_older_hot_one(void **state)
{
	struct rig *rig = open_lanes(4, 1);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	for (uint64_t lane = 0; lane < 3; lane++)
		rig_lane_fill(client, lane * 4, BLOCK);
	for (uint64_t number = 0; number < 4; number++)
		rig_touch(client, number, 1);
	rig_lane_fill(client, 12, BLOCK);
	assert_int_equal(held_count(rig, 0, 4), 4);
	assert_int_equal(held_count(rig, 4, 4), 0);
	rig_close(rig);
}

/* One block of each lane is hot: it is the one that survives its lane. */
static void
moved_hot_block_has_a_new_generation(void **state)
{
	struct rig *rig = open_lanes(8, 3);
	struct rig_client *client = rig_client_open(rig, 0);
	struct far_slot before, after;

	(void)state;
	for (uint64_t lane = 0; lane < 5; lane++) {
		rig_lane_fill(client, lane * 4, BLOCK);
		rig_touch(client, lane * 4 + 2, 2);
	}
	assert_true(rig_find(rig, 2, &before));
	rig_lane_fill(client, 20, BLOCK);
	rig_lane_fill(client, 24, BLOCK);
	assert_true(rig_find(rig, 2, &after));
	assert_true(after.generation > before.generation);
	assert_true(after.segment != before.segment || after.offset_64 != before.offset_64);
	assert_int_equal(after.crc32c, before.crc32c);
	assert_int_equal(after.group, before.group);
	assert_true(rig_holds(rig, 2));
	assert_int_equal(held_count(rig, 0, 4), 1);
	assert_true(rig_stat(rig, FAR_STATUS_blocks_moved) >= 1);
	/* Nobody's lane: the merge lane is written by the donor alone. */
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_open), 0);
	rig_close(rig);
}

static void
no_more_than_the_hot_share_is_kept(void **state)
{
	struct rig *rig = open_lanes(8, 3);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	for (uint64_t lane = 0; lane < 5; lane++) {
		rig_lane_fill(client, lane * 4, BLOCK);
		for (uint64_t i = 0; i < 4; i++)
			rig_touch(client, lane * 4 + i, i == 3 ? 3 : 1);
	}
	rig_lane_fill(client, 20, BLOCK);
	/* Each lane that went left one block of four: the hottest. */
	assert_true(rig_stat(rig, FAR_STATUS_lanes_evicted) >= 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_moved),
			 rig_stat(rig, FAR_STATUS_lanes_evicted));
	for (uint64_t lane = 0; lane < 5; lane++)
		assert_true(held_count(rig, lane * 4, 4) == 4 || rig_holds(rig, lane * 4 + 3));
	rig_close(rig);
}

/* A block that nobody reads any more is not carried along for ever. */
static void
kept_block_cools_down_and_goes(void **state)
{
	struct rig *rig = open_lanes(8, 3);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	rig_lane_fill(client, 0, BLOCK);
	rig_touch(client, 1, 3);
	for (uint64_t lane = 1; lane < 60; lane++) {
		rig_lane_fill(client, lane * 4, BLOCK);
		client->grant_count = 0;
		rig_run(rig, 60 * FAR_NS_PER_MS);
		if (lane == 8)
			assert_true(rig_holds(rig, 1));
	}
	assert_false(rig_holds(rig, 1));
	rig_close(rig);
}

static void
both_sets_full_evicts_the_coldest(void **state)
{
	struct far_pool_config config;
	struct rig_client *client;
	struct far_index_header header;
	uint64_t numbers[9];
	uint64_t number = 0;
	struct rig *rig;
	int grant;

	(void)state;
	rig_config(&config);
	config.block_bytes_min = RIG_LANE_BYTES; /* an index of three sets */
	rig = rig_open(&config, 1, false);
	client = rig_client_open(rig, 0);
	grant = rig_lane_ask(client);
	memcpy(&header, rig->index, sizeof(header));
	assert_int_equal(header.set_count, 3);
	for (int i = 0; i < 9; number++) {
		struct far_key key = rig_key(number);
		uint64_t sets[2];

		far_index_sets(&key, header.hash_seed, header.set_count, sets);
		if (sets[0] != 2 && sets[1] != 2)
			numbers[i++] = number;
	}
	for (int i = 0; i < 8; i++) {
		assert_int_equal(rig_store(client, grant, numbers[i], 4 * KIB), 0);
		if (i != 5)
			rig_touch(client, numbers[i], 1);
	}
	assert_int_equal(rig_stat(rig, FAR_STATUS_sets_overflowed), 0);
	assert_int_equal(rig_store(client, grant, numbers[8], 4 * KIB), 0);
	assert_int_equal(rig_stat(rig, FAR_STATUS_sets_overflowed), 1);
	for (int i = 0; i < 9; i++)
		assert_int_equal(rig_holds(rig, numbers[i]), i != 5);
	rig_close(rig);
}

/* Every lane sealed and none free: emptied without moving anything, and never stuck. */
static void
pool_without_a_free_lane_still_makes_room(void **state)
{
	struct rig *rig = open_lanes(4, 1);
	struct rig_client *client = rig_client_open(rig, 0);
	uint64_t number = 0;

	(void)state;
	for (int round = 0; round < 20; round++) {
		struct far_frame_lane_ask ask = {.lane_count = 4};
		int first = client->grant_count;

		assert_int_equal(rig_send(client, FAR_FRAME_LANE_ASK, &ask, NULL, 0), 0);
		rig_settle(rig);
		for (int i = first; i < client->grant_count; i++) {
			for (int k = 0; k < 4; k++) {
				assert_int_equal(rig_store(client, i, number, BLOCK), 0);
				rig_touch(client, number++, 3);
			}
			rig_commit(client, i, NULL, 0, true);
		}
		client->grant_count = 0;
		rig_run(rig, rig->config.grace_ns);
	}
	assert_true(number >= 20 * 4); /* it goes on: at least a lane each round */
	rig_close(rig);
}

static void
nothing_is_evicted_while_more_memory_is_on_its_way(void **state)
{
	struct far_pool_config config;
	struct rig_client *client;
	struct rig *rig;

	(void)state;
	rig_config(&config);
	config.lanes_open_max = 2;
	rig = rig_open(&config, 1, false);
	far_pool_growing_set(rig->pool, true);
	client = rig_client_open(rig, 0);
	for (uint64_t lane = 0; lane < 4; lane++)
		assert_int_equal(rig_lane_fill(client, lane * 4, BLOCK), 4);
	rig_run(rig, FAR_NS_PER_S);
	assert_int_equal(rig_lane_ask(client), -1);
	assert_int_equal(held_count(rig, 0, 16), 16);
	far_pool_growing_set(rig->pool, false);
	rig_run(rig, FAR_NS_PER_S);
	assert_int_equal(held_count(rig, 0, 16), 12);
	rig_close(rig);
}

/* Demand of the last moments is kept ahead of, so that writers seldom meet a full donor. */
static void
free_lanes_follow_the_demand(void **state)
{
	struct rig *rig = open_lanes(40, 2);
	struct rig_client *client = rig_client_open(rig, 0);
	uint64_t full = 0;

	(void)state;
	rig->checks_off = true;
	for (uint64_t lane = 0; lane < 80; lane++) {
		struct far_frame_block block;
		int grant = rig_lane_ask(client);

		if (grant < 0) {
			full++;
			continue;
		}
		assert_true(rig_block_write(client, grant, lane, RIG_LANE_BYTES, &block));
		rig_commit(client, grant, &block, 1, true);
		client->grant_count = 0;
		rig_run(rig, 15 * FAR_NS_PER_MS); /* four lanes a grace; two are kept free */
	}
	far_pool_check(rig->pool);
	assert_int_equal(full, 0);
	rig_close(rig);
}

/* A lane of one block, asked for, written and committed. Returns whether the donor had one. */
static bool
lane_store(struct rig *rig, struct rig_client *client, uint64_t number)
{
	struct far_frame_block block;
	int grant = rig_lane_ask(client);

	if (grant < 0)
		return false;
	assert_true(rig_block_write(client, grant, number, RIG_LANE_BYTES, &block));
	rig_commit(client, grant, &block, 1, true);
	client->grant_count = 0;
	rig_run(rig, 4 * FAR_NS_PER_MS);
	return true;
}

/* The next burst shall find the room that the last one needed, though little was asked for between them. */
static void
a_burst_is_remembered_for_a_while(void **state)
{
	struct rig *rig = open_lanes(64, 2);
	struct rig_client *client = rig_client_open(rig, 0);
	uint64_t number = 0;

	(void)state;
	rig->checks_off = true;
	while (number < 64 - 2 - 4)
		assert_true(lane_store(rig, client, number++));
	for (int round = 0; round < 8; round++) {
		for (int lane = 0; lane < 4; lane++)
			assert_true(lane_store(rig, client, number++));
		for (int lane = 0; lane < 4; lane++) {
			rig_run(rig, 200 * FAR_NS_PER_MS);
			assert_true(lane_store(rig, client, number++));
		}
	}
	assert_in_range(held_count(rig, number - 64, 64), 64 - 2 - 4 - 1, 64 - 2 - 4);
	/* Nor is it forgotten while a prefill lasts: what little takes of it meanwhile is replaced. */
	rig_run(rig, 20 * FAR_NS_PER_S);
	for (int lane = 0; lane < 4; lane++) {
		assert_true(lane_store(rig, client, number++));
		rig_run(rig, 200 * FAR_NS_PER_MS);
	}
	for (int lane = 0; lane < 6; lane++)
		assert_true(lane_store(rig, client, number++));
	/* After some minutes in which little came nothing is held for bursts. */
	for (int lane = 0; lane < 12; lane++) {
		rig_run(rig, 30 * FAR_NS_PER_S);
		assert_true(lane_store(rig, client, number++));
	}
	assert_in_range(held_count(rig, number - 64, 64), 64 - 2 - 1, 64 - 2);
	far_pool_check(rig->pool);
	rig_close(rig);
}

/* Who is refused asks again, and wants no more than before. */
static void
a_lane_that_is_asked_for_again_and_again_is_one(void **state)
{
	struct rig *rig = open_lanes(64, 1);
	struct rig_client *client = rig_client_open(rig, 0);
	uint64_t number = 0, granted = 0;

	(void)state;
	rig->checks_off = true;
	while (number < 70) {
		rig_run(rig, 200 * FAR_NS_PER_MS);
		assert_true(lane_store(rig, client, number++));
	}
	rig_run(rig, 60 * FAR_NS_PER_S); /* all is forgotten */
	while (rig_lane_ask(client) >= 0)
		granted++;
	for (int i = 0; i < 40; i++)
		assert_int_equal(rig_lane_ask(client), -1);
	rig_run(rig, FAR_NS_PER_S);
	assert_in_range(granted, 1, 2); /* or the bound of what is kept is reached anyway */
	/* Those, one that every donor keeps, and as many as were wanted: those and one more. */
	assert_int_equal(held_count(rig, number - 64, 64), 64 - granted - 1 - (granted + 1));
	rig_close(rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(oldest_lane_goes_when_free_ones_run_low),
		cmocka_unit_test(evicted_lane_is_not_written_before_its_grace),
		cmocka_unit_test(cold_lane_goes_before_an_older_hot_one),
		cmocka_unit_test(moved_hot_block_has_a_new_generation),
		cmocka_unit_test(no_more_than_the_hot_share_is_kept),
		cmocka_unit_test(kept_block_cools_down_and_goes),
		cmocka_unit_test(both_sets_full_evicts_the_coldest),
		cmocka_unit_test(pool_without_a_free_lane_still_makes_room),
		cmocka_unit_test(nothing_is_evicted_while_more_memory_is_on_its_way),
		cmocka_unit_test(free_lanes_follow_the_demand),
		cmocka_unit_test(a_burst_is_remembered_for_a_while),
		cmocka_unit_test(a_lane_that_is_asked_for_again_and_again_is_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
