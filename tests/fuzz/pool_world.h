/* pool_world.h - a donor, its shell and three clients, with a book of who may write where. */
#ifndef FAR_TESTS_FUZZ_POOL_WORLD_H
#define FAR_TESTS_FUZZ_POOL_WORLD_H

#include "pool/pool_priv.h"
#include "tests/fuzz/input.h"
#include "transport/loop/loop.h"

#define CLIENTS        3U
#define GUESTS_MAX     48U
#define LANES_MAX      32U
#define ERRANDS_MAX    64U
#define GRANTS_MAX     8U
#define SEGMENTS_MAX   12U
#define STEPS_MAX      96U
#define LANE_BYTES     FAR_LANE_BYTES_MIN
#define SEGMENT_BYTES  (2 * LANE_BYTES)
#define CAPACITY_BYTES (3 * SEGMENT_BYTES)
#define HONEST_KEYS    32U /* committed only behind their own bytes; those above are lies */
#define KEYS           48U
#define SETTLE_NS      (20 * FAR_NS_PER_US)
#define LATE_BYTES     64U
#define LATE_AT        ((size_t)GRANTS_MAX * LANE_BYTES) /* in a client's bytes: behind its lanes */
#define LATE_FILL      0xee

/* A link as its acceptor sees it: the pool's own handler stands behind ours. */
struct guest {
	struct far_link_handler handler;
	struct far_link_handler *inner;
	struct far_link *link;
	bool closed;
};

/* What is known of a lane beside what the pool thinks. */
struct lane_watch {
	struct far_mem *mem;      /* its write registration, as long as it is there */
	bool asked;               /* a registration is under way */
	struct guest *must_close; /* it was open when this link began to end */
	struct guest *holder;     /* of the last registration */
};

struct errand {
	bool end;
	uint32_t lane;
	struct far_mem_source source;
	struct far_link *link;
	struct far_mem *mem;
};

struct grant {
	struct far_frame_lane_grant frame;
	uint64_t fill_bytes;
	bool ended; /* END was said, or the link is gone */
};

struct client {
	struct far_link_handler handler;
	struct far_transport *tp;
	struct far_link *link;
	struct far_mem *mem;
	uint8_t *bytes;
	char host[16];
	bool disconnected;
	struct grant grants[GRANTS_MAX];
	uint32_t granted;
	uint32_t recalled_segment;
};

struct world {
	struct input in;
	struct far_loop_fabric *fabric;
	struct far_clock *clock;
	struct far_rng rng;
	struct far_transport *tp;
	struct far_listener *listener;
	struct far_pool *pool;
	struct far_pool_host host;
	bool at_once; /* registrations are answered from inside the call */
	uint8_t *index;
	struct {
		uint8_t *base;
		uint32_t number;
	} segments[SEGMENTS_MAX];
	struct guest guests[GUESTS_MAX];
	uint32_t guest_count;
	struct lane_watch lanes[LANES_MAX];
	struct errand errands[ERRANDS_MAX];
	uint32_t errand_count;
	struct client clients[CLIENTS];
	uint64_t tick_ns;
	uint16_t mangle_at; /* of the next frame that is sent; 0: none */
	uint8_t mangle_with;
};

extern struct world world;

/* ---- keys; each has a size and bytes ---- */
struct far_key history_key_of(uint32_t id);
uint32_t history_size_of(uint32_t id);
void history_bytes_fill(uint32_t id, uint8_t *to);
bool history_bytes_are(uint32_t id, const uint8_t *bytes);

/* ---- the shell: what far_pool_host asks for; asserts that lanes are fenced before they are granted ---- */
void history_lane_register(struct far_pool_host *host, struct far_pool *pool, uint32_t lane,
			   const struct far_mem_source *source, struct far_link *link);
void history_lane_deregister(struct far_pool_host *host, struct far_pool *pool, uint32_t lane,
			     struct far_mem *mem);
/* Answers one of the questions that wait; @fail: a registration with -ENOMEM. */
void history_errand_pick(uint32_t which, bool fail);

/* ---- links: far_pool_accept() with us between the transport and the pool ---- */
struct far_link_handler *history_guest_accept(void *arg, struct far_link *link, const void *hello,
					      size_t hello_bytes);
struct guest *history_guest_of(const struct far_link *link);

/* ---- clients ---- */
void history_client_open(struct client *client);
void history_client_connect(struct client *client);
void history_client_disconnect(struct client *client);
/* Its process dies, and another one takes its place. */
void history_client_kill(struct client *client);
/* A frame of any content; mangled if the input said so before. */
void history_say(struct client *client, enum far_frame_type type, const void *body,
		 size_t body_bytes, const void *list, size_t list_bytes);

/* ---- time, for all; or while the donor's process gets no turn ---- */
void history_pass(uint64_t ns);
void history_stall(uint64_t ns);

/* ---- segments ---- */
void history_segment_lend(uint64_t size_bytes);
void history_segment_drain(uint32_t which);
uint8_t *history_slot_bytes(const struct far_slot *slot);

#endif
