/* recover.c - tests: what a successor over the same memory serves again, and what it does not believe. */
#include "tests/unit/pool/test.h"

#include "base/checksum.h"
#include "wire/index.h"

#define BLOCK  (64 * KIB)
#define BLOCKS 16U

/* Two segments of two lanes; blocks 1 to 16 in the first lane, 17 and on in another. */
static struct rig *
open_filled(void)
{
	struct far_pool_config config;
	struct rig_client *client;
	struct rig *rig;

	rig_config(&config);
	config.segment_bytes = 2 * RIG_LANE_BYTES;
	rig = rig_open(&config, 1, false);
	client = rig_client_open(rig, 0);
	for (uint32_t lane = 0; lane < 2; lane++) {
		int grant = rig_lane_ask(client);

		for (uint32_t i = 1; i <= BLOCKS; i++)
			assert_int_equal(rig_store(client, grant, lane * BLOCKS + i, BLOCK), 0);
	}
	return rig;
}

static struct far_index_header *
header_of(struct rig *rig)
{
	return (struct far_index_header *)(void *)rig->index;
}

static struct far_index_live *
live_of(struct rig *rig)
{
	return (struct far_index_live *)(void *)(rig->index + header_of(rig)->live_at);
}

/* Where a block's slot lies in the published memory. */
static struct far_slot *
slot_of(struct rig *rig, uint64_t number)
{
	struct far_key key = rig_key(number);
	struct far_slot *slots = (struct far_slot *)(void *)(rig->index + header_of(rig)->sets_at);

	for (uint64_t i = 0; i < header_of(rig)->set_count * FAR_SET_SLOTS; i++) {
		if (memcmp(slots[i].key, key.bytes, sizeof(key.bytes)) == 0)
			return &slots[i];
	}
	fail_msg("block %llu has no slot", (unsigned long long)number);
	return NULL;
}

static void
reopen(struct rig *rig)
{
	assert_int_equal(rig_reopen(rig), 0);
	for (int i = 0; rig->segments[i].base != NULL; i++)
		assert_int_equal(rig_segment_restore(rig, i), 0);
	far_pool_growing_set(rig->pool, false);
}

static void
restart(struct rig *rig)
{
	rig_down(rig);
	reopen(rig);
	rig_run(rig, FAR_NS_PER_MS);
}

static void
successor_serves_what_was_committed(void **state)
{
	struct rig *rig = open_filled();
	uint64_t epoch = far_pool_epoch(rig->pool);
	struct rig_client *client;
	struct far_slot slot;
	int grant;

	(void)state;
	restart(rig);
	assert_int_not_equal(far_pool_epoch(rig->pool), epoch);
	assert_int_equal(live_of(rig)->state, FAR_INDEX_SERVING);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_recovered), 2 * BLOCKS);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_dropped), 0);
	assert_int_equal(rig_stat(rig, FAR_STATUS_block_bytes), 2 * BLOCKS * BLOCK);
	for (uint32_t i = 1; i <= 2 * BLOCKS; i++)
		assert_true(rig_holds(rig, i));
	for (uint32_t i = 0; i < FAR_EPOCHS_MAX; i++)
		assert_int_equal(header_of(rig)->recover_epochs[i], 0);
	/* And it is a donor as any other: it has, it stores, generations go on. */
	client = rig_client_open(rig, 0);
	grant = rig_lane_ask(client);
	assert_int_equal(rig_store(client, grant, 1, BLOCK), -EEXIST);
	assert_int_equal(rig_store(client, grant, 99, BLOCK), 0);
	assert_true(rig_find(rig, 99, &slot));
	assert_true(slot.generation > 2ULL * BLOCKS);
	rig_close(rig);
}

