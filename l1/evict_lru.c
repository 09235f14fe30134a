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
 * slot has several lists, walked in turns, so that their misses overlap. On level 0, where most ticks have
 * one block, the records of all that a call asks for are asked for first.
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

static inline bool
slot_is_empty(const struct l1_wheel *wheel, uint32_t slot)
{
	uint32_t any = wheel->heads[list_of(slot, 0)];

	for (uint32_t way = 1; slot >= L1_WHEEL_SLOTS && way < L1_WHEEL_WAYS; way++)
		any |= wheel->heads[list_of(slot, way)];
	return any == L1_NIL;
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

/* True: it is the only one. */
static inline bool
list_push(struct far_l1 *l1, uint32_t list, uint32_t idx)
{
	uint32_t *head = &l1->queue.wheel.heads[list];
	struct l1_block *block = &l1->blocks[idx];
	uint32_t next = *head;

	block->queue_prev = L1_QUEUE_HEAD | list;
	block->queue_next = next;
	*head = idx;
	if (next != L1_NIL)
		l1->blocks[next].queue_prev = idx;
	return next == L1_NIL;
}

/* It is in no list. In place where many are filed. */
static inline __attribute__((always_inline)) void
lru_file(struct far_l1 *l1, uint32_t idx, uint64_t tick)
{
	struct l1_wheel *wheel = &l1->queue.wheel;
	uint32_t slot;

	if (tick < wheel->last)
		tick = wheel->last;
	l1->blocks[idx].queued = tick;
	slot = slot_of(wheel, tick);
	if (slot >= L1_WHEEL_SLOTS) {
		if (list_push(l1, list_of(slot, wheel->add_way++), idx))
			slot_mark(wheel, slot);
	} else if (list_push(l1, slot, idx)) {
		slot_mark(wheel, slot);
	}
}

static __attribute__((noinline)) void
file_one(struct far_l1 *l1, uint32_t idx, uint64_t tick)
{
	lru_file(l1, idx, tick);
}

/* A slot above level 0 that was marked just now, and a tick, not before the wheel's last one, that is filed in it. */
struct lru_run {
	uint32_t list; /* the first of its lists */
	uint32_t
		shift; /* ticks that are the same above this are filed there as well; 0: there is none */
	uint64_t tick;
};

static struct lru_run
run_of(const struct l1_wheel *wheel, uint64_t tick)
{
	uint32_t slot = slot_of(wheel, tick);

	FAR_DASSERT(tick >= wheel->last);

	return (struct lru_run){
		.list = list_of(slot, 0),
		.shift = slot / L1_WHEEL_SLOTS * L1_WHEEL_BITS,
		.tick = tick,
	};
}

/* The ticks of one call follow each other, and mostly there are many between the oldest block and now: all go to one
 * slot, which is found once. */
static void
lru_add(struct far_l1 *l1, const uint32_t *idxs, uint32_t count)
{
	struct l1_wheel *wheel = &l1->queue.wheel;
	struct lru_run run = {0};

	for (uint32_t i = 0; i < count; i++) {
		struct l1_block *block = &l1->blocks[idxs[i]];
		uint64_t tick = atomic_load_explicit(&block->touched, memory_order_relaxed);

		if (run.shift > 0 && (tick ^ run.tick) >> run.shift == 0) {
			block->queued = tick;
			(void)list_push(l1, run.list + wheel->add_way++ % L1_WHEEL_WAYS, idxs[i]);
		} else {
			file_one(l1, idxs[i], tick);
			/* Not of its tick: others may have been past it when this call got the lock. */
			run = run_of(wheel, block->queued);
		}
	}
	l1->queue.count += count;
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
		if (next == L1_NIL && slot_is_empty(wheel, slot_of_list(list)))
			slot_unmark(wheel, slot_of_list(list));
	} else {
		l1->blocks[prev].queue_next = next;
	}
	block->queue_prev = L1_NIL;
	block->queue_next = L1_NIL;
}

