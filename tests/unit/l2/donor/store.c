/* store.c - lanes are filled front to back, committed behind their WRITEs, ended and given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/checksum.h"
#include "base/helpers.h"
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

static void
all_have(const struct fake_task *done, uint32_t count, int rc)
{
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(done->items[i].rc, rc);
}

static void
stored_blocks_are_there_aligned_in_order_and_can_be_loaded(void **state)
{
	uint64_t end = 0;

	(void)state;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 20, 5000);
	task.items[3].group = 77;
	fake_task_run(&rig, &task);
	all_have(&task, 20, 0);
	assert_int_equal(rig.donor.counts[FAR_FRAME_LANE_ASK], 1);
	assert_int_equal(rig.donor.counts[FAR_FRAME_COMMIT], 1);
	assert_int_equal(rig.donor.commit.count, 20);
	assert_int_equal(rig.donor.blocks[3].group, 77);
	for (uint32_t i = 0; i < 20; i++) {
		uint64_t at = rig.donor.blocks[i].offset_64 * 64ULL;

		assert_true(at >= end);
		assert_int_equal(at % FAR_EXTENT_ALIGN_BIG, 0);
		assert_int_equal(rig.donor.blocks[i].crc32c,
				 far_crc32c(0, rig.donor.segment + at, 5000));
		end = at + 5000;
	}
	fake_task_make(&rig, &task, FAR_L2_LOAD, 1, 20, 5000);
	fake_task_run(&rig, &task);
	all_have(&task, 20, 0);
	for (uint32_t i = 0; i < 20; i++)
		assert_true(fake_bytes_are(&task, i, i + 1));
	assert_int_equal(rig.status.stores, 20);
	assert_int_equal(rig.status.store_bytes, 100000);
}

static void
hundred_are_stored_without_allocation(void)
{
	/* The first one makes the donor register a lane. */
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 1, 5000);
	fake_task_run(&rig, &task);
	fake_task_make(&rig, &task, FAR_L2_STORE, 2, 100, 5000);
	far_alloc_lock();
	fake_task_run(&rig, &task);
	far_alloc_unlock();
	all_have(&task, 100, 0);
}

static void
a_store_allocates_nothing(void **state)
{
	(void)state;
	hundred_are_stored_without_allocation();
}

static void
what_the_index_shows_is_not_written(void **state)
{
	struct far_loop_counts before, after;

	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 65536, 5000);
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 1, 5000);
	far_loop_counts_get(rig.fabric, &before);
	fake_task_run(&rig, &task);
	far_loop_counts_get(rig.fabric, &after);
	all_have(&task, 1, -EEXIST);
	assert_int_equal(after.messages, before.messages);
	assert_int_equal(rig.status.stores_had, 1);
}

static void
a_checksum_that_is_given_is_passed_on(void **state)
{
	(void)state;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 1, 5000);
	task.items[0].crc32c = 0x12345678;
	task.items[0].has_crc = true;
	fake_task_run(&rig, &task);
	assert_int_equal(rig.donor.blocks[0].crc32c, 0x12345678);
}

static void
checksums_are_shared_with_helpers(void **state)
{
	struct far_helpers *helpers;

	(void)state;
	fake_rig_close(&rig);
	fake_rig_open(&rig);
	assert_int_equal(far_helpers_open("test", 2, 100 * FAR_NS_PER_US, &helpers), 0);
	rig.helpers = helpers;
	fake_rig_up(&rig);
	for (uint32_t round = 0; round < 5; round++) {
		fake_task_make(&rig, &task, FAR_L2_STORE, 1 + round * 60, 60, 12000);
		task.items[7].crc32c = 0x12345678;
		task.items[7].has_crc = true;
		fake_task_run(&rig, &task);
		all_have(&task, 60, 0);
		assert_int_equal(rig.donor.commit.count, 60);
		for (uint32_t i = 0; i < 60; i++) {
			uint64_t at = rig.donor.blocks[i].offset_64 * 64ULL;
			uint32_t crc = far_crc32c(0, rig.donor.segment + at, 12000);

			assert_int_equal(rig.donor.blocks[i].crc32c, i == 7 ? 0x12345678 : crc);
		}
	}
	/* Nothing is stored any more. */
	far_helpers_close(helpers);
}

