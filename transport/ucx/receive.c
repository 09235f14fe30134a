/* receive.c - what arrives at a link: placed or kept inside progress, told to its owner later. */
#include "transport/ucx/ucx_priv.h"

#include <string.h>

#include "base/alloc.h"
#include "base/copy.h"
#include "base/publish.h"

#define STREAM_BYTES_MIN (16U * 1024U)

/* What the next of the link's owners reads soon stays in the cache; whole blocks pass by it. */
static void
place(uint8_t *to, const uint8_t *from, size_t size_bytes)
{
	if (size_bytes < (size_t)STREAM_BYTES_MIN)
		memcpy(to, from, size_bytes);
	else
		far_copy_stream(to, from, size_bytes);
}

/* ---- messages ---- */

/* A ring whose records are never split over its end. A record keeps its place until its handler has
 * returned, and so does its credit: with room for one record more than there are credits, the
 * longest message finds a place, whatever is left over at the end. Pages that are never used are
 * never there. */
int
far_ucx_inbox_init(struct ucx_link *link, uint32_t credits)
{
	link->inbox_bytes_max =
		(credits + 1) * (uint32_t)far_ucx_padded(FAR_MESSAGE_BYTES_MAX + sizeof(uint64_t));
	link->inbox = far_zalloc(link->inbox_bytes_max);
	return link->inbox == NULL ? -ENOMEM : 0;
}

static int
inbox_push(struct ucx_link *link, const uint8_t *bytes, uint32_t size_bytes)
{
	uint64_t record = size_bytes; /* before each message, so that it is aligned */
	uint32_t need = (uint32_t)(sizeof(record) + far_ucx_padded(size_bytes));

	if (link->inbox_wrap == 0 && need > link->inbox_bytes_max - link->inbox_tail) {
		link->inbox_wrap = link->inbox_tail;
		link->inbox_tail = 0;
	}
	FAR_ASSERT(need <= (link->inbox_wrap != 0 ? link->inbox_head : link->inbox_bytes_max) -
				   link->inbox_tail);
	memcpy(link->inbox + link->inbox_tail, &record, sizeof(record));
	memcpy(link->inbox + link->inbox_tail + sizeof(record), bytes, size_bytes);
	link->inbox_tail += need;
	link->inbox_count++;
	UCX_TP(link->link.tp)->inbox_count++;
	return 0;
}

static int
message_take(struct ucx_link *link, const struct ucx_frame *frame)
{
	const struct ucx_frame_msg *msg = &frame->u.msg;
	uint32_t part = (uint32_t)frame->body_bytes;

	if (msg->offset != link->partial_bytes)
		return -EPROTO;
	if (msg->offset == 0) {
		if (link->rx_credits == 0)
			return -EPROTO;
		link->rx_credits--;
		link->partial_total = msg->message_bytes;
		if (part == msg->message_bytes)
			return inbox_push(link, frame->body, part);
	}
	if (msg->message_bytes != link->partial_total)
		return -EPROTO;
	memcpy(link->partial + msg->offset, frame->body, part);
	link->partial_bytes += part;
	if (link->partial_bytes < link->partial_total)
		return 0;
	link->partial_bytes = 0;
	return inbox_push(link, link->partial, link->partial_total);
}

int
far_ucx_inbox_deliver(struct ucx_link *link)
{
	struct ucx_transport *tp = UCX_TP(link->link.tp);
	int told = 0;

	while (link->inbox_count > 0 && tp->budget > 0) {
		struct far_event event = {.kind = FAR_EV_MESSAGE};
		uint64_t size_bytes;

		if (link->inbox_wrap != 0 && link->inbox_head == link->inbox_wrap) {
			link->inbox_head = 0;
			link->inbox_wrap = 0;
		}
		memcpy(&size_bytes, link->inbox + link->inbox_head, sizeof(size_bytes));
		event.msg = link->inbox + link->inbox_head + sizeof(size_bytes);
		event.msg_bytes = size_bytes;
		link->inbox_count--;
		tp->inbox_count--;
		told++;
		far_ucx_link_emit(link, &event);
		/* Its handler may have had more taken in: by ending a listener, for one. */
		link->inbox_head += (uint32_t)far_ucx_padded(sizeof(size_bytes) + size_bytes);
		link->owed++;
	}
	if (link->inbox_count == 0) {
		link->inbox_head = 0;
		link->inbox_tail = 0;
		link->inbox_wrap = 0;
	}
	return told;
}

void
far_ucx_inbox_drop(struct ucx_link *link)
{
	UCX_TP(link->link.tp)->inbox_count -= link->inbox_count;
	link->inbox_count = 0;
}

/* ---- data of our READs ---- */

static void
op_place(struct ucx_queue *queue, struct ucx_op *op, const uint8_t *from, uint32_t size_bytes)
{
	op->moved += size_bytes;
	while (size_bytes > 0) {
		const struct ucx_piece *piece = &queue->pieces[op->piece];
		uint32_t part = piece->size_bytes - op->piece_offset;

		part = part < size_bytes ? part : size_bytes;
		place((uint8_t *)piece->addr + op->piece_offset, from, part);
		from += part;
		size_bytes -= part;
		op->piece_offset += part;
		if (op->piece_offset == piece->size_bytes) {
			op->piece = piece->next;
			op->piece_offset = 0;
		}
	}
}

