/* memory.c - an adapter over this process's own memory: its tasks on a simulated wire, and what it is asked. */
#include "l2/memory/memory_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"

#define UNIT_BYTES_BIG 4096U
#define BIG_FROM_BYTES (1ULL << 20)
#define CAPACITY_MAX   (1ULL << 40)

/* The words of far_l2_task.priv that are ours. */
enum {
	PRIV_READY_NS, /* when the simulated wire has carried it */
	PRIV_END_RC,   /* positive errno that it ends with whatever happens, or 0 */
};

static const struct far_l2_ops memory_ops;

static struct memory *
memory_of(const struct far_l2 *l2)
{
	FAR_ASSERT(l2->ops == &memory_ops);
	return FAR_CONTAINER_OF((struct far_l2 *)(uintptr_t)l2, struct memory, l2);
}

/* That the simulated wire carries. */
static uint64_t
task_bytes(const struct far_l2_task *task)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < task->count; i++) {
		if (task->kind == FAR_L2_LOAD || task->kind == FAR_L2_STORE)
			bytes += item_bytes(&task->items[i]);
	}
	return bytes;
}

static void
memory_submit(struct far_l2 *l2, struct far_l2_task *task)
{
	struct memory *mem = memory_of(l2);
	uint64_t now = far_clock_now(mem->clock);

	FAR_ASSERT((size_t)task->kind < sizeof(mem->held) / sizeof(mem->held[0]));
	mem->counts.tasks[task->kind]++;
	if (mem->wire_free_ns < now)
		mem->wire_free_ns = now;
	if (mem->bytes_per_s > 0)
		mem->wire_free_ns += (uint64_t)((double)task_bytes(task) /
						(double)mem->bytes_per_s * (double)FAR_NS_PER_S);
	task->priv[PRIV_READY_NS] = mem->wire_free_ns + mem->latency_ns;
	task->priv[PRIV_END_RC] = 0;
	if (mem->tasks_live >= mem->l2.limits.tasks_max)
		task->priv[PRIV_END_RC] = EAGAIN;
	far_list_push_back(&mem->tasks, &task->node);
	mem->tasks_live++;
}

static void
memory_cancel(struct far_l2 *l2, struct far_l2_task *task)
{
	(void)l2;
	task->priv[PRIV_END_RC] = ECANCELED;
}

static void
memory_unlock(struct far_l2 *l2, const struct far_key *keys, size_t count)
{
	far_l2_memory_unlock(memory_of(l2), keys, count);
}

/* 1: run it now. 0: later. A negative errno: it ends with that. */
static int
task_due(const struct memory *mem, const struct far_l2_task *task, uint64_t now_ns)
{
	if (mem->held[task->kind])
		return 0;
	if (task->priv[PRIV_END_RC] != 0)
		return -(int)task->priv[PRIV_END_RC];
	if (mem->quiescing)
		return -ECANCELED;
	if (mem->down)
		return -EHOSTDOWN;
	if (task->priv[PRIV_READY_NS] <= now_ns && task->priv[PRIV_READY_NS] <= task->deadline_ns)
		return 1;
	return task->deadline_ns <= now_ns ? -ETIMEDOUT : 0;
}

/* The first task that can end now, or NULL: done callbacks may submit and cancel, so nothing about
 * the list is remembered over one. */
static struct far_l2_task *
task_next(struct memory *mem, uint64_t now_ns, int *due_out, uint64_t *next_ns)
{
	*next_ns = FAR_TIME_NEVER;
	for (struct far_list *it = mem->tasks.next; it != &mem->tasks; it = it->next) {
		struct far_l2_task *task = FAR_CONTAINER_OF(it, struct far_l2_task, node);
		uint64_t at = task->priv[PRIV_READY_NS];

		*due_out = task_due(mem, task, now_ns);
		if (*due_out != 0)
			return task;
		at = at < task->deadline_ns ? at : task->deadline_ns;
		if (!mem->held[task->kind] && at < *next_ns)
			*next_ns = at;
	}
	return NULL;
}

