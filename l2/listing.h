/* listing.h - what a store holds, in pages, and how full it is. */
#ifndef FAR_L2_LISTING_H
#define FAR_L2_LISTING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/key.h"
#include "base/list.h"

/* By group: list and add up; no store keeps sums per group. */
struct far_l2_usage {
	uint64_t capacity_bytes; /* 0: unknown */
	uint64_t used_bytes;     /* of it; what rounding and half-filled lanes take is in it */
	uint64_t block_count;
	uint64_t block_bytes; /* their lengths */
};

/* @usage: valid in the call; NULL if rc is not 0: -EHOSTDOWN (or quiesced), -ETIMEDOUT, -EPROTO. */
typedef void far_l2_usage_fn(void *arg, int rc, const struct far_l2_usage *usage);

struct far_l2_listed {
	struct far_key key;
	uint32_t size_bytes;
	uint32_t group;
};

#define FAR_L2_LISTINGS_MAX 8 /* at once */

/*
 * One page of what a store holds. Pages follow the store's own order, which stays while blocks come
 * and go: what is there all the time is listed once, what comes or goes meanwhile perhaps. A page may
 * be short, or empty, and not the last: go on until the cursor is 0. Embedded in its owner, borrowed
 * with its entries until done, which follows exactly once, by the rules of tasks; no hardware writes
 * to the entries.
 */
struct far_l2_listing {
	struct far_l2_listed *entries;
	uint32_t entries_max; /* > 0 */
	uint32_t group;
	bool of_group;        /* only blocks with that tag */
	uint64_t cursor;      /* 0: from the start; out: where to go on, 0: that was all */
	uint64_t deadline_ns; /* a page that has begun by then ends short */
	void (*done)(struct far_l2_listing *listing);
	/* Out. rc 0; else count is 0 and the cursor as it was: -ESTALE not this store's cursor, or of
	 * an earlier life of it: begin anew; -EAGAIN more than FAR_L2_LISTINGS_MAX; -EHOSTDOWN,
	 * -ETIMEDOUT, -EIO, -ECANCELED (quiesced). */
	int rc;
	uint32_t count;
	/* The adapter's own from far_l2_list() to done. */
	struct far_list node;
	uint64_t priv[4];
};

#endif
