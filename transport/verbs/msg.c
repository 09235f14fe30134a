/* msg.c - messages and frames of our own: SENDs, none without a receive buffer that waits for it. */
#include "transport/verbs/verbs_priv.h"

#include <string.h>

#define CHAIN_MAX 16U

/* What stands before a frame in the ring. Frames are never split over the ring's end. */
struct ring_record {
	uint32_t frame_bytes; /* 0: skip to the beginning */
	uint32_t writes;      /* that were given before it: they begin first */
};

static uint32_t
record_bytes(uint32_t frame_bytes)
{
	return (uint32_t)sizeof(struct ring_record) + (frame_bytes + 7U) / 8U * 8U;
}

/* ---- the ring ---- */

/* Whether a message fits, also where one of its frames has to go around the ring's end. */
static bool
ring_takes(const struct verbs_link *link, size_t size_bytes)
{
	uint32_t frames = (uint32_t)((size_bytes - 1) / VERBS_FRAME_BODY_BYTES + 1);
	uint32_t need = (uint32_t)size_bytes +
			frames * record_bytes((uint32_t)sizeof(struct verbs_frame_header)) +
			frames * 8 + record_bytes(VERBS_FRAME_BYTES);

	return need <= VERBS_RING_BYTES - link->ring_used;
}

static struct ring_record
record_at(const struct verbs_link *link, uint32_t at)
{
	struct ring_record record;

	memcpy(&record, link->ring + at, sizeof(record));
	return record;
}

static void
ring_push(struct verbs_link *link, const uint8_t *body, uint32_t body_bytes, uint32_t total_bytes)
{
	struct verbs_frame_header header = {
		.kind = VERBS_FRAME_MESSAGE, .body_bytes = body_bytes, .total_bytes = total_bytes};
	struct ring_record record = {.frame_bytes = (uint32_t)sizeof(header) + body_bytes,
				     .writes = link->queue.writes_pushed};
	uint32_t need = record_bytes(record.frame_bytes);
	uint8_t *at;

	if (link->ring_used == 0) {
		link->ring_head = 0;
		link->ring_next = 0;
		link->ring_tail = 0;
	}
	if (VERBS_RING_BYTES - link->ring_tail < need) {
		struct ring_record skip = {0};

		if (VERBS_RING_BYTES - link->ring_tail >= sizeof(skip))
			memcpy(link->ring + link->ring_tail, &skip, sizeof(skip));
		link->ring_used += VERBS_RING_BYTES - link->ring_tail;
		link->ring_tail = 0;
	}
	at = link->ring + link->ring_tail;
	memcpy(at, &record, sizeof(record));
	memcpy(at + sizeof(record), &header, sizeof(header));
	memcpy(at + sizeof(record) + sizeof(header), body, body_bytes);
	link->ring_used += need;
	link->ring_tail += need;
	link->ring_queued++;
}

/* A place in the ring at which a record begins. */
static uint32_t
ring_settle(const struct verbs_link *link, uint32_t at)
{
	if (VERBS_RING_BYTES - at < sizeof(struct ring_record) ||
	    record_at(link, at).frame_bytes == 0)
		return 0;
	return at;
}

void
far_verbs_frame_retire(struct verbs_link *link, const struct verbs_wr *wr)
{
	uint32_t at, bytes;

	link->frames_out--;
	if (wr->kind == VERBS_WR_CTL) {
		link->ctl_busy &= ~(1U << wr->op);
		return;
	}
	at = ring_settle(link, link->ring_head);
	if (at != link->ring_head)
		link->ring_used -= VERBS_RING_BYTES - link->ring_head;
	bytes = record_bytes(record_at(link, at).frame_bytes);
	link->ring_used -= bytes;
	link->ring_head = at + bytes;
}

/* ---- posting ---- */

/* SENDs that go with one doorbell. */
struct sends {
	struct ibv_send_wr wrs[CHAIN_MAX];
	struct ibv_sge sges[CHAIN_MAX];
	uint32_t count;
};

static bool
may_send(const struct verbs_link *link, const struct sends *sends)
{
	/* The peer's last buffer is for what gives it buffers: credits_due(). */
	return link->peer_frames > 1 && sends->count < CHAIN_MAX && far_verbs_sq_room(link) > 0;
}

