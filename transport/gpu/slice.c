/* slice.c - parts of ops on their way: into the ring, through the copier, out of the ring. */
#include <errno.h>

#include "transport/gpu/gpu_priv.h"

/* ---- begin and end ---- */

struct gpu_slice *
far_gpu_slice_new(struct gpu_link *link, struct gpu_list *list, struct gpu_op *op,
		  uint64_t size_bytes)
{
	struct far_list *node = far_list_pop_front(&link->slices_free);
	struct gpu_slice *slice;

	if (node == NULL)
		return NULL;
	slice = FAR_CONTAINER_OF(node, struct gpu_slice, node);
	FAR_ASSERT(slice->state == SLICE_FREE);
	*slice = (struct gpu_slice){
		.link = link,
		.list = list,
		.op = op,
		.state = SLICE_INNER,
		.path = FAR_GPU_DIRECT,
		.op_offset = op->started,
		.size_bytes = size_bytes,
		.next = GPU_NONE,
	};
	far_list_init(&slice->node);
	op->started += size_bytes;
	op->slices++;
	list->slices++;
	link->slices_live++;
	if (op->kind == FAR_OP_READ)
		list->reads++;
	return slice;
}

static void
slice_free(struct gpu_slice *slice)
{
	struct gpu_link *link = slice->link;

	if (slice->stage != NULL)
		far_gpu_stage_give(gpu_tp(link->link.tp), link, slice->stage, slice->size_bytes);
	slice->stage = NULL;
	slice->state = SLICE_FREE;
	slice->op->slices--;
	slice->list->slices--;
	link->slices_live--;
	far_list_remove(&slice->node);
	far_list_push_front(&link->slices_free, &slice->node);
}

void
far_gpu_slice_undo(struct gpu_slice *slice)
{
	slice->op->started -= slice->size_bytes;
	if (slice->op->kind == FAR_OP_READ)
		slice->list->reads--;
	slice_free(slice);
}

void
far_gpu_op_begun(struct gpu_link *link, struct gpu_op *op)
{
	if (op->kind != FAR_OP_WRITE || op->begun)
		return;
	op->begun = true;
	FAR_ASSERT(link->writes_unposted > 0);
	link->writes_unposted--;
}

void
far_gpu_slice_end(struct gpu_slice *slice, int status)
{
	struct gpu_link *link = slice->link;
	struct gpu_op *op = slice->op;
	struct gpu_transport *tp = gpu_tp(link->link.tp);

	/* What the op did wrong says more than that the link was lost for it. */
	if (status < 0 && (op->status == 0 || far_err_scope(op->status) == FAR_ERR_LINK))
		op->status = status;
	if (slice->pin != NULL)
		far_gpu_pin_copied(tp, slice->pin);
	if (op->staged && status == 0) {
		tp->status.paths[slice->path].ops++;
		tp->status.paths[slice->path].bytes += slice->size_bytes;
	}
	slice_free(slice);
	/* No byte more of what has failed. */
	if (op->status < 0)
		op->started = op->bytes;
	if (op->started == op->bytes && op->slices == 0)
		far_gpu_op_begun(link, op);
	far_gpu_link_wake(link);
}

/* ---- copies ---- */

/* The pieces of an op from one of its bytes on. */
static uint8_t *
piece_at(const struct gpu_link *link, const struct gpu_op *op, uint64_t offset, uint64_t *left_out)
{
	for (uint32_t i = 0; i < op->piece_count; i++) {
		const struct far_piece *piece =
			&link->pieces[(op->piece_first + i) % GPU_PIECES_MAX];

		if (offset < piece->size_bytes) {
			*left_out = piece->size_bytes - offset;
			return (uint8_t *)piece->addr + offset;
		}
		offset -= piece->size_bytes;
	}
	FAR_ASSERT(false);
	return NULL;
}

int
far_gpu_slice_copy(struct gpu_slice *slice)
{
	struct gpu_transport *tp = gpu_tp(slice->link->link.tp);
	bool out = slice->op->kind == FAR_OP_WRITE;
	enum far_copy_way way = out ? FAR_COPY_OUT : FAR_COPY_IN;

	while (slice->copied < slice->size_bytes) {
		uint64_t left = slice->size_bytes - slice->copied;
		uint64_t piece_left;
		uint8_t *device = piece_at(slice->link, slice->op, slice->op_offset + slice->copied,
					   &piece_left);
		int rc;

		if (left > piece_left)
			left = piece_left;
		if (out)
			rc = far_copier_add(tp->copier, way, slice->stage + slice->copied, device,
					    left, &slice->seq);
		else
			rc = far_copier_add(tp->copier, way, device,
					    (slice->mapped != NULL ? slice->mapped : slice->stage) +
						    slice->copied,
					    left, &slice->seq);
		if (rc < 0)
			return rc;
		if (out)
			tp->status.copies_out++;
		else
			tp->status.copies_in++;
		slice->copied += left;
	}
	slice->state = SLICE_COPYING;
	far_list_remove(&slice->node);
	far_list_push_back(&tp->copying[way], &slice->node);
	return 0;
}

void
far_gpu_slice_landed(struct gpu_slice *slice, int status)
{
	struct gpu_transport *tp = gpu_tp(slice->link->link.tp);

	FAR_ASSERT(slice->state == SLICE_INNER);
	if (slice->op->kind == FAR_OP_READ) {
		FAR_ASSERT(slice->list->reads > 0);
		slice->list->reads--;
	}
	if (status < 0 || slice->stage == NULL || slice->op->kind == FAR_OP_WRITE) {
		far_gpu_slice_end(slice, status);
		return;
	}
	/* In the order in which they landed, so that neighbours become one copy. */
	slice->state = SLICE_WAITING;
	far_list_push_back(&tp->waiting, &slice->node);
	far_gpu_link_wake(slice->link);
}

