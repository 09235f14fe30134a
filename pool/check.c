/* check.c - every invariant of a pool, walked: tests call it after every step. */
#include "pool/pool_priv.h"

#include <string.h>

#include "base/assert.h"

static void
slot_invariants(const struct far_pool *pool, uint32_t slot_idx)
{
	const struct far_slot *slot = &pool->slots[slot_idx];
	const struct pool_note *note = &pool->notes[slot_idx];
	const struct pool_segment *segment;
	const struct pool_lane *lane;
	struct far_key key;
	uint64_t begin;

	if (far_pool_note_is_empty(note)) {
		FAR_ASSERT(far_slot_check(slot, pool->live.epoch) == FAR_SLOT_EMPTY ||
			   pool->recovery != NULL);
		return;
	}
	FAR_ASSERT(far_slot_check(slot, pool->live.epoch) == FAR_SLOT_VALID);
	FAR_ASSERT(far_pool_note_lane(note) < pool->lane_slots);
	FAR_ASSERT(slot->generation <= pool->generation);
	lane = &pool->lanes[far_pool_note_lane(note)];
	segment = far_pool_lane_segment(pool, lane);
	FAR_ASSERT(segment->number == slot->segment);
	FAR_ASSERT(segment->state == SEGMENT_SERVING || segment->state == SEGMENT_EMPTYING);
	begin = slot->offset_64 * 64ULL;
	FAR_ASSERT(begin >= far_pool_lane_offset(pool, lane));
	FAR_ASSERT(begin % far_extent_align(slot->size_bytes) == 0);
	FAR_ASSERT(begin + slot->size_bytes <= far_pool_lane_offset(pool, lane) + lane->fill_bytes);
	/* In one of the two sets of its key, and nowhere before. */
	memcpy(key.bytes, slot->key, sizeof(key.bytes));
	FAR_ASSERT(!far_key_is_zero(&key));
	FAR_ASSERT(far_pool_index_find(pool, &key) == slot_idx);
}

/* The lane's own list: in the order of offsets, without overlap, and what it sums to. */
static void
lane_blocks(const struct far_pool *pool, const struct pool_lane *lane)
{
	uint64_t end = far_pool_lane_offset(pool, lane);
	uint32_t prev = POOL_NONE;
	uint32_t count = 0;
	uint64_t bytes = 0;
	uint64_t heat = 0;

	for (uint32_t slot = lane->first; slot != POOL_NONE; slot = pool->notes[slot].next) {
		const struct pool_note *note = &pool->notes[slot];

		FAR_ASSERT(count < lane->block_count);
		FAR_ASSERT(!far_pool_note_is_empty(note));
		FAR_ASSERT(far_pool_note_lane(note) == far_pool_lane_idx(pool, lane));
		FAR_ASSERT(note->prev == prev);
		FAR_ASSERT(pool->slots[slot].offset_64 * 64ULL >= end);
		end = pool->slots[slot].offset_64 * 64ULL + pool->slots[slot].size_bytes;
		count++;
		bytes += pool->slots[slot].size_bytes;
		heat += far_pool_note_frequency(note);
		prev = slot;
	}
	FAR_ASSERT(lane->last == prev);
	FAR_ASSERT(lane->block_count == count);
	FAR_ASSERT(lane->block_bytes == bytes);
	FAR_ASSERT(lane->heat == heat);
}

