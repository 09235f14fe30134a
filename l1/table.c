/* table.c - which key is which block: buckets of chains, read without a lock, changed under it. */
#include "l1/l1_priv.h"

/*
 * A reader walks a chain while others change it. Records are never unmapped, so the walk is safe; what
 * it finds is proved by the block's word, whose generation changes with every use of the record. What
 * it does not find is proved by the shard's version: a record that leaves a chain bumps it before the
 * record can be used again, so a walk that was led astray sees another version and says "retry".
 */

uint32_t
far_l1_table_find_locked(struct far_l1 *l1, const struct far_key *key, uint64_t hash,
			 uint64_t *word_out)
{
	return table_look(l1, key, hash, word_out);
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
	far_l1_queue_add(l1, idx, entry->tick);
	return idx;
}

uint32_t
far_l1_table_add(struct far_l1 *l1, const struct l1_entry *entry, uint32_t extent)
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

void
far_l1_table_unlink(struct far_l1 *l1, uint32_t idx)
{
	struct far_key key;

	far_l1_block_key(&l1->blocks[idx], &key);
	chain_leave(l1, idx, bucket_of(l1, key_hash(&key)));
	far_l1_queue_remove(l1, idx);
	l1->table_count--;
}

uint32_t
far_l1_table_replace(struct far_l1 *l1, uint32_t idx, uint64_t bucket, const struct l1_entry *entry)
{
	l1->queue.ops->evicted(l1, idx);
	chain_leave(l1, idx, bucket);
	block_word_free(&l1->blocks[idx]);
	return record_begin(l1, idx, entry);
}
