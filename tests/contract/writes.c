/* writes.c - contract: WRITEs land where they were granted, before what was sent behind them. */
#include "base/checksum.h"
#include "tests/contract/contract.h"

#define LANE_BYTES  ((size_t)64 * 1024)
#define WHOLE_BYTES (3 * LANE_BYTES)

/*
 * A lane in the middle of the donor's memory, granted to one link; and the client's memory that it
 * writes from. The donor can see a byte that landed outside.
 */
struct scene {
	struct contract *c;
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *whole; /* of the donor; not remote */
	struct far_mem *lane;
	uint8_t *lane_base;
	struct contract_mem *local;
	struct far_remote remote;
};

static struct scene
scene_begin_with(bool granted_to_one)
{
	struct scene s = {.c = contract_begin()};
	struct far_mem_source source;
	struct contract_mem *mem;

	contract_connect(s.c, &s.donor, &s.client);
	s.whole = contract_mem_new(s.c, DONOR, WHOLE_BYTES, FAR_RIGHT_LOCAL, NULL);
	s.lane_base = s.whole->base + LANE_BYTES;
	source = (struct far_mem_source){
		.base = s.lane_base,
		.size_bytes = LANE_BYTES,
		.fd = s.whole->pages.fd,
		.fd_offset = LANE_BYTES,
	};
	assert_int_equal(far_transport_mem_reg(s.c->tp[DONOR], &source, FAR_RIGHT_REMOTE_WRITE,
					       granted_to_one ? s.donor->link : NULL, &s.lane),
			 0);
	s.local = contract_mem_new(s.c, CLIENT, WHOLE_BYTES, FAR_RIGHT_LOCAL, NULL);
	contract_fill(s.local->base, WHOLE_BYTES, 3);
	mem = &(struct contract_mem){.mem = s.lane};
	contract_mem_expose(mem, s.donor);
	s.remote = s.lane->remote;
	return s;
}

static struct scene
scene_begin(void)
{
	return scene_begin_with(true);
}

static void
scene_end(struct scene *s)
{
	if (s->lane != NULL)
		far_transport_mem_dereg(s->lane);
	contract_close(s->c);
}

/* Whether all bytes are zero but those of [first, end) of the lane. */
static bool
is_untouched_but(const struct scene *s, size_t first, size_t end)
{
	return contract_is_all(s->whole->base, LANE_BYTES + first, 0) &&
	       contract_is_all(s->lane_base + end, WHOLE_BYTES - LANE_BYTES - end, 0);
}

static void
a_write_lands_where_it_was_granted_and_nowhere_else(void **state)
{
	static const struct {
		size_t from;
		uint64_t to;
		uint32_t size_bytes;
	} cases[] = {
		{0, 0, 1},       {5, 3, 7},          {64, 64, 64},
		{1, 63, 2},      {9, 1, 4096},       {0, LANE_BYTES - 1, 1},
		{33, 17, 30000}, {0, 0, LANE_BYTES},
	};
	struct scene s = scene_begin();
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int rc;

		memset(s.whole->base, 0, WHOLE_BYTES);
		rc = contract_write(s.client, s.local, cases[i].from, &s.remote, cases[i].to,
				    cases[i].size_bytes);
		assert_int_equal(rc, 0);
		assert_memory_equal(s.lane_base + cases[i].to, s.local->base + cases[i].from,
				    cases[i].size_bytes);
		assert_true(is_untouched_but(&s, cases[i].to, cases[i].to + cases[i].size_bytes));
	}
	scene_end(&s);
}

static void
a_write_gathers_its_pieces(void **state)
{
	struct scene s = scene_begin();
	struct far_piece pieces[FAR_PIECES_MAX];
	struct far_op op = contract_op(FAR_OP_WRITE, pieces, &s.remote, 19);
	const uint8_t *landed = s.lane_base + 19;
	(void)state;

	for (uint32_t i = 0; i < FAR_PIECES_MAX; i++) {
		pieces[i].addr = s.local->base + (size_t)(FAR_PIECES_MAX - i) * 300;
		pieces[i].size_bytes = 1 + i * 17;
		pieces[i].mem = s.local->mem;
	}
	op.piece_count = FAR_PIECES_MAX;
	op.token = contract_token(s.client);
	contract_post(s.client, &op, 1);
	contract_wait(s.c, s.client->done[op.token]);
	assert_int_equal(s.client->status[op.token], 0);
	for (uint32_t i = 0; i < FAR_PIECES_MAX; i++) {
		assert_memory_equal(landed, pieces[i].addr, pieces[i].size_bytes);
		landed += pieces[i].size_bytes;
	}
	scene_end(&s);
}

