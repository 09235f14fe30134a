/* verbs_seam.c - the table that counts: what goes through it is what the device is given. */
#include "tests/unit/transport/verbs_seam.h"

#include "tests/support/log_capture.h"
#include "tests/support/syscalls.h"

const struct verbs_lib *verbs_seam_real;
struct verbs_seam verbs_seam;

static struct verbs_lib table;
static const struct verbs_tune tune = {VERBS_SQ_DEPTH, VERBS_SLICE_BYTES, VERBS_WR_BYTES,
				       VERBS_SIGNAL_BYTES, VERBS_STUCK_NS};

static void
frame_garble(struct ibv_send_wr *wr)
{
	struct verbs_frame_header *header = (void *)(uintptr_t)wr->sg_list[0].addr;

	switch (verbs_seam.garble) {
	case 1:
		header->kind = 0;
		break;
	case 2:
		header->kind = VERBS_FRAME_KIND_END;
		break;
	case 3:
		header->body_bytes++;
		break;
	case 4:
		header->credits = UINT32_MAX;
		break;
	case 5:
		header->frames = UINT16_MAX;
		break;
	case 6:
		header->total_bytes = 0; /* a part of nothing */
		break;
	case 7:
		header->total_bytes = FAR_MESSAGE_BYTES_MAX + 1;
		break;
	case 8:
		header->kind = VERBS_FRAME_KEYS; /* not a record */
		header->total_bytes = 0;
		break;
	case 9:
		wr->sg_list[0].length = 7;
		break;
	default:
		break;
	}
	verbs_seam.garble = 0;
}

static int
count_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_out)
{
	uint64_t syscalls;
	int rc;

	verbs_seam.doorbells++;
	for (struct ibv_send_wr *it = wr; it != NULL; it = it->next) {
		verbs_seam.wrs++;
		verbs_seam.fenced += (it->send_flags & IBV_SEND_FENCE) != 0;
		if (it->opcode == IBV_WR_SEND && verbs_seam.garble != 0)
			frame_garble(it);
		if (it->opcode == IBV_WR_RDMA_READ && verbs_seam.read_as_write) {
			it->opcode = IBV_WR_RDMA_WRITE;
			verbs_seam.read_as_write = false;
		}
		if (it->opcode == IBV_WR_RDMA_WRITE) {
			it->wr.rdma.remote_addr += (uint64_t)verbs_seam.write_shift;
			verbs_seam.write_shift = 0;
		}
	}
	if (verbs_seam.swallow) {
		verbs_seam.swallow = false;
		return 0;
	}
	syscalls = syscalls_count();
	rc = verbs_seam_real->ibv_post_send(qp, wr, bad_out);
	verbs_seam.syscalls += syscalls_count() - syscalls;
	return rc;
}

static int
count_poll_cq(struct ibv_cq *cq, int count, struct ibv_wc *wcs)
{
	uint64_t syscalls = syscalls_count();
	int got = cq == verbs_seam.broken ? -1 : verbs_seam_real->ibv_poll_cq(cq, count, wcs);

	verbs_seam.syscalls += syscalls_count() - syscalls;
	for (int i = 0; i < got; i++)
		verbs_seam.completions += (wcs[i].wr_id & VERBS_ID_RECV) == 0;
	return got;
}

static int
count_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
	if (attr->qp_state == IBV_QPS_RTR && (mask & IBV_QP_STATE) && verbs_seam.pairs < 2) {
		assert_true(mask & IBV_QP_MAX_DEST_RD_ATOMIC);
		verbs_seam.reads_served[verbs_seam.pairs] = attr->max_dest_rd_atomic;
		assert_true(mask & IBV_QP_AV);
		verbs_seam.rtr = *attr;
	}
	if (attr->qp_state == IBV_QPS_RTS && (mask & IBV_QP_STATE) && verbs_seam.pairs < 2) {
		assert_true(mask & IBV_QP_MAX_QP_RD_ATOMIC);
		assert_true(mask & IBV_QP_TIMEOUT);
		assert_in_range(attr->timeout, 1, 31);
		assert_in_range(attr->retry_cnt, 1, 6);
		assert_in_range(attr->rnr_retry, 1, 6);
		assert_true((mask & IBV_QP_RETRY_CNT) && (mask & IBV_QP_RNR_RETRY));
		verbs_seam.reads_max[verbs_seam.pairs++] = attr->max_rd_atomic;
		verbs_seam.rts = *attr;
	}
	return verbs_seam_real->ibv_modify_qp(qp, attr, mask);
}

static int
count_query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
	int rc = verbs_seam_real->ibv_query_device(context, attr);

	if (rc == 0 && verbs_seam.served != 0)
		attr->max_qp_rd_atom = verbs_seam.served > 0 ? verbs_seam.served : 0;
	return rc;
}

static struct ibv_context *
count_open_device(struct ibv_device *device)
{
	verbs_seam.opened++;
	return verbs_seam_real->ibv_open_device(device);
}

static int
count_close_device(struct ibv_context *context)
{
	verbs_seam.closed++;
	return verbs_seam_real->ibv_close_device(context);
}

void
verbs_seam_begin_with(struct verbs_world *w, uint32_t credits)
{
	memset(w, 0, sizeof(*w));
	memset(&verbs_seam, 0, sizeof(verbs_seam));
	w->config.message_credits = credits;
	far_log_capture_start();
	assert_int_equal(verbs_world_begin(w), 0);
}

void
verbs_seam_begin(struct verbs_world *w)
{
	verbs_seam_begin_with(w, 0);
}

void
verbs_seam_end(struct verbs_world *w)
{
	verbs_world_close(w);
	far_verbs_tune = tune;
	far_log_capture_finish();
}

void
verbs_seam_settle(struct verbs_world *w)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + 20 * FAR_NS_PER_MS;

	while (far_clock_now(far_clock_real()) < until_ns)
		verbs_world_step(w, FAR_TIME_NEVER, "silence");
}

int
verbs_seam_install(void)
{
	int rc = far_verbs_lib_load();

	if (rc < 0)
		return rc;
	verbs_seam_real = far_verbs_lib;
	table = *verbs_seam_real;
	table.ibv_post_send = count_post_send;
	table.ibv_poll_cq = count_poll_cq;
	table.ibv_modify_qp = count_modify_qp;
	table.ibv_query_device = count_query_device;
	table.ibv_open_device = count_open_device;
	table.ibv_close_device = count_close_device;
	far_verbs_lib = &table;
	return 0;
}
