/* load.c - blocks from real donors straight into memory of the caller's own, and whose it is when. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "farpool/memory.h"
#include "tests/support/rig.h"
#include "tests/support/tcp_port.h"
#include "tools/cli/fill.h"

#define BLOCK_BYTES 65536U
#define BLOCKS      200U
#define PIECES      40U /* of a block: more than a work request holds */
#define POOL_BYTES  (BLOCKS * BLOCK_BYTES)

/* Like an engine's: page p of every block lies in its own part, and they come in no order. */
struct pool {
	uint8_t *base;
	struct far_memory *memory;
	struct far_load_piece pieces[BLOCKS][PIECES];
	struct far_load_key keys[BLOCKS];
};

struct world {
	struct rig rig;
	struct far_client *client;
};

static struct pool pool;
static uint8_t bytes[BLOCK_BYTES];

static uint64_t
soon(void)
{
	return far_now_ns() + rig_seconds(20) * FAR_NS_PER_S;
}

static uint32_t
piece_bytes(uint32_t p)
{
	return p < PIECES - 1 ? BLOCK_BYTES / PIECES
			      : BLOCK_BYTES - (PIECES - 1) * (BLOCK_BYTES / PIECES);
}

static void
pool_open(struct far_client *client)
{
	uint8_t *at;

	pool.base = malloc(POOL_BYTES);
	assert_non_null(pool.base);
	memset(pool.base, 0xee, POOL_BYTES);
	at = pool.base;
	for (uint32_t p = 0; p < PIECES; p++) {
		for (uint32_t b = 0; b < BLOCKS; b++) {
			/* 77 has no factor in common with 200. */
			pool.pieces[b * 77 % BLOCKS][p] =
				(struct far_load_piece){.addr = at, .size_bytes = piece_bytes(p)};
			at += piece_bytes(p);
		}
	}
	for (uint32_t b = 0; b < BLOCKS; b++) {
		far_fill_key(b, BLOCK_BYTES, &pool.keys[b].key);
		pool.keys[b].pieces = pool.pieces[b];
		pool.keys[b].piece_count = PIECES;
	}
	assert_int_equal(
		far_memory_register(client, pool.base, POOL_BYTES, "host", soon(), &pool.memory),
		0);
}

static void
pool_close(void)
{
	assert_int_equal(far_memory_unregister(pool.memory, soon()), 0);
	free(pool.base);
}

static void
store(struct far_client *client, uint32_t first, uint32_t count)
{
	struct far_key key;

	for (uint32_t i = first; i < first + count; i++) {
		far_fill_key(i, BLOCK_BYTES, &key);
		far_fill_block(&key, bytes, BLOCK_BYTES);
		assert_int_equal(far_put(client, &key, bytes, BLOCK_BYTES), 0);
		/* A donor's share of the queue is not for all of them at once. */
		if (i % 50 == 49)
			assert_int_equal(far_flush(client, soon(), NULL), 0);
	}
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	(void)far_clear(client, 0);
}

static void
world_open(struct world *world, uint32_t donors, const char *extra)
{
	static const char *const names[] = {"donor-a", "donor-b", "donor-c"};

	for (uint32_t i = 0; i < donors; i++)
		(void)rig_donor_add(&world->rig, names[i], "64MiB", NULL);
	world->client = rig_client(&world->rig, "32MiB", extra);
	store(world->client, 0, BLOCKS);
	pool_open(world->client);
}

static void
world_open_ucx(struct world *world)
{
	rig_open(&world->rig);
	rig_over_ucx(&world->rig, "127.0.0.1", "127.0.0.1", far_test_tcp_port(), NULL);
	world_open(world, 1, NULL);
}

static void
world_close(struct world *world)
{
	pool_close();
	assert_int_equal(far_client_try_close(world->client), 0);
	rig_close(&world->rig);
}

static bool
block_is_right(uint32_t b)
{
	uint32_t at = 0;

	for (uint32_t p = 0; p < PIECES; p++) {
		memcpy(bytes + at, pool.pieces[b][p].addr, pool.pieces[b][p].size_bytes);
		at += pool.pieces[b][p].size_bytes;
	}
	return far_fill_check(&pool.keys[b].key, bytes, BLOCK_BYTES) == 0;
}

