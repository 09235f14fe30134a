/* request.c - prefetches and stores whose every byte and every end is checked. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "tests/fault/fault.h"
#include "tools/cli/fill.h"

#define POLL_NS FAR_NS_PER_MS

uint64_t
ms_from_now(uint64_t ms)
{
	return far_now_ns() + ms * FAR_NS_PER_MS;
}

uint64_t
limit_ns(void)
{
	return far_now_ns() + rig_seconds(WAIT_SECONDS) * FAR_NS_PER_S;
}

void
key_of(uint64_t id, struct far_key *out)
{
	far_fill_key(id, BLOCK_BYTES, out);
}

void
request_start(struct far_client *client, struct request *request, uint64_t deadline_ms,
	      struct far_session *session)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options), .session = session, .trim = FAR_TRIM_ALL};

	for (size_t i = 0; i < REQUEST_KEYS; i++)
		key_of(request->ids[i], &request->keys[i]);
	request->began_ns = far_now_ns();
	request->deadline_ns = request->began_ns + deadline_ms * FAR_NS_PER_MS;
	options.deadline_ns = request->deadline_ns;
	CELL_CHECK(far_prefetch(client, request->keys, REQUEST_KEYS, &options, &request->handle) ==
		   0);
}

void
request_wait(struct request *request)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};

	if (far_prefetch_wait(request->handle,
			      request->deadline_ns + rig_seconds(WAIT_SECONDS) * FAR_NS_PER_S,
			      &status) < 0)
		cell_fail("a prefetch never ended");
	request->ended_ns = request->began_ns + status.latency_ns;
	request->readable = status.prefix_count;
	request->gap_rc = status.gap_rc;
	memset(request->loaded_from, 0, sizeof(request->loaded_from));
	for (size_t i = 0; i < REQUEST_KEYS; i++) {
		struct far_prefetch_key key = {.size_bytes = sizeof(key)};

		CELL_CHECK(far_prefetch_key_get(request->handle, i, &key) == 0);
		if (key.state == FAR_KEY_LOADED && (key.donor == 0 || key.donor == 1))
			request->loaded_from[key.donor]++;
	}
}

uint64_t
request_check(const struct request *request)
{
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < REQUEST_KEYS; i++) {
		const void *data;
		uint32_t size_bytes;
		int rc = far_prefetch_block(request->handle, i, &data, &size_bytes);

		CELL_CHECK(rc == 0 || i >= request->readable);
		if (rc < 0)
			continue;
		CELL_CHECK(size_bytes == BLOCK_BYTES);
		wrong += far_fill_check(&request->keys[i], data, size_bytes);
	}
	return wrong;
}

bool
block_put(struct far_client *client, uint64_t id)
{
	struct far_block *block;
	struct far_key key;

	key_of(id, &key);
	if (far_reserve(client, &key, BLOCK_BYTES, &block) < 0)
		return false;
	far_fill_block(&key, far_block_buffer(block), BLOCK_BYTES);
	return far_commit(block) == 0;
}

void
text_add(char text[TEXT_BYTES], const char *what, uint64_t count)
{
	size_t used = strlen(text);

	if (count != 0)
		snprintf(text + used, TEXT_BYTES - used, "%s%llu %s", used > 0 ? ", " : "",
			 (unsigned long long)count, what);
}

/* Of two kinds of events: as many of one as of the other. */
static uint64_t
events_apart(struct far_client *client, const char *begun, const char *ended)
{
	uint64_t counts[2] = {0};
	unsigned found = 0;

	for (size_t kind = 0;; kind++) {
		struct far_event_counts event = {.size_bytes = sizeof(event)};

		if (far_event_counts_get(client, kind, &event) < 0)
			break;
		if (strcmp(event.name, begun) != 0 && strcmp(event.name, ended) != 0)
			continue;
		counts[strcmp(event.name, ended) == 0] = event.events;
		found++;
	}
	CELL_CHECK(found == 2);
	return counts[0] > counts[1] ? counts[0] - counts[1] : counts[1] - counts[0];
}

void
client_leaks(struct far_client *client, uint64_t puts, char text[TEXT_BYTES])
{
	struct far_flush_result stores = {.size_bytes = sizeof(stores)};
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	uint64_t until_ns = limit_ns();
	uint64_t ended;
	int rc = far_flush(client, until_ns, &stores);

	text_add(text, "flush never ended", rc < 0);
	ended = stores.stored + stores.had + stores.failed + stores.dropped;
	text_add(text, "stores that never ended", ended < puts ? puts - ended : 0);
	text_add(text, "stores that ended twice", ended > puts ? ended - puts : 0);
	do {
		(void)far_clear(client, 0);
		far_stats_get(client, &stats);
		if (stats.l1_used_bytes == 0 && stats.l1_loans == 0 && stats.stores_pending == 0)
			break;
		far_clock_sleep_until(far_now_ns() + POLL_NS);
	} while (far_now_ns() < until_ns);
	text_add(text, "loans", stats.l1_loans);
	text_add(text, "bytes of L1", stats.l1_used_bytes);
	text_add(text, "bytes locked", stats.l1_locked_bytes);
	text_add(text, "bytes in quarantine", stats.l1_quarantine_bytes);
	text_add(text, "pending stores", stats.stores_pending);
	text_add(text, "prefetches that did not end once",
		 events_apart(client, "prefetch.submitted", "prefetch.ended"));
}
