/* policy.c - who goes first: S3-FIFO as published, and what each promises about locked blocks. */
#include "tests/unit/l1/fixture.h"

static int
get(struct fixture *f, uint64_t n)
{
	struct far_l1_grant grant;
	int rc = read_one(f, n, 1, &grant);

	if (rc == 0)
		assert_int_equal(release_one(f, grant.loan, 1), 0);
	return rc;
}

/* A cache in front of anything: a miss is brought in. Returns 1 for a hit. */
static uint32_t
fetch(struct fixture *f, uint64_t n, uint32_t size_bytes)
{
	struct far_l1_grant grant;

	if (get(f, n) == 0)
		return 1;
	assert_int_equal(write_one(f, n, size_bytes, &grant), 0);
	assert_int_equal(finish_one(f, grant.loan), 0);
	return 0;
}

static bool
there(struct fixture *f, uint64_t n)
{
	return state_of(f, n) != FAR_L1_ABSENT;
}

static struct far_l1_config
s3fifo(void)
{
	return (struct far_l1_config){.policy = FAR_L1_S3FIFO};
}

static void
a_block_used_more_than_once_outlives_those_used_once(void **state)
{
	struct fixture f;
	(void)state;

	fixture_open(&f, 10, s3fifo());
	for (uint64_t i = 0; i < 10; i++)
		put(&f, i, UNIT);
	for (int i = 0; i < 2; i++)
		assert_int_equal(get(&f, 0), 0);
	assert_int_equal(get(&f, 1), 0);
	/* 0 is the oldest, and goes on to the main queue; 1 was used once, which is not enough. */
	for (uint64_t i = 20; i < 29; i++)
		put(&f, i, UNIT);
	assert_true(there(&f, 0));
	for (uint64_t i = 1; i < 10; i++)
		assert_false(there(&f, i));
	fixture_close(&f);
}

static void
a_key_that_comes_back_soon_enters_the_main_queue(void **state)
{
	struct fixture f;
	(void)state;

	fixture_open(&f, 10, s3fifo());
	for (uint64_t i = 0; i < 11; i++)
		put(&f, i, UNIT);
	assert_false(there(&f, 0));
	put(&f, 0, UNIT); /* its eviction is remembered */
	for (uint64_t i = 100; i < 150; i++)
		put(&f, i, UNIT);
	assert_true(there(&f, 0));
	fixture_close(&f);
}

static void
deleting_a_block_or_others_does_not_forget_who_was_evicted(void **state)
{
	struct fixture f;
	(void)state;

	fixture_open(&f, 10, s3fifo());
	for (uint64_t i = 0; i < 11; i++)
		put(&f, i, UNIT);
	assert_false(there(&f, 0));
	assert_int_equal(delete_one(&f, 0, false), -ENOENT);
	assert_int_equal(delete_one(&f, 10, false), 0);
	put(&f, 11, UNIT);
	put(&f, 0, UNIT);
	for (uint64_t i = 100; i < 150; i++)
		put(&f, i, UNIT);
	assert_true(there(&f, 0));
	/* One that was deleted is not remembered: it had no chance to be used. */
	assert_int_equal(delete_one(&f, 0, false), 0);
	put(&f, 0, UNIT);
	for (uint64_t i = 200; i < 250; i++)
		put(&f, i, UNIT);
	assert_false(there(&f, 0));
	fixture_close(&f);
}

/* Whether the key that was evicted as the @back-th from last is remembered. */
static bool
remembered(uint64_t back)
{
	enum { UNITS = 100, SCAN = 400 };
	struct fixture f;
	uint64_t probe = SCAN - UNITS - 1 - back;
	bool known;

	fixture_open(&f, UNITS, s3fifo());
	for (uint64_t i = 0; i < SCAN; i++)
		put(&f, i, UNIT);
	assert_false(there(&f, probe));
	assert_true(there(&f, SCAN - UNITS));
	put(&f, probe, UNIT);
	for (uint64_t i = 1000; i < 1000 + 2 * UNITS; i++)
		put(&f, i, UNIT);
	known = there(&f, probe);
	fixture_close(&f);
	return known;
}

