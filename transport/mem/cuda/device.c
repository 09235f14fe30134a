/* device.c - a CUDA device: opened once, its context around each call, and what its errors mean. */
#include "transport/mem/cuda/device.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "transport/mem/cuda/cuda_priv.h"

/* One registration of half a terabyte and more leaves drivers of r580 with an error that stays. */
#define PIN_BYTES_MAX (256ULL << 30)

/* ---- errors ---- */

static const char *
name_of(const struct cuda_device *device, CUresult result)
{
	const char *name = NULL;

	if (device->lib.cuGetErrorName(result, &name) != CUDA_SUCCESS || name == NULL)
		return "unknown error";
	return name;
}

/* After these every call of the context fails, and the driver has stopped what it was doing. */
static bool
stays(CUresult result)
{
	switch (result) {
	case CUDA_ERROR_DEINITIALIZED:
	case CUDA_ERROR_ECC_UNCORRECTABLE:
	case CUDA_ERROR_NVLINK_UNCORRECTABLE:
	case CUDA_ERROR_ILLEGAL_ADDRESS:
	case CUDA_ERROR_LAUNCH_TIMEOUT:
	case CUDA_ERROR_CONTEXT_IS_DESTROYED:
	case CUDA_ERROR_ASSERT:
	case CUDA_ERROR_HARDWARE_STACK_ERROR:
	case CUDA_ERROR_ILLEGAL_INSTRUCTION:
	case CUDA_ERROR_MISALIGNED_ADDRESS:
	case CUDA_ERROR_INVALID_ADDRESS_SPACE:
	case CUDA_ERROR_INVALID_PC:
	case CUDA_ERROR_LAUNCH_FAILED:
	case CUDA_ERROR_SYSTEM_NOT_READY:
	case CUDA_ERROR_UNKNOWN:
		return true;
	default:
		return false;
	}
}

int
far_cuda_fail(struct cuda_device *device, CUresult result, const char *what)
{
	if (!atomic_exchange(&device->failed, true))
		far_log_error(
			"GPU %s failed: %s (%d) from %s: nothing moves to or from it any more; "
			"the process has to be started again, and dmesg may say why",
			device->device.info.pci, name_of(device, result), (int)result, what);
	return -EIO;
}

int
far_cuda_rc(struct cuda_device *device, CUresult result, const char *what)
{
	if (result == CUDA_SUCCESS)
		return 0;
	if (stays(result))
		return far_cuda_fail(device, result, what);
	switch (result) {
	case CUDA_ERROR_OUT_OF_MEMORY:
		return -ENOMEM;
	case CUDA_ERROR_NOT_SUPPORTED:
	case CUDA_ERROR_NOT_PERMITTED:
		return -EOPNOTSUPP;
	case CUDA_ERROR_INVALID_VALUE:
	case CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED:
	case CUDA_ERROR_INVALID_DEVICE:
		return -EINVAL;
	case CUDA_ERROR_OPERATING_SYSTEM:
		return -EMFILE;
	default:
		far_log_warn("GPU %s: %s (%d) from %s", device->device.info.pci,
			     name_of(device, result), (int)result, what);
		return -EIO;
	}
}

int
far_cuda_enter(struct cuda_device *device)
{
	CUresult result;

	if (atomic_load_explicit(&device->failed, memory_order_acquire))
		return -EIO;
	result = device->lib.cuCtxPushCurrent(device->context);
	return result == CUDA_SUCCESS ? 0 : far_cuda_fail(device, result, "cuCtxPushCurrent");
}

void
far_cuda_leave(struct cuda_device *device)
{
	CUcontext ours = NULL;
	CUresult result = device->lib.cuCtxPopCurrent(&ours);

	if (result == CUDA_SUCCESS || stays(result))
		return;
	(void)far_cuda_fail(device, result, "cuCtxPopCurrent");
}

/* ---- what it is ---- */

static int
attribute(const struct cuda_device *device, CUdevice_attribute which)
{
	int value = 0;

	/* Older drivers do not know newer ones: not supported. */
	if (device->lib.cuDeviceGetAttribute(&value, which, device->handle) != CUDA_SUCCESS)
		return 0;
	return value;
}

static void
line_read(const char *path, char *out, size_t out_bytes)
{
	FILE *file = fopen(path, "re");

	out[0] = '\0';
	if (file == NULL)
		return;
	if (fgets(out, (int)out_bytes, file) != NULL)
		out[strcspn(out, "\n")] = '\0';
	(void)fclose(file);
}

