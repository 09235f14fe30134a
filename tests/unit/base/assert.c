/* assert.c - a failed assertion says where, once, and ends the process. */
#include "base/assert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

static void
asserting_sink(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	FAR_ASSERT(line == NULL);
}

/* What a child that asserts writes to stderr; its signal is returned. */
static int
fail_in_child(far_log_sink_fn *sink, char *out, size_t size_bytes)
{
	size_t used = 0;
	int ends[2], status;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit none = {0, 0};

		(void)setrlimit(RLIMIT_CORE, &none);
		(void)dup2(ends[1], STDERR_FILENO);
		far_log_sink_set(sink, NULL);
		FAR_ASSERT(sizeof(int) == 77);
		_exit(0);
	}
	(void)close(ends[1]);
	for (ssize_t got = 1; got > 0 && used < size_bytes - 1; used += (size_t)got) {
		got = read(ends[0], out + used, size_bytes - 1 - used);
		assert_true(got >= 0);
	}
	out[used] = '\0';
	(void)close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void
a_failed_assertion_names_itself_and_aborts(void **state)
{
	char out[4096];
	(void)state;

	assert_int_equal(fail_in_child(NULL, out, sizeof(out)), SIGABRT);
	assert_non_null(
		strstr(out, " error assertion 'sizeof(int) == 77' failed in fail_in_child"));
	assert_non_null(strstr(out, "unit/base/assert.c:"));
}

static void
a_sink_that_asserts_does_not_recurse_for_ever(void **state)
{
	char out[4096];
	(void)state;

	assert_int_equal(fail_in_child(asserting_sink, out, sizeof(out)), SIGABRT);
}

static void
a_condition_that_holds_is_evaluated_once_and_costs_nothing_else(void **state)
{
	int calls = 0;
	(void)state;

	FAR_ASSERT(++calls == 1);
	assert_int_equal(calls, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failed_assertion_names_itself_and_aborts),
		cmocka_unit_test(a_sink_that_asserts_does_not_recurse_for_ever),
		cmocka_unit_test(a_condition_that_holds_is_evaluated_once_and_costs_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
