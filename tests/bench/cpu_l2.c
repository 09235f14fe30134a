/* cpu_l2.c - an adapter that answers with the next tick and moves nothing: what is left is all ours. */
#include "tests/bench/cpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct instant {
	struct far_l2 l2;
	struct far_list tasks;
	uint32_t block_bytes;
	bool quiescing;
} instant;

static void
instant_submit(struct far_l2 *l2, struct far_l2_task *task)
{
	(void)l2;
	far_list_push_back(&instant.tasks, &task->node);
}

static void
instant_cancel(struct far_l2 *l2, struct far_l2_task *task)
{
	(void)l2;
	(void)task;
}

static void
instant_unlock(struct far_l2 *l2, const struct far_key *keys, size_t count)
{
	(void)l2;
	(void)keys;
	(void)count;
}

static uint64_t
instant_tick(struct far_l2 *l2, uint64_t now_ns)
{
	struct far_list *it;

	(void)l2;
	(void)now_ns;
	while ((it = far_list_pop_front(&instant.tasks)) != NULL) {
		struct far_l2_task *task = FAR_CONTAINER_OF(it, struct far_l2_task, node);

		for (uint32_t i = 0; i < task->count; i++) {
			task->items[i].rc = 0;
			task->items[i].size_bytes = instant.block_bytes;
		}
		task->done(task);
	}
	return FAR_TIME_NEVER;
}

static void
instant_status(const struct far_l2 *l2, struct far_l2_status *out)
{
	(void)l2;
	*out = (struct far_l2_status){.state = FAR_L2_UP};
}

static int
instant_stats_ask(struct far_l2 *l2, far_l2_stats_fn *done, void *arg, uint64_t deadline_ns)
{
	(void)l2;
	(void)done;
	(void)arg;
	(void)deadline_ns;
	return -EOPNOTSUPP;
}

static void
instant_quiesce(struct far_l2 *l2)
{
	(void)l2;
	instant.quiescing = true;
}

static bool
instant_quiesced(const struct far_l2 *l2)
{
	(void)l2;
	return instant.quiescing && far_list_empty(&instant.tasks);
}

static void
instant_close(struct far_l2 *l2)
{
	(void)l2;
}

static const struct far_l2_ops instant_ops = {
	.type = "instant",
	.limits = {.items_max = 256, .tasks_max = 256, .load_bytes_best = 16U << 20},
	.submit = instant_submit,
	.cancel = instant_cancel,
	.unlock = instant_unlock,
	.tick = instant_tick,
	.status = instant_status,
	.stats_ask = instant_stats_ask,
	.quiesce = instant_quiesce,
	.quiesced = instant_quiesced,
	.close = instant_close,
};

struct far_l2 *
cpu_instant_open(uint32_t block_bytes)
{
	memset(&instant, 0, sizeof(instant));
	instant.l2.ops = &instant_ops;
	instant.l2.limits = instant_ops.limits;
	instant.l2.weight = 1;
	(void)snprintf(instant.l2.name, sizeof(instant.l2.name), "instant");
	instant.block_bytes = block_bytes;
	far_list_init(&instant.tasks);
	return &instant.l2;
}
