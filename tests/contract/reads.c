/* reads.c - contract: READs bring the bytes of exactly what was asked for, fences hold. */
#include "tests/contract/contract.h"

#include <stdatomic.h>

#include "base/checksum.h"

#define REGION_BYTES ((size_t)256 * 1024)
#define PAGE_BYTES   4096U
#define BIG_BYTES    (64U * 1024U * 1024U)
#define BIG_COUNT    2U
#define SMALL_BYTES  64U
#define SMALL_COUNT  10U
/* Of the big ones, between two small ones: a window, and what sockets hold. */
#define SMALL_LAG_BYTES (8U * 1024U * 1024U)

/* A donor's region, filled, exposed; and memory of the client's to read into. */
struct scene {
	struct contract *c;
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *region;
	struct contract_mem *local;
	struct far_remote remote;
};

static struct scene
scene_begin(void)
{
	struct scene s = {.c = contract_begin()};

	contract_connect(s.c, &s.donor, &s.client);
	s.region = contract_mem_new(s.c, DONOR, REGION_BYTES, FAR_RIGHT_REMOTE_READ, NULL);
	contract_fill(s.region->base, REGION_BYTES, 7);
	s.local = contract_mem_new(s.c, CLIENT, REGION_BYTES, FAR_RIGHT_LOCAL, NULL);
	contract_mem_expose(s.region, s.donor);
	s.remote = s.region->mem->remote;
	return s;
}

static void
a_read_brings_the_bytes_and_no_others(void **state)
{
	struct scene s = scene_begin();
	static const struct {
		size_t to;
		uint64_t from;
		uint32_t size_bytes;
	} cases[] = {
		{0, 0, 1},
		{0, 0, 64},
		{3, 5, 7},
		{64, 63, 2},
		{100, 1, 4096},
		{1, 4095, 2},
		{17, 33, 1000},
		{0, REGION_BYTES - 1, 1},
		{0, 0, REGION_BYTES},
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t end = cases[i].to + cases[i].size_bytes;
		int rc;

		memset(s.local->base, 0xee, REGION_BYTES);
		rc = contract_read(s.client, s.local, cases[i].to, &s.remote, cases[i].from,
				   cases[i].size_bytes);
		assert_int_equal(rc, 0);
		assert_memory_equal(s.local->base + cases[i].to, s.region->base + cases[i].from,
				    cases[i].size_bytes);
		assert_true(contract_is_all(s.local->base, cases[i].to, 0xee));
		assert_true(contract_is_all(s.local->base + end, REGION_BYTES - end, 0xee));
	}
	contract_close(s.c);
}

/* Pieces of odd lengths at odd places, some longer than what is copied in one go; ops that do not ask between
 * those that do, and a fenced one. */
static void
a_read_that_asks_is_told_the_checksum_of_what_landed(void **state)
{
	enum { OPS = 40, SIZES = 10 };
	static const uint32_t sizes[SIZES] = {1,    63,   64,   100,   1024,
					      1025, 4096, 5000, 65536, 200000};
	struct scene s = scene_begin();
	struct contract_mem *local =
		contract_mem_new(s.c, CLIENT, (size_t)8 * REGION_BYTES, FAR_RIGHT_LOCAL, NULL);
	uint32_t crcs[OPS];
	(void)state;

	/* Where nobody tells them, nobody may ask. */
	for (uint32_t round = 0; round < 4 && s.client->link->sums_reads; round++) {
		struct far_piece pieces[OPS][2];
		struct far_op ops[OPS];
		uint8_t *at = local->base;

		memset(crcs, 0xee, sizeof(crcs));
		for (uint32_t i = 0; i < OPS; i++) {
			uint32_t size = sizes[(i + round) % SIZES];
			uint32_t cut = i % 3 == 0 || size == 1 ? size : size / 3;

			pieces[i][0] = (struct far_piece){at, cut, local->mem};
			pieces[i][1] = (struct far_piece){at + cut + 1, size - cut, local->mem};
			at += size + 1 + round;
			ops[i] = contract_op(FAR_OP_READ, pieces[i], &s.remote, 17ULL * i * round);
			ops[i].piece_count = cut < size ? 2 : 1;
			ops[i].crc32c = i % 5 != 3 ? &crcs[i] : NULL;
			ops[i].flags = i % 16 == 7 ? FAR_OP_FENCE : 0;
		}
		ops[OPS - 1].token = contract_token(s.client);
		contract_post(s.client, ops, OPS);
		contract_wait(s.c, s.client->done[ops[OPS - 1].token]);
		assert_int_equal(s.client->status[ops[OPS - 1].token], 0);
		for (uint32_t i = 0; i < OPS; i++) {
			const uint8_t *from = s.region->base + 17ULL * i * round;
			uint32_t crc = far_crc32c(0, from, sizes[(i + round) % SIZES]);

			assert_int_equal(crcs[i], ops[i].crc32c != NULL ? crc : 0xeeeeeeee);
		}
		contract_settle(s.c);
	}
	contract_close(s.c);
}

