/* fault.c - tasks pass through to the inner adapter as shadows; what was chosen ends otherwise. */
#include "l2/fault/fault.h"

#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#define ACTIONS 5

struct fault_task {
	struct far_l2_task task; /* the inner adapter's; the items are the caller's own */
	struct far_l2_task *outer;
	struct fault *fault;
	struct far_list node; /* free, held, or alone while the inner adapter has it */
	bool held;
	bool dropped;
	bool cancelled;
	uint64_t delay_ns;
	uint64_t due_ns;
};

struct fault {
	struct far_l2 l2;
	struct far_l2 *inner; /* owned */
	struct far_clock *clock;
	uint64_t seed;
	struct far_l2_fault_rule rules[FAR_L2_FAULT_RULES_MAX];
	uint32_t struck[FAR_L2_FAULT_RULES_MAX];
	uint32_t rule_count;
	uint64_t counts[ACTIONS];
	struct fault_task *tasks; /* owned */
	struct far_list free;
	struct far_list held;    /* ended inside, not here */
	struct far_list refused; /* outer tasks: no shadow was left */
	uint32_t live;
	bool quiescing;
};

static const struct far_l2_ops fault_ops;

static struct fault *
fault_of(const struct far_l2 *l2)
{
	FAR_ASSERT(l2->ops == &fault_ops);
	return FAR_CONTAINER_OF((struct far_l2 *)(uintptr_t)l2, struct fault, l2);
}

static bool
rule_chooses(const struct fault *fault, uint32_t r, const struct far_l2_task *task, uint32_t i)
{
	const struct far_l2_fault_rule *rule = &fault->rules[r];
	const struct far_key *key = &task->items[i].key;
	uint64_t hash = far_mix64(far_mix64(fault->seed ^ far_key_lo(key)) ^ far_key_hi(key) ^ r);

	if (rule->kinds != 0 && (rule->kinds & 1U << task->kind) == 0)
		return false;
	if (rule->times != 0 && fault->struck[r] >= rule->times)
		return false;
	if (rule->keyed && !far_key_equal(&rule->key, key))
		return false;
	if (rule->head != 0 && i >= rule->head)
		return false;
	if (rule->tail > 0 && (double)(task->count - i) > rule->tail * (double)task->count)
		return false;
	return rule->rate <= 0 || (double)(hash >> 11) * 0x1p-53 < rule->rate;
}

static void
rule_strike(struct fault *fault, uint32_t r)
{
	fault->struck[r]++;
	fault->counts[fault->rules[r].action]++;
}

static bool
action_is_of_task(enum far_l2_fault_action action)
{
	return action == FAR_L2_FAULT_DROP || action == FAR_L2_FAULT_DELAY;
}

static void
garbage(struct far_l2_item *item, bool second_half)
{
	for (uint32_t p = 0; p < item->piece_count; p++) {
		uint32_t from = second_half ? item->pieces[p].size_bytes / 2 : 0;

		memset((uint8_t *)item->pieces[p].addr + from, 0xa5,
		       item->pieces[p].size_bytes - from);
	}
}

static void
item_spoil(struct fault *fault, enum far_l2_kind kind, struct far_l2_item *item,
	   const struct far_l2_fault_rule *rule)
{
	switch (rule->action) {
	case FAR_L2_FAULT_FAIL:
		if (kind == FAR_L2_LOOKUP && item->rc == 0)
			far_l2_unlock(fault->inner, &item->key, 1); /* nobody will: it is a miss */
		if (kind == FAR_L2_LOAD)
			garbage(item, true);
		item->rc = rule->rc;
		break;
	case FAR_L2_FAULT_CORRUPT:
		if (kind == FAR_L2_LOAD && item->rc == 0)
			*(uint8_t *)item->pieces[0].addr ^= 0x40;
		break;
	case FAR_L2_FAULT_SHORT:
		if (item->rc == 0 && kind == FAR_L2_LOAD) {
			garbage(item, true);
			item->rc = -EMSGSIZE;
		}
		if (kind == FAR_L2_LOOKUP || kind == FAR_L2_LOAD)
			item->size_bytes /= 2;
		break;
	case FAR_L2_FAULT_DROP:
	case FAR_L2_FAULT_DELAY:
		break;
	}
}

static void
items_spoil(struct fault *fault, struct far_l2_task *task)
{
	for (uint32_t i = 0; i < task->count; i++) {
		for (uint32_t r = 0; r < fault->rule_count; r++) {
			if (action_is_of_task(fault->rules[r].action) ||
			    !rule_chooses(fault, r, task, i))
				continue;
			rule_strike(fault, r);
			item_spoil(fault, task->kind, &task->items[i], &fault->rules[r]);
			break;
		}
	}
}