static void
send_add(struct verbs_link *link, struct sends *sends, uint8_t *frame, struct verbs_wr wr,
	 bool signalled)
{
	struct ibv_send_wr *out = &sends->wrs[sends->count];
	struct verbs_frame_header header;

	memcpy(&header, frame, sizeof(header));
	header.frames = (uint16_t)link->frames_owed;
	header.credits = link->owed;
	memcpy(frame, &header, sizeof(header));
	link->rx_credits += link->owed;
	link->frames_owed = 0;
	link->owed = 0;
	sends->sges[sends->count] = (struct ibv_sge){
		.addr = (uintptr_t)frame,
		.length = (uint32_t)sizeof(header) + header.body_bytes,
		.lkey = link->mr->lkey,
	};
	*out = (struct ibv_send_wr){
		.wr_id = far_verbs_wr_id(link, link->sq_tail % link->sq_depth),
		.sg_list = &sends->sges[sends->count],
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
	};
	if (sends->sges[sends->count].length <= link->inline_max)
		out->send_flags |= IBV_SEND_INLINE;
	/* Places in queue and ring come back with those that are told. */
	if (signalled || ++link->sq_unsignalled >= link->sq_depth / 4 ||
	    link->ring_used > VERBS_RING_BYTES / 2) {
		out->send_flags |= IBV_SEND_SIGNALED;
		link->sq_unsignalled = 0;
		link->sq_unsignalled_bytes = 0;
	}
	if (sends->count > 0)
		sends->wrs[sends->count - 1].next = out;
	link->sq[link->sq_tail % link->sq_depth] = wr;
	link->sq_tail++;
	link->frames_out++;
	link->peer_frames--;
	sends->count++;
}

static void
sends_post(struct verbs_link *link, struct sends *sends)
{
	struct ibv_send_wr *bad = NULL;

	if (sends->count == 0 || far_verbs_lib->ibv_post_send(link->qp, sends->wrs, &bad) == 0)
		return;
	link->frames_out -= far_verbs_chain_refused(link, sends->wrs, sends->count, bad);
}

/* ---- frames of our own ---- */

/* NULL: all are on their way. */
static uint8_t *
ctl_take(struct verbs_link *link, enum verbs_frame_kind kind, struct verbs_wr *wr_out)
{
	struct verbs_frame_header header = {.kind = (uint8_t)kind};
	uint32_t idx = 0;
	uint8_t *frame;

	while (idx < VERBS_CTLS && (link->ctl_busy & (1U << idx)) != 0)
		idx++;
	if (idx == VERBS_CTLS)
		return NULL;
	far_verbs_link_busy(link);
	link->ctl_busy |= 1U << idx;
	*wr_out = (struct verbs_wr){.op = idx, .kind = VERBS_WR_CTL, .last = true};
	frame = link->ctl + (size_t)idx * VERBS_FRAME_BYTES;
	if (kind == VERBS_FRAME_KEYS)
		header.body_bytes = far_verbs_keys_fill(link, frame + sizeof(header));
	memcpy(frame, &header, sizeof(header));
	return frame;
}

static bool
ctl_add(struct verbs_link *link, struct sends *sends, enum verbs_frame_kind kind)
{
	struct verbs_wr wr;
	uint8_t *frame = ctl_take(link, kind, &wr);

	if (frame == NULL)
		return false;
	send_add(link, sends, frame, wr, true);
	return true;
}

/* Credits go along with any frame; alone only when many have gathered. The peer's last buffer is for
 * buffers alone, and many: where both sides have sent their last frame, each holds what the other needs. */
static bool
credits_due(const struct verbs_link *link)
{
	uint32_t all = VERBS_TP(link->link.tp)->credits;

	if (link->frames_owed >= VERBS_FRAMES / 2)
		return link->peer_frames > 0;
	return link->owed > 0 && link->owed >= all / 4 && link->peer_frames > 1;
}

bool
far_verbs_mark_send(struct verbs_link *link, bool final)
{
	struct sends sends = {.count = 0};

	if (!link->ready || link->peer_frames + final <= 1 || far_verbs_sq_room(link) == 0 ||
	    !ctl_add(link, &sends, VERBS_FRAME_CREDIT))
		return false;
	sends_post(link, &sends);
	return true;
}

int
far_verbs_flush(struct verbs_link *link)
{
	struct sends sends = {.count = 0};

	if (!link->ready)
		return 0;
	/* Keys before whatever may name them. */
	while (link->untold_count > 0 && may_send(link, &sends) &&
	       ctl_add(link, &sends, VERBS_FRAME_KEYS))
		;
	while (link->untold_count == 0 && link->ring_queued > 0 && may_send(link, &sends)) {
		uint32_t at = ring_settle(link, link->ring_next);
		struct ring_record record = record_at(link, at);

		/* On one queue the device keeps the order, so it is enough that they have begun. */
		if ((int32_t)(link->queue.writes_begun - record.writes) < 0)
			break;
		send_add(link, &sends, link->ring + at + sizeof(record),
			 (struct verbs_wr){.kind = VERBS_WR_FRAME, .last = true}, false);
		link->ring_next = at + record_bytes(record.frame_bytes);
		link->ring_queued--;
	}
	if (credits_due(link) && sends.count < CHAIN_MAX && far_verbs_sq_room(link) > 0)
		(void)ctl_add(link, &sends, VERBS_FRAME_CREDIT);
	sends_post(link, &sends);
	return (int)sends.count;
}

/* ---- messages out ---- */

/* A WRITE that failed here and now is told before a message may speak of its bytes. */
static bool
send_allowed(const struct verbs_link *link, size_t size_bytes)
{
	return link->credits > 0 && link->queue.write_failures == 0 && ring_takes(link, size_bytes);
}

