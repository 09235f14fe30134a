/* pool_rig.h - a donor and its clients over the simulated fabric: frames by hand, bytes by READ. */
#ifndef FAR_TESTS_SUPPORT_POOL_RIG_H
#define FAR_TESTS_SUPPORT_POOL_RIG_H

#include "pool/pool.h"
#include "transport/loop/loop.h"

#define RIG_CLIENTS_MAX  8
#define RIG_SEGMENTS_MAX 16
#define RIG_GRANTS_MAX   32
#define RIG_LANE_BYTES   FAR_LANE_BYTES_MIN

struct rig;

/* A client that speaks frames as a test tells it to. */
struct rig_client {
	struct far_link_handler handler;
	struct rig *rig;
	struct far_transport *tp;
	struct far_link *link; /* NULL before connect and after FAR_EV_CLOSED */
	struct far_mem *mem;   /* of its bytes */
	uint8_t *bytes;        /* one lane's worth: the source of its WRITEs */
	char host[16];
	bool connected;
	bool lost;
	bool disconnected;
	int answers[128]; /* frames received, by type */
	struct far_frame_welcome welcome;
	struct far_frame_refused refused;
	struct far_frame_lane_grant grants[RIG_GRANTS_MAX]; /* open lanes, in order of granting */
	uint64_t fill[RIG_GRANTS_MAX];
	int grant_count;
	uint64_t recalled; /* serial of the last LANE_RECALL */
	uint32_t segment_recalled;
	int32_t results[FAR_KEYS_MAX]; /* of the last COMMITTED or DELETED */
	uint32_t result_count;
	uint64_t status[FAR_STATUS_COUNT];
	uint64_t tag;      /* of the last frame received */
	uint64_t tag_next; /* of the next frame sent, then counted up; 0: always 42 */
	uint64_t tokens;
	uint64_t tokens_done;
};

struct rig {
	struct far_pool_config config;
	struct far_loop_fabric *fabric;
	struct far_clock *clock;
	struct far_transport *tp;
	struct far_listener *listener;
	struct far_pool *pool;
	struct far_rng rng;
	struct far_pool_host host;
	bool is_async; /* lane (de)registrations wait for rig_answer_*() */
	struct {
		uint32_t lane;
		struct far_mem_source source;
		struct far_link *link;
		struct far_mem *mem;
	} registers[64], deregisters[64];
	int register_count;
	int deregister_count;
	uint8_t *index;
	size_t index_bytes;
	struct {
		uint8_t *base;
		uint32_t number; /* 0: not lent */
		size_t size_bytes;
		bool drained;
	} segments[RIG_SEGMENTS_MAX];
	struct rig_client clients[RIG_CLIENTS_MAX];
	uint64_t alloc_bytes; /* live before the rig was made */
	uint64_t tick_ns;     /* when the pool wants to be ticked */
	bool checks_off;      /* far_pool_check() after every event otherwise */
};

/* Four lanes of 4 MiB in one segment of 16 MiB, one kept free; grace 50 ms. Change, then open. */
void rig_config(struct far_pool_config *config);
/* Logs are captured from here on. The first segments are lent: all of the capacity. */
struct rig *rig_open(const struct far_pool_config *config, uint64_t seed, bool is_async);
/* Ends all clients and the pool, closes, and checks that nothing is left. */
void rig_close(struct rig *rig);

/* The donor ends and its clients with it; what it lent and published stays as it was. */
void rig_down(struct rig *rig);
/* Its successor over the same memory, growing; rig_close() may follow a failure too. */
int rig_reopen(struct rig *rig);
int rig_segment_restore(struct rig *rig, int entry);

/* Lends one more segment; returns its entry. */
int rig_segment_add(struct rig *rig, size_t size_bytes);
void rig_segment_drain(struct rig *rig, int entry);

/* Lets everything happen that is due within @ns of virtual time. */
void rig_run(struct rig *rig, uint64_t ns);
/* What is on the way arrives; time stands nearly still. */
void rig_settle(struct rig *rig);
void rig_answer_registers(struct rig *rig);
void rig_answer_deregisters(struct rig *rig);
uint64_t rig_stat(struct rig *rig, enum far_status_idx idx);

/* Connected, without a HELLO. */
struct rig_client *rig_client_connect(struct rig *rig, int idx);
/* Connected and welcome. */
struct rig_client *rig_client_open(struct rig *rig, int idx);
void rig_hello_fill(struct far_frame_hello *hello);
/* One frame; returns what the transport said. */
int rig_send(struct rig_client *client, enum far_frame_type type, const void *body,
	     const void *list, uint32_t count);
void rig_bye(struct rig_client *client);
/* The process is gone; the link is lost for the donor. */
void rig_client_kill(struct rig_client *client);
/* Asks for one lane and settles; its index in grants, or -1. */
int rig_lane_ask(struct rig_client *client);

/* The bytes of a block follow from its number and length; so does its key. */
struct far_key rig_key(uint64_t number);
/* WRITEs one block into a lane and fills its entry for a COMMIT. False: no room. */
bool rig_block_write(struct rig_client *client, int grant, uint64_t number, uint32_t size_bytes,
		     struct far_frame_block *out);
void rig_commit(struct rig_client *client, int grant, const struct far_frame_block *blocks,
		uint32_t count, bool end);
/* Writes and commits one block, settles; the answer for it. */
int32_t rig_store(struct rig_client *client, int grant, uint64_t number, uint32_t size_bytes);
/* Fills a lane with blocks first, first + 1, ... of a size and ends it; returns how many went in. */
uint32_t rig_lane_fill(struct rig_client *client, uint64_t first, uint32_t size_bytes);
void rig_touch(struct rig_client *client, uint64_t number, int times);
int32_t rig_delete(struct rig_client *client, uint64_t number);

/* As a reader sees it, from published memory alone. False: a miss. */
bool rig_find(struct rig *rig, uint64_t number, struct far_slot *out);
/* The block is there, and its bytes are right. */
bool rig_holds(struct rig *rig, uint64_t number);
/* Where the slot's bytes lie. */
uint8_t *rig_bytes(struct rig *rig, const struct far_slot *slot);

#endif
