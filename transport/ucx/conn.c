/* conn.c - one UCX endpoint: frames out and in, and an end that needs nobody's consent. */
#include "transport/ucx/ucx_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"

#define AM_ID 1U

static struct far_list *
bucket_of(struct ucx_transport *tp, ucp_ep_h ep)
{
	return &tp->buckets[far_mix64((uintptr_t)ep) % UCX_CONN_BUCKETS];
}

static struct ucx_conn *
conn_find(struct ucx_transport *tp, ucp_ep_h ep)
{
	struct far_list *bucket = bucket_of(tp, ep);

	for (struct far_list *it = bucket->next; it != bucket; it = it->next) {
		struct ucx_conn *conn = FAR_CONTAINER_OF(it, struct ucx_conn, bucket_node);

		if (conn->ep == ep)
			return conn;
	}
	return NULL;
}

void
far_ucx_conn_wake(struct ucx_conn *conn)
{
	if (conn->link != NULL)
		far_ucx_link_wake(conn->link);
	else if (far_list_empty(&conn->work_node))
		far_list_push_back(&conn->tp->conn_work, &conn->work_node);
}

void
far_ucx_conn_fail(struct ucx_conn *conn, int rc)
{
	FAR_ASSERT(rc < 0);
	if (conn->rc == 0)
		conn->rc = rc;
	far_ucx_conn_wake(conn);
}

/* UCX's word that the peer is gone; the endpoint is closed outside of progress. */
static void
on_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
	struct ucx_conn *conn = arg;
	(void)ep;

	far_log_debug("ucx: connection to %s: %s", conn->peer,
		      far_ucx_lib->ucs_status_string(status));
	conn->linger = false;
	far_ucx_conn_fail(conn, far_ucx_link_rc(status, conn->connector && !conn->greeted));
}

/* ---- opening ---- */

static struct ucx_conn *
conn_new(struct ucx_transport *tp, bool connector)
{
	struct ucx_conn *conn = far_zalloc(sizeof(*conn));

	if (conn == NULL)
		return NULL;
	/* Pages of it that are never used are never there. */
	conn->txs = far_zalloc_array(UCX_TX_MAX, sizeof(*conn->txs));
	if (conn->txs == NULL) {
		far_free(conn);
		return NULL;
	}
	conn->tp = tp;
	conn->connector = connector;
	conn->heard_ns = far_clock_now(tp->clock);
	conn->deadline_ns = FAR_TIME_NEVER;
	far_list_init(&conn->all_node);
	far_list_init(&conn->bucket_node);
	far_list_init(&conn->work_node);
	for (uint32_t i = 0; i < UCX_TX_MAX; i++) {
		conn->txs[i].conn = conn;
		conn->txs[i].next = conn->tx_free;
		conn->tx_free = &conn->txs[i];
	}
	conn->tx_free_count = UCX_TX_MAX;
	return conn;
}

static int
ep_open(struct ucx_conn *conn, ucp_conn_request_h request, const struct sockaddr *addr,
	socklen_t addr_bytes)
{
	ucp_ep_params_t params = {
		.field_mask = UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER,
		/* Without it operations of a dead peer hang for ever. */
		.err_mode = UCP_ERR_HANDLING_MODE_PEER,
		.err_handler = {.cb = on_error, .arg = conn},
	};
	ucs_status_t status;

	if (request != NULL) {
		params.field_mask |= UCP_EP_PARAM_FIELD_CONN_REQUEST;
		params.conn_request = request;
	} else {
		params.field_mask |= UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR;
		params.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER;
		params.sockaddr.addr = addr;
		params.sockaddr.addrlen = addr_bytes;
	}
	far_ucx_enter();
	status = far_ucx_lib->ucp_ep_create(conn->tp->worker, &params, &conn->ep);
	far_ucx_leave();
	if (status != UCS_OK) {
		far_log_debug("ucx: no endpoint: %s", far_ucx_lib->ucs_status_string(status));
		conn->ep = NULL;
		return far_ucx_call_rc(status);
	}
	far_list_push_back(bucket_of(conn->tp, conn->ep), &conn->bucket_node);
	return 0;
}

int
far_ucx_conn_open(struct ucx_transport *tp, struct ucx_listener *listener,
		  ucp_conn_request_h request, const struct sockaddr *addr, socklen_t addr_bytes,
		  struct ucx_conn **out)
{
	struct ucx_conn *conn = conn_new(tp, request == NULL);
	int rc;

