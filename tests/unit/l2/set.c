/* set.c - adapters keep their positions, are found by name, and come and go. */
#include "l2/l2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

static struct far_l2 adapters[FAR_L2_SET_MAX + 1];

static void
fill(struct far_l2_set *set, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		(void)snprintf(adapters[i].name, sizeof(adapters[i].name), "donor-%u", i);
		assert_int_equal(far_l2_set_add(set, &adapters[i]), 0);
	}
}

static void
adapters_are_found_both_ways_in_the_order_of_adding(void **state)
{
	struct far_l2_set set = {0};
	char name[64];

	(void)state;
	fill(&set, FAR_L2_SET_MAX);
	for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++) {
		(void)snprintf(name, sizeof(name), "donor-%u", i);
		assert_ptr_equal(far_l2_set_find(&set, name), &adapters[i]);
		assert_ptr_equal(set.items[i], &adapters[i]);
		assert_int_equal(adapters[i].idx, i);
	}
	assert_null(far_l2_set_find(&set, "donor-64"));
	assert_null(far_l2_set_find(&set, ""));
}

static void
an_empty_set_finds_nothing(void **state)
{
	struct far_l2_set set = {0};

	(void)state;
	assert_null(far_l2_set_find(&set, "donor-0"));
}

static void
a_name_twice_is_refused(void **state)
{
	struct far_l2_set set = {0};
	struct far_l2 twin = {.name = "donor-1"};

	(void)state;
	fill(&set, 3);
	assert_int_equal(far_l2_set_add(&set, &twin), -EEXIST);
	assert_int_equal(set.count, 3);
	assert_ptr_equal(far_l2_set_find(&set, "donor-1"), &adapters[1]);
}

static void
one_more_than_the_bound_is_refused(void **state)
{
	struct far_l2_set set = {0};
	struct far_l2 more = {.name = "one-more"};

	(void)state;
	fill(&set, FAR_L2_SET_MAX);
	assert_int_equal(far_l2_set_add(&set, &more), -E2BIG);
	assert_null(far_l2_set_find(&set, "one-more"));
}

static void
drained_one_is_found_but_not_active(void **state)
{
	struct far_l2_set set = {0};
	struct far_l2 twin = {.name = "donor-1"};

	(void)state;
	fill(&set, 3);
	assert_true(far_l2_set_is_active(&set, 1));
	far_l2_set_drain(&set, 1);
	assert_false(far_l2_set_is_active(&set, 1));
	assert_true(far_l2_set_is_active(&set, 0));
	assert_true(far_l2_set_is_active(&set, 2));
	assert_ptr_equal(set.items[1], &adapters[1]);
	assert_ptr_equal(far_l2_set_find(&set, "donor-1"), &adapters[1]);
	assert_int_equal(far_l2_set_add(&set, &twin), -EEXIST);
	far_l2_set_drain(&set, 1);
	assert_false(far_l2_set_is_active(&set, FAR_L2_SET_MAX));
}

static void
removing_leaves_the_others_where_they_are(void **state)
{
	struct far_l2_set set = {0};
	uint32_t seen = 0;

	(void)state;
	fill(&set, 5);
	far_l2_set_drain(&set, 1);
	far_l2_set_drain(&set, 4);
	assert_ptr_equal(far_l2_set_remove(&set, 1), &adapters[1]);
	assert_int_equal(set.count, 5);
	assert_ptr_equal(far_l2_set_remove(&set, 4), &adapters[4]);
	assert_int_equal(set.count, 4);
	assert_null(set.items[1]);
	assert_null(far_l2_set_find(&set, "donor-1"));
	FAR_L2_SET_FOR_EACH(&set, i)
	{
		assert_ptr_equal(set.items[i], &adapters[i]);
		assert_int_equal(adapters[i].idx, i);
		seen |= 1U << i;
	}
	assert_int_equal(seen, 0xd);
}

static void
lowest_free_position_is_taken_by_a_new_generation(void **state)
{
	struct far_l2_set set = {0};
	struct far_l2 first = {.name = "first"};
	struct far_l2 second = {.name = "donor-3"};

	(void)state;
	fill(&set, 5);
	far_l2_set_drain(&set, 3);
	far_l2_set_drain(&set, 2);
	(void)far_l2_set_remove(&set, 3);
	(void)far_l2_set_remove(&set, 2);
	assert_int_equal(set.generations[2], 1);
	assert_int_equal(far_l2_set_add(&set, &first), 0);
	assert_int_equal(first.idx, 2);
	assert_int_equal(set.generations[2], 2);
	assert_true(far_l2_set_is_active(&set, 2));
	/* The name of a removed one is free as well. */
	assert_int_equal(far_l2_set_add(&set, &second), 0);
	assert_int_equal(second.idx, 3);
	assert_ptr_equal(far_l2_set_find(&set, "donor-3"), &second);
	assert_int_equal(set.generations[4], 1);
	assert_int_equal(set.count, 5);
}

/* Half of the buckets are taken, so that chains run into each other and around the end. */
static void
names_are_found_after_any_history_of_coming_and_going(void **state)
{
	struct far_rng rng;
	struct far_l2_set set = {0};
	bool in[FAR_L2_SET_MAX] = {false};

	(void)state;
	far_rng_init(&rng, 7);
	for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++)
		(void)snprintf(adapters[i].name, sizeof(adapters[i].name), "node%u", i * 37);
	for (uint32_t step = 0; step < 4000; step++) {
		uint32_t who = (uint32_t)far_rng_below(&rng, FAR_L2_SET_MAX);

		if (in[who]) {
			far_l2_set_drain(&set, adapters[who].idx);
			assert_ptr_equal(far_l2_set_remove(&set, adapters[who].idx),
					 &adapters[who]);
		} else {
			assert_int_equal(far_l2_set_add(&set, &adapters[who]), 0);
		}
		in[who] = !in[who];
		for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++)
			assert_ptr_equal(far_l2_set_find(&set, adapters[i].name),
					 in[i] ? &adapters[i] : NULL);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adapters_are_found_both_ways_in_the_order_of_adding),
		cmocka_unit_test(an_empty_set_finds_nothing),
		cmocka_unit_test(a_name_twice_is_refused),
		cmocka_unit_test(one_more_than_the_bound_is_refused),
		cmocka_unit_test(drained_one_is_found_but_not_active),
		cmocka_unit_test(removing_leaves_the_others_where_they_are),
		cmocka_unit_test(lowest_free_position_is_taken_by_a_new_generation),
		cmocka_unit_test(names_are_found_after_any_history_of_coming_and_going),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
