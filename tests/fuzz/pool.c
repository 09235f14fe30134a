/* pool.c - any bytes as a donor's history: links, frames true and false, time, errands; it stays sound. */
#include "tests/fuzz/pool_world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/checksum.h"
#include "base/log.h"
#include "pool/pool_priv.h"
#include "tests/fuzz/input.h"
#include "transport/loop/loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

struct world world;

/* ---- what a client says ---- */

static void
hello_say(struct client *client, uint16_t arg)
{
	struct far_frame_hello hello = {.version = FAR_WIRE_VERSION, .name_space = "default"};

	if (arg % 16 == 1)
		hello.version++;
	memcpy(hello.donor, "donor-a", 8);
	if (arg % 16 == 2)
		memset(hello.donor, '\x7f', FAR_NAME_BYTES_MAX);
	if (arg % 16 == 3)
		memset(hello.name_space, '\n', FAR_NAME_BYTES_MAX);
	history_say(client, FAR_FRAME_HELLO, &hello, sizeof(hello), NULL, 0);
}

static bool
block_write(struct client *client, struct grant *grant, uint32_t id, struct far_frame_block *out)
{
	struct far_key key = history_key_of(id);
	uint32_t size_bytes = history_size_of(id);
	uint64_t align = far_extent_align(size_bytes);
	uint64_t at = (grant->fill_bytes + align - 1) / align * align;
	struct far_piece piece = {.size_bytes = size_bytes, .mem = client->mem};
	struct far_op op = {.kind = FAR_OP_WRITE, .pieces = &piece, .piece_count = 1, .token = 1};
	uint8_t *from = client->bytes + (size_t)(grant - client->grants) * LANE_BYTES + at;

	if (at + size_bytes > LANE_BYTES)
		return false;
	piece.addr = from;
	history_bytes_fill(id, from);
	op.remote_addr = grant->frame.write_addr + at;
	memcpy(op.rkey.bytes, grant->frame.write_rkey, sizeof(op.rkey.bytes));
	if (far_transport_post(client->link, &op, 1) != 0)
		return false;
	grant->fill_bytes = at + size_bytes;
	*out = (struct far_frame_block){
		.offset_64 = (uint32_t)(at / 64),
		.size_bytes = size_bytes,
		.crc32c = far_crc32c(0, from, size_bytes),
	};
	memcpy(out->key, key.bytes, sizeof(out->key));
	return true;
}

/* Blocks with their bytes; a frame that will be mangled speaks of keys that nobody looks at. */
static void
commit_say(struct client *client, uint16_t arg)
{
	struct grant *grant = &client->grants[(arg >> 8) % GRANTS_MAX];
	struct far_frame_block blocks[4];
	struct far_frame_commit commit = {.flags = arg >> 7 & 1};
	uint32_t base = world.mangle_at != 0 ? HONEST_KEYS : 0;
	uint32_t count = 0;

	if (client->granted > 0 && (arg >> 11 & 1) == 0)
		grant = &client->grants[(client->granted - 1) % GRANTS_MAX];
	if (client->link == NULL || grant->ended || grant->frame.serial == 0)
		return;
	while (count < (arg >> 5 & 3U) + 1 &&
	       block_write(client, grant, base + (arg + count) % (base == 0 ? HONEST_KEYS : 16),
			   &blocks[count]))
		count++;
	commit.serial = grant->frame.serial;
	commit.count = count;
	if (count == 0)
		commit.flags = FAR_COMMIT_END;
	grant->ended = (commit.flags & FAR_COMMIT_END) != 0;
	history_say(client, FAR_FRAME_COMMIT, &commit, sizeof(commit), blocks,
		    count * sizeof(blocks[0]));
}

