/* victims.c - blocks claimed together for the keys of a call: who goes, who stays, and in which order after. */
#include "l1/l1_priv.h"
#include "tests/unit/l1/fixture.h"

#define WANTS_MAX 16u

/* Keys from @first on in one call, and as many more of the last one. */
static size_t
reserve_some(struct fixture *f, uint64_t first, uint32_t count, uint32_t again,
	     struct far_l1_grant *grants)
{
	struct far_l1_want wants[WANTS_MAX];

	assert_true(count + again <= WANTS_MAX);
	for (uint32_t i = 0; i < count + again; i++)
		wants[i] = (struct far_l1_want){
			.key = key_n(first + (i < count ? i : count - 1)),
			.size_bytes = UNIT,
		};
	return far_l1_reserve_write(f->l1, f->session, wants, count + again, grants);
}

static void
finish_all(struct fixture *f, const struct far_l1_grant *grants, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (grants[i].rc == 0)
			assert_int_equal(finish_one(f, grants[i].loan), 0);
	far_l1_check(f->l1);
}

static bool
there(struct fixture *f, uint64_t n)
{
	return state_of(f, n) != FAR_L1_ABSENT;
}

static void
the_oldest_go_past_those_that_were_used_or_are_held(void **state)
{
	struct far_l1_grant grants[4], read;
	struct fixture f;
	(void)state;

	fixture_open(&f, 10, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 10; i++)
		put(&f, i, UNIT);
	touch_one(&f, 1);
	assert_int_equal(read_one(&f, 3, 1, &read), 0);
	assert_int_equal(reserve_some(&f, 20, 4, 0, grants), 4);
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(there(&f, i), i != 0 && i != 2 && i != 4 && i != 5);
	assert_int_equal(usage_of(&f).evicted_blocks, 4);
	assert_int_equal(usage_of(&f).evicted_bytes, 4 * UNIT);
	finish_all(&f, grants, 4);
	assert_int_equal(release_one(&f, read.loan, 1), 0);
	fixture_close(&f);
}

static void
what_is_not_needed_after_all_stays_and_goes_in_its_order(void **state)
{
	struct far_l1_grant grants[6];
	struct fixture f;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 8; i++)
		put(&f, i, UNIT);
	/* Four of these want nothing: one asked for them before. */
	assert_int_equal(reserve_some(&f, 20, 2, 4, grants), 2);
	assert_int_equal(grants[5].rc, -EEXIST);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(state_of(&f, i), i < 2 ? FAR_L1_ABSENT : FAR_L1_READY);
	assert_int_equal(usage_of(&f).evicted_blocks, 2);
	finish_all(&f, grants, 6);
	for (uint64_t i = 2; i < 8; i++) {
		put(&f, 30 + i, UNIT);
		assert_false(there(&f, i));
		assert_true(i == 7 || there(&f, i + 1));
	}
	fixture_close(&f);
}

static void
a_longer_one_gives_as_much_as_is_asked_for(void **state)
{
	static const uint32_t units[] = {1, 1, 3, 1, 2};
	struct far_l1_grant grants[6];
	struct fixture f;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 5; i++)
		put(&f, i, units[i] * UNIT);
	assert_int_equal(reserve_some(&f, 20, 6, 0, grants), 6);
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(there(&f, i), i == 4);
	assert_int_equal(usage_of(&f).used_bytes, 8 * UNIT);
	for (uint32_t i = 1; i < 6; i++)
		for (uint32_t j = 0; j < i; j++)
			assert_ptr_not_equal(grants[i].addr, grants[j].addr);
	finish_all(&f, grants, 6);
	fixture_close(&f);
}

static void
a_record_comes_from_those_that_are_claimed(void **state)
{
	static const uint32_t units[] = {1, 1, 3, 1, 1};
	struct far_l1_grant grants[4];
	struct fixture f;
	(void)state;

	/* The third of them leaves memory for the fourth key, but records are all in use. */
	fixture_open(&f, 7, (struct far_l1_config){.blocks_max = 5});
	for (uint64_t i = 0; i < 5; i++)
		put(&f, i, units[i] * UNIT);
	assert_int_equal(reserve_some(&f, 20, 4, 0, grants), 4);
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(there(&f, i), i == 4);
	finish_all(&f, grants, 4);
	fixture_close(&f);
}

