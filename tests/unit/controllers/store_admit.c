/* store_admit.c - blocks that are stored at their n-th use: what counts, what is forgotten, and what never. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

static struct ctl_rig rig;
static struct ctl_req req;

static void
open_with(uint32_t admit_after, uint32_t admit_keys)
{
	struct ctl_options options = {
		.store = true,
		.store_policy = "admit_after_n",
		.admit_after = admit_after,
		.admit_keys = admit_keys,
		.store_config = {.queue_max = 8},
	};

	ctl_rig_open(&rig, &options);
}

static struct far_store_counts
counts_now(void)
{
	struct far_store_counts counts;

	far_store_counts_get(rig.store, &counts);
	return counts;
}

static bool
is_stored(uint64_t number)
{
	struct far_key key = fake_l2_key(number);

	return fake_l2_has(&rig.fakes[0], &key);
}

static void
hit(uint64_t number)
{
	struct far_key key = fake_l2_key(number);
	struct far_l1_grant grant;
	int rc;

	assert_int_equal(far_l1_reserve_read(rig.l1, rig.other, &key, NULL, 1, 1, &grant), 1);
	assert_int_equal(far_l1_finish_read(rig.l1, rig.other, &grant.loan, 1, 1, &rc), 1);
}

static void
forget_in_l1(uint64_t number)
{
	struct far_key key = fake_l2_key(number);
	int rc;

	assert_int_equal(far_l1_delete(rig.l1, &key, 1, false, &rc), 1);
}

static void
block_is_stored_at_its_nth_use_and_not_before(void **state)
{
	(void)state;
	open_with(3, 0);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	/* Nothing is held for it. */
	assert_int_equal(ctl_rig_loans(&rig), 0);
	assert_int_equal(counts_now().not_admitted, 1);
	hit(1);
	ctl_rig_run(&rig);
	assert_false(is_stored(1));
	assert_int_equal(rig.wakes, 0);
	hit(1);
	assert_int_equal(rig.wakes, 1);
	ctl_rig_run(&rig);
	assert_true(is_stored(1));
	assert_int_equal(counts_now().blocks_by_hits, 1);
	assert_int_equal(counts_now().blocks_stored, 1);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	/* Once. */
	for (int i = 0; i < 10; i++)
		hit(1);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 1);
	ctl_rig_close(&rig);
}

static void
touch_is_a_use_as_a_read_is(void **state)
{
	struct far_key key = fake_l2_key(1);

	(void)state;
	open_with(2, 0);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	far_l1_touch(rig.l1, &key, 1);
	ctl_rig_run(&rig);
	assert_true(is_stored(1));
	ctl_rig_close(&rig);
}

static void
first_use_is_enough_where_n_is_one(void **state)
{
	(void)state;
	open_with(1, 0);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_true(is_stored(1));
	assert_int_equal(counts_now().not_admitted, 0);
	ctl_rig_close(&rig);
}

static void
block_that_is_written_anew_after_it_left_l1_is_used_again(void **state)
{
	(void)state;
	open_with(3, 0);
	for (int i = 0; i < 2; i++) {
		ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
		ctl_rig_run(&rig);
		assert_false(is_stored(1));
		forget_in_l1(1);
	}
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	assert_true(is_stored(1));
	/* By the write's own loan: it cannot be evicted before. */
	assert_int_equal(counts_now().blocks_by_hits, 0);
	ctl_rig_close(&rig);
}

static void
prefetched_block_is_never_stored_whatever_its_uses(void **state)
{
	(void)state;
	open_with(2, 0);
	/* Written once and lost; somebody else has stored it, and it is loaded from there. */
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	ctl_rig_run(&rig);
	forget_in_l1(1);
	ctl_rig_put(&rig, 0, 1, 1);
	ctl_req_init(&req, &rig, 1, 1);
	ctl_req_submit(&req);
	ctl_rig_run(&rig);
	for (int i = 0; i < 10; i++)
		hit(1);
	ctl_req_expect(&req, 0, 1);
	ctl_rig_run(&rig);
	assert_int_equal(rig.fakes[0].submits[FAR_L2_STORE], 0);
	assert_int_equal(counts_now().blocks_queued, 0);
	ctl_rig_close(&rig);
}

