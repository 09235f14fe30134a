/* index.c - the published index as its one writer sees it: header, lines, slots, and their notes. */
#include "pool/pool_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/publish.h"

static struct pool_lane *
note_lane(const struct far_pool *pool, uint32_t slot_idx)
{
	const struct pool_note *note = &pool->notes[slot_idx];

	FAR_ASSERT(!far_pool_note_is_empty(note));
	FAR_ASSERT(far_pool_note_lane(note) < pool->lane_slots);
	return &pool->lanes[far_pool_note_lane(note)];
}

uint64_t
far_pool_index_bytes(const struct far_pool_config *config, uint32_t rail_count)
{
	struct far_index_layout layout;
	uint64_t lines = far_pool_segments_max(config);

	if (far_index_layout_make(config->capacity_bytes, config->block_bytes_min,
				  lines * rail_count, &layout) < 0)
		return 0;
	return layout.index_bytes;
}

static void
live_store(struct far_pool *pool)
{
	far_index_live_seal(&pool->live);
	far_mem_publish();
	far_line_store(pool->index + pool->layout.live_at, &pool->live);
}

void
far_pool_index_state_set(struct far_pool *pool, uint64_t state)
{
	pool->live.state = state;
	live_store(pool);
}

static void
header_store(struct far_pool *pool)
{
	const struct far_pool_config *config = &pool->config;
	struct far_index_header header;

	memset(&header, 0, sizeof(header));
	header.magic = FAR_INDEX_MAGIC;
	header.version = FAR_INDEX_VERSION;
	header.header_bytes = sizeof(header);
	header.index_bytes = pool->layout.index_bytes;
	header.live_at = pool->layout.live_at;
	header.table_at = pool->layout.table_at;
	header.table_count = pool->layout.table_count;
	header.sets_at = pool->layout.sets_at;
	header.set_count = pool->layout.set_count;
	header.hash_seed = pool->hash_seed;
	header.segment_bytes = config->segment_bytes;
	header.lane_bytes = config->lane_bytes;
	header.slot_bytes = FAR_SLOT_BYTES;
	header.set_slots = FAR_SET_SLOTS;
	header.rail_count = pool->rail_count;
	memcpy(header.donor, config->name, sizeof(header.donor));
	memcpy(header.name_space, config->name_space, sizeof(header.name_space));
	far_index_header_seal(&header);
	memcpy(pool->index, &header, sizeof(header));
}

/* The header stays as it is: a predecessor's slots lie where its seed says. */
static int
header_take(struct far_pool *pool, uint64_t index_bytes)
{
	char error[FAR_PARAM_ERROR_BYTES];
	struct far_index_header header;
	int rc;

	memcpy(&header, pool->index, sizeof(header));
	rc = far_pool_backing_check(&pool->config, pool->rail_count, &header, index_bytes, error);
	if (rc < 0) {
		far_log_error("%s", error);
		return rc;
	}
	pool->hash_seed = header.hash_seed;
	return far_pool_recover_open(pool);
}

int
far_pool_index_open(struct far_pool *pool, const struct far_mem_source *source, bool over)
{
	const struct far_pool_config *config = &pool->config;
	struct far_mem_source exact = *source;
	int rc;

	rc = far_index_layout_make(config->capacity_bytes, config->block_bytes_min,
				   (uint64_t)pool->segment_slots * pool->rail_count, &pool->layout);
	if (rc < 0)
		return rc;
	if (source->size_bytes < pool->layout.index_bytes)
		return -EINVAL;
	pool->notes =
		far_zalloc_array(pool->layout.set_count * FAR_SET_SLOTS, sizeof(*pool->notes));
	if (pool->notes == NULL)
		return -ENOMEM;
	exact.relaxed = false; /* readers rely on the order of a line's words */
	rc = far_pool_mems_reg(pool, &exact, pool->index_mems);
	if (rc < 0)
		return rc;

	pool->index = source->base;
	pool->slots = (struct far_slot *)(void *)(pool->index + pool->layout.sets_at);
	if (over) {
		rc = header_take(pool, source->size_bytes);
		if (rc < 0)
			return rc;
	}
	do {
		pool->live.epoch = far_rng_u64(pool->rng);
	} while (pool->live.epoch == 0 || far_pool_recover_knows(pool, pool->live.epoch));
	if (over) {
		far_pool_recover_begin(pool);
		return 0;
	}
	pool->hash_seed = far_rng_u64(pool->rng);
	header_store(pool);
	far_pool_index_state_set(pool, FAR_INDEX_SERVING);
	return 0;
}

