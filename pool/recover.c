/* recover.c - a successor over its predecessor's memory: what may be served again, and what is gone. */
#include "pool/pool_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/checksum.h"
#include "base/log.h"
#include "base/mark.h"
#include "base/mutant.h"

/* One step: so many slots are looked at, or one lane's blocks are read, a few milliseconds. */
#ifndef POOL_SCAN_SLOTS /* the simulation takes longer over it: more happens meanwhile */
#define POOL_SCAN_SLOTS 32768U
#endif

struct extent {
	uint64_t begin; /* in its segment */
	uint32_t slot;
};

/* A segment that came back: a slot is found its own without a walk over all of them. */
struct place {
	uint32_t number;
	uint32_t idx; /* in the pool's array */
};

/*
 * First every slot is looked at, and those of a listed epoch are chained to their lanes, by the notes
 * of slots that hold nothing yet. Then lane by lane: bounds, overlap, CRC; what is good is sealed
 * anew under this epoch. What is not is cleared. The list of epochs is emptied last of all, so that a
 * successor of ours finds whatever we did not come to.
 */
struct pool_recovery {
	uint64_t epochs[FAR_EPOCHS_MAX];
	uint32_t epoch_count;
	uint32_t slot_at;     /* the scan has come so far */
	uint32_t lane_at;     /* the sweep */
	struct place *places; /* owned, by number; made when the scan begins */
	uint32_t place_count;
	uint32_t *heads;        /* owned, by lane: the first slot that names it; POOL_NONE: none */
	uint32_t *counts;       /* owned, by lane */
	struct extent *extents; /* owned; of the lane being looked at */
	uint32_t extents_max;
	uint64_t begun_ns;
	uint64_t kept, kept_bytes, dropped;
};

/* ---- whose memory is it ---- */

static int
differs(char error[FAR_PARAM_ERROR_BYTES], const char *what)
{
	snprintf(error, FAR_PARAM_ERROR_BYTES,
		 "%s: start with what it was written with, or remove it to start empty", what);
	return -EINVAL;
}

int
far_pool_backing_check(const struct far_pool_config *config, uint32_t rail_count,
		       const struct far_index_header *header, uint64_t index_bytes,
		       char error[FAR_PARAM_ERROR_BYTES])
{
	struct far_index_layout layout;
	uint64_t lines = far_pool_segments_max(config);
	int rc = far_index_header_check(header, index_bytes);

	if (header->magic != FAR_INDEX_MAGIC)
		return differs(error, "index: this is no index of a donor");
	if (header->version != FAR_INDEX_VERSION)
		return differs(error, "index: another release's version");
	if (rc == -EBADMSG)
		return differs(error, "index: its header does not match its checksum");
	if (rc < 0)
		return differs(error, "index: cut short, or of a geometry that cannot be");
	if (strncmp(header->donor, config->name, sizeof(header->donor)) != 0)
		return differs(error, "index: another donor's, 'name' differs");
	if (strncmp(header->name_space, config->name_space, sizeof(header->name_space)) != 0)
		return differs(error, "index: another namespace's, 'namespace' differs");
	if (header->lane_bytes != config->lane_bytes)
		return differs(error, "index: 'lane' differs");
	if (header->segment_bytes != config->segment_bytes)
		return differs(error, "index: 'segment' differs");
	if (header->rail_count != rail_count)
		return differs(error, "index: 'listen' names another number of transports");
	rc = far_index_layout_make(config->capacity_bytes, config->block_bytes_min,
				   lines * rail_count, &layout);
	if (rc < 0 || header->set_count != layout.set_count ||
	    header->table_count != layout.table_count || header->sets_at != layout.sets_at ||
	    header->table_at != layout.table_at || header->live_at != layout.live_at ||
	    header->index_bytes != layout.index_bytes)
		return differs(error, "index: 'memory' or 'block_min' differs");
	return 0;
}

/* ---- begun: the old epoch is listed, the new one stands ---- */

static struct far_index_header *
header_of(const struct far_pool *pool)
{
	return (struct far_index_header *)(void *)pool->index;
}

static bool
epoch_is_listed(const struct pool_recovery *recovery, uint64_t epoch)
{
	for (uint32_t i = 0; i < recovery->epoch_count; i++) {
		if (recovery->epochs[i] == epoch)
			return true;
	}
	return false;
}

