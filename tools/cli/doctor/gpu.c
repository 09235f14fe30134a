/* gpu.c - the doctor on GPUs: the driver, whether NICs can reach their memory, and from how far. */
#include "tools/cli/doctor/files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/cli/doctor/doctor.h"
#include "transport/mem/pci.h"

/* How near each NIC is; the nearest decides. */
static void
distances_add(const struct far_doctor_host *host, const struct far_doctor_gpu *gpu,
	      struct far_doctor_report *report)
{
	static struct far_doctor_names devices;
	enum far_pci_distance nearest = FAR_PCI_UNKNOWN;
	char place[FAR_DOCTOR_PATH_MAX];

	(void)snprintf(place, sizeof(place), "%s%s", host->root, FAR_PCI_SYSFS);
	far_doctor_list(host->root, &devices, "/sys/class/infiniband");
	for (size_t i = 0; i < devices.count; i++) {
		enum far_pci_distance distance;
		char pci[64];

		if (!far_doctor_link(host->root, pci, sizeof(pci),
				     "/sys/class/infiniband/%s/device", devices.names[i]))
			continue;
		distance = far_pci_distance(place, gpu->pci, pci);
		far_doctor_more(report, "%s to %s", far_pci_distance_name(distance),
				devices.names[i]);
		nearest = distance < nearest ? distance : nearest;
	}
	if (nearest != FAR_PCI_PHB && nearest != FAR_PCI_SYS)
		return;
	far_doctor_worsen(report, FAR_DOCTOR_WARN);
	far_doctor_more(report, "a processor lies between it and each NIC: its blocks go through "
				"host memory");
	far_doctor_fix(report, "l1.gpu_direct: always    (slower on most machines: measure)");
}

static void
reach_add(const struct far_doctor_host *host, const struct far_doctor_gpu *gpu,
	  struct far_doctor_report *report)
{
	bool peermem = far_doctor_exists(host->root, "/sys/module/nvidia_peermem") ||
		       far_doctor_exists(host->root, "/sys/kernel/mm/memory_peers/nv_mem");

	if (gpu->dma_buf_rc == 0)
		far_doctor_more(report, "its memory can be given to NICs as a DMA-BUF");
	else
		far_doctor_more(report, "its memory cannot be given to NICs as a DMA-BUF: %s",
				gpu->dma_buf ? strerror(-gpu->dma_buf_rc)
					     : "the driver says that it does not");
	if (peermem)
		far_doctor_more(report, "nvidia_peermem is loaded");
	if (far_doctor_rdma_count(host) == 0)
		return;
	if (gpu->dma_buf_rc != 0 && !peermem) {
		far_doctor_worsen(report, FAR_DOCTOR_WARN);
		far_doctor_more(report, "NICs cannot reach it: its blocks go through host memory");
		far_doctor_fix(report, "NVIDIA's open kernel modules (515 on, Linux 5.12 on), or:");
		far_doctor_fix(report, "modprobe nvidia-peermem");
	}
	distances_add(host, gpu, report);
}

void
far_doctor_gpus(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	far_doctor_group(report, "GPU");
	if (host->gpu.count == 0) {
		far_doctor_add(report,
			       host->wanted.cuda || host->gpu.rc == -ETIMEDOUT ? FAR_DOCTOR_FAIL
									       : FAR_DOCTOR_NONE,
			       "CUDA", "%s", host->gpu.error);
		if (host->gpu.rc == -ETIMEDOUT)
			far_doctor_fix(report, "nvidia-smi; dmesg | grep -i nvrm");
		else if (host->wanted.cuda && host->gpu.rc == -EOPNOTSUPP)
			far_doctor_fix(report, "apt-get install nvidia-cuda-dev, then build again; "
					       "or l1.memory: host");
		else if (host->wanted.cuda)
			far_doctor_fix(report,
				       "nvidia-smi    (in a container: docker run --gpus all)");
	}
	for (size_t i = 0; i < host->gpu.count; i++) {
		const struct far_doctor_gpu *gpu = &host->gpu.gpus[i];
		char name[FAR_DOCTOR_NAME_MAX], memory[FAR_DOCTOR_SIZE_TEXT];

		(void)snprintf(name, sizeof(name), "GPU %zu", i);
		far_doctor_add(report, FAR_DOCTOR_OK, name, "%s, %s, driver %s", gpu->name,
			       far_doctor_size(gpu->memory_bytes, memory), gpu->driver);
		if (gpu->numa_node >= 0)
			far_doctor_more(report, "PCI %s, near NUMA node %d", gpu->pci,
					gpu->numa_node);
		else
			far_doctor_more(report, "PCI %s", gpu->pci);
		reach_add(host, gpu, report);
	}
}
