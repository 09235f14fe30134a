/* device.c - RDMA devices: found by address, opened once, looked after; what they say by themselves. */
#include "transport/verbs/verbs_priv.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"

#define CQ_SIZE_FIRST    1024U
#define ASYNC_EVENTS_MAX 64
#define READS_MAX        255U /* RDMA CM has a byte for it */

/* ---- what there is ---- */

static uint32_t
reads_of(const struct ibv_device_attr *attr)
{
	uint32_t reads = attr->max_qp_init_rd_atom < 0 ? 0 : (uint32_t)attr->max_qp_init_rd_atom;

	return reads < READS_MAX ? reads : READS_MAX;
}

int
far_verbs_devices_look(struct verbs_transport *tp)
{
	struct ibv_context **contexts;
	int count = 0, usable = 0;

	tp->slice_bytes = far_verbs_tune.slice_bytes;
	contexts = far_verbs_lib->rdma_get_devices(&count);
	for (int i = 0; contexts != NULL && i < count; i++) {
		struct ibv_device_attr attr;
		uint32_t reads;

		if (far_verbs_lib->ibv_query_device(contexts[i], &attr) != 0)
			continue;
		usable++;
		reads = reads_of(&attr);
		if (tp->tp.caps.reads_max == 0 || reads < tp->tp.caps.reads_max)
			tp->tp.caps.reads_max = reads;
		if (attr.max_mr_size / VERBS_SLICE_ALIGN != 0 && attr.max_mr_size < tp->slice_bytes)
			tp->slice_bytes = attr.max_mr_size / VERBS_SLICE_ALIGN * VERBS_SLICE_ALIGN;
	}
	if (contexts != NULL)
		far_verbs_lib->rdma_free_devices(contexts);
	if (usable > 0)
		return 0;
	far_log_error("verbs: this host has no RDMA device that can be used: rdma link shows them");
	return -ENODEV;
}

/* ---- open and close ---- */

static int
fd_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 ? 0 : -EMFILE;
}

/* Descriptors of a device that is gone are readable for ever. */
static void
device_unwatch(struct verbs_device *device)
{
	if (device->channel != NULL)
		far_verbs_watch_remove(device->tp, device->channel->fd);
	if (device->context != NULL)
		far_verbs_watch_remove(device->tp, device->context->async_fd);
}

static int
completions_open(struct verbs_device *device)
{
	const struct verbs_lib *lib = far_verbs_lib;
	uint32_t size = CQ_SIZE_FIRST;
	int rc;

	if (device->attr.max_cqe > 0 && size > (uint32_t)device->attr.max_cqe)
		size = (uint32_t)device->attr.max_cqe;
	device->channel = lib->ibv_create_comp_channel(device->context);
	if (device->channel == NULL)
		return far_verbs_call_rc(errno);
	device->cq = lib->ibv_create_cq(device->context, (int)size, device, device->channel, 0);
	if (device->cq == NULL)
		return far_verbs_call_rc(errno);
	device->cq_size = size;
	rc = fd_nonblocking(device->channel->fd);
	if (rc == 0)
		rc = fd_nonblocking(device->context->async_fd);
	if (rc == 0)
		rc = far_verbs_watch_add(device->tp, device->channel->fd,
					 &device->completions_watch);
	if (rc == 0)
		rc = far_verbs_watch_add(device->tp, device->context->async_fd,
					 &device->async_watch);
	return rc;
}

static int
device_open(struct verbs_device *device)
{
	const struct verbs_lib *lib = far_verbs_lib;
	struct ibv_device_attr *attr = &device->attr;

	/* Not RDMA CM's own context: that is the whole process's, and so would be what the device
	 * says by itself. */
	device->context = lib->ibv_open_device(device->handle);
	if (device->context == NULL)
		return far_verbs_call_rc(errno);
	if (lib->ibv_query_device(device->context, attr) != 0)
		return -ENODEV;
	device->sges_max = attr->max_sge > 0 && (uint32_t)attr->max_sge < VERBS_SGES_MAX
				   ? (uint32_t)attr->max_sge
				   : VERBS_SGES_MAX;
	device->read_sges_max = device->sges_max;
	if (attr->max_sge_rd > 0 && (uint32_t)attr->max_sge_rd < device->sges_max)
		device->read_sges_max = (uint32_t)attr->max_sge_rd;
	device->pd = lib->ibv_alloc_pd(device->context);
	if (device->pd == NULL)
		return far_verbs_call_rc(errno);
	return completions_open(device);
}

