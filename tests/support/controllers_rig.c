/* controllers_rig.c - L1, scripted adapters and a prefetch controller on a clock that stands still. */
#include "tests/support/controllers_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"

#define RIG_ROUNDS_MAX 200
#define RIG_RECORDS    65536

static void
rig_wake(void *arg)
{
	struct ctl_rig *rig = arg;

	rig->wakes++;
}

static void
rig_config(struct ctl_options *options)
{
	struct far_prefetch_config *prefetch = &options->prefetch;
	struct far_store_config *store = &options->store_config;

	if (options->fakes == 0)
		options->fakes = 1;
	if (options->policy == NULL)
		options->policy = options->placement ? "placement,retain" : "retain";
	if (options->l1_blocks == 0)
		options->l1_blocks = 256;
	if (prefetch->requests_max == 0)
		prefetch->requests_max = 8;
	if (prefetch->keys_max == 0)
		prefetch->keys_max = CTL_KEYS_MAX;
	if (prefetch->loads_max == 0)
		prefetch->loads_max = 256;
	if (prefetch->bytes_in_flight_max == 0)
		prefetch->bytes_in_flight_max = 64ULL << 20;
	if (prefetch->window_keys == 0)
		prefetch->window_keys = 16;
	if (prefetch->windows_ahead == 0)
		prefetch->windows_ahead = 4;
	if (store->queue_max == 0)
		store->queue_max = 64;
	if (store->queue_bytes_max == 0)
		store->queue_bytes_max = 64ULL << 20;
	if (store->bytes_in_flight_max == 0)
		store->bytes_in_flight_max = 64ULL << 20;
	if (store->batch_max == 0)
		store->batch_max = 16;
	if (store->tries_max == 0)
		store->tries_max = 3;
	if (store->retry_ns == 0)
		store->retry_ns = FAR_NS_PER_MS;
	if (store->deadline_ns == 0)
		store->deadline_ns = FAR_NS_PER_S;
}

static void
rig_open_l1(struct ctl_rig *rig, const struct ctl_options *options)
{
	struct far_l1_config config = {
		.size_bytes = (uint64_t)options->l1_blocks * CTL_BLOCK_BYTES,
		.align_bytes = CTL_BLOCK_BYTES,
		.block_bytes_min = CTL_BLOCK_BYTES,
		.policy = options->l1_policy,
		.clock = &rig->clock.clock,
	};

	rig->arena = far_zalloc_aligned(CTL_BLOCK_BYTES, config.size_bytes);
	assert_non_null(rig->arena);
	config.base = rig->arena;
	assert_int_equal(far_l1_open(&config, &rig->l1), 0);
	assert_int_equal(far_l1_session_open(rig->l1, "test", &rig->session), 0);
	assert_int_equal(far_l1_session_open(rig->l1, "other", &rig->other), 0);
}

static void
rig_open_adapters(struct ctl_rig *rig, const struct ctl_options *options)
{
	struct far_l2_env env = {.clock = &rig->clock.clock};
	char name[24];

	for (uint32_t i = 0; i < options->fakes && options->fakes <= CTL_FAKES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "fake%u", i);
		fake_l2_init(&rig->fakes[i], name, &rig->clock.clock, i + 1);
		assert_int_equal(far_l2_set_add(&rig->set, &rig->fakes[i].l2), 0);
		rig->fake_count++;
	}
	for (uint32_t i = 0; i < options->memories; i++) {
		struct far_l2_config config = {
			.type = "memory",
			.name = name,
			.capacity_bytes = 1U << 20,
			.latency_ns = options->memory_latency_ns,
		};
		char error[256];

		(void)snprintf(name, sizeof(name), "memory%u", i);
		assert_int_equal(far_l2_open(&config, &env, &rig->memories[i], error), 0);
		assert_int_equal(far_l2_set_add(&rig->set, rig->memories[i]), 0);
		rig->memory_count++;
	}
}

static void
rig_open_store(struct ctl_rig *rig, struct ctl_options *options)
{
	struct far_store_policy_config policy = {
		.text = options->store_policy,
		.placement = &rig->policy,
		.replicas = rig->policy.replicas,
		.admit_after = options->admit_after,
		.admit_keys = options->admit_keys > 0 ? options->admit_keys : 1024,
	};
	struct far_store_config config = options->store_config;
	char error[FAR_STORE_POLICY_ERROR_BYTES];

	if (options->store_policy != NULL) {
		assert_int_equal(far_store_policy_init(&rig->store_policy, &policy, error), 0);
		config.policy = &rig->store_policy;
	}
	config.recorder = rig->recorder;
	assert_int_equal(far_store_open(&config, rig->l1, &rig->set, &rig->policy,
					&rig->clock.clock, rig_wake, rig, &rig->store),
			 0);
}

