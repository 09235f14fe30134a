/* serve.c - what a donor does with each frame of a client: checked, then done, then answered. */
#include "pool/pool_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/log.h"
#include "base/mark.h"

/* Some 5 % of a processor for the checksums of a peer that is wrong. */
#define REJECT_NS_PER_BYTE 4ULL

static void
refuse(struct pool_link *link, uint64_t tag, struct far_frame_refused *refused, int rc)
{
	refused->rc = rc;
	/* It quotes the peer's own words: only what can stand in one line is sent or logged. */
	for (char *c = refused->reason; *c != '\0'; c++) {
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
	far_log_info("link from %s refused: %s", link->link->peer, refused->reason);
	far_pool_link_send(link, FAR_FRAME_REFUSED, tag, refused, NULL, 0);
	far_pool_link_linger(link, 0);
}

/* Whether the client means us, or one line that says whom it found instead. */
static int
hello_check(const struct far_pool *pool, const struct far_frame_hello *hello,
	    struct far_frame_refused *refused)
{
	const struct far_pool_config *config = &pool->config;
	int length = 0;

	if (hello->version != FAR_WIRE_VERSION) {
		snprintf(refused->reason, sizeof(refused->reason),
			 "this donor speaks version %u, the client %" PRIu32
			 ": run the same release on both",
			 FAR_WIRE_VERSION, hello->version);
		return -EPROTO;
	}
	if (hello->donor[0] != '\0' && strcmp(hello->donor, config->name) != 0) {
		length = snprintf(
			refused->reason, sizeof(refused->reason),
			"this is %s, not %s: correct the address in the client's donors list",
			config->name, hello->donor);
		if (length >= (int)sizeof(refused->reason))
			snprintf(refused->reason, sizeof(refused->reason),
				 "this is %s: correct the client's donors list", config->name);
		return -ENODEV;
	}
	if (strcmp(hello->name_space, config->name_space) != 0) {
		snprintf(refused->reason, sizeof(refused->reason),
			 "namespace is %.63s here: correct the client's namespace",
			 config->name_space);
		return -ENODEV;
	}
	return 0;
}

static void
serve_hello(struct pool_link *link, const struct far_frame *frame)
{
	struct far_pool *pool = link->pool;
	const struct far_remote *index = &pool->index_mems[link->rail]->remote;
	struct far_frame_welcome welcome = {.version = FAR_WIRE_VERSION, .rail = link->rail};
	struct far_frame_refused refused = {.rc = 0};
	int rc;

	if (link->state != LINK_NEW) {
		far_pool_link_breach(link, "it said HELLO twice");
		return;
	}
	rc = hello_check(pool, frame->body, &refused);
	if (rc < 0) {
		refuse(link, frame->head.tag, &refused, rc);
		return;
	}
	link->state = LINK_WELCOME;
	link->deadline_ns = FAR_TIME_NEVER;
	rc = far_transport_mem_expose(pool->index_mems[link->rail], link->link);
	if (rc < 0) {
		far_log_warn("link from %s closed: the index could not be exposed: %s (%d)",
			     link->link->peer, far_err_text(rc), rc);
		far_pool_link_end(link);
		return;
	}
	for (uint32_t i = 0; i < pool->segment_slots; i++) {
		enum pool_segment_state state = pool->segments[i].state;

		/* One that is being emptied can still be read. */
		if (state == SEGMENT_SERVING || state == SEGMENT_EMPTYING)
			far_pool_link_expose(link, i);
	}
	welcome.epoch = pool->live.epoch;
	welcome.index_addr = index->addr;
	memcpy(welcome.index_rkey, index->rkey.bytes, sizeof(welcome.index_rkey));
	welcome.index_bytes = pool->layout.index_bytes;
	memcpy(welcome.donor, pool->config.name, sizeof(welcome.donor));
	far_log_debug("link from %s welcome", link->link->peer);
	far_pool_link_send(link, FAR_FRAME_WELCOME, frame->head.tag, &welcome, NULL, 0);
}

/* Every extent of a COMMIT lies in the lane, aligned, behind the one before. Nothing was done yet. */
static bool
extents_are_sound(const struct far_pool *pool, const struct pool_lane *lane,
		  const struct far_frame_block *blocks, uint32_t count, uint64_t *fill_out)
{
	uint64_t fill = lane->fill_bytes;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t offset = blocks[i].offset_64 * 64ULL;
		uint64_t size_bytes = blocks[i].size_bytes;

		if (size_bytes == 0 || size_bytes > pool->config.lane_bytes)
			return false;
		if (offset < fill || offset % far_extent_align(size_bytes) != 0)
			return false;
		if (offset > pool->config.lane_bytes - size_bytes)
			return false;
		fill = offset + size_bytes;
	}
	*fill_out = fill;
	return true;
}

