/* prefetch_records.c - what the recorder is told of prefetching adds up to what was counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

#define RECORDS_MAX 256

static struct ctl_rig rig;
static struct ctl_req req;
static struct far_record records[RECORDS_MAX];
static size_t record_count;

static void
open_with(const struct ctl_options *like)
{
	struct ctl_options options = *like;

	options.recorder = true;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 20);
}

/* All since the rig was opened. */
static void
look(void)
{
	uint64_t cursor = 0, lost;

	record_count = far_recorder_read(rig.recorder, &cursor, records, RECORDS_MAX, &lost);
	assert_int_equal(lost, 0);
}

static const struct far_record *
find(enum far_record_kind kind, int why)
{
	for (size_t i = 0; i < record_count; i++) {
		if (records[i].kind == kind && records[i].why == why)
			return &records[i];
	}
	return NULL;
}

static void
expect(enum far_record_kind kind, int why, int adapter, uint32_t keys)
{
	const struct far_record *record = find(kind, why);

	assert_non_null(record);
	assert_int_equal(record->keys, keys);
	assert_int_equal(record->adapter, adapter);
	assert_int_equal(record->request_id, 1);
	assert_true(record->session != 0);
	assert_true(record->at_ns != 0);
}

static uint64_t
keys_of(enum far_record_kind kind)
{
	struct far_record_counts of_kind;

	far_recorder_counts_get(rig.recorder, kind, &of_kind);
	return of_kind.keys;
}

static void
expect_sums(void)
{
	struct far_prefetch_counts counts;
	uint64_t bytes = 0;

	far_prefetch_counts_get(rig.prefetch, &counts);
	look();
	for (size_t i = 0; i < record_count; i++) {
		if (records[i].kind == FAR_RECORD_PREFETCH_LOADED && records[i].why == 0)
			bytes += records[i].bytes;
	}
	assert_int_equal(keys_of(FAR_RECORD_PREFETCH_SUBMITTED), counts.keys);
	assert_int_equal(keys_of(FAR_RECORD_PREFETCH_ENDED) + keys_of(FAR_RECORD_PREFETCH_MISSED),
			 counts.keys);
	assert_int_equal(keys_of(FAR_RECORD_PREFETCH_ABANDONED), counts.loads_abandoned);
	assert_int_equal(bytes, counts.bytes_loaded);
}

static void
request_is_one_record_at_each_step(void **state)
{
	(void)state;
	open_with(&(struct ctl_options){0});
	rig.fakes[0].delay_ns = 3 * FAR_NS_PER_MS;
	ctl_req_init(&req, &rig, 0, 8);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_rig_advance(&rig, 3 * FAR_NS_PER_MS);
	ctl_rig_advance(&rig, 3 * FAR_NS_PER_MS);
	ctl_req_expect(&req, 0, 8);
	look();
	assert_int_equal(record_count, 6);
	expect(FAR_RECORD_PREFETCH_SUBMITTED, 0, FAR_RECORD_NO_ADAPTER, 8);
	expect(FAR_RECORD_PREFETCH_ASKED, 0, 0, 8);
	expect(FAR_RECORD_PREFETCH_ANSWERED, 0, 0, 8);
	expect(FAR_RECORD_PREFETCH_LOADING, 0, 0, 8);
	expect(FAR_RECORD_PREFETCH_LOADED, 0, 0, 8);
	expect(FAR_RECORD_PREFETCH_ENDED, 0, FAR_RECORD_NO_ADAPTER, 8);
	assert_int_equal(find(FAR_RECORD_PREFETCH_ANSWERED, 0)->took_ns, 3 * FAR_NS_PER_MS);
	assert_int_equal(find(FAR_RECORD_PREFETCH_LOADED, 0)->took_ns, 3 * FAR_NS_PER_MS);
	assert_int_equal(find(FAR_RECORD_PREFETCH_LOADED, 0)->bytes, 8 * CTL_BLOCK_BYTES);
	assert_int_equal(find(FAR_RECORD_PREFETCH_ENDED, 0)->bytes, 8 * CTL_BLOCK_BYTES);
	expect_sums();
	ctl_rig_close(&rig);
}

static void
keys_that_fail_are_told_by_reason(void **state)
{
	(void)state;
	open_with(&(struct ctl_options){0});
	ctl_rig_fail(&rig, 0, 5, FAR_L2_LOAD, -ESTALE, 1);
	ctl_req_init(&req, &rig, 0, 24);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 5);
	look();
	expect(FAR_RECORD_PREFETCH_ANSWERED, -ENOENT, 0, 4);
	expect(FAR_RECORD_PREFETCH_LOADED, -ESTALE, 0, 1);
	expect(FAR_RECORD_PREFETCH_ENDED, 0, FAR_RECORD_NO_ADAPTER, 5);
	expect(FAR_RECORD_PREFETCH_MISSED, -ESTALE, FAR_RECORD_NO_ADAPTER, 1);
	expect_sums();
	ctl_rig_close(&rig);
}

static void
deadline_and_what_comes_after_it_are_told(void **state)
{
	(void)state;
	open_with(&(struct ctl_options){0});
	rig.fakes[0].delay_ns = 600 * FAR_NS_PER_MS;
	rig.fakes[0].deaf_cancel = true; /* the load is posted: it goes on */
	ctl_req_init(&req, &rig, 0, 3);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	for (int i = 0; i < 13; i++)
		ctl_rig_advance(&rig, 100 * FAR_NS_PER_MS);
	ctl_req_expect(&req, -ETIMEDOUT, 0);
	look();
	expect(FAR_RECORD_PREFETCH_ENDED, -ETIMEDOUT, FAR_RECORD_NO_ADAPTER, 0);
	expect(FAR_RECORD_PREFETCH_MISSED, -ETIMEDOUT, FAR_RECORD_NO_ADAPTER, 3);
	expect(FAR_RECORD_PREFETCH_ABANDONED, 0, FAR_RECORD_NO_ADAPTER, 3);
	expect_sums();
	ctl_rig_close(&rig);
}

static void
cancelled_request_ends_with_none_of_its_keys(void **state)
{
	(void)state;
	open_with(&(struct ctl_options){0});
	ctl_req_init(&req, &rig, 0, 3);
	ctl_req_submit(&req);
	far_prefetch_req_cancel(rig.prefetch, &req.req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, -ECANCELED, 0);
	look();
	expect(FAR_RECORD_PREFETCH_ENDED, -ECANCELED, FAR_RECORD_NO_ADAPTER, 0);
	expect(FAR_RECORD_PREFETCH_MISSED, -ECANCELED, FAR_RECORD_NO_ADAPTER, 3);
	expect_sums();
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_is_one_record_at_each_step),
		cmocka_unit_test(keys_that_fail_are_told_by_reason),
		cmocka_unit_test(deadline_and_what_comes_after_it_are_told),
		cmocka_unit_test(cancelled_request_ends_with_none_of_its_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
