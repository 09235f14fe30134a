/* endings.c - given up, overdue, closed, orphaned, failed: nothing hangs, and no buffer is written late. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "tests/gpu/runner.h"
#include "tests/gpu/tests.h"
#include "tests/gpu/world.h"

#define DONOR_BYTES (256ULL << 20)
#define L1_BYTES    (64ULL << 20)
#define BLOCKS      160U
#define BATCH       32U

static void
sleep_us(uint64_t us)
{
	far_clock_sleep_until(far_clock_now(far_clock_real()) + us * FAR_NS_PER_US);
}

static void
quarantine_wait(struct far_client *client)
{
	uint64_t until_ns = far_now_ns() + WORLD_WAIT_NS;
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	do {
		sleep_us(100);
		CHECK(far_now_ns() < until_ns);
		far_stats_get(client, &stats);
	} while (stats.l1_quarantine_bytes > 0 || stats.l1_locked_bytes > 0);
}

/* All of a batch; but a load that a clear by force cut off is a miss for whoever joined it later: that
 * one is asked for again. */
static void
fetch_whole(struct world *world, struct far_client *client, uint64_t first, uint32_t count)
{
	struct world_fetch fetch;
	uint32_t readable;

	world_fetch_begin(&fetch, client, first, count, far_now_ns() + WORLD_WAIT_NS, 0);
	readable = world_fetch_check(world, &fetch);
	for (uint32_t i = 0; i < count; i++) {
		struct far_prefetch_key key = {.size_bytes = sizeof(key)};

		CHECK_EQ(far_prefetch_key_get(fetch.handle, i, &key), 0);
		CHECK(key.rc == 0 || key.rc == -ENOENT || key.rc == -ECANCELED);
		if (key.rc != 0)
			break; /* the others are behind the gap */
	}
	world_fetch_end(&fetch);
	if (readable < count)
		world_fetch(world, client, first, count);
}

/* Prefetches that are cancelled, or overdue, at any moment; what lands late lands in nobody's block. */
static void
given_up_run(enum world_path path, bool cancel)
{
	struct far_client *client;
	struct world world;
	struct far_rng rng;

	far_rng_init(&rng, 11);
	world_open(&world, DONOR_BYTES);
	client = world_client(&world, path, L1_BYTES, NULL);
	world_store(&world, 0, BLOCKS);
	world_fetch(&world, client, 0, BATCH);
	for (int round = 0; round < 150; round++) {
		uint64_t wait_us = far_rng_below(&rng, 1500), now_ns = far_now_ns();
		uint64_t first = far_rng_below(&rng, BLOCKS - BATCH);
		struct far_prefetch_status status = {.size_bytes = sizeof(status)};
		struct world_fetch fetch;

		CHECK(far_clear(client, round % 2) >= 0);
		world_fetch_begin(&fetch, client, first, BATCH,
				  cancel ? now_ns + WORLD_WAIT_NS : now_ns + wait_us * 1000, 0);
		if (cancel) {
			sleep_us(wait_us);
			far_prefetch_cancel(fetch.handle);
		}
		CHECK_EQ(far_prefetch_wait(fetch.handle, now_ns + WORLD_WAIT_NS, &status), 0);
		CHECK(status.rc == 0 || status.rc == (cancel ? -ECANCELED : -ETIMEDOUT));
		/* What it holds of a prefix is right, and what it gave up is nobody's. */
		if (!cancel)
			(void)world_fetch_check(&world, &fetch);
		world_fetch_end(&fetch);
		/* Others take the buffers at once. */
		fetch_whole(&world, client, far_rng_below(&rng, BLOCKS - 8), 8);
	}
	quarantine_wait(client);
	world_client_close(client);
	world_close(&world);
}

void
a_cancelled_prefetch_writes_into_no_block_of_others(void)
{
	given_up_run(WORLD_AUTO, true);
	given_up_run(WORLD_STAGED, true);
}

void
an_overdue_prefetch_writes_into_no_block_of_others(void)
{
	given_up_run(WORLD_AUTO, false);
	given_up_run(WORLD_STAGED, false);
}

