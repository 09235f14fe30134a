/* send.c - what leaves: state first, then READs, the stream of WRITEs and messages, and answers. */
#include "transport/ucx/ucx_priv.h"

#include <string.h>

#define STREAM_MASK (UCX_STREAM_MAX - 1)
_Static_assert((UCX_STREAM_MAX & STREAM_MASK) == 0, "a power of two");
/* So many frames stay free for what is short, when blocks wait for the socket. */
#define TX_RESERVED 2U
/* READs of one list that may be asked for while others wait. */
#define ASK_QUANTUM 32U

uint32_t
far_ucx_window(const struct ucx_link *link)
{
	uint32_t on_the_way = link->bulk_out - link->bulk_acked;

	return on_the_way < link->peer_window_bytes ? link->peer_window_bytes - on_the_way : 0;
}

/* ---- messages that wait: pieces of a ring, never split over its end ---- */

static bool
ring_fits(const struct ucx_link *link, uint32_t need, uint32_t *start_out)
{
	uint32_t to_end = UCX_RING_BYTES - link->ring_tail;

	if (link->ring_used == 0) {
		*start_out = 0;
		return need <= UCX_RING_BYTES;
	}
	*start_out = link->ring_tail;
	if (link->ring_tail <= link->ring_head)
		return need <= link->ring_head - link->ring_tail;
	if (need <= to_end)
		return true;
	*start_out = 0;
	return need <= link->ring_head;
}

static bool
stream_is_full(const struct ucx_link *link)
{
	return link->stream_tail - link->stream_head == UCX_STREAM_MAX;
}

/* A WRITE that failed here and now is told before a message may speak of its bytes. */
static bool
send_allowed(const struct ucx_link *link, size_t size_bytes)
{
	uint32_t start;

	return link->credits > 0 && link->queue.write_failures == 0 && !stream_is_full(link) &&
	       ring_fits(link, (uint32_t)size_bytes, &start);
}

bool
far_ucx_send_ready(const struct ucx_link *link)
{
	return link->send_refused && send_allowed(link, FAR_MESSAGE_BYTES_MAX);
}

static void
stream_push(struct ucx_link *link, const struct ucx_stream_item *item)
{
	FAR_ASSERT(!stream_is_full(link)); /* there is a place for every op and every credit */
	link->stream[link->stream_tail++ & STREAM_MASK] = *item;
}

void
far_ucx_stream_push_write(struct ucx_link *link, uint32_t op_idx)
{
	struct ucx_stream_item item = {.op = op_idx};

	stream_push(link, &item);
}

int
far_ucx_send(struct far_link *flink, const void *msg, size_t size_bytes)
{
	struct ucx_link *link = UCX_LINK(flink);
	struct ucx_stream_item item = {.op = UCX_NONE, .bytes = (uint32_t)size_bytes};

	if (far_ucx_is_child(UCX_TP(flink->tp)))
		return -EPERM;
	if (!flink->up)
		return -ENOTCONN;
	if (!send_allowed(link, size_bytes)) {
		link->send_refused = true;
		return -EAGAIN;
	}
	(void)ring_fits(link, item.bytes, &item.start);
	if (link->ring_used == 0)
		link->ring_head = 0;
	memcpy(link->ring + item.start, msg, size_bytes);
	link->ring_tail = item.start + item.bytes;
	link->ring_used += item.bytes;
	link->credits--;
	stream_push(link, &item);
	far_ucx_link_wake(link);
	return 0;
}

/* ---- frames ---- */

void
far_ucx_frame_send(struct ucx_link *link, struct ucx_tx *tx)
{
	uint32_t owed = link->owed;

	link->rx_credits += owed;
	link->owed = 0;
	link->bulk_told = link->bulk_in;
	far_ucx_tx_send(tx, owed, link->bulk_in);
}

static bool
greet_send(struct ucx_link *link)
{
	struct ucx_transport *tp = UCX_TP(link->link.tp);
	bool opener = link->conn->connector;
	struct ucx_tx *tx =
		far_ucx_tx_get(link->conn, opener ? UCX_FRAME_HELLO : UCX_FRAME_WELCOME);
	struct ucx_frame_hello hello = {
		.features = tp->fabric ? UCX_FEATURE_GET : 0,
		.nonce = tp->nonce,
		.credits = tp->credits,
		.reads_max = UCX_SERVE_MAX,
		.window_bytes = UCX_WINDOW_BYTES,
		.hello_bytes = link->hello_bytes,
	};

	if (tx == NULL)
		return false;
	memcpy(hello.hello, link->hello, link->hello_bytes);
	(void)far_ucx_tx_add(tx, &hello, sizeof(hello));
	link->greet_pending = false;
	far_ucx_frame_send(link, tx);
	return true;
}

/* Credits and acknowledgements go along with any frame; alone only when enough has gathered. */
static bool
state_is_due(const struct ucx_link *link)
{
	uint32_t all = UCX_TP(link->link.tp)->credits;

	return (link->owed > 0 && link->owed >= all / 4) ||
	       link->bulk_in - link->bulk_told >= UCX_WINDOW_BYTES / 4;
}