/* Which of a full list has the fewest slots. Looks at all of them: a second or two, and once in a life. */
static uint32_t
epoch_emptiest(const struct far_pool *pool, const struct pool_recovery *recovery)
{
	uint64_t slots = pool->layout.set_count * FAR_SET_SLOTS;
	uint64_t counts[FAR_EPOCHS_MAX] = {0};
	uint32_t emptiest = 0;

	for (uint64_t i = 0; i < slots; i++) {
		const uint8_t *at = pool->index + pool->layout.sets_at + i * FAR_SLOT_BYTES;
		struct far_slot slot;
		uint32_t e = 0;

		far_line_load(&slot, at);
		while (e < FAR_EPOCHS_MAX &&
		       far_slot_check(&slot, recovery->epochs[e]) != FAR_SLOT_VALID)
			e++;
		if (e < FAR_EPOCHS_MAX)
			counts[e]++;
	}
	/* Of several the later: the first is where those who came to nothing have all of it. */
	for (uint32_t e = 1; e < FAR_EPOCHS_MAX; e++) {
		if (counts[e] <= counts[emptiest])
			emptiest = e;
	}
	return emptiest;
}

/* The list as it stands, and the epoch that our predecessor wrote under: also if it died amid storing
 * its line, each word of which is one of two. A full list loses the one with the fewest slots. */
static void
epochs_collect(struct far_pool *pool, struct pool_recovery *recovery)
{
	const struct far_index_header *header = header_of(pool);
	uint64_t live_epoch;
	uint32_t given_up;

	for (uint32_t i = 0; i < FAR_EPOCHS_MAX; i++) {
		uint64_t epoch = __atomic_load_n(&header->recover_epochs[i], __ATOMIC_RELAXED);

		if (epoch != 0 && !epoch_is_listed(recovery, epoch))
			recovery->epochs[recovery->epoch_count++] = epoch;
	}
	memcpy(&live_epoch, pool->index + pool->layout.live_at, sizeof(live_epoch));
	if (live_epoch == 0 || epoch_is_listed(recovery, live_epoch))
		return;
	if (recovery->epoch_count == FAR_EPOCHS_MAX) {
		far_log_warn("an epoch is given up: %u successors in a row did not get through",
			     FAR_EPOCHS_MAX);
		given_up = epoch_emptiest(pool, recovery);
		memmove(&recovery->epochs[given_up], &recovery->epochs[given_up + 1],
			(FAR_EPOCHS_MAX - 1 - given_up) * sizeof(recovery->epochs[0]));
		recovery->epoch_count--;
	}
	recovery->epochs[recovery->epoch_count++] = live_epoch;
}

/* From the front: an epoch that moves ahead stands twice for a moment, and is never missing. */
static void
epochs_store(struct far_pool *pool, const struct pool_recovery *recovery)
{
	struct far_index_header *header = header_of(pool);

	for (uint32_t i = 0; i < FAR_EPOCHS_MAX; i++) {
		uint64_t epoch = i < recovery->epoch_count ? recovery->epochs[i] : 0;

		__atomic_store_n(&header->recover_epochs[i], epoch, __ATOMIC_RELAXED);
	}
	atomic_thread_fence(memory_order_seq_cst);
}

static void
recovery_free(struct pool_recovery *recovery)
{
	if (recovery == NULL)
		return;
	far_free(recovery->places);
	far_free(recovery->heads);
	far_free(recovery->counts);
	far_free(recovery->extents);
	far_free(recovery);
}

void
far_pool_recover_close(struct far_pool *pool)
{
	recovery_free(pool->recovery);
	pool->recovery = NULL;
}

int
far_pool_recover_open(struct far_pool *pool)
{
	struct pool_recovery *recovery = far_zalloc(sizeof(*recovery));

	if (recovery == NULL)
		return -ENOMEM;
	recovery->heads = far_zalloc_array(pool->lane_slots, sizeof(*recovery->heads));
	recovery->counts = far_zalloc_array(pool->lane_slots, sizeof(*recovery->counts));
	if (recovery->heads == NULL || recovery->counts == NULL) {
		recovery_free(recovery);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < pool->lane_slots; i++)
		recovery->heads[i] = POOL_NONE;
	recovery->begun_ns = far_clock_now(pool->clock);
	epochs_collect(pool, recovery);
	pool->recovery = recovery;
	return 0;
}

