/* evict.c - eviction by lane: the coldest old lane is emptied, its hottest blocks are kept. */
#include "pool/pool_priv.h"

#include "base/assert.h"
#include "base/copy.h"
#include "base/mark.h"
#include "base/mutant.h"
#include "base/publish.h"

#define VICTIMS_LOOKED_AT 8U /* the oldest sealed lanes among which the coldest is taken */
#define PASSED_MAX        8U /* an old lane that was passed over so often cools down */
#define DEMAND_HALF_NS    (30 * FAR_NS_PER_S) /* in which half of a burst is forgotten */

/* Lanes of the busiest window of late. Stores come in bursts, one at the end of each prefill: the next one
 * shall not find less room than the last one needed. */
static uint32_t
demand_get(const struct far_pool *pool, uint64_t now_ns)
{
	/* A tick's time may be from before the frames that it follows. */
	uint64_t age_ns = now_ns > pool->demand_ns ? now_ns - pool->demand_ns : 0;
	uint64_t halvings = age_ns / DEMAND_HALF_NS;

	return halvings < 32 ? pool->demand_lanes >> halvings : 0;
}

void
far_pool_demand_note(struct far_pool *pool, uint64_t now_ns)
{
	if (now_ns - pool->window_ns >= pool->config.grace_ns + FAR_NS_PER_MS) {
		pool->window_lanes = 0;
		pool->window_ns = now_ns;
	}
	pool->window_lanes++;
	if (pool->window_lanes >= demand_get(pool, now_ns)) {
		pool->demand_lanes = pool->window_lanes;
		pool->demand_ns = now_ns;
	}
}

/* A lane is free one grace after it was emptied: what was asked for in that time is kept ahead. */
static uint32_t
lanes_wanted(const struct far_pool *pool, uint64_t now_ns)
{
	uint32_t all = pool->lane_slots - pool->counts[LANE_ABSENT];
	uint32_t demand = demand_get(pool, now_ns);

	/* A demand that nobody can meet must not empty the whole donor. */
	if (demand > all / 16)
		demand = all / 16;
	return (uint32_t)pool->config.lanes_free_min + demand;
}

static struct pool_lane *
victim_in_leaving_segment(struct far_pool *pool)
{
	for (uint32_t i = 0; i < pool->segment_slots; i++) {
		struct pool_lane *lanes = far_pool_segment_lanes(pool, i);

		if (pool->segments[i].state != SEGMENT_EMPTYING)
			continue;
		for (uint32_t k = 0; k < pool->segments[i].lane_count; k++) {
			if (lanes[k].state == LANE_SEALED)
				return &lanes[k];
		}
	}
	return NULL;
}

/* Touches of long ago count less: an old lane that stays only for them becomes a victim in time. */
static void
lane_cool(struct far_pool *pool, struct pool_lane *lane)
{
	for (uint32_t slot = lane->first; slot != POOL_NONE; slot = pool->notes[slot].next)
		far_pool_index_cool(pool, slot);
	lane->passed = 0;
}

static struct pool_lane *
victim_choose(struct far_pool *pool)
{
	struct pool_lane *coldest = NULL;
	struct pool_lane *weary = NULL;
	uint32_t looked_at = 0;
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &pool->lists[LANE_SEALED])
	{
		struct pool_lane *lane = FAR_CONTAINER_OF(it, struct pool_lane, node);

		if (looked_at++ == VICTIMS_LOOKED_AT)
			break;
		if (coldest == NULL || lane->heat < coldest->heat)
			coldest = lane;
	}
	looked_at = 0;
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &pool->lists[LANE_SEALED])
	{
		struct pool_lane *lane = FAR_CONTAINER_OF(it, struct pool_lane, node);

		if (looked_at++ == VICTIMS_LOOKED_AT)
			break;
		if (lane != coldest && ++lane->passed >= PASSED_MAX && weary == NULL)
			weary = lane;
	}
	if (weary != NULL)
		lane_cool(pool, weary);
	return coldest;
}

static void
merge_seal(struct far_pool *pool)
{
	struct pool_lane *lane = pool->merge;

	pool->merge = NULL;
	far_pool_lane_state_set(pool, lane, LANE_SEALED);
	if (lane->block_count == 0)
		far_pool_lane_emptied(pool, lane);
}

void
far_pool_merge_leave(struct far_pool *pool, const struct pool_segment *segment)
{
	if (pool->merge != NULL && far_pool_lane_segment(pool, pool->merge) == segment)
		merge_seal(pool);
}

