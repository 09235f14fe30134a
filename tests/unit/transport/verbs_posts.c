/* verbs_posts.c - what the device is given, counted where it is given; and what it refuses. */
#include "base/alloc.h"
#include "tests/support/log_capture.h"
#include "tests/unit/transport/verbs_world.h"
#include "transport/verbs/verbs_priv.h"

#define LIST_OPS     64U
#define MANY_CREDITS 200U /* more than a link has receive buffers */

static const struct verbs_lib *real;
static struct verbs_lib table;
static const struct verbs_tune tune = {VERBS_SQ_DEPTH, VERBS_SLICE_BYTES, VERBS_WR_BYTES,
				       VERBS_SIGNAL_BYTES, VERBS_STUCK_NS};

static struct {
	unsigned doorbells;
	unsigned wrs;
	unsigned completions; /* of what was sent */
	unsigned fenced;
	uint8_t reads_max[2]; /* as queue pairs were told, in their order */
	uint8_t reads_served[2];
	unsigned pairs;
	int served;                  /* what devices say that they can serve; 0: the truth, -1: 0 */
	unsigned garble;             /* how the next SEND is; 0: as it is */
	bool swallow;                /* the next chain goes nowhere */
	bool read_as_write;          /* the next READ goes out as a WRITE */
	unsigned opened, closed;     /* devices */
	const struct ibv_cq *broken; /* cannot be read */
} seen;

static void
frame_garble(struct ibv_send_wr *wr)
{
	struct verbs_frame_header *header = (void *)(uintptr_t)wr->sg_list[0].addr;

	switch (seen.garble) {
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
	seen.garble = 0;
}
#define GARBLES 9U

static int
count_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_out)
{
	seen.doorbells++;
	for (struct ibv_send_wr *it = wr; it != NULL; it = it->next) {
		seen.wrs++;
		seen.fenced += (it->send_flags & IBV_SEND_FENCE) != 0;
		if (it->opcode == IBV_WR_SEND && seen.garble != 0)
			frame_garble(it);
		if (it->opcode == IBV_WR_RDMA_READ && seen.read_as_write) {
			it->opcode = IBV_WR_RDMA_WRITE;
			seen.read_as_write = false;
		}
	}
	if (seen.swallow) {
		seen.swallow = false;
		return 0;
	}
	return real->ibv_post_send(qp, wr, bad_out);
}

static int
count_poll_cq(struct ibv_cq *cq, int count, struct ibv_wc *wcs)
{
	int got = cq == seen.broken ? -1 : real->ibv_poll_cq(cq, count, wcs);

	for (int i = 0; i < got; i++)
		seen.completions += (wcs[i].wr_id & VERBS_ID_RECV) == 0;
	return got;
}

static int
count_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
	if (attr->qp_state == IBV_QPS_RTR && (mask & IBV_QP_STATE) && seen.pairs < 2) {
		assert_true(mask & IBV_QP_MAX_DEST_RD_ATOMIC);
		seen.reads_served[seen.pairs] = attr->max_dest_rd_atomic;
	}
	if (attr->qp_state == IBV_QPS_RTS && (mask & IBV_QP_STATE) && seen.pairs < 2) {
		assert_true(mask & IBV_QP_MAX_QP_RD_ATOMIC);
		assert_true(mask & IBV_QP_TIMEOUT);
		assert_in_range(attr->timeout, 1, 31);
		assert_in_range(attr->retry_cnt, 1, 6);
		assert_in_range(attr->rnr_retry, 1, 6);
		seen.reads_max[seen.pairs++] = attr->max_rd_atomic;
	}
	return real->ibv_modify_qp(qp, attr, mask);
}

static int
count_query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
	int rc = real->ibv_query_device(context, attr);

	if (rc == 0 && seen.served != 0)
		attr->max_qp_rd_atom = seen.served > 0 ? seen.served : 0;
	return rc;
}

static struct ibv_context *
count_open_device(struct ibv_device *device)
{
	seen.opened++;
	return real->ibv_open_device(device);
}

static int
count_close_device(struct ibv_context *context)
{
	seen.closed++;
	return real->ibv_close_device(context);
}

static void
begin_with(struct verbs_world *w, uint32_t credits)
{
	memset(w, 0, sizeof(*w));
	memset(&seen, 0, sizeof(seen));
	w->config.message_credits = credits;
	far_log_capture_start();
	assert_int_equal(verbs_world_begin(w), 0);
}

