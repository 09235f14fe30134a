/* eviction.c - the eviction controller: two marks, and steps from the one down to the other. */
#include "controllers/eviction.h"

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/err.h"

struct far_eviction {
	struct far_eviction_config config;
	struct far_l1 *l1; /* borrowed */
	uint64_t high_bytes;
	uint64_t low_bytes;
	bool evicting; /* the high mark was passed, the low one is not reached */
	_Atomic uint64_t rounds;
	_Atomic uint64_t blocks;
	_Atomic uint64_t bytes;
	_Atomic uint64_t starved;
};

/* Written so that what is not a number fails. */
static bool
config_is_valid(const struct far_eviction_config *config)
{
	return config->low >= 0 && config->low < config->high && config->high <= 1 &&
	       config->step_max > 0 && config->period_ns > 0;
}

int
far_eviction_open(const struct far_eviction_config *config, struct far_l1 *l1,
		  struct far_eviction **out)
{
	struct far_l1_usage usage;
	struct far_eviction *ctl;

	FAR_ASSERT(l1 != NULL);
	if (!config_is_valid(config))
		return -EINVAL;
	ctl = far_zalloc(sizeof(*ctl));
	if (ctl == NULL)
		return -ENOMEM;
	far_l1_usage_get(l1, &usage);
	ctl->config = *config;
	ctl->l1 = l1;
	ctl->high_bytes = (uint64_t)(config->high * (double)usage.capacity_bytes);
	ctl->low_bytes = (uint64_t)(config->low * (double)usage.capacity_bytes);
	*out = ctl;
	return 0;
}

static void
count_add(_Atomic uint64_t *counter, uint64_t add)
{
	atomic_fetch_add_explicit(counter, add, memory_order_relaxed);
}

uint64_t
far_eviction_tick(struct far_eviction *ctl, uint64_t now_ns)
{
	uint64_t next_ns = far_time_after(now_ns, ctl->config.period_ns);
	struct far_l1_usage usage;
	uint32_t blocks = 0;
	uint64_t over, freed;

	far_l1_usage_get(ctl->l1, &usage);
	if (!ctl->evicting && usage.used_bytes <= ctl->high_bytes)
		return next_ns;
	count_add(&ctl->rounds, !ctl->evicting);
	/* What was let go by others in between counts, too. */
	ctl->evicting = usage.used_bytes > ctl->low_bytes;
	if (!ctl->evicting)
		return next_ns;
	over = usage.used_bytes - ctl->low_bytes;
	freed = far_l1_evict(ctl->l1, over, ctl->config.step_max, &blocks);
	count_add(&ctl->blocks, blocks);
	count_add(&ctl->bytes, freed);
	if (freed < over && blocks == ctl->config.step_max)
		return now_ns;
	count_add(&ctl->starved, freed < over);
	ctl->evicting = false;
	return next_ns;
}

static uint64_t
count_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void
far_eviction_counts_get(const struct far_eviction *ctl, struct far_eviction_counts *out)
{
	*out = (struct far_eviction_counts){
		.rounds = count_get(&ctl->rounds),
		.blocks = count_get(&ctl->blocks),
		.bytes = count_get(&ctl->bytes),
		.starved = count_get(&ctl->starved),
	};
}

void
far_eviction_close(struct far_eviction *ctl)
{
	far_free(ctl);
}
