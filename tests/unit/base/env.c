/* env.c - tests of base/env.h. */
#include "base/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void
what_is_exported_is_read_and_nothing_else(void **state)
{
	(void)state;
	assert_int_equal(setenv("FARPOOL_TEST_ENV", "a value", 1), 0);
	assert_string_equal(far_env_get("FARPOOL_TEST_ENV"), "a value");
	assert_int_equal(unsetenv("FARPOOL_TEST_ENV"), 0);
	assert_null(far_env_get("FARPOOL_TEST_ENV"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_exported_is_read_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
