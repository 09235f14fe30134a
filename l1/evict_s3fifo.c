/* evict_s3fifo.c - the policy S3-FIFO: what was used once goes before what was used again. */
#include "base/err.h"
#include "l1/l1_priv.h"

/*
 * Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023. A
 * new block enters the small queue, which has a tenth of the memory. At its end it goes on to the
 * main queue if it was used more than once since, else it is evicted, and its key is remembered
 * among the ghosts; a key that is remembered enters the main queue at once. At the end of the main
 * queue a block that was used starts again with one use less, any other is evicted. Sizes are
 * bytes, since blocks are of many sizes.
 *
 * A use is a key granted by one reserve_read, or a touch. It is counted in the block's word, in the
 * step that takes the lock, and is exact up to three. The request that brings a block in is none,
 * nor is a release.
 *
 * A locked block at the end of its queue starts again as it is. Keys of one call are queued as the
 * prefix that they are, its last key nearest to the end. A victim that is let go again returns to
 * its end; one that was claimed from the midst, for its place in the arena, to the beginning. The
 * uses that were counted down on the way to a plan that is given up are not given back.
 */
#define SMALL_SHARE    10u   /* of the arena: one in so many units */
#define MOVES_MAX      1024u /* a bound on the time of one victim: then uses count no more */
#define GHOST_WAYS     4u    /* keys in one set */
#define GHOSTS_PER_KEY 2u    /* places per block of the table, so that sets seldom overflow */

#define SMALL 0u
#define MAIN  1u

/* block->queued: the queue, and whether it was claimed from its end. */
#define QUEUED_MAIN 1u
#define QUEUED_END  2u

/* --- A queue: linked both ways, head to tail through queue_next. --- */

static void
fifo_link(struct far_l1 *l1, uint32_t which, uint32_t idx, uint32_t before)
{
	struct l1_fifo *fifo = &l1->queue.s3fifo.fifos[which];
	struct l1_block *block = &l1->blocks[idx];
	/* @before: the one nearer to the head; L1_NIL: it becomes the head. */
	uint32_t next = before == L1_NIL ? fifo->head : l1->blocks[before].queue_next;

	block->queued = which;
	block->queue_prev = before == L1_NIL ? L1_QUEUE_HEAD | which : before;
	block->queue_next = next;
	if (before == L1_NIL)
		fifo->head = idx;
	else
		l1->blocks[before].queue_next = idx;
	if (next == L1_NIL)
		fifo->tail = idx;
	else
		l1->blocks[next].queue_prev = idx;
	fifo->count++;
	fifo->units += block_units_of(l1, idx);
}

static void
fifo_unlink(struct far_l1 *l1, uint32_t idx)
{
	struct l1_block *block = &l1->blocks[idx];
	struct l1_fifo *fifo = &l1->queue.s3fifo.fifos[block->queued & QUEUED_MAIN];
	uint32_t prev = block->queue_prev;
	uint32_t next = block->queue_next;

	if (prev & L1_QUEUE_HEAD)
		fifo->head = next;
	else
		l1->blocks[prev].queue_next = next;
	if (next != L1_NIL)
		l1->blocks[next].queue_prev = prev;
	else
		fifo->tail = prev & L1_QUEUE_HEAD ? L1_NIL : prev;
	if (fifo->added == idx)
		fifo->added = L1_NIL;
	block->queue_prev = L1_NIL;
	block->queue_next = L1_NIL;
	fifo->count--;
	fifo->units -= block_units_of(l1, idx);
}

static void
block_move(struct far_l1 *l1, uint32_t idx, uint32_t which)
{
	fifo_unlink(l1, idx);
	fifo_link(l1, which, idx, L1_NIL);
}

/* --- Ghosts: {fingerprint, when} in sets; an old one is overwritten, or found to be too old.
 * --- */

/* As many as the main queue has room for, with blocks of the sizes that are there. */
static uint32_t
ghosts_max(const struct far_l1 *l1)
{
	return l1->queue.count - l1->queue.count / SMALL_SHARE;
}

static uint32_t
ghost_age(const struct l1_s3fifo *q, uint64_t ghost)
{
	return ghost == 0 ? UINT32_MAX : q->ghost_seq - (uint32_t)ghost;
}

static uint64_t *
ghost_set(const struct l1_s3fifo *q, uint64_t hash)
{
	return &q->ghosts[(hash & q->ghost_mask) * GHOST_WAYS];
}

