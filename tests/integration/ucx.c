/* ucx.c - donors of another host, over TCP: exact hits, a killed donor and its successor. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/fetch.h"
#include "tests/support/netns.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define PORT   7471U
#define BLOCKS 512U /* 32 MiB: eight times the L1 below, so that donors serve nearly all */

#define BIG_BYTES   (16U * 1024U * 1024U)
#define BIG_COUNT   8U /* half of the lists that an adapter has under way at a time */
#define SMALL_BYTES 4096U
#define SMALL_COUNT 16U

static struct netns netns;

static void
rig_begin(struct rig *rig)
{
	rig_open(rig);
	rig_over_ucx(rig, "0.0.0.0", NETNS_PEER_HOST, PORT, netns.path);
}

/* ---- a replay ---- */

static void
a_replay_over_the_network_gives_the_exact_hits(void **state)
{
	struct rig_run *run = malloc(sizeof(*run));
	const char *cost;
	struct rig rig;
	(void)state;

	assert_non_null(run);
	rig_begin(&rig);
	rig_donor_add(&rig, "donor-a", "768MiB", "block_min: 4KiB\n");
	rig_donor_add(&rig, "donor-b", "768MiB", "block_min: 4KiB\n");
	rig_client_config(&rig, "32MiB", NULL);
	{
		const char *const argv[] = {FAR_TEST_FARPOOL,  "replay",     "--config",
					    rig.client_config, "--generate", "1000",
					    "--block",         "16KiB",      "--json",
					    "--quiet",         NULL};

		rig_run(run, 500, argv);
	}
	if (run->status != 0)
		fail_msg("replay ended with %d: %s", run->status, run->err);
	assert_true(rig_json_number(run->out, "perfect_hits") > 0);
	assert_int_equal(rig_json_number(run->out, "hits"),
			 rig_json_number(run->out, "perfect_hits"));
	assert_int_equal(rig_json_number(run->out, "wrong_bytes"), 0);
	assert_int_equal(rig_json_number(run->out, "stores_dropped"), 0);
	assert_int_equal(rig_json_number(run->out, "donors_lost"), 0);
	assert_non_null(strstr(run->out, "\"one_sided\": false"));
	cost = strstr(run->out, "\"donor_cpu_s_per_gb_read\": ");
	assert_non_null(cost);
	assert_true(strtod(strchr(cost, ':') + 1, NULL) > 0);
	rig_close(&rig);
	free(run);
}

static void
the_report_says_that_donors_serve_the_reads(void **state)
{
	struct rig_run *run = malloc(sizeof(*run));
	struct rig rig;
	(void)state;

	assert_non_null(run);
	rig_begin(&rig);
	rig_donor_add(&rig, "donor-a", "256MiB", "block_min: 4KiB\n");
	rig_client_config(&rig, "2MiB", NULL);
	{
		const char *const argv[] = {
			FAR_TEST_FARPOOL, "replay", "--config", rig.client_config,
			"--generate",     "100",    "--block",  "16KiB",
			"--quiet",        NULL};

		rig_run(run, 60, argv);
	}
	assert_int_equal(run->status, 0);
	assert_non_null(strstr(run->out, "served by the donor, into L1"));
	assert_non_null(strstr(run->out, "lookups and reads ask the donor"));
	assert_non_null(strstr(run->out, " s/GB read"));
	assert_null(strstr(run->out, "one-sided"));
	assert_null(strstr(run->out, "none per lookup"));
	rig_close(&rig);
	free(run);
}

/* ---- the donor ---- */

static void
a_killed_donor_is_a_miss_and_its_successor_is_used(void **state)
{
	struct fetch_outcome outcome = {0};
	struct far_client *client;
	struct rig_donor *donor;
	struct far_block *block;
	struct far_key key;
	struct fetch fetch;
	struct rig rig;
	char error[256];
	(void)state;

	rig_begin(&rig);
	donor = rig_donor_add(&rig, "donor-a", "256MiB", NULL);
	client = rig_client(&rig, "4MiB", "retry_max: 100ms\n");
	fetch_store(client, 0, BLOCKS);
	fetch_start(client, &fetch, 0, 2000);
	assert_int_equal(rig_donor_signal(donor, SIGKILL), 128 + SIGKILL);
	fetch_end(&fetch, &outcome);
	assert_int_equal(outcome.wrong, 0);
	far_fill_key(1, FETCH_BLOCK_BYTES, &key);
	assert_int_not_equal(far_get(client, &key, far_now_ns() + 5 * FAR_NS_PER_S, &block), 0);
	/* The same port again, at once. */
	rig_donor_start(donor);
	assert_int_equal(far_client_wait_donors(client, far_now_ns() + 20 * FAR_NS_PER_S, error,
						sizeof(error)),
			 0);
	fetch_store(client, 0, BLOCKS);
	memset(&outcome, 0, sizeof(outcome));
	fetch_all(client, BLOCKS, 10000, &outcome);
	assert_int_equal(outcome.whole, BLOCKS / FETCH_BATCH);
	assert_int_equal(outcome.wrong, 0);
	far_client_close(client);
	rig_close(&rig);
}

