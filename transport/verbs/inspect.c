/* inspect.c - what the libraries say of devices and ports, and which of them RDMA CM would take. */
#include "transport/verbs/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/pages.h"
#include "transport/verbs/verbs_priv.h"

#define GID_ENTRIES_MAX 256U /* of a port's table that are looked through */

/* ---- devices ---- */

static uint32_t
whole(int number)
{
	return number > 0 ? (uint32_t)number : 0;
}

/* A device's errno, and the lists that farpool's own errors come from. */
static int
errno_rc(int error)
{
	if (error <= 0)
		return -EIO;
	return far_err_listed(-error) ? -error : far_verbs_call_rc(error);
}

static void
port_look(struct ibv_context *context, uint32_t number, struct far_verbs_port_seen *out)
{
	struct ibv_port_attr attr;
	int error;

	memset(&attr, 0, sizeof(attr));
	*out = (struct far_verbs_port_seen){.number = number};
	error = (far_verbs_lib->ibv_query_port)(context, (uint8_t)number, (void *)&attr);
	if (error != 0) {
		out->rc = errno_rc(error);
		return;
	}
	out->mtu_bytes = attr.active_mtu == 0 ? 0 : 128U << (unsigned)attr.active_mtu;
	out->mtu_bytes_max = attr.max_mtu == 0 ? 0 : 128U << (unsigned)attr.max_mtu;
	out->message_bytes_max = attr.max_msg_sz;
}

/* Memory of the kind that is lent, with a right that a segment's key has. */
static int
register_try(struct ibv_context *context)
{
	struct far_pages pages;
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	int rc = far_pages_map_shared("farpool-doctor", FAR_VERBS_INSPECT_BYTES, FAR_PAGES_HUGE_OFF,
				      -1, &pages);

	if (rc < 0)
		return rc;
	pd = far_verbs_lib->ibv_alloc_pd(context);
	if (pd == NULL) {
		rc = errno_rc(errno);
		far_pages_unmap(&pages);
		return rc;
	}
	mr = far_verbs_lib->ibv_reg_mr_iova2(pd, pages.base, pages.size_bytes,
					     (uintptr_t)pages.base,
					     IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
	if (mr == NULL)
		rc = errno_rc(errno);
	else
		(void)far_verbs_lib->ibv_dereg_mr(mr);
	(void)far_verbs_lib->ibv_dealloc_pd(pd);
	far_pages_unmap(&pages);
	return rc;
}

static void
device_look(struct ibv_device *handle, struct far_verbs_device_seen *out)
{
	const struct verbs_lib *lib = far_verbs_lib;
	struct ibv_context *context;
	struct ibv_device_attr attr;

	(void)snprintf(out->name, sizeof(out->name), "%s", lib->ibv_get_device_name(handle));
	errno = 0;
	context = lib->ibv_open_device(handle);
	if (context == NULL) {
		out->rc = errno_rc(errno);
		return;
	}
	memset(&attr, 0, sizeof(attr));
	if (lib->ibv_query_device(context, &attr) != 0) {
		out->rc = -ENODEV;
		(void)lib->ibv_close_device(context);
		return;
	}
	(void)snprintf(out->firmware, sizeof(out->firmware), "%.63s", attr.fw_ver);
	out->reads_asked_max = whole(attr.max_qp_init_rd_atom);
	out->reads_served_max = whole(attr.max_qp_rd_atom);
	out->region_bytes_max = attr.max_mr_size;
	out->sges_max = whole(attr.max_sge);
	out->completions_max = whole(attr.max_cqe);
	out->links_max = whole(attr.max_qp);
	out->register_rc = register_try(context);
	for (uint32_t i = 1; i <= attr.phys_port_cnt && i <= FAR_VERBS_INSPECT_PORTS; i++)
		port_look(context, i, &out->ports[out->port_count++]);
	(void)lib->ibv_close_device(context);
}

void
far_verbs_inspect(struct far_verbs_inspection *out)
{
	struct ibv_device **list;
	int count = 0;

	memset(out, 0, sizeof(*out));
	out->rc = far_verbs_lib_load_quietly(out->error, sizeof(out->error));
	if (out->rc < 0)
		return;
	list = (far_verbs_lib->ibv_get_device_list)(&count);
	for (int i = 0; list != NULL && i < count && out->device_count < FAR_VERBS_INSPECT_DEVICES;
	     i++)
		device_look(list[i], &out->devices[out->device_count++]);
	if (list != NULL)
		(far_verbs_lib->ibv_free_device_list)(list);
}

/* ---- the way to a peer ---- */

struct asking {
	struct rdma_event_channel *channel;
	struct rdma_cm_id *id;
	uint64_t wait_ns;
};

/* Waits for what RDMA CM answers. Returns 0: @wanted came; or what it is that came instead. */
static int
answer_wait(const struct asking *asking, enum rdma_cm_event_type wanted)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + asking->wait_ns;
	struct rdma_cm_event *event;
	enum rdma_cm_event_type kind;

	for (;;) {
		uint64_t now_ns = far_clock_now(far_clock_real());
		struct pollfd fd = {.fd = asking->channel->fd, .events = POLLIN};
		int left_ms = now_ns < deadline_ns
				      ? (int)((deadline_ns - now_ns) / FAR_NS_PER_MS) + 1
				      : 0;
		int ready = poll(&fd, 1, left_ms);

		if (ready > 0)
			break;
		if (ready == 0 && left_ms == 0)
			return -ETIMEDOUT;
		if (ready < 0 && errno != EINTR)
			return far_verbs_call_rc(errno);
	}
	if (far_verbs_lib->rdma_get_cm_event(asking->channel, &event) != 0)
		return far_verbs_call_rc(errno);
	kind = event->event;
	(void)far_verbs_lib->rdma_ack_cm_event(event);
	if (kind == wanted)
		return 0;
	return kind == RDMA_CM_EVENT_ADDR_ERROR || kind == RDMA_CM_EVENT_ROUTE_ERROR ? -EHOSTDOWN
										     : -ENODEV;
}

