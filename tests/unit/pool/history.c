/* history.c - tests: random histories of clients, deaths and drains; what is found is always right. */
#include "tests/unit/pool/test.h"

#include <stdlib.h>

#define NUMBERS 400 /* so many different blocks; keys come again */
#define STEPS   250
#define SEEDS   4
#define CLIENTS 4

struct history {
	struct rig *rig;
	struct far_rng rng;
	uint64_t found; /* blocks that a reader found, and that were right */
	uint64_t deaths;
	uint64_t drains;
	uint64_t stored;
};

/* The length follows from the number too, so that a key always names the same bytes. */
static uint32_t
size_of(uint64_t number)
{
	return (uint32_t)(1 + far_mix64(number * 3) % (256 * KIB));
}

static struct rig_client *
client_pick(struct history *h)
{
	int idx = (int)far_rng_below(&h->rng, CLIENTS);
	struct rig_client *client = &h->rig->clients[idx];

	if (client->tp == NULL)
		return rig_client_open(h->rig, idx);
	if (client->lost || client->link == NULL) {
		fail_msg("a client that keeps to the rules lost its link");
	}
	return client;
}

static void
step_store(struct history *h)
{
	struct rig_client *client = client_pick(h);
	struct far_frame_block blocks[32];
	uint32_t count = 0;
	uint32_t want = 1 + (uint32_t)far_rng_below(&h->rng, 24);
	bool end = false;

	if (client->grant_count == 0 && rig_lane_ask(client) < 0)
		return;
	while (count < want) {
		uint64_t number = far_rng_below(&h->rng, NUMBERS);

		if (!rig_block_write(client, 0, number, size_of(number), &blocks[count])) {
			end = true;
			break;
		}
		count++;
	}
	end |= far_rng_below(&h->rng, 10) == 0;
	if (count == 0 && !end)
		return;
	rig_commit(client, 0, blocks, count, end);
	for (uint32_t i = 0; i < count; i++) {
		assert_true(client->results[i] == 0 || client->results[i] == -EEXIST);
		h->stored += client->results[i] == 0;
	}
	if (end)
		client->grant_count = 0;
}

static void
step_die(struct history *h)
{
	rig_client_kill(client_pick(h));
	h->deaths++;
}

static void
recalls_answer(struct history *h)
{
	for (int i = 0; i < CLIENTS; i++) {
		struct rig_client *client = &h->rig->clients[i];

		if (client->tp == NULL)
			continue;
		if (client->recalled != 0 && client->grant_count > 0 &&
		    client->grants[0].serial == client->recalled) {
			rig_commit(client, 0, NULL, 0, true);
			client->grant_count = 0;
		}
		client->recalled = 0;
		if (client->segment_recalled != 0) {
			struct far_frame_segment gone = {.segment = client->segment_recalled};

			client->segment_recalled = 0;
			assert_int_equal(rig_send(client, FAR_FRAME_SEGMENT_GONE, &gone, NULL, 0),
					 0);
			rig_settle(h->rig);
		}
	}
}

/* Gives a segment back, waits for its end, lends a new one. Other things happen meanwhile. */
static void
step_drain(struct history *h)
{
	int entry = (int)far_rng_below(&h->rng, 3);

	rig_segment_drain(h->rig, entry);
	for (int i = 0; i < 100 && !h->rig->segments[entry].drained; i++) {
		step_store(h);
		recalls_answer(h);
		rig_run(h->rig, 20 * FAR_NS_PER_MS);
	}
	assert_true(h->rig->segments[entry].drained);
	assert_int_equal(rig_segment_add(h->rig, 4 * RIG_LANE_BYTES), entry);
	h->drains++;
}

static void
step(struct history *h)
{
	uint64_t dice = far_rng_below(&h->rng, 100);
	uint64_t number = far_rng_below(&h->rng, NUMBERS);

	if (dice < 50)
		step_store(h);
	else if (dice < 65)
		rig_touch(client_pick(h), number, 1);
	else if (dice < 75)
		(void)rig_delete(client_pick(h), number);
	else if (dice < 78)
		step_die(h);
	else if (dice < 79)
		step_drain(h);
	else
		rig_run(h->rig, far_rng_below(&h->rng, 30 * FAR_NS_PER_MS));
	recalls_answer(h);
	for (int i = 0; i < 8; i++)
		h->found += rig_holds(h->rig, far_rng_below(&h->rng, NUMBERS));
}

static void
history_run(uint64_t seed)
{
	struct history h = {.rig = NULL};
	struct far_pool_config config;

	rig_config(&config);
	config.capacity_bytes = 12 * RIG_LANE_BYTES;
	config.lanes_free_min = 2;
	config.lanes_open_max = 0;
	h.rig = rig_open(&config, seed, false);
	far_rng_init(&h.rng, seed);
	for (int i = 0; i < STEPS; i++)
		step(&h);
	/* It was no history of misses. */
	assert_true(h.found > STEPS);
	assert_true(h.stored > STEPS);
	assert_true(h.deaths > 0);
	assert_true(rig_stat(h.rig, FAR_STATUS_lanes_evicted) > 0);
	assert_int_equal(rig_stat(h.rig, FAR_STATUS_links_dropped), 0);
	rig_close(h.rig);
}

static void
whatever_is_found_is_right(void **state)
{
	const char *only = *state;

	if (only != NULL) {
		history_run(strtoull(only, NULL, 0));
		return;
	}
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		print_message("seed %d\n", (int)seed);
		history_run(seed);
	}
}

/* An argument is the one seed to run. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(whatever_is_found_is_right, argc > 1 ? argv[1] : NULL),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
