/* op.c - one-sided lists: their lines are sampled and placed whenever hardware might do it. */
#include "transport/loop/loop_priv.h"

#include <string.h>

#include "base/alloc.h"
#include "base/checksum.h"

static void op_fire(struct loop_timer *timer);
static void batch_advance(struct loop_batch *batch);

/* ---- pools: everything is there before the link is up ---- */

int
far_loop_ops_open(struct loop_link *link, uint32_t op_max)
{
	far_list_init(&link->op_pool);
	far_list_init(&link->batch_pool);
	link->ops = far_alloc_array(op_max, sizeof(*link->ops));
	link->batches = far_alloc_array(op_max, sizeof(*link->batches));
	if (link->ops == NULL || link->batches == NULL)
		return -ENOMEM;
	link->op_max = op_max;
	return 0;
}

void
far_loop_ops_close(struct loop_link *link)
{
	struct loop_host *host = link->host;

	for (uint32_t i = 0; i < link->op_fresh; i++) {
		far_loop_timer_cancel(host->fabric, &link->ops[i].timer);
		far_loop_notice_drop(&link->ops[i].notice);
	}
	host->bytes -= link->bytes;
	far_free(link->batches);
	far_free(link->ops);
}

/* Never empty: far_loop_post() has counted before. */
static struct loop_op *
op_take(struct loop_link *link)
{
	struct far_list *node = far_list_pop_front(&link->op_pool);
	struct loop_op *op;

	if (node != NULL)
		return FAR_CONTAINER_OF(node, struct loop_op, node);
	FAR_ASSERT(link->op_fresh < link->op_max);
	op = &link->ops[link->op_fresh++];
	memset(op, 0, sizeof(*op));
	op->timer.fire = op_fire;
	op->notice.kind = LOOP_NOTICE_DONE;
	op->notice.link = link;
	return op;
}

static struct loop_batch *
batch_take(struct loop_link *link)
{
	struct far_list *node = far_list_pop_front(&link->batch_pool);
	struct loop_batch *batch;

	if (node != NULL) {
		batch = FAR_CONTAINER_OF(node, struct loop_batch, node);
	} else {
		FAR_ASSERT(link->batch_fresh < link->op_max);
		batch = &link->batches[link->batch_fresh++];
		memset(batch, 0, sizeof(*batch));
	}
	far_list_init(&batch->node);
	far_list_init(&batch->ops);
	batch->fence = &batch->ops;
	batch->cover = &batch->ops;
	batch->status = 0;
	return batch;
}

/* ---- one moment of an op ---- */

static struct loop_link *
op_link(const struct loop_op *op)
{
	return op->notice.link;
}

/* Lines belong to moments by a hash of their address: no state per line, and no order. */
static bool
line_is_touched(const struct loop_op *op, uint64_t addr, uint8_t moment, bool again)
{
	uint64_t hash;

	if (op->moments == 1 && !again)
		return true;
	hash = far_mix64(op->seed ^ (addr / LOOP_LINE_BYTES));
	if (again)
		return (hash >> 32) % 2 == 0;
	return hash % op->moments == moment;
}

/* Copies the lines of one moment between the pieces and @remote, where the op's first byte lies. */
static void
op_touch(struct loop_op *op, uint8_t *remote, uint8_t moment, bool again)
{
	struct far_loop_fabric *fabric = op_link(op)->host->fabric;
	struct far_loop_counts *counts = &fabric->counts;
	const struct far_piece *piece = op->pieces;
	uint64_t offset = 0;       /* of the next byte in the op */
	uint64_t piece_offset = 0; /* of the same byte in its piece */

	while (offset < op->size_bytes) {
		uint64_t addr = op->remote_addr + offset;
		uint64_t line_end = offset + LOOP_LINE_BYTES - addr % LOOP_LINE_BYTES;
		bool touched = line_is_touched(op, addr, moment, again);

		if (line_end > op->size_bytes || (op->moments == 1 && !again))
			line_end = op->size_bytes;
		if (touched && moment > 0)
			counts->lines_reordered++;
		while (offset < line_end) {
			uint64_t size = line_end - offset;
			uint8_t *local = (uint8_t *)piece->addr + piece_offset;

			if (size > piece->size_bytes - piece_offset)
				size = piece->size_bytes - piece_offset;
			if (touched && op->kind == FAR_OP_READ) {
				if (fabric->landing != NULL)
					fabric->landing(fabric->landing_arg, local, size);
				memcpy(local, remote + offset, size);
			}
			if (touched && op->kind == FAR_OP_WRITE)
				memcpy(remote + offset, local, size);
			offset += size;
			piece_offset += size;
			if (piece_offset == piece->size_bytes) {
				piece++;
				piece_offset = 0;
			}
		}
	}
}

