/* store_keep.c - what a policy says is done: who gets a block, and whether L1 keeps it when it is stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"
#include "tests/support/log_capture.h"

#include "base/err.h"

static struct ctl_rig rig;

static void
open_with(uint32_t fakes, const char *policy)
{
	struct ctl_options options = {.fakes = fakes, .store = true, .store_policy = policy};

	ctl_rig_open(&rig, &options);
}

/* A policy of the test's own, with the default's other answers. */
static void
open_own(uint32_t fakes, const struct far_store_policy_ops *places,
	 const struct far_store_policy_ops *keeps)
{
	static struct far_store_policy own;
	struct ctl_options options = {.fakes = fakes, .store = true};

	own = (struct far_store_policy){
		.admits = &far_store_policy_default,
		.places = places,
		.keeps = keeps,
		.placement = &rig.policy,
	};
	options.store_config.policy = &own;
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

static enum far_l1_state
state_of(uint64_t number)
{
	struct far_key key = fake_l2_key(number);

	return far_l1_state_get(rig.l1, &key);
}

static uint64_t
read_lock(uint64_t number)
{
	struct far_key key = fake_l2_key(number);
	struct far_l1_grant grant;

	assert_int_equal(far_l1_reserve_read(rig.l1, rig.other, &key, NULL, 1, 1, &grant), 1);
	return grant.loan;
}

static void
read_unlock(uint64_t loan)
{
	int rc;

	assert_int_equal(far_l1_finish_read(rig.l1, rig.other, &loan, 1, 1, &rc), 1);
}

static uint64_t
l1_blocks(void)
{
	struct far_l1_usage usage;

	far_l1_usage_get(rig.l1, &usage);
	return usage.block_count;
}

/* ---- skip_l1 ---- */

static void
block_that_is_stored_leaves_l1(void **state)
{
	(void)state;
	open_with(1, "skip_l1");
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	assert_int_equal(state_of(1), FAR_L1_READ_LOCKED);
	ctl_rig_run(&rig);
	assert_true(fake_has(0, 1));
	assert_int_equal(state_of(1), FAR_L1_ABSENT);
	assert_int_equal(counts_now().let_go, 1);
	ctl_rig_close(&rig);
}

static void
many_blocks_that_are_stored_leave_l1_empty(void **state)
{
	(void)state;
	open_with(2, "placement,skip_l1");
	for (uint64_t i = 0; i < 50; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 50; i++)
		assert_int_equal(fake_has(0, i) + fake_has(1, i), 1);
	assert_int_equal(l1_blocks(), 0);
	assert_int_equal(counts_now().let_go, 50);
	ctl_rig_close(&rig);
}

/* With an L1 that never evicts: nothing else makes room. */
static void
l1_that_never_evicts_takes_more_than_it_holds_if_it_keeps_nothing(void **state)
{
	struct ctl_options options = {
		.store = true,
		.store_policy = "skip_l1",
		.l1_blocks = 8,
		.l1_policy = FAR_L1_NONE,
	};

	(void)state;
	ctl_rig_open(&rig, &options);
	for (uint64_t i = 0; i < 100; i++) {
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
		if (i % 4 == 3)
			ctl_rig_run(&rig);
	}
	assert_int_equal(counts_now().blocks_stored, 100);
	ctl_rig_close(&rig);
}

static void
block_with_readers_stays_until_the_last_is_gone(void **state)
{
	uint64_t first, second;

	(void)state;
	open_with(1, "skip_l1");
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	first = read_lock(1);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().let_go, 1);
	assert_int_equal(state_of(1), FAR_L1_READ_LOCKED);
	second = read_lock(1);
	read_unlock(first);
	assert_int_equal(state_of(1), FAR_L1_READ_LOCKED);
	read_unlock(second);
	assert_int_equal(state_of(1), FAR_L1_ABSENT);
	ctl_rig_close(&rig);
}

