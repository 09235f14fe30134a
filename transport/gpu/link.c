/* link.c - links: each around one of the inner transport's, whose events become ours. */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "transport/gpu/gpu_priv.h"

/* ---- life ---- */

static void
link_free(struct gpu_link *link)
{
	far_free(link->list_pool);
	far_free(link->ops);
	far_free(link->pieces);
	far_free(link->slices);
	far_free(link->keys);
	far_free(link);
}

static void inner_event(struct far_link_handler *handler, const struct far_event *event);

static struct gpu_link *
link_new(struct gpu_transport *tp, struct far_link_handler *handler)
{
	struct gpu_link *link = far_zalloc(sizeof(*link));

	if (link == NULL)
		return NULL;
	link->link.tp = &tp->tp;
	link->link.handler = handler;
	link->inner_handler.event = inner_event;
	far_list_init(&link->all_node);
	far_list_init(&link->run_node);
	far_list_init(&link->lists);
	far_list_init(&link->slices_free);
	far_list_init(&link->writes_ready);
	link->list_pool = far_zalloc_array(GPU_LISTS_MAX, sizeof(*link->list_pool));
	link->ops = far_zalloc_array(GPU_OPS_MAX, sizeof(*link->ops));
	link->pieces = far_zalloc_array(GPU_PIECES_MAX, sizeof(*link->pieces));
	link->slices = far_zalloc_array(GPU_SLICES_MAX, sizeof(*link->slices));
	if (link->list_pool == NULL || link->ops == NULL || link->pieces == NULL ||
	    link->slices == NULL) {
		link_free(link);
		return NULL;
	}
	for (uint32_t i = 0; i < GPU_SLICES_MAX; i++)
		far_list_push_back(&link->slices_free, &link->slices[i].node);
	return link;
}

static void
link_add(struct gpu_transport *tp, struct gpu_link *link)
{
	far_list_push_back(&tp->links, &link->all_node);
	tp->link_count++;
}

/* What the inner link shows of itself is ours to show. */
static void
link_mirror(struct gpu_link *link)
{
	link->link.up = link->inner->up && !link->lost;
	memcpy(link->link.peer, link->inner->peer, sizeof(link->link.peer));
}

void
far_gpu_link_wake(struct gpu_link *link)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);

	if (far_list_empty(&link->run_node))
		far_list_push_back(&tp->running, &link->run_node);
}

void
far_gpu_links_room(struct gpu_transport *tp)
{
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct gpu_link *link = FAR_CONTAINER_OF(it, struct gpu_link, all_node);

		if (!link->room_waits)
			continue;
		link->room_waits = false;
		far_gpu_link_wake(link);
	}
}

/* ---- listen, connect ---- */

static struct far_link_handler *
inner_accept(void *arg, struct far_link *inner, const void *hello, size_t hello_bytes)
{
	struct gpu_listener *listener = arg;
	struct gpu_link *link = link_new(listener->tp, NULL);

	if (link == NULL)
		return NULL;
	link->inner = inner;
	link_mirror(link);
	link->link.handler = listener->accept(listener->arg, &link->link, hello, hello_bytes);
	if (link->link.handler == NULL) {
		link_free(link);
		return NULL;
	}
	link_add(listener->tp, link);
	return &link->inner_handler;
}

int
far_gpu_listen(struct far_transport *ftp, const char *address, far_accept_fn *accept, void *arg,
	       struct far_listener **out)
{
	struct gpu_transport *tp = gpu_tp(ftp);
	struct gpu_listener *listener = far_zalloc(sizeof(*listener));
	int rc;

	if (listener == NULL)
		return -ENOMEM;
	*listener = (struct gpu_listener){.tp = tp, .accept = accept, .arg = arg};
	rc = far_transport_listen(tp->inner, address, inner_accept, listener, &listener->inner);
	if (rc < 0) {
		far_free(listener);
		return rc;
	}
	*out = (struct far_listener *)(void *)listener;
	return 0;
}

void
far_gpu_unlisten(struct far_listener *flistener)
{
	struct gpu_listener *listener = (struct gpu_listener *)(void *)flistener;

	far_transport_unlisten(listener->tp->inner, listener->inner);
	far_free(listener);
}

int
far_gpu_connect(struct far_transport *ftp, const char *address, const void *hello,
		size_t hello_bytes, uint64_t deadline_ns, struct far_link_handler *handler,
		struct far_link **out)
{
	struct gpu_transport *tp = gpu_tp(ftp);
	struct gpu_link *link = link_new(tp, handler);
	int rc;

	if (link == NULL)
		return -ENOMEM;
	rc = far_transport_connect(tp->inner, address, hello, hello_bytes, deadline_ns,
				   &link->inner_handler, &link->inner);
	if (rc < 0) {
		link_free(link);
		return rc;
	}
	link_mirror(link);
	link_add(tp, link);
	*out = &link->link;
	return 0;
}

