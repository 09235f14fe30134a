/*
 * loop.c - the simulated transport: what farpool asks of every transport, in its simplest form.
 *
 * This is a good file to read first. A donor and its clients are hosts on one fabric, inside one
 * thread. Nothing happens in post() or send() but that the wish is written down:
 *
 *	far_transport_post()  op.c      the list waits in the link; each op gets moments in time
 *	far_loop_step()       fabric.c  time moves to the next moment; lines are sampled or placed
 *	                      op.c      the last one is through: the completion is put in `ready`
 *	far_transport_poll()  here      `ready` is emptied, one notice after the other, into handlers
 *
 * Messages and keys (parcel.c, memory.c) and the life of links (link.c) go the same way. Time and
 * chance come from the seed alone, so each run of a test is the same run.
 */
#include "transport/loop/loop_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "transport/mapped.h"

static int
loop_open(const struct far_transport_config *config, struct far_transport **out)
{
	uint32_t credits = config->message_credits;
	struct loop_host *host;

	if (config->fabric == NULL || config->host == NULL || config->host[0] == '\0')
		return -EINVAL;
	if (strlen(config->host) >= LOOP_HOST_BYTES_MAX || credits > LOOP_CREDITS_MAX)
		return -EINVAL;

	host = far_zalloc(sizeof(*host));
	if (host == NULL)
		return -ENOMEM;
	host->tp.ops = &far_loop_ops;
	host->tp.caps.flags = FAR_CAP_ONE_SIDED | FAR_CAP_READ_ONLY_KEYS | FAR_CAP_FENCED_WRITES |
			      FAR_CAP_DOMAINS;
	host->tp.caps.op_bytes_max = LOOP_OP_BYTES_MAX;
	host->tp.fd = -1; /* virtual time: there is nothing to sleep on */
	host->fabric = config->fabric;
	snprintf(host->name, sizeof(host->name), "%s", config->host);
	host->message_credits = credits > 0 ? credits : LOOP_CREDITS_DEFAULT;
	host->bytes_max = config->bytes_in_flight_max;
	host->peer_bytes_max = config->peer_bytes_in_flight_max;
	far_list_init(&host->ready);
	far_list_init(&host->links);
	far_list_init(&host->mems);
	far_list_push_back(&host->fabric->hosts, &host->node);
	*out = &host->tp;
	return 0;
}

static void
loop_close(struct far_transport *tp)
{
	struct loop_host *host = loop_host(tp);

	FAR_ASSERT(far_list_empty(&host->links));
	FAR_ASSERT(far_list_empty(&host->mems));
	FAR_ASSERT(host->listener_count == 0);
	far_list_remove(&host->node);
	far_free(host);
}

static int
loop_listen(struct far_transport *tp, const char *address, far_accept_fn *accept, void *arg,
	    struct far_listener **out)
{
	struct loop_host *host = loop_host(tp);
	struct loop_listener *listener;

	if (address[0] == '\0' || strlen(address) >= sizeof(listener->address))
		return -EINVAL;
	if (far_loop_listener_find(host->fabric, address) != NULL)
		return -EADDRINUSE;
	listener = far_zalloc(sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	listener->host = host;
	listener->accept = accept;
	listener->arg = arg;
	snprintf(listener->address, sizeof(listener->address), "%s", address);
	far_list_push_back(&host->fabric->listeners, &listener->node);
	host->listener_count++;
	*out = (struct far_listener *)listener;
	return 0;
}

static void
loop_unlisten(struct far_listener *opaque)
{
	struct loop_listener *listener = (struct loop_listener *)opaque;
	struct loop_host *host = listener->host;
	struct far_list *it;
	struct far_list *tmp;

	/* Whoever still waits to be asked is refused. */
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &host->links)
	{
		struct loop_link *link = FAR_CONTAINER_OF(it, struct loop_link, node);
		struct loop_link *peer = link->peer;

		if (link->listener != listener)
			continue;
		far_loop_link_free(link);
		if (peer != NULL)
			far_loop_link_doom(peer, -ECONNREFUSED);
	}
	far_list_remove(&listener->node);
	host->listener_count--;
	far_free(listener);
}

/* ---- the ready queue ---- */

void
far_loop_notice_push(struct loop_host *host, struct loop_notice *notice)
{
	if (notice->queued)
		return;
	notice->queued = true;
	far_list_push_back(&host->ready, &notice->node);
}

void
far_loop_notice_drop(struct loop_notice *notice)
{
	if (!notice->queued)
		return;
	notice->queued = false;
	far_list_remove(&notice->node);
}

void
far_loop_link_tell(struct loop_link *link, enum loop_notice_kind kind)
{
	far_loop_notice_push(link->host, &link->notices[kind]);
}

static void
link_event(struct loop_link *link, enum far_event_kind kind, int status)
{
	struct far_event event = {.kind = kind, .status = status, .link = &link->link};

	link->link.handler->event(link->link.handler, &event);
}

static void
notice_tell(struct loop_notice *notice)
{
	struct loop_link *link = notice->link;

	switch (notice->kind) {
	case LOOP_NOTICE_REQUEST:
		far_loop_link_accept(link);
		break;
	case LOOP_NOTICE_CONNECTED:
		link_event(link, FAR_EV_CONNECTED, 0);
		break;
	case LOOP_NOTICE_SENDABLE:
		link_event(link, FAR_EV_SENDABLE, 0);
		break;
	case LOOP_NOTICE_LOST:
		link_event(link, FAR_EV_LOST, link->fate_status);
		break;
	case LOOP_NOTICE_CLOSED:
		link_event(link, FAR_EV_CLOSED, 0);
		far_loop_link_free(link);
		break;
	case LOOP_NOTICE_MESSAGE:
		far_loop_message_tell(FAR_CONTAINER_OF(notice, struct loop_parcel, notice));
		break;
	case LOOP_NOTICE_DONE:
		far_loop_op_tell(FAR_CONTAINER_OF(notice, struct loop_op, notice));
		break;
	}
}

static int
loop_poll(struct far_transport *tp, int budget)
{
	struct loop_host *host = loop_host(tp);
	int count = 0;

	while (count < budget && !host->paused && !host->dead && !far_list_empty(&host->ready)) {
		struct loop_notice *notice;

		notice = FAR_CONTAINER_OF(host->ready.next, struct loop_notice, node);
		far_loop_notice_drop(notice);
		notice_tell(notice);
		count++;
	}
	return count;
}

static int
loop_arm(struct far_transport *tp)
{
	return far_list_empty(&loop_host(tp)->ready) ? 0 : -EAGAIN;
}

const struct far_transport_ops far_loop_ops = {
	.name = "loop",
	.open = loop_open,
	.close = loop_close,
	.mem_reg = far_loop_mem_reg,
	.mem_dereg = far_loop_mem_dereg,
	.mem_expose = far_loop_mem_expose,
	.listen = loop_listen,
	.unlisten = loop_unlisten,
	.connect = far_loop_connect,
	.disconnect = far_loop_disconnect,
	.forget = far_loop_forget,
	.map = far_transport_maps_nothing,
	.post = far_loop_post,
	.send = far_loop_send,
	.poll = loop_poll,
	.arm = loop_arm,
};
