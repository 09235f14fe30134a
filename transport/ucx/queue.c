/* queue.c - our one-sided lists: what was posted, what of it has ended, and who is told. */
#include "transport/ucx/ucx_priv.h"

#include <string.h>

#include "base/alloc.h"
#include "base/publish.h"

int
far_ucx_queue_init(struct ucx_queue *queue)
{
	far_list_init(&queue->all);
	far_list_init(&queue->asking);
	far_list_init(&queue->ending);
	queue->op_free = UCX_NONE;
	queue->piece_free = UCX_NONE;
	queue->list_free = UCX_NONE;
	queue->op_free_count = UCX_OPS_MAX;
	queue->piece_free_count = UCX_PIECES_QUEUED;
	queue->ops = far_zalloc_array(UCX_OPS_MAX, sizeof(*queue->ops));
	queue->pieces = far_zalloc_array(UCX_PIECES_QUEUED, sizeof(*queue->pieces));
	queue->lists = far_zalloc_array(UCX_OPS_MAX, sizeof(*queue->lists));
	queue->slots = far_zalloc_array(UCX_SERVE_MAX, sizeof(*queue->slots));
	queue->unacked = far_zalloc_array(UCX_OPS_MAX, sizeof(*queue->unacked));
	if (queue->ops == NULL || queue->pieces == NULL || queue->lists == NULL ||
	    queue->slots == NULL || queue->unacked == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < UCX_SERVE_MAX; i++)
		queue->slots[i] = (uint16_t)i;
	queue->slot_count = UCX_SERVE_MAX;
	return 0;
}

/* Takes one that was never made. */
void
far_ucx_queue_fini(struct ucx_queue *queue)
{
	FAR_ASSERT(queue->ops == NULL || far_ucx_queue_empty(queue));
	far_free(queue->ops);
	far_free(queue->pieces);
	far_free(queue->lists);
	far_free(queue->slots);
	far_free(queue->unacked);
	*queue = (struct ucx_queue){0};
}

bool
far_ucx_queue_empty(const struct ucx_queue *queue)
{
	return queue->op_free_count == UCX_OPS_MAX;
}

bool
far_ucx_queue_names(const struct ucx_queue *queue, const struct far_rkey *rkey)
{
	if (queue->ops == NULL)
		return false;
	for (struct far_list *it = queue->all.next; it != &queue->all; it = it->next) {
		const struct ucx_op_list *list = FAR_CONTAINER_OF(it, struct ucx_op_list, all_node);

		for (uint32_t i = list->head; i != UCX_NONE; i = queue->ops[i].next)
			if (memcmp(&queue->ops[i].rkey, rkey, sizeof(*rkey)) == 0)
				return true;
	}
	return false;
}

/* ---- entries ---- */

static uint32_t
op_take(struct ucx_queue *queue)
{
	uint32_t idx = queue->op_free;

	if (idx != UCX_NONE)
		queue->op_free = queue->ops[idx].next;
	else
		idx = queue->op_fresh++;
	FAR_ASSERT(idx < UCX_OPS_MAX);
	queue->op_free_count--;
	return idx;
}

static void
op_give(struct ucx_queue *queue, uint32_t idx)
{
	queue->ops[idx].generation++; /* a late answer does not name it any more */
	queue->ops[idx].next = queue->op_free;
	queue->op_free = idx;
	queue->op_free_count++;
}

static uint32_t
piece_take(struct ucx_queue *queue)
{
	uint32_t idx = queue->piece_free;

	if (idx != UCX_NONE)
		queue->piece_free = queue->pieces[idx].next;
	else
		idx = queue->piece_fresh++;
	FAR_ASSERT(idx < UCX_PIECES_QUEUED);
	queue->piece_free_count--;
	return idx;
}

static uint32_t
list_take(struct ucx_queue *queue)
{
	uint32_t idx = queue->list_free;

	if (idx != UCX_NONE)
		queue->list_free = queue->lists[idx].next;
	else
		idx = queue->list_fresh++;
	FAR_ASSERT(idx < UCX_OPS_MAX); /* each has an op at least */
	return idx;
}

/* ---- posting ---- */

static bool
queue_takes(const struct ucx_link *link, uint32_t ops, uint32_t pieces, uint64_t bytes)
{
	const struct ucx_transport *tp = UCX_TP(link->link.tp);
	const struct ucx_queue *queue = &link->queue;

	if (queue->op_free_count < ops || queue->piece_free_count < pieces)
		return false;
	/* What is larger than a limit goes alone, instead of never. */
	if (tp->peer_bytes_max != 0 && queue->bytes != 0 &&
	    queue->bytes + bytes > tp->peer_bytes_max)
		return false;
	return tp->bytes_max == 0 || tp->queued_bytes == 0 ||
	       tp->queued_bytes + bytes <= tp->bytes_max;
}

