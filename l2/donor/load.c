/* load.c - blocks into their pieces: data READs, then slots and epoch behind a fence, one list. */
#include "l2/donor/donor_priv.h"

#include "base/checksum.h"
#include "base/mark.h"
#include "base/mutant.h"

_Static_assert(offsetof(struct far_slot, key) == 0, "a hint begins with its key");

/* The live line lies behind the slots of a list in the job's scratch. */
#define LIVE_AT ((size_t)DONOR_LOAD_BLOCKS_MAX * FAR_SLOT_BYTES)

static inline bool
is_within(const struct far_l2_piece *piece, const void *base, uint64_t size_bytes)
{
	uint64_t offset = (uint64_t)(uintptr_t)piece->addr - (uint64_t)(uintptr_t)base;

	return offset <= size_bytes && piece->size_bytes <= size_bytes - offset;
}

/* The registration that a piece lies in: the arena's, or that of memory beside it; NULL: neither. */
static inline struct far_mem *
piece_mem(const struct far_donor *donor, const struct far_l2_piece *piece)
{
	const struct far_l2_memories *memories = donor->env.memories;
	struct far_mem *arena = donor->arena;

	if (arena != NULL && is_within(piece, arena->base, arena->size_bytes))
		return arena;
	for (uint32_t i = 0; memories != NULL && i < FAR_L2_MEMORIES_MAX; i++) {
		const struct far_l2_memory *memory = &memories->items[i];

		if (memory->base != NULL && is_within(piece, memory->base, memory->size_bytes))
			return memory->mems[donor->path->tp_idx];
	}
	return NULL;
}

uint64_t
far_donor_pieces_bytes(const struct far_donor *donor, const struct far_l2_item *item)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < item->piece_count; i++) {
		if (piece_mem(donor, &item->pieces[i]) == NULL)
			return UINT64_MAX;
		bytes += item->pieces[i].size_bytes;
	}
	return bytes;
}

/* The next op of the list, without pieces yet. */
static inline struct far_op *
list_op(struct far_donor *donor, struct donor_list *list, const struct far_op *like,
	uint64_t remote_addr)
{
	struct far_op *op = &donor->ops[list->ops++];

	/* Not *like as a whole: it was stored in parts just now, and loads that span them would wait. */
	op->kind = like->kind;
	op->flags = like->flags;
	op->token = like->token;
	op->crc32c = like->crc32c;
	op->rkey = like->rkey;
	op->remote_addr = remote_addr;
	op->pieces = &donor->pieces[list->pieces];
	op->piece_count = 0;
	return op;
}

/* The pieces of an item, cut as the transport takes them. */
static bool
pieces_add(struct far_donor *donor, struct donor_list *list, const struct far_l2_item *item,
	   const struct far_op *like, uint64_t bytes_max)
{
	const struct donor_list before = *list;
	uint64_t bytes = 0; /* of the last op */
	uint64_t remote_addr = like->remote_addr;
	struct far_mem *mem_before = NULL;
	struct far_op *op = NULL;

	for (uint32_t p = 0; p < item->piece_count; p++) {
		struct far_mem *mem = piece_mem(donor, &item->pieces[p]);
		uint8_t *addr = item->pieces[p].addr;
		uint32_t left = item->pieces[p].size_bytes;

		FAR_ASSERT(mem != NULL); /* its length was asked for before */
		while (left > 0) {
			uint32_t step;

			/* An op names one registration: a device's memory goes another way. */
			if (op == NULL || op->piece_count == FAR_PIECES_MAX || bytes == bytes_max ||
			    mem != mem_before) {
				if (list->ops == list->ops_max)
					goto full;
				op = list_op(donor, list, like, remote_addr);
				bytes = 0;
				mem_before = mem;
			}
			if (list->pieces == DONOR_PIECES_MAX)
				goto full;
			step = left < bytes_max - bytes ? left : (uint32_t)(bytes_max - bytes);
			donor->pieces[list->pieces++] =
				(struct far_piece){.addr = addr, .size_bytes = step, .mem = mem};
			op->piece_count++;
			addr += step;
			left -= step;
			bytes += step;
			remote_addr += step;
		}
	}
	return true;

full:
	*list = before;
	return false;
}

