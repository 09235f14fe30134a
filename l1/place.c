/* place.c - memory for one key: which blocks have to go for it, decided before the first one goes. */
#include "l1/grant.h"

/*
 * Victims are claimed, a step that can be undone, in the order of the policy, until a run of free and
 * claimed extents is long enough; what does not lie in that run is let go again. With blocks of one
 * size the first victim is enough, and its extent changes hands as it is: then the victims of all keys of
 * a call are claimed together, and those that are not needed after all are let go again. Where small blocks lie
 * scattered, a run of the oldest would cost nearly all: so when more than one victim is needed, runs
 * around the oldest and around the longest free extent are looked at as well, and the cheapest is
 * taken, a block that the policy would keep counting for more. When locked blocks stand in all of
 * those, it is the best run of the whole arena. So a key is refused only if no run without a locked
 * block is long enough, and nothing is evicted that is not needed for a key that is granted.
 *
 * A refusal has looked at all blocks. It holds for as long as no lock ended, since nothing else lets a
 * run without locked blocks grow: until then it is repeated without a look.
 */
#define SEEDS_MAX 8u  /* oldest victims whose surroundings are looked at */
#define TRIES_MAX 16u /* a reader may lock a block of the run before it is claimed: look again */

struct plan {
	uint32_t head; /* claimed blocks, oldest first, through queue_next */
	uint32_t tail;
	uint64_t units;
};

/* Extents that can become one free run, by address. */
struct window {
	uint32_t unit_first;
	uint32_t unit_end;
	int64_t cost; /* INT64_MAX: none found */
};

static void
plan_add(struct far_l1 *l1, struct plan *plan, uint32_t idx)
{
	l1->blocks[idx].queue_next = L1_NIL;
	if (plan->head == L1_NIL)
		plan->head = idx;
	else
		l1->blocks[plan->tail].queue_next = idx;
	plan->tail = idx;
	plan->units += l1->arena.extents[l1->blocks[idx].extent].unit_count;
}

/* What it costs to have this extent free, -1: impossible. */
static int64_t
extent_cost(const struct far_l1 *l1, uint32_t idx, bool claimed_only)
{
	const struct l1_extent *e = &l1->arena.extents[idx];
	uint64_t word;

	if (e->block == L1_NIL)
		return 0;
	if (e->block == L1_TAKEN)
		return -1;
	word = atomic_load_explicit(&l1->blocks[e->block].word, memory_order_relaxed);
	if (word_state(word) == WORD_CLAIMED)
		return 16 * (int64_t)e->unit_count;
	if (claimed_only || !word_evictable(word))
		return -1;
	/* A unit costs 16 if its block is the next to go, four times that if it would be the last. */
	return (int64_t)(16 + far_l1_queue_worth(l1, e->block)) * e->unit_count;
}

/* Slides over @reach_units from the extent @lo on; keeps the cheapest run of @units in @best. */
static void
window_slide(const struct far_l1 *l1, uint32_t lo, uint64_t reach_units, uint32_t units,
	     bool claimed_only, struct window *best)
{
	const struct l1_extent *extents = l1->arena.extents;
	uint64_t seen = 0, sum = 0;
	int64_t cost = 0;

	for (uint32_t hi = lo; hi != L1_NIL && seen < reach_units; hi = extents[hi].next) {
		int64_t step = extent_cost(l1, hi, claimed_only);

		seen += extents[hi].unit_count;
		if (step < 0) {
			lo = extents[hi].next;
			sum = 0;
			cost = 0;
			continue;
		}
		sum += extents[hi].unit_count;
		cost += step;
		while (sum - extents[lo].unit_count >= units) {
			int64_t off = extent_cost(l1, lo, claimed_only);

			sum -= extents[lo].unit_count;
			cost -= off > 0 ? off : 0;
			lo = extents[lo].next;
		}
		if (sum >= units && cost < best->cost) {
			best->unit_first = extents[lo].unit;
			best->unit_end = extents[hi].unit + extents[hi].unit_count;
			best->cost = cost;
		}
	}
}

/* The cheapest run through the extent @seed. */
static void
window_around(const struct far_l1 *l1, uint32_t seed, uint32_t units, bool claimed_only,
	      struct window *best)
{
	const struct l1_extent *extents = l1->arena.extents;
	uint32_t lo = seed;
	uint64_t left = 0;

	while (left < units && extents[lo].prev != L1_NIL &&
	       extent_cost(l1, extents[lo].prev, claimed_only) >= 0) {
		lo = extents[lo].prev;
		left += extents[lo].unit_count;
	}
	window_slide(l1, lo, left + extents[seed].unit_count + units, units, claimed_only, best);
}

