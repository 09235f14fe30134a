/* rng.c - the generators give their published numbers, and bounds are met evenly. */
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static void
xoshiro_gives_the_published_sequence(void **state)
{
	/* The first outputs from the state 1, 2, 3, 4. */
	static const uint64_t expect[] = {
		11520ULL,
		0ULL,
		1509978240ULL,
		1215971899390074240ULL,
		1216172134540287360ULL,
		607988272756665600ULL,
	};
	struct far_rng rng = {{1, 2, 3, 4}};
	(void)state;

	for (size_t i = 0; i < sizeof(expect) / sizeof(expect[0]); i++)
		assert_true(far_rng_u64(&rng) == expect[i]);
}

static void
mix_is_one_step_of_splitmix64(void **state)
{
	(void)state;
	assert_true(far_mix64(1234567) == 6457827717110365317ULL);
	assert_true(far_mix64(1234567 + 0x9e3779b97f4a7c15ULL) == 3203168211198807973ULL);
}

static void
a_seed_repeats_its_sequence_and_another_does_not(void **state)
{
	struct far_rng a, b, c;
	int same = 0;
	(void)state;

	far_rng_init(&a, 0);
	far_rng_init(&b, 0);
	far_rng_init(&c, 1);
	for (int i = 0; i < 1000; i++) {
		uint64_t draw = far_rng_u64(&a);

		assert_true(draw == far_rng_u64(&b));
		same += draw == far_rng_u64(&c);
	}
	assert_int_equal(same, 0);
}

static void
draws_below_a_bound_stay_below_and_reach_every_value(void **state)
{
	struct far_rng rng;
	int counts[7] = {0};
	(void)state;

	far_rng_init(&rng, 3);
	for (int i = 0; i < 70000; i++)
		counts[far_rng_below(&rng, 7)]++;
	for (int i = 0; i < 7; i++) {
		assert_true(counts[i] > 9500);
		assert_true(counts[i] < 10500);
	}
	for (int i = 0; i < 100; i++) {
		assert_int_equal(far_rng_below(&rng, 1), 0);
		assert_true(far_rng_below(&rng, UINT64_MAX) < UINT64_MAX);
	}
}

static void
a_bound_that_does_not_divide_favours_nobody(void **state)
{
	/* Three quarters of the range: plain modulo would draw the lower third twice as often. */
	const uint64_t bound = UINT64_C(3) << 62;
	struct far_rng rng;
	int low = 0;
	(void)state;

	far_rng_init(&rng, 4);
	for (int i = 0; i < 30000; i++)
		low += far_rng_below(&rng, bound) < bound / 3;
	assert_true(low > 9500);
	assert_true(low < 10500);
}

static void
random_bytes_differ_and_stay_in_their_buffer(void **state)
{
	unsigned char a[40] = {0}, b[40] = {0};
	(void)state;

	far_random_bytes(a, 32);
	far_random_bytes(b, 32);
	far_random_bytes(a, 0);
	assert_memory_not_equal(a, b, 32);
	for (size_t i = 32; i < sizeof(a); i++)
		assert_int_equal(a[i], 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(xoshiro_gives_the_published_sequence),
		cmocka_unit_test(mix_is_one_step_of_splitmix64),
		cmocka_unit_test(a_seed_repeats_its_sequence_and_another_does_not),
		cmocka_unit_test(draws_below_a_bound_stay_below_and_reach_every_value),
		cmocka_unit_test(a_bound_that_does_not_divide_favours_nobody),
		cmocka_unit_test(random_bytes_differ_and_stay_in_their_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