/* The slot with the oldest blocks, where level 0 has none. It has to be filed anew before any of its blocks
 * is known to be the oldest: last moves to its beginning, and it stays the one until it is empty. */
static uint32_t
slot_above(const struct far_l1 *l1, struct l1_wheel *wheel)
{
	uint32_t level = 1;
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
	wheel->cascade = level * L1_WHEEL_SLOTS + digit;
	for (uint32_t way = 0; way < L1_WHEEL_WAYS; way++)
		__builtin_prefetch(&l1->blocks[wheel->heads[list_of(wheel->cascade, way)]], 1);
	return wheel->cascade;
}

/* The search for one victim. */
struct lru_walk {
	uint64_t moves;
	uint64_t moves_end;
	uint64_t now; /* a tick is taken when one is needed */
	uint64_t oldest_tick;
	uint32_t oldest; /* seen so far, and nobody held it; L1_NIL: none */
};

static inline bool
walk_goes_on(const struct lru_walk *walk)
{
	return walk->moves < QUEUE_MOVES_MAX ||
	       (walk->moves < walk->moves_end && walk->oldest == L1_NIL);
}

/* The tick that a block is to be filed under: of its last use, or the present, as somebody holds it. */
static inline uint64_t
walk_look(struct far_l1 *l1, struct lru_walk *walk, uint32_t idx)
{
	struct l1_block *block = &l1->blocks[idx];
	uint64_t tick = atomic_load_explicit(&block->touched, memory_order_relaxed);

	walk->moves++;
	if (!word_evictable(atomic_load_explicit(&block->word, memory_order_relaxed))) {
		if (walk->now == 0)
			walk->now = ticks_take(l1, 0);
		return walk->now;
	}
	if (tick < block->queued)
		tick = block->queued;
	if (tick < walk->oldest_tick) {
		walk->oldest_tick = tick;
		walk->oldest = idx;
	}
	return tick;
}

/* Files the blocks of a slot above level 0 anew, of its lists in turns, until it is empty or the walk ends. What
 * is behind the first of a list is in order all the time; the first ones are put in order at the end. */
static __attribute__((noinline)) void
slot_cascade(struct far_l1 *l1, uint32_t slot, struct lru_walk *walk_io)
{
	struct l1_wheel *wheel = &l1->queue.wheel;
	struct lru_walk walk = *walk_io;
	uint32_t first = list_of(slot, 0);
	uint32_t *heads = &wheel->heads[first];
	uint32_t empty = 0; /* lists in a row */

	for (uint32_t way = 0; empty < L1_WHEEL_WAYS && walk_goes_on(&walk); way++) {
		uint32_t *head = &heads[way % L1_WHEEL_WAYS];
		uint32_t idx = *head;

		empty++;
		if (idx == L1_NIL)
			continue;
		empty = 0;
		*head = l1->blocks[idx].queue_next;
		__builtin_prefetch(&l1->blocks[*head], 1);
		lru_file(l1, idx, walk_look(l1, &walk, idx));
	}
	for (uint32_t way = 0; way < L1_WHEEL_WAYS; way++) {
		if (heads[way] != L1_NIL)
			l1->blocks[heads[way]].queue_prev = L1_QUEUE_HEAD | (first + way);
	}
	if (slot_is_empty(wheel, slot))
		slot_unmark(wheel, slot);
	*walk_io = walk;
}

/* The oldest that was seen, after so many moves; L1_NIL: the walk goes on, or has come to its end. */
static uint32_t
walk_settle(struct far_l1 *l1, struct lru_walk *walk)
{
	uint32_t idx = walk->oldest;

	walk->oldest = L1_NIL;
	walk->oldest_tick = UINT64_MAX;
	return idx != L1_NIL && far_l1_block_claim(l1, idx) ? idx : L1_NIL;
}

