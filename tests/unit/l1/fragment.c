/* fragment.c - blocks of many sizes in one arena: a run that can be made is made, and at what cost. */
#include "tests/unit/l1/fixture.h"

static void
fill_with_units(struct fixture *f, uint64_t first, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		put(f, first + i, UNIT);
}

/* Uses the keys [0, count) in random order. */
static void
touch_shuffled(struct fixture *f, uint64_t count, uint64_t seed)
{
	static uint64_t order[4096];
	struct far_rng rng;

	far_rng_init(&rng, seed);
	for (uint64_t i = 0; i < count; i++)
		order[i] = i;
	for (uint64_t i = count; i > 1; i--) {
		uint64_t j = far_rng_below(&rng, i);
		uint64_t t = order[i - 1];

		order[i - 1] = order[j];
		order[j] = t;
	}
	for (uint64_t i = 0; i < count; i++)
		touch_one(f, order[i]);
}

static void
a_large_block_evicts_its_own_size_of_scattered_small_ones(void **state)
{
	struct fixture f;
	struct far_l1_grant grant;
	(void)state;

	fixture_open(&f, 4096, (struct far_l1_config){0});
	fill_with_units(&f, 0, 4096);
	touch_shuffled(&f, 4096, 7);
	/* In order of use the oldest 64 lie anywhere: a run of 64 would cost nearly all. */
	for (uint64_t i = 0; i < 10; i++) {
		assert_int_equal(write_one(&f, 10000 + i, 64 * UNIT, &grant), 0);
		assert_int_equal(usage_of(&f).evicted_blocks, 64 * (i + 1));
		assert_int_equal(finish_one(&f, grant.loan), 0);
	}
	far_l1_check(f.l1);
	fixture_close(&f);
}

static void
a_large_block_takes_the_oldest_run_where_there_is_one(void **state)
{
	struct fixture f;
	struct far_l1_grant grant;
	(void)state;

	fixture_open(&f, 1024, (struct far_l1_config){0});
	fill_with_units(&f, 0, 1024);
	for (uint64_t i = 0; i < 1024; i++)
		if (i < 500 || i >= 564)
			touch_one(&f, i);
	assert_int_equal(write_one(&f, 10000, 64 * UNIT, &grant), 0);
	for (uint64_t i = 0; i < 1024; i++)
		assert_int_equal(state_of(&f, i) == FAR_L1_ABSENT, i >= 500 && i < 564);
	assert_int_equal(abort_one(&f, grant.loan), 0);
	fixture_close(&f);
}

static void
a_run_between_locked_blocks_is_found_wherever_it_is(void **state)
{
	struct fixture f;
	struct far_l1_grant read[128], grant;
	size_t held = 0;
	(void)state;

	fixture_open(&f, 512, (struct far_l1_config){0});
	fill_with_units(&f, 0, 512);
	/* Every fifth is locked, but for one gap of 12 among the most recently used. */
	for (uint64_t i = 0; i < 512; i += 5)
		if (i != 400 && i != 405)
			assert_int_equal(read_one(&f, i, 1, &read[held++]), 0);
	for (uint64_t i = 396; i < 410; i++)
		touch_one(&f, i);
	assert_int_equal(write_one(&f, 10000, 15 * UNIT, &grant), -ENOMEM);
	assert_int_equal(usage_of(&f).evicted_blocks, 0);
	assert_int_equal(write_one(&f, 10000, 14 * UNIT, &grant), 0);
	assert_int_equal(usage_of(&f).evicted_blocks, 14);
	far_l1_check(f.l1);
	assert_int_equal(abort_one(&f, grant.loan), 0);
	while (held > 0)
		assert_int_equal(release_one(&f, read[--held].loan, 1), 0);
	fixture_close(&f);
}

static void
free_space_in_the_way_is_used_before_anything_is_evicted(void **state)
{
	struct fixture f;
	struct far_l1_grant grant;
	(void)state;

	fixture_open(&f, 64, (struct far_l1_config){0});
	fill_with_units(&f, 0, 64);
	for (uint64_t i = 32; i < 47; i++)
		assert_int_equal(delete_one(&f, i, false), 0);
	assert_int_equal(write_one(&f, 100, 16 * UNIT, &grant), 0);
	/* One more than was free, next to it. */
	assert_int_equal(usage_of(&f).evicted_blocks, 1);
	assert_int_equal(abort_one(&f, grant.loan), 0);
	fixture_close(&f);
}

/* Every second block of 64 is read; no run is longer than one. */
static void
fill_and_lock_half(struct fixture *f, struct far_l1_grant *read)
{
	fixture_open(f, 64, (struct far_l1_config){0});
	fill_with_units(f, 0, 64);
	for (uint64_t i = 0; i < 32; i++)
		assert_int_equal(read_one(f, 2 * i, 1, &read[i]), 0);
}