/* A reader may have looked under any of these: none of them is taken again. */
bool
far_pool_recover_knows(const struct far_pool *pool, uint64_t epoch)
{
	return pool->recovery != NULL && epoch_is_listed(pool->recovery, epoch);
}

void
far_pool_recover_begin(struct far_pool *pool)
{
	static const struct far_index_segment empty;

	if (pool->recovery == NULL)
		return;
	/* Listed, then overwritten: old readers see another epoch before anything else changes. */
	epochs_store(pool, pool->recovery);
	far_pool_index_state_set(pool, FAR_INDEX_RECOVERING);
	atomic_thread_fence(memory_order_seq_cst);
	for (uint64_t i = 0; i < pool->layout.table_count; i++)
		far_line_store(pool->index + pool->layout.table_at + i * sizeof(empty), &empty);
}

/* ---- a slot ---- */

static void
slot_drop(struct far_pool *pool, uint32_t slot_idx)
{
	static const struct far_slot empty;

	FAR_ASSERT(far_pool_note_is_empty(&pool->notes[slot_idx]));
	far_line_store(&pool->slots[slot_idx], &empty);
	pool->recovery->dropped++;
	pool->stats[FAR_STATUS_blocks_dropped]++;
}

/* Sealed under a listed epoch, and not without a CRC: its bytes can be told. */
static bool
slot_is_listed(const struct far_pool *pool, const struct far_slot *slot)
{
	const struct pool_recovery *recovery = pool->recovery;

	for (uint32_t i = 0; i < recovery->epoch_count; i++) {
		if (far_slot_check(slot, recovery->epochs[i]) == FAR_SLOT_VALID)
			return (slot->flags & FAR_SLOT_NO_CRC) == 0;
	}
	return false;
}

/* In one of the two sets of its key, where it will be looked for. */
static bool
slot_is_at_home(const struct far_pool *pool, uint32_t slot_idx, const struct far_slot *slot)
{
	struct far_key key;
	uint64_t sets[2];

	memcpy(key.bytes, slot->key, sizeof(key.bytes));
	if (far_key_is_zero(&key))
		return false;
	far_index_sets(&key, pool->hash_seed, pool->layout.set_count, sets);
	return slot_idx / FAR_SET_SLOTS == sets[0] || slot_idx / FAR_SET_SLOTS == sets[1];
}

static int
place_compare(const void *left, const void *right)
{
	const struct place *a = left;
	const struct place *b = right;

	return a->number < b->number ? -1 : a->number > b->number;
}

/* Those that came back, and no others: a new one may have got the number of one that is gone. */
static int
places_open(struct far_pool *pool)
{
	struct pool_recovery *recovery = pool->recovery;

	if (recovery->places != NULL)
		return 0;
	recovery->places = far_zalloc_array(pool->segment_slots, sizeof(*recovery->places));
	if (recovery->places == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < pool->segment_slots; i++) {
		const struct pool_segment *segment = &pool->segments[i];

		if (segment->state == SEGMENT_SERVING && segment->is_restored)
			recovery->places[recovery->place_count++] =
				(struct place){.number = segment->number, .idx = i};
	}
	qsort(recovery->places, recovery->place_count, sizeof(*recovery->places), place_compare);
	return 0;
}

static uint32_t
place_find(const struct pool_recovery *recovery, uint32_t number)
{
	struct place key = {.number = number};
	const struct place *place =
		bsearch(&key, recovery->places, recovery->place_count, sizeof(key), place_compare);

	return place != NULL ? place->idx : POOL_NONE;
}

