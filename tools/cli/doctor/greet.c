/* greet.c - a link to whoever listens, and farpool's first question: who are you, and do you take me? */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/rng.h"
#include "tools/cli/doctor/trip.h"
#include "transport/transport.h"

#define POLL_EVENTS 64
#define SLEEP_MS    5
#define CLOSE_NS    (2 * FAR_NS_PER_S)

enum greet_state { GREET_CONNECTING, GREET_ASKED, GREET_WELCOME, GREET_REFUSED, GREET_LOST };

struct greeting {
	struct far_link_handler handler;
	struct far_transport *tp;
	struct far_link *link; /* NULL: it is gone */
	const char *name_space;
	enum greet_state state;
	bool was_up;
	int rc; /* why it was refused or lost */
	char reason[160];
	uint32_t version;
	uint64_t up_ns, answer_ns;
	struct far_doctor_peer peer;
};

/* ---- the link ---- */

static void
hello_send(struct greeting *greeting)
{
	struct far_frame_hello hello = {.version = FAR_WIRE_VERSION};
	/* Aligned as a frame has to be. */
	uint64_t bytes[(sizeof(struct far_frame_head) + sizeof(hello)) / 8 + 8];
	int length;

	far_random_bytes(&hello.client_id, sizeof(hello.client_id));
	(void)snprintf(hello.name_space, sizeof(hello.name_space), "%s", greeting->name_space);
	(void)snprintf(hello.client, sizeof(hello.client), "farpool doctor");
	length = far_frame_encode(FAR_FRAME_HELLO, 0, &hello, NULL, 0, bytes, sizeof(bytes));
	FAR_ASSERT(length > 0);
	/* -EAGAIN: the peer gave no credit yet, and SENDABLE comes. */
	if (far_transport_send(greeting->link, bytes, (size_t)length) == 0)
		greeting->state = GREET_ASKED;
}

static void
end(struct greeting *greeting, enum greet_state state, int rc, const char *reason)
{
	if (greeting->state > GREET_ASKED)
		return;
	greeting->state = state;
	greeting->rc = rc;
	greeting->answer_ns = far_now_ns();
	(void)snprintf(greeting->reason, sizeof(greeting->reason), "%s", reason);
}

static void
message_take(struct greeting *greeting, const struct far_event *event)
{
	const struct far_frame_refused *refused;
	const struct far_frame_welcome *welcome;
	struct far_frame frame;
	int rc = far_frame_decode(event->msg, event->msg_bytes, &frame);

	if (rc == -EOPNOTSUPP)
		return;
	if (rc == 0 && frame.head.type == FAR_FRAME_WELCOME) {
		welcome = frame.body;
		greeting->version = welcome->version;
		greeting->peer.epoch = welcome->epoch;
		greeting->peer.index_bytes = welcome->index_bytes;
		(void)snprintf(greeting->peer.name, sizeof(greeting->peer.name), "%s",
			       welcome->donor);
		end(greeting, GREET_WELCOME, 0, "");
	} else if (rc == 0 && frame.head.type == FAR_FRAME_REFUSED) {
		refused = frame.body;
		end(greeting, GREET_REFUSED, refused->rc < 0 ? refused->rc : -EACCES,
		    refused->reason);
	} else if (greeting->state == GREET_ASKED) {
		end(greeting, GREET_LOST, -EPROTO, "it answers in another language");
	}
}

static void
link_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct greeting *greeting = FAR_CONTAINER_OF(handler, struct greeting, handler);

	switch (event->kind) {
	case FAR_EV_CONNECTED:
		greeting->was_up = true;
		greeting->up_ns = far_now_ns();
		(void)snprintf(greeting->peer.link, sizeof(greeting->peer.link), "%s",
			       greeting->link->peer);
		hello_send(greeting);
		break;
	case FAR_EV_SENDABLE:
		if (greeting->state == GREET_CONNECTING && greeting->was_up)
			hello_send(greeting);
		break;
	case FAR_EV_MESSAGE:
		message_take(greeting, event);
		break;
	case FAR_EV_LOST:
		end(greeting, GREET_LOST, event->status, "");
		break;
	case FAR_EV_CLOSED:
		greeting->link = NULL;
		break;
	case FAR_EV_DONE:
		break; /* nothing is posted */
	}
}