/* The rig anew, on a fabric that tells checksums of WRITEs from so many bytes on. */
static void
summing_open(uint32_t sums_from)
{
	fake_rig_close(&rig);
	fake_rig_open_summing(&rig, sums_from);
	fake_rig_up(&rig);
}

static void
committed_sums_are_right(const struct fake_task *done)
{
	assert_int_equal(rig.donor.commit.count, done->task.count);
	for (uint32_t i = 0; i < done->task.count; i++) {
		const struct far_frame_block *block = &rig.donor.blocks[i];
		const uint8_t *bytes = rig.donor.segment + block->offset_64 * 64ULL;

		assert_int_equal(block->crc32c, far_crc32c(0, bytes, block->size_bytes));
	}
}

/* Those that it tells, and beside them one that came with its own. */
static void
a_commit_waits_for_the_checksums_that_come_with_its_writes(void **state)
{
	(void)state;
	summing_open(50000);
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 20, 5000);
	fake_task_run(&rig, &task);
	all_have(&task, 20, 0);
	assert_int_equal(rig.donor.counts[FAR_FRAME_COMMIT], 1);
	committed_sums_are_right(&task);

	fake_task_make(&rig, &task, FAR_L2_STORE, 30, 12, 5000);
	task.items[0].crc32c = 0x12345678;
	task.items[0].has_crc = true;
	fake_task_run(&rig, &task);
	all_have(&task, 12, 0);
	assert_int_equal(rig.donor.blocks[0].crc32c, 0x12345678);
	rig.donor.blocks[0].crc32c =
		far_crc32c(0, rig.donor.segment + rig.donor.blocks[0].offset_64 * 64ULL, 5000);
	committed_sums_are_right(&task);
}

static uint64_t
time_to_commit(struct fake_task *stored)
{
	uint32_t commits = rig.donor.counts[FAR_FRAME_COMMIT];
	uint64_t since_ns = far_clock_now(rig.clock), took_ns;

	far_l2_submit(rig.l2, &stored->task);
	while (rig.donor.counts[FAR_FRAME_COMMIT] == commits)
		fake_rig_run(&rig, 100);
	took_ns = far_clock_now(rig.clock) - since_ns;
	committed_sums_are_right(stored);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	all_have(stored, stored->task.count, 0);
	return took_ns;
}

/* It would wait for longer than its checksums take: its COMMIT goes right behind its WRITEs. */
static void
a_short_batch_has_checksums_of_its_own(void **state)
{
	uint64_t short_ns, long_ns;

	(void)state;
	summing_open(75000); /* 9 blocks and what lies between them have 70536 */
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 1, 5000);
	fake_task_run(&rig, &task);
	fake_task_make(&rig, &task, FAR_L2_STORE, 2, 9, 5000);
	short_ns = time_to_commit(&task);
	fake_task_make(&rig, &task, FAR_L2_STORE, 20, 10, 5000);
	long_ns = time_to_commit(&task);
	/* The completion's latency. */
	assert_true(long_ns >= short_ns + 900);
}

static void
a_block_of_more_pieces_than_an_op_takes_has_a_checksum_of_its_own(void **state)
{
	static struct far_l2_piece pieces[FAR_PIECES_MAX + 5];

	(void)state;
	summing_open(64);
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 3, 21000);
	for (uint32_t i = 0; i < FAR_PIECES_MAX + 5; i++)
		pieces[i] = (struct far_l2_piece){.addr = (uint8_t *)task.pieces[1].addr +
							  (size_t)i * 1000,
						  .size_bytes = 1000};
	task.items[1].pieces = pieces;
	task.items[1].piece_count = FAR_PIECES_MAX + 5;
	fake_task_run(&rig, &task);
	all_have(&task, 3, 0);
	committed_sums_are_right(&task);
}

static void
a_store_that_waits_for_checksums_allocates_nothing(void **state)
{
	(void)state;
	summing_open(64);
	hundred_are_stored_without_allocation();
}

/* Into a lane whose grant names no memory of the donor's. */
static void
two_stored_by_a_key_that_does_not_work(void)
{
	struct far_frame_lane_grant grant = {
		.serial = 100,
		.segment = FAKE_SEGMENT,
		.size_bytes = FAKE_LANE_BYTES,
	};

	far_log_capture_expect("donor fake");
	rig.donor.grants = false;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 2, 5000);
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	fake_donor_send(&rig.donor, FAR_FRAME_LANE_GRANT, rig.donor.tags[FAR_FRAME_LANE_ASK],
			&grant, NULL, 0);
}

