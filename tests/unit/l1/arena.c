/* arena.c - best fit over extents: nothing overlaps, nothing is lost, a run that exists is found. */
#include "tests/unit/l1/fixture.h"

#include "l1/l1_priv.h"

#define UNITS 512u

/* Which block owns each unit, by the reference. */
struct map {
	uint32_t owner[UNITS];
};

static uint32_t
map_longest_free(const struct map *map)
{
	uint32_t best = 0, run = 0;

	for (uint32_t i = 0; i < UNITS; i++) {
		run = map->owner[i] == 0 ? run + 1 : 0;
		best = run > best ? run : best;
	}
	return best;
}

/* The shortest free run that is long enough: what best fit has to choose. */
static uint32_t
map_best_fit(const struct map *map, uint32_t units)
{
	uint32_t best = UINT32_MAX, run = 0;

	for (uint32_t i = 0; i <= UNITS; i++) {
		if (i < UNITS && map->owner[i] == 0) {
			run++;
			continue;
		}
		if (run >= units && run < best)
			best = run;
		run = 0;
	}
	return best;
}

static uint32_t
map_run_at(const struct map *map, uint32_t unit)
{
	uint32_t first = unit, end = unit;

	while (first > 0 && map->owner[first - 1] == 0)
		first--;
	while (end < UNITS && map->owner[end] == 0)
		end++;
	return end - first;
}

static void
map_fill(struct map *map, uint32_t unit, uint32_t count, uint32_t from, uint32_t to)
{
	for (uint32_t i = unit; i < unit + count; i++) {
		assert_int_equal(map->owner[i], from);
		map->owner[i] = to;
	}
}

static void
random_history(uint64_t seed, uint32_t units_max)
{
	struct l1_arena arena = {0};
	struct map map = {{0}};
	uint32_t live[UNITS], live_count = 0;
	struct far_rng rng;

	far_rng_init(&rng, seed);
	assert_int_equal(far_l1_arena_init(&arena, UNITS, UNITS), 0);
	for (uint32_t step = 1; step <= 20000; step++) {
		bool take = far_rng_below(&rng, 100) < 55;

		if (take && live_count < UNITS) {
			uint32_t units = 1 + (uint32_t)far_rng_below(&rng, units_max);
			uint32_t fit = map_best_fit(&map, units);
			uint32_t idx = far_l1_arena_take(&arena, units, step);

			assert_int_equal(idx == L1_NIL, map_longest_free(&map) < units);
			if (idx == L1_NIL)
				continue;
			assert_int_equal(map_run_at(&map, arena.extents[idx].unit), fit);
			map_fill(&map, arena.extents[idx].unit, units, 0, step);
			live[live_count++] = idx;
		} else if (live_count > 0) {
			uint32_t at = (uint32_t)far_rng_below(&rng, live_count);
			struct l1_extent *e = &arena.extents[live[at]];

			map_fill(&map, e->unit, e->unit_count, e->block, 0);
			far_l1_arena_give(&arena, live[at]);
			live[at] = live[--live_count];
		}
		if (step % 64 == 0)
			far_l1_arena_check(&arena);
	}
	while (live_count > 0)
		far_l1_arena_give(&arena, live[--live_count]);
	far_l1_arena_check(&arena);
	assert_int_equal(arena.free_units, UNITS);
	/* All runs grew together again. */
	assert_int_not_equal(far_l1_arena_take(&arena, UNITS, 1), L1_NIL);
	far_l1_arena_fini(&arena);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
small_sizes_match_a_map_of_units(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++)
		random_history(seed, 5);
}

static void
mixed_sizes_match_a_map_of_units(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++)
		random_history(seed, 100);
}

static void
equal_sizes_never_fragment(void **state)
{
	struct l1_arena arena = {0};
	uint32_t idx[UNITS / 4];
	struct far_rng rng;
	(void)state;

	far_rng_init(&rng, 1);
	assert_int_equal(far_l1_arena_init(&arena, UNITS, UNITS), 0);
	for (uint32_t i = 0; i < UNITS / 4; i++)
		idx[i] = far_l1_arena_take(&arena, 4, i + 1);
	for (uint32_t step = 0; step < 10000; step++) {
		uint32_t i = (uint32_t)far_rng_below(&rng, UNITS / 4);
		uint32_t j = (uint32_t)far_rng_below(&rng, UNITS / 4);

		far_l1_arena_give(&arena, idx[i]);
		if (i != j)
			far_l1_arena_give(&arena, idx[j]);
		idx[i] = far_l1_arena_take(&arena, 4, 1);
		assert_int_not_equal(idx[i], L1_NIL);
		if (i != j)
			idx[j] = far_l1_arena_take(&arena, 4, 1);
		assert_int_not_equal(idx[j], L1_NIL);
	}
	assert_int_equal(arena.free_units, 0);
	far_l1_arena_check(&arena);
	far_l1_arena_fini(&arena);
}

static void
an_arena_of_one_unit_works(void **state)
{
	struct l1_arena arena = {0};
	uint32_t idx;
	(void)state;

	assert_int_equal(far_l1_arena_init(&arena, 1, 1), 0);
	idx = far_l1_arena_take(&arena, 1, 1);
	assert_int_not_equal(idx, L1_NIL);
	assert_int_equal(far_l1_arena_take(&arena, 1, 2), L1_NIL);
	far_l1_arena_give(&arena, idx);
	assert_int_equal(far_l1_arena_take(&arena, 2, 1), L1_NIL);
	far_l1_arena_check(&arena);
	far_l1_arena_fini(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_sizes_match_a_map_of_units),
		cmocka_unit_test(mixed_sizes_match_a_map_of_units),
		cmocka_unit_test(equal_sizes_never_fragment),
		cmocka_unit_test(an_arena_of_one_unit_works),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
