/* reserve.c - who gets memory when it ends: order of grants, what is evicted for them, what never is. */
#include "tests/unit/l1/fixture.h"

/* Reserves @count keys from @first on, one unit each, in one call. */
static size_t
reserve_range(struct fixture *f, uint64_t first, size_t count, uint32_t size_bytes,
	      struct far_l1_grant *grants)
{
	struct far_l1_want wants[512];

	for (size_t i = 0; i < count; i++)
		wants[i] = (struct far_l1_want){.key = key_n(first + i), .size_bytes = size_bytes};
	return far_l1_reserve_write(f->l1, f->session, wants, count, grants);
}

static void
abort_all(struct fixture *f, const struct far_l1_grant *grants, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (grants[i].rc == 0)
			assert_int_equal(abort_one(f, grants[i].loan), 0);
}

static void
a_batch_is_granted_in_key_order_until_memory_ends(void **state)
{
	struct fixture f;
	struct far_l1_grant grants[10];
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	assert_int_equal(reserve_range(&f, 0, 10, UNIT, grants), 8);
	for (int i = 0; i < 10; i++)
		assert_int_equal(grants[i].rc, i < 8 ? 0 : -ENOMEM);
	assert_int_equal(usage_of(&f).denied_no_memory, 2);
	abort_all(&f, grants, 10);
	/* Ten blocks of 8 units into 64: eight, not none. */
	fixture_close(&f);
	fixture_open(&f, 64, (struct far_l1_config){0});
	assert_int_equal(reserve_range(&f, 0, 10, 8 * UNIT, grants), 8);
	abort_all(&f, grants, 10);
	fixture_close(&f);
}

static void
what_memory_does_not_reach_is_refused_with_all_behind_it(void **state)
{
	struct fixture f;
	struct far_l1_want wants[3] = {{.key = key_n(1), .size_bytes = 2 * UNIT},
				       {.key = key_n(2), .size_bytes = 4 * UNIT},
				       {.key = key_n(3), .size_bytes = UNIT}};
	struct far_l1_grant grants[3];
	(void)state;

	fixture_open(&f, 5, (struct far_l1_config){0});
	assert_int_equal(far_l1_reserve_write(f.l1, f.session, wants, 3, grants), 1);
	assert_int_equal(grants[1].rc, -ENOMEM);
	assert_int_equal(grants[2].rc, -ENOMEM); /* though it would fit */
	assert_int_equal(abort_one(&f, grants[0].loan), 0);
	fixture_close(&f);
}

static void
wrong_wants_are_refused_one_by_one(void **state)
{
	struct fixture f;
	struct far_l1_want wants[5] = {{.key = key_n(1), .size_bytes = 0},
				       {.size_bytes = UNIT},
				       {.key = key_n(2), .size_bytes = 5 * UNIT},
				       {.key = key_n(3), .size_bytes = UNIT},
				       {.key = key_n(3), .size_bytes = UNIT}};
	struct far_l1_grant grants[5];
	(void)state;

	fixture_open(&f, 4, (struct far_l1_config){0});
	assert_int_equal(far_l1_reserve_write(f.l1, f.session, wants, 5, grants), 1);
	assert_int_equal(grants[0].rc, -EINVAL);
	assert_int_equal(grants[1].rc, -EINVAL);
	assert_int_equal(grants[2].rc, -EINVAL); /* larger than the arena */
	assert_int_equal(grants[3].rc, 0);
	assert_int_equal(grants[4].rc, -EEXIST); /* given twice in this call */
	assert_int_equal(grants[4].loan, 0);
	assert_int_equal(abort_one(&f, grants[3].loan), 0);
	fixture_close(&f);
}

static void
reservation_evicts_the_least_recently_used_and_no_more(void **state)
{
	struct fixture f;
	struct far_l1_grant grants[2], read;
	(void)state;

	fixture_open(&f, 4, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 4; i++)
		put(&f, i, UNIT);
	touch_one(&f, 0);
	assert_int_equal(read_one(&f, 1, 1, &read), 0);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	assert_int_equal(reserve_range(&f, 10, 2, UNIT, grants), 2);
	assert_int_equal(state_of(&f, 0), FAR_L1_READY);
	assert_int_equal(state_of(&f, 1), FAR_L1_READY);
	assert_int_equal(state_of(&f, 2), FAR_L1_ABSENT);
	assert_int_equal(state_of(&f, 3), FAR_L1_ABSENT);
	assert_int_equal(usage_of(&f).evicted_blocks, 2);
	assert_int_equal(usage_of(&f).evicted_bytes, 2 * UNIT);
	abort_all(&f, grants, 2);
	fixture_close(&f);
}

