/* donor_world.h - a donor that may do anything, and the adapter that reads from it. */
#ifndef FAR_TESTS_FUZZ_DONOR_WORLD_H
#define FAR_TESTS_FUZZ_DONOR_WORLD_H

#include "l2/l2.h"
#include "tests/fuzz/input.h"
#include "transport/loop/loop.h"
#include "wire/frame.h"

#define STEPS_MAX     64U
#define TASKS_MAX     12U
#define ITEMS_MAX     6U
#define PIECES_MAX    3U
#define SEEN_MAX      8U
#define ASKS_MAX      6U
#define KEYS          8U
#define LANE_BYTES    FAR_LANE_BYTES_MIN
#define SEGMENT_BYTES (2ULL * LANE_BYTES)
#define INDEX_BYTES   (4ULL * FAR_INDEX_PAGE_BYTES)
#define ITEM_BYTES    1024U
#define ARENA_BYTES   ((uint64_t)TASKS_MAX * ITEMS_MAX * ITEM_BYTES)
#define TABLE_COUNT   8U
#define SET_COUNT     8U
#define SEGMENT       7U
#define EPOCH         0x1234567890abcdefULL
#define SETTLE_NS     (20 * FAR_NS_PER_US)
#define CLOSE_NS      (10 * FAR_NS_PER_S)

/* An operation of the client's, and what the index said about its keys while it lived. */
struct op {
	struct far_l2_task task;
	struct far_l2_item items[ITEMS_MAX];
	struct far_l2_piece pieces[ITEMS_MAX][PIECES_MAX];
	struct far_slot seen[ITEMS_MAX][SEEN_MAX]; /* valid slots of the item's key */
	uint32_t seen_count[ITEMS_MAX];
	bool live;
};

struct ask {
	struct far_l2_listing listing;
	struct far_l2_listed entries[4];
	bool live;
};

struct world {
	struct input in;
	struct far_loop_fabric *fabric;
	struct far_clock *clock;
	struct far_rng rng;

	/* The donor. */
	struct far_transport *donor_tp;
	struct far_listener *listener;
	struct far_link_handler handler;
	struct far_link *link;
	bool disconnected;
	struct far_mem *index_mem, *segment_mem, *lane_mem;
	uint8_t *index, *segment;
	uint64_t tags[128]; /* of the last frame of a type */
	uint64_t serial;    /* of the last COMMIT */
	uint32_t count;     /* of its blocks */
	uint32_t generation;
	bool deaf;                               /* answers nothing by itself */
	bool closed;                             /* takes no links */
	uint64_t zeros_committed, zeros_deleted; /* results 0 in frames that were sent */

	/* The client. */
	struct far_transport *tp;
	struct far_mem *arena_mem;
	uint8_t *arena;
	struct far_l2 *l2;
	bool verify;
	uint64_t hint[FAR_L2_HINT_WORDS]; /* of the last lookup that hit */
	struct op ops[TASKS_MAX];
	struct ask asks[ASKS_MAX];
	uint32_t stats_live;
	uint64_t stored, deleted;
	uint64_t epoch_seen; /* when the index was looked at */
};

extern struct world world;

/* ---- donor_ops.c ---- */
struct far_key hostile_key_of(uint32_t id);
/* Notes the valid slots that live operations may go by: after each change of the index. */
void hostile_index_look(void);
/* The same if a welcome has changed what is valid. */
void hostile_epoch_look(void);
/* A far_loop_landing_fn: asserts that the bytes have a load that lives. */
void hostile_landing(void *arg, const void *addr, uint64_t size_bytes);
/* Keys from @first on; @how: number, pieces, range, hint, deadline. Nothing if all places are taken. */
void hostile_task_submit(enum far_l2_kind kind, uint8_t first, uint8_t how);
void hostile_list_submit(uint8_t how);
void hostile_stats_submit(uint8_t how);

/* ---- donor_peer.c ---- */
/* Any bytes; zero results in them count as said. Nothing without a link or a credit. */
void hostile_send(const void *bytes, size_t size_bytes);
/* A frame; @changes: so many of its bytes are other ones, as the input has them. */
void hostile_say(enum far_frame_type type, uint64_t tag, const void *body, size_t body_bytes,
		 const void *list, size_t list_bytes, uint32_t changes);
void hostile_welcome_say(uint32_t changes);
void hostile_grant_say(uint32_t changes);
void hostile_committed_say(uint8_t result, uint32_t changes);
void hostile_deleted_say(uint8_t result, uint32_t changes);
void hostile_status_say(uint8_t count, uint32_t changes);
void hostile_donor_disconnect(void);
void hostile_donor_event(struct far_link_handler *handler, const struct far_event *event);
struct far_link_handler *hostile_donor_accept(void *arg, struct far_link *link, const void *hello,
					      size_t hello_bytes);
/* The header with one of its words another; @field: which, 0: none. */
void hostile_header_write(uint8_t field, uint64_t value, bool seal);
void hostile_live_write(uint64_t epoch, bool seal);
/* A line of the segment table, a block and its slot; @how: what is wrong with them. */
void hostile_line_write(uint8_t line, uint8_t how, uint64_t value);
void hostile_slot_write(uint8_t id, uint8_t how, uint64_t value);
/* A byte of index or segment becomes another. */
void hostile_memory_poke(void);

#endif