static void
begin(struct verbs_world *w)
{
	begin_with(w, 0);
}

static void
end(struct verbs_world *w)
{
	verbs_world_close(w);
	far_verbs_tune = tune;
	far_log_capture_finish();
}

/* All that was said on the way is told. */
static void
settle(struct verbs_world *w)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + 20 * FAR_NS_PER_MS;

	while (far_clock_now(far_clock_real()) < until_ns)
		verbs_world_step(w, FAR_TIME_NEVER, "silence");
}

static void
list_fill(struct verbs_world *w, struct far_op *ops, struct far_piece *pieces, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		ops[i] = verbs_world_op(w, FAR_OP_READ, &pieces[i], &w->region, (size_t)i * 64, 64);
	ops[count - 1].token = 1;
}

static void
a_list_is_one_doorbell_and_one_completion(void **state)
{
	struct far_piece pieces[LIST_OPS];
	struct far_op ops[LIST_OPS];
	struct verbs_world w;
	(void)state;

	begin(&w);
	settle(&w);
	list_fill(&w, ops, pieces, LIST_OPS);
	ops[LIST_OPS / 2].flags = FAR_OP_FENCE;
	for (uint32_t round = 1; round <= 20; round++) {
		memset(&seen, 0, sizeof(seen));
		far_alloc_lock();
		assert_int_equal(far_transport_post(w.c.link, ops, (int)LIST_OPS), 0);
		verbs_world_wait(&w, w.c.dones == round);
		far_alloc_unlock();
		assert_int_equal(seen.doorbells, 1);
		assert_int_equal(seen.wrs, LIST_OPS);
		assert_int_equal(seen.completions, 1);
		assert_int_equal(seen.fenced, 1);
		assert_int_equal(w.c.done_status, 0);
	}
	end(&w);
}

/* What is behind it must not start before the READs that it was to wait for. */
static void
the_fence_of_an_op_that_is_refused_here_is_kept_by_the_next(void **state)
{
	struct far_piece pieces[4];
	struct far_op ops[4];
	struct verbs_world w;
	(void)state;

	begin(&w);
	settle(&w);
	/* Refused behind one that the device has, and before anything of the list has begun. */
	for (uint32_t refused = 0; refused < 2; refused++) {
		list_fill(&w, ops, pieces, 4);
		ops[refused].flags = FAR_OP_FENCE;
		memset(&ops[refused].rkey, 0x77, sizeof(ops[refused].rkey));
		memset(&seen, 0, sizeof(seen));
		w.c.done_status = 0;
		assert_int_equal(far_transport_post(w.c.link, ops, 4), 0);
		verbs_world_wait(&w, w.c.dones == refused + 1);
		assert_int_equal(w.c.done_status, -ESTALE);
		assert_int_equal(seen.wrs, 3);
		assert_int_equal(seen.fenced, 1);
		assert_int_equal(w.c.lost, 0);
	}
	end(&w);
}

static void
a_list_that_is_longer_than_the_queue_is_whole(void **state)
{
	static struct far_piece pieces[FAR_POST_OPS_MAX];
	static struct far_op ops[FAR_POST_OPS_MAX];
	struct verbs_world w;
	(void)state;

	far_verbs_tune.sq_depth = 32;
	begin(&w);
	settle(&w);
	memset(&seen, 0, sizeof(seen));
	list_fill(&w, ops, pieces, FAR_POST_OPS_MAX);
	assert_int_equal(far_transport_post(w.c.link, ops, FAR_POST_OPS_MAX), 0);
	/* A message behind it is not lost in the crowd. */
	assert_int_equal(far_transport_send(w.c.link, "behind", 6), 0);
	verbs_world_wait(&w, w.c.dones == 1 && w.d.messages == 1);
	assert_int_equal(w.c.done_status, 0);
	assert_memory_equal(w.local.pages.base, w.region.pages.base, FAR_POST_OPS_MAX * (size_t)64);
	assert_true(seen.wrs >= FAR_POST_OPS_MAX);
	assert_true(seen.completions <= FAR_POST_OPS_MAX / 8 + 8);
	end(&w);
}

static void
lane_is_whole(struct verbs_end *end)
{
	struct verbs_world *w = end->arg;

	assert_memory_equal(w->lane.pages.base, w->local.pages.base, FAR_POST_OPS_MAX * (size_t)64);
}