/* The next moment lies anywhere before the end, and leaves room for those after it. */
static void
op_wait(struct loop_op *op, uint32_t moments_left)
{
	struct far_loop_fabric *fabric = op_link(op)->host->fabric;
	uint64_t left_ns = op->end_ns - fabric->now_ns;
	uint64_t at_ns = op->end_ns;

	if (moments_left > 0) {
		at_ns = fabric->now_ns +
			far_rng_below(&fabric->rng, 2 * left_ns / moments_left + 1);
		if (at_ns > op->end_ns)
			at_ns = op->end_ns;
	}
	far_loop_timer_set(fabric, &op->timer, at_ns);
}

static void
op_finish(struct loop_op *op, int status)
{
	op->state = LOOP_OP_FINISHED;
	op->status = status;
	far_list_remove(&op->flying);
	far_list_remove(&op->write);
	batch_advance(op->batch);
}

static void
op_sum(const struct loop_op *op)
{
	uint32_t crc = 0;

	for (uint32_t i = 0; i < op->piece_count; i++)
		crc = far_crc32c(crc, op->pieces[i].addr, op->pieces[i].size_bytes);
	*op->crc32c = crc;
	op_link(op)->host->fabric->counts.summed++;
}

/* The end, unless the link dies instead. */
static void
op_land(struct loop_op *op)
{
	struct loop_link *link = op_link(op);

	if (op->drop) {
		link->host->fabric->counts.links_dropped++;
		far_loop_link_break(link, -ECONNRESET);
		return;
	}
	if (op->crc32c != NULL)
		op_sum(op);
	op_finish(op, 0);
}

/* Some lines of a WRITE are on the wire when its link dies: they land, if its key still lets them. */
static void
write_straggle(struct loop_op *op)
{
	struct loop_link *link = op_link(op);
	struct far_loop_fabric *fabric = link->host->fabric;
	uint8_t *remote;

	if (op->kind != FAR_OP_WRITE || op->key == NULL || op->moments == 0)
		return;
	if (link->peer == NULL || link->cut)
		return;
	remote = far_loop_key_reach(op->key, op->kind, op->remote_addr, op->size_bytes);
	while (remote != NULL && op->moment < op->moments && far_rng_below(&fabric->rng, 2) == 0)
		op_touch(op, remote, op->moment++, false);
}

static bool
link_is_answered(const struct loop_link *link)
{
	return link->peer != NULL && link->peer->state == LOOP_LINK_UP && !link->cut;
}

/* One thing happens to the op: some of its lines, or its end. */
static void
op_fire(struct loop_timer *timer)
{
	struct loop_op *op = FAR_CONTAINER_OF(timer, struct loop_op, timer);
	struct loop_link *link = op_link(op);
	uint8_t *remote;

	if (op->state == LOOP_OP_ENDING) {
		bool lost = op->kind == FAR_OP_WRITE && op->key == NULL;

		write_straggle(op);
		op_finish(op, op->status);
		/* What was sent behind it may speak of bytes that were never written. */
		if (lost && link->state == LOOP_LINK_UP)
			far_loop_link_break(link, -ESTALE);
		return;
	}
	if (!link_is_answered(link)) {
		op->state = LOOP_OP_PARKED;
		return;
	}
	if (op->moment == op->moments && !op->again) {
		op_land(op);
		return;
	}
	remote = far_loop_key_reach(op->key, op->kind, op->remote_addr, op->size_bytes);
	if (remote == NULL) {
		/* As hardware: a wrong access costs both ends the link. */
		op_finish(op, -EACCES);
		far_loop_link_break(link, -EACCES);
		return;
	}
	if (op->moment < op->moments) {
		op_touch(op, remote, op->moment++, false);
	} else {
		op_touch(op, remote, 0, true);
		op->again = false;
		link->host->fabric->counts.reexecuted++;
	}
	op_wait(op, (uint32_t)(op->moments - op->moment) + op->again);
	if (op->kind == FAR_OP_WRITE && op->moment == op->moments) {
		/* Placed, if not yet completed: what was sent behind it may arrive. */
		far_list_remove(&op->write);
		far_loop_outbox_deliver(link);
	}
}

/* ---- lists ---- */

