/* index.c - header and segment table: checked, read again when torn, refused when they lie. */
#include <errno.h>
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
header_store(void)
{
	far_index_header_seal(&rig.donor.header);
	memcpy(rig.donor.index, &rig.donor.header, sizeof(rig.donor.header));
}

/* Placement lets another donor stand in for one that is away. */
static void
one_that_recovers_takes_no_blocks_until_it_has(void **state)
{
	(void)state;
	fake_donor_live_set(&rig.donor, FAKE_EPOCH, FAR_INDEX_RECOVERING);
	fake_rig_client(&rig, false);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	assert_true(rig.l2->away);
	fake_rig_run(&rig, FAR_NS_PER_S);
	assert_true(rig.l2->away);
	/* Nobody asks it for anything: the adapter looks by itself. */
	fake_donor_live_set(&rig.donor, FAKE_EPOCH, FAR_INDEX_SERVING);
	fake_rig_run(&rig, 200 * FAR_NS_PER_MS);
	assert_false(rig.l2->away);

	/* Under one epoch it does not begin again, whatever a line says that was read before. */
	fake_donor_live_set(&rig.donor, FAKE_EPOCH, FAR_INDEX_RECOVERING);
	(void)fake_donor_put(&rig.donor, 2, 128, 100);
	fake_task_make(&rig, &task, FAR_L2_LOAD, 2, 1, 100); /* its validation reads the line */
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
	assert_false(rig.l2->away);
}

/* Where a predecessor's slots wait to be recovered, eight more looks at each key would find nothing new. */
static void
one_that_recovers_is_looked_at_once_more(void **state)
{
	struct far_slot *at = fake_donor_put(&rig.donor, 1, 0, 100);
	struct far_slot slot, before;

	(void)state;
	memcpy(&before, at, sizeof(before));
	slot = before;
	far_slot_seal(&slot, FAKE_EPOCH + 1);
	far_line_store(at, &slot);
	fake_donor_live_set(&rig.donor, FAKE_EPOCH, FAR_INDEX_RECOVERING);
	fake_rig_up(&rig);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -ENOENT);
	assert_int_equal(rig.status.torn_rereads, 1);

	/* Recovered: it is found, though its state was not read again. */
	far_line_store(at, &before);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
}

/* A block that it has already is loaded, and the line that the load reads says that it has recovered. */
static void
a_load_sees_that_a_donor_has_recovered(void **state)
{
	(void)state;
	(void)fake_donor_put(&rig.donor, 2, 128, 100);
	fake_donor_live_set(&rig.donor, FAKE_EPOCH, FAR_INDEX_RECOVERING);
	fake_rig_up(&rig);
	assert_true(rig.l2->away);
	fake_donor_live_set(&rig.donor, FAKE_EPOCH, FAR_INDEX_SERVING);
	fake_task_make(&rig, &task, FAR_L2_LOAD, 2, 1, 100);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
	assert_false(rig.l2->away);
}

static void
a_torn_header_is_read_again(void **state)
{
	(void)state;
	rig.donor.index[40] ^= 1;
	fake_rig_client(&rig, false);
	/* Connect, HELLO, WELCOME, first header: about four latencies of a microsecond, and back. */
	fake_rig_run(&rig, 8 * FAR_NS_PER_US);
	rig.donor.index[40] ^= 1;
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	assert_true(rig.status.torn_rereads > 0);
}

static void
a_header_that_stays_torn_is_given_up(void **state)
{
	(void)state;
	far_log_capture_expect("its index");
	rig.donor.index[40] ^= 1;
	fake_rig_client(&rig, false);
	fake_rig_run(&rig, 500 * FAR_NS_PER_US);
	assert_int_equal(rig.status.state, FAR_L2_DOWN);
	assert_int_equal(rig.status.rc, -EBADMSG);
	assert_int_equal(rig.status.torn_rereads, 8);
}

static void
a_layout_that_contradicts_itself_or_another_version_is_not_used(void **state)
{
	(void)state;
	far_log_capture_expect("its index");
	rig.donor.header.set_count = 1ULL << 37;
	header_store();
	fake_rig_client(&rig, false);
	fake_rig_run(&rig, 500 * FAR_NS_PER_US);
	assert_int_equal(rig.status.rc, -EPROTO);
	rig.donor.header.set_count = rig.donor.layout.set_count;
	rig.donor.header.version++;
	header_store();
	fake_rig_run(&rig, 20 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.rc, -EPROTO);
}

