/* resting.h - structs that were given back: they rest before they are used again, so that who gives one back
 * twice finds one that is over, and not the next owner's. */
#ifndef FAR_CLIENT_RESTING_H
#define FAR_CLIENT_RESTING_H

#include <stdint.h>

#include "base/list.h"

struct far_resting {
	struct far_list nodes; /* the longest rested first */
	uint32_t count;
};

static inline void
far_resting_init(struct far_resting *resting)
{
	far_list_init(&resting->nodes);
	resting->count = 0;
}

/* The one that has rested longest, if more than @keep rest; NULL: make a new one. */
static inline struct far_list *
far_resting_take(struct far_resting *resting, uint32_t keep)
{
	if (resting->count <= keep)
		return NULL;
	resting->count--;
	return far_list_pop_front(&resting->nodes);
}

/* @node: in no list, or in one of those that are in use. */
static inline void
far_resting_give(struct far_resting *resting, struct far_list *node)
{
	far_list_remove(node);
	far_list_push_back(&resting->nodes, node);
	resting->count++;
}

#endif
