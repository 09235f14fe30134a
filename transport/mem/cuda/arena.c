/* arena.c - memory of the device: one allocation for blocks, the caller's own, and both as DMA-BUFs. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/mem/cuda/cuda_priv.h"

#define HOST_PAGE_BYTES   4096ULL
#define PLAIN_ALIGN_BYTES 65536ULL /* as device.h has it */

/* What an arena keeps in priv: the handle of the memory; for one without, where its allocation begins. */
#define PRIV_HANDLE 0
#define PRIV_FIRST  0
#define PRIV_BYTES  1 /* that are mapped; 0: a plain allocation */

/* ---- ours ---- */

static void
prop_fill(const struct cuda_device *device, CUmemAllocationProp *prop)
{
	memset(prop, 0, sizeof(*prop));
	prop->type = CU_MEM_ALLOCATION_TYPE_PINNED;
	prop->location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	prop->location.id = (int)device->device.info.ordinal;
	prop->requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	prop->allocFlags.gpuDirectRDMACapable = device->rdma_vmm;
}

/* Addresses for memory that is there, and the right to use them. */
static int
vmm_map(struct cuda_device *device, const CUmemAllocationProp *prop,
	CUmemGenericAllocationHandle handle, size_t size_bytes, size_t align_bytes,
	CUdeviceptr *out)
{
	const struct cuda_lib *lib = &device->lib;
	const CUmemAccessDesc access = {
		.location = prop->location,
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	CUdeviceptr base = 0;
	int rc;

	rc = far_cuda_rc(device, lib->cuMemAddressReserve(&base, size_bytes, align_bytes, 0, 0),
			 "cuMemAddressReserve");
	if (rc < 0)
		return rc;
	rc = far_cuda_rc(device, lib->cuMemMap(base, size_bytes, 0, handle, 0), "cuMemMap");
	if (rc < 0)
		goto unreserve;
	rc = far_cuda_rc(device, lib->cuMemSetAccess(base, size_bytes, &access, 1),
			 "cuMemSetAccess");
	if (rc < 0)
		goto unmap;
	*out = base;
	return 0;

unmap:
	(void)lib->cuMemUnmap(base, size_bytes);
unreserve:
	(void)lib->cuMemAddressFree(base, size_bytes);
	return rc;
}

static int
vmm_alloc(struct cuda_device *device, uint64_t size_bytes, struct far_device_arena *out)
{
	const struct cuda_lib *lib = &device->lib;
	CUmemGenericAllocationHandle handle = 0;
	CUmemAllocationProp prop;
	CUdeviceptr base = 0;
	size_t granularity = 0;
	size_t rounded;
	int fd = -1;
	int rc;

	prop_fill(device, &prop);
	rc = far_cuda_rc(device,
			 lib->cuMemGetAllocationGranularity(&granularity, &prop,
							    CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
			 "cuMemGetAllocationGranularity");
	if (rc < 0)
		return rc;
	if (granularity == 0 || size_bytes > SIZE_MAX - granularity)
		return -ENOMEM;
	rounded = (size_bytes + granularity - 1) / granularity * granularity;
	rc = far_cuda_rc(device, lib->cuMemCreate(&handle, rounded, &prop, 0), "cuMemCreate");
	if (rc < 0)
		return rc;
	rc = vmm_map(device, &prop, handle, rounded, granularity, &base);
	if (rc < 0) {
		(void)lib->cuMemRelease(handle);
		return rc;
	}
	/* For other processes; an arena without is one that nobody can be given. */
	if (lib->cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
					      0) != CUDA_SUCCESS)
		fd = -1;
	*out = (struct far_device_arena){
		.base = (void *)(uintptr_t)base,
		.size_bytes = rounded,
		.fd = fd,
		.priv = {[PRIV_HANDLE] = handle, [PRIV_BYTES] = rounded},
	};
	return 0;
}

/* The driver puts small allocations at any 512 bytes. */
static int
plain_alloc(struct cuda_device *device, uint64_t size_bytes, struct far_device_arena *out)
{
	CUdeviceptr first = 0;
	uint64_t rounded;
	int rc;

	if (size_bytes > SIZE_MAX - 2 * PLAIN_ALIGN_BYTES)
		return -ENOMEM;
	rounded = (size_bytes + PLAIN_ALIGN_BYTES - 1) & ~(PLAIN_ALIGN_BYTES - 1);
	rc = far_cuda_rc(device, device->lib.cuMemAlloc(&first, rounded + PLAIN_ALIGN_BYTES),
			 "cuMemAlloc");
	if (rc < 0)
		return rc;
	*out = (struct far_device_arena){
		.base = (void *)(uintptr_t)((first + PLAIN_ALIGN_BYTES - 1) &
					    ~(PLAIN_ALIGN_BYTES - 1)),
		.size_bytes = rounded,
		.fd = -1,
		.priv = {[PRIV_FIRST] = first},
	};
	return 0;
}

int
far_cuda_arena_alloc(struct far_device *fdevice, uint64_t size_bytes, struct far_device_arena *out)
{
	struct cuda_device *device = cuda_device(fdevice);
	int rc = far_cuda_enter(device);

	if (rc < 0)
		return rc;
	rc = device->vmm ? vmm_alloc(device, size_bytes, out)
			 : plain_alloc(device, size_bytes, out);
	far_cuda_leave(device);
	return rc == 0 || rc == -EIO ? rc : -ENOMEM;
}

/* ---- the caller's ---- */

/* The allocation that an address lies in; of this device, or -EINVAL. */
static int
range_of(struct cuda_device *device, CUdeviceptr address, CUdeviceptr *base_out,
	 size_t *size_bytes_out)
{
	const struct cuda_lib *lib = &device->lib;
	int ordinal = -1;
	unsigned kind = 0;

	if (lib->cuPointerGetAttribute(&kind, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address) !=
		    CUDA_SUCCESS ||
	    kind != CU_MEMORYTYPE_DEVICE)
		return -EINVAL;
	if (lib->cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address) !=
		    CUDA_SUCCESS ||
	    ordinal != (int)device->device.info.ordinal)
		return -EINVAL;
	return lib->cuMemGetAddressRange(base_out, size_bytes_out, address) == CUDA_SUCCESS
		       ? 0
		       : -EINVAL;
}