/* Blocks that are not there, in lanes that may not be its own. */
static void
commit_lie(struct client *client, uint16_t arg)
{
	struct client *whose = &world.clients[arg % CLIENTS];
	const struct grant *grant = &whose->grants[(arg >> 2) % GRANTS_MAX];
	struct far_frame_commit commit = {.serial = grant->frame.serial};
	struct far_frame_block blocks[3];

	commit.flags = arg >> 8 & FAR_COMMIT_END;
	commit.count = (arg >> 9) % 4;
	if ((arg >> 12 & 3) == 3)
		commit.serial = input_u64(&world.in);
	for (uint32_t i = 0; i < commit.count; i++) {
		uint8_t shape = input_u8(&world.in);
		struct far_key key = history_key_of(HONEST_KEYS + (shape & 15));

		blocks[i] = (struct far_frame_block){
			.offset_64 = (uint32_t)(grant->fill_bytes / 64) + input_u8(&world.in),
			.size_bytes = 64,
			.flags = shape >> 4,
		};
		if ((shape >> 5 & 1) != 0)
			blocks[i].size_bytes = (uint32_t)input_edge(&world.in);
		if ((shape >> 6 & 1) != 0)
			blocks[i].offset_64 = (uint32_t)input_edge(&world.in);
		memcpy(blocks[i].key, key.bytes, sizeof(blocks[i].key));
		if (shape >> 7 != 0)
			memset(blocks[i].key, 0, sizeof(blocks[i].key));
	}
	history_say(client, FAR_FRAME_COMMIT, &commit, sizeof(commit), blocks,
		    commit.count * sizeof(blocks[0]));
}

static void
keys_say(struct client *client, enum far_frame_type type, uint16_t arg)
{
	struct far_key keys[8];
	struct far_frame_keys body = {.count = 1 + (arg >> 8) % 8};

	for (uint32_t i = 0; i < body.count; i++)
		keys[i] = history_key_of((arg + i) % KEYS);
	history_say(client, type, &body, sizeof(body), keys, body.count * sizeof(keys[0]));
}

static void
reject_say(struct client *client, uint16_t arg)
{
	struct far_frame_reject body = {{0}};
	struct far_key key = history_key_of(arg % KEYS);
	uint32_t slot = far_pool_index_find(world.pool, &key);

	if (slot != POOL_NONE)
		memcpy(body.slot, &world.pool->slots[slot], sizeof(body.slot));
	if ((arg >> 8 & 1) != 0)
		body.slot[(arg >> 9) % FAR_SLOT_BYTES] ^= 1;
	history_say(client, FAR_FRAME_REJECT, &body, sizeof(body), NULL, 0);
}

/* Any bytes; half of them behind a head that fits them. */
static void
bytes_say(struct client *client, uint16_t arg)
{
	static uint64_t bytes[64];
	struct far_frame_head head = {.type = (uint16_t)(arg & 0x7f), .tag = 9};
	size_t size_bytes = input_take(&world.in, bytes, 16 + (arg >> 7 & 0xff));

	if (size_bytes >= sizeof(head) && arg >> 15 == 0) {
		head.size_bytes = (uint32_t)size_bytes;
		memcpy(bytes, &head, sizeof(head));
	}
	if (size_bytes > 0 && client->link != NULL)
		(void)far_transport_send(client->link, bytes, size_bytes);
}

/* A WRITE into a lane that was given back: its key is gone, and nothing of it may land. */
static void
late_write(struct client *client, uint16_t arg)
{
	const struct grant *grant = &client->grants[arg % GRANTS_MAX];
	const struct lane_watch *watch =
		&world.lanes[(grant->frame.serial & (POOL_LANES_MAX - 1)) % LANES_MAX];
	struct far_piece piece = {.size_bytes = LATE_BYTES, .mem = client->mem};
	struct far_op op = {.kind = FAR_OP_WRITE, .pieces = &piece, .piece_count = 1, .token = 2};

	if (client->link == NULL || grant->frame.serial == 0)
		return;
	if (watch->mem != NULL &&
	    memcmp(watch->mem->remote.rkey.bytes, grant->frame.write_rkey, 16) == 0)
		return;
	piece.addr = client->bytes + LATE_AT;
	memset(client->bytes + LATE_AT, LATE_FILL, LATE_BYTES);
	op.remote_addr = grant->frame.write_addr + (arg >> 4) % (LANE_BYTES / 64) * 64;
	memcpy(op.rkey.bytes, grant->frame.write_rkey, sizeof(op.rkey.bytes));
	(void)far_transport_post(client->link, &op, 1);
}

