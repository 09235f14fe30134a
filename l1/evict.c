/* evict.c - which blocks go: the policy behind the queue, claims, and eviction ahead of need. */
#include "l1/l1_priv.h"

bool
far_l1_block_claim(struct far_l1 *l1, uint32_t idx)
{
	if (!block_claim(&l1->blocks[idx]))
		return false;
	far_l1_queue_remove(l1, idx);
	return true;
}

void
far_l1_block_unclaim(struct far_l1 *l1, uint32_t idx)
{
	struct l1_block *block = &l1->blocks[idx];
	uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);

	FAR_ASSERT(word_state(word) == WORD_CLAIMED);
	l1->queue.ops->unclaim(l1, idx);
	l1->queue.count++;
	atomic_store_explicit(&block->word, (word & ~WORD_STATE_MASK) | WORD_READY,
			      memory_order_release);
}

/* Each step asks for what the next one reads, for all of them: their misses overlap. */
static void
victims_find(const struct far_l1 *l1, struct l1_victims *victims)
{
	for (uint32_t i = 0; i < victims->count; i++) {
		struct far_key key;

		far_l1_block_key(&l1->blocks[victims->idxs[i]], &key);
		victims->buckets[i] = bucket_of(l1, key_hash(&key));
		__builtin_prefetch(&l1->buckets[victims->buckets[i]], 1);
	}
	for (uint32_t i = 0; i < victims->count; i++)
		__builtin_prefetch(
			&l1->blocks[atomic_load_explicit(&l1->buckets[victims->buckets[i]],
							 memory_order_relaxed)],
			1);
}

uint32_t
far_l1_victims_claim(struct far_l1 *l1, struct l1_victims *victims, uint32_t max)
{
	if (max > L1_VICTIMS)
		max = L1_VICTIMS;
	victims->next = 0;
	far_l1_queue_file(l1);
	victims->count = l1->queue.ops->claim(l1, victims->idxs, max > 0 ? max : 1);
	victims_find(l1, victims);
	return far_l1_victims_take(victims);
}

void
far_l1_victims_return(struct far_l1 *l1, struct l1_victims *victims)
{
	while (victims->count > victims->next)
		far_l1_block_unclaim(l1, victims->idxs[--victims->count]);
}

void
far_l1_block_evict(struct far_l1 *l1, uint32_t idx, struct l1_dead *dead)
{
	struct l1_block *block = &l1->blocks[idx];

	evicted_count(l1, dead, 1, atomic_load_explicit(&block->size_bytes, memory_order_relaxed));
	l1->queue.ops->evicted(l1, idx);
	far_l1_table_unlink(l1, idx);
	far_l1_block_end(l1, idx);
	if (!l1->told_deleted) {
		far_l1_record_drop(l1, idx);
		return;
	}
	block->queue_next = dead->head;
	dead->head = idx;
	dead->count++;
}

/* Blocks of that length until @bytes are reached. */
static uint32_t
alike_count(uint64_t bytes, uint64_t block_bytes, uint32_t max)
{
	uint64_t count = bytes / block_bytes + (bytes % block_bytes != 0);

	return count < max ? (uint32_t)count : max;
}

/* Their memory goes back to the arena, one after the other. */
L1_PREFETCHES
extents_ask(const struct far_l1 *l1, const struct l1_victims *victims)
{
	for (uint32_t i = 0; i < victims->count; i++)
		__builtin_prefetch(&l1->arena.extents[l1->blocks[victims->idxs[i]].extent], 1);
}

