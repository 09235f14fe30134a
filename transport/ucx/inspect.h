/* inspect.h - what UCX says of this host: its version, its transports and devices. For people. */
#ifndef FAR_TRANSPORT_UCX_INSPECT_H
#define FAR_TRANSPORT_UCX_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAR_UCX_INSPECT_WAYS 128U

/* A transport of UCX's over a device. */
struct far_ucx_way {
	char transport[32]; /* "tcp", "rc_verbs" */
	char device[64];    /* "eth0", "mlx5_0:1" */
};

struct far_ucx_inspection {
	int rc;          /* 0; -EOPNOTSUPP: not in this build; -ENODEV, -ENOMEM */
	char error[512]; /* of rc: what is missing, and the next step */
	unsigned major, minor, release;
	char path[256]; /* of the library */
	bool emulates;  /* this version emulates GETs: it is refused with trust: fabric */
	uint32_t way_count;
	struct far_ucx_way
		ways[FAR_UCX_INSPECT_WAYS]; /* all that UCX finds, whatever farpool uses */
};

/* Loads UCX and makes a context with UCX's own settings for a moment. @out: all of it is written.
 * Thread: any. */
void far_ucx_inspect(struct far_ucx_inspection *out);

#endif
