/* op.c - the loop is as unkind as it says: each unkindness is seen to happen, and fences hold. */
#include "tests/unit/transport/loop/loop_world.h"

#define LINE_BYTES 64

static struct far_loop_counts
counts(const struct world *w)
{
	struct far_loop_counts c;

	far_loop_counts_get(w->fabric, &c);
	return c;
}

/* ---- reordered READs ---- */

/* Whether reads of the whole region, during writes of it from front to back, ever mix lines so that
 * a later line is older than an earlier one and one later still is newer. */
static bool
a_read_sees_a_mixture(const struct far_loop_config *config)
{
	struct world *w = world_open(config);
	bool mixture = false;

	for (uint64_t token = 1; token <= 100; token++) {
		uint32_t changes = 0;
		size_t line = 0;

		memset(w->region_bytes, 0, WORLD_REGION_BYTES);
		world_post(w, FAR_OP_READ, 0, WORLD_REGION_BYTES, token);
		while (w->client.status[token] == 1) {
			world_step(w);
			for (int i = 0; i < 8 && line < WORLD_REGION_BYTES / LINE_BYTES; i++)
				memset(w->region_bytes + line++ * LINE_BYTES, 1, LINE_BYTES);
		}
		for (size_t i = 1; i < WORLD_REGION_BYTES / LINE_BYTES; i++)
			changes += w->local_bytes[i * LINE_BYTES] !=
				   w->local_bytes[(i - 1) * LINE_BYTES];
		mixture |= changes > 1; /* sampled at one moment there is one border at most */
		/* But no line is torn in itself. */
		for (size_t i = 0; i < WORLD_REGION_BYTES; i++)
			assert_int_equal(w->local_bytes[i],
					 w->local_bytes[i / LINE_BYTES * LINE_BYTES]);
	}
	world_close(w);
	return mixture;
}

static void
lines_of_a_read_are_sampled_in_any_order_where_asked(void **state)
{
	struct far_loop_config config = {.seed = 1, .latency_ns_max = 10000};
	(void)state;

	assert_false(a_read_sees_a_mixture(&config));
	config.reorder = true;
	assert_true(a_read_sees_a_mixture(&config));
}

/* ---- the reader that validates, as the remote adapter does ---- */

/*
 * The slot is line 0: a generation, 0 while the extent changes. The extent is the next 16 lines,
 * all of the generation. The donor moves on in small steps.
 */
#define EXTENT_LINES 16

struct mutator {
	uint64_t generation;
	uint32_t line; /* next to write; EXTENT_LINES: publish */
};

static void
mutate(struct world *w, struct mutator *m, struct far_rng *rng)
{
	uint64_t *slot = (uint64_t *)(void *)w->region_bytes;

	if (*slot != 0 && far_rng_below(rng, 12) > 0)
		return; /* most of the time it can be read */
	for (uint64_t i = far_rng_below(rng, 10); i > 0; i--) {
		if (m->line == 0 && *slot != 0) {
			*slot = 0;
			m->generation++;
			return; /* visible before the first byte changes */
		}
		if (m->line == EXTENT_LINES) {
			*slot = m->generation;
			m->line = 0;
			return;
		}
		m->line++;
		for (int word = 0; word < 8; word++)
			slot[m->line * 8 + (uint32_t)word] = m->generation;
	}
}

