/* look.c - what the doctor finds out before he judges: addresses, libraries, GPUs. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/pages.h"
#include "base/pages_limit.h"
#include "tools/cli/doctor/doctor.h"
#include "transport/mem/device.h"

#define GPU_TRY_BYTES (2ULL << 20)

/* ---- addresses ---- */

static void
address_take(struct far_doctor_host *host, const struct ifaddrs *it)
{
	struct far_doctor_address *address = &host->addresses[host->address_count];
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(address, 0, sizeof(*address));
	(void)snprintf(address->interface, sizeof(address->interface), "%.*s",
		       (int)strcspn(it->ifa_name, ":"), it->ifa_name);
	if (it->ifa_addr->sa_family == AF_INET) {
		memcpy(&in, it->ifa_addr, sizeof(in));
		address->gid[10] = 0xff;
		address->gid[11] = 0xff;
		memcpy(address->gid + 12, &in.sin_addr, 4);
		address->link_local = (ntohl(in.sin_addr.s_addr) >> 16) == 0xa9fe;
		(void)inet_ntop(AF_INET, &in.sin_addr, address->text, sizeof(address->text));
	} else {
		memcpy(&in6, it->ifa_addr, sizeof(in6));
		memcpy(address->gid, &in6.sin6_addr, 16);
		address->link_local = IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr);
		(void)inet_ntop(AF_INET6, &in6.sin6_addr, address->text, sizeof(address->text));
	}
	host->address_count++;
}

static void
addresses_look(struct far_doctor_host *host)
{
	struct ifaddrs *all = NULL;

	host->address_count = 0;
	if (getifaddrs(&all) < 0)
		return;
	for (const struct ifaddrs *it = all;
	     it != NULL && host->address_count < FAR_DOCTOR_ADDRESSES_MAX; it = it->ifa_next)
		if (it->ifa_addr != NULL && (it->ifa_flags & IFF_LOOPBACK) == 0 &&
		    (it->ifa_addr->sa_family == AF_INET || it->ifa_addr->sa_family == AF_INET6))
			address_take(host, it);
	freeifaddrs(all);
}

/* ---- GPUs ---- */

/* That the driver says it can is not all: a little of its memory is made a DMA-BUF. */
static int
dma_buf_try(struct far_device *device)
{
	struct far_device_arena arena = {.fd = -1};
	uint64_t offset;
	int fd = -1;
	int rc = far_device_arena_alloc(device, GPU_TRY_BYTES, &arena);

	if (rc < 0)
		return rc;
	rc = far_device_dma_buf(device, arena.base, arena.size_bytes, &fd, &offset);
	if (rc == 0)
		(void)close(fd);
	far_device_arena_free(device, &arena);
	return rc;
}

static void
gpus_look(struct far_doctor_host *host)
{
	host->gpu_count = 0;
	host->gpu_rc = 0;
	for (uint32_t i = 0; i < FAR_DOCTOR_GPUS_MAX; i++) {
		struct far_device_config config = {.kind = "cuda", .ordinal = i};
		struct far_doctor_gpu *gpu = &host->gpus[i];
		struct far_device *device;
		char error[256] = "";
		int rc = far_device_open(&config, &device, error);

		if (rc < 0 && i == 0) {
			host->gpu_rc = rc;
			memcpy(host->gpu_error, error, sizeof(host->gpu_error));
		}
		if (rc < 0)
			return;
		memset(gpu, 0, sizeof(*gpu));
		memcpy(gpu->name, device->info.name, sizeof(gpu->name));
		memcpy(gpu->driver, device->info.driver, sizeof(gpu->driver));
		memcpy(gpu->pci, device->info.pci, sizeof(gpu->pci));
		gpu->numa_node = device->info.numa_node;
		gpu->memory_bytes = device->info.memory_bytes;
		gpu->dma_buf = (device->info.flags & FAR_DEVICE_DMA_BUF) != 0;
		gpu->dma_buf_rc = gpu->dma_buf ? dma_buf_try(device) : -EOPNOTSUPP;
		far_device_close(device);
		host->gpu_count++;
	}
}

/* ---- all of it ---- */

static int
memfd_try(void)
{
	struct far_pages pages;
	int rc = far_pages_map_shared("farpool-doctor", 1, FAR_PAGES_HUGE_OFF, -1, &pages);

	if (rc == 0)
		far_pages_unmap(&pages);
	return rc;
}

void
far_doctor_look(struct far_doctor_host *host)
{
	host->memory_fits = host->wanted.host_bytes == 0 ||
			    far_pages_fit(host->wanted.host_bytes, host->wanted.numa_node);
	host->memfd_rc = memfd_try();
	addresses_look(host);
	far_verbs_inspect(&host->verbs);
	far_ucx_inspect(&host->ucx);
	gpus_look(host);
}
