/* sim.h - a rack in one thread and virtual time: donors, clients, and what happens to them. */
#ifndef FAR_TESTS_MODEL_SIM_SIM_H
#define FAR_TESTS_MODEL_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "controllers/eviction.h"
#include "controllers/prefetch.h"
#include "controllers/store.h"
#include "l1/l1.h"
#include "l2/l2.h"
#include "pool/pool.h"
#include "transport/loop/loop.h"

/* ---- a history: what happens, in order; each action is whole without those before it ---- */

enum sim_kind {
	SIM_WRITE,       /* a client writes blocks into its L1; they are stored */
	SIM_PREFETCH,    /* a client asks for a run of keys */
	SIM_WARM,        /* the same, without locks for anybody */
	SIM_CANCEL,      /* a request that lives */
	SIM_RELEASE,     /* blocks that are held are looked at again and given back */
	SIM_EVICT,       /* a client's L1 loses what it may lose */
	SIM_DELETE,      /* keys are deleted in L1, by force or not */
	SIM_TEAR,        /* a donor is caught amid storing lines of its index */
	SIM_DONOR_PAUSE, /* its process stands still, its memory does not */
	SIM_DONOR_RESUME,
	SIM_DONOR_KILL, /* and comes back over the same memory, with the same addresses and keys */
	SIM_DONOR_SHRINK, /* a segment is emptied and taken back, or lent again */
	SIM_CLIENT_PAUSE,
	SIM_CLIENT_RESUME,
	SIM_CLIENT_KILL, /* with open lanes, locks, requests; another one takes its place */
	SIM_CUT,         /* between a client and a donor */
	SIM_MEND,        /* all of it */
	SIM_NO_MEMORY,   /* an allocation fails soon */
	SIM_REST,        /* a while without anything else */
	SIM_KINDS,
};

struct sim_action {
	uint8_t kind;
	uint8_t who;     /* modulo the number of donors or clients */
	uint16_t run_us; /* virtual time that passes behind it */
	uint32_t random; /* all else that it needs to know comes from this */
};

struct sim_history {
	uint64_t seed; /* of the fabric */
	struct sim_action *actions;
	uint32_t count;
};

/* What a child tells its parent, in shared memory. */
#define SIM_WHY_BYTES 256
struct sim_report {
	uint64_t events; /* of the fabric, and actions */
	uint64_t actions[SIM_KINDS];
	uint64_t checks[8]; /* enum sim_check */
	uint64_t landings;
	uint32_t action_at; /* the one that runs, or ran last */
	char why[SIM_WHY_BYTES];
};

/* How often each promise was put to the test. */
enum sim_check {
	SIM_CHECK_BYTES,    /* a block that was served had the bytes of its key */
	SIM_CHECK_LANDING,  /* a write landed in a buffer of a load that lives */
	SIM_CHECK_ENDED,    /* an operation ended once */
	SIM_CHECK_BOOKS,    /* locks, loans and bytes balanced */
	SIM_CHECK_DEADLINE, /* no request outlived its deadline: by turns of clients */
	SIM_CHECKS,
};

#define SIM_DONORS       2U
#define SIM_CLIENTS      2U
#define SIM_KEYS         256U
#define SIM_REQUESTS     6U /* of a client, live or held */
#define SIM_REQUEST_KEYS 12U
#define SIM_SEGMENTS     3U
#define SIM_LANES        4U /* of a segment */
#define SIM_LANE_BYTES   FAR_LANE_BYTES_MIN
#define SIM_BLOCK_MAX    3072U
#define SIM_ERRANDS      64U
#define SIM_HOT_KEYS     8U
#define SIM_RECENT       16U
#define SIM_ARENA_BYTES  (48U << 10)

struct sim;

/* A registration of a lane that its shell makes or ends beside the loop, as farpoold does. */
struct sim_errand {
	uint64_t at_ns; /* it is answered then; 0: none */
	bool end;
	uint32_t lane;
	struct far_mem_source source;
	struct far_link *link;
	struct far_mem *mem;
};

struct sim_donor {
	struct sim *sim;
	struct far_pool_host host;
	struct sim_errand errands[SIM_ERRANDS];
	char name[16];
	struct far_rng rng;
	struct far_transport *tp; /* NULL: dead */
	struct far_pool *pool;
	uint8_t *index;
	uint8_t *segments[SIM_SEGMENTS];
	uint32_t numbers[SIM_SEGMENTS]; /* in the pool; 0: not lent */
	bool draining[SIM_SEGMENTS];
	bool paused;
	bool storing; /* amid a line: it does nothing else */
	uint32_t lives;
};

