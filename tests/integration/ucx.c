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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_replay_over_the_network_gives_the_exact_hits),
		cmocka_unit_test(a_killed_donor_is_a_miss_and_its_successor_is_used),
	};
	int failed;

	if (netns_open(&netns) < 0)
		return 77;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	netns_close(&netns);
	return failed;
}
