/* index.h - the published index: header, segment table, sets of slots. Little-endian, checksummed.
 */
#ifndef FAR_WIRE_INDEX_H
#define FAR_WIRE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/key.h"

/*
 * One memory per namespace, readable by every client of it, written by the donor alone:
 *
 *   0                header           struct far_index_header, one page
 *   header.live_at   live line        struct far_index_live, 64 B: what changes (epoch, state)
 *   header.table_at  segment table    struct far_index_segment[table_count], 64 B each
 *   header.sets_at   slots            struct far_slot[set_count * FAR_SET_SLOTS], sets 256 B
 * aligned
 *
 * A reader copies a line, then checks it, then uses the copy. A line whose checksum does not match
 * was torn: it is read again a bounded number of times.
 */
#define FAR_INDEX_MAGIC      0x31304c4f4f505246ULL /* "FRPOOL01" */
#define FAR_INDEX_VERSION    2U
#define FAR_INDEX_PAGE_BYTES 4096U
#define FAR_SET_SLOTS        4U
#define FAR_SLOT_BYTES       64U
#define FAR_SET_BYTES        256U
#define FAR_PAGE_SETS        16U /* of a page of 4 KiB */
#define FAR_NAME_BYTES_MAX   63U /* donor and namespace names, without the terminator */
#define FAR_EPOCHS_MAX       8U
#define FAR_RAILS_MAX        8U
#define FAR_EXTENT_ALIGN     64U /* of every extent; FAR_EXTENT_ALIGN_BIG for 4 KiB and more */
#define FAR_EXTENT_ALIGN_BIG 4096U
#ifndef FAR_LANE_BYTES_MIN /* the simulation makes them small: more happens to them */
#define FAR_LANE_BYTES_MIN (4ULL << 20)
#endif
#define FAR_LANE_BYTES_MAX  (64ULL << 20)
#define FAR_BLOCK_BYTES_MAX FAR_LANE_BYTES_MAX

/* Fixed for the life of the memory. Integers little-endian. */
struct far_index_header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_bytes; /* sizeof: a reader refuses a smaller one */
	uint64_t features;     /* bits that a reader must know, or refuse */
	uint64_t index_bytes;  /* of this memory */
	uint64_t live_at;
	uint64_t table_at;
	uint64_t table_count;
	uint64_t sets_at;
	uint64_t set_count; /* > 0 */
	uint64_t hash_seed; /* of the two candidate sets */
	uint64_t segment_bytes;
	uint64_t lane_bytes;
	uint32_t slot_bytes; /* 64 */
	uint32_t set_slots;  /* 4 */
	uint32_t rail_count; /* lines per segment in the table */
	uint32_t reserved0;
	char donor[FAR_NAME_BYTES_MAX + 1];
	char name_space[FAR_NAME_BYTES_MAX + 1];
	/* For a successor over the same backing: who writes this (pid 0: nobody any more), and epochs not
	 * yet recovered. */
	uint64_t owner_pid;
	uint64_t owner_pidns_inode;
	uint8_t owner_boot_id[16];
	uint64_t recover_epochs[FAR_EPOCHS_MAX];
	uint64_t owner_start; /* of that process, in clock ticks since boot; a pid is used again */
	uint8_t reserved[48];
	uint64_t checksum; /* XXH64 of all before the owner fields, seed FAR_INDEX_MAGIC */
};

/* The line that every validation reads. */
struct far_index_live {
	uint64_t epoch;         /* random, never 0 */
	uint64_t table_version; /* grows with every change of the segment table */
	uint64_t state;         /* FAR_INDEX_* */
	uint64_t reserved[4];
	uint64_t checksum; /* XXH64 of the 56 bytes before, seed FAR_INDEX_MAGIC */
};

#define FAR_INDEX_SERVING    1U
#define FAR_INDEX_RECOVERING 2U
#define FAR_INDEX_CLOSING    3U

/* One rail of one segment. Line of segment s, rail r: any index; found by scanning, cached. */
struct far_index_segment {
	uint32_t segment; /* never repeats within an epoch; 0: empty line */
	uint16_t rail;
	uint16_t flags;       /* reserved, 0 */
	uint64_t remote_addr; /* of the segment's first byte */
	uint64_t size_bytes;
	uint8_t rkey[16];
	uint64_t reserved;
	uint64_t reserved1;
	uint64_t checksum; /* XXH64 of the 56 bytes before, seed epoch */
};

