/* lookup.c - jobs: lists of READs for the items of a task, and their first phase, the lookup. */
#include "l2/donor/donor_priv.h"

#include "base/mark.h"

enum find_result {
	FIND_ABSENT,
	FIND_TORN,
	FIND_HIT,
};

/* The job is on no list when it comes here. */
static void
job_free(struct far_donor *donor, struct donor_job *job)
{
	job->task = NULL;
	job->count = 0;
	/* The one that was used last is still in the processor's cache, scratch and all. */
	far_list_push_front(&donor->jobs_free, &job->node);
}

static void
job_end(struct far_donor *donor, struct donor_job *job, int rc)
{
	struct far_l2_task *task = job->task;

	for (uint32_t i = 0; i < job->count; i++) {
		if (task->kind == FAR_L2_STORE)
			task->priv[PRIV_LOOKING]--;
		far_donor_item_end(donor, task, job->entries[i].item, rc);
	}
	job_free(donor, job);
	far_donor_store_ready(donor, task);
}

void
far_donor_job_post(struct far_donor *donor, struct donor_job *job, uint32_t op_count)
{
	donor->ops[op_count - 1].token = donor_token(TOKEN_JOB, job->idx);
	/* -ENOTCONN as well: the event that ends the job is on its way. */
	if (far_transport_post(donor->link, donor->ops, (int)op_count) < 0) {
		far_list_push_back(&donor->jobs_blocked, &job->node);
		return;
	}
	donor->post_seq++;
	job->seq = donor->post_seq;
	job->posted = true;
	far_list_push_back(&donor->jobs_posted, &job->node);
}

void
far_donor_job_want_table(struct far_donor *donor, struct donor_job *job)
{
	job->table_want = far_donor_table_read(donor);
	far_list_push_back(&donor->jobs_table, &job->node);
}

/* Both candidate sets of every key that has to be looked up, in one list. */
static void
lookup_post(struct far_donor *donor, struct donor_job *job)
{
	uint32_t ops = 0;

	job->phase = PHASE_LOOKUP;
	for (uint32_t i = 0; i < job->count; i++) {
		const struct far_l2_item *item = &job->task->items[job->entries[i].item];
		uint64_t *sets = job->sets[i];

		if (!job->entries[i].look_up)
			continue;
		far_index_sets(&item->key, donor->header.hash_seed, donor->header.set_count, sets);
		for (uint32_t s = 0; s < 2; s++, ops++) {
			donor->pieces[ops] = (struct far_piece){
				.addr = job->scratch + ((size_t)2 * i + s) * DONOR_SET_BYTES,
				.size_bytes = FAR_SET_BYTES,
				.mem = donor->scratch_mem,
			};
			donor->ops[ops] = (struct far_op){
				.kind = FAR_OP_READ,
				.remote_addr = donor->index_addr + donor->header.sets_at +
					       sets[s] * DONOR_SET_BYTES,
				.rkey = donor->index_rkey,
				.pieces = &donor->pieces[ops],
				.piece_count = 1,
			};
		}
	}
	far_donor_job_post(donor, job, ops);
}

void
far_donor_job_run(struct far_donor *donor, struct donor_job *job)
{
	int rc;

	if (job->count == 0) {
		job_free(donor, job);
		return;
	}
	rc = far_donor_task_end_rc(donor, job->task);
	if (rc < 0) {
		job_end(donor, job, rc);
		return;
	}
	for (uint32_t i = 0; i < job->count; i++) {
		if (job->entries[i].look_up) {
			lookup_post(donor, job);
			return;
		}
	}
	far_donor_load_post(donor, job);
}

