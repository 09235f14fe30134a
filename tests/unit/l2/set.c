/* set.c - the adapters of one client keep their order and are found by name. */
#include "l2/l2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adapters_are_found_both_ways_in_the_order_of_adding),
		cmocka_unit_test(an_empty_set_finds_nothing),
		cmocka_unit_test(a_name_twice_is_refused),
		cmocka_unit_test(one_more_than_the_bound_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
