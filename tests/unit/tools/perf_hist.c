/* perf_hist.c - the histogram of farpool-perf: where a time falls, and what its percentiles are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "tools/perf/hist.h"
#include "tools/perf/perf.h"

static struct perf_hist hist, other; /* large */

static void
every_value_has_a_bucket_whose_end_is_near(void **state)
{
	(void)state;
	for (int bit = 0; bit < 64; bit++) {
		for (int step = -1; step <= 1; step++) {
			uint64_t value = ((uint64_t)1 << bit) + (uint64_t)(int64_t)step, rank;

			memset(&hist, 0, sizeof(hist));
			perf_hist_add(&hist, value);
			/* So that it is not the maximum that is answered. */
			perf_hist_add(&hist, UINT64_MAX);
			rank = perf_hist_rank(&hist, 0.5);
			assert_true(rank >= value);
			assert_true(rank - value <= value / 128);
		}
	}
}

static void
ends_of_buckets_rise_up_to_the_largest_number(void **state)
{
	(void)state;
	for (uint32_t i = 1; i < PERF_HIST_BUCKETS; i++)
		assert_true(perf_hist_upper(i) > perf_hist_upper(i - 1));
	assert_true(perf_hist_upper(PERF_HIST_BUCKETS - 1) == UINT64_MAX);
}

static void
percentiles_are_those_of_the_sorted_samples_and_at_most_a_128th_above(void **state)
{
	const double shares[] = {0, 0.5, 0.9, 0.99, 0.999, 1};
	uint64_t *samples = calloc(10000, sizeof(*samples));
	struct far_rng rng;
	(void)state;

	memset(&hist, 0, sizeof(hist));
	far_rng_init(&rng, 7);
	for (int i = 0; i < 10000; i++) {
		samples[i] = 100 + far_rng_u64(&rng) % (1ULL << (10 + i % 20));
		perf_hist_add(&hist, samples[i]);
	}
	perf_samples_sort(samples, 10000);
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		uint64_t exact = perf_samples_rank(samples, 10000, shares[i]);
		uint64_t rank = perf_hist_rank(&hist, shares[i]);

		assert_true(rank >= exact && rank <= exact + exact / 128);
	}
	assert_true(perf_hist_rank(&hist, 1) == samples[9999]);
	assert_true(hist.min == samples[0] && hist.max == samples[9999]);
	free(samples);
}

static void
two_that_are_merged_are_one_that_saw_all(void **state)
{
	static struct perf_hist both;
	(void)state;

	memset(&hist, 0, sizeof(hist));
	memset(&other, 0, sizeof(other));
	memset(&both, 0, sizeof(both));
	for (uint64_t i = 0; i < 3000; i++) {
		perf_hist_add(i % 3 == 0 ? &hist : &other, i * i + 5);
		perf_hist_add(&both, i * i + 5);
	}
	perf_hist_merge(&hist, &other);
	assert_memory_equal(&hist, &both, sizeof(hist));
	/* Nothing says nothing: the minimum of an empty one is no minimum. */
	memset(&other, 0, sizeof(other));
	perf_hist_merge(&hist, &other);
	assert_memory_equal(&hist, &both, sizeof(hist));
	perf_hist_merge(&other, &hist);
	assert_memory_equal(&other, &both, sizeof(hist));
}

static void
an_empty_one_answers_nothing_but_zero(void **state)
{
	(void)state;
	memset(&hist, 0, sizeof(hist));
	assert_true(perf_hist_rank(&hist, 0.99) == 0);
	assert_true(perf_hist_mean(&hist) == 0.0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_has_a_bucket_whose_end_is_near),
		cmocka_unit_test(ends_of_buckets_rise_up_to_the_largest_number),
		cmocka_unit_test(
			percentiles_are_those_of_the_sorted_samples_and_at_most_a_128th_above),
		cmocka_unit_test(two_that_are_merged_are_one_that_saw_all),
		cmocka_unit_test(an_empty_one_answers_nothing_but_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
