/* events.c - what the client recorded is read in order, by each reader on its own; and counted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "client/config.h"
#include "farpool/farpool.h"

static struct far_client *
open_client(const char *yaml)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct far_client_config config = {0};
	struct far_client *client = NULL;

	assert_int_equal(far_param_load_text(&far_client_params, "test.yaml", yaml, strlen(yaml),
					     &config, error),
			 0);
	if (far_client_config_check(&config, error) != 0)
		fail_msg("%s", error);
	assert_int_equal(far_client_open_config(&config, &client, error), 0);
	return client;
}

static void
close_client(struct far_client *client)
{
	far_client_close(client);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

/* One put, one batch. */
static void
put(struct far_client *client, uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++) {
		struct far_key_parts parts = {
			.size_bytes = sizeof(parts),
			.chunk_hash = &i,
			.chunk_hash_bytes = sizeof(i),
		};
		struct far_key key;

		assert_int_equal(far_key_make(&parts, &key), 0);
		assert_int_equal(far_put(client, &key, "data", 4), 0);
		assert_int_equal(far_flush(client, far_now_ns() + 10 * FAR_NS_PER_S, NULL), 0);
	}
}

/* What the store controller recorded since; one at a time, as a slow reader does. */
static size_t
read_store(struct far_client *client, uint64_t *cursor, struct far_event_item *events, size_t max)
{
	size_t count = 0;
	uint64_t lost;

	while (count < max && far_events_read(client, cursor, &events[count], 1, &lost) == 1) {
		assert_int_equal(lost, 0);
		count += strncmp(events[count].name, "store.", 6) == 0;
	}
	return count;
}

static void
blocks_of_a_client_without_donors_are_queued_and_dropped(void **state)
{
	struct far_client *client = open_client("l1: {size: 1MiB}\n");
	struct far_event_item events[16];
	uint64_t cursor = 0;
	uint64_t other = 0;
	uint64_t lost = 77;

	(void)state;
	assert_int_equal(read_store(client, &cursor, events, 16), 0);
	put(client, 0, 2);
	assert_int_equal(read_store(client, &cursor, events, 3), 3);
	assert_int_equal(read_store(client, &cursor, events + 3, 13), 1);
	for (int i = 0; i < 4; i++) {
		assert_string_equal(events[i].name, i % 2 == 0 ? "store.queued" : "store.dropped");
		assert_int_equal(events[i].why, i % 2 == 0 ? 0 : -ENODEV);
		assert_int_equal(events[i].keys, 1);
		assert_int_equal(events[i].bytes, 4);
		assert_int_equal(events[i].donor, -1);
		assert_true(events[i].at_ns > 0 && events[i].at_ns <= far_now_ns());
	}
	assert_int_equal(far_events_read(client, &cursor, events, 16, &lost), 0);
	assert_int_equal(lost, 0);
	assert_int_equal(read_store(client, &other, events, 16), 4);
	close_client(client);
}

static void
events_that_the_ring_lost_are_counted(void **state)
{
	struct far_client *client = open_client("l1: {size: 1MiB}\nevents: 64\n");
	struct far_event_counts counts = {.size_bytes = sizeof(counts)};
	struct far_event_item events[100];
	uint64_t cursor = 0;
	uint64_t lost = 0;
	uint64_t total = 0;
	size_t kind = 0;

	(void)state;
	put(client, 0, 100);
	assert_int_equal(far_events_read(client, &cursor, events, 100, &lost), 64);
	for (; far_event_counts_get(client, kind, &counts) == 0; kind++) {
		assert_true(strlen(counts.text) > 0);
		/* Reads are counted and leave no record. */
		if (strncmp(counts.name, "l1.read_", 8) != 0)
			total += counts.events;
		if (strcmp(counts.name, "store.queued") != 0)
			continue;
		assert_int_equal(counts.keys, 100);
		assert_int_equal(counts.bytes, 400);
	}
	assert_true(total > 200);
	assert_int_equal(lost, total - 64);
	assert_int_equal(far_event_counts_get(client, kind, &counts), -ENOENT);
	close_client(client);
}

static void
without_a_recorder_nothing_is_read(void **state)
{
	struct far_client *client = open_client("l1: {size: 1MiB}\nevents: 0\n");
	struct far_event_counts counts = {.size_bytes = sizeof(counts)};
	struct far_event_item event;
	uint64_t cursor = 0;

	(void)state;
	put(client, 0, 1);
	assert_int_equal(far_events_read(client, &cursor, &event, 1, NULL), -EOPNOTSUPP);
	assert_int_equal(far_event_counts_get(client, 0, &counts), -EOPNOTSUPP);
	assert_int_equal(far_events_read(client, NULL, &event, 1, NULL), -EINVAL);
	assert_int_equal(far_events_read(client, &cursor, NULL, 1, NULL), -EINVAL);
	counts.size_bytes = 0;
	assert_int_equal(far_event_counts_get(client, 0, &counts), -EINVAL);
	assert_int_equal(far_event_counts_get(client, 0, NULL), -EINVAL);
	close_client(client);
}

/* The second use of a key is what admits it, and skip_l1 leaves alone what nobody stored. */
static void
store_policy_is_that_of_the_configuration(void **state)
{
	struct far_client *client =
		open_client("l1: {size: 1MiB}\nstore: {policy: 'admit_after_n,skip_l1'}\n");
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct far_event_item events[8];
	uint64_t cursor = 0;

	(void)state;
	put(client, 0, 3);
	far_stats_get(client, &stats);
	assert_int_equal(stats.stores_not_admitted, 3);
	assert_int_equal(stats.copies_placed, 0);
	assert_int_equal(stats.l1_block_count, 3);
	assert_int_equal(read_store(client, &cursor, events, 8), 3);
	assert_string_equal(events[0].name, "store.not_admitted");
	close_client(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_of_a_client_without_donors_are_queued_and_dropped),
		cmocka_unit_test(events_that_the_ring_lost_are_counted),
		cmocka_unit_test(without_a_recorder_nothing_is_read),
		cmocka_unit_test(store_policy_is_that_of_the_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
