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