static void
a_message_waits_for_writes_that_the_queue_had_no_room_for(void **state)
{
	static struct far_piece pieces[FAR_POST_OPS_MAX];
	static struct far_op ops[FAR_POST_OPS_MAX];
	struct verbs_world w;
	(void)state;

	far_verbs_tune.sq_depth = 32;
	begin(&w);
	settle(&w);
	w.d.on_message = lane_is_whole;
	w.d.arg = &w;
	for (uint32_t i = 0; i < FAR_POST_OPS_MAX; i++)
		ops[i] = verbs_world_op(&w, FAR_OP_WRITE, &pieces[i], &w.lane, (size_t)i * 64, 64);
	ops[FAR_POST_OPS_MAX - 1].token = 1;
	for (unsigned round = 1; round <= 5; round++) {
		memset(w.local.pages.base, (int)round, VERBS_WORLD_BYTES);
		assert_int_equal(far_transport_post(w.c.link, ops, FAR_POST_OPS_MAX), 0);
		assert_int_equal(far_transport_send(w.c.link, "commit", 6), 0);
		verbs_world_wait(&w, w.c.dones == round && w.d.messages == round);
		assert_int_equal(w.c.done_status, 0);
	}
	end(&w);
}

#define REGIONS 12U /* more than there are buffers for frames of our own */

static struct far_mem *mems[REGIONS];

/* At once: what the message speaks of is known now, or never was. */
static void
regions_read(struct verbs_end *end)
{
	struct verbs_world *w = end->arg;
	struct far_piece piece;
	struct far_op op = verbs_world_op(w, FAR_OP_READ, &piece, &w->region, 0, 64);

	op.token = 1;
	for (unsigned i = 0; i < REGIONS; i++) {
		op.rkey = mems[i]->remote.rkey;
		assert_int_equal(far_transport_post(end->link, &op, 1), 0);
	}
}

static void
a_message_waits_for_keys_that_there_was_no_frame_for(void **state)
{
	struct far_mem_source source = {.size_bytes = 4096, .fd = -1};
	static struct verbs_world w;
	unsigned before;
	(void)state;

	begin(&w);
	settle(&w);
	before = w.c.messages;
	w.c.on_message = regions_read;
	w.c.arg = &w;
	source.base = w.region.pages.base;
	for (unsigned i = 0; i < REGIONS; i++) {
		assert_int_equal(far_transport_mem_reg(w.donor, &source, FAR_RIGHT_REMOTE_READ,
						       NULL, &mems[i]),
				 0);
		assert_int_equal(far_transport_mem_expose(mems[i], w.d.link), 0);
	}
	assert_int_equal(far_transport_send(w.d.link, "behind", 6), 0);
	verbs_world_wait(&w, w.c.messages > before && w.c.dones == REGIONS);
	assert_int_equal(w.c.done_status, 0);
	for (unsigned i = 0; i < REGIONS; i++)
		far_transport_mem_dereg(mems[i]);
	end(&w);
}

static void
what_came_before_arming_is_not_slept_through(void **state)
{
	struct verbs_world w;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	begin(&w);
	settle(&w);
	op = verbs_world_op(&w, FAR_OP_READ, &piece, &w.region, 0, 64);
	op.token = 1;
	for (unsigned round = 1; round <= 5; round++) {
		assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
		(void)usleep(20000); /* it is there, and nobody was to be woken for it */
		while (w.c.dones < round) {
			assert_int_equal(far_transport_arm(w.client), -EAGAIN);
			(void)far_transport_poll(w.client, 1);
		}
	}
	end(&w);
}

