/* recorder.c - a ring that many threads write without waiting, and counters that they do not share. */
#include "base/recorder.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/err.h"

#define EVENTS_CAPACITY_MIN 64U
#define EVENTS_CAPACITY_MAX (1U << 20)
#define LINE_BYTES          64
#define WORDS               (sizeof(struct far_record) / sizeof(uint64_t))
/* Threads share a stripe of counters only where there are more of them. */
#define STRIPES 16U

/*
 * A slot's turn tells what is in it: 0 nothing, 2s + 1 event s is being written, 2s + 2 event s is there.
 * A writer that finds another one still at work in its slot, a whole ring behind, gives way: it leaves
 * its number in `skipped`, so that no reader waits for it. The words are atomic because a reader may copy
 * them while they are overwritten; it looks at the turn again and drops what it has.
 */
struct event_slot {
	_Alignas(LINE_BYTES) _Atomic uint64_t turn;
	_Atomic uint64_t skipped; /* s + 1 */
	_Atomic uint64_t words[WORDS];
};
_Static_assert(sizeof(struct event_slot) == LINE_BYTES, "an event costs one line of the cache");

struct event_counter {
	_Atomic uint64_t events;
	_Atomic uint64_t keys;
	_Atomic uint64_t bytes;
};

struct event_stripe {
	_Alignas(LINE_BYTES) struct event_counter kinds[FAR_RECORD_KINDS];
};

/* One line: whoever records needs all of it. */
struct far_recorder {
	_Alignas(LINE_BYTES) _Atomic uint64_t next; /* the number of the next event */
	struct far_clock *clock;
	uint64_t mask;
	struct event_slot *slots;
	struct event_stripe *stripes;
};

struct event_line {
	const char *name;
	const char *text;
	const char *keys;
	const char *bytes;
	const char *why;
};

static const struct event_line lines[FAR_RECORD_KINDS] = {
#define X(code, name, text, keys, bytes, why) [FAR_RECORD_##code] = {name, text, keys, bytes, why},
#include "base/event.def"
#undef X
};

int
far_recorder_open(uint32_t capacity, struct far_clock *clock, struct far_recorder **out)
{
	struct far_recorder *recorder;

	FAR_ASSERT(clock != NULL);
	if (capacity < EVENTS_CAPACITY_MIN || capacity > EVENTS_CAPACITY_MAX ||
	    (capacity & (capacity - 1)) != 0)
		return -EINVAL;
	recorder = far_zalloc_aligned(LINE_BYTES, sizeof(*recorder));
	if (recorder == NULL)
		return -ENOMEM;
	recorder->clock = clock;
	recorder->mask = capacity - 1;
	recorder->slots = far_zalloc_aligned(LINE_BYTES, capacity * sizeof(*recorder->slots));
	recorder->stripes = far_zalloc_aligned(LINE_BYTES, STRIPES * sizeof(*recorder->stripes));
	if (recorder->slots == NULL || recorder->stripes == NULL) {
		far_recorder_close(recorder);
		return -ENOMEM;
	}
	*out = recorder;
	return 0;
}

void
far_recorder_close(struct far_recorder *recorder)
{
	if (recorder == NULL)
		return;
	far_free(recorder->stripes);
	far_free(recorder->slots);
	far_free(recorder);
}

/* ---- recording ---- */

/* Threads take stripes in turn, each one for its life. */
static struct event_stripe *
stripe_mine(struct far_recorder *recorder)
{
	static _Atomic uint32_t threads;
	static _Thread_local uint32_t mine; /* number + 1; 0: none yet */

	if (mine == 0)
		mine = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % STRIPES;
	return &recorder->stripes[mine - 1];
}

void
far_recorder_count(struct far_recorder *recorder, enum far_record_kind kind, uint64_t keys,
		   uint64_t bytes)
{
	struct event_counter *counter;

	if (recorder == NULL)
		return;
	FAR_ASSERT((uint32_t)kind < FAR_RECORD_KINDS);
	counter = &stripe_mine(recorder)->kinds[kind];
	atomic_fetch_add_explicit(&counter->events, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&counter->keys, keys, memory_order_relaxed);
	if (bytes != 0)
		atomic_fetch_add_explicit(&counter->bytes, bytes, memory_order_relaxed);
}

/* False: the slot is somebody else's still, or a later event's already. */
static bool
slot_claim(struct event_slot *slot, uint64_t number)
{
	uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_relaxed);

	if ((turn & 1) != 0 || turn > 2 * number)
		return false;
	return atomic_compare_exchange_strong_explicit(&slot->turn, &turn, 2 * number + 1,
						       memory_order_acquire, memory_order_relaxed);
}

/* Pairs with slot_read(). It only grows: a writer that comes late with an older number would hide a
 * later one's, and the reader would wait for that until the ring has gone round. */
static void
slot_skip(struct event_slot *slot, uint64_t number)
{
	uint64_t skipped = atomic_load_explicit(&slot->skipped, memory_order_relaxed);

	while (skipped <= number &&
	       !atomic_compare_exchange_weak_explicit(&slot->skipped, &skipped, number + 1,
						      memory_order_release, memory_order_relaxed))
		continue;
}

