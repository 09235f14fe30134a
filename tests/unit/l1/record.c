/* record.c - what the recorder is told of L1: each step of a call once, with its keys and bytes. */
#include "tests/unit/l1/fixture.h"

#define RECORDS_MAX 64

static struct fixture f;
static struct far_recorder *recorder;
static struct far_clock_fake recorder_clock;

static void
open_all(uint64_t units)
{
	/* As a client's: it is there before L1, and after it. */
	far_clock_fake_init(&recorder_clock, 7);
	assert_int_equal(far_recorder_open(RECORDS_MAX, &recorder_clock.clock, &recorder), 0);
	fixture_open(&f, units, (struct far_l1_config){.recorder = recorder});
}

static void
close_all(void)
{
	/* The fixture counts live bytes when it has closed: the recorder's are not L1's. */
	struct far_l1_usage usage;

	far_l1_check(f.l1);
	far_l1_usage_get(f.l1, &usage);
	assert_int_equal(usage.loan_count, 0);
	assert_int_equal(usage.quarantine_bytes, 0);
	far_l1_session_close(f.l1, f.session);
	(void)far_l1_clear(f.l1, false);
	far_l1_close(f.l1);
	far_free(f.config.base);
	far_recorder_close(recorder);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
expect(enum far_record_kind kind, uint64_t events, uint64_t keys, uint64_t bytes)
{
	struct far_record_counts counts;

	far_recorder_counts_get(recorder, kind, &counts);
	assert_int_equal(counts.events, events);
	assert_int_equal(counts.keys, keys);
	assert_int_equal(counts.bytes, bytes);
}

/* The last record of this kind. */
static struct far_record
last_of(enum far_record_kind kind)
{
	struct far_record records[RECORDS_MAX], found = {.kind = UINT16_MAX};
	uint64_t cursor = 0, lost;
	size_t count = far_recorder_read(recorder, &cursor, records, RECORDS_MAX, &lost);

	for (size_t i = 0; i < count; i++) {
		if (records[i].kind == kind)
			found = records[i];
	}
	return found;
}

/* Reserves keys [first, first + count); returns how many were granted. */
static size_t
reserve(uint64_t first, size_t count, uint32_t flags, uint64_t *loans)
{
	struct far_l1_want wants[16];
	struct far_l1_grant grants[16];
	size_t granted;

	for (size_t i = 0; i < count; i++)
		wants[i] = (struct far_l1_want){
			.key = key_n(first + i), .size_bytes = 1000, .flags = flags};
	granted = far_l1_reserve_write(f.l1, f.session, wants, count, grants);
	for (size_t i = 0; i < count; i++)
		loans[i] = grants[i].loan;
	return granted;
}

static void
life_of_a_batch_is_one_record_at_each_step(void **state)
{
	struct far_l1_grant grants[4];
	struct far_key keys[4];
	uint64_t loans[4];
	int rcs[4];

	(void)state;
	open_all(8);
	expect(FAR_RECORD_L1_SESSION_OPENED, 1, 1, 0);
	assert_int_equal(reserve(0, 4, 0, loans), 4);
	expect(FAR_RECORD_L1_WRITE_RESERVED, 1, 4, 4000);
	assert_int_equal(far_l1_finish_write(f.l1, f.session, loans, 3, rcs), 3);
	expect(FAR_RECORD_L1_WRITTEN, 1, 3, 3ULL * UNIT);
	assert_int_equal(far_l1_abort_write(f.l1, f.session, &loans[3], 1, rcs), 1);
	expect(FAR_RECORD_L1_ABORTED, 1, 1, UNIT);
	for (uint64_t i = 0; i < 4; i++)
		keys[i] = key_n(i);
	assert_int_equal(far_l1_reserve_read(f.l1, f.session, keys, NULL, 4, 1, grants), 3);
	expect(FAR_RECORD_L1_READ_RESERVED, 1, 3, 3000);
	for (size_t i = 0; i < 3; i++)
		loans[i] = grants[i].loan;
	assert_int_equal(far_l1_finish_read(f.l1, f.session, loans, 3, 1, rcs), 3);
	expect(FAR_RECORD_L1_READ_FINISHED, 1, 3, 0);
	assert_int_equal(far_l1_delete(f.l1, keys, 4, false, rcs), 3);
	expect(FAR_RECORD_L1_DELETED, 1, 3, 0);
	assert_int_equal(last_of(FAR_RECORD_L1_DELETED).why, 1);
	assert_int_equal(last_of(FAR_RECORD_L1_WRITTEN).session, f.session);
	/* Reads are counted and leave no record. */
	assert_int_equal(last_of(FAR_RECORD_L1_READ_RESERVED).kind, UINT16_MAX);
	close_all();
}

static void
evictions_and_refusals_are_told_with_their_reason(void **state)
{
	uint64_t loans[16];
	int rcs[16];

	(void)state;
	open_all(8);
	assert_int_equal(reserve(0, 8, 0, loans), 8);
	assert_int_equal(far_l1_finish_write(f.l1, f.session, loans, 8, rcs), 8);
	assert_int_equal(reserve(100, 10, 0, loans), 8);
	expect(FAR_RECORD_L1_EVICTED, 1, 8, 8000);
	assert_int_equal(last_of(FAR_RECORD_L1_EVICTED).why, 1);
	expect(FAR_RECORD_L1_DENIED, 1, 2, 0);
	assert_int_equal(last_of(FAR_RECORD_L1_DENIED).why, -ENOMEM);
	assert_int_equal(far_l1_finish_write(f.l1, f.session, loans, 8, rcs), 8);
	(void)far_l1_evict(f.l1, 2ULL * UNIT, 8, NULL);
	expect(FAR_RECORD_L1_EVICTED, 2, 10, 10000);
	assert_int_equal(last_of(FAR_RECORD_L1_EVICTED).why, 2);
	close_all();
}

/* Told of evictions amid a reservation, it evicts itself. */
static void
on_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	bool *again = arg;

	(void)events;
	(void)count;
	if (!*again)
		return;
	*again = false;
	(void)far_l1_evict(f.l1, UNIT, 1, NULL);
}

