/* prefetch_fault.c - loads that fail, stores that are down or mute, and keys that others write. */
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

/* What a listener was told of. */
static uint32_t told_prefetched;
static uint32_t told_written;
static bool told_key_two;

static void
on_prefetched(void *arg, const struct far_l1_event *events, size_t count)
{
	struct far_key two = fake_l2_key(2);

	(void)arg;
	told_prefetched += (uint32_t)count;
	for (size_t i = 0; i < count; i++)
		told_key_two |= far_key_equal(&events[i].key, &two);
}

static void
on_written(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)arg;
	(void)events;
	told_written += (uint32_t)count;
}

static void
failed_load_is_aborted_and_never_announced(void **state)
{
	struct far_l1_listener listener = {.prefetched = on_prefetched, .written = on_written};
	struct far_prefetch_counts counts;

	(void)state;
	told_prefetched = 0;
	told_written = 0;
	told_key_two = false;
	open_with(1);
	assert_int_equal(far_l1_listen(rig.l1, &listener), 0);
	ctl_rig_put(&rig, 0, 0, 5);
	ctl_rig_fail(&rig, 0, 2, FAR_L2_LOAD, -EBADMSG, 1);
	ctl_req_init(&req, &rig, 0, 5);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[2].rc, -EBADMSG);
	assert_int_equal(far_l1_state_get(rig.l1, &req.keys[2]), FAR_L1_ABSENT);
	assert_int_equal(told_written, 0);
	assert_int_equal(told_prefetched, 4);
	assert_false(told_key_two);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.missed_checksum, 1);
	ctl_req_expect(&req, 0, 2);
	/* The key can be had again. */
	ctl_req_init(&req, &rig, 0, 5);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 5);
	ctl_rig_close(&rig);
}

static void
failed_load_falls_back_to_the_next_adapter_that_has_it(void **state)
{
	static const int rcs[] = {-ESTALE, -EBADMSG, -ENOENT, -EHOSTDOWN, -EIO, -EMSGSIZE};

	(void)state;
	for (size_t i = 0; i < sizeof(rcs) / sizeof(rcs[0]); i++) {
		open_with(3);
		for (uint32_t fake = 0; fake < 3; fake++)
			ctl_rig_put(&rig, fake, 0, 4);
		ctl_rig_fail(&rig, 0, 1, FAR_L2_LOAD, rcs[i], 1);
		ctl_rig_fail(&rig, 0, 2, FAR_L2_LOAD, rcs[i], 1);
		ctl_rig_fail(&rig, 1, 2, FAR_L2_LOAD, rcs[i], 1);
		ctl_req_init(&req, &rig, 0, 4);
		ctl_req_submit(&req);
		ctl_rig_run(&rig);
		assert_int_equal(req.views[0].adapter, 0);
		assert_int_equal(req.views[1].adapter, 1);
		assert_int_equal(req.views[2].adapter, 2);
		assert_int_equal(ctl_rig_locks(&rig), 0);
		ctl_req_expect(&req, 0, 4);
		ctl_rig_close(&rig);
	}
}

static void
reasons_of_failed_loads_are_told_apart(void **state)
{
	struct far_prefetch_counts counts;
	static const int rcs[] = {-ESTALE, -EBADMSG, -ENOENT, -EHOSTDOWN, -EIO, -EMSGSIZE};

	(void)state;
	open_with(1);
	for (size_t i = 0; i < sizeof(rcs) / sizeof(rcs[0]); i++) {
		ctl_rig_put(&rig, 0, i, 1);
		ctl_rig_fail(&rig, 0, i, FAR_L2_LOAD, rcs[i], 1);
		ctl_req_init(&req, &rig, i, 1);
		ctl_req_submit(&req);
		ctl_rig_run(&rig);
		assert_int_equal(req.views[0].rc, rcs[i]);
		ctl_req_expect(&req, 0, 0);
	}
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.missed_stale, 1);
	assert_int_equal(counts.missed_checksum, 1);
	assert_int_equal(counts.missed_not_found, 1);
	assert_int_equal(counts.missed_donor_down, 1);
	assert_int_equal(counts.missed_error, 1);
	assert_int_equal(counts.missed_length, 1);
	ctl_rig_close(&rig);
}

static void
dead_adapter_is_a_miss_at_once(void **state)
{
	struct far_prefetch_counts counts;

	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 4);
	rig.fakes[0].down = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[0].rc, -EHOSTDOWN);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.missed_donor_down, 4);
	ctl_req_expect(&req, 0, 0);
	ctl_rig_close(&rig);
}

