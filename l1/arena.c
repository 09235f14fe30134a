/* arena.c - which part of the arena is whose: best fit over extents whose records lie outside of it. */
#include "l1/grant.h"

/*
 * The arena itself is never read or written here: it may be GPU memory. Extents tile it in address
 * order; a free one never has a free neighbour. Free extents hang in 32 tries, one per power of two,
 * by the bits of their length; extents of one length hang in a ring on the one that is in the trie.
 * Taking and giving back cost at most 32 steps each, whatever the sizes.
 *
 * The rest of an extent that a block was cut off from stays open: in no trie, so that the next one of that
 * length is cut off it without a way in and out. The extent was the shortest that was long enough, and so
 * is its rest, as long as it is long enough: until anything else is asked for or given back.
 *
 * Regions follow one another in units, with a wall between two: an extent of one unit that stands for no
 * memory and is never free, so that nothing is merged or taken across it.
 *
 * Waste inside of blocks: less than one unit (align_bytes) each, so less than align / (align + length) of
 * what is used. Between blocks: a free run of the length asked for is always found, so blocks of one
 * size never fragment a region. With lengths from 1 to n units no allocator that leaves blocks where
 * they are can promise to fill more than one part in log2(n) / 2 (Robson); what real sizes leave free
 * when a key is refused is measured (./dev bench l1 --only arena): 7 % with lengths spread over six
 * octaves, 1.3 % with those of a trace.
 */

static uint32_t
bin_of(uint32_t unit_count)
{
	return 31u - (uint32_t)__builtin_clz(unit_count);
}

/* The bits below the leading one, the highest of them on top. */
static uint32_t
path_of(uint32_t unit_count)
{
	uint32_t bin = bin_of(unit_count);

	return bin == 0 ? 0 : unit_count << (32 - bin);
}

static uint32_t *
link_to(struct l1_arena *arena, uint32_t idx)
{
	struct l1_extent *e = &arena->extents[idx];
	struct l1_extent *up;

	if (e->parent == L1_NIL)
		return &arena->roots[bin_of(e->unit_count)];
	up = &arena->extents[e->parent];
	return &up->child[up->child[1] == idx];
}

static bool
in_trie(const struct l1_arena *arena, uint32_t idx)
{
	const struct l1_extent *e = &arena->extents[idx];

	return e->parent != L1_NIL || arena->roots[bin_of(e->unit_count)] == idx;
}

static void
trie_insert(struct l1_arena *arena, uint32_t idx)
{
	struct l1_extent *e = &arena->extents[idx];
	uint32_t bin = bin_of(e->unit_count);
	uint32_t path = path_of(e->unit_count);
	uint32_t *link = &arena->roots[bin];
	uint32_t up = L1_NIL;

	e->child[0] = e->child[1] = e->parent = L1_NIL;
	e->peer_prev = e->peer_next = idx;
	while (*link != L1_NIL) {
		struct l1_extent *at = &arena->extents[*link];

		if (at->unit_count == e->unit_count) {
			e->peer_prev = *link;
			e->peer_next = at->peer_next;
			arena->extents[at->peer_next].peer_prev = idx;
			at->peer_next = idx;
			return;
		}
		up = *link;
		link = &at->child[path >> 31];
		path <<= 1;
	}
	*link = idx;
	e->parent = up;
	arena->root_map |= 1u << bin;
}

/* Puts @by, which may be L1_NIL, where @idx was, with the children of @idx. */
static void
trie_replace(struct l1_arena *arena, uint32_t idx, uint32_t by)
{
	struct l1_extent *e = &arena->extents[idx];
	struct l1_extent *b = &arena->extents[by];
	uint32_t bin = bin_of(e->unit_count);

	*link_to(arena, idx) = by;
	if (by != L1_NIL) {
		b->parent = e->parent;
		for (int i = 0; i < 2; i++) {
			b->child[i] = e->child[i];
			if (b->child[i] != L1_NIL)
				arena->extents[b->child[i]].parent = by;
		}
	}
	if (arena->roots[bin] == L1_NIL)
		arena->root_map &= ~(1u << bin);
}

static void
trie_remove(struct l1_arena *arena, uint32_t idx)
{
	struct l1_extent *e = &arena->extents[idx];
	uint32_t by = e->peer_next;

	if (by != idx) {
		arena->extents[e->peer_prev].peer_next = e->peer_next;
		arena->extents[e->peer_next].peer_prev = e->peer_prev;
		if (in_trie(arena, idx))
			trie_replace(arena, idx, by);
		return;
	}
	/* Any leaf below has the prefix that this place asks for. */
	by = idx;
	while (arena->extents[by].child[0] != L1_NIL || arena->extents[by].child[1] != L1_NIL) {
		struct l1_extent *at = &arena->extents[by];

		by = at->child[1] != L1_NIL ? at->child[1] : at->child[0];
	}
	if (by == idx) {
		trie_replace(arena, idx, L1_NIL);
		return;
	}
	*link_to(arena, by) = L1_NIL;
	trie_replace(arena, idx, by);
}