/* Registrations of 64 KiB and requests of 24 KiB, where devices allow no more. */
static void
what_is_cut_is_put_together(void **state)
{
	struct verbs_world w;
	struct far_piece pieces[3];
	struct far_op op;
	const uint8_t *to;
	uint8_t *from;
	(void)state;

	far_verbs_tune.slice_bytes = 65536;
	far_verbs_tune.wr_bytes = 24576;
	begin(&w);
	assert_int_equal(verbs_world_use(&w), 0);
	from = w.region.pages.base;
	for (size_t i = 0; i < VERBS_WORLD_BYTES; i++)
		from[i] = (uint8_t)(i * 7 + i / 256);
	/* Over three borders of slices there, and over others here. */
	op = verbs_world_op(&w, FAR_OP_READ, pieces, &w.region, 1000, 1);
	to = w.local.pages.base;
	pieces[0] = (struct far_piece){(uint8_t *)w.local.pages.base + 60000, 10000, w.local.mem};
	pieces[1] = (struct far_piece){(uint8_t *)w.local.pages.base + 0, 1, w.local.mem};
	pieces[2] = (struct far_piece){(uint8_t *)w.local.pages.base + 70001, 170000, w.local.mem};
	op.piece_count = 3;
	op.token = 1;
	w.c.dones = 0;
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	verbs_world_wait(&w, w.c.dones == 1);
	assert_int_equal(w.c.done_status, 0);
	assert_int_equal(seen.completions, 1);
	assert_true(seen.wrs > 180000 / 24576);
	assert_memory_equal(to + 60000, from + 1000, 10000);
	assert_memory_equal(to, from + 11000, 1);
	assert_memory_equal(to + 70001, from + 11001, 170000);
	end(&w);
}

static void
reads_in_flight_are_what_both_sides_can(void **state)
{
	struct ibv_context **contexts;
	struct ibv_device_attr attr;
	struct verbs_world w;
	int count = 0;
	(void)state;

	contexts = real->rdma_get_devices(&count);
	assert_non_null(contexts);
	assert_int_equal(real->ibv_query_device(contexts[0], &attr), 0);
	real->rdma_free_devices(contexts);
	begin(&w);
	assert_int_equal(seen.pairs, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(seen.reads_max[i], attr.max_qp_init_rd_atom);
		assert_int_equal(seen.reads_served[i], attr.max_qp_rd_atom);
	}
	end(&w);

	memset(&w, 0, sizeof(w));
	memset(&seen, 0, sizeof(seen));
	seen.served = 7;
	far_log_capture_start();
	assert_int_equal(verbs_world_begin(&w), 0);
	assert_int_equal(seen.pairs, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(seen.reads_max[i], 7);
		assert_int_equal(seen.reads_served[i], 7);
	}
	assert_int_equal(verbs_world_use(&w), 0);
	end(&w);
}

static void
a_peer_that_serves_no_reads_is_told_at_once(void **state)
{
	struct verbs_world w = {.donor_posts_no_reads = true}; /* else it refuses as well */
	(void)state;

	memset(&seen, 0, sizeof(seen));
	seen.served = -1;
	far_log_capture_start();
	far_log_capture_expect(" keeps no READ in flight");
	assert_int_equal(verbs_world_begin(&w), -EPROTO);
	assert_int_equal(w.c.lost, 1);
	end(&w);
}

static void
what_takes_long_is_told_of_amid_its_list(void **state)
{
	struct far_piece pieces[16];
	struct far_op ops[16];
	struct verbs_world w;
	(void)state;

	far_verbs_tune.signal_bytes = 65536;
	begin(&w);
	settle(&w);
	for (uint32_t i = 0; i < 16; i++)
		ops[i] = verbs_world_op(&w, FAR_OP_READ, &pieces[i], &w.region, i * (size_t)16384,
					16384);
	ops[15].token = 1;
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(far_transport_post(w.c.link, ops, 16), 0);
	verbs_world_wait(&w, w.c.dones == 1);
	assert_int_equal(seen.doorbells, 1);
	assert_int_equal(seen.completions, 4);
	end(&w);
}

/* The device's word, not ours: what goes out here our own checks have never seen. */
static void
a_write_with_a_key_for_reading_is_refused_and_costs_that_link_alone(void **state)
{
	struct verbs_world w;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	begin(&w);
	memset(w.local.pages.base, 0xee, VERBS_WORLD_BYTES);
	op = verbs_world_op(&w, FAR_OP_READ, &piece, &w.region, 0, 4096);
	op.token = 1;
	seen.read_as_write = true;
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	/* One that has no part in it is not blamed. */
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	verbs_world_wait(&w, w.c.lost == 1 && w.d.lost == 1);
	assert_int_equal(w.c.dones, 2);
	assert_int_equal(w.c.done_status, -EACCES);
	assert_int_equal(w.c.done_status_last, -ECONNRESET);
	assert_int_equal(w.c.lost_status, -EACCES);
	for (size_t i = 0; i < 4096; i++)
		assert_int_equal(((uint8_t *)w.region.pages.base)[i], 0x5a);
	verbs_world_wait(&w, w.c.link == NULL && w.d.link == NULL);
	/* The memory is as it was for whoever comes next. */
	verbs_world_again(&w);
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	verbs_world_wait(&w, w.c.dones == 1);
	assert_int_equal(w.c.done_status, 0);
	end(&w);
}

