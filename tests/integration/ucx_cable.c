/* ucx_cable.c - the network between client and donor fails in every way: misses in time, then as before. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pages.h"
#include "tests/support/fetch.h"
#include "tests/support/netns.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"
#include "wire/frame.h"

#define PORT         7471U
#define L1_SIZE      "48MiB"
#define BLOCKS       1536U /* 96 MiB: twice the L1, so that donors serve nearly all */
#define PREFETCHES   1000U
#define LIVE         32U /* at a time: 32 MiB of the L1 */
#define DEADLINE_MS  500U
#define PATIENT_MS   20000U
#define LONG_CUT_MS  10000U /* more than keepalive and silence need to tell that a link is dead */
#define SHORT_CUT_MS 300U
#define BACK_S       30U
#define STORE_BLOCKS 320U /* less than half of the L1, which is what stores may hold */

static struct netns netns;
static unsigned port = PORT;

/* What must be as it was when all is over. */
struct scene {
	struct rig rig;
	struct rig_donor *donor;
	struct far_client *client;
	uint64_t alloc_bytes; /* of this process, without a client */
	uint64_t pages_bytes;
	size_t fds;       /* of this process, with its client */
	size_t donor_fds; /* with one client */
	uint64_t donor_lanes_open;
	uint64_t cut_ns;
};

static void
sleep_ms(uint64_t ms)
{
	far_clock_sleep_until(far_now_ns() + ms * FAR_NS_PER_MS);
}

/* As the client sees it, without a word to the donor unless it is asked for its counters. */
static void
donor_status(struct scene *scene, bool ask, struct far_donor_status *status)
{
	memset(status, 0, sizeof(*status));
	status->size_bytes = sizeof(*status);
	assert_int_equal(far_donor_status_get(scene->client, 0,
					      far_now_ns() + (ask ? 5 * FAR_NS_PER_S : 0), status),
			 0);
}

static bool
is_up(struct scene *scene)
{
	struct far_donor_status status;

	donor_status(scene, false, &status);
	return strcmp(status.state, "up") == 0;
}

static uint64_t
donors_lost(struct scene *scene)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	far_stats_get(scene->client, &stats);
	return stats.donors_lost;
}

/* Nobody does anything for it: no prefetch, no store, only looking. */
static void
wait_up(struct scene *scene)
{
	uint64_t until_ns = far_now_ns() + BACK_S * FAR_NS_PER_S;

	while (!is_up(scene)) {
		if (far_now_ns() > until_ns)
			fail_msg("the link is not back within %u s", BACK_S);
		sleep_ms(1);
	}
}

static void
wait_lost(struct scene *scene, uint64_t lost_before)
{
	uint64_t until_ns = far_now_ns() + BACK_S * FAR_NS_PER_S;

	while (donors_lost(scene) == lost_before) {
		if (far_now_ns() > until_ns)
			fail_msg("the dead link is not given up within %u s", BACK_S);
		sleep_ms(1);
	}
}

static struct scene *
scene_begin(const char *extra)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	struct far_donor_status status;
	char config[256];

	assert_non_null(scene);
	scene->alloc_bytes = far_alloc_live_bytes();
	scene->pages_bytes = far_pages_live_bytes();
	rig_open(&scene->rig);
	/* One that failed may have left its donor behind. */
	rig_over_ucx(&scene->rig, "0.0.0.0", NETNS_PEER_HOST, port++, netns.path);
	scene->donor = rig_donor_add(&scene->rig, "donor-a", "256MiB", NULL);
	snprintf(config, sizeof(config), "retry_max: 100ms\n%s", extra);
	scene->client = rig_client(&scene->rig, L1_SIZE, config);
	fetch_store(scene->client, 0, BLOCKS);
	scene->fds = rig_fd_count(getpid());
	scene->donor_fds = rig_fd_count(scene->donor->pid);
	donor_status(scene, true, &status);
	assert_int_equal(status.donor_values[FAR_STATUS_link_count], 1);
	scene->donor_lanes_open = status.donor_values[FAR_STATUS_lanes_open];
	return scene;
}

/* Within a bound: a link that died is still being let go on either side. */
#define SETTLES(scene, cond)                                                                       \
	do {                                                                                       \
		uint64_t until_ns_ = far_now_ns() + BACK_S * FAR_NS_PER_S;                         \
                                                                                                   \
		while (!(cond) && far_now_ns() < until_ns_)                                        \
			sleep_ms(10);                                                              \
		assert_true(cond);                                                                 \
	} while (0)

static uint64_t
donor_value(struct scene *scene, size_t idx)
{
	struct far_donor_status status;

	donor_status(scene, true, &status);
	return status.donor_value_count > idx ? status.donor_values[idx] : UINT64_MAX;
}

