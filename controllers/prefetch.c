/* prefetch.c - the prefetch controller's front: open, submit, cancel, and the tick that drives it. */
#include "controllers/prefetch.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/err.h"
#include "controllers/prefetch_key.h"

#define PREFETCH_REQUESTS_MAX    (1U << 20)
#define PREFETCH_LOADS_MAX       (1U << 20)
#define PREFETCH_WINDOW_KEYS_MAX 4096U
#define PREFETCH_LOOKUPS_MAX     512U
/* Rounds of one tick: what callbacks submit is begun at once, but a tick ends. */
#define PREFETCH_ROUNDS_MAX 8

static bool
config_is_valid(const struct far_prefetch_config *config)
{
	return config->requests_max > 0 && config->requests_max <= PREFETCH_REQUESTS_MAX &&
	       config->keys_max > 0 && config->loads_max > 0 &&
	       config->loads_max <= PREFETCH_LOADS_MAX && config->bytes_in_flight_max > 0 &&
	       config->window_keys > 0 && config->window_keys <= PREFETCH_WINDOW_KEYS_MAX &&
	       config->windows_ahead > 0 && config->windows_ahead <= config->keys_max;
}

/* Windows are few where loads fill them, and one each where requests are small. */
static uint32_t
windows_count(const struct far_prefetch_config *config)
{
	uint32_t count = 2 * (config->loads_max / config->window_keys);
	uint32_t small = config->requests_max < 64 ? config->requests_max : 64;

	if (count < small)
		count = small;
	if (count < config->windows_ahead)
		count = config->windows_ahead;
	return count < config->loads_max ? count : config->loads_max;
}

static int
open_requests(struct far_prefetch *ctl)
{
	ctl->requests = far_zalloc_array(ctl->config.requests_max, sizeof(*ctl->requests));
	if (ctl->requests == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < ctl->config.requests_max; i++) {
		far_list_init(&ctl->requests[i].dirty);
		far_list_push_back(&ctl->requests_free, &ctl->requests[i].node);
	}
	return 0;
}

static int
open_loads(struct far_prefetch *ctl)
{
	uint64_t buckets = 64;

	while (buckets < 2ULL * ctl->config.loads_max)
		buckets *= 2;
	ctl->loads = far_zalloc_array(ctl->config.loads_max, sizeof(*ctl->loads));
	ctl->buckets = far_zalloc_array(buckets, sizeof(struct prefetch_load *));
	if (ctl->loads == NULL || ctl->buckets == NULL)
		return -ENOMEM;
	ctl->bucket_mask = buckets - 1;
	for (uint32_t i = ctl->config.loads_max; i > 0; i--) {
		far_list_init(&ctl->loads[i - 1].interests);
		ctl->loads[i - 1].number = i;
		ctl->loads[i - 1].next = ctl->loads_free;
		ctl->loads_free = &ctl->loads[i - 1];
	}
	return 0;
}

static int
open_windows(struct far_prefetch *ctl)
{
	uint32_t keys = ctl->config.window_keys;
	size_t slots = (size_t)ctl->windows_max * keys;

	ctl->windows = far_zalloc_array(ctl->windows_max, sizeof(*ctl->windows));
	ctl->window_loads = far_zalloc_array(2 * slots, sizeof(struct prefetch_load *));
	ctl->window_items = far_zalloc_array(slots, sizeof(*ctl->window_items));
	ctl->window_pieces = far_zalloc_array(slots, sizeof(*ctl->window_pieces));
	ctl->window_tasks = far_zalloc_array(slots, sizeof(*ctl->window_tasks));
	if (ctl->windows == NULL || ctl->window_loads == NULL || ctl->window_items == NULL ||
	    ctl->window_pieces == NULL || ctl->window_tasks == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < ctl->windows_max; i++) {
		struct prefetch_window *window = &ctl->windows[i];
		size_t first = (size_t)i * keys;

		window->loads = &ctl->window_loads[2 * first];
		window->slots = &ctl->window_loads[2 * first + keys];
		window->items = &ctl->window_items[first];
		window->pieces = &ctl->window_pieces[first];
		window->tasks = &ctl->window_tasks[first];
		far_list_push_back(&ctl->windows_free, &window->node);
	}
	return 0;
}

