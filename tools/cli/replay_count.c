/* replay_count.c - percentiles and differences: the arithmetic of a replay's report. */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "tools/cli/replay.h"

uint64_t
far_replay_percentile(const uint64_t *sorted, size_t count, double percent)
{
	size_t rank;

	if (count == 0)
		return 0;
	rank = (size_t)ceil(percent / 100 * (double)count);
	if (rank == 0)
		rank = 1;
	return sorted[(rank > count ? count : rank) - 1];
}

uint64_t
far_replay_donor_delta(const struct far_replay_result *result, size_t idx)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < result->donor_count; i++) {
		const struct far_donor_status *before = &result->donors_before[i];
		const struct far_donor_status *after = &result->donors_after[i];

		if (after->donor_value_count <= idx)
			continue;
		sum += after->donor_values[idx];
		if (before->epoch == after->epoch && before->donor_value_count > idx)
			sum -= before->donor_values[idx];
	}
	return sum;
}

double
far_replay_per_gb(uint64_t ns, uint64_t bytes)
{
	return (double)ns / (double)bytes; /* both are 10^9 to the unit */
}

void
far_replay_result_fini(struct far_replay_result *result)
{
	far_free(result->latency_ns);
	far_free(result->donors_before);
	far_free(result->donors_after);
	result->latency_ns = NULL;
	result->donors_before = NULL;
	result->donors_after = NULL;
}
