/* temporary.c - temporary blocks go with the last count of their read loans, however that ends. */
#include "tests/unit/l1/fixture.h"

#include <pthread.h>
#include <stdatomic.h>

/* What was told, by name. */
struct ear {
	struct fixture *f;
	size_t written, prefetched, deleted, accessed, calls;
	size_t why[FAR_L1_WHY_TEMPORARY + 1];
};

static void
on_written(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)events;
	((struct ear *)arg)->written += count;
}

static void
on_prefetched(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)events;
	((struct ear *)arg)->prefetched += count;
}

static void
on_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	struct ear *ear = arg;

	assert_true(count > 0);
	ear->calls++;
	ear->deleted += count;
	for (size_t i = 0; i < count; i++) {
		ear->why[events[i].why]++;
		assert_int_equal(far_l1_state_get(ear->f->l1, &events[i].key), FAR_L1_ABSENT);
	}
	/* Would deadlock if any lock or gate of l1 were held here. */
	far_l1_check(ear->f->l1);
}

static void
ear_open(struct ear *ear, struct fixture *f)
{
	struct far_l1_listener listener = {.written = on_written,
					   .prefetched = on_prefetched,
					   .deleted = on_deleted,
					   .arg = ear};

	*ear = (struct ear){.f = f};
	assert_int_equal(far_l1_listen(f->l1, &listener), 0);
}

static uint64_t
write_temporary(struct fixture *f, uint64_t n)
{
	struct far_l1_want want = {.key = key_n(n), .size_bytes = UNIT, .flags = FAR_L1_TEMPORARY};
	struct far_l1_grant grant;

	assert_int_equal(far_l1_reserve_write(f->l1, f->session, &want, 1, &grant), 1);
	return grant.loan;
}

static int
retain_one(struct fixture *f, uint64_t loan)
{
	int rc;

	far_l1_retain(f->l1, f->session, &loan, 1, &rc);
	return rc;
}