/* No COMMIT speaks of bytes that never came. */
static void
a_write_that_fails_before_its_commit_commits_nothing(void **state)
{
	(void)state;
	summing_open(64);
	two_stored_by_a_key_that_does_not_work();
	fake_rig_run(&rig, 10 * FAR_NS_PER_MS);
	assert_int_equal(task.ended, 1);
	assert_true(task.items[0].rc == -EHOSTDOWN || task.items[0].rc == -EIO);
	assert_int_equal(rig.donor.counts[FAR_FRAME_COMMIT], 0);
}

static void
answer(uint32_t count)
{
	struct far_frame_committed body = {.serial = 100, .count = count};
	int32_t results[8] = {0};

	fake_donor_send(&rig.donor, FAR_FRAME_COMMITTED, rig.donor.tags[FAR_FRAME_COMMIT], &body,
			results, count);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
}

/* Two batches are on their way: what comes meanwhile goes as one. */
static void
blocks_gather_behind_two_batches(void **state)
{
	static struct fake_task tasks[6];

	(void)state;
	rig.donor.answers = false;
	for (uint32_t i = 0; i < 6; i++) {
		fake_task_make(&rig, &tasks[i], FAR_L2_STORE, 1 + i, 1, 5000);
		far_l2_submit(rig.l2, &tasks[i].task);
		fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	}
	assert_int_equal(rig.donor.counts[FAR_FRAME_COMMIT], 2);
	answer(1);
	assert_int_equal(tasks[1].ended, 1);
	assert_int_equal(rig.donor.counts[FAR_FRAME_COMMIT], 3);
	assert_int_equal(rig.donor.commit.count, 4);
	answer(4);
	for (uint32_t i = 1; i < 6; i++)
		assert_int_equal(tasks[i].items[0].rc, 0);
	assert_int_equal(tasks[0].ended, 0);
	rig.donor.tags[FAR_FRAME_COMMIT] -= 2;
	answer(1);
	assert_int_equal(tasks[0].items[0].rc, 0);
}

static void
what_gathers_has_its_deadline(void **state)
{
	static struct fake_task tasks[3];

	(void)state;
	rig.donor.answers = false;
	for (uint32_t i = 0; i < 3; i++) {
		fake_task_make(&rig, &tasks[i], FAR_L2_STORE, 1 + i, 1, 5000);
		tasks[i].task.deadline_ns = far_clock_now(rig.clock) + FAR_NS_PER_MS;
		far_l2_submit(rig.l2, &tasks[i].task);
		fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	}
	assert_int_equal(rig.donor.counts[FAR_FRAME_COMMIT], 2);
	fake_rig_run(&rig, 2 * FAR_NS_PER_MS);
	assert_int_equal(tasks[2].ended, 1);
	assert_int_equal(tasks[2].items[0].rc, -ETIMEDOUT);
}

/* A batch's worth does not wait for anybody. */
static void
a_full_batch_goes_while_two_are_on_their_way(void **state)
{
	static struct fake_task tasks[3];

	(void)state;
	rig.donor.answers = false;
	for (uint32_t i = 0; i < 2; i++) {
		fake_task_make(&rig, &tasks[i], FAR_L2_STORE, 1 + i, 1, 64);
		far_l2_submit(rig.l2, &tasks[i].task);
		fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	}
	fake_task_make(&rig, &task, FAR_L2_STORE, 10, 255, 64);
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	assert_int_equal(rig.donor.counts[FAR_FRAME_COMMIT], 2);
	fake_task_make(&rig, &tasks[2], FAR_L2_STORE, 500, 1, 64);
	far_l2_submit(rig.l2, &tasks[2].task);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	assert_int_equal(rig.donor.counts[FAR_FRAME_COMMIT], 3);
	assert_int_equal(rig.donor.commit.count, 256);
	rig.donor.answers = true;
}