/* Nothing else is looked for or given back while one is open. */
static void
open_close(struct l1_arena *arena)
{
	if (arena->open != L1_NIL)
		trie_insert(arena, arena->open);
	arena->open = L1_NIL;
}

/* The shortest below @at; the smaller child holds it, or @at itself. */
static uint32_t
trie_least(const struct l1_arena *arena, uint32_t at, uint32_t best)
{
	while (at != L1_NIL) {
		const struct l1_extent *e = &arena->extents[at];

		if (best == L1_NIL || e->unit_count < arena->extents[best].unit_count)
			best = at;
		at = e->child[0] != L1_NIL ? e->child[0] : e->child[1];
	}
	return best;
}

static uint32_t
trie_best(const struct l1_arena *arena, uint32_t unit_count)
{
	uint32_t bin = bin_of(unit_count);
	uint32_t path = path_of(unit_count);
	uint32_t at = arena->roots[bin];
	uint32_t best = L1_NIL;
	uint32_t longer = L1_NIL; /* the closest subtree with nothing but longer ones */
	uint32_t map;

	while (at != L1_NIL) {
		const struct l1_extent *e = &arena->extents[at];

		if (e->unit_count == unit_count)
			return at;
		if (e->unit_count > unit_count &&
		    (best == L1_NIL || e->unit_count < arena->extents[best].unit_count))
			best = at;
		if (path >> 31 == 0 && e->child[1] != L1_NIL)
			longer = e->child[1];
		at = e->child[path >> 31];
		path <<= 1;
	}
	best = trie_least(arena, longer, best);
	if (best != L1_NIL)
		return best;
	map = bin == 31 ? 0 : arena->root_map & (UINT32_MAX << (bin + 1));
	if (map == 0)
		return L1_NIL;
	return trie_least(arena, arena->roots[__builtin_ctz(map)], L1_NIL);
}

uint32_t
far_l1_arena_longest(struct l1_arena *arena)
{
	uint32_t best = L1_NIL;
	uint32_t at = L1_NIL;

	open_close(arena);
	if (arena->root_map != 0)
		at = arena->roots[31 - __builtin_clz(arena->root_map)];
	while (at != L1_NIL) {
		const struct l1_extent *e = &arena->extents[at];

		if (best == L1_NIL || e->unit_count > arena->extents[best].unit_count)
			best = at;
		at = e->child[1] != L1_NIL ? e->child[1] : e->child[0];
	}
	return best;
}

static void
record_give(struct l1_arena *arena, uint32_t idx)
{
	arena->extents[idx].unit_count = 0;
	arena->extents[idx].next = arena->extent_free;
	arena->extent_free = idx;
}

int
far_l1_arena_init(struct l1_arena *arena, uint32_t unit_count, uint32_t block_records)
{
	struct l1_extent *e;

	/* Blocks, the free ones between them, nobody, and a wall and a free one for each region. */
	arena->extent_end = 2 * block_records + 3 + 2 * FAR_L1_REGIONS_MAX;
	arena->extents = far_l1_mem_alloc(arena->extent_end, sizeof(*arena->extents));
	if (arena->extents == NULL)
		return -ENOMEM;
	arena->extent_fresh = 2; /* 0 is nobody, 1 is all of the arena */
	arena->extent_free = L1_NIL;
	arena->first = 1;
	arena->unit_count = unit_count;
	arena->free_units = unit_count;
	e = &arena->extents[1];
	e->unit_count = unit_count;
	trie_insert(arena, 1);
	return 0;
}

void
far_l1_arena_extend(struct l1_arena *arena, uint32_t unit_count)
{
	uint32_t last = arena->first;
	uint32_t wall = arena_record_take(arena);
	uint32_t idx = arena_record_take(arena);
	struct l1_extent *w = &arena->extents[wall];
	struct l1_extent *e = &arena->extents[idx];

	while (arena->extents[last].next != L1_NIL)
		last = arena->extents[last].next;
	FAR_ASSERT(arena->extents[last].block == L1_NIL);
	*w = (struct l1_extent){.unit = arena->unit_count,
				.unit_count = 1,
				.prev = last,
				.next = idx,
				.block = L1_TAKEN};
	*e = (struct l1_extent){
		.unit = arena->unit_count + 1, .unit_count = unit_count, .prev = wall};
	arena->extents[last].next = wall;
	trie_insert(arena, idx);
	arena->unit_count += 1 + unit_count;
	arena->wall_count++;
	arena->free_units += unit_count;
}

