/* log_capture.h - what a test logs: an unexpected warning is a failure. */
#ifndef FAR_TESTS_SUPPORT_LOG_CAPTURE_H
#define FAR_TESTS_SUPPORT_LOG_CAPTURE_H

/* From here on lines are kept, not printed; what was kept is forgotten. Thread: one at a time. */
void far_log_capture_start(void);
/* Warnings and errors that contain @part are expected until the capture ends. Borrowed. */
void far_log_capture_expect(const char *part);
/* How many lines of any level contained @part. */
unsigned far_log_capture_count(const char *part);
/* Lines go to stderr again. Fails the cmocka test that calls it if a warning or an error came that
 * nobody expected, and prints those. */
void far_log_capture_finish(void);

#endif
