/* prefetch_task.c - loads are planned and get buffers, the adapters' load tasks, and the flip when they end. */
#include "controllers/prefetch_key.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mutant.h"

/* ---- the budget of bytes in flight ---- */

/* What is left of the budget for one adapter. */
struct budget {
	bool alone;       /* there is no other adapter */
	uint32_t adapter; /* UINT32_MAX: find it out anew */
	uint64_t left_bytes;
};

static uint64_t
bytes_left(uint64_t used, uint64_t max)
{
	return used < max ? max - used : 0;
}

/* One store that does not end its loads leaves a quarter of the budget to the others. A block larger
 * than the budget goes alone. */
static void
budget_find(const struct far_prefetch *ctl, struct budget *budget, uint32_t adapter)
{
	uint64_t max = ctl->config.bytes_in_flight_max;
	uint64_t mine = ctl->adapters[adapter].bytes_in_flight;

	budget->left_bytes = UINT64_MAX;
	if (ctl->bytes_in_flight > 0)
		budget->left_bytes = bytes_left(ctl->bytes_in_flight, max);
	if (!budget->alone && mine > 0 && bytes_left(mine, max - max / 4) < budget->left_bytes)
		budget->left_bytes = bytes_left(mine, max - max / 4);
	/* What goes alone leaves another rule behind it. */
	budget->adapter = mine > 0 ? adapter : UINT32_MAX;
}

static inline bool
budget_allows(const struct far_prefetch *ctl, struct budget *budget, uint32_t adapter,
	      uint64_t bytes)
{
	if (adapter != budget->adapter)
		budget_find(ctl, budget, adapter);
	if (bytes > budget->left_bytes)
		return false;
	budget->left_bytes -= bytes;
	return true;
}

/* ---- what the policy is told of adapters ---- */

double
far_prefetch_pace(const struct far_prefetch *ctl, uint32_t adapter)
{
	const struct prefetch_adapter *state = &ctl->adapters[adapter];

	return ctl->tick_ns < state->measured_ns + PREFETCH_PACE_NS ? state->ns_per_byte : 0;
}

/* From when it was alone at the adapter: the time behind other tasks is in the queue already. */
static void
task_measure(struct far_prefetch *ctl, const struct prefetch_task *task, uint64_t bytes)
{
	struct prefetch_adapter *state = &ctl->adapters[task->task.l2->idx];
	uint64_t now_ns = far_clock_now(ctl->clock);
	uint64_t since_ns = task->posted_ns;
	double pace;

	if (bytes == 0)
		return;
	if (state->measured_ns > since_ns)
		since_ns = state->measured_ns;
	/* Never 0: that says unknown. */
	pace = (double)(now_ns > since_ns ? now_ns - since_ns : 1) / (double)bytes;
	if (far_prefetch_pace(ctl, task->task.l2->idx) > 0)
		pace = state->ns_per_byte + (pace - state->ns_per_byte) / 4;
	state->ns_per_byte = pace;
	state->measured_ns = now_ns;
}

/* ---- buffers ---- */

/* Somebody else writes the key, or has just finished. */
static void
load_exists(struct far_prefetch *ctl, struct prefetch_load *load)
{
	load->pinned = true;
	while (!far_list_empty(&load->interests)) {
		struct far_prefetch_view *view = far_prefetch_interest(load->interests.next);
		struct far_l1_grant grant;

		far_prefetch_load_leave(ctl, view, false);
		if (view->req->past_l1) {
			far_prefetch_view_miss(ctl, view, -EBUSY);
			continue;
		}
		(void)far_l1_reserve_read(ctl->l1, far_prefetch_view_session(ctl, view), &load->key,
					  NULL, 1, far_prefetch_view_readers(view), &grant);
		if (grant.rc == 0)
			far_prefetch_view_grant(ctl, view, &grant, -1);
		else
			far_prefetch_view_miss(ctl, view, grant.rc == -ENOENT ? -EBUSY : grant.rc);
	}
	load->pinned = false;
	far_prefetch_load_close(ctl, load);
}

