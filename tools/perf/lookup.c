/* lookup.c - an adapter asks a donor's published index, without client, L1 and controllers around it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "l2/l2.h"
#include "tools/perf/pool.h"
#include "transport/transport.h"

#define BLOCK_BYTES     64U /* of what is in the index: that it is there is all that counts */
#define BATCH_DEFAULT   256U
#define WARM_NS         (200 * FAR_NS_PER_MS)
#define RUN_NS          (2 * FAR_NS_PER_S) /* of a line that has neither -n nor -D */
#define CLOSE_NS        (2 * FAR_NS_PER_S)
#define TASK_NS         POOL_WAIT_NS
#define STUCK_NS        (20 * FAR_NS_PER_S) /* without any answer */
#define CHECK_EVERY     64U
#define FIRST_OF_NOBODY ((uint64_t)1 << 60)

struct lookup;

struct question {
	struct far_l2_task task;
	struct lookup *lookup;
	struct far_l2_item *items; /* owned: a batch */
	uint64_t *idxs;            /* owned: which block each asks for */
	uint64_t start_ns;
	bool busy;
};

struct lookup {
	struct pool *pool;
	struct far_transport *tp;
	struct far_l2 *l2;
	struct far_rng rng;
	struct question *questions; /* owned: depth of them */
	uint32_t busy;
	uint64_t batch;
	struct perf_hist *hist; /* borrowed; NULL: not counted */
	uint64_t done, found, misses, wrong;
	int rc;
};

/* ---- one question ---- */

static void
on_done(struct far_l2_task *task)
{
	struct question *question = FAR_CONTAINER_OF(task, struct question, task);
	struct lookup *lookup = question->lookup;

	if (lookup->hist != NULL)
		perf_hist_add(lookup->hist, far_now_ns() - question->start_ns);
	for (uint32_t i = 0; i < task->count; i++) {
		bool ours = question->idxs[i] < FIRST_OF_NOBODY;

		if (task->items[i].rc == 0) {
			far_l2_unlock(lookup->l2, &task->items[i].key, 1);
			lookup->found++;
			lookup->wrong += !ours;
		} else if (task->items[i].rc == -ENOENT) {
			lookup->misses += ours;
		} else if (lookup->rc == 0) {
			lookup->rc = task->items[i].rc;
		}
	}
	question->busy = false;
	lookup->busy--;
	lookup->done++;
}

static void
question_ask(struct lookup *lookup, struct question *question)
{
	struct pool *pool = lookup->pool;

	for (uint64_t i = 0; i < lookup->batch; i++) {
		struct far_l2_item *item = &question->items[i];
		uint64_t idx = far_rng_below(&lookup->rng, pool->block_count);

		if (far_rng_below(&lookup->rng, 100) < pool->options->misses)
			idx += FIRST_OF_NOBODY;
		*item = (struct far_l2_item){0};
		question->idxs[i] = idx;
		pool_key(pool, idx, &item->key);
	}
	question->start_ns = far_now_ns();
	question->task = (struct far_l2_task){
		.kind = FAR_L2_LOOKUP,
		.items = question->items,
		.count = (uint32_t)lookup->batch,
		.deadline_ns = question->start_ns + TASK_NS,
		.done = on_done,
	};
	question->busy = true;
	lookup->busy++;
	far_l2_submit(lookup->l2, &question->task);
}

static void
turn(struct lookup *lookup)
{
	(void)far_transport_poll(lookup->tp, CHECK_EVERY);
	(void)far_l2_tick(lookup->l2, far_now_ns());
}

/* So many, or until then; what is in flight then still counts. */
static int
questions_run(struct lookup *lookup, uint64_t requests, uint64_t until_ns)
{
	uint64_t asked = 0, seen = 0, stuck_ns = far_now_ns() + STUCK_NS;

	lookup->done = lookup->found = lookup->misses = 0;
	for (;;) {
		bool more = asked < requests && far_now_ns() < until_ns && lookup->rc == 0;

		for (uint32_t i = 0; more && i < lookup->pool->options->depth; i++) {
			if (lookup->questions[i].busy || asked == requests)
				continue;
			question_ask(lookup, &lookup->questions[i]);
			asked++;
		}
		if (!more && lookup->busy == 0)
			return lookup->rc;
		if (lookup->done != seen) {
			seen = lookup->done;
			stuck_ns = far_now_ns() + STUCK_NS;
		} else if (far_now_ns() >= stuck_ns) {
			return -ETIMEDOUT;
		}
		turn(lookup);
	}
}

