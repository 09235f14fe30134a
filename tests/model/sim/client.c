/* client.c - a client's life: L1, adapters and controllers as they are, and who uses them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"
#include "tests/model/sim/sim.h"

#define WRITES_MAX 4U

/* ---- from start to death ---- */

static void
controllers_open(struct sim_client *client)
{
	static const char *const policies[] = {"placement,retain", "fastest,retain", "default",
					       "placement,fastest"};
	struct far_prefetch_config prefetch = {
		.requests_max = SIM_REQUESTS + 2,
		.keys_max = SIM_REQUEST_KEYS,
		.loads_max = 64,
		.bytes_in_flight_max = 64U << 10,
		.window_keys = 4,
		.windows_ahead = 2,
	};
	struct far_store_config store = {
		.queue_max = 32,
		.queue_bytes_max = 64U << 10,
		.bytes_in_flight_max = 32U << 10,
		.batch_max = 8,
		.tries_max = 3,
		.retry_ns = 100 * FAR_NS_PER_US,
		.deadline_ns = 5 * FAR_NS_PER_MS,
	};
	struct far_eviction_config eviction = {
		.high = 0.9, .low = 0.6, .step_max = 4, .period_ns = 200 * FAR_NS_PER_US};
	char error[256];

	client->policy.replicas = 1 + (uint32_t)far_rng_below(&client->rng, 2);
	FAR_ASSERT(far_policy_parse(policies[far_rng_below(&client->rng, 4)], &client->policy,
				    error) == 0);
	FAR_ASSERT(far_prefetch_open(&prefetch, client->l1, &client->set, &client->policy,
				     client->sim->clock, &client->prefetch) == 0);
	FAR_ASSERT(far_store_open(&store, client->l1, &client->set, &client->policy,
				  client->sim->clock, NULL, NULL, &client->store) == 0);
	FAR_ASSERT(far_eviction_open(&eviction, client->l1, &client->eviction) == 0);
}

void
sim_client_start(struct sim_client *client)
{
	struct far_transport_config tp_config = {
		.clock = client->sim->clock, .fabric = client->sim->fabric, .host = client->name};
	struct far_mem_source source = {.size_bytes = SIM_ARENA_BYTES, .fd = -1};
	struct far_l1_config l1 = {
		.size_bytes = SIM_ARENA_BYTES,
		.align_bytes = 64,
		.block_bytes_min = 512,
		.shards = 2,
		.policy = far_rng_below(&client->rng, 2) == 0 ? FAR_L1_LRU : FAR_L1_S3FIFO,
		.clock = client->sim->clock,
	};

	if (client->arena == NULL)
		client->arena = far_zalloc_aligned(4096, SIM_ARENA_BYTES);
	FAR_ASSERT(far_transport_open("loop", &tp_config, &client->tp) == 0);
	source.base = client->arena;
	FAR_ASSERT(far_transport_mem_reg(client->tp, &source, FAR_RIGHT_LOCAL, NULL,
					 &client->mem) == 0);
	l1.base = client->arena;
	FAR_ASSERT(far_l1_open(&l1, &client->l1) == 0);
	FAR_ASSERT(far_l1_session_open(client->l1, "sim", &client->session) == 0);
	client->set = (struct far_l2_set){0};
	memset(client->requests, 0, sizeof(client->requests));
	sim_adapters_open(client);
	controllers_open(client);
	client->paused = false;
	client->lives++;
}

/* With open lanes, locks and requests: nothing of it is given back. */
void
sim_client_kill(struct sim_client *client)
{
	far_loop_host_kill(client->sim->fabric, client->name);
	sim_tasks_forget(client);
	far_loop_host_bury(client->tp);
	sim_client_start(client);
}

void
sim_client_pause(struct sim_client *client, bool paused)
{
	client->paused = paused;
	far_loop_host_pause(client->sim->fabric, client->name, paused);
}

void
sim_client_turn(struct sim_client *client)
{
	uint64_t now_ns = far_clock_now(client->sim->clock);

	if (client->paused || client->tp == NULL)
		return;
	while (far_transport_poll(client->tp, 64) > 0)
		;
	FAR_L2_SET_FOR_EACH(&client->set, i)
	{
		(void)far_l2_tick(client->set.items[i], now_ns);
	}
	(void)far_prefetch_tick(client->prefetch, now_ns);
	(void)far_store_tick(client->store, now_ns);
	(void)far_eviction_tick(client->eviction, now_ns);
	for (uint32_t i = 0; i < SIM_REQUESTS; i++)
		if (client->requests[i].live && client->requests[i].req.deadline_ns <= now_ns)
			sim_fail(client->sim, "a request outlived its deadline");
	client->sim->report->checks[SIM_CHECK_DEADLINE]++;
}

/* ---- its users ---- */