struct sim_request {
	struct far_prefetch_req req;
	struct sim_client *client;
	struct far_key keys[SIM_REQUEST_KEYS];
	struct far_prefetch_view views[SIM_REQUEST_KEYS];
	uint32_t ids[SIM_REQUEST_KEYS];
	bool live; /* submitted, not ended */
	bool held; /* ended, its loans are not given back */
};

struct sim_client {
	struct sim *sim;
	uint32_t number;
	char name[16];
	struct far_rng rng;
	struct far_transport *tp;
	struct far_mem *mem;
	uint8_t *arena;
	struct far_l1 *l1;
	far_l1_session session;
	struct far_l2_set set;
	struct far_policy policy;
	struct far_prefetch *prefetch;
	struct far_store *store;
	struct far_eviction *eviction;
	struct sim_request requests[SIM_REQUESTS];
	uint32_t recent[SIM_RECENT]; /* first keys of what was written lately */
	uint32_t written;
	bool paused;
	uint32_t lives;
};

struct sim {
	struct far_loop_fabric *fabric;
	struct far_clock *clock;
	struct sim_donor donors[SIM_DONORS];
	struct sim_client clients[SIM_CLIENTS];
	struct sim_report *report;
	struct far_rng rng; /* of the scheduler alone */
	uint64_t submitted, ended;
};

/* ---- sim.c ---- */

/* Runs a history to its end, in this process, and closes all. A broken promise ends the process. */
void sim_run(const struct sim_history *history, struct sim_report *report);
/* Virtual time passes; everybody who is not paused has turns. */
void sim_pass(struct sim *sim, uint64_t for_ns);
/* A promise is broken: says so in the report, and ends the process. */
void sim_fail(struct sim *sim, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));
/* Numbers of one action. */
uint32_t sim_draw(const struct sim_action *action, uint32_t idx, uint32_t below);

/* ---- actions.c ---- */

const char *sim_kind_name(enum sim_kind kind);
/* A history out of a seed. @weights differ from seed to seed. */
int sim_history_make(uint64_t seed, uint32_t count, struct sim_history *out);
void sim_action_run(struct sim *sim, const struct sim_action *action);
void sim_history_print(const struct sim_history *history);

/* ---- donor.c ---- */

/* @over: what a predecessor left in its memory is taken over, if it can be. */
void sim_donor_start(struct sim_donor *donor, bool over);
void sim_donor_kill(struct sim_donor *donor, const struct sim_action *action);
void sim_donor_pause(struct sim_donor *donor, bool paused);
void sim_donor_shrink(struct sim_donor *donor, const struct sim_action *action);
void sim_donor_tear(struct sim_donor *donor, const struct sim_action *action);
void sim_donor_turn(struct sim_donor *donor);
void sim_donor_close(struct sim_donor *donor);

/* ---- client.c ---- */

void sim_client_start(struct sim_client *client);
void sim_client_kill(struct sim_client *client);
void sim_client_pause(struct sim_client *client, bool paused);
void sim_client_write(struct sim_client *client, const struct sim_action *action);
void sim_client_prefetch(struct sim_client *client, const struct sim_action *action);
void sim_client_cancel(struct sim_client *client, const struct sim_action *action);
void sim_client_release(struct sim_client *client, const struct sim_action *action);
void sim_client_evict(struct sim_client *client, const struct sim_action *action);
void sim_client_delete(struct sim_client *client, const struct sim_action *action);
void sim_client_turn(struct sim_client *client);
/* All that lives is cancelled; @sim_client_idle() says when nothing is left. */
void sim_client_quiesce(struct sim_client *client);
bool sim_client_idle(const struct sim_client *client);
void sim_client_close(struct sim_client *client);

/* ---- adapter.c ---- */

/* An adapter per donor into the client's set. */
void sim_adapters_open(struct sim_client *client);

/* ---- check.c ---- */

struct far_key sim_key(uint32_t id);
uint32_t sim_size(uint32_t id);
void sim_block_fill(uint32_t id, uint8_t *to);
/* It is served: it has to be whole. */
void sim_block_check(struct sim *sim, uint32_t id, const void *bytes, uint32_t size_bytes,
		     const char *where);
/* A buffer is handed to somebody: no load may name it. */
void sim_buffer_check(struct sim *sim, const void *bytes, uint32_t size_bytes, const char *where);
/* Landings are looked at from now on. */
void sim_landings_watch(struct sim *sim);
/* A task is given to an adapter: its end is waited for, and its pieces are where bytes may land. */
void sim_task_watch(const struct sim_client *client, struct far_l2_task *task);
/* The process that owned them died: they end for nobody. */
void sim_tasks_forget(const struct sim_client *client);

#endif
