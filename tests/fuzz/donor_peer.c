/* donor_peer.c - what a hostile donor says, and what it writes into the memory that is read. */
#include "tests/fuzz/donor_world.h"

#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "base/checksum.h"
#include "base/log.h"
#include "l2/l2.h"
#include "tests/fuzz/input.h"
#include "transport/loop/loop.h"
#include "wire/frame.h"

/* ---- the donor speaks ---- */

/* Results 0 that the client may rely on from now on. */
static void
zeros_count(const void *bytes, size_t size_bytes)
{
	struct far_frame frame;

	if (far_frame_decode(bytes, size_bytes, &frame) != 0)
		return;
	for (uint32_t i = 0; i < frame.count; i++) {
		const int32_t *results = frame.list;

		if (frame.head.type == FAR_FRAME_COMMITTED)
			world.zeros_committed += results[i] == 0;
		if (frame.head.type == FAR_FRAME_DELETED)
			world.zeros_deleted += results[i] == 0;
	}
}

void
hostile_send(const void *bytes, size_t size_bytes)
{
	if (world.link == NULL || size_bytes == 0)
		return;
	zeros_count(bytes, size_bytes);
	(void)far_transport_send(world.link, bytes, size_bytes);
}

/* A frame of ours, with what the input changes in it: pairs of place and value behind a count. */
void
hostile_say(enum far_frame_type type, uint64_t tag, const void *body, size_t body_bytes,
	    const void *list, size_t list_bytes, uint32_t changes)
{
	static uint8_t frame[4096] __attribute__((aligned(8)));
	size_t size_bytes = sizeof(struct far_frame_head) + body_bytes + list_bytes;
	struct far_frame_head head = {
		.type = (uint16_t)type, .size_bytes = (uint32_t)size_bytes, .tag = tag};

	memcpy(frame, &head, sizeof(head));
	if (body_bytes > 0)
		memcpy(frame + sizeof(head), body, body_bytes);
	if (list_bytes > 0)
		memcpy(frame + sizeof(head) + body_bytes, list, list_bytes);
	for (uint32_t i = 0; i < changes; i++) {
		uint32_t at = input_u8(&world.in) % (uint32_t)size_bytes;

		frame[at] = input_u8(&world.in);
	}
	hostile_send(frame, size_bytes);
}

void
hostile_welcome_say(uint32_t changes)
{
	struct far_frame_welcome welcome = {
		.version = FAR_WIRE_VERSION,
		.epoch = EPOCH,
		.index_addr = world.index_mem->remote.addr,
		.index_bytes = INDEX_BYTES,
		.donor = "fake",
	};

	if (world.link == NULL)
		return;
	memcpy(welcome.index_rkey, world.index_mem->remote.rkey.bytes, sizeof(welcome.index_rkey));
	(void)far_transport_mem_expose(world.index_mem, world.link);
	(void)far_transport_mem_expose(world.segment_mem, world.link);
	(void)far_transport_mem_expose(world.lane_mem, world.link);
	hostile_say(FAR_FRAME_WELCOME, 0, &welcome, sizeof(welcome), NULL, 0, changes);
}

void
hostile_grant_say(uint32_t changes)
{
	struct far_frame_lane_grant grant = {
		.serial = ++world.generation,
		.segment = SEGMENT,
		.size_bytes = LANE_BYTES,
		.write_addr = world.lane_mem->remote.addr,
	};

	memcpy(grant.write_rkey, world.lane_mem->remote.rkey.bytes, sizeof(grant.write_rkey));
	hostile_say(FAR_FRAME_LANE_GRANT, world.tags[FAR_FRAME_LANE_ASK], &grant, sizeof(grant),
		    NULL, 0, changes);
}

void
hostile_committed_say(uint8_t result, uint32_t changes)
{
	static const int32_t results[] = {0, -EEXIST, -EINVAL, -ENOSPC, 5, INT32_MIN};
	struct far_frame_committed body = {.serial = world.serial, .count = world.count % 64};
	int32_t list[64];

	for (uint32_t i = 0; i < 64; i++)
		list[i] = results[(result + i * (result >> 4)) % 6];
	hostile_say(FAR_FRAME_COMMITTED, world.tags[FAR_FRAME_COMMIT], &body, sizeof(body), list,
		    body.count * sizeof(list[0]), changes);
}

