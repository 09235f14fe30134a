/* mem.c - registrations: rights are part of them, big ones are cut, each device has its own. */
#include "transport/verbs/verbs_priv.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "transport/mem/pci.h"

#define SLOT_MASK ((uint64_t)VERBS_REGIONS_MAX - 1)
_Static_assert((VERBS_REGIONS_MAX & (VERBS_REGIONS_MAX - 1)) == 0, "a power of two");

/* ---- with one device ---- */

static unsigned
access_of(const struct verbs_mem *mem)
{
	uint32_t rights = mem->mem.rights;
	unsigned access = mem->relaxed ? (unsigned)IBV_ACCESS_RELAXED_ORDERING : 0U;

	if (rights & FAR_RIGHT_LOCAL)
		access |= IBV_ACCESS_LOCAL_WRITE;
	if (rights & FAR_RIGHT_REMOTE_READ)
		access |= IBV_ACCESS_REMOTE_READ;
	if (rights & FAR_RIGHT_REMOTE_WRITE) /* verbs has no one without the other */
		access |= IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_LOCAL_WRITE;
	return access;
}

/* Takes half-made ones. Returns whether the device let go of all. */
static bool
mrs_drop(struct verbs_mem *mem, uint32_t device_idx)
{
	struct ibv_mr **mrs = mem->mrs[device_idx];
	bool gone = true;

	for (uint32_t i = 0; mrs != NULL && i < mem->slice_count; i++)
		if (mrs[i] != NULL && far_verbs_lib->ibv_dereg_mr(mrs[i]) != 0)
			gone = false;
	mem->mrs[device_idx] = NULL;
	far_free(mrs);
	return gone;
}

static int
mrs_host(struct verbs_mem *mem, struct verbs_device *device, struct ibv_mr **mrs)
{
	uint64_t slice_bytes = device->tp->slice_bytes;
	uint8_t *base = mem->mem.base;
	int error;

	for (uint32_t i = 0; i < mem->slice_count; i++) {
		uint64_t offset = i * slice_bytes;
		uint64_t left = mem->mem.size_bytes - offset;
		void *addr = base + offset;

		mrs[i] = far_verbs_lib->ibv_reg_mr_iova2(device->pd, addr,
							 left < slice_bytes ? left : slice_bytes,
							 (uintptr_t)addr, access_of(mem));
		if (mrs[i] != NULL)
			continue;
		error = errno;
		far_log_error("verbs: %zu bytes not registered with %s: errno %d: raise "
			      "RLIMIT_MEMLOCK, or give less memory",
			      mem->mem.size_bytes,
			      far_verbs_lib->ibv_get_device_name(device->handle), error);
		return error == EINVAL || error == EFAULT ? -EINVAL : -ENOMEM;
	}
	return 0;
}

static int
mrs_make(struct verbs_mem *mem, struct verbs_device *device)
{
	struct ibv_mr **mrs = far_zalloc_array(mem->slice_count, sizeof(struct ibv_mr *));
	int rc;

	if (mrs == NULL)
		return -ENOMEM;
	mem->mrs[device->idx] = mrs;
	if (mem->gpu == NULL)
		rc = mrs_host(mem, device, mrs);
	else
		rc = far_verbs_gpu_register(mem, device, mrs, access_of(mem));
	if (rc < 0)
		(void)mrs_drop(mem, device->idx);
	return rc;
}

int
far_verbs_mems_adopt(struct verbs_device *device)
{
	for (uint32_t slot = 0; slot < VERBS_REGIONS_MAX; slot++) {
		struct verbs_mem *mem = device->tp->slots[slot];
		int rc = mem == NULL ? 0 : mrs_make(mem, device);

		if (rc < 0)
			return rc;
	}
	return 0;
}

void
far_verbs_mems_abandon(struct verbs_device *device)
{
	for (uint32_t slot = 0; device->tp->slots != NULL && slot < VERBS_REGIONS_MAX; slot++)
		if (device->tp->slots[slot] != NULL)
			(void)mrs_drop(device->tp->slots[slot], device->idx);
}

/* ---- with all of them ---- */

static uint32_t
slot_find(struct verbs_transport *tp)
{
	for (uint32_t i = 0; i < VERBS_REGIONS_MAX; i++) {
		uint32_t slot = (tp->slot_hint + i) & (uint32_t)SLOT_MASK;

		if (tp->slots[slot] == NULL) {
			tp->slot_hint = slot + 1;
			return slot;
		}
	}
	return VERBS_REGIONS_MAX;
}

/* Memory of a GPU is registered with every device that is used, or with none: who asks goes another
 * way then. Peers do not reach it. */
static int
gpu_check(struct verbs_transport *tp, const struct far_mem_source *source, uint32_t rights)
{
	int rc = tp->device_count > 0 ? 0 : far_verbs_devices_all(tp);

	if (rights != FAR_RIGHT_LOCAL)
		return -EINVAL;
	for (uint32_t i = 0; i < tp->device_count && rc == 0 && !source->device_far; i++)
		if (tp->devices[i] != NULL)
			rc = far_verbs_gpu_near(source->device, tp->devices[i], FAR_PCI_SYSFS);
	return rc;
}

