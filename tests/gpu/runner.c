/* runner.c - starts each test in a process of its own, waits for it, and says what came of it. */
#include "tests/gpu/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define SKIPPED       77
#define TEST_SECONDS  40U
#define NOTE          "note: "
#define SELF          "/proc/self/exe"
#define ARGUMENTS_MAX 16

struct run {
	bool here, quick, verbose;
	const char *filters[ARGUMENTS_MAX];
	int filter_count;
	unsigned seconds; /* that a test may take */
	unsigned passed, failed, skipped;
};

static jmp_buf skip_to; /* where tests run in this process */
static bool skip_jumps;

static void
say_line(const char *head, const char *fmt, va_list args)
{
	printf("%s", head);
	vprintf(fmt, args);
	printf("\n");
	fflush(stdout);
}

void
runner_fail(const char *file, int line, const char *fmt, ...)
{
	va_list args;

	printf("%s:%d: ", file, line);
	va_start(args, fmt);
	say_line("", fmt, args);
	va_end(args);
	/* What the test has left is in any state: nothing of it is taken down. */
	_exit(1);
}

void
runner_skip(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say_line(NOTE, fmt, args);
	va_end(args);
	if (skip_jumps)
		longjmp(skip_to, 1);
	exit(SKIPPED);
}

void
runner_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say_line(NOTE, fmt, args);
	va_end(args);
}

/* ---- processes ---- */

void
runner_spawn(struct runner_process *process, const char *const argv[], int pass_fd)
{
	const char *all[ARGUMENTS_MAX + 1] = {"farpool-gpu"};
	int in[2], out[2];

	for (int i = 0; argv[i] != NULL; i++) {
		CHECK(i + 2 < ARGUMENTS_MAX);
		all[i + 1] = argv[i];
	}
	CHECK_EQ(pipe2(in, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(out, O_CLOEXEC), 0);
	process->pid = fork();
	CHECK(process->pid >= 0);
	if (process->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(in[0], STDIN_FILENO) < 0 || dup2(out[1], STDOUT_FILENO) < 0)
			_exit(126);
		if (pass_fd >= 0 && (pass_fd == 3 ? fcntl(3, F_SETFD, 0) : dup2(pass_fd, 3)) < 0)
			_exit(126);
		execv(SELF, (char *const *)(uintptr_t)all);
		_exit(126);
	}
	close(in[0]);
	close(out[1]);
	process->in_fd = in[1];
	process->out_fd = out[0];
}

/* Waits for the end of a child, at most until then. Returns its exit status, or 128 + the signal. */
static int
child_wait(int pid, uint64_t deadline_ns)
{
	int status = 0;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		uint64_t now_ns = far_clock_now(far_clock_real());

		if (now_ns >= deadline_ns)
			kill(pid, SIGKILL);
		far_clock_sleep_until(now_ns + 2 * FAR_NS_PER_MS);
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int
runner_join(struct runner_process *process, unsigned seconds)
{
	uint64_t now_ns = far_clock_now(far_clock_real());
	int status;

	close(process->in_fd);
	status = child_wait(process->pid, now_ns + seconds * FAR_NS_PER_S);
	close(process->out_fd);
	*process = (struct runner_process){.in_fd = -1, .out_fd = -1};
	return status;
}

/* ---- one test ---- */

/* Its notes, or all that it wrote. */
static void
output_show(int fd, bool all)
{
	char line[1024];
	FILE *file = fdopen(fd, "r");

	if (file == NULL) {
		close(fd);
		return;
	}
	rewind(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		bool is_note = strncmp(line, NOTE, strlen(NOTE)) == 0;

		line[strcspn(line, "\n")] = '\0';
		if (is_note)
			printf("        %s\n", line + strlen(NOTE));
		else if (all)
			printf("      | %s\n", line);
	}
	fclose(file);
}

/* Runs @argument, @name of this file with its output kept. Returns the status. */
static int
child_run(const struct run *run, const char *argument, const char *name, int *output_out)
{
	uint64_t now_ns = far_clock_now(far_clock_real());
	int output = memfd_create("output", MFD_CLOEXEC);
	int pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
			_exit(126);
		execl(SELF, "farpool-gpu", argument, name, (char *)NULL);
		_exit(126);
	}
	*output_out = output;
	return pid < 0 ? 126 : child_wait(pid, now_ns + run->seconds * FAR_NS_PER_S);
}

