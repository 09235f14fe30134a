/* verbs_stopped.c - a writer that is stopped amid its WRITEs, and goes on when its lane is another's. */
#include "tests/support/log_capture.h"
#include "tests/unit/transport/verbs_peer.h"

#define LANE_BYTES   ((size_t)4 << 20)
#define BESIDE_BYTES ((size_t)64 * 1024)
#define ALL_BYTES    (LANE_BYTES + 2 * BESIDE_BYTES)
#define CANARY       0xc7
#define CLEARED      0xcc
#define SUCCESSOR    0xb2
#define SHALLOW      32U /* a writer's queue: 16 WRITEs at a time, and a list is longer */
#define QUIET_NS     (100 * FAR_NS_PER_MS)

struct scene {
	struct verbs_world w;
	struct verbs_peer writer;
	struct far_pages pages; /* a lane with something beside it */
	uint8_t *lane;
	struct far_mem *first;  /* the writer's registration of it */
	struct far_mem *second; /* the successor's: the client of the world */
};

static struct far_mem *
lane_register(struct scene *s, struct far_link *link)
{
	struct far_mem_source source = {.base = s->lane,
					.size_bytes = LANE_BYTES,
					.fd = s->pages.fd,
					.fd_offset = BESIDE_BYTES};
	struct far_mem *mem;

	assert_int_equal(
		far_transport_mem_reg(s->w.donor, &source, FAR_RIGHT_REMOTE_WRITE, link, &mem), 0);
	assert_int_equal(far_transport_mem_expose(mem, link), 0);
	return mem;
}

static void
scene_begin(struct scene *s, uint32_t op_bytes, uint32_t sq_depth)
{
	struct verbs_peer_shared *told;

	memset(s, 0, sizeof(*s));
	far_log_capture_start();
	assert_int_equal(verbs_world_begin(&s->w), 0);
	assert_int_equal(far_pages_map_shared("lane", ALL_BYTES, FAR_PAGES_HUGE_OFF, -1, &s->pages),
			 0);
	memset(s->pages.base, CANARY, ALL_BYTES);
	s->lane = (uint8_t *)s->pages.base + BESIDE_BYTES;
	verbs_peer_open(&s->writer, VERBS_PEER_WRITER);
	told = s->writer.shared;
	memcpy(told->address, s->w.address, sizeof(told->address));
	told->sq_depth = sq_depth;
	told->op_bytes = op_bytes;
	told->ops = (uint32_t)(LANE_BYTES / op_bytes);
	verbs_peer_start(&s->writer);
	verbs_world_wait(&s->w, s->w.e.link != NULL);
	s->first = lane_register(s, s->w.e.link);
	assert_int_equal(
		far_transport_send(s->w.e.link, &s->first->remote, sizeof(s->first->remote)), 0);
}

static void
scene_end(struct scene *s)
{
	verbs_peer_close(&s->writer, 0);
	verbs_world_wait(&s->w, s->w.e.link == NULL);
	far_transport_mem_dereg(s->second);
	far_pages_unmap(&s->pages);
	verbs_world_close(&s->w);
	far_log_capture_finish();
}

static void
step_for(struct scene *s, uint64_t ns)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + ns;

	while (far_clock_now(far_clock_real()) < until_ns)
		verbs_world_step(&s->w, FAR_TIME_NEVER, "silence");
}

/* Every byte of the lane is @value, and beside it nothing was ever written. */
static void
lane_holds(const struct scene *s, uint8_t value)
{
	const uint8_t *all = s->pages.base;

	for (size_t i = 0; i < ALL_BYTES; i++) {
		bool inside = i - BESIDE_BYTES < LANE_BYTES; /* modulo 2^64 */

		if (all[i] != (inside ? value : CANARY))
			fail_msg("byte %zu of %zu is %#x, not %#x", i - BESIDE_BYTES, LANE_BYTES,
				 all[i], inside ? value : CANARY);
	}
}

/* Whether that byte of the lane came from the list @lists. */
static bool
is_written(const struct scene *s, size_t at, uint32_t lists)
{
	return *(const volatile uint8_t *)&s->lane[at] == VERBS_PEER_FILL + lists;
}

/* All that the device had when its process was stopped has landed, and nothing more comes. */
static void
wait_until_nothing_lands(struct scene *s)
{
	uint8_t *before = malloc(LANE_BYTES);
	bool same = false;

	assert_non_null(before);
	while (!same) {
		memcpy(before, s->lane, LANE_BYTES);
		step_for(s, QUIET_NS);
		same = memcmp(before, s->lane, LANE_BYTES) == 0;
	}
	free(before);
}

