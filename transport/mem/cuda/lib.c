/* lib.c - the CUDA driver is loaded where it is used: its functions, in one table. */
#include "transport/mem/cuda/lib.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static int
function_find(void *handle, const char *symbol, int version, void *out, char error[256])
{
	void *function = dlsym(handle, symbol);

	if (function == NULL && version <= CUDA_VERSION_MIN) {
		(void)snprintf(
			error, 256,
			"the CUDA driver has no %s: install a driver of CUDA 10.2 (440) or newer",
			symbol);
		return -ENODEV;
	}
	/* POSIX says that a pointer to a function can be kept in one to an object; C does not. */
	memcpy(out, &function, sizeof(function));
	return 0;
}

static int
init(struct cuda_lib *lib, char error[256])
{
	const char *name = "?";
	CUresult result = lib->cuInit(0);

	if (result != CUDA_SUCCESS) {
		(void)lib->cuGetErrorName(result, &name);
		(void)snprintf(
			error, 256,
			"the CUDA driver does not start: %s (%d): is there a GPU, and is its "
			"kernel module loaded? nvidia-smi shows both",
			name, (int)result);
		return -ENODEV;
	}
	if (lib->cuDriverGetVersion(&lib->version) != CUDA_SUCCESS ||
	    lib->version < CUDA_VERSION_MIN) {
		(void)snprintf(
			error, 256,
			"the CUDA driver is of CUDA %d.%d: install one of 10.2 (440) or newer",
			lib->version / 1000, lib->version % 1000 / 10);
		return -ENODEV;
	}
	return 0;
}

int
far_cuda_lib_load(const char *soname, struct cuda_lib *out, char error[256])
{
	/* Never unloaded: the driver has threads. */
	void *handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
	struct cuda_lib lib = {.version = 0};
	int rc = 0;

	if (handle == NULL) {
		(void)snprintf(
			error, 256,
			"this host has no CUDA driver (%.120s): install it, or use memory: host",
			dlerror());
		return -ENODEV;
	}
#define CUDA_LIB_FIND(name, symbol, version)                                                       \
	if (rc == 0)                                                                               \
		rc = function_find(handle, symbol, version, &lib.name, error);
	CUDA_LIB_FUNCTIONS(CUDA_LIB_FIND)
#undef CUDA_LIB_FIND
	if (rc == 0)
		rc = init(&lib, error);
	if (rc == 0)
		*out = lib;
	return rc;
}
