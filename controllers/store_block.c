/* store_block.c - one block: which adapters get it, its loan, and whether L1 keeps it afterwards. */
#include "controllers/store_priv.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"

/* ---- pairs are made, and move ---- */

/* A store that takes nothing leaves a quarter of the queue to the others. */
static bool
pair_is_allowed(const struct far_store *ctl, uint32_t adapter, uint32_t size_bytes)
{
	const struct store_adapter *state = &ctl->adapters[adapter];
	uint64_t bytes_max = ctl->config.queue_bytes_max - ctl->config.queue_bytes_max / 4;

	if (store_adapter_count(ctl) == 1 || state->pairs == 0)
		return true;
	return state->pairs < ctl->config.queue_max - ctl->config.queue_max / 4 &&
	       state->pair_bytes + size_bytes <= bytes_max;
}

/* One that is new at its position finds nothing of the one before it. */
static void
adapter_meet(struct far_store *ctl, uint32_t adapter)
{
	struct store_adapter *state = &ctl->adapters[adapter];

	FAR_ASSERT(store_adapter_is_active(ctl, adapter));
	if (state->generation == ctl->set->generations[adapter])
		return;
	FAR_ASSERT(!far_store_names(ctl, adapter));
	state->progress_ns = 0;
	state->generation = ctl->set->generations[adapter];
}

static void
pair_ready(struct far_store *ctl, struct store_pair *pair, uint32_t adapter, uint64_t now_ns)
{
	struct store_adapter *state = &ctl->adapters[adapter];

	pair->adapter = adapter;
	pair->rc = 0;
	pair->queued_ns = now_ns;
	state->pairs++;
	state->pair_bytes += pair->block->size_bytes;
	far_list_push_back(&state->ready, &pair->node);
}

static bool
block_has_pair(const struct store_block *block, uint32_t adapter)
{
	for (uint32_t i = 0; i < block->pairs_made; i++) {
		if (block->pairs[i].adapter == adapter)
			return true;
	}
	return false;
}

bool
far_store_pair_move(struct far_store *ctl, struct store_pair *pair, int why, uint64_t now_ns)
{
	struct store_adapter *from = &ctl->adapters[pair->adapter];
	struct store_block *block = pair->block;
	uint32_t idx[FAR_L2_SET_MAX];
	uint32_t count = 0;

	if (!store_is_closing(ctl))
		count = ctl->policy->places->place(ctl->policy, ctl->set, &block->key, idx,
						   FAR_L2_SET_MAX);
	for (uint32_t i = 0; i < count && i < FAR_L2_SET_MAX; i++) {
		if (!store_adapter_is_active(ctl, idx[i]) || block_has_pair(block, idx[i]) ||
		    !pair_is_allowed(ctl, idx[i], block->size_bytes))
			continue;
		/* From one that takes no blocks to another: its tries would be over at once. */
		if (why == -EHOSTDOWN && ctl->set->items[idx[i]]->away)
			continue;
		adapter_meet(ctl, idx[i]);
		from->pairs--;
		from->pair_bytes -= block->size_bytes;
		far_store_count_pair(ctl, pair->adapter, PAIR_MOVED_OUT, 1);
		far_store_count_pair(ctl, idx[i], PAIR_MOVED_IN, 1);
		far_store_tell(ctl, FAR_RECORD_STORE_MOVED, why, (int)idx[i], block->size_bytes,
			       now_ns);
		pair_ready(ctl, pair, idx[i], now_ns);
		return true;
	}
	return false;
}

/* A policy is code of others: what it names is looked at, and it is told of once. */
static void
invalid_count(struct far_store *ctl, struct store_block *block, uint32_t idx, uint64_t now_ns)
{
	far_store_count(ctl, COUNT_INVALID, 1);
	far_store_tell(ctl, FAR_RECORD_STORE_REFUSED, -EINVAL, FAR_RECORD_NO_ADAPTER,
		       block->size_bytes, now_ns);
	block->is_everywhere = false;
	if (ctl->is_warned)
		return;
	ctl->is_warned = true;
	far_log_warn("store policy %s names adapter %u, which is none of %u or named twice: "
		     "skipped and counted",
		     ctl->policy->places->name, idx, ctl->set->count);
}

/* False: the adapter's share of the queue is full. */
static bool
pair_make(struct far_store *ctl, struct store_block *block, uint32_t adapter, uint64_t now_ns)
{
	struct store_pair *pair = &block->pairs[block->pairs_made];

	adapter_meet(ctl, adapter);
	far_store_count_pair(ctl, adapter, PAIR_PLACED, 1);
	if (block->pairs_made == ctl->adapters_max ||
	    !pair_is_allowed(ctl, adapter, block->size_bytes)) {
		far_store_count_pair(ctl, adapter, PAIR_REFUSED, 1);
		far_store_tell(ctl, FAR_RECORD_STORE_REFUSED, -EAGAIN, (int)adapter,
			       block->size_bytes, now_ns);
		return false;
	}
	pair->block = block;
	pair->tries = 0;
	pair_ready(ctl, pair, adapter, now_ns);
	block->pairs_made++;
	block->pairs_left++;
	return true;
}

