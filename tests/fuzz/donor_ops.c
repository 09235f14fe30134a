/* donor_ops.c - the client's operations: each ends once, and claims nothing that was not so. */
#include "tests/fuzz/donor_world.h"

#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "base/checksum.h"
#include "base/log.h"
#include "l2/l2.h"
#include "tests/fuzz/input.h"
#include "transport/loop/loop.h"
#include "wire/frame.h"

/* ---- what the index says ---- */

struct far_key
hostile_key_of(uint32_t id)
{
	uint64_t words[2] = {far_mix64(id), far_mix64(id + 1000)};
	struct far_key key;

	memcpy(key.bytes, words, sizeof(key.bytes));
	return key;
}

static void
slot_see(struct op *op, uint32_t item, const struct far_slot *slot)
{
	for (uint32_t i = 0; i < op->seen_count[item]; i++) {
		if (memcmp(&op->seen[item][i], slot, sizeof(*slot)) == 0)
			return;
	}
	/* The oldest makes room: what is accepted was there at the end, or shortly before. */
	if (op->seen_count[item] == SEEN_MAX) {
		memmove(op->seen[item], op->seen[item] + 1,
			sizeof(op->seen[item][0]) * (SEEN_MAX - 1));
		op->seen_count[item]--;
	}
	op->seen[item][op->seen_count[item]++] = *slot;
}

static bool
is_asked_for(const struct far_slot *slot)
{
	for (uint32_t id = 0; id < KEYS; id++) {
		struct far_key key = hostile_key_of(id);

		if (memcmp(slot->key, key.bytes, sizeof(key.bytes)) == 0)
			return true;
	}
	return false;
}

/* Notes every valid slot of a key that a live operation asks for, wherever in the memory it lies. */
void
hostile_index_look(void)
{
	struct far_l2_status status;

	far_l2_status_get(world.l2, &status);
	world.epoch_seen = status.epoch;
	for (uint64_t at = 0; at < INDEX_BYTES; at += FAR_SLOT_BYTES) {
		struct far_slot slot;

		memcpy(&slot, world.index + at, sizeof(slot));
		if (slot.size_bytes == 0 || !is_asked_for(&slot) ||
		    far_slot_check(&slot, status.epoch) != FAR_SLOT_VALID)
			continue;
		for (uint32_t o = 0; o < TASKS_MAX; o++) {
			for (uint32_t i = 0; world.ops[o].live && i < world.ops[o].task.count;
			     i++) {
				if (memcmp(slot.key, world.ops[o].items[i].key.bytes,
					   sizeof(slot.key)) == 0)
					slot_see(&world.ops[o], i, &slot);
			}
		}
	}
}

/* A welcome may have changed what is valid. */
void
hostile_epoch_look(void)
{
	struct far_l2_status status;

	far_l2_status_get(world.l2, &status);
	if (status.epoch != world.epoch_seen)
		hostile_index_look();
}

/* ---- what the client may hostile_say at the end of an operation ---- */

static uint64_t
pieces_bytes(const struct far_l2_item *item)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < item->piece_count; i++)
		bytes += item->pieces[i].size_bytes;
	return bytes;
}

/* Bytes are accepted only behind a valid slot that has room for them, and whose CRC they have. */
static bool
load_is_proved(const struct op *op, uint32_t i)
{
	const struct far_l2_item *item = &op->items[i];
	uint64_t bytes = pieces_bytes(item);
	uint32_t crc = 0;

	for (uint32_t p = 0; p < item->piece_count; p++)
		crc = far_crc32c(crc, item->pieces[p].addr, item->pieces[p].size_bytes);
	for (uint32_t s = 0; s < op->seen_count[i]; s++) {
		const struct far_slot *slot = &op->seen[i][s];
		bool crc_counts = world.verify && bytes == slot->size_bytes &&
				  (slot->flags & FAR_SLOT_NO_CRC) == 0;

		if (item->range_offset + bytes <= slot->size_bytes &&
		    (!crc_counts || crc == slot->crc32c))
			return true;
	}
	return false;
}

static bool
lookup_is_proved(const struct op *op, uint32_t i)
{
	for (uint32_t s = 0; s < op->seen_count[i]; s++) {
		if (op->seen[i][s].size_bytes == op->items[i].size_bytes)
			return true;
	}
	return false;
}

static void
task_done(struct far_l2_task *task)
{
	struct op *op = FAR_CONTAINER_OF(task, struct op, task);

	FAR_ASSERT(op->live); /* once */
	op->live = false;
	for (uint32_t i = 0; i < task->count; i++) {
		const struct far_l2_item *item = &op->items[i];

		FAR_ASSERT(item->rc <= 0);
		FAR_ASSERT(item->rc == 0 || far_err_listed(item->rc));
		if (item->rc != 0)
			continue;
		switch (task->kind) {
		case FAR_L2_LOOKUP:
			FAR_ASSERT(lookup_is_proved(op, i));
			memcpy(world.hint, item->hint, sizeof(world.hint));
			far_l2_unlock(world.l2, &item->key, 1);
			break;
		case FAR_L2_LOAD:
			FAR_ASSERT(load_is_proved(op, i));
			break;
		case FAR_L2_STORE:
			world.stored++;
			break;
		case FAR_L2_DELETE:
			world.deleted++;
			break;
		}
	}
	/* Not one more than the donor said. */
	FAR_ASSERT(world.stored <= world.zeros_committed);
	FAR_ASSERT(world.deleted <= world.zeros_deleted);
}

