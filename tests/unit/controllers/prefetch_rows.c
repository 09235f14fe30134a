/* prefetch_rows.c - models with windows: the longest prefix that is served, and no cell beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

#define CHUNKS 8U

/* Group 0 needs all, group 1 the last two chunks. Cell of (chunk, group): 2 * chunk + group. */
static const int32_t windows[] = {-1, 2};
static const struct far_fold_shape two_groups = {CHUNKS, 2, 1, windows};
/* One group with a window of two chunks; cells are chunks. */
static const struct far_fold_shape one_window = {CHUNKS, 1, 1, &windows[1]};

static struct ctl_rig rig;
static struct ctl_req req;
static struct ctl_req second;

static uint64_t
cell(uint32_t chunk, uint32_t group)
{
	return 2ULL * chunk + group;
}

static void
init(struct ctl_req *one, const struct far_fold_shape *shape)
{
	ctl_req_init(one, &rig, 0, shape->chunks * shape->groups * shape->ranks);
	one->req.shape = shape;
}

static void
submit(const struct far_fold_shape *shape)
{
	init(&req, shape);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
}

static uint32_t
loads_of(uint64_t number)
{
	struct far_key key = fake_l2_key(number);
	uint32_t loads = 0;

	for (uint32_t i = 0; i < rig.set.count; i++)
		loads += fake_l2_block(&rig.fakes[i], &key)->loads;
	return loads;
}

static void
expect_chunks(struct ctl_req *one, int rc, uint32_t chunks)
{
	char bits[CTL_KEYS_MAX + 1];

	assert_int_equal(one->req.chunk_count, chunks);
	(void)far_bitmap_format(&one->readable, bits, sizeof(bits));
	ctl_req_expect_keys(one, rc, bits);
}

static void
only_cells_of_the_window_are_loaded_and_kept(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 16);
	submit(&two_groups);
	for (uint32_t chunk = 0; chunk < CHUNKS; chunk++) {
		assert_int_equal(loads_of(cell(chunk, 0)), 1);
		assert_int_equal(loads_of(cell(chunk, 1)), chunk >= 6);
		assert_int_equal(ctl_rig_resident(&rig, cell(chunk, 1)), chunk >= 6);
	}
	assert_int_equal(ctl_rig_loans(&rig), 10);
	assert_int_equal(ctl_rig_locks(&rig), 0);
	assert_int_equal(req.advanced_count, 0);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.l2_hits, 10);
	assert_int_equal(counts.out_of_window, 6);
	ctl_req_expect_keys(&req, 0, "1010101010101111");
	ctl_rig_close(&rig);
}

static void
cells_out_of_the_window_are_never_locked_in_l1(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	for (uint64_t i = 0; i < 15; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 0, 15, 1);
	rig.fakes[0].held[FAR_L2_LOOKUP] = true;
	submit(&two_groups);
	/* While it looks for the last one, all that L1 has may be evicted: it is told the truth later. */
	assert_int_equal(ctl_rig_loans(&rig), 0);
	rig.fakes[0].held[FAR_L2_LOOKUP] = false;
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_rig_run(&rig);
	for (uint32_t chunk = 0; chunk < CHUNKS; chunk++)
		assert_int_equal(far_l1_state_get(rig.l1, &req.keys[cell(chunk, 1)]),
				 chunk < 6    ? FAR_L1_READY
				 : chunk == 6 ? FAR_L1_READ_LOCKED
					      : FAR_L1_WRITE_LOCKED);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(loads_of(15), 1);
	expect_chunks(&req, 0, 8);
	ctl_rig_close(&rig);
}

static void
what_was_found_is_unlocked_at_the_adapter_before_anything_is_loaded(void **state)
{
	struct ctl_options options = {.fakes = 2};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 15);
	rig.fakes[1].held[FAR_L2_LOOKUP] = true;
	submit(&two_groups);
	assert_int_equal(ctl_rig_locks(&rig), 0);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	rig.fakes[1].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	expect_chunks(&req, 0, 7);
	ctl_rig_close(&rig);
}

static void
hole_of_full_attention_limits_all_groups(void **state)
{
	struct ctl_options options = {.prefetch = {.window_keys = 4, .windows_ahead = 1}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 16);
	init(&req, &two_groups);
	fake_l2_drop(&rig.fakes[0], &req.keys[cell(3, 0)]);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	/* Nobody has to look further. */
	assert_int_equal(fake_l2_block(&rig.fakes[0], &req.keys[cell(5, 0)])->lookups, 0);
	assert_int_equal(req.req.found_count, 6);
	ctl_req_expect_keys(&req, 0, "1011110000000000");
	ctl_rig_close(&rig);
}

