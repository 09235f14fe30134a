/* cuda_priv.h - a CUDA device, and what the files of this folder owe each other. */
#ifndef FAR_TRANSPORT_MEM_CUDA_CUDA_PRIV_H
#define FAR_TRANSPORT_MEM_CUDA_CUDA_PRIV_H

#include "transport/mem/cuda/lib.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/list.h"
#include "transport/mem/cuda/device.h"

struct cuda_device {
	struct far_device device;
	struct cuda_lib lib;
	CUdevice handle;
	CUcontext context;   /* the primary one; retained */
	_Atomic bool failed; /* its context reported an error that stays */
	bool vmm;            /* virtual memory management, with descriptors */
	bool rdma_vmm;       /* and allocations fit for GPUDirect RDMA */

	pthread_mutex_t copy_lock; /* of single copies */
	CUstream copy_stream;      /* made with the first of them; NULL: none */
};

static inline struct cuda_device *
cuda_device(struct far_device *device)
{
	return FAR_CONTAINER_OF(device, struct cuda_device, device);
}

/* Device addresses are pointers above, and numbers below. */
static inline CUdeviceptr
cuda_ptr(const void *address)
{
	return (CUdeviceptr)(uintptr_t)address;
}

/* Makes the device's context current. Returns 0, or -EIO: the device failed; then leave is not
 * called. */
int far_cuda_enter(struct cuda_device *device);
/* The caller's context is current again. */
void far_cuda_leave(struct cuda_device *device);
/* A result as ours; 0 for success. Errors that stay fail the device; those that nobody expects are in
 * the log. */
int far_cuda_rc(struct cuda_device *device, CUresult result, const char *what);
/* No other error is expected of @what: the device has failed. Returns -EIO. */
int far_cuda_fail(struct cuda_device *device, CUresult result, const char *what);

/* ---- arena.c ---- */
int far_cuda_arena_alloc(struct far_device *device, uint64_t size_bytes,
			 struct far_device_arena *out);
int far_cuda_arena_adopt(struct far_device *device, void *base, uint64_t size_bytes,
			 struct far_device_arena *out);
void far_cuda_arena_free(struct far_device *device, struct far_device_arena *arena);
int far_cuda_dma_buf(struct far_device *device, const void *base, uint64_t size_bytes, int *fd,
		     uint64_t *offset);

/* ---- copier.c ---- */
int far_cuda_copier_open(struct far_device *device, struct far_copier **out);
void far_cuda_copier_close(struct far_copier *copier);
int far_cuda_copier_add(struct far_copier *copier, enum far_copy_way way, void *to,
			const void *from, size_t size_bytes, uint64_t *seq_out);
int far_cuda_copier_submit(struct far_copier *copier);
int far_cuda_copier_poll(struct far_copier *copier, enum far_copy_way way, uint64_t *done_out);
int far_cuda_copier_arm(struct far_copier *copier, int event_fd);

#endif
