/* queue.c - our one-sided lists: READs are copied here, WRITEs are handed to the peer to pull. */
#include "transport/shm/shm_priv.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <string.h>

#include "base/alloc.h"
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

#define PIECE_MASK (SHM_PIECES_QUEUED - 1)
_Static_assert((SHM_PIECES_QUEUED & PIECE_MASK) == 0, "a power of two");

static struct shm_op *
op_at(const struct shm_queue *queue, uint32_t idx)
{
	return &queue->ops[idx & (queue->op_count - 1)];
}

static struct far_piece *
piece_at(const struct shm_queue *queue, uint32_t idx)
{
	return &queue->pieces[idx & PIECE_MASK];
}

int
far_shm_queue_init(struct shm_queue *queue, uint8_t idx, uint32_t op_count)
{
	FAR_ASSERT((op_count & (op_count - 1)) == 0);
	FAR_ASSERT(op_count >= FAR_POST_OPS_MAX);
	queue->idx = idx;
	queue->op_count = op_count;
	queue->ops = far_zalloc_array(op_count, sizeof(*queue->ops));
	queue->pieces = far_zalloc_array(SHM_PIECES_QUEUED, sizeof(*queue->pieces));
	return queue->ops == NULL || queue->pieces == NULL ? -ENOMEM : 0;
}

void
far_shm_queue_fini(struct shm_queue *queue)
{
	FAR_ASSERT(far_shm_queue_empty(queue));
	far_free(queue->ops);
	far_free(queue->pieces);
	*queue = (struct shm_queue){0};
}

bool
far_shm_queue_empty(const struct shm_queue *queue)
{
	return queue->head == queue->tail;
}

bool
far_shm_queue_names(const struct shm_queue *queue, const struct far_rkey *rkey)
{
	for (uint32_t i = queue->head; i != queue->tail; i++) {
		if (memcmp(&op_at(queue, i)->rkey, rkey, sizeof(*rkey)) == 0)
			return true;
	}
	return false;
}

/* ---- posting ---- */

static bool
queue_takes(const struct shm_link *link, const struct shm_queue *queue, uint32_t ops,
	    uint32_t pieces, uint64_t bytes)
{
	const struct shm_transport *tp = SHM_TP(link->link.tp);
	uint64_t all = tp->queued_bytes[queue->idx];

	if (queue->op_count - (queue->tail - queue->head) < ops)
		return false;
	if (SHM_PIECES_QUEUED - (queue->piece_tail - queue->piece_head) < pieces)
		return false;
	/* What is larger than a limit goes alone, instead of never. */
	if (tp->peer_bytes_max != 0 && queue->bytes != 0 &&
	    queue->bytes + bytes > tp->peer_bytes_max)
		return false;
	return tp->bytes_max == 0 || all == 0 || all + bytes <= tp->bytes_max;
}

bool
far_shm_queue_ready(const struct shm_link *link, const struct shm_queue *queue)
{
	return queue->refused.set && queue_takes(link, queue, queue->refused.ops,
						 queue->refused.pieces, queue->refused.bytes);
}

/* The caller's list is our own code: what is wrong in it is asserted. */
static void
list_measure(const struct far_link *link, const struct far_op *ops, int count, uint32_t *pieces_out,
	     uint64_t *bytes_out, bool *writes_out)
{
	uint32_t pieces = 0;
	uint64_t bytes = 0;
	bool writes = false;

	for (int i = 0; i < count; i++) {
		const struct far_op *op = &ops[i];

		FAR_ASSERT(op->piece_count > 0);
		FAR_ASSERT(op->piece_count <= FAR_PIECES_MAX);
		FAR_ASSERT(op->kind == FAR_OP_READ || op->kind == FAR_OP_WRITE);
		FAR_ASSERT(op->crc32c == NULL || op->kind == FAR_OP_WRITE);
		FAR_ASSERT(op->crc32c == NULL || link->sums_from != 0);
		for (uint32_t p = 0; p < op->piece_count; p++) {
			const struct far_piece *piece = &op->pieces[p];
			const struct far_mem *mem = piece->mem;
			uintptr_t offset = (uintptr_t)piece->addr - (uintptr_t)mem->base;

			FAR_ASSERT(mem->tp == link->tp);
			FAR_ASSERT(mem->rights & FAR_RIGHT_LOCAL);
			FAR_ASSERT(offset <= mem->size_bytes);
			FAR_ASSERT(piece->size_bytes <= mem->size_bytes - offset);
			bytes += piece->size_bytes;
		}
		pieces += op->piece_count;
		writes |= op->kind == FAR_OP_WRITE;
	}
	*pieces_out = pieces;
	*bytes_out = bytes;
	*writes_out = writes;
}

/* Ops that name one memory behind each other: counted together. */
struct mem_run {
	struct far_mem *mem;
	uint32_t count;
};

static void
run_end(struct mem_run *run, bool pushed)
{
	struct shm_mem *mem;

	if (run->mem == NULL)
		return;
	mem = FAR_CONTAINER_OF(run->mem, struct shm_mem, mem);
	FAR_ASSERT(pushed || mem->ops >= run->count);
	mem->ops += pushed ? run->count : 0U - run->count;
}

