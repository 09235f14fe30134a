/* bench_driver.c - what the others are compared with: the driver's own copies, and a processor's. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/gpu/bench.h"
#include "tests/gpu/runner.h"

struct bench_mover {
	struct bench *bench;
	CUstream stream;
	CUevent event;
	uint8_t *from; /* of memcpy; ordinary memory */
};

static uint64_t
now_ns(void)
{
	return far_clock_now(far_clock_real());
}

static bool
driver_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	struct bench_mover *mover = calloc(1, sizeof(*mover));
	const struct cuda_lib *lib = &bench->gpu.lib;

	(void)why;
	CHECK(mover != NULL);
	mover->bench = bench;
	CU(&bench->gpu, lib->cuStreamCreate(&mover->stream, CU_STREAM_NON_BLOCKING));
	CU(&bench->gpu, lib->cuEventCreate(&mover->event, CU_EVENT_DISABLE_TIMING));
	*out = mover;
	return true;
}

static void
driver_close(struct bench_mover *mover)
{
	const struct cuda_lib *lib = &mover->bench->gpu.lib;

	CU(&mover->bench->gpu, lib->cuEventDestroy(mover->event));
	CU(&mover->bench->gpu, lib->cuStreamDestroy(mover->stream));
	free(mover);
}

static void
driver_copy(struct bench_mover *mover, bool in, uint64_t at, uint64_t bytes)
{
	struct bench *bench = mover->bench;
	CUdeviceptr device = (CUdeviceptr)(uintptr_t)bench->arena.base + at;

	if (in)
		CU(&bench->gpu, bench->gpu.lib.cuMemcpyHtoDAsync(device, bench->pinned + at, bytes,
								 mover->stream));
	else
		CU(&bench->gpu, bench->gpu.lib.cuMemcpyDtoHAsync(bench->pinned + at, device, bytes,
								 mover->stream));
}

static uint64_t
driver_pass(struct bench_mover *mover, bool in, uint64_t block_bytes)
{
	uint64_t start_ns = now_ns();

	for (uint64_t at = 0; at < mover->bench->set_bytes; at += block_bytes)
		driver_copy(mover, in, at, block_bytes);
	CU(&mover->bench->gpu, mover->bench->gpu.lib.cuStreamSynchronize(mover->stream));
	return now_ns() - start_ns;
}

static uint64_t
driver_once(struct bench_mover *mover, bool in)
{
	const struct cuda_lib *lib = &mover->bench->gpu.lib;
	uint64_t start_ns = now_ns();

	driver_copy(mover, in, 0, BENCH_ONCE_BYTES);
	CU(&mover->bench->gpu, lib->cuEventRecord(mover->event, mover->stream));
	while (lib->cuEventQuery(mover->event) == CUDA_ERROR_NOT_READY)
		;
	return now_ns() - start_ns;
}

static uint64_t
load_pass(struct bench_mover *mover, uint64_t block_bytes)
{
	return driver_pass(mover, true, block_bytes);
}

static uint64_t
store_pass(struct bench_mover *mover, uint64_t block_bytes)
{
	return driver_pass(mover, false, block_bytes);
}

static uint64_t
load_once(struct bench_mover *mover)
{
	return driver_once(mover, true);
}

static uint64_t
store_once(struct bench_mover *mover)
{
	return driver_once(mover, false);
}

const struct bench_mover_ops bench_driver_load = {
	.name = "driver",
	.text = "cuMemcpyHtoDAsync from the driver's pinned memory, one stream",
	.way = BENCH_LOAD,
	.open = driver_open,
	.pass = load_pass,
	.once = load_once,
	.close = driver_close,
};

const struct bench_mover_ops bench_driver_store = {
	.name = "driver-out",
	.text = "cuMemcpyDtoHAsync to the driver's pinned memory, one stream",
	.way = BENCH_STORE,
	.open = driver_open,
	.pass = store_pass,
	.once = store_once,
	.close = driver_close,
};

/* ---- a processor ---- */

static bool
memcpy_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	struct bench_mover *mover = calloc(1, sizeof(*mover));

	(void)why;
	CHECK(mover != NULL);
	mover->bench = bench;
	mover->from = malloc(bench->set_bytes);
	CHECK(mover->from != NULL);
	memset(mover->from, 1, bench->set_bytes);
	*out = mover;
	return true;
}

static void
memcpy_close(struct bench_mover *mover)
{
	free(mover->from);
	free(mover);
}

static uint64_t
memcpy_pass(struct bench_mover *mover, uint64_t block_bytes)
{
	uint64_t start_ns = now_ns();

	for (uint64_t at = 0; at < mover->bench->set_bytes; at += block_bytes)
		memcpy(mover->bench->pinned + at, mover->from + at, block_bytes);
	return now_ns() - start_ns;
}

const struct bench_mover_ops bench_memcpy = {
	.name = "memcpy",
	.text = "one processor's memcpy into pinned memory: what bounds staging over shm",
	.way = BENCH_HOST,
	.open = memcpy_open,
	.pass = memcpy_pass,
	.close = memcpy_close,
};
