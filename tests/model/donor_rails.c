/* donor_rails.c - one donor over two transports: what one link stored another reads, each its own way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "l2/l2.h"
#include "pool/pool.h"
#include "tests/support/log_capture.h"
#include "transport/loop/loop.h"
#include "wire/index.h"

#define RAILS       2U
#define POOL_BYTES  (32ULL << 20)
#define BLOCK_BYTES 65536U
#define BLOCKS      24U
#define ARENA_BYTES ((uint64_t)BLOCKS * BLOCK_BYTES)
#define SETTLE_NS   (100 * FAR_NS_PER_MS)
#define POLL_BUDGET 64

/* A client of its own host, with one adapter. */
struct client {
	struct far_transport *tp;
	struct far_mem *arena_mem;
	uint8_t *arena;
	struct far_l2 *l2;
	struct far_l2_task task;
	struct far_l2_item items[BLOCKS];
	struct far_l2_piece pieces[BLOCKS];
	bool ended;
};

static struct far_loop_fabric *fabric;
static struct far_clock *fabric_clock;
static struct far_rng rng;
static struct far_transport *donor_tps[RAILS];
static struct far_listener *listeners[RAILS];
static struct far_pool *pool;
static uint8_t *index_memory, *segment_memory;
static struct client clients[RAILS];

static const char *const hosts[RAILS] = {"donor-one", "donor-two"};
static const char *const addresses[RAILS] = {"loop:donor-one", "loop:donor-two"};

static void
run(uint64_t for_ns)
{
	uint64_t until_ns = far_clock_now(fabric_clock) + for_ns;
	bool more;

	do {
		uint64_t next_ns = until_ns, at_ns;

		for (uint32_t i = 0; i < RAILS; i++) {
			while (far_transport_poll(donor_tps[i], POLL_BUDGET) > 0)
				;
			while (far_transport_poll(clients[i].tp, POLL_BUDGET) > 0)
				;
		}
		for (uint32_t i = 0; i < RAILS; i++) {
			at_ns = clients[i].l2 == NULL
					? until_ns
					: far_l2_tick(clients[i].l2, far_clock_now(fabric_clock));
			next_ns = at_ns < next_ns ? at_ns : next_ns;
		}
		at_ns = far_pool_tick(pool, far_clock_now(fabric_clock));
		next_ns = at_ns < next_ns ? at_ns : next_ns;
		more = far_loop_step(fabric, next_ns) || next_ns < until_ns;
	} while (more);
}

static void
donor_open(void)
{
	const struct far_pool_config config = {
		.name = "donor",
		.name_space = "default",
		.capacity_bytes = POOL_BYTES,
		.segment_bytes = POOL_BYTES,
		.lane_bytes = FAR_LANE_BYTES_MIN,
		.block_bytes_min = BLOCK_BYTES,
		.lanes_free_min = 1,
		.lane_idle_ns = FAR_NS_PER_S,
		.recall_ns = 200 * FAR_NS_PER_MS,
		.hot_share_max = 25,
		.links_max = 8,
	};
	struct far_pool_rails rails = {.tps = donor_tps, .count = RAILS};
	struct far_mem_source source = {.size_bytes = far_pool_index_bytes(&config, RAILS),
					.fd = -1};
	uint32_t number;

	for (uint32_t i = 0; i < RAILS; i++) {
		struct far_transport_config tp = {
			.clock = fabric_clock, .fabric = fabric, .host = hosts[i]};

		assert_int_equal(far_transport_open("loop", &tp, &donor_tps[i]), 0);
	}
	index_memory = far_zalloc_aligned(4096, source.size_bytes);
	segment_memory = far_zalloc_aligned(4096, POOL_BYTES);
	source.base = index_memory;
	assert_int_equal(far_pool_open(&config, &rails, &source, fabric_clock, &rng, NULL, &pool),
			 0);
	source =
		(struct far_mem_source){.base = segment_memory, .size_bytes = POOL_BYTES, .fd = -1};
	assert_int_equal(far_pool_segment_add(pool, &source, &number), 0);
	for (uint32_t i = 0; i < RAILS; i++)
		assert_int_equal(far_transport_listen(donor_tps[i], hosts[i], far_pool_accept, pool,
						      &listeners[i]),
				 0);
}

