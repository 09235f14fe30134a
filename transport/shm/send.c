/* send.c - frames on their way out: straight into the socket, or in order behind those that wait. */
#include "transport/shm/shm_priv.h"

#include <string.h>

/* What stands before a frame in the ring. Records are never split over the ring's end. */
struct ring_record {
	uint32_t kind; /* 0: skip to the beginning */
	uint32_t body_bytes;
};

static uint32_t
record_bytes(size_t body_bytes)
{
	return (uint32_t)((sizeof(struct ring_record) + body_bytes + 7) / 8 * 8);
}

/* The bytes that can be had in one piece at the tail, or at the beginning behind a skip. */
static bool
ring_fits(const struct shm_link *link, uint32_t need, bool *skip_out)
{
	uint32_t to_end = SHM_RING_BYTES - link->ring_tail;

	*skip_out = false;
	if (link->ring_used == 0)
		return need <= SHM_RING_BYTES;
	if (link->ring_tail <= link->ring_head)
		return link->ring_used < SHM_RING_BYTES &&
		       need <= link->ring_head - link->ring_tail;
	if (need <= to_end)
		return true;
	*skip_out = true;
	return need <= link->ring_head;
}

bool
far_shm_ring_has_room(const struct shm_link *link, size_t body_bytes)
{
	bool skip;

	return ring_fits(link, record_bytes(body_bytes), &skip);
}

static int
ring_push(struct shm_link *link, enum shm_frame_kind kind, const void *body, size_t body_bytes)
{
	struct ring_record record = {.kind = (uint32_t)kind, .body_bytes = (uint32_t)body_bytes};
	uint32_t need = record_bytes(body_bytes);
	bool skip;

	if (!ring_fits(link, need, &skip))
		return -EAGAIN;
	if (link->ring_used == 0) {
		link->ring_head = 0;
		link->ring_tail = 0;
	}
	if (skip) {
		struct ring_record mark = {0};

		memcpy(link->ring + link->ring_tail, &mark, sizeof(mark));
		link->ring_used += SHM_RING_BYTES - link->ring_tail;
		link->ring_tail = 0;
	}
	memcpy(link->ring + link->ring_tail, &record, sizeof(record));
	memcpy(link->ring + link->ring_tail + sizeof(record), body, body_bytes);
	link->ring_used += need;
	link->ring_tail += need;
	if (link->ring_tail == SHM_RING_BYTES)
		link->ring_tail = 0;
	return 0;
}

static void
ring_pop(struct shm_link *link, uint32_t bytes)
{
	link->ring_used -= bytes;
	link->ring_head += bytes;
	if (link->ring_head == SHM_RING_BYTES)
		link->ring_head = 0;
}

/* One frame into the socket, with what credits we owe. Returns 0, -EAGAIN, -ENOMEM, or
 * -ENOTCONN: the link has failed. */
static int
frame_send(struct shm_link *link, enum shm_frame_kind kind, const void *body, size_t body_bytes,
	   int pass_fd)
{
	struct shm_frame_header header;
	int rc;

	far_shm_frame_header_fill(&header, kind, body_bytes, link->owed);
	rc = far_shm_socket_send(link->fd, &header, body, body_bytes, pass_fd);
	if (rc == 0) {
		link->rx_credits += link->owed;
		link->owed = 0;
		return 0;
	}
	if (rc == -EAGAIN) {
		link->tx_blocked = true;
		(void)far_shm_link_watch(link, link->fd);
		return rc;
	}
	if (rc == -ENOMEM) {
		far_shm_link_retry(link);
		return rc;
	}
	far_shm_link_fail(link, -ECONNRESET);
	return -ENOTCONN;
}

/* ---- what is not in the ring, because it is a state and no event ---- */

static int
welcome_send(struct shm_link *link)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	struct shm_frame_hello welcome = {
		.nonce = tp->nonce, .credits = tp->credits, .features = SHM_FEATURE_SUMS};
	int rc;

	rc = frame_send(link, SHM_FRAME_WELCOME, &welcome, sizeof(welcome), link->control.fd);
	if (rc == 0)
		link->welcome_pending = false;
	return rc;
}

static int
mems_send(struct shm_link *link, int *sent)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);

	for (size_t i = 0; link->pending_count > 0; i++) {
		const struct shm_mem *mem;
		struct shm_frame_mem frame;
		int rc;

		i = far_bitmap_next(&link->pending, i);
		FAR_ASSERT(i < tp->slot_count);
		mem = tp->slots[i];
		FAR_ASSERT(mem != NULL);
		frame = (struct shm_frame_mem){
			.region = mem->region,
			.size_bytes = mem->mem.size_bytes,
			.fd_offset = mem->fd < 0 ? 0 : mem->fd_offset,
			.rights = mem->mem.rights,
		};
		rc = frame_send(link, SHM_FRAME_MEM, &frame, sizeof(frame), mem->fd);
		if (rc < 0)
			return rc;
		far_bitmap_clear(&link->pending, i);
		link->pending_count--;
		(*sent)++;
	}
	return 0;
}

