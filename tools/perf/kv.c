/* kv.c - the KV cache of a prefix: how long until all of it is readable, and until each layer is. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "tools/perf/pool.h"

#define REQUESTS_DEFAULT 10U
#define BLOCK_MAX        ((uint64_t)64 << 20) /* the largest lane */
#define LOOK_NS          (20 * FAR_NS_PER_US) /* between two looks at which layers are there */
#define LAYERS_MAX       1000U

struct kv {
	struct pool *pool;
	struct pool_worker worker;
	struct pool_slot slot;
	uint64_t chunks;
	uint32_t layers; /* of the blocks: 1 where a block has them all */
	uint64_t ready_ns[LAYERS_MAX];
};

/* One prefix, layer after layer; fills ready_ns: since it was asked for. */
static int
prefix_read(struct kv *kv)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	uint64_t until_ns = far_now_ns() + 2 * POOL_WAIT_NS;
	uint32_t layer = 0;
	int rc = pool_prefetch_submit(&kv->worker, &kv->slot, 0);

	if (rc < 0)
		return rc;
	kv->slot.due_ns = kv->slot.start_ns;
	while (layer + 1 < kv->layers) {
		uint64_t now_ns;

		far_prefetch_poll(kv->slot.handle, &status);
		now_ns = far_now_ns();
		while (layer + 1 < kv->layers && status.prefix_count >= (layer + 1) * kv->chunks)
			kv->ready_ns[layer++] = now_ns - kv->slot.start_ns;
		if (status.ended != 0 || now_ns >= until_ns)
			break;
		far_clock_sleep_until(now_ns + LOOK_NS);
	}
	/* Its own time of the end is exact; ours, of looking, may be later. */
	if (far_prefetch_wait(kv->slot.handle, until_ns, &status) == 0) {
		while (layer < kv->layers)
			kv->ready_ns[layer++] = status.latency_ns;
		for (layer = 0; layer < kv->layers; layer++)
			if (kv->ready_ns[layer] > status.latency_ns)
				kv->ready_ns[layer] = status.latency_ns;
	}
	rc = pool_prefetch_finish(&kv->worker, &kv->slot, until_ns);
	if (rc < 0 && kv->slot.handle != NULL) {
		far_prefetch_release(kv->slot.handle);
		kv->slot.handle = NULL;
	}
	return rc;
}

static void
line_end(struct kv *kv, struct pool_row *row)
{
	row->requests = row->hist->count;
	row->keys = row->requests * row->batch;
	row->bytes = row->keys * row->size_bytes;
	row->ns = (uint64_t)row->hist->sum;
	pool_report_row(kv->pool, row);
}

static int
prefixes_read(struct kv *kv)
{
	uint64_t requests = kv->pool->options->requests;
	bool layered = kv->layers > 1;
	struct pool_row *first = NULL;
	struct pool_row *next = NULL;
	struct pool_row *all;
	struct pool_counts before, after;
	int rc;

	if (layered) {
		first = pool_row_new(kv->pool, "layer-first", kv->chunks);
		next = pool_row_new(kv->pool, "layer-next", kv->chunks);
		if (first == NULL || next == NULL)
			return -ENOMEM;
		/* Messages and processor time are of the whole prefix. */
		first->only_times = next->only_times = true;
	}
	all = pool_row_new(kv->pool, layered ? "layers-all" : "whole", kv->chunks * kv->layers);
	if (all == NULL)
		return -ENOMEM;
	kv->worker.check_all = true;
	rc = prefix_read(kv);
	kv->worker.check_all = false;
	memset(kv->worker.hist, 0, sizeof(*kv->worker.hist));
	pool_phases_read(&kv->pool->clients[0]);
	kv->pool->clients[0].phases =
		(struct pool_phases){.cursor = kv->pool->clients[0].phases.cursor};
	pool_counts_get(kv->pool, true, &before);
	if (requests == 0)
		requests = REQUESTS_DEFAULT;
	for (uint64_t i = 0; i < requests && rc == 0; i++) {
		rc = prefix_read(kv);
		if (rc < 0 || !layered)
			continue;
		perf_hist_add(first->hist, kv->ready_ns[0]);
		for (uint32_t l = 1; l < kv->layers; l++)
			perf_hist_add(next->hist, kv->ready_ns[l] - kv->ready_ns[l - 1]);
	}
	if (rc < 0)
		return rc;
	pool_counts_get(kv->pool, false, &after);
	perf_hist_merge(all->hist, kv->worker.hist);
	all->counts = pool_counts_diff(&after, &before);
	all->phases = kv->pool->clients[0].phases;
	all->wrong = kv->worker.wrong;
	if (layered) {
		line_end(kv, first);
		line_end(kv, next);
	}
	line_end(kv, all);
	return all->wrong > 0 ? -EBADMSG : 0;
}

