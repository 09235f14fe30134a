/* segment.c - tests: memory is lent, listed and exposed; taken back only when nobody can touch it. */
#include "tests/unit/pool/test.h"

#define BLOCK MIB

/* Two segments of two lanes. */
static struct rig *
open_two(bool is_async)
{
	struct far_pool_config config;

	rig_config(&config);
	config.segment_bytes = 2 * RIG_LANE_BYTES;
	config.lanes_free_min = 1;
	return rig_open(&config, 1, is_async);
}

static uint32_t
lines_count(struct rig *rig)
{
	struct far_index_header header;
	struct far_index_live live;
	uint32_t count = 0;

	memcpy(&header, rig->index, sizeof(header));
	far_line_load(&live, rig->index + header.live_at);
	for (uint64_t i = 0; i < header.table_count; i++) {
		struct far_index_segment line;

		far_line_load(&line, rig->index + header.table_at + i * sizeof(line));
		if (line.segment == 0)
			continue;
		assert_int_equal(far_index_segment_check(&line, live.epoch), 0);
		count++;
	}
	return count;
}

static uint64_t
table_version(struct rig *rig)
{
	struct far_index_header header;
	struct far_index_live live;

	memcpy(&header, rig->index, sizeof(header));
	far_line_load(&live, rig->index + header.live_at);
	assert_int_equal(far_index_live_check(&live), 0);
	return live.table_version;
}

static void
let_go(struct rig_client *client)
{
	struct far_frame_segment gone = {.segment = client->segment_recalled};

	assert_int_equal(rig_send(client, FAR_FRAME_SEGMENT_GONE, &gone, NULL, 0), 0);
	rig_settle(client->rig);
}

static void
segment_that_does_not_fit_is_refused(void **state)
{
	struct rig *rig = open_two(false);
	struct far_mem_source source = {.size_bytes = RIG_LANE_BYTES, .fd = -1};
	uint32_t number = 77;

	(void)state;
	source.base = rig->segments[0].base;
	assert_int_equal(far_pool_segment_add(rig->pool, &source, &number), -E2BIG);
	source.size_bytes = 3 * RIG_LANE_BYTES;
	assert_int_equal(far_pool_segment_add(rig->pool, &source, &number), -EINVAL);
	source.size_bytes = RIG_LANE_BYTES + 4096;
	assert_int_equal(far_pool_segment_add(rig->pool, &source, &number), -EINVAL);
	assert_int_equal(number, 77);
	rig_close(rig);
}

static void
drained_segment_ends_with_its_last_reader(void **state)
{
	struct rig *rig = open_two(false);
	struct rig_client *clients[2] = {rig_client_open(rig, 0), rig_client_open(rig, 1)};
	uint64_t version = table_version(rig);
	uint32_t number = rig->segments[0].number;

	(void)state;
	assert_int_equal(lines_count(rig), 2);
	rig_lane_fill(clients[0], 0, BLOCK);
	assert_true(rig_holds(rig, 0));
	rig_segment_drain(rig, 0);
	rig_run(rig, rig->config.grace_ns + FAR_NS_PER_MS);
	/* Empty, no longer listed, asked back from both. */
	assert_false(rig_holds(rig, 0));
	assert_int_equal(lines_count(rig), 1);
	assert_true(table_version(rig) > version);
	assert_int_equal(clients[0]->segment_recalled, number);
	assert_int_equal(clients[1]->segment_recalled, number);
	assert_false(rig->segments[0].drained);
	let_go(clients[0]);
	assert_false(rig->segments[0].drained);
	let_go(clients[1]);
	assert_true(rig->segments[0].drained);
	assert_int_equal(rig_stat(rig, FAR_STATUS_capacity_bytes), 2 * RIG_LANE_BYTES);
	assert_int_equal(rig_stat(rig, FAR_STATUS_segment_count), 1);
	rig_close(rig);
}

