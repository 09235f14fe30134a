/* verbs_posts.c - what the device is given, counted where it is given; and what it refuses. */
#include "base/alloc.h"
#include "tests/support/log_capture.h"
#include "tests/unit/transport/verbs_seam.h"

#define LIST_OPS 64U

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

	verbs_seam_begin(&w);
	verbs_seam_settle(&w);
	list_fill(&w, ops, pieces, LIST_OPS);
	ops[LIST_OPS / 2].flags = FAR_OP_FENCE;
	for (uint32_t round = 1; round <= 20; round++) {
		memset(&verbs_seam, 0, sizeof(verbs_seam));
		far_alloc_lock();
		assert_int_equal(far_transport_post(w.c.link, ops, (int)LIST_OPS), 0);
		verbs_world_wait(&w, w.c.dones == round);
		far_alloc_unlock();
		assert_int_equal(verbs_seam.doorbells, 1);
		assert_int_equal(verbs_seam.wrs, LIST_OPS);
		assert_int_equal(verbs_seam.completions, 1);
		assert_int_equal(verbs_seam.fenced, 1);
		assert_int_equal(w.c.done_status, 0);
	}
	verbs_seam_end(&w);
}

/* What is behind it must not start before the READs that it was to wait for. */
static void
the_fence_of_an_op_that_is_refused_here_is_kept_by_the_next(void **state)
{
	struct far_piece pieces[4];
	struct far_op ops[4];
	struct verbs_world w;
	(void)state;

	verbs_seam_begin(&w);
	verbs_seam_settle(&w);
	/* Refused behind one that the device has, and before anything of the list has begun. */
	for (uint32_t refused = 0; refused < 2; refused++) {
		list_fill(&w, ops, pieces, 4);
		ops[refused].flags = FAR_OP_FENCE;
		memset(&ops[refused].rkey, 0x77, sizeof(ops[refused].rkey));
		memset(&verbs_seam, 0, sizeof(verbs_seam));
		w.c.done_status = 0;
		assert_int_equal(far_transport_post(w.c.link, ops, 4), 0);
		verbs_world_wait(&w, w.c.dones == refused + 1);
		assert_int_equal(w.c.done_status, -ESTALE);
		assert_int_equal(verbs_seam.wrs, 3);
		assert_int_equal(verbs_seam.fenced, 1);
		assert_int_equal(w.c.lost, 0);
	}
	verbs_seam_end(&w);
}

static void
a_list_that_is_longer_than_the_queue_is_whole(void **state)
{
	static struct far_piece pieces[FAR_POST_OPS_MAX];
	static struct far_op ops[FAR_POST_OPS_MAX];
	struct verbs_world w;
	(void)state;

	far_verbs_tune.sq_depth = 32;
	verbs_seam_begin(&w);
	verbs_seam_settle(&w);
	memset(&verbs_seam, 0, sizeof(verbs_seam));
	list_fill(&w, ops, pieces, FAR_POST_OPS_MAX);
	assert_int_equal(far_transport_post(w.c.link, ops, FAR_POST_OPS_MAX), 0);
	/* A message behind it is not lost in the crowd. */
	assert_int_equal(far_transport_send(w.c.link, "behind", 6), 0);
	verbs_world_wait(&w, w.c.dones == 1 && w.d.messages == 1);
	assert_int_equal(w.c.done_status, 0);
	assert_memory_equal(w.local.pages.base, w.region.pages.base, FAR_POST_OPS_MAX * (size_t)64);
	assert_true(verbs_seam.wrs >= FAR_POST_OPS_MAX);
	assert_true(verbs_seam.completions <= FAR_POST_OPS_MAX / 8 + 8);
	verbs_seam_end(&w);
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
	verbs_seam_begin(&w);
	verbs_seam_settle(&w);
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
	verbs_seam_end(&w);
}

static void
what_came_before_arming_is_not_slept_through(void **state)
{
	struct verbs_world w;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	verbs_seam_begin(&w);
	verbs_seam_settle(&w);
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
	verbs_seam_end(&w);
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
	verbs_seam_begin(&w);
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
	memset(&verbs_seam, 0, sizeof(verbs_seam));
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	verbs_world_wait(&w, w.c.dones == 1);
	assert_int_equal(w.c.done_status, 0);
	assert_int_equal(verbs_seam.completions, 1);
	assert_true(verbs_seam.wrs > 180000 / 24576);
	assert_memory_equal(to + 60000, from + 1000, 10000);
	assert_memory_equal(to, from + 11000, 1);
	assert_memory_equal(to + 70001, from + 11001, 170000);
	verbs_seam_end(&w);
}