static void
a_record_that_changes_hands_is_of_the_next_generation(void **state)
{
	struct far_l1_grant grants[4];
	struct far_key key = key_n(2);
	struct fixture f;
	uint64_t word = 0;
	uint32_t idx;
	(void)state;

	fixture_open(&f, 8, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 8; i++)
		put(&f, i, UNIT);
	idx = far_l1_table_find_locked(f.l1, &key, key_hash(&key), &word);
	assert_int_not_equal(idx, L1_NIL);
	assert_int_equal(reserve_some(&f, 20, 4, 0, grants), 4);
	assert_false(there(&f, 2));
	assert_int_equal(word_gen(atomic_load(&f.l1->blocks[idx].word)), word_gen(word) + 1);
	finish_all(&f, grants, 4);
	fixture_close(&f);
}

static void
what_a_call_has_made_is_known_when_the_next_victim_is_chosen(void **state)
{
	struct far_l1_grant grants[2];
	struct fixture f;
	(void)state;

	fixture_open(&f, 20, (struct far_l1_config){.policy = FAR_L1_S3FIFO});
	for (uint64_t i = 0; i < 20; i++)
		put(&f, i, UNIT);
	for (uint64_t i = 0; i < 36; i++)
		touch_one(&f, i / 2);
	put(&f, 20, UNIT);
	assert_false(there(&f, 18));
	/* Two of the small queue are its share: it gives both, since the first is replaced before. */
	assert_int_equal(reserve_some(&f, 30, 2, 0, grants), 2);
	assert_false(there(&f, 19));
	assert_false(there(&f, 20));
	for (uint64_t i = 0; i < 18; i++)
		assert_true(there(&f, i));
	finish_all(&f, grants, 2);
	fixture_close(&f);
}

static void
eviction_ahead_of_need_keeps_what_it_does_not_need(void **state)
{
	enum { COUNT = 200 };
	struct fixture f;
	uint32_t blocks = 0;
	(void)state;

	/* The second half is twice as long: half as many of them have to go as it looked like. */
	fixture_open(&f, 3 * COUNT / 2, (struct far_l1_config){0});
	for (uint64_t i = 0; i < COUNT; i++)
		put(&f, i, i < COUNT / 2 ? UNIT : 2 * UNIT);
	assert_int_equal(far_l1_evict(f.l1, 130 * UNIT, COUNT, &blocks), 130 * UNIT);
	assert_int_equal(blocks, 115);
	far_l1_check(f.l1);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(state_of(&f, i), i < 115 ? FAR_L1_ABSENT : FAR_L1_READY);
	assert_int_equal(far_l1_evict(f.l1, UNIT, COUNT, &blocks), 2 * UNIT);
	assert_false(there(&f, 115));
	fixture_close(&f);
}

struct ear {
	struct fixture f;
	struct far_l1_grant read;
	uint32_t deleted;
};

/* Told while nothing is held: the next one to go can be read, and stays. */
static void
on_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	struct ear *ear = arg;

	(void)events;
	ear->deleted += (uint32_t)count;
	if (ear->read.loan == 0)
		assert_int_equal(read_one(&ear->f, ear->deleted, 1, &ear->read), 0);
}

static void
eviction_holds_nothing_while_it_lets_others_in(void **state)
{
	enum { COUNT = 200 };
	struct ear ear = {.deleted = 0};
	struct far_l1_listener listener = {.deleted = on_deleted, .arg = &ear};
	uint32_t blocks = 0;
	(void)state;

	fixture_open(&ear.f, COUNT, (struct far_l1_config){0});
	assert_int_equal(far_l1_listen(ear.f.l1, &listener), 0);
	for (uint64_t i = 0; i < COUNT; i++)
		put(&ear.f, i, UNIT);
	assert_int_equal(far_l1_evict(ear.f.l1, 100 * UNIT, COUNT, &blocks), 100 * UNIT);
	assert_int_equal(ear.deleted, 100);
	assert_int_equal(state_of(&ear.f, 64), FAR_L1_READ_LOCKED);
	assert_int_equal(release_one(&ear.f, ear.read.loan, 1), 0);
	fixture_close(&ear.f);
}

