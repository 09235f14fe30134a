/* states.c - the life of a block: every call in every state answers what l1.h says. */
#include "tests/unit/l1/fixture.h"

static int
setup(void **state)
{
	struct fixture *f = malloc(sizeof(*f));

	fixture_open(f, 64, (struct far_l1_config){0});
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	fixture_close(*state);
	free(*state);
	return 0;
}

static void
reserve_read_of_an_absent_key_is_a_miss(void **state)
{
	struct far_l1_grant grant;

	assert_int_equal(read_one(*state, 1, 1, &grant), -ENOENT);
	assert_null(grant.addr);
	assert_int_equal(grant.loan, 0);
}

static void
reserve_read_of_a_write_locked_key_is_a_miss(void **state)
{
	struct far_l1_grant grant, read;

	assert_int_equal(write_one(*state, 1, 100, &grant), 0);
	assert_int_equal(read_one(*state, 1, 1, &read), -ENOENT);
	assert_int_equal(abort_one(*state, grant.loan), 0);
}

static void
reserve_read_of_a_ready_key_gives_the_written_buffer(void **state)
{
	struct far_l1_grant grant, read;

	assert_int_equal(write_one(*state, 1, 100, &grant), 0);
	memset(grant.addr, 7, 100);
	assert_int_equal(finish_one(*state, grant.loan), 0);
	assert_int_equal(read_one(*state, 1, 1, &read), 0);
	assert_ptr_equal(read.addr, grant.addr);
	assert_int_equal(read.size_bytes, 100);
	assert_int_equal(read.offset_bytes, grant.offset_bytes);
	assert_int_equal(((uint8_t *)read.addr)[99], 7);
	assert_int_equal(release_one(*state, read.loan, 1), 0);
}

static void
reserve_read_answers_each_key_of_a_call(void **state)
{
	struct fixture *f = *state;
	struct far_key keys[4] = {key_n(1), key_n(2), key_n(3), {{0}}};
	struct far_l1_grant write, grants[4];

	put(f, 1, 100);
	assert_int_equal(write_one(f, 2, 100, &write), 0);
	assert_int_equal(far_l1_reserve_read(f->l1, f->session, keys, NULL, 4, 1, grants), 1);
	assert_int_equal(grants[0].rc, 0);
	assert_int_equal(grants[1].rc, -ENOENT);
	assert_int_equal(grants[2].rc, -ENOENT);
	assert_int_equal(grants[3].rc, -EINVAL);
	assert_int_equal(release_one(f, grants[0].loan, 1), 0);
	assert_int_equal(abort_one(f, write.loan), 0);
}

static void
reserve_read_stacks(void **state)
{
	struct far_l1_grant grants[3];

	put(*state, 1, 100);
	for (int i = 0; i < 3; i++)
		assert_int_equal(read_one(*state, 1, 1, &grants[i]), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(state_of(*state, 1), FAR_L1_READ_LOCKED);
		assert_int_equal(release_one(*state, grants[i].loan, 1), 0);
	}
	assert_int_equal(state_of(*state, 1), FAR_L1_READY);
}

static void
reserve_read_of_another_length_is_refused_and_locks_nothing(void **state)
{
	struct fixture *f = *state;
	struct far_key keys[2] = {key_n(1), key_n(2)};
	uint32_t sizes[2] = {100, 100};
	struct far_l1_grant grants[2];

	put(f, 1, 101);
	put(f, 2, 100);
	assert_int_equal(far_l1_reserve_read(f->l1, f->session, keys, sizes, 2, 1, grants), 1);
	assert_int_equal(grants[0].rc, -EMSGSIZE);
	assert_int_equal(grants[1].rc, 0);
	assert_int_equal(state_of(f, 1), FAR_L1_READY);
	assert_int_equal(release_one(f, grants[1].loan, 1), 0);
}

static void
reserve_read_prefix_stops_at_the_first_gap_and_holds_nothing_beyond(void **state)
{
	struct fixture *f = *state;
	struct far_key keys[4] = {key_n(1), key_n(2), key_n(3), key_n(4)};
	struct far_l1_grant grants[4];

	put(f, 1, 100);
	put(f, 2, 100);
	put(f, 4, 100);
	assert_int_equal(far_l1_reserve_read_prefix(f->l1, f->session, keys, NULL, 4, 1, grants),
			 2);
	assert_int_equal(grants[2].rc, -ENOENT);
	assert_int_not_equal(grants[3].rc, 0);
	assert_int_equal(state_of(f, 4), FAR_L1_READY);
	assert_int_equal(release_one(f, grants[0].loan, 1), 0);
	assert_int_equal(release_one(f, grants[1].loan, 1), 0);
	assert_int_equal(usage_of(f).loan_count, 0);
}

