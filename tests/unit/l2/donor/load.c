/* load.c - what a load accepts: this block's bytes, proved by its slot; anything else is a miss. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "tests/support/fake_donor.h"
#include "tests/support/log_capture.h"

static struct fake_rig rig;
static struct fake_task task;

static int
setup(void **state)
{
	(void)state;
	far_log_capture_start();
	fake_rig_open(&rig);
	fake_rig_up(&rig);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	fake_rig_close(&rig);
	far_log_capture_finish();
	return 0;
}

/* Looks the keys up and makes a load of them by what was found. */
static void
load_make(uint32_t first, uint32_t count, uint32_t size_bytes)
{
	static struct fake_task lookup;

	fake_task_make(&rig, &lookup, FAR_L2_LOOKUP, first, count, 0);
	fake_task_run(&rig, &lookup);
	fake_task_make(&rig, &task, FAR_L2_LOAD, first, count, size_bytes);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(lookup.items[i].rc, 0);
		memcpy(task.items[i].hint, lookup.items[i].hint, sizeof(task.items[i].hint));
	}
}

static void
blocks_are_loaded_by_hint_and_without_one(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 100; i++)
		(void)fake_donor_put(&rig.donor, i, i * 8192ULL, 5000);
	load_make(0, 100, 5000);
	memset(task.items[7].hint, 0, sizeof(task.items[7].hint));
	fake_task_run(&rig, &task);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(task.items[i].rc, 0);
		assert_true(fake_bytes_are(&task, i, i));
	}
	assert_int_equal(rig.status.loads, 100);
	assert_int_equal(rig.status.load_bytes, 500000);
}

static void
a_load_allocates_nothing_and_asks_a_stopped_donor_nothing(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 50; i++)
		(void)fake_donor_put(&rig.donor, i, i * 8192ULL, 5000);
	far_loop_host_pause(rig.fabric, "fake", true);
	load_make(0, 50, 5000);
	far_alloc_lock();
	fake_task_run(&rig, &task);
	far_alloc_unlock();
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(task.items[i].rc, 0);
	far_loop_host_pause(rig.fabric, "fake", false);
}

static void
a_range_lands_in_many_pieces(void **state)
{
	static struct far_l2_piece pieces[40];

	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 4096, 9000);
	load_make(1, 1, 9000);
	for (uint32_t i = 0; i < 40; i++)
		pieces[i] =
			(struct far_l2_piece){rig.arena + 100000 - i * 300, i % 3 == 0 ? 0 : 200};
	task.items[0].pieces = pieces;
	task.items[0].piece_count = 40;
	task.items[0].range_offset = 3000;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
	assert_true(fake_bytes_are(&task, 0, 1));
}

static void
pieces_may_lie_in_several_memories_that_are_registered(void **state)
{
	enum { PIECES = 36, PIECE = 250, SIZE = 8192 };
	static struct far_l2_memories memories;
	static struct far_l2_piece pieces[PIECES];
	static uint8_t mine[2][SIZE];
	struct far_mem_source source = {.size_bytes = SIZE, .fd = -1};
	struct far_loop_counts before, after;

	(void)state;
	fake_rig_close(&rig);
	fake_rig_open(&rig);
	for (size_t m = 0; m < 2; m++) {
		source.base = mine[m];
		memories.items[3 + m].base = mine[m];
		memories.items[3 + m].size_bytes = SIZE;
		assert_int_equal(far_transport_mem_reg(rig.tp, &source, FAR_RIGHT_LOCAL, NULL,
						       &memories.items[3 + m].mems[0]),
				 0);
	}
	rig.memories = &memories;
	fake_rig_up(&rig);
	(void)fake_donor_put(&rig.donor, 1, 4096, PIECES * PIECE);
	load_make(1, 1, PIECES * PIECE);
	/* Backwards, and by turns: the arena, the one, the other. */
	for (uint32_t i = 0; i < PIECES; i++) {
		uint8_t *base = i % 3 == 0 ? rig.arena : mine[i % 3 - 1];

		pieces[i] = (struct far_l2_piece){base + SIZE - (i / 3 + 1) * PIECE, PIECE};
	}
	task.items[0].pieces = pieces;
	task.items[0].piece_count = PIECES;
	far_loop_counts_get(rig.fabric, &before);
	fake_task_run(&rig, &task);
	far_loop_counts_get(rig.fabric, &after);
	assert_int_equal(task.items[0].rc, 0);
	/* No op names two registrations. */
	assert_true(after.ops - before.ops >= PIECES);
	for (uint32_t i = 0; i < PIECES; i++) {
		for (uint32_t b = 0; b < PIECE; b++)
			assert_int_equal(((uint8_t *)pieces[i].addr)[b],
					 fake_byte(1, i * PIECE + b));
	}
	/* A byte beyond the last one, and memory that was given back. */
	pieces[1].addr = mine[0] + SIZE - PIECE + 1;
	task.ended = 0;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -EINVAL);
	pieces[1].addr = mine[0];
	memories.items[3].base = NULL;
	task.ended = 0;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -EINVAL);
	for (size_t m = 0; m < 2; m++)
		far_transport_mem_dereg(memories.items[3 + m].mems[0]);
}

