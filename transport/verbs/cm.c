/* cm.c - RDMA CM: who asks for whom, one event at a time, out of poll. */
#include "transport/verbs/verbs_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

#define BACKLOG        128
#define EVENTS_MAX     32
#define REJECTED_STALE 10 /* the peer still has a connection of an earlier life of our queue pair */

int
far_verbs_call_rc(int error)
{
	switch (error) {
	case EADDRINUSE:
		return -EADDRINUSE;
	case EACCES:
	case EPERM:
		return -EACCES;
	case EMFILE:
	case ENFILE:
		return -EMFILE;
	case EINVAL:
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT:
		return -EINVAL;
	case ENODEV:
	case ENOSYS:
	case EIO:
		return -ENODEV;
	default:
		return -ENOMEM;
	}
}

/* ---- both sides ---- */

static uint8_t
lower(uint8_t a, int b)
{
	if (b < 0)
		b = 0;
	return a < b ? a : (uint8_t)(b > UINT8_MAX ? UINT8_MAX : b);
}

static void
hello_fill(const struct verbs_link *link, struct verbs_hello *out)
{
	const struct verbs_transport *tp = VERBS_TP(link->link.tp);

	far_verbs_hello_fill(out, tp->nonce, tp->credits, link->hello, link->hello_bytes);
	out->frames = VERBS_FRAMES;
}

static void
peer_take(struct verbs_link *link, const struct verbs_hello *hello)
{
	link->peer_nonce = hello->nonce;
	link->credits = hello->credits;
	link->credits_max = hello->credits;
	link->peer_frames = hello->frames;
	link->peer_frames_max = hello->frames;
}

static void
param_fill(const struct verbs_link *link, const struct verbs_hello *hello,
	   struct rdma_conn_param *out)
{
	*out = (struct rdma_conn_param){
		.private_data = hello,
		.private_data_len = sizeof(*hello),
		.responder_resources = link->reads_served,
		.initiator_depth = link->reads_max,
		.retry_count = VERBS_TP(link->link.tp)->retries,
		.rnr_retry_count = VERBS_TP(link->link.tp)->rnr_retries,
		.qp_num = link->qp->qp_num,
	};
}

void
far_verbs_established(struct verbs_link *link)
{
	if (link->state != VERBS_ACCEPTED || far_verbs_link_is_dead(link))
		return;
	link->state = VERBS_UP;
	link->deadline_ns = FAR_TIME_NEVER;
	link->moved_ns = far_clock_now(VERBS_TP(link->link.tp)->clock);
	link->ready = true;
	far_verbs_link_wake(link);
}

/* Without it a device waits for ever with the first READ. */
static int
reads_check(const struct verbs_link *link)
{
	if (link->reads_max > 0 || VERBS_TP(link->link.tp)->posts_no_reads)
		return 0;
	far_log_warn("link to %s dropped: its device, or ours, keeps no READ in flight",
		     link->link.peer);
	return -EPROTO;
}

/* ---- listening ---- */

int
far_verbs_listen(struct far_transport *ftp, const char *address, far_accept_fn *accept, void *arg,
		 struct far_listener **out)
{
	struct verbs_transport *tp = VERBS_TP(ftp);
	struct sockaddr_storage addr = {0};
	struct verbs_listener *listener;
	struct verbs_device *device;
	socklen_t addr_bytes;
	int rc, one = 1;

