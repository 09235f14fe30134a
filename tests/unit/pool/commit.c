/* commit.c - tests: what a COMMIT may say, what it leaves in the index, and the frames about blocks. */
#include "tests/unit/pool/test.h"

#include "base/checksum.h"

static struct rig *
open_default(void)
{
	struct far_pool_config config;

	rig_config(&config);
	return rig_open(&config, 1, false);
}

static void
committed_block_is_found_and_right(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);
	struct far_slot slot;

	(void)state;
	assert_false(rig_holds(rig, 1));
	assert_int_equal(rig_store(client, grant, 1, 4097), 0);
	assert_true(rig_holds(rig, 1));
	assert_true(rig_find(rig, 1, &slot));
	assert_int_equal(slot.size_bytes, 4097);
	assert_int_equal(slot.group, 9);
	assert_int_equal(slot.segment, client->grants[grant].segment);
	assert_int_equal(slot.flags, FAR_SLOT_USED);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_stored), 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_bytes_stored), 4097);
	assert_int_equal(rig_stat(rig, FAR_STATUS_block_count), 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_block_bytes), 4097);
	rig_close(rig);
}

static void
largest_and_smallest_block_fit_a_lane(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int whole = rig_lane_ask(client);
	int small = rig_lane_ask(client);

	(void)state;
	assert_int_equal(rig_store(client, whole, 1, RIG_LANE_BYTES), 0);
	assert_int_equal(rig_store(client, small, 2, 1), 0);
	assert_int_equal(rig_store(client, small, 3, 1), 0);
	assert_true(rig_holds(rig, 1));
	assert_true(rig_holds(rig, 2));
	assert_true(rig_holds(rig, 3));
	rig_close(rig);
}

static void
key_in_index_answers_have_it(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);
	struct far_slot before, after;
	struct far_frame_block blocks[2];

	(void)state;
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), 0);
	assert_true(rig_find(rig, 1, &before));
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), -EEXIST);
	assert_true(rig_find(rig, 1, &after));
	assert_memory_equal(&before, &after,
			    sizeof(before)); /* a live key never changes its slot */
	/* Twice in one COMMIT: the first one counts. */
	assert_true(rig_block_write(client, grant, 2, 4 * KIB, &blocks[0]));
	assert_true(rig_block_write(client, grant, 2, 4 * KIB, &blocks[1]));
	rig_commit(client, grant, blocks, 2, false);
	assert_int_equal(client->results[0], 0);
	assert_int_equal(client->results[1], -EEXIST);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_had), 2);
	assert_int_equal(rig_stat(rig, FAR_STATUS_block_count), 2);
	rig_close(rig);
}

static void
zero_key_is_refused_alone(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);
	struct far_frame_block blocks[2];

	(void)state;
	assert_true(rig_block_write(client, grant, 1, 4 * KIB, &blocks[0]));
	assert_true(rig_block_write(client, grant, 2, 4 * KIB, &blocks[1]));
	memset(blocks[0].key, 0, sizeof(blocks[0].key));
	rig_commit(client, grant, blocks, 2, false);
	assert_int_equal(client->results[0], -EINVAL);
	assert_int_equal(client->results[1], 0);
	assert_true(rig_holds(rig, 2));
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_refused), 1);
	rig_close(rig);
}

/* Commits one block with its entry changed by the caller: the link must go, the index must not. */
static void
commit_costs_the_link(uint32_t offset_64, uint32_t size_bytes, uint64_t serial_plus)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);
	struct far_frame_block blocks[2];

	far_log_capture_expect("COMMIT names");
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), 0);
	assert_true(rig_block_write(client, grant, 2, 4 * KIB, &blocks[0]));
	assert_true(rig_block_write(client, grant, 3, 4 * KIB, &blocks[1]));
	if (size_bytes != UINT32_MAX) {
		blocks[1].offset_64 = offset_64;
		blocks[1].size_bytes = size_bytes;
	}
	client->grants[grant].serial += serial_plus;
	rig_commit(client, grant, blocks, 2, false);
	rig_run(rig, FAR_NS_PER_S);
	assert_true(client->lost);
	assert_int_equal(client->answers[FAR_FRAME_COMMITTED], 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_links_dropped), 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_refused), 2);
	/* Nothing of the frame was taken, what was there before stays. */
	assert_true(rig_holds(rig, 1));
	assert_false(rig_holds(rig, 2));
	assert_int_equal(rig_stat(rig, FAR_STATUS_block_count), 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_open), 0);
	rig_close(rig);
}

