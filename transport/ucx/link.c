/* link.c - the life of a link: asked for, greeted, used a turn at a time, ended. */
#include "transport/ucx/ucx_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

#define RESOLVE_STEP_NS (2 * FAR_NS_PER_MS)

void
far_ucx_link_wake(struct ucx_link *link)
{
	struct ucx_transport *tp = UCX_TP(link->link.tp);

	if (far_list_empty(&link->work_node))
		far_list_push_back(&tp->work, &link->work_node);
}

void
far_ucx_link_emit(struct ucx_link *link, const struct far_event *event)
{
	struct far_event full = *event;

	full.link = &link->link;
	UCX_TP(link->link.tp)->budget--;
	FAR_ASSERT(link->link.handler != NULL);
	link->link.handler->event(link->link.handler, &full);
}

/* ---- making one ---- */

static int
link_open(struct ucx_transport *tp, struct ucx_link **out)
{
	struct ucx_link *link = far_zalloc(sizeof(*link));
	int rc;

	if (link == NULL)
		return -ENOMEM;
	link->link.tp = &tp->tp;
	link->id = ++tp->id_last;
	link->rx_credits = tp->credits;
	far_list_init(&link->all_node);
	far_list_init(&link->work_node);
	far_bitmap_init(&link->exposed, link->exposed_words, UCX_REGIONS_MAX);
	/* All that the link will ever need; pages of it that it never uses are never there. */
	link->partial = far_zalloc(FAR_MESSAGE_BYTES_MAX);
	link->ring = far_zalloc((size_t)UCX_RING_BYTES);
	link->stream = far_zalloc_array(UCX_STREAM_MAX, sizeof(*link->stream));
	rc = link->partial == NULL || link->ring == NULL || link->stream == NULL ? -ENOMEM : 0;
	if (rc == 0)
		rc = far_ucx_inbox_init(link, tp->credits);
	if (rc == 0)
		rc = far_ucx_queue_init(&link->queue);
	if (rc == 0)
		rc = far_ucx_serve_init(&link->serve);
	if (rc == 0)
		rc = far_ucx_gets_init(link);
	if (rc < 0) {
		far_ucx_link_free(link);
		return rc;
	}
	far_list_push_back(&tp->links, &link->all_node);
	*out = link;
	return 0;
}

void
far_ucx_link_free(struct ucx_link *link)
{
	FAR_ASSERT(link->conn == NULL);
	far_list_remove(&link->all_node);
	far_list_remove(&link->work_node);
	far_ucx_gets_fini(link);
	far_ucx_queue_fini(&link->queue);
	far_ucx_serve_fini(&link->serve);
	far_free(link->inbox);
	far_free(link->partial);
	far_free(link->ring);
	far_free(link->stream);
	far_free(link);
}

int
far_ucx_link_greeted(struct ucx_link *link, const struct ucx_frame_hello *hello)
{
	/* Who speaks over RDMA means the same by it. */
	if (link->gets != NULL && (hello->features & UCX_FEATURE_GET) == 0)
		return -EPROTO;
	link->greeted = true;
	link->peer_nonce = hello->nonce;
	link->credits = hello->credits;
	link->credits_max = hello->credits;
	link->peer_window_bytes = hello->window_bytes;
	link->peer_reads_max = hello->reads_max;
	return 0;
}

/* ---- accepting ---- */

void
far_ucx_link_accept(struct ucx_conn *conn, struct ucx_listener *listener)
{
	struct far_link_handler *handler;
	struct ucx_link *link;
	int rc;

	if (link_open(conn->tp, &link) < 0) {
		far_ucx_conn_detach(conn);
		return;
	}
	link->conn = conn;
	conn->link = link;
	(void)snprintf(link->link.peer, sizeof(link->link.peer), "%s", conn->peer);
	rc = far_ucx_link_greeted(link, &conn->hello);
	if (rc < 0) {
		far_log_warn("link to %s dropped: %s (%d)", conn->peer, far_err_text(rc), rc);
		far_ucx_link_fail(link, rc);
		return;
	}
	link->greet_pending = true;
	link->link.up = true;
	handler = listener->accept(listener->arg, &link->link, conn->hello.hello,
				   conn->hello.hello_bytes);
	link->link.handler = handler;
	if (handler == NULL)
		far_ucx_link_fail(link, -ECONNREFUSED);
	far_ucx_link_wake(link);
}

/* ---- connecting ---- */