bool
far_donor_list_add(struct far_donor *donor, struct donor_list *list, const struct far_l2_item *item,
		   const struct far_op *like)
{
	uint64_t bytes_max = donor->tp->caps.op_bytes_max;
	struct far_op *op;

	if (bytes_max == 0)
		bytes_max = UINT64_MAX;
	if (item->piece_count != 1 || item->pieces[0].size_bytes > bytes_max)
		return pieces_add(donor, list, item, like, bytes_max);
	if (list->ops == list->ops_max || list->pieces == DONOR_PIECES_MAX)
		return false;
	op = list_op(donor, list, like, like->remote_addr);
	op->piece_count = 1;
	donor->pieces[list->pieces++] = (struct far_piece){
		.addr = item->pieces[0].addr,
		.size_bytes = item->pieces[0].size_bytes,
		.mem = piece_mem(donor, &item->pieces[0]),
	};
	return true;
}

int
far_donor_load_check(const struct far_donor *donor, const struct far_l2_item *item,
		     bool *look_up_out)
{
	const struct far_index_header *header = &donor->header;
	uint64_t at = item->hint[HINT_AT];

	*look_up_out = item->hint[HINT_EPOCH] == 0;
	if (*look_up_out)
		return 0;
	/* A hint is ours, but it may be an old epoch's or another donor's. Its slot was checked when it was
	 * found; what else it might be is found out when it is compared, behind the data. */
	if (item->hint[HINT_EPOCH] != donor->epoch ||
	    memcmp(&item->hint[HINT_SLOT], item->key.bytes, sizeof(item->key.bytes)) != 0)
		return -ESTALE;
	if (at < header->sets_at || at % FAR_SLOT_BYTES != 0 ||
	    (at - header->sets_at) / DONOR_SET_BYTES >= header->set_count)
		return -ESTALE;
	return 0;
}

static void
entry_end(struct far_donor *donor, struct donor_job *job, uint32_t entry, int rc)
{
	uint32_t item = job->entries[entry].item;

	job->count--;
	memmove(&job->entries[entry], &job->entries[entry + 1],
		(job->count - entry) * sizeof(job->entries[0]));
	far_donor_item_end(donor, job->task, item, rc);
}

/* The slot names something else now, or nothing: look it up, if that was not done too often. */
static bool
entry_stale(struct far_donor *donor, struct donor_entry *entry)
{
	FAR_MARK("the slot changed between the data and the second look");
	donor->status.stale_rejects++;
	entry->follows++;
	entry->look_up = true;
	entry->table_tried = false;
	return entry->follows <= DONOR_FOLLOWS_MAX;
}

enum place_result {
	PLACE_GOOD,
	PLACE_BAD,     /* the item ends with rc */
	PLACE_UNKNOWN, /* no such segment */
};

/* Where an item's bytes are, wholly checked: the index may be hostile. */
static enum place_result
place_find(struct far_donor *donor, struct far_l2_item *item, uint64_t bytes, struct far_op *like,
	   int *rc_out)
{
	const struct donor_segment *segment;
	struct far_slot slot;
	uint64_t offset;

	donor_hint_slot(item, &slot);
	if ((item->size_bytes != 0 && item->size_bytes != slot.size_bytes) ||
	    item->range_offset + bytes > slot.size_bytes) {
		item->size_bytes = slot.size_bytes;
		donor->status.length_misses++;
		*rc_out = -EMSGSIZE;
		return PLACE_BAD;
	}
	segment = far_donor_segment_find(donor, slot.segment);
	if (segment == NULL)
		return PLACE_UNKNOWN;
	offset = (uint64_t)slot.offset_64 * FAR_EXTENT_ALIGN;
	if (offset > segment->size_bytes || slot.size_bytes > segment->size_bytes - offset) {
		*rc_out = -EBADMSG;
		return PLACE_BAD;
	}
	*like = (struct far_op){
		.kind = FAR_OP_READ,
		.remote_addr = segment->addr + offset + item->range_offset,
		.rkey = segment->rkey,
	};
	return PLACE_GOOD;
}

/* The slots of the active entries and the live line, behind one fence: what is behind a fenced op
 * starts no earlier than it. */
