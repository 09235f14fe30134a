/* prefetch_window.c - a run of a request's keys: what L1 has, what is on its way, what is to be asked. */
#include "controllers/prefetch_key.h"

#include "base/assert.h"
#include "base/err.h"

/* A new load for the view's key, which waits for it; NULL: none left. */
static struct prefetch_load *
load_open(struct far_prefetch *ctl, const struct far_key *key, struct prefetch_load **bucket,
	  struct far_prefetch_view *view)
{
	struct prefetch_load *load = ctl->loads_free;

	if (load == NULL)
		return NULL;
	ctl->loads_free = load->next;
	load->key = *key;
	load->id = ++ctl->load_id;
	load->next = *bucket;
	*bucket = load;
	/* One by one: of a large whole a part would be cleared by a call. */
	load->state = PREFETCH_LOOKUP;
	load->pinned = false;
	load->pend_mask = 0;
	load->miss_rc = -ENOENT;
	load->found_count = 0;
	load->source = 0;
	load->size_bytes = 0;
	load->loan = 0;
	load->loan_is_over = false;
	load->temporary = false;
	load->addr = NULL;
	load->charged_adapter = 0;
	load->charged_bytes = 0;
	load->planned_adapter = 0;
	load->planned_bytes = 0;
	load->task = NULL;
	FAR_ASSERT(far_list_empty(&load->interests));
	far_prefetch_load_link(load, view);
	ctl->loads_live++;
	return load;
}

/* The window has not named them yet. */
static __attribute__((noinline)) void
adapters_meet(struct far_prefetch *ctl, uint64_t mask)
{
	for (; mask != 0; mask &= mask - 1)
		far_prefetch_adapter_meet(ctl, (uint32_t)__builtin_ctzll(mask));
}

/* The load is the window's, and asks these. */
static inline void
window_take_load(struct far_prefetch *ctl, struct prefetch_window *window,
		 struct prefetch_load *load, uint64_t ask_mask)
{
	if ((ask_mask & ~window->ask_mask) != 0)
		adapters_meet(ctl, ask_mask & ~window->ask_mask);
	window->ask_mask |= ask_mask;
	load->ask_mask = ask_mask;
	load->window = window;
	load->window_idx = window->load_count;
	window->loads[window->load_count++] = load;
	window->live++;
	window->begun++;
}

/* A load that asks whom the policy names; false: there is none left. */
static __attribute__((noinline)) bool
window_add_routed(struct far_prefetch *ctl, struct prefetch_window *window,
		  const struct far_key *key, struct prefetch_load **bucket,
		  struct far_prefetch_view *view)
{
	uint32_t adapters[FAR_L2_SET_MAX];
	struct prefetch_load *load;
	uint64_t ask_mask = 0;
	uint32_t count;

	count = far_policy_route(ctl->policy, ctl->set, key, adapters,
				 &ctl->counts.policy_nonsense);
	if (count == 0) {
		far_prefetch_view_miss(ctl, view, -ENOENT);
		return true;
	}
	load = load_open(ctl, key, bucket, view);
	if (load == NULL)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		load->route[i] = (uint8_t)adapters[i];
		ask_mask |= 1ULL << adapters[i];
	}
	load->route_count = count;
	window_take_load(ctl, window, load, ask_mask);
	return true;
}

/* The same; often there is one whom the policy names for all keys. */
static inline bool
window_add(struct far_prefetch *ctl, struct prefetch_window *window, const struct far_key *key,
	   struct prefetch_load **bucket, struct far_prefetch_view *view)
{
	uint32_t sole = window->sole;
	struct prefetch_load *load;

	if (sole == FAR_L2_SET_MAX)
		return window_add_routed(ctl, window, key, bucket, view);
	load = load_open(ctl, key, bucket, view);
	if (load == NULL)
		return false;
	load->route[0] = (uint8_t)sole;
	load->route_count = 1;
	window_take_load(ctl, window, load, 1ULL << sole);
	return true;
}

/* What becomes of one key at first; false: it needs a load of its own, in @bucket. */
static bool
window_take(struct far_prefetch *ctl, struct far_prefetch_view *view, const struct far_key *key,
	    struct prefetch_load **bucket, const struct far_l1_grant *grant)
{
	struct prefetch_load *load;
	struct far_prefetch_view *first;

	if (grant->rc == 0) {
		far_prefetch_view_grant(ctl, view, grant, -1);
		return true;
	}
	load = far_prefetch_load_in(bucket, key);
	/* Who reads past L1 sees what is on its way as locked; it comes from an adapter all the same. */
	if (grant->rc != -ENOENT && (load == NULL || !view->req->past_l1)) {
		far_prefetch_view_miss(ctl, view, grant->rc);
		return true;
	}
	if (load == NULL)
		return false;
	first = far_list_empty(&load->interests) ? NULL
						 : far_prefetch_interest(load->interests.next);
	far_prefetch_load_join(ctl, load, view, first == NULL || first->req != view->req);
	return true;
}

