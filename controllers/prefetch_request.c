/* prefetch_request.c - one request's life: prefix, gap, deadline, cancel, and the queue for memory. */
#include "controllers/prefetch_key.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mark.h"
#include "base/mutant.h"

bool
far_prefetch_request_holds(const struct prefetch_request *request)
{
	return request->req->l1_prefix_count > 0 || request->loans > 0 || request->loads > 0;
}

/* Takes the loan: of a length that was not asked for, it is given back. */
void
far_prefetch_view_grant(struct far_prefetch *ctl, struct far_prefetch_view *view,
			const struct far_l1_grant *grant, int32_t adapter)
{
	int rc;

	if (!far_prefetch_view_fits(view, grant->size_bytes)) {
		(void)far_l1_finish_read(ctl->l1, far_prefetch_view_session(ctl, view),
					 &grant->loan, 1, far_prefetch_view_readers(view), &rc);
		far_prefetch_view_miss(ctl, view, -EMSGSIZE);
		return;
	}
	/* Somebody else's temporary is not what a warm request promises. */
	if (adapter < 0 && view->req->mode == FAR_PREFETCH_WARM)
		(void)far_l1_retain(ctl->l1, far_prefetch_view_session(ctl, view), &grant->loan, 1,
				    &rc);
	far_prefetch_view_read(ctl, view, grant, adapter);
}

void
far_prefetch_view_miss(struct far_prefetch *ctl, struct far_prefetch_view *view, int rc)
{
	struct prefetch_request *request = far_prefetch_request_of(view);
	uint32_t idx = far_prefetch_view_idx(view);

	FAR_ASSERT(view->rc == -EINPROGRESS);
	FAR_ASSERT(rc < 0);
	view->rc = rc;
	if (view->req->shape != NULL) {
		view->stage &= ~PREFETCH_STAGE_FOUND;
		far_prefetch_rows_miss(request, idx);
	} else if (view->req->trim == FAR_PREFETCH_TRIM_PREFIX && idx < request->limit) {
		request->limit = idx;
	}
	far_prefetch_request_touch(ctl, request);
}

/* Gives back the loans of views [first, end), in batches. */
static void
request_release(struct far_prefetch *ctl, struct prefetch_request *request, uint32_t first,
		uint32_t end)
{
	uint32_t i = first;

	while (i < end) {
		far_l1_session session = 0;
		uint32_t readers = 0;
		size_t count = 0;

		for (; i < end && count < ctl->config.window_keys; i++) {
			struct far_prefetch_view *view = &request->req->views[i];

			if (view->loan == 0)
				continue;
			if (count > 0 && (far_prefetch_view_session(ctl, view) != session ||
					  far_prefetch_view_readers(view) != readers))
				break;
			session = far_prefetch_view_session(ctl, view);
			readers = far_prefetch_view_readers(view);
			ctl->loans[count++] = view->loan;
			view->loan = 0;
			view->addr = NULL;
			request->loans--;
		}
		/* A loan of the caller's own prefix may be over already: that is its affair. */
		if (count > 0)
			(void)far_l1_finish_read(ctl->l1, session, ctl->loans, count, readers,
						 ctl->rcs);
	}
}

void
far_prefetch_request_drop(struct far_prefetch *ctl, struct prefetch_request *request,
			  uint32_t first, uint32_t end, int rc, bool cancel)
{
	for (uint32_t i = first; i < end; i++) {
		struct far_prefetch_view *view = &request->req->views[i];

		if ((view->stage & PREFETCH_STAGE_LOAD) != 0)
			far_prefetch_load_leave(ctl, view, cancel);
		if (view->rc == -EINPROGRESS)
			view->rc = rc;
		else if (view->rc == 0)
			view->rc = -ECANCELED;
	}
	request_release(ctl, request, first, end);
}

/* Keeps what is readable and waits for nothing more. */
static void
request_give_up(struct far_prefetch *ctl, struct prefetch_request *request, int rc)
{
	for (uint32_t i = request->decided; i < request->req->count; i++) {
		struct far_prefetch_view *view = &request->req->views[i];

		if ((view->stage & PREFETCH_STAGE_LOAD) != 0)
			far_prefetch_load_leave(ctl, view, false);
		if (view->rc == -EINPROGRESS)
			view->rc = rc;
	}
}

