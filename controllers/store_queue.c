/* store_queue.c - from any thread's finished write to the owner: a bounded queue without locks. */
#include "controllers/store_priv.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/err.h"

#define STORE_GIVE_BACK_MAX 32

/* ---- the stack of free blocks: many threads pop, the owner and those who fail push ---- */

static struct store_block *
free_pop(struct far_store *ctl)
{
	/* Pairs with the release in free_push(): the block's fields are the pusher's no more. */
	uint64_t head = atomic_load_explicit(&ctl->free_head, memory_order_acquire);

	for (;;) {
		uint32_t idx = (uint32_t)head;
		uint64_t next;

		if (idx == 0)
			return NULL;
		next = atomic_load_explicit(&ctl->blocks[idx - 1].next, memory_order_relaxed);
		next |= ((head >> 32) + 1) << 32;
		if (atomic_compare_exchange_weak_explicit(&ctl->free_head, &head, next,
							  memory_order_acquire,
							  memory_order_acquire))
			return &ctl->blocks[idx - 1];
	}
}

static void
free_push(struct far_store *ctl, struct store_block *block)
{
	uint64_t head = atomic_load_explicit(&ctl->free_head, memory_order_relaxed);
	uint64_t to;

	do {
		atomic_store_explicit(&block->next, (uint32_t)head, memory_order_relaxed);
		to = (uint64_t)(block - ctl->blocks) + 1;
		to |= ((head >> 32) + 1) << 32;
		/* Pairs with free_pop(). */
	} while (!atomic_compare_exchange_weak_explicit(
		&ctl->free_head, &head, to, memory_order_release, memory_order_relaxed));
}

int
far_store_queue_open(struct far_store *ctl)
{
	uint32_t count = ctl->config.queue_max;
	size_t capacity = 2;

	while (capacity < count)
		capacity *= 2;
	ctl->blocks = far_zalloc_array(count, sizeof(*ctl->blocks));
	ctl->pairs = far_zalloc_array((size_t)count * ctl->adapters_max, sizeof(*ctl->pairs));
	ctl->walk = far_zalloc(sizeof(*ctl->walk));
	if (ctl->blocks == NULL || ctl->pairs == NULL || ctl->walk == NULL)
		return -ENOMEM;
	for (uint32_t i = count; i > 0; i--) {
		struct store_block *block = &ctl->blocks[i - 1];

		block->pairs = &ctl->pairs[(size_t)(i - 1) * ctl->adapters_max];
		atomic_init(&block->seq, STORE_SEQ_FREE);
		free_push(ctl, block);
	}
	atomic_init(&ctl->seq_next, STORE_SEQ_COMING + 1);
	return far_ring_open(capacity, &ctl->ring);
}

void
far_store_queue_close(struct far_store *ctl)
{
	far_ring_close(ctl->ring);
	far_free(ctl->walk);
	far_free(ctl->pairs);
	far_free(ctl->blocks);
}

/* Nobody's again. Any thread that has it. */
static void
block_free(struct far_store *ctl, struct store_block *block, uint32_t size_bytes)
{
	atomic_fetch_sub_explicit(&ctl->pending_bytes, size_bytes, memory_order_relaxed);
	/* Pairs with far_store_passed(): what became of the block is visible to who sees it gone. */
	atomic_store_explicit(&block->seq, STORE_SEQ_FREE, memory_order_release);
	free_push(ctl, block);
	/* Pairs with far_store_idle(). */
	atomic_fetch_sub_explicit(&ctl->pending, 1, memory_order_seq_cst);
}

