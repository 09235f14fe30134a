/* api.c - the rest of the public interface: keys, time, and the questions that wait for an answer.
 */
#include "client/client_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "wire/frame.h"

int
far_key_make(const struct far_key_parts *parts, struct far_key *out)
{
	struct far_key_fields fields;

	if (parts == NULL || out == NULL || parts->size_bytes < sizeof(*parts))
		return -EINVAL;
	fields = (struct far_key_fields){
		.name_space = parts->name_space,
		.model = parts->model,
		.salt = parts->salt,
		.rank = parts->rank,
		.group = parts->group,
		.chunk_hash = parts->chunk_hash,
		.chunk_hash_bytes = parts->chunk_hash_bytes,
	};
	return far_key_digest(&fields, out);
}

uint64_t
far_now_ns(void)
{
	return far_clock_now(far_clock_real());
}

const char *
far_strerror(int rc)
{
	return rc == 0 ? "success" : far_err_text(rc);
}

const char *
far_version(void)
{
	return FAR_VERSION;
}

/* ---- waiting for donors ---- */
struct donors_call {
	struct far_call call;
	char error[FAR_L2_TEXT_BYTES + 128];
};

static bool
donors_answered(struct far_client *client, struct far_call *call, bool late)
{
	struct donors_call *ask = FAR_CONTAINER_OF(call, struct donors_call, call);
	bool pending = false;

	FAR_L2_SET_FOR_EACH(&client->set, i)
	{
		struct far_l2_status status;

		if (!far_l2_set_is_active(&client->set, i))
			continue; /* on its way out */
		far_l2_status_get(client->set.items[i], &status);
		if (status.state == FAR_L2_UP)
			continue;
		if (status.state != FAR_L2_REFUSED && !late) {
			pending = true;
			continue;
		}
		snprintf(ask->error, sizeof(ask->error), "donor %s: %s", client->set.items[i]->name,
			 status.text);
		call->rc = status.rc < 0 ? status.rc : -ETIMEDOUT;
		return true;
	}
	call->rc = 0;
	return !pending;
}

int
far_client_wait_donors(struct far_client *client, uint64_t deadline_ns, char *error,
		       size_t error_bytes)
{
	struct donors_call *ask;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	ask = far_call_new(sizeof(*ask));
	if (ask == NULL)
		return -ENOMEM;
	ask->call.answered = donors_answered;
	rc = far_call_wait(client, &ask->call, deadline_ns);
	if (error != NULL && error_bytes > 0)
		snprintf(error, error_bytes, "%s",
			 atomic_load(&ask->call.done) != 0 ? ask->error : far_err_text(rc));
	far_call_release(&ask->call);
	return rc;
}

/* ---- flush ---- */
struct flush_call {
	struct far_call call;
	uint64_t barrier;
};

static bool
flush_answered(struct far_client *client, struct far_call *call, bool late)
{
	struct flush_call *flush = FAR_CONTAINER_OF(call, struct flush_call, call);

	call->rc = far_store_passed(client->store, flush->barrier) ? 0 : -ETIMEDOUT;
	return call->rc == 0 || late;
}

int
far_flush(struct far_client *client, uint64_t deadline_ns, struct far_flush_result *result)
{
	struct far_store_counts counts;
	struct flush_call *flush;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (result != NULL && result->size_bytes < sizeof(*result))
		return -EINVAL;
	flush = far_call_new(sizeof(*flush));
	if (flush == NULL)
		return -ENOMEM;
	flush->barrier = far_store_barrier(client->store);
	flush->call.answered = flush_answered;
	rc = far_call_wait(client, &flush->call, deadline_ns);
	far_call_release(&flush->call);
	if (result != NULL) {
		far_store_counts_get(client->store, &counts);
		result->stored = counts.blocks_stored;
		result->had = counts.blocks_had;
		result->failed = counts.failed_donor_down + counts.failed_full +
				 counts.failed_deadline + counts.failed_closing +
				 counts.failed_drained + counts.refused_share + counts.failed_other;
		result->dropped = counts.dropped_queue_full;
	}
	return rc;
}

/* ---- delete ---- */
struct delete_call;

