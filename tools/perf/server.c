/* server.c - the passive end: lends memory to whoever connects, and says how much CPU that cost it. */
#include <argp.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/list.h"
#include "base/log.h"
#include "base/pages.h"
#include "farpool/farpool.h"
#include "tools/perf/perf.h"
#include "tools/perf/raw_wire.h"

#define PEERS_MAX   256
#define POLL_BUDGET 64
#define WAIT_MS     100
#define CLOSE_NS    (2 * FAR_NS_PER_S)
#define SET_DEFAULT ((uint64_t)512 << 20)

struct peer {
	struct far_link_handler handler;
	struct server *server;
	struct far_link *link; /* NULL: free */
	struct far_mem *grant; /* what it alone writes to; NULL: it reads */
	struct far_pages pages;
	bool offer; /* it was not told yet where the memory is */
	bool answer;
};

struct server {
	const char *address;
	uint64_t set_bytes;
	bool huge;
	bool child; /* of a test: says when it serves, and ends with it */
	struct far_transport *tp;
	struct far_pages pages; /* what is read */
	struct far_mem *mem;
	uint64_t granted_bytes; /* at most set_bytes, of all writers */
	struct peer peers[PEERS_MAX];
};

static volatile sig_atomic_t stopped;

static void
on_signal(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

void
perf_raw_turn(struct far_transport *tp, bool sleep)
{
	struct pollfd wait = {.fd = tp->fd, .events = POLLIN};

	if (far_transport_poll(tp, POLL_BUDGET) == 0 && sleep && far_transport_arm(tp) == 0)
		(void)poll(&wait, 1, WAIT_MS);
}

/* ---- one peer ---- */

static void
grant_end(struct peer *peer)
{
	if (peer->grant == NULL)
		return;
	far_transport_mem_dereg(peer->grant);
	peer->grant = NULL;
	peer->server->granted_bytes -= peer->pages.size_bytes;
	far_pages_unmap(&peer->pages);
}

static void
on_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct peer *peer = FAR_CONTAINER_OF(handler, struct peer, handler);
	const struct perf_raw_message *message = event->msg;

	switch (event->kind) {
	case FAR_EV_MESSAGE:
		if (event->msg_bytes != sizeof(*message) || message->magic != PERF_RAW_MAGIC ||
		    message->kind != PERF_RAW_ASK)
			far_transport_disconnect(event->link);
		else
			peer->answer = true;
		break;
	case FAR_EV_LOST:
		far_transport_disconnect(event->link);
		break;
	case FAR_EV_CLOSED:
		peer->link = NULL;
		peer->offer = peer->answer = false;
		grant_end(peer);
		break;
	default:
		break;
	}
}

/* Memory that this peer alone can write to; what is left of the set, if it asks for more. */
static int
grant_make(struct peer *peer, uint64_t asked_bytes)
{
	struct server *server = peer->server;
	uint64_t left_bytes = server->set_bytes - server->granted_bytes;
	struct far_mem_source source = {.relaxed = true};
	int rc;

	if (asked_bytes > left_bytes)
		asked_bytes = left_bytes;
	if (asked_bytes == 0)
		return -ENOSPC;
	rc = far_pages_map_shared("farpool-perf", asked_bytes,
				  server->huge ? FAR_PAGES_HUGE_ON : FAR_PAGES_HUGE_OFF, -1,
				  &peer->pages);
	if (rc < 0)
		return rc;
	source.base = peer->pages.base;
	source.size_bytes = peer->pages.size_bytes;
	source.fd = peer->pages.fd;
	rc = far_transport_mem_reg(server->tp, &source, FAR_RIGHT_REMOTE_WRITE, peer->link,
				   &peer->grant);
	if (rc < 0) {
		far_pages_unmap(&peer->pages);
		return rc;
	}
	server->granted_bytes += peer->pages.size_bytes;
	return 0;
}