/* Closed with copies on their way: once it says that it is, the caller's memory is the caller's. */
void
a_client_that_is_closed_has_let_go_of_the_callers_memory(void)
{
	struct world world;
	CUdeviceptr pool = 0;
	void *base;

	world_open(&world, DONOR_BYTES);
	CU(&world.gpu, world.gpu.lib.cuMemAlloc(&pool, L1_BYTES));
	base = (void *)(uintptr_t)pool;
	world_store(&world, 0, BLOCKS);
	for (int round = 0; round < 12; round++) {
		enum world_path path = round % 2 == 0 ? WORLD_AUTO : WORLD_STAGED;
		struct far_client *client = world_client(&world, path, L1_BYTES, base);
		struct world_fetch fetch;

		world_fetch(&world, client, 0, 4);
		world_fetch_begin(&fetch, client, 4, BATCH, far_now_ns() + WORLD_WAIT_NS, 0);
		sleep_us((uint64_t)round * 100);
		world_client_close(client);
		gpu_fill(&world.gpu, base, L1_BYTES, 1000 + (uint64_t)round);
		sleep_us(20000);
		CHECK_EQ(gpu_wrong(&world.gpu, base, L1_BYTES, 1000 + (uint64_t)round), 0);
	}
	CU(&world.gpu, world.gpu.lib.cuMemFree(pool));
	world_close(&world);
}

/* A donor dies while it is read: a miss, never a hang, and no wrong byte. */
static void
orphan_run(enum world_path path)
{
	struct far_client *client;
	struct world_fetch fetch;
	struct world world;

	world_open(&world, DONOR_BYTES);
	client = world_client(&world, path, L1_BYTES, NULL);
	world_store(&world, 0, BLOCKS);
	world_fetch(&world, client, 0, BATCH);
	world_fetch_begin(&fetch, client, BATCH, BATCH, far_now_ns() + WORLD_WAIT_NS, 0);
	sleep_us(200);
	gpu_donor_kill(&world.donor);
	(void)world_fetch_check(&world, &fetch);
	world_fetch_end(&fetch);
	/* What is in L1 stays right. */
	world_fetch_begin(&fetch, client, 0, BATCH, far_now_ns() + WORLD_WAIT_NS, 0);
	CHECK(world_fetch_check(&world, &fetch) > 0);
	world_fetch_end(&fetch);
	quarantine_wait(client);
	world_client_close(client);
	world_close(&world);
}

void
a_donor_that_dies_while_it_is_read_is_a_miss(void)
{
	orphan_run(WORLD_AUTO);
	orphan_run(WORLD_STAGED);
}

/* The GPU fails under a client: everything ends, with the reason, and the client closes. */
void
a_client_whose_gpu_failed_answers_and_closes(void)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_key key = world_key(BLOCKS + 1);
	struct far_client *client;
	struct world_fetch fetch;
	struct far_block *block;
	struct world world;
	char byte = 0;
	int rc;

	world_open(&world, DONOR_BYTES);
	gpu_kernels_needed(&world.gpu);
	client = world_client(&world, WORLD_AUTO, L1_BYTES, NULL);
	world_store(&world, 0, BLOCKS);
	world_fetch(&world, client, 0, BATCH);
	world_fetch_begin(&fetch, client, BATCH, BATCH, far_now_ns() + WORLD_WAIT_NS, 0);
	gpu_break(&world.gpu);
	CHECK_EQ(far_prefetch_wait(fetch.handle, far_now_ns() + WORLD_WAIT_NS / 2, &status), 0);
	world_fetch_end(&fetch);
	/* A load, a put and a copy by hand, now that it has. */
	world_fetch_begin(&fetch, client, BLOCKS - 8, 8, far_now_ns() + WORLD_WAIT_NS, 0);
	CHECK_EQ(far_prefetch_wait(fetch.handle, far_now_ns() + WORLD_WAIT_NS / 2, &status), 0);
	CHECK_EQ(status.readable_count, 0);
	CHECK(status.gap_rc < 0);
	runner_note("a load is answered: %s", far_strerror(status.gap_rc));
	world_fetch_end(&fetch);
	CHECK_EQ(far_put(client, &key, &byte, 1), -EIO);
	rc = far_get(client, &key, far_now_ns() + WORLD_WAIT_NS / 2, &block);
	CHECK(rc < 0);
	world_client_close(client);
	far_client_close(world.host);
	gpu_donor_stop(&world.donor);
	/* The tests' own part of the driver is as broken: the process ends with it. */
}