static void
longest_prefix_is_served_though_shorter_ones_are_not(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 1);
	ctl_rig_put(&rig, 0, 3, 2);
	ctl_rig_put(&rig, 0, 7, 1);
	submit(&one_window);
	assert_int_equal(loads_of(0) + loads_of(7), 0);
	ctl_req_expect_keys(&req, 0, "00011000");
	ctl_rig_close(&rig);
}

static void
chunk_is_served_only_if_all_ranks_have_it(void **state)
{
	static const struct far_fold_shape shape = {4, 1, 3, windows};

	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 8);
	ctl_rig_put(&rig, 0, 9, 3);
	submit(&shape);
	ctl_req_expect_keys(&req, 0, "111111000000");
	ctl_rig_close(&rig);
}

static void
nothing_that_can_be_served_is_an_answer_of_nothing(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 1, 15);
	submit(&two_groups);
	assert_true(req.req.found_is_final);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOAD], 0);
	expect_chunks(&req, 0, 0);
	ctl_rig_close(&rig);
}

static void
tiers_and_adapters_make_one_prefix(void **state)
{
	struct ctl_options options = {.fakes = 3};

	(void)state;
	ctl_rig_open(&rig, &options);
	for (uint64_t i = 0; i < 16; i++) {
		if (i % 4 == 3)
			ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
		else
			ctl_rig_put(&rig, (uint32_t)(i % 4), i, 1);
	}
	submit(&two_groups);
	expect_chunks(&req, 0, 8);
	ctl_rig_close(&rig);
}

static void
failed_load_falls_back_to_a_shorter_prefix_with_its_own_window(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 16);
	/* The window's last cell; then the one before it as well. */
	ctl_rig_fail(&rig, 0, cell(7, 1), FAR_L2_LOAD, -ESTALE, 1);
	submit(&two_groups);
	assert_int_equal(req.views[cell(7, 1)].rc, -ESTALE);
	/* It was out of the first window. */
	assert_int_equal(loads_of(cell(5, 1)), 1);
	assert_int_equal(ctl_rig_loans(&rig), 7 + 2);
	ctl_req_expect_keys(&req, 0, "1010101010111100");
	(void)far_l1_clear(rig.l1, false);
	ctl_rig_fail(&rig, 0, cell(7, 1), FAR_L2_LOAD, -ESTALE, 1);
	ctl_rig_fail(&rig, 0, cell(5, 1), FAR_L2_LOAD, -EBADMSG, 1);
	submit(&two_groups);
	/* 5 is in no window of two chunks but those that end at 6 or 7, and 7 has gone. */
	ctl_req_expect_keys(&req, 0, "1010101111000000");
	ctl_rig_close(&rig);
}

static void
prefix_that_was_estimated_may_get_shorter_but_is_told_once(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 16);
	ctl_rig_fail(&rig, 0, cell(7, 0), FAR_L2_LOAD, -ESTALE, 1);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	submit(&two_groups);
	assert_int_equal(req.req.found_count, 16);
	assert_true(req.req.found_is_final);
	assert_int_equal(req.found_calls, 1);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(req.req.found_count, 16);
	expect_chunks(&req, 0, 7);
	ctl_rig_close(&rig);
}

static void
memory_that_ends_makes_the_prefix_shorter(void **state)
{
	struct ctl_options options = {.l1_blocks = 6, .prefetch = {.window_keys = 4}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 16);
	submit(&two_groups);
	/* Four and a window of two: six blocks. */
	expect_chunks(&req, 0, 4);
	ctl_rig_close(&rig);
}

static void
without_memory_it_waits_and_holds_nothing(void **state)
{
	struct ctl_options options = {.l1_blocks = 10};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 16);
	ctl_rig_put(&rig, 0, 100, 10);
	ctl_req_init(&second, &rig, 100, 10);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	submit(&two_groups);
	assert_int_equal(req.ended_count, 0);
	assert_int_equal(ctl_rig_loans(&rig), 10);
	assert_int_equal(ctl_rig_locks(&rig), 0);
	ctl_req_expect(&second, 0, 10);
	ctl_rig_advance(&rig, 64 * FAR_NS_PER_MS);
	expect_chunks(&req, 0, 8);
	ctl_rig_close(&rig);
}

