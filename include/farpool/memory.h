/*
 * farpool/memory.h - memory that is not simply the host's: an L1 on a GPU, and a caller's own pool.
 */
#ifndef FARPOOL_MEMORY_H
#define FARPOOL_MEMORY_H

#include "farpool/farpool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- L1 in the memory of a GPU ---- */

/*
 * With far_client_options.l1_memory "cuda" every address of a block is a device address of that GPU:
 * far_block_data(), far_block_buffer() and far_prefetch_block() give pointers for kernels and copies,
 * and a processor that follows one crashes. What follows is all that is different.
 *
 * Reading: once a call here has said that a block is readable, kernels and copies that are launched
 * after it, on whatever stream, see its bytes. A kernel that runs already may not: it polls nothing.
 * The loan ends after they have: synchronise, or wait for an event, before far_release().
 *
 * Writing: before far_commit() whatever fills the buffer has completed: the caller has synchronised
 * with its stream or event. The client reads the buffer on a stream of its own, or a NIC does.
 *
 * Blocks are stored without a CRC, and verify_always is refused: no processor sees their bytes.
 */

/* Copies @size_bytes at @from, host memory, to @to, in a buffer that is reserved; GPU or not. Blocks.
 * Thread: any. Returns: 0; -EINVAL: not in L1; -EIO: the GPU failed, the target holds any bytes. */
FAR_API int far_memory_write(struct far_client *client, void *to, const void *from,
			     size_t size_bytes);
/* The other way, out of a readable block: @from is in L1. Blocks. Thread: any. Returns as above. */
FAR_API int far_memory_read(struct far_client *client, void *to, const void *from,
			    size_t size_bytes);

/* ---- memory of the caller's own ---- */

/*
 * For a server that has a pool of pages itself: blocks go from donors straight into pieces of it, and L1
 * is neither asked nor filled. docs/decisions/load-into-callers-memory.md
 */
struct far_memory; /* a range that pieces may lie in */
struct far_load;   /* blocks on their way */

/**
 * far_memory_register - lets blocks be loaded into a range of the caller's memory.
 *
 * @base: the caller's, borrowed until far_memory_unregister() or far_client_try_close() returned 0.
 * @kind: "host", or "cuda": on the GPU that L1 lies on, within one allocation.
 * @out:  set only on success.
 *
 * The client's thread moves nothing meanwhile: about 0.3 s per GiB over RDMA.
 *
 * Thread:  any. Blocks until @deadline_ns.
 * Returns: 0, or
 *          -EINVAL  an unknown kind, or memory that is not of that GPU, or in several allocations;
 *          -EOPNOTSUPP "cuda", and L1 is host memory; or a transport cannot take it;
 *          -EEXIST  it overlaps with L1, or with what is registered;
 *          -E2BIG   16 ranges are the most, or too many calls are waiting;
 *          -ETIMEDOUT the client's thread was busy: the range is borrowed until the client is closed;
 *          -ENOMEM, -EIO.
 */
FAR_API int far_memory_register(struct far_client *client, void *base, uint64_t size_bytes,
				const char *kind, uint64_t deadline_ns, struct far_memory **out);

/* Nothing reads or writes the range any more when this returned 0, and @memory is over. Thread: any.
 * Blocks until @deadline_ns. Returns: 0; -EBUSY: a load may still write to it, which is to be released
 * first; -ETIMEDOUT: call it again; -EBADF: it is over already; -EINVAL, -ENOMEM, -E2BIG: nothing was
 * asked. */
FAR_API int far_memory_unregister(struct far_memory *memory, uint64_t deadline_ns);

#define FAR_LOAD_PIECES_MAX 1024u /* of one key */

struct far_load_piece {
	void *addr; /* in a registered range, wholly */
	uint32_t size_bytes;
	uint32_t reserved;
};

struct far_load_key {
	struct far_key key;
	const struct far_load_piece
		*pieces; /* where its bytes go, in order; their sum is its length */
	uint32_t piece_count;
	uint32_t reserved;
};

