/* donor.c - the adapter of one remote donor: its tasks from submit to done, and what drives them. */
#include "l2/donor/donor_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

static const struct far_l2_ops donor_ops;

static struct far_donor *
donor_of(const struct far_l2 *l2)
{
	FAR_ASSERT(l2->ops == &donor_ops);
	return FAR_CONTAINER_OF((struct far_l2 *)(uintptr_t)l2, struct far_donor, l2);
}

void
far_donor_task_stage(struct far_donor *donor, struct far_l2_task *task, enum donor_stage stage)
{
	far_list_remove(&task->node);
	far_list_push_back(&donor->stages[stage], &task->node);
	task->priv[PRIV_STAGE] = stage;
}

void
far_donor_item_end(struct far_donor *donor, struct far_l2_task *task, uint32_t item, int rc)
{
	FAR_ASSERT(task->items[item].rc > 0); /* once only */
	FAR_ASSERT(rc <= 0);
	FAR_ASSERT(task->priv[PRIV_LEFT] > 0);
	task->items[item].rc = rc;
	task->priv[PRIV_LEFT]--;
	if (task->priv[PRIV_LEFT] == 0)
		far_donor_task_stage(donor, task, STAGE_ENDED);
}

int
far_donor_task_end_rc(const struct far_donor *donor, const struct far_l2_task *task)
{
	if (task->priv[PRIV_END_RC] != 0)
		return -(int)task->priv[PRIV_END_RC];
	if (!donor_is_up(donor))
		return -EHOSTDOWN;
	if (task->deadline_ns <= far_clock_now(donor->env.clock))
		return -ETIMEDOUT;
	return 0;
}

/* Items of jobs and batches that are posted stay: their own completion ends them. */
void
far_donor_task_stop(struct far_donor *donor, struct far_l2_task *task, int rc)
{
	enum donor_stage stage = (enum donor_stage)task->priv[PRIV_STAGE];
	uint64_t next = task->priv[PRIV_NEXT];

	if (stage == STAGE_ENDED)
		return;
	if (task->priv[PRIV_END_RC] == 0)
		task->priv[PRIV_END_RC] = (uint64_t)-rc;
	far_donor_jobs_stop(donor, task, rc);
	for (uint32_t i = 0; i < task->count; i++) {
		int state = task->items[i].rc;
		bool untaken = stage == STAGE_DELETE || (stage == STAGE_READ && i >= next);

		if (state == ITEM_TO_STORE || (state == ITEM_QUEUED && untaken))
			far_donor_item_end(donor, task, i, rc);
	}
	if (task->priv[PRIV_STAGE] == stage && stage != STAGE_BUSY)
		far_donor_task_stage(donor, task, STAGE_BUSY);
}

void
far_donor_tasks_stop(struct far_donor *donor, int rc)
{
	struct far_list *it, *tmp;

	for (int stage = 0; stage < STAGE_BUSY; stage++) {
		FAR_LIST_FOR_EACH_SAFE(it, tmp, &donor->stages[stage])
		far_donor_task_stop(donor, FAR_CONTAINER_OF(it, struct far_l2_task, node), rc);
	}
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &donor->stages[STAGE_BUSY])
	far_donor_task_stop(donor, FAR_CONTAINER_OF(it, struct far_l2_task, node), rc);
}

void
far_donor_pump(struct far_donor *donor)
{
	if (donor->link_state == LINK_TABLE || donor_is_up(donor))
		far_donor_table_pump(donor);
	if (!donor_is_up(donor))
		return;
	far_donor_recalls_pump(donor);
	if (!donor_is_up(donor))
		return;
	far_donor_jobs_pump(donor);
	far_donor_store_pump(donor);
	far_donor_list_pump(donor);
	/* Last, so that notes never take the credit that a COMMIT waits for. */
	far_donor_notes_pump(donor);
}

void
far_donor_flush(struct far_donor *donor)
{
	struct far_list due;
	struct far_list *node;

	/* Only those that have ended by now: a callback that submits to a dead donor again and again
	 * must not keep us here. */
	far_list_init(&due);
	while ((node = far_list_pop_front(&donor->stages[STAGE_ENDED])) != NULL)
		far_list_push_back(&due, node);
	while ((node = far_list_pop_front(&due)) != NULL) {
		struct far_l2_task *task = FAR_CONTAINER_OF(node, struct far_l2_task, node);

		donor->tasks_live--;
		task->done(task);
	}
	far_donor_list_flush(donor);
}