static void
lane_invariants(const struct far_pool *pool, const struct pool_lane *lane)
{
	const struct pool_segment *segment = far_pool_lane_segment(pool, lane);
	bool writable = lane->state == LANE_OPEN || lane->state == LANE_RECALLED;
	bool linked = writable || lane->state == LANE_REGISTERING || lane->state == LANE_FENCING;

	/* Who may write into it: its one link, or nobody. */
	FAR_ASSERT((lane->link != NULL) == linked);
	FAR_ASSERT(far_list_empty(&lane->link_node) == !linked);
	FAR_ASSERT(!writable || lane->mem != NULL);
	FAR_ASSERT(lane->mem == NULL || writable || lane->state == LANE_FENCING);
	FAR_ASSERT(!writable || lane->link->state != LINK_ENDING);
	FAR_ASSERT((lane == pool->merge) == (lane->state == LANE_MERGING));
	/* Who may hold blocks. */
	FAR_ASSERT(lane->block_count == 0 || writable || lane->state == LANE_FENCING ||
		   lane->state == LANE_SEALED || lane->state == LANE_MERGING);
	FAR_ASSERT(lane->state != LANE_SEALED || lane->block_count > 0);
	FAR_ASSERT(lane->fill_bytes <= pool->config.lane_bytes);
	FAR_ASSERT((lane->state == LANE_ABSENT) == (segment->state == SEGMENT_ABSENT) ||
		   lane->state == LANE_ABSENT);
	FAR_ASSERT(lane->state != LANE_FREE || segment->state == SEGMENT_SERVING);
	FAR_ASSERT(lane->state != LANE_RETIRED || segment->state != SEGMENT_SERVING);
	lane_blocks(pool, lane);
}

static void
link_invariants(const struct pool_link *link)
{
	uint32_t open = 0;
	uint32_t fencing = 0;
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &link->lanes)
	{
		const struct pool_lane *lane = FAR_CONTAINER_OF(it, struct pool_lane, link_node);

		FAR_ASSERT(lane->link == link);
		if (lane->state == LANE_FENCING)
			fencing++;
		else
			open++;
	}
	FAR_ASSERT(link->lane_count == open);
	FAR_ASSERT(link->fences_waiting <= fencing);
	FAR_ASSERT(link->out_count <= POOL_OUT_FRAMES_MAX);
	FAR_ASSERT(!link->disconnected || open + link->fences_waiting == 0);
}

static void
published_invariants(const struct far_pool *pool)
{
	struct far_index_header header;
	struct far_index_live live;

	memcpy(&header, pool->index, sizeof(header));
	FAR_ASSERT(far_index_header_check(&header, pool->layout.index_bytes) == 0);
	far_line_load(&live, pool->index + pool->layout.live_at);
	FAR_ASSERT(far_index_live_check(&live) == 0);
	FAR_ASSERT(live.epoch == pool->live.epoch);
	for (uint32_t i = 0; i < pool->segment_slots; i++) {
		const struct pool_segment *segment = &pool->segments[i];
		bool listed =
			segment->state == SEGMENT_SERVING || segment->state == SEGMENT_EMPTYING;

		for (uint32_t rail = 0; rail < pool->rail_count; rail++) {
			uint64_t at = (uint64_t)i * pool->rail_count + rail;
			struct far_index_segment line;

			far_line_load(&line,
				      pool->index + pool->layout.table_at + at * sizeof(line));
			FAR_ASSERT(line.segment == (listed ? segment->number : 0));
			FAR_ASSERT(line.rail == (listed ? rail : 0));
			FAR_ASSERT(!listed || far_index_segment_check(&line, live.epoch) == 0);
			FAR_ASSERT((segment->mems[rail] != NULL) ==
				   (segment->state != SEGMENT_ABSENT));
		}
	}
}

void
far_pool_check(const struct far_pool *pool)
{
	uint32_t counts[LANE_STATE_COUNT] = {0};
	uint64_t blocks = 0;
	uint32_t links = 0;
	struct far_list *it;
	struct far_list *tmp;

	published_invariants(pool);
	for (uint32_t i = 0; i < pool->lane_slots; i++) {
		lane_invariants(pool, &pool->lanes[i]);
		counts[pool->lanes[i].state]++;
		blocks += pool->lanes[i].block_count;
	}
	FAR_ASSERT(memcmp(counts, pool->counts, sizeof(counts)) == 0);
	for (uint32_t i = 0; i < pool->layout.set_count * FAR_SET_SLOTS; i++) {
		slot_invariants(pool, i);
		blocks -= !far_pool_note_is_empty(&pool->notes[i]);
	}
	FAR_ASSERT(blocks == 0);
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &pool->links)
	{
		link_invariants(FAR_CONTAINER_OF(it, struct pool_link, node));
		links++;
	}
	FAR_ASSERT(links == pool->link_count);
}
