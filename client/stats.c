/* stats.c - counters and donor states, collected on the thread that owns them. */
#include "client/client_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "wire/frame.h"

#define STATS_NS FAR_NS_PER_S
/* The status as it was before anything was added at its end. */
#define DONOR_STATUS_BYTES_MIN offsetof(struct far_donor_status, memory_path)

_Static_assert(FAR_STATUS_COUNT <= 64, "far_donor_status.donor_values holds them all");

struct stats_call {
	struct far_call call;
	struct far_stats stats;
};

static void
collect_prefetch(struct far_client *client, struct far_stats *stats)
{
	struct far_prefetch_counts counts;
	uint64_t l1_only = atomic_load_explicit(&client->l1_only_keys, memory_order_relaxed);

	far_prefetch_counts_get(client->prefetch, &counts);
	stats->prefetches = counts.requests +
			    atomic_load_explicit(&client->l1_only_requests, memory_order_relaxed);
	stats->prefetch_keys = counts.keys + l1_only;
	stats->l1_hits = counts.l1_hits + l1_only;
	stats->l2_hits = counts.l2_hits;
	stats->bytes_loaded = counts.bytes_loaded;
	stats->loads_joined = counts.loads_joined;
	stats->missed_not_found = counts.missed_not_found;
	stats->missed_donor_down = counts.missed_donor_down;
	stats->missed_stale = counts.missed_stale;
	stats->missed_checksum = counts.missed_checksum;
	stats->missed_length = counts.missed_length;
	stats->missed_no_memory = counts.missed_no_memory;
	stats->missed_deadline = counts.missed_deadline;
	stats->missed_busy = counts.missed_busy;
	stats->missed_error = counts.missed_error;
	stats->behind_gap = counts.behind_gap;
	stats->loads_abandoned = counts.loads_abandoned;
	stats->prefetch_deadlines = counts.deadline_hits;
	stats->keys_out_of_window = counts.out_of_window;
	stats->prefetch_policy_invalid = counts.policy_nonsense;
}

static void
collect_store(struct far_client *client, struct far_stats *stats)
{
	struct far_store_counts counts;

	far_store_counts_get(client->store, &counts);
	stats->blocks_stored = counts.blocks_stored;
	stats->bytes_stored = counts.bytes_stored;
	stats->blocks_had = counts.blocks_had;
	stats->stores_dropped =
		counts.dropped_queue_full + counts.refused_closing + counts.dropped_closing;
	stats->stores_failed_down = counts.failed_donor_down;
	stats->stores_failed_full = counts.failed_full;
	stats->stores_failed_deadline = counts.failed_deadline;
	stats->stores_failed_other = counts.failed_other + counts.failed_closing +
				     counts.failed_drained + counts.refused_share;
	stats->store_retries = counts.retries;
	stats->stores_pending = counts.blocks_pending;
	stats->store_bytes_pending = counts.bytes_pending;
	stats->stores_not_admitted = counts.not_admitted;
	stats->stores_by_hits = counts.blocks_by_hits;
	stats->stores_unplaced = counts.dropped_unplaced;
	stats->stores_gone = counts.dropped_gone;
	stats->stores_let_go = counts.let_go;
	stats->copies_placed = counts.pairs_placed;
	stats->copies_refused = counts.refused_share;
	stats->copies_moved = counts.moved;
	stats->store_policy_invalid = counts.policy_invalid;
	stats->admit_forgotten = counts.admit_forgotten;
}

static void
collect_l1(struct far_client *client, struct far_stats *stats)
{
	struct far_l1_usage usage;

	far_l1_usage_get(client->l1, &usage);
	stats->l1_capacity_bytes = usage.capacity_bytes;
	stats->l1_used_bytes = usage.used_bytes;
	stats->l1_locked_bytes = usage.locked_bytes;
	stats->l1_quarantine_bytes = usage.quarantine_bytes;
	stats->l1_block_count = usage.block_count;
	stats->l1_evicted_blocks = usage.evicted_blocks;
	stats->l1_evicted_bytes = usage.evicted_bytes;
	stats->l1_denied = usage.denied_no_memory;
	stats->l1_loans = usage.loan_count;
}

