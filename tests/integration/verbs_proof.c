/* verbs_proof.c - a network that is cut amid a thousand prefetches, a writer that comes back too late. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "tests/support/fetch.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"
/* The network device behind that address, and the one that its cable leads to: what is cut. */
#define CABLE_VARIABLE "FAR_TEST_RDMA_CABLE"
#define PORT_VARIABLE  "FAR_TEST_RDMA_PORT"
#define LISTEN_PORT    7531U
#define NET_GOOD       "tc qdisc replace dev %s root netem delay 2ms limit 20000"
#define NET_SLOW       "tc qdisc replace dev %s root netem delay 200ms limit 20000"
#define SLOW_MS        200U /* less than a try takes */

static unsigned port = LISTEN_PORT;

static void
cable(const char *command, const char *variable)
{
	char line[256];

	(void)snprintf(line, sizeof(line), command, getenv(variable));
	if (system(line) != 0)
		fail_msg("%s does not work", line);
}

/* Before anything is allocated: skip() does not come back. */
static void
bed_need(void)
{
	if (getenv(HOST_VARIABLE) != NULL && getenv(CABLE_VARIABLE) != NULL &&
	    getenv(PORT_VARIABLE) != NULL)
		return;
	print_message("skipped: " HOST_VARIABLE ", " CABLE_VARIABLE ", " PORT_VARIABLE
		      " name no RDMA port and its cable\n");
	skip();
}

static void
rig_begin(struct rig *rig)
{
	const char *host = getenv(HOST_VARIABLE);

	cable("ip link set %s up", PORT_VARIABLE);
	cable(NET_GOOD, CABLE_VARIABLE);
	rig_open(rig);
	/* RDMA CM keeps a port that was used for a while. */
	rig_over_verbs(rig, host, port++);
}

static uint64_t
now_ms(void)
{
	return far_now_ns() / FAR_NS_PER_MS;
}

/* ---- a thousand prefetches ---- */

#define REQUESTS      1000U
#define REQUEST_KEYS  2U
#define BLOCKS        (REQUESTS * REQUEST_KEYS)
#define BLOCK_BYTES   16384U
#define STORE_BATCH   100U
#define L1_SIZE       "33MiB" /* for all of them, and nothing more */
#define L1_BLOCKS     (33U * 64U)
#define DEADLINE_MS   2500U
#define CUT_AFTER     150U  /* that have ended */
#define CUT_MS        3000U /* more than all retries take */
#define WATCH_MS      500U
#define CANARY_ID     9000000U
#define CANARY(place) ((int)(0x31 + (place) % 200))

struct storm {
	struct rig rig;
	struct rig_donor *donor;
	struct far_client *client;
	struct far_prefetch_handle *handles[REQUESTS];
	uint64_t began_ns[REQUESTS];
	uint32_t whole, cut;
	uint64_t wrong;
	uint64_t late_ns_max;
	/* Buffers that were given out again: nobody but we may write there. */
	struct far_block *canaries[L1_BLOCKS];
	uint32_t canary_count;
	uint64_t canary_ids;
};

static void
storm_store(struct storm *s)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};

	for (uint64_t id = 0; id < BLOCKS; id++) {
		struct far_block *block;
		struct far_key key;

		far_fill_key(id, BLOCK_BYTES, &key);
		assert_int_equal(far_reserve(s->client, &key, BLOCK_BYTES, &block), 0);
		far_fill_block(&key, far_block_buffer(block), BLOCK_BYTES);
		assert_int_equal(far_commit(block), 0);
		if (id % STORE_BATCH == STORE_BATCH - 1)
			assert_int_equal(far_flush(s->client,
						   far_now_ns() + rig_seconds(5) * FAR_NS_PER_S,
						   &result),
					 0);
	}
	assert_int_equal(result.stored, BLOCKS);
}

static struct storm *
storm_begin(const char *extra)
{
	struct storm *s;
	char text[512];

	bed_need();
	s = calloc(1, sizeof(*s));
	assert_non_null(s);
	rig_begin(&s->rig);
	s->donor = rig_donor_add(&s->rig, "donor-a", "64MiB", "block_min: 16KiB\n");
	(void)snprintf(text, sizeof(text),
		       "  evict_high: 1\n  evict_low: 0.99\nretry_max: 100ms\n"
		       "prefetch:\n  requests: 1024\n%s",
		       extra);
	s->client = rig_client(&s->rig, L1_SIZE, text);
	storm_store(s);
	return s;
}