bool
far_verbs_send_ready(const struct verbs_link *link)
{
	return link->send_refused && send_allowed(link, FAR_MESSAGE_BYTES_MAX);
}

int
far_verbs_send(struct far_link *flink, const void *msg, size_t size_bytes)
{
	struct verbs_link *link = VERBS_LINK(flink);
	const uint8_t *bytes = msg;

	if (far_verbs_is_child(VERBS_TP(flink->tp)))
		return -EPERM;
	if (!flink->up)
		return -ENOTCONN;
	if (!send_allowed(link, size_bytes)) {
		link->send_refused = true;
		return -EAGAIN;
	}
	link->credits--;
	for (size_t at = 0; at < size_bytes; at += VERBS_FRAME_BODY_BYTES) {
		size_t left = size_bytes - at;

		ring_push(link, bytes + at,
			  (uint32_t)(left < VERBS_FRAME_BODY_BYTES ? left : VERBS_FRAME_BODY_BYTES),
			  at == 0 ? (uint32_t)size_bytes : 0);
	}
	far_spin_restart(&VERBS_TP(flink->tp)->spin);
	(void)far_verbs_flush(link);
	if (link->ring_queued > 0)
		far_verbs_link_wake(link);
	return 0;
}

/* ---- messages in ---- */

static void
message_tell(struct verbs_link *link, const void *msg, size_t size_bytes)
{
	struct far_event event = {.kind = FAR_EV_MESSAGE, .msg = msg, .msg_bytes = size_bytes};

	far_verbs_link_emit(link, &event);
	link->owed++;
}

static int
message_take(struct verbs_link *link, const struct verbs_frame_header *header, const uint8_t *body)
{
	uint32_t total_bytes;

	if (header->total_bytes != 0) {
		if (link->partial_total != 0 || link->rx_credits == 0)
			return -EPROTO;
		link->rx_credits--;
		if (header->body_bytes == header->total_bytes) {
			message_tell(link, body, header->body_bytes);
			return 0;
		}
		link->partial_total = header->total_bytes;
		link->partial_bytes = 0;
	}
	/* Without a first part nothing is missing, so that this is too long. */
	if (header->body_bytes > link->partial_total - link->partial_bytes)
		return -EPROTO;
	memcpy(link->partial + link->partial_bytes, body, header->body_bytes);
	link->partial_bytes += header->body_bytes;
	if (link->partial_bytes < link->partial_total)
		return 0;
	total_bytes = link->partial_total;
	link->partial_total = 0;
	link->partial_bytes = 0;
	message_tell(link, link->partial, total_bytes);
	return 0;
}

int
far_verbs_receive(struct verbs_link *link, uint32_t buffer, uint32_t size_bytes)
{
	const uint8_t *frame = link->rx + (size_t)buffer * VERBS_FRAME_BYTES;
	struct verbs_frame_header header;
	const uint8_t *body;
	int rc = far_verbs_frame_parse(frame, size_bytes, &header, &body);

	if (rc < 0)
		return rc;
	if (header.credits > link->credits_max - link->credits ||
	    header.frames > link->peer_frames_max - link->peer_frames)
		return -EPROTO;
	link->credits += header.credits;
	link->peer_frames += header.frames;
	if (header.kind == VERBS_FRAME_MESSAGE)
		rc = message_take(link, &header, body);
	else if (header.kind == VERBS_FRAME_KEYS)
		rc = far_verbs_keys_take(link, body, header.body_bytes);
	if (rc < 0)
		return rc;
	/* Its bytes were looked at for the last time. */
	FAR_ASSERT(link->repost_count < VERBS_FRAMES);
	link->repost[link->repost_count++] = (uint16_t)buffer;
	return 0;
}

int
far_verbs_reposts(struct verbs_link *link)
{
	struct ibv_recv_wr wrs[VERBS_FRAMES];
	struct ibv_sge sges[VERBS_FRAMES];
	struct ibv_recv_wr *bad = NULL;
	uint32_t count = link->repost_count;

	if (count == 0)
		return 0;
	for (uint32_t i = 0; i < count; i++) {
		sges[i] = (struct ibv_sge){
			.addr = (uintptr_t)(link->rx + (size_t)link->repost[i] * VERBS_FRAME_BYTES),
			.length = VERBS_FRAME_BYTES,
			.lkey = link->mr->lkey,
		};
		wrs[i] = (struct ibv_recv_wr){
			.wr_id = VERBS_ID_RECV | far_verbs_wr_id(link, link->repost[i]),
			.next = i + 1 < count ? &wrs[i + 1] : NULL,
			.sg_list = &sges[i],
			.num_sge = 1,
		};
	}
	link->repost_count = 0;
	if (far_verbs_lib->ibv_post_recv(link->qp, wrs, &bad) != 0)
		return -ECONNRESET;
	link->frames_owed += count;
	return 0;
}
