/* prefetch_key.h - what is done for each key, some of it several times: small, and inlined for that. */
#ifndef FAR_CONTROLLERS_PREFETCH_KEY_H
#define FAR_CONTROLLERS_PREFETCH_KEY_H

#include "base/assert.h"
#include "base/err.h"
#include "controllers/prefetch_priv.h"

/* ---- views ---- */

static inline struct prefetch_request *
far_prefetch_request_of(const struct far_prefetch_view *view)
{
	return (struct prefetch_request *)(uintptr_t)view->req->priv[0];
}

static inline uint32_t
far_prefetch_view_idx(const struct far_prefetch_view *view)
{
	return (uint32_t)(view - view->req->views);
}

/* A warm request's blocks are held by us until it ends, so that it cannot push out its own first
 * blocks with its last. */
static inline bool
far_prefetch_view_is_ours(const struct far_prefetch_view *view)
{
	return view->req->mode == FAR_PREFETCH_WARM &&
	       far_prefetch_view_idx(view) >= view->req->l1_prefix_count;
}

/* The session and count of a view's loan. */
static inline far_l1_session
far_prefetch_view_session(const struct far_prefetch *ctl, const struct far_prefetch_view *view)
{
	return far_prefetch_view_is_ours(view) ? ctl->session : view->req->session;
}

static inline uint32_t
far_prefetch_view_readers(const struct far_prefetch_view *view)
{
	return far_prefetch_view_is_ours(view) ? 1 : view->req->readers;
}

/* The length that it asked for, or any. */
static inline bool
far_prefetch_view_fits(const struct far_prefetch_view *view, uint32_t size_bytes)
{
	const uint32_t *sizes = view->req->sizes;
	uint32_t want = sizes != NULL ? sizes[far_prefetch_view_idx(view)] : 0;

	return want == 0 || want == size_bytes;
}

/* Something about it has changed: the tick settles it. */
static inline void
far_prefetch_request_touch(struct far_prefetch *ctl, struct prefetch_request *request)
{
	if (far_list_empty(&request->dirty) && !request->ending)
		far_list_push_back(&ctl->dirty, &request->dirty);
}

/* It is somewhere, whatever comes of it. */
static inline void
far_prefetch_view_found(struct far_prefetch *ctl, struct far_prefetch_view *view)
{
	if ((view->stage & PREFETCH_STAGE_FOUND) != 0)
		return;
	view->stage |= PREFETCH_STAGE_FOUND;
	far_prefetch_request_touch(ctl, far_prefetch_request_of(view));
}

/* Readable with this loan, which is the view's now. */
static inline void
far_prefetch_view_read(struct far_prefetch *ctl, struct far_prefetch_view *view,
		       const struct far_l1_grant *grant, int32_t adapter)
{
	struct prefetch_request *request = far_prefetch_request_of(view);

	FAR_ASSERT(view->rc == -EINPROGRESS);
	FAR_ASSERT(grant->loan != 0);
	view->stage |= PREFETCH_STAGE_FOUND;
	view->rc = 0;
	view->size_bytes = grant->size_bytes;
	view->loan = grant->loan;
	view->addr = grant->addr;
	view->adapter = adapter;
	request->loans++;
	request->loaded += adapter >= 0;
	far_prefetch_request_touch(ctl, request);
}

/* ---- adapters ---- */

/* A policy proposes it. */
static inline void
far_prefetch_adapter_meet(struct far_prefetch *ctl, uint32_t adapter)
{
	FAR_ASSERT(far_l2_set_is_active(ctl->set, adapter));
	if (ctl->adapters[adapter].generation != ctl->set->generations[adapter])
		far_prefetch_adapter_renew(ctl, adapter);
}

static inline void
far_prefetch_unlock(struct far_prefetch *ctl, uint32_t adapter, const struct far_key *key)
{
	struct prefetch_adapter *state = &ctl->adapters[adapter];

	state->unlock_keys[state->unlock_count++] = *key;
	if (state->unlock_count == ctl->config.window_keys)
		far_prefetch_unlock_flush_one(ctl, adapter);
}

/* ---- loads ---- */

static inline struct prefetch_load **
far_prefetch_load_bucket(const struct far_prefetch *ctl, const struct far_key *key)
{
	return &ctl->buckets[far_key_hi(key) & ctl->bucket_mask];
}