static void
all_are_loaded(struct far_client *client, uint32_t count)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct far_load *load = NULL;

	memset(pool.base, 0xee, POOL_BYTES);
	assert_int_equal(far_load(client, pool.keys, count, soon(), &load), 0);
	assert_int_equal(far_load_wait(load, soon()), 0);
	for (uint32_t b = 0; b < count; b++) {
		assert_int_equal(far_load_result(load, b), 0);
		assert_true(block_is_right(b));
	}
	/* Not a byte beside them. */
	for (uint32_t b = count; b < BLOCKS; b++) {
		for (uint32_t p = 0; p < PIECES; p++)
			assert_int_equal(*(uint8_t *)pool.pieces[b][p].addr, 0xee);
	}
	assert_int_equal(far_load_release(load, soon()), 0);
	far_stats_get(client, &stats);
	assert_int_equal(stats.l1_used_bytes, 0);
}

static void
blocks_land_in_pieces_and_l1_has_no_part_in_it(void **state)
{
	struct world world;

	(void)state;
	rig_open(&world.rig);
	world_open(&world, 1, NULL);
	all_are_loaded(world.client, BLOCKS);
	all_are_loaded(world.client, 1);
	world_close(&world);
	world_open_ucx(&world);
	all_are_loaded(world.client, BLOCKS);
	world_close(&world);
}

static void
what_one_donor_lacks_is_asked_of_the_next(void **state)
{
	struct far_load *load = NULL;
	struct far_key gone;
	struct world world;

	(void)state;
	rig_open(&world.rig);
	/* With the policy of all, in order, each is asked for what the others have. */
	world_open(&world, 3, NULL);
	assert_int_equal(far_client_try_close(world.client), 0);
	world.client = rig_client(&world.rig, "32MiB", "prefetch: {policy: default}\n");
	free(pool.base);
	pool_open(world.client);
	all_are_loaded(world.client, BLOCKS);
	/* And what nobody has, or has in another length, is a miss that costs its neighbours nothing. */
	gone = pool.keys[5].key;
	far_fill_key(12345, BLOCK_BYTES, &pool.keys[5].key);
	pool.keys[6].piece_count = PIECES - 1;
	assert_int_equal(far_load(world.client, pool.keys, 10, soon(), &load), 0);
	assert_int_equal(far_load_wait(load, soon()), 0);
	for (uint32_t b = 0; b < 10; b++) {
		assert_int_equal(far_load_result(load, b), b == 5   ? -ENOENT
							   : b == 6 ? -EMSGSIZE
								    : 0);
		assert_true(b == 5 || b == 6 || block_is_right(b));
	}
	assert_int_equal(far_load_result(load, 10), -EINVAL);
	assert_int_equal(far_load_release(load, soon()), 0);
	pool.keys[5].key = gone;
	world_close(&world);
}

/* It may end what it was asked for; what it does not is asked of the next one. */
static void
a_donor_that_is_removed_midway_costs_no_key(void **state)
{
	struct far_load *load = NULL;
	struct world world;

	(void)state;
	for (int i = 0; i < 4; i++) {
		rig_open(&world.rig);
		rig_over_ucx(&world.rig, "127.0.0.1", "127.0.0.1", far_test_tcp_port(), NULL);
		world_open(&world, 2, "replicas: 2\n");
		/* The first ones in time; the others by force, as it is stopped. */
		if (i >= 2)
			(void)rig_donor_signal(&world.rig.donors[0], SIGSTOP);
		assert_int_equal(far_load(world.client, pool.keys, BLOCKS, soon(), &load), 0);
		(void)far_donor_remove(world.client, "donor-a", far_now_ns() + FAR_NS_PER_S / 2);
		assert_int_equal(far_load_wait(load, soon()), 0);
		for (uint32_t b = 0; b < BLOCKS; b++) {
			assert_int_equal(far_load_result(load, b), 0);
			assert_true(block_is_right(b));
		}
		assert_int_equal(far_load_release(load, soon()), 0);
		world_close(&world);
	}
}

