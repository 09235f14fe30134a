/* block.c - L1 as a whole: where keys stand, which are used, and clearing it under their holders. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pages.h"
#include "farpool/farpool.h"
#include "tests/support/l1_wrap.h"
#include "tests/support/log_capture.h"

#define BLOCK_BYTES 4096u

static struct far_client *
open_client(void)
{
	/* As L1 alone evicts, so that what goes is known. */
	struct far_client_options options = {
		.size_bytes = sizeof(options),
		.l1_bytes = 1 << 20,
		.l1_evict_high = 1,
	};
	struct far_client *client = NULL;

	assert_int_equal(far_client_open(&options, &client), 0);
	return client;
}

static void
close_client(struct far_client *client)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	far_stats_get(client, &stats);
	assert_true(stats.l1_capacity_bytes > 0);
	assert_int_equal(stats.l1_locked_bytes, 0);
	assert_int_equal(stats.l1_quarantine_bytes, 0);
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
put(struct far_client *client, const struct far_key *key)
{
	static const uint8_t bytes[BLOCK_BYTES];

	assert_int_equal(far_put(client, key, bytes, sizeof(bytes)), 0);
}

static void
state_is(struct far_client *client, const struct far_key *key, uint32_t want)
{
	uint32_t state = 77;

	assert_int_equal(far_l1_query(client, key, 1, &state), 0);
	assert_int_equal(state, want);
}

static void
query_says_where_each_key_stands(void **state)
{
	struct far_client *client = open_client();
	struct far_key keys[4] = {key_of(0), key_of(1), key_of(2), key_of(3)};
	struct far_block *writing;
	struct far_block *reading;
	uint32_t states[4];

	(void)state;
	put(client, &keys[1]);
	put(client, &keys[2]);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	assert_int_equal(far_get(client, &keys[2], soon(), &reading), 0);
	assert_int_equal(far_reserve(client, &keys[3], BLOCK_BYTES, &writing), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(far_l1_query(client, keys, 4, states), 0);
		assert_int_equal(states[0], FAR_BLOCK_ABSENT);
		assert_int_equal(states[1], FAR_BLOCK_READY);
		assert_int_equal(states[2], FAR_BLOCK_READ_LOCKED);
		assert_int_equal(states[3], FAR_BLOCK_WRITING);
	}
	far_release(reading);
	assert_int_equal(far_abort(writing), 0);
	state_is(client, &keys[2], FAR_BLOCK_READY);
	state_is(client, &keys[3], FAR_BLOCK_ABSENT);
	assert_int_equal(far_l1_query(client, keys, 0, NULL), 0);
	assert_int_equal(far_l1_query(client, NULL, 1, states), -EINVAL);
	assert_int_equal(far_l1_query(client, keys, 1, NULL), -EINVAL);
	assert_int_equal(far_l1_query(NULL, keys, 1, states), -EINVAL);
	close_client(client);
}

static void
touched_keys_are_evicted_last(void **state)
{
	struct far_client *client = open_client();
	struct far_key keys[257];

	(void)state;
	for (uint32_t i = 0; i < 257; i++)
		keys[i] = key_of(i);
	for (uint32_t i = 0; i < 256; i++)
		put(client, &keys[i]);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	/* All but one: stores give back in an order of their own. */
	assert_int_equal(far_touch(client, keys, 2), 0);
	assert_int_equal(far_touch(client, &keys[3], 253), 0);
	put(client, &keys[256]);
	state_is(client, &keys[0], FAR_BLOCK_READY);
	state_is(client, &keys[1], FAR_BLOCK_READY);
	state_is(client, &keys[2], FAR_BLOCK_ABSENT);
	assert_int_equal(far_touch(client, &keys[2], 1), 0); /* nothing comes of it */
	state_is(client, &keys[2], FAR_BLOCK_ABSENT);
	assert_int_equal(far_touch(client, NULL, 0), 0);
	assert_int_equal(far_touch(client, NULL, 1), -EINVAL);
	assert_int_equal(far_touch(NULL, keys, 1), -EINVAL);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	close_client(client);
}

static void
clear_spares_what_is_locked(void **state)
{
	struct far_client *client = open_client();
	struct far_key keys[3] = {key_of(0), key_of(1), key_of(2)};
	struct far_block *reading;
	struct far_block *writing;

	(void)state;
	put(client, &keys[0]);
	put(client, &keys[1]);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	assert_int_equal(far_get(client, &keys[1], soon(), &reading), 0);
	assert_int_equal(far_reserve(client, &keys[2], BLOCK_BYTES, &writing), 0);
	assert_int_equal(far_clear(client, 0), 1);
	state_is(client, &keys[0], FAR_BLOCK_ABSENT);
	state_is(client, &keys[1], FAR_BLOCK_READ_LOCKED);
	state_is(client, &keys[2], FAR_BLOCK_WRITING);
	far_release(reading);
	assert_int_equal(far_commit(writing), 0);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	assert_int_equal(far_clear(client, 0), 2);
	assert_int_equal(far_clear(client, 0), 0);
	assert_int_equal(far_clear(NULL, 0), -EINVAL);
	close_client(client);
}

