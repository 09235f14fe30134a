/* store.c - from finished writes to the adapters: who gets a block, in what tasks, and its loan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

static struct ctl_rig rig;
static struct ctl_req req;

static void
open_with(uint32_t fakes, bool placement)
{
	struct ctl_options options = {.fakes = fakes, .store = true, .placement = placement};

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
finished_write_is_stored_and_its_loan_released(void **state)
{
	struct far_key key = fake_l2_key(1);

	(void)state;
	open_with(1, false);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	assert_int_equal(rig.wakes, 1);
	/* It cannot be evicted before it was stored. */
	assert_int_equal(far_l1_state_get(rig.l1, &key), FAR_L1_READ_LOCKED);
	assert_int_equal(counts_now().blocks_pending, 1);
	assert_int_equal(counts_now().bytes_pending, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_true(fake_has(0, 1));
	assert_int_equal(far_l1_state_get(rig.l1, &key), FAR_L1_READY);
	assert_int_equal(counts_now().blocks_stored, 1);
	assert_int_equal(counts_now().bytes_stored, CTL_BLOCK_BYTES);
	assert_int_equal(counts_now().blocks_pending, 0);
	assert_int_equal(counts_now().bytes_pending, 0);
	ctl_rig_close(&rig);
}

static void
many_writes_share_a_task(void **state)
{
	(void)state;
	open_with(1, false);
	for (uint64_t i = 0; i < 20; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 20; i++)
		assert_true(fake_has(0, i));
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 2);
	assert_int_equal(rig.fakes[0].batch_max[FAR_L2_STORE], 16);
	ctl_rig_close(&rig);
}

static void
block_goes_to_every_adapter_and_is_held_until_the_last_has_it(void **state)
{
	struct far_key key = fake_l2_key(1);

	(void)state;
	open_with(3, false);
	rig.fakes[2].held[FAR_L2_STORE] = true;
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_true(fake_has(0, 1));
	assert_true(fake_has(1, 1));
	assert_int_equal(far_l1_state_get(rig.l1, &key), FAR_L1_READ_LOCKED);
	rig.fakes[2].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	assert_true(fake_has(2, 1));
	assert_int_equal(far_l1_state_get(rig.l1, &key), FAR_L1_READY);
	assert_int_equal(counts_now().blocks_stored, 3);
	ctl_rig_close(&rig);
}

static void
without_adapters_nothing_is_held(void **state)
{
	(void)state;
	open_with(FAR_L2_SET_MAX, false);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	assert_int_equal(counts_now().blocks_pending, 0);
	assert_int_equal(counts_now().dropped_queue_full, 0);
	ctl_rig_close(&rig);
}

static void
placement_gives_each_block_to_its_own_adapter(void **state)
{
	uint32_t copies = 0;

	(void)state;
	open_with(4, true);
	for (uint64_t i = 0; i < 40; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 40; i++) {
		struct far_key key = fake_l2_key(i);
		uint32_t idx = 99;

		assert_int_equal(rig.policy.place(&rig.policy, &rig.set, &key, &idx, 1), 1);
		assert_true(fake_has(idx, i));
		for (uint32_t f = 0; f < 4; f++)
			copies += fake_has(f, i);
	}
	assert_int_equal(copies, 40);
	/* And a prefetch finds them all. */
	(void)far_l1_clear(rig.l1, false);
	ctl_req_init(&req, &rig, 0, 40);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 40);
	ctl_rig_close(&rig);
}

static void
block_that_the_adapter_has_is_counted_apart(void **state)
{
	(void)state;
	open_with(1, false);
	ctl_rig_put(&rig, 0, 1, 1);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_had, 1);
	assert_int_equal(counts_now().blocks_stored, 0);
	assert_int_equal(counts_now().failed_other, 0);
	ctl_rig_close(&rig);
}

static void
aborted_write_is_not_stored(void **state)
{
	struct far_l1_want want = {.key = fake_l2_key(1), .size_bytes = CTL_BLOCK_BYTES};
	struct far_l1_grant grant;
	int rc;

	(void)state;
	open_with(1, false);
	assert_int_equal(far_l1_reserve_write(rig.l1, rig.other, &want, 1, &grant), 1);
	assert_int_equal(far_l1_abort_write(rig.l1, rig.other, &grant.loan, 1, &rc), 1);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_queued, 0);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 0);
	ctl_rig_close(&rig);
}

static void
barrier_passes_when_everything_before_it_has_ended(void **state)
{
	uint64_t first;
	uint64_t second;
	uint64_t third;

	(void)state;
	open_with(1, false);
	first = far_store_barrier(rig.store);
	assert_true(far_store_passed(rig.store, first));
	rig.fakes[0].held[FAR_L2_STORE] = true;
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	second = far_store_barrier(rig.store);
	assert_true(far_store_passed(rig.store, first));
	assert_false(far_store_passed(rig.store, second));
	ctl_rig_run(&rig);
	assert_false(far_store_passed(rig.store, second));
	rig.fakes[0].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	rig.fakes[0].held[FAR_L2_STORE] = true;
	ctl_rig_write(&rig, 2, CTL_BLOCK_BYTES);
	third = far_store_barrier(rig.store);
	ctl_rig_run(&rig);
	/* What came after it does not hold it up. */
	assert_true(far_store_passed(rig.store, second));
	assert_false(far_store_passed(rig.store, third));
	assert_true(far_store_passed(rig.store, first));
	rig.fakes[0].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	assert_true(far_store_passed(rig.store, third));
	ctl_rig_close(&rig);
}

