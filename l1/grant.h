/* grant.h - what a reservation does for each key, inlined for that: a block in the next piece of the arena, or in
 * a victim's place. arena.c, table.c and place.c have the why. */
#ifndef FAR_L1_GRANT_H
#define FAR_L1_GRANT_H

#include "l1/l1_priv.h"

static inline uint32_t
arena_record_take(struct l1_arena *arena)
{
	uint32_t idx = arena->extent_free;

	if (idx != L1_NIL) {
		arena->extent_free = arena->extents[idx].next;
		return idx;
	}
	/* Free ones never touch, so there are at most as many as blocks, and one. */
	FAR_ASSERT(arena->extent_fresh < arena->extent_end);
	return arena->extent_fresh++;
}

/* Gives a block the beginning of a free one that is in no trie: its rest is open then. */
static inline uint32_t
arena_cut(struct l1_arena *arena, uint32_t idx, uint32_t unit_count, uint32_t block)
{
	struct l1_extent *e = &arena->extents[idx];

	arena->open = L1_NIL;
	if (e->unit_count > unit_count) {
		uint32_t rest = arena_record_take(arena);
		struct l1_extent *r = &arena->extents[rest];

		r->unit = e->unit + unit_count;
		r->unit_count = e->unit_count - unit_count;
		r->block = L1_NIL;
		r->prev = idx;
		r->next = e->next;
		if (e->next != L1_NIL)
			arena->extents[e->next].prev = rest;
		e->next = rest;
		e->unit_count = unit_count;
		arena->open = rest;
		arena->open_for = unit_count;
	}
	e->block = block;
	arena->free_units -= unit_count;
	return idx;
}

/* The next one of the length that was cut off last; L1_NIL: far_l1_arena_take() has to look. */
static inline uint32_t
arena_take_open(struct l1_arena *arena, uint32_t unit_count, uint32_t block)
{
	uint32_t open = arena->open;

	if (open == L1_NIL || unit_count != arena->open_for ||
	    unit_count > arena->extents[open].unit_count)
		return L1_NIL;
	return arena_cut(arena, open, unit_count, block);
}

/* A record that is in no chain becomes the entry's block, over the memory that it has. */
static inline uint32_t
record_begin(struct far_l1 *l1, uint32_t idx, const struct l1_entry *entry)
{
	_Atomic uint32_t *bucket = &l1->buckets[bucket_of(l1, entry->hash)];
	struct l1_block *block = &l1->blocks[idx];
	uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);

	FAR_ASSERT(word_state(word) == WORD_FREE);
	atomic_store_explicit(&block->key[0], far_key_lo(entry->key), memory_order_relaxed);
	atomic_store_explicit(&block->key[1], far_key_hi(entry->key), memory_order_relaxed);
	atomic_store_explicit(&block->touched, entry->tick, memory_order_relaxed);
	atomic_store_explicit(&block->size_bytes, entry->size_bytes, memory_order_relaxed);
	/* Pairs with the loads of the word in far_l1_table_find(). */
	atomic_store_explicit(&block->word, word | WORD_WRITE, memory_order_release);
	atomic_store_explicit(&block->next, atomic_load_explicit(bucket, memory_order_relaxed),
			      memory_order_release);
	atomic_store_explicit(bucket, idx, memory_order_release);
	far_l1_queue_add(l1, idx);
	return idx;
}

/* A block over @extent. */
static inline uint32_t
table_add(struct far_l1 *l1, const struct l1_entry *entry, uint32_t extent)
{
	uint32_t idx = l1->block_free;

	if (idx != L1_NIL) {
		l1->block_free = l1->blocks[idx].queue_next;
	} else {
		FAR_ASSERT(l1->block_fresh < l1->block_end);
		idx = l1->block_fresh++;
	}
	l1->blocks[idx].extent = extent;
	l1->blocks[idx].unit = l1->arena.extents[extent].unit;
	l1->arena.extents[extent].block = idx;
	l1->table_count++;
	l1->record_count++;
	return record_begin(l1, idx, entry);
}

/* Takes a record out of its chain. */
static inline void
chain_leave(struct far_l1 *l1, uint32_t idx, uint64_t bucket)
{
	struct l1_block *block = &l1->blocks[idx];
	_Atomic uint64_t *version = &l1->shards[bucket >> l1->shard_shift].version;
	_Atomic uint32_t *link = &l1->buckets[bucket];
	uint32_t at = atomic_load_explicit(link, memory_order_relaxed);

	while (at != idx) {
		FAR_ASSERT(at != L1_NIL);
		link = &l1->blocks[at].next;
		at = atomic_load_explicit(link, memory_order_relaxed);
	}
	/* Its own next stays, for those who stand on it; the version tells them. */
	atomic_store_explicit(link, atomic_load_explicit(&block->next, memory_order_relaxed),
			      memory_order_release);
	/* Nobody else writes it. Whoever sees the record in use again sees this first. */
	atomic_store_explicit(version, atomic_load_explicit(version, memory_order_relaxed) + 1,
			      memory_order_release);
}

/* The same over memory and record of @idx: a claimed block of as many units, whose key is in @bucket and
 * which is evicted. */
static inline uint32_t
table_replace(struct far_l1 *l1, uint32_t idx, uint64_t bucket, const struct l1_entry *entry)
{
	l1->queue.ops->evicted(l1, idx);
	chain_leave(l1, idx, bucket);
	block_word_free(&l1->blocks[idx]);
	return record_begin(l1, idx, entry);
}

/* Memory and record of a victim, which is taken and as long, change hands as they are. */
static inline uint32_t
place_in_place_of(struct far_l1 *l1, struct l1_places *places, uint32_t at,
		  const struct l1_entry *entry)
{
	uint32_t idx = places->victims->idxs[at];

	places->replaced++;
	places->replaced_bytes +=
		atomic_load_explicit(&l1->blocks[idx].size_bytes, memory_order_relaxed);
	return table_replace(l1, idx, places->victims->buckets[at], entry);
}

/* A block for one key, in the way that most go; L1_NIL: it is for far_l1_place() to see. */
static inline uint32_t
place_at_once(struct far_l1 *l1, struct l1_places *places, const struct l1_entry *entry,
	      uint32_t units)
{
	struct l1_victims *victims = places->victims;
	uint32_t at = victims->next;
	uint32_t extent;

	/* Where there is room, blocks that are alike are cut off one after the other. */
	if (units <= l1->arena.free_units) {
		if (!far_l1_table_has_room(l1))
			return L1_NIL;
		extent = arena_take_open(&l1->arena, units, L1_TAKEN);
		return extent != L1_NIL ? table_add(l1, entry, extent) : L1_NIL;
	}
	/* Where there is none, the next victim's place, unless its end has to be told under its key. */
	if (at == victims->count || l1->told_deleted ||
	    block_units_of(l1, victims->idxs[at]) != units)
		return L1_NIL;
	victims->next++;
	return place_in_place_of(l1, places, at, entry);
}

#endif
