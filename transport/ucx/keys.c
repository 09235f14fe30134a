/* keys.c - with trust: fabric, UCX's keys: of what we expose, and of what the peer exposed. */
#include "transport/ucx/ucx_priv.h"

#include "base/alloc.h"
#include "base/log.h"

#define SLOT_MASK ((uint64_t)UCX_REGIONS_MAX - 1)
/* UCX takes a packed key without its size: however it reads one that was made up, it stays in here.
 * A key has a map of 64 domains, and a byte for the size of each one's part. */
#define KEY_PADDED_BYTES (64U * 256U + 64U)

/* ---- ours ---- */

static int
map_refused(const struct ucx_mem *mem, ucs_status_t status)
{
	if (status == UCS_ERR_EXCEEDS_LIMIT)
		far_log_error("ucx: the key of %zu bytes has %zu: name fewer devices in "
			      "UCX_NET_DEVICES",
			      mem->mem.size_bytes, mem->key_bytes);
	else
		far_log_error("ucx: %zu bytes not registered: %s: raise RLIMIT_MEMLOCK, or give "
			      "less memory",
			      mem->mem.size_bytes, far_ucx_lib->ucs_status_string(status));
	return -ENOMEM;
}

int
far_ucx_key_make(struct ucx_mem *mem)
{
	const struct ucx_transport *tp = UCX_TP(mem->mem.tp);
	bool readable = (mem->mem.rights & FAR_RIGHT_REMOTE_READ) != 0;
	ucp_mem_map_params_t params = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
		.address = mem->mem.base,
		.length = mem->mem.size_bytes,
	};
	ucs_status_t status;

	/* What a peer only writes to is placed by us; what we only read into has no use for a
	 * handle where UCX takes none. */
	if (!readable && (!tp->handles || (mem->mem.rights & FAR_RIGHT_LOCAL) == 0))
		return 0;
	far_ucx_enter();
	status = far_ucx_lib->ucp_mem_map(tp->context, &params, &mem->handle);
	if (status == UCS_OK && readable)
		status = far_ucx_lib->ucp_rkey_pack(tp->context, mem->handle, &mem->key,
						    &mem->key_bytes);
	far_ucx_leave();
	if (status == UCS_OK && mem->key_bytes > UCX_KEY_BYTES_MAX)
		status = UCS_ERR_EXCEEDS_LIMIT; /* it has a part for each device */
	if (status == UCS_OK)
		return 0;
	far_ucx_key_drop(mem);
	return map_refused(mem, status);
}

void
far_ucx_key_drop(struct ucx_mem *mem)
{
	far_ucx_enter();
	if (mem->key != NULL)
		far_ucx_lib->ucp_rkey_buffer_release(mem->key);
	if (mem->handle != NULL)
		(void)far_ucx_lib->ucp_mem_unmap(UCX_TP(mem->mem.tp)->context, mem->handle);
	far_ucx_leave();
	mem->key = NULL;
	mem->handle = NULL;
}

void
far_ucx_key_expose(struct ucx_link *link, const struct ucx_mem *mem)
{
	/* What is another link's is nobody else's, exposed or not. */
	if ((mem->only_id != 0 && mem->only_id != link->id) ||
	    (mem->mem.rights & (FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE)) == 0 ||
	    far_bitmap_test(&link->untold, mem->slot))
		return;
	far_bitmap_set(&link->untold, mem->slot);
	link->untold_count++;
	far_ucx_link_wake(link);
}

bool
far_ucx_keys_send(struct ucx_link *link)
{
	static const uint8_t zeros[UCX_ALIGN_BYTES];
	const struct ucx_transport *tp = UCX_TP(link->link.tp);
	struct ucx_tx *tx = far_ucx_tx_get(link->conn, UCX_FRAME_KEY);
	size_t slot;

	if (tx == NULL)
		return false;
	for (slot = far_bitmap_next(&link->untold, 0);
	     slot < UCX_REGIONS_MAX &&
	     far_ucx_tx_room(tx) >= sizeof(struct ucx_frame_key) + UCX_KEY_BYTES_MAX;
	     slot = far_bitmap_next(&link->untold, slot + 1)) {
		const struct ucx_mem *mem = tp->slots[slot];
		struct ucx_frame_key record = {
			.rkey = mem->mem.remote.rkey,
			.base = (uintptr_t)mem->mem.base,
			.size_bytes = mem->mem.size_bytes,
			.rights =
				mem->mem.rights & (FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE),
			.key_bytes = (uint32_t)mem->key_bytes,
		};

		(void)far_ucx_tx_add(tx, &record, sizeof(record));
		if (mem->key != NULL) {
			(void)far_ucx_tx_add(tx, mem->key, mem->key_bytes);
			(void)far_ucx_tx_add(tx, zeros,
					     far_ucx_padded(mem->key_bytes) - mem->key_bytes);
		}
		far_bitmap_clear(&link->untold, slot);
		link->untold_count--;
	}
	far_ucx_frame_send(link, tx);
	return true;
}