/* NULL: the bucket has none for the key. */
static inline struct prefetch_load *
far_prefetch_load_in(struct prefetch_load *const *bucket, const struct far_key *key)
{
	struct prefetch_load *load = *bucket;

	while (load != NULL && !far_key_equal(&load->key, key))
		load = load->next;
	return load;
}

static inline struct prefetch_load *
far_prefetch_load_of(const struct far_prefetch *ctl, const struct far_prefetch_view *view)
{
	uint32_t idx = view->stage & PREFETCH_STAGE_LOAD;

	FAR_ASSERT(idx > 0);
	return &ctl->loads[idx - 1];
}

static inline struct far_prefetch_view *
far_prefetch_interest(const struct far_list *node)
{
	return FAR_CONTAINER_OF(node, struct far_prefetch_view, interest);
}

/* The view, which waits for no load, waits for this one. */
static inline void
far_prefetch_load_link(struct prefetch_load *load, struct far_prefetch_view *view)
{
	FAR_ASSERT((view->stage & PREFETCH_STAGE_LOAD) == 0);
	load->only = far_list_empty(&load->interests) ? view : NULL;
	far_list_push_back(&load->interests, &view->interest);
	view->stage |= load->number;
}

/* The view is out of the load's list; the load itself stays. */
static inline void
far_prefetch_load_part(struct prefetch_load *load, struct far_prefetch_view *view)
{
	far_list_remove(&view->interest);
	load->only = NULL;
	view->stage &= ~PREFETCH_STAGE_LOAD;
	if (load->loan != 0)
		far_prefetch_request_of(view)->loads--;
}

/* The same of the only one in it. */
static inline void
far_prefetch_load_part_only(struct prefetch_load *load, struct far_prefetch_view *view)
{
	FAR_ASSERT(load->only == view);
	load->only = NULL;
	far_list_init(&load->interests);
	far_list_init(&view->interest);
	view->stage &= ~PREFETCH_STAGE_LOAD;
	if (load->loan != 0)
		far_prefetch_request_of(view)->loads--;
}

/* The only one who waits for it; NULL: none or several do, or others did. */
static inline struct far_prefetch_view *
far_prefetch_load_only(const struct prefetch_load *load)
{
	FAR_DASSERT(load->only == NULL || (load->interests.next == &load->only->interest &&
					   load->interests.prev == &load->only->interest));
	return load->only;
}

/* It was found, and mostly one waits for it, who wants the load: he is told. False: not so. */
static inline bool
far_prefetch_load_found_by_one(struct far_prefetch *ctl, const struct prefetch_load *load,
			       uint32_t size_bytes)
{
	struct far_prefetch_view *view = far_prefetch_load_only(load);

	if (view == NULL || far_prefetch_request_of(view)->finding ||
	    !far_prefetch_view_fits(view, size_bytes))
		return false;
	far_prefetch_view_found(ctl, view);
	return true;
}

/* The latest deadline of those who wait for it. */
static inline uint64_t
far_prefetch_load_deadline(const struct prefetch_load *load)
{
	const struct far_prefetch_view *only = far_prefetch_load_only(load);
	uint64_t deadline_ns = 0;

	if (only != NULL)
		return only->req->deadline_ns;
	for (const struct far_list *it = load->interests.next; it != &load->interests;
	     it = it->next) {
		const struct far_prefetch_view *view = far_prefetch_interest(it);

		if (view->req->deadline_ns > deadline_ns)
			deadline_ns = view->req->deadline_ns;
	}
	return deadline_ns;
}

/* All but the hint, which is the larger half: clearing the whole takes a call. */
static inline void
far_prefetch_item_begin(struct far_l2_item *item, const struct far_key *key, uint32_t size_bytes)
{
	item->key = *key;
	item->size_bytes = size_bytes;
	item->range_offset = 0;
	item->group = 0;
	item->rc = 0;
	item->pieces = NULL;
	item->piece_count = 0;
	item->crc32c = 0;
	item->has_crc = false;
}

