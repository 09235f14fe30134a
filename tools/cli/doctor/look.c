/* look.c - what the doctor finds out before he judges: addresses, libraries, GPUs. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pages.h"
#include "base/pages_limit.h"
#include "farpool/farpool.h"
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
gpus_look(void *memory)
{
	struct far_doctor_gpus *out = memory;

	for (uint32_t i = 0; i < FAR_DOCTOR_GPUS_MAX; i++) {
		struct far_device_config config = {.kind = "cuda", .ordinal = i};
		struct far_doctor_gpu *gpu = &out->gpus[i];
		struct far_device *device;
		char error[256] = "";
		int rc = far_device_open(&config, &device, error);

		if (rc < 0 && i == 0) {
			out->rc = rc;
			memcpy(out->error, error, sizeof(out->error));
		}
		if (rc < 0)
			return;
		memcpy(gpu->name, device->info.name, sizeof(gpu->name));
		memcpy(gpu->driver, device->info.driver, sizeof(gpu->driver));
		memcpy(gpu->pci, device->info.pci, sizeof(gpu->pci));
		gpu->numa_node = device->info.numa_node;
		gpu->memory_bytes = device->info.memory_bytes;
		gpu->dma_buf = (device->info.flags & FAR_DEVICE_DMA_BUF) != 0;
		gpu->dma_buf_rc = gpu->dma_buf ? dma_buf_try(device) : -EOPNOTSUPP;
		far_device_close(device);
		out->count++;
	}
}

static void
verbs_look(void *memory)
{
	far_verbs_inspect(memory);
}

static void
ucx_look(void *memory)
{
	far_ucx_inspect(memory);
}

/* ---- in time ---- */

/* Belongs to both until the second has let go of it. */
struct job {
	pthread_mutex_t mutex;
	pthread_cond_t ended;
	void (*work)(void *memory);
	bool done;
	bool left; /* nobody waits any more */
	_Alignas(16) char memory[];
};

static void *
job_run(void *arg)
{
	struct job *job = arg;
	bool left;

	job->work(job->memory);
	(void)pthread_mutex_lock(&job->mutex);
	job->done = true;
	left = job->left;
	(void)pthread_cond_signal(&job->ended);
	(void)pthread_mutex_unlock(&job->mutex);
	if (left)
		far_free(job);
	return NULL;
}

static int
job_start(struct job *job)
{
	pthread_condattr_t monotonic;
	pthread_attr_t detached;
	pthread_t thread;
	int error;

	(void)pthread_mutex_init(&job->mutex, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&job->ended, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	(void)pthread_attr_init(&detached);
	(void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &detached, job_run, job);
	(void)pthread_attr_destroy(&detached);
	return error == 0 ? 0 : -ENOMEM;
}

int
far_doctor_in_time(void (*work)(void *memory), void *out, size_t bytes, uint64_t timeout_ns)
{
	uint64_t until_ns = far_now_ns() + timeout_ns;
	struct timespec until = {.tv_sec = (time_t)(until_ns / FAR_NS_PER_S),
				 .tv_nsec = (long)(until_ns % FAR_NS_PER_S)};
	struct job *job = far_zalloc(sizeof(*job) + bytes);
	int rc = job == NULL ? -ENOMEM : 0;
	bool done;

	if (rc == 0) {
		job->work = work;
		rc = job_start(job);
	}
	if (rc < 0) {
		far_free(job);
		return rc;
	}
	(void)pthread_mutex_lock(&job->mutex);
	while (!job->done && rc == 0)
		rc = -pthread_cond_timedwait(&job->ended, &job->mutex, &until);
	done = job->done;
	job->left = !done;
	(void)pthread_mutex_unlock(&job->mutex);
	if (!done)
		return -ETIMEDOUT;
	memcpy(out, job->memory, bytes);
	far_free(job);
	return 0;
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

static void
libraries_look(struct far_doctor_host *host)
{
	const unsigned seconds = (unsigned)(FAR_DOCTOR_LOOK_NS / FAR_NS_PER_S);
	int rc;

	rc = far_doctor_in_time(verbs_look, &host->verbs, sizeof(host->verbs), FAR_DOCTOR_LOOK_NS);
	if (rc < 0) {
		host->verbs.rc = rc;
		(void)snprintf(host->verbs.error, sizeof(host->verbs.error),
			       "libibverbs did not answer in %u s: a device hangs", seconds);
	}
	host->hangs = rc == -ETIMEDOUT;
	rc = far_doctor_in_time(ucx_look, &host->ucx, sizeof(host->ucx), FAR_DOCTOR_LOOK_NS);
	if (rc < 0) {
		host->ucx.rc = rc;
		(void)snprintf(host->ucx.error, sizeof(host->ucx.error),
			       "UCX did not answer in %u s: a device hangs", seconds);
	}
	host->hangs = host->hangs || rc == -ETIMEDOUT;
	rc = far_doctor_in_time(gpus_look, &host->gpu, sizeof(host->gpu), FAR_DOCTOR_LOOK_NS);
	if (rc < 0) {
		host->gpu.rc = rc;
		(void)snprintf(host->gpu.error, sizeof(host->gpu.error),
			       "the GPU's driver did not answer in %u s", seconds);
	}
	host->hangs = host->hangs || rc == -ETIMEDOUT;
}

void
far_doctor_look(struct far_doctor_host *host)
{
	host->memory_fits = host->wanted.host_bytes == 0 ||
			    far_pages_fit(host->wanted.host_bytes, host->wanted.numa_node);
	host->memfd_rc = memfd_try();
	addresses_look(host);
	libraries_look(host);
}