	if (conn == NULL) {
		/* UCX gives up a request that it cannot accept; of this one it has not heard. */
		if (request != NULL)
			(void)far_ucx_lib->ucp_listener_reject(listener->listener, request);
		return -ENOMEM;
	}
	rc = ep_open(conn, request, addr, addr_bytes);
	if (rc < 0) {
		far_ucx_conn_free(conn);
		return rc;
	}
	far_list_push_back(&tp->conns, &conn->all_node);
	*out = conn;
	return 0;
}

void
far_ucx_conn_free(struct ucx_conn *conn)
{
	if (conn->listener != NULL)
		conn->listener->handshakes--;
	far_list_remove(&conn->all_node);
	far_list_remove(&conn->bucket_node);
	far_list_remove(&conn->work_node);
	far_free(conn->txs);
	far_free(conn);
}

/* ---- frames out ---- */

struct ucx_tx *
far_ucx_tx_get(struct ucx_conn *conn, enum ucx_frame_kind kind)
{
	struct ucx_tx *tx = conn->tx_free;
	struct ucx_frame_header header = {
		.magic = UCX_FRAME_MAGIC,
		.version = UCX_FRAME_VERSION,
		.kind = (uint8_t)kind,
	};

	if (tx == NULL || conn->state != UCX_CONN_OPEN || conn->rc != 0)
		return NULL;
	conn->tx_free = tx->next;
	conn->tx_free_count--;
	memcpy(tx->bytes, &header, sizeof(header));
	tx->size_bytes = sizeof(header);
	return tx;
}

void *
far_ucx_tx_add(struct ucx_tx *tx, const void *bytes, size_t size_bytes)
{
	uint8_t *at = tx->bytes + tx->size_bytes;

	FAR_ASSERT(size_bytes <= far_ucx_tx_room(tx));
	memcpy(at, bytes, size_bytes);
	tx->size_bytes += size_bytes;
	return at;
}

void
far_ucx_tx_drop(struct ucx_tx *tx)
{
	struct ucx_conn *conn = tx->conn;

	tx->next = conn->tx_free;
	conn->tx_free = tx;
	conn->tx_free_count++;
}

/* UCX has read the frame, or never will. */
static void
on_sent(void *request, ucs_status_t status, void *arg)
{
	struct ucx_tx *tx = arg;

	far_ucx_lib->ucp_request_free(request);
	far_ucx_tx_drop(tx);
	if (status != UCS_OK && tx->conn->state == UCX_CONN_OPEN && tx->conn->rc == 0)
		far_ucx_conn_fail(tx->conn, far_ucx_link_rc(status, tx->conn->connector &&
									    !tx->conn->greeted));
	far_ucx_conn_wake(tx->conn);
}

void
far_ucx_tx_send(struct ucx_tx *tx, uint32_t credits, uint32_t acked)
{
	struct ucx_conn *conn = tx->conn;
	struct ucx_frame_header header;
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
				UCP_OP_ATTR_FIELD_FLAGS,
		.flags = UCP_AM_SEND_FLAG_EAGER | UCP_AM_SEND_FLAG_REPLY,
		.cb = {.send = on_sent},
		.user_data = tx,
	};
	ucs_status_ptr_t request;

	memcpy(&header, tx->bytes, sizeof(header));
	header.size_bytes = (uint32_t)tx->size_bytes;
	header.seq = conn->seq_out++;
	header.credits = credits;
	header.acked = acked;
	memcpy(tx->bytes, &header, sizeof(header));
	far_ucx_enter();
	request = far_ucx_lib->ucp_am_send_nbx(conn->ep, AM_ID, NULL, 0, tx->bytes, tx->size_bytes,
					       &param);
	far_ucx_leave();
	if (UCS_PTR_IS_PTR(request))
		return;
	far_ucx_tx_drop(tx);
	if (UCS_PTR_IS_ERR(request))
		far_ucx_conn_fail(conn, far_ucx_link_rc(UCS_PTR_STATUS(request),
							conn->connector && !conn->greeted));
}

/* ---- frames in ---- */

static int
hello_take(struct ucx_conn *conn, const struct ucx_frame *frame)
{
	if (frame->kind != UCX_FRAME_HELLO || conn->connector || conn->greeted)
		return -EPROTO;
	conn->greeted = true;
	conn->hello = frame->u.hello;
	conn->hello_pending = true;
	far_ucx_conn_wake(conn);
	return 0;
}