/* Improves on @best, which may be none yet. */
static void
window_find(struct far_l1 *l1, const struct plan *plan, uint32_t units, struct window *best)
{
	uint32_t seeds = 0;
	uint32_t longest = far_l1_arena_longest(&l1->arena);

	if (longest != L1_NIL)
		window_around(l1, longest, units, false, best);
	for (uint32_t idx = plan->head; idx != L1_NIL && seeds < SEEDS_MAX;
	     idx = l1->blocks[idx].queue_next, seeds++)
		window_around(l1, l1->blocks[idx].extent, units, false, best);
	if (best->cost == INT64_MAX)
		window_slide(l1, l1->arena.first, l1->arena.unit_count, units, false, best);
}

/* Claims what in the window is not claimed yet; false: somebody was quicker. */
static bool
window_claim(struct far_l1 *l1, struct plan *plan, const struct window *window)
{
	const struct l1_extent *extents = l1->arena.extents;
	uint32_t at = l1->blocks[plan->head].extent;

	while (extents[at].unit > window->unit_first)
		at = extents[at].prev;
	while (extents[at].unit < window->unit_first)
		at = extents[at].next;
	for (; at != L1_NIL && extents[at].unit < window->unit_end; at = extents[at].next) {
		uint32_t idx = extents[at].block;
		uint64_t word;

		if (idx == L1_NIL)
			continue;
		word = atomic_load_explicit(&l1->blocks[idx].word, memory_order_relaxed);
		if (word_state(word) == WORD_CLAIMED)
			continue;
		if (!far_l1_block_claim(l1, idx))
			return false;
		plan_add(l1, plan, idx);
	}
	return true;
}

/* Evicts the claimed blocks inside of the window, lets the others go: the last claimed first, so that the
 * first one is the next to go again. */
static void
plan_finish(struct far_l1 *l1, const struct plan *plan, const struct window *window,
	    struct l1_dead *dead)
{
	uint32_t last = L1_NIL;
	uint32_t next;

	for (uint32_t idx = plan->head; idx != L1_NIL; idx = next) {
		next = l1->blocks[idx].queue_next;
		l1->blocks[idx].queue_next = last;
		last = idx;
	}
	for (uint32_t idx = last; idx != L1_NIL; idx = next) {
		struct l1_block *block = &l1->blocks[idx];

		next = block->queue_next;
		if (block->unit >= window->unit_first && block->unit < window->unit_end)
			far_l1_block_evict(l1, idx, dead);
		else
			far_l1_block_unclaim(l1, idx);
	}
}

/* Claims victims from @idx on until a run of claimed and free extents will do, or their bytes would. */
static void
plan_oldest(struct far_l1 *l1, uint32_t idx, struct plan *plan, uint32_t units,
	    struct window *window)
{
	while (idx != L1_NIL) {
		plan_add(l1, plan, idx);
		window_around(l1, l1->blocks[idx].extent, units, true, window);
		if (plan->units >= units || window->cost != INT64_MAX)
			return;
		idx = far_l1_queue_claim(l1);
	}
}

/* The first victim is as long as what is asked for, or longer. */
static uint32_t
place_instead(struct far_l1 *l1, uint32_t idx, uint32_t units, struct l1_dead *dead)
{
	struct l1_block *block = &l1->blocks[idx];
	uint32_t extent = block->extent;

	if (l1->arena.extents[extent].unit_count == units) {
		l1->arena.extents[extent].block = L1_TAKEN;
		block->extent = L1_NIL;
		far_l1_block_evict(l1, idx, dead);
		return extent;
	}
	far_l1_block_evict(l1, idx, dead);
	extent = far_l1_arena_take(&l1->arena, units, L1_TAKEN);
	FAR_ASSERT(extent != L1_NIL);
	return extent;
}

/* How many locks have ended, in batches. A lock that ended just now may be counted a moment later, but
 * before the call that ended it returns. */
static uint64_t
opened_count(const struct far_l1 *l1)
{
	uint64_t sum = l1->unpinned;

	for (uint32_t i = 0; i < l1->stripe_count; i++)
		sum += atomic_load_explicit(&l1->stripes[i].opened, memory_order_relaxed);
	return sum;
}

static void
sums_take(struct far_l1 *l1)
{
	l1->summed = 1;
	l1->sum_opened = opened_count(l1);
	l1->sum_locked_bytes = far_l1_locked_bytes(l1);
}

/* Known without a look at any block: more is locked than that, or it was refused and no lock ended.
 * The sums are as they were when this writer first needed them: before anything was looked at. */
