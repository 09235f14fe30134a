/* endings.c - contract: whatever ends a link, each op ends once, and CLOSED comes after all of it. */
#include "tests/contract/contract.h"

#define REGION_BYTES ((size_t)1024 * 1024)

/* A link with a region to read and a lane to write. */
struct scene {
	struct contract *c;
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *region;
	struct contract_mem *lane;
	struct contract_mem *local;
	struct far_remote region_remote; /* known also when the donor is gone */
	struct far_remote lane_remote;
};

static struct scene
scene_begin(void)
{
	struct scene s = {.c = contract_begin()};

	contract_connect(s.c, &s.donor, &s.client);
	s.region = contract_mem_new(s.c, DONOR, REGION_BYTES, FAR_RIGHT_REMOTE_READ, NULL);
	contract_fill(s.region->base, REGION_BYTES, 1);
	s.lane = contract_mem_new(s.c, DONOR, REGION_BYTES, FAR_RIGHT_REMOTE_WRITE, s.donor);
	contract_mem_expose(s.region, s.donor);
	contract_mem_expose(s.lane, s.donor);
	s.region_remote = s.region->mem->remote;
	s.lane_remote = s.lane->mem->remote;
	s.local = contract_mem_new(s.c, CLIENT, 2 * REGION_BYTES, FAR_RIGHT_LOCAL, NULL);
	return s;
}

/* Lists of all kinds, as many as the link takes; their ends are still to come. */
static void
post_much(struct scene *s)
{
	struct far_piece pieces[8];
	struct far_op ops[8];

	for (uint32_t round = 0; round < 60; round++) {
		uint64_t token = s->client->token_last;

		for (uint32_t i = 0; i < 8; i++) {
			uint32_t at = (round * 8 + i) * 2048;
			bool write = round % 4 == 3 || (round % 4 == 2 && i < 4);

			pieces[i].size_bytes = 2048;
			pieces[i].mem = s->local->mem;
			pieces[i].addr = s->local->base + at + (write ? REGION_BYTES : 0);
			ops[i] = contract_op(write ? FAR_OP_WRITE : FAR_OP_READ, &pieces[i],
					     write ? &s->lane_remote : &s->region_remote, at);
			ops[i].flags = i % 4 == 3 ? FAR_OP_FENCE : 0;
			ops[i].token = i % 3 == 1 || i == 7 ? ++token : 0;
		}
		if (far_transport_post(s->client->link, ops, 8) < 0)
			break;
		while (s->client->token_last < token)
			contract_token(s->client);
	}
}

static void
some_steps(struct contract *c, int count)
{
	contract_deadline_set(c);
	for (int i = 0; i < count; i++)
		contract_step(c, "a few steps");
}

static void
disconnecting_ends_each_op_once_and_then_closes(void **state)
{
	(void)state;
	for (int steps = 0; steps < 30; steps += contract_stride()) {
		struct scene s = scene_begin();

		post_much(&s);
		some_steps(s.c, steps * 3);
		/* end_event() sees that each token comes once and none after CLOSED. */
		contract_disconnect(s.client);
		assert_int_equal(s.client->done_count, s.client->token_last);
		assert_int_equal(s.client->lost, 0);
		/* Memory that its ops named is ours again. */
		contract_mem_dereg(s.local);
		memset(s.local->base, 0x5a, 2 * REGION_BYTES);
		contract_settle(s.c);
		assert_true(contract_is_all(s.local->base, 2 * REGION_BYTES, 0x5a));
		contract_wait(s.c, s.donor->lost == 1);
		contract_close(s.c);
	}
}

static void
disconnecting_does_not_need_the_peer(void **state)
{
	struct scene s = scene_begin();
	(void)state;

	post_much(&s);
	s.c->stopped[DONOR] = true;
	contract_disconnect(s.client);
	assert_int_equal(s.client->done_count, s.client->token_last);
	contract_close(s.c);
}

