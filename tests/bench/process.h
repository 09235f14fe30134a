/* process.h - programs that a benchmark starts: their end, their output, and the CPU that they use. */
#ifndef FAR_TESTS_BENCH_PROCESS_H
#define FAR_TESTS_BENCH_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/bench.h"

struct bench_process {
	pid_t pid;  /* 0: none */
	int out_fd; /* its standard output, or -1 */
};

/*
 * Starts argv[0], found in PATH, with more of @environment ("NAME=value", NULL at the end; or NULL).
 * It does not outlive us. @capture: its standard output is read by bench_process_read(); else it
 * goes nowhere, as its standard error does. Returns 0, -ENOENT (there is no such program), -EAGAIN.
 */
int bench_process_start(struct bench_process *process, const char *const *argv,
			const char *const *environment, bool capture);
/* Reads all that it prints, until it closes its output. Returns 0, -ETIMEDOUT, -E2BIG. */
int bench_process_read(struct bench_process *process, char *text, size_t text_bytes,
		       uint64_t deadline_ns);
/* Waits until it ends, or ends it at the deadline. @cpu_ns_out: what it used, or NULL. Returns its
 * exit status, or -ETIMEDOUT; takes a zeroed struct. */
int bench_process_wait(struct bench_process *process, uint64_t deadline_ns, uint64_t *cpu_ns_out);
void bench_process_kill(struct bench_process *process);

/* CPU time of a process, to the nanosecond; 0: it cannot be known. */
uint64_t bench_cpu_ns(pid_t pid);

/* Between the two lies what is measured. @peer: the process at the other end; 0: none. */
void bench_pass_begin(struct bench_pass *pass, pid_t peer);
void bench_pass_end(struct bench_pass *pass, pid_t peer, uint64_t bytes);

/*
 * Two sides on one machine stand for two hosts: each has half of the processors to itself. Else the
 * kernel takes the one that wakes the other for a reason to run both on one processor, in turns.
 */
enum bench_side {
	BENCH_SIDE_BOTH, /* wherever the kernel likes */
	BENCH_SIDE_CLIENT,
	BENCH_SIDE_DONOR, /* for what is started next, then back */
};
/* The calling thread, and what it starts from now on. With one processor nothing happens. */
void bench_side_take(const struct bench_plan *plan, enum bench_side side);

#endif