/* Room for @size_bytes in the lane that hot blocks move to. False: there is no free lane. */
static bool
merge_room(struct far_pool *pool, uint64_t size_bytes, uint64_t *offset_out)
{
	uint64_t align = far_extent_align(size_bytes);
	uint64_t offset = 0;

	if (pool->merge != NULL) {
		offset = (pool->merge->fill_bytes + align - 1) / align * align;
		if (offset + size_bytes <= pool->config.lane_bytes) {
			*offset_out = offset;
			return true;
		}
	}
	if (pool->counts[LANE_FREE] == 0)
		return false;
	if (pool->merge != NULL)
		merge_seal(pool);
	pool->merge = FAR_CONTAINER_OF(pool->lists[LANE_FREE].next, struct pool_lane, node);
	far_pool_lane_state_set(pool, pool->merge, LANE_MERGING);
	*offset_out = 0;
	return true;
}

static uint8_t *
lane_base(const struct far_pool *pool, const struct pool_lane *lane)
{
	return (uint8_t *)far_pool_lane_segment(pool, lane)->source.base +
	       far_pool_lane_offset(pool, lane);
}

static bool
block_move(struct far_pool *pool, struct pool_lane *from, uint32_t slot_idx)
{
	const struct far_slot *slot = &pool->slots[slot_idx];
	uint64_t from_bytes = slot->offset_64 * 64ULL - far_pool_lane_offset(pool, from);
	uint64_t offset;
	uint8_t *to;

	if (!merge_room(pool, slot->size_bytes, &offset))
		return false;
	to = lane_base(pool, pool->merge) + offset;
	if (FAR_MUTANT(SLOT_BEFORE_COPY))
		far_mutant_copy_late(to, lane_base(pool, from) + from_bytes, slot->size_bytes);
	else
		far_copy_stream(to, lane_base(pool, from) + from_bytes, slot->size_bytes);
	far_mem_publish();
	pool->merge->fill_bytes = offset + slot->size_bytes;
	far_pool_index_repoint(pool, slot_idx, pool->merge, offset);
	pool->stats[FAR_STATUS_blocks_moved]++;
	FAR_MARK("a hot block is moved by eviction");
	return true;
}

/* Moves the most-read blocks, up to the share that eviction may keep. */
static void
lane_keep_hot(struct far_pool *pool, struct pool_lane *lane)
{
	uint64_t left = pool->config.lane_bytes * pool->config.hot_share_max / 100;

	for (uint32_t frequency = POOL_FREQUENCY_MAX; frequency > 0; frequency--) {
		uint32_t slot = lane->first;

		while (slot != POOL_NONE) {
			uint32_t next = pool->notes[slot].next;
			uint64_t size_bytes = pool->slots[slot].size_bytes;

			if (far_pool_note_frequency(&pool->notes[slot]) == frequency &&
			    size_bytes <= left) {
				if (!block_move(pool, lane, slot))
					return;
				left -= size_bytes;
			}
			slot = next;
		}
	}
}

static void
lane_evict(struct far_pool *pool, struct pool_lane *lane)
{
	FAR_ASSERT(lane->state == LANE_SEALED);
	if (lane->heat > 0)
		lane_keep_hot(pool, lane);
	/* The last clear sends the lane to rest. */
	while (lane->first != POOL_NONE) {
		far_pool_index_clear(pool, lane->first);
		pool->stats[FAR_STATUS_blocks_evicted]++;
	}
	if (lane->state == LANE_SEALED)
		far_pool_lane_emptied(pool, lane);
	pool->stats[FAR_STATUS_lanes_evicted]++;
}

bool
far_pool_evict_step(struct far_pool *pool, uint64_t now_ns)
{
	uint32_t wanted = lanes_wanted(pool, now_ns);
	struct pool_lane *victim = NULL;

	if (pool->drains > 0)
		victim = victim_in_leaving_segment(pool);
	if (victim == NULL && !pool->growing && !pool->closing &&
	    pool->counts[LANE_FREE] + pool->counts[LANE_RESTING] < wanted) {
		/* Nothing else left to take from: even what was kept goes. */
		if (pool->counts[LANE_SEALED] == 0 && pool->merge != NULL)
			merge_seal(pool);
		victim = victim_choose(pool);
	}
	if (victim == NULL)
		return false;
	lane_evict(pool, victim);
	return pool->drains > 0 || pool->counts[LANE_FREE] + pool->counts[LANE_RESTING] < wanted;
}