static void
result_say(struct run *run, const char *name, int status, uint64_t began_ns)
{
	double seconds =
		(double)(far_clock_now(far_clock_real()) - began_ns) / (double)FAR_NS_PER_S;
	const char *word = status == 0 ? "ok" : status == SKIPPED ? "skipped" : "FAILED";

	printf("%-7s %s (%.1f s)\n", word, name, seconds);
	if (status > 128)
		printf("        signal %d%s\n", status - 128,
		       status - 128 == SIGKILL ? ": it took too long" : "");
	if (status == 0)
		run->passed++;
	else if (status == SKIPPED)
		run->skipped++;
	else
		run->failed++;
}

static int
test_run_apart(struct run *run, const struct runner_test *test)
{
	uint64_t began_ns = far_clock_now(far_clock_real());
	int output = -1;
	int status = child_run(run, "--one", test->name, &output);

	result_say(run, test->name, status, began_ns);
	output_show(output, run->verbose || (status != 0 && status != SKIPPED));
	fflush(stdout);
	return status;
}

/* A failure ends the process: what a test left behind would be the next one's trouble. */
static int
test_run_here(struct run *run, const struct runner_test *test)
{
	uint64_t began_ns = far_clock_now(far_clock_real());
	volatile int status = 0;

	skip_jumps = true;
	if (setjmp(skip_to) == 0)
		test->run();
	else
		status = SKIPPED;
	skip_jumps = false;
	result_say(run, test->name, status, began_ns);
	fflush(stdout);
	return status;
}

/* ---- all of them ---- */

static bool
is_wanted(const struct run *run, const struct runner_test *test)
{
	if (run->quick && (test->flags & RUNNER_QUICK) == 0)
		return false;
	if (run->here && (test->flags & RUNNER_ALONE) != 0)
		return false;
	for (int i = 0; i < run->filter_count; i++)
		if (strstr(test->name, run->filters[i]) != NULL)
			return true;
	return run->filter_count == 0;
}

static void
usage(void)
{
	puts("usage: farpool-gpu [--list] [--quick] [--here] [-v] [--seconds N] [PART OF A "
	     "NAME...]\n"
	     "\n"
	     "  --list       the tests that would run\n"
	     "  --quick      those alone that tools like compute-sanitizer get through\n"
	     "  --here       all in this process\n"
	     "  --seconds N  that one may take (default 40)\n"
	     "  -v           all that they write");
}

/* Returns -1 to go on, or the exit status. */
static int
options_read(struct run *run, int argc, char **argv, bool *list_out)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--list") == 0) {
			*list_out = true;
		} else if (strcmp(argv[i], "--quick") == 0) {
			run->quick = true;
		} else if (strcmp(argv[i], "--here") == 0) {
			run->here = true;
		} else if (strcmp(argv[i], "-v") == 0) {
			run->verbose = true;
		} else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
			run->seconds = (unsigned)strtoul(argv[++i], NULL, 10);
		} else if (argv[i][0] == '-' || run->filter_count == ARGUMENTS_MAX) {
			usage();
			return strcmp(argv[i], "--help") == 0 ? 0 : 2;
		} else {
			run->filters[run->filter_count++] = argv[i];
		}
	}
	return -1;
}

static int
all_run(struct run *run, bool list)
{
	unsigned wanted = 0;
	int status;

	for (const struct runner_test *test = runner_tests; test->name != NULL; test++) {
		if (!is_wanted(run, test))
			continue;
		wanted++;
		if (list) {
			puts(test->name);
			continue;
		}
		status = run->here ? test_run_here(run, test) : test_run_apart(run, test);
		if (status == SKIPPED && (test->flags & RUNNER_GATE) != 0)
			break;
	}
	if (wanted == 0) {
		puts("no test has such a name: see --list");
		return 1;
	}
	if (list)
		return 0;
	printf("%u passed, %u failed, %u skipped\n", run->passed, run->failed, run->skipped);
	if (run->failed > 0)
		return 1;
	return run->passed > 0 ? 0 : SKIPPED;
}

int
runner_main(int argc, char **argv)
{
	struct run run = {.seconds = TEST_SECONDS};
	bool list = false;
	int rc;

	for (const struct runner_helper *helper = runner_helpers; helper->name != NULL; helper++)
		if (argc > 1 && strcmp(argv[1], helper->name) == 0)
			return helper->run(argc, argv);
	if (argc == 3 && strcmp(argv[1], "--one") == 0) {
		for (const struct runner_test *test = runner_tests; test->name != NULL; test++) {
			if (strcmp(test->name, argv[2]) != 0)
				continue;
			test->run();
			return 0;
		}
		return 2;
	}
	rc = options_read(&run, argc, argv, &list);
	return rc >= 0 ? rc : all_run(&run, list);
}