void
ctl_rig_open(struct ctl_rig *rig, const struct ctl_options *options)
{
	struct ctl_options all = options != NULL ? *options : (struct ctl_options){0};
	char error[256];

	rig_config(&all);
	memset(rig, 0, sizeof(*rig));
	rig->live_bytes = far_alloc_live_bytes();
	far_clock_fake_init(&rig->clock, FAR_NS_PER_S);
	rig_open_l1(rig, &all);
	if (all.recorder)
		assert_int_equal(far_recorder_open(RIG_RECORDS, &rig->clock.clock, &rig->recorder),
				 0);
	rig->fakes = far_zalloc_array(CTL_FAKES_MAX, sizeof(*rig->fakes));
	assert_non_null(rig->fakes);
	rig_open_adapters(rig, &all);
	rig->policy.replicas = 1;
	assert_int_equal(far_policy_parse(all.policy, &rig->policy, error), 0);
	all.prefetch.recorder = rig->recorder;
	assert_int_equal(far_prefetch_open(&all.prefetch, rig->l1, &rig->set, &rig->policy,
					   &rig->clock.clock, &rig->prefetch),
			 0);
	if (all.store)
		rig_open_store(rig, &all);
	/* From here on nothing may be allocated: control paths are over. */
	far_alloc_lock();
}

static void
rig_close_adapters(struct ctl_rig *rig)
{
	for (uint32_t i = 0; i < rig->fake_count; i++) {
		assert_int_equal(rig->fakes[i].locks_live, 0);
		assert_int_equal(rig->fakes[i].unlocks_unknown, 0);
		assert_int_equal(rig->fakes[i].task_count, 0);
	}
	for (uint32_t i = 0; i < rig->memory_count; i++) {
		struct far_l2_memory_counts counts;

		far_l2_memory_counts_get(rig->memories[i], &counts);
		assert_int_equal(counts.locks, 0);
		assert_int_equal(counts.unlocks_unknown, 0);
		far_l2_quiesce(rig->memories[i]);
		assert_true(far_l2_quiesced(rig->memories[i]));
		far_l2_close(rig->memories[i]);
	}
}

/* Whatever a test made of them: from here on they answer. */
static void
rig_calm_adapters(struct ctl_rig *rig)
{
	for (uint32_t i = 0; i < rig->fake_count; i++) {
		memset(rig->fakes[i].held, 0, sizeof(rig->fakes[i].held));
		rig->fakes[i].delay_ns = 0;
	}
	for (uint32_t i = 0; i < rig->memory_count; i++) {
		for (int kind = 0; kind < 4; kind++)
			far_l2_memory_hold(rig->memories[i], (enum far_l2_kind)kind, false);
		/* Nothing waits for the clock that stands still. */
		far_l2_memory_down(rig->memories[i], true);
	}
}

void
ctl_rig_close(struct ctl_rig *rig)
{
	struct far_l1_usage usage;

	rig_calm_adapters(rig);
	far_prefetch_quiesce(rig->prefetch);
	if (rig->store != NULL)
		far_store_quiesce(rig->store);
	ctl_rig_run(rig);
	assert_true(far_prefetch_idle(rig->prefetch));
	far_alloc_unlock();
	far_prefetch_close(rig->prefetch);
	if (rig->store != NULL) {
		assert_true(far_store_idle(rig->store));
		ctl_rig_check_store(rig);
		far_store_close(rig->store);
	}
	far_store_policy_fini(&rig->store_policy);
	far_recorder_close(rig->recorder);
	rig_close_adapters(rig);
	far_l1_check(rig->l1);
	far_l1_usage_get(rig->l1, &usage);
	assert_int_equal(usage.loan_count, 0);
	assert_int_equal(usage.locked_bytes, 0);
	assert_int_equal(usage.quarantine_bytes, 0);
	(void)far_l1_clear(rig->l1, false);
	far_l1_usage_get(rig->l1, &usage);
	assert_int_equal(usage.used_bytes, 0);
	assert_int_equal(usage.block_count, 0);
	far_l1_session_close(rig->l1, rig->session);
	far_l1_session_close(rig->l1, rig->other);
	far_l1_close(rig->l1);
	far_free(rig->arena);
	far_free(rig->fakes);
	assert_int_equal(far_alloc_live_bytes(), rig->live_bytes);
}

