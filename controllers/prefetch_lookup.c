/* prefetch_lookup.c - asks adapters for a window's keys, and gives back the locks that answers left. */
#include "controllers/prefetch_key.h"

#include "base/assert.h"
#include "base/err.h"

/* ---- unlocks, batched by adapter; each answered hit is given back exactly once ---- */

void
far_prefetch_unlock_flush_one(struct far_prefetch *ctl, uint32_t adapter)
{
	struct prefetch_adapter *state = &ctl->adapters[adapter];
	size_t count = state->unlock_count;

	if (count == 0)
		return;
	state->unlock_count = 0;
	far_l2_unlock(ctl->set->items[adapter], state->unlock_keys, count);
}

void
far_prefetch_unlock_flush(struct far_prefetch *ctl)
{
	FAR_L2_SET_FOR_EACH(ctl->set, i)
	far_prefetch_unlock_flush_one(ctl, i);
}

/* ---- answers ---- */

static int
miss_rank(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case -ENOENT:
		return 1;
	case -EMSGSIZE:
	case -ESTALE:
		return 2;
	case -ETIMEDOUT:
		return 4;
	case -EHOSTDOWN:
		return 5;
	default:
		return 3;
	}
}

int
far_prefetch_miss_rc(int a, int b)
{
	return miss_rank(b) > miss_rank(a) ? b : a;
}

static uint32_t
route_rank(const struct prefetch_load *load, uint32_t adapter)
{
	for (uint32_t i = 0; i < load->route_count; i++) {
		if (load->route[i] == adapter)
			return i;
	}
	FAR_ASSERT(false);
}

/* Where it goes among the found, in the order of the route; PREFETCH_FOUND_MAX: nowhere. */
static uint32_t
found_place(struct far_prefetch *ctl, struct prefetch_load *load, uint32_t adapter)
{
	uint32_t at = load->found_count;
	bool planned = load->state != PREFETCH_LOOKUP;
	uint32_t rank;

	if (at == 0) {
		load->found_count = 1;
		return 0;
	}
	rank = route_rank(load, adapter);
	if (at == PREFETCH_FOUND_MAX) {
		at--;
		/* After the plan the last one may be the source: then nothing is replaced. */
		if (planned || route_rank(load, load->found[at].adapter) < rank)
			return PREFETCH_FOUND_MAX;
		far_prefetch_load_found_drop(ctl, load, at);
	}
	load->found_count++;
	/* Once there is a source, indices stay: late ones go to the end, whatever their rank. */
	while (!planned && at > 0 && route_rank(load, load->found[at - 1].adapter) > rank) {
		load->found[at] = load->found[at - 1];
		at--;
	}
	return at;
}

/* Keeps the best few of the route. What is not kept, or comes after the plan, is not locked. */
static void
lookup_hit(struct far_prefetch *ctl, struct prefetch_load *load, uint32_t adapter,
	   const struct far_l2_item *item)
{
	bool planned = load->state != PREFETCH_LOOKUP;
	uint32_t at = found_place(ctl, load, adapter);

	if (at == PREFETCH_FOUND_MAX) {
		far_prefetch_unlock(ctl, adapter, &item->key);
		return;
	}
	far_prefetch_found_set(&load->found[at], adapter, item);
	load->found[at].locked = !planned;
	if (planned)
		far_prefetch_unlock(ctl, adapter, &item->key);
	else
		far_prefetch_load_found(ctl, load, item->size_bytes);
}

static __attribute__((noinline)) void
lookup_answer(struct far_prefetch *ctl, const struct prefetch_lookup *lookup, uint32_t adapter,
	      const struct prefetch_ref *ref, const struct far_l2_item *item)
{
	struct prefetch_load *load = ref->load;
	bool again;

	if (load->id != ref->id) {
		/* The load has ended without this answer. */
		if (item->rc == 0)
			far_prefetch_unlock(ctl, adapter, &item->key);
		return;
	}
	load->pend_mask &= ~(1ULL << adapter);
	load->window->attention = true;
	if (item->rc == 0) {
		lookup_hit(ctl, load, adapter, item);
		return;
	}
	/* Somebody joined who has more time than those for whom it was asked. */
	again = (item->rc == -ETIMEDOUT &&
		 far_prefetch_load_deadline(load) > lookup->task.deadline_ns) ||
		(item->rc == -ECANCELED && lookup->cancelled) || item->rc == -EAGAIN;
	if (again && load->state == PREFETCH_LOOKUP) {
		load->ask_mask |= 1ULL << adapter;
		load->window->asks = true;
	} else {
		load->miss_rc = far_prefetch_miss_rc(load->miss_rc, item->rc);
	}
}

/* Mostly it is the first answer for a load that one waits for, and he learns that it was found. False: nothing
 * was done. */
static inline bool
lookup_hit_plain(struct far_prefetch *ctl, uint32_t adapter, const struct prefetch_ref *ref,
		 const struct far_l2_item *item)
{
	struct prefetch_load *load = ref->load;

	if (load->id != ref->id || item->rc != 0 || load->found_count != 0 ||
	    load->state != PREFETCH_LOOKUP ||
	    !far_prefetch_load_found_by_one(ctl, load, item->size_bytes))
		return false;
	load->pend_mask &= ~(1ULL << adapter);
	load->window->attention = true;
	load->found_count = 1;
	far_prefetch_found_set(&load->found[0], adapter, item);
	return true;
}

