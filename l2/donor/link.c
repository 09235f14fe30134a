/* link.c - the one link to the donor: made, welcomed, lost, made again with back-off. */
#include "l2/donor/donor_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mutant.h"

#define TIMEOUT_NS_DEFAULT   (5 * FAR_NS_PER_S)
#define RETRY_NS_MIN_DEFAULT (50 * FAR_NS_PER_MS)
#define RETRY_NS_MAX_DEFAULT (5 * FAR_NS_PER_S)
#define KNOWN_FEATURES       0ULL

static uint64_t
now_ns_of(const struct far_donor *donor)
{
	return far_clock_now(donor->env.clock);
}

int
far_donor_send(struct far_donor *donor, enum far_frame_type type, uint64_t tag, const void *body,
	       const void *list, uint32_t count)
{
	int size =
		far_frame_encode(type, tag, body, list, count, donor->frame, FAR_FRAME_BYTES_MAX);
	int rc;

	FAR_ASSERT(size > 0); /* our own bounds keep every list within a frame */
	rc = far_transport_send(donor->link, donor->frame, (size_t)size);
	if (rc == 0)
		donor->status.messages_sent++;
	return rc;
}

/* Half of it certain, half of it chance: clients of a donor that comes back do not arrive at once. */
static uint64_t
back_off_ns(struct far_donor *donor, bool refused)
{
	uint32_t shift = donor->attempts < 20 ? donor->attempts : 20;
	uint64_t wait_ns = donor->env.retry_ns_min << shift;

	if (wait_ns > donor->env.retry_ns_max || wait_ns >> shift != donor->env.retry_ns_min)
		wait_ns = donor->env.retry_ns_max;
	if (refused)
		wait_ns = donor->env.retry_ns_max * DONOR_REFUSED_FACTOR;
	return wait_ns / 2 + far_rng_below(donor->env.rng, wait_ns / 2 + 1);
}

void
far_donor_text_clean(char *text)
{
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
			*text = '?';
	}
}

/* No way is left to be tried now: what came of each is told, and the first is tried again later. */
static void
round_end(struct far_donor *donor, int rc, bool was_up, const char *reason)
{
	bool refused = !was_up && far_donor_paths_refused(donor);

	donor->next_try_ns = now_ns_of(donor) + back_off_ns(donor, refused);
	donor->attempts++;
	donor->state = refused ? FAR_L2_REFUSED : FAR_L2_DOWN;
	donor->l2.away = true;
	donor->state_rc = rc;
	if (was_up || donor->path_count == 1)
		(void)snprintf(donor->text, sizeof(donor->text), "%.120s: %.255s",
			       donor->path->address.text, reason);
	else
		far_donor_paths_text(donor, donor->text, sizeof(donor->text));
	far_donor_text_clean(donor->text);
	/* Not once per attempt: a donor that is away for a day is one line. */
	if (!donor->quiescing && (was_up || strcmp(donor->text, donor->log_text) != 0)) {
		memcpy(donor->log_text, donor->text, sizeof(donor->log_text));
		far_log_warn("donor %s: %s (%d)", donor->name, donor->text, rc);
	}
	far_donor_path_first(donor);
}

static void
link_record(struct far_donor *donor, enum far_record_kind kind, int why, uint64_t took_ns)
{
	struct far_record record = {
		.at_ns = now_ns_of(donor),
		.took_ns = took_ns,
		.kind = (uint16_t)kind,
		.why = (int16_t)why,
		.adapter = (int16_t)donor->l2.idx,
	};

	far_recorder_add(donor->env.recorder, &record);
}

static void
link_end(struct far_donor *donor, int rc, enum far_l2_state state, const char *reason)
{
	uint64_t now_ns = now_ns_of(donor);
	bool was_up = donor->link_state == LINK_UP;

	if (donor->link_state == LINK_CLOSING)
		return;
	if (was_up) {
		donor->status.times_down++;
		link_record(donor, FAR_RECORD_ADAPTER_DOWN, rc, now_ns - donor->up_ns);
	}
	if (state == FAR_L2_REFUSED)
		link_record(donor, FAR_RECORD_ADAPTER_REFUSED, rc, 0);
	if (was_up && now_ns - donor->up_ns > donor->env.retry_ns_max)
		donor->attempts = 0;
	far_donor_path_failed(donor, state == FAR_L2_REFUSED, reason);
	if (!was_up && !donor->quiescing && far_donor_path_next(donor))
		donor->next_try_ns = now_ns; /* nothing is said before all of them were tried */
	else
		round_end(donor, rc, was_up, reason);
	donor->link_state = LINK_CLOSING;
	if (donor->link == NULL)
		donor->link_state = LINK_IDLE;
	far_donor_tasks_stop(donor, -EHOSTDOWN);
	far_donor_listings_stop(donor, -EHOSTDOWN);
	if (!FAR_MUTANT(LOST_LINK_FORGOTTEN))
		far_donor_store_lost(donor);
	far_donor_notes_lost(donor);
	far_donor_index_reset(donor);
	if (donor->link != NULL)
		far_transport_disconnect(donor->link);
}

