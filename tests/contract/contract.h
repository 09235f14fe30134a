/* contract.h - one suite for every transport: what a backend gives, and what its tests share. */
#ifndef FAR_TESTS_CONTRACT_CONTRACT_H
#define FAR_TESTS_CONTRACT_CONTRACT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/list.h"
#include "base/pages.h"
#include "transport/transport.h"

struct contract;

/* ---- what a backend gives to be tested: all that the suite knows of it ---- */
struct contract_backend {
	const char *name; /* as far_transport_open() knows it */
	/* A fresh world for one test: sets c->clock, c->address, what the two configurations need, and
	 * c->world. Returns 0, or -ENODEV after printing why it cannot run here. */
	int (*open)(struct contract *c);
	/* Both transports are closed. */
	void (*close)(struct contract *c);
	/* Neither side has anything to do: lets a little time pass. */
	void (*idle)(struct contract *c);
	/* The donor's process dies with what it had open, and contract_donor_forget() follows; NULL:
	 * cannot be done in one process. */
	void (*donor_kill)(struct contract *c);
	/* READs of one list overtake those of another on the same link: a promise of some alone. */
	bool lists_take_turns;
	struct contract_gpu *gpu; /* NULL: nothing is around it */
};

/* transport/gpu around the client's side, over a fake device. */
struct contract_gpu {
	bool device_memory; /* the client's local memory is the device's */
	bool direct;        /* the inner transport has to register it */
	bool mapped;
	struct far_device *device; /* of the test that runs */
};

/* The backend, or, with "gpu-host", "gpu-direct", "gpu-staged" or "gpu-mapped" as the first argument, that variant. */
struct contract_backend contract_gpu_backend(const struct contract_backend *backend, int argc,
					     char **argv);
void contract_gpu_wrap(struct contract *c);
/* Device memory was registered: it is reached in the way that the variant is for. */
void contract_gpu_check(const struct contract *c);
void contract_gpu_end(void);

/* Runs the whole suite; returns an exit status. @variant is for people. */
int contract_run(const struct contract_backend *backend, const char *variant);

/* ---- what the tests share ---- */
#define CONTRACT_ENDS_MAX   8
#define CONTRACT_MEMS_MAX   128
#define CONTRACT_TOKENS_MAX 65536
#define CONTRACT_WAIT_NS    (20 * FAR_NS_PER_S)

enum contract_side {
	DONOR,
	CLIENT,
	SIDES,
};

/* One end of a link: counts what it is told, and checks on the way what is always true. */
struct contract_end {
	struct far_link_handler handler;
	struct contract *c;
	enum contract_side side;
	struct contract_end *peer; /* NULL: contract_connect() did not make it */
	struct far_link *link;     /* NULL: not yet, or closed */
	uint32_t connected;
	uint32_t sendable;
	uint32_t lost;
	uint32_t closed;
	int lost_status;
	bool disconnected; /* by us */

	uint32_t message_count;
	size_t message_bytes; /* of the last one */
	uint8_t message[FAR_MESSAGE_BYTES_MAX];
	/* Called from the event; the message lies in @end already. */
	void (*on_message)(struct contract_end *end);
	void (*on_lost)(struct contract_end *end);
	void *arg;

	uint64_t token_last; /* given by contract_token() */
	uint32_t done_count;
	uint32_t failed_count;
	bool done[CONTRACT_TOKENS_MAX];
	int status[CONTRACT_TOKENS_MAX];
};

/* Registered memory: all of it on pages of its own. */
struct contract_mem {
	struct far_pages pages;
	enum contract_side side;
	struct far_mem *mem; /* NULL: deregistered */
	uint8_t *base;
	size_t size_bytes;
};

struct contract {
	const struct contract_backend *backend;
	void *world; /* the backend's */
	struct far_clock *clock;
	char address[FAR_ADDRESS_BYTES_MAX];       /* where the donor listens, without the scheme */
	struct far_transport_config config[SIDES]; /* set by the backend; a test may alter it */
	struct far_transport *tp[SIDES];
	bool stopped[SIDES]; /* not polled, as a process under SIGSTOP */
	bool blocking;       /* nothing may be polled that did not say it has work */
	struct far_listener *listener;
	struct far_rng rng;

	struct contract_end *ends[CONTRACT_ENDS_MAX]; /* made on demand */
	struct contract_mem mems[CONTRACT_MEMS_MAX];