void
far_l1_arena_fini(struct l1_arena *arena)
{
	far_l1_mem_free(arena->extents);
	arena->extents = NULL;
}

/* Apart from the way that most blocks go: it needs all registers. */
static __attribute__((noinline)) uint32_t
take_best(struct l1_arena *arena, uint32_t unit_count, uint32_t block)
{
	uint32_t idx;

	open_close(arena);
	idx = trie_best(arena, unit_count);
	if (idx == L1_NIL)
		return L1_NIL;
	/* Prefer one that others do not hang from: no walk, no replacement. */
	if (arena->extents[idx].peer_next != idx)
		idx = arena->extents[idx].peer_next;
	trie_remove(arena, idx);
	return arena_cut(arena, idx, unit_count, block);
}

uint32_t
far_l1_arena_take(struct l1_arena *arena, uint32_t unit_count, uint32_t block)
{
	uint32_t idx;

	FAR_ASSERT(unit_count > 0);
	FAR_ASSERT(block != L1_NIL);
	if (unit_count > arena->free_units)
		return L1_NIL;
	idx = arena_take_open(arena, unit_count, block);
	return idx != L1_NIL ? idx : take_best(arena, unit_count, block);
}

/* @right, free or just freed, becomes part of @left, its neighbour below. */
static void
merge(struct l1_arena *arena, uint32_t left, uint32_t right)
{
	struct l1_extent *l = &arena->extents[left];
	struct l1_extent *r = &arena->extents[right];

	l->unit_count += r->unit_count;
	l->next = r->next;
	if (r->next != L1_NIL)
		arena->extents[r->next].prev = left;
	record_give(arena, right);
}

void
far_l1_arena_give(struct l1_arena *arena, uint32_t idx)
{
	struct l1_extent *e = &arena->extents[idx];
	uint32_t prev = e->prev;
	uint32_t next = e->next;

	FAR_ASSERT(e->block != L1_NIL);
	FAR_ASSERT(e->unit_count > 0);
	open_close(arena);
	e->block = L1_NIL;
	arena->free_units += e->unit_count;
	if (next != L1_NIL && arena->extents[next].block == L1_NIL) {
		trie_remove(arena, next);
		merge(arena, idx, next);
	}
	if (prev != L1_NIL && arena->extents[prev].block == L1_NIL) {
		trie_remove(arena, prev);
		merge(arena, prev, idx);
		idx = prev;
	}
	trie_insert(arena, idx);
}

/* Whether the trie of its length class leads to it. */
static bool
trie_has(const struct l1_arena *arena, uint32_t idx)
{
	const struct l1_extent *e = &arena->extents[idx];
	uint32_t path = path_of(e->unit_count);
	uint32_t at = arena->roots[bin_of(e->unit_count)];

	while (at != L1_NIL && arena->extents[at].unit_count != e->unit_count) {
		at = arena->extents[at].child[path >> 31];
		path <<= 1;
	}
	if (at == L1_NIL)
		return false;
	for (uint32_t peer = arena->extents[at].peer_next; peer != at && at != idx;
	     peer = arena->extents[peer].peer_next)
		if (peer == idx)
			return true;
	return at == idx;
}

void
far_l1_arena_check(const struct l1_arena *arena)
{
	uint64_t units = 0, free_units = 0;
	uint32_t prev = L1_NIL;
	bool prev_free = false;
	uint32_t looked = 0;

	for (uint32_t at = arena->first; at != L1_NIL; at = arena->extents[at].next) {
		const struct l1_extent *e = &arena->extents[at];
		bool is_free = e->block == L1_NIL;

		FAR_ASSERT(e->unit == units);
		FAR_ASSERT(e->unit_count > 0);
		FAR_ASSERT(e->prev == prev);
		FAR_ASSERT(!(is_free && prev_free));
		/* Rings of one length can be long: the look-up in them is for the first ones. */
		if (is_free && looked < 4096) {
			looked++;
			FAR_ASSERT(at == arena->open || trie_has(arena, at));
		}
		units += e->unit_count;
		if (is_free)
			free_units += e->unit_count;
		prev_free = is_free;
		prev = at;
	}
	FAR_ASSERT(units == arena->unit_count);
	FAR_ASSERT(free_units == arena->free_units);
}
