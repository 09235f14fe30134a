/* samples.c - what is said of many measurements: order, percentiles, the best window. */
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "tools/perf/perf.h"

/* The search is quadratic, as perftest's: this many lists take about 0.1 s. */
#define PEAK_LISTS_MAX 20000U

static int
compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void
perf_samples_sort(uint64_t *samples, uint64_t count)
{
	qsort(samples, count, sizeof(*samples), compare);
}

uint64_t
perf_samples_rank(const uint64_t *sorted, uint64_t count, double share)
{
	double rank = ceil(share * (double)count);
	uint64_t idx = rank < 1 ? 0 : (uint64_t)rank - 1;

	return sorted[idx < count ? idx : count - 1];
}

struct perf_spread
perf_samples_spread(const uint64_t *sorted, uint64_t count)
{
	double sum = 0, squares = 0, mean;

	for (uint64_t i = 0; i < count; i++)
		sum += (double)sorted[i];
	mean = sum / (double)count;
	for (uint64_t i = 0; i < count; i++) {
		double off = (double)sorted[i] - mean;

		squares += off * off;
	}
	return (struct perf_spread){
		.min_us = (double)sorted[0] / 1e3,
		.max_us = (double)sorted[count - 1] / 1e3,
		.typical_us = (double)perf_samples_rank(sorted, count, 0.5) / 1e3,
		.avg_us = mean / 1e3,
		.stdev_us = sqrt(squares / (double)count) / 1e3,
		.p99_us = (double)perf_samples_rank(sorted, count, 0.99) / 1e3,
		.p999_us = (double)perf_samples_rank(sorted, count, 0.999) / 1e3,
	};
}

double
perf_peak(const uint64_t *posted_ns, const uint64_t *done_ns, uint64_t count, uint64_t list_bytes)
{
	double best = 0;

	if (count > PEAK_LISTS_MAX)
		return 0;
	for (uint64_t first = 0; first < count; first++) {
		for (uint64_t last = first; last < count; last++) {
			double ns = (double)(done_ns[last] - posted_ns[first]);
			double rate = ns > 0 ? (double)(last - first + 1) / ns : 0;

			if (rate > best)
				best = rate;
		}
	}
	return best * (double)list_bytes * (double)FAR_NS_PER_S;
}