static void
as_many_evicted_keys_are_remembered_as_the_main_queue_can_hold(void **state)
{
	uint32_t known = 0;
	(void)state;

	for (uint64_t back = 0; back < 85; back++)
		known += remembered(back);
	/* Ghosts lie in sets: one or two may have been overwritten. */
	assert_true(known > 80);
	for (uint64_t back = 90; back < 300; back++)
		assert_false(remembered(back));
}

static void
a_scan_does_not_push_out_the_hot_set(void **state)
{
	enum { UNITS = 100, HOT = 50, ROUNDS = 200, SCAN = 80 };
	static const enum far_l1_policy policies[] = {FAR_L1_LRU, FAR_L1_S3FIFO};
	uint32_t hits[2] = {0, 0};
	(void)state;

	for (int p = 0; p < 2; p++) {
		struct fixture f;
		uint64_t next = 1000;

		fixture_open(&f, UNITS, (struct far_l1_config){.policy = policies[p]});
		for (uint32_t round = 0; round < ROUNDS; round++) {
			for (uint64_t i = 0; i < HOT; i++)
				hits[p] += fetch(&f, i, UNIT);
			for (uint32_t i = 0; i < SCAN; i++)
				hits[p] += fetch(&f, next++, UNIT);
		}
		fixture_close(&f);
	}
	print_message("of %d reads of the hot set: LRU %u hits, S3-FIFO %u\n", HOT * ROUNDS,
		      hits[0], hits[1]);
	/* LRU loses all of it to each scan; S3-FIFO learns it in the first rounds. */
	assert_int_equal(hits[0], 0);
	assert_true(hits[1] > HOT * ROUNDS * 9 / 10);
}

/* --- The published algorithm, written down naively: arrays, linear search. --- */

#define REF_UNITS 100u
#define REF_KEYS  1000u
#define REF_STEPS 100000u

struct ref {
	uint32_t small[REF_UNITS + 1], main[REF_UNITS + 1], ghost[REF_UNITS];
	uint32_t small_count, main_count, ghost_count;
	uint8_t uses[REF_KEYS];
};

static void
pop(uint32_t *keys, uint32_t *count)
{
	memmove(keys, keys + 1, --*count * sizeof(*keys));
}

static bool
ref_has(const uint32_t *keys, uint32_t count, uint32_t key)
{
	for (uint32_t i = 0; i < count; i++)
		if (keys[i] == key)
			return true;
	return false;
}

static void
ref_evict(struct ref *r)
{
	for (;;) {
		bool small = r->small_count * 10 >= REF_UNITS || r->main_count == 0;
		uint32_t key = small ? r->small[0] : r->main[0];

		if (small) {
			pop(r->small, &r->small_count);
			if (r->uses[key] > 1) {
				r->uses[key] = 0;
				r->main[r->main_count++] = key;
				continue;
			}
			if (r->ghost_count == REF_UNITS * 9 / 10)
				pop(r->ghost, &r->ghost_count);
			r->ghost[r->ghost_count++] = key;
			return;
		}
		pop(r->main, &r->main_count);
		if (r->uses[key] == 0)
			return;
		r->uses[key]--;
		r->main[r->main_count++] = key;
	}
}

static uint32_t
ref_fetch(struct ref *r, uint32_t key)
{
	if (ref_has(r->small, r->small_count, key) || ref_has(r->main, r->main_count, key)) {
		if (r->uses[key] < 3)
			r->uses[key]++;
		return 1;
	}
	if (r->small_count + r->main_count == REF_UNITS)
		ref_evict(r);
	r->uses[key] = 0;
	for (uint32_t i = 0; i < r->ghost_count; i++) {
		if (r->ghost[i] != key)
			continue;
		memmove(&r->ghost[i], &r->ghost[i + 1],
			(--r->ghost_count - i) * sizeof(r->ghost[0]));
		r->main[r->main_count++] = key;
		return 0;
	}
	r->small[r->small_count++] = key;
	return 0;
}

