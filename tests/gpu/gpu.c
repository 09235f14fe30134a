/* gpu.c - opens the driver beside farpool, loads the kernels, launches them. */
#include "tests/gpu/gpu.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/gpu/runner.h"

#define FLAGS        1024U
#define THREADS      256U
#define BLOCKS_MAX   1024U
#define SPIN_THREADS 1024U
#define SPIN_NS      (20 * FAR_NS_PER_S)

/* The kernels, as nvcc made them. */
__asm__(".section .rodata\n"
	".global gpu_kernels_ptx\n"
	".balign 16\n"
	"gpu_kernels_ptx:\n"
	".incbin \"" FAR_GPU_KERNELS "\"\n"
	".byte 0\n"
	".previous\n");
extern const char gpu_kernels_ptx[] __attribute__((visibility("hidden")));

void
gpu_succeeded(const struct gpu *gpu, CUresult result, const char *what, const char *file, int line)
{
	const char *name = "?";

	if (result == CUDA_SUCCESS)
		return;
	(void)gpu->lib.cuGetErrorName(result, &name);
	runner_fail(file, line, "%s: %s (%d)", what, name, (int)result);
}

/* ---- open and close ---- */

static void
functions_find(struct gpu *gpu)
{
	void *handle = dlopen(CUDA_LIB_SONAME, RTLD_NOW | RTLD_LOCAL);
	void *function;

	CHECK(handle != NULL);
#define GPU_FIND(type, name, symbol, arguments)                                                    \
	function = dlsym(handle, symbol);                                                          \
	memcpy(&gpu->more.name##_fn, &function, sizeof(function));
	GPU_FUNCTIONS(GPU_FIND)
#undef GPU_FIND
}

static void
kernel_find(struct gpu *gpu, const char *name, CUfunction *out)
{
	CU(gpu, gpu->more.cuModuleGetFunction_fn(out, gpu->module, name));
}

static void
kernels_load(struct gpu *gpu)
{
	CUresult result;
	void *pinned;

	if (gpu->more.cuModuleLoadData_fn == NULL || gpu->more.cuLaunchKernel_fn == NULL) {
		snprintf(gpu->why_none, sizeof(gpu->why_none), "kernels not run: stand-in");
		return;
	}
	result = gpu->more.cuModuleLoadData_fn(&gpu->module, gpu_kernels_ptx);
	if (result == CUDA_ERROR_NOT_SUPPORTED) {
		snprintf(gpu->why_none, sizeof(gpu->why_none), "kernels not run: stand-in");
		return;
	}
	CU(gpu, result);
	kernel_find(gpu, "gpu_kernel_fill", &gpu->fill);
	kernel_find(gpu, "gpu_kernel_check", &gpu->check);
	kernel_find(gpu, "gpu_kernel_spin", &gpu->spin);
	kernel_find(gpu, "gpu_kernel_fault", &gpu->fault);
	CU(gpu, gpu->more.cuMemHostAlloc_fn(&pinned, GPU_RANGES_MAX * sizeof(*gpu->ranges),
					    CU_MEMHOSTALLOC_PORTABLE));
	gpu->ranges = pinned;
	CU(gpu, gpu->more.cuMemHostAlloc_fn(&pinned, FLAGS * sizeof(*gpu->flags),
					    CU_MEMHOSTALLOC_PORTABLE));
	gpu->flags = pinned;
	CU(gpu, gpu->lib.cuMemAlloc(&gpu->wrong, sizeof(uint64_t)));
	gpu->has_kernels = true;
}

void
gpu_open(struct gpu *gpu)
{
	const struct far_device_config config = {.kind = "cuda"};
	char error[256];
	int rc;

	memset(gpu, 0, sizeof(*gpu));
	rc = far_device_open(&config, &gpu->device, error);
	if (rc == -ENODEV || rc == -EOPNOTSUPP)
		runner_skip("%s", error);
	if (rc < 0)
		runner_fail(__FILE__, __LINE__, "%s", error);
	CHECK_EQ(far_cuda_lib_load(CUDA_LIB_SONAME, &gpu->lib, error), 0);
	functions_find(gpu);
	CU(gpu, gpu->lib.cuDeviceGet(&gpu->handle, 0));
	CU(gpu, gpu->lib.cuDevicePrimaryCtxRetain(&gpu->context, gpu->handle));
	CU(gpu, gpu->lib.cuCtxPushCurrent(gpu->context));
	CU(gpu, gpu->lib.cuStreamCreate(&gpu->stream, CU_STREAM_NON_BLOCKING));
	kernels_load(gpu);
}

void
gpu_kernels_needed(const struct gpu *gpu)
{
	if (!gpu->has_kernels)
		runner_skip("%s", gpu->why_none);
}

void
gpu_close(struct gpu *gpu)
{
	CUcontext ours = NULL;

	CU(gpu, gpu->lib.cuStreamSynchronize(gpu->stream));
	CU(gpu, gpu->lib.cuStreamDestroy(gpu->stream));
	if (gpu->has_kernels) {
		CU(gpu, gpu->lib.cuMemFree(gpu->wrong));
		CU(gpu, gpu->more.cuMemFreeHost_fn(gpu->flags));
		CU(gpu, gpu->more.cuMemFreeHost_fn(gpu->ranges));
		CU(gpu, gpu->more.cuModuleUnload_fn(gpu->module));
	}
	/* Whatever farpool did on this thread, its calls left the context as it was. */
	CU(gpu, gpu->lib.cuCtxPopCurrent(&ours));
	CHECK(ours == gpu->context);
	CU(gpu, gpu->lib.cuDevicePrimaryCtxRelease(gpu->handle));
	far_device_close(gpu->device);
}

/* ---- bytes ---- */

uint64_t
gpu_pattern_word(uint64_t seed, uint64_t idx)
{
	uint64_t x = seed + (idx + 1) * 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

void
gpu_pattern_fill(void *to, uint64_t size_bytes, uint64_t seed)
{
	uint8_t *bytes = to;

	for (uint64_t at = 0; at < size_bytes; at += 8) {
		uint64_t word = gpu_pattern_word(seed, at / 8);

		memcpy(bytes + at, &word, size_bytes - at < 8 ? size_bytes - at : 8);
	}
}

uint64_t
gpu_pattern_wrong(const void *at, uint64_t size_bytes, uint64_t seed)
{
	const uint8_t *bytes = at;
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < size_bytes; i += 8) {
		uint64_t should = gpu_pattern_word(seed, i / 8), is = should;

		memcpy(&is, bytes + i, size_bytes - i < 8 ? size_bytes - i : 8);
		for (uint64_t differs = is ^ should; differs != 0; differs >>= 8)
			wrong += (differs & 255) != 0;
	}
	return wrong;
}

static void
kernel_run(struct gpu *gpu, CUfunction kernel, unsigned blocks, unsigned rows, void **arguments)
{
	CU(gpu, gpu->more.cuLaunchKernel_fn(kernel, blocks, rows, 1, THREADS, 1, 1, 0, gpu->stream,
					    arguments, NULL));
}

static unsigned
blocks_for(uint64_t size_bytes)
{
	uint64_t blocks = size_bytes / 8 / THREADS + 1;

	return blocks < BLOCKS_MAX ? (unsigned)blocks : BLOCKS_MAX;
}

void
gpu_fill(struct gpu *gpu, void *to, uint64_t size_bytes, uint64_t seed)
{
	void *arguments[] = {&to, &size_bytes, &seed};
	void *bytes;

	if (gpu->has_kernels) {
		kernel_run(gpu, gpu->fill, blocks_for(size_bytes), 1, arguments);
		CU(gpu, gpu->lib.cuStreamSynchronize(gpu->stream));
		return;
	}
	bytes = far_zalloc(size_bytes);
	CHECK(bytes != NULL);
	gpu_pattern_fill(bytes, size_bytes, seed);
	CHECK_EQ(far_device_copy(gpu->device, FAR_COPY_IN, to, bytes, size_bytes), 0);
	far_free(bytes);
}

static uint64_t
range_wrong_by_copy(struct gpu *gpu, const struct gpu_range *range)
{
	void *bytes = far_zalloc(range->size_bytes);
	uint64_t wrong;

	CHECK(bytes != NULL);
	CHECK_EQ(far_device_copy(gpu->device, FAR_COPY_OUT, bytes, range->at, range->size_bytes),
		 0);
	wrong = gpu_pattern_wrong(bytes, range->size_bytes, range->seed);
	far_free(bytes);
	return wrong;
}

uint64_t
gpu_ranges_wrong(struct gpu *gpu, const struct gpu_range *ranges, uint32_t count)
{
	void *arguments[] = {&gpu->ranges, &gpu->wrong};
	uint64_t wrong = 0, longest = 0;
	unsigned blocks;

	CHECK(count > 0 && count <= GPU_RANGES_MAX);
	if (!gpu->has_kernels) {
		for (uint32_t i = 0; i < count; i++)
			wrong += range_wrong_by_copy(gpu, &ranges[i]);
		return wrong;
	}
	memcpy(gpu->ranges, ranges, count * sizeof(*ranges));
	for (uint32_t i = 0; i < count; i++)
		longest = ranges[i].size_bytes > longest ? ranges[i].size_bytes : longest;
	blocks = blocks_for(longest);
	CU(gpu, gpu->lib.cuMemcpyHtoDAsync(gpu->wrong, &wrong, sizeof(wrong), gpu->stream));
	kernel_run(gpu, gpu->check, count > 64 && blocks > 32 ? 32 : blocks, count, arguments);
	CU(gpu, gpu->lib.cuMemcpyDtoHAsync(&wrong, gpu->wrong, sizeof(wrong), gpu->stream));
	CU(gpu, gpu->lib.cuStreamSynchronize(gpu->stream));
	return wrong;
}

uint64_t
gpu_wrong(struct gpu *gpu, const void *at, uint64_t size_bytes, uint64_t seed)
{
	const struct gpu_range range = {.at = at, .size_bytes = size_bytes, .seed = seed};

	return gpu_ranges_wrong(gpu, &range, 1);
}

/* ---- a GPU that is busy ---- */

unsigned
gpu_spin_fill(const struct gpu *gpu)
{
	int processors = 0;

	CU(gpu, gpu->lib.cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
					      gpu->handle));
	return (unsigned)processors;
}

void
gpu_spin(struct gpu *gpu, CUstream stream, unsigned block_count)
{
	volatile uint32_t *flags = gpu->flags;
	uint32_t *enough = gpu->flags, *began = gpu->flags + 1;
	uint64_t ns_max = SPIN_NS;
	void *arguments[] = {&enough, &began, &ns_max};

	CHECK(gpu->has_kernels);
	CHECK(block_count < FLAGS);
	for (unsigned i = 0; i <= block_count; i++)
		flags[i] = 0;
	CU(gpu, gpu->more.cuLaunchKernel_fn(gpu->spin, block_count, 1, 1, SPIN_THREADS, 1, 1, 0,
					    stream, arguments, NULL));
	for (unsigned i = 1; i <= block_count; i++)
		while (flags[i] == 0)
			far_clock_sleep_until(far_clock_now(far_clock_real()) + FAR_NS_PER_MS);
}

void
gpu_spin_end(struct gpu *gpu)
{
	volatile uint32_t *flags = gpu->flags;

	flags[0] = 1;
}
