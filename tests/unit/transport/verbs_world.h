/* verbs_world.h - two transports over RDMA in one process; one reads, writes and asks, one answers. */
#ifndef FAR_TESTS_UNIT_TRANSPORT_VERBS_WORLD_H
#define FAR_TESTS_UNIT_TRANSPORT_VERBS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/list.h"
#include "base/pages.h"
#include "transport/transport.h"
#include "transport/verbs/lib.h"

#define VERBS_WORLD_BYTES ((size_t)256 * 1024)

struct verbs_end {
	struct far_link_handler handler;
	struct far_link *link; /* NULL: none yet, or closed */
	bool disconnected;
	unsigned connected, messages, lost, closed, dones, sendable;
	int lost_status;
	int done_status; /* the first that failed */
	int done_status_last;
	struct far_remote remote; /* the last message that was one */
	void (*on_message)(struct verbs_end *end);
	void *arg;
};

/* Memory on pages of its own. */
struct verbs_memory {
	struct far_pages pages;
	struct far_mem *mem;
};

struct verbs_world {
	char address[64];
	struct far_transport_config config; /* of both; to be set before */
	bool donor_posts_no_reads;
	struct far_transport *donor;
	struct far_transport *client;
	struct far_listener *listener;
	struct verbs_end d, c;
	struct verbs_end e;         /* the donor's, of a link from another process */
	struct verbs_memory region; /* the donor's, to be read */
	struct verbs_memory lane;   /* the donor's, to be written */
	struct verbs_memory local;  /* the client's */
	bool donor_stopped;         /* it is not polled */
	uint64_t alloc_bytes;       /* live before it was opened */
	uint64_t pages_bytes;
};

/* False, and says so: this host has no RDMA. */
bool verbs_world_is_possible(void);
/*
 * Each returns 0 or a listed error: what the device cannot do is an answer; what never ends, fails the
 * test. Whatever they returned, verbs_world_close() ends the world, and finds every byte given back.
 */
int verbs_world_listen(struct verbs_world *w);
int verbs_world_connect(struct verbs_world *w);
/* Region and lane are the client's to use. */
int verbs_world_expose(struct verbs_world *w);
/* Reads, then reads and writes behind a fence, then says so, and waits for the answer. */
int verbs_world_use(struct verbs_world *w);
/* All of them. */
int verbs_world_begin(struct verbs_world *w);
void verbs_world_close(struct verbs_world *w);
/* Instead: the client alone, of a donor in another process, which @start starts and waits for. */
void verbs_world_join(struct verbs_world *w, void (*start)(void *arg, const char *address),
		      void *arg);
/* Another link, where both ends have closed; the region is exposed over it. */
void verbs_world_again(struct verbs_world *w);

/* One piece of the client's memory at the same offset as in @remote's. */
struct far_op verbs_world_op(struct verbs_world *w, enum far_op_kind kind, struct far_piece *piece,
			     const struct verbs_memory *remote, size_t offset, uint32_t size_bytes);
void verbs_world_step(struct verbs_world *w, uint64_t deadline_ns, const char *what);
#define verbs_world_wait(w, condition)                                                             \
	do {                                                                                       \
		uint64_t until_ns = far_clock_now(far_clock_real()) + 30 * FAR_NS_PER_S;           \
                                                                                                   \
		while (!(condition))                                                               \
			verbs_world_step((w), until_ns, #condition);                               \
	} while (0)

#endif
