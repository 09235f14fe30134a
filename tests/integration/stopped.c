/* stopped.c - a donor whose process stands still goes on being read: no CPU of it takes part. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define BLOCK_BYTES 16384U
#define BLOCKS      1024U /* 16 MiB: twice the L1 below, so that L1 serves no round of them */
#define BATCH       64U

static void
store_all(struct far_client *client, uint64_t first, uint64_t count)
{
	for (uint64_t id = first; id < first + count; id++) {
		struct far_block *block;
		struct far_key key;

		far_fill_key(id, BLOCK_BYTES, &key);
		assert_int_equal(far_reserve(client, &key, BLOCK_BYTES, &block), 0);
		far_fill_block(&key, far_block_buffer(block), BLOCK_BYTES);
		assert_int_equal(far_commit(block), 0);
		if (id % BATCH == BATCH - 1)
			assert_int_equal(far_flush(client, far_now_ns() + 20 * FAR_NS_PER_S, NULL),
					 0);
	}
}

/* Prefetches all blocks, a batch at a time, and checks each byte. */
static void
read_all(struct far_client *client)
{
	for (uint64_t first = 0; first < BLOCKS; first += BATCH) {
		struct far_prefetch_options options = {
			.size_bytes = sizeof(options),
			.deadline_ns = far_now_ns() + 20 * FAR_NS_PER_S,
		};
		struct far_prefetch_status status = {.size_bytes = sizeof(status)};
		struct far_prefetch_handle *handle;
		struct far_key keys[BATCH];

		for (uint64_t i = 0; i < BATCH; i++)
			far_fill_key(first + i, BLOCK_BYTES, &keys[i]);
		assert_int_equal(far_prefetch(client, keys, BATCH, &options, &handle), 0);
		assert_int_equal(
			far_prefetch_wait(handle, options.deadline_ns + FAR_NS_PER_S, &status), 0);
		assert_int_equal(status.rc, 0);
		assert_int_equal(status.prefix_count, BATCH);
		for (size_t i = 0; i < BATCH; i++) {
			const void *data;
			uint32_t size_bytes;

			assert_int_equal(far_prefetch_block(handle, i, &data, &size_bytes), 0);
			assert_int_equal(far_fill_check(&keys[i], data, size_bytes), 0);
		}
		far_prefetch_release(handle);
	}
}

static void
stopped_donor_is_read_long_after_its_message_credits_ran_out(void **state)
{
	struct far_stats before = {.size_bytes = sizeof(before)};
	struct far_stats after = {.size_bytes = sizeof(after)};
	struct rig rig;
	struct rig_donor *donor;
	struct far_client *client;

	(void)state;
	rig_open(&rig);
	donor = rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	client = rig_client(&rig, "8MiB", "store:\n  deadline: 200ms\n  tries: 1\n");
	store_all(client, 0, BLOCKS);
	rig_donor_signal(donor, SIGSTOP);
	far_stats_get(client, &before);
	/* Blocks that cannot be stored now, and touch notes of what is read, use up the credits. */
	for (uint64_t round = 0; round < 20; round++) {
		struct far_key key;
		char data[4096] = {0};

		far_fill_key(1000000 + round, sizeof(data), &key);
		assert_int_equal(far_put(client, &key, data, sizeof(data)), 0);
		read_all(client);
	}
	far_clock_sleep_until(far_now_ns() + FAR_NS_PER_S);
	for (uint64_t round = 0; round < 20; round++)
		read_all(client);
	far_stats_get(client, &after);
	assert_true(after.bytes_loaded - before.bytes_loaded > 20ULL * BLOCKS * BLOCK_BYTES);
	assert_int_equal(after.donors_lost, 0);
	assert_int_equal(after.missed_donor_down, 0);
	rig_donor_signal(donor, SIGCONT);
	store_all(client, BLOCKS, BATCH);
	far_client_close(client);
	rig_close(&rig);
}

static void
client_of_a_stopped_donor_closes_within_its_bound(void **state)
{
	struct rig rig;
	struct rig_donor *donor;
	struct far_client *client;
	uint64_t begin_ns;

	(void)state;
	rig_open(&rig);
	donor = rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	client = rig_client(&rig, "8MiB", NULL);
	store_all(client, 0, BATCH);
	rig_donor_signal(donor, SIGSTOP);
	for (uint64_t id = 0; id < 100; id++) {
		struct far_key key;
		char data[4096] = {0};

		far_fill_key(2000000 + id, sizeof(data), &key);
		assert_int_equal(far_put(client, &key, data, sizeof(data)), 0);
	}
	begin_ns = far_now_ns();
	far_client_close(client);
	assert_true(far_now_ns() - begin_ns < 10 * FAR_NS_PER_S);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stopped_donor_is_read_long_after_its_message_credits_ran_out),
		cmocka_unit_test(client_of_a_stopped_donor_closes_within_its_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
