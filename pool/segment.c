/* segment.c - memory lent and given back: registered, exposed, listed; emptied, recalled, let go. */
#include "pool/pool_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/mark.h"

uint64_t
far_pool_segments_max(const struct far_pool_config *config)
{
	return config->capacity_bytes / config->segment_bytes + POOL_SEGMENTS_SPARE;
}

int
far_pool_segments_open(struct far_pool *pool)
{
	const struct far_pool_config *config = &pool->config;
	uint64_t slots = far_pool_segments_max(config);
	uint64_t lanes = config->segment_bytes / config->lane_bytes;

	if (slots * lanes > POOL_LANES_MAX)
		return -EINVAL;
	pool->segment_slots = (uint32_t)slots;
	pool->lanes_per_segment = (uint32_t)lanes;
	pool->lane_slots = (uint32_t)(slots * lanes);
	pool->segments = far_zalloc_array(slots, sizeof(*pool->segments));
	return pool->segments != NULL ? 0 : -ENOMEM;
}

void
far_pool_segments_close(struct far_pool *pool)
{
	for (uint32_t i = 0; pool->segments != NULL && i < pool->segment_slots; i++)
		far_pool_mems_dereg(pool->segments[i].mems);
	far_free(pool->segments);
}

static struct pool_segment *
segment_find(const struct far_pool *pool, uint32_t number)
{
	for (uint32_t i = 0; i < pool->segment_slots; i++) {
		if (pool->segments[i].state != SEGMENT_ABSENT && pool->segments[i].number == number)
			return &pool->segments[i];
	}
	return NULL;
}

static uint32_t
segment_idx(const struct far_pool *pool, const struct pool_segment *segment)
{
	return (uint32_t)(segment - pool->segments);
}

static struct pool_segment *
segment_slot_free(const struct far_pool *pool)
{
	for (uint32_t i = 0; i < pool->segment_slots; i++) {
		if (pool->segments[i].state == SEGMENT_ABSENT)
			return &pool->segments[i];
	}
	return NULL;
}

/* @number: 0 for the next one. */
static int
segment_add(struct far_pool *pool, const struct far_mem_source *source, uint32_t number,
	    uint32_t *segment_out)
{
	const struct far_pool_config *config = &pool->config;
	struct pool_segment *segment = segment_slot_free(pool);
	struct far_list *it;
	struct far_list *tmp;
	struct pool_lane *lanes;
	uint32_t idx;
	int rc;

	if (source->base == NULL || source->size_bytes == 0 ||
	    source->size_bytes % config->lane_bytes != 0 ||
	    source->size_bytes > config->segment_bytes)
		return -EINVAL;
	if (segment == NULL || pool->segment_last >= UINT32_MAX - 1 || pool->closing ||
	    pool->capacity_bytes + source->size_bytes > config->capacity_bytes)
		return -E2BIG;
	rc = far_pool_mems_reg(pool, source, segment->mems);
	if (rc < 0)
		return rc;

	idx = segment_idx(pool, segment);
	segment->state = SEGMENT_SERVING;
	segment->is_restored = number != 0;
	segment->number = number != 0 ? number : pool->segment_last + 1;
	if (segment->number > pool->segment_last)
		pool->segment_last = segment->number;
	segment->source = *source;
	segment->lane_count = (uint32_t)(source->size_bytes / config->lane_bytes);
	segment->lanes_retired = 0;
	segment->done = NULL;
	pool->segment_count++;
	pool->capacity_bytes += source->size_bytes;
	/* Every link can read it before the first slot names it. */
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &pool->links)
	{
		far_pool_link_expose(FAR_CONTAINER_OF(it, struct pool_link, node), idx);
	}
	far_pool_index_line_set(pool, idx);
	lanes = far_pool_segment_lanes(pool, idx);
	for (uint32_t i = 0; i < segment->lane_count; i++)
		far_pool_lane_state_set(pool, &lanes[i], LANE_FREE);
	*segment_out = segment->number;
	return 0;
}

int
far_pool_segment_add(struct far_pool *pool, const struct far_mem_source *source,
		     uint32_t *segment_out)
{
	return segment_add(pool, source, 0, segment_out);
}

int
far_pool_segment_restore(struct far_pool *pool, const struct far_mem_source *source,
			 uint32_t number)
{
	uint32_t same;

	/* Once the slots are looked at, a segment is a new one. */
	if (number == 0 || number == UINT32_MAX || pool->recovery == NULL ||
	    segment_find(pool, number) != NULL)
		return -EINVAL;
	return segment_add(pool, source, number, &same);
}

