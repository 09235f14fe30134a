/* queue.c - our one-sided lists: cut into work requests, posted a chain at a time, told in order. */
#include "transport/verbs/verbs_priv.h"

#include <string.h>

#include "base/alloc.h"
#include "base/publish.h"

_Static_assert((VERBS_OPS_MAX & (VERBS_OPS_MAX - 1)) == 0, "a power of two");

static struct far_piece *
piece_at(const struct verbs_queue *queue, uint32_t idx)
{
	return &queue->pieces[idx % VERBS_PIECES_QUEUED];
}
_Static_assert((VERBS_PIECES_QUEUED & (VERBS_PIECES_QUEUED - 1)) == 0, "a power of two");

int
far_verbs_queue_init(struct verbs_queue *queue)
{
	queue->ops = far_zalloc_array(VERBS_OPS_MAX, sizeof(*queue->ops));
	queue->pieces = far_zalloc_array((size_t)VERBS_PIECES_QUEUED, sizeof(*queue->pieces));
	return queue->ops == NULL || queue->pieces == NULL ? -ENOMEM : 0;
}

void
far_verbs_queue_fini(struct verbs_queue *queue)
{
	FAR_ASSERT(far_verbs_queue_empty(queue));
	far_free(queue->ops);
	far_free(queue->pieces);
	*queue = (struct verbs_queue){0};
}

bool
far_verbs_queue_empty(const struct verbs_queue *queue)
{
	return queue->head == queue->tail;
}

bool
far_verbs_queue_names(const struct verbs_queue *queue, const struct verbs_peer_key *key)
{
	for (uint32_t i = queue->head; i != queue->tail; i++)
		if (far_verbs_op_at(queue, i)->key == key)
			return true;
	return false;
}

/* ---- posting ---- */

static bool
queue_takes(const struct verbs_link *link, uint32_t ops, uint32_t pieces, uint64_t bytes)
{
	const struct verbs_transport *tp = VERBS_TP(link->link.tp);
	const struct verbs_queue *queue = &link->queue;

	if (queue->tail - queue->head + ops > VERBS_OPS_MAX ||
	    queue->piece_tail - queue->piece_head + pieces > VERBS_PIECES_QUEUED)
		return false;
	/* What is larger than a limit goes alone, instead of never. */
	if (tp->peer_bytes_max != 0 && queue->bytes != 0 &&
	    queue->bytes + bytes > tp->peer_bytes_max)
		return false;
	return tp->bytes_max == 0 || tp->queued_bytes == 0 ||
	       tp->queued_bytes + bytes <= tp->bytes_max;
}

bool
far_verbs_queue_ready(const struct verbs_link *link)
{
	const struct verbs_queue *queue = &link->queue;

	return queue->refused.set &&
	       queue_takes(link, queue->refused.ops, queue->refused.pieces, queue->refused.bytes);
}

/* The caller's list is our own code: what is wrong in it is asserted. */
static void
list_measure(const struct far_link *link, const struct far_op *ops, int count, uint32_t *pieces_out,
	     uint64_t *bytes_out)
{
	*pieces_out = 0;
	*bytes_out = 0;
	for (int i = 0; i < count; i++) {
		const struct far_op *op = &ops[i];

		FAR_ASSERT(op->crc32c == NULL); /* sums_from is 0 */
		FAR_ASSERT(op->piece_count > 0);
		FAR_ASSERT(op->piece_count <= FAR_PIECES_MAX);
		FAR_ASSERT(op->kind == FAR_OP_READ || op->kind == FAR_OP_WRITE);
		FAR_ASSERT(op->kind != FAR_OP_READ || !VERBS_TP(link->tp)->posts_no_reads);
		for (uint32_t p = 0; p < op->piece_count; p++) {
			const struct far_piece *piece = &op->pieces[p];
			const struct far_mem *mem = piece->mem;
			uintptr_t offset = (uintptr_t)piece->addr - (uintptr_t)mem->base;

			FAR_ASSERT(mem->tp == link->tp);
			FAR_ASSERT(mem->rights & FAR_RIGHT_LOCAL);
			FAR_ASSERT(offset <= mem->size_bytes);
			FAR_ASSERT(piece->size_bytes <= mem->size_bytes - offset);
			*bytes_out += piece->size_bytes;
		}
		*pieces_out += op->piece_count;
	}
}

