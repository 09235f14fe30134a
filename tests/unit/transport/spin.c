/* spin.c - short waits in a row are spun through, and nothing else is. */
#include "transport/spin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define NS_MAX 50000U
#define NEAR   10000U
#define FAR    400000U

static struct far_spin spin;
static uint64_t now_ns;

static int
setup(void **state)
{
	(void)state;
	far_spin_init(&spin, NS_MAX);
	now_ns = 1000000;
	return 0;
}

/* A wait, as poll and arm live through it. Returns how long of it was spun through. */
static uint64_t
wait_for(uint64_t ns)
{
	uint64_t end_ns = now_ns + ns, spun_ns = 0;

	far_spin_idle(&spin, now_ns);
	while (now_ns < end_ns && far_spin_again(&spin, now_ns)) {
		now_ns += 1000;
		spun_ns += 1000;
		far_spin_idle(&spin, now_ns);
	}
	if (now_ns < end_ns) {
		far_spin_slept(&spin);
		now_ns = end_ns;
	}
	far_spin_found(&spin, now_ns);
	now_ns += 5000;
	return spun_ns;
}

static uint64_t
waits_for(uint64_t ns, uint32_t count)
{
	uint64_t spun_ns = 0;

	for (uint32_t i = 0; i < count; i++)
		spun_ns += wait_for(ns);
	return spun_ns;
}

static void
the_first_short_waits_are_slept_through_and_the_next_are_not(void **state)
{
	(void)state;
	assert_int_equal(waits_for(NEAR, FAR_SPIN_NEAR_MIN), 0);
	assert_int_equal(waits_for(NEAR, 100), 100 * NEAR);
}

static void
long_waits_are_never_spun_through(void **state)
{
	(void)state;
	assert_int_equal(waits_for(FAR, 100), 0);
}

static void
one_long_wait_costs_no_more_than_the_longest_spin_and_ends_it(void **state)
{
	(void)state;
	(void)waits_for(NEAR, 4 * FAR_SPIN_NEAR_MIN);
	assert_in_range(wait_for(FAR), 1, NS_MAX);
	assert_int_equal(wait_for(FAR), 0);
	assert_int_equal(waits_for(NEAR, FAR_SPIN_NEAR_MIN / 2), 0);
}

static void
where_every_fifth_wait_is_long_none_is_spun_through(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(waits_for(NEAR, 4), 0);
		assert_int_equal(wait_for(FAR), 0);
	}
}

static void
where_every_twentieth_wait_is_long_most_are_spun_through(void **state)
{
	uint64_t spun_ns = 0;
	(void)state;

	for (int i = 0; i < 100; i++) {
		spun_ns += waits_for(NEAR, 19);
		(void)wait_for(FAR);
	}
	assert_in_range(spun_ns, 95 * 17 * NEAR, 100 * 19 * NEAR);
}

/* The other side cannot run before we sleep: each wait is short after a spin that was in vain. */
static void
where_spinning_keeps_the_other_side_from_running_it_is_soon_given_up(void **state)
{
	uint64_t spun_ns = 0;
	(void)state;

	for (int i = 0; i < 20000; i++) {
		far_spin_idle(&spin, now_ns);
		while (far_spin_again(&spin, now_ns)) {
			now_ns += 1000;
			spun_ns += 1000;
		}
		far_spin_slept(&spin);
		now_ns += NEAR;
		far_spin_found(&spin, now_ns);
	}
	/* A spin every FAR_SPIN_NEAR_MAX waits, after the first few. */
	assert_in_range(spun_ns / NS_MAX, 1, 16);
}

static void
what_we_ask_for_ourselves_begins_a_wait_of_its_own(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < FAR_SPIN_NEAR_MIN; i++) {
		far_spin_idle(&spin, now_ns);
		assert_false(far_spin_again(&spin, now_ns));
		far_spin_slept(&spin);
		now_ns += FAR; /* whoever uses us thinks */
		far_spin_restart(&spin);
		assert_int_equal(wait_for(NEAR), 0);
	}
	assert_int_equal(wait_for(NEAR), NEAR);
}

static void
without_a_longest_wait_nothing_is_spun_through(void **state)
{
	(void)state;
	far_spin_init(&spin, 0);
	assert_int_equal(waits_for(1, 1000), 0);
	assert_int_equal(waits_for(NEAR, 1000), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(the_first_short_waits_are_slept_through_and_the_next_are_not,
				       setup),
		cmocka_unit_test_setup(long_waits_are_never_spun_through, setup),
		cmocka_unit_test_setup(
			one_long_wait_costs_no_more_than_the_longest_spin_and_ends_it, setup),
		cmocka_unit_test_setup(where_every_fifth_wait_is_long_none_is_spun_through, setup),
		cmocka_unit_test_setup(where_every_twentieth_wait_is_long_most_are_spun_through,
				       setup),
		cmocka_unit_test_setup(
			where_spinning_keeps_the_other_side_from_running_it_is_soon_given_up,
			setup),
		cmocka_unit_test_setup(what_we_ask_for_ourselves_begins_a_wait_of_its_own, setup),
		cmocka_unit_test_setup(without_a_longest_wait_nothing_is_spun_through, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
