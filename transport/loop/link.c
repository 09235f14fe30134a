/* link.c - a link's life: asked for, accepted, up, broken or disconnected, closed. */
#include "transport/loop/loop_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

static void fate_fire(struct loop_timer *timer);
static void setup_fire(struct loop_timer *timer);
static void deadline_fire(struct loop_timer *timer);

/* The timers of an end beside those of its ops and messages: setup, deadline, fate, accept. */
#define LINK_TIMERS 4

static size_t
link_timer_count(const struct loop_link *link)
{
	return (size_t)link->op_max + link->parcel_count + LINK_TIMERS;
}

/* One end, with all that it will ever need: nothing below is allocated while it is up. */
static int
link_open(struct loop_host *host, enum loop_link_state state, struct loop_link **out)
{
	struct far_loop_fabric *fabric = host->fabric;
	struct loop_link *link = far_zalloc(sizeof(*link));
	uint32_t op_max = fabric->config.op_queue_max;
	int rc;

	if (link == NULL)
		return -ENOMEM;
	link->link.tp = &host->tp;
	link->link.sums_from = fabric->config.sums_from;
	link->link.sums_reads = fabric->config.sums_from != 0;
	link->host = host;
	link->number = fabric->link_next++;
	link->state = state;
	link->setup.fire = setup_fire;
	link->deadline.fire = deadline_fire;
	link->fate.fire = fate_fire;
	far_list_init(&link->outbox);
	far_list_init(&link->inbox);
	far_list_init(&link->keys);
	far_list_init(&link->flying);
	far_list_init(&link->writes);
	for (size_t i = 0; i < LOOP_LINK_NOTICES; i++) {
		link->notices[i].kind = (enum loop_notice_kind)i;
		link->notices[i].link = link;
	}
	link->accept.kind = LOOP_PARCEL_ACCEPT;
	link->accept.timer.fire = far_loop_parcel_fire;
	far_list_init(&link->accept.node);
	far_list_push_back(&host->links, &link->node);
	rc = far_loop_inbox_open(link, host->message_credits);
	if (rc == 0)
		rc = far_loop_ops_open(link, op_max > FAR_POST_OPS_MAX ? op_max : FAR_POST_OPS_MAX);
	if (rc == 0)
		rc = far_loop_timers_reserve(fabric, link_timer_count(link));
	if (rc < 0) {
		far_loop_ops_close(link);
		far_loop_inbox_close(link);
		far_list_remove(&link->node);
		far_free(link);
		return rc;
	}
	*out = link;
	return 0;
}

void
far_loop_link_free(struct loop_link *link)
{
	struct far_loop_fabric *fabric = link->host->fabric;

	far_loop_timer_cancel(fabric, &link->setup);
	far_loop_timer_cancel(fabric, &link->deadline);
	far_loop_timer_cancel(fabric, &link->fate);
	for (size_t i = 0; i < LOOP_LINK_NOTICES; i++)
		far_loop_notice_drop(&link->notices[i]);
	far_loop_outbox_drop(link);
	if (link->peer != NULL) {
		/* What the peer has sent lies in our inbox. */
		far_loop_outbox_drop(link->peer);
		link->peer->peer = NULL;
	}
	if (link->post_refused)
		link->host->refused_count--;
	far_loop_timers_release(fabric, link_timer_count(link));
	far_loop_ops_close(link);
	far_loop_inbox_close(link);
	while (!far_list_empty(&link->keys))
		far_loop_key_free(FAR_CONTAINER_OF(link->keys.next, struct loop_key, node));
	far_list_remove(&link->node);
	far_free(link);
}

/* ---- the way up ---- */

int
far_loop_connect(struct far_transport *tp, const char *address, const void *hello,
		 size_t hello_bytes, uint64_t deadline_ns, struct far_link_handler *handler,
		 struct far_link **out)
{
	struct loop_host *host = loop_host(tp);
	struct far_loop_fabric *fabric = host->fabric;
	struct loop_link *link;
	int rc;

	if (address[0] == '\0' || strlen(address) >= FAR_ADDRESS_BYTES_MAX)
		return -EINVAL;
	rc = link_open(host, LOOP_LINK_CONNECTING, &link);
	if (rc < 0)
		return rc;
	snprintf(link->address, sizeof(link->address), "%s", address);
	snprintf(link->link.peer, sizeof(link->link.peer), "%s", address);
	if (hello_bytes > 0)
		memcpy(link->hello, hello, hello_bytes);
	link->hello_bytes = hello_bytes;
	link->link.handler = handler;
	far_loop_timer_set(fabric, &link->setup, far_loop_arrival(fabric));
	if (deadline_ns != FAR_TIME_NEVER)
		far_loop_timer_set(fabric, &link->deadline, deadline_ns);
	*out = &link->link;
	return 0;
}

/* The request reaches the listener's host: its next poll asks. */
static void
setup_fire(struct loop_timer *timer)
{
	struct loop_link *link = FAR_CONTAINER_OF(timer, struct loop_link, setup);
	struct far_loop_fabric *fabric = link->host->fabric;
	struct loop_listener *listener = far_loop_listener_find(fabric, link->address);
	struct loop_link *passive;

	if (listener == NULL) {
		far_loop_link_doom(link, -ECONNREFUSED);
		return;
	}
	if (far_loop_is_cut(fabric, link->host->name, listener->host->name))
		return; /* nobody answers: the deadline ends it */
	if (link_open(listener->host, LOOP_LINK_REQUESTED, &passive) < 0) {
		far_loop_link_doom(link, -ECONNREFUSED);
		return;
	}
	passive->listener = listener;
	passive->peer = link;
	link->peer = passive;
	snprintf(passive->link.peer, sizeof(passive->link.peer), "%s", link->host->name);
	far_loop_link_tell(passive, LOOP_NOTICE_REQUEST);
}

