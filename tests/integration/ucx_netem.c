/* ucx_netem.c - donors of another host over a bad network: late, lost and corrupt packets, and none. */
#include <inttypes.h>
#include <jansson.h>
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
#include "tests/support/netns_impair.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define PORT        7471U
#define BLOCK_BYTES 16384U
#define BLOCKS      512U /* twice the L1 below */
#define L1_SIZE     "4MiB"
#define BATCH       16U

static struct netns netns;

/* ---- a replay ---- */

/* "note:" lines are what `./dev rdma` shows of a test that passes. */
static void
note(const char *netem, const struct rig_run *run, const struct netns_traffic *traffic,
     uint64_t retransmitted)
{
	json_t *root = json_loads(run->out, 0, NULL);
	json_t *latency = json_object_get(root, "prefetch_latency_ns");
	uint64_t prefetch_ns = rig_json_number(run->out, "prefetch_ns");
	double mib = (double)rig_json_number(run->out, "bytes_from_donors") / 1048576;

	assert_non_null(latency);
	printf("note: %s: %" PRIu64 " of %" PRIu64 " hits, 0 wrong bytes; %.2f MiB/s, p50 %.1f ms, "
	       "p99 %.1f ms; %" PRIu64 " packets, %" PRIu64 " dropped, %" PRIu64 " sent again\n",
	       netem, rig_json_number(run->out, "hits"), rig_json_number(run->out, "perfect_hits"),
	       prefetch_ns == 0 ? 0 : mib * 1e9 / (double)prefetch_ns,
	       (double)json_integer_value(json_object_get(latency, "p50")) / 1e6,
	       (double)json_integer_value(json_object_get(latency, "p99")) / 1e6, traffic->packets,
	       traffic->dropped, retransmitted);
	json_decref(root);
}

static void
replay(struct rig *rig, struct rig_run *run)
{
	char seconds[32];
	const char *const argv[] = {FAR_TEST_FARPOOL,
				    "replay",
				    "--config",
				    rig->client_config,
				    "--generate",
				    "24",
				    "--requests",
				    "120",
				    "--block",
				    "16KiB",
				    "--timeout",
				    seconds,
				    "--deadline",
				    seconds,
				    "--json",
				    "--quiet",
				    NULL};

	snprintf(seconds, sizeof(seconds), "%us", rig_seconds(20));
	rig_run(run, 120, argv);
	if (run->status != 0)
		fail_msg("replay ended with %d: %s", run->status, run->err);
}

/* Donors, client and every message between them on a cable with @netem. @per_mille: of the packets
 * that do not arrive as they were sent. */
static void
replay_is_exact(const char *netem, uint64_t per_mille)
{
	struct rig_run *run = malloc(sizeof(*run));
	struct netns_traffic traffic;
	uint64_t retransmitted;
	struct rig rig;

	assert_non_null(run);
	assert_int_equal(netns_impair(&netns, netem), 0);
	retransmitted = netns_retransmitted(&netns);
	rig_open(&rig);
	rig_over_ucx(&rig, "0.0.0.0", NETNS_PEER_HOST, PORT, netns.path);
	rig_donor_add(&rig, "donor-a", "16MiB", "block_min: 4KiB\n");
	rig_donor_add(&rig, "donor-b", "16MiB", "block_min: 4KiB\n");
	rig_client_config(&rig, "2MiB", NULL);
	replay(&rig, run);
	netns_traffic(&netns, &traffic);
	retransmitted = netns_retransmitted(&netns) - retransmitted;
	assert_true(rig_json_number(run->out, "perfect_hits") > 0);
	assert_int_equal(rig_json_number(run->out, "hits"),
			 rig_json_number(run->out, "perfect_hits"));
	assert_int_equal(rig_json_number(run->out, "wrong_bytes"), 0);
	assert_int_equal(rig_json_number(run->out, "stores_dropped"), 0);
	/* It was the bad cable that the blocks came over, and it was bad. */
	assert_true(rig_json_number(run->out, "bytes_from_donors") > 0);
	assert_true(traffic.to_us_bytes >= rig_json_number(run->out, "bytes_from_donors"));
	if (traffic.packets * per_mille / 1000 >= 15)
		assert_true(retransmitted > 0);
	note(netem, run, &traffic, retransmitted);
	for (size_t i = 0; i < rig.donor_count; i++)
		assert_int_equal(rig_donor_signal(&rig.donors[i], SIGTERM), 0);
	rig_close(&rig);
	free(run);
}

static void
late_packets_cost_no_hit(void **state)
{
	(void)state;
	replay_is_exact("delay 10ms", 0);
}

static void
lost_packets_cost_no_hit_and_no_byte(void **state)
{
	(void)state;
	replay_is_exact("loss 1%", 10);
}

static void
late_and_lost_packets_cost_no_hit_and_no_byte(void **state)
{
	(void)state;
	replay_is_exact("delay 2ms loss 0.1%", 1);
}

static void
corrupt_packets_cost_no_hit_and_no_byte(void **state)
{
	(void)state;
	replay_is_exact("corrupt 0.1%", 1);
}

