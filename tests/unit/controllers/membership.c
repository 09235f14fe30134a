/* membership.c - adapters that come and go while the controllers work with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"
#include "controllers/prefetch_priv.h"

static struct ctl_rig rig;
static struct ctl_req req;
static struct ctl_req second;

/* A further fake, ticked with the others, at the lowest free position. */
static uint32_t
join(const char *name)
{
	struct fake_l2 *fake = &rig.fakes[rig.fake_count];

	assert_true(rig.fake_count < CTL_FAKES_MAX);
	fake_l2_init(fake, name, &rig.clock.clock, rig.fake_count + 1);
	assert_int_equal(far_l2_set_add(&rig.set, &fake->l2), 0);
	rig.fake_count++;
	return fake->l2.idx;
}

static bool
named(uint32_t idx)
{
	return far_prefetch_names(rig.prefetch, idx) ||
	       (rig.store != NULL && far_store_names(rig.store, idx));
}

static void
adapter_that_joins_is_asked_and_loads(void **state)
{
	struct ctl_options options = {.fakes = 1};

	(void)state;
	ctl_rig_open(&rig, &options);
	assert_int_equal(join("late"), 1);
	ctl_rig_put(&rig, 0, 0, 4);
	ctl_rig_put(&rig, 1, 4, 4);
	ctl_req_init(&req, &rig, 0, 8);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 8);
	assert_int_equal(req.views[5].adapter, 1);
	ctl_rig_close(&rig);
}

static void
drained_adapter_ends_what_it_has_and_gets_nothing_new(void **state)
{
	struct ctl_options options = {.fakes = 2};
	uint32_t lookups;

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 1, 0, 8);
	rig.fakes[1].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(fake_l2_live(&rig.fakes[1], FAR_L2_LOAD), 1);
	far_l2_set_drain(&rig.set, 1);
	assert_true(named(1));
	lookups = rig.fakes[1].submits[FAR_L2_LOOKUP];
	ctl_req_init(&second, &rig, 4, 4);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_expect(&second, 0, 0);
	assert_int_equal(rig.fakes[1].submits[FAR_L2_LOOKUP], lookups);
	assert_true(named(1));
	rig.fakes[1].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 4);
	assert_false(named(1));
	assert_ptr_equal(far_l2_set_remove(&rig.set, 1), &rig.fakes[1].l2);
	ctl_rig_close(&rig);
}

static void
adapter_that_is_drained_after_it_answered_is_planned_no_more(void **state)
{
	struct ctl_options options = {.fakes = 3};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 8);
	ctl_rig_put(&rig, 1, 0, 4);
	/* The first one has answered; the plan waits for the others. */
	rig.fakes[1].held[FAR_L2_LOOKUP] = true;
	ctl_req_init(&req, &rig, 0, 8);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].locks_live, 8);
	far_l2_set_drain(&rig.set, 0);
	rig.fakes[1].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_LOAD], 0);
	assert_false(named(0));
	/* Four that another one has as well; the fifth is nowhere now. */
	assert_int_equal(req.views[4].rc, -ENOENT);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(req.views[i].adapter, 1);
	ctl_req_expect(&req, 0, 4);
	assert_ptr_equal(far_l2_set_remove(&rig.set, 0), &rig.fakes[0].l2);
	ctl_rig_close(&rig);
}

static void
drained_adapter_is_no_second_choice(void **state)
{
	struct ctl_options options = {.fakes = 2};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 4);
	ctl_rig_put(&rig, 1, 0, 4);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_rig_fail(&rig, 0, 2, FAR_L2_LOAD, -ESTALE, 1);
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	far_l2_set_drain(&rig.set, 1);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[1].submits[FAR_L2_LOAD], 0);
	assert_false(named(1));
	ctl_req_expect(&req, 0, 2);
	assert_ptr_equal(far_l2_set_remove(&rig.set, 1), &rig.fakes[1].l2);
	ctl_rig_close(&rig);
}