static int32_t
block_commit(struct far_pool *pool, struct pool_lane *lane, const struct far_frame_block *block)
{
	struct far_slot slot = {.segment = far_pool_lane_segment(pool, lane)->number};
	struct far_key key;

	memcpy(key.bytes, block->key, sizeof(key.bytes));
	if (far_key_is_zero(&key)) {
		pool->stats[FAR_STATUS_blocks_refused]++;
		return -EINVAL;
	}
	if (far_pool_index_find(pool, &key) != POOL_NONE) {
		pool->stats[FAR_STATUS_blocks_had]++;
		return -EEXIST;
	}
	memcpy(slot.key, key.bytes, sizeof(slot.key));
	slot.offset_64 = (uint32_t)(far_pool_lane_offset(pool, lane) / 64) + block->offset_64;
	slot.size_bytes = block->size_bytes;
	slot.crc32c = block->crc32c;
	slot.group = block->group;
	slot.flags = (uint16_t)(block->flags & FAR_SLOT_NO_CRC);
	far_pool_index_insert(pool, lane, &slot);
	pool->stats[FAR_STATUS_blocks_stored]++;
	pool->stats[FAR_STATUS_bytes_stored] += block->size_bytes;
	return 0;
}

static void
serve_commit(struct pool_link *link, const struct far_frame *frame)
{
	struct far_pool *pool = link->pool;
	const struct far_frame_commit *commit = frame->body;
	const struct far_frame_block *blocks = frame->list;
	struct far_frame_committed answer = {.serial = commit->serial, .count = frame->count};
	struct pool_lane *lane = far_pool_lane_find(pool, link, commit->serial);
	uint64_t fill_bytes = 0;

	pool->stats[FAR_STATUS_commit_frames]++;
	if (lane == NULL) {
		pool->stats[FAR_STATUS_blocks_refused] += frame->count;
		far_pool_link_breach(link, "COMMIT names a lane that it does not hold");
		return;
	}
	if (!extents_are_sound(pool, lane, blocks, frame->count, &fill_bytes)) {
		pool->stats[FAR_STATUS_blocks_refused] += frame->count;
		far_pool_link_breach(link, "COMMIT names bytes outside its lane, or out of order");
		return;
	}
	for (uint32_t i = 0; i < frame->count; i++)
		pool->results[i] = block_commit(pool, lane, &blocks[i]);
	lane->fill_bytes = fill_bytes;
	if (lane->state == LANE_RECALLED)
		FAR_MARK("a COMMIT into a lane that is asked back");
	if (lane->state == LANE_OPEN) {
		lane->since_ns = far_clock_now(pool->clock);
		far_pool_lane_state_set(pool, lane, LANE_OPEN);
	}
	far_pool_link_send(link, FAR_FRAME_COMMITTED, frame->head.tag, &answer, pool->results,
			   frame->count);
	/* The answer may have ended the link, and its lanes with it. */
	if ((commit->flags & FAR_COMMIT_END) != 0 && link->state != LINK_ENDING)
		far_pool_lane_end(pool, lane);
}

static void
serve_touch(struct pool_link *link, const struct far_frame *frame)
{
	struct far_pool *pool = link->pool;
	const struct far_key *keys = frame->list;

	pool->stats[FAR_STATUS_touch_notes] += frame->count;
	for (uint32_t i = 0; i < frame->count; i++) {
		uint32_t slot = far_pool_index_find(pool, &keys[i]);

		if (slot != POOL_NONE)
			far_pool_index_touch(pool, slot);
	}
}

static void
serve_delete(struct pool_link *link, const struct far_frame *frame)
{
	struct far_pool *pool = link->pool;
	const struct far_key *keys = frame->list;
	struct far_frame_results answer = {.count = frame->count};

	for (uint32_t i = 0; i < frame->count; i++) {
		uint32_t slot = far_pool_index_find(pool, &keys[i]);
		bool found = slot != POOL_NONE;

		if (found)
			far_pool_index_clear(pool, slot);
		/* A predecessor's, not come to yet: it must not be there again later. */
		if (pool->recovery != NULL && far_pool_index_forget(pool, &keys[i]))
			found = true;
		pool->results[i] = found ? 0 : -ENOENT;
		pool->stats[FAR_STATUS_blocks_deleted] += found;
	}
	far_pool_link_send(link, FAR_FRAME_DELETED, frame->head.tag, &answer, pool->results,
			   frame->count);
}

/* The reader may be wrong, or its read was: the donor looks at its own bytes before it believes. Who was wrong
 * is not believed again at once: a peer shall not keep us busy with checksums. */
