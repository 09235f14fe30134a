/* recorder.h - a flight recorder: typed events of batches in a ring, and exact counters of each kind. */
#ifndef FAR_BASE_RECORDER_H
#define FAR_BASE_RECORDER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/clock.h"

/*
 * Whoever has done something to a batch records one event: what, when, to how many keys and bytes, and
 * why. The recorder keeps the latest ones, overwriting the oldest, and counts all of them. It never
 * blocks, allocates or fails; tests/bench/recorder.c says what it costs.
 */
enum far_record_kind {
#define X(code, name, text, keys, bytes, why) FAR_RECORD_##code,
#include "base/event.def"
#undef X
	FAR_RECORD_KINDS,
};

/* No adapter. */
#define FAR_RECORD_NO_ADAPTER (-1)

struct far_record {
	uint64_t at_ns; /* of the recorder's clock; 0: the recorder looks at it */
	uint64_t
		request_id; /* of a prefetch request or of a task, of those that have one; 0: none */
	uint64_t bytes;
	uint64_t took_ns; /* since what this ends began; 0: not known, or it ends nothing */
	uint32_t keys;
	uint32_t session; /* of l1; 0: none */
	uint16_t kind;    /* enum far_record_kind */
	int16_t why;      /* 0, a negative errno, or what base/event.def says */
	int16_t adapter;  /* its position in the set, or FAR_RECORD_NO_ADAPTER */
	uint16_t unused;
};
_Static_assert(sizeof(struct far_record) == 48, "an event and its ring's words are one cache line");

struct far_recorder;

/**
 * far_recorder_open - a recorder.
 *
 * @capacity: events that it keeps: a power of two, 64..2^20; each is 64 bytes.
 * @clock:    borrowed, outlives it; read only for events that come without a time.
 *
 * Returns: 0, -EINVAL, -ENOMEM.
 */
int far_recorder_open(uint32_t capacity, struct far_clock *clock, struct far_recorder **out);
/* Nobody records or reads any more. Takes NULL. */
void far_recorder_close(struct far_recorder *recorder);

/* A NULL recorder: nothing happens. Thread: any. */
void far_recorder_add(struct far_recorder *recorder, const struct far_record *event);
/* Counts an event of this kind without recording it: for what happens all the time. As above. */
void far_recorder_count(struct far_recorder *recorder, enum far_record_kind kind, uint64_t keys,
			uint64_t bytes);

/**
 * far_recorder_read - copies what was recorded since, in the order of its recording.
 *
 * @cursor:   in and out: where to go on; 0 begins with the oldest. Its difference is what was gone past.
 * @out:      up to @max events. Times of different threads may be out of order by the time that one of
 *            them needs between looking at the clock and recording.
 * @lost_out: how many were gone past without being copied: overwritten before they were read.
 *
 * An event that is being written just now ends the list; the next call has it.
 *
 * Thread:  any, each with its own cursor.
 * Returns: how many were copied.
 */
size_t far_recorder_read(const struct far_recorder *recorder, uint64_t *cursor,
			 struct far_record *out, size_t max, uint64_t *lost_out);

/* Since open; exact, also of events that the ring has lost. */
struct far_record_counts {
	uint64_t events;
	uint64_t keys;
	uint64_t bytes;
};

/* The three of one event may be seen one after the other. Thread: any. */
void far_recorder_counts_get(const struct far_recorder *recorder, enum far_record_kind kind,
			     struct far_record_counts *out);

/* "store.done", and one sentence. Never NULL. Thread: any. */
const char *far_record_name(enum far_record_kind kind);
const char *far_record_text(enum far_record_kind kind);
/* The table as Markdown: docs/events.md. Thread: any. */
void far_recorder_document(FILE *out);

/*
 * Keys of one batch that went different ways: one event per way, recorded by the flush. Ways are told
 * apart by kind, adapter and why; more than there are rows for are recorded early, never lost.
 */
#define FAR_RECORD_TALLY_ROWS 6

struct far_record_tally { /* zeroed: empty */
	struct far_record rows[FAR_RECORD_TALLY_ROWS];
	uint32_t count;
};

/* One more key of @bytes to @like's way; its time, session, request and duration are those of the row's
 * first. Thread: the tally's. */
void far_record_tally_add(struct far_record_tally *tally, struct far_recorder *recorder,
			  const struct far_record *like, uint64_t bytes);
/* Empties it. */
void far_record_tally_flush(struct far_record_tally *tally, struct far_recorder *recorder);

#endif