/* Returns how often a reader believed bytes that were not of the slot's generation. */
static uint32_t
count_wrong_beliefs(uint64_t seed, uint32_t flags, uint32_t *believed_out)
{
	struct far_loop_config config = {
		.seed = seed,
		.latency_ns_min = 100,
		.latency_ns_max = 5000,
		.reorder = true,
		.reexecute = 10000,
	};
	struct world *w = world_open(&config);
	uint64_t *before = (uint64_t *)(void *)w->local_bytes;
	uint64_t *after = (uint64_t *)(void *)(w->local_bytes + 3072);
	uint64_t *extent = (uint64_t *)(void *)(w->local_bytes + LINE_BYTES);
	struct far_piece pieces[2] = {
		{extent, EXTENT_LINES * LINE_BYTES, w->local},
		{after, LINE_BYTES, w->local},
	};
	struct mutator m = {.generation = 1};
	struct far_rng rng;
	uint32_t wrong = 0;

	far_rng_init(&rng, seed);
	for (uint64_t token = 1; token + 1 < WORLD_TOKENS_MAX; token += 2) {
		struct far_op ops[2] = {
			world_op(w, FAR_OP_READ, &pieces[0], LINE_BYTES, 0),
			world_op(w, FAR_OP_READ, &pieces[1], 0, token + 1),
		};

		world_post(w, FAR_OP_READ, 0, LINE_BYTES, token);
		while (w->client.status[token] == 1) {
			world_step(w);
			mutate(w, &m, &rng);
		}
		if (*before == 0)
			continue;
		ops[1].flags = flags;
		assert_int_equal(far_transport_post(w->client.link, ops, 2), 0);
		while (w->client.status[token + 1] == 1) {
			world_step(w);
			if (far_rng_below(&rng, 2) == 0)
				mutate(w, &m, &rng);
		}
		if (*after != *before)
			continue; /* rejected, as it should be */
		(*believed_out)++;
		for (int word = 0; word < EXTENT_LINES * 8; word++) {
			if (extent[word] == *before)
				continue;
			wrong++;
			break;
		}
	}
	world_close(w);
	return wrong;
}

static void
a_reader_without_the_fence_is_caught_and_one_with_it_never(void **state)
{
	uint32_t wrong_without = 0;
	uint32_t believed = 0;
	uint32_t ignored = 0;
	(void)state;

	for (uint64_t seed = 1; seed <= 8; seed++) {
		wrong_without += count_wrong_beliefs(seed, 0, &ignored);
		assert_int_equal(count_wrong_beliefs(seed, FAR_OP_FENCE, &believed), 0);
	}
	assert_true(wrong_without > 100);
	assert_true(believed > 1000); /* it did not just reject everything */
}

static void
a_repeated_read_mixes_old_and_new(void **state)
{
	struct far_loop_config config = {.seed = 3, .latency_ns_max = 10000, .reexecute = 65536};
	struct world *w = world_open(&config);
	uint32_t mixed = 0;
	(void)state;

	/* In order and in one moment but for the repetition. */
	for (uint64_t token = 1; token <= 100; token++) {
		uint32_t old = 0;
		uint8_t value = 0;

		memset(w->region_bytes, 0, WORLD_REGION_BYTES);
		world_post(w, FAR_OP_READ, 0, WORLD_REGION_BYTES, token);
		while (w->client.status[token] == 1) {
			world_step(w);
			memset(w->region_bytes, ++value, WORLD_REGION_BYTES);
		}
		for (size_t i = 0; i < WORLD_REGION_BYTES; i += LINE_BYTES)
			old += w->local_bytes[i] == 0;
		mixed += old > 0 && old < WORLD_REGION_BYTES / LINE_BYTES;
	}
	assert_int_equal(counts(w).reexecuted, 100);
	assert_true(mixed > 50);
	world_close(w);
}

/* ---- WRITEs ---- */

static void
lines_of_writes_land_in_any_order_where_asked(void **state)
{
	struct far_loop_config config = {.seed = 5, .latency_ns_max = 10000, .reorder = true};
	struct world *w = world_open(&config);
	bool gap = false;
	bool overtaken = false;
	(void)state;

	memset(w->local_bytes, 1, WORLD_REGION_BYTES);
	for (uint64_t token = 1; token <= 100; token += 2) {
		memset(w->region_bytes, 0, WORLD_REGION_BYTES);
		world_post(w, FAR_OP_WRITE, 0, 2048, token);
		world_post(w, FAR_OP_WRITE, 2048, 2048, token + 1);
		while (w->client.status[token] == 1 || w->client.status[token + 1] == 1) {
			world_step(w);
			for (size_t i = LINE_BYTES; i < 2048; i += LINE_BYTES)
				gap |= w->region_bytes[i] == 1 &&
				       w->region_bytes[i - LINE_BYTES] == 0;
			overtaken |= w->region_bytes[2048] == 1 && w->region_bytes[0] == 0;
		}
		for (size_t i = 0; i < WORLD_REGION_BYTES; i++)
			assert_int_equal(w->region_bytes[i], 1);
	}
	assert_true(gap);
	assert_true(overtaken);
	assert_true(counts(w).lines_reordered > 1000);
	world_close(w);
}