static void
a_frame_that_is_none_costs_its_link(void **state)
{
	(void)state;
	for (unsigned garble = 1; garble <= GARBLES; garble++) {
		struct verbs_world w;

		begin(&w);
		far_log_capture_expect(" dropped: the peer broke the protocol");
		seen.garble = garble;
		assert_int_equal(far_transport_send(w.c.link, "hello", 5), 0);
		verbs_world_wait(&w, w.d.lost == 1 && w.c.lost == 1);
		assert_int_equal(w.d.lost_status, -EPROTO);
		assert_int_equal(w.d.messages, 0);
		assert_true(far_log_capture_count(" dropped: ") > 0);
		end(&w);
	}
}

/* No receive buffer of a process that stands still is asked for twice, though credits are for more. */
static void
reads_go_on_when_the_peer_stands_still_and_credits_are_gone(void **state)
{
	static uint8_t msg[FAR_MESSAGE_BYTES_MAX];
	struct verbs_world w;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	begin_with(&w, MANY_CREDITS);
	settle(&w);
	w.donor_stopped = true;
	for (uint32_t i = 0; i < MANY_CREDITS / 2; i++)
		assert_int_equal(far_transport_send(w.c.link, msg, 1), 0);
	while (far_transport_send(w.c.link, msg, sizeof(msg)) == 0)
		;
	op = verbs_world_op(&w, FAR_OP_READ, &piece, &w.region, 0, 65536);
	op.token = 1;
	for (unsigned round = 1; round <= 200; round++) {
		assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
		verbs_world_wait(&w, w.c.dones == round);
	}
	assert_int_equal(w.c.done_status, 0);
	assert_int_equal(w.c.lost, 0);
	w.donor_stopped = false;
	verbs_world_wait(&w, w.c.sendable == 1);
	end(&w);
}

/* Each side's buffers are full of the other's messages, and neither has looked yet. */
static void
two_sides_that_filled_each_other_go_on(void **state)
{
	struct verbs_world w;
	unsigned up = 0, down = 0;
	(void)state;

	begin_with(&w, MANY_CREDITS);
	settle(&w);
	w.c.messages = 0;
	while (far_transport_send(w.c.link, "up", 2) == 0)
		up++;
	while (far_transport_send(w.d.link, "down", 4) == 0)
		down++;
	assert_true(up > 2 * VERBS_FRAMES && down > 2 * VERBS_FRAMES);
	(void)usleep(20000); /* all that may go is there */
	verbs_world_wait(&w, w.c.messages == down && w.d.messages == up);
	verbs_world_wait(&w, w.c.sendable == 1 && w.d.sendable == 1);
	end(&w);
}

#define ALL_BUT_ONE (VERBS_FRAMES - 1)

/* The first brings the one buffer that the donor was not told of, and that is used up; the last comes
 * when credits are due for all of them, and before any buffer was posted again. */
static void
answer_some(struct verbs_end *end)
{
	if (end->messages == ALL_BUT_ONE || (end->arg != NULL && end->messages == 1))
		assert_int_equal(far_transport_send(end->link, "answer", 6), 0);
}

/* Credits are due on both sides when one buffer is left on each: it is not spent on them. */
static void
the_last_buffer_of_two_sides_is_not_spent_on_credits(void **state)
{
	struct verbs_world w;
	(void)state;

	begin_with(&w, 4 * (ALL_BUT_ONE - 1));
	for (unsigned i = 1; i <= VERBS_FRAMES; i++) {
		unsigned before = w.c.messages;

		assert_int_equal(far_transport_send(w.c.link, "settle", 6), 0);
		verbs_world_wait(&w, w.d.messages == i);
		assert_int_equal(far_transport_send(w.d.link, "settle", 6), 0);
		verbs_world_wait(&w, w.c.messages == before + 1);
	}
	w.c.messages = 0;
	w.d.messages = 0;
	w.c.on_message = answer_some;
	w.d.on_message = answer_some;
	w.d.arg = &w;
	for (unsigned i = 0; i < ALL_BUT_ONE; i++)
		assert_int_equal(far_transport_send(w.c.link, "up", 2), 0);
	for (unsigned i = 1; i < ALL_BUT_ONE; i++)
		assert_int_equal(far_transport_send(w.d.link, "down", 4), 0);
	(void)usleep(200000); /* all of them are there */
	while (w.d.messages < ALL_BUT_ONE)
		(void)far_transport_poll(w.donor, 2 * (int)VERBS_FRAMES);
	(void)usleep(200000);
	while (w.c.messages < ALL_BUT_ONE)
		(void)far_transport_poll(w.client, 2 * (int)VERBS_FRAMES);
	verbs_world_wait(&w, w.c.messages == VERBS_FRAMES && w.d.messages == VERBS_FRAMES);
	end(&w);
}