static void
storm_end(struct storm *s)
{
	far_client_close(s->client);
	assert_int_equal(rig_donor_signal(s->donor, SIGTERM), 0);
	rig_close(&s->rig);
	free(s);
}

/* Takes what L1 has to give, up to @max, and marks it. */
static void
canaries_set(struct storm *s, uint32_t max)
{
	while (max-- > 0 && s->canary_count < L1_BLOCKS) {
		struct far_block *block;
		struct far_key key;

		far_fill_key(CANARY_ID + s->canary_ids, BLOCK_BYTES, &key);
		if (far_reserve(s->client, &key, BLOCK_BYTES, &block) < 0)
			return;
		s->canary_ids++;
		memset(far_block_buffer(block), CANARY(s->canary_count), BLOCK_BYTES);
		s->canaries[s->canary_count++] = block;
	}
}

static void
canaries_live(const struct storm *s)
{
	for (uint32_t i = 0; i < s->canary_count; i++) {
		const uint8_t *bytes = far_block_buffer(s->canaries[i]);

		/* All are equal to the first, and that is right. */
		if (bytes[0] != CANARY(i) || memcmp(bytes, bytes + 1, BLOCK_BYTES - 1) != 0)
			fail_msg("bytes landed in a buffer that was given out again: %u of %u", i,
				 s->canary_count);
	}
}

static void
canaries_end(struct storm *s)
{
	canaries_live(s);
	while (s->canary_count > 0)
		assert_int_equal(far_abort(s->canaries[--s->canary_count]), 0);
}

/* All are on their way at once. */
static void
storm_start(struct storm *s, uint64_t deadline_ns)
{
	struct far_prefetch_options options = {.size_bytes = sizeof(options),
					       .deadline_ns = deadline_ns,
					       .flags = FAR_PREFETCH_LET_GO};

	(void)far_clear(s->client, 0);
	for (uint32_t i = 0; i < REQUESTS; i++) {
		struct far_key keys[REQUEST_KEYS];

		for (uint32_t k = 0; k < REQUEST_KEYS; k++)
			far_fill_key(i * REQUEST_KEYS + k, BLOCK_BYTES, &keys[k]);
		s->began_ns[i] = far_now_ns();
		assert_int_equal(
			far_prefetch(s->client, keys, REQUEST_KEYS, &options, &s->handles[i]), 0);
	}
}

/* Waits for the end of one, checks it and lets go of it. */
static void
request_end(struct storm *s, uint32_t idx, uint64_t deadline_ns)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_prefetch_handle *handle = s->handles[idx];
	uint64_t ended_ns;

	assert_int_equal(
		far_prefetch_wait(handle, deadline_ns + rig_seconds(1) * FAR_NS_PER_S, &status), 0);
	ended_ns = s->began_ns[idx] + status.latency_ns;
	if (ended_ns > deadline_ns && ended_ns - deadline_ns > s->late_ns_max)
		s->late_ns_max = ended_ns - deadline_ns;
	for (uint32_t k = 0; k < status.prefix_count; k++) {
		const void *data;
		struct far_key key;
		uint32_t size_bytes;

		far_fill_key(idx * REQUEST_KEYS + k, BLOCK_BYTES, &key);
		assert_int_equal(far_prefetch_block(handle, k, &data, &size_bytes), 0);
		s->wrong += far_fill_check(&key, data, size_bytes);
	}
	if (status.prefix_count == REQUEST_KEYS)
		s->whole++;
	else
		s->cut++;
	far_prefetch_release(handle);
}

static void
watch(struct storm *s, uint64_t ms)
{
	uint64_t until_ms = now_ms() + ms;

	while (now_ms() < until_ms) {
		canaries_set(s, L1_BLOCKS);
		canaries_live(s);
		(void)usleep(50000);
	}
}

