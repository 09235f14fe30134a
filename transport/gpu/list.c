/* list.c - posted lists: given on as they are, or started part by part, fences kept. */
#include <errno.h>

#include "transport/gpu/gpu_priv.h"

#define TOKEN_FLAT                                                                                 \
	(1ULL << 32) /* of the inner transport's: an op of ours, else a slice; both plus one */

/* ---- posting ---- */

struct measure {
	uint32_t pieces;
	uint32_t tokens;
	uint32_t writes;
	uint32_t direct_ops;
	uint64_t direct_bytes;
	uint64_t staged_bytes;
	bool staged;
};

static bool
op_is_staged(const struct far_op *op)
{
	return gpu_mem(op->pieces[0].mem)->inner == NULL;
}

/* The caller's list is our own code: what is wrong in it is asserted. */
static struct measure
list_measure(const struct far_op *ops, int count)
{
	struct measure m = {0};

	for (int i = 0; i < count; i++) {
		bool staged = op_is_staged(&ops[i]);

		FAR_ASSERT(ops[i].crc32c == NULL); /* sums_from is 0 */
		FAR_ASSERT(ops[i].piece_count > 0);
		FAR_ASSERT(ops[i].piece_count <= FAR_PIECES_MAX);
		for (uint32_t p = 1; p < ops[i].piece_count; p++)
			FAR_ASSERT((gpu_mem(ops[i].pieces[p].mem)->inner == NULL) == staged);
		m.pieces += ops[i].piece_count;
		m.tokens += ops[i].token != 0;
		m.writes += ops[i].kind == FAR_OP_WRITE;
		m.staged = m.staged || staged;
		if (!gpu_mem(ops[i].pieces[0].mem)->device)
			continue;
		m.direct_ops += !staged;
		for (uint32_t p = 0; p < ops[i].piece_count; p++)
			*(staged ? &m.staged_bytes : &m.direct_bytes) +=
				ops[i].pieces[p].size_bytes;
	}
	return m;
}

bool
far_gpu_link_takes(const struct gpu_link *link, uint32_t ops, uint32_t pieces, uint64_t bytes)
{
	const struct gpu_transport *tp = gpu_tp_const(link->link.tp);
	uint64_t bytes_max = tp->config.bytes_in_flight_max;
	uint64_t peer_bytes_max = tp->config.peer_bytes_in_flight_max;

	/* What is larger than a limit goes alone, instead of never. */
	if (bytes > 0 && bytes_max != 0 && tp->bytes != 0 && tp->bytes + bytes > bytes_max)
		return false;
	if (bytes > 0 && peer_bytes_max != 0 && link->bytes != 0 &&
	    link->bytes + bytes > peer_bytes_max)
		return false;
	return link->list_tail - link->list_head < GPU_LISTS_MAX &&
	       GPU_OPS_MAX - (link->op_tail - link->op_head) >= ops &&
	       GPU_PIECES_MAX - (link->piece_tail - link->piece_head) >= pieces;
}

static struct gpu_list *
list_new(struct gpu_link *link, uint32_t ops, uint32_t pieces)
{
	struct gpu_list *list = &link->list_pool[link->list_tail++ % GPU_LISTS_MAX];

	*list = (struct gpu_list){
		.op_first = link->op_tail,
		.op_count = ops,
		.piece_first = link->piece_tail,
		.piece_count = pieces,
		.live = true,
	};
	link->op_tail += ops;
	link->piece_tail += pieces;
	far_list_push_back(&link->lists, &list->node);
	return list;
}

/* Out of the rings, with those behind it that ended before. */
static void
list_free(struct gpu_link *link, struct gpu_list *list)
{
	far_list_remove(&list->node);
	list->live = false;
	link->bytes -= list->bytes;
	gpu_tp(link->link.tp)->bytes -= list->bytes;
	while (link->list_head != link->list_tail) {
		struct gpu_list *first = &link->list_pool[link->list_head % GPU_LISTS_MAX];

		if (first->live)
			break;
		link->op_head = first->op_first + first->op_count;
		link->piece_head = first->piece_first + first->piece_count;
		link->list_head++;
	}
}

/* The inner transport's terms for a piece. */
static struct far_piece
piece_inner(const struct far_piece *piece)
{
	return (struct far_piece){
		.addr = piece->addr,
		.size_bytes = piece->size_bytes,
		.mem = gpu_mem(piece->mem)->inner,
	};
}