/* Also to one that reads them when it knows already that the other is gone. */
static void
last_words_are_heard_before_the_end(void **state)
{
	struct verbs_world w;
	unsigned before;
	(void)state;

	for (unsigned count = 1; count <= 28; count += 9) {
		begin(&w);
		settle(&w);
		before = w.c.messages;
		while (far_transport_arm(w.client) < 0)
			(void)far_transport_poll(w.client, 16);
		for (unsigned i = 0; i < count; i++)
			assert_int_equal(far_transport_send(w.d.link, "farewell", 8), 0);
		w.d.disconnected = true;
		far_transport_disconnect(w.d.link);
		for (int i = 0; w.d.closed == 0 && i < 100000; i++) {
			(void)far_transport_poll(w.donor, 16);
			(void)usleep(50);
		}
		assert_int_equal(w.d.closed, 1);
		(void)usleep(20000); /* RDMA CM says it as well */
		for (int i = 0; w.c.lost == 0 && i < 100000; i++) {
			(void)far_transport_poll(w.client, 1);
			(void)usleep(10);
		}
		assert_int_equal(w.c.lost, 1);
		assert_int_equal(w.c.messages, before + count);
		end(&w);
	}
}

/* What was given to the device goes on while the link ends. */
static void
a_message_behind_many_bytes_is_heard_before_the_end(void **state)
{
	struct verbs_world w;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	begin(&w);
	settle(&w);
	op = verbs_world_op(&w, FAR_OP_WRITE, &piece, &w.lane, 0, (uint32_t)VERBS_WORLD_BYTES);
	op.token = 1;
	for (int i = 0; i < 8; i++)
		assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	assert_int_equal(far_transport_send(w.c.link, "farewell", 8), 0);
	w.c.disconnected = true;
	far_transport_disconnect(w.c.link);
	verbs_world_wait(&w, w.c.closed == 1 && w.d.link == NULL);
	assert_int_equal(w.c.dones, 8);
	assert_int_equal(w.c.done_status, 0);
	assert_int_equal(w.d.messages, 1);
	end(&w);
}

static void
a_device_that_forgets_costs_the_link_and_not_for_ever(void **state)
{
	struct verbs_world w;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	far_verbs_tune.stuck_ns = 300 * FAR_NS_PER_MS;
	begin(&w);
	far_log_capture_expect(" lost: its device says nothing");
	settle(&w);
	op = verbs_world_op(&w, FAR_OP_READ, &piece, &w.region, 0, 64);
	op.token = 1;
	seen.swallow = true;
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	verbs_world_wait(&w, w.c.lost == 1);
	assert_int_equal(w.c.dones, 1);
	assert_int_equal(w.c.done_status, -ECONNRESET);
	verbs_world_wait(&w, w.c.link == NULL && w.d.link == NULL);
	end(&w);
}

static void
a_device_that_forgets_a_frame_of_ours_costs_the_link_as_well(void **state)
{
	struct far_mem_source source = {.size_bytes = 4096, .fd = -1};
	struct verbs_world w;
	struct far_mem *mem;
	(void)state;

	far_verbs_tune.stuck_ns = 300 * FAR_NS_PER_MS;
	begin(&w);
	far_log_capture_expect(" lost: its device says nothing");
	settle(&w);
	source.base = w.region.pages.base;
	assert_int_equal(far_transport_mem_reg(w.donor, &source, FAR_RIGHT_REMOTE_READ, NULL, &mem),
			 0);
	seen.swallow = true;
	assert_int_equal(far_transport_mem_expose(mem, w.d.link), 0);
	assert_false(seen.swallow);
	verbs_world_wait(&w, w.d.lost == 1);
	verbs_world_wait(&w, w.c.link == NULL && w.d.link == NULL);
	far_transport_mem_dereg(mem);
	end(&w);
}

