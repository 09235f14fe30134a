/* runner.h - tests without a library for them: names, claims, skips, and a process for each. */
#ifndef FAR_TESTS_GPU_RUNNER_H
#define FAR_TESTS_GPU_RUNNER_H

#include <stdint.h>

/*
 * A test's name is a claim. Each runs in a process of its own, so that a GPU that failed, a hang and a
 * crash are one test's; with --here all of them run in one, for tools that watch a process.
 */
struct runner_test {
	const char *name;
	void (*run)(void);
	uint32_t flags; /* RUNNER_* */
};

#define RUNNER_QUICK (1U << 0) /* also for tools under which everything is much slower */
#define RUNNER_ALONE (1U << 1) /* what it does to its process or GPU no other test survives */
#define RUNNER_GATE  (1U << 2) /* skipped, nothing behind it can run */

/* Programs of the same file: what a test starts with runner_spawn(). Returns its exit status. */
struct runner_helper {
	const char *name; /* "--donor" */
	int (*run)(int argc, char **argv);
};

/* Both end with an entry without name. */
extern const struct runner_test runner_tests[];
extern const struct runner_helper runner_helpers[];

/* Ends the test that calls. */
_Noreturn void runner_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void runner_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A line that is shown beside the test's result. */
void runner_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			runner_fail(__FILE__, __LINE__, "%s", #condition);                         \
	} while (0)

#define CHECK_EQ(is, should)                                                                       \
	do {                                                                                       \
		long long is_ = (long long)(is), should_ = (long long)(should);                    \
		if (is_ != should_)                                                                \
			runner_fail(__FILE__, __LINE__, "%s is %lld, not %lld (%s)", #is, is_,     \
				    should_, #should);                                             \
	} while (0)

struct runner_process {
	int pid;
	int in_fd;  /* what we write comes to its standard input; closing it asks it to end */
	int out_fd; /* its standard output */
};

/* This very file again, with a helper's name and its arguments; @pass_fd: -1, or what it has as
 * descriptor 3. It does not outlive us. */
void runner_spawn(struct runner_process *process, const char *const argv[], int pass_fd);
/* Closes its input and waits for its end, at most @seconds: then it is killed. Returns its exit status,
 * or 128 + the signal. */
int runner_join(struct runner_process *process, unsigned seconds);

/* Options, as --help shows them. Returns the exit status: 0; 1; 77: all was skipped. */
int runner_main(int argc, char **argv);

#endif
