/* process.c - starts programs, reads what they print, and counts what they cost. */
#include "tests/bench/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define EXIT_NO_PROGRAM 127
#define WAIT_STEP_NS    FAR_NS_PER_MS
#define ENVIRONMENT_MAX 512

/* In the child of a process with threads: nothing but calls that are safe there. */
static void
process_become(const char *const *argv, const char *const *environment, int out_fd)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(null_fd, STDERR_FILENO) < 0 ||
	    dup2(out_fd >= 0 ? out_fd : null_fd, STDOUT_FILENO) < 0)
		_exit(EXIT_NO_PROGRAM);
	execvpe(argv[0], (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)environment);
	_exit(EXIT_NO_PROGRAM);
}

/* Ours first: of two of one name the first is found. */
static void
environment_make(const char *const *more, const char *out[ENVIRONMENT_MAX])
{
	size_t count = 0;

	for (; more != NULL && *more != NULL; more++)
		out[count++] = *more;
	for (char **it = environ; *it != NULL && count + 1 < ENVIRONMENT_MAX; it++)
		out[count++] = *it;
	out[count] = NULL;
}

static bool
program_exists(const char *name)
{
	const char *path = getenv("PATH");
	char full[512];

	if (strchr(name, '/') != NULL)
		return access(name, X_OK) == 0;
	while (path != NULL && *path != '\0') {
		size_t part = strcspn(path, ":");
		int bytes = snprintf(full, sizeof(full), "%.*s/%s", (int)part, path, name);

		if (bytes > 0 && (size_t)bytes < sizeof(full) && access(full, X_OK) == 0)
			return true;
		path += part + (path[part] == ':');
	}
	return false;
}

int
bench_process_start(struct bench_process *process, const char *const *argv,
		    const char *const *environment, bool capture)
{
	const char *all[ENVIRONMENT_MAX];
	int fds[2] = {-1, -1};

	environment_make(environment, all);
	*process = (struct bench_process){.out_fd = -1};
	if (!program_exists(argv[0]))
		return -ENOENT;
	if (capture && pipe2(fds, O_CLOEXEC) < 0)
		return -EMFILE;
	process->pid = fork();
	if (process->pid == 0)
		process_become(argv, all, fds[1]);
	if (fds[1] >= 0)
		close(fds[1]);
	process->out_fd = fds[0];
	if (process->pid > 0)
		return 0;
	process->pid = 0;
	bench_process_kill(process);
	return -EAGAIN;
}

int
bench_process_read(struct bench_process *process, char *text, size_t text_bytes,
		   uint64_t deadline_ns)
{
	size_t at = 0;

	while (at + 1 < text_bytes) {
		struct pollfd wait = {.fd = process->out_fd, .events = POLLIN};
		uint64_t now_ns = far_clock_now(far_clock_real());
		ssize_t got;

		if (now_ns >= deadline_ns)
			return -ETIMEDOUT;
		if (poll(&wait, 1, (int)((deadline_ns - now_ns) / FAR_NS_PER_MS) + 1) <= 0)
			continue;
		got = read(process->out_fd, text + at, text_bytes - 1 - at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			text[at] = '\0';
			return 0;
		}
		at += (size_t)got;
	}
	return -E2BIG;
}

static uint64_t
timeval_ns(const struct timeval *value)
{
	return (uint64_t)value->tv_sec * FAR_NS_PER_S + (uint64_t)value->tv_usec * FAR_NS_PER_US;
}

int
bench_process_wait(struct bench_process *process, uint64_t deadline_ns, uint64_t *cpu_ns_out)
{
	struct rusage usage = {0};
	bool late = false;
	int status = 0;
	pid_t ended = 0;

	if (cpu_ns_out != NULL)
		*cpu_ns_out = 0;
	while (process->pid > 0 && (ended = wait4(process->pid, &status, WNOHANG, &usage)) == 0) {
		uint64_t now_ns = far_clock_now(far_clock_real());

		late = now_ns >= deadline_ns;
		if (late)
			kill(process->pid, SIGKILL);
		far_clock_sleep_until(now_ns + WAIT_STEP_NS);
	}
	if (process->out_fd >= 0)
		close(process->out_fd);
	*process = (struct bench_process){.out_fd = -1};
	if (late || ended < 0)
		return -ETIMEDOUT;
	if (cpu_ns_out != NULL)
		*cpu_ns_out = timeval_ns(&usage.ru_utime) + timeval_ns(&usage.ru_stime);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_NO_PROGRAM;
}

void
bench_process_kill(struct bench_process *process)
{
	if (process->pid > 0)
		kill(process->pid, SIGKILL);
	(void)bench_process_wait(process, FAR_TIME_NEVER, NULL);
}

uint64_t
bench_cpu_ns(pid_t pid)
{
	struct timespec now;
	clockid_t clock;

	if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &now) != 0)
		return 0;
	return (uint64_t)now.tv_sec * FAR_NS_PER_S + (uint64_t)now.tv_nsec;
}

void
bench_pass_begin(struct bench_pass *pass, pid_t peer)
{
	*pass = (struct bench_pass){
		.cpu_ns = far_clock_cpu_ns(),
		.peer_cpu_ns = bench_cpu_ns(peer),
		.ns = far_clock_now(far_clock_real()),
	};
}

void
bench_pass_end(struct bench_pass *pass, pid_t peer, uint64_t bytes)
{
	pass->ns = far_clock_now(far_clock_real()) - pass->ns;
	pass->cpu_ns = far_clock_cpu_ns() - pass->cpu_ns;
	pass->peer_cpu_ns = bench_cpu_ns(peer) - pass->peer_cpu_ns;
	pass->bytes = bytes;
}

void
bench_side_take(const struct bench_plan *plan, enum bench_side side)
{
	static cpu_set_t all;
	cpu_set_t half;
	int count, seen = 0;

	if (CPU_COUNT(&all) == 0 && sched_getaffinity(0, sizeof(all), &all) < 0)
		return;
	count = CPU_COUNT(&all);
	if (plan->anywhere || count < 2)
		return;
	CPU_ZERO(&half);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		if (side == BENCH_SIDE_BOTH || (seen++ < count / 2) == (side == BENCH_SIDE_CLIENT))
			CPU_SET(cpu, &half);
	}
	(void)sched_setaffinity(0, sizeof(half), &half);
}
