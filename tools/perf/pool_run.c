/* pool_run.c - threads of clients that ask, in a closed loop or when requests are due, and what comes of it. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "tools/perf/pool.h"

#define BATCH_BYTES   ((uint64_t)16 << 20) /* of a request whose blocks were not counted */
#define WARM_REQUESTS 2U
#define WORKERS_MAX   (POOL_CLIENTS_MAX * POOL_THREADS_MAX)
#define GATE_NS       (100 * FAR_NS_PER_MS)

/* ---- one worker ---- */

/* The next gap of a Poisson process: arrivals that know nothing of each other. */
static uint64_t
gap(struct pool_worker *worker)
{
	double uniform = (double)((far_rng_u64(&worker->rng) >> 11) + 1) * 0x1.0p-53;

	return (uint64_t)(-log(uniform) * worker->gap_ns);
}

static int
read_loop(struct pool_worker *worker, uint64_t requests, uint32_t depth, double gap_ns)
{
	/* One after the other is waited for at once. */
	uint32_t flags = depth == 1 && gap_ns <= 0 ? FAR_PREFETCH_WAIT_FOLLOWS : 0;
	uint64_t head = 0, tail = 0, due_ns = far_now_ns();
	int rc = 0;

	while (rc == 0 && (head < tail || tail < requests)) {
		uint64_t now_ns = far_now_ns();
		bool more = tail < requests && due_ns < worker->until_ns &&
			    now_ns < worker->until_ns + (gap_ns > 0 ? POOL_WAIT_NS : 0);

		if (more && tail - head < depth && (gap_ns <= 0 || due_ns <= now_ns)) {
			struct pool_slot *slot = &worker->slots[tail % depth];

			slot->due_ns = gap_ns > 0 ? due_ns : now_ns;
			rc = pool_prefetch_submit(worker, slot, flags);
			tail++;
			if (gap_ns > 0)
				due_ns += gap(worker);
			if (rc < 0)
				tail--;
		} else if (head < tail) {
			bool idle = more && tail - head < depth;

			rc = pool_prefetch_finish(worker, &worker->slots[head % depth],
						  idle ? due_ns : now_ns + 2 * POOL_WAIT_NS);
			head += rc != -ETIMEDOUT;
			if (rc == -ETIMEDOUT && idle)
				rc = 0;
		} else if (more) {
			far_clock_sleep_until(due_ns);
		} else {
			break;
		}
	}
	for (; head < tail; head++)
		if (worker->slots[head % depth].handle != NULL)
			far_prefetch_release(worker->slots[head % depth].handle);
	return rc;
}

static int
write_loop(struct pool_worker *worker, uint64_t requests, double gap_ns)
{
	uint64_t due_ns = far_now_ns();
	int rc = 0;

	for (uint64_t i = 0; i < requests && rc == 0; i++) {
		if (gap_ns > 0)
			far_clock_sleep_until(due_ns);
		else
			due_ns = far_now_ns();
		if (due_ns >= worker->until_ns)
			break;
		rc = pool_store_once(worker, due_ns);
		if (gap_ns > 0)
			due_ns += gap(worker);
	}
	return rc;
}

static int
loop(struct pool_worker *worker, uint64_t requests, double gap_ns)
{
	if (worker->writes)
		return write_loop(worker, requests, gap_ns);
	return read_loop(worker, requests, worker->pool->options->depth, gap_ns);
}

/* Warm, a gate while the counters are read, the part that counts, and a gate again. */
static void *
work(void *arg)
{
	struct pool_worker *worker = arg;
	uint64_t until_ns = worker->until_ns;

	worker->check_all = true;
	worker->until_ns = FAR_TIME_NEVER - 2 * POOL_WAIT_NS;
	worker->rc = loop(worker, WARM_REQUESTS, 0);
	worker->check_all = false;
	memset(worker->hist, 0, sizeof(*worker->hist));
	worker->done = worker->bytes = 0;
	pthread_barrier_wait(worker->gate);
	pthread_barrier_wait(worker->gate);
	worker->until_ns = until_ns == FAR_TIME_NEVER ? FAR_TIME_NEVER - 2 * POOL_WAIT_NS
						      : far_now_ns() + until_ns;
	if (worker->rc == 0)
		worker->rc = loop(worker, worker->requests, worker->gap_ns);
	worker->end_ns = far_now_ns();
	pthread_barrier_wait(worker->gate);
	return NULL;
}

/* ---- all of them ---- */

struct crowd {
	struct pool_worker *workers; /* owned */
	uint32_t count;
	uint32_t readers, writers; /* of each client */
	pthread_barrier_t gate;
	uint64_t start_ns;
};