/* ---- the peer's ---- */

void
far_ucx_peer_key_release(struct ucx_peer_key *key)
{
	if (!key->forgotten || key->gets > 0)
		return;
	far_ucx_enter();
	if (key->rkey != NULL)
		far_ucx_lib->ucp_rkey_destroy(key->rkey);
	far_ucx_leave();
	far_free(key);
}

static void
slot_forget(struct ucx_link *link, uint64_t slot)
{
	struct ucx_peer_key *key = link->peer_keys[slot];

	if (key == NULL)
		return;
	link->peer_keys[slot] = NULL;
	key->forgotten = true;
	far_ucx_peer_key_release(key);
}

/* Returns 0, -EPROTO: it is not one of the peer's; -ENOMEM. */
static int
rkey_unpack(struct ucx_link *link, const uint8_t *packed, uint32_t packed_bytes, ucp_rkey_h *out)
{
	uint8_t *padded = far_zalloc(KEY_PADDED_BYTES);
	ucs_status_t status;

	if (padded == NULL)
		return -ENOMEM;
	memcpy(padded, packed, packed_bytes);
	far_ucx_enter();
	status = far_ucx_lib->ucp_ep_rkey_unpack(link->conn->ep, padded, out);
	far_ucx_leave();
	far_free(padded);
	if (status == UCS_OK)
		return 0;
	return status == UCS_ERR_NO_MEMORY ? -ENOMEM : -EPROTO;
}

static int
key_take(struct ucx_link *link, const struct ucx_frame_key *record, const uint8_t *packed)
{
	struct ucx_peer_key *key;
	uint64_t nonce, region;
	int rc;

	far_ucx_rkey_split(&record->rkey, &nonce, &region);
	if (nonce != link->peer_nonce)
		return -EPROTO;
	key = link->peer_keys[region & SLOT_MASK];
	if (key != NULL && key->region == region)
		return 0; /* it was exposed twice */
	key = far_zalloc(sizeof(*key));
	if (key == NULL)
		return -ENOMEM;
	key->region = region;
	key->base = record->base;
	key->size_bytes = record->size_bytes;
	key->rights = record->rights;
	rc = record->key_bytes == 0 ? 0 : rkey_unpack(link, packed, record->key_bytes, &key->rkey);
	if (rc < 0) {
		far_free(key);
		return rc;
	}
	/* Whatever was in that slot the peer has taken back. */
	slot_forget(link, region & SLOT_MASK);
	link->peer_keys[region & SLOT_MASK] = key;
	return 0;
}

int
far_ucx_keys_take(struct ucx_link *link, const struct ucx_frame *frame)
{
	struct ucx_frame_key record;
	const uint8_t *packed;
	size_t at = 0;

	if (link->peer_keys == NULL)
		return -EPROTO;
	while ((packed = far_ucx_frame_next_key(frame, &at, &record)) != NULL) {
		int rc = key_take(link, &record, packed);

		if (rc < 0)
			return rc == -ENOMEM ? -ECONNRESET : rc;
	}
	return 0;
}

int
far_ucx_key_find(const struct ucx_link *link, const struct far_rkey *rkey, uint64_t addr,
		 uint64_t size_bytes, struct ucx_peer_key **out)
{
	struct ucx_peer_key *key;
	uint64_t nonce, region;

	far_ucx_rkey_split(rkey, &nonce, &region);
	if (nonce != link->peer_nonce)
		return -ESTALE;
	key = link->peer_keys[region & SLOT_MASK];
	if (key == NULL || key->region != region)
		return -ESTALE;
	if ((key->rights & FAR_RIGHT_REMOTE_READ) == 0)
		return -EACCES;
	if (addr > key->size_bytes || size_bytes > key->size_bytes - addr)
		return -EACCES;
	*out = key;
	return 0;
}

void
far_ucx_key_forget(struct ucx_link *link, const struct far_rkey *rkey)
{
	const struct ucx_peer_key *key;
	uint64_t nonce, region;

	far_ucx_rkey_split(rkey, &nonce, &region);
	key = link->peer_keys[region & SLOT_MASK];
	if (nonce == link->peer_nonce && key != NULL && key->region == region)
		slot_forget(link, region & SLOT_MASK);
}

void
far_ucx_keys_fini(struct ucx_link *link)
{
	if (link->peer_keys == NULL)
		return;
	for (uint64_t slot = 0; slot < UCX_REGIONS_MAX; slot++)
		slot_forget(link, slot);
	far_free(link->peer_keys);
	link->peer_keys = NULL;
}
