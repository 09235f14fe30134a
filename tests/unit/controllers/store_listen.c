/* store_listen.c - what the store controller hears of L1, what it does not, and how it opens and closes. */
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

static int
delete_one(uint64_t number)
{
	struct far_key key = fake_l2_key(number);
	int rc;

	(void)far_l1_delete(rig.l1, &key, 1, false, &rc);
	return rc;
}

static void
it_opens_and_closes_without_a_block_or_an_adapter(void **state)
{
	(void)state;
	open_with(1);
	assert_true(far_store_idle(rig.store));
	ctl_rig_close(&rig);
	open_with(FAR_L2_SET_MAX);
	assert_true(far_store_idle(rig.store));
	ctl_rig_run(&rig);
	ctl_rig_close(&rig);
	/* And when its first call is the last. */
	open_with(1);
	far_store_quiesce(rig.store);
	assert_true(far_store_idle(rig.store));
	far_store_quiesce(rig.store);
	ctl_rig_close(&rig);
}

static void
nothing_is_queued_before_something_was_written(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_run(&rig);
	assert_int_equal(rig.wakes, 0);
	assert_int_equal(counts_now().blocks_queued, 0);
	assert_int_equal(counts_now().blocks_pending, 0);
	assert_int_equal(rig.next_ns, FAR_TIME_NEVER);
	ctl_rig_close(&rig);
}

static void
finished_writes_accumulate_until_the_owner_takes_them_all(void **state)
{
	(void)state;
	open_with(1);
	for (uint64_t i = 0; i < 5; i++) {
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
		assert_int_equal(counts_now().blocks_pending, i + 1);
		assert_int_equal(rig.wakes, i + 1);
	}
	(void)far_store_tick(rig.store, far_clock_now(&rig.clock.clock));
	/* All of them are one task now: nothing is left to be taken. */
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 1);
	assert_int_equal(rig.fakes[0].batch_max[FAR_L2_STORE], 5);
	(void)far_store_tick(rig.store, far_clock_now(&rig.clock.clock));
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 1);
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 5; i++)
		assert_true(fake_has(0, i));
	ctl_rig_close(&rig);
}

static void
batch_of_writes_wakes_the_owner_once(void **state)
{
	struct far_l1_grant grants[8];
	struct far_l1_want wants[8];
	uint64_t loans[8];
	int rcs[8];

	(void)state;
	open_with(1);
	for (uint64_t i = 0; i < 8; i++)
		wants[i] = (struct far_l1_want){.key = fake_l2_key(i), .size_bytes = 64};
	assert_int_equal(far_l1_reserve_write(rig.l1, rig.other, wants, 8, grants), 8);
	for (size_t i = 0; i < 8; i++) {
		fake_l2_fill(&wants[i].key, grants[i].addr, 64);
		loans[i] = grants[i].loan;
	}
	assert_int_equal(far_l1_finish_write(rig.l1, rig.other, loans, 8, rcs), 8);
	assert_int_equal(rig.wakes, 1);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_stored, 8);
	ctl_rig_close(&rig);
}

static void
flip_of_a_prefetch_is_not_heard(void **state)
{
	(void)state;
	open_with(2);
	ctl_rig_put(&rig, 1, 0, 4);
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 4);
	assert_int_equal(rig.wakes, 0);
	assert_int_equal(counts_now().blocks_queued, 0);
	assert_false(fake_has(0, 0));
	ctl_rig_close(&rig);
}

static void
temporary_that_is_written_is_not_stored_and_can_be_deleted(void **state)
{
	struct far_l1_want want = {
		.key = fake_l2_key(1),
		.size_bytes = CTL_BLOCK_BYTES,
		.flags = FAR_L1_TEMPORARY,
	};
	struct far_l1_grant grant;
	int rc;

	(void)state;
	open_with(1);
	assert_int_equal(far_l1_reserve_write(rig.l1, rig.other, &want, 1, &grant), 1);
	assert_int_equal(far_l1_finish_write(rig.l1, rig.other, &grant.loan, 1, &rc), 1);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_queued, 0);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 0);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	assert_int_equal(delete_one(1), 0);
	ctl_rig_close(&rig);
}

static void
block_can_be_deleted_and_written_anew_when_the_last_adapter_has_it(void **state)
{
	(void)state;
	open_with(2);
	rig.fakes[1].held[FAR_L2_STORE] = true;
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(delete_one(1), -EBUSY);
	/* Two adapters are one loan. */
	assert_int_equal(ctl_rig_loans(&rig), 1);
	rig.fakes[1].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	assert_int_equal(delete_one(1), 0);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_stored, 2);
	assert_int_equal(counts_now().blocks_had, 2);
	ctl_rig_close(&rig);
}

static void
block_deleted_by_force_while_it_is_stored_is_stored_whole(void **state)
{
	struct far_key key = fake_l2_key(1);
	int rc;

	(void)state;
	open_with(1);
	rig.fakes[0].held[FAR_L2_STORE] = true;
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(far_l1_delete(rig.l1, &key, 1, true, &rc), 1);
	/* Its memory is nobody else's: others fill all that is left. */
	for (uint64_t i = 10; i < 265; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	rig.fakes[0].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	assert_true(fake_has(0, 1));
	ctl_rig_close(&rig);
}

static void
tasks_that_end_together_are_all_ended(void **state)
{
	struct ctl_options options = {.store = true, .store_config = {.batch_max = 2}};

	(void)state;
	ctl_rig_open(&rig, &options);
	rig.fakes[0].held[FAR_L2_STORE] = true;
	for (uint64_t i = 0; i < 8; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(fake_l2_live(&rig.fakes[0], FAR_L2_STORE), 4);
	rig.fakes[0].held[FAR_L2_STORE] = false;
	(void)far_l2_tick(&rig.fakes[0].l2, far_clock_now(&rig.clock.clock));
	assert_int_equal(counts_now().blocks_stored, 8);
	assert_int_equal(counts_now().blocks_pending, 0);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_opens_and_closes_without_a_block_or_an_adapter),
		cmocka_unit_test(nothing_is_queued_before_something_was_written),
		cmocka_unit_test(finished_writes_accumulate_until_the_owner_takes_them_all),
		cmocka_unit_test(batch_of_writes_wakes_the_owner_once),
		cmocka_unit_test(flip_of_a_prefetch_is_not_heard),
		cmocka_unit_test(temporary_that_is_written_is_not_stored_and_can_be_deleted),
		cmocka_unit_test(
			block_can_be_deleted_and_written_anew_when_the_last_adapter_has_it),
		cmocka_unit_test(block_deleted_by_force_while_it_is_stored_is_stored_whole),
		cmocka_unit_test(tasks_that_end_together_are_all_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