static void
s3fifo_hits_as_often_as_the_published_algorithm(void **state)
{
	struct fixture f;
	struct ref *r = calloc(1, sizeof(*r));
	struct far_rng rng;
	uint32_t hits = 0, ref_hits = 0;
	(void)state;

	assert_non_null(r);
	far_rng_init(&rng, 1);
	fixture_open(&f, REF_UNITS, s3fifo());
	for (uint32_t i = 0; i < REF_STEPS; i++) {
		/* Few keys are asked for often, many seldom. */
		uint64_t dice = far_rng_below(&rng, REF_KEYS) * far_rng_below(&rng, REF_KEYS);
		uint32_t key =
			(uint32_t)(dice / REF_KEYS * far_rng_below(&rng, REF_KEYS) / REF_KEYS);

		hits += fetch(&f, key, UNIT);
		ref_hits += ref_fetch(r, key);
	}
	print_message("%u references: %u hits, the reference %u\n", REF_STEPS, hits, ref_hits);
	/* Ghosts lie in sets: a few are overwritten early. */
	assert_true(hits + REF_STEPS / 200 > ref_hits);
	assert_true(ref_hits + REF_STEPS / 200 > hits);
	fixture_close(&f);
	free(r);
}

static void
the_small_queue_is_a_tenth_of_the_bytes_not_of_the_blocks(void **state)
{
	struct fixture f;
	(void)state;

	/* 50 blocks of one unit that the main queue has, and one that is half of the arena. */
	fixture_open(&f, 100, s3fifo());
	for (uint64_t i = 0; i < 50; i++) {
		put(&f, i, UNIT);
		assert_int_equal(get(&f, i), 0);
		assert_int_equal(get(&f, i), 0);
	}
	put(&f, 100, 50 * UNIT);
	put(&f, 101, 50 * UNIT);
	/* One of 51 blocks is less than a tenth; its bytes are half. */
	assert_false(there(&f, 100));
	for (uint64_t i = 0; i < 50; i++)
		assert_true(there(&f, i));
	fixture_close(&f);
}

static void
the_tail_of_a_prefix_goes_before_its_head_with_either_policy(void **state)
{
	static const enum far_l1_policy policies[] = {FAR_L1_LRU, FAR_L1_S3FIFO};
	(void)state;

	for (int p = 0; p < 2; p++) {
		struct fixture f;
		struct far_l1_want wants[10];
		struct far_l1_grant grants[10];

		fixture_open(&f, 10, (struct far_l1_config){.policy = policies[p]});
		for (uint64_t i = 0; i < 10; i++)
			wants[i] = (struct far_l1_want){.key = key_n(i), .size_bytes = UNIT};
		assert_int_equal(far_l1_reserve_write(f.l1, f.session, wants, 10, grants), 10);
		for (int i = 0; i < 10; i++)
			assert_int_equal(finish_one(&f, grants[i].loan), 0);
		if (policies[p] == FAR_L1_LRU)
			for (uint64_t i = 10; i > 0; i--)
				touch_one(&f, i - 1);
		for (uint64_t i = 0; i < 4; i++)
			put(&f, 100 + i, UNIT);
		for (uint64_t i = 0; i < 10; i++)
			assert_int_equal(there(&f, i), i < 6);
		fixture_close(&f);
	}
}