static void
hot_blocks_of_a_drained_segment_move(void **state)
{
	struct rig *rig = open_two(false);
	struct rig_client *client = rig_client_open(rig, 0);
	struct far_slot slot;

	(void)state;
	rig_lane_fill(client, 0, BLOCK);
	rig_touch(client, 3, 2);
	rig_segment_drain(rig, 0);
	rig_run(rig, rig->config.grace_ns + FAR_NS_PER_MS);
	let_go(client);
	assert_true(rig->segments[0].drained);
	assert_true(rig_find(rig, 3, &slot));
	assert_int_equal(slot.segment, rig->segments[1].number);
	assert_true(rig_holds(rig, 3));
	assert_false(rig_holds(rig, 0));
	rig_close(rig);
}

static void
open_lanes_of_a_drained_segment_are_asked_back(void **state)
{
	struct rig *rig = open_two(false);
	struct rig_client *client = rig_client_open(rig, 0);
	int grant = rig_lane_ask(client);

	(void)state;
	assert_int_equal(rig_store(client, grant, 1, BLOCK), 0);
	rig_segment_drain(rig, 0);
	rig_settle(rig);
	assert_int_equal(client->recalled, client->grants[grant].serial);
	rig_run(rig, FAR_NS_PER_S);
	assert_true(rig_holds(rig, 1)); /* as long as its lane is open */
	assert_int_equal(client->answers[FAR_FRAME_SEGMENT_RECALL], 0);
	rig_commit(client, grant, NULL, 0, true);
	rig_run(rig, rig->config.grace_ns + FAR_NS_PER_MS);
	assert_int_equal(client->answers[FAR_FRAME_SEGMENT_RECALL], 1);
	let_go(client);
	assert_true(rig->segments[0].drained);
	rig_close(rig);
}

static void
lane_on_its_way_in_a_drained_segment_is_not_granted(void **state)
{
	struct rig *rig = open_two(true);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	assert_int_equal(rig_lane_ask(client), -1);
	rig_segment_drain(rig, 0);
	rig_answer_registers(rig);
	rig_settle(rig);
	assert_int_equal(client->grant_count, 0);
	assert_int_equal(client->answers[FAR_FRAME_LANE_FULL], 1);
	assert_int_equal(rig->deregister_count, 1);
	rig_run(rig, FAR_NS_PER_S);
	assert_false(rig->segments[0].drained);
	rig_answer_deregisters(rig);
	rig_settle(rig);
	let_go(client);
	assert_true(rig->segments[0].drained);
	rig_close(rig);
}

/* Stopped readers hold memory that must go: their links end first. */
static void
reader_that_does_not_let_go_is_closed_before_the_memory_goes(void **state)
{
	struct rig *rig = open_two(false);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	far_log_capture_expect("was asked back and not let go");
	far_loop_host_pause(rig->fabric, client->host, true);
	rig_segment_drain(rig, 0);
	rig_run(rig, rig->config.recall_ns / 2);
	assert_false(rig->segments[0].drained);
	rig_run(rig, rig->config.recall_ns);
	assert_true(rig->segments[0].drained);
	assert_int_equal(rig_stat(rig, FAR_STATUS_link_count), 0);
	far_loop_host_pause(rig->fabric, client->host, false);
	rig_close(rig);
}

static void
client_that_comes_after_the_recall_is_not_waited_for(void **state)
{
	struct rig *rig = open_two(false);
	struct rig_client *early = rig_client_open(rig, 0);

	(void)state;
	rig_segment_drain(rig, 0);
	rig_settle(rig);
	rig_client_open(rig, 1);
	let_go(early);
	assert_true(rig->segments[0].drained);
	rig_close(rig);
}

static void
memory_comes_back_under_a_new_number(void **state)
{
	struct rig *rig = open_two(false);
	struct rig_client *client = rig_client_open(rig, 0);
	uint32_t number = rig->segments[1].number;

	(void)state;
	for (int round = 0; round < 20; round++) {
		int entry;

		rig_segment_drain(rig, 1);
		rig_run(rig, rig->config.grace_ns + FAR_NS_PER_MS);
		let_go(client);
		assert_true(rig->segments[1].drained);
		entry = rig_segment_add(rig, 2 * RIG_LANE_BYTES);
		assert_int_equal(entry, 1);
		assert_true(rig->segments[1].number > number);
		number = rig->segments[1].number;
		rig_settle(rig);
	}
	rig_close(rig);
}