static void
bytes_in_flight_stay_within_the_budget(void **state)
{
	struct ctl_options options = {.store = true,
				      .store_config = {.bytes_in_flight_max = 4 * CTL_BLOCK_BYTES}};

	(void)state;
	ctl_rig_open(&rig, &options);
	for (uint64_t i = 0; i < 20; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].bytes_live_max, 4 * CTL_BLOCK_BYTES);
	assert_int_equal(counts_now().blocks_stored, 20);
	ctl_rig_close(&rig);
}

static void
queue_that_is_full_drops_and_counts(void **state)
{
	struct ctl_options options = {.store = true, .store_config = {.queue_max = 4}};

	(void)state;
	ctl_rig_open(&rig, &options);
	for (uint64_t i = 0; i < 10; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	assert_int_equal(counts_now().blocks_queued, 4);
	assert_int_equal(counts_now().dropped_queue_full, 6);
	assert_int_equal(ctl_rig_loans(&rig), 4);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_stored, 4);
	/* And goes on. */
	ctl_rig_write(&rig, 20, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_true(fake_has(0, 20));
	ctl_rig_close(&rig);
}

static void
batch_larger_than_the_queue_gives_back_every_loan_it_cannot_keep(void **state)
{
	struct ctl_options options = {.store = true, .store_config = {.queue_max = 4}};
	struct far_l1_grant grants[80];
	struct far_l1_want wants[80];
	uint64_t loans[80];
	int rcs[80];

	(void)state;
	ctl_rig_open(&rig, &options);
	for (uint64_t i = 0; i < 80; i++)
		wants[i] = (struct far_l1_want){.key = fake_l2_key(i), .size_bytes = 64};
	assert_int_equal(far_l1_reserve_write(rig.l1, rig.other, wants, 80, grants), 80);
	for (size_t i = 0; i < 80; i++) {
		fake_l2_fill(&wants[i].key, grants[i].addr, 64);
		loans[i] = grants[i].loan;
	}
	assert_int_equal(far_l1_finish_write(rig.l1, rig.other, loans, 80, rcs), 80);
	assert_int_equal(ctl_rig_loans(&rig), 4);
	assert_int_equal(counts_now().dropped_queue_full, 76);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_stored, 4);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
queue_is_bounded_by_bytes(void **state)
{
	struct ctl_options options = {.store = true,
				      .store_config = {.queue_bytes_max = 3 * CTL_BLOCK_BYTES}};

	(void)state;
	ctl_rig_open(&rig, &options);
	for (uint64_t i = 0; i < 5; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	assert_int_equal(counts_now().blocks_pending, 3);
	assert_int_equal(counts_now().dropped_queue_full, 2);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_stored, 3);
	ctl_rig_close(&rig);
}

static void
quiesce_drops_the_queue_and_awaits_what_is_in_flight(void **state)
{
	(void)state;
	open_with(1, false);
	rig.fakes[0].held[FAR_L2_STORE] = true;
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	ctl_rig_write(&rig, 2, CTL_BLOCK_BYTES);
	far_store_quiesce(rig.store);
	assert_false(far_store_idle(rig.store));
	assert_int_equal(ctl_rig_loans(&rig), 1);
	assert_int_equal(counts_now().dropped_closing, 1);
	/* From now on the listener keeps nothing. */
	ctl_rig_write(&rig, 3, CTL_BLOCK_BYTES);
	assert_int_equal(ctl_rig_loans(&rig), 1);
	assert_int_equal(counts_now().refused_closing, 1);
	assert_int_equal(counts_now().dropped_queue_full, 0);
	rig.fakes[0].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	assert_true(far_store_idle(rig.store));
	assert_true(fake_has(0, 1));
	assert_false(fake_has(0, 2));
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finished_write_is_stored_and_its_loan_released),
		cmocka_unit_test(many_writes_share_a_task),
		cmocka_unit_test(block_goes_to_every_adapter_and_is_held_until_the_last_has_it),
		cmocka_unit_test(without_adapters_nothing_is_held),
		cmocka_unit_test(placement_gives_each_block_to_its_own_adapter),
		cmocka_unit_test(block_that_the_adapter_has_is_counted_apart),
		cmocka_unit_test(aborted_write_is_not_stored),
		cmocka_unit_test(barrier_passes_when_everything_before_it_has_ended),
		cmocka_unit_test(bytes_in_flight_stay_within_the_budget),
		cmocka_unit_test(queue_that_is_full_drops_and_counts),
		cmocka_unit_test(batch_larger_than_the_queue_gives_back_every_loan_it_cannot_keep),
		cmocka_unit_test(queue_is_bounded_by_bytes),
		cmocka_unit_test(quiesce_drops_the_queue_and_awaits_what_is_in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