static int
worker_init(struct pool *pool, struct crowd *crowd, uint32_t idx, uint64_t batch)
{
	const struct pool_options *options = pool->options;
	struct pool_worker *worker = &crowd->workers[idx];
	uint32_t threads = crowd->readers + crowd->writers, nth = idx % threads;
	uint32_t readers = crowd->readers * pool->client_count;
	uint32_t alike = nth < crowd->readers ? readers : crowd->writers * pool->client_count;
	uint64_t share, reader = (uint64_t)(idx / threads) * crowd->readers + nth;

	worker->pool = pool;
	worker->client = &pool->clients[idx / threads];
	worker->gate = &crowd->gate;
	worker->writes = nth >= crowd->readers;
	worker->first_of_client = nth == 0;
	worker->batch = batch;
	share = pool->block_count / (readers > 0 ? readers : 1);
	worker->first = worker->writes ? 0 : reader * share;
	worker->count = share;
	FAR_ASSERT(alike > 0 && batch > 0); /* this worker is one of them */
	worker->requests = options->requests > 0
				   ? (options->requests + alike - 1) / alike
				   : (pool->block_count + batch * alike - 1) / (batch * alike);
	if (options->duration_ns > 0)
		worker->requests = UINT64_MAX;
	worker->until_ns = options->duration_ns > 0 ? options->duration_ns : FAR_TIME_NEVER;
	worker->gap_ns = options->rate > 0 ? 1e9 * alike / options->rate : 0;
	far_rng_init(&worker->rng, pool->nonce + idx);
	worker->slots = far_zalloc_array(options->depth, sizeof(*worker->slots));
	worker->keys = far_zalloc_array(batch, sizeof(*worker->keys));
	worker->hist = far_zalloc(sizeof(*worker->hist));
	return worker->slots == NULL || worker->keys == NULL || worker->hist == NULL ? -ENOMEM : 0;
}

static void
crowd_free(struct crowd *crowd)
{
	for (uint32_t i = 0; i < crowd->count; i++) {
		far_free(crowd->workers[i].slots);
		far_free(crowd->workers[i].keys);
		far_free(crowd->workers[i].hist);
	}
	far_free(crowd->workers);
}

static void
rows_add(struct pool *pool, const struct crowd *crowd, uint64_t batch,
	 const struct pool_counts *counts)
{
	for (int writes = 0; writes < 2; writes++) {
		uint64_t client_bytes[POOL_CLIENTS_MAX] = {0};
		struct pool_row *row;

		if ((writes ? crowd->writers : crowd->readers) == 0)
			continue;
		row = pool_row_new(pool,
				   pool->label != NULL ? pool->label
				   : writes            ? "store"
						       : "prefetch",
				   batch);
		if (row == NULL)
			return;
		row->counts = *counts;
		for (uint32_t i = 0; i < crowd->count; i++) {
			const struct pool_worker *worker = &crowd->workers[i];

			if (worker->writes != (writes != 0))
				continue;
			perf_hist_merge(row->hist, worker->hist);
			row->requests += worker->done;
			row->bytes += worker->bytes;
			row->wrong += worker->wrong;
			row->cancelled += worker->cancelled;
			if (worker->end_ns - crowd->start_ns > row->ns)
				row->ns = worker->end_ns - crowd->start_ns;
			client_bytes[worker->client - pool->clients] += worker->bytes;
		}
		row->keys = row->bytes / pool->size_bytes;
		row->client_bytes_min = UINT64_MAX;
		for (uint32_t i = 0; i < pool->client_count; i++) {
			struct pool_phases *phases = &pool->clients[i].phases;

			if (client_bytes[i] < row->client_bytes_min)
				row->client_bytes_min = client_bytes[i];
			if (client_bytes[i] > row->client_bytes_max)
				row->client_bytes_max = client_bytes[i];
			row->phases.lookup_ns += phases->lookup_ns;
			row->phases.lookups += phases->lookups;
			row->phases.data_ns += phases->data_ns;
			row->phases.loads += phases->loads;
			row->phases.lost += phases->lost;
		}
		pool_report_row(pool, row);
	}
}

static void
phases_reset(struct pool *pool)
{
	for (uint32_t i = 0; i < pool->client_count; i++) {
		struct pool_client *client = &pool->clients[i];

		pool_phases_read(client);
		client->phases = (struct pool_phases){.cursor = client->phases.cursor};
	}
}

/* The gates are met once each by every worker and by us, whatever goes wrong between. */
static int
crowd_run(struct pool *pool, struct crowd *crowd, struct pool_counts *counts)
{
	struct pool_counts before, after;
	int rc = 0;

	if (pthread_barrier_init(&crowd->gate, NULL, crowd->count + 1) != 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < crowd->count; i++) {
		/* Some would wait at the gate for ever for those that cannot come. */
		if (pthread_create(&crowd->workers[i].thread, NULL, work, &crowd->workers[i]) !=
		    0) {
			perf_fail("no more than %u threads; next: fewer --threads, --clients", i);
			_exit(1);
		}
	}
	pthread_barrier_wait(&crowd->gate);
	phases_reset(pool);
	pool_counts_get(pool, true, &before);
	crowd->start_ns = far_now_ns();
	pthread_barrier_wait(&crowd->gate);
	pthread_barrier_wait(&crowd->gate);
	pool_counts_get(pool, false, &after);
	for (uint32_t i = 0; i < crowd->count; i++) {
		pthread_join(crowd->workers[i].thread, NULL);
		if (rc == 0)
			rc = crowd->workers[i].rc;
	}
	pthread_barrier_destroy(&crowd->gate);
	for (uint32_t i = 0; i < pool->client_count; i++)
		pool_phases_read(&pool->clients[i]);
	*counts = pool_counts_diff(&after, &before);
	return rc;
}

