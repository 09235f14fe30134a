/* loop_world.c - a donor and a client on a fabric of their own. */
#include "tests/unit/transport/loop/loop_world.h"

static void
trace(struct world *w, uint64_t what)
{
	w->trace = far_mix64(w->trace ^ what);
}

static void
end_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct world_end *end = FAR_CONTAINER_OF(handler, struct world_end, handler);
	struct world *w = end->w;

	trace(w, far_clock_now(w->clock));
	trace(w, (uint64_t)event->kind * 2 + (end == &w->donor));
	trace(w, event->token);
	trace(w, (uint64_t)-event->status);
	switch (event->kind) {
	case FAR_EV_CONNECTED:
		end->connected++;
		break;
	case FAR_EV_MESSAGE:
		end->messages++;
		break;
	case FAR_EV_DONE:
		assert_int_equal(end->status[event->token], 1);
		end->status[event->token] = event->status;
		end->done_count++;
		break;
	case FAR_EV_SENDABLE:
		break;
	case FAR_EV_LOST:
		end->lost++;
		end->lost_status = event->status;
		break;
	case FAR_EV_CLOSED:
		end->closed++;
		end->link = NULL;
		break;
	}
}

static struct far_link_handler *
donor_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct world *w = arg;
	(void)hello;
	(void)hello_bytes;

	assert_null(w->donor.link);
	w->donor.link = link;
	return &w->donor.handler;
}

static void
end_init(struct world *w, struct world_end *end)
{
	memset(end, 0, sizeof(*end));
	end->w = w;
	end->handler.event = end_event;
	for (size_t i = 0; i < WORLD_TOKENS_MAX; i++)
		end->status[i] = 1;
}

static struct far_transport *
host_open(struct world *w, const char *name)
{
	struct far_transport_config config = {
		.clock = w->clock,
		.fabric = w->fabric,
		.host = name,
	};
	struct far_transport *tp;

	assert_int_equal(far_transport_open("loop", &config, &tp), 0);
	return tp;
}

void
world_donor_open(struct world *w)
{
	struct far_mem_source source = {
		.base = w->region_bytes, .size_bytes = WORLD_REGION_BYTES, .fd = -1};
	uint32_t rights = FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE;

	w->donor_tp = host_open(w, "donor");
	assert_int_equal(far_transport_listen(w->donor_tp, "donor", donor_accept, w, &w->listener),
			 0);
	assert_int_equal(far_transport_mem_reg(w->donor_tp, &source, rights, NULL, &w->region), 0);
	w->remote = w->region->remote;
}

void
world_donor_bury(struct world *w)
{
	far_loop_host_bury(w->donor_tp);
	w->donor_tp = NULL;
	w->listener = NULL;
	w->region = NULL;
	w->donor.link = NULL;
}

void
world_connect(struct world *w)
{
	end_init(w, &w->donor);
	end_init(w, &w->client);
	assert_int_equal(far_transport_connect(w->client_tp, "donor", NULL, 0, FAR_TIME_NEVER,
					       &w->client.handler, &w->client.link),
			 0);
	world_wait(w, w->client.connected == 1);
	assert_int_equal(far_transport_mem_expose(w->region, w->donor.link), 0);
	assert_int_equal(far_transport_send(w->donor.link, "exposed", 7), 0);
	world_wait(w, w->client.messages == 1);
}

void
world_disconnect(struct world *w)
{
	if (w->client.link != NULL)
		far_transport_disconnect(w->client.link);
	if (w->donor.link != NULL)
		far_transport_disconnect(w->donor.link);
	world_wait(w, w->client.link == NULL && w->donor.link == NULL);
}

struct world *
world_open(const struct far_loop_config *config)
{
	static const struct far_loop_config kind;
	struct world *w = far_zalloc_aligned(64, sizeof(*w));
	struct far_mem_source source = {
		.base = w->local_bytes, .size_bytes = WORLD_REGION_BYTES, .fd = -1};

	assert_int_equal(far_loop_fabric_open(config != NULL ? config : &kind, &w->fabric), 0);
	w->clock = far_loop_clock(w->fabric);
	w->client_tp = host_open(w, "client");
	assert_int_equal(
		far_transport_mem_reg(w->client_tp, &source, FAR_RIGHT_LOCAL, NULL, &w->local), 0);
	world_donor_open(w);
	world_connect(w);
	return w;
}

void
world_close(struct world *w)
{
	world_disconnect(w);
	if (w->donor_tp != NULL) {
		far_transport_mem_dereg(w->region);
		far_transport_unlisten(w->donor_tp, w->listener);
		far_transport_close(w->donor_tp);
	}
	far_transport_mem_dereg(w->local);
	far_transport_close(w->client_tp);
	far_loop_fabric_close(w->fabric);
	far_free(w);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

bool
world_step(struct world *w)
{
	int count = far_loop_step(w->fabric, far_clock_now(w->clock) + FAR_NS_PER_MS);

	if (w->donor_tp != NULL)
		count += far_transport_poll(w->donor_tp, 16);
	count += far_transport_poll(w->client_tp, 16);
	return count > 0;
}

struct far_op
world_op(struct world *w, enum far_op_kind kind, const struct far_piece *piece, uint64_t offset,
	 uint64_t token)
{
	return (struct far_op){
		.kind = kind,
		.remote_addr = w->remote.addr + offset,
		.rkey = w->remote.rkey,
		.pieces = piece,
		.piece_count = 1,
		.token = token,
	};
}

void
world_post(struct world *w, enum far_op_kind kind, uint32_t offset, uint32_t size_bytes,
	   uint64_t token)
{
	struct far_piece piece = {w->local_bytes + offset, size_bytes, w->local};
	struct far_op op = world_op(w, kind, &piece, offset, token);

	assert_int_equal(far_transport_post(w->client.link, &op, 1), 0);
}
