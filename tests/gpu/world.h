/* world.h - a donor, clients of it with L1 on the GPU or the host, and blocks whose bytes are known. */
#ifndef FAR_TESTS_GPU_WORLD_H
#define FAR_TESTS_GPU_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "farpool/farpool.h"
#include "farpool/memory.h"
#include "tests/gpu/donor.h"
#include "tests/gpu/gpu.h"

#define WORLD_WAIT_NS    20000000000ULL
#define WORLD_BATCH_MAX  256
#define WORLD_LANE_BYTES (16ULL << 20)
#define WORLD_BLOCK_MAX  (4U << 20)

struct world {
	struct gpu gpu;
	struct gpu_donor donor;
	struct far_client
		*host; /* L1 in the host's memory; writes and reads what the GPU does not */
};

/* How a client reaches the GPU. */
enum world_path {
	WORLD_AUTO,
	WORLD_MAPPED, /* as auto: over shm */
	WORLD_STAGED,
};

/* Skips the test where there is no GPU. */
void world_open(struct world *world, uint64_t donor_bytes);
/* With a donor that writes over what it has evicted at once, whoever reads it. */
void world_open_hasty(struct world *world, uint64_t donor_bytes);
/* Clients that the test opened are closed before. */
void world_close(struct world *world);

/* A client with L1 on the GPU; its donor is up. @base: NULL, or memory of the caller's. */
struct far_client *world_client(struct world *world, enum world_path path, uint64_t l1_bytes,
				void *base);
/* The bytes that went a way, and whether the other ways went unused: fails the test if not. */
uint64_t world_path_bytes(struct far_client *client, enum world_path path);

/* ---- block n: its key, length and bytes ---- */
struct far_key world_key(uint64_t number);
uint32_t world_size(uint64_t number); /* 1 byte .. 4 MiB */

/* Puts blocks first..first+count-1 into the donor, from the host: all of them. */
void world_store(struct world *world, uint64_t first, uint64_t count);
/* As many of them as the donor takes: one that is overrun has no lane at times. Returns how many. */
uint64_t world_store_some(struct world *world, uint64_t first, uint64_t count);

/* One batch on its way into a client. */
struct world_fetch {
	struct far_client *client;
	struct far_prefetch_handle *handle;
	uint64_t first;
	uint32_t count;
};

/* Blocks first..first+count-1; sizes are asked for too. @deadline_ns: absolute. */
void world_fetch_begin(struct world_fetch *fetch, struct far_client *client, uint64_t first,
		       uint32_t count, uint64_t deadline_ns, uint32_t flags);
/* Waits for its end. Returns how many blocks are readable, after a kernel that was launched at once
 * found every one of their bytes right. */
uint32_t world_fetch_check(struct world *world, struct world_fetch *fetch);
void world_fetch_end(struct world_fetch *fetch);

/* begin, check, end: all of them have to be there. */
void world_fetch(struct world *world, struct far_client *client, uint64_t first, uint32_t count);

/* Closes; its memory is nobody's afterwards: fails the test if that takes longer than 10 s. */
void world_client_close(struct far_client *client);

#endif