static bool
l1_is_idle(struct scene *scene)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	far_stats_get(scene->client, &stats);
	return stats.l1_locked_bytes == 0 && stats.l1_quarantine_bytes == 0 &&
	       stats.stores_pending == 0;
}

/* All blocks are there again, and nothing is left of what went wrong, here or at the donor. */
static void
scene_end(struct scene *scene)
{
	struct fetch_outcome outcome = {0};

	wait_up(scene);
	fetch_all(scene->client, BLOCKS, 10000, &outcome);
	assert_int_equal(outcome.whole, BLOCKS / FETCH_BATCH);
	assert_int_equal(outcome.wrong, 0);
	SETTLES(scene, l1_is_idle(scene));
	SETTLES(scene, donor_value(scene, FAR_STATUS_link_count) == 1);
	SETTLES(scene, donor_value(scene, FAR_STATUS_lanes_open) <= scene->donor_lanes_open);
	SETTLES(scene, rig_fd_count(getpid()) <= scene->fds);
	SETTLES(scene, rig_fd_count(scene->donor->pid) <= scene->donor_fds);
	far_client_close(scene->client);
	assert_int_equal(far_alloc_live_bytes(), scene->alloc_bytes);
	assert_int_equal(far_pages_live_bytes(), scene->pages_bytes);
	assert_int_equal(rig_donor_signal(scene->donor, SIGTERM), 0);
	rig_close(&scene->rig);
	free(scene);
}

static void
cut(struct scene *scene, enum netns_end end)
{
	netns_cut(&netns, end, true);
	scene->cut_ns = far_now_ns();
}

static void
mend(enum netns_end end)
{
	netns_cut(&netns, end, false);
}

static unsigned
ms_since(uint64_t ns)
{
	return (unsigned)((far_now_ns() - ns) / FAR_NS_PER_MS);
}

/* ---- in the middle of prefetches ---- */

/* One that could wait for much longer ends when the link does. */
static void
patient_end(struct scene *scene, struct fetch *patient)
{
	struct fetch_outcome outcome = {0};

	fetch_end(patient, &outcome);
	printf("one with a deadline of %u ms ended %u ms after the cut\n", PATIENT_MS,
	       ms_since(scene->cut_ns));
	assert_int_equal(outcome.wrong, 0);
	assert_int_equal(outcome.late, 0);
}

/* Many at a time; cut after a third of them, mended after two thirds, and not too soon. */
static void
fetch_through_a_cut(struct scene *scene, struct fetch_outcome *outcome)
{
	static struct fetch fetches[LIVE];
	uint64_t lost = donors_lost(scene);
	struct fetch patient;

	for (uint64_t number = 0; number < PREFETCHES + LIVE; number++) {
		struct fetch *fetch = &fetches[number % LIVE];

		if (number >= LIVE) {
			uint32_t before = outcome->cut;

			fetch_end(fetch, outcome);
			if (before == 0 && outcome->cut > 0 && scene->cut_ns != 0)
				printf("first miss %u ms after the cut, deadlines %u ms\n",
				       ms_since(scene->cut_ns), DEADLINE_MS);
		}
		if (number < PREFETCHES)
			fetch_start(scene->client, fetch, number * FETCH_BATCH % BLOCKS,
				    DEADLINE_MS);
		if (number == PREFETCHES / 3) {
			cut(scene, NETNS_PEER_END);
			fetch_start(scene->client, &patient, number * FETCH_BATCH % BLOCKS + 1,
				    PATIENT_MS);
		}
		if (number == PREFETCHES * 2 / 3) {
			wait_lost(scene, lost);
			patient_end(scene, &patient);
			mend(NETNS_PEER_END);
		}
	}
}

static void
prefetches_through_a_cut_all_end_in_time_and_the_link_is_back_by_itself(void **state)
{
	struct scene *scene = scene_begin("");
	struct fetch_outcome outcome = {0};
	(void)state;

	fetch_through_a_cut(scene, &outcome);
	printf("%u whole, %u cut, %u later than their deadline, by %u us at most\n", outcome.whole,
	       outcome.cut, outcome.late, (unsigned)(outcome.late_ns_max / 1000));
	assert_int_equal(outcome.whole + outcome.cut, PREFETCHES);
	assert_true(outcome.whole > 0);
	assert_true(outcome.cut > 0);
	assert_int_equal(outcome.wrong, 0);
	scene_end(scene);
}

/* ---- long and short ---- */