/* The choice is told, and nothing is locked yet. */
static void
found_evicts_the_last_cell(struct far_prefetch_req *far_req)
{
	int rc;

	(void)far_l1_delete(rig.l1, &far_req->keys[cell(7, 1)], 1, false, &rc);
	assert_int_equal(rc, 0);
}

static void
cell_that_leaves_l1_after_the_choice_is_loaded_or_makes_it_anew(void **state)
{
	(void)state;
	for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
		ctl_rig_open(&rig, NULL);
		for (uint64_t i = 0; i < 16; i++)
			ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
		if (elsewhere)
			ctl_rig_put(&rig, 0, cell(7, 1), 1);
		init(&req, &two_groups);
		req.req.found = found_evicts_the_last_cell;
		ctl_req_submit(&req);
		ctl_rig_run(&rig);
		expect_chunks(&req, 0, elsewhere ? 8 : 7);
		ctl_rig_close(&rig);
	}
}

static void
mute_adapter_takes_half_of_the_time_at_most(void **state)
{
	struct ctl_options options = {.fakes = 2};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 12);
	ctl_rig_put(&rig, 1, 12, 4);
	rig.fakes[1].held[FAR_L2_LOOKUP] = true;
	submit(&two_groups);
	ctl_rig_advance(&rig, FAR_NS_PER_S / 2 - 1);
	assert_int_equal(req.ended_count, 0);
	ctl_rig_advance(&rig, 1);
	ctl_rig_advance(&rig, 5 * FAR_NS_PER_MS);
	/* Six chunks are found, loaded and served, well before the deadline. */
	assert_int_equal(req.views[12].rc, -ETIMEDOUT);
	expect_chunks(&req, 0, 6);
	rig.fakes[1].held[FAR_L2_LOOKUP] = false;
	ctl_rig_close(&rig);
}

static void
deadline_while_loading_serves_what_has_come(void **state)
{
	struct ctl_options options = {.fakes = 2};

	(void)state;
	ctl_rig_open(&rig, &options);
	/* Chunks 0 to 5 come from one adapter, 6 and 7 from one that does not end its loads. */
	ctl_rig_put(&rig, 0, 0, 12);
	ctl_rig_put(&rig, 1, 12, 4);
	/* Of the window of six chunks, L1 has one cell; the other one is nowhere near. */
	ctl_rig_write(&rig, cell(3, 1), CTL_BLOCK_BYTES);
	ctl_rig_write(&rig, cell(2, 1), CTL_BLOCK_BYTES);
	rig.fakes[1].held[FAR_L2_LOAD] = true;
	submit(&two_groups);
	assert_int_equal(req.ended_count, 0);
	ctl_rig_advance(&rig, FAR_NS_PER_S);
	/* Six of group 0 are readable, and of group 1 what L1 has: chunks 2 and 3. */
	assert_int_equal(req.views[12].rc, -ETIMEDOUT);
	ctl_req_expect_keys(&req, -ETIMEDOUT, "1010111100000000");
	rig.fakes[1].held[FAR_L2_LOAD] = false;
	ctl_rig_close(&rig);
}

static void
deadline_while_finding_serves_what_l1_has(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	for (uint64_t i = 0; i < 8; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	rig.fakes[0].held[FAR_L2_LOOKUP] = true;
	init(&req, &two_groups);
	req.req.deadline_ns = far_clock_now(&rig.clock.clock);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	expect_chunks(&req, -ETIMEDOUT, 4);
	rig.fakes[0].held[FAR_L2_LOOKUP] = false;
	ctl_rig_close(&rig);
}

static void
cancel_at_every_step_leaves_nothing(void **state)
{
	(void)state;
	for (int step = 0; step < 12; step++) {
		struct ctl_options options = {.fakes = 2, .prefetch = {.window_keys = 4}};
		uint64_t now_ns;

		ctl_rig_open(&rig, &options);
		ctl_rig_put(&rig, 0, 0, 10);
		ctl_rig_put(&rig, 1, 8, 8);
		ctl_rig_write(&rig, 3, CTL_BLOCK_BYTES);
		ctl_rig_fail(&rig, 1, cell(7, 1), FAR_L2_LOAD, -ESTALE, 1);
		init(&req, &two_groups);
		ctl_req_submit(&req);
		now_ns = far_clock_now(&rig.clock.clock);
		for (int i = 0; i < step && req.ended_count == 0; i++) {
			(void)far_l2_tick(&rig.fakes[i % 2].l2, now_ns);
			(void)far_prefetch_tick(rig.prefetch, now_ns);
		}
		if (req.ended_count > 0) {
			expect_chunks(&req, 0, 7);
		} else {
			far_prefetch_req_cancel(rig.prefetch, &req.req);
			ctl_rig_run(&rig);
			assert_int_equal(req.req.chunk_count, 0);
			ctl_req_expect(&req, -ECANCELED, 0);
		}
		assert_int_equal(ctl_rig_loans(&rig), 0);
		ctl_rig_close(&rig);
	}
}

static void
requests_with_and_without_windows_share_lookups_and_loads(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 16);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&second, &rig, 0, 16);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	submit(&two_groups);
	/* What is on its way already is not asked for. */
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOOKUP], 1);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(loads_of(i), 1);
	ctl_req_expect(&second, 0, 16);
	expect_chunks(&req, 0, 8);
	ctl_rig_close(&rig);
}

