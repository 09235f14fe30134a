/* policy.c - the default policy: every adapter may hold a key and gets it, the lowest one loads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "controllers/policy.h"
#include "tests/support/fake_l2.h"

static const struct far_policy policy = {.ops = &far_policy_default, .replicas = 1};
static struct far_l2_set set;
static struct far_clock_fake clock_fake;
static struct fake_l2 fakes[4];

static int
make_set(void **state)
{
	static const char *const names[] = {"a", "b", "c", "d"};

	(void)state;
	memset(&set, 0, sizeof(set));
	for (uint32_t i = 0; i < 4; i++) {
		fake_l2_init(&fakes[i], names[i], &clock_fake.clock, i);
		if (far_l2_set_add(&set, &fakes[i].l2) != 0)
			return -1;
	}
	return 0;
}

static void
every_adapter_is_routed_and_placed_in_order(void **state)
{
	struct far_key key = fake_l2_key(1);
	uint32_t idx[FAR_L2_SET_MAX];

	(void)state;
	assert_int_equal(policy.ops->route(&policy, &set, &key, idx, FAR_L2_SET_MAX), 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(idx[i], i);
	memset(idx, 0xff, sizeof(idx));
	assert_int_equal(policy.ops->place(&policy, &set, &key, idx, FAR_L2_SET_MAX), 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(idx[i], i);
}

static void
no_more_are_written_than_fit(void **state)
{
	struct far_key key = fake_l2_key(1);
	uint32_t idx[4] = {9, 9, 9, 9};

	(void)state;
	assert_int_equal(policy.ops->route(&policy, &set, &key, idx, 2), 2);
	assert_int_equal(idx[2], 9);
	assert_int_equal(policy.ops->place(&policy, &set, &key, idx, 1), 1);
}

static void
empty_set_routes_and_places_nothing(void **state)
{
	static const struct far_l2_set empty;
	struct far_key key = fake_l2_key(1);
	uint32_t idx[4];

	(void)state;
	assert_int_equal(policy.ops->route(&policy, &empty, &key, idx, 4), 0);
	assert_int_equal(policy.ops->place(&policy, &empty, &key, idx, 4), 0);
}

static void
lowest_number_loads_whatever_the_order_of_those_found(void **state)
{
	static const uint32_t found[][3] = {{2, 1, 3}, {3, 2, 1}, {1, 2, 3}};
	struct far_key key = fake_l2_key(1);

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(policy.ops->plan(&policy, &set, &key, found[i], 3), 1);
	assert_int_equal(policy.ops->plan(&policy, &set, &key, &found[1][0], 1), 3);
}

static void
policies_are_found_by_their_names(void **state)
{
	(void)state;
	assert_ptr_equal(far_policy_find("default"), &far_policy_default);
	assert_ptr_equal(far_policy_find("placement"), &far_policy_placement);
	assert_null(far_policy_find("retain"));
	assert_null(far_policy_find(""));
	assert_null(far_policy_find(NULL));
	assert_non_null(strstr(far_policy_names(), far_policy_default.name));
	assert_non_null(strstr(far_policy_names(), far_policy_placement.name));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_adapter_is_routed_and_placed_in_order),
		cmocka_unit_test(no_more_are_written_than_fit),
		cmocka_unit_test(empty_set_routes_and_places_nothing),
		cmocka_unit_test(lowest_number_loads_whatever_the_order_of_those_found),
		cmocka_unit_test(policies_are_found_by_their_names),
	};

	return cmocka_run_group_tests(tests, make_set, NULL);
}