void
sim_client_write(struct sim_client *client, const struct sim_action *action)
{
	uint32_t count = 1 + sim_draw(action, 0, WRITES_MAX), first = sim_draw(action, 1, SIM_KEYS);
	struct far_l1_want wants[WRITES_MAX];
	struct far_l1_grant grants[WRITES_MAX];

	if (client->paused)
		return;
	/* Hot ones are written again when they are lost. */
	if (sim_draw(action, 7, 4) == 0)
		first %= SIM_HOT_KEYS;
	client->recent[client->written++ % SIM_RECENT] = first;
	for (uint32_t i = 0; i < count; i++)
		wants[i] = (struct far_l1_want){
			.key = sim_key((first + i) % SIM_KEYS),
			.size_bytes = sim_size((first + i) % SIM_KEYS),
		};
	(void)far_l1_reserve_write(client->l1, client->session, wants, count, grants);
	for (uint32_t i = 0; i < count; i++) {
		int rc = 0;

		if (grants[i].rc != 0)
			continue;
		sim_buffer_check(client->sim, grants[i].addr, grants[i].size_bytes, "write");
		sim_block_fill((first + i) % SIM_KEYS, grants[i].addr);
		if (sim_draw(action, 2 + i, 8) == 0)
			(void)far_l1_abort_write(client->l1, client->session, &grants[i].loan, 1,
						 &rc);
		else
			(void)far_l1_finish_write(client->l1, client->session, &grants[i].loan, 1,
						  &rc);
		if (rc != 0)
			sim_fail(client->sim, "a write could not be ended: %d", rc);
	}
}

static void
view_check(struct sim_request *request, uint32_t i, const char *where)
{
	const struct far_prefetch_view *view = &request->views[i];
	struct sim *sim = request->client->sim;

	sim_buffer_check(sim, view->addr, view->size_bytes, where);
	sim_block_check(sim, request->ids[i], view->addr, view->size_bytes, where);
}

static void
advanced(struct far_prefetch_req *req, uint32_t prefix_count)
{
	struct sim_request *request = FAR_CONTAINER_OF(req, struct sim_request, req);

	if (!request->live)
		sim_fail(request->client->sim, "a request advanced that does not live");
	for (uint32_t i = 0; i < prefix_count && req->mode == FAR_PREFETCH_LOOKUP; i++)
		view_check(request, i, "advanced");
}

static void
ended(struct far_prefetch_req *req)
{
	struct sim_request *request = FAR_CONTAINER_OF(req, struct sim_request, req);
	struct sim *sim = request->client->sim;

	if (!request->live)
		sim_fail(sim, "a request ended twice");
	request->live = false;
	sim->report->checks[SIM_CHECK_ENDED]++;
	for (uint32_t i = 0; i < req->count; i++) {
		const struct far_prefetch_view *view = &request->views[i];

		if (view->rc == -EINPROGRESS)
			sim_fail(sim, "a request ended with an undecided key");
		if (i < req->prefix_count && view->rc != 0)
			sim_fail(sim, "a prefix has a hole: %d", view->rc);
		if (view->rc != 0 && view->loan != 0)
			sim_fail(sim, "a miss has a loan");
		if (view->rc == 0 && req->mode == FAR_PREFETCH_LOOKUP) {
			request->held = true;
			view_check(request, i, "ended");
		}
	}
}

static struct sim_request *
request_find(struct sim_client *client, bool live, bool held)
{
	for (uint32_t i = 0; i < SIM_REQUESTS; i++)
		if (client->requests[i].live == live && client->requests[i].held == held)
			return &client->requests[i];
	return NULL;
}

/* As a client's handle does it: what L1 has of the prefix is locked before anything is looked up. */
static void
prefix_lock(struct sim_request *request)
{
	struct sim_client *client = request->client;
	struct far_l1_grant grants[SIM_REQUEST_KEYS];
	size_t count = far_l1_reserve_read_prefix(client->l1, client->session, request->keys, NULL,
						  request->req.count, 1, grants);

	for (size_t i = 0; i < count; i++)
		request->views[i] = (struct far_prefetch_view){
			.size_bytes = grants[i].size_bytes,
			.loan = grants[i].loan,
			.addr = grants[i].addr,
			.adapter = -1,
		};
	request->req.l1_prefix_count = (uint32_t)count;
}

/* What was written lately by anybody; a few all the time, which eviction at the donor moves; or any. */
static uint32_t
first_pick(const struct sim_client *client, const struct sim_action *action)
{
	const struct sim_client *writer = &client->sim->clients[sim_draw(action, 6, SIM_CLIENTS)];

	switch (sim_draw(action, 5, 4)) {
	case 0:
		return sim_draw(action, 1, SIM_KEYS);
	case 1:
		return sim_draw(action, 1, SIM_HOT_KEYS);
	default:
		return writer->recent[sim_draw(action, 1, SIM_RECENT)];
	}
}

