/*
 * store.c - farpool's stores through its public interface: until a farpoold has committed every block.
 *
 * The donor is full before anything counts, and so it evicts all the time, as one in use does. It is not small:
 * what it evicts rests for a grace (50 ms), and no more than a sixteenth of a donor and a few lanes rests at
 * once, so that a donor of 512 MiB takes 1.2 GB/s and no more, whatever moves the bytes. For the same reason a
 * pass begins some time after the one before: two behind each other are more than a sixteenth of this donor, and
 * the second would wait for a grace in its middle. Of a block both ends are written: what an engine writes
 * between is not the pool's work, and in no cache.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pages.h"
#include "tests/bench/lend.h"
#include "tests/bench/process.h"

#define STORE_NS    (60 * FAR_NS_PER_S)
#define REST_NS     (200 * FAR_NS_PER_MS) /* between passes: some graces */
#define BATCH_COUNT 64U                   /* batches of a pass whose messages are counted */
#define BATCH_KEYS  16U
#define BLOCK_MIN   (64ULL << 10) /* of all rows */
#define FILL_BYTES  (1ULL << 20)
#define HELD_MAX    (6ULL << 30)
#define HELD_SHARE  5 /* of the memory that is left, for blocks; lanes come on top */

struct writer {
	struct bench_lend lend;
	uint64_t next; /* never the same key again */
	uint64_t rested_ns;
	bool is_open;
};

struct bench_mover {
	const struct bench_plan *plan; /* borrowed */
	char *why;                     /* borrowed */
	struct writer writer;
	uint64_t held_bytes;
	char note[BENCH_TEXT_BYTES];
};

static int
block_write(struct writer *writer, uint64_t block_bytes)
{
	struct far_client *client = writer->lend.client;
	uint64_t words[2] = {bench_word(block_bytes, writer->next), writer->next};
	uint64_t *at, count = block_bytes / sizeof(*at);
	struct far_block *block;
	struct far_key key;
	int rc;

	writer->next++;
	memcpy(key.bytes, words, sizeof(key.bytes));
	rc = far_reserve(client, &key, (uint32_t)block_bytes, &block);
	if (rc == -ENOMEM) {
		/* L1 holds what is on its way: its room comes back with the answers. */
		rc = far_flush(client, far_now_ns() + STORE_NS, NULL);
		if (rc == 0)
			rc = far_reserve(client, &key, (uint32_t)block_bytes, &block);
	}
	if (rc < 0)
		return rc;
	at = far_block_buffer(block);
	at[0] = words[0];
	at[count - 1] = words[0];
	return far_commit(block);
}

/* Blocks as a batch, and until all of them are committed. */
static int
batch_store(struct writer *writer, uint64_t block_bytes, uint64_t count, uint64_t *stored)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};
	int rc = 0;

	for (uint64_t i = 0; i < count && rc == 0; i++)
		rc = block_write(writer, block_bytes);
	if (rc == 0)
		rc = far_flush(writer->lend.client, far_now_ns() + STORE_NS, &result);
	*stored = result.stored;
	return rc;
}

/* @bytes of blocks in batches of a request's size. */
static int
blocks_store(struct bench_mover *mover, uint64_t block_bytes, uint64_t bytes)
{
	uint64_t left = bytes / block_bytes, stored = mover->writer.next;
	uint64_t batch = mover->plan->request_bytes / block_bytes;
	int rc = 0;

	while (rc == 0 && left > 0) {
		uint64_t count = batch < left ? batch : left;

		rc = batch_store(&mover->writer, block_bytes, count, &stored);
		left -= count;
	}
	/* A block that was dropped or refused was not stored. */
	return rc == 0 && stored != mover->writer.next ? -EIO : rc;
}

/* Opened at the first pass, and not by store_open(): what is never measured takes no memory. */
static int
writer_open(struct bench_mover *mover)
{
	struct bench_lend_config config = {
		.over = "shm",
		.held_bytes = mover->held_bytes,
		.block_bytes = BLOCK_MIN,
		.l1_bytes = mover->plan->set_bytes,
	};
	int rc;

	if (mover->writer.is_open)
		return 0;
	mover->writer.is_open = true;
	rc = bench_lend_open(mover->plan, &config, mover->why, &mover->writer.lend);
	/* Twice: when the last lane was filled, the first ones were emptied and written again. */
	if (rc == 0)
		rc = blocks_store(mover, FILL_BYTES, 2 * mover->held_bytes);
	mover->writer.rested_ns = far_clock_now(far_clock_real()) + REST_NS;
	return rc;
}