static void
dead_adapter_does_not_hide_what_others_have(void **state)
{
	(void)state;
	open_with(2);
	ctl_rig_put(&rig, 0, 0, 4);
	ctl_rig_put(&rig, 1, 0, 2);
	rig.fakes[0].down = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[2].rc, -EHOSTDOWN);
	ctl_req_expect(&req, 0, 2);
	ctl_rig_close(&rig);
}

static void
adapter_that_dies_under_a_load_is_left_for_the_next(void **state)
{
	(void)state;
	open_with(2);
	ctl_rig_put(&rig, 0, 0, 4);
	ctl_rig_put(&rig, 1, 0, 4);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	fake_l2_scribble(&rig.fakes[0]);
	rig.fakes[0].down = true;
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 4);
	ctl_rig_close(&rig);
}

static void
mute_adapter_holds_up_only_what_nobody_else_has(void **state)
{
	(void)state;
	open_with(2);
	ctl_rig_put(&rig, 0, 0, 4);
	ctl_rig_put(&rig, 1, 0, 3);
	rig.fakes[0].held[FAR_L2_LOOKUP] = true;
	ctl_req_init(&req, &rig, 0, 4);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.advanced_to, 0);
	ctl_rig_advance(&rig, 5 * FAR_NS_PER_MS);
	assert_int_equal(req.advanced_to, 3);
	assert_int_equal(req.ended_count, 0);
	/* Its answers come after the plan: they are second choices and lock nothing. */
	rig.fakes[0].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	assert_int_equal(req.views[3].adapter, 0);
	ctl_req_expect(&req, 0, 4);
	assert_int_equal(ctl_rig_locks(&rig), 0);
	ctl_rig_close(&rig);
}

static void
late_answer_is_a_second_choice(void **state)
{
	(void)state;
	open_with(2);
	ctl_rig_put(&rig, 0, 0, 1);
	ctl_rig_put(&rig, 1, 0, 1);
	rig.fakes[0].held[FAR_L2_LOOKUP] = true;
	rig.fakes[1].held[FAR_L2_LOAD] = true;
	ctl_rig_fail(&rig, 1, 0, FAR_L2_LOAD, -ESTALE, 1);
	ctl_req_init(&req, &rig, 0, 1);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_rig_advance(&rig, 5 * FAR_NS_PER_MS);
	assert_int_equal(fake_l2_live(&rig.fakes[1], FAR_L2_LOAD), 1);
	rig.fakes[0].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].locks_live, 0);
	rig.fakes[1].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(req.views[0].adapter, 0);
	ctl_req_expect(&req, 0, 1);
	ctl_rig_close(&rig);
}

static void
full_adapter_queue_is_tried_again(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 2);
	ctl_rig_fail(&rig, 0, 0, FAR_L2_LOOKUP, -EAGAIN, 3);
	ctl_rig_fail(&rig, 0, 1, FAR_L2_LOAD, -EAGAIN, 3);
	ctl_req_init(&req, &rig, 0, 2);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 2);
	ctl_rig_close(&rig);
}

static void
of_many_that_have_it_the_best_few_are_kept_and_the_rest_unlocked(void **state)
{
	(void)state;
	open_with(6);
	for (uint32_t fake = 0; fake < 6; fake++)
		ctl_rig_put(&rig, fake, 0, 2);
	/* Answers come in the wrong order: the last adapters first. */
	for (uint32_t fake = 0; fake < 3; fake++)
		rig.fakes[fake].held[FAR_L2_LOOKUP] = true;
	for (uint32_t fake = 0; fake < 3; fake++)
		ctl_rig_fail(&rig, fake, 1, FAR_L2_LOAD, -ESTALE, 1);
	ctl_req_init(&req, &rig, 0, 2);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	for (uint32_t fake = 0; fake < 3; fake++)
		rig.fakes[fake].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	assert_int_equal(req.views[0].adapter, 0);
	assert_int_equal(req.views[1].adapter, 3);
	assert_int_equal(ctl_rig_locks(&rig), 0);
	ctl_req_expect(&req, 0, 2);
	ctl_rig_close(&rig);
}

