/* pool_rig.c - a donor and its clients over the simulated fabric, driven step by step. */
#include "tests/support/pool_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/checksum.h"
#include "base/list.h"
#include "tests/support/log_capture.h"

#define SETTLE_NS (200 * FAR_NS_PER_US)

void
rig_config(struct far_pool_config *config)
{
	*config = (struct far_pool_config){
		.name = "donor-a",
		.name_space = "default",
		.capacity_bytes = 4 * RIG_LANE_BYTES,
		.segment_bytes = 4 * RIG_LANE_BYTES,
		.lane_bytes = RIG_LANE_BYTES,
		.block_bytes_min = 65536,
		.grace_ns = 50 * FAR_NS_PER_MS,
		.lanes_free_min = 1,
		.lanes_open_max = 4,
		.lane_idle_ns = 30 * FAR_NS_PER_S,
		.recall_ns = 5 * FAR_NS_PER_S,
		.hot_share_max = 25,
		.links_max = 8,
	};
}

/* ---- the shell's part: slow calls, answered at once or when the test says so ---- */

static void
host_register(struct far_pool_host *host, struct far_pool *pool, uint32_t lane,
	      const struct far_mem_source *source, struct far_link *link)
{
	struct rig *rig = FAR_CONTAINER_OF(host, struct rig, host);
	int i = rig->register_count++;

	(void)pool;
	assert_true(i < 64);
	rig->registers[i].lane = lane;
	rig->registers[i].source = *source;
	rig->registers[i].link = link;
}

static void
host_deregister(struct far_pool_host *host, struct far_pool *pool, uint32_t lane,
		struct far_mem *mem)
{
	struct rig *rig = FAR_CONTAINER_OF(host, struct rig, host);
	int i = rig->deregister_count++;

	(void)pool;
	assert_true(i < 64);
	rig->deregisters[i].lane = lane;
	rig->deregisters[i].mem = mem;
}

void
rig_answer_registers(struct rig *rig)
{
	int count = rig->register_count;

	rig->register_count = 0;
	for (int i = 0; i < count; i++) {
		struct far_mem *mem = NULL;
		int rc =
			far_transport_mem_reg(rig->tp, &rig->registers[i].source,
					      FAR_RIGHT_REMOTE_WRITE, rig->registers[i].link, &mem);

		far_pool_lane_registered(rig->pool, rig->registers[i].lane, rc, mem);
		far_pool_check(rig->pool);
	}
}

void
rig_answer_deregisters(struct rig *rig)
{
	int count = rig->deregister_count;

	rig->deregister_count = 0;
	for (int i = 0; i < count; i++) {
		far_transport_mem_dereg(rig->deregisters[i].mem);
		far_pool_lane_deregistered(rig->pool, rig->deregisters[i].lane);
		far_pool_check(rig->pool);
	}
}

/* ---- clients ---- */

static void
client_frame(struct rig_client *client, const struct far_frame *frame)
{
	client->answers[frame->head.type]++;
	if (client->tag_next != 0 && client->tag > 42 && frame->head.tag != 0)
		assert_int_equal(frame->head.tag, client->tag + 1); /* answers keep their order */
	client->tag = frame->head.tag;
	switch ((enum far_frame_type)frame->head.type) {
	case FAR_FRAME_WELCOME:
		memcpy(&client->welcome, frame->body, sizeof(client->welcome));
		break;
	case FAR_FRAME_REFUSED:
		memcpy(&client->refused, frame->body, sizeof(client->refused));
		break;
	case FAR_FRAME_LANE_GRANT:
		assert_true(client->grant_count < RIG_GRANTS_MAX);
		client->fill[client->grant_count] = 0;
		memcpy(&client->grants[client->grant_count++], frame->body,
		       sizeof(client->grants[0]));
		break;
	case FAR_FRAME_LANE_RECALL:
		memcpy(&client->recalled, frame->body, sizeof(client->recalled));
		break;
	case FAR_FRAME_SEGMENT_RECALL:
		memcpy(&client->segment_recalled, frame->body, sizeof(client->segment_recalled));
		break;
	case FAR_FRAME_COMMITTED:
	case FAR_FRAME_DELETED:
		client->result_count = frame->count;
		if (frame->count > 0)
			memcpy(client->results, frame->list, frame->count * sizeof(int32_t));
		break;
	case FAR_FRAME_STATUS:
		assert_int_equal(frame->count, FAR_STATUS_COUNT);
		memcpy(client->status, frame->list, sizeof(client->status));
		break;
	default:
		break;
	}
}