	if (far_verbs_is_child(tp))
		return -EPERM;
	rc = far_host_find(address, &addr, &addr_bytes);
	if (rc < 0)
		return rc;
	listener = far_zalloc(sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	listener->watch.kind = VERBS_WATCH_LISTENER;
	listener->tp = tp;
	listener->accept = accept;
	listener->arg = arg;
	if (far_verbs_lib->rdma_create_id(tp->cm, &listener->cm_id, &listener->watch,
					  RDMA_PS_TCP) != 0) {
		rc = far_verbs_call_rc(errno);
		far_free(listener);
		return rc;
	}
	/* A donor that is started again does not wait for what its last links left. */
	(void)far_verbs_lib->rdma_set_option(listener->cm_id, RDMA_OPTION_ID,
					     RDMA_OPTION_ID_REUSEADDR, &one, sizeof(one));
	if (far_verbs_lib->rdma_bind_addr(listener->cm_id, (struct sockaddr *)&addr) != 0 ||
	    far_verbs_lib->rdma_listen(listener->cm_id, BACKLOG) != 0)
		rc = far_verbs_call_rc(errno);
	/* One that stands for all has none: it is found with whoever asks. */
	if (rc == 0 && listener->cm_id->verbs != NULL)
		rc = far_verbs_device_get(tp, listener->cm_id->verbs, &device);
	if (rc < 0) {
		(void)far_verbs_lib->rdma_destroy_id(listener->cm_id);
		far_free(listener);
		return rc;
	}
	far_list_push_back(&tp->listeners, &listener->node);
	*out = (struct far_listener *)listener;
	return 0;
}

/* Who has asked and was not answered is refused by RDMA CM. */
void
far_verbs_unlisten(struct far_listener *flistener)
{
	struct verbs_listener *listener = (struct verbs_listener *)flistener;

	if (far_verbs_is_child(listener->tp))
		return;
	(void)far_verbs_lib->rdma_destroy_id(listener->cm_id);
	far_list_remove(&listener->node);
	far_free(listener);
}

/* ---- accepting ---- */

/* What RDMA CM said, kept: the event itself is given back before anything is done about it. */
struct cm_event {
	struct rdma_cm_id *id;
	struct rdma_cm_id *listen_id;
	enum rdma_cm_event_type kind;
	int status;
	uint8_t responder_resources;
	uint8_t initiator_depth;
	uint32_t private_bytes;
	uint8_t private_data[256];
};

static void
request_refuse(const struct verbs_transport *tp, struct rdma_cm_id *id)
{
	struct verbs_hello hello;

	far_verbs_hello_fill(&hello, tp->nonce, tp->credits, NULL, 0);
	hello.frames = VERBS_FRAMES;
	(void)far_verbs_lib->rdma_reject(id, &hello, sizeof(hello));
}

static int
request_answer(struct verbs_link *link)
{
	struct rdma_conn_param param;
	struct verbs_hello hello;
	int rc = far_verbs_qp_start(link);

	if (rc < 0)
		return rc;
	hello_fill(link, &hello);
	param_fill(link, &hello, &param);
	if (far_verbs_lib->rdma_accept(link->cm_id, &param) != 0)
		return -ECONNRESET; /* it has given up meanwhile */
	link->asked = true;
	return 0;
}

static int
request_prepare(struct verbs_transport *tp, const struct cm_event *event,
		const struct verbs_hello *hello, struct verbs_link **out)
{
	const struct sockaddr_storage *peer =
		(const struct sockaddr_storage *)(const void *)&event->id->route.addr.dst_storage;
	struct verbs_link *link;
	int rc = far_verbs_link_open(tp, &link);

	if (rc < 0)
		return rc;
	far_host_format(peer, link->link.peer);
	link->state = VERBS_ACCEPTED;
	rc = far_verbs_device_get(tp, event->id->verbs, &link->device);
	if (rc == 0) {
		const struct ibv_device_attr *attr = &link->device->attr;

		/* What both can: the peer's limits are in the event, as ours. */
		link->reads_served = lower(event->responder_resources, attr->max_qp_rd_atom);
		link->reads_max = lower(event->initiator_depth, attr->max_qp_init_rd_atom);
		peer_take(link, hello);
		link->cm_id = event->id;
		rc = reads_check(link);
		if (rc == 0)
			rc = far_verbs_qp_open(link);
	}
	if (rc < 0) {
		link->cm_id = NULL; /* the caller's still */
		far_verbs_link_free(link);
		return rc;
	}
	*out = link;
	return 0;
}

static void
request_log(int rc, uint8_t version)
{
	if (rc == -ECONNRESET) /* who asked has given up meanwhile */
		far_log_debug("link refused: %s (%d)", far_err_text(rc), rc);
	else if (version != 0 && version != VERBS_HELLO_VERSION)
		far_log_warn("link refused: the peer speaks version %u, we %u", version,
			     VERBS_HELLO_VERSION);
	else
		far_log_warn("link refused: %s (%d)", far_err_text(rc), rc);
}

static void
request_take(struct verbs_transport *tp, const struct cm_event *event)
{
	struct verbs_listener *listener =
		FAR_CONTAINER_OF(event->listen_id->context, struct verbs_listener, watch);
	struct verbs_link *link = NULL;
	struct verbs_hello hello;
	uint8_t version;
	int rc = far_verbs_hello_parse(event->private_data, event->private_bytes, &hello, &version);

	if (rc == 0)
		rc = request_prepare(tp, event, &hello, &link);
	if (rc < 0) {
		request_log(rc, version);
		request_refuse(tp, event->id);
		(void)far_verbs_lib->rdma_destroy_id(event->id);
		return;
	}
	FAR_ASSERT(link != NULL);
	link->cm_id->context = &link->watch;
	link->deadline_ns = far_time_after(tp->now_ns, VERBS_HELLO_TIMEOUT_NS);
	link->link.up = true;
	link->link.handler =
		listener->accept(listener->arg, &link->link, hello.hello, hello.hello_bytes);
	if (link->link.handler == NULL) {
		request_refuse(tp, link->cm_id);
		link->link.up = false;
		far_verbs_link_fail(link, -ECONNREFUSED);
		return;
	}
	if (far_verbs_link_is_dead(link))
		return; /* its handler has let go of it */
	rc = request_answer(link);
	if (rc < 0)
		far_verbs_link_fail(link, rc);
}

/* ---- connecting ---- */

static int
address_ask(struct verbs_link *link, struct sockaddr_storage *addr)
{
	struct verbs_transport *tp = VERBS_TP(link->link.tp);
	int timeout_ms = (int)(VERBS_RESOLVE_NS / FAR_NS_PER_MS);

	link->state = VERBS_ADDRESS;
	if (far_verbs_lib->rdma_create_id(tp->cm, &link->cm_id, &link->watch, RDMA_PS_TCP) != 0)
		return far_verbs_call_rc(errno);
	if (far_verbs_lib->rdma_resolve_addr(link->cm_id, NULL, (struct sockaddr *)addr,
					     timeout_ms) != 0)
		return -ECONNREFUSED; /* no way from here to there, now */
	return 0;
}

int
far_verbs_connect(struct far_transport *ftp, const char *address, const void *hello,
		  size_t hello_bytes, uint64_t deadline_ns, struct far_link_handler *handler,
		  struct far_link **out)
{
	struct verbs_transport *tp = VERBS_TP(ftp);
	struct sockaddr_storage addr = {0};
	struct verbs_link *link;
	socklen_t addr_bytes;
	int rc;