static void
bounds_are_checked_before_anything_is_read(void **state)
{
	struct far_slot *at = fake_donor_put(&rig.donor, 1, 0, 5000);
	struct far_loop_counts before, after;
	struct far_slot slot;

	(void)state;
	memcpy(&slot, at, sizeof(slot));
	slot.offset_64 = (uint32_t)((FAKE_SEGMENT_BYTES - 4096) / 64);
	fake_donor_slot_store(&rig.donor, at, &slot);
	load_make(1, 1, 5000);
	far_loop_counts_get(rig.fabric, &before);
	fake_task_run(&rig, &task);
	far_loop_counts_get(rig.fabric, &after);
	assert_int_equal(task.items[0].rc, -EBADMSG);
	assert_int_equal(after.ops, before.ops);
	assert_int_equal(rig.status.state, FAR_L2_UP);

	/* The caller's own: beyond the block, outside the arena, nothing at all. */
	(void)fake_donor_put(&rig.donor, 2, 0, 5000);
	load_make(2, 1, 5000);
	task.items[0].range_offset = 1;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -EMSGSIZE);
	assert_int_equal(task.items[0].size_bytes, 5000);
	load_make(2, 1, 5000);
	task.pieces[0].addr = rig.arena + FAKE_ARENA_BYTES - 4999;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -EINVAL);
	load_make(2, 1, 5000);
	task.items[0].piece_count = 0;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -EINVAL);
}

static void
a_hint_of_another_epoch_key_or_place_is_stale(void **state)
{
	struct far_loop_counts before, after;

	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	load_make(1, 1, 5000);
	task.items[0].hint[9]++; /* the epoch */
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -ESTALE);
	/* Where the slot lies: far outside, in the header, across two lines. */
	for (int i = 0; i < 3; i++) {
		load_make(1, 1, 5000);
		task.items[0].hint[8] = i == 0   ? UINT64_MAX - 63
					: i == 1 ? 64
						 : task.items[0].hint[8] + 8;
		far_loop_counts_get(rig.fabric, &before);
		fake_task_run(&rig, &task);
		far_loop_counts_get(rig.fabric, &after);
		assert_int_equal(task.items[0].rc, -ESTALE);
		assert_int_equal(after.ops, before.ops);
	}
	load_make(1, 1, 5000);
	task.items[0].hint[0] ^= 1; /* the slot is another key's */
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -ESTALE);
}

static void
a_forged_slot_is_found_out_behind_its_data(void **state)
{
	struct far_l2_status before = rig.status;

	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	for (uint32_t i = 2; i < 7; i++) {
		/* Generation, segment and offset, length and CRC, group and flags, reserved. */
		load_make(1, 1, 5000);
		task.items[0].hint[i] ^= i == 3 ? 1ULL << 32 : 1;
		fake_task_run(&rig, &task);
		if (i == 4) { /* the length that it has is another one */
			assert_int_equal(task.items[0].rc, -EMSGSIZE);
			continue;
		}
		assert_int_equal(task.items[0].rc, 0);
		assert_true(fake_bytes_are(&task, 0, 1));
	}
	assert_int_equal(rig.status.stale_rejects, before.stale_rejects + 5);
	/* A segment that there is not. */
	load_make(1, 1, 5000);
	task.items[0].hint[3] ^= 1;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
	assert_true(fake_bytes_are(&task, 0, 1));
}

