/* memory.c - registrations: a table from numbers to memory, and who may use which. */
#include "transport/ucx/ucx_priv.h"

#include <string.h>

#include "base/alloc.h"

#define SLOT_MASK ((uint64_t)UCX_REGIONS_MAX - 1)
_Static_assert((UCX_REGIONS_MAX & (UCX_REGIONS_MAX - 1)) == 0, "a power of two");

static uint32_t
slot_find(struct ucx_transport *tp)
{
	for (uint32_t i = 0; i < UCX_REGIONS_MAX; i++) {
		uint32_t slot = (tp->slot_hint + i) & (uint32_t)SLOT_MASK;

		if (tp->slots[slot] == NULL) {
			tp->slot_hint = slot + 1;
			return slot;
		}
	}
	return UCX_NONE;
}

int
far_ucx_mem_reg(struct far_transport *ftp, const struct far_mem_source *source, uint32_t rights,
		struct far_link *only, struct far_mem **out)
{
	struct ucx_transport *tp = UCX_TP(ftp);
	struct ucx_mem *mem;
	uint32_t slot;
	int rc;

	if (far_ucx_is_child(tp))
		return -EPERM;
	if (source->device != NULL)
		return -EOPNOTSUPP;
	if (source->size_bytes > (uint64_t)INT64_MAX)
		return -EINVAL;
	slot = slot_find(tp);
	mem = slot == UCX_NONE ? NULL : far_zalloc(sizeof(*mem));
	if (mem == NULL)
		return -ENOMEM;
	mem->mem.tp = ftp;
	mem->mem.base = source->base;
	mem->mem.size_bytes = source->size_bytes;
	mem->mem.rights = rights;
	mem->slot = slot;
	mem->region = (++tp->id_last * UCX_REGIONS_MAX) | slot;
	mem->only_id = only != NULL ? UCX_LINK(only)->id : 0;
	memcpy(mem->mem.remote.rkey.bytes, &tp->nonce, sizeof(tp->nonce));
	memcpy(mem->mem.remote.rkey.bytes + sizeof(tp->nonce), &mem->region, sizeof(mem->region));
	rc = tp->fabric ? far_ucx_key_make(mem) : 0;
	if (rc < 0) {
		far_free(mem);
		return rc;
	}
	tp->slots[slot] = mem;
	*out = &mem->mem;
	return 0;
}

/* UCX has no address of this memory, only of frames that were filled from it: with the entry gone
 * from the table nothing can read or write it any more. With trust: fabric it has a registration,
 * which ends here, too. */
void
far_ucx_mem_dereg(struct far_mem *fmem)
{
	struct ucx_mem *mem = FAR_CONTAINER_OF(fmem, struct ucx_mem, mem);
	struct ucx_transport *tp = UCX_TP(fmem->tp);

	if (far_ucx_is_child(tp))
		return;
	FAR_ASSERT(mem->ops == 0);
	FAR_ASSERT(tp->slots[mem->slot] == mem);
	tp->slots[mem->slot] = NULL;
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct ucx_link *link = FAR_CONTAINER_OF(it, struct ucx_link, all_node);

		far_bitmap_clear(&link->exposed, mem->slot);
		if (far_bitmap_test(&link->untold, mem->slot)) {
			far_bitmap_clear(&link->untold, mem->slot);
			link->untold_count--;
		}
	}
	far_ucx_key_drop(mem);
	far_free(mem);
}

int
far_ucx_mem_expose(struct far_mem *fmem, struct far_link *flink)
{
	struct ucx_mem *mem = FAR_CONTAINER_OF(fmem, struct ucx_mem, mem);

	if (far_ucx_is_child(UCX_TP(flink->tp)))
		return -EPERM;
	if (!flink->up)
		return -ENOTCONN;
	far_bitmap_set(&UCX_LINK(flink)->exposed, mem->slot);
	if (UCX_TP(flink->tp)->fabric)
		far_ucx_key_expose(UCX_LINK(flink), mem);
	return 0;
}

void
far_ucx_forget(struct far_link *flink, const struct far_rkey *rkey)
{
	if (far_ucx_is_child(UCX_TP(flink->tp)))
		return;
	FAR_ASSERT(!far_ucx_queue_names(&UCX_LINK(flink)->queue, rkey));
	/* Over TCP nothing of the peer's is kept here. */
	if (UCX_TP(flink->tp)->fabric)
		far_ucx_key_forget(UCX_LINK(flink), rkey);
}

int
far_ucx_mem_find(const struct ucx_link *link, const struct far_rkey *rkey, uint64_t addr,
		 uint64_t size_bytes, uint32_t right, uint8_t **out)
{
	const struct ucx_transport *tp = UCX_TP(link->link.tp);
	const struct ucx_mem *mem;
	uint64_t nonce, region;

	far_ucx_rkey_split(rkey, &nonce, &region);
	if (nonce != tp->nonce)
		return -ESTALE;
	mem = tp->slots[region & SLOT_MASK];
	if (mem == NULL || mem->region != region)
		return -ESTALE;
	/* What another link may use does not exist for this one. */
	if (mem->only_id != 0 ? mem->only_id != link->id
			      : !far_bitmap_test(&link->exposed, mem->slot))
		return -ESTALE;
	if ((mem->mem.rights & right) == 0)
		return -EACCES;
	if (addr > mem->mem.size_bytes || size_bytes > mem->mem.size_bytes - addr)
		return -EACCES;
	*out = (uint8_t *)mem->mem.base + addr;
	return 0;
}
