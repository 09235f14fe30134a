/* store_drain.c - an adapter is taken out while blocks wait for it: they go elsewhere, or are counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

static struct ctl_rig rig;

static void
open_with(uint32_t fakes, const char *policy)
{
	struct ctl_options options = {
		.fakes = fakes,
		.store = true,
		.store_policy = policy,
		.recorder = true,
		.store_config = {.batch_max = 2},
	};

	ctl_rig_open(&rig, &options);
}

static struct far_store_counts
counts_now(void)
{
	struct far_store_counts counts;

	far_store_counts_get(rig.store, &counts);
	return counts;
}

static bool
fake_has(uint32_t fake, uint64_t number)
{
	struct far_key key = fake_l2_key(number);

	return fake_l2_has(&rig.fakes[fake], &key);
}

static void
what_waits_for_a_drained_adapter_goes_where_the_policy_says_now(void **state)
{
	uint64_t total = 0;
	uint32_t kept;

	(void)state;
	open_with(3, "placement");
	/* It keeps its share of tasks, two blocks each; the rest waits. */
	rig.fakes[1].held[FAR_L2_STORE] = true;
	for (uint64_t i = 0; i < 60; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	far_l2_set_drain(&rig.set, 1);
	ctl_rig_run(&rig);
	/* What it was given is awaited: it may be reading those bytes. */
	assert_true(far_store_names(rig.store, 1));
	assert_true(counts_now().moved > 0);
	kept = 2 * fake_l2_live(&rig.fakes[1], FAR_L2_STORE);
	assert_int_equal(counts_now().blocks_pending, kept);
	rig.fakes[1].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	assert_false(far_store_names(rig.store, 1));
	(void)far_l2_set_remove(&rig.set, 1);
	for (uint64_t i = 0; i < 60; i++)
		total += (uint64_t)fake_has(0, i) + fake_has(1, i) + fake_has(2, i);
	assert_int_equal(total, 60);
	assert_int_equal(counts_now().blocks_stored, 60);
	ctl_rig_close(&rig);
}

static void
copy_that_nobody_else_is_to_have_is_counted_as_drained(void **state)
{
	uint32_t kept;

	(void)state;
	open_with(2, "default");
	rig.fakes[1].held[FAR_L2_STORE] = true;
	for (uint64_t i = 0; i < 20; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	far_l2_set_drain(&rig.set, 1);
	ctl_rig_run(&rig);
	/* The other adapter has a copy of each already. */
	assert_int_equal(counts_now().moved, 0);
	kept = 2 * fake_l2_live(&rig.fakes[1], FAR_L2_STORE);
	assert_in_range(kept, 2, 18);
	assert_int_equal(counts_now().failed_drained, 20 - kept);
	rig.fakes[1].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_stored, 20 + kept);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
try_that_fails_at_a_drained_adapter_is_made_elsewhere(void **state)
{
	struct far_key key = fake_l2_key(1);
	uint32_t at = 9;

	(void)state;
	open_with(2, "placement");
	assert_int_equal(far_policy_placement.place(&rig.policy, &rig.set, &key, &at, 1), 1);
	rig.fakes[at].held[FAR_L2_STORE] = true;
	ctl_rig_fail(&rig, at, 1, FAR_L2_STORE, -ECANCELED, 1);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	far_l2_set_drain(&rig.set, at);
	rig.fakes[at].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	assert_true(fake_has(1 - at, 1));
	assert_int_equal(counts_now().moved, 1);
	assert_false(far_store_names(rig.store, at));
	ctl_rig_close(&rig);
}

static void
last_adapter_that_is_drained_leaves_nothing_waiting(void **state)
{
	(void)state;
	open_with(1, "skip_l1");
	rig.fakes[0].down = true;
	for (uint64_t i = 0; i < 4; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	far_l2_set_drain(&rig.set, 0);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().failed_drained, 4);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	for (uint64_t i = 0; i < 4; i++)
		assert_true(ctl_rig_resident(&rig, i));
	/* What is written now has nobody. */
	ctl_rig_write(&rig, 9, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().dropped_unplaced, 1);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_waits_for_a_drained_adapter_goes_where_the_policy_says_now),
		cmocka_unit_test(copy_that_nobody_else_is_to_have_is_counted_as_drained),
		cmocka_unit_test(try_that_fails_at_a_drained_adapter_is_made_elsewhere),
		cmocka_unit_test(last_adapter_that_is_drained_leaves_nothing_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
