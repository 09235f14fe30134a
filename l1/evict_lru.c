/* evict_lru.c - the policy LRU: least recently used first, exact, paid for by the evictor. */
#include "l1/l1_priv.h"

/*
 * Using a block stores one number, the tick of its use, into a line that the user owns anyway. Only
 * an evictor looks for the smallest. Blocks are filed in a wheel of lists by the tick they had when
 * they were filed (64 slots on each of 11 levels, as timer wheels have them, relative to
 * wheel.last, the oldest tick that anything is filed under). The evictor takes the oldest slot; a
 * block used since is filed again under its new tick, a locked one under the present, since its
 * unlocking will be a use. So no block is ever lost from the order, and none is visited twice for
 * one victim.
 *
 * After QUEUE_MOVES_MAX such moves the oldest block seen on the way is taken: a bound on the time
 * that one victim costs, at the price of exactness after very many uses without any eviction.
 */
#define QUEUE_MOVES_MAX 1024u
#define CASCADE_NONE    UINT32_MAX

static int
lru_init(struct far_l1 *l1)
{
	l1->queue.wheel.cascade = CASCADE_NONE;
	return 0;
}

static void
lru_fini(struct far_l1 *l1)
{
	(void)l1; /* no memory of its own */
}

static uint32_t
slot_of(const struct l1_wheel *wheel, uint64_t tick)
{
	uint64_t diff = tick ^ wheel->last;
	uint32_t level = diff == 0 ? 0 : (63u - (uint32_t)__builtin_clzll(diff)) / 6u;

	return level * L1_WHEEL_SLOTS + (uint32_t)((tick >> (6 * level)) & 63);
}

static void
lru_add(struct far_l1 *l1, uint32_t idx, uint64_t tick)
{
	struct l1_wheel *wheel = &l1->queue.wheel;
	struct l1_block *block = &l1->blocks[idx];
	uint32_t slot;

	block->queued = tick > wheel->last ? tick : wheel->last;
	slot = slot_of(wheel, block->queued);
	block->queue_prev = L1_QUEUE_HEAD | slot;
	block->queue_next = wheel->heads[slot];
	if (block->queue_next != L1_NIL)
		l1->blocks[block->queue_next].queue_prev = idx;
	wheel->heads[slot] = idx;
	wheel->maps[slot / L1_WHEEL_SLOTS] |= 1ull << (slot % L1_WHEEL_SLOTS);
}

static void
lru_remove(struct far_l1 *l1, uint32_t idx)
{
	struct l1_wheel *wheel = &l1->queue.wheel;
	struct l1_block *block = &l1->blocks[idx];
	uint32_t prev = block->queue_prev;
	uint32_t next = block->queue_next;
	uint32_t slot;

	if (next != L1_NIL)
		l1->blocks[next].queue_prev = prev;
	if (prev & L1_QUEUE_HEAD) {
		slot = prev & ~L1_QUEUE_HEAD;
		wheel->heads[slot] = next;
		if (next == L1_NIL) {
			wheel->maps[slot / L1_WHEEL_SLOTS] &= ~(1ull << (slot % L1_WHEEL_SLOTS));
			if (wheel->cascade == slot)
				wheel->cascade = CASCADE_NONE;
		}
	} else {
		l1->blocks[prev].queue_next = next;
	}
	block->queue_prev = L1_NIL;
	block->queue_next = L1_NIL;
}

/* The slot with the oldest blocks. One above level 0 has to be filed anew before any of its
 * blocks is known to be the oldest: last moves to its beginning, and it stays the one until it
 * is empty. */
static uint32_t
slot_oldest(struct l1_wheel *wheel)
{
	uint32_t level = 0;
	uint32_t digit;
	uint64_t below;

	if (wheel->cascade != CASCADE_NONE)
		return wheel->cascade;
	while (wheel->maps[level] == 0)
		level++;
	FAR_ASSERT(level < L1_WHEEL_LEVELS);
	digit = (uint32_t)__builtin_ctzll(wheel->maps[level]);
	below = level == 10 ? UINT64_MAX : (64ull << (6 * level)) - 1;
	wheel->last = (wheel->last & ~below) | ((uint64_t)digit << (6 * level));
	if (level > 0)
		wheel->cascade = level * L1_WHEEL_SLOTS + digit;
	return level * L1_WHEEL_SLOTS + digit;
}

