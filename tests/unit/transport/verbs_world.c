/* verbs_world.c - listens, connects, exposes, reads, writes, asks and closes, each within a bound. */
#include "tests/unit/transport/verbs_world.h"

#include "base/alloc.h"

#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"
#define SMALL_BYTES   64U
#define BIG_BYTES     65536U

static void
end_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct verbs_end *end = FAR_CONTAINER_OF(handler, struct verbs_end, handler);

	assert_ptr_equal(event->link, end->link == NULL ? event->link : end->link);
	assert_int_equal(end->closed, 0);
	switch (event->kind) {
	case FAR_EV_CONNECTED:
		end->connected++;
		break;
	case FAR_EV_MESSAGE:
		end->messages++;
		if (event->msg_bytes == sizeof(end->remote))
			memcpy(&end->remote, event->msg, sizeof(end->remote));
		if (end->on_message != NULL)
			end->on_message(end);
		break;
	case FAR_EV_DONE:
		end->dones++;
		end->done_status_last = event->status;
		if (event->status == 0)
			break;
		assert_true(far_err_listed(event->status));
		if (end->done_status == 0)
			end->done_status = event->status;
		break;
	case FAR_EV_SENDABLE:
		end->sendable++;
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
	}
}

static struct far_link_handler *
world_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct verbs_world *w = arg;

	assert_int_equal(hello_bytes, 2);
	assert_memory_equal(hello, "hi", 2);
	if (w->d.link != NULL) {
		assert_null(w->e.link);
		w->e.link = link;
		return &w->e.handler;
	}
	w->d.link = link;
	return &w->d.handler;
}

static void
end_disconnect(struct verbs_end *end)
{
	if (end->link == NULL || end->disconnected)
		return;
	end->disconnected = true;
	far_transport_disconnect(end->link);
}

void
verbs_world_step(struct verbs_world *w, uint64_t deadline_ns, const char *what)
{
	int work = 0;

	if (w->donor != NULL && !w->donor_stopped)
		work += far_transport_poll(w->donor, 16);
	if (w->client != NULL)
		work += far_transport_poll(w->client, 16);
	if (w->d.lost > 0)
		end_disconnect(&w->d);
	if (w->e.lost > 0)
		end_disconnect(&w->e);
	if (w->c.lost > 0)
		end_disconnect(&w->c);
	if (work == 0)
		(void)usleep(50);
	if (far_clock_now(far_clock_real()) > deadline_ns)
		fail_msg("never came: %s", what);
}

bool
verbs_world_is_possible(void)
{
	if (getenv(HOST_VARIABLE) != NULL)
		return true;
	printf("skipped: %s names no address of an RDMA port of this host\n", HOST_VARIABLE);
	return false;
}

static void
world_init(struct verbs_world *w)
{
	static unsigned given;

	w->alloc_bytes = far_alloc_live_bytes();
	w->pages_bytes = far_pages_live_bytes();
	w->d.handler.event = end_event;
	w->e.handler.event = end_event;
	w->c.handler.event = end_event;
	/* Another for each: RDMA CM keeps one that was used for a while. */
	(void)snprintf(w->address, sizeof(w->address), "%s:%u", getenv(HOST_VARIABLE),
		       30000U + ((unsigned)getpid() * 131U + given++) % 20000U);
	if (w->config.clock == NULL)
		w->config.clock = far_clock_real();
}

int
verbs_world_listen(struct verbs_world *w)
{
	int rc;

	world_init(w);
	w->config.posts_no_reads = w->donor_posts_no_reads;
	rc = far_transport_open("verbs", &w->config, &w->donor);
	w->config.posts_no_reads = false;
	if (rc == 0)
		rc = far_transport_listen(w->donor, w->address, world_accept, w, &w->listener);
	return rc;
}

int
verbs_world_connect(struct verbs_world *w)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + 5 * FAR_NS_PER_S;
	int rc = far_transport_open("verbs", &w->config, &w->client);

	if (rc == 0)
		rc = far_transport_connect(w->client, w->address, "hi", 2, deadline_ns,
					   &w->c.handler, &w->c.link);
	if (rc < 0)
		return rc;
	verbs_world_wait(w, w->c.connected > 0 || w->c.lost > 0);
	return w->c.lost > 0 ? w->c.lost_status : 0;
}

static int
memory_open(struct verbs_memory *memory, struct far_transport *tp, uint32_t rights,
	    struct far_link *only)
{
	struct far_mem_source source = {.size_bytes = VERBS_WORLD_BYTES};
	int rc = far_pages_map_shared("world", VERBS_WORLD_BYTES, FAR_PAGES_HUGE_OFF, -1,
				      &memory->pages);

	source.base = memory->pages.base;
	source.fd = memory->pages.fd;
	if (rc == 0)
		rc = far_transport_mem_reg(tp, &source, rights, only, &memory->mem);
	return rc;
}