	/* The acceptor. */
	struct contract_end *accept_next; /* NULL: refuse */
	uint32_t accept_count;
	uint8_t hello[FAR_HELLO_BYTES_MAX];
	size_t hello_bytes;

	void (*on_step)(struct contract *c, void *arg); /* between polls: the donor writes, say */
	void *on_step_arg;
	uint64_t deadline_ns;
	uint64_t alloc_bytes; /* live before the test */
	uint64_t pages_bytes;
};

/* The world, not yet the transports: alter c->config, then contract_start(). */
struct contract *contract_open(void);
/* Opens both transports and listens. */
void contract_start(struct contract *c);
/* contract_open() and contract_start(). */
struct contract *contract_begin(void);
/* Disconnects what is up, waits for every CLOSED, and checks that nothing is left anywhere. */
void contract_close(struct contract *c);

/* What the donor had is gone: pointers to it are dropped. */
void contract_donor_forget(struct contract *c);

/* From one cut to the next, for tests that cut in at every step of something: 1, or 3 where a test is
 * told that everything is ten times slower (FARPOOL_TEST_SLOWDOWN), as in an emulated guest. */
int contract_stride(void);

/* Steps until @cond holds; fails the test after CONTRACT_WAIT_NS. */
#define contract_wait(c, cond)                                                                     \
	do {                                                                                       \
		contract_deadline_set(c);                                                          \
		while (!(cond))                                                                    \
			contract_step((c), #cond);                                                 \
	} while (0)
void contract_deadline_set(struct contract *c);
void contract_step(struct contract *c, const char *what);
/* Gives what must not happen a fair chance to happen. */
void contract_settle(struct contract *c);

/* An end for @side; not connected. */
struct contract_end *contract_end_new(struct contract *c);
/* Connects and waits until both ends are up. */
void contract_connect(struct contract *c, struct contract_end **donor_out,
		      struct contract_end **client_out);
/* Disconnects and waits for CLOSED; an end that is closed already is left alone. */
void contract_disconnect(struct contract_end *end);
/* The active end alone; returns what far_transport_connect() said. */
int contract_connect_start(struct contract *c, struct contract_end *end, const char *address,
			   const void *hello, size_t hello_bytes, uint64_t deadline_ns);

/* Zeroed memory on @side. @only: NULL, or the end whose peer alone may use the key. */
struct contract_mem *contract_mem_new(struct contract *c, enum contract_side side,
				      size_t size_bytes, uint32_t rights,
				      struct contract_end *only);
void contract_mem_dereg(struct contract_mem *mem);
/* Exposes, and waits until the peer of @end has seen a message behind it. */
void contract_mem_expose(struct contract_mem *mem, struct contract_end *end);
/* Bytes that only @seed knows, and a check for them. */
void contract_fill(void *base, size_t size_bytes, uint64_t seed);
bool contract_is_filled(const void *base, size_t size_bytes, uint64_t seed);
/* Whether every byte is @value. */
bool contract_is_all(const void *base, size_t size_bytes, uint8_t value);

uint64_t contract_token(struct contract_end *end);
/* One piece; token 0 as given. */
struct far_op contract_op(enum far_op_kind kind, const struct far_piece *piece,
			  const struct far_remote *remote, uint64_t offset);
/* Posts a list, waiting for room. */
void contract_post(struct contract_end *end, const struct far_op *ops, int count);
void contract_send(struct contract_end *end, const void *msg, size_t size_bytes);
/* One op from or to @local at its offset; waits; returns its status. */
int contract_read(struct contract_end *end, struct contract_mem *local, size_t local_offset,
		  const struct far_remote *remote, uint64_t offset, uint32_t size_bytes);
int contract_write(struct contract_end *end, struct contract_mem *local, size_t local_offset,
		   const struct far_remote *remote, uint64_t offset, uint32_t size_bytes);

/* ---- the tests, by area ---- */
struct contract_tests {
	const char *name;
	const struct CMUnitTest *tests;
	size_t count;
};
extern const struct contract_tests contract_links;
extern const struct contract_tests contract_messages;
extern const struct contract_tests contract_reads;
extern const struct contract_tests contract_writes;
extern const struct contract_tests contract_keys;
extern const struct contract_tests contract_endings;
extern const struct contract_tests contract_polling;
extern const struct contract_tests contract_gpu_ways; /* of variants with device memory */

#endif