	if (far_verbs_is_child(tp))
		return -EPERM;
	rc = far_verbs_link_open(tp, &link);
	if (rc < 0)
		return rc;
	link->deadline_ns = deadline_ns;
	link->hello_bytes = (uint32_t)hello_bytes;
	if (hello_bytes != 0)
		memcpy(link->hello, hello, hello_bytes);
	(void)snprintf(link->link.peer, sizeof(link->link.peer), "%s", address);
	rc = far_host_parse(address, &addr, &addr_bytes);
	if (rc == 0)
		rc = address_ask(link, &addr);
	else if (rc == -EAGAIN)
		rc = far_resolve_open(&tp->resolving, address, &link->resolve);
	if (rc < 0) {
		far_verbs_link_free(link);
		return rc;
	}
	link->link.handler = handler;
	*out = &link->link;
	return 0;
}

void
far_verbs_resolve_check(struct verbs_link *link)
{
	struct sockaddr_storage addr = {0};
	socklen_t addr_bytes;
	int rc = far_resolve_get(link->resolve, &addr, &addr_bytes);

	if (rc == -EAGAIN)
		return;
	far_resolve_drop(link->resolve);
	link->resolve = NULL;
	if (rc == 0)
		rc = address_ask(link, &addr);
	else
		far_log_warn("link to %s refused: no such host", link->link.peer);
	/* To whoever wants to connect it is all the same, and it is tried again. */
	if (rc < 0)
		far_verbs_link_fail(link, -ECONNREFUSED);
}

static int
address_take(struct verbs_link *link)
{
	int rc = far_verbs_device_get(VERBS_TP(link->link.tp), link->cm_id->verbs, &link->device);

	if (rc < 0)
		return rc == -ENODEV ? -ECONNREFUSED : -ECONNRESET;
	link->reads_served = lower(UINT8_MAX, link->device->attr.max_qp_rd_atom);
	link->reads_max = lower(UINT8_MAX, link->device->attr.max_qp_init_rd_atom);
	link->state = VERBS_ROUTE;
	return far_verbs_lib->rdma_resolve_route(link->cm_id,
						 (int)(VERBS_RESOLVE_NS / FAR_NS_PER_MS)) == 0
		       ? 0
		       : -ECONNREFUSED;
}

static int
route_take(struct verbs_link *link)
{
	struct rdma_conn_param param;
	struct verbs_hello hello;
	int rc = far_verbs_qp_open(link);

	if (rc < 0)
		return -ECONNRESET;
	hello_fill(link, &hello);
	param_fill(link, &hello, &param);
	link->state = VERBS_ASKING;
	if (far_verbs_lib->rdma_connect(link->cm_id, &param) != 0)
		return -ECONNRESET;
	return 0;
}

static int
response_take(struct verbs_link *link, const struct cm_event *event)
{
	struct verbs_hello hello;
	uint8_t version;
	int rc = far_verbs_hello_parse(event->private_data, event->private_bytes, &hello, &version);

	link->asked = true;
	if (rc < 0) {
		far_log_warn("link to %s dropped: %s (%d)", link->link.peer, far_err_text(rc), rc);
		return rc;
	}
	link->reads_served = lower(event->responder_resources, link->reads_served);
	link->reads_max = lower(event->initiator_depth, link->reads_max);
	peer_take(link, &hello);
	rc = reads_check(link);
	if (rc == 0)
		rc = far_verbs_qp_start(link);
	if (rc < 0)
		return rc;
	if (far_verbs_lib->rdma_establish(link->cm_id) != 0)
		return -ECONNRESET;
	link->state = VERBS_UP;
	link->deadline_ns = FAR_TIME_NEVER;
	link->moved_ns = VERBS_TP(link->link.tp)->now_ns;
	link->ready = true;
	link->connected_pending = true;
	far_verbs_link_wake(link);
	return 0;
}

/* ---- events ---- */

/* One of another version says so with its refusal. */
static void
reject_log(const struct verbs_link *link, const struct cm_event *event)
{
	struct verbs_hello hello;
	uint8_t version;

	(void)far_verbs_hello_parse(event->private_data, event->private_bytes, &hello, &version);
	if (version != 0 && version != VERBS_HELLO_VERSION)
		far_log_warn("link to %s refused: it speaks version %u, we %u", link->link.peer,
			     version, VERBS_HELLO_VERSION);
}

/* Returns 0, or why the link ends. */
static int
link_take(struct verbs_link *link, const struct cm_event *event)
{
	switch (event->kind) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		return link->state == VERBS_ADDRESS ? address_take(link) : -EPROTO;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		return link->state == VERBS_ROUTE ? route_take(link) : -EPROTO;
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
		return link->state == VERBS_ASKING ? response_take(link, event) : -EPROTO;
	case RDMA_CM_EVENT_ESTABLISHED:
		far_verbs_established(link);
		return 0;
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
		far_log_debug("link to %s: %s (%d)", link->link.peer,
			      far_verbs_lib->rdma_event_str(event->kind), event->status);
		return -ECONNREFUSED;
	case RDMA_CM_EVENT_REJECTED:
		reject_log(link, event);
		/* Nobody listens, or whoever does has said no. */
		return link->state == VERBS_ASKING && event->status != REJECTED_STALE
			       ? -ECONNREFUSED
			       : -ECONNRESET;
	case RDMA_CM_EVENT_UNREACHABLE:
		return link->state == VERBS_ASKING ? -ECONNREFUSED : -ECONNRESET;
	case RDMA_CM_EVENT_DISCONNECTED:
		link->hung_up = true;
		link->hung_up_mark = link->device == NULL ? 0 : link->device->empty_seen;
		far_verbs_link_wake(link);
		return 0;
	case RDMA_CM_EVENT_CONNECT_ERROR:
		return -ECONNRESET;
	default: /* ADDR_CHANGE, TIMEWAIT_EXIT, MULTICAST: nothing of ours ends with them */
		return 0;
	}
}

