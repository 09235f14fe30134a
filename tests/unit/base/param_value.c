/* param_value.c - values of every type: what is taken, and the words for what is not. */
#include "base/param.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/base/param_fixture.h"

static void
sizes_are_read_in_binary_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"0GiB", 0},
		{"1B", 1},
		{"64KiB", 65536},
		{"64 KiB", 65536},
		{"256MiB", UINT64_C(256) << 20},
		{"16777215TiB", UINT64_C(16777215) << 40},
		{"18446744073709551615B", UINT64_MAX},
		{"007KiB", UINT64_C(7) * 1024},
	};
	static const char *const bad[] = {"",
					  "12",
					  "GiB",
					  "12GB",
					  "12gib",
					  "12G",
					  "-1GiB",
					  "+1GiB",
					  " 1GiB",
					  "1GiB ",
					  "1.5GiB",
					  "0x10KiB",
					  "1e3B",
					  "1GiB1B",
					  "16777216TiB",
					  "18446744073709551616B",
					  "99999999999999999999999999B"};
	uint64_t bytes;
	(void)state;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(far_size_parse(good[i].text, &bytes), 0);
		assert_true(bytes == good[i].bytes);
	}
	bytes = 7;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(far_size_parse(bad[i], &bytes), -EINVAL);
	assert_int_equal(bytes, 7); /* untouched on failure */
}

static void
durations_are_read_in_nanoseconds(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {
		{"0", 0},
		{"7ns", 7},
		{"5us", 5000},
		{"50ms", 50000000},
		{"3s", 3000000000ULL},
		{"2min", 120000000000ULL},
	};
	static const char *const bad[] = {"",    "50", "ms",  "50 m",        "50sec",
					  "-1s", "1h", "5µs", "307445735min"};
	uint64_t ns;
	(void)state;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(far_duration_parse(good[i].text, &ns), 0);
		assert_true(ns == good[i].ns);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(far_duration_parse(bad[i], &ns), -EINVAL);
}

/* The message behind "farpoold: key 'name': "; NULL: the value is taken. */
static void
expect(const char *name, const char *text, const char *message)
{
	char error[FAR_PARAM_ERROR_BYTES], whole[FAR_PARAM_ERROR_BYTES];
	struct fixture_config config, before;
	int rc;

	memset(&config, 0, sizeof(config));
	far_param_defaults(&fixture_table, &config);
	before = config;
	rc = far_param_set(&fixture_table, &config, name, text, error);
	if (message == NULL) {
		assert_string_equal(error, "");
		assert_int_equal(rc, 0);
		return;
	}
	assert_int_equal(rc, -EINVAL);
	(void)snprintf(whole, sizeof(whole), "farpoold: key '%s': %s", name, message);
	assert_string_equal(error, whole);
	assert_memory_equal(&config, &before, sizeof(config)); /* untouched on failure */
}

static void
refused_numbers_say_what_would_be_right(void **state)
{
	(void)state;
	expect("rails", "4", NULL);
	expect("rails", "0", "'0' is too small; write 1 to 4");
	expect("rails", "5", "'5' is too large; write 1 to 4");
	expect("rails", "2x", "'2x' is not a plain whole number; write digits alone, 1 to 4");
	expect("rails", "-1", "'-1' is not a plain whole number; write digits alone, 1 to 4");
	expect("rails", "", "'' is not a plain whole number; write digits alone, 1 to 4");
	expect("rails", "18446744073709551617",
	       "'18446744073709551617' is too large; write 1 to 4");
}