/* It waits for nothing yet. */
static bool
view_is_idle(const struct prefetch_request *request, const struct far_prefetch_view *view)
{
	uint32_t busy = PREFETCH_STAGE_LOAD | (request->finding ? PREFETCH_STAGE_FOUND : 0);

	return view->rc == -EINPROGRESS && (view->stage & busy) == 0;
}

/* The next keys from the cursor that wait for nothing yet, as many as a window takes. */
static uint32_t
window_pick(struct far_prefetch *ctl, struct prefetch_request *request)
{
	const struct far_prefetch_view *views = request->req->views;
	uint32_t max = ctl->config.window_keys;
	uint32_t *picks = ctl->picks;
	uint32_t limit = request->limit;
	uint32_t count = 0;

	for (; request->cursor < limit; request->cursor++) {
		if (view_is_idle(request, &views[request->cursor]))
			break;
	}
	for (uint32_t i = request->cursor; i < limit && count < max; i++) {
		if (view_is_idle(request, &views[i]))
			picks[count++] = i;
	}
	return count;
}

/* The picked keys, mostly a run of the request's. */
static const struct far_key *
window_keys(struct far_prefetch *ctl, const struct far_prefetch_req *req, uint32_t count)
{
	if (ctl->picks[count - 1] - ctl->picks[0] == count - 1)
		return &req->keys[ctl->picks[0]];
	for (uint32_t i = 0; i < count; i++)
		ctl->keys[i] = req->keys[ctl->picks[i]];
	return ctl->keys;
}

/* The same of a cell of a request that wants to know where its cells are: nothing is locked for it. */
static bool
window_seek(struct far_prefetch *ctl, struct far_prefetch_view *view, const struct far_key *key,
	    struct prefetch_load **bucket)
{
	enum far_l1_state state = far_l1_state_get(ctl->l1, key);
	struct prefetch_load *load;

	if (state == FAR_L1_READY || state == FAR_L1_READ_LOCKED) {
		far_prefetch_view_found(ctl, view);
		return true;
	}
	load = far_prefetch_load_in(bucket, key);
	if (load == NULL)
		return false;
	if (far_prefetch_load_has(load, view))
		far_prefetch_view_found(ctl, view);
	else
		far_prefetch_load_join(ctl, load, view, true);
	return true;
}

/* What L1 has of the picked keys, for those who want it from there. */
static void
window_read(struct far_prefetch *ctl, const struct prefetch_request *request, uint32_t count)
{
	const struct far_prefetch_view *first = &request->req->views[ctl->picks[0]];
	const struct far_key *keys;

	if (request->finding)
		return;
	keys = window_keys(ctl, request->req, count);
	if (!request->req->past_l1) {
		(void)far_l1_reserve_read(ctl->l1, far_prefetch_view_session(ctl, first), keys,
					  NULL, count, far_prefetch_view_readers(first),
					  ctl->grants);
		return;
	}
	(void)far_l1_delete(ctl->l1, keys, count, false, ctl->rcs);
	for (uint32_t i = 0; i < count; i++)
		ctl->grants[i] = (struct far_l1_grant){
			.rc = ctl->rcs[i] == 0 ? -ENOENT : ctl->rcs[i],
		};
}

/* Takes the picked keys until a gap or until room ends; gives back what was read in vain. */
static uint32_t
window_fill(struct far_prefetch *ctl, struct prefetch_window *window,
	    struct prefetch_request *request, uint32_t count)
{
	struct far_prefetch_view *views = request->req->views;
	const struct far_key *keys = request->req->keys;
	const struct far_l1_grant *grants = ctl->grants;
	const uint32_t *picks = ctl->picks;
	bool finding = request->finding;
	size_t surplus = 0;
	uint32_t taken = 0;

	/* A miss may be the gap behind which nothing is wanted. */
	for (; taken < count && picks[taken] < request->limit; taken++) {
		uint32_t idx = picks[taken];
		struct far_prefetch_view *view = &views[idx];
		const struct far_key *key = &keys[idx];
		struct prefetch_load **bucket = far_prefetch_load_bucket(ctl, key);
		bool done = finding ? window_seek(ctl, view, key, bucket)
				    : window_take(ctl, view, key, bucket, &grants[taken]);

		if (!done && !window_add(ctl, window, key, bucket, view))
			break;
	}
	if (finding)
		return taken;
	for (uint32_t i = taken; i < count; i++) {
		if (grants[i].rc == 0)
			ctl->loans[surplus++] = grants[i].loan;
	}
	if (surplus > 0)
		(void)far_l1_finish_read(
			ctl->l1, far_prefetch_view_session(ctl, &views[ctl->picks[0]]), ctl->loans,
			surplus, far_prefetch_view_readers(&views[ctl->picks[0]]), ctl->rcs);
	return taken;
}