/* 0; -EAGAIN: no room; -ECANCELED: closing. The loan is still the listener's to give back then. */
static int
block_queue(struct far_store *ctl, const struct far_l1_event *event)
{
	struct store_block *block;
	uint64_t bytes;

	/* Counted before the look at closing: far_store_idle() sees either the count or nobody. */
	atomic_fetch_add_explicit(&ctl->pending, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&ctl->closing, memory_order_seq_cst)) {
		atomic_fetch_sub_explicit(&ctl->pending, 1, memory_order_seq_cst);
		return -ECANCELED;
	}
	block = free_pop(ctl);
	if (block == NULL) {
		atomic_fetch_sub_explicit(&ctl->pending, 1, memory_order_seq_cst);
		return -EAGAIN;
	}
	/* Before the number is drawn: a barrier that counts it finds it taken. */
	atomic_store_explicit(&block->seq, STORE_SEQ_COMING, memory_order_relaxed);
	bytes = atomic_fetch_add_explicit(&ctl->pending_bytes, event->size_bytes,
					  memory_order_relaxed);
	if (bytes + event->size_bytes > ctl->config.queue_bytes_max && bytes > 0) {
		block_free(ctl, block, event->size_bytes);
		return -EAGAIN;
	}
	block->key = event->key;
	block->loan = event->loan;
	block->addr = event->addr;
	block->size_bytes = event->size_bytes;
	/* Pairs with far_store_barrier(). */
	atomic_store_explicit(&block->seq,
			      atomic_fetch_add_explicit(&ctl->seq_next, 1, memory_order_acq_rel),
			      memory_order_release);
	if (!far_ring_push(ctl->ring, block)) {
		block_free(ctl, block, event->size_bytes);
		return -EAGAIN;
	}
	return 0;
}

void
far_store_queue_free(struct far_store *ctl, struct store_block *block)
{
	block_free(ctl, block, block->size_bytes);
}

/* ---- the listener ---- */

/* What one call of the listener came to: an event for each way, and the loans that go back. */
enum written_way {
	WAY_QUEUED,
	WAY_NOT_ADMITTED,
	WAY_FULL,
	WAY_CLOSING,
	WAYS,
};

struct written_call {
	uint32_t keys[WAYS];
	uint64_t bytes[WAYS];
	uint64_t refused[STORE_GIVE_BACK_MAX];
	size_t refused_count;
};

static void
refused_give_back(struct far_store *ctl, struct written_call *call)
{
	int rcs[STORE_GIVE_BACK_MAX];

	if (call->refused_count > 0)
		(void)far_l1_finish_read(ctl->l1, ctl->session, call->refused, call->refused_count,
					 1, rcs);
	call->refused_count = 0;
}

static void
written_tell(struct far_store *ctl, const struct written_call *call)
{
	static const struct {
		enum store_count count;
		enum far_record_kind kind;
		int why;
	} ways[WAYS] = {
		[WAY_QUEUED] = {COUNT_QUEUED, FAR_RECORD_STORE_QUEUED, 0},
		[WAY_NOT_ADMITTED] = {COUNT_NOT_ADMITTED, FAR_RECORD_STORE_NOT_ADMITTED, 0},
		[WAY_FULL] = {COUNT_QUEUE_FULL, FAR_RECORD_STORE_DROPPED, -EAGAIN},
		[WAY_CLOSING] = {COUNT_REFUSED_CLOSING, FAR_RECORD_STORE_DROPPED, -ECANCELED},
	};

	for (size_t i = 0; i < WAYS; i++) {
		struct far_record event = {
			.bytes = call->bytes[i],
			.keys = call->keys[i],
			.session = ctl->session,
			.kind = (uint16_t)ways[i].kind,
			.why = (int16_t)ways[i].why,
			.adapter = FAR_RECORD_NO_ADAPTER,
		};

		/* The counter of those that are queued was moved before the owner could see them. */
		if (call->keys[i] == 0)
			continue;
		if (i != WAY_QUEUED)
			far_store_count(ctl, ways[i].count, call->keys[i]);
		far_recorder_add(ctl->config.recorder, &event);
	}
}