static void
client_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct rig_client *client = FAR_CONTAINER_OF(handler, struct rig_client, handler);
	struct far_frame frame;

	switch (event->kind) {
	case FAR_EV_CONNECTED:
		client->connected = true;
		break;
	case FAR_EV_MESSAGE:
		/* Whatever a donor says can be read. */
		assert_int_equal(far_frame_decode(event->msg, event->msg_bytes, &frame), 0);
		client_frame(client, &frame);
		break;
	case FAR_EV_DONE:
		client->tokens_done = event->token;
		break;
	case FAR_EV_LOST:
		client->lost = true;
		break;
	case FAR_EV_CLOSED:
		client->link = NULL;
		break;
	case FAR_EV_SENDABLE:
		break;
	}
}

struct rig_client *
rig_client_connect(struct rig *rig, int idx)
{
	struct rig_client *client = &rig->clients[idx];
	struct far_transport_config config = {.clock = rig->clock, .fabric = rig->fabric};
	struct far_mem_source source = {.size_bytes = RIG_LANE_BYTES, .fd = -1};
	int rc;

	assert_null(client->tp);
	memset(client, 0, sizeof(*client));
	client->rig = rig;
	client->handler.event = client_event;
	snprintf(client->host, sizeof(client->host), "client-%d", idx);
	config.host = client->host;
	assert_int_equal(far_transport_open("loop", &config, &client->tp), 0);
	client->bytes = far_zalloc_aligned(4096, RIG_LANE_BYTES);
	assert_non_null(client->bytes);
	source.base = client->bytes;
	rc = far_transport_mem_reg(client->tp, &source, FAR_RIGHT_LOCAL, NULL, &client->mem);
	assert_int_equal(rc, 0);
	rc = far_transport_connect(client->tp, "donor", NULL, 0, FAR_TIME_NEVER, &client->handler,
				   &client->link);
	assert_int_equal(rc, 0);
	rig_settle(rig);
	return client;
}

void
rig_hello_fill(struct far_frame_hello *hello)
{
	*hello = (struct far_frame_hello){.version = FAR_WIRE_VERSION,
					  .client_id = 7,
					  .name_space = "default",
					  .donor = "donor-a",
					  .client = "test"};
}

struct rig_client *
rig_client_open(struct rig *rig, int idx)
{
	struct rig_client *client = rig_client_connect(rig, idx);
	struct far_frame_hello hello;

	assert_true(client->connected);
	rig_hello_fill(&hello);
	assert_int_equal(rig_send(client, FAR_FRAME_HELLO, &hello, NULL, 0), 0);
	rig_settle(rig);
	assert_int_equal(client->answers[FAR_FRAME_WELCOME], 1);
	return client;
}

int
rig_send(struct rig_client *client, enum far_frame_type type, const void *body, const void *list,
	 uint32_t count)
{
	static uint64_t frame[FAR_FRAME_BYTES_MAX / 8];
	uint64_t tag = client->tag_next != 0 ? client->tag_next : 42;
	int size = far_frame_encode(type, tag, body, list, count, frame, sizeof(frame));
	int rc;

	assert_true(size > 0);
	rc = far_transport_send(client->link, frame, (size_t)size);
	if (rc == 0 && client->tag_next != 0)
		client->tag_next++;
	return rc;
}

/* Takes what is left of a client out of the world. */
static void
client_close(struct rig_client *client)
{
	struct rig *rig = client->rig;

	if (client->tp == NULL)
		return;
	if (client->link != NULL && !client->disconnected) {
		client->disconnected = true;
		far_transport_disconnect(client->link);
	}
	rig_settle(rig);
	assert_null(client->link);
	far_transport_mem_dereg(client->mem);
	far_transport_close(client->tp);
	client->tp = NULL;
	far_free(client->bytes);
	client->bytes = NULL;
}

void
rig_bye(struct rig_client *client)
{
	assert_int_equal(rig_send(client, FAR_FRAME_BYE, NULL, NULL, 0), 0);
	rig_settle(client->rig);
	client_close(client);
}

void
rig_client_kill(struct rig_client *client)
{
	struct rig *rig = client->rig;

	far_loop_host_kill(rig->fabric, client->host);
	far_loop_host_bury(client->tp);
	client->tp = NULL;
	client->link = NULL;
	far_free(client->bytes);
	client->bytes = NULL;
	rig_settle(rig);
}

int
rig_lane_ask(struct rig_client *client)
{
	struct far_frame_lane_ask ask = {.lane_count = 1};
	int before = client->grant_count;

	assert_int_equal(rig_send(client, FAR_FRAME_LANE_ASK, &ask, NULL, 0), 0);
	rig_settle(client->rig);
	return client->grant_count > before ? before : -1;
}