static void
info_fill(struct cuda_device *device, uint32_t ordinal)
{
	struct far_device_info *info = &device->device.info;
	const struct cuda_lib *lib = &device->lib;
	char line[64], path[96];
	size_t total = 0;

	(void)snprintf(info->kind, sizeof(info->kind), "cuda");
	info->ordinal = ordinal;
	(void)lib->cuDeviceGetName(info->name, (int)sizeof(info->name), device->handle);
	if (lib->cuDeviceTotalMem(&total, device->handle) == CUDA_SUCCESS)
		info->memory_bytes = total;
	line_read("/sys/module/nvidia/version", line, sizeof(line));
	(void)snprintf(info->driver, sizeof(info->driver), "%s%sCUDA %d.%d", line,
		       line[0] != '\0' ? ", " : "", lib->version / 1000, lib->version % 1000 / 10);
	if (lib->cuDeviceGetPCIBusId(info->pci, (int)sizeof(info->pci), device->handle) !=
	    CUDA_SUCCESS)
		info->pci[0] = '\0';
	/* sysfs has small letters. */
	for (char *at = info->pci; *at != '\0'; at++)
		*at = (char)tolower((unsigned char)*at);
	(void)snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/numa_node", info->pci);
	line_read(path, line, sizeof(line));
	info->numa_node = line[0] == '\0' ? -1 : (int)strtol(line, NULL, 10);
}

static void
flags_fill(struct cuda_device *device)
{
	const struct cuda_lib *lib = &device->lib;
	uint32_t flags = 0;
	int ordering;

	device->vmm =
		lib->cuMemCreate != NULL &&
		attribute(device, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) != 0 &&
		attribute(device,
			  CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED) != 0;
	device->rdma_vmm =
		device->vmm &&
		attribute(device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED) != 0;
	if (attribute(device, CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED) != 0 &&
	    lib->cuMemGetHandleForAddressRange != NULL)
		flags |= FAR_DEVICE_DMA_BUF;
	if (attribute(device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED) != 0 &&
	    (device->rdma_vmm || !device->vmm))
		flags |= FAR_DEVICE_RDMA;
	if (attribute(device, CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED) != 0)
		flags |= FAR_DEVICE_MAP_READONLY;
	if (device->vmm)
		flags |= FAR_DEVICE_EXPORT;
	/* What the owner of the memory sees in order already needs no flush for its kernels. */
	ordering = attribute(device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING);
	if (ordering < CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER &&
	    lib->cuFlushGPUDirectRDMAWrites != NULL &&
	    (attribute(device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS) &
	     CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST) != 0)
		flags |= FAR_DEVICE_FLUSH;
	device->device.info.flags = flags;
}

/* ---- open and close ---- */

static int
handle_get(struct cuda_device *device, uint32_t ordinal, char error[256])
{
	int count = 0;

	(void)device->lib.cuDeviceGetCount(&count);
	if (ordinal < (uint32_t)(count < 0 ? 0 : count) &&
	    device->lib.cuDeviceGet(&device->handle, (int)ordinal) == CUDA_SUCCESS)
		return 0;
	(void)snprintf(error, 256,
		       "there is no GPU %u: this process sees %d, counted from 0 (nvidia-smi -L, "
		       "CUDA_VISIBLE_DEVICES)",
		       ordinal, count);
	return -ENODEV;
}

static int
cuda_open(const struct far_device_config *config, struct far_device **out, char error[256])
{
	struct cuda_device *device = far_zalloc(sizeof(*device));
	CUresult result;
	int rc;

	if (device == NULL) {
		(void)snprintf(error, 256, "out of memory");
		return -ENOMEM;
	}
	device->device.ops = &far_cuda_device_ops;
	rc = far_cuda_lib_load(config->library != NULL ? config->library : CUDA_LIB_SONAME,
			       &device->lib, error);
	if (rc == 0)
		rc = handle_get(device, config->ordinal, error);
	if (rc < 0)
		goto fail;
	info_fill(device, config->ordinal);
	flags_fill(device);
	result = device->lib.cuDevicePrimaryCtxRetain(&device->context, device->handle);
	if (result != CUDA_SUCCESS) {
		(void)snprintf(
			error, 256,
			"GPU %u (%.64s) gives no context: %s (%d): nvidia-smi shows who has it, "
			"and its compute mode",
			config->ordinal, device->device.info.name, name_of(device, result),
			(int)result);
		rc = result == CUDA_ERROR_OUT_OF_MEMORY ? -ENOMEM : -EIO;
		goto fail;
	}
	pthread_mutex_init(&device->copy_lock, NULL);
	*out = &device->device;
	return 0;

fail:
	far_free(device);
	return rc;
}