static void
memory_that_cannot_be_is_refused(void **state)
{
	struct far_memory *memories[20] = {0};
	static uint8_t small[20][4096];
	struct far_load *load = NULL;
	struct far_memory *memory = NULL;
	struct world world;
	uint32_t count = 0;
	void *kept;
	int rc;

	(void)state;
	rig_open(&world.rig);
	world_open(&world, 1, NULL);
	assert_int_equal(far_memory_register(world.client, pool.base + POOL_BYTES - 1, 4096, "host",
					     soon(), &memory),
			 -EEXIST);
	assert_int_equal(far_memory_register(world.client, small, 4096, "disk", soon(), &memory),
			 -EINVAL);
	assert_int_equal(far_memory_register(world.client, small, 0, "host", soon(), &memory),
			 -EINVAL);
	assert_int_equal(far_memory_register(world.client, small, 4096, "cuda", soon(), &memory),
			 -EOPNOTSUPP);
	assert_null(memory);
	while ((rc = far_memory_register(world.client, small[count], 4096, "host", soon(),
					 &memories[count])) == 0)
		count++;
	assert_int_equal(rc, -E2BIG);
	assert_int_equal(count, 15);
	while (count > 0)
		assert_int_equal(far_memory_unregister(memories[--count], soon()), 0);
	/* A piece that reaches beyond what is registered, or lies in what was. */
	kept = pool.pieces[3][7].addr;
	pool.pieces[3][7].addr = pool.base + POOL_BYTES - pool.pieces[3][7].size_bytes + 1;
	assert_int_equal(far_load(world.client, pool.keys, 5, soon(), &load), -EINVAL);
	pool.pieces[3][7].addr = small[0];
	assert_int_equal(far_load(world.client, pool.keys, 5, soon(), &load), -EINVAL);
	pool.keys[3].piece_count = 0;
	assert_int_equal(far_load(world.client, pool.keys, 5, soon(), &load), -EINVAL);
	assert_null(load);
	pool.pieces[3][7].addr = kept;
	pool.keys[3].piece_count = PIECES;
	all_are_loaded(world.client, 3);
	world_close(&world);
}

/* Over TCP the donor serves the reads: what it was asked for is outstanding while it is stopped. */
static void
pieces_belong_to_the_load_until_nothing_names_them(void **state)
{
	struct far_load *load = NULL;
	struct world world;
	uint64_t asked_ns;

	(void)state;
	world_open_ucx(&world);
	all_are_loaded(world.client, 10);
	(void)rig_donor_signal(&world.rig.donors[0], SIGSTOP);
	asked_ns = far_now_ns();
	assert_int_equal(
		far_load(world.client, pool.keys, BLOCKS, asked_ns + 200 * FAR_NS_PER_MS, &load),
		0);
	assert_int_equal(far_load_result(load, 0), -EAGAIN);
	assert_int_equal(far_load_wait(load, soon()), 0);
	assert_true(far_now_ns() - asked_ns >= 200 * FAR_NS_PER_MS);
	/* The answer is there; the memory is not back. */
	for (uint32_t b = 0; b < BLOCKS; b++)
		assert_int_equal(far_load_result(load, b), -ETIMEDOUT);
	assert_int_equal(far_load_release(load, far_now_ns() + 50 * FAR_NS_PER_MS), -EBUSY);
	assert_int_equal(far_memory_unregister(pool.memory, soon()), -EBUSY);
	(void)rig_donor_signal(&world.rig.donors[0], SIGCONT);
	assert_int_equal(far_load_release(load, soon()), 0);
	all_are_loaded(world.client, BLOCKS);
	world_close(&world);
}

static void
a_donor_that_dies_is_a_miss_and_its_blocks_are_right_or_not_told(void **state)
{
	struct far_load *load = NULL;
	struct world world;

	(void)state;
	for (int i = 0; i < 6; i++) {
		if (i % 2 == 0) {
			rig_open(&world.rig);
			world_open(&world, 1, NULL);
		} else {
			world_open_ucx(&world);
		}
		assert_int_equal(far_load(world.client, pool.keys, BLOCKS, soon(), &load), 0);
		far_clock_sleep_until(far_now_ns() + (uint64_t)i * 200 * FAR_NS_PER_US);
		(void)rig_donor_signal(&world.rig.donors[0], SIGKILL);
		assert_int_equal(far_load_wait(load, soon()), 0);
		for (uint32_t b = 0; b < BLOCKS; b++) {
			int rc = far_load_result(load, b);

			assert_true(rc <= 0 && rc != -EAGAIN);
			assert_true(rc != 0 || block_is_right(b));
		}
		assert_int_equal(far_load_release(load, soon()), 0);
		world_close(&world);
	}
}