static int
open_lookups(struct far_prefetch *ctl)
{
	uint32_t adapters = ctl->set->count > 0 ? ctl->set->count : 1;
	uint64_t count = (uint64_t)ctl->windows_max * adapters;
	uint32_t keys = ctl->config.window_keys;

	if (count > PREFETCH_LOOKUPS_MAX)
		count = PREFETCH_LOOKUPS_MAX;
	if (count < adapters)
		count = adapters;
	ctl->lookups_max = (uint32_t)count;
	ctl->lookups = far_zalloc_array(count, sizeof(*ctl->lookups));
	ctl->lookup_items = far_zalloc_array(count * keys, sizeof(*ctl->lookup_items));
	ctl->lookup_refs = far_zalloc_array(count * keys, sizeof(*ctl->lookup_refs));
	if (ctl->lookups == NULL || ctl->lookup_items == NULL || ctl->lookup_refs == NULL)
		return -ENOMEM;
	for (uint32_t i = ctl->lookups_max; i > 0; i--) {
		struct prefetch_lookup *lookup = &ctl->lookups[i - 1];

		lookup->items = &ctl->lookup_items[(size_t)(i - 1) * keys];
		lookup->refs = &ctl->lookup_refs[(size_t)(i - 1) * keys];
		lookup->next = ctl->lookups_free;
		ctl->lookups_free = lookup;
	}
	return 0;
}

static int
open_scratch(struct far_prefetch *ctl)
{
	size_t words = far_bitmap_words(ctl->config.keys_max);
	uint32_t keys = ctl->config.window_keys;

	ctl->unlock_keys = far_zalloc_array((size_t)FAR_L2_SET_MAX * keys, sizeof(struct far_key));
	ctl->picks = far_zalloc_array(keys, sizeof(*ctl->picks));
	ctl->keys = far_zalloc_array(keys, sizeof(*ctl->keys));
	ctl->grants = far_zalloc_array(keys, sizeof(*ctl->grants));
	ctl->wants = far_zalloc_array(keys, sizeof(*ctl->wants));
	ctl->refs = far_zalloc_array(keys, sizeof(*ctl->refs));
	ctl->loans = far_zalloc_array(keys, sizeof(*ctl->loans));
	ctl->rcs = far_zalloc_array(keys, sizeof(*ctl->rcs));
	ctl->cell_words = far_zalloc_array(words, sizeof(*ctl->cell_words));
	ctl->need_words = far_zalloc_array(words, sizeof(*ctl->need_words));
	ctl->chunk_words = far_zalloc_array(words, sizeof(*ctl->chunk_words));
	if (ctl->cell_words == NULL || ctl->need_words == NULL || ctl->chunk_words == NULL)
		return -ENOMEM;
	if (ctl->unlock_keys == NULL || ctl->picks == NULL || ctl->keys == NULL ||
	    ctl->grants == NULL || ctl->wants == NULL || ctl->refs == NULL || ctl->loans == NULL ||
	    ctl->rcs == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++)
		ctl->adapters[i].unlock_keys = &ctl->unlock_keys[(size_t)i * keys];
	return 0;
}

static int
open_all(struct far_prefetch *ctl)
{
	struct far_l1_usage usage;
	int rc;

	rc = open_requests(ctl);
	if (rc == 0)
		rc = open_loads(ctl);
	if (rc == 0)
		rc = open_windows(ctl);
	if (rc == 0)
		rc = open_lookups(ctl);
	if (rc == 0)
		rc = open_scratch(ctl);
	if (rc == 0)
		rc = far_l1_session_open(ctl->l1, "prefetch", &ctl->session);
	if (rc == 0) {
		far_l1_usage_get(ctl->l1, &usage);
		ctl->l1_capacity_bytes = usage.capacity_bytes;
	}
	return rc;
}

int
far_prefetch_open(const struct far_prefetch_config *config, struct far_l1 *l1,
		  const struct far_l2_set *set, const struct far_policy *policy,
		  struct far_clock *clock, struct far_prefetch **out)
{
	struct far_prefetch *ctl;
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
	if (ctl->config.window_keys > ctl->config.loads_max)
		ctl->config.window_keys = ctl->config.loads_max;
	ctl->windows_max = windows_count(&ctl->config);
	ctl->l1 = l1;
	ctl->set = set;
	ctl->policy = policy;
	ctl->clock = clock;
	ctl->deadline_next = FAR_TIME_NEVER;
	far_list_init(&ctl->requests_free);
	far_list_init(&ctl->active);
	far_list_init(&ctl->waiting);
	far_list_init(&ctl->ending);
	far_list_init(&ctl->dirty);
	far_list_init(&ctl->windows_free);
	far_list_init(&ctl->windows_live);
	rc = open_all(ctl);
	if (rc < 0) {
		far_prefetch_close(ctl);
		return rc;
	}
	*out = ctl;
	return 0;
}

