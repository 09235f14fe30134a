/* trace.c - traces: read, generated, summed up; the bytes made from keys. */
#include "tools/cli/trace.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tools/cli/fill.h"
#include "tools/cli/replay.h"

static char error[FAR_TRACE_ERROR_BYTES];

static void
refused(const char *line, const char *cause)
{
	struct far_trace trace = {0};

	assert_int_equal(far_trace_parse_line(&trace, line, strlen(line), error), -EINVAL);
	if (strstr(error, cause) == NULL)
		fail_msg("'%s' does not say '%s'", error, cause);
	assert_int_equal(trace.request_count, 0);
	far_trace_fini(&trace);
}

static void
lines_that_are_no_requests_are_refused_with_their_cause(void **state)
{
	(void)state;
	refused("", "JSON");
	refused("{\"timestamp\": 0, \"hash_ids\": [1, 2", "JSON");
	refused("[1, 2]", "hash_ids");
	refused("{\"timestamp\": 0}", "hash_ids");
	refused("{\"timestamp\": 0, \"hash_ids\": []}", "hash_ids");
	refused("{\"timestamp\": 0, \"hash_ids\": [-1]}", "hash_ids[0]");
	refused("{\"timestamp\": 0, \"hash_ids\": [1.5]}", "hash_ids[0]");
	refused("{\"timestamp\": -1, \"hash_ids\": [1]}", "timestamp");
	refused("{\"timestamp\": \"0\", \"hash_ids\": [1]}", "timestamp");
	refused("{\"hash_ids\": [1]}", "timestamp");
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
summary_counts_what_a_cache_that_never_evicts_hits(void **state)
{
	static const char *const lines[] = {
		"{\"timestamp\": 0, \"hash_ids\": [0, 1, 2]}",
		"{\"timestamp\": 1, \"hash_ids\": [0, 1, 3, 4]}", /* 2 hits */
		"{\"timestamp\": 2, \"hash_ids\": [5, 1, 2]}",    /* 0: the first is new */
		"{\"timestamp\": 3, \"hash_ids\": [0, 1, 3, 4]}", /* 4 */
	};
	struct far_trace_summary summary;
	struct far_trace trace = {0};

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(far_trace_parse_line(&trace, lines[i], strlen(lines[i]), error),
				 0);
	assert_int_equal(far_trace_summarise(&trace, &summary), 0);
	assert_int_equal(summary.references, 14);
	assert_int_equal(summary.distinct, 6);
	assert_int_equal(summary.prefix_hits, 6);
	assert_int_equal(summary.request_blocks_max, 4);
	assert_int_equal(trace.requests[3].at_ns, 3 * FAR_NS_PER_MS);
	far_trace_fini(&trace);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
generated_traffic_is_the_same_for_the_same_seed(void **state)
{
	const struct far_trace_generate config = {
		.seed = 7,
		.conversations = 50,
		.turns_max = 8,
		.system_blocks = 4,
		.turn_blocks_max = 5,
		.think_ns = FAR_NS_PER_S,
	};
	struct far_trace_summary summary;
	struct far_trace a;
	struct far_trace b;

	(void)state;
	assert_int_equal(far_trace_generate(&config, 0, &a), 0);
	assert_int_equal(far_trace_generate(&config, 0, &b), 0);
	assert_int_equal(a.request_count, b.request_count);
	assert_int_equal(a.id_count, b.id_count);
	assert_memory_equal(a.ids, b.ids, a.id_count * sizeof(*a.ids));
	for (size_t i = 1; i < a.request_count; i++)
		assert_true(a.requests[i].at_ns >= a.requests[i - 1].at_ns);
	assert_int_equal(far_trace_summarise(&a, &summary), 0);
	assert_true(summary.prefix_hits > summary.references / 4);
	far_trace_fini(&a);
	far_trace_fini(&b);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
one_changed_byte_anywhere_is_found(void **state)
{
	uint8_t data[1003];
	struct far_key key;

	(void)state;
	far_fill_key(42, sizeof(data), &key);
	far_fill_block(&key, data, sizeof(data));
	assert_int_equal(far_fill_check(&key, data, sizeof(data)), 0);
	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] ^= 0x80;
		assert_int_equal(far_fill_check(&key, data, sizeof(data)), 1);
		data[i] ^= 0x80;
	}
	far_fill_key(43, sizeof(data), &key);
	assert_true(far_fill_check(&key, data, sizeof(data)) > 900);
}

static void
percentile_is_the_nearest_rank(void **state)
{
	const uint64_t sorted[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

	(void)state;
	assert_int_equal(far_replay_percentile(sorted, 10, 50), 5);
	assert_int_equal(far_replay_percentile(sorted, 10, 90), 9);
	assert_int_equal(far_replay_percentile(sorted, 10, 91), 10);
	assert_int_equal(far_replay_percentile(sorted, 10, 100), 10);
	assert_int_equal(far_replay_percentile(sorted, 10, 0), 1);
	assert_int_equal(far_replay_percentile(sorted, 0, 50), 0);
}

static void
half_a_second_for_two_gb_is_a_quarter_each(void **state)
{
	(void)state;
	assert_true(far_replay_per_gb(500000000, 2000000000) == 0.25);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_that_are_no_requests_are_refused_with_their_cause),
		cmocka_unit_test(summary_counts_what_a_cache_that_never_evicts_hits),
		cmocka_unit_test(generated_traffic_is_the_same_for_the_same_seed),
		cmocka_unit_test(one_changed_byte_anywhere_is_found),
		cmocka_unit_test(percentile_is_the_nearest_rank),
		cmocka_unit_test(half_a_second_for_two_gb_is_a_quarter_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
