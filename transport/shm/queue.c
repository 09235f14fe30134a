/* queue.c - our one-sided lists: posted, completed, and WRITEs handed to the peer to pull. */
#include "transport/shm/shm_priv.h"

#include <string.h>

#include "base/alloc.h"

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
		if (memcmp(&far_shm_op_at(queue, i)->rkey, rkey, sizeof(*rkey)) == 0)
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
static inline uint64_t
op_measure(const struct far_link *link, const struct far_op *op, const struct far_mem **last)
{
	uint64_t bytes = 0;

	FAR_ASSERT(op->piece_count > 0);
	FAR_ASSERT(op->piece_count <= FAR_PIECES_MAX);
	FAR_ASSERT(op->kind == FAR_OP_READ || op->kind == FAR_OP_WRITE);
	FAR_ASSERT(op->crc32c == NULL ||
		   (op->kind == FAR_OP_WRITE ? link->sums_from != 0 : link->sums_reads));
	for (uint32_t p = 0; p < op->piece_count; p++) {
		const struct far_piece *piece = &op->pieces[p];
		const struct far_mem *mem = piece->mem;
		uintptr_t offset = (uintptr_t)piece->addr - (uintptr_t)mem->base;

		if (mem != *last) {
			FAR_ASSERT(mem->tp == link->tp);
			FAR_ASSERT(mem->rights & FAR_RIGHT_LOCAL);
			*last = mem;
		}
		FAR_ASSERT(offset <= mem->size_bytes);
		FAR_ASSERT(piece->size_bytes <= mem->size_bytes - offset);
		bytes += piece->size_bytes;
	}
	return bytes;
}

static void
list_measure(const struct far_link *link, const struct far_op *ops, int count, uint32_t *pieces_out,
	     uint64_t *bytes_out, bool *writes_out)
{
	const struct far_mem *last = NULL;
	uint32_t pieces = 0;
	uint64_t bytes = 0;
	bool writes = false;

	for (int i = 0; i < count; i++) {
		bytes += op_measure(link, &ops[i], &last);
		pieces += ops[i].piece_count;
		writes |= ops[i].kind == FAR_OP_WRITE;
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

static inline void
op_push(struct shm_queue *queue, const struct far_op *from, struct mem_run *run)
{
	struct shm_op *op = far_shm_op_at(queue, queue->tail);
	uint32_t first = queue->piece_tail;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < from->piece_count; i++) {
		*far_shm_piece_at(queue, first + i) = from->pieces[i];
		bytes += from->pieces[i].size_bytes;
		run_add(run, from->pieces[i].mem, true);
	}
	*op = (struct shm_op){
		.rkey = from->rkey,
		.addr = from->remote_addr,
		.token = from->token,
		.bytes = bytes,
		.crc32c = from->crc32c,
		.piece_first = (uint16_t)(first & (SHM_PIECES_QUEUED - 1)),
		.piece_count = (uint8_t)from->piece_count,
		.kind = (uint8_t)from->kind,
		.flags = (uint8_t)from->flags,
	};
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
		struct far_piece *piece = far_shm_piece_at(queue, op->piece_first + i);

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
		struct far_piece *piece = far_shm_piece_at(queue, op->piece_first + i);
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
		struct shm_op *op = far_shm_op_at(queue, queue->cursor);

		/* In order: a WRITE may be fenced behind the READ before it. */
		if (op->kind == FAR_OP_READ)
			break;
		if (count == 0 && !far_shm_ring_has_room(link, sizeof(pieces)))
			break;
		rc = write_check(link, queue, op);
		if (rc < 0) {
			link->write_failures++;
			far_shm_op_end(queue, op, rc);
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
		struct shm_op *op = far_shm_op_at(queue, queue->ack);

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
			op->status = (int16_t)status;
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
		struct shm_op *op = far_shm_op_at(queue, at);

		for (uint32_t i = 0; i < op->piece_count; i++)
			run_add(&run, far_shm_piece_at(queue, piece++)->mem, false);
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

/* Goes on to the next op with a token that is done, and so is all before it. NULL: there is none yet. */
static const struct shm_op *
completion_next(struct shm_queue *queue)
{
	while (queue->scan != queue->cursor) {
		const struct shm_op *op = far_shm_op_at(queue, queue->scan);

		if (!op->done)
			return NULL;
		queue->scan++;
		if (op->status != 0 && queue->first_failure == 0)
			queue->first_failure = op->status;
		if (op->token != 0)
			return op;
	}
	return NULL;
}

int
far_shm_queue_complete(struct shm_link *link, struct shm_queue *queue)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	const struct shm_op *op;
	int told = 0;

	while (tp->budget > 0 && (op = completion_next(queue)) != NULL) {
		struct far_event event = {
			.kind = FAR_EV_DONE, .status = queue->first_failure, .token = op->token};

		queue->first_failure = 0;
		ops_release(link, queue, queue->scan);
		if (tp->bytes_max != 0)
			refused_wake(tp, queue->idx);
		told++;
		far_shm_link_emit(link, &event);
	}
	if ((int32_t)(queue->ack - queue->scan) < 0)
		queue->ack = queue->scan;
	return told;
}

void
far_shm_queue_abort(struct shm_queue *queue, int rc)
{
	for (uint32_t i = queue->scan; i != queue->tail; i++) {
		struct shm_op *op = far_shm_op_at(queue, i);

		if (op->done)
			continue;
		op->done = true;
		op->status = (int16_t)rc;
	}
	queue->cursor = queue->tail;
}