static void
ghost_add(struct l1_s3fifo *q, uint64_t hash)
{
	uint64_t *set = ghost_set(q, hash);
	uint32_t at = 0;

	for (uint32_t i = 0; i < GHOST_WAYS; i++) {
		if (set[i] >> 32 == hash >> 32) {
			at = i;
			break;
		}
		if (ghost_age(q, set[i]) > ghost_age(q, set[at]))
			at = i;
	}
	if (++q->ghost_seq == 0)
		q->ghost_seq = 1;
	set[at] = (hash >> 32 << 32) | q->ghost_seq;
}

/* Whether the key is remembered; then it is no more. */
static bool
ghost_take(struct far_l1 *l1, uint64_t hash)
{
	struct l1_s3fifo *q = &l1->queue.s3fifo;
	uint64_t *set = ghost_set(q, hash);

	for (uint32_t i = 0; i < GHOST_WAYS; i++) {
		if (set[i] == 0 || set[i] >> 32 != hash >> 32)
			continue;
		if (ghost_age(q, set[i]) >= ghosts_max(l1))
			return false;
		set[i] = 0;
		return true;
	}
	return false;
}

/* --- The policy. --- */

static int
s3fifo_init(struct far_l1 *l1)
{
	struct l1_s3fifo *q = &l1->queue.s3fifo;
	uint64_t sets = 1;

	while (sets * GHOST_WAYS < (uint64_t)l1->blocks_max * GHOSTS_PER_KEY)
		sets *= 2;
	q->ghost_mask = sets - 1;
	q->ghosts = far_l1_mem_alloc(sets * GHOST_WAYS, sizeof(*q->ghosts));
	return q->ghosts == NULL ? -ENOMEM : 0;
}

static void
s3fifo_fini(struct far_l1 *l1)
{
	far_l1_mem_free(l1->queue.s3fifo.ghosts);
}

static void
add_one(struct far_l1 *l1, uint32_t idx, uint64_t tick)
{
	struct l1_s3fifo *q = &l1->queue.s3fifo;
	struct far_key key;
	struct l1_fifo *fifo;
	uint32_t which;

	far_l1_block_key(&l1->blocks[idx], &key);
	which = ghost_take(l1, key_hash(&key)) ? MAIN : SMALL;
	fifo = &q->fifos[which];
	/* An older tick than the last one's: a later key of the same call. */
	fifo_link(l1, which, idx, tick < fifo->added_tick ? fifo->added : L1_NIL);
	fifo->added = idx;
	fifo->added_tick = tick;
}

/* How long a ghost is remembered depends on how many there are: each counts for the next one. */
static void
s3fifo_add(struct far_l1 *l1, const uint32_t *idxs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		add_one(l1, idxs[i],
			atomic_load_explicit(&l1->blocks[idxs[i]].touched, memory_order_relaxed));
		l1->queue.count++;
	}
}

static uint32_t
uses_of(const struct far_l1 *l1, uint32_t idx)
{
	return (uint32_t)word_uses(
		atomic_load_explicit(&l1->blocks[idx].word, memory_order_relaxed));
}

/* Readers count up meanwhile. */
static void
uses_take(struct far_l1 *l1, uint32_t idx, uint32_t uses)
{
	atomic_fetch_sub_explicit(&l1->blocks[idx].word, (uint64_t)uses << WORD_USES_SHIFT,
				  memory_order_relaxed);
}

/* The queue that gives the next victim, if it has one that was not seen to be locked. */
static uint32_t
fifo_next(const struct far_l1 *l1, const uint32_t *locked)
{
	const struct l1_fifo *fifos = l1->queue.s3fifo.fifos;
	uint32_t which = MAIN;

	if (fifos[SMALL].units * SMALL_SHARE >= l1->arena.unit_count ||
	    locked[MAIN] >= fifos[MAIN].count)
		which = SMALL;
	return locked[which] < fifos[which].count ? which : which ^ 1u;
}

/* What evicting the next of a queue will read is asked for while another one is evicted: its record was
 * asked for one victim before. */
static void
fifo_ahead(const struct far_l1 *l1, const struct l1_fifo *fifo)
{
	const struct l1_block *next = &l1->blocks[fifo->tail];
	struct far_key key;

	if (fifo->tail == L1_NIL)
		return;
	far_l1_block_key(next, &key);
	far_l1_table_prefetch(l1, &key);
	__builtin_prefetch(ghost_set(&l1->queue.s3fifo, key_hash(&key)), 1);
	__builtin_prefetch(&l1->arena.extents[next->extent], 1);
	if ((next->queue_prev & L1_QUEUE_HEAD) == 0)
		__builtin_prefetch(&l1->blocks[next->queue_prev], 1);
}

