/* listen.c - listeners are told each event once, by its own name, while nothing of l1 is held. */
#include "tests/unit/l1/fixture.h"

#define SEEN_MAX 2048

/* Remembers what it was told; may call back into l1. */
struct ear {
	struct fixture *f;
	size_t written, prefetched, deleted, accessed, calls;
	struct far_l1_event last;
	uint64_t holds[SEEN_MAX];
	size_t hold_count;
	far_l1_session session;
	bool call_back;
};

static void
ear_call_back(struct ear *ear)
{
	struct far_l1_grant grant;
	struct far_l1_usage usage;

	if (!ear->call_back)
		return;
	/* Would deadlock if any lock of l1 were held here. */
	far_l1_check(ear->f->l1);
	far_l1_usage_get(ear->f->l1, &usage);
	write_one(ear->f, 1u << 30, UNIT, &grant);
	if (grant.rc == 0)
		abort_one(ear->f, grant.loan);
}

static void
on_written(void *arg, const struct far_l1_event *events, size_t count)
{
	struct ear *ear = arg;

	assert_true(count > 0);
	ear->calls++;
	ear->written += count;
	ear->last = events[count - 1];
	for (size_t i = 0; i < count; i++)
		if (events[i].loan != 0 && ear->hold_count < SEEN_MAX)
			ear->holds[ear->hold_count++] = events[i].loan;
	ear_call_back(ear);
}

static void
on_prefetched(void *arg, const struct far_l1_event *events, size_t count)
{
	struct ear *ear = arg;

	assert_true(count > 0);
	ear->calls++;
	ear->prefetched += count;
	ear->last = events[count - 1];
	ear_call_back(ear);
}

static void
on_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	struct ear *ear = arg;

	assert_true(count > 0);
	ear->calls++;
	ear->deleted += count;
	ear->last = events[count - 1];
	ear_call_back(ear);
}

static void
on_accessed(void *arg, const struct far_l1_event *events, size_t count)
{
	struct ear *ear = arg;

	assert_true(count > 0);
	ear->calls++;
	ear->accessed += count;
	ear->last = events[count - 1];
	ear_call_back(ear);
}

static void
ear_open(struct ear *ear, struct fixture *f, bool hold)
{
	struct far_l1_listener listener = {
		.written = on_written,
		.prefetched = on_prefetched,
		.deleted = on_deleted,
		.accessed = on_accessed,
		.arg = ear,
		.hold_written = hold,
	};

	memset(ear, 0, sizeof(*ear));
	ear->f = f;
	if (hold) {
		assert_int_equal(far_l1_session_open(f->l1, "ear", &ear->session), 0);
		listener.session = ear->session;
	}
	assert_int_equal(far_l1_listen(f->l1, &listener), 0);
}

static void
each_event_is_told_once_under_its_own_name(void **state)
{
	struct fixture f;
	struct ear ear;
	struct far_key keys[3] = {key_n(1), key_n(7), key_n(2)};
	struct far_l1_grant grant, read, grants[3];
	struct far_key key = key_n(1);
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	ear_open(&ear, &f, false);
	put(&f, 1, 100);
	assert_int_equal(ear.written, 1);
	assert_int_equal(ear.prefetched, 0);
	assert_true(far_key_equal(&ear.last.key, &key));
	assert_int_equal(ear.last.size_bytes, 100);
	assert_int_equal(ear.last.loan, 0);
	assert_int_equal(write_one(&f, 2, 200, &grant), 0);
	assert_int_equal(flip_one(&f, grant.loan, 1), 0);
	assert_int_equal(ear.written, 1); /* a prefetched block is not stored back */
	assert_int_equal(ear.prefetched, 1);
	assert_int_equal(ear.last.loan, 0);
	assert_ptr_equal(ear.last.addr, grant.addr);
	assert_int_equal(release_one(&f, grant.loan, 1), 0);
	assert_int_equal(ear.accessed, 0);
	assert_int_equal(read_one(&f, 1, 1, &read), 0);
	assert_int_equal(read_one(&f, 7, 1, &grant), -ENOENT);
	assert_int_equal(ear.accessed, 1);
	touch_one(&f, 2);
	touch_one(&f, 7);
	assert_int_equal(ear.accessed, 2);
	assert_int_equal(far_l1_reserve_read(f.l1, f.session, keys, NULL, 3, 1, grants), 2);
	assert_int_equal(ear.accessed, 4);
	assert_int_equal(release_one(&f, grants[0].loan, 1), 0);
	assert_int_equal(release_one(&f, grants[2].loan, 1), 0);
	assert_int_equal(delete_one(&f, 2, false), 0);
	assert_int_equal(ear.deleted, 1);
	assert_int_equal(delete_one(&f, 1, true), 0);
	assert_int_equal(ear.deleted, 2);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	assert_int_equal(ear.deleted, 2);
	fixture_close(&f);
}

