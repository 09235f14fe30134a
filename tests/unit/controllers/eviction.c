/* eviction.c - the eviction controller: begins above one mark, ends at the other, in steps. */
#include "controllers/eviction.h"

#include <math.h>

#include "tests/unit/l1/fixture.h"

#define UNITS 100u

static const struct far_eviction_config config = {
	.high = 0.9, .low = 0.5, .step_max = 8, .period_ns = 1000};

struct rig {
	struct fixture f;
	struct far_eviction *ctl;
};

static void
rig_open(struct rig *rig, enum far_l1_policy policy)
{
	fixture_open(&rig->f, UNITS, (struct far_l1_config){.policy = policy});
	assert_int_equal(far_eviction_open(&config, rig->f.l1, &rig->ctl), 0);
}

static void
rig_close(struct rig *rig)
{
	far_eviction_close(rig->ctl);
	fixture_close(&rig->f);
}

static void
fill(struct rig *rig, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++)
		put(&rig->f, i, UNIT);
}

static struct far_eviction_counts
counts_of(const struct rig *rig)
{
	struct far_eviction_counts counts;

	far_eviction_counts_get(rig->ctl, &counts);
	return counts;
}

/* Ticks until it wants to wait; returns how often. */
static uint32_t
run(struct rig *rig)
{
	uint32_t ticks = 1;

	while (far_eviction_tick(rig->ctl, 7) == 7) {
		ticks++;
		assert_true(ticks < 1000);
	}
	return ticks;
}

static void
nothing_goes_up_to_the_high_mark(void **state)
{
	struct rig rig;
	(void)state;

	rig_open(&rig, FAR_L1_LRU);
	assert_int_equal(far_eviction_tick(rig.ctl, 5), 1005);
	fill(&rig, 0, 90);
	assert_int_equal(far_eviction_tick(rig.ctl, 7), 1007);
	assert_int_equal(usage_of(&rig.f).block_count, 90);
	assert_int_equal(counts_of(&rig).rounds, 0);
	rig_close(&rig);
}

static void
above_it_eviction_goes_down_to_the_low_mark_in_bounded_steps(void **state)
{
	static const enum far_l1_policy policies[] = {FAR_L1_LRU, FAR_L1_S3FIFO};
	(void)state;

	for (int p = 0; p < 2; p++) {
		struct rig rig;

		rig_open(&rig, policies[p]);
		fill(&rig, 0, 91);
		assert_int_equal(far_eviction_tick(rig.ctl, 7), 7);
		assert_int_equal(usage_of(&rig.f).block_count, 83);
		/* Below the high mark it goes on: 41 blocks in steps of 8. */
		assert_int_equal(run(&rig), 5);
		assert_int_equal(usage_of(&rig.f).block_count, 50);
		assert_int_equal(state_of(&rig.f, 40), FAR_L1_ABSENT);
		assert_int_equal(state_of(&rig.f, 41), FAR_L1_READY);
		assert_int_equal(counts_of(&rig).rounds, 1);
		assert_int_equal(counts_of(&rig).blocks, 41);
		assert_int_equal(counts_of(&rig).bytes, 41 * UNIT);
		assert_int_equal(counts_of(&rig).starved, 0);
		/* And begins again above the high mark alone. */
		fill(&rig, 200, 40);
		assert_int_equal(run(&rig), 1);
		assert_int_equal(usage_of(&rig.f).block_count, 90);
		rig_close(&rig);
	}
}

static void
a_reservation_between_the_marks_evicts_nothing_itself(void **state)
{
	struct rig rig;
	(void)state;

	rig_open(&rig, FAR_L1_LRU);
	for (uint64_t i = 0; i < 2000; i++) {
		put(&rig.f, i, UNIT);
		if (i % 8 == 0)
			run(&rig);
	}
	assert_int_equal(usage_of(&rig.f).evicted_blocks, counts_of(&rig).blocks);
	assert_true(counts_of(&rig).blocks > 1800);
	rig_close(&rig);
}