/* As after a reset: all that the process has of it is given back, and asked for again. */
static void
a_device_that_failed_is_opened_again_with_what_was_registered(void **state)
{
	struct verbs_world w;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	begin(&w);
	far_log_capture_expect(" failed: its completion queue cannot be read");
	settle(&w);
	op = verbs_world_op(&w, FAR_OP_READ, &piece, &w.region, 0, 4096);
	op.token = 1;
	memset(&seen, 0, sizeof(seen));
	seen.broken = VERBS_TP(w.client)->devices[0]->cq;
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	verbs_world_wait(&w, w.c.link == NULL && w.d.link == NULL);
	assert_int_equal(w.c.dones, 1);
	assert_int_equal(w.c.done_status, -ECONNRESET);
	assert_int_equal(w.c.lost_status, -ECONNRESET);
	verbs_world_wait(&w, seen.closed == 1);
	assert_int_equal(seen.opened, 0);
	seen.broken = NULL;
	verbs_world_again(&w);
	assert_int_equal(seen.opened, 1);
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	verbs_world_wait(&w, w.c.dones == 1);
	assert_int_equal(w.c.done_status, 0);
	assert_memory_equal(w.local.pages.base, w.region.pages.base, 4096);
	end(&w);
}

static void
what_would_try_for_ever_is_refused(void **state)
{
	struct far_transport_config config = {.clock = far_clock_real(), .retries = 7};
	struct far_transport *tp = NULL;
	(void)state;

	assert_int_equal(far_transport_open("verbs", &config, &tp), -EINVAL);
	config = (struct far_transport_config){.clock = far_clock_real(), .service_level = 16};
	assert_int_equal(far_transport_open("verbs", &config, &tp), -EINVAL);
	assert_null(tp);
}

/* An argument is a pattern of names of tests. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_is_one_doorbell_and_one_completion),
		cmocka_unit_test(the_fence_of_an_op_that_is_refused_here_is_kept_by_the_next),
		cmocka_unit_test(a_list_that_is_longer_than_the_queue_is_whole),
		cmocka_unit_test(a_message_waits_for_writes_that_the_queue_had_no_room_for),
		cmocka_unit_test(a_message_waits_for_keys_that_there_was_no_frame_for),
		cmocka_unit_test(what_came_before_arming_is_not_slept_through),
		cmocka_unit_test(what_is_cut_is_put_together),
		cmocka_unit_test(reads_in_flight_are_what_both_sides_can),
		cmocka_unit_test(
			a_write_with_a_key_for_reading_is_refused_and_costs_that_link_alone),
		cmocka_unit_test(a_peer_that_serves_no_reads_is_told_at_once),
		cmocka_unit_test(what_takes_long_is_told_of_amid_its_list),
		cmocka_unit_test(a_frame_that_is_none_costs_its_link),
		cmocka_unit_test(reads_go_on_when_the_peer_stands_still_and_credits_are_gone),
		cmocka_unit_test(two_sides_that_filled_each_other_go_on),
		cmocka_unit_test(the_last_buffer_of_two_sides_is_not_spent_on_credits),
		cmocka_unit_test(last_words_are_heard_before_the_end),
		cmocka_unit_test(a_message_behind_many_bytes_is_heard_before_the_end),
		cmocka_unit_test(a_device_that_forgets_costs_the_link_and_not_for_ever),
		cmocka_unit_test(a_device_that_forgets_a_frame_of_ours_costs_the_link_as_well),
		cmocka_unit_test(a_device_that_failed_is_opened_again_with_what_was_registered),
		cmocka_unit_test(what_would_try_for_ever_is_refused),
	};

	if (!verbs_world_is_possible())
		return 77;
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (far_verbs_lib_load() < 0)
		return 1;
	real = far_verbs_lib;
	table = *real;
	table.ibv_post_send = count_post_send;
	table.ibv_poll_cq = count_poll_cq;
	table.ibv_modify_qp = count_modify_qp;
	table.ibv_query_device = count_query_device;
	table.ibv_open_device = count_open_device;
	table.ibv_close_device = count_close_device;
	far_verbs_lib = &table;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