/* The lane that its bytes lie in, wholly; NULL: in none that is here. */
static struct pool_lane *
slot_lane(const struct far_pool *pool, const struct far_slot *slot)
{
	uint64_t begin = slot->offset_64 * 64ULL;
	uint64_t lane_bytes = pool->config.lane_bytes;
	uint32_t segment_idx = place_find(pool->recovery, slot->segment);

	if (segment_idx == POOL_NONE || slot->size_bytes == 0 || slot->size_bytes > lane_bytes ||
	    begin % far_extent_align(slot->size_bytes) != 0)
		return NULL;
	if (begin / lane_bytes >= pool->segments[segment_idx].lane_count ||
	    begin % lane_bytes + slot->size_bytes > lane_bytes)
		return NULL;
	return far_pool_segment_lanes(pool, segment_idx) + begin / lane_bytes;
}

/* ---- the scan ---- */

static void
slot_scan(struct far_pool *pool, uint32_t slot_idx)
{
	struct pool_recovery *recovery = pool->recovery;
	struct far_slot slot = pool->slots[slot_idx];
	const struct pool_lane *lane;
	uint32_t lane_idx;

	if (far_slot_check(&slot, pool->live.epoch) == FAR_SLOT_EMPTY)
		return;
	lane = slot_is_listed(pool, &slot) && slot_is_at_home(pool, slot_idx, &slot)
		       ? slot_lane(pool, &slot)
		       : NULL;
	if (lane == NULL) {
		FAR_MARK("a slot is dropped when a donor comes back");
		slot_drop(pool, slot_idx);
		return;
	}
	lane_idx = far_pool_lane_idx(pool, lane);
	pool->notes[slot_idx].next = recovery->heads[lane_idx];
	recovery->heads[lane_idx] = slot_idx;
	recovery->counts[lane_idx]++;
}

/* ---- the sweep ---- */

