/* store.c - lanes: blocks laid front to back, WRITEs in lists, one COMMIT behind each list. */
#include "l2/donor/donor_priv.h"

#include "base/checksum.h"
#include "base/helpers.h"
#include "base/mark.h"

#define BATCH_BYTES_BEST (4ULL << 20) /* so that one list is committed while the next is written */
#define BATCHES_BEST     2U           /* one that is written, one that is committed */
#define CRC_WAKE_BYTES   (256ULL << 10)

static struct donor_lane *
lane_find(struct far_donor *donor, uint64_t serial)
{
	for (uint32_t i = 0; i < DONOR_LANES; i++) {
		if (donor->lanes[i].state != LANE_NONE && donor->lanes[i].serial == serial)
			return &donor->lanes[i];
	}
	return NULL;
}

static struct donor_lane *
lane_free_find(struct far_donor *donor)
{
	for (uint32_t i = 0; i < DONOR_LANES; i++) {
		if (donor->lanes[i].state == LANE_NONE)
			return &donor->lanes[i];
	}
	return NULL;
}

/* Nothing more is laid into it; END goes with its last COMMIT. */
static void
lane_end(struct far_donor *donor, struct donor_lane *lane)
{
	if (lane->state != LANE_OPEN)
		return;
	lane->state = LANE_ENDING;
	if (donor->lane == lane) {
		donor->lane = donor->reserve;
		donor->reserve = NULL;
	} else if (donor->reserve == lane) {
		donor->reserve = NULL;
	}
}

void
far_donor_lanes_end(struct far_donor *donor)
{
	for (uint32_t i = 0; i < DONOR_LANES; i++)
		lane_end(donor, &donor->lanes[i]);
}

static void
batch_free(struct far_donor *donor, struct donor_batch *batch)
{
	far_list_remove(&batch->node);
	batch->lane = NULL;
	batch->count = 0;
	far_list_push_back(&donor->batches_free, &batch->node);
}

/* Nothing names the batch's buffers any more. @rc: of items that the donor said nothing about. */
static void
batch_end(struct far_donor *donor, struct donor_batch *batch, int rc)
{
	FAR_ASSERT(batch->written);
	for (uint32_t i = 0; i < batch->count; i++) {
		int item_rc = batch->answered ? batch->results[i] : rc;

		if (item_rc == 0) {
			donor->status.stores++;
			donor->status.store_bytes += batch->blocks[i].size_bytes;
		} else if (item_rc == -EEXIST) {
			FAR_MARK("two writers stored one key: the second is told that it is there");
			donor->status.stores_had++;
		}
		far_donor_item_end(donor, batch->entries[i].task, batch->entries[i].item, item_rc);
	}
	batch_free(donor, batch);
}

/* Moves on past what is written or has ended; a task with nothing left to lay only waits. */
static void
task_advance(struct far_donor *donor, struct far_l2_task *task)
{
	if (task->priv[PRIV_STAGE] != STAGE_STORE)
		return;
	while (task->priv[PRIV_NEXT] < task->count &&
	       task->items[task->priv[PRIV_NEXT]].rc != ITEM_TO_STORE)
		task->priv[PRIV_NEXT]++;
	if (task->priv[PRIV_NEXT] == task->count)
		far_donor_task_stage(donor, task, STAGE_BUSY);
}

enum lay_result {
	LAY_DONE,
	LAY_BATCH_FULL,
	LAY_LANE_FULL,
	LAY_NEVER, /* the item fits no lane, or no list */
};

/* Whether its checksum can come with its completion, from who copies it, instead of a pass of ours over it. */
static bool
item_can_be_summed(const struct far_donor *donor, const struct far_l2_item *item)
{
	return donor->link->sums_from != 0 && !item->has_crc && !donor->env.arena_is_device;
}

/* Too little in it to wait for that. */
static void
batch_sum_not(struct far_donor *donor, struct donor_batch *batch, const struct donor_list *list)
{
	for (uint32_t op = 0; op < list->ops; op++)
		donor->ops[op].crc32c = NULL;
	for (uint32_t i = 0; i < batch->count; i++)
		batch->entries[i].summed = false;
	batch->summed = false;
}