static void
commit_beyond_the_lane_costs_the_link(void **state)
{
	(void)state;
	commit_costs_the_link(RIG_LANE_BYTES / 64, 64, 0);
	commit_costs_the_link((RIG_LANE_BYTES - 4096) / 64, 4097, 0);
	commit_costs_the_link(UINT32_MAX, 64, 0);
	commit_costs_the_link(UINT32_MAX - 63, RIG_LANE_BYTES, 0);
	commit_costs_the_link(128 * KIB / 64, RIG_LANE_BYTES + 1, 0);
	commit_costs_the_link(128 * KIB / 64, UINT32_MAX - 1, 0);
}

static void
commit_out_of_order_costs_the_link(void **state)
{
	(void)state;
	commit_costs_the_link(0, 64, 0);                      /* over a block of before */
	commit_costs_the_link((64 * KIB + 2048) / 64, 64, 0); /* over one of the same frame */
}

static void
commit_of_no_bytes_or_unaligned_costs_the_link(void **state)
{
	(void)state;
	commit_costs_the_link(1024 * KIB / 64, 0, 0);
	commit_costs_the_link(1024 * KIB / 64 + 1, 4096, 0); /* 4 KiB need 4 KiB */
}

static void
commit_into_a_lane_of_nobody_costs_the_link(void **state)
{
	(void)state;
	commit_costs_the_link(0, UINT32_MAX, 1);          /* the next lane, not granted */
	commit_costs_the_link(0, UINT32_MAX, 1ULL << 40); /* another grant of this lane */
	commit_costs_the_link(0, UINT32_MAX, 0xfffff);
}

static void
commit_into_anothers_lane_costs_the_link(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *owner = rig_client_open(rig, 0);
	struct rig_client *thief = rig_client_open(rig, 1);
	int grant = rig_lane_ask(owner);
	struct far_frame_block block = {.offset_64 = 0, .size_bytes = 64};

	(void)state;
	far_log_capture_expect("does not hold");
	memset(block.key, 5, sizeof(block.key));
	thief->grants[0] = owner->grants[grant];
	rig_commit(thief, 0, &block, 1, false);
	assert_true(thief->lost);
	assert_false(owner->lost);
	assert_int_equal(rig_store(owner, grant, 1, 64 * KIB), 0);
	rig_close(rig);
}

static void
commit_after_the_end_costs_the_link(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);

	(void)state;
	far_log_capture_expect("does not hold");
	rig_commit(client, grant, NULL, 0, true);
	rig_commit(client, grant, NULL, 0, true);
	assert_true(client->lost);
	rig_close(rig);
}

static void
commit_allocates_nothing(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);

	(void)state;
	far_alloc_lock();
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), 0);
	rig_touch(client, 1, 1);
	assert_int_equal(rig_delete(client, 1), 0);
	assert_int_equal(rig_send(client, FAR_FRAME_STATUS_ASK, NULL, NULL, 0), 0);
	rig_settle(rig);
	far_alloc_unlock();
	rig_close(rig);
}

static void
deleted_block_is_gone_and_can_come_again(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);
	struct far_slot first, second;

	(void)state;
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), 0);
	assert_true(rig_find(rig, 1, &first));
	assert_int_equal(rig_delete(client, 1), 0);
	assert_false(rig_find(rig, 1, &second));
	assert_int_equal(rig_delete(client, 1), -ENOENT);
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_deleted), 1);
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), 0);
	assert_true(rig_find(rig, 1, &second));
	assert_true(second.generation > first.generation);
	rig_close(rig);
}

static void
lane_whose_last_block_was_deleted_rests_and_is_free(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);

	(void)state;
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), 0);
	rig_commit(client, grant, NULL, 0, true);
	assert_int_equal(rig_delete(client, 1), 0);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 3);
	rig_run(rig, rig->config.grace_ns);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 4);
	rig_close(rig);
}

