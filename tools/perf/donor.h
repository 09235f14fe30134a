/* donor.h - a farpoold of a benchmark's own: started with a configuration in a folder of its own. */
#ifndef FAR_TOOLS_PERF_DONOR_H
#define FAR_TOOLS_PERF_DONOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct perf_litter;

struct perf_donor {
	struct perf_litter *litter; /* NULL: none */
	pid_t pid;
	char folder[64];  /* "": none */
	char address[96]; /* for clients */
};

struct perf_donor_config {
	const char *program; /* farpoold */
	const char *name;
	const char *
		over; /* "shm", "ucx": on 127.0.0.1; "verbs:10.0.0.3": at an address of this host */
	uint64_t memory_bytes;
	uint64_t block_bytes_min; /* the index is sized for it */
	uint64_t lane_bytes;      /* 0: as it comes; else a power of two, and no block is larger */
	bool huge;                /* 2 MiB pages, or it does not start; else: if they can be had */
	bool ordinary;            /* 4 KiB pages for what is lent, whatever can be had */
};

/* Returns 0 once it serves, or a negative errno. What was started is stopped by the caller. */
int perf_donor_start(struct perf_donor *donor, const struct perf_donor_config *config);

/* The last line that it wrote, for people. */
void perf_donor_last_words(const struct perf_donor *donor, char *out, size_t out_bytes);

/* Ends the process and removes the folder; takes a zeroed struct. */
void perf_donor_stop(struct perf_donor *donor);

/* A TCP port of 127.0.0.1 that nobody has now; 0: there is none. */
unsigned perf_port(void);

#endif