static int
end_rc(const struct memory *mem)
{
	if (mem->quiescing)
		return -ECANCELED;
	return mem->down ? -EHOSTDOWN : 0;
}

/* Entries stay where they are while they are held: their places are the order. */
static void
listing_fill(const struct memory *mem, struct far_l2_listing *listing)
{
	uint64_t at = listing->cursor;

	if (at >= mem->entry_count && at > 0) {
		listing->rc = -ESTALE;
		return;
	}
	for (; at < mem->entry_count && listing->count < listing->entries_max; at++) {
		const struct entry *entry = &mem->entries[at];

		if (!entry_held(entry) || (listing->of_group && entry->group != listing->group))
			continue;
		listing->entries[listing->count++] = (struct far_l2_listed){
			.key = entry->key,
			.size_bytes = entry->size_bytes,
			.group = entry->group,
		};
	}
	listing->cursor = at < mem->entry_count ? at : 0;
}

/* Those that were asked when it was called: a callback may ask again. */
static void
listings_tick(struct memory *mem)
{
	struct far_list *last = mem->listings.prev;
	struct far_list *node = NULL;

	while (node != last && (node = far_list_pop_front(&mem->listings)) != NULL) {
		struct far_l2_listing *listing =
			FAR_CONTAINER_OF(node, struct far_l2_listing, node);

		if (listing->rc == 0)
			listing->rc = end_rc(mem);
		if (listing->rc == 0)
			listing_fill(mem, listing);
		listing->done(listing);
	}
}

static void
usage_tick(struct memory *mem)
{
	const struct far_l2_usage usage = {
		.capacity_bytes = (uint64_t)mem->unit_count * mem->unit_bytes,
		.used_bytes = (uint64_t)(mem->unit_count - mem->units_free) * mem->unit_bytes,
		.block_count = mem->counts.blocks,
		.block_bytes = mem->block_bytes,
	};
	int rc = end_rc(mem);

	for (uint32_t i = 0; i < USAGE_ASKS; i++) {
		struct usage_ask ask = mem->usage_asks[i];

		if (ask.done == NULL)
			continue;
		mem->usage_asks[i].done = NULL;
		ask.done(ask.arg, rc, rc == 0 ? &usage : NULL);
	}
}

static bool
memory_is_asked(const struct memory *mem)
{
	for (uint32_t i = 0; i < USAGE_ASKS; i++) {
		if (mem->usage_asks[i].done != NULL)
			return true;
	}
	return !far_list_empty(&mem->listings);
}

static uint64_t
memory_tick(struct far_l2 *l2, uint64_t now_ns)
{
	struct memory *mem = memory_of(l2);
	struct far_l2_task *task;
	uint64_t next_ns;
	/* A done callback that submits at once and without latency must not keep us here for ever.
	 */
	uint32_t budget = mem->tasks_live + mem->l2.limits.tasks_max;
	int due;

	FAR_ASSERT(!mem->ticking);
	mem->ticking = true;
	while ((task = task_next(mem, now_ns, &due, &next_ns)) != NULL) {
		if (budget-- == 0) {
			next_ns = now_ns;
			break;
		}
		far_list_remove(&task->node);
		if (due > 0)
			far_l2_memory_run(mem, task);
		for (uint32_t i = 0; due < 0 && i < task->count; i++)
			task->items[i].rc = due;
		mem->tasks_live--;
		task->done(task);
	}
	listings_tick(mem);
	usage_tick(mem);
	mem->ticking = false;
	return memory_is_asked(mem) ? now_ns : next_ns;
}

