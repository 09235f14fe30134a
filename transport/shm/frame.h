/* frame.h - what two processes say to each other over the socket of a link; one frame per packet. */
#ifndef FAR_TRANSPORT_SHM_FRAME_H
#define FAR_TRANSPORT_SHM_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "transport/transport.h"

/* Both ends run on one host, so fields are native; sizes are fixed, so that 32 and 64 bits agree. */
#define SHM_FRAME_MAGIC   0xfa5eU
#define SHM_FRAME_VERSION 1U

enum shm_frame_kind {
	SHM_FRAME_HELLO = 1,  /* opener -> acceptor, with the opener's control page */
	SHM_FRAME_WELCOME,    /* acceptor -> opener, with the acceptor's control page */
	SHM_FRAME_MEM,        /* a region exists; with a descriptor if the peer may map it */
	SHM_FRAME_MEM_GONE,   /* a region ended: unmap it */
	SHM_FRAME_MSG,        /* a message of the user's */
	SHM_FRAME_CREDIT,     /* nothing but the credits that every header carries */
	SHM_FRAME_WRITE,      /* pull these */
	SHM_FRAME_WRITE_DONE, /* pulled, all up to a sequence number */
	SHM_FRAME_KIND_END,
};

struct shm_frame_header {
	uint16_t magic;
	uint8_t version;
	uint8_t kind;
	uint32_t size_bytes; /* of the whole frame; has to be what the packet has */
	uint32_t credits;    /* messages that the receiver of this frame may send in addition */
	uint32_t zero;
};

#define SHM_FEATURE_SUMS (1ULL << 0) /* SHM_WRITE_SUM is understood */

/* HELLO and WELCOME may grow at the end; a reader takes what it knows. */
struct shm_frame_hello {
	uint64_t features; /* SHM_FEATURE_*; a bit is used where both have it */
	uint64_t nonce;    /* the first half of all remote keys of the sender */
	uint32_t credits;  /* messages that the receiver may send at first */
	uint32_t hello_bytes;
	uint8_t hello[FAR_HELLO_BYTES_MAX];
};

struct shm_frame_mem {
	uint64_t region;
	uint64_t size_bytes;
	uint64_t fd_offset;
	uint32_t rights; /* FAR_RIGHT_*, as registered */
	uint32_t zero;
};

struct shm_frame_mem_gone {
	uint64_t region;
};

#define SHM_WRITE_LAST (1U << 0) /* the last piece of its op */
#define SHM_WRITE_SUM  (1U << 1) /* on all pieces of an op: its CRC-32C is asked for */

/* One piece of a WRITE op. */
struct shm_frame_write {
	struct far_rkey rkey; /* where to: the receiver's region */
	uint64_t addr;
	uint64_t source; /* where from: the sender's region, announced before */
	uint64_t source_offset;
	uint64_t seq; /* of the op, by one more than the op before */
	uint32_t size_bytes;
	uint32_t flags;
};

#define SHM_WRITE_PIECES_MAX 128

/* Sums follow: uint32_t[sum_count], of the ops that ended with 0 and asked for one, in their order. */
struct shm_frame_write_done {
	uint64_t seq;   /* this op ended with @status; all before it that were not named, with 0 */
	int32_t status; /* 0 or a negative errno */
	uint32_t sum_count;
};

/* As it goes out. */
struct shm_frame_told {
	struct shm_frame_write_done done;
	uint32_t sums[SHM_WRITE_PIECES_MAX];
};

_Static_assert(sizeof(struct shm_frame_header) == 16, "frame header");
_Static_assert(sizeof(struct shm_frame_hello) == 56, "hello frame");
_Static_assert(sizeof(struct shm_frame_mem) == 32, "mem frame");
_Static_assert(sizeof(struct shm_frame_write) == 56, "write frame");
_Static_assert(sizeof(struct shm_frame_write_done) == 16, "write done frame");

#define SHM_FRAME_BYTES_MAX (sizeof(struct shm_frame_header) + FAR_MESSAGE_BYTES_MAX)

/* A frame taken apart: every length in it has been checked against the packet. */
struct shm_frame {
	enum shm_frame_kind kind;
	uint32_t credits;
	const uint8_t *body; /* points into the packet */
	size_t body_bytes;
	union {
		struct shm_frame_hello hello; /* HELLO and WELCOME */
		struct shm_frame_mem mem;
		struct shm_frame_mem_gone mem_gone;
		struct shm_frame_write_done write_done; /* its sums lie behind it, at @body */
		uint32_t write_count; /* WRITE: that many struct shm_frame_write at @body */
	} u;
};

/**
 * far_shm_frame_parse - takes any bytes apart.
 *
 * @packet: borrowed as long as @out is used, for its body.
 *
 * Returns: 0; -EPROTO for anything that this version of ours would not have sent.
 */
int far_shm_frame_parse(const void *packet, size_t size_bytes, struct shm_frame *out);

/* Fills a header for a body of that many bytes. */
void far_shm_frame_header_fill(struct shm_frame_header *header, enum shm_frame_kind kind,
			       size_t body_bytes, uint32_t credits);

#endif