static void
gid_take(struct rdma_cm_id *id, struct far_verbs_route *out)
{
	const union ibv_gid *gid = &id->route.addr.addr.ibaddr.sgid;

	out->gid_idx = -1;
	for (uint32_t i = 0; i < GID_ENTRIES_MAX; i++) {
		struct ibv_gid_entry entry = {0};
		const char *type = "InfiniBand";

		if (far_verbs_lib->_ibv_query_gid_ex(id->verbs, id->port_num, i, &entry, 0,
						     sizeof(entry)) != 0 ||
		    memcmp(&entry.gid, gid, sizeof(*gid)) != 0)
			continue;
		if (entry.gid_type == IBV_GID_TYPE_ROCE_V1)
			type = "RoCE v1";
		else if (entry.gid_type != IBV_GID_TYPE_IB)
			type = "RoCE v2";
		(void)snprintf(out->gid_type, sizeof(out->gid_type), "%s", type);
		out->gid_idx = (int32_t)i;
		/* The same address stands there for v1 as well: v2 is what is taken by default. */
		if (entry.gid_type != IBV_GID_TYPE_ROCE_V1)
			return;
	}
}

static void
device_take(struct rdma_cm_id *id, struct far_verbs_route *out)
{
	struct sockaddr_storage source;
	struct ibv_port_attr attr;

	(void)snprintf(out->device, sizeof(out->device), "%s",
		       far_verbs_lib->ibv_get_device_name(id->verbs->device));
	out->port = id->port_num;
	memcpy(&source, &id->route.addr.src_storage, sizeof(source));
	far_host_format(&source, out->source);
	gid_take(id, out);
	memset(&attr, 0, sizeof(attr));
	if ((far_verbs_lib->ibv_query_port)(id->verbs, id->port_num, (void *)&attr) == 0 &&
	    attr.active_mtu != 0)
		out->mtu_bytes = 128U << (unsigned)attr.active_mtu;
}

static int
route_ask(struct asking *asking, struct sockaddr_storage *addr, struct far_verbs_route *out)
{
	int wait_ms = (int)(asking->wait_ns / FAR_NS_PER_MS) + 1;
	int rc;

	(void)snprintf(out->step, sizeof(out->step), "address");
	if (far_verbs_lib->rdma_create_id(asking->channel, &asking->id, NULL, RDMA_PS_TCP) != 0)
		return far_verbs_call_rc(errno);
	if (far_verbs_lib->rdma_resolve_addr(asking->id, NULL, (struct sockaddr *)addr, wait_ms) !=
	    0)
		return errno == ENODEV ? -ENODEV : -EHOSTDOWN;
	rc = answer_wait(asking, RDMA_CM_EVENT_ADDR_RESOLVED);
	if (rc < 0)
		return rc;
	if (asking->id->verbs == NULL)
		return -ENODEV; /* an interface without a device, lo for one */
	device_take(asking->id, out);
	(void)snprintf(out->step, sizeof(out->step), "route");
	if (far_verbs_lib->rdma_resolve_route(asking->id, wait_ms) != 0)
		return far_verbs_call_rc(errno);
	rc = answer_wait(asking, RDMA_CM_EVENT_ROUTE_RESOLVED);
	if (rc == 0)
		out->step[0] = '\0';
	return rc;
}

int
far_verbs_route_find(const char *address, uint64_t wait_ns, struct far_verbs_route *out)
{
	struct asking asking = {.wait_ns = wait_ns};
	struct sockaddr_storage addr = {0};
	socklen_t addr_bytes;
	char why[64];
	int rc;

	memset(out, 0, sizeof(*out));
	out->gid_idx = -1;
	(void)snprintf(out->step, sizeof(out->step), "address");
	rc = far_verbs_lib_load_quietly(why, sizeof(why));
	if (rc < 0)
		return rc;
	rc = far_host_find(address, &addr, &addr_bytes);
	if (rc < 0)
		return rc;
	asking.channel = far_verbs_lib->rdma_create_event_channel();
	if (asking.channel == NULL)
		return errno == EMFILE || errno == ENOMEM ? -errno : -ENODEV;
	rc = route_ask(&asking, &addr, out);
	if (asking.id != NULL)
		(void)far_verbs_lib->rdma_destroy_id(asking.id);
	far_verbs_lib->rdma_destroy_event_channel(asking.channel);
	return rc;
}