static void
calls_that_change_nothing_tell_nothing(void **state)
{
	struct fixture f;
	struct ear ear;
	struct far_l1_grant grant, read;
	uint64_t loans[2];
	int rcs[2];
	(void)state;

	/* Its listeners fail on a call with nothing in it. */
	fixture_open(&f, 2, (struct far_l1_config){0});
	ear_open(&ear, &f, false);
	put(&f, 1, UNIT);
	assert_int_equal(read_one(&f, 1, 2, &read), 0);
	memset(&ear, 0, sizeof(ear));
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	assert_int_equal(release_one(&f, read.loan, 1), -EBADF);
	loans[0] = loans[1] = read.loan;
	assert_int_equal(far_l1_finish_read(f.l1, f.session, loans, 2, 1, rcs), 0);
	assert_int_equal(far_l1_finish_write(f.l1, f.session, loans, 2, rcs), 0);
	assert_int_equal(far_l1_finish_write(f.l1, f.session, loans, 0, rcs), 0);
	assert_int_equal(read_one(&f, 9, 1, &grant), -ENOENT);
	assert_int_equal(delete_one(&f, 9, true), -ENOENT);
	assert_int_equal(far_l1_evict(f.l1, 0, 9, NULL), 0);
	touch_one(&f, 9);
	assert_int_equal(write_one(&f, 2, UNIT, &grant), 0);
	assert_int_equal(abort_one(&f, grant.loan), 0);
	assert_int_equal(ear.calls, 0);
	fixture_close(&f);
}

static void
a_deletion_is_told_with_its_reason(void **state)
{
	struct fixture f;
	struct ear ear;
	struct far_l1_grant read, write;
	(void)state;

	fixture_open(&f, 4, (struct far_l1_config){0});
	ear_open(&ear, &f, false);
	for (uint64_t i = 0; i < 4; i++)
		put(&f, i, UNIT);
	assert_int_equal(write_one(&f, 4, UNIT, &write), 0);
	assert_int_equal(ear.last.why, FAR_L1_WHY_EVICTED);
	assert_int_equal(delete_one(&f, 1, true), 0); /* nobody holds it: force was not needed */
	assert_int_equal(ear.last.why, FAR_L1_WHY_DELETED);
	assert_int_equal(read_one(&f, 2, 1, &read), 0);
	assert_int_equal(delete_one(&f, 2, true), 0);
	assert_int_equal(ear.last.why, FAR_L1_WHY_FORCED);
	assert_int_equal(far_l1_clear(f.l1, false), 1);
	assert_int_equal(ear.last.why, FAR_L1_WHY_CLEARED);
	put(&f, 5, UNIT);
	assert_int_equal(far_l1_evict(f.l1, 1, 1, NULL), UNIT);
	assert_int_equal(ear.last.why, FAR_L1_WHY_EVICTED);
	assert_int_equal(ear.deleted, 5);
	assert_int_equal(far_l1_clear(f.l1, true), 1); /* was never seen */
	assert_int_equal(ear.deleted, 5);
	assert_int_equal(finish_one(&f, write.loan), -ENOENT);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	assert_int_equal(ear.deleted, 5);
	fixture_close(&f);
}

static void
failed_data_is_never_announced(void **state)
{
	struct fixture f;
	struct ear ear;
	struct far_l1_grant a, b, c;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	ear_open(&ear, &f, false);
	assert_int_equal(write_one(&f, 1, 100, &a), 0);
	assert_int_equal(write_one(&f, 2, 100, &b), 0);
	assert_int_equal(write_one(&f, 3, 100, &c), 0);
	assert_int_equal(abort_one(&f, a.loan), 0);
	assert_int_equal(delete_one(&f, 2, true), 0);
	assert_int_equal(delete_one(&f, 3, true), 0);
	assert_int_equal(finish_one(&f, b.loan), -ENOENT);
	assert_int_equal(flip_one(&f, c.loan, 1), -ENOENT);
	assert_int_equal(finish_one(&f, a.loan), -EBADF);
	assert_int_equal(ear.written + ear.prefetched + ear.deleted + ear.accessed, 0);
	fixture_close(&f);
}

static void
every_eviction_is_told_however_many_make_room_for_one_block(void **state)
{
	struct fixture f;
	struct ear ear;
	struct far_l1_grant grant;
	(void)state;

	fixture_open(&f, 500, (struct far_l1_config){0});
	ear_open(&ear, &f, false);
	for (uint64_t i = 0; i < 500; i++)
		put(&f, i, UNIT);
	assert_int_equal(write_one(&f, 900, 400 * UNIT, &grant), 0);
	assert_int_equal(ear.deleted, 400);
	assert_int_equal(abort_one(&f, grant.loan), 0);
	for (uint64_t i = 0; i < 400; i++)
		put(&f, 1000 + i, UNIT);
	assert_int_equal(ear.deleted, 400);
	assert_int_equal(far_l1_clear(f.l1, false), 500);
	assert_int_equal(ear.deleted, 900);
	fixture_close(&f);
}