static void
nothing_of_the_old_epoch_is_believed(void **state)
{
	struct rig *rig = open_filled();
	uint64_t epoch = far_pool_epoch(rig->pool);
	struct far_slot old[2 * BLOCKS], slot;

	(void)state;
	for (uint32_t i = 0; i < 2 * BLOCKS; i++)
		assert_true(rig_find(rig, i + 1, &old[i]));
	rig_down(rig);
	reopen(rig);
	/* From the first moment on, whatever has not been looked at. */
	assert_int_equal(far_index_live_check(live_of(rig)), 0);
	assert_int_not_equal(live_of(rig)->epoch, epoch);
	assert_int_equal(live_of(rig)->state, FAR_INDEX_RECOVERING);
	assert_int_equal(header_of(rig)->recover_epochs[0], epoch);
	assert_int_equal(far_slot_check(slot_of(rig, 1), live_of(rig)->epoch), FAR_SLOT_TORN);
	rig_run(rig, FAR_NS_PER_MS);
	for (uint32_t i = 0; i < 2 * BLOCKS; i++) {
		assert_true(rig_find(rig, i + 1, &slot));
		assert_int_not_equal(memcmp(&slot, &old[i], sizeof(slot)), 0);
	}
	rig_close(rig);
}

static void
no_lane_is_given_out_before_all_was_looked_at(void **state)
{
	struct rig *rig = open_filled();
	struct rig_client *client;

	(void)state;
	rig_down(rig);
	assert_int_equal(rig_reopen(rig), 0);
	client = rig_client_open(rig, 0);
	assert_int_equal(rig_segment_restore(rig, 0), 0);
	assert_int_equal(rig_lane_ask(client), -1);
	assert_int_equal(client->answers[FAR_FRAME_LANE_FULL], 1);
	assert_int_equal(far_pool_segment_drain(rig->pool, rig->segments[0].number, NULL, NULL),
			 -EBUSY);
	assert_int_equal(rig_segment_restore(rig, 1), 0);
	assert_int_equal(rig_segment_restore(rig, 1), -EINVAL); /* its number is taken */
	far_pool_growing_set(rig->pool, false);
	rig_run(rig, FAR_NS_PER_MS);
	assert_true(rig_lane_ask(client) >= 0);
	assert_int_equal(rig_segment_restore(rig, 1), -EINVAL); /* too late */
	rig_close(rig);
}

static void
slots_that_cannot_be_true_are_dropped(void **state)
{
	struct rig *rig = open_filled();
	uint64_t epoch = far_pool_epoch(rig->pool);
	struct far_slot *slots[12], spare;
	const uint64_t sealed = 9; /* so many of them are sealed again: a liar, not an accident */

	(void)state;
	rig_down(rig);
	for (uint32_t i = 0; i < 12; i++)
		slots[i] = slot_of(rig, i + 1);
	slots[0]->segment = 77;
	slots[1]->offset_64 = (uint32_t)(4 * RIG_LANE_BYTES / 64); /* behind its segment */
	slots[2]->size_bytes = (uint32_t)RIG_LANE_BYTES;           /* beyond its lane */
	slots[3]->offset_64++;                                     /* not aligned */
	slots[4]->crc32c++;
	slots[5]->flags |= FAR_SLOT_NO_CRC;
	slots[6]->size_bytes = 0;
	slots[7]->key[3] ^= 1; /* not where it would be looked for */
	memset(slots[8]->key, 0, sizeof(slots[8]->key));
	for (uint32_t i = 0; i < sealed; i++)
		far_slot_seal(slots[i], epoch);
	far_slot_seal(slots[9], epoch + 1); /* of nobody's epoch */
	slots[10]->generation ^= 1;         /* torn */
	rig->segments[0].base[slots[11]->offset_64 * 64ULL + 5] ^= 1;
	reopen(rig);
	rig_run(rig, FAR_NS_PER_MS);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_dropped), 12);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_recovered), 2 * BLOCKS - 12);
	for (uint32_t i = 1; i <= 12; i++)
		assert_false(rig_find(rig, i, &spare));
	for (uint32_t i = 13; i <= 2 * BLOCKS; i++)
		assert_true(rig_holds(rig, i));
	rig_close(rig);
}