static void
deadline_fire(struct loop_timer *timer)
{
	struct loop_link *link = FAR_CONTAINER_OF(timer, struct loop_link, deadline);

	far_loop_link_break(link, -ETIMEDOUT);
}

void
far_loop_link_accept(struct loop_link *link)
{
	struct loop_listener *listener = link->listener;
	struct loop_link *peer = link->peer;
	struct far_link_handler *handler;

	if (peer == NULL || peer->state != LOOP_LINK_CONNECTING) {
		far_loop_link_free(link); /* its opener did not wait */
		return;
	}
	link->listener = NULL;
	link->state = LOOP_LINK_UP;
	link->link.up = true;
	/* Before the callback: what it sends and exposes at once arrives behind the yes. */
	far_loop_parcel_post(link, &link->accept);
	handler = listener->accept(listener->arg, &link->link, peer->hello, peer->hello_bytes);
	if (handler == NULL) {
		far_loop_link_free(link);
		far_loop_link_doom(peer, -ECONNREFUSED);
		return;
	}
	link->link.handler = handler;
}

/* ---- the way down ---- */

/* What can no longer happen to a link that is broken or disconnected. */
static void
link_stop(struct loop_link *link)
{
	struct far_loop_fabric *fabric = link->host->fabric;

	link->link.up = false;
	far_loop_timer_cancel(fabric, &link->setup);
	far_loop_timer_cancel(fabric, &link->deadline);
	far_loop_timer_cancel(fabric, &link->fate);
	far_loop_notice_drop(&link->notices[LOOP_NOTICE_SENDABLE]);
	far_loop_outbox_drop(link);
	if (link->peer != NULL)
		far_loop_link_doom(link->peer, -ECONNRESET);
}

void
far_loop_link_break(struct loop_link *link, int status)
{
	struct far_loop_fabric *fabric = link->host->fabric;
	bool was_up = link->state == LOOP_LINK_UP;

	FAR_ASSERT(was_up || link->state == LOOP_LINK_CONNECTING);
	link->state = LOOP_LINK_BROKEN;
	link->fate_status = status;
	link_stop(link);
	far_loop_ops_flush(link, -ECONNRESET);
	/* The loss is told before, between or after the ends of the ops: owners count on no order. */
	if (was_up)
		far_loop_timer_set(fabric, &link->fate, far_loop_arrival(fabric));
	else
		far_loop_link_tell(link, LOOP_NOTICE_LOST);
}

void
far_loop_link_doom(struct loop_link *link, int status)
{
	struct far_loop_fabric *fabric = link->host->fabric;

	/* Broken or closing: it is on its way down already. Set: only the first reason counts. */
	if (link->state == LOOP_LINK_BROKEN || link->state == LOOP_LINK_CLOSING)
		return;
	if (link->fate.heap_idx != 0)
		return;
	link->fate_status = status;
	far_loop_timer_set(fabric, &link->fate, far_loop_arrival(fabric));
}

static void
fate_fire(struct loop_timer *timer)
{
	struct loop_link *link = FAR_CONTAINER_OF(timer, struct loop_link, fate);

	switch (link->state) {
	case LOOP_LINK_REQUESTED:
		far_loop_link_free(link); /* nobody has heard of it */
		break;
	case LOOP_LINK_CONNECTING:
	case LOOP_LINK_UP:
		far_loop_link_break(link, link->fate_status);
		break;
	case LOOP_LINK_BROKEN:
		far_loop_link_tell(link, LOOP_NOTICE_LOST);
		break;
	case LOOP_LINK_CLOSING:
		link->settled = true;
		far_loop_link_settle(link);
		break;
	}
}

void
far_loop_disconnect(struct far_link *base)
{
	struct loop_link *link = loop_link(base);
	struct far_loop_fabric *fabric = link->host->fabric;
	bool was_broken = link->state == LOOP_LINK_BROKEN;

	FAR_ASSERT(link->state != LOOP_LINK_REQUESTED);
	FAR_ASSERT(link->state != LOOP_LINK_CLOSING);
	link->state = LOOP_LINK_CLOSING;
	link_stop(link);
	if (!was_broken)
		far_loop_ops_flush(link, -ECANCELED);
	far_loop_notice_drop(&link->notices[LOOP_NOTICE_CONNECTED]);
	far_loop_notice_drop(&link->notices[LOOP_NOTICE_LOST]);
	for (uint32_t i = 0; i < link->parcel_count; i++)
		far_loop_notice_drop(&link->parcels[i].notice);
	far_loop_timer_set(fabric, &link->fate, far_loop_arrival(fabric));
}

void
far_loop_link_settle(struct loop_link *link)
{
	if (link->state == LOOP_LINK_CLOSING && link->settled && link->op_count == 0)
		far_loop_link_tell(link, LOOP_NOTICE_CLOSED);
}
