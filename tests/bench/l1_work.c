/* l1_work.c - worlds of keys, and the threads that read, write and walk them for a slice of time. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "tests/bench/l1.h"

#define SLICE 128u /* look-ups whose misses overlap, as in l1 */
/* Odd: multiplying with it walks over all numbers below a power of two, far apart. */
#define STRIDE 0x9e3779b97f4a7c15ULL

static struct far_key
key_of(uint64_t owner, uint64_t n)
{
	struct far_key key;
	uint64_t half[2] = {far_mix64(n), owner << 56 | (n + 1)};

	memcpy(key.bytes, half, sizeof(half));
	return key;
}

static uint64_t
power_above(uint64_t n)
{
	uint64_t power = 1;

	while (power < n)
		power *= 2;
	return power;
}

/* ---- worlds ---- */

static void *
lazy_map(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	madvise(at, bytes, MADV_HUGEPAGE);
	return at;
}

static size_t
lines_bytes(uint64_t keys)
{
	return keys * sizeof(struct l1_bench_line);
}

static size_t
index_bytes(uint64_t keys)
{
	return power_above(4 * keys) * sizeof(uint32_t);
}

uint64_t
l1_bench_bytes(const struct l1_bench_plan *plan)
{
	uint64_t bytes = 0;

	/* A record, its extent, a part of the index and some loans: twice; the walk's lines once. */
	for (uint32_t i = 0; i < plan->size_count; i++)
		bytes += 2 * (plan->keys[i] * 160 + index_bytes(plan->keys[i])) +
			 lines_bytes(plan->keys[i]) + index_bytes(plan->keys[i]) + (64 << 20);
	return bytes;
}

static int
walk_open(uint64_t keys, struct l1_bench_walk *walk)
{
	walk->index_mask = power_above(4 * keys) - 1;
	walk->index = lazy_map(index_bytes(keys));
	walk->lines = lazy_map(lines_bytes(keys));
	if (walk->index == NULL || walk->lines == NULL)
		return -ENOMEM;
	for (uint64_t i = 0; i <= walk->index_mask; i++)
		walk->index[i] = (uint32_t)(far_mix64(i) % keys);
	memset(walk->lines, 0, lines_bytes(keys));
	return 0;
}

/* Writes keys [first, end) of an owner; they are ready and nobody reads them. */
static int
keys_write(struct l1_bench_full *full, uint64_t first, uint64_t end)
{
	struct far_l1_want wants[L1_BENCH_BATCH_MAX];
	struct far_l1_grant grants[L1_BENCH_BATCH_MAX];
	uint64_t loans[L1_BENCH_BATCH_MAX];
	int rcs[L1_BENCH_BATCH_MAX];

	while (first < end) {
		size_t n = end - first < L1_BENCH_BATCH_MAX ? end - first : L1_BENCH_BATCH_MAX;

		for (size_t i = 0; i < n; i++)
			wants[i] = (struct far_l1_want){.key = key_of(0, first + i),
							.size_bytes = L1_BENCH_ALIGN_BYTES};
		if (far_l1_reserve_write(full->l1, full->sessions[0], wants, n, grants) != n)
			return -EIO;
		for (size_t i = 0; i < n; i++)
			loans[i] = grants[i].loan;
		if (far_l1_finish_write(full->l1, full->sessions[0], loans, n, rcs) != n)
			return -EIO;
		first += n;
	}
	return 0;
}

/* Uses every key once, in an order that has nothing to do with where the blocks lie. */
static void
keys_shuffle(struct l1_bench_full *full, uint64_t keys)
{
	uint64_t mask = power_above(keys) - 1;
	struct far_key batch[L1_BENCH_BATCH_MAX];
	size_t n = 0;

	for (uint64_t i = 0; i <= mask; i++) {
		uint64_t at = (i * STRIDE) & mask;

		if (at < keys)
			batch[n++] = key_of(0, at);
		if (n == L1_BENCH_BATCH_MAX || i == mask) {
			far_l1_touch(full->l1, batch, n);
			n = 0;
		}
	}
}

static int
full_open(const struct l1_bench_plan *plan, uint64_t keys, struct l1_bench_full *full)
{
	struct far_l1_config config = {
		.align_bytes = L1_BENCH_ALIGN_BYTES,
		.block_bytes_min = L1_BENCH_ALIGN_BYTES,
		.policy = FAR_L1_LRU,
		.size_bytes = keys * L1_BENCH_ALIGN_BYTES,
	};
	int rc;

	full->arena_bytes = config.size_bytes;
	full->arena = lazy_map(full->arena_bytes);
	if (full->arena == NULL)
		return -ENOMEM;
	config.base = full->arena;
	rc = far_l1_open(&config, &full->l1);
	for (uint32_t i = 0; i < plan->thread_count && rc == 0; i++)
		rc = far_l1_session_open(full->l1, "bench", &full->sessions[i]);
	if (rc == 0)
		rc = keys_write(full, 0, keys);
	if (rc == 0)
		keys_shuffle(full, keys);
	return rc;
}