/* With any policy, a locked block is passed over, and is evicted in its turn when it is let go. */
static void
a_locked_victim_is_never_proposed_and_never_lost_track_of(void **state)
{
	static const enum far_l1_policy policies[] = {FAR_L1_LRU, FAR_L1_S3FIFO};
	(void)state;

	for (int p = 0; p < 4; p++) {
		bool in_main = p >= 2;
		struct fixture f;
		struct far_l1_grant held[4], grant;
		struct far_l1_grant last;

		fixture_open(&f, 10, (struct far_l1_config){.policy = policies[p % 2]});
		for (uint64_t i = 0; i < 10; i++)
			put(&f, i, UNIT);
		for (uint64_t i = 0; i < 10 && in_main; i++)
			for (int j = 0; j < 3; j++)
				assert_int_equal(get(&f, i), 0);
		for (uint64_t i = 0; i < 4; i++)
			assert_int_equal(read_one(&f, i, 1, &held[i]), 0);
		/* Each round proposes and passes over them. */
		for (uint64_t i = 100; i < 200; i++) {
			put(&f, i, UNIT);
			for (uint64_t j = 0; j < 4; j++)
				assert_int_equal(state_of(&f, j), FAR_L1_READ_LOCKED);
		}
		/* Nothing but they could go for a block of seven units. */
		assert_int_equal(write_one(&f, 900, 7 * UNIT, &grant), -ENOMEM);
		for (uint64_t i = 0; i < 4; i++)
			assert_int_equal(release_one(&f, held[i].loan, 1), 0);
		assert_int_equal(write_one(&f, 901, 10 * UNIT, &last), 0);
		for (uint64_t i = 0; i < 4; i++)
			assert_false(there(&f, i));
		assert_int_equal(abort_one(&f, last.loan), 0);
		fixture_close(&f);
	}
}

