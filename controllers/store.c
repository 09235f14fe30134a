/* store.c - the store controller's front: open, tick, barrier, quiesce. */
#include "controllers/store.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/err.h"
#include "controllers/store_priv.h"

#define STORE_QUEUE_MAX (1U << 20)
#define STORE_BATCH_MAX 4096U
/* There may be so many, where the set has fewer when the controller opens. */
#define STORE_ADAPTERS_MIN 4U
/* Longer times than this are as good as none, and sums of a few do not overflow. */
#define STORE_NS_MAX (3600 * FAR_NS_PER_S)

static bool
config_is_valid(const struct far_store_config *config)
{
	return config->queue_max > 0 && config->queue_max <= STORE_QUEUE_MAX &&
	       config->queue_bytes_max > 0 && config->bytes_in_flight_max > 0 &&
	       config->batch_max > 0 && config->batch_max <= STORE_BATCH_MAX &&
	       config->tries_max > 0 && config->deadline_ns > 0 &&
	       config->adapters_max <= FAR_L2_SET_MAX;
}

static int
open_all(struct far_store *ctl)
{
	struct far_l1_listener listener = {
		.written = far_store_queue_written,
		.arg = ctl,
		.hold_written = true,
	};
	int rc;

	if (ctl->policy->admits->counts_hits) {
		listener.accessed = far_store_queue_accessed;
		listener.prefetched = far_store_queue_prefetched;
	}
	rc = far_store_tasks_open(ctl);
	if (rc == 0)
		rc = far_store_queue_open(ctl);
	if (rc == 0)
		rc = far_l1_session_open(ctl->l1, "store", &ctl->session);
	if (rc < 0)
		return rc;
	listener.session = ctl->session;
	/* Last: from here on it is called. */
	return far_l1_listen(ctl->l1, &listener);
}

int
far_store_open(const struct far_store_config *config, struct far_l1 *l1,
	       const struct far_l2_set *set, const struct far_policy *policy,
	       struct far_clock *clock, void (*wake)(void *arg), void *wake_arg,
	       struct far_store **out)
{
	struct far_store *ctl;
	int rc;

	FAR_ASSERT(l1 != NULL);
	FAR_ASSERT(set != NULL);
	FAR_ASSERT(policy != NULL);
	if (!config_is_valid(config))
		return -EINVAL;
	ctl = far_zalloc(sizeof(*ctl));
	if (ctl == NULL)
		return -ENOMEM;
	ctl->config = *config;
	if (ctl->config.deadline_ns > STORE_NS_MAX)
		ctl->config.deadline_ns = STORE_NS_MAX;
	if (ctl->config.retry_ns > STORE_NS_MAX)
		ctl->config.retry_ns = STORE_NS_MAX;
	ctl->l1 = l1;
	ctl->set = set;
	ctl->policy_default = (struct far_store_policy){
		.admits = &far_store_policy_default,
		.places = &far_store_policy_default,
		.keeps = &far_store_policy_default,
		.placement = policy,
	};
	ctl->policy = config->policy != NULL ? config->policy : &ctl->policy_default;
	ctl->clock = clock;
	ctl->wake = wake;
	ctl->wake_arg = wake_arg;
	ctl->adapters_max = config->adapters_max;
	if (ctl->adapters_max == 0)
		ctl->adapters_max =
			set->count > STORE_ADAPTERS_MIN ? set->count : STORE_ADAPTERS_MIN;
	rc = open_all(ctl);
	if (rc < 0) {
		far_store_close(ctl);
		return rc;
	}
	*out = ctl;
	return 0;
}

void
far_store_close(struct far_store *ctl)
{
	if (ctl == NULL)
		return;
	FAR_ASSERT(far_store_idle(ctl));
	if (ctl->session != 0)
		far_l1_session_close(ctl->l1, ctl->session);
	far_store_queue_close(ctl);
	far_store_tasks_close(ctl);
	far_free(ctl);
}

/* Nothing more is given to adapters: what no adapter has ends here. */
static void
drop_all(struct far_store *ctl, uint64_t now_ns)
{
	struct store_block *block;

	while ((block = far_store_queue_pop(ctl)) != NULL) {
		block->pairs_made = 0;
		block->pairs_left = 0;
		far_store_count(ctl, COUNT_DROPPED_CLOSING, 1);
		far_store_tell(ctl, FAR_RECORD_STORE_DROPPED, -ECANCELED, FAR_RECORD_NO_ADAPTER,
			       block->size_bytes, now_ns);
		far_store_block_end(ctl, block, now_ns);
	}
	for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++)
		far_store_adapter_drop(ctl, i, now_ns);
	far_store_flush(ctl, now_ns);
}

uint64_t
far_store_tick(struct far_store *ctl, uint64_t now_ns)
{
	uint64_t next_ns = FAR_TIME_NEVER;
	struct store_block *block;
	bool judge;

	/* Who comes late himself may not have seen what has ended: he judges the next time. */
	judge = now_ns - ctl->ticked_ns <= ctl->config.deadline_ns / 2;
	ctl->ticked_ns = now_ns;
	if (store_is_closing(ctl)) {
		drop_all(ctl, now_ns);
		return FAR_TIME_NEVER;
	}
	/* Bounded by the number of blocks, less those that others queue meanwhile. */
	for (uint32_t i = 0; i < ctl->config.queue_max; i++) {
		block = far_store_queue_pop(ctl);
		if (block == NULL)
			break;
		far_store_block_place(ctl, block, now_ns);
	}
	FAR_L2_SET_FOR_EACH(ctl->set, i)
	{
		uint64_t at = far_store_adapter_step(ctl, i, now_ns, judge);

		if (at < next_ns)
			next_ns = at;
	}
	far_store_flush(ctl, now_ns);
	return next_ns;
}

void
far_store_quiesce(struct far_store *ctl)
{
	/* Pairs with block_queue(): who has not seen it is counted as pending. */
	atomic_store_explicit(&ctl->closing, true, memory_order_seq_cst);
	drop_all(ctl, far_clock_now(ctl->clock));
}

bool
far_store_idle(const struct far_store *ctl)
{
	return ctl->tasks_live == 0 &&
	       atomic_load_explicit(&ctl->pending, memory_order_seq_cst) == 0;
}

bool
far_store_names(const struct far_store *ctl, uint32_t adapter)
{
	const struct store_adapter *state = &ctl->adapters[adapter];

	return state->pairs > 0 || state->tasks_live > 0;
}
