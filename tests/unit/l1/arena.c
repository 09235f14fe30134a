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

/* --- Regions: three of 4, 6 and 2 units, the last one from an address that is not aligned. --- */

#define REGIONS 3

static _Alignas(UNIT) uint8_t second[6 * UNIT], third[3 * UNIT];

static void
regions_open(struct fixture *f, enum far_l1_policy policy)
{
	const struct far_l1_region more[] = {{second, sizeof(second)},
					     {third + 64, (uint64_t)2 * UNIT + 4032}};

	fixture_open(f, 4, (struct far_l1_config){.policy = policy, .more = more, .more_count = 2});
}

/* Which region the whole block lies in; its offset says the same as its address. */
static int
region_of_grant(const struct fixture *f, const struct far_l1_grant *grant)
{
	uint8_t *const bases[REGIONS] = {f->config.base, second, third + 64};
	const uint64_t sizes[REGIONS] = {(uint64_t)4 * UNIT, sizeof(second),
					 (uint64_t)2 * UNIT + 4032};
	const uint8_t *addr = grant->addr;
	uint64_t before = 0;

	for (int i = 0; i < REGIONS; i++) {
		if (addr >= bases[i] && addr < bases[i] + sizes[i]) {
			assert_true(addr + grant->size_bytes <= bases[i] + sizes[i]);
			assert_int_equal(grant->offset_bytes, before + (uint64_t)(addr - bases[i]));
			return i;
		}
		before += sizes[i];
	}
	fail_msg("%p is in no region", grant->addr);
	return -1;
}

static void
a_block_lies_in_one_region_and_all_are_used(void **state)
{
	struct fixture f;
	struct far_l1_grant grants[12], grant;
	int in[REGIONS] = {0};
	(void)state;

	regions_open(&f, FAR_L1_NONE);
	assert_int_equal(usage_of(&f).capacity_bytes, 12 * UNIT);
	for (uint64_t i = 0; i < 12; i++) {
		assert_int_equal(write_one(&f, i, UNIT, &grants[i]), 0);
		assert_int_equal((uintptr_t)grants[i].addr % UNIT, 0);
		in[region_of_grant(&f, &grants[i])]++;
	}
	assert_int_equal(in[0], 4);
	assert_int_equal(in[1], 6);
	assert_int_equal(in[2], 2);
	assert_int_equal(write_one(&f, 12, UNIT, &grant), -ENOMEM);
	for (int i = 0; i < 12; i++)
		assert_int_equal(abort_one(&f, grants[i].loan), 0);
	/* Longer than the longest region is longer than anything will ever be. */
	assert_int_equal(write_one(&f, 12, 6 * UNIT + 1, &grant), -EINVAL);
	assert_int_equal(write_one(&f, 12, 6 * UNIT, &grant), 0);
	assert_int_equal(region_of_grant(&f, &grant), 1);
	assert_int_equal(abort_one(&f, grant.loan), 0);
	fixture_close(&f);
}

static void
eviction_makes_no_run_across_regions(void **state)
{
	struct fixture f;
	struct far_l1_grant grant;
	struct far_rng rng;
	(void)state;

	far_rng_init(&rng, 5);
	regions_open(&f, FAR_L1_LRU);
	for (uint64_t i = 0; i < 3000; i++) {
		uint32_t units = 1 + (uint32_t)far_rng_below(&rng, 6);

		assert_int_equal(write_one(&f, i, units * UNIT, &grant), 0);
		region_of_grant(&f, &grant);
		assert_int_equal(finish_one(&f, grant.loan), 0);
		if (i % 16 == 0)
			far_l1_check(f.l1);
	}
	assert_true(usage_of(&f).evicted_blocks > 2000);
	fixture_close(&f);
}

static void
regions_that_hold_no_unit_are_refused(void **state)
{
	struct far_l1_region more[FAR_L1_REGIONS_MAX];
	struct far_l1_config config = {.base = second,
				       .size_bytes = sizeof(second),
				       .align_bytes = UNIT,
				       .more = more,
				       .more_count = 1};
	struct far_l1 *l1 = NULL;
	(void)state;

	more[0] = (struct far_l1_region){third, UNIT - 1};
	assert_int_equal(far_l1_open(&config, &l1), -EINVAL);
	more[0] = (struct far_l1_region){third + 1, UNIT};
	assert_int_equal(far_l1_open(&config, &l1), -EINVAL);
	more[0] = (struct far_l1_region){NULL, UNIT};
	assert_int_equal(far_l1_open(&config, &l1), -EINVAL);
	config.more_count = FAR_L1_REGIONS_MAX;
	assert_int_equal(far_l1_open(&config, &l1), -EINVAL);
	assert_null(l1);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_sizes_match_a_map_of_units),
		cmocka_unit_test(mixed_sizes_match_a_map_of_units),
		cmocka_unit_test(equal_sizes_never_fragment),
		cmocka_unit_test(a_block_lies_in_one_region_and_all_are_used),
		cmocka_unit_test(eviction_makes_no_run_across_regions),
		cmocka_unit_test(regions_that_hold_no_unit_are_refused),
		cmocka_unit_test(an_arena_of_one_unit_works),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