#define FAR_SLOT_NO_CRC (1U << 0) /* the writer could not compute one (GPU memory) */
#define FAR_SLOT_USED   (1U << 15)

/* One cache line; all zero: empty. */
struct far_slot {
	uint8_t key[FAR_KEY_BYTES];
	uint64_t generation; /* donor-wide counter, never repeats within an epoch */
	uint32_t segment;
	uint32_t offset_64;  /* of the extent in the segment, in 64 B units */
	uint32_t size_bytes; /* of the block, 1..lane */
	uint32_t crc32c;     /* of the block's bytes */
	uint32_t group;      /* the caller's tag */
	uint16_t flags;      /* FAR_SLOT_* */
	uint16_t reserved;
	uint64_t reserved1;
	uint64_t checksum; /* XXH64 of the 56 bytes before, seed epoch */
};

_Static_assert(sizeof(struct far_slot) == FAR_SLOT_BYTES, "a slot is one cache line");
_Static_assert(FAR_SET_BYTES == FAR_SET_SLOTS * FAR_SLOT_BYTES, "a set is its slots");
_Static_assert(sizeof(struct far_index_live) == 64, "one cache line");
_Static_assert(sizeof(struct far_index_segment) == 64, "one cache line");
_Static_assert(sizeof(struct far_index_header) <= FAR_INDEX_PAGE_BYTES, "one page");

enum far_slot_state {
	FAR_SLOT_EMPTY,
	FAR_SLOT_VALID,
	FAR_SLOT_TORN, /* checksum does not match: read again */
};

/* Where things lie, computed once by donor and client alike. */
struct far_index_layout {
	uint64_t live_at;
	uint64_t table_at;
	uint64_t table_count;
	uint64_t sets_at;
	uint64_t set_count;
	uint64_t index_bytes;
};

/**
 * far_index_layout_make - sizes an index: 2.5 slots per smallest block of @capacity_bytes.
 *
 * Returns: 0, or -EINVAL (a zero, or more than 2^40 slots).
 */
int far_index_layout_make(uint64_t capacity_bytes, uint64_t block_bytes_min, uint64_t table_count,
			  struct far_index_layout *out);

/* Donor: fills the checksum. Client: 0, or -EPROTO (magic, version, size, features, geometry that
 * contradicts itself or @mapped_bytes), -EBADMSG (checksum: torn, read again). */
void far_index_header_seal(struct far_index_header *header);
int far_index_header_check(const struct far_index_header *header, uint64_t mapped_bytes);
void far_index_live_seal(struct far_index_live *live);
int far_index_live_check(const struct far_index_live *live); /* 0, -EBADMSG */
void far_index_segment_seal(struct far_index_segment *line, uint64_t epoch);
int far_index_segment_check(const struct far_index_segment *line, uint64_t epoch);
void far_slot_seal(struct far_slot *slot, uint64_t epoch);
enum far_slot_state far_slot_check(const struct far_slot *slot, uint64_t epoch);

/*
 * The two candidate sets of a key; equal only if set_count is 1. Both are in one page, so that a lookup
 * needs one translation and not two; docs/decisions/both-sets-in-one-page.md.
 */
void far_index_sets(const struct far_key *key, uint64_t hash_seed, uint64_t set_count,
		    uint64_t sets_out[2]);

/* The bytes that a block of @size_bytes takes in a lane, and the alignment that it needs. */
static inline uint64_t
far_extent_align(uint64_t size_bytes)
{
	return size_bytes >= FAR_EXTENT_ALIGN_BIG ? FAR_EXTENT_ALIGN_BIG : FAR_EXTENT_ALIGN;
}

/* Copies one 64 B line out of memory that another process writes: eight relaxed 64-bit loads. */
void far_line_load(void *to, const void *from);
/* Stores one line into published memory: relaxed 64-bit stores, the checksum word last. */
void far_line_store(void *to, const void *from);

#endif
