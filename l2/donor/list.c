/* list.c - pages of what the donor holds: its sets in their order, read one-sidedly, no message. */
#include "l2/donor/donor_priv.h"

/* A cursor: the slot to go on with, and above it a part of the epoch under which it was given. */
#define CURSOR_SLOT_BITS 40
#define CURSOR_SLOT_MASK ((1ULL << CURSOR_SLOT_BITS) - 1)

/* The words of far_l2_listing.priv. */
enum {
	LIST_BEGAN_AT, /* its cursor when it was asked for */
	LIST_SLOT,     /* the next one to be looked at */
	LIST_CHUNKS,   /* that were looked through */
};

static uint64_t
slot_count(const struct far_donor *donor)
{
	return donor->header.set_count * FAR_SET_SLOTS;
}

static uint64_t
cursor_make(const struct far_donor *donor, uint64_t slot)
{
	return slot < slot_count(donor) ? donor->epoch << CURSOR_SLOT_BITS | slot : 0;
}

static void
listing_end(struct far_donor *donor, struct far_l2_listing *listing, int rc)
{
	if (donor->list_for == listing)
		donor->list_for = NULL; /* its READ, if it is posted, is into our own scratch */
	listing->rc = rc;
	if (rc < 0) {
		listing->count = 0;
		listing->cursor = listing->priv[LIST_BEGAN_AT];
	} else {
		listing->cursor = cursor_make(donor, listing->priv[LIST_SLOT]);
	}
	far_list_remove(&listing->node);
	far_list_push_back(&donor->listings_ended, &listing->node);
}

static struct far_l2_listing *
listing_first(const struct far_donor *donor)
{
	if (far_list_empty(&donor->listings))
		return NULL;
	return FAR_CONTAINER_OF(donor->listings.next, struct far_l2_listing, node);
}

void
far_donor_listings_stop(struct far_donor *donor, int rc)
{
	struct far_l2_listing *listing;

	while ((listing = listing_first(donor)) != NULL)
		listing_end(donor, listing, rc);
}

void
far_donor_list_pump(struct far_donor *donor)
{
	struct far_l2_listing *listing = listing_first(donor);
	uint64_t set, left;

	if (listing == NULL || donor->list_posted)
		return;
	if (donor->list_for != listing)
		donor->list_rereads = 0;
	set = listing->priv[LIST_SLOT] / FAR_SET_SLOTS;
	left = donor->header.set_count - set;
	donor->list_for = listing;
	donor->list_set = set;
	donor->list_set_count = left < DONOR_LIST_SETS ? (uint32_t)left : DONOR_LIST_SETS;
	donor->pieces[0] = (struct far_piece){
		.addr = donor->scratch_list,
		.size_bytes = donor->list_set_count * FAR_SET_BYTES,
		.mem = donor->scratch_mem,
	};
	donor->ops[0] = (struct far_op){
		.kind = FAR_OP_READ,
		.token = donor_token(TOKEN_LIST, 0),
		.remote_addr = donor->index_addr + donor->header.sets_at + set * DONOR_SET_BYTES,
		.rkey = donor->index_rkey,
		.pieces = &donor->pieces[0],
		.piece_count = 1,
	};
	/* When it could not be posted now, SENDABLE asks again. */
	donor->list_posted = far_transport_post(donor->link, donor->ops, 1) == 0;
}

void
far_donor_list(struct far_l2 *l2, struct far_l2_listing *listing)
{
	struct far_donor *donor = FAR_CONTAINER_OF(l2, struct far_donor, l2);
	uint64_t slot = listing->cursor & CURSOR_SLOT_MASK;
	uint32_t live = 0;

	for (struct far_list *it = donor->listings.next; it != &donor->listings; it = it->next)
		live++;
	listing->priv[LIST_BEGAN_AT] = listing->cursor;
	listing->priv[LIST_SLOT] = slot;
	listing->priv[LIST_CHUNKS] = 0;
	far_list_push_back(&donor->listings, &listing->node);
	if (donor->quiescing)
		listing_end(donor, listing, -ECANCELED);
	else if (!donor_is_up(donor))
		listing_end(donor, listing, -EHOSTDOWN);
	else if (live == FAR_L2_LISTINGS_MAX)
		listing_end(donor, listing, -EAGAIN);
	else if (listing->cursor != 0 && cursor_make(donor, slot) != listing->cursor)
		listing_end(donor, listing, -ESTALE);
	else
		far_donor_list_pump(donor);
}

/* The slots of a chunk that belong to the page, until it is full. False: some were torn. */
static bool
chunk_take(const struct far_donor *donor, struct far_l2_listing *listing, bool last_try)
{
	uint64_t first = donor->list_set * FAR_SET_SLOTS;
	uint64_t end = first + (uint64_t)donor->list_set_count * FAR_SET_SLOTS;
	uint64_t at = listing->priv[LIST_SLOT];
	uint32_t count = listing->count;

	for (; at < end && count < listing->entries_max; at++) {
		enum far_slot_state state;
		struct far_slot slot;

		memcpy(&slot, donor->scratch_list + (at - first) * FAR_SLOT_BYTES, sizeof(slot));
		state = far_slot_check(&slot, donor->epoch);
		if (state == FAR_SLOT_TORN && !last_try)
			return false;
		if (state != FAR_SLOT_VALID || (listing->of_group && slot.group != listing->group))
			continue;
		memcpy(listing->entries[count].key.bytes, slot.key, sizeof(slot.key));
		listing->entries[count].size_bytes = slot.size_bytes;
		listing->entries[count].group = slot.group;
		count++;
	}
	listing->priv[LIST_SLOT] = at;
	listing->count = count;
	return true;
}

void
far_donor_list_done(struct far_donor *donor, int status)
{
	struct far_l2_listing *listing = donor->list_for;

	donor->list_posted = false;
	if (listing == NULL)
		return; /* it has ended before its READ */
	if (status < 0) {
		listing_end(donor, listing, donor_is_up(donor) ? -EIO : -EHOSTDOWN);
		return;
	}
	if (!chunk_take(donor, listing, donor->list_rereads == DONOR_REREADS_MAX)) {
		donor->list_rereads++;
		donor->status.torn_rereads++;
		return; /* the pump reads it again */
	}
	donor->list_rereads = 0;
	listing->priv[LIST_CHUNKS]++;
	if (listing->count == listing->entries_max ||
	    listing->priv[LIST_SLOT] == slot_count(donor) ||
	    listing->deadline_ns <= far_clock_now(donor->env.clock))
		listing_end(donor, listing, 0);
}

uint64_t
far_donor_list_tick(struct far_donor *donor, uint64_t now_ns)
{
	uint64_t next_ns = FAR_TIME_NEVER;
	struct far_list *it, *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &donor->listings)
	{
		struct far_l2_listing *listing = FAR_CONTAINER_OF(it, struct far_l2_listing, node);

		if (listing->deadline_ns <= now_ns)
			listing_end(donor, listing,
				    listing->priv[LIST_CHUNKS] > 0 ? 0 : -ETIMEDOUT);
		else if (listing->deadline_ns < next_ns)
			next_ns = listing->deadline_ns;
	}
	return next_ns;
}

void
far_donor_list_flush(struct far_donor *donor)
{
	struct far_list *last = donor->listings_ended.prev;
	struct far_list *node = NULL;

	/* Those that have ended by now: a callback may ask for the next page. */
	while (node != last && (node = far_list_pop_front(&donor->listings_ended)) != NULL) {
		struct far_l2_listing *listing =
			FAR_CONTAINER_OF(node, struct far_l2_listing, node);

		listing->done(listing);
	}
}
