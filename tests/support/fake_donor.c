/* fake_donor.c - a scripted donor over the loop fabric, made of wire/ alone, and a client beside it. */
#include "tests/support/fake_donor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/checksum.h"

#define POLL_BUDGET 64

/* ---- what it says ---- */

void
fake_donor_send(struct fake_donor *donor, enum far_frame_type type, uint64_t tag, const void *body,
		const void *list, uint32_t count)
{
	static uint64_t buffer[FAR_FRAME_BYTES_MAX / 8];
	int size = far_frame_encode(type, tag, body, list, count, buffer, sizeof(buffer));

	assert_true(size > 0);
	assert_non_null(donor->link);
	assert_int_equal(far_transport_send(donor->link, buffer, (size_t)size), 0);
}

static void
welcome_send(struct fake_donor *donor)
{
	struct far_frame_welcome welcome = {
		.version = FAR_WIRE_VERSION,
		.rail = donor->welcome_rail,
		.epoch = donor->epoch,
		.index_addr = donor->index_mem->remote.addr,
		.index_bytes = donor->layout.index_bytes,
	};

	memcpy(welcome.index_rkey, donor->index_mem->remote.rkey.bytes, sizeof(welcome.index_rkey));
	memcpy(welcome.donor, donor->welcome_name, sizeof(welcome.donor));
	assert_int_equal(far_transport_mem_expose(donor->index_mem, donor->link), 0);
	assert_int_equal(far_transport_mem_expose(donor->segment_mem, donor->link), 0);
	fake_donor_send(donor, FAR_FRAME_WELCOME, 0, &welcome, NULL, 0);
}

void
fake_donor_grant(struct fake_donor *donor, uint64_t tag)
{
	uint32_t lane = donor->lanes++;
	struct far_mem_source source = {
		.base = donor->segment + lane * FAKE_LANE_BYTES,
		.size_bytes = FAKE_LANE_BYTES,
		.fd = -1,
	};
	struct far_frame_lane_grant grant = {
		.serial = 100 + lane,
		.segment = FAKE_SEGMENT,
		.offset_bytes = lane * FAKE_LANE_BYTES,
		.size_bytes = FAKE_LANE_BYTES,
	};

	assert_true(lane < sizeof(donor->lane_mems) / sizeof(donor->lane_mems[0]));
	assert_int_equal(far_transport_mem_reg(donor->tp, &source, FAR_RIGHT_REMOTE_WRITE,
					       donor->link, &donor->lane_mems[lane]),
			 0);
	assert_int_equal(far_transport_mem_expose(donor->lane_mems[lane], donor->link), 0);
	donor->lane_offsets[lane] = grant.offset_bytes;
	grant.write_addr = donor->lane_mems[lane]->remote.addr;
	memcpy(grant.write_rkey, donor->lane_mems[lane]->remote.rkey.bytes,
	       sizeof(grant.write_rkey));
	fake_donor_send(donor, FAR_FRAME_LANE_GRANT, tag, &grant, NULL, 0);
}

struct far_key
fake_key(uint32_t id)
{
	uint64_t words[2] = {far_mix64(id), far_mix64(id + 77777)};
	struct far_key key;

	memcpy(key.bytes, words, sizeof(key.bytes));
	return key;
}

/* The first free slot of the key's two sets, or its own. */
static struct far_slot *
slot_find(struct fake_donor *donor, const struct far_key *key)
{
	static const struct far_key zero;
	uint64_t sets[2];

	far_index_sets(key, donor->header.hash_seed, donor->layout.set_count, sets);
	for (uint32_t i = 0; i < 2 * FAR_SET_SLOTS; i++) {
		uint8_t *at = donor->index + donor->layout.sets_at +
			      sets[i / FAR_SET_SLOTS] * (uint64_t)FAR_SET_BYTES +
			      (size_t)(i % FAR_SET_SLOTS) * FAR_SLOT_BYTES;

		if (memcmp(at, key->bytes, sizeof(key->bytes)) == 0 ||
		    memcmp(at, zero.bytes, sizeof(zero.bytes)) == 0)
			return (struct far_slot *)(void *)at;
	}
	fail_msg("the fake donor's index is full");
	return NULL;
}