static void
reject(struct rig_client *client, const struct far_slot *slot)
{
	struct far_frame_reject body;

	memcpy(body.slot, slot, sizeof(body.slot));
	assert_int_equal(rig_send(client, FAR_FRAME_REJECT, &body, NULL, 0), 0);
	rig_settle(client->rig);
}

static void
reject_clears_a_block_only_if_its_bytes_are_wrong(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);
	struct far_slot slot, other;

	(void)state;
	far_log_capture_expect("do not match its checksum");
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), 0);
	assert_true(rig_find(rig, 1, &slot));
	reject(client, &slot); /* the reader was wrong */
	assert_true(rig_holds(rig, 1));
	rig_bytes(rig, &slot)[100] ^= 1;
	reject(client, &slot); /* and is not believed again at once */
	assert_true(rig_find(rig, 1, &other));
	rig_run(rig, 2 * FAR_NS_PER_MS);
	other = slot;
	other.generation++;
	reject(client, &other); /* about a slot that is not this one */
	assert_true(rig_find(rig, 1, &other));
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_rejected), 0);
	reject(client, &slot);
	assert_false(rig_find(rig, 1, &other));
	assert_int_equal(rig_stat(rig, FAR_STATUS_blocks_rejected), 1);
	memset(&slot, 0, sizeof(slot));
	reject(client, &slot); /* any bytes */
	assert_false(client->lost);
	rig_close(rig);
}

static void
block_without_a_checksum_is_never_cleared_by_a_reject(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);
	struct far_frame_block block;
	struct far_slot slot;

	(void)state;
	assert_true(rig_block_write(client, grant, 1, 4 * KIB, &block));
	block.flags = FAR_SLOT_NO_CRC;
	block.crc32c = 0;
	rig_commit(client, grant, &block, 1, false);
	assert_true(rig_find(rig, 1, &slot));
	assert_int_equal(slot.flags, FAR_SLOT_USED | FAR_SLOT_NO_CRC);
	reject(client, &slot);
	assert_true(rig_find(rig, 1, &slot));
	rig_close(rig);
}

static void
status_counts_what_happened(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);

	(void)state;
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), 0);
	rig_touch(client, 1, 2);
	assert_int_equal(rig_send(client, FAR_FRAME_STATUS_ASK, NULL, NULL, 0), 0);
	rig_settle(rig);
	assert_int_equal(client->status[FAR_STATUS_capacity_bytes], 4 * RIG_LANE_BYTES);
	assert_int_equal(client->status[FAR_STATUS_free_bytes], 3 * RIG_LANE_BYTES);
	assert_int_equal(client->status[FAR_STATUS_lane_count], 4);
	assert_int_equal(client->status[FAR_STATUS_lanes_open], 1);
	assert_int_equal(client->status[FAR_STATUS_segment_count], 1);
	assert_int_equal(client->status[FAR_STATUS_commit_frames], 1);
	assert_int_equal(client->status[FAR_STATUS_touch_notes], 2);
	assert_int_equal(client->status[FAR_STATUS_blocks_stored], 1);
	assert_true(client->status[FAR_STATUS_uptime_ns] > 0);
	assert_true(client->status[FAR_STATUS_cpu_ns] > 0);
	rig_close(rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(committed_block_is_found_and_right),
		cmocka_unit_test(largest_and_smallest_block_fit_a_lane),
		cmocka_unit_test(key_in_index_answers_have_it),
		cmocka_unit_test(zero_key_is_refused_alone),
		cmocka_unit_test(commit_beyond_the_lane_costs_the_link),
		cmocka_unit_test(commit_out_of_order_costs_the_link),
		cmocka_unit_test(commit_of_no_bytes_or_unaligned_costs_the_link),
		cmocka_unit_test(commit_into_a_lane_of_nobody_costs_the_link),
		cmocka_unit_test(commit_into_anothers_lane_costs_the_link),
		cmocka_unit_test(commit_after_the_end_costs_the_link),
		cmocka_unit_test(commit_allocates_nothing),
		cmocka_unit_test(deleted_block_is_gone_and_can_come_again),
		cmocka_unit_test(lane_whose_last_block_was_deleted_rests_and_is_free),
		cmocka_unit_test(reject_clears_a_block_only_if_its_bytes_are_wrong),
		cmocka_unit_test(block_without_a_checksum_is_never_cleared_by_a_reject),
		cmocka_unit_test(status_counts_what_happened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
