/* frame.h - what the two ends of a verbs link say to each other: private data of RDMA CM, then SENDs. */
#ifndef FAR_TRANSPORT_VERBS_FRAME_H
#define FAR_TRANSPORT_VERBS_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "transport/transport.h"

/* Little-endian, fixed sizes: both ends may be different builds. */
#define VERBS_HELLO_MAGIC   0x72616676U /* "vfar" */
#define VERBS_HELLO_VERSION 1U
/* One SEND, one receive buffer: another size is another version. */
#define VERBS_FRAME_BYTES      8192U
#define VERBS_FRAME_BODY_BYTES (VERBS_FRAME_BYTES - (uint32_t)sizeof(struct verbs_frame_header))
#define VERBS_CREDITS_MAX      4096U /* messages that one side may allow the other */
#define VERBS_FRAMES_MIN       4U    /* receive buffers that a side has at least */
#define VERBS_FRAMES_MAX       1024U

/* In CONNECT, with the user's hello, and in ACCEPT and REJECT, without. RDMA CM lets us have 56
 * bytes in the first, and fills up with zeros. */
struct verbs_hello {
	uint32_t magic;
	uint8_t version;
	uint8_t hello_bytes;
	uint16_t credits;  /* messages that the receiver of this may send at first */
	uint64_t nonce;    /* the first half of all remote keys of the sender */
	uint32_t features; /* none yet; a reader ignores what it does not know */
	uint16_t frames;   /* receive buffers that the sender has posted */
	uint16_t zero;
	uint8_t hello[FAR_HELLO_BYTES_MAX];
};
_Static_assert(sizeof(struct verbs_hello) == 56, "fits RDMA CM's private data");

enum verbs_frame_kind {
	VERBS_FRAME_MESSAGE = 1, /* a message of the user's, or a part of one */
	VERBS_FRAME_KEYS,        /* records: regions that the receiver may use */
	VERBS_FRAME_CREDIT,      /* nothing but what every header carries */
	VERBS_FRAME_KIND_END,
};

struct verbs_frame_header {
	uint8_t kind;
	uint8_t zero;
	uint16_t frames;      /* receive buffers that its sender has posted again */
	uint32_t credits;     /* messages that the receiver of this frame may send in addition */
	uint32_t body_bytes;  /* behind this header */
	uint32_t total_bytes; /* MESSAGE: of the whole, in its first part; 0 in the others */
};
_Static_assert(sizeof(struct verbs_frame_header) == 16, "messages behind it are aligned to 8");

/* A record of KEYS; behind it one key of the device for each slice, and a zero if they are odd. */
struct verbs_frame_key {
	struct far_rkey rkey; /* the name that the two users have for it */
	uint64_t base;        /* the address that the device knows its first byte by */
	uint64_t size_bytes;
	uint64_t slice_bytes; /* of each slice but the last */
	uint32_t rights;      /* FAR_RIGHT_REMOTE_* */
	uint32_t slice_count;
};
#define VERBS_SLICES_MAX                                                                           \
	((VERBS_FRAME_BODY_BYTES - (uint32_t)sizeof(struct verbs_frame_key)) / 8U * 2U)

static inline size_t
far_verbs_key_bytes(uint32_t slice_count)
{
	return sizeof(struct verbs_frame_key) + ((size_t)slice_count + 1) / 2 * 8;
}

/* @hello: NULL and 0 in an answer. */
void far_verbs_hello_fill(struct verbs_hello *out, uint64_t nonce, uint32_t credits,
			  const void *hello, size_t hello_bytes);
/* What a stranger sent. Returns 0, -EPROTO. *version_out: what it speaks, 0 if it is none of us. */
int far_verbs_hello_parse(const void *bytes, size_t size_bytes, struct verbs_hello *out,
			  uint8_t *version_out);
/* A frame as it was received. Returns 0, -EPROTO; *body_out lies in @bytes. */
int far_verbs_frame_parse(const void *bytes, size_t size_bytes, struct verbs_frame_header *out,
			  const uint8_t **body_out);
/* The record at *@at of KEYS, and its keys (@rkeys_out: not aligned); moves *@at behind it. Returns
 * 0, -ENOENT (there are no more), -EPROTO. */
int far_verbs_frame_next_key(const uint8_t *body, size_t body_bytes, size_t *at,
			     struct verbs_frame_key *out, const uint8_t **rkeys_out);

#endif
