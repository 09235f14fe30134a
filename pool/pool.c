/* pool.c - one namespace of one donor: opened, ticked, shut down; the clockwork of the other files. */
#include "pool/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "pool/pool_priv.h"

/* Time for the BYE to arrive before the links are cut. */
#define BYE_NS (50 * FAR_NS_PER_MS)

static void
pool_free(struct far_pool *pool)
{
	if (pool == NULL)
		return;
	far_pool_segments_close(pool);
	far_pool_index_close(pool);
	far_pool_recover_close(pool);
	far_free(pool->lanes);
	far_free(pool);
}

void
far_pool_mems_dereg(struct far_mem *mems[FAR_RAILS_MAX])
{
	for (uint32_t rail = 0; rail < FAR_RAILS_MAX; rail++) {
		if (mems[rail] != NULL)
			far_transport_mem_dereg(mems[rail]);
		mems[rail] = NULL;
	}
}

int
far_pool_mems_reg(struct far_pool *pool, const struct far_mem_source *source,
		  struct far_mem *out[FAR_RAILS_MAX])
{
	for (uint32_t rail = 0; rail < pool->rail_count; rail++) {
		int rc = far_transport_mem_reg(pool->tps[rail], source, FAR_RIGHT_REMOTE_READ, NULL,
					       &out[rail]);

		if (rc < 0) {
			far_pool_mems_dereg(out);
			return rc;
		}
	}
	return 0;
}

static int
rails_take(struct far_pool *pool, const struct far_pool_rails *rails)
{
	FAR_ASSERT(rails->count > 0);
	FAR_ASSERT(rails->count <= FAR_RAILS_MAX);
	for (uint32_t rail = 0; rail < rails->count; rail++) {
		struct far_transport *tp = rails->tps[rail];

		if ((tp->caps.flags & FAR_CAP_FENCED_WRITES) == 0) {
			far_log_error("transport %s: late writes cannot be fenced: use another one",
				      tp->ops->name);
			return -EINVAL;
		}
		pool->tps[rail] = tp;
	}
	pool->rail_count = rails->count;
	return 0;
}

static int
pool_open(const struct far_pool_config *config, const struct far_pool_rails *rails,
	  const struct far_mem_source *index, bool over, struct far_clock *clock,
	  struct far_rng *rng, struct far_pool_host *host, struct far_pool **out)
{
	char error[FAR_PARAM_ERROR_BYTES];
	struct far_pool *pool;
	int rc;

	rc = far_pool_config_check(config, error);
	if (rc < 0) {
		far_log_error("%s", error);
		return rc;
	}
	pool = far_zalloc(sizeof(*pool));
	if (pool == NULL)
		return -ENOMEM;
	pool->config = *config;
	pool->clock = clock;
	pool->rng = rng;
	pool->host = host;
	pool->opened_ns = far_clock_now(clock);
	far_pool_links_open(pool);
	rc = rails_take(pool, rails);
	if (rc == 0)
		rc = far_pool_segments_open(pool);
	if (rc == 0)
		rc = far_pool_lanes_open(pool);
	if (rc == 0)
		rc = far_pool_index_open(pool, index, over);
	if (rc < 0) {
		pool_free(pool);
		return rc;
	}
	*out = pool;
	return 0;
}

int
far_pool_open(const struct far_pool_config *config, const struct far_pool_rails *rails,
	      const struct far_mem_source *index, struct far_clock *clock, struct far_rng *rng,
	      struct far_pool_host *host, struct far_pool **out)
{
	return pool_open(config, rails, index, false, clock, rng, host, out);
}

int
far_pool_reopen(const struct far_pool_config *config, const struct far_pool_rails *rails,
		const struct far_mem_source *index, struct far_clock *clock, struct far_rng *rng,
		struct far_pool_host *host, struct far_pool **out)
{
	return pool_open(config, rails, index, true, clock, rng, host, out);
}

void
far_pool_growing_set(struct far_pool *pool, bool growing)
{
	pool->growing = growing;
}