/* One donor's share. Its task belongs to the call, which therefore outlives it. */
struct delete_part {
	struct far_l2_task task;
	struct far_l2_item item;
	struct delete_call *del;
	bool live;
};

struct delete_call {
	struct far_call call;
	uint32_t pending;
	bool cancelled;
	bool found;
	int worst;
	struct far_key key;
	struct delete_part parts[FAR_L2_SET_MAX];
};

static void
delete_done(struct far_l2_task *task)
{
	struct delete_part *part = FAR_CONTAINER_OF(task, struct delete_part, task);
	struct delete_call *del = part->del;

	part->live = false;
	del->pending--;
	if (part->item.rc == 0)
		del->found = true;
	else if (part->item.rc != -ENOENT)
		del->worst = part->item.rc;
}

static void
delete_start(struct far_client *client, struct far_call *call)
{
	struct delete_call *del = FAR_CONTAINER_OF(call, struct delete_call, call);

	FAR_L2_SET_FOR_EACH(&client->set, i)
	{
		struct delete_part *part = &del->parts[i];

		part->del = del;
		part->item.key = del->key;
		part->task.kind = FAR_L2_DELETE;
		part->task.items = &part->item;
		part->task.count = 1;
		part->task.deadline_ns = call->deadline_ns;
		part->task.done = delete_done;
		part->live = true;
		del->pending++;
		far_l2_submit(client->set.items[i], &part->task);
	}
}

static bool
delete_answered(struct far_client *client, struct far_call *call, bool late)
{
	struct delete_call *del = FAR_CONTAINER_OF(call, struct delete_call, call);

	(void)client;
	if (del->pending > 0) {
		for (uint32_t i = 0; late && !del->cancelled && i < FAR_L2_SET_MAX; i++) {
			struct delete_part *part = &del->parts[i];

			if (part->live)
				far_l2_cancel(part->task.l2, &part->task);
		}
		del->cancelled = late;
		return false;
	}
	/* A donor that is being removed takes no more questions, but may hold it when it comes again. */
	if (del->worst != 0)
		call->rc = del->worst == -ECANCELED && !del->cancelled ? -EHOSTDOWN : del->worst;
	else
		call->rc = del->found ? 0 : -ENOENT;
	return true;
}

static bool
caught_up(struct far_client *client, struct far_call *call, bool late)
{
	(void)client;
	(void)late;
	call->rc = 0;
	return true;
}

/* Waits until the thread has run what was queued before: releases of handles, for one. */
static int
catch_up(struct far_client *client, uint64_t deadline_ns)
{
	struct far_call *call = far_call_new(sizeof(*call));
	int rc;

	if (call == NULL)
		return -ENOMEM;
	call->answered = caught_up;
	rc = far_call_wait(client, call, deadline_ns);
	far_call_release(call);
	return rc;
}

int
far_delete(struct far_client *client, const struct far_key *key, uint64_t deadline_ns)
{
	struct delete_call *del;
	int again_rc = -ENOENT;
	int l1_rc = -ENOENT;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (key == NULL || far_key_is_zero(key))
		return -EINVAL;
	/* L1 first: a block that is still on its way to a donor is locked there, and would arrive behind
	 * the donor's delete. */
	(void)far_l1_delete(client->l1, key, 1, false, &l1_rc);
	/* A handle that the caller has released may hold it until the thread comes to that. */
	if (l1_rc == -EBUSY && catch_up(client, deadline_ns) == 0)
		(void)far_l1_delete(client->l1, key, 1, false, &l1_rc);
	if (l1_rc == -EBUSY)
		return -EBUSY;
	del = far_call_new(sizeof(*del));
	if (del == NULL)
		return -ENOMEM;
	del->key = *key;
	del->call.start = delete_start;
	del->call.answered = delete_answered;
	rc = far_call_wait(client, &del->call, deadline_ns);
	far_call_release(&del->call);
	/* A prefetch may have brought it back from a donor in between. */
	(void)far_l1_delete(client->l1, key, 1, false, &again_rc);
	if (rc != 0 && rc != -ENOENT)
		return rc;
	if (again_rc == -EBUSY)
		return -EBUSY;
	return rc == 0 || l1_rc == 0 || again_rc == 0 ? 0 : -ENOENT;
}
