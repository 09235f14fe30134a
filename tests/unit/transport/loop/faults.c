/* faults.c - what a test does to hosts and paths has the consequences that it has in a rack. */
#include "tests/unit/transport/loop/loop_world.h"

static const struct far_loop_config config = {
	.seed = 1,
	.latency_ns_min = 500,
	.latency_ns_max = 5000,
	.reorder = true,
};

static void
steps(struct world *w, int count)
{
	for (int i = 0; i < count; i++)
		world_step(w);
}

static void
a_paused_host_hears_nothing_but_its_memory_is_read(void **state)
{
	struct world *w = world_open(&config);
	uint32_t heard = w->donor.messages;
	uint32_t sent = 0;
	(void)state;

	memset(w->region_bytes, 0x42, WORLD_REGION_BYTES);
	far_loop_host_pause(w->fabric, "donor", true);
	while (far_transport_send(w->client.link, "hello?", 6) == 0)
		sent++;
	world_post(w, FAR_OP_READ, 0, 4096, 1);
	world_wait(w, w->client.status[1] == 0);
	assert_memory_equal(w->local_bytes, w->region_bytes, WORLD_REGION_BYTES);
	steps(w, 1000);
	assert_int_equal(w->donor.messages, heard);
	assert_int_equal(far_transport_poll(w->donor_tp, 16), 0);
	assert_int_equal(far_transport_send(w->client.link, "x", 1), -EAGAIN);
	assert_int_equal(w->client.lost, 0);

	far_loop_host_pause(w->fabric, "donor", false);
	world_wait(w, w->donor.messages == heard + sent);
	world_close(w);
}

static void
a_killed_host_is_lost_for_its_peers(void **state)
{
	uint32_t read_before_the_end = 0;
	(void)state;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct far_loop_config unlike = config;
		struct world *w;

		unlike.seed = seed;
		w = world_open(&unlike);
		for (uint64_t token = 1; token <= 20; token++)
			world_post(w, FAR_OP_READ, 0, 4096, token);
		far_loop_host_kill(w->fabric, "donor");
		for (uint64_t token = 21; token <= 40; token++)
			world_post(w, FAR_OP_READ, 0, 4096, token);
		world_wait(w, w->client.lost == 1 && w->client.done_count == 40);
		assert_int_equal(w->client.lost_status, -ECONNRESET);
		for (uint64_t token = 1; token <= 20; token++)
			read_before_the_end += w->client.status[token] == 0;
		/* Nobody executes what came after its death. */
		for (uint64_t token = 21; token <= 40; token++)
			assert_int_equal(w->client.status[token], -ECONNRESET);
		assert_int_equal(far_transport_poll(w->donor_tp, 16), 0);
		world_donor_bury(w);
		world_close(w);
	}
	assert_in_range(read_before_the_end, 1, 399);
}

static void
a_host_comes_back_under_its_name(void **state)
{
	struct world *w = world_open(&config);
	struct far_remote old = w->remote;
	(void)state;

	for (int life = 0; life < 3; life++) {
		far_loop_host_kill(w->fabric, "donor");
		if (life == 1)
			world_wait(w, w->client.lost == 1);
		world_donor_bury(w);
		world_wait(w, w->client.lost == 1);
		far_transport_disconnect(w->client.link);
		world_wait(w, w->client.closed == 1);
		world_donor_open(w);
		world_connect(w);
		world_post(w, FAR_OP_READ, 0, 64, 1);
		world_wait(w, w->client.status[1] == 0);
	}
	/* With other keys: the old one is nobody's. */
	assert_memory_not_equal(&old.rkey, &w->remote.rkey, sizeof(old.rkey));
	w->remote = old;
	world_post(w, FAR_OP_READ, 0, 64, 2);
	world_wait(w, w->client.status[2] != 1);
	assert_int_equal(w->client.status[2], -ESTALE);
	world_close(w);
}

static void
repeated_keys_name_new_memory(void **state)
{
	struct world *w = world_open(&config);
	struct far_remote old = w->remote;
	(void)state;

	/* The client's own memory has no remote key, so the region was the first to get one. */
	far_loop_host_kill(w->fabric, "donor");
	world_donor_bury(w);
	world_wait(w, w->client.lost == 1);
	far_transport_disconnect(w->client.link);
	world_wait(w, w->client.closed == 1);
	far_loop_keys_repeat(w->fabric);
	world_donor_open(w);
	memset(w->region_bytes, 0x99, WORLD_REGION_BYTES);
	world_connect(w);
	assert_memory_equal(&old, &w->remote, sizeof(old));
	w->remote = old;
	world_post(w, FAR_OP_READ, 0, 64, 1);
	world_wait(w, w->client.status[1] == 0);
	assert_int_equal(w->local_bytes[0], 0x99); /* only an epoch can tell */
	world_close(w);
}

