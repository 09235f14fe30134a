/* hist.h - a histogram of times: bounded memory, any number of samples, to be added up over threads. */
#ifndef FAR_TOOLS_PERF_HIST_H
#define FAR_TOOLS_PERF_HIST_H

#include <stdint.h>

/*
 * Values below 256 have a bucket each; above, each power of two is cut into 128: a percentile is the
 * upper end of its bucket, so at most 0.8 % above the sample of nearest rank. minimum, maximum and mean
 * are exact. (HdrHistogram does the same; it is not in Debian 12.)
 */
#define PERF_HIST_SUB     128U
#define PERF_HIST_BUCKETS (PERF_HIST_SUB * 58U)

struct perf_hist {
	uint64_t count;
	uint64_t min, max; /* of an empty one: 0 */
	double sum;
	uint64_t buckets[PERF_HIST_BUCKETS];
};

void perf_hist_add(struct perf_hist *hist, uint64_t value);
void perf_hist_merge(struct perf_hist *into, const struct perf_hist *from);
/* @share: 0 to 1. By nearest rank; 0 of an empty one. */
uint64_t perf_hist_rank(const struct perf_hist *hist, double share);
/* The greatest value that falls into a bucket. */
uint64_t perf_hist_upper(uint32_t bucket);
double perf_hist_mean(const struct perf_hist *hist);

#endif
