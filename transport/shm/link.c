/* link.c - the life of a link: handshake, what arrives, how it ends; one turn at a time. */
#include "transport/shm/shm_priv.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"

int
far_shm_link_open(struct shm_transport *tp, struct shm_link **out)
{
	struct shm_link *link = far_zalloc(sizeof(*link));

	if (link == NULL)
		return -ENOMEM;
	link->watch.kind = SHM_WATCH_LINK;
	link->link.tp = &tp->tp;
	link->id = ++tp->id_last;
	link->fd = -1;
	link->control.fd = -1;
	link->peer_control.fd = -1;
	far_list_init(&link->all_node);
	far_list_init(&link->work_node);
	far_list_init(&link->wait_node);
	far_list_init(&link->mappings);
	far_list_init(&link->faulting);
	if (far_shm_maps_init(link) < 0) {
		far_free(link);
		return -ENOMEM;
	}
	far_list_push_back(&tp->links, &link->all_node);
	*out = link;
	return 0;
}

int
far_shm_link_prepare(struct shm_link *link)
{
	int rc;

	link->ring = far_zalloc(SHM_RING_BYTES);
	link->pull.frame = far_zalloc_array(SHM_WRITE_PIECES_MAX, sizeof(struct shm_frame_write));
	if (link->ring == NULL || link->pull.frame == NULL)
		return -ENOMEM;
	rc = far_shm_queue_init(&link->reads, 0, SHM_READ_OPS_MAX);
	if (rc == 0)
		rc = far_shm_queue_init(&link->writes, 1, SHM_WRITE_OPS_MAX);
	if (rc == 0)
		rc = far_pages_map_shared("farpool-link", sizeof(struct shm_control),
					  FAR_PAGES_HUGE_OFF, -1, &link->control);
	return rc;
}

/* The peer believes no WRITE of ours from here on, however late it looks: only now may their memory
 * be used again. Pairs with far_shm_peer_revoked(). */
static void
control_revoke(struct shm_link *link)
{
	struct shm_control *control = link->control.base;

	if (control == NULL)
		return;
	atomic_store_explicit(&control->revoked, 1, memory_order_seq_cst);
	/* Streaming stores of the next owner of the memory stay behind it as well. */
	atomic_thread_fence(memory_order_seq_cst);
}

/* Ends what the kernel has of the link; what it holds in memory stays until the link is closed. */
static void
link_shut(struct shm_link *link)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);

	link->link.up = false;
	link->rx_ready = false;
	link->pull.count = 0;
	link->pull.idx = 0;
	link->ring_used = 0;
	far_list_remove(&link->wait_node);
	if (link->listener != NULL) {
		link->listener->handshakes--;
		link->listener = NULL;
	}
	control_revoke(link);
	if (link->fd < 0)
		return;
	if (link->epoll_events != 0)
		(void)epoll_ctl(tp->tp.fd, EPOLL_CTL_DEL, link->fd, NULL);
	/* Not close alone: a child of fork() may hold a copy, and the peer has to see the end. */
	(void)shutdown(link->fd, SHUT_RDWR);
	(void)close(link->fd);
	link->fd = -1;
}

void
far_shm_link_free(struct shm_link *link)
{
	link_shut(link);
	far_list_remove(&link->all_node);
	far_list_remove(&link->work_node);
	far_shm_regions_fini(link);
	far_shm_queue_fini(&link->reads);
	far_shm_queue_fini(&link->writes);
	far_pages_unmap(&link->peer_control);
	far_pages_unmap(&link->control);
	far_free(link->ring);
	far_free(link->pull.frame);
	far_free(link->map_words);
	far_free(link);
}

void
far_shm_link_fail(struct shm_link *link, int rc)
{
	FAR_ASSERT(rc < 0);
	if (link->rc != 0 || link->closing)
		return;
	link->rc = rc;
	link_shut(link);
	far_shm_link_wake(link);
}

void
far_shm_link_disconnect(struct far_link *flink)
{
	struct shm_link *link = SHM_LINK(flink);

	if (far_shm_is_child(SHM_TP(flink->tp)))
		return;
	FAR_ASSERT(!link->closing);
	link->closing = true;
	link_shut(link);
	far_shm_link_wake(link);
}

