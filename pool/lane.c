/* lane.c - lanes: granted, ended, fenced, sealed, rested, free again. */
#include "pool/pool_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/mark.h"
#include "base/mutant.h"

/* A link that was answered LANE_FULL and asks again within this time keeps its place. */
#define WAITS_NS FAR_NS_PER_S

int
far_pool_lanes_open(struct far_pool *pool)
{
	for (int state = 0; state < LANE_STATE_COUNT; state++)
		far_list_init(&pool->lists[state]);
	pool->lanes = far_zalloc_array(pool->lane_slots, sizeof(*pool->lanes));
	if (pool->lanes == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < pool->lane_slots; i++) {
		struct pool_lane *lane = &pool->lanes[i];

		far_list_init(&lane->link_node);
		lane->first = POOL_NONE;
		lane->last = POOL_NONE;
		lane->state = LANE_ABSENT;
		far_list_push_back(&pool->lists[LANE_ABSENT], &lane->node);
		pool->counts[LANE_ABSENT]++;
	}
	return 0;
}

void
far_pool_lane_state_set(struct far_pool *pool, struct pool_lane *lane, enum pool_lane_state state)
{
	FAR_ASSERT(pool->counts[lane->state] > 0);
	pool->counts[lane->state]--;
	pool->counts[state]++;
	lane->state = state;
	far_list_remove(&lane->node);
	far_list_push_back(&pool->lists[state], &lane->node);
}

uint32_t
far_pool_lane_idx(const struct far_pool *pool, const struct pool_lane *lane)
{
	return (uint32_t)(lane - pool->lanes);
}

struct pool_segment *
far_pool_lane_segment(const struct far_pool *pool, const struct pool_lane *lane)
{
	return &pool->segments[far_pool_lane_idx(pool, lane) / pool->lanes_per_segment];
}

uint64_t
far_pool_lane_offset(const struct far_pool *pool, const struct pool_lane *lane)
{
	return far_pool_lane_idx(pool, lane) % pool->lanes_per_segment * pool->config.lane_bytes;
}

uint32_t
far_pool_lanes_open_max(const struct far_pool *pool)
{
	uint32_t all = pool->lane_slots - pool->counts[LANE_ABSENT];

	if (pool->config.lanes_open_max != 0)
		return (uint32_t)pool->config.lanes_open_max;
	return all >= 2 ? all / 2 : 1;
}

/* ---- the way back: fenced, sealed, rested ---- */

static void
lane_rest(struct far_pool *pool, struct pool_lane *lane)
{
	FAR_ASSERT(lane->block_count == 0);
	FAR_ASSERT(lane->mem == NULL);
	/* The slots that named its extents are cleared or point elsewhere: visibly, before any byte of
	 * it can change. Pairs with the readers' validating READ. */
	atomic_thread_fence(memory_order_seq_cst);
	lane->since_ns = far_clock_now(pool->clock);
	far_pool_lane_state_set(pool, lane, LANE_RESTING);
}

void
far_pool_lane_release(struct far_pool *pool, struct pool_lane *lane)
{
	struct pool_segment *segment = far_pool_lane_segment(pool, lane);

	FAR_ASSERT(lane->block_count == 0);
	FAR_ASSERT(lane->heat == 0);
	FAR_ASSERT(lane->mem == NULL);
	FAR_ASSERT(lane->link == NULL);
	lane->fill_bytes = 0;
	lane->passed = 0;
	if (segment->state == SEGMENT_SERVING) {
		far_pool_lane_state_set(pool, lane, LANE_FREE);
	} else {
		segment->lanes_retired++;
		far_pool_lane_state_set(pool, lane, LANE_RETIRED);
	}
}

void
far_pool_lane_emptied(struct far_pool *pool, struct pool_lane *lane)
{
	if (lane->state == LANE_SEALED)
		lane_rest(pool, lane);
}

void
far_pool_lane_fenced(struct far_pool *pool, struct pool_lane *lane)
{
	FAR_ASSERT(lane->state == LANE_FENCING);
	FAR_ASSERT(lane->mem == NULL);
	far_list_remove(&lane->link_node);
	lane->link = NULL;
	if (lane->block_count > 0)
		far_pool_lane_state_set(pool, lane, LANE_SEALED);
	else if (lane->fill_bytes > 0)
		lane_rest(pool, lane); /* slots may have named it for a while */
	else
		far_pool_lane_release(pool, lane);
}