static void
block_that_is_evicted_before_the_owner_locks_it_is_counted_as_gone(void **state)
{
	(void)state;
	open_with(2, 0);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	hit(1);
	assert_int_equal(counts_now().blocks_pending, 1);
	forget_in_l1(1);
	ctl_rig_run(&rig);
	assert_false(is_stored(1));
	assert_int_equal(counts_now().dropped_gone, 1);
	assert_int_equal(counts_now().blocks_pending, 0);
	assert_int_equal(counts_now().bytes_pending, 0);
	ctl_rig_close(&rig);
}

static void
block_of_another_length_under_the_key_is_counted_by_its_own(void **state)
{
	(void)state;
	open_with(2, 0);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	hit(1);
	forget_in_l1(1);
	/* Its second use, so it is stored by its own loan, and the hit finds nothing left to do. */
	ctl_rig_write(&rig, 1, 512);
	assert_int_equal(counts_now().blocks_pending, 2);
	ctl_rig_run(&rig);
	assert_int_equal(counts_now().blocks_stored, 1);
	assert_int_equal(counts_now().bytes_stored, 512);
	assert_int_equal(counts_now().dropped_gone, 1);
	assert_int_equal(counts_now().bytes_pending, 0);
	ctl_rig_close(&rig);
}

static void
hit_that_finds_the_queue_full_is_put_off_to_the_next_one(void **state)
{
	(void)state;
	open_with(2, 0);
	for (uint64_t i = 0; i < 9; i++) {
		ctl_rig_write(&rig, i, CTL_BLOCK_BYTES);
		hit(i);
	}
	/* Eight are queued, the ninth found no room, and is no loss: it is not dropped. */
	assert_int_equal(counts_now().blocks_queued, 8);
	assert_int_equal(counts_now().dropped_queue_full, 0);
	ctl_rig_run(&rig);
	assert_false(is_stored(8));
	hit(8);
	ctl_rig_run(&rig);
	assert_true(is_stored(8));
	ctl_rig_close(&rig);
}

static void
quiesce_leaves_no_wish_and_no_loan(void **state)
{
	(void)state;
	open_with(2, 0);
	ctl_rig_write(&rig, 1, CTL_BLOCK_BYTES);
	hit(1);
	far_store_quiesce(rig.store);
	assert_true(far_store_idle(rig.store));
	assert_int_equal(counts_now().dropped_closing, 1);
	hit(1);
	ctl_rig_run(&rig);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	assert_false(is_stored(1));
	ctl_rig_close(&rig);
}

static void
what_is_used_once_is_forgotten_for_what_comes_later_and_counted(void **state)
{
	uint64_t forgotten;

	(void)state;
	open_with(2, 64);
	for (uint64_t i = 0; i < 250; i++) {
		ctl_rig_write(&rig, i, 64);
		if (i % 50 == 0)
			ctl_rig_run(&rig);
	}
	forgotten = counts_now().admit_forgotten;
	/* 64 keys are remembered at most, so at least the others are not. */
	assert_true(forgotten >= 250 - 64);
	assert_int_equal(counts_now().blocks_queued, 0);
	/* The latest are. */
	hit(249);
	ctl_rig_run(&rig);
	assert_true(is_stored(249));
	/* The first are new. */
	hit(0);
	hit(0);
	ctl_rig_run(&rig);
	assert_false(is_stored(0));
	ctl_rig_close(&rig);
}