void
far_donor_link_fail(struct far_donor *donor, int rc, const char *reason)
{
	link_end(donor, rc, FAR_L2_DOWN, reason);
}

void
far_donor_link_leave(struct far_donor *donor, bool now)
{
	/* The donor answers a BYE by closing the link. Closing it here would drop the BYE on its way,
	 * and an END before it. */
	if (!now && donor_is_up(donor)) {
		if (!donor->bye_sent)
			donor->bye_sent =
				far_donor_send(donor, FAR_FRAME_BYE, 0, NULL, NULL, 0) == 0;
		return;
	}
	link_end(donor, -ECANCELED, FAR_L2_DOWN, "closed by this client");
}

void
far_donor_link_up(struct far_donor *donor)
{
	char why[FAR_L2_WHY_BYTES];

	donor->link_state = LINK_UP;
	donor->state = FAR_L2_UP;
	donor->l2.away = donor->recovers;
	donor->state_rc = 0;
	donor->log_text[0] = '\0';
	donor->up_ns = now_ns_of(donor);
	link_record(donor, FAR_RECORD_ADAPTER_UP, 0, 0);
	donor->path->refused = false;
	(void)snprintf(donor->text, sizeof(donor->text), "%.200s, %s, epoch %016llx, %.100s",
		       donor->path->address.text,
		       (donor->tp->caps.flags & FAR_CAP_ONE_SIDED) != 0 ? "one-sided" : "served",
		       (unsigned long long)donor->epoch, donor->link->peer);
	far_donor_path_why(donor, why, sizeof(why));
	far_log_info("donor %s is up: %s; %s", donor->name, donor->text, why);
}

static void
hello_send(struct far_donor *donor)
{
	struct far_frame_hello hello = {.version = FAR_WIRE_VERSION, .features = KNOWN_FEATURES};
	int rc;

	hello.client_id = donor->client_id;
	memcpy(hello.name_space, donor->name_space, sizeof(hello.name_space));
	memcpy(hello.donor, donor->name, sizeof(hello.donor));
	(void)snprintf(hello.client, sizeof(hello.client), "%.63s",
		       donor->env.client_name != NULL ? donor->env.client_name : "");
	rc = far_donor_send(donor, FAR_FRAME_HELLO, 0, &hello, NULL, 0);
	donor->hello_unsent = rc == -EAGAIN;
}

static void
welcome_take(struct far_donor *donor, const struct far_frame_welcome *welcome)
{
	char reason[256];

	if (welcome->version != FAR_WIRE_VERSION) {
		(void)snprintf(reason, sizeof(reason), "speaks version %u, this client %u: update",
			       welcome->version, FAR_WIRE_VERSION);
		link_end(donor, -EPROTO, FAR_L2_REFUSED, reason);
		return;
	}
	if (strcmp(welcome->donor, donor->name) != 0) {
		(void)snprintf(reason, sizeof(reason),
			       "answers as '%.24s': correct name or address", welcome->donor);
		link_end(donor, -EINVAL, FAR_L2_REFUSED, reason);
		return;
	}
	if (welcome->epoch == 0 || welcome->index_bytes < FAR_INDEX_PAGE_BYTES) {
		link_end(donor, -EPROTO, FAR_L2_DOWN, "its welcome makes no sense");
		return;
	}
	donor->epoch = welcome->epoch;
	donor->rail = welcome->rail;
	donor->index_addr = welcome->index_addr;
	donor->index_bytes = welcome->index_bytes;
	memcpy(donor->index_rkey.bytes, welcome->index_rkey, sizeof(donor->index_rkey.bytes));
	donor->header_rereads = 0;
	donor->link_state = LINK_HEADER;
	far_donor_header_read(donor);
}

