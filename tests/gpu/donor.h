/* donor.h - a donor without the daemon's libraries: a pool over shm, in a process of its own. */
#ifndef FAR_TESTS_GPU_DONOR_H
#define FAR_TESTS_GPU_DONOR_H

#include <stdint.h>

#include "tests/gpu/runner.h"

struct gpu_donor {
	struct runner_process process;
	char name[32];
	char folder[64]; /* of its socket */
	char address[96];
};

struct gpu_donor_config {
	const char *name;
	uint64_t bytes; /* a multiple of @lane_bytes */
	uint64_t lane_bytes;
	uint64_t lanes_free; /* that eviction keeps free */
	uint64_t
		grace_ns; /* an emptied lane rests so long; 0: whoever reads it still is overwritten */
};

/* Returns when it serves. */
void gpu_donor_start(struct gpu_donor *donor, const struct gpu_donor_config *config);
/* Asks it to end, and fails the test if it does not, or badly. */
void gpu_donor_stop(struct gpu_donor *donor);
/* As a crash of its host would. */
void gpu_donor_kill(struct gpu_donor *donor);

/* --donor NAME PATH BYTES LANE-BYTES LANES-FREE GRACE: one byte on the standard output once it serves; ends with its
 * input. */
int gpu_donor_run(int argc, char **argv);

#endif
