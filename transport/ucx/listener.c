/* listener.c - addresses, and connections that are asked for. */
#include "transport/ucx/ucx_priv.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"

#define PROGRESS_CALLS_MAX 64

/* ---- listening ---- */

/* Inside progress: remembers who asks, in the order of asking. To be told no is for those alone for
 * whom there is no place at all: UCX 1.13 may stop the process when it rejects while others come. */
static void
on_request(ucp_conn_request_h request, void *arg)
{
	struct ucx_listener *listener = arg;
	uint32_t at = (listener->request_first + listener->request_count) % UCX_REQUESTS_MAX;

	if (listener->request_count < UCX_REQUESTS_MAX) {
		listener->requests[at] = request;
		listener->request_count++;
	} else {
		(void)far_ucx_lib->ucp_listener_reject(listener->listener, request);
	}
}

/* The one that waits longest; it is the caller's. */
static ucp_conn_request_h
request_take(struct ucx_listener *listener)
{
	ucp_conn_request_h request = listener->requests[listener->request_first];

	FAR_ASSERT(listener->request_count > 0);
	listener->request_first = (listener->request_first + 1) % UCX_REQUESTS_MAX;
	listener->request_count--;
	return request;
}

bool
far_ucx_listener_can_work(const struct ucx_listener *listener)
{
	return listener->request_count > 0 && listener->handshakes < UCX_CONNS_WAITING;
}

/* What UCX has one code for: who listens there, or why nobody can. The socket is given up again,
 * and UCX binds its own. */
static int
address_probe(const struct sockaddr_storage *addr, socklen_t addr_bytes)
{
	int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;
	int rc = 0;

	if (fd < 0)
		return errno == EAFNOSUPPORT ? -EINVAL : -EMFILE;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)addr, addr_bytes) < 0 || listen(fd, 1) < 0) {
		if (errno == EADDRINUSE)
			rc = -EADDRINUSE;
		else if (errno == EACCES)
			rc = -EACCES;
		else
			rc = -EINVAL; /* no such address on this host */
	}
	(void)close(fd);
	return rc;
}

int
far_ucx_listen(struct far_transport *ftp, const char *address, far_accept_fn *accept, void *arg,
	       struct far_listener **out)
{
	struct ucx_transport *tp = UCX_TP(ftp);
	struct sockaddr_storage addr = {0};
	ucp_listener_params_t params = {
		.field_mask =
			UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
		.conn_handler = {.cb = on_request},
	};
	struct ucx_listener *listener;
	ucs_status_t status;
	socklen_t addr_bytes;
	int rc;

	if (far_ucx_is_child(tp))
		return -EPERM;
	rc = far_host_find(address, &addr, &addr_bytes);
	if (rc == 0)
		rc = address_probe(&addr, addr_bytes);
	if (rc == 0 && tp->fabric)
		rc = far_ucx_prove(tp, &addr);
	if (rc < 0)
		return rc;
	listener = far_zalloc(sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	listener->tp = tp;
	listener->accept = accept;
	listener->arg = arg;
	params.sockaddr.addr = (const struct sockaddr *)&addr;
	params.sockaddr.addrlen = addr_bytes;
	params.conn_handler.arg = listener;
	far_ucx_enter();
	status = far_ucx_lib->ucp_listener_create(tp->worker, &params, &listener->listener);
	far_ucx_leave();
	if (status != UCS_OK) {
		far_free(listener);
		return far_ucx_call_rc(status);
	}
	far_list_push_back(&tp->listeners, &listener->node);
	*out = (struct far_listener *)listener;
	return 0;
}

void
far_ucx_unlisten(struct far_listener *flistener)
{
	struct ucx_listener *listener = (struct ucx_listener *)flistener;
	struct ucx_transport *tp = listener->tp;

	if (far_ucx_is_child(tp))
		return;
	for (struct far_list *it = tp->conns.next; it != &tp->conns; it = it->next) {
		struct ucx_conn *conn = FAR_CONTAINER_OF(it, struct ucx_conn, all_node);

		if (conn->listener == listener)
			far_ucx_conn_detach(conn);
	}
	FAR_ASSERT(listener->handshakes == 0);
	far_ucx_enter();
	/* A request that nobody answered, because progress has not told us of it yet, would hold up
	 * RDMA CM for ever when its listener goes. */
	for (int i = 0; tp->fabric && i < PROGRESS_CALLS_MAX; i++)
		if (far_ucx_lib->ucp_worker_progress(tp->worker) == 0)
			break;
	while (listener->request_count > 0)
		(void)far_ucx_lib->ucp_listener_reject(listener->listener, request_take(listener));
	far_ucx_lib->ucp_listener_destroy(listener->listener);
	far_ucx_leave();
	far_list_remove(&listener->node);
	far_free(listener);
}

static void
request_name(ucp_conn_request_h request, char out[FAR_ADDRESS_BYTES_MAX])
{
	ucp_conn_request_attr_t attr = {.field_mask = UCP_CONN_REQUEST_ATTR_FIELD_CLIENT_ADDR};

	if (far_ucx_lib->ucp_conn_request_query(request, &attr) == UCS_OK)
		far_host_format(&attr.client_address, out);
	else
		(void)snprintf(out, FAR_ADDRESS_BYTES_MAX, "an unknown address");
}

int
far_ucx_listener_work(struct ucx_listener *listener)
{
	struct ucx_transport *tp = listener->tp;
	int made = 0;

	while (far_ucx_listener_can_work(listener)) {
		ucp_conn_request_h request = request_take(listener);
		char name[FAR_ADDRESS_BYTES_MAX];
		struct ucx_conn *conn;
		int rc;

		made++;
		request_name(request, name);
		rc = far_ucx_conn_open(tp, listener, request, NULL, 0, &conn);
		if (rc < 0) {
			/* The request is gone with the call; the caller tries again. */
			far_log_debug("link from %s not made: %s (%d)", name, far_err_text(rc), rc);
			continue;
		}
		memcpy(conn->peer, name, sizeof(name));
		conn->listener = listener;
		listener->handshakes++;
		conn->deadline_ns = far_clock_now(tp->clock) + UCX_HELLO_TIMEOUT_NS;
	}
	return made;
}
