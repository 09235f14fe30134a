/* trace.h - requests as JSON lines: when, and the prompt's prefix blocks in order. */
#ifndef FAR_TOOLS_CLI_TRACE_H
#define FAR_TOOLS_CLI_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAR_TRACE_ERROR_BYTES 512
#define FAR_TRACE_IDS_MAX     4096U      /* blocks of one request */
#define FAR_TRACE_LINE_MAX    (1U << 20) /* bytes of one line */

/* One request. Its ids are ids[first .. first + count). */
struct far_trace_request {
	uint64_t at_ns; /* from the start of the trace */
	size_t first;
	uint32_t count;
};

struct far_trace {
	struct far_trace_request *requests; /* owned */
	size_t request_count;
	size_t request_capacity;
	uint64_t
		*ids; /* owned; the same number is the same block, with the same prefix before it */
	size_t id_count;
	size_t id_capacity;
	char source[256]; /* for people */
};

/**
 * far_trace_load - reads a trace: one JSON object a line with "timestamp" (milliseconds) and
 * "hash_ids" (numbers), plain or gzip; other members are ignored. The format of the Mooncake traces
 * (FAST '25).
 *
 * @requests_max: 0, or stop after so many requests.
 * @error:        one line that names file, line, cause and next step.
 *
 * Returns: 0, or -EINVAL (malformed, empty, truncated), -ENOENT, -EACCES, -ENOMEM; then @out is
 *          empty.
 */
int far_trace_load(const char *path, size_t requests_max, struct far_trace *out,
		   char error[FAR_TRACE_ERROR_BYTES]);

/* One line; for the loader and the fuzzer. -EINVAL with the cause (without file and line). */
int far_trace_parse_line(struct far_trace *trace, const char *line, size_t size_bytes,
			 char error[FAR_TRACE_ERROR_BYTES]);

struct far_trace_generate {
	uint64_t seed;
	uint32_t conversations;
	uint32_t turns_max;       /* of one conversation, 1.. */
	uint32_t system_blocks;   /* shared by a quarter of the conversations each */
	uint32_t turn_blocks_max; /* new blocks of one turn, 1.. */
	uint64_t think_ns;        /* mean pause between turns */
};

/* Multi-turn conversations: each turn repeats all before it and adds blocks. Returns 0, -ENOMEM. */
int far_trace_generate(const struct far_trace_generate *config, size_t requests_max,
		       struct far_trace *out);

/* What a cache that never evicts would hit: the number that a replay has to reach. */
struct far_trace_summary {
	uint64_t references;
	uint64_t distinct;
	uint64_t prefix_hits;
	uint32_t request_blocks_max;
};
int far_trace_summarise(const struct far_trace *trace, struct far_trace_summary *out);

void far_trace_fini(struct far_trace *trace);

#endif