static void
a_killed_client_is_lost_for_the_donor_and_its_writes_stop(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct far_loop_config unlike = config;
		struct world *w;
		uint8_t buried[WORLD_REGION_BYTES];

		unlike.seed = seed;
		w = world_open(&unlike);
		memset(w->local_bytes, 1, WORLD_REGION_BYTES);
		for (uint64_t token = 1; token <= 8; token++)
			world_post(w, FAR_OP_WRITE, (uint32_t)(token - 1) * 512, 512, token);
		steps(w, (int)seed);
		far_loop_host_kill(w->fabric, "client");
		steps(w, 2);
		far_loop_host_bury(w->client_tp);
		memcpy(buried, w->region_bytes, sizeof(buried));
		while (w->donor.lost == 0) {
			far_loop_step(w->fabric, far_clock_now(w->clock) + FAR_NS_PER_MS);
			far_transport_poll(w->donor_tp, 16);
		}
		assert_memory_equal(buried, w->region_bytes, sizeof(buried));
		far_transport_disconnect(w->donor.link);
		while (w->donor.closed == 0) {
			far_loop_step(w->fabric, far_clock_now(w->clock) + FAR_NS_PER_MS);
			far_transport_poll(w->donor_tp, 16);
		}
		far_transport_mem_dereg(w->region);
		far_transport_unlisten(w->donor_tp, w->listener);
		far_transport_close(w->donor_tp);
		far_loop_fabric_close(w->fabric);
		far_free(w);
		assert_int_equal(far_alloc_live_bytes(), 0);
	}
}

static void
a_cut_path_is_lost_at_both_ends_and_heals_for_new_links(void **state)
{
	struct world *w = world_open(&config);
	(void)state;

	world_post(w, FAR_OP_READ, 0, 4096, 1);
	far_loop_partition(w->fabric, "client", "donor", true);
	assert_int_equal(far_transport_send(w->client.link, "into the dark", 13), 0);
	world_wait(w, w->client.lost == 1 && w->donor.lost == 1);
	world_wait(w, w->client.done_count == 1);
	assert_int_equal(w->client.status[1], -ECONNRESET);
	assert_int_equal(w->donor.messages, 0);
	world_disconnect(w);

	/* Nobody answers while it lasts: no refusal, only the deadline. */
	assert_int_equal(far_transport_connect(w->client_tp, "donor", NULL, 0,
					       far_clock_now(w->clock) + FAR_NS_PER_S,
					       &w->client.handler, &w->client.link),
			 0);
	w->client.lost = 0;
	w->client.closed = 0;
	world_wait(w, w->client.lost == 1);
	assert_int_equal(w->client.lost_status, -ETIMEDOUT);
	far_transport_disconnect(w->client.link);
	world_wait(w, w->client.closed == 1);

	far_loop_partition(w->fabric, "donor", "client", false); /* either way round */
	world_connect(w);
	world_post(w, FAR_OP_READ, 0, 64, 1);
	world_wait(w, w->client.status[1] == 0);
	world_close(w);
}

static void
a_path_that_is_cut_twice_heals_at_once(void **state)
{
	struct world *w = world_open(&config);
	(void)state;

	far_loop_partition(w->fabric, "client", "donor", true);
	far_loop_partition(w->fabric, "donor", "client", true);
	far_loop_partition(w->fabric, "client", "donor", false);
	world_wait(w, w->client.lost == 1 && w->donor.lost == 1);
	world_disconnect(w);
	world_connect(w);
	/* A cut that nobody healed goes with the fabric. */
	far_loop_partition(w->fabric, "somebody", "else", true);
	world_close(w);
}

static void
a_host_that_dies_while_connecting_leaves_nothing(void **state)
{
	(void)state;
	for (int when = 0; when < 6; when++) {
		struct world *w = world_open(&config);

		world_disconnect(w);
		w->client.lost = 0;
		assert_int_equal(far_transport_connect(w->client_tp, "donor", NULL, 0,
						       far_clock_now(w->clock) + FAR_NS_PER_S,
						       &w->client.handler, &w->client.link),
				 0);
		for (int i = 0; i < when; i++) {
			far_loop_step(w->fabric, far_clock_now(w->clock) + FAR_NS_PER_MS);
			if (i > 1)
				far_transport_poll(w->donor_tp, 1);
		}
		far_loop_host_kill(w->fabric, "donor");
		world_donor_bury(w);
		world_wait(w, w->client.lost == 1);
		world_close(w);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_paused_host_hears_nothing_but_its_memory_is_read),
		cmocka_unit_test(a_killed_host_is_lost_for_its_peers),
		cmocka_unit_test(a_host_comes_back_under_its_name),
		cmocka_unit_test(repeated_keys_name_new_memory),
		cmocka_unit_test(a_killed_client_is_lost_for_the_donor_and_its_writes_stop),
		cmocka_unit_test(a_cut_path_is_lost_at_both_ends_and_heals_for_new_links),
		cmocka_unit_test(a_path_that_is_cut_twice_heals_at_once),
		cmocka_unit_test(a_host_that_dies_while_connecting_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