/* Bytes that two slots name, both with the right CRC: one of them at the most is true. */
static void
overlapping_extents_are_not_both_kept(void **state)
{
	struct rig *rig = open_filled();
	uint64_t epoch = far_pool_epoch(rig->pool);
	struct far_slot *first, *second, slot;

	(void)state;
	rig_down(rig);
	first = slot_of(rig, 1);
	second = slot_of(rig, 2);
	second->offset_64 = first->offset_64 + 4096 / 64;
	second->size_bytes = 4096;
	second->crc32c = far_crc32c(0, rig->segments[0].base + second->offset_64 * 64ULL, 4096);
	far_slot_seal(second, epoch);
	reopen(rig);
	rig_run(rig, FAR_NS_PER_MS);
	assert_true(rig_holds(rig, 1));
	assert_false(rig_find(rig, 2, &slot));
	rig_close(rig);
}

static void
segment_that_is_gone_takes_its_blocks_with_it(void **state)
{
	struct rig *rig = open_filled();
	struct far_mem_source source = {
		.size_bytes = rig->segments[1].size_bytes, .fd = -1, .relaxed = true};
	uint32_t number = 0;
	struct far_slot slot;

	(void)state;
	rig_down(rig);
	assert_int_equal(rig_reopen(rig), 0);
	assert_int_equal(rig_segment_restore(rig, 1), 0);
	source.base = rig->segments[0].base; /* other memory as far as anybody knows */
	assert_int_equal(far_pool_segment_add(rig->pool, &source, &number), 0);
	assert_true(number > 2);
	far_pool_growing_set(rig->pool, false);
	rig_run(rig, FAR_NS_PER_MS);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_recovered) +
				 rig_stat(rig, FAR_STATUS_blocks_dropped),
			 2 * BLOCKS);
	for (uint32_t i = 1; i <= 2 * BLOCKS; i++) {
		if (rig_find(rig, i, &slot))
			assert_int_equal(slot.segment, rig->segments[1].number);
	}
	rig_close(rig);
}

/* Its number is free again, and the same bytes happen to be in it: it is not what the slots mean. */
static void
new_segment_is_not_taken_for_an_old_one(void **state)
{
	struct rig *rig = open_filled();
	struct far_mem_source source = {.base = rig->segments[0].base,
					.size_bytes = rig->segments[0].size_bytes,
					.fd = -1,
					.relaxed = true};
	uint32_t number = 0;

	(void)state;
	assert_int_equal(slot_of(rig, 1)->segment, rig->segments[0].number);
	rig_down(rig);
	assert_int_equal(rig_reopen(rig), 0);
	assert_int_equal(far_pool_segment_add(rig->pool, &source, &number), 0);
	assert_int_equal(number, rig->segments[0].number);
	far_pool_growing_set(rig->pool, false);
	rig_run(rig, FAR_NS_PER_MS);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_recovered), 0);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_dropped), 2 * BLOCKS);
	rig_close(rig);
}

static void
successor_that_dies_on_the_way_is_recovered_from(void **state)
{
	struct rig *rig = open_filled();
	uint64_t first = far_pool_epoch(rig->pool);

	(void)state;
	rig_down(rig);
	for (uint32_t life = 0; life < 5; life++) {
		assert_int_equal(rig_reopen(rig), 0); /* nobody says that all segments are there */
		assert_int_equal(rig_segment_restore(rig, 0), 0);
		rig_run(rig, FAR_NS_PER_MS);
		assert_int_equal(header_of(rig)->recover_epochs[0], first);
		rig_down(rig);
	}
	assert_int_not_equal(header_of(rig)->recover_epochs[4], 0);
	assert_int_equal(header_of(rig)->recover_epochs[5], 0);
	reopen(rig);
	rig_run(rig, FAR_NS_PER_MS);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_recovered), 2 * BLOCKS);
	rig_close(rig);
}