/* Reasons that pass by themselves are an ordinary failure; all others wait for an operator. */
static void
refused_take(struct far_donor *donor, const struct far_frame_refused *refused)
{
	int rc = refused->rc < 0 && far_err_listed(refused->rc) ? refused->rc : -EACCES;
	bool passes = rc == -EAGAIN || rc == -EBUSY || rc == -ENOMEM || rc == -ENOSPC ||
		      rc == -E2BIG || rc == -ECANCELED;

	link_end(donor, rc, passes ? FAR_L2_DOWN : FAR_L2_REFUSED, refused->reason);
}

/* Frames of a link that is up, or on its way there. Returns 0 or why the link has to go. */
static int
frame_take(struct far_donor *donor, const struct far_frame *frame)
{
	const struct far_frame_segment *segment = frame->body;
	const struct far_frame_lane *lane = frame->body;

	switch ((enum far_frame_type)frame->head.type) {
	case FAR_FRAME_LANE_GRANT:
		return far_donor_lane_granted(donor, frame->body);
	case FAR_FRAME_LANE_FULL:
		return far_donor_lane_full(donor);
	case FAR_FRAME_LANE_RECALL:
		far_donor_lane_recalled(donor, lane->serial);
		return 0;
	case FAR_FRAME_COMMITTED:
		return far_donor_committed(donor, frame);
	case FAR_FRAME_DELETED:
		return far_donor_deleted(donor, frame);
	case FAR_FRAME_SEGMENT_RECALL:
		return far_donor_segment_recall(donor, segment->segment);
	case FAR_FRAME_STATUS:
		far_donor_stats_got(donor, frame);
		return 0;
	default:
		return -EPROTO;
	}
}

static void
message_take(struct far_donor *donor, const struct far_event *event)
{
	struct far_frame frame;
	int rc = far_frame_decode(event->msg, event->msg_bytes, &frame);

	donor->status.messages_received++;
	donor->touch_unheard = 0;
	if (rc == -EOPNOTSUPP)
		return; /* optional, and newer than us */
	if (rc < 0) {
		far_donor_link_fail(donor, -EPROTO, "sent a frame that makes no sense");
		return;
	}
	if (frame.head.type == FAR_FRAME_BYE) {
		far_donor_link_fail(donor, -EHOSTDOWN, "the donor closes");
		return;
	}
	if (donor->link_state == LINK_WELCOME && frame.head.type == FAR_FRAME_WELCOME) {
		welcome_take(donor, frame.body);
		return;
	}
	if (donor->link_state == LINK_WELCOME && frame.head.type == FAR_FRAME_REFUSED) {
		refused_take(donor, frame.body);
		return;
	}
	rc = donor->link_state > LINK_WELCOME ? frame_take(donor, &frame) : -EPROTO;
	if (rc < 0) {
		char reason[80];

		(void)snprintf(reason, sizeof(reason), "broke the protocol with its %s",
			       far_frame_name(frame.head.type));
		far_donor_link_fail(donor, rc, reason);
	}
}

/* Why a link was lost, as an operator sees it. */
static const char *
loss_text(int rc)
{
	if (rc == -ETIMEDOUT)
		return "accepts connections and does not answer: its process is stopped or "
		       "overloaded";
	return far_err_text(rc);
}

static void
done_take(struct far_donor *donor, const struct far_event *event)
{
	uint32_t idx = (uint32_t)event->token;

	/* The word that the link is lost may come after the ends of its operations. */
	if (event->status < 0 && !donor->link->up)
		far_donor_link_fail(donor, event->status, far_err_text(event->status));
	switch (event->token >> TOKEN_KIND_SHIFT) {
	case TOKEN_JOB:
		far_donor_job_done(donor, idx, event->status);
		break;
	case TOKEN_HEADER:
		far_donor_header_done(donor, event->status);
		break;
	case TOKEN_TABLE:
		far_donor_table_done(donor, event->status);
		break;
	case TOKEN_BATCH:
		far_donor_batch_done(donor, idx, event->status);
		break;
	default:
		FAR_ASSERT(event->token >> TOKEN_KIND_SHIFT == TOKEN_LIST);
		far_donor_list_done(donor, event->status);
	}
}

