/* prefetch_share.c - requests that meet: one load for all of them, each with a loan of its own. */
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
open_with(uint32_t fakes)
{
	struct ctl_options options = {.fakes = fakes};

	ctl_rig_open(&rig, &options);
}

static void
two_requests_load_a_key_once_and_hold_a_loan_each(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 6);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 2, 4);
	second.req.session = rig.other;
	second.req.readers = 2;
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 6; i++) {
		struct far_key key = fake_l2_key(i);

		assert_int_equal(fake_l2_block(&rig.fakes[0], &key)->loads, 1);
		assert_int_equal(fake_l2_block(&rig.fakes[0], &key)->lookups, 1);
	}
	assert_true(req.views[2].loan != second.views[0].loan);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.loads_joined, 2);
	assert_int_equal(counts.bytes_loaded, 6 * CTL_BLOCK_BYTES);
	ctl_req_expect(&req, 0, 4);
	assert_int_equal(far_l1_state_get(rig.l1, &second.keys[0]), FAR_L1_READ_LOCKED);
	ctl_req_expect(&second, 0, 4);
	ctl_rig_close(&rig);
}

static void
loads_of_one_task_go_to_the_sessions_that_wait_for_them(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 1);
	ctl_rig_put(&rig, 0, 2, 2);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	/* Key 1 is the gap: nobody waits for 2 and 3, which are on their way, until another comes. */
	ctl_req_init(&second, &rig, 2, 2);
	second.req.session = rig.other;
	second.req.readers = 2;
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOAD], 1);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 1);
	ctl_req_expect(&second, 0, 2);
	ctl_rig_close(&rig);
}

static void
a_lookup_that_outlives_its_window_is_no_answer_for_the_next(void **state)
{
	(void)state;
	open_with(2);
	ctl_rig_put(&rig, 0, 10, 1);
	ctl_rig_put(&rig, 1, 10, 1);
	rig.fakes[0].held[FAR_L2_LOOKUP] = true;
	ctl_req_init(&req, &rig, 0, 1);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	far_prefetch_req_cancel(rig.prefetch, &req.req);
	ctl_rig_run(&rig);
	rig.fakes[1].held[FAR_L2_LOOKUP] = true;
	ctl_req_init(&second, &rig, 10, 1);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	/* Both of the first one's are answered, and one of the second one's. */
	rig.fakes[0].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOAD], 0);
	rig.fakes[1].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&second, 0, 1);
	ctl_rig_close(&rig);
}

static void
lookups_are_joined_as_well_as_loads(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	rig.fakes[0].held[FAR_L2_LOOKUP] = true;
	ctl_req_init(&req, &rig, 0, 2);
	ctl_req_submit(&req);
	ctl_req_init(&second, &rig, 0, 2);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOOKUP], 1);
	rig.fakes[0].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 2);
	ctl_req_expect(&second, 0, 2);
	ctl_rig_close(&rig);
}

static void
key_given_twice_gets_a_loan_for_each(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	ctl_req_init(&req, &rig, 0, 4);
	req.keys[2] = req.keys[0];
	req.keys[3] = req.keys[1];
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 4);
	assert_true(req.views[0].loan != req.views[2].loan);
	assert_int_equal(fake_l2_block(&rig.fakes[0], &req.keys[0])->loads, 1);
	ctl_req_expect(&req, 0, 4);
	ctl_rig_close(&rig);
}

static void
warm_leaves_blocks_resident_and_unlocked(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 6);
	ctl_rig_write(&rig, 6, CTL_BLOCK_BYTES);
	ctl_req_init(&req, &rig, 0, 8);
	req.req.mode = FAR_PREFETCH_WARM;
	req.req.session = 0;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	for (uint64_t i = 0; i < 7; i++)
		assert_true(ctl_rig_resident(&rig, i));
	ctl_req_expect(&req, 0, 7);
	ctl_rig_close(&rig);
}

static void
warm_and_lookup_share_a_load(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 3);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 3);
	req.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 0, 3);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 3);
	ctl_req_expect(&req, 0, 3);
	ctl_req_expect(&second, 0, 3);
	ctl_rig_close(&rig);
}

static void
length_that_was_not_asked_for_is_a_miss(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 3);
	ctl_rig_write(&rig, 3, 512);
	ctl_req_init(&req, &rig, 0, 3);
	for (int i = 0; i < 3; i++)
		req.sizes[i] = i == 1 ? 512 : CTL_BLOCK_BYTES;
	req.req.sizes = req.sizes;
	ctl_req_submit(&req);
	ctl_req_init(&second, &rig, 3, 1);
	second.sizes[0] = CTL_BLOCK_BYTES;
	second.req.sizes = second.sizes;
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[1].rc, -EMSGSIZE);
	ctl_req_expect(&req, 0, 1);
	/* In L1 as well. */
	assert_int_equal(second.views[0].rc, -EMSGSIZE);
	ctl_req_expect(&second, 0, 0);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.missed_length, 2);
	ctl_rig_close(&rig);
}

static void
joiner_with_another_length_misses_alone(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 1);
	for (int late = 0; late < 2; late++) {
		enum far_l2_kind kind = late ? FAR_L2_LOAD : FAR_L2_LOOKUP;

		(void)far_l1_clear(rig.l1, false);
		rig.fakes[0].held[kind] = true;
		ctl_req_init(&req, &rig, 0, 1);
		ctl_req_submit(&req);
		ctl_rig_run(&rig);
		ctl_req_init(&second, &rig, 0, 1);
		second.sizes[0] = 512;
		second.req.sizes = second.sizes;
		ctl_req_submit(&second);
		ctl_rig_run(&rig);
		rig.fakes[0].held[kind] = false;
		ctl_rig_run(&rig);
		assert_int_equal(second.views[0].rc, -EMSGSIZE);
		ctl_req_expect(&req, 0, 1);
		ctl_req_expect(&second, 0, 0);
	}
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_requests_load_a_key_once_and_hold_a_loan_each),
		cmocka_unit_test(loads_of_one_task_go_to_the_sessions_that_wait_for_them),
		cmocka_unit_test(a_lookup_that_outlives_its_window_is_no_answer_for_the_next),
		cmocka_unit_test(lookups_are_joined_as_well_as_loads),
		cmocka_unit_test(key_given_twice_gets_a_loan_for_each),
		cmocka_unit_test(warm_leaves_blocks_resident_and_unlocked),
		cmocka_unit_test(warm_and_lookup_share_a_load),
		cmocka_unit_test(length_that_was_not_asked_for_is_a_miss),
		cmocka_unit_test(joiner_with_another_length_misses_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
