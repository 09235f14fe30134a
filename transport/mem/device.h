/* device.h - memory that a processor cannot touch: an arena in it, and copies to and from it. */
#ifndef FAR_TRANSPORT_MEM_DEVICE_H
#define FAR_TRANSPORT_MEM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One GPU of this host, through the driver. Its memory is named by device addresses, which are numbers
 * here: nobody dereferences them. Errors are negative errno; the log has the driver's own name of what
 * failed. A device that reported an error of its context (-EIO) is failed for good: every later call
 * answers -EIO, and nothing of it is used again.
 *
 * The caller's current context is what it was after every call, and no stream but our own is used.
 */
struct far_device;

#define FAR_DEVICE_TEXT_BYTES 96

/* What a device can do, as its attributes say; asked once, at open. */
#define FAR_DEVICE_DMA_BUF      (1U << 0) /* its memory can be given to NICs as a DMA-BUF */
#define FAR_DEVICE_RDMA         (1U << 1) /* arenas are allocated fit for GPUDirect RDMA */
#define FAR_DEVICE_MAP_READONLY (1U << 2) /* host memory that is mapped read-only can be pinned */
#define FAR_DEVICE_EXPORT       (1U << 3) /* arenas have a descriptor for other processes */
#define FAR_DEVICE_FLUSH        (1U << 4) /* far_device_publish() has something to do for NIC writes */

struct far_device_info {
	char kind[8];                       /* "cuda" */
	char name[FAR_DEVICE_TEXT_BYTES];   /* "NVIDIA H100 80GB HBM3" */
	char driver[FAR_DEVICE_TEXT_BYTES]; /* "580.159.04, CUDA 13.0" */
	char pci[16];                       /* "0000:00:06.0"; "": not known */
	uint32_t ordinal;
	uint32_t flags; /* FAR_DEVICE_* */
	int numa_node;  /* that it is near to; -1: not known */
	uint64_t memory_bytes;
};

struct far_device_config {
	const char *kind;    /* "cuda" */
	uint32_t ordinal;    /* as the driver counts them: CUDA_VISIBLE_DEVICES applies */
	const char *library; /* NULL: "libcuda.so.1"; borrowed for the call */
};

/* One range of device memory for blocks. */
struct far_device_arena {
	void *base; /* device address, at least 64 KiB aligned if it was allocated here */
	uint64_t size_bytes;
	int fd; /* of the whole allocation, for other processes; -1: none; owned */
	bool adopted;
	uint64_t priv[2]; /* the device's */
};

enum far_copy_way {
	FAR_COPY_IN,  /* host -> device */
	FAR_COPY_OUT, /* device -> host */
	FAR_COPY_WAYS,
};

/* Copies of one owner thread: a stream for each way, so that they do not wait for one another. */
struct far_copier;

/* The table that a kind of device fills, wholly; call the functions below. */
struct far_device_ops {
	const char *kind;
	int (*open)(const struct far_device_config *config, struct far_device **out,
		    char error[256]);
	void (*close)(struct far_device *device);
	int (*arena_alloc)(struct far_device *device, uint64_t size_bytes,
			   struct far_device_arena *out);
	int (*arena_adopt)(struct far_device *device, void *base, uint64_t size_bytes,
			   struct far_device_arena *out);
	void (*arena_free)(struct far_device *device, struct far_device_arena *arena);
	int (*dma_buf)(struct far_device *device, const void *base, uint64_t size_bytes, int *fd,
		       uint64_t *offset);
	int (*pin)(struct far_device *device, void *base, size_t size_bytes, bool read_only);
	void (*unpin)(struct far_device *device, void *base);
	int (*copy)(struct far_device *device, enum far_copy_way way, void *to, const void *from,
		    size_t size_bytes);
	int (*publish)(struct far_device *device);

	int (*copier_open)(struct far_device *device, struct far_copier **out);
	void (*copier_close)(struct far_copier *copier);
	int (*copier_add)(struct far_copier *copier, enum far_copy_way way, void *to,
			  const void *from, size_t size_bytes, uint64_t *seq_out);
	int (*copier_submit)(struct far_copier *copier);
	int (*copier_poll)(struct far_copier *copier, enum far_copy_way way, uint64_t *done_out);
	int (*copier_arm)(struct far_copier *copier, int event_fd);
};

/* Kinds embed these. Read only for everybody else. */
struct far_device {
	const struct far_device_ops *ops;
	struct far_device_info info;
};
struct far_copier {
	struct far_device *device;
};

/**
 * far_device_open - loads the driver and takes the device's primary context.
 *
 * @out:   set only on success; owned: far_device_close(), after all that was made with it.
 * @error: one line, on failure: what is missing, and the next step.
 *
 * Thread:  any; every call here but those of a copier may come from any thread.
 * Returns: 0, or -EOPNOTSUPP (farpool was built without this kind), -ENODEV (no driver, or it is too
 *          old, or there is no such device), -EINVAL (unknown kind), -ENOMEM, -EIO.
 */
int far_device_open(const struct far_device_config *config, struct far_device **out,
		    char error[256]);

static inline void
far_device_close(struct far_device *device)
{
	if (device != NULL)
		device->ops->close(device);
}