void
fake_donor_slot_store(struct fake_donor *donor, struct far_slot *at, struct far_slot *slot)
{
	far_slot_seal(slot, donor->epoch);
	far_line_store(at, slot);
}

struct far_slot *
fake_donor_put(struct fake_donor *donor, uint32_t id, uint64_t offset, uint32_t size_bytes)
{
	struct far_key key = fake_key(id);
	struct far_slot *at = slot_find(donor, &key);
	struct far_slot slot = {
		.generation = ++donor->generation,
		.segment = FAKE_SEGMENT,
		.offset_64 = (uint32_t)(offset / 64),
		.size_bytes = size_bytes,
	};

	assert_true(offset + size_bytes <= FAKE_SEGMENT_BYTES);
	memcpy(slot.key, key.bytes, sizeof(slot.key));
	for (uint32_t i = 0; i < size_bytes; i++)
		donor->segment[offset + i] = fake_byte(id, i);
	slot.crc32c = far_crc32c(0, donor->segment + offset, size_bytes);
	fake_donor_slot_store(donor, at, &slot);
	return at;
}

void
fake_donor_segment_line(struct fake_donor *donor, uint32_t line, uint32_t segment,
			uint64_t size_bytes)
{
	struct far_index_segment entry = {.segment = segment, .size_bytes = size_bytes};

	if (size_bytes > 0) {
		entry.remote_addr = donor->segment_mem->remote.addr;
		memcpy(entry.rkey, donor->segment_mem->remote.rkey.bytes, sizeof(entry.rkey));
		far_index_segment_seal(&entry, donor->epoch);
	} else {
		memset(&entry, 0, sizeof(entry));
	}
	far_line_store(donor->index + donor->layout.table_at + line * sizeof(entry), &entry);
}

void
fake_donor_live_set(struct fake_donor *donor, uint64_t epoch, uint64_t index_state)
{
	struct far_index_live live = {.epoch = epoch, .state = index_state};

	far_index_live_seal(&live);
	far_line_store(donor->index + donor->layout.live_at, &live);
}

/* ---- what it hears ---- */

static void
commit_take(struct fake_donor *donor)
{
	int32_t results[FAR_COMMIT_BLOCKS_MAX] = {0};
	struct far_frame_committed body = {0};

	memcpy(&donor->commit, donor->frame.body, sizeof(donor->commit));
	if (donor->frame.count > 0)
		memcpy(donor->blocks, donor->frame.list,
		       donor->frame.count * sizeof(donor->blocks[0]));
	donor->ends += (donor->commit.flags & FAR_COMMIT_END) != 0;
	if (!donor->answers)
		return;
	body.serial = donor->commit.serial;
	body.count = donor->frame.count;
	for (uint32_t i = 0; i < donor->frame.count; i++) {
		struct far_slot slot = {
			.generation = ++donor->generation,
			.segment = FAKE_SEGMENT,
			.size_bytes = donor->blocks[i].size_bytes,
			.crc32c = donor->blocks[i].crc32c,
			.group = donor->blocks[i].group,
		};
		struct far_key key;

		memcpy(key.bytes, donor->blocks[i].key, sizeof(key.bytes));
		memcpy(slot.key, key.bytes, sizeof(slot.key));
		slot.offset_64 = donor->blocks[i].offset_64 +
				 (uint32_t)(donor->lane_offsets[donor->commit.serial - 100] / 64);
		fake_donor_slot_store(donor, slot_find(donor, &key), &slot);
	}
	fake_donor_send(donor, FAR_FRAME_COMMITTED, donor->frame.head.tag, &body, results,
			donor->frame.count);
}