/* Lays one item behind what the batch holds already. Nothing but the batch and the lists changes. */
static enum lay_result
item_lay(struct far_donor *donor, struct donor_batch *batch, struct donor_list *list,
	 struct far_l2_task *task, uint32_t i)
{
	const struct far_l2_item *item = &task->items[i];
	const struct donor_lane *lane = batch->lane;
	uint64_t bytes = far_donor_pieces_bytes(donor, item);
	uint64_t align = far_extent_align(bytes);
	uint64_t at = (batch->fill_bytes + align - 1) / align * align;
	uint32_t op = list->ops;
	bool summed = item_can_be_summed(donor, item);
	struct far_op like;

	if (batch->count == DONOR_BATCH_BLOCKS ||
	    (batch->count > 0 && batch->fill_bytes - lane->fill_bytes + bytes > BATCH_BYTES_BEST))
		return LAY_BATCH_FULL;
	if (at + bytes > lane->size_bytes)
		return batch->fill_bytes == 0 ? LAY_NEVER : LAY_LANE_FULL;
	like = (struct far_op){
		.kind = FAR_OP_WRITE,
		.remote_addr = lane->addr + at,
		.rkey = lane->rkey,
		.crc32c = summed ? &batch->blocks[batch->count].crc32c : NULL,
	};
	if (!far_donor_list_add(donor, list, item, &like))
		return batch->count == 0 ? LAY_NEVER : LAY_BATCH_FULL;
	/* Sums of several ops are not that of the block. */
	if (list->ops - op > 1)
		summed = false;
	for (; !summed && op < list->ops; op++)
		donor->ops[op].crc32c = NULL;
	batch->summed |= summed;
	batch->entries[batch->count].task = task;
	batch->entries[batch->count].item = i;
	batch->entries[batch->count].summed = summed;
	batch->blocks[batch->count] = (struct far_frame_block){
		.offset_64 = (uint32_t)(at / FAR_EXTENT_ALIGN),
		.size_bytes = (uint32_t)bytes,
		.crc32c = item->crc32c,
		.group = item->group,
	};
	memcpy(batch->blocks[batch->count].key, item->key.bytes, sizeof(item->key.bytes));
	batch->count++;
	batch->fill_bytes = at + bytes;
	return LAY_DONE;
}

/* Lays what waits, task by task. True: the lane cannot take the next block. */
static bool
batch_fill(struct far_donor *donor, struct donor_batch *batch, struct donor_list *list)
{
	struct far_list *it, *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &donor->stages[STAGE_STORE])
	{
		struct far_l2_task *task = FAR_CONTAINER_OF(it, struct far_l2_task, node);
		int rc = far_donor_task_end_rc(donor, task);

		if (rc < 0) {
			far_donor_task_stop(donor, task, rc);
			continue;
		}
		for (uint32_t i = (uint32_t)task->priv[PRIV_NEXT]; i < task->count; i++) {
			if (task->items[i].rc != ITEM_TO_STORE)
				continue;
			switch (item_lay(donor, batch, list, task, i)) {
			case LAY_DONE:
				break;
			case LAY_BATCH_FULL:
				return false;
			case LAY_LANE_FULL:
				return true;
			case LAY_NEVER:
				far_donor_item_end(donor, task, i, -E2BIG);
				break;
			}
		}
		if (batch->count == 0)
			task_advance(donor, task);
	}
	return false;
}

/* What the threads that help know of it. */
struct crc_job {
	const struct far_donor *donor;
	struct donor_batch *batch;
};

static void
block_crc(void *arg, uint32_t idx)
{
	const struct crc_job *job = arg;
	const struct far_l2_item *item =
		&job->batch->entries[idx].task->items[job->batch->entries[idx].item];
	uint32_t crc = 0;

	if (item->has_crc || job->batch->entries[idx].summed)
		return;
	/* Bytes on a device are nobody's to read here: the slot says that there is none. */
	if (job->donor->env.arena_is_device) {
		job->batch->blocks[idx].flags = FAR_SLOT_NO_CRC;
		return;
	}
	for (uint32_t p = 0; p < item->piece_count; p++)
		crc = far_crc32c(crc, item->pieces[p].addr, item->pieces[p].size_bytes);
	job->batch->blocks[idx].crc32c = crc;
}