static void
block_that_one_adapter_did_not_get_stays_in_l1(void **state)
{
	(void)state;
	open_with(2, "skip_l1");
	ctl_rig_fail(&rig, 1, 1, FAR_L2_STORE, -EMSGSIZE, 1);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_write(&rig, 2, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_true(fake_has(0, 1));
	assert_false(fake_has(1, 1));
	assert_int_equal(state_of(1), FAR_L1_READY);
	assert_int_equal(state_of(2), FAR_L1_ABSENT);
	assert_int_equal(counts_now().blocks_stored, 3);
	assert_int_equal(counts_now().failed_other, 1);
	ctl_rig_close(&rig);
}

static void
block_that_is_stored_at_the_second_try_leaves_l1_then(void **state)
{
	(void)state;
	open_with(2, "skip_l1");
	ctl_rig_fail(&rig, 1, 1, FAR_L2_STORE, -ENOSPC, 1);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(state_of(1), FAR_L1_READ_LOCKED);
	ctl_rig_advance(&rig, FAR_NS_PER_MS);
	assert_int_equal(state_of(1), FAR_L1_ABSENT);
	ctl_rig_close(&rig);
}

static void
block_that_the_adapters_had_already_leaves_l1_too(void **state)
{
	(void)state;
	open_with(1, "skip_l1");
	ctl_rig_put(&rig, 0, 1, 1);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_had, 1);
	assert_int_equal(state_of(1), FAR_L1_ABSENT);
	ctl_rig_close(&rig);
}

static void
what_quiesce_drops_stays_in_l1(void **state)
{
	(void)state;
	open_with(1, "skip_l1");
	rig.fakes[0].held[FAR_L2_STORE] = true;
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	ctl_rig_write(&rig, 2, CTL_BLOCK_BYTES);
	far_store_quiesce(rig.store);
	assert_int_equal(state_of(2), FAR_L1_READY);
	/* What was on its way gets there, and leaves. */
	rig.fakes[0].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	assert_int_equal(state_of(1), FAR_L1_ABSENT);
	ctl_rig_close(&rig);
}

static void
block_without_any_adapter_stays_in_l1(void **state)
{
	(void)state;
	open_with(FAR_L2_SET_MAX, "skip_l1");
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(state_of(1), FAR_L1_READY);
	assert_int_equal(counts_now().dropped_unplaced, 1);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

/* ---- policies of others ---- */

static uint32_t
place_none(const struct far_store_policy *policy, const struct far_l2_set *set,
	   const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	(void)policy;
	(void)set;
	(void)key;
	(void)max;
	idx_out[0] = 0; /* and does not count it */
	return 0;
}

static uint32_t
place_last(const struct far_store_policy *policy, const struct far_l2_set *set,
	   const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	(void)policy;
	(void)key;
	(void)max;
	idx_out[0] = set->count - 1;
	return 1;
}

/* Nobody, the first twice, and the second. */
static uint32_t
place_wildly(const struct far_store_policy *policy, const struct far_l2_set *set,
	     const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	(void)policy;
	(void)key;
	(void)max;
	idx_out[0] = UINT32_MAX;
	idx_out[1] = 0;
	idx_out[2] = 0;
	idx_out[3] = 1;
	idx_out[4] = set->count;
	return 5;
}

static uint32_t
place_beyond(const struct far_store_policy *policy, const struct far_l2_set *set,
	     const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	(void)policy;
	(void)set;
	(void)key;
	for (uint32_t i = 0; i < max; i++)
		idx_out[i] = 1000 + i;
	return UINT32_MAX;
}

static struct far_store_policy_ops
own_ops(uint32_t (*place)(const struct far_store_policy *policy, const struct far_l2_set *set,
			  const struct far_key *key, uint32_t *idx_out, uint32_t max))
{
	struct far_store_policy_ops ops = far_store_policy_default;

	ops.name = "own";
	ops.place = place;
	return ops;
}

static void
policy_that_names_no_adapter_stores_nothing_and_locks_nothing(void **state)
{
	struct far_store_policy_ops ops = own_ops(place_none);

	(void)state;
	open_own(2, &ops, &far_store_policy_default);
	for (uint64_t i = 0; i < 5; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE] + rig.fakes[1].submits[FAR_L2_STORE],
			 0);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	assert_int_equal(counts_now().dropped_unplaced, 5);
	ctl_rig_close(&rig);
}

