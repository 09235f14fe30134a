/* link.c - tests: who is let in, what a breach costs, and that nobody can make a donor pile up answers. */
#include "tests/unit/pool/test.h"

static struct rig *
open_default(void)
{
	struct far_pool_config config;

	rig_config(&config);
	return rig_open(&config, 1, false);
}

static void
welcome_names_the_donor_and_its_index(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	assert_string_equal(client->welcome.donor, "donor-a");
	assert_int_equal(client->welcome.epoch, far_pool_epoch(rig->pool));
	assert_int_not_equal(client->welcome.epoch, 0);
	assert_int_equal(client->welcome.index_bytes, rig->index_bytes);
	assert_int_equal(client->tag, 42);
	assert_int_equal(rig_stat(rig, FAR_STATUS_link_count), 1);
	rig_close(rig);
}

/* The index and every segment can be read as soon as the welcome is there. */
static void
welcome_comes_behind_the_keys(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	struct far_index_segment line;
	struct far_index_header header;
	struct far_piece piece = {.addr = client->bytes, .size_bytes = 64, .mem = client->mem};
	struct far_op op = {.kind = FAR_OP_READ, .pieces = &piece, .piece_count = 1, .token = 1};

	(void)state;
	memcpy(&header, rig->index, sizeof(header));
	far_line_load(&line, rig->index + header.table_at);
	assert_int_equal(far_index_segment_check(&line, client->welcome.epoch), 0);
	op.remote_addr = client->welcome.index_addr;
	memcpy(op.rkey.bytes, client->welcome.index_rkey, sizeof(op.rkey.bytes));
	assert_int_equal(far_transport_post(client->link, &op, 1), 0);
	rig_settle(rig);
	assert_int_equal(client->tokens_done, 1);
	assert_memory_equal(client->bytes, rig->index, 64);

	memset(rig->segments[0].base, 0x5a, 64);
	op.remote_addr = line.remote_addr;
	memcpy(op.rkey.bytes, line.rkey, sizeof(op.rkey.bytes));
	op.token = 2;
	assert_int_equal(far_transport_post(client->link, &op, 1), 0);
	rig_settle(rig);
	assert_int_equal(client->tokens_done, 2);
	assert_memory_equal(client->bytes, rig->segments[0].base, 64);
	rig_close(rig);
}

static void
refused_as(struct rig *rig, int idx, const struct far_frame_hello *hello, int rc,
	   const char *reason)
{
	struct rig_client *client = rig_client_connect(rig, idx);

	assert_int_equal(rig_send(client, FAR_FRAME_HELLO, hello, NULL, 0), 0);
	rig_settle(rig);
	assert_int_equal(client->answers[FAR_FRAME_WELCOME], 0);
	assert_int_equal(client->answers[FAR_FRAME_REFUSED], 1);
	assert_int_equal(client->refused.rc, rc);
	if (strstr(client->refused.reason, reason) == NULL)
		fail_msg("'%s' lacks '%s'", client->refused.reason, reason);
	/* Told to go: nothing it asks is answered, and in the end it is closed. */
	assert_int_equal(rig_send(client, FAR_FRAME_STATUS_ASK, NULL, NULL, 0), 0);
	rig_settle(rig);
	assert_int_equal(client->answers[FAR_FRAME_STATUS], 0);
	rig_run(rig, 2 * FAR_NS_PER_S);
	assert_true(client->lost);
	assert_int_equal(rig_stat(rig, FAR_STATUS_links_dropped), 0);
}

static void
client_of_another_donor_is_told_whom_it_found(void **state)
{
	struct rig *rig = open_default();
	struct far_frame_hello hello;

	(void)state;
	rig_hello_fill(&hello);
	snprintf(hello.donor, sizeof(hello.donor), "%s", "donor-b");
	refused_as(rig, 0, &hello, -ENODEV,
		   "this is donor-a, not donor-b: correct the address in the client's donors list");
	memset(hello.donor, '\n', FAR_NAME_BYTES_MAX);
	refused_as(rig, 1, &hello, -ENODEV, "this is donor-a");
	rig_close(rig);
}

static void
client_of_another_namespace_is_refused(void **state)
{
	struct rig *rig = open_default();
	struct far_frame_hello hello;

	(void)state;
	rig_hello_fill(&hello);
	snprintf(hello.name_space, sizeof(hello.name_space), "%s", "other");
	refused_as(rig, 0, &hello, -ENODEV, "namespace is default here");
	rig_close(rig);
}

static void
client_of_another_version_is_refused(void **state)
{
	struct rig *rig = open_default();
	struct far_frame_hello hello;

	(void)state;
	rig_hello_fill(&hello);
	hello.version = FAR_WIRE_VERSION + 1;
	refused_as(rig, 0, &hello, -EPROTO, "speaks version 2, the client 3");
	rig_close(rig);
}

