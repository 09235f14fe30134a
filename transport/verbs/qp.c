/* qp.c - one queue pair per link, made by hand: what each state is given, and how it comes to an end. */
#include "transport/verbs/verbs_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define TIMEOUT_MAX 31U

struct verbs_tune far_verbs_tune = {
	.sq_depth = VERBS_SQ_DEPTH,
	.slice_bytes = VERBS_SLICE_BYTES,
	.wr_bytes = VERBS_WR_BYTES,
	.signal_bytes = VERBS_SIGNAL_BYTES,
	.stuck_ns = VERBS_STUCK_NS,
};

uint8_t
far_verbs_timeout_exponent(uint64_t ns)
{
	uint8_t exponent = 1; /* 0 is for ever */

	while (exponent < TIMEOUT_MAX && VERBS_ACK_UNIT_NS << exponent < ns)
		exponent++;
	return exponent;
}

/* ---- INIT ---- */

static int
buffers_open(struct verbs_link *link)
{
	size_t rx_bytes = (size_t)VERBS_FRAMES * VERBS_FRAME_BYTES;
	size_t ctl_bytes = (size_t)VERBS_CTLS * VERBS_FRAME_BYTES;
	size_t size_bytes = rx_bytes + ctl_bytes + (size_t)VERBS_RING_BYTES;
	int rc = far_pages_map_shared("farpool-verbs", size_bytes, FAR_PAGES_HUGE_OFF, -1,
				      &link->pages);

	if (rc < 0)
		return rc;
	link->rx = link->pages.base;
	link->ctl = link->rx + rx_bytes;
	link->ring = link->ctl + ctl_bytes;
	link->mr = far_verbs_lib->ibv_reg_mr_iova2(link->device->pd, link->rx, size_bytes,
						   (uintptr_t)link->rx, IBV_ACCESS_LOCAL_WRITE);
	return link->mr == NULL ? far_verbs_call_rc(errno) : 0;
}

static int
qp_create(struct verbs_link *link)
{
	const struct ibv_device_attr *device = &link->device->attr;
	struct ibv_qp_init_attr attr = {
		.qp_context = (void *)(uintptr_t)link->id, /* a number: links come and go */
		.send_cq = link->device->cq,
		.recv_cq = link->device->cq,
		.cap = {.max_recv_wr = VERBS_FRAMES,
			.max_send_sge = link->device->sges_max,
			.max_recv_sge = 1,
			.max_inline_data = VERBS_INLINE_BYTES},
		.qp_type = IBV_QPT_RC,
	};

	while (device->max_qp_wr > 0 && link->sq_depth > (uint32_t)device->max_qp_wr)
		link->sq_depth /= 2;
	attr.cap.max_send_wr = link->sq_depth;
	link->qp = far_verbs_lib->ibv_create_qp(link->device->pd, &attr);
	if (link->qp == NULL && errno == EINVAL) {
		/* A device with less room inside its work requests. */
		attr.cap.max_inline_data = 0;
		link->qp = far_verbs_lib->ibv_create_qp(link->device->pd, &attr);
	}
	if (link->qp == NULL)
		return far_verbs_call_rc(errno);
	link->inline_max = attr.cap.max_inline_data;
	return 0;
}

/* What RDMA CM knows for the next state, for us to change. */
static int
attr_get(struct verbs_link *link, enum ibv_qp_state state, struct ibv_qp_attr *attr, int *mask)
{
	*attr = (struct ibv_qp_attr){.qp_state = state};
	*mask = 0;
	return far_verbs_lib->rdma_init_qp_attr(link->cm_id, attr, mask) == 0 ? 0 : -ECONNRESET;
}

static int
qp_move(struct verbs_link *link, struct ibv_qp_attr *attr, int mask)
{
	return far_verbs_lib->ibv_modify_qp(link->qp, attr, mask) == 0 ? 0 : -ECONNRESET;
}

static int
qp_init(struct verbs_link *link)
{
	struct ibv_qp_attr attr;
	int mask, rc;

	rc = attr_get(link, IBV_QPS_INIT, &attr, &mask);
	if (rc < 0)
		return rc;
	/* RDMA CM would let every peer write. Ours may do what they were given something for. */
	attr.qp_access_flags = 0;
	return qp_move(link, &attr, mask | IBV_QP_ACCESS_FLAGS);
}

/* The most that one work request may move: the port's word, and ours. */
static void
port_look(struct verbs_link *link)
{
	struct verbs_device *device = link->device;
	struct ibv_port_attr port = {0};

	if (device->wr_bytes_max != 0)
		return;
	device->wr_bytes_max = far_verbs_tune.wr_bytes;
	if ((far_verbs_lib->ibv_query_port)(device->context, link->cm_id->port_num,
					    (struct _compat_ibv_port_attr *)(void *)&port) == 0 &&
	    port.max_msg_sz != 0 && port.max_msg_sz < device->wr_bytes_max)
		device->wr_bytes_max = port.max_msg_sz;
}

