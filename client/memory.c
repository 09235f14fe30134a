/* memory.c - what L1 lies in, for those who ask: its kind, the ways to it, and copies by hand. */
#include "client/client_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "transport/gpu/gpu.h"

#define MEMORY_NS FAR_NS_PER_S

_Static_assert(FAR_CLIENT_TRANSPORTS_MAX *FAR_GPU_PATHS <= FAR_MEMORY_PATHS_MAX,
	       "far_memory_info.paths holds them all");

struct memory_call {
	struct far_call call;
	struct far_memory_info info;
};

static void
paths_collect(struct far_memory_info *info, const struct far_transport *tp)
{
	struct far_gpu_status status;

	far_gpu_status_get(tp, &status);
	info->mapped_bytes += status.mapped_bytes;
	info->stage_waits += status.stage_waits;
	info->copies_in += status.copies_in;
	info->copies_out += status.copies_out;
	for (int i = 0; i < FAR_GPU_PATHS; i++) {
		struct far_memory_path *path = &info->paths[info->path_count++];

		snprintf(path->transport, sizeof(path->transport), "%s", tp->ops->name);
		snprintf(path->path, sizeof(path->path), "%s",
			 far_gpu_path_name((enum far_gpu_path)i));
		snprintf(path->why, sizeof(path->why), "%s", status.paths[i].why);
		path->taken = status.paths[i].used;
		path->ops = status.paths[i].ops;
		path->bytes = status.paths[i].bytes;
	}
}

static bool
memory_answered(struct far_client *client, struct far_call *call, bool late)
{
	struct far_memory_info *info = &FAR_CONTAINER_OF(call, struct memory_call, call)->info;
	const struct far_client_arena *arena = &client->arena;

	(void)late;
	snprintf(info->kind, sizeof(info->kind), "%s",
		 arena->device != NULL ? arena->device->info.kind : "host");
	info->base = arena->base;
	info->l1_bytes = arena->size_bytes;
	call->rc = 0;
	if (arena->device == NULL)
		return true;
	memcpy(info->name, arena->device->info.name, sizeof(info->name));
	memcpy(info->driver, arena->device->info.driver, sizeof(info->driver));
	memcpy(info->pci, arena->device->info.pci, sizeof(info->pci));
	info->device = arena->device->info.ordinal;
	info->is_caller = arena->memory.adopted;
	for (size_t i = 0; i < client->transport_count; i++)
		paths_collect(info, client->transports[i]);
	return true;
}

int
far_client_memory_get(struct far_client *client, struct far_memory_info *info)
{
	struct memory_call *ask;
	size_t size_bytes;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (info == NULL || info->size_bytes < sizeof(*info))
		return -EINVAL;
	ask = far_call_new(sizeof(*ask));
	if (ask == NULL)
		return -ENOMEM;
	ask->call.answered = memory_answered;
	rc = far_call_wait(client, &ask->call, far_clock_now(client->clock) + MEMORY_NS);
	if (rc == 0) {
		size_bytes = info->size_bytes;
		memcpy(info, &ask->info, sizeof(*info));
		info->size_bytes = size_bytes;
	}
	far_call_release(&ask->call);
	return rc;
}

void
far_client_memory_path(const struct far_client *client, const char *transport, char out[16])
{
	struct far_gpu_status status;
	enum far_gpu_path path = FAR_GPU_STAGED;

	out[0] = '\0';
	if (client->arena.device == NULL)
		return;
	for (size_t i = 0; i < client->transport_count; i++) {
		if (strcmp(client->transports[i]->ops->name, transport) != 0)
			continue;
		far_gpu_status_get(client->transports[i], &status);
		if (status.paths[FAR_GPU_DIRECT].used)
			path = FAR_GPU_DIRECT;
		else if (status.paths[FAR_GPU_MAPPED].used)
			path = FAR_GPU_MAPPED;
		snprintf(out, 16, "%s", far_gpu_path_name(path));
	}
}

static bool
in_l1(const struct far_client *client, const void *at, size_t size_bytes)
{
	uint64_t offset_bytes = (uint64_t)(uintptr_t)at - (uint64_t)(uintptr_t)client->arena.base;

	return offset_bytes <= client->arena.size_bytes &&
	       size_bytes <= client->arena.size_bytes - offset_bytes;
}

int
far_memory_write(struct far_client *client, void *to, const void *from, size_t size_bytes)
{
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (from == NULL || !in_l1(client, to, size_bytes))
		return -EINVAL;
	return far_client_arena_write(&client->arena, to, from, size_bytes);
}

int
far_memory_read(struct far_client *client, void *to, const void *from, size_t size_bytes)
{
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (to == NULL || !in_l1(client, from, size_bytes))
		return -EINVAL;
	return far_client_arena_read(&client->arena, to, from, size_bytes);
}
