/* reads.c - READs of our lists: copied here, out of what the peer shares. */
#include "transport/shm/shm_priv.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <string.h>

#include "base/copy.h"
#include "base/publish.h"

/* Up to here bytes are sampled word by word: slots, sets, headers, table lines. */
#define SMALL_BYTES_MAX  1024U
#define STREAM_BYTES_MIN 4096U
/* What an op costs beside its bytes, in bytes of copying: bounds how long a poll of small ops is.
 */
#define OP_COST_BYTES 512

#define LINE_BYTES            64
#define PREFETCH_OPS          8
#define PREFETCH_OP_BYTES_MAX 8192
#define PREFETCH_BYTES        256

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
/* Whole lines, by aligned loads of 16 bytes, of which each word is whole on every such processor. */
static inline size_t
copy_lines(uint8_t *to, const uint8_t *from, size_t size_bytes)
{
	const uint8_t *const start = from;
	const uint8_t *const end = from + size_bytes / LINE_BYTES * LINE_BYTES;

	if ((uintptr_t)from % sizeof(__m128i) != 0)
		return 0;
	for (; from != end; from += LINE_BYTES, to += LINE_BYTES) {
		__m128i a, b, c, d;

		/* Not left to the compiler, who might load a word twice. */
		__asm__ volatile("movdqa (%4), %0\n\t"
				 "movdqa 16(%4), %1\n\t"
				 "movdqa 32(%4), %2\n\t"
				 "movdqa 48(%4), %3"
				 : "=&x"(a), "=&x"(b), "=&x"(c), "=x"(d)
				 : "r"(from)
				 : "memory");
		_mm_storeu_si128((void *)to, a);
		_mm_storeu_si128((void *)(to + 16), b);
		_mm_storeu_si128((void *)(to + 32), c);
		_mm_storeu_si128((void *)(to + 48), d);
	}
	return (size_t)(end - start);
}
#else
static size_t
copy_lines(uint8_t *to, const uint8_t *from, size_t size_bytes)
{
	(void)to;
	(void)from;
	(void)size_bytes;
	return 0;
}
#endif

/* The owner may be storing to these bytes right now: each word is sampled once, and whole. */
static inline void
copy_words(uint8_t *to, const uint8_t *from, size_t size_bytes)
{
	size_t i = copy_lines(to, from, size_bytes);

	if ((uintptr_t)from % sizeof(uint64_t) == 0) {
		for (; i + sizeof(uint64_t) <= size_bytes; i += sizeof(uint64_t)) {
			uint64_t word = __atomic_load_n((const uint64_t *)(const void *)(from + i),
							__ATOMIC_RELAXED);

			memcpy(to + i, &word, sizeof(word));
		}
	}
	if (i < size_bytes)
		memcpy(to + i, from + i, size_bytes - i);
}

static void
copy_piece(struct shm_copies *copies, uint8_t *to, const uint8_t *from, size_t size_bytes)
{
	if (size_bytes <= SMALL_BYTES_MAX)
		copy_words(to, from, size_bytes);
	else if (size_bytes < STREAM_BYTES_MIN)
		memcpy(to, from, size_bytes);
	else
		far_shm_copy(copies, to, from, size_bytes);
}

/* What the ops behind each other name, which is mostly the same: valid as long as no frame of the peer's is
 * looked at. */
struct named {
	struct far_rkey rkey;
	const struct shm_region *region; /* NULL: nothing was asked for yet, or it is not known */
};

static inline bool
rkeys_are_same(const struct far_rkey *a, const struct far_rkey *b)
{
	uint64_t words[4];

	memcpy(words, a, sizeof(*a));
	memcpy(words + 2, b, sizeof(*b));
	return ((words[0] ^ words[2]) | (words[1] ^ words[3])) == 0;
}

/* NULL: the peer has no such region, or has not announced it yet. */
static inline const struct shm_region *
region_named(struct shm_link *link, const struct far_rkey *rkey, struct named *last)
{
	uint64_t nonce, id;

	if (last->region != NULL && rkeys_are_same(&last->rkey, rkey))
		return last->region;
	far_shm_rkey_split(rkey, &nonce, &id);
	last->rkey = *rkey;
	last->region = nonce == link->peer_nonce ? far_shm_region_find(link, id) : NULL;
	return last->region;
}

