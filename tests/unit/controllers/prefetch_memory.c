/* prefetch_memory.c - when L1 is too small: trimming, the queue for memory, budgets in flight. */
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
static struct ctl_req third;

static void
open_with(uint32_t l1_blocks)
{
	struct ctl_options options = {.l1_blocks = l1_blocks};

	ctl_rig_open(&rig, &options);
}

static void
request_larger_than_l1_is_trimmed(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	open_with(10);
	ctl_rig_put(&rig, 0, 0, 40);
	ctl_req_init(&req, &rig, 0, 40);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[10].rc, -ENOMEM);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_true(counts.missed_no_memory > 0);
	assert_int_equal(ctl_rig_locks(&rig), 0);
	ctl_req_expect(&req, 0, 10);
	ctl_rig_close(&rig);
}

static void
warm_request_larger_than_l1_keeps_its_first_blocks(void **state)
{
	(void)state;
	open_with(10);
	ctl_rig_put(&rig, 0, 0, 40);
	ctl_req_init(&req, &rig, 0, 40);
	req.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 10; i++)
		assert_true(ctl_rig_resident(&rig, i));
	ctl_req_expect(&req, 0, 10);
	ctl_rig_close(&rig);
}

static void
holder_is_trimmed_and_never_waits(void **state)
{
	(void)state;
	open_with(8);
	ctl_rig_put(&rig, 0, 0, 8);
	ctl_rig_put(&rig, 0, 10, 8);
	ctl_req_init(&req, &rig, 0, 6);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 10, 8);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	/* Two blocks were left: it has them, and is told so, while the first still reads. */
	ctl_req_expect(&second, 0, 2);
	ctl_req_expect(&req, 0, 6);
	ctl_rig_close(&rig);
}

static void
request_that_holds_nothing_waits_until_memory_is_released(void **state)
{
	(void)state;
	open_with(8);
	ctl_rig_put(&rig, 0, 0, 20);
	ctl_req_init(&req, &rig, 0, 8);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.ended_count, 1);
	ctl_req_init(&second, &rig, 10, 4);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_rig_advance(&rig, 10 * FAR_NS_PER_MS);
	assert_int_equal(second.ended_count, 0);
	/* It waits with nothing in its hands. */
	assert_int_equal(ctl_rig_locks(&rig), 0);
	assert_int_equal(ctl_rig_loans(&rig), 8);
	assert_true(rig.next_ns <= far_clock_now(&rig.clock.clock) + FAR_NS_PER_MS);
	ctl_req_expect(&req, 0, 8);
	ctl_rig_advance(&rig, 64 * FAR_NS_PER_MS);
	ctl_req_expect(&second, 0, 4);
	ctl_rig_close(&rig);
}

static void
wait_for_memory_ends_at_the_deadline(void **state)
{
	(void)state;
	open_with(4);
	ctl_rig_put(&rig, 0, 0, 8);
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 4, 4);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_rig_advance(&rig, FAR_NS_PER_S);
	ctl_req_expect(&second, -ETIMEDOUT, 0);
	ctl_req_expect(&req, 0, 4);
	ctl_rig_close(&rig);
}

static void
waiter_can_be_cancelled(void **state)
{
	(void)state;
	open_with(4);
	ctl_rig_put(&rig, 0, 0, 8);
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 4, 4);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	far_prefetch_req_cancel(rig.prefetch, &second.req);
	ctl_rig_run(&rig);
	ctl_req_expect(&second, -ECANCELED, 0);
	ctl_req_expect(&req, 0, 4);
	ctl_rig_close(&rig);
}

static void
smaller_waiter_goes_first(void **state)
{
	int rc;

	(void)state;
	open_with(8);
	ctl_rig_put(&rig, 0, 0, 40);
	ctl_req_init(&req, &rig, 0, 8);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 10, 8);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_init(&third, &rig, 20, 2);
	ctl_req_submit(&third);
	ctl_rig_run(&rig);
	assert_int_equal(second.ended_count + third.ended_count, 0);
	for (int i = 0; i < 2; i++)
		(void)far_l1_finish_read(rig.l1, rig.session, &req.views[i].loan, 1, 1, &rc);
	ctl_rig_advance(&rig, FAR_NS_PER_MS);
	ctl_rig_advance(&rig, FAR_NS_PER_MS);
	assert_int_equal(second.ended_count, 0);
	ctl_req_expect(&third, 0, 2);
	for (int i = 2; i < 8; i++)
		(void)far_l1_finish_read(rig.l1, rig.session, &req.views[i].loan, 1, 1, &rc);
	for (int i = 0; i < 10; i++)
		ctl_rig_advance(&rig, 10 * FAR_NS_PER_MS);
	ctl_req_expect(&second, 0, 8);
	ctl_rig_close(&rig);
}