/* No memory: who holds anything is trimmed here, so that nobody waits while he holds. */
static void
load_starve(struct far_prefetch *ctl, struct prefetch_load *load)
{
	load->pinned = true;
	while (!far_list_empty(&load->interests)) {
		struct far_prefetch_view *view = far_prefetch_interest(load->interests.next);
		struct prefetch_request *request = far_prefetch_request_of(view);

		if (far_prefetch_request_holds(request)) {
			far_prefetch_load_leave(ctl, view, false);
			far_prefetch_view_miss(ctl, view, -ENOMEM);
		} else {
			far_prefetch_request_wait(ctl, request, load->size_bytes);
		}
	}
	load->pinned = false;
	far_prefetch_load_close(ctl, load);
}

/* False: it has no source, and may be over. */
static inline bool
load_plan(struct far_prefetch *ctl, struct prefetch_load *load)
{
	bool answered = (load->ask_mask | load->pend_mask) == 0;

	if (!answered && load->found_count == 0)
		return false;
	if (far_prefetch_load_plan_plain(ctl, load) || far_prefetch_load_plan(ctl, load))
		return true;
	if (answered)
		far_prefetch_load_miss(ctl, load, load->miss_rc);
	return false;
}

/* Plans loads; those that are planned, in key order, as far as the budget reaches, are what is asked for if
 * @next. Returns how many. */
static uint32_t
reserve_collect(struct far_prefetch *ctl, struct prefetch_window *window, bool next)
{
	struct budget budget = {
		.alone = far_l2_set_population(ctl->set) == 1,
		.adapter = UINT32_MAX,
	};
	const struct far_policy *policy = ctl->policy;
	struct prefetch_ref *refs = ctl->refs;
	struct far_l1_want *want = ctl->wants;

	for (uint32_t i = 0; i < window->load_count; i++) {
		struct prefetch_load *load = window->loads[i];
		uint32_t adapter;

		if (load == NULL || load->state > PREFETCH_FOUND)
			continue;
		if (load->state == PREFETCH_LOOKUP && !load_plan(ctl, load))
			continue;
		if (!next)
			continue;
		adapter = load->found[load->source].adapter;
		if (!budget_allows(ctl, &budget, adapter, load->size_bytes)) {
			window->starved = true;
			next = false;
			continue;
		}
		far_prefetch_load_charge(ctl, load);
		load->temporary = !policy->retain(policy, &load->key, load->size_bytes);
		refs->load = load;
		refs->id = load->id;
		refs++;
		want->key = load->key;
		want->size_bytes = load->size_bytes;
		want->flags = load->temporary ? FAR_L1_TEMPORARY : 0;
		want++;
	}
	return (uint32_t)(refs - ctl->refs);
}

static void
load_reserved(struct prefetch_load *load, const struct far_l1_grant *grant)
{
	const struct far_prefetch_view *only = far_prefetch_load_only(load);

	load->state = PREFETCH_RESERVED;
	load->loan = grant->loan;
	load->addr = grant->addr;
	if (only != NULL) {
		far_prefetch_request_of(only)->loads++;
		return;
	}
	for (struct far_list *it = load->interests.next; it != &load->interests; it = it->next)
		far_prefetch_request_of(far_prefetch_interest(it))->loads++;
}

void
far_prefetch_window_reserve(struct far_prefetch *ctl, struct prefetch_window *window, bool next)
{
	uint32_t count = window->begun > 0 ? reserve_collect(ctl, window, next) : 0;
	const struct prefetch_ref *refs = ctl->refs;
	const struct far_l1_grant *grants = ctl->grants;
	size_t granted;

	if (count == 0)
		return;
	granted = far_l1_reserve_write(ctl->l1, ctl->session, ctl->wants, count, ctl->grants);
	/* The request's next window may have waited for this one. */
	ctl->kicked = true;
	/* All grants first: what a request holds decides what a refusal means to it. */
	for (uint32_t i = 0; i < count; i++) {
		struct prefetch_load *load = refs[i].load;

		if (grants[i].rc == 0)
			load_reserved(load, &grants[i]);
		else
			far_prefetch_load_discharge(ctl, load);
	}
	window->begun -= (uint32_t)granted;
	window->ready += (uint32_t)granted;
	for (uint32_t i = 0; granted < count && i < count; i++) {
		struct prefetch_load *load = ctl->refs[i].load;

		/* One that went back to the queue has left its other loads, and they have ended. */
		if (ctl->grants[i].rc == 0 || load->id != ctl->refs[i].id)
			continue;
		if (ctl->grants[i].rc == -ENOMEM)
			load_starve(ctl, load);
		else if (ctl->grants[i].rc == -EEXIST)
			load_exists(ctl, load);
		else
			far_prefetch_load_miss(ctl, load, ctl->grants[i].rc);
	}
}