/* All that it has of the host's. Whatever the device itself could not end is ended by the kernel with the
 * context: nothing that was registered with it is touched after that. */
static void
device_release(struct verbs_device *device)
{
	const struct verbs_lib *lib = far_verbs_lib;

	device_unwatch(device);
	far_verbs_mems_abandon(device);
	if (device->cq != NULL) {
		if (device->unacked > 0)
			lib->ibv_ack_cq_events(device->cq, device->unacked);
		(void)lib->ibv_destroy_cq(device->cq);
	}
	if (device->channel != NULL)
		(void)lib->ibv_destroy_comp_channel(device->channel);
	if (device->pd != NULL)
		(void)lib->ibv_dealloc_pd(device->pd);
	if (device->context != NULL)
		(void)lib->ibv_close_device(device->context);
	device->cq = NULL;
	device->channel = NULL;
	device->pd = NULL;
	device->context = NULL;
	device->wc_at = 0;
	device->wc_count = 0;
}

void
far_verbs_device_close(struct verbs_device *device)
{
	device_release(device);
	if (device->tp->devices[device->idx] == device)
		device->tp->devices[device->idx] = NULL;
	far_free(device);
}

/* A place among them. */
static uint32_t
idx_find(const struct verbs_transport *tp)
{
	uint32_t idx = 0;

	while (idx < tp->device_count && tp->devices[idx] != NULL)
		idx++;
	return idx;
}

int
far_verbs_device_get(struct verbs_transport *tp, struct ibv_context *context,
		     struct verbs_device **out)
{
	struct verbs_device *device;
	int rc;

	if (context == NULL)
		return -ENODEV;
	for (uint32_t i = 0; i < tp->device_count; i++) {
		device = tp->devices[i];
		if (device == NULL || device->handle != context->device)
			continue;
		*out = device;
		return device->dead ? -ENODEV : 0;
	}
	if (idx_find(tp) == VERBS_DEVICES_MAX)
		return -ENODEV;
	device = far_zalloc(sizeof(*device));
	if (device == NULL)
		return -ENOMEM;
	device->tp = tp;
	device->completions_watch.kind = VERBS_WATCH_COMPLETIONS;
	device->async_watch.kind = VERBS_WATCH_ASYNC;
	device->handle = context->device;
	device->idx = idx_find(tp);
	rc = device_open(device);
	if (rc == 0)
		rc = far_verbs_mems_adopt(device);
	if (rc < 0) {
		far_log_error("verbs: device %s cannot be used: %s (%d)",
			      far_verbs_lib->ibv_get_device_name(device->handle), far_err_text(rc),
			      rc);
		far_verbs_device_close(device);
		return rc;
	}
	tp->devices[device->idx] = device;
	if (device->idx == tp->device_count)
		tp->device_count++;
	*out = device;
	return 0;
}

/* ---- those that the configuration needs ---- */

