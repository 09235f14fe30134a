/* check.c - every invariant of an L1, walked while nobody is in it. */
#include "l1/l1_priv.h"

#include <sched.h>

#include "base/alloc.h"

struct tally {
	uint64_t *readers; /* per block: counts of its read loans; NULL: no memory for it */
	uint64_t *writers; /* per block: its write loans */
	uint64_t loans;
	uint64_t locked_bytes;
	uint64_t quarantine_bytes;
	uint64_t used_units;
	uint32_t records;
	uint32_t tabled;
};

/* Waits until no call is in progress, and keeps new ones out. */
static void
world_stop(struct far_l1 *l1)
{
	pthread_mutex_lock(&l1->check_lock);
	atomic_store(&l1->stopped, 1);
	for (uint32_t i = 0; i < l1->config.sessions_max; i++)
		while (atomic_load(&l1->sessions[i].calls) != 0)
			sched_yield();
	pthread_mutex_lock(&l1->lock);
}

static void
world_go(struct far_l1 *l1)
{
	pthread_mutex_unlock(&l1->lock);
	atomic_store(&l1->stopped, 0);
	pthread_mutex_unlock(&l1->check_lock);
}

static void
loans_check(struct far_l1 *l1, struct tally *t)
{
	int64_t counted = 0;

	for (uint32_t i = 0; i < l1->stripe_count; i++) {
		struct l1_stripe *stripe = &l1->stripes[i];
		uint64_t live = 0;

		for (uint32_t idx = stripe->first; idx < stripe->fresh; idx++) {
			uint64_t word = l1->loans[idx].word;
			uint64_t kind = word & LOAN_KIND_MASK;
			uint32_t block = l1->loans[idx].block;

			if (kind == LOAN_FREE)
				continue;
			live++;
			FAR_ASSERT(kind != LOAN_BUSY);
			FAR_ASSERT(block != L1_NIL);
			FAR_ASSERT(block < l1->block_fresh);
			FAR_ASSERT((kind == LOAN_WRITE) == (loan_counts(word) == 0));
			if (t->readers != NULL && kind == LOAN_READ)
				t->readers[block] += loan_counts(word);
			if (t->writers != NULL && kind == LOAN_WRITE)
				t->writers[block]++;
		}
		FAR_ASSERT(live == stripe->fresh - stripe->first - stripe->free_count);
		t->loans += live;
	}
	for (uint32_t i = 0; i < l1->config.sessions_max; i++)
		counted += l1->sessions[i].loan_count;
	FAR_ASSERT(counted == (int64_t)t->loans);
}

static void
block_check(struct far_l1 *l1, uint32_t idx, struct tally *t)
{
	struct l1_block *block = &l1->blocks[idx];
	uint64_t word = block->word;
	bool locked = word_state(word) == WORD_WRITE || word_readers(word) > 0;
	bool doomed = (word & WORD_DOOMED) != 0;
	uint64_t found_word = 0;
	struct far_key key;

	if (t->readers != NULL)
		FAR_ASSERT(t->readers[idx] == word_readers(word));
	if (t->writers != NULL)
		FAR_ASSERT(t->writers[idx] == (word_state(word) == WORD_WRITE));
	if (word_state(word) == WORD_FREE)
		return;
	FAR_ASSERT(word_state(word) != WORD_CLAIMED);
	FAR_ASSERT(l1->arena.extents[block->extent].block == idx);
	FAR_ASSERT(l1->arena.extents[block->extent].unit == block->unit);
	FAR_ASSERT(l1->arena.extents[block->extent].unit_count ==
		   block_units(l1, block->size_bytes));
	t->records++;
	t->used_units += block_units(l1, block->size_bytes);
	if (locked)
		t->locked_bytes += block_bytes(l1, idx);
	far_l1_block_key(block, &key);
	if (doomed) {
		FAR_ASSERT(locked);
		FAR_ASSERT(block->queue_prev == L1_NIL);
		FAR_ASSERT(far_l1_table_find_locked(l1, &key, key_hash(&key), &found_word) != idx);
		t->quarantine_bytes += block_bytes(l1, idx);
		return;
	}
	t->tabled++;
	FAR_ASSERT(block->queue_prev != L1_NIL);
	FAR_ASSERT(far_l1_table_find_locked(l1, &key, key_hash(&key), &found_word) == idx);
	FAR_ASSERT(far_l1_table_find(l1, &key, key_hash(&key), &found_word) == idx);
}

/* Chains hold what is in the table, and nothing else. */
static uint64_t
chains_count(struct far_l1 *l1)
{
	uint64_t count = 0;

	for (uint64_t b = 0; b <= l1->bucket_mask; b++)
		for (uint32_t idx = l1->buckets[b]; idx != L1_NIL; idx = l1->blocks[idx].next)
			count++;
	return count;
}

void
far_l1_check(struct far_l1 *l1)
{
	struct tally t = {0};

	world_stop(l1);
	t.readers = far_zalloc_array(l1->block_end, sizeof(uint64_t));
	t.writers = far_zalloc_array(l1->block_end, sizeof(uint64_t));
	loans_check(l1, &t);
	for (uint32_t idx = 1; idx < l1->block_fresh; idx++)
		block_check(l1, idx, &t);
	FAR_ASSERT(t.records == l1->record_count);
	FAR_ASSERT(t.tabled == l1->table_count);
	FAR_ASSERT(l1->record_count <= l1->blocks_max);
	FAR_ASSERT(l1->queue.count == l1->table_count);
	FAR_ASSERT(chains_count(l1) == l1->table_count);
	FAR_ASSERT(t.used_units ==
		   l1->arena.unit_count - l1->arena.wall_count - l1->arena.free_units);
	FAR_ASSERT(t.quarantine_bytes == l1->quarantine_bytes);
	FAR_ASSERT((int64_t)t.locked_bytes == far_l1_locked_bytes(l1));
	far_l1_queue_check(l1);
	far_l1_arena_check(&l1->arena);
	far_free(t.writers);
	far_free(t.readers);
	world_go(l1);
}
