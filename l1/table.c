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

uint32_t
far_l1_table_add(struct far_l1 *l1, const struct far_key *key, uint64_t hash, uint32_t size_bytes,
		 uint32_t extent, uint64_t tick)
{
	_Atomic uint32_t *bucket = &l1->buckets[bucket_of(l1, hash)];
	uint32_t idx = l1->block_free;
	struct l1_block *block;
	uint64_t word;

	if (idx != L1_NIL) {
		l1->block_free = l1->blocks[idx].queue_next;
	} else {
		FAR_ASSERT(l1->block_fresh < l1->block_end);
		idx = l1->block_fresh++;
	}
	block = &l1->blocks[idx];
	word = atomic_load_explicit(&block->word, memory_order_relaxed);
	FAR_ASSERT(word_state(word) == WORD_FREE);
	atomic_store_explicit(&block->key[0], far_key_lo(key), memory_order_relaxed);
	atomic_store_explicit(&block->key[1], far_key_hi(key), memory_order_relaxed);
	atomic_store_explicit(&block->touched, tick, memory_order_relaxed);
	atomic_store_explicit(&block->size_bytes, size_bytes, memory_order_relaxed);
	block->extent = extent;
	block->unit = l1->arena.extents[extent].unit;
	l1->arena.extents[extent].block = idx;
	/* Pairs with the loads of the word in far_l1_table_find(). */
	atomic_store_explicit(&block->word, word | WORD_WRITE, memory_order_release);
	atomic_store_explicit(&block->next, atomic_load_explicit(bucket, memory_order_relaxed),
			      memory_order_release);
	atomic_store_explicit(bucket, idx, memory_order_release);
	far_l1_queue_add(l1, idx, tick);
	l1->table_count++;
	l1->record_count++;
	return idx;
}

void
far_l1_table_unlink(struct far_l1 *l1, uint32_t idx)
{
	struct l1_block *block = &l1->blocks[idx];
	struct far_key key;
	uint64_t bucket;
	_Atomic uint64_t *version;
	_Atomic uint32_t *link;
	uint32_t at;

	far_l1_block_key(block, &key);
	bucket = bucket_of(l1, key_hash(&key));
	version = &l1->shards[bucket >> l1->shard_shift].version;
	link = &l1->buckets[bucket];
	at = atomic_load_explicit(link, memory_order_relaxed);
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
	far_l1_queue_remove(l1, idx);
	l1->table_count--;
}