static void
lookup_done(struct far_l2_task *task)
{
	struct prefetch_lookup *lookup = FAR_CONTAINER_OF(task, struct prefetch_lookup, task);
	struct far_prefetch *ctl = lookup->ctl;
	const struct prefetch_ref *ref = lookup->refs;
	const struct far_l2_item *item = lookup->items;
	uint32_t adapter = task->l2->idx;

	FAR_ASSERT(lookup->live);
	/* It may have ended since, and be another one. */
	if (lookup->window->id == lookup->window_id)
		lookup->window->lookups--;
	far_prefetch_tell_answered(ctl, task, FAR_RECORD_PREFETCH_ANSWERED, lookup->request_id,
				   lookup->asked_ns);
	for (const struct far_l2_item *end = item + task->count; item < end; item++, ref++) {
		if (!lookup_hit_plain(ctl, adapter, ref, item))
			lookup_answer(ctl, lookup, adapter, ref, item);
	}
	lookup->live = false;
	lookup->next = ctl->lookups_free;
	ctl->lookups_free = lookup;
	ctl->lookups_live--;
	ctl->adapters[adapter].lookups_live--;
	ctl->kicked = true;
	far_prefetch_unlock_flush(ctl);
}

/* ---- questions ---- */

/* A store that does not answer holds its own share of lookups, not everybody's. */
static bool
lookup_is_allowed(const struct far_prefetch *ctl, uint32_t adapter)
{
	uint32_t tasks_max = ctl->set->items[adapter]->limits.tasks_max;
	uint32_t share = ctl->lookups_max / far_l2_set_population(ctl->set);

	if (tasks_max > 0 && share > tasks_max / 4)
		share = tasks_max / 4;
	return ctl->lookups_free != NULL &&
	       ctl->adapters[adapter].lookups_live < (share > 0 ? share : 1);
}

/* Asks for the keys from the load @first on that are to be asked of @adapter, as many as one task
 * takes. Returns the first load that is not in it. */
static uint32_t
lookup_begin(struct far_prefetch *ctl, struct prefetch_window *window, uint32_t adapter,
	     uint32_t first)
{
	struct far_l2 *l2 = ctl->set->items[adapter];
	struct prefetch_lookup *lookup = ctl->lookups_free;
	struct far_l2_item *item = lookup->items;
	struct prefetch_ref *ref = lookup->refs;
	uint32_t max = ctl->config.window_keys;
	uint64_t bit = 1ULL << adapter;
	uint64_t deadline_ns = 0;
	uint32_t count = 0;
	uint32_t end;

	if (max > l2->limits.items_max)
		max = l2->limits.items_max;
	for (end = first; end < window->load_count && count < max; end++) {
		struct prefetch_load *load = window->loads[end];
		uint64_t load_deadline_ns;

		if (load == NULL || (load->ask_mask & bit) == 0)
			continue;
		load->ask_mask ^= bit;
		load->pend_mask |= bit;
		far_prefetch_item_begin(item, &load->key, 0);
		memset(item->hint, 0, sizeof(item->hint));
		item++;
		ref->load = load;
		ref->id = load->id;
		ref++;
		count++;
		load_deadline_ns = far_prefetch_load_deadline(load);
		if (load_deadline_ns > deadline_ns)
			deadline_ns = load_deadline_ns;
	}
	FAR_ASSERT(count > 0);
	ctl->lookups_free = lookup->next;
	lookup->ctl = ctl;
	lookup->live = true;
	lookup->cancelled = false;
	lookup->task = (struct far_l2_task){
		.kind = FAR_L2_LOOKUP,
		.items = lookup->items,
		.count = count,
		.deadline_ns = deadline_ns,
		.done = lookup_done,
	};
	ctl->lookups_live++;
	ctl->adapters[adapter].lookups_live++;
	lookup->request_id = window->request_id;
	lookup->window = window;
	lookup->window_id = window->id;
	window->lookups++;
	lookup->asked_ns = ctl->tick_ns;
	far_l2_submit(l2, &lookup->task);
	far_prefetch_tell_asked(ctl, &lookup->task, FAR_RECORD_PREFETCH_ASKED, window->request_id,
				ctl->tick_ns);
	return end;
}

/* All that is to be asked of one adapter; false: something has to wait. */
static bool
lookup_post_to(struct far_prefetch *ctl, struct prefetch_window *window, uint32_t adapter)
{
	uint32_t at = 0;

	for (;;) {
		while (at < window->load_count &&
		       (window->loads[at] == NULL ||
			(window->loads[at]->ask_mask & (1ULL << adapter)) == 0))
			at++;
		if (at == window->load_count)
			return true;
		if (!lookup_is_allowed(ctl, adapter))
			return false;
		at = lookup_begin(ctl, window, adapter, at);
	}
}

void
far_prefetch_lookup_post(struct far_prefetch *ctl, struct prefetch_window *window)
{
	uint64_t asked = window->ask_mask;
	bool begun = asked != 0 && (asked & ~ctl->set->active_mask) == 0;
	bool all = true;

	if (!window->asks)
		return;
	/* If it has just begun, none is planned, and all are asked for. */
	for (uint32_t i = 0; !begun && i < window->load_count; i++) {
		struct prefetch_load *load = window->loads[i];

		if (load == NULL)
			continue;
		/* Planned without it: it is not asked any more; nor is one that was drained. */
		if (load->state != PREFETCH_LOOKUP)
			load->ask_mask = 0;
		load->ask_mask &= ctl->set->active_mask;
		asked |= load->ask_mask;
	}
	window->ask_mask = 0;
	for (; asked != 0; asked &= asked - 1)
		all &= lookup_post_to(ctl, window, (uint32_t)__builtin_ctzll(asked));
	window->asks = !all;
	window->starved |= !all;
}
