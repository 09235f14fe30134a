/* prefetch_trim.c - which keys are kept: the prefix, or all that there are; and the early estimate. */
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
open_with(const struct ctl_options *options)
{
	ctl_rig_open(&rig, options);
	/* {0, 1, 3, 4} of five. */
	ctl_rig_put(&rig, 0, 0, 2);
	ctl_rig_put(&rig, 0, 3, 2);
}

static void
submit(enum far_prefetch_trim trim, uint32_t count)
{
	ctl_req_init(&req, &rig, 0, count);
	req.req.trim = trim;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
}

static void
segmented_prefix_keeps_what_is_found_around_a_hole(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	open_with(NULL);
	submit(FAR_PREFETCH_TRIM_SEGMENTED, 5);
	assert_int_equal(req.req.prefix_count, 2);
	assert_int_equal(req.views[2].rc, -ENOENT);
	assert_int_equal(ctl_rig_loans(&rig), 4);
	assert_false(ctl_rig_resident(&rig, 2));
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.l2_hits, 4);
	assert_int_equal(counts.missed_not_found, 1);
	assert_int_equal(counts.behind_gap, 0);
	ctl_req_expect_keys(&req, 0, "11011");
	ctl_rig_close(&rig);
}

static void
prefix_releases_what_lies_behind_a_hole(void **state)
{
	struct ctl_options options = {.policy = "default"};

	(void)state;
	open_with(&options);
	submit(FAR_PREFETCH_TRIM_PREFIX, 5);
	assert_int_equal(ctl_rig_loans(&rig), 2);
	for (uint64_t i = 2; i < 5; i++)
		assert_false(ctl_rig_resident(&rig, i));
	ctl_req_expect_keys(&req, 0, "11000");
	ctl_rig_close(&rig);
}

static void
load_that_fails_is_a_hole_for_one_and_the_end_for_the_other(void **state)
{
	(void)state;
	for (int all = 0; all < 2; all++) {
		struct ctl_options options = {.policy = "default"};

		open_with(&options);
		ctl_rig_put(&rig, 0, 2, 1);
		ctl_rig_fail(&rig, 0, 2, FAR_L2_LOAD, -EIO, 1);
		submit(all ? FAR_PREFETCH_TRIM_SEGMENTED : FAR_PREFETCH_TRIM_PREFIX, 5);
		assert_int_equal(ctl_rig_resident(&rig, 4), all);
		ctl_req_expect_keys(&req, 0, all ? "11011" : "11000");
		ctl_rig_close(&rig);
	}
}

static void
sparse_keeps_everything_found_even_without_the_first(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 1, 1);
	ctl_rig_put(&rig, 0, 4, 2);
	ctl_rig_write(&rig, 7, CTL_BLOCK_BYTES);
	submit(FAR_PREFETCH_TRIM_SPARSE, 9);
	assert_int_equal(req.req.prefix_count, 0);
	assert_int_equal(req.advanced_count, 0);
	ctl_req_expect_keys(&req, 0, "010011010");
	ctl_rig_close(&rig);
}

static void
holes_do_not_hold_up_the_windows_behind_them(void **state)
{
	struct ctl_options options = {.prefetch = {.window_keys = 4, .windows_ahead = 1}};
	char bits[65];

	(void)state;
	ctl_rig_open(&rig, &options);
	memset(bits, '0', 64);
	bits[64] = '\0';
	for (uint32_t i = 9; i < 64; i += 5) {
		ctl_rig_put(&rig, 0, i, 1);
		bits[i] = '1';
	}
	submit(FAR_PREFETCH_TRIM_SPARSE, 64);
	ctl_req_expect_keys(&req, 0, bits);
	ctl_rig_close(&rig);
}

static void
deadline_keeps_what_has_come_on_both_sides_of_a_gap(void **state)
{
	struct ctl_options options = {.fakes = 2};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 2);
	ctl_rig_put(&rig, 1, 2, 1);
	ctl_rig_put(&rig, 0, 3, 2);
	rig.fakes[1].held[FAR_L2_LOAD] = true;
	submit(FAR_PREFETCH_TRIM_SEGMENTED, 5);
	assert_int_equal(req.ended_count, 0);
	ctl_rig_advance(&rig, FAR_NS_PER_S);
	assert_int_equal(req.views[2].rc, -ETIMEDOUT);
	ctl_req_expect_keys(&req, -ETIMEDOUT, "11011");
	rig.fakes[1].held[FAR_L2_LOAD] = false;
	ctl_rig_close(&rig);
}

