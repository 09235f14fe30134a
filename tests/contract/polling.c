/* polling.c - contract: events come from poll alone, asleep or busy, and cost no memory. */
#include "tests/contract/contract.h"

#include <poll.h>

#include "base/alloc.h"

struct scene {
	struct contract *c;
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *region;
	struct contract_mem *lane;
	struct contract_mem *local;
};

static struct scene
scene_begin(void)
{
	struct scene s = {.c = contract_begin()};

	contract_connect(s.c, &s.donor, &s.client);
	s.region = contract_mem_new(s.c, DONOR, 65536, FAR_RIGHT_REMOTE_READ, NULL);
	contract_fill(s.region->base, 65536, 1);
	s.lane = contract_mem_new(s.c, DONOR, 65536, FAR_RIGHT_REMOTE_WRITE, s.donor);
	contract_mem_expose(s.region, s.donor);
	contract_mem_expose(s.lane, s.donor);
	s.local = contract_mem_new(s.c, CLIENT, 65536, FAR_RIGHT_LOCAL, NULL);
	return s;
}

/* One of everything that a data path does. */
static void
work_once(struct scene *s)
{
	uint32_t messages = s->donor->message_count;
	uint32_t answers = s->client->message_count;
	struct far_piece pieces[3] = {
		{s->local->base, 16384, s->local->mem},
		{s->local->base + 16384, 64, s->local->mem},
		{s->local->base + 32768, 16384, s->local->mem},
	};
	struct far_op ops[3] = {
		contract_op(FAR_OP_READ, &pieces[0], &s->region->mem->remote, 0),
		contract_op(FAR_OP_READ, &pieces[1], &s->region->mem->remote, 16384),
		contract_op(FAR_OP_WRITE, &pieces[2], &s->lane->mem->remote, 0),
	};

	ops[1].flags = FAR_OP_FENCE;
	ops[1].token = contract_token(s->client);
	ops[2].token = contract_token(s->client);
	contract_post(s->client, ops, 3);
	contract_send(s->client, "commit", 6);
	contract_wait(s->c, s->donor->message_count > messages);
	contract_send(s->donor, "committed", 9);
	contract_wait(s->c, s->client->message_count > answers);
	contract_wait(s->c, s->client->done_count == s->client->token_last);
	assert_int_equal(s->client->failed_count, 0);
}

static void
nothing_is_told_outside_poll(void **state)
{
	struct scene s = scene_begin();
	struct far_piece piece = {s.local->base, 64, s.local->mem};
	struct far_op op = contract_op(FAR_OP_READ, &piece, &s.region->mem->remote, 0);
	uint32_t messages;
	(void)state;

	contract_settle(s.c);
	messages = s.donor->message_count;
	op.token = contract_token(s.client);
	assert_int_equal(far_transport_post(s.client->link, &op, 1), 0);
	assert_int_equal(far_transport_send(s.client->link, "x", 1), 0);
	s.c->backend->idle(s.c);
	assert_int_equal(s.client->done_count, 0);
	assert_int_equal(s.donor->message_count, messages);
	s.client->disconnected = true;
	far_transport_disconnect(s.client->link);
	s.c->backend->idle(s.c);
	assert_int_equal(s.client->done_count, 0);
	assert_int_equal(s.client->closed, 0);
	assert_int_equal(s.donor->lost, 0);
	contract_wait(s.c, s.client->closed == 1);
	contract_close(s.c);
}

static void
a_budget_bounds_the_events_of_a_poll(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	uint32_t most = 0;
	(void)state;

	contract_connect(c, &donor, &client);
	for (int i = 0; i < 30; i++)
		contract_send(client, "x", 1);
	c->stopped[DONOR] = true;
	contract_settle(c);
	contract_deadline_set(c);
	while (donor->message_count < 30) {
		uint32_t before = donor->message_count;

		far_transport_poll(c->tp[DONOR], 1);
		if (donor->message_count - before > most)
			most = donor->message_count - before;
		contract_step(c, "all messages");
	}
	assert_true(most <= 4); /* "about" */
	contract_close(c);
}

static void
an_event_loop_that_sleeps_misses_nothing(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	(void)state;

	if (c->tp[DONOR]->fd < 0) {
		contract_close(c);
		skip();
	}
	c->blocking = true;
	contract_connect(c, &donor, &client);
	contract_disconnect(client);
	contract_wait(c, donor->lost == 1);
	contract_disconnect(donor);
	c->blocking = false;
	contract_close(c);

	struct scene s = scene_begin();

	s.c->blocking = true;
	for (int i = 0; i < 100; i++)
		work_once(&s);
	/* A deadline wakes it as well. */
	contract_close(s.c);
}

static void
the_descriptor_wakes_for_a_connect_deadline(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *client = contract_end_new(c);
	int rc;
	(void)state;

	if (c->tp[CLIENT]->fd < 0) {
		contract_close(c);
		skip();
	}
	c->stopped[DONOR] = true;
	rc = contract_connect_start(c, client, c->address, NULL, 0,
				    far_clock_now(c->clock) + 30 * FAR_NS_PER_MS);
	assert_int_equal(rc, 0);
	c->blocking = true;
	contract_wait(c, client->lost == 1);
	assert_int_equal(client->lost_status, -ETIMEDOUT);
	contract_close(c);
}

static void
arming_with_nothing_to_do_lets_one_sleep(void **state)
{
	struct scene s = scene_begin();
	struct pollfd fds = {.events = POLLIN};
	(void)state;

	work_once(&s);
	contract_settle(s.c);
	for (int side = 0; side < SIDES; side++) {
		assert_int_equal(far_transport_arm(s.c->tp[side]), 0);
		fds.fd = s.c->tp[side]->fd;
		if (fds.fd >= 0)
			assert_int_equal(poll(&fds, 1, 0), 0);
	}
	contract_close(s.c);
}

static void
the_data_path_allocates_nothing(void **state)
{
	struct scene s = scene_begin();
	(void)state;

	work_once(&s);
	far_alloc_lock();
	for (int i = 0; i < 100; i++)
		work_once(&s);
	far_alloc_unlock();
	contract_close(s.c);
}

static void
a_stopped_donor_is_still_read(void **state)
{
	struct scene s = scene_begin();
	(void)state;

	if ((s.c->tp[CLIENT]->caps.flags & FAR_CAP_ONE_SIDED) == 0) {
		contract_close(s.c);
		skip();
	}
	s.c->stopped[DONOR] = true;
	while (far_transport_send(s.client->link, "are you there?", 14) == 0)
		;
	for (int i = 0; i < 50; i++) {
		memset(s.local->base, 0, 65536);
		assert_int_equal(
			contract_read(s.client, s.local, 0, &s.region->mem->remote, 0, 65536), 0);
		assert_memory_equal(s.local->base, s.region->base, 65536);
	}
	assert_int_equal(s.client->lost, 0);
	contract_close(s.c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(nothing_is_told_outside_poll),
	cmocka_unit_test(a_budget_bounds_the_events_of_a_poll),
	cmocka_unit_test(an_event_loop_that_sleeps_misses_nothing),
	cmocka_unit_test(the_descriptor_wakes_for_a_connect_deadline),
	cmocka_unit_test(arming_with_nothing_to_do_lets_one_sleep),
	cmocka_unit_test(the_data_path_allocates_nothing),
	cmocka_unit_test(a_stopped_donor_is_still_read),
};

const struct contract_tests contract_polling = {"polling", tests, sizeof(tests) / sizeof(tests[0])};