void
far_prefetch_close(struct far_prefetch *ctl)
{
	if (ctl == NULL)
		return;
	FAR_ASSERT(far_prefetch_idle(ctl));
	for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++) {
		FAR_ASSERT(ctl->adapters[i].bytes_in_flight == 0);
		FAR_ASSERT(ctl->adapters[i].bytes_planned == 0);
	}
	if (ctl->session != 0)
		far_l1_session_close(ctl->l1, ctl->session);
	far_free(ctl->chunk_words);
	far_free(ctl->need_words);
	far_free(ctl->cell_words);
	far_free(ctl->rcs);
	far_free(ctl->loans);
	far_free(ctl->refs);
	far_free(ctl->wants);
	far_free(ctl->grants);
	far_free(ctl->keys);
	far_free(ctl->picks);
	far_free(ctl->unlock_keys);
	far_free(ctl->lookup_refs);
	far_free(ctl->lookup_items);
	far_free(ctl->lookups);
	far_free(ctl->window_tasks);
	far_free(ctl->window_pieces);
	far_free(ctl->window_items);
	far_free(ctl->window_loads);
	far_free(ctl->windows);
	far_free(ctl->buckets);
	far_free(ctl->loads);
	far_free(ctl->requests);
	far_free(ctl);
}

static int
submit_check(const struct far_prefetch *ctl, const struct far_prefetch_req *req)
{
	uint32_t cells;

	if (ctl->quiescing)
		return -ECANCELED;
	if (req->ended == NULL || req->readers == 0 || req->readers > 65535 ||
	    req->l1_prefix_count > req->count)
		return -EINVAL;
	if (req->count > 0 && (req->keys == NULL || req->views == NULL))
		return -EINVAL;
	if (req->mode != FAR_PREFETCH_LOOKUP && req->mode != FAR_PREFETCH_WARM)
		return -EINVAL;
	if (req->trim != FAR_PREFETCH_TRIM_PREFIX && req->trim != FAR_PREFETCH_TRIM_ALL)
		return -EINVAL;
	if (req->shape != NULL &&
	    (far_fold_cells(req->shape, &cells) < 0 || cells != req->count ||
	     req->trim != FAR_PREFETCH_TRIM_PREFIX || req->l1_prefix_count > 0))
		return -EINVAL;
	if (req->past_l1 && (req->shape != NULL || req->l1_prefix_count > 0))
		return -EINVAL;
	if (req->readable != NULL && req->readable->bit_count != req->count)
		return -EINVAL;
	if (req->session == 0 && (req->mode == FAR_PREFETCH_LOOKUP || req->l1_prefix_count > 0))
		return -EINVAL;
	if (req->count > ctl->config.keys_max || far_list_empty(&ctl->requests_free))
		return -E2BIG;
	return 0;
}

int
far_prefetch_submit(struct far_prefetch *ctl, struct far_prefetch_req *req)
{
	struct prefetch_request *request;
	uint64_t now_ns;
	int rc;

	rc = submit_check(ctl, req);
	if (rc < 0)
		return rc;
	request = FAR_CONTAINER_OF(far_list_pop_front(&ctl->requests_free), struct prefetch_request,
				   node);
	*request = (struct prefetch_request){.req = req};
	far_list_init(&request->dirty);
	request->cursor = req->l1_prefix_count;
	request->limit = req->count;
	request->trimmed = req->count;
	request->decided = req->l1_prefix_count;
	request->prefix_count = req->l1_prefix_count;
	request->finding = req->shape != NULL;
	request->due_ns = req->deadline_ns;
	now_ns = req->shape != NULL ? far_clock_now(ctl->clock) : 0;
	if (req->shape != NULL && now_ns < req->deadline_ns)
		request->due_ns = now_ns + (req->deadline_ns - now_ns) / 2;
	for (uint32_t i = 0; i < req->count; i++) {
		struct far_prefetch_view *view = &req->views[i];

		view->req = req;
		view->stage = 0;
		far_list_init(&view->interest);
		if (i < req->l1_prefix_count) {
			view->stage = PREFETCH_STAGE_FOUND;
			request->loans += view->loan != 0;
			continue;
		}
		view->rc = -EINPROGRESS;
		view->size_bytes = 0;
		view->loan = 0;
		view->addr = NULL;
		view->adapter = -1;
	}
	request->bytes_need = far_prefetch_request_bytes(ctl, request);
	req->rc = -EINPROGRESS;
	req->prefix_count = 0;
	req->chunk_count = 0;
	req->found_count = req->l1_prefix_count;
	req->found_is_final = req->l1_prefix_count == req->count;
	req->request_id = ++ctl->request_id;
	req->priv[0] = (uint64_t)(uintptr_t)request;
	far_list_push_back(&ctl->active, &request->node);
	far_prefetch_request_touch(ctl, request);
	if (request->due_ns < ctl->deadline_next)
		ctl->deadline_next = request->due_ns;
	ctl->requests_live++;
	ctl->counts.requests++;
	ctl->counts.keys += req->count;
	far_prefetch_tell_begun(ctl, req);
	ctl->kicked = true;
	return 0;
}

