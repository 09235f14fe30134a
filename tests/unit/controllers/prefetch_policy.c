/* prefetch_policy.c - what the controller makes of a policy's answers, and what it tells it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"
#include "tests/support/log_capture.h"

#include "base/err.h"

static struct ctl_rig rig;
static struct ctl_req req;
static struct ctl_req second;

static uint32_t
loads_from(uint32_t fake, uint64_t first, uint32_t count)
{
	uint32_t loads = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct far_key key = fake_l2_key(first + i);

		loads += fake_l2_block(&rig.fakes[fake], &key)->loads;
	}
	return loads;
}

static uint32_t
mad_route(const struct far_policy *policy, const struct far_l2_set *set, const struct far_key *key,
	  uint32_t *idx_out, uint32_t max)
{
	(void)policy;
	(void)set;
	(void)key;
	assert_true(max > 4);
	idx_out[0] = 63;
	idx_out[1] = 1;
	idx_out[2] = 1;
	idx_out[3] = 2;
	return 4;
}

static uint32_t
mad_plan(const struct far_policy *policy, const struct far_l2_set *set, const struct far_key *key,
	 const struct far_policy_found *found, uint32_t count)
{
	(void)policy;
	(void)set;
	(void)key;
	(void)found;
	(void)count;
	return 0;
}

static void
nonsense_of_a_policy_is_counted_and_requests_still_end(void **state)
{
	struct ctl_options options = {.fakes = 3};
	struct far_prefetch_counts counts;

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 4);
	ctl_rig_put(&rig, 1, 0, 3);
	ctl_rig_put(&rig, 2, 0, 3); /* where there is one choice, nobody is asked to plan */
	rig.policy.route = mad_route;
	/* Adapter 0 has the keys, but was not asked. */
	rig.policy.plan = mad_plan;
	far_log_capture_start();
	far_log_capture_expect("a policy's answer");
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(far_log_capture_count("a policy's answer"), 1);
	far_log_capture_finish();
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.policy_nonsense, 4 * 2 + 3);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOOKUP], 0);
	assert_int_equal(loads_from(1, 0, 3), 3);
	ctl_req_expect(&req, 0, 3);
	ctl_rig_close(&rig);
}

static void
all_keys_are_asked_of_the_only_one_that_is_not_drained(void **state)
{
	struct ctl_options options = {.fakes = 2};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 8);
	ctl_rig_put(&rig, 1, 0, 8);
	far_l2_set_drain(&rig.set, 0);
	ctl_req_init(&req, &rig, 0, 8);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOOKUP], 0);
	assert_int_equal(loads_from(1, 0, 8), 8);
	ctl_req_expect(&req, 0, 8);
	ctl_rig_close(&rig);
}

static void
nobody_is_routed_is_a_miss(void **state)
{
	struct ctl_options options = {.fakes = FAR_L2_SET_MAX,
				      .policy = "placement,fastest,retain"};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 0);
	ctl_rig_close(&rig);
}

static void
fastest_shares_out_by_queue_before_anything_was_measured(void **state)
{
	struct ctl_options options = {.fakes = 2, .policy = "fastest,retain"};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 16);
	ctl_rig_put(&rig, 1, 0, 16);
	ctl_req_init(&req, &rig, 0, 16);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(loads_from(0, 0, 16), 8);
	assert_int_equal(loads_from(1, 0, 16), 8);
	ctl_req_expect(&req, 0, 16);
	ctl_rig_close(&rig);
}

/* One request of sixteen keys; the clock goes on until it has ended. */
static void
fetch(uint64_t first)
{
	ctl_req_init(&req, &rig, first, 16);
	ctl_req_submit(&req);
	for (int i = 0; i < 100 && req.ended_count == 0; i++)
		ctl_rig_advance(&rig, 100 * FAR_NS_PER_US);
	ctl_req_expect(&req, 0, 16);
}

