/* inspect.h - what the verbs libraries say of this host, and the way to a peer: for people, no link is made. */
#ifndef FAR_TRANSPORT_VERBS_INSPECT_H
#define FAR_TRANSPORT_VERBS_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/address.h"

#define FAR_VERBS_INSPECT_DEVICES 32U
#define FAR_VERBS_INSPECT_PORTS   4U

struct far_verbs_port_seen {
	uint32_t number;    /* from 1 */
	int rc;             /* 0, or why it cannot be asked */
	uint32_t mtu_bytes; /* that is active */
	uint32_t mtu_bytes_max;
	uint64_t message_bytes_max;
};

struct far_verbs_device_seen {
	char name[64]; /* "mlx5_0" */
	int rc;        /* 0: it was opened, and all that follows is known */
	char firmware[64];
	uint32_t reads_asked_max;  /* READs in flight that it can ask for, per link */
	uint32_t reads_served_max; /* and that it answers at a time */
	uint64_t region_bytes_max; /* of one registration */
	uint32_t sges_max;
	uint32_t completions_max; /* of one queue */
	uint32_t links_max;       /* queue pairs */
	int register_rc; /* of FAR_VERBS_INSPECT_BYTES: 0, or a negative errno as the system has it */
	uint32_t port_count;
	struct far_verbs_port_seen ports[FAR_VERBS_INSPECT_PORTS];
};

/* So much is registered with each device, to see whether it can be. */
#define FAR_VERBS_INSPECT_BYTES (2ULL << 20)

struct far_verbs_inspection {
	int rc;          /* 0: the libraries are here; -EOPNOTSUPP: not in this build; -ENODEV */
	char error[512]; /* of rc: what is missing, and the next step */
	uint32_t device_count;
	struct far_verbs_device_seen devices[FAR_VERBS_INSPECT_DEVICES];
};

/* Opens each device for a moment. @out: all of it is written. Thread: any. Blocks as drivers do. */
void far_verbs_inspect(struct far_verbs_inspection *out);

/* How links to a peer would go. */
struct far_verbs_route {
	char step[32];   /* "" or the one that failed: "address", "route" */
	char device[64]; /* "" until it is known */
	uint32_t port;
	int32_t gid_idx;                    /* -1: not known */
	char gid_type[16];                  /* "RoCE v2", "RoCE v1", "InfiniBand" */
	uint32_t mtu_bytes;                 /* of the path; 0: not known */
	char source[FAR_ADDRESS_BYTES_MAX]; /* our own address on the way */
};

/**
 * far_verbs_route_find - asks RDMA CM which device, port and GID links to an address would use.
 *
 * @address: "HOST:PORT", without the scheme; names are looked up.
 * @wait_ns: how long, for each of two steps.
 * @out:     all of it is written, also on failure: as far as it got.
 *
 * Nothing reaches the peer but what finding it takes (ARP, on InfiniBand a question to the subnet
 * manager). Thread: any. Blocks for a name's lookup and twice @wait_ns.
 * Returns: 0, or -EINVAL (no such address), -ENODEV (no libraries, no RDMA device on the way),
 *          -EHOSTDOWN (nobody has the address), -ETIMEDOUT, -EOPNOTSUPP (not in this build), -EMFILE, -ENOMEM.
 */
int far_verbs_route_find(const char *address, uint64_t wait_ns, struct far_verbs_route *out);

#endif
