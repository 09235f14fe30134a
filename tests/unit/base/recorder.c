/* recorder.c - what is recorded is read in order, what is lost is counted, and counters miss nothing. */
#include "base/recorder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/err.h"

#define CAPACITY    64U
#define WRITERS     4
#define EVENTS_EACH 50000U

static struct far_clock_fake fake;
static struct far_recorder *recorder;
static _Atomic uint32_t clock_reads;
static _Atomic uint32_t writers_left;

static int
set_up(void **state)
{
	(void)state;
	far_clock_fake_init(&fake, 1000);
	return far_recorder_open(CAPACITY, &fake.clock, &recorder);
}

static int
tear_down(void **state)
{
	(void)state;
	far_recorder_close(recorder);
	return far_alloc_live_bytes() == 0 ? 0 : -1;
}

static void
record(enum far_record_kind kind, uint64_t number, uint32_t keys)
{
	struct far_record event = {
		.at_ns = number,
		.request_id = number,
		.bytes = 10ULL * keys,
		.keys = keys,
		.kind = (uint16_t)kind,
		.why = -EAGAIN,
		.adapter = 3,
	};

	far_recorder_add(recorder, &event);
}

static void
capacities_outside_the_bounds_are_refused(void **state)
{
	static const uint32_t bad[] = {0, 1, 63, 65, 100, (1U << 20) + 1, 1U << 21, UINT32_MAX};
	struct far_recorder *other = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(far_recorder_open(bad[i], &fake.clock, &other), -EINVAL);
	for (uint64_t nth = 1; nth <= 3; nth++) {
		far_alloc_fail_nth(nth);
		assert_int_equal(far_recorder_open(64, &fake.clock, &other), -ENOMEM);
		assert_null(other);
	}
	far_alloc_fail_nth(0);
	far_recorder_close(NULL);
}

static void
event_is_read_as_it_was_recorded_and_once(void **state)
{
	struct far_record in = {
		.at_ns = 5,
		.request_id = 6,
		.bytes = 7,
		.took_ns = 8,
		.keys = 9,
		.session = 10,
		.kind = FAR_RECORD_STORE_DONE,
		.why = -EEXIST,
		.adapter = FAR_RECORD_NO_ADAPTER,
	};
	struct far_record out[2];
	uint64_t cursor = 0;
	uint64_t lost;

	(void)state;
	far_recorder_add(recorder, &in);
	assert_int_equal(far_recorder_read(recorder, &cursor, out, 2, &lost), 1);
	assert_memory_equal(&in, &out[0], sizeof(in));
	assert_int_equal(lost, 0);
	assert_int_equal(cursor, 1);
	assert_int_equal(far_recorder_read(recorder, &cursor, out, 2, &lost), 0);
	assert_int_equal(cursor, 1);
}

static uint64_t
counting_now(struct far_clock *clock)
{
	(void)clock;
	atomic_fetch_add(&clock_reads, 1);
	return 77;
}

static void
clock_is_read_only_for_an_event_without_a_time(void **state)
{
	struct far_clock clock = {.now_ns = counting_now};
	struct far_record event = {.at_ns = 5, .kind = FAR_RECORD_STORE_DONE};
	struct far_recorder *other;
	struct far_record out[2];
	uint64_t cursor = 0;
	uint64_t lost;

	(void)state;
	assert_int_equal(far_recorder_open(64, &clock, &other), 0);
	far_recorder_add(other, &event);
	assert_int_equal(clock_reads, 0);
	event.at_ns = 0;
	far_recorder_add(other, &event);
	assert_int_equal(clock_reads, 1);
	assert_int_equal(far_recorder_read(other, &cursor, out, 2, &lost), 2);
	assert_int_equal(out[0].at_ns, 5);
	assert_int_equal(out[1].at_ns, 77);
	far_recorder_close(other);
}

static void
latest_events_are_kept_and_the_lost_ones_counted(void **state)
{
	struct far_record out[CAPACITY];
	uint64_t cursor = 0;
	uint64_t lost;

	(void)state;
	for (uint64_t i = 1; i <= CAPACITY + 10; i++)
		record(FAR_RECORD_STORE_QUEUED, i, 1);
	assert_int_equal(far_recorder_read(recorder, &cursor, out, CAPACITY, &lost), CAPACITY);
	assert_int_equal(lost, 10);
	for (uint32_t i = 0; i < CAPACITY; i++)
		assert_int_equal(out[i].request_id, 11 + i);
	/* In pieces, and no further than there is something. */
	for (uint64_t i = 1; i <= 5; i++)
		record(FAR_RECORD_STORE_QUEUED, i, 1);
	assert_int_equal(far_recorder_read(recorder, &cursor, out, 3, &lost), 3);
	assert_int_equal(far_recorder_read(recorder, &cursor, out, 3, &lost), 2);
	assert_int_equal(out[1].request_id, 5);
	assert_int_equal(lost, 0);
	/* A cursor from nowhere harms nobody. */
	cursor = UINT64_MAX;
	assert_int_equal(far_recorder_read(recorder, &cursor, out, 3, &lost), 0);
	assert_int_equal(cursor, CAPACITY + 15);
}

