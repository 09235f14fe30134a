/* client.c - the whole way on a real GPU: what a prefetch flips is right for the kernel behind it. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/rng.h"
#include "tests/gpu/runner.h"
#include "tests/gpu/tests.h"
#include "tests/gpu/world.h"

#define DONOR_BYTES (256ULL << 20)
#define L1_BYTES    (256ULL << 20)
#define BLOCKS      160U
#define BATCH       40U
#define CHURN_BATCH 32U

/* Blocks from the donor, each looked at by a kernel; which way the bytes went. */
static void
loads_run(enum world_path path)
{
	uint64_t mapped, staged, sum = 0;
	struct far_client *client;
	struct world world;

	world_open(&world, DONOR_BYTES);
	client = world_client(&world, path, L1_BYTES, NULL);
	world_store(&world, 0, BLOCKS);
	for (uint32_t at = 0; at < BLOCKS; at += BATCH)
		world_fetch(&world, client, at, BATCH);
	for (uint32_t i = 0; i < BLOCKS; i++)
		sum += world_size(i);
	mapped = world_path_bytes(client, WORLD_MAPPED);
	staged = world_path_bytes(client, WORLD_STAGED);
	runner_note("%" PRIu64 " MiB mapped, %" PRIu64 " MiB staged", mapped >> 20, staged >> 20);
	if (path == WORLD_STAGED) {
		CHECK_EQ(mapped, 0);
		CHECK(staged >= sum);
	} else {
		/* Until the donor's memory is pinned, which takes a moment, loads are staged. */
		CHECK(mapped + staged >= sum);
	}
	/* Once more, from L1: it is what it was. */
	for (uint32_t at = 0; at < BLOCKS; at += BATCH)
		world_fetch(&world, client, at, BATCH);
	world_client_close(client);
	world_close(&world);
}

void
staged_blocks_are_whole_when_they_flip(void)
{
	loads_run(WORLD_STAGED);
}

void
mapped_blocks_are_whole_when_they_flip(void)
{
	loads_run(WORLD_AUTO);
}

/* The donor's memory gets pinned, and then it is used: whoever loads long enough sees it. */
void
a_donor_of_this_host_is_read_by_the_copy_engine(void)
{
	struct far_client *client;
	struct world world;
	uint64_t before, until_ns;

	world_open(&world, DONOR_BYTES);
	if ((world.gpu.device->info.flags & FAR_DEVICE_MAP_READONLY) == 0) {
		world_close(&world);
		runner_skip("this GPU pins no memory that is mapped read-only");
	}
	client = world_client(&world, WORLD_AUTO, L1_BYTES, NULL);
	world_store(&world, 0, BATCH);
	until_ns = far_now_ns() + WORLD_WAIT_NS;
	while (world_path_bytes(client, WORLD_MAPPED) == 0) {
		CHECK(far_now_ns() < until_ns);
		CHECK(far_clear(client, 0) >= 0);
		world_fetch(&world, client, 0, BATCH);
	}
	/* And it stays so. */
	before = world_path_bytes(client, WORLD_STAGED);
	for (int round = 0; round < 10; round++) {
		CHECK(far_clear(client, 0) >= 0);
		world_fetch(&world, client, 0, BATCH);
	}
	CHECK_EQ(world_path_bytes(client, WORLD_STAGED), before);
	world_client_close(client);
	world_close(&world);
}

/* Not when the prefetch has ended: each block as soon as it is told to be readable. */
static void
flips_run(enum world_path path)
{
	struct far_client *client;
	struct world_fetch fetch;
	struct world world;

	world_open(&world, DONOR_BYTES);
	client = world_client(&world, path, L1_BYTES, NULL);
	world_store(&world, 0, BLOCKS);
	for (int round = 0; round < 4; round++) {
		uint64_t until_ns = far_now_ns() + WORLD_WAIT_NS;
		uint32_t next = 0;

		world_fetch_begin(&fetch, client, 0, BLOCKS, until_ns, 0);
		while (next < BLOCKS) {
			const void *data;
			uint32_t size;
			int rc = far_prefetch_block(fetch.handle, next, &data, &size);

			CHECK(rc == 0 || rc == -EAGAIN);
			CHECK(far_now_ns() < until_ns);
			if (rc == -EAGAIN)
				continue;
			CHECK_EQ(gpu_wrong(&world.gpu, data, size, next), 0);
			next++;
		}
		world_fetch_end(&fetch);
		CHECK(far_clear(client, 0) > 0);
	}
	world_client_close(client);
	world_close(&world);
}