static void
a_plan_that_is_given_up_puts_its_victims_back(void **state)
{
	struct fixture f;
	struct far_l1_grant held[2], grant;
	(void)state;

	fixture_open(&f, 12, s3fifo());
	for (uint64_t i = 0; i < 12; i++)
		put(&f, i, UNIT);
	assert_int_equal(read_one(&f, 4, 1, &held[0]), 0);
	assert_int_equal(read_one(&f, 8, 1, &held[1]), 0);
	assert_int_equal(write_one(&f, 100, 5 * UNIT, &grant), -ENOMEM);
	assert_int_equal(usage_of(&f).evicted_blocks, 0);
	far_l1_check(f.l1);
	/* The oldest still goes first. */
	put(&f, 101, UNIT);
	for (uint64_t i = 0; i < 12; i++)
		assert_int_equal(there(&f, i), i != 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(release_one(&f, held[i].loan, 1), 0);
	fixture_close(&f);
}

static void
eviction_ahead_of_need_frees_bytes_in_order_and_spares_locked_blocks(void **state)
{
	static const enum far_l1_policy policies[] = {FAR_L1_LRU, FAR_L1_S3FIFO};
	(void)state;

	for (int p = 0; p < 2; p++) {
		struct fixture f;
		struct far_l1_grant held;
		uint32_t blocks = 99;

		fixture_open(&f, 200, (struct far_l1_config){.policy = policies[p]});
		for (uint64_t i = 0; i < 100; i++)
			put(&f, i, i % 2 == 0 ? UNIT : 2 * UNIT);
		assert_int_equal(read_one(&f, 0, 1, &held), 0);
		/* By bytes: 1 and 2 are three units, 3 goes beyond the four. */
		assert_int_equal(far_l1_evict(f.l1, 4ull * UNIT, 50, &blocks), 5 * UNIT);
		assert_int_equal(blocks, 3);
		for (uint64_t i = 0; i < 8; i++)
			assert_int_equal(there(&f, i), i == 0 || i > 3);
		/* By blocks. */
		assert_int_equal(far_l1_evict(f.l1, 100ull * UNIT, 2, &blocks), 3 * UNIT);
		assert_int_equal(blocks, 2);
		assert_int_equal(far_l1_evict(f.l1, 0, 2, &blocks), 0);
		assert_int_equal(blocks, 0);
		/* All that can go, across the turns that others get. */
		assert_int_equal(far_l1_evict(f.l1, UINT64_MAX, UINT32_MAX, NULL),
				 150 * UNIT - 9 * UNIT);
		assert_int_equal(usage_of(&f).block_count, 1);
		assert_int_equal(usage_of(&f).evicted_blocks, 99);
		assert_int_equal(release_one(&f, held.loan, 1), 0);
		fixture_close(&f);
	}
}

#define ABSENT 4096u

/* Time goes on for LRU, one tick for each key that is asked for. */
static void
ticks_pass(struct fixture *f, uint32_t ticks)
{
	static struct far_key keys[ABSENT];

	for (uint32_t i = 0; i < ABSENT; i++)
		keys[i] = key_n(1000000 + i);
	for (; ticks > ABSENT; ticks -= ABSENT)
		far_l1_touch(f->l1, keys, ABSENT);
	far_l1_touch(f->l1, keys, ticks);
}

/* Uses that are a few ticks apart, thousands and millions: all that the levels of its wheel know. */
static void
the_least_recently_used_goes_first_however_long_ago_that_was(void **state)
{
	static const uint32_t gaps[] = {0, 1, 60, 700, 5000, 3, 40000};
	uint64_t order[300];
	struct fixture f;
	struct far_rng rng;
	(void)state;

	fixture_open(&f, 300, (struct far_l1_config){.policy = FAR_L1_LRU});
	far_rng_init(&rng, 7);
	for (uint32_t i = 0; i < 300; i++) {
		uint32_t at = (uint32_t)far_rng_below(&rng, i + 1);

		put(&f, i, UNIT);
		order[i] = order[at];
		order[at] = i;
	}
	for (uint32_t i = 0; i < 300; i++) {
		touch_one(&f, order[i]);
		ticks_pass(&f, i == 150 ? 17u << 20 : gaps[i % 7]);
	}
	for (uint32_t i = 0; i < 300; i++) {
		assert_true(there(&f, order[i]));
		assert_int_equal(far_l1_evict(f.l1, UNIT, 1, NULL), UNIT);
		assert_false(there(&f, order[i]));
		far_l1_check(f.l1);
		/* New ones are filed while old ones come down. */
		if (i % 3 == 0)
			put(&f, 1000 + i, UNIT);
	}
	fixture_close(&f);
}

static void
the_policy_none_evicts_nothing_ahead_of_need(void **state)
{
	struct fixture f;
	uint32_t blocks = 99;
	(void)state;

	fixture_open(&f, 4, (struct far_l1_config){.policy = FAR_L1_NONE});
	for (uint64_t i = 0; i < 4; i++)
		put(&f, i, UNIT);
	assert_int_equal(far_l1_evict(f.l1, UINT64_MAX, UINT32_MAX, &blocks), 0);
	assert_int_equal(blocks, 0);
	assert_int_equal(usage_of(&f).block_count, 4);
	fixture_close(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_used_more_than_once_outlives_those_used_once),
		cmocka_unit_test(a_key_that_comes_back_soon_enters_the_main_queue),
		cmocka_unit_test(deleting_a_block_or_others_does_not_forget_who_was_evicted),
		cmocka_unit_test(as_many_evicted_keys_are_remembered_as_the_main_queue_can_hold),
		cmocka_unit_test(a_scan_does_not_push_out_the_hot_set),
		cmocka_unit_test(s3fifo_hits_as_often_as_the_published_algorithm),
		cmocka_unit_test(the_small_queue_is_a_tenth_of_the_bytes_not_of_the_blocks),
		cmocka_unit_test(the_tail_of_a_prefix_goes_before_its_head_with_either_policy),
		cmocka_unit_test(a_locked_victim_is_never_proposed_and_never_lost_track_of),
		cmocka_unit_test(a_plan_that_is_given_up_puts_its_victims_back),
		cmocka_unit_test(
			eviction_ahead_of_need_frees_bytes_in_order_and_spares_locked_blocks),
		cmocka_unit_test(the_least_recently_used_goes_first_however_long_ago_that_was),
		cmocka_unit_test(the_policy_none_evicts_nothing_ahead_of_need),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