static int
write_done_send(struct shm_link *link)
{
	struct shm_frame_told told;
	size_t told_bytes = far_shm_pull_tell(link, link->pull.seq, 0, &told);
	int rc = frame_send(link, SHM_FRAME_WRITE_DONE, &told, told_bytes, -1);

	if (rc == 0)
		far_shm_pull_told(link);
	return rc;
}

int
far_shm_write_done_queue(struct shm_link *link)
{
	struct shm_frame_told told;
	size_t told_bytes = far_shm_pull_tell(link, link->pull.seq, 0, &told);
	int rc = ring_push(link, SHM_FRAME_WRITE_DONE, &told, told_bytes);

	if (rc == 0) {
		far_shm_pull_told(link);
		link->pull.told_waits = true;
	}
	return rc;
}

static int
ring_send(struct shm_link *link, int *sent)
{
	while (link->ring_used > 0) {
		struct ring_record record;
		int rc;

		memcpy(&record, link->ring + link->ring_head, sizeof(record));
		if (record.kind == 0) {
			ring_pop(link, SHM_RING_BYTES - link->ring_head);
			continue;
		}
		rc = frame_send(link, (enum shm_frame_kind)record.kind,
				link->ring + link->ring_head + sizeof(record), record.body_bytes,
				-1);
		if (rc < 0)
			return rc;
		ring_pop(link, record_bytes(record.body_bytes));
		(*sent)++;
	}
	return 0;
}

/* Credits go along with any frame; alone only when a quarter of them has gathered. */
static bool
credits_due(const struct shm_link *link)
{
	uint32_t all = SHM_TP(link->link.tp)->credits;

	return link->owed > 0 && link->owed >= all / 4;
}

int
far_shm_flush(struct shm_link *link)
{
	int sent = 0;

	if (link->held || link->tx_blocked || !link->link.up)
		return 0;
	if (link->welcome_pending) {
		if (welcome_send(link) < 0)
			return sent;
		sent++;
	}
	/* Regions before whatever may name them. */
	if (mems_send(link, &sent) < 0)
		return sent;
	/* What was told in order with messages is not overtaken. */
	if (link->pull.told_waits && ring_send(link, &sent) < 0)
		return sent;
	link->pull.told_waits = false;
	if (far_shm_pull_is_to_tell(link)) {
		if (write_done_send(link) < 0)
			return sent;
		sent++;
	}
	if (ring_send(link, &sent) < 0)
		return sent;
	if (credits_due(link) && frame_send(link, SHM_FRAME_CREDIT, NULL, 0, -1) == 0)
		sent++;
	return sent;
}

int
far_shm_frame_push(struct shm_link *link, enum shm_frame_kind kind, const void *body,
		   size_t body_bytes)
{
	int rc;

	(void)far_shm_flush(link);
	if (!link->link.up)
		return -ENOTCONN;
	if (link->ring_used == 0 && !link->held && !link->tx_blocked && link->pending_count == 0 &&
	    !link->welcome_pending) {
		rc = frame_send(link, kind, body, body_bytes, -1);
		if (rc == 0 || rc == -ENOTCONN)
			return rc;
	}
	return ring_push(link, kind, body, body_bytes);
}

/* ---- messages ---- */

/* A WRITE that failed here and now is told before a message may speak of its bytes. */
static bool
send_allowed(const struct shm_link *link, size_t size_bytes)
{
	return link->credits > 0 && link->write_failures == 0 &&
	       link->writes.cursor == link->writes.tail && far_shm_ring_has_room(link, size_bytes);
}

bool
far_shm_send_ready(const struct shm_link *link)
{
	return link->send_refused && send_allowed(link, FAR_MESSAGE_BYTES_MAX);
}

int
far_shm_send(struct far_link *flink, const void *msg, size_t size_bytes)
{
	struct shm_link *link = SHM_LINK(flink);
	int rc;

	if (far_shm_is_child(SHM_TP(flink->tp)))
		return -EPERM;
	if (!flink->up)
		return -ENOTCONN;
	far_shm_writes_send(link);
	if (!send_allowed(link, size_bytes)) {
		link->send_refused = true;
		return flink->up ? -EAGAIN : -ENOTCONN;
	}
	rc = far_shm_frame_push(link, SHM_FRAME_MSG, msg, size_bytes);
	if (rc == 0)
		link->credits--;
	else if (rc == -EAGAIN)
		link->send_refused = true;
	return rc;
}