/* Nothing inside names its buffers any more. */
static void
shadow_end(struct fault_task *shadow)
{
	struct fault *fault = shadow->fault;
	struct far_l2_task *outer = shadow->outer;

	for (uint32_t i = 0; shadow->dropped && i < outer->count; i++) {
		if (outer->kind == FAR_L2_LOOKUP && outer->items[i].rc == 0)
			far_l2_unlock(fault->inner, &outer->items[i].key, 1);
		outer->items[i].rc = -ECANCELED;
	}
	far_list_remove(&shadow->node);
	far_list_push_back(&fault->free, &shadow->node);
	shadow->outer = NULL;
	shadow->held = false;
	fault->live--;
	outer->done(outer);
}

static bool
shadow_is_due(const struct fault_task *shadow, uint64_t now_ns)
{
	if (shadow->cancelled || shadow->fault->quiescing)
		return true;
	return !shadow->dropped && shadow->due_ns <= now_ns;
}

static void
shadow_done(struct far_l2_task *task)
{
	struct fault_task *shadow = FAR_CONTAINER_OF(task, struct fault_task, task);
	struct fault *fault = shadow->fault;
	uint64_t now_ns = far_clock_now(fault->clock);

	items_spoil(fault, task);
	shadow->due_ns = far_time_after(now_ns, shadow->delay_ns);
	if (shadow_is_due(shadow, now_ns)) {
		shadow_end(shadow);
		return;
	}
	shadow->held = true;
	far_list_push_back(&fault->held, &shadow->node);
}

/* The first task rule that chooses one of its items. */
static void
task_choose(struct fault *fault, struct fault_task *shadow)
{
	for (uint32_t r = 0; r < fault->rule_count; r++) {
		if (!action_is_of_task(fault->rules[r].action))
			continue;
		for (uint32_t i = 0; i < shadow->task.count; i++) {
			if (!rule_chooses(fault, r, &shadow->task, i))
				continue;
			rule_strike(fault, r);
			shadow->dropped = fault->rules[r].action == FAR_L2_FAULT_DROP;
			shadow->delay_ns = fault->rules[r].delay_ns;
			return;
		}
	}
}

static void
fault_submit(struct far_l2 *l2, struct far_l2_task *task)
{
	struct fault *fault = fault_of(l2);
	struct far_list *node = far_list_pop_front(&fault->free);
	struct fault_task *shadow;

	fault->live++;
	task->priv[0] = 0;
	if (node == NULL) {
		far_list_push_back(&fault->refused, &task->node);
		return;
	}
	shadow = FAR_CONTAINER_OF(node, struct fault_task, node);
	*shadow = (struct fault_task){.outer = task, .fault = fault};
	far_list_init(&shadow->node);
	shadow->task = (struct far_l2_task){
		.kind = task->kind,
		.items = task->items,
		.count = task->count,
		.deadline_ns = task->deadline_ns,
		.done = shadow_done,
	};
	task->priv[0] = (uint64_t)(uintptr_t)shadow;
	task_choose(fault, shadow);
	far_l2_submit(fault->inner, &shadow->task);
}

static void
fault_cancel(struct far_l2 *l2, struct far_l2_task *task)
{
	struct fault_task *shadow = (struct fault_task *)(uintptr_t)task->priv[0];

	if (shadow == NULL)
		return; /* refused: its end is on the way */
	FAR_ASSERT(shadow->outer == task);
	shadow->cancelled = true;
	if (!shadow->held)
		far_l2_cancel(fault_of(l2)->inner, &shadow->task);
}

static void
fault_unlock(struct far_l2 *l2, const struct far_key *keys, size_t count)
{
	far_l2_unlock(fault_of(l2)->inner, keys, count);
}

static uint64_t
held_tick(struct fault *fault, uint64_t now_ns)
{
	uint64_t next_ns = FAR_TIME_NEVER;
	struct far_list *it, *tmp;
	struct far_list due;

	/* Callbacks submit and cancel: what is due is set apart before the first of them. */
	far_list_init(&due);
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &fault->held)
	{
		struct fault_task *shadow = FAR_CONTAINER_OF(it, struct fault_task, node);

		if (shadow_is_due(shadow, now_ns)) {
			far_list_remove(it);
			far_list_push_back(&due, it);
		} else if (!shadow->dropped && shadow->due_ns < next_ns) {
			next_ns = shadow->due_ns;
		}
	}
	while (!far_list_empty(&due))
		shadow_end(FAR_CONTAINER_OF(due.next, struct fault_task, node));
	return next_ns;
}

static void
refused_tick(struct fault *fault)
{
	struct far_list *last = fault->refused.prev;
	struct far_list *node = NULL;

	while (node != last && (node = far_list_pop_front(&fault->refused)) != NULL) {
		struct far_l2_task *task = FAR_CONTAINER_OF(node, struct far_l2_task, node);

		for (uint32_t i = 0; i < task->count; i++)
			task->items[i].rc = -EAGAIN;
		fault->live--;
		task->done(task);
	}
}

