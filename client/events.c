/* events.c - the client's recorder, as its host reads it. */
#include "client/client_priv.h"

#include <errno.h>
#include <string.h>

#define EVENTS_BATCH 64U

static void
event_copy(struct far_event_item *to, const struct far_record *from)
{
	*to = (struct far_event_item){
		.name = far_record_name((enum far_record_kind)from->kind),
		.at_ns = from->at_ns,
		.request_id = from->request_id,
		.bytes = from->bytes,
		.took_ns = from->took_ns,
		.keys = from->keys,
		.session = from->session,
		.why = from->why,
		.donor = from->adapter != FAR_RECORD_NO_ADAPTER ? from->adapter : -1,
	};
}

int64_t
far_events_read(struct far_client *client, uint64_t *cursor, struct far_event_item *events,
		size_t max, uint64_t *lost)
{
	struct far_record batch[EVENTS_BATCH];
	uint64_t lost_all = 0;
	size_t done = 0;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (cursor == NULL || (events == NULL && max > 0))
		return -EINVAL;
	if (client->recorder == NULL)
		return -EOPNOTSUPP;
	while (done < max) {
		size_t room = max - done < EVENTS_BATCH ? max - done : EVENTS_BATCH;
		uint64_t gone = 0;
		size_t count = far_recorder_read(client->recorder, cursor, batch, room, &gone);

		for (size_t i = 0; i < count; i++)
			event_copy(&events[done + i], &batch[i]);
		lost_all += gone;
		done += count;
		if (count < room)
			break;
	}
	if (lost != NULL)
		*lost = lost_all;
	return (int64_t)done;
}

int
far_event_counts_get(struct far_client *client, size_t kind, struct far_event_counts *counts)
{
	struct far_event_counts now = {.size_bytes = sizeof(now)};
	struct far_record_counts of_kind;
	size_t size_bytes;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (counts == NULL || counts->size_bytes < sizeof(counts->size_bytes))
		return -EINVAL;
	if (client->recorder == NULL)
		return -EOPNOTSUPP;
	if (kind >= FAR_RECORD_KINDS)
		return -ENOENT;
	far_recorder_counts_get(client->recorder, (enum far_record_kind)kind, &of_kind);
	now.name = far_record_name((enum far_record_kind)kind);
	now.text = far_record_text((enum far_record_kind)kind);
	now.events = of_kind.events;
	now.keys = of_kind.keys;
	now.bytes = of_kind.bytes;
	size_bytes = counts->size_bytes;
	memcpy(counts, &now, size_bytes < sizeof(now) ? size_bytes : sizeof(now));
	counts->size_bytes = size_bytes;
	return 0;
}