static void
large_waiter_ages_and_takes_what_there_is(void **state)
{
	int rc;

	(void)state;
	open_with(8);
	ctl_rig_put(&rig, 0, 0, 40);
	ctl_req_init(&req, &rig, 0, 8);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 10, 8);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	(void)far_l1_finish_read(rig.l1, rig.session, &req.views[0].loan, 1, 1, &rc);
	ctl_rig_advance(&rig, FAR_NS_PER_MS);
	ctl_rig_advance(&rig, FAR_NS_PER_MS);
	assert_int_equal(second.ended_count, 0);
	for (int i = 0; i < 20; i++)
		ctl_rig_advance(&rig, 5 * FAR_NS_PER_MS);
	ctl_req_expect(&second, 0, 1);
	for (int i = 1; i < 8; i++)
		(void)far_l1_finish_read(rig.l1, rig.session, &req.views[i].loan, 1, 1, &rc);
	ctl_rig_close(&rig);
}

static void
memory_goes_to_a_requests_keys_in_their_order(void **state)
{
	struct ctl_options options = {
		.fakes = 2, .l1_blocks = 6, .prefetch = {.window_keys = 4, .windows_ahead = 4}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 1);
	ctl_rig_put(&rig, 1, 1, 15);
	/* The first window is answered last. */
	ctl_rig_fail(&rig, 0, 0, FAR_L2_LOOKUP, -EAGAIN, 6);
	ctl_req_init(&req, &rig, 0, 16);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 6);
	ctl_rig_close(&rig);
}

static void
evictable_blocks_make_room(void **state)
{
	(void)state;
	open_with(8);
	for (uint64_t i = 100; i < 108; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 0, 0, 8);
	ctl_req_init(&req, &rig, 0, 8);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 8);
	ctl_rig_close(&rig);
}

static void
block_larger_than_the_arena_is_refused_not_waited_for(void **state)
{
	struct far_key key = fake_l2_key(0);

	(void)state;
	open_with(4);
	fake_l2_put(&rig.fakes[0], &key, 5 * CTL_BLOCK_BYTES);
	ctl_req_init(&req, &rig, 0, 1);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[0].rc, -EINVAL);
	ctl_req_expect(&req, 0, 0);
	ctl_rig_close(&rig);
}

static void
bytes_in_flight_stay_within_the_budget(void **state)
{
	struct ctl_options options = {
		.prefetch = {.window_keys = 16, .bytes_in_flight_max = 5 * CTL_BLOCK_BYTES}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 64);
	ctl_req_init(&req, &rig, 0, 64);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].bytes_live_max, 5 * CTL_BLOCK_BYTES);
	ctl_req_expect(&req, 0, 64);
	ctl_rig_close(&rig);
}

static void
block_larger_than_the_budget_goes_alone(void **state)
{
	struct ctl_options options = {.prefetch = {.bytes_in_flight_max = 1}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 6);
	ctl_req_init(&req, &rig, 0, 6);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].bytes_live_max, CTL_BLOCK_BYTES);
	ctl_req_expect(&req, 0, 6);
	ctl_rig_close(&rig);
}

static void
adapter_that_ends_nothing_leaves_a_share_to_the_others(void **state)
{
	struct ctl_options options = {
		.fakes = 2,
		.prefetch = {.window_keys = 16, .bytes_in_flight_max = 8 * CTL_BLOCK_BYTES}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 16);
	ctl_rig_put(&rig, 1, 20, 16);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 16);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].bytes_live_max, 6 * CTL_BLOCK_BYTES);
	ctl_req_init(&second, &rig, 20, 16);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_expect(&second, 0, 16);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 16);
	ctl_rig_close(&rig);
}

static void
what_is_left_for_one_adapter_is_not_what_is_left_for_another(void **state)
{
	struct ctl_options options = {.fakes = 2,
				      .prefetch = {.bytes_in_flight_max = 16 * CTL_BLOCK_BYTES}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 12);
	ctl_rig_put(&rig, 1, 12, 1);
	ctl_rig_put(&rig, 1, 20, 1);
	ctl_rig_put(&rig, 0, 21, 1);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	rig.fakes[1].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 13);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	/* The first has its share, three quarters; three blocks are left, for the other one alone. */
	ctl_req_init(&second, &rig, 20, 2);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].bytes_live_max, 12 * CTL_BLOCK_BYTES);
	assert_int_equal(rig.fakes[1].bytes_live_max, 2 * CTL_BLOCK_BYTES);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	rig.fakes[1].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 13);
	ctl_req_expect(&second, 0, 2);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_larger_than_l1_is_trimmed),
		cmocka_unit_test(warm_request_larger_than_l1_keeps_its_first_blocks),
		cmocka_unit_test(holder_is_trimmed_and_never_waits),
		cmocka_unit_test(request_that_holds_nothing_waits_until_memory_is_released),
		cmocka_unit_test(wait_for_memory_ends_at_the_deadline),
		cmocka_unit_test(waiter_can_be_cancelled),
		cmocka_unit_test(smaller_waiter_goes_first),
		cmocka_unit_test(large_waiter_ages_and_takes_what_there_is),
		cmocka_unit_test(memory_goes_to_a_requests_keys_in_their_order),
		cmocka_unit_test(evictable_blocks_make_room),
		cmocka_unit_test(block_larger_than_the_arena_is_refused_not_waited_for),
		cmocka_unit_test(bytes_in_flight_stay_within_the_budget),
		cmocka_unit_test(block_larger_than_the_budget_goes_alone),
		cmocka_unit_test(adapter_that_ends_nothing_leaves_a_share_to_the_others),
		cmocka_unit_test(what_is_left_for_one_adapter_is_not_what_is_left_for_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