/* Drives the transport until @until, or, with @closing, until the link is gone. */
static void
drive(struct greeting *greeting, uint64_t until_ns, bool closing)
{
	while (far_now_ns() < until_ns &&
	       (closing ? greeting->link != NULL : greeting->state <= GREET_ASKED)) {
		struct pollfd fd = {.fd = greeting->tp->fd, .events = POLLIN};

		if (far_transport_poll(greeting->tp, POLL_EVENTS) == 0 &&
		    far_transport_arm(greeting->tp) == 0)
			(void)poll(&fd, fd.fd >= 0 ? 1 : 0, SLEEP_MS);
	}
}

/* ---- what it comes to ---- */

static void
open_failed(const struct far_doctor_trip *trip, const struct far_address *address, int rc,
	    struct far_doctor_report *report)
{
	far_doctor_add(report, FAR_DOCTOR_FAIL, "connect", "%s cannot be used on this host: %s",
		       address->scheme, strerror(-rc));
	far_doctor_log_add(report);
	if (rc == -EMFILE)
		far_doctor_fix(report, "ulimit -n 65536");
	else if (rc == -ENOMEM)
		far_doctor_fix(report, "ulimit -l unlimited    (see locked memory above)");
	else
		far_doctor_fix(report, "see %s above",
			       far_doctor_goes_by_rdma(trip, address) ? "RDMA" : "UCX");
}

/* Whether the kernel there completes a connection, which it does for a process that is stopped. */
static bool
port_answers(const struct far_doctor_trip *trip, const struct far_address *address)
{
	struct pollfd fd = {.events = POLLOUT};
	struct sockaddr_storage peer;
	socklen_t bytes = sizeof(int);
	int error = EINPROGRESS;

	memset(&peer, 0, sizeof(peer));
	if (far_doctor_name_find(far_address_rest(address), trip->timeout_ns, &peer) < 0)
		return false;
	fd.fd = socket(peer.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd.fd < 0)
		return false;
	if (connect(fd.fd, (const struct sockaddr *)&peer,
		    peer.ss_family == AF_INET ? sizeof(struct sockaddr_in)
					      : sizeof(struct sockaddr_in6)) == 0)
		error = 0;
	else if (errno == EINPROGRESS &&
		 poll(&fd, 1, (int)(trip->timeout_ns / FAR_NS_PER_MS) + 1) == 1)
		(void)getsockopt(fd.fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
	(void)close(fd.fd);
	return error == 0;
}

/* Why there is no link, by transport: the cause that is likeliest, and what to look at. */
static void
connect_failed(const struct far_doctor_trip *trip, const struct far_address *address, int rc,
	       struct far_doctor_report *report)
{
	const char *rest = far_address_rest(address);
	const char *port = strrchr(rest, ':') != NULL ? strrchr(rest, ':') + 1 : "";

	far_doctor_add(report, FAR_DOCTOR_FAIL, "connect", "%s",
		       rc == -ECONNREFUSED ? "nobody listens there"
		       : rc == -ETIMEDOUT  ? "no answer in time"
					   : strerror(-rc));
	far_doctor_log_add(report);
	if (strcmp(address->scheme, "shm") == 0 && rc == -EACCES) {
		far_doctor_fix(report, "run this as the donor's user, or: chmod 0666 %s", rest);
	} else if (rc == -ECONNREFUSED) {
		far_doctor_fix(report, "start the donor there, with listen: %s", address->text);
	} else if (rc == -ETIMEDOUT && strcmp(address->scheme, "shm") == 0) {
		far_doctor_more(report, "its process is stopped or overloaded");
		far_doctor_fix(report, "pgrep -a farpoold; kill -CONT PID");
	} else if (rc == -ETIMEDOUT && far_doctor_goes_by_rdma(trip, address)) {
		far_doctor_fix(report,
			       "there: pgrep -a farpoold; kill -CONT PID    (is it stopped?)");
		far_doctor_fix(report, "and for its firewall, since RoCE is UDP:");
		far_doctor_fix(report, "nft add rule inet filter input udp dport 4791 accept");
	} else if (rc == -ETIMEDOUT && port_answers(trip, address)) {
		far_doctor_more(report,
				"its port is open, so its process is stopped or overloaded");
		far_doctor_fix(report, "there: pgrep -a farpoold; kill -CONT PID");
	} else if (rc == -ETIMEDOUT) {
		far_doctor_fix(report, "is the host up? if so, there, for its firewall:");
		far_doctor_fix(report, "nft add rule inet filter input tcp dport %s accept", port);
	} else {
		far_doctor_fix(report, "see the donor's log, and the checks above");
	}
}

static void
hello_failed(const struct greeting *greeting, struct far_doctor_report *report)
{
	if (greeting->state <= GREET_ASKED) {
		far_doctor_add(
			report, FAR_DOCTOR_FAIL, "donor",
			"it takes connections and does not answer: its process is stopped or "
			"overloaded");
		far_doctor_fix(report,
			       "on its host: pgrep -a farpoold; kill -CONT PID; or start it "
			       "again");
		return;
	}
	if (greeting->state == GREET_REFUSED) {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "donor", "refused: %s", greeting->reason);
		if (strncmp(greeting->reason, "namespace is ", 13) == 0)
			far_doctor_fix(report, "farpool doctor --set namespace=%.*s",
				       (int)strcspn(greeting->reason + 13, " "),
				       greeting->reason + 13);
		else
			far_doctor_fix(report, "farpool --version; farpoold --version    (on both "
					       "hosts: run the same release)");
		return;
	}
	far_doctor_add(report, FAR_DOCTOR_FAIL, "donor", "the connection broke: %s%s%s",
		       greeting->reason, greeting->reason[0] != '\0' ? ", " : "",
		       strerror(-greeting->rc));
	far_doctor_log_add(report);
	far_doctor_fix(report, "is it a farpoold that listens there? its log says why it hung up");
}

