/* prefetch_evictor.c - an evictor that runs after every single L1 call must find nothing to take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"
#include "tests/support/l1_evictor.h"
#include "tests/support/l1_wrap.h"

#include "base/err.h"

/*
 * Whatever the controllers call of L1, right behind it the evictor takes all that nobody holds, and
 * writes over it. Then every block that was reported is looked at, byte by byte: a block that was
 * reported without a lock that holds it, for however short a time, is seen here, each time.
 */
#define REQS 3

static struct ctl_rig rig;
static struct l1_evictor evictor;
static struct ctl_req reqs[REQS];
static bool given_up[REQS]; /* cancelled or released: nothing is promised any more */
static uint32_t reqs_live;

static void
check_held(void)
{
	for (uint32_t r = 0; r < reqs_live; r++) {
		const struct ctl_req *req = &reqs[r];

		if (given_up[r] || (req->req.mode == FAR_PREFETCH_WARM && req->ended_count > 0))
			continue;
		for (uint32_t i = 0; i < req->advanced_to; i++) {
			const struct far_prefetch_view *view = &req->views[i];

			assert_int_equal(view->rc, 0);
			/* A warm request that is ending gives its blocks back, one batch at a time. */
			if (req->req.mode == FAR_PREFETCH_WARM && view->loan == 0)
				continue;
			assert_true(view->loan != 0);
			assert_true(fake_l2_matches(&req->keys[i], view->addr, view->size_bytes));
		}
	}
}

static void
after_call(void *arg, struct far_l1 *l1, enum l1_call call)
{
	(void)arg;
	(void)call;
	if (l1 != evictor.l1)
		return;
	l1_evictor_run(&evictor);
	check_held();
}

static void
evictor_starts(void)
{
	struct l1_wrap wrap = {.after = after_call};

	l1_wrap_set(&wrap);
}

static void
evictor_stops(void)
{
	l1_wrap_set(NULL);
}

static void
open_with(const struct ctl_options *options)
{
	ctl_rig_open(&rig, options);
	l1_evictor_open(&evictor, rig.l1, CTL_BLOCK_BYTES);
	memset(given_up, 0, sizeof(given_up));
	reqs_live = 0;
}

static void
open_fakes(uint32_t fakes, uint32_t window_keys)
{
	struct ctl_options options = {.fakes = fakes, .prefetch = {.window_keys = window_keys}};

	open_with(&options);
}

static void
close_all(void)
{
	evictor_stops();
	l1_evictor_close(&evictor);
	ctl_rig_close(&rig);
}

static struct ctl_req *
req_init(uint64_t first, uint32_t count)
{
	struct ctl_req *req = &reqs[reqs_live];

	ctl_req_init(req, &rig, first, count);
	return req;
}

static void
req_go(struct ctl_req *req)
{
	ctl_req_submit(req);
	reqs_live++;
}

/* As it ended, with the evictor at work; then loans go one by one, and the others still hold. */
static void
req_expect(struct ctl_req *req, int rc, uint32_t prefix_count)
{
	given_up[req - reqs] = true;
	ctl_req_expect(req, rc, prefix_count);
}

/* ---- what is reported stays ---- */

static void
prefix_of_both_tiers_survives(uint32_t window_keys, const char *policy,
			      enum far_l1_policy l1_policy)
{
	struct ctl_options options = {.fakes = 2,
				      .policy = policy,
				      .l1_policy = l1_policy,
				      .prefetch = {.window_keys = window_keys}};
	struct ctl_req *other;

	open_with(&options);
	/* Keys of L1 among keys of both stores, and a load that fails and comes from elsewhere. */
	ctl_rig_put(&rig, 0, 0, 6);
	ctl_rig_write(&rig, 6, CTL_BLOCK_BYTES);
	ctl_rig_write(&rig, 7, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 1, 4, 12);
	ctl_rig_fail(&rig, 0, 4, FAR_L2_LOAD, -ESTALE, 1);
	req_go(req_init(0, 16));
	other = req_init(2, 8);
	other->req.session = rig.other;
	other->req.readers = 3;
	req_go(other);
	evictor_starts();
	ctl_rig_run(&rig);
	assert_int_equal(reqs[0].advanced_to, 16);
	assert_int_equal(ctl_rig_loans(&rig), 24);
	assert_true(evictor.rounds > 4);
	req_expect(&reqs[0], 0, 16);
	check_held();
	req_expect(&reqs[1], 0, 8);
	close_all();
}