bool
far_ucx_queue_ready(const struct ucx_link *link)
{
	const struct ucx_queue *queue = &link->queue;

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
		FAR_ASSERT(op->kind != FAR_OP_READ || !UCX_TP(link->tp)->posts_no_reads);
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
op_fill(struct ucx_queue *queue, uint32_t op_idx, const struct far_op *from)
{
	struct ucx_op *op = &queue->ops[op_idx];
	uint32_t *link_to = &op->piece_first;
	uint32_t generation = op->generation;

	*op = (struct ucx_op){
		.rkey = from->rkey,
		.addr = from->remote_addr,
		.token = from->token,
		.next = UCX_NONE,
		.generation = generation,
		.kind = (uint8_t)from->kind,
		.flags = (uint8_t)from->flags,
	};
	for (uint32_t i = 0; i < from->piece_count; i++) {
		uint32_t idx = piece_take(queue);
		struct ucx_mem *mem = FAR_CONTAINER_OF(from->pieces[i].mem, struct ucx_mem, mem);

		queue->pieces[idx] = (struct ucx_piece){
			.addr = from->pieces[i].addr,
			.mem = mem,
			.size_bytes = from->pieces[i].size_bytes,
			.next = UCX_NONE,
		};
		*link_to = idx;
		link_to = &queue->pieces[idx].next;
		op->bytes += from->pieces[i].size_bytes;
		mem->ops++;
	}
	op->piece = op->piece_first;
}

/* A key of another life of the peer is known to be of no use here and now. A READ's is left to the
 * peer: its answers come in the order of the list. */
static bool
write_is_stale(const struct ucx_link *link, const struct ucx_op *op)
{
	uint64_t nonce;

	memcpy(&nonce, op->rkey.bytes, sizeof(nonce));
	return nonce != link->peer_nonce;
}

static void
list_push(struct ucx_link *link, const struct far_op *ops, int count)
{
	struct ucx_queue *queue = &link->queue;
	uint32_t list_idx = list_take(queue);
	struct ucx_op_list *list = &queue->lists[list_idx];
	uint32_t *link_to = &list->head;
	uint32_t reads = 0, reads_fenced = 0, writes_fenced = 0;

	*list = (struct ucx_op_list){.ask = UCX_NONE};
	for (int i = 0; i < count; i++) {
		uint32_t idx = op_take(queue);
		struct ucx_op *op = &queue->ops[idx];

		op_fill(queue, idx, &ops[i]);
		op->list = list_idx;
		if (op->flags & FAR_OP_FENCE)
			reads_fenced = reads;
		op->reads_before = reads_fenced;
		op->writes_before = writes_fenced;
		writes_fenced += op->kind == FAR_OP_WRITE && (op->flags & FAR_OP_FENCE) != 0;
		*link_to = idx;
		link_to = &op->next;
		if (op->kind == FAR_OP_READ) {
			if (reads++ == 0)
				list->ask = idx;
		} else if (write_is_stale(link, op)) {
			op->done = true;
			op->status = -ESTALE;
			queue->write_failures++;
			list->writes_started += (op->flags & FAR_OP_FENCE) != 0;
		} else {
			far_ucx_stream_push_write(link, idx);
		}
	}
	list->scan = list->head;
	list->reads_left = reads;
	far_list_push_back(&queue->all, &list->all_node);
	far_list_init(&list->ask_node);
	far_list_init(&list->end_node);
	if (reads > 0)
		far_list_push_back(&queue->asking, &list->ask_node);
	if (queue->ops[list->scan].done)
		far_list_push_back(&queue->ending, &list->end_node);
}

int
far_ucx_post(struct far_link *flink, const struct far_op *ops, int count)
{
	struct ucx_link *link = UCX_LINK(flink);
	struct ucx_transport *tp = UCX_TP(flink->tp);
	struct ucx_queue *queue = &link->queue;
	uint32_t pieces;
	uint64_t bytes;

	if (far_ucx_is_child(tp))
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
	list_push(link, ops, count);
	far_spin_restart(&tp->spin);
	far_ucx_link_wake(link);
	return 0;
}

/* ---- completions ---- */

void
far_ucx_op_end(struct ucx_link *link, uint32_t op_idx, int status)
{
	struct ucx_queue *queue = &link->queue;
	struct ucx_op *op = &queue->ops[op_idx];
	struct ucx_op_list *list = &queue->lists[op->list];

	FAR_ASSERT(!op->done);
	op->done = true;
	op->status = status;
	if (op->kind == FAR_OP_READ) {
		FAR_ASSERT(list->reads_left > 0);
		list->reads_done++;
		list->reads_left--;
		if (op->sent)
			queue->reads_out--;
		if (list->reads_left == 0 && list->has_slot) {
			queue->slots[queue->slot_count++] = list->slot;
			list->has_slot = false;
		}
	}
	if (list->scan == op_idx && far_list_empty(&list->end_node))
		far_list_push_back(&queue->ending, &list->end_node);
	UCX_TP(link->link.tp)->urgent = true;
	far_ucx_link_wake(link);
}

/* Takes an op out of the queue: its memory is the owner's again. */
static void
op_release(struct ucx_link *link, uint32_t op_idx)
{
	struct ucx_queue *queue = &link->queue;
	struct ucx_op *op = &queue->ops[op_idx];
	uint32_t idx = op->piece_first;

	while (idx != UCX_NONE) {
		struct ucx_piece *piece = &queue->pieces[idx];
		uint32_t next = piece->next;

		FAR_ASSERT(piece->mem->ops > 0);
		piece->mem->ops--;
		piece->next = queue->piece_free;
		queue->piece_free = idx;
		queue->piece_free_count++;
		idx = next;
	}
	queue->bytes -= op->bytes;
	UCX_TP(link->link.tp)->queued_bytes -= op->bytes;
	if (op->kind == FAR_OP_WRITE && op->seq == 0 && op->status == -ESTALE &&
	    queue->write_failures > 0)
		queue->write_failures--;
	op_give(queue, op_idx);
}

/* The limit of the transport has room: whoever it refused looks again. */
static void
refused_wake(struct ucx_transport *tp)
{
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct ucx_link *link = FAR_CONTAINER_OF(it, struct ucx_link, all_node);

		if (link->queue.refused.set)
			far_ucx_link_wake(link);
	}
}

