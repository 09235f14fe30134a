/* pool_meter.c - what a line cost: processor time at both ends, messages, phases, and what went wrong. */
#include <string.h>

#include "tools/perf/pool.h"
#include "wire/frame.h"

#define ASK_NS     (2 * FAR_NS_PER_S)
#define READ_AHEAD 256U

/* A donor that does not answer makes the sum unknown, not smaller. */
static void
donors_ask(struct pool *pool, struct pool_counts *out)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};

	out->donor_cpu_known = true;
	for (size_t i = 0; i < POOL_DONORS_MAX; i++) {
		if (far_donor_status_get(pool->clients[0].client, i, far_now_ns() + ASK_NS,
					 &status) < 0)
			continue;
		if (status.donor_value_count > FAR_STATUS_cpu_ns)
			out->donor_cpu_ns += status.donor_values[FAR_STATUS_cpu_ns];
		else
			out->donor_cpu_known = false;
	}
}

static uint64_t
abandoned_bytes(struct far_client *client)
{
	struct far_event_counts counts = {.size_bytes = sizeof(counts)};

	for (size_t kind = 0; far_event_counts_get(client, kind, &counts) == 0; kind++)
		if (strcmp(counts.name, "prefetch.abandoned") == 0)
			return counts.bytes;
	return 0;
}

static void
clients_count(struct pool *pool, struct pool_counts *out)
{
	for (uint32_t i = 0; i < pool->client_count; i++) {
		struct far_stats stats = {.size_bytes = sizeof(stats)};

		far_stats_get(pool->clients[i].client, &stats);
		out->messages += stats.messages_sent + stats.messages_received - stats.touch_notes;
		out->touch_notes += stats.touch_notes;
		out->loaded_bytes += stats.bytes_loaded;
		out->stored_bytes += stats.bytes_stored;
		out->stale_rejects += stats.stale_rejects;
		out->rereads += stats.torn_rereads;
		out->misses += stats.missed_not_found + stats.missed_donor_down +
			       stats.missed_stale + stats.missed_checksum + stats.missed_length +
			       stats.missed_no_memory + stats.missed_deadline + stats.missed_busy +
			       stats.missed_error;
		out->stores_lost += stats.stores_dropped + stats.stores_failed_down +
				    stats.stores_failed_full + stats.stores_failed_deadline +
				    stats.stores_failed_other;
		out->late_bytes += abandoned_bytes(pool->clients[i].client);
	}
}

/* The donors' own counters are asked for by messages: outside of what is counted. */
void
pool_counts_get(struct pool *pool, bool before, struct pool_counts *out)
{
	*out = (struct pool_counts){0};
	if (before)
		donors_ask(pool, out);
	else
		out->cpu_ns = far_clock_cpu_ns();
	clients_count(pool, out);
	if (before)
		out->cpu_ns = far_clock_cpu_ns();
	else
		donors_ask(pool, out);
}

struct pool_counts
pool_counts_diff(const struct pool_counts *after, const struct pool_counts *before)
{
	return (struct pool_counts){
		.cpu_ns = after->cpu_ns - before->cpu_ns,
		.donor_cpu_ns = after->donor_cpu_ns - before->donor_cpu_ns,
		.donor_cpu_known = after->donor_cpu_known && before->donor_cpu_known,
		.messages = after->messages - before->messages,
		.touch_notes = after->touch_notes - before->touch_notes,
		.loaded_bytes = after->loaded_bytes - before->loaded_bytes,
		.stored_bytes = after->stored_bytes - before->stored_bytes,
		.stale_rejects = after->stale_rejects - before->stale_rejects,
		.rereads = after->rereads - before->rereads,
		.misses = after->misses - before->misses,
		.stores_lost = after->stores_lost - before->stores_lost,
		.late_bytes = after->late_bytes - before->late_bytes,
	};
}

void
pool_phases_read(struct pool_client *client)
{
	struct far_event_item items[READ_AHEAD];
	struct pool_phases *phases = &client->phases;
	uint64_t lost = 0;
	int64_t count;

	do {
		count = far_events_read(client->client, &phases->cursor, items, READ_AHEAD, &lost);
		phases->lost += lost;
		for (int64_t i = 0; i < count; i++) {
			if (strcmp(items[i].name, "prefetch.answered") == 0) {
				phases->lookup_ns += items[i].took_ns;
				phases->lookups++;
			} else if (strcmp(items[i].name, "prefetch.loaded") == 0) {
				phases->data_ns += items[i].took_ns;
				phases->loads++;
			}
		}
	} while (count == READ_AHEAD);
}