void
far_pool_index_close(struct far_pool *pool)
{
	far_pool_mems_dereg(pool->index_mems);
	far_free(pool->notes);
}

void
far_pool_index_line_set(struct far_pool *pool, uint32_t segment_idx)
{
	const struct pool_segment *segment = &pool->segments[segment_idx];
	uint64_t first = (uint64_t)segment_idx * pool->rail_count;
	struct far_index_segment line;

	far_mem_publish();
	for (uint32_t rail = 0; rail < pool->rail_count; rail++) {
		memset(&line, 0, sizeof(line));
		if (segment->state == SEGMENT_SERVING) {
			const struct far_remote *remote = &segment->mems[rail]->remote;

			line.segment = segment->number;
			line.rail = (uint16_t)rail;
			line.remote_addr = remote->addr;
			line.size_bytes = segment->source.size_bytes;
			memcpy(line.rkey, remote->rkey.bytes, sizeof(line.rkey));
			far_index_segment_seal(&line, pool->live.epoch);
		}
		far_line_store(pool->index + pool->layout.table_at + (first + rail) * sizeof(line),
			       &line);
	}
	pool->live.table_version++;
	live_store(pool);
}

uint32_t
far_pool_index_find(const struct far_pool *pool, const struct far_key *key)
{
	uint64_t sets[2];

	far_index_sets(key, pool->hash_seed, pool->layout.set_count, sets);
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t base = (uint32_t)(sets[i] * FAR_SET_SLOTS);

		for (uint32_t slot = base; slot < base + FAR_SET_SLOTS; slot++) {
			if (memcmp(pool->slots[slot].key, key->bytes, FAR_KEY_BYTES) == 0 &&
			    !far_pool_note_is_empty(&pool->notes[slot]))
				return slot;
		}
	}
	return POOL_NONE;
}

/* Adds a slot to the end of its lane's list. */
static void
note_link(struct far_pool *pool, uint32_t slot_idx, struct pool_lane *lane, uint32_t frequency)
{
	struct pool_note *note = &pool->notes[slot_idx];

	note->lane_frequency = (far_pool_lane_idx(pool, lane) + 1) << 2 | frequency;
	note->next = POOL_NONE;
	note->prev = lane->last;
	if (lane->last == POOL_NONE)
		lane->first = slot_idx;
	else
		pool->notes[lane->last].next = slot_idx;
	lane->last = slot_idx;
	lane->block_count++;
	lane->block_bytes += pool->slots[slot_idx].size_bytes;
	lane->heat += frequency;
}

/* The lane may be left empty: who calls decides what that means. */
static void
note_unlink(struct far_pool *pool, uint32_t slot_idx)
{
	struct pool_note *note = &pool->notes[slot_idx];
	struct pool_lane *lane = note_lane(pool, slot_idx);

	if (note->prev == POOL_NONE)
		lane->first = note->next;
	else
		pool->notes[note->prev].next = note->next;
	if (note->next == POOL_NONE)
		lane->last = note->prev;
	else
		pool->notes[note->next].prev = note->prev;
	FAR_ASSERT(lane->block_count > 0);
	lane->block_count--;
	lane->block_bytes -= pool->slots[slot_idx].size_bytes;
	lane->heat -= far_pool_note_frequency(note);
	*note = (struct pool_note){.lane_frequency = 0};
}

static uint32_t
set_empty_count(const struct far_pool *pool, uint32_t base)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < FAR_SET_SLOTS; i++)
		count += far_pool_note_is_empty(&pool->notes[base + i]);
	return count;
}

/* Of both sets: the least read, and of those the oldest. */
static uint32_t
coldest_slot(const struct far_pool *pool, const uint32_t bases[2])
{
	uint32_t coldest = bases[0];

	for (uint32_t i = 0; i < 2 * FAR_SET_SLOTS; i++) {
		uint32_t slot = bases[i / FAR_SET_SLOTS] + i % FAR_SET_SLOTS;
		uint32_t frequency = far_pool_note_frequency(&pool->notes[slot]);
		uint32_t least = far_pool_note_frequency(&pool->notes[coldest]);

		if (frequency < least ||
		    (frequency == least &&
		     pool->slots[slot].generation < pool->slots[coldest].generation))
			coldest = slot;
	}
	return coldest;
}

