/* doctor.h - what the doctor looks at, and each thing that it looks for. */
#ifndef FAR_TOOLS_CLI_DOCTOR_DOCTOR_H
#define FAR_TOOLS_CLI_DOCTOR_DOCTOR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/cli/doctor/report.h"
#include "transport/ucx/inspect.h"
#include "transport/verbs/inspect.h"

#define FAR_DOCTOR_ADDRESSES_MAX 128U
#define FAR_DOCTOR_GPUS_MAX      16U

/* What configurations, options and --to ask of this host: it turns "not here" into a failure. */
struct far_doctor_wanted {
	uint64_t host_bytes; /* an L1 in host memory, and what is to be lent; 0: not known */
	char what[96];       /* "l1.size of client.yaml"; "": nothing is known */
	bool huge_on;        /* huge_pages: on */
	int numa_node;       /* -1: any */
	bool verbs;
	bool ucx;
	bool fabric; /* trust: fabric */
	bool cuda;
};

/* An address of a network interface of this host. */
struct far_doctor_address {
	char interface[16];
	char text[INET6_ADDRSTRLEN];
	uint8_t gid[16]; /* as a GID has it: IPv4 is mapped */
	bool link_local;
};

struct far_doctor_gpu {
	char name[96];
	char driver[96];
	char pci[16];
	int numa_node;
	uint64_t memory_bytes;
	bool dma_buf;   /* it says that it can give its memory to NICs */
	int dma_buf_rc; /* of trying: 0, or why not */
};

/* What the driver of GPUs says. */
struct far_doctor_gpus {
	struct far_doctor_gpu gpus[FAR_DOCTOR_GPUS_MAX];
	size_t count;
	int rc; /* 0, or why there is none; -ETIMEDOUT: it did not answer */
	char error[256];
};

/* What is found out before it is judged, so that a test can make it up. */
struct far_doctor_host {
	const char *root; /* of /proc, /sys and /dev; "": the host's */
	struct far_doctor_wanted wanted;
	bool memory_fits; /* what is wanted, under every control group above us */
	int memfd_rc;     /* 0, or why a sealed memfd of one page cannot be had */
	struct far_doctor_address addresses[FAR_DOCTOR_ADDRESSES_MAX];
	size_t address_count;
	struct far_verbs_inspection verbs;
	struct far_ucx_inspection ucx;
	struct far_doctor_gpus gpu;
	bool hangs; /* a driver never answered: a thread of ours is in it, and exit() might wait for it */
};

/* How long one library may take, with all its devices: a driver of a broken one never answers. */
#define FAR_DOCTOR_LOOK_NS (30ULL * 1000000000ULL)

/* Looks at this host: opens RDMA devices, UCX and GPUs for a moment, all without touching what others
 * use. @host: root and wanted are the caller's, the rest is filled; rc is -ETIMEDOUT of what did not
 * answer. Blocks for FAR_DOCTOR_LOOK_NS for each of the three. Thread: any, once at a time. */
void far_doctor_look(struct far_doctor_host *host);

/* Calls @work with memory of @bytes, zeroed, in a thread of its own, and copies it to @out when it has
 * returned. Returns 0; -ETIMEDOUT: it has not, and the thread and its memory stay behind; -ENOMEM. */
int far_doctor_in_time(void (*work)(void *memory), void *out, size_t bytes, uint64_t timeout_ns);

/* Each judges one area, and adds its checks under its own heading. */
void far_doctor_machine(const struct far_doctor_host *host, struct far_doctor_report *report);
void far_doctor_memory(const struct far_doctor_host *host, struct far_doctor_report *report);
void far_doctor_rdma(const struct far_doctor_host *host, struct far_doctor_report *report);
void far_doctor_ucx(const struct far_doctor_host *host, struct far_doctor_report *report);
void far_doctor_gpus(const struct far_doctor_host *host, struct far_doctor_report *report);
/* rdma.c's, one port after the other: port.c. */
void far_doctor_ports(const struct far_doctor_host *host, const char *device,
		      struct far_doctor_report *report);

/* Whether this process may lock as much memory as it likes: CAP_IPC_LOCK. */
bool far_doctor_may_lock(const char *root);
/* RDMA devices that the kernel has. */
size_t far_doctor_rdma_count(const struct far_doctor_host *host);

#endif