void
far_pool_lane_deregistered(struct far_pool *pool, uint32_t lane_idx)
{
	struct pool_lane *lane = &pool->lanes[lane_idx];
	struct pool_link *link = lane->link;

	FAR_ASSERT(lane_idx < pool->lane_slots);
	FAR_ASSERT(lane->state == LANE_FENCING);
	FAR_ASSERT(link->fences_waiting > 0);
	lane->mem = NULL;
	link->fences_waiting--;
	/* A dying link may still have a queue pair: its lanes wait for FAR_EV_CLOSED as well. */
	if (link->state == LINK_ENDING)
		far_pool_link_settle(link);
	else
		far_pool_lane_fenced(pool, lane);
}

static void
lane_fence(struct far_pool *pool, struct pool_lane *lane)
{
	struct pool_link *link = lane->link;
	uint32_t lane_idx = far_pool_lane_idx(pool, lane);

	FAR_ASSERT(link->lane_count > 0);
	link->lane_count--;
	link->fences_waiting++;
	far_pool_lane_state_set(pool, lane, LANE_FENCING);
	if (pool->host != NULL && pool->host->lane_deregister != NULL && lane->mem != NULL) {
		pool->host->lane_deregister(pool->host, pool, lane_idx, lane->mem);
		return;
	}
	if (lane->mem != NULL)
		far_transport_mem_dereg(lane->mem);
	far_pool_lane_deregistered(pool, lane_idx);
}

void
far_pool_lane_end(struct far_pool *pool, struct pool_lane *lane)
{
	FAR_ASSERT(lane->state == LANE_OPEN || lane->state == LANE_RECALLED);
	lane_fence(pool, lane);
}

/* ---- granting ---- */

static bool
link_waits(const struct pool_link *link, uint64_t now_ns)
{
	return link->waits_ns != 0 && now_ns - link->asked_ns <= WAITS_NS &&
	       link->state == LINK_WELCOME;
}

/* Who else wants a lane, seen from one link. */
struct rivals {
	uint32_t ahead;   /* other links that wait longer than this one */
	uint32_t sharers; /* links that hold lanes or wait for one, this link included */
};

static struct rivals
rivals_count(const struct far_pool *pool, const struct pool_link *link, uint64_t now_ns)
{
	struct rivals rivals = {.sharers = 1};
	uint64_t since_ns = link->waits_ns != 0 ? link->waits_ns : now_ns;
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &pool->links)
	{
		const struct pool_link *other = FAR_CONTAINER_OF(it, struct pool_link, node);

		if (other == link)
			continue;
		if (link_waits(other, now_ns)) {
			rivals.ahead += other->waits_ns < since_ns;
			rivals.sharers++;
		} else if (other->lane_count > 0) {
			rivals.sharers++;
		}
	}
	return rivals;
}

/* Asks for one lane of another link: one that rests, or one of somebody who holds many. */
static void
idle_lane_recall(struct far_pool *pool, const struct pool_link *asker, uint32_t share,
		 uint64_t now_ns)
{
	struct far_list *it;
	struct far_list *tmp;

	if (pool->counts[LANE_RECALLED] > 0)
		return; /* one is on its way back */
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &pool->lists[LANE_OPEN])
	{
		struct pool_lane *lane = FAR_CONTAINER_OF(it, struct pool_lane, node);
		bool idle = now_ns - lane->since_ns >= pool->config.lane_idle_ns / 8;

		if (lane->link != asker && (idle || lane->link->lane_count > share)) {
			far_pool_lane_recall(pool, lane);
			return;
		}
	}
}

