/* store_records.c - what the store controller tells the recorder: batches, reasons, times, in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

#define RECORDS_MAX 256

static struct ctl_rig rig;
static struct far_record records[RECORDS_MAX];
static size_t record_count;
static uint64_t cursor;

static void
open_with(uint32_t fakes, const char *policy, uint32_t queue_max)
{
	struct ctl_options options = {
		.fakes = fakes,
		.store = true,
		.store_policy = policy,
		.admit_after = 2,
		.recorder = true,
		.store_config = {.queue_max = queue_max},
	};

	cursor = 0;
	ctl_rig_open(&rig, &options);
}

/* The next ones since the last look. */
static void
look(void)
{
	uint64_t lost;

	record_count = far_recorder_read(rig.recorder, &cursor, records, RECORDS_MAX, &lost);
	assert_int_equal(lost, 0);
}

static void
expect(size_t at, enum far_record_kind kind, int why, int adapter, uint32_t keys)
{
	assert_true(at < record_count);
	assert_string_equal(far_record_name((enum far_record_kind)records[at].kind),
			    far_record_name(kind));
	assert_int_equal(records[at].why, why);
	assert_int_equal(records[at].adapter, adapter);
	assert_int_equal(records[at].keys, keys);
	assert_int_equal(records[at].bytes, (uint64_t)keys * CTL_BLOCK_BYTES);
	assert_true(records[at].session != 0);
}

static void
write_many(uint64_t first, uint64_t count)
{
	struct far_l1_grant grants[64];
	struct far_l1_want wants[64];
	uint64_t loans[64];
	int rcs[64];

	for (uint64_t i = 0; i < count; i++)
		wants[i] = (struct far_l1_want){
			.key = fake_l2_key(first + i),
			.size_bytes = CTL_BLOCK_BYTES,
		};
	assert_int_equal(far_l1_reserve_write(rig.l1, rig.other, wants, count, grants), count);
	for (uint64_t i = 0; i < count; i++) {
		fake_l2_fill(&wants[i].key, grants[i].addr, CTL_BLOCK_BYTES);
		loans[i] = grants[i].loan;
	}
	assert_int_equal(far_l1_finish_write(rig.l1, rig.other, loans, count, rcs), count);
}

static void
batch_is_one_record_at_each_step_and_the_last_has_the_time_it_took(void **state)
{
	uint64_t start_ns;

	(void)state;
	open_with(2, NULL, 0);
	rig.fakes[1].delay_ns = 5 * FAR_NS_PER_MS;
	start_ns = far_clock_now(&rig.clock.clock);
	write_many(0, 16);
	ctl_rig_run(&rig);
	look();
	assert_int_equal(record_count, 4);
	expect(0, FAR_RECORD_STORE_QUEUED, 0, FAR_RECORD_NO_ADAPTER, 16);
	expect(1, FAR_RECORD_STORE_SUBMITTED, 0, 0, 16);
	expect(2, FAR_RECORD_STORE_SUBMITTED, 0, 1, 16);
	expect(3, FAR_RECORD_STORE_DONE, 0, 0, 16);
	assert_int_equal(records[3].request_id, records[1].request_id);
	assert_int_not_equal(records[1].request_id, records[2].request_id);
	ctl_rig_advance(&rig, 5 * FAR_NS_PER_MS);
	look();
	assert_int_equal(record_count, 1);
	expect(0, FAR_RECORD_STORE_DONE, 0, 1, 16);
	assert_int_equal(records[0].took_ns, 5 * FAR_NS_PER_MS);
	assert_int_equal(records[0].at_ns, start_ns + 5 * FAR_NS_PER_MS);
	ctl_rig_close(&rig);
}

static void
keys_of_a_task_that_go_different_ways_are_one_record_a_way(void **state)
{
	(void)state;
	open_with(1, NULL, 0);
	ctl_rig_put(&rig, 0, 2, 2);
	ctl_rig_fail(&rig, 0, 5, FAR_L2_STORE, -ENOSPC, 100);
	ctl_rig_fail(&rig, 0, 6, FAR_L2_STORE, -ENOSPC, 100);
	ctl_rig_fail(&rig, 0, 7, FAR_L2_STORE, -EMSGSIZE, 1);
	write_many(0, 8);
	ctl_rig_run(&rig);
	look();
	assert_int_equal(record_count, 6);
	expect(2, FAR_RECORD_STORE_DONE, 0, 0, 3);
	expect(3, FAR_RECORD_STORE_DONE, -EEXIST, 0, 2);
	expect(4, FAR_RECORD_STORE_RETRIED, -ENOSPC, 0, 2);
	expect(5, FAR_RECORD_STORE_FAILED, -EMSGSIZE, 0, 1);
	for (int i = 0; i < 10; i++)
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
	look();
	expect(record_count - 1, FAR_RECORD_STORE_FAILED, -ENOSPC, 0, 2);
	ctl_rig_close(&rig);
}