static void
listeners_may_call_l1(void **state)
{
	enum { COUNT = 300 };
	struct fixture f;
	struct ear ear;
	struct far_l1_want wants[COUNT];
	struct far_key keys[COUNT];
	struct far_l1_grant grants[COUNT];
	uint64_t loans[COUNT];
	int rcs[COUNT];
	(void)state;

	fixture_open(&f, COUNT, (struct far_l1_config){0});
	ear_open(&ear, &f, false);
	ear.call_back = true;
	for (uint64_t round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < COUNT; i++) {
			keys[i] = key_n(round * COUNT + i);
			wants[i] = (struct far_l1_want){.key = keys[i], .size_bytes = UNIT};
		}
		assert_int_equal(far_l1_reserve_write(f.l1, f.session, wants, COUNT, grants),
				 COUNT);
		for (size_t i = 0; i < COUNT; i++)
			loans[i] = grants[i].loan;
		assert_int_equal(far_l1_finish_write(f.l1, f.session, loans, COUNT, rcs), COUNT);
		/* The listener's own write evicted some of them meanwhile. */
		far_l1_reserve_read(f.l1, f.session, keys, NULL, COUNT, 1, grants);
		for (size_t i = 0; i < COUNT; i++)
			loans[i] = grants[i].loan;
		far_l1_finish_read(f.l1, f.session, loans, COUNT, 1, rcs);
	}
	assert_int_equal(ear.written, 3 * COUNT);
	fixture_close(&f);
}

static void
a_holding_listener_gets_the_block_locked_in_the_same_step(void **state)
{
	struct fixture f;
	struct ear ear, plain;
	struct far_l1_grant grant, write;
	int rc;
	(void)state;

	fixture_open(&f, 1, (struct far_l1_config){0});
	ear_open(&ear, &f, true);
	ear_open(&plain, &f, false);
	assert_int_equal(write_one(&f, 1, UNIT, &grant), 0);
	assert_int_equal(finish_one(&f, grant.loan), 0);
	assert_int_equal(ear.hold_count, 1);
	assert_int_equal(plain.written, 1);
	assert_int_equal(plain.hold_count, 0); /* the loan is the holder's alone */
	assert_int_equal(state_of(&f, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(write_one(&f, 2, UNIT, &write), -ENOMEM);
	/* The writer's number is over, and is not the holder's. */
	assert_int_not_equal(ear.holds[0], grant.loan);
	assert_int_equal(finish_one(&f, grant.loan), -EBADF);
	assert_int_equal(release_one(&f, ear.holds[0], 1), -EPERM);
	far_l1_finish_read(f.l1, ear.session, ear.holds, 1, 1, &rc);
	assert_int_equal(rc, 0);
	assert_int_equal(write_one(&f, 2, UNIT, &write), 0);
	/* A prefetched block is not held for it. */
	assert_int_equal(flip_one(&f, write.loan, 1), 0);
	assert_int_equal(release_one(&f, write.loan, 1), 0);
	assert_int_equal(state_of(&f, 2), FAR_L1_READY);
	far_l1_session_close(f.l1, ear.session);
	/* Its session is gone: it is told, and holds nothing. */
	put(&f, 3, UNIT);
	assert_int_equal(ear.written, 2);
	assert_int_equal(ear.last.loan, 0);
	assert_int_equal(state_of(&f, 3), FAR_L1_READY);
	fixture_close(&f);
}

static void
closing_a_holding_session_ends_its_holds(void **state)
{
	struct fixture f;
	struct ear ear;
	(void)state;

	fixture_open(&f, 200, (struct far_l1_config){0});
	ear_open(&ear, &f, true);
	for (uint64_t i = 0; i < 200; i++)
		put(&f, i, UNIT);
	assert_int_equal(usage_of(&f).loan_count, 200);
	far_l1_check(f.l1);
	far_l1_session_close(f.l1, ear.session);
	assert_int_equal(usage_of(&f).loan_count, 0);
	fixture_close(&f);
}

static void
only_one_listener_holds_and_at_most_four_listen(void **state)
{
	struct fixture f;
	struct ear ears[4];
	struct far_l1_listener hold = {.written = on_written, .hold_written = true};
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	assert_int_equal(far_l1_listen(f.l1, &hold), -EINVAL); /* no session */
	ear_open(&ears[0], &f, true);
	hold.session = f.session;
	assert_int_equal(far_l1_listen(f.l1, &hold), -EINVAL); /* there is one */
	for (int i = 1; i < 4; i++)
		ear_open(&ears[i], &f, false);
	hold.hold_written = false;
	assert_int_equal(far_l1_listen(f.l1, &hold), -ENOMEM);
	far_l1_session_close(f.l1, ears[0].session);
	fixture_close(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_event_is_told_once_under_its_own_name),
		cmocka_unit_test(calls_that_change_nothing_tell_nothing),
		cmocka_unit_test(a_deletion_is_told_with_its_reason),
		cmocka_unit_test(failed_data_is_never_announced),
		cmocka_unit_test(every_eviction_is_told_however_many_make_room_for_one_block),
		cmocka_unit_test(listeners_may_call_l1),
		cmocka_unit_test(a_holding_listener_gets_the_block_locked_in_the_same_step),
		cmocka_unit_test(closing_a_holding_session_ends_its_holds),
		cmocka_unit_test(only_one_listener_holds_and_at_most_four_listen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
