/* pool.h - what the modes share that go through clients and donors: options, a rig, workers, results. */
#ifndef FAR_TOOLS_PERF_POOL_H
#define FAR_TOOLS_PERF_POOL_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/rng.h"
#include "farpool/farpool.h"
#include "tools/perf/donor.h"
#include "tools/perf/hist.h"
#include "tools/perf/models.h"
#include "tools/perf/perf.h"

#define POOL_LIST_MAX    16U /* sizes or batches of one run */
#define POOL_DONORS_MAX  16U
#define POOL_CLIENTS_MAX 64U
#define POOL_THREADS_MAX 64U /* of one client */
#define POOL_DEPTH_MAX   64U
#define POOL_BATCH_MAX   65536U
#define POOL_SETS_MAX    32U
#define POOL_ROWS_MAX    ((size_t)3 * POOL_LIST_MAX * POOL_LIST_MAX)
#define POOL_WAIT_NS     (60 * FAR_NS_PER_S) /* for one request: longer is a fault of the pool */

/* Which options a mode takes; see the table in pool_options.c. */
enum pool_mode {
	POOL_PREFETCH = 1,
	POOL_STORE = 2,
	POOL_MIXED = 4,
	POOL_LOOKUP = 8,
	POOL_KV = 16,
	POOL_INCAST = 32,
	POOL_REGISTER = 64,
};

struct pool_options {
	enum pool_mode mode;
	uint32_t size_count, batch_count, key_count, address_count, set_count; /* of the lists */
	uint32_t depth;   /* -t: requests in flight, per thread */
	uint32_t threads; /* of each client */
	uint32_t writers; /* --writers, threads of each client beside them; mixed */
	uint32_t clients;
	uint32_t donors;  /* of our own */
	uint32_t misses;  /* --misses: percent of keys that nobody has; lookup */
	uint32_t cancels; /* --cancel: percent of requests that are given up; prefetch */
	uint32_t tp;      /* --tp: ranks; kv */
	bool huge, gbits, json, csv, quiet;
	uint64_t sizes[POOL_LIST_MAX];   /* -s: bytes of a block */
	uint64_t batches[POOL_LIST_MAX]; /* -b: blocks of a request */
	uint64_t keys[POOL_LIST_MAX];    /* --keys: blocks in the index; lookup */
	uint64_t requests;               /* -n, of each line; 0: the set once */
	uint64_t duration_ns;            /* -D, of each line; 0: by requests */
	double rate;        /* --rate: requests per second of all threads; 0: closed loop */
	uint64_t set_bytes; /* --set: blocks of each size at the donors, all together */
	uint64_t l1_bytes;  /* --l1, of each client; 0: what is in flight, four times */
	uint64_t timeout_ns;
	uint64_t tokens, chunk_tokens; /* of the prefix, of a block; kv */
	const char *model, *shape;     /* one of the two; kv */
	const char *over;              /* --over: the transport to donors of our own */
	const char *farpoold;          /* --farpoold; NULL: beside this program, or in PATH */
	const char *addresses[POOL_DONORS_MAX]; /* NAME=ADDRESS, instead of donors of our own */
	const char *sets[POOL_SETS_MAX]; /* --client: KEY=VALUE of a client's configuration */
	const char *json_path;
	const char *plot_path;
};

/* Counters of the whole run; differences of two are a line's. */
struct pool_counts {
	uint64_t cpu_ns;
	uint64_t donor_cpu_ns; /* of all donors that said so */
	bool donor_cpu_known;
	uint64_t messages, touch_notes;
	uint64_t loaded_bytes, stored_bytes;
	uint64_t stale_rejects, rereads, misses, stores_lost;
	uint64_t late_bytes; /* that landed after nobody waited for them any more */
};

/* The time of lookups and of loads, as the client's events tell it. */
struct pool_phases {
	uint64_t cursor; /* of far_events_read() */
	uint64_t lookup_ns, lookups, data_ns, loads, lost;
};

struct pool_row {
	const char *what; /* static: "prefetch" */
	uint64_t size_bytes, batch;
	uint64_t blocks; /* at the donors, or in the index */
	uint32_t clients, donors;
	uint64_t requests, keys, bytes, ns;
	uint64_t found;                              /* keys that were somewhere; lookup */
	uint64_t client_bytes_min, client_bytes_max; /* of one client; incast */
	struct perf_hist *hist;                      /* owned; ns per request */
	struct pool_counts counts;
	struct pool_phases phases;
	uint64_t wrong;
	uint64_t cancelled; /* requests; not among the others */
	bool only_times;    /* what it cost is in another line */
};

struct pool_client {
	struct far_client *client;
	struct pool_phases phases; /* read by its first worker */
};

