/* pin.c - host memory that the stand-in's copies may name. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/cuda_standin/standin_priv.h"

#define TABLE_MAX 256

struct pinned {
	uintptr_t base;
	size_t size_bytes; /* 0: none */
	bool read_only;
};

static struct pinned pins[TABLE_MAX];

bool
standin_is_pinned(const void *host, size_t size_bytes, bool write, bool *some)
{
	uintptr_t first = (uintptr_t)host;

	*some = false;
	for (int i = 0; i < TABLE_MAX; i++) {
		const struct pinned *pin = &pins[i];

		if (pin->size_bytes == 0 || first >= pin->base + pin->size_bytes ||
		    pin->base >= first + size_bytes)
			continue;
		*some = true;
		if (first >= pin->base && first + size_bytes <= pin->base + pin->size_bytes &&
		    !(write && pin->read_only))
			return true;
	}
	return false;
}

/* Of all its pages, as the kernel has them mapped. */
static bool
is_mapped(uintptr_t base, size_t size_bytes, bool write)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uintptr_t reached = base;
	char line[512];

	while (maps != NULL && reached < base + size_bytes &&
	       fgets(line, sizeof(line), maps) != NULL) {
		char *at;
		uintptr_t first = strtoul(line, &at, 16);
		uintptr_t end = strtoul(at + 1, &at, 16);
		const char *rights = at + 1;

		if (first <= reached && reached < end && rights[0] == 'r' &&
		    (!write || rights[1] == 'w'))
			reached = end;
	}
	if (maps != NULL)
		(void)fclose(maps);
	return reached >= base + size_bytes;
}

CUresult
cuMemHostRegister(void *base, size_t size_bytes, unsigned flags)
{
	CUresult result = standin_enter(__func__);
	bool read_only = (flags & CU_MEMHOSTREGISTER_READ_ONLY) != 0;
	uintptr_t first = (uintptr_t)base;
	struct pinned *new = NULL;

	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	if (read_only &&
	    standin.attributes[CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED] == 0)
		return standin_leave(CUDA_ERROR_NOT_SUPPORTED);
	if (size_bytes == 0 || !is_mapped(first, size_bytes, !read_only))
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	for (int i = 0; i < TABLE_MAX; i++) {
		struct pinned *pin = &pins[i];

		if (pin->size_bytes == 0)
			new = pin;
		else if (first < pin->base + pin->size_bytes && pin->base < first + size_bytes)
			return standin_leave(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
	}
	if (new == NULL)
		return standin_leave(CUDA_ERROR_OUT_OF_MEMORY);
	*new = (struct pinned){.base = first, .size_bytes = size_bytes, .read_only = read_only};
	return standin_leave(CUDA_SUCCESS);
}

CUresult
cuMemHostUnregister(void *base)
{
	CUresult result = standin_enter(__func__);

	for (int i = 0; i < TABLE_MAX; i++) {
		if (pins[i].size_bytes == 0 || pins[i].base != (uintptr_t)base)
			continue;
		if (standin_host_in_use(base, pins[i].size_bytes) && standin.failed == CUDA_SUCCESS)
			standin_misuse("pinned memory is let go of under a copy");
		pins[i].size_bytes = 0;
		return standin_leave(result);
	}
	standin_misuse("memory is unpinned that is not pinned");
	return standin_leave(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

unsigned
standin_pins_left(bool say)
{
	unsigned count = 0;

	for (int i = 0; i < TABLE_MAX; i++) {
		count += pins[i].size_bytes != 0;
		if (!say)
			pins[i].size_bytes = 0;
	}
	return count;
}
