/* serve.c - READs of the peer: checked, copied into frames, a frame of each list in turn. */
#include "transport/ucx/ucx_priv.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"

int
far_ucx_serve_init(struct ucx_serve *serve)
{
	far_list_init(&serve->active);
	serve->requests = far_zalloc_array(UCX_SERVE_MAX, sizeof(*serve->requests));
	serve->lists = far_zalloc_array(UCX_SERVE_MAX, sizeof(*serve->lists));
	if (serve->requests == NULL || serve->lists == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < UCX_SERVE_MAX; i++) {
		serve->requests[i].next = i + 1 < UCX_SERVE_MAX ? i + 1 : UCX_NONE;
		serve->lists[i].head = UCX_NONE;
		far_list_init(&serve->lists[i].node);
	}
	return 0;
}

void
far_ucx_serve_fini(struct ucx_serve *serve)
{
	far_free(serve->requests);
	far_free(serve->lists);
	*serve = (struct ucx_serve){0};
}

int
far_ucx_serve_take(struct ucx_link *link, const struct ucx_frame *frame)
{
	struct ucx_serve *serve = &link->serve;

	for (size_t at = 0; at < frame->body_bytes; at += sizeof(struct ucx_frame_read)) {
		struct ucx_frame_read record;
		struct ucx_serve_list *list;
		uint32_t idx = serve->free;

		memcpy(&record, frame->body + at, sizeof(record));
		/* More than it was told it may ask for. */
		if (idx == UCX_NONE || record.list >= UCX_SERVE_MAX ||
		    (record.flags & ~UCX_FLAG_FENCE) != 0)
			return -EPROTO;
		serve->free = serve->requests[idx].next;
		serve->requests[idx] = (struct ucx_request){
			.rkey = record.rkey,
			.addr = record.addr,
			.bytes = record.size_bytes,
			.id = record.id,
			.next = UCX_NONE,
			.fence = (record.flags & UCX_FLAG_FENCE) != 0,
		};
		list = &serve->lists[record.list];
		if (list->head == UCX_NONE)
			list->head = idx;
		else
			serve->requests[list->tail].next = idx;
		list->tail = idx;
		if (far_list_empty(&list->node))
			far_list_push_back(&serve->active, &list->node);
	}
	UCX_TP(link->link.tp)->urgent = true;
	far_ucx_link_wake(link);
	return 0;
}

/*
 * Adds what the frame still takes of a request. The bytes are sampled here and now, so that no
 * frame on its way names memory of ours, and a fence is the order of two copies.
 * Returns whether the request is over.
 */
static bool
request_copy(struct ucx_link *link, struct ucx_request *request, struct ucx_tx *tx, size_t room)
{
	struct ucx_frame_data record = {.id = request->id, .offset = request->offset};
	static const uint8_t zeros[UCX_ALIGN_BYTES];
	uint64_t left = request->bytes - request->offset;
	uint8_t *from = NULL;

	/* Anew for each part: the owner may have taken the region back in between. */
	record.status = far_ucx_mem_find(link, &request->rkey, request->addr, request->bytes,
					 FAR_RIGHT_REMOTE_READ, &from);
	if (record.status < 0) {
		record.flags = UCX_FLAG_LAST;
		(void)far_ucx_tx_add(tx, &record, sizeof(record));
		return true;
	}
	record.size_bytes = (uint32_t)(left < room ? left : room);
	record.flags = record.size_bytes == left ? UCX_FLAG_LAST : 0;
	if (request->fence)
		atomic_thread_fence(memory_order_seq_cst);
	(void)far_ucx_tx_add(tx, &record, sizeof(record));
	(void)far_ucx_tx_add(tx, from + request->offset, record.size_bytes);
	(void)far_ucx_tx_add(tx, zeros, far_ucx_padded(record.size_bytes) - record.size_bytes);
	request->offset += record.size_bytes;
	link->bulk_out += record.size_bytes;
	return (record.flags & UCX_FLAG_LAST) != 0;
}

bool
far_ucx_serve_send(struct ucx_link *link)
{
	struct ucx_serve *serve = &link->serve;
	struct ucx_serve_list *list;
	struct ucx_tx *tx;
	size_t left = far_ucx_window(link);

	/* Of the window a whole frame's worth has to be free: no frames of crumbs. */
	if (far_list_empty(&serve->active) || left < UCX_BULK_BYTES)
		return false;
	tx = far_ucx_tx_get(link->conn, UCX_FRAME_DATA);
	if (tx == NULL)
		return false;
	list = FAR_CONTAINER_OF(serve->active.next, struct ucx_serve_list, node);
	left = UCX_BULK_BYTES;
	while (list->head != UCX_NONE && left > 0 &&
	       far_ucx_tx_room(tx) >= sizeof(struct ucx_frame_data) + left + UCX_ALIGN_BYTES) {
		uint32_t idx = list->head;
		struct ucx_request *request = &serve->requests[idx];
		size_t before = tx->size_bytes;

		if (!request_copy(link, request, tx, left))
			break;
		list->head = request->next;
		request->next = serve->free;
		serve->free = idx;
		left -= tx->size_bytes - before < left ? tx->size_bytes - before : left;
	}
	/* The next frame is of another list, if there is one: nobody waits for a big block of
	 * somebody else. */
	far_list_remove(&list->node);
	if (list->head != UCX_NONE)
		far_list_push_back(&serve->active, &list->node);
	far_ucx_frame_send(link, tx);
	return true;
}
