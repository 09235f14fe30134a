/* l1.h - blocks per second of an L1 alone, beside what the memory of this machine allows. */
#ifndef FAR_TESTS_BENCH_L1_H
#define FAR_TESTS_BENCH_L1_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "l1/l1.h"

#define L1_BENCH_SIZES_MAX   8
#define L1_BENCH_THREADS_MAX 8
#define L1_BENCH_BATCHES     3
#define L1_BENCH_BATCH_MAX   256
#define L1_BENCH_ROUNDS_MAX  101
#define L1_BENCH_ALIGN_BYTES 64
#define L1_BENCH_TEXT_BYTES  200

enum l1_bench_what {
	L1_BENCH_WALK,  /* no L1: an index line, then a record's line, two atomic additions to it */
	L1_BENCH_READ,  /* reserve_read, finish_read */
	L1_BENCH_WRITE, /* reserve_write (evicts), finish_write_and_reserve_read, finish_read */
	L1_BENCH_WHATS,
};

struct l1_bench_plan {
	uint64_t keys[L1_BENCH_SIZES_MAX];
	uint32_t size_count;
	uint32_t batch;        /* 0: all */
	uint32_t thread_count; /* the most; 1 is measured as well */
	uint32_t round_count;
	uint32_t slice_ms; /* of one cell in one round */
	bool only[L1_BENCH_WHATS];
	bool arenas;
	const char *json;  /* NULL, a path, or "-" */
	const char *trace; /* whose sizes one of the arenas gets */
};

/* One line of the table. */
struct l1_bench_cell {
	enum l1_bench_what what;
	uint32_t size_idx;
	uint32_t batch;
	uint32_t threads;
	double mops[L1_BENCH_ROUNDS_MAX];   /* million blocks a second, all threads */
	double cpu_ns[L1_BENCH_ROUNDS_MAX]; /* of one thread, per block */
};

/* What the walk walks over: as many lines as an L1 of so many keys has to touch. */
struct l1_bench_walk {
	uint32_t *index;
	uint64_t index_mask;
	struct l1_bench_line *lines;
};

struct l1_bench_line {
	_Alignas(64) _Atomic uint64_t word;
};

/* An L1 full of small blocks whose memory nobody touches. */
struct l1_bench_full {
	struct far_l1 *l1; /* NULL: not open */
	void *arena;
	size_t arena_bytes;
	far_l1_session sessions[L1_BENCH_THREADS_MAX];
	uint64_t written[L1_BENCH_THREADS_MAX]; /* keys of this thread so far */
};

/* All of one size; they are there together, so that sizes are measured side by side. */
struct l1_bench_world {
	uint64_t keys;
	struct l1_bench_walk walk;
	struct l1_bench_full read;
	struct l1_bench_full write;
};

/* Bytes that the worlds of a plan will touch. */
uint64_t l1_bench_bytes(const struct l1_bench_plan *plan);
/* Returns 0 or a negative errno; l1_bench_close() takes a half-open one. */
int l1_bench_open(const struct l1_bench_plan *plan, uint64_t keys, struct l1_bench_world *world);
void l1_bench_close(struct l1_bench_world *world);

/* Runs one cell for a slice of time. 0, or -EIO: an answer was not the one that was due. */
int l1_bench_run(const struct l1_bench_plan *plan, struct l1_bench_world *world,
		 struct l1_bench_cell *cell, uint32_t round);

/* How full an arena of 128 MiB gets with blocks of certain sizes. */
struct l1_bench_sizes {
	const char *name;
	uint64_t blocks;
	uint64_t bytes_mean;
	double refused;      /* share that is used when a key is refused and nothing is evicted */
	double evicting;     /* share that is used while the oldest go for the new ones */
	double evicting_min; /* the least of those */
};

#define L1_BENCH_ARENAS 3
/* Returns how many of @out it filled; a trace that is not there says so in @why. */
uint32_t l1_bench_arena(const struct l1_bench_plan *plan, struct l1_bench_sizes *out, char *why);

struct l1_bench_result {
	double load;                 /* of the machine, before it began */
	struct l1_bench_cell *cells; /* owned */
	size_t cell_count;
	struct l1_bench_sizes sizes[L1_BENCH_ARENAS];
	uint32_t sizes_count;
	char why[L1_BENCH_TEXT_BYTES]; /* the trace was not measured */
};

const char *l1_bench_name(enum l1_bench_what what);
void l1_bench_report(const struct l1_bench_plan *plan, const struct l1_bench_result *result);
/* 0 or -EIO. */
int l1_bench_json(const struct l1_bench_plan *plan, const struct l1_bench_result *result);

#endif