/* Whether the link may have one more lane now; if not, it keeps its place for a while. */
static bool
lane_can_be_had(struct far_pool *pool, struct pool_link *link, uint64_t now_ns)
{
	uint32_t open = pool->counts[LANE_REGISTERING] + pool->counts[LANE_OPEN] +
			pool->counts[LANE_RECALLED];
	uint32_t open_max = far_pool_lanes_open_max(pool);
	uint32_t left = open < open_max ? open_max - open : 0;
	uint32_t free_count = pool->counts[LANE_FREE];
	struct rivals rivals;
	uint32_t share;

	if (!link_waits(link, now_ns))
		link->waits_ns = 0;
	/* Once for each lane, however often it is asked for until it comes. */
	if (link->waits_ns == 0)
		far_pool_demand_note(pool, now_ns);
	link->asked_ns = now_ns;
	rivals = rivals_count(pool, link, now_ns);
	share = open_max / rivals.sharers;
	if (share == 0)
		share = 1;
	if (left > rivals.ahead && free_count > rivals.ahead) {
		link->waits_ns = 0;
		return true;
	}
	if (link->waits_ns == 0)
		link->waits_ns = now_ns;
	if (left <= rivals.ahead || pool->counts[LANE_SEALED] + pool->counts[LANE_RESTING] == 0)
		idle_lane_recall(pool, link, share, now_ns);
	return false;
}

static void
lane_refuse(struct far_pool *pool, struct pool_link *link, uint64_t tag)
{
	pool->stats[FAR_STATUS_grants_full]++;
	far_pool_link_send(link, FAR_FRAME_LANE_FULL, tag, NULL, NULL, 0);
}

static void
lane_grant(struct far_pool *pool, struct pool_lane *lane)
{
	struct far_frame_lane_grant grant = {
		.segment = far_pool_lane_segment(pool, lane)->number,
		.offset_bytes = far_pool_lane_offset(pool, lane),
		.size_bytes = pool->config.lane_bytes,
		.write_addr = lane->mem->remote.addr,
	};

	lane->serial = ++pool->serial_last << POOL_SERIAL_BITS | far_pool_lane_idx(pool, lane);
	lane->since_ns = far_clock_now(pool->clock);
	grant.serial = lane->serial;
	for (size_t i = 0; i < sizeof(grant.write_rkey); i++)
		grant.write_rkey[i] = lane->mem->remote.rkey.bytes[i];
	far_pool_lane_state_set(pool, lane, LANE_OPEN);
	far_pool_link_send(lane->link, FAR_FRAME_LANE_GRANT, lane->tag, &grant, NULL, 0);
}

void
far_pool_lane_registered(struct far_pool *pool, uint32_t lane_idx, int rc, struct far_mem *mem)
{
	struct pool_lane *lane = &pool->lanes[lane_idx];
	struct pool_link *link = lane->link;

	FAR_ASSERT(lane_idx < pool->lane_slots);
	FAR_ASSERT(lane->state == LANE_REGISTERING);
	FAR_ASSERT((rc == 0) == (mem != NULL));
	lane->mem = mem;
	if (rc < 0)
		far_log_warn("lane %" PRIu32 " refused: no registration: %s (%d)", lane_idx,
			     far_err_text(rc), rc);
	if (rc == 0 && link->state == LINK_WELCOME && !pool->closing &&
	    far_pool_lane_segment(pool, lane)->state == SEGMENT_SERVING &&
	    far_transport_mem_expose(mem, link->link) == 0) {
		lane_grant(pool, lane);
		return;
	}
	/* Its link is on the way out, or the lane is: whoever still waits asks again. */
	if (link->state == LINK_WELCOME)
		lane_refuse(pool, link, lane->tag);
	lane_fence(pool, lane);
}

static void
lane_register(struct far_pool *pool, struct pool_lane *lane, struct pool_link *link, uint64_t tag)
{
	const struct pool_segment *segment = far_pool_lane_segment(pool, lane);
	uint64_t offset_bytes = far_pool_lane_offset(pool, lane);
	uint32_t lane_idx = far_pool_lane_idx(pool, lane);
	struct far_mem_source source = segment->source;
	struct far_mem *mem = NULL;
	int rc;

	FAR_ASSERT(lane->state == LANE_FREE);
	FAR_ASSERT(lane->block_count == 0);
	lane->link = link;
	lane->tag = tag;
	link->lane_count++;
	far_list_push_back(&link->lanes, &lane->link_node);
	far_pool_lane_state_set(pool, lane, LANE_REGISTERING);

	source.base = (char *)source.base + offset_bytes;
	source.size_bytes = pool->config.lane_bytes;
	source.fd_offset += offset_bytes;
	if (pool->host != NULL && pool->host->lane_register != NULL) {
		pool->host->lane_register(pool->host, pool, lane_idx, &source, link->link);
		return;
	}
	rc = far_transport_mem_reg(link->link->tp, &source, FAR_RIGHT_REMOTE_WRITE, link->link,
				   &mem);
	far_pool_lane_registered(pool, lane_idx, rc, mem);
}

