/* store_fault.c - stores that fail, are full, die or stop: retries, counts, and who goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

static struct ctl_rig rig;

static void
open_with(uint32_t fakes)
{
	struct ctl_options options = {.fakes = fakes, .store = true};

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
passing_failure_is_tried_again_after_a_pause_that_doubles(void **state)
{
	static const int rcs[] = {-EHOSTDOWN, -ENOSPC, -ETIMEDOUT, -EIO};

	(void)state;
	for (size_t i = 0; i < sizeof(rcs) / sizeof(rcs[0]); i++) {
		open_with(1);
		ctl_rig_fail(&rig, 0, 1, FAR_L2_STORE, rcs[i], 2);
		ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
		ctl_rig_run(&rig);
		assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 1);
		assert_int_equal(rig.next_ns, far_clock_now(&rig.clock.clock) + FAR_NS_PER_MS);
		ctl_rig_advance(&rig, FAR_NS_PER_MS - 1);
		assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 1);
		ctl_rig_advance(&rig, 1);
		assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 2);
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
		assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 2);
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
		assert_true(fake_has(0, 1));
		assert_int_equal(counts_now().retries, 2);
		assert_int_equal(counts_now().blocks_stored, 1);
		assert_int_equal(ctl_rig_loans(&rig), 0);
		ctl_rig_close(&rig);
	}
}

static void
last_try_that_fails_is_counted_by_its_reason_and_releases_the_loan(void **state)
{
	static const int rcs[] = {-EHOSTDOWN, -ENOSPC, -ETIMEDOUT, -EIO};
	struct far_store_counts counts;

	(void)state;
	open_with(1);
	for (uint64_t i = 0; i < 4; i++) {
		ctl_rig_fail(&rig, 0, i, FAR_L2_STORE, rcs[i], 100);
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	}
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 4);
	for (int i = 0; i < 10; i++)
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
	counts = counts_now();
	assert_int_equal(counts.failed_donor_down, 1);
	assert_int_equal(counts.failed_full, 1);
	assert_int_equal(counts.failed_deadline, 1);
	assert_int_equal(counts.failed_other, 1);
	assert_int_equal(counts.retries, 8);
	assert_int_equal(counts.blocks_pending, 0);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
lasting_failure_is_not_tried_again(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_fail(&rig, 0, 1, FAR_L2_STORE, -EMSGSIZE, 1);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().failed_other, 1);
	assert_int_equal(counts_now().retries, 0);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
one_key_that_fails_does_not_fail_its_task(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_fail(&rig, 0, 3, FAR_L2_STORE, -EMSGSIZE, 1);
	for (uint64_t i = 0; i < 8; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(fake_has(0, i), i != 3);
	ctl_rig_close(&rig);
}

static void
dead_donor_costs_its_copies_alone(void **state)
{
	(void)state;
	open_with(2);
	rig.fakes[1].down = true;
	for (uint64_t i = 0; i < 8; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	for (int i = 0; i < 10; i++)
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
	assert_int_equal(counts_now().blocks_stored, 8);
	assert_int_equal(counts_now().failed_donor_down, 8);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
copies_of_a_donor_that_goes_away_go_to_its_stand_in(void **state)
{
	struct ctl_options options = {
		.fakes = 3,
		.store = true,
		.policy = "placement",
	};
	uint32_t owners[8][2], owner, there = 0;

	(void)state;
	ctl_rig_open(&rig, &options);
	for (uint64_t i = 0; i < 8; i++) {
		struct far_key key = fake_l2_key(i);

		assert_int_equal(rig.policy.route(&rig.policy, &rig.set, &key, owners[i], 2), 2);
	}
	owner = owners[0][0];
	/* It is down, and nobody has noticed: the first try notices. */
	rig.fakes[owner].held[FAR_L2_STORE] = true;
	for (uint64_t i = 0; i < 8; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	rig.fakes[owner].held[FAR_L2_STORE] = false;
	rig.fakes[owner].down = true;
	rig.fakes[owner].l2.away = true;
	for (int i = 0; i < 10; i++)
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
	for (uint64_t i = 0; i < 8; i++) {
		there += owners[i][0] == owner;
		assert_true(fake_has(owners[i][owners[i][0] == owner], i));
	}
	assert_int_equal(counts_now().moved, there);
	assert_int_equal(counts_now().retries, 0);
	assert_int_equal(counts_now().blocks_stored, 8);
	assert_int_equal(counts_now().failed_donor_down, 0);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

/* Else three tries are over before a link can be there again. */
static void
copy_waits_where_all_who_could_take_it_are_away(void **state)
{
	struct ctl_options options = {
		.fakes = 2,
		.store = true,
		.policy = "placement",
	};
	struct far_key key = fake_l2_key(1);
	uint32_t order[2];

	(void)state;
	ctl_rig_open(&rig, &options);
	assert_int_equal(rig.policy.route(&rig.policy, &rig.set, &key, order, 2), 2);
	rig.fakes[order[0]].down = true;
	rig.fakes[order[0]].l2.away = true;
	rig.fakes[order[1]].held[FAR_L2_STORE] = true;
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	rig.fakes[order[1]].held[FAR_L2_STORE] = false;
	rig.fakes[order[1]].down = true;
	rig.fakes[order[1]].l2.away = true;
	ctl_rig_advance(&rig, FAR_NS_PER_US);
	assert_int_equal(counts_now().moved, 0);
	assert_int_equal(counts_now().retries, 1);
	assert_int_equal(rig.fakes[order[0]].submits[FAR_L2_STORE], 0);
	/* It is back before the next try. */
	rig.fakes[order[1]].down = false;
	rig.fakes[order[1]].l2.away = false;
	for (int i = 0; i < 100; i++)
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
	assert_true(fake_has(order[1], 1));
	assert_int_equal(counts_now().failed_donor_down, 0);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
copy_that_every_donor_fails_has_its_tries_and_no_more(void **state)
{
	struct ctl_options options = {
		.fakes = 2,
		.store = true,
		.policy = "placement",
	};

	(void)state;
	ctl_rig_open(&rig, &options);
	for (uint32_t i = 0; i < 2; i++)
		ctl_rig_fail(&rig, i, 1, FAR_L2_STORE, -EHOSTDOWN, 100);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	/* Each is away once the other was asked, so that the copy is always to move. */
	for (int i = 0; i < 40; i++) {
		uint64_t asked = rig.fakes[0].submits[FAR_L2_STORE];

		ctl_rig_advance(&rig, FAR_NS_PER_MS);
		rig.fakes[0].l2.away = rig.fakes[0].submits[FAR_L2_STORE] > asked;
		rig.fakes[1].l2.away = !rig.fakes[0].l2.away;
	}
	assert_int_equal(counts_now().failed_donor_down, 1);
	assert_true(counts_now().moved > 0);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE] + rig.fakes[1].submits[FAR_L2_STORE],
			 3);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
stopped_donor_keeps_its_loans_and_the_others_go_on(void **state)
{
	struct ctl_options options = {
		.fakes = 2,
		.store = true,
		.store_config = {.queue_max = 16, .bytes_in_flight_max = 8 * CTL_BLOCK_BYTES},
	};
	struct far_store_counts counts;

	(void)state;
	ctl_rig_open(&rig, &options);
	/* It ends nothing, whatever deadline passes: as if its writes were on the wire. */
	rig.fakes[1].held[FAR_L2_STORE] = true;
	for (uint64_t i = 0; i < 8; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_stored, 8);
	assert_int_equal(fake_l2_live(&rig.fakes[1], FAR_L2_STORE), 1);
	for (int i = 0; i < 20; i++) {
		ctl_rig_write(&rig, 10 + (uint64_t)i, CTL_BLOCK_BYTES);
		ctl_rig_advance(&rig, FAR_NS_PER_S / 4);
		assert_true(fake_has(0, 10 + (uint64_t)i));
	}
	counts = counts_now();
	assert_int_equal(counts.blocks_stored, 28);
	/* What it never got was given up; what it has is kept: its bytes are somebody else's until done. */
	assert_true(counts.failed_deadline >= 16);
	assert_true(ctl_rig_loans(&rig) >= 4);
	for (uint64_t i = 0; i < 4; i++) {
		struct far_key key = fake_l2_key(i);

		assert_int_equal(far_l1_state_get(rig.l1, &key), FAR_L1_READ_LOCKED);
	}
	rig.fakes[1].held[FAR_L2_STORE] = false;
	rig.fakes[1].deaf_cancel = true;
	ctl_rig_run(&rig);
	assert_true(fake_has(1, 0));
	for (int i = 0; i < 4; i++)
		ctl_rig_advance(&rig, FAR_NS_PER_S);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
stopped_donor_does_not_fill_the_queue(void **state)
{
	struct ctl_options options = {
		.fakes = 2,
		.placement = true,
		.store = true,
		.store_config = {.queue_max = 16, .bytes_in_flight_max = 8 * CTL_BLOCK_BYTES},
	};
	uint64_t stored_by_zero = 0;

	(void)state;
	ctl_rig_open(&rig, &options);
	rig.fakes[1].held[FAR_L2_STORE] = true;
	for (uint64_t i = 0; i < 100; i++) {
		struct far_key key = fake_l2_key(i);
		uint32_t idx = 99;

		(void)rig.policy.place(&rig.policy, &rig.set, &key, &idx, 1);
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
		ctl_rig_run(&rig);
		stored_by_zero += idx == 0;
		assert_int_equal(fake_has(0, i), idx == 0);
	}
	assert_true(stored_by_zero > 20);
	assert_int_equal(counts_now().blocks_stored, stored_by_zero);
	ctl_rig_close(&rig);
}

static void
quiesce_ends_what_waits_for_another_try(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_fail(&rig, 0, 1, FAR_L2_STORE, -ENOSPC, 100);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 1);
	far_store_quiesce(rig.store);
	assert_true(far_store_idle(rig.store));
	assert_int_equal(counts_now().failed_full, 1);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
barrier_passes_what_failed_for_good(void **state)
{
	uint64_t barrier;

	(void)state;
	open_with(1);
	rig.fakes[0].down = true;
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	barrier = far_store_barrier(rig.store);
	ctl_rig_run(&rig);
	assert_false(far_store_passed(rig.store, barrier));
	for (int i = 0; i < 10; i++)
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
	assert_true(far_store_passed(rig.store, barrier));
	ctl_rig_close(&rig);
}

static struct far_store_adapter_counts
adapter_now(uint32_t idx)
{
	struct far_store_adapter_counts counts;

	far_store_adapter_counts_get(rig.store, idx, &counts);
	return counts;
}

static void
task_that_the_adapter_refuses_ends_as_any_other_and_gives_its_loans_back(void **state)
{
	(void)state;
	open_with(1);
	/* More tasks than it takes: it says so for each of them, through done. */
	for (uint64_t i = 0; i < 8; i++) {
		ctl_rig_fail(&rig, 0, i, FAR_L2_STORE, -EAGAIN, i < 4 ? 1 : 100);
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	}
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().retries, 8);
	for (int i = 0; i < 10; i++)
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
	assert_int_equal(counts_now().blocks_stored, 4);
	assert_int_equal(counts_now().failed_other, 4);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
block_stored_here_and_failed_there_is_counted_once_on_each_side(void **state)
{
	(void)state;
	open_with(2);
	ctl_rig_fail(&rig, 1, 1, FAR_L2_STORE, -ENOSPC, 100);
	ctl_rig_fail(&rig, 0, 2, FAR_L2_STORE, -EMSGSIZE, 100);
	ctl_rig_put(&rig, 1, 3, 1);
	for (uint64_t i = 0; i < 4; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	for (int i = 0; i < 10; i++)
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
	assert_int_equal(counts_now().blocks_placed, 4);
	assert_int_equal(counts_now().pairs_placed, 8);
	assert_int_equal(adapter_now(0).stored, 3);
	assert_int_equal(adapter_now(0).failed, 1);
	assert_int_equal(adapter_now(0).retries, 0);
	assert_int_equal(adapter_now(1).stored, 2);
	assert_int_equal(adapter_now(1).bytes_stored, 2 * CTL_BLOCK_BYTES);
	assert_int_equal(adapter_now(1).had, 1);
	assert_int_equal(adapter_now(1).failed, 1);
	assert_int_equal(adapter_now(1).retries, 2);
	assert_int_equal(counts_now().failed_full, 1);
	assert_int_equal(counts_now().failed_other, 1);
	ctl_rig_close(&rig);
}

static void
stopped_donor_alone_holds_no_more_of_l1_than_the_queue_may(void **state)
{
	struct ctl_options options = {
		.store = true,
		.l1_blocks = 64,
		.store_config = {.queue_bytes_max = 16 * CTL_BLOCK_BYTES},
	};
	struct far_l1_usage usage;

	(void)state;
	ctl_rig_open(&rig, &options);
	rig.fakes[0].held[FAR_L2_STORE] = true;
	/* It ends nothing, and L1 goes on: what is not the queue's is evicted for what comes. */
	for (uint64_t i = 0; i < 500; i++) {
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
		ctl_rig_advance(&rig, FAR_NS_PER_MS);
		far_l1_usage_get(rig.l1, &usage);
		assert_true(usage.locked_bytes <= 16 * CTL_BLOCK_BYTES);
	}
	assert_int_equal(counts_now().blocks_pending, 16);
	assert_int_equal(counts_now().dropped_queue_full, 484);
	ctl_rig_close(&rig);
}

static void
share_of_the_queue_that_is_full_is_counted_as_refused(void **state)
{
	struct ctl_options options = {
		.fakes = 2,
		.store = true,
		.store_config = {.queue_max = 16},
	};

	(void)state;
	ctl_rig_open(&rig, &options);
	rig.fakes[1].held[FAR_L2_STORE] = true;
	for (uint64_t i = 0; i < 40; i++) {
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
		ctl_rig_run(&rig);
	}
	assert_int_equal(counts_now().blocks_stored, 40);
	assert_int_equal(adapter_now(1).pending, 12);
	assert_int_equal(counts_now().refused_share, 28);
	ctl_rig_close(&rig);
	/* All that were pending are in a counter now: the rig has looked. */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passing_failure_is_tried_again_after_a_pause_that_doubles),
		cmocka_unit_test(
			last_try_that_fails_is_counted_by_its_reason_and_releases_the_loan),
		cmocka_unit_test(lasting_failure_is_not_tried_again),
		cmocka_unit_test(one_key_that_fails_does_not_fail_its_task),
		cmocka_unit_test(dead_donor_costs_its_copies_alone),
		cmocka_unit_test(copies_of_a_donor_that_goes_away_go_to_its_stand_in),
		cmocka_unit_test(copy_waits_where_all_who_could_take_it_are_away),
		cmocka_unit_test(copy_that_every_donor_fails_has_its_tries_and_no_more),
		cmocka_unit_test(stopped_donor_keeps_its_loans_and_the_others_go_on),
		cmocka_unit_test(stopped_donor_does_not_fill_the_queue),
		cmocka_unit_test(quiesce_ends_what_waits_for_another_try),
		cmocka_unit_test(barrier_passes_what_failed_for_good),
		cmocka_unit_test(
			task_that_the_adapter_refuses_ends_as_any_other_and_gives_its_loans_back),
		cmocka_unit_test(block_stored_here_and_failed_there_is_counted_once_on_each_side),
		cmocka_unit_test(stopped_donor_alone_holds_no_more_of_l1_than_the_queue_may),
		cmocka_unit_test(share_of_the_queue_that_is_full_is_counted_as_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
