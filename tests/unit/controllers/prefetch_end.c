/* prefetch_end.c - how requests end: deadlines, cancels, shutdown; and what goes on after them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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
deadline_answers_with_the_prefix_and_the_buffer_stays_until_the_load_ends(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	open_with(2);
	ctl_rig_put(&rig, 0, 0, 2);
	ctl_rig_put(&rig, 1, 2, 2);
	rig.fakes[1].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.advanced_to, 2);
	ctl_rig_advance(&rig, FAR_NS_PER_S);
	assert_int_equal(req.views[2].rc, -ETIMEDOUT);
	ctl_req_expect(&req, -ETIMEDOUT, 2);
	/* The adapter may still write there: the buffers belong to nobody else. */
	assert_int_equal(far_l1_state_get(rig.l1, &req.keys[2]), FAR_L1_WRITE_LOCKED);
	assert_int_equal(ctl_rig_loans(&rig), 2);
	assert_false(far_prefetch_idle(rig.prefetch));
	/* Not cancelled: the load goes on by itself, and the next request has it. */
	assert_int_equal(rig.fakes[1].cancels, 0);
	rig.fakes[1].held[FAR_L2_LOAD] = false;
	rig.fakes[1].deaf_cancel = true;
	memset(&req.views, 0x5a, sizeof(req.views));
	memset(&req.req, 0x5a, sizeof(req.req));
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	assert_true(ctl_rig_resident(&rig, 2));
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.deadline_hits, 1);
	assert_int_equal(counts.loads_abandoned, 2);
	assert_int_equal(counts.missed_deadline, 2);
	ctl_rig_close(&rig);
}

static void
answer_that_is_here_at_the_deadline_is_not_late(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 3);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 3);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_advance(&rig, FAR_NS_PER_S);
	ctl_req_expect(&req, 0, 3);
	ctl_rig_close(&rig);
}

static void
deadline_during_lookups_answers_with_what_l1_has(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_write(&rig, 0, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 0, 1, 3);
	rig.fakes[0].held[FAR_L2_LOOKUP] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_lock_prefix(&req);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_rig_advance(&rig, FAR_NS_PER_S);
	ctl_req_expect(&req, -ETIMEDOUT, 1);
	/* The answers come when nobody waits: every lock is given back. */
	rig.fakes[0].held[FAR_L2_LOOKUP] = false;
	rig.fakes[0].deaf_cancel = true;
	ctl_rig_run(&rig);
	assert_int_equal(fake_l2_block(&rig.fakes[0], &req.keys[1])->lookups, 1);
	assert_int_equal(ctl_rig_locks(&rig), 0);
	ctl_rig_close(&rig);
}

static void
adapter_that_gives_up_at_the_deadline_ends_it_as_the_deadline_does(void **state)
{
	enum far_l2_kind kinds[] = {FAR_L2_LOOKUP, FAR_L2_LOAD};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct far_prefetch_counts counts;

		open_with(1);
		ctl_rig_write(&rig, 0, CTL_BLOCK_BYTES);
		ctl_rig_put(&rig, 0, 1, 3);
		rig.fakes[0].delay_ns = kinds[i] == FAR_L2_LOOKUP ? 2 * FAR_NS_PER_S : 0;
		ctl_req_init(&req, &rig, 0, 4);
		ctl_req_submit(&req);
		if (kinds[i] == FAR_L2_LOOKUP) {
			ctl_rig_run(&rig);
		} else {
			/* The look-ups are answered, the loads are not. */
			while (rig.fakes[0].submits[FAR_L2_LOAD] == 0) {
				(void)far_prefetch_tick(rig.prefetch, FAR_NS_PER_S);
				if (rig.fakes[0].submits[FAR_L2_LOAD] == 0)
					(void)far_l2_tick(&rig.fakes[0].l2, FAR_NS_PER_S);
			}
			rig.fakes[0].delay_ns = 2 * FAR_NS_PER_S;
		}
		ctl_rig_advance(&rig, FAR_NS_PER_S);
		ctl_req_expect(&req, -ETIMEDOUT, 1);
		far_prefetch_counts_get(rig.prefetch, &counts);
		assert_int_equal(counts.deadline_hits, 1);
		ctl_rig_close(&rig);
	}
}

static void
deadline_in_the_past_answers_at_once(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	ctl_req_init(&req, &rig, 0, 2);
	req.req.deadline_ns = 1;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, -ETIMEDOUT, 0);
	ctl_rig_close(&rig);
}

static void
tick_asks_to_be_called_at_the_deadline(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 2);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(rig.next_ns, req.req.deadline_ns);
	ctl_rig_close(&rig);
}