static void
reserve_read_prefix_spans_many_keys(void **state)
{
	enum { COUNT = 300 };
	struct fixture f;
	struct far_key keys[COUNT];
	struct far_l1_grant grants[COUNT];
	uint64_t loans[COUNT];
	int rcs[COUNT];
	(void)state;

	fixture_open(&f, 512, (struct far_l1_config){0});
	for (uint64_t i = 0; i < COUNT; i++) {
		keys[i] = key_n(i);
		if (i != 290)
			put(&f, i, 8);
	}
	assert_int_equal(far_l1_reserve_read_prefix(f.l1, f.session, keys, NULL, COUNT, 2, grants),
			 290);
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(grants[i].rc == 0, i < 290);
		loans[i] = grants[i].loan;
	}
	assert_int_equal(far_l1_finish_read(f.l1, f.session, loans, COUNT, 2, rcs), 290);
	assert_int_equal(rcs[289], 0);
	assert_int_equal(rcs[290], -EBADF);
	fixture_close(&f);
}

static void
unsafe_read_needs_a_live_read_loan(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant write, read, seen;

	assert_int_equal(far_l1_unsafe_read(f->l1, f->session, 0, &seen), -EBADF);
	assert_int_equal(far_l1_unsafe_read(f->l1, f->session, 0x4000005, &seen), -EBADF);
	assert_int_equal(far_l1_unsafe_read(f->l1, f->session, UINT64_MAX, &seen), -EBADF);
	assert_int_equal(write_one(f, 1, 100, &write), 0);
	assert_int_equal(far_l1_unsafe_read(f->l1, f->session, write.loan, &seen), -EBADF);
	assert_int_equal(finish_one(f, write.loan), 0);
	assert_int_equal(far_l1_unsafe_read(f->l1, f->session, write.loan, &seen), -EBADF);
	assert_int_equal(read_one(f, 1, 1, &read), 0);
	assert_int_equal(far_l1_unsafe_read(f->l1, f->session, read.loan, &seen), 0);
	assert_ptr_equal(seen.addr, read.addr);
	assert_int_equal(seen.size_bytes, 100);
	assert_int_equal(seen.offset_bytes, read.offset_bytes);
	assert_int_equal(release_one(f, read.loan, 1), 0);
	assert_int_equal(far_l1_unsafe_read(f->l1, f->session, read.loan, &seen), -EBADF);
	assert_null(seen.addr);
}