/* While the WRITEs are on their way. */
static void
batch_crc(const struct far_donor *donor, struct donor_batch *batch)
{
	struct crc_job job = {.donor = donor, .batch = batch};
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < batch->count && !donor->env.arena_is_device; i++) {
		const struct far_l2_item *item =
			&batch->entries[i].task->items[batch->entries[i].item];

		bytes += item->has_crc || batch->entries[i].summed ? 0 : item->size_bytes;
	}
	far_helpers_run(donor->env.helpers, block_crc, &job, batch->count, bytes >= CRC_WAKE_BYTES);
}

/* The WRITEs of a batch are posted: its items belong to it from here on. */
static void
batch_posted(struct far_donor *donor, struct donor_batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
		batch->entries[i].task->items[batch->entries[i].item].rc = ITEM_WRITTEN;
	for (uint32_t i = 0; i < batch->count; i++) {
		if (i == 0 || batch->entries[i].task != batch->entries[i - 1].task)
			task_advance(donor, batch->entries[i].task);
	}
	batch->lane->fill_bytes = batch->fill_bytes;
	batch->lane->unsent++;
	far_list_push_back(&donor->batches_unsent, &batch->node);
	batch_crc(donor, batch);
}

static uint32_t
list_count(const struct far_list *list)
{
	uint32_t count = 0;

	for (const struct far_list *it = list->next; it != list; it = it->next)
		count++;
	return count;
}

/* A short batch wakes both ends as often as a long one: behind those that are on their way blocks gather. */
static bool
blocks_gather(const struct far_donor *donor)
{
	uint64_t blocks = 0, bytes = 0;

	if (list_count(&donor->batches_unsent) + list_count(&donor->batches_sent) < BATCHES_BEST)
		return false;
	for (const struct far_list *it = donor->stages[STAGE_STORE].next;
	     it != &donor->stages[STAGE_STORE]; it = it->next) {
		const struct far_l2_task *task =
			FAR_CONTAINER_OF(it, const struct far_l2_task, node);
		uint32_t next = (uint32_t)task->priv[PRIV_NEXT];

		/* About: some of them may be there already. */
		blocks += task->count - next;
		bytes += (uint64_t)(task->count - next) * task->items[next].size_bytes;
		if (blocks >= DONOR_BATCH_BLOCKS || bytes >= BATCH_BYTES_BEST)
			return false;
	}
	return true;
}

/* False: nothing more can be laid now. */
static bool
batch_make(struct far_donor *donor)
{
	struct far_list *node;
	struct donor_batch *batch;
	struct donor_lane *lane = donor->lane;
	struct donor_list list = {.ops_max = FAR_POST_OPS_MAX};
	bool lane_full;

	if (lane == NULL || far_list_empty(&donor->stages[STAGE_STORE]) || blocks_gather(donor))
		return false;
	node = far_list_pop_front(&donor->batches_free);
	if (node == NULL)
		return false;
	batch = FAR_CONTAINER_OF(node, struct donor_batch, node);
	batch->lane = lane;
	batch->serial = lane->serial;
	batch->rkey = lane->rkey;
	batch->fill_bytes = lane->fill_bytes;
	batch->count = 0;
	batch->written = false;
	batch->summed = false;
	batch->answered = false;
	batch->tag = ++donor->tag_last;
	lane_full = batch_fill(donor, batch, &list);
	if (batch->fill_bytes - lane->fill_bytes < donor->link->sums_from)
		batch_sum_not(donor, batch, &list);
	if (batch->count > 0) {
		donor->ops[list.ops - 1].token = donor_token(TOKEN_BATCH, batch->idx);
		if (far_transport_post(donor->link, donor->ops, (int)list.ops) < 0) {
			batch_free(donor, batch); /* its items wait on; SENDABLE follows */
			return false;
		}
		batch_posted(donor, batch);
	} else {
		batch_free(donor, batch);
	}
	if (lane_full)
		lane_end(donor, lane);
	return true;
}