static void
client_open(struct client *client, const char *host, const char *address)
{
	struct far_transport_config tp = {.clock = fabric_clock, .fabric = fabric, .host = host};
	struct far_mem_source source = {.size_bytes = ARENA_BYTES, .fd = -1};
	struct far_l2_config config = {.type = "donor", .name = "donor", .address = address};
	struct far_l2_env env = {
		.clock = fabric_clock,
		.rng = &rng,
		.transports = &client->tp,
		.arenas = &client->arena_mem,
		.transport_count = 1,
		.connect_timeout_ns = 10 * FAR_NS_PER_MS,
		.retry_ns_min = FAR_NS_PER_MS,
		.retry_ns_max = 8 * FAR_NS_PER_MS,
	};
	char error[256];

	memset(client, 0, sizeof(*client));
	assert_int_equal(far_transport_open("loop", &tp, &client->tp), 0);
	client->arena = far_zalloc_aligned(4096, ARENA_BYTES);
	source.base = client->arena;
	assert_int_equal(far_transport_mem_reg(client->tp, &source, FAR_RIGHT_LOCAL, NULL,
					       &client->arena_mem),
			 0);
	assert_int_equal(far_l2_open(&config, &env, &client->l2, error), 0);
}

static int
setup(void **state)
{
	struct far_loop_config loop = {
		.seed = 7, .latency_ns_min = FAR_NS_PER_US, .latency_ns_max = 5 * FAR_NS_PER_US};
	(void)state;

	far_log_capture_start();
	far_rng_init(&rng, 7);
	assert_int_equal(far_loop_fabric_open(&loop, &fabric), 0);
	fabric_clock = far_loop_clock(fabric);
	donor_open();
	client_open(&clients[0], "client-one", addresses[0]);
	client_open(&clients[1], "client-two", addresses[1]);
	run(SETTLE_NS);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < RAILS; i++)
		far_l2_quiesce(clients[i].l2);
	run(FAR_NS_PER_S);
	for (uint32_t i = 0; i < RAILS; i++) {
		far_l2_close(clients[i].l2);
		clients[i].l2 = NULL;
		far_transport_unlisten(donor_tps[i], listeners[i]);
	}
	far_pool_shutdown(pool);
	run(FAR_NS_PER_S);
	assert_true(far_pool_closing_done(pool));
	far_pool_close(pool);
	for (uint32_t i = 0; i < RAILS; i++) {
		far_transport_mem_dereg(clients[i].arena_mem);
		far_transport_close(clients[i].tp);
		far_transport_close(donor_tps[i]);
		far_free(clients[i].arena);
	}
	far_free(index_memory);
	far_free(segment_memory);
	far_loop_fabric_close(fabric);
	far_log_capture_finish();
	assert_int_equal(far_alloc_live_bytes(), 0);
	return 0;
}

static uint8_t
byte_of(uint32_t id, uint32_t at)
{
	return (uint8_t)(id * 37 + at * 11 + (at >> 9));
}

static void
on_done(struct far_l2_task *task)
{
	FAR_CONTAINER_OF(task, struct client, task)->ended = true;
}

/* Blocks @first and up, each at its own place in the arena. */
static void
task_run(struct client *client, enum far_l2_kind kind, uint32_t first, uint32_t count)
{
	memset(&client->task, 0, sizeof(client->task));
	memset(client->items, 0, sizeof(client->items));
	for (uint32_t i = 0; i < count; i++) {
		uint32_t id = first + i;
		uint8_t *at = client->arena + (size_t)id * BLOCK_BYTES;

		for (uint32_t b = 0; b < BLOCK_BYTES; b++)
			at[b] = kind == FAR_L2_STORE ? byte_of(id, b) : 0;
		client->pieces[i] = (struct far_l2_piece){.addr = at, .size_bytes = BLOCK_BYTES};
		client->items[i].pieces = &client->pieces[i];
		client->items[i].piece_count = 1;
		client->items[i].key.bytes[0] = (uint8_t)(id + 1);
	}
	client->ended = false;
	client->task.kind = kind;
	client->task.items = client->items;
	client->task.count = count;
	client->task.deadline_ns = far_clock_now(fabric_clock) + FAR_NS_PER_S;
	client->task.done = on_done;
	far_l2_submit(client->l2, &client->task);
	run(SETTLE_NS);
	assert_true(client->ended);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(client->items[i].rc, 0);
}

static void
assert_read(const struct client *client, uint32_t first, uint32_t count)
{
	for (uint32_t id = first; id < first + count; id++)
		for (uint32_t b = 0; b < BLOCK_BYTES; b++)
			if (client->arena[(size_t)id * BLOCK_BYTES + b] != byte_of(id, b))
				fail_msg("block %u differs at byte %u", id, b);
}

static void
what_one_rail_stored_the_other_reads(void **state)
{
	(void)state;
	task_run(&clients[0], FAR_L2_STORE, 0, BLOCKS / 2);
	task_run(&clients[1], FAR_L2_STORE, BLOCKS / 2, BLOCKS / 2);
	task_run(&clients[1], FAR_L2_LOAD, 0, BLOCKS);
	assert_read(&clients[1], 0, BLOCKS);
	task_run(&clients[0], FAR_L2_LOAD, 0, BLOCKS);
	assert_read(&clients[0], 0, BLOCKS);
	far_pool_check(pool);
}