static void
blocks_on_a_device_are_committed_without_a_checksum(void **state)
{
	(void)state;
	fake_rig_close(&rig);
	fake_rig_open(&rig);
	rig.device = true;
	fake_rig_up(&rig);
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 3, 5000);
	task.items[1].crc32c = 0x12345678;
	task.items[1].has_crc = true;
	fake_task_run(&rig, &task);
	all_have(&task, 3, 0);
	assert_int_equal(rig.donor.blocks[0].flags, FAR_SLOT_NO_CRC);
	assert_int_equal(rig.donor.blocks[0].crc32c, 0);
	assert_int_equal(rig.donor.blocks[1].flags, 0);
	assert_int_equal(rig.donor.blocks[1].crc32c, 0x12345678);
	assert_int_equal(rig.donor.blocks[2].flags, FAR_SLOT_NO_CRC);
}

static void
a_full_lane_is_ended_with_its_last_commit_and_the_next_is_used(void **state)
{
	(void)state;
	/* 4 MiB lanes, 7 MiB of blocks. */
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 7, 1 << 20);
	fake_task_run(&rig, &task);
	all_have(&task, 7, 0);
	assert_int_equal(rig.donor.lanes, 2);
	assert_int_equal(rig.donor.ends, 1);
	assert_int_equal(rig.donor.commit.serial, 101);
	assert_int_equal(rig.donor.commit.flags, 0);
	fake_task_make(&rig, &task, FAR_L2_LOAD, 1, 7, 1 << 20);
	fake_task_run(&rig, &task);
	for (uint32_t i = 0; i < 7; i++)
		assert_true(fake_bytes_are(&task, i, i + 1));
}

static void
a_full_donor_is_said_at_once_and_asked_again_by_later_tasks(void **state)
{
	(void)state;
	rig.donor.grants = false;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 5, 5000);
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	assert_int_equal(rig.donor.counts[FAR_FRAME_LANE_ASK], 1);
	fake_donor_send(&rig.donor, FAR_FRAME_LANE_FULL, rig.donor.tags[FAR_FRAME_LANE_ASK], NULL,
			NULL, 0);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	assert_int_equal(task.ended, 1);
	all_have(&task, 5, -ENOSPC);
	fake_rig_run(&rig, 10 * FAR_NS_PER_MS);
	assert_int_equal(rig.donor.counts[FAR_FRAME_LANE_ASK], 1); /* nobody waits: nobody asks */
	rig.donor.grants = true;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 5, 5000);
	fake_task_run(&rig, &task);
	all_have(&task, 5, 0);
}

static void
a_lane_in_reserve_is_asked_for_once_while_it_is_denied(void **state)
{
	(void)state;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 1, 64);
	fake_task_run(&rig, &task);
	rig.donor.grants = false;
	fake_task_make(&rig, &task, FAR_L2_STORE, 2, 1, 7 << 19); /* most of the lane */
	fake_task_run(&rig, &task);
	assert_int_equal(rig.donor.counts[FAR_FRAME_LANE_ASK], 2);
	fake_donor_send(&rig.donor, FAR_FRAME_LANE_FULL, rig.donor.tags[FAR_FRAME_LANE_ASK], NULL,
			NULL, 0);
	fake_rig_run(&rig, 10 * FAR_NS_PER_MS);
	assert_int_equal(rig.donor.counts[FAR_FRAME_LANE_ASK], 2);
	/* The open lane still takes what fits. */
	fake_task_make(&rig, &task, FAR_L2_STORE, 3, 1, 5000);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
}

static void
a_recalled_lane_is_ended_at_once_when_idle(void **state)
{
	struct far_frame_lane recall = {.serial = 100};

	(void)state;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 1, 5000);
	fake_task_run(&rig, &task);
	fake_donor_send(&rig.donor, FAR_FRAME_LANE_RECALL, 0, &recall, NULL, 0);
	fake_rig_run(&rig, 5 * FAR_NS_PER_US);
	assert_int_equal(rig.donor.ends, 1);
	assert_int_equal(rig.donor.commit.count, 0);
	/* Asked twice, or for a lane of long ago: nothing happens. */
	fake_donor_send(&rig.donor, FAR_FRAME_LANE_RECALL, 0, &recall, NULL, 0);
	fake_rig_run(&rig, 5 * FAR_NS_PER_US);
	assert_int_equal(rig.donor.ends, 1);
	fake_task_make(&rig, &task, FAR_L2_STORE, 2, 1, 5000);
	fake_task_run(&rig, &task);
	assert_int_equal(rig.donor.commit.serial, 101);
}

