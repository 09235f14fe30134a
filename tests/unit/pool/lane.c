/* lane.c - tests: lanes are granted, shared, asked back, and given on only when nothing can land. */
#include "tests/unit/pool/test.h"

static struct rig *
open_with(uint64_t lanes_open_max, bool is_async)
{
	struct far_pool_config config;

	rig_config(&config);
	config.lanes_open_max = lanes_open_max;
	return rig_open(&config, 1, is_async);
}

static void
granted_lane_can_be_written_by_its_link_alone(void **state)
{
	struct rig *rig = open_with(4, false);
	struct rig_client *owner = rig_client_open(rig, 0);
	struct rig_client *other = rig_client_open(rig, 1);
	int grant = rig_lane_ask(owner);
	struct far_frame_block block;

	(void)state;
	assert_int_equal(grant, 0);
	assert_int_equal(owner->grants[0].size_bytes, RIG_LANE_BYTES);
	assert_int_equal(rig_store(owner, grant, 1, 64 * KIB), 0);
	assert_true(rig_holds(rig, 1));
	/* The same key in another's hands places nothing. */
	other->grants[0] = owner->grants[0];
	other->fill[0] = 64 * KIB;
	assert_true(rig_block_write(other, 0, 2, 64 * KIB, &block));
	rig_settle(rig);
	assert_true(rig_holds(rig, 1));
	for (uint32_t i = 0; i < 64 * KIB; i++)
		assert_int_equal(
			rig->segments[0].base[owner->grants[0].offset_bytes + 64 * KIB + i], 0);
	rig_close(rig);
}

static void
serials_never_repeat(void **state)
{
	struct rig *rig = open_with(4, false);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	for (int i = 0; i < 12; i++) {
		assert_int_equal(rig_lane_ask(client), i);
		for (int k = 0; k < i; k++)
			assert_int_not_equal(client->grants[i].serial, client->grants[k].serial);
		rig_commit(client, i, NULL, 0, true);
	}
	rig_close(rig);
}

static void
every_lane_asked_for_is_answered(void **state)
{
	struct rig *rig = open_with(2, false);
	struct rig_client *client = rig_client_open(rig, 0);
	struct far_frame_lane_ask ask = {.lane_count = 5};

	(void)state;
	assert_int_equal(rig_send(client, FAR_FRAME_LANE_ASK, &ask, NULL, 0), 0);
	rig_settle(rig);
	assert_int_equal(client->answers[FAR_FRAME_LANE_GRANT], 2);
	assert_int_equal(client->answers[FAR_FRAME_LANE_FULL], 3);
	assert_int_equal(client->tag, 42);
	assert_int_equal(rig_stat(rig, FAR_STATUS_grants_full), 3);
	rig_close(rig);
}

static void
ended_lane_without_blocks_is_free_at_once(void **state)
{
	struct rig *rig = open_with(4, false);
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);

	(void)state;
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 3);
	rig_commit(client, grant, NULL, 0, true);
	assert_int_equal(client->answers[FAR_FRAME_COMMITTED], 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 4);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_open), 0);
	rig_close(rig);
}

static void
partly_filled_lane_keeps_its_blocks_when_ended(void **state)
{
	struct rig *rig = open_with(4, false);
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);

	(void)state;
	assert_int_equal(rig_store(client, grant, 1, 100 * KIB), 0);
	rig_commit(client, grant, NULL, 0, true);
	rig_run(rig, FAR_NS_PER_S);
	assert_true(rig_holds(rig, 1));
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 3);
	rig_close(rig);
}

static void
late_write_into_an_ended_lane_does_not_land(void **state)
{
	struct rig *rig = open_with(4, false);
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);
	struct far_frame_block block;
	struct far_frame_commit commit;

	(void)state;
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), 0);
	commit = (struct far_frame_commit){.serial = client->grants[grant].serial,
					   .flags = FAR_COMMIT_END};
	assert_int_equal(rig_send(client, FAR_FRAME_COMMIT, &commit, NULL, 0), 0);
	client->fill[grant] = 0; /* over the block that was committed */
	rig_settle(rig);
	assert_true(rig_block_write(client, grant, 2, 64 * KIB, &block));
	rig_settle(rig);
	assert_true(rig_holds(rig, 1));
	rig_close(rig);
}

/* The heart of the fence: a dead writer's lane changes hands only when its registration is gone and
 * its link is closed. */