/* ---- the inner link's events ---- */

static void
tell(struct gpu_link *link, struct far_event event)
{
	event.link = &link->link;
	link->link.handler->event(link->link.handler, &event);
}

static void
inner_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct gpu_link *link = FAR_CONTAINER_OF(handler, struct gpu_link, inner_handler);

	switch (event->kind) {
	case FAR_EV_DONE:
		far_gpu_inner_done(link, event->token, event->status);
		return;
	case FAR_EV_SENDABLE:
		if (link->inner_full) {
			link->inner_full = false;
			far_gpu_link_wake(link);
		}
		if (!link->user_waits_inner || !link->link.up)
			return;
		link->user_waits_inner = false;
		break;
	case FAR_EV_CLOSED:
		/* Copies of it may still be on their way. */
		link->inner = NULL;
		far_gpu_link_wake(link);
		return;
	case FAR_EV_LOST:
		link->link.up = false;
		far_gpu_lists_cancel(link, -ECANCELED);
		if (link->lost || link->disconnected)
			return;
		link->lost = true;
		break;
	case FAR_EV_CONNECTED:
	case FAR_EV_MESSAGE:
		link_mirror(link);
		if (link->lost || link->disconnected)
			return;
		break;
	}
	tell(link, *event);
}

/* ---- use ---- */

void
far_gpu_disconnect(struct far_link *flink)
{
	struct gpu_link *link = gpu_link(flink);

	FAR_ASSERT(!link->disconnected);
	link->disconnected = true;
	flink->up = false;
	far_gpu_lists_cancel(link, -ECANCELED);
	far_transport_disconnect(link->inner);
}

void
far_gpu_forget(struct far_link *flink, const struct far_rkey *rkey)
{
	struct gpu_link *link = gpu_link(flink);

	far_gpu_mapped_forget(link, rkey);
	if (link->inner != NULL)
		far_transport_forget(link->inner, rkey);
}

int
far_gpu_send(struct far_link *flink, const void *msg, size_t size_bytes)
{
	struct gpu_link *link = gpu_link(flink);
	int rc;

	if (!flink->up)
		return -ENOTCONN;
	if (link->writes_unposted > 0) {
		link->user_waits_writes = true;
		return -EAGAIN;
	}
	rc = far_transport_send(link->inner, msg, size_bytes);
	if (rc == -EAGAIN)
		link->user_waits_inner = true;
	return rc;
}

/* ---- what is told from poll ---- */

/* What was refused for our own reasons can be tried again. */
static int
sendable_report(struct gpu_link *link)
{
	bool now = false;

	if (!link->link.up)
		return 0;
	if (link->user_waits_writes && link->writes_unposted == 0) {
		link->user_waits_writes = false;
		now = true;
	}
	if (link->user_waits_ops > 0 &&
	    far_gpu_link_takes(link, link->user_waits_ops, link->user_waits_pieces,
			       link->user_waits_bytes)) {
		link->user_waits_ops = 0;
		now = true;
	}
	if (now)
		tell(link, (struct far_event){.kind = FAR_EV_SENDABLE});
	return now;
}

static int
lost_report(struct gpu_link *link)
{
	int status = link->lost_status;

	if (status == 0 || link->lost || link->disconnected)
		return 0;
	link->lost = true;
	link->link.up = false;
	far_gpu_lists_cancel(link, -ECANCELED);
	tell(link, (struct far_event){.kind = FAR_EV_LOST, .status = status});
	return 1;
}

static int
closed_report(struct gpu_transport *tp, struct gpu_link *link)
{
	if (!link->disconnected || link->inner != NULL || link->slices_live > 0 ||
	    !far_list_empty(&link->lists))
		return 0;
	FAR_ASSERT(link->chunks_held == 0);
	far_gpu_mapped_fini(link);
	far_list_remove(&link->all_node);
	far_list_remove(&link->run_node);
	tp->link_count--;
	tell(link, (struct far_event){.kind = FAR_EV_CLOSED});
	link_free(link);
	return 1;
}

int
far_gpu_links_report(struct gpu_transport *tp)
{
	struct far_list *it, *next;
	int events = 0;

	/* A handler may open links, behind these; it ends none of them here and now. */
	for (it = tp->links.next; it != &tp->links; it = it->next)
		events += far_gpu_lists_report(FAR_CONTAINER_OF(it, struct gpu_link, all_node));
	/* What ended on one link may be the room that another waits for. */
	FAR_LIST_FOR_EACH_SAFE(it, next, &tp->links)
	{
		struct gpu_link *link = FAR_CONTAINER_OF(it, struct gpu_link, all_node);

		events += lost_report(link);
		events += sendable_report(link);
		events += closed_report(tp, link);
	}
	return events;
}
