/* prefetch.c - what a request gets: prefixes, gaps, tiers, loans, locks at the adapters. */
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
	struct ctl_options options = {.fakes = fakes};

	ctl_rig_open(&rig, &options);
}

static void
full_prefix_hit_is_read_locked_to_the_last_key(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 5);
	ctl_req_init(&req, &rig, 0, 5);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.ended_count, 1);
	assert_int_equal(ctl_rig_loans(&rig), 5);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(far_l1_state_get(rig.l1, &req.keys[i]), FAR_L1_READ_LOCKED);
		assert_int_equal(req.views[i].adapter, 0);
	}
	assert_int_equal(req.advanced_to, 5);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.l2_hits, 5);
	assert_int_equal(counts.bytes_loaded, 5 * CTL_BLOCK_BYTES);
	ctl_req_expect(&req, 0, 5);
	ctl_rig_close(&rig);
}

static void
prefix_with_gap_stops_at_the_gap(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	ctl_rig_put(&rig, 0, 3, 2);
	ctl_req_init(&req, &rig, 0, 5);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 2);
	assert_int_equal(req.views[2].rc, -ENOENT);
	assert_int_equal(req.views[3].rc, -ECANCELED);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.missed_not_found, 1);
	assert_int_equal(counts.behind_gap, 2);
	ctl_req_expect(&req, 0, 2);
	ctl_rig_close(&rig);
}

static void
missing_first_key_is_an_answer_of_nothing(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 1, 4);
	ctl_req_init(&req, &rig, 0, 5);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.advanced_count, 0);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_req_expect(&req, 0, 0);
	ctl_rig_close(&rig);
}

static void
nothing_found_is_a_miss_of_every_tier(void **state)
{
	(void)state;
	open_with(3);
	ctl_req_init(&req, &rig, 0, 40);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[0].rc, -ENOENT);
	ctl_req_expect(&req, 0, 0);
	ctl_rig_close(&rig);
}

static void
without_adapters_l1_alone_answers(void **state)
{
	(void)state;
	open_with(FAR_L2_SET_MAX);
	ctl_rig_write(&rig, 0, CTL_BLOCK_BYTES);
	ctl_req_init(&req, &rig, 0, 3);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[1].rc, -ENOENT);
	ctl_req_expect(&req, 0, 1);
	ctl_rig_close(&rig);
}

static void
no_keys_end_at_once_with_nothing(void **state)
{
	(void)state;
	open_with(1);
	ctl_req_init(&req, &rig, 0, 0);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 0);
	ctl_rig_close(&rig);
}

static void
disjoint_adapters_make_one_prefix(void **state)
{
	(void)state;
	open_with(3);
	ctl_rig_put(&rig, 0, 0, 1);
	ctl_rig_put(&rig, 0, 3, 1);
	ctl_rig_put(&rig, 1, 1, 2);
	ctl_rig_put(&rig, 2, 4, 1);
	ctl_req_init(&req, &rig, 0, 5);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[0].adapter, 0);
	assert_int_equal(req.views[1].adapter, 1);
	assert_int_equal(req.views[2].adapter, 1);
	assert_int_equal(req.views[3].adapter, 0);
	assert_int_equal(req.views[4].adapter, 2);
	ctl_req_expect(&req, 0, 5);
	ctl_rig_close(&rig);
}

static void
of_several_the_lowest_adapter_loads_and_each_key_once(void **state)
{
	(void)state;
	open_with(2);
	ctl_rig_put(&rig, 1, 0, 6);
	ctl_rig_put(&rig, 0, 2, 2);
	ctl_req_init(&req, &rig, 0, 6);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	for (uint32_t i = 0; i < 6; i++) {
		uint32_t loads = fake_l2_block(&rig.fakes[0], &req.keys[i])->loads;

		assert_int_equal(req.views[i].adapter, i == 2 || i == 3 ? 0 : 1);
		loads += fake_l2_block(&rig.fakes[1], &req.keys[i])->loads;
		assert_int_equal(loads, 1);
	}
	ctl_req_expect(&req, 0, 6);
	ctl_rig_close(&rig);
}

static void
locks_at_the_adapter_return_to_zero(void **state)
{
	/* A full hit, a trimmed prefix, no hit at all, and several adapters that have the same. */
	static const uint32_t holds[][2] = {{8, 0}, {3, 0}, {0, 0}, {8, 8}};

	(void)state;
	for (size_t i = 0; i < sizeof(holds) / sizeof(holds[0]); i++) {
		open_with(2);
		ctl_rig_put(&rig, 0, 0, holds[i][0]);
		ctl_rig_put(&rig, 1, 0, holds[i][1]);
		ctl_rig_put(&rig, 1, 6, 2);
		ctl_req_init(&req, &rig, 0, 8);
		ctl_req_submit(&req);
		ctl_rig_run(&rig);
		assert_int_equal(ctl_rig_locks(&rig), 0);
		assert_int_equal(rig.fakes[0].unlocks_unknown, 0);
		assert_int_equal(rig.fakes[1].unlocks_unknown, 0);
		ctl_req_expect(&req, 0, holds[i][0] > holds[i][1] ? holds[i][0] : holds[i][1]);
		ctl_rig_close(&rig);
	}
}