/* ---- what holds after each step ---- */

static void
key_check(uint32_t id)
{
	struct far_key key = history_key_of(id);
	uint32_t idx = far_pool_index_find(world.pool, &key);

	if (idx == POOL_NONE)
		return;
	FAR_ASSERT(world.pool->slots[idx].size_bytes == history_size_of(id));
	FAR_ASSERT(history_bytes_are(id, history_slot_bytes(&world.pool->slots[idx])));
}

static void
late_check(void)
{
	uint8_t late[LATE_BYTES];

	memset(late, LATE_FILL, sizeof(late));
	for (uint32_t i = 0; i < SEGMENTS_MAX; i++) {
		for (uint32_t at = 0; world.segments[i].base != NULL && at < SEGMENT_BYTES;
		     at += LATE_BYTES)
			FAR_ASSERT(memcmp(world.segments[i].base + at, late, sizeof(late)) != 0);
	}
}

static void
books_check(uint32_t step)
{
	struct far_pool_stats stats;
	const uint64_t *values = stats.values;
	uint32_t open = 0;

	far_pool_check(world.pool);
	for (uint32_t i = 0; i < world.pool->lane_slots; i++) {
		const struct pool_lane *lane = &world.pool->lanes[i];

		FAR_ASSERT(lane->mem == NULL || lane->mem == world.lanes[i].mem);
		if (lane->link == NULL)
			continue;
		open += lane->state == LANE_OPEN || lane->state == LANE_RECALLED;
		if (lane->link->state == LINK_ENDING)
			world.lanes[i].must_close = history_guest_of(lane->link->link);
	}
	far_pool_stats_get(world.pool, &stats);
	FAR_ASSERT(values[FAR_STATUS_lanes_open] == open);
	FAR_ASSERT(open <= world.pool->config.lanes_open_max);
	FAR_ASSERT(values[FAR_STATUS_capacity_bytes] <= CAPACITY_BYTES);
	FAR_ASSERT(values[FAR_STATUS_free_bytes] + values[FAR_STATUS_block_bytes] <=
		   values[FAR_STATUS_capacity_bytes]);
	FAR_ASSERT(values[FAR_STATUS_block_count] <= values[FAR_STATUS_slot_count]);
	FAR_ASSERT(values[FAR_STATUS_link_count] <= world.pool->config.links_max);
	key_check(step % HONEST_KEYS);
}

/* ---- steps ---- */

enum step {
	STEP_PASS,
	STEP_CONNECT,
	STEP_HELLO,
	STEP_LANE_ASK,
	STEP_COMMIT,
	STEP_COMMIT_LIE,
	STEP_TOUCH,
	STEP_DELETE,
	STEP_REJECT,
	STEP_SEGMENT_GONE,
	STEP_STATUS_ASK,
	STEP_BYE,
	STEP_BYTES,
	STEP_MANGLE,
	STEP_ERRAND,
	STEP_DISCONNECT,
	STEP_KILL,
	STEP_PAUSE,
	STEP_DRAIN,
	STEP_LEND,
	STEP_LATE_WRITE,
	STEP_STALL,
	STEP_NO_MEMORY,
	STEP_SHUTDOWN,
	STEP_COUNT,
};

static uint64_t
time_of(uint16_t arg)
{
	static const uint64_t times[] = {
		2 * FAR_NS_PER_US,  10 * FAR_NS_PER_US, 200 * FAR_NS_PER_US, 2 * FAR_NS_PER_MS,
		30 * FAR_NS_PER_MS, 60 * FAR_NS_PER_MS, 150 * FAR_NS_PER_MS, 700 * FAR_NS_PER_MS};

	return times[arg % 8];
}

