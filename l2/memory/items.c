/* items.c - the keys of a task: blocks are found, locked, copied, stored, first in first out. */
#include "l2/memory/memory_priv.h"

#include <string.h>

static struct entry *
entry_make(struct memory *mem, const struct far_key *key)
{
	struct far_list *node = far_list_pop_front(&mem->entries_free);
	uint32_t *bucket = bucket_of(mem, key);
	struct entry *entry;

	if (node == NULL)
		return NULL;
	entry = FAR_CONTAINER_OF(node, struct entry, node);
	entry->key = *key;
	entry->unit_first = UNIT_NONE;
	entry->size_bytes = 0;
	entry->locks = 0;
	entry->hash_next = *bucket;
	*bucket = (uint32_t)(entry - mem->entries);
	return entry;
}

/* Ends an entry that holds nothing and that nobody has locked. */
static void
entry_drop_if_idle(struct memory *mem, struct entry *entry)
{
	uint32_t at = (uint32_t)(entry - mem->entries);
	uint32_t *link = bucket_of(mem, &entry->key);

	if (entry->locks > 0 || entry_held(entry))
		return;
	while (*link != at) {
		FAR_ASSERT(*link != ENTRY_NONE);
		link = &mem->entries[*link].hash_next;
	}
	*link = entry->hash_next;
	far_list_remove(&entry->node);
	far_list_push_front(&mem->entries_free, &entry->node);
}

void
far_l2_memory_block_free(struct memory *mem, struct entry *entry)
{
	uint32_t unit = entry->unit_first;

	FAR_ASSERT(unit != UNIT_NONE);
	while (unit != UNIT_NONE) {
		uint32_t next = mem->unit_next[unit];

		mem->unit_next[unit] = mem->unit_free_first;
		mem->unit_free_first = unit;
		mem->units_free++;
		unit = next;
	}
	entry->unit_first = UNIT_NONE;
	far_list_remove(&entry->node);
	mem->counts.blocks--;
	mem->block_bytes -= entry->size_bytes;
	entry_drop_if_idle(mem, entry);
}

/* Oldest first, past what is locked. False: everything that is held is locked. */
static bool
evict_one(struct memory *mem)
{
	struct far_list *it, *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &mem->fifo)
	{
		struct entry *entry = FAR_CONTAINER_OF(it, struct entry, node);

		if (entry->locks > 0)
			continue;
		far_l2_memory_block_free(mem, entry);
		mem->counts.evicted++;
		return true;
	}
	return false;
}

/* Walks the units of a block and the pieces of an item side by side. */
static void
block_copy(struct memory *mem, const struct entry *entry, const struct far_l2_item *item,
	   uint32_t skip_bytes, bool to_pieces)
{
	uint32_t unit = entry->unit_first;
	uint32_t at = skip_bytes;

	for (; at >= mem->unit_bytes; at -= mem->unit_bytes)
		unit = mem->unit_next[unit];
	for (uint32_t p = 0; p < item->piece_count; p++) {
		uint8_t *addr = item->pieces[p].addr;
		uint32_t left = item->pieces[p].size_bytes;

		while (left > 0) {
			uint8_t *store = mem->units + (size_t)unit * mem->unit_bytes + at;
			uint32_t step = mem->unit_bytes - at;

			step = step < left ? step : left;
			memcpy(to_pieces ? addr : store, to_pieces ? store : addr, step);
			addr += step;
			left -= step;
			at += step;
			if (at == mem->unit_bytes) {
				at = 0;
				unit = mem->unit_next[unit];
			}
		}
	}
}

static void
lookups_run(struct memory *mem, struct far_l2_item *item, uint32_t count)
{
	uint64_t hits = 0;

	for (const struct far_l2_item *end = item + count; item < end; item++) {
		struct entry *entry = entry_find(mem, &item->key);
		uint32_t asked = item->size_bytes;

		item->rc = -ENOENT;
		if (!entry_held(entry))
			continue;
		item->size_bytes = entry->size_bytes;
		if (asked != 0 && asked != entry->size_bytes) {
			mem->status.length_misses++;
			item->rc = -EMSGSIZE;
			continue;
		}
		item->rc = 0;
		entry->locks++;
		hits++;
	}
	mem->counts.locks += hits;
	mem->status.lookups += count;
	mem->status.lookup_hits += hits;
}

/* Apart from the way that most go. */
static __attribute__((noinline)) int
item_load(struct memory *mem, struct far_l2_item *item)
{
	struct entry *entry = entry_find(mem, &item->key);
	uint64_t bytes = item_bytes(item);

	if (bytes == 0)
		return -EINVAL;
	if (!entry_held(entry))
		return -ENOENT;
	if ((item->size_bytes != 0 && item->size_bytes != entry->size_bytes) ||
	    item->range_offset + bytes > entry->size_bytes) {
		item->size_bytes = entry->size_bytes;
		mem->status.length_misses++;
		return -EMSGSIZE;
	}
	if (mem->fail_loads > 0) {
		mem->fail_loads--;
		if (item->piece_count > 0)
			memset(item->pieces[0].addr, 0xa5, item->pieces[0].size_bytes / 2);
		return mem->fail_loads_rc;
	}
	block_copy(mem, entry, item, item->range_offset, true);
	mem->status.loads++;
	mem->status.load_bytes += bytes;
	return 0;
}