static void
validation_add(struct far_donor *donor, struct donor_job *job, struct donor_list *list)
{
	for (uint32_t i = 0; i <= job->active; i++) {
		const struct far_l2_item *item = &job->task->items[job->entries[i].item];
		bool live = i == job->active;
		struct far_piece *piece = &donor->pieces[list->pieces++];
		struct far_op *op = &donor->ops[list->ops++];

		*piece = (struct far_piece){
			.addr = job->scratch + (live ? LIVE_AT : (size_t)i * FAR_SLOT_BYTES),
			.size_bytes = FAR_SLOT_BYTES,
			.mem = donor->scratch_mem,
		};
		*op = (struct far_op){
			.kind = FAR_OP_READ,
			.flags = i == 0 && !FAR_MUTANT(VALIDATION_UNFENCED) ? FAR_OP_FENCE : 0,
			.remote_addr = donor->index_addr +
				       (live ? donor->header.live_at : item->hint[HINT_AT]),
			.rkey = donor->index_rkey,
			.pieces = piece,
			.piece_count = 1,
		};
	}
}

/* Whether the bytes of a block are to be compared with the checksum in its slot. */
static bool
is_verified(const struct far_donor *donor, const struct far_slot *slot, uint64_t bytes)
{
	/* A range cannot be checked against the CRC of the whole. */
	return donor->env.verify_always && (slot->flags & FAR_SLOT_NO_CRC) == 0 &&
	       bytes == slot->size_bytes;
}

/* The block that was just added to the list, as number job->active: who copies it sums it, if somebody does and
 * it is one op. */
static void
sum_ask(struct far_donor *donor, struct donor_job *job, const struct donor_list *list,
	uint32_t ops_before)
{
	const struct donor_entry *entry = &job->entries[job->active];
	struct far_slot slot;

	job->sums[job->active].told = false;
	if (!donor->env.verify_always || !donor->link->sums_reads || list->ops != ops_before + 1)
		return;
	donor_hint_slot(&job->task->items[entry->item], &slot);
	if (!is_verified(donor, &slot, entry->bytes))
		return;
	donor->ops[ops_before].crc32c = &job->sums[job->active].crc32c;
	job->sums[job->active].told = true;
}

/* Adds the data of as many entries as one list takes, from the first. False: the job went another way
 * (waits for the table, or looks up again). */
static bool
data_add(struct far_donor *donor, struct donor_job *job, struct donor_list *list)
{
	uint32_t max = job->alone ? 1 : DONOR_LOAD_BLOCKS_MAX;

	job->active = 0;
	while (job->active < job->count && job->active < max) {
		struct donor_entry *entry = &job->entries[job->active];
		uint32_t ops_before = list->ops;
		struct far_op like;
		int rc = 0;

		switch (place_find(donor, &job->task->items[entry->item], entry->bytes, &like,
				   &rc)) {
		case PLACE_BAD:
			entry_end(donor, job, job->active, rc);
			continue;
		case PLACE_UNKNOWN:
			if (!entry->table_tried) {
				entry->table_tried = true;
				far_donor_job_want_table(donor, job);
				return false;
			}
			if (!entry_stale(donor, entry)) {
				entry_end(donor, job, job->active, -ESTALE);
				continue;
			}
			far_donor_job_run(donor, job);
			return false;
		case PLACE_GOOD:
			break;
		}
		if (far_donor_list_add(donor, list, &job->task->items[entry->item], &like)) {
			job->rkeys[job->active] = like.rkey;
			sum_ask(donor, job, list, ops_before);
			job->active++;
			continue;
		}
		if (job->active > 0)
			break;
		entry_end(donor, job, 0, -E2BIG); /* more pieces than a list holds */
	}
	return true;
}

void
far_donor_load_post(struct far_donor *donor, struct donor_job *job)
{
	struct donor_list list = {.ops_max = FAR_POST_OPS_MAX - DONOR_LOAD_BLOCKS_MAX - 1};

	job->phase = PHASE_LOAD;
	if (!data_add(donor, job, &list))
		return;
	if (job->active == 0) {
		far_donor_job_run(donor, job); /* nothing is left of it */
		return;
	}
	validation_add(donor, job, &list);
	far_donor_job_post(donor, job, list.ops);
}

static uint32_t
pieces_crc(const struct far_l2_item *item)
{
	uint32_t crc = 0;

	for (uint32_t i = 0; i < item->piece_count; i++)
		crc = far_crc32c(crc, item->pieces[i].addr, item->pieces[i].size_bytes);
	return crc;
}

static bool
crc_is_good(const struct far_donor *donor, const struct donor_job *job, uint32_t number,
	    const struct donor_entry *entry, const struct far_slot *slot)
{
	uint32_t crc;

	if (!is_verified(donor, slot, entry->bytes))
		return true;
	FAR_ASSERT(!donor->env.arena_is_device);
	crc = job->sums[number].told ? job->sums[number].crc32c
				     : pieces_crc(&job->task->items[entry->item]);
	return crc == slot->crc32c;
}