static void
account_miss(struct far_prefetch_counts *counts, int rc)
{
	switch (rc) {
	case -ENOENT:
		counts->missed_not_found++;
		break;
	case -EHOSTDOWN:
		counts->missed_donor_down++;
		break;
	case -ESTALE:
		counts->missed_stale++;
		break;
	case -EBADMSG:
		counts->missed_checksum++;
		break;
	case -EMSGSIZE:
		counts->missed_length++;
		break;
	case -ENOMEM:
		counts->missed_no_memory++;
		break;
	case -ETIMEDOUT:
		counts->missed_deadline++;
		break;
	case -EBUSY:
		counts->missed_busy++;
		break;
	default:
		counts->missed_error++;
		break;
	}
}

/* Every key is counted once, when the request ends: as a hit of its tier, or by why it is none. */
static void
request_account(struct far_prefetch *ctl, const struct prefetch_request *request)
{
	const struct far_prefetch_req *req = request->req;
	struct far_prefetch_counts *counts = &ctl->counts;

	/* Mostly all are readable, and none has joined: nobody has to be asked. Cells can be read twice. */
	if (request->prefix_count == req->count && request->joined == 0 && req->shape == NULL) {
		counts->l1_hits += req->count - request->loaded;
		counts->l2_hits += request->loaded;
		return;
	}
	for (uint32_t i = 0; i < req->count; i++) {
		const struct far_prefetch_view *view = &req->views[i];

		if (view->rc == 0) {
			if (view->adapter < 0)
				counts->l1_hits++;
			else
				counts->l2_hits++;
			counts->loads_joined +=
				view->adapter >= 0 && (view->stage & PREFETCH_STAGE_JOINED) != 0;
		} else if (view->rc == -ECANCELED && req->shape != NULL) {
			counts->out_of_window++;
		} else if (view->rc == -ECANCELED && i > request->limit) {
			counts->behind_gap++;
		} else {
			account_miss(counts, view->rc);
		}
	}
}

static void
request_free(struct far_prefetch *ctl, struct prefetch_request *request)
{
	FAR_ASSERT(request->loads == 0);
	far_list_remove(&request->node);
	far_list_remove(&request->dirty);
	request->req->priv[0] = 0;
	request->req = NULL;
	far_list_push_front(&ctl->requests_free, &request->node);
	ctl->requests_live--;
	ctl->kicked = true;
}

static void
request_end(struct far_prefetch *ctl, struct prefetch_request *request, int rc)
{
	struct far_prefetch_req *req = request->req;

	request_account(ctl, request);
	if (req->mode == FAR_PREFETCH_WARM)
		request_release(ctl, request, req->l1_prefix_count, req->count);
	if (req->readable != NULL) {
		far_bitmap_clear_all(req->readable);
		for (uint32_t i = 0; i < req->count; i++) {
			if (req->views[i].rc == 0)
				far_bitmap_set(req->readable, i);
		}
	}
	req->rc = rc;
	req->prefix_count = request->prefix_count;
	req->found_is_final = true;
	far_prefetch_tell_ended(ctl, req);
	request_free(ctl, request);
	req->ended(req);
}

/* The runs of decided and of readable keys; true if one has grown. */
static bool
request_grow(struct prefetch_request *request)
{
	const struct far_prefetch_view *views = request->req->views;
	uint32_t before = request->decided;

	while (request->prefix_count < request->limit && views[request->prefix_count].rc == 0)
		request->prefix_count++;
	/* Mostly they are one: each key is looked at once. */
	if (request->decided < request->prefix_count)
		request->decided = request->prefix_count;
	while (request->decided < request->limit &&
	       (views[request->decided].rc != -EINPROGRESS ||
		(request->finding && (views[request->decided].stage & PREFETCH_STAGE_FOUND) != 0)))
		request->decided++;
	return request->decided > before;
}

/* The run of keys that were found; true if there is news. */
static bool
request_find(struct prefetch_request *request)
{
	struct far_prefetch_req *req = request->req;
	uint32_t before = req->found_count;

	if (req->found_is_final)
		return false;
	if (req->shape != NULL) {
		if (request->finding)
			return false;
		req->found_count = req->chunk_count * req->shape->groups * req->shape->ranks;
		req->found_is_final = true;
		return true;
	}
	if (req->found_count < request->prefix_count)
		req->found_count = request->prefix_count;
	while (req->found_count < req->count &&
	       (req->views[req->found_count].stage & PREFETCH_STAGE_FOUND) != 0)
		req->found_count++;
	req->found_is_final =
		req->found_count == req->count || req->views[req->found_count].rc != -EINPROGRESS;
	return req->found_count > before || req->found_is_final;
}