void
hostile_deleted_say(uint8_t result, uint32_t changes)
{
	struct far_frame_results body = {.count = result % 8};
	int32_t list[8] = {0, -ENOENT, 0, 7, -1, 0, 0, 0};

	hostile_say(FAR_FRAME_DELETED, world.tags[FAR_FRAME_DELETE], &body, sizeof(body), list,
		    body.count * sizeof(list[0]), changes);
}

void
hostile_status_say(uint8_t count, uint32_t changes)
{
	struct far_frame_status body = {.count = count % 32};
	uint64_t values[32] = {1000, 400, 3, 300};

	hostile_say(FAR_FRAME_STATUS, world.tags[FAR_FRAME_STATUS_ASK], &body, sizeof(body), values,
		    body.count * sizeof(values[0]), changes);
}

static void
donor_frame(const struct far_frame *frame)
{
	const struct far_frame_commit *commit = frame->body;
	const struct far_frame_keys *keys = frame->body;

	world.tags[frame->head.type] = frame->head.tag;
	if (frame->head.type == FAR_FRAME_COMMIT) {
		world.serial = commit->serial;
		world.count = commit->count;
	}
	if (world.deaf)
		return;
	switch ((enum far_frame_type)frame->head.type) {
	case FAR_FRAME_HELLO:
		hostile_welcome_say(0);
		break;
	case FAR_FRAME_LANE_ASK:
		hostile_grant_say(0);
		break;
	case FAR_FRAME_COMMIT:
		hostile_committed_say(0, 0);
		break;
	case FAR_FRAME_DELETE:
		hostile_deleted_say((uint8_t)keys->count, 0);
		break;
	case FAR_FRAME_STATUS_ASK:
		hostile_status_say(FAR_STATUS_COUNT, 0);
		break;
	default:
		break;
	}
}

void
hostile_donor_disconnect(void)
{
	if (world.link != NULL && !world.disconnected)
		far_transport_disconnect(world.link);
	world.disconnected = true;
}

void
hostile_donor_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct far_frame frame;
	(void)handler;

	if (event->kind == FAR_EV_MESSAGE) {
		/* Whatever a client says can be read. */
		FAR_ASSERT(far_frame_decode(event->msg, event->msg_bytes, &frame) == 0);
		FAR_ASSERT(frame.head.type < 128);
		donor_frame(&frame);
		if (frame.head.type == FAR_FRAME_BYE && !world.deaf)
			hostile_donor_disconnect();
	} else if (event->kind == FAR_EV_LOST) {
		hostile_donor_disconnect();
	} else if (event->kind == FAR_EV_CLOSED) {
		world.link = NULL;
	}
}

struct far_link_handler *
hostile_donor_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	(void)arg;
	(void)hello;
	(void)hello_bytes;
	if (world.link != NULL || world.closed)
		return NULL;
	world.link = link;
	world.disconnected = false;
	return &world.handler;
}

/* ---- the donor writes its memory ---- */

void
hostile_header_write(uint8_t field, uint64_t value, bool seal)
{
	struct far_index_header header = {
		.magic = FAR_INDEX_MAGIC,
		.version = FAR_INDEX_VERSION,
		.header_bytes = sizeof(header),
		.index_bytes = INDEX_BYTES,
		.live_at = FAR_INDEX_PAGE_BYTES,
		.table_at = FAR_INDEX_PAGE_BYTES + 64,
		.table_count = TABLE_COUNT,
		.sets_at = 2 * (uint64_t)FAR_INDEX_PAGE_BYTES,
		.set_count = SET_COUNT,
		.hash_seed = 42,
		.segment_bytes = SEGMENT_BYTES,
		.lane_bytes = LANE_BYTES,
		.slot_bytes = FAR_SLOT_BYTES,
		.set_slots = FAR_SET_SLOTS,
		.rail_count = 1,
		.donor = "fake",
		.name_space = "default",
	};

	field %= sizeof(header) / sizeof(value);
	if (field != 0)
		memcpy((uint8_t *)&header + field * sizeof(value), &value, sizeof(value));
	if (seal)
		far_index_header_seal(&header);
	memcpy(world.index, &header, sizeof(header));
}