static void
step_of_donor(enum step step, uint16_t arg)
{
	switch (step) {
	case STEP_PASS:
		history_pass(time_of(arg));
		break;
	case STEP_ERRAND:
		history_errand_pick(arg & 0xff, arg >> 15 != 0);
		break;
	case STEP_DRAIN:
		history_segment_drain(arg);
		break;
	case STEP_LEND:
		history_segment_lend(arg % 4 == 0 ? LANE_BYTES : SEGMENT_BYTES);
		far_pool_growing_set(world.pool, arg >> 15 != 0);
		break;
	case STEP_STALL:
		history_stall(time_of(arg));
		break;
	case STEP_NO_MEMORY:
		far_alloc_fail_nth(1 + (arg & 31));
		(void)far_transport_poll(world.tp, 64);
		far_alloc_fail_nth(0);
		break;
	case STEP_SHUTDOWN:
		if (arg == 0x5aa5) /* not often: little happens behind it */
			far_pool_shutdown(world.pool);
		break;
	default:
		break;
	}
}

static void
step_of_client(enum step step, struct client *client, uint16_t arg)
{
	struct far_frame_lane_ask ask = {.lane_count = 1 + arg % 16};
	struct far_frame_segment gone = {.segment = client->recalled_segment};

	switch (step) {
	case STEP_CONNECT:
		history_client_connect(client);
		break;
	case STEP_HELLO:
		hello_say(client, arg);
		break;
	case STEP_LANE_ASK:
		history_say(client, FAR_FRAME_LANE_ASK, &ask, sizeof(ask), NULL, 0);
		break;
	case STEP_COMMIT:
		commit_say(client, arg);
		break;
	case STEP_COMMIT_LIE:
		commit_lie(client, arg);
		break;
	case STEP_TOUCH:
		keys_say(client, FAR_FRAME_TOUCH, arg);
		break;
	case STEP_DELETE:
		keys_say(client, FAR_FRAME_DELETE, arg);
		break;
	case STEP_REJECT:
		reject_say(client, arg);
		break;
	case STEP_SEGMENT_GONE:
		gone.segment += arg;
		history_say(client, FAR_FRAME_SEGMENT_GONE, &gone, sizeof(gone), NULL, 0);
		break;
	case STEP_STATUS_ASK:
		history_say(client, FAR_FRAME_STATUS_ASK, NULL, 0, NULL, 0);
		break;
	case STEP_BYE:
		history_say(client, FAR_FRAME_BYE, NULL, 0, NULL, 0);
		break;
	case STEP_BYTES:
		bytes_say(client, arg);
		break;
	case STEP_DISCONNECT:
		history_client_disconnect(client);
		break;
	case STEP_KILL:
		history_client_kill(client);
		break;
	case STEP_PAUSE:
		far_loop_host_pause(world.fabric, client->host, arg % 2 == 0);
		break;
	case STEP_LATE_WRITE:
		late_write(client, arg);
		break;
	default:
		break;
	}
}

/* A byte for what and who; its top bit: the next step comes before this one has had its effect. */
static void
step_run(uint32_t number)
{
	uint8_t what = input_u8(&world.in);
	enum step step = (enum step)((what & 31) % STEP_COUNT);
	struct client *client = &world.clients[(what >> 5 & 3) % CLIENTS];
	uint16_t arg = input_u16(&world.in);

	if (step == STEP_MANGLE) {
		world.mangle_at = arg & 0xff;
		world.mangle_with = (uint8_t)(arg >> 8);
		return;
	}
	if (client->tp == NULL)
		history_client_open(client);
	step_of_donor(step, arg);
	step_of_client(step, client, arg);
	if (what >> 7 != 0)
		return;
	history_pass(SETTLE_NS);
	books_check(number);
}

/* ---- the world ---- */

