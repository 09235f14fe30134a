/* parcel.c - messages and exposed keys: they travel in order, and never pass a WRITE before them. */
#include "transport/loop/loop_priv.h"

#include <string.h>

#include "base/alloc.h"
#include "base/mutant.h"

/*
 * As on hardware, the receiver owns the buffers and a buffer is the credit: the sender borrows one
 * from the inbox of its peer, and gets it back a while after the handler has returned.
 */
int
far_loop_inbox_open(struct loop_link *link, uint32_t credits)
{
	link->parcels = far_zalloc_array(credits, sizeof(*link->parcels));
	link->parcel_data = far_alloc_array(credits, FAR_MESSAGE_BYTES_MAX);
	if (link->parcels == NULL || link->parcel_data == NULL)
		return -ENOMEM;
	link->parcel_count = credits;
	for (uint32_t i = 0; i < credits; i++) {
		struct loop_parcel *parcel = &link->parcels[i];

		parcel->kind = LOOP_PARCEL_MESSAGE;
		parcel->timer.fire = far_loop_parcel_fire;
		parcel->notice.kind = LOOP_NOTICE_MESSAGE;
		parcel->notice.link = link;
		parcel->data = link->parcel_data + (size_t)i * FAR_MESSAGE_BYTES_MAX;
		far_list_push_back(&link->inbox, &parcel->node);
	}
	return 0;
}

void
far_loop_inbox_close(struct loop_link *link)
{
	for (uint32_t i = 0; i < link->parcel_count; i++) {
		far_loop_timer_cancel(link->host->fabric, &link->parcels[i].timer);
		far_loop_notice_drop(&link->parcels[i].notice);
	}
	far_free(link->parcel_data);
	far_free(link->parcels);
}

int
far_loop_send(struct far_link *base, const void *msg, size_t size_bytes)
{
	struct loop_link *link = loop_link(base);
	struct loop_parcel *parcel;
	struct far_list *node;

	if (!base->up)
		return -ENOTCONN;
	if (link->peer == NULL)
		return 0; /* the other end has gone, we just do not know it yet */
	node = far_list_pop_front(&link->peer->inbox);
	if (node == NULL) {
		link->send_refused = true;
		return -EAGAIN;
	}
	parcel = FAR_CONTAINER_OF(node, struct loop_parcel, node);
	memcpy(parcel->data, msg, size_bytes);
	parcel->size_bytes = size_bytes;
	link->host->fabric->counts.messages++;
	far_loop_parcel_post(link, parcel);
	return 0;
}

void
far_loop_parcel_post(struct loop_link *from, struct loop_parcel *parcel)
{
	struct far_loop_fabric *fabric = from->host->fabric;

	parcel->link = from;
	parcel->due = false;
	parcel->writes_before = from->write_seq;
	far_list_push_back(&from->outbox, &parcel->node);
	far_loop_timer_set(fabric, &parcel->timer, far_loop_arrival(fabric));
}

static void
parcel_arrive(struct loop_link *from, struct loop_parcel *parcel)
{
	struct loop_link *to = from->peer;

	switch (parcel->kind) {
	case LOOP_PARCEL_ACCEPT:
		far_loop_timer_cancel(to->host->fabric, &to->deadline);
		to->state = LOOP_LINK_UP;
		to->link.up = true;
		far_loop_link_tell(to, LOOP_NOTICE_CONNECTED);
		break;
	case LOOP_PARCEL_EXPOSE:
		far_loop_key_learn(FAR_CONTAINER_OF(parcel, struct loop_key, parcel));
		break;
	case LOOP_PARCEL_MESSAGE:
		parcel->link = to;
		far_loop_notice_push(to->host, &parcel->notice);
		break;
	}
}

/* Sent in vain: a message's buffer goes back where it came from, a key is forgotten. */
static void
parcel_drop(struct loop_link *from, struct loop_parcel *parcel)
{
	far_loop_timer_cancel(from->host->fabric, &parcel->timer);
	if (parcel->kind == LOOP_PARCEL_EXPOSE)
		far_loop_key_free(FAR_CONTAINER_OF(parcel, struct loop_key, parcel));
	else if (parcel->kind == LOOP_PARCEL_MESSAGE)
		far_list_push_back(&from->peer->inbox, &parcel->node);
}

/* Whether the end at the other side takes parcels. */
static bool
link_is_heard(const struct loop_link *from, const struct loop_parcel *parcel)
{
	const struct loop_link *to = from->peer;

	if (to == NULL || from->cut || to->host->dead)
		return false;
	if (parcel->kind == LOOP_PARCEL_ACCEPT)
		return to->state == LOOP_LINK_CONNECTING;
	return to->state == LOOP_LINK_UP;
}

static bool
writes_are_placed(const struct loop_link *from, const struct loop_parcel *parcel)
{
	const struct loop_op *oldest;

	if (far_list_empty(&from->writes))
		return true;
	oldest = FAR_CONTAINER_OF(from->writes.next, struct loop_op, write);
	return oldest->write_seq > parcel->writes_before;
}

void
far_loop_outbox_deliver(struct loop_link *from)
{
	while (!far_list_empty(&from->outbox)) {
		struct loop_parcel *parcel;

		parcel = FAR_CONTAINER_OF(from->outbox.next, struct loop_parcel, node);
		if (!parcel->due ||
		    (!writes_are_placed(from, parcel) && !FAR_MUTANT(COMMIT_OVERTAKES)))
			break;
		far_list_remove(&parcel->node);
		if (link_is_heard(from, parcel))
			parcel_arrive(from, parcel);
		else
			parcel_drop(from, parcel);
	}
}

void
far_loop_outbox_drop(struct loop_link *from)
{
	struct far_list *node;

	while ((node = far_list_pop_front(&from->outbox)) != NULL)
		parcel_drop(from, FAR_CONTAINER_OF(node, struct loop_parcel, node));
}

/* The credit is back at the sender. */
static void
credit_return(struct loop_link *link, struct loop_parcel *parcel)
{
	struct loop_link *sender = link->peer;

	far_list_push_back(&link->inbox, &parcel->node);
	if (sender == NULL || !sender->send_refused || !sender->link.up)
		return;
	sender->send_refused = false;
	far_loop_link_tell(sender, LOOP_NOTICE_SENDABLE);
}

void
far_loop_parcel_fire(struct loop_timer *timer)
{
	struct loop_parcel *parcel = FAR_CONTAINER_OF(timer, struct loop_parcel, timer);

	if (parcel->due) {
		credit_return(parcel->link, parcel);
		return;
	}
	parcel->due = true;
	far_loop_outbox_deliver(parcel->link);
}

void
far_loop_message_tell(struct loop_parcel *parcel)
{
	struct loop_link *link = parcel->link;
	struct far_loop_fabric *fabric = link->host->fabric;
	struct far_event event = {
		.kind = FAR_EV_MESSAGE,
		.link = &link->link,
		.msg = parcel->data,
		.msg_bytes = parcel->size_bytes,
	};

	link->link.handler->event(link->link.handler, &event);
	far_loop_timer_set(fabric, &parcel->timer, far_loop_arrival(fabric));
}
