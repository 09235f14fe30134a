/* arena.c - L1's memory, the host's or a GPU's, and what has to be known of it in one place. */
#include "client/arena.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/copy.h"
#include "base/log.h"
#include "base/publish.h"
#include "transport/gpu/gpu.h"

static int
host_check(const struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	const char *key = NULL;

	if (config->l1_device != 0)
		key = "l1.device";
	else if (config->l1_gpu_direct != FAR_DIRECT_NEAR)
		key = "l1.gpu_direct";
	else if (config->l1_gpu_mapped != 0)
		key = "l1.gpu_mapped";
	else if (config->l1_gpu_stage_bytes != FAR_GPU_DEFAULT_STAGE_BYTES)
		key = "l1.gpu_stage";
	else if (config->l1_gpu_slice_bytes != FAR_GPU_DEFAULT_SLICE_BYTES)
		key = "l1.gpu_slice";
	else if (config->l1_base != NULL)
		key = "l1_base";
	if (key == NULL)
		return 0;
	snprintf(error, FAR_PARAM_ERROR_BYTES,
		 "%s is given and l1.memory is host: it is for a GPU alone, write l1.memory: cuda "
		 "or "
		 "leave it out",
		 key);
	return -EINVAL;
}

int
far_client_arena_check(const struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	if (config->l1_memory == FAR_MEMORY_HOST)
		return host_check(config, error);
	if (config->verify != 0) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "verify is always and l1.memory cuda: the bytes of a block land on the "
			 "GPU, "
			 "and the processor that would check their CRC never sees them; write "
			 "verify: never (slots are validated all the same), or l1.memory: host");
		return -EINVAL;
	}
	if (config->l1_huge != FAR_PAGES_HUGE_AUTO || config->numa_node != 0) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "%s is given and l1.memory is cuda: it is for the host's memory, leave it "
			 "out (l1.device says which GPU)",
			 config->numa_node != 0 ? "l1.numa_node" : "l1.huge_pages");
		return -EINVAL;
	}
	if (config->l1_gpu_slice_bytes > config->l1_gpu_stage_bytes / 4) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "l1.gpu_slice is %llu and l1.gpu_stage %llu: four slices at least have "
			 "room "
			 "in the ring, lower the one or raise the other",
			 (unsigned long long)config->l1_gpu_slice_bytes,
			 (unsigned long long)config->l1_gpu_stage_bytes);
		return -EINVAL;
	}
	return 0;
}

static int
host_open(const struct far_client_config *config, struct far_client_arena *arena,
	  char error[FAR_PARAM_ERROR_BYTES])
{
	int rc = far_pages_map_shared("farpool-l1", config->l1_bytes,
				      (enum far_pages_huge)config->l1_huge,
				      (int)config->numa_node - 1, &arena->pages);

	if (rc < 0) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "l1.size %llu MiB cannot be mapped, %llu MiB are available: lower it or "
			 "free memory (%s)",
			 (unsigned long long)(config->l1_bytes >> 20),
			 (unsigned long long)(far_pages_available_bytes() >> 20), far_err_name(rc));
		return rc;
	}
	arena->base = arena->pages.base;
	arena->size_bytes = arena->pages.size_bytes;
	arena->fd = arena->pages.fd;
	return 0;
}

static int
device_memory_open(const struct far_client_config *config, struct far_client_arena *arena,
		   char error[FAR_PARAM_ERROR_BYTES])
{
	const struct far_device_info *info = &arena->device->info;
	int rc;

	if (config->l1_base != NULL) {
		rc = far_device_arena_adopt(arena->device, config->l1_base, config->l1_bytes,
					    &arena->memory);
		if (rc < 0)
			snprintf(error, FAR_PARAM_ERROR_BYTES,
				 "l1_base: these %llu bytes do not lie in one allocation of GPU %u "
				 "(%s): give memory of l1_device, as it was allocated",
				 (unsigned long long)config->l1_bytes, info->ordinal, info->name);
	} else {
		rc = far_device_arena_alloc(arena->device, config->l1_bytes, &arena->memory);
		if (rc < 0)
			snprintf(error, FAR_PARAM_ERROR_BYTES,
				 "l1.size %llu MiB cannot be had on GPU %u (%s, %llu MiB in all): "
				 "lower it or free memory there (%s)",
				 (unsigned long long)(config->l1_bytes >> 20), info->ordinal,
				 info->name, (unsigned long long)(info->memory_bytes >> 20),
				 far_err_name(rc));
	}
	if (rc < 0)
		return rc;
	arena->base = arena->memory.base;
	arena->size_bytes = arena->memory.size_bytes;
	arena->fd = arena->memory.fd;
	return 0;
}