/* ---- the adapter ---- */

static int
adapter_open(struct lookup *lookup)
{
	struct pool *pool = lookup->pool;
	const char *text = pool->options->address_count > 0 ? pool->options->addresses[0] : NULL;
	const char *address = text != NULL ? strchr(text, '=') + 1 : pool->donors[0].address, *rest;
	struct far_transport_config config = {
		.clock = far_clock_real(),
		.spin_ns_max = FAR_SPIN_NS_DEFAULT,
		.peer_count = 1,
		.peers = &rest,
	};
	struct far_mem *arena = NULL;
	struct far_l2_env env = {
		.clock = far_clock_real(),
		.rng = &lookup->rng,
		.transports = &lookup->tp,
		.arenas = &arena,
		.transport_count = 1,
		.client_name = "farpool-perf",
		.connect_timeout_ns = pool->options->timeout_ns,
		.retry_ns_min = FAR_NS_PER_MS,
		.retry_ns_max = FAR_NS_PER_S,
	};
	struct far_l2_config l2 = {.type = "donor", .name = "perf-0", .address = address};
	struct far_l2_status status = {.state = FAR_L2_CONNECTING};
	uint64_t until_ns = far_now_ns() + pool->options->timeout_ns;
	char error[256], scheme[FAR_SCHEME_BYTES_MAX], name[64];
	int rc;

	if (text != NULL) {
		snprintf(name, sizeof(name), "%.*s", (int)(address - 1 - text), text);
		l2.name = name;
	}
	if (far_address_split(address, scheme, &rest) < 0)
		return perf_fail("'%s' is no address", address);
	rc = far_transport_open(scheme, &config, &lookup->tp);
	if (rc < 0)
		return perf_fail("no transport '%s' on this host: %s", scheme, far_strerror(rc));
	rc = far_l2_open(&l2, &env, &lookup->l2, error);
	if (rc < 0)
		return perf_fail("%s", error);
	while (status.state != FAR_L2_UP) {
		turn(lookup);
		far_l2_status_get(lookup->l2, &status);
		if (far_now_ns() >= until_ns)
			return perf_fail("%s", status.text);
	}
	return 0;
}

static void
adapter_close(struct lookup *lookup)
{
	uint64_t until_ns = far_now_ns() + CLOSE_NS;

	if (lookup->l2 != NULL) {
		far_l2_quiesce(lookup->l2);
		while (!far_l2_quiesced(lookup->l2)) {
			if (far_now_ns() >= until_ns)
				return; /* it ends with the process */
			turn(lookup);
		}
		far_l2_close(lookup->l2);
	}
	far_transport_close(lookup->tp);
	lookup->l2 = NULL;
	lookup->tp = NULL;
}

/* ---- lines ---- */

static void
questions_free(struct lookup *lookup)
{
	for (uint32_t i = 0; lookup->questions != NULL && i < lookup->pool->options->depth; i++) {
		far_free(lookup->questions[i].items);
		far_free(lookup->questions[i].idxs);
	}
	far_free(lookup->questions);
	lookup->questions = NULL;
}

static int
questions_make(struct lookup *lookup, uint64_t batch)
{
	uint32_t depth = lookup->pool->options->depth;

	lookup->batch = batch;
	lookup->questions = far_zalloc_array(depth, sizeof(*lookup->questions));
	for (uint32_t i = 0; lookup->questions != NULL && i < depth; i++) {
		struct question *question = &lookup->questions[i];

		question->lookup = lookup;
		question->items = far_zalloc_array(batch, sizeof(*question->items));
		question->idxs = far_zalloc_array(batch, sizeof(*question->idxs));
		if (question->items == NULL || question->idxs == NULL)
			return -ENOMEM;
	}
	return lookup->questions == NULL ? -ENOMEM : 0;
}