static bool
state_send(struct ucx_link *link)
{
	struct ucx_frame_write_done done = {.seq = link->write_seq, .status = link->write_refused};
	bool writes = link->write_seq != link->write_seq_told || link->write_refused < 0;
	struct ucx_tx *tx;

	if (!writes && !state_is_due(link))
		return false;
	tx = far_ucx_tx_get(link->conn, writes ? UCX_FRAME_WRITE_DONE : UCX_FRAME_STATE);
	if (tx == NULL)
		return false;
	if (writes) {
		done.seq += link->write_refused < 0;
		(void)far_ucx_tx_add(tx, &done, sizeof(done));
		link->write_seq_told = link->write_seq;
	}
	far_ucx_frame_send(link, tx);
	if (link->write_refused < 0) {
		/* The messages behind it may speak of its bytes: it costs the link. */
		link->conn->linger = true;
		far_ucx_link_fail(link, -EACCES);
	}
	return true;
}

/* ---- READs that are asked for ---- */

static uint32_t
next_read(const struct ucx_queue *queue, uint32_t idx)
{
	while (idx != UCX_NONE && queue->ops[idx].kind != FAR_OP_READ)
		idx = queue->ops[idx].next;
	return idx;
}

/* Whether it has a READ to ask for that is not behind a fenced WRITE which has not started. */
static bool
list_may_ask(const struct ucx_queue *queue, const struct ucx_op_list *list)
{
	return list->ask != UCX_NONE && queue->ops[list->ask].writes_before <= list->writes_started;
}

/* Adds READs of one list. Returns how many. */
static uint32_t
list_ask(struct ucx_link *link, struct ucx_op_list *list, struct ucx_tx *tx, uint32_t most)
{
	struct ucx_queue *queue = &link->queue;
	uint32_t asked = 0;

	while (asked < most && list_may_ask(queue, list)) {
		struct ucx_op *op = &queue->ops[list->ask];
		struct ucx_frame_read record = {
			.rkey = op->rkey,
			.addr = op->addr,
			.size_bytes = op->bytes,
			.id = list->ask | op->generation * UCX_OPS_MAX,
			.list = list->slot,
			.flags = (op->flags & FAR_OP_FENCE) != 0 ? UCX_FLAG_FENCE : 0,
		};

		(void)far_ucx_tx_add(tx, &record, sizeof(record));
		op->sent = true;
		queue->reads_out++;
		asked++;
		list->ask = next_read(queue, op->next);
	}
	return asked;
}

static bool
asks_send(struct ucx_link *link)
{
	struct ucx_queue *queue = &link->queue;
	uint32_t left = UCX_READS_PER_FRAME;
	struct ucx_tx *tx = NULL;

	if (link->gets != NULL)
		return far_ucx_gets_start(link);
	while (left > 0 && !far_list_empty(&queue->asking) &&
	       queue->reads_out < link->peer_reads_max) {
		struct ucx_op_list *list =
			FAR_CONTAINER_OF(queue->asking.next, struct ucx_op_list, ask_node);
		uint32_t most = link->peer_reads_max - queue->reads_out;

		if (!list_may_ask(queue, list)) {
			far_list_remove(&list->ask_node); /* write_start() brings it back */
			continue;
		}
		if (!list->has_slot) {
			if (queue->slot_count == 0)
				break;
			list->slot = queue->slots[--queue->slot_count];
			list->has_slot = true;
		}
		if (tx == NULL)
			tx = far_ucx_tx_get(link->conn, UCX_FRAME_READ);
		if (tx == NULL)
			break;
		most = most < ASK_QUANTUM ? most : ASK_QUANTUM;
		far_list_remove(&list->ask_node);
		left -= list_ask(link, list, tx, most < left ? most : left);
		if (list_may_ask(queue, list))
			far_list_push_back(&queue->asking, &list->ask_node);
	}
	if (tx == NULL)
		return false;
	far_ucx_frame_send(link, tx);
	return true;
}

/* ---- the stream: WRITEs and messages in their order ---- */

/* Adds what the frame takes of a WRITE. Returns whether all of it has left. */
static bool
write_copy(struct ucx_link *link, struct ucx_op *op, struct ucx_tx *tx, size_t room)
{
	static const uint8_t zeros[UCX_ALIGN_BYTES];
	struct ucx_queue *queue = &link->queue;
	uint64_t left = op->bytes - op->moved;
	uint32_t size_bytes = (uint32_t)(left < room ? left : room);
	struct ucx_frame_write record = {
		.rkey = op->rkey,
		.addr = op->addr,
		.op_bytes = op->bytes,
		.seq = op->seq,
		.size_bytes = size_bytes,
		.flags = size_bytes == left ? UCX_FLAG_LAST : 0,
	};

	(void)far_ucx_tx_add(tx, &record, sizeof(record));
	for (uint32_t todo = size_bytes; todo > 0;) {
		const struct ucx_piece *piece = &queue->pieces[op->piece];
		uint32_t part = piece->size_bytes - op->piece_offset;

		part = part < todo ? part : todo;
		(void)far_ucx_tx_add(tx, (const uint8_t *)piece->addr + op->piece_offset, part);
		todo -= part;
		op->piece_offset += part;
		if (op->piece_offset == piece->size_bytes) {
			op->piece = piece->next;
			op->piece_offset = 0;
		}
	}
	(void)far_ucx_tx_add(tx, zeros, far_ucx_padded(size_bytes) - size_bytes);
	op->moved += size_bytes;
	link->bulk_out += size_bytes;
	return op->moved == op->bytes;
}

