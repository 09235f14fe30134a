/* link.c - the life of a link: opened, used a turn at a time, ended when the device has let go of it. */
#include "transport/verbs/verbs_priv.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

#define LINK_SLOT_MASK  ((uint64_t)VERBS_LINKS_MAX - 1)
#define LINK_ID_MASK    ((1ULL << 48) - 1)
#define RESOLVE_STEP_NS (2 * FAR_NS_PER_MS)
_Static_assert((VERBS_LINKS_MAX & (VERBS_LINKS_MAX - 1)) == 0, "a power of two");

void
far_verbs_link_wake(struct verbs_link *link)
{
	struct verbs_transport *tp = VERBS_TP(link->link.tp);

	if (far_list_empty(&link->work_node))
		far_list_push_back(&tp->work, &link->work_node);
}

void
far_verbs_link_emit(struct verbs_link *link, const struct far_event *event)
{
	struct far_event full = *event;

	full.link = &link->link;
	VERBS_TP(link->link.tp)->budget--;
	FAR_ASSERT(link->link.handler != NULL);
	link->link.handler->event(link->link.handler, &full);
}

/* ---- making one ---- */

static bool
id_take(struct verbs_transport *tp, struct verbs_link *link)
{
	for (uint32_t i = 0; i < VERBS_LINKS_MAX; i++) {
		uint64_t slot = (tp->link_hint + i) & LINK_SLOT_MASK;

		if (tp->link_slots[slot] != NULL)
			continue;
		tp->link_hint = (uint32_t)slot + 1;
		tp->link_slots[slot] = link;
		link->id = ((++tp->id_last * VERBS_LINKS_MAX) | slot) & LINK_ID_MASK;
		return true;
	}
	return false;
}

struct verbs_link *
far_verbs_link_find(const struct verbs_transport *tp, uint64_t id)
{
	struct verbs_link *link = tp->link_slots[id & LINK_SLOT_MASK];

	return link != NULL && link->id == (id & LINK_ID_MASK) ? link : NULL;
}

int
far_verbs_link_open(struct verbs_transport *tp, struct verbs_link **out)
{
	struct verbs_link *link = far_zalloc(sizeof(*link));
	int rc;

	if (link == NULL)
		return -ENOMEM;
	link->link.tp = &tp->tp;
	link->watch.kind = VERBS_WATCH_LINK;
	link->rx_credits = tp->credits;
	link->sq_depth = far_verbs_tune.sq_depth;
	link->pages.fd = -1;
	link->deadline_ns = FAR_TIME_NEVER;
	far_list_init(&link->all_node);
	far_list_init(&link->work_node);
	far_bitmap_init(&link->told_map, link->told_words, VERBS_REGIONS_MAX);
	far_bitmap_init(&link->untold, link->untold_words, VERBS_REGIONS_MAX);
	/* All that the link will ever need; pages of it that it never uses are never there. */
	link->sq = far_zalloc_array(link->sq_depth, sizeof(*link->sq));
	link->partial = far_zalloc(FAR_MESSAGE_BYTES_MAX);
	rc = link->sq == NULL || link->partial == NULL ? -ENOMEM : 0;
	if (rc == 0)
		rc = far_verbs_queue_init(&link->queue);
	if (rc == 0 && !id_take(tp, link))
		rc = -ENOMEM;
	if (rc < 0) {
		far_verbs_link_free(link);
		return rc;
	}
	far_list_push_back(&tp->links, &link->all_node);
	*out = link;
	return 0;
}

/* Takes one that is half open, or that nobody above has seen. */
void
far_verbs_link_free(struct verbs_link *link)
{
	struct verbs_transport *tp = VERBS_TP(link->link.tp);

	far_resolve_drop(link->resolve);
	far_verbs_qp_close(link);
	far_list_remove(&link->all_node);
	far_list_remove(&link->work_node);
	if (far_verbs_link_find(tp, link->id) == link)
		tp->link_slots[link->id & LINK_SLOT_MASK] = NULL;
	far_verbs_keys_fini(link);
	far_verbs_queue_fini(&link->queue);
	far_pages_unmap(&link->pages);
	far_free(link->sq);
	far_free(link->partial);
	far_free(link);
}

/* ---- the end ---- */

