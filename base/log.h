/* log.h - one lower-case line per event, written where the error is first decided. */
#ifndef FAR_BASE_LOG_H
#define FAR_BASE_LOG_H

enum far_log_level {
	FAR_LOG_ERROR,
	FAR_LOG_WARN,
	FAR_LOG_INFO,
	FAR_LOG_DEBUG,
};

/* Receives finished lines without newline. Called from any thread, must not block for long. */
typedef void far_log_sink_fn(void *arg, enum far_log_level level, const char *line);

/**
 * far_log_sink_set - replaces where lines go (default: stderr, with time and level).
 *
 * @sink: borrowed; NULL restores the default.
 *
 * Thread:  any; lines already being written may still reach the old sink.
 */
void far_log_sink_set(far_log_sink_fn *sink, void *arg);

/* Lines above the level are dropped before they are formatted. Default: info. */
void far_log_level_set(enum far_log_level level);
enum far_log_level far_log_level_get(void);

/* "error", "warn", "info", "debug" -> level; -EINVAL otherwise. */
int far_log_level_parse(const char *name, enum far_log_level *out);

void far_log_write(enum far_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define far_log_error(...) far_log_write(FAR_LOG_ERROR, __VA_ARGS__)
#define far_log_warn(...)  far_log_write(FAR_LOG_WARN, __VA_ARGS__)
#define far_log_info(...)  far_log_write(FAR_LOG_INFO, __VA_ARGS__)
#define far_log_debug(...) far_log_write(FAR_LOG_DEBUG, __VA_ARGS__)

#endif
