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
static size_t
copy_lines(uint8_t *to, const uint8_t *from, size_t size_bytes)
{
	size_t i = 0;

	if ((uintptr_t)from % sizeof(__m128i) != 0)
		return 0;
	for (; i + LINE_BYTES <= size_bytes; i += LINE_BYTES) {
		__m128i a, b, c, d;

		/* Not left to the compiler, who might load a word twice. */
		__asm__ volatile("movdqa (%4), %0\n\t"
				 "movdqa 16(%4), %1\n\t"
				 "movdqa 32(%4), %2\n\t"
				 "movdqa 48(%4), %3"
				 : "=&x"(a), "=&x"(b), "=&x"(c), "=x"(d)
				 : "r"(from + i)
				 : "memory");
		_mm_storeu_si128((void *)(to + i), a);
		_mm_storeu_si128((void *)(to + i + 16), b);
		_mm_storeu_si128((void *)(to + i + 32), c);
		_mm_storeu_si128((void *)(to + i + 48), d);
	}
	return i;
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
static void
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

/*
 * Finds what a READ names, anew for each slice: the peer may take a region back in between.
 * Returns 0, -EAGAIN (its announcement may be waiting in the socket), or the op's status.
 */
static int
read_source(struct shm_link *link, struct shm_op *op, const uint8_t **out)
{
	struct shm_region *region;
	uint64_t nonce, id;

	far_shm_rkey_split(&op->rkey, &nonce, &id);
	if (nonce != link->peer_nonce)
		return -ESTALE;
	region = far_shm_region_find(link, id);
	if (region == NULL) {
		if (op->drain_mark == 0) {
			op->drain_mark = link->drained + 1;
			link->rx_ready = true;
		}
		return link->drained < op->drain_mark ? -EAGAIN : -ESTALE;
	}
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
read_copy(struct shm_copies *copies, struct shm_queue *queue, struct shm_op *op,
	  const uint8_t *from, size_t slice)
{
	size_t copied = 0;

	while (queue->piece_idx < op->piece_count && copied < slice) {
		struct far_piece *piece =
			far_shm_piece_at(queue, op->piece_first + queue->piece_idx);
		size_t size = piece->size_bytes - queue->piece_offset;

		if (size > slice - copied)
			size = slice - copied;
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
	if (queue->piece_idx == op->piece_count)
		far_shm_op_end(queue, op, 0);
	return copied;
}

/*
 * Small READs are all cache misses: the lines of an op some way ahead are asked for while this one
 * is copied. A hint that may be wrong in everything: the op itself is checked when its turn comes.
 */
static void
op_prefetch(struct shm_link *link, const struct shm_queue *queue, uint32_t idx)
{
	const struct shm_region *region;
	const struct shm_op *op;
	const uint8_t *to;
	uint64_t nonce, id;

	if ((int32_t)(queue->tail - idx) <= 0)
		return;
	op = far_shm_op_at(queue, idx);
	if (op->kind != FAR_OP_READ || op->bytes > PREFETCH_OP_BYTES_MAX)
		return;
	far_shm_rkey_split(&op->rkey, &nonce, &id);
	region = far_shm_region_find(link, id);
	if (region == NULL || region->base == NULL || op->addr >= region->size_bytes)
		return;
	to = far_shm_piece_at(queue, op->piece_first)->addr;
	/* Data, whose lines are asked for by whoever copies it. */
	if (op->bytes >= STREAM_BYTES_MIN && SHM_TP(link->link.tp)->copies.helpers != NULL)
		return;
	if (op->bytes >= STREAM_BYTES_MIN) {
		__builtin_prefetch(to, 1);
		for (uint64_t at = 0; at < PREFETCH_BYTES; at += LINE_BYTES)
			__builtin_prefetch(region->base + op->addr + at);
		return;
	}
	for (uint64_t at = 0; at < op->bytes && at < PREFETCH_BYTES; at += LINE_BYTES) {
		__builtin_prefetch(region->base + op->addr + at);
		__builtin_prefetch(to + at, 1);
	}
}

/* Of the slice, which is as many times as long as threads copy: what they do not share counts so often. */
static int64_t
read_cost(const struct shm_copies *copies, const struct shm_op *op, size_t size)
{
	int64_t copiers = far_shm_copiers(copies);
	int64_t bytes = (int64_t)size;

	return OP_COST_BYTES * copiers + (op->bytes < STREAM_BYTES_MIN ? bytes * copiers : bytes);
}

int
far_shm_queue_run(struct shm_link *link, struct shm_queue *queue)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	uint32_t ahead = queue->cursor;
	int64_t slice = SHM_SLICE_BYTES * far_shm_copiers(&tp->copies);
	bool copied = false;
	int ran = 0;

	while (queue->cursor != queue->tail && slice > 0) {
		struct shm_op *op = far_shm_op_at(queue, queue->cursor);
		const uint8_t *from;
		int64_t cost;
		size_t size;
		int rc;

		if (op->kind == FAR_OP_WRITE)
			break;
		for (; ahead != queue->cursor + PREFETCH_OPS; ahead++)
			op_prefetch(link, queue, ahead);
		rc = read_source(link, op, &from);
		if (rc == -EAGAIN)
			break;
		ran++;
		if (rc < 0) {
			far_shm_op_end(queue, op, rc);
			continue;
		}
		if ((op->flags & FAR_OP_FENCE) && copied) {
			/* All earlier loads before the loads of this one; partial streams too. */
			far_shm_copies_run(&tp->copies);
			far_mem_publish();
			atomic_thread_fence(memory_order_seq_cst);
		}
		size = read_copy(&tp->copies, queue, op, from, (size_t)slice);
		/* Nothing behind it starts before it does. */
		if (op->flags & FAR_OP_FENCE)
			far_shm_copies_run(&tp->copies);
		copied = true;
		cost = read_cost(&tp->copies, op, size);
		slice -= cost;
		tp->copy_left -= cost;
	}
	/* Streaming stores are visible before a completion says so, and loads of this turn are
	 * before those of the next: a fenced op may begin there. */
	if (copied) {
		far_shm_copies_run(&tp->copies);
		far_mem_publish();
		atomic_thread_fence(memory_order_seq_cst);
	}
	return ran;
}
