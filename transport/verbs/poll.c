/* poll.c - progress: completions first, descriptors now and then; asleep only after a last look. */
#include "transport/verbs/verbs_priv.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"

#define POLL_TURNS_MAX    16
#define LINK_TURNS_MAX    64
#define BLIND_POLLS_MAX   32
#define EPOLL_EVENTS      16
#define CQ_EVENTS_MAX     64
#define CQ_EVENTS_UNACKED 64U
#define DUE_NS_MIN        (200 * FAR_NS_PER_US)
#define CHECK_NS          FAR_NS_PER_MS

/* ---- descriptors ---- */

int
far_verbs_watch_add(struct verbs_transport *tp, int fd, struct verbs_watch *watch)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};

	return epoll_ctl(tp->tp.fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -ENOMEM : 0;
}

void
far_verbs_watch_remove(struct verbs_transport *tp, int fd)
{
	(void)epoll_ctl(tp->tp.fd, EPOLL_CTL_DEL, fd, NULL);
}

/* The channel said that there are completions; whether there are still is looked at elsewhere. */
static void
channel_take(struct verbs_device *device)
{
	for (int i = 0; device->channel != NULL && i < CQ_EVENTS_MAX; i++) {
		struct ibv_cq *cq;
		void *context;

		if (far_verbs_lib->ibv_get_cq_event(device->channel, &cq, &context) != 0)
			break;
		device->armed = false;
		/* Each acknowledgement takes a lock. */
		if (++device->unacked == CQ_EVENTS_UNACKED) {
			far_verbs_lib->ibv_ack_cq_events(device->cq, device->unacked);
			device->unacked = 0;
		}
	}
}

static void
timer_take(struct verbs_transport *tp)
{
	uint64_t expiries;

	(void)!read(tp->timer_fd, &expiries, sizeof(expiries));
	tp->timer_ns = FAR_TIME_NEVER;
	tp->check_ns = 0;
}

static void
descriptors_take(struct verbs_transport *tp)
{
	struct epoll_event events[EPOLL_EVENTS];
	int count = epoll_wait(tp->tp.fd, events, EPOLL_EVENTS, 0);

	tp->polls_blind = 0;
	tp->slept = false;
	for (int i = 0; i < count; i++) {
		struct verbs_watch *watch = events[i].data.ptr;

		switch (watch->kind) {
		case VERBS_WATCH_CM:
			tp->work_done += far_verbs_cm_take(tp);
			break;
		case VERBS_WATCH_TIMER:
			timer_take(tp);
			break;
		case VERBS_WATCH_COMPLETIONS:
			channel_take(
				FAR_CONTAINER_OF(watch, struct verbs_device, completions_watch));
			break;
		case VERBS_WATCH_ASYNC:
			tp->work_done += far_verbs_async_take(
				FAR_CONTAINER_OF(watch, struct verbs_device, async_watch));
			break;
		default:
			break;
		}
	}
}

/* ---- completions ---- */

static int
status_rc(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_REM_ACCESS_ERR:
	case IBV_WC_REM_INV_REQ_ERR:
		return -EACCES;
	default:
		return -ECONNRESET;
	}
}

static void
failure_take(struct verbs_link *link, enum ibv_wc_status status)
{
	/* All behind the first one are flushed, and whoever hung up has flushed his as well. */
	if (status != IBV_WC_WR_FLUSH_ERR && !far_verbs_link_is_dead(link))
		far_log_info("link to %s lost: %s", link->link.peer,
			     far_verbs_lib->ibv_wc_status_str(status));
	far_verbs_link_fail(link, status_rc(status));
}