void
far_shm_link_emit(struct shm_link *link, const struct far_event *event)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	struct far_event full = *event;

	full.link = &link->link;
	tp->budget--;
	FAR_ASSERT(link->link.handler != NULL);
	link->link.handler->event(link->link.handler, &full);
}

int
far_shm_link_watch(struct shm_link *link, int fd)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	struct epoll_event event = {
		.events = EPOLLIN | (link->tx_blocked ? EPOLLOUT : 0U),
		.data.ptr = &link->watch,
	};
	int op = link->epoll_events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

	if (link->epoll_events == event.events)
		return 0;
	if (epoll_ctl(tp->tp.fd, op, fd, &event) < 0)
		return errno == ENOMEM || errno == ENOSPC ? -ENOMEM : -EIO;
	link->epoll_events = event.events;
	return 0;
}

/* ---- handshake ---- */

static void
peer_name(struct shm_link *link)
{
	(void)snprintf(link->link.peer, sizeof(link->link.peer), "pid %d",
		       (int)far_shm_socket_peer_pid(link->fd));
}

int
far_shm_link_hello(struct shm_link *link, int fd)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	struct shm_frame_hello hello = {
		.features = SHM_FEATURE_SUMS,
		.nonce = tp->nonce,
		.credits = tp->credits,
		.hello_bytes = link->hello_bytes,
	};
	struct shm_frame_header header;
	int rc;

	memcpy(hello.hello, link->hello, link->hello_bytes);
	far_shm_frame_header_fill(&header, SHM_FRAME_HELLO, sizeof(hello), 0);
	rc = far_shm_socket_send(fd, &header, &hello, sizeof(hello), link->control.fd);
	if (rc < 0) {
		(void)close(fd);
		/* Too many descriptors on their way: as good as a full queue. */
		return rc == -ENOMEM ? -EAGAIN : rc;
	}
	link->fd = fd;
	link->state = SHM_HELLO_SENT;
	link->rx_credits = tp->credits;
	peer_name(link);
	return far_shm_link_watch(link, fd);
}

void
far_shm_link_retry(struct shm_link *link)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);

	link->tx_retry = true;
	if (far_list_empty(&link->wait_node))
		far_list_push_back(&tp->waiting, &link->wait_node);
}

void
far_shm_link_wait_check(struct shm_link *link, uint64_t now_ns)
{
	int fd, rc;

	if (link->state != SHM_UP && now_ns >= link->deadline_ns) {
		far_shm_link_fail(link, -ETIMEDOUT);
		return;
	}
	if (link->state == SHM_CONNECTING) {
		fd = far_shm_socket_connect(&link->addr, link->addr_bytes);
		rc = fd < 0 ? fd : far_shm_link_hello(link, fd);
		if (rc < 0 && rc != -EAGAIN)
			far_shm_link_fail(link, rc == -EPROTO ? -ECONNREFUSED : rc);
	} else if (link->tx_retry) {
		link->tx_retry = false;
		if (link->state == SHM_UP)
			far_list_remove(&link->wait_node);
		far_shm_link_wake(link);
	}
}

static int
peer_take(struct shm_link *link, const struct shm_frame_hello *hello, int fd)
{
	int rc = far_shm_control_map(fd, &link->peer_control);

	if (rc < 0)
		return rc;
	link->peer_nonce = hello->nonce;
	link->link.sums_from = (hello->features & SHM_FEATURE_SUMS) != 0 ? SHM_SUMS_FROM_BYTES : 0;
	/* What threads share in has no one sum. */
	link->link.sums_reads = SHM_TP(link->link.tp)->copies.helpers == NULL;
	link->credits = hello->credits;
	link->credits_max = hello->credits;
	return 0;
}