/**
 * far_load - loads blocks from donors into pieces of registered memory.
 *
 * @keys:        copied, with their pieces. No two pieces overlap.
 * @count:       1..the client's prefetch.keys (default 4096).
 * @deadline_ns: of the answer: keys that have not ended then are answered -ETIMEDOUT, for good.
 * @out:         set only on success; owned: far_load_release().
 *
 * From here on the pieces may be written at any moment, until far_load_release() returned 0: also
 * behind the deadline, after a cancel, and those of keys that failed, which hold any bytes then.
 *
 * Thread:  any. Does not block.
 * Returns: 0, or -EINVAL: a piece lies in no registered range, a key is zero, has no pieces, or none
 *          with bytes; -E2BIG: 16 loads are live; -ENOMEM.
 */
FAR_API int far_load(struct far_client *client, const struct far_load_key *keys, size_t count,
		     uint64_t deadline_ns, struct far_load **out);

/* Waits until every key is answered. Thread: any. Blocks until @deadline_ns. Returns 0, or -ETIMEDOUT:
 * it goes on. */
FAR_API int far_load_wait(struct far_load *load, uint64_t deadline_ns);

/* One key's answer: 0: its pieces hold the block, for kernels that are launched from now on; -EAGAIN:
 * not decided yet; -ENOENT, -EHOSTDOWN, -ESTALE, -EMSGSIZE (another length), ...: a miss; -ETIMEDOUT,
 * -ECANCELED; -E2BIG: too many pieces for a transport; -EINVAL: no such key. Thread: any. */
FAR_API int far_load_result(struct far_load *load, size_t idx);

/* Keys that have not ended are answered -ECANCELED soon. Thread: any. Does not block. */
FAR_API void far_load_cancel(struct far_load *load);

/* Ends a load, which is cancelled if it has no answer yet. Thread: any, one at a time. Blocks until
 * @deadline_ns. Returns: 0: nothing names its pieces any more, and @load is over; -EBUSY: something
 * may still write to them: call it again; -EBADF: it is over already; -EINVAL: NULL. */
FAR_API int far_load_release(struct far_load *load, uint64_t deadline_ns);

/* A way that bytes take between one transport and a GPU. */
struct far_memory_path {
	char transport[16];
	char path[16];  /* "direct", "mapped", "staged": docs/gpu.md */
	char why[160];  /* why it is taken, or not */
	uint32_t taken; /* 1: by what is registered and mapped now */
	uint32_t reserved;
	uint64_t ops, bytes;
};

#define FAR_MEMORY_PATHS_MAX 12u

struct far_memory_info {
	size_t size_bytes;  /* sizeof(struct far_memory_info); set by the caller */
	char kind[8];       /* "host", "cuda"; what follows of a GPU is zero with "host" */
	char name[96];      /* "NVIDIA H100 80GB HBM3" */
	char driver[96];    /* "580.159.04, CUDA 13.0" */
	char pci[16];       /* "0000:00:06.0" */
	uint32_t device;    /* as its driver counts them */
	uint32_t is_caller; /* 1: far_client_options.l1_base */
	const void *base;   /* where L1 begins */
	uint64_t l1_bytes;
	uint64_t mapped_bytes; /* of donors' memory, pinned for the GPU now */
	uint64_t stage_waits;  /* lists that waited for room in a ring */
	uint64_t copies_in, copies_out;
	uint32_t path_count;
	uint32_t reserved;
	struct far_memory_path paths[FAR_MEMORY_PATHS_MAX]; /* three of each transport */
};

/* What L1 lies in, and how bytes get there. Thread: any. Blocks for at most 1 s. Returns: 0, -EINVAL,
 * -ETIMEDOUT, -ENOMEM, -E2BIG. */
FAR_API int far_client_memory_get(struct far_client *client, struct far_memory_info *info);

#ifdef __cplusplus
}
#endif

#endif
