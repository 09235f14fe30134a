/* param.c - defaults, setting by name, suggestions and the reference page. */
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
defaults_are_written_over_whatever_was_there(void **state)
{
	struct fixture_config config;
	(void)state;

	memset(&config, 0xee, sizeof(config));
	far_param_defaults(&fixture_table, &config);
	assert_int_equal(config.memory, 0); /* required: left zero */
	assert_int_equal(config.grace_ns, 50000000);
	assert_int_equal(config.rails, 1);
	assert_string_equal(config.name, "");
	assert_false(config.verify);
	assert_true(config.ratio == 0.25);
	assert_int_equal(config.l1_size, UINT64_C(1) << 30);
	assert_int_equal(config.l1_policy, 0);
	assert_int_equal(config.l1_evict_low, 80);
	assert_null(config.donors);
	assert_int_equal(config.donor_count, 0);
	far_param_fini(&fixture_table, &config);
}

static void
a_parameter_is_set_by_its_name(void **state)
{
	struct fixture_config config;
	char error[FAR_PARAM_ERROR_BYTES];
	(void)state;

	far_param_defaults(&fixture_table, &config);
	assert_int_equal(far_param_set(&fixture_table, &config, "l1.policy", "none", error), 0);
	assert_int_equal(config.l1_policy, 2);
	assert_string_equal(error, "");
	assert_int_equal(far_param_set(&fixture_table, &config, "memory", "4GiB", error), 0);
	assert_int_equal(config.memory, UINT64_C(4) << 30);
}

static void
set_expect(const char *name, const char *text, int rc, const char *expect)
{
	struct fixture_config config;
	char error[FAR_PARAM_ERROR_BYTES];

	far_param_defaults(&fixture_table, &config);
	assert_int_equal(far_param_set(&fixture_table, &config, name, text, error), rc);
	assert_string_equal(error, expect);
}

static void
refusals_name_the_key_the_cause_and_the_next_step(void **state)
{
	(void)state;
	set_expect("memory", "12", -EINVAL,
		   "farpoold: key 'memory': '12' has no unit; write for example 12GiB");
	set_expect("memmory", "12", -ENOENT,
		   "farpoold: key 'memmory': unknown; did you mean 'memory'? known keys: memory, "
		   "grace, rails, name, verify, ratio, l1, donors");
	set_expect("l1.polcy", "lru", -ENOENT,
		   "farpoold: key 'l1.polcy': unknown; did you mean 'l1.policy'? known keys: "
		   "l1.size, l1.policy, l1.evict");
	set_expect("l1.evict.hihg", "1", -ENOENT,
		   "farpoold: key 'l1.evict.hihg': unknown; known keys: l1.evict.low");
	set_expect("policy", "lru", -ENOENT,
		   "farpoold: key 'policy': unknown; did you mean 'l1.policy'? known keys: memory, "
		   "grace, rails, name, verify, ratio, l1, donors");
	set_expect("donors", "x", -EINVAL,
		   "farpoold: key 'donors': is a list; write it in the configuration file");
	set_expect("l1", "x", -EINVAL,
		   "farpoold: key 'l1': is a group; set one of l1.size, l1.policy, l1.evict");
	set_expect("", "x", -ENOENT,
		   "farpoold: key '': unknown; known keys: memory, grace, rails, name, verify, "
		   "ratio, l1, donors");
}

static void
names_of_any_shape_are_refused_in_one_bounded_line(void **state)
{
	static const char *const bad[] = {".", "..", "l1.", ".l1", "l1..size", "l1.size.", "a\nb"};
	struct fixture_config config;
	char error[FAR_PARAM_ERROR_BYTES], name[2000];
	(void)state;

	far_param_defaults(&fixture_table, &config);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(far_param_set(&fixture_table, &config, bad[i], "1", error),
				 -ENOENT);
		assert_null(strchr(error, '\n'));
	}
	memset(name, '.', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(far_param_set(&fixture_table, &config, name, "1", error), -ENOENT);
	memset(name, 'l', sizeof(name) - 1);
	assert_int_equal(far_param_set(&fixture_table, &config, name, "1", error), -ENOENT);
	memcpy(name, "l1.evict.", 9);
	assert_int_equal(far_param_set(&fixture_table, &config, name, "1", error), -ENOENT);
	assert_non_null(strstr(error, "known keys: l1.evict.low"));
}

static void
the_reference_page_has_every_parameter(void **state)
{
	char page[8192] = {0};
	FILE *out = fmemopen(page, sizeof(page), "w");
	(void)state;

	assert_non_null(out);
	far_param_document(&fixture_table, out);
	assert_int_equal(fclose(out), 0);
	assert_non_null(strstr(page, "## farpoold\n"));
	assert_non_null(strstr(page, "| `memory` | size | required | 2MiB to 1TiB | What this "
				     "donor lends. |\n"));
	assert_non_null(strstr(page, "| `grace` | time | `50ms` | 0 to 1min | How long"));
	assert_non_null(strstr(page, "| `name` | string | empty | up to 16 bytes |"));
	assert_non_null(strstr(page, "| `l1.size` | size | `1GiB` | any |"));
	assert_non_null(strstr(page, "| `l1.policy` | choice | `lru` | lru, s3fifo, none |"));
	assert_non_null(strstr(page, "`donors` is a list of at most 5 mappings"));
	assert_non_null(strstr(page, "| `weight` | number | `1` | 1 to 100 | Its share. |\n"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_written_over_whatever_was_there),
		cmocka_unit_test(a_parameter_is_set_by_its_name),
		cmocka_unit_test(refusals_name_the_key_the_cause_and_the_next_step),
		cmocka_unit_test(names_of_any_shape_are_refused_in_one_bounded_line),
		cmocka_unit_test(the_reference_page_has_every_parameter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
