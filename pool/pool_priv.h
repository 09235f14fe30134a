/* pool_priv.h - what the files of pool/ share: segments, lanes, links, and the shadow of the index. */
#ifndef FAR_POOL_POOL_PRIV_H
#define FAR_POOL_POOL_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "pool/pool.h"
#include "wire/frame.h"
#include "wire/index.h"

#define POOL_NONE UINT32_MAX
#define POOL_SEGMENTS_SPARE                                                                        \
	8U /* table lines beyond what the capacity needs: segments come and go */
#define POOL_SERIAL_BITS    20U /* low bits of a lane serial: the lane's index */
#define POOL_LANES_MAX      (1U << POOL_SERIAL_BITS)
#define POOL_OUT_BYTES      (256U << 10) /* answers that wait for a peer's credits, per link */
#define POOL_OUT_FRAMES_MAX 64U
#define POOL_TICK_NS        (100 * FAR_NS_PER_MS)
#define POOL_FREQUENCY_MAX  3U

/*
 * The way of a lane. Each state is a list; a lane joins at its end.
 *
 *   FREE -> REGISTERING -> OPEN -> (RECALLED) -> FENCING -> SEALED -> RESTING -> FREE
 *   FREE -> MERGING -> SEALED        the donor's own, for hot blocks that eviction moves
 *   RETIRED                          empty, in a segment that is being given back
 */
enum pool_lane_state {
	LANE_ABSENT, /* no segment behind it */
	LANE_FREE,
	LANE_REGISTERING, /* asked for, its write registration is on the way */
	LANE_OPEN,        /* written by its link; list in order of the last COMMIT */
	LANE_RECALLED,    /* as OPEN, asked back; list in order of the asking */
	LANE_FENCING,     /* ended; its registration, or its dead link, is not gone yet */
	LANE_SEALED,      /* holds blocks, nobody writes; list in order of age */
	LANE_MERGING,
	LANE_RESTING, /* emptied; left alone for the grace */
	LANE_RETIRED,
	LANE_STATE_COUNT
};

struct pool_link;

struct pool_lane {
	struct far_list node;      /* in the list of its state */
	struct far_list link_node; /* among its link's lanes, while it has a link */
	struct pool_link *link;    /* REGISTERING to FENCING; NULL in all other states */
	struct far_mem *mem;       /* owned write registration; NULL: none */
	enum pool_lane_state state;
	uint32_t first; /* its slots, in order of offsets; POOL_NONE: none */
	uint32_t last;
	uint32_t block_count;
	uint64_t block_bytes;
	uint64_t heat;       /* sum of its blocks' frequencies */
	uint64_t fill_bytes; /* everything below was written or skipped */
	uint64_t serial;     /* of its last grant */
	uint64_t tag;        /* of the LANE_ASK that waits for the registration */
	uint64_t since_ns;   /* last COMMIT, recall, or begin of rest */
	uint32_t passed;     /* how often eviction looked at it and took a colder one */
};

/* What the donor knows of a slot beside what it publishes. */
struct pool_note {
	uint32_t next; /* in its lane */
	uint32_t prev;
	uint32_t lane_frequency; /* (lane + 1) << 2 | frequency; 0: the slot is empty */
};

enum pool_segment_state {
	SEGMENT_ABSENT,
	SEGMENT_SERVING,
	SEGMENT_EMPTYING, /* its lanes are being emptied and recalled */
	SEGMENT_LEAVING,  /* no slot names it; waiting for every link to let go */
};

struct pool_segment {
	enum pool_segment_state state;
	uint32_t number;                     /* never repeats within an epoch */
	bool is_restored;                    /* a predecessor's, named by its slots */
	struct far_mem_source source;        /* borrowed memory */
	struct far_mem *mems[FAR_RAILS_MAX]; /* owned: one per rail */
	uint32_t lane_count;
	uint32_t lanes_retired;
	uint64_t recalled_ns;
	far_pool_drained_fn *done;
	void *done_arg;
};

enum pool_link_state {
	LINK_NEW, /* no HELLO yet */
	LINK_WELCOME,
	LINK_LINGERING, /* told to go; closed when it went, or at its deadline */
	LINK_ENDING, /* frames are dropped; its lanes are being fenced, then it is disconnected */
};

struct pool_link {
	struct far_link_handler handler;
	struct far_pool *pool;
	struct far_link *link; /* borrowed until its FAR_EV_CLOSED */
	uint32_t rail;         /* its transport's number */
	struct far_list node;  /* among the pool's links */
	struct far_list lanes; /* REGISTERING to FENCING */
	enum pool_link_state state;
	bool disconnected;       /* FAR_EV_CLOSED is on the way */
	uint32_t fences_waiting; /* lanes whose (de)registration the host has not answered */
	uint32_t lane_count;     /* REGISTERING, OPEN, RECALLED */
	uint64_t deadline_ns;    /* NEW and LINGERING; FAR_TIME_NEVER: none */
	uint64_t asked_ns;       /* last LANE_ASK */
	uint64_t waits_ns;       /* since when it is answered LANE_FULL; 0: it is not */
	uint64_t rejects_at_ns;  /* no REJECT of it is looked into before */
	uint8_t *out;            /* owned: frames that wait for a credit, each behind its length */
	uint32_t out_head;
	uint32_t out_tail;
	uint32_t out_count;
	bool *exposed; /* by segment index: the peer may hold its key */
};

