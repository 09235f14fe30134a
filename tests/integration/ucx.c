/* ucx.c - donors of another host, over TCP: exact hits, a cut cable, a killed donor. */
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
#include "tests/support/netns.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define PORT        7471U
#define BLOCK_BYTES 65536U
#define BLOCKS      512U /* 32 MiB: eight times the L1 below, so that donors serve nearly all */
#define BATCH       16U
#define PREFETCHES  1000U
#define HANDLES_MAX 32U

static struct netns netns;

static void
rig_begin(struct rig *rig)
{
	rig_open(rig);
	rig_over_ucx(rig, "0.0.0.0", NETNS_PEER_HOST, PORT, netns.path);
}

static void
store_all(struct far_client *client)
{
	for (uint64_t id = 0; id < BLOCKS; id++) {
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

/* ---- a replay ---- */

static void
a_replay_over_the_network_gives_the_exact_hits(void **state)
{
	struct rig_run *run = malloc(sizeof(*run));
	struct rig rig;
	(void)state;

	assert_non_null(run);
	rig_begin(&rig);
	rig_donor_add(&rig, "donor-a", "768MiB", "block_min: 4KiB\n");
	rig_donor_add(&rig, "donor-b", "768MiB", "block_min: 4KiB\n");
	rig_client_config(&rig, "32MiB", NULL);
	{
		const char *const argv[] = {FAR_TEST_FARPOOL,  "replay",     "--config",
					    rig.client_config, "--generate", "1500",
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
	rig_close(&rig);
	free(run);
}

/* ---- the cable ---- */

struct fetch {
	struct far_prefetch_handle *handle;
	uint64_t first;
	uint64_t deadline_ns;
};

struct outcome {
	uint32_t whole;
	uint32_t cut;
	uint64_t wrong;
};

static void
fetch_start(struct far_client *client, struct fetch *fetch, uint64_t number)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = far_now_ns() + 2 * FAR_NS_PER_S,
	};
	struct far_key keys[BATCH];

	fetch->first = number * BATCH % BLOCKS;
	fetch->deadline_ns = options.deadline_ns;
	for (uint64_t i = 0; i < BATCH; i++)
		far_fill_key(fetch->first + i, BLOCK_BYTES, &keys[i]);
	assert_int_equal(far_prefetch(client, keys, BATCH, &options, &fetch->handle), 0);
}

/* Every byte of what it says it has is right, and it says so within its deadline. */
static void
fetch_end(struct fetch *fetch, struct outcome *outcome)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};

	assert_int_equal(
		far_prefetch_wait(fetch->handle, fetch->deadline_ns + FAR_NS_PER_S, &status), 0);
	for (size_t i = 0; i < status.prefix_count; i++) {
		const void *data;
		struct far_key key;
		uint32_t size_bytes;

		far_fill_key(fetch->first + i, BLOCK_BYTES, &key);
		assert_int_equal(far_prefetch_block(fetch->handle, i, &data, &size_bytes), 0);
		outcome->wrong += far_fill_check(&key, data, size_bytes) != 0;
	}
	if (status.prefix_count == BATCH)
		outcome->whole++;
	else
		outcome->cut++;
	far_prefetch_release(fetch->handle);
}

/* Many at a time; the cable is cut after a third of them and mended after two thirds. */
static void
fetch_all(struct far_client *client, struct outcome *outcome)
{
	static struct fetch fetches[HANDLES_MAX];

	for (uint64_t number = 0; number < PREFETCHES + HANDLES_MAX; number++) {
		struct fetch *fetch = &fetches[number % HANDLES_MAX];

		if (number >= HANDLES_MAX)
			fetch_end(fetch, outcome);
		if (number < PREFETCHES)
			fetch_start(client, fetch, number);
		if (number == PREFETCHES / 3)
			netns_cut(&netns, true);
		if (number == PREFETCHES * 2 / 3)
			netns_cut(&netns, false);
	}
}

static void
a_cable_cut_in_the_middle_of_prefetches_ends_them_all_and_heals(void **state)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct outcome outcome = {0};
	struct far_client *client;
	struct fetch fetch;
	struct rig rig;
	uint64_t until_ns;
	(void)state;

	rig_begin(&rig);
	rig_donor_add(&rig, "donor-a", "256MiB", NULL);
	client = rig_client(&rig, "4MiB", "retry_max: 100ms\n");
	store_all(client);
	fetch_all(client, &outcome);
	assert_int_equal(outcome.whole + outcome.cut, PREFETCHES);
	assert_true(outcome.whole > 0);
	assert_true(outcome.cut > 0);
	assert_int_equal(outcome.wrong, 0);
	/* Nobody has to do anything for it to come back. */
	until_ns = far_now_ns() + 60 * FAR_NS_PER_S;
	do {
		memset(&outcome, 0, sizeof(outcome));
		fetch_start(client, &fetch, 7);
		fetch_end(&fetch, &outcome);
		assert_true(far_now_ns() < until_ns);
	} while (outcome.whole == 0);
	assert_int_equal(outcome.wrong, 0);
	far_stats_get(client, &stats);
	far_client_close(client); /* asserts that nothing is left behind */
	assert_int_equal(rig_donor_signal(&rig.donors[0], SIGTERM), 0);
	rig_close(&rig);
}

/* ---- the donor ---- */

static void
a_killed_donor_is_a_miss_and_its_successor_is_used(void **state)
{
	struct outcome outcome = {0};
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
	store_all(client);
	fetch_start(client, &fetch, 0);
	assert_int_equal(rig_donor_signal(donor, SIGKILL), 128 + SIGKILL);
	fetch_end(&fetch, &outcome);
	assert_int_equal(outcome.wrong, 0);
	far_fill_key(1, BLOCK_BYTES, &key);
	assert_int_not_equal(far_get(client, &key, far_now_ns() + 5 * FAR_NS_PER_S, &block), 0);
	/* The same port again, at once. */
	rig_donor_start(donor);
	assert_int_equal(far_client_wait_donors(client, far_now_ns() + 20 * FAR_NS_PER_S, error,
						sizeof(error)),
			 0);
	store_all(client);
	memset(&outcome, 0, sizeof(outcome));
	for (uint64_t number = 0; number < BLOCKS / BATCH; number++) {
		fetch_start(client, &fetch, number);
		fetch_end(&fetch, &outcome);
	}
	assert_int_equal(outcome.whole, BLOCKS / BATCH);
	assert_int_equal(outcome.wrong, 0);
	far_client_close(client);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_replay_over_the_network_gives_the_exact_hits),
		cmocka_unit_test(a_cable_cut_in_the_middle_of_prefetches_ends_them_all_and_heals),
		cmocka_unit_test(a_killed_donor_is_a_miss_and_its_successor_is_used),
	};
	int failed;

	if (netns_open(&netns) < 0)
		return 77;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	netns_close(&netns);
	return failed;
}