static void
the_release_is_a_use(void **state)
{
	struct fixture f;
	struct far_l1_grant read, write;
	(void)state;

	fixture_open(&f, 3, (struct far_l1_config){0});
	put(&f, 0, UNIT);
	assert_int_equal(read_one(&f, 0, 1, &read), 0);
	put(&f, 1, UNIT);
	put(&f, 2, UNIT);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	assert_int_equal(write_one(&f, 3, UNIT, &write), 0);
	assert_int_equal(state_of(&f, 0), FAR_L1_READY);
	assert_int_equal(state_of(&f, 1), FAR_L1_ABSENT);
	assert_int_equal(abort_one(&f, write.loan), 0);
	fixture_close(&f);
}

static void
the_tail_of_a_prefix_goes_before_its_head(void **state)
{
	struct fixture f;
	struct far_l1_grant grants[4], write;
	uint64_t loans[4];
	int rcs[4];
	(void)state;

	fixture_open(&f, 4, (struct far_l1_config){0});
	assert_int_equal(reserve_range(&f, 0, 4, UNIT, grants), 4);
	for (int i = 0; i < 4; i++)
		loans[i] = grants[i].loan;
	assert_int_equal(far_l1_finish_write(f.l1, f.session, loans, 4, rcs), 4);
	assert_int_equal(write_one(&f, 9, UNIT, &write), 0);
	assert_int_equal(state_of(&f, 3), FAR_L1_ABSENT);
	assert_int_equal(state_of(&f, 0), FAR_L1_READY);
	assert_int_equal(abort_one(&f, write.loan), 0);
	fixture_close(&f);
}

static void
locked_blocks_are_not_evicted_and_not_forgotten(void **state)
{
	struct fixture f;
	struct far_l1_grant read[4], grants[4], write;
	(void)state;

	fixture_open(&f, 4, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 4; i++) {
		put(&f, i, UNIT);
		assert_int_equal(read_one(&f, i, 1, &read[i]), 0);
	}
	for (int i = 0; i < 5; i++) /* proposed again and again */
		assert_int_equal(write_one(&f, 9, UNIT, &write), -ENOMEM);
	assert_int_equal(release_one(&f, read[2].loan, 1), 0);
	assert_int_equal(write_one(&f, 9, UNIT, &write), 0);
	assert_int_equal(state_of(&f, 2), FAR_L1_ABSENT);
	assert_int_equal(abort_one(&f, write.loan), 0);
	for (int i = 0; i < 4; i++)
		if (i != 2)
			assert_int_equal(release_one(&f, read[i].loan, 1), 0);
	assert_int_equal(reserve_range(&f, 20, 4, UNIT, grants), 4);
	abort_all(&f, grants, 4);
	fixture_close(&f);
}

static void
nothing_is_evicted_for_a_key_that_is_not_granted(void **state)
{
	struct fixture f;
	struct far_l1_grant read, write;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 8; i++)
		put(&f, i, UNIT);
	assert_int_equal(read_one(&f, 3, 1, &read), 0);
	/* By bytes there is enough, but the locked block leaves runs of 3 and 4. */
	assert_int_equal(write_one(&f, 9, 5 * UNIT, &write), -ENOMEM);
	assert_int_equal(write_one(&f, 9, 8 * UNIT, &write), -ENOMEM);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_not_equal(state_of(&f, i), FAR_L1_ABSENT);
	assert_int_equal(usage_of(&f).evicted_blocks, 0);
	far_l1_check(f.l1);
	assert_int_equal(write_one(&f, 9, 4 * UNIT, &write), 0);
	assert_int_equal(usage_of(&f).evicted_blocks, 4);
	assert_int_equal(state_of(&f, 2), FAR_L1_READY);
	assert_int_equal(abort_one(&f, write.loan), 0);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	fixture_close(&f);
}

static void
a_key_that_is_there_is_not_evicted_for_another_of_the_same_call(void **state)
{
	struct fixture f;
	struct far_l1_want wants[4];
	struct far_l1_grant grants[4];
	(void)state;

	fixture_open(&f, 4, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 4; i++)
		put(&f, i, UNIT);
	/* 0 is the oldest, and asked for behind three new ones. */
	for (uint64_t i = 0; i < 4; i++)
		wants[i] =
			(struct far_l1_want){.key = key_n(i < 3 ? 10 + i : 0), .size_bytes = UNIT};
	assert_int_equal(far_l1_reserve_write(f.l1, f.session, wants, 4, grants), 3);
	assert_int_equal(grants[3].rc, -EEXIST);
	assert_int_equal(grants[3].offset_bytes, 0);
	assert_int_equal(state_of(&f, 0), FAR_L1_READY);
	abort_all(&f, grants, 4);
	/* Spared for that call only. */
	assert_int_equal(reserve_range(&f, 20, 4, UNIT, grants), 4);
	abort_all(&f, grants, 4);
	fixture_close(&f);
}