void
far_pool_lanes_ask(struct far_pool *pool, struct pool_link *link, uint32_t count, uint64_t tag)
{
	uint64_t now_ns = far_clock_now(pool->clock);

	for (uint32_t i = 0; i < count && link->state == LINK_WELCOME; i++) {
		struct far_list *free_list = &pool->lists[LANE_FREE];

		if ((pool->recovery == NULL || FAR_MUTANT(LANE_BEFORE_SWEEP)) &&
		    lane_can_be_had(pool, link, now_ns))
			lane_register(pool,
				      FAR_CONTAINER_OF(free_list->next, struct pool_lane, node),
				      link, tag);
		else
			lane_refuse(pool, link, tag);
	}
}

/* ---- asked back ---- */

struct pool_lane *
far_pool_lane_find(struct far_pool *pool, const struct pool_link *link, uint64_t serial)
{
	uint32_t lane_idx = (uint32_t)(serial & (POOL_LANES_MAX - 1));
	struct pool_lane *lane;

	if (lane_idx >= pool->lane_slots)
		return NULL;
	lane = &pool->lanes[lane_idx];
	if (lane->state != LANE_OPEN && lane->state != LANE_RECALLED)
		return NULL;
	return lane->link == link && lane->serial == serial ? lane : NULL;
}

void
far_pool_lane_recall(struct far_pool *pool, struct pool_lane *lane)
{
	struct far_frame_lane body = {.serial = lane->serial};

	FAR_ASSERT(lane->state == LANE_OPEN);
	lane->since_ns = far_clock_now(pool->clock);
	far_pool_lane_state_set(pool, lane, LANE_RECALLED);
	pool->stats[FAR_STATUS_lanes_recalled]++;
	FAR_MARK("a lane is asked back");
	far_pool_link_send(lane->link, FAR_FRAME_LANE_RECALL, 0, &body, NULL, 0);
}

static struct pool_lane *
lane_front(const struct far_pool *pool, enum pool_lane_state state)
{
	const struct far_list *list = &pool->lists[state];

	return far_list_empty(list) ? NULL : FAR_CONTAINER_OF(list->next, struct pool_lane, node);
}

static uint64_t
earlier(uint64_t a_ns, uint64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

uint64_t
far_pool_lanes_tick(struct far_pool *pool, uint64_t now_ns, bool judge)
{
	const struct far_pool_config *config = &pool->config;
	uint64_t next_ns = FAR_TIME_NEVER;
	struct pool_lane *lane;

	while ((lane = lane_front(pool, LANE_RESTING)) != NULL &&
	       lane->since_ns + config->grace_ns <= now_ns)
		far_pool_lane_release(pool, lane);
	if (lane != NULL)
		next_ns = earlier(next_ns, lane->since_ns + config->grace_ns);

	while (judge && (lane = lane_front(pool, LANE_RECALLED)) != NULL &&
	       lane->since_ns + config->recall_ns <= now_ns) {
		FAR_MARK("a lane that was asked back was not ended in time");
		far_log_warn("link from %s closed: a lane was asked back and not ended",
			     lane->link->link->peer);
		far_pool_link_end(lane->link);
	}
	while ((lane = lane_front(pool, LANE_OPEN)) != NULL &&
	       lane->since_ns + config->lane_idle_ns <= now_ns)
		far_pool_lane_recall(pool, lane);
	if (lane != NULL)
		next_ns = earlier(next_ns, lane->since_ns + config->lane_idle_ns);
	lane = lane_front(pool, LANE_RECALLED);
	if (lane != NULL)
		next_ns = earlier(next_ns, lane->since_ns + config->recall_ns);
	return next_ns;
}