static void
chosen_source_stays_locked_until_its_load_has_ended(void **state)
{
	(void)state;
	open_with(2);
	ctl_rig_put(&rig, 0, 0, 4);
	ctl_rig_put(&rig, 1, 0, 4);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].locks_live, 4);
	assert_int_equal(rig.fakes[1].locks_live, 0);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_locks(&rig), 0);
	ctl_req_expect(&req, 0, 4);
	ctl_rig_close(&rig);
}

static void
readers_are_counted_exactly(void **state)
{
	int rc;

	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	ctl_req_init(&req, &rig, 0, 2);
	req.req.readers = 3;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.req.prefix_count, 2);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(far_l1_state_get(rig.l1, &req.keys[0]), FAR_L1_READ_LOCKED);
		(void)far_l1_finish_read(rig.l1, rig.session, &req.views[0].loan, 1, 1, &rc);
		assert_int_equal(rc, 0);
	}
	assert_int_equal(far_l1_state_get(rig.l1, &req.keys[0]), FAR_L1_READY);
	(void)far_l1_finish_read(rig.l1, rig.session, &req.views[0].loan, 1, 1, &rc);
	assert_int_equal(rc, -EBADF);
	(void)far_l1_finish_read(rig.l1, rig.session, &req.views[1].loan, 1, 3, &rc);
	assert_int_equal(rc, 0);
	ctl_rig_close(&rig);
}

static void
loaded_keys_behind_a_gap_are_released_with_all_their_readers(void **state)
{
	(void)state;
	open_with(2);
	/* The gap shows only after the keys behind it were loaded. */
	ctl_rig_put(&rig, 0, 0, 1);
	ctl_rig_put(&rig, 0, 2, 3);
	ctl_rig_put(&rig, 1, 1, 1);
	ctl_rig_fail(&rig, 1, 1, FAR_L2_LOAD, -ESTALE, 1);
	rig.fakes[1].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 5);
	req.req.readers = 2;
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 5);
	rig.fakes[1].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 1);
	assert_int_equal(req.views[1].rc, -ESTALE);
	/* What was loaded stays, for whoever asks next. */
	assert_true(ctl_rig_resident(&rig, 2));
	assert_int_equal(far_l1_state_get(rig.l1, &req.keys[2]), FAR_L1_READY);
	assert_false(ctl_rig_resident(&rig, 1));
	ctl_req_expect(&req, 0, 1);
	ctl_rig_close(&rig);
}

static void
l1_and_l2_keys_mix_into_one_prefix(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	ctl_rig_write(&rig, 2, CTL_BLOCK_BYTES);
	ctl_rig_write(&rig, 3, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 0, 4, 2);
	ctl_req_init(&req, &rig, 0, 6);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.l1_hits, 2);
	assert_int_equal(counts.l2_hits, 4);
	/* What L1 has is not asked for. */
	assert_int_equal(fake_l2_block(&rig.fakes[0], &req.keys[2])->lookups, 0);
	assert_int_equal(req.views[2].adapter, -1);
	ctl_req_expect(&req, 0, 6);
	ctl_rig_close(&rig);
}

static void
l1_prefix_of_the_caller_is_kept_and_handed_back(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_write(&rig, 0, CTL_BLOCK_BYTES);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 0, 2, 2);
	ctl_req_init(&req, &rig, 0, 5);
	ctl_req_lock_prefix(&req);
	assert_int_equal(req.req.l1_prefix_count, 2);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(fake_l2_block(&rig.fakes[0], &req.keys[0])->lookups, 0);
	assert_int_equal(req.advanced_to, 4);
	ctl_req_expect(&req, 0, 4);
	ctl_rig_close(&rig);
}

static void
request_that_l1_serves_ends_from_the_tick_not_from_submit(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_write(&rig, 0, CTL_BLOCK_BYTES);
	ctl_req_init(&req, &rig, 0, 1);
	ctl_req_lock_prefix(&req);
	ctl_req_submit(&req);
	assert_int_equal(req.ended_count, 0);
	ctl_rig_run(&rig);
	assert_int_equal(req.advanced_count, 0);
	ctl_req_expect(&req, 0, 1);
	ctl_rig_close(&rig);
}

static void
prefix_is_published_as_windows_arrive(void **state)
{
	struct ctl_options options = {.prefetch = {.window_keys = 4, .windows_ahead = 1}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 12);
	ctl_req_init(&req, &rig, 0, 12);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.advanced_count, 3);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOOKUP], 3);
	assert_int_equal(rig.fakes[0].batch_max[FAR_L2_LOOKUP], 4);
	ctl_req_expect(&req, 0, 12);
	ctl_rig_close(&rig);
}