static bool
judge(const struct far_doctor_trip *trip, const struct greeting *greeting,
      const struct far_address *address, uint64_t begin_ns, struct far_doctor_report *report)
{
	char up[FAR_DOCTOR_TIME_TEXT], answer[FAR_DOCTOR_TIME_TEXT];

	if (!greeting->was_up) {
		connect_failed(trip, address,
			       greeting->state == GREET_LOST ? greeting->rc : -ETIMEDOUT, report);
		return false;
	}
	far_doctor_add(report, FAR_DOCTOR_OK, "connect", "%s in %s", greeting->peer.link,
		       far_doctor_time(greeting->up_ns - begin_ns, up));
	if (greeting->state != GREET_WELCOME) {
		hello_failed(greeting, report);
		return false;
	}
	far_doctor_add(report, FAR_DOCTOR_OK, "donor", "%s, epoch %016" PRIx64 ", answered in %s",
		       greeting->peer.name, greeting->peer.epoch,
		       far_doctor_time(greeting->answer_ns - greeting->up_ns, answer));
	if (greeting->version == FAR_WIRE_VERSION)
		return true;
	far_doctor_worsen(report, FAR_DOCTOR_FAIL);
	far_doctor_more(report, "it speaks version %" PRIu32 ", this farpool %u", greeting->version,
			FAR_WIRE_VERSION);
	far_doctor_fix(report, "run the same release on both hosts");
	return false;
}

bool
far_doctor_greet(const struct far_doctor_trip *trip, const struct far_address *address,
		 struct far_doctor_report *report, struct far_doctor_peer *out)
{
	const char *rest = far_address_rest(address);
	struct far_transport_config config = {
		.clock = far_clock_real(),
		.rdma = trip->config->rdma,
		.trust = (enum far_trust)trip->config->trust,
		.peers = &rest,
		.peer_count = 1,
	};
	struct greeting greeting = {.handler.event = link_event,
				    .name_space = trip->config->name_space};
	uint64_t begin_ns = far_now_ns();
	uint64_t deadline_ns = begin_ns + trip->timeout_ns;
	bool good;
	int rc = far_transport_open(address->scheme, &config, &greeting.tp);

	if (rc < 0) {
		open_failed(trip, address, rc, report);
		return false;
	}
	rc = far_transport_connect(greeting.tp, rest, "", 0, deadline_ns, &greeting.handler,
				   &greeting.link);
	if (rc < 0) {
		greeting.link = NULL;
		end(&greeting, GREET_LOST, rc, "");
	}
	drive(&greeting, deadline_ns, false);
	good = judge(trip, &greeting, address, begin_ns, report);
	*out = greeting.peer;
	if (greeting.link != NULL)
		far_transport_disconnect(greeting.link);
	drive(&greeting, far_now_ns() + CLOSE_NS, true);
	/* A link that does not end in time keeps its transport until this process ends. */
	if (greeting.link == NULL)
		far_transport_close(greeting.tp);
	return good;
}
