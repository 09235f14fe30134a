/* device.c - a real device: what it says of itself, its arenas, who gets them, whose context is current. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/pages.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/runner.h"
#include "tests/gpu/tests.h"
#include "transport/mem/device.h"

#define ARENA_BYTES (32ULL << 20)
#define SEED        0x5eedULL

static const struct {
	uint32_t flag;
	const char *text;
} flags[] = {
	{FAR_DEVICE_DMA_BUF, "DMA-BUF"},
	{FAR_DEVICE_RDMA, "GPUDirect RDMA"},
	{FAR_DEVICE_MAP_READONLY, "read-only pins"},
	{FAR_DEVICE_EXPORT, "arenas for other processes"},
	{FAR_DEVICE_FLUSH, "NIC writes need a flush"},
};

void
the_gpu_and_its_ways_are_named(void)
{
	const struct far_device_info *info;
	struct gpu gpu;

	gpu_open(&gpu);
	info = &gpu.device->info;
	CHECK(info->name[0] != '\0');
	CHECK(info->driver[0] != '\0');
	CHECK(info->memory_bytes > 0);
	runner_note("GPU %u: %s, %" PRIu64 " MiB, %s, NUMA node %d", info->ordinal, info->name,
		    info->memory_bytes >> 20, info->pci, info->numa_node);
	runner_note("driver %s", info->driver);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		runner_note("%s: %s", flags[i].text,
			    (info->flags & flags[i].flag) != 0 ? "yes" : "no");
	if (!gpu.has_kernels)
		runner_note("%s: bytes are looked at by copies", gpu.why_none);
	gpu_close(&gpu);
}

void
an_arena_keeps_what_kernels_write(void)
{
	struct far_device_arena arena;
	struct gpu gpu;
	uint8_t *bytes;

	gpu_open(&gpu);
	CHECK_EQ(far_device_arena_alloc(gpu.device, ARENA_BYTES + 1, &arena), 0);
	CHECK(arena.size_bytes > ARENA_BYTES);
	CHECK_EQ((uintptr_t)arena.base % 65536, 0);
	CHECK(!arena.adopted);
	gpu_fill(&gpu, arena.base, ARENA_BYTES + 1, SEED);
	CHECK_EQ(gpu_wrong(&gpu, arena.base, ARENA_BYTES + 1, SEED), 0);
	/* What the kernel wrote is what a copy brings out, and the other way. */
	bytes = malloc(ARENA_BYTES);
	CHECK(bytes != NULL);
	CHECK_EQ(far_device_copy(gpu.device, FAR_COPY_OUT, bytes, arena.base, ARENA_BYTES), 0);
	CHECK_EQ(gpu_pattern_wrong(bytes, ARENA_BYTES, SEED), 0);
	gpu_pattern_fill(bytes, ARENA_BYTES, SEED + 1);
	CHECK_EQ(far_device_copy(gpu.device, FAR_COPY_IN, arena.base, bytes, ARENA_BYTES), 0);
	CHECK_EQ(gpu_wrong(&gpu, arena.base, ARENA_BYTES, SEED + 1), 0);
	/* And that a wrong byte is noticed, which everything here rests on. */
	bytes[77777] ^= 1;
	CHECK_EQ(far_device_copy(gpu.device, FAR_COPY_IN, arena.base, bytes, ARENA_BYTES), 0);
	CHECK_EQ(gpu_wrong(&gpu, arena.base, ARENA_BYTES, SEED + 1), 1);
	free(bytes);
	far_device_arena_free(gpu.device, &arena);
	CHECK(arena.base == NULL && arena.fd == -1);
	gpu_close(&gpu);
}

void
an_arena_is_given_to_nics_as_a_dma_buf(void)
{
	struct far_device_arena arena;
	uint64_t offset = 0;
	struct gpu gpu;
	int fd = -1;

	gpu_open(&gpu);
	CHECK_EQ(far_device_arena_alloc(gpu.device, ARENA_BYTES, &arena), 0);
	if ((gpu.device->info.flags & FAR_DEVICE_DMA_BUF) == 0) {
		CHECK_EQ(far_device_dma_buf(gpu.device, arena.base, ARENA_BYTES, &fd, &offset),
			 -EOPNOTSUPP);
		runner_note("this GPU has none, and says so");
	} else {
		const uint8_t *inner = (uint8_t *)arena.base + 65536;

		CHECK_EQ(far_device_dma_buf(gpu.device, inner, 65536, &fd, &offset), 0);
		CHECK(fd >= 0);
		CHECK_EQ(offset, 65536);
		CHECK_EQ(close(fd), 0);
		/* Beyond the allocation there is nothing to give. */
		CHECK(far_device_dma_buf(gpu.device, inner, arena.size_bytes, &fd, &offset) < 0);
	}
	far_device_arena_free(gpu.device, &arena);
	gpu_close(&gpu);
}