static uint64_t
rig_round(struct ctl_rig *rig)
{
	uint64_t now_ns = far_clock_now(&rig->clock.clock);
	uint64_t next_ns;
	uint64_t store_ns = FAR_TIME_NEVER;

	for (uint32_t i = 0; i < rig->fake_count; i++)
		(void)far_l2_tick(&rig->fakes[i].l2, now_ns);
	for (uint32_t i = 0; i < rig->memory_count; i++)
		(void)far_l2_tick(rig->memories[i], now_ns);
	next_ns = far_prefetch_tick(rig->prefetch, now_ns);
	if (rig->store != NULL)
		store_ns = far_store_tick(rig->store, now_ns);
	return next_ns < store_ns ? next_ns : store_ns;
}

static uint64_t
rig_submits(const struct ctl_rig *rig)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < rig->fake_count; i++) {
		for (int kind = 0; kind < 4; kind++)
			count += rig->fakes[i].submits[kind];
		count += (uint64_t)rig->fakes[i].task_count << 32;
	}
	for (uint32_t i = 0; i < rig->memory_count; i++) {
		struct far_l2_memory_counts counts;
		struct far_l2_status status;

		far_l2_memory_counts_get(rig->memories[i], &counts);
		far_l2_status_get(rig->memories[i], &status);
		for (int kind = 0; kind < 4; kind++)
			count += counts.tasks[kind];
		count += (uint64_t)status.tasks_live << 32;
	}
	return count;
}

void
ctl_rig_run(struct ctl_rig *rig)
{
	uint64_t now_ns = far_clock_now(&rig->clock.clock);

	for (uint32_t i = 0; i < RIG_ROUNDS_MAX; i++) {
		uint64_t before = rig_submits(rig);

		rig->next_ns = rig_round(rig);
		if (rig->next_ns > now_ns && rig_submits(rig) == before)
			return;
	}
	fail_msg("does not come to rest");
}

void
ctl_rig_advance(struct ctl_rig *rig, uint64_t by_ns)
{
	far_clock_fake_advance(&rig->clock, by_ns);
	ctl_rig_run(rig);
}

void
ctl_rig_put(struct ctl_rig *rig, uint32_t fake, uint64_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct far_key key = fake_l2_key(first + i);

		fake_l2_put(&rig->fakes[fake], &key, CTL_BLOCK_BYTES);
	}
}

void
ctl_rig_fail(struct ctl_rig *rig, uint32_t fake, uint64_t number, enum far_l2_kind kind, int rc,
	     uint32_t count)
{
	struct far_key key = fake_l2_key(number);

	fake_l2_fail(&rig->fakes[fake], &key, kind, rc, count);
}

void
ctl_rig_write(struct ctl_rig *rig, uint64_t number, uint32_t size_bytes)
{
	struct far_l1_want want = {.key = fake_l2_key(number), .size_bytes = size_bytes};
	struct far_l1_grant grant;
	int rc;

	assert_int_equal(far_l1_reserve_write(rig->l1, rig->other, &want, 1, &grant), 1);
	fake_l2_fill(&want.key, grant.addr, size_bytes);
	assert_int_equal(far_l1_finish_write(rig->l1, rig->other, &grant.loan, 1, &rc), 1);
}

uint64_t
ctl_rig_loans(struct ctl_rig *rig)
{
	struct far_l1_usage usage;

	far_l1_usage_get(rig->l1, &usage);
	return usage.loan_count;
}

static uint64_t
recorded_keys(const struct ctl_rig *rig, enum far_record_kind kind)
{
	struct far_record_counts counts;

	far_recorder_counts_get(rig->recorder, kind, &counts);
	return counts.keys;
}

