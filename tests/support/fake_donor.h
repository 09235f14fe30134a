/* fake_donor.h - a scripted donor over the loop fabric, made of wire/ alone, and a client beside it. */
#ifndef FAR_TESTS_SUPPORT_FAKE_DONOR_H
#define FAR_TESTS_SUPPORT_FAKE_DONOR_H

#include "base/rng.h"
#include "l2/l2.h"
#include "transport/loop/loop.h"
#include "wire/frame.h"
#include "wire/index.h"

#define FAKE_SEGMENT       7U
#define FAKE_SEGMENT_BYTES (32ULL << 20)
#define FAKE_LANE_BYTES    FAR_LANE_BYTES_MIN
#define FAKE_ARENA_BYTES   (16ULL << 20)
#define FAKE_EPOCH         0x1234567890abcdefULL
#define FAKE_TYPES         96U

/* What it does by itself; a test turns it off and sends frames of its own. */
struct fake_donor {
	struct far_loop_fabric *fabric;
	struct far_transport *tp;
	struct far_listener *listener;
	struct far_link_handler handler;
	struct far_link *link; /* NULL: nobody is connected */
	struct far_mem *index_mem;
	struct far_mem *segment_mem;
	uint8_t *index;
	uint8_t *segment;
	struct far_index_layout layout;
	struct far_index_header header;
	uint64_t epoch;
	uint64_t generation;

	char welcome_name[FAR_NAME_BYTES_MAX + 1];
	uint32_t welcome_rail;
	bool mute; /* answers nothing */
	bool welcomes;
	bool grants;    /* lanes from the start of the segment; else nothing */
	bool answers;   /* COMMIT with all stored, and a slot for each */
	uint32_t lanes; /* granted so far */
	struct far_mem *lane_mems[8];
	uint64_t lane_offsets[8];

	/* What it received. */
	uint32_t counts[FAKE_TYPES];
	uint64_t tags[FAKE_TYPES];              /* of the last frame of a type */
	uint32_t ends;                          /* COMMITs with END */
	uint32_t links;                         /* accepted since open */
	uint64_t last[FAR_FRAME_BYTES_MAX / 8]; /* the last frame */
	struct far_frame frame;                 /* the last frame, taken apart */
	struct far_frame_commit commit;
	struct far_frame_block blocks[FAR_COMMIT_BLOCKS_MAX];
};

/* The client's side, and both of them in time. */
struct fake_rig {
	struct far_loop_fabric *fabric;
	struct far_clock *clock;
	struct far_rng rng;
	struct fake_donor donor;
	struct far_transport *tp;
	struct far_mem *arena_mem;
	uint8_t *arena;
	struct far_l2 *l2;
	struct far_l2_status status;            /* filled by fake_rig_run() */
	const struct far_l2_memories *memories; /* before the client; NULL: none */
	bool device;                            /* before the client: as if the arena lay on one */
	struct far_helpers *helpers;            /* before the client; NULL: none */
};

/* A task of one item to many; its buffers are the caller's, in the arena. */
#define FAKE_ITEMS 300U
struct fake_task {
	struct far_l2_task task;
	struct far_l2_item items[FAKE_ITEMS];
	struct far_l2_piece pieces[FAKE_ITEMS];
	uint32_t ended;
};

/* Donor "fake" listening, client not started: change what the donor does, then connect. */
void fake_rig_open(struct fake_rig *rig);
/* The same on a fabric that tells checksums of WRITEs, see struct far_link. */
void fake_rig_open_summing(struct fake_rig *rig, uint32_t sums_from);
/* Opens the adapter; @verify: CRC of every load. */
void fake_rig_client(struct fake_rig *rig, bool verify);
/* The same for a donor of these addresses, of which @transport (NULL: any) may be used. Returns what
 * far_l2_open() returned. */
int fake_rig_client_at(struct fake_rig *rig, bool verify, const char *address,
		       const char *transport, char error[256]);
/* Opens the adapter and waits until it is up. */
void fake_rig_up(struct fake_rig *rig);
void fake_rig_close(struct fake_rig *rig);
void fake_rig_run(struct fake_rig *rig, uint64_t for_ns);

/* Frames to the client. */
void fake_donor_send(struct fake_donor *donor, enum far_frame_type type, uint64_t tag,
		     const void *body, const void *list, uint32_t count);
void fake_donor_grant(struct fake_donor *donor, uint64_t tag);
/* Puts a block of key @id into the segment at @offset and its slot into the index; returns where the
 * slot lies. The bytes are fake_byte(id, at). */
struct far_slot *fake_donor_put(struct fake_donor *donor, uint32_t id, uint64_t offset,
				uint32_t size_bytes);
/* Seals a slot that a test has changed, into the index. */
void fake_donor_slot_store(struct fake_donor *donor, struct far_slot *at, struct far_slot *slot);
/* Publishes (@size_bytes > 0) or clears line @line of the segment table. */
void fake_donor_segment_line(struct fake_donor *donor, uint32_t line, uint32_t segment,
			     uint64_t size_bytes);
void fake_donor_live_set(struct fake_donor *donor, uint64_t epoch, uint64_t index_state);

static inline uint8_t
fake_byte(uint32_t id, uint32_t at)
{
	return (uint8_t)(id * 31 + at * 7 + (at >> 8));
}
struct far_key fake_key(uint32_t id);

/* A task of @count blocks of keys @first and up, of @size_bytes each, in the arena from its start.
 * STORE: the buffers are filled. LOAD and LOOKUP: cleared. */
void fake_task_make(struct fake_rig *rig, struct fake_task *task, enum far_l2_kind kind,
		    uint32_t first, uint32_t count, uint32_t size_bytes);
/* Submits and runs until it ended, at most a second. */
void fake_task_run(struct fake_rig *rig, struct fake_task *task);
/* Whether item @i's buffer holds the bytes of its key. */
bool fake_bytes_are(const struct fake_task *task, uint32_t i, uint32_t id);

#endif