static void
op_push(struct verbs_link *link, const struct far_op *from)
{
	struct verbs_queue *queue = &link->queue;
	struct verbs_op *op = far_verbs_op_at(queue, queue->tail++);

	*op = (struct verbs_op){
		.addr = from->remote_addr,
		.token = from->token,
		.piece_count = from->piece_count,
		.kind = (uint8_t)from->kind,
		.flags = (uint8_t)from->flags,
	};
	for (uint32_t i = 0; i < from->piece_count; i++) {
		*piece_at(queue, queue->piece_tail++) = from->pieces[i];
		op->bytes += from->pieces[i].size_bytes;
		FAR_CONTAINER_OF(from->pieces[i].mem, struct verbs_mem, mem)->ops++;
	}
	/* A key that is not known, or does not allow it, is no reason to bother the device. */
	op->status = far_verbs_key_find(link, from, op->bytes, &op->key);
	if (op->key != NULL)
		op->key->ops++;
	op->done = op->status < 0 || op->bytes == 0;
	if (op->kind == FAR_OP_WRITE)
		queue->writes_pushed++;
	if (op->kind == FAR_OP_WRITE && op->status < 0)
		queue->write_failures++;
}

int
far_verbs_post(struct far_link *flink, const struct far_op *ops, int count)
{
	struct verbs_link *link = VERBS_LINK(flink);
	struct verbs_transport *tp = VERBS_TP(flink->tp);
	struct verbs_queue *queue = &link->queue;
	uint32_t pieces;
	uint64_t bytes;

	if (far_verbs_is_child(tp))
		return -EPERM;
	if (!flink->up)
		return -ENOTCONN;
	list_measure(flink, ops, count, &pieces, &bytes);
	if (!queue_takes(link, (uint32_t)count, pieces, bytes)) {
		queue->refused.set = true;
		queue->refused.ops = (uint32_t)count;
		queue->refused.pieces = pieces;
		queue->refused.bytes = bytes;
		return -EAGAIN;
	}
	queue->bytes += bytes;
	tp->queued_bytes += bytes;
	for (int i = 0; i < count; i++)
		op_push(link, &ops[i]);
	far_spin_restart(&tp->spin);
	(void)far_verbs_queue_run(link);
	if (far_verbs_op_at(queue, queue->scan)->done || queue->cursor != queue->tail)
		far_verbs_link_wake(link);
	return 0;
}

/* ---- work requests ---- */

/* A chain that is being made, in the transport's own arrays. */
struct chain {
	struct ibv_send_wr *wrs;
	struct ibv_sge *sges;
	uint32_t count;
	uint32_t room;
	uint32_t sge_count;
	uint64_t wr_bytes; /* of the last one */
};

static struct ibv_send_wr *
wr_begin(struct verbs_link *link, struct chain *chain, const struct verbs_op *op)
{
	struct verbs_queue *queue = &link->queue;
	const struct verbs_peer_key *key = op->key;
	uint64_t addr = op->addr + queue->op_offset;
	struct ibv_send_wr *wr = &chain->wrs[chain->count];

	*wr = (struct ibv_send_wr){
		.wr_id = far_verbs_wr_id(link, (link->sq_tail + chain->count) % link->sq_depth),
		.sg_list = &chain->sges[chain->sge_count],
		.opcode = op->kind == FAR_OP_READ ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE,
		.wr.rdma = {.remote_addr = key->base + addr,
			    .rkey = key->rkeys[addr / key->slice_bytes]},
	};
	if (queue->fence)
		wr->send_flags |= IBV_SEND_FENCE;
	queue->fence = false;
	if (chain->count > 0)
		chain->wrs[chain->count - 1].next = wr;
	return wr;
}

/* Gathers what of the op at the cursor fits one work request: so many pieces, so many bytes, one
 * slice of the peer's. */
