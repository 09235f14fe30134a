/* delete_window.c - a loan that ends between a deleter's look-up and its claim: no lock is lost, one word. */
#include "tests/unit/l1/fixture.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "l1/l1_priv.h"

/*
 * A deleter looks a block up, tries to claim it, and only then decides why it could not. It holds the
 * table's lock, but loans end without it. The linker sends its two steps through here (--wrap), and the
 * loan ends right behind the one that a test chooses.
 */
#define WAIT_NS (10 * FAR_NS_PER_S)

enum step { STEP_NONE, STEP_LOOKED_UP, STEP_NOT_CLAIMED };

struct world {
	struct fixture f;
	uint64_t loan;
	int (*end)(struct fixture *f, uint64_t loan);
	int end_rc;
	_Atomic bool go;
	pthread_t ender;
	size_t told;
	enum far_l1_why why; /* of the last one told */
};

static struct world *world;
static enum step armed;

uint32_t __real_far_l1_table_find_locked(struct far_l1 *l1, const struct far_key *key,
					 uint64_t hash, uint64_t *word_out);
uint32_t __wrap_far_l1_table_find_locked(struct far_l1 *l1, const struct far_key *key,
					 uint64_t hash, uint64_t *word_out);
bool __real_far_l1_block_claim(struct far_l1 *l1, uint32_t idx);
bool __wrap_far_l1_block_claim(struct far_l1 *l1, uint32_t idx);

static uint64_t
word_of(const struct far_l1 *l1, uint32_t idx)
{
	return atomic_load(&l1->blocks[idx].word);
}

/* The ender frees what it doomed under the lock that we hold: it is let go as far as the mark. */
uint32_t
__wrap_far_l1_table_find_locked(struct far_l1 *l1, const struct far_key *key, uint64_t hash,
				uint64_t *word_out)
{
	uint32_t idx = __real_far_l1_table_find_locked(l1, key, hash, word_out);
	uint64_t until_ns = far_clock_now(far_clock_real()) + WAIT_NS;

	if (armed != STEP_LOOKED_UP)
		return idx;
	armed = STEP_NONE;
	atomic_store(&world->go, true);
	while ((word_of(l1, idx) & WORD_DOOMED) == 0 && far_clock_now(far_clock_real()) < until_ns)
		sched_yield();
	return idx;
}

bool
__wrap_far_l1_block_claim(struct far_l1 *l1, uint32_t idx)
{
	bool claimed = __real_far_l1_block_claim(l1, idx);

	if (armed != STEP_NOT_CLAIMED)
		return claimed;
	armed = STEP_NONE;
	assert_false(claimed);
	world->end_rc = world->end(&world->f, world->loan);
	return claimed;
}

static int
release_all(struct fixture *f, uint64_t loan)
{
	return release_one(f, loan, 1);
}

static void *
end_when_told(void *arg)
{
	struct world *w = arg;

	while (!atomic_load(&w->go))
		sched_yield();
	w->end_rc = w->end(&w->f, w->loan);
	return NULL;
}

static void
on_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	struct world *w = arg;

	w->told += count;
	w->why = events[count - 1].why;
}

static void
world_open(struct world *w)
{
	struct far_l1_listener listener = {.deleted = on_deleted, .arg = w};

	*w = (struct world){.end_rc = 1};
	world = w;
	armed = STEP_NONE;
	fixture_open(&w->f, 8, (struct far_l1_config){0});
	assert_int_equal(far_l1_listen(w->f.l1, &listener), 0);
}

/* The last reader of a temporary dooms it while a deleter stands before it. */
static void
deleter_meets_last_reader(bool force)
{
	struct far_l1_want want = {.key = key_n(1), .size_bytes = UNIT, .flags = FAR_L1_TEMPORARY};
	struct far_l1_grant grant;
	struct world w;
	int rc;

	world_open(&w);
	assert_int_equal(far_l1_reserve_write(w.f.l1, w.f.session, &want, 1, &grant), 1);
	assert_int_equal(flip_one(&w.f, grant.loan, 1), 0);
	w.loan = grant.loan;
	w.end = release_all;
	assert_int_equal(pthread_create(&w.ender, NULL, end_when_told, &w), 0);
	armed = STEP_LOOKED_UP;
	rc = delete_one(&w.f, 1, force);
	pthread_join(w.ender, NULL);
	assert_int_equal(armed, STEP_NONE);
	/* The reader took it along: there was nothing to delete any more, and that was told once. */
	assert_int_equal(rc, -ENOENT);
	assert_int_equal(w.end_rc, 0);
	assert_int_equal(w.told, 1);
	assert_int_equal(w.why, FAR_L1_WHY_TEMPORARY);
	assert_int_equal(state_of(&w.f, 1), FAR_L1_ABSENT);
	assert_int_equal(usage_of(&w.f).used_bytes, 0);
	fixture_close(&w.f);
}

static void
deleter_that_a_temporarys_last_reader_overtakes_finds_nothing(void **state)
{
	(void)state;
	deleter_meets_last_reader(false);
}

static void
force_that_a_temporarys_last_reader_overtakes_finds_nothing(void **state)
{
	(void)state;
	deleter_meets_last_reader(true);
}

/* A block that stays, and whose lock ends when its claim has just failed. */
static void
deleter_meets_the_end_of_a_lock(bool written, bool force)
{
	struct far_l1_grant grant;
	struct world w;

	world_open(&w);
	if (written) {
		assert_int_equal(write_one(&w.f, 1, UNIT, &grant), 0);
	} else {
		put(&w.f, 1, UNIT);
		assert_int_equal(read_one(&w.f, 1, 1, &grant), 0);
	}
	w.loan = grant.loan;
	w.end = written ? finish_one : release_all;
	armed = STEP_NOT_CLAIMED;
	/* Nobody holds it any more: it goes, and not into quarantine. */
	assert_int_equal(delete_one(&w.f, 1, force), 0);
	assert_int_equal(armed, STEP_NONE);
	assert_int_equal(w.end_rc, 0);
	assert_int_equal(w.told, 1);
	assert_int_equal(w.why, FAR_L1_WHY_DELETED);
	assert_int_equal(usage_of(&w.f).used_bytes, 0);
	assert_int_equal(release_one(&w.f, grant.loan, 1), -EBADF);
	fixture_close(&w.f);
}

static void
lock_that_ends_behind_the_failed_claim_is_no_lock(void **state)
{
	(void)state;
	for (int force = 0; force < 2; force++) {
		deleter_meets_the_end_of_a_lock(false, force != 0);
		deleter_meets_the_end_of_a_lock(true, force != 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deleter_that_a_temporarys_last_reader_overtakes_finds_nothing),
		cmocka_unit_test(force_that_a_temporarys_last_reader_overtakes_finds_nothing),
		cmocka_unit_test(lock_that_ends_behind_the_failed_claim_is_no_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