/* The oldest slot of level 0. */
static inline uint32_t
slot_next(const struct l1_wheel *wheel)
{
	uint32_t word = (uint32_t)__builtin_ctzll(wheel->words[0]);

	return word * 64 + (uint32_t)__builtin_ctzll(wheel->maps[0][word]);
}

static __attribute__((noinline)) uint32_t
claim_one(struct far_l1 *l1)
{
	struct l1_wheel *wheel = &l1->queue.wheel;
	struct lru_walk walk = {
		.moves_end = (uint64_t)l1->queue.count * 2 + QUEUE_MOVES_MAX,
		.oldest_tick = UINT64_MAX,
	};

	while (l1->queue.count > 0) {
		uint32_t slot, idx;
		uint64_t tick;

		if (!walk_goes_on(&walk)) {
			idx = walk_settle(l1, &walk);
			if (idx != L1_NIL || walk.moves >= walk.moves_end)
				return idx;
		}
		if (wheel->words[0] == 0 || wheel->cascade != CASCADE_NONE) {
			slot_cascade(l1, slot_above(l1, wheel), &walk);
			continue;
		}
		slot = slot_next(wheel);
		idx = wheel->heads[slot];
		tick = walk_look(l1, &walk, idx);
		if (tick > l1->blocks[idx].queued) {
			lru_remove(l1, idx);
			file_one(l1, idx, tick);
		} else if (block_claim(&l1->blocks[idx])) {
			wheel->last = tick;
			lru_remove(l1, idx);
			l1->queue.count--;
			return idx;
		}
	}
	return L1_NIL;
}

/* Asks for the records of the next few on level 0: nobody has read them since they came down to it. */
static void
records_ask(const struct far_l1 *l1, uint32_t count)
{
	const struct l1_wheel *wheel = &l1->queue.wheel;

	for (uint64_t words = wheel->words[0]; words != 0 && count > 0; words &= words - 1) {
		uint32_t word = (uint32_t)__builtin_ctzll(words);

		for (uint64_t map = wheel->maps[0][word]; map != 0 && count > 0; map &= map - 1) {
			uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(map);

			__builtin_prefetch(&l1->blocks[wheel->heads[slot]], 1);
			count--;
		}
	}
}

/* Claims what is due on level 0, as far as it was not used since and nobody holds it: that is most of it. */
static uint32_t
claim_due(struct far_l1 *l1, uint32_t *idxs_out, uint32_t max)
{
	struct l1_wheel *wheel = &l1->queue.wheel;
	uint32_t count = 0;

	if (wheel->cascade != CASCADE_NONE)
		return 0;
	while (count < max && wheel->words[0] != 0) {
		uint32_t slot = slot_next(wheel);
		uint32_t idx = wheel->heads[slot];
		struct l1_block *block = &l1->blocks[idx];
		uint32_t next = block->queue_next;
		uint64_t queued = block->queued;

		if (atomic_load_explicit(&block->touched, memory_order_relaxed) > queued ||
		    !block_claim(block))
			break;
		wheel->last = queued;
		wheel->heads[slot] = next;
		if (next != L1_NIL)
			l1->blocks[next].queue_prev = L1_QUEUE_HEAD | slot;
		else
			slot_unmark(wheel, slot);
		block->queue_prev = L1_NIL;
		block->queue_next = L1_NIL;
		idxs_out[count++] = idx;
	}
	l1->queue.count -= count;
	return count;
}

static uint32_t
lru_claim(struct far_l1 *l1, uint32_t *idxs_out, uint32_t max)
{
	uint32_t count = 0;

	if (max > 1)
		records_ask(l1, max);
	while (count < max) {
		uint32_t idx;

		count += claim_due(l1, idxs_out + count, max - count);
		if (count == max)
			break;
		idx = claim_one(l1);
		if (idx == L1_NIL)
			break;
		idxs_out[count++] = idx;
	}
	return count;
}

static void
lru_unclaim(struct far_l1 *l1, uint32_t idx)
{
	file_one(l1, idx, l1->blocks[idx].queued);
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