static void
a_read_lands_in_many_pieces_in_their_order(void **state)
{
	struct scene s = scene_begin();
	struct far_piece pieces[FAR_PIECES_MAX];
	struct far_op op = contract_op(FAR_OP_READ, pieces, &s.remote, 11);
	uint64_t offset = 11;
	size_t at = REGION_BYTES;
	(void)state;

	/* From the back, with gaps, of odd sizes. */
	for (uint32_t i = 0; i < FAR_PIECES_MAX; i++) {
		pieces[i].size_bytes = 1 + (i * 37) % 200;
		at -= pieces[i].size_bytes + 5;
		pieces[i].addr = s.local->base + at;
		pieces[i].mem = s.local->mem;
	}
	op.piece_count = FAR_PIECES_MAX;
	op.token = contract_token(s.client);
	contract_post(s.client, &op, 1);
	/* The list was copied, its pieces too. */
	at = 0;
	struct far_piece kept[FAR_PIECES_MAX];
	memcpy(kept, pieces, sizeof(kept));
	memset(pieces, 0, sizeof(pieces));
	contract_wait(s.c, s.client->done[op.token]);
	assert_int_equal(s.client->status[op.token], 0);
	for (uint32_t i = 0; i < FAR_PIECES_MAX; i++) {
		assert_memory_equal(kept[i].addr, s.region->base + offset, kept[i].size_bytes);
		offset += kept[i].size_bytes;
	}
	contract_close(s.c);
}

static void
a_token_covers_the_ops_before_it(void **state)
{
	struct scene s = scene_begin();
	struct far_piece pieces[100];
	struct far_op ops[100];
	uint64_t first;
	(void)state;

	first = s.client->token_last + 1;
	for (uint32_t i = 0; i < 100; i++) {
		pieces[i] = (struct far_piece){s.local->base + (size_t)i * 128, 128, s.local->mem};
		ops[i] = contract_op(FAR_OP_READ, &pieces[i], &s.remote, (uint64_t)i * 256);
		if (i % 10 == 9)
			ops[i].token = contract_token(s.client);
	}
	contract_post(s.client, ops, 100);
	for (uint64_t token = first; token <= s.client->token_last; token++) {
		uint32_t covered = (uint32_t)(token - first + 1) * 10;

		contract_wait(s.c, s.client->done[token]);
		assert_int_equal(s.client->status[token], 0);
		for (uint32_t i = 0; i < covered; i++)
			assert_memory_equal(s.local->base + (size_t)i * 128,
					    s.region->base + (size_t)i * 256, 128);
		/* In the order of the list: no later one without it. */
		for (uint64_t later = token + 1; later <= s.client->token_last; later++)
			if (s.client->done[later])
				assert_true(s.client->done[token]);
	}
	assert_int_equal(s.client->done_count, 10);
	contract_close(s.c);
}

