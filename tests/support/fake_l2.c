/* fake_l2.c - a scripted adapter: ends, fails, delays, reorders tasks, or keeps them until told. */
#include "tests/support/fake_l2.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"

enum {
	PRIV_SINCE_NS,
	PRIV_CANCELLED,
};

static const struct far_l2_ops fake_ops;

struct far_key
fake_l2_key(uint64_t number)
{
	struct far_key key;
	uint64_t lo = far_mix64(number + 1);
	uint64_t hi = far_mix64(lo);

	memcpy(key.bytes, &lo, sizeof(lo));
	memcpy(key.bytes + sizeof(lo), &hi, sizeof(hi));
	return key;
}

void
fake_l2_fill(const struct far_key *key, void *out, uint32_t size_bytes)
{
	uint8_t *bytes = out;
	struct far_rng rng;

	far_rng_init(&rng, far_key_lo(key));
	for (uint32_t i = 0; i < size_bytes; i += 8) {
		uint64_t word = far_rng_u64(&rng);

		memcpy(bytes + i, &word, size_bytes - i < 8 ? size_bytes - i : 8);
	}
}

bool
fake_l2_matches(const struct far_key *key, const void *data, uint32_t size_bytes)
{
	const uint8_t *bytes = data;
	struct far_rng rng;

	far_rng_init(&rng, far_key_lo(key));
	for (uint32_t i = 0; i < size_bytes; i += 8) {
		uint64_t word = far_rng_u64(&rng);

		if (memcmp(bytes + i, &word, size_bytes - i < 8 ? size_bytes - i : 8) != 0)
			return false;
	}
	return true;
}

void
fake_l2_init(struct fake_l2 *fake, const char *name, struct far_clock *clock, uint64_t seed)
{
	memset(fake, 0, sizeof(*fake));
	fake->l2.ops = &fake_ops;
	fake->l2.limits = fake_ops.limits;
	fake->l2.weight = 1;
	(void)snprintf(fake->l2.name, sizeof(fake->l2.name), "%s", name);
	fake->clock = clock;
	far_rng_init(&fake->rng, seed);
}

static struct fake_l2 *
fake_of(const struct far_l2 *l2)
{
	FAR_ASSERT(l2->ops == &fake_ops);
	return FAR_CONTAINER_OF((struct far_l2 *)(uintptr_t)l2, struct fake_l2, l2);
}

struct fake_l2_block *
fake_l2_block(struct fake_l2 *fake, const struct far_key *key)
{
	size_t at = far_key_lo(key) % FAKE_L2_BLOCKS_MAX;

	for (size_t i = 0; i < FAKE_L2_BLOCKS_MAX; i++) {
		struct fake_l2_block *block = &fake->blocks[(at + i) % FAKE_L2_BLOCKS_MAX];

		if (!block->known) {
			block->known = true;
			block->key = *key;
		}
		if (far_key_equal(&block->key, key))
			return block;
	}
	FAR_ASSERT(false);
}

void
fake_l2_put(struct fake_l2 *fake, const struct far_key *key, uint32_t size_bytes)
{
	struct fake_l2_block *block = fake_l2_block(fake, key);

	block->held = true;
	block->size_bytes = size_bytes;
}

bool
fake_l2_has(struct fake_l2 *fake, const struct far_key *key)
{
	return fake_l2_block(fake, key)->held;
}

void
fake_l2_drop(struct fake_l2 *fake, const struct far_key *key)
{
	fake_l2_block(fake, key)->held = false;
}

void
fake_l2_fail(struct fake_l2 *fake, const struct far_key *key, enum far_l2_kind kind, int rc,
	     uint32_t count)
{
	struct fake_l2_block *block = fake_l2_block(fake, key);

	block->rcs[kind] = rc;
	block->rc_lefts[kind] = count;
}

void
fake_l2_lie(struct fake_l2 *fake, const struct far_key *key, uint32_t size_bytes, uint32_t count)
{
	struct fake_l2_block *block = fake_l2_block(fake, key);

	block->lie_bytes = size_bytes;
	block->lie_left = count;
}

uint32_t
fake_l2_live(const struct fake_l2 *fake, enum far_l2_kind kind)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < fake->task_count; i++)
		count += fake->tasks[i]->kind == kind;
	return count;
}

static void
item_garbage(const struct far_l2_item *item, uint8_t byte)
{
	for (uint32_t p = 0; p < item->piece_count; p++)
		memset(item->pieces[p].addr, byte, item->pieces[p].size_bytes);
}