/* It waits for us to let go of it. */
static void
device_removed(struct verbs_transport *tp, const struct rdma_cm_id *id)
{
	for (uint32_t i = 0; i < tp->device_count; i++) {
		struct verbs_device *device = tp->devices[i];

		if (device == NULL || id->verbs == NULL || device->handle != id->verbs->device)
			continue;
		if (!device->dead)
			far_log_warn("verbs: device %s is taken away: its links are lost",
				     far_verbs_lib->ibv_get_device_name(device->handle));
		far_verbs_device_fail(device);
	}
}

static void
event_handle(struct verbs_transport *tp, const struct cm_event *event)
{
	const struct verbs_watch *watch = event->id->context;
	struct verbs_link *link;
	int rc;

	if (event->kind == RDMA_CM_EVENT_CONNECT_REQUEST) {
		request_take(tp, event);
		return;
	}
	if (watch == NULL)
		return;
	if (event->kind == RDMA_CM_EVENT_DEVICE_REMOVAL)
		device_removed(tp, event->id);
	if (watch->kind == VERBS_WATCH_LISTENER) {
		if (event->kind == RDMA_CM_EVENT_DEVICE_REMOVAL)
			far_log_error("verbs: the device under a listener is gone: start again "
				      "when it is back");
		return;
	}
	link = FAR_CONTAINER_OF(watch, struct verbs_link, watch);
	if (far_verbs_link_is_dead(link)) {
		far_verbs_link_wake(link);
		return;
	}
	rc = link_take(link, event);
	if (rc < 0)
		far_verbs_link_fail(link, rc);
}

int
far_verbs_cm_take(struct verbs_transport *tp)
{
	int taken = 0;

	for (; taken < EVENTS_MAX; taken++) {
		struct rdma_cm_event *event;
		struct cm_event kept;

		if (far_verbs_lib->rdma_get_cm_event(tp->cm, &event) != 0)
			break;
		kept = (struct cm_event){
			.id = event->id,
			.listen_id = event->listen_id,
			.kind = event->event,
			.status = event->status,
			.responder_resources = event->param.conn.responder_resources,
			.initiator_depth = event->param.conn.initiator_depth,
		};
		if (event->param.conn.private_data != NULL) {
			kept.private_bytes = event->param.conn.private_data_len;
			memcpy(kept.private_data, event->param.conn.private_data,
			       kept.private_bytes);
		}
		/* An id cannot be destroyed while one of its events is not given back. */
		(void)far_verbs_lib->rdma_ack_cm_event(event);
		event_handle(tp, &kept);
	}
	return taken;
}
