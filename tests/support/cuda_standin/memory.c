/* memory.c - the stand-in's device memory, which lies in the host's. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/cuda_standin/standin_priv.h"

#define TABLE_MAX    256
#define GRAIN_BYTES  (2ULL << 20)
#define SMALL_BYTES  (1ULL << 20) /* smaller ones lie anywhere, as a driver's do */
#define SMALL_OFFSET 512ULL
#define PAGE_BYTES   4096ULL
#define FIRST_HANDLE 0x5A5A000000000001ULL

/* Addresses: no byte of them can be touched, but with FARPOOL_STANDIN_ACCESS=1. */
struct reservation {
	uint64_t base;
	size_t size_bytes; /* 0: none */
	void *raw;
	size_t raw_bytes;
};

/* What a handle names. */
struct physical {
	CUmemGenericAllocationHandle handle; /* 0: none */
	size_t size_bytes;
	int fd;
	bool mapped, released;
};

/* Bytes at addresses. */
struct memory {
	uint64_t base;
	size_t size_bytes;                   /* 0: none */
	CUmemGenericAllocationHandle handle; /* 0: a plain allocation */
	uint8_t *alias;                      /* where the bytes can be touched */
	uint64_t skew;                       /* of the alias: the first byte lies here */
	int fd;                              /* borrowed of the handle, if there is one */
	bool access;
};

static struct reservation reservations[TABLE_MAX];
static struct physical physicals[TABLE_MAX];
static struct memory memories[TABLE_MAX];
static CUmemGenericAllocationHandle handle_last = FIRST_HANDLE;

static size_t
round_up(size_t value, size_t to)
{
	return (value + to - 1) / to * to;
}

/* ---- addresses ---- */