/* The device has done all up to this one, which ended with @status; it tells of no success unasked. */
static void
sends_retire(struct verbs_link *link, uint32_t idx, enum ibv_wc_status status)
{
	uint32_t behind = (idx + link->sq_depth - link->sq_head % link->sq_depth) % link->sq_depth;
	uint32_t end = link->sq_head + behind + 1;

	/* One that we did not post, or had back already: nothing that this device says can be used. */
	if (behind >= link->sq_tail - link->sq_head) {
		far_verbs_link_fail(link, -ECONNRESET);
		return;
	}
	/* What stands before it and is not told may have succeeded, or be forgotten: it ends with the
	 * link. */
	if (link->sq[idx].kind == VERBS_WR_END) {
		link->flushed = true;
		far_verbs_link_wake(link);
		return;
	}
	for (; link->sq_head != end; link->sq_head++) {
		const struct verbs_wr *wr = &link->sq[link->sq_head % link->sq_depth];
		bool failed = status != IBV_WC_SUCCESS && link->sq_head + 1 == end;
		struct verbs_op *op;

		if (wr->kind != VERBS_WR_OP) {
			far_verbs_frame_retire(link, wr);
			continue;
		}
		link->ops_out--;
		op = far_verbs_op_at(&link->queue, wr->op);
		if (failed && op->status == 0)
			op->status = status == IBV_WC_WR_FLUSH_ERR ? far_verbs_link_flush_rc(link)
								   : status_rc(status);
		if (wr->last)
			op->done = true;
	}
	link->busy_ns = VERBS_TP(link->link.tp)->now_ns;
	if (status == IBV_WC_SUCCESS)
		link->moved_ns = link->busy_ns;
	else
		failure_take(link, status);
	far_verbs_link_wake(link);
}

static void
receive_take(struct verbs_link *link, const struct ibv_wc *wc)
{
	struct verbs_transport *tp = VERBS_TP(link->link.tp);
	int rc;

	/* What the peer said after we let go of the link is dropped. */
	if (far_verbs_link_is_dead(link))
		return;
	if (wc->status != IBV_WC_SUCCESS) {
		failure_take(link, wc->status);
		return;
	}
	link->moved_ns = tp->now_ns;
	far_verbs_established(link); /* it would not talk else */
	far_verbs_link_wake(link);
	/* It may have heard that we are connected before our handler has. */
	tp->work_done += far_verbs_link_connected(link);
	if (far_verbs_link_is_dead(link))
		return;
	/* A WRITE may bring a completion, too, and no frame. */
	rc = wc->opcode != IBV_WC_RECV
		     ? -EPROTO
		     : far_verbs_receive(link, (wc->wr_id >> 48) & 0x7fff, wc->byte_len);
	if (rc < 0 && !far_verbs_link_is_dead(link)) {
		far_log_warn("link to %s dropped: %s (%d)", link->link.peer, far_err_text(rc), rc);
		far_verbs_link_fail(link, rc);
	}
}

static void
completion_take(struct verbs_transport *tp, const struct ibv_wc *wc)
{
	struct verbs_link *link = far_verbs_link_find(tp, wc->wr_id);

	/* Its queue pair was destroyed, and nothing of it is owed to anybody. */
	if (link == NULL || link->qp == NULL)
		return;
	if (wc->wr_id & VERBS_ID_RECV) {
		receive_take(link, wc);
		return;
	}
	sends_retire(link, (uint32_t)(wc->wr_id >> 48), wc->status);
	if (!far_verbs_link_is_dead(link) && link->link.up)
		tp->work_done += far_verbs_queue_complete(link);
}

/* Refills what was taken. Returns whether there is something. */
static bool
completions_look(struct verbs_device *device)
{
	int count;

	if (device->wc_at != device->wc_count)
		return true;
	device->wc_at = 0;
	device->wc_count = 0;
	if (device->cq == NULL)
		return false;
	count = far_verbs_lib->ibv_poll_cq(device->cq, VERBS_WCS, device->wcs);
	if (count < 0 && !device->dead) {
		far_log_error("verbs: device %s failed: its completion queue cannot be read",
			      far_verbs_lib->ibv_get_device_name(device->handle));
		far_verbs_device_fail(device);
	}
	if (count <= 0) {
		device->empty_seen++;
		device->cq_needed -= device->cq_released;
		device->cq_released = 0;
		return false;
	}
	device->wc_count = (uint32_t)count;
	return true;
}

static void
completions_take(struct verbs_transport *tp)
{
	for (uint32_t i = 0; i < tp->device_count; i++) {
		struct verbs_device *device = tp->devices[i];

		/* What is behind the budget is told by the next poll, in its order. */
		while (device != NULL && tp->budget > 0 && completions_look(device)) {
			const struct ibv_wc *wc = &device->wcs[device->wc_at++];

			tp->work_done++;
			completion_take(tp, wc);
			if (device->wc_at == device->wc_count)
				break;
		}
	}
}

/* ---- poll ---- */

static void
deadlines_check(struct verbs_transport *tp)
{
	struct far_list *it, *next;

	if (tp->now_ns < tp->check_ns)
		return;
	tp->check_ns = tp->now_ns + CHECK_NS;
	FAR_LIST_FOR_EACH_SAFE(it, next, &tp->links)
	far_verbs_link_check(FAR_CONTAINER_OF(it, struct verbs_link, all_node), tp->now_ns);
	far_resolve_reap(&tp->resolving, false);
}