static void
world_open(void)
{
	uint8_t how = input_u8(&world.in);
	struct far_loop_config fabric = {
		.seed = how,
		.latency_ns_min = FAR_NS_PER_US,
		.latency_ns_max = 5 * FAR_NS_PER_US,
		.reorder = (how & 1) != 0,
		.drop_link = (how & 2) != 0 ? 2000 : 0,
		.late = (how & 4) != 0 ? 8000 : 0,
		.late_ns_max = 100 * FAR_NS_PER_US,
	};
	struct far_pool_config config = {
		.name = "donor-a",
		.name_space = "default",
		.capacity_bytes = CAPACITY_BYTES,
		.segment_bytes = SEGMENT_BYTES,
		.lane_bytes = LANE_BYTES,
		.block_bytes_min = 4096,
		.grace_ns = 20 * FAR_NS_PER_MS,
		.lanes_free_min = 1 + (how >> 4 & 1U),
		.lanes_open_max = 4,
		.lane_idle_ns = 300 * FAR_NS_PER_MS,
		.recall_ns = 500 * FAR_NS_PER_MS,
		.hot_share_max = 25,
		.links_max = 3,
	};
	struct far_transport_config tp_config = {.host = "donor", .message_credits = 2};
	struct far_pool_rails rails = {.tps = &world.tp, .count = 1};
	struct far_mem_source index = {.fd = -1};

	FAR_ASSERT(far_loop_fabric_open(&fabric, &world.fabric) == 0);
	world.clock = far_loop_clock(world.fabric);
	tp_config.clock = world.clock;
	tp_config.fabric = world.fabric;
	FAR_ASSERT(far_transport_open("loop", &tp_config, &world.tp) == 0);
	far_rng_init(&world.rng, how);
	world.at_once = (how & 8) != 0;
	world.host = (struct far_pool_host){history_lane_register, history_lane_deregister};
	index.size_bytes = far_pool_index_bytes(&config, 1);
	world.index = far_zalloc_aligned(64, index.size_bytes);
	index.base = world.index;
	FAR_ASSERT(far_pool_open(&config, &rails, &index, world.clock, &world.rng, &world.host,
				 &world.pool) == 0);
	FAR_ASSERT(world.pool->lane_slots <= LANES_MAX);
	for (uint32_t i = 0; i < CAPACITY_BYTES / SEGMENT_BYTES; i++)
		history_segment_lend(SEGMENT_BYTES);
	FAR_ASSERT(far_transport_listen(world.tp, "donor", history_guest_accept, world.pool,
					&world.listener) == 0);
	for (uint32_t c = 0; c < CLIENTS; c++)
		(void)snprintf(world.clients[c].host, sizeof(world.clients[c].host), "client-%u",
			       c);
}

/* Whoever is left is told to go, paused or not; all lanes come back and nothing is left. */
static void
world_close(void)
{
	far_transport_unlisten(world.tp, world.listener);
	far_pool_shutdown(world.pool);
	for (uint32_t i = 0; i < 200 && !far_pool_closing_done(world.pool); i++) {
		while (world.errand_count > 0)
			history_errand_pick(0, false);
		history_pass(50 * FAR_NS_PER_MS);
	}
	FAR_ASSERT(far_pool_closing_done(world.pool));
	FAR_ASSERT(world.errand_count == 0);
	far_pool_check(world.pool);
	for (uint32_t id = 0; id < HONEST_KEYS; id++)
		key_check(id);
	late_check();
	for (uint32_t i = 0; i < world.guest_count; i++)
		FAR_ASSERT(world.guests[i].closed);
	far_pool_close(world.pool);
	world.pool = NULL;
	for (uint32_t c = 0; c < CLIENTS; c++) {
		if (world.clients[c].tp == NULL)
			continue;
		far_loop_host_kill(world.fabric, world.clients[c].host);
		far_loop_host_bury(world.clients[c].tp);
		far_free(world.clients[c].bytes);
	}
	far_transport_close(world.tp);
	far_loop_fabric_close(world.fabric);
	for (uint32_t i = 0; i < SEGMENTS_MAX; i++)
		far_free(world.segments[i].base);
	far_free(world.index);
}

static void
no_log(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	/* The words of a failed assertion are why we are here. */
	if (level == FAR_LOG_ERROR && strncmp(line, "assertion", 9) == 0)
		fprintf(stderr, "%s\n", line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	far_log_sink_set(no_log, NULL);
	world = (struct world){.in = {.bytes = data, .left = size_bytes}};
	world_open();
	for (uint32_t i = 0; i < STEPS_MAX && world.in.left > 0; i++)
		step_run(i);
	world_close();
	FAR_ASSERT(far_alloc_live_bytes() == 0);
	return 0;
}