/* A key in the 8 slots of its two sets. @at_out: where its slot lies in the index memory. */
static enum find_result
sets_find(const struct far_donor *donor, const struct far_key *key, const uint64_t sets[2],
	  const uint8_t *bytes, struct far_slot *slot_out, uint64_t *at_out)
{
	enum find_result result = FIND_ABSENT;

	for (uint32_t i = 0; i < 2 * FAR_SET_SLOTS; i++) {
		const uint8_t *line = bytes + (size_t)i * FAR_SLOT_BYTES;

		if (memcmp(line, key->bytes, sizeof(key->bytes)) != 0)
			continue;
		memcpy(slot_out, line, sizeof(*slot_out));
		if (far_slot_check(slot_out, donor->epoch) == FAR_SLOT_VALID) {
			*at_out = donor->header.sets_at +
				  sets[i / FAR_SET_SLOTS] * DONOR_SET_BYTES +
				  (uint64_t)(i % FAR_SET_SLOTS) * FAR_SLOT_BYTES;
			return FIND_HIT;
		}
		result = FIND_TORN;
	}
	/* A slot that is just being written may be ours. */
	for (uint32_t i = 0; i < 2 * FAR_SET_SLOTS && result == FIND_ABSENT; i++) {
		struct far_slot slot;

		memcpy(&slot, bytes + (size_t)i * FAR_SLOT_BYTES, sizeof(slot));
		if (far_slot_check(&slot, donor->epoch) == FAR_SLOT_TORN)
			result = FIND_TORN;
	}
	return result;
}

void
far_donor_store_ready(struct far_donor *donor, struct far_l2_task *task)
{
	if (task->kind != FAR_L2_STORE || task->priv[PRIV_STAGE] != STAGE_BUSY ||
	    task->priv[PRIV_LOOKING] != 0)
		return;
	task->priv[PRIV_NEXT] = 0;
	far_donor_task_stage(donor, task, STAGE_STORE);
}

/* Not in the index. */
static void
absent_take(struct far_donor *donor, struct far_l2_task *task, const struct donor_entry *entry)
{
	if (task->kind == FAR_L2_STORE) {
		task->priv[PRIV_LOOKING]--;
		if (task->priv[PRIV_END_RC] == 0)
			task->items[entry->item].rc = ITEM_TO_STORE;
		else
			far_donor_item_end(donor, task, entry->item, -(int)task->priv[PRIV_END_RC]);
		return;
	}
	far_donor_item_end(donor, task, entry->item, entry->follows > 0 ? -ESTALE : -ENOENT);
}

static bool
length_differs(const struct far_l2_item *item, const struct donor_entry *entry,
	       const struct far_slot *slot)
{
	struct far_slot before;

	if (item->size_bytes != 0 && item->size_bytes != slot->size_bytes)
		return true;
	/* Stored anew with another length since the caller looked. */
	donor_hint_slot(item, &before);
	return entry->follows > 0 && item->hint[HINT_EPOCH] != 0 &&
	       before.size_bytes != slot->size_bytes;
}

/* A slot that names the key. True: the entry stays in its job. */
static bool
hit_take(struct far_donor *donor, struct far_l2_task *task, struct donor_entry *entry,
	 const struct far_slot *slot, uint64_t at)
{
	struct far_l2_item *item = &task->items[entry->item];

	if (task->kind == FAR_L2_STORE) {
		task->priv[PRIV_LOOKING]--;
		donor->status.stores_had++;
		far_donor_item_end(donor, task, entry->item, -EEXIST);
		return false;
	}
	if (length_differs(item, entry, slot)) {
		item->size_bytes = slot->size_bytes;
		donor->status.length_misses++;
		far_donor_item_end(donor, task, entry->item, -EMSGSIZE);
		return false;
	}
	if (far_donor_segment_find(donor, slot->segment) == NULL) {
		if (entry->table_tried) {
			absent_take(donor, task, entry);
			return false;
		}
		return true; /* after the table has been read again */
	}
	donor_hint_set(item, slot, at, donor->epoch);
	if (task->kind == FAR_L2_LOOKUP) {
		item->size_bytes = slot->size_bytes;
		donor->status.lookup_hits++;
		far_donor_item_end(donor, task, entry->item, 0);
		return false;
	}
	entry->look_up = false;
	entry->table_tried = false;
	if (entry->follows > 0) {
		FAR_MARK("a moved block is found by another lookup");
		donor->status.moved_followed++;
	}
	return true;
}

