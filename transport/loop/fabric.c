/* fabric.c - the simulated fabric's time and chance: one heap of timers, one seeded generator. */
#include "transport/loop/loop_priv.h"

#include <string.h>

#include "base/alloc.h"

#define KEYS_START   1
#define ADDRS_START  0x100000000ULL
#define DELAY_NS_MAX (3600 * FAR_NS_PER_S)

static uint64_t
fabric_now(struct far_clock *clock)
{
	return ((const struct far_loop_fabric *)(const void *)clock)->now_ns;
}

int
far_loop_fabric_open(const struct far_loop_config *config, struct far_loop_fabric **out)
{
	struct far_loop_fabric *fabric;

	if (config->latency_ns_max < config->latency_ns_min ||
	    config->latency_ns_max > DELAY_NS_MAX)
		return -EINVAL;
	if (config->late_ns_max > DELAY_NS_MAX)
		return -EINVAL;

	fabric = far_zalloc(sizeof(*fabric));
	if (fabric == NULL)
		return -ENOMEM;
	fabric->clock.now_ns = fabric_now;
	fabric->config = *config;
	if (fabric->config.op_queue_max == 0)
		fabric->config.op_queue_max = LOOP_OP_QUEUE_DEFAULT;
	far_rng_init(&fabric->rng, config->seed);
	far_list_init(&fabric->hosts);
	far_list_init(&fabric->listeners);
	far_list_init(&fabric->cuts);
	fabric->link_next = 1;
	far_loop_keys_repeat(fabric);
	*out = fabric;
	return 0;
}

void
far_loop_fabric_close(struct far_loop_fabric *fabric)
{
	if (fabric == NULL)
		return;
	FAR_ASSERT(far_list_empty(&fabric->hosts));
	FAR_ASSERT(far_list_empty(&fabric->listeners));
	FAR_ASSERT(fabric->timer_count == 0);
	far_loop_cuts_free(fabric);
	far_free(fabric->heap);
	far_free(fabric);
}

struct far_clock *
far_loop_clock(struct far_loop_fabric *fabric)
{
	return &fabric->clock;
}

void
far_loop_keys_repeat(struct far_loop_fabric *fabric)
{
	fabric->key_next = KEYS_START;
	fabric->addr_next = ADDRS_START;
}

void
far_loop_counts_get(const struct far_loop_fabric *fabric, struct far_loop_counts *out)
{
	*out = fabric->counts;
}

/* ---- timers: a binary heap, earliest first; equal times in the order of setting ---- */

static bool
timer_before(const struct loop_timer *a, const struct loop_timer *b)
{
	if (a->at_ns != b->at_ns)
		return a->at_ns < b->at_ns;
	return a->seq < b->seq;
}

static void
heap_put(struct far_loop_fabric *fabric, size_t idx, struct loop_timer *timer)
{
	fabric->heap[idx] = timer;
	timer->heap_idx = idx;
}

static void
heap_sift_up(struct far_loop_fabric *fabric, struct loop_timer *timer)
{
	size_t idx = timer->heap_idx;

	while (idx > 1 && timer_before(timer, fabric->heap[idx / 2])) {
		heap_put(fabric, idx, fabric->heap[idx / 2]);
		idx /= 2;
	}
	heap_put(fabric, idx, timer);
}

static void
heap_sift_down(struct far_loop_fabric *fabric, struct loop_timer *timer)
{
	size_t idx = timer->heap_idx;

	for (;;) {
		size_t child = idx * 2;

		if (child > fabric->timer_count)
			break;
		if (child < fabric->timer_count &&
		    timer_before(fabric->heap[child + 1], fabric->heap[child]))
			child++;
		if (!timer_before(fabric->heap[child], timer))
			break;
		heap_put(fabric, idx, fabric->heap[child]);
		idx = child;
	}
	heap_put(fabric, idx, timer);
}

void
far_loop_timer_set(struct far_loop_fabric *fabric, struct loop_timer *timer, uint64_t at_ns)
{
	FAR_ASSERT(timer->fire != NULL);
	FAR_ASSERT(timer->heap_idx == 0);
	FAR_ASSERT(fabric->timer_count < fabric->timer_reserved);
	timer->at_ns = at_ns;
	timer->seq = fabric->timer_seq++;
	heap_put(fabric, ++fabric->timer_count, timer);
	heap_sift_up(fabric, timer);
}

void
far_loop_timer_cancel(struct far_loop_fabric *fabric, struct loop_timer *timer)
{
	size_t idx = timer->heap_idx;
	struct loop_timer *last;

	if (idx == 0)
		return;
	timer->heap_idx = 0;
	last = fabric->heap[fabric->timer_count--];
	if (last == timer)
		return;
	heap_put(fabric, idx, last);
	heap_sift_up(fabric, last);
	heap_sift_down(fabric, last);
}

int
far_loop_timers_reserve(struct far_loop_fabric *fabric, size_t count)
{
	size_t want = fabric->timer_reserved + count;
	struct loop_timer **heap;

	if (want >= fabric->timer_max) {
		heap = far_zalloc_array(want * 2 + 1, sizeof(struct loop_timer *));
		if (heap == NULL)
			return -ENOMEM;
		if (fabric->heap != NULL)
			memcpy(heap, fabric->heap,
			       (fabric->timer_count + 1) * sizeof(struct loop_timer *));
		far_free(fabric->heap);
		fabric->heap = heap;
		fabric->timer_max = want * 2 + 1;
	}
	fabric->timer_reserved = want;
	return 0;
}

void
far_loop_timers_release(struct far_loop_fabric *fabric, size_t count)
{
	FAR_ASSERT(fabric->timer_reserved >= count);
	fabric->timer_reserved -= count;
}

bool
far_loop_step(struct far_loop_fabric *fabric, uint64_t until_ns)
{
	struct loop_timer *timer = fabric->timer_count > 0 ? fabric->heap[1] : NULL;

	/* One thing at a time, also among those of one moment: a test can look in between. */
	if (timer != NULL && timer->at_ns <= until_ns) {
		if (timer->at_ns > fabric->now_ns)
			fabric->now_ns = timer->at_ns;
		far_loop_timer_cancel(fabric, timer);
		timer->fire(timer);
		return true;
	}
	if (until_ns != FAR_TIME_NEVER && until_ns > fabric->now_ns)
		fabric->now_ns = until_ns;
	return false;
}

/* ---- chance ---- */

uint64_t
far_loop_arrival(struct far_loop_fabric *fabric)
{
	uint64_t spread = fabric->config.latency_ns_max - fabric->config.latency_ns_min;
	uint64_t latency = fabric->config.latency_ns_min;

	if (spread > 0)
		latency += far_rng_below(&fabric->rng, spread + 1);
	return fabric->now_ns + latency;
}

bool
far_loop_chance(struct far_loop_fabric *fabric, uint32_t chance)
{
	/* What is off draws nothing. */
	if (chance == 0)
		return false;
	return far_rng_below(&fabric->rng, 65536) < chance;
}

struct loop_listener *
far_loop_listener_find(struct far_loop_fabric *fabric, const char *address)
{
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &fabric->listeners)
	{
		struct loop_listener *listener = FAR_CONTAINER_OF(it, struct loop_listener, node);

		if (!listener->host->dead && strcmp(listener->address, address) == 0)
			return listener;
	}
	return NULL;
}