static void
full_close(const struct l1_bench_full *full)
{
	for (uint32_t i = 0; full->l1 != NULL && i < L1_BENCH_THREADS_MAX; i++)
		if (full->sessions[i] != 0)
			far_l1_session_close(full->l1, full->sessions[i]);
	far_l1_close(full->l1);
	if (full->arena != NULL)
		munmap(full->arena, full->arena_bytes);
}

/* ---- what a thread does ---- */

struct worker {
	const struct l1_bench_plan *plan;
	struct l1_bench_world *world;
	enum l1_bench_what what;
	uint32_t batch;
	uint32_t idx;
	uint64_t first, count; /* the keys that are its own */
	uint64_t turns_max;    /* 0: until the time is over */
	pthread_barrier_t *start;
	pthread_t thread;
	struct far_rng rng;
	uint64_t blocks, ns, cpu_ns;
	uint64_t wrong; /* answers that were not the ones due */
};

static void
turn_walk(struct worker *w)
{
	const struct l1_bench_walk *walk = &w->world->walk;
	struct l1_bench_line *lines[L1_BENCH_BATCH_MAX];
	uint64_t at[SLICE];

	for (uint32_t done = 0; done < w->batch; done += SLICE) {
		uint32_t n = w->batch - done < SLICE ? w->batch - done : SLICE;

		for (uint32_t i = 0; i < n; i++) {
			at[i] = far_rng_u64(&w->rng) & walk->index_mask;
			__builtin_prefetch(&walk->index[at[i]]);
		}
		for (uint32_t i = 0; i < n; i++) {
			lines[done + i] = &walk->lines[walk->index[at[i]]];
			__builtin_prefetch(lines[done + i], 1);
		}
		for (uint32_t i = 0; i < n; i++)
			atomic_fetch_add(&lines[done + i]->word, 16);
	}
	for (uint32_t i = 0; i < w->batch; i++)
		atomic_fetch_sub(&lines[i]->word, 16);
}

static void
turn_read(struct worker *w)
{
	struct l1_bench_full *full = &w->world->read;
	struct far_key keys[L1_BENCH_BATCH_MAX];
	struct far_l1_grant grants[L1_BENCH_BATCH_MAX];
	uint64_t loans[L1_BENCH_BATCH_MAX];
	int rcs[L1_BENCH_BATCH_MAX];
	far_l1_session session = full->sessions[w->idx];

	for (uint32_t i = 0; i < w->batch; i++) {
		uint64_t dice = far_rng_u64(&w->rng) >> 32;

		keys[i] = key_of(0, w->first + (dice * w->count >> 32));
	}
	w->wrong +=
		far_l1_reserve_read(full->l1, session, keys, NULL, w->batch, 1, grants) != w->batch;
	for (uint32_t i = 0; i < w->batch; i++)
		loans[i] = grants[i].loan;
	w->wrong += far_l1_finish_read(full->l1, session, loans, w->batch, 1, rcs) != w->batch;
}

static void
turn_write(struct worker *w)
{
	struct l1_bench_full *full = &w->world->write;
	struct far_l1_want wants[L1_BENCH_BATCH_MAX];
	struct far_l1_grant grants[L1_BENCH_BATCH_MAX];
	uint64_t loans[L1_BENCH_BATCH_MAX];
	int rcs[L1_BENCH_BATCH_MAX];
	far_l1_session session = full->sessions[w->idx];

	for (uint32_t i = 0; i < w->batch; i++)
		wants[i] = (struct far_l1_want){.key = key_of(w->idx + 1, full->written[w->idx]++),
						.size_bytes = L1_BENCH_ALIGN_BYTES};
	w->wrong += far_l1_reserve_write(full->l1, session, wants, w->batch, grants) != w->batch;
	for (uint32_t i = 0; i < w->batch; i++)
		loans[i] = grants[i].loan;
	w->wrong += far_l1_finish_write_and_reserve_read(full->l1, session, loans, w->batch, 1,
							 session, rcs) != w->batch;
	w->wrong += far_l1_finish_read(full->l1, session, loans, w->batch, 1, rcs) != w->batch;
}

