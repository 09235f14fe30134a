/* env.c - tests of base/env.h. */
#include "base/env.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define READERS 3
#define CALLS   200

static char lent_variable[] = "FARPOOL_TEST_LENT=lent";
static char *const lent[] = {lent_variable, NULL};

static void
what_is_exported_is_read_and_nothing_else(void **state)
{
	(void)state;
	assert_int_equal(setenv("FARPOOL_TEST_ENV", "a value", 1), 0);
	assert_string_equal(far_env_get("FARPOOL_TEST_ENV"), "a value");
	assert_int_equal(unsetenv("FARPOOL_TEST_ENV"), 0);
	assert_null(far_env_get("FARPOOL_TEST_ENV"));
}

/* ---- calls with more ---- */

struct seen {
	unsigned calls;
	char lent[32];
	char own[32];
};

static void
look(void *arg)
{
	struct seen *seen = arg;
	const char *value = getenv("FARPOOL_TEST_LENT");
	const char *own = getenv("FARPOOL_TEST_OWN");

	seen->calls++;
	(void)snprintf(seen->lent, sizeof(seen->lent), "%s", value != NULL ? value : "none");
	(void)snprintf(seen->own, sizeof(seen->own), "%s", own != NULL ? own : "none");
}

static void
a_call_sees_more_and_nobody_does_after_it(void **state)
{
	struct seen seen = {0};
	char **before;
	(void)state;

	assert_int_equal(setenv("FARPOOL_TEST_OWN", "own", 1), 0);
	before = environ;
	assert_int_equal(far_env_call_with(lent, look, &seen), 0);
	assert_int_equal(seen.calls, 1);
	assert_string_equal(seen.lent, "lent");
	assert_string_equal(seen.own, "own");
	assert_null(getenv("FARPOOL_TEST_LENT"));
	assert_ptr_equal(environ, before);
	assert_int_equal(unsetenv("FARPOOL_TEST_OWN"), 0);
}

static void
what_the_operator_exported_holds(void **state)
{
	struct seen seen = {0};
	(void)state;

	assert_int_equal(setenv("FARPOOL_TEST_LENT", "the operator's", 1), 0);
	assert_int_equal(far_env_call_with(lent, look, &seen), 0);
	assert_string_equal(seen.lent, "the operator's");
	assert_string_equal(getenv("FARPOOL_TEST_LENT"), "the operator's");
	assert_int_equal(unsetenv("FARPOOL_TEST_LENT"), 0);
}

static void
a_name_that_only_begins_the_same_is_another(void **state)
{
	struct seen seen = {0};
	(void)state;

	assert_int_equal(setenv("FARPOOL_TEST_LENT_TOO", "another", 1), 0);
	assert_int_equal(far_env_call_with(lent, look, &seen), 0);
	assert_string_equal(seen.lent, "lent");
	assert_int_equal(unsetenv("FARPOOL_TEST_LENT_TOO"), 0);
}

static void
a_process_without_an_environment_gets_one_for_the_call(void **state)
{
	struct seen seen = {0};
	char **before = environ;
	(void)state;

	environ = NULL;
	assert_int_equal(far_env_call_with(lent, look, &seen), 0);
	assert_null(environ);
	environ = before;
	assert_string_equal(seen.lent, "lent");
}

/* ---- changes meanwhile ---- */

static void
add_one(void *arg)
{
	assert_int_equal(setenv("FARPOOL_TEST_ADDED", arg, 1), 0);
}

static void
a_variable_that_is_added_meanwhile_stays(void **state)
{
	(void)state;
	assert_int_equal(far_env_call_with(lent, add_one, "added"), 0);
	assert_string_equal(getenv("FARPOOL_TEST_ADDED"), "added");
	assert_int_equal(unsetenv("FARPOOL_TEST_ADDED"), 0);
	assert_int_equal(unsetenv("FARPOOL_TEST_LENT"), 0);
}

static void
a_variable_that_is_changed_meanwhile_stays_changed(void **state)
{
	(void)state;
	assert_int_equal(setenv("FARPOOL_TEST_ADDED", "before", 1), 0);
	assert_int_equal(far_env_call_with(lent, add_one, "after"), 0);
	assert_string_equal(getenv("FARPOOL_TEST_ADDED"), "after");
	assert_int_equal(unsetenv("FARPOOL_TEST_ADDED"), 0);
	assert_int_equal(unsetenv("FARPOOL_TEST_LENT"), 0);
}

static void
remove_one(void *arg)
{
	assert_int_equal(unsetenv(arg), 0);
}

static void
a_variable_that_is_removed_meanwhile_stays_removed(void **state)
{
	(void)state;
	assert_int_equal(setenv("FARPOOL_TEST_ADDED", "before", 1), 0);
	assert_int_equal(far_env_call_with(lent, remove_one, "FARPOOL_TEST_ADDED"), 0);
	assert_null(getenv("FARPOOL_TEST_ADDED"));
	assert_int_equal(unsetenv("FARPOOL_TEST_LENT"), 0);
}

/* ---- other threads ---- */

static atomic_bool reading;

/* Returns NULL, or what was read instead. */
static void *
read_for_long(void *arg)
{
	(void)arg;
	while (atomic_load(&reading)) {
		const char *own = getenv("FARPOOL_TEST_OWN");
		const char *value = getenv("FARPOOL_TEST_LENT");

		if (own == NULL || strcmp(own, "own") != 0)
			return "a variable was not there";
		if (value != NULL && strcmp(value, "lent") != 0)
			return "a value was never given";
	}
	return NULL;
}

static void
other_threads_find_every_variable_meanwhile(void **state)
{
	pthread_t readers[READERS];
	struct seen seen = {0};
	(void)state;

	assert_int_equal(setenv("FARPOOL_TEST_OWN", "own", 1), 0);
	atomic_store(&reading, true);
	for (int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&readers[i], NULL, read_for_long, NULL), 0);
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(far_env_call_with(lent, look, &seen), 0);
	atomic_store(&reading, false);
	for (int i = 0; i < READERS; i++) {
		void *complaint = "not joined";

		assert_int_equal(pthread_join(readers[i], &complaint), 0);
		assert_null(complaint);
	}
	assert_int_equal(seen.calls, CALLS);
	assert_int_equal(unsetenv("FARPOOL_TEST_OWN"), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_exported_is_read_and_nothing_else),
		cmocka_unit_test(a_call_sees_more_and_nobody_does_after_it),
		cmocka_unit_test(what_the_operator_exported_holds),
		cmocka_unit_test(a_name_that_only_begins_the_same_is_another),
		cmocka_unit_test(a_process_without_an_environment_gets_one_for_the_call),
		cmocka_unit_test(a_variable_that_is_added_meanwhile_stays),
		cmocka_unit_test(a_variable_that_is_changed_meanwhile_stays_changed),
		cmocka_unit_test(a_variable_that_is_removed_meanwhile_stays_removed),
		cmocka_unit_test(other_threads_find_every_variable_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