static inline void
run_add(struct mem_run *run, struct far_mem *mem, bool pushed)
{
	if (run->mem != mem) {
		run_end(run, pushed);
		*run = (struct mem_run){.mem = mem};
	}
	run->count++;
}

static void
op_push(struct shm_queue *queue, const struct far_op *from, struct mem_run *run)
{
	struct shm_op *op = op_at(queue, queue->tail);
	uint32_t first = queue->piece_tail;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < from->piece_count; i++) {
		*piece_at(queue, first + i) = from->pieces[i];
		bytes += from->pieces[i].size_bytes;
		run_add(run, from->pieces[i].mem, true);
	}
	*op = (struct shm_op){
		.rkey = from->rkey,
		.addr = from->remote_addr,
		.token = from->token,
		.bytes = bytes,
		.piece_first = first,
		.piece_count = (uint16_t)from->piece_count,
		.kind = (uint8_t)from->kind,
		.flags = (uint8_t)from->flags,
	};
	if (from->kind == FAR_OP_WRITE)
		op->crc32c = from->crc32c;
	queue->piece_tail = first + from->piece_count;
	queue->tail++;
}

int
far_shm_post(struct far_link *flink, const struct far_op *ops, int count)
{
	struct shm_link *link = SHM_LINK(flink);
	struct shm_transport *tp = SHM_TP(flink->tp);
	struct mem_run run = {.mem = NULL};
	struct shm_queue *queue;
	uint32_t pieces;
	uint64_t bytes;
	bool writes;

	if (far_shm_is_child(tp))
		return -EPERM;
	if (!flink->up)
		return -ENOTCONN;
	list_measure(flink, ops, count, &pieces, &bytes, &writes);
	queue = writes ? &link->writes : &link->reads;
	if (!queue_takes(link, queue, (uint32_t)count, pieces, bytes)) {
		queue->refused.set = true;
		queue->refused.ops = (uint32_t)count;
		queue->refused.pieces = pieces;
		queue->refused.bytes = bytes;
		return -EAGAIN;
	}
	if (far_shm_queue_empty(queue)) {
		/* Short lists stay in the same few lines of the rings. */
		queue->head = queue->scan = queue->ack = queue->cursor = queue->tail = 0;
		queue->piece_head = queue->piece_tail = 0;
	}
	for (int i = 0; i < count; i++)
		op_push(queue, &ops[i], &run);
	run_end(&run, true);
	queue->bytes += bytes;
	tp->queued_bytes[queue->idx] += bytes;
	/* A message that is sent next has to be behind them. */
	if (writes)
		far_shm_writes_send(link);
	far_shm_link_wake(link);
	return 0;
}

/* ---- READs ---- */

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

