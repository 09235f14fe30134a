/* keys.c - the device's keys: of what we expose, and of what the peer exposed. */
#include "transport/verbs/verbs_priv.h"

#include <string.h>

#include "base/alloc.h"

#define SLOT_MASK ((uint64_t)VERBS_REGIONS_MAX - 1)

/* ---- ours ---- */

static void
record_fill(const struct verbs_link *link, const struct verbs_mem *mem, uint8_t *out)
{
	struct verbs_frame_key record = {
		.rkey = mem->mem.remote.rkey,
		.base = (uintptr_t)mem->mem.base,
		.size_bytes = mem->mem.size_bytes,
		.slice_bytes = VERBS_TP(link->link.tp)->slice_bytes,
		.rights = mem->mem.rights & (FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE),
		.slice_count = mem->slice_count,
	};
	struct ibv_mr *const *mrs = mem->mrs[link->device->idx];

	memcpy(out, &record, sizeof(record));
	memset(out + sizeof(record), 0, far_verbs_key_bytes(mem->slice_count) - sizeof(record));
	for (uint32_t i = 0; i < mem->slice_count; i++)
		memcpy(out + sizeof(record) + i * sizeof(uint32_t), &mrs[i]->rkey,
		       sizeof(uint32_t));
}

uint32_t
far_verbs_keys_fill(struct verbs_link *link, uint8_t *body)
{
	const struct verbs_transport *tp = VERBS_TP(link->link.tp);
	uint32_t used = 0;

	for (size_t slot = far_bitmap_next(&link->untold, 0); slot < VERBS_REGIONS_MAX;
	     slot = far_bitmap_next(&link->untold, slot + 1)) {
		const struct verbs_mem *mem = tp->slots[slot];
		size_t bytes = far_verbs_key_bytes(mem->slice_count);

		if (bytes > VERBS_FRAME_BODY_BYTES - used)
			break;
		record_fill(link, mem, body + used);
		used += (uint32_t)bytes;
		far_bitmap_clear(&link->untold, slot);
		link->untold_count--;
	}
	FAR_ASSERT(used > 0);
	return used;
}

/* ---- the peer's ---- */

void
far_verbs_key_release(struct verbs_peer_key *key)
{
	if (key->forgotten && key->ops == 0)
		far_free(key);
}

static void
slot_forget(struct verbs_link *link, uint64_t slot)
{
	struct verbs_peer_key *key = link->peer_keys[slot];

	if (key == NULL)
		return;
	link->peer_keys[slot] = NULL;
	link->peer_slices -= key->slice_count;
	key->forgotten = true;
	far_verbs_key_release(key);
}

static int
key_take(struct verbs_link *link, const struct verbs_frame_key *record, const uint8_t *rkeys)
{
	struct verbs_peer_key *key;
	uint64_t nonce, region;

	far_verbs_rkey_split(&record->rkey, &nonce, &region);
	if (nonce != link->peer_nonce)
		return -EPROTO;
	key = link->peer_keys[region & SLOT_MASK];
	if (key != NULL && key->region == region)
		return 0; /* it was exposed twice */
	if (record->slice_count > VERBS_PEER_SLICES_MAX - link->peer_slices)
		return -EPROTO;
	key = far_zalloc(sizeof(*key) + record->slice_count * sizeof(uint32_t));
	if (key == NULL)
		return -ECONNRESET;
	key->region = region;
	key->base = record->base;
	key->size_bytes = record->size_bytes;
	key->slice_bytes = record->slice_bytes;
	key->rights = record->rights;
	key->slice_count = record->slice_count;
	memcpy(key->rkeys, rkeys, record->slice_count * sizeof(uint32_t));
	/* Whatever was in that slot the peer has taken back. */
	slot_forget(link, region & SLOT_MASK);
	link->peer_keys[region & SLOT_MASK] = key;
	link->peer_slices += key->slice_count;
	return 0;
}

int
far_verbs_keys_take(struct verbs_link *link, const uint8_t *body, size_t body_bytes)
{
	struct verbs_frame_key record;
	const uint8_t *rkeys;
	size_t at = 0;
	int rc;

	if (link->peer_keys == NULL)
		link->peer_keys =
			far_zalloc_array(VERBS_REGIONS_MAX, sizeof(struct verbs_peer_key *));
	if (link->peer_keys == NULL)
		return -ECONNRESET;
	while ((rc = far_verbs_frame_next_key(body, body_bytes, &at, &record, &rkeys)) == 0) {
		rc = key_take(link, &record, rkeys);
		if (rc < 0)
			return rc;
	}
	return rc == -ENOENT ? 0 : rc;
}

static struct verbs_peer_key *
key_at(const struct verbs_link *link, const struct far_rkey *rkey)
{
	struct verbs_peer_key *key;
	uint64_t nonce, region;

	far_verbs_rkey_split(rkey, &nonce, &region);
	if (nonce != link->peer_nonce || link->peer_keys == NULL)
		return NULL;
	key = link->peer_keys[region & SLOT_MASK];
	return key != NULL && key->region == region ? key : NULL;
}

/* The device of the peer would say the same, but it would cost the link. */
int
far_verbs_key_find(const struct verbs_link *link, const struct far_op *op, uint64_t bytes,
		   struct verbs_peer_key **out)
{
	uint32_t right = op->kind == FAR_OP_READ ? FAR_RIGHT_REMOTE_READ : FAR_RIGHT_REMOTE_WRITE;
	struct verbs_peer_key *key = key_at(link, &op->rkey);

	if (key == NULL)
		return -ESTALE;
	if ((key->rights & right) == 0)
		return -EACCES;
	if (op->remote_addr > key->size_bytes || bytes > key->size_bytes - op->remote_addr)
		return -EACCES;
	*out = key;
	return 0;
}

void
far_verbs_forget(struct far_link *flink, const struct far_rkey *rkey)
{
	struct verbs_link *link = VERBS_LINK(flink);
	struct verbs_peer_key *key;

	if (far_verbs_is_child(VERBS_TP(flink->tp)))
		return;
	key = key_at(link, rkey);
	if (key == NULL)
		return;
	FAR_ASSERT(!far_verbs_queue_names(&link->queue, key));
	slot_forget(link, key->region & SLOT_MASK);
}

void
far_verbs_keys_fini(struct verbs_link *link)
{
	if (link->peer_keys == NULL)
		return;
	for (uint64_t slot = 0; slot < VERBS_REGIONS_MAX; slot++)
		slot_forget(link, slot);
	far_free(link->peer_keys);
	link->peer_keys = NULL;
}
