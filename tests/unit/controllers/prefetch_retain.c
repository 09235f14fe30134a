/* prefetch_retain.c - which blocks stay in L1 after the last reader: those that somebody retained. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

static struct ctl_rig rig;
static struct ctl_req req;
static struct ctl_req second;

static void
open_with(const char *policy)
{
	struct ctl_options options = {.policy = policy};

	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 20);
}

/* How many of keys [first, first + count) L1 has. */
static uint32_t
resident(uint64_t first, uint32_t count)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < count; i++)
		found += ctl_rig_resident(&rig, first + i);
	return found;
}

static void
without_retention_a_block_goes_with_its_last_reader(void **state)
{
	int rc;

	(void)state;
	open_with("default");
	ctl_req_init(&req, &rig, 0, 5);
	req.req.readers = 2;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	for (int reader = 0; reader < 2; reader++) {
		assert_int_equal(resident(0, 5), 5);
		for (uint32_t i = 0; i < 5; i++)
			(void)far_l1_finish_read(rig.l1, rig.session, &req.views[i].loan, 1, 1,
						 &rc);
	}
	assert_int_equal(resident(0, 5), 0);
	ctl_rig_close(&rig);
}

static void
with_retention_a_block_stays_as_an_evictable_one(void **state)
{
	(void)state;
	open_with("retain");
	ctl_req_init(&req, &rig, 0, 5);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 5);
	assert_int_equal(resident(0, 5), 5);
	assert_int_equal(far_l1_state_get(rig.l1, &req.keys[0]), FAR_L1_READY);
	ctl_rig_close(&rig);
}

static void
without_retention_keys_loaded_behind_a_gap_vanish(void **state)
{
	(void)state;
	open_with("default");
	ctl_rig_fail(&rig, 0, 1, FAR_L2_LOAD, -ESTALE, 1);
	ctl_req_init(&req, &rig, 0, 5);
	req.req.readers = 2;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(resident(1, 4), 0);
	ctl_req_expect(&req, 0, 1);
	assert_int_equal(resident(0, 1), 0);
	ctl_rig_close(&rig);
}

static void
warm_blocks_stay_whatever_the_policy_says(void **state)
{
	(void)state;
	open_with("default");
	ctl_req_init(&req, &rig, 0, 5);
	req.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_req_expect(&req, 0, 5);
	assert_int_equal(resident(0, 5), 5);
	/* Still there after a reader has come and gone. */
	ctl_req_init(&second, &rig, 0, 5);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_expect(&second, 0, 5);
	assert_int_equal(resident(0, 5), 5);
	ctl_rig_close(&rig);
}

static void
one_interest_that_retains_is_enough(void **state)
{
	(void)state;
	open_with("default");
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 2, 4);
	second.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&second, 0, 4);
	ctl_req_expect(&req, 0, 4);
	assert_int_equal(resident(0, 2), 0);
	assert_int_equal(resident(2, 4), 4);
	ctl_rig_close(&rig);
}

static void
interest_that_has_gone_before_the_flip_retains_nothing(void **state)
{
	(void)state;
	open_with("default");
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&second, &rig, 0, 4);
	second.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	far_prefetch_req_cancel(rig.prefetch, &second.req);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&second, -ECANCELED, 0);
	assert_int_equal(resident(0, 4), 4);
	ctl_req_expect(&req, 0, 4);
	assert_int_equal(resident(0, 4), 0);
	ctl_rig_close(&rig);
}

static void
load_that_nobody_waits_for_any_more_stays_only_if_the_policy_retains_it(void **state)
{
	(void)state;
	for (int retains = 0; retains < 2; retains++) {
		open_with(retains ? "retain" : "default");
		rig.fakes[0].held[FAR_L2_LOAD] = true;
		ctl_req_init(&req, &rig, 0, 4);
		ctl_req_submit(&req);
		ctl_rig_run(&rig);
		ctl_rig_advance(&rig, FAR_NS_PER_S);
		ctl_req_expect(&req, -ETIMEDOUT, 0);
		rig.fakes[0].held[FAR_L2_LOAD] = false;
		ctl_rig_run(&rig);
		assert_int_equal(ctl_rig_loans(&rig), 0);
		assert_int_equal(resident(0, 4), retains ? 4 : 0);
		ctl_rig_close(&rig);
	}
}

static void
warm_keeps_what_it_found_as_anothers_temporary(void **state)
{
	(void)state;
	open_with("default");
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 0, 4);
	second.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_expect(&second, 0, 4);
	ctl_req_expect(&req, 0, 4);
	assert_int_equal(resident(0, 4), 4);
	ctl_rig_close(&rig);
}

static void
warm_tells_what_was_there_what_it_loaded_and_what_is_missing(void **state)
{
	(void)state;
	open_with("default");
	ctl_rig_write(&rig, 0, CTL_BLOCK_BYTES);
	ctl_rig_write(&rig, 2, CTL_BLOCK_BYTES);
	ctl_req_init(&req, &rig, 0, 24);
	req.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	for (uint32_t i = 0; i < 20; i++) {
		assert_int_equal(req.views[i].rc, 0);
		assert_int_equal(req.views[i].adapter, i == 0 || i == 2 ? -1 : 0);
	}
	assert_int_equal(req.views[20].rc, -ENOENT);
	/* What was there was neither asked for nor loaded. */
	assert_int_equal(fake_l2_block(&rig.fakes[0], &req.keys[0])->lookups, 0);
	ctl_req_expect(&req, 0, 20);
	ctl_rig_close(&rig);
}

static void
prefetched_block_that_is_dropped_is_never_stored(void **state)
{
	struct ctl_options options = {.policy = "default", .store = true};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 4);
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 4);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 0);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_retention_a_block_goes_with_its_last_reader),
		cmocka_unit_test(with_retention_a_block_stays_as_an_evictable_one),
		cmocka_unit_test(without_retention_keys_loaded_behind_a_gap_vanish),
		cmocka_unit_test(warm_blocks_stay_whatever_the_policy_says),
		cmocka_unit_test(one_interest_that_retains_is_enough),
		cmocka_unit_test(interest_that_has_gone_before_the_flip_retains_nothing),
		cmocka_unit_test(
			load_that_nobody_waits_for_any_more_stays_only_if_the_policy_retains_it),
		cmocka_unit_test(warm_keeps_what_it_found_as_anothers_temporary),
		cmocka_unit_test(warm_tells_what_was_there_what_it_loaded_and_what_is_missing),
		cmocka_unit_test(prefetched_block_that_is_dropped_is_never_stored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
