/* events.h - a flight recorder: typed events of batches in a ring, and exact counters of each kind. */
#ifndef FAR_BASE_EVENTS_H
#define FAR_BASE_EVENTS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/clock.h"

/*
 * Whoever has done something to a batch records one event: what, when, to how many keys and bytes, and
 * why. The recorder keeps the latest ones, overwriting the oldest, and counts all of them. It never
 * blocks, allocates or fails; tests/bench/events.c says what it costs.
 */
enum far_event_kind {
#define X(code, name, text, keys, bytes, why) FAR_EVENT_##code,
#include "base/event.def"
#undef X
	FAR_EVENT_KINDS,
};

/* No adapter. */
#define FAR_EVENT_NO_ADAPTER (-1)

struct far_event {
	uint64_t at_ns; /* of the recorder's clock; 0: the recorder looks at it */
	uint64_t
		request_id; /* of a prefetch request or of a task, of those that have one; 0: none */
	uint64_t bytes;
	uint64_t took_ns; /* since what this ends began; 0: not known, or it ends nothing */
	uint32_t keys;
	uint32_t session; /* of l1; 0: none */
	uint16_t kind;    /* enum far_event_kind */
	int16_t why;      /* 0, a negative errno, or what base/event.def says */
	int16_t adapter;  /* its position in the set, or FAR_EVENT_NO_ADAPTER */
	uint16_t unused;
};
_Static_assert(sizeof(struct far_event) == 48, "an event and its ring's words are one cache line");

struct far_events;

/**
 * far_events_open - a recorder.
 *
 * @capacity: events that it keeps: a power of two, 64..2^20; each is 64 bytes.
 * @clock:    borrowed, outlives it; read only for events that come without a time.
 *
 * Returns: 0, -EINVAL, -ENOMEM.
 */
int far_events_open(uint32_t capacity, struct far_clock *clock, struct far_events **out);
/* Nobody records or reads any more. Takes NULL. */
void far_events_close(struct far_events *events);

/* A NULL recorder: nothing happens. Thread: any. */
void far_events_record(struct far_events *events, const struct far_event *event);

/**
 * far_events_read - copies what was recorded since, in the order of its recording.
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
size_t far_events_read(const struct far_events *events, uint64_t *cursor, struct far_event *out,
		       size_t max, uint64_t *lost_out);

/* Since open; exact, also of events that the ring has lost. */
struct far_event_counts {
	uint64_t events;
	uint64_t keys;
	uint64_t bytes;
};

/* The three of one event may be seen one after the other. Thread: any. */
void far_events_counts_get(const struct far_events *events, enum far_event_kind kind,
			   struct far_event_counts *out);

/* "store.done", and one sentence. Never NULL. Thread: any. */
const char *far_event_name(enum far_event_kind kind);
const char *far_event_text(enum far_event_kind kind);
/* The table as Markdown: docs/events.md. Thread: any. */
void far_events_document(FILE *out);

/*
 * Keys of one batch that went different ways: one event per way, recorded by the flush. Ways are told
 * apart by kind, adapter and why; more than there are rows for are recorded early, never lost.
 */
#define FAR_EVENT_TALLY_ROWS 6

struct far_event_tally { /* zeroed: empty */
	struct far_event rows[FAR_EVENT_TALLY_ROWS];
	uint32_t count;
};

/* One more key of @bytes to @like's way; its time, session, request and duration are those of the row's
 * first. Thread: the tally's. */
void far_event_tally_add(struct far_event_tally *tally, struct far_events *events,
			 const struct far_event *like, uint64_t bytes);
/* Empties it. */
void far_event_tally_flush(struct far_event_tally *tally, struct far_events *events);

#endif