/* Pieces of odd lengths at odd places; ops that do not ask between those that do. */
static void
a_write_that_asks_is_told_the_checksum_of_what_landed(void **state)
{
	enum { OPS = 150 };
	struct scene s = scene_begin();
	uint32_t crcs[OPS];
	(void)state;

	/* Where nobody tells them, nobody may ask. */
	for (uint32_t round = 0; round < 8 && s.client->link->sums_from != 0; round++) {
		struct far_piece pieces[OPS][3];
		struct far_op ops[OPS];
		uint32_t count = round % 2 == 0 ? OPS : 2;
		uint32_t each = (uint32_t)LANE_BYTES / count - round;

		contract_fill(s.local->base, WHOLE_BYTES, round);
		memset(crcs, 0xee, sizeof(crcs));
		for (uint32_t i = 0; i < count; i++) {
			uint8_t *at = s.local->base + (size_t)(i % 7) * 1001 + round;
			uint32_t cut = each / (2 + i % 5);

			pieces[i][0] = (struct far_piece){at, cut, s.local->mem};
			pieces[i][1] = (struct far_piece){at + 9999, 1, s.local->mem};
			pieces[i][2] = (struct far_piece){at + 333, each - cut - 1, s.local->mem};
			ops[i] =
				contract_op(FAR_OP_WRITE, pieces[i], &s.remote, (uint64_t)i * each);
			ops[i].piece_count = 3;
			ops[i].crc32c = i % 5 != 3 ? &crcs[i] : NULL;
		}
		ops[count - 1].token = contract_token(s.client);
		contract_post(s.client, ops, (int)count);
		contract_wait(s.c, s.client->done[ops[count - 1].token]);
		assert_int_equal(s.client->status[ops[count - 1].token], 0);
		contract_settle(s.c);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t crc = far_crc32c(0, s.lane_base + (size_t)i * each, each);

			assert_int_equal(crcs[i], ops[i].crc32c != NULL ? crc : 0xeeeeeeee);
		}
	}
	scene_end(&s);
}

static void
a_write_beyond_its_grant_is_refused(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t size_bytes;
	} cases[] = {
		{(uint64_t)-1, 1},   {(uint64_t)-1, 2},   {LANE_BYTES, 1},
		{LANE_BYTES - 1, 2}, {0, LANE_BYTES + 1}, {LANE_BYTES + 64, 64},
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct scene s = scene_begin();
		int rc;

		rc = contract_write(s.client, s.local, 0, &s.remote, cases[i].offset,
				    cases[i].size_bytes);
		assert_int_equal(rc, -EACCES);
		contract_settle(s.c);
		assert_true(is_untouched_but(&s, 0, 0));
		scene_end(&s);
	}
}

static void
a_key_for_reading_does_not_write(void **state)
{
	struct scene s = scene_begin();
	struct contract_mem *region;
	(void)state;

	if ((s.c->tp[DONOR]->caps.flags & FAR_CAP_READ_ONLY_KEYS) != 0) {
		region = contract_mem_new(s.c, DONOR, 4096, FAR_RIGHT_REMOTE_READ, NULL);
		contract_mem_expose(region, s.donor);
		assert_int_equal(contract_write(s.client, s.local, 0, &region->mem->remote, 0, 64),
				 -EACCES);
		contract_settle(s.c);
		assert_true(contract_is_all(region->base, 4096, 0));
	}
	scene_end(&s);
}

static void
a_grant_is_for_one_link(void **state)
{
	struct scene s = scene_begin();
	struct contract_end *donor;
	struct contract_end *other;
	int rc;
	(void)state;

	contract_connect(s.c, &donor, &other);
	rc = contract_write(other, s.local, 0, &s.remote, 0, 64);
	assert_true(rc == -EACCES || rc == -ESTALE);
	contract_settle(s.c);
	assert_true(is_untouched_but(&s, 0, 0));
	/* Not even where its key is handed round. The refusal may have cost the link. */
	if (other->lost > 0) {
		contract_disconnect(other);
		contract_disconnect(donor);
		contract_connect(s.c, &donor, &other);
	}
	contract_mem_expose(&(struct contract_mem){.mem = s.lane}, donor);
	assert_true(contract_write(other, s.local, 0, &s.remote, 0, 64) < 0);
	contract_settle(s.c);
	assert_true(is_untouched_but(&s, 0, 0));
	/* The one that has it can still use it. */
	assert_int_equal(contract_write(s.client, s.local, 0, &s.remote, 0, 64), 0);
	scene_end(&s);
}

