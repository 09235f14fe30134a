/* eviction.h - room ahead of need: above one mark L1 is evicted down to another, in steps. */
#ifndef FAR_CONTROLLERS_EVICTION_H
#define FAR_CONTROLLERS_EVICTION_H

#include "l1/l1.h"

/* Used by one thread, its owner; the counts by any. Without it L1 evicts in the reservation that
 * needs the room, which is right as well, and slower for that one. */
struct far_eviction;

/*
 * Defaults. What is written between two looks has to fit above the high mark, or reservations evict
 * for themselves: at 10 GB/s and a look each 10 ms that is 100 MB, 5 % of 2 GiB. What is between
 * the marks is evicted at once when the high one is passed, and caches nothing for as long as it is
 * empty: 5 % more.
 */
#define FAR_EVICTION_HIGH      0.95
#define FAR_EVICTION_LOW       0.90
#define FAR_EVICTION_STEP_MAX  256U
#define FAR_EVICTION_PERIOD_NS (10 * FAR_NS_PER_MS)

struct far_eviction_config {
	double high;        /* of the arena's bytes, low < high <= 1: eviction begins above it */
	double low;         /* 0 <= low: and ends at it */
	uint32_t step_max;  /* blocks per tick, 1.. */
	uint64_t period_ns; /* between two looks, 1.. */
};

struct far_eviction_counts {
	uint64_t rounds; /* times that the high mark was found to be passed */
	uint64_t blocks; /* evicted */
	uint64_t bytes;
	uint64_t starved; /* rounds that ended above the low mark, all being locked */
};

/* @l1: borrowed; outlives the controller. Returns 0, -EINVAL (bounds above; not a number),
 * -ENOMEM. */
int far_eviction_open(const struct far_eviction_config *config, struct far_l1 *l1,
		      struct far_eviction **out);
/* Looks, and evicts one step if it has to. Returns when it wants to be called next: @now_ns
 * while there is more to evict. */
uint64_t far_eviction_tick(struct far_eviction *ctl, uint64_t now_ns);
/* Any thread. */
void far_eviction_counts_get(const struct far_eviction *ctl, struct far_eviction_counts *out);
/* Takes NULL. */
void far_eviction_close(struct far_eviction *ctl);

#endif