static int
conn_start(struct ucx_link *link, const struct sockaddr_storage *addr, socklen_t addr_bytes)
{
	int rc = UCX_TP(link->link.tp)->fabric
			 ? far_ucx_prove_towards(UCX_TP(link->link.tp), addr, addr_bytes)
			 : 0;

	if (rc == 0)
		rc = far_ucx_conn_open(UCX_TP(link->link.tp), NULL, NULL,
				       (const struct sockaddr *)addr, addr_bytes, &link->conn);

	if (rc < 0)
		return rc;
	link->conn->link = link;
	memcpy(link->conn->peer, link->link.peer, sizeof(link->conn->peer));
	link->greet_pending = true;
	far_ucx_link_wake(link);
	return 0;
}

int
far_ucx_connect(struct far_transport *ftp, const char *address, const void *hello,
		size_t hello_bytes, uint64_t deadline_ns, struct far_link_handler *handler,
		struct far_link **out)
{
	struct ucx_transport *tp = UCX_TP(ftp);
	struct sockaddr_storage addr;
	struct ucx_link *link;
	socklen_t addr_bytes;
	int rc;

	if (far_ucx_is_child(tp))
		return -EPERM;
	rc = link_open(tp, &link);
	if (rc < 0)
		return rc;
	link->deadline_ns = deadline_ns;
	link->hello_bytes = (uint32_t)hello_bytes;
	if (hello_bytes != 0)
		memcpy(link->hello, hello, hello_bytes);
	(void)snprintf(link->link.peer, sizeof(link->link.peer), "%s", address);
	rc = far_host_parse(address, &addr, &addr_bytes);
	if (rc == 0)
		rc = conn_start(link, &addr, addr_bytes);
	else if (rc == -EAGAIN)
		rc = far_resolve_open(&tp->resolving, address, &link->resolve);
	if (rc < 0) {
		far_ucx_link_free(link);
		return rc == -EIO ? -ECONNREFUSED : rc;
	}
	link->link.handler = handler;
	*out = &link->link;
	return 0;
}

static void
resolve_check(struct ucx_link *link)
{
	struct sockaddr_storage addr;
	socklen_t addr_bytes;
	int rc = far_resolve_get(link->resolve, &addr, &addr_bytes);

	if (rc == -EAGAIN)
		return;
	far_resolve_drop(link->resolve);
	link->resolve = NULL;
	if (rc == 0)
		rc = conn_start(link, &addr, addr_bytes);
	else
		far_log_warn("link to %s refused: no such host", link->link.peer);
	/* To whoever wants to connect it is all the same, and it is tried again. */
	if (rc < 0)
		far_ucx_link_fail(link, -ECONNREFUSED);
}

/* ---- the end ---- */

/* Nothing of the peer's lands from here on, and nothing more is sent. */
static void
link_shut(struct ucx_link *link)
{
	link->link.up = false;
	link->connected_pending = false;
	far_ucx_inbox_drop(link);
	far_resolve_drop(link->resolve);
	link->resolve = NULL;
	if (link->conn != NULL)
		far_ucx_conn_detach(link->conn);
	link->conn = NULL;
}

void
far_ucx_link_fail(struct ucx_link *link, int rc)
{
	FAR_ASSERT(rc < 0);
	if (link->rc != 0 || link->closing)
		return;
	link->rc = rc;
	link_shut(link);
	far_ucx_link_wake(link);
}

void
far_ucx_disconnect(struct far_link *flink)
{
	struct ucx_link *link = UCX_LINK(flink);

	if (far_ucx_is_child(UCX_TP(flink->tp)))
		return;
	FAR_ASSERT(!link->closing);
	link->closing = true;
	link_shut(link);
	far_ucx_link_wake(link);
}

static bool
link_is_dead(const struct ucx_link *link)
{
	return link->rc != 0 || link->closing;
}

/* What is outstanding ends, then the news of it; the link goes when its owner let go of it. With
 * trust: fabric UCX may still write to what some READs name: these end, and the link goes, when it
 * has called back for them. The connection was closed by force, so it does, however dead the peer
 * is; the news does not wait for it. Each callback gives a turn. */
static bool
link_end(struct ucx_link *link)
{
	struct ucx_transport *tp = UCX_TP(link->link.tp);
	struct far_event event = {.kind = FAR_EV_LOST, .status = link->rc};

	far_ucx_queue_abort(link, link->rc != 0 ? link->rc : -ECANCELED);
	tp->work_done += far_ucx_queue_complete(link);
	if (tp->budget <= 0 || (link->gets_out == 0 && !far_ucx_queue_empty(&link->queue)))
		return true;
	if (link->link.handler == NULL) {
		/* Nobody above has seen it. */
		far_ucx_link_free(link);
		return false;
	}
	if (!link->closing) {
		if (!link->told) {
			link->told = true;
			tp->work_done++;
			far_ucx_link_emit(link, &event);
		}
		return link->closing;
	}
	if (link->gets_out > 0)
		return false;
	tp->work_done++;
	/* Off the lists before the last event: its handler may register, connect, disconnect. */
	far_list_remove(&link->all_node);
	far_list_remove(&link->work_node);
	event = (struct far_event){.kind = FAR_EV_CLOSED};
	far_ucx_link_emit(link, &event);
	far_ucx_link_free(link);
	return false;
}