/* ---- blocks ---- */

struct far_key
rig_key(uint64_t number)
{
	struct far_key key;
	uint64_t halves[2] = {far_mix64(number), far_mix64(~number)};

	memcpy(key.bytes, halves, sizeof(key.bytes));
	return key;
}

static void
block_fill(uint8_t *to, uint64_t number, uint32_t size_bytes)
{
	uint64_t word = far_mix64(number);

	for (uint32_t at = 0; at < size_bytes; at += sizeof(word)) {
		uint32_t left = size_bytes - at;

		word += 0x9e3779b97f4a7c15ULL;
		memcpy(to + at, &word, left < sizeof(word) ? left : sizeof(word));
	}
}

bool
rig_block_write(struct rig_client *client, int grant, uint64_t number, uint32_t size_bytes,
		struct far_frame_block *out)
{
	const struct far_frame_lane_grant *lane = &client->grants[grant];
	uint64_t align = far_extent_align(size_bytes);
	uint64_t offset = (client->fill[grant] + align - 1) / align * align;
	struct far_piece piece = {.size_bytes = size_bytes, .mem = client->mem};
	struct far_op op = {.kind = FAR_OP_WRITE, .pieces = &piece, .piece_count = 1};
	struct far_key key = rig_key(number);

	if (offset + size_bytes > lane->size_bytes)
		return false;
	block_fill(client->bytes + offset, number, size_bytes);
	piece.addr = client->bytes + offset;
	op.remote_addr = lane->write_addr + offset;
	memcpy(op.rkey.bytes, lane->write_rkey, sizeof(op.rkey.bytes));
	op.token = ++client->tokens;
	assert_int_equal(far_transport_post(client->link, &op, 1), 0);
	client->fill[grant] = offset + size_bytes;
	*out = (struct far_frame_block){
		.offset_64 = (uint32_t)(offset / 64),
		.size_bytes = size_bytes,
		.crc32c = far_crc32c(0, client->bytes + offset, size_bytes),
		.group = 9,
	};
	memcpy(out->key, key.bytes, sizeof(out->key));
	return true;
}

void
rig_commit(struct rig_client *client, int grant, const struct far_frame_block *blocks,
	   uint32_t count, bool end)
{
	struct far_frame_commit commit = {
		.serial = client->grants[grant].serial,
		.flags = end ? FAR_COMMIT_END : 0,
		.count = count,
	};

	assert_int_equal(rig_send(client, FAR_FRAME_COMMIT, &commit, blocks, count), 0);
	rig_settle(client->rig);
}

int32_t
rig_store(struct rig_client *client, int grant, uint64_t number, uint32_t size_bytes)
{
	struct far_frame_block block;

	assert_true(rig_block_write(client, grant, number, size_bytes, &block));
	rig_commit(client, grant, &block, 1, false);
	assert_int_equal(client->result_count, 1);
	return client->results[0];
}

uint32_t
rig_lane_fill(struct rig_client *client, uint64_t first, uint32_t size_bytes)
{
	struct far_frame_block blocks[FAR_COMMIT_BLOCKS_MAX];
	int grant = rig_lane_ask(client);
	uint32_t count = 0;

	assert_true(grant >= 0);
	while (count < FAR_COMMIT_BLOCKS_MAX &&
	       rig_block_write(client, grant, first + count, size_bytes, &blocks[count]))
		count++;
	rig_commit(client, grant, blocks, count, true);
	return count;
}

void
rig_touch(struct rig_client *client, uint64_t number, int times)
{
	struct far_frame_keys keys = {.count = 1};
	struct far_key key = rig_key(number);

	for (int i = 0; i < times; i++) {
		assert_int_equal(rig_send(client, FAR_FRAME_TOUCH, &keys, &key, 1), 0);
		rig_settle(client->rig);
	}
}

int32_t
rig_delete(struct rig_client *client, uint64_t number)
{
	struct far_frame_keys keys = {.count = 1};
	struct far_key key = rig_key(number);

	assert_int_equal(rig_send(client, FAR_FRAME_DELETE, &keys, &key, 1), 0);
	rig_settle(client->rig);
	assert_int_equal(client->result_count, 1);
	return client->results[0];
}

/* ---- what a reader sees ---- */