void
far_prefetch_req_cancel(struct far_prefetch *ctl, struct far_prefetch_req *req)
{
	struct prefetch_request *request = (struct prefetch_request *)(uintptr_t)req->priv[0];

	if (request == NULL || request->ending)
		return;
	FAR_ASSERT(request->req == req);
	far_prefetch_request_cancel(ctl, request);
	far_prefetch_unlock_flush(ctl);
}

static void
tick_callbacks(struct far_prefetch *ctl)
{
	struct far_list *it;

	/* A callback may submit and cancel, so each list is taken from its head. */
	while ((it = far_list_pop_front(&ctl->dirty)) != NULL)
		far_prefetch_request_settle(ctl,
					    FAR_CONTAINER_OF(it, struct prefetch_request, dirty));
	while ((it = far_list_pop_front(&ctl->ending)) != NULL)
		far_prefetch_request_deliver(ctl,
					     FAR_CONTAINER_OF(it, struct prefetch_request, node));
}

/* The first request of a list that is due; the earliest deadline of those that are not. */
static struct prefetch_request *
deadline_due(struct far_list *list, uint64_t now_ns, uint64_t *next)
{
	for (struct far_list *it = list->next; it != list; it = it->next) {
		struct prefetch_request *request =
			FAR_CONTAINER_OF(it, struct prefetch_request, node);

		if (request->due_ns <= now_ns)
			return request;
		if (request->due_ns < *next)
			*next = request->due_ns;
	}
	return NULL;
}

static void
tick_deadlines(struct far_prefetch *ctl, uint64_t now_ns)
{
	struct prefetch_request *request;
	uint64_t next;

	if (now_ns < ctl->deadline_next)
		return;
	do {
		next = FAR_TIME_NEVER;
		request = deadline_due(&ctl->active, now_ns, &next);
		if (request == NULL)
			request = deadline_due(&ctl->waiting, now_ns, &next);
		if (request != NULL)
			far_prefetch_request_expire(ctl, request);
	} while (request != NULL);
	/* A callback may have submitted one that is due earlier: it is in the lists as well, since the
	 * last scan ran after it. */
	ctl->deadline_next = next;
}

/* Holders first: what they hold is of use only if they come to an end. */
static void
tick_begin(struct far_prefetch *ctl, uint64_t now_ns)
{
	for (int pass = 0; pass < 2; pass++) {
		struct far_list *it;
		struct far_list *tmp;

		FAR_LIST_FOR_EACH_SAFE(it, tmp, &ctl->active)
		{
			struct prefetch_request *request =
				FAR_CONTAINER_OF(it, struct prefetch_request, node);
			bool holds = far_prefetch_request_holds(request);

			if (holds != (pass == 0))
				continue;
			if (!holds && !request->admitted && !far_list_empty(&ctl->waiting)) {
				/* Others wait for memory: it takes its place among them. */
				far_prefetch_request_wait(ctl, request, 0);
				continue;
			}
			request->admitted = true;
			while (far_prefetch_window_begin(ctl, request, now_ns))
				;
		}
	}
}

static void
tick_windows(struct far_prefetch *ctl, bool kicked, uint64_t now_ns)
{
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &ctl->windows_live)
	{
		struct prefetch_window *window = FAR_CONTAINER_OF(it, struct prefetch_window, node);
		bool late = !window->late && now_ns >= window->began_ns + PREFETCH_PATIENCE_NS;

		if (window->attention || late || (window->starved && kicked))
			far_prefetch_window_step(ctl, window, now_ns);
	}
}