/* ---- completions ---- */

/* Loads of one task that were delivered: counted together. */
struct delivered {
	uint32_t count;
	uint64_t bytes;
};

static void
delivered_settle(struct far_prefetch *ctl, const struct prefetch_task *task,
		 const struct delivered *delivered)
{
	struct prefetch_adapter *state = &ctl->adapters[task->task.l2->idx];

	FAR_ASSERT(ctl->bytes_in_flight >= delivered->bytes);
	FAR_ASSERT(state->bytes_in_flight >= delivered->bytes);
	FAR_ASSERT(state->bytes_planned >= delivered->bytes);
	ctl->bytes_in_flight -= delivered->bytes;
	state->bytes_in_flight -= delivered->bytes;
	state->bytes_planned -= delivered->bytes;
	ctl->counts.bytes_loaded += delivered->bytes;
	task->window->ready -= delivered->count;
	far_prefetch_window_ended(ctl, task->window, delivered->count);
}

/* Nobody waits for it any more. If the policy retains it, it stays for whoever asks next. */
static void
load_deliver_nobody(struct far_prefetch *ctl, struct prefetch_load *load)
{
	int rc;

	(void)far_l1_finish_read(ctl->l1, ctl->session, &load->loan, 1, 1, &rc);
	FAR_ASSERT(rc == 0);
	far_prefetch_tell_abandoned(ctl, load, 0);
}

/* While the first holds it, nothing evicts the block: the others take loans of their own. */
static void
load_deliver_others(struct far_prefetch *ctl, struct prefetch_load *load, uint32_t adapter)
{
	while (!far_list_empty(&load->interests)) {
		struct far_prefetch_view *view = far_prefetch_interest(load->interests.next);
		struct far_l1_grant grant;

		far_prefetch_load_leave(ctl, view, false);
		(void)far_l1_reserve_read(ctl->l1, far_prefetch_view_session(ctl, view), &load->key,
					  NULL, 1, far_prefetch_view_readers(view), &grant);
		if (grant.rc == 0)
			far_prefetch_view_grant(ctl, view, &grant, (int32_t)adapter);
		else
			far_prefetch_view_miss(ctl, view, grant.rc);
	}
}

/* Mostly one waits for it, it was found in one place, and that is all. */
static inline void
load_deliver_only(struct far_prefetch *ctl, struct prefetch_load *load,
		  struct far_prefetch_view *view, struct delivered *delivered)
{
	const struct prefetch_found *found = &load->found[0];
	struct far_l1_grant grant = {
		.size_bytes = load->size_bytes,
		.loan = load->loan,
		.addr = load->addr,
	};

	FAR_ASSERT(view->req != NULL);
	FAR_ASSERT(load->charged_bytes == load->size_bytes);
	FAR_ASSERT(load->planned_bytes == load->size_bytes);
	/* Who waits wants this length: others were refused at the plan. */
	FAR_ASSERT(far_prefetch_view_fits(view, load->size_bytes));
	delivered->count++;
	delivered->bytes += load->size_bytes;
	far_prefetch_load_part_only(load, view);
	far_prefetch_view_read(ctl, view, &grant, (int32_t)found->adapter);
	if (found->locked)
		far_prefetch_unlock(ctl, found->adapter, &load->key);
	load->found_count = 0;
	far_prefetch_load_free(ctl, load);
}