uint64_t
far_l1_evict(struct far_l1 *l1, uint64_t bytes, uint32_t blocks_max, uint32_t *blocks_out)
{
	struct l1_dead dead = {.head = L1_NIL};
	struct l1_victims victims;
	uint64_t freed = 0;
	uint64_t last_bytes = UINT64_MAX;
	uint32_t blocks = 0;

	victims.next = victims.count = 0;
	pthread_mutex_lock(&l1->lock);
	while (freed < bytes && blocks < blocks_max) {
		uint32_t left = blocks_max - blocks;
		uint32_t idx = far_l1_victims_take(&victims);

		if (idx == L1_NIL) {
			idx = far_l1_victims_claim(l1, &victims,
						   alike_count(bytes - freed, last_bytes, left));
			extents_ask(l1, &victims);
		}
		if (idx == L1_NIL)
			break;
		last_bytes = block_bytes(l1, idx);
		freed += last_bytes;
		far_l1_block_evict(l1, idx, &dead);
		blocks++;
		if (blocks % L1_EVENTS != 0)
			continue;
		far_l1_victims_return(l1, &victims);
		/* Others get their turn, whether somebody wants to be told or not. */
		pthread_mutex_unlock(&l1->lock);
		far_l1_dead_tell(l1, &dead);
		pthread_mutex_lock(&l1->lock);
	}
	far_l1_victims_return(l1, &victims);
	pthread_mutex_unlock(&l1->lock);
	far_l1_dead_tell(l1, &dead);
	far_l1_record_add(l1, FAR_RECORD_L1_EVICTED, 2, 0, dead.evicted, dead.evicted_bytes);
	if (blocks_out != NULL)
		*blocks_out = blocks;
	return freed;
}

/* --- The policy none: all blocks are in no order at all. --- */

static int
none_init(struct far_l1 *l1)
{
	(void)l1;
	return 0;
}

static void
none_fini(struct far_l1 *l1)
{
	(void)l1;
}

static void
none_add(struct far_l1 *l1, const uint32_t *idxs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		l1->blocks[idxs[i]].queue_prev = L1_QUEUE_HEAD;
	l1->queue.count += count;
}

static void
none_remove(struct far_l1 *l1, uint32_t idx)
{
	l1->blocks[idx].queue_prev = L1_NIL;
}

static uint32_t
none_claim(struct far_l1 *l1, uint32_t *idxs_out, uint32_t max)
{
	(void)l1;
	(void)max;
	idxs_out[0] = L1_NIL;
	return 0;
}

static void
none_unclaim(struct far_l1 *l1, uint32_t idx)
{
	l1->blocks[idx].queue_prev = L1_QUEUE_HEAD;
}

static void
none_evicted(struct far_l1 *l1, uint32_t idx)
{
	(void)l1;
	(void)idx;
	FAR_ASSERT(false);
}

static uint32_t
none_worth(const struct far_l1 *l1, uint32_t idx)
{
	(void)l1;
	(void)idx;
	return 0;
}

static void
none_check(const struct far_l1 *l1)
{
	(void)l1;
}

static const struct l1_evict_ops evict_none = {
	.name = "none",
	.counts_uses = false,
	.init = none_init,
	.fini = none_fini,
	.add = none_add,
	.remove = none_remove,
	.claim = none_claim,
	.unclaim = none_unclaim,
	.evicted = none_evicted,
	.worth = none_worth,
	.check = none_check,
};

/* --- The front. --- */

static const struct l1_evict_ops *const policies[] = {
	[FAR_L1_LRU] = &far_l1_evict_lru,
	[FAR_L1_S3FIFO] = &far_l1_evict_s3fifo,
	[FAR_L1_NONE] = &evict_none,
};

int
far_l1_queue_init(struct far_l1 *l1)
{
	l1->queue.ops = policies[l1->config.policy];
	l1->counts_uses = l1->queue.ops->counts_uses;
	return l1->queue.ops->init(l1);
}

void
far_l1_queue_fini(struct far_l1 *l1)
{
	if (l1->queue.ops != NULL)
		l1->queue.ops->fini(l1);
}

uint32_t
far_l1_queue_worth(const struct far_l1 *l1, uint32_t idx)
{
	uint32_t worth = l1->queue.ops->worth(l1, idx);

	FAR_ASSERT(worth <= 48);
	return worth;
}

void
far_l1_queue_check(struct far_l1 *l1)
{
	FAR_ASSERT(l1->queue.unfiled_count == 0);
	l1->queue.ops->check(l1);
}