static void
seeker_leaves_the_first_ones_lookup_to_it(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_rig_put(&rig, 0, 0, 16);
	rig.fakes[0].held[FAR_L2_LOOKUP] = true;
	submit(&two_groups);
	ctl_req_init(&second, &rig, 0, 16);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOOKUP], 1);
	rig.fakes[0].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&second, 0, 16);
	expect_chunks(&req, 0, 8);
	ctl_rig_close(&rig);
}

static void
warm_request_leaves_its_cells_resident_and_unlocked(void **state)
{
	struct ctl_options options = {.policy = "default"};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 16);
	init(&req, &two_groups);
	req.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	assert_true(ctl_rig_resident(&rig, cell(0, 0)));
	assert_false(ctl_rig_resident(&rig, cell(0, 1)));
	expect_chunks(&req, 0, 8);
	ctl_rig_close(&rig);
}

static void
shapes_that_do_not_fit_the_request_are_refused(void **state)
{
	struct far_fold_shape shape = two_groups;

	(void)state;
	ctl_rig_open(&rig, NULL);
	init(&req, &shape);
	shape.chunks = 7;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	shape = two_groups;
	shape.ranks = 0;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	shape = two_groups;
	req.req.trim = FAR_PREFETCH_TRIM_ALL;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	req.req.trim = FAR_PREFETCH_TRIM_PREFIX;
	req.req.l1_prefix_count = 1;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	ctl_rig_close(&rig);
}

static void
no_chunks_end_at_once_with_nothing(void **state)
{
	static const struct far_fold_shape empty = {0, 2, 1, windows};

	(void)state;
	ctl_rig_open(&rig, NULL);
	submit(&empty);
	expect_chunks(&req, 0, 0);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_cells_of_the_window_are_loaded_and_kept),
		cmocka_unit_test(cells_out_of_the_window_are_never_locked_in_l1),
		cmocka_unit_test(
			what_was_found_is_unlocked_at_the_adapter_before_anything_is_loaded),
		cmocka_unit_test(hole_of_full_attention_limits_all_groups),
		cmocka_unit_test(longest_prefix_is_served_though_shorter_ones_are_not),
		cmocka_unit_test(chunk_is_served_only_if_all_ranks_have_it),
		cmocka_unit_test(nothing_that_can_be_served_is_an_answer_of_nothing),
		cmocka_unit_test(tiers_and_adapters_make_one_prefix),
		cmocka_unit_test(failed_load_falls_back_to_a_shorter_prefix_with_its_own_window),
		cmocka_unit_test(prefix_that_was_estimated_may_get_shorter_but_is_told_once),
		cmocka_unit_test(memory_that_ends_makes_the_prefix_shorter),
		cmocka_unit_test(without_memory_it_waits_and_holds_nothing),
		cmocka_unit_test(cell_that_leaves_l1_after_the_choice_is_loaded_or_makes_it_anew),
		cmocka_unit_test(mute_adapter_takes_half_of_the_time_at_most),
		cmocka_unit_test(deadline_while_loading_serves_what_has_come),
		cmocka_unit_test(deadline_while_finding_serves_what_l1_has),
		cmocka_unit_test(cancel_at_every_step_leaves_nothing),
		cmocka_unit_test(requests_with_and_without_windows_share_lookups_and_loads),
		cmocka_unit_test(seeker_leaves_the_first_ones_lookup_to_it),
		cmocka_unit_test(warm_request_leaves_its_cells_resident_and_unlocked),
		cmocka_unit_test(shapes_that_do_not_fit_the_request_are_refused),
		cmocka_unit_test(no_chunks_end_at_once_with_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