static void
donor_submit(struct far_l2 *l2, struct far_l2_task *task)
{
	struct far_donor *donor = donor_of(l2);
	int rc = 0;

	memset(task->priv, 0, sizeof(task->priv));
	task->priv[PRIV_LEFT] = task->count;
	task->priv[PRIV_LOOKING] = task->count;
	for (uint32_t i = 0; i < task->count; i++)
		task->items[i].rc = ITEM_QUEUED;
	far_list_init(&task->node);
	far_donor_task_stage(donor, task, task->kind == FAR_L2_DELETE ? STAGE_DELETE : STAGE_READ);
	if (donor->quiescing)
		rc = -ECANCELED;
	else if (donor->tasks_live >= donor->l2.limits.tasks_max)
		rc = -EAGAIN;
	else if (!donor_is_up(donor))
		rc = -EHOSTDOWN;
	donor->tasks_live++;
	if (rc < 0) {
		far_donor_task_stop(donor, task, rc);
		return;
	}
	if (task->deadline_ns < donor->deadline_next_ns)
		donor->deadline_next_ns = task->deadline_ns;
	if (task->kind == FAR_L2_STORE)
		donor->reserve_denied = false;
	far_donor_pump(donor);
}

static void
donor_cancel(struct far_l2 *l2, struct far_l2_task *task)
{
	far_donor_task_stop(donor_of(l2), task, -ECANCELED);
}

/* A donor keeps no locks: what a lookup saw is proved when it is loaded. */
static void
donor_unlock(struct far_l2 *l2, const struct far_key *keys, size_t count)
{
	(void)l2;
	(void)keys;
	(void)count;
}

static void
deadlines_tick(struct far_donor *donor, uint64_t now_ns)
{
	struct far_list *it, *tmp;

	if (now_ns < donor->deadline_next_ns)
		return;
	donor->deadline_next_ns = FAR_TIME_NEVER;
	for (int stage = 0; stage <= STAGE_BUSY; stage++) {
		FAR_LIST_FOR_EACH_SAFE(it, tmp, &donor->stages[stage])
		{
			struct far_l2_task *task = FAR_CONTAINER_OF(it, struct far_l2_task, node);

			if (task->priv[PRIV_END_RC] != 0)
				continue;
			if (task->deadline_ns <= now_ns)
				far_donor_task_stop(donor, task, -ETIMEDOUT);
			else if (task->deadline_ns < donor->deadline_next_ns)
				donor->deadline_next_ns = task->deadline_ns;
		}
	}
}

static uint64_t
quiesce_tick(struct far_donor *donor, uint64_t now_ns)
{
	bool idle;

	if (!donor->quiescing || donor->link == NULL || donor->link_state == LINK_CLOSING)
		return FAR_TIME_NEVER;
	idle = far_donor_store_idle(donor) && far_list_empty(&donor->jobs_posted);
	if (!donor_is_up(donor) || now_ns >= donor->quiesce_deadline_ns)
		far_donor_link_leave(donor, true);
	else if (idle)
		far_donor_link_leave(donor, false);
	return donor->link_state == LINK_CLOSING ? FAR_TIME_NEVER : donor->quiesce_deadline_ns;
}

static uint64_t
donor_tick(struct far_l2 *l2, uint64_t now_ns)
{
	struct far_donor *donor = donor_of(l2);
	uint64_t next_ns;
	uint64_t at_ns;

	FAR_ASSERT(!donor->ticking);
	donor->ticking = true;
	next_ns = far_donor_link_tick(donor, now_ns);
	deadlines_tick(donor, now_ns);
	at_ns = far_donor_index_tick(donor, now_ns);
	next_ns = at_ns < next_ns ? at_ns : next_ns;
	at_ns = far_donor_notes_tick(donor, now_ns);
	next_ns = at_ns < next_ns ? at_ns : next_ns;
	at_ns = far_donor_list_tick(donor, now_ns);
	next_ns = at_ns < next_ns ? at_ns : next_ns;
	far_donor_pump(donor);
	far_donor_flush(donor);
	at_ns = quiesce_tick(donor, now_ns);
	next_ns = at_ns < next_ns ? at_ns : next_ns;
	if (donor->deadline_next_ns < next_ns)
		next_ns = donor->deadline_next_ns;
	donor->ticking = false;
	if (!far_list_empty(&donor->stages[STAGE_ENDED]) || !far_list_empty(&donor->listings_ended))
		return now_ns;
	return next_ns;
}