static void
limits_of_the_adapter_are_kept(void **state)
{
	(void)state;
	open_with(1);
	rig.fakes[0].l2.limits.items_max = 3;
	rig.fakes[0].l2.limits.tasks_max = 8;
	ctl_rig_put(&rig, 0, 0, 16);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 16);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].batch_max[FAR_L2_LOOKUP], 3);
	assert_int_equal(rig.fakes[0].batch_max[FAR_L2_LOAD], 3);
	assert_int_equal(fake_l2_live(&rig.fakes[0], FAR_L2_LOAD), 2);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 16);
	ctl_rig_close(&rig);
}

static void
key_that_somebody_writes_is_a_busy_miss(void **state)
{
	struct far_l1_want want = {.key = fake_l2_key(1), .size_bytes = CTL_BLOCK_BYTES};
	struct far_prefetch_counts counts;
	struct far_l1_grant grant;
	int rc;

	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 3);
	assert_int_equal(far_l1_reserve_write(rig.l1, rig.other, &want, 1, &grant), 1);
	ctl_req_init(&req, &rig, 0, 3);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	assert_int_equal(req.views[1].rc, -EBUSY);
	far_prefetch_counts_get(rig.prefetch, &counts);
	assert_int_equal(counts.missed_busy, 1);
	ctl_req_expect(&req, 0, 1);
	assert_int_equal(far_l1_abort_write(rig.l1, rig.other, &grant.loan, 1, &rc), 1);
	ctl_rig_close(&rig);
}

static void
key_that_was_written_meanwhile_is_taken_from_l1(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 3);
	rig.fakes[0].held[FAR_L2_LOOKUP] = true;
	ctl_req_init(&req, &rig, 0, 3);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	rig.fakes[0].held[FAR_L2_LOOKUP] = false;
	ctl_rig_run(&rig);
	assert_int_equal(req.views[1].adapter, -1);
	assert_int_equal(req.views[2].adapter, 0);
	ctl_req_expect(&req, 0, 3);
	ctl_rig_close(&rig);
}

static void
block_deleted_by_force_while_it_loads_is_a_miss_and_leaks_nothing(void **state)
{
	int rc;

	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 3);
	rig.fakes[0].held[FAR_L2_LOAD] = true;
	ctl_req_init(&req, &rig, 0, 3);
	ctl_req_submit(&req);
	ctl_req_init(&second, &rig, 1, 1);
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	assert_int_equal(far_l1_delete(rig.l1, &req.keys[1], 1, true, &rc), 1);
	rig.fakes[0].held[FAR_L2_LOAD] = false;
	ctl_rig_run(&rig);
	assert_int_equal(req.views[1].rc, -ENOENT);
	ctl_req_expect(&req, 0, 1);
	ctl_req_expect(&second, 0, 0);
	ctl_rig_close(&rig);
}

static void
prefetched_block_is_never_stored_back(void **state)
{
	struct ctl_options options = {.fakes = 2, .store = true};
	struct far_store_counts counts;

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_rig_put(&rig, 0, 0, 8);
	ctl_req_init(&req, &rig, 0, 8);
	ctl_req_submit(&req);
	ctl_req_init(&second, &rig, 4, 4);
	second.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&second);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 8);
	ctl_req_expect(&second, 0, 4);
	far_store_counts_get(rig.store, &counts);
	assert_int_equal(counts.blocks_queued, 0);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 0);
	assert_int_equal(rig.fakes[1].submits[FAR_L2_STORE], 0);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failed_load_is_aborted_and_never_announced),
		cmocka_unit_test(failed_load_falls_back_to_the_next_adapter_that_has_it),
		cmocka_unit_test(reasons_of_failed_loads_are_told_apart),
		cmocka_unit_test(dead_adapter_is_a_miss_at_once),
		cmocka_unit_test(dead_adapter_does_not_hide_what_others_have),
		cmocka_unit_test(adapter_that_dies_under_a_load_is_left_for_the_next),
		cmocka_unit_test(mute_adapter_holds_up_only_what_nobody_else_has),
		cmocka_unit_test(late_answer_is_a_second_choice),
		cmocka_unit_test(full_adapter_queue_is_tried_again),
		cmocka_unit_test(of_many_that_have_it_the_best_few_are_kept_and_the_rest_unlocked),
		cmocka_unit_test(limits_of_the_adapter_are_kept),
		cmocka_unit_test(key_that_somebody_writes_is_a_busy_miss),
		cmocka_unit_test(key_that_was_written_meanwhile_is_taken_from_l1),
		cmocka_unit_test(block_deleted_by_force_while_it_loads_is_a_miss_and_leaks_nothing),
		cmocka_unit_test(prefetched_block_is_never_stored_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