static int
post_flat(struct gpu_link *link, const struct far_op *ops, int count, const struct measure *m)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);
	uint32_t op_first = link->op_tail;
	uint32_t tokens = 0, pieces = 0;
	struct gpu_list *list;
	int rc;

	for (int i = 0; i < count; i++) {
		struct far_op *op = &tp->inner_ops[i];

		*op = ops[i];
		op->pieces = &tp->inner_pieces[pieces];
		for (uint32_t p = 0; p < op->piece_count; p++)
			tp->inner_pieces[pieces++] = piece_inner(&ops[i].pieces[p]);
		if (op->token == 0)
			continue;
		link->ops[(op_first + tokens) % GPU_OPS_MAX].token = op->token;
		op->token = (TOKEN_FLAT | ((op_first + tokens) % GPU_OPS_MAX)) + 1;
		tokens++;
	}
	rc = far_transport_post(link->inner, tp->inner_ops, count);
	if (rc < 0)
		return rc;
	tp->status.paths[FAR_GPU_DIRECT].ops += m->direct_ops;
	tp->status.paths[FAR_GPU_DIRECT].bytes += m->direct_bytes;
	list = list_new(link, m->tokens, 0);
	list->flat = true;
	for (uint32_t i = 0; i < tokens; i++)
		link->ops[(op_first + i) % GPU_OPS_MAX].list = list;
	return 0;
}

static void
post_parts(struct gpu_link *link, const struct far_op *ops, int count, const struct measure *m)
{
	struct gpu_list *list = list_new(link, (uint32_t)count, m->pieces);
	uint32_t piece = list->piece_first;

	for (int i = 0; i < count; i++) {
		struct gpu_op *op = &link->ops[(list->op_first + (uint32_t)i) % GPU_OPS_MAX];

		*op = (struct gpu_op){
			.list = list,
			.rkey = ops[i].rkey,
			.remote_addr = ops[i].remote_addr,
			.token = ops[i].token,
			.piece_first = piece % GPU_PIECES_MAX,
			.piece_count = (uint16_t)ops[i].piece_count,
			.kind = (uint8_t)ops[i].kind,
			.flags = (uint8_t)ops[i].flags,
			.staged = op_is_staged(&ops[i]),
		};
		for (uint32_t p = 0; p < ops[i].piece_count; p++) {
			link->pieces[piece++ % GPU_PIECES_MAX] = ops[i].pieces[p];
			op->bytes += ops[i].pieces[p].size_bytes;
		}
	}
	list->bytes = m->staged_bytes;
	link->bytes += list->bytes;
	gpu_tp(link->link.tp)->bytes += list->bytes;
	link->writes_unposted += m->writes;
	(void)far_gpu_lists_run(link);
	far_gpu_link_wake(link);
}

int
far_gpu_post(struct far_link *flink, const struct far_op *ops, int count)
{
	struct gpu_link *link = gpu_link(flink);
	struct measure m = list_measure(ops, count);
	uint32_t ops_needed = m.staged ? (uint32_t)count : m.tokens;
	uint32_t pieces_needed = m.staged ? m.pieces : 0;
	int rc = 0;

	if (!flink->up)
		return -ENOTCONN;
	if (!far_gpu_link_takes(link, ops_needed, pieces_needed, m.staged_bytes)) {
		link->user_waits_ops = ops_needed;
		link->user_waits_bytes = m.staged_bytes;
		link->user_waits_pieces = pieces_needed;
		return -EAGAIN;
	}
	if (m.staged) {
		post_parts(link, ops, count, &m);
		return 0;
	}
	rc = post_flat(link, ops, count, &m);
	if (rc == -EAGAIN)
		link->user_waits_inner = true;
	return rc;
}

/* ---- starting ---- */

/* What is put together for one list of the inner transport. */
struct batch {
	uint32_t count; /* ops, and slices */
	uint32_t pieces;
	uint32_t group_first; /* in tp->batch: the first that no completion covers yet */
	uint64_t group_bytes;
	uint64_t bytes;
	uint32_t at;    /* of the list, before it */
	uint32_t reads; /* its slices that are READs */
	bool fenced;
};