static void
cancel_releases_what_lies_behind_gaps_too(void **state)
{
	struct ctl_options options = {.fakes = 2};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 1, 0, 1);
	ctl_rig_put(&rig, 0, 1, 4);
	rig.fakes[1].held[FAR_L2_LOAD] = true;
	submit(FAR_PREFETCH_TRIM_SPARSE, 5);
	assert_int_equal(ctl_rig_loans(&rig), 5);
	far_prefetch_req_cancel(rig.prefetch, &req.req);
	/* The buffer that is still the adapter's. */
	assert_int_equal(ctl_rig_loans(&rig), 1);
	rig.fakes[1].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, -ECANCELED, 0);
	ctl_rig_close(&rig);
}

static void
memory_that_ends_is_a_hole_and_l1_keys_behind_it_are_kept(void **state)
{
	struct ctl_options options = {.l1_blocks = 8};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 10);
	ctl_rig_write(&rig, 10, CTL_BLOCK_BYTES);
	ctl_rig_write(&rig, 11, CTL_BLOCK_BYTES);
	submit(FAR_PREFETCH_TRIM_SPARSE, 12);
	assert_int_equal(req.views[6].rc, -ENOMEM);
	ctl_req_expect_keys(&req, 0, "111111000011");
	ctl_rig_close(&rig);
}

static void
waiter_for_memory_keeps_what_it_learnt_about_holes(void **state)
{
	struct ctl_options options = {.l1_blocks = 4};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 100, 4);
	ctl_rig_put(&rig, 0, 1, 1);
	ctl_rig_put(&rig, 0, 3, 2);
	ctl_req_init(&second, &rig, 100, 4);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	submit(FAR_PREFETCH_TRIM_SPARSE, 5);
	assert_int_equal(req.ended_count, 0);
	assert_int_equal(ctl_rig_loans(&rig), 4);
	ctl_req_expect(&second, 0, 4);
	ctl_rig_advance(&rig, 64 * FAR_NS_PER_MS);
	assert_int_equal(fake_l2_block(&rig.fakes[0], &req.keys[0])->lookups, 1);
	ctl_req_expect_keys(&req, 0, "01011");
	ctl_rig_close(&rig);
}

static void
warm_can_be_sparse(void **state)
{
	(void)state;
	open_with(NULL);
	ctl_req_init(&req, &rig, 0, 5);
	req.req.trim = FAR_PREFETCH_TRIM_SPARSE;
	req.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	assert_true(ctl_rig_resident(&rig, 4));
	ctl_req_expect_keys(&req, 0, "11011");
	ctl_rig_close(&rig);
}

static void
readers_are_counted_behind_gaps_as_well(void **state)
{
	int rc;

	(void)state;
	open_with(NULL);
	ctl_req_init(&req, &rig, 0, 5);
	req.req.trim = FAR_PREFETCH_TRIM_SEGMENTED;
	req.req.readers = 3;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	for (int i = 0; i < 2; i++)
		(void)far_l1_finish_read(rig.l1, rig.session, &req.views[4].loan, 1, 1, &rc);
	assert_int_equal(far_l1_state_get(rig.l1, &req.keys[4]), FAR_L1_READ_LOCKED);
	(void)far_l1_finish_read(rig.l1, rig.session, &req.views[4].loan, 1, 1, &rc);
	assert_int_equal(rc, 0);
	assert_int_equal(far_l1_state_get(rig.l1, &req.keys[4]), FAR_L1_READY);
	req.views[4].loan = 0;
	ctl_req_release(&req);
	ctl_rig_close(&rig);
}

/* ---- the estimate ---- */

