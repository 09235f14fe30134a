/* prefetch_load.c - one key on its way: who waits for it, where it was found, how it ends. */
#include "controllers/prefetch_key.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mark.h"
#include "base/mutant.h"

struct prefetch_load *
far_prefetch_load_find(const struct far_prefetch *ctl, const struct far_key *key)
{
	return far_prefetch_load_in(far_prefetch_load_bucket(ctl, key), key);
}

bool
far_prefetch_load_has(const struct prefetch_load *load, const struct far_prefetch_view *view)
{
	if (load->state != PREFETCH_LOOKUP)
		return far_prefetch_view_fits(view, load->size_bytes);
	for (uint32_t i = 0; i < load->found_count; i++) {
		if (far_prefetch_view_fits(view, load->found[i].size_bytes))
			return true;
	}
	return false;
}

void
far_prefetch_load_join(struct far_prefetch *ctl, struct prefetch_load *load,
		       struct far_prefetch_view *view, bool joined)
{
	bool first = far_list_empty(&load->interests);

	if (load->state != PREFETCH_LOOKUP && !far_prefetch_view_fits(view, load->size_bytes)) {
		far_prefetch_view_miss(ctl, view, -EMSGSIZE);
		return;
	}
	far_prefetch_load_link(load, view);
	if (joined) {
		FAR_MARK("a request joins the load of another");
		view->stage |= PREFETCH_STAGE_JOINED;
		far_prefetch_request_of(view)->joined++;
	}
	if (far_prefetch_load_has(load, view))
		far_prefetch_view_found(ctl, view);
	if (load->loan != 0)
		far_prefetch_request_of(view)->loads++;
	if (first && load->task != NULL)
		load->task->wanted++;
}

void
far_prefetch_load_found(struct far_prefetch *ctl, struct prefetch_load *load, uint32_t size_bytes)
{
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &load->interests)
	{
		struct far_prefetch_view *view = far_prefetch_interest(it);

		if (!far_prefetch_view_fits(view, size_bytes))
			continue;
		if (far_prefetch_request_of(view)->finding)
			far_prefetch_load_part(load, view);
		far_prefetch_view_found(ctl, view);
	}
	if (far_list_empty(&load->interests))
		far_prefetch_load_close(ctl, load);
}

void
far_prefetch_load_leave(struct far_prefetch *ctl, struct far_prefetch_view *view, bool cancel)
{
	struct prefetch_load *load = far_prefetch_load_of(ctl, view);
	struct prefetch_task *task = load->task;

	far_prefetch_load_part(load, view);
	if (!far_list_empty(&load->interests) || load->pinned)
		return;
	if (task == NULL) {
		far_prefetch_load_close(ctl, load);
		return;
	}
	/* The buffer is the adapter's until done. */
	if (FAR_MUTANT(BUFFER_FREED_EARLY) && load->loan != 0 && !load->loan_is_over) {
		int rc;

		(void)far_l1_abort_write(ctl->l1, ctl->session, &load->loan, 1, &rc);
		load->loan_is_over = true;
	}
	FAR_ASSERT(task->wanted > 0);
	task->wanted--;
	if (cancel && task->wanted == 0 && !task->cancelled) {
		task->cancelled = true;
		far_l2_cancel(task->task.l2, &task->task);
	}
}

void
far_prefetch_load_miss(struct far_prefetch *ctl, struct prefetch_load *load, int rc)
{
	FAR_ASSERT(load->task == NULL);
	while (!far_list_empty(&load->interests)) {
		struct far_prefetch_view *view = far_prefetch_interest(load->interests.next);

		far_prefetch_load_part(load, view);
		far_prefetch_view_miss(ctl, view, rc);
	}
	far_prefetch_load_close(ctl, load);
}

void
far_prefetch_load_close(struct far_prefetch *ctl, struct prefetch_load *load)
{
	struct prefetch_window *window = load->window;

	if (load->loan != 0 && !load->loan_is_over) {
		int rc;

		/* No byte of it was validated, or nobody has begun to fill it: it was never there. */
		(void)far_l1_abort_write(ctl->l1, ctl->session, &load->loan, 1, &rc);
		FAR_ASSERT(rc == 0);
	}
	load->loan = 0;
	far_prefetch_load_discharge(ctl, load);
	far_prefetch_load_unqueue(ctl, load);
	if (load->state < PREFETCH_RESERVED)
		window->begun--;
	else
		window->ready--;
	far_prefetch_window_ended(ctl, window, 1);
	far_prefetch_load_free(ctl, load);
}