static void
wr_fill(struct verbs_link *link, struct chain *chain, const struct verbs_op *op)
{
	struct verbs_queue *queue = &link->queue;
	const struct verbs_device *device = link->device;
	struct ibv_send_wr *wr = wr_begin(link, chain, op);
	int sges_max = (int)(op->kind == FAR_OP_READ ? device->read_sges_max : device->sges_max);
	uint64_t addr = op->addr + queue->op_offset;
	uint64_t left = op->key->slice_bytes - addr % op->key->slice_bytes;

	if (left > device->wr_bytes_max)
		left = device->wr_bytes_max;
	if (left > op->bytes - queue->op_offset)
		left = op->bytes - queue->op_offset;
	chain->wr_bytes = 0;
	while (left > 0 && wr->num_sge < sges_max) {
		const struct far_piece *piece = piece_at(queue, queue->piece);
		uint8_t *local = (uint8_t *)piece->addr + queue->piece_offset;
		uint64_t size = piece->size_bytes - queue->piece_offset, same_key;
		uint32_t lkey;

		if (size == 0) {
			queue->piece++;
			queue->piece_offset = 0;
			continue;
		}
		lkey = far_verbs_lkey(device->tp,
				      FAR_CONTAINER_OF(piece->mem, struct verbs_mem, mem),
				      device->idx, local, &same_key);
		size = size < left ? size : left;
		size = size < same_key ? size : same_key;
		chain->sges[chain->sge_count++] = (struct ibv_sge){
			.addr = (uintptr_t)local, .length = (uint32_t)size, .lkey = lkey};
		wr->num_sge++;
		left -= size;
		chain->wr_bytes += size;
		queue->op_offset += size;
		queue->piece_offset += (uint32_t)size;
	}
	chain->count++;
}

static void
wr_signal(struct verbs_link *link, struct ibv_send_wr *wr)
{
	wr->send_flags |= IBV_SEND_SIGNALED;
	link->sq_unsignalled = 0;
	link->sq_unsignalled_bytes = 0;
}

/* A token asks to be told; so does every quarter of the queue, that its places come back, and what takes
 * long. */
static void
wr_account(struct verbs_link *link, struct chain *chain, uint32_t op_idx, bool last)
{
	const struct verbs_op *op = far_verbs_op_at(&link->queue, op_idx);

	link->sq[(link->sq_tail + chain->count - 1) % link->sq_depth] =
		(struct verbs_wr){.op = op_idx, .kind = VERBS_WR_OP, .last = last};
	link->sq_unsignalled++;
	link->sq_unsignalled_bytes += chain->wr_bytes;
	if ((last && op->token != 0) || link->sq_unsignalled >= link->sq_depth / 4 ||
	    link->sq_unsignalled_bytes >= far_verbs_tune.signal_bytes)
		wr_signal(link, &chain->wrs[chain->count - 1]);
}

/* The fence of an op that ended before it began is the next one's: what is behind it in the list waits
 * for the READs before it all the same. */
static void
fence_note(struct verbs_queue *queue, const struct verbs_op *op)
{
	if (op->flags & FAR_OP_FENCE)
		queue->fence = true;
}

static void
chain_make(struct verbs_link *link, struct chain *chain)
{
	struct verbs_queue *queue = &link->queue;

	while (queue->cursor != queue->tail && chain->count < chain->room) {
		struct verbs_op *op = far_verbs_op_at(queue, queue->cursor);
		bool whole;

		/* The first work request of it: the others are behind that. */
		if (queue->op_offset == 0)
			fence_note(queue, op);
		if (!op->done) {
			wr_fill(link, chain, op);
			whole = queue->op_offset == op->bytes;
			wr_account(link, chain, queue->cursor, whole);
			if (!whole)
				continue;
		}
		/* Its last piece may have ended with it, or stand behind as one without bytes. */
		queue->cursor++;
		queue->op_offset = 0;
		queue->piece_offset = 0;
		queue->piece = queue->piece_next + op->piece_count;
		queue->piece_next = queue->piece;
		queue->writes_begun += op->kind == FAR_OP_WRITE;
	}
}