static void
each_link_reads_with_keys_of_its_own_rail(void **state)
{
	struct far_index_header header;
	struct far_index_segment lines[RAILS];
	struct far_index_live live;
	(void)state;

	memcpy(&header, index_memory, sizeof(header));
	assert_int_equal(header.rail_count, RAILS);
	memcpy(&live, index_memory + header.live_at, sizeof(live));
	memcpy(lines, index_memory + header.table_at, sizeof(lines));
	for (uint32_t rail = 0; rail < RAILS; rail++) {
		assert_int_equal(far_index_segment_check(&lines[rail], live.epoch), 0);
		assert_int_equal(lines[rail].rail, rail);
		assert_int_equal(lines[rail].segment, lines[0].segment);
	}
	assert_memory_not_equal(lines[0].rkey, lines[1].rkey, sizeof(lines[0].rkey));
}

static void
a_lost_rail_takes_nothing_from_the_other(void **state)
{
	(void)state;

	task_run(&clients[0], FAR_L2_STORE, 0, BLOCKS);
	far_log_capture_expect("donor donor: loop:donor-one");
	far_log_capture_expect("lost");
	far_loop_partition(fabric, hosts[0], "client-one", true);
	run(FAR_NS_PER_S);
	task_run(&clients[1], FAR_L2_LOAD, 0, BLOCKS);
	assert_read(&clients[1], 0, BLOCKS);
	far_loop_partition(fabric, hosts[0], "client-one", false);
	run(FAR_NS_PER_S);
	task_run(&clients[0], FAR_L2_LOAD, 0, BLOCKS);
	assert_read(&clients[0], 0, BLOCKS);
}

static void
on_drained(void *arg, uint32_t segment)
{
	*(uint32_t *)arg = segment;
}

/* Both links let go of it before its registrations end, each over its own rail. */
static void
a_segment_is_given_back_when_the_links_of_both_rails_let_go(void **state)
{
	uint32_t drained = 0;
	(void)state;

	task_run(&clients[0], FAR_L2_STORE, 0, BLOCKS);
	task_run(&clients[1], FAR_L2_LOAD, 0, BLOCKS);
	assert_int_equal(far_pool_segment_drain(pool, 1, on_drained, &drained), 0);
	run(FAR_NS_PER_S);
	assert_int_equal(drained, 1);
	far_pool_check(pool);
	for (uint32_t i = 0; i < RAILS; i++) {
		struct far_l2_status status;

		far_l2_status_get(clients[i].l2, &status);
		assert_int_equal(status.state, FAR_L2_UP);
		assert_int_equal(status.times_down, 0);
	}
}

/* Whatever cannot be had, of whichever rail: what was registered before it is undone. */
static void
a_pool_that_runs_out_of_memory_leaves_no_rail_behind(void **state)
{
	struct far_pool_rails rails = {.tps = donor_tps, .count = RAILS};
	struct far_pool_config config = {.name = "other", .name_space = "default"};
	struct far_mem_source source = {.fd = -1};
	struct far_pool *other = NULL;
	uint8_t *memory;
	int rc = -ENOMEM;
	(void)state;

	config.capacity_bytes = POOL_BYTES;
	config.segment_bytes = POOL_BYTES;
	config.lane_bytes = FAR_LANE_BYTES_MIN;
	config.block_bytes_min = BLOCK_BYTES;
	config.lanes_free_min = 1;
	config.links_max = 8;
	config.lane_idle_ns = FAR_NS_PER_S;
	config.recall_ns = FAR_NS_PER_S;
	source.size_bytes = far_pool_index_bytes(&config, RAILS);
	memory = far_zalloc_aligned(4096, source.size_bytes);
	source.base = memory;
	for (uint64_t n = 1; rc < 0; n++) {
		uint64_t before = far_alloc_live_bytes();

		far_alloc_fail_nth(n);
		rc = far_pool_open(&config, &rails, &source, fabric_clock, &rng, NULL, &other);
		far_alloc_fail_nth(0);
		if (rc < 0) {
			assert_int_equal(rc, -ENOMEM);
			assert_int_equal(far_alloc_live_bytes(), before);
		}
	}
	far_pool_shutdown(other);
	far_pool_close(other);
	far_free(memory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_one_rail_stored_the_other_reads),
		TEST(each_link_reads_with_keys_of_its_own_rail),
		TEST(a_lost_rail_takes_nothing_from_the_other),
		TEST(a_segment_is_given_back_when_the_links_of_both_rails_let_go),
		TEST(a_pool_that_runs_out_of_memory_leaves_no_rail_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