int
verbs_world_expose(struct verbs_world *w)
{
	int rc = memory_open(&w->region, w->donor, FAR_RIGHT_REMOTE_READ, NULL);

	if (rc == 0) {
		memset(w->region.pages.base, 0x5a, VERBS_WORLD_BYTES);
		rc = memory_open(&w->local, w->client, FAR_RIGHT_LOCAL, NULL);
	}
	if (rc < 0)
		return rc;
	if (w->d.link == NULL || w->d.disconnected)
		return -ENOTCONN;
	rc = memory_open(&w->lane, w->donor, FAR_RIGHT_REMOTE_WRITE, w->d.link);
	if (rc == 0)
		rc = far_transport_mem_expose(w->region.mem, w->d.link);
	if (rc == 0)
		rc = far_transport_mem_expose(w->lane.mem, w->d.link);
	if (rc == 0)
		rc = far_transport_send(w->d.link, "exposed", 7);
	if (rc < 0)
		return rc;
	verbs_world_wait(w, w->c.messages > 0 || w->c.lost > 0);
	return w->c.lost > 0 ? w->c.lost_status : 0;
}

void
verbs_world_join(struct verbs_world *w, void (*start)(void *arg, const char *address), void *arg)
{
	world_init(w);
	start(arg, w->address);
	assert_int_equal(verbs_world_connect(w), 0);
	assert_int_equal(memory_open(&w->local, w->client, FAR_RIGHT_LOCAL, NULL), 0);
	verbs_world_wait(w, w->c.messages == 1);
}

struct far_op
verbs_world_op(struct verbs_world *w, enum far_op_kind kind, struct far_piece *piece,
	       const struct verbs_memory *remote, size_t offset, uint32_t size_bytes)
{
	*piece = (struct far_piece){(uint8_t *)w->local.pages.base + offset, size_bytes,
				    w->local.mem};
	return (struct far_op){
		.kind = kind,
		.remote_addr = remote->mem->remote.addr + offset,
		.rkey = remote->mem->remote.rkey,
		.pieces = piece,
		.piece_count = 1,
	};
}

static int
arm(struct far_transport *tp)
{
	int rc = far_transport_arm(tp);

	return rc == -EAGAIN ? 0 : rc; /* there is something to do */
}

int
verbs_world_use(struct verbs_world *w)
{
	struct far_piece pieces[4];
	struct far_op ops[4] = {
		verbs_world_op(w, FAR_OP_READ, &pieces[0], &w->region, 0, BIG_BYTES),
		verbs_world_op(w, FAR_OP_READ, &pieces[1], &w->region, BIG_BYTES, SMALL_BYTES),
		verbs_world_op(w, FAR_OP_READ, &pieces[2], &w->region, 0, SMALL_BYTES),
		verbs_world_op(w, FAR_OP_WRITE, &pieces[3], &w->lane, 0, BIG_BYTES),
	};
	unsigned dones = w->c.dones, messages = w->d.messages;
	int rc = arm(w->donor);

	ops[2].flags = FAR_OP_FENCE;
	ops[3].token = 1;
	if (rc == 0)
		rc = arm(w->client);
	if (rc == 0 && (w->c.link == NULL || w->c.disconnected))
		rc = -ENOTCONN;
	if (rc == 0)
		rc = far_transport_post(w->c.link, ops, 4);
	if (rc == 0)
		rc = far_transport_send(w->c.link, "used", 4);
	if (rc < 0)
		return rc;
	verbs_world_wait(w, (w->c.dones > dones && w->d.messages > messages) || w->c.lost > 0);
	if (w->c.lost > 0)
		return w->c.lost_status;
	if (w->c.done_status < 0)
		return w->c.done_status;
	assert_memory_equal(w->local.pages.base, w->region.pages.base, BIG_BYTES + SMALL_BYTES);
	assert_memory_equal(w->lane.pages.base, w->local.pages.base, BIG_BYTES);
	return 0;
}

int
verbs_world_begin(struct verbs_world *w)
{
	int rc = verbs_world_listen(w);

	if (rc == 0)
		rc = verbs_world_connect(w);
	if (rc == 0)
		rc = verbs_world_expose(w);
	return rc;
}

void
verbs_world_again(struct verbs_world *w)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + 5 * FAR_NS_PER_S;

	assert_null(w->c.link);
	assert_null(w->d.link);
	w->c = (struct verbs_end){.handler = w->c.handler};
	w->d = (struct verbs_end){.handler = w->d.handler};
	assert_int_equal(far_transport_connect(w->client, w->address, "hi", 2, deadline_ns,
					       &w->c.handler, &w->c.link),
			 0);
	verbs_world_wait(w, w->c.connected == 1);
	assert_int_equal(far_transport_mem_expose(w->region.mem, w->d.link), 0);
	assert_int_equal(far_transport_send(w->d.link, "exposed", 7), 0);
	verbs_world_wait(w, w->c.messages == 1);
}

static void
memory_close(struct verbs_memory *memory)
{
	if (memory->mem != NULL)
		far_transport_mem_dereg(memory->mem);
	if (memory->pages.base != NULL)
		far_pages_unmap(&memory->pages);
}

void
verbs_world_close(struct verbs_world *w)
{
	w->donor_stopped = false;
	end_disconnect(&w->c);
	end_disconnect(&w->d);
	end_disconnect(&w->e);
	verbs_world_wait(w, w->c.link == NULL && w->d.link == NULL && w->e.link == NULL);
	memory_close(&w->region);
	memory_close(&w->lane);
	memory_close(&w->local);
	if (w->listener != NULL)
		far_transport_unlisten(w->donor, w->listener);
	far_transport_close(w->client);
	far_transport_close(w->donor);
	assert_int_equal(far_alloc_live_bytes(), w->alloc_bytes);
	assert_int_equal(far_pages_live_bytes(), w->pages_bytes);
}
