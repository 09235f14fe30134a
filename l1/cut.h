/* cut.h - cutting blocks off the arena's open extent: once for each block where there is room, inlined for
 * that. arena.c has the why. */
#ifndef FAR_L1_CUT_H
#define FAR_L1_CUT_H

#include "l1/l1_priv.h"

static inline uint32_t
arena_record_take(struct l1_arena *arena)
{
	uint32_t idx = arena->extent_free;

	if (idx != L1_NIL) {
		arena->extent_free = arena->extents[idx].next;
		return idx;
	}
	/* Free ones never touch, so there are at most as many as blocks, and one. */
	FAR_ASSERT(arena->extent_fresh < arena->extent_end);
	return arena->extent_fresh++;
}

/* Gives a block the beginning of a free one that is in no trie: its rest is open then. */
static inline uint32_t
arena_cut(struct l1_arena *arena, uint32_t idx, uint32_t unit_count, uint32_t block)
{
	struct l1_extent *e = &arena->extents[idx];

	arena->open = L1_NIL;
	if (e->unit_count > unit_count) {
		uint32_t rest = arena_record_take(arena);
		struct l1_extent *r = &arena->extents[rest];

		r->unit = e->unit + unit_count;
		r->unit_count = e->unit_count - unit_count;
		r->block = L1_NIL;
		r->prev = idx;
		r->next = e->next;
		if (e->next != L1_NIL)
			arena->extents[e->next].prev = rest;
		e->next = rest;
		e->unit_count = unit_count;
		arena->open = rest;
		arena->open_for = unit_count;
	}
	e->block = block;
	arena->free_units -= unit_count;
	return idx;
}

/* The next one of the length that was cut off last; L1_NIL: far_l1_arena_take() has to look. */
static inline uint32_t
arena_take_open(struct l1_arena *arena, uint32_t unit_count, uint32_t block)
{
	uint32_t open = arena->open;

	if (open == L1_NIL || unit_count != arena->open_for ||
	    unit_count > arena->extents[open].unit_count)
		return L1_NIL;
	return arena_cut(arena, open, unit_count, block);
}

#endif
