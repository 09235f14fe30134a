/* l1_policies.c - an hour of real traffic through small L1s: what each policy hits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "l1/l1.h"
#include "tools/cli/trace.h"

#define BLOCK_BYTES 64u

static struct far_trace trace;
static struct far_trace_summary summary;

static struct far_key
key_of(uint64_t id)
{
	struct far_key key;
	uint64_t half[2] = {far_mix64(id), id + 1};

	memcpy(key.bytes, half, sizeof(half));
	return key;
}

/* One request: reads its prefix, brings in the rest. Returns how long the prefix was. */
static size_t
serve(struct far_l1 *l1, far_l1_session session, const struct far_trace_request *request)
{
	static struct far_key keys[FAR_TRACE_IDS_MAX];
	static struct far_l1_want wants[FAR_TRACE_IDS_MAX];
	static struct far_l1_grant grants[FAR_TRACE_IDS_MAX];
	static uint64_t loans[FAR_TRACE_IDS_MAX];
	static int rcs[FAR_TRACE_IDS_MAX];
	size_t count = request->count, hits, granted = 0;

	for (size_t i = 0; i < count; i++)
		keys[i] = key_of(trace.ids[request->first + i]);
	hits = far_l1_reserve_read_prefix(l1, session, keys, NULL, count, 1, grants);
	for (size_t i = 0; i < hits; i++)
		loans[i] = grants[i].loan;
	for (size_t i = hits; i < count; i++)
		wants[i - hits] = (struct far_l1_want){.key = keys[i], .size_bytes = BLOCK_BYTES};
	(void)far_l1_reserve_write(l1, session, wants, count - hits, grants);
	assert_int_equal(far_l1_finish_read(l1, session, loans, hits, 1, rcs), hits);
	for (size_t i = 0; i < count - hits; i++)
		if (grants[i].rc == 0)
			loans[granted++] = grants[i].loan;
	assert_int_equal(far_l1_finish_write(l1, session, loans, granted, rcs), granted);
	return hits;
}

static uint64_t
replay(enum far_l1_policy policy, uint64_t blocks)
{
	struct far_l1_config config = {.size_bytes = blocks * BLOCK_BYTES,
				       .align_bytes = BLOCK_BYTES,
				       .block_bytes_min = BLOCK_BYTES,
				       .loans_max = 2 * FAR_TRACE_IDS_MAX,
				       .policy = policy};
	struct far_l1 *l1 = NULL;
	far_l1_session session;
	uint64_t hits = 0;

	config.base = far_zalloc_aligned(BLOCK_BYTES, config.size_bytes);
	assert_non_null(config.base);
	assert_int_equal(far_l1_open(&config, &l1), 0);
	assert_int_equal(far_l1_session_open(l1, "trace", &session), 0);
	for (size_t i = 0; i < trace.request_count; i++)
		hits += serve(l1, session, &trace.requests[i]);
	far_l1_check(l1);
	far_l1_session_close(l1, session);
	far_l1_close(l1);
	far_free(config.base);
	return hits;
}

static void
s3fifo_hits_more_than_lru_where_little_fits_and_less_where_much_does(void **state)
{
	(void)state;
	for (uint64_t percent = 1; percent <= 10; percent *= 10) {
		uint64_t blocks = summary.distinct * percent / 100;
		uint64_t lru = replay(FAR_L1_LRU, blocks);
		uint64_t s3fifo = replay(FAR_L1_S3FIFO, blocks);
		uint64_t none = replay(FAR_L1_NONE, blocks);
		double all = (double)summary.references / 100;

		print_message(
			"%2llu %% of the footprint: LRU %.2f %%, S3-FIFO %.2f %%, none %.2f %%; "
			"never evicting: %.2f %%\n",
			(unsigned long long)percent, (double)lru / all, (double)s3fifo / all,
			(double)none / all, (double)summary.prefix_hits / all);
		assert_true(lru < summary.prefix_hits);
		assert_true(s3fifo < summary.prefix_hits);
		assert_true(lru > none);
		assert_true(s3fifo > none);
		/* Where little fits, what was used once must not push out what was used again;
		 * in a larger arena a conversation's next turn comes in time, and recency is
		 * worth more. */
		assert_int_equal(s3fifo > lru, percent == 1);
	}
}

static void
an_arena_for_everything_hits_all_there_is_to_hit(void **state)
{
	(void)state;
	assert_int_equal(replay(FAR_L1_LRU, summary.distinct), summary.prefix_hits);
	assert_int_equal(replay(FAR_L1_S3FIFO, summary.distinct), summary.prefix_hits);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			s3fifo_hits_more_than_lru_where_little_fits_and_less_where_much_does),
		cmocka_unit_test(an_arena_for_everything_hits_all_there_is_to_hit),
	};
	char error[FAR_TRACE_ERROR_BYTES];
	int rc;

	if (access(FAR_TEST_TRACE, R_OK) != 0) {
		printf("skipped: no trace at %s; set -DFARPOOL_TRACE=FILE\n", FAR_TEST_TRACE);
		return 77;
	}
	if (far_trace_load(FAR_TEST_TRACE, 0, &trace, error) < 0 ||
	    far_trace_summarise(&trace, &summary) < 0)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	far_trace_fini(&trace);
	return rc;
}