void
far_recorder_add(struct far_recorder *recorder, const struct far_record *event)
{
	uint64_t words[WORDS];
	struct event_slot *slot;
	uint64_t number;

	if (recorder == NULL)
		return;
	far_recorder_count(recorder, (enum far_record_kind)event->kind, event->keys, event->bytes);
	memcpy(words, event, sizeof(words));
	_Static_assert(offsetof(struct far_record, at_ns) == 0, "words[0] is the time");
	if (words[0] == 0)
		words[0] = far_clock_now(recorder->clock);
	number = atomic_fetch_add_explicit(&recorder->next, 1, memory_order_relaxed);
	slot = &recorder->slots[number & recorder->mask];
	if (!slot_claim(slot, number)) {
		slot_skip(slot, number);
		return;
	}
	/* Pairs with the second look of slot_read(): who sees a word of ours sees our turn. */
	atomic_thread_fence(memory_order_release);
	for (size_t i = 0; i < WORDS; i++)
		atomic_store_explicit(&slot->words[i], words[i], memory_order_relaxed);
	/* Pairs with the first look of slot_read(). */
	atomic_store_explicit(&slot->turn, 2 * number + 2, memory_order_release);
}

/* ---- reading ---- */

/* 1: copied; 0: not there yet; -1: gone, or never written. */
static int
slot_read(const struct event_slot *slot, uint64_t number, struct far_record *out)
{
	uint64_t words[WORDS];
	uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_acquire);

	if (turn > 2 * number + 2)
		return -1;
	if (turn != 2 * number + 2)
		return atomic_load_explicit(&slot->skipped, memory_order_acquire) > number ? -1 : 0;
	for (size_t i = 0; i < WORDS; i++)
		words[i] = atomic_load_explicit(&slot->words[i], memory_order_relaxed);
	/* Pairs with the release fence of far_recorder_add(). */
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&slot->turn, memory_order_relaxed) != turn)
		return -1;
	memcpy(out, words, sizeof(words));
	return 1;
}

size_t
far_recorder_read(const struct far_recorder *recorder, uint64_t *cursor, struct far_record *out,
		  size_t max, uint64_t *lost_out)
{
	uint64_t end = atomic_load_explicit(&recorder->next, memory_order_relaxed);
	uint64_t number = *cursor < end ? *cursor : end;
	uint64_t lost = 0;
	size_t count = 0;

	if (end - number > recorder->mask + 1) {
		lost = end - number - (recorder->mask + 1);
		number += lost;
	}
	for (; count < max && number < end; number++) {
		int got = slot_read(&recorder->slots[number & recorder->mask], number, &out[count]);

		if (got == 0)
			break;
		if (got < 0)
			lost++;
		else
			count++;
	}
	*cursor = number;
	*lost_out = lost;
	return count;
}

void
far_recorder_counts_get(const struct far_recorder *recorder, enum far_record_kind kind,
			struct far_record_counts *out)
{
	FAR_ASSERT((uint32_t)kind < FAR_RECORD_KINDS);
	*out = (struct far_record_counts){0};
	for (uint32_t i = 0; i < STRIPES; i++) {
		const struct event_counter *counter = &recorder->stripes[i].kinds[kind];

		out->events += atomic_load_explicit(&counter->events, memory_order_relaxed);
		out->keys += atomic_load_explicit(&counter->keys, memory_order_relaxed);
		out->bytes += atomic_load_explicit(&counter->bytes, memory_order_relaxed);
	}
}

/* ---- one batch, several ways ---- */

static bool
way_is(const struct far_record *row, const struct far_record *like)
{
	return row->kind == like->kind && row->why == like->why && row->adapter == like->adapter;
}

void
far_record_tally_add(struct far_record_tally *tally, struct far_recorder *recorder,
		     const struct far_record *like, uint64_t bytes)
{
	uint32_t at = 0;

	if (recorder == NULL)
		return;
	while (at < tally->count && !way_is(&tally->rows[at], like))
		at++;
	if (at == FAR_RECORD_TALLY_ROWS) {
		far_record_tally_flush(tally, recorder);
		at = 0;
	}
	if (at == tally->count) {
		tally->rows[at] = *like;
		tally->rows[at].keys = 0;
		tally->rows[at].bytes = 0;
		tally->count++;
	}
	tally->rows[at].keys++;
	tally->rows[at].bytes += bytes;
}

void
far_record_tally_flush(struct far_record_tally *tally, struct far_recorder *recorder)
{
	for (uint32_t i = 0; i < tally->count; i++)
		far_recorder_add(recorder, &tally->rows[i]);
	tally->count = 0;
}

/* ---- for people ---- */

const char *
far_record_name(enum far_record_kind kind)
{
	return (uint32_t)kind < FAR_RECORD_KINDS ? lines[kind].name : "unknown";
}

const char *
far_record_text(enum far_record_kind kind)
{
	return (uint32_t)kind < FAR_RECORD_KINDS ? lines[kind].text : "no such event";
}

void
far_recorder_document(FILE *out)
{
	fprintf(out, "| event | what happened | keys | bytes | why |\n");
	fprintf(out, "| --- | --- | --- | --- | --- |\n");
	for (size_t i = 0; i < FAR_RECORD_KINDS; i++)
		fprintf(out, "| `%s` | %s | %s | %s | %s |\n", lines[i].name, lines[i].text,
			lines[i].keys, lines[i].bytes, lines[i].why);
}