/* The table alone: a key that is used twice is stored though many others are used once between. */
static void
uses_age_with_new_keys_and_not_with_time(void **state)
{
	struct far_policy placement = {.replicas = 1};
	struct far_store_policy_config config = {
		.text = "admit_after_n",
		.placement = &placement,
		.admit_after = 3,
		.admit_keys = 1024,
	};
	struct far_key hot = fake_l2_key(1000000);
	struct far_store_policy policy;
	char error[FAR_STORE_POLICY_ERROR_BYTES];
	uint64_t number = 0;

	(void)state;
	assert_int_equal(far_store_policy_init(&policy, &config, error), 0);
	assert_false(policy.admits->written(&policy, &hot));
	for (int i = 0; i < 256; i++) {
		struct far_key key = fake_l2_key(number++);

		assert_false(policy.admits->written(&policy, &key));
	}
	assert_false(policy.admits->written(&policy, &hot));
	/* Then so many new ones that its uses are history. */
	for (int i = 0; i < 20000; i++) {
		struct far_key key = fake_l2_key(number++);

		assert_false(policy.admits->written(&policy, &key));
	}
	assert_false(policy.admits->written(&policy, &hot));
	assert_false(policy.admits->hit(&policy, &hot));
	assert_true(policy.admits->hit(&policy, &hot));
	/* Wanted once, until it is put off. */
	assert_false(policy.admits->hit(&policy, &hot));
	policy.admits->put_off(&policy, &hot);
	assert_true(policy.admits->hit(&policy, &hot));
	assert_true(policy.admits->confirm(&policy, &hot));
	assert_false(policy.admits->confirm(&policy, &hot));
	/* A key that nobody wrote is nobody's to store. */
	for (int i = 0; i < 10; i++)
		assert_false(policy.admits->hit(&policy, &hot));
	far_store_policy_fini(&policy);
}

#define THREADS     4
#define USERS_KEYS  512U
#define USES_EACH   20000U
#define ADMIT_AFTER 7U

static struct far_store_policy shared;
static _Atomic uint64_t admitted[USERS_KEYS];

static void *
user(void *arg)
{
	struct far_rng rng;

	far_rng_init(&rng, (uint64_t)(uintptr_t)arg);
	for (uint32_t i = 0; i < USES_EACH; i++) {
		uint64_t number = far_rng_below(&rng, USERS_KEYS);
		struct far_key key = fake_l2_key(number);

		if (shared.admits->written(&shared, &key) ||
		    (shared.admits->hit(&shared, &key) && shared.admits->confirm(&shared, &key)))
			atomic_fetch_add(&admitted[number], 1);
	}
	return NULL;
}

static void
threads_that_use_the_same_keys_admit_each_no_more_than_its_uses_allow(void **state)
{
	struct far_policy placement = {.replicas = 1};
	struct far_store_policy_config config = {
		.text = "admit_after_n",
		.placement = &placement,
		.admit_after = ADMIT_AFTER,
		.admit_keys = 65536,
	};
	char error[FAR_STORE_POLICY_ERROR_BYTES];
	pthread_t threads[THREADS];
	uint64_t sum = 0;

	(void)state;
	assert_int_equal(far_store_policy_init(&shared, &config, error), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, user, (void *)(i + 1)), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (uint32_t i = 0; i < USERS_KEYS; i++) {
		assert_true(admitted[i] > 0);
		sum += admitted[i];
	}
	assert_true(sum <= 2 * THREADS * (uint64_t)USES_EACH / ADMIT_AFTER);
	assert_int_equal(far_store_policy_forgotten(&shared), 0);
	far_store_policy_fini(&shared);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(block_is_stored_at_its_nth_use_and_not_before),
		cmocka_unit_test(touch_is_a_use_as_a_read_is),
		cmocka_unit_test(first_use_is_enough_where_n_is_one),
		cmocka_unit_test(block_that_is_written_anew_after_it_left_l1_is_used_again),
		cmocka_unit_test(prefetched_block_is_never_stored_whatever_its_uses),
		cmocka_unit_test(
			block_that_is_evicted_before_the_owner_locks_it_is_counted_as_gone),
		cmocka_unit_test(block_of_another_length_under_the_key_is_counted_by_its_own),
		cmocka_unit_test(hit_that_finds_the_queue_full_is_put_off_to_the_next_one),
		cmocka_unit_test(quiesce_leaves_no_wish_and_no_loan),
		cmocka_unit_test(what_is_used_once_is_forgotten_for_what_comes_later_and_counted),
		cmocka_unit_test(uses_age_with_new_keys_and_not_with_time),
		cmocka_unit_test(
			threads_that_use_the_same_keys_admit_each_no_more_than_its_uses_allow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
