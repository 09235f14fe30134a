/* frame.h - control frames between client and donor: fixed, little-endian, bounded, fuzzed. */
#ifndef FAR_WIRE_FRAME_H
#define FAR_WIRE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/key.h"
#include "wire/index.h"

#define FAR_WIRE_VERSION    2U /* 2: WELCOME says which rail is the link's */
#define FAR_FRAME_BYTES_MAX 65536U
#define FAR_FRAME_OPTIONAL  (1U << 0)

enum far_frame_type {
#define FRAME(name, number, direction, text) FAR_FRAME_##name = (number),
#include "wire/frame.def"
#undef FRAME
};

/* Precedes every frame. */
struct far_frame_head {
	uint16_t type;
	uint16_t flags;      /* FAR_FRAME_OPTIONAL */
	uint32_t size_bytes; /* of the whole frame with this head; equal to the message's length */
	uint64_t tag;        /* chosen by the asker, returned in the answer */
};

struct far_frame_hello {
	uint32_t version;
	uint32_t reserved;
	uint64_t features;  /* bits that the sender knows */
	uint64_t client_id; /* random, for logs and per-client counters */
	char name_space[FAR_NAME_BYTES_MAX + 1];
	char donor[FAR_NAME_BYTES_MAX + 1];  /* the donor that the client means to reach; "": any */
	char client[FAR_NAME_BYTES_MAX + 1]; /* for people */
};

struct far_frame_welcome {
	uint32_t version;
	uint32_t rail; /* lines of the segment table with this number are for this link */
	uint64_t features;
	uint64_t epoch;
	uint64_t index_addr; /* far_remote of the index */
	uint8_t index_rkey[16];
	uint64_t index_bytes;
	char donor[FAR_NAME_BYTES_MAX + 1];
};

struct far_frame_refused {
	int32_t rc; /* negative errno of base/err.def */
	uint32_t reserved;
	char reason[128]; /* one line, terminated */
};

struct far_frame_lane_ask {
	uint32_t lane_count; /* how many more, 1..16 */
	uint32_t reserved;
};

struct far_frame_lane_grant {
	uint64_t serial; /* of the lane; never repeats within an epoch */
	uint32_t segment;
	uint32_t reserved;
	uint64_t offset_bytes; /* of the lane in the segment */
	uint64_t size_bytes;
	uint64_t write_addr; /* far_remote of the lane's write registration */
	uint8_t write_rkey[16];
};

struct far_frame_lane { /* LANE_RECALL */
	uint64_t serial;
};

/* One block of a COMMIT. */
struct far_frame_block {
	uint8_t key[FAR_KEY_BYTES];
	uint32_t offset_64; /* in the lane, 64 B units; grows along a lane */
	uint32_t size_bytes;
	uint32_t crc32c;
	uint32_t group;
	uint32_t flags; /* FAR_SLOT_NO_CRC */
	uint32_t reserved;
};

#define FAR_COMMIT_END (1U << 0) /* the lane is ended: I will not write to it again */

struct far_frame_commit {
	uint64_t serial;
	uint32_t flags; /* FAR_COMMIT_* */
	uint32_t count; /* blocks that follow: struct far_frame_block[count], 0 with END */
};

struct far_frame_committed {
	uint64_t serial;
	uint32_t count; /* int32_t[count] follow: 0 stored, -EEXIST had, else why not */
	uint32_t reserved;
};

struct far_frame_keys { /* TOUCH, DELETE; keys follow: uint8_t[count][16] */
	uint32_t count;
	uint32_t reserved;
};

struct far_frame_results { /* DELETED: int32_t[count] follow */
	uint32_t count;
	uint32_t reserved;
};

struct far_frame_reject {
	uint8_t slot[FAR_SLOT_BYTES]; /* as it was read */
};

struct far_frame_segment { /* SEGMENT_RECALL, SEGMENT_GONE */
	uint32_t segment;
	uint32_t reserved;
};

struct far_frame_status { /* uint64_t[count] follow, in the order of status.def */
	uint32_t count;
	uint32_t reserved;
};

enum far_status_idx {
#define STATUS(name, unit, text) FAR_STATUS_##name,
#include "wire/status.def"
#undef STATUS
	FAR_STATUS_COUNT
};

#define FAR_COMMIT_BLOCKS_MAX 1024U
#define FAR_KEYS_MAX          2048U

/* A frame taken apart: body and list point into the bytes that were given, which stay as they were
 * received (copied by the transport; aligned to 8). */
struct far_frame {
	struct far_frame_head head;
	const void *body; /* the struct of the type; NULL where it has none */
	const void *list; /* NULL if empty */
	uint32_t count;   /* items in the list */
};

/**
 * far_frame_decode - checks a frame wholly: type, sizes, counts, terminated strings, reserved zeros
 * ignored, known flags only.
 *
 * @msg: aligned to 8 bytes; any bytes whatever.
 * @out: points into @msg.
 *
 * Thread:  any.
 * Returns: 0; -EPROTO with nothing written; -EOPNOTSUPP: an unknown frame marked optional, ignore
 * it.
 */
int far_frame_decode(const void *msg, size_t size_bytes, struct far_frame *out);

/**
 * far_frame_encode - lays a frame into @out, 8 bytes aligned, of @out_bytes.
 *
 * @body, @list: as the type demands; asserted.
 *
 * Returns: the frame's length, or -EMSGSIZE if it does not fit.
 */
int far_frame_encode(enum far_frame_type type, uint64_t tag, const void *body, const void *list,
		     uint32_t count, void *out, size_t out_bytes);

/* "COMMIT"; "unknown" for others. */
const char *far_frame_name(uint16_t type);

#endif