static void
no_more_windows_than_allowed_are_ahead_of_the_prefix(void **state)
{
	struct ctl_options options = {.prefetch = {.window_keys = 4, .windows_ahead = 2}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 32);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 32);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(fake_l2_block(&rig.fakes[0], &req.keys[7])->lookups, 1);
	assert_int_equal(fake_l2_block(&rig.fakes[0], &req.keys[8])->lookups, 0);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 32);
	ctl_rig_close(&rig);
}

static void
load_tasks_are_cut_by_bytes(void **state)
{
	struct ctl_options options = {
		.prefetch = {.window_keys = 16, .window_bytes = 4 * CTL_BLOCK_BYTES}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 16);
	ctl_req_init(&req, &rig, 0, 16);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOAD], 4);
	assert_int_equal(rig.fakes[0].batch_max[FAR_L2_LOAD], 4);
	ctl_req_expect(&req, 0, 16);
	ctl_rig_close(&rig);
}

static void
requests_beyond_what_fits_wait_and_all_complete(void **state)
{
	/* Loads for one request at a time. */
	struct ctl_options options = {.prefetch = {.loads_max = 4, .window_keys = 4}};
	static struct ctl_req reqs[4];

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 64);
	for (uint64_t i = 0; i < 4; i++) {
		ctl_req_init(&reqs[i], &rig, i * 16, 16);
		ctl_req_submit(&reqs[i]);
	}
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 4; i++)
		ctl_req_expect(&reqs[i], 0, 16);
	ctl_rig_close(&rig);
}

static void
same_keys_again_are_served_by_l1(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 8);
	for (int i = 0; i < 2; i++) {
		ctl_req_init(&req, &rig, 0, 8);
		ctl_req_submit(&req);
		ctl_rig_run(&rig);
		ctl_req_expect(&req, 0, 8);
	}
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOAD], 1);
	ctl_rig_close(&rig);
}

static void
zero_key_is_refused_and_ends_the_prefix(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 3);
	ctl_req_init(&req, &rig, 0, 3);
	req.keys[1] = (struct far_key){{0}};
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[1].rc, -EINVAL);
	ctl_req_expect(&req, 0, 1);
	ctl_rig_close(&rig);
}

static void
every_key_is_counted_once(void **state)
{
	struct far_prefetch_counts c;
	static struct ctl_req reqs[4];

	(void)state;
	open_with(2);
	ctl_rig_put(&rig, 0, 0, 30);
	ctl_rig_put(&rig, 1, 40, 30);
	for (uint64_t i = 0; i < 4; i++) {
		ctl_req_init(&reqs[i], &rig, i * 20, 20);
		ctl_req_submit(&reqs[i]);
	}
	ctl_rig_run(&rig);
	for (uint64_t i = 0; i < 4; i++)
		ctl_req_expect(&reqs[i], 0, i == 0 || i == 2 ? 20 : 10);
	far_prefetch_counts_get(rig.prefetch, &c);
	assert_int_equal(c.keys, 80);
	assert_int_equal(c.keys, c.l1_hits + c.l2_hits + c.behind_gap + c.missed_not_found +
					 c.missed_donor_down + c.missed_stale + c.missed_checksum +
					 c.missed_length + c.missed_no_memory + c.missed_deadline +
					 c.missed_busy + c.missed_error);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_prefix_hit_is_read_locked_to_the_last_key),
		cmocka_unit_test(prefix_with_gap_stops_at_the_gap),
		cmocka_unit_test(missing_first_key_is_an_answer_of_nothing),
		cmocka_unit_test(nothing_found_is_a_miss_of_every_tier),
		cmocka_unit_test(without_adapters_l1_alone_answers),
		cmocka_unit_test(no_keys_end_at_once_with_nothing),
		cmocka_unit_test(disjoint_adapters_make_one_prefix),
		cmocka_unit_test(of_several_the_lowest_adapter_loads_and_each_key_once),
		cmocka_unit_test(locks_at_the_adapter_return_to_zero),
		cmocka_unit_test(chosen_source_stays_locked_until_its_load_has_ended),
		cmocka_unit_test(readers_are_counted_exactly),
		cmocka_unit_test(loaded_keys_behind_a_gap_are_released_with_all_their_readers),
		cmocka_unit_test(l1_and_l2_keys_mix_into_one_prefix),
		cmocka_unit_test(l1_prefix_of_the_caller_is_kept_and_handed_back),
		cmocka_unit_test(request_that_l1_serves_ends_from_the_tick_not_from_submit),
		cmocka_unit_test(prefix_is_published_as_windows_arrive),
		cmocka_unit_test(no_more_windows_than_allowed_are_ahead_of_the_prefix),
		cmocka_unit_test(load_tasks_are_cut_by_bytes),
		cmocka_unit_test(requests_beyond_what_fits_wait_and_all_complete),
		cmocka_unit_test(same_keys_again_are_served_by_l1),
		cmocka_unit_test(zero_key_is_refused_and_ends_the_prefix),
		cmocka_unit_test(every_key_is_counted_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
