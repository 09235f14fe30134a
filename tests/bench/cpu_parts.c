/* cpu_parts.c - whose time it is: the controllers', L1's or the adapter's, at each border between them. */
#include "tests/bench/cpu.h"

#include <string.h>

#include "base/assert.h"
#include "tests/support/l1_wrap.h"
#include "transport/shm/shm_priv.h"

#define TASKS_MAX    512
#define CALIBRATE_NS (20 * FAR_NS_PER_MS)

static uint64_t ticks[CPU_PART_COUNT];
static uint64_t since;
static enum cpu_part current;
static enum cpu_part l1_from; /* L1 is entered from here; it enters nothing itself */

static uint64_t
stamp(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return far_clock_now(far_clock_real());
#endif
}

enum cpu_part
cpu_part_enter(enum cpu_part part)
{
	uint64_t now = stamp();
	enum cpu_part from = current;

	ticks[current] += now - since;
	since = now;
	current = part;
	return from;
}

/* How many stamps a microsecond has; measured once. */
static double
stamps_per_us(void)
{
	static double rate;
	uint64_t from_ns = far_clock_now(far_clock_real());
	uint64_t from = stamp();
	uint64_t now_ns = from_ns;

	while (rate <= 0 && now_ns < from_ns + CALIBRATE_NS)
		now_ns = far_clock_now(far_clock_real());
	if (rate <= 0)
		rate = (double)(stamp() - from) * 1000 / (double)(now_ns - from_ns);
	return rate;
}

double
cpu_part_us(enum cpu_part part)
{
	return (double)ticks[part] / stamps_per_us();
}

static void
l1_before(void *arg, struct far_l1 *l1, enum l1_call call)
{
	(void)arg;
	(void)l1;
	(void)call;
	l1_from = cpu_part_enter(CPU_L1);
}

static void
l1_after(void *arg, struct far_l1 *l1, enum l1_call call)
{
	(void)arg;
	(void)l1;
	(void)call;
	(void)cpu_part_enter(l1_from);
}

void
cpu_parts_start(void)
{
	struct l1_wrap wrap = {.before = l1_before, .after = l1_after};

	memset(ticks, 0, sizeof(ticks));
	l1_wrap_set(&wrap);
	current = CPU_CONTROLLERS;
	since = stamp();
}

void
cpu_parts_stop(void)
{
	(void)cpu_part_enter(CPU_CONTROLLERS);
	l1_wrap_set(NULL);
}

/* With --wrap the linker sends calls of far_shm_queue_run() here. */
int __real_far_shm_queue_run(struct shm_link *link, struct shm_queue *queue);
int __wrap_far_shm_queue_run(struct shm_link *link, struct shm_queue *queue);

int
__wrap_far_shm_queue_run(struct shm_link *link, struct shm_queue *queue)
{
	enum cpu_part from = cpu_part_enter(CPU_READS);
	int count = __real_far_shm_queue_run(link, queue);

	(void)cpu_part_enter(from);
	return count;
}

/* ---- the adapter around another one ---- */

struct shim_task {
	struct far_l2_task *task; /* NULL: free */
	void (*done)(struct far_l2_task *task);
};

static struct shim {
	struct far_l2 l2;
	struct far_l2 *inner;
	struct shim_task tasks[TASKS_MAX];
} shim;

/* The task's owner is back in its own code. */
static void
shim_done(struct far_l2_task *task)
{
	enum cpu_part from = cpu_part_enter(CPU_CONTROLLERS);

	for (uint32_t i = 0; i < TASKS_MAX; i++) {
		struct shim_task *row = &shim.tasks[i];

		if (row->task != task)
			continue;
		row->task = NULL;
		task->done = row->done;
		task->l2 = &shim.l2;
		task->done(task);
		(void)cpu_part_enter(from);
		return;
	}
	FAR_ASSERT(false);
}

static void
shim_submit(struct far_l2 *l2, struct far_l2_task *task)
{
	enum cpu_part from = cpu_part_enter(CPU_ADAPTER);

	(void)l2;
	for (uint32_t i = 0; i < TASKS_MAX; i++) {
		if (shim.tasks[i].task != NULL)
			continue;
		shim.tasks[i] = (struct shim_task){.task = task, .done = task->done};
		task->done = shim_done;
		far_l2_submit(shim.inner, task);
		(void)cpu_part_enter(from);
		return;
	}
	FAR_ASSERT(false);
}

static void
shim_cancel(struct far_l2 *l2, struct far_l2_task *task)
{
	enum cpu_part from = cpu_part_enter(CPU_ADAPTER);

	(void)l2;
	far_l2_cancel(shim.inner, task);
	(void)cpu_part_enter(from);
}

static void
shim_unlock(struct far_l2 *l2, const struct far_key *keys, size_t count)
{
	enum cpu_part from = cpu_part_enter(CPU_ADAPTER);

	(void)l2;
	far_l2_unlock(shim.inner, keys, count);
	(void)cpu_part_enter(from);
}

static uint64_t
shim_tick(struct far_l2 *l2, uint64_t now_ns)
{
	enum cpu_part from = cpu_part_enter(CPU_ADAPTER);
	uint64_t next_ns = far_l2_tick(shim.inner, now_ns);

	(void)l2;
	(void)cpu_part_enter(from);
	return next_ns;
}

static void
shim_status(const struct far_l2 *l2, struct far_l2_status *out)
{
	(void)l2;
	far_l2_status_get(shim.inner, out);
}

static int
shim_stats_ask(struct far_l2 *l2, far_l2_stats_fn *done, void *arg, uint64_t deadline_ns)
{
	(void)l2;
	return shim.inner->ops->stats_ask(shim.inner, done, arg, deadline_ns);
}

static void
shim_quiesce(struct far_l2 *l2)
{
	(void)l2;
	far_l2_quiesce(shim.inner);
}

static bool
shim_quiesced(const struct far_l2 *l2)
{
	(void)l2;
	return far_l2_quiesced(shim.inner);
}

static void
shim_close(struct far_l2 *l2)
{
	(void)l2;
}

static const struct far_l2_ops shim_ops = {
	.type = "shim",
	.submit = shim_submit,
	.cancel = shim_cancel,
	.unlock = shim_unlock,
	.tick = shim_tick,
	.status = shim_status,
	.stats_ask = shim_stats_ask,
	.quiesce = shim_quiesce,
	.quiesced = shim_quiesced,
	.close = shim_close,
};

struct far_l2 *
cpu_shim_open(struct far_l2 *inner)
{
	memset(&shim, 0, sizeof(shim));
	shim.l2 = *inner;
	shim.l2.ops = &shim_ops;
	shim.inner = inner;
	return &shim.l2;
}
