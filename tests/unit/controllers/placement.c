/* placement.c - weighted rendezvous hashing: shares follow weights, and keys move only where they must. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "controllers/policy.h"
#include "tests/support/fake_l2.h"

#define KEYS   100000U
#define DONORS 8U

static struct far_policy policy = {.replicas = 1};
static struct far_clock_fake clock_fake;
static struct fake_l2 fakes[DONORS];

/* The first @count donors in the order that @order gives; weights by name. */
static void
make_set(struct far_l2_set *set, const uint32_t *order, uint32_t count, const double *weights)
{
	memset(set, 0, sizeof(*set));
	for (uint32_t i = 0; i < count; i++) {
		uint32_t donor = order != NULL ? order[i] : i;
		char name[16];

		(void)snprintf(name, sizeof(name), "donor%u", donor);
		fake_l2_init(&fakes[donor], name, &clock_fake.clock, donor);
		fakes[donor].l2.weight = weights != NULL ? weights[donor] : 1;
		assert_int_equal(far_l2_set_add(set, &fakes[donor].l2), 0);
	}
}

static uint32_t
place_one(const struct far_l2_set *set, uint64_t number)
{
	struct far_key key = fake_l2_key(number);
	uint32_t idx = 99;

	assert_int_equal(far_policy_placement.place(&policy, set, &key, &idx, 1), 1);
	assert_true(idx < set->count);
	return idx;
}

static void
weights_are_respected_within_a_few_percent(void **state)
{
	static const double weights[] = {1, 1, 2, 4, 0.5, 1, 8, 2.5};
	uint32_t counts[DONORS] = {0};
	struct far_l2_set set;
	double sum = 0;

	(void)state;
	make_set(&set, NULL, DONORS, weights);
	for (uint32_t i = 0; i < DONORS; i++)
		sum += weights[i];
	for (uint64_t k = 0; k < KEYS; k++)
		counts[place_one(&set, k)]++;
	for (uint32_t i = 0; i < DONORS; i++) {
		double want = KEYS * weights[i] / sum;

		assert_true(counts[i] > want * 0.96);
		assert_true(counts[i] < want * 1.04);
	}
}

static void
donor_that_joins_takes_its_share_and_moves_nothing_else(void **state)
{
	struct far_l2_set before;
	struct far_l2_set after;
	uint32_t moved = 0;

	(void)state;
	make_set(&before, NULL, DONORS - 1, NULL);
	make_set(&after, NULL, DONORS, NULL);
	for (uint64_t k = 0; k < KEYS; k++) {
		uint32_t from = place_one(&before, k);
		uint32_t to = place_one(&after, k);

		if (from == to)
			continue;
		assert_int_equal(to, DONORS - 1);
		moved++;
	}
	assert_true(moved * 100 > KEYS / DONORS * 96);
	assert_true(moved * 100 < KEYS / DONORS * 104);
}

static void
donor_that_grows_only_gains_keys(void **state)
{
	double weights[DONORS] = {1, 1, 1, 1, 1, 1, 1, 1};
	struct far_l2_set set;
	uint32_t *from = test_malloc(KEYS * sizeof(*from));
	uint32_t gained = 0;

	(void)state;
	make_set(&set, NULL, DONORS, weights);
	for (uint64_t k = 0; k < KEYS; k++)
		from[k] = place_one(&set, k);
	weights[3] = 2;
	make_set(&set, NULL, DONORS, weights);
	for (uint64_t k = 0; k < KEYS; k++) {
		uint32_t to = place_one(&set, k);

		if (to == from[k])
			continue;
		assert_int_equal(to, 3);
		gained++;
	}
	assert_true(gained > 0);
	test_free(from);
}

static void
order_of_the_list_does_not_matter(void **state)
{
	static const uint32_t order[] = {5, 2, 7, 0, 1, 6, 4, 3};
	struct far_l2_set plain;
	struct far_l2_set mixed;

	(void)state;
	policy.replicas = 3;
	make_set(&plain, NULL, DONORS, NULL);
	make_set(&mixed, order, DONORS, NULL);
	for (uint64_t k = 0; k < 2000; k++) {
		struct far_key key = fake_l2_key(k);
		uint32_t a[4];
		uint32_t b[4];

		assert_int_equal(far_policy_placement.route(&policy, &plain, &key, a, 4), 4);
		assert_int_equal(far_policy_placement.route(&policy, &mixed, &key, b, 4), 4);
		for (int i = 0; i < 4; i++)
			assert_int_equal(a[i], order[b[i]]);
	}
	policy.replicas = 1;
}

static void
replicas_are_different_donors_and_lookups_ask_one_more(void **state)
{
	struct far_l2_set set;

	(void)state;
	make_set(&set, NULL, DONORS, NULL);
	policy.replicas = 2;
	for (uint64_t k = 0; k < 2000; k++) {
		struct far_key key = fake_l2_key(k);
		uint32_t placed[FAR_L2_SET_MAX];
		uint32_t routed[FAR_L2_SET_MAX];

		assert_int_equal(
			far_policy_placement.place(&policy, &set, &key, placed, FAR_L2_SET_MAX), 2);
		assert_int_equal(
			far_policy_placement.route(&policy, &set, &key, routed, FAR_L2_SET_MAX), 3);
		assert_int_equal(placed[0], routed[0]);
		assert_int_equal(placed[1], routed[1]);
		assert_true(routed[0] != routed[1]);
		assert_true(routed[1] != routed[2]);
		assert_true(routed[0] != routed[2]);
	}
	policy.replicas = 1;
}