/* What a lookup saw for one entry, which was number @posted of the list. True: the entry stays; look_up
 * says whether for another look. */
static bool
entry_resolve(struct far_donor *donor, struct donor_job *job, uint32_t posted,
	      struct donor_entry *entry, bool *want_table)
{
	const uint8_t *bytes = job->scratch + (size_t)posted * 2 * DONOR_SET_BYTES;
	struct far_l2_task *task = job->task;
	struct far_slot slot;
	uint64_t at = 0;

	switch (sets_find(donor, &task->items[entry->item].key, job->sets[posted], bytes, &slot,
			  &at)) {
	case FIND_HIT:
		if (!hit_take(donor, task, entry, &slot, at))
			return false;
		if (entry->look_up) {
			entry->table_tried = true;
			*want_table = true;
		}
		return true;
	case FIND_TORN:
		/* What a predecessor left looks torn until it is recovered or cleared. */
		if (entry->rereads < (donor->recovers ? 1 : DONOR_REREADS_MAX)) {
			FAR_MARK("a torn slot is read again");
			entry->rereads++;
			donor->status.torn_rereads++;
			return true;
		}
		break;
	case FIND_ABSENT:
		break;
	}
	absent_take(donor, task, entry);
	return false;
}

static void
lookup_done(struct far_donor *donor, struct donor_job *job, int status)
{
	struct far_l2_task *task = job->task;
	bool want_table = false;
	uint32_t kept = 0;

	if (status < 0 || !donor_is_up(donor)) {
		job_end(donor, job, donor_is_up(donor) ? -EIO : -EHOSTDOWN);
		return;
	}
	for (uint32_t i = 0; i < job->count; i++) {
		struct donor_entry entry = job->entries[i];

		if (!entry.look_up || entry_resolve(donor, job, i, &entry, &want_table))
			job->entries[kept++] = entry;
	}
	job->count = kept;
	far_donor_store_ready(donor, task);
	if (want_table)
		far_donor_job_want_table(donor, job);
	else
		far_donor_job_run(donor, job);
}

void
far_donor_job_done(struct far_donor *donor, uint32_t idx, int status)
{
	struct donor_job *job = &donor->jobs[idx];

	FAR_ASSERT(idx < DONOR_JOBS);
	FAR_ASSERT(job->posted);
	job->posted = false;
	far_list_remove(&job->node);
	if (job->phase == PHASE_LOOKUP)
		lookup_done(donor, job, status);
	else
		far_donor_load_done(donor, job, status);
}

void
far_donor_jobs_stop(struct far_donor *donor, const struct far_l2_task *task, int rc)
{
	struct far_list *lists[] = {&donor->jobs_blocked, &donor->jobs_table};
	struct far_list *it, *tmp;

	for (int i = 0; i < 2; i++) {
		FAR_LIST_FOR_EACH_SAFE(it, tmp, lists[i])
		{
			struct donor_job *job = FAR_CONTAINER_OF(it, struct donor_job, node);

			if (job->task != task)
				continue;
			far_list_remove(&job->node);
			job_end(donor, job, rc);
		}
	}
}

void
far_donor_jobs_table_ended(struct far_donor *donor)
{
	struct far_list *it, *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &donor->jobs_table)
	{
		struct donor_job *job = FAR_CONTAINER_OF(it, struct donor_job, node);

		if (job->table_want > donor->table_ended)
			continue;
		far_list_remove(&job->node);
		far_donor_job_run(donor, job);
	}
	if (!far_list_empty(&donor->jobs_table))
		(void)far_donor_table_read(donor);
}

