/* perf.c - what farpool-perf says of many measurements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tools/perf/perf.h"

static bool
near(double a, double b)
{
	double off = a > b ? a - b : b - a;

	return off < 1e-6;
}

static void
percentiles_are_by_nearest_rank(void **state)
{
	uint64_t samples[1000];
	(void)state;

	/* 1000 down to 1. */
	for (uint64_t i = 0; i < 1000; i++)
		samples[i] = 1000 - i;
	perf_samples_sort(samples, 1000);
	assert_int_equal(perf_samples_rank(samples, 1000, 0), 1);
	assert_int_equal(perf_samples_rank(samples, 1000, 0.5), 500);
	assert_int_equal(perf_samples_rank(samples, 1000, 0.99), 990);
	assert_int_equal(perf_samples_rank(samples, 1000, 0.999), 999);
	assert_int_equal(perf_samples_rank(samples, 1000, 1), 1000);
	assert_int_equal(perf_samples_rank(samples, 1, 0.999), 1);
}

static void
a_spread_is_what_arithmetic_says(void **state)
{
	uint64_t samples[] = {2000, 4000, 4000, 4000, 5000, 5000, 7000, 9000};
	struct perf_spread spread = perf_samples_spread(samples, 8);
	(void)state;

	assert_true(near(spread.min_us, 2));
	assert_true(near(spread.max_us, 9));
	assert_true(near(spread.avg_us, 5));
	assert_true(near(spread.stdev_us, 2));
	assert_true(near(spread.typical_us, 4));
	assert_true(near(spread.p99_us, 9));
}

static void
the_peak_is_the_best_window_and_no_less_than_the_whole(void **state)
{
	/* Four lists of 1000 bytes: two slow ones, then two that overlap. */
	uint64_t posted[] = {0, 1000, 2000, 2100}, done[] = {1000, 2000, 2200, 2300};
	double peak = perf_peak(posted, done, 4, 1000);
	(void)state;

	/* The last two: 2000 bytes in 300 ns. */
	assert_true(near(peak / 1e9, 2000.0 / 300));
	assert_true(peak >= 4000.0 / 2300 * 1e9);
	assert_true(near(perf_peak(posted, done, 1, 1000) / 1e9, 1));
	/* Nothing is divided by a clock that stood still. */
	assert_true(near(perf_peak(posted, posted, 1, 1000), 0));
}

static void
a_size_is_bytes_as_in_perftest_or_has_a_unit(void **state)
{
	uint64_t bytes = 0;
	(void)state;

	assert_int_equal(perf_size_parse("65536", &bytes), 0);
	assert_int_equal(bytes, 65536);
	assert_int_equal(perf_size_parse("64KiB", &bytes), 0);
	assert_int_equal(bytes, 65536);
	assert_true(perf_size_parse("-1", &bytes) < 0);
	assert_true(perf_size_parse("64kb", &bytes) < 0);
	assert_true(perf_size_parse("", &bytes) < 0);
}

static void
json_has_every_size_with_the_keys_of_perftest(void **state)
{
	struct perf_options options = {.test = PERF_READ, .links = 1, .depth = 128};
	struct perf_place place = {.transport = "verbs", .one_sided = true, .reads_max = 16};
	struct perf_result results[] = {
		{.size_bytes = 4096, .iterations = 1000, .ns = 1000000, .cpu_ns = 4096},
		{.size_bytes = 1 << 20, .iterations = 1, .ns = 1000000000, .peer_cpu_ns = 1 << 20},
	};
	json_t *root = perf_report_json(&options, &place, results, 2), *rows, *row;
	(void)state;

	assert_non_null(root);
	rows = json_object_get(root, "results");
	assert_int_equal(json_array_size(rows), 2);
	row = json_array_get(rows, 0);
	assert_int_equal(json_integer_value(json_object_get(row, "MsgSize")), 4096);
	assert_true(near(json_real_value(json_object_get(row, "BW_average")), 3906.25));
	assert_true(near(json_real_value(json_object_get(row, "MsgRate")), 1));
	assert_true(near(json_real_value(json_object_get(row, "client_cpu_s_per_gb")), 0.001));
	row = json_array_get(rows, 1);
	assert_true(near(json_real_value(json_object_get(row, "BW_average")), 1));
	assert_true(near(json_real_value(json_object_get(row, "donor_cpu_s_per_gb")), 1));
	options.gbits = true;
	json_decref(root);
	root = perf_report_json(&options, &place, results, 2);
	row = json_array_get(json_object_get(root, "results"), 0);
	assert_true(near(json_real_value(json_object_get(row, "BW_average")), 32.768));
	json_decref(root);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(percentiles_are_by_nearest_rank),
		cmocka_unit_test(a_spread_is_what_arithmetic_says),
		cmocka_unit_test(the_peak_is_the_best_window_and_no_less_than_the_whole),
		cmocka_unit_test(a_size_is_bytes_as_in_perftest_or_has_a_unit),
		cmocka_unit_test(json_has_every_size_with_the_keys_of_perftest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
