/* cpu.h - what a prefetch costs this machine's processor in controllers, L1 and adapter, without the copies. */
#ifndef FAR_TESTS_BENCH_CPU_H
#define FAR_TESTS_BENCH_CPU_H

#include "controllers/prefetch.h"
#include "tests/bench/bench.h"

/* Where the time of a prefetch goes. */
enum cpu_part {
	CPU_CONTROLLERS,
	CPU_L1,
	CPU_ADAPTER, /* with its transport, but for */
	CPU_READS,   /* shm's copying, index lines among it: where there is a NIC, that does it */
	CPU_PART_COUNT,
};

struct cpu_plan {
	uint32_t keys; /* of one prefetch */
	uint32_t window_keys;
	uint32_t prefetch_count; /* per round and row */
	uint32_t round_count;
	uint32_t l1_blocks;
	const char *farpoold;
	const char *json;
	const char *only; /* NULL: all rows */
};

/* How the blocks get into L1. */
struct cpu_row {
	const char *name;
	const char *text;
	enum cpu_source {
		CPU_INSTANT, /* an adapter that answers at once and moves nothing */
		CPU_MEMORY,
		CPU_DONOR, /* farpoold over shm */
		CPU_HIT,   /* they are in L1 */
	} source;
	uint32_t block_bytes;
	bool full;     /* L1 evicts for each block */
	bool recorded; /* with a recorder: what it costs to leave it on */
};

struct cpu_result {
	char why[BENCH_TEXT_BYTES];                 /* empty: it ran */
	struct bench_samples prefetch;              /* microseconds from submit to readable */
	struct bench_samples release;               /* microseconds for giving all loans back */
	struct bench_samples parts[CPU_PART_COUNT]; /* of rounds of their own */
	double clock_us;                            /* of the clock that is in each sample */
	double turns;                               /* of the thread's loop per prefetch */
};

/* ---- cpu_run.c ---- */

int cpu_row_run(const struct cpu_plan *plan, const struct cpu_row *row, struct cpu_result *out);

/* ---- cpu_parts.c: time by part. The calling thread is in one part at a time ---- */

/* On: L1's calls count as L1's until they return. */
void cpu_parts_start(void);
void cpu_parts_stop(void);
/* Enters a part; returns the one that was left, to be entered again. */
enum cpu_part cpu_part_enter(enum cpu_part part);
/* Microseconds since the start. */
double cpu_part_us(enum cpu_part part);
/* An adapter around another one, that counts as adapter what happens inside; one at a time. */
struct far_l2 *cpu_shim_open(struct far_l2 *inner);

/* ---- cpu_l2.c ---- */

/* Holds every key, and loads without moving a byte. One at a time. */
struct far_l2 *cpu_instant_open(uint32_t block_bytes);

#endif