static void
a_cancelled_load_and_one_too_many_are_told(void **state)
{
	struct far_load *loads[17] = {0};
	struct world world;
	uint32_t count = 0;
	int rc;

	(void)state;
	world_open_ucx(&world);
	(void)rig_donor_signal(&world.rig.donors[0], SIGSTOP);
	while ((rc = far_load(world.client, &pool.keys[count], 1, soon(), &loads[count])) == 0)
		count++;
	assert_int_equal(rc, -E2BIG);
	assert_int_equal(count, 16);
	far_load_cancel(loads[3]);
	assert_int_equal(far_load_wait(loads[3], soon()), 0);
	assert_int_equal(far_load_result(loads[3], 0), -ECANCELED);
	(void)rig_donor_signal(&world.rig.donors[0], SIGCONT);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(far_load_wait(loads[i], soon()), 0);
		if (i != 3) {
			assert_int_equal(far_load_result(loads[i], 0), 0);
			assert_true(block_is_right(i));
		}
		assert_int_equal(far_load_release(loads[i], soon()), 0);
	}
	world_close(&world);
}

/* What is live ends with the client; what is registered goes with it. */
static void
a_client_closes_with_loads_live(void **state)
{
	struct far_load *load = NULL;
	struct world world;

	(void)state;
	for (int i = 0; i < 8; i++) {
		if (i % 2 == 0) {
			rig_open(&world.rig);
			world_open(&world, 1, NULL);
		} else {
			world_open_ucx(&world);
			(void)rig_donor_signal(&world.rig.donors[0], SIGSTOP);
		}
		assert_int_equal(far_load(world.client, pool.keys, BLOCKS, soon(), &load), 0);
		far_clock_sleep_until(far_now_ns() + (uint64_t)i * 100 * FAR_NS_PER_US);
		/* The link to a stopped donor is closed on our side: then nothing names it. */
		assert_int_equal(far_client_try_close(world.client), 0);
		free(pool.base);
		rig_close(&world.rig);
	}
}

static void
a_donor_that_comes_later_over_another_transport_loads_too(void **state)
{
	struct far_donor_options late = {.size_bytes = sizeof(late), .name = "donor-b"};
	char error[256] = "";
	struct world world;

	(void)state;
	rig_open(&world.rig);
	world_open(&world, 1, NULL);
	rig_over_ucx(&world.rig, "127.0.0.1", "127.0.0.1", far_test_tcp_port(), NULL);
	late.address = rig_donor_add(&world.rig, "donor-b", "64MiB", NULL)->address;
	if (far_donor_add(world.client, &late, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	assert_int_equal(far_client_wait_donors(world.client, soon(), error, sizeof(error)), 0);
	assert_int_equal(far_donor_remove(world.client, "donor-a", soon()), 0);
	store(world.client, 0, BLOCKS);
	all_are_loaded(world.client, BLOCKS);
	world_close(&world);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_land_in_pieces_and_l1_has_no_part_in_it),
		cmocka_unit_test(what_one_donor_lacks_is_asked_of_the_next),
		cmocka_unit_test(a_donor_that_is_removed_midway_costs_no_key),
		cmocka_unit_test(memory_that_cannot_be_is_refused),
		cmocka_unit_test(pieces_belong_to_the_load_until_nothing_names_them),
		cmocka_unit_test(a_donor_that_dies_is_a_miss_and_its_blocks_are_right_or_not_told),
		cmocka_unit_test(a_cancelled_load_and_one_too_many_are_told),
		cmocka_unit_test(a_client_closes_with_loads_live),
		cmocka_unit_test(a_donor_that_comes_later_over_another_transport_loads_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