void
a_kernel_launched_at_the_flip_sees_a_staged_block(void)
{
	flips_run(WORLD_STAGED);
}

void
a_kernel_launched_at_the_flip_sees_a_mapped_block(void)
{
	flips_run(WORLD_AUTO);
}

/* ---- stores ---- */

/* Reserves blocks on the GPU, has a kernel fill them, commits them. */
static void
gpu_store(struct world *world, struct far_client *client, uint64_t first, uint32_t count)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};

	for (uint64_t n = first; n < first + count; n++) {
		struct far_key key = world_key(n);
		struct far_block *block;

		CHECK_EQ(far_reserve(client, &key, world_size(n), &block), 0);
		gpu_fill(&world->gpu, far_block_buffer(block), world_size(n), n);
		CHECK_EQ(far_commit(block), 0);
	}
	CHECK_EQ(far_flush(client, far_now_ns() + WORLD_WAIT_NS, &result), 0);
	CHECK_EQ(result.failed + result.dropped, 0);
}

void
what_a_kernel_stored_comes_back_to_host_memory(void)
{
	struct far_client *client;
	struct world world;

	world_open(&world, DONOR_BYTES);
	client = world_client(&world, WORLD_AUTO, L1_BYTES, NULL);
	gpu_store(&world, client, 0, BATCH);
	for (uint64_t n = 0; n < BATCH; n++) {
		struct far_key key = world_key(n);
		struct far_block *block;

		CHECK_EQ(far_get(world.host, &key, far_now_ns() + WORLD_WAIT_NS, &block), 0);
		CHECK_EQ(far_block_size(block), world_size(n));
		CHECK_EQ(gpu_pattern_wrong(far_block_data(block), world_size(n), n), 0);
		far_release(block);
	}
	/* And to the GPU again, through the donor. */
	CHECK(far_clear(client, 0) > 0);
	world_fetch(&world, client, 0, BATCH);
	world_client_close(client);
	world_close(&world);
}

/* An engine's own pool: blocks land in it, and it is the engine's again afterwards. */
void
blocks_land_in_the_callers_own_memory(void)
{
	struct far_memory_info info = {.size_bytes = sizeof(info)};
	struct far_client *client;
	struct world world;
	CUdeviceptr pool = 0;

	world_open(&world, DONOR_BYTES);
	CU(&world.gpu, world.gpu.lib.cuMemAlloc(&pool, 64 << 20));
	client = world_client(&world, WORLD_AUTO, 64 << 20, (void *)(uintptr_t)pool);
	CHECK_EQ(far_client_memory_get(client, &info), 0);
	CHECK_EQ(info.is_caller, 1);
	CHECK(info.base == (void *)(uintptr_t)pool);
	CHECK(far_client_l1_fd(client, &info.l1_bytes) == -EOPNOTSUPP);
	world_store(&world, 0, BATCH);
	world_fetch(&world, client, 0, BATCH);
	world_client_close(client);
	/* Nobody writes it any more. */
	gpu_fill(&world.gpu, (void *)(uintptr_t)pool, 64 << 20, 99);
	CHECK_EQ(gpu_wrong(&world.gpu, (void *)(uintptr_t)pool, 64 << 20, 99), 0);
	CU(&world.gpu, world.gpu.lib.cuMemFree(pool));
	world_close(&world);
}

/* A page of a pool that has the pattern @seed gets it back. */
static void
gpu_page_restore(struct gpu *gpu, uint8_t *pages, uint64_t idx, uint64_t page_bytes, uint64_t seed)
{
	uint64_t words[2048];

	CHECK_EQ(sizeof(words), page_bytes);
	for (uint64_t i = 0; i < page_bytes / 8; i++)
		words[i] = gpu_pattern_word(seed, idx * page_bytes / 8 + i);
	CHECK_EQ(far_device_copy(gpu->device, FAR_COPY_IN, pages + idx * page_bytes, words,
				 page_bytes),
		 0);
}