static struct far_link_handler *
on_accept(void *arg, struct far_link *link, const void *bytes, size_t size_bytes)
{
	struct server *server = arg;
	struct perf_raw_hello hello;
	struct peer *peer = NULL;

	if (size_bytes < sizeof(hello))
		return NULL;
	memcpy(&hello, bytes, sizeof(hello));
	for (size_t i = 0; i < PEERS_MAX && peer == NULL; i++)
		if (server->peers[i].link == NULL)
			peer = &server->peers[i];
	if (hello.magic != PERF_RAW_MAGIC || peer == NULL)
		return NULL;
	*peer = (struct peer){
		.handler = {.event = on_event},
		.server = server,
		.link = link,
		.offer = true,
		.pages = {.fd = -1},
	};
	if (hello.write != 0 && grant_make(peer, hello.set_bytes) < 0) {
		fprintf(stderr, "farpool-perf: no memory for a writer, %llu MiB are in use\n",
			(unsigned long long)(server->granted_bytes >> 20));
		peer->link = NULL;
		return NULL;
	}
	return &peer->handler;
}

/* What could not be said at once is said at a later turn. */
static void
peer_tell(struct peer *peer)
{
	struct server *server = peer->server;
	struct far_mem *mem = peer->grant != NULL ? peer->grant : server->mem;
	struct far_pages *pages = peer->grant != NULL ? &peer->pages : &server->pages;
	struct perf_raw_message message = {
		.magic = PERF_RAW_MAGIC,
		.kind = peer->offer ? PERF_RAW_OFFER : PERF_RAW_CPU,
		.cpu_ns = far_clock_cpu_ns(),
		.set_bytes = pages->size_bytes,
		.page_bytes = pages->page_bytes,
		.remote = mem->remote,
	};

	snprintf(message.version, sizeof(message.version), "%s", far_version());
	if (peer->offer && far_transport_mem_expose(mem, peer->link) < 0)
		return;
	if (far_transport_send(peer->link, &message, sizeof(message)) < 0)
		return;
	if (peer->offer)
		peer->offer = false;
	else
		peer->answer = false;
}

/* ---- the process ---- */

static int
memory_make(struct server *server)
{
	struct far_mem_source source = {.relaxed = true};
	int rc = far_pages_map_shared("farpool-perf", server->set_bytes,
				      server->huge ? FAR_PAGES_HUGE_ON : FAR_PAGES_HUGE_OFF, -1,
				      &server->pages);
	uint64_t *words;

	if (rc < 0)
		return perf_fail("%llu MiB of %s pages: %s; next: a smaller --set%s",
				 (unsigned long long)(server->set_bytes >> 20),
				 server->huge ? "2 MiB" : "ordinary", far_err_text(rc),
				 server->huge ? ", or more in /proc/sys/vm/nr_hugepages" : "");
	words = server->pages.base;
	for (uint64_t i = 0; i < server->pages.size_bytes / sizeof(*words); i++)
		words[i] = perf_raw_word(i);
	source.base = server->pages.base;
	source.size_bytes = server->pages.size_bytes;
	source.fd = server->pages.fd;
	rc = far_transport_mem_reg(server->tp, &source, FAR_RIGHT_REMOTE_READ, NULL, &server->mem);
	return rc < 0 ? perf_fail("memory cannot be registered: %s; next: farpool doctor, or a "
				  "higher limit of locked memory (ulimit -l)",
				  far_err_text(rc))
		      : 0;
}

static void
serve(struct server *server)
{
	while (stopped == 0) {
		for (size_t i = 0; i < PEERS_MAX; i++) {
			struct peer *peer = &server->peers[i];

			if (peer->link != NULL && peer->link->up && (peer->offer || peer->answer))
				peer_tell(peer);
		}
		perf_raw_turn(server->tp, true);
	}
}

