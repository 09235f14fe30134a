/* concurrent.c - threads that do not disturb each other: all are granted what they ask for. */
#include "tests/unit/l1/fixture.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define THREADS 10
#define ROUNDS  500ull

struct crowd {
	struct fixture f;
	uint64_t shared; /* a read loan that all of them know */
	_Atomic uint32_t next;
	_Atomic uint32_t wrong;
};

static void
crowd_run(struct crowd *crowd, void *(*run)(void *arg))
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, crowd), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(crowd->wrong, 0);
}

static void *
writer_run(void *arg)
{
	struct crowd *crowd = arg;
	uint64_t first = (uint64_t)crowd->next++ * ROUNDS;

	for (uint64_t i = first; i < first + ROUNDS; i++) {
		struct far_l1_grant grant;

		crowd->wrong += write_one(&crowd->f, i + 1, UNIT, &grant) != 0;
		crowd->wrong += finish_one(&crowd->f, grant.loan) != 0;
	}
	return NULL;
}

static void
threads_that_reserve_different_keys_are_all_granted(void **state)
{
	struct crowd crowd = {0};
	(void)state;

	fixture_open(&crowd.f, THREADS * ROUNDS, (struct far_l1_config){0});
	crowd_run(&crowd, writer_run);
	assert_int_equal(usage_of(&crowd.f).block_count, THREADS * ROUNDS);
	assert_int_equal(usage_of(&crowd.f).evicted_blocks, 0);
	fixture_close(&crowd.f);
}

static void *
reader_run(void *arg)
{
	struct crowd *crowd = arg;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct far_l1_grant grant;

		crowd->wrong += read_one(&crowd->f, 1, 1 + i % 3, &grant) != 0;
		crowd->wrong += ((uint8_t *)grant.addr)[UNIT - 1] != 7;
		crowd->wrong += release_one(&crowd->f, grant.loan, 1 + i % 3) != 0;
	}
	return NULL;
}

static void *
unsafe_reader_run(void *arg)
{
	struct crowd *crowd = arg;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct far_l1_grant seen = {.rc = 0};

		crowd->wrong += far_l1_unsafe_read(crowd->f.l1, crowd->f.session, crowd->shared,
						   &seen) != 0;
		crowd->wrong += ((uint8_t *)seen.addr)[UNIT - 1] != 7;
	}
	return NULL;
}

static void
threads_that_read_one_key_are_all_granted(void **state)
{
	struct crowd crowd = {0};
	struct far_l1_grant grant;
	(void)state;

	fixture_open(&crowd.f, 4, (struct far_l1_config){0});
	assert_int_equal(write_one(&crowd.f, 1, UNIT, &grant), 0);
	memset(grant.addr, 7, UNIT);
	assert_int_equal(flip_one(&crowd.f, grant.loan, 1), 0);
	crowd.shared = grant.loan;
	crowd_run(&crowd, reader_run);
	crowd_run(&crowd, unsafe_reader_run);
	assert_int_equal(state_of(&crowd.f, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(release_one(&crowd.f, grant.loan, 1), 0);
	fixture_close(&crowd.f);
}

/* Of a loan with a count for each, each gives back one. */
static void *
counter_run(void *arg)
{
	struct crowd *crowd = arg;

	crowd->wrong += release_one(&crowd->f, crowd->shared, 1) != 0;
	return NULL;
}

static void
several_readers_of_one_loan_each_end_their_own_count(void **state)
{
	(void)state;
	for (int round = 0; round < 50; round++) {
		struct crowd crowd = {0};
		struct far_l1_grant grant;

		fixture_open(&crowd.f, 4, (struct far_l1_config){0});
		assert_int_equal(write_one(&crowd.f, 1, UNIT, &grant), 0);
		assert_int_equal(flip_one(&crowd.f, grant.loan, THREADS), 0);
		crowd.shared = grant.loan;
		crowd_run(&crowd, counter_run);
		assert_int_equal(state_of(&crowd.f, 1), FAR_L1_READY);
		assert_int_equal(release_one(&crowd.f, grant.loan, 1), -EBADF);
		fixture_close(&crowd.f);
	}
}

/* ---- one session, closed by two threads ---- */
struct closers {
	struct fixture f;
	far_l1_session session;
	_Atomic uint32_t round;
	_Atomic uint32_t done;
};

#define CLOSE_ROUNDS 20000U
#define SPINS_MAX    10000U

static void *
close_when_told(void *arg)
{
	struct closers *c = arg;

	for (uint32_t round = 1; round <= CLOSE_ROUNDS; round++) {
		/* Awake when it comes, unless the processor is needed by others. */
		for (uint32_t spins = 0; atomic_load(&c->round) != round; spins++) {
			if (spins > SPINS_MAX)
				sched_yield();
		}
		far_l1_session_close(c->f.l1, c->session);
		atomic_fetch_add(&c->done, 1);
	}
	return NULL;
}

static void
session_closed_by_two_threads_is_closed_once(void **state)
{
	struct closers c = {.round = 0};
	pthread_t other;
	(void)state;

	fixture_open(&c.f, 8, (struct far_l1_config){0});
	assert_int_equal(pthread_create(&other, NULL, close_when_told, &c), 0);
	for (uint32_t round = 1; round <= CLOSE_ROUNDS; round++) {
		assert_int_equal(far_l1_session_open(c.f.l1, "twice", &c.session), 0);
		atomic_store(&c.round, round);
		/* About as long as the other one needs to see it: each round a little more. */
		for (uint32_t spin = 0; spin < round % 64; spin++)
			atomic_thread_fence(memory_order_seq_cst);
		far_l1_session_close(c.f.l1, c.session);
		while (atomic_load(&c.done) != round)
			sched_yield();
	}
	pthread_join(other, NULL);
	fixture_close(&c.f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_that_reserve_different_keys_are_all_granted),
		cmocka_unit_test(threads_that_read_one_key_are_all_granted),
		cmocka_unit_test(several_readers_of_one_loan_each_end_their_own_count),
		cmocka_unit_test(session_closed_by_two_threads_is_closed_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