/* An adapter that gave up at the deadline was a little faster than the tick: it is the same end. */
static int
request_end_rc(struct far_prefetch *ctl, const struct prefetch_request *request)
{
	const struct far_prefetch_req *req = request->req;

	/* With windows, an adapter that said nothing for half of the time is done without. */
	if (req->shape != NULL && far_clock_now(ctl->clock) < req->deadline_ns)
		return 0;
	for (uint32_t i = request->prefix_count; i < req->count; i++) {
		if (req->views[i].rc != -ETIMEDOUT)
			continue;
		ctl->counts.deadline_hits++;
		return -ETIMEDOUT;
	}
	return 0;
}

void
far_prefetch_request_settle(struct far_prefetch *ctl, struct prefetch_request *request)
{
	struct far_prefetch_req *req = request->req;
	uint32_t prefix_count = request->prefix_count;

	if (request->ending)
		return;
	if (request->limit < request->trimmed) {
		/* Behind a gap nothing is wanted, even while keys before it are on their way. */
		far_prefetch_request_drop(ctl, request, request->limit, request->trimmed,
					  -ECANCELED, true);
		request->trimmed = request->limit;
		if (request->cursor > request->limit)
			request->cursor = request->limit;
	}
	if (request_grow(request))
		ctl->kicked = true;
	if (request->refold || (request->finding && request->decided >= request->limit)) {
		far_prefetch_rows_fold(ctl, request);
		(void)request_grow(request);
		ctl->kicked = true;
	}
	/* A callback may cancel it. */
	if (request_find(request) && req->found != NULL) {
		req->found(req);
		if (request->ending)
			return;
	}
	if (request->prefix_count > prefix_count && req->advanced != NULL && req->shape == NULL) {
		req->advanced(req, request->prefix_count);
		if (request->ending)
			return;
	}
	if (request->decided >= request->limit)
		request_end(ctl, request, request_end_rc(ctl, request));
}

void
far_prefetch_request_expire(struct far_prefetch *ctl, struct prefetch_request *request)
{
	if (request->finding && far_clock_now(ctl->clock) < request->req->deadline_ns) {
		request->due_ns = request->req->deadline_ns;
		/* Unless it has not been let go yet. */
		if (request->admitted)
			far_prefetch_rows_stop_finding(ctl, request);
		return;
	}
	if (FAR_MUTANT(DEADLINE_IGNORED)) {
		request->due_ns = FAR_TIME_NEVER;
		return;
	}
	if (request->req->shape != NULL)
		far_prefetch_rows_expire(ctl, request);
	(void)request_grow(request);
	/* Loads go on by themselves: their blocks are resident for whoever asks next. */
	if (request->req->trim == FAR_PREFETCH_TRIM_PREFIX && request->req->shape == NULL) {
		request->limit = request->prefix_count;
		far_prefetch_request_drop(ctl, request, request->prefix_count, request->req->count,
					  -ETIMEDOUT, false);
	} else {
		request_give_up(ctl, request, -ETIMEDOUT);
	}
	FAR_MARK("a request is answered by its deadline, its loads go on");
	ctl->counts.deadline_hits++;
	request_end(ctl, request, -ETIMEDOUT);
}

void
far_prefetch_request_cancel(struct far_prefetch *ctl, struct prefetch_request *request)
{
	far_prefetch_request_drop(ctl, request, 0, request->req->count, -ECANCELED, true);
	request->ending = true;
	far_list_remove(&request->dirty);
	far_list_remove(&request->node);
	far_list_push_back(&ctl->ending, &request->node);
	ctl->kicked = true;
}

void
far_prefetch_request_deliver(struct far_prefetch *ctl, struct prefetch_request *request)
{
	struct far_prefetch_req *req = request->req;

	req->rc = -ECANCELED;
	req->prefix_count = 0;
	req->chunk_count = 0;
	far_prefetch_tell_ended(ctl, req);
	request_free(ctl, request);
	req->ended(req);
}