static void
first_hit_print(struct scene *scene, uint64_t mended_ns)
{
	struct fetch_outcome outcome = {0};
	struct fetch fetch;

	wait_up(scene);
	printf("link up %u ms after the mend, ", ms_since(mended_ns));
	fetch_start(scene->client, &fetch, 0, 10000);
	fetch_end(&fetch, &outcome);
	assert_int_equal(outcome.whole, 1);
	assert_int_equal(outcome.wrong, 0);
	printf("first hit after %u ms\n", ms_since(mended_ns));
}

/* Nothing is asked for meanwhile: only keepalive can notice. */
static void
a_cut_longer_than_keepalive_is_noticed_on_an_idle_link_too(void **state)
{
	struct scene *scene = scene_begin("");
	uint64_t lost = donors_lost(scene);
	uint64_t mended_ns;
	(void)state;

	cut(scene, NETNS_OUR_END);
	wait_lost(scene, lost);
	printf("idle link given up %u ms after the cut\n", ms_since(scene->cut_ns));
	if (ms_since(scene->cut_ns) < LONG_CUT_MS)
		sleep_ms(LONG_CUT_MS - ms_since(scene->cut_ns));
	mended_ns = far_now_ns();
	mend(NETNS_OUR_END);
	first_hit_print(scene, mended_ns);
	scene_end(scene);
}

static void
a_short_cut_costs_nothing_but_time(void **state)
{
	static struct fetch fetches[LIVE];
	struct scene *scene = scene_begin("");
	struct fetch_outcome outcome = {0};
	uint64_t mended_ns;
	(void)state;

	for (uint64_t i = 0; i < LIVE; i++)
		fetch_start(scene->client, &fetches[i], i * FETCH_BATCH, 20000);
	cut(scene, NETNS_PEER_END);
	sleep_ms(SHORT_CUT_MS);
	mended_ns = far_now_ns();
	mend(NETNS_PEER_END);
	for (uint64_t i = 0; i < LIVE; i++)
		fetch_end(&fetches[i], &outcome);
	printf("all hits %u ms after the mend, links lost: %u\n", ms_since(mended_ns),
	       (unsigned)donors_lost(scene));
	assert_int_equal(outcome.whole, LIVE);
	assert_int_equal(outcome.wrong, 0);
	assert_int_equal(donors_lost(scene), 0);
	scene_end(scene);
}

/* ---- stores ---- */

/* Commits without waiting for donors. */
static void
put_all(struct far_client *client, uint64_t first, uint64_t count)
{
	for (uint64_t id = first; id < first + count; id++) {
		struct far_block *block;
		struct far_key key;

		far_fill_key(id, FETCH_BLOCK_BYTES, &key);
		assert_int_equal(far_reserve(client, &key, FETCH_BLOCK_BYTES, &block), 0);
		far_fill_block(&key, far_block_buffer(block), FETCH_BLOCK_BYTES);
		assert_int_equal(far_commit(block), 0);
	}
}

/* How many blocks another client finds, which has nothing of its own. */
static uint64_t
found_by_another(struct scene *scene, uint64_t first, uint64_t count)
{
	struct far_client *other = rig_client(&scene->rig, L1_SIZE, NULL);
	uint64_t found = 0;

	for (uint64_t id = first; id < first + count; id++) {
		struct far_block *block;
		struct far_key key;

		far_fill_key(id, FETCH_BLOCK_BYTES, &key);
		if (far_get(other, &key, far_now_ns() + 5 * FAR_NS_PER_S, &block) != 0)
			continue;
		found++;
		assert_int_equal(far_fill_check(&key, far_block_data(block), FETCH_BLOCK_BYTES), 0);
		far_release(block);
	}
	far_client_close(other);
	return found;
}

struct stores {
	uint64_t stored;
	uint64_t failed;
	uint64_t retries;
	uint64_t found; /* by a client that has nothing of its own */
};

static struct stores
stores_since(const struct far_stats *before, const struct far_stats *after)
{
	return (struct stores){
		.stored = after->blocks_stored + after->blocks_had - before->blocks_stored -
			  before->blocks_had,
		.failed = after->stores_failed_down + after->stores_failed_full +
			  after->stores_failed_deadline + after->stores_failed_other +
			  after->stores_dropped - before->stores_failed_down -
			  before->stores_failed_full - before->stores_failed_deadline -
			  before->stores_failed_other - before->stores_dropped,
		.retries = after->store_retries - before->store_retries,
	};
}