static void
a_block_that_moved_is_read_from_its_new_place(void **state)
{
	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	load_make(1, 1, 5000);
	/* Repointed, and what was there is overwritten. */
	(void)fake_donor_put(&rig.donor, 1, 65536, 5000);
	memset(rig.donor.segment, 0xee, 5000);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
	assert_true(fake_bytes_are(&task, 0, 1));
	assert_int_equal(rig.status.moved_followed, 1);
	assert_int_equal(rig.status.stale_rejects, 1);
}

static void
a_block_that_is_gone_is_a_miss_and_its_neighbours_are_not(void **state)
{
	struct far_slot *at;

	(void)state;
	at = fake_donor_put(&rig.donor, 1, 0, 5000);
	(void)fake_donor_put(&rig.donor, 2, 8192, 5000);
	load_make(1, 2, 5000);
	memset(at, 0, sizeof(*at));
	memset(rig.donor.segment, 0xee, 5000);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -ESTALE);
	assert_int_equal(task.items[1].rc, 0);
	assert_true(fake_bytes_are(&task, 1, 2));
	assert_int_equal(rig.status.stale_rejects, 1);
}

/* Every time that the client has validated, the block is somewhere else again. */
static void
a_block_that_moves_all_the_time_is_followed_twice_only(void **state)
{
	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	load_make(1, 1, 5000);
	far_l2_submit(rig.l2, &task.task);
	for (uint32_t i = 1; i < 200 && task.ended == 0; i++) {
		(void)fake_donor_put(&rig.donor, 1, i * 8192ULL, 5000);
		fake_rig_run(&rig, 500);
	}
	assert_int_equal(task.ended, 1);
	assert_int_equal(task.items[0].rc, -ESTALE);
	assert_int_equal(rig.status.moved_followed, 2);
	assert_int_equal(rig.status.stale_rejects, 3);
}

static void
a_block_that_came_back_with_another_length_is_not_mistaken(void **state)
{
	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	load_make(1, 1, 5000);
	(void)fake_donor_put(&rig.donor, 1, 65536, 6000);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -EMSGSIZE);
	assert_int_equal(task.items[0].size_bytes, 6000);
}

static void
a_torn_live_line_is_validated_again(void **state)
{
	uint8_t *live = rig.donor.index + rig.donor.layout.live_at;

	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	load_make(1, 1, 5000);
	live[20] ^= 1;
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, 5 * FAR_NS_PER_US);
	assert_int_equal(task.ended, 0);
	live[20] ^= 1;
	fake_rig_run(&rig, 20 * FAR_NS_PER_US);
	assert_int_equal(task.ended, 1);
	assert_int_equal(task.items[0].rc, 0);
	assert_true(rig.status.torn_rereads > 0);
}

static void
an_epoch_that_moved_on_fails_the_load_and_the_link(void **state)
{
	(void)state;
	far_log_capture_expect("epoch moved on");
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	load_make(1, 1, 5000);
	fake_donor_live_set(&rig.donor, FAKE_EPOCH + 1, FAR_INDEX_SERVING);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -EHOSTDOWN);
	assert_int_equal(rig.status.rc, -ESTALE);
	fake_donor_live_set(&rig.donor, FAKE_EPOCH, FAR_INDEX_SERVING);
}

static void
no_more_is_posted_after_the_deadline(void **state)
{
	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	fake_task_make(&rig, &task, FAR_L2_LOAD, 1, 1, 5000);
	/* Time for the lookup, not for the data. */
	task.task.deadline_ns = far_clock_now(rig.clock) + 500;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -ETIMEDOUT);
}

static void
a_list_that_fails_costs_only_the_block_that_fails(void **state)
{
	struct far_slot *at;
	struct far_slot slot;

	(void)state;
	for (uint32_t i = 1; i <= 4; i++)
		(void)fake_donor_put(&rig.donor, i, i * 8192ULL, 5000);
	/* A segment whose key this side was never given. */
	at = fake_donor_put(&rig.donor, 5, 0, 5000);
	memcpy(&slot, at, sizeof(slot));
	slot.segment = 33;
	fake_donor_slot_store(&rig.donor, at, &slot);
	rig.donor.segment_mem->remote.rkey.bytes[9] ^= 1;
	fake_donor_segment_line(&rig.donor, 6, 33, FAKE_SEGMENT_BYTES);
	rig.donor.segment_mem->remote.rkey.bytes[9] ^= 1;
	fake_task_make(&rig, &task, FAR_L2_LOAD, 1, 5, 5000);
	fake_task_run(&rig, &task);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(task.items[i].rc, 0);
		assert_true(fake_bytes_are(&task, i, i + 1));
	}
	assert_int_equal(task.items[4].rc, -ESTALE);
	assert_int_equal(rig.status.state, FAR_L2_UP);
}

