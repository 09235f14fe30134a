/* store.h - from finished writes to donors: a listener, a bounded queue, a policy, tasks in flight.
 */
#ifndef FAR_CONTROLLERS_STORE_H
#define FAR_CONTROLLERS_STORE_H

#include "base/clock.h"
#include "controllers/policy.h"
#include "l1/l1.h"
#include "l2/l2.h"

/* The listener runs on any thread; everything else on the owner thread, which drives the adapters.
 */
struct far_store;

struct far_store_config {
	uint32_t queue_max;           /* blocks waiting or in flight; beyond: dropped and counted */
	uint64_t queue_bytes_max;     /* their bytes */
	uint64_t bytes_in_flight_max; /* given to adapters */
	uint32_t batch_max;           /* blocks per store task: 256 */
	uint32_t tries_max;           /* per block and adapter: 3 */
	uint64_t retry_ns;            /* back-off of the second try; doubles */
	uint64_t deadline_ns;         /* of one try, relative */
};

struct far_store_counts {
	uint64_t blocks_queued;
	uint64_t blocks_stored; /* (block, adapter) pairs that were committed */
	uint64_t bytes_stored;
	uint64_t blocks_had; /* pairs that the adapter had already */
	uint64_t
		dropped_queue_full; /* blocks that were never given to an adapter: the queue, or the share
				      * of it that their adapters may fill, was full; or quiesced */
	uint64_t failed_donor_down; /* pairs, after the last try */
	uint64_t failed_full;
	uint64_t failed_deadline;
	uint64_t failed_other;
	uint64_t retries;
	uint64_t blocks_pending; /* now: queued or in flight */
	uint64_t bytes_pending;
};

/* @wake: called on the listener's thread after a block was queued: wakes the owner; may be NULL.
 * Registers its listener with l1 and opens a session there. Returns 0, -EINVAL, -ENOMEM. */
int far_store_open(const struct far_store_config *config, struct far_l1 *l1,
		   const struct far_l2_set *set, const struct far_policy *policy,
		   struct far_clock *clock, void (*wake)(void *arg), void *wake_arg,
		   struct far_store **out);
/* Takes queued blocks, makes tasks, retries what is due. Returns when it wants to be called next.
 */
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

#endif
