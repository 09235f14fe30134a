/* list.c - order, removal in a loop, and removal twice. */
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct thing {
	int number;
	struct far_list link;
};

static struct thing *
thing_of(struct far_list *link)
{
	return FAR_CONTAINER_OF(link, struct thing, link);
}

static void
things_come_out_in_the_order_of_their_places(void **state)
{
	struct thing things[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
	struct far_list list;
	(void)state;

	far_list_init(&list);
	assert_true(far_list_empty(&list));
	assert_null(far_list_pop_front(&list));
	far_list_push_back(&list, &things[2].link);
	far_list_push_back(&list, &things[3].link);
	far_list_push_front(&list, &things[1].link);
	far_list_push_front(&list, &things[0].link);
	for (int i = 0; i < 4; i++)
		assert_int_equal(thing_of(far_list_pop_front(&list))->number, i);
	assert_true(far_list_empty(&list));
}

static void
the_body_of_a_loop_may_remove_its_thing(void **state)
{
	struct thing things[6];
	struct far_list list, *it, *tmp;
	int seen = 0;
	(void)state;

	far_list_init(&list);
	for (int i = 0; i < 6; i++) {
		things[i].number = i;
		far_list_push_back(&list, &things[i].link);
	}
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &list)
	{
		assert_int_equal(thing_of(it)->number, seen++);
		if (thing_of(it)->number % 2 == 0)
			far_list_remove(it);
	}
	assert_int_equal(seen, 6);
	for (int i = 1; i < 6; i += 2)
		assert_int_equal(thing_of(far_list_pop_front(&list))->number, i);
	assert_true(far_list_empty(&list));
}

static void
removing_twice_harms_nobody(void **state)
{
	struct thing a = {.number = 1}, b = {.number = 2};
	struct far_list list;
	(void)state;

	far_list_init(&list);
	far_list_push_back(&list, &a.link);
	far_list_push_back(&list, &b.link);
	far_list_remove(&a.link);
	far_list_remove(&a.link);
	assert_int_equal(thing_of(far_list_pop_front(&list))->number, 2);
	assert_true(far_list_empty(&list));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(things_come_out_in_the_order_of_their_places),
		cmocka_unit_test(the_body_of_a_loop_may_remove_its_thing),
		cmocka_unit_test(removing_twice_harms_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
