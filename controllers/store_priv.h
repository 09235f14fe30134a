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
/* Blocks whose loans are given back together. */
#define STORE_ENDED_MAX 64U

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
	uint64_t loan; /* 0: none yet, it was admitted by a hit */
	void *addr;
	uint32_t size_bytes;
	uint32_t pairs_made;
	uint32_t pairs_left;
	bool is_everywhere;       /* no adapter that was to get it has failed to */
	struct store_pair *pairs; /* pairs_max */
};

/* Arrays of batch_max each. */
struct store_task {
	struct far_l2_task task;
	struct far_store *ctl;
	struct store_task *next; /* free */
	uint64_t bytes;
	uint64_t since_ns;
	uint64_t id;
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

/* What blocks come to; written by the owner and by listeners, read by anybody. */
enum store_count {
	COUNT_QUEUED,
	COUNT_BY_HITS,
	COUNT_NOT_ADMITTED,
	COUNT_QUEUE_FULL,
	COUNT_REFUSED_CLOSING,
	COUNT_DROPPED_CLOSING,
	COUNT_UNPLACED,
	COUNT_GONE,
	COUNT_BLOCKS_PLACED,
	COUNT_LET_GO,
	COUNT_INVALID,
	STORE_COUNTS,
};

/* What pairs come to, by adapter; written by the owner, read by anybody. */
enum pair_count {
	PAIR_PLACED,
	PAIR_MOVED_IN,
	PAIR_MOVED_OUT,
	PAIR_STORED,
	PAIR_BYTES,
	PAIR_HAD,
	PAIR_REFUSED,
	PAIR_DOWN,
	PAIR_FULL,
	PAIR_DEADLINE,
	PAIR_CLOSING,
	PAIR_DRAINED,
	PAIR_OTHER,
	PAIR_RETRIES,
	PAIR_COUNTS,
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
	struct far_store_policy *policy;
	struct far_store_policy policy_default; /* where the configuration has none */
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
	_Atomic uint64_t counts[STORE_COUNTS];

	/* The owner's. */
	_Atomic uint64_t pair_counts[FAR_L2_SET_MAX][PAIR_COUNTS];
	struct store_pair *pairs;
	uint32_t adapters_max; /* pairs per block, and what tasks are shared out among */
	struct store_task *tasks;
	struct store_task *tasks_free;
	uint32_t tasks_max;
	uint32_t tasks_live;
	uint64_t task_id;
	struct far_l2_item *items;
	struct far_l2_piece *pieces;
	struct store_pair **task_pairs;
	struct store_adapter adapters[FAR_L2_SET_MAX];
	struct store_block *ended[STORE_ENDED_MAX]; /* their loans are still to be given back */
	uint32_t ended_count;
	struct far_record_tally tally;
	bool is_warned;          /* of a policy that names what is not there */
	uint64_t ticked_ns;      /* the last tick */
	struct store_walk *walk; /* behind a pointer: far_store_passed() takes a const controller */
};

/* store_count.c */
/* Blocks, on any thread. */
void far_store_count(struct far_store *ctl, enum store_count what, uint64_t by);
/* A pair, on the owner's. */
void far_store_count_pair(struct far_store *ctl, uint32_t adapter, enum pair_count what,
			  uint64_t by);
/* Owner: one more key of an event; told by the flush. @adapter: FAR_RECORD_NO_ADAPTER for none. */
void far_store_tell(struct far_store *ctl, enum far_record_kind kind, int why, int adapter,
		    uint64_t bytes, uint64_t now_ns);
void far_store_tell_task(struct far_store *ctl, const struct store_task *task,
			 enum far_record_kind kind, int why, uint64_t bytes, uint64_t now_ns);

/* store_queue.c */
int far_store_queue_open(struct far_store *ctl);
void far_store_queue_close(struct far_store *ctl);
/* The listener. Any thread. */
void far_store_queue_written(void *arg, const struct far_l1_event *events, size_t count);
void far_store_queue_accessed(void *arg, const struct far_l1_event *events, size_t count);
void far_store_queue_prefetched(void *arg, const struct far_l1_event *events, size_t count);
/* Owner: the next queued block, or NULL. */
struct store_block *far_store_queue_pop(struct far_store *ctl);
/* It is nobody's again. */
void far_store_queue_free(struct far_store *ctl, struct store_block *block);

/* store_block.c: owner. */
/* Locks it if it is not yet, makes its pairs, or ends it. */
void far_store_block_place(struct far_store *ctl, struct store_block *block, uint64_t now_ns);
/* No pair of it is left: its loan is given back by the next flush. */
void far_store_block_end(struct far_store *ctl, struct store_block *block, uint64_t now_ns);
/* At the end of each call into the controller: loans are given back, events told. */
void far_store_flush(struct far_store *ctl, uint64_t now_ns);
/* Another adapter gets the pair, that the policy names and the block has not got yet; false: there is
 * none. It is in no list; its tries go on counting. */
bool far_store_pair_move(struct far_store *ctl, struct store_pair *pair, int why, uint64_t now_ns);

/* store_task.c: owner. */
int far_store_tasks_open(struct far_store *ctl);
void far_store_tasks_close(struct far_store *ctl);
/* The end of a pair that has no try left: counted by its rc. */
void far_store_pair_fail(struct far_store *ctl, struct store_pair *pair, uint64_t now_ns);
/* Readies what is due, makes tasks, and with @judge ends what has waited in vain. Returns when it is
 * due next. */
uint64_t far_store_adapter_step(struct far_store *ctl, uint32_t adapter, uint64_t now_ns,
				bool judge);
/* Ends every pair that is in no task. */
void far_store_adapter_drop(struct far_store *ctl, uint32_t adapter, uint64_t now_ns);

/* Whether new pairs may go there. */
static inline bool
store_adapter_is_active(const struct far_store *ctl, uint32_t adapter)
{
	return far_l2_set_is_active(ctl->set, adapter);
}

/* At least one: what is shared out is shared out among so many. */
static inline uint32_t
store_adapter_count(const struct far_store *ctl)
{
	uint32_t count = far_l2_set_population(ctl->set);

	return count > 0 ? count : 1;
}

static inline bool
store_is_closing(const struct far_store *ctl)
{
	return atomic_load_explicit(&ctl->closing, memory_order_relaxed);
}

#endif
