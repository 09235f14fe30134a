/* bench.h - ways to move bytes, measured side by side in one run under the same conditions. */
#ifndef FAR_TESTS_BENCH_H
#define FAR_TESTS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/pages.h"

#define BENCH_ROUNDS_MAX 101
#define BENCH_SIZES      3 /* of the ways */
#define BENCH_LATENCIES  3
#define BENCH_ONCE_COUNT 100 /* latencies that a round takes of a mover and a size */
#define BENCH_MOVERS_MAX 8
#define BENCH_TEXT_BYTES 200
#define BENCH_DONOR_NAME "bench"

#define BENCH_VERSIONS_MAX  8
#define BENCH_VERSION_BYTES 80

struct bench_plan {
	uint64_t set_bytes; /* moved per pass; a multiple of the largest block */
	uint32_t round_count;
	uint64_t request_bytes;             /* of one prefetch */
	uint32_t in_flight;                 /* prefetches at a time */
	bool anywhere;                      /* the kernel chooses where both sides run */
	bool huge_pages;                    /* 2 MiB pages on both sides of all; else 4 KiB */
	uint32_t busy_poll_us;              /* of farpool's thread */
	uint32_t helpers;                   /* that its client may have; bench_helpers() has them */
	const char *farpoold;               /* the donor's program */
	const char *json;                   /* NULL, a path, or "-" */
	const char *only[BENCH_MOVERS_MAX]; /* names of movers; none: all of them */
	struct far_pages from;              /* a memfd, filled: what the copies read */
	struct far_pages arena; /* where every mover but farpool, with its L1, puts them */
};

/* What moving some bytes, or answering some questions, took. */
struct bench_pass {
	uint64_t bytes;
	uint64_t count; /* of keys, requests or batches; 0: the mover does not count */
	uint64_t ns;
	uint64_t cpu_ns;      /* of this process; 0: not known */
	uint64_t peer_cpu_ns; /* of the process that the bytes came from; 0: there is none */
	uint64_t messages;    /* sent and received meanwhile */
};

struct bench_mover;

enum bench_role {
	BENCH_BESIDE,
	BENCH_YARDSTICK, /* the best of these is what the subject is compared with */
	BENCH_SUBJECT,
};

/*
 * Opened once, run for each block size in each round, closed. All of it is called by one thread.
 * A mover that this machine does not have says why in @why and returns a negative errno. @why stays
 * until close: one that fails later may say so there, too.
 */
struct bench_mover_ops {
	const char *name;
	const char *text; /* one line for the reader of the table */
	enum bench_role role;
	bool required; /* without it the run has failed */
	int (*open)(const struct bench_plan *plan, char *why, struct bench_mover **out);
	/* One pass over a set that is not in the cache. The first of a size, which is not counted, may
	 * make what the size needs. */
	int (*pass)(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out);
	/* One block, with nothing else in flight. NULL: it has no latency to show. */
	int (*once)(struct bench_mover *mover, uint64_t block_bytes, uint64_t *ns_out);
	/* Small reads one after the other, while big blocks stream on the same connection, until
	 * there are BENCH_ONCE_COUNT or BENCH_BESIDE_NS have passed; or NULL. */
	int (*beside)(struct bench_mover *mover, uint64_t *ns, uint32_t *count_out);
	/* Whether it may keep a processor busy while it waits: only in its own turns. Or NULL. */
	int (*busy)(struct bench_mover *mover, bool on);
	/* What it found out about itself when it was opened, for people. Or NULL. */
	const char *(*note)(const struct bench_mover *mover);
	void (*close)(struct bench_mover *mover);
};