struct far_pool {
	struct far_pool_config config;
	struct far_transport *tps[FAR_RAILS_MAX]; /* a rail each */
	uint32_t rail_count;
	struct far_clock *clock;
	struct far_rng *rng;
	struct far_pool_host *host; /* NULL: lanes are registered right here */

	/* index.c */
	struct far_index_layout layout;
	struct far_mem *index_mems[FAR_RAILS_MAX]; /* owned */
	uint8_t *index;                            /* borrowed */
	struct far_slot *slots;  /* in the index: written with far_line_store() alone */
	struct pool_note *notes; /* owned, one per slot */
	struct far_index_live live;
	uint64_t hash_seed;
	uint64_t generation; /* of the last slot stored */

	/* segment.c */
	struct pool_segment *segments; /* owned */
	uint32_t segment_slots;        /* of the array; a table line for each and rail */
	uint32_t segment_last;         /* number given last */
	uint32_t segment_count;
	uint32_t drains;         /* segments on their way out */
	uint64_t capacity_bytes; /* in segments that serve */

	/* lane.c */
	struct pool_lane *lanes; /* owned; lane i of segment s is s * lanes_per_segment + i */
	uint32_t lanes_per_segment;
	uint32_t lane_slots;
	struct far_list lists[LANE_STATE_COUNT];
	uint32_t counts[LANE_STATE_COUNT];
	uint64_t serial_last;

	/* evict.c */
	struct pool_lane *merge; /* the lane that hot blocks move to; NULL: none yet */
	uint64_t window_ns;      /* begin of the present window of demand */
	uint32_t window_lanes;   /* lanes asked for in it */
	uint32_t demand_lanes;   /* of the busiest window of late */
	uint64_t demand_ns;      /* since when they fade */

	/* recover.c */
	struct pool_recovery
		*recovery; /* owned; NULL: nothing of a predecessor's is to be looked at */

	/* link.c */
	struct far_list links;
	uint32_t link_count;
	uint64_t links_due_ns; /* no link has a deadline before this */

	bool growing;
	bool closing;
	bool ticked;
	uint64_t tick_due_ns;
	uint64_t opened_ns;
	uint64_t stats[FAR_STATUS_COUNT]; /* counters; gauges are computed when asked for */
	int32_t results[FAR_KEYS_MAX];
	uint64_t frame[FAR_FRAME_BYTES_MAX / sizeof(uint64_t)];
};

/* The lanes of a segment lie behind each other. */
static inline struct pool_lane *
far_pool_segment_lanes(const struct far_pool *pool, uint32_t segment_idx)
{
	return &pool->lanes[(size_t)segment_idx * pool->lanes_per_segment];
}

/* ---- index.c ---- */
/* @over: a predecessor's index is in @source. */
int far_pool_index_open(struct far_pool *pool, const struct far_mem_source *source, bool over);
void far_pool_index_close(struct far_pool *pool);
void far_pool_index_state_set(struct far_pool *pool, uint64_t state);
/* Publishes a segment's lines, or clears them where it does not serve. */
void far_pool_index_line_set(struct far_pool *pool, uint32_t segment_idx);
/* The slot of a key, or POOL_NONE. */
uint32_t far_pool_index_find(const struct far_pool *pool, const struct far_key *key);
/* Stores a block that far_pool_index_find() does not know; both sets full: drops the coldest. */
void far_pool_index_insert(struct far_pool *pool, struct pool_lane *lane,
			   const struct far_slot *block);
void far_pool_index_clear(struct far_pool *pool, uint32_t slot_idx);
/* The block lies elsewhere now: same slot, new place, new generation. */
void far_pool_index_repoint(struct far_pool *pool, uint32_t slot_idx, struct pool_lane *to,
			    uint64_t offset_bytes);
/* A predecessor's block, found good in its slot: sealed under this epoch, and its lane's. */
void far_pool_index_adopt(struct far_pool *pool, uint32_t slot_idx, struct pool_lane *lane,
			  const struct far_slot *block);
/* Clears the slot of a key that was not come to yet. False: there is none. */
bool far_pool_index_forget(struct far_pool *pool, const struct far_key *key);
void far_pool_index_touch(struct far_pool *pool, uint32_t slot_idx);
void far_pool_index_cool(struct far_pool *pool, uint32_t slot_idx);

static inline bool
far_pool_note_is_empty(const struct pool_note *note)
{
	return note->lane_frequency == 0;
}

