/* lib.h - the one way to CUDA: the driver's functions in a table, found when a GPU is first asked for. */
#ifndef FAR_TRANSPORT_MEM_CUDA_LIB_H
#define FAR_TRANSPORT_MEM_CUDA_LIB_H

#include <cuda.h>

#include "base/err.h"

#define CUDA_LIB_SONAME  "libcuda.so.1"
#define CUDA_VERSION_MIN 10020 /* 10.2: driver 440 */

/*
 * Every function of the driver that this folder calls: the name in the header, the symbol of the
 * interface that the header has (they are versioned, and stay), the CUDA version of the driver that
 * has it first. What is newer than CUDA_VERSION_MIN may be missing: NULL in the table.
 */
#define CUDA_LIB_FUNCTIONS(X)                                                                      \
	X(cuInit, "cuInit", 2000)                                                                  \
	X(cuDriverGetVersion, "cuDriverGetVersion", 2020)                                          \
	X(cuGetErrorName, "cuGetErrorName", 6000)                                                  \
	X(cuDeviceGetCount, "cuDeviceGetCount", 2000)                                              \
	X(cuDeviceGet, "cuDeviceGet", 2000)                                                        \
	X(cuDeviceGetName, "cuDeviceGetName", 2000)                                                \
	X(cuDeviceGetAttribute, "cuDeviceGetAttribute", 2000)                                      \
	X(cuDeviceGetPCIBusId, "cuDeviceGetPCIBusId", 4010)                                        \
	X(cuDeviceTotalMem, "cuDeviceTotalMem_v2", 3020)                                           \
	X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", 7000)                              \
	X(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", 7000)                         \
	X(cuCtxPushCurrent, "cuCtxPushCurrent_v2", 4000)                                           \
	X(cuCtxPopCurrent, "cuCtxPopCurrent_v2", 4000)                                             \
	X(cuMemAlloc, "cuMemAlloc_v2", 3020)                                                       \
	X(cuMemFree, "cuMemFree_v2", 3020)                                                         \
	X(cuMemGetAddressRange, "cuMemGetAddressRange_v2", 3020)                                   \
	X(cuPointerGetAttribute, "cuPointerGetAttribute", 4000)                                    \
	X(cuPointerSetAttribute, "cuPointerSetAttribute", 6000)                                    \
	X(cuMemHostRegister, "cuMemHostRegister_v2", 6050)                                         \
	X(cuMemHostUnregister, "cuMemHostUnregister", 4000)                                        \
	X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", 3020)                                         \
	X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", 3020)                                         \
	X(cuStreamCreate, "cuStreamCreate", 2000)                                                  \
	X(cuStreamDestroy, "cuStreamDestroy_v2", 4000)                                             \
	X(cuStreamQuery, "cuStreamQuery", 2000)                                                    \
	X(cuStreamSynchronize, "cuStreamSynchronize", 2000)                                        \
	X(cuStreamWaitEvent, "cuStreamWaitEvent", 3020)                                            \
	X(cuLaunchHostFunc, "cuLaunchHostFunc", 10000)                                             \
	X(cuEventCreate, "cuEventCreate", 2000)                                                    \
	X(cuEventDestroy, "cuEventDestroy_v2", 4000)                                               \
	X(cuEventQuery, "cuEventQuery", 2000)                                                      \
	X(cuEventRecord, "cuEventRecord", 2000)                                                    \
	X(cuMemAddressReserve, "cuMemAddressReserve", 10020)                                       \
	X(cuMemAddressFree, "cuMemAddressFree", 10020)                                             \
	X(cuMemCreate, "cuMemCreate", 10020)                                                       \
	X(cuMemRelease, "cuMemRelease", 10020)                                                     \
	X(cuMemMap, "cuMemMap", 10020)                                                             \
	X(cuMemUnmap, "cuMemUnmap", 10020)                                                         \
	X(cuMemSetAccess, "cuMemSetAccess", 10020)                                                 \
	X(cuMemGetAllocationGranularity, "cuMemGetAllocationGranularity", 10020)                   \
	X(cuMemExportToShareableHandle, "cuMemExportToShareableHandle", 10020)                     \
	X(cuFlushGPUDirectRDMAWrites, "cuFlushGPUDirectRDMAWrites", 11030)                         \
	X(cuMemGetHandleForAddressRange, "cuMemGetHandleForAddressRange", 11070)                   \
	X(cuCtxSetFlags, "cuCtxSetFlags", 12010)

struct cuda_lib {
#define CUDA_LIB_MEMBER(name, symbol, version) __typeof__ (&(name))(name);
	CUDA_LIB_FUNCTIONS(CUDA_LIB_MEMBER)
#undef CUDA_LIB_MEMBER
	int version; /* of the driver: 13000 is CUDA 13.0 */
};

/**
 * far_cuda_lib_load - loads the driver's library and initialises it. It stays until the process ends.
 *
 * @soname: a file or a name for dlopen().
 * @error:  one line, on failure: what was tried, and the next step.
 *
 * Thread:  any.
 * Returns: 0, or -ENODEV.
 */
int far_cuda_lib_load(const char *soname, struct cuda_lib *out, char error[256]);

#endif