uint64_t
far_prefetch_request_bytes(const struct far_prefetch *ctl, const struct prefetch_request *request)
{
	const struct far_prefetch_req *req = request->req;
	uint64_t need = 0;

	/* All alike, and all undecided: without windows it is asked at the submit only. */
	if (req->sizes == NULL && req->shape == NULL) {
		need = (uint64_t)(request->limit - request->cursor) * ctl->block_bytes_seen;
		return need < ctl->l1_capacity_bytes ? need : ctl->l1_capacity_bytes;
	}
	for (uint32_t i = request->cursor; i < request->limit; i++) {
		if (req->views[i].rc != -EINPROGRESS)
			continue;
		need += req->sizes != NULL && req->sizes[i] != 0 ? req->sizes[i]
								 : ctl->block_bytes_seen;
		if (need >= ctl->l1_capacity_bytes)
			return ctl->l1_capacity_bytes;
	}
	return need;
}

/* ---- the queue for memory: by bytes, smallest first; ageing makes everybody small ---- */

static uint64_t
request_need(const struct prefetch_request *request, uint64_t now_ns)
{
	uint64_t halvings = (now_ns - request->waits_since) / PREFETCH_AGE_NS;
	uint64_t need = halvings < 64 ? request->bytes_need >> halvings : 0;

	return need > request->bytes_first ? need : request->bytes_first;
}

void
far_prefetch_request_wait(struct far_prefetch *ctl, struct prefetch_request *request,
			  uint32_t size_bytes)
{
	struct far_prefetch_req *req = request->req;
	uint64_t now_ns = far_clock_now(ctl->clock);
	uint32_t end = req->shape != NULL ? req->count : request->cursor;
	uint64_t need = 0;

	FAR_ASSERT(!far_prefetch_request_holds(request));
	for (uint32_t i = 0; i < end; i++) {
		struct far_prefetch_view *view = &req->views[i];

		if ((view->stage & PREFETCH_STAGE_LOAD) != 0) {
			const struct prefetch_load *load = far_prefetch_load_of(ctl, view);

			need += load->state == PREFETCH_LOOKUP
					? 0
					: far_l1_block_bytes(ctl->l1, load->size_bytes);
			far_prefetch_load_leave(ctl, view, true);
		}
		view->stage &= PREFETCH_STAGE_FOUND;
	}
	/* It begins anew when its turn comes; what it has learnt about its first gap stays. */
	request->cursor = 0;
	if (size_bytes > 0) {
		request->bytes_need = need;
		request->bytes_first = far_l1_block_bytes(ctl->l1, size_bytes);
		request->wait_ns =
			request->wait_ns == 0 ? PREFETCH_WAIT_NS_MIN : 2 * request->wait_ns;
		if (request->wait_ns > PREFETCH_WAIT_NS_MAX)
			request->wait_ns = PREFETCH_WAIT_NS_MAX;
		request->retry_ns = now_ns + request->wait_ns;
	}
	if (request->waits_since == 0)
		request->waits_since = now_ns;
	request->admitted = false;
	if (far_list_empty(&ctl->waiting))
		ctl->wait_next = now_ns + PREFETCH_WAIT_NS_MIN;
	far_list_remove(&request->node);
	far_list_push_back(&ctl->waiting, &request->node);
}

static struct prefetch_request *
admit_best(struct far_prefetch *ctl, uint64_t now_ns)
{
	struct prefetch_request *best = NULL;
	uint64_t best_need = 0;

	for (struct far_list *it = ctl->waiting.next; it != &ctl->waiting; it = it->next) {
		struct prefetch_request *request =
			FAR_CONTAINER_OF(it, struct prefetch_request, node);
		uint64_t need = request_need(request, now_ns);

		if (now_ns < request->retry_ns)
			continue;
		if (best == NULL || need < best_need ||
		    (need == best_need && request->req->request_id < best->req->request_id)) {
			best = request;
			best_need = need;
		}
	}
	return best;
}

void
far_prefetch_request_admit(struct far_prefetch *ctl, uint64_t now_ns)
{
	struct prefetch_request *best;
	struct far_l1_usage usage;
	uint64_t left;

	ctl->wait_next = now_ns + PREFETCH_WAIT_NS_MIN;
	far_l1_usage_get(ctl->l1, &usage);
	left = usage.capacity_bytes - usage.locked_bytes;
	if (usage.locked_bytes > usage.capacity_bytes)
		left = 0;
	while ((best = admit_best(ctl, now_ns)) != NULL) {
		uint64_t need = request_need(best, now_ns);

		if (need > left)
			break;
		left -= need;
		best->admitted = true;
		far_list_remove(&best->node);
		far_list_push_back(&ctl->active, &best->node);
		ctl->kicked = true;
	}
}