static void
fastest_leaves_the_slow_adapter_and_comes_back_when_it_has_forgotten(void **state)
{
	struct ctl_options options = {.fakes = 2, .policy = "fastest,retain"};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 256);
	ctl_rig_put(&rig, 1, 0, 256);
	rig.fakes[0].delay_ns = 4 * FAR_NS_PER_MS;
	rig.fakes[1].delay_ns = 200 * FAR_NS_PER_US;
	fetch(0);
	assert_int_equal(loads_from(0, 0, 16), 8);
	/* Measured: all sixteen come sooner behind each other from the fast one. */
	for (uint64_t first = 16; first < 64; first += 16) {
		fetch(first);
		assert_int_equal(loads_from(0, first, 16), 0);
	}
	rig.fakes[0].delay_ns = 0;
	ctl_rig_advance(&rig, 2 * FAR_NS_PER_S);
	fetch(64);
	assert_true(loads_from(0, 64, 16) > 0);
	ctl_rig_close(&rig);
}

/* ---- past L1 ---- */

static void
request_past_l1_loads_anew_what_nobody_holds(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 6);
	for (int i = 0; i < 2; i++) {
		ctl_req_init(&req, &rig, 0, 6);
		req.req.past_l1 = true;
		ctl_req_submit(&req);
		ctl_rig_run(&rig);
		ctl_req_expect(&req, 0, 6);
	}
	assert_int_equal(loads_from(0, 0, 6), 12);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.l1_hits, 0);
	assert_int_equal(counts.l2_hits, 12);
	ctl_rig_close(&rig);
}

static void
request_past_l1_misses_what_l1_alone_has_or_somebody_holds(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 6);
	ctl_rig_write(&rig, 6, CTL_BLOCK_BYTES);
	ctl_req_init(&second, &rig, 2, 2);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_init(&req, &rig, 0, 7);
	req.req.past_l1 = true;
	req.req.trim = FAR_PREFETCH_TRIM_ALL;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[2].rc, -EBUSY);
	assert_int_equal(req.views[6].rc, -ENOENT);
	ctl_req_expect_keys(&req, 0, "1100110");
	ctl_req_expect(&second, 0, 2);
	ctl_rig_close(&rig);
}

static void
requests_past_l1_share_a_load_and_miss_what_is_written_meanwhile(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 4);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&second, &rig, 0, 4);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_init(&req, &rig, 0, 6);
	req.req.past_l1 = true;
	ctl_rig_put(&rig, 0, 4, 2);
	rig.fakes[0].held[FAR_L2_LOOKUP] = true;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_rig_write(&rig, 4, CTL_BLOCK_BYTES);
	rig.fakes[0].held[FAR_L2_LOOKUP] = false;
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(loads_from(0, 0, 4), 4);
	assert_int_equal(req.views[4].rc, -EBUSY);
	ctl_req_expect(&req, 0, 4);
	ctl_req_expect(&second, 0, 4);
	ctl_rig_close(&rig);
}

static void
warm_request_ends_at_a_key_that_somebody_writes(void **state)
{
	struct far_l1_want want = {.key = fake_l2_key(1), .size_bytes = CTL_BLOCK_BYTES};
	struct far_l1_grant grant;
	int rc;

	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 3);
	assert_int_equal(far_l1_reserve_write(rig.l1, rig.other, &want, 1, &grant), 1);
	ctl_req_init(&req, &rig, 0, 3);
	req.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[1].rc, -EBUSY);
	assert_int_equal(ctl_rig_loans(&rig), 1);
	ctl_req_expect(&req, 0, 1);
	assert_int_equal(far_l1_abort_write(rig.l1, rig.other, &grant.loan, 1, &rc), 1);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nonsense_of_a_policy_is_counted_and_requests_still_end),
		cmocka_unit_test(all_keys_are_asked_of_the_only_one_that_is_not_drained),
		cmocka_unit_test(nobody_is_routed_is_a_miss),
		cmocka_unit_test(fastest_shares_out_by_queue_before_anything_was_measured),
		cmocka_unit_test(
			fastest_leaves_the_slow_adapter_and_comes_back_when_it_has_forgotten),
		cmocka_unit_test(request_past_l1_loads_anew_what_nobody_holds),
		cmocka_unit_test(request_past_l1_misses_what_l1_alone_has_or_somebody_holds),
		cmocka_unit_test(requests_past_l1_share_a_load_and_miss_what_is_written_meanwhile),
		cmocka_unit_test(warm_request_ends_at_a_key_that_somebody_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
