/* donor.h - a farpoold of the benchmark's own: started with a configuration in a folder of its own. */
#ifndef FAR_TESTS_BENCH_DONOR_H
#define FAR_TESTS_BENCH_DONOR_H

#include <stdint.h>
#include <sys/types.h>

#define BENCH_DONOR_NAME "bench"

struct bench_donor {
	pid_t pid;
	char folder[64];  /* "": none */
	char address[96]; /* for clients */
};

/* @over: "shm" or "ucx", which is TCP on 127.0.0.1. Returns 0 once it serves, or a negative errno. What was started is stopped by the caller. */
int bench_donor_start(struct bench_donor *donor, const char *program, const char *over,
		      uint64_t memory_bytes, uint64_t block_bytes_min);

/* The last line that it wrote, for people. */
void bench_donor_last_words(const struct bench_donor *donor, char *out, size_t out_bytes);

/* Ends the process and removes the folder; takes a zeroed struct. */
void bench_donor_stop(struct bench_donor *donor);

#endif
