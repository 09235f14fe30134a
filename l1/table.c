/* table.c - which key is which block: buckets of chains, read without a lock, changed under it. */
#include "l1/grant.h"

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

void
far_l1_table_unlink(struct far_l1 *l1, uint32_t idx)
{
	struct far_key key;

	far_l1_block_key(&l1->blocks[idx], &key);
	chain_leave(l1, idx, bucket_of(l1, key_hash(&key)));
	far_l1_queue_remove(l1, idx);
	l1->table_count--;
}