static uint32_t
slot_take(struct far_pool *pool, const struct far_key *key)
{
	uint64_t sets[2];
	uint32_t bases[2];
	uint32_t base;
	uint32_t slot;

	far_index_sets(key, pool->hash_seed, pool->layout.set_count, sets);
	bases[0] = (uint32_t)(sets[0] * FAR_SET_SLOTS);
	bases[1] = (uint32_t)(sets[1] * FAR_SET_SLOTS);
	base = set_empty_count(pool, bases[0]) >= set_empty_count(pool, bases[1]) ? bases[0]
										  : bases[1];
	for (slot = base; slot < base + FAR_SET_SLOTS; slot++) {
		if (far_pool_note_is_empty(&pool->notes[slot]))
			return slot;
	}
	slot = coldest_slot(pool, bases);
	far_pool_index_clear(pool, slot);
	pool->stats[FAR_STATUS_sets_overflowed]++;
	return slot;
}

static void
slot_store(struct far_pool *pool, uint32_t slot_idx, struct far_slot *slot)
{
	slot->generation = ++pool->generation;
	far_slot_seal(slot, pool->live.epoch);
	far_mem_publish();
	far_line_store(&pool->slots[slot_idx], slot);
}

void
far_pool_index_insert(struct far_pool *pool, struct pool_lane *lane, const struct far_slot *block)
{
	struct far_slot slot = *block;
	struct far_key key;
	uint32_t slot_idx;

	memcpy(key.bytes, block->key, sizeof(key.bytes));
	FAR_DASSERT(far_pool_index_find(pool, &key) == POOL_NONE);
	slot_idx = slot_take(pool, &key);
	slot_store(pool, slot_idx, &slot);
	note_link(pool, slot_idx, lane, 0);
}

void
far_pool_index_adopt(struct far_pool *pool, uint32_t slot_idx, struct pool_lane *lane,
		     const struct far_slot *block)
{
	struct far_slot slot = *block;

	if (slot.generation > pool->generation)
		pool->generation = slot.generation;
	far_slot_seal(&slot, pool->live.epoch);
	far_line_store(&pool->slots[slot_idx], &slot);
	note_link(pool, slot_idx, lane, 0);
}

bool
far_pool_index_forget(struct far_pool *pool, const struct far_key *key)
{
	static const struct far_slot empty;
	bool found = false;
	uint64_t sets[2];

	if (far_key_is_zero(key))
		return false;
	far_index_sets(key, pool->hash_seed, pool->layout.set_count, sets);
	for (uint32_t i = 0; i < 2 * FAR_SET_SLOTS; i++) {
		uint32_t slot =
			(uint32_t)(sets[i / FAR_SET_SLOTS] * FAR_SET_SLOTS) + i % FAR_SET_SLOTS;

		if (memcmp(pool->slots[slot].key, key->bytes, FAR_KEY_BYTES) != 0 ||
		    !far_pool_note_is_empty(&pool->notes[slot]))
			continue;
		far_line_store(&pool->slots[slot], &empty);
		found = true;
	}
	return found;
}

void
far_pool_index_clear(struct far_pool *pool, uint32_t slot_idx)
{
	static const struct far_slot empty;
	struct pool_lane *lane = note_lane(pool, slot_idx);

	note_unlink(pool, slot_idx);
	far_line_store(&pool->slots[slot_idx], &empty);
	if (lane->block_count == 0)
		far_pool_lane_emptied(pool, lane);
}

void
far_pool_index_repoint(struct far_pool *pool, uint32_t slot_idx, struct pool_lane *to,
		       uint64_t offset_bytes)
{
	struct far_slot slot = pool->slots[slot_idx];
	uint32_t frequency = far_pool_note_frequency(&pool->notes[slot_idx]) / 2;

	note_unlink(pool, slot_idx);
	slot.segment = far_pool_lane_segment(pool, to)->number;
	slot.offset_64 = (uint32_t)((far_pool_lane_offset(pool, to) + offset_bytes) / 64);
	slot_store(pool, slot_idx, &slot);
	note_link(pool, slot_idx, to, frequency);
}

static void
frequency_set(struct far_pool *pool, uint32_t slot_idx, uint32_t frequency)
{
	struct pool_note *note = &pool->notes[slot_idx];
	struct pool_lane *lane = note_lane(pool, slot_idx);

	lane->heat += frequency;
	lane->heat -= far_pool_note_frequency(note);
	note->lane_frequency = (note->lane_frequency & ~POOL_FREQUENCY_MAX) | frequency;
}

void
far_pool_index_touch(struct far_pool *pool, uint32_t slot_idx)
{
	uint32_t frequency = far_pool_note_frequency(&pool->notes[slot_idx]);

	if (frequency < POOL_FREQUENCY_MAX)
		frequency_set(pool, slot_idx, frequency + 1);
}

void
far_pool_index_cool(struct far_pool *pool, uint32_t slot_idx)
{
	frequency_set(pool, slot_idx, far_pool_note_frequency(&pool->notes[slot_idx]) / 2);
}