static void
a_lost_peer_ends_every_op(void **state)
{
	(void)state;
	for (int steps = 0; steps < 30; steps += contract_stride()) {
		struct scene s = scene_begin();

		post_much(&s);
		some_steps(s.c, steps * 3);
		contract_disconnect(s.donor);
		contract_wait(s.c, s.client->lost == 1);
		contract_wait(s.c, s.client->done_count == s.client->token_last);
		for (uint64_t token = 1; token <= s.client->token_last; token++)
			assert_true(s.client->status[token] == 0 ||
				    far_err_listed(s.client->status[token]));
		assert_true(far_err_listed(s.client->lost_status));
		assert_int_equal(far_err_scope(s.client->lost_status), FAR_ERR_LINK);
		/* The link takes nothing more. */
		struct far_piece piece = {s.local->base, 64, s.local->mem};
		struct far_op op = contract_op(FAR_OP_READ, &piece, &s.region_remote, 0);
		op.token = 1;
		assert_int_equal(far_transport_post(s.client->link, &op, 1), -ENOTCONN);
		contract_disconnect(s.client);
		contract_close(s.c);
	}
}

static void
a_dead_process_ends_every_op(void **state)
{
	(void)state;
	for (int steps = 0; steps < 30; steps += contract_stride()) {
		struct scene s = scene_begin();

		if (s.c->backend->donor_kill == NULL) {
			contract_close(s.c);
			skip();
		}
		post_much(&s);
		some_steps(s.c, steps * 3);
		s.c->backend->donor_kill(s.c);
		post_much(&s); /* nobody knows yet */
		contract_wait(s.c, s.client->lost == 1);
		contract_wait(s.c, s.client->done_count == s.client->token_last);
		contract_disconnect(s.client);
		contract_close(s.c);
	}
}

static void
a_full_queue_of_a_lost_link_ends_too(void **state)
{
	struct scene s = scene_begin();
	(void)state;

	for (int i = 0; i < 300; i++)
		post_much(&s);
	while (far_transport_send(s.client->link, "x", 1) == 0)
		;
	contract_disconnect(s.donor);
	contract_wait(s.c, s.client->lost == 1);
	contract_wait(s.c, s.client->done_count == s.client->token_last);
	contract_close(s.c);
}

static void
ops_that_were_read_before_the_end_are_right(void **state)
{
	struct scene s = scene_begin();
	uint32_t good = 0;
	(void)state;

	for (int round = 0; round < 20; round++) {
		uint64_t token = s.client->token_last + 1;

		memset(s.local->base, 0, 4096);
		struct far_piece piece = {s.local->base, 4096, s.local->mem};
		struct far_op op = contract_op(FAR_OP_READ, &piece, &s.region_remote, 4096);

		op.token = token;
		if (far_transport_post(s.client->link, &op, 1) < 0)
			break;
		contract_token(s.client);
		if (round == 10) {
			s.donor->disconnected = true;
			far_transport_disconnect(s.donor->link);
		}
		contract_wait(s.c, s.client->done[token]);
		if (s.client->status[token] < 0)
			continue;
		assert_memory_equal(s.local->base, s.region->base + 4096, 4096);
		good++;
	}
	assert_true(good >= 10);
	contract_close(s.c);
}

static void
two_lives_of_a_link_do_not_mix(void **state)
{
	struct scene s = scene_begin();
	struct contract_end *donor;
	struct contract_end *client;
	(void)state;

	post_much(&s);
	s.client->disconnected = true;
	far_transport_disconnect(s.client->link);
	/* The new link is up and used while the old one is still ending. */
	contract_connect(s.c, &donor, &client);
	contract_mem_expose(s.region, donor);
	assert_int_equal(contract_read(client, s.local, 0, &s.region_remote, 0, 4096), 0);
	assert_memory_equal(s.local->base, s.region->base, 64);
	contract_wait(s.c, s.client->closed == 1);
	assert_int_equal(client->lost, 0);
	contract_close(s.c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(disconnecting_ends_each_op_once_and_then_closes),
	cmocka_unit_test(disconnecting_does_not_need_the_peer),
	cmocka_unit_test(a_lost_peer_ends_every_op),
	cmocka_unit_test(a_dead_process_ends_every_op),
	cmocka_unit_test(a_full_queue_of_a_lost_link_ends_too),
	cmocka_unit_test(ops_that_were_read_before_the_end_are_right),
	cmocka_unit_test(two_lives_of_a_link_do_not_mix),
};

const struct contract_tests contract_endings = {"endings", tests, sizeof(tests) / sizeof(tests[0])};