static void
cuda_close(struct far_device *fdevice)
{
	struct cuda_device *device = cuda_device(fdevice);

	if (device->copy_stream != NULL && far_cuda_enter(device) == 0) {
		(void)device->lib.cuStreamDestroy(device->copy_stream);
		far_cuda_leave(device);
	}
	(void)device->lib.cuDevicePrimaryCtxRelease(device->handle);
	pthread_mutex_destroy(&device->copy_lock);
	far_free(device);
}

/* ---- host memory, single copies, NIC writes ---- */

static int
cuda_pin(struct far_device *fdevice, void *base, size_t size_bytes, bool read_only)
{
	struct cuda_device *device = cuda_device(fdevice);
	unsigned flags = CU_MEMHOSTREGISTER_PORTABLE;
	int rc;

	if (read_only && (fdevice->info.flags & FAR_DEVICE_MAP_READONLY) == 0)
		return -EOPNOTSUPP;
	if (size_bytes == 0 || size_bytes > PIN_BYTES_MAX)
		return -EINVAL;
	if (read_only)
		flags |= CU_MEMHOSTREGISTER_READ_ONLY;
	rc = far_cuda_enter(device);
	if (rc < 0)
		return rc;
	rc = far_cuda_rc(device, device->lib.cuMemHostRegister(base, size_bytes, flags),
			 "cuMemHostRegister");
	far_cuda_leave(device);
	return rc;
}

static void
cuda_unpin(struct far_device *fdevice, void *base)
{
	struct cuda_device *device = cuda_device(fdevice);

	if (far_cuda_enter(device) < 0)
		return;
	(void)far_cuda_rc(device, device->lib.cuMemHostUnregister(base), "cuMemHostUnregister");
	far_cuda_leave(device);
}

static CUresult
copy_run(struct cuda_device *device, enum far_copy_way way, void *to, const void *from,
	 size_t size_bytes)
{
	const struct cuda_lib *lib = &device->lib;
	CUresult result = CUDA_SUCCESS;

	if (device->copy_stream == NULL)
		result = lib->cuStreamCreate(&device->copy_stream, CU_STREAM_NON_BLOCKING);
	if (result != CUDA_SUCCESS)
		return result;
	if (way == FAR_COPY_IN)
		result =
			lib->cuMemcpyHtoDAsync(cuda_ptr(to), from, size_bytes, device->copy_stream);
	else
		result =
			lib->cuMemcpyDtoHAsync(to, cuda_ptr(from), size_bytes, device->copy_stream);
	if (result != CUDA_SUCCESS)
		return result;
	result = lib->cuStreamSynchronize(device->copy_stream);
	/* A context that is lost says so again, at once; else the copy may still be on its way. */
	if (result != CUDA_SUCCESS)
		(void)lib->cuStreamSynchronize(device->copy_stream);
	return result;
}

static int
cuda_copy(struct far_device *fdevice, enum far_copy_way way, void *to, const void *from,
	  size_t size_bytes)
{
	struct cuda_device *device = cuda_device(fdevice);
	int rc = far_cuda_enter(device);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&device->copy_lock);
	rc = far_cuda_rc(device, copy_run(device, way, to, from, size_bytes), "a copy");
	pthread_mutex_unlock(&device->copy_lock);
	far_cuda_leave(device);
	return rc < 0 ? -EIO : 0;
}

static int
cuda_publish(struct far_device *fdevice)
{
	struct cuda_device *device = cuda_device(fdevice);
	CUresult result;
	int rc;

	if ((fdevice->info.flags & FAR_DEVICE_FLUSH) == 0)
		return 0;
	rc = far_cuda_enter(device);
	if (rc < 0)
		return rc;
	result = device->lib.cuFlushGPUDirectRDMAWrites(
		CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX,
		CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER);
	if (result != CUDA_SUCCESS)
		rc = far_cuda_fail(device, result, "cuFlushGPUDirectRDMAWrites");
	far_cuda_leave(device);
	return rc;
}

const struct far_device_ops far_cuda_device_ops = {
	.kind = "cuda",
	.open = cuda_open,
	.close = cuda_close,
	.arena_alloc = far_cuda_arena_alloc,
	.arena_adopt = far_cuda_arena_adopt,
	.arena_free = far_cuda_arena_free,
	.dma_buf = far_cuda_dma_buf,
	.pin = cuda_pin,
	.unpin = cuda_unpin,
	.copy = cuda_copy,
	.publish = cuda_publish,
	.copier_open = far_cuda_copier_open,
	.copier_close = far_cuda_copier_close,
	.copier_add = far_cuda_copier_add,
	.copier_submit = far_cuda_copier_submit,
	.copier_poll = far_cuda_copier_poll,
	.copier_arm = far_cuda_copier_arm,
};
