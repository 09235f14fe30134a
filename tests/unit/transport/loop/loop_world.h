/* loop_world.h - for unit tests of the loop: a donor, a client, a link, a region to read and write. */
#ifndef FAR_TESTS_UNIT_TRANSPORT_LOOP_WORLD_H
#define FAR_TESTS_UNIT_TRANSPORT_LOOP_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/list.h"
#include "transport/loop/loop.h"

#define WORLD_REGION_BYTES 4096
#define WORLD_TOKENS_MAX   4096

struct world_end {
	struct far_link_handler handler;
	struct world *w;
	struct far_link *link;
	uint32_t connected;
	uint32_t lost;
	uint32_t closed;
	uint32_t messages;
	int lost_status;
	uint32_t done_count;
	int status[WORLD_TOKENS_MAX]; /* 1: not done */
};

struct world {
	struct far_loop_fabric *fabric;
	struct far_clock *clock;
	struct far_transport *donor_tp;
	struct far_transport *client_tp;
	struct far_listener *listener;
	struct world_end donor;
	struct world_end client;
	struct far_mem *region; /* the donor's, to read and to write */
	struct far_mem *local;  /* the client's */
	struct far_remote remote;
	uint64_t trace; /* a digest of all events with their times */
	uint8_t region_bytes[WORLD_REGION_BYTES] __attribute__((aligned(64)));
	uint8_t local_bytes[WORLD_REGION_BYTES] __attribute__((aligned(64)));
};

/* Both hosts, connected, the region exposed. NULL config: kind. */
struct world *world_open(const struct far_loop_config *config);
/* Ends what is still there: the donor may have been killed (world_donor_bury() before). */
void world_close(struct world *w);
/* Opens the donor's side: transport, listener, region. */
void world_donor_open(struct world *w);
/* After far_loop_host_kill(): buries it. */
void world_donor_bury(struct world *w);
/* Connects and exposes; both ends must be closed or new. */
void world_connect(struct world *w);
/* Closes both ends. */
void world_disconnect(struct world *w);

/* One step of time, then both polls. False: nothing happened. */
bool world_step(struct world *w);
#define world_wait(w, cond)                                                                        \
	do {                                                                                       \
		for (int steps_ = 0; !(cond); steps_++) {                                          \
			assert_true(steps_ < 100000);                                              \
			world_step(w);                                                             \
		}                                                                                  \
	} while (0)

struct far_op world_op(struct world *w, enum far_op_kind kind, const struct far_piece *piece,
		       uint64_t offset, uint64_t token);
/* Posts one op over [offset, offset + size) of both memories. */
void world_post(struct world *w, enum far_op_kind kind, uint32_t offset, uint32_t size_bytes,
		uint64_t token);

#endif
