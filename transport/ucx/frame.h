/* frame.h - what the two ends of a ucx link say to each other; one frame per active message. */
#ifndef FAR_TRANSPORT_UCX_FRAME_H
#define FAR_TRANSPORT_UCX_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "transport/transport.h"

/* Little-endian, fixed sizes: both ends may be different builds. */
#define UCX_FRAME_MAGIC   0xfa6dU
#define UCX_FRAME_VERSION 2U
/* Fits one segment of UCX's TCP transport (128 KiB: config.c sees to it) with its own headers: a
 * frame is never cut and put together again in memory that UCX would allocate for it. A UCX that is
 * sent a longer one than its own setting stops its process, so another size is another version. */
#define UCX_FRAME_BYTES_MAX 130560U
#define UCX_ALIGN_BYTES     8U
#define UCX_CREDITS_MAX     4096U /* that one side may give the other */

enum ucx_frame_kind {
	UCX_FRAME_HELLO = 1,  /* opener -> acceptor, first */
	UCX_FRAME_WELCOME,    /* acceptor -> opener, first */
	UCX_FRAME_STATE,      /* nothing but what every header carries */
	UCX_FRAME_MSG,        /* a message of the user's, or a part of one */
	UCX_FRAME_READ,       /* records: READs that are asked for */
	UCX_FRAME_DATA,       /* records with bytes: answers to READs */
	UCX_FRAME_WRITE,      /* records with bytes: WRITEs */
	UCX_FRAME_WRITE_DONE, /* placed, all up to a sequence number */
	UCX_FRAME_KEY,        /* records: regions that the receiver may GET from */
	UCX_FRAME_KIND_END,
};

struct ucx_frame_header {
	uint16_t magic;
	uint8_t version;
	uint8_t kind;
	uint32_t size_bytes; /* of the whole frame */
	uint32_t seq;        /* one more than the frame before: UCX promises no order, so we look */
	uint32_t credits;    /* messages that the receiver of this frame may send in addition */
	uint32_t acked;      /* bytes of DATA and WRITE that its sender has taken in, modulo 2^32 */
	uint32_t zero;
};

/* Bits of features. */
#define UCX_FEATURE_GET (1ULL << 0) /* READs are GETs: its sender says KEYs, and answers no READ */

/* HELLO and WELCOME may grow at the end; a reader takes what it knows. */
struct ucx_frame_hello {
	uint64_t features;  /* UCX_FEATURE_*; others may come, and are used where both have them */
	uint64_t nonce;     /* the first half of all remote keys of the sender */
	uint32_t credits;   /* messages that the receiver may send at first */
	uint32_t reads_max; /* READs that the receiver may have asked for at a time */
	uint32_t window_bytes; /* bytes of DATA and WRITE that the receiver may have on the way */
	uint32_t hello_bytes;
	uint8_t hello[FAR_HELLO_BYTES_MAX];
};

/* Bytes of the message follow. */
struct ucx_frame_msg {
	uint32_t message_bytes;
	uint32_t offset; /* of this part; parts come in order */
};

#define UCX_FLAG_FENCE 1U /* READ: after all before it in its list */
#define UCX_FLAG_LAST  2U /* DATA, WRITE: the op ends here */

struct ucx_frame_read {
	struct far_rkey rkey;
	uint64_t addr;
	uint64_t size_bytes;
	uint32_t id;   /* given back with the data */
	uint16_t list; /* READs of one list are served in their order; lists overtake each other */
	uint16_t flags;
};

/* The bytes follow, padded to UCX_ALIGN_BYTES. */
struct ucx_frame_data {
	uint32_t id;
	uint32_t size_bytes;
	uint64_t offset;
	int32_t status; /* 0, or why the READ ends without its bytes */
	uint32_t flags;
};

/* The bytes follow, padded to UCX_ALIGN_BYTES. */
struct ucx_frame_write {
	struct far_rkey rkey;
	uint64_t addr;     /* of the op: all of it is checked before any of it lands */
	uint64_t op_bytes; /* parts of an op come in order */
	uint64_t seq;      /* of the op, one more than the op before */
	uint32_t size_bytes;
	uint32_t flags;
};

struct ucx_frame_write_done {
	uint64_t seq;   /* this op ended with @status; all before it with 0 */
	int32_t status; /* 0 or a negative errno */
	uint32_t zero;
};

#define UCX_KEY_BYTES_MAX 512U /* of UCX's packed keys; those of one device have 20 to 40 */

/* The packed key follows, padded to UCX_ALIGN_BYTES. */
struct ucx_frame_key {
	struct far_rkey rkey;
	uint64_t base; /* where the region begins in the memory of its owner */
	uint64_t size_bytes;
	uint32_t rights;    /* FAR_RIGHT_REMOTE_* */
	uint32_t key_bytes; /* 0: it cannot be read */
};

_Static_assert(sizeof(struct ucx_frame_header) == 24, "frame header");
_Static_assert(sizeof(struct ucx_frame_hello) == 64, "hello frame");
_Static_assert(sizeof(struct ucx_frame_msg) == 8, "message frame");
_Static_assert(sizeof(struct ucx_frame_read) == 40, "read record");
_Static_assert(sizeof(struct ucx_frame_data) == 24, "data record");
_Static_assert(sizeof(struct ucx_frame_write) == 48, "write record");
_Static_assert(sizeof(struct ucx_frame_write_done) == 16, "write done frame");
_Static_assert(sizeof(struct ucx_frame_key) == 40, "key record");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "frames are written as they lie in memory");

/* A frame taken apart: its size, and that its records fill it exactly, has been checked. */
struct ucx_frame {
	enum ucx_frame_kind kind;
	uint32_t seq;
	uint32_t credits;
	uint32_t acked;
	const uint8_t *body; /* points into the packet */
	size_t body_bytes;
	union {
		struct ucx_frame_hello hello; /* HELLO and WELCOME */
		struct ucx_frame_msg msg;     /* MSG: its bytes are body, body_bytes */
		struct ucx_frame_write_done write_done;
	} u;
};

/**
 * far_ucx_frame_parse - takes any bytes apart.
 *
 * @packet: borrowed as long as @out is used, for its body; any alignment.
 *
 * Returns: 0; -EPROTO for anything that this version of ours would not have sent.
 */
int far_ucx_frame_parse(const void *packet, size_t size_bytes, struct ucx_frame *out);

/*
 * The next record of a DATA, WRITE or KEY frame that was parsed, from *at on, which moves behind
 * it. Returns its bytes, or NULL at the end.
 */
const uint8_t *far_ucx_frame_next_data(const struct ucx_frame *frame, size_t *at,
				       struct ucx_frame_data *out);
const uint8_t *far_ucx_frame_next_write(const struct ucx_frame *frame, size_t *at,
					struct ucx_frame_write *out);
const uint8_t *far_ucx_frame_next_key(const struct ucx_frame *frame, size_t *at,
				      struct ucx_frame_key *out);

/* What a record with that many bytes takes in a frame. */
static inline size_t
far_ucx_padded(size_t size_bytes)
{
	return (size_bytes + UCX_ALIGN_BYTES - 1) / UCX_ALIGN_BYTES * UCX_ALIGN_BYTES;
}

#endif
