/*
 * lookup.c - keys in a donor's published index, asked for by an adapter alone on one thread, which polls.
 * The adapter remembers no slot from one task to the next; each key is asked for at random.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"
#include "base/rng.h"
#include "l2/l2.h"
#include "tests/bench/lend.h"
#include "tests/bench/process.h"

#define BLOCK_BYTES 64U /* that it is there is all that counts */
#define BATCH       256U
#define DEPTH       4 /* tasks at a time */
#define PASS_NS     (300 * FAR_NS_PER_MS)
#define TASK_NS     (10 * FAR_NS_PER_S)
#define CONNECT_NS  (30 * FAR_NS_PER_S)
#define STORE_NS    (120 * FAR_NS_PER_S)
#define CLOSE_NS    (2 * FAR_NS_PER_S)
#define STUCK_NS    (20 * FAR_NS_PER_S) /* without any answer */
#define L1_BYTES    ((uint64_t)64 << 20)
#define FLUSH_KEYS  4096 /* what the queue of stores takes without a drop */
#define INDEXES_MAX 4
#define MISSES_OF   1000
#define POLL_BUDGET 64

struct question {
	struct far_l2_task task;
	struct index *index;
	struct far_l2_item items[BATCH];
	bool busy;
};

/* A donor with so many keys. */
struct index {
	struct bench_lend lend;
	uint64_t key_count;
	struct far_transport *tp;
	struct far_l2 *l2;
	struct far_rng rng;
	struct question questions[DEPTH];
	uint32_t busy;
	uint64_t answered, missed;
	int rc;
};

struct bench_mover {
	const struct bench_plan *plan;      /* borrowed */
	char *why;                          /* borrowed */
	struct index *indexes[INDEXES_MAX]; /* owned */
	int index_count;
};

static struct far_key
key_of(uint64_t idx)
{
	uint64_t words[2] = {bench_word(BLOCK_BYTES, idx), idx};
	struct far_key key;

	memcpy(key.bytes, words, sizeof(key.bytes));
	return key;
}

/* ---- before: the index is filled ---- */

static int
index_fill(struct index *index, char *why)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};
	struct far_client *client = index->lend.client;
	int rc = 0;

	for (uint64_t i = 0; i < index->key_count && rc == 0; i++) {
		struct far_key key = key_of(i);
		struct far_block *block;

		rc = far_reserve(client, &key, BLOCK_BYTES, &block);
		if (rc == 0)
			rc = far_commit(block);
		if (rc == 0 && (i % FLUSH_KEYS == FLUSH_KEYS - 1 || i + 1 == index->key_count))
			rc = far_flush(client, far_now_ns() + STORE_NS, &result);
	}
	if (rc == 0 && result.stored != index->key_count) {
		snprintf(why, BENCH_TEXT_BYTES,
			 "the donor took %llu of %llu keys: %llu failed, %llu dropped",
			 (unsigned long long)result.stored, (unsigned long long)index->key_count,
			 (unsigned long long)result.failed, (unsigned long long)result.dropped);
		rc = -EIO;
	}
	return rc;
}

/* ---- the adapter ---- */

static void
turn(struct index *index)
{
	(void)far_transport_poll(index->tp, POLL_BUDGET);
	(void)far_l2_tick(index->l2, far_now_ns());
}

static int
adapter_open(struct index *index, char *why)
{
	const char *address = strchr(index->lend.donor.address, ':') + 1;
	struct far_transport_config config = {
		.clock = far_clock_real(), .peers = &address, .peer_count = 1};
	struct far_mem *arena = NULL;
	struct far_l2_env env = {
		.clock = far_clock_real(),
		.rng = &index->rng,
		.transports = &index->tp,
		.arenas = &arena,
		.transport_count = 1,
		.client_name = "bench",
		.connect_timeout_ns = CONNECT_NS,
		.retry_ns_min = FAR_NS_PER_MS,
		.retry_ns_max = FAR_NS_PER_S,
	};
	struct far_l2_config l2 = {
		.type = "donor", .name = BENCH_DONOR_NAME, .address = index->lend.donor.address};
	struct far_l2_status status = {.state = FAR_L2_CONNECTING};
	uint64_t until_ns = far_now_ns() + CONNECT_NS;
	char error[256];
	int rc = far_transport_open("shm", &config, &index->tp);

	if (rc < 0)
		return rc;
	rc = far_l2_open(&l2, &env, &index->l2, error);
	if (rc < 0)
		snprintf(why, BENCH_TEXT_BYTES, "%.190s", error);
	while (rc == 0 && status.state != FAR_L2_UP) {
		turn(index);
		far_l2_status_get(index->l2, &status);
		if (far_now_ns() >= until_ns)
			rc = -ETIMEDOUT;
	}
	return rc;
}

