/* clock.c - the fake stands still until moved; the real one never goes back. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void
a_fake_clock_stands_still_until_it_is_moved(void **state)
{
	struct far_clock_fake fake;
	(void)state;

	far_clock_fake_init(&fake, 5);
	assert_int_equal(far_clock_now(&fake.clock), 5);
	assert_int_equal(far_clock_now(&fake.clock), 5);
	far_clock_fake_advance(&fake, 3 * FAR_NS_PER_S);
	assert_int_equal(far_clock_now(&fake.clock), 3 * FAR_NS_PER_S + 5);
	far_clock_fake_advance(&fake, FAR_TIME_NEVER - far_clock_now(&fake.clock));
	assert_true(far_clock_now(&fake.clock) == FAR_TIME_NEVER);
}

static void
the_real_clock_never_goes_back(void **state)
{
	uint64_t last = far_clock_now(far_clock_real());
	(void)state;

	for (int i = 0; i < 10000; i++) {
		uint64_t now = far_clock_now(far_clock_real());

		assert_true(now >= last);
		last = now;
	}
}

static void
sleeping_does_not_end_early(void **state)
{
	uint64_t until = far_clock_now(far_clock_real()) + 2 * FAR_NS_PER_MS;
	(void)state;

	far_clock_sleep_until(until);
	assert_true(far_clock_now(far_clock_real()) >= until);
	far_clock_sleep_until(0); /* long ago: returns at once */
}

static void
cpu_time_grows_with_work(void **state)
{
	uint64_t before = far_clock_cpu_ns();
	(void)state;

	while (far_clock_cpu_ns() == before)
		;
	assert_true(far_clock_cpu_ns() > before);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fake_clock_stands_still_until_it_is_moved),
		cmocka_unit_test(the_real_clock_never_goes_back),
		cmocka_unit_test(sleeping_does_not_end_early),
		cmocka_unit_test(cpu_time_grows_with_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
