/* gpu.h - the GPU as the tests see it: farpool's device, and beside it the driver and kernels of their own. */
#ifndef FAR_TESTS_GPU_GPU_H
#define FAR_TESTS_GPU_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/mem/cuda/lib.h"
#include "transport/mem/device.h"

/* What the tests call of the driver and farpool does not. One that is missing is NULL: the stand-in
 * of tests/support has no kernels. */
#define GPU_FUNCTIONS(X)                                                                           \
	X(CUresult, cuCtxGetCurrent, "cuCtxGetCurrent", (CUcontext *))                             \
	X(CUresult, cuCtxSetCurrent, "cuCtxSetCurrent", (CUcontext))                               \
	X(CUresult, cuCtxCreate, "cuCtxCreate_v2", (CUcontext *, unsigned, CUdevice))              \
	X(CUresult, cuCtxDestroy, "cuCtxDestroy_v2", (CUcontext))                                  \
	X(CUresult, cuMemHostAlloc, "cuMemHostAlloc", (void **, size_t, unsigned))                 \
	X(CUresult, cuMemFreeHost, "cuMemFreeHost", (void *))                                      \
	X(CUresult, cuMemImportFromShareableHandle, "cuMemImportFromShareableHandle",              \
	  (CUmemGenericAllocationHandle *, void *, CUmemAllocationHandleType))                     \
	X(CUresult, cuModuleLoadData, "cuModuleLoadData", (CUmodule *, const void *))              \
	X(CUresult, cuModuleUnload, "cuModuleUnload", (CUmodule))                                  \
	X(CUresult, cuModuleGetFunction, "cuModuleGetFunction",                                    \
	  (CUfunction *, CUmodule, const char *))                                                  \
	X(CUresult, cuLaunchKernel, "cuLaunchKernel",                                              \
	  (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,       \
	   CUstream, void **, void **))

struct gpu_functions {
#define GPU_MEMBER(type, name, symbol, arguments) type(*name##_fn) arguments;
	GPU_FUNCTIONS(GPU_MEMBER)
#undef GPU_MEMBER
};

/* Bytes that should be there. As tests/gpu/kernels.cu has it. */
struct gpu_range {
	const void *at;
	uint64_t size_bytes;
	uint64_t seed;
};
#define GPU_RANGES_MAX 4096

struct gpu {
	struct far_device *device; /* farpool's */
	struct cuda_lib lib;
	struct gpu_functions more;
	CUdevice handle;
	CUcontext context; /* the primary one; current on the thread that opened it */
	CUstream stream;   /* of the tests' kernels */
	bool has_kernels;
	char why_none[160]; /* no kernels */
	CUmodule module;
	CUfunction fill, check, spin, fault;
	struct gpu_range *ranges; /* pinned */
	CUdeviceptr wrong;
	uint32_t *flags; /* of gpu_spin(): enough, then one per block; pinned */
};

/* For the test that calls: skips it where there is no GPU. Ended by gpu_close(). */
void gpu_open(struct gpu *gpu);
void gpu_close(struct gpu *gpu);

/* Skips the test where there are no kernels. */
void gpu_kernels_needed(const struct gpu *gpu);

/* A result of the driver's that has to be success. */
#define CU(gpu, call) gpu_succeeded((gpu), (call), #call, __FILE__, __LINE__)
void gpu_succeeded(const struct gpu *gpu, CUresult result, const char *what, const char *file,
		   int line);

/* ---- bytes: filled and looked at by kernels; by copies where there are none ---- */
uint64_t gpu_pattern_word(uint64_t seed, uint64_t idx);
void gpu_pattern_fill(void *to, uint64_t size_bytes, uint64_t seed);
uint64_t gpu_pattern_wrong(const void *at, uint64_t size_bytes, uint64_t seed);

/* Waits until it is done. */
void gpu_fill(struct gpu *gpu, void *to, uint64_t size_bytes, uint64_t seed);
/* One kernel over all of them, launched now. Returns how many bytes are wrong. @count: up to
 * GPU_RANGES_MAX. */
uint64_t gpu_ranges_wrong(struct gpu *gpu, const struct gpu_range *ranges, uint32_t count);
uint64_t gpu_wrong(struct gpu *gpu, const void *at, uint64_t size_bytes, uint64_t seed);

/* A kernel that computes on so many thread blocks until gpu_spin_end(), at most 20 s; returns when it
 * runs. */
void gpu_spin(struct gpu *gpu, CUstream stream, unsigned block_count);
void gpu_spin_end(struct gpu *gpu);
/* How many of them the GPU runs at a time, at least. */
unsigned gpu_spin_fill(const struct gpu *gpu);

#endif