static void
unsafe_read_takes_no_count(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant read, seen;

	put(f, 1, 100);
	assert_int_equal(read_one(f, 1, 1, &read), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(far_l1_unsafe_read(f->l1, f->session, read.loan, &seen), 0);
	assert_int_equal(release_one(f, read.loan, 1), 0);
	assert_int_equal(state_of(f, 1), FAR_L1_READY);
}

static void
finish_read_of_what_is_no_read_loan_is_refused(void **state)
{
	struct far_l1_grant write;

	assert_int_equal(release_one(*state, 0, 1), -EBADF);
	assert_int_equal(write_one(*state, 1, 100, &write), 0);
	assert_int_equal(release_one(*state, write.loan, 1), -EBADF);
	assert_int_equal(state_of(*state, 1), FAR_L1_WRITE_LOCKED);
	assert_int_equal(finish_one(*state, write.loan), 0);
	assert_int_equal(release_one(*state, write.loan, 1), -EBADF);
}

static void
finish_read_counts_down_and_ends_with_the_last(void **state)
{
	struct far_l1_grant read;

	put(*state, 1, 100);
	assert_int_equal(read_one(*state, 1, 3, &read), 0);
	assert_int_equal(release_one(*state, read.loan, 1), 0);
	assert_int_equal(release_one(*state, read.loan, 3), -EINVAL);
	assert_int_equal(release_one(*state, read.loan, 0), -EINVAL);
	assert_int_equal(state_of(*state, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(release_one(*state, read.loan, 2), 0);
	assert_int_equal(state_of(*state, 1), FAR_L1_READY);
	assert_int_equal(release_one(*state, read.loan, 1), -EBADF);
}

static void
reserve_read_takes_1_to_65535_readers(void **state)
{
	struct far_l1_grant read;

	put(*state, 1, 100);
	assert_int_equal(read_one(*state, 1, 0, &read), -EINVAL);
	assert_int_equal(read_one(*state, 1, 65536, &read), -EINVAL);
	assert_int_equal(state_of(*state, 1), FAR_L1_READY);
	assert_int_equal(read_one(*state, 1, 65535, &read), 0);
	assert_int_equal(release_one(*state, read.loan, 65535), 0);
	assert_int_equal(state_of(*state, 1), FAR_L1_READY);
}

static void
reserve_write_of_a_new_key_gives_an_aligned_buffer(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant grant;

	assert_int_equal(write_one(f, 1, 5000, &grant), 0);
	assert_int_equal(grant.size_bytes, 5000);
	assert_int_equal((uintptr_t)grant.addr % UNIT, 0);
	assert_ptr_equal(grant.addr, (uint8_t *)f->config.base + grant.offset_bytes);
	assert_int_equal(state_of(f, 1), FAR_L1_WRITE_LOCKED);
	assert_int_equal(usage_of(f).used_bytes, 2 * UNIT);
	assert_int_equal(usage_of(f).locked_bytes, 2 * UNIT);
	assert_int_equal(far_l1_block_bytes(f->l1, 5000), 2 * UNIT);
	assert_int_equal(abort_one(f, grant.loan), 0);
}

static void
reserve_write_of_what_is_there_in_any_state_is_refused(void **state)
{
	struct far_l1_grant write, read, again;

	assert_int_equal(write_one(*state, 1, 100, &write), 0);
	assert_int_equal(write_one(*state, 1, 100, &again), -EEXIST);
	assert_int_equal(again.loan, 0);
	assert_int_equal(again.offset_bytes, 0);
	assert_int_equal(finish_one(*state, write.loan), 0);
	assert_int_equal(write_one(*state, 1, 100, &again), -EEXIST);
	assert_int_equal(read_one(*state, 1, 1, &read), 0);
	assert_int_equal(write_one(*state, 1, 100, &again), -EEXIST);
	assert_int_equal(release_one(*state, read.loan, 1), 0);
	assert_int_equal(state_of(*state, 1), FAR_L1_READY);
}

static void
finish_write_of_what_is_no_write_loan_is_refused(void **state)
{
	struct far_l1_grant write, read;

	assert_int_equal(finish_one(*state, 0), -EBADF);
	assert_int_equal(write_one(*state, 1, 100, &write), 0);
	assert_int_equal(finish_one(*state, write.loan), 0);
	assert_int_equal(finish_one(*state, write.loan), -EBADF);
	assert_int_equal(read_one(*state, 1, 1, &read), 0);
	assert_int_equal(finish_one(*state, read.loan), -EBADF);
	assert_int_equal(abort_one(*state, read.loan), -EBADF);
	assert_int_equal(flip_one(*state, read.loan, 1), -EBADF);
	assert_int_equal(state_of(*state, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(release_one(*state, read.loan, 1), 0);
}

static void
the_flip_goes_from_write_locked_to_read_locked_at_once(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant write, seen, again;

	assert_int_equal(write_one(f, 1, 100, &write), 0);
	assert_int_equal(f->publishes, 0);
	assert_int_equal(flip_one(f, write.loan, 2), 0);
	assert_int_equal(f->publishes, 1);
	assert_int_equal(state_of(f, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(write_one(f, 1, 100, &again), -EEXIST);
	/* The loan stays valid, as a read loan with that many counts. */
	assert_int_equal(far_l1_unsafe_read(f->l1, f->session, write.loan, &seen), 0);
	assert_ptr_equal(seen.addr, write.addr);
	assert_int_equal(finish_one(f, write.loan), -EBADF);
	assert_int_equal(abort_one(f, write.loan), -EBADF);
	assert_int_equal(release_one(f, write.loan, 1), 0);
	assert_int_equal(release_one(f, write.loan, 1), 0);
	assert_int_equal(release_one(f, write.loan, 1), -EBADF);
	assert_int_equal(state_of(f, 1), FAR_L1_READY);
}

static void
the_flip_answers_each_loan_and_publishes_once_per_call(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant write[3];
	uint64_t loans[4];
	int rcs[4];

	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(write_one(f, i, 100, &write[i]), 0);
		loans[i] = write[i].loan;
	}
	loans[3] = loans[0]; /* given twice in this call */
	assert_int_equal(abort_one(f, write[1].loan), 0);
	assert_int_equal(far_l1_finish_write_and_reserve_read(f->l1, f->session, loans, 4, 1,
							      f->session, rcs),
			 2);
	assert_int_equal(f->publishes, 1);
	assert_int_equal(rcs[0], 0);
	assert_int_equal(rcs[1], -EBADF);
	assert_int_equal(rcs[2], 0);
	assert_int_equal(rcs[3], -EBADF);
	assert_int_equal(release_one(f, write[0].loan, 1), 0);
	assert_int_equal(release_one(f, write[2].loan, 1), 0);
}

static void
the_flip_with_wrong_arguments_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant write;
	int rc;

	assert_int_equal(write_one(f, 1, 100, &write), 0);
	assert_int_equal(flip_one(f, write.loan, 0), -EINVAL);
	assert_int_equal(flip_one(f, write.loan, 65536), -EINVAL);
	far_l1_finish_write_and_reserve_read(f->l1, f->session, &write.loan, 1, 1, 0, &rc);
	assert_int_equal(rc, -EPERM);
	far_l1_finish_write_and_reserve_read(f->l1, f->session, &write.loan, 1, 1, 4711, &rc);
	assert_int_equal(rc, -EPERM);
	assert_int_equal(state_of(f, 1), FAR_L1_WRITE_LOCKED);
	assert_int_equal(abort_one(f, write.loan), 0);
}

static void
abort_write_leaves_nothing_behind(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant write, read;

	assert_int_equal(write_one(f, 1, 100, &write), 0);
	assert_int_equal(abort_one(f, write.loan), 0);
	assert_int_equal(state_of(f, 1), FAR_L1_ABSENT);
	assert_int_equal(usage_of(f).used_bytes, 0);
	assert_int_equal(read_one(f, 1, 1, &read), -ENOENT);
	assert_int_equal(abort_one(f, write.loan), -EBADF);
	assert_int_equal(write_one(f, 1, 100, &write), 0);
	assert_int_equal(abort_one(f, write.loan), 0);
}

static void
delete_answers_by_state(void **state)
{
	struct fixture *f = *state;
	struct far_key keys[5] = {key_n(1), key_n(2), key_n(3), key_n(4), {{0}}};
	struct far_l1_grant write, read;
	int rcs[5];

	put(f, 1, 100);
	assert_int_equal(write_one(f, 2, 100, &write), 0);
	put(f, 3, 100);
	assert_int_equal(read_one(f, 3, 1, &read), 0);
	assert_int_equal(far_l1_delete(f->l1, keys, 5, false, rcs), 1);
	assert_int_equal(rcs[0], 0);
	assert_int_equal(rcs[1], -EBUSY);
	assert_int_equal(rcs[2], -EBUSY);
	assert_int_equal(rcs[3], -ENOENT);
	assert_int_equal(rcs[4], -EINVAL);
	assert_int_equal(state_of(f, 1), FAR_L1_ABSENT);
	assert_int_equal(release_one(f, read.loan, 1), 0);
	assert_int_equal(abort_one(f, write.loan), 0);
	assert_int_equal(delete_one(f, 3, false), 0);
}

static void
a_read_locked_block_deleted_by_force_keeps_its_bytes_until_the_last_release(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant read, more, seen, write;

	put(f, 1, 100);
	assert_int_equal(read_one(f, 1, 1, &read), 0);
	assert_int_equal(read_one(f, 1, 1, &more), 0);
	assert_int_equal(delete_one(f, 1, true), 0);
	assert_int_equal(state_of(f, 1), FAR_L1_ABSENT);
	assert_int_equal(usage_of(f).quarantine_bytes, UNIT);
	assert_int_equal(usage_of(f).block_count, 0);
	assert_int_equal(far_l1_unsafe_read(f->l1, f->session, read.loan, &seen), 0);
	/* The key can be written again at once, elsewhere. */
	assert_int_equal(write_one(f, 1, 100, &write), 0);
	assert_ptr_not_equal(write.addr, read.addr);
	far_l1_check(f->l1);
	assert_int_equal(release_one(f, read.loan, 1), 0);
	assert_int_equal(usage_of(f).quarantine_bytes, UNIT);
	assert_int_equal(release_one(f, more.loan, 1), 0);
	assert_int_equal(usage_of(f).quarantine_bytes, 0);
	assert_int_equal(usage_of(f).used_bytes, UNIT);
	assert_int_equal(finish_one(f, write.loan), 0);
}

static void
a_write_locked_block_deleted_by_force_is_never_seen(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant a, b, c, read;

	assert_int_equal(write_one(f, 1, 100, &a), 0);
	assert_int_equal(write_one(f, 2, 100, &b), 0);
	assert_int_equal(write_one(f, 3, 100, &c), 0);
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(delete_one(f, i, true), 0);
	assert_int_equal(usage_of(f).quarantine_bytes, 3 * UNIT);
	far_l1_check(f->l1);
	assert_int_equal(finish_one(f, a.loan), -ENOENT);
	assert_int_equal(flip_one(f, b.loan, 1), -ENOENT);
	assert_int_equal(abort_one(f, c.loan), 0);
	assert_int_equal(finish_one(f, a.loan), -EBADF);
	assert_int_equal(release_one(f, b.loan, 1), -EBADF);
	assert_int_equal(read_one(f, 1, 1, &read), -ENOENT);
	assert_int_equal(usage_of(f).used_bytes, 0);
}

static void
clear_spares_locked_blocks_unless_forced(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant read, write;

	for (uint64_t i = 1; i <= 3; i++)
		put(f, i, 100);
	assert_int_equal(read_one(f, 2, 1, &read), 0);
	assert_int_equal(write_one(f, 4, 100, &write), 0);
	assert_int_equal(far_l1_clear(f->l1, false), 2);
	assert_int_equal(usage_of(f).block_count, 2);
	assert_int_equal(far_l1_clear(f->l1, true), 2);
	assert_int_equal(usage_of(f).block_count, 0);
	assert_int_equal(usage_of(f).quarantine_bytes, 2 * UNIT);
	assert_int_equal(release_one(f, read.loan, 1), 0);
	assert_int_equal(finish_one(f, write.loan), -ENOENT);
	assert_int_equal(usage_of(f).used_bytes, 0);
}

static void
state_get_names_every_state_of_a_life(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant write, read, seen;

	assert_int_equal(state_of(f, 1), FAR_L1_ABSENT);
	assert_int_equal(write_one(f, 1, 100, &write), 0);
	assert_int_equal(state_of(f, 1), FAR_L1_WRITE_LOCKED);
	memset(write.addr, 9, 100);
	assert_int_equal(finish_one(f, write.loan), 0);
	assert_int_equal(state_of(f, 1), FAR_L1_READY);
	assert_int_equal(read_one(f, 1, 1, &read), 0);
	assert_int_equal(state_of(f, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(far_l1_unsafe_read(f->l1, f->session, read.loan, &seen), 0);
	assert_int_equal(((uint8_t *)seen.addr)[99], 9);
	assert_int_equal(release_one(f, read.loan, 1), 0);
	assert_int_equal(state_of(f, 1), FAR_L1_READY);
	assert_int_equal(delete_one(f, 1, false), 0);
	assert_int_equal(state_of(f, 1), FAR_L1_ABSENT);
}

static void
delete_returns_when_the_memory_is_free_and_accounted(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant grant;

	put(f, 1, 64 * UNIT);
	assert_int_equal(usage_of(f).used_bytes, 64 * UNIT);
	assert_int_equal(delete_one(f, 1, false), 0);
	assert_int_equal(usage_of(f).used_bytes, 0);
	assert_int_equal(usage_of(f).block_count, 0);
	assert_int_equal(write_one(f, 2, 64 * UNIT, &grant), 0);
	assert_int_equal(usage_of(f).evicted_blocks, 0);
	assert_int_equal(abort_one(f, grant.loan), 0);
}

static void
memory_that_a_writer_holds_is_handed_to_nobody_whatever_happens(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant write, again, other;

	assert_int_equal(write_one(f, 1, 40 * UNIT, &write), 0);
	far_clock_fake_advance(&f->clock, 24ull * 3600 * FAR_NS_PER_S);
	assert_int_equal(write_one(f, 1, UNIT, &again), -EEXIST);
	assert_int_equal(delete_one(f, 1, false), -EBUSY);
	assert_int_equal(far_l1_clear(f->l1, true), 1);
	/* A late write into the buffer would still reach nobody else's. */
	assert_int_equal(write_one(f, 2, 25 * UNIT, &other), -ENOMEM);
	assert_int_equal(write_one(f, 1, 24 * UNIT, &again), 0);
	assert_true((uint8_t *)again.addr >= (uint8_t *)write.addr + 40ull * UNIT ||
		    (uint8_t *)again.addr + 24ull * UNIT <= (uint8_t *)write.addr);
	assert_int_equal(finish_one(f, write.loan), -ENOENT);
	assert_int_equal(abort_one(f, again.loan), 0);
}

static void
a_read_lock_does_not_end_by_time(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant read, more;

	put(f, 1, 40 * UNIT);
	assert_int_equal(read_one(f, 1, 1, &read), 0);
	far_clock_fake_advance(&f->clock, 24ull * 3600 * FAR_NS_PER_S);
	assert_int_equal(write_one(f, 2, 30 * UNIT, &more), -ENOMEM);
	assert_int_equal(read_one(f, 1, 1, &more), 0);
	/* The late end of the first does not end the second. */
	assert_int_equal(release_one(f, read.loan, 1), 0);
	assert_int_equal(state_of(f, 1), FAR_L1_READ_LOCKED);
	assert_int_equal(release_one(f, more.loan, 1), 0);
}

static void
close_drops_ready_blocks(void **state)
{
	struct fixture f;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	put(&f, 1, 100);
	far_l1_session_close(f.l1, f.session);
	far_l1_close(f.l1);
	far_l1_close(NULL);
	far_free(f.config.base);
}

static void
no_call_on_keys_allocates(void **state)
{
	struct fixture *f = *state;
	struct far_l1_grant write, read;

	far_alloc_lock();
	for (uint64_t i = 0; i < 200; i++) {
		assert_int_equal(write_one(f, i, 3 * UNIT, &write), 0);
		assert_int_equal(flip_one(f, write.loan, 1), 0);
		assert_int_equal(release_one(f, write.loan, 1), 0);
		assert_int_equal(read_one(f, i, 1, &read), 0);
		assert_int_equal(release_one(f, read.loan, 1), 0);
		if (i % 7 == 0)
			assert_int_equal(delete_one(f, i, false), 0);
	}
	far_alloc_unlock();
}

#define LIFE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		LIFE(reserve_read_of_an_absent_key_is_a_miss),
		LIFE(reserve_read_of_a_write_locked_key_is_a_miss),
		LIFE(reserve_read_of_a_ready_key_gives_the_written_buffer),
		LIFE(reserve_read_answers_each_key_of_a_call),
		LIFE(reserve_read_stacks),
		LIFE(reserve_read_of_another_length_is_refused_and_locks_nothing),
		LIFE(reserve_read_prefix_stops_at_the_first_gap_and_holds_nothing_beyond),
		cmocka_unit_test(reserve_read_prefix_spans_many_keys),
		LIFE(unsafe_read_needs_a_live_read_loan),
		LIFE(unsafe_read_takes_no_count),
		LIFE(finish_read_of_what_is_no_read_loan_is_refused),
		LIFE(finish_read_counts_down_and_ends_with_the_last),
		LIFE(reserve_read_takes_1_to_65535_readers),
		LIFE(reserve_write_of_a_new_key_gives_an_aligned_buffer),
		LIFE(reserve_write_of_what_is_there_in_any_state_is_refused),
		LIFE(finish_write_of_what_is_no_write_loan_is_refused),
		LIFE(the_flip_goes_from_write_locked_to_read_locked_at_once),
		LIFE(the_flip_answers_each_loan_and_publishes_once_per_call),
		LIFE(the_flip_with_wrong_arguments_changes_nothing),
		LIFE(abort_write_leaves_nothing_behind),
		LIFE(delete_answers_by_state),
		LIFE(a_read_locked_block_deleted_by_force_keeps_its_bytes_until_the_last_release),
		LIFE(a_write_locked_block_deleted_by_force_is_never_seen),
		LIFE(clear_spares_locked_blocks_unless_forced),
		LIFE(state_get_names_every_state_of_a_life),
		LIFE(delete_returns_when_the_memory_is_free_and_accounted),
		LIFE(memory_that_a_writer_holds_is_handed_to_nobody_whatever_happens),
		LIFE(a_read_lock_does_not_end_by_time),
		cmocka_unit_test(close_drops_ready_blocks),
		LIFE(no_call_on_keys_allocates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
