/* client_priv.h - what a client consists of, and which thread may touch which part. */
#ifndef FAR_CLIENT_CLIENT_PRIV_H
#define FAR_CLIENT_CLIENT_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/helpers.h"
#include "base/list.h"
#include "base/recorder.h"
#include "base/ring.h"
#include "client/arena.h"
#include "client/config.h"
#include "client/resting.h"
#include "controllers/eviction.h"
#include "controllers/prefetch.h"
#include "controllers/store.h"
#include "controllers/store_policy.h"
#include "farpool/memory.h"
#include "l1/l1.h"
#include "l2/l2.h"

#define FAR_CLIENT_TRANSPORTS_MAX 4
#define FAR_CLIENT_COMMANDS_MIN   1024 /* for questions, beside two per prefetch */

/* Something for the client's thread to do: pushed by any thread, run once. */
struct far_command {
	void (*run)(struct far_client *client, struct far_command *command);
	bool may_take_long; /* the thread alone runs it, and no caller that drives */
};

/*
 * A question that a caller waits for. It lives until both sides let go: a caller whose deadline
 * passed leaves it to the thread.
 */
struct far_call {
	struct far_command command;
	struct far_list node; /* thread: in client->calls until answered */
	void (*start)(struct far_client *client, struct far_call *call); /* thread; may be NULL */
	/* Thread: true once there is an answer, with rc set. Must become true soon after @late. */
	bool (*answered)(struct far_client *client, struct far_call *call, bool late);
	uint64_t deadline_ns; /* the thread answers -ETIMEDOUT then */
	uint64_t again_ns;    /* thread: 0, or when answered() wants to look again */
	int rc;
	_Atomic uint32_t done; /* futex: 1 when answered */
	_Atomic uint32_t refs;
};

struct far_memory;
struct far_load;

struct far_client {
	struct far_client_config config;
	struct far_clock *clock;
	struct far_rng rng; /* thread */
	uint64_t fork_generation;

	struct far_client_arena arena; /* there before and after everything that points in */
	struct far_transport *transports[FAR_CLIENT_TRANSPORTS_MAX]; /* thread, once it runs */
	struct far_helpers *helpers; /* NULL: none, or not needed yet; used by the transports */
	struct far_mem *arenas[FAR_CLIENT_TRANSPORTS_MAX];
	size_t transport_count;
	struct far_memory *memories;        /* owned, FAR_L2_MEMORIES_MAX: of the caller's own */
	struct far_l2_memories l2_memories; /* thread: what adapters know of them */
	struct far_list loads;              /* thread: those that may still write to one */
	struct far_l1 *l1;                  /* any thread */
	far_l1_session session;             /* of the API: blocks and prefetches */

	struct far_recorder *recorder; /* NULL: none; any thread */
	struct far_policy policy;
	struct far_store_policy store_policy;
	struct far_l2_set set;         /* thread */
	struct far_l2_status gone;     /* thread: counters of the donors that were removed */
	struct far_prefetch *prefetch; /* thread */
	struct far_store *store;       /* barrier and counts: any; else thread */
	struct far_eviction *eviction; /* NULL: none; counts: any; else thread */
	bool evict_due;                /* thread: L1 may have grown since the last look */
	uint64_t evict_at_ns;          /* thread: no look before it */

	int watch_fd;                      /* epoll: readable when a process of a session is gone */
	uint64_t watch_at_ns;              /* thread: no look at it before */
	_Atomic uint32_t sessions_watched; /* that have a process */
	_Atomic uint32_t sessions_ending;  /* for the thread to end */