static void
refused_sizes_and_times_say_which_unit(void **state)
{
	(void)state;
	expect("memory", "2MiB", NULL);
	expect("memory", "1TiB", NULL);
	expect("memory", "2097151B", "'2097151B' is too small; write 2MiB to 1TiB");
	expect("memory", "1025GiB", "'1025GiB' is too large; write 2MiB to 1TiB");
	expect("memory", "16777216TiB", "'16777216TiB' is too large; write 2MiB to 1TiB");
	expect("memory", "4096", "'4096' has no unit; write for example 4096MiB");
	expect("memory", "12mb",
	       "unit 'mb' is unknown; write for example 12MiB (units: B, KiB, "
	       "MiB, GiB, TiB)");
	expect("memory", "1.5GiB",
	       "'1.5GiB' is not a whole number; write it in a smaller unit (B, "
	       "KiB, MiB, GiB, TiB)");
	expect("memory", "lots", "'lots' is not a size; write for example 2MiB");
	expect("memory", "0", "'0' is too small; write 2MiB to 1TiB");
	expect("grace", "0", NULL);
	expect("grace", "60s", NULL);
	expect("grace", "61s", "'61s' is too large; write 0 to 1min");
	expect("grace", "50", "'50' has no unit; write for example 50ms");
	expect("grace", "5sec",
	       "unit 'sec' is unknown; write for example 5s (units: ns, us, ms, s, min)");
	expect("grace", "soon", "'soon' is not a time; write for example 50ms");
}

static void
booleans_are_true_and_false_only(void **state)
{
	(void)state;
	expect("verify", "true", NULL);
	expect("verify", "false", NULL);
	expect("verify", "yes", "'yes' is not a boolean; write true or false");
	expect("verify", "True", "'True' is not a boolean; write true or false");
	expect("verify", "1", "'1' is not a boolean; write true or false");
}

static void
decimals_are_plain_and_bounded(void **state)
{
	struct fixture_config config;
	char error[FAR_PARAM_ERROR_BYTES];
	(void)state;

	far_param_defaults(&fixture_table, &config);
	assert_int_equal(far_param_set(&fixture_table, &config, "ratio", "0.1", error), 0);
	assert_true(config.ratio == 0.1);
	expect("ratio", "0", NULL);
	expect("ratio", "1.0", NULL);
	expect("ratio", "1.01", "'1.01' is too large; write 0 to 1");
	expect("ratio", "-0.5", "'-0.5' is not a decimal number like 0.25; write 0 to 1");
	expect("ratio", ".5", "'.5' is not a decimal number like 0.25; write 0 to 1");
	expect("ratio", "1.", "'1.' is not a decimal number like 0.25; write 0 to 1");
	expect("ratio", "nan", "'nan' is not a decimal number like 0.25; write 0 to 1");
	expect("ratio", "1e-1", "'1e-1' is not a decimal number like 0.25; write 0 to 1");
	expect("ratio", "", "'' is not a decimal number like 0.25; write 0 to 1");
}

static void
choices_are_listed_when_none_fits(void **state)
{
	(void)state;
	expect("l1.policy", "s3fifo", NULL);
	expect("l1.policy", "lr", "'lr' is not a choice; write one of lru, s3fifo, none");
	expect("l1.policy", "lru|", "'lru|' is not a choice; write one of lru, s3fifo, none");
	expect("l1.policy", "", "'' is not a choice; write one of lru, s3fifo, none");
}

static void
strings_are_bounded_and_hold_no_control_characters(void **state)
{
	(void)state;
	expect("name", "", NULL);
	expect("name", "0123456789abcdef", NULL);
	expect("name", "0123456789abcdefg",
	       "'0123456789abcdefg' is 17 bytes long; write up to 16 bytes");
	expect("name", "rack\n7", "'rack?7' has a control character at byte 5; remove it");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_read_in_binary_units),
		cmocka_unit_test(durations_are_read_in_nanoseconds),
		cmocka_unit_test(refused_numbers_say_what_would_be_right),
		cmocka_unit_test(refused_sizes_and_times_say_which_unit),
		cmocka_unit_test(booleans_are_true_and_false_only),
		cmocka_unit_test(decimals_are_plain_and_bounded),
		cmocka_unit_test(choices_are_listed_when_none_fits),
		cmocka_unit_test(strings_are_bounded_and_hold_no_control_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
