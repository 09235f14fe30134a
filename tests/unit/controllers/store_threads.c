/* store_threads.c - many threads write while the owner stores: nothing is lost, nothing is left. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

#define WRITERS     4
#define BLOCKS_EACH 2000
#define BLOCK_BYTES 64U

static struct ctl_rig rig;
static _Atomic uint32_t writers_left;

static void
write_one(uint64_t number, far_l1_session session)
{
	struct far_l1_want want = {.key = fake_l2_key(number), .size_bytes = BLOCK_BYTES};
	struct far_l1_grant grant;
	int rc;

	/* The store controller's loans may hold all of L1: then this one is not written. */
	if (far_l1_reserve_write(rig.l1, session, &want, 1, &grant) != 1)
		return;
	fake_l2_fill(&want.key, grant.addr, BLOCK_BYTES);
	(void)far_l1_finish_write(rig.l1, session, &grant.loan, 1, &rc);
}

static void *
writer(void *arg)
{
	uint64_t first = (uint64_t)(uintptr_t)arg * BLOCKS_EACH;
	far_l1_session session;

	if (far_l1_session_open(rig.l1, "writer", &session) != 0)
		return NULL;
	for (uint64_t i = 0; i < BLOCKS_EACH; i++) {
		/* Few keys, so that rows of the fake are enough. */
		write_one((first + i) % 600, session);
		if (i % 64 == 0)
			(void)far_store_barrier(rig.store);
	}
	far_l1_session_close(rig.l1, session);
	atomic_fetch_sub(&writers_left, 1);
	return NULL;
}

static void
turn(void)
{
	uint64_t now_ns;

	now_ns = far_clock_now(&rig.clock.clock);
	(void)far_l2_tick(&rig.fakes[0].l2, now_ns);
	(void)far_store_tick(rig.store, now_ns);
}

static void
what_many_threads_write_is_stored_or_counted_exactly_once(void **state)
{
	struct ctl_options options = {.store = true, .store_config = {.queue_max = 32}};
	struct far_store_counts counts;
	pthread_t threads[WRITERS];
	uint64_t barrier;

	(void)state;
	ctl_rig_open(&rig, &options);
	atomic_store(&writers_left, WRITERS);
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)i), 0);
	while (atomic_load(&writers_left) > 0)
		turn();
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	barrier = far_store_barrier(rig.store);
	for (int i = 0; i < 1000 && !far_store_passed(rig.store, barrier); i++)
		turn();
	assert_true(far_store_passed(rig.store, barrier));
	far_store_counts_get(rig.store, &counts);
	assert_true(counts.blocks_queued > 0);
	assert_int_equal(counts.blocks_stored + counts.blocks_had, counts.blocks_queued);
	assert_int_equal(counts.blocks_pending, 0);
	assert_int_equal(counts.bytes_pending, 0);
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

static void
quiesce_beside_writers_ends_idle(void **state)
{
	struct ctl_options options = {.store = true, .store_config = {.queue_max = 32}};
	pthread_t threads[WRITERS];

	(void)state;
	ctl_rig_open(&rig, &options);
	atomic_store(&writers_left, WRITERS);
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)i), 0);
	for (int i = 0; i < 50; i++)
		turn();
	far_store_quiesce(rig.store);
	while (atomic_load(&writers_left) > 0)
		turn();
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	turn();
	assert_true(far_store_idle(rig.store));
	assert_int_equal(ctl_rig_loans(&rig), 0);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_many_threads_write_is_stored_or_counted_exactly_once),
		cmocka_unit_test(quiesce_beside_writers_ends_idle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
