/* cuda_world.h - a CUDA device over the stand-in, with host memory that is pinned. */
#ifndef FAR_TESTS_UNIT_TRANSPORT_CUDA_WORLD_H
#define FAR_TESTS_UNIT_TRANSPORT_CUDA_WORLD_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/cuda_standin/standin.h"
#include "transport/mem/cuda/lib.h" /* for cuda.h */
#include "transport/mem/device.h"

#define CUDA_WORLD_HOST_BYTES  (8ULL << 20)
#define CUDA_WORLD_ARENA_BYTES (32ULL << 20)

/* The driver of all tests of the program; reset before each of them. */
extern const struct standin *cuda_driver;

struct cuda_world {
	struct far_device *device;
	struct far_device_arena arena;
	uint8_t *host; /* pinned, CUDA_WORLD_HOST_BYTES */
	struct far_copier *copier;
};

/* For cmocka: a stand-in as at the start; and that nothing was misused or is left. */
int cuda_world_setup(void **state);
int cuda_world_teardown(void **state);

/* Opens @device. Returns what far_device_open() does. */
int cuda_world_device(struct far_device **out, char error[256]);
/* All of it, asserted. */
void cuda_world_open(struct cuda_world *w);
void cuda_world_close(struct cuda_world *w);

/* Polls until copies up to @seq are done, or the device failed. Returns what the last poll did. */
int cuda_world_wait(struct cuda_world *w, enum far_copy_way way, uint64_t seq);

void *cuda_world_host_map(size_t size_bytes);

#endif