static void
racing_evictor_never_shrinks_a_reported_prefix(void **state)
{
	(void)state;
	for (uint32_t window_keys = 1; window_keys <= 16; window_keys++) {
		prefix_of_both_tiers_survives(window_keys, "retain", FAR_L1_LRU);
		/* Blocks that go with their last reader, and another order of eviction. */
		prefix_of_both_tiers_survives(window_keys, "default", FAR_L1_S3FIFO);
	}
}

static void
suffix_of_l1_joins_a_prefix_of_l2_under_the_evictor(void **state)
{
	(void)state;
	open_fakes(1, 16);
	ctl_rig_put(&rig, 0, 0, 8);
	for (uint64_t i = 8; i < 16; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	req_go(req_init(0, 16));
	evictor_starts();
	ctl_rig_run(&rig);
	/* The suffix is nowhere else: it was locked before anything was looked up. */
	assert_int_equal(evictor.taken, 0);
	req_expect(&reqs[0], 0, 16);
	assert_int_equal(evictor.taken, 16);
	close_all();
}

static void
prefix_that_the_caller_locked_is_kept_by_its_lock(void **state)
{
	struct ctl_req *req;

	(void)state;
	open_fakes(1, 4);
	for (uint64_t i = 0; i < 6; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 0, 4, 8);
	req = req_init(0, 12);
	evictor_starts();
	ctl_req_lock_prefix(req);
	req_go(req);
	ctl_rig_run(&rig);
	assert_int_equal(req->req.l1_prefix_count, 6);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOAD], 2);
	req_expect(req, 0, 12);
	close_all();
}

static void
evictor_takes_what_was_loaded_behind_a_gap_and_nothing_else(void **state)
{
	(void)state;
	open_fakes(1, 4);
	ctl_rig_put(&rig, 0, 0, 12);
	ctl_rig_fail(&rig, 0, 5, FAR_L2_LOAD, -EBADMSG, 1);
	req_go(req_init(0, 12));
	evictor_starts();
	ctl_rig_run(&rig);
	assert_true(evictor.taken > 0);
	req_expect(&reqs[0], 0, 5);
	close_all();
}