int
far_pool_segment_drain(struct far_pool *pool, uint32_t number, far_pool_drained_fn *done, void *arg)
{
	struct pool_segment *segment = segment_find(pool, number);
	struct pool_lane *lanes;

	if (segment == NULL)
		return -ENOENT;
	if (segment->state != SEGMENT_SERVING || pool->recovery != NULL)
		return -EBUSY;
	segment->state = SEGMENT_EMPTYING;
	segment->done = done;
	segment->done_arg = arg;
	pool->drains++;
	far_pool_merge_leave(pool, segment);
	lanes = far_pool_segment_lanes(pool, segment_idx(pool, segment));
	for (uint32_t i = 0; i < segment->lane_count; i++) {
		if (lanes[i].state == LANE_FREE)
			far_pool_lane_release(pool, &lanes[i]);
		else if (lanes[i].state == LANE_OPEN)
			far_pool_lane_recall(pool, &lanes[i]);
	}
	return 0;
}

/* Empty: no slot names it, no lane of it can be written. Readers are asked to let go of its key. */
static void
segment_recall(struct far_pool *pool, struct pool_segment *segment, uint64_t now_ns)
{
	struct far_frame_segment body = {.segment = segment->number};
	uint32_t idx = segment_idx(pool, segment);
	struct far_list *it;
	struct far_list *tmp;

	segment->state = SEGMENT_LEAVING;
	segment->recalled_ns = now_ns;
	far_pool_index_line_set(pool, idx);
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &pool->links)
	{
		struct pool_link *link = FAR_CONTAINER_OF(it, struct pool_link, node);

		if (link->exposed[idx] && link->state == LINK_WELCOME)
			far_pool_link_send(link, FAR_FRAME_SEGMENT_RECALL, 0, &body, NULL, 0);
	}
}

/* How many links may still hold its key; with @end those that do not answer are closed. */
static uint32_t
segment_holders(struct far_pool *pool, const struct pool_segment *segment, bool end)
{
	uint32_t idx = segment_idx(pool, segment);
	uint32_t count = 0;
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &pool->links)
	{
		struct pool_link *link = FAR_CONTAINER_OF(it, struct pool_link, node);

		if (!link->exposed[idx])
			continue;
		count++;
		if (end && link->state != LINK_ENDING) {
			far_log_warn("link from %s closed: segment %" PRIu32
				     " was asked back and not let go",
				     link->link->peer, segment->number);
			far_pool_link_end(link);
		}
	}
	return count;
}

static void
segment_close(struct far_pool *pool, struct pool_segment *segment)
{
	uint32_t idx = segment_idx(pool, segment);
	struct pool_lane *lanes = far_pool_segment_lanes(pool, idx);
	struct pool_segment old = *segment;

	FAR_MARK("a segment is given back");
	atomic_thread_fence(memory_order_seq_cst);
	far_pool_mems_dereg(segment->mems);
	for (uint32_t i = 0; i < segment->lane_count; i++) {
		FAR_ASSERT(lanes[i].state == LANE_RETIRED);
		far_pool_lane_state_set(pool, &lanes[i], LANE_ABSENT);
	}
	pool->capacity_bytes -= segment->source.size_bytes;
	pool->segment_count--;
	pool->drains--;
	*segment = (struct pool_segment){.state = SEGMENT_ABSENT};
	if (old.done != NULL)
		old.done(old.done_arg, old.number);
}

int
far_pool_segment_let_go(struct far_pool *pool, struct pool_link *link, uint32_t number)
{
	struct pool_segment *segment = segment_find(pool, number);

	if (segment == NULL || segment->state != SEGMENT_LEAVING)
		return -EPROTO;
	link->exposed[segment_idx(pool, segment)] = false;
	return 0;
}

uint64_t
far_pool_segments_tick(struct far_pool *pool, uint64_t now_ns, bool judge)
{
	uint64_t next_ns = FAR_TIME_NEVER;

	if (pool->drains == 0)
		return next_ns;
	for (uint32_t i = 0; i < pool->segment_slots; i++) {
		struct pool_segment *segment = &pool->segments[i];

		if (segment->state == SEGMENT_EMPTYING &&
		    segment->lanes_retired == segment->lane_count)
			segment_recall(pool, segment, now_ns);
		if (segment->state == SEGMENT_LEAVING) {
			uint64_t due_ns = segment->recalled_ns + pool->config.recall_ns;

			if (segment_holders(pool, segment, judge && due_ns <= now_ns) == 0)
				segment_close(pool, segment);
			else if (due_ns > now_ns && due_ns < next_ns)
				next_ns = due_ns; /* later than that the links' ends wake us */
		}
	}
	return next_ns;
}