static int
extent_compare(const void *left, const void *right)
{
	const struct extent *a = left;
	const struct extent *b = right;

	if (a->begin != b->begin)
		return a->begin < b->begin ? -1 : 1;
	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

/* Takes the lane's chain apart, into the order of offsets. */
static void
extents_take(struct far_pool *pool, uint32_t lane_idx)
{
	struct pool_recovery *recovery = pool->recovery;
	uint32_t slot = recovery->heads[lane_idx];
	uint32_t count = 0;

	while (slot != POOL_NONE) {
		uint32_t next = pool->notes[slot].next;

		pool->notes[slot].next = 0;
		recovery->extents[count++] =
			(struct extent){.begin = pool->slots[slot].offset_64 * 64ULL, .slot = slot};
		slot = next;
	}
	FAR_ASSERT(count == recovery->counts[lane_idx]);
	recovery->heads[lane_idx] = POOL_NONE;
	qsort(recovery->extents, count, sizeof(*recovery->extents), extent_compare);
}

/* @end: of the last block that was kept. */
static bool
slot_is_good(const struct far_pool *pool, const struct pool_lane *lane, const struct extent *extent,
	     const struct far_slot *slot, uint64_t end)
{
	const uint8_t *bytes = far_pool_lane_segment(pool, lane)->source.base;
	struct far_key key;

	if (!slot_is_listed(pool, slot) || extent->begin < end)
		return false;
	memcpy(key.bytes, slot->key, sizeof(key.bytes));
	if (far_pool_index_find(pool, &key) != POOL_NONE)
		return false;
	return far_crc32c(0, bytes + extent->begin, slot->size_bytes) == slot->crc32c ||
	       FAR_MUTANT(RECOVERED_UNCHECKED);
}

static void
lane_sweep(struct far_pool *pool, uint32_t lane_idx)
{
	struct pool_recovery *recovery = pool->recovery;
	struct pool_lane *lane = &pool->lanes[lane_idx];
	uint32_t count = recovery->counts[lane_idx];
	uint64_t youngest = 0;
	uint64_t end = 0;

	extents_take(pool, lane_idx);
	FAR_ASSERT(lane->state == LANE_FREE);
	for (uint32_t i = 0; i < count; i++) {
		const struct extent *extent = &recovery->extents[i];
		struct far_slot slot = pool->slots[extent->slot];

		if (far_slot_check(&slot, pool->live.epoch) == FAR_SLOT_EMPTY)
			continue; /* deleted by a client since the scan */
		if (!slot_is_good(pool, lane, extent, &slot, end)) {
			FAR_MARK("a block is dropped when a donor comes back");
			slot_drop(pool, extent->slot);
			continue;
		}
		end = extent->begin + slot.size_bytes;
		if (slot.generation > youngest)
			youngest = slot.generation;
		recovery->kept++;
		recovery->kept_bytes += slot.size_bytes;
		pool->stats[FAR_STATUS_blocks_recovered]++;
		far_pool_index_adopt(pool, extent->slot, lane, &slot);
		FAR_MARK("a block is there again when a donor comes back");
	}
	if (lane->block_count == 0)
		return;
	lane->fill_bytes = pool->config.lane_bytes;
	lane->tag = youngest; /* its age, until all are known */
	far_pool_lane_state_set(pool, lane, LANE_SEALED);
}

/* Memory for the fullest lane, once the scan is through. -ENOMEM: tried again. */
static int
extents_open(struct far_pool *pool)
{
	struct pool_recovery *recovery = pool->recovery;
	uint32_t most = 1;

	if (recovery->extents != NULL)
		return 0;
	for (uint32_t i = 0; i < pool->lane_slots; i++) {
		if (recovery->counts[i] > most)
			most = recovery->counts[i];
	}
	recovery->extents = far_zalloc_array(most, sizeof(*recovery->extents));
	return recovery->extents != NULL ? 0 : -ENOMEM;
}

/* ---- ended ---- */

static int
age_compare(const void *left, const void *right)
{
	const struct pool_lane *const *a = left;
	const struct pool_lane *const *b = right;

	return (*a)->tag < (*b)->tag ? -1 : (*a)->tag > (*b)->tag;
}

/* Eviction takes the oldest first: by the youngest block of each. Without memory they stay as they are. */
static void
lanes_order(struct far_pool *pool)
{
	uint32_t count = pool->counts[LANE_SEALED];
	struct pool_lane **lanes = far_zalloc_array(count + 1, sizeof(struct pool_lane *));
	const struct far_list *it = pool->lists[LANE_SEALED].next;

	if (lanes == NULL)
		return;
	for (uint32_t i = 0; i < count; i++, it = it->next)
		lanes[i] = FAR_CONTAINER_OF(it, struct pool_lane, node);
	qsort(lanes, count, sizeof(struct pool_lane *), age_compare);
	for (uint32_t i = 0; i < count; i++)
		far_pool_lane_state_set(pool, lanes[i], LANE_SEALED);
	far_free(lanes);
}

static void
recovery_end(struct far_pool *pool)
{
	struct pool_recovery *recovery = pool->recovery;
	uint64_t took_ns;

	lanes_order(pool);
	/* Every slot is of this epoch, or empty: visibly, before any lane is written again. */
	atomic_thread_fence(memory_order_seq_cst);
	recovery->epoch_count = 0;
	epochs_store(pool, recovery);
	took_ns = far_clock_now(pool->clock) - recovery->begun_ns;
	far_log_info("%" PRIu64 " blocks are there again, %" PRIu64 " MiB in %" PRIu64
		     " ms; %" PRIu64 " dropped",
		     recovery->kept, recovery->kept_bytes >> 20,
		     (uint64_t)(took_ns / FAR_NS_PER_MS), recovery->dropped);
	far_pool_recover_close(pool);
	if (!pool->closing)
		far_pool_index_state_set(pool, FAR_INDEX_SERVING);
}

bool
far_pool_recover_step(struct far_pool *pool)
{
	struct pool_recovery *recovery = pool->recovery;
	uint32_t slots = (uint32_t)(pool->layout.set_count * FAR_SET_SLOTS);

	/* A slot may name a segment that is still on its way. */
	if (recovery == NULL || pool->growing || pool->closing)
		return false;
	if (places_open(pool) < 0)
		return false; /* the next tick asks again */
	if (recovery->slot_at < slots) {
		for (uint32_t i = 0; i < POOL_SCAN_SLOTS && recovery->slot_at < slots; i++)
			slot_scan(pool, recovery->slot_at++);
		return true;
	}
	if (extents_open(pool) < 0)
		return false; /* the next tick asks again */
	while (recovery->lane_at < pool->lane_slots && recovery->counts[recovery->lane_at] == 0)
		recovery->lane_at++;
	if (recovery->lane_at < pool->lane_slots) {
		lane_sweep(pool, recovery->lane_at++);
		return true;
	}
	recovery_end(pool);
	return false;
}