static void
collect_eviction(struct far_client *client, struct far_stats *stats)
{
	struct far_eviction_counts counts;

	if (client->eviction == NULL)
		return;
	far_eviction_counts_get(client->eviction, &counts);
	stats->l1_evict_rounds = counts.rounds;
	stats->l1_evict_starved = counts.starved;
	stats->l1_evicted_ahead_blocks = counts.blocks;
	stats->l1_evicted_ahead_bytes = counts.bytes;
}

static bool
stats_answered(struct far_client *client, struct far_call *call, bool late)
{
	struct far_stats *stats = &FAR_CONTAINER_OF(call, struct stats_call, call)->stats;
	struct far_l2_status donors;

	(void)late;
	collect_l1(client, stats);
	collect_eviction(client, stats);
	collect_prefetch(client, stats);
	collect_store(client, stats);
	far_donors_count(client, &donors);
	stats->stale_rejects = donors.stale_rejects;
	stats->torn_rereads = donors.torn_rereads;
	stats->moved_followed = donors.moved_followed;
	stats->crc_rejects = donors.crc_rejects;
	stats->messages_sent = donors.messages_sent;
	stats->messages_received = donors.messages_received;
	stats->touch_notes = donors.touch_notes;
	stats->donors_lost = donors.times_down;
	return true;
}

void
far_stats_get(struct far_client *client, struct far_stats *stats)
{
	size_t size_bytes = stats->size_bytes;
	struct stats_call *ask;

	memset(stats, 0, size_bytes);
	stats->size_bytes = size_bytes;
	if (far_client_enter(client) < 0)
		return;
	ask = far_call_new(sizeof(*ask));
	if (ask == NULL)
		return;
	ask->call.answered = stats_answered;
	if (far_call_wait(client, &ask->call, far_clock_now(client->clock) + STATS_NS) == 0) {
		/* An older caller knows fewer fields. */
		memcpy(stats, &ask->stats,
		       size_bytes < sizeof(ask->stats) ? size_bytes : sizeof(ask->stats));
		stats->size_bytes = size_bytes;
	}
	far_call_release(&ask->call);
}

/* ---- one donor ---- */
struct donor_call {
	struct far_call call;
	char name[64]; /* "": by position */
	uint32_t idx;
	uint32_t generation; /* of the position, when it was asked */
	bool asked;          /* the donor's own counters are on their way, and hold a reference */
	bool late;           /* answered without them */
	struct far_donor_status status;
};

static const char *
state_name(enum far_l2_state state)
{
	switch (state) {
	case FAR_L2_CONNECTING:
		return "connecting";
	case FAR_L2_UP:
		return "up";
	case FAR_L2_REFUSED:
		return "refused";
	case FAR_L2_DOWN:
	case FAR_L2_QUIESCED:
		break;
	}
	return "down";
}

/* How full it is, of the same answer. Counters are only ever appended: an older donor has these. */
static void
donor_usage(struct far_donor_status *status)
{
	const uint64_t *values = status->donor_values;

	if (status->donor_value_count <= FAR_STATUS_block_bytes)
		return;
	status->usage_known = 1;
	status->capacity_bytes = values[FAR_STATUS_capacity_bytes];
	status->block_count = values[FAR_STATUS_block_count];
	status->block_bytes = values[FAR_STATUS_block_bytes];
	if (values[FAR_STATUS_free_bytes] < status->capacity_bytes)
		status->used_bytes = status->capacity_bytes - values[FAR_STATUS_free_bytes];
}

static void
donor_stats(void *arg, int rc, const uint64_t *values, uint32_t count)
{
	struct donor_call *ask = arg;

	ask->asked = false;
	if (rc == 0 && !ask->late) {
		if (count > 64)
			count = 64;
		memcpy(ask->status.donor_values, values, count * sizeof(*values));
		ask->status.donor_value_count = count;
		donor_usage(&ask->status);
	}
	far_call_release(&ask->call);
}