static int
commit_send(struct far_donor *donor, struct donor_lane *lane, const struct donor_batch *batch)
{
	bool last = lane->state == LANE_ENDING && lane->unsent == (batch != NULL ? 1U : 0U);
	struct far_frame_commit commit = {
		.serial = lane->serial,
		.flags = last ? FAR_COMMIT_END : 0,
		.count = batch != NULL ? batch->count : 0,
	};
	uint64_t tag = batch != NULL ? batch->tag : ++donor->tag_last;
	int rc = far_donor_send(donor, FAR_FRAME_COMMIT, tag, &commit,
				batch != NULL ? batch->blocks : NULL, commit.count);

	if (rc == 0 && batch != NULL)
		lane->unsent--;
	if (rc == 0 && last)
		lane->state = LANE_NONE;
	return rc;
}

/* In the order of their WRITEs: offsets grow along a lane. */
static void
commits_pump(struct far_donor *donor)
{
	while (!far_list_empty(&donor->batches_unsent)) {
		struct donor_batch *batch =
			FAR_CONTAINER_OF(donor->batches_unsent.next, struct donor_batch, node);

		/* Its checksums are not there yet; those behind it are not to overtake it. */
		if (batch->summed && !batch->written)
			return;
		if (commit_send(donor, batch->lane, batch) < 0)
			return;
		batch->lane = NULL;
		far_list_remove(&batch->node);
		far_list_push_back(&donor->batches_sent, &batch->node);
	}
	for (uint32_t i = 0; i < DONOR_LANES; i++) {
		struct donor_lane *lane = &donor->lanes[i];

		if (lane->state == LANE_ENDING && commit_send(donor, lane, NULL) < 0)
			return;
	}
}

/* One lane at a time: none is open and blocks wait, or the open one is nearly full. */
static void
lane_ask(struct far_donor *donor)
{
	struct far_frame_lane_ask ask = {.lane_count = 1};
	bool needed = donor->lane == NULL && !far_list_empty(&donor->stages[STAGE_STORE]);
	bool ahead = donor->lane != NULL && donor->reserve == NULL && !donor->reserve_denied &&
		     donor->lane->fill_bytes > donor->lane->size_bytes / 4 * 3;

	if (donor->asks > 0 || donor->quiescing || !(needed || ahead) ||
	    lane_free_find(donor) == NULL)
		return;
	if (far_donor_send(donor, FAR_FRAME_LANE_ASK, ++donor->tag_last, &ask, NULL, 0) == 0)
		donor->asks++;
}

void
far_donor_store_pump(struct far_donor *donor)
{
	commits_pump(donor);
	while (batch_make(donor))
		commits_pump(donor);
	commits_pump(donor);
	lane_ask(donor);
}

void
far_donor_batch_done(struct far_donor *donor, uint32_t idx, int status)
{
	struct donor_batch *batch = &donor->batches[idx];
	bool sent = batch->lane == NULL;

	FAR_ASSERT(idx < DONOR_BATCHES);
	FAR_ASSERT(batch->count > 0);
	FAR_ASSERT(!batch->written);
	batch->written = true;
	if (!donor_is_up(donor)) {
		batch_end(donor, batch, -EHOSTDOWN);
		return;
	}
	if (status < 0 && sent) {
		/* The donor may take its COMMIT for the truth. It shall not serve what follows. */
		far_donor_link_fail(donor, -EIO, "a write failed, its commit was on the way");
		return;
	}
	if (status < 0) {
		struct donor_lane *lane = batch->lane;

		lane->unsent--;
		lane_end(donor, lane);
		batch_end(donor, batch, -EIO);
		return;
	}
	if (batch->answered)
		batch_end(donor, batch, 0);
}