/* What was recorded is what was counted. */
static void
check_store_records(const struct ctl_rig *rig, const struct far_store_counts *c)
{
	struct far_record_counts done;

	assert_int_equal(recorded_keys(rig, FAR_RECORD_STORE_QUEUED), c->blocks_queued);
	assert_int_equal(recorded_keys(rig, FAR_RECORD_STORE_NOT_ADMITTED), c->not_admitted);
	assert_int_equal(recorded_keys(rig, FAR_RECORD_STORE_DROPPED),
			 c->dropped_queue_full + c->refused_closing + c->dropped_closing +
				 c->dropped_unplaced + c->dropped_gone);
	assert_int_equal(recorded_keys(rig, FAR_RECORD_STORE_REFUSED),
			 c->refused_share + c->policy_invalid);
	assert_int_equal(recorded_keys(rig, FAR_RECORD_STORE_DONE),
			 c->blocks_stored + c->blocks_had);
	assert_int_equal(recorded_keys(rig, FAR_RECORD_STORE_FAILED),
			 c->failed_donor_down + c->failed_full + c->failed_deadline +
				 c->failed_closing + c->failed_drained + c->failed_other);
	assert_int_equal(recorded_keys(rig, FAR_RECORD_STORE_RETRIED), c->retries);
	assert_int_equal(recorded_keys(rig, FAR_RECORD_STORE_MOVED), c->moved);
	assert_int_equal(recorded_keys(rig, FAR_RECORD_STORE_LET_GO), c->let_go);
	far_recorder_counts_get(rig->recorder, FAR_RECORD_STORE_DONE, &done);
	assert_true(done.bytes >= c->bytes_stored);
}

void
ctl_rig_check_store(struct ctl_rig *rig)
{
	struct far_store_counts c;
	uint64_t pending = 0;

	far_store_counts_get(rig->store, &c);
	for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++) {
		struct far_store_adapter_counts a;

		far_store_adapter_counts_get(rig->store, i, &a);
		assert_int_equal(a.placed + a.moved_in,
				 a.stored + a.had + a.refused + a.failed + a.moved_out + a.pending);
		pending += a.pending;
	}
	assert_int_equal(c.pairs_placed, c.blocks_stored + c.blocks_had + c.refused_share +
						 c.failed_donor_down + c.failed_full +
						 c.failed_deadline + c.failed_closing +
						 c.failed_drained + c.failed_other + pending);
	if (rig->recorder != NULL)
		check_store_records(rig, &c);
	if (c.blocks_pending > 0)
		return;
	assert_int_equal(c.bytes_pending, 0);
	assert_int_equal(pending, 0);
	assert_int_equal(c.blocks_queued,
			 c.blocks_placed + c.dropped_closing + c.dropped_unplaced + c.dropped_gone);
}

bool
ctl_rig_resident(struct ctl_rig *rig, uint64_t number)
{
	struct far_key key = fake_l2_key(number);
	enum far_l1_state state = far_l1_state_get(rig->l1, &key);

	return state == FAR_L1_READY || state == FAR_L1_READ_LOCKED;
}

uint32_t
ctl_rig_locks(const struct ctl_rig *rig)
{
	uint32_t locks = 0;

	for (uint32_t i = 0; i < rig->fake_count; i++)
		locks += rig->fakes[i].locks_live;
	return locks;
}

static void
req_advanced(struct far_prefetch_req *far_req, uint32_t prefix_count)
{
	struct ctl_req *req = FAR_CONTAINER_OF(far_req, struct ctl_req, req);

	assert_int_equal(req->ended_count, 0);
	assert_true(prefix_count > req->advanced_to);
	for (uint32_t i = req->advanced_to; i < prefix_count; i++) {
		const struct far_prefetch_view *view = &req->views[i];

		assert_int_equal(view->rc, 0);
		assert_true(view->loan != 0);
		assert_true(fake_l2_matches(&req->keys[i], view->addr, view->size_bytes));
	}
	req->advanced_count++;
	req->advanced_to = prefix_count;
}

static void
req_found(struct far_prefetch_req *far_req)
{
	struct ctl_req *req = FAR_CONTAINER_OF(far_req, struct ctl_req, req);

	assert_int_equal(req->ended_count, 0);
	assert_true(far_req->found_count >= req->found_to);
	assert_true(far_req->found_count > req->found_to || far_req->found_is_final);
	req->found_to = far_req->found_count;
	req->found_calls++;
}

static void
req_ended(struct far_prefetch_req *far_req)
{
	struct ctl_req *req = FAR_CONTAINER_OF(far_req, struct ctl_req, req);

	req->ended_count++;
}

