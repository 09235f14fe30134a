/* raw_donor.c - a process that exposes memory over a transport and does nothing else but serve it. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/pages.h"
#include "tests/bench/bench.h"
#include "tests/bench/raw.h"

#define POLL_BUDGET 64
#define WAIT_MS     1000

struct raw_donor {
	struct far_link_handler handler;
	struct far_link *link; /* NULL: nobody is connected */
	struct far_mem *mem;
	bool greet; /* it was not told yet where the memory is */
};

void
bench_raw_turn(struct far_transport *tp, int wait_ms)
{
	struct pollfd wait = {.fd = tp->fd, .events = POLLIN};

	if (far_transport_poll(tp, POLL_BUDGET) == 0 && far_transport_arm(tp) == 0)
		(void)poll(&wait, 1, wait_ms);
}

static void
on_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct raw_donor *donor = FAR_CONTAINER_OF(handler, struct raw_donor, handler);

	if (event->kind == FAR_EV_LOST)
		far_transport_disconnect(event->link);
	else if (event->kind == FAR_EV_CLOSED)
		donor->link = NULL;
}

static struct far_link_handler *
on_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct raw_donor *donor = arg;
	(void)hello;
	(void)hello_bytes;

	if (donor->link != NULL)
		return NULL;
	donor->link = link;
	donor->greet = true;
	return &donor->handler;
}

static void
greet(struct raw_donor *donor)
{
	struct bench_raw_hello hello = {.remote = donor->mem->remote};

	if (far_transport_mem_expose(donor->mem, donor->link) == 0 &&
	    far_transport_send(donor->link, &hello, sizeof(hello)) == 0)
		donor->greet = false;
}

/* argv: --raw-donor TRANSPORT ADDRESS BYTES; one byte on the standard output once it serves. */
int
bench_raw_donor(int argc, char **argv)
{
	struct far_transport_config config = {.clock = far_clock_real(),
					      .spin_ns_max = FAR_SPIN_NS_DEFAULT};
	struct raw_donor donor = {.handler = {.event = on_event}};
	struct far_mem_source source = {.fd = -1};
	struct far_listener *listener;
	struct far_transport *tp;
	struct far_pages pages;
	const char *listen;

	if (argc != 5)
		return 2;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	config.listens = &listen;
	config.listen_count = 1;
	listen = argv[3];
	source.size_bytes = strtoull(argv[4], NULL, 10);
	if (far_pages_map_shared("bench-raw", source.size_bytes, FAR_PAGES_HUGE_OFF, -1, &pages) <
	    0)
		return 1;
	source.base = pages.base;
	source.fd = pages.fd;
	bench_fill(pages.base, 0, source.size_bytes);
	if (far_transport_open(argv[2], &config, &tp) < 0 ||
	    far_transport_mem_reg(tp, &source, FAR_RIGHT_REMOTE_READ, NULL, &donor.mem) < 0 ||
	    far_transport_listen(tp, argv[3], on_accept, &donor, &listener) < 0)
		return 1;
	if (write(STDOUT_FILENO, "r", 1) != 1)
		return 1;
	/* Whoever started it ends it. */
	for (;;) {
		if (donor.greet && donor.link != NULL && donor.link->up)
			greet(&donor);
		bench_raw_turn(tp, WAIT_MS);
	}
}