static void
a_key_that_nobody_exposed_is_stale_and_only_for_its_token(void **state)
{
	struct scene s = scene_begin();
	struct contract_mem *hidden;
	struct far_remote unknown = s.remote;
	struct far_piece pieces[4];
	struct far_op ops[4];
	(void)state;

	hidden = contract_mem_new(s.c, DONOR, 4096, FAR_RIGHT_REMOTE_READ, NULL);
	memset(&unknown.rkey, 0xa5, sizeof(unknown.rkey));
	for (uint32_t i = 0; i < 4; i++)
		pieces[i] = (struct far_piece){s.local->base + (size_t)i * 64, 64, s.local->mem};
	ops[0] = contract_op(FAR_OP_READ, &pieces[0], &s.remote, 0);
	ops[1] = contract_op(FAR_OP_READ, &pieces[1], &unknown, 0);
	ops[2] = contract_op(FAR_OP_READ, &pieces[2], &s.remote, 0);
	ops[3] = contract_op(FAR_OP_READ, &pieces[3], &s.remote, 128);
	ops[2].token = contract_token(s.client);
	ops[3].token = contract_token(s.client);
	contract_post(s.client, ops, 4);
	contract_wait(s.c, s.client->done_count == s.client->token_last);
	assert_int_equal(s.client->status[ops[2].token], -ESTALE);
	assert_int_equal(s.client->status[ops[3].token], 0);
	assert_memory_equal(pieces[3].addr, s.region->base + 128, 64);

	/* A real key of memory that this link was not given. */
	assert_int_equal(contract_read(s.client, s.local, 0, &hidden->mem->remote, 0, 64), -ESTALE);
	assert_int_equal(s.client->lost, 0);
	assert_int_equal(contract_read(s.client, s.local, 0, &s.remote, 0, 64), 0);
	contract_close(s.c);
}

static void
a_read_outside_its_region_is_refused(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t size_bytes;
	} cases[] = {
		{REGION_BYTES - 63, 64}, {REGION_BYTES, 1},        {(uint64_t)-1, 1},
		{(uint64_t)-1, 2},       {0, REGION_BYTES + 4096}, {UINT64_MAX / 2, 64},
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* A new link for each: the refusal may cost it. */
		struct scene s = scene_begin();
		struct contract_mem *big;
		int rc;

		big = contract_mem_new(s.c, CLIENT, REGION_BYTES + 4096, FAR_RIGHT_LOCAL, NULL);
		rc = contract_read(s.client, big, 0, &s.remote, cases[i].offset,
				   cases[i].size_bytes);
		assert_int_equal(rc, -EACCES);
		contract_close(s.c);
	}
	{
		struct scene s = scene_begin();
		struct far_remote wrapped = s.remote;

		wrapped.addr = UINT64_MAX - 31;
		assert_int_equal(contract_read(s.client, s.local, 0, &wrapped, 0, 64), -EACCES);
		contract_close(s.c);
	}
}

static void
memory_that_is_only_written_is_not_read(void **state)
{
	struct scene s = scene_begin();
	struct contract_mem *lane;
	(void)state;

	lane = contract_mem_new(s.c, DONOR, 4096, FAR_RIGHT_REMOTE_WRITE, s.donor);
	contract_mem_expose(lane, s.donor);
	assert_int_equal(contract_read(s.client, s.local, 0, &lane->mem->remote, 0, 64), -EACCES);
	contract_close(s.c);
}

/* ---- fences ---- */

/* The donor counts: first in the last word, then in the first. */
static void
count_on(struct contract *c, void *arg)
{
	struct contract_mem *region = arg;
	_Atomic uint64_t *first = (_Atomic uint64_t *)(void *)region->base;
	_Atomic uint64_t *last = (_Atomic uint64_t *)(void *)(region->base + REGION_BYTES - 64);
	uint64_t number = atomic_load(last) + 1;
	(void)c;

	atomic_store(last, number);
	atomic_store(first, number);
}

