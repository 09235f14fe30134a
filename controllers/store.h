/* store.h - from finished writes to donors: a listener, a bounded queue, a policy, tasks. */
#ifndef FAR_CONTROLLERS_STORE_H
#define FAR_CONTROLLERS_STORE_H

#include "base/clock.h"
#include "base/recorder.h"
#include "controllers/policy.h"
#include "controllers/store_policy.h"
#include "l1/l1.h"
#include "l2/l2.h"

/* The listener runs on any thread, all else on the owner's, which drives the adapters. */
struct far_store;

struct far_store_config {
	uint32_t queue_max;           /* blocks waiting or in flight; beyond: dropped and counted */
	uint64_t queue_bytes_max;     /* their bytes */
	uint64_t bytes_in_flight_max; /* given to adapters */
	uint32_t batch_max;           /* blocks per store task: 256 */
	uint32_t tries_max;           /* per block and adapter: 3 */
	uint64_t retry_ns;            /* back-off of the second try; doubles */
	uint64_t deadline_ns;         /* of one try, relative */
	uint32_t
		adapters_max; /* that may be there at once, and get one block; 0: as many as there are
				* now, at least 4 */
	struct far_store_policy *policy; /* borrowed, outlives the controller; NULL: the default */
	struct far_recorder *recorder;   /* borrowed; NULL: nothing is recorded */
};

/*
 * Every block that L1 announced with a loan is queued, or counted as not_admitted, dropped_queue_full
 * or refused_closing. Every queued block is placed, or counted as dropped_closing, dropped_unplaced or
 * dropped_gone; or pending. A placed block is one pair for each adapter that the policy named, and
 * every pair ends in exactly one of the counters from blocks_stored to failed_other.
 */
struct far_store_counts {
	/* Blocks. */
	uint64_t blocks_queued;
	uint64_t blocks_by_hits;     /* among them: admitted by hits, after they were written */
	uint64_t not_admitted;       /* finished writes that the policy did not want stored then */
	uint64_t dropped_queue_full; /* never queued */
	uint64_t refused_closing;    /* never queued: quiesced */
	uint64_t dropped_closing;    /* queued, then quiesced */
	uint64_t dropped_unplaced;   /* the policy named no adapter */
	uint64_t dropped_gone;       /* admitted by hits, gone from L1 before they were locked */
	uint64_t blocks_placed;
	uint64_t let_go; /* given up by L1, as the policy said */
	/* (block, adapter) pairs. */
	uint64_t pairs_placed;
	uint64_t blocks_stored; /* committed */
	uint64_t bytes_stored;
	uint64_t blocks_had;        /* that the adapter had already */
	uint64_t refused_share;     /* the share of the queue that the adapter may fill was full */
	uint64_t failed_donor_down; /* from here on: by the last try */
	uint64_t failed_full;
	uint64_t failed_deadline;
	uint64_t failed_closing; /* quiesced */
	uint64_t
		failed_drained; /* the adapter was taken out, and no other one was to have it instead */
	uint64_t failed_other;
	/* Not ends. */
	uint64_t retries;
	uint64_t moved;          /* pairs that another adapter got, as theirs was taken out */
	uint64_t policy_invalid; /* adapters named by the policy that are none, or twice: skipped */
	uint64_t
		admit_forgotten; /* keys whose uses had to be forgotten before they were admitted */
	uint64_t blocks_pending; /* now: queued or in flight */
	uint64_t bytes_pending;
};

/* Of one position in the set. Pairs: placed + moved_in = stored + had + refused + failed + moved_out +
 * pending. */
struct far_store_adapter_counts {
	uint64_t placed;
	uint64_t moved_in;
	uint64_t moved_out;
	uint64_t stored;
	uint64_t bytes_stored;
	uint64_t had;
	uint64_t refused;
	uint64_t failed;
	uint64_t retries;
	uint64_t pending;
	uint64_t bytes_pending;
	uint64_t bytes_in_flight;
};

/* @wake: called on the listener's thread after a block was queued: wakes the owner; may be NULL.
 * Registers its listener with l1 and opens a session there. Returns 0, -EINVAL, -ENOMEM. */
int far_store_open(const struct far_store_config *config, struct far_l1 *l1,
		   const struct far_l2_set *set, const struct far_policy *policy,
		   struct far_clock *clock, void (*wake)(void *arg), void *wake_arg,
		   struct far_store **out);
/* Takes queued blocks, makes tasks, retries what is due. Returns when it wants to be called next. */
uint64_t far_store_tick(struct far_store *ctl, uint64_t now_ns);
/* Any thread: a number that stands for everything queued before. */
uint64_t far_store_barrier(struct far_store *ctl);
/* Owner: every block queued before the barrier was taken has ended, stored or not. */
bool far_store_passed(const struct far_store *ctl, uint64_t barrier);
/* Drops what is queued (counted), awaits what is in flight; idle when nothing is left. From then on
 * the listener gives its loans back at once. */
void far_store_quiesce(struct far_store *ctl);
bool far_store_idle(const struct far_store *ctl);
/* Owner: a block is still to be stored at the set's position @adapter: one that was drained may be
 * removed when this is false, and it stays false. */
bool far_store_names(const struct far_store *ctl, uint32_t adapter);
/* Idle before: asserted. Closes its session. Takes NULL. l1 must be told nothing afterwards. */
void far_store_close(struct far_store *ctl);
/* Any thread. */
void far_store_counts_get(const struct far_store *ctl, struct far_store_counts *out);
/* @idx: below FAR_L2_SET_MAX. Owner. */
void far_store_adapter_counts_get(const struct far_store *ctl, uint32_t idx,
				  struct far_store_adapter_counts *out);

#endif