static void
blocks_of_l1_behind_a_gap_are_free_again_at_once(void **state)
{
	(void)state;
	open_fakes(1, 16);
	ctl_rig_put(&rig, 0, 0, 5);
	for (uint64_t i = 6; i < 12; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	req_go(req_init(0, 12));
	evictor_starts();
	ctl_rig_run(&rig);
	assert_int_equal(evictor.taken, 6);
	req_expect(&reqs[0], 0, 5);
	close_all();
}

static void
every_window_of_a_long_request_is_held_while_the_next_one_loads(void **state)
{
	struct ctl_options options = {.fakes = 3,
				      .placement = true,
				      .l1_blocks = 80,
				      .prefetch = {.window_keys = 4, .windows_ahead = 2}};

	(void)state;
	open_with(&options);
	for (uint32_t i = 0; i < 3; i++)
		ctl_rig_put(&rig, i, 0, 64);
	req_go(req_init(0, 64));
	evictor_starts();
	ctl_rig_run(&rig);
	assert_true(reqs[0].advanced_count > 4);
	assert_int_equal(evictor.taken, 0);
	req_expect(&reqs[0], 0, 64);
	close_all();
}

/* ---- who shares a block ---- */

static void
joined_load_is_held_for_each_who_waits_for_it(void **state)
{
	(void)state;
	open_fakes(1, 4);
	ctl_rig_put(&rig, 0, 0, 8);
	for (uint32_t r = 0; r < REQS; r++) {
		struct ctl_req *req = req_init(0, 8);

		req->req.session = r == 1 ? rig.other : rig.session;
		req->req.readers = 1 + r;
		req_go(req);
	}
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	evictor_starts();
	ctl_rig_run(&rig);
	/* The first of them, for whom the blocks would be flipped, goes. */
	given_up[0] = true;
	far_prefetch_req_cancel(rig.prefetch, &reqs[0].req);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(evictor.taken, 0);
	req_expect(&reqs[0], -ECANCELED, 0);
	req_expect(&reqs[1], 0, 8);
	assert_int_equal(evictor.taken, 0);
	check_held();
	req_expect(&reqs[2], 0, 8);
	assert_int_equal(evictor.taken, 8);
	close_all();
}

static void
block_that_is_being_stored_is_held_by_store_and_reader(void **state)
{
	struct ctl_options options = {.store = true, .prefetch = {.window_keys = 4}};

	(void)state;
	open_with(&options);
	ctl_rig_put(&rig, 0, 6, 6);
	rig.fakes[0].held[FAR_L2_STORE] = true;
	evictor_starts();
	for (uint64_t i = 0; i < 6; i++)
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_int_equal(evictor.taken, 0);
	req_go(req_init(0, 12));
	ctl_rig_run(&rig);
	rig.fakes[0].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	/* Stored, from memory that was right; the reader's locks are left. */
	for (uint64_t i = 0; i < 6; i++) {
		struct far_key key = fake_l2_key(i);

		assert_true(fake_l2_has(&rig.fakes[0], &key));
	}
	assert_int_equal(evictor.taken, 0);
	req_expect(&reqs[0], 0, 12);
	close_all();
}

/* ---- how it ends ---- */

static void
what_was_readable_at_the_deadline_stays_until_it_is_released(void **state)
{
	(void)state;
	open_fakes(2, 4);
	ctl_rig_put(&rig, 0, 0, 7);
	ctl_rig_put(&rig, 1, 7, 9);
	rig.fakes[1].held[FAR_L2_LOAD] = true;
	req_go(req_init(0, 16));
	evictor_starts();
	ctl_rig_run(&rig);
	assert_int_equal(reqs[0].advanced_to, 7);
	ctl_rig_advance(&rig, 2 * FAR_NS_PER_S);
	assert_int_equal(reqs[0].ended_count, 1);
	/* The late ones come, into memory that was theirs all the time, and go. */
	assert_int_equal(evictor.taken, 0);
	rig.fakes[1].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_true(evictor.taken > 0);
	req_expect(&reqs[0], -ETIMEDOUT, 7);
	close_all();
}

static void
prefix_that_memory_ended_is_held_as_well(void **state)
{
	struct ctl_options options = {.l1_blocks = 8, .prefetch = {.window_keys = 4}};

	(void)state;
	open_with(&options);
	ctl_rig_put(&rig, 0, 0, 16);
	req_go(req_init(0, 16));
	evictor_starts();
	ctl_rig_run(&rig);
	req_expect(&reqs[0], 0, 8);
	close_all();
}

static void
warm_blocks_are_there_when_the_request_ends(void **state)
{
	struct ctl_req *req;

	(void)state;
	open_fakes(1, 4);
	ctl_rig_put(&rig, 0, 0, 12);
	req = req_init(0, 12);
	req->req.mode = FAR_PREFETCH_WARM;
	req_go(req);
	evictor_starts();
	while (req->advanced_to < 12) {
		(void)far_l2_tick(&rig.fakes[0].l2, far_clock_now(&rig.clock.clock));
		assert_int_equal(evictor.taken, 0);
		(void)far_prefetch_tick(rig.prefetch, far_clock_now(&rig.clock.clock));
	}
	ctl_rig_run(&rig);
	/* And are anybody's from then on. */
	assert_int_equal(evictor.taken, 12);
	req_expect(req, 0, 12);
	close_all();
}

static void
evictor_runs_behind_every_kind_of_call_that_controllers_make(void **state)
{
	(void)state;
	open_fakes(1, 4);
	ctl_rig_put(&rig, 0, 0, 8);
	ctl_rig_fail(&rig, 0, 6, FAR_L2_LOAD, -EIO, 1);
	req_go(req_init(0, 8));
	evictor_starts();
	ctl_rig_run(&rig);
	assert_true(l1_wrap_calls(L1_CALL_RESERVE_READ) > 0);
	assert_true(l1_wrap_calls(L1_CALL_RESERVE_WRITE) > 0);
	assert_true(l1_wrap_calls(L1_CALL_FLIP) > 0);
	assert_true(l1_wrap_calls(L1_CALL_ABORT_WRITE) > 0);
	assert_true(l1_wrap_calls(L1_CALL_FINISH_READ) > 0);
	req_expect(&reqs[0], 0, 6);
	close_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(racing_evictor_never_shrinks_a_reported_prefix),
		cmocka_unit_test(suffix_of_l1_joins_a_prefix_of_l2_under_the_evictor),
		cmocka_unit_test(prefix_that_the_caller_locked_is_kept_by_its_lock),
		cmocka_unit_test(evictor_takes_what_was_loaded_behind_a_gap_and_nothing_else),
		cmocka_unit_test(blocks_of_l1_behind_a_gap_are_free_again_at_once),
		cmocka_unit_test(every_window_of_a_long_request_is_held_while_the_next_one_loads),
		cmocka_unit_test(joined_load_is_held_for_each_who_waits_for_it),
		cmocka_unit_test(block_that_is_being_stored_is_held_by_store_and_reader),
		cmocka_unit_test(what_was_readable_at_the_deadline_stays_until_it_is_released),
		cmocka_unit_test(prefix_that_memory_ended_is_held_as_well),
		cmocka_unit_test(warm_blocks_are_there_when_the_request_ends),
		cmocka_unit_test(evictor_runs_behind_every_kind_of_call_that_controllers_make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