static uint64_t
tick_next(const struct far_prefetch *ctl, uint64_t now_ns)
{
	uint64_t next = ctl->deadline_next;

	if (ctl->kicked || !far_list_empty(&ctl->dirty) || !far_list_empty(&ctl->ending))
		return now_ns;
	if (!far_list_empty(&ctl->waiting) && ctl->wait_next < next)
		next = ctl->wait_next;
	for (const struct far_list *it = ctl->windows_live.next; it != &ctl->windows_live;
	     it = it->next) {
		const struct prefetch_window *window =
			FAR_CONTAINER_OF(it, const struct prefetch_window, node);

		if (!window->late && window->began_ns + PREFETCH_PATIENCE_NS < next)
			next = window->began_ns + PREFETCH_PATIENCE_NS;
	}
	return next;
}

uint64_t
far_prefetch_tick(struct far_prefetch *ctl, uint64_t now_ns)
{
	ctl->tick_ns = now_ns;
	/* What has completed counts before what is due: an answer that is here is not late. */
	tick_callbacks(ctl);
	tick_deadlines(ctl, now_ns);
	for (int round = 0; round < PREFETCH_ROUNDS_MAX; round++) {
		bool kicked;

		if (!far_list_empty(&ctl->waiting) && now_ns >= ctl->wait_next)
			far_prefetch_request_admit(ctl, now_ns);
		kicked = ctl->kicked;
		ctl->kicked = false;
		if (kicked)
			tick_begin(ctl, now_ns);
		tick_windows(ctl, kicked, now_ns);
		tick_callbacks(ctl);
		if (!ctl->kicked)
			break;
	}
	far_prefetch_unlock_flush(ctl);
	return tick_next(ctl, now_ns);
}

void
far_prefetch_quiesce(struct far_prefetch *ctl)
{
	struct far_list *lists[] = {&ctl->active, &ctl->waiting};

	ctl->quiescing = true;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		while (!far_list_empty(lists[i]))
			far_prefetch_request_cancel(
				ctl,
				FAR_CONTAINER_OF(lists[i]->next, struct prefetch_request, node));
	}
	/* Loads that went on after their requests' deadlines, and lookups that nobody awaits. */
	for (struct far_list *it = ctl->windows_live.next; it != &ctl->windows_live;
	     it = it->next) {
		struct prefetch_window *window = FAR_CONTAINER_OF(it, struct prefetch_window, node);

		for (uint32_t i = 0; i < ctl->config.window_keys; i++) {
			struct prefetch_task *task = &window->tasks[i];

			if (!task->live || task->cancelled)
				continue;
			task->cancelled = true;
			far_l2_cancel(task->task.l2, &task->task);
		}
	}
	for (uint32_t i = 0; i < ctl->lookups_max; i++) {
		struct prefetch_lookup *lookup = &ctl->lookups[i];

		if (!lookup->live || lookup->cancelled)
			continue;
		lookup->cancelled = true;
		far_l2_cancel(lookup->task.l2, &lookup->task);
	}
	far_prefetch_unlock_flush(ctl);
}

bool
far_prefetch_idle(const struct far_prefetch *ctl)
{
	return ctl->requests_live == 0 && ctl->loads_live == 0 && ctl->lookups_live == 0;
}

static bool
load_names(const struct prefetch_load *load, uint32_t adapter)
{
	if (load->charged_bytes > 0 && load->charged_adapter == adapter)
		return true;
	/* What was found is of the route. */
	for (uint32_t i = 0; i < load->route_count; i++) {
		if (load->route[i] == adapter)
			return true;
	}
	return false;
}

bool
far_prefetch_names(const struct far_prefetch *ctl, uint32_t adapter)
{
	const struct prefetch_adapter *state = &ctl->adapters[adapter];

	if (state->lookups_live > 0 || state->tasks_live > 0 || state->bytes_in_flight > 0 ||
	    state->unlock_count > 0)
		return true;
	for (const struct far_list *it = ctl->windows_live.next; it != &ctl->windows_live;
	     it = it->next) {
		const struct prefetch_window *window =
			FAR_CONTAINER_OF(it, const struct prefetch_window, node);

		for (uint32_t i = 0; i < window->load_count; i++) {
			if (window->loads[i] != NULL && load_names(window->loads[i], adapter))
				return true;
		}
	}
	return false;
}

void
far_prefetch_adapter_renew(struct far_prefetch *ctl, uint32_t adapter)
{
	FAR_ASSERT(!far_prefetch_names(ctl, adapter));
	ctl->adapters[adapter] = (struct prefetch_adapter){
		.unlock_keys = ctl->adapters[adapter].unlock_keys,
		.generation = ctl->set->generations[adapter],
	};
}

void
far_prefetch_counts_get(const struct far_prefetch *ctl, struct far_prefetch_counts *out)
{
	*out = ctl->counts;
}