static void
a_stopped_donor_times_out_what_waits_and_keeps_what_is_posted(void **state)
{
	static struct fake_task second;

	(void)state;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 1, 5000);
	fake_task_run(&rig, &task);
	(void)fake_donor_put(&rig.donor, 50, 1 << 20, 5000);
	far_loop_host_pause(rig.fabric, "fake", true);

	fake_task_make(&rig, &task, FAR_L2_STORE, 2, 1, 5000);
	task.task.deadline_ns = far_clock_now(rig.clock) + FAR_NS_PER_MS;
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, 200 * FAR_NS_PER_MS);
	assert_int_equal(task.ended, 0); /* its COMMIT is on the way: only its answer tells */

	/* A second one needs a lane that nobody grants: 5 MiB do not fit in the rest. */
	fake_task_make(&rig, &second, FAR_L2_STORE, 10, 5, 1 << 20);
	second.task.deadline_ns = far_clock_now(rig.clock) + FAR_NS_PER_MS;
	far_l2_submit(rig.l2, &second.task);
	fake_rig_run(&rig, 100 * FAR_NS_PER_MS);
	assert_int_equal(second.items[4].rc, -ETIMEDOUT);

	assert_int_equal(rig.status.state, FAR_L2_UP); /* no deadline tears the link down */
	far_loop_host_pause(rig.fabric, "fake", false);
	fake_rig_run(&rig, 10 * FAR_NS_PER_MS);
	assert_int_equal(task.ended, 1);
	all_have(&task, 1, 0);
	assert_int_equal(second.ended, 1);
}

static void
without_credit_commits_wait_and_arrive_in_order(void **state)
{
	static struct fake_task tasks[60];

	(void)state;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 1, 64);
	fake_task_run(&rig, &task);
	far_loop_host_pause(rig.fabric, "fake", true);
	for (uint32_t i = 0; i < 60; i++) {
		fake_task_make(&rig, &tasks[i], FAR_L2_STORE, 100 + i, 1, 64);
		for (uint32_t at = 0; at < 64; at++)
			rig.arena[i * 64 + at] = fake_byte(100 + i, at);
		tasks[i].pieces[0].addr = rig.arena + i * 64ULL;
		far_l2_submit(rig.l2, &tasks[i].task);
		fake_rig_run(&rig, 20 * FAR_NS_PER_US);
	}
	far_loop_host_pause(rig.fabric, "fake", false);
	fake_rig_run(&rig, 50 * FAR_NS_PER_MS);
	for (uint32_t i = 0; i < 60; i++) {
		assert_int_equal(tasks[i].ended, 1);
		assert_int_equal(tasks[i].items[0].rc, 0);
	}
}

static void
sizes_that_fit_no_lane_are_refused(void **state)
{
	(void)state;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 3, 5000);
	task.pieces[0].size_bytes = FAKE_LANE_BYTES + 1;
	task.items[1].piece_count = 0;
	task.pieces[2].addr = rig.arena - 64;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -EMSGSIZE);
	assert_int_equal(task.items[1].rc, -EINVAL);
	assert_int_equal(task.items[2].rc, -EINVAL);
}

static void
an_answer_for_other_blocks_costs_the_link(void **state)
{
	struct far_frame_committed body = {.serial = 100, .count = 1};
	int32_t results[1] = {0};

	(void)state;
	far_log_capture_expect("COMMITTED");
	rig.donor.answers = false;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 2, 5000);
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	fake_donor_send(&rig.donor, FAR_FRAME_COMMITTED, rig.donor.tags[FAR_FRAME_COMMIT], &body,
			results, 1);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	assert_int_equal(task.ended, 1);
	all_have(&task, 2, -EHOSTDOWN); /* nobody can say */
	assert_int_equal(rig.status.rc, -EPROTO);
}

