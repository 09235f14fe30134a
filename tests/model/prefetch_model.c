/* prefetch_model.c - the prefetch controller in a hundred lines: what a prefix can be, and has to be. */
#include "tests/model/prefetch_model.h"

void
model_submit(struct model *model, struct model_req *req, model_loading_fn *loading)
{
	for (uint32_t i = 0; i < req->count; i++) {
		uint32_t key = req->keys[i];
		uint32_t route = model->routes[key];
		bool there = (model->held[key] & route) != 0;
		bool calm = ((model->upset[key] | model->down) & route) == 0;

		if (!loading(key))
			model->tainted[key] = false;
		req->may[i] = req->fits[i] && (there || model->resident[key] || model->stray[key]);
		req->clean[i] = calm && !model->writing[key] && !model->tainted[key];
		req->must[i] = req->clean[i] && req->fits[i] && there && model->roomy;
		/* The load that it begins meets what is wrong, and is joined by others. */
		model->tainted[key] = !req->clean[i];
		if (i < req->l1_prefix_count)
			req->may[i] = req->must[i] = true;
	}
	req->live = true;
}

/* Each live request's interest in a key: that it can be had now, or that something went wrong. Whether
 * there is one. */
static bool
each(struct model *model, uint32_t key, bool may)
{
	bool any = false;

	for (uint32_t r = 0; r < MODEL_REQS; r++) {
		struct model_req *req = &model->reqs[r];

		for (uint32_t i = req->l1_prefix_count; req->live && i < req->count; i++) {
			if (req->keys[i] != key)
				continue;
			req->may[i] = req->may[i] || (may && req->fits[i]);
			req->clean[i] = req->clean[i] && may;
			req->must[i] = req->must[i] && may;
			any = true;
		}
	}
	return any;
}

void
model_upset(struct model *model, uint32_t key, uint32_t adapters, model_loading_fn *loading)
{
	if (adapters != 0 && (adapters & model->routes[key]) == 0)
		return;
	if (each(model, key, false) || loading(key))
		model->tainted[key] = true;
}

void
model_put(struct model *model, uint32_t key, uint32_t adapter, model_loading_fn *loading)
{
	model->tainted[key] = model->tainted[key] || loading(key);
	model->held[key] |= 1U << adapter;
	if ((model->routes[key] & (1U << adapter)) != 0)
		(void)each(model, key, true);
}

void
model_drop(struct model *model, uint32_t key, uint32_t adapter, model_loading_fn *loading)
{
	model->held[key] &= ~(1U << adapter);
	model_upset(model, key, 1U << adapter, loading);
}

void
model_down(struct model *model, uint32_t adapter, bool down, model_loading_fn *loading)
{
	model->down &= ~(1U << adapter);
	if (!down)
		return;
	model->down |= 1U << adapter;
	for (uint32_t key = 0; key < MODEL_KEYS; key++)
		model_upset(model, key, 1U << adapter, loading);
}

void
model_reroute(struct model *model, uint32_t key, uint32_t routes, model_loading_fn *loading)
{
	if (routes == model->routes[key])
		return;
	model_upset(model, key, 0, loading);
	model->routes[key] = routes;
	if ((model->held[key] & routes) != 0)
		(void)each(model, key, true);
}

void
model_resident(struct model *model, uint32_t key, bool resident)
{
	model->resident[key] = resident;
	if (resident)
		(void)each(model, key, true);
}

void
model_bounds(const struct model_req *req, uint32_t *min_out, uint32_t *max_out)
{
	uint32_t min = 0, max = 0;

	while (min < req->count && req->must[min])
		min++;
	while (max < req->count && req->may[max])
		max++;
	*min_out = min;
	*max_out = max;
}