int
far_verbs_queue_run(struct verbs_link *link)
{
	struct verbs_transport *tp = VERBS_TP(link->link.tp);
	uint32_t room = far_verbs_sq_room(link);
	struct chain chain = {.wrs = tp->wrs, .sges = tp->sges};
	struct ibv_send_wr *bad = NULL;

	if (!link->ready || room <= VERBS_SQ_FRAMES)
		return 0;
	chain.room = room - VERBS_SQ_FRAMES;
	chain_make(link, &chain);
	if (chain.count == 0)
		return 0;
	far_verbs_link_busy(link);
	link->ops_out += chain.count;
	wr_signal(link, &chain.wrs[chain.count - 1]);
	link->sq_tail += chain.count;
	if (far_verbs_lib->ibv_post_send(link->qp, chain.wrs, &bad) != 0)
		link->ops_out -= far_verbs_chain_refused(link, chain.wrs, chain.count, bad);
	return (int)chain.count;
}

/* ---- completions ---- */

/* Takes head..scan out of the queue: their memory is the owner's again. */
static void
ops_release(struct verbs_link *link)
{
	struct verbs_transport *tp = VERBS_TP(link->link.tp);
	struct verbs_queue *queue = &link->queue;

	for (; queue->head != queue->scan; queue->head++) {
		struct verbs_op *op = far_verbs_op_at(queue, queue->head);

		for (uint32_t i = 0; i < op->piece_count; i++) {
			struct far_piece *piece = piece_at(queue, queue->piece_head++);
			struct verbs_mem *mem = FAR_CONTAINER_OF(piece->mem, struct verbs_mem, mem);

			FAR_ASSERT(mem->ops > 0);
			mem->ops--;
		}
		queue->bytes -= op->bytes;
		tp->queued_bytes -= op->bytes;
		if (op->key == NULL && op->kind == FAR_OP_WRITE)
			queue->write_failures--;
		if (op->key != NULL) {
			op->key->ops--;
			far_verbs_key_release(op->key);
			op->key = NULL;
		}
	}
}

/* The limit of the transport has room: whoever it refused looks again. */
static void
refused_wake(struct verbs_transport *tp)
{
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct verbs_link *link = FAR_CONTAINER_OF(it, struct verbs_link, all_node);

		if (link->queue.refused.set)
			far_verbs_link_wake(link);
	}
}

/* Ops that ended before they began wait here for those before them. */
static void
cursor_follow(struct verbs_queue *queue)
{
	while ((int32_t)(queue->scan - queue->cursor) > 0) {
		const struct verbs_op *op = far_verbs_op_at(queue, queue->cursor++);

		fence_note(queue, op);
		queue->piece_next += op->piece_count;
		queue->piece = queue->piece_next;
		queue->writes_begun += op->kind == FAR_OP_WRITE;
	}
}

int
far_verbs_queue_complete(struct verbs_link *link)
{
	struct verbs_transport *tp = VERBS_TP(link->link.tp);
	struct verbs_queue *queue = &link->queue;
	int told = 0;

	while (queue->scan != queue->tail && tp->budget > 0) {
		struct verbs_op *op = far_verbs_op_at(queue, queue->scan);
		struct far_event event = {.kind = FAR_EV_DONE, .token = op->token};

		if (!op->done)
			break;
		queue->scan++;
		cursor_follow(queue);
		if (queue->first_failure == 0)
			queue->first_failure = op->status;
		if (op->token == 0)
			continue;
		event.status = queue->first_failure;
		queue->first_failure = 0;
		ops_release(link);
		if (tp->bytes_max != 0)
			refused_wake(tp);
		told++;
		far_verbs_link_emit(link, &event);
	}
	return told;
}

void
far_verbs_queue_abort(struct verbs_queue *queue, int rc)
{
	for (uint32_t i = queue->scan; i != queue->tail; i++) {
		struct verbs_op *op = far_verbs_op_at(queue, i);

		if (op->done)
			continue;
		op->done = true;
		/* What the device said of a part of it is the better reason. */
		if (op->status == 0)
			op->status = rc;
	}
}
