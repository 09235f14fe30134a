/* store_priv.h - the parts of the store controller: queued blocks, (block, adapter) pairs, tasks. */
#ifndef FAR_CONTROLLERS_STORE_PRIV_H
#define FAR_CONTROLLERS_STORE_PRIV_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/ring.h"
#include "controllers/store.h"

/*
 * A block that the listener was told of holds one read loan until the last of its pairs has ended. A
 * pair is a block and an adapter that gets it: ready, in a task, waiting for its next try, or over.
 */
#define STORE_SEQ_FREE   UINT64_MAX /* nobody's */
#define STORE_SEQ_COMING 0          /* taken by a listener that has not named it yet */

struct store_block;

struct store_pair {
	struct far_list node; /* ready or retrying at its adapter; alone in a task */
	struct store_block *block;
	uint32_t adapter;
	uint32_t tries;
	uint64_t queued_ns; /* when it became ready */
	uint64_t due_ns;    /* of its next try */
	int rc;             /* of its last try */
};

struct store_block {
	_Atomic uint64_t seq;  /* pairs with far_store_passed() */
	_Atomic uint32_t next; /* in the stack of free ones */
	struct far_key key;
	uint64_t loan;
	void *addr;
	uint32_t size_bytes;
	uint32_t pairs_left;
	struct store_pair *pairs; /* pairs_max */
};

/* Arrays of batch_max each. */
struct store_task {
	struct far_l2_task task;
	struct far_store *ctl;
	struct store_task *next; /* free */
	uint64_t bytes;
	struct far_l2_item *items;
	struct far_l2_piece *pieces;
	struct store_pair **pairs;
};

struct store_adapter {
	struct far_list ready;    /* oldest first */
	struct far_list retrying; /* soonest first */
	uint32_t pairs;           /* that have not ended */
	uint64_t pair_bytes;
	uint32_t tasks_live;
	uint64_t bytes_in_flight;
	uint64_t progress_ns; /* when its last task ended */
	uint32_t generation;  /* of the set, when it was met last */
};

/* Written by the owner and by listeners, read by anybody. */
struct store_counters {
	_Atomic uint64_t blocks_queued;
	_Atomic uint64_t blocks_stored;
	_Atomic uint64_t bytes_stored;
	_Atomic uint64_t blocks_had;
	_Atomic uint64_t dropped_queue_full;
	_Atomic uint64_t failed_donor_down;
	_Atomic uint64_t failed_full;
	_Atomic uint64_t failed_deadline;
	_Atomic uint64_t failed_other;
	_Atomic uint64_t retries;
};

/* How far the blocks were walked for a barrier: what was past it once stays past it. */
struct store_walk {
	uint64_t barrier;
	uint32_t cursor;
};

struct far_store {
	struct far_store_config config;
	struct far_l1 *l1;
	const struct far_l2_set *set;
	const struct far_policy *policy;
	uint64_t policy_nonsense; /* answers of it that were skipped */
	struct far_clock *clock;
	void (*wake)(void *arg);
	void *wake_arg;
	far_l1_session session;

	/* Shared with listeners. */
	struct store_block *blocks;
	_Atomic uint64_t
		free_head; /* {tag, index + 1}: the tag keeps a pop from mistaking a reused head */
	struct far_ring *ring;
	_Atomic uint64_t seq_next;
	_Atomic uint64_t pending;
	_Atomic uint64_t pending_bytes;
	_Atomic bool closing;
	struct store_counters counters;

	/* The owner's. */
	struct store_pair *pairs;
	uint32_t pairs_max; /* per block */
	struct store_task *tasks;
	struct store_task *tasks_free;
	uint32_t tasks_max;
	uint32_t tasks_live;
	struct far_l2_item *items;
	struct far_l2_piece *pieces;
	struct store_pair **task_pairs;
	struct store_adapter adapters[FAR_L2_SET_MAX];
	uint64_t ticked_ns;      /* the last tick */
	struct store_walk *walk; /* behind a pointer: far_store_passed() takes a const controller */
};

static inline void
store_count(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/* store_queue.c */
int far_store_queue_open(struct far_store *ctl);
void far_store_queue_close(struct far_store *ctl);
/* The listener. Any thread. */
void far_store_queue_written(void *arg, const struct far_l1_event *events, size_t count);
/* Owner: the next queued block, or NULL. */
struct store_block *far_store_queue_pop(struct far_store *ctl);
/* Owner: gives the block's loan back; it is nobody's then. */
void far_store_block_end(struct far_store *ctl, struct store_block *block);

/* store_task.c */
int far_store_tasks_open(struct far_store *ctl);
void far_store_tasks_close(struct far_store *ctl);
/* Makes the block's pairs, or ends it. */
void far_store_block_place(struct far_store *ctl, struct store_block *block, uint64_t now_ns);
/* Readies what is due, makes tasks, and with @judge ends what has waited in vain. Returns when it is
 * due next. */
uint64_t far_store_adapter_step(struct far_store *ctl, uint32_t adapter, uint64_t now_ns,
				bool judge);
/* Ends every pair that is in no task. */
void far_store_adapter_drop(struct far_store *ctl, uint32_t adapter);

#endif
