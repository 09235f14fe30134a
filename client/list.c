/* list.c - what a donor holds, a page at a time. */
#include "client/client_priv.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct far_listed) == sizeof(struct far_l2_listed) &&
		       offsetof(struct far_listed, block_bytes) ==
			       offsetof(struct far_l2_listed, size_bytes) &&
		       offsetof(struct far_listed, group) == offsetof(struct far_l2_listed, group),
	       "a page is copied as it is");

struct list_call {
	struct far_call call;
	struct far_l2_listing listing; /* holds a reference while it is live: its page is in here */
	uint32_t idx;
	bool live;
	struct far_l2_listed entries[];
};

static void
list_done(struct far_l2_listing *listing)
{
	struct list_call *ask = FAR_CONTAINER_OF(listing, struct list_call, listing);

	ask->live = false;
	far_call_release(&ask->call);
}

static void
list_start(struct far_client *client, struct far_call *call)
{
	struct list_call *ask = FAR_CONTAINER_OF(call, struct list_call, call);
	struct far_l2 *l2 = client->set.items[ask->idx];

	ask->listing.rc = -ENOENT;
	if (l2 == NULL)
		return;
	ask->listing.entries = ask->entries;
	ask->listing.deadline_ns = call->deadline_ns;
	ask->listing.done = list_done;
	ask->live = true;
	atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
	far_l2_list(l2, &ask->listing);
}

static bool
list_answered(struct far_client *client, struct far_call *call, bool late)
{
	struct list_call *ask = FAR_CONTAINER_OF(call, struct list_call, call);

	(void)client;
	/* One that is late goes on by itself: nobody reads its page any more. */
	call->rc = ask->live ? -ETIMEDOUT : ask->listing.rc;
	return late || !ask->live;
}

int
far_list(struct far_client *client, size_t idx, uint64_t *cursor, struct far_listed *blocks,
	 size_t max, size_t *count, uint64_t deadline_ns)
{
	struct list_call *ask;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (cursor == NULL || blocks == NULL || count == NULL || max == 0 ||
	    max > FAR_LIST_BLOCKS_MAX)
		return -EINVAL;
	if (idx >= FAR_L2_SET_MAX)
		return -ENOENT;
	ask = far_call_new(sizeof(*ask) + max * sizeof(ask->entries[0]));
	if (ask == NULL)
		return -ENOMEM;
	ask->idx = (uint32_t)idx;
	ask->listing.entries_max = (uint32_t)max;
	ask->listing.cursor = *cursor;
	ask->call.start = list_start;
	ask->call.answered = list_answered;
	rc = far_call_wait(client, &ask->call, deadline_ns);
	if (rc == 0) {
		memcpy(blocks, ask->entries, ask->listing.count * sizeof(*blocks));
		*count = ask->listing.count;
		*cursor = ask->listing.cursor;
	}
	far_call_release(&ask->call);
	return rc;
}