extern const struct bench_mover_ops bench_memcpy;
extern const struct bench_mover_ops bench_stream;
extern const struct bench_mover_ops bench_past;
extern const struct bench_mover_ops bench_prefetch;
extern const struct bench_mover_ops bench_tcp_prefetch;
extern const struct bench_mover_ops bench_raw;
extern const struct bench_mover_ops bench_store;       /* blocks until they are committed */
extern const struct bench_mover_ops bench_store_batch; /* batches, and what messages they take */
extern const struct bench_mover_ops bench_lookup;      /* size: keys in the index */
extern const struct bench_mover_ops bench_redis;
extern const struct bench_mover_ops bench_redis_direct;
extern const struct bench_mover_ops bench_cpu_room; /* size: keys of a prefetch */
extern const struct bench_mover_ops bench_cpu_instant;
extern const struct bench_mover_ops bench_cpu_memory;
extern const struct bench_mover_ops bench_cpu_donor;
extern const struct bench_mover_ops bench_iperf;
extern const struct bench_mover_ops bench_perftest;
#ifdef FAR_BENCH_UCX
extern const struct bench_mover_ops bench_ucx_posix;
extern const struct bench_mover_ops bench_ucx_sysv;
extern const struct bench_mover_ops bench_ucx_all;
extern const struct bench_mover_ops bench_ucx_tcp;
extern const struct bench_mover_ops bench_ucx_tcp64;

/* UCX warns of what two users of it in one process do; neither of them minds. */
void bench_ucx_quiet(void);
/* The process whose memory the GETs read, for argv[1] == BENCH_UCX_DONOR. Returns its exit status. */
#define BENCH_UCX_DONOR "--ucx-donor"
int bench_ucx_donor(int argc, char **argv);
#endif
/* The same for READs over a transport of ours, without a pool. */
#define BENCH_RAW_DONOR "--raw-donor"
int bench_raw_donor(int argc, char **argv);
/* What main() begins with: whether this process was started as one of the two; then @status_out is its
 * exit status. */
bool bench_child_run(int argc, char **argv, int *status_out);

extern const uint64_t bench_sizes[BENCH_SIZES];
extern const uint64_t bench_latencies[BENCH_LATENCIES];
#define BENCH_BESIDE_BIG_BYTES   ((uint64_t)64 << 20)
#define BENCH_BESIDE_SMALL_BYTES 4096
#define BENCH_BESIDE_NS          FAR_NS_PER_S

/* Latencies in microseconds, of all rounds. */
struct bench_samples {
	double us[BENCH_ROUNDS_MAX * BENCH_ONCE_COUNT];
	uint32_t count;
};

struct bench_spread {
	double median, min, max;
};

struct bench_spread bench_spread_of(const double *values, uint32_t count);
/* @share: 0.5 is the median; sorts @samples. */
double bench_quantile(struct bench_samples *samples, double share);

struct bench_machine {
	char cpu[128];
	char system[65];
	char release[65];
	long cpu_count;
	long cache_bytes;  /* of the last level */
	long cache2_bytes; /* of the second, of one processor */
};

void bench_machine_read(struct bench_machine *machine);
/* What farpool's donors have, for people. */
const char *bench_pages_text(const struct bench_plan *plan);
/* How many helpers the client has, where one runs on all processors. */
uint32_t bench_helpers(const struct bench_plan *plan);
/* The load average of the last minute; 0: not known. */
double bench_load(void);
/* Seconds that all processors were used since the machine started, by everybody; and that a hypervisor gave
 * to somebody else while we had something to do. */
struct bench_busy {
	double used_s, stolen_s;
};
void bench_busy_read(struct bench_busy *busy);

/* Of what is compared with: "UCX 1.13.1". */
void bench_versions_get(char out[BENCH_VERSIONS_MAX][BENCH_VERSION_BYTES], uint32_t *count_out);

/* In place on a terminal, a line elsewhere; nothing ends it. */
void bench_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The two regions of a plan, each of its set_bytes; says itself why not. @sets_needed: of them, with
 * what movers hold at the same time. Returns 0 or a negative errno. */
int bench_regions_open(struct bench_plan *plan, uint32_t sets_needed);
void bench_regions_close(struct bench_plan *plan);
/* A latency of an idle connection: the pause before it, and how many a turn has. */
#define BENCH_IDLE_NS    FAR_NS_PER_MS
#define BENCH_IDLE_COUNT 50
/* The word at @idx of the pattern @seed. Bytes that were moved are compared with it. */
uint64_t bench_word(uint64_t seed, uint64_t idx);
void bench_fill(void *to, uint64_t seed, uint64_t size_bytes);
/* Looks at both ends only: what a pass may cost is one line each. */
int bench_ends_are(const void *at, uint64_t seed, uint64_t first_word, uint64_t size_bytes);

#endif