/* The loan of the flip goes to the first who waits. The rest is done by delivered_settle(). */
static __attribute__((noinline)) void
load_deliver(struct far_prefetch *ctl, struct prefetch_load *load, struct delivered *delivered)
{
	uint32_t adapter = load->found[load->source].adapter;
	struct far_l1_grant grant = {
		.size_bytes = load->size_bytes,
		.loan = load->loan,
		.addr = load->addr,
	};

	FAR_ASSERT(load->charged_bytes == load->size_bytes);
	FAR_ASSERT(load->planned_bytes == load->size_bytes);
	delivered->count++;
	delivered->bytes += load->size_bytes;
	load->pinned = true;
	if (far_list_empty(&load->interests)) {
		load_deliver_nobody(ctl, load);
	} else {
		struct far_prefetch_view *view = far_prefetch_interest(load->interests.next);

		far_prefetch_load_part(load, view);
		/* Who waits wants this length: others were refused at the plan. */
		FAR_ASSERT(far_prefetch_view_fits(view, load->size_bytes));
		far_prefetch_view_read(ctl, view, &grant, (int32_t)adapter);
		load_deliver_others(ctl, load, adapter);
	}
	load->pinned = false;
	load->loan = 0;
	far_prefetch_load_free(ctl, load);
}

/* Who gets the loan of the flip: the first who waits, or we. */
static void
load_holder(const struct far_prefetch *ctl, const struct prefetch_load *load,
	    far_l1_session *session_out, uint32_t *readers_out)
{
	const struct far_prefetch_view *view;

	*session_out = ctl->session;
	*readers_out = 1;
	if (far_list_empty(&load->interests))
		return;
	view = far_prefetch_interest(load->interests.next);
	*session_out = far_prefetch_view_session(ctl, view);
	*readers_out = far_prefetch_view_readers(view);
}

/* The session of the first who waits is gone: that is its own affair, the bytes are here. They go to
 * the next one, or stay for whoever asks. Returns what the flip came to. */
static int
load_flip_for_next(struct far_prefetch *ctl, struct prefetch_load *load)
{
	int rc = -EPERM;

	load->pinned = true;
	while (rc == -EPERM && !far_list_empty(&load->interests)) {
		struct far_prefetch_view *view = far_prefetch_interest(load->interests.next);
		far_l1_session session;
		uint32_t readers;

		far_prefetch_load_leave(ctl, view, false);
		far_prefetch_view_miss(ctl, view, -EPERM);
		load_holder(ctl, load, &session, &readers);
		(void)far_l1_finish_write_and_reserve_read(ctl->l1, ctl->session, &load->loan, 1,
							   readers, session, &rc);
	}
	load->pinned = false;
	return rc;
}

/* What came of a flip, in general. */
static __attribute__((noinline)) void
load_flipped(struct far_prefetch *ctl, struct prefetch_load *load, int rc,
	     struct delivered *delivered)
{
	if (rc == -EPERM)
		rc = load_flip_for_next(ctl, load);
	if (rc == 0) {
		ctl->block_bytes_seen = load->size_bytes;
		load_deliver(ctl, load, delivered);
		return;
	}
	load->loan_is_over = rc == -ENOENT; /* deleted by force while it was on its way */
	far_prefetch_load_miss(ctl, load, rc);
}

/* One flip for loads that go to the same session with the same count. */
static void
task_flip_run(struct far_prefetch *ctl, const struct prefetch_task *task, size_t count,
	      far_l1_session session, uint32_t readers)
{
	const struct prefetch_ref *refs = ctl->refs;
	const int *rcs = ctl->rcs;
	struct delivered delivered = {0};

	if (count == 0)
		return;
	(void)far_l1_finish_write_and_reserve_read(ctl->l1, ctl->session, ctl->loans, count,
						   readers, session, ctl->rcs);
	for (size_t i = 0; i < count; i++) {
		struct prefetch_load *load = refs[i].load;
		struct far_prefetch_view *only = far_prefetch_load_only(load);

		if (rcs[i] == 0 && only != NULL && load->found_count == 1) {
			ctl->block_bytes_seen = load->size_bytes;
			load_deliver_only(ctl, load, only, &delivered);
		} else {
			load_flipped(ctl, load, rcs[i], &delivered);
		}
	}
	delivered_settle(ctl, task, &delivered);
}

/* Its buffer is ours again. */
static inline void
load_landed(struct prefetch_load *load, const struct prefetch_task *task)
{
	FAR_ASSERT(load->task == task);
	load->task = NULL;
	load->state = PREFETCH_RESERVED;
}