void
fake_l2_scribble(struct fake_l2 *fake)
{
	for (uint32_t i = 0; i < fake->task_count; i++) {
		const struct far_l2_task *task = fake->tasks[i];

		if (task->kind != FAR_L2_LOAD)
			continue;
		for (uint32_t k = 0; k < task->count; k++)
			item_garbage(&task->items[k], (uint8_t)far_rng_u64(&fake->rng));
	}
}

/* ---- what items answer ---- */

static int
item_lookup(struct fake_l2 *fake, struct fake_l2_block *block, struct far_l2_item *item)
{
	block->lookups++;
	if (!block->held)
		return -ENOENT;
	if (item->size_bytes != 0 && item->size_bytes != block->size_bytes) {
		item->size_bytes = block->size_bytes;
		return -EMSGSIZE;
	}
	item->size_bytes = block->size_bytes;
	if (block->lie_left > 0) {
		block->lie_left--;
		item->size_bytes = block->lie_bytes;
	}
	/* The hint of one adapter must not be given to another. */
	item->hint[0] = far_key_lo(&item->key) + fake->l2.idx + 1;
	block->locks++;
	fake->locks_live++;
	return 0;
}

static int
item_load(struct fake_l2 *fake, struct fake_l2_block *block, struct far_l2_item *item)
{
	FAR_ASSERT(item->hint[0] == far_key_lo(&item->key) + fake->l2.idx + 1);
	FAR_ASSERT(item->piece_count == 1);
	if (!block->held)
		return -ENOENT;
	if (item->size_bytes != block->size_bytes)
		return -EMSGSIZE;
	fake_l2_fill(&item->key, item->pieces[0].addr, item->pieces[0].size_bytes);
	block->loads++;
	return 0;
}

static int
item_store(struct fake_l2 *fake, struct fake_l2_block *block, const struct far_l2_item *item)
{
	/* Nobody may change a block while it is stored. */
	FAR_ASSERT(fake_l2_matches(&item->key, item->pieces[0].addr, item->pieces[0].size_bytes));
	if (fake->full)
		return -ENOSPC;
	block->stores++;
	if (block->held)
		return -EEXIST;
	block->held = true;
	block->size_bytes = item->size_bytes;
	return 0;
}

static int
item_run(struct fake_l2 *fake, enum far_l2_kind kind, struct far_l2_item *item)
{
	struct fake_l2_block *block = fake_l2_block(fake, &item->key);

	if (block->rc_lefts[kind] > 0) {
		block->rc_lefts[kind]--;
		if (kind == FAR_L2_LOAD)
			item_garbage(item, 0xa5);
		return block->rcs[kind];
	}
	switch (kind) {
	case FAR_L2_LOOKUP:
		return item_lookup(fake, block, item);
	case FAR_L2_LOAD:
		return item_load(fake, block, item);
	case FAR_L2_STORE:
		return item_store(fake, block, item);
	case FAR_L2_DELETE:
		if (!block->held)
			return -ENOENT;
		block->held = false;
		return 0;
	}
	return -EINVAL;
}

/* ---- the table ---- */

static void
fake_submit(struct far_l2 *l2, struct far_l2_task *task)
{
	struct fake_l2 *fake = fake_of(l2);
	uint64_t bytes = 0;

	FAR_ASSERT(fake->task_count < FAKE_L2_TASKS_MAX);
	task->priv[PRIV_SINCE_NS] = far_clock_now(fake->clock);
	task->priv[PRIV_CANCELLED] = 0;
	fake->tasks[fake->task_count++] = task;
	fake->submits[task->kind]++;
	if (task->count > fake->batch_max[task->kind])
		fake->batch_max[task->kind] = task->count;
	for (uint32_t i = 0; i < fake->task_count; i++) {
		for (uint32_t k = 0; k < fake->tasks[i]->count; k++) {
			if (fake->tasks[i]->items[k].piece_count > 0)
				bytes += fake->tasks[i]->items[k].size_bytes;
		}
	}
	if (bytes > fake->bytes_live_max)
		fake->bytes_live_max = bytes;
}

static void
fake_cancel(struct far_l2 *l2, struct far_l2_task *task)
{
	fake_of(l2)->cancels++;
	task->priv[PRIV_CANCELLED] = 1;
}