/* ---- big and small ---- */

static void
block_store(struct far_client *client, uint64_t id, uint32_t size_bytes)
{
	struct far_block *block;
	struct far_key key;

	far_fill_key(id, size_bytes, &key);
	assert_int_equal(far_reserve(client, &key, size_bytes, &block), 0);
	far_fill_block(&key, far_block_buffer(block), size_bytes);
	assert_int_equal(far_commit(block), 0);
}

/* @count blocks of that size from @first on. */
static struct far_prefetch_handle *
blocks_ask(struct far_client *client, uint64_t first, uint64_t count, uint32_t size_bytes)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = far_now_ns() + 60 * FAR_NS_PER_S,
	};
	struct far_prefetch_handle *handle;
	struct far_key keys[BIG_COUNT];

	assert_true(count <= BIG_COUNT);
	for (uint64_t i = 0; i < count; i++)
		far_fill_key(first + i, size_bytes, &keys[i]);
	assert_int_equal(far_prefetch(client, keys, count, &options, &handle), 0);
	return handle;
}

static struct far_prefetch_status
blocks_end(struct far_prefetch_handle *handle, uint64_t count)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};

	assert_int_equal(far_prefetch_wait(handle, far_now_ns() + 60 * FAR_NS_PER_S, &status), 0);
	assert_int_equal(status.prefix_count, count);
	assert_int_equal(status.l1_prefix_hit_count, 0);
	far_prefetch_release(handle);
	return status;
}

/* An order, not a time: those that were asked for later are here earlier. */
static void
small_blocks_do_not_wait_for_big_ones_that_were_asked_for_before(void **state)
{
	struct far_prefetch_handle *big, *small[SMALL_COUNT];
	struct far_client *writer, *reader;
	struct far_prefetch_status status;
	uint64_t slowest_ns = 0;
	struct rig rig;
	(void)state;

	rig_begin(&rig);
	rig_donor_add(&rig, "donor-a", "512MiB", "lane: 16MiB\nblock_min: 4KiB\n");
	writer = rig_client(&rig, "384MiB", NULL);
	for (uint64_t id = 0; id < BIG_COUNT; id++)
		block_store(writer, id, BIG_BYTES);
	for (uint64_t id = 0; id < SMALL_COUNT; id++)
		block_store(writer, id, SMALL_BYTES);
	assert_int_equal(far_flush(writer, far_now_ns() + 60 * FAR_NS_PER_S, NULL), 0);
	far_client_close(writer);
	reader = rig_client(&rig, "256MiB", NULL);
	big = blocks_ask(reader, 0, BIG_COUNT, BIG_BYTES);
	for (uint64_t i = 0; i < SMALL_COUNT; i++)
		small[i] = blocks_ask(reader, i, 1, SMALL_BYTES);
	for (uint64_t i = 0; i < SMALL_COUNT; i++) {
		status = blocks_end(small[i], 1);
		slowest_ns = status.latency_ns > slowest_ns ? status.latency_ns : slowest_ns;
	}
	status = blocks_end(big, BIG_COUNT);
	printf("the slowest small one after %u ms, the big ones after %u ms\n",
	       (unsigned)(slowest_ns / FAR_NS_PER_MS),
	       (unsigned)(status.latency_ns / FAR_NS_PER_MS));
	assert_true(slowest_ns < status.latency_ns);
	far_client_close(reader);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_replay_over_the_network_gives_the_exact_hits),
		cmocka_unit_test(the_report_says_that_donors_serve_the_reads),
		cmocka_unit_test(a_killed_donor_is_a_miss_and_its_successor_is_used),
		cmocka_unit_test(small_blocks_do_not_wait_for_big_ones_that_were_asked_for_before),
	};
	int failed;

	if (netns_open(&netns) < 0)
		return 77;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	netns_close(&netns);
	return failed;
}