/* All are served again, over the link that is back. */
static void
storm_again(struct storm *s)
{
	char error[256] = "";

	for (int round = 0; round < 5; round++) {
		uint64_t deadline_ns = far_now_ns() + rig_seconds(10) * FAR_NS_PER_S;

		if (far_client_wait_donors(s->client, deadline_ns, error, sizeof(error)) < 0)
			fail_msg("the link is not back: %s", error);
		s->whole = 0;
		storm_start(s, deadline_ns);
		for (uint32_t i = 0; i < REQUESTS; i++)
			request_end(s, i, deadline_ns);
		if (s->whole == REQUESTS) /* what was bad may still cost a link */
			break;
	}
	assert_int_equal(s->whole, REQUESTS);
	assert_int_equal(s->wrong, 0);
}

/* The network is bad for so long, then good again: all that time no byte lands where a canary is. */
static void
storm_over(struct storm *s, uint64_t bad_ms)
{
	canaries_live(s);
	watch(s, bad_ms);
	cable(NET_GOOD, CABLE_VARIABLE);
	cable("ip link set %s up", PORT_VARIABLE);
	watch(s, WATCH_MS);
	/* Nearly every buffer of L1 has been one. */
	assert_true(s->canary_count > L1_BLOCKS - L1_BLOCKS / 8);
	canaries_end(s);
	storm_again(s);
}

/* Cut amid them: they end by their deadline. */
static void
storm_cut(const char *name, const char *cut, const char *variable)
{
	struct storm *s = storm_begin("");
	uint64_t deadline_ns = far_now_ns() + DEADLINE_MS * FAR_NS_PER_MS;

	storm_start(s, deadline_ns);
	for (uint32_t i = 0; i < REQUESTS; i++) {
		if (i == CUT_AFTER)
			cable(cut, variable);
		request_end(s, i, deadline_ns);
		canaries_set(s, REQUEST_KEYS);
	}
	print_message("note: %s amid %u prefetches: %u whole, %u a miss, the last %.1f ms after "
		      "its deadline\n",
		      name, REQUESTS, s->whole, s->cut, (double)s->late_ns_max / 1e6);
	assert_int_equal(s->wrong, 0);
	assert_true(s->cut > 0);
	assert_int_equal(s->whole + s->cut, REQUESTS);
	storm_over(s, CUT_MS);
	storm_end(s);
}

static void
silence_amid_a_thousand_prefetches_lands_no_byte_late(void **state)
{
	(void)state;
	storm_cut("silence", "tc qdisc replace dev %s root netem loss 100%%", CABLE_VARIABLE);
}

static void
a_cut_cable_amid_a_thousand_prefetches_lands_no_byte_late(void **state)
{
	(void)state;
	storm_cut("a cut cable", "ip link set %s down", PORT_VARIABLE);
}

/* The link lives, and what was asked for does land, when nobody waits for it any more. */
static void
answers_that_come_too_late_land_in_nobodys_buffer(void **state)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct storm *s = storm_begin("");
	uint64_t deadline_ns = far_now_ns() + rig_seconds(10) * FAR_NS_PER_S;
	(void)state;

	storm_start(s, deadline_ns);
	for (uint32_t i = 0; i < CUT_AFTER; i++) {
		request_end(s, i, deadline_ns);
		canaries_set(s, REQUEST_KEYS);
	}
	cable(NET_SLOW, CABLE_VARIABLE);
	(void)usleep(SLOW_MS / 2 * 1000); /* what is posted now is answered later */
	for (uint32_t i = CUT_AFTER; i < REQUESTS; i++)
		far_prefetch_cancel(s->handles[i]);
	for (uint32_t i = CUT_AFTER; i < REQUESTS; i++)
		request_end(s, i, deadline_ns);
	canaries_set(s, L1_BLOCKS);
	far_stats_get(s->client, &stats);
	assert_true(s->cut > 0);
	print_message("note: %u prefetches were given up: %u buffers were somebody's at once, %u "
		      "not before what was on its way had landed\n",
		      s->cut, s->canary_count, L1_BLOCKS - s->canary_count);
	watch(s, 5 * SLOW_MS);
	far_stats_get(s->client, &stats);
	assert_true(stats.loads_abandoned > 0);
	assert_int_equal(stats.donors_lost, 0);
	storm_over(s, 0);
	storm_end(s);
}

/* An argument is a pattern of names of tests. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_amid_a_thousand_prefetches_lands_no_byte_late),
		cmocka_unit_test(a_cut_cable_amid_a_thousand_prefetches_lands_no_byte_late),
		cmocka_unit_test(answers_that_come_too_late_land_in_nobodys_buffer),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