static struct gpu_op *
op_at(const struct gpu_link *link, const struct gpu_list *list, uint32_t idx)
{
	return &link->ops[(list->op_first + idx) % GPU_OPS_MAX];
}

/* The last of the batch tells of those since the last that did. */
static void
group_end(struct gpu_link *link, struct batch *batch)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);
	uint32_t last = tp->batch[batch->count - 1];

	if (batch->group_first == batch->count)
		return;
	link->slices[last].group_first = tp->batch[batch->group_first];
	for (uint32_t i = batch->group_first; i + 1 < batch->count; i++)
		link->slices[tp->batch[i]].next = tp->batch[i + 1];
	tp->inner_ops[batch->count - 1].token = (uint64_t)last + 1;
	batch->group_first = batch->count;
	batch->group_bytes = 0;
}

/* Returns 0, or -EAGAIN with everything as it was before the batch. */
static int
batch_post(struct gpu_link *link, struct gpu_list *list, struct batch *batch)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);
	bool fenced = batch->fenced;
	int rc;

	if (batch->count == 0)
		return 0;
	group_end(link, batch);
	rc = far_transport_post(link->inner, tp->inner_ops, (int)batch->count);
	for (uint32_t i = batch->count; i > 0; i--) {
		struct gpu_slice *slice = &link->slices[tp->batch[i - 1]];
		struct gpu_op *op = slice->op;

		if (rc < 0) {
			far_gpu_slice_undo(slice);
			continue;
		}
		op->posted += slice->size_bytes;
		if (op->posted == op->bytes)
			far_gpu_op_begun(link, op);
	}
	if (rc < 0) {
		list->at = batch->at;
		link->inner_full = rc == -EAGAIN;
	}
	*batch = (struct batch){.at = list->at};
	/* Another list may overtake the one with the fence. */
	list->barrier = list->barrier || (rc == 0 && fenced);
	return rc;
}

static void
batch_add(struct gpu_link *link, struct batch *batch, struct gpu_slice *slice, bool fence,
	  uint32_t pieces)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);
	struct gpu_op *op = slice->op;

	tp->inner_ops[batch->count] = (struct far_op){
		.kind = (enum far_op_kind)op->kind,
		.flags = fence ? FAR_OP_FENCE : 0,
		.remote_addr = op->remote_addr + slice->op_offset,
		.rkey = op->rkey,
		.pieces = &tp->inner_pieces[batch->pieces],
		.piece_count = pieces,
	};
	tp->batch[batch->count++] = (uint32_t)(slice - link->slices);
	batch->pieces += pieces;
	batch->bytes += slice->size_bytes;
	batch->group_bytes += slice->size_bytes;
	batch->reads += op->kind == FAR_OP_READ;
	batch->fenced = batch->fenced || fence;
	/* Failures are told by token: one of ours must not cover ops of two of the caller's, and of an op
	 * that is cut each part says for itself what was wrong. */
	if ((op->token != 0 && op->started == op->bytes) || slice->size_bytes < op->bytes ||
	    batch->group_bytes >= GPU_GROUP_BYTES)
		group_end(link, batch);
}

enum start {
	START_DONE, /* the op has wholly started */
	START_LATER,
	START_BATCH_FULL,
	START_AFTER, /* when what is before it in its list has ended */
};

/* An op that the inner transport does by itself. */
static enum start
start_inner(struct gpu_link *link, struct gpu_list *list, struct gpu_op *op, struct batch *batch,
	    bool fence)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);
	struct gpu_slice *slice;

	if (batch->count == FAR_POST_OPS_MAX)
		return START_BATCH_FULL;
	slice = far_gpu_slice_new(link, list, op, op->bytes);
	if (slice == NULL)
		return START_LATER;
	for (uint32_t p = 0; p < op->piece_count; p++)
		tp->inner_pieces[batch->pieces + p] =
			piece_inner(&link->pieces[(op->piece_first + p) % GPU_PIECES_MAX]);
	batch_add(link, batch, slice, fence, op->piece_count);
	return START_DONE;
}

