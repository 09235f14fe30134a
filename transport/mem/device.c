/* device.c - the kinds of device memory that this build knows. */
#include "transport/mem/device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifdef FAR_HAVE_CUDA
#include "transport/mem/cuda/device.h"
#endif

int
far_device_open(const struct far_device_config *config, struct far_device **out, char error[256])
{
	if (strcmp(config->kind, "cuda") != 0) {
		(void)snprintf(error, 256, "memory '%.32s' is not known: use host or cuda",
			       config->kind);
		return -EINVAL;
	}
#ifdef FAR_HAVE_CUDA
	return far_cuda_device_ops.open(config, out, error);
#else
	(void)out;
	(void)snprintf(error, 256,
		       "this farpool was built without CUDA: install the CUDA Toolkit (cuda.h) and "
		       "build again, or use memory: host");
	return -EOPNOTSUPP;
#endif
}
