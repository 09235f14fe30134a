/* bench.h - ways to move bytes, measured side by side in one run under the same conditions. */
#ifndef FAR_TESTS_BENCH_H
#define FAR_TESTS_BENCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/pages.h"

#define BENCH_ROUNDS_MAX 101
#define BENCH_SIZES      3
#define BENCH_MOVERS_MAX 8
#define BENCH_TEXT_BYTES 200

struct bench_plan {
	uint64_t set_bytes; /* moved per pass; a multiple of the largest block */
	uint32_t round_count;
	uint64_t request_bytes; /* of one prefetch */
	uint32_t in_flight;     /* prefetches at a time */
	uint32_t busy_poll_us;  /* of farpool's thread */
	const char *farpoold;   /* the donor's program */
	const char *json;       /* NULL, a path, or "-" */
	struct far_pages from;  /* a memfd, filled: what the copies read */
	struct far_pages arena; /* where every mover but farpool, with its L1, puts them */
};

struct bench_mover;

/*
 * Opened once, run for each block size in each round, closed. All of it is called by one thread.
 * A mover that this machine does not have says why in @why and returns a negative errno.
 */
struct bench_mover_ops {
	const char *name;
	const char *text; /* one line for the reader of the table */
	int (*open)(const struct bench_plan *plan, char *why, struct bench_mover **out);
	/* One pass over a set that is not in the cache. @ns_out: the time that the bytes took. */
	int (*pass)(struct bench_mover *mover, uint64_t block_bytes, uint64_t *bytes_out,
		    uint64_t *ns_out);
	void (*close)(struct bench_mover *mover);
};

extern const struct bench_mover_ops bench_memcpy;
extern const struct bench_mover_ops bench_stream;
extern const struct bench_mover_ops bench_prefetch;
#ifdef FAR_HAVE_UCX
extern const struct bench_mover_ops bench_ucx_posix;
extern const struct bench_mover_ops bench_ucx_sysv;
extern const struct bench_mover_ops bench_ucx_all;

/* The process whose memory the GETs read, for argv[1] == BENCH_UCX_DONOR. Returns its exit status. */
#define BENCH_UCX_DONOR "--ucx-donor"
int bench_ucx_donor(int argc, char **argv);
#endif

extern const uint64_t bench_sizes[BENCH_SIZES];

/* GB/s of each round; a mover that is not there has the reason instead. */
struct bench_result {
	const struct bench_mover_ops *ops;
	char why[BENCH_TEXT_BYTES]; /* empty: it ran */
	double gbps[BENCH_SIZES][BENCH_ROUNDS_MAX];
};

struct bench_spread {
	double median, min, max;
};

struct bench_spread bench_spread_of(const double *values, uint32_t count);

/* Table on stdout, and JSON where the plan wants it. Returns 0 or -EIO. */
int bench_report(const struct bench_plan *plan, const struct bench_result *results, size_t count);

/* The word at @idx of the pattern @seed. Bytes that were moved are compared with it. */
uint64_t bench_word(uint64_t seed, uint64_t idx);
void bench_fill(void *to, uint64_t seed, uint64_t size_bytes);
/* Looks at both ends only: what a pass may cost is one line each. */
int bench_ends_are(const void *at, uint64_t seed, uint64_t first_word, uint64_t size_bytes);

#endif
