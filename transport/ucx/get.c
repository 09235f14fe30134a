/* get.c - with trust: fabric, READs: slices that UCX fetches without the peer's doing anything. */
#include "transport/ucx/ucx_priv.h"

#include "base/alloc.h"

#define GETS_PER_TURN 64U
/* READs of one list that may be started while others wait. */
#define LIST_QUANTUM 32U

/* A slice that UCX has. */
struct ucx_get {
	struct ucx_link *link;
	struct ucx_peer_key *key;
	struct ucx_get *next;
	uint32_t op_idx;
	uint32_t size_bytes;
};

int
far_ucx_gets_init(struct ucx_link *link)
{
	far_bitmap_init(&link->untold, link->untold_words, UCX_REGIONS_MAX);
	if (!UCX_TP(link->link.tp)->fabric)
		return 0;
	link->gets = far_zalloc_array(UCX_GETS_MAX, sizeof(*link->gets));
	link->peer_keys = far_zalloc_array(UCX_REGIONS_MAX, sizeof(struct ucx_peer_key *));
	if (link->gets == NULL || link->peer_keys == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < UCX_GETS_MAX; i++) {
		link->gets[i].link = link;
		link->gets[i].next = link->get_free;
		link->get_free = &link->gets[i];
	}
	return 0;
}

void
far_ucx_gets_fini(struct ucx_link *link)
{
	FAR_ASSERT(link->gets_out == 0);
	far_ucx_keys_fini(link);
	far_free(link->gets);
	link->gets = NULL;
}

/* ---- what may start ---- */

static uint32_t
next_read(const struct ucx_queue *queue, uint32_t idx)
{
	while (idx != UCX_NONE && queue->ops[idx].kind != FAR_OP_READ)
		idx = queue->ops[idx].next;
	return idx;
}

/* A fence is kept here, not by UCX: what stands behind one starts when all READs before it have
 * been called back for, and all fenced WRITEs before it have started. */
static bool
list_may_get(const struct ucx_queue *queue, const struct ucx_op_list *list)
{
	const struct ucx_op *op;

	if (list->ask == UCX_NONE)
		return false;
	op = &queue->ops[list->ask];
	return op->writes_before <= list->writes_started && op->reads_before <= list->reads_done;
}

static void
list_queue(struct ucx_queue *queue, struct ucx_op_list *list)
{
	if (list_may_get(queue, list) && far_list_empty(&list->ask_node))
		far_list_push_back(&queue->asking, &list->ask_node);
}

/* ---- the end of a slice ---- */

/* Ends an op of which nothing is left to start, when UCX has nothing of it any more. */
static void
op_settle(struct ucx_link *link, uint32_t op_idx)
{
	struct ucx_queue *queue = &link->queue;
	struct ucx_op *op = &queue->ops[op_idx];

	if (op->gets > 0 || op->moved < op->bytes)
		return;
	far_ucx_op_end(link, op_idx, op->status);
	list_queue(queue, &queue->lists[op->list]);
}

/* UCX will not touch the memory of this slice any more. */
static void
get_end(struct ucx_get *get, ucs_status_t status)
{
	struct ucx_link *link = get->link;
	struct ucx_op *op = &link->queue.ops[get->op_idx];
	struct ucx_peer_key *key = get->key;

	link->gets_out--;
	link->get_bytes_out -= get->size_bytes;
	get->next = link->get_free;
	link->get_free = get;
	key->gets--;
	far_ucx_peer_key_release(key);
	op->gets--;
	far_ucx_link_wake(link);
	if (status != UCS_OK) {
		op->status = far_ucx_link_rc(status, false);
		if (link->conn != NULL)
			far_ucx_conn_fail(link->conn, op->status);
	} else {
		link->got_ns = far_clock_now(UCX_TP(link->link.tp)->clock);
	}
	op_settle(link, get->op_idx);
}

static void
on_get(void *request, ucs_status_t status, void *arg)
{
	far_ucx_lib->ucp_request_free(request);
	get_end(arg, status);
}