static bool
donor_quiesced(const struct far_l2 *l2)
{
	const struct far_donor *donor = donor_of(l2);

	return donor->quiescing && donor->link == NULL && donor->tasks_live == 0 &&
	       far_list_empty(&donor->listings_ended) && !far_donor_is_asked(donor);
}

static void
donor_status(const struct far_l2 *l2, struct far_l2_status *out)
{
	const struct far_donor *donor = donor_of(l2);

	*out = donor->status;
	out->state = donor_quiesced(l2) ? FAR_L2_QUIESCED : donor->state;
	out->rc = donor->state_rc;
	out->one_sided = (donor->tp->caps.flags & FAR_CAP_ONE_SIDED) != 0;
	out->epoch = donor->epoch;
	out->tasks_live = donor->tasks_live;
	memcpy(out->text, donor->text, sizeof(out->text));
	memcpy(out->transport, donor->path->address.scheme, sizeof(out->transport));
	out->why[0] = '\0';
	if (donor_is_up(donor))
		far_donor_path_why(donor, out->why, sizeof(out->why));
}

static void
donor_quiesce(struct far_l2 *l2)
{
	struct far_donor *donor = donor_of(l2);

	if (donor->quiescing)
		return;
	donor->quiescing = true;
	donor->quiesce_deadline_ns = far_clock_now(donor->env.clock) + DONOR_QUIESCE_NS;
	far_donor_tasks_stop(donor, -ECANCELED);
	far_donor_listings_stop(donor, -ECANCELED);
	far_donor_lanes_end(donor);
}

static void
donor_free(struct far_donor *donor)
{
	/* The NIC must lose the pages before the kernel reuses them. */
	far_donor_paths_close(donor);
	far_pages_unmap(&donor->pages);
	far_free(donor->map.places);
	far_free(donor->map_next.places);
	far_free(donor->frame);
	far_free(donor->keys);
	far_free(donor->pieces);
	far_free(donor->ops);
	far_free(donor->batches);
	far_free(donor->jobs);
	far_free(donor);
}

static void
donor_close(struct far_l2 *l2)
{
	donor_free(donor_of(l2));
}

/* Everything that a task path needs, taken now: none of them allocates. */
static int
donor_alloc(struct far_donor *donor)
{
	const size_t table_bytes = DONOR_TABLE_CHUNK * sizeof(struct far_index_segment);
	const size_t jobs_bytes = (size_t)DONOR_JOBS * DONOR_JOB_SCRATCH;
	const size_t list_bytes = DONOR_LIST_SETS * DONOR_SET_BYTES;
	int rc;

	donor->jobs = far_zalloc_array(DONOR_JOBS, sizeof(*donor->jobs));
	donor->batches = far_zalloc_array(DONOR_BATCHES, sizeof(*donor->batches));
	donor->ops = far_zalloc_array(FAR_POST_OPS_MAX, sizeof(*donor->ops));
	/* Behind the data of a list come the pieces of its validation, one per op. */
	donor->pieces =
		far_zalloc_array(DONOR_PIECES_MAX + FAR_POST_OPS_MAX, sizeof(*donor->pieces));
	donor->keys = far_zalloc_array(DONOR_ITEMS_MAX, sizeof(*donor->keys));
	donor->frame = far_zalloc(FAR_FRAME_BYTES_MAX);
	if (donor->jobs == NULL || donor->batches == NULL || donor->ops == NULL ||
	    donor->pieces == NULL || donor->keys == NULL || donor->frame == NULL)
		return -ENOMEM;
	rc = far_pages_map_shared("farpool-scratch",
				  jobs_bytes + table_bytes + FAR_INDEX_PAGE_BYTES + list_bytes + 64,
				  FAR_PAGES_HUGE_OFF, -1, &donor->pages);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < DONOR_JOBS; i++) {
		donor->jobs[i].idx = i;
		donor->jobs[i].scratch =
			(uint8_t *)donor->pages.base + (size_t)i * DONOR_JOB_SCRATCH;
		far_list_push_back(&donor->jobs_free, &donor->jobs[i].node);
	}
	for (uint32_t i = 0; i < DONOR_BATCHES; i++) {
		donor->batches[i].idx = i;
		far_list_push_back(&donor->batches_free, &donor->batches[i].node);
	}
	donor->scratch_table = (uint8_t *)donor->pages.base + jobs_bytes;
	donor->scratch_header = donor->scratch_table + table_bytes;
	donor->scratch_list = donor->scratch_header + FAR_INDEX_PAGE_BYTES;
	donor->scratch_live = donor->scratch_list + list_bytes;
	return 0;
}