/* Of a region that is not known: -ESTALE, or -EAGAIN: its announcement may be waiting in the socket. */
static int
unknown_rc(struct shm_link *link, struct shm_op *op)
{
	uint64_t nonce, id;

	far_shm_rkey_split(&op->rkey, &nonce, &id);
	if (nonce != link->peer_nonce)
		return -ESTALE;
	if (op->drain_mark == 0) {
		op->drain_mark = link->drained + 1;
		link->rx_ready = true;
	}
	return link->drained < op->drain_mark ? -EAGAIN : -ESTALE;
}

/*
 * Finds what a READ names, anew for each slice: the peer may take a region back in between.
 * Returns 0, -EAGAIN, or the op's status.
 */
static inline int
read_source(struct shm_link *link, struct shm_op *op, struct named *last, const uint8_t **out)
{
	const struct shm_region *region = region_named(link, &op->rkey, last);

	if (region == NULL)
		return unknown_rc(link, op);
	if ((region->rights & FAR_RIGHT_REMOTE_READ) == 0 || region->base == NULL)
		return -EACCES;
	if (op->addr > region->size_bytes || op->bytes > region->size_bytes - op->addr)
		return -EACCES;
	*out = region->base + op->addr;
	return 0;
}

/* Copies on where the op stopped, at most @slice bytes. Returns how many; ends the op if it can: before it is
 * told, what waits in @copies is copied. */
static size_t
pieces_copy(struct shm_copies *copies, struct shm_queue *queue, struct shm_op *op,
	    const uint8_t *from, size_t slice)
{
	size_t copied = 0;

	while (queue->piece_idx < op->piece_count && copied < slice) {
		struct far_piece *piece =
			far_shm_piece_at(queue, op->piece_first + queue->piece_idx);
		size_t size = piece->size_bytes - queue->piece_offset;

		if (size > slice - copied)
			size = slice - copied;
		if (op->crc32c != NULL)
			queue->sum = far_copy_crc32c(queue->sum,
						     (uint8_t *)piece->addr + queue->piece_offset,
						     from + queue->op_offset, size);
		else
			copy_piece(copies, (uint8_t *)piece->addr + queue->piece_offset,
				   from + queue->op_offset, size);
		copied += size;
		queue->op_offset += size;
		queue->piece_offset += (uint32_t)size;
		if (queue->piece_offset == piece->size_bytes) {
			queue->piece_idx++;
			queue->piece_offset = 0;
		}
	}
	if (queue->piece_idx == op->piece_count) {
		if (op->crc32c != NULL)
			*op->crc32c = queue->sum;
		far_shm_op_end(queue, op, 0);
	}
	return copied;
}

static inline size_t
read_copy(struct shm_copies *copies, struct shm_queue *queue, struct shm_op *op,
	  const uint8_t *from, size_t slice)
{
	/* Sets and slots: one piece, to be copied at once. */
	if (op->piece_count == 1 && op->bytes <= SMALL_BYTES_MAX && op->bytes <= slice &&
	    op->crc32c == NULL) {
		copy_words(far_shm_piece_at(queue, op->piece_first)->addr, from, op->bytes);
		far_shm_op_end(queue, op, 0);
		return op->bytes;
	}
	return pieces_copy(copies, queue, op, from, slice);
}

/* Where the bytes of an op are that is to come, or NULL: a hint that may be wrong in everything, the op itself
 * is checked when its turn comes. */
static inline const uint8_t *
op_guess(struct shm_link *link, const struct shm_op *op, struct named *last)
{
	const struct shm_region *region;

	if (op->kind != FAR_OP_READ || op->bytes > PREFETCH_OP_BYTES_MAX)
		return NULL;
	/* Data, whose lines are asked for by whoever copies it. */
	if (op->bytes >= STREAM_BYTES_MIN && SHM_TP(link->link.tp)->copies.helpers != NULL)
		return NULL;
	region = region_named(link, &op->rkey, last);
	if (region == NULL || region->base == NULL || op->addr >= region->size_bytes)
		return NULL;
	return region->base + op->addr;
}