static void
policy_that_names_one_of_several_is_followed(void **state)
{
	struct far_store_policy_ops ops = own_ops(place_last);

	(void)state;
	open_own(3, &ops, &far_store_policy_default);
	for (uint64_t i = 0; i < 5; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 5; i++) {
		assert_false(fake_has(0, i));
		assert_false(fake_has(1, i));
		assert_true(fake_has(2, i));
	}
	ctl_rig_close(&rig);
}

static bool
keep_even(const struct far_store_policy *policy, const struct far_key *key)
{
	(void)policy;
	return (key->bytes[0] & 1) == 0;
}

static void
policy_that_keeps_some_is_asked_block_by_block(void **state)
{
	struct far_store_policy_ops ops = far_store_policy_default;
	uint64_t kept = 0;

	(void)state;
	ops.keep = keep_even;
	open_own(1, &far_store_policy_default, &ops);
	for (uint64_t i = 0; i < 40; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 40; i++) {
		struct far_key key = fake_l2_key(i);
		bool even = keep_even(NULL, &key);

		assert_int_equal(state_of(i), even ? FAR_L1_READY : FAR_L1_ABSENT);
		kept += even;
	}
	assert_in_range(kept, 1, 39);
	assert_int_equal(l1_blocks(), kept);
	ctl_rig_close(&rig);
}

static void
adapter_that_is_none_or_named_twice_is_skipped_and_warned_of_once(void **state)
{
	struct far_store_policy_ops ops = own_ops(place_wildly);

	(void)state;
	far_log_capture_start();
	far_log_capture_expect("store policy own names adapter");
	/* A block that was not stored as the policy said is not given up either. */
	open_own(2, &ops, &far_store_policy_skip_l1);
	for (uint64_t i = 0; i < 5; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 5; i++) {
		assert_true(fake_has(0, i));
		assert_true(fake_has(1, i));
		assert_int_equal(state_of(i), FAR_L1_READY);
	}
	assert_int_equal(counts_now().policy_invalid, 15);
	assert_int_equal(counts_now().blocks_stored, 10);
	assert_int_equal(far_log_capture_count("store policy"), 1);
	ctl_rig_close(&rig);
	far_log_capture_finish();
}

static void
answer_longer_than_the_array_is_cut_and_counted(void **state)
{
	struct far_store_policy_ops ops = own_ops(place_beyond);

	(void)state;
	far_log_capture_start();
	far_log_capture_expect("store policy own names adapter");
	open_own(2, &ops, &far_store_policy_default);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().policy_invalid, FAR_L2_SET_MAX);
	assert_int_equal(counts_now().dropped_unplaced, 1);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
	far_log_capture_finish();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(block_that_is_stored_leaves_l1),
		cmocka_unit_test(many_blocks_that_are_stored_leave_l1_empty),
		cmocka_unit_test(l1_that_never_evicts_takes_more_than_it_holds_if_it_keeps_nothing),
		cmocka_unit_test(block_with_readers_stays_until_the_last_is_gone),
		cmocka_unit_test(block_that_one_adapter_did_not_get_stays_in_l1),
		cmocka_unit_test(block_that_is_stored_at_the_second_try_leaves_l1_then),
		cmocka_unit_test(block_that_the_adapters_had_already_leaves_l1_too),
		cmocka_unit_test(what_quiesce_drops_stays_in_l1),
		cmocka_unit_test(block_without_any_adapter_stays_in_l1),
		cmocka_unit_test(policy_that_names_no_adapter_stores_nothing_and_locks_nothing),
		cmocka_unit_test(policy_that_names_one_of_several_is_followed),
		cmocka_unit_test(policy_that_keeps_some_is_asked_block_by_block),
		cmocka_unit_test(adapter_that_is_none_or_named_twice_is_skipped_and_warned_of_once),
		cmocka_unit_test(answer_longer_than_the_array_is_cut_and_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
