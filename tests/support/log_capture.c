/* log_capture.c - keeps the lines that a test logs, and fails it for unexpected warnings. */
#include "tests/support/log_capture.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"

#define LINES_MAX      256
#define LINE_BYTES_MAX 256
#define EXPECTED_MAX   8

static struct {
	pthread_mutex_t lock;
	char lines[LINES_MAX][LINE_BYTES_MAX]; /* the first ones */
	enum far_log_level levels[LINES_MAX];
	unsigned count; /* may exceed LINES_MAX */
	const char *expected[EXPECTED_MAX];
	unsigned expected_count;
} capture = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
capture_line(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	pthread_mutex_lock(&capture.lock);
	if (capture.count < LINES_MAX) {
		snprintf(capture.lines[capture.count], LINE_BYTES_MAX, "%s", line);
		capture.levels[capture.count] = level;
	}
	capture.count++;
	pthread_mutex_unlock(&capture.lock);
}

static unsigned
kept_count(void)
{
	return capture.count < LINES_MAX ? capture.count : LINES_MAX;
}

void
far_log_capture_start(void)
{
	capture.count = 0;
	capture.expected_count = 0;
	far_log_sink_set(capture_line, NULL);
}

void
far_log_capture_expect(const char *part)
{
	assert_true(capture.expected_count < EXPECTED_MAX);
	capture.expected[capture.expected_count++] = part;
}

unsigned
far_log_capture_count(const char *part)
{
	unsigned count = 0;

	pthread_mutex_lock(&capture.lock);
	for (unsigned i = 0; i < kept_count(); i++)
		count += strstr(capture.lines[i], part) != NULL;
	pthread_mutex_unlock(&capture.lock);
	return count;
}

static int
line_is_expected(const char *line)
{
	for (unsigned i = 0; i < capture.expected_count; i++)
		if (strstr(line, capture.expected[i]) != NULL)
			return 1;
	return 0;
}

void
far_log_capture_finish(void)
{
	unsigned unexpected = 0;

	far_log_sink_set(NULL, NULL);
	pthread_mutex_lock(&capture.lock);
	for (unsigned i = 0; i < kept_count(); i++) {
		if (capture.levels[i] > FAR_LOG_WARN || line_is_expected(capture.lines[i]))
			continue;
		print_error("unexpected in the log: %s\n", capture.lines[i]);
		unexpected++;
	}
	pthread_mutex_unlock(&capture.lock);
	assert_int_equal(unexpected, 0);
}