static void
lane_of_a_dead_link_is_granted_only_after_its_registration_is_gone(void **state)
{
	struct rig *rig = open_with(4, true);
	struct rig_client *heir = rig_client_open(rig, 1);
	struct rig_client *dead = rig_client_open(rig, 0);
	struct far_frame_lane_ask ask = {.lane_count = 4};

	(void)state;
	assert_int_equal(rig_send(dead, FAR_FRAME_LANE_ASK, &ask, NULL, 0), 0);
	rig_settle(rig);
	assert_int_equal(rig->register_count, 4);
	rig_answer_registers(rig);
	rig_settle(rig);
	assert_int_equal(dead->grant_count, 4);

	rig_client_kill(dead);
	rig_run(rig, FAR_NS_PER_S);
	assert_int_equal(rig->deregister_count, 4);
	assert_int_equal(rig_lane_ask(heir), -1);
	assert_int_equal(rig->register_count, 0);
	assert_int_equal(rig_stat(rig, FAR_STATUS_link_count), 2); /* not closed before its lanes */

	rig_answer_deregisters(rig);
	/* Registrations are gone, the link is not closed yet. */
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 0);
	rig_settle(rig);
	assert_int_equal(rig_stat(rig, FAR_STATUS_link_count), 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 4);
	rig_run(rig, 2 * FAR_NS_PER_S);
	(void)rig_lane_ask(heir);
	assert_int_equal(rig->register_count, 1);
	rig_close(rig);
}

static void
dead_links_committed_blocks_stay(void **state)
{
	struct rig *rig = open_with(4, false);
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);
	struct far_frame_block block;

	(void)state;
	assert_int_equal(rig_store(client, grant, 1, 64 * KIB), 0);
	assert_true(rig_block_write(client, grant, 2, 64 * KIB, &block)); /* never committed */
	rig_client_kill(client);
	rig_run(rig, FAR_NS_PER_S);
	assert_true(rig_holds(rig, 1));
	assert_false(rig_holds(rig, 2));
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_open), 0);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 3);
	rig_close(rig);
}

static void
registration_that_comes_after_its_link_died_is_undone(void **state)
{
	struct rig *rig = open_with(4, true);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	assert_int_equal(rig_lane_ask(client), -1);
	assert_int_equal(rig->register_count, 1);
	rig_client_kill(client);
	rig_run(rig, FAR_NS_PER_S);
	/* The link that the registration names is still there. */
	assert_int_equal(rig_stat(rig, FAR_STATUS_link_count), 1);
	rig_answer_registers(rig);
	assert_int_equal(rig->deregister_count, 1);
	rig_answer_deregisters(rig);
	rig_settle(rig);
	assert_int_equal(rig_stat(rig, FAR_STATUS_link_count), 0);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 4);
	rig_close(rig);
}

static void
failed_registration_is_answered_full(void **state)
{
	struct rig *rig = open_with(4, true);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	far_log_capture_expect("no registration");
	assert_int_equal(rig_lane_ask(client), -1);
	rig->register_count = 0;
	far_pool_lane_registered(rig->pool, rig->registers[0].lane, -ENOMEM, NULL);
	rig_settle(rig);
	assert_int_equal(client->answers[FAR_FRAME_LANE_FULL], 1);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 4);
	rig_close(rig);
}

static void
idle_lane_is_asked_back(void **state)
{
	struct rig *rig = open_with(4, false);
	struct rig_client *client = rig_client_open(rig, 0);
	int idle = rig_lane_ask(client);
	int busy = rig_lane_ask(client);

	(void)state;
	rig_run(rig, rig->config.lane_idle_ns / 2);
	assert_int_equal(rig_store(client, busy, 1, 4 * KIB), 0);
	rig_run(rig, rig->config.lane_idle_ns / 2 + FAR_NS_PER_MS);
	assert_int_equal(client->answers[FAR_FRAME_LANE_RECALL], 1);
	assert_int_equal(client->recalled, client->grants[idle].serial);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_recalled), 1);
	rig_commit(client, idle, NULL, 0, true);
	rig_run(rig, rig->config.recall_ns + FAR_NS_PER_S);
	assert_false(client->lost);
	rig_close(rig);
}

/* Stopped processes do this: what they hold is fenced and goes on to others. */
static void
link_that_does_not_answer_a_recall_is_closed(void **state)
{
	struct rig *rig = open_with(4, false);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	far_log_capture_expect("asked back and not ended");
	assert_true(rig_lane_ask(client) >= 0);
	far_loop_host_pause(rig->fabric, client->host, true);
	rig_run(rig, rig->config.lane_idle_ns + FAR_NS_PER_MS);
	assert_int_equal(rig_stat(rig, FAR_STATUS_link_count), 1);
	rig_run(rig, rig->config.recall_ns + FAR_NS_PER_S);
	assert_int_equal(rig_stat(rig, FAR_STATUS_link_count), 0);
	assert_int_equal(rig_stat(rig, FAR_STATUS_lanes_free), 4);
	far_loop_host_pause(rig->fabric, client->host, false);
	rig_close(rig);
}