void
ctl_req_init(struct ctl_req *req, struct ctl_rig *rig, uint64_t first, uint32_t count)
{
	assert_true(count <= CTL_KEYS_MAX);
	memset(req, 0, sizeof(*req));
	req->rig = rig;
	for (uint32_t i = 0; i < count; i++)
		req->keys[i] = fake_l2_key(first + i);
	req->req = (struct far_prefetch_req){
		.keys = req->keys,
		.views = req->views,
		.count = count,
		.mode = FAR_PREFETCH_LOOKUP,
		.readers = 1,
		.deadline_ns = far_clock_now(&rig->clock.clock) + FAR_NS_PER_S,
		.session = rig->session,
		.advanced = req_advanced,
		.found = req_found,
		.ended = req_ended,
		.readable = &req->readable,
	};
	far_bitmap_init(&req->readable, req->readable_words, count);
}

void
ctl_req_submit(struct ctl_req *req)
{
	uint64_t id = req->req.request_id;

	assert_int_equal(far_prefetch_submit(req->rig->prefetch, &req->req), 0);
	assert_true(req->req.request_id > id);
	assert_int_equal(req->ended_count, 0);
}

void
ctl_req_lock_prefix(struct ctl_req *req)
{
	struct far_l1_grant grants[CTL_KEYS_MAX];
	size_t count = far_l1_reserve_read_prefix(req->rig->l1, req->req.session, req->keys, NULL,
						  req->req.count, req->req.readers, grants);

	for (size_t i = 0; i < count; i++)
		req->views[i] = (struct far_prefetch_view){
			.size_bytes = grants[i].size_bytes,
			.loan = grants[i].loan,
			.addr = grants[i].addr,
			.adapter = -1,
		};
	req->req.l1_prefix_count = (uint32_t)count;
	req->advanced_to = (uint32_t)count;
}

void
ctl_req_verify(const struct ctl_req *req)
{
	bool prefix = req->req.trim == FAR_PREFETCH_TRIM_PREFIX && req->req.shape == NULL;

	if (req->req.shape != NULL && req->req.rc != -ECANCELED) {
		uint64_t words[CTL_KEYS_MAX / 64];
		struct far_bitmap needed;

		far_bitmap_init(&needed, words, req->req.count);
		assert_int_equal(far_unfold(req->req.shape, req->req.chunk_count, &needed), 0);
		assert_true(far_bitmap_equal(&needed, &req->readable));
	}

	for (uint32_t i = 0; i < req->req.count; i++) {
		const struct far_prefetch_view *view = &req->views[i];

		if (i < req->req.prefix_count)
			assert_int_equal(view->rc, 0);
		else if (prefix || i == req->req.prefix_count)
			assert_true(view->rc < 0);
		if (req->req.rc != -ECANCELED)
			assert_int_equal(far_bitmap_test(&req->readable, i), view->rc == 0);
		if (view->rc != 0 || req->req.mode == FAR_PREFETCH_WARM) {
			assert_true(view->rc != -EINPROGRESS);
			assert_int_equal(view->loan, 0);
			continue;
		}
		assert_true(view->loan != 0);
		assert_true(fake_l2_matches(&req->keys[i], view->addr, view->size_bytes));
	}
}

void
ctl_req_release(struct ctl_req *req)
{
	for (uint32_t i = 0; i < req->req.count; i++) {
		int rc;

		if (req->views[i].loan == 0)
			continue;
		(void)far_l1_finish_read(req->rig->l1, req->req.session, &req->views[i].loan, 1,
					 req->req.readers, &rc);
		assert_int_equal(rc, 0);
	}
	req->released = true;
}

void
ctl_req_expect_keys(struct ctl_req *req, int rc, const char *bits)
{
	char got[CTL_KEYS_MAX + 1];

	assert_int_equal(req->ended_count, 1);
	assert_int_equal(req->req.rc, rc);
	(void)far_bitmap_format(&req->readable, got, sizeof(got));
	assert_string_equal(got, bits);
	ctl_req_verify(req);
	ctl_req_release(req);
}

void
ctl_req_expect(struct ctl_req *req, int rc, uint32_t prefix_count)
{
	assert_int_equal(req->ended_count, 1);
	assert_int_equal(req->req.rc, rc);
	assert_int_equal(req->req.prefix_count, prefix_count);
	ctl_req_verify(req);
	ctl_req_release(req);
}
