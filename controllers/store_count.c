/* store_count.c - what became of blocks and pairs: counters, and events of batches. */
#include "controllers/store_priv.h"

void
far_store_count(struct far_store *ctl, enum store_count what, uint64_t by)
{
	atomic_fetch_add_explicit(&ctl->counts[what], by, memory_order_relaxed);
}

void
far_store_count_pair(struct far_store *ctl, uint32_t adapter, enum pair_count what, uint64_t by)
{
	_Atomic uint64_t *count = &ctl->pair_counts[adapter][what];

	/* One writer: nobody's addition is lost. */
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

void
far_store_tell(struct far_store *ctl, enum far_record_kind kind, int why, int adapter,
	       uint64_t bytes, uint64_t now_ns)
{
	struct far_record like = {
		.at_ns = now_ns,
		.session = ctl->session,
		.kind = (uint16_t)kind,
		.why = (int16_t)why,
		.adapter = (int16_t)adapter,
	};

	far_record_tally_add(&ctl->tally, ctl->config.recorder, &like, bytes);
}

void
far_store_tell_task(struct far_store *ctl, const struct store_task *task, enum far_record_kind kind,
		    int why, uint64_t bytes, uint64_t now_ns)
{
	struct far_record like = {
		.at_ns = now_ns,
		.request_id = task->id,
		.took_ns = now_ns - task->since_ns,
		.session = ctl->session,
		.kind = (uint16_t)kind,
		.why = (int16_t)why,
		.adapter = (int16_t)task->task.l2->idx,
	};

	far_record_tally_add(&ctl->tally, ctl->config.recorder, &like, bytes);
}

static uint64_t
count_get(const struct far_store *ctl, enum store_count what)
{
	return atomic_load_explicit(&ctl->counts[what], memory_order_relaxed);
}

static uint64_t
pair_get(const struct far_store *ctl, uint32_t adapter, enum pair_count what)
{
	return atomic_load_explicit(&ctl->pair_counts[adapter][what], memory_order_relaxed);
}

static uint64_t
pairs_get(const struct far_store *ctl, enum pair_count what)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++)
		sum += pair_get(ctl, i, what);
	return sum;
}

void
far_store_counts_get(const struct far_store *ctl, struct far_store_counts *out)
{
	*out = (struct far_store_counts){
		.blocks_queued = count_get(ctl, COUNT_QUEUED),
		.blocks_by_hits = count_get(ctl, COUNT_BY_HITS),
		.not_admitted = count_get(ctl, COUNT_NOT_ADMITTED),
		.dropped_queue_full = count_get(ctl, COUNT_QUEUE_FULL),
		.refused_closing = count_get(ctl, COUNT_REFUSED_CLOSING),
		.dropped_closing = count_get(ctl, COUNT_DROPPED_CLOSING),
		.dropped_unplaced = count_get(ctl, COUNT_UNPLACED),
		.dropped_gone = count_get(ctl, COUNT_GONE),
		.blocks_placed = count_get(ctl, COUNT_BLOCKS_PLACED),
		.let_go = count_get(ctl, COUNT_LET_GO),
		.policy_invalid = count_get(ctl, COUNT_INVALID),
		.pairs_placed = pairs_get(ctl, PAIR_PLACED),
		.blocks_stored = pairs_get(ctl, PAIR_STORED),
		.bytes_stored = pairs_get(ctl, PAIR_BYTES),
		.blocks_had = pairs_get(ctl, PAIR_HAD),
		.refused_share = pairs_get(ctl, PAIR_REFUSED),
		.failed_donor_down = pairs_get(ctl, PAIR_DOWN),
		.failed_full = pairs_get(ctl, PAIR_FULL),
		.failed_deadline = pairs_get(ctl, PAIR_DEADLINE),
		.failed_closing = pairs_get(ctl, PAIR_CLOSING),
		.failed_drained = pairs_get(ctl, PAIR_DRAINED),
		.failed_other = pairs_get(ctl, PAIR_OTHER),
		.retries = pairs_get(ctl, PAIR_RETRIES),
		.moved = pairs_get(ctl, PAIR_MOVED_OUT),
		.admit_forgotten = far_store_policy_forgotten(ctl->policy),
		.blocks_pending = atomic_load_explicit(&ctl->pending, memory_order_relaxed),
		.bytes_pending = atomic_load_explicit(&ctl->pending_bytes, memory_order_relaxed),
	};
}

void
far_store_adapter_counts_get(const struct far_store *ctl, uint32_t idx,
			     struct far_store_adapter_counts *out)
{
	*out = (struct far_store_adapter_counts){
		.placed = pair_get(ctl, idx, PAIR_PLACED),
		.moved_in = pair_get(ctl, idx, PAIR_MOVED_IN),
		.moved_out = pair_get(ctl, idx, PAIR_MOVED_OUT),
		.stored = pair_get(ctl, idx, PAIR_STORED),
		.bytes_stored = pair_get(ctl, idx, PAIR_BYTES),
		.had = pair_get(ctl, idx, PAIR_HAD),
		.refused = pair_get(ctl, idx, PAIR_REFUSED),
		.failed = pair_get(ctl, idx, PAIR_DOWN) + pair_get(ctl, idx, PAIR_FULL) +
			  pair_get(ctl, idx, PAIR_DEADLINE) + pair_get(ctl, idx, PAIR_CLOSING) +
			  pair_get(ctl, idx, PAIR_DRAINED) + pair_get(ctl, idx, PAIR_OTHER),
		.retries = pair_get(ctl, idx, PAIR_RETRIES),
		.pending = ctl->adapters[idx].pairs,
		.bytes_pending = ctl->adapters[idx].pair_bytes,
		.bytes_in_flight = ctl->adapters[idx].bytes_in_flight,
	};
}