static int
worker_init(struct kv *kv)
{
	struct pool_worker *worker = &kv->worker;

	*worker = (struct pool_worker){
		.pool = kv->pool,
		.client = &kv->pool->clients[0],
		.first_of_client = true,
		.batch = kv->chunks * kv->layers,
		.count = kv->chunks * kv->layers,
		.keys = far_zalloc_array(kv->chunks * kv->layers, sizeof(*worker->keys)),
		.hist = far_zalloc(sizeof(*worker->hist)),
	};
	return worker->keys == NULL || worker->hist == NULL ? -ENOMEM : 0;
}

/* With blocks of one layer, or of all. */
static int
blocks_run(struct pool *pool, bool layered)
{
	const struct pool_options *options = pool->options;
	uint64_t layer_bytes = model_layer_bytes(&pool->shape, options->tp) * options->chunk_tokens;
	uint64_t bytes = layered ? layer_bytes : layer_bytes * pool->shape.layers;
	uint64_t blocks;
	struct kv *kv;
	int status, rc;

	if (bytes > BLOCK_MAX || bytes < 64)
		return perf_fail(
			"%llu tokens of %s are %llu bytes; a block has 64 bytes to 64 MiB; "
			"next: another --chunk, or --tp",
			(unsigned long long)options->chunk_tokens, pool->shape.name,
			(unsigned long long)bytes);
	kv = far_zalloc(sizeof(*kv));
	if (kv == NULL)
		return perf_fail("no memory");
	kv->pool = pool;
	kv->layers = layered ? pool->shape.layers : 1;
	kv->chunks = (options->tokens + options->chunk_tokens - 1) / options->chunk_tokens;
	blocks = kv->chunks * kv->layers;
	if (blocks > POOL_BATCH_MAX) {
		status = perf_fail("%llu blocks are more than one prefetch takes (%u); next: a "
				   "larger --chunk",
				   (unsigned long long)blocks, POOL_BATCH_MAX);
		far_free(kv);
		return status;
	}
	/* L1 holds the prefix, and as much again that is evicted for it. */
	status = pool_open(pool, bytes, blocks, blocks * (bytes < 4096 ? 4096 : bytes) / 2);
	if (status == 0 && pool->row_count == 0)
		pool_report_head(pool);
	if (status == 0)
		status = pool_fill(pool);
	if (status == 0) {
		rc = worker_init(kv);
		if (rc == 0)
			rc = prefixes_read(kv);
		if (rc < 0)
			status = perf_fail("%s: %s", pool->shape.name, far_strerror(rc));
		far_free(kv->worker.keys);
		far_free(kv->worker.hist);
	}
	pool_shut(pool);
	far_free(kv);
	return status;
}

static int
shape_find(struct pool *pool)
{
	const struct pool_options *options = pool->options;

	if (options->shape != NULL)
		return model_parse(options->shape, &pool->shape) == 0
			       ? 0
			       : perf_fail("--shape takes LAYERS,KV_HEADS,HEAD_SIZE,BYTES, as "
					   "32,8,128,2, not '%s'",
					   options->shape);
	return model_find(options->model, &pool->shape) == 0
		       ? 0
		       : perf_fail("no model '%s'; next: --model list, or --shape with layers, KV "
				   "heads, head size and bytes of a value",
				   options->model);
}

int
perf_kv(int argc, char **argv)
{
	struct pool_options options;
	struct pool *pool = far_zalloc(sizeof(*pool));
	int status;

	pool_options_parse(POOL_KV, argc, argv, &options);
	if (pool == NULL)
		return perf_fail("no memory");
	if (options.model != NULL && strcmp(options.model, "list") == 0) {
		model_list(stdout);
		far_free(pool);
		return 0;
	}
	status = pool_begin(pool, &options);
	if (status == 0)
		status = shape_find(pool);
	if (status == 0)
		status = blocks_run(pool, false);
	if (status == 0 && pool->shape.layers > 1)
		status = blocks_run(pool, true);
	if (pool->row_count > 0 && pool_report_end(pool) != 0)
		status = 1;
	pool_end(pool);
	far_free(pool);
	return status;
}
