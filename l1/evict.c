/* evict.c - the order in which blocks go: least recently used first, exact, paid for by the evictor. */
#include "l1/l1_priv.h"

/*
 * Using a block stores one number, the tick of its use, into a line that the user owns anyway. Only an
 * evictor looks for the smallest. Blocks are filed in a wheel of lists by the tick they had when they
 * were filed (64 slots on each of 11 levels, as timer wheels have them, relative to queue.last, the
 * oldest tick that anything is filed under). The evictor takes the oldest slot; a block used since is
 * filed again under its new tick, a locked one under the present, since its unlocking will be a use. So
 * no block is ever lost from the order, and none is visited twice for one victim.
 *
 * After QUEUE_MOVES_MAX such moves the oldest block seen on the way is taken: a bound on the time that
 * one victim costs, at the price of exactness after very many uses without any eviction.
 */
#define QUEUE_MOVES_MAX 1024u
#define CASCADE_NONE    UINT32_MAX

void
far_l1_queue_init(struct l1_queue *queue)
{
	memset(queue, 0, sizeof(*queue));
	queue->cascade = CASCADE_NONE;
}

static uint32_t
slot_of(const struct l1_queue *queue, uint64_t tick)
{
	uint64_t diff = tick ^ queue->last;
	uint32_t level = diff == 0 ? 0 : (63u - (uint32_t)__builtin_clzll(diff)) / 6u;

	return level * L1_WHEEL_SLOTS + (uint32_t)((tick >> (6 * level)) & 63);
}

void
far_l1_queue_add(struct far_l1 *l1, uint32_t idx, uint64_t tick)
{
	struct l1_queue *queue = &l1->queue;
	struct l1_block *block = &l1->blocks[idx];
	uint32_t slot;

	block->queued = tick > queue->last ? tick : queue->last;
	slot = slot_of(queue, block->queued);
	block->queue_prev = L1_QUEUE_HEAD | slot;
	block->queue_next = queue->heads[slot];
	if (block->queue_next != L1_NIL)
		l1->blocks[block->queue_next].queue_prev = idx;
	queue->heads[slot] = idx;
	queue->maps[slot / L1_WHEEL_SLOTS] |= 1ull << (slot % L1_WHEEL_SLOTS);
	queue->count++;
}

void
far_l1_queue_remove(struct far_l1 *l1, uint32_t idx)
{
	struct l1_queue *queue = &l1->queue;
	struct l1_block *block = &l1->blocks[idx];
	uint32_t prev = block->queue_prev;
	uint32_t next = block->queue_next;
	uint32_t slot;

	if (prev == L1_NIL)
		return; /* a claimed one */
	if (next != L1_NIL)
		l1->blocks[next].queue_prev = prev;
	if (prev & L1_QUEUE_HEAD) {
		slot = prev & ~L1_QUEUE_HEAD;
		queue->heads[slot] = next;
		if (next == L1_NIL) {
			queue->maps[slot / L1_WHEEL_SLOTS] &= ~(1ull << (slot % L1_WHEEL_SLOTS));
			if (queue->cascade == slot)
				queue->cascade = CASCADE_NONE;
		}
	} else {
		l1->blocks[prev].queue_next = next;
	}
	block->queue_prev = L1_NIL;
	block->queue_next = L1_NIL;
	queue->count--;
}

/* The slot with the oldest blocks. One above level 0 has to be filed anew before any of its blocks is
 * known to be the oldest: last moves to its beginning, and it stays the one until it is empty. */
static uint32_t
slot_oldest(struct l1_queue *queue)
{
	uint32_t level = 0;
	uint32_t digit;
	uint64_t below;

	if (queue->cascade != CASCADE_NONE)
		return queue->cascade;
	while (queue->maps[level] == 0)
		level++;
	FAR_ASSERT(level < L1_WHEEL_LEVELS);
	digit = (uint32_t)__builtin_ctzll(queue->maps[level]);
	below = level == 10 ? UINT64_MAX : (64ull << (6 * level)) - 1;
	queue->last = (queue->last & ~below) | ((uint64_t)digit << (6 * level));
	if (level > 0)
		queue->cascade = level * L1_WHEEL_SLOTS + digit;
	return level * L1_WHEEL_SLOTS + digit;
}