static void
queue_move(struct far_l1 *l1, uint32_t idx, uint64_t tick)
{
	lru_remove(l1, idx);
	lru_add(l1, idx, tick);
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

static uint32_t
lru_claim(struct far_l1 *l1)
{
	struct l1_wheel *wheel = &l1->queue.wheel;
	uint64_t now = atomic_fetch_add_explicit(&l1->ticks.last, 1, memory_order_relaxed);
	uint64_t moves_end = (uint64_t)l1->queue.count * 2 + QUEUE_MOVES_MAX;
	uint64_t oldest_tick = UINT64_MAX;
	uint32_t oldest = L1_NIL;

	for (uint64_t moves = 0; l1->queue.count > 0 && moves < moves_end; moves++) {
		uint32_t slot, idx;
		struct l1_block *block;
		uint64_t tick;

		if (moves >= QUEUE_MOVES_MAX && oldest != L1_NIL) {
			if (far_l1_block_claim(l1, oldest))
				return oldest;
			oldest = L1_NIL;
			oldest_tick = UINT64_MAX;
		}
		slot = slot_oldest(wheel);
		idx = wheel->heads[slot];
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

static void
lru_unclaim(struct far_l1 *l1, uint32_t idx)
{
	lru_add(l1, idx, l1->blocks[idx].queued);
}

static void
lru_evicted(struct far_l1 *l1, uint32_t idx)
{
	(void)l1; /* what is gone is forgotten */
	(void)idx;
}

/* By the tick of its last use, between the oldest in the order and now. */
static uint32_t
lru_worth(const struct far_l1 *l1, uint32_t idx)
{
	uint64_t last = l1->queue.wheel.last;
	uint64_t used = atomic_load_explicit(&l1->blocks[idx].touched, memory_order_relaxed);
	uint64_t now = atomic_load_explicit(&l1->ticks.last, memory_order_relaxed);
	uint64_t span = now - last;
	uint64_t young = used > last ? used - last : 0;

	if (young > span)
		young = span;
	return span > 0 ? (uint32_t)(48.0 * (double)young / (double)span) : 0;
}

static void
lru_check(const struct far_l1 *l1)
{
	const struct l1_wheel *wheel = &l1->queue.wheel;
	uint64_t count = 0;

	for (uint32_t slot = 0; slot < L1_WHEEL_LEVELS * L1_WHEEL_SLOTS; slot++) {
		uint32_t prev = L1_QUEUE_HEAD | slot;
		uint64_t bit = wheel->maps[slot / L1_WHEEL_SLOTS] >> (slot % L1_WHEEL_SLOTS) & 1;

		FAR_ASSERT((bit != 0) == (wheel->heads[slot] != L1_NIL));
		for (uint32_t idx = wheel->heads[slot]; idx != L1_NIL;
		     idx = l1->blocks[idx].queue_next) {
			const struct l1_block *block = &l1->blocks[idx];

			FAR_ASSERT(block->queue_prev == prev);
			FAR_ASSERT(block->queued >= wheel->last);
			if (slot != wheel->cascade)
				FAR_ASSERT(slot_of(wheel, block->queued) == slot);
			prev = idx;
			count++;
			FAR_ASSERT(count <= l1->queue.count);
		}
	}
	FAR_ASSERT(count == l1->queue.count);
}

const struct l1_evict_ops far_l1_evict_lru = {
	.name = "lru",
	.counts_uses = false,
	.init = lru_init,
	.fini = lru_fini,
	.add = lru_add,
	.remove = lru_remove,
	.claim = lru_claim,
	.unclaim = lru_unclaim,
	.evicted = lru_evicted,
	.worth = lru_worth,
	.check = lru_check,
};