static void
donor_start(struct far_client *client, struct far_call *call)
{
	struct donor_call *ask = FAR_CONTAINER_OF(call, struct donor_call, call);
	struct far_l2 *l2;

	if (ask->name[0] != '\0') {
		l2 = far_l2_set_find(&client->set, ask->name);
		ask->idx = l2 != NULL ? l2->idx : FAR_L2_SET_MAX;
	} else {
		l2 = client->set.items[ask->idx];
	}
	if (l2 == NULL)
		return;
	ask->generation = client->set.generations[ask->idx];
	ask->asked = true;
	atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
	if (l2->ops->stats_ask(l2, donor_stats, ask, call->deadline_ns) < 0) {
		ask->asked = false;
		far_call_release(call);
	}
}

static bool
donor_answered(struct far_client *client, struct far_call *call, bool late)
{
	struct donor_call *ask = FAR_CONTAINER_OF(call, struct donor_call, call);
	struct far_l2_status status;

	if (ask->idx == FAR_L2_SET_MAX || client->set.items[ask->idx] == NULL ||
	    client->set.generations[ask->idx] != ask->generation) {
		call->rc = -ENOENT; /* or removed since, and perhaps another one came */
		return true;
	}
	if (ask->asked && !late)
		return false;
	ask->late = ask->asked;
	far_l2_status_get(client->set.items[ask->idx], &status);
	snprintf(ask->status.name, sizeof(ask->status.name), "%s",
		 client->set.items[ask->idx]->name);
	snprintf(ask->status.state, sizeof(ask->status.state), "%s",
		 far_l2_set_is_active(&client->set, ask->idx) ? state_name(status.state)
							      : "draining");
	snprintf(ask->status.text, sizeof(ask->status.text), "%s", status.text);
	snprintf(ask->status.transport, sizeof(ask->status.transport), "%s", status.transport);
	snprintf(ask->status.why, sizeof(ask->status.why), "%s", status.why);
	ask->status.epoch = status.epoch;
	ask->status.one_sided = status.one_sided;
	ask->status.rc = status.state == FAR_L2_UP ? 0 : status.rc;
	ask->status.lookups = status.lookups;
	ask->status.lookup_hits = status.lookup_hits;
	ask->status.load_bytes = status.load_bytes;
	ask->status.store_bytes = status.store_bytes;
	ask->status.messages_sent = status.messages_sent;
	ask->status.messages_received = status.messages_received;
	ask->status.times_down = status.times_down;
	far_client_memory_path(client, status.transport, ask->status.memory_path);
	call->rc = 0;
	return true;
}

static int
donor_ask(struct far_client *client, const char *name, size_t idx, uint64_t deadline_ns,
	  struct far_donor_status *status)
{
	struct donor_call *ask = far_call_new(sizeof(*ask));
	int rc;

	if (ask == NULL)
		return -ENOMEM;
	memcpy(ask->name, name, strlen(name) + 1);
	ask->idx = (uint32_t)idx;
	ask->call.start = donor_start;
	ask->call.answered = donor_answered;
	rc = far_call_wait(client, &ask->call, deadline_ns);
	if (rc == 0) {
		size_t size_bytes = status->size_bytes;

		/* An older caller knows fewer fields. */
		memcpy(status, &ask->status,
		       size_bytes < sizeof(*status) ? size_bytes : sizeof(*status));
		status->size_bytes = size_bytes;
	}
	far_call_release(&ask->call);
	return rc;
}

int
far_donor_status_get(struct far_client *client, size_t idx, uint64_t deadline_ns,
		     struct far_donor_status *status)
{
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (status == NULL || status->size_bytes < DONOR_STATUS_BYTES_MIN || idx >= FAR_L2_SET_MAX)
		return idx >= FAR_L2_SET_MAX ? -ENOENT : -EINVAL;
	return donor_ask(client, "", idx, deadline_ns, status);
}

int
far_donor_status_find(struct far_client *client, const char *name, uint64_t deadline_ns,
		      struct far_donor_status *status)
{
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (status == NULL || status->size_bytes < DONOR_STATUS_BYTES_MIN || name == NULL)
		return -EINVAL;
	/* None has such a name. */
	if (name[0] == '\0' || strlen(name) >= sizeof(((struct donor_call *)0)->name))
		return -ENOENT;
	return donor_ask(client, name, 0, deadline_ns, status);
}