/* Nothing of the peer's lands from here on, and nothing more is sent. */
static void
link_shut(struct verbs_link *link)
{
	struct verbs_transport *tp = VERBS_TP(link->link.tp);

	FAR_ASSERT(!link->shut);
	link->shut = true;
	link->ready = false;
	link->connected_pending = false;
	link->lingering = false;
	link->ring_queued = 0;
	far_resolve_drop(link->resolve);
	link->resolve = NULL;
	far_verbs_qp_stop(link);
	if (link->cm_id != NULL && link->asked)
		(void)far_verbs_lib->rdma_disconnect(link->cm_id);
	link->deadline_ns = far_time_after(far_clock_now(tp->clock), VERBS_DRAIN_NS);
}

void
far_verbs_link_fail(struct verbs_link *link, int rc)
{
	FAR_ASSERT(rc < 0);
	if (far_verbs_link_is_dead(link)) {
		/* It was only waiting for its last words to arrive. */
		if (link->lingering)
			link_shut(link);
		far_verbs_link_wake(link);
		return;
	}
	link->rc = rc;
	link->link.up = false;
	link_shut(link);
	far_verbs_link_wake(link);
}

void
far_verbs_disconnect(struct far_link *flink)
{
	struct verbs_link *link = VERBS_LINK(flink);
	struct verbs_transport *tp = VERBS_TP(flink->tp);

	if (far_verbs_is_child(tp))
		return;
	FAR_ASSERT(!link->closing);
	link->closing = true;
	flink->up = false;
	far_verbs_link_wake(link);
	if (link->shut)
		return;
	/* What the device has been given to say is told to arrive; the peer need not be awake for
	 * it. */
	link->lingering = link->frames_out > 0 && far_verbs_mark_send(link, true);
	if (link->shut)
		return;
	if (link->lingering)
		link->deadline_ns = far_time_after(far_clock_now(tp->clock), VERBS_LINGER_NS);
	else
		link_shut(link);
}

/* What is outstanding ends, then the news of it; the link goes when its owner let go of it. */
static bool
link_end(struct verbs_link *link)
{
	struct verbs_transport *tp = VERBS_TP(link->link.tp);
	struct far_event event = {.kind = FAR_EV_LOST, .status = link->rc};

	if (link->lingering && link->frames_out == 0)
		link_shut(link);
	if (link->lingering)
		return false;
	/* Each completion that is outstanding gives a turn, and so does the deadline. */
	if (link->qp != NULL && link->sq_head != link->sq_tail && !link->flushed &&
	    far_clock_now(tp->clock) < link->deadline_ns)
		return false;
	link->deadline_ns = FAR_TIME_NEVER;
	far_verbs_qp_close(link);
	far_verbs_queue_abort(&link->queue, far_verbs_link_flush_rc(link));
	tp->work_done += far_verbs_queue_complete(link);
	if (!far_verbs_queue_empty(&link->queue) || tp->budget <= 0)
		return true;
	if (link->link.handler == NULL) {
		/* Nobody above has seen it. */
		far_verbs_link_free(link);
		return false;
	}
	if (!link->closing) {
		if (!link->told) {
			link->told = true;
			tp->work_done++;
			far_verbs_link_emit(link, &event);
		}
		return link->closing;
	}
	tp->work_done++;
	/* Off the lists before the last event: its handler may register, connect, disconnect. */
	far_list_remove(&link->all_node);
	far_list_remove(&link->work_node);
	tp->link_slots[link->id & LINK_SLOT_MASK] = NULL;
	event = (struct far_event){.kind = FAR_EV_CLOSED};
	far_verbs_link_emit(link, &event);
	far_verbs_link_free(link);
	return false;
}

/* ---- deadlines ---- */

static uint64_t
idle_ns(const struct verbs_link *link)
{
	return far_time_after(link->moved_ns, VERBS_IDLE_NS);
}

/* Lists ask to be told, and so do frames of our own. */
static bool
is_busy(const struct verbs_link *link)
{
	return link->ops_out > 0 || link->ctl_busy != 0;
}

void
far_verbs_link_busy(struct verbs_link *link)
{
	if (!is_busy(link))
		link->busy_ns = far_clock_now(VERBS_TP(link->link.tp)->clock);
}

static uint64_t
stuck_ns(const struct verbs_link *link)
{
	if (!is_busy(link))
		return FAR_TIME_NEVER;
	return link->suspect_ns != 0
		       ? link->suspect_ns + VERBS_STUCK_MORE_NS
		       : far_time_after(link->busy_ns, VERBS_TP(link->link.tp)->stuck_ns);
}

/* Devices give up by themselves, after their retries. One that has forgotten about a work request, as
 * soft-RoCE does now and then where packets are lost, is not waited for. */