static void
cleared_by_force_is_read_to_its_end_and_never_written(void **state)
{
	struct far_client *client = open_client();
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_prefetch_handle *handle;
	struct far_key keys[4] = {key_of(0), key_of(1), key_of(2), key_of(3)};
	struct far_block *reading;
	struct far_block *writing;
	struct far_block *aborting;
	const void *data;

	(void)state;
	assert_int_equal(far_put(client, &keys[0], "data", 4), 0);
	assert_int_equal(far_put(client, &keys[1], "more", 4), 0);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	assert_int_equal(far_get(client, &keys[0], soon(), &reading), 0);
	options.deadline_ns = soon();
	assert_int_equal(far_prefetch(client, keys, 2, &options, &handle), 0);
	assert_int_equal(far_reserve(client, &keys[2], BLOCK_BYTES, &writing), 0);
	assert_int_equal(far_reserve(client, &keys[3], BLOCK_BYTES, &aborting), 0);
	assert_int_equal(far_clear(client, 1), 4);
	state_is(client, &keys[0], FAR_BLOCK_ABSENT);
	assert_int_equal(far_put(client, &keys[0], "newer", 5), 0);
	assert_memory_equal(far_block_data(reading), "data", 4);
	assert_int_equal(far_prefetch_block(handle, 1, &data, NULL), 0);
	assert_memory_equal(data, "more", 4);
	far_stats_get(client, &stats);
	assert_true(stats.l1_quarantine_bytes > 0);
	far_release(reading);
	far_prefetch_release(handle);
	assert_int_equal(far_commit(writing), -ENOENT);
	assert_int_equal(far_abort(aborting), 0);
	state_is(client, &keys[2], FAR_BLOCK_ABSENT);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	state_is(client, &keys[0], FAR_BLOCK_READY);
	close_client(client);
}

/* ---- one block, ended by two callers at once ---- */
struct second {
	struct far_block *block;
	enum l1_call call; /* of the first caller, amid which the second one comes */
	int (*end)(struct far_block *block);
	int rc;
};

static int
release(struct far_block *block)
{
	far_release(block);
	return 0;
}

/* As another thread would, between the first one's look at the block and its step in L1. */
static void
second_comes(void *arg, struct far_l1 *l1, enum l1_call call)
{
	struct second *second = arg;

	(void)l1;
	if (call == second->call && second->block != NULL)
		second->rc = second->end(second->block);
}

static void
block_that_two_callers_end_is_ended_once(void **state)
{
	static const struct {
		int (*first)(struct far_block *block);
		enum l1_call call;
		int (*second)(struct far_block *block);
	} cases[] = {
		{far_commit, L1_CALL_FINISH_WRITE, far_commit},
		{far_commit, L1_CALL_FINISH_WRITE, far_abort},
		{far_abort, L1_CALL_ABORT_WRITE, far_commit},
		{far_abort, L1_CALL_ABORT_WRITE, far_abort},
	};
	struct far_client *client = open_client();

	(void)state;
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct far_key key = key_of(i);
		struct far_block *block;
		struct second second = {.call = cases[i].call, .end = cases[i].second};
		struct l1_wrap wrap = {.before = second_comes, .arg = &second};

		assert_int_equal(far_reserve(client, &key, BLOCK_BYTES, &block), 0);
		second.block = block;
		l1_wrap_set(&wrap);
		assert_int_equal(cases[i].first(block), 0);
		l1_wrap_set(NULL);
		assert_int_equal(second.rc, -EINVAL);
	}
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	close_client(client);
}

static void
block_that_two_callers_release_is_released_once(void **state)
{
	struct far_client *client = open_client();
	struct second second = {.call = L1_CALL_FINISH_READ, .end = release};
	struct l1_wrap wrap = {.before = second_comes, .arg = &second};
	struct far_key key = key_of(1);
	struct far_block *blocks[2];

	(void)state;
	put(client, &key);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(far_get(client, &key, soon(), &blocks[i]), 0);
	far_log_capture_start();
	far_log_capture_expect("a block was released twice");
	second.block = blocks[0];
	l1_wrap_set(&wrap);
	far_release(blocks[0]);
	l1_wrap_set(NULL);
	assert_int_equal(far_log_capture_count("a block was released twice"), 1);
	far_log_capture_finish();
	state_is(client, &key, FAR_BLOCK_READ_LOCKED); /* by the other one */
	far_release(blocks[1]);
	state_is(client, &key, FAR_BLOCK_READY);
	close_client(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(query_says_where_each_key_stands),
		cmocka_unit_test(touched_keys_are_evicted_last),
		cmocka_unit_test(clear_spares_what_is_locked),
		cmocka_unit_test(cleared_by_force_is_read_to_its_end_and_never_written),
		cmocka_unit_test(block_that_two_callers_end_is_ended_once),
		cmocka_unit_test(block_that_two_callers_release_is_released_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
