/* ways.h - one way after the other, shared memory and TCP: every number of every mover of each. */
#ifndef FAR_TESTS_BENCH_WAYS_H
#define FAR_TESTS_BENCH_WAYS_H

#include "tests/bench/bench.h"

/* Each round of one mover; one that is not there has the reason instead. */
struct bench_result {
	const struct bench_mover_ops *ops;
	char why[BENCH_TEXT_BYTES]; /* empty: it ran */
	char note[BENCH_TEXT_BYTES];
	double gbps[BENCH_SIZES][BENCH_ROUNDS_MAX];
	double cpu[BENCH_SIZES][BENCH_ROUNDS_MAX];      /* seconds per GB here */
	double peer_cpu[BENCH_SIZES][BENCH_ROUNDS_MAX]; /* and there */
	struct bench_samples row[BENCH_LATENCIES];      /* one after the other */
	struct bench_samples idle[BENCH_LATENCIES];     /* each after a pause */
	struct bench_samples beside;
};

/* Movers over one kind of way, and what is expected of the subject among them. */
struct bench_suite {
	const char *name;  /* "shm", "tcp" */
	const char *title; /* of the ratios */
	const char *yardstick;
	const struct bench_mover_ops *const *movers;
	size_t mover_count;
	double aim; /* of the yardstick's bandwidth */
	uint64_t set_bytes;
	uint32_t sets_needed; /* what its movers hold at the same time */
	bool latency;
	bool apart; /* the two sides stand for two hosts */
	/* Returns -ENODEV with the reason where nothing of it can be measured. NULL: it always can. */
	int (*available)(char *why, size_t why_bytes);
};

extern const struct bench_suite bench_suite_shm;
extern const struct bench_suite bench_suite_tcp;

/* A suite that ran, or did not. */
struct bench_table {
	const struct bench_suite *suite;
	char why[BENCH_TEXT_BYTES]; /* empty: it ran */
	uint64_t set_bytes;
	double load;                  /* of the machine, before it began */
	struct bench_result *results; /* owned; one for each mover */
};

/* Runs a suite. Returns 0, or a negative errno when something that has to be there is missing. */
int bench_suite_run(struct bench_plan *plan, struct bench_table *table);

/* Whether the plan leaves the mover out. */
bool bench_is_left_out(const struct bench_plan *plan, const struct bench_mover_ops *ops);

/* The best yardstick at a size: its result, or NULL. */
const struct bench_result *bench_yardstick(const struct bench_plan *plan,
					   const struct bench_table *table, int size_idx);
double bench_ratio(const struct bench_plan *plan, const struct bench_table *table,
		   const struct bench_result *result, int size_idx);

/* Tables on stdout. */
void bench_report(const struct bench_plan *plan, const struct bench_table *table);
/* All of them where the plan wants it. Returns 0 or -EIO. */
int bench_json_write(const struct bench_plan *plan, const struct bench_table *tables, size_t count);

#endif