/* Cut while some are on their way and others wait; mended when the link has been given up. */
static struct stores
store_through_a_cut(struct scene *scene)
{
	struct far_stats before = {.size_bytes = sizeof(before)};
	struct far_stats after = {.size_bytes = sizeof(after)};
	uint64_t lost = donors_lost(scene);
	struct stores stores;

	far_stats_get(scene->client, &before);
	put_all(scene->client, BLOCKS, STORE_BLOCKS / 2);
	cut(scene, NETNS_PEER_END);
	put_all(scene->client, BLOCKS + STORE_BLOCKS / 2, STORE_BLOCKS / 2);
	wait_lost(scene, lost);
	mend(NETNS_PEER_END);
	assert_int_equal(far_flush(scene->client, far_now_ns() + BACK_S * FAR_NS_PER_S, NULL), 0);
	far_stats_get(scene->client, &after);
	stores = stores_since(&before, &after);
	stores.found = found_by_another(scene, BLOCKS, STORE_BLOCKS);
	printf("%u stored, %u failed, %u tries more than one, %u found by another client\n",
	       (unsigned)stores.stored, (unsigned)stores.failed, (unsigned)stores.retries,
	       (unsigned)stores.found);
	return stores;
}

static void
stores_through_a_cut_are_made_or_counted_as_failed(void **state)
{
	struct scene *scene = scene_begin("store:\n  batch: 8\n  tries: 1\n");
	struct stores stores = store_through_a_cut(scene);
	(void)state;

	assert_int_equal(stores.stored + stores.failed, STORE_BLOCKS);
	assert_true(stores.failed > 0);
	/* Those whose answer was lost on the way back may be there, too. */
	assert_true(stores.found >= stores.stored);
	scene_end(scene);
}

static void
stores_that_have_tries_left_are_made_when_the_network_is_back(void **state)
{
	struct scene *scene =
		scene_begin("store:\n  batch: 8\n  tries: 10\n  retry: 200ms\n  deadline: 30s\n");
	struct stores stores = store_through_a_cut(scene);
	(void)state;

	assert_true(stores.retries > 0);
	assert_int_equal(stores.failed, 0);
	assert_int_equal(stores.stored, STORE_BLOCKS);
	assert_int_equal(stores.found, STORE_BLOCKS);
	scene_end(scene);
}

/* ---- the donor's process ---- */

static void
a_stopped_donor_costs_misses_in_time_and_is_used_when_it_goes_on(void **state)
{
	struct scene *scene = scene_begin("");
	struct fetch_outcome outcome = {0};
	uint64_t lost = donors_lost(scene);
	uint64_t until_ns, on_ns;
	(void)state;

	rig_donor_signal(scene->donor, SIGSTOP);
	scene->cut_ns = far_now_ns();
	until_ns = scene->cut_ns + BACK_S * FAR_NS_PER_S;
	while (donors_lost(scene) == lost && far_now_ns() < until_ns)
		fetch_all(scene->client, BLOCKS / 4, DEADLINE_MS, &outcome);
	printf("stopped: given up at most %u ms after, %u whole, %u cut, %u late by %u us\n",
	       ms_since(scene->cut_ns), outcome.whole, outcome.cut, outcome.late,
	       (unsigned)(outcome.late_ns_max / 1000));
	assert_true(donors_lost(scene) > lost);
	assert_true(outcome.cut > 0);
	assert_int_equal(outcome.wrong, 0);
	on_ns = far_now_ns();
	rig_donor_signal(scene->donor, SIGCONT);
	first_hit_print(scene, on_ns);
	scene_end(scene);
}

static void
a_donor_that_stops_for_a_moment_is_waited_for(void **state)
{
	static struct fetch fetches[LIVE];
	struct scene *scene = scene_begin("");
	struct fetch_outcome outcome = {0};
	(void)state;

	rig_donor_signal(scene->donor, SIGSTOP);
	for (uint64_t i = 0; i < LIVE; i++)
		fetch_start(scene->client, &fetches[i], i * FETCH_BATCH, 20000);
	sleep_ms(1000);
	rig_donor_signal(scene->donor, SIGCONT);
	for (uint64_t i = 0; i < LIVE; i++)
		fetch_end(&fetches[i], &outcome);
	assert_int_equal(outcome.whole, LIVE);
	assert_int_equal(outcome.wrong, 0);
	assert_int_equal(donors_lost(scene), 0);
	scene_end(scene);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			prefetches_through_a_cut_all_end_in_time_and_the_link_is_back_by_itself),
		cmocka_unit_test(a_cut_longer_than_keepalive_is_noticed_on_an_idle_link_too),
		cmocka_unit_test(a_short_cut_costs_nothing_but_time),
		cmocka_unit_test(stores_through_a_cut_are_made_or_counted_as_failed),
		cmocka_unit_test(stores_that_have_tries_left_are_made_when_the_network_is_back),
		cmocka_unit_test(a_stopped_donor_costs_misses_in_time_and_is_used_when_it_goes_on),
		cmocka_unit_test(a_donor_that_stops_for_a_moment_is_waited_for),
	};
	int failed;

	if (netns_open(&netns) < 0)
		return 77;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	netns_close(&netns);
	return failed;
}