static uint32_t
claim_one(struct far_l1 *l1)
{
	struct l1_fifo *fifos = l1->queue.s3fifo.fifos;
	uint32_t locked[2] = {0, 0}; /* that many in a row: all of them, if it reaches the count */

	for (uint32_t moves = 0;; moves++) {
		uint32_t which = fifo_next(l1, locked);
		uint32_t idx = fifos[which].tail;
		uint32_t uses;

		if (locked[which] >= fifos[which].count)
			return L1_NIL;
		uses = moves < MOVES_MAX ? uses_of(l1, idx) : 0;
		if (!word_evictable(
			    atomic_load_explicit(&l1->blocks[idx].word, memory_order_relaxed))) {
			block_move(l1, idx, which);
			locked[which]++;
		} else if (which == SMALL && uses > 1) {
			uses_take(l1, idx, uses);
			block_move(l1, idx, MAIN);
			locked[SMALL] = locked[MAIN] = 0;
		} else if (which == MAIN && uses > 0) {
			uses_take(l1, idx, 1);
			block_move(l1, idx, MAIN);
			locked[MAIN] = 0;
		} else if (far_l1_block_claim(l1, idx)) {
			l1->blocks[idx].queued |= QUEUED_END;
			fifo_ahead(l1, &fifos[which]);
			return idx;
		}
	}
}

/* Which queue the next one comes from depends on what is added for this one: never more than one. */
static uint32_t
s3fifo_claim(struct far_l1 *l1, uint32_t *idxs_out, uint32_t max)
{
	(void)max;
	idxs_out[0] = claim_one(l1);
	return idxs_out[0] != L1_NIL;
}

static void
s3fifo_unclaim(struct far_l1 *l1, uint32_t idx)
{
	uint64_t queued = l1->blocks[idx].queued;
	uint32_t which = queued & QUEUED_MAIN;

	fifo_link(l1, which, idx,
		  queued & QUEUED_END ? l1->queue.s3fifo.fifos[which].tail : L1_NIL);
}

/* A block of the main queue had its chances, unless it is evicted for its place. */
static void
s3fifo_evicted(struct far_l1 *l1, uint32_t idx)
{
	struct far_key key;

	if ((l1->blocks[idx].queued & QUEUED_MAIN) != 0 && uses_of(l1, idx) == 0)
		return;
	far_l1_block_key(&l1->blocks[idx], &key);
	ghost_add(&l1->queue.s3fifo, key_hash(&key));
}

static uint32_t
s3fifo_worth(const struct far_l1 *l1, uint32_t idx)
{
	uint32_t uses = uses_of(l1, idx);

	if ((l1->blocks[idx].queued & QUEUED_MAIN) != 0)
		return 24 + 8 * uses;
	return uses > 1 ? 24 : 8 * uses;
}

static void
s3fifo_check(const struct far_l1 *l1)
{
	const struct l1_s3fifo *q = &l1->queue.s3fifo;
	uint32_t count = 0;

	for (uint32_t which = SMALL; which <= MAIN; which++) {
		uint32_t prev = L1_QUEUE_HEAD | which;
		uint64_t units = 0;
		uint32_t in = 0;

		for (uint32_t idx = q->fifos[which].head; idx != L1_NIL;
		     idx = l1->blocks[idx].queue_next) {
			FAR_ASSERT(l1->blocks[idx].queue_prev == prev);
			FAR_ASSERT(l1->blocks[idx].queued == which);
			prev = idx;
			units += block_units_of(l1, idx);
			in++;
			FAR_ASSERT(in <= q->fifos[which].count);
		}
		FAR_ASSERT(q->fifos[which].tail == (in == 0 ? L1_NIL : prev));
		FAR_ASSERT(q->fifos[which].count == in);
		FAR_ASSERT(q->fifos[which].units == units);
		count += in;
	}
	FAR_ASSERT(count == l1->queue.count);
}

const struct l1_evict_ops far_l1_evict_s3fifo = {
	.name = "s3fifo",
	.counts_uses = true,
	.init = s3fifo_init,
	.fini = s3fifo_fini,
	.add = s3fifo_add,
	.remove = fifo_unlink,
	.claim = s3fifo_claim,
	.unclaim = s3fifo_unclaim,
	.evicted = s3fifo_evicted,
	.worth = s3fifo_worth,
	.check = s3fifo_check,
};