/* Nothing lands in the arena but in the pieces of a load that lives. */
void
hostile_landing(void *arg, const void *addr, uint64_t size_bytes)
{
	const uint8_t *at = addr;
	(void)arg;

	if (at < world.arena || at >= world.arena + ARENA_BYTES)
		return;
	for (uint32_t o = 0; o < TASKS_MAX; o++) {
		const struct op *op = &world.ops[o];

		if (!op->live || op->task.kind != FAR_L2_LOAD)
			continue;
		for (uint32_t i = 0; i < op->task.count; i++) {
			for (uint32_t p = 0; p < op->items[i].piece_count; p++) {
				const uint8_t *from = op->pieces[i][p].addr;

				if (at >= from &&
				    at + size_bytes <= from + op->pieces[i][p].size_bytes)
					return;
			}
		}
	}
	FAR_ASSERT(false);
}

static void
listing_done(struct far_l2_listing *listing)
{
	struct ask *ask = FAR_CONTAINER_OF(listing, struct ask, listing);

	FAR_ASSERT(ask->live);
	ask->live = false;
	FAR_ASSERT(listing->rc <= 0);
	FAR_ASSERT(listing->count <= listing->entries_max);
	FAR_ASSERT(listing->rc == 0 || listing->count == 0);
}

static void
stats_done(void *arg, int rc, const uint64_t *values, uint32_t count)
{
	uint64_t sum = 0;
	(void)arg;

	FAR_ASSERT(world.stats_live > 0);
	world.stats_live--;
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		sum += values[i];
	(void)*(volatile uint64_t *)&sum;
}

static void
usage_done(void *arg, int rc, const struct far_l2_usage *usage)
{
	(void)arg;
	FAR_ASSERT(world.stats_live > 0);
	world.stats_live--;
	FAR_ASSERT((rc == 0) == (usage != NULL));
	FAR_ASSERT(rc != 0 || usage->used_bytes <= usage->capacity_bytes);
}

/* ---- the client asks ---- */

void
hostile_task_submit(enum far_l2_kind kind, uint8_t first, uint8_t how)
{
	struct op *op = world.ops;
	uint32_t o = 0;

	while (o < TASKS_MAX && world.ops[o].live)
		o++;
	if (o == TASKS_MAX)
		return;
	op = &world.ops[o];
	memset(op, 0, sizeof(*op));
	op->task.kind = kind;
	op->task.items = op->items;
	op->task.count = 1 + (how & 7U) % ITEMS_MAX;
	op->task.done = task_done;
	op->task.deadline_ns =
		far_clock_now(world.clock) + (1ULL << (how >> 6) * 4) * 100 * FAR_NS_PER_US;
	for (uint32_t i = 0; i < op->task.count; i++) {
		struct far_l2_item *item = &op->items[i];
		uint32_t id = (first + i) % KEYS, size_bytes = 64U << (id % 5);
		uint32_t split = (how >> 3 & 1) != 0 ? PIECES_MAX : 1;
		uint8_t *at = world.arena + ((size_t)o * ITEMS_MAX + i) * ITEM_BYTES;

		item->key = hostile_key_of(id);
		if (kind != FAR_L2_LOAD && kind != FAR_L2_STORE)
			continue;
		if ((how >> 4 & 1) != 0 && kind == FAR_L2_LOAD)
			item->range_offset = 32;
		if ((how >> 5 & 1) != 0 && kind == FAR_L2_LOAD)
			memcpy(item->hint, world.hint, sizeof(item->hint));
		for (uint32_t p = 0; p < split; p++) {
			uint32_t part = (size_bytes - item->range_offset) / split;

			if (p == split - 1)
				part = size_bytes - item->range_offset - p * part;
			op->pieces[i][p] = (struct far_l2_piece){at, part};
			at += part;
		}
		item->pieces = op->pieces[i];
		item->piece_count = split;
	}
	op->live = true;
	hostile_index_look();
	far_l2_submit(world.l2, &op->task);
	FAR_ASSERT(op->live); /* never from inside submit */
}

void
hostile_list_submit(uint8_t how)
{
	for (uint32_t i = 0; i < ASKS_MAX; i++) {
		struct ask *ask = &world.asks[i];

		if (ask->live)
			continue;
		ask->listing.entries = ask->entries;
		ask->listing.entries_max = 1 + how % 4;
		ask->listing.deadline_ns = far_clock_now(world.clock) + 10 * FAR_NS_PER_MS;
		ask->listing.done = listing_done;
		/* The cursor is the one of its last page, or one of somebody else's. */
		if (how >> 6 == 3)
			ask->listing.cursor = input_u64(&world.in);
		ask->live = true;
		far_l2_list(world.l2, &ask->listing);
		return;
	}
}

void
hostile_stats_submit(uint8_t how)
{
	uint64_t deadline_ns = far_clock_now(world.clock) + 10 * FAR_NS_PER_MS;
	int rc;

	world.stats_live++;
	if ((how & 1) != 0)
		rc = far_l2_usage_ask(world.l2, usage_done, NULL, deadline_ns);
	else
		rc = world.l2->ops->stats_ask(world.l2, stats_done, NULL, deadline_ns);
	if (rc < 0)
		world.stats_live--;
}