static void
memory_status(const struct far_l2 *l2, struct far_l2_status *out)
{
	const struct memory *mem = memory_of(l2);

	*out = mem->status;
	out->state = mem->quiescing ? FAR_L2_QUIESCED : mem->down ? FAR_L2_DOWN : FAR_L2_UP;
	out->rc = mem->quiescing ? -ECANCELED : mem->down ? -EHOSTDOWN : 0;
	out->tasks_live = mem->tasks_live;
	out->epoch = 1;
	(void)snprintf(out->text, sizeof(out->text), "memory: %llu blocks, %llu of %llu bytes",
		       (unsigned long long)mem->counts.blocks,
		       (unsigned long long)(mem->unit_count - mem->units_free) * mem->unit_bytes,
		       (unsigned long long)mem->unit_count * mem->unit_bytes);
}

static int
memory_stats_ask(struct far_l2 *l2, far_l2_stats_fn *done, void *arg, uint64_t deadline_ns)
{
	(void)l2;
	(void)done;
	(void)arg;
	(void)deadline_ns;
	return -EOPNOTSUPP;
}

static int
memory_usage_ask(struct far_l2 *l2, far_l2_usage_fn *done, void *arg, uint64_t deadline_ns)
{
	struct memory *mem = memory_of(l2);
	int rc = end_rc(mem);

	(void)deadline_ns; /* answered by the next tick */
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < USAGE_ASKS; i++) {
		if (mem->usage_asks[i].done != NULL)
			continue;
		mem->usage_asks[i] = (struct usage_ask){.done = done, .arg = arg};
		return 0;
	}
	return -EAGAIN;
}

static void
memory_list(struct far_l2 *l2, struct far_l2_listing *listing)
{
	struct memory *mem = memory_of(l2);
	uint32_t live = 0;

	for (struct far_list *it = mem->listings.next; it != &mem->listings; it = it->next)
		live++;
	listing->rc = live < FAR_L2_LISTINGS_MAX ? 0 : -EAGAIN;
	far_list_push_back(&mem->listings, &listing->node);
}

static void
memory_quiesce(struct far_l2 *l2)
{
	memory_of(l2)->quiescing = true;
}

static bool
memory_quiesced(const struct far_l2 *l2)
{
	const struct memory *mem = memory_of(l2);

	return mem->quiescing && mem->tasks_live == 0 && !memory_is_asked(mem);
}

static void
memory_free(struct memory *mem)
{
	far_free(mem->buckets);
	far_free(mem->entries);
	far_free(mem->unit_next);
	far_free(mem->units);
	far_free(mem);
}

static void
memory_close(struct far_l2 *l2)
{
	memory_free(memory_of(l2));
}

static int
memory_alloc(struct memory *mem, uint64_t capacity_bytes)
{
	uint32_t bucket_count = 16;

	mem->unit_bytes = capacity_bytes < BIG_FROM_BYTES ? UNIT_BYTES_SMALL : UNIT_BYTES_BIG;
	mem->unit_count = (uint32_t)(capacity_bytes / mem->unit_bytes);
	/* Every held block has a unit; as many again for keys that are only locked. */
	mem->entry_count = mem->unit_count * 2;
	while (bucket_count < mem->entry_count)
		bucket_count *= 2;
	mem->bucket_mask = bucket_count - 1;
	mem->units = far_zalloc_aligned(UNIT_BYTES_BIG, (size_t)mem->unit_count * mem->unit_bytes);
	mem->unit_next = far_zalloc_array(mem->unit_count, sizeof(*mem->unit_next));
	mem->entries = far_zalloc_array(mem->entry_count, sizeof(*mem->entries));
	mem->buckets = far_zalloc_array(bucket_count, sizeof(*mem->buckets));
	if (mem->units == NULL || mem->unit_next == NULL || mem->entries == NULL ||
	    mem->buckets == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < mem->unit_count; i++)
		mem->unit_next[i] = i + 1 < mem->unit_count ? i + 1 : UNIT_NONE;
	mem->units_free = mem->unit_count;
	for (uint32_t i = 0; i < mem->entry_count; i++) {
		mem->entries[i].unit_first = UNIT_NONE;
		far_list_push_back(&mem->entries_free, &mem->entries[i].node);
	}
	for (uint32_t i = 0; i < bucket_count; i++)
		mem->buckets[i] = ENTRY_NONE;
	return 0;
}