bool
rig_find(struct rig *rig, uint64_t number, struct far_slot *out)
{
	struct far_index_header header;
	struct far_index_live live;
	struct far_key key = rig_key(number);
	uint64_t sets[2];

	memcpy(&header, rig->index, sizeof(header));
	assert_int_equal(far_index_header_check(&header, rig->index_bytes), 0);
	far_line_load(&live, rig->index + header.live_at);
	assert_int_equal(far_index_live_check(&live), 0);
	far_index_sets(&key, header.hash_seed, header.set_count, sets);
	for (uint32_t i = 0; i < 2 * FAR_SET_SLOTS; i++) {
		uint64_t at = header.sets_at + sets[i / FAR_SET_SLOTS] * FAR_SET_BYTES +
			      i % FAR_SET_SLOTS * FAR_SLOT_BYTES;

		far_line_load(out, rig->index + at);
		assert_int_not_equal(far_slot_check(out, live.epoch), FAR_SLOT_TORN);
		if (memcmp(out->key, key.bytes, sizeof(key.bytes)) == 0)
			return true;
	}
	return false;
}

uint8_t *
rig_bytes(struct rig *rig, const struct far_slot *slot)
{
	for (int i = 0; i < RIG_SEGMENTS_MAX; i++) {
		if (rig->segments[i].number == slot->segment && slot->segment != 0) {
			assert_false(rig->segments[i].drained);
			assert_true(slot->offset_64 * 64ULL + slot->size_bytes <=
				    rig->segments[i].size_bytes);
			return rig->segments[i].base + slot->offset_64 * 64ULL;
		}
	}
	fail_msg("a slot names segment %u, which was never lent", slot->segment);
	return NULL;
}

bool
rig_holds(struct rig *rig, uint64_t number)
{
	struct far_slot slot;
	uint8_t *want;
	int differs;

	if (!rig_find(rig, number, &slot))
		return false;
	want = far_zalloc(slot.size_bytes);
	assert_non_null(want);
	block_fill(want, number, slot.size_bytes);
	differs = memcmp(want, rig_bytes(rig, &slot), slot.size_bytes);
	assert_int_equal(slot.crc32c, far_crc32c(0, want, slot.size_bytes));
	far_free(want);
	assert_int_equal(differs, 0);
	return true;
}

/* ---- the world ---- */

static void
rig_poll(struct rig *rig)
{
	bool again = true;

	while (again) {
		again = far_transport_poll(rig->tp, 64) > 0;
		for (int i = 0; i < RIG_CLIENTS_MAX; i++) {
			if (rig->clients[i].tp != NULL)
				again |= far_transport_poll(rig->clients[i].tp, 64) > 0;
		}
		if (rig->pool == NULL)
			continue;
		rig->tick_ns = far_pool_tick(rig->pool, far_clock_now(rig->clock));
		if (!rig->checks_off)
			far_pool_check(rig->pool);
		again |= rig->tick_ns <= far_clock_now(rig->clock);
	}
}

void
rig_run(struct rig *rig, uint64_t ns)
{
	uint64_t end_ns = far_clock_now(rig->clock) + ns;

	rig_poll(rig);
	while (far_clock_now(rig->clock) < end_ns) {
		uint64_t next_ns =
			rig->pool != NULL && rig->tick_ns < end_ns ? rig->tick_ns : end_ns;

		(void)far_loop_step(rig->fabric, next_ns);
		rig_poll(rig);
	}
}

void
rig_settle(struct rig *rig)
{
	rig_run(rig, SETTLE_NS);
}

uint64_t
rig_stat(struct rig *rig, enum far_status_idx idx)
{
	struct far_pool_stats stats;

	far_pool_stats_get(rig->pool, &stats);
	return stats.values[idx];
}

int
rig_segment_add(struct rig *rig, size_t size_bytes)
{
	struct far_mem_source source = {.size_bytes = size_bytes, .fd = -1, .relaxed = true};
	int i = 0;

	while (rig->segments[i].base != NULL)
		assert_true(++i < RIG_SEGMENTS_MAX);
	rig->segments[i].base = far_zalloc_aligned(4096, size_bytes);
	assert_non_null(rig->segments[i].base);
	source.base = rig->segments[i].base;
	rig->segments[i].size_bytes = size_bytes;
	rig->segments[i].drained = false;
	assert_int_equal(far_pool_segment_add(rig->pool, &source, &rig->segments[i].number), 0);
	return i;
}

static void
segment_drained(void *arg, uint32_t number)
{
	struct rig *rig = arg;

	for (int i = 0; i < RIG_SEGMENTS_MAX; i++) {
		if (rig->segments[i].number != number)
			continue;
		assert_false(rig->segments[i].drained);
		rig->segments[i].drained = true;
		/* Nobody touches it from here on: the sanitizer would tell. */
		far_free(rig->segments[i].base);
		rig->segments[i].base = NULL;
		return;
	}
	fail_msg("an unknown segment was drained");
}

