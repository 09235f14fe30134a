/* run.c - each cell in a process of its own, several of them at a time if that is asked for. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/fault/fault.h"

#define CELL_SECONDS 120U /* no cell takes longer, whatever hangs in it */
#define CELL_FAILED  3

void
cell_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)fputs("failed: ", stderr);
	(void)vfprintf(stderr, format, args);
	(void)fputc('\n', stderr);
	va_end(args);
	(void)fflush(NULL);
	_exit(CELL_FAILED);
}

/* What the processes' helpers of other tests find wrong is said by cmocka. */
static struct {
	const struct cell *cell;
	const struct over *over;
	struct outcome *outcome;
} running;

static void
cell_as_test(void **state)
{
	(void)state;
	running.cell->run(running.cell, running.over, running.outcome);
}

static int
cell_here(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(cell_as_test)};

	running.cell = cell;
	running.over = over;
	running.outcome = outcome;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* In a group of its own, so that what it starts ends with it. */
static bool
cell_start(struct cell_job *job, const struct over *over)
{
	job->outcome = mmap(NULL, sizeof(*job->outcome), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	job->log_fd = memfd_create("log of a cell", MFD_CLOEXEC);
	if (job->outcome == MAP_FAILED || job->log_fd < 0)
		return false;
	job->outcome->miss_ns = job->outcome->reuse_ns = job->outcome->consistent_ns = TIME_NONE;
	job->until_ns = far_now_ns() + rig_seconds(CELL_SECONDS) * FAR_NS_PER_S;
	(void)fflush(NULL);
	job->pid = fork();
	if (job->pid == 0) {
		int status;

		(void)setpgid(0, 0);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(job->log_fd, STDOUT_FILENO);
		(void)dup2(job->log_fd, STDERR_FILENO);
		status = cell_here(job->cell, over, job->outcome);
		(void)fflush(NULL);
		_exit(status);
	}
	return job->pid > 0;
}

/* Whether it has ended by now. */
static bool
cell_ended(struct cell_job *job)
{
	int status = 0;

	if (job->ended)
		return true;
	if (waitpid(job->pid, &status, WNOHANG) == 0) {
		if (far_now_ns() > job->until_ns)
			(void)kill(job->pid, SIGKILL);
		return false;
	}
	(void)kill(-job->pid, SIGKILL);
	job->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	job->ended = true;
	return true;
}

static void
log_show(int log_fd)
{
	char bytes[4096];
	off_t size = lseek(log_fd, 0, SEEK_END);
	off_t from = size > (off_t)sizeof(bytes) ? size - (off_t)sizeof(bytes) : 0;
	ssize_t count = pread(log_fd, bytes, sizeof(bytes), from);

	if (count > 0)
		(void)fwrite(bytes, 1, (size_t)count, stderr);
}

/* What its donors and clients said. */
static void
dir_show(const char *dir)
{
	char command[320];

	if (dir[0] == '\0' || access(dir, F_OK) != 0)
		return;
	snprintf(command, sizeof(command), "tail -n 20 '%s'/*.log '%s'/*.err >&2", dir, dir);
	if (system(command) != 0)
		fprintf(stderr, "not all of it is in %s\n", dir);
}

static void
dir_remove(const char *dir)
{
	char command[160];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (dir[0] != '\0' && system(command) != 0)
		fprintf(stderr, "%s is left\n", dir);
}

static bool
cell_end(struct cell_job *job, const struct over *over, bool verbose)
{
	bool sound = row_print(job->cell, over, job->outcome, job->status);

	if (!sound || verbose)
		log_show(job->log_fd);
	if (!sound || verbose)
		dir_show(job->outcome->dir);
	dir_remove(job->outcome->dir);
	(void)close(job->log_fd);
	(void)munmap(job->outcome, sizeof(*job->outcome));
	return sound;
}

bool
cells_run(struct cell_job *jobs, size_t count, size_t at_once, const struct over *over,
	  bool verbose)
{
	size_t started = 0, printed = 0;
	bool sound = true;

	while (printed < count) {
		size_t live = 0;

		for (size_t i = printed; i < started; i++)
			live += !cell_ended(&jobs[i]);
		while (started < count && live < at_once) {
			if (!cell_start(&jobs[started], over)) {
				perror("farpool-faults");
				return false;
			}
			started++;
			live++;
		}
		/* In the order of the table. */
		while (printed < started && jobs[printed].ended)
			sound &= cell_end(&jobs[printed++], over, verbose);
		far_clock_sleep_until(far_now_ns() + FAR_NS_PER_MS);
	}
	return sound;
}