static void
op_start(struct loop_op *op)
{
	struct loop_link *link = op_link(op);
	struct far_loop_fabric *fabric = link->host->fabric;
	const struct far_loop_config *config = &fabric->config;

	op->end_ns = far_loop_arrival(fabric);
	if (far_loop_chance(fabric, config->late)) {
		op->end_ns += far_rng_below(&fabric->rng, config->late_ns_max + 1);
		fabric->counts.late++;
	}
	if (op->key == NULL) {
		op->state = LOOP_OP_ENDING;
		op->status = -ESTALE;
		far_loop_timer_set(fabric, &op->timer, op->end_ns);
		return;
	}
	if (link->peer_dead) {
		op->state = LOOP_OP_PARKED;
		return;
	}
	op->state = LOOP_OP_FLYING;
	op->moments = 1;
	if (config->reorder)
		op->moments = (uint8_t)(1 + far_rng_below(&fabric->rng, LOOP_MOMENTS_MAX));
	op->seed = far_rng_u64(&fabric->rng);
	op->again = op->kind == FAR_OP_READ && far_loop_chance(fabric, config->reexecute);
	op->drop = far_loop_chance(fabric, config->drop_link);
	op_wait(op, (uint32_t)op->moments + op->again);
}

/* Starts an op and those behind it, up to the next fence. */
static void
batch_start(struct loop_batch *batch, struct far_list *first)
{
	for (struct far_list *it = first; it != &batch->ops; it = it->next) {
		struct loop_op *op = FAR_CONTAINER_OF(it, struct loop_op, node);

		if (it != first && op->fence)
			break;
		op_start(op);
	}
}

/* Starts what its fence held back, and tells what is wholly covered. */
static void
batch_advance(struct loop_batch *batch)
{
	while (batch->fence != &batch->ops) {
		struct loop_op *op = FAR_CONTAINER_OF(batch->fence, struct loop_op, node);

		if (op->state == LOOP_OP_WAITING)
			batch_start(batch, batch->fence);
		if (op->kind == FAR_OP_READ && op->state != LOOP_OP_FINISHED)
			break;
		batch->fence = batch->fence->next;
	}
	while (batch->cover != &batch->ops) {
		struct loop_op *op = FAR_CONTAINER_OF(batch->cover, struct loop_op, node);

		if (op->state != LOOP_OP_FINISHED)
			break;
		if (batch->status == 0)
			batch->status = op->status;
		if (op->token != 0) {
			op->status = batch->status;
			batch->status = 0;
			far_loop_notice_push(op_link(op)->host, &op->notice);
		}
		batch->cover = batch->cover->next;
	}
}

/* A copy of the caller's op; what it names is pinned until its completion was told. */
static void
op_fill(struct loop_link *link, struct loop_op *op, const struct far_op *from)
{
	FAR_ASSERT(from->piece_count > 0);
	FAR_ASSERT(from->piece_count <= FAR_PIECES_MAX);
	FAR_ASSERT(from->crc32c == NULL || from->kind == FAR_OP_READ || link->link.sums_from != 0);
	FAR_ASSERT(from->crc32c == NULL || from->kind == FAR_OP_WRITE || link->link.sums_reads);
	far_list_init(&op->node);
	far_list_init(&op->flying);
	far_list_init(&op->write);
	op->state = LOOP_OP_WAITING;
	op->status = 0;
	op->kind = from->kind;
	op->fence = (from->flags & FAR_OP_FENCE) != 0;
	op->token = from->token;
	op->crc32c = from->crc32c;
	op->moment = 0;
	op->moments = 0;
	op->remote_addr = from->remote_addr;
	op->rkey = from->rkey;
	op->piece_count = from->piece_count;
	op->size_bytes = 0;
	for (uint32_t i = 0; i < from->piece_count; i++) {
		const struct far_piece *piece = &from->pieces[i];
		const uint8_t *base = piece->mem->base;
		const uint8_t *addr = piece->addr;

		FAR_ASSERT(piece->mem->tp == link->link.tp);
		FAR_ASSERT((piece->mem->rights & FAR_RIGHT_LOCAL) != 0);
		FAR_ASSERT(addr >= base);
		FAR_ASSERT(addr + piece->size_bytes <= base + piece->mem->size_bytes);
		op->pieces[i] = *piece;
		op->size_bytes += piece->size_bytes;
		FAR_CONTAINER_OF(piece->mem, struct loop_mem, mem)->pins++;
	}
	FAR_ASSERT(op->size_bytes > 0);
	FAR_ASSERT(op->size_bytes <= LOOP_OP_BYTES_MAX);
	op->key = far_loop_key_find(link, &op->rkey);
	if (op->key != NULL)
		op->key->pins++;
	far_list_push_back(&link->flying, &op->flying);
	if (op->kind == FAR_OP_WRITE) {
		op->write_seq = ++link->write_seq;
		far_list_push_back(&link->writes, &op->write);
	}
}