static void
reads_in_flight_are_what_both_sides_can(void **state)
{
	struct ibv_context **contexts;
	struct ibv_device_attr attr;
	struct verbs_world w;
	int count = 0;
	(void)state;

	contexts = verbs_seam_real->rdma_get_devices(&count);
	assert_non_null(contexts);
	assert_int_equal(verbs_seam_real->ibv_query_device(contexts[0], &attr), 0);
	verbs_seam_real->rdma_free_devices(contexts);
	verbs_seam_begin(&w);
	assert_int_equal(verbs_seam.pairs, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(verbs_seam.reads_max[i], attr.max_qp_init_rd_atom);
		assert_int_equal(verbs_seam.reads_served[i], attr.max_qp_rd_atom);
	}
	verbs_seam_end(&w);

	memset(&w, 0, sizeof(w));
	memset(&verbs_seam, 0, sizeof(verbs_seam));
	verbs_seam.served = 7;
	far_log_capture_start();
	assert_int_equal(verbs_world_begin(&w), 0);
	assert_int_equal(verbs_seam.pairs, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(verbs_seam.reads_max[i], 7);
		assert_int_equal(verbs_seam.reads_served[i], 7);
	}
	assert_int_equal(verbs_world_use(&w), 0);
	verbs_seam_end(&w);
}

static void
what_is_configured_is_what_a_queue_pair_is_told(void **state)
{
	struct verbs_world w;
	(void)state;

	verbs_seam_begin(&w);
	assert_int_equal(verbs_seam.rts.timeout, 16); /* 268 ms */
	assert_int_equal(verbs_seam.rts.retry_cnt, 6);
	assert_int_equal(verbs_seam.rts.rnr_retry, 6);
	verbs_seam_end(&w);

	memset(&w, 0, sizeof(w));
	memset(&verbs_seam, 0, sizeof(verbs_seam));
	w.config.rdma = (struct far_rdma_options){.traffic_class = 104,
						  .service_level = 3,
						  .ack_timeout_ns = 30 * FAR_NS_PER_MS,
						  .retries = 2,
						  .rnr_retries = 3};
	far_log_capture_start();
	assert_int_equal(verbs_world_begin(&w), 0);
	assert_int_equal(verbs_seam.rtr.ah_attr.grh.traffic_class, 104);
	assert_int_equal(verbs_seam.rtr.ah_attr.sl, 3);
	assert_int_equal(verbs_seam.rts.timeout, 13); /* 33.6 ms */
	assert_int_equal(verbs_seam.rts.retry_cnt, 2);
	assert_int_equal(verbs_seam.rts.rnr_retry, 3);
	assert_int_equal(verbs_world_use(&w), 0);
	verbs_seam_end(&w);
}

static void
what_takes_long_is_told_of_amid_its_list(void **state)
{
	struct far_piece pieces[16];
	struct far_op ops[16];
	struct verbs_world w;
	(void)state;

	far_verbs_tune.signal_bytes = 65536;
	verbs_seam_begin(&w);
	verbs_seam_settle(&w);
	for (uint32_t i = 0; i < 16; i++)
		ops[i] = verbs_world_op(&w, FAR_OP_READ, &pieces[i], &w.region, i * (size_t)16384,
					16384);
	ops[15].token = 1;
	memset(&verbs_seam, 0, sizeof(verbs_seam));
	assert_int_equal(far_transport_post(w.c.link, ops, 16), 0);
	verbs_world_wait(&w, w.c.dones == 1);
	assert_int_equal(verbs_seam.doorbells, 1);
	assert_int_equal(verbs_seam.completions, 4);
	verbs_seam_end(&w);
}

/* The device's word, not ours: what goes out here our own checks have never verbs_seam. */
static void
a_write_with_a_key_for_reading_is_refused_and_costs_that_link_alone(void **state)
{
	struct verbs_world w;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	verbs_seam_begin(&w);
	memset(w.local.pages.base, 0xee, VERBS_WORLD_BYTES);
	op = verbs_world_op(&w, FAR_OP_READ, &piece, &w.region, 0, 4096);
	op.token = 1;
	verbs_seam.read_as_write = true;
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
	verbs_seam_end(&w);
}

static void
what_would_try_for_ever_is_refused(void **state)
{
	struct far_transport_config config = {.clock = far_clock_real(), .rdma = {.retries = 7}};
	struct far_transport *tp = NULL;
	(void)state;

	assert_int_equal(far_transport_open("verbs", &config, &tp), -EINVAL);
	config.rdma = (struct far_rdma_options){.rnr_retries = 7};
	assert_int_equal(far_transport_open("verbs", &config, &tp), -EINVAL);
	config.rdma = (struct far_rdma_options){.service_level = 16};
	assert_int_equal(far_transport_open("verbs", &config, &tp), -EINVAL);
	config.rdma = (struct far_rdma_options){.traffic_class = 256};
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
		cmocka_unit_test(what_came_before_arming_is_not_slept_through),
		cmocka_unit_test(what_is_cut_is_put_together),
		cmocka_unit_test(reads_in_flight_are_what_both_sides_can),
		cmocka_unit_test(what_is_configured_is_what_a_queue_pair_is_told),
		cmocka_unit_test(what_takes_long_is_told_of_amid_its_list),
		cmocka_unit_test(
			a_write_with_a_key_for_reading_is_refused_and_costs_that_link_alone),
		cmocka_unit_test(what_would_try_for_ever_is_refused),
	};

	if (!verbs_world_is_possible())
		return 77;
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (verbs_seam_install() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