void
rig_segment_drain(struct rig *rig, int entry)
{
	uint32_t number = rig->segments[entry].number;

	assert_int_equal(far_pool_segment_drain(rig->pool, number, segment_drained, rig), 0);
}

struct rig *
rig_open(const struct far_pool_config *config, uint64_t seed, bool is_async)
{
	struct far_loop_config fabric = {
		.seed = seed, .latency_ns_min = FAR_NS_PER_US, .latency_ns_max = 5 * FAR_NS_PER_US};
	struct far_transport_config transport = {.host = "donor"};
	struct far_mem_source index = {.fd = -1};
	struct far_pool_rails rails = {.count = 1};
	uint64_t alloc_bytes = far_alloc_live_bytes();
	struct rig *rig = far_zalloc(sizeof(*rig));
	uint64_t lent = 0;

	far_log_capture_start();
	assert_non_null(rig);
	rig->alloc_bytes = alloc_bytes;
	rig->config = *config;
	rig->is_async = is_async;
	rig->host.lane_register = host_register;
	rig->host.lane_deregister = host_deregister;
	assert_int_equal(far_loop_fabric_open(&fabric, &rig->fabric), 0);
	rig->clock = far_loop_clock(rig->fabric);
	transport.clock = rig->clock;
	transport.fabric = rig->fabric;
	assert_int_equal(far_transport_open("loop", &transport, &rig->tp), 0);
	far_rng_init(&rig->rng, seed);
	rig->index_bytes = far_pool_index_bytes(config, 1);
	rig->index = far_zalloc_aligned(4096, rig->index_bytes);
	assert_non_null(rig->index);
	rails.tps = &rig->tp;
	index.base = rig->index;
	index.size_bytes = rig->index_bytes;
	assert_int_equal(far_pool_open(config, &rails, &index, rig->clock, &rig->rng,
				       is_async ? &rig->host : NULL, &rig->pool),
			 0);
	while (lent < config->capacity_bytes) {
		uint64_t left = config->capacity_bytes - lent;
		uint64_t size = left < config->segment_bytes ? left : config->segment_bytes;

		rig_segment_add(rig, size);
		lent += size;
	}
	assert_int_equal(
		far_transport_listen(rig->tp, "donor", far_pool_accept, rig->pool, &rig->listener),
		0);
	return rig;
}

void
rig_down(struct rig *rig)
{
	far_transport_unlisten(rig->tp, rig->listener);
	far_pool_shutdown(rig->pool);
	for (int i = 0; i < 100 && !far_pool_closing_done(rig->pool); i++) {
		rig_answer_registers(rig);
		rig_answer_deregisters(rig);
		rig_run(rig, 100 * FAR_NS_PER_MS);
	}
	assert_true(far_pool_closing_done(rig->pool));
	far_pool_close(rig->pool);
	rig->pool = NULL;
	for (int i = 0; i < RIG_CLIENTS_MAX; i++)
		client_close(&rig->clients[i]);
}

int
rig_reopen(struct rig *rig)
{
	struct far_pool_rails rails = {.tps = &rig->tp, .count = 1};
	struct far_mem_source index = {
		.base = rig->index, .size_bytes = rig->index_bytes, .fd = -1};
	int rc = far_pool_reopen(&rig->config, &rails, &index, rig->clock, &rig->rng,
				 rig->is_async ? &rig->host : NULL, &rig->pool);

	rig->tick_ns = 0;
	if (rc < 0)
		return rc;
	far_pool_growing_set(rig->pool, true);
	memset(rig->clients, 0, sizeof(rig->clients));
	return far_transport_listen(rig->tp, "donor", far_pool_accept, rig->pool, &rig->listener);
}

int
rig_segment_restore(struct rig *rig, int entry)
{
	struct far_mem_source source = {.base = rig->segments[entry].base,
					.size_bytes = rig->segments[entry].size_bytes,
					.fd = -1,
					.relaxed = true};

	return far_pool_segment_restore(rig->pool, &source, rig->segments[entry].number);
}

void
rig_close(struct rig *rig)
{
	uint64_t alloc_bytes = rig->alloc_bytes;

	if (rig->pool != NULL)
		rig_down(rig);
	far_transport_close(rig->tp);
	far_loop_fabric_close(rig->fabric);
	for (int i = 0; i < RIG_SEGMENTS_MAX; i++)
		far_free(rig->segments[i].base);
	far_free(rig->index);
	far_free(rig);
	assert_int_equal(far_alloc_live_bytes(), alloc_bytes);
	far_log_capture_finish();
}