/* A paged pool: one block in pages that lie anywhere, and nothing else of the pool is touched. */
void
a_block_lands_in_pages_of_the_callers_pool(void)
{
	enum { PAGE = 16 << 10, POOL_PAGES = 1024, PAGES = 64 };
	struct far_load_piece pieces[PAGES];
	uint64_t number = 0, deadline_ns = far_now_ns() + WORLD_WAIT_NS;
	struct far_load_key key = {.pieces = pieces, .piece_count = PAGES};
	struct far_memory *memory;
	struct far_client *client;
	struct far_load *load;
	struct world world;
	CUdeviceptr pool = 0;
	uint8_t *bytes = malloc(PAGES * PAGE), *pages;

	CHECK(bytes != NULL);
	world_open(&world, DONOR_BYTES);
	client = world_client(&world, WORLD_AUTO, 16 << 20, NULL);
	CU(&world.gpu, world.gpu.lib.cuMemAlloc(&pool, POOL_PAGES * PAGE));
	pages = (uint8_t *)(uintptr_t)pool;
	gpu_fill(&world.gpu, pages, POOL_PAGES * PAGE, 7);
	CHECK_EQ(
		far_memory_register(client, pages, POOL_PAGES * PAGE, "cuda", deadline_ns, &memory),
		0);
	/* Page i of the block has the pattern i, and goes to every 13th page of the pool. */
	for (uint32_t i = 0; i < PAGES; i++) {
		gpu_pattern_fill(bytes + i * PAGE, PAGE, 100 + i);
		pieces[i] = (struct far_load_piece){.addr = pages + (size_t)i * 13 * PAGE,
						    .size_bytes = PAGE};
	}
	key.key = world_key(number);
	CHECK_EQ(far_put(world.host, &key.key, bytes, PAGES * PAGE), 0);
	CHECK_EQ(far_flush(world.host, deadline_ns, NULL), 0);
	CHECK_EQ(far_load(client, &key, 1, deadline_ns, &load), 0);
	CHECK_EQ(far_load_wait(load, deadline_ns), 0);
	CHECK_EQ(far_load_result(load, 0), 0);
	for (uint32_t i = 0; i < PAGES; i++)
		CHECK_EQ(gpu_wrong(&world.gpu, pieces[i].addr, PAGE, 100 + i), 0);
	CHECK_EQ(far_load_release(load, deadline_ns), 0);
	CHECK_EQ(far_memory_unregister(memory, deadline_ns), 0);
	/* What lies between them is what it was. */
	for (uint32_t i = 0; i < PAGES; i++)
		gpu_page_restore(&world.gpu, pages, (uint64_t)i * 13, PAGE, 7);
	CHECK_EQ(gpu_wrong(&world.gpu, pages, POOL_PAGES * PAGE, 7), 0);
	CU(&world.gpu, world.gpu.lib.cuMemFree(pool));
	world_client_close(client);
	world_close(&world);
	free(bytes);
}

/* ---- buffers that are used again, and a donor that writes over what is read ---- */

struct churn {
	struct world *world;
	_Atomic uint64_t stored; /* blocks below are, or were, at the donor */
	_Atomic bool enough;
};

static void *
churn_main(void *arg)
{
	struct churn *churn = arg;

	while (!churn->enough) {
		(void)world_store_some(churn->world, churn->stored, 16);
		churn->stored += 16;
	}
	return NULL;
}