/* ---- no packet at all, for a while ---- */

struct fetch {
	struct far_prefetch_handle *handle;
	uint64_t first;
	uint64_t deadline_ns;
};

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
			assert_int_equal(far_flush(client,
						   far_now_ns() + rig_seconds(20) * FAR_NS_PER_S,
						   NULL),
					 0);
	}
}

static void
fetch_start(struct far_client *client, struct fetch *fetch, uint64_t number, uint64_t limit_ns)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = far_now_ns() + limit_ns,
	};
	struct far_key keys[BATCH];

	fetch->first = number * BATCH % BLOCKS;
	fetch->deadline_ns = options.deadline_ns;
	for (uint64_t i = 0; i < BATCH; i++)
		far_fill_key(fetch->first + i, BLOCK_BYTES, &keys[i]);
	assert_int_equal(far_prefetch(client, keys, BATCH, &options, &fetch->handle), 0);
}

/* Says so within its deadline; every byte of what it says it has is right. Returns how many blocks. */
static size_t
fetch_end(struct fetch *fetch)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	uint64_t until_ns = fetch->deadline_ns + rig_seconds(1) * FAR_NS_PER_S;

	assert_int_equal(far_prefetch_wait(fetch->handle, until_ns, &status), 0);
	for (size_t i = 0; i < status.prefix_count; i++) {
		const void *data;
		struct far_key key;
		uint32_t size_bytes;

		far_fill_key(fetch->first + i, BLOCK_BYTES, &key);
		assert_int_equal(far_prefetch_block(fetch->handle, i, &data, &size_bytes), 0);
		assert_int_equal(size_bytes, BLOCK_BYTES);
		assert_int_equal(far_fill_check(&key, data, size_bytes), 0);
	}
	far_prefetch_release(fetch->handle);
	return status.prefix_count;
}

/* Until one is whole again; nobody has to do anything for it. */
static void
wait_healed(struct far_client *client, uint64_t number)
{
	uint64_t until_ns = far_now_ns() + rig_seconds(20) * FAR_NS_PER_S;
	struct fetch fetch;

	do {
		assert_true(far_now_ns() < until_ns);
		fetch_start(client, &fetch, number, rig_seconds(2) * FAR_NS_PER_S);
	} while (fetch_end(&fetch) < BATCH);
}

static void
two_seconds_without_a_packet_are_misses_and_heal(void **state)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct fetch before[4];
	struct fetch during;
	struct far_client *client;
	struct rig rig;
	(void)state;

	assert_int_equal(netns_impair(&netns, "delay 1ms"), 0);
	rig_open(&rig);
	rig_over_ucx(&rig, "0.0.0.0", NETNS_PEER_HOST, PORT, netns.path);
	rig_donor_add(&rig, "donor-a", "32MiB", "block_min: 4KiB\n");
	client = rig_client(&rig, L1_SIZE, "retry_max: 100ms\n");
	store_all(client);
	for (uint64_t i = 0; i < 4; i++)
		fetch_start(client, &before[i], i, rig_seconds(20) * FAR_NS_PER_S);
	assert_int_equal(netns_impair(&netns, "loss 100%"), 0);
	/* Its deadline is how long the silence lasts. L1 does not have it, and nothing arrives. */
	fetch_start(client, &during, 8, 2 * FAR_NS_PER_S);
	assert_int_equal(fetch_end(&during), 0);
	assert_int_equal(netns_impair(&netns, "delay 1ms"), 0);
	/* What was on its way arrives late, or is a miss; both are within its deadline. */
	for (size_t i = 0; i < 4; i++)
		(void)fetch_end(&before[i]);
	wait_healed(client, 8);
	for (uint64_t number = 0; number < BLOCKS / BATCH; number++) {
		fetch_start(client, &during, number, rig_seconds(20) * FAR_NS_PER_S);
		assert_int_equal(fetch_end(&during), BATCH);
	}
	far_stats_get(client, &stats);
	printf("note: loss 100%% for 2 s: misses, then all %u blocks right; link lost %" PRIu64
	       " times\n",
	       BLOCKS, stats.donors_lost);
	far_client_close(client); /* asserts that nothing is left behind */
	assert_int_equal(rig_donor_signal(&rig.donors[0], SIGTERM), 0);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(late_packets_cost_no_hit),
		cmocka_unit_test(lost_packets_cost_no_hit_and_no_byte),
		cmocka_unit_test(late_and_lost_packets_cost_no_hit_and_no_byte),
		cmocka_unit_test(corrupt_packets_cost_no_hit_and_no_byte),
		cmocka_unit_test(two_seconds_without_a_packet_are_misses_and_heal),
	};
	int failed;

	if (netns_open(&netns) < 0)
		return 77;
	if (netns_impair(&netns, "delay 1ms") < 0) {
		netns_close(&netns);
		printf("skipped: no netem here (module sch_netem, tc of iproute2): ./dev rdma has "
		       "it\n");
		return 77;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	netns_close(&netns);
	return failed;
}