static void
a_full_table_evicts_like_a_full_arena(void **state)
{
	struct fixture f;
	struct far_l1_grant grants[6], read;
	(void)state;

	fixture_open(&f, 64, (struct far_l1_config){.blocks_max = 4});
	assert_int_equal(reserve_range(&f, 0, 6, UNIT, grants), 4);
	assert_int_equal(grants[4].rc, -ENOMEM);
	for (int i = 0; i < 4; i++)
		assert_int_equal(finish_one(&f, grants[i].loan), 0);
	assert_int_equal(read_one(&f, 0, 1, &read), 0);
	assert_int_equal(reserve_range(&f, 10, 6, UNIT, grants), 3);
	assert_int_equal(usage_of(&f).evicted_blocks, 3);
	assert_int_equal(state_of(&f, 0), FAR_L1_READ_LOCKED);
	abort_all(&f, grants, 6);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	fixture_close(&f);
}

static void
running_out_of_loans_is_no_memory_and_evicts_nothing(void **state)
{
	struct fixture f;
	struct far_key keys[4];
	struct far_l1_grant grants[4], more[4];
	(void)state;

	fixture_open(&f, 4, (struct far_l1_config){.loans_max = 3});
	for (uint64_t i = 0; i < 4; i++) {
		put(&f, i, UNIT);
		keys[i] = key_n(i);
	}
	assert_int_equal(far_l1_reserve_read(f.l1, f.session, keys, NULL, 4, 1, grants), 3);
	assert_int_equal(grants[3].rc, -ENOMEM);
	assert_int_equal(state_of(&f, 3), FAR_L1_READY);
	assert_int_equal(reserve_range(&f, 9, 1, UNIT, more), 0);
	assert_int_equal(more[0].rc, -ENOMEM);
	assert_int_equal(usage_of(&f).evicted_blocks, 0);
	assert_int_equal(usage_of(&f).denied_no_memory, 2);
	for (int i = 0; i < 3; i++)
		assert_int_equal(release_one(&f, grants[i].loan, 1), 0);
	assert_int_equal(far_l1_reserve_read_prefix(f.l1, f.session, keys, NULL, 4, 1, grants), 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(release_one(&f, grants[i].loan, 1), 0);
	fixture_close(&f);
}

static void
the_policy_none_never_evicts(void **state)
{
	struct fixture f;
	struct far_l1_grant write;
	(void)state;

	fixture_open(&f, 2, (struct far_l1_config){.policy = FAR_L1_NONE});
	put(&f, 0, UNIT);
	put(&f, 1, UNIT);
	assert_int_equal(write_one(&f, 2, UNIT, &write), -ENOMEM);
	assert_int_equal(delete_one(&f, 0, false), 0);
	put(&f, 2, UNIT);
	fixture_close(&f);
}

static void
a_racing_evictor_cannot_shrink_a_held_prefix(void **state)
{
	struct fixture f;
	struct far_key keys[8];
	struct far_l1_grant held[8], grants[64], seen;
	(void)state;

	fixture_open(&f, 16, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 16; i++)
		put(&f, i, UNIT);
	for (uint64_t i = 0; i < 8; i++)
		keys[i] = key_n(i);
	assert_int_equal(far_l1_reserve_read_prefix(f.l1, f.session, keys, NULL, 8, 1, held), 8);
	for (int i = 0; i < 8; i++)
		memset(held[i].addr, i, UNIT);
	assert_int_equal(reserve_range(&f, 100, 64, UNIT, grants), 8);
	for (int i = 0; i < 8; i++)
		memset(grants[i].addr, 0xee, UNIT);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(far_l1_unsafe_read(f.l1, f.session, held[i].loan, &seen), 0);
		assert_int_equal(((uint8_t *)seen.addr)[UNIT - 1], i);
		assert_int_equal(release_one(&f, held[i].loan, 1), 0);
	}
	abort_all(&f, grants, 64);
	fixture_close(&f);
}

/* The order survives far more uses than one eviction may look at. */
static void
eviction_after_very_many_uses_still_takes_an_old_one(void **state)
{
	enum { COUNT = 6000 };
	struct fixture f;
	struct far_l1_grant write;
	int old = 0;
	(void)state;

	fixture_open(&f, COUNT, (struct far_l1_config){0});
	for (uint64_t i = 0; i < COUNT; i++)
		put(&f, i, UNIT);
	for (int round = 0; round < 3; round++)
		for (uint64_t i = 0; i < COUNT; i++)
			if (i % 10 != 0)
				touch_one(&f, i);
	for (uint64_t i = 0; i < COUNT / 10; i++) {
		assert_int_equal(write_one(&f, COUNT + i, UNIT, &write), 0);
		assert_int_equal(finish_one(&f, write.loan), 0);
	}
	for (uint64_t i = 0; i < COUNT; i += 10)
		old += state_of(&f, i) == FAR_L1_ABSENT;
	/* All of the untouched ones, and none besides. */
	assert_int_equal(old, COUNT / 10);
	fixture_close(&f);
}

