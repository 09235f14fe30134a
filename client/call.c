/* call.c - questions that any thread asks the client's thread, with a deadline. */
#include "client/client_priv.h"

#include <errno.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/word.h"

#define CALL_SLACK_NS (100 * FAR_NS_PER_MS)

static void
call_run(struct far_client *client, struct far_command *command)
{
	struct far_call *call = FAR_CONTAINER_OF(command, struct far_call, command);

	far_list_push_back(&client->calls, &call->node);
	if (call->start != NULL)
		call->start(client, call);
}

void *
far_call_new(size_t size_bytes)
{
	struct far_call *call;

	FAR_ASSERT(size_bytes >= sizeof(*call));
	call = far_zalloc(size_bytes);
	if (call == NULL)
		return NULL;
	call->command.run = call_run;
	call->command.may_take_long = true; /* it opens devices, and pins memory */
	far_list_init(&call->node);
	atomic_init(&call->refs, 1);
	return call;
}

void
far_call_release(struct far_call *call)
{
	/* The last of the two sides frees; acquire pairs with the other's release. */
	if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) == 1)
		far_free(call);
}

int
far_call_wait(struct far_client *client, struct far_call *call, uint64_t deadline_ns)
{
	int rc;

	call->deadline_ns = deadline_ns;
	atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
	if (!far_client_push(client, &call->command)) {
		far_call_release(call);
		return -E2BIG;
	}
	/* The thread answers at the deadline itself; the rest is for a thread that is starved. */
	rc = far_word_wait(&call->done, 0, far_time_after(deadline_ns, CALL_SLACK_NS));
	return rc < 0 ? rc : call->rc;
}

static void
call_answer(struct far_call *call)
{
	far_list_remove(&call->node);
	atomic_store_explicit(&call->done, 1, memory_order_release); /* pairs with far_word_wait */
	far_word_wake(&call->done);
	far_call_release(call);
}

uint64_t
far_calls_check(struct far_client *client, uint64_t now_ns)
{
	uint64_t next_ns = FAR_TIME_NEVER;
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &client->calls)
	{
		struct far_call *call = FAR_CONTAINER_OF(it, struct far_call, node);

		if (call->answered(client, call, now_ns >= call->deadline_ns)) {
			call_answer(call);
			continue;
		}
		if (call->deadline_ns > now_ns && call->deadline_ns < next_ns)
			next_ns = call->deadline_ns;
		if (call->again_ns != 0 && call->again_ns < next_ns)
			next_ns = call->again_ns;
	}
	return next_ns;
}

void
far_calls_end(struct far_client *client, int rc)
{
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &client->calls)
	{
		struct far_call *call = FAR_CONTAINER_OF(it, struct far_call, node);

		if (call->answered(client, call, true)) {
			call_answer(call);
			continue;
		}
		/* A peer that never let go still names its tasks: it is lost rather than freed. */
		far_list_remove(&call->node);
		call->rc = rc;
		atomic_store_explicit(&call->done, 1, memory_order_release);
		far_word_wake(&call->done);
	}
}