static void
a_fenced_read_starts_after_the_reads_before_it(void **state)
{
	struct scene s = scene_begin();
	struct far_piece pieces[4] = {
		{s.local->base, 8, s.local->mem},
		{s.local->base + 4096, 16384, s.local->mem}, /* something that takes a while */
		{s.local->base + 64, 8, s.local->mem},
		{s.local->base + 128, 8, s.local->mem},
	};
	struct far_op ops[4] = {
		contract_op(FAR_OP_READ, &pieces[0], &s.remote, 0),
		contract_op(FAR_OP_READ, &pieces[1], &s.remote, 4096),
		contract_op(FAR_OP_READ, &pieces[2], &s.remote, REGION_BYTES - 64),
		contract_op(FAR_OP_READ, &pieces[3], &s.remote, REGION_BYTES - 64),
	};
	(void)state;

	ops[2].flags = FAR_OP_FENCE;
	ops[3].flags = FAR_OP_FENCE;
	s.c->on_step = count_on;
	s.c->on_step_arg = s.region;
	for (int i = 0; i < 200; i++) {
		uint64_t *first = (uint64_t *)(void *)s.local->base;
		uint64_t *last = (uint64_t *)(void *)(s.local->base + 64);
		uint64_t *again = (uint64_t *)(void *)(s.local->base + 128);

		ops[3].token = contract_token(s.client);
		contract_post(s.client, ops, 4);
		contract_wait(s.c, s.client->done[ops[3].token]);
		assert_int_equal(s.client->status[ops[3].token], 0);
		assert_true(*last >= *first);
		assert_true(*again >= *last);
	}
	contract_close(s.c);
}

static void
what_is_behind_a_fence_starts_no_earlier(void **state)
{
	struct scene s = scene_begin();
	struct far_piece pieces[4] = {
		{s.local->base, 8, s.local->mem},
		{s.local->base + 4096, 16384, s.local->mem}, /* something that takes a while */
		{s.local->base + 64, 8, s.local->mem},
		{s.local->base + 128, 8, s.local->mem},
	};
	struct far_op ops[4] = {
		contract_op(FAR_OP_READ, &pieces[0], &s.remote, 0),
		contract_op(FAR_OP_READ, &pieces[1], &s.remote, 4096),
		contract_op(FAR_OP_READ, &pieces[2], &s.remote, 64),
		contract_op(FAR_OP_READ, &pieces[3], &s.remote, REGION_BYTES - 64),
	};
	(void)state;

	ops[2].flags = FAR_OP_FENCE;
	s.c->on_step = count_on;
	s.c->on_step_arg = s.region;
	for (int i = 0; i < 200; i++) {
		uint64_t *first = (uint64_t *)(void *)s.local->base;
		uint64_t *behind = (uint64_t *)(void *)(s.local->base + 128);

		ops[3].token = contract_token(s.client);
		contract_post(s.client, ops, 4);
		contract_wait(s.c, s.client->done[ops[3].token]);
		assert_int_equal(s.client->status[ops[3].token], 0);
		assert_true(*behind >= *first);
	}
	contract_close(s.c);
}

/* ---- queues ---- */

static void
a_full_queue_is_an_answer_and_takes_all_or_nothing(void **state)
{
	struct scene s = scene_begin();
	struct far_piece pieces[64];
	struct far_op ops[64];
	uint32_t lists = 0;
	int rc;
	(void)state;

	for (uint32_t i = 0; i < 64; i++) {
		pieces[i] = (struct far_piece){s.local->base + (size_t)i * 64, 64, s.local->mem};
		ops[i] = contract_op(FAR_OP_READ, &pieces[i], &s.remote, (uint64_t)i * 64);
	}
	for (;;) {
		ops[63].token = s.client->token_last + 1;
		rc = far_transport_post(s.client->link, ops, 64);
		if (rc != 0)
			break;
		contract_token(s.client);
		assert_true(++lists < 10000);
	}
	assert_int_equal(rc, -EAGAIN);
	assert_true(lists >= 2);
	contract_wait(s.c, s.client->sendable >= 1);
	contract_wait(s.c, s.client->done_count == s.client->token_last);
	assert_int_equal(s.client->failed_count, 0);
	contract_settle(s.c);
	assert_int_equal(s.client->done_count, lists); /* nothing of the refused one ran */
	assert_int_equal(contract_read(s.client, s.local, 0, &s.remote, 0, 64), 0);
	contract_close(s.c);
}

