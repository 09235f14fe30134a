/* gpu.h - a transport around another one, whose local memory may lie on a GPU. */
#ifndef FAR_TRANSPORT_GPU_GPU_H
#define FAR_TRANSPORT_GPU_GPU_H

#include "transport/mem/device.h"
#include "transport/transport.h"

/*
 * It keeps the contract of transport.h, for all that the inner transport does, and takes registrations
 * with far_mem_source.device beside. Of lists that name such memory, each op goes one of three ways:
 *
 * direct: the inner transport registered the memory itself, and its device reads and writes it.
 * mapped: READs of memory of the same host: the copy engine reads the peer's mapping, in one step.
 * staged: READs land in a ring of pinned buffers and are copied on from there, WRITEs the other way;
 *         reads and copies overlap.
 *
 * A WRITE that is longer than a slice and refused for its bounds may have landed in part, within them.
 *
 * Host memory goes through as it is. The pieces of one op lie all on the device, or none. A completion
 * says that no READ, WRITE, copy or pin names the op's memory any more; CLOSED waits for that.
 */

enum far_gpu_path {
	FAR_GPU_DIRECT,
	FAR_GPU_MAPPED,
	FAR_GPU_STAGED,
	FAR_GPU_PATHS,
};

#define FAR_GPU_DEFAULT_STAGE_BYTES (64ULL << 20)
#define FAR_GPU_DEFAULT_SLICE_BYTES (4ULL << 20)

struct far_gpu_config {
	struct far_device *device; /* borrowed; outlives the transport */
	struct far_clock *clock;   /* borrowed */
	uint64_t stage_bytes;      /* the ring, 1 MiB .. 4 GiB; 0: 64 MiB */
	uint64_t slice_bytes;      /* the longest READ into it, 64 KiB .. stage / 4; 0: 4 MiB */
	/* As the inner transport was opened with: of what is on its way, copies included. 0: no limit. */
	uint64_t bytes_in_flight_max;
	uint64_t peer_bytes_in_flight_max;
	bool direct_far;    /* as far_mem_source.device_far */
	uint32_t paths_off; /* bits 1 << FAR_GPU_*: not to be taken; STAGED always is */
};

/* One way's share, and why it is taken or not: a line for people. */
struct far_gpu_path_status {
	bool used; /* by what is registered or mapped now */
	uint64_t ops, bytes;
	char why[160];
};

struct far_gpu_status {
	struct far_gpu_path_status paths[FAR_GPU_PATHS];
	uint64_t mapped_bytes; /* of peers' memory, pinned now */
	uint64_t stage_waits;  /* lists that waited for room in the ring */
	uint64_t copies_in, copies_out;
};

/**
 * far_gpu_open - wraps a transport that was just opened.
 *
 * @inner: taken on success: closed with the wrapper. Nothing of it is used directly any more.
 * @out:   set only on success; owned: far_transport_close(). ops->name is the inner one's.
 *
 * Thread:  the inner's owner. It has a thread of its own, which pins and unpins peers' memory.
 * Returns: 0, or -ENOMEM, -EMFILE, -EINVAL (sizes), -EIO; the inner one is the caller's still.
 */
int far_gpu_open(struct far_transport *inner, const struct far_gpu_config *config,
		 struct far_transport **out);

/* Of a transport that far_gpu_open() made. Thread: the owner. */
void far_gpu_status_get(const struct far_transport *tp, struct far_gpu_status *out);

/* "direct", "mapped", "staged". */
const char *far_gpu_path_name(enum far_gpu_path path);

#endif