static struct reservation *
reserve(size_t size_bytes)
{
	struct reservation *new = NULL;

	for (int i = 0; i < TABLE_MAX && new == NULL; i++)
		if (reservations[i].size_bytes == 0)
			new = &reservations[i];
	if (new == NULL)
		return NULL;
	new->raw_bytes = round_up(size_bytes, PAGE_BYTES) + GRAIN_BYTES;
	new->raw = mmap(NULL, new->raw_bytes, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (new->raw == MAP_FAILED)
		return NULL;
	new->base = round_up((size_t)(uintptr_t) new->raw, GRAIN_BYTES);
	new->size_bytes = size_bytes;
	return new;
}

static void
unreserve(struct reservation *reservation)
{
	(void)munmap(reservation->raw, reservation->raw_bytes);
	*reservation = (struct reservation){.size_bytes = 0};
}

static struct reservation *
reservation_of(uint64_t address, size_t size_bytes)
{
	for (int i = 0; i < TABLE_MAX; i++) {
		struct reservation *at = &reservations[i];

		if (at->size_bytes != 0 && address >= at->base &&
		    address - at->base < at->size_bytes &&
		    size_bytes <= at->size_bytes - (address - at->base))
			return at;
	}
	return NULL;
}

/* ---- bytes ---- */

static struct memory *
memory_of(uint64_t address, size_t size_bytes)
{
	for (int i = 0; i < TABLE_MAX; i++) {
		struct memory *at = &memories[i];

		if (at->size_bytes != 0 && address >= at->base &&
		    address - at->base < at->size_bytes &&
		    size_bytes <= at->size_bytes - (address - at->base))
			return at;
	}
	return NULL;
}

uint8_t *
standin_bytes(uint64_t address, size_t size_bytes)
{
	const struct memory *memory = memory_of(address, size_bytes);

	if (memory == NULL || !memory->access)
		return NULL;
	return memory->alias + memory->skew + (address - memory->base);
}

/* The bytes of @fd appear at @base, which is @skew into a page, and at the alias. */
static struct memory *
memory_map(uint64_t base, size_t size_bytes, uint64_t skew, int fd)
{
	struct memory *new = NULL;
	void *alias;

	for (int i = 0; i < TABLE_MAX && new == NULL; i++)
		if (memories[i].size_bytes == 0)
			new = &memories[i];
	if (new == NULL)
		return NULL;
	alias = mmap(NULL, skew + size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (alias == MAP_FAILED)
		return NULL;
	if (standin.access &&
	    mmap((void *)(uintptr_t)(base - skew), skew + size_bytes, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
		(void)munmap(alias, skew + size_bytes);
		return NULL;
	}
	*new = (struct memory){
		.base = base, .size_bytes = size_bytes, .fd = fd, .alias = alias, .skew = skew};
	return new;
}

static void
memory_unmap(struct memory *memory)
{
	size_t bytes = memory->skew + memory->size_bytes;

	if (standin_device_in_use(memory->base, memory->size_bytes) &&
	    standin.failed == CUDA_SUCCESS)
		standin_misuse("device memory goes away under a copy");
	if (standin.access)
		(void)mmap((void *)(uintptr_t)(memory->base - memory->skew), bytes, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	(void)munmap(memory->alias, bytes);
	*memory = (struct memory){.size_bytes = 0};
}

static int
file_of(size_t size_bytes)
{
	int fd = memfd_create("cuda-standin", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, (off_t)round_up(size_bytes, PAGE_BYTES)) != 0) {
		(void)close(fd);
		fd = -1;
	}
	return fd;
}

/* ---- plain allocations ---- */

CUresult
cuMemAlloc(CUdeviceptr *out, size_t size_bytes)
{
	CUresult result = standin_enter(__func__);
	uint64_t skew = size_bytes < SMALL_BYTES ? SMALL_OFFSET : 0;
	struct reservation *reservation;
	struct memory *memory;
	int fd;

	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	if (size_bytes == 0)
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	fd = file_of(skew + size_bytes);
	reservation = reserve(skew + size_bytes);
	if (fd < 0 || reservation == NULL)
		return standin_leave(CUDA_ERROR_OUT_OF_MEMORY);
	memory = memory_map(reservation->base + skew, size_bytes, skew, fd);
	if (memory == NULL) {
		unreserve(reservation);
		(void)close(fd);
		return standin_leave(CUDA_ERROR_OUT_OF_MEMORY);
	}
	memory->access = true;
	*out = memory->base;
	return standin_leave(CUDA_SUCCESS);
}

CUresult
cuMemFree(CUdeviceptr address)
{
	CUresult result = standin_enter(__func__);
	struct memory *memory = memory_of(address, 1);

	if (memory == NULL || memory->base != address || memory->handle != 0) {
		standin_misuse("what is freed was not allocated, or was freed before");
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	}
	(void)close(memory->fd);
	memory_unmap(memory);
	unreserve(reservation_of(address, 1));
	return standin_leave(result);
}

/* ---- virtual memory ---- */

static struct physical *
physical_of(CUmemGenericAllocationHandle handle, const char *call)
{
	for (int i = 0; i < TABLE_MAX; i++)
		if (handle != 0 && physicals[i].handle == handle)
			return &physicals[i];
	standin_misuse("%s: of no handle that is there", call);
	return NULL;
}

static void
physical_end(struct physical *physical)
{
	if (physical->mapped || !physical->released)
		return;
	(void)close(physical->fd);
	*physical = (struct physical){.handle = 0};
}

CUresult
cuMemGetAllocationGranularity(size_t *out, const CUmemAllocationProp *prop,
			      CUmemAllocationGranularity_flags option)
{
	CUresult result = standin_enter(__func__);

	(void)prop;
	(void)option;
	if (result == CUDA_SUCCESS)
		*out = GRAIN_BYTES;
	return standin_leave(result);
}

CUresult
cuMemAddressReserve(CUdeviceptr *out, size_t size_bytes, size_t alignment, CUdeviceptr address,
		    unsigned long long flags)
{
	CUresult result = standin_enter(__func__);
	const struct reservation *new;

	(void)address;
	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	if (size_bytes == 0 || size_bytes % GRAIN_BYTES != 0 || flags != 0 ||
	    alignment > GRAIN_BYTES)
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	new = reserve(size_bytes);
	if (new == NULL)
		return standin_leave(CUDA_ERROR_OUT_OF_MEMORY);
	*out = new->base;
	return standin_leave(CUDA_SUCCESS);
}

CUresult
cuMemAddressFree(CUdeviceptr address, size_t size_bytes)
{
	CUresult result = standin_enter(__func__);
	struct reservation *reservation = reservation_of(address, size_bytes);

	if (reservation == NULL || reservation->base != address ||
	    reservation->size_bytes != size_bytes) {
		standin_misuse("addresses are freed that were not reserved");
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	}
	if (memory_of(address, 1) != NULL)
		standin_misuse("addresses are freed that memory is mapped at");
	unreserve(reservation);
	return standin_leave(result);
}

CUresult
cuMemCreate(CUmemGenericAllocationHandle *out, size_t size_bytes, const CUmemAllocationProp *prop,
	    unsigned long long flags)
{
	CUresult result = standin_enter(__func__);
	int at = 0, fd;

	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	if (prop->allocFlags.gpuDirectRDMACapable != 0 &&
	    standin.attributes[CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED] == 0)
		return standin_leave(CUDA_ERROR_NOT_SUPPORTED);
	if (size_bytes == 0 || size_bytes % GRAIN_BYTES != 0 || flags != 0 ||
	    prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	while (at < TABLE_MAX && physicals[at].handle != 0)
		at++;
	fd = at < TABLE_MAX ? file_of(size_bytes) : -1;
	if (fd < 0)
		return standin_leave(CUDA_ERROR_OUT_OF_MEMORY);
	physicals[at] =
		(struct physical){.handle = ++handle_last, .fd = fd, .size_bytes = size_bytes};
	*out = handle_last;
	return standin_leave(CUDA_SUCCESS);
}

CUresult
cuMemRelease(CUmemGenericAllocationHandle handle)
{
	CUresult result = standin_enter(__func__);
	struct physical *physical = physical_of(handle, __func__);

	if (physical == NULL || physical->released) {
		standin_misuse("memory is released twice");
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	}
	physical->released = true;
	physical_end(physical);
	return standin_leave(result);
}

CUresult
cuMemMap(CUdeviceptr address, size_t size_bytes, size_t offset, CUmemGenericAllocationHandle handle,
	 unsigned long long flags)
{
	CUresult result = standin_enter(__func__);
	struct physical *physical;
	struct memory *memory;

	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	physical = physical_of(handle, __func__);
	if (physical == NULL || offset != 0 || size_bytes != physical->size_bytes || flags != 0 ||
	    reservation_of(address, size_bytes) == NULL)
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	memory = memory_map(address, size_bytes, 0, physical->fd);
	if (memory == NULL)
		return standin_leave(CUDA_ERROR_OUT_OF_MEMORY);
	memory->handle = handle;
	physical->mapped = true;
	return standin_leave(CUDA_SUCCESS);
}

CUresult
cuMemUnmap(CUdeviceptr address, size_t size_bytes)
{
	CUresult result = standin_enter(__func__);
	struct memory *memory = memory_of(address, size_bytes);
	struct physical *physical;

	if (memory == NULL || memory->base != address || memory->size_bytes != size_bytes ||
	    memory->handle == 0) {
		standin_misuse("memory is unmapped that was not mapped");
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	}
	physical = physical_of(memory->handle, __func__);
	memory_unmap(memory);
	physical->mapped = false;
	physical_end(physical);
	return standin_leave(result);
}

CUresult
cuMemSetAccess(CUdeviceptr address, size_t size_bytes, const CUmemAccessDesc *access, size_t count)
{
	CUresult result = standin_enter(__func__);
	struct memory *memory;

	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	memory = memory_of(address, size_bytes);
	if (memory == NULL || count != 1 || access->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	memory->access = true;
	return standin_leave(CUDA_SUCCESS);
}

/* ---- descriptors ---- */

CUresult
cuMemExportToShareableHandle(void *out, CUmemGenericAllocationHandle handle,
			     CUmemAllocationHandleType type, unsigned long long flags)
{
	CUresult result = standin_enter(__func__);
	const struct physical *physical;
	int fd;

	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	physical = physical_of(handle, __func__);
	if (physical == NULL || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || flags != 0)
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	fd = dup(physical->fd);
	if (fd < 0)
		return standin_leave(CUDA_ERROR_OPERATING_SYSTEM);
	memcpy(out, &fd, sizeof(fd));
	return standin_leave(CUDA_SUCCESS);
}

CUresult
cuMemGetHandleForAddressRange(void *out, CUdeviceptr address, size_t size_bytes,
			      CUmemRangeHandleType type, unsigned long long flags)
{
	CUresult result = standin_enter(__func__);
	const struct memory *memory;
	int fd;

	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	if (standin.attributes[CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED] == 0)
		return standin_leave(CUDA_ERROR_NOT_SUPPORTED);
	memory = memory_of(address, size_bytes);
	if (memory == NULL || type != CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD || flags != 0 ||
	    address % PAGE_BYTES != 0 || size_bytes % PAGE_BYTES != 0)
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	fd = dup(memory->fd);
	if (fd < 0)
		return standin_leave(CUDA_ERROR_OPERATING_SYSTEM);
	memcpy(out, &fd, sizeof(fd));
	return standin_leave(CUDA_SUCCESS);
}

/* ---- pointers ---- */

CUresult
cuMemGetAddressRange(CUdeviceptr *base, size_t *size_bytes, CUdeviceptr address)
{
	CUresult result = standin_enter(__func__);
	const struct memory *memory = memory_of(address, 1);

	if (result == CUDA_SUCCESS && memory == NULL)
		result = CUDA_ERROR_NOT_FOUND;
	if (result == CUDA_SUCCESS) {
		*base = memory->base;
		*size_bytes = memory->size_bytes;
	}
	return standin_leave(result);
}

CUresult
cuPointerGetAttribute(void *out, CUpointer_attribute which, CUdeviceptr address)
{
	CUresult result = standin_enter(__func__);
	unsigned kind = CU_MEMORYTYPE_DEVICE;
	int ordinal = 0;

	if (result == CUDA_SUCCESS && memory_of(address, 1) == NULL)
		result = CUDA_ERROR_INVALID_VALUE;
	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	if (which == CU_POINTER_ATTRIBUTE_MEMORY_TYPE)
		memcpy(out, &kind, sizeof(kind));
	else if (which == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
		memcpy(out, &ordinal, sizeof(ordinal));
	else
		result = CUDA_ERROR_NOT_SUPPORTED;
	return standin_leave(result);
}

/* Virtual memory has no such attributes, as on an H100. */
CUresult
cuPointerSetAttribute(const void *value, CUpointer_attribute which, CUdeviceptr address)
{
	CUresult result = standin_enter(__func__);
	const struct memory *memory = memory_of(address, 1);

	(void)value;
	(void)which;
	if (result == CUDA_SUCCESS && (memory == NULL || memory->handle != 0))
		result = CUDA_ERROR_NOT_SUPPORTED;
	return standin_leave(result);
}

/* ---- at the end ---- */

unsigned
standin_memory_left(bool say)
{
	unsigned mapped = 0, handles = 0, addresses = 0, pinned = standin_pins_left(say);

	for (int i = 0; i < TABLE_MAX; i++) {
		mapped += memories[i].size_bytes != 0;
		handles += physicals[i].handle != 0;
		addresses += reservations[i].size_bytes != 0;
		if (say)
			continue;
		if (memories[i].size_bytes != 0 && memories[i].handle == 0)
			(void)close(memories[i].fd);
		if (memories[i].size_bytes != 0)
			memory_unmap(&memories[i]);
		if (physicals[i].handle != 0)
			(void)close(physicals[i].fd);
		physicals[i] = (struct physical){.handle = 0};
		if (reservations[i].size_bytes != 0)
			unreserve(&reservations[i]);
	}
	if (say && mapped + handles + addresses + pinned != 0)
		(void)fprintf(stderr,
			      "CUDA stand-in: left are %u memories, %u handles, %u ranges of "
			      "addresses, %u pinned ranges\n",
			      mapped, handles, addresses, pinned);
	return mapped + handles + addresses + pinned;
}