static void
op_end(struct shm_queue *queue, struct shm_op *op, int status)
{
	op->done = true;
	op->status = status;
	queue->cursor++;
	queue->piece_idx = 0;
	queue->piece_offset = 0;
	queue->op_offset = 0;
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
		struct far_piece *piece = piece_at(queue, op->piece_first + queue->piece_idx);
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
		op_end(queue, op, 0);
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
	op = op_at(queue, idx);
	if (op->kind != FAR_OP_READ || op->bytes > PREFETCH_OP_BYTES_MAX)
		return;
	far_shm_rkey_split(&op->rkey, &nonce, &id);
	region = far_shm_region_find(link, id);
	if (region == NULL || region->base == NULL || op->addr >= region->size_bytes)
		return;
	to = piece_at(queue, op->piece_first)->addr;
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
		struct shm_op *op = op_at(queue, queue->cursor);
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
			op_end(queue, op, rc);
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

/* ---- WRITEs ---- */

/* What can be told here and now, without the peer. */
static int
write_check(const struct shm_link *link, const struct shm_queue *queue, const struct shm_op *op)
{
	uint64_t nonce, id;

	far_shm_rkey_split(&op->rkey, &nonce, &id);
	if (nonce != link->peer_nonce)
		return -ESTALE;
	for (uint32_t i = 0; i < op->piece_count; i++) {
		struct far_piece *piece = piece_at(queue, op->piece_first + i);

		if (FAR_CONTAINER_OF(piece->mem, struct shm_mem, mem)->fd < 0)
			return -EOPNOTSUPP;
	}
	return 0;
}

static uint32_t
write_describe(struct shm_link *link, const struct shm_op *op, struct shm_frame_write *out)
{
	const struct shm_queue *queue = &link->writes;
	uint32_t flags = op->crc32c != NULL ? SHM_WRITE_SUM : 0;
	uint64_t addr = op->addr;

	for (uint32_t i = 0; i < op->piece_count; i++) {
		struct far_piece *piece = piece_at(queue, op->piece_first + i);
		struct shm_mem *mem = FAR_CONTAINER_OF(piece->mem, struct shm_mem, mem);

		far_shm_mem_announce(link, mem);
		out[i] = (struct shm_frame_write){
			.rkey = op->rkey,
			.addr = addr,
			.source = mem->region,
			.source_offset = (uintptr_t)piece->addr - (uintptr_t)mem->mem.base,
			.seq = op->seq,
			.size_bytes = piece->size_bytes,
			.flags = flags | (i + 1U == op->piece_count ? SHM_WRITE_LAST : 0),
		};
		addr += piece->size_bytes;
	}
	return op->piece_count;
}

void
far_shm_writes_send(struct shm_link *link)
{
	struct shm_queue *queue = &link->writes;
	struct shm_frame_write pieces[SHM_WRITE_PIECES_MAX];
	uint32_t count = 0;
	int rc;

	while (link->link.up && queue->cursor != queue->tail) {
		struct shm_op *op = op_at(queue, queue->cursor);

		/* In order: a WRITE may be fenced behind the READ before it. */
		if (op->kind == FAR_OP_READ)
			break;
		if (count == 0 && !far_shm_ring_has_room(link, sizeof(pieces)))
			break;
		rc = write_check(link, queue, op);
		if (rc < 0) {
			link->write_failures++;
			op_end(queue, op, rc);
			continue;
		}
		if (count + op->piece_count > SHM_WRITE_PIECES_MAX) {
			rc = far_shm_frame_push(link, SHM_FRAME_WRITE, pieces,
						count * sizeof(pieces[0]));
			FAR_ASSERT(rc != -EAGAIN);
			count = 0;
			continue;
		}
		op->seq = ++link->write_seq;
		count += write_describe(link, op, pieces + count);
		queue->cursor++;
	}
	if (count != 0 && link->link.up) {
		rc = far_shm_frame_push(link, SHM_FRAME_WRITE, pieces, count * sizeof(pieces[0]));
		FAR_ASSERT(rc != -EAGAIN);
	}
}

int
far_shm_writes_ack(struct shm_link *link, const struct shm_frame_write_done *done,
		   const uint8_t *sums)
{
	struct shm_queue *queue = &link->writes;
	uint32_t taken = 0;

	if (done->seq == 0 || done->seq > link->write_seq)
		return -EPROTO;
	while (queue->ack != queue->cursor) {
		struct shm_op *op = op_at(queue, queue->ack);

		if (!op->done) {
			int status = op->seq == done->seq ? done->status : 0;

			if (op->seq > done->seq)
				break;
			if (status == 0 && op->crc32c != NULL) {
				if (taken == done->sum_count)
					return -EPROTO;
				memcpy(op->crc32c, sums + taken * sizeof(*op->crc32c),
				       sizeof(*op->crc32c));
				taken++;
			}
			op->done = true;
			op->status = status;
		}
		queue->ack++;
	}
	return taken == done->sum_count ? 0 : -EPROTO;
}

/* ---- completions ---- */

/* Takes head..end out of the queue: their memory is the owner's again. */
static void
ops_release(struct shm_link *link, struct shm_queue *queue, uint32_t end)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	struct mem_run run = {.mem = NULL};
	uint32_t piece = queue->piece_head;
	uint64_t bytes = 0;

	for (uint32_t at = queue->head; at != end; at++) {
		struct shm_op *op = op_at(queue, at);

		for (uint32_t i = 0; i < op->piece_count; i++)
			run_add(&run, piece_at(queue, piece++)->mem, false);
		bytes += op->bytes;
		if (op->kind == FAR_OP_WRITE && op->seq == 0 && link->write_failures > 0)
			link->write_failures--;
	}
	run_end(&run, false);
	queue->head = end;
	queue->piece_head = piece;
	queue->bytes -= bytes;
	tp->queued_bytes[queue->idx] -= bytes;
}

/* The limit of the transport has room: whoever it refused looks again. */
static void
refused_wake(struct shm_transport *tp, uint8_t idx)
{
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct shm_link *link = FAR_CONTAINER_OF(it, struct shm_link, all_node);

		if (idx == 0 ? link->reads.refused.set : link->writes.refused.set)
			far_shm_link_wake(link);
	}
}

int
far_shm_queue_complete(struct shm_link *link, struct shm_queue *queue)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	int told = 0;

	while (queue->scan != queue->cursor && tp->budget > 0) {
		struct shm_op *op = op_at(queue, queue->scan);
		struct far_event event;

		if (!op->done)
			break;
		queue->scan++;
		if ((int32_t)(queue->ack - queue->scan) < 0)
			queue->ack = queue->scan;
		if (queue->first_failure == 0)
			queue->first_failure = op->status;
		if (op->token == 0)
			continue;
		event = (struct far_event){
			.kind = FAR_EV_DONE, .status = queue->first_failure, .token = op->token};
		queue->first_failure = 0;
		ops_release(link, queue, queue->scan);
		if (tp->bytes_max != 0)
			refused_wake(tp, queue->idx);
		told++;
		far_shm_link_emit(link, &event);
	}
	return told;
}

void
far_shm_queue_abort(struct shm_queue *queue, int rc)
{
	for (uint32_t i = queue->scan; i != queue->tail; i++) {
		struct shm_op *op = op_at(queue, i);

		if (op->done)
			continue;
		op->done = true;
		op->status = rc;
	}
	queue->cursor = queue->tail;
}
