/* prefetch.c - one request of a reader: neighbours in its part of the set, past what L1 holds. */
#include <errno.h>

#include "tools/perf/pool.h"

int
pool_prefetch_submit(struct pool_worker *worker, struct pool_slot *slot, uint32_t flags)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = far_now_ns() + POOL_WAIT_NS,
		.flags = FAR_PREFETCH_PAST_L1 | flags,
	};
	int rc;

	slot->first = worker->at;
	for (uint64_t i = 0; i < worker->batch; i++)
		pool_key(worker->pool, worker->first + (worker->at + i) % worker->count,
			 &worker->keys[i]);
	slot->start_ns = far_now_ns();
	rc = far_prefetch(worker->client->client, worker->keys, worker->batch, &options,
			  &slot->handle);
	if (rc < 0)
		return rc;
	worker->at = (worker->at + worker->batch) % worker->count;
	/* Not while it warms up, which compares all bytes. */
	slot->cancelled = !worker->check_all && worker->pool->options->cancels > 0 &&
			  far_rng_below(&worker->rng, 100) < worker->pool->options->cancels;
	return 0;
}

/* While it warms up, every word; then both ends of one block. */
static int
request_check(struct pool_worker *worker, const struct pool_slot *slot)
{
	uint64_t step = worker->check_all ? 1 : worker->batch;

	for (uint64_t i = 0; i < worker->batch; i += step) {
		uint64_t idx = worker->first + (slot->first + i) % worker->count;
		const void *data;
		uint32_t size_bytes;
		int rc = far_prefetch_block(slot->handle, i, &data, &size_bytes);

		if (rc < 0)
			return rc;
		if (size_bytes != worker->pool->size_bytes ||
		    !pool_block_is(worker->pool, idx, data, worker->check_all))
			worker->wrong++;
	}
	return 0;
}

int
pool_prefetch_finish(struct pool_worker *worker, struct pool_slot *slot, uint64_t until_ns)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	bool whole;
	int rc;

	/* When it is its turn to be waited for, so that it is on its way. */
	if (slot->cancelled)
		far_prefetch_cancel(slot->handle);
	rc = far_prefetch_wait(slot->handle, until_ns, &status);
	if (rc == -ETIMEDOUT)
		return rc;
	if (rc == 0)
		rc = status.rc;
	if (slot->cancelled && rc == -ECANCELED) {
		far_prefetch_release(slot->handle);
		slot->handle = NULL;
		worker->cancelled++;
		return 0;
	}
	/* Beside writers a donor may have evicted it: a miss, counted, and no failure. */
	whole = status.prefix_count == worker->batch;
	if (rc == 0 && !whole &&
	    !(worker->pool->options->mode == POOL_MIXED && status.gap_rc == -ENOENT))
		rc = status.gap_rc < 0 ? status.gap_rc : -EIO;
	if (rc == 0) {
		/* When it was readable, not when we looked; since it was due. */
		perf_hist_add(worker->hist, slot->start_ns + status.latency_ns - slot->due_ns);
		worker->done++;
		worker->bytes += status.l2_bytes;
		if (whole)
			rc = request_check(worker, slot);
	}
	far_prefetch_release(slot->handle);
	slot->handle = NULL;
	if (worker->first_of_client)
		pool_phases_read(worker->client);
	/* That one would be taken for a wait that was too short. */
	return rc == -ETIMEDOUT ? -EIO : rc;
}

int
perf_prefetch(int argc, char **argv)
{
	return pool_sweep(POOL_PREFETCH, argc, argv);
}