/* Everybody's lookups ask who stands in, whoever they think is away. */
static void
donor_that_is_away_is_stood_in_for_by_one_that_lookups_ask(void **state)
{
	struct far_l2_set set;
	uint32_t stood_in = 0;

	(void)state;
	make_set(&set, NULL, DONORS, NULL);
	policy.replicas = 2;
	for (uint64_t k = 0; k < 2000; k++) {
		struct far_key key = fake_l2_key(k);
		uint32_t placed[FAR_L2_SET_MAX];
		uint32_t routed[FAR_L2_SET_MAX];
		uint32_t again[FAR_L2_SET_MAX];

		(void)far_policy_placement.route(&policy, &set, &key, routed, FAR_L2_SET_MAX);
		set.items[2]->away = true;
		assert_int_equal(
			far_policy_placement.place(&policy, &set, &key, placed, FAR_L2_SET_MAX), 2);
		assert_int_equal(placed[0], routed[0] == 2 ? routed[1] : routed[0]);
		assert_int_equal(placed[1],
				 routed[0] == 2 || routed[1] == 2 ? routed[2] : routed[1]);
		stood_in += placed[1] == routed[2];
		assert_int_equal(
			far_policy_placement.route(&policy, &set, &key, again, FAR_L2_SET_MAX), 3);
		assert_memory_equal(again, routed, 3 * sizeof(*again));
		set.items[2]->away = false;
	}
	assert_true(stood_in > 0);
	policy.replicas = 1;
}

static void
donors_that_are_all_away_are_named_all_the_same(void **state)
{
	struct far_l2_set set;

	(void)state;
	make_set(&set, NULL, DONORS, NULL);
	for (uint32_t i = 0; i < DONORS; i++)
		set.items[i]->away = true;
	for (uint64_t k = 0; k < 2000; k++) {
		struct far_key key = fake_l2_key(k);
		uint32_t routed[2];

		(void)far_policy_placement.route(&policy, &set, &key, routed, 2);
		assert_int_equal(place_one(&set, k), routed[0]);
	}
	for (uint32_t i = 0; i < DONORS; i++)
		set.items[i]->away = false;
}

static void
lookups_still_find_what_was_placed_before_a_donor_joined(void **state)
{
	struct far_l2_set before;
	struct far_l2_set after;

	(void)state;
	make_set(&before, NULL, DONORS - 1, NULL);
	make_set(&after, NULL, DONORS, NULL);
	for (uint64_t k = 0; k < KEYS; k++) {
		struct far_key key = fake_l2_key(k);
		uint32_t from = place_one(&before, k);
		uint32_t routed[2];

		assert_int_equal(far_policy_placement.route(&policy, &after, &key, routed, 2), 2);
		assert_true(routed[0] == from || routed[1] == from);
	}
}

static void
few_donors_get_as_many_copies_as_there_are(void **state)
{
	struct far_key key = fake_l2_key(1);
	struct far_l2_set set;
	uint32_t idx[FAR_L2_SET_MAX];

	(void)state;
	policy.replicas = 3;
	make_set(&set, NULL, 2, NULL);
	assert_int_equal(far_policy_placement.place(&policy, &set, &key, idx, FAR_L2_SET_MAX), 2);
	make_set(&set, NULL, 1, NULL);
	assert_int_equal(far_policy_placement.route(&policy, &set, &key, idx, FAR_L2_SET_MAX), 1);
	memset(&set, 0, sizeof(set));
	assert_int_equal(far_policy_placement.route(&policy, &set, &key, idx, FAR_L2_SET_MAX), 0);
	policy.replicas = 1;
}

static void
best_of_the_route_loads(void **state)
{
	static const struct far_policy_found found[] = {
		{.adapter = 4, .size_bytes = 1},
		{.adapter = 1, .size_bytes = 1},
		{.adapter = 2, .size_bytes = 1},
	};
	struct far_key key = fake_l2_key(1);
	struct far_l2_set set;

	(void)state;
	make_set(&set, NULL, DONORS, NULL);
	assert_int_equal(far_policy_placement.plan(&policy, &set, &key, found, 3), 4);
}

static void
donor_that_leaves_gives_its_keys_away_and_moves_nothing_else(void **state)
{
	struct far_l2_set before;
	struct far_l2_set after;
	uint32_t moved = 0;

	(void)state;
	make_set(&before, NULL, DONORS, NULL);
	make_set(&after, NULL, DONORS, NULL);
	far_l2_set_drain(&after, 2);
	far_l2_set_drain(&after, 5);
	(void)far_l2_set_remove(&after, 5);
	for (uint64_t k = 0; k < KEYS / 10; k++) {
		uint32_t from = place_one(&before, k);
		uint32_t to = place_one(&after, k);

		assert_int_not_equal(to, 2);
		assert_int_not_equal(to, 5);
		if (from == 2 || from == 5)
			moved++;
		else
			assert_int_equal(from, to);
	}
	assert_true(moved > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(weights_are_respected_within_a_few_percent),
		cmocka_unit_test(donor_that_joins_takes_its_share_and_moves_nothing_else),
		cmocka_unit_test(donor_that_grows_only_gains_keys),
		cmocka_unit_test(order_of_the_list_does_not_matter),
		cmocka_unit_test(replicas_are_different_donors_and_lookups_ask_one_more),
		cmocka_unit_test(donor_that_is_away_is_stood_in_for_by_one_that_lookups_ask),
		cmocka_unit_test(donors_that_are_all_away_are_named_all_the_same),
		cmocka_unit_test(lookups_still_find_what_was_placed_before_a_donor_joined),
		cmocka_unit_test(few_donors_get_as_many_copies_as_there_are),
		cmocka_unit_test(best_of_the_route_loads),
		cmocka_unit_test(donor_that_leaves_gives_its_keys_away_and_moves_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
