/* link.c - clients' links: accepted, welcomed, answered in a bounded queue, ended without haste. */
#include "pool/pool_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"

/* A peer that was told to go has so long to do it by itself. */
#define LINGER_NS FAR_NS_PER_S

/* In front of each waiting frame; 8 bytes, so that frames stay aligned. */
struct out_head {
	uint32_t size_bytes;
	uint32_t reserved;
};

static void link_event(struct far_link_handler *handler, const struct far_event *event);

void
far_pool_links_open(struct far_pool *pool)
{
	far_list_init(&pool->links);
	pool->links_due_ns = FAR_TIME_NEVER;
}

static void
link_free(struct pool_link *link)
{
	if (link == NULL)
		return;
	far_free(link->exposed);
	far_free(link->out);
	far_free(link);
}

/* Which of the pool's transports the link came over. */
static uint32_t
rail_of(const struct far_pool *pool, const struct far_link *link)
{
	uint32_t rail = 0;

	while (rail < pool->rail_count && pool->tps[rail] != link->tp)
		rail++;
	FAR_ASSERT(rail < pool->rail_count);
	return rail;
}

static struct pool_link *
link_make(struct far_pool *pool, struct far_link *transport_link)
{
	struct pool_link *link = far_zalloc(sizeof(*link));

	if (link == NULL)
		return NULL;
	link->out = far_zalloc(POOL_OUT_BYTES);
	link->exposed = far_zalloc_array(pool->segment_slots, sizeof(*link->exposed));
	if (link->out == NULL || link->exposed == NULL) {
		link_free(link);
		return NULL;
	}
	link->handler.event = link_event;
	link->pool = pool;
	link->link = transport_link;
	link->rail = rail_of(pool, transport_link);
	far_list_init(&link->lanes);
	return link;
}

static void
link_deadline_set(struct pool_link *link, uint64_t deadline_ns)
{
	link->deadline_ns = deadline_ns;
	if (deadline_ns < link->pool->links_due_ns)
		link->pool->links_due_ns = deadline_ns;
}

struct far_link_handler *
far_pool_accept(void *arg, struct far_link *transport_link, const void *hello, size_t hello_bytes)
{
	struct far_pool *pool = arg;
	struct pool_link *link;

	/* What the opener said to the transport is not looked at: the HELLO frame says it all. */
	(void)hello;
	(void)hello_bytes;
	if (pool->closing)
		return NULL;
	if (pool->link_count >= pool->config.links_max) {
		far_log_warn("link from %s refused: %" PRIu32 " are connected: raise max_links",
			     transport_link->peer, pool->link_count);
		return NULL;
	}
	link = link_make(pool, transport_link);
	if (link == NULL) {
		far_log_error("link from %s refused: no memory for it", transport_link->peer);
		return NULL;
	}
	link->state = LINK_NEW;
	link_deadline_set(link, far_clock_now(pool->clock) + pool->config.recall_ns);
	far_list_push_back(&pool->links, &link->node);
	pool->link_count++;
	return &link->handler;
}

/* ---- sending ---- */

/* Appends a frame. False: the peer lets too much wait. */
static bool
out_push(struct pool_link *link, const void *frame, uint32_t size_bytes)
{
	struct out_head head = {.size_bytes = size_bytes};
	uint32_t room = (uint32_t)sizeof(head) + (size_bytes + 7) / 8 * 8;

	if (link->out_count == POOL_OUT_FRAMES_MAX)
		return false;
	if (link->out_tail + room > POOL_OUT_BYTES) {
		memmove(link->out, link->out + link->out_head, link->out_tail - link->out_head);
		link->out_tail -= link->out_head;
		link->out_head = 0;
	}
	if (link->out_tail + room > POOL_OUT_BYTES)
		return false;
	memcpy(link->out + link->out_tail, &head, sizeof(head));
	memcpy(link->out + link->out_tail + sizeof(head), frame, size_bytes);
	link->out_tail += room;
	link->out_count++;
	return true;
}

/* Sends what waits, in order, until the transport says -EAGAIN. */
static void
out_flush(struct pool_link *link)
{
	while (link->out_count > 0 && link->state != LINK_ENDING) {
		struct out_head head;
		int rc;

		memcpy(&head, link->out + link->out_head, sizeof(head));
		rc = far_transport_send(link->link, link->out + link->out_head + sizeof(head),
					head.size_bytes);
		if (rc == -EAGAIN)
			return;
		if (rc < 0) {
			far_pool_link_end(link);
			return;
		}
		link->pool->stats[FAR_STATUS_messages_sent]++;
		link->out_head += (uint32_t)sizeof(head) + (head.size_bytes + 7) / 8 * 8;
		link->out_count--;
	}
	if (link->out_count == 0) {
		link->out_head = 0;
		link->out_tail = 0;
	}
}

