/* err.c - the list is closed, each code stands once, and each text says what to do. */
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <limits.h>
#include <string.h>

static const int codes[] = {
#define X(code, scope, text) code,
#include "base/err.def"
#undef X
};
#define CODE_COUNT (sizeof(codes) / sizeof(codes[0]))

static void
each_code_stands_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < CODE_COUNT; i++) {
		assert_true(codes[i] > 0);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(codes[i], codes[j]);
	}
}

static void
listed_codes_have_a_name_and_a_next_step(void **state)
{
	(void)state;
	for (size_t i = 0; i < CODE_COUNT; i++) {
		assert_true(far_err_listed(-codes[i]));
		assert_int_equal(far_err_name(-codes[i])[0], 'E');
		assert_true(strlen(far_err_text(-codes[i])) > 10);
	}
	assert_string_equal(far_err_name(-ENOENT), "ENOENT");
	assert_string_equal(far_err_text(-ENOENT), "no tier holds the key: a miss");
}

static void
scopes_are_those_of_the_list(void **state)
{
	(void)state;
	assert_int_equal(far_err_scope(-EINVAL), FAR_ERR_CALL);
	assert_int_equal(far_err_scope(-EAGAIN), FAR_ERR_OP);
	assert_int_equal(far_err_scope(-ECONNRESET), FAR_ERR_LINK);
	assert_int_equal(far_err_scope(-EHOSTDOWN), FAR_ERR_DONOR);
	assert_int_equal(far_err_scope(-EMFILE), FAR_ERR_HOST);
}

static void
unlisted_codes_are_the_worst_and_still_have_a_text(void **state)
{
	static const int foreign[] = {-EXDEV, -1000000, INT_MIN};
	(void)state;

	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		assert_false(far_err_listed(foreign[i]));
		assert_int_equal(far_err_scope(foreign[i]), FAR_ERR_HOST);
		assert_string_equal(far_err_name(foreign[i]), "unlisted");
		assert_non_null(strstr(far_err_text(foreign[i]), "does not list"));
	}
}

static void
success_is_no_error(void **state)
{
	(void)state;
	assert_string_equal(far_err_name(0), "0");
	assert_string_equal(far_err_text(0), "success");
	assert_false(far_err_listed(0));
	assert_false(far_err_listed(ENOENT)); /* positive errno is a count, not an error */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_code_stands_once),
		cmocka_unit_test(listed_codes_have_a_name_and_a_next_step),
		cmocka_unit_test(scopes_are_those_of_the_list),
		cmocka_unit_test(unlisted_codes_are_the_worst_and_still_have_a_text),
		cmocka_unit_test(success_is_no_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