static void
copy_ended(struct gpu_slice *slice, int status)
{
	far_list_remove(&slice->node);
	if (slice->mapped != NULL) {
		FAR_ASSERT(slice->list->reads > 0);
		slice->list->reads--;
	}
	/* The peer shall not take for whole what is behind a WRITE that never was. */
	if (slice->op->kind == FAR_OP_WRITE && status < 0 && slice->link->lost_status == 0)
		slice->link->lost_status = -ECONNRESET;
	if (slice->op->kind == FAR_OP_READ || status < 0) {
		far_gpu_slice_end(slice, status);
		return;
	}
	slice->state = SLICE_READY;
	far_list_push_back(&slice->link->writes_ready, &slice->node);
	far_gpu_link_wake(slice->link);
}

/* The device failed. What of the slice was started has ended when the copier says so. */
static void
copy_failed(struct gpu_slice *slice, int status)
{
	struct gpu_transport *tp = gpu_tp(slice->link->link.tp);
	enum far_copy_way way = slice->op->kind == FAR_OP_WRITE ? FAR_COPY_OUT : FAR_COPY_IN;

	if (slice->copied == 0) {
		copy_ended(slice, status);
		return;
	}
	slice->state = SLICE_COPYING;
	far_list_remove(&slice->node);
	far_list_push_back(&tp->copying[way], &slice->node);
}

bool
far_gpu_slice_copy_first(struct gpu_slice *slice)
{
	struct gpu_transport *tp = gpu_tp(slice->link->link.tp);
	int rc = far_gpu_slice_copy(slice);

	if (rc == -EAGAIN && slice->copied == 0) {
		slice->link->room_waits = true;
		return false;
	}
	if (rc == -EAGAIN) {
		slice->state = SLICE_WAITING;
		far_list_push_back(&tp->waiting, &slice->node);
	} else if (rc < 0) {
		copy_failed(slice, rc);
	}
	return true;
}

static int
waiting_run(struct gpu_transport *tp)
{
	int work = 0;

	while (!far_list_empty(&tp->waiting)) {
		struct gpu_slice *slice =
			FAR_CONTAINER_OF(tp->waiting.next, struct gpu_slice, node);
		int rc = far_gpu_slice_copy(slice);

		if (rc == -EAGAIN)
			break;
		work++;
		if (rc < 0)
			copy_failed(slice, rc);
	}
	return work;
}

int
far_gpu_copies_run(struct gpu_transport *tp)
{
	int ended = 0;

	for (int i = 0; i < FAR_COPY_WAYS; i++) {
		struct far_list *list = &tp->copying[i];
		uint64_t done = 0;
		int rc;

		if (far_list_empty(list))
			continue;
		rc = far_copier_poll(tp->copier, (enum far_copy_way)i, &done);
		while (!far_list_empty(list)) {
			struct gpu_slice *slice =
				FAR_CONTAINER_OF(list->next, struct gpu_slice, node);

			if (slice->seq > done)
				break;
			/* What had ended well before the device failed is not known any more. */
			copy_ended(slice, rc);
			ended++;
		}
	}
	if (ended > 0)
		far_gpu_links_room(tp);
	return ended + waiting_run(tp);
}

/* ---- WRITEs, out of the ring ---- */

static uint32_t
ready_gather(struct gpu_link *link, bool cancel)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);
	uint32_t count = 0;

	while (!far_list_empty(&link->writes_ready) && count < FAR_POST_OPS_MAX) {
		struct gpu_slice *slice =
			FAR_CONTAINER_OF(link->writes_ready.next, struct gpu_slice, node);
		struct far_op *op = &tp->inner_ops[count];
		struct far_piece *piece = &tp->inner_pieces[count];

		far_list_remove(&slice->node);
		if (cancel) {
			far_gpu_slice_end(slice, -ECANCELED);
			continue;
		}
		*piece = (struct far_piece){
			.addr = slice->stage,
			.size_bytes = (uint32_t)slice->size_bytes,
			.mem = tp->stage.mem,
		};
		*op = (struct far_op){
			.kind = FAR_OP_WRITE,
			.remote_addr = slice->op->remote_addr + slice->op_offset,
			.rkey = slice->op->rkey,
			.pieces = piece,
			.piece_count = 1,
			.token = (uint64_t)(slice - link->slices) + 1,
		};
		slice->group_first = (uint32_t)(slice - link->slices);
		slice->next = GPU_NONE;
		tp->batch[count++] = slice->group_first;
	}
	return count;
}

int
far_gpu_writes_run(struct gpu_link *link)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);
	bool cancel = link->inner == NULL || !link->inner->up || link->disconnected;
	uint32_t count;
	int rc;

	if (far_list_empty(&link->writes_ready) || (link->inner_full && !cancel))
		return 0;
	count = ready_gather(link, cancel);
	if (count == 0)
		return 1;
	rc = far_transport_post(link->inner, tp->inner_ops, (int)count);
	for (uint32_t i = 0; i < count; i++) {
		struct gpu_slice *slice = &link->slices[tp->batch[i]];
		struct gpu_op *op = slice->op;

		if (rc < 0) {
			/* In front again, in their order. */
			slice = &link->slices[tp->batch[count - 1 - i]];
			far_list_push_front(&link->writes_ready, &slice->node);
			continue;
		}
		slice->state = SLICE_INNER;
		op->posted += slice->size_bytes;
		if (op->posted == op->bytes)
			far_gpu_op_begun(link, op);
	}
	if (rc < 0)
		link->inner_full = rc == -EAGAIN;
	return rc < 0 ? 0 : (int)count;
}
