/* null.c - the table of the transport that moves nothing. */
#include "tests/gpu/null.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/list.h"
#include "transport/mapped.h"

#define ENDED_MAX 8192U /* a power of two */

struct null_link {
	struct far_link link;
	bool closing;
	uint64_t ended[ENDED_MAX]; /* tokens to be told of */
	uint32_t head, tail;
};

struct null_transport {
	struct far_transport tp;
	struct null_link *link; /* the only one; NULL: none */
};

static struct null_transport *
null_tp(struct far_transport *tp)
{
	return FAR_CONTAINER_OF(tp, struct null_transport, tp);
}

static struct null_link *
null_link(struct far_link *link)
{
	return FAR_CONTAINER_OF(link, struct null_link, link);
}

static int
null_open(const struct far_transport_config *config, struct far_transport **out)
{
	(void)config;
	return null_transport_open(out);
}

static void
null_close(struct far_transport *ftp)
{
	struct null_transport *tp = null_tp(ftp);

	FAR_ASSERT(tp->link == NULL);
	(void)close(ftp->fd);
	far_free(tp);
}

static int
null_mem_reg(struct far_transport *tp, const struct far_mem_source *source, uint32_t rights,
	     struct far_link *only, struct far_mem **out)
{
	struct far_mem *mem;

	(void)only;
	if (source->device != NULL)
		return -EOPNOTSUPP;
	mem = far_zalloc(sizeof(*mem));
	if (mem == NULL)
		return -ENOMEM;
	mem->tp = tp;
	mem->base = source->base;
	mem->size_bytes = source->size_bytes;
	mem->rights = rights;
	*out = mem;
	return 0;
}

static void
null_mem_dereg(struct far_mem *mem)
{
	far_free(mem);
}

static int
null_mem_expose(struct far_mem *mem, struct far_link *link)
{
	(void)mem;
	(void)link;
	return 0;
}

static int
null_listen(struct far_transport *tp, const char *address, far_accept_fn *accept, void *arg,
	    struct far_listener **out)
{
	(void)tp;
	(void)address;
	(void)accept;
	(void)arg;
	(void)out;
	return -EOPNOTSUPP;
}

static void
null_unlisten(struct far_listener *listener)
{
	(void)listener;
}

static int
null_connect(struct far_transport *tp, const char *address, const void *hello, size_t hello_bytes,
	     uint64_t deadline_ns, struct far_link_handler *handler, struct far_link **out)
{
	struct null_link *link;

	(void)address;
	(void)hello;
	(void)hello_bytes;
	(void)deadline_ns;
	FAR_ASSERT(null_tp(tp)->link == NULL);
	link = far_zalloc(sizeof(*link));
	if (link == NULL)
		return -ENOMEM;
	link->link.tp = tp;
	link->link.handler = handler;
	null_tp(tp)->link = link;
	*out = &link->link;
	return 0;
}

static void
null_disconnect(struct far_link *link)
{
	null_link(link)->closing = true;
}

static void
null_forget(struct far_link *link, const struct far_rkey *rkey)
{
	(void)link;
	(void)rkey;
}

static int
null_post(struct far_link *flink, const struct far_op *ops, int count)
{
	struct null_link *link = null_link(flink);

	if (!flink->up)
		return -ENOTCONN;
	if (link->tail - link->head > ENDED_MAX - FAR_POST_OPS_MAX)
		return -EAGAIN;
	for (int i = 0; i < count; i++)
		if (ops[i].token != 0)
			link->ended[link->tail++ % ENDED_MAX] = ops[i].token;
	return 0;
}

static int
null_send(struct far_link *link, const void *msg, size_t size_bytes)
{
	(void)link;
	(void)msg;
	(void)size_bytes;
	return 0;
}

static int
null_poll(struct far_transport *ftp, int budget)
{
	struct null_link *link = null_tp(ftp)->link;
	struct far_event event = {.kind = FAR_EV_CONNECTED};
	int done = 0;

	if (link == NULL)
		return 0;
	event.link = &link->link;
	if (!link->link.up && !link->closing) {
		link->link.up = true;
		link->link.handler->event(link->link.handler, &event);
		return 1;
	}
	event.kind = FAR_EV_DONE;
	for (; done < budget && link->head != link->tail; done++) {
		event.token = link->ended[link->head++ % ENDED_MAX];
		link->link.handler->event(link->link.handler, &event);
	}
	if (link->closing && link->head == link->tail) {
		struct far_link_handler *handler = link->link.handler;

		null_tp(ftp)->link = NULL;
		event.kind = FAR_EV_CLOSED;
		handler->event(handler, &event);
		far_free(link);
		done++;
	}
	return done;
}

static int
null_arm(struct far_transport *tp)
{
	const struct null_link *link = null_tp(tp)->link;

	return link != NULL && (!link->link.up || link->closing || link->head != link->tail)
		       ? -EAGAIN
		       : 0;
}

static const struct far_transport_ops null_ops = {
	.name = "null",
	.open = null_open,
	.close = null_close,
	.mem_reg = null_mem_reg,
	.mem_dereg = null_mem_dereg,
	.mem_expose = null_mem_expose,
	.listen = null_listen,
	.unlisten = null_unlisten,
	.connect = null_connect,
	.disconnect = null_disconnect,
	.forget = null_forget,
	.map = far_transport_maps_nothing,
	.post = null_post,
	.send = null_send,
	.poll = null_poll,
	.arm = null_arm,
};

int
null_transport_open(struct far_transport **out)
{
	struct null_transport *tp = far_zalloc(sizeof(*tp));

	if (tp == NULL)
		return -ENOMEM;
	tp->tp.ops = &null_ops;
	tp->tp.caps = (struct far_caps){.flags = FAR_CAP_ONE_SIDED, .op_bytes_max = 1ULL << 40};
	tp->tp.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (tp->tp.fd < 0) {
		far_free(tp);
		return -EMFILE;
	}
	*out = &tp->tp;
	return 0;
}