static void
lookup_that_is_late_still_names_its_adapter(void **state)
{
	struct ctl_options options = {.fakes = 2};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 4);
	rig.fakes[1].held[FAR_L2_LOOKUP] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	/* The request has gone on without it; the question has not ended. */
	ctl_rig_advance(&rig, 2 * FAR_NS_PER_S);
	ctl_rig_run(&rig);
	far_l2_set_drain(&rig.set, 1);
	assert_true(named(1));
	assert_false(named(0));
	rig.fakes[1].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	assert_false(named(1));
	(void)far_l2_set_remove(&rig.set, 1);
	ctl_req_release(&req);
	ctl_rig_close(&rig);
}

static void
stores_of_a_drained_adapter_end_there_and_new_ones_go_elsewhere(void **state)
{
	struct ctl_options options = {.fakes = 2, .store = true};

	(void)state;
	ctl_rig_open(&rig, &options);
	rig.fakes[1].held[FAR_L2_STORE] = true;
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	far_l2_set_drain(&rig.set, 1);
	assert_true(named(1));
	ctl_rig_write(&rig, 2, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	rig.fakes[1].held[FAR_L2_STORE] = false;
	ctl_rig_run(&rig);
	assert_false(named(1));
	(void)far_l2_set_remove(&rig.set, 1);
	for (uint64_t number = 1; number <= 2; number++) {
		struct far_key key = fake_l2_key(number);

		assert_true(fake_l2_has(&rig.fakes[0], &key));
		assert_int_equal(fake_l2_has(&rig.fakes[1], &key), number == 1);
	}
	ctl_rig_close(&rig);
}

/* Of two adapters. */
static void
load_from_last(void)
{
	ctl_rig_put(&rig, 1, 0, 4);
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 4);
}

static void
succeed_last(void)
{
	far_l2_set_drain(&rig.set, 1);
	assert_false(named(1));
	(void)far_l2_set_remove(&rig.set, 1);
	assert_int_equal(join("successor"), 1);
}

static void
successor_at_a_position_begins_anew(void **state)
{
	struct ctl_options options = {.fakes = 2, .store = true};
	struct far_key key = fake_l2_key(20);

	(void)state;
	ctl_rig_open(&rig, &options);
	load_from_last();
	succeed_last();
	ctl_rig_put(&rig, 2, 4, 4);
	ctl_req_init(&second, &rig, 4, 4);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_expect(&second, 0, 4);
	assert_int_equal(second.views[0].adapter, 1);
	ctl_rig_write(&rig, 20, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_true(fake_l2_has(&rig.fakes[2], &key));
	assert_false(fake_l2_has(&rig.fakes[1], &key));
	ctl_rig_close(&rig);
}

/* How fast its predecessor was says nothing of it. */
static void
successor_does_not_inherit_a_pace(void **state)
{
	struct ctl_options options = {.fakes = 2};

	(void)state;
	ctl_rig_open(&rig, &options);
	load_from_last();
	assert_true(far_prefetch_pace(rig.prefetch, 1) > 0);
	succeed_last();
	/* Asked, and it has nothing: there is nothing to measure. */
	ctl_req_init(&second, &rig, 4, 4);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_expect(&second, 0, 0);
	assert_true(far_prefetch_pace(rig.prefetch, 1) <= 0);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adapter_that_joins_is_asked_and_loads),
		cmocka_unit_test(drained_adapter_ends_what_it_has_and_gets_nothing_new),
		cmocka_unit_test(adapter_that_is_drained_after_it_answered_is_planned_no_more),
		cmocka_unit_test(drained_adapter_is_no_second_choice),
		cmocka_unit_test(lookup_that_is_late_still_names_its_adapter),
		cmocka_unit_test(stores_of_a_drained_adapter_end_there_and_new_ones_go_elsewhere),
		cmocka_unit_test(successor_at_a_position_begins_anew),
		cmocka_unit_test(successor_does_not_inherit_a_pace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