void
far_pool_link_send(struct pool_link *link, enum far_frame_type type, uint64_t tag, const void *body,
		   const void *list, uint32_t count)
{
	struct far_pool *pool = link->pool;
	int size_bytes;
	int rc = -EAGAIN;

	if (link->state == LINK_ENDING)
		return;
	size_bytes =
		far_frame_encode(type, tag, body, list, count, pool->frame, sizeof(pool->frame));
	FAR_ASSERT(size_bytes > 0);
	if (link->out_count == 0)
		rc = far_transport_send(link->link, pool->frame, (size_t)size_bytes);
	if (rc == 0) {
		pool->stats[FAR_STATUS_messages_sent]++;
	} else if (rc != -EAGAIN) {
		far_pool_link_end(link); /* dead already: FAR_EV_LOST says why */
	} else if (!out_push(link, pool->frame, (uint32_t)size_bytes)) {
		far_pool_link_breach(link, "it asks without reading the answers");
	}
}

void
far_pool_link_expose(struct pool_link *link, uint32_t segment_idx)
{
	int rc;

	if (link->state != LINK_WELCOME)
		return;
	link->exposed[segment_idx] = true;
	rc = far_transport_mem_expose(link->pool->segments[segment_idx].mems[link->rail],
				      link->link);
	if (rc < 0) {
		far_log_warn("link from %s closed: a segment could not be exposed: %s (%d)",
			     link->link->peer, far_err_text(rc), rc);
		far_pool_link_end(link);
	}
}

/* ---- ending ---- */

void
far_pool_link_linger(struct pool_link *link, uint64_t deadline_ns)
{
	if (link->state == LINK_ENDING)
		return;
	link->state = LINK_LINGERING;
	if (deadline_ns == 0)
		deadline_ns = far_clock_now(link->pool->clock) + LINGER_NS;
	link_deadline_set(link, deadline_ns);
}

void
far_pool_link_settle(struct pool_link *link)
{
	FAR_ASSERT(link->state == LINK_ENDING);
	/* The registrations that name the link go first: none may outlive it. */
	if (link->disconnected || link->lane_count > 0 || link->fences_waiting > 0)
		return;
	link->disconnected = true;
	far_transport_disconnect(link->link);
}

void
far_pool_link_end(struct pool_link *link)
{
	struct far_list *it;
	struct far_list *tmp;

	if (link->state == LINK_ENDING)
		return;
	link->state = LINK_ENDING;
	link->deadline_ns = FAR_TIME_NEVER;
	link->out_count = 0;
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &link->lanes)
	{
		struct pool_lane *lane = FAR_CONTAINER_OF(it, struct pool_lane, link_node);

		if (lane->state == LANE_OPEN || lane->state == LANE_RECALLED)
			far_pool_lane_end(link->pool, lane);
	}
	far_pool_link_settle(link);
}

void
far_pool_link_breach(struct pool_link *link, const char *why)
{
	if (link->state == LINK_ENDING)
		return;
	link->pool->stats[FAR_STATUS_links_dropped]++;
	far_log_warn("link from %s closed: %s", link->link->peer, why);
	far_pool_link_end(link);
}

/* No work request of the link is left anywhere: its lanes are fenced now. */
static void
link_closed(struct pool_link *link)
{
	struct far_pool *pool = link->pool;
	struct far_list *it;
	struct far_list *tmp;

	FAR_ASSERT(link->disconnected);
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &link->lanes)
	{
		far_pool_lane_fenced(pool, FAR_CONTAINER_OF(it, struct pool_lane, link_node));
	}
	FAR_ASSERT(far_list_empty(&link->lanes));
	far_list_remove(&link->node);
	FAR_ASSERT(pool->link_count > 0);
	pool->link_count--;
	link_free(link);
}

static void
link_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct pool_link *link = FAR_CONTAINER_OF(handler, struct pool_link, handler);

	switch (event->kind) {
	case FAR_EV_MESSAGE:
		link->pool->stats[FAR_STATUS_messages_received]++;
		if (link->state != LINK_ENDING)
			far_pool_serve(link, event->msg, event->msg_bytes);
		break;
	case FAR_EV_SENDABLE:
		out_flush(link);
		break;
	case FAR_EV_LOST:
		if (link->state == LINK_WELCOME)
			far_log_info("link from %s lost: %s (%d)", link->link->peer,
				     far_err_name(event->status), event->status);
		far_pool_link_end(link);
		break;
	case FAR_EV_CLOSED:
		link_closed(link);
		break;
	case FAR_EV_CONNECTED:
	case FAR_EV_DONE:
		break; /* a donor neither connects nor posts */
	}
}

uint64_t
far_pool_links_tick(struct far_pool *pool, uint64_t now_ns, bool judge)
{
	uint64_t next_ns = FAR_TIME_NEVER;
	struct far_list *it;
	struct far_list *tmp;

	if (!judge || now_ns < pool->links_due_ns)
		return pool->links_due_ns;
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &pool->links)
	{
		struct pool_link *link = FAR_CONTAINER_OF(it, struct pool_link, node);

		if (link->deadline_ns <= now_ns) {
			if (link->state == LINK_NEW)
				far_log_warn("link from %s closed: it said no hello in time",
					     link->link->peer);
			far_pool_link_end(link);
		}
		if (link->deadline_ns < next_ns)
			next_ns = link->deadline_ns;
	}
	pool->links_due_ns = next_ns;
	return next_ns;
}
