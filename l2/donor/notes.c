/* notes.c - small frames beside the data path: touches, rejects, deletes, counters. */
#include "l2/donor/donor_priv.h"

void
far_donor_touch(struct far_donor *donor, const struct far_key *key)
{
	if (donor->touch_count == DONOR_TOUCH_KEYS || !donor_is_up(donor))
		return;
	/* The first key waits for company. */
	if (donor->touch_count == 0)
		donor->touch_next_ns = far_clock_now(donor->env.clock) + DONOR_TOUCH_NS;
	donor->touch[donor->touch_count++] = *key;
}

void
far_donor_reject(struct far_donor *donor, const void *slot)
{
	if (donor->reject_count < DONOR_REJECTS_MAX && donor_is_up(donor))
		memcpy(donor->rejects[donor->reject_count++], slot, FAR_SLOT_BYTES);
}

static void
rejects_pump(struct far_donor *donor)
{
	while (donor->reject_count > 0) {
		struct far_frame_reject body;

		memcpy(body.slot, donor->rejects[donor->reject_count - 1], sizeof(body.slot));
		if (far_donor_send(donor, FAR_FRAME_REJECT, 0, &body, NULL, 0) < 0)
			return;
		donor->reject_count--;
	}
}

static void
deletes_pump(struct far_donor *donor)
{
	struct far_list *it, *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &donor->stages[STAGE_DELETE])
	{
		struct far_l2_task *task = FAR_CONTAINER_OF(it, struct far_l2_task, node);
		struct far_frame_keys body = {.count = task->count};
		uint64_t tag = donor->tag_last + 1;
		int rc = far_donor_task_end_rc(donor, task);

		if (task->priv[PRIV_TAG] != 0)
			continue;
		if (rc < 0) {
			far_donor_task_stop(donor, task, rc);
			continue;
		}
		for (uint32_t i = 0; i < task->count; i++)
			donor->keys[i] = task->items[i].key;
		if (far_donor_send(donor, FAR_FRAME_DELETE, tag, &body, donor->keys, task->count) <
		    0)
			return;
		donor->tag_last = tag;
		task->priv[PRIV_TAG] = tag;
	}
}

int
far_donor_deleted(struct far_donor *donor, const struct far_frame *frame)
{
	struct far_list *list = &donor->stages[STAGE_DELETE];
	struct far_l2_task *task = NULL;

	for (struct far_list *it = list->next; it != list; it = it->next) {
		struct far_l2_task *asked = FAR_CONTAINER_OF(it, struct far_l2_task, node);

		if (asked->priv[PRIV_TAG] == frame->head.tag && frame->head.tag != 0)
			task = asked;
	}
	if (task == NULL)
		return 0; /* its deadline passed before the answer came */
	if (frame->count != task->count)
		return -EPROTO;
	for (uint32_t i = 0; i < frame->count; i++) {
		int32_t rc;

		memcpy(&rc, (const uint8_t *)frame->list + i * sizeof(rc), sizeof(rc));
		if (rc > 0 || (rc < 0 && !far_err_listed(rc)))
			rc = -EPROTO;
		far_donor_item_end(donor, task, i, rc);
	}
	return 0;
}

/* A stopped donor must not be left without a credit for the COMMITs to come: after a few frames that
 * nobody answers, one asks for an answer, and a few later there are no more. */
static void
touch_pump(struct far_donor *donor)
{
	struct far_frame_keys body = {.count = donor->touch_count};

	if (!donor->touch_due)
		return;
	donor->touch_due = false;
	donor->touch_count = 0; /* dropped where it cannot be sent: it is a hint */
	if (donor->touch_unheard >= 2 * DONOR_TOUCH_UNHEARD)
		return;
	if (far_donor_send(donor, FAR_FRAME_TOUCH, 0, &body, donor->touch, body.count) < 0)
		return;
	donor->status.touch_notes++;
	donor->touch_unheard++;
	if (donor->touch_unheard == DONOR_TOUCH_UNHEARD &&
	    far_donor_send(donor, FAR_FRAME_STATUS_ASK, 0, NULL, NULL, 0) == 0)
		donor->status.touch_notes++;
}

void
far_donor_notes_pump(struct far_donor *donor)
{
	rejects_pump(donor);
	deletes_pump(donor);
	touch_pump(donor);
}

