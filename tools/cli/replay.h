/* replay.h - traffic against a client: prefetch the longest prefix, check it, store the rest. */
#ifndef FAR_TOOLS_CLI_REPLAY_H
#define FAR_TOOLS_CLI_REPLAY_H

#include <stdbool.h>
#include <stdio.h>

#include "farpool/memory.h"
#include "tools/cli/trace.h"

#define FAR_REPLAY_LIVE_MAX 64U

struct far_replay_config {
	uint32_t block_bytes;
	double speed;         /* 0: one request after the other; else times real time */
	uint64_t deadline_ns; /* relative, of each prefetch */
	uint64_t store_ns;    /* relative: how long to wait for the stores of a request */
	bool progress;        /* a line on stderr while it runs */
};

/* What happened; counted by the replay itself, the client's and donors' counters beside it. */
struct far_replay_result {
	uint64_t requests;
	uint64_t references;
	uint64_t hits;    /* blocks of readable prefixes */
	uint64_t hits_l1; /* of them in L1 at submit */
	uint64_t bytes_hit;
	uint64_t bytes_from_l2;
	uint64_t wrong_bytes;
	uint64_t wrong_blocks;
	uint64_t put_blocks; /* given to L1 for the donors */
	uint64_t put_bytes;
	uint64_t put_present;   /* behind a gap, but there already */
	uint64_t put_no_memory; /* L1 was full of locked blocks */
	uint64_t flush_late;    /* requests whose stores took longer than store_ns */
	uint64_t cut_by_deadline;
	uint64_t wall_ns;
	uint64_t prefetch_ns; /* sum of submit -> readable of requests that read from donors */
	uint64_t client_cpu_ns;
	uint64_t data_cpu_ns; /* of it: making and checking the bytes */
	uint64_t *latency_ns; /* owned: of requests that read from donors; sorted at the end */
	size_t latency_count;
	struct far_stats before;
	struct far_stats after;
	struct far_donor_status *donors_before; /* owned, donor_count */
	struct far_donor_status *donors_after;
	size_t donor_count;
	struct far_memory_info memory; /* what L1 lies in, and the ways that its bytes took */
};

/* Runs it all. Returns 0, or a negative errno with one line in @error: the replay itself could not
 * go on. Lost donors and misses are results, not errors. */
int far_replay_run(struct far_client *client, const struct far_trace *trace,
		   const struct far_replay_config *config, struct far_replay_result *out,
		   char error[FAR_TRACE_ERROR_BYTES]);
void far_replay_result_fini(struct far_replay_result *result);

/* The value below which @percent of the sorted samples lie (nearest rank); 0 without samples. */
uint64_t far_replay_percentile(const uint64_t *sorted, size_t count, double percent);
/* Donor counter @idx: after minus before, over all donors; a restarted donor counts from zero. */
uint64_t far_replay_donor_delta(const struct far_replay_result *result, size_t idx);
/* Seconds per 10^9 bytes; there are some. */
double far_replay_per_gb(uint64_t ns, uint64_t bytes);

/* What a report says beside the numbers. */
struct far_replay_context {
	const struct far_trace *trace;
	const struct far_trace_summary *summary;
	const struct far_replay_config *config;
	uint64_t l1_bytes;
	bool verify;
};
void far_replay_print(const struct far_replay_result *result,
		      const struct far_replay_context *context, FILE *out);
void far_replay_print_json(const struct far_replay_result *result,
			   const struct far_replay_context *context, FILE *out);

#endif