static void
evictions_amid_another_call_are_counted_once(void **state)
{
	bool again = true;
	struct far_l1_listener listener = {.deleted = on_deleted, .arg = &again};
	struct far_l1_want wants[100];
	struct far_l1_grant grants[100];
	uint64_t loans[100];
	int rcs[100];
	struct far_record_counts counts;
	struct far_l1_usage usage;

	(void)state;
	open_all(200);
	assert_int_equal(far_l1_listen(f.l1, &listener), 0);
	for (uint64_t round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < 100; i++)
			wants[i] = (struct far_l1_want){.key = key_n(1 + 100 * round + i),
							.size_bytes = 1000};
		assert_int_equal(far_l1_reserve_write(f.l1, f.session, wants, 100, grants), 100);
		for (size_t i = 0; i < 100; i++)
			loans[i] = grants[i].loan;
		assert_int_equal(far_l1_finish_write(f.l1, f.session, loans, 100, rcs), 100);
	}
	assert_false(again);
	far_l1_usage_get(f.l1, &usage);
	far_recorder_counts_get(recorder, FAR_RECORD_L1_EVICTED, &counts);
	assert_int_equal(counts.events, 2);
	assert_int_equal(counts.keys, usage.evicted_blocks);
	assert_int_equal(counts.bytes, usage.evicted_bytes);
	close_all();
}

static void
flips_and_ends_of_temporaries_are_told(void **state)
{
	uint64_t loans[4];
	int rcs[4];

	(void)state;
	open_all(8);
	assert_int_equal(reserve(0, 4, FAR_L1_TEMPORARY, loans), 4);
	assert_int_equal(
		far_l1_finish_write_and_reserve_read(f.l1, f.session, loans, 4, 2, f.session, rcs),
		4);
	expect(FAR_RECORD_L1_FLIPPED, 1, 4, 4ULL * UNIT);
	expect(FAR_RECORD_L1_WRITTEN, 0, 0, 0);
	assert_int_equal(far_l1_finish_read(f.l1, f.session, loans, 4, 1, rcs), 4);
	expect(FAR_RECORD_L1_DOOMED_ENDED, 0, 0, 0);
	assert_int_equal(far_l1_finish_read(f.l1, f.session, loans, 4, 1, rcs), 4);
	expect(FAR_RECORD_L1_DOOMED_ENDED, 1, 4, 4ULL * UNIT);
	close_all();
}

static void
calls_that_do_nothing_leave_no_record(void **state)
{
	struct far_key key = key_n(1);
	uint64_t loan = 12345;
	int rc;

	(void)state;
	open_all(8);
	assert_int_equal(far_l1_delete(f.l1, &key, 1, false, &rc), 0);
	assert_int_equal(far_l1_abort_write(f.l1, f.session, &loan, 1, &rc), 0);
	assert_int_equal(far_l1_finish_write(f.l1, f.session, &loan, 1, &rc), 0);
	assert_int_equal(far_l1_clear(f.l1, false), 0);
	expect(FAR_RECORD_L1_DELETED, 0, 0, 0);
	expect(FAR_RECORD_L1_ABORTED, 0, 0, 0);
	expect(FAR_RECORD_L1_WRITTEN, 0, 0, 0);
	close_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(life_of_a_batch_is_one_record_at_each_step),
		cmocka_unit_test(evictions_and_refusals_are_told_with_their_reason),
		cmocka_unit_test(evictions_amid_another_call_are_counted_once),
		cmocka_unit_test(flips_and_ends_of_temporaries_are_told),
		cmocka_unit_test(calls_that_do_nothing_leave_no_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
