/* log.c - one clean line per event, to the sink or to stderr in a single write. */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct capture {
	int count;
	enum far_log_level level;
	char line[4096];
};

static void
capture_sink(void *arg, enum far_log_level level, const char *line)
{
	struct capture *capture = arg;

	capture->count++;
	capture->level = level;
	(void)snprintf(capture->line, sizeof(capture->line), "%s", line);
	errno = EXDEV; /* as any library call may */
}

static int
restore(void **state)
{
	(void)state;
	far_log_sink_set(NULL, NULL);
	far_log_level_set(FAR_LOG_INFO);
	return 0;
}

static void
lines_above_the_level_are_dropped(void **state)
{
	struct capture capture = {.count = 0};
	(void)state;

	far_log_sink_set(capture_sink, &capture);
	assert_int_equal(far_log_level_get(), FAR_LOG_INFO);
	far_log_debug("nothing");
	assert_int_equal(capture.count, 0);
	far_log_info("donor %d is %s", 3, "up");
	assert_int_equal(capture.count, 1);
	assert_int_equal(capture.level, FAR_LOG_INFO);
	assert_string_equal(capture.line, "donor 3 is up");
	far_log_level_set(FAR_LOG_ERROR);
	far_log_warn("nothing");
	assert_int_equal(capture.count, 1);
	far_log_error("gone");
	assert_int_equal(capture.count, 2);
	far_log_level_set(FAR_LOG_DEBUG);
	far_log_debug("all");
	assert_string_equal(capture.line, "all");
}

static void
an_event_is_one_line_whatever_is_in_it(void **state)
{
	struct capture capture = {.count = 0};
	(void)state;

	far_log_sink_set(capture_sink, &capture);
	far_log_warn("name '%s' refused", "a\nerror forged\r\x1b[0m\x7f");
	assert_string_equal(capture.line, "name 'a?error forged??[0m?' refused");
}

static void
a_line_that_is_too_long_is_cut_and_says_so(void **state)
{
	struct capture capture = {.count = 0};
	char text[3000];
	size_t size;
	(void)state;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	far_log_sink_set(capture_sink, &capture);
	far_log_warn("%s", text);
	size = strlen(capture.line);
	assert_true(size < 1100);
	assert_string_equal(capture.line + size - 4, "x...");
}

static void
errno_survives_a_log_line(void **state)
{
	struct capture capture = {.count = 0};
	(void)state;

	far_log_sink_set(capture_sink, &capture);
	errno = EBUSY;
	far_log_warn("x");
	assert_int_equal(errno, EBUSY);
}

static void
the_default_sink_writes_time_level_and_line_to_stderr(void **state)
{
	char out[256] = {0};
	int ends[2], kept = dup(STDERR_FILENO);
	ssize_t got;
	(void)state;

	assert_int_equal(pipe(ends), 0);
	assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
	far_log_warn("link %d lost", 7);
	assert_true(dup2(kept, STDERR_FILENO) >= 0);
	got = read(ends[0], out, sizeof(out) - 1);
	(void)close(ends[0]);
	(void)close(ends[1]);
	(void)close(kept);
	assert_int_equal(got, strlen("HH:MM:SS.mmm warn link 7 lost\n"));
	for (size_t i = 0; i < 12; i++)
		assert_true(i == 2 || i == 5 ? out[i] == ':'
			    : i == 8         ? out[i] == '.'
					     : out[i] >= '0' && out[i] <= '9');
	assert_string_equal(out + 12, " warn link 7 lost\n");
}

static void
levels_are_read_by_name(void **state)
{
	enum far_log_level level = FAR_LOG_WARN;
	(void)state;

	assert_int_equal(far_log_level_parse("error", &level), 0);
	assert_int_equal(level, FAR_LOG_ERROR);
	assert_int_equal(far_log_level_parse("debug", &level), 0);
	assert_int_equal(level, FAR_LOG_DEBUG);
	assert_int_equal(far_log_level_parse("Debug", &level), -EINVAL);
	assert_int_equal(far_log_level_parse("", &level), -EINVAL);
	assert_int_equal(level, FAR_LOG_DEBUG);
}

static void
counting_sink(void *arg, enum far_log_level level, const char *line)
{
	(void)level;
	/* A torn pair of sink and argument would crash here. */
	assert_string_equal(line, "busy");
	__atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
}

static void *
log_many(void *arg)
{
	for (int i = 0; i < 2000; i++)
		far_log_info("busy");
	return arg;
}

static void
the_sink_may_be_replaced_while_others_log(void **state)
{
	int counts[2] = {0, 0};
	pthread_t threads[3];
	(void)state;

	far_log_sink_set(counting_sink, &counts[0]);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, log_many, NULL), 0);
	for (int i = 0; i < 2000; i++)
		far_log_sink_set(counting_sink, &counts[i % 2]);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(counts[0] + counts[1], 6000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(lines_above_the_level_are_dropped, restore),
		cmocka_unit_test_teardown(an_event_is_one_line_whatever_is_in_it, restore),
		cmocka_unit_test_teardown(a_line_that_is_too_long_is_cut_and_says_so, restore),
		cmocka_unit_test_teardown(errno_survives_a_log_line, restore),
		cmocka_unit_test_teardown(the_default_sink_writes_time_level_and_line_to_stderr,
					  restore),
		cmocka_unit_test_teardown(levels_are_read_by_name, restore),
		cmocka_unit_test_teardown(the_sink_may_be_replaced_while_others_log, restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