int
far_donor_lane_granted(struct far_donor *donor, const struct far_frame_lane_grant *grant)
{
	struct donor_lane *lane = lane_free_find(donor);

	if (donor->asks == 0 || lane == NULL || lane_find(donor, grant->serial) != NULL)
		return -EPROTO;
	if (grant->size_bytes < FAR_EXTENT_ALIGN_BIG || grant->size_bytes > FAR_LANE_BYTES_MAX ||
	    grant->write_addr > UINT64_MAX - grant->size_bytes)
		return -EPROTO;
	donor->asks--;
	*lane = (struct donor_lane){
		.state = LANE_OPEN,
		.serial = grant->serial,
		.addr = grant->write_addr,
		.size_bytes = grant->size_bytes,
	};
	memcpy(lane->rkey.bytes, grant->write_rkey, sizeof(lane->rkey.bytes));
	if (donor->quiescing)
		lane_end(donor, lane);
	else if (donor->lane == NULL)
		donor->lane = lane;
	else
		donor->reserve = lane;
	return 0;
}

int
far_donor_lane_full(struct far_donor *donor)
{
	struct far_list *it, *tmp;

	if (donor->asks == 0)
		return -EPROTO;
	donor->asks--;
	if (donor->lane != NULL) {
		donor->reserve_denied = true;
		return 0;
	}
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &donor->stages[STAGE_STORE])
	{
		struct far_l2_task *task = FAR_CONTAINER_OF(it, struct far_l2_task, node);

		for (uint32_t i = 0; i < task->count; i++) {
			if (task->items[i].rc == ITEM_TO_STORE)
				far_donor_item_end(donor, task, i, -ENOSPC);
		}
		task_advance(donor, task);
	}
	return 0;
}

void
far_donor_lane_recalled(struct far_donor *donor, uint64_t serial)
{
	struct donor_lane *lane = lane_find(donor, serial);

	/* Unknown: our END and the recall met on the way. */
	if (lane != NULL)
		lane_end(donor, lane);
}

static struct donor_batch *
batch_find(struct far_donor *donor, uint64_t tag)
{
	for (struct far_list *it = donor->batches_sent.next; it != &donor->batches_sent;
	     it = it->next) {
		struct donor_batch *batch = FAR_CONTAINER_OF(it, struct donor_batch, node);

		if (batch->tag == tag)
			return batch;
	}
	return NULL;
}

int
far_donor_committed(struct far_donor *donor, const struct far_frame *frame)
{
	const struct far_frame_committed *body = frame->body;
	struct donor_batch *batch = batch_find(donor, frame->head.tag);

	if (batch == NULL)
		return frame->count == 0 ? 0 : -EPROTO; /* of an END without blocks */
	if (batch->answered || body->serial != batch->serial || frame->count != batch->count)
		return -EPROTO;
	memcpy(batch->results, frame->list, frame->count * sizeof(batch->results[0]));
	for (uint32_t i = 0; i < batch->count; i++) {
		if (batch->results[i] > 0 ||
		    (batch->results[i] < 0 && !far_err_listed(batch->results[i])))
			return -EPROTO;
	}
	batch->answered = true;
	if (batch->written)
		batch_end(donor, batch, 0);
	return 0;
}

static void
written_end(struct far_donor *donor, struct far_list *list)
{
	struct far_list *it, *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, list)
	{
		struct donor_batch *batch = FAR_CONTAINER_OF(it, struct donor_batch, node);

		batch->lane = NULL;
		if (batch->written)
			batch_end(donor, batch, -EHOSTDOWN);
	}
}

void
far_donor_store_lost(struct far_donor *donor)
{
	written_end(donor, &donor->batches_unsent);
	written_end(donor, &donor->batches_sent);
	memset(donor->lanes, 0, sizeof(donor->lanes));
	donor->lane = NULL;
	donor->reserve = NULL;
	donor->asks = 0;
	donor->reserve_denied = false;
}

bool
far_donor_store_idle(const struct far_donor *donor)
{
	for (uint32_t i = 0; i < DONOR_LANES; i++) {
		if (donor->lanes[i].state != LANE_NONE)
			return false;
	}
	return far_list_empty(&donor->batches_unsent) && far_list_empty(&donor->batches_sent);
}
