/* verbs_ends.c - messages and their buffers, and what costs a link: frames, peers, devices that fail. */
#include "tests/support/log_capture.h"
#include "tests/unit/transport/verbs_seam.h"

#define MANY_CREDITS 200U /* more than a link has receive buffers */

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

	verbs_seam_begin(&w);
	verbs_seam_settle(&w);
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
	verbs_seam_end(&w);
}

static void
a_peer_that_serves_no_reads_is_told_at_once(void **state)
{
	struct verbs_world w = {.donor_posts_no_reads = true}; /* else it refuses as well */
	(void)state;

	memset(&verbs_seam, 0, sizeof(verbs_seam));
	verbs_seam.served = -1;
	far_log_capture_start();
	far_log_capture_expect(" keeps no READ in flight");
	assert_int_equal(verbs_world_begin(&w), -EPROTO);
	assert_int_equal(w.c.lost, 1);
	verbs_seam_end(&w);
}

static void
a_frame_that_is_none_costs_its_link(void **state)
{
	(void)state;
	for (unsigned garble = 1; garble <= GARBLES; garble++) {
		struct verbs_world w;

		verbs_seam_begin(&w);
		far_log_capture_expect(" dropped: the peer broke the protocol");
		verbs_seam.garble = garble;
		assert_int_equal(far_transport_send(w.c.link, "hello", 5), 0);
		verbs_world_wait(&w, w.d.lost == 1 && w.c.lost == 1);
		assert_int_equal(w.d.lost_status, -EPROTO);
		assert_int_equal(w.d.messages, 0);
		assert_true(far_log_capture_count(" dropped: ") > 0);
		verbs_seam_end(&w);
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

	verbs_seam_begin_with(&w, MANY_CREDITS);
	verbs_seam_settle(&w);
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
	verbs_seam_end(&w);
}

/* Each side's buffers are full of the other's messages, and neither has looked yet. */
static void
two_sides_that_filled_each_other_go_on(void **state)
{
	struct verbs_world w;
	unsigned up = 0, down = 0;
	(void)state;

	verbs_seam_begin_with(&w, MANY_CREDITS);
	verbs_seam_settle(&w);
	w.c.messages = 0;
	while (far_transport_send(w.c.link, "up", 2) == 0)
		up++;
	while (far_transport_send(w.d.link, "down", 4) == 0)
		down++;
	assert_true(up > 2 * VERBS_FRAMES && down > 2 * VERBS_FRAMES);
	(void)usleep(20000); /* all that may go is there */
	verbs_world_wait(&w, w.c.messages == down && w.d.messages == up);
	verbs_world_wait(&w, w.c.sendable == 1 && w.d.sendable == 1);
	verbs_seam_end(&w);
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

	verbs_seam_begin_with(&w, 4 * (ALL_BUT_ONE - 1));
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
	verbs_seam_end(&w);
}

/* Also to one that reads them when it knows already that the other is gone. */
static void
last_words_are_heard_before_the_end(void **state)
{
	struct verbs_world w;
	unsigned before;
	(void)state;

	for (unsigned count = 1; count <= 28; count += 9) {
		verbs_seam_begin(&w);
		verbs_seam_settle(&w);
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
		verbs_seam_end(&w);
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

	verbs_seam_begin(&w);
	verbs_seam_settle(&w);
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
	verbs_seam_end(&w);
}

/* What arrived unasked is never told: time stands still, and nobody waits for it. */
static void
a_link_that_is_lost_ends_as_soon_as_its_device_has_let_go(void **state)
{
	struct far_clock_fake clock;
	struct verbs_world w = {0};
	struct far_piece piece;
	struct far_op op;
	(void)state;

	far_clock_fake_init(&clock, far_clock_now(far_clock_real()));
	w.config.clock = &clock.clock;
	memset(&verbs_seam, 0, sizeof(verbs_seam));
	far_log_capture_start();
	assert_int_equal(verbs_world_begin(&w), 0);
	verbs_seam_settle(&w);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(far_transport_send(w.c.link, "up", 2), 0);
		assert_int_equal(far_transport_send(w.d.link, "down", 4), 0);
	}
	verbs_world_wait(&w, w.d.messages == 3 && w.c.messages == 4);
	op = verbs_world_op(&w, FAR_OP_READ, &piece, &w.region, 0, 64);
	op.token = 1;
	verbs_seam.read_as_write = true;
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	assert_true(VERBS_LINK(w.d.link)->frames_out > 0);
	verbs_world_wait(&w, w.c.lost == 1 && w.d.lost == 1);
	verbs_world_wait(&w, w.c.link == NULL && w.d.link == NULL);
	assert_int_equal(w.c.done_status, -EACCES);
	verbs_seam_end(&w);
}

static void
a_device_that_forgets_costs_the_link_and_not_for_ever(void **state)
{
	struct verbs_world w;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	far_verbs_tune.stuck_ns = 300 * FAR_NS_PER_MS;
	verbs_seam_begin(&w);
	far_log_capture_expect(" lost: its device says nothing");
	verbs_seam_settle(&w);
	op = verbs_world_op(&w, FAR_OP_READ, &piece, &w.region, 0, 64);
	op.token = 1;
	verbs_seam.swallow = true;
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	verbs_world_wait(&w, w.c.lost == 1);
	assert_int_equal(w.c.dones, 1);
	assert_int_equal(w.c.done_status, -ECONNRESET);
	verbs_world_wait(&w, w.c.link == NULL && w.d.link == NULL);
	verbs_seam_end(&w);
}

static void
a_device_that_forgets_a_frame_of_ours_costs_the_link_as_well(void **state)
{
	struct far_mem_source source = {.size_bytes = 4096, .fd = -1};
	struct verbs_world w;
	struct far_mem *mem;
	(void)state;

	far_verbs_tune.stuck_ns = 300 * FAR_NS_PER_MS;
	verbs_seam_begin(&w);
	far_log_capture_expect(" lost: its device says nothing");
	verbs_seam_settle(&w);
	source.base = w.region.pages.base;
	assert_int_equal(far_transport_mem_reg(w.donor, &source, FAR_RIGHT_REMOTE_READ, NULL, &mem),
			 0);
	verbs_seam.swallow = true;
	assert_int_equal(far_transport_mem_expose(mem, w.d.link), 0);
	assert_false(verbs_seam.swallow);
	verbs_world_wait(&w, w.d.lost == 1);
	verbs_world_wait(&w, w.c.link == NULL && w.d.link == NULL);
	far_transport_mem_dereg(mem);
	verbs_seam_end(&w);
}

/* As after a reset: all that the process has of it is given back, and asked for again. */
static void
a_device_that_failed_is_opened_again_with_what_was_registered(void **state)
{
	struct verbs_world w;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	verbs_seam_begin(&w);
	far_log_capture_expect(" failed: its completion queue cannot be read");
	verbs_seam_settle(&w);
	op = verbs_world_op(&w, FAR_OP_READ, &piece, &w.region, 0, 4096);
	op.token = 1;
	memset(&verbs_seam, 0, sizeof(verbs_seam));
	verbs_seam.broken = VERBS_TP(w.client)->devices[0]->cq;
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	verbs_world_wait(&w, w.c.link == NULL && w.d.link == NULL);
	assert_int_equal(w.c.dones, 1);
	assert_int_equal(w.c.done_status, -ECONNRESET);
	assert_int_equal(w.c.lost_status, -ECONNRESET);
	verbs_world_wait(&w, verbs_seam.closed == 1);
	assert_int_equal(verbs_seam.opened, 0);
	verbs_seam.broken = NULL;
	verbs_world_again(&w);
	assert_int_equal(verbs_seam.opened, 1);
	assert_int_equal(far_transport_post(w.c.link, &op, 1), 0);
	verbs_world_wait(&w, w.c.dones == 1);
	assert_int_equal(w.c.done_status, 0);
	assert_memory_equal(w.local.pages.base, w.region.pages.base, 4096);
	verbs_seam_end(&w);
}

/* An argument is a pattern of names of tests. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_waits_for_keys_that_there_was_no_frame_for),
		cmocka_unit_test(a_peer_that_serves_no_reads_is_told_at_once),
		cmocka_unit_test(a_frame_that_is_none_costs_its_link),
		cmocka_unit_test(reads_go_on_when_the_peer_stands_still_and_credits_are_gone),
		cmocka_unit_test(two_sides_that_filled_each_other_go_on),
		cmocka_unit_test(the_last_buffer_of_two_sides_is_not_spent_on_credits),
		cmocka_unit_test(last_words_are_heard_before_the_end),
		cmocka_unit_test(a_message_behind_many_bytes_is_heard_before_the_end),
		cmocka_unit_test(a_link_that_is_lost_ends_as_soon_as_its_device_has_let_go),
		cmocka_unit_test(a_device_that_forgets_costs_the_link_and_not_for_ever),
		cmocka_unit_test(a_device_that_forgets_a_frame_of_ours_costs_the_link_as_well),
		cmocka_unit_test(a_device_that_failed_is_opened_again_with_what_was_registered),
	};

	if (!verbs_world_is_possible())
		return 77;
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (verbs_seam_install() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
