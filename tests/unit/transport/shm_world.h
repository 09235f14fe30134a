/* shm_world.h - what the shm tests share: two transports, ends that count, memory, rogue sockets. */
#ifndef FAR_TESTS_UNIT_TRANSPORT_SHM_WORLD_H
#define FAR_TESTS_UNIT_TRANSPORT_SHM_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/list.h"
#include "base/pages.h"
#include "transport/shm/frame.h"
#include "transport/shm/shm.h"

#define WORLD_TOKENS_MAX 16384
#define WORLD_WAIT_NS    (20 * FAR_NS_PER_S)

/* One end of a link. */
struct end {
	struct far_link_handler handler;
	struct far_link *link; /* NULL: none, or closed */
	uint32_t connected, sendable, lost, closed, messages, dones;
	int lost_status;
	size_t message_bytes;
	uint8_t message[FAR_MESSAGE_BYTES_MAX];
	uint32_t token_count[WORLD_TOKENS_MAX];
	int token_status[WORLD_TOKENS_MAX];
	void (*on_event)(struct end *end, const struct far_event *event);
	void *arg;
};

struct world {
	char dir[64];
	char address[96];
	struct far_transport_config config;
	struct far_transport *donor;
	struct far_transport *client; /* NULL: in another process */
	struct far_listener *listener;
	struct end d, c;
	bool refuse;
	uint32_t accepts;
	uint8_t hello[FAR_HELLO_BYTES_MAX];
	size_t hello_bytes;
	uint64_t pages_bytes; /* live before */
	uint64_t alloc_bytes;
};

struct memory {
	struct far_pages pages;
	struct far_mem *mem;
	uint8_t *base;
};

/* A directory and both transports; the donor listens. Link ends are w->d and w->c. */
void world_open(struct world *w);
/* The same, but the client is not opened. */
void world_open_donor(struct world *w);
/* Connects and waits for both ends. */
void world_connect(struct world *w);
/* Disconnects what there is, waits for CLOSED, closes, and checks that nothing is left. */
void world_close(struct world *w);
void world_step(struct world *w, uint64_t deadline_ns, const char *what);
/* Polls both sides until @cond; fails the test after WORLD_WAIT_NS. */
#define world_wait(w, cond)                                                                        \
	do {                                                                                       \
		uint64_t until_ = far_clock_now(far_clock_real()) + WORLD_WAIT_NS;                 \
		while (!(cond))                                                                    \
			world_step((w), until_, #cond);                                            \
	} while (0)
/* The same for one transport alone, whose peer is stopped, dead or foreign. */
#define alone_wait(tp, cond)                                                                       \
	do {                                                                                       \
		uint64_t until_ = far_clock_now(far_clock_real()) + WORLD_WAIT_NS;                 \
		while (!(cond)) {                                                                  \
			if (far_clock_now(far_clock_real()) > until_)                              \
				fail_msg("never came: %s", #cond);                                 \
			(void)far_transport_poll((tp), 64);                                        \
		}                                                                                  \
	} while (0)

void end_init(struct end *end);
struct far_link_handler *world_accept(void *arg, struct far_link *link, const void *hello,
				      size_t hello_bytes);

/* Zeroed, sealed, registered. */
void memory_open(struct memory *memory, struct far_transport *tp, size_t size_bytes,
		 uint32_t rights, struct far_link *only);
void memory_close(struct memory *memory);

struct far_op op_make(enum far_op_kind kind, const struct far_piece *piece,
		      const struct far_remote *remote, uint64_t offset, uint64_t token);

/* A socket to the world's address that speaks frames, or not, by hand. */
int rogue_connect(const struct world *w);
void rogue_send(int fd, enum shm_frame_kind kind, const void *body, size_t body_bytes, int pass_fd);
/* Says hello with a proper control page, which stays mapped in @control, and waits for the welcome.
 */
#define ROGUE_NONCE 77U
extern uint64_t rogue_features; /* that it says it has: all */
int rogue_hello(struct world *w, struct far_pages *control, struct shm_frame_hello *welcome);

#endif