static void
turns_give(struct verbs_transport *tp)
{
	for (int i = 0; i < LINK_TURNS_MAX && tp->budget > 0; i++) {
		struct far_list *node = far_list_pop_front(&tp->work);
		struct verbs_link *link;

		if (node == NULL)
			break;
		link = FAR_CONTAINER_OF(node, struct verbs_link, work_node);
		if (far_verbs_link_work(link))
			far_verbs_link_wake(link);
	}
}

int
far_verbs_poll(struct far_transport *ftp, int budget)
{
	struct verbs_transport *tp = VERBS_TP(ftp);

	if (far_verbs_is_child(tp))
		return -EPERM;
	tp->now_ns = far_clock_now(tp->clock);
	tp->budget = budget;
	tp->work_done = 0;
	/* A system call: now and then, and before all else when it was one of them that woke us. */
	if (tp->slept || ++tp->polls_blind >= BLIND_POLLS_MAX)
		descriptors_take(tp);
	deadlines_check(tp);
	for (int turn = 0; turn < POLL_TURNS_MAX && tp->budget > 0; turn++) {
		int before = tp->work_done;

		completions_take(tp);
		turns_give(tp);
		if (tp->work_done == before)
			break;
	}
	if (tp->devices_dead)
		far_verbs_devices_reap(tp);
	if (tp->work_done > 0)
		far_spin_found(&tp->spin, tp->now_ns);
	else
		far_spin_idle(&tp->spin, tp->now_ns);
	return tp->work_done;
}

/* ---- arm ---- */

/* The timer is the machine's, whatever clock the transport was given. One that will fire before it
 * is needed is left alone. */
static void
timer_arm(struct verbs_transport *tp)
{
	uint64_t due_ns = FAR_TIME_NEVER, wait_ns, now_ns;
	uint64_t real_ns = far_clock_now(far_clock_real());
	struct itimerspec spec = {0};

	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		uint64_t at_ns =
			far_verbs_link_due_ns(FAR_CONTAINER_OF(it, struct verbs_link, all_node));

		due_ns = at_ns < due_ns ? at_ns : due_ns;
	}
	if (due_ns == FAR_TIME_NEVER)
		return;
	now_ns = far_clock_now(tp->clock);
	wait_ns = due_ns > now_ns + DUE_NS_MIN ? due_ns - now_ns : DUE_NS_MIN;
	due_ns = far_time_after(real_ns, wait_ns);
	if (tp->timer_ns > real_ns && tp->timer_ns <= due_ns)
		return;
	tp->timer_ns = due_ns;
	spec.it_value.tv_sec = (time_t)(due_ns / FAR_NS_PER_S);
	spec.it_value.tv_nsec = (long)(due_ns % FAR_NS_PER_S);
	(void)timerfd_settime(tp->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

/* Who asked knows that it waits; who is asked never does. */
static bool
is_waiting(const struct verbs_transport *tp)
{
	if (!far_list_empty(&tp->listeners))
		return true;
	for (const struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		const struct verbs_link *link =
			FAR_CONTAINER_OF(it, const struct verbs_link, all_node);

		if (!far_verbs_queue_empty(&link->queue))
			return true;
	}
	return false;
}

int
far_verbs_arm(struct far_transport *ftp)
{
	struct verbs_transport *tp = VERBS_TP(ftp);

	if (far_verbs_is_child(tp))
		return -EPERM;
	if (!far_list_empty(&tp->work))
		return -EAGAIN;
	if (far_spin_again(&tp->spin, far_clock_now(tp->clock)) && is_waiting(tp))
		return -EAGAIN;
	for (uint32_t i = 0; i < tp->device_count; i++) {
		struct verbs_device *device = tp->devices[i];

		if (device == NULL || device->dead)
			continue;
		if (!device->armed) {
			if (far_verbs_lib->ibv_req_notify_cq(device->cq, 0) != 0) {
				far_verbs_device_fail(device);
				return -EAGAIN;
			}
			device->armed = true;
		}
		/* What came before that wakes nobody: poll again. */
		if (completions_look(device))
			return -EAGAIN;
	}
	if (!far_list_empty(&tp->work))
		return -EAGAIN;
	timer_arm(tp);
	far_spin_slept(&tp->spin);
	tp->slept = true;
	return 0;
}
