/* driver.c - the stand-in's device, and the stack of contexts of each thread. */
#include <stdio.h>

#include "tests/support/cuda_standin/standin_priv.h"

#define DEPTH_MAX 16

static _Thread_local struct {
	CUcontext contexts[DEPTH_MAX];
	unsigned depth;
} stack;

unsigned
standin_depth(void)
{
	return stack.depth;
}

CUresult
standin_enter(const char *call)
{
	CUresult result = standin_enter_outside(call);

	if (result != CUDA_SUCCESS)
		return result;
	if (stack.depth == 0 || stack.contexts[stack.depth - 1] != &standin.primary) {
		standin_misuse("%s outside the device's context", call);
		return CUDA_ERROR_INVALID_CONTEXT;
	}
	return standin.failed;
}

/* ---- the driver ---- */

CUresult
cuInit(unsigned flags)
{
	(void)flags;
	return standin_leave(standin_enter_outside(__func__));
}

CUresult
cuDriverGetVersion(int *version)
{
	CUresult result = standin_enter_outside(__func__);

	if (result == CUDA_SUCCESS)
		*version = standin.version;
	return standin_leave(result);
}

CUresult
cuGetErrorName(CUresult error, const char **out)
{
	CUresult result = standin_enter_outside(__func__);

	*out = error == CUDA_ERROR_ILLEGAL_ADDRESS     ? "CUDA_ERROR_ILLEGAL_ADDRESS"
	       : error == CUDA_ERROR_OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
	       : error == CUDA_ERROR_NO_DEVICE         ? "CUDA_ERROR_NO_DEVICE"
	       : error == CUDA_ERROR_NOT_INITIALIZED   ? "CUDA_ERROR_NOT_INITIALIZED"
	       : error == CUDA_ERROR_ECC_UNCORRECTABLE ? "CUDA_ERROR_ECC_UNCORRECTABLE"
						       : "CUDA_ERROR";
	return standin_leave(result);
}

/* ---- the device ---- */

CUresult
cuDeviceGetCount(int *count)
{
	CUresult result = standin_enter_outside(__func__);

	if (result == CUDA_SUCCESS)
		*count = standin.devices;
	return standin_leave(result);
}

CUresult
cuDeviceGet(CUdevice *device, int ordinal)
{
	CUresult result = standin_enter_outside(__func__);

	if (result == CUDA_SUCCESS && (ordinal < 0 || ordinal >= standin.devices))
		result = CUDA_ERROR_INVALID_DEVICE;
	if (result == CUDA_SUCCESS)
		*device = ordinal;
	return standin_leave(result);
}

CUresult
cuDeviceGetName(char *name, int bytes, CUdevice device)
{
	CUresult result = standin_enter_outside(__func__);

	(void)device;
	if (result == CUDA_SUCCESS)
		(void)snprintf(name, (size_t)bytes, "%s", STANDIN_NAME);
	return standin_leave(result);
}

CUresult
cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device)
{
	CUresult result = standin_enter_outside(__func__);

	(void)device;
	if (result == CUDA_SUCCESS && (int)which >= STANDIN_ATTRIBUTES)
		result = CUDA_ERROR_INVALID_VALUE;
	if (result == CUDA_SUCCESS)
		*value = standin.attributes[which];
	return standin_leave(result);
}

/* A place that no host has: what is near to it is not known. */
CUresult
cuDeviceGetPCIBusId(char *id, int bytes, CUdevice device)
{
	CUresult result = standin_enter_outside(__func__);

	if (result == CUDA_SUCCESS)
		(void)snprintf(id, (size_t)bytes, "FFFF:FF:%02X.0", (unsigned)device & 0x1F);
	return standin_leave(result);
}

CUresult
cuDeviceTotalMem(size_t *bytes, CUdevice device)
{
	CUresult result = standin_enter_outside(__func__);

	(void)device;
	if (result == CUDA_SUCCESS)
		*bytes = 80ULL << 30;
	return standin_leave(result);
}

/* ---- contexts ---- */

CUresult
cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	CUresult result = standin_enter_outside(__func__);

	(void)device;
	if (result == CUDA_SUCCESS) {
		standin.primary.retained++;
		*context = &standin.primary;
	}
	return standin_leave(result);
}

CUresult
cuDevicePrimaryCtxRelease(CUdevice device)
{
	CUresult result = standin_enter_outside(__func__);

	(void)device;
	if (standin.primary.retained == 0)
		standin_misuse("a context is released that is not retained");
	else
		standin.primary.retained--;
	return standin_leave(result);
}

CUresult
cuCtxPushCurrent(CUcontext context)
{
	CUresult result = standin_enter_outside(__func__);

	if (result == CUDA_SUCCESS && context == &standin.primary && standin.primary.retained == 0)
		standin_misuse("a context is pushed that is not retained");
	if (result == CUDA_SUCCESS && stack.depth == DEPTH_MAX) {
		standin_misuse("%d contexts are pushed", DEPTH_MAX + 1);
		result = CUDA_ERROR_INVALID_VALUE;
	}
	if (result == CUDA_SUCCESS)
		stack.contexts[stack.depth++] = context;
	return standin_leave(result);
}

CUresult
cuCtxPopCurrent(CUcontext *context)
{
	CUresult result = standin_enter_outside(__func__);

	if (stack.depth == 0) {
		standin_misuse("a context is popped, and there is none");
		return standin_leave(CUDA_ERROR_INVALID_CONTEXT);
	}
	stack.depth--;
	if (context != NULL)
		*context = stack.contexts[stack.depth];
	return standin_leave(result);
}

CUresult
cuCtxSetFlags(unsigned flags)
{
	CUresult result = standin_enter(__func__);

	(void)flags;
	return standin_leave(result);
}

CUresult
cuFlushGPUDirectRDMAWrites(CUflushGPUDirectRDMAWritesTarget target,
			   CUflushGPUDirectRDMAWritesScope scope)
{
	CUresult result = standin_enter(__func__);

	(void)target;
	(void)scope;
	return standin_leave(result);
}