static void
a_grant_dies_with_its_link(void **state)
{
	struct scene s = scene_begin();
	struct contract_end *donor;
	struct contract_end *again;
	int rc;
	(void)state;

	contract_disconnect(s.client);
	contract_wait(s.c, s.donor->lost == 1);
	contract_disconnect(s.donor);
	contract_connect(s.c, &donor, &again);
	rc = contract_write(again, s.local, 0, &s.remote, 0, 64);
	assert_true(rc == -EACCES || rc == -ESTALE);
	contract_settle(s.c);
	assert_true(is_untouched_but(&s, 0, 0));
	scene_end(&s);
}

/* Fills the queue with WRITEs of everything; their ends are not waited for. */
static void
write_much(struct scene *s)
{
	struct far_piece pieces[16];
	struct far_op ops[16];

	for (uint32_t i = 0; i < 16; i++) {
		uint32_t size_bytes = LANE_BYTES / 16;

		pieces[i] = (struct far_piece){s->local->base + (size_t)i * size_bytes, size_bytes,
					       s->local->mem};
		ops[i] =
			contract_op(FAR_OP_WRITE, &pieces[i], &s->remote, (uint64_t)i * size_bytes);
		ops[i].token = s->client->token_last + 1 + i;
	}
	if (far_transport_post(s->client->link, ops, 16) == 0)
		for (int i = 0; i < 16; i++)
			contract_token(s->client);
}

static void
after_deregistration_nothing_lands(void **state)
{
	static uint8_t snapshot[WHOLE_BYTES];
	(void)state;

	for (int steps = 0; steps < 40; steps += contract_stride()) {
		struct scene s = scene_begin();

		if ((s.c->tp[DONOR]->caps.flags & FAR_CAP_FENCED_WRITES) == 0) {
			scene_end(&s);
			skip();
		}
		for (int i = 0; i < 4; i++)
			write_much(&s);
		/* Somewhere in the middle of them: */
		contract_deadline_set(s.c);
		for (int i = 0; i < steps * 2; i++)
			contract_step(s.c, "a few steps");
		far_transport_mem_dereg(s.lane);
		s.lane = NULL;
		memcpy(snapshot, s.whole->base, WHOLE_BYTES);
		contract_wait(s.c, s.client->done_count == s.client->token_last);
		contract_settle(s.c);
		assert_memory_equal(snapshot, s.whole->base, WHOLE_BYTES);
		scene_end(&s);
	}
}

static void
after_the_link_closed_nothing_lands(void **state)
{
	static uint8_t snapshot[WHOLE_BYTES];
	(void)state;

	for (int steps = 0; steps < 40; steps += contract_stride()) {
		struct scene s = scene_begin_with(steps % 2 == 0);

		for (int i = 0; i < 4; i++)
			write_much(&s);
		contract_deadline_set(s.c);
		for (int i = 0; i < steps * 2; i++)
			contract_step(s.c, "a few steps");
		contract_disconnect(s.donor);
		memcpy(snapshot, s.whole->base, WHOLE_BYTES);
		contract_wait(s.c, s.client->done_count == s.client->token_last);
		contract_settle(s.c);
		assert_memory_equal(snapshot, s.whole->base, WHOLE_BYTES);
		scene_end(&s);
	}
}

/* ---- what is sent behind ---- */

struct behind {
	struct scene *s;
	uint32_t round;
	uint32_t seen;
};

static void
all_is_there(struct contract_end *end)
{
	struct behind *b = end->arg;
	uint32_t round;

	assert_int_equal(end->message_bytes, sizeof(round));
	memcpy(&round, end->message, sizeof(round));
	assert_int_equal(round, b->seen++);
	/* Read in the handler itself: the bytes of this round are there now, or never were. */
	assert_true(contract_is_filled(b->s->lane_base, 20000, round));
	assert_true(contract_is_filled(b->s->lane_base + 20000, 20000, round + 1000));
}

static void
a_message_behind_writes_finds_their_bytes(void **state)
{
	struct scene s = scene_begin();
	struct behind b = {.s = &s};
	(void)state;

	s.donor->on_message = all_is_there;
	s.donor->arg = &b;
	for (uint32_t round = 0; round < 30; round++) {
		struct far_piece pieces[3] = {
			{s.local->base, 100, s.local->mem},
			{s.local->base + 100, 19900, s.local->mem},
			{s.local->base + 20000, 20000, s.local->mem},
		};
		struct far_op ops[3];

		contract_fill(s.local->base, 20000, round);
		contract_fill(s.local->base + 20000, 20000, round + 1000);
		ops[0] = contract_op(FAR_OP_WRITE, &pieces[0], &s.remote, 0);
		ops[1] = contract_op(FAR_OP_WRITE, &pieces[1], &s.remote, 100);
		ops[2] = contract_op(FAR_OP_WRITE, &pieces[2], &s.remote, 20000);
		/* In one list, or in two. */
		ops[1].token = round % 2 == 1 ? contract_token(s.client) : 0;
		ops[2].token = contract_token(s.client);
		if (round % 2 == 1) {
			contract_post(s.client, ops, 2);
			contract_post(s.client, &ops[2], 1);
		} else {
			contract_post(s.client, ops, 3);
		}
		contract_send(s.client, &round, sizeof(round));
		/* The next round overwrites: let this one be seen first. */
		contract_wait(s.c, b.seen == round + 1);
		contract_wait(s.c, s.client->done_count == s.client->token_last);
	}
	assert_int_equal(s.client->failed_count, 0);
	scene_end(&s);
}