static void
task_flip(struct far_prefetch *ctl, struct prefetch_task *task)
{
	struct prefetch_load **slot = &task->window->slots[task->first];
	const struct far_l2_item *item = task->task.items;
	const struct far_l2_item *end = item + task->task.count;
	const struct far_prefetch_req *req = NULL;
	struct prefetch_ref *refs = ctl->refs;
	uint64_t *loans = ctl->loans;
	far_l1_session session = 0;
	uint32_t readers = 0;
	size_t count = 0;

	for (; item < end; item++, slot++) {
		struct prefetch_load *load = *slot;
		const struct far_prefetch_view *only = far_prefetch_load_only(load);

		if (item->rc != 0)
			continue;
		*slot = NULL;
		load_landed(load, task);
		/* Mostly it is the same request's as the one before: what is loaded for it has one holder. */
		if (only == NULL || only->req != req) {
			far_l1_session load_session;
			uint32_t load_readers;

			load_holder(ctl, load, &load_session, &load_readers);
			if (load_session != session || load_readers != readers) {
				task_flip_run(ctl, task, count, session, readers);
				count = 0;
			}
			session = load_session;
			readers = load_readers;
			req = only != NULL ? only->req : NULL;
		}
		/* Before the flip: after it, a reader might end it already. */
		if (load->temporary && far_prefetch_load_is_retained(load))
			(void)far_l1_retain(ctl->l1, ctl->session, &load->loan, 1, ctl->rcs);
		refs[count].load = load;
		loans[count] = load->loan;
		count++;
	}
	task_flip_run(ctl, task, count, session, readers);
}

/* It failed here: from the next place where it was found, or not at all. */
static void
load_failed(struct far_prefetch *ctl, struct prefetch_load *load, const struct prefetch_task *task,
	    int rc)
{
	bool again;

	if (far_list_empty(&load->interests)) {
		far_prefetch_tell_abandoned(ctl, load, rc);
		far_prefetch_load_close(ctl, load);
		return;
	}
	/* Somebody joined who has more time, or who came after the others had cancelled; or the
	 * adapter's queue was full. */
	again = (rc == -ETIMEDOUT && far_prefetch_load_deadline(load) > task->task.deadline_ns) ||
		(rc == -ECANCELED && task->cancelled) || rc == -EAGAIN;
	if (again)
		return;
	far_prefetch_load_found_drop(ctl, load, load->source);
	far_prefetch_load_discharge(ctl, load);
	if (far_prefetch_load_plan(ctl, load))
		far_prefetch_load_charge(ctl, load);
	else
		far_prefetch_load_miss(ctl, load, rc);
}

static void
task_done(struct far_l2_task *l2_task)
{
	struct prefetch_task *task = FAR_CONTAINER_OF(l2_task, struct prefetch_task, task);
	struct prefetch_window *window = task->window;
	struct far_prefetch *ctl = task->ctl;
	uint32_t end = task->first + l2_task->count;
	uint32_t loaded = 0;
	uint64_t bytes = 0;

	for (uint32_t i = 0; FAR_MUTANT(FAILED_LOAD_ANNOUNCED) && i < l2_task->count; i++)
		l2_task->items[i].rc = 0;
	FAR_ASSERT(task->live);
	task->live = false;
	ctl->adapters[l2_task->l2->idx].tasks_live--;
	for (uint32_t i = 0; i < l2_task->count; i++) {
		const struct far_l2_item *item = &l2_task->items[i];

		loaded += item->rc == 0;
		bytes += item->rc == 0 ? item->size_bytes : 0;
	}
	window->ready += l2_task->count;
	task_measure(ctl, task, bytes);
	far_prefetch_tell_answered(ctl, l2_task, FAR_RECORD_PREFETCH_LOADED, window->request_id,
				   task->posted_ns);
	if (loaded > 0)
		task_flip(ctl, task);
	for (uint32_t i = task->first; i < end && loaded < l2_task->count; i++) {
		struct prefetch_load *load = window->slots[i];

		if (load == NULL)
			continue;
		window->slots[i] = NULL;
		load_landed(load, task);
		load_failed(ctl, load, task, window->items[i].rc);
	}
	far_record_tally_flush(&ctl->tally, ctl->config.recorder);
	window->attention = true;
	ctl->kicked = true;
	far_prefetch_unlock_flush(ctl);
}

/* ---- tasks ---- */