static enum written_way
written_one(struct far_store *ctl, const struct far_l1_event *event)
{
	int rc;

	if (!ctl->policy->admits->written(ctl->policy, &event->key))
		return WAY_NOT_ADMITTED;
	far_store_count(ctl, COUNT_QUEUED, 1);
	rc = block_queue(ctl, event);
	if (rc == 0)
		return WAY_QUEUED;
	far_store_count(ctl, COUNT_QUEUED, UINT64_MAX);
	return rc == -EAGAIN ? WAY_FULL : WAY_CLOSING;
}

void
far_store_queue_written(void *arg, const struct far_l1_event *events, size_t count)
{
	struct written_call call = {.refused_count = 0};
	struct far_store *ctl = arg;

	for (size_t i = 0; i < count; i++) {
		enum written_way way;

		/* Without a loan the block may be gone at any moment: the session is closed. */
		if (events[i].loan == 0)
			continue;
		way = written_one(ctl, &events[i]);
		call.keys[way]++;
		call.bytes[way] += events[i].size_bytes;
		if (way == WAY_QUEUED)
			continue;
		call.refused[call.refused_count++] = events[i].loan;
		if (call.refused_count == STORE_GIVE_BACK_MAX)
			refused_give_back(ctl, &call);
	}
	refused_give_back(ctl, &call);
	written_tell(ctl, &call);
	if (call.keys[WAY_QUEUED] > 0 && ctl->wake != NULL)
		ctl->wake(ctl->wake_arg);
}

void
far_store_queue_accessed(void *arg, const struct far_l1_event *events, size_t count)
{
	struct far_store *ctl = arg;
	struct far_record told = {
		.session = ctl->session,
		.kind = FAR_RECORD_STORE_QUEUED,
		.why = 1,
		.adapter = FAR_RECORD_NO_ADAPTER,
	};

	for (size_t i = 0; i < count; i++) {
		struct far_l1_event event = events[i];

		if (!ctl->policy->admits->hit(ctl->policy, &event.key))
			continue;
		/* The owner locks it; until then it may be evicted, and is not stored. */
		event.loan = 0;
		far_store_count(ctl, COUNT_QUEUED, 1);
		if (block_queue(ctl, &event) < 0) {
			far_store_count(ctl, COUNT_QUEUED, UINT64_MAX);
			ctl->policy->admits->put_off(ctl->policy, &event.key);
			continue;
		}
		far_store_count(ctl, COUNT_BY_HITS, 1);
		told.keys++;
		told.bytes += event.size_bytes;
	}
	if (told.keys == 0)
		return;
	far_recorder_add(ctl->config.recorder, &told);
	if (ctl->wake != NULL)
		ctl->wake(ctl->wake_arg);
}

void
far_store_queue_prefetched(void *arg, const struct far_l1_event *events, size_t count)
{
	struct far_store *ctl = arg;

	for (size_t i = 0; i < count; i++)
		ctl->policy->admits->forget(ctl->policy, &events[i].key);
}

struct store_block *
far_store_queue_pop(struct far_store *ctl)
{
	return far_ring_pop(ctl->ring);
}

uint64_t
far_store_barrier(struct far_store *ctl)
{
	/* Pairs with block_queue(): a number below this one was drawn by a listener that we see. */
	return atomic_load_explicit(&ctl->seq_next, memory_order_acquire);
}

bool
far_store_passed(const struct far_store *ctl, uint64_t barrier)
{
	struct store_walk *walk = ctl->walk;

	if (walk->barrier != barrier) {
		/* A later barrier begins anew; an earlier one as well, at the price of a walk. */
		walk->barrier = barrier;
		walk->cursor = 0;
	}
	for (; walk->cursor < ctl->config.queue_max; walk->cursor++) {
		/* Pairs with block_free() and block_queue(). A free block that is taken again gets a
		 * number that is not below the barrier: it need not be looked at twice. */
		uint64_t seq =
			atomic_load_explicit(&ctl->blocks[walk->cursor].seq, memory_order_acquire);

		if (seq < barrier)
			return false;
	}
	return true;
}