/* The slot is the very one that led here: these are the block's bytes. */
static int
block_accept(struct far_donor *donor, const struct donor_job *job, uint32_t number,
	     const struct donor_entry *entry, const struct far_slot *slot)
{
	if (!crc_is_good(donor, job, number, entry, slot)) {
		donor->status.crc_rejects++;
		far_donor_reject(donor, slot);
		return -EBADMSG;
	}
	donor->status.loads++;
	donor->status.load_bytes += entry->bytes;
	far_donor_touch(donor, &job->task->items[entry->item].key);
	return 0;
}

/* One block's validating READ, number @number of the list. 0 or negative: the item ends so. 1: it is loaded again. */
static int
block_judge(struct far_donor *donor, struct donor_job *job, uint32_t number,
	    struct donor_entry *entry)
{
	const uint8_t *bytes = job->scratch + (size_t)number * FAR_SLOT_BYTES;
	struct far_l2_item *item = &job->task->items[entry->item];
	struct far_slot was, is;

	/* @bytes are our copy: nobody writes them any more. */
	memcpy(&is, bytes, sizeof(is));
	if (memcmp(&item->hint[HINT_SLOT], bytes,
		   FAR_MUTANT(SLOT_COMPARED_BY_KEY) ? sizeof(is.key) : sizeof(is)) == 0)
		return block_accept(donor, job, number, entry, &is);
	donor_hint_slot(item, &was);
	if (!entry_stale(donor, entry))
		return -ESTALE;
	if (far_slot_check(&is, donor->epoch) != FAR_SLOT_VALID ||
	    memcmp(is.key, item->key.bytes, sizeof(is.key)) != 0)
		return 1;
	/* The same key, elsewhere: eviction moved a hot block. */
	if (is.size_bytes != was.size_bytes) {
		item->size_bytes = is.size_bytes;
		donor->status.length_misses++;
		return -EMSGSIZE;
	}
	donor_hint_set(item, &is, item->hint[HINT_AT], donor->epoch);
	entry->look_up = false;
	donor->status.moved_followed++;
	FAR_MARK("a moved block is followed out of the second look");
	return 1;
}

/* The list failed and the link did not: the blocks go on one by one, so that one bad block costs
 * no other; alone and failing, it is looked up again. */
static void
list_failed(struct far_donor *donor, struct donor_job *job, int status)
{
	FAR_MARK("a list failed and its blocks go on one by one");
	if (job->alone && !entry_stale(donor, &job->entries[0]))
		entry_end(donor, job, 0, status == -ESTALE || status == -EACCES ? -ESTALE : -EIO);
	job->alone = true;
	far_donor_job_run(donor, job);
}

/* The data is here; only what proves it is read again. */
static void
validate_again(struct far_donor *donor, struct donor_job *job)
{
	struct donor_list list = {.ops_max = FAR_POST_OPS_MAX};

	job->phase = PHASE_VALIDATE;
	validation_add(donor, job, &list);
	far_donor_job_post(donor, job, list.ops);
}

void
far_donor_load_done(struct far_donor *donor, struct donor_job *job, int status)
{
	struct far_index_live live;
	uint32_t kept = 0;

	if (status < 0) {
		list_failed(donor, job, status);
		return;
	}
	memcpy(&live, job->scratch + LIVE_AT, sizeof(live));
	if (far_index_live_check(&live) < 0) {
		FAR_MARK("the line with the epoch was torn");
		donor->status.torn_rereads++;
		if (job->live_rereads++ < DONOR_REREADS_MAX && donor_is_up(donor))
			validate_again(donor, job);
		else
			list_failed(donor, job, -ESTALE);
		return;
	}
	if (live.epoch != donor->epoch) {
		FAR_MARK("the epoch changed amid a load");
		far_donor_link_fail(donor, -ESTALE, "its epoch moved on");
		far_donor_job_run(donor, job);
		return;
	}
	far_donor_live_take(donor, &live);
	for (uint32_t i = 0; i < job->count; i++) {
		struct donor_entry entry = job->entries[i];
		int rc = 1;

		if (i < job->active)
			rc = block_judge(donor, job, i, &entry);
		if (rc > 0)
			job->entries[kept++] = entry;
		else
			far_donor_item_end(donor, job->task, entry.item, rc);
	}
	job->count = kept;
	far_donor_job_run(donor, job);
}
