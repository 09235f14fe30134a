/* memory.c - registrations, and the keys to them as each reader knows them. */
#include "transport/loop/loop_priv.h"

#include <string.h>

#include "base/alloc.h"

#define ADDR_ALIGN_BYTES 4096ULL

static struct loop_mem *
loop_mem(struct far_mem *mem)
{
	return FAR_CONTAINER_OF(mem, struct loop_mem, mem);
}

/* A fresh key, or after far_loop_keys_repeat() one of old, but never one that is live here. */
static void
key_make(struct loop_host *host, struct far_rkey *out)
{
	struct far_list *it;
	struct far_list *tmp;

again:
	memset(out, 0, sizeof(*out));
	memcpy(out->bytes, &host->fabric->key_next, sizeof(host->fabric->key_next));
	host->fabric->key_next++;
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &host->mems)
	{
		const struct loop_mem *mem = FAR_CONTAINER_OF(it, struct loop_mem, node);

		if (memcmp(&mem->mem.remote.rkey, out, sizeof(*out)) == 0)
			goto again;
	}
}

/* Remote addresses are the fabric's own: the same in every run, and lines lie as they do locally. */
static uint64_t
addr_make(struct far_loop_fabric *fabric, const void *base, size_t size_bytes)
{
	uint64_t addr = fabric->addr_next + (uintptr_t)base % LOOP_LINE_BYTES;
	uint64_t end = addr + size_bytes;

	/* A gap behind each, so that running over an end never lands in the next. */
	fabric->addr_next = (end / ADDR_ALIGN_BYTES + 2) * ADDR_ALIGN_BYTES;
	return addr;
}

int
far_loop_mem_reg(struct far_transport *tp, const struct far_mem_source *source, uint32_t rights,
		 struct far_link *only, struct far_mem **out)
{
	struct loop_host *host = loop_host(tp);
	struct loop_mem *mem;

	if (source->device != NULL)
		return -EOPNOTSUPP;
	mem = far_zalloc(sizeof(*mem));
	if (mem == NULL)
		return -ENOMEM;
	mem->mem.tp = tp;
	mem->mem.base = source->base;
	mem->mem.size_bytes = source->size_bytes;
	mem->mem.rights = rights;
	far_list_init(&mem->keys);
	if (only != NULL) {
		FAR_ASSERT(only->tp == tp);
		mem->only_link = loop_link(only)->number;
	}
	if ((rights & (FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE)) != 0) {
		key_make(host, &mem->mem.remote.rkey);
		mem->mem.remote.addr = addr_make(host->fabric, source->base, source->size_bytes);
	}
	far_list_push_back(&host->mems, &mem->node);
	*out = &mem->mem;
	return 0;
}

void
far_loop_mem_dereg(struct far_mem *base)
{
	struct loop_mem *mem = loop_mem(base);
	struct far_list *node;

	FAR_ASSERT(mem->pins == 0);
	/* From here on nothing lands: every access looks at its key again. */
	while ((node = far_list_pop_front(&mem->keys)) != NULL)
		FAR_CONTAINER_OF(node, struct loop_key, mem_node)->mem = NULL;
	far_list_remove(&mem->node);
	far_free(mem);
}

int
far_loop_mem_expose(struct far_mem *base, struct far_link *to)
{
	struct loop_mem *mem = loop_mem(base);
	struct loop_link *link = loop_link(to);
	struct far_loop_fabric *fabric = link->host->fabric;
	struct far_list *it;
	struct far_list *tmp;
	struct loop_key *key;

	if (!to->up)
		return -ENOTCONN;
	if (link->peer == NULL)
		return 0;
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &mem->keys)
	{
		key = FAR_CONTAINER_OF(it, struct loop_key, mem_node);
		if (key->reader == link->peer)
			return 0;
	}
	key = far_zalloc(sizeof(*key));
	if (key == NULL)
		return -ENOMEM;
	if (far_loop_timers_reserve(fabric, 1) < 0) {
		far_free(key);
		return -ENOMEM;
	}
	key->reader = link->peer;
	key->mem = mem;
	key->rkey = base->remote.rkey;
	far_list_init(&key->node);
	far_list_push_back(&mem->keys, &key->mem_node);
	key->parcel.kind = LOOP_PARCEL_EXPOSE;
	key->parcel.timer.fire = far_loop_parcel_fire;
	far_loop_parcel_post(link, &key->parcel);
	return 0;
}

void
far_loop_key_learn(struct loop_key *key)
{
	far_list_push_front(&key->reader->keys, &key->node);
}

void
far_loop_key_free(struct loop_key *key)
{
	struct far_loop_fabric *fabric = key->reader->host->fabric;

	far_loop_timer_cancel(fabric, &key->parcel.timer);
	far_loop_timers_release(fabric, 1);
	far_list_remove(&key->node);
	far_list_remove(&key->mem_node);
	far_free(key);
}

void
far_loop_forget(struct far_link *base, const struct far_rkey *rkey)
{
	struct loop_link *link = loop_link(base);
	struct loop_key *key = far_loop_key_find(link, rkey);

	if (key == NULL)
		return;
	FAR_ASSERT(key->pins == 0);
	far_loop_key_free(key);
}

struct loop_key *
far_loop_key_find(struct loop_link *link, const struct far_rkey *rkey)
{
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &link->keys)
	{
		struct loop_key *key = FAR_CONTAINER_OF(it, struct loop_key, node);

		if (memcmp(&key->rkey, rkey, sizeof(*rkey)) != 0)
			continue;
		/* Old keys pile up behind the ones in use. */
		far_list_remove(&key->node);
		far_list_push_front(&link->keys, &key->node);
		return key;
	}
	return NULL;
}

uint8_t *
far_loop_key_reach(const struct loop_key *key, enum far_op_kind kind, uint64_t addr,
		   uint64_t size_bytes)
{
	uint32_t right = kind == FAR_OP_READ ? FAR_RIGHT_REMOTE_READ : FAR_RIGHT_REMOTE_WRITE;
	const struct loop_mem *mem = key->mem;

	if (mem == NULL || (mem->mem.rights & right) == 0)
		return NULL;
	if (mem->only_link != 0 &&
	    (key->reader->peer == NULL || key->reader->peer->number != mem->only_link))
		return NULL;
	if (addr < mem->mem.remote.addr || size_bytes > mem->mem.size_bytes)
		return NULL;
	if (addr - mem->mem.remote.addr > mem->mem.size_bytes - size_bytes)
		return NULL;
	return (uint8_t *)mem->mem.base + (addr - mem->mem.remote.addr);
}