static void
estimate_is_there_before_the_loads_have_ended(void **state)
{
	(void)state;
	open_with(NULL);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	submit(FAR_PREFETCH_TRIM_PREFIX, 5);
	assert_int_equal(req.ended_count, 0);
	/* Two, and a gap: it can grow no more. Asking takes nothing away. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(req.req.found_count, 2);
		assert_true(req.req.found_is_final);
	}
	assert_int_equal(req.found_to, 2);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 2);
	assert_int_equal(req.req.found_count, 2);
	ctl_rig_close(&rig);
}

static void
estimate_of_nothing_found_is_zero_and_final(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	submit(FAR_PREFETCH_TRIM_PREFIX, 5);
	assert_int_equal(req.req.found_count, 0);
	assert_true(req.req.found_is_final);
	ctl_req_expect(&req, 0, 0);
	ctl_rig_close(&rig);
}

static void
estimate_grows_as_lookups_answer(void **state)
{
	struct ctl_options options = {.fakes = 2, .prefetch = {.window_keys = 2}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_write(&rig, 0, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 0, 1, 2);
	ctl_rig_put(&rig, 1, 3, 2);
	rig.fakes[1].held[FAR_L2_LOOKUP] = true;
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 6);
	ctl_req_lock_prefix(&req);
	ctl_req_submit(&req);
	assert_int_equal(req.req.found_count, 1);
	ctl_rig_run(&rig);
	assert_int_equal(req.req.found_count, 3);
	assert_false(req.req.found_is_final);
	rig.fakes[1].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	assert_int_equal(req.req.found_count, 5);
	assert_true(req.req.found_is_final);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 5);
	ctl_rig_close(&rig);
}

static void
estimate_counts_what_was_found_though_its_load_fails(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 4);
	ctl_rig_fail(&rig, 0, 1, FAR_L2_LOAD, -ESTALE, 1);
	submit(FAR_PREFETCH_TRIM_PREFIX, 4);
	assert_int_equal(req.req.found_count, 4);
	ctl_req_expect(&req, 0, 1);
	ctl_rig_close(&rig);
}

static void
joiner_learns_at_once_what_the_first_had_found(void **state)
{
	(void)state;
	open_with(NULL);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	submit(FAR_PREFETCH_TRIM_PREFIX, 2);
	ctl_req_init(&second, &rig, 0, 2);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	assert_int_equal(second.req.found_count, 2);
	assert_true(second.req.found_is_final);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 2);
	ctl_req_expect(&second, 0, 2);
	ctl_rig_close(&rig);
}

static void
found_canceller(struct far_prefetch_req *far_req)
{
	far_prefetch_req_cancel(rig.prefetch, far_req);
}

static void
cancel_from_the_estimates_callback_ends_once(void **state)
{
	(void)state;
	open_with(NULL);
	ctl_req_init(&req, &rig, 0, 5);
	req.req.found = found_canceller;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, -ECANCELED, 0);
	ctl_rig_close(&rig);
}

static void
bitmap_of_another_size_and_unknown_trims_are_refused(void **state)
{
	(void)state;
	open_with(NULL);
	ctl_req_init(&req, &rig, 0, 5);
	req.readable.bit_count = 4;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	req.readable.bit_count = 5;
	req.req.trim = (enum far_prefetch_trim)5;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segmented_prefix_keeps_what_is_found_around_a_hole),
		cmocka_unit_test(prefix_releases_what_lies_behind_a_hole),
		cmocka_unit_test(load_that_fails_is_a_hole_for_one_and_the_end_for_the_other),
		cmocka_unit_test(sparse_keeps_everything_found_even_without_the_first),
		cmocka_unit_test(holes_do_not_hold_up_the_windows_behind_them),
		cmocka_unit_test(deadline_keeps_what_has_come_on_both_sides_of_a_gap),
		cmocka_unit_test(cancel_releases_what_lies_behind_gaps_too),
		cmocka_unit_test(memory_that_ends_is_a_hole_and_l1_keys_behind_it_are_kept),
		cmocka_unit_test(waiter_for_memory_keeps_what_it_learnt_about_holes),
		cmocka_unit_test(warm_can_be_sparse),
		cmocka_unit_test(readers_are_counted_behind_gaps_as_well),
		cmocka_unit_test(estimate_is_there_before_the_loads_have_ended),
		cmocka_unit_test(estimate_of_nothing_found_is_zero_and_final),
		cmocka_unit_test(estimate_grows_as_lookups_answer),
		cmocka_unit_test(estimate_counts_what_was_found_though_its_load_fails),
		cmocka_unit_test(joiner_learns_at_once_what_the_first_had_found),
		cmocka_unit_test(cancel_from_the_estimates_callback_ends_once),
		cmocka_unit_test(bitmap_of_another_size_and_unknown_trims_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