static void
one_request_times_out_and_the_other_gets_the_shared_load(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 2);
	req.req.deadline_ns -= FAR_NS_PER_S / 2;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 0, 2);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_rig_advance(&rig, FAR_NS_PER_S / 2);
	ctl_req_expect(&req, -ETIMEDOUT, 0);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(fake_l2_block(&rig.fakes[0], &second.keys[0])->loads, 1);
	ctl_req_expect(&second, 0, 2);
	ctl_rig_close(&rig);
}

static void
joiner_with_more_time_outlives_the_first_ones_deadline(void **state)
{
	enum far_l2_kind kinds[] = {FAR_L2_LOOKUP, FAR_L2_LOAD};

	(void)state;
	for (int i = 0; i < 2; i++) {
		open_with(1);
		ctl_rig_put(&rig, 0, 0, 1);
		if (kinds[i] == FAR_L2_LOAD)
			rig.fakes[0].held[FAR_L2_LOAD] = true;
		rig.fakes[0].delay_ns = kinds[i] == FAR_L2_LOOKUP ? FAR_NS_PER_S * 3 / 4 : 0;
		ctl_req_init(&req, &rig, 0, 1);
		req.req.deadline_ns -= FAR_NS_PER_S / 2;
		ctl_req_submit(&req);
		ctl_rig_run(&rig);
		ctl_req_init(&second, &rig, 0, 1);
		second.req.deadline_ns += FAR_NS_PER_S;
		ctl_req_submit(&second);
		ctl_rig_run(&rig);
		/* The task ends with the time of those for whom it was begun; it is begun again. */
		rig.fakes[0].held[FAR_L2_LOAD] = false;
		rig.fakes[0].delay_ns = FAR_NS_PER_S * 3 / 4;
		ctl_rig_advance(&rig, FAR_NS_PER_S / 2);
		ctl_req_expect(&req, -ETIMEDOUT, 0);
		assert_int_equal(second.ended_count, 0);
		rig.fakes[0].delay_ns = 0;
		ctl_rig_run(&rig);
		ctl_req_expect(&second, 0, 1);
		ctl_rig_close(&rig);
	}
}

static void
cancel_releases_every_loan(void **state)
{
	(void)state;
	open_with(2);
	ctl_rig_write(&rig, 0, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 0, 1, 2);
	ctl_rig_write(&rig, 3, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 1, 4, 2);
	rig.fakes[1].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 6);
	req.req.readers = 2;
	ctl_req_lock_prefix(&req);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 6);
	far_prefetch_req_cancel(rig.prefetch, &req.req);
	assert_int_equal(req.ended_count, 0);
	/* Only the buffers that an adapter may still write are left. */
	assert_int_equal(ctl_rig_loans(&rig), 2);
	assert_int_equal(rig.fakes[1].cancels, 1);
	far_prefetch_req_cancel(rig.prefetch, &req.req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, -ECANCELED, 0);
	assert_int_equal(ctl_rig_loans(&rig), 2);
	far_prefetch_req_cancel(rig.prefetch, &req.req);
	rig.fakes[1].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(req.ended_count, 1);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
cancel_at_every_step_leaves_nothing(void **state)
{
	(void)state;
	for (int step = 0; step < 8; step++) {
		uint64_t now_ns;

		open_with(2);
		ctl_rig_put(&rig, 0, 0, 20);
		ctl_rig_put(&rig, 1, 10, 30);
		now_ns = far_clock_now(&rig.clock.clock);
		ctl_req_init(&req, &rig, 0, 40);
		ctl_req_submit(&req);
		for (int i = 0; i < step; i++) {
			if (i % 2 == 0)
				(void)far_prefetch_tick(rig.prefetch, now_ns);
			else
				(void)far_l2_tick(&rig.fakes[i / 2 % 2].l2, now_ns);
		}
		if (req.ended_count == 0) {
			far_prefetch_req_cancel(rig.prefetch, &req.req);
			ctl_rig_run(&rig);
			ctl_req_expect(&req, -ECANCELED, 0);
		} else {
			ctl_req_expect(&req, 0, 40);
		}
		assert_int_equal(ctl_rig_locks(&rig), 0);
		ctl_rig_close(&rig);
	}
}

static void
cancel_of_one_leaves_the_others_load_alone(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 2);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_init(&second, &rig, 1, 1);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	far_prefetch_req_cancel(rig.prefetch, &req.req);
	assert_int_equal(rig.fakes[0].cancels, 0);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, -ECANCELED, 0);
	ctl_req_expect(&second, 0, 1);
	ctl_rig_close(&rig);
}

