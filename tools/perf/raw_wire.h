/* raw_wire.h - what the two ends of a bare transport tell each other. Both are little-endian machines. */
#ifndef FAR_TOOLS_PERF_RAW_WIRE_H
#define FAR_TOOLS_PERF_RAW_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"
#include "transport/transport.h"

#define PERF_RAW_MAGIC 0x3166726570726166ULL /* "farperf1": it changes with the structs below */

/* With the connection: what the link is for. */
struct perf_raw_hello {
	uint64_t magic;
	uint64_t set_bytes; /* that would be liked */
	uint32_t write;     /* 0: READs */
	uint32_t unused;
};

enum perf_raw_kind {
	PERF_RAW_OFFER, /* server: the memory that is read or written; once, first */
	PERF_RAW_ASK,   /* client: how much CPU did you use */
	PERF_RAW_CPU,   /* server: the answer */
};

struct perf_raw_message {
	uint64_t magic;
	uint32_t kind;
	uint32_t unused;
	uint64_t cpu_ns; /* CPU: of the server's process, user and system */
	/* OFFER: */
	uint64_t set_bytes;
	uint64_t page_bytes;
	struct far_remote remote;
	char version[32];
};

/* Every word of memory that is read is made from its place. */
static inline uint64_t
perf_raw_word(uint64_t idx)
{
	return far_mix64(PERF_RAW_MAGIC ^ (idx * 0x2545f4914f6cdd1dULL));
}

/* Takes what has come, up to the last event; else, with @sleep, waits for something, at most 100 ms. */
void perf_raw_turn(struct far_transport *tp, bool sleep);

#endif