static void
stuck_check(struct verbs_link *link, uint64_t now_ns)
{
	uint64_t limit_ns = VERBS_TP(link->link.tp)->stuck_ns;

	if (!is_busy(link) || now_ns < far_time_after(link->busy_ns, limit_ns)) {
		link->suspect_ns = 0;
		return;
	}
	/* We may have been asleep ourselves: what has come is looked at before anybody is judged. */
	if (link->suspect_ns == 0) {
		link->suspect_ns = now_ns;
	} else if (now_ns >= stuck_ns(link)) {
		far_log_warn("link to %s lost: its device says nothing of what it was given",
			     link->link.peer);
		far_verbs_link_fail(link, -ECONNRESET);
	}
}

void
far_verbs_link_check(struct verbs_link *link, uint64_t now_ns)
{
	if (link->shut) {
		if (now_ns >= link->deadline_ns)
			far_verbs_link_wake(link);
	} else if (link->lingering) {
		if (now_ns < link->deadline_ns)
			return;
		link_shut(link);
		far_verbs_link_wake(link);
	} else if (link->state != VERBS_UP && now_ns >= link->deadline_ns) {
		far_verbs_link_fail(link, -ETIMEDOUT);
	} else if (link->state == VERBS_NAME) {
		far_verbs_resolve_check(link);
	} else if (link->ready) {
		stuck_check(link, now_ns);
		if (far_verbs_link_is_dead(link) || now_ns < idle_ns(link))
			return;
		/* Its device answers also where its process is stopped. Without room for it, it has
		 * been asked often enough. */
		link->moved_ns = now_ns;
		(void)far_verbs_mark_send(link, false);
	}
}

uint64_t
far_verbs_link_due_ns(const struct verbs_link *link)
{
	if (link->shut || link->lingering)
		return link->deadline_ns;
	if (link->state == VERBS_NAME)
		return far_clock_now(VERBS_TP(link->link.tp)->clock) + RESOLVE_STEP_NS;
	if (link->state != VERBS_UP)
		return link->deadline_ns;
	return stuck_ns(link) < idle_ns(link) ? stuck_ns(link) : idle_ns(link);
}

/* ---- turns ---- */

static int
link_sendable(struct verbs_link *link)
{
	struct far_event event = {.kind = FAR_EV_SENDABLE};
	bool send = far_verbs_send_ready(link);
	bool posts = far_verbs_queue_ready(link);

	if (VERBS_TP(link->link.tp)->budget <= 0 || (!send && !posts))
		return 0;
	if (send)
		link->send_refused = false;
	if (posts)
		link->queue.refused.set = false;
	far_verbs_link_emit(link, &event);
	return 1;
}

int
far_verbs_link_connected(struct verbs_link *link)
{
	struct far_event event = {.kind = FAR_EV_CONNECTED};

	if (!link->connected_pending)
		return 0;
	link->connected_pending = false;
	link->link.up = true;
	far_verbs_link_emit(link, &event);
	return 1;
}

/* A peer that hung up has said all that it wanted to: what of it is in the CQ is taken in first. */
static bool
link_hung_up(struct verbs_link *link)
{
	if (!link->hung_up || far_verbs_link_is_dead(link))
		return false;
	if (link->device != NULL && link->device->empty_seen == link->hung_up_mark)
		return true;
	far_verbs_link_fail(link, -ECONNRESET);
	return false;
}

bool
far_verbs_link_work(struct verbs_link *link)
{
	struct verbs_transport *tp = VERBS_TP(link->link.tp);
	bool waits = link_hung_up(link);
	int work = 0;

	if (!far_verbs_link_is_dead(link))
		work += far_verbs_link_connected(link);
	if (!far_verbs_link_is_dead(link) && far_verbs_reposts(link) < 0)
		far_verbs_link_fail(link, -ECONNRESET);
	if (!far_verbs_link_is_dead(link) && link->link.up)
		work += far_verbs_queue_complete(link);
	if (!far_verbs_link_is_dead(link))
		work += far_verbs_queue_run(link);
	if (!far_verbs_link_is_dead(link))
		work += far_verbs_flush(link);
	if (!far_verbs_link_is_dead(link) && link->link.up)
		work += link_sendable(link);
	tp->work_done += work;
	if (far_verbs_link_is_dead(link))
		return work > 0 || link_end(link);
	return work > 0 || waits || tp->budget <= 0;
}