int
far_verbs_mem_reg(struct far_transport *ftp, const struct far_mem_source *source, uint32_t rights,
		  struct far_link *only, struct far_mem **out)
{
	struct verbs_transport *tp = VERBS_TP(ftp);
	uint64_t slices = (source->size_bytes - 1) / tp->slice_bytes + 1;
	struct verbs_mem *mem;
	uint32_t slot;
	int rc = 0;

	if (far_verbs_is_child(tp))
		return -EPERM;
	if (rights & ~(FAR_RIGHT_LOCAL | FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE))
		return -EINVAL;
	if (source->size_bytes > (uint64_t)INT64_MAX || slices > (uint64_t)VERBS_SLICES_MAX)
		return -EINVAL;
	if (source->device != NULL)
		rc = gpu_check(tp, source, rights);
	if (rc < 0)
		return rc;
	slot = slot_find(tp);
	mem = slot == VERBS_REGIONS_MAX ? NULL : far_zalloc(sizeof(*mem));
	if (mem == NULL)
		return -ENOMEM;
	mem->mem.tp = ftp;
	mem->mem.base = source->base;
	mem->mem.size_bytes = source->size_bytes;
	mem->mem.rights = rights;
	mem->relaxed = source->relaxed;
	mem->gpu = source->device;
	mem->slice_count = (uint32_t)slices;
	mem->slot = slot;
	mem->region = (++tp->id_last * VERBS_REGIONS_MAX) | slot;
	mem->only_id = only != NULL ? VERBS_LINK(only)->id : 0;
	memcpy(mem->mem.remote.rkey.bytes, &tp->nonce, sizeof(tp->nonce));
	memcpy(mem->mem.remote.rkey.bytes + sizeof(tp->nonce), &mem->region, sizeof(mem->region));
	for (uint32_t i = 0; i < tp->device_count && rc == 0; i++)
		if (tp->devices[i] != NULL && !tp->devices[i]->dead)
			rc = mrs_make(mem, tp->devices[i]);
	if (rc < 0) {
		for (uint32_t i = 0; i < tp->device_count; i++)
			(void)mrs_drop(mem, i);
		far_free(mem);
		return rc;
	}
	tp->slots[slot] = mem;
	*out = &mem->mem;
	return 0;
}

void
far_verbs_mem_dereg(struct far_mem *fmem)
{
	struct verbs_mem *mem = FAR_CONTAINER_OF(fmem, struct verbs_mem, mem);
	struct verbs_transport *tp = VERBS_TP(fmem->tp);

	if (far_verbs_is_child(tp))
		return;
	FAR_ASSERT(mem->ops == 0);
	FAR_ASSERT(tp->slots[mem->slot] == mem);
	tp->slots[mem->slot] = NULL;
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct verbs_link *link = FAR_CONTAINER_OF(it, struct verbs_link, all_node);

		far_bitmap_clear(&link->told_map, mem->slot);
		if (far_bitmap_test(&link->untold, mem->slot)) {
			far_bitmap_clear(&link->untold, mem->slot);
			link->untold_count--;
		}
	}
	for (uint32_t i = 0; i < tp->device_count; i++) {
		if (mrs_drop(mem, i))
			continue;
		far_log_error("verbs: device %s does not end a registration: its links are lost",
			      far_verbs_lib->ibv_get_device_name(tp->devices[i]->handle));
		far_verbs_device_kill(tp->devices[i]);
	}
	far_free(mem);
}

int
far_verbs_mem_expose(struct far_mem *fmem, struct far_link *flink)
{
	struct verbs_mem *mem = FAR_CONTAINER_OF(fmem, struct verbs_mem, mem);
	struct verbs_link *link = VERBS_LINK(flink);
	uint32_t access = 0;
	int rc;

	if (far_verbs_is_child(VERBS_TP(flink->tp)))
		return -EPERM;
	FAR_ASSERT(fmem->rights & (FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE));
	if (!flink->up)
		return -ENOTCONN;
	/* Another link's alone: its name may be handed round, its use may not. */
	if ((mem->only_id != 0 && mem->only_id != link->id) ||
	    far_bitmap_test(&link->told_map, mem->slot))
		return 0;
	if (fmem->rights & FAR_RIGHT_REMOTE_READ)
		access |= IBV_ACCESS_REMOTE_READ;
	if (fmem->rights & FAR_RIGHT_REMOTE_WRITE)
		access |= IBV_ACCESS_REMOTE_WRITE;
	rc = far_verbs_qp_allow(link, access);
	if (rc < 0)
		return rc;
	far_bitmap_set(&link->told_map, mem->slot);
	far_bitmap_set(&link->untold, mem->slot);
	link->untold_count++;
	(void)far_verbs_flush(link);
	return flink->up ? 0 : -ENOTCONN;
}