/* L1 holds an eighth of the donor, which holds less than what is stored meanwhile. */
static void
churn_run(enum world_path path, uint32_t rounds)
{
	uint64_t readable = 0, asked = 0, back = 64;
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct far_client *client;
	struct world world;
	struct churn churn = {.world = &world};
	struct far_rng rng;
	pthread_t thread;

	far_rng_init(&rng, 5);
	world_open_hasty(&world, 64 << 20);
	client = world_client(&world, path, 32 << 20, NULL);
	world_store(&world, 0, 64);
	churn.stored = 64;
	CHECK_EQ(pthread_create(&thread, NULL, churn_main, &churn), 0);
	for (uint32_t round = 0; round < rounds || churn.stored < 600; round++) {
		uint64_t stored = churn.stored, first;
		struct world_fetch fetch;
		uint32_t got;

		/* Along the edge of what the donor still has: that is what it writes over next. */
		back = back > stored ? stored : back;
		first = round % 8 == 0 ? far_rng_below(&rng, stored) : stored - back;
		world_fetch_begin(&fetch, client, first, CHURN_BATCH, far_now_ns() + WORLD_WAIT_NS,
				  0);
		got = world_fetch_check(&world, &fetch);
		world_fetch_end(&fetch);
		readable += got;
		asked += CHURN_BATCH;
		if (got < CHURN_BATCH / 2)
			back -= back > 2 * CHURN_BATCH ? CHURN_BATCH / 4 : 0;
		else
			back += CHURN_BATCH / 4;
	}
	churn.enough = true;
	CHECK_EQ(pthread_join(thread, NULL), 0);
	far_stats_get(client, &stats);
	runner_note("%" PRIu64 " of %" PRIu64 " blocks readable, %" PRIu64 " evicted here, %" PRIu64
		    " rejected as stale, none wrong",
		    readable, asked, stats.l1_evicted_blocks, stats.stale_rejects);
	CHECK(readable > 0);
	CHECK(stats.l1_evicted_blocks > 0);
	world_client_close(client);
	world_close(&world);
}

void
a_donor_that_overwrites_what_is_staged_costs_no_byte(void)
{
	churn_run(WORLD_STAGED, 600);
}

void
a_donor_that_overwrites_what_is_mapped_costs_no_byte(void)
{
	churn_run(WORLD_AUTO, 600);
}

/* ---- beside kernels ---- */

/* An engine's kernel has every processor of the GPU, and ends only when the prefetch has. @warm: the
 * donor's memory was pinned before. */
static void
beside_run(bool warm)
{
	uint64_t until_ns = far_now_ns() + WORLD_WAIT_NS;
	struct world_fetch fetch;
	struct far_client *client;
	struct world world;
	CUstream busy = NULL;

	world_open(&world, DONOR_BYTES);
	gpu_kernels_needed(&world.gpu);
	client = world_client(&world, WORLD_AUTO, L1_BYTES, NULL);
	world_store(&world, 0, BLOCKS);
	while (warm && world_path_bytes(client, WORLD_MAPPED) == 0) {
		CHECK(far_now_ns() < until_ns);
		world_fetch(&world, client, 0, BATCH);
		CHECK(far_clear(client, 0) >= 0);
	}
	CU(&world.gpu, world.gpu.lib.cuStreamCreate(&busy, CU_STREAM_DEFAULT));
	gpu_spin(&world.gpu, busy, gpu_spin_fill(&world.gpu));
	world_fetch_begin(&fetch, client, 0, BLOCKS, far_now_ns() + WORLD_WAIT_NS, 0);
	CHECK_EQ(far_prefetch_wait(fetch.handle, far_now_ns() + WORLD_WAIT_NS / 2, NULL), 0);
	CHECK_EQ(world.gpu.lib.cuStreamQuery(busy), CUDA_ERROR_NOT_READY);
	gpu_spin_end(&world.gpu);
	CU(&world.gpu, world.gpu.lib.cuStreamSynchronize(busy));
	CHECK_EQ(world_fetch_check(&world, &fetch), BLOCKS);
	world_fetch_end(&fetch);
	CU(&world.gpu, world.gpu.lib.cuStreamDestroy(busy));
	world_client_close(client);
	world_close(&world);
}

void
a_prefetch_ends_beside_a_kernel_that_does_not(void)
{
	beside_run(true);
}

/* The driver may have to wait for the kernel before it pins: loads are staged for as long. */
void
a_first_prefetch_ends_beside_a_kernel_that_does_not(void)
{
	beside_run(false);
}