uint64_t
far_donor_jobs_oldest(const struct far_donor *donor)
{
	uint64_t oldest = UINT64_MAX;

	for (uint32_t i = 0; i < DONOR_JOBS; i++) {
		if (donor->jobs[i].posted && donor->jobs[i].seq < oldest)
			oldest = donor->jobs[i].seq;
	}
	return oldest;
}

/* What an item of a READ-stage task ends with before anything is posted for it, or 0 and the length of
 * its pieces. */
static int
item_check(const struct far_donor *donor, enum far_l2_kind kind, const struct far_l2_item *item,
	   bool *look_up_out, uint64_t *bytes_out)
{
	uint64_t bytes;

	*look_up_out = true;
	*bytes_out = 0;
	if (kind == FAR_L2_LOOKUP)
		return 0;
	bytes = far_donor_pieces_bytes(donor, item);
	*bytes_out = bytes;
	if (bytes == 0 || bytes == UINT64_MAX)
		return -EINVAL;
	if (kind == FAR_L2_STORE)
		return bytes > donor->header.lane_bytes ? -EMSGSIZE : 0;
	return far_donor_load_check(donor, item, look_up_out);
}

/* Gives the next items of a task to a job. */
static void
job_fill(struct far_donor *donor, struct donor_job *job, struct far_l2_task *task)
{
	bool load = task->kind == FAR_L2_LOAD;
	uint32_t max = load ? DONOR_LOAD_BLOCKS_MAX : DONOR_JOB_ITEMS_MAX;
	uint64_t bytes = 0;

	job->task = task;
	job->count = 0;
	job->alone = false;
	job->live_rereads = 0;
	while (task->priv[PRIV_NEXT] < task->count && job->count < max) {
		uint32_t i = (uint32_t)task->priv[PRIV_NEXT];
		uint64_t more;
		bool look_up;
		int rc = item_check(donor, task->kind, &task->items[i], &look_up, &more);

		if (rc == 0 && load) {
			if (job->count > 0 && bytes + more > DONOR_LOAD_BYTES_BEST)
				break;
			bytes += more;
		}
		task->priv[PRIV_NEXT]++;
		if (task->kind == FAR_L2_LOOKUP)
			donor->status.lookups++;
		if (rc < 0) {
			if (task->kind == FAR_L2_STORE)
				task->priv[PRIV_LOOKING]--;
			far_donor_item_end(donor, task, i, rc);
			continue;
		}
		job->entries[job->count++] = (struct donor_entry){
			.item = (uint16_t)i, .look_up = look_up, .bytes = more};
	}
	if (task->priv[PRIV_STAGE] == STAGE_READ && task->priv[PRIV_NEXT] == task->count)
		far_donor_task_stage(donor, task, STAGE_BUSY);
	far_donor_store_ready(donor, task);
}

void
far_donor_jobs_pump(struct far_donor *donor)
{
	struct far_list *reads = &donor->stages[STAGE_READ];
	struct far_list *node;

	while ((node = far_list_pop_front(&donor->jobs_blocked)) != NULL) {
		struct donor_job *job = FAR_CONTAINER_OF(node, struct donor_job, node);

		far_donor_job_run(donor, job);
		if (!far_list_empty(&donor->jobs_blocked) && donor->jobs_blocked.prev == &job->node)
			return; /* still no room: SENDABLE follows */
	}
	while (!far_list_empty(reads) && far_list_empty(&donor->jobs_blocked)) {
		struct far_l2_task *task = FAR_CONTAINER_OF(reads->next, struct far_l2_task, node);
		int rc = far_donor_task_end_rc(donor, task);

		if (rc < 0) {
			far_donor_task_stop(donor, task, rc);
			continue;
		}
		node = far_list_pop_front(&donor->jobs_free);
		if (node == NULL)
			return;
		job_fill(donor, FAR_CONTAINER_OF(node, struct donor_job, node), task);
		far_donor_job_run(donor, FAR_CONTAINER_OF(node, struct donor_job, node));
	}
}