static int
data_take(struct ucx_link *link, const struct ucx_frame *frame)
{
	struct ucx_queue *queue = &link->queue;
	struct ucx_frame_data record;
	const uint8_t *bytes;
	size_t at = 0;

	while ((bytes = far_ucx_frame_next_data(frame, &at, &record)) != NULL) {
		uint32_t idx = record.id % UCX_OPS_MAX;
		struct ucx_op *op = &queue->ops[idx];

		/* What we did not ask for lands nowhere. */
		if (idx >= queue->op_fresh || record.id != (idx | op->generation * UCX_OPS_MAX) ||
		    op->kind != FAR_OP_READ || !op->sent || op->done)
			return -EPROTO;
		if (record.status != 0) {
			if (record.status != -EACCES && record.status != -ESTALE)
				return -EPROTO;
			far_ucx_op_end(link, idx, record.status);
			continue;
		}
		if (record.offset != op->moved || record.size_bytes > op->bytes - op->moved)
			return -EPROTO;
		op_place(queue, op, bytes, record.size_bytes);
		link->bulk_in += record.size_bytes;
		if ((op->moved == op->bytes) != ((record.flags & UCX_FLAG_LAST) != 0))
			return -EPROTO;
		if (op->moved == op->bytes)
			far_ucx_op_end(link, idx, 0);
	}
	return 0;
}

/* ---- WRITEs of the peer ---- */

static int
writes_take(struct ucx_link *link, const struct ucx_frame *frame)
{
	struct ucx_frame_write record;
	const uint8_t *bytes;
	size_t at = 0;

	while ((bytes = far_ucx_frame_next_write(frame, &at, &record)) != NULL) {
		uint8_t *to;

		if (record.seq != link->write_seq + 1 || link->write_offset > record.op_bytes ||
		    record.size_bytes > record.op_bytes - link->write_offset)
			return -EPROTO;
		/* Anew for each part: a grant may end between two. */
		link->write_refused =
			far_ucx_mem_find(link, &record.rkey, record.addr, record.op_bytes,
					 FAR_RIGHT_REMOTE_WRITE, &to);
		if (link->write_refused < 0)
			break;
		place(to + link->write_offset, bytes, record.size_bytes);
		link->bulk_in += record.size_bytes;
		link->write_offset += record.size_bytes;
		if ((link->write_offset == record.op_bytes) !=
		    ((record.flags & UCX_FLAG_LAST) != 0))
			return -EPROTO;
		if (link->write_offset == record.op_bytes) {
			link->write_seq = record.seq;
			link->write_offset = 0;
		}
	}
	/* Visible before any message behind them. */
	far_mem_publish();
	return 0;
}

/* ---- answers to our WRITEs ---- */

static int
write_done_take(struct ucx_link *link, const struct ucx_frame_write_done *done)
{
	struct ucx_queue *queue = &link->queue;

	if (done->seq > queue->write_seq)
		return -EPROTO;
	if (done->status != 0 && done->status != -EACCES && done->status != -ESTALE)
		return -EPROTO;
	while (queue->unacked_head != queue->unacked_tail) {
		uint32_t idx = queue->unacked[queue->unacked_head % UCX_OPS_MAX];
		struct ucx_op *op = &queue->ops[idx];

		if (op->seq > done->seq)
			break;
		if (op->seq == done->seq && done->status != 0) {
			/* The others of its list carry on with what the link ended with. */
			queue->unacked_head++;
			far_ucx_op_end(link, idx, done->status);
			return -EACCES;
		}
		if (op->moved < op->bytes)
			return -EPROTO;
		queue->unacked_head++;
		far_ucx_op_end(link, idx, 0);
	}
	return done->status == 0 ? 0 : -EPROTO;
}

/* ---- all of it ---- */

static int
header_take(struct ucx_link *link, const struct ucx_frame *frame)
{
	if (frame->credits > link->credits_max - link->credits)
		return -EPROTO;
	if (frame->acked - link->bulk_acked > link->bulk_out - link->bulk_acked)
		return -EPROTO;
	link->credits += frame->credits;
	link->bulk_acked = frame->acked;
	return 0;
}

int
far_ucx_receive(struct ucx_link *link, const struct ucx_frame *frame)
{
	int rc;

	far_ucx_link_wake(link);
	if (!link->greeted) {
		if (frame->kind != UCX_FRAME_WELCOME)
			return -EPROTO;
		link->conn->greeted = true;
		rc = far_ucx_link_greeted(link, &frame->u.hello);
		link->connected_pending = rc == 0;
		return rc;
	}
	/* Whatever stands behind a WRITE that was refused is not for anybody. */
	if (link->write_refused < 0)
		return 0;
	rc = header_take(link, frame);
	if (rc < 0)
		return rc;
	switch (frame->kind) {
	case UCX_FRAME_STATE:
		return 0;
	case UCX_FRAME_MSG:
		return message_take(link, frame);
	case UCX_FRAME_READ:
		/* With trust: fabric nobody is served in secret. */
		return link->gets != NULL ? -EPROTO : far_ucx_serve_take(link, frame);
	case UCX_FRAME_DATA:
		return data_take(link, frame);
	case UCX_FRAME_WRITE:
		return writes_take(link, frame);
	case UCX_FRAME_WRITE_DONE:
		return write_done_take(link, &frame->u.write_done);
	case UCX_FRAME_KEY:
		return far_ucx_keys_take(link, frame);
	default:
		return -EPROTO;
	}
}