/* The address of ours that packets to @peer would come from. Returns 0, -ENODEV. */
static int
source_find(const struct sockaddr_storage *peer, socklen_t peer_bytes, struct sockaddr_storage *out)
{
	socklen_t out_bytes = sizeof(*out);
	int fd = socket(peer->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = -ENODEV;

	if (fd < 0)
		return rc;
	/* Nothing is sent by that: it is a question about routes. */
	if (connect(fd, (const struct sockaddr *)peer, peer_bytes) == 0 &&
	    getsockname(fd, (struct sockaddr *)out, &out_bytes) == 0)
		rc = 0;
	(void)close(fd);
	return rc;
}

static void
port_clear(struct sockaddr_storage *addr)
{
	if (addr->ss_family == AF_INET)
		((struct sockaddr_in *)(void *)addr)->sin_port = 0;
	else
		((struct sockaddr_in6 *)(void *)addr)->sin6_port = 0;
}

int
far_verbs_devices_all(struct verbs_transport *tp)
{
	struct verbs_device *device;
	struct ibv_context **contexts;
	int count = 0, rc = -ENODEV;

	contexts = far_verbs_lib->rdma_get_devices(&count);
	for (int i = 0; contexts != NULL && i < count; i++)
		if (far_verbs_device_get(tp, contexts[i], &device) == 0)
			rc = 0;
	if (contexts != NULL)
		far_verbs_lib->rdma_free_devices(contexts);
	return rc;
}

/* The device of an address of ours. */
static int
address_open(struct verbs_transport *tp, struct sockaddr_storage *addr)
{
	struct verbs_device *device;
	struct rdma_cm_id *id = NULL;
	int rc;

	port_clear(addr);
	if (far_verbs_lib->rdma_create_id(tp->cm, &id, NULL, RDMA_PS_TCP) != 0)
		return far_verbs_call_rc(errno);
	rc = far_verbs_lib->rdma_bind_addr(id, (struct sockaddr *)addr) == 0 ? 0 : -ENODEV;
	if (rc == 0 && id->verbs != NULL)
		rc = far_verbs_device_get(tp, id->verbs, &device);
	else if (rc == 0)
		rc = far_verbs_devices_all(tp); /* an address that stands for all */
	(void)far_verbs_lib->rdma_destroy_id(id);
	return rc;
}

int
far_verbs_devices_open(struct verbs_transport *tp, const struct far_transport_config *config)
{
	struct sockaddr_storage addr = {0}, peer = {0};
	socklen_t addr_bytes;

	/* What cannot be told now, a name for example, is found when it is used: then memory is
	 * registered late, no more. */
	for (size_t i = 0; i < config->listen_count; i++) {
		int rc;

		if (far_host_parse(config->listens[i], &addr, &addr_bytes) < 0)
			continue;
		rc = address_open(tp, &addr);
		if (rc < 0) {
			far_log_error("verbs: no RDMA device has the address of %s: rdma link and "
				      "ip address show what there is",
				      config->listens[i]);
			return rc;
		}
	}
	for (size_t i = 0; i < config->peer_count; i++)
		if (far_host_parse(config->peers[i], &peer, &addr_bytes) == 0 &&
		    source_find(&peer, addr_bytes, &addr) == 0)
			(void)address_open(tp, &addr);
	return 0;
}

/* ---- places for completions ---- */

int
far_verbs_device_reserve(struct verbs_device *device, uint32_t count)
{
	uint32_t needed = device->cq_needed + count;
	uint32_t size = device->cq_size;

	if (needed > size) {
		while (size < needed)
			size *= 2;
		if (device->attr.max_cqe > 0 && size > (uint32_t)device->attr.max_cqe)
			size = (uint32_t)device->attr.max_cqe;
		if (size < needed || far_verbs_lib->ibv_resize_cq(device->cq, (int)size) != 0) {
			far_log_warn("verbs: device %s takes no more links: its completion queue "
				     "has %u places",
				     far_verbs_lib->ibv_get_device_name(device->handle),
				     device->cq_size);
			return -ENOMEM;
		}
		device->cq_size = size;
	}
	device->cq_needed = needed;
	return 0;
}

void
far_verbs_device_release(struct verbs_device *device, uint32_t count)
{
	device->cq_released += count;
}

/* ---- what is shown ---- */

static int
numa_node(const char *name)
{
	char path[256];
	char line[16] = "";
	FILE *file;
	int node;

	(void)snprintf(path, sizeof(path), "/sys/class/infiniband/%s/device/numa_node", name);
	file = fopen(path, "re");
	if (file == NULL)
		return -1;
	node = fgets(line, sizeof(line), file) == NULL ? -1 : (int)strtol(line, NULL, 10);
	(void)fclose(file);
	return node;
}

static const char *
gid_kind(const struct verbs_device *device, uint8_t port, uint8_t gid_idx)
{
	struct ibv_gid_entry entry = {0};

	if (far_verbs_lib->_ibv_query_gid_ex(device->context, port, gid_idx, &entry, 0,
					     sizeof(entry)) != 0)
		return "unknown";
	switch (entry.gid_type) {
	case IBV_GID_TYPE_IB:
		return "InfiniBand";
	case IBV_GID_TYPE_ROCE_V1:
		return "RoCE v1";
	default:
		return "RoCE v2";
	}
}

void
far_verbs_device_show(struct verbs_device *device, uint8_t port, uint8_t gid_idx, enum ibv_mtu mtu,
		      uint32_t reads)
{
	const char *name = far_verbs_lib->ibv_get_device_name(device->handle);

	if (device->shown)
		return;
	device->shown = true;
	far_log_info("verbs: device %s port %u, gid %u (%s), mtu %u, %u reads in flight per link, "
		     "numa node %d",
		     name, port, gid_idx, gid_kind(device, port, gid_idx), 128U << (unsigned)mtu,
		     reads, numa_node(name));
}

/* ---- what devices say by themselves ---- */

void
far_verbs_device_fail(struct verbs_device *device)
{
	struct verbs_transport *tp = device->tp;

	if (!device->dead)
		device_unwatch(device);
	device->dead = true;
	tp->devices_dead = true;
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct verbs_link *link = FAR_CONTAINER_OF(it, struct verbs_link, all_node);

		if (link->device == device)
			far_verbs_link_fail(link, -ECONNRESET);
	}
}