static void
an_idle_link_takes_the_longest_list(void **state)
{
	static struct far_piece pieces[FAR_POST_OPS_MAX][FAR_PIECES_MAX];
	static struct far_op ops[FAR_POST_OPS_MAX];
	struct scene s = scene_begin();
	(void)state;

	for (uint32_t i = 0; i < FAR_POST_OPS_MAX; i++) {
		for (uint32_t j = 0; j < FAR_PIECES_MAX; j++) {
			uint32_t at = (i * FAR_PIECES_MAX + j) * 8;

			pieces[i][j] = (struct far_piece){s.local->base + at, 8, s.local->mem};
		}
		ops[i] = contract_op(FAR_OP_READ, pieces[i], &s.remote, (uint64_t)i * 128);
		ops[i].piece_count = FAR_PIECES_MAX;
	}
	ops[FAR_POST_OPS_MAX - 1].token = contract_token(s.client);
	/* Otherwise its owner would wait for a SENDABLE that never comes. */
	assert_int_equal(far_transport_post(s.client->link, ops, FAR_POST_OPS_MAX), 0);
	contract_wait(s.c, s.client->done_count == 1);
	assert_int_equal(s.client->failed_count, 0);
	assert_memory_equal(s.local->base, s.region->base, (size_t)FAR_POST_OPS_MAX * 128);
	contract_close(s.c);
}

static void
bytes_in_flight_are_bounded_where_asked(void **state)
{
	for (int per_link = 0; per_link < 2; per_link++) {
		struct contract *c = contract_open();
		struct contract_end *donor;
		struct contract_end *client;
		struct contract_mem *region;
		struct contract_mem *local;
		struct far_piece piece;
		struct far_op op;
		(void)state;

		if (per_link)
			c->config[CLIENT].peer_bytes_in_flight_max = 100000;
		else
			c->config[CLIENT].bytes_in_flight_max = 100000;
		contract_start(c);
		contract_connect(c, &donor, &client);
		region = contract_mem_new(c, DONOR, REGION_BYTES, FAR_RIGHT_REMOTE_READ, NULL);
		local = contract_mem_new(c, CLIENT, REGION_BYTES, FAR_RIGHT_LOCAL, NULL);
		contract_mem_expose(region, donor);
		piece = (struct far_piece){local->base, 60000, local->mem};
		op = contract_op(FAR_OP_READ, &piece, &region->mem->remote, 0);
		op.token = contract_token(client);
		assert_int_equal(far_transport_post(client->link, &op, 1), 0);
		assert_int_equal(far_transport_post(client->link, &op, 1), -EAGAIN);
		contract_wait(c, client->sendable >= 1 && client->done_count == 1);
		op.token = contract_token(client);
		assert_int_equal(far_transport_post(client->link, &op, 1), 0);
		contract_wait(c, client->done_count == 2);
		/* One op that is larger than the bound passes alone. */
		piece.size_bytes = REGION_BYTES;
		op.token = contract_token(client);
		contract_post(client, &op, 1);
		contract_wait(c, client->done_count == 3);
		assert_int_equal(client->failed_count, 0);
		contract_close(c);
	}
}

static void
random_lists_bring_the_right_bytes(void **state)
{
	struct scene s = scene_begin();
	static struct far_piece pieces[64][FAR_PIECES_MAX];
	struct far_op ops[64];
	(void)state;

	for (int round = 0; round < 30; round++) {
		int count = 1 + (int)far_rng_below(&s.c->rng, 64);
		size_t at = 0;

		for (int i = 0; i < count; i++) {
			uint32_t parts = 1 + (uint32_t)far_rng_below(&s.c->rng, FAR_PIECES_MAX);
			uint64_t from = far_rng_below(&s.c->rng, REGION_BYTES - 4096);

			ops[i] = contract_op(FAR_OP_READ, pieces[i], &s.remote, from);
			ops[i].piece_count = parts;
			ops[i].flags = far_rng_below(&s.c->rng, 4) == 0 ? FAR_OP_FENCE : 0;
			if (i == count - 1 || far_rng_below(&s.c->rng, 3) == 0)
				ops[i].token = contract_token(s.client);
			for (uint32_t j = 0; j < parts; j++) {
				uint32_t size_bytes = 1 + (uint32_t)far_rng_below(&s.c->rng, 250);

				pieces[i][j] = (struct far_piece){s.local->base + at, size_bytes,
								  s.local->mem};
				at += size_bytes;
			}
		}
		memset(s.local->base, 0, REGION_BYTES);
		contract_post(s.client, ops, count);
		contract_wait(s.c, s.client->done_count == s.client->token_last);
		for (int i = 0; i < count; i++) {
			const uint8_t *from = s.region->base;

			from += ops[i].remote_addr - s.remote.addr;
			for (uint32_t j = 0; j < ops[i].piece_count; j++) {
				assert_memory_equal(pieces[i][j].addr, from,
						    pieces[i][j].size_bytes);
				from += pieces[i][j].size_bytes;
			}
		}
	}
	assert_int_equal(s.client->failed_count, 0);
	contract_close(s.c);
}