int
far_l2_memory_open(const struct far_l2_config *config, const struct far_l2_env *env,
		   struct far_l2 **out, char error[256])
{
	struct memory *mem;

	if (config->capacity_bytes < UNIT_BYTES_SMALL || config->capacity_bytes > CAPACITY_MAX) {
		return far_l2_config_error(config, "capacity", error,
					   "%llu bytes: give 64 B to 1 TiB",
					   (unsigned long long)config->capacity_bytes);
	}
	/* It is the simplest of all stores, for tests and for reading: it copies with the processor, on
	 * its owner's thread. Through a device's copies it would be neither simple nor asynchronous. */
	if (env->arena_is_device)
		return far_l2_config_error(
			config, NULL, error,
			"a memory store copies with the processor, and L1 lies on "
			"a device: use a donor, or l1.memory: host");
	mem = far_zalloc(sizeof(*mem));
	if (mem == NULL)
		goto fail;
	mem->l2.ops = &memory_ops;
	mem->clock = env->clock;
	mem->latency_ns = config->latency_ns;
	mem->bytes_per_s = config->bytes_per_s;
	far_list_init(&mem->entries_free);
	far_list_init(&mem->fifo);
	far_list_init(&mem->tasks);
	far_list_init(&mem->listings);
	if (memory_alloc(mem, config->capacity_bytes) < 0)
		goto fail;
	*out = &mem->l2;
	return 0;

fail:
	if (mem != NULL)
		memory_free(mem);
	(void)far_l2_config_error(config, "capacity", error, "no memory for %llu bytes: lower it",
				  (unsigned long long)config->capacity_bytes);
	return -ENOMEM;
}

void
far_l2_memory_counts_get(const struct far_l2 *l2, struct far_l2_memory_counts *out)
{
	const struct memory *mem = memory_of(l2);

	*out = mem->counts;
	out->used_bytes = (uint64_t)(mem->unit_count - mem->units_free) * mem->unit_bytes;
}

bool
far_l2_memory_holds(const struct far_l2 *l2, const struct far_key *key)
{
	return entry_held(entry_find(memory_of(l2), key));
}

uint32_t
far_l2_memory_locks(const struct far_l2 *l2, const struct far_key *key)
{
	const struct entry *entry = entry_find(memory_of(l2), key);

	return entry == NULL ? 0 : entry->locks;
}

void
far_l2_memory_hold(struct far_l2 *l2, enum far_l2_kind kind, bool held)
{
	memory_of(l2)->held[kind] = held;
}

void
far_l2_memory_down(struct far_l2 *l2, bool down)
{
	struct memory *mem = memory_of(l2);

	if (down && !mem->down)
		mem->status.times_down++;
	mem->down = down;
	l2->away = down;
}

bool
far_l2_memory_lose(struct far_l2 *l2, const struct far_key *key)
{
	struct memory *mem = memory_of(l2);
	struct entry *entry = entry_find(mem, key);

	if (!entry_held(entry))
		return false;
	far_l2_memory_block_free(mem, entry);
	return true;
}

void
far_l2_memory_fail_loads(struct far_l2 *l2, uint32_t count, int rc)
{
	struct memory *mem = memory_of(l2);

	mem->fail_loads = count;
	mem->fail_loads_rc = rc;
}

static const struct far_l2_ops memory_ops = {
	.type = "memory",
	.limits = {.items_max = 1024, .tasks_max = 1024, .load_bytes_best = 4ULL << 20},
	.submit = memory_submit,
	.cancel = memory_cancel,
	.unlock = memory_unlock,
	.tick = memory_tick,
	.status = memory_status,
	.stats_ask = memory_stats_ask,
	.usage_ask = memory_usage_ask,
	.list = memory_list,
	.quiesce = memory_quiesce,
	.quiesced = memory_quiesced,
	.close = memory_close,
};