/* An idle link takes any list: otherwise its owner would wait for ever. */
static bool
link_has_room(const struct loop_link *link, int count, uint64_t size_bytes)
{
	const struct loop_host *host = link->host;

	if (link->op_count > 0 &&
	    link->op_count + (uint32_t)count > host->fabric->config.op_queue_max)
		return false;
	if (link->op_count + (uint32_t)count > link->op_max)
		return false;
	if (host->bytes > 0 && host->bytes_max > 0 && host->bytes + size_bytes > host->bytes_max)
		return false;
	return link->bytes == 0 || host->peer_bytes_max == 0 ||
	       link->bytes + size_bytes <= host->peer_bytes_max;
}

int
far_loop_post(struct far_link *base, const struct far_op *ops, int count)
{
	struct loop_link *link = loop_link(base);
	struct loop_host *host = link->host;
	struct loop_batch *batch;
	uint64_t size_bytes = 0;

	if (!base->up)
		return -ENOTCONN;
	for (int i = 0; i < count; i++)
		for (uint32_t j = 0; j < ops[i].piece_count; j++)
			size_bytes += ops[i].pieces[j].size_bytes;
	if (!link_has_room(link, count, size_bytes)) {
		host->refused_count += !link->post_refused;
		link->post_refused = true;
		return -EAGAIN;
	}
	batch = batch_take(link);
	for (int i = 0; i < count; i++) {
		struct loop_op *op = op_take(link);

		op_fill(link, op, &ops[i]);
		op->batch = batch;
		far_list_push_back(&batch->ops, &op->node);
	}
	link->op_count += (uint32_t)count;
	link->bytes += size_bytes;
	host->bytes += size_bytes;
	host->fabric->counts.ops += (uint64_t)count;
	batch->fence = batch->ops.next;
	batch->cover = batch->ops.next;
	batch_start(batch, batch->ops.next);
	batch_advance(batch);
	return 0;
}

/* ---- the end of ops ---- */

/* There is room again: whoever was refused, on any link, may try. */
static void
room_tell(struct loop_host *host)
{
	struct far_list *it;
	struct far_list *tmp;

	if (host->refused_count == 0)
		return;
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &host->links)
	{
		struct loop_link *link = FAR_CONTAINER_OF(it, struct loop_link, node);

		if (!link->post_refused)
			continue;
		link->post_refused = false;
		if (link->link.up)
			far_loop_link_tell(link, LOOP_NOTICE_SENDABLE);
	}
	host->refused_count = 0;
}

static void
op_retire(struct loop_op *op)
{
	struct loop_link *link = op_link(op);

	for (uint32_t i = 0; i < op->piece_count; i++)
		FAR_CONTAINER_OF(op->pieces[i].mem, struct loop_mem, mem)->pins--;
	if (op->key != NULL)
		op->key->pins--;
	link->op_count--;
	link->bytes -= op->size_bytes;
	link->host->bytes -= op->size_bytes;
	far_list_push_back(&link->op_pool, &op->node);
}

void
far_loop_op_tell(struct loop_op *op)
{
	struct loop_link *link = op_link(op);
	struct loop_batch *batch = op->batch;
	struct far_event event = {
		.kind = FAR_EV_DONE,
		.status = op->status,
		.link = &link->link,
		.token = op->token,
	};
	struct loop_op *covered;

	do {
		covered = FAR_CONTAINER_OF(far_list_pop_front(&batch->ops), struct loop_op, node);
		op_retire(covered);
	} while (covered != op);
	if (far_list_empty(&batch->ops))
		far_list_push_back(&link->batch_pool, &batch->node);
	room_tell(link->host);
	far_loop_link_settle(link);
	link->link.handler->event(link->link.handler, &event);
}

void
far_loop_ops_flush(struct loop_link *link, int status)
{
	struct far_loop_fabric *fabric = link->host->fabric;
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &link->flying)
	{
		struct loop_op *op = FAR_CONTAINER_OF(it, struct loop_op, flying);

		far_loop_timer_cancel(fabric, &op->timer);
		if (op->state != LOOP_OP_ENDING)
			op->status = status;
		op->state = LOOP_OP_ENDING;
		fabric->counts.flushed++;
		far_loop_timer_set(fabric, &op->timer, far_loop_arrival(fabric));
	}
}

void
far_loop_ops_freeze(struct loop_link *link)
{
	struct far_loop_fabric *fabric = link->host->fabric;
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &link->flying)
	{
		struct loop_op *op = FAR_CONTAINER_OF(it, struct loop_op, flying);

		if (far_rng_below(&fabric->rng, 2) == 0)
			far_loop_timer_cancel(fabric, &op->timer);
	}
}