/* A slice of the op with room in the ring. NULL: later. */
static struct gpu_slice *
slice_staged(struct gpu_link *link, struct gpu_list *list, struct gpu_op *op)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);
	uint64_t size = op->bytes - op->started;
	struct gpu_slice *slice;
	uint8_t *stage;

	if (far_list_empty(&link->slices_free))
		return NULL;
	if (size > tp->config.slice_bytes)
		size = tp->config.slice_bytes;
	if (tp->inner->caps.op_bytes_max != 0 && size > tp->inner->caps.op_bytes_max)
		size = tp->inner->caps.op_bytes_max;
	stage = far_gpu_stage_take(tp, link, size, &size);
	if (stage == NULL) {
		if (!link->room_waits)
			tp->status.stage_waits++;
		link->room_waits = true;
		return NULL;
	}
	slice = far_gpu_slice_new(link, list, op, size);
	slice->stage = stage;
	slice->path = FAR_GPU_STAGED;
	return slice;
}

static enum start
start_read(struct gpu_link *link, struct gpu_list *list, struct gpu_op *op, struct batch *batch,
	   bool fence)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);

	while (op->started < op->bytes) {
		struct gpu_slice *slice;

		if (batch->count == FAR_POST_OPS_MAX || batch->bytes >= GPU_BATCH_BYTES)
			return START_BATCH_FULL;
		slice = slice_staged(link, list, op);
		if (slice == NULL)
			return START_LATER;
		tp->inner_pieces[batch->pieces] = (struct far_piece){
			.addr = slice->stage,
			.size_bytes = (uint32_t)slice->size_bytes,
			.mem = tp->stage.mem,
		};
		batch_add(link, batch, slice, fence, 1);
		fence = false;
	}
	return START_DONE;
}

/* Into the ring first; what is there goes on by itself. */
static enum start
start_write(struct gpu_link *link, struct gpu_list *list, struct gpu_op *op)
{
	while (op->started < op->bytes) {
		struct gpu_slice *slice = slice_staged(link, list, op);

		if (slice == NULL)
			return START_LATER;
		if (!far_gpu_slice_copy_first(slice)) {
			far_gpu_slice_undo(slice);
			return START_LATER;
		}
	}
	return START_DONE;
}

static enum start
start_mapped(struct gpu_link *link, struct gpu_list *list, struct gpu_op *op, struct gpu_pin *pin,
	     const uint8_t *from)
{
	struct gpu_slice *slice = far_gpu_slice_new(link, list, op, op->bytes);

	if (slice == NULL)
		return START_LATER;
	slice->path = FAR_GPU_MAPPED;
	slice->mapped = from;
	slice->pin = pin;
	pin->copies++;
	if (far_gpu_slice_copy_first(slice))
		return START_DONE;
	pin->copies--;
	far_gpu_slice_undo(slice);
	return START_LATER;
}

/* What waits for READs of its own list lets other lists go first; what waits for room does not. */
enum run { RUN_ON, RUN_NO_ROOM };

/* One op, by the way that it goes. Those that the inner transport does not begin at once are not put
 * into the batch, which has to be on its way before them. */
static enum start
start_op(struct gpu_link *link, struct gpu_list *list, struct gpu_op *op, struct batch *batch)
{
	bool fence = (op->flags & FAR_OP_FENCE) != 0 && op->started == 0;
	const uint8_t *from = NULL;
	struct gpu_pin *pin = NULL;

	if (!op->staged)
		return start_inner(link, list, op, batch, fence);
	if (op->kind == FAR_OP_WRITE) {
		if (batch->count > 0)
			return START_BATCH_FULL;
		/* Its bytes may be what those READs bring: landed is not enough, they are copied on. */
		if (fence && list->slices > 0)
			return START_AFTER;
		list->barrier = list->barrier || fence;
		return start_write(link, list, op);
	}
	if (op->started == 0 && far_gpu_mapped_find(link, op, &pin, &from))
		return batch->count > 0 ? START_BATCH_FULL
					: start_mapped(link, list, op, pin, from);
	return start_read(link, list, op, batch, fence);
}