/* What pool/lane.c does: its registration is gone before anyone else gets it. */
static void
lane_take_back(struct scene *s)
{
	far_transport_mem_dereg(s->first);
	s->first = NULL;
	memset(s->lane, CLEARED, LANE_BYTES);
	step_for(s, QUIET_NS);
	lane_holds(s, CLEARED);
}

static void
lane_give_to_another(struct scene *s)
{
	unsigned messages = s->w.c.messages;
	struct far_piece piece = {s->w.local.pages.base, VERBS_WORLD_BYTES, s->w.local.mem};
	struct far_op op = {.kind = FAR_OP_WRITE, .pieces = &piece, .piece_count = 1, .token = 1};

	memset(s->w.local.pages.base, SUCCESSOR, VERBS_WORLD_BYTES);
	s->second = lane_register(s, s->w.d.link);
	assert_int_equal(far_transport_send(s->w.d.link, "granted", 7), 0);
	verbs_world_wait(&s->w, s->w.c.messages == messages + 1);
	op.rkey = s->second->remote.rkey;
	for (size_t at = 0; at < LANE_BYTES; at += VERBS_WORLD_BYTES) {
		op.remote_addr = s->second->remote.addr + at;
		assert_int_equal(far_transport_post(s->w.c.link, &op, 1), 0);
	}
	verbs_world_wait(&s->w, s->w.c.dones == LANE_BYTES / VERBS_WORLD_BYTES);
	assert_int_equal(s->w.c.done_status, 0);
	lane_holds(s, SUCCESSOR);
}

/* Stops it when so much of that list is there. */
static void
stopped_and_continued(uint32_t op_bytes, uint32_t lists, size_t at, bool quiet)
{
	const struct verbs_peer_shared *told;
	struct scene s;

	scene_begin(&s, op_bytes, quiet ? SHALLOW : 0);
	told = s.writer.shared;
	verbs_world_wait(&s.w, is_written(&s, at, lists) || atomic_load(&told->failed) != 0);
	verbs_peer_stop(&s.writer);
	assert_true(atomic_load(&told->posted) > atomic_load(&told->dones));
	if (quiet)
		wait_until_nothing_lands(&s);
	lane_take_back(&s);
	lane_give_to_another(&s);
	assert_int_equal(atomic_load(&told->lost_status), 0); /* it does not know yet */
	assert_int_equal(kill(s.writer.pid, SIGCONT), 0);
	verbs_world_wait(&s.w, atomic_load(&told->closed) == 1 || atomic_load(&told->failed) != 0 ||
				       s.lane[0] != SUCCESSOR);
	step_for(&s, QUIET_NS);
	lane_holds(&s, SUCCESSOR);
	assert_int_equal(s.w.c.lost, 0); /* the successor has no part in it */
	/* Nobody told it but the device: by refusing what it posted after its lane was gone. */
	if (quiet) {
		assert_int_equal(atomic_load(&told->done_status), -EACCES);
		assert_int_equal(atomic_load(&told->lost_status), -EACCES);
	} else {
		assert_true(far_err_listed(atomic_load(&told->done_status)));
		assert_true(atomic_load(&told->done_status) < 0);
		assert_true(far_err_listed(atomic_load(&told->lost_status)));
		assert_true(atomic_load(&told->lost_status) < 0);
	}
	scene_end(&s);
}

/* Its process stands still, what its device has is under way: that is refused. */
static void
what_is_under_way_when_the_lane_is_taken_back_does_not_land(void **state)
{
	(void)state;
	for (uint32_t round = 0; round < 2; round++) {
		stopped_and_continued(4096, 0, (round + 1) * LANE_BYTES / 4, false);
		stopped_and_continued(65536, round, LANE_BYTES / 2, false);
	}
}

/* Nothing is under way: what it posts when it goes on is refused. */
static void
what_a_stopped_writer_posts_when_it_goes_on_does_not_land(void **state)
{
	(void)state;
	stopped_and_continued(4096, 0, LANE_BYTES / 4, true);
	stopped_and_continued(65536, 1, LANE_BYTES / 2, true);
}

/* An argument is a pattern of names of tests. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_under_way_when_the_lane_is_taken_back_does_not_land),
		cmocka_unit_test(what_a_stopped_writer_posts_when_it_goes_on_does_not_land),
	};

	verbs_peer_main(argc, argv);
	if (!verbs_world_is_possible())
		return 77;
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (far_verbs_lib_load() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