static void
commit_on_a_recalled_lane_still_counts(void **state)
{
	struct rig *rig = open_with(4, false);
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);

	(void)state;
	rig_run(rig, rig->config.lane_idle_ns + FAR_NS_PER_MS);
	assert_int_equal(client->recalled, client->grants[grant].serial);
	assert_int_equal(rig_store(client, grant, 1, 4 * KIB), 0);
	rig_commit(client, grant, NULL, 0, true);
	assert_true(rig_holds(rig, 1));
	rig_close(rig);
}

static void
share_of_one_link_is_asked_back_for_another(void **state)
{
	struct rig *rig = open_with(2, false);
	struct rig_client *greedy = rig_client_open(rig, 0);
	struct rig_client *poor = rig_client_open(rig, 1);

	(void)state;
	assert_int_equal(rig_lane_ask(greedy), 0);
	assert_int_equal(rig_lane_ask(greedy), 1);
	assert_int_equal(rig_lane_ask(poor), -1);
	assert_int_equal(poor->answers[FAR_FRAME_LANE_FULL], 1);
	assert_int_equal(greedy->answers[FAR_FRAME_LANE_RECALL], 1);
	assert_int_equal(greedy->recalled, greedy->grants[0].serial);
	rig_commit(greedy, 0, NULL, 0, true);
	/* It asks again before the other does: it has its share already. */
	assert_int_equal(rig_lane_ask(greedy), -1);
	assert_int_equal(rig_lane_ask(poor), 0);
	rig_close(rig);
}

static void
links_that_wait_are_served_in_turn(void **state)
{
	struct rig *rig = open_with(1, false);
	struct rig_client *clients[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		clients[i] = rig_client_open(rig, i);
	assert_int_equal(rig_lane_ask(clients[0]), 0);
	assert_int_equal(rig_lane_ask(clients[1]), -1);
	assert_int_equal(rig_lane_ask(clients[2]), -1);
	rig_commit(clients[0], 0, NULL, 0, true);
	assert_int_equal(rig_lane_ask(clients[0]), -1); /* two wait longer */
	assert_int_equal(rig_lane_ask(clients[2]), -1); /* one waits longer */
	assert_int_equal(rig_lane_ask(clients[1]), 0);
	rig_close(rig);
}

/* Who asked once and went away holds up nobody for long. */
static void
link_that_no_longer_asks_gives_up_its_turn(void **state)
{
	struct rig *rig = open_with(1, false);
	struct rig_client *clients[2] = {rig_client_open(rig, 0), rig_client_open(rig, 1)};

	(void)state;
	assert_int_equal(rig_lane_ask(clients[0]), 0);
	assert_int_equal(rig_lane_ask(clients[1]), -1);
	rig_commit(clients[0], 0, NULL, 0, true);
	rig_run(rig, 2 * FAR_NS_PER_S);
	assert_int_equal(rig_lane_ask(clients[0]), 1);
	rig_close(rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(granted_lane_can_be_written_by_its_link_alone),
		cmocka_unit_test(serials_never_repeat),
		cmocka_unit_test(every_lane_asked_for_is_answered),
		cmocka_unit_test(ended_lane_without_blocks_is_free_at_once),
		cmocka_unit_test(partly_filled_lane_keeps_its_blocks_when_ended),
		cmocka_unit_test(late_write_into_an_ended_lane_does_not_land),
		cmocka_unit_test(
			lane_of_a_dead_link_is_granted_only_after_its_registration_is_gone),
		cmocka_unit_test(dead_links_committed_blocks_stay),
		cmocka_unit_test(registration_that_comes_after_its_link_died_is_undone),
		cmocka_unit_test(failed_registration_is_answered_full),
		cmocka_unit_test(idle_lane_is_asked_back),
		cmocka_unit_test(link_that_does_not_answer_a_recall_is_closed),
		cmocka_unit_test(commit_on_a_recalled_lane_still_counts),
		cmocka_unit_test(share_of_one_link_is_asked_back_for_another),
		cmocka_unit_test(links_that_wait_are_served_in_turn),
		cmocka_unit_test(link_that_no_longer_asks_gives_up_its_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