static int
names_take(struct far_donor *donor, const struct far_l2_config *config, char error[256])
{
	const char *name_space = config->name_space != NULL ? config->name_space : "default";

	FAR_ASSERT(strlen(config->name) <= FAR_NAME_BYTES_MAX); /* as far_l2.name is bounded */
	if (strlen(name_space) > FAR_NAME_BYTES_MAX)
		return far_l2_config_error(config, "namespace", error,
					   "'%.40s...' has more than %u bytes", name_space,
					   FAR_NAME_BYTES_MAX);
	(void)snprintf(donor->name, sizeof(donor->name), "%s", config->name);
	(void)snprintf(donor->name_space, sizeof(donor->name_space), "%s", name_space);
	return 0;
}

static void
donor_lists_init(struct far_donor *donor)
{
	struct far_list *lists[] = {
		&donor->jobs_free,    &donor->jobs_posted,  &donor->jobs_blocked,
		&donor->jobs_table,   &donor->batches_free, &donor->batches_unsent,
		&donor->batches_sent, &donor->listings,     &donor->listings_ended,
	};

	for (int i = 0; i < STAGE_COUNT; i++)
		far_list_init(&donor->stages[i]);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		far_list_init(lists[i]);
}

int
far_l2_donor_open(const struct far_l2_config *config, const struct far_l2_env *env,
		  struct far_l2 **out, char error[256])
{
	struct far_donor *donor;
	int rc;

	if (env->arena_is_device && env->verify_always)
		return far_l2_config_error(config, NULL, error,
					   "the CRC of blocks that land on a device cannot be "
					   "checked here");
	donor = far_zalloc(sizeof(*donor));
	if (donor == NULL) {
		(void)far_l2_config_error(config, NULL, error, "no memory");
		return -ENOMEM;
	}
	donor->l2.ops = &donor_ops;
	donor->l2.limits = donor_ops.limits;
	donor->env = *env;
	donor->pages.fd = -1;
	donor->deadline_next_ns = FAR_TIME_NEVER;
	donor_lists_init(donor);
	rc = names_take(donor, config, error);
	if (rc < 0)
		goto fail;
	rc = donor_alloc(donor);
	if (rc < 0) {
		(void)far_l2_config_error(config, NULL, error, "no memory for its buffers: %s",
					  far_err_text(rc));
		goto fail;
	}
	rc = far_donor_paths_open(donor, config, error);
	if (rc < 0)
		goto fail;
	far_donor_link_init(donor);
	*out = &donor->l2;
	return 0;

fail:
	donor_free(donor);
	return rc;
}

static const struct far_l2_ops donor_ops = {
	.type = "donor",
	.limits = {.items_max = DONOR_ITEMS_MAX,
		   .tasks_max = DONOR_TASKS_MAX,
		   .load_bytes_best = DONOR_LOAD_BYTES_BEST},
	.submit = donor_submit,
	.cancel = donor_cancel,
	.unlock = donor_unlock,
	.tick = donor_tick,
	.status = donor_status,
	.stats_ask = far_donor_stats_ask,
	.usage_ask = far_donor_usage_ask,
	.list = far_donor_list,
	.quiesce = donor_quiesce,
	.quiesced = donor_quiesced,
	.close = donor_close,
};