static void
an_index_of_another_donor_is_not_used(void **state)
{
	(void)state;
	far_log_capture_expect("another donor's");
	memcpy(rig.donor.header.donor, "twin", 5);
	header_store();
	fake_rig_client(&rig, false);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_DOWN);
}

static void
an_epoch_that_is_not_the_welcomes_costs_the_link(void **state)
{
	(void)state;
	far_log_capture_expect("epoch moved on");
	fake_donor_live_set(&rig.donor, 4711, FAR_INDEX_SERVING);
	fake_rig_client(&rig, false);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_DOWN);
	assert_int_equal(rig.status.rc, -ESTALE);
}

static void
a_torn_table_line_is_read_again_and_then_only_a_missing_segment(void **state)
{
	uint8_t *line = rig.donor.index + rig.donor.layout.table_at + 64;

	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	line[8] ^= 1;
	fake_rig_up(&rig);
	assert_int_equal(rig.status.torn_rereads, 8);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, -ENOENT);
	line[8] ^= 1;
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
}

static void
a_segment_that_came_later_is_found_by_reading_the_table_again(void **state)
{
	struct far_slot slot;
	struct far_slot *at;

	(void)state;
	fake_rig_up(&rig);
	at = fake_donor_put(&rig.donor, 1, 0, 5000);
	memcpy(&slot, at, sizeof(slot));
	slot.segment = 12;
	fake_donor_slot_store(&rig.donor, at, &slot);
	fake_donor_segment_line(&rig.donor, 5, 12, FAKE_SEGMENT_BYTES);
	fake_task_make(&rig, &task, FAR_L2_LOAD, 1, 1, 5000);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
	assert_true(fake_bytes_are(&task, 0, 1));
}

static void
a_recalled_segment_is_forgotten_answered_and_never_read_again(void **state)
{
	struct far_frame_segment recall = {.segment = FAKE_SEGMENT};
	struct fake_task load;

	(void)state;
	fake_rig_up(&rig);
	(void)fake_donor_put(&rig.donor, 1, 0, 200000);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	fake_task_run(&rig, &task);
	fake_task_make(&rig, &load, FAR_L2_LOAD, 1, 1, 200000);
	memcpy(load.items[0].hint, task.items[0].hint, sizeof(load.items[0].hint));
	/* Its data is on the way when the recall comes: it ends first, and well. */
	fake_donor_send(&rig.donor, FAR_FRAME_SEGMENT_RECALL, 0, &recall, NULL, 0);
	fake_rig_run(&rig, 500);
	far_l2_submit(rig.l2, &load.task);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(load.ended, 1);
	assert_int_equal(load.items[0].rc, 0);
	assert_int_equal(rig.donor.counts[FAR_FRAME_SEGMENT_GONE], 1);
	/* Slot and table line still show it: they are not believed. */
	fake_task_make(&rig, &load, FAR_L2_LOAD, 1, 1, 200000);
	fake_task_run(&rig, &load);
	assert_int_equal(load.items[0].rc, -ENOENT);
}

/* Two segments under one key: what would be forgotten with the one is still read of the other. */
static void
a_recalled_key_that_another_segment_has_too_costs_the_link(void **state)
{
	struct far_frame_segment recall = {.segment = FAKE_SEGMENT + 1};
	static struct fake_task first, second;

	(void)state;
	far_log_capture_expect("asks a segment back by a key that it gave to other memory");
	fake_donor_segment_line(&rig.donor, 2, FAKE_SEGMENT + 1, FAKE_SEGMENT_BYTES);
	fake_rig_up(&rig);
	(void)fake_donor_put(&rig.donor, 1, 0, 4096);
	(void)fake_donor_put(&rig.donor, 2, 8192, 4096);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 2, 0);
	fake_task_run(&rig, &task);
	fake_task_make(&rig, &first, FAR_L2_LOAD, 1, 1, 4096);
	memcpy(first.items[0].hint, task.items[0].hint, sizeof(first.items[0].hint));
	fake_task_make(&rig, &second, FAR_L2_LOAD, 2, 1, 4096);
	memcpy(second.items[0].hint, task.items[1].hint, sizeof(second.items[0].hint));
	second.pieces[0].addr = rig.arena + 65536;
	/* The recall comes behind the first load, which ends while the second is on its way. */
	far_l2_submit(rig.l2, &first.task);
	fake_donor_send(&rig.donor, FAR_FRAME_SEGMENT_RECALL, 0, &recall, NULL, 0);
	fake_rig_run(&rig, 1500);
	assert_int_equal(first.ended, 0);
	far_l2_submit(rig.l2, &second.task);
	fake_rig_run(&rig, 50 * FAR_NS_PER_US);
	assert_int_equal(first.ended, 1);
	assert_int_equal(second.ended, 1);
	assert_int_equal(rig.status.rc, -EPROTO);
}