static int
hello_take(struct shm_link *link, const struct shm_frame *frame, int fd)
{
	struct shm_listener *listener = link->listener;
	struct far_link_handler *handler;
	int rc;

	rc = peer_take(link, &frame->u.hello, fd);
	if (rc == 0)
		rc = far_shm_link_prepare(link);
	if (rc < 0)
		return rc;
	link->rx_credits = SHM_TP(link->link.tp)->credits;
	far_list_remove(&link->wait_node);
	link->listener = NULL;
	listener->handshakes--;
	link->state = SHM_UP;
	link->held = true;
	link->welcome_pending = true;
	link->link.up = true;
	handler = listener->accept(listener->arg, &link->link, frame->u.hello.hello,
				   frame->u.hello.hello_bytes);
	link->held = false;
	if (handler == NULL) {
		far_shm_link_fail(link, -ECONNREFUSED);
		return 0;
	}
	link->link.handler = handler;
	(void)far_shm_flush(link);
	return 0;
}

static int
welcome_take(struct shm_link *link, const struct shm_frame *frame, int fd)
{
	struct far_event event = {.kind = FAR_EV_CONNECTED};
	int rc = peer_take(link, &frame->u.hello, fd);

	if (rc < 0)
		return rc;
	far_list_remove(&link->wait_node);
	link->state = SHM_UP;
	link->link.up = true;
	far_shm_link_emit(link, &event);
	return 0;
}

/* ---- what arrives ---- */

static int
message_take(struct shm_link *link, const struct shm_frame *frame)
{
	struct far_event event = {
		.kind = FAR_EV_MESSAGE,
		.msg = frame->body,
		.msg_bytes = frame->body_bytes,
	};

	if (link->rx_credits == 0)
		return -EPROTO;
	link->rx_credits--;
	if (far_shm_peer_revoked(link))
		return -ECONNRESET;
	far_shm_link_emit(link, &event);
	link->owed++;
	return 0;
}

static int
write_take(struct shm_link *link, const struct shm_frame *frame)
{
	FAR_ASSERT(!far_shm_pull_active(link));
	memcpy(link->pull.frame, frame->body, frame->body_bytes);
	link->pull.count = frame->u.write_count;
	link->pull.idx = 0;
	link->pull.offset = 0;
	return 0;
}

static int
up_take(struct shm_link *link, const struct shm_frame *frame, int fd)
{
	if (frame->credits > link->credits_max - link->credits) {
		if (fd >= 0)
			(void)close(fd);
		return -EPROTO;
	}
	link->credits += frame->credits;
	if (frame->kind == SHM_FRAME_MEM)
		return far_shm_region_add(link, &frame->u.mem, fd);
	if (fd >= 0) {
		(void)close(fd);
		return -EPROTO;
	}
	switch (frame->kind) {
	case SHM_FRAME_MEM_GONE:
		far_shm_region_remove(link, frame->u.mem_gone.region);
		return 0;
	case SHM_FRAME_MSG:
		return message_take(link, frame);
	case SHM_FRAME_CREDIT:
		return 0;
	case SHM_FRAME_WRITE:
		return write_take(link, frame);
	case SHM_FRAME_WRITE_DONE:
		return far_shm_writes_ack(link, &frame->u.write_done,
					  frame->body + sizeof(frame->u.write_done));
	default:
		return -EPROTO;
	}
}

/* @fd is taken. Returns 0, or why the link ends. */
static int
packet_take(struct shm_link *link, const void *packet, size_t size_bytes, int fd)
{
	struct shm_frame frame;
	int rc = far_shm_frame_parse(packet, size_bytes, &frame);

	if (rc == 0 && link->state == SHM_UP)
		return up_take(link, &frame, fd);
	if (rc == 0 && link->state == SHM_HELLO_WAIT && frame.kind == SHM_FRAME_HELLO)
		return hello_take(link, &frame, fd);
	if (rc == 0 && link->state == SHM_HELLO_SENT && frame.kind == SHM_FRAME_WELCOME)
		return welcome_take(link, &frame, fd);
	if (fd >= 0)
		(void)close(fd);
	return -EPROTO;
}