static void
a_refusal_holds_until_a_lock_ends(void **state)
{
	struct fixture f;
	struct far_l1_grant read[32], grant, other;
	(void)state;

	fill_and_lock_half(&f, read);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write_one(&f, 100, 3 * UNIT, &grant), -ENOMEM);
		/* A shorter one is another question, a longer one is not. */
		assert_int_equal(write_one(&f, 101, 2 * UNIT, &grant), -ENOMEM);
		assert_int_equal(write_one(&f, 102, 4 * UNIT, &grant), -ENOMEM);
	}
	assert_int_equal(usage_of(&f).evicted_blocks, 0);
	assert_int_equal(release_one(&f, read[7].loan, 1), 0);
	assert_int_equal(write_one(&f, 102, 4 * UNIT, &grant), -ENOMEM);
	assert_int_equal(write_one(&f, 100, 3 * UNIT, &grant), 0);
	assert_int_equal(usage_of(&f).evicted_blocks, 3);
	/* What is being written is locked, until it is ready or gone. */
	assert_int_equal(write_one(&f, 101, 2 * UNIT, &other), -ENOMEM);
	assert_int_equal(finish_one(&f, grant.loan), 0);
	assert_int_equal(write_one(&f, 101, 2 * UNIT, &other), 0);
	assert_int_equal(abort_one(&f, other.loan), 0);
	for (uint64_t i = 0; i < 32; i++)
		if (i != 7)
			assert_int_equal(release_one(&f, read[i].loan, 1), 0);
	fixture_close(&f);
}

static void
a_refusal_ends_with_each_way_out_of_a_lock(void **state)
{
	(void)state;
	for (int way = 0; way < 4; way++) {
		struct fixture f;
		struct far_l1_grant read[32], held, grant;
		far_l1_session other;
		struct far_key key = key_n(0);

		fill_and_lock_half(&f, read);
		assert_int_equal(far_l1_session_open(f.l1, "other", &other), 0);
		/* The first block is written anew by another session; then it is alone in the way. */
		assert_int_equal(release_one(&f, read[0].loan, 1), 0);
		assert_int_equal(delete_one(&f, 0, false), 0);
		far_l1_reserve_write(f.l1, other,
				     &(struct far_l1_want){.key = key, .size_bytes = UNIT}, 1,
				     &held);
		assert_int_equal(held.rc, 0);
		assert_int_equal(write_one(&f, 100, 2 * UNIT, &grant), -ENOMEM);
		assert_int_equal(write_one(&f, 100, 2 * UNIT, &grant), -ENOMEM);
		if (way == 0)
			assert_int_equal(far_l1_abort_write(f.l1, other, &held.loan, 1, &held.rc),
					 1);
		if (way == 1)
			assert_int_equal(far_l1_finish_write(f.l1, other, &held.loan, 1, &held.rc),
					 1);
		if (way == 3)
			assert_int_equal(delete_one(&f, 0, true), 0);
		far_l1_session_close(f.l1, other);
		assert_int_equal(write_one(&f, 100, 2 * UNIT, &grant), 0);
		assert_int_equal(abort_one(&f, grant.loan), 0);
		for (uint64_t i = 1; i < 32; i++)
			assert_int_equal(release_one(&f, read[i].loan, 1), 0);
		fixture_close(&f);
	}
}

static void
a_refusal_for_the_sake_of_keys_of_its_call_is_its_own(void **state)
{
	struct fixture f;
	struct far_l1_grant grants[3], grant;
	struct far_l1_want wants[3] = {{.key = key_n(1), .size_bytes = UNIT},
				       {.key = key_n(3), .size_bytes = UNIT},
				       {.key = key_n(9), .size_bytes = 2 * UNIT}};
	(void)state;

	fixture_open(&f, 4, (struct far_l1_config){0});
	fill_with_units(&f, 0, 4);
	/* Both are there and spared: no run of two without them. */
	assert_int_equal(far_l1_reserve_write(f.l1, f.session, wants, 3, grants), 0);
	assert_int_equal(grants[0].rc, -EEXIST);
	assert_int_equal(grants[2].rc, -ENOMEM);
	assert_int_equal(write_one(&f, 9, 2 * UNIT, &grant), 0);
	assert_int_equal(abort_one(&f, grant.loan), 0);
	fixture_close(&f);
}

static void
mixed_sizes_keep_the_arena_full_with_either_policy(void **state)
{
	static const enum far_l1_policy policies[] = {FAR_L1_LRU, FAR_L1_S3FIFO};
	const uint32_t sizes[] = {1, 3, 16, 64};
	(void)state;

	for (int p = 0; p < 2; p++) {
		struct fixture f;
		struct far_rng rng;
		struct far_l1_grant grant;
		uint64_t used = 0, samples = 0;

		far_rng_init(&rng, 3);
		fixture_open(&f, 1024, (struct far_l1_config){.policy = policies[p]});
		for (uint64_t i = 0; i < 5000; i++) {
			uint32_t units = sizes[far_rng_below(&rng, 4)];

			/* Nothing is locked: there is always a way. */
			assert_int_equal(write_one(&f, i, units * UNIT, &grant), 0);
			assert_int_equal(finish_one(&f, grant.loan), 0);
			if (i > 1000) {
				used += usage_of(&f).used_bytes / UNIT;
				samples++;
			}
		}
		/* What lies free between blocks of 64 times different sizes is little. */
		print_message("policy %d: %llu of 1024 units used\n", policies[p],
			      (unsigned long long)(used / samples));
		assert_true(used / samples > 1024 * 85 / 100);
		fixture_close(&f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_large_block_evicts_its_own_size_of_scattered_small_ones),
		cmocka_unit_test(a_large_block_takes_the_oldest_run_where_there_is_one),
		cmocka_unit_test(a_run_between_locked_blocks_is_found_wherever_it_is),
		cmocka_unit_test(free_space_in_the_way_is_used_before_anything_is_evicted),
		cmocka_unit_test(a_refusal_holds_until_a_lock_ends),
		cmocka_unit_test(a_refusal_ends_with_each_way_out_of_a_lock),
		cmocka_unit_test(a_refusal_for_the_sake_of_keys_of_its_call_is_its_own),
		cmocka_unit_test(mixed_sizes_keep_the_arena_full_with_either_policy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