bool
far_prefetch_load_is_retained(const struct prefetch_load *load)
{
	for (const struct far_list *it = load->interests.next; it != &load->interests;
	     it = it->next) {
		const struct far_prefetch_view *view = far_prefetch_interest(it);

		if (view->req->mode == FAR_PREFETCH_WARM)
			return true;
	}
	return false;
}

void
far_prefetch_load_found_drop(struct far_prefetch *ctl, struct prefetch_load *load, uint32_t idx)
{
	struct prefetch_found *found = &load->found[idx];

	FAR_ASSERT(idx < load->found_count);
	if (found->locked)
		far_prefetch_unlock(ctl, found->adapter, &load->key);
	load->found_count--;
	for (uint32_t i = idx; i < load->found_count; i++)
		load->found[i] = load->found[i + 1];
}

/* Before the plan: a length that somebody wants. After it: the length of the buffer. */
static bool
found_fits(const struct prefetch_load *load, const struct prefetch_found *found)
{
	if (load->state != PREFETCH_LOOKUP)
		return found->size_bytes == load->size_bytes;
	for (const struct far_list *it = load->interests.next; it != &load->interests;
	     it = it->next) {
		if (far_prefetch_view_fits(far_prefetch_interest(it), found->size_bytes))
			return true;
	}
	return false;
}

/* Those who asked for another length than the one that comes: blocks are immutable, so it is a miss. */
static void
load_refuse_misfits(struct far_prefetch *ctl, struct prefetch_load *load)
{
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &load->interests)
	{
		struct far_prefetch_view *view = far_prefetch_interest(it);

		if (far_prefetch_view_fits(view, load->size_bytes))
			continue;
		far_prefetch_load_part(load, view);
		far_prefetch_view_miss(ctl, view, -EMSGSIZE);
	}
	FAR_ASSERT(!far_list_empty(&load->interests));
}

/* Which of the found loads it, by the policy, of those that fit and may be given something new: one
 * that was drained since it answered may not. PREFETCH_FOUND_MAX: none; @misfit: nothing fits. */
static uint32_t
load_choose(struct far_prefetch *ctl, const struct prefetch_load *load, bool *misfit)
{
	struct far_policy_found choice[PREFETCH_FOUND_MAX];
	uint32_t at[PREFETCH_FOUND_MAX];
	uint32_t count = 0;

	*misfit = load->found_count > 0;
	for (uint32_t i = 0; i < load->found_count; i++) {
		const struct prefetch_found *found = &load->found[i];

		if (!found_fits(load, found))
			continue;
		*misfit = false;
		if (!far_l2_set_is_active(ctl->set, found->adapter))
			continue;
		at[count] = i;
		choice[count++] = (struct far_policy_found){
			.adapter = found->adapter,
			.size_bytes = found->size_bytes,
			.bytes_queued = ctl->adapters[found->adapter].bytes_planned,
			.ns_per_byte = far_prefetch_pace(ctl, found->adapter),
		};
	}
	if (count == 0)
		return PREFETCH_FOUND_MAX;
	if (count == 1)
		return at[0];
	return at[far_policy_plan(ctl->policy, ctl->set, &load->key, choice, count,
				  &ctl->counts.policy_nonsense)];
}

/* The others stay as second choices; a load validates, with a lock or without. */
static void
found_unlock_others(struct far_prefetch *ctl, struct prefetch_load *load)
{
	for (uint32_t i = 0; i < load->found_count; i++) {
		struct prefetch_found *found = &load->found[i];

		if (i == load->source || !found->locked)
			continue;
		far_prefetch_unlock(ctl, found->adapter, &load->key);
		found->locked = false;
	}
}

bool
far_prefetch_load_plan(struct far_prefetch *ctl, struct prefetch_load *load)
{
	bool misfit = false;
	uint32_t source;

	far_prefetch_load_unqueue(ctl, load);
	source = load_choose(ctl, load, &misfit);
	if (source == PREFETCH_FOUND_MAX) {
		if (misfit && load->state == PREFETCH_LOOKUP)
			load->miss_rc = -EMSGSIZE;
		return false;
	}
	load->source = source;
	found_unlock_others(ctl, load);
	far_prefetch_load_queue(ctl, load);
	if (load->state != PREFETCH_LOOKUP)
		return true;
	load->size_bytes = load->found[load->source].size_bytes;
	load->state = PREFETCH_FOUND;
	load_refuse_misfits(ctl, load);
	return true;
}