static void
client_that_names_no_donor_is_welcome(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_connect(rig, 0);
	struct far_frame_hello hello;

	(void)state;
	rig_hello_fill(&hello);
	hello.donor[0] = '\0';
	assert_int_equal(rig_send(client, FAR_FRAME_HELLO, &hello, NULL, 0), 0);
	rig_settle(rig);
	assert_int_equal(client->answers[FAR_FRAME_WELCOME], 1);
	rig_close(rig);
}

static void
breach_costs_the_link(struct rig *rig, struct rig_client *client)
{
	rig_settle(rig);
	assert_true(client->lost);
	assert_int_equal(rig_stat(rig, FAR_STATUS_links_dropped), 1);
}

static void
frame_before_hello_costs_the_link(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_connect(rig, 0);

	(void)state;
	far_log_capture_expect("did not say HELLO first");
	assert_int_equal(rig_send(client, FAR_FRAME_STATUS_ASK, NULL, NULL, 0), 0);
	breach_costs_the_link(rig, client);
	assert_int_equal(client->answers[FAR_FRAME_STATUS], 0);
	rig_close(rig);
}

static void
second_hello_costs_the_link(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	struct far_frame_hello hello;

	(void)state;
	far_log_capture_expect("HELLO twice");
	rig_hello_fill(&hello);
	assert_int_equal(rig_send(client, FAR_FRAME_HELLO, &hello, NULL, 0), 0);
	breach_costs_the_link(rig, client);
	rig_close(rig);
}

static void
frame_of_a_donor_costs_the_link(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	far_log_capture_expect("only a donor sends");
	assert_int_equal(rig_send(client, FAR_FRAME_LANE_FULL, NULL, NULL, 0), 0);
	breach_costs_the_link(rig, client);
	rig_close(rig);
}

static void
unreadable_frame_costs_the_link_and_no_other(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *bad = rig_client_open(rig, 0);
	struct rig_client *good = rig_client_open(rig, 1);
	uint64_t junk[4] = {~0ULL, 1, 2, 3};

	(void)state;
	far_log_capture_expect("cannot be read");
	assert_int_equal(far_transport_send(bad->link, junk, sizeof(junk)), 0);
	breach_costs_the_link(rig, bad);
	assert_false(good->lost);
	assert_int_equal(rig_send(good, FAR_FRAME_STATUS_ASK, NULL, NULL, 0), 0);
	rig_settle(rig);
	assert_int_equal(good->answers[FAR_FRAME_STATUS], 1);
	assert_int_equal(good->status[FAR_STATUS_link_count], 1);
	assert_int_equal(good->status[FAR_STATUS_links_dropped], 1);
	rig_close(rig);
}

static void
unknown_optional_frame_is_ignored(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	struct far_frame_head head = {
		.type = 999, .flags = FAR_FRAME_OPTIONAL, .size_bytes = sizeof(head)};

	(void)state;
	assert_int_equal(far_transport_send(client->link, &head, sizeof(head)), 0);
	rig_settle(rig);
	assert_false(client->lost);
	rig_close(rig);
}

static void
client_that_says_no_hello_is_closed(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_connect(rig, 0);

	(void)state;
	far_log_capture_expect("no hello in time");
	rig_run(rig, rig->config.recall_ns - FAR_NS_PER_S);
	assert_false(client->lost);
	rig_run(rig, 2 * FAR_NS_PER_S);
	assert_true(client->lost);
	assert_int_equal(rig_stat(rig, FAR_STATUS_link_count), 0);
	rig_close(rig);
}

static void
client_beyond_max_links_is_not_accepted(void **state)
{
	struct far_pool_config config;
	struct rig_client *third;
	struct rig *rig;

	(void)state;
	rig_config(&config);
	config.links_max = 2;
	rig = rig_open(&config, 1, false);
	far_log_capture_expect("raise max_links");
	rig_client_open(rig, 0);
	rig_client_open(rig, 1);
	third = rig_client_connect(rig, 2);
	assert_true(third->lost);
	/* A place is free again once its link is closed. */
	rig_bye(&rig->clients[0]);
	rig_client_open(rig, 0);
	rig_close(rig);
}

static void
client_that_asks_without_reading_is_closed(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	int sent = 0;

	(void)state;
	far_log_capture_expect("without reading the answers");
	/* It polls only what it must to be able to send: a socket that is never read does the same. */
	for (int round = 0; round < 400 && !client->lost; round++) {
		struct far_transport *tp = client->tp;

		if (client->link->up && rig_send(client, FAR_FRAME_STATUS_ASK, NULL, NULL, 0) == 0)
			sent++;
		client->tp = NULL; /* not polled by the rig */
		rig_settle(rig);
		client->tp = tp;
		if (rig_stat(rig, FAR_STATUS_links_dropped) > 0)
			break;
	}
	assert_int_equal(rig_stat(rig, FAR_STATUS_links_dropped), 1);
	assert_in_range(sent, 65, 399);
	rig_close(rig);
}