void
hostile_live_write(uint64_t epoch, bool seal)
{
	struct far_index_live live = {.epoch = epoch, .state = FAR_INDEX_SERVING};

	if (seal)
		far_index_live_seal(&live);
	far_line_store(world.index + FAR_INDEX_PAGE_BYTES, &live);
}

/* A line of the segment table; @how: what is wrong with it. */
void
hostile_line_write(uint8_t line, uint8_t how, uint64_t value)
{
	struct far_index_segment entry = {
		.segment = SEGMENT + (how >> 6),
		.remote_addr = world.segment_mem->remote.addr,
		.size_bytes = SEGMENT_BYTES,
	};

	memcpy(entry.rkey, world.segment_mem->remote.rkey.bytes, sizeof(entry.rkey));
	switch (how % 8) {
	case 1:
		entry.size_bytes = value;
		break;
	case 2:
		entry.remote_addr = value;
		break;
	case 3:
		entry.rail = (uint16_t)value;
		break;
	case 4:
		memcpy(entry.rkey, world.index_mem->remote.rkey.bytes, sizeof(entry.rkey));
		entry.remote_addr = world.index_mem->remote.addr;
		break;
	case 5:
		memcpy(entry.rkey, world.lane_mem->remote.rkey.bytes, sizeof(entry.rkey));
		break;
	case 6:
		memset(&entry, 0, sizeof(entry));
		break;
	default:
		break;
	}
	if (how % 8 != 6 && how % 8 != 7)
		far_index_segment_seal(&entry, EPOCH);
	far_line_store(world.index + FAR_INDEX_PAGE_BYTES + 64 +
			       (size_t)(line % TABLE_COUNT) * sizeof(entry),
		       &entry);
}

/* A block of a key and its slot; @how: what is wrong with it. */
void
hostile_slot_write(uint8_t id, uint8_t how, uint64_t value)
{
	struct far_key key = hostile_key_of(id % KEYS);
	uint64_t at = (uint64_t)(id % KEYS) * 2048, sets[2];
	struct far_slot slot = {
		.generation = ++world.generation,
		.segment = SEGMENT,
		.offset_64 = (uint32_t)(at / 64),
		.size_bytes = 64U << (id % 5),
		.flags = FAR_SLOT_USED,
	};

	memcpy(slot.key, key.bytes, sizeof(slot.key));
	for (uint32_t i = 0; i < slot.size_bytes; i++)
		world.segment[at + i] = (uint8_t)(id * 31 + i + world.generation);
	slot.crc32c = far_crc32c(0, world.segment + at, slot.size_bytes);
	switch (how % 8) {
	case 1:
		slot.size_bytes = (uint32_t)value;
		break;
	case 2:
		slot.offset_64 = (uint32_t)value;
		break;
	case 3:
		slot.segment = (uint32_t)value;
		break;
	case 4:
		slot.crc32c ^= 1;
		break;
	case 5:
		slot.flags |= FAR_SLOT_NO_CRC;
		break;
	default:
		break;
	}
	if (how % 8 != 6)
		far_slot_seal(&slot, EPOCH);
	if (how % 8 == 7)
		memset(&slot, 0, sizeof(slot));
	far_index_sets(&key, 42, SET_COUNT, sets);
	far_line_store(world.index + 2 * (size_t)FAR_INDEX_PAGE_BYTES +
			       sets[how >> 3 & 1] * FAR_SET_BYTES +
			       (how >> 4 & 3) * (size_t)FAR_SLOT_BYTES,
		       &slot);
}

void
hostile_memory_poke(void)
{
	uint32_t at = input_u16(&world.in);
	uint8_t value = input_u8(&world.in);

	if ((value & 1) != 0)
		world.segment[at % SEGMENT_BYTES] ^= value;
	else
		world.index[at % INDEX_BYTES] ^= value;
}