/* One that is started again and again, and ends each time before it has looked at anything. */
static void
full_list_of_epochs_keeps_what_nobody_came_to(void **state)
{
	struct rig *rig = open_filled();
	uint64_t first = far_pool_epoch(rig->pool);
	uint64_t last = 0;

	(void)state;
	far_log_capture_expect("an epoch is given up");
	rig_down(rig);
	for (uint32_t life = 0; life < 2 * FAR_EPOCHS_MAX; life++) {
		assert_int_equal(rig_reopen(rig), 0);
		assert_int_equal(header_of(rig)->recover_epochs[0], first);
		if (life >= FAR_EPOCHS_MAX)
			assert_int_equal(header_of(rig)->recover_epochs[FAR_EPOCHS_MAX - 1], last);
		last = far_pool_epoch(rig->pool);
		rig_down(rig);
	}
	reopen(rig);
	rig_run(rig, FAR_NS_PER_MS);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_recovered), 2 * BLOCKS);
	rig_close(rig);
}

/* The second life gets through half of it, and those after it to nothing: what it sealed is not lost. */
static void
full_list_of_epochs_keeps_what_one_came_to(void **state)
{
	struct rig *rig = open_filled();
	uint64_t half;

	(void)state;
	far_log_capture_expect("an epoch is given up");
	rig_down(rig);
	assert_int_equal(rig_reopen(rig), 0);
	assert_int_equal(rig_segment_restore(rig, 0), 0);
	far_pool_growing_set(rig->pool, false);
	do
		(void)far_pool_tick(rig->pool, far_clock_now(rig->clock));
	while (rig_stat(rig, FAR_STATUS_blocks_recovered) == 0);
	half = rig_stat(rig, FAR_STATUS_blocks_recovered);
	assert_in_range(half, 1, 2 * BLOCKS - 1);
	rig_down(rig);
	for (uint32_t life = 0; life < FAR_EPOCHS_MAX; life++) {
		assert_int_equal(rig_reopen(rig), 0);
		rig_down(rig);
	}
	reopen(rig);
	rig_run(rig, FAR_NS_PER_MS);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_recovered), 2 * BLOCKS);
	rig_close(rig);
}

/* Killed amid the line itself: the word with the epoch is whole, old or new. */
static void
torn_line_with_the_epoch_loses_nothing(void **state)
{
	struct rig *rig = open_filled();

	(void)state;
	rig_down(rig);
	live_of(rig)->state ^= 1ULL << 40;
	reopen(rig);
	rig_run(rig, FAR_NS_PER_MS);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_recovered), 2 * BLOCKS);
	rig_close(rig);
}

static void
block_deleted_meanwhile_does_not_come_back(void **state)
{
	struct rig *rig = open_filled();
	struct rig_client *client;
	struct far_slot slot;

	(void)state;
	rig_down(rig);
	assert_int_equal(rig_reopen(rig), 0);
	client = rig_client_open(rig, 0);
	assert_int_equal(rig_delete(client, 3), 0);
	assert_int_equal(rig_delete(client, 3), -ENOENT);
	assert_int_equal(rig_delete(client, 1000), -ENOENT);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_deleted), 1);
	assert_int_equal(rig_segment_restore(rig, 0), 0);
	assert_int_equal(rig_segment_restore(rig, 1), 0);
	far_pool_growing_set(rig->pool, false);
	rig_run(rig, FAR_NS_PER_MS);
	assert_false(rig_find(rig, 3, &slot));
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_recovered), 2 * BLOCKS - 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_dropped), 0);
	rig_close(rig);
}

