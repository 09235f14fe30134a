/* evict_lru.c - the policy LRU: least recently used first, exact, paid for by the evictor. */
#include "l1/l1_priv.h"

/*
 * Using a block stores one number, the tick of its use, into a line that the user owns anyway.
 * Only an evictor looks for the smallest. Blocks are filed in a wheel of lists by the tick they
 * had when they were filed (slots on levels, as timer wheels have them, relative to wheel.last,
 * the oldest tick that anything is filed under). The evictor takes the oldest slot; a block used
 * since is filed again under its new tick, a locked one under the present, since its unlocking
 * will be a use. So no block is ever lost from the order, and none is visited twice for one
 * victim.
 *
 * Each level that a block comes down is a walk along a list through records that may be in no
 * cache. Levels are wide for that: among the last 16 million ticks a block comes down once. And a
 * slot has several lists, walked in turns, so that their misses overlap.
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

static inline uint32_t
slot_of(const struct l1_wheel *wheel, uint64_t tick)
{
	uint64_t diff = tick ^ wheel->last;
	uint32_t level;

	if (diff < L1_WHEEL_SLOTS)
		return (uint32_t)(tick & (L1_WHEEL_SLOTS - 1));
	level = (63u - (uint32_t)__builtin_clzll(diff)) / L1_WHEEL_BITS;
	return level * L1_WHEEL_SLOTS +
	       (uint32_t)((tick >> (L1_WHEEL_BITS * level)) & (L1_WHEEL_SLOTS - 1));
}

static inline uint32_t
list_of(uint32_t slot, uint32_t way)
{
	if (slot < L1_WHEEL_SLOTS)
		return slot;
	return L1_WHEEL_SLOTS + (slot - L1_WHEEL_SLOTS) * L1_WHEEL_WAYS + way % L1_WHEEL_WAYS;
}

static inline uint32_t
slot_of_list(uint32_t list)
{
	if (list < L1_WHEEL_SLOTS)
		return list;
	return L1_WHEEL_SLOTS + (list - L1_WHEEL_SLOTS) / L1_WHEEL_WAYS;
}

/* A block of the slot, of its lists in turns; L1_NIL: it is empty. */
static inline uint32_t
slot_first(struct l1_wheel *wheel, uint32_t slot)
{
	uint32_t idx = L1_NIL;

	if (slot < L1_WHEEL_SLOTS)
		return wheel->heads[slot];
	for (uint32_t i = 0; i < L1_WHEEL_WAYS && idx == L1_NIL; i++)
		idx = wheel->heads[list_of(slot, wheel->walk_way++)];
	return idx;
}

static inline void
slot_mark(struct l1_wheel *wheel, uint32_t slot)
{
	uint32_t level = slot / L1_WHEEL_SLOTS;
	uint32_t word = slot % L1_WHEEL_SLOTS / 64;

	wheel->maps[level][word] |= 1ull << (slot % 64);
	wheel->words[level] |= 1ull << word;
}

static inline void
slot_unmark(struct l1_wheel *wheel, uint32_t slot)
{
	uint32_t level = slot / L1_WHEEL_SLOTS;
	uint32_t word = slot % L1_WHEEL_SLOTS / 64;

	wheel->maps[level][word] &= ~(1ull << (slot % 64));
	if (wheel->maps[level][word] == 0)
		wheel->words[level] &= ~(1ull << word);
	if (wheel->cascade == slot)
		wheel->cascade = CASCADE_NONE;
}

static inline void
lru_add(struct far_l1 *l1, uint32_t idx, uint64_t tick)
{
	struct l1_wheel *wheel = &l1->queue.wheel;
	struct l1_block *block = &l1->blocks[idx];
	uint32_t slot, list;

	block->queued = tick > wheel->last ? tick : wheel->last;
	slot = slot_of(wheel, block->queued);
	list = list_of(slot, wheel->add_way++);
	block->queue_prev = L1_QUEUE_HEAD | list;
	block->queue_next = wheel->heads[list];
	wheel->heads[list] = idx;
	if (block->queue_next != L1_NIL)
		l1->blocks[block->queue_next].queue_prev = idx;
	else
		slot_mark(wheel, slot);
}