/* Reads a segment's first line through the key that the table gives. */
static void
assert_readable(struct rig_client *client, int entry)
{
	struct rig *rig = client->rig;
	struct far_index_header header;
	struct far_piece piece = {.addr = client->bytes, .size_bytes = 64, .mem = client->mem};
	struct far_op op = {.kind = FAR_OP_READ, .pieces = &piece, .piece_count = 1};

	memcpy(&header, rig->index, sizeof(header));
	for (uint64_t i = 0; i < header.table_count; i++) {
		struct far_index_segment line;

		far_line_load(&line, rig->index + header.table_at + i * sizeof(line));
		if (line.segment != rig->segments[entry].number)
			continue;
		op.remote_addr = line.remote_addr;
		memcpy(op.rkey.bytes, line.rkey, sizeof(op.rkey.bytes));
	}
	memset(rig->segments[entry].base, 0x30 + entry, 64);
	op.token = ++client->tokens;
	assert_int_equal(far_transport_post(client->link, &op, 1), 0);
	rig_settle(rig);
	assert_int_equal(client->tokens_done, op.token);
	assert_memory_equal(client->bytes, rig->segments[entry].base, 64);
	memset(rig->segments[entry].base, 0, 64);
}

static void
segment_lent_later_can_be_read_by_those_who_are_there(void **state)
{
	struct rig *rig = open_two(false);
	struct rig_client *early = rig_client_open(rig, 0);
	int entry;

	(void)state;
	assert_readable(early, 0);
	rig_segment_drain(rig, 1);
	rig_settle(rig);
	let_go(early);
	entry = rig_segment_add(rig, RIG_LANE_BYTES); /* smaller ones fit as well */
	rig_settle(rig);
	assert_readable(early, entry);
	assert_readable(rig_client_open(rig, 1), entry);
	assert_readable(early, 0);
	rig_close(rig);
}

static void
gone_for_a_segment_that_was_not_recalled_costs_the_link(void **state)
{
	struct rig *rig = open_two(false);
	struct rig_client *client = rig_client_open(rig, 0);

	(void)state;
	far_log_capture_expect("was not asked back");
	client->segment_recalled = rig->segments[0].number;
	let_go(client);
	assert_true(client->lost);
	rig_close(rig);
}

static void
segment_is_drained_once(void **state)
{
	struct rig *rig = open_two(false);
	uint32_t number = rig->segments[0].number;

	(void)state;
	rig_client_open(rig, 0);
	assert_int_equal(far_pool_segment_drain(rig->pool, 99, NULL, NULL), -ENOENT);
	rig_segment_drain(rig, 0);
	assert_int_equal(far_pool_segment_drain(rig->pool, number, NULL, NULL), -EBUSY);
	rig_close(rig); /* a drain that is under way ends with the pool's links */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segment_that_does_not_fit_is_refused),
		cmocka_unit_test(drained_segment_ends_with_its_last_reader),
		cmocka_unit_test(hot_blocks_of_a_drained_segment_move),
		cmocka_unit_test(open_lanes_of_a_drained_segment_are_asked_back),
		cmocka_unit_test(lane_on_its_way_in_a_drained_segment_is_not_granted),
		cmocka_unit_test(reader_that_does_not_let_go_is_closed_before_the_memory_goes),
		cmocka_unit_test(client_that_comes_after_the_recall_is_not_waited_for),
		cmocka_unit_test(memory_comes_back_under_a_new_number),
		cmocka_unit_test(segment_lent_later_can_be_read_by_those_who_are_there),
		cmocka_unit_test(gone_for_a_segment_that_was_not_recalled_costs_the_link),
		cmocka_unit_test(segment_is_drained_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