static uint64_t
fault_tick(struct far_l2 *l2, uint64_t now_ns)
{
	struct fault *fault = fault_of(l2);
	uint64_t next_ns = far_l2_tick(fault->inner, now_ns);
	uint64_t at_ns = held_tick(fault, now_ns);

	refused_tick(fault);
	l2->away = fault->inner->away;
	return at_ns < next_ns ? at_ns : next_ns;
}

static void
fault_status(const struct far_l2 *l2, struct far_l2_status *out)
{
	const struct fault *fault = fault_of(l2);

	far_l2_status_get(fault->inner, out);
	if (out->state == FAR_L2_QUIESCED && fault->live > 0)
		out->state = FAR_L2_DOWN;
	out->tasks_live = fault->live;
}

static int
fault_stats_ask(struct far_l2 *l2, far_l2_stats_fn *done, void *arg, uint64_t deadline_ns)
{
	struct far_l2 *inner = fault_of(l2)->inner;

	return inner->ops->stats_ask(inner, done, arg, deadline_ns);
}

static int
fault_usage_ask(struct far_l2 *l2, far_l2_usage_fn *done, void *arg, uint64_t deadline_ns)
{
	return far_l2_usage_ask(fault_of(l2)->inner, done, arg, deadline_ns);
}

static void
fault_list(struct far_l2 *l2, struct far_l2_listing *listing)
{
	far_l2_list(fault_of(l2)->inner, listing);
}

static void
fault_quiesce(struct far_l2 *l2)
{
	fault_of(l2)->quiescing = true;
	far_l2_quiesce(fault_of(l2)->inner);
}

static bool
fault_quiesced(const struct far_l2 *l2)
{
	const struct fault *fault = fault_of(l2);

	return fault->quiescing && fault->live == 0 && far_l2_quiesced(fault->inner);
}

static void
fault_close(struct far_l2 *l2)
{
	struct fault *fault = fault_of(l2);

	far_l2_close(fault->inner);
	far_free(fault->tasks);
	far_free(fault);
}

int
far_l2_fault_wrap(struct far_l2 *inner, struct far_clock *clock, uint64_t seed, struct far_l2 **out)
{
	struct fault *fault = far_zalloc(sizeof(*fault));
	uint32_t count = inner->limits.tasks_max;

	if (fault == NULL)
		return -ENOMEM;
	fault->tasks = far_zalloc_array(count, sizeof(*fault->tasks));
	if (fault->tasks == NULL) {
		far_free(fault);
		return -ENOMEM;
	}
	far_list_init(&fault->free);
	far_list_init(&fault->held);
	far_list_init(&fault->refused);
	for (uint32_t i = 0; i < count; i++)
		far_list_push_back(&fault->free, &fault->tasks[i].node);
	fault->l2.ops = &fault_ops;
	fault->l2.limits = inner->limits;
	memcpy(fault->l2.name, inner->name, sizeof(fault->l2.name));
	fault->l2.weight = inner->weight;
	fault->inner = inner;
	fault->clock = clock;
	fault->seed = seed;
	*out = &fault->l2;
	return 0;
}

int
far_l2_fault_add(struct far_l2 *l2, const struct far_l2_fault_rule *rule)
{
	struct fault *fault = fault_of(l2);

	if ((unsigned int)rule->action >= ACTIONS ||
	    (rule->action == FAR_L2_FAULT_FAIL && !far_err_listed(rule->rc)) ||
	    !(rule->rate >= 0 && rule->rate <= 1) || !(rule->tail >= 0 && rule->tail <= 1))
		return -EINVAL;
	if (fault->rule_count == FAR_L2_FAULT_RULES_MAX)
		return -E2BIG;
	fault->struck[fault->rule_count] = 0;
	fault->rules[fault->rule_count++] = *rule;
	return 0;
}

void
far_l2_fault_clear(struct far_l2 *l2)
{
	fault_of(l2)->rule_count = 0;
}

uint64_t
far_l2_fault_count(const struct far_l2 *l2, enum far_l2_fault_action action)
{
	return fault_of(l2)->counts[action];
}

static const struct far_l2_ops fault_ops = {
	.type = "fault",
	.limits = {.items_max = 1, .tasks_max = 1}, /* the inner adapter's count */
	.submit = fault_submit,
	.cancel = fault_cancel,
	.unlock = fault_unlock,
	.tick = fault_tick,
	.status = fault_status,
	.stats_ask = fault_stats_ask,
	.usage_ask = fault_usage_ask,
	.list = fault_list,
	.quiesce = fault_quiesce,
	.quiesced = fault_quiesced,
	.close = fault_close,
};
