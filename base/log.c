/* log.c - formats one line per event and hands it to the sink; no other part of farpool is needed. */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX 1024

static const char *const level_names[] = {
	[FAR_LOG_ERROR] = "error",
	[FAR_LOG_WARN] = "warn",
	[FAR_LOG_INFO] = "info",
	[FAR_LOG_DEBUG] = "debug",
};

#define LEVEL_COUNT (sizeof(level_names) / sizeof(level_names[0]))

/* Relaxed: a level names no other data. */
static atomic_int level_now = FAR_LOG_INFO;

/* Guards the pair below; never held while a sink runs, as a sink may log. */
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static far_log_sink_fn *sink_now;
static void *sink_arg;

/* One write(2) per line, so that lines of several threads and processes do not mix. */
static void
stderr_sink(void *arg, enum far_log_level level, const char *line)
{
	char text[LINE_BYTES_MAX + 32];
	struct timespec now;
	struct tm tm;
	int size;

	(void)arg;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (localtime_r(&now.tv_sec, &tm) == NULL)
		memset(&tm, 0, sizeof(tm));
	size = snprintf(text, sizeof(text), "%02d:%02d:%02d.%03d %s %.*s\n", tm.tm_hour, tm.tm_min,
			tm.tm_sec, (int)(now.tv_nsec / 1000000), level_names[level],
			LINE_BYTES_MAX - 1, line);
	if (size < 0)
		return;
	while (write(STDERR_FILENO, text, (size_t)size) < 0 && errno == EINTR)
		;
}

void
far_log_sink_set(far_log_sink_fn *sink, void *arg)
{
	(void)pthread_mutex_lock(&sink_lock);
	sink_now = sink;
	sink_arg = arg;
	(void)pthread_mutex_unlock(&sink_lock);
}

void
far_log_level_set(enum far_log_level level)
{
	atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

enum far_log_level
far_log_level_get(void)
{
	return (enum far_log_level)atomic_load_explicit(&level_now, memory_order_relaxed);
}

int
far_log_level_parse(const char *name, enum far_log_level *out)
{
	for (size_t i = 0; i < LEVEL_COUNT; i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*out = (enum far_log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* One event is one line: names that came from files or peers may hold anything. */
static void
line_clean(char *line)
{
	for (char *c = line; *c != '\0'; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
}

void
far_log_write(enum far_log_level level, const char *fmt, ...)
{
	char line[LINE_BYTES_MAX];
	int errno_kept = errno;
	far_log_sink_fn *sink;
	void *arg;
	va_list args;
	int size;

	if (level > far_log_level_get())
		return;
	va_start(args, fmt);
	size = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (size < 0)
		(void)snprintf(line, sizeof(line), "a log line that could not be formatted: %s",
			       fmt);
	else if ((size_t)size >= sizeof(line))
		memcpy(line + sizeof(line) - 4, "...", 4);
	line_clean(line);

	(void)pthread_mutex_lock(&sink_lock);
	sink = sink_now;
	arg = sink_arg;
	(void)pthread_mutex_unlock(&sink_lock);
	if (sink == NULL)
		sink = stderr_sink;
	sink(arg, level, line);
	errno = errno_kept;
}