static void
a_configuration_outside_of_the_bounds_is_refused(void **state)
{
	static uint8_t arena[16 * UNIT];
	const struct far_l1_config good = {.base = arena, .size_bytes = sizeof(arena)};
	struct far_l1_config bad[9];
	struct far_l1 *l1 = NULL;
	(void)state;

	for (size_t i = 0; i < 9; i++)
		bad[i] = good;
	bad[0].base = NULL;
	bad[1].size_bytes = 0;
	bad[2].align_bytes = 96;
	bad[3].align_bytes = 32;
	bad[4].align_bytes = 4u << 20;
	bad[5].shards = 3;
	bad[6].policy = (enum far_l1_policy)(FAR_L1_NONE + 1);
	bad[7].loans_max = UINT32_MAX;
	bad[8].sessions_max = 70000;
	for (size_t i = 0; i < 9; i++) {
		assert_int_equal(far_l1_open(&bad[i], &l1), -EINVAL);
		assert_null(l1);
	}
	assert_int_equal(far_l1_open(&good, &l1), 0);
	far_l1_close(l1);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
an_unaligned_arena_loses_its_ends_only(void **state)
{
	struct far_clock_fake clock;
	uint8_t *raw = far_zalloc_aligned(UNIT, (size_t)4 * UNIT);
	struct far_l1_config config = {.base = raw + 64,
				       .size_bytes = (uint64_t)4 * UNIT - 64,
				       .align_bytes = UNIT,
				       .block_bytes_min = UNIT,
				       .clock = &clock.clock};
	struct far_l1_want want = {.key = key_n(1), .size_bytes = 3 * UNIT};
	struct far_l1_grant grant;
	struct far_l1 *l1 = NULL;
	far_l1_session session;
	int rc;
	(void)state;

	far_clock_fake_init(&clock, 0);
	assert_int_equal(far_l1_open(&config, &l1), 0);
	assert_int_equal(far_l1_session_open(l1, "test", &session), 0);
	assert_int_equal(far_l1_reserve_write(l1, session, &want, 1, &grant), 1);
	assert_ptr_equal(grant.addr, raw + UNIT);
	assert_int_equal(grant.offset_bytes, UNIT - 64);
	far_l1_abort_write(l1, session, &grant.loan, 1, &rc);
	far_l1_session_close(l1, session);
	far_l1_close(l1);
	far_free(raw);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
open_when_any_allocation_fails_leaves_nothing_behind(void **state)
{
	static uint8_t arena[16 * UNIT];
	const struct far_l1_config config = {.base = arena, .size_bytes = sizeof(arena)};
	struct far_l1 *l1 = NULL;
	int failed = 0;
	(void)state;

	for (uint64_t n = 1; n < 100; n++) {
		int rc;

		far_alloc_fail_nth(n);
		rc = far_l1_open(&config, &l1);
		far_alloc_fail_nth(0);
		if (rc == 0)
			break;
		failed++;
		assert_int_equal(rc, -ENOMEM);
		assert_null(l1);
		assert_int_equal(far_alloc_live_bytes(), 0);
	}
	assert_true(failed >= 5);
	far_l1_close(l1);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_batch_is_granted_in_key_order_until_memory_ends),
		cmocka_unit_test(what_memory_does_not_reach_is_refused_with_all_behind_it),
		cmocka_unit_test(wrong_wants_are_refused_one_by_one),
		cmocka_unit_test(reservation_evicts_the_least_recently_used_and_no_more),
		cmocka_unit_test(the_release_is_a_use),
		cmocka_unit_test(the_tail_of_a_prefix_goes_before_its_head),
		cmocka_unit_test(locked_blocks_are_not_evicted_and_not_forgotten),
		cmocka_unit_test(nothing_is_evicted_for_a_key_that_is_not_granted),
		cmocka_unit_test(a_key_that_is_there_is_not_evicted_for_another_of_the_same_call),
		cmocka_unit_test(a_full_table_evicts_like_a_full_arena),
		cmocka_unit_test(running_out_of_loans_is_no_memory_and_evicts_nothing),
		cmocka_unit_test(the_policy_none_never_evicts),
		cmocka_unit_test(a_racing_evictor_cannot_shrink_a_held_prefix),
		cmocka_unit_test(eviction_after_very_many_uses_still_takes_an_old_one),
		cmocka_unit_test(a_configuration_outside_of_the_bounds_is_refused),
		cmocka_unit_test(an_unaligned_arena_loses_its_ends_only),
		cmocka_unit_test(open_when_any_allocation_fails_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
