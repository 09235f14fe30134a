/* loans.c - every lock has an owner: sessions, double releases, strangers, and who holds for too long. */
#include "tests/unit/l1/fixture.h"

#include "base/log.h"

static int lines;
static char last_line[256];

static void
count_line(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	lines++;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static void
a_double_release_harms_nobody_else(void **state)
{
	struct fixture f;
	struct far_l1_grant a, b;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	put(&f, 1, UNIT);
	assert_int_equal(read_one(&f, 1, 1, &a), 0);
	assert_int_equal(release_one(&f, a.loan, 1), 0);
	/* The record is b's now; a's number must not reach it. */
	assert_int_equal(read_one(&f, 1, 1, &b), 0);
	assert_int_not_equal(a.loan, b.loan);
	for (int i = 0; i < 3; i++)
		assert_int_equal(release_one(&f, a.loan, 1), -EBADF);
	assert_int_equal(state_of(&f, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(release_one(&f, b.loan, 1), 0);
	fixture_close(&f);
}

static void
the_same_loan_twice_in_one_call_is_released_once(void **state)
{
	struct fixture f;
	struct far_l1_grant a, b;
	uint64_t loans[3];
	int rcs[3];
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	put(&f, 1, UNIT);
	assert_int_equal(read_one(&f, 1, 1, &a), 0);
	assert_int_equal(read_one(&f, 1, 1, &b), 0);
	loans[0] = loans[1] = a.loan;
	loans[2] = a.loan;
	assert_int_equal(far_l1_finish_read(f.l1, f.session, loans, 3, 1, rcs), 1);
	assert_int_equal(rcs[0], 0);
	assert_int_equal(rcs[1], -EBADF);
	assert_int_equal(rcs[2], -EBADF);
	assert_int_equal(state_of(&f, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(release_one(&f, b.loan, 1), 0);
	fixture_close(&f);
}

static void
another_session_cannot_end_a_loan(void **state)
{
	struct fixture f;
	far_l1_session thief;
	struct far_l1_grant read, write, seen;
	int rc;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	assert_int_equal(far_l1_session_open(f.l1, "thief", &thief), 0);
	put(&f, 1, UNIT);
	assert_int_equal(read_one(&f, 1, 1, &read), 0);
	assert_int_equal(write_one(&f, 2, UNIT, &write), 0);
	far_l1_finish_read(f.l1, thief, &read.loan, 1, 1, &rc);
	assert_int_equal(rc, -EPERM);
	assert_int_equal(far_l1_unsafe_read(f.l1, thief, read.loan, &seen), -EPERM);
	far_l1_finish_write(f.l1, thief, &write.loan, 1, &rc);
	assert_int_equal(rc, -EPERM);
	far_l1_abort_write(f.l1, thief, &write.loan, 1, &rc);
	assert_int_equal(rc, -EPERM);
	far_l1_finish_write_and_reserve_read(f.l1, thief, &write.loan, 1, 1, thief, &rc);
	assert_int_equal(rc, -EPERM);
	far_l1_session_close(f.l1, thief);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	assert_int_equal(abort_one(&f, write.loan), 0);
	fixture_close(&f);
}

static void
a_closed_session_is_refused_everywhere(void **state)
{
	struct fixture f;
	far_l1_session old, fresh;
	struct far_key key = key_n(1);
	struct far_l1_want want = {.key = key_n(2), .size_bytes = UNIT};
	struct far_l1_grant grant;
	uint64_t loan = 1;
	int rc;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	put(&f, 1, UNIT);
	assert_int_equal(far_l1_session_open(f.l1, "old", &old), 0);
	far_l1_session_close(f.l1, old);
	assert_int_equal(far_l1_session_open(f.l1, "fresh", &fresh), 0);
	assert_int_not_equal(old, fresh);
	assert_int_equal(far_l1_reserve_read(f.l1, old, &key, NULL, 1, 1, &grant), 0);
	assert_int_equal(grant.rc, -EPERM);
	assert_int_equal(far_l1_reserve_write(f.l1, old, &want, 1, &grant), 0);
	assert_int_equal(grant.rc, -EPERM);
	assert_int_equal(far_l1_reserve_read(f.l1, 0, &key, NULL, 1, 1, &grant), 0);
	assert_int_equal(grant.rc, -EPERM);
	assert_int_equal(far_l1_finish_write(f.l1, old, &loan, 1, &rc), 0);
	assert_int_equal(rc, -EPERM);
	assert_int_equal(far_l1_finish_read(f.l1, old, &loan, 1, 1, &rc), 0);
	assert_int_equal(rc, -EPERM);
	assert_int_equal(far_l1_abort_write(f.l1, old, &loan, 1, &rc), 0);
	assert_int_equal(rc, -EPERM);
	far_l1_session_close(f.l1, old); /* twice harms nobody */
	far_l1_session_close(f.l1, 0);
	assert_int_equal(far_l1_reserve_read(f.l1, fresh, &key, NULL, 1, 1, &grant), 1);
	far_l1_session_close(f.l1, fresh);
	fixture_close(&f);
}

static void
closing_a_session_ends_its_loans_and_no_others(void **state)
{
	struct fixture f;
	far_l1_session other;
	struct far_l1_grant mine, theirs[4];
	struct far_key keys[2] = {key_n(1), key_n(2)};
	struct far_l1_want wants[2] = {{.key = key_n(3), .size_bytes = UNIT},
				       {.key = key_n(4), .size_bytes = UNIT}};
	int rc;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	put(&f, 1, UNIT);
	put(&f, 2, UNIT);
	assert_int_equal(far_l1_session_open(f.l1, "other", &other), 0);
	assert_int_equal(read_one(&f, 1, 2, &mine), 0);
	assert_int_equal(far_l1_reserve_read(f.l1, other, keys, NULL, 2, 5, theirs), 2);
	assert_int_equal(far_l1_reserve_write(f.l1, other, wants, 2, theirs + 2), 2);
	far_l1_finish_write_and_reserve_read(f.l1, other, &theirs[2].loan, 1, 3, other, &rc);
	assert_int_equal(rc, 0);
	/* In quarantine until its loans end, which they do. */
	assert_int_equal(delete_one(&f, 2, true), 0);
	far_l1_check(f.l1);
	far_l1_session_close(f.l1, other);
	far_l1_check(f.l1);
	assert_int_equal(usage_of(&f).loan_count, 1);
	assert_int_equal(usage_of(&f).quarantine_bytes, 0);
	assert_int_equal(state_of(&f, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(state_of(&f, 3), FAR_L1_READY);
	assert_int_equal(state_of(&f, 4), FAR_L1_ABSENT); /* its write was aborted */
	assert_int_equal(release_one(&f, mine.loan, 2), 0);
	fixture_close(&f);
}

static void
the_flip_hands_the_loan_to_the_reader_session(void **state)
{
	struct fixture f;
	far_l1_session reader;
	struct far_l1_grant write;
	int rc;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	assert_int_equal(far_l1_session_open(f.l1, "reader", &reader), 0);
	assert_int_equal(write_one(&f, 1, UNIT, &write), 0);
	far_l1_finish_write_and_reserve_read(f.l1, f.session, &write.loan, 1, 2, reader, &rc);
	assert_int_equal(rc, 0);
	assert_int_equal(release_one(&f, write.loan, 1), -EPERM);
	far_l1_finish_read(f.l1, reader, &write.loan, 1, 1, &rc);
	assert_int_equal(rc, 0);
	far_l1_check(f.l1);
	far_l1_session_close(f.l1, reader);
	assert_int_equal(state_of(&f, 1), FAR_L1_READY);
	fixture_close(&f);
}

static void
sessions_end_at_their_bound(void **state)
{
	struct fixture f;
	far_l1_session more[3];
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){.sessions_max = 3});
	assert_int_equal(far_l1_session_open(f.l1, "a", &more[0]), 0);
	assert_int_equal(far_l1_session_open(f.l1, NULL, &more[1]), 0);
	assert_int_equal(far_l1_session_open(f.l1, "c", &more[2]), -ENOMEM);
	far_l1_session_close(f.l1, more[0]);
	assert_int_equal(far_l1_session_open(f.l1, "c", &more[2]), 0);
	far_l1_session_close(f.l1, more[1]);
	far_l1_session_close(f.l1, more[2]);
	fixture_close(&f);
}

static void
overdue_loans_are_counted_and_named_once_and_live_on(void **state)
{
	struct fixture f;
	struct far_l1_grant read, write;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	far_log_sink_set(count_line, NULL);
	lines = 0;
	put(&f, 1, UNIT);
	assert_int_equal(read_one(&f, 1, 1, &read), 0);
	far_clock_fake_advance(&f.clock, 5 * FAR_NS_PER_S);
	assert_int_equal(write_one(&f, 2, UNIT, &write), 0);
	far_clock_fake_advance(&f.clock, 5 * FAR_NS_PER_S);
	assert_int_equal(far_l1_report_overdue(f.l1, f.clock.ns, 20 * FAR_NS_PER_S), 0);
	assert_int_equal(lines, 0);
	assert_int_equal(far_l1_report_overdue(f.l1, f.clock.ns, 7 * FAR_NS_PER_S), 1);
	assert_int_equal(lines, 1);
	assert_non_null(strstr(last_line, "'test'"));
	assert_int_equal(far_l1_report_overdue(f.l1, f.clock.ns, 7 * FAR_NS_PER_S), 1);
	assert_int_equal(lines, 1);
	assert_int_equal(far_l1_report_overdue(f.l1, f.clock.ns, FAR_NS_PER_S), 2);
	assert_int_equal(lines, 2);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	assert_int_equal(abort_one(&f, write.loan), 0);
	assert_int_equal(far_l1_report_overdue(f.l1, f.clock.ns, 0), 0);
	far_log_sink_set(NULL, NULL);
	fixture_close(&f);
}

static void
a_prefix_that_runs_out_of_loans_holds_nothing_beyond_its_end(void **state)
{
	struct fixture f;
	struct far_key keys[8];
	struct far_l1_grant grants[8];
	int rc;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){.loans_max = 2, .shards = 1});
	for (uint64_t i = 0; i < 8; i++) {
		keys[i] = key_n(i);
		put(&f, i, 100);
	}
	assert_int_equal(far_l1_reserve_read_prefix(f.l1, f.session, keys, NULL, 8, 1, grants), 2);
	assert_int_equal(grants[2].rc, -ENOMEM);
	for (uint64_t i = 2; i < 8; i++) {
		assert_int_not_equal(grants[i].rc, 0);
		assert_int_equal(state_of(&f, i), FAR_L1_READY);
	}
	far_l1_check(f.l1);
	for (int i = 0; i < 2; i++) {
		far_l1_finish_read(f.l1, f.session, &grants[i].loan, 1, 1, &rc);
		assert_int_equal(rc, 0);
	}
	fixture_close(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_double_release_harms_nobody_else),
		cmocka_unit_test(the_same_loan_twice_in_one_call_is_released_once),
		cmocka_unit_test(another_session_cannot_end_a_loan),
		cmocka_unit_test(a_closed_session_is_refused_everywhere),
		cmocka_unit_test(closing_a_session_ends_its_loans_and_no_others),
		cmocka_unit_test(the_flip_hands_the_loan_to_the_reader_session),
		cmocka_unit_test(a_prefix_that_runs_out_of_loans_holds_nothing_beyond_its_end),
		cmocka_unit_test(sessions_end_at_their_bound),
		cmocka_unit_test(overdue_loans_are_counted_and_named_once_and_live_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