static bool
task_is_allowed(const struct far_prefetch *ctl, uint32_t adapter)
{
	uint32_t share = ctl->set->items[adapter]->limits.tasks_max / 4;

	if (ctl->set->items[adapter]->limits.tasks_max == 0)
		return true;
	return ctl->adapters[adapter].tasks_live < (share > 0 ? share : 1);
}

static void
task_take(struct prefetch_task *task, struct prefetch_load *load,
	  const struct prefetch_found *found, struct far_l2_item *item, struct far_l2_piece *piece)
{
	piece->addr = load->addr;
	piece->size_bytes = load->size_bytes;
	far_prefetch_item_begin(item, &load->key, load->size_bytes);
	item->pieces = piece;
	item->piece_count = 1;
	memcpy(item->hint, found->hint, sizeof(found->hint));
	load->state = PREFETCH_POSTED;
	load->task = task;
	task->wanted += !far_list_empty(&load->interests);
}

/* The next run of free slots, filled with what this adapter is to load: nothing before the load @from. */
static void
task_begin(struct far_prefetch *ctl, struct prefetch_window *window, uint32_t adapter,
	   uint32_t from)
{
	struct far_l2 *l2 = ctl->set->items[adapter];
	uint64_t cut = ctl->config.window_bytes != 0 ? ctl->config.window_bytes
						     : l2->limits.load_bytes_best;
	struct prefetch_load **slot;
	struct prefetch_task *task;
	struct far_l2_item *item;
	struct far_l2_piece *piece;
	uint64_t deadline_ns = 0;
	uint64_t bytes = 0;
	uint32_t count = 0;
	uint32_t first = 0;
	uint32_t max;

	if (cut == 0)
		cut = UINT64_MAX;

	while (first < ctl->config.window_keys && window->slots[first] != NULL)
		first++;
	FAR_ASSERT(first < ctl->config.window_keys);
	task = &window->tasks[first];
	*task = (struct prefetch_task){
		.ctl = ctl,
		.window = window,
		.first = first,
		.posted_ns = far_clock_now(ctl->clock),
		.live = true,
	};
	slot = &window->slots[first];
	item = &window->items[first];
	piece = &window->pieces[first];
	max = ctl->config.window_keys - first;
	if (max > l2->limits.items_max)
		max = l2->limits.items_max;
	for (uint32_t i = from; i < window->load_count && count < max; i++) {
		struct prefetch_load *load = window->loads[i];
		const struct prefetch_found *found;
		uint64_t load_deadline_ns;

		if (load == NULL || load->state != PREFETCH_RESERVED)
			continue;
		found = &load->found[load->source];
		if (found->adapter != adapter)
			continue;
		if (bytes + load->size_bytes > cut && count > 0)
			break;
		if (*slot != NULL)
			break;
		*slot++ = load;
		task_take(task, load, found, item++, piece++);
		count++;
		bytes += load->size_bytes;
		load_deadline_ns = far_prefetch_load_deadline(load);
		if (load_deadline_ns > deadline_ns)
			deadline_ns = load_deadline_ns;
	}
	FAR_ASSERT(count > 0);
	window->ready -= count;
	task->task = (struct far_l2_task){
		.kind = FAR_L2_LOAD,
		.items = &window->items[first],
		.count = count,
		.deadline_ns = deadline_ns,
		.done = task_done,
	};
	ctl->adapters[adapter].tasks_live++;
	far_l2_submit(l2, &task->task);
	far_prefetch_tell_asked(ctl, &task->task, FAR_RECORD_PREFETCH_LOADING, window->request_id,
				task->posted_ns);
}

void
far_prefetch_window_post(struct far_prefetch *ctl, struct prefetch_window *window)
{
	for (uint32_t i = 0; i < window->load_count && window->ready > 0; i++) {
		struct prefetch_load *load = window->loads[i];
		uint32_t adapter;

		if (load == NULL || load->state != PREFETCH_RESERVED)
			continue;
		adapter = load->found[load->source].adapter;
		if (!task_is_allowed(ctl, adapter)) {
			window->starved = true;
			continue;
		}
		/* Takes this load and all behind it that fit into one task; it is posted then. */
		task_begin(ctl, window, adapter, i);
	}
}
