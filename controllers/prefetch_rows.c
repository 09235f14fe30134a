/* prefetch_rows.c - requests for a model with windows: which cells are found, needed, kept. */
#include "base/assert.h"
#include "base/err.h"
#include "controllers/prefetch_key.h"

/*
 * Two walks over the cells. The first one finds out which there are and holds nothing: what a prefix
 * does not need is never locked, in L1 or at an adapter. Then the prefix is chosen, and the second
 * walk is that of any other request, over the cells that are needed: they are looked up once more.
 * A cell that cannot be had after all makes the choice anew; the prefix gets shorter each time.
 */

static uint32_t
cells_per_chunk(const struct far_fold_shape *shape)
{
	return shape->groups * shape->ranks;
}

void
far_prefetch_rows_miss(struct prefetch_request *request, uint32_t idx)
{
	const struct far_fold_shape *shape = request->req->shape;
	uint32_t first = idx - idx % cells_per_chunk(shape);

	if (!request->finding) {
		request->refold = true;
		return;
	}
	/* No prefix is served beyond a hole of full attention: nobody has to look there. */
	if (shape->windows[idx / shape->ranks % shape->groups] <= 0 && first < request->limit)
		request->limit = first;
}

/* Cells that there are, as far as is known. */
static void
rows_present(const struct prefetch_request *request, struct far_bitmap *present)
{
	const struct far_prefetch_req *req = request->req;

	for (uint32_t i = 0; i < req->count; i++) {
		const struct far_prefetch_view *view = &req->views[i];

		if (view->rc == 0 || ((view->rc == -EINPROGRESS || view->rc == -ECANCELED) &&
				      (view->stage & PREFETCH_STAGE_FOUND) != 0))
			far_bitmap_set(present, i);
	}
}

/* Runs of cells that are not needed are dropped; needed ones that had been dropped are wanted again. */
static void
rows_apply(struct far_prefetch *ctl, struct prefetch_request *request,
	   const struct far_bitmap *needed)
{
	struct far_prefetch_req *req = request->req;
	uint32_t first = 0;

	while (first < req->count) {
		uint32_t end = (uint32_t)far_bitmap_next(needed, first);

		far_prefetch_request_drop(ctl, request, first, end, -ECANCELED, true);
		for (; end < req->count && far_bitmap_test(needed, end); end++) {
			if (req->views[end].rc == -ECANCELED)
				req->views[end].rc = -EINPROGRESS;
			FAR_ASSERT(req->views[end].rc == 0 || req->views[end].rc == -EINPROGRESS);
		}
		first = end;
	}
}

void
far_prefetch_rows_fold(struct far_prefetch *ctl, struct prefetch_request *request)
{
	struct far_prefetch_req *req = request->req;
	const struct far_fold_shape *shape = req->shape;
	uint32_t before = req->chunk_count;
	struct far_bitmap servable;
	struct far_bitmap present;
	struct far_bitmap needed;
	int rc;

	far_bitmap_init(&servable, ctl->chunk_words, shape->chunks);
	far_bitmap_init(&present, ctl->cell_words, req->count);
	far_bitmap_init(&needed, ctl->need_words, req->count);
	rows_present(request, &present);
	rc = far_fold(shape, &present, &servable);
	FAR_ASSERT(rc == 0); /* submit has seen the shape */
	req->chunk_count = (uint32_t)(far_bitmap_highest(&servable) + 1);
	/* So the choice comes to an end. */
	FAR_ASSERT(request->finding || req->chunk_count < before);
	rc = far_unfold(shape, req->chunk_count, &needed);
	FAR_ASSERT(rc == 0);
	request->finding = false;
	request->refold = false;
	request->due_ns = req->deadline_ns;
	rows_apply(ctl, request, &needed);
	request->limit = req->chunk_count * cells_per_chunk(shape);
	request->trimmed = request->limit;
	request->cursor = 0;
	request->decided = 0;
	request->prefix_count = 0;
	request->bytes_need = far_prefetch_request_bytes(ctl, request);
}

void
far_prefetch_rows_stop_finding(struct far_prefetch *ctl, struct prefetch_request *request)
{
	struct far_prefetch_req *req = request->req;

	for (uint32_t i = 0; i < req->count; i++) {
		struct far_prefetch_view *view = &req->views[i];

		if (view->rc != -EINPROGRESS || (view->stage & PREFETCH_STAGE_FOUND) != 0)
			continue;
		if ((view->stage & PREFETCH_STAGE_LOAD) != 0)
			far_prefetch_load_leave(ctl, view, true);
		view->rc = -ETIMEDOUT;
	}
	far_prefetch_request_touch(ctl, request);
}

/* Locks what is needed and in L1. */
static void
rows_lock(struct far_prefetch *ctl, struct prefetch_request *request)
{
	struct far_prefetch_req *req = request->req;
	uint32_t i = 0;

	while (i < request->limit) {
		uint32_t count = 0;

		for (; i < request->limit && count < ctl->config.window_keys; i++) {
			if (req->views[i].rc != -EINPROGRESS)
				continue;
			ctl->picks[count] = i;
			ctl->keys[count++] = req->keys[i];
		}
		if (count == 0)
			return;
		(void)far_l1_reserve_read(ctl->l1, far_prefetch_view_session(ctl, req->views),
					  ctl->keys, NULL, count,
					  far_prefetch_view_readers(req->views), ctl->grants);
		for (uint32_t k = 0; k < count; k++) {
			struct far_prefetch_view *view = &req->views[ctl->picks[k]];

			if (ctl->grants[k].rc == 0)
				far_prefetch_view_grant(ctl, view, &ctl->grants[k], -1);
			else
				far_prefetch_view_miss(ctl, view, ctl->grants[k].rc);
		}
	}
}

void
far_prefetch_rows_expire(struct far_prefetch *ctl, struct prefetch_request *request)
{
	struct far_prefetch_req *req = request->req;

	for (uint32_t i = 0; i < req->count; i++) {
		struct far_prefetch_view *view = &req->views[i];
		enum far_l1_state state;

		if ((view->stage & PREFETCH_STAGE_LOAD) != 0)
			far_prefetch_load_leave(ctl, view, false);
		if (view->rc != -EINPROGRESS && view->rc != -ECANCELED)
			continue;
		state = far_l1_state_get(ctl->l1, &req->keys[i]);
		if (state == FAR_L1_READY || state == FAR_L1_READ_LOCKED) {
			view->stage |= PREFETCH_STAGE_FOUND;
			continue;
		}
		view->stage &= ~PREFETCH_STAGE_FOUND;
		if (view->rc == -EINPROGRESS)
			view->rc = -ETIMEDOUT;
	}
	/* What L1 has may have come since the last choice: this one is free. */
	request->finding = true;
	do {
		far_prefetch_rows_fold(ctl, request);
		rows_lock(ctl, request);
	} while (request->refold);
}
