/* hist.c - where a time falls, and what a rank comes to. */
#include "tools/perf/hist.h"

#include <math.h>

#include "base/assert.h"

static uint32_t
bucket_of(uint64_t value)
{
	uint32_t shift;

	if (value < (uint64_t)2 * PERF_HIST_SUB)
		return (uint32_t)value;
	shift = 56U - (uint32_t)__builtin_clzll(value);
	return shift * PERF_HIST_SUB + (uint32_t)(value >> shift);
}

uint64_t
perf_hist_upper(uint32_t bucket)
{
	uint64_t shift = bucket / PERF_HIST_SUB, sub;

	if (shift < 2)
		return bucket;
	shift--;
	sub = bucket - shift * PERF_HIST_SUB;
	/* The last one ends where the numbers do: the sum wraps to it. */
	return ((sub + 1) << shift) - 1;
}

void
perf_hist_add(struct perf_hist *hist, uint64_t value)
{
	uint32_t bucket = bucket_of(value);

	FAR_ASSERT(bucket < PERF_HIST_BUCKETS);
	hist->buckets[bucket]++;
	if (hist->count == 0 || value < hist->min)
		hist->min = value;
	if (value > hist->max)
		hist->max = value;
	hist->count++;
	hist->sum += (double)value;
}

void
perf_hist_merge(struct perf_hist *into, const struct perf_hist *from)
{
	if (from->count == 0)
		return;
	if (into->count == 0 || from->min < into->min)
		into->min = from->min;
	if (from->max > into->max)
		into->max = from->max;
	into->count += from->count;
	into->sum += from->sum;
	for (uint32_t i = 0; i < PERF_HIST_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
}

uint64_t
perf_hist_rank(const struct perf_hist *hist, double share)
{
	double rank = ceil(share * (double)hist->count);
	uint64_t seen = 0, want = rank < 1 ? 1 : (uint64_t)rank;

	for (uint32_t i = 0; i < PERF_HIST_BUCKETS; i++) {
		uint64_t upper = perf_hist_upper(i);

		seen += hist->buckets[i];
		if (seen >= want)
			return upper < hist->max ? upper : hist->max;
	}
	return hist->max;
}

double
perf_hist_mean(const struct perf_hist *hist)
{
	return hist->count > 0 ? hist->sum / (double)hist->count : 0;
}