/* Scans a list to its next token. Returns whether one is due. */
static bool
list_token(struct ucx_queue *queue, struct ucx_op_list *list, uint64_t *token_out)
{
	while (list->scan != UCX_NONE && queue->ops[list->scan].done) {
		const struct ucx_op *op = &queue->ops[list->scan];

		list->scan = op->next;
		if (list->first_failure == 0)
			list->first_failure = op->status;
		if (op->token == 0)
			continue;
		*token_out = op->token;
		return true;
	}
	return false;
}

int
far_ucx_queue_complete(struct ucx_link *link)
{
	struct ucx_transport *tp = UCX_TP(link->link.tp);
	struct ucx_queue *queue = &link->queue;
	int told = 0;

	if (!far_list_empty(&queue->ending))
		far_mem_publish(); /* what was streamed to is visible before anybody hears of it */
	while (tp->budget > 0 && !far_list_empty(&queue->ending)) {
		struct far_event event = {.kind = FAR_EV_DONE};
		struct ucx_op_list *list =
			FAR_CONTAINER_OF(queue->ending.next, struct ucx_op_list, end_node);

		if (!list_token(queue, list, &event.token)) {
			far_list_remove(&list->end_node);
			continue;
		}
		event.status = list->first_failure;
		list->first_failure = 0;
		while (list->head != list->scan) {
			uint32_t next = queue->ops[list->head].next;

			op_release(link, list->head);
			list->head = next;
		}
		if (list->head == UCX_NONE) {
			far_list_remove(&list->all_node);
			far_list_remove(&list->ask_node);
			far_list_remove(&list->end_node);
			list->next = queue->list_free;
			queue->list_free = (uint32_t)(list - queue->lists);
		}
		if (tp->bytes_max != 0)
			refused_wake(tp);
		told++;
		far_ucx_link_emit(link, &event);
	}
	return told;
}

void
far_ucx_queue_abort(struct ucx_link *link, int rc)
{
	struct ucx_queue *queue = &link->queue;

	if (queue->ops == NULL)
		return;
	for (struct far_list *it = queue->all.next; it != &queue->all; it = it->next) {
		struct ucx_op_list *list = FAR_CONTAINER_OF(it, struct ucx_op_list, all_node);

		for (uint32_t i = list->scan; i != UCX_NONE; i = queue->ops[i].next) {
			if (queue->ops[i].done || queue->ops[i].gets > 0)
				continue;
			queue->ops[i].status = rc;
			queue->ops[i].done = true;
		}
		far_list_remove(&list->ask_node);
		if (far_list_empty(&list->end_node))
			far_list_push_back(&queue->ending, &list->end_node);
	}
}