int
pool_run(struct pool *pool, uint32_t readers, uint32_t writers, uint64_t batch)
{
	struct crowd crowd = {.readers = readers, .writers = writers};
	struct pool_counts counts;
	uint32_t count = (readers + writers) * pool->client_count;
	uint64_t wrong = 0, flight = batch * pool->options->depth;
	int rc = 0;

	if (readers > 0 && pool->block_count / ((uint64_t)readers * pool->client_count) < flight)
		return perf_fail("%llu blocks of %llu bytes in flight in each of %u threads are "
				 "more than their part of the set; next: a larger --set, smaller "
				 "-b or -t",
				 (unsigned long long)flight, (unsigned long long)pool->size_bytes,
				 readers * pool->client_count);
	perf_progress(pool->options->quiet, "%llu bytes, %llu a request ...",
		      (unsigned long long)pool->size_bytes, (unsigned long long)batch);
	crowd.workers = far_zalloc_array(count, sizeof(*crowd.workers));
	if (crowd.workers == NULL)
		return perf_fail("no memory");
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		crowd.count++;
		rc = worker_init(pool, &crowd, i, batch);
	}
	if (rc == 0)
		rc = crowd_run(pool, &crowd, &counts);
	if (rc == 0)
		rows_add(pool, &crowd, batch, &counts);
	for (uint32_t i = 0; i < crowd.count; i++)
		wrong += crowd.workers[i].wrong;
	crowd_free(&crowd);
	if (rc < 0)
		return perf_fail("blocks of %llu bytes, %llu a request: %s",
				 (unsigned long long)pool->size_bytes, (unsigned long long)batch,
				 far_strerror(rc));
	if (wrong > 0)
		return perf_fail("%llu blocks had bytes that were never stored under their key",
				 (unsigned long long)wrong);
	return 0;
}

/* ---- sizes and batches ---- */

uint64_t
pool_batch(const struct pool *pool, uint64_t size_bytes)
{
	uint64_t batch = BATCH_BYTES / size_bytes, least;
	uint32_t clients = pool->clients_most > 0 ? pool->clients_most : pool->options->clients;

	/* So that the set has some requests for every thread. */
	least = pool->options->set_bytes / size_bytes /
		((uint64_t)pool->options->threads * clients * (pool->options->depth + 1) * 2);
	if (batch > least)
		batch = least;
	if (batch > 1024)
		batch = 1024;
	return batch > 0 ? batch : 1;
}

int
pool_size_run(struct pool *pool, uint64_t size_bytes)
{
	const struct pool_options *options = pool->options;
	uint64_t batches[POOL_LIST_MAX], most = 0;
	uint32_t count = options->batch_count;
	uint64_t l1_block = size_bytes < 4096 ? 4096 : size_bytes;
	bool reads = options->mode != POOL_STORE,
	     writes = options->mode == POOL_STORE || options->mode == POOL_MIXED;
	int status;

	memcpy(batches, options->batches, sizeof(batches));
	if (count == 0)
		batches[count++] = pool_batch(pool, size_bytes);
	for (uint32_t i = 0; i < count; i++)
		most = batches[i] > most ? batches[i] : most;
	status = pool_open(pool, size_bytes, options->set_bytes / size_bytes,
			   most * l1_block *
				   ((uint64_t)options->threads * options->depth +
				    (writes ? (uint64_t)options->writers : 0)));
	if (status == 0 && pool->row_count == 0)
		pool_report_head(pool);
	if (status == 0 && reads)
		status = pool_fill(pool);
	for (uint32_t i = 0; i < count && status == 0; i++)
		status = pool_run(pool, reads ? options->threads : 0,
				  options->mode == POOL_MIXED ? options->writers
				  : writes                    ? options->threads
							      : 0,
				  batches[i]);
	pool_shut(pool);
	return status;
}

int
pool_sweep(enum pool_mode mode, int argc, char **argv)
{
	struct pool_options options;
	struct pool *pool = far_zalloc(sizeof(*pool));
	int status;

	pool_options_parse(mode, argc, argv, &options);
	if (pool == NULL)
		return perf_fail("no memory");
	status = pool_begin(pool, &options);
	for (uint32_t i = 0; i < options.size_count && status == 0; i++)
		status = pool_size_run(pool, options.sizes[i]);
	if (pool->row_count > 0 && pool_report_end(pool) != 0)
		status = 1;
	pool_end(pool);
	far_free(pool);
	return status;
}
