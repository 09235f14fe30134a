/* lookup.c - keys are found by READs alone; torn slots are read again, wrong lengths are misses. */
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

static void
many_keys_are_found_without_a_message(void **state)
{
	uint64_t messages = rig.status.messages_sent;

	(void)state;
	for (uint32_t i = 0; i < FAKE_ITEMS; i += 2)
		(void)fake_donor_put(&rig.donor, i, i * 128ULL, 100 + i);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 0, FAKE_ITEMS, 0);
	fake_task_run(&rig, &task);
	for (uint32_t i = 0; i < FAKE_ITEMS; i++) {
		assert_int_equal(task.items[i].rc, i % 2 == 0 ? 0 : -ENOENT);
		if (i % 2 == 0)
			assert_int_equal(task.items[i].size_bytes, 100 + i);
	}
	assert_int_equal(rig.status.messages_sent, messages);
	assert_int_equal(rig.status.lookups, FAKE_ITEMS);
	assert_int_equal(rig.status.lookup_hits, FAKE_ITEMS / 2);
}

static void
a_lookup_allocates_nothing(void **state)
{
	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 100);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 0, 200, 0);
	far_alloc_lock();
	fake_task_run(&rig, &task);
	far_alloc_unlock();
	assert_int_equal(task.items[1].rc, 0);
}

static void
a_stopped_donor_is_looked_up_for_ever(void **state)
{
	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 100);
	far_loop_host_pause(rig.fabric, "fake", true);
	for (int i = 0; i < 200; i++) {
		fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
		fake_task_run(&rig, &task);
		assert_int_equal(task.items[0].rc, 0);
	}
	assert_int_equal(rig.status.state, FAR_L2_UP);
	far_loop_host_pause(rig.fabric, "fake", false);
}

static void
another_length_is_a_counted_miss(void **state)
{
	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 100);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	task.items[0].size_bytes = 101;
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -EMSGSIZE);
	assert_int_equal(task.items[0].size_bytes, 100);
	assert_int_equal(rig.status.length_misses, 1);
}

static void
a_torn_slot_is_read_again_until_it_is_whole(void **state)
{
	struct far_slot *at = fake_donor_put(&rig.donor, 1, 0, 100);

	(void)state;
	at->crc32c ^= 1;
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, 3 * FAR_NS_PER_US);
	assert_int_equal(task.ended, 0);
	at->crc32c ^= 1;
	fake_rig_run(&rig, 10 * FAR_NS_PER_US);
	assert_int_equal(task.ended, 1);
	assert_int_equal(task.items[0].rc, 0);
	assert_true(rig.status.torn_rereads > 0);
}

static void
a_slot_that_stays_torn_is_a_miss_after_eight_rereads(void **state)
{
	struct far_slot *at = fake_donor_put(&rig.donor, 1, 0, 100);

	(void)state;
	at->crc32c ^= 1;
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 2, 0);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -ENOENT);
	assert_int_equal(task.items[1].rc, -ENOENT);
	assert_true(rig.status.torn_rereads >= 8);
	assert_true(rig.status.torn_rereads <= 16);
}

static void
a_slot_of_another_epoch_is_not_believed(void **state)
{
	struct far_slot *at = fake_donor_put(&rig.donor, 1, 0, 100);
	struct far_slot slot;

	(void)state;
	memcpy(&slot, at, sizeof(slot));
	far_slot_seal(&slot, FAKE_EPOCH + 1);
	far_line_store(at, &slot);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -ENOENT);
}

static void
cancel_and_deadline_end_what_is_not_posted(void **state)
{
	(void)state;
	/* Nothing is posted for a task whose deadline has passed. */
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	task.task.deadline_ns = far_clock_now(rig.clock);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -ETIMEDOUT);
	/* What is posted ends as it ends: here it was found. */
	(void)fake_donor_put(&rig.donor, 1, 0, 100);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	far_l2_submit(rig.l2, &task.task);
	far_l2_cancel(rig.l2, &task.task);
	assert_int_equal(task.ended, 0);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(task.ended, 1);
	assert_int_equal(task.items[0].rc, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		CLAIM(many_keys_are_found_without_a_message),
		CLAIM(a_lookup_allocates_nothing),
		CLAIM(a_stopped_donor_is_looked_up_for_ever),
		CLAIM(another_length_is_a_counted_miss),
		CLAIM(a_torn_slot_is_read_again_until_it_is_whole),
		CLAIM(a_slot_that_stays_torn_is_a_miss_after_eight_rereads),
		CLAIM(a_slot_of_another_epoch_is_not_believed),
		CLAIM(cancel_and_deadline_end_what_is_not_posted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