static void
fake_unlock(struct far_l2 *l2, const struct far_key *keys, size_t count)
{
	struct fake_l2 *fake = fake_of(l2);

	for (size_t i = 0; i < count; i++) {
		struct fake_l2_block *block = fake_l2_block(fake, &keys[i]);

		if (block->locks == 0) {
			fake->unlocks_unknown++;
			continue;
		}
		block->locks--;
		fake->locks_live--;
	}
}

/* 1: its items answer. 0: later. Else what it ends with. */
static int
task_due(const struct fake_l2 *fake, const struct far_l2_task *task, uint64_t now_ns)
{
	if (fake->held[task->kind])
		return 0;
	if (!fake->deaf_cancel) {
		if (task->priv[PRIV_CANCELLED] != 0 || fake->quiescing)
			return -ECANCELED;
		if (fake->down)
			return -EHOSTDOWN;
	}
	if (now_ns >= task->priv[PRIV_SINCE_NS] + fake->delay_ns)
		return 1;
	return !fake->deaf_cancel && now_ns >= task->deadline_ns ? -ETIMEDOUT : 0;
}

static struct far_l2_task *
task_take(struct fake_l2 *fake, uint64_t now_ns, int *due)
{
	uint32_t due_count = 0;
	uint32_t pick;

	for (uint32_t i = 0; i < fake->task_count; i++)
		due_count += task_due(fake, fake->tasks[i], now_ns) != 0;
	if (due_count == 0)
		return NULL;
	pick = fake->reorder ? (uint32_t)far_rng_below(&fake->rng, due_count) : 0;
	for (uint32_t i = 0; i < fake->task_count; i++) {
		struct far_l2_task *task = fake->tasks[i];

		*due = task_due(fake, task, now_ns);
		if (*due == 0 || pick-- > 0)
			continue;
		fake->task_count--;
		for (; i < fake->task_count; i++)
			fake->tasks[i] = fake->tasks[i + 1];
		return task;
	}
	return NULL;
}

static uint64_t
fake_tick(struct far_l2 *l2, uint64_t now_ns)
{
	struct fake_l2 *fake = fake_of(l2);
	struct far_l2_task *task;
	int due = 0;

	FAR_ASSERT(!fake->ticking);
	fake->ticking = true;
	while ((task = task_take(fake, now_ns, &due)) != NULL) {
		for (uint32_t i = 0; i < task->count; i++)
			task->items[i].rc =
				due < 0 ? due : item_run(fake, task->kind, &task->items[i]);
		task->done(task);
	}
	fake->ticking = false;
	return FAR_TIME_NEVER;
}

static void
fake_status(const struct far_l2 *l2, struct far_l2_status *out)
{
	const struct fake_l2 *fake = fake_of(l2);

	*out = (struct far_l2_status){
		.state = fake->down ? FAR_L2_DOWN : FAR_L2_UP,
		.tasks_live = fake->task_count,
	};
}

static int
fake_stats_ask(struct far_l2 *l2, far_l2_stats_fn *done, void *arg, uint64_t deadline_ns)
{
	(void)l2;
	(void)done;
	(void)arg;
	(void)deadline_ns;
	return -EOPNOTSUPP;
}

static int
fake_usage_ask(struct far_l2 *l2, far_l2_usage_fn *done, void *arg, uint64_t deadline_ns)
{
	(void)l2;
	(void)done;
	(void)arg;
	(void)deadline_ns;
	return -EOPNOTSUPP;
}

static void
fake_list(struct far_l2 *l2, struct far_l2_listing *listing)
{
	(void)l2;
	(void)listing;
	FAR_ASSERT(false); /* controllers do not list */
}

static void
fake_quiesce(struct far_l2 *l2)
{
	fake_of(l2)->quiescing = true;
}

static bool
fake_quiesced(const struct far_l2 *l2)
{
	return fake_of(l2)->quiescing && fake_of(l2)->task_count == 0;
}

static void
fake_close(struct far_l2 *l2)
{
	(void)l2;
}

static const struct far_l2_ops fake_ops = {
	.type = "fake",
	.limits = {.items_max = 256, .tasks_max = 256, .load_bytes_best = 1U << 20},
	.submit = fake_submit,
	.cancel = fake_cancel,
	.unlock = fake_unlock,
	.tick = fake_tick,
	.status = fake_status,
	.stats_ask = fake_stats_ask,
	.usage_ask = fake_usage_ask,
	.list = fake_list,
	.quiesce = fake_quiesce,
	.quiesced = fake_quiesced,
	.close = fake_close,
};