int
far_client_arena_open(const struct far_client_config *config, struct far_client_arena *arena,
		      char error[FAR_PARAM_ERROR_BYTES])
{
	struct far_device_config device = {
		.kind = "cuda",
		.ordinal = (uint32_t)config->l1_device,
	};
	char cause[256] = "";
	int rc;

	if (config->l1_memory == FAR_MEMORY_HOST)
		return host_open(config, arena, error);
	rc = far_device_open(&device, &arena->device, cause);
	if (rc < 0) {
		snprintf(error, FAR_PARAM_ERROR_BYTES, "l1.memory is cuda: %s", cause);
		return rc;
	}
	return device_memory_open(config, arena, error);
}

void
far_client_arena_close(struct far_client_arena *arena)
{
	if (arena->device == NULL) {
		far_pages_unmap(&arena->pages);
	} else {
		if (arena->base != NULL)
			far_device_arena_free(arena->device, &arena->memory);
		far_device_close(arena->device);
	}
	arena->device = NULL;
	arena->base = NULL;
	arena->fd = -1;
}

int
far_client_arena_wrap(const struct far_client_arena *arena, const struct far_client_config *config,
		      struct far_clock *clock, struct far_transport **tp)
{
	struct far_gpu_config gpu = {
		.device = arena->device,
		.clock = clock,
		.stage_bytes = config->l1_gpu_stage_bytes,
		.slice_bytes = config->l1_gpu_slice_bytes,
		.direct_far = config->l1_gpu_direct == FAR_DIRECT_ALWAYS,
	};

	if (arena->device == NULL)
		return 0;
	if (config->l1_gpu_direct == FAR_DIRECT_NEVER)
		gpu.paths_off |= 1U << FAR_GPU_DIRECT;
	if (config->l1_gpu_mapped != 0)
		gpu.paths_off |= 1U << FAR_GPU_MAPPED;
	return far_gpu_open(*tp, &gpu, tp);
}

void
far_client_arena_source(const struct far_client_arena *arena,
			const struct far_client_config *config, struct far_mem_source *source)
{
	source->device = arena->device;
	source->device_far = config->l1_gpu_direct == FAR_DIRECT_ALWAYS;
}

int
far_client_arena_register(struct far_client_arena *arena, const struct far_mem_source *source,
			  struct far_transport *tp, struct far_mem **out)
{
	struct far_gpu_status status;
	int rc = far_transport_mem_reg(tp, source, FAR_RIGHT_LOCAL, NULL, out);

	if (rc < 0 || arena->device == NULL)
		return rc;
	far_gpu_status_get(tp, &status);
	if (status.paths[FAR_GPU_DIRECT].used)
		atomic_store_explicit(&arena->direct, true, memory_order_release);
	return 0;
}

int
far_client_arena_flush(struct far_client_arena *arena)
{
	far_mem_publish();
	/* What a copy engine wrote is there when its copy has ended; what a NIC wrote may need more. */
	if (atomic_load_explicit(&arena->direct, memory_order_acquire))
		return far_device_publish(arena->device);
	return 0;
}

void
far_client_arena_publish(void *arena)
{
	/* A device that fails here is failed for good, and has said so: no kernel of this process reads
	 * anything of it any more. */
	(void)far_client_arena_flush(arena);
}

int
far_client_arena_write(struct far_client_arena *arena, void *to, const void *from,
		       size_t size_bytes)
{
	if (arena->device != NULL)
		return far_device_copy(arena->device, FAR_COPY_IN, to, from, size_bytes);
	far_copy_stream(to, from, size_bytes);
	return 0;
}

int
far_client_arena_read(struct far_client_arena *arena, void *to, const void *from, size_t size_bytes)
{
	if (arena->device != NULL)
		return far_device_copy(arena->device, FAR_COPY_OUT, to, from, size_bytes);
	memcpy(to, from, size_bytes);
	return 0;
}