static void
message_take(struct fake_donor *donor, const struct far_event *event)
{
	memcpy(donor->last, event->msg, event->msg_bytes);
	assert_int_equal(far_frame_decode(donor->last, event->msg_bytes, &donor->frame), 0);
	assert_true(donor->frame.head.type < FAKE_TYPES);
	donor->counts[donor->frame.head.type]++;
	donor->tags[donor->frame.head.type] = donor->frame.head.tag;
	if (donor->mute)
		return;
	switch ((enum far_frame_type)donor->frame.head.type) {
	case FAR_FRAME_HELLO:
		if (donor->welcomes)
			welcome_send(donor);
		break;
	case FAR_FRAME_LANE_ASK:
		if (donor->grants)
			fake_donor_grant(donor, donor->frame.head.tag);
		break;
	case FAR_FRAME_COMMIT:
		commit_take(donor);
		break;
	case FAR_FRAME_BYE:
		far_transport_disconnect(donor->link);
		break;
	default:
		break;
	}
}

static void
lanes_drop(struct fake_donor *donor)
{
	for (uint32_t i = 0; i < donor->lanes; i++)
		far_transport_mem_dereg(donor->lane_mems[i]);
	donor->lanes = 0;
}

static void
donor_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct fake_donor *donor = FAR_CONTAINER_OF(handler, struct fake_donor, handler);

	if (event->kind == FAR_EV_MESSAGE) {
		message_take(donor, event);
	} else if (event->kind == FAR_EV_LOST) {
		far_transport_disconnect(donor->link);
	} else if (event->kind == FAR_EV_CLOSED) {
		donor->link = NULL;
		lanes_drop(donor);
	}
}

static struct far_link_handler *
donor_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct fake_donor *donor = arg;

	(void)hello;
	(void)hello_bytes;
	if (donor->link != NULL)
		return NULL;
	donor->link = link;
	donor->links++;
	return &donor->handler;
}

/* ---- its life ---- */

static void
index_write(struct fake_donor *donor)
{
	struct far_index_header *header = &donor->header;

	*header = (struct far_index_header){
		.magic = FAR_INDEX_MAGIC,
		.version = FAR_INDEX_VERSION,
		.header_bytes = sizeof(*header),
		.index_bytes = donor->layout.index_bytes,
		.live_at = donor->layout.live_at,
		.table_at = donor->layout.table_at,
		.table_count = donor->layout.table_count,
		.sets_at = donor->layout.sets_at,
		.set_count = donor->layout.set_count,
		.hash_seed = 42,
		.segment_bytes = FAKE_SEGMENT_BYTES,
		.lane_bytes = FAKE_LANE_BYTES,
		.slot_bytes = FAR_SLOT_BYTES,
		.set_slots = FAR_SET_SLOTS,
		.rail_count = 1,
		.donor = "fake",
		.name_space = "default",
	};
	far_index_header_seal(header);
	memcpy(donor->index, header, sizeof(*header));
	fake_donor_live_set(donor, donor->epoch, FAR_INDEX_SERVING);
	fake_donor_segment_line(donor, 1, FAKE_SEGMENT, FAKE_SEGMENT_BYTES);
}

static void
donor_open(struct fake_donor *donor, struct far_loop_fabric *fabric)
{
	struct far_transport_config config = {.fabric = fabric, .host = "fake"};
	struct far_mem_source source = {.fd = -1};

	config.clock = far_loop_clock(fabric);
	donor->fabric = fabric;
	donor->handler.event = donor_event;
	donor->welcomes = donor->grants = donor->answers = true;
	donor->epoch = FAKE_EPOCH;
	memcpy(donor->welcome_name, "fake", 5);
	assert_int_equal(far_index_layout_make(1024ULL * 4096, 4096, 8, &donor->layout), 0);
	donor->index = far_zalloc_aligned(4096, donor->layout.index_bytes);
	donor->segment = far_zalloc_aligned(4096, FAKE_SEGMENT_BYTES);
	assert_int_equal(far_transport_open("loop", &config, &donor->tp), 0);
	source.base = donor->index;
	source.size_bytes = donor->layout.index_bytes;
	assert_int_equal(far_transport_mem_reg(donor->tp, &source, FAR_RIGHT_REMOTE_READ, NULL,
					       &donor->index_mem),
			 0);
	source.base = donor->segment;
	source.size_bytes = FAKE_SEGMENT_BYTES;
	assert_int_equal(far_transport_mem_reg(donor->tp, &source, FAR_RIGHT_REMOTE_READ, NULL,
					       &donor->segment_mem),
			 0);
	index_write(donor);
	assert_int_equal(
		far_transport_listen(donor->tp, "fake", donor_accept, donor, &donor->listener), 0);
}