static void
counters_are_per_kind_and_know_what_the_ring_has_lost(void **state)
{
	struct far_record_counts counts;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		record(FAR_RECORD_STORE_QUEUED, i, 2);
		record(FAR_RECORD_STORE_FAILED, i, 3);
	}
	far_recorder_counts_get(recorder, FAR_RECORD_STORE_QUEUED, &counts);
	assert_int_equal(counts.events, 1000);
	assert_int_equal(counts.keys, 2000);
	assert_int_equal(counts.bytes, 20000);
	far_recorder_counts_get(recorder, FAR_RECORD_STORE_FAILED, &counts);
	assert_int_equal(counts.keys, 3000);
	far_recorder_counts_get(recorder, FAR_RECORD_STORE_DONE, &counts);
	assert_int_equal(counts.events, 0);
}

static void
without_a_recorder_nothing_happens(void **state)
{
	struct far_record event = {.kind = FAR_RECORD_STORE_DONE};
	struct far_record_tally tally = {.count = 0};

	(void)state;
	far_recorder_add(NULL, &event);
	far_record_tally_add(&tally, NULL, &event, 1);
	far_record_tally_flush(&tally, NULL);
	assert_int_equal(tally.count, 0);
}

static void
tally_makes_one_event_per_way_and_loses_none(void **state)
{
	struct far_record like = {.at_ns = 1, .kind = FAR_RECORD_STORE_FAILED};
	struct far_record_tally tally = {.count = 0};
	struct far_record_counts counts;

	(void)state;
	for (int i = 0; i < 300; i++) {
		like.why = (int16_t)(-1 - i % 3);
		far_record_tally_add(&tally, recorder, &like, 4);
	}
	assert_int_equal(tally.count, 3);
	far_record_tally_flush(&tally, recorder);
	assert_int_equal(tally.count, 0);
	far_recorder_counts_get(recorder, FAR_RECORD_STORE_FAILED, &counts);
	assert_int_equal(counts.events, 3);
	assert_int_equal(counts.keys, 300);
	assert_int_equal(counts.bytes, 1200);
	/* More ways than rows. */
	for (int i = 0; i < 20; i++) {
		like.adapter = (int16_t)i;
		far_record_tally_add(&tally, recorder, &like, 4);
	}
	far_record_tally_flush(&tally, recorder);
	far_recorder_counts_get(recorder, FAR_RECORD_STORE_FAILED, &counts);
	assert_int_equal(counts.events, 23);
	assert_int_equal(counts.keys, 320);
}

/* Every field follows from the number and the writer, so that a mixture of two events shows. */
static struct far_record
writer_event(uint32_t who, uint32_t number)
{
	return (struct far_record){
		.at_ns = 1 + number,
		.request_id = ((uint64_t)who << 32) + number,
		.bytes = number * 3ULL,
		.took_ns = number * 5ULL,
		.keys = number,
		.session = who,
		.kind = FAR_RECORD_STORE_SUBMITTED,
		.why = (int16_t)(number % 1000),
		.adapter = (int16_t)who,
	};
}

static void *
writer(void *arg)
{
	uint32_t who = (uint32_t)(uintptr_t)arg;

	for (uint32_t i = 0; i < EVENTS_EACH; i++) {
		struct far_record event = writer_event(who, i);

		far_recorder_add(recorder, &event);
	}
	atomic_fetch_sub(&writers_left, 1);
	return NULL;
}

static void
many_writers_and_a_reader_see_whole_events_in_order_and_count_every_one(void **state)
{
	uint32_t next[WRITERS] = {0};
	uint64_t seen = 0, lost = 0, cursor = 0;
	struct far_record_counts counts;
	pthread_t threads[WRITERS];
	bool last;

	(void)state;
	atomic_store(&writers_left, WRITERS);
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)i), 0);
	do {
		struct far_record out[16];
		uint64_t lost_now;
		size_t count;

		last = atomic_load(&writers_left) == 0;
		while ((count = far_recorder_read(recorder, &cursor, out, 16, &lost_now)) > 0 ||
		       lost_now > 0) {
			for (size_t i = 0; i < count; i++) {
				uint32_t who = out[i].session;
				struct far_record expected = writer_event(who, out[i].keys);

				assert_true(who < WRITERS);
				assert_memory_equal(&out[i], &expected, sizeof(expected));
				/* A writer's own events keep their order. */
				assert_true(out[i].keys >= next[who]);
				next[who] = out[i].keys + 1;
			}
			seen += count;
			lost += lost_now;
		}
	} while (!last);
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(seen + lost, WRITERS * EVENTS_EACH);
	assert_int_equal(cursor, WRITERS * EVENTS_EACH);
	far_recorder_counts_get(recorder, FAR_RECORD_STORE_SUBMITTED, &counts);
	assert_int_equal(counts.events, WRITERS * EVENTS_EACH);
	assert_int_equal(counts.keys, WRITERS * (uint64_t)EVENTS_EACH * (EVENTS_EACH - 1) / 2);
	assert_int_equal(counts.bytes, 3 * counts.keys);
}