int
far_verbs_qp_open(struct verbs_link *link)
{
	int rc;

	port_look(link);
	rc = qp_create(link);
	if (rc == 0)
		rc = far_verbs_device_reserve(link->device, link->sq_depth + VERBS_FRAMES);
	if (rc < 0)
		return rc;
	link->reserved = link->sq_depth + VERBS_FRAMES;
	rc = buffers_open(link);
	if (rc == 0)
		rc = qp_init(link);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < VERBS_FRAMES; i++)
		link->repost[i] = (uint16_t)i;
	link->repost_count = VERBS_FRAMES;
	rc = far_verbs_reposts(link);
	link->frames_owed = 0; /* these are told in the hello */
	return rc;
}

/* ---- RTR, RTS ---- */

int
far_verbs_qp_start(struct verbs_link *link)
{
	const struct verbs_transport *tp = VERBS_TP(link->link.tp);
	struct ibv_qp_attr attr;
	int mask, rc;

	rc = attr_get(link, IBV_QPS_RTR, &attr, &mask);
	if (rc < 0)
		return rc;
	attr.max_dest_rd_atomic = link->reads_served;
	attr.min_rnr_timer = VERBS_RNR_TIMER;
	attr.qp_access_flags = link->access;
	if (tp->traffic_class != 0)
		attr.ah_attr.grh.traffic_class = tp->traffic_class;
	if (tp->service_level != 0)
		attr.ah_attr.sl = tp->service_level;
	far_verbs_device_show(link->device, link->cm_id->port_num, attr.ah_attr.grh.sgid_index,
			      attr.path_mtu, link->reads_max);
	rc = qp_move(link, &attr,
		     mask | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER | IBV_QP_ACCESS_FLAGS);
	if (rc < 0)
		return rc;
	link->qp_moves = true; /* from here on the peer is served */
	rc = attr_get(link, IBV_QPS_RTS, &attr, &mask);
	if (rc < 0)
		return rc;
	/* Without its bit in the mask a device takes 1 for it. */
	attr.max_rd_atomic = link->reads_max;
	attr.timeout = tp->ack_timeout;
	attr.retry_cnt = tp->retries;
	/* Credits see to it that a receive buffer always waits. */
	attr.rnr_retry = tp->rnr_retries;
	return qp_move(link, &attr,
		       mask | IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			       IBV_QP_RNR_RETRY);
}

int
far_verbs_qp_allow(struct verbs_link *link, uint32_t access)
{
	struct ibv_qp_attr attr = {.qp_access_flags = link->access | access};

	if ((link->access | access) == link->access)
		return 0;
	/* Before that it comes with the state. */
	if (link->qp_moves && qp_move(link, &attr, IBV_QP_ACCESS_FLAGS) < 0)
		return -ENOTCONN;
	link->access |= access;
	return 0;
}

/* ---- the end ---- */

uint32_t
far_verbs_chain_refused(struct verbs_link *link, const struct ibv_send_wr *wrs, uint32_t count,
			const struct ibv_send_wr *bad)
{
	uint32_t refused = 0;

	/* Without a word on where, all may have been taken: what was not is waited for in vain, and
	 * not for long. */
	if (bad >= wrs && bad < wrs + count)
		refused = count - (uint32_t)(bad - wrs);
	link->sq_tail -= refused;
	far_verbs_link_fail(link, -ECONNRESET);
	return refused;
}

/* What is given to a queue pair in error comes back at once, behind all that was given before it. Where
 * it cannot be, VERBS_DRAIN_NS ends the wait. */
static void
end_post(struct verbs_link *link)
{
	uint32_t idx = link->sq_tail % link->sq_depth;
	struct ibv_send_wr *bad = NULL;
	struct ibv_send_wr wr = {
		.wr_id = far_verbs_wr_id(link, idx),
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED,
	};

	if (link->sq_head == link->sq_tail || far_verbs_sq_room(link) == 0 || link->device->dead)
		return;
	link->sq[idx] = (struct verbs_wr){.kind = VERBS_WR_END};
	link->sq_tail++;
	if (far_verbs_lib->ibv_post_send(link->qp, &wr, &bad) != 0)
		link->sq_tail--;
}

void
far_verbs_qp_stop(struct verbs_link *link)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

	/* Some devices refuse it for a queue pair that never went further than INIT. */
	if (link->qp == NULL || !link->qp_moves)
		return;
	link->qp_moves = false;
	if (qp_move(link, &attr, IBV_QP_STATE) == 0)
		end_post(link);
}

bool
far_verbs_qp_release(struct verbs_link *link)
{
	const struct verbs_lib *lib = far_verbs_lib;
	bool gone = link->qp == NULL || lib->ibv_destroy_qp(link->qp) == 0;

	if (link->mr != NULL)
		(void)lib->ibv_dereg_mr(link->mr); /* nobody but the queue pair has its key */
	if (link->reserved > 0)
		far_verbs_device_release(link->device, link->reserved);
	link->qp = NULL;
	link->mr = NULL;
	link->reserved = 0;
	link->device = NULL;
	link->sq_head = link->sq_tail;
	return gone;
}

void
far_verbs_qp_close(struct verbs_link *link)
{
	struct verbs_device *device = link->device;

	/* What was posted names memory that is somebody's again after this. */
	if (!far_verbs_qp_release(link)) {
		far_log_error("verbs: device %s does not end a queue pair: its links are lost",
			      far_verbs_lib->ibv_get_device_name(device->handle));
		far_verbs_device_kill(device);
	}
	if (link->cm_id != NULL)
		(void)far_verbs_lib->rdma_destroy_id(link->cm_id);
	link->cm_id = NULL;
}