/* Returns how many packets were taken in. */
static int
link_receive(struct shm_link *link)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	int taken = 0;

	while (link->rx_ready && !far_shm_pull_active(link) && taken < SHM_FRAMES_PER_TURN &&
	       tp->budget > 0) {
		ssize_t got;
		int fd, rc;

		/* One byte more than any frame: a longer packet shows as cut. */
		got = far_shm_socket_receive(link->fd, tp->rx, SHM_FRAME_BYTES_MAX + 1, &fd);
		if (got == -EAGAIN) {
			link->rx_ready = false;
			link->drained++;
			break;
		}
		taken++;
		if (got > 0)
			rc = packet_take(link, tp->rx, (size_t)got, fd);
		else if (got == 0)
			/* Whoever hangs up before the welcome has refused us. */
			rc = link->state == SHM_HELLO_SENT ? -ECONNREFUSED : -ECONNRESET;
		else
			rc = (int)got;
		if (rc < 0) {
			if (rc != -ECONNRESET && rc != -ECONNREFUSED)
				far_log_warn("link to %s dropped: %s (%d)", link->link.peer,
					     rc == -EPERM ? "its memory is not sealed"
							  : far_err_text(rc),
					     rc);
			far_shm_link_fail(link, rc == -EPERM ? -EPROTO : rc);
		}
	}
	return taken;
}

/* ---- turns ---- */

static bool
link_is_dead(const struct shm_link *link)
{
	return link->rc != 0 || link->closing;
}

/* What is outstanding ends, then the news of it; the link goes when its owner let go of it. */
static bool
link_end(struct shm_link *link)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	struct far_event event = {.kind = FAR_EV_LOST, .status = link->rc};
	int rc = link->rc != 0 ? link->rc : -ECANCELED;

	far_shm_queue_abort(&link->reads, rc);
	far_shm_queue_abort(&link->writes, rc);
	tp->work_done += far_shm_queue_complete(link, &link->reads);
	tp->work_done += far_shm_queue_complete(link, &link->writes);
	if (!far_shm_queue_empty(&link->reads) || !far_shm_queue_empty(&link->writes) ||
	    tp->budget <= 0)
		return true;
	if (link->link.handler == NULL) {
		/* Nobody above has seen it. */
		far_shm_link_free(link);
		return false;
	}
	tp->work_done++;
	if (!link->closing) {
		if (!link->told) {
			link->told = true;
			far_shm_link_emit(link, &event);
		}
		return link->closing;
	}
	/* Off the lists before the last event: its handler may register, connect, disconnect. */
	far_list_remove(&link->all_node);
	far_list_remove(&link->work_node);
	far_shm_regions_fini(link);
	event = (struct far_event){.kind = FAR_EV_CLOSED};
	far_shm_link_emit(link, &event);
	far_shm_link_free(link);
	return false;
}

static int
link_sendable(struct shm_link *link)
{
	struct far_event event = {.kind = FAR_EV_SENDABLE};
	bool send = far_shm_send_ready(link);
	bool reads = far_shm_queue_ready(link, &link->reads);
	bool writes = far_shm_queue_ready(link, &link->writes);

	if (SHM_TP(link->link.tp)->budget <= 0 || (!send && !reads && !writes))
		return 0;
	if (send)
		link->send_refused = false;
	if (reads)
		link->reads.refused.set = false;
	if (writes)
		link->writes.refused.set = false;
	far_shm_link_emit(link, &event);
	return 1;
}

/* The one-sided half of a turn: READs, WRITEs, and their completions. */
static int
link_ops(struct shm_link *link)
{
	int work = 0;

	work += far_shm_queue_run(link, &link->reads);
	work += far_shm_queue_complete(link, &link->reads);
	if (link_is_dead(link))
		return work;
	work += far_shm_queue_run(link, &link->writes);
	far_shm_writes_send(link);
	if (link_is_dead(link))
		return work;
	return work + far_shm_queue_complete(link, &link->writes);
}

bool
far_shm_link_work(struct shm_link *link)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	int work = 0;

	if (!link_is_dead(link))
		work += link_receive(link);
	if (!link_is_dead(link) && link->state == SHM_UP)
		work += far_shm_pull_run(link);
	if (!link_is_dead(link) && link->state == SHM_UP)
		work += link_ops(link);
	if (!link_is_dead(link) && link->state == SHM_UP)
		work += far_shm_flush(link);
	if (!link_is_dead(link) && link->state == SHM_UP)
		work += link_sendable(link);
	if (work == 0 && !link_is_dead(link) && far_shm_regions_fault(link))
		work++;
	tp->work_done += work;
	if (link_is_dead(link))
		return work > 0 || link_end(link);
	return work > 0 || link->rx_ready || tp->budget <= 0;
}
