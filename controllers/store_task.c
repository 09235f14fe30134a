/* store_task.c - what an adapter is given at once, what became of it, and what is tried again. */
#include "controllers/store_priv.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/err.h"

#define STORE_BACK_OFF_SHIFT_MAX 16

int
far_store_tasks_open(struct far_store *ctl)
{
	uint32_t batch = ctl->config.batch_max;
	uint32_t adapters = ctl->adapters_max;
	uint32_t count = adapters * (adapters <= 16 ? 4 : 2);

	ctl->tasks_max = count;
	ctl->tasks = far_zalloc_array(count, sizeof(*ctl->tasks));
	ctl->items = far_zalloc_array((size_t)count * batch, sizeof(*ctl->items));
	ctl->pieces = far_zalloc_array((size_t)count * batch, sizeof(*ctl->pieces));
	ctl->task_pairs = far_zalloc_array((size_t)count * batch, sizeof(struct store_pair *));
	if (ctl->tasks == NULL || ctl->items == NULL || ctl->pieces == NULL ||
	    ctl->task_pairs == NULL)
		return -ENOMEM;
	for (uint32_t i = count; i > 0; i--) {
		struct store_task *task = &ctl->tasks[i - 1];
		size_t first = (size_t)(i - 1) * batch;

		task->ctl = ctl;
		task->items = &ctl->items[first];
		task->pieces = &ctl->pieces[first];
		task->pairs = &ctl->task_pairs[first];
		task->next = ctl->tasks_free;
		ctl->tasks_free = task;
	}
	for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++) {
		far_list_init(&ctl->adapters[i].ready);
		far_list_init(&ctl->adapters[i].retrying);
	}
	return 0;
}

void
far_store_tasks_close(struct far_store *ctl)
{
	far_free(ctl->task_pairs);
	far_free(ctl->pieces);
	far_free(ctl->items);
	far_free(ctl->tasks);
}

/* ---- pairs ---- */

static void
pair_end(struct far_store *ctl, struct store_pair *pair, uint64_t now_ns)
{
	struct store_adapter *state = &ctl->adapters[pair->adapter];
	struct store_block *block = pair->block;

	far_list_remove(&pair->node);
	state->pairs--;
	state->pair_bytes -= block->size_bytes;
	block->pairs_left--;
	if (block->pairs_left == 0)
		far_store_block_end(ctl, block, now_ns);
}

static enum pair_count
fail_reason(const struct far_store *ctl, const struct store_pair *pair)
{
	switch (pair->rc) {
	case -EHOSTDOWN:
		return PAIR_DOWN;
	case -ENOSPC:
		return PAIR_FULL;
	case -ETIMEDOUT:
		return PAIR_DEADLINE;
	case -ECANCELED:
		if (store_is_closing(ctl))
			return PAIR_CLOSING;
		return store_adapter_is_active(ctl, pair->adapter) ? PAIR_OTHER : PAIR_DRAINED;
	default:
		return PAIR_OTHER;
	}
}

void
far_store_pair_fail(struct far_store *ctl, struct store_pair *pair, uint64_t now_ns)
{
	far_store_count_pair(ctl, pair->adapter, fail_reason(ctl, pair), 1);
	far_store_tell(ctl, FAR_RECORD_STORE_FAILED, pair->rc, (int)pair->adapter,
		       pair->block->size_bytes, now_ns);
	pair->block->is_everywhere = false;
	pair_end(ctl, pair, now_ns);
}

static bool
rc_is_passing(int rc)
{
	return rc == -EHOSTDOWN || rc == -ENOSPC || rc == -ETIMEDOUT || rc == -EIO || rc == -EAGAIN;
}

/* Its adapter was taken out. */
static void
pair_leave(struct far_store *ctl, struct store_pair *pair, uint64_t now_ns)
{
	pair->tries = 0;
	if (far_store_pair_move(ctl, pair, -ECANCELED, now_ns))
		return;
	pair->rc = -ECANCELED;
	far_store_pair_fail(ctl, pair, now_ns);
}