struct pool {
	const struct pool_options *options; /* borrowed */
	struct perf_place place;
	char path[64]; /* how bytes come: "one-sided", "served" */
	struct perf_donor donors[POOL_DONORS_MAX];
	uint32_t donor_count;
	struct pool_client clients[POOL_CLIENTS_MAX];
	uint32_t client_count;
	uint64_t size_bytes;
	uint64_t block_count;  /* at the donors */
	uint64_t nonce;        /* in every key: nobody's blocks but ours */
	uint64_t next_fresh;   /* atomic: of blocks that writers make; any thread */
	uint32_t clients_most; /* of all lines, for requests of one size; 0: as the options say */
	const char *label;     /* of lines; NULL: what they do */
	struct model_shape shape; /* kv */
	struct pool_row *rows;    /* owned */
	uint32_t row_count;
};

struct pool_slot {
	struct far_prefetch_handle *handle; /* NULL: free */
	uint64_t first;
	uint64_t due_ns, start_ns;
	bool cancelled;
};

/* One thread of one client. */
struct pool_worker {
	struct pool *pool;
	struct pool_client *client;
	pthread_t thread;
	pthread_barrier_t *gate;
	bool writes;
	bool first_of_client;
	uint64_t batch;
	uint64_t requests;         /* to make */
	uint64_t until_ns;         /* FAR_TIME_NEVER: by requests */
	uint64_t first, count, at; /* its part of the set, in blocks, and where it is */
	double gap_ns;             /* mean, between requests; 0: closed loop */
	struct far_rng rng;
	struct pool_slot *slots; /* owned: depth of them */
	struct far_key *keys;    /* owned: a batch */
	struct perf_hist *hist;  /* owned */
	uint64_t done, bytes, wrong, cancelled;
	uint64_t end_ns; /* when the last one had ended */
	bool check_all;
	int rc;
};

/* ---- pool_options.c: exits with 2 on a bad one ---- */

void pool_options_parse(enum pool_mode mode, int argc, char **argv, struct pool_options *out);

/* ---- pool_open.c: all say themselves what went wrong; 0 or 1 ---- */

int pool_begin(struct pool *pool, const struct pool_options *options);
/* Donors, clients and the place of one block size; L1 has room for @flight_bytes four times. */
int pool_open(struct pool *pool, uint64_t size_bytes, uint64_t block_count, uint64_t flight_bytes);
/* Stores blocks 0..block_count-1. */
int pool_fill(struct pool *pool);
void pool_shut(struct pool *pool);
/* Rows; takes a zeroed struct. */
void pool_end(struct pool *pool);
void pool_key(const struct pool *pool, uint64_t idx, struct far_key *out);
void pool_block_fill(const struct pool *pool, uint64_t idx, void *data, bool whole);
bool pool_block_is(const struct pool *pool, uint64_t idx, const void *data, bool whole);

/* ---- pool_meter.c ---- */

void pool_counts_get(struct pool *pool, bool before, struct pool_counts *out);
struct pool_counts pool_counts_diff(const struct pool_counts *after,
				    const struct pool_counts *before);
/* Reads what the client recorded since. Thread: one at a time for each client. */
void pool_phases_read(struct pool_client *client);

/* ---- pool_run.c ---- */

/* Runs @readers and @writers threads of each client at once, and adds a row for each kind.
 * Says what went wrong; 0 or 1. */
int pool_run(struct pool *pool, uint32_t readers, uint32_t writers, uint64_t batch);
/* The whole of a mode whose lines are sizes and batches; the exit status. */
int pool_sweep(enum pool_mode mode, int argc, char **argv);
/* The lines of one block size, with donors and clients of their own. 0 or 1. */
int pool_size_run(struct pool *pool, uint64_t size_bytes);
/* Blocks of a request, where the user did not say. */
uint64_t pool_batch(const struct pool *pool, uint64_t size_bytes);
/* A new row of the pool; NULL: no memory, or too many. */
struct pool_row *pool_row_new(struct pool *pool, const char *what, uint64_t batch);

/* ---- prefetch.c, store.c: one request ---- */

/* @flags: FAR_PREFETCH_*. */
int pool_prefetch_submit(struct pool_worker *worker, struct pool_slot *slot, uint32_t flags);
/* Waits until @until_ns; 0: ended and counted; -ETIMEDOUT: not yet. */
int pool_prefetch_finish(struct pool_worker *worker, struct pool_slot *slot, uint64_t until_ns);
int pool_store_once(struct pool_worker *worker, uint64_t due_ns);

/* ---- pool_report.c ---- */

void pool_report_head(const struct pool *pool);
void pool_report_row(const struct pool *pool, const struct pool_row *row);
json_t *pool_report_json(const struct pool *pool);
/* 0 or 1 */
int pool_report_end(const struct pool *pool);

/* ---- plot.c: 0 or 1, and says why ---- */

int pool_plot(const struct pool *pool);

#endif
