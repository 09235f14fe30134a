/* registry.c - adapters are opened by type; what an operator gets wrong is named. */
#include "l2/l2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"

static struct far_clock_fake fake;

static int
open_with(const struct far_l2_config *config, struct far_l2 **out, char error[256])
{
	struct far_l2_env env = {.clock = &fake.clock};

	far_clock_fake_init(&fake, 1);
	return far_l2_open(config, &env, out, error);
}

static void
every_named_type_is_found_and_no_other(void **state)
{
	char names[128];
	char *rest = names;
	const char *name;

	(void)state;
	(void)snprintf(names, sizeof(names), "%s", far_l2_type_names());
	while ((name = strtok_r(rest, ", ", &rest)) != NULL) {
		assert_non_null(far_l2_type_find(name));
		assert_string_equal(far_l2_type_find(name)->name, name);
	}
	assert_null(far_l2_type_find("no-such"));
	assert_null(far_l2_type_find(""));
}

static void
an_unknown_type_names_the_known_ones(void **state)
{
	struct far_l2_config config = {.type = "s3", .name = "a"};
	struct far_l2 *l2 = NULL;
	char error[256];

	(void)state;
	assert_int_equal(open_with(&config, &l2, error), -EINVAL);
	assert_null(l2);
	assert_non_null(strstr(error, "s3"));
	assert_non_null(strstr(error, far_l2_type_names()));
}

static void
what_would_read_bytes_on_a_device_is_refused(void **state)
{
	struct far_l2_env env = {.clock = &fake.clock, .arena_is_device = true};
	struct far_l2_config memory = {
		.type = "memory", .name = "m", .where = "l2[0]", .capacity_bytes = 1 << 20};
	struct far_l2_config donor = {
		.type = "donor", .name = "d", .where = "l2[1]", .address = "loop:d"};
	struct far_l2 *l2 = NULL;
	char error[256];

	(void)state;
	far_clock_fake_init(&fake, 1);
	assert_int_equal(far_l2_open(&memory, &env, &l2, error), -EINVAL);
	assert_non_null(strstr(error, "l2[0]"));
	assert_non_null(strstr(error, "L1 lies on a device"));
	env.verify_always = true;
	assert_int_equal(far_l2_open(&donor, &env, &l2, error), -EINVAL);
	assert_non_null(strstr(error, "CRC"));
	assert_null(l2);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
an_error_names_place_and_field(void **state)
{
	static const struct {
		struct far_l2_config config;
		const char *text;
	} cases[] = {
		{{.where = "donors[2]", .type = "s3", .name = "a"}, "donors[2].type: 's3'"},
		{{.where = "donors[2]", .name = "a"}, "donors[2].type: missing"},
		{{.where = "donors[2]", .type = "memory"}, "donors[2].name: missing"},
		{{.where = "donors[2]", .type = "memory", .name = "a", .weight = -1},
		 "donors[2].weight: "},
		{{.where = "donors[2]", .type = "memory", .name = "a"},
		 "donors[2].capacity: 0 bytes"},
		{{.where = "donors[3]", .type = "donor", .name = "a", .address = "/run/a.sock"},
		 "donors[3].address: '/run/a.sock' names no transport"},
		{{.where = "donors[3]", .type = "donor", .name = "a", .address = "pigeon:a"},
		 "donors[3].address: none of its addresses 'pigeon:a'"},
		{{.type = "donor", .name = "a", .address = "pigeon:a"},
		 "adapter 'a': address: none of its addresses 'pigeon:a'"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct far_l2 *l2 = NULL;
		char error[256];

		assert_int_equal(open_with(&cases[i].config, &l2, error), -EINVAL);
		if (strncmp(error, cases[i].text, strlen(cases[i].text)) != 0)
			fail_msg("'%s', not '%s...'", error, cases[i].text);
		assert_null(l2);
	}
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
a_line_that_is_too_long_is_cut(void **state)
{
	char field[100], where[100], error[256];
	struct far_l2_config config = {.where = where};

	(void)state;
	memset(field, 'f', sizeof(field) - 1);
	memset(where, 'w', sizeof(where) - 1);
	field[99] = where[99] = '\0';
	assert_int_equal(far_l2_config_error(&config, field, error, "%0300d", 1), -EINVAL);
	assert_int_equal(strlen(error), 255);
}

static void
bad_names_and_weights_are_refused_with_a_line(void **state)
{
	struct far_l2_config configs[] = {
		{.type = "memory", .name = "", .capacity_bytes = 4096},
		{.type = "memory", .name = NULL, .capacity_bytes = 4096},
		{.type = NULL, .name = "a", .capacity_bytes = 4096},
		{.type = "memory", .name = "a", .capacity_bytes = 4096, .weight = -1},
		{.type = "memory", .name = "a", .capacity_bytes = 4096, .weight = NAN},
		{.type = "memory", .name = "a", .capacity_bytes = 0},
		{.type = "memory",
		 .capacity_bytes = 4096,
		 .name = "0123456789012345678901234567890123456789012345678901234567890123"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
		struct far_l2 *l2 = NULL;
		char error[256];

		assert_int_equal(open_with(&configs[i], &l2, error), -EINVAL);
		assert_null(l2);
		assert_true(strlen(error) > 0);
	}
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
an_opened_adapter_has_its_name_weight_and_limits(void **state)
{
	struct far_l2_config config = {.type = "memory", .name = "m", .capacity_bytes = 4096};
	struct far_l2 *l2 = NULL;
	char error[256];

	(void)state;
	assert_int_equal(open_with(&config, &l2, error), 0);
	assert_string_equal(l2->name, "m");
	assert_true(l2->weight > 0.99 && l2->weight < 1.01);
	assert_int_equal(l2->limits.items_max, 1024);
	far_l2_quiesce(l2);
	assert_true(far_l2_quiesced(l2));
	far_l2_close(l2);
	far_l2_close(NULL);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_named_type_is_found_and_no_other),
		cmocka_unit_test(an_unknown_type_names_the_known_ones),
		cmocka_unit_test(what_would_read_bytes_on_a_device_is_refused),
		cmocka_unit_test(an_error_names_place_and_field),
		cmocka_unit_test(a_line_that_is_too_long_is_cut),
		cmocka_unit_test(bad_names_and_weights_are_refused_with_a_line),
		cmocka_unit_test(an_opened_adapter_has_its_name_weight_and_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