/*
 * Small READs are all cache misses, and mostly in pages that no processor remembers: the lines of ops some way
 * ahead are asked for while others are copied. The first of each op together, so that the walks to their pages
 * overlap; then what else they have.
 */
static void
ops_prefetch(struct shm_link *link, const struct shm_queue *queue, uint32_t first, uint32_t end,
	     struct named *last)
{
	const uint8_t *from[PREFETCH_OPS];

	for (uint32_t i = first; i != end; i++) {
		const struct shm_op *op = far_shm_op_at(queue, i);
		const uint8_t *guess = op_guess(link, op, last);

		if (guess != NULL)
			__builtin_prefetch(guess);
		from[i - first] = guess;
	}
	for (uint32_t i = first; i != end; i++) {
		const struct shm_op *op = far_shm_op_at(queue, i);
		uint64_t bytes = op->bytes < PREFETCH_BYTES ? op->bytes : PREFETCH_BYTES;
		const uint8_t *to = far_shm_piece_at(queue, op->piece_first)->addr;

		if (from[i - first] == NULL)
			continue;
		__builtin_prefetch(to, 1);
		for (uint64_t at = LINE_BYTES; at < bytes; at += LINE_BYTES)
			__builtin_prefetch(from[i - first] + at);
	}
}

/* Of the slice, which is as many times as long as threads copy: what they do not share counts so often. */
static inline int64_t
read_cost(int64_t copiers, uint64_t op_bytes, size_t size)
{
	int64_t bytes = (int64_t)size;

	return OP_COST_BYTES * copiers + (op_bytes < STREAM_BYTES_MIN ? bytes * copiers : bytes);
}

/* All earlier loads before the loads of what comes next; streaming stores are visible, partial ones too. */
static void
loads_order(struct shm_copies *copies)
{
	far_shm_copies_run(copies);
	far_mem_publish();
	atomic_thread_fence(memory_order_seq_cst);
}

int
far_shm_queue_run(struct shm_link *link, struct shm_queue *queue)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	int64_t copiers = far_shm_copiers(&tp->copies);
	int64_t slice = SHM_SLICE_BYTES * copiers;
	struct named last = {.region = NULL};
	struct named last_ahead = {.region = NULL};
	uint32_t ahead = queue->cursor;
	bool copied = false;
	int ran = 0;

	while (queue->cursor != queue->tail && slice > 0) {
		struct shm_op *op = far_shm_op_at(queue, queue->cursor);
		const uint8_t *from;
		int64_t cost;
		int rc;

		if (op->kind == FAR_OP_WRITE)
			break;
		if (ahead != queue->tail && ahead - queue->cursor <= PREFETCH_OPS) {
			uint32_t left = queue->tail - ahead;
			uint32_t end = ahead + (left < PREFETCH_OPS ? left : PREFETCH_OPS);

			ops_prefetch(link, queue, ahead, end, &last_ahead);
			ahead = end;
		}
		rc = read_source(link, op, &last, &from);
		if (rc == -EAGAIN)
			break;
		ran++;
		if (rc < 0) {
			far_shm_op_end(queue, op, rc);
			continue;
		}
		if ((op->flags & FAR_OP_FENCE) && copied)
			loads_order(&tp->copies);
		cost = read_cost(copiers, op->bytes,
				 read_copy(&tp->copies, queue, op, from, (size_t)slice));
		/* Nothing behind it starts before it does. */
		if (op->flags & FAR_OP_FENCE)
			far_shm_copies_run(&tp->copies);
		copied = true;
		slice -= cost;
		tp->copy_left -= cost;
	}
	/* Before a completion says so, and loads of this turn are before those of the next: a fenced op may
	 * begin there. */
	if (copied)
		loads_order(&tp->copies);
	return ran;
}
