/* syscalls.c - a child that traces its parent, and counts in memory of both. */
#include "tests/support/syscalls.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_SYSCALL (SIGTRAP | 0x80)
#define SEIZE_TRIES  100

static struct shared {
	_Atomic uint64_t count;
	_Atomic int state; /* 0: not yet; 1: counting; -1: it cannot be */
	_Atomic bool over;
} * shared;
static pid_t tracer;

/* Each call stops it twice. */
static void
count(pid_t tid)
{
	bool inside = false;
	int status;

	while (waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status)) {
		int signal = WSTOPSIG(status);
		bool event = status >> 16 != 0;

		if (atomic_load(&shared->over)) {
			(void)ptrace(PTRACE_DETACH, tid, NULL, NULL);
			return;
		}
		if (signal == STOP_SYSCALL) {
			inside = !inside;
			if (inside)
				atomic_fetch_add(&shared->count, 1);
			signal = 0;
		} else if (event) {
			signal = 0;
			atomic_store(&shared->state, 1);
		}
		if (ptrace(PTRACE_SYSCALL, tid, NULL, signal) < 0)
			return;
	}
}

/* Where only parents may trace, it is allowed to us as soon as our parent has said so. */
static bool
seize(pid_t tid)
{
	for (int i = 0; i < SEIZE_TRIES; i++) {
		if (ptrace(PTRACE_SEIZE, tid, NULL, PTRACE_O_TRACESYSGOOD) == 0)
			return true;
		(void)usleep(10000);
	}
	return false;
}

int
syscalls_begin(void)
{
	pid_t tid = (pid_t)syscall(SYS_gettid);

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return -1;
	tracer = fork();
	if (tracer < 0)
		return -1;
	if (tracer == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (seize(tid) && ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0)
			count(tid);
		else
			atomic_store(&shared->state, -1);
		_exit(0);
	}
	(void)prctl(PR_SET_PTRACER, tracer);
	while (atomic_load(&shared->state) == 0)
		(void)usleep(100);
	return atomic_load(&shared->state) == 1 ? 0 : -1;
}

uint64_t
syscalls_count(void)
{
	return shared != NULL ? atomic_load(&shared->count) : 0;
}

void
syscalls_end(void)
{
	int status;

	atomic_store(&shared->over, true);
	(void)getppid(); /* it stops us once more, and lets go */
	while (waitpid(tracer, &status, 0) < 0 && errno == EINTR)
		;
	(void)munmap(shared, sizeof(*shared));
	shared = NULL;
}
