/* mem.c - registrations: the host's with the inner transport, a GPU's there too if it can, else staged. */
#include <errno.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/log.h"
#include "transport/gpu/gpu_priv.h"

static void
path_set(struct gpu_transport *tp, enum far_gpu_path path, const char *why)
{
	struct far_gpu_path_status *status = &tp->status.paths[path];

	status->used = true;
	(void)snprintf(status->why, sizeof(status->why), "%s", why);
	far_log_info("GPU %s over %s: %s: %s", tp->device->info.pci, tp->ops.name,
		     far_gpu_path_name(path), why);
}

/* With the NIC, or not. */
static void
device_reg(struct gpu_transport *tp, const struct far_mem_source *source, uint32_t rights,
	   struct gpu_mem *mem)
{
	struct far_gpu_path_status *direct = &tp->status.paths[FAR_GPU_DIRECT];
	struct far_mem_source inner = *source;
	int rc = -EOPNOTSUPP;

	mem->device = true;
	inner.device_far = tp->config.direct_far;
	if ((tp->config.paths_off & (1U << FAR_GPU_DIRECT)) != 0)
		(void)snprintf(direct->why, sizeof(direct->why), "switched off");
	else
		rc = far_transport_mem_reg(tp->inner, &inner, rights, NULL, &mem->inner);
	if (rc == 0) {
		path_set(tp, FAR_GPU_DIRECT, "the NIC reads into the GPU's memory");
		return;
	}
	mem->inner = NULL;
	if (direct->why[0] == '\0')
		(void)snprintf(direct->why, sizeof(direct->why),
			       "%s does not reach the GPU's memory: %s", tp->ops.name,
			       far_err_name(rc));
	path_set(tp, FAR_GPU_STAGED, "through pinned memory of the host");
}

int
far_gpu_mem_reg(struct far_transport *ftp, const struct far_mem_source *source, uint32_t rights,
		struct far_link *only, struct far_mem **out)
{
	struct gpu_transport *tp = gpu_tp(ftp);
	struct gpu_mem *mem;
	int rc = 0;

	if (source->device != NULL && (source->device != tp->device || rights != FAR_RIGHT_LOCAL))
		return -EOPNOTSUPP;
	mem = far_zalloc(sizeof(*mem));
	if (mem == NULL)
		return -ENOMEM;
	if (source->device != NULL)
		device_reg(tp, source, rights, mem);
	else
		rc = far_transport_mem_reg(tp->inner, source, rights,
					   only == NULL ? NULL : gpu_link(only)->inner,
					   &mem->inner);
	if (rc < 0) {
		far_free(mem);
		return rc;
	}
	mem->mem = (struct far_mem){
		.tp = ftp,
		.base = source->base,
		.size_bytes = source->size_bytes,
		.rights = rights,
	};
	if (mem->inner != NULL)
		mem->mem.remote = mem->inner->remote;
	*out = &mem->mem;
	return 0;
}

void
far_gpu_mem_dereg(struct far_mem *fmem)
{
	struct gpu_mem *mem = gpu_mem(fmem);

	if (mem->inner != NULL)
		far_transport_mem_dereg(mem->inner);
	far_free(mem);
}

int
far_gpu_mem_expose(struct far_mem *fmem, struct far_link *flink)
{
	struct gpu_link *link = gpu_link(flink);

	if (link->inner == NULL)
		return -ENOTCONN;
	FAR_ASSERT(gpu_mem(fmem)->inner != NULL);
	return far_transport_mem_expose(gpu_mem(fmem)->inner, link->inner);
}
