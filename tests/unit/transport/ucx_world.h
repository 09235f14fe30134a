/* ucx_world.h - two transports over TCP in one process, the donor's end says back what it hears. */
#ifndef FAR_TESTS_UNIT_TRANSPORT_UCX_WORLD_H
#define FAR_TESTS_UNIT_TRANSPORT_UCX_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "transport/transport.h"

struct ucx_end {
	struct far_link_handler handler;
	struct far_link *link; /* NULL: none yet, or closed */
	bool echo;
	bool disconnected;
	unsigned connected, messages, lost, closed;
	int lost_status;
};

struct ucx_world {
	char address[64];
	struct far_transport *donor;
	struct far_transport *client;
	struct far_listener *listener;
	struct ucx_end d, c;
	uint64_t alloc_bytes; /* live before it was opened */
};

/*
 * Each returns 0 or a listed error: what UCX cannot do is an answer; what never ends, fails the test.
 * Whatever they returned, ucx_world_close() ends the world, and finds every byte given back.
 */
int ucx_world_listen(struct ucx_world *w);
int ucx_world_connect(struct ucx_world *w);
/* Sends a message and waits for it to be said back. */
int ucx_world_ask(struct ucx_world *w);
void ucx_world_close(struct ucx_world *w);

#endif