static void
what_the_donor_says_per_block_is_what_the_items_get(void **state)
{
	struct far_frame_committed body = {.serial = 100, .count = 3};
	int32_t results[3] = {0, -EEXIST, -ENOSPC};

	(void)state;
	rig.donor.answers = false;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 3, 5000);
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	fake_donor_send(&rig.donor, FAR_FRAME_COMMITTED, rig.donor.tags[FAR_FRAME_COMMIT], &body,
			results, 3);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(task.items[i].rc, results[i]);
	assert_int_equal(rig.status.stores, 1);
	assert_int_equal(rig.status.stores_had, 1);
}

/* The buffers are named by the WRITE until it has completed, whatever the donor says. */
static void
an_answer_that_overtakes_the_write_ends_nothing(void **state)
{
	struct far_frame_committed body = {.serial = 100, .count = 1};
	int32_t results[1] = {0};
	uint64_t tag;

	(void)state;
	rig.donor.grants = false;
	rig.donor.answers = false;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 1, 5000);
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	tag = rig.donor.tags[FAR_FRAME_LANE_ASK];
	fake_donor_grant(&rig.donor, tag);
	fake_donor_send(&rig.donor, FAR_FRAME_COMMITTED, tag + 1, &body, results, 1);
	fake_rig_run(&rig, 1500);
	assert_int_equal(rig.status.messages_received, 3); /* welcome, grant, answer */
	assert_int_equal(task.ended, 0);
	fake_rig_run(&rig, 10 * FAR_NS_PER_US);
	assert_int_equal(task.ended, 1);
	assert_int_equal(task.items[0].rc, 0);
}

static void
a_lane_whose_key_does_not_work_fails_its_blocks(void **state)
{
	(void)state;
	rig.donor.answers = false;
	two_stored_by_a_key_that_does_not_work();
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	assert_int_equal(task.ended, 1);
	assert_true(task.items[0].rc == -EHOSTDOWN || task.items[0].rc == -EIO);
	/* Whoever may have taken the COMMIT for the truth has lost the link. */
	assert_int_equal(rig.status.times_down, 1);
}

static void
quiesce_ends_the_open_lane(void **state)
{
	(void)state;
	fake_task_make(&rig, &task, FAR_L2_STORE, 1, 1, 5000);
	fake_task_run(&rig, &task);
	far_l2_quiesce(rig.l2);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_true(far_l2_quiesced(rig.l2));
	assert_int_equal(rig.donor.ends, 1);
	assert_int_equal(rig.donor.counts[FAR_FRAME_BYE], 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		CLAIM(stored_blocks_are_there_aligned_in_order_and_can_be_loaded),
		CLAIM(a_store_allocates_nothing),
		CLAIM(what_the_index_shows_is_not_written),
		CLAIM(a_checksum_that_is_given_is_passed_on),
		CLAIM(checksums_are_shared_with_helpers),
		CLAIM(a_commit_waits_for_the_checksums_that_come_with_its_writes),
		CLAIM(a_short_batch_has_checksums_of_its_own),
		CLAIM(a_block_of_more_pieces_than_an_op_takes_has_a_checksum_of_its_own),
		CLAIM(a_store_that_waits_for_checksums_allocates_nothing),
		CLAIM(a_write_that_fails_before_its_commit_commits_nothing),
		CLAIM(blocks_gather_behind_two_batches),
		CLAIM(what_gathers_has_its_deadline),
		CLAIM(a_full_batch_goes_while_two_are_on_their_way),
		CLAIM(blocks_on_a_device_are_committed_without_a_checksum),
		CLAIM(a_full_lane_is_ended_with_its_last_commit_and_the_next_is_used),
		CLAIM(a_full_donor_is_said_at_once_and_asked_again_by_later_tasks),
		CLAIM(a_lane_in_reserve_is_asked_for_once_while_it_is_denied),
		CLAIM(a_recalled_lane_is_ended_at_once_when_idle),
		CLAIM(a_stopped_donor_times_out_what_waits_and_keeps_what_is_posted),
		CLAIM(without_credit_commits_wait_and_arrive_in_order),
		CLAIM(sizes_that_fit_no_lane_are_refused),
		CLAIM(an_answer_for_other_blocks_costs_the_link),
		CLAIM(what_the_donor_says_per_block_is_what_the_items_get),
		CLAIM(an_answer_that_overtakes_the_write_ends_nothing),
		CLAIM(a_lane_whose_key_does_not_work_fails_its_blocks),
		CLAIM(quiesce_ends_the_open_lane),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