/* An answer, whose lock is the load's. */
static inline void
far_prefetch_found_set(struct prefetch_found *found, uint32_t adapter,
		       const struct far_l2_item *item)
{
	found->adapter = adapter;
	found->size_bytes = item->size_bytes;
	found->locked = true;
	memcpy(found->hint, item->hint, sizeof(item->hint));
}

/* ---- the budget of bytes in flight ---- */

static inline void
far_prefetch_load_charge(struct far_prefetch *ctl, struct prefetch_load *load)
{
	load->charged_adapter = load->found[load->source].adapter;
	load->charged_bytes = load->size_bytes;
	ctl->bytes_in_flight += load->size_bytes;
	ctl->adapters[load->charged_adapter].bytes_in_flight += load->size_bytes;
}

static inline void
far_prefetch_load_discharge(struct far_prefetch *ctl, struct prefetch_load *load)
{
	struct prefetch_adapter *state = &ctl->adapters[load->charged_adapter];

	if (load->charged_bytes == 0)
		return;
	FAR_ASSERT(ctl->bytes_in_flight >= load->charged_bytes);
	FAR_ASSERT(state->bytes_in_flight >= load->charged_bytes);
	ctl->bytes_in_flight -= load->charged_bytes;
	state->bytes_in_flight -= load->charged_bytes;
	load->charged_bytes = 0;
}

/* ---- what the policy is told of adapters ---- */

/* Out of the queue of its source as the policy sees it. */
static inline void
far_prefetch_load_unqueue(struct far_prefetch *ctl, struct prefetch_load *load)
{
	struct prefetch_adapter *state = &ctl->adapters[load->planned_adapter];

	FAR_ASSERT(state->bytes_planned >= load->planned_bytes);
	state->bytes_planned -= load->planned_bytes;
	load->planned_bytes = 0;
}

/* Into it; it is in none. */
static inline void
far_prefetch_load_queue(struct far_prefetch *ctl, struct prefetch_load *load)
{
	FAR_ASSERT(load->planned_bytes == 0);
	load->planned_adapter = load->found[load->source].adapter;
	load->planned_bytes = load->found[load->source].size_bytes;
	ctl->adapters[load->planned_adapter].bytes_planned += load->planned_bytes;
}

/* ---- the plan ---- */

/* Mostly one waits for it and one place has it, in the length that is wanted: nothing has to be
 * decided. False: it is not so. */
static inline bool
far_prefetch_load_plan_plain(struct far_prefetch *ctl, struct prefetch_load *load)
{
	const struct far_prefetch_view *view = far_prefetch_load_only(load);

	if (load->found_count != 1 || view == NULL ||
	    !far_prefetch_view_fits(view, load->found[0].size_bytes) ||
	    !far_l2_set_is_active(ctl->set, load->found[0].adapter))
		return false;
	FAR_ASSERT(load->state == PREFETCH_LOOKUP);
	load->source = 0;
	load->size_bytes = load->found[0].size_bytes;
	load->state = PREFETCH_FOUND;
	far_prefetch_load_queue(ctl, load);
	return true;
}

/* ---- the end ---- */

/* So many loads of the window have ended. */
static inline void
far_prefetch_window_ended(struct far_prefetch *ctl, struct prefetch_window *window, uint32_t count)
{
	window->live -= count;
	window->attention = true;
	ctl->loads_live -= count;
	ctl->kicked = true;
}

/* It has no interests, is in no task and has no loan: what it was found with is given back, and its
 * place is free. What was counted for it is not its own business. */
static inline void
far_prefetch_load_free(struct far_prefetch *ctl, struct prefetch_load *load)
{
	struct prefetch_load **at = far_prefetch_load_bucket(ctl, &load->key);
	struct prefetch_window *window = load->window;

	FAR_ASSERT(far_list_empty(&load->interests));
	FAR_ASSERT(load->task == NULL);
	FAR_ASSERT(window->loads[load->window_idx] == load);
	while (load->found_count > 0) {
		const struct prefetch_found *found = &load->found[--load->found_count];

		if (found->locked)
			far_prefetch_unlock(ctl, found->adapter, &load->key);
	}
	while (*at != load)
		at = &(*at)->next;
	*at = load->next;
	window->loads[load->window_idx] = NULL;
	load->id = 0;
	load->next = ctl->loads_free;
	ctl->loads_free = load;
}

#endif