/* ---- the start of one ---- */

static void
get_start(struct ucx_link *link, struct ucx_peer_key *key, uint32_t op_idx,
	  const struct ucx_piece *piece, uint32_t size_bytes)
{
	struct ucx_op *op = &link->queue.ops[op_idx];
	struct ucx_get *get = link->get_free;
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
		.cb = {.send = on_get},
		.user_data = get,
	};
	uint8_t *to = (uint8_t *)piece->addr + op->piece_offset;
	uint64_t from = key->base + op->addr + op->moved;
	ucs_status_ptr_t request;

	if (piece->mem->handle != NULL) {
		param.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
		param.memh = piece->mem->handle;
	}
	link->get_free = get->next;
	get->key = key;
	get->op_idx = op_idx;
	get->size_bytes = size_bytes;
	if (link->gets_out++ == 0)
		link->got_ns = far_clock_now(UCX_TP(link->link.tp)->clock);
	link->get_bytes_out += size_bytes;
	key->gets++;
	op->gets++;
	op->moved += size_bytes;
	op->piece_offset += size_bytes;
	if (op->piece_offset == piece->size_bytes) {
		op->piece = piece->next;
		op->piece_offset = 0;
	}
	far_ucx_enter();
	request = far_ucx_lib->ucp_get_nbx(link->conn->ep, to, size_bytes, from, key->rkey, &param);
	far_ucx_leave();
	if (!UCS_PTR_IS_PTR(request))
		get_end(get, UCS_PTR_STATUS(request));
}

static bool
room_is_left(const struct ucx_link *link)
{
	return link->get_free != NULL && link->get_bytes_out < UCX_GET_BYTES_MAX &&
	       link->conn->rc == 0;
}

/* Starts what a slice takes of the READ that is its list's turn. Returns how many bytes. */
static uint32_t
op_start(struct ucx_link *link, struct ucx_op_list *list, uint32_t left)
{
	struct ucx_queue *queue = &link->queue;
	uint32_t op_idx = list->ask;
	struct ucx_op *op = &queue->ops[op_idx];
	struct ucx_peer_key *key = NULL;
	uint32_t started = 0;
	/* Anew for each slice: the owner of the region may have taken it back in between. */
	int rc = far_ucx_key_find(link, &op->rkey, op->addr, op->bytes, &key);

	op->gets++; /* it does not end under our feet */
	while (rc == 0 && op->moved < op->bytes && started < left && room_is_left(link)) {
		const struct ucx_piece *piece = &queue->pieces[op->piece];
		uint32_t size_bytes = piece->size_bytes - op->piece_offset;

		if (size_bytes > left - started)
			size_bytes = left - started;
		if (size_bytes == 0) {
			op->piece = piece->next;
			continue;
		}
		get_start(link, key, op_idx, piece, size_bytes);
		started += size_bytes;
	}
	op->gets--;
	if (rc < 0) {
		/* What was started of it is waited for all the same. */
		op->status = rc;
		op->moved = op->bytes;
	}
	if (op->moved == op->bytes)
		list->ask = next_read(queue, op->next);
	op_settle(link, op_idx);
	return started;
}

bool
far_ucx_gets_start(struct ucx_link *link)
{
	struct ucx_queue *queue = &link->queue;
	uint32_t before = link->gets_out;
	uint32_t turns = 0;

	while (turns < GETS_PER_TURN && room_is_left(link) && !far_list_empty(&queue->asking)) {
		struct ucx_op_list *list =
			FAR_CONTAINER_OF(queue->asking.next, struct ucx_op_list, ask_node);
		uint32_t left = UCX_GET_SLICE_BYTES;

		far_list_remove(&list->ask_node);
		for (uint32_t i = 0; i < LIST_QUANTUM && left > 0 && room_is_left(link) &&
				     list_may_get(queue, list);
		     i++, turns++)
			left -= op_start(link, list, left);
		list_queue(queue,
			   list); /* the end of a slice, or of a WRITE, brings it back else */
	}
	return link->gets_out != before || turns > 0;
}