static void
index_close(struct index *index)
{
	uint64_t until_ns = far_now_ns() + CLOSE_NS;

	if (index->l2 != NULL) {
		far_l2_quiesce(index->l2);
		while (!far_l2_quiesced(index->l2)) {
			if (far_now_ns() >= until_ns)
				return; /* it ends with the process */
			turn(index);
		}
		far_l2_close(index->l2);
	}
	far_transport_close(index->tp);
	bench_lend_close(&index->lend);
	far_free(index);
}

static int
index_get(struct bench_mover *mover, uint64_t key_count, struct index **out)
{
	struct bench_lend_config config = {
		.over = "shm",
		.held_bytes = key_count * BLOCK_BYTES,
		.block_bytes = BLOCK_BYTES,
		.l1_bytes = L1_BYTES,
		/* So many slots as a pool that is full of its smallest blocks has: 2.5 a key. */
		.index_blocks = key_count,
	};
	struct index *index;
	int rc;

	for (int i = 0; i < mover->index_count; i++) {
		*out = mover->indexes[i];
		if (mover->indexes[i]->key_count == key_count)
			return 0;
	}
	if (mover->index_count == INDEXES_MAX)
		return -E2BIG;
	index = far_zalloc(sizeof(*index));
	if (index == NULL)
		return -ENOMEM;
	mover->indexes[mover->index_count++] = index;
	index->key_count = key_count;
	far_rng_init(&index->rng, key_count);
	for (int i = 0; i < DEPTH; i++)
		index->questions[i].index = index;
	rc = bench_lend_open(mover->plan, &config, mover->why, &index->lend);
	if (rc == 0)
		rc = index_fill(index, mover->why);
	/* It was there to fill the index: one thread is to be measured. */
	far_client_close(index->lend.client);
	index->lend.client = NULL;
	if (rc == 0)
		rc = adapter_open(index, mover->why);
	*out = index;
	return rc;
}

/* ---- questions ---- */

static void
on_done(struct far_l2_task *task)
{
	struct question *question = FAR_CONTAINER_OF(task, struct question, task);
	struct index *index = question->index;

	for (uint32_t i = 0; i < task->count; i++) {
		if (task->items[i].rc == 0)
			far_l2_unlock(index->l2, &task->items[i].key, 1);
		else if (task->items[i].rc == -ENOENT)
			index->missed++;
		else if (index->rc == 0)
			index->rc = task->items[i].rc;
	}
	question->busy = false;
	index->busy--;
	index->answered += task->count;
}

static void
question_ask(struct question *question)
{
	struct index *index = question->index;

	for (uint32_t i = 0; i < BATCH; i++)
		question->items[i] = (struct far_l2_item){
			.key = key_of(far_rng_below(&index->rng, index->key_count))};
	question->task = (struct far_l2_task){
		.kind = FAR_L2_LOOKUP,
		.items = question->items,
		.count = BATCH,
		.deadline_ns = far_now_ns() + TASK_NS,
		.done = on_done,
	};
	question->busy = true;
	index->busy++;
	far_l2_submit(index->l2, &question->task);
}

static int
lookup_pass(struct bench_mover *mover, uint64_t key_count, struct bench_pass *out)
{
	struct index *index;
	uint64_t until_ns, stuck_ns;
	int rc = index_get(mover, key_count, &index);

	if (rc < 0)
		return rc;
	index->answered = index->missed = 0;
	bench_pass_begin(out, index->lend.donor.pid);
	until_ns = far_now_ns() + PASS_NS;
	stuck_ns = until_ns + STUCK_NS;
	for (;;) {
		bool more = far_now_ns() < until_ns && index->rc == 0;

		for (int i = 0; i < DEPTH && more; i++)
			if (!index->questions[i].busy)
				question_ask(&index->questions[i]);
		if (!more && index->busy == 0)
			break;
		turn(index);
		if (far_now_ns() >= stuck_ns)
			return -ETIMEDOUT; /* its tasks end with the process */
	}
	bench_pass_end(out, index->lend.donor.pid, 0);
	out->count = index->answered;
	/* One key in 10^5 went when its sets were full; more of them would be another measure. */
	if (index->rc == 0 && index->missed > index->answered / MISSES_OF)
		return -ENOENT;
	return index->rc;
}

static int
lookup_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	struct bench_mover *mover = far_zalloc(sizeof(*mover));

	why[0] = '\0';
	if (mover == NULL)
		return -ENOMEM;
	mover->plan = plan;
	mover->why = why;
	*out = mover;
	return 0;
}

static void
lookup_close(struct bench_mover *mover)
{
	for (int i = 0; i < mover->index_count; i++)
		index_close(mover->indexes[i]);
	far_free(mover);
}

const struct bench_mover_ops bench_lookup = {
	.name = "lookup",
	.text = "a donor's adapter alone: tasks of 256 keys at random, 4 at a time; blocks of 64 "
		"bytes",
	.role = BENCH_SUBJECT,
	.required = true,
	.open = lookup_open,
	.pass = lookup_pass,
	.close = lookup_close,
};
