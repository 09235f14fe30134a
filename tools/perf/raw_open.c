/* raw_open.c - how a raw test comes to its links, and to an end: server, transport, memory, connections. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/list.h"
#include "tools/perf/litter.h"
#include "tools/perf/raw.h"

#define SERVE_MS 60000
#define CLOSE_NS (2 * FAR_NS_PER_S)

static void
on_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct raw_link *link = FAR_CONTAINER_OF(handler, struct raw_link, handler);
	const struct perf_raw_message *message = event->msg;
	struct raw *raw = link->raw;

	switch (event->kind) {
	case FAR_EV_MESSAGE:
		if (event->msg_bytes != sizeof(*message) || message->magic != PERF_RAW_MAGIC) {
			raw->rc = -EPROTO;
			break;
		}
		link->cpu_ns = message->cpu_ns;
		link->told = true;
		if (message->kind == PERF_RAW_OFFER) {
			link->offered = true;
			link->remote = message->remote;
			link->set_bytes = message->set_bytes;
			link->page_bytes = message->page_bytes;
			memcpy(link->version, message->version, sizeof(link->version) - 1);
		}
		break;
	case FAR_EV_DONE:
		link->done++;
		raw->lists_done++;
		/* The token is the list's number and one. */
		if (raw->done_ns != NULL && event->token <= raw->lists_kept)
			raw->done_ns[event->token - 1] = raw_now();
		if (event->status < 0 && raw->rc == 0)
			raw->rc = event->status;
		break;
	case FAR_EV_SENDABLE:
		link->blocked = false;
		break;
	case FAR_EV_LOST:
		if (raw->rc == 0)
			raw->rc = event->status;
		break;
	case FAR_EV_CLOSED:
		link->closed = true;
		break;
	default:
		break;
	}
}

/* ---- the server of our own ---- */

static int
server_start(struct raw *raw)
{
	char set_text[32];
	char *argv[] = {"farpool-perf",      "server", "--child", "--set", set_text,
			raw->server_address, NULL};
	struct pollfd wait = {.events = POLLIN};
	int out[2];
	char byte;

	raw->litter = perf_litter_take();
	if (raw->litter == NULL)
		return -EACCES;
	snprintf(raw->server_address, sizeof(raw->server_address), "shm:%s/raw.sock",
		 perf_litter_folder(raw->litter));
	snprintf(set_text, sizeof(set_text), "%llu", (unsigned long long)raw->options->set_bytes);
	if (pipe(out) != 0)
		return -errno;
	raw->server = fork();
	if (raw->server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execv("/proc/self/exe", argv);
		_exit(127);
	}
	close(out[1]);
	perf_litter_child(raw->litter, raw->server);
	wait.fd = out[0];
	if (raw->server < 0 || poll(&wait, 1, SERVE_MS) != 1 || read(out[0], &byte, 1) != 1) {
		close(out[0]);
		return -EHOSTDOWN;
	}
	close(out[0]);
	return 0;
}

static void
server_end(struct raw *raw)
{
	if (raw->server > 0) {
		kill(raw->server, SIGTERM);
		waitpid(raw->server, NULL, 0);
	}
	if (raw->litter != NULL)
		perf_litter_child(raw->litter, 0);
	perf_litter_give(raw->litter);
}

/* ---- connecting ---- */

static int
links_offered(struct raw *raw)
{
	uint64_t until_ns = raw_now() + raw->options->timeout_ns;

	for (uint32_t i = 0; i < raw->link_count; i++) {
		while (!raw->links[i].offered) {
			if (raw->rc != 0)
				return raw->rc;
			if (raw_now() >= until_ns)
				return -ETIMEDOUT;
			perf_raw_turn(raw->tp, true);
		}
	}
	return 0;
}

static int
links_open(struct raw *raw, const char *rest)
{
	const struct perf_options *options = raw->options;
	struct perf_raw_hello hello = {
		.magic = PERF_RAW_MAGIC,
		.set_bytes = options->set_bytes / options->links,
		.write = options->test == PERF_WRITE,
	};
	uint64_t until_ns = raw_now() + options->timeout_ns;

	for (uint32_t i = 0; i < options->links; i++) {
		struct raw_link *link = &raw->links[i];
		int rc;

		link->handler.event = on_event;
		link->raw = raw;
		rc = far_transport_connect(raw->tp, rest, &hello, sizeof(hello), until_ns,
					   &link->handler, &link->link);
		if (rc < 0)
			return rc;
		raw->link_count++;
	}
	return links_offered(raw);
}

