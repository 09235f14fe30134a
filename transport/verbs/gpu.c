/* gpu.c - memory of a GPU: registered as a DMA-BUF, or through the peer-memory module. */
#include "transport/verbs/verbs_priv.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/mem/device.h"
#include "transport/mem/pci.h"

static const char *
name_of(const struct verbs_device *device)
{
	return far_verbs_lib->ibv_get_device_name(device->handle);
}

/* ---- how near ---- */

int
far_verbs_gpu_near(const struct far_device *gpu, const struct verbs_device *device,
		   const char *sysfs)
{
	const char *name = name_of(device);
	enum far_pci_distance distance;
	char link[256];
	char place[PATH_MAX];

	(void)snprintf(link, sizeof(link), "/sys/class/infiniband/%s/device", name);
	if (realpath(link, place) == NULL)
		return 0; /* no PCI device, soft-RoCE for one: registering it tells */
	distance = far_pci_distance(sysfs, gpu->info.pci, basename(place));
	if (distance == FAR_PCI_UNKNOWN || distance <= FAR_PCI_PXB)
		return 0;
	far_log_info(
		"verbs: %s and GPU %s are %s from one another, through a processor: its memory is "
		"not read directly (l1.gpu_direct: always does)",
		name, gpu->info.pci, far_pci_distance_name(distance));
	return -EOPNOTSUPP;
}

/* ---- registering ---- */

static void
slices_drop(struct ibv_mr **mrs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		/* One that the device does not end stays in the table, and is tried again. */
		if (mrs[i] != NULL && far_verbs_lib->ibv_dereg_mr(mrs[i]) == 0)
			mrs[i] = NULL;
	}
}

/* Slices as for the host's memory; @fd < 0: by address. Returns 0 or the errno, positive. */
static int
slices_register(const struct verbs_mem *mem, struct verbs_device *device, struct ibv_mr **mrs,
		unsigned access, int fd, uint64_t fd_offset)
{
	uint64_t slice_bytes = device->tp->slice_bytes;

	for (uint32_t i = 0; i < mem->slice_count; i++) {
		uint64_t offset = i * slice_bytes;
		uint64_t left = mem->mem.size_bytes - offset;
		uint64_t size = left < slice_bytes ? left : slice_bytes;
		uintptr_t iova = (uintptr_t)mem->mem.base + offset;

		if (fd >= 0)
			mrs[i] = far_verbs_lib->ibv_reg_dmabuf_mr(device->pd, fd_offset + offset,
								  size, iova, fd, (int)access);
		else
			mrs[i] = far_verbs_lib->ibv_reg_mr_iova2(device->pd, (void *)iova, size,
								 iova, access);
		if (mrs[i] == NULL) {
			int error = errno;

			slices_drop(mrs, i);
			return error > 0 ? error : EIO;
		}
	}
	return 0;
}

/* What an operator can do about it. */
static const char *
dma_buf_hint(int error)
{
	switch (error) {
	case EOPNOTSUPP:
	case EPROTONOSUPPORT:
	case ENOSYS:
		return "its driver has none: a kernel of 5.12 or newer, and mlx5, efa or irdma";
	case EFAULT:
	case ENOMEM:
		return "the BAR of the GPU may be too small, or full: nvidia-smi -q -d MEMORY";
	case EPERM:
	case EACCES:
		return "not allowed: look at cgroups and IOMMU groups";
	default:
		return "dmesg may say more";
	}
}

static int
by_dma_buf(struct verbs_mem *mem, struct verbs_device *device, struct ibv_mr **mrs, unsigned access,
	   char *why, size_t why_bytes)
{
	uint64_t offset = 0;
	int error, rc;
	int fd = -1;

	rc = far_device_dma_buf(mem->gpu, mem->mem.base, mem->mem.size_bytes, &fd, &offset);
	if (rc < 0) {
		(void)snprintf(why, why_bytes, "the GPU's driver gives none (%s)",
			       far_err_name(rc));
		return -EOPNOTSUPP;
	}
	error = slices_register(mem, device, mrs, access, fd, offset);
	(void)close(fd); /* registrations hold what they need */
	if (error == 0)
		return 0;
	(void)snprintf(why, why_bytes, "errno %d, %s", error, dma_buf_hint(error));
	return -EOPNOTSUPP;
}

/* Only kernels with NVIDIA's peer-memory interface know a GPU's addresses. */
static int
by_peer_memory(struct verbs_mem *mem, struct verbs_device *device, struct ibv_mr **mrs,
	       unsigned access, char *why, size_t why_bytes)
{
	int error = slices_register(mem, device, mrs, access, -1, 0);

	if (error == 0)
		return 0;
	(void)snprintf(why, why_bytes, "errno %d, %s", error,
		       error == EFAULT || error == EINVAL
			       ? "nvidia_peermem is not loaded, or this kernel has no place for it"
			       : "dmesg may say more");
	return -EOPNOTSUPP;
}

int
far_verbs_gpu_register(struct verbs_mem *mem, struct verbs_device *device, struct ibv_mr **mrs,
		       unsigned access)
{
	char dma_buf[192];
	char peer[192];
	const char *way = "as a DMA-BUF";
	int rc = by_dma_buf(mem, device, mrs, access, dma_buf, sizeof(dma_buf));

	if (rc < 0) {
		way = "as peer memory";
		rc = by_peer_memory(mem, device, mrs, access, peer, sizeof(peer));
	}
	if (rc < 0)
		far_log_warn("verbs: %s does not reach the memory of %s: DMA-BUF: %s; peer memory: "
			     "%s",
			     name_of(device), mem->gpu->info.name, dma_buf, peer);
	else
		far_log_info("verbs: %zu MiB of %s are registered with %s %s",
			     mem->mem.size_bytes >> 20, mem->gpu->info.name, name_of(device), way);
	return rc;
}
