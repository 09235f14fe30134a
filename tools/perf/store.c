/* store.c - one request of a writer: new blocks into L1, until their donors have committed them. */
#include <errno.h>

#include "tools/perf/pool.h"

static int
block_write(struct pool_worker *worker, uint64_t idx)
{
	struct far_client *client = worker->client->client;
	struct far_block *block;
	struct far_key key;
	int rc;

	pool_key(worker->pool, idx, &key);
	rc = far_reserve(client, &key, (uint32_t)worker->pool->size_bytes, &block);
	if (rc == -ENOMEM) {
		/* L1 holds what is on its way: its room comes back with the answers. */
		rc = far_flush(client, far_now_ns() + POOL_WAIT_NS, NULL);
		if (rc == 0)
			rc = far_reserve(client, &key, (uint32_t)worker->pool->size_bytes, &block);
	}
	if (rc < 0)
		return rc;
	/* Its two ends alone: what an engine writes between is not the pool's work. */
	pool_block_fill(worker->pool, idx, far_block_buffer(block), worker->check_all);
	return far_commit(block);
}

int
pool_store_once(struct pool_worker *worker, uint64_t due_ns)
{
	uint64_t first =
		__atomic_fetch_add(&worker->pool->next_fresh, worker->batch, __ATOMIC_RELAXED);
	int rc = 0;

	for (uint64_t i = 0; i < worker->batch && rc == 0; i++)
		rc = block_write(worker, first + i);
	if (rc == 0)
		rc = far_flush(worker->client->client, far_now_ns() + POOL_WAIT_NS, NULL);
	if (rc < 0)
		return rc;
	perf_hist_add(worker->hist, far_now_ns() - due_ns);
	worker->done++;
	worker->bytes += worker->batch * worker->pool->size_bytes;
	return 0;
}

int
perf_store(int argc, char **argv)
{
	return pool_sweep(POOL_STORE, argc, argv);
}