void
far_verbs_device_kill(struct verbs_device *device)
{
	struct verbs_transport *tp = device->tp;

	far_verbs_device_fail(device);
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct verbs_link *link = FAR_CONTAINER_OF(it, struct verbs_link, all_node);

		if (link->device == device)
			far_verbs_qp_release(link);
	}
	device_release(device);
}

/* Whether a link may still be told something by it. */
static bool
device_is_used(const struct verbs_device *device)
{
	struct verbs_transport *tp = device->tp;

	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next)
		if (FAR_CONTAINER_OF(it, struct verbs_link, all_node)->device == device)
			return true;
	return false;
}

void
far_verbs_devices_reap(struct verbs_transport *tp)
{
	tp->devices_dead = false;
	for (uint32_t i = 0; i < tp->device_count; i++) {
		struct verbs_device *device = tp->devices[i];

		if (device == NULL || !device->dead)
			continue;
		if (device_is_used(device))
			tp->devices_dead = true;
		else
			far_verbs_device_close(device);
	}
}

static void
async_take(struct verbs_device *device, const struct ibv_async_event *event)
{
	const char *name = far_verbs_lib->ibv_get_device_name(device->handle);
	struct verbs_link *link = NULL;

	switch (event->event_type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_PATH_MIG:
	case IBV_EVENT_PATH_MIG_ERR:
	case IBV_EVENT_COMM_EST:
		link = far_verbs_link_find(device->tp,
					   (uint64_t)(uintptr_t)event->element.qp->qp_context);
		if (link == NULL)
			return;
		if (event->event_type == IBV_EVENT_COMM_EST) {
			/* The peer's last word on the connection was lost, and it uses it. */
			if (link->cm_id != NULL)
				(void)far_verbs_lib->rdma_notify(link->cm_id, event->event_type);
			far_verbs_established(link);
		} else if (event->event_type != IBV_EVENT_PATH_MIG) {
			far_verbs_link_fail(link, -ECONNRESET);
		}
		return;
	case IBV_EVENT_CQ_ERR:
	case IBV_EVENT_DEVICE_FATAL:
		far_log_error("verbs: device %s failed: its links are lost", name);
		far_verbs_device_fail(device);
		return;
	case IBV_EVENT_PORT_ERR:
		/* Links know by themselves, in as long as a cable may be out without costing one. */
		far_log_warn("verbs: device %s port %d is down", name, event->element.port_num);
		return;
	case IBV_EVENT_PORT_ACTIVE:
		far_log_info("verbs: device %s port %d is up", name, event->element.port_num);
		return;
	default:
		far_log_debug("verbs: device %s: event %d", name, (int)event->event_type);
		return;
	}
}

int
far_verbs_async_take(struct verbs_device *device)
{
	int taken = 0;

	for (; device->context != NULL && taken < ASYNC_EVENTS_MAX; taken++) {
		struct ibv_async_event event;

		if (far_verbs_lib->ibv_get_async_event(device->context, &event) != 0)
			break;
		async_take(device, &event);
		/* Its queue cannot be destroyed before that. */
		far_verbs_lib->ibv_ack_async_event(&event);
	}
	return taken;
}