/* Not further ahead of what is decided than so many windows. */
static bool
window_is_due(const struct far_prefetch *ctl, const struct prefetch_request *request)
{
	uint64_t ahead = 0;

	if (request->req->shape == NULL && request->cursor > request->decided)
		ahead = request->cursor - request->decided;
	/* Cells that are not wanted lie between those that are. */
	for (uint32_t i = request->decided; request->req->shape != NULL && i < request->cursor; i++)
		ahead += (request->req->views[i].stage & PREFETCH_STAGE_LOAD) != 0;
	return ahead <= (uint64_t)(ctl->config.windows_ahead - 1) * ctl->config.window_keys;
}

bool
far_prefetch_window_begin(struct far_prefetch *ctl, struct prefetch_request *request,
			  uint64_t now_ns)
{
	struct far_prefetch_req *req = request->req;
	struct prefetch_window *window;
	uint32_t count;
	uint32_t taken;

	if (request->cursor >= request->limit || !window_is_due(ctl, request))
		return false;
	if (ctl->loads_free == NULL || far_list_empty(&ctl->windows_free))
		return false;
	count = window_pick(ctl, request);
	if (count == 0)
		return false;
	window = FAR_CONTAINER_OF(ctl->windows_free.next, struct prefetch_window, node);
	window->id = ++ctl->window_id;
	window->request_id = req->request_id;
	window->began_ns = now_ns;
	window->sole = far_policy_route_sole(ctl->policy, ctl->set);
	window->ask_mask = 0;
	window->lookups = 0;
	window->load_count = 0;
	window->live = 0;
	window->begun = 0;
	window->ready = 0;
	window->attention = true;
	window->asks = true;
	window->starved = false;
	window->late = false;
	window_read(ctl, request, count);
	taken = window_fill(ctl, window, request, count);
	request->cursor = taken < count ? ctl->picks[taken] : ctl->picks[count - 1] + 1;
	if (window->live > 0) {
		far_list_remove(&window->node);
		far_list_push_back(&ctl->windows_live, &window->node);
	}
	return taken > 0;
}

/* Nobody is waited for any more, as far as the answers go. */
static bool
window_is_answered(const struct prefetch_window *window)
{
	if (window->lookups == 0 && !window->asks)
		return true;
	for (uint32_t i = 0; i < window->load_count; i++) {
		const struct prefetch_load *load = window->loads[i];

		if (load != NULL && load->state == PREFETCH_LOOKUP &&
		    (load->ask_mask | load->pend_mask) != 0)
			return false;
	}
	return true;
}

/* Memory goes to a request's keys in their order: what is behind a refused key is of no use. */
static bool
window_is_next(const struct far_prefetch *ctl, const struct prefetch_window *window)
{
	for (const struct far_list *it = ctl->windows_live.next; it != &window->node;
	     it = it->next) {
		const struct prefetch_window *other =
			FAR_CONTAINER_OF(it, const struct prefetch_window, node);

		if (other->request_id == window->request_id && other->begun > 0)
			return false;
	}
	return true;
}

static void
window_end(struct far_prefetch *ctl, struct prefetch_window *window)
{
	window->id = 0;
	far_list_remove(&window->node);
	/* The one that was used last is still in the processor's cache. */
	far_list_push_front(&ctl->windows_free, &window->node);
	ctl->kicked = true;
}

/* What it counts is what a walk over its loads finds. */
static inline bool
window_counts_hold(const struct prefetch_window *window)
{
	uint32_t live = 0, begun = 0, ready = 0;
	bool asks = false;

	for (uint32_t i = 0; i < window->load_count; i++) {
		const struct prefetch_load *load = window->loads[i];

		if (load == NULL)
			continue;
		live++;
		begun += load->state < PREFETCH_RESERVED;
		ready += load->state == PREFETCH_RESERVED;
		asks |= load->state == PREFETCH_LOOKUP && load->ask_mask != 0;
	}
	return live == window->live && begun == window->begun && ready == window->ready &&
	       (!asks || window->asks);
}

void
far_prefetch_window_step(struct far_prefetch *ctl, struct prefetch_window *window, uint64_t now_ns)
{
	bool answered, next;

	FAR_DASSERT(window_counts_hold(window));
	window->attention = false;
	window->starved = false;
	if (window->live == 0) {
		window_end(ctl, window);
		return;
	}
	far_prefetch_lookup_post(ctl, window);
	answered = window_is_answered(window);
	next = window_is_next(ctl, window);
	/* A store that is slow to answer holds up only what nobody else has. */
	if (answered || now_ns >= window->began_ns + PREFETCH_PATIENCE_NS)
		window->late = true;
	/* Before that nothing is planned that was not planned then. */
	if (window->late)
		far_prefetch_window_reserve(ctl, window, next);
	window->starved |= !next;
	far_prefetch_window_post(ctl, window);
	FAR_DASSERT(window_counts_hold(window));
	if (window->live == 0)
		window_end(ctl, window);
}