bool
far_l1_block_claim(struct far_l1 *l1, uint32_t idx)
{
	struct l1_block *block = &l1->blocks[idx];
	uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);

	/* Acquire: the last reader's reads are over before the bytes are written again. */
	if (!word_evictable(word) ||
	    !atomic_compare_exchange_strong_explicit(&block->word, &word,
						     (word & ~WORD_STATE_MASK) | WORD_CLAIMED,
						     memory_order_acq_rel, memory_order_relaxed))
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
	far_l1_queue_add(l1, idx, block->queued);
	atomic_store_explicit(&block->word, (word & ~WORD_STATE_MASK) | WORD_READY,
			      memory_order_release);
}

static void
queue_move(struct far_l1 *l1, uint32_t idx, uint64_t tick)
{
	far_l1_queue_remove(l1, idx);
	far_l1_queue_add(l1, idx, tick);
}

/* Brought nearer to its end: what evicting it will read is asked for now. */
static void
queue_refile(struct far_l1 *l1, uint32_t idx, uint64_t tick)
{
	struct l1_block *block = &l1->blocks[idx];
	struct far_key key;

	queue_move(l1, idx, tick);
	far_l1_block_key(block, &key);
	far_l1_table_prefetch(l1, &key);
	__builtin_prefetch(&l1->arena.extents[block->extent], 1);
}

uint32_t
far_l1_queue_claim(struct far_l1 *l1)
{
	struct l1_queue *queue = &l1->queue;
	uint64_t now = atomic_fetch_add_explicit(&l1->ticks.last, 1, memory_order_relaxed);
	uint64_t moves_end = (uint64_t)queue->count * 2 + QUEUE_MOVES_MAX;
	uint64_t oldest_tick = UINT64_MAX;
	uint32_t oldest = L1_NIL;

	for (uint64_t moves = 0; queue->count > 0 && moves < moves_end; moves++) {
		uint32_t slot, idx;
		struct l1_block *block;
		uint64_t tick;

		if (moves >= QUEUE_MOVES_MAX && oldest != L1_NIL) {
			if (far_l1_block_claim(l1, oldest))
				return oldest;
			oldest = L1_NIL;
			oldest_tick = UINT64_MAX;
		}
		slot = slot_oldest(queue);
		idx = queue->heads[slot];
		block = &l1->blocks[idx];
		tick = atomic_load_explicit(&block->touched, memory_order_relaxed);
		if (block->queue_next != L1_NIL)
			__builtin_prefetch(&l1->blocks[block->queue_next], 1);
		if (!word_evictable(atomic_load_explicit(&block->word, memory_order_relaxed))) {
			queue_move(l1, idx, now);
			continue;
		}
		if (tick < block->queued)
			tick = block->queued;
		if (tick < oldest_tick) {
			oldest_tick = tick;
			oldest = idx;
		}
		if (slot >= L1_WHEEL_SLOTS || tick > block->queued)
			queue_refile(l1, idx, tick);
		else if (far_l1_block_claim(l1, idx))
			return idx;
	}
	if (oldest != L1_NIL && far_l1_block_claim(l1, oldest))
		return oldest;
	return L1_NIL;
}

void
far_l1_queue_check(struct far_l1 *l1)
{
	struct l1_queue *queue = &l1->queue;
	uint64_t count = 0;

	for (uint32_t slot = 0; slot < L1_WHEEL_LEVELS * L1_WHEEL_SLOTS; slot++) {
		uint32_t prev = L1_QUEUE_HEAD | slot;
		uint64_t bit = queue->maps[slot / L1_WHEEL_SLOTS] >> (slot % L1_WHEEL_SLOTS) & 1;

		FAR_ASSERT((bit != 0) == (queue->heads[slot] != L1_NIL));
		for (uint32_t idx = queue->heads[slot]; idx != L1_NIL;
		     idx = l1->blocks[idx].queue_next) {
			struct l1_block *block = &l1->blocks[idx];

			FAR_ASSERT(block->queue_prev == prev);
			FAR_ASSERT(block->queued >= queue->last);
			if (slot != queue->cascade)
				FAR_ASSERT(slot_of(queue, block->queued) == slot);
			prev = idx;
			count++;
			FAR_ASSERT(count <= queue->count);
		}
	}
	FAR_ASSERT(count == queue->count);
}