static int
store_pass(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out)
{
	int rc = writer_open(mover);

	if (rc < 0)
		return rc;
	/* Not asleep: copies begin with a processor that is awake as well. */
	while (far_clock_now(far_clock_real()) < mover->writer.rested_ns)
		;
	bench_pass_begin(out, mover->writer.lend.donor.pid);
	rc = blocks_store(mover, block_bytes, mover->plan->set_bytes);
	bench_pass_end(out, mover->writer.lend.donor.pid, mover->plan->set_bytes);
	mover->writer.rested_ns = far_clock_now(far_clock_real()) + REST_NS;
	return rc;
}

static uint64_t
tasks_of(const struct writer *writer)
{
	struct far_event_counts counts = {.size_bytes = sizeof(counts)};

	for (size_t kind = 0; far_event_counts_get(writer->lend.client, kind, &counts) == 0; kind++)
		if (strcmp(counts.name, "store.submitted") == 0)
			return counts.events;
	return 0;
}

/* A batch is what the controller hands to the adapter as one. The median of a pass: now and then a lane
 * ends and the next one is granted, which the note tells. */
static int
batch_pass(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out)
{
	double each[BATCH_COUNT], sum = 0;
	struct writer *writer = &mover->writer;
	uint64_t stored = 0;
	int rc = writer_open(mover);

	if (rc < 0)
		return rc;
	bench_pass_begin(out, writer->lend.donor.pid);
	for (uint32_t i = 0; i < BATCH_COUNT && rc == 0; i++) {
		uint64_t messages = bench_lend_messages(&writer->lend), tasks = tasks_of(writer);

		rc = batch_store(writer, block_bytes, BATCH_KEYS, &stored);
		messages = bench_lend_messages(&writer->lend) - messages;
		tasks = tasks_of(writer) - tasks;
		each[i] = tasks > 0 ? (double)messages / (double)tasks : 0;
		sum += each[i];
	}
	bench_pass_end(out, writer->lend.donor.pid,
		       (uint64_t)BATCH_COUNT * BATCH_KEYS * block_bytes);
	if (rc < 0)
		return rc;
	/* In hundredths, so that half a message more is seen. */
	out->messages = (uint64_t)(bench_spread_of(each, BATCH_COUNT).median * 100);
	out->count = 100;
	snprintf(mover->note, sizeof(mover->note),
		 "with those of the lanes that ended meanwhile: %.2f a batch, on average",
		 sum / BATCH_COUNT);
	return stored != writer->next ? -EIO : 0;
}

static const char *
batch_note(const struct bench_mover *mover)
{
	return mover->note;
}

static int
mover_open(const struct bench_plan *plan, uint64_t held_bytes, char *why, struct bench_mover **out)
{
	struct bench_mover *mover = far_zalloc(sizeof(*mover));

	why[0] = '\0';
	if (mover == NULL)
		return -ENOMEM;
	mover->plan = plan;
	mover->why = why;
	mover->held_bytes = held_bytes;
	*out = mover;
	return 0;
}

static int
store_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	uint64_t held_bytes = far_pages_available_bytes() / HELD_SHARE;

	/* Reserved pages are in nobody's count. */
	if (held_bytes == 0 || held_bytes > HELD_MAX || plan->huge_pages)
		held_bytes = HELD_MAX;
	if (held_bytes < plan->set_bytes)
		held_bytes = plan->set_bytes;
	return mover_open(plan, held_bytes, why, out);
}

static int
batch_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return mover_open(plan, plan->set_bytes, why, out);
}

static void
store_close(struct bench_mover *mover)
{
	bench_lend_close(&mover->writer.lend);
	far_free(mover);
}

const struct bench_mover_ops bench_store = {
	.name = "store",
	.text = "far_reserve() to far_flush() to a farpoold process over shm, which evicts; a pass "
		"each 0.2 s",
	.role = BENCH_SUBJECT,
	.required = true,
	.open = store_open,
	.pass = store_pass,
	.close = store_close,
};

const struct bench_mover_ops bench_store_batch = {
	.name = "store-batch",
	.text = "the same, 16 blocks at a time: messages of a batch, medians",
	.role = BENCH_SUBJECT,
	.required = true,
	.open = batch_open,
	.pass = batch_pass,
	.note = batch_note,
	.close = store_close,
};