static void
write_start(struct ucx_link *link, uint32_t op_idx)
{
	struct ucx_queue *queue = &link->queue;
	struct ucx_op *op = &queue->ops[op_idx];
	struct ucx_op_list *list = &queue->lists[op->list];

	if (op->seq != 0)
		return;
	op->seq = ++queue->write_seq;
	queue->unacked[queue->unacked_tail++ % UCX_OPS_MAX] = op_idx;
	if (op->flags & FAR_OP_FENCE) {
		list->writes_started++;
		if (list->ask != UCX_NONE && far_list_empty(&list->ask_node))
			far_list_push_back(&queue->asking, &list->ask_node);
	}
}

/* One frame of the WRITEs at the head of the stream. */
static bool
writes_send(struct ucx_link *link)
{
	struct ucx_queue *queue = &link->queue;
	size_t left = UCX_BULK_BYTES;
	struct ucx_tx *tx = NULL;

	if (far_ucx_window(link) < UCX_BULK_BYTES || link->conn->tx_free_count <= TX_RESERVED)
		return false;
	while (link->stream_head != link->stream_tail && left > 0) {
		uint32_t idx = link->stream[link->stream_head & STREAM_MASK].op;
		struct ucx_op *op;
		size_t before;

		if (idx == UCX_NONE)
			break;
		op = &queue->ops[idx];
		if (queue->lists[op->list].reads_done < op->reads_before)
			break; /* it is fenced behind them */
		if (tx == NULL)
			tx = far_ucx_tx_get(link->conn, UCX_FRAME_WRITE);
		if (tx == NULL ||
		    far_ucx_tx_room(tx) < sizeof(struct ucx_frame_write) + left + UCX_ALIGN_BYTES)
			break;
		write_start(link, idx);
		before = tx->size_bytes;
		if (!write_copy(link, op, tx, left))
			break;
		link->stream_head++;
		left -= tx->size_bytes - before < left ? tx->size_bytes - before : left;
	}
	if (tx == NULL)
		return false;
	far_ucx_frame_send(link, tx);
	return true;
}

static bool
message_send(struct ucx_link *link, const struct ucx_stream_item *item)
{
	struct ucx_tx *tx = far_ucx_tx_get(link->conn, UCX_FRAME_MSG);
	struct ucx_frame_msg msg = {.message_bytes = item->bytes, .offset = link->stream_offset};
	uint32_t part = item->bytes - link->stream_offset;

	if (tx == NULL)
		return false;
	part = part < UCX_BULK_BYTES ? part : UCX_BULK_BYTES;
	(void)far_ucx_tx_add(tx, &msg, sizeof(msg));
	(void)far_ucx_tx_add(tx, link->ring + item->start + link->stream_offset, part);
	link->stream_offset += part;
	if (link->stream_offset == item->bytes) {
		link->stream_offset = 0;
		link->ring_head = item->start + item->bytes;
		link->ring_used -= item->bytes;
		link->stream_head++;
	}
	far_ucx_frame_send(link, tx);
	return true;
}

static bool
stream_send(struct ucx_link *link)
{
	const struct ucx_stream_item *item;

	if (link->stream_head == link->stream_tail)
		return false;
	item = &link->stream[link->stream_head & STREAM_MASK];
	return item->op == UCX_NONE ? message_send(link, item) : writes_send(link);
}

/* ---- all of it ---- */

static bool
serve_send(struct ucx_link *link)
{
	return link->conn->tx_free_count > TX_RESERVED && far_ucx_serve_send(link);
}

/* One frame of the three, each of them first in turn. */
static bool
turn_send(struct ucx_link *link)
{
	static bool (*const ways[])(struct ucx_link *) = {asks_send, stream_send, serve_send};

	for (uint32_t i = 0; i < 3; i++)
		if (ways[(link->turn + i) % 3](link)) {
			link->turn += i + 1;
			return true;
		}
	return false;
}

/* Keys go before anything that is said later: whoever hears of a region can read it. */
static bool
frame_next(struct ucx_link *link)
{
	if (link->greet_pending)
		return greet_send(link);
	if (!link->greeted)
		return false;
	if (link->untold_count > 0)
		return far_ucx_keys_send(link);
	return state_send(link) || turn_send(link);
}

int
far_ucx_flush(struct ucx_link *link)
{
	int sent = 0;

	while (sent < UCX_TURN_FRAMES && link->conn != NULL && link->conn->rc == 0) {
		if (!frame_next(link))
			break;
		sent++;
	}
	return sent;
}
