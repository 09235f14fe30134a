/* thread.c - what the client's thread does by itself: L1 is evicted ahead of need. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pages.h"
#include "farpool/farpool.h"

#define BLOCK_BYTES 4096u
#define L1_BYTES    (1u << 20)

static struct far_client *
open_client(const char *eviction, double high, double low)
{
	struct far_client_options options = {
		.size_bytes = sizeof(options),
		.l1_bytes = L1_BYTES,
		.l1_eviction = eviction,
		.l1_evict_high = high,
		.l1_evict_low = low,
	};
	struct far_client *client = NULL;

	assert_int_equal(far_client_open(&options, &client), 0);
	return client;
}

static void
close_client(struct far_client *client)
{
	far_client_close(client);
	assert_int_equal(far_alloc_live_bytes(), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
}

static struct far_key
key_of(uint32_t n)
{
	struct far_key_parts parts = {
		.size_bytes = sizeof(parts),
		.chunk_hash = &n,
		.chunk_hash_bytes = sizeof(n),
	};
	struct far_key key;

	assert_int_equal(far_key_make(&parts, &key), 0);
	return key;
}

static uint64_t
soon(void)
{
	return far_now_ns() + 10 * FAR_NS_PER_S;
}

static void
put_blocks(struct far_client *client, uint32_t first, uint32_t count)
{
	static const uint8_t bytes[BLOCK_BYTES];

	for (uint32_t i = first; i < first + count; i++) {
		struct far_key key = key_of(i);

		assert_int_equal(far_put(client, &key, bytes, sizeof(bytes)), 0);
	}
	assert_int_equal(far_flush(client, soon(), NULL), 0);
}

/* Looks at L1 until a round has begun and ended, or the test is hopeless. */
static void
stats_of_a_round(struct far_client *client, struct far_stats *stats)
{
	uint64_t until_ns = soon();

	do {
		*stats = (struct far_stats){.size_bytes = sizeof(*stats)};
		far_stats_get(client, stats);
	} while ((stats->l1_evict_rounds == 0 || stats->l1_used_bytes > L1_BYTES / 2) &&
		 far_now_ns() < until_ns);
}

static void
l1_is_evicted_between_its_marks_before_it_is_full(void **state)
{
	static const char *const policies[] = {"lru", "s3fifo"};
	static const uint8_t bytes[16 * BLOCK_BYTES];
	struct far_key large = key_of(1000);

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct far_client *client = open_client(policies[i], 0.5, 0.25);
		struct far_stats stats;

		/* Below the mark, and held by no store any more; then what is as large as 16. */
		put_blocks(client, 0, 120);
		assert_int_equal(far_put(client, &large, bytes, sizeof(bytes)), 0);
		stats_of_a_round(client, &stats);
		assert_int_equal(stats.l1_evict_rounds, 1);
		assert_int_equal(stats.l1_evict_starved, 0);
		assert_true(stats.l1_used_bytes <= L1_BYTES / 4);
		assert_int_equal(stats.l1_evicted_ahead_blocks, stats.l1_evicted_blocks);
		assert_int_equal(stats.l1_evicted_ahead_bytes, stats.l1_evicted_bytes);
		assert_int_equal(stats.l1_block_count + stats.l1_evicted_blocks, 121);
		assert_int_equal(stats.l1_denied, 0);
		close_client(client);
	}
}

static void
locked_blocks_are_spared_and_the_round_says_so(void **state)
{
	struct far_client *client = open_client("lru", 0.5, 0.25);
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_prefetch_handle *handle;
	struct far_key keys[120];
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	uint64_t until_ns = soon();

	(void)state;
	put_blocks(client, 0, 120);
	for (uint32_t i = 0; i < 120; i++)
		keys[i] = key_of(i);
	options.deadline_ns = soon();
	assert_int_equal(far_prefetch(client, keys, 120, &options, &handle), 0);
	put_blocks(client, 120, 20);
	do
		far_stats_get(client, &stats);
	while (stats.l1_evict_starved == 0 && far_now_ns() < until_ns);
	assert_true(stats.l1_evict_starved > 0);
	assert_true(stats.l1_block_count >= 120);
	for (uint32_t i = 0; i < 120; i++) {
		const void *data;

		assert_int_equal(far_prefetch_block(handle, i, &data, NULL), 0);
	}
	far_prefetch_release(handle);
	close_client(client);
}

static void
nothing_is_evicted_ahead_where_it_is_turned_off(void **state)
{
	static const struct {
		const char *policy;
		double high;
	} rows[] = {{"lru", 1}, {"none", 0}};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct far_client *client = open_client(rows[i].policy, rows[i].high, 0);
		struct far_stats stats = {.size_bytes = sizeof(stats)};

		put_blocks(client, 0, 256);
		far_stats_get(client, &stats);
		assert_int_equal(stats.l1_used_bytes, L1_BYTES);
		assert_int_equal(stats.l1_evicted_blocks, 0);
		assert_int_equal(stats.l1_evict_rounds, 0);
		close_client(client);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(l1_is_evicted_between_its_marks_before_it_is_full),
		cmocka_unit_test(locked_blocks_are_spared_and_the_round_says_so),
		cmocka_unit_test(nothing_is_evicted_ahead_where_it_is_turned_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