bool
far_pool_is_whole(const struct far_pool *pool)
{
	return !pool->growing && pool->recovery == NULL;
}

uint64_t
far_pool_tick(struct far_pool *pool, uint64_t now_ns)
{
	/* Whoever comes late judges nobody before the events that wait were looked at: the next
	 * tick, behind a poll, does. */
	bool judge = !pool->ticked || now_ns <= pool->tick_due_ns + POOL_TICK_NS;
	uint64_t next_ns = now_ns + POOL_TICK_NS;
	uint64_t due_ns;
	bool more;

	due_ns = far_pool_links_tick(pool, now_ns, judge);
	if (due_ns < next_ns)
		next_ns = due_ns;
	due_ns = far_pool_lanes_tick(pool, now_ns, judge);
	if (due_ns < next_ns)
		next_ns = due_ns;
	more = far_pool_recover_step(pool);
	if (pool->recovery == NULL)
		more = far_pool_evict_step(pool, now_ns);
	due_ns = far_pool_segments_tick(pool, now_ns, judge);
	if (due_ns < next_ns)
		next_ns = due_ns;
	if (more || !judge || next_ns < now_ns)
		next_ns = now_ns;
	pool->ticked = true;
	pool->tick_due_ns = next_ns;
	return next_ns;
}

void
far_pool_shutdown(struct far_pool *pool)
{
	uint64_t deadline_ns = far_clock_now(pool->clock) + BYE_NS;
	struct far_list *it;
	struct far_list *tmp;

	if (pool->closing)
		return;
	pool->closing = true;
	far_pool_index_state_set(pool, FAR_INDEX_CLOSING);
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &pool->links)
	{
		struct pool_link *link = FAR_CONTAINER_OF(it, struct pool_link, node);

		if (link->state == LINK_WELCOME)
			far_pool_link_send(link, FAR_FRAME_BYE, 0, NULL, NULL, 0);
		far_pool_link_linger(link, deadline_ns);
	}
}

bool
far_pool_closing_done(const struct far_pool *pool)
{
	return pool->closing && pool->link_count == 0 && pool->drains == 0;
}

void
far_pool_close(struct far_pool *pool)
{
	if (pool == NULL)
		return;
	FAR_ASSERT(far_pool_closing_done(pool));
	FAR_ASSERT(pool->counts[LANE_REGISTERING] == 0);
	FAR_ASSERT(pool->counts[LANE_FENCING] == 0);
	/* Segments before the index: a slot may name bytes that are gone, a read of them fails. */
	pool_free(pool);
}

uint64_t
far_pool_epoch(const struct far_pool *pool)
{
	return pool->live.epoch;
}

void
far_pool_stats_get(const struct far_pool *pool, struct far_pool_stats *out)
{
	uint64_t *values = out->values;

	memcpy(values, pool->stats, sizeof(pool->stats));
	values[FAR_STATUS_capacity_bytes] = pool->capacity_bytes;
	values[FAR_STATUS_free_bytes] = pool->counts[LANE_FREE] * pool->config.lane_bytes;
	values[FAR_STATUS_block_count] = 0;
	values[FAR_STATUS_block_bytes] = 0;
	for (uint32_t i = 0; i < pool->lane_slots; i++) {
		values[FAR_STATUS_block_count] += pool->lanes[i].block_count;
		values[FAR_STATUS_block_bytes] += pool->lanes[i].block_bytes;
	}
	values[FAR_STATUS_slot_count] = pool->layout.set_count * FAR_SET_SLOTS;
	values[FAR_STATUS_segment_count] = pool->segment_count;
	values[FAR_STATUS_lane_count] = pool->lane_slots - pool->counts[LANE_ABSENT];
	values[FAR_STATUS_lanes_open] = pool->counts[LANE_OPEN] + pool->counts[LANE_RECALLED];
	values[FAR_STATUS_lanes_free] = pool->counts[LANE_FREE];
	values[FAR_STATUS_link_count] = pool->link_count;
	values[FAR_STATUS_uptime_ns] = far_clock_now(pool->clock) - pool->opened_ns;
}