void
fake_rig_open(struct fake_rig *rig)
{
	fake_rig_open_summing(rig, 0);
}

void
fake_rig_open_summing(struct fake_rig *rig, uint32_t sums_from)
{
	struct far_loop_config loop = {
		.seed = 1, .latency_ns_min = 1000, .latency_ns_max = 1000, .sums_from = sums_from};
	struct far_transport_config config = {.host = "client"};
	struct far_mem_source source = {.size_bytes = FAKE_ARENA_BYTES, .fd = -1};

	memset(rig, 0, sizeof(*rig));
	far_rng_init(&rig->rng, 1);
	assert_int_equal(far_loop_fabric_open(&loop, &rig->fabric), 0);
	rig->clock = far_loop_clock(rig->fabric);
	donor_open(&rig->donor, rig->fabric);
	config.clock = rig->clock;
	config.fabric = rig->fabric;
	assert_int_equal(far_transport_open("loop", &config, &rig->tp), 0);
	rig->arena = far_zalloc_aligned(4096, FAKE_ARENA_BYTES);
	source.base = rig->arena;
	assert_int_equal(
		far_transport_mem_reg(rig->tp, &source, FAR_RIGHT_LOCAL, NULL, &rig->arena_mem), 0);
}

void
fake_rig_client(struct fake_rig *rig, bool verify)
{
	char error[256];

	assert_int_equal(fake_rig_client_at(rig, verify, "loop:fake", NULL, error), 0);
}

int
fake_rig_client_at(struct fake_rig *rig, bool verify, const char *address, const char *transport,
		   char error[256])
{
	struct far_l2_config config = {
		.type = "donor", .name = "fake", .address = address, .transport = transport};
	struct far_l2_env env = {
		.clock = rig->clock,
		.rng = &rig->rng,
		.transports = &rig->tp,
		.arenas = &rig->arena_mem,
		.transport_count = 1,
		.client_name = "test",
		.connect_timeout_ns = 10 * FAR_NS_PER_MS,
		.retry_ns_min = FAR_NS_PER_MS,
		.retry_ns_max = 8 * FAR_NS_PER_MS,
		.verify_always = verify,
		.arena_is_device = rig->device,
		.memories = rig->memories,
		.helpers = rig->helpers,
	};
	int rc = far_l2_open(&config, &env, &rig->l2, error);

	if (rc == 0)
		far_l2_status_get(rig->l2, &rig->status);
	return rc;
}

void
fake_rig_run(struct fake_rig *rig, uint64_t for_ns)
{
	uint64_t until_ns = far_clock_now(rig->clock) + for_ns;
	bool more;

	do {
		uint64_t next_ns = until_ns;

		while (far_transport_poll(rig->donor.tp, POLL_BUDGET) > 0)
			;
		while (far_transport_poll(rig->tp, POLL_BUDGET) > 0)
			;
		if (rig->l2 != NULL)
			next_ns = far_l2_tick(rig->l2, far_clock_now(rig->clock));
		if (next_ns > until_ns)
			next_ns = until_ns;
		more = far_loop_step(rig->fabric, next_ns) || next_ns < until_ns;
	} while (more);
	if (rig->l2 != NULL)
		far_l2_status_get(rig->l2, &rig->status);
}

