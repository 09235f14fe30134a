/* spread.c - medians, quantiles and ratios of what the rounds gave. */
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench.h"

static int
spread_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct bench_spread
bench_spread_of(const double *values, uint32_t count)
{
	double sorted[BENCH_ROUNDS_MAX];
	struct bench_spread spread = {0};

	if (count == 0)
		return spread;
	memcpy(sorted, values, count * sizeof(*values));
	qsort(sorted, count, sizeof(*sorted), spread_compare);
	spread.median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
	spread.min = sorted[0];
	spread.max = sorted[count - 1];
	return spread;
}

double
bench_quantile(struct bench_samples *samples, double share)
{
	double rank;

	if (samples->count == 0)
		return 0;
	qsort(samples->us, samples->count, sizeof(*samples->us), spread_compare);
	rank = share * (double)(samples->count - 1);
	return samples->us[(uint32_t)(rank + 0.5)];
}

/* Of medians: a ratio per round would weigh a disturbed round twice. */
double
bench_ratio(const struct bench_plan *plan, const struct bench_table *table,
	    const struct bench_result *result, int size_idx)
{
	const struct bench_result *base = bench_yardstick(plan, table, size_idx);
	double top, bottom;

	if (base == NULL)
		return 0;
	top = bench_spread_of(result->gbps[size_idx], plan->round_count).median;
	bottom = bench_spread_of(base->gbps[size_idx], plan->round_count).median;
	return bottom > 0 ? top / bottom : 0;
}

const struct bench_result *
bench_yardstick(const struct bench_plan *plan, const struct bench_table *table, int size_idx)
{
	const struct bench_result *best = NULL;
	double best_gbps = 0;

	for (size_t m = 0; m < table->suite->mover_count; m++) {
		const struct bench_result *result = &table->results[m];
		double gbps;

		if (result->ops->role != BENCH_YARDSTICK || result->why[0] != '\0')
			continue;
		gbps = bench_spread_of(result->gbps[size_idx], plan->round_count).median;
		if (best == NULL || gbps > best_gbps) {
			best = result;
			best_gbps = gbps;
		}
	}
	return best;
}