static inline void
lru_remove(struct far_l1 *l1, uint32_t idx)
{
	struct l1_wheel *wheel = &l1->queue.wheel;
	struct l1_block *block = &l1->blocks[idx];
	uint32_t prev = block->queue_prev;
	uint32_t next = block->queue_next;
	uint32_t list;

	if (next != L1_NIL)
		l1->blocks[next].queue_prev = prev;
	if (prev & L1_QUEUE_HEAD) {
		list = prev & ~L1_QUEUE_HEAD;
		wheel->heads[list] = next;
		if (next == L1_NIL && slot_first(wheel, slot_of_list(list)) == L1_NIL)
			slot_unmark(wheel, slot_of_list(list));
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
slot_oldest(const struct far_l1 *l1, struct l1_wheel *wheel)
{
	uint32_t level = 0;
	uint32_t word, digit, shift;
	uint64_t below;

	if (wheel->cascade != CASCADE_NONE)
		return wheel->cascade;
	while (wheel->words[level] == 0)
		level++;
	FAR_ASSERT(level < L1_WHEEL_LEVELS);
	word = (uint32_t)__builtin_ctzll(wheel->words[level]);
	digit = word * 64 + (uint32_t)__builtin_ctzll(wheel->maps[level][word]);
	shift = L1_WHEEL_BITS * level;
	below = level + 1 == L1_WHEEL_LEVELS ? UINT64_MAX : (1ull << (shift + L1_WHEEL_BITS)) - 1;
	wheel->last = (wheel->last & ~below) | ((uint64_t)digit << shift);
	if (level == 0)
		return digit;
	wheel->cascade = level * L1_WHEEL_SLOTS + digit;
	for (uint32_t way = 0; way < L1_WHEEL_WAYS; way++)
		__builtin_prefetch(&l1->blocks[wheel->heads[list_of(wheel->cascade, way)]], 1);
	return wheel->cascade;
}

static inline void
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
	uint64_t now = 0; /* a tick is taken when one is needed */
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
		slot = slot_oldest(l1, wheel);
		idx = slot_first(wheel, slot);
		block = &l1->blocks[idx];
		tick = atomic_load_explicit(&block->touched, memory_order_relaxed);
		if (block->queue_next != L1_NIL)
			__builtin_prefetch(&l1->blocks[block->queue_next], 1);
		if (!word_evictable(atomic_load_explicit(&block->word, memory_order_relaxed))) {
			if (now == 0)
				now = ticks_take(l1, 0);
			queue_move(l1, idx, now);
			continue;
		}
		if (tick < block->queued)
			tick = block->queued;
		if (tick < oldest_tick) {
			oldest_tick = tick;
			oldest = idx;
		}
		if (slot >= L1_WHEEL_SLOTS || tick > block->queued) {
			queue_refile(l1, idx, tick);
		} else if (block_claim(block)) {
			lru_remove(l1, idx);
			l1->queue.count--;
			return idx;
		}
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

/* Returns how many blocks the list has. */
static uint64_t
list_check(const struct far_l1 *l1, uint32_t list)
{
	const struct l1_wheel *wheel = &l1->queue.wheel;
	uint32_t prev = L1_QUEUE_HEAD | list;
	uint64_t count = 0;

	for (uint32_t idx = wheel->heads[list]; idx != L1_NIL; idx = l1->blocks[idx].queue_next) {
		const struct l1_block *block = &l1->blocks[idx];

		FAR_ASSERT(block->queue_prev == prev);
		FAR_ASSERT(block->queued >= wheel->last);
		if (slot_of_list(list) != wheel->cascade)
			FAR_ASSERT(slot_of(wheel, block->queued) == slot_of_list(list));
		prev = idx;
		count++;
		FAR_ASSERT(count <= l1->queue.count);
	}
	return count;
}

/* A block in a slot that is not marked would be missing in the sum. */
static void
lru_check(const struct far_l1 *l1)
{
	const struct l1_wheel *wheel = &l1->queue.wheel;
	uint64_t count = 0;

	for (uint32_t slot = 0; slot < L1_WHEEL_LEVELS * L1_WHEEL_SLOTS; slot++) {
		uint32_t level = slot / L1_WHEEL_SLOTS;
		uint32_t word = slot % L1_WHEEL_SLOTS / 64;
		uint64_t map = wheel->maps[level][word];
		uint32_t ways = level == 0 ? 1 : L1_WHEEL_WAYS;
		uint64_t before = count;

		FAR_ASSERT((wheel->words[level] >> word & 1) == (map != 0));
		if ((map >> (slot % 64) & 1) == 0)
			continue;
		for (uint32_t way = 0; way < ways; way++)
			count += list_check(l1, list_of(slot, way));
		FAR_ASSERT(count > before);
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