static void
session_that_is_gone_costs_the_others_of_its_load_nothing(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	for (uint32_t readers = 1; readers <= 2; readers++) {
		open_with(1);
		ctl_rig_put(&rig, 0, 0, 3);
		rig.fakes[0].held[FAR_L2_LOAD] = true;
		ctl_req_init(&req, &rig, 0, 3);
		req.req.session = rig.other;
		ctl_req_submit(&req);
		ctl_rig_run(&rig);
		/* The last key is the first one's alone. */
		ctl_req_init(&second, &rig, 0, 2);
		second.req.readers = readers;
		ctl_req_submit(&second);
		ctl_rig_run(&rig);
		far_l1_session_close(rig.l1, rig.other);
		rig.fakes[0].held[FAR_L2_LOAD] = false;
		ctl_rig_run(&rig);
		ctl_req_expect(&req, 0, 0);
		assert_int_equal(req.views[0].rc, -EPERM);
		ctl_req_expect(&second, 0, 2);
		far_prefetch_counts_get(rig.prefetch, &counts);
		assert_int_equal(counts.missed_error, 3);
		assert_int_equal(counts.l2_hits, 2);
		ctl_rig_close(&rig);
	}
}

static void
key_that_is_asked_for_again_after_a_cancel_is_loaded(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 2);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	far_prefetch_req_cancel(rig.prefetch, &req.req);
	/* The cancelled task is still the adapter's; the second joins its loads. */
	ctl_req_init(&second, &rig, 0, 2);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, -ECANCELED, 0);
	ctl_req_expect(&second, 0, 2);
	ctl_rig_close(&rig);
}

static void
canceller_cancels(struct far_prefetch_req *far_req, uint32_t prefix_count)
{
	(void)prefix_count;
	far_prefetch_req_cancel(rig.prefetch, far_req);
}

static void
cancel_from_the_advance_callback_ends_once(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 4);
	ctl_req_init(&req, &rig, 0, 4);
	req.req.advanced = canceller_cancels;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, -ECANCELED, 0);
	ctl_rig_close(&rig);
}

static void
submitter_ended(struct far_prefetch_req *far_req)
{
	(void)far_req;
	req.ended_count++;
	ctl_req_init(&second, &rig, 4, 4);
	ctl_req_submit(&second);
}

static void
submit_from_the_end_callback_is_served(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 8);
	ctl_req_init(&req, &rig, 0, 4);
	req.req.ended = submitter_ended;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 4);
	ctl_req_expect(&second, 0, 4);
	ctl_rig_close(&rig);
}

static void
quiesce_ends_requests_and_awaits_loads(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 4);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	far_prefetch_quiesce(rig.prefetch);
	assert_int_equal(req.ended_count, 0);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, -ECANCELED, 0);
	assert_false(far_prefetch_idle(rig.prefetch));
	ctl_req_init(&second, &rig, 0, 4);
	assert_int_equal(far_prefetch_submit(rig.prefetch, &second.req), -ECANCELED);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_true(far_prefetch_idle(rig.prefetch));
	assert_int_equal(second.ended_count, 0);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			deadline_answers_with_the_prefix_and_the_buffer_stays_until_the_load_ends),
		cmocka_unit_test(answer_that_is_here_at_the_deadline_is_not_late),
		cmocka_unit_test(deadline_during_lookups_answers_with_what_l1_has),
		cmocka_unit_test(
			adapter_that_gives_up_at_the_deadline_ends_it_as_the_deadline_does),
		cmocka_unit_test(deadline_in_the_past_answers_at_once),
		cmocka_unit_test(tick_asks_to_be_called_at_the_deadline),
		cmocka_unit_test(one_request_times_out_and_the_other_gets_the_shared_load),
		cmocka_unit_test(joiner_with_more_time_outlives_the_first_ones_deadline),
		cmocka_unit_test(cancel_releases_every_loan),
		cmocka_unit_test(cancel_at_every_step_leaves_nothing),
		cmocka_unit_test(cancel_of_one_leaves_the_others_load_alone),
		cmocka_unit_test(session_that_is_gone_costs_the_others_of_its_load_nothing),
		cmocka_unit_test(key_that_is_asked_for_again_after_a_cancel_is_loaded),
		cmocka_unit_test(cancel_from_the_advance_callback_ends_once),
		cmocka_unit_test(submit_from_the_end_callback_is_served),
		cmocka_unit_test(quiesce_ends_requests_and_awaits_loads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