static void
serve_reject(struct pool_link *link, const struct far_frame *frame)
{
	struct far_pool *pool = link->pool;
	const struct far_frame_reject *reject = frame->body;
	const struct pool_lane *lane;
	const struct far_slot *slot;
	struct far_key key;
	uint64_t now_ns = far_clock_now(pool->clock);
	const uint8_t *bytes;
	uint32_t idx;

	if (now_ns < link->rejects_at_ns)
		return;
	memcpy(key.bytes, reject->slot, sizeof(key.bytes));
	idx = far_pool_index_find(pool, &key);
	if (idx == POOL_NONE)
		return;
	slot = &pool->slots[idx];
	if (memcmp(slot, reject->slot, sizeof(*slot)) != 0 || (slot->flags & FAR_SLOT_NO_CRC) != 0)
		return;
	lane = &pool->lanes[far_pool_note_lane(&pool->notes[idx])];
	bytes = (const uint8_t *)far_pool_lane_segment(pool, lane)->source.base +
		slot->offset_64 * 64ULL;
	if (far_crc32c(0, bytes, slot->size_bytes) == slot->crc32c) {
		link->rejects_at_ns = now_ns + slot->size_bytes * REJECT_NS_PER_BYTE;
		return;
	}
	far_log_warn("block dropped: its bytes do not match its checksum, lane %" PRIu32,
		     far_pool_note_lane(&pool->notes[idx]));
	far_pool_index_clear(pool, idx);
	pool->stats[FAR_STATUS_blocks_rejected]++;
}

static void
serve_segment_gone(struct pool_link *link, const struct far_frame *frame)
{
	const struct far_frame_segment *gone = frame->body;

	if (far_pool_segment_let_go(link->pool, link, gone->segment) < 0)
		far_pool_link_breach(link, "SEGMENT_GONE names a segment that was not asked back");
}

static void
serve_status(struct pool_link *link, const struct far_frame *frame)
{
	struct far_frame_status answer = {.count = FAR_STATUS_COUNT};
	struct far_pool_stats stats;

	far_pool_stats_get(link->pool, &stats);
	/* Reported, never decided upon: the one value here that is not the pool's own. */
	stats.values[FAR_STATUS_cpu_ns] = far_clock_cpu_ns();
	far_pool_link_send(link, FAR_FRAME_STATUS, frame->head.tag, &answer, stats.values,
			   FAR_STATUS_COUNT);
}

static void
serve_frame(struct pool_link *link, const struct far_frame *frame)
{
	const struct far_frame_lane_ask *ask;

	switch ((enum far_frame_type)frame->head.type) {
	case FAR_FRAME_LANE_ASK:
		ask = frame->body;
		far_pool_lanes_ask(link->pool, link, ask->lane_count, frame->head.tag);
		break;
	case FAR_FRAME_COMMIT:
		serve_commit(link, frame);
		break;
	case FAR_FRAME_TOUCH:
		serve_touch(link, frame);
		break;
	case FAR_FRAME_DELETE:
		serve_delete(link, frame);
		break;
	case FAR_FRAME_REJECT:
		serve_reject(link, frame);
		break;
	case FAR_FRAME_SEGMENT_GONE:
		serve_segment_gone(link, frame);
		break;
	case FAR_FRAME_STATUS_ASK:
		serve_status(link, frame);
		break;
	case FAR_FRAME_HELLO:
		serve_hello(link, frame);
		break;
	case FAR_FRAME_BYE:
		far_log_debug("link from %s says bye", link->link->peer);
		far_pool_link_end(link);
		break;
	case FAR_FRAME_CHALLENGE:
	case FAR_FRAME_RESPONSE:
	case FAR_FRAME_WELCOME:
	case FAR_FRAME_REFUSED:
	case FAR_FRAME_LANE_GRANT:
	case FAR_FRAME_LANE_FULL:
	case FAR_FRAME_LANE_RECALL:
	case FAR_FRAME_COMMITTED:
	case FAR_FRAME_DELETED:
	case FAR_FRAME_SEGMENT_RECALL:
	case FAR_FRAME_STATUS:
		far_pool_link_breach(link, "it sent a frame that only a donor sends");
		break;
	}
}

void
far_pool_serve(struct pool_link *link, const void *msg, size_t msg_bytes)
{
	struct far_frame frame;
	int rc = far_frame_decode(msg, msg_bytes, &frame);

	if (rc == -EOPNOTSUPP)
		return; /* from a later release, marked as optional */
	if (rc < 0) {
		far_pool_link_breach(link, "it sent a frame that cannot be read");
		return;
	}
	/* A link that was told to go is only listened to for its BYE. */
	if (link->state == LINK_LINGERING && frame.head.type != FAR_FRAME_BYE)
		return;
	if (link->state == LINK_NEW && frame.head.type != FAR_FRAME_HELLO &&
	    frame.head.type != FAR_FRAME_BYE) {
		far_pool_link_breach(link, "it did not say HELLO first");
		return;
	}
	serve_frame(link, &frame);
}