/* How much of a buffer that was zeroed has been written, to a page. */
static size_t
landed_bytes(const struct contract_mem *mem)
{
	size_t landed = 0;

	for (size_t at = 0; at < mem->size_bytes; at += PAGE_BYTES)
		landed += contract_is_all(mem->base + at, 64, 0) ? 0 : PAGE_BYTES;
	return landed;
}

/* Two blocks of the largest size are on their way; then small ones, each asked for when the one before
 * it is here. No clock: what counts is how much of the big ones has come meanwhile. */
static void
small_reads_do_not_wait_for_big_ones_before_them(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor, *client;
	struct contract_mem *region, *local, *small;
	(void)state;

	if (!c->backend->lists_take_turns) {
		contract_close(c);
		skip();
	}
	contract_connect(c, &donor, &client);
	region = contract_mem_new(c, DONOR, BIG_BYTES, FAR_RIGHT_REMOTE_READ, NULL);
	contract_fill(region->base, BIG_BYTES, 7);
	local = contract_mem_new(c, CLIENT, BIG_COUNT * (size_t)BIG_BYTES, FAR_RIGHT_LOCAL, NULL);
	small = contract_mem_new(c, CLIENT, SMALL_BYTES, FAR_RIGHT_LOCAL, NULL);
	contract_mem_expose(region, donor);
	for (size_t i = 0; i < BIG_COUNT; i++) {
		struct far_piece piece = {local->base + i * BIG_BYTES, BIG_BYTES, local->mem};
		struct far_op op = contract_op(FAR_OP_READ, &piece, &region->mem->remote, 0);

		op.token = contract_token(client);
		contract_post(client, &op, 1);
	}
	contract_wait(c, landed_bytes(local) > 0);
	for (size_t i = 1; i <= SMALL_COUNT; i++) {
		uint64_t from = i * 1000;

		assert_int_equal(
			contract_read(client, small, 0, &region->mem->remote, from, SMALL_BYTES),
			0);
		assert_memory_equal(small->base, region->base + from, SMALL_BYTES);
		assert_true(landed_bytes(local) <= i * SMALL_LAG_BYTES);
	}
	assert_int_equal(client->done_count, SMALL_COUNT); /* not one of the big ones */
	contract_wait(c, client->done_count == SMALL_COUNT + BIG_COUNT);
	assert_int_equal(client->failed_count, 0);
	for (size_t i = 0; i < BIG_COUNT; i++)
		assert_memory_equal(local->base + i * BIG_BYTES, region->base, BIG_BYTES);
	contract_close(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_read_brings_the_bytes_and_no_others),
	cmocka_unit_test(a_read_lands_in_many_pieces_in_their_order),
	cmocka_unit_test(a_read_that_asks_is_told_the_checksum_of_what_landed),
	cmocka_unit_test(a_token_covers_the_ops_before_it),
	cmocka_unit_test(a_key_that_nobody_exposed_is_stale_and_only_for_its_token),
	cmocka_unit_test(a_read_outside_its_region_is_refused),
	cmocka_unit_test(memory_that_is_only_written_is_not_read),
	cmocka_unit_test(a_fenced_read_starts_after_the_reads_before_it),
	cmocka_unit_test(what_is_behind_a_fence_starts_no_earlier),
	cmocka_unit_test(a_full_queue_is_an_answer_and_takes_all_or_nothing),
	cmocka_unit_test(an_idle_link_takes_the_longest_list),
	cmocka_unit_test(bytes_in_flight_are_bounded_where_asked),
	cmocka_unit_test(random_lists_bring_the_right_bytes),
	cmocka_unit_test(small_reads_do_not_wait_for_big_ones_before_them),
};

const struct contract_tests contract_reads = {"reads", tests, sizeof(tests) / sizeof(tests[0])};