static void
closed_take(struct far_donor *donor)
{
	/* Nothing of this link is outstanding: whatever was posted has been answered. */
	FAR_ASSERT(far_list_empty(&donor->jobs_posted));
	FAR_ASSERT(far_list_empty(&donor->batches_unsent));
	FAR_ASSERT(far_list_empty(&donor->batches_sent));
	FAR_ASSERT(!donor->list_posted);
	donor->link = NULL;
	donor->link_state = LINK_IDLE;
}

static void
link_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct far_donor *donor = FAR_CONTAINER_OF(handler, struct far_donor, handler);
	bool closing = donor->link_state == LINK_CLOSING;

	switch (event->kind) {
	case FAR_EV_CONNECTED:
		if (!closing) {
			donor->link_state = LINK_WELCOME;
			hello_send(donor);
		}
		break;
	case FAR_EV_MESSAGE:
		if (!closing)
			message_take(donor, event);
		break;
	case FAR_EV_DONE:
		done_take(donor, event);
		break;
	case FAR_EV_SENDABLE:
		if (donor->hello_unsent && donor->link_state == LINK_WELCOME)
			hello_send(donor);
		if (donor->link_state == LINK_HEADER)
			far_donor_header_read(donor);
		break;
	case FAR_EV_LOST:
		far_donor_link_fail(donor, event->status, loss_text(event->status));
		break;
	case FAR_EV_CLOSED:
		closed_take(donor);
		break;
	}
	far_donor_pump(donor);
	far_donor_flush(donor);
}

static void
link_attempt(struct far_donor *donor, uint64_t now_ns)
{
	int rc;

	donor->attempt_deadline_ns = now_ns + donor->env.connect_timeout_ns;
	donor->hello_unsent = false;
	donor->link_state = LINK_CONNECTING;
	rc = far_transport_connect(donor->tp, far_address_rest(&donor->path->address), "", 0,
				   donor->attempt_deadline_ns, &donor->handler, &donor->link);
	if (rc == -EINVAL) {
		donor->link = NULL;
		link_end(donor, rc, FAR_L2_REFUSED,
			 "not an address of this transport: write shm:/PATH (of less than 108 "
			 "bytes) or "
			 "ucx:HOST:PORT");
	} else if (rc < 0) {
		donor->link = NULL;
		far_donor_link_fail(donor, rc, far_err_text(rc));
	}
}

void
far_donor_link_init(struct far_donor *donor)
{
	donor->handler.event = link_event;
	donor->link_state = LINK_IDLE;
	donor->state = FAR_L2_CONNECTING;
	donor->state_rc = -ENOTCONN;
	donor->client_id = far_rng_u64(donor->env.rng);
	if (donor->env.connect_timeout_ns == 0)
		donor->env.connect_timeout_ns = TIMEOUT_NS_DEFAULT;
	if (donor->env.retry_ns_min == 0)
		donor->env.retry_ns_min = RETRY_NS_MIN_DEFAULT;
	if (donor->env.retry_ns_max < donor->env.retry_ns_min)
		donor->env.retry_ns_max = donor->env.retry_ns_min > RETRY_NS_MAX_DEFAULT
						  ? donor->env.retry_ns_min
						  : RETRY_NS_MAX_DEFAULT;
	(void)snprintf(donor->text, sizeof(donor->text), "%.255s: not tried yet",
		       donor->path->address.text);
}

uint64_t
far_donor_link_tick(struct far_donor *donor, uint64_t now_ns)
{
	switch (donor->link_state) {
	case LINK_IDLE:
		if (donor->quiescing)
			return FAR_TIME_NEVER;
		if (now_ns < donor->next_try_ns)
			return donor->next_try_ns;
		link_attempt(donor, now_ns);
		return donor->link_state == LINK_IDLE ? donor->next_try_ns
						      : donor->attempt_deadline_ns;
	case LINK_CONNECTING:
	case LINK_WELCOME:
	case LINK_HEADER:
	case LINK_TABLE:
		if (now_ns < donor->attempt_deadline_ns)
			return donor->attempt_deadline_ns;
		far_donor_link_fail(donor, -ETIMEDOUT,
				    "reached, but no welcome in time: is the donor stopped?");
		return FAR_TIME_NEVER;
	case LINK_UP:
	case LINK_CLOSING:
		break;
	}
	return FAR_TIME_NEVER;
}