/* ---- another process ---- */

int
gpu_importer(int argc, char **argv)
{
	CUmemGenericAllocationHandle handle = 0;
	CUmemAccessDesc access = {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0},
				  .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	uint64_t size_bytes, seed;
	CUdeviceptr base = 0;
	struct gpu gpu;

	if (argc != 4)
		return 2;
	size_bytes = strtoull(argv[2], NULL, 10);
	seed = strtoull(argv[3], NULL, 10);
	gpu_open(&gpu);
	CHECK(gpu.more.cuMemImportFromShareableHandle_fn != NULL);
	CU(&gpu, gpu.more.cuMemImportFromShareableHandle_fn(
			 &handle, (void *)(uintptr_t)3, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	CU(&gpu, gpu.lib.cuMemAddressReserve(&base, size_bytes, 0, 0, 0));
	CU(&gpu, gpu.lib.cuMemMap(base, size_bytes, 0, handle, 0));
	CU(&gpu, gpu.lib.cuMemSetAccess(base, size_bytes, &access, 1));
	CHECK_EQ(gpu_wrong(&gpu, (void *)(uintptr_t)base, size_bytes, seed), 0);
	/* It is the same memory, not a copy of it. */
	gpu_fill(&gpu, (void *)(uintptr_t)base, 4096, seed + 1);
	CU(&gpu, gpu.lib.cuMemUnmap(base, size_bytes));
	CU(&gpu, gpu.lib.cuMemAddressFree(base, size_bytes));
	CU(&gpu, gpu.lib.cuMemRelease(handle));
	gpu_close(&gpu);
	return 0;
}

void
another_process_reads_an_arena_by_its_descriptor(void)
{
	struct far_device_arena arena;
	struct runner_process importer;
	char size[32], seed[32];
	const char *argv[] = {"--importer", size, seed, NULL};
	struct gpu gpu;

	gpu_open(&gpu);
	CHECK_EQ(far_device_arena_alloc(gpu.device, ARENA_BYTES, &arena), 0);
	if ((gpu.device->info.flags & FAR_DEVICE_EXPORT) == 0 ||
	    gpu.more.cuMemImportFromShareableHandle_fn == NULL) {
		far_device_arena_free(gpu.device, &arena);
		gpu_close(&gpu);
		runner_skip("this driver shares no memory by descriptor");
	}
	CHECK(arena.fd >= 0);
	gpu_fill(&gpu, arena.base, ARENA_BYTES, SEED);
	snprintf(size, sizeof(size), "%llu", ARENA_BYTES);
	snprintf(seed, sizeof(seed), "%llu", SEED);
	runner_spawn(&importer, argv, arena.fd);
	CHECK_EQ(runner_join(&importer, 30), 0);
	CHECK_EQ(gpu_wrong(&gpu, arena.base, 4096, SEED + 1), 0);
	CHECK_EQ(gpu_wrong(&gpu, arena.base, ARENA_BYTES, SEED) > 0, 1);
	far_device_arena_free(gpu.device, &arena);
	gpu_close(&gpu);
}

/* ---- the caller's ---- */

void
memory_of_the_caller_is_adopted_within_its_allocation(void)
{
	struct far_device_arena arena = {.fd = -1};
	struct gpu gpu;
	CUdeviceptr pool = 0;
	uint8_t *base;
	char host[64];

	gpu_open(&gpu);
	CU(&gpu, gpu.lib.cuMemAlloc(&pool, 4 << 20));
	base = (uint8_t *)(uintptr_t)pool;
	CHECK_EQ(far_device_arena_adopt(gpu.device, base + 65536, 1 << 20, &arena), 0);
	CHECK(arena.base == base + 65536 && arena.size_bytes == 1 << 20 && arena.adopted);
	gpu_fill(&gpu, arena.base, 1 << 20, SEED);
	far_device_arena_free(gpu.device, &arena);
	/* It is the caller's still. */
	CHECK_EQ(gpu_wrong(&gpu, base + 65536, 1 << 20, SEED), 0);
	CHECK_EQ(far_device_arena_adopt(gpu.device, base + 65536, 4 << 20, &arena), -EINVAL);
	CHECK_EQ(far_device_arena_adopt(gpu.device, host, sizeof(host), &arena), -EINVAL);
	CHECK_EQ(far_device_arena_adopt(gpu.device, base, 0, &arena), -EINVAL);
	CU(&gpu, gpu.lib.cuMemFree(pool));
	gpu_close(&gpu);
}

/* What the data path calls, in a row. */
static void
calls_run(struct gpu *gpu, void *pinned)
{
	struct far_device_arena arena;
	struct far_copier *copier;
	uint64_t seq, done = 0;

	CHECK_EQ(far_device_arena_alloc(gpu->device, 65536, &arena), 0);
	CHECK_EQ(far_device_pin(gpu->device, pinned, 65536, false), 0);
	CHECK_EQ(far_copier_open(gpu->device, &copier), 0);
	CHECK_EQ(far_copier_add(copier, FAR_COPY_IN, arena.base, pinned, 65536, &seq), 0);
	CHECK_EQ(far_copier_submit(copier), 0);
	while (done < seq)
		CHECK_EQ(far_copier_poll(copier, FAR_COPY_IN, &done), 0);
	far_copier_close(copier);
	far_device_unpin(gpu->device, pinned);
	CHECK_EQ(far_device_copy(gpu->device, FAR_COPY_OUT, pinned, arena.base, 65536), 0);
	CHECK_EQ(far_device_publish(gpu->device), 0);
	far_device_arena_free(gpu->device, &arena);
}

void
the_callers_context_stays_current(void)
{
	CUcontext theirs = NULL, now = NULL;
	struct far_pages pages;
	struct gpu gpu;

	gpu_open(&gpu);
	if (gpu.more.cuCtxGetCurrent_fn == NULL || gpu.more.cuCtxSetCurrent_fn == NULL)
		runner_skip("this driver does not tell which context is current: stand-in");
	CHECK_EQ(far_pages_map_shared("context", 65536, FAR_PAGES_HUGE_OFF, -1, &pages), 0);
	/* None at all. */
	CU(&gpu, gpu.more.cuCtxSetCurrent_fn(NULL));
	calls_run(&gpu, pages.base);
	CU(&gpu, gpu.more.cuCtxGetCurrent_fn(&now));
	CHECK(now == NULL);
	/* One that farpool knows nothing of. */
	if (gpu.more.cuCtxCreate_fn != NULL) {
		CU(&gpu, gpu.more.cuCtxCreate_fn(&theirs, 0, gpu.handle));
		calls_run(&gpu, pages.base);
		CU(&gpu, gpu.more.cuCtxGetCurrent_fn(&now));
		CHECK(now == theirs);
		CU(&gpu, gpu.more.cuCtxDestroy_fn(theirs));
	} else {
		runner_note("this driver makes no contexts: only the empty one was tried");
	}
	CU(&gpu, gpu.more.cuCtxSetCurrent_fn(gpu.context));
	far_pages_unmap(&pages);
	gpu_close(&gpu);
}

void
host_memory_mapped_read_only_is_pinned(void)
{
	struct far_device_arena arena;
	struct far_pages pages;
	struct gpu gpu;
	void *view;

	gpu_open(&gpu);
	CHECK_EQ(far_pages_map_shared("pin", ARENA_BYTES, FAR_PAGES_HUGE_OFF, -1, &pages), 0);
	view = mmap(NULL, ARENA_BYTES, PROT_READ, MAP_SHARED, pages.fd, 0);
	CHECK(view != MAP_FAILED);
	gpu_pattern_fill(pages.base, ARENA_BYTES, SEED);
	CHECK_EQ(far_device_arena_alloc(gpu.device, ARENA_BYTES, &arena), 0);
	if ((gpu.device->info.flags & FAR_DEVICE_MAP_READONLY) == 0) {
		CHECK_EQ(far_device_pin(gpu.device, view, ARENA_BYTES, true), -EOPNOTSUPP);
		runner_note("this GPU cannot, and says so");
	} else {
		CHECK_EQ(far_device_pin(gpu.device, view, ARENA_BYTES, true), 0);
		CHECK_EQ(far_device_pin(gpu.device, view, ARENA_BYTES, true), -EINVAL);
		CHECK_EQ(far_device_copy(gpu.device, FAR_COPY_IN, arena.base, view, ARENA_BYTES),
			 0);
		CHECK_EQ(gpu_wrong(&gpu, arena.base, ARENA_BYTES, SEED), 0);
		far_device_unpin(gpu.device, view);
		/* And it can be again. */
		CHECK_EQ(far_device_pin(gpu.device, view, ARENA_BYTES, true), 0);
		far_device_unpin(gpu.device, view);
	}
	far_device_arena_free(gpu.device, &arena);
	CHECK_EQ(munmap(view, ARENA_BYTES), 0);
	far_pages_unmap(&pages);
	gpu_close(&gpu);
}