static bool
is_refused(struct far_l1 *l1, uint32_t units)
{
	int64_t locked_units;

	if (!l1->summed)
		sums_take(l1);
	locked_units = (l1->sum_locked_bytes + (int64_t)l1->lending_bytes) >> l1->align_shift;
	if ((int64_t)units > (int64_t)l1->arena.unit_count - locked_units)
		return true;
	return l1->refused_units != 0 && units >= l1->refused_units &&
	       l1->sum_opened == l1->refused_opened;
}

static void
refusal_keep(struct far_l1 *l1, uint32_t units)
{
	if (l1->refused_units == 0 || l1->refused_opened != l1->sum_opened ||
	    units < l1->refused_units)
		l1->refused_units = units;
	l1->refused_opened = l1->sum_opened;
}

/* The first victim, @idx, is shorter than what is asked for. Not where most keys pass: its frame is
 * large. */
static __attribute__((noinline)) uint32_t
place_run(struct far_l1 *l1, uint32_t idx, uint32_t units, struct l1_dead *dead)
{
	struct plan plan = {.head = L1_NIL, .tail = L1_NIL};
	struct window window = {.cost = INT64_MAX};
	uint32_t extent;
	bool found;

	plan_oldest(l1, idx, &plan, units, &window);
	found = window.cost != INT64_MAX && plan.head == plan.tail;
	for (uint32_t tries = 0; !found && tries < TRIES_MAX; tries++) {
		window_find(l1, &plan, units, &window);
		if (window.cost == INT64_MAX) {
			refusal_keep(l1, units);
			break;
		}
		found = window_claim(l1, &plan, &window);
		if (!found)
			window.cost = INT64_MAX;
	}
	if (!found)
		window = (struct window){0}; /* nothing lies in it */
	plan_finish(l1, &plan, &window, dead);
	if (!found)
		return L1_NIL;
	extent = far_l1_arena_take(&l1->arena, units, L1_TAKEN);
	FAR_ASSERT(extent != L1_NIL);
	return extent;
}

/* The next one to go, of those that are claimed already or from now on; L1_NIL: none can. Only where one was
 * as long as what was asked for are others claimed with the next one. */
static uint32_t
victim_take(struct far_l1 *l1, struct l1_places *places)
{
	uint32_t idx = far_l1_victims_take(places->victims);

	if (idx != L1_NIL)
		return idx;
	return far_l1_victims_claim(l1, places->victims, places->alike ? places->wanted : 1);
}

/* Evicts @idx, and for a longer run what else has to go. */
static uint32_t
extent_make(struct far_l1 *l1, struct l1_places *places, uint32_t idx, uint32_t units)
{
	if (l1->arena.extents[l1->blocks[idx].extent].unit_count >= units)
		return place_instead(l1, idx, units, &places->dead);
	/* A plan claims on its own, and takes all claimed ones that it meets for its own. */
	far_l1_victims_return(l1, places->victims);
	return place_run(l1, idx, units, &places->dead);
}

/* One block goes so that its record can be used; false: none can. */
static bool
record_make(struct far_l1 *l1, struct l1_places *places)
{
	bool spare = l1->block_free != L1_NIL || l1->block_fresh < l1->block_end;
	uint32_t idx = L1_NIL;

	/* Where somebody wants to be told, a victim keeps its own record for a while. */
	if (l1->config.policy != FAR_L1_NONE && (spare || !l1->told_deleted))
		idx = victim_take(l1, places);
	if (idx == L1_NIL)
		return false;
	far_l1_block_evict(l1, idx, &places->dead);
	return true;
}

uint32_t
far_l1_place(struct far_l1 *l1, struct l1_places *places, const struct l1_entry *entry,
	     uint32_t units)
{
	uint32_t extent = L1_NIL;

	if (units <= l1->arena.free_units)
		extent = far_l1_arena_take(&l1->arena, units, L1_TAKEN);
	if (extent == L1_NIL) {
		uint32_t idx = L1_NIL;

		if (l1->config.policy != FAR_L1_NONE &&
		    (places->victims->next < places->victims->count || !is_refused(l1, units)))
			idx = victim_take(l1, places);
		if (idx == L1_NIL)
			return L1_NIL;
		places->alike = block_units_of(l1, idx) == units;
		if (places->alike && !l1->told_deleted)
			return place_in_place_of(l1, places, places->victims->next - 1, entry);
		extent = extent_make(l1, places, idx, units);
		if (extent == L1_NIL)
			return L1_NIL;
	}
	if (!far_l1_table_has_room(l1) && !record_make(l1, places)) {
		far_l1_arena_give(&l1->arena, extent);
		return L1_NIL;
	}
	return table_add(l1, entry, extent);
}