static void
filing_blocks_anew_can_stop_half_way(void **state)
{
	enum { COUNT = 3000, AGO = 4096, STEP = 100 };
	struct far_l1_grant grants[WANTS_MAX];
	uint64_t loans[WANTS_MAX];
	int rcs[WANTS_MAX];
	struct fixture f;
	uint32_t blocks, went = 0;
	(void)state;

	/* Two ticks each: then more of them within the next 4096 ticks than are filed anew for one victim. */
	fixture_open(&f, COUNT, (struct far_l1_config){0});
	put(&f, COUNT, UNIT);
	for (uint32_t i = 0; i < AGO; i++)
		touch_one(&f, COUNT);
	for (uint64_t i = 0; i + WANTS_MAX < COUNT; i += WANTS_MAX) {
		assert_int_equal(reserve_some(&f, i, WANTS_MAX, 0, grants), WANTS_MAX);
		for (uint32_t j = 0; j < WANTS_MAX; j++)
			loans[j] = grants[j].loan;
		assert_int_equal(far_l1_finish_write(f.l1, f.session, loans, WANTS_MAX, rcs),
				 WANTS_MAX);
	}
	for (uint32_t i = 0; i < AGO; i++)
		touch_one(&f, COUNT);
	assert_int_equal(far_l1_evict(f.l1, UNIT, 1, &blocks), UNIT);
	far_l1_check(f.l1);
	do {
		(void)far_l1_evict(f.l1, STEP * UNIT, STEP, &blocks);
		far_l1_check(f.l1);
		went += blocks;
		/* The one that was used just now is the last. */
		assert_int_equal(there(&f, COUNT), usage_of(&f).block_count > 0);
	} while (blocks == STEP);
	assert_int_equal(usage_of(&f).block_count, 0);
	assert_int_equal(went, usage_of(&f).evicted_blocks - 1);
	fixture_close(&f);
}

/* A call takes its ticks before the lock: another may have claimed what was used since. */
static void
blocks_of_a_call_that_was_overtaken_are_in_the_order(void **state)
{
	struct fixture f;
	(void)state;

	fixture_open(&f, 6, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 6; i++) {
		/* Far apart: what is used last lies in another slot of the wheel. */
		(void)ticks_take(f.l1, 3u << L1_WHEEL_BITS);
		put(&f, i, UNIT);
	}
	for (uint64_t i = 6; i < 8; i++)
		put(&f, i, UNIT);
	pthread_mutex_lock(&f.l1->lock);
	for (uint64_t i = 2; i < 6; i++) {
		struct far_key key = key_n(i);
		uint64_t word;
		uint32_t idx = far_l1_table_find_locked(f.l1, &key, key_hash(&key), &word);

		far_l1_queue_remove(f.l1, idx);
		atomic_store_explicit(&f.l1->blocks[idx].touched, i, memory_order_relaxed);
		far_l1_queue_add(f.l1, idx);
	}
	far_l1_queue_file(f.l1);
	pthread_mutex_unlock(&f.l1->lock);
	far_l1_check(f.l1);
	for (uint64_t i = 8; i < 12; i++)
		put(&f, i, UNIT);
	for (uint64_t i = 2; i < 6; i++)
		assert_false(there(&f, i));
	fixture_close(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_oldest_go_past_those_that_were_used_or_are_held),
		cmocka_unit_test(what_is_not_needed_after_all_stays_and_goes_in_its_order),
		cmocka_unit_test(a_longer_one_gives_as_much_as_is_asked_for),
		cmocka_unit_test(a_record_comes_from_those_that_are_claimed),
		cmocka_unit_test(a_record_that_changes_hands_is_of_the_next_generation),
		cmocka_unit_test(what_a_call_has_made_is_known_when_the_next_victim_is_chosen),
		cmocka_unit_test(eviction_ahead_of_need_keeps_what_it_does_not_need),
		cmocka_unit_test(eviction_holds_nothing_while_it_lets_others_in),
		cmocka_unit_test(filing_blocks_anew_can_stop_half_way),
		cmocka_unit_test(blocks_of_a_call_that_was_overtaken_are_in_the_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