/* What does not close in time ends with the process. */
static void
server_close(struct server *server)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + CLOSE_NS;
	bool live = true;

	for (size_t i = 0; i < PEERS_MAX; i++)
		if (server->peers[i].link != NULL)
			far_transport_disconnect(server->peers[i].link);
	while (live && server->tp != NULL) {
		live = false;
		for (size_t i = 0; i < PEERS_MAX; i++)
			live = live || server->peers[i].link != NULL;
		if (live && far_clock_now(far_clock_real()) >= until_ns)
			return;
		if (live)
			perf_raw_turn(server->tp, true);
	}
	if (server->mem != NULL)
		far_transport_mem_dereg(server->mem);
	far_transport_close(server->tp);
	far_pages_unmap(&server->pages);
	far_free(server);
}

static int
run(struct server *server)
{
	char scheme[FAR_SCHEME_BYTES_MAX];
	struct far_listener *listener;
	struct far_transport_config config = {.clock = far_clock_real(),
					      .spin_ns_max = FAR_SPIN_NS_DEFAULT,
					      .posts_no_reads = true,
					      .listen_count = 1};
	const char *rest;
	int rc = far_address_split(server->address, scheme, &rest);

	if (rc < 0)
		return perf_fail("'%s' is no address; write for example verbs:10.0.0.3:18515, "
				 "ucx:10.0.0.3:18515 or shm:/tmp/perf.sock",
				 server->address);
	config.listens = &rest;
	rc = far_transport_open(scheme, &config, &server->tp);
	if (rc < 0)
		return perf_fail("no transport '%s' on this host: %s; next: farpool doctor", scheme,
				 far_err_text(rc));
	if (memory_make(server) != 0)
		return 1;
	rc = far_transport_listen(server->tp, rest, on_accept, server, &listener);
	if (rc < 0)
		return perf_fail("cannot listen at %s: %s", server->address, far_err_text(rc));
	if (server->child) {
		if (write(STDOUT_FILENO, "r", 1) != 1)
			return 1;
	} else {
		printf("farpool-perf %s serves %llu MiB at %s (%s); Ctrl-C ends it\n",
		       far_version(), (unsigned long long)(server->pages.size_bytes >> 20),
		       server->address,
		       server->pages.page_bytes > 4096 ? "2 MiB pages" : "4 KiB pages");
		fflush(stdout);
	}
	serve(server);
	far_transport_unlisten(server->tp, listener);
	return 0;
}

static error_t
parse(int key, char *arg, struct argp_state *state)
{
	struct server *server = state->input;

	switch (key) {
	case 'S':
		if (perf_size_parse(arg, &server->set_bytes) < 0 || server->set_bytes < 4096)
			argp_error(state, "--set takes a size of at least 4KiB, not '%s'", arg);
		return 0;
	case 'H':
		server->huge = true;
		return 0;
	case 'C':
		server->child = true;
		return 0;
	case ARGP_KEY_ARG:
		if (server->address != NULL)
			argp_error(state, "one address is enough: '%s' and '%s'", server->address,
				   arg);
		server->address = arg;
		return 0;
	case ARGP_KEY_END:
		if (server->address == NULL)
			argp_error(state,
				   "an address to listen at is needed: verbs:10.0.0.3:18515, "
				   "ucx:10.0.0.3:18515 or shm:/tmp/perf.sock");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int
perf_server(int argc, char **argv)
{
	static const struct argp_option rows[] = {
		{"set", 'S', "SIZE", 0,
		 "memory that is lent, and at most as much again to writers (default 512MiB)", 0},
		{"use_hugepages", 'H', NULL, 0, "2 MiB pages", 0},
		{"child", 'C', NULL, OPTION_HIDDEN, NULL, 0},
		{0},
	};
	static const struct argp argp = {
		.options = rows,
		.parser = parse,
		.args_doc = "ADDRESS",
		.doc = "Lend memory to `farpool-perf raw` until it is interrupted. Whoever reaches "
		       "the "
		       "address may read it, and write to memory of its own.",
	};
	struct server *server = far_zalloc(sizeof(*server));
	int rc;

	if (server == NULL)
		return perf_fail("no memory");
	server->set_bytes = SET_DEFAULT;
	server->pages.fd = -1;
	(void)argp_parse(&argp, argc, argv, 0, NULL, server);
	if (server->child)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	rc = run(server);
	server_close(server);
	return rc;
}
