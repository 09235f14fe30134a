/* roundtrip.c - blocks go out to adapters of the registry and come back through L1, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/alloc.h"
#include "l2/memory/memory.h"

#define MEMORIES 3

static struct ctl_rig rig;
static struct ctl_req req;
static struct far_l2 *memories[MEMORIES];

/* In place of the fakes: the controllers see nothing but the set. */
static void
open_memories(uint64_t latency_ns, uint64_t bytes_per_s)
{
	static const char *const names[MEMORIES] = {"m0", "m1", "m2"};
	struct ctl_options options = {
		.fakes = FAR_L2_SET_MAX, .placement = true, .store = true, .l1_blocks = 128};
	struct far_l2_env env = {0};

	ctl_rig_open(&rig, &options);
	far_alloc_unlock();
	env.clock = &rig.clock.clock;
	for (uint32_t i = 0; i < MEMORIES; i++) {
		struct far_l2_config config = {
			.type = "memory",
			.name = names[i],
			.capacity_bytes = 1U << 20,
			.latency_ns = latency_ns,
			.bytes_per_s = bytes_per_s,
		};
		char error[256];

		assert_int_equal(far_l2_open(&config, &env, &memories[i], error), 0);
		assert_int_equal(far_l2_set_add(&rig.set, memories[i]), 0);
	}
	far_alloc_lock();
}

static void
turn(void)
{
	uint64_t now_ns = far_clock_now(&rig.clock.clock);

	for (uint32_t i = 0; i < MEMORIES; i++)
		(void)far_l2_tick(memories[i], now_ns);
	(void)far_prefetch_tick(rig.prefetch, now_ns);
	(void)far_store_tick(rig.store, now_ns);
	far_clock_fake_advance(&rig.clock, 20 * FAR_NS_PER_US);
}

static void
close_memories(void)
{
	for (uint32_t i = 0; i < MEMORIES; i++) {
		struct far_l2_memory_counts counts;

		far_l2_memory_counts_get(memories[i], &counts);
		assert_int_equal(counts.locks, 0);
		assert_int_equal(counts.unlocks_unknown, 0);
		far_l2_quiesce(memories[i]);
		assert_true(far_l2_quiesced(memories[i]));
		far_l2_close(memories[i]);
	}
	memset(&rig.set, 0, sizeof(rig.set));
	ctl_rig_close(&rig);
}

static void
what_was_stored_comes_back_right(uint64_t latency_ns, uint64_t bytes_per_s)
{
	uint64_t barrier;

	open_memories(latency_ns, bytes_per_s);
	for (uint64_t i = 0; i < 60; i++)
		ctl_rig_write(&rig, i, 1 + (uint32_t)i * 67);
	barrier = far_store_barrier(rig.store);
	for (int i = 0; i < 2000 && !far_store_passed(rig.store, barrier); i++)
		turn();
	assert_true(far_store_passed(rig.store, barrier));
	assert_int_equal(far_l1_clear(rig.l1, false), 60);
	ctl_req_init(&req, &rig, 0, 64);
	ctl_req_submit(&req);
	for (int i = 0; i < 2000 && req.ended_count == 0; i++)
		turn();
	for (uint64_t i = 0; i < 60; i++)
		assert_int_equal(req.views[i].size_bytes, 1 + i * 67);
	ctl_req_expect(&req, 0, 60);
	close_memories();
}

static void
stored_blocks_come_back_right_from_three_stores(void **state)
{
	(void)state;
	what_was_stored_comes_back_right(0, 0);
}

static void
stored_blocks_come_back_right_over_a_slow_wire(void **state)
{
	(void)state;
	what_was_stored_comes_back_right(100 * FAR_NS_PER_US, 100U << 20);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stored_blocks_come_back_right_from_three_stores),
		cmocka_unit_test(stored_blocks_come_back_right_over_a_slow_wire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