/* The adapter's own messages, not those of the client that stored the blocks. */
static void
counts_add(struct pool_row *row, const struct pool_counts *diff, const struct far_l2_status *after,
	   const struct far_l2_status *before)
{
	row->counts = *diff;
	row->counts.messages = after->messages_sent + after->messages_received -
			       after->touch_notes - before->messages_sent -
			       before->messages_received + before->touch_notes;
	row->counts.touch_notes = after->touch_notes - before->touch_notes;
	row->counts.rereads = after->torn_rereads - before->torn_rereads;
}

static int
line_run(struct lookup *lookup, struct pool_row *row)
{
	const struct pool_options *options = lookup->pool->options;
	struct pool_counts before, after, diff;
	struct far_l2_status status_before, status_after;
	uint64_t start_ns, run_ns = options->duration_ns;
	int rc = questions_run(lookup, UINT64_MAX, far_now_ns() + WARM_NS);

	if (rc < 0)
		return rc;
	if (run_ns == 0)
		run_ns = options->requests > 0 ? POOL_WAIT_NS : RUN_NS;
	lookup->hist = row->hist;
	pool_counts_get(lookup->pool, true, &before);
	far_l2_status_get(lookup->l2, &status_before);
	start_ns = far_now_ns();
	rc = questions_run(lookup, options->requests > 0 ? options->requests : UINT64_MAX,
			   start_ns + run_ns);
	row->ns = far_now_ns() - start_ns;
	pool_counts_get(lookup->pool, false, &after);
	far_l2_status_get(lookup->l2, &status_after);
	lookup->hist = NULL;
	diff = pool_counts_diff(&after, &before);
	counts_add(row, &diff, &status_after, &status_before);
	row->requests = lookup->done;
	row->keys = lookup->done * lookup->batch;
	row->found = lookup->found;
	row->counts.misses = lookup->misses;
	row->wrong = lookup->wrong;
	row->size_bytes = 0; /* no block moves */
	row->phases.lookup_ns = (uint64_t)row->hist->sum;
	row->phases.lookups = row->requests;
	return rc;
}

static int
batch_run(struct lookup *lookup, uint64_t batch)
{
	struct pool_row *row = pool_row_new(lookup->pool, "lookup", batch);
	int rc = row == NULL ? -ENOMEM : questions_make(lookup, batch);

	if (rc == 0)
		rc = line_run(lookup, row);
	if (lookup->busy == 0)
		questions_free(lookup); /* else they are the adapter's, and end with the process */
	if (rc < 0)
		return perf_fail("%llu keys a request: %s", (unsigned long long)batch,
				 far_strerror(rc));
	pool_report_row(lookup->pool, row);
	if (row->wrong > 0)
		return perf_fail("%llu keys were found that nobody stored",
				 (unsigned long long)row->wrong);
	return 0;
}

static int
index_run(struct pool *pool, uint64_t keys)
{
	const struct pool_options *options = pool->options;
	uint64_t batches[POOL_LIST_MAX] = {BATCH_DEFAULT};
	uint32_t count = options->batch_count > 0 ? options->batch_count : 1;
	struct lookup lookup = {.pool = pool};
	int status = pool_open(pool, BLOCK_BYTES, keys, 0);

	if (options->batch_count > 0)
		memcpy(batches, options->batches, sizeof(batches));
	far_rng_init(&lookup.rng, pool->nonce);
	if (status == 0 && pool->row_count == 0)
		pool_report_head(pool);
	if (status == 0)
		status = pool_fill(pool);
	if (status == 0)
		status = adapter_open(&lookup);
	for (uint32_t i = 0; i < count && status == 0; i++)
		status = batch_run(&lookup, batches[i]);
	adapter_close(&lookup);
	pool_shut(pool);
	return status;
}

int
perf_lookup(int argc, char **argv)
{
	struct pool_options options;
	struct pool *pool = far_zalloc(sizeof(*pool));
	int status;

	pool_options_parse(POOL_LOOKUP, argc, argv, &options);
	if (pool == NULL)
		return perf_fail("no memory");
	status = pool_begin(pool, &options);
	for (uint32_t i = 0; i < options.key_count && status == 0; i++)
		status = index_run(pool, options.keys[i]);
	if (pool->row_count > 0 && pool_report_end(pool) != 0)
		status = 1;
	pool_end(pool);
	far_free(pool);
	return status;
}