/* Mostly it is a whole block of one unit, into one piece: no walk, and for the smallest unit no call.
 * False: nothing was done. */
static inline bool
item_load_plain(const struct memory *mem, const struct far_l2_item *item)
{
	const struct far_l2_piece *piece = item->pieces;
	const struct entry *entry;
	const uint8_t *store;

	if (item->piece_count != 1 || piece->size_bytes != item->size_bytes ||
	    piece->size_bytes > mem->unit_bytes)
		return false;
	entry = entry_find(mem, &item->key);
	if (!entry_held(entry) || entry->size_bytes != piece->size_bytes || item->range_offset != 0)
		return false;
	store = mem->units + (size_t)entry->unit_first * mem->unit_bytes;
	if (piece->size_bytes == UNIT_BYTES_SMALL)
		memcpy(piece->addr, store, UNIT_BYTES_SMALL);
	else
		memcpy(piece->addr, store, piece->size_bytes);
	return true;
}

static void
loads_run(struct memory *mem, struct far_l2_item *item, uint32_t count)
{
	uint64_t loads = 0;
	uint64_t bytes = 0;

	for (const struct far_l2_item *end = item + count; item < end; item++) {
		if (mem->fail_loads > 0 || !item_load_plain(mem, item)) {
			item->rc = item_load(mem, item);
			continue;
		}
		item->rc = 0;
		loads++;
		bytes += item->size_bytes;
	}
	mem->status.loads += loads;
	mem->status.load_bytes += bytes;
}

static int
item_store(struct memory *mem, struct far_l2_item *item)
{
	struct entry *entry = entry_find(mem, &item->key);
	uint64_t bytes = item_bytes(item);
	uint64_t units = (bytes + mem->unit_bytes - 1) / mem->unit_bytes;

	if (entry_held(entry)) {
		mem->status.stores_had++;
		return -EEXIST;
	}
	if (bytes == 0 || bytes > UINT32_MAX)
		return -EINVAL;
	if (units > mem->unit_count)
		return -ENOSPC;
	while (mem->units_free < units) {
		if (!evict_one(mem))
			return -ENOSPC;
	}
	if (entry == NULL)
		entry = entry_make(mem, &item->key);
	if (entry == NULL)
		return -ENOSPC;
	for (uint64_t i = 0; i < units; i++) {
		uint32_t unit = mem->unit_free_first;

		mem->unit_free_first = mem->unit_next[unit];
		mem->unit_next[unit] = entry->unit_first;
		entry->unit_first = unit;
	}
	mem->units_free -= (uint32_t)units;
	entry->size_bytes = (uint32_t)bytes;
	entry->group = item->group;
	far_list_push_back(&mem->fifo, &entry->node);
	mem->counts.blocks++;
	mem->block_bytes += bytes;
	block_copy(mem, entry, item, 0, false);
	mem->status.stores++;
	mem->status.store_bytes += bytes;
	return 0;
}

static int
item_delete(struct memory *mem, struct far_l2_item *item)
{
	struct entry *entry = entry_find(mem, &item->key);

	if (!entry_held(entry))
		return -ENOENT;
	far_l2_memory_block_free(mem, entry);
	mem->counts.deletes++;
	return 0;
}

void
far_l2_memory_run(struct memory *mem, struct far_l2_task *task)
{
	struct far_l2_item *items = task->items;

	switch (task->kind) {
	case FAR_L2_LOOKUP:
		lookups_run(mem, items, task->count);
		return;
	case FAR_L2_LOAD:
		loads_run(mem, items, task->count);
		return;
	case FAR_L2_STORE:
		for (uint32_t i = 0; i < task->count; i++)
			items[i].rc = item_store(mem, &items[i]);
		return;
	case FAR_L2_DELETE:
		for (uint32_t i = 0; i < task->count; i++)
			items[i].rc = item_delete(mem, &items[i]);
		return;
	}
}

void
far_l2_memory_unlock(struct memory *mem, const struct far_key *keys, size_t count)
{
	uint64_t unknown = 0;

	for (size_t i = 0; i < count; i++) {
		struct entry *entry = entry_find(mem, &keys[i]);

		if (entry == NULL || entry->locks == 0) {
			unknown++;
			continue;
		}
		entry->locks--;
		if (!entry_held(entry))
			entry_drop_if_idle(mem, entry);
	}
	mem->counts.unlocks += count;
	mem->counts.unlocks_unknown += unknown;
	mem->counts.locks -= count - unknown;
}