static inline uint32_t
far_pool_note_lane(const struct pool_note *note)
{
	return (note->lane_frequency >> 2) - 1;
}

static inline uint32_t
far_pool_note_frequency(const struct pool_note *note)
{
	return note->lane_frequency & POOL_FREQUENCY_MAX;
}

/* ---- recover.c ---- */
/* Before the index is written: takes down what the predecessor left. 0, -ENOMEM. */
int far_pool_recover_open(struct far_pool *pool);
bool far_pool_recover_knows(const struct far_pool *pool, uint64_t epoch);
/* The new epoch is chosen: lists the old one and publishes ours. */
void far_pool_recover_begin(struct far_pool *pool);
/* A few milliseconds' work. True: there is more. */
bool far_pool_recover_step(struct far_pool *pool);
void far_pool_recover_close(struct far_pool *pool);

/* ---- pool.c ---- */
/* Registers memory with every rail: all of them, or none. */
int far_pool_mems_reg(struct far_pool *pool, const struct far_mem_source *source,
		      struct far_mem *out[FAR_RAILS_MAX]);
void far_pool_mems_dereg(struct far_mem *mems[FAR_RAILS_MAX]);

/* ---- segment.c ---- */
int far_pool_segments_open(struct far_pool *pool);
void far_pool_segments_close(struct far_pool *pool);
/* Ends drains that are through. Returns when to be called next. */
uint64_t far_pool_segments_tick(struct far_pool *pool, uint64_t now_ns, bool judge);
/* The link's peer uses none of its keys any more. -EPROTO: it was not asked to let go. */
int far_pool_segment_let_go(struct far_pool *pool, struct pool_link *link, uint32_t number);

/* ---- lane.c ---- */
int far_pool_lanes_open(struct far_pool *pool);
void far_pool_lane_state_set(struct far_pool *pool, struct pool_lane *lane,
			     enum pool_lane_state state);
uint32_t far_pool_lane_idx(const struct far_pool *pool, const struct pool_lane *lane);
struct pool_segment *far_pool_lane_segment(const struct far_pool *pool,
					   const struct pool_lane *lane);
uint64_t far_pool_lane_offset(const struct far_pool *pool, const struct pool_lane *lane);
/* Grants lanes, or answers LANE_FULL for those that cannot be had. */
void far_pool_lanes_ask(struct far_pool *pool, struct pool_link *link, uint32_t count,
			uint64_t tag);
/* The open lane of @link with this serial, or NULL. */
struct pool_lane *far_pool_lane_find(struct far_pool *pool, const struct pool_link *link,
				     uint64_t serial);
void far_pool_lane_end(struct far_pool *pool, struct pool_lane *lane);
void far_pool_lane_recall(struct far_pool *pool, struct pool_lane *lane);
/* Its link is closed, its registration gone: nothing can land in it any more. */
void far_pool_lane_fenced(struct far_pool *pool, struct pool_lane *lane);
/* Its last block went: it rests, if nobody writes it. */
void far_pool_lane_emptied(struct far_pool *pool, struct pool_lane *lane);
/* FREE again, or RETIRED where its segment goes away. */
void far_pool_lane_release(struct far_pool *pool, struct pool_lane *lane);
uint64_t far_pool_lanes_tick(struct far_pool *pool, uint64_t now_ns, bool judge);
uint32_t far_pool_lanes_open_max(const struct far_pool *pool);

/* ---- evict.c ---- */
/* One lane was asked for: eviction keeps ahead of that rate. */
void far_pool_demand_note(struct far_pool *pool, uint64_t now_ns);
/* At most one lane. True: there is more to do. */
bool far_pool_evict_step(struct far_pool *pool, uint64_t now_ns);
/* Seals the lane that hot blocks move to, if it is in this segment. */
void far_pool_merge_leave(struct far_pool *pool, const struct pool_segment *segment);

/* ---- link.c ---- */
void far_pool_links_open(struct far_pool *pool);
/* Sends, or queues behind what waits; too much waiting ends the link. */
void far_pool_link_send(struct pool_link *link, enum far_frame_type type, uint64_t tag,
			const void *body, const void *list, uint32_t count);
/* Exposes a segment, unless the link is on its way out. */
void far_pool_link_expose(struct pool_link *link, uint32_t segment_idx);
void far_pool_link_linger(struct pool_link *link, uint64_t deadline_ns);
/* Drops what comes, fences its lanes, disconnects. Idempotent. */
void far_pool_link_end(struct pool_link *link);
/* The peer broke the protocol: one line, counted, ended. */
void far_pool_link_breach(struct pool_link *link, const char *why);
/* Disconnects an ending link once no (de)registration of its lanes is under way. */
void far_pool_link_settle(struct pool_link *link);
uint64_t far_pool_links_tick(struct far_pool *pool, uint64_t now_ns, bool judge);

/* ---- serve.c ---- */
void far_pool_serve(struct pool_link *link, const void *msg, size_t msg_bytes);

#endif