/* Another try after a pause that doubles, another adapter, or the end. */
static void
pair_retry(struct far_store *ctl, struct store_pair *pair, uint64_t now_ns)
{
	struct far_list *retrying = &ctl->adapters[pair->adapter].retrying;
	uint32_t shift = pair->tries - 1;
	struct far_list *at;

	if (!store_is_closing(ctl) && !store_adapter_is_active(ctl, pair->adapter)) {
		pair_leave(ctl, pair, now_ns);
		return;
	}
	if (pair->tries >= ctl->config.tries_max || !rc_is_passing(pair->rc) ||
	    store_is_closing(ctl)) {
		far_store_pair_fail(ctl, pair, now_ns);
		return;
	}
	/* Who stands in for one that is away is asked at once. */
	if (pair->rc == -EHOSTDOWN && far_store_pair_move(ctl, pair, pair->rc, now_ns))
		return;
	if (shift > STORE_BACK_OFF_SHIFT_MAX)
		shift = STORE_BACK_OFF_SHIFT_MAX;
	pair->due_ns = now_ns + (ctl->config.retry_ns << shift);
	far_store_count_pair(ctl, pair->adapter, PAIR_RETRIES, 1);
	far_store_tell(ctl, FAR_RECORD_STORE_RETRIED, pair->rc, (int)pair->adapter,
		       pair->block->size_bytes, now_ns);
	/* Soonest first; it mostly belongs at the end. */
	at = retrying->prev;
	while (at != retrying &&
	       FAR_CONTAINER_OF(at, struct store_pair, node)->due_ns > pair->due_ns)
		at = at->prev;
	far_list_push_front(at, &pair->node);
}

/* ---- tasks ---- */

static void
task_result(struct far_store *ctl, const struct store_task *task, uint32_t at, uint64_t now_ns)
{
	struct store_pair *pair = task->pairs[at];
	uint32_t size_bytes = pair->block->size_bytes;
	int rc = task->items[at].rc;

	pair->rc = rc;
	if (rc != 0 && rc != -EEXIST) {
		pair_retry(ctl, pair, now_ns);
		return;
	}
	far_store_count_pair(ctl, pair->adapter, rc == 0 ? PAIR_STORED : PAIR_HAD, 1);
	if (rc == 0)
		far_store_count_pair(ctl, pair->adapter, PAIR_BYTES, size_bytes);
	far_store_tell_task(ctl, task, FAR_RECORD_STORE_DONE, rc, size_bytes, now_ns);
	pair_end(ctl, pair, now_ns);
}

static void
task_done(struct far_l2_task *l2_task)
{
	struct store_task *task = FAR_CONTAINER_OF(l2_task, struct store_task, task);
	struct far_store *ctl = task->ctl;
	struct store_adapter *state = &ctl->adapters[l2_task->l2->idx];
	uint64_t now_ns = far_clock_now(ctl->clock);

	for (uint32_t i = 0; i < l2_task->count; i++)
		task_result(ctl, task, i, now_ns);
	FAR_ASSERT(state->bytes_in_flight >= task->bytes);
	state->bytes_in_flight -= task->bytes;
	state->tasks_live--;
	state->progress_ns = now_ns;
	ctl->tasks_live--;
	task->next = ctl->tasks_free;
	ctl->tasks_free = task;
	far_store_flush(ctl, now_ns);
}

/* Tasks and bytes in flight are shared out evenly: a stopped store keeps its share, not the rest. */
static bool
task_is_allowed(const struct far_store *ctl, uint32_t adapter)
{
	const struct far_l2 *l2 = ctl->set->items[adapter];
	uint32_t share = ctl->tasks_max / store_adapter_count(ctl);

	if (l2->limits.tasks_max > 0 && share > l2->limits.tasks_max / 4)
		share = l2->limits.tasks_max / 4;
	return ctl->tasks_free != NULL &&
	       ctl->adapters[adapter].tasks_live < (share > 0 ? share : 1);
}

static void
task_take(struct store_task *task, uint32_t at, struct store_pair *pair)
{
	const struct store_block *block = pair->block;

	far_list_remove(&pair->node);
	pair->tries++;
	task->pairs[at] = pair;
	task->bytes += block->size_bytes;
	task->pieces[at] = (struct far_l2_piece){
		.addr = block->addr,
		.size_bytes = block->size_bytes,
	};
	task->items[at] = (struct far_l2_item){
		.key = block->key,
		.size_bytes = block->size_bytes,
		.pieces = &task->pieces[at],
		.piece_count = 1,
	};
}