static int
frame_take(struct ucx_conn *conn, const void *packet, size_t size_bytes)
{
	struct ucx_frame frame;
	int rc = far_ucx_frame_parse(packet, size_bytes, &frame);

	if (rc < 0)
		return rc;
	if (frame.seq != conn->seq_in)
		return -EPROTO;
	conn->seq_in++;
	if (conn->link == NULL)
		return hello_take(conn, &frame);
	return far_ucx_receive(conn->link, &frame);
}

ucs_status_t
far_ucx_on_frame(void *arg, const void *header, size_t header_bytes, void *data, size_t data_bytes,
		 const ucp_am_recv_param_t *param)
{
	struct ucx_transport *tp = arg;
	struct ucx_conn *conn = NULL;
	int rc;
	(void)header;

	if (param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP)
		conn = conn_find(tp, param->reply_ep);
	/* Also frames of a connection whose link has ended: nothing of them lands anywhere. */
	if (conn == NULL || conn->state != UCX_CONN_OPEN || conn->rc != 0)
		return UCS_OK;
	conn->heard_ns = far_clock_now(tp->clock);
	/* Rendezvous would have us fetch from where the peer says: ours never ask for it. */
	if (header_bytes != 0 || (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV))
		rc = -EPROTO;
	else
		rc = frame_take(conn, data, data_bytes);
	if (rc == -EPROTO)
		far_log_warn("link to %s dropped: %s (%d)", conn->peer, far_err_text(rc), rc);
	if (rc < 0)
		far_ucx_conn_fail(conn, rc);
	return UCS_OK;
}

/* ---- the end ---- */

static void
on_closed(void *request, ucs_status_t status, void *arg)
{
	struct ucx_conn *conn = arg;
	(void)status;

	far_ucx_lib->ucp_request_free(request);
	conn->state = UCX_CONN_CLOSED;
	far_ucx_conn_wake(conn);
}

/* By force: what is not on its way is dropped, and no consent of the peer is waited for. */
static void
ep_close(struct ucx_conn *conn)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK |
				UCP_OP_ATTR_FIELD_USER_DATA,
		.flags = UCP_EP_CLOSE_FLAG_FORCE,
		.cb = {.send = on_closed},
		.user_data = conn,
	};
	ucs_status_ptr_t request;

	conn->state = UCX_CONN_CLOSING;
	far_ucx_enter();
	request = far_ucx_lib->ucp_ep_close_nbx(conn->ep, &param);
	far_ucx_leave();
	far_list_remove(&conn->bucket_node);
	conn->ep = NULL;
	if (!UCS_PTR_IS_PTR(request))
		conn->state = UCX_CONN_CLOSED;
}

void
far_ucx_conn_detach(struct ucx_conn *conn)
{
	uint64_t now_ns = far_clock_now(conn->tp->clock);

	FAR_ASSERT(conn->state == UCX_CONN_OPEN);
	conn->link = NULL;
	if (conn->listener != NULL) {
		conn->listener->handshakes--;
		conn->listener = NULL;
	}
	conn->state = UCX_CONN_DYING;
	conn->deadline_ns = now_ns + UCX_LINGER_NS;
	far_ucx_conn_wake(conn);
}

uint64_t
far_ucx_conn_due_ns(const struct ucx_conn *conn)
{
	return conn->deadline_ns;
}

static bool
conn_lingers(const struct ucx_conn *conn, uint64_t now_ns)
{
	if (!conn->greeted || now_ns >= conn->deadline_ns)
		return false;
	return conn->linger || (conn->rc == 0 && conn->tx_free_count < UCX_TX_MAX);
}

int
far_ucx_conn_work(struct ucx_conn *conn)
{
	uint64_t now_ns = far_clock_now(conn->tp->clock);
	struct ucx_listener *listener = conn->listener;

	far_list_remove(&conn->work_node);
	FAR_ASSERT(conn->link == NULL);
	if (conn->state == UCX_CONN_OPEN) {
		if (conn->rc == 0 && conn->hello_pending) {
			conn->hello_pending = false;
			conn->listener = NULL;
			listener->handshakes--;
			conn->deadline_ns = FAR_TIME_NEVER;
			far_ucx_link_accept(conn, listener);
			return 1;
		}
		if (conn->rc == 0 && now_ns < conn->deadline_ns)
			return 0;
		far_ucx_conn_detach(conn);
	}
	if (conn->state == UCX_CONN_DYING) {
		if (conn_lingers(conn, now_ns))
			return 0;
		conn->deadline_ns = FAR_TIME_NEVER;
		ep_close(conn);
	}
	if (conn->state == UCX_CONN_CLOSED && conn->tx_free_count == UCX_TX_MAX) {
		far_ucx_conn_free(conn);
		return 1;
	}
	return 0;
}