/* A donor and a client that verifies, over links that sum READs, or not; a byte of block 1 is not what it was. */
static void
verify_open(uint32_t sums_from)
{
	fake_rig_close(&rig);
	fake_rig_open_summing(&rig, sums_from);
	fake_rig_client(&rig, true);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	(void)fake_donor_put(&rig.donor, 2, 8192, 5000);
	rig.donor.segment[4000] ^= 1;
}

static void
a_wrong_checksum_is_refused_and_reported_when_asked_for(void **state)
{
	(void)state;
	for (uint32_t sums = 0; sums < 2; sums++) {
		const struct far_frame_reject *reject;
		struct far_loop_counts counts;

		verify_open(sums);
		load_make(1, 2, 5000);
		fake_task_run(&rig, &task);
		assert_int_equal(task.items[0].rc, -EBADMSG);
		assert_int_equal(task.items[1].rc, 0);
		assert_int_equal(rig.status.crc_rejects, 1);
		fake_rig_run(&rig, FAR_NS_PER_MS);
		assert_int_equal(rig.donor.counts[FAR_FRAME_REJECT], 1);
		reject = rig.donor.frame.body;
		assert_memory_equal(reject->slot, task.items[0].hint, FAR_SLOT_BYTES);
		/* Who copies the bytes sums them, and nobody reads them again. */
		far_loop_counts_get(rig.fabric, &counts);
		assert_int_equal(counts.summed, sums == 0 ? 0 : 2);
	}
}

static void
what_cannot_be_summed_on_its_way_is_read_again(void **state)
{
	struct far_loop_counts counts;

	(void)state;
	verify_open(1);
	/* A range has no checksum of its own. */
	load_make(1, 1, 5000);
	task.items[0].range_offset = 3999;
	task.pieces[0].size_bytes = 100;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
	/* More pieces than an op has. */
	load_make(1, 2, 5000);
	for (uint32_t i = 0; i < 20; i++) {
		task.pieces[i] = (struct far_l2_piece){rig.arena + 300 * i, 250};
		task.pieces[20 + i] = (struct far_l2_piece){rig.arena + 300 * (20 + i), 250};
	}
	for (uint32_t i = 0; i < 2; i++) {
		task.items[i].pieces = &task.pieces[20 * i];
		task.items[i].piece_count = 20;
	}
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -EBADMSG);
	assert_int_equal(task.items[1].rc, 0);
	far_loop_counts_get(rig.fabric, &counts);
	assert_int_equal(counts.summed, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		CLAIM(blocks_are_loaded_by_hint_and_without_one),
		CLAIM(a_load_allocates_nothing_and_asks_a_stopped_donor_nothing),
		CLAIM(a_range_lands_in_many_pieces),
		CLAIM(pieces_may_lie_in_several_memories_that_are_registered),
		CLAIM(bounds_are_checked_before_anything_is_read),
		CLAIM(a_hint_of_another_epoch_key_or_place_is_stale),
		CLAIM(a_forged_slot_is_found_out_behind_its_data),
		CLAIM(a_block_that_moved_is_read_from_its_new_place),
		CLAIM(a_block_that_is_gone_is_a_miss_and_its_neighbours_are_not),
		CLAIM(a_block_that_moves_all_the_time_is_followed_twice_only),
		CLAIM(a_block_that_came_back_with_another_length_is_not_mistaken),
		CLAIM(a_torn_live_line_is_validated_again),
		CLAIM(an_epoch_that_moved_on_fails_the_load_and_the_link),
		CLAIM(no_more_is_posted_after_the_deadline),
		CLAIM(a_list_that_fails_costs_only_the_block_that_fails),
		CLAIM(a_wrong_checksum_is_refused_and_reported_when_asked_for),
		CLAIM(what_cannot_be_summed_on_its_way_is_read_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