/* Takes a place and a tag of @ask's, and asks. */
static int
stats_send(struct far_donor *donor, const struct donor_stats_ask *ask)
{
	uint64_t tag = donor->tag_last + 1;
	int rc;

	for (uint32_t i = 0; i < DONOR_STATS_ASKS; i++) {
		if (donor->stats_asks[i].tag != 0)
			continue;
		rc = far_donor_send(donor, FAR_FRAME_STATUS_ASK, tag, NULL, NULL, 0);
		if (rc < 0)
			return rc;
		donor->tag_last = tag;
		donor->stats_asks[i] = *ask;
		donor->stats_asks[i].tag = tag;
		return 0;
	}
	return -EAGAIN;
}

int
far_donor_stats_ask(struct far_l2 *l2, far_l2_stats_fn *done, void *arg, uint64_t deadline_ns)
{
	struct far_donor *donor = FAR_CONTAINER_OF(l2, struct far_donor, l2);
	struct donor_stats_ask ask = {.done = done, .arg = arg, .deadline_ns = deadline_ns};

	return donor_is_up(donor) ? stats_send(donor, &ask) : -ENOTCONN;
}

int
far_donor_usage_ask(struct far_l2 *l2, far_l2_usage_fn *done, void *arg, uint64_t deadline_ns)
{
	struct far_donor *donor = FAR_CONTAINER_OF(l2, struct far_donor, l2);
	struct donor_stats_ask ask = {.usage_done = done, .arg = arg, .deadline_ns = deadline_ns};

	if (donor->quiescing)
		return -ECANCELED;
	return donor_is_up(donor) ? stats_send(donor, &ask) : -EHOSTDOWN;
}

bool
far_donor_is_asked(const struct far_donor *donor)
{
	for (uint32_t i = 0; i < DONOR_STATS_ASKS; i++) {
		if (donor->stats_asks[i].tag != 0)
			return true;
	}
	return false;
}

static void
stats_end(const struct donor_stats_ask *ask, int rc, const uint64_t *values, uint32_t count)
{
	struct far_l2_usage usage;

	if (ask->done != NULL) {
		ask->done(ask->arg, rc, values, count);
		return;
	}
	/* Counters are only ever appended: these are the first of all. */
	if (rc == 0 && count <= FAR_STATUS_block_bytes)
		rc = -EPROTO;
	if (rc == 0) {
		usage.capacity_bytes = values[FAR_STATUS_capacity_bytes];
		usage.used_bytes = usage.capacity_bytes - values[FAR_STATUS_free_bytes];
		usage.block_count = values[FAR_STATUS_block_count];
		usage.block_bytes = values[FAR_STATUS_block_bytes];
		if (values[FAR_STATUS_free_bytes] > usage.capacity_bytes)
			rc = -EPROTO;
	}
	ask->usage_done(ask->arg, rc, rc == 0 ? &usage : NULL);
}

void
far_donor_stats_got(struct far_donor *donor, const struct far_frame *frame)
{
	for (uint32_t i = 0; i < DONOR_STATS_ASKS; i++) {
		struct donor_stats_ask ask = donor->stats_asks[i];

		if (ask.tag == 0 || ask.tag != frame->head.tag)
			continue;
		donor->stats_asks[i].tag = 0;
		stats_end(&ask, 0, frame->list, frame->count);
		return;
	}
}

/* They are answered at the next tick, not from inside whatever lost the link. */
void
far_donor_notes_lost(struct far_donor *donor)
{
	for (uint32_t i = 0; i < DONOR_STATS_ASKS; i++)
		donor->stats_asks[i].lost = true;
	donor->touch_count = 0;
	donor->touch_due = false;
	donor->touch_unheard = 0;
	donor->reject_count = 0;
}

uint64_t
far_donor_notes_tick(struct far_donor *donor, uint64_t now_ns)
{
	uint64_t next_ns = donor->touch_count > 0 ? donor->touch_next_ns : FAR_TIME_NEVER;

	/* For the pump behind this tick, which runs often and has no need of a clock. */
	donor->touch_due = next_ns <= now_ns;
	for (uint32_t i = 0; i < DONOR_STATS_ASKS; i++) {
		struct donor_stats_ask ask = donor->stats_asks[i];

		if (ask.tag == 0)
			continue;
		if (ask.lost || ask.deadline_ns <= now_ns) {
			donor->stats_asks[i].tag = 0;
			stats_end(&ask, ask.lost ? -EHOSTDOWN : -ETIMEDOUT, NULL, 0);
		} else if (ask.deadline_ns < next_ns) {
			next_ns = ask.deadline_ns;
		}
	}
	return next_ns;
}