/*
 * Three writers of one slot: the first sleeps in the midst of its event, the two others, a ring and two
 * rings behind, give way, and of those the earlier one comes last. No scheduler can be asked for that, so
 * the ring is brought there by hand: the slots' memory is known from its allocation, the turn is their
 * first word, and the next number is the first word of the recorder.
 */
#define SLOT_WORDS 8U

void *__real_far_zalloc_aligned(size_t align_bytes, size_t size_bytes);
void *__wrap_far_zalloc_aligned(size_t align_bytes, size_t size_bytes);

static _Atomic uint64_t *slots;

void *
__wrap_far_zalloc_aligned(size_t align_bytes, size_t size_bytes)
{
	void *mem = __real_far_zalloc_aligned(align_bytes, size_bytes);

	if (size_bytes == sizeof(uint64_t) * CAPACITY * SLOT_WORDS)
		slots = mem;
	return mem;
}

static void
writer_that_gives_way_late_does_not_stop_the_reader(void **state)
{
	_Atomic uint64_t *next = (void *)recorder;
	struct far_record out[CAPACITY];
	uint64_t cursor = 2 * CAPACITY - 2;
	uint64_t lost;

	(void)state;
	assert_non_null(slots);
	atomic_store(&slots[0], 1); /* event 0 is being written, for a long time */
	atomic_store(next, 2 * CAPACITY - 2);
	for (uint64_t i = 0; i < 4; i++)
		record(FAR_RECORD_STORE_QUEUED, 1 + i, 1); /* 128 is for slot 0: it gives way */
	atomic_store(next, CAPACITY);
	record(FAR_RECORD_STORE_QUEUED, 99, 1); /* 64, which was drawn before, gives way after it */
	atomic_store(next, 2 * CAPACITY + 2);
	assert_int_equal(far_recorder_read(recorder, &cursor, out, CAPACITY, &lost), 3);
	assert_int_equal(lost, 1);
	assert_int_equal(out[2].request_id, 4);
	assert_int_equal(cursor, 2 * CAPACITY + 2);
}

static void
every_kind_has_a_name_of_its_own_and_a_sentence(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < FAR_RECORD_KINDS; i++) {
		assert_non_null(strchr(far_record_name((enum far_record_kind)i), '.'));
		assert_true(strlen(far_record_text((enum far_record_kind)i)) > 10);
		for (uint32_t k = 0; k < i; k++)
			assert_string_not_equal(far_record_name((enum far_record_kind)i),
						far_record_name((enum far_record_kind)k));
	}
	assert_string_equal(far_record_name(FAR_RECORD_KINDS), "unknown");
}

static void
reference_page_is_the_table(void **state)
{
	char *page = NULL;
	char *docs = calloc(1, 1 << 20);
	size_t page_size = 0;
	FILE *stream = open_memstream(&page, &page_size);
	FILE *file = fopen(FAR_TEST_DOCS "/events.md", "r");
	const char *table;

	(void)state;
	assert_non_null(docs);
	assert_non_null(stream);
	assert_non_null(file);
	far_recorder_document(stream);
	fclose(stream);
	assert_true(fread(docs, 1, (1 << 20) - 1, file) > 0);
	fclose(file);
	table = strstr(docs, "| event |");
	if (table == NULL || strcmp(table, page) != 0)
		fail_msg("docs/events.md does not end in the table of base/event.def: run ./dev "
			 "docs");
	free(page);
	free(docs);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(event_is_read_as_it_was_recorded_and_once, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(latest_events_are_kept_and_the_lost_ones_counted,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			counters_are_per_kind_and_know_what_the_ring_has_lost, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_a_recorder_nothing_happens, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(tally_makes_one_event_per_way_and_loses_none,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			many_writers_and_a_reader_see_whole_events_in_order_and_count_every_one,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(writer_that_gives_way_late_does_not_stop_the_reader,
						set_up, tear_down),
		cmocka_unit_test(capacities_outside_the_bounds_are_refused),
		cmocka_unit_test(clock_is_read_only_for_an_event_without_a_time),
		cmocka_unit_test(every_kind_has_a_name_of_its_own_and_a_sentence),
		cmocka_unit_test(reference_page_is_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