static void
finish_read_of_a_temporary_deletes_it_at_count_zero(void **state)
{
	struct fixture f;
	struct ear ear;
	uint64_t loan;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	ear_open(&ear, &f);
	loan = write_temporary(&f, 1);
	assert_int_equal(flip_one(&f, loan, 3), 0);
	assert_int_equal(ear.prefetched, 1);
	assert_int_equal(release_one(&f, loan, 1), 0);
	assert_int_equal(state_of(&f, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(release_one(&f, loan, 1), 0);
	assert_int_equal(state_of(&f, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(ear.deleted, 0);
	assert_int_equal(release_one(&f, loan, 1), 0);
	assert_int_equal(state_of(&f, 1), FAR_L1_ABSENT);
	assert_int_equal(usage_of(&f).used_bytes, 0);
	assert_int_equal(ear.deleted, 1);
	assert_int_equal(ear.why[FAR_L1_WHY_TEMPORARY], 1);
	assert_int_equal(release_one(&f, loan, 1), -EBADF);
	assert_int_equal(ear.calls, 1);
	fixture_close(&f);
}

static void
a_temporary_lives_until_the_last_of_several_loans_ends(void **state)
{
	struct fixture f;
	struct far_l1_grant reads[3], late;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	assert_int_equal(finish_one(&f, write_temporary(&f, 1)), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(read_one(&f, 1, 1, &reads[i]), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(state_of(&f, 1), FAR_L1_READ_LOCKED);
		assert_int_equal(release_one(&f, reads[i].loan, 1), 0);
	}
	assert_int_equal(read_one(&f, 1, 1, &late), -ENOENT);
	fixture_close(&f);
}

static void
unsafe_reads_of_a_temporary_do_not_keep_it(void **state)
{
	struct fixture f;
	struct far_l1_grant read, seen;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	assert_int_equal(finish_one(&f, write_temporary(&f, 1)), 0);
	assert_int_equal(read_one(&f, 1, 1, &read), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(far_l1_unsafe_read(f.l1, f.session, read.loan, &seen), 0);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	assert_int_equal(state_of(&f, 1), FAR_L1_ABSENT);
	fixture_close(&f);
}

static void
finish_write_of_a_temporary_is_not_announced_and_never_held_for_storing(void **state)
{
	struct fixture f;
	struct ear ear;
	struct far_l1_listener holder = {.written = on_written, .arg = &ear, .hold_written = true};
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	ear_open(&ear, &f);
	assert_int_equal(far_l1_session_open(f.l1, "store", &holder.session), 0);
	assert_int_equal(far_l1_listen(f.l1, &holder), 0);
	assert_int_equal(finish_one(&f, write_temporary(&f, 1)), 0);
	assert_int_equal(ear.written, 0);
	assert_int_equal(state_of(&f, 1), FAR_L1_READY);
	assert_int_equal(usage_of(&f).loan_count, 0);
	far_l1_session_close(f.l1, holder.session);
	fixture_close(&f);
}

static void
reserve_write_of_a_temporary_that_is_there_is_refused(void **state)
{
	struct fixture f;
	struct far_l1_grant grant;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	assert_int_equal(finish_one(&f, write_temporary(&f, 1)), 0);
	assert_int_equal(write_one(&f, 1, UNIT, &grant), -EEXIST);
	fixture_close(&f);
}

static void
an_unread_temporary_can_be_evicted_and_deleted_like_any_block(void **state)
{
	struct fixture f;
	struct ear ear;
	struct far_l1_grant grant;
	(void)state;

	fixture_open(&f, 2, (struct far_l1_config){0});
	ear_open(&ear, &f);
	assert_int_equal(finish_one(&f, write_temporary(&f, 1)), 0);
	assert_int_equal(finish_one(&f, write_temporary(&f, 2)), 0);
	assert_int_equal(write_one(&f, 3, UNIT, &grant), 0);
	assert_int_equal(ear.why[FAR_L1_WHY_EVICTED], 1);
	assert_int_equal(delete_one(&f, 2, false), 0);
	assert_int_equal(ear.why[FAR_L1_WHY_DELETED], 1);
	assert_int_equal(ear.why[FAR_L1_WHY_TEMPORARY], 0);
	assert_int_equal(abort_one(&f, grant.loan), 0);
	fixture_close(&f);
}

static void
closing_a_session_ends_its_temporaries_and_tells_each(void **state)
{
	enum { COUNT = 300 };
	struct fixture f;
	struct ear ear;
	far_l1_session reader;
	struct far_key keys[COUNT];
	struct far_l1_grant grants[COUNT], kept;
	(void)state;

	fixture_open(&f, 512, (struct far_l1_config){0});
	ear_open(&ear, &f);
	assert_int_equal(far_l1_session_open(f.l1, "reader", &reader), 0);
	for (uint64_t i = 0; i < COUNT; i++) {
		keys[i] = key_n(i);
		assert_int_equal(finish_one(&f, write_temporary(&f, i)), 0);
	}
	assert_int_equal(far_l1_reserve_read(f.l1, reader, keys, NULL, COUNT, 2, grants), COUNT);
	assert_int_equal(read_one(&f, 7, 1, &kept), 0);
	far_l1_session_close(f.l1, reader);
	assert_int_equal(ear.why[FAR_L1_WHY_TEMPORARY], COUNT - 1);
	assert_int_equal(state_of(&f, 7), FAR_L1_READ_LOCKED);
	assert_int_equal(usage_of(&f).block_count, 1);
	assert_int_equal(release_one(&f, kept.loan, 1), 0);
	assert_int_equal(ear.why[FAR_L1_WHY_TEMPORARY], COUNT);
	fixture_close(&f);
}

static void
a_long_batch_of_last_releases_ends_each_temporary_once(void **state)
{
	enum { COUNT = 300 };
	struct fixture f;
	struct ear ear;
	uint64_t loans[COUNT];
	int rcs[COUNT];
	(void)state;

	fixture_open(&f, 512, (struct far_l1_config){0});
	ear_open(&ear, &f);
	for (uint64_t i = 0; i < COUNT; i++) {
		loans[i] = write_temporary(&f, i);
		assert_int_equal(flip_one(&f, loans[i], 1), 0);
	}
	loans[200] = loans[100]; /* given twice: one block stays */
	assert_int_equal(far_l1_finish_read(f.l1, f.session, loans, COUNT, 1, rcs), COUNT - 1);
	assert_int_equal(rcs[200], -EBADF);
	assert_int_equal(ear.deleted, COUNT - 1);
	assert_int_equal(usage_of(&f).used_bytes, UNIT);
	assert_int_equal(state_of(&f, 200), FAR_L1_READ_LOCKED);
	far_l1_session_close(f.l1, f.session);
	assert_int_equal(ear.deleted, COUNT);
	assert_int_equal(far_l1_session_open(f.l1, "test", &f.session), 0);
	fixture_close(&f);
}

static void
a_temporary_deleted_by_force_is_told_once_and_freed_by_its_last_reader(void **state)
{
	struct fixture f;
	struct ear ear;
	struct far_l1_grant again;
	uint64_t loan;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	ear_open(&ear, &f);
	loan = write_temporary(&f, 1);
	assert_int_equal(flip_one(&f, loan, 1), 0);
	assert_int_equal(delete_one(&f, 1, false), -EBUSY);
	assert_int_equal(delete_one(&f, 1, true), 0);
	assert_int_equal(ear.why[FAR_L1_WHY_FORCED], 1);
	assert_int_equal(retain_one(&f, loan), -ENOENT);
	assert_int_equal(usage_of(&f).quarantine_bytes, UNIT);
	assert_int_equal(write_one(&f, 1, UNIT, &again), 0);
	assert_int_equal(release_one(&f, loan, 1), 0);
	assert_int_equal(usage_of(&f).quarantine_bytes, 0);
	assert_int_equal(ear.deleted, 1);
	assert_int_equal(state_of(&f, 1), FAR_L1_WRITE_LOCKED);
	assert_int_equal(abort_one(&f, again.loan), 0);
	fixture_close(&f);
}

static void
an_aborted_temporary_leaves_nothing_and_is_not_told(void **state)
{
	struct fixture f;
	struct ear ear;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	ear_open(&ear, &f);
	assert_int_equal(abort_one(&f, write_temporary(&f, 1)), 0);
	assert_int_equal(usage_of(&f).used_bytes, 0);
	assert_int_equal(ear.deleted, 0);
	/* The record is used again, by a block that is not temporary. */
	put(&f, 2, UNIT);
	assert_int_equal(ear.written, 1);
	fixture_close(&f);
}

static void
a_retained_block_stays_whether_the_writer_or_a_reader_retains_it(void **state)
{
	struct fixture f;
	struct ear ear;
	far_l1_session other;
	uint64_t loans[2];
	int rc;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	ear_open(&ear, &f);
	assert_int_equal(far_l1_session_open(f.l1, "other", &other), 0);
	for (uint64_t i = 0; i < 2; i++)
		loans[i] = write_temporary(&f, i);
	assert_int_equal(retain_one(&f, loans[0]), 0);
	assert_int_equal(flip_one(&f, loans[0], 1), 0);
	assert_int_equal(flip_one(&f, loans[1], 1), 0);
	assert_int_equal(far_l1_retain(f.l1, other, &loans[1], 1, &rc), 0);
	assert_int_equal(rc, -EPERM);
	assert_int_equal(retain_one(&f, loans[1]), 0);
	assert_int_equal(retain_one(&f, loans[1]), 0);
	for (uint64_t i = 0; i < 2; i++) {
		assert_int_equal(release_one(&f, loans[i], 1), 0);
		assert_int_equal(retain_one(&f, loans[i]), -EBADF);
		assert_int_equal(state_of(&f, i), FAR_L1_READY);
	}
	assert_int_equal(ear.written + ear.deleted, 0);
	far_l1_session_close(f.l1, other);
	fixture_close(&f);
}

static void
a_reservation_that_gets_no_loan_does_not_end_an_unread_temporary(void **state)
{
	enum { LOANS = 4 };
	struct fixture f;
	struct far_l1_grant grants[6];
	struct far_key keys[6];
	uint64_t loans[6];
	int rcs[6];
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){.loans_max = LOANS, .shards = 1});
	for (uint64_t i = 0; i < 6; i++) {
		keys[i] = key_n(i);
		assert_int_equal(finish_one(&f, write_temporary(&f, i)), 0);
	}
	assert_int_equal(far_l1_reserve_read(f.l1, f.session, keys, NULL, 6, 1, grants), LOANS);
	for (uint64_t i = 0; i < 6; i++) {
		assert_int_equal(grants[i].rc, i < LOANS ? 0 : -ENOMEM);
		assert_int_equal(state_of(&f, i), i < LOANS ? FAR_L1_READ_LOCKED : FAR_L1_READY);
		loans[i] = grants[i].loan;
	}
	assert_int_equal(far_l1_finish_read(f.l1, f.session, loans, LOANS, 1, rcs), LOANS);
	assert_int_equal(usage_of(&f).block_count, 2);
	fixture_close(&f);
}

/* --- Readers that race with the end. --- */

#define RACERS 4
#define ROUNDS 4000

struct race {
	struct fixture f;
	struct ear ear;
	_Atomic uint64_t told[FAR_L1_WHY_TEMPORARY + 1];
	_Atomic int stop;
	_Atomic uint64_t read;
};

static void
race_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	struct race *race = arg;

	for (size_t i = 0; i < count; i++)
		race->told[events[i].why]++;
}

/* Whoever gets the block sees its bytes; whoever does not gets a miss and nothing else. */
static void *
race_reader(void *arg)
{
	struct race *race = arg;
	struct far_key key = key_n(1);
	far_l1_session session;

	if (far_l1_session_open(race->f.l1, "racer", &session) != 0)
		abort();
	while (!race->stop) {
		struct far_l1_grant grant;
		int rc;

		far_l1_reserve_read(race->f.l1, session, &key, NULL, 1, 1, &grant);
		if (grant.rc == -ENOENT)
			continue;
		if (grant.rc != 0 || ((uint8_t *)grant.addr)[0] != 0x5a)
			abort();
		far_l1_finish_read(race->f.l1, session, &grant.loan, 1, 1, &rc);
		if (rc != 0)
			abort();
		race->read++;
	}
	far_l1_session_close(race->f.l1, session);
	return NULL;
}

/* Deletes it, by force every other time: 0, in use, or not there any more. */
static void *
race_deleter(void *arg)
{
	struct race *race = arg;
	bool force = false;

	while (!race->stop) {
		int rc = delete_one(&race->f, 1, force);

		if (rc != 0 && rc != -ENOENT && (force || rc != -EBUSY))
			abort();
		force = !force;
	}
	return NULL;
}

/* Temporaries one after the other under one key, ended by their writer, or whoever is the last. */
static void
race_run(struct race *race, uint32_t rounds)
{
	uint32_t blocks = 0;

	while (blocks < rounds) {
		struct far_l1_want want = {
			.key = key_n(1), .size_bytes = UNIT, .flags = FAR_L1_TEMPORARY};
		struct far_l1_grant grant;
		int rc;

		far_l1_reserve_write(race->f.l1, race->f.session, &want, 1, &grant);
		if (grant.rc == -EEXIST || grant.rc == -ENOMEM)
			continue; /* somebody has the last one still */
		assert_int_equal(grant.rc, 0);
		memset(grant.addr, 0x5a, UNIT);
		rc = flip_one(&race->f, grant.loan, 1);
		if (rc == -ENOENT)
			continue; /* deleted before it was seen: not told */
		assert_int_equal(rc, 0);
		blocks++;
		assert_int_equal(release_one(&race->f, grant.loan, 1), 0);
		if (blocks % 512 == 0)
			far_l1_check(race->f.l1);
	}
}

static void
a_racing_reader_gets_the_block_or_a_miss_and_each_end_is_told_once(void **state)
{
	(void)state;
	for (int deleters = 0; deleters < 2; deleters++) {
		struct race *race = calloc(1, sizeof(*race));
		struct far_l1_listener listener = {.deleted = race_deleted, .arg = race};
		pthread_t threads[RACERS];

		assert_non_null(race);
		/* Each racer may be about to take one out. */
		fixture_open(&race->f, 2 + RACERS, (struct far_l1_config){0});
		assert_int_equal(far_l1_listen(race->f.l1, &listener), 0);
		for (int i = 0; i < RACERS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL,
							i < deleters ? race_deleter : race_reader,
							race),
					 0);
		race_run(race, ROUNDS);
		race->stop = 1;
		for (int i = 0; i < RACERS; i++)
			pthread_join(threads[i], NULL);
		assert_int_equal(race->told[FAR_L1_WHY_TEMPORARY] + race->told[FAR_L1_WHY_FORCED] +
					 race->told[FAR_L1_WHY_DELETED],
				 ROUNDS);
		assert_true(deleters > 0 || race->told[FAR_L1_WHY_TEMPORARY] == ROUNDS);
		assert_int_equal(usage_of(&race->f).used_bytes, 0);
		fixture_close(&race->f);
		free(race);
	}
}

static int
let_go_one(struct fixture *f, uint64_t loan)
{
	int rc;

	far_l1_let_go(f->l1, f->session, &loan, 1, &rc);
	return rc;
}

static uint64_t
loan_read(struct fixture *f, uint64_t n)
{
	struct far_l1_grant grant;

	assert_int_equal(read_one(f, n, 1, &grant), 0);
	return grant.loan;
}

static void
a_block_that_is_let_go_stays_until_its_last_reader_has_gone(void **state)
{
	struct far_key key = key_n(1);
	struct fixture f;
	struct ear ear;
	uint64_t mine, other, late;

	(void)state;
	fixture_open(&f, 8, (struct far_l1_config){0});
	ear_open(&ear, &f);
	put(&f, 1, UNIT);
	mine = loan_read(&f, 1);
	other = loan_read(&f, 1);
	assert_int_equal(let_go_one(&f, mine), 0);
	assert_int_equal(let_go_one(&f, mine), 0);
	assert_int_equal(release_one(&f, mine, 1), 0);
	assert_int_equal(let_go_one(&f, mine), -EBADF);
	/* Who comes while somebody reads still gets it. */
	late = loan_read(&f, 1);
	assert_int_equal(release_one(&f, other, 1), 0);
	assert_int_equal(far_l1_state_get(f.l1, &key), FAR_L1_READ_LOCKED);
	assert_int_equal(ear.deleted, 0);
	assert_int_equal(release_one(&f, late, 1), 0);
	assert_int_equal(far_l1_state_get(f.l1, &key), FAR_L1_ABSENT);
	assert_int_equal(ear.why[FAR_L1_WHY_TEMPORARY], 1);
	assert_int_equal(usage_of(&f).used_bytes, 0);
	/* And who wants it again before that can keep it. */
	put(&f, 1, UNIT);
	mine = loan_read(&f, 1);
	assert_int_equal(let_go_one(&f, mine), 0);
	assert_int_equal(retain_one(&f, mine), 0);
	assert_int_equal(release_one(&f, mine, 1), 0);
	assert_int_equal(far_l1_state_get(f.l1, &key), FAR_L1_READY);
	fixture_close(&f);
}

#define LET_GO_ROUNDS 20000U

struct let_go_race {
	struct fixture f;
	_Atomic uint64_t loan; /* for the reader to end; 0: it has */
	_Atomic int stop;
};

static void *
last_reader(void *arg)
{
	struct let_go_race *race = arg;

	while (!race->stop) {
		uint64_t loan = race->loan;
		int rc;

		if (loan == 0)
			continue;
		far_l1_finish_read(race->f.l1, race->f.session, &loan, 1, 1, &rc);
		race->loan = 0;
	}
	return NULL;
}

static void
a_block_let_go_beside_a_release_is_gone_when_both_have_returned(void **state)
{
	struct let_go_race *race = calloc(1, sizeof(*race));
	pthread_t thread;

	(void)state;
	assert_non_null(race);
	fixture_open(&race->f, 8, (struct far_l1_config){0});
	assert_int_equal(pthread_create(&thread, NULL, last_reader, race), 0);
	for (uint64_t i = 1; i <= LET_GO_ROUNDS; i++) {
		struct far_key key = key_n(i);
		uint64_t mine;

		put(&race->f, i, UNIT);
		mine = loan_read(&race->f, i);
		race->loan = loan_read(&race->f, i);
		/* The reader's release falls anywhere between these. */
		assert_int_equal(let_go_one(&race->f, mine), 0);
		assert_int_equal(release_one(&race->f, mine, 1), 0);
		while (race->loan != 0)
			;
		assert_int_equal(far_l1_state_get(race->f.l1, &key), FAR_L1_ABSENT);
	}
	race->stop = 1;
	pthread_join(thread, NULL);
	assert_int_equal(usage_of(&race->f).used_bytes, 0);
	fixture_close(&race->f);
	free(race);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finish_read_of_a_temporary_deletes_it_at_count_zero),
		cmocka_unit_test(a_temporary_lives_until_the_last_of_several_loans_ends),
		cmocka_unit_test(unsafe_reads_of_a_temporary_do_not_keep_it),
		cmocka_unit_test(
			finish_write_of_a_temporary_is_not_announced_and_never_held_for_storing),
		cmocka_unit_test(reserve_write_of_a_temporary_that_is_there_is_refused),
		cmocka_unit_test(an_unread_temporary_can_be_evicted_and_deleted_like_any_block),
		cmocka_unit_test(closing_a_session_ends_its_temporaries_and_tells_each),
		cmocka_unit_test(a_long_batch_of_last_releases_ends_each_temporary_once),
		cmocka_unit_test(
			a_temporary_deleted_by_force_is_told_once_and_freed_by_its_last_reader),
		cmocka_unit_test(an_aborted_temporary_leaves_nothing_and_is_not_told),
		cmocka_unit_test(a_retained_block_stays_whether_the_writer_or_a_reader_retains_it),
		cmocka_unit_test(a_reservation_that_gets_no_loan_does_not_end_an_unread_temporary),
		cmocka_unit_test(
			a_racing_reader_gets_the_block_or_a_miss_and_each_end_is_told_once),
		cmocka_unit_test(a_block_that_is_let_go_stays_until_its_last_reader_has_gone),
		cmocka_unit_test(a_block_let_go_beside_a_release_is_gone_when_both_have_returned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