/* ---- deadlines ---- */

/* Whether the peer owes us an answer, sooner or later. Bytes that it took in are acknowledged when
 * a quarter of the window has gathered. */
bool
far_ucx_link_expects(const struct ucx_link *link)
{
	const struct ucx_queue *queue = &link->queue;

	return queue->reads_out > 0 || link->gets_out > 0 ||
	       queue->unacked_head != queue->unacked_tail ||
	       link->bulk_out - link->bulk_acked > link->peer_window_bytes / 4;
}

static uint64_t
silent_since_ns(const struct ucx_link *link)
{
	uint64_t since_ns =
		link->conn->heard_ns > link->expect_ns ? link->conn->heard_ns : link->expect_ns;

	/* A process that is stopped says nothing, and its memory is read all the same. */
	return link->got_ns > since_ns ? link->got_ns : since_ns;
}

static void
silence_check(struct ucx_link *link, uint64_t now_ns)
{
	if (!far_ucx_link_expects(link)) {
		link->expect_ns = 0;
		link->suspect_ns = 0;
		return;
	}
	if (link->expect_ns == 0)
		link->expect_ns = now_ns;
	if (now_ns < silent_since_ns(link) + UCX_SILENCE_NS) {
		link->suspect_ns = 0;
		return;
	}
	/* We may have been asleep ourselves: what has arrived is looked at before anybody is
	 * judged. */
	if (link->suspect_ns == 0) {
		link->suspect_ns = now_ns;
	} else if (now_ns >= link->suspect_ns + UCX_SILENCE_MORE_NS) {
		far_log_warn("link to %s lost: silent for %d s", link->link.peer,
			     (int)(UCX_SILENCE_NS / FAR_NS_PER_S));
		far_ucx_link_fail(link, -ECONNRESET);
	}
}

void
far_ucx_link_check(struct ucx_link *link, uint64_t now_ns)
{
	if (link_is_dead(link))
		return;
	if (!link->greeted && now_ns >= link->deadline_ns)
		far_ucx_link_fail(link, -ETIMEDOUT);
	else if (link->resolve != NULL)
		resolve_check(link);
	else if (link->link.up)
		silence_check(link, now_ns);
}

uint64_t
far_ucx_link_due_ns(const struct ucx_link *link)
{
	if (link_is_dead(link))
		return FAR_TIME_NEVER;
	if (link->resolve != NULL)
		return far_clock_now(UCX_TP(link->link.tp)->clock) + RESOLVE_STEP_NS;
	if (!link->greeted)
		return link->deadline_ns;
	if (!link->link.up || !far_ucx_link_expects(link))
		return FAR_TIME_NEVER;
	if (link->suspect_ns != 0)
		return link->suspect_ns + UCX_SILENCE_MORE_NS;
	return silent_since_ns(link) + UCX_SILENCE_NS;
}

/* ---- turns ---- */

static int
link_sendable(struct ucx_link *link)
{
	struct far_event event = {.kind = FAR_EV_SENDABLE};
	bool send = far_ucx_send_ready(link);
	bool posts = far_ucx_queue_ready(link);

	if (UCX_TP(link->link.tp)->budget <= 0 || (!send && !posts))
		return 0;
	if (send)
		link->send_refused = false;
	if (posts)
		link->queue.refused.set = false;
	far_ucx_link_emit(link, &event);
	return 1;
}

static int
link_connected(struct ucx_link *link)
{
	struct far_event event = {.kind = FAR_EV_CONNECTED};

	if (!link->connected_pending)
		return 0;
	link->connected_pending = false;
	link->link.up = true;
	far_ucx_link_emit(link, &event);
	return 1;
}

bool
far_ucx_link_work(struct ucx_link *link)
{
	struct ucx_transport *tp = UCX_TP(link->link.tp);
	int work = 0;

	if (!link_is_dead(link))
		work += link_connected(link);
	if (!link_is_dead(link) && link->link.up)
		work += far_ucx_inbox_deliver(link);
	if (!link_is_dead(link) && link->link.up)
		work += far_ucx_queue_complete(link);
	if (!link_is_dead(link) && link->conn != NULL && link->conn->rc != 0 &&
	    link->inbox_count == 0)
		far_ucx_link_fail(link, link->conn->rc);
	if (!link_is_dead(link) && link->conn != NULL)
		work += far_ucx_flush(link);
	if (!link_is_dead(link) && link->link.up)
		work += link_sendable(link);
	tp->work_done += work;
	if (link_is_dead(link))
		return work > 0 || link_end(link);
	return work > 0 || tp->budget <= 0;
}