/* What waits for a credit is sent once there is one, in order and complete. */
static void
answers_that_waited_arrive_in_order(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	struct far_transport *tp = client->tp;
	int sent = 0;

	(void)state;
	client->tag_next = 100;
	client->tp = NULL;
	while (sent < 60 && rig_send(client, FAR_FRAME_STATUS_ASK, NULL, NULL, 0) == 0) {
		sent++;
		rig_settle(rig);
	}
	assert_in_range(sent, 33, 60); /* more than the credits that the client gave */
	client->tp = tp;
	/* It asks on while the old answers come: new ones go behind them, also where a question and
	 * the credits behind it are met by the same poll. */
	for (int i = 0; i < 50; i++) {
		uint64_t until_ns = far_clock_now(rig->clock) + 20 * FAR_NS_PER_US;

		sent += rig_send(client, FAR_FRAME_STATUS_ASK, NULL, NULL, 0) == 0;
		(void)far_transport_poll(client->tp, 2);
		while (far_loop_step(rig->fabric, until_ns))
			;
		(void)far_transport_poll(rig->tp, 64);
	}
	rig_settle(rig);
	assert_int_equal(client->answers[FAR_FRAME_STATUS], sent);
	assert_int_equal(client->tag, 99 + (uint64_t)sent);
	assert_int_equal(client->status[FAR_STATUS_messages_received], (uint64_t)sent + 1);
	rig_close(rig);
}

static void
shutdown_says_bye_and_ends(void **state)
{
	struct rig *rig = open_default();
	struct rig_client *client = rig_client_open(rig, 0);
	struct far_index_header header;
	struct far_index_live live;

	(void)state;
	assert_true(rig_lane_ask(client) >= 0);
	far_pool_shutdown(rig->pool);
	assert_false(far_pool_closing_done(rig->pool));
	rig_run(rig, FAR_NS_PER_MS);
	assert_int_equal(client->answers[FAR_FRAME_BYE], 1);
	memcpy(&header, rig->index, sizeof(header));
	far_line_load(&live, rig->index + header.live_at);
	assert_int_equal(live.state, FAR_INDEX_CLOSING);
	rig_run(rig, FAR_NS_PER_S);
	assert_true(client->lost);
	assert_true(far_pool_closing_done(rig->pool));
	rig_close(rig);
}

static void
open_that_runs_out_of_memory_leaves_nothing(void **state)
{
	struct rig *rig = open_default();
	struct far_pool *pool = NULL;
	struct far_mem_source index = {.size_bytes = rig->index_bytes, .fd = -1};
	struct far_pool_rails rails = {.tps = &rig->tp, .count = 1};
	int rc = -ENOMEM;

	(void)state;
	index.base = far_zalloc_aligned(4096, rig->index_bytes);
	for (uint64_t n = 1; rc < 0; n++) {
		uint64_t before = far_alloc_live_bytes();

		far_alloc_fail_nth(n);
		rc = far_pool_open(&rig->config, &rails, &index, rig->clock, &rig->rng, NULL,
				   &pool);
		far_alloc_fail_nth(0);
		if (rc < 0) {
			assert_int_equal(rc, -ENOMEM);
			assert_null(pool);
			assert_int_equal(far_alloc_live_bytes(), before);
		}
	}
	far_pool_shutdown(pool);
	far_pool_close(pool);
	far_free(index.base);
	rig_close(rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(welcome_names_the_donor_and_its_index),
		cmocka_unit_test(welcome_comes_behind_the_keys),
		cmocka_unit_test(client_of_another_donor_is_told_whom_it_found),
		cmocka_unit_test(client_of_another_namespace_is_refused),
		cmocka_unit_test(client_of_another_version_is_refused),
		cmocka_unit_test(client_that_names_no_donor_is_welcome),
		cmocka_unit_test(frame_before_hello_costs_the_link),
		cmocka_unit_test(second_hello_costs_the_link),
		cmocka_unit_test(frame_of_a_donor_costs_the_link),
		cmocka_unit_test(unreadable_frame_costs_the_link_and_no_other),
		cmocka_unit_test(unknown_optional_frame_is_ignored),
		cmocka_unit_test(client_that_says_no_hello_is_closed),
		cmocka_unit_test(client_beyond_max_links_is_not_accepted),
		cmocka_unit_test(client_that_asks_without_reading_is_closed),
		cmocka_unit_test(answers_that_waited_arrive_in_order),
		cmocka_unit_test(shutdown_says_bye_and_ends),
		cmocka_unit_test(open_that_runs_out_of_memory_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