void
sim_client_prefetch(struct sim_client *client, const struct sim_action *action)
{
	struct sim_request *request = request_find(client, false, false);
	uint32_t first = first_pick(client, action), far = sim_draw(action, 2, 4);

	if (client->paused || request == NULL)
		return;
	memset(request, 0, sizeof(*request));
	request->client = client;
	request->req = (struct far_prefetch_req){
		.keys = request->keys,
		.views = request->views,
		.count = 1 + sim_draw(action, 0, SIM_REQUEST_KEYS),
		.mode = action->kind == SIM_WARM ? FAR_PREFETCH_WARM : FAR_PREFETCH_LOOKUP,
		.trim = sim_draw(action, 3, 2) == 0 ? FAR_PREFETCH_TRIM_PREFIX
						    : FAR_PREFETCH_TRIM_ALL,
		.readers = 1,
		.session = client->session,
		.deadline_ns = far_clock_now(client->sim->clock) +
			       (far == 0 ? sim_draw(action, 4, 60) * FAR_NS_PER_US
					 : sim_draw(action, 4, 20) * FAR_NS_PER_MS),
		.advanced = advanced,
		.ended = ended,
	};
	for (uint32_t i = 0; i < request->req.count; i++) {
		request->ids[i] = (first + i) % SIM_KEYS;
		request->keys[i] = sim_key(request->ids[i]);
	}
	request->live = true;
	if (request->req.mode == FAR_PREFETCH_LOOKUP)
		prefix_lock(request);
	if (far_prefetch_submit(client->prefetch, &request->req) != 0)
		sim_fail(client->sim, "a request was refused");
}

void
sim_client_cancel(struct sim_client *client, const struct sim_action *action)
{
	struct sim_request *request = request_find(client, true, false);
	(void)action;

	if (!client->paused && request != NULL)
		far_prefetch_req_cancel(client->prefetch, &request->req);
}

static void
request_release(struct sim_request *request)
{
	struct sim_client *client = request->client;

	for (uint32_t i = 0; i < request->req.count; i++) {
		int rc = 0;

		if (request->views[i].loan == 0)
			continue;
		view_check(request, i, "held");
		(void)far_l1_finish_read(client->l1, client->session, &request->views[i].loan, 1, 1,
					 &rc);
		if (rc != 0)
			sim_fail(client->sim, "a loan could not be given back: %d", rc);
	}
	request->held = false;
}

void
sim_client_release(struct sim_client *client, const struct sim_action *action)
{
	struct sim_request *request = request_find(client, false, true);
	(void)action;

	if (!client->paused && request != NULL)
		request_release(request);
}

void
sim_client_evict(struct sim_client *client, const struct sim_action *action)
{
	uint32_t blocks = 1 + sim_draw(action, 0, 16);

	if (!client->paused)
		(void)far_l1_evict(client->l1, SIM_ARENA_BYTES, blocks, NULL);
}

void
sim_client_delete(struct sim_client *client, const struct sim_action *action)
{
	uint32_t count = 1 + sim_draw(action, 0, WRITES_MAX), first = sim_draw(action, 1, SIM_KEYS);
	struct far_key keys[WRITES_MAX];
	int rcs[WRITES_MAX];

	if (client->paused)
		return;
	for (uint32_t i = 0; i < count; i++)
		keys[i] = sim_key((first + i) % SIM_KEYS);
	(void)far_l1_delete(client->l1, keys, count, sim_draw(action, 2, 2) == 0, rcs);
}

/* ---- its end ---- */

void
sim_client_quiesce(struct sim_client *client)
{
	for (uint32_t i = 0; i < SIM_REQUESTS; i++)
		if (client->requests[i].held)
			request_release(&client->requests[i]);
	far_prefetch_quiesce(client->prefetch);
	far_store_quiesce(client->store);
	FAR_L2_SET_FOR_EACH(&client->set, i)
	{
		far_l2_quiesce(client->set.items[i]);
	}
}

bool
sim_client_idle(const struct sim_client *client)
{
	FAR_L2_SET_FOR_EACH(&client->set, i)
	{
		if (!far_l2_quiesced(client->set.items[i]))
			return false;
	}
	return far_prefetch_idle(client->prefetch) && far_store_idle(client->store);
}

static void
books_check(struct sim_client *client)
{
	struct far_l1_usage usage;

	far_l1_check(client->l1);
	far_l1_usage_get(client->l1, &usage);
	if (usage.loan_count != 0 || usage.locked_bytes != 0 || usage.quarantine_bytes != 0)
		sim_fail(client->sim, "%s ends with %u loans, %u bytes locked, %u in quarantine",
			 client->name, (unsigned)usage.loan_count, (unsigned)usage.locked_bytes,
			 (unsigned)usage.quarantine_bytes);
	(void)far_l1_clear(client->l1, false);
	far_l1_usage_get(client->l1, &usage);
	if (usage.used_bytes != 0 || usage.block_count != 0)
		sim_fail(client->sim, "%s: %u bytes are used by nobody", client->name,
			 (unsigned)usage.used_bytes);
	client->sim->report->checks[SIM_CHECK_BOOKS]++;
}

void
sim_client_close(struct sim_client *client)
{
	far_prefetch_close(client->prefetch);
	far_store_close(client->store);
	far_eviction_close(client->eviction);
	FAR_L2_SET_FOR_EACH(&client->set, i)
	{
		far_l2_close(client->set.items[i]);
	}
	books_check(client);
	far_l1_session_close(client->l1, client->session);
	far_l1_close(client->l1);
	far_transport_mem_dereg(client->mem);
	far_transport_close(client->tp);
	client->tp = NULL;
	far_free(client->arena);
}