static enum run
list_run(struct gpu_link *link, struct gpu_list *list, int *work)
{
	struct batch batch = {.at = list->at};
	enum start start = START_DONE;

	while (list->at < list->op_count && start != START_LATER && start != START_AFTER) {
		struct gpu_op *op = op_at(link, list, list->at);

		if (op->started == op->bytes) {
			/* One of no bytes never is on its way: messages need not wait for it. */
			if (op->slices == 0)
				far_gpu_op_begun(link, op);
			list->at++;
			continue;
		}
		if (list->barrier && list->slices > 0)
			break;
		list->barrier = false;
		if ((op->flags & FAR_OP_FENCE) != 0 && op->started == 0 &&
		    list->reads > batch.reads)
			break;
		start = start_op(link, list, op, &batch);
		if (start == START_DONE) {
			list->at++;
			(*work)++;
		}
		if (start == START_BATCH_FULL && batch_post(link, list, &batch) < 0)
			return RUN_NO_ROOM;
	}
	if (batch_post(link, list, &batch) < 0 || start == START_LATER)
		return RUN_NO_ROOM;
	return RUN_ON;
}

int
far_gpu_lists_run(struct gpu_link *link)
{
	struct far_list *it, *next;
	int work = 0;

	if (link->inner == NULL || !link->inner->up || link->disconnected)
		return 0;
	FAR_LIST_FOR_EACH_SAFE(it, next, &link->lists)
	{
		struct gpu_list *list = FAR_CONTAINER_OF(it, struct gpu_list, node);

		if (link->inner_full)
			break;
		if (!list->flat && list->at < list->op_count &&
		    list_run(link, list, &work) == RUN_NO_ROOM)
			break;
	}
	return work;
}

/* ---- ends ---- */

static void
tell_done(struct gpu_link *link, uint64_t token, int status)
{
	const struct far_event event = {
		.kind = FAR_EV_DONE, .status = status, .link = &link->link, .token = token};

	link->link.handler->event(link->link.handler, &event);
}

static void
flat_done(struct gpu_link *link, uint32_t idx, int status)
{
	struct gpu_list *list = link->ops[idx].list;
	uint64_t token = link->ops[idx].token;

	FAR_ASSERT(list->flat);
	if (++list->reported == list->op_count)
		list_free(link, list);
	tell_done(link, token, status);
}

void
far_gpu_inner_done(struct gpu_link *link, uint64_t token, int status)
{
	uint32_t idx = (uint32_t)(token - 1);
	uint32_t at;

	if (((token - 1) & TOKEN_FLAT) != 0) {
		FAR_ASSERT(idx < GPU_OPS_MAX);
		flat_done(link, idx, status);
		return;
	}
	FAR_ASSERT(idx < GPU_SLICES_MAX);
	for (at = link->slices[idx].group_first;;) {
		uint32_t next = link->slices[at].next;
		bool last = at == idx;

		far_gpu_slice_landed(&link->slices[at], status);
		if (last)
			break;
		at = next;
	}
}

void
far_gpu_lists_cancel(struct gpu_link *link, int status)
{
	for (struct far_list *it = link->lists.next; it != &link->lists; it = it->next) {
		struct gpu_list *list = FAR_CONTAINER_OF(it, struct gpu_list, node);

		for (; !list->flat && list->at < list->op_count; list->at++) {
			struct gpu_op *op = op_at(link, list, list->at);

			if (op->started < op->bytes && op->status == 0)
				op->status = status;
			op->started = op->bytes;
			if (op->slices == 0)
				far_gpu_op_begun(link, op);
		}
	}
	far_gpu_link_wake(link);
}

/* Ops of one list that have ended, up to the first that has not. True: with all of them. */
static bool
list_report(struct gpu_link *link, struct gpu_list *list, int *events)
{
	while (list->reported < list->op_count) {
		struct gpu_op *op = op_at(link, list, list->reported);
		uint64_t token = op->token;
		int status;

		if (op->started < op->bytes || op->slices > 0)
			return false;
		if (list->status == 0)
			list->status = op->status;
		list->reported++;
		if (token == 0)
			continue;
		status = list->status;
		list->status = 0;
		(*events)++;
		if (list->reported == list->op_count) {
			list_free(link, list);
			tell_done(link, token, status);
			return true;
		}
		tell_done(link, token, status);
	}
	return true;
}

int
far_gpu_lists_report(struct gpu_link *link)
{
	struct far_list *it, *next;
	int events = 0;

	/* A handler may post more behind these, and ends none of them. */
	FAR_LIST_FOR_EACH_SAFE(it, next, &link->lists)
	{
		struct gpu_list *list = FAR_CONTAINER_OF(it, struct gpu_list, node);

		if (!list->flat)
			(void)list_report(link, list, &events);
	}
	return events;
}