int
far_cuda_arena_adopt(struct far_device *fdevice, void *base, uint64_t size_bytes,
		     struct far_device_arena *out)
{
	struct cuda_device *device = cuda_device(fdevice);
	CUdeviceptr first = 0;
	size_t whole = 0;
	int rc = far_cuda_enter(device);

	if (rc < 0)
		return rc;
	rc = size_bytes == 0 ? -EINVAL : range_of(device, cuda_ptr(base), &first, &whole);
	far_cuda_leave(device);
	if (rc < 0)
		return rc;
	if (size_bytes > whole || cuda_ptr(base) - first > whole - size_bytes)
		return -EINVAL;
	*out = (struct far_device_arena){
		.base = base, .size_bytes = size_bytes, .fd = -1, .adopted = true};
	return 0;
}

void
far_cuda_arena_free(struct far_device *fdevice, struct far_device_arena *arena)
{
	struct cuda_device *device = cuda_device(fdevice);
	const struct cuda_lib *lib = &device->lib;
	CUdeviceptr base = cuda_ptr(arena->base);
	size_t mapped = (size_t)arena->priv[PRIV_BYTES];

	if (arena->fd >= 0)
		(void)close(arena->fd);
	if (arena->base != NULL && !arena->adopted && far_cuda_enter(device) == 0) {
		if (mapped != 0) {
			(void)far_cuda_rc(device, lib->cuMemUnmap(base, mapped), "cuMemUnmap");
			(void)far_cuda_rc(device, lib->cuMemAddressFree(base, mapped),
					  "cuMemAddressFree");
			(void)far_cuda_rc(device, lib->cuMemRelease(arena->priv[PRIV_HANDLE]),
					  "cuMemRelease");
		} else {
			(void)far_cuda_rc(device, lib->cuMemFree(arena->priv[PRIV_FIRST]),
					  "cuMemFree");
		}
		far_cuda_leave(device);
	}
	*arena = (struct far_device_arena){.fd = -1};
}

/* ---- for NICs ---- */

/*
 * Else a copy that the host takes for done may still be on its way when a NIC reads its target. Virtual
 * memory has no such attribute: there it is one of the context.
 */
static void
sync_memops(struct cuda_device *device, CUdeviceptr base)
{
	const struct cuda_lib *lib = &device->lib;
	unsigned one = 1;

	if (lib->cuPointerSetAttribute(&one, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, base) ==
	    CUDA_SUCCESS)
		return;
	if (lib->cuCtxSetFlags == NULL || lib->cuCtxSetFlags(CU_CTX_SYNC_MEMOPS) != CUDA_SUCCESS)
		far_log_warn("GPU %s: copies into its memory cannot be made synchronous "
			     "(CU_CTX_SYNC_MEMOPS, driver of CUDA 12.1): end what fills a block "
			     "before it is committed",
			     device->device.info.pci);
}

int
far_cuda_dma_buf(struct far_device *fdevice, const void *base, uint64_t size_bytes, int *fd,
		 uint64_t *offset)
{
	struct cuda_device *device = cuda_device(fdevice);
	CUdeviceptr first = 0;
	size_t whole = 0;
	CUresult result;
	int rc;

	if ((fdevice->info.flags & FAR_DEVICE_DMA_BUF) == 0)
		return -EOPNOTSUPP;
	rc = far_cuda_enter(device);
	if (rc < 0)
		return rc;
	rc = range_of(device, cuda_ptr(base), &first, &whole);
	if (rc == 0 && (size_bytes > whole || cuda_ptr(base) - first > whole - size_bytes))
		rc = -EINVAL;
	/* The whole allocation: both ends have to be those of pages. */
	if (rc == 0 && (first % HOST_PAGE_BYTES != 0 || whole % HOST_PAGE_BYTES != 0))
		rc = -EOPNOTSUPP;
	if (rc == 0) {
		sync_memops(device, first);
		result = device->lib.cuMemGetHandleForAddressRange(
			fd, first, whole, CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
		rc = far_cuda_rc(device, result, "cuMemGetHandleForAddressRange");
	}
	far_cuda_leave(device);
	if (rc == 0)
		*offset = cuda_ptr(base) - first;
	return rc;
}