static void
what_others_let_go_ends_a_round(void **state)
{
	struct rig rig;
	(void)state;

	rig_open(&rig, FAR_L1_LRU);
	fill(&rig, 0, 95);
	assert_int_equal(far_eviction_tick(rig.ctl, 7), 7);
	for (uint64_t i = 0; i < 95; i++)
		(void)delete_one(&rig.f, i, false);
	assert_int_equal(far_eviction_tick(rig.ctl, 8), 1008);
	assert_int_equal(counts_of(&rig).blocks, 8);
	rig_close(&rig);
}

static void
locked_blocks_are_spared_and_a_round_that_finds_no_more_waits(void **state)
{
	struct rig rig;
	struct far_l1_grant held[80];
	(void)state;

	rig_open(&rig, FAR_L1_LRU);
	fill(&rig, 0, 95);
	for (uint64_t i = 0; i < 80; i++)
		assert_int_equal(read_one(&rig.f, i, 1, &held[i]), 0);
	assert_int_equal(run(&rig), 2);
	assert_int_equal(usage_of(&rig.f).block_count, 80);
	assert_int_equal(counts_of(&rig).blocks, 15);
	assert_int_equal(counts_of(&rig).starved, 1);
	for (uint64_t i = 0; i < 80; i++)
		assert_int_equal(release_one(&rig.f, held[i].loan, 1), 0);
	rig_close(&rig);
}

static void
with_the_policy_none_nothing_ever_goes(void **state)
{
	struct rig rig;
	(void)state;

	rig_open(&rig, FAR_L1_NONE);
	fill(&rig, 0, 100);
	assert_int_equal(far_eviction_tick(rig.ctl, 7), 1007);
	assert_int_equal(usage_of(&rig.f).block_count, 100);
	assert_int_equal(counts_of(&rig).blocks, 0);
	assert_int_equal(counts_of(&rig).starved, 1);
	rig_close(&rig);
}

static void
marks_outside_of_their_bounds_are_refused(void **state)
{
	struct far_eviction_config bad[] = {
		{.high = 1.01, .low = 0.5, .step_max = 1, .period_ns = 1},
		{.high = 0.5, .low = 0.5, .step_max = 1, .period_ns = 1},
		{.high = 0.5, .low = 0.6, .step_max = 1, .period_ns = 1},
		{.high = 0.5, .low = -0.1, .step_max = 1, .period_ns = 1},
		{.high = (double)NAN, .low = 0.5, .step_max = 1, .period_ns = 1},
		{.high = 0.5, .low = (double)NAN, .step_max = 1, .period_ns = 1},
		{.high = 0.9, .low = 0.5, .step_max = 0, .period_ns = 1},
		{.high = 0.9, .low = 0.5, .step_max = 1, .period_ns = 0},
	};
	struct far_eviction *ctl = NULL;
	struct fixture f;
	(void)state;

	fixture_open(&f, 4, (struct far_l1_config){0});
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(far_eviction_open(&bad[i], f.l1, &ctl), -EINVAL);
	assert_null(ctl);
	far_alloc_fail_nth(1);
	assert_int_equal(far_eviction_open(&config, f.l1, &ctl), -ENOMEM);
	assert_null(ctl);
	far_eviction_close(NULL);
	fixture_close(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_goes_up_to_the_high_mark),
		cmocka_unit_test(above_it_eviction_goes_down_to_the_low_mark_in_bounded_steps),
		cmocka_unit_test(a_reservation_between_the_marks_evicts_nothing_itself),
		cmocka_unit_test(what_others_let_go_ends_a_round),
		cmocka_unit_test(locked_blocks_are_spared_and_a_round_that_finds_no_more_waits),
		cmocka_unit_test(with_the_policy_none_nothing_ever_goes),
		cmocka_unit_test(marks_outside_of_their_bounds_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