/**
 * far_device_arena_alloc - device memory for blocks: one allocation, fit for GPUDirect RDMA where the
 * device is, its bytes undefined.
 *
 * @size_bytes: > 0; rounded up to what the device allocates in.
 * @out:        set only on success; owned: far_device_arena_free().
 *
 * Returns: 0, or -ENOMEM, -EIO.
 */
static inline int
far_device_arena_alloc(struct far_device *device, uint64_t size_bytes, struct far_device_arena *out)
{
	return device->ops->arena_alloc(device, size_bytes, out);
}

/* The same for memory that the caller has: borrowed until arena_free, which leaves it. Returns 0, or
 * -EINVAL: it does not lie, wholly, in one allocation of this device. */
static inline int
far_device_arena_adopt(struct far_device *device, void *base, uint64_t size_bytes,
		       struct far_device_arena *out)
{
	return device->ops->arena_adopt(device, base, size_bytes, out);
}

/* No copy or registration names it. Takes a zeroed struct; leaves it zeroed, fd -1. */
static inline void
far_device_arena_free(struct far_device *device, struct far_device_arena *arena)
{
	device->ops->arena_free(device, arena);
}

/* The range as a DMA-BUF: @base lies at @offset of it. The caller closes @fd. Returns 0, or
 * -EOPNOTSUPP, -EMFILE, -EIO. */
static inline int
far_device_dma_buf(struct far_device *device, const void *base, uint64_t size_bytes, int *fd,
		   uint64_t *offset)
{
	return device->ops->dma_buf(device, base, size_bytes, fd, offset);
}

/**
 * far_device_pin - host memory that the copy engine may read and write at any moment.
 *
 * @base, @size_bytes: whole pages, one mapping, there until far_device_unpin().
 * @read_only:         it is mapped read-only: only read.
 *
 * Slow: 45 ms per GiB on an H100, 100 on others. May run beside the copier of another thread.
 * Returns: 0, or -EOPNOTSUPP, -ENOMEM, -EINVAL, -EIO.
 */
static inline int
far_device_pin(struct far_device *device, void *base, size_t size_bytes, bool read_only)
{
	return device->ops->pin(device, base, size_bytes, read_only);
}

/* No copy names it. Before the memory is unmapped. */
static inline void
far_device_unpin(struct far_device *device, void *base)
{
	device->ops->unpin(device, base);
}

/* One copy, now: blocks until it is done. Any host memory. For tools and small things. Returns 0, or
 * -EIO: the target holds any bytes. */
static inline int
far_device_copy(struct far_device *device, enum far_copy_way way, void *to, const void *from,
		size_t size_bytes)
{
	return device->ops->copy(device, way, to, from, size_bytes);
}

/* What NICs have written before this call is visible to kernels that are launched after it. Copies
 * of a copier need no more than their end. Returns 0, or -EIO. */
static inline int
far_device_publish(struct far_device *device)
{
	return device->ops->publish(device);
}

/* ---- copies ---- */

/* Owned by the calling thread: far_copier_close(), when nothing is outstanding: asserted. Returns 0,
 * or -ENOMEM, -EIO. */
static inline int
far_copier_open(struct far_device *device, struct far_copier **out)
{
	return device->ops->copier_open(device, out);
}

static inline void
far_copier_close(struct far_copier *copier)
{
	if (copier != NULL)
		copier->device->ops->copier_close(copier);
}

/**
 * far_copier_add - one more copy, behind those of its way. What continues the copy before it on both
 * sides becomes one with it. It starts with far_copier_submit() at the latest.
 *
 * @seq_out: its number; they grow by way, and all up to the one that poll tells are done.
 *
 * Never blocks. The host side is pinned. Until it is done its target may be written, and its source
 * read, at any moment.
 * Returns: 0, or -EAGAIN (too many are outstanding: poll), -EIO (nothing was started).
 */
static inline int
far_copier_add(struct far_copier *copier, enum far_copy_way way, void *to, const void *from,
	       size_t size_bytes, uint64_t *seq_out)
{
	return copier->device->ops->copier_add(copier, way, to, from, size_bytes, seq_out);
}

/* Starts what was added, with one event behind it for each way. Returns 0, or -EIO. */
static inline int
far_copier_submit(struct far_copier *copier)
{
	return copier->device->ops->copier_submit(copier);
}

/**
 * far_copier_poll - how far the copies of one way are.
 *
 * @done_out: all up to this number are done: their bytes are there, for the processor (OUT) and for
 *            kernels that are launched from now on (IN).
 *
 * Returns: 0, or -EIO: the device failed; nothing of it moves any more, @done_out is all that was
 *          added, and those beyond what was told before hold any bytes.
 */
static inline int
far_copier_poll(struct far_copier *copier, enum far_copy_way way, uint64_t *done_out)
{
	return copier->device->ops->copier_poll(copier, way, done_out);
}

/* Before sleeping: writes to the eventfd when the oldest of what is outstanding now is done, of each
 * way: arm again after that. Returns 0; -EAGAIN: something is done already, or nothing is outstanding:
 * poll first. A device that fails writes nothing (the driver calls nobody then): sleep for a bounded
 * time, and poll. */
static inline int
far_copier_arm(struct far_copier *copier, int event_fd)
{
	return copier->device->ops->copier_arm(copier, event_fd);
}

#endif