static void
a_recalled_key_that_is_the_indexs_costs_the_link(void **state)
{
	struct far_frame_segment recall = {.segment = FAKE_SEGMENT + 1};
	struct far_index_segment line = {.segment = FAKE_SEGMENT + 1, .size_bytes = 4096};

	(void)state;
	far_log_capture_expect("asks a segment back by a key that it gave to other memory");
	line.remote_addr = rig.donor.index_mem->remote.addr;
	memcpy(line.rkey, rig.donor.index_mem->remote.rkey.bytes, sizeof(line.rkey));
	far_index_segment_seal(&line, rig.donor.epoch);
	far_line_store(rig.donor.index + rig.donor.layout.table_at + 2 * sizeof(line), &line);
	fake_rig_up(&rig);
	/* Lookups read by that key all the time. */
	fake_donor_send(&rig.donor, FAR_FRAME_SEGMENT_RECALL, 0, &recall, NULL, 0);
	fake_rig_run(&rig, 10 * FAR_NS_PER_US);
	assert_int_equal(rig.status.rc, -EPROTO);
}

static void
a_recall_of_no_segment_costs_the_link(void **state)
{
	struct far_frame_segment recall = {.segment = 0};

	(void)state;
	far_log_capture_expect("SEGMENT_RECALL");
	fake_rig_up(&rig);
	fake_donor_send(&rig.donor, FAR_FRAME_SEGMENT_RECALL, 0, &recall, NULL, 0);
	fake_rig_run(&rig, 10 * FAR_NS_PER_US);
	assert_int_equal(rig.status.rc, -EPROTO);
}

/* In small steps, so that a test can come between two frames. */
static void
run_until_hellos(uint32_t count)
{
	for (int i = 0; i < 100000 && rig.donor.counts[FAR_FRAME_HELLO] < count; i++)
		fake_rig_run(&rig, 100);
	assert_int_equal(rig.donor.counts[FAR_FRAME_HELLO], count);
}

/* The first link found memory for one of the two tables; over the second one a recall comes first. */
static void
a_recall_before_there_is_a_table_is_answered(void **state)
{
	struct far_frame_segment recall = {.segment = FAKE_SEGMENT};

	(void)state;
	far_log_capture_expect("no memory for its segment table");
	fake_rig_client(&rig, false);
	run_until_hellos(1);
	far_alloc_fail_nth(2);
	for (int i = 0; i < 1000 && rig.status.rc != -ENOMEM; i++)
		fake_rig_run(&rig, 100);
	far_alloc_fail_nth(0);
	assert_int_equal(rig.status.rc, -ENOMEM);
	run_until_hellos(2);
	fake_donor_send(&rig.donor, FAR_FRAME_SEGMENT_RECALL, 0, &recall, NULL, 0);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	assert_int_equal(rig.donor.counts[FAR_FRAME_SEGMENT_GONE], 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		CLAIM(one_that_recovers_takes_no_blocks_until_it_has),
		CLAIM(one_that_recovers_is_looked_at_once_more),
		CLAIM(a_load_sees_that_a_donor_has_recovered),
		CLAIM(a_torn_header_is_read_again),
		CLAIM(a_header_that_stays_torn_is_given_up),
		CLAIM(a_layout_that_contradicts_itself_or_another_version_is_not_used),
		CLAIM(an_index_of_another_donor_is_not_used),
		CLAIM(an_epoch_that_is_not_the_welcomes_costs_the_link),
		CLAIM(a_torn_table_line_is_read_again_and_then_only_a_missing_segment),
		CLAIM(a_segment_that_came_later_is_found_by_reading_the_table_again),
		CLAIM(a_recalled_segment_is_forgotten_answered_and_never_read_again),
		CLAIM(a_recalled_key_that_another_segment_has_too_costs_the_link),
		CLAIM(a_recalled_key_that_is_the_indexs_costs_the_link),
		CLAIM(a_recall_of_no_segment_costs_the_link),
		CLAIM(a_recall_before_there_is_a_table_is_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