static void
index_of_somebody_else_is_refused_and_left_alone(void **state)
{
	struct rig *rig = open_filled();
	struct far_pool_config was = rig->config;
	struct far_index_header header;
	uint8_t *copy;

	(void)state;
	rig_down(rig);
	copy = far_zalloc(rig->index_bytes);
	memcpy(copy, rig->index, rig->index_bytes);
	far_log_capture_expect("another donor's");
	(void)snprintf(rig->config.name, sizeof(rig->config.name), "other");
	assert_int_equal(rig_reopen(rig), -EINVAL);
	rig->config = was;
	far_log_capture_expect("'segment' differs");
	rig->config.segment_bytes = RIG_LANE_BYTES;
	assert_int_equal(rig_reopen(rig), -EINVAL);
	rig->config = was;
	far_log_capture_expect("'block_min' differs");
	rig->config.block_bytes_min *= 2;
	assert_int_equal(rig_reopen(rig), -EINVAL);
	rig->config = was;
	far_log_capture_expect("does not match its checksum");
	header_of(rig)->hash_seed ^= 1;
	assert_int_equal(rig_reopen(rig), -EINVAL);
	header_of(rig)->hash_seed ^= 1;
	far_log_capture_expect("another release's version");
	header_of(rig)->version++;
	assert_int_equal(rig_reopen(rig), -EINVAL);
	header_of(rig)->version--;
	far_log_capture_expect("no index of a donor");
	memset(&header, 0, sizeof(header));
	memcpy(rig->index, &header, sizeof(header));
	assert_int_equal(rig_reopen(rig), -EINVAL);
	memcpy(rig->index, copy, sizeof(header));
	assert_memory_equal(rig->index, copy, rig->index_bytes);
	far_free(copy);
	reopen(rig);
	rig_run(rig, FAR_NS_PER_MS);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_recovered), 2 * BLOCKS);
	rig_close(rig);
}

static void
lane_delete(struct rig_client *client, uint64_t first)
{
	while (rig_delete(client, first) == 0)
		first++;
	rig_run(client->rig, client->rig->config.grace_ns);
}

/* Lanes that came back are evicted in the order of their blocks, not of their places. */
static void
oldest_lane_goes_first(void **state)
{
	struct far_pool_config config;
	struct rig_client *client;
	struct far_slot slot, old;
	uint64_t first;
	struct rig *rig;

	(void)state;
	rig_config(&config);
	rig = rig_open(&config, 1, false);
	client = rig_client_open(rig, 0);
	assert_true(rig_lane_fill(client, 1000, MIB) > 0);
	assert_true(rig_lane_fill(client, 2000, MIB) > 0);
	lane_delete(client, 1000);
	/* Free lanes are taken in turn: until the first one is written again. */
	for (first = 3000;; first += 1000) {
		assert_true(rig_lane_fill(client, first, MIB) > 0);
		assert_true(rig_find(rig, first, &slot));
		assert_true(rig_find(rig, 2000, &old));
		if (slot.offset_64 < old.offset_64)
			break;
		lane_delete(client, first);
	}
	restart(rig);
	client = rig_client_open(rig, 0);
	while (rig_find(rig, 2000, &slot) && rig_find(rig, first, &slot)) {
		(void)rig_lane_ask(client);
		rig_run(rig, config.grace_ns);
	}
	assert_false(rig_find(rig, 2000, &slot));
	assert_true(rig_find(rig, first, &slot));
	rig_close(rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(successor_serves_what_was_committed),
		cmocka_unit_test(nothing_of_the_old_epoch_is_believed),
		cmocka_unit_test(no_lane_is_given_out_before_all_was_looked_at),
		cmocka_unit_test(slots_that_cannot_be_true_are_dropped),
		cmocka_unit_test(overlapping_extents_are_not_both_kept),
		cmocka_unit_test(segment_that_is_gone_takes_its_blocks_with_it),
		cmocka_unit_test(new_segment_is_not_taken_for_an_old_one),
		cmocka_unit_test(successor_that_dies_on_the_way_is_recovered_from),
		cmocka_unit_test(full_list_of_epochs_keeps_what_nobody_came_to),
		cmocka_unit_test(full_list_of_epochs_keeps_what_one_came_to),
		cmocka_unit_test(torn_line_with_the_epoch_loses_nothing),
		cmocka_unit_test(block_deleted_meanwhile_does_not_come_back),
		cmocka_unit_test(index_of_somebody_else_is_refused_and_left_alone),
		cmocka_unit_test(oldest_lane_goes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
