/* ucx_world.c - listens, connects, asks and closes, each within a bound. */
#include "tests/unit/transport/ucx_world.h"

#include <unistd.h>

#include "base/alloc.h"
#include "base/list.h"
#include "tests/support/tcp_port.h"

#define WAIT_NS  (20 * FAR_NS_PER_S)
#define QUESTION "what was stored here?"

static void
end_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct ucx_end *end = FAR_CONTAINER_OF(handler, struct ucx_end, handler);

	assert_ptr_equal(event->link, end->link == NULL ? event->link : end->link);
	assert_int_equal(end->closed, 0);
	switch (event->kind) {
	case FAR_EV_CONNECTED:
		end->connected++;
		break;
	case FAR_EV_MESSAGE:
		assert_int_equal(event->msg_bytes, sizeof(QUESTION));
		assert_memory_equal(event->msg, QUESTION, sizeof(QUESTION));
		end->messages++;
		if (end->echo)
			(void)far_transport_send(event->link, event->msg, event->msg_bytes);
		break;
	case FAR_EV_LOST:
		assert_int_equal(++end->lost, 1);
		assert_true(event->status < 0);
		assert_true(far_err_listed(event->status));
		end->lost_status = event->status;
		break;
	case FAR_EV_CLOSED:
		end->closed++;
		end->link = NULL;
		break;
	case FAR_EV_DONE:
	case FAR_EV_SENDABLE:
		fail_msg("an event that nobody asked for");
		break;
	}
}

static struct far_link_handler *
world_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct ucx_world *w = arg;

	assert_int_equal(hello_bytes, 2);
	assert_memory_equal(hello, "hi", 2);
	assert_null(w->d.link);
	w->d.link = link;
	return &w->d.handler;
}

static void
end_disconnect(struct ucx_end *end)
{
	if (end->link == NULL || end->disconnected)
		return;
	end->disconnected = true;
	far_transport_disconnect(end->link);
}

static void
world_step(struct ucx_world *w, uint64_t deadline_ns, const char *what)
{
	int work = 0;

	if (w->donor != NULL)
		work += far_transport_poll(w->donor, 16);
	if (w->client != NULL)
		work += far_transport_poll(w->client, 16);
	if (w->d.lost > 0)
		end_disconnect(&w->d);
	if (w->c.lost > 0)
		end_disconnect(&w->c);
	if (work == 0)
		(void)usleep(50);
	if (far_clock_now(far_clock_real()) > deadline_ns)
		fail_msg("never came: %s", what);
}

#define world_wait(w, condition)                                                                   \
	do {                                                                                       \
		uint64_t until_ns = far_clock_now(far_clock_real()) + WAIT_NS;                     \
                                                                                                   \
		while (!(condition))                                                               \
			world_step((w), until_ns, #condition);                                     \
	} while (0)

static int
transport_open(struct far_transport **out)
{
	static const char *const here = "127.0.0.1:1"; /* ports of this host's own, and no others */
	struct far_transport_config config = {
		.clock = far_clock_real(), .peers = &here, .peer_count = 1};

	return far_transport_open("ucx", &config, out);
}

int
ucx_world_listen(struct ucx_world *w)
{
	unsigned port = far_test_tcp_port();
	int rc;

	memset(w, 0, sizeof(*w));
	w->alloc_bytes = far_alloc_live_bytes();
	w->d.handler.event = end_event;
	w->d.echo = true;
	w->c.handler.event = end_event;
	if (port == 0) {
		printf("no TCP port on 127.0.0.1\n");
		skip();
	}
	(void)snprintf(w->address, sizeof(w->address), "127.0.0.1:%u", port);
	rc = transport_open(&w->donor);
	if (rc == 0)
		rc = far_transport_listen(w->donor, w->address, world_accept, w, &w->listener);
	return rc;
}

int
ucx_world_connect(struct ucx_world *w)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + WAIT_NS;
	int rc = transport_open(&w->client);

	if (rc == 0)
		rc = far_transport_connect(w->client, w->address, "hi", 2, deadline_ns,
					   &w->c.handler, &w->c.link);
	if (rc < 0)
		return rc;
	world_wait(w, w->c.connected > 0 || w->c.lost > 0);
	return w->c.lost > 0 ? w->c.lost_status : 0;
}

static int
transport_arm(struct far_transport *tp)
{
	int rc = far_transport_arm(tp);

	return rc == -EAGAIN ? 0 : rc; /* there is something to do */
}

int
ucx_world_ask(struct ucx_world *w)
{
	int rc = transport_arm(w->donor);

	if (rc == 0)
		rc = transport_arm(w->client);
	if (rc == 0 && !w->c.disconnected)
		rc = far_transport_send(w->c.link, QUESTION, sizeof(QUESTION));
	if (rc < 0)
		return rc;
	world_wait(w, w->c.messages > 0 || w->c.lost > 0);
	return w->c.lost > 0 ? w->c.lost_status : 0;
}

void
ucx_world_close(struct ucx_world *w)
{
	end_disconnect(&w->c);
	end_disconnect(&w->d);
	world_wait(w, w->c.link == NULL && w->d.link == NULL);
	if (w->listener != NULL)
		far_transport_unlisten(w->donor, w->listener);
	far_transport_close(w->client);
	far_transport_close(w->donor);
	assert_int_equal(far_alloc_live_bytes(), w->alloc_bytes);
}