static void
a_completed_write_needs_its_source_no_more(void **state)
{
	struct scene s = scene_begin();
	(void)state;

	for (uint64_t round = 0; round < 20; round++) {
		contract_fill(s.local->base, LANE_BYTES, round);
		assert_int_equal(contract_write(s.client, s.local, 0, &s.remote, 0, LANE_BYTES), 0);
		memset(s.local->base, 0xff, LANE_BYTES);
		contract_settle(s.c);
		assert_true(contract_is_filled(s.lane_base, LANE_BYTES, round));
	}
	scene_end(&s);
}

static void
a_fenced_write_starts_after_the_reads_before_it(void **state)
{
	struct scene s = scene_begin();
	struct contract_mem *region;
	struct far_piece piece = {s.local->base, 16384, s.local->mem};
	struct far_op ops[2];
	(void)state;

	region = contract_mem_new(s.c, DONOR, 16384, FAR_RIGHT_REMOTE_READ, NULL);
	contract_mem_expose(region, s.donor);
	/* From the donor, back to the donor: what is written is what was read. */
	for (uint64_t round = 0; round < 20; round++) {
		contract_fill(region->base, 16384, round);
		ops[0] = contract_op(FAR_OP_READ, &piece, &region->mem->remote, 0);
		ops[1] = contract_op(FAR_OP_WRITE, &piece, &s.remote, 0);
		ops[1].flags = FAR_OP_FENCE;
		ops[1].token = contract_token(s.client);
		contract_post(s.client, ops, 2);
		contract_wait(s.c, s.client->done[ops[1].token]);
		assert_int_equal(s.client->status[ops[1].token], 0);
		assert_true(contract_is_filled(s.lane_base, 16384, round));
	}
	scene_end(&s);
}

/* A COMMIT behind a WRITE that never ran would publish bytes that nobody wrote. */
static void
a_message_behind_a_write_that_failed_does_not_arrive(void **state)
{
	struct scene s = scene_begin();
	struct far_piece piece = {s.local->base, 64, s.local->mem};
	struct far_remote unknown = s.remote;
	struct far_op op;
	uint32_t before = s.donor->message_count;
	int rc;
	(void)state;

	memset(&unknown.rkey, 0xa5, sizeof(unknown.rkey));
	op = contract_op(FAR_OP_WRITE, &piece, &unknown, 0);
	op.token = contract_token(s.client);
	contract_post(s.client, &op, 1);
	rc = far_transport_send(s.client->link, "commit", 6);
	assert_true(rc == 0 || rc == -EAGAIN || rc == -ENOTCONN);
	contract_wait(s.c, s.client->done[op.token]);
	assert_true(s.client->status[op.token] < 0);
	contract_settle(s.c);
	assert_int_equal(s.donor->message_count, before);
	assert_true(is_untouched_but(&s, 0, 0));
	scene_end(&s);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_write_lands_where_it_was_granted_and_nowhere_else),
	cmocka_unit_test(a_write_gathers_its_pieces),
	cmocka_unit_test(a_write_that_asks_is_told_the_checksum_of_what_landed),
	cmocka_unit_test(a_write_beyond_its_grant_is_refused),
	cmocka_unit_test(a_key_for_reading_does_not_write),
	cmocka_unit_test(a_grant_is_for_one_link),
	cmocka_unit_test(a_grant_dies_with_its_link),
	cmocka_unit_test(after_deregistration_nothing_lands),
	cmocka_unit_test(after_the_link_closed_nothing_lands),
	cmocka_unit_test(a_message_behind_writes_finds_their_bytes),
	cmocka_unit_test(a_message_behind_a_write_that_failed_does_not_arrive),
	cmocka_unit_test(a_completed_write_needs_its_source_no_more),
	cmocka_unit_test(a_fenced_write_starts_after_the_reads_before_it),
};

const struct contract_tests contract_writes = {"writes", tests, sizeof(tests) / sizeof(tests[0])};