void
fake_rig_up(struct fake_rig *rig)
{
	fake_rig_client(rig, false);
	fake_rig_run(rig, FAR_NS_PER_MS);
	assert_int_equal(rig->status.state, FAR_L2_UP);
}

void
fake_rig_close(struct fake_rig *rig)
{
	if (rig->l2 != NULL) {
		far_l2_quiesce(rig->l2);
		fake_rig_run(rig, 300 * FAR_NS_PER_MS);
		assert_true(far_l2_quiesced(rig->l2));
		far_l2_close(rig->l2);
		rig->l2 = NULL;
	}
	far_transport_mem_dereg(rig->arena_mem);
	far_transport_close(rig->tp);
	if (rig->donor.link != NULL)
		far_transport_disconnect(rig->donor.link);
	while (rig->donor.link != NULL) {
		(void)far_loop_step(rig->fabric, far_clock_now(rig->clock) + FAR_NS_PER_MS);
		(void)far_transport_poll(rig->donor.tp, POLL_BUDGET);
	}
	far_transport_unlisten(rig->donor.tp, rig->donor.listener);
	far_transport_mem_dereg(rig->donor.index_mem);
	far_transport_mem_dereg(rig->donor.segment_mem);
	far_transport_close(rig->donor.tp);
	far_loop_fabric_close(rig->fabric);
	far_free(rig->arena);
	far_free(rig->donor.index);
	far_free(rig->donor.segment);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

/* ---- tasks ---- */

static void
task_done(struct far_l2_task *task)
{
	struct fake_task *mine = FAR_CONTAINER_OF(task, struct fake_task, task);

	mine->ended++;
	assert_int_equal(mine->ended, 1);
	for (uint32_t i = 0; i < task->count; i++)
		assert_true(task->items[i].rc <= 0);
}

void
fake_task_make(struct fake_rig *rig, struct fake_task *task, enum far_l2_kind kind, uint32_t first,
	       uint32_t count, uint32_t size_bytes)
{
	uint64_t step = (size_bytes + 4095ULL) / 4096 * 4096;

	assert_true(count <= FAKE_ITEMS);
	assert_true(count * step <= FAKE_ARENA_BYTES);
	memset(task, 0, sizeof(*task));
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *buffer = rig->arena + i * step;

		task->items[i].key = fake_key(first + i);
		if (kind != FAR_L2_LOAD && kind != FAR_L2_STORE)
			continue;
		for (uint32_t at = 0; at < size_bytes; at++)
			buffer[at] = kind == FAR_L2_STORE ? fake_byte(first + i, at) : 0;
		task->pieces[i] = (struct far_l2_piece){buffer, size_bytes};
		task->items[i].pieces = &task->pieces[i];
		task->items[i].piece_count = 1;
	}
	task->task.kind = kind;
	task->task.items = task->items;
	task->task.count = count;
	task->task.deadline_ns = far_clock_now(rig->clock) + 500 * FAR_NS_PER_MS;
	task->task.done = task_done;
}

void
fake_task_run(struct fake_rig *rig, struct fake_task *task)
{
	far_l2_submit(rig->l2, &task->task);
	assert_int_equal(task->ended, 0); /* never from inside submit */
	for (int i = 0; i < 2000 && task->ended == 0; i++)
		fake_rig_run(rig, 500 * FAR_NS_PER_US);
	assert_int_equal(task->ended, 1);
}

bool
fake_bytes_are(const struct fake_task *task, uint32_t i, uint32_t id)
{
	const struct far_l2_item *item = &task->items[i];
	uint32_t at = item->range_offset;

	for (uint32_t p = 0; p < item->piece_count; p++) {
		const uint8_t *bytes = item->pieces[p].addr;

		for (uint32_t k = 0; k < item->pieces[p].size_bytes; k++, at++) {
			if (bytes[k] != fake_byte(id, at))
				return false;
		}
	}
	return true;
}