static void
a_write_may_land_after_the_donor_heard_of_the_loss(void **state)
{
	uint32_t landed = 0;
	(void)state;

	/* That is why a lane is given on only after its key, or its link, is gone. */
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct far_loop_config config = {
			.seed = seed,
			.latency_ns_max = 10000,
			.reorder = true,
			.drop_link = 65536,
		};
		struct world *w = world_open(&config);
		uint8_t at_loss[WORLD_REGION_BYTES];

		memset(w->local_bytes, 1, WORLD_REGION_BYTES);
		for (uint64_t token = 1; token <= 8; token++)
			world_post(w, FAR_OP_WRITE, (uint32_t)token * 400, 400, token);
		world_wait(w, w->donor.lost == 1);
		memcpy(at_loss, w->region_bytes, sizeof(at_loss));
		world_wait(w, w->client.done_count == 8);
		landed += memcmp(at_loss, w->region_bytes, sizeof(at_loss)) != 0;
		world_close(w);
	}
	assert_true(landed > 5);
}

/* ---- late, lost, flushed ---- */

static void
a_late_op_takes_longer_than_the_others(void **state)
{
	struct far_loop_config config = {
		.latency_ns_max = 1000, .late = 6554, .late_ns_max = 100000};
	struct world *w = world_open(&config);
	uint32_t late = 0;
	(void)state;

	for (uint64_t token = 1; token <= 1000; token++) {
		uint64_t start = far_clock_now(w->clock);

		world_post(w, FAR_OP_READ, 0, 64, token);
		world_wait(w, w->client.status[token] == 0);
		assert_true(far_clock_now(w->clock) - start <= 101000);
		late += far_clock_now(w->clock) - start > 1000;
	}
	assert_in_range(counts(w).late, 50, 150); /* a tenth of them */
	assert_true(late > 40);
	world_close(w);
}

static void
a_dropped_link_is_lost_at_both_ends_and_its_ops_end(void **state)
{
	struct far_loop_config config = {.latency_ns_max = 1000, .drop_link = 65536};
	struct world *w = world_open(&config);
	(void)state;

	for (uint64_t token = 1; token <= 10; token++)
		world_post(w, FAR_OP_READ, 0, 64, token);
	world_wait(w, w->client.lost == 1 && w->donor.lost == 1 && w->client.done_count == 10);
	for (uint64_t token = 1; token <= 10; token++)
		assert_int_equal(w->client.status[token], -ECONNRESET);
	assert_int_equal(w->client.lost_status, -ECONNRESET);
	assert_int_equal(counts(w).links_dropped, 1);
	assert_int_equal(counts(w).flushed, 10);
	world_close(w);
}

static void
a_kind_fabric_takes_no_liberties(void **state)
{
	struct world *w = world_open(NULL);
	(void)state;

	for (uint64_t token = 1; token <= 200; token++)
		world_post(w, token % 2 ? FAR_OP_READ : FAR_OP_WRITE, 0, 4096, token);
	world_wait(w, w->client.done_count == 200);
	assert_int_equal(counts(w).ops, 200);
	assert_int_equal(counts(w).messages, 1);
	assert_int_equal(counts(w).lines_reordered, 0);
	assert_int_equal(counts(w).reexecuted, 0);
	assert_int_equal(counts(w).links_dropped, 0);
	assert_int_equal(counts(w).late, 0);
	assert_int_equal(counts(w).flushed, 0);
	world_close(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_a_read_are_sampled_in_any_order_where_asked),
		cmocka_unit_test(a_reader_without_the_fence_is_caught_and_one_with_it_never),
		cmocka_unit_test(a_repeated_read_mixes_old_and_new),
		cmocka_unit_test(lines_of_writes_land_in_any_order_where_asked),
		cmocka_unit_test(a_write_may_land_after_the_donor_heard_of_the_loss),
		cmocka_unit_test(a_late_op_takes_longer_than_the_others),
		cmocka_unit_test(a_dropped_link_is_lost_at_both_ends_and_its_ops_end),
		cmocka_unit_test(a_kind_fabric_takes_no_liberties),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