static void
what_is_not_stored_says_why(void **state)
{
	(void)state;
	open_with(1, NULL, 4);
	write_many(0, 6);
	look();
	assert_int_equal(record_count, 2);
	expect(0, FAR_RECORD_STORE_QUEUED, 0, FAR_RECORD_NO_ADAPTER, 4);
	expect(1, FAR_RECORD_STORE_DROPPED, -EAGAIN, FAR_RECORD_NO_ADAPTER, 2);
	far_store_quiesce(rig.store);
	look();
	assert_int_equal(record_count, 1);
	expect(0, FAR_RECORD_STORE_DROPPED, -ECANCELED, FAR_RECORD_NO_ADAPTER, 4);
	write_many(10, 3);
	look();
	expect(0, FAR_RECORD_STORE_DROPPED, -ECANCELED, FAR_RECORD_NO_ADAPTER, 3);
	ctl_rig_close(&rig);
	/* Nobody to store them. */
	open_with(FAR_L2_SET_MAX, NULL, 0);
	write_many(0, 3);
	ctl_rig_run(&rig);
	look();
	assert_int_equal(record_count, 2);
	expect(1, FAR_RECORD_STORE_DROPPED, -ENODEV, FAR_RECORD_NO_ADAPTER, 3);
	ctl_rig_close(&rig);
}

static void
admission_and_letting_go_are_told(void **state)
{
	struct far_key keys[3];
	struct far_l1_grant grants[3];
	uint64_t loans[3];
	int rcs[3];

	(void)state;
	open_with(1, "skip_l1,admit_after_n", 0);
	write_many(0, 5);
	look();
	assert_int_equal(record_count, 1);
	expect(0, FAR_RECORD_STORE_NOT_ADMITTED, 0, FAR_RECORD_NO_ADAPTER, 5);
	for (uint64_t i = 0; i < 3; i++)
		keys[i] = fake_l2_key(i);
	assert_int_equal(far_l1_reserve_read(rig.l1, rig.other, keys, NULL, 3, 1, grants), 3);
	for (uint64_t i = 0; i < 3; i++)
		loans[i] = grants[i].loan;
	assert_int_equal(far_l1_finish_read(rig.l1, rig.other, loans, 3, 1, rcs), 3);
	ctl_rig_run(&rig);
	look();
	assert_int_equal(record_count, 4);
	expect(0, FAR_RECORD_STORE_QUEUED, 1, FAR_RECORD_NO_ADAPTER, 3);
	expect(1, FAR_RECORD_STORE_SUBMITTED, 0, 0, 3);
	expect(2, FAR_RECORD_STORE_DONE, 0, 0, 3);
	expect(3, FAR_RECORD_STORE_LET_GO, 0, FAR_RECORD_NO_ADAPTER, 3);
	ctl_rig_close(&rig);
}

static void
refused_copies_name_their_adapter(void **state)
{
	(void)state;
	open_with(2, NULL, 16);
	rig.fakes[1].held[FAR_L2_STORE] = true;
	write_many(0, 12);
	ctl_rig_run(&rig);
	look();
	write_many(20, 3);
	ctl_rig_run(&rig);
	look();
	expect(1, FAR_RECORD_STORE_SUBMITTED, 0, 0, 3);
	expect(2, FAR_RECORD_STORE_REFUSED, -EAGAIN, 1, 3);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			batch_is_one_record_at_each_step_and_the_last_has_the_time_it_took),
		cmocka_unit_test(keys_of_a_task_that_go_different_ways_are_one_record_a_way),
		cmocka_unit_test(what_is_not_stored_says_why),
		cmocka_unit_test(admission_and_letting_go_are_told),
		cmocka_unit_test(refused_copies_name_their_adapter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