/* Admitted by a hit: it is read-locked now, if it is still there and still wanted. */
static bool
block_lock(struct far_store *ctl, struct store_block *block, uint64_t now_ns)
{
	struct far_l1_grant grant = {.rc = -ENOENT};

	if (block->loan != 0)
		return true;
	if (ctl->policy->admits->confirm(ctl->policy, &block->key))
		(void)far_l1_reserve_read(ctl->l1, ctl->session, &block->key, NULL, 1, 1, &grant);
	if (grant.rc < 0) {
		far_store_count(ctl, COUNT_GONE, 1);
		far_store_tell(ctl, FAR_RECORD_STORE_DROPPED, -ENOENT, FAR_RECORD_NO_ADAPTER,
			       block->size_bytes, now_ns);
		return false;
	}
	/* Another block may have got the key since: other bytes are pending then. */
	atomic_fetch_add_explicit(&ctl->pending_bytes,
				  (uint64_t)grant.size_bytes - block->size_bytes,
				  memory_order_relaxed);
	block->loan = grant.loan;
	block->addr = grant.addr;
	block->size_bytes = grant.size_bytes;
	return true;
}

void
far_store_block_place(struct far_store *ctl, struct store_block *block, uint64_t now_ns)
{
	uint32_t idx[FAR_L2_SET_MAX];
	uint64_t named = 0;
	uint32_t count;

	block->pairs_made = 0;
	block->pairs_left = 0;
	block->is_everywhere = true;
	if (!block_lock(ctl, block, now_ns)) {
		far_store_block_end(ctl, block, now_ns);
		return;
	}
	count = ctl->policy->places->place(ctl->policy, ctl->set, &block->key, idx, FAR_L2_SET_MAX);
	for (uint32_t i = 0; i < count && i < FAR_L2_SET_MAX; i++) {
		if (!store_adapter_is_active(ctl, idx[i]) || (named >> idx[i] & 1) != 0) {
			invalid_count(ctl, block, idx[i], now_ns);
			continue;
		}
		named |= 1ULL << idx[i];
		if (!pair_make(ctl, block, idx[i], now_ns))
			block->is_everywhere = false;
	}
	if (named != 0) {
		far_store_count(ctl, COUNT_BLOCKS_PLACED, 1);
	} else {
		far_store_count(ctl, COUNT_UNPLACED, 1);
		far_store_tell(ctl, FAR_RECORD_STORE_DROPPED, -ENODEV, FAR_RECORD_NO_ADAPTER,
			       block->size_bytes, now_ns);
	}
	if (block->pairs_left == 0)
		far_store_block_end(ctl, block, now_ns);
}

/* ---- the end of blocks ---- */

static bool
block_is_kept(const struct far_store *ctl, const struct store_block *block)
{
	return block->pairs_made == 0 || !block->is_everywhere ||
	       ctl->policy->keeps->keep(ctl->policy, &block->key);
}

/* By policy L1 does not keep them: they go with their last reader, which may be us. */
static void
blocks_let_go(struct far_store *ctl, uint64_t now_ns)
{
	uint64_t loans[STORE_ENDED_MAX];
	int rcs[STORE_ENDED_MAX];
	size_t count = 0;

	for (uint32_t i = 0; i < ctl->ended_count; i++) {
		const struct store_block *block = ctl->ended[i];

		if (block_is_kept(ctl, block))
			continue;
		loans[count++] = block->loan;
		far_store_count(ctl, COUNT_LET_GO, 1);
		far_store_tell(ctl, FAR_RECORD_STORE_LET_GO, 0, FAR_RECORD_NO_ADAPTER,
			       block->size_bytes, now_ns);
	}
	/* What was deleted by force meanwhile is gone anyway. */
	if (count > 0)
		(void)far_l1_let_go(ctl->l1, ctl->session, loans, count, rcs);
}

static void
ended_flush(struct far_store *ctl, uint64_t now_ns)
{
	uint64_t loans[STORE_ENDED_MAX];
	int rcs[STORE_ENDED_MAX];
	size_t count = 0;

	blocks_let_go(ctl, now_ns);
	for (uint32_t i = 0; i < ctl->ended_count; i++) {
		if (ctl->ended[i]->loan != 0)
			loans[count++] = ctl->ended[i]->loan;
	}
	if (count > 0)
		(void)far_l1_finish_read(ctl->l1, ctl->session, loans, count, 1, rcs);
	for (size_t i = 0; i < count; i++)
		FAR_ASSERT(rcs[i] == 0);
	for (uint32_t i = 0; i < ctl->ended_count; i++)
		far_store_queue_free(ctl, ctl->ended[i]);
	ctl->ended_count = 0;
}

void
far_store_block_end(struct far_store *ctl, struct store_block *block, uint64_t now_ns)
{
	FAR_ASSERT(block->pairs_left == 0);
	ctl->ended[ctl->ended_count++] = block;
	if (ctl->ended_count == STORE_ENDED_MAX)
		ended_flush(ctl, now_ns);
}

void
far_store_flush(struct far_store *ctl, uint64_t now_ns)
{
	if (ctl->ended_count > 0)
		ended_flush(ctl, now_ns);
	far_record_tally_flush(&ctl->tally, ctl->config.recorder);
}