	pthread_t thread;
	bool thread_runs;
	struct far_ring *commands; /* any -> thread */
	struct far_command
		*kept; /* thread: popped by a caller that drove, and not for it; or NULL */
	int wake_fd;
	_Atomic uint32_t sleeping; /* pairs with far_client_wake() */
	_Atomic uint32_t woken;    /* wake_fd was written, and not read since */
	_Atomic uint32_t drives;   /* callers that wait may do the thread's work; see turn_lock */
	uint64_t sleeps_until_ns;  /* thread, while it sleeps */
	/* Held by whom this says «thread» of: the thread unless it sleeps, or a caller that drives. */
	pthread_mutex_t turn_lock;
	_Atomic uint32_t stop;
	struct far_list calls;  /* thread: unanswered */
	uint64_t overdue_at_ns; /* thread: next look at overdue loans */

	pthread_mutex_t pool_lock; /* blocks and handles that are not in use */
	struct far_resting blocks_free;
	struct far_list blocks_live;
	struct far_resting handles_free;
	struct far_list handles_live;
	struct far_list sessions; /* of other processes; see session.c */
	struct far_resting loads_free;
	struct far_list loads_live;
	uint32_t loads_live_count;
	uint32_t handles_live_count;

	/* Prefetches that L1 served alone never reach the controller. */
	_Atomic uint64_t l1_only_requests;
	_Atomic uint64_t l1_only_keys;
};

/* ---- thread.c ---- */
int far_client_thread_start(struct far_client *client);
/* Ends every task and link; true if all of it let go within the bound. */
bool far_client_thread_stop(struct far_client *client);
/* Any thread. False: the command ring is full. */
bool far_client_push(struct far_client *client, struct far_command *command);
void far_client_wake(void *client);
/* The same for a caller who calls far_client_drive() next: where that will do, nobody is woken. */
bool far_client_push_quietly(struct far_client *client, struct far_command *command);
/*
 * Does the thread's work on the caller's while the thread sleeps, until @done has one of @bits, nothing is
 * to be done now, or @deadline_ns; where it may not, it sees to it that the thread is awake. Any thread that
 * holds no lock.
 */
void far_client_drive(struct far_client *client, const _Atomic uint32_t *done, uint32_t bits,
		      uint64_t deadline_ns);

/* ---- call.c ---- */
/* Zeroed, @size_bytes >= sizeof(struct far_call), which is its first member. */
void *far_call_new(size_t size_bytes);
/* Runs it on the thread and waits; the caller reads the answer and then releases it, whatever the
 * result. Returns call->rc, -ETIMEDOUT, -E2BIG. */
int far_call_wait(struct far_client *client, struct far_call *call, uint64_t deadline_ns);
void far_call_release(struct far_call *call);
/* Thread: looks at all unanswered calls; returns the nearest deadline among them. */
uint64_t far_calls_check(struct far_client *client, uint64_t now_ns);
/* Thread, at the end: whatever is unanswered is answered with @rc. */
void far_calls_end(struct far_client *client, int rc);

/* ---- donors.c ---- */
/* Before the thread runs: transports and adapters of the configured donors. */
int far_donors_open(struct far_client *client);
/* Thread: sums of counters, those of donors that were removed included. */
void far_donors_count(const struct far_client *client, struct far_l2_status *sum);

/* ---- memory.c ---- */
/* Thread: which way bytes take between a transport and a GPU: "" for the host's memory. */
void far_client_memory_path(const struct far_client *client, const char *transport, char out[16]);

/* ---- session.c ---- */
/* Thread: ends what is to end. Returns when it wants to run next. */
uint64_t far_sessions_tick(struct far_client *client, uint64_t now_ns);
/* At close: those that nobody closed, after the last handle. */
void far_client_sessions_free(struct far_client *client);

/* ---- handle.c, block.c: what close ends ---- */
void far_client_handles_end(struct far_client *client);
void far_client_handles_free(struct far_client *client);
/* Thread: cancels what has not ended of that session. */
void far_client_handles_cancel(struct far_client *client, const struct far_session *session);
void far_client_blocks_end(struct far_client *client);
void far_client_blocks_free(struct far_client *client);

/* 0, or -EPERM in a child of fork(). */
int far_client_enter(const struct far_client *client);

#endif