/* One task of what is ready, as far as the adapter's share of bytes reaches. */
static bool
task_begin(struct far_store *ctl, uint32_t adapter, uint64_t now_ns)
{
	struct store_adapter *state = &ctl->adapters[adapter];
	struct far_l2 *l2 = ctl->set->items[adapter];
	uint64_t share = ctl->config.bytes_in_flight_max / store_adapter_count(ctl);
	uint32_t max = ctl->config.batch_max;
	struct store_task *task = ctl->tasks_free;
	uint32_t count = 0;

	if (far_list_empty(&state->ready) || !task_is_allowed(ctl, adapter))
		return false;
	if (max > l2->limits.items_max)
		max = l2->limits.items_max;
	task->bytes = 0;
	while (count < max && !far_list_empty(&state->ready)) {
		struct store_pair *pair =
			FAR_CONTAINER_OF(state->ready.next, struct store_pair, node);
		uint64_t bytes = state->bytes_in_flight + task->bytes;

		/* A block larger than the share goes alone. */
		if (bytes > 0 && bytes + pair->block->size_bytes > share)
			break;
		task_take(task, count, pair);
		count++;
	}
	if (count == 0)
		return false;
	ctl->tasks_free = task->next;
	task->since_ns = now_ns;
	task->id = ++ctl->task_id;
	task->task = (struct far_l2_task){
		.kind = FAR_L2_STORE,
		.items = task->items,
		.count = count,
		.deadline_ns = now_ns + ctl->config.deadline_ns,
		.done = task_done,
	};
	state->bytes_in_flight += task->bytes;
	state->tasks_live++;
	ctl->tasks_live++;
	far_recorder_add(ctl->config.recorder, &(struct far_record){
						       .at_ns = now_ns,
						       .request_id = task->id,
						       .bytes = task->bytes,
						       .keys = count,
						       .session = ctl->session,
						       .kind = FAR_RECORD_STORE_SUBMITTED,
						       .adapter = (int16_t)adapter,
					       });
	far_l2_submit(l2, &task->task);
	return true;
}

/* When the oldest that is ready has waited in vain for a store that ends nothing; NEVER: nobody waits. */
static uint64_t
ready_until(const struct far_store *ctl, const struct store_adapter *state)
{
	const struct store_pair *pair;
	uint64_t since_ns;

	if (far_list_empty(&state->ready))
		return FAR_TIME_NEVER;
	pair = FAR_CONTAINER_OF(state->ready.next, const struct store_pair, node);
	since_ns = pair->queued_ns > state->progress_ns ? pair->queued_ns : state->progress_ns;
	return since_ns + ctl->config.deadline_ns + 1;
}

/* A pair of the adapter that is in no task, off its list; NULL: none is left. */
static struct store_pair *
waiting_pop(struct far_store *ctl, uint32_t adapter)
{
	struct far_list *node = far_list_pop_front(&ctl->adapters[adapter].ready);

	if (node == NULL)
		node = far_list_pop_front(&ctl->adapters[adapter].retrying);
	return node != NULL ? FAR_CONTAINER_OF(node, struct store_pair, node) : NULL;
}

/* It was taken out: what it was not given yet goes elsewhere. */
static void
adapter_leave(struct far_store *ctl, uint32_t adapter, uint64_t now_ns)
{
	struct store_pair *pair;

	while ((pair = waiting_pop(ctl, adapter)) != NULL)
		pair_leave(ctl, pair, now_ns);
}

uint64_t
far_store_adapter_step(struct far_store *ctl, uint32_t adapter, uint64_t now_ns, bool judge)
{
	struct store_adapter *state = &ctl->adapters[adapter];
	uint64_t next_ns;

	if (!store_adapter_is_active(ctl, adapter)) {
		adapter_leave(ctl, adapter, now_ns);
		return FAR_TIME_NEVER;
	}
	while (!far_list_empty(&state->retrying)) {
		struct store_pair *pair =
			FAR_CONTAINER_OF(state->retrying.next, struct store_pair, node);

		if (pair->due_ns > now_ns)
			break;
		far_list_remove(&pair->node);
		pair->queued_ns = now_ns;
		far_list_push_back(&state->ready, &pair->node);
	}
	while (task_begin(ctl, adapter, now_ns))
		;
	while ((next_ns = ready_until(ctl, state)) <= now_ns && judge) {
		struct store_pair *pair =
			FAR_CONTAINER_OF(state->ready.next, struct store_pair, node);

		pair->rc = -ETIMEDOUT;
		far_store_pair_fail(ctl, pair, now_ns);
	}
	if (!far_list_empty(&state->retrying)) {
		const struct store_pair *pair =
			FAR_CONTAINER_OF(state->retrying.next, const struct store_pair, node);

		if (pair->due_ns < next_ns)
			next_ns = pair->due_ns;
	}
	return next_ns;
}

void
far_store_adapter_drop(struct far_store *ctl, uint32_t adapter, uint64_t now_ns)
{
	struct store_pair *pair;

	while ((pair = waiting_pop(ctl, adapter)) != NULL) {
		if (pair->rc == 0)
			pair->rc = -ECANCELED;
		far_store_pair_fail(ctl, pair, now_ns);
	}
}
