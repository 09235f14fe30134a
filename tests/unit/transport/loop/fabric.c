/* fabric.c - the fabric's time moves only in steps, and its chance comes from the seed alone. */
#include "tests/unit/transport/loop/loop_world.h"

static const struct far_loop_config unkind = {
	.seed = 1,
	.latency_ns_min = 500,
	.latency_ns_max = 9000,
	.reorder = true,
	.reexecute = 20000,
	.late = 3000,
	.late_ns_max = 50000,
};

static void
time_stands_still_without_steps(void **state)
{
	struct world *w = world_open(&unkind);
	uint64_t now = far_clock_now(w->clock);
	(void)state;

	world_post(w, FAR_OP_READ, 0, 64, 1);
	far_transport_poll(w->client_tp, 16);
	assert_int_equal(far_clock_now(w->clock), now);
	assert_int_equal(w->client.done_count, 0);
	world_close(w);
}

static void
a_step_goes_to_the_next_thing_and_no_further(void **state)
{
	struct world *w = world_open(&unkind);
	uint64_t start;
	uint64_t before;
	(void)state;

	while (far_loop_step(w->fabric, far_clock_now(w->clock) + FAR_NS_PER_S))
		;
	start = before = far_clock_now(w->clock);
	world_post(w, FAR_OP_READ, 0, 4096, 1);
	while (far_loop_step(w->fabric, start + FAR_NS_PER_S)) {
		assert_true(far_clock_now(w->clock) >= before);
		assert_true(far_clock_now(w->clock) <= start + 59000);
		before = far_clock_now(w->clock);
	}
	assert_int_equal(far_clock_now(w->clock), start + FAR_NS_PER_S);
	/* With no bound and nothing due it does not run to the end of time. */
	assert_false(far_loop_step(w->fabric, FAR_TIME_NEVER));
	assert_int_equal(far_clock_now(w->clock), start + FAR_NS_PER_S);
	/* Nor back. */
	assert_false(far_loop_step(w->fabric, start));
	assert_int_equal(far_clock_now(w->clock), start + FAR_NS_PER_S);
	assert_int_equal(far_transport_poll(w->client_tp, 16), 1);
	world_close(w);
}

static void
an_op_takes_the_latency_that_was_configured(void **state)
{
	struct far_loop_config config = {.latency_ns_min = 1000, .latency_ns_max = 3000};
	struct world *w = world_open(&config);
	uint64_t least = UINT64_MAX;
	uint64_t most = 0;
	(void)state;

	for (uint64_t token = 1; token <= 500; token++) {
		uint64_t start = far_clock_now(w->clock);
		uint64_t took;

		world_post(w, FAR_OP_READ, 0, 64, token);
		world_wait(w, w->client.status[token] == 0);
		took = far_clock_now(w->clock) - start;
		least = took < least ? took : least;
		most = took > most ? took : most;
	}
	assert_in_range(least, 1000, 1050);
	assert_in_range(most, 2950, 3000);
	world_close(w);
}

static void
an_impossible_configuration_is_refused(void **state)
{
	struct far_loop_config config = {.latency_ns_min = 2, .latency_ns_max = 1};
	struct far_loop_fabric *fabric = NULL;
	(void)state;

	assert_int_equal(far_loop_fabric_open(&config, &fabric), -EINVAL);
	config = (struct far_loop_config){.late_ns_max = UINT64_MAX};
	assert_int_equal(far_loop_fabric_open(&config, &fabric), -EINVAL);
	assert_null(fabric);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

/* A busy hour: reads, writes, messages, a lost link and a new one. */
static uint64_t
life(uint64_t seed)
{
	struct far_loop_config config = unkind;
	struct far_rng rng;
	struct world *w;
	uint64_t trace;
	uint64_t token = 0;

	config.seed = seed;
	w = world_open(&config);
	far_rng_init(&rng, 42);
	for (int round = 0; round < 400; round++) {
		uint32_t offset = (uint32_t)far_rng_below(&rng, 2048);
		uint32_t size_bytes = 1 + (uint32_t)far_rng_below(&rng, 2048);
		enum far_op_kind kind = far_rng_below(&rng, 3) == 0 ? FAR_OP_WRITE : FAR_OP_READ;

		world_post(w, kind, offset, size_bytes, ++token);
		if (round % 7 == 0)
			far_transport_send(w->client.link, &round, sizeof(round));
		w->region_bytes[far_rng_below(&rng, 4096)]++;
		for (int i = 0; i < round % 5; i++)
			world_step(w);
		for (size_t i = 0; i < 4096; i += 97)
			w->trace = far_mix64(w->trace ^ w->local_bytes[i]);
		if (round == 200) {
			world_disconnect(w);
			world_connect(w);
			token = 0;
		}
	}
	world_wait(w, w->client.done_count == token);
	trace = w->trace;
	world_close(w);
	return trace;
}

static void
the_same_seed_gives_the_same_trace(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 5; seed++)
		assert_true(life(seed) == life(seed));
}

static void
another_seed_gives_another_trace(void **state)
{
	(void)state;
	assert_true(life(1) != life(2));
	assert_true(life(2) != life(3));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_stands_still_without_steps),
		cmocka_unit_test(a_step_goes_to_the_next_thing_and_no_further),
		cmocka_unit_test(an_op_takes_the_latency_that_was_configured),
		cmocka_unit_test(an_impossible_configuration_is_refused),
		cmocka_unit_test(the_same_seed_gives_the_same_trace),
		cmocka_unit_test(another_seed_gives_another_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