static int
memory_make(struct raw *raw)
{
	struct far_mem_source source = {.relaxed = true};
	uint64_t bytes = raw->options->set_bytes;
	int rc;

	if (bytes < raw->options->size_bytes)
		bytes = raw->options->size_bytes;
	if (raw->options->all_sizes && bytes < RAW_ALL_SIZE_MAX)
		bytes = RAW_ALL_SIZE_MAX;
	rc = far_pages_map_shared("farpool-perf", bytes,
				  raw->options->huge ? FAR_PAGES_HUGE_ON : FAR_PAGES_HUGE_OFF, -1,
				  &raw->pages);
	if (rc < 0)
		return perf_fail("%llu MiB of memory at this end: %s",
				 (unsigned long long)(bytes >> 20), far_err_text(rc));
	source.base = raw->pages.base;
	source.size_bytes = raw->pages.size_bytes;
	source.fd = raw->pages.fd;
	for (size_t i = 0; i < raw->pages.size_bytes / sizeof(uint64_t); i += 8)
		((uint64_t *)raw->pages.base)[i] = i;
	rc = far_transport_mem_reg(raw->tp, &source, FAR_RIGHT_LOCAL, NULL, &raw->mem);
	return rc < 0 ? perf_fail("memory cannot be registered: %s; next: farpool doctor",
				  far_err_text(rc))
		      : 0;
}

int
raw_open(struct raw *raw)
{
	struct far_transport_config config = {
		.clock = far_clock_real(), .spin_ns_max = FAR_SPIN_NS_DEFAULT, .peer_count = 1};
	struct perf_place *place = &raw->place;
	const char *address = raw->options->address, *rest;
	int rc = 0;

	if (address == NULL) {
		rc = server_start(raw);
		if (rc < 0)
			return perf_fail("no server of our own: %s", far_err_text(rc));
		address = raw->server_address;
		place->own_server = true;
	}
	if (far_address_split(address, place->transport, &rest) < 0)
		return perf_fail("'%s' is no address; write for example verbs:10.0.0.3:18515",
				 address);
	snprintf(place->address, sizeof(place->address), "%s", address);
	config.peers = &rest;
	rc = far_transport_open(place->transport, &config, &raw->tp);
	if (rc < 0)
		return perf_fail("no transport '%s' on this host: %s; next: farpool doctor",
				 place->transport, far_err_text(rc));
	if (memory_make(raw) != 0)
		return 1;
	rc = links_open(raw, rest);
	if (rc < 0)
		return perf_fail(
			"%s: %s; next: start `farpool-perf server %s` there, of this version",
			address, far_err_text(rc), address);
	place->one_sided = (raw->tp->caps.flags & FAR_CAP_ONE_SIDED) != 0;
	place->reads_max = raw->tp->caps.reads_max;
	place->page_bytes = raw->pages.page_bytes;
	place->peer_page_bytes = raw->links[0].page_bytes;
	place->set_bytes = raw->links[0].set_bytes < raw->pages.size_bytes ? raw->links[0].set_bytes
									   : raw->pages.size_bytes;
	snprintf(place->peer_version, sizeof(place->peer_version), "%s", raw->links[0].version);
	return 0;
}

void
raw_close(struct raw *raw)
{
	uint64_t until_ns = raw_now() + CLOSE_NS;
	bool live = false;

	for (uint32_t i = 0; i < raw->link_count; i++)
		far_transport_disconnect(raw->links[i].link);
	for (uint32_t i = 0; i < raw->link_count; i++) {
		while (!raw->links[i].closed && raw_now() < until_ns)
			perf_raw_turn(raw->tp, true);
		live = live || !raw->links[i].closed;
	}
	server_end(raw);
	if (live)
		return; /* a link that does not close holds its memory: it ends with the process */
	if (raw->mem != NULL)
		far_transport_mem_dereg(raw->mem);
	far_transport_close(raw->tp);
	far_pages_unmap(&raw->pages);
	far_free(raw);
}

/* What the server's process has used until now. */
int
raw_peer_cpu(struct raw *raw, uint64_t *out)
{
	struct perf_raw_message ask = {.magic = PERF_RAW_MAGIC, .kind = PERF_RAW_ASK};
	struct raw_link *link = &raw->links[0];
	uint64_t until_ns = raw_now() + raw->options->timeout_ns;
	int rc;

	link->told = false;
	while ((rc = far_transport_send(link->link, &ask, sizeof(ask))) == -EAGAIN &&
	       raw->rc == 0 && raw_now() < until_ns)
		perf_raw_turn(raw->tp, true);
	while (rc == 0 && !link->told && raw->rc == 0) {
		perf_raw_turn(raw->tp, true);
		if (raw_now() >= until_ns)
			rc = -ETIMEDOUT;
	}
	*out = link->cpu_ns;
	return raw->rc != 0 ? raw->rc : rc;
}