static void
turn(struct worker *w)
{
	switch (w->what) {
	case L1_BENCH_WALK:
		turn_walk(w);
		break;
	case L1_BENCH_READ:
		turn_read(w);
		break;
	default:
		turn_write(w);
	}
	w->blocks += w->batch;
}

static void *
worker_run(void *arg)
{
	struct worker *w = arg;
	uint64_t slice_ns = w->plan->slice_ms * FAR_NS_PER_MS;
	uint32_t look = 2048 / w->batch; /* the clock costs as much as a block */
	uint64_t start_ns, cpu_ns;

	/* Each world is used in turns: what others left in the cache is no part of it. */
	for (uint32_t i = 0; i < look; i++)
		turn(w);
	w->blocks = 0;
	pthread_barrier_wait(w->start);
	start_ns = far_clock_now(far_clock_real());
	cpu_ns = far_clock_thread_cpu_ns();
	do {
		for (uint32_t i = 0; i < look; i++)
			turn(w);
		w->ns = far_clock_now(far_clock_real()) - start_ns;
	} while (w->turns_max > 0 ? w->blocks < w->turns_max : w->ns < slice_ns);
	w->cpu_ns = far_clock_thread_cpu_ns() - cpu_ns;
	return NULL;
}

static int
workers_run(struct worker *workers, uint32_t count)
{
	pthread_barrier_t start;
	uint32_t started = 1;
	int rc = 0;

	if (pthread_barrier_init(&start, NULL, count) != 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		workers[i].start = &start;
	for (; started < count && rc == 0; started++)
		rc = -pthread_create(&workers[started].thread, NULL, worker_run, &workers[started]);
	/* Threads that wait at the barrier for one that could not be made would wait for good. */
	if (rc < 0)
		return rc;
	worker_run(&workers[0]);
	for (uint32_t i = 1; i < count; i++)
		pthread_join(workers[i].thread, NULL);
	pthread_barrier_destroy(&start);
	for (uint32_t i = 0; i < count; i++)
		rc = workers[i].wrong > 0 ? -EIO : rc;
	return rc;
}

int
l1_bench_run(const struct l1_bench_plan *plan, struct l1_bench_world *world,
	     struct l1_bench_cell *cell, uint32_t round)
{
	struct worker workers[L1_BENCH_THREADS_MAX] = {{0}};
	double mops = 0, cpu_ns = 0;
	int rc;

	for (uint32_t i = 0; i < cell->threads; i++) {
		struct worker *w = &workers[i];

		w->plan = plan;
		w->world = world;
		w->what = cell->what;
		w->batch = cell->batch;
		w->idx = i;
		w->count = world->keys / cell->threads;
		w->first = i * w->count;
		far_rng_init(&w->rng, round * 100 + i);
	}
	rc = workers_run(workers, cell->threads);
	for (uint32_t i = 0; i < cell->threads && rc == 0; i++) {
		mops += (double)workers[i].blocks * 1e3 / (double)workers[i].ns;
		cpu_ns += (double)workers[i].cpu_ns / (double)workers[i].blocks / cell->threads;
	}
	cell->mops[round] = mops;
	cell->cpu_ns[round] = cpu_ns;
	return rc;
}

/* Every block is written anew once: from here on each has been filed and used as all will be. */
static int
world_steady(const struct l1_bench_plan *plan, struct l1_bench_world *world)
{
	struct worker w = {.plan = plan,
			   .world = world,
			   .what = L1_BENCH_WRITE,
			   .batch = L1_BENCH_BATCH_MAX,
			   .turns_max = world->keys};

	return workers_run(&w, 1);
}

int
l1_bench_open(const struct l1_bench_plan *plan, uint64_t keys, struct l1_bench_world *world)
{
	int rc = 0;

	world->keys = keys;
	if (plan->only[L1_BENCH_WALK])
		rc = walk_open(keys, &world->walk);
	if (rc == 0 && plan->only[L1_BENCH_READ])
		rc = full_open(plan, keys, &world->read);
	if (rc == 0 && plan->only[L1_BENCH_WRITE])
		rc = full_open(plan, keys, &world->write);
	if (rc == 0 && plan->only[L1_BENCH_WRITE])
		rc = world_steady(plan, world);
	return rc;
}

void
l1_bench_close(struct l1_bench_world *world)
{
	full_close(&world->write);
	full_close(&world->read);
	if (world->walk.lines != NULL)
		munmap(world->walk.lines, lines_bytes(world->keys));
	if (world->walk.index != NULL)
		munmap(world->walk.index, index_bytes(world->keys));
}
