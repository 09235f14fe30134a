/* handle.c - prefetch handles: L1's prefix on the caller's thread, the rest on the client's. */
#include "client/handle.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/word.h"

#define HANDLES_RESTING 16U /* released handles that are not reused yet */
/* The options as they were before anything was added at their end. */
#define OPTIONS_BYTES_MIN offsetof(struct far_prefetch_options, trim)
#define FLAGS_KNOWN                                                                                \
	(FAR_PREFETCH_WARM_ONLY | FAR_PREFETCH_RETAIN | FAR_PREFETCH_LET_GO |                      \
	 FAR_PREFETCH_PAST_L1 | FAR_PREFETCH_WAIT_FOLLOWS)

static int
handle_reserve(struct far_prefetch_handle *handle, size_t count)
{
	size_t capacity = 16;

	if (count <= handle->capacity)
		return 0;
	while (capacity < count)
		capacity *= 2;
	far_free(handle->keys);
	far_free(handle->sizes);
	far_free(handle->views);
	far_free(handle->grants);
	far_free(handle->loans);
	far_free(handle->rcs);
	far_free(handle->windows);
	handle->capacity = 0;
	handle->keys = far_zalloc_array(capacity, sizeof(*handle->keys));
	handle->sizes = far_zalloc_array(capacity, sizeof(*handle->sizes));
	handle->views = far_zalloc_array(capacity, sizeof(*handle->views));
	handle->grants = far_zalloc_array(capacity, sizeof(*handle->grants));
	handle->loans = far_zalloc_array(capacity, sizeof(*handle->loans));
	handle->rcs = far_zalloc_array(capacity, sizeof(*handle->rcs));
	handle->windows = far_zalloc_array(capacity, sizeof(*handle->windows));
	if (handle->keys == NULL || handle->sizes == NULL || handle->views == NULL ||
	    handle->grants == NULL || handle->loans == NULL || handle->rcs == NULL ||
	    handle->windows == NULL)
		return -ENOMEM;
	handle->capacity = capacity;
	return 0;
}

static void
handle_free(struct far_prefetch_handle *handle)
{
	far_free(handle->keys);
	far_free(handle->sizes);
	far_free(handle->views);
	far_free(handle->grants);
	far_free(handle->loans);
	far_free(handle->rcs);
	far_free(handle->windows);
	far_free(handle);
}

/* From the free list, grown to @count keys; only the first prefetches of a client allocate. */
static int
handle_take(struct far_client *client, size_t count, struct far_prefetch_handle **out)
{
	struct far_prefetch_handle *handle = NULL;
	struct far_list *node;
	int rc = 0;

	pthread_mutex_lock(&client->pool_lock);
	if (client->handles_live_count >= client->config.prefetch_requests_max) {
		rc = -E2BIG;
	} else {
		client->handles_live_count++;
		node = far_resting_take(&client->handles_free, HANDLES_RESTING);
		if (node != NULL)
			handle = FAR_CONTAINER_OF(node, struct far_prefetch_handle, node);
	}
	pthread_mutex_unlock(&client->pool_lock);
	if (rc < 0)
		return rc;
	if (handle == NULL) {
		handle = far_zalloc(sizeof(*handle));
		if (handle != NULL)
			far_list_init(&handle->node);
	}
	if (handle == NULL || handle_reserve(handle, count) < 0) {
		if (handle != NULL)
			handle_free(handle);
		pthread_mutex_lock(&client->pool_lock);
		client->handles_live_count--;
		pthread_mutex_unlock(&client->pool_lock);
		return -ENOMEM;
	}
	pthread_mutex_lock(&client->pool_lock);
	far_list_push_back(&client->handles_live, &handle->node);
	pthread_mutex_unlock(&client->pool_lock);
	*out = handle;
	return 0;
}

/* Gives back what a finished handle still holds in L1. */
static void
handle_loans_end(struct far_prefetch_handle *handle)
{
	struct far_session *session = atomic_load(&handle->session);
	size_t count = 0;

	if (!far_session_enter(session))
		return; /* they end with it */
	/* Behind gaps, too. What was not granted, or is given back, shows no loan. */
	for (uint32_t i = 0; i < handle->req.count; i++) {
		if (handle->views[i].loan != 0)
			handle->loans[count++] = handle->views[i].loan;
		handle->views[i].loan = 0;
	}
	if (count > 0) {
		size_t ended = far_l1_finish_read(handle->client->l1, handle->req.session,
						  handle->loans, count, 1, handle->rcs);

		FAR_ASSERT(ended == count); /* ours alone, and ended once */
	}
	handle->req.prefix_count = 0;
	far_session_leave(session);
}

static void
handle_put(struct far_prefetch_handle *handle)
{
	struct far_client *client = handle->client;
	int fd;

	/* acq_rel: the last one sees all that the others did. */
	if (atomic_fetch_sub_explicit(&handle->refs, 1, memory_order_acq_rel) != 1)
		return;
	handle_loans_end(handle);
	far_session_put(atomic_exchange(&handle->session, NULL));
	fd = atomic_exchange(&handle->event_fd, -1);
	if (fd >= 0)
		close(fd);
	pthread_mutex_lock(&client->pool_lock);
	far_resting_give(&client->handles_free, &handle->node);
	client->handles_live_count--;
	pthread_mutex_unlock(&client->pool_lock);
}

/* The locks of a warm request's L1 prefix end with it. */
static void
warm_loans_end(struct far_prefetch_handle *handle)
{
	struct far_session *session = atomic_load(&handle->session);
	size_t ended;

	if (handle->req.mode != FAR_PREFETCH_WARM || handle->l1_prefix == 0 ||
	    !far_session_enter(session))
		return;
	ended = far_l1_finish_read(handle->client->l1, handle->req.session, handle->loans,
				   handle->l1_prefix, 1, handle->rcs);
	FAR_ASSERT(ended == handle->l1_prefix);
	far_session_leave(session);
}

/* What the caller wants of the blocks that it loaded, over the policy's head. We hold them all: none
 * has gone yet. */
static void
loaded_blocks_keep(struct far_prefetch_handle *handle)
{
	struct far_client *client = handle->client;
	size_t count = 0;

	if ((handle->flags & (FAR_PREFETCH_RETAIN | FAR_PREFETCH_LET_GO)) == 0)
		return;
	for (uint32_t i = 0; i < handle->req.count; i++) {
		if (handle->views[i].loan != 0 && handle->views[i].adapter >= 0)
			handle->loans[count++] = handle->views[i].loan;
	}
	if (count == 0)
		return;
	/* One that was deleted by force meanwhile is neither. */
	if ((handle->flags & FAR_PREFETCH_RETAIN) != 0)
		(void)far_l1_retain(client->l1, handle->req.session, handle->loans, count,
				    handle->rcs);
	else
		(void)far_l1_let_go(client->l1, handle->req.session, handle->loans, count,
				    handle->rcs);
}

/* The result is final: publish it once. Runs on the thread that found the end. */
static void
handle_end(struct far_prefetch_handle *handle, int rc)
{
	uint32_t prefix = handle->req.prefix_count;
	uint32_t state;
	int fd;

	warm_loans_end(handle);
	loaded_blocks_keep(handle);
	handle->rc = rc;
	handle->gap_rc = prefix < handle->req.count ? handle->views[prefix].rc : 0;
	handle->request_id = handle->req.request_id;
	handle->chunk_count = handle->req.chunk_count;
	handle->readable_count = 0;
	handle->l2_bytes = 0;
	for (uint32_t i = 0; i < handle->req.count; i++) {
		if (handle->views[i].rc != 0)
			continue;
		handle->readable_count++;
		if (handle->views[i].adapter >= 0)
			handle->l2_bytes += handle->views[i].size_bytes;
	}
	atomic_store_explicit(&handle->found, FAR_HANDLE_FOUND(handle->req.found_count, true),
			      memory_order_relaxed);
	handle->ended_ns = far_clock_now(handle->client->clock);
	atomic_store_explicit(&handle->prefix_count, prefix, memory_order_release);
	/* Pairs with far_prefetch_event_fd(): one of the two sees the other and writes. */
	state = atomic_fetch_or_explicit(&handle->state, FAR_HANDLE_ENDED, memory_order_seq_cst);
	/* Who drove it to its end is awake: a system call less. */
	if ((state & FAR_HANDLE_WAITED) != 0)
		far_word_wake(&handle->state);
	fd = atomic_load_explicit(&handle->event_fd, memory_order_seq_cst);
	if (fd >= 0)
		(void)eventfd_write(fd, 1);
	far_session_prefetch_ends(atomic_load(&handle->session));
}

static void
req_advanced(struct far_prefetch_req *req, uint32_t prefix_count)
{
	struct far_prefetch_handle *handle = FAR_CONTAINER_OF(req, struct far_prefetch_handle, req);

	/* Pairs with far_prefetch_block(): the views of the prefix do not change any more. */
	atomic_store_explicit(&handle->prefix_count, prefix_count, memory_order_release);
}

static void
req_found(struct far_prefetch_req *req)
{
	struct far_prefetch_handle *handle = FAR_CONTAINER_OF(req, struct far_prefetch_handle, req);

	/* A number for the caller; nothing is read on its word. */
	atomic_store_explicit(&handle->found,
			      FAR_HANDLE_FOUND(req->found_count, req->found_is_final),
			      memory_order_relaxed);
}

static void
req_ended(struct far_prefetch_req *req)
{
	struct far_prefetch_handle *handle = FAR_CONTAINER_OF(req, struct far_prefetch_handle, req);

	handle_end(handle, req->rc);
	handle_put(handle);
}

static void
submit_run(struct far_client *client, struct far_command *command)
{
	struct far_prefetch_handle *handle =
		FAR_CONTAINER_OF(command, struct far_prefetch_handle, submit);
	bool is_open = far_session_is_open(atomic_load(&handle->session));
	int rc = is_open ? far_prefetch_submit(client->prefetch, &handle->req) : -ECANCELED;

	if (rc == 0)
		return;
	/* Nothing was accepted: what L1 had is the answer; or nothing, if its reader is gone. */
	handle->req.prefix_count = is_open ? handle->req.l1_prefix_count : 0;
	handle->req.found_count = handle->req.prefix_count;
	for (uint32_t i = handle->req.prefix_count; i < handle->req.count; i++)
		handle->views[i].rc = rc;
	handle_end(handle, rc);
	handle_put(handle);
}

static void
cancel_run(struct far_client *client, struct far_command *command)
{
	struct far_prefetch_handle *handle =
		FAR_CONTAINER_OF(command, struct far_prefetch_handle, cancel);

	if ((atomic_load_explicit(&handle->state, memory_order_acquire) & FAR_HANDLE_ENDED) == 0)
		far_prefetch_req_cancel(client->prefetch, &handle->req);
	handle_put(handle);
}

static bool
submit_push(struct far_prefetch_handle *handle)
{
	return (handle->flags & FAR_PREFETCH_WAIT_FOLLOWS) != 0
		       ? far_client_push_quietly(handle->client, &handle->submit)
		       : far_client_push(handle->client, &handle->submit);
}

/* Locks what L1 has of the prefix, on the caller's thread. */
static uint32_t
lock_l1_prefix(struct far_prefetch_handle *handle, bool warm)
{
	struct far_client *client = handle->client;
	struct far_prefetch_req *req = &handle->req;
	size_t prefix = 0;

	/* With windows it is not known yet which are needed. */
	if (req->shape == NULL && !req->past_l1)
		prefix = far_l1_reserve_read_prefix(client->l1, req->session, handle->keys,
						    req->sizes, req->count, 1, handle->grants);
	for (size_t i = 0; i < prefix; i++) {
		handle->views[i] = (struct far_prefetch_view){
			.size_bytes = handle->grants[i].size_bytes,
			.loan = handle->grants[i].loan,
			.addr = handle->grants[i].addr,
			.adapter = -1,
		};
		/* A warm prefix is locked while the request lives, so that its last blocks do not
		 * push out its first; the handle shows no loan. */
		handle->loans[i] = handle->grants[i].loan;
		if (warm)
			handle->views[i].loan = 0;
	}
	/* Another one's temporary would go with its reader: warm blocks stay. */
	if (warm && prefix > 0)
		(void)far_l1_retain(client->l1, req->session, handle->loans, prefix, handle->rcs);
	for (size_t i = prefix; i < req->count; i++)
		handle->views[i] = (struct far_prefetch_view){.rc = -EINPROGRESS, .adapter = -1};
	return (uint32_t)prefix;
}

/* The model that the keys are cells of; its windows are copied. */
static void
handle_fill_shape(struct far_prefetch_handle *handle, const struct far_prefetch_options *options)
{
	if (options->groups == 0)
		return;
	memcpy(handle->windows, options->windows, options->groups * sizeof(*options->windows));
	handle->shape = (struct far_fold_shape){
		.chunks = handle->req.count / (options->groups * options->ranks),
		.groups = options->groups,
		.ranks = options->ranks,
		.windows = handle->windows,
	};
	handle->req.shape = &handle->shape;
}

static void
handle_fill(struct far_prefetch_handle *handle, struct far_client *client,
	    const struct far_key *keys, size_t count, const struct far_prefetch_options *options)
{
	bool warm = (options->flags & FAR_PREFETCH_WARM_ONLY) != 0;

	handle->client = client;
	atomic_store(&handle->session, options->session);
	far_session_get(options->session);
	far_session_prefetch_begins(options->session);
	handle->submit.run = submit_run;
	handle->cancel.run = cancel_run;
	memcpy(handle->keys, keys, count * sizeof(*keys));
	if (options->sizes != NULL)
		memcpy(handle->sizes, options->sizes, count * sizeof(*options->sizes));
	handle->req = (struct far_prefetch_req){
		.keys = handle->keys,
		.sizes = options->sizes != NULL ? handle->sizes : NULL,
		.views = handle->views,
		.count = (uint32_t)count,
		.mode = warm ? FAR_PREFETCH_WARM : FAR_PREFETCH_LOOKUP,
		.trim = options->trim == FAR_TRIM_ALL ? FAR_PREFETCH_TRIM_ALL
						      : FAR_PREFETCH_TRIM_PREFIX,
		.past_l1 = (options->flags & FAR_PREFETCH_PAST_L1) != 0,
		/* Threads share one count: the last of them gives it back. */
		.readers = 1,
		.deadline_ns = options->deadline_ns,
		.session = far_session_l1(client, options->session),
		.advanced = req_advanced,
		.found = req_found,
		.ended = req_ended,
	};
	handle_fill_shape(handle, options);
	handle->flags = options->flags;
	atomic_store_explicit(&handle->readers, options->readers == 0 ? 1 : options->readers,
			      memory_order_relaxed);
	atomic_store_explicit(&handle->refs, 2, memory_order_relaxed);
	atomic_store_explicit(&handle->state, 0, memory_order_relaxed);
	atomic_store_explicit(&handle->cancelled, 0, memory_order_relaxed);
	atomic_store_explicit(&handle->event_fd, -1, memory_order_relaxed);
	handle->submit_ns = far_clock_now(client->clock);
	handle->l1_prefix = lock_l1_prefix(handle, warm);
	handle->req.l1_prefix_count = (uint32_t)handle->l1_prefix;
	handle->req.prefix_count = 0;
	handle->req.found_count = (uint32_t)handle->l1_prefix;
	atomic_store_explicit(&handle->found, FAR_HANDLE_FOUND(handle->l1_prefix, false),
			      memory_order_relaxed);
	atomic_store_explicit(&handle->prefix_count, (uint32_t)handle->l1_prefix,
			      memory_order_relaxed);
}

/* What contradicts itself, or @count. */
static bool
options_are_valid(const struct far_prefetch_options *options, size_t count)
{
	uint32_t flags = options->flags;
	uint64_t row = (uint64_t)options->groups * options->ranks;

	if (options->deadline_ns == 0 || (flags & ~FLAGS_KNOWN) != 0 ||
	    options->trim > FAR_TRIM_ALL)
		return false;
	if ((flags & FAR_PREFETCH_LET_GO) != 0 &&
	    (flags & (FAR_PREFETCH_RETAIN | FAR_PREFETCH_WARM_ONLY)) != 0)
		return false;
	if (options->groups == 0)
		return options->ranks == 0 && options->windows == NULL;
	return options->windows != NULL && row > 0 && count % row == 0 &&
	       options->trim == FAR_TRIM_PREFIX && (flags & FAR_PREFETCH_PAST_L1) == 0;
}

int
far_prefetch(struct far_client *client, const struct far_key *keys, size_t count,
	     const struct far_prefetch_options *given, struct far_prefetch_handle **out)
{
	struct far_prefetch_options copy = {0};
	const struct far_prefetch_options *options = &copy;
	struct far_prefetch_handle *handle;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (keys == NULL || count == 0 || given == NULL || out == NULL ||
	    given->size_bytes < OPTIONS_BYTES_MIN)
		return -EINVAL;
	/* An older caller knows fewer fields, a newer one more. */
	memcpy(&copy, given, given->size_bytes < sizeof(copy) ? given->size_bytes : sizeof(copy));
	if (!options_are_valid(options, count))
		return -EINVAL;
	if (!far_session_is_of(options->session, client))
		return -EINVAL;
	if (count > client->config.prefetch_keys_max)
		return -E2BIG;
	for (size_t i = 0; i < count; i++) {
		if (far_key_is_zero(&keys[i]))
			return -EINVAL;
	}
	if (!far_session_enter(options->session))
		return -EBADF;
	rc = handle_take(client, count, &handle);
	if (rc == 0)
		handle_fill(handle, client, keys, count, options);
	far_session_leave(options->session);
	if (rc < 0)
		return rc;
	if (handle->l1_prefix == count) {
		/* All of it is here: no thread has to be woken. */
		atomic_fetch_add_explicit(&client->l1_only_requests, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&client->l1_only_keys, count, memory_order_relaxed);
		handle->req.prefix_count = (uint32_t)count;
		handle->req.found_count = (uint32_t)count;
		handle_end(handle, 0);
		handle_put(handle);
	} else if (!submit_push(handle)) {
		handle->req.prefix_count = (uint32_t)handle->l1_prefix;
		warm_loans_end(handle);
		far_session_prefetch_ends(atomic_load(&handle->session));
		handle_put(handle);
		handle_put(handle);
		return -E2BIG;
	}
	*out = handle;
	return 0;
}

void
far_prefetch_cancel(struct far_prefetch_handle *handle)
{
	if (handle == NULL || far_client_enter(handle->client) < 0)
		return;
	if (atomic_exchange_explicit(&handle->cancelled, 1, memory_order_relaxed) != 0)
		return;
	if ((atomic_load_explicit(&handle->state, memory_order_acquire) & FAR_HANDLE_ENDED) != 0)
		return;
	atomic_fetch_add_explicit(&handle->refs, 1, memory_order_relaxed);
	/* The ring has room for each live handle's two commands, so this ends at once. */
	while (!far_client_push(handle->client, &handle->cancel))
		far_clock_sleep_until(far_clock_now(handle->client->clock) + 50 * FAR_NS_PER_US);
}

/* True for the last one, and for whoever comes behind him. */
static bool
reader_goes(struct far_prefetch_handle *handle)
{
	/* Acquire: what the other readers did comes before the last one gives the blocks back. */
	uint32_t left = atomic_load_explicit(&handle->readers, memory_order_acquire);

	/* Release: what this reader did with the blocks is done before the last one gives them back. */
	while (left > 1) {
		if (atomic_compare_exchange_weak_explicit(&handle->readers, &left, left - 1,
							  memory_order_acq_rel,
							  memory_order_acquire))
			return false;
	}
	return true;
}

void
far_prefetch_release(struct far_prefetch_handle *handle)
{
	uint32_t state;

	if (handle == NULL || far_client_enter(handle->client) < 0)
		return;
	if (!reader_goes(handle))
		return;
	state = atomic_fetch_or(&handle->state, FAR_HANDLE_RELEASED);
	if ((state & FAR_HANDLE_RELEASED) != 0) {
		far_log_error("a prefetch was released twice: the second release is ignored");
		return;
	}
	if ((state & FAR_HANDLE_ENDED) == 0)
		far_prefetch_cancel(handle);
	handle_put(handle);
}

/* The next one of that session that has not ended and was not cancelled, with a reference. */
static struct far_prefetch_handle *
handle_of(struct far_client *client, const struct far_session *session)
{
	struct far_prefetch_handle *found = NULL;

	pthread_mutex_lock(&client->pool_lock);
	for (struct far_list *it = client->handles_live.next;
	     it != &client->handles_live && found == NULL; it = it->next) {
		struct far_prefetch_handle *handle =
			FAR_CONTAINER_OF(it, struct far_prefetch_handle, node);
		uint32_t refs = atomic_load(&handle->refs);

		if (atomic_load(&handle->session) != session || atomic_load(&handle->cancelled) ||
		    (atomic_load(&handle->state) & FAR_HANDLE_ENDED) != 0)
			continue;
		/* Without one it is on its way to the free list. */
		while (refs > 0 && !atomic_compare_exchange_weak(&handle->refs, &refs, refs + 1))
			continue;
		if (refs > 0)
			found = handle;
	}
	pthread_mutex_unlock(&client->pool_lock);
	return found;
}

void
far_client_handles_cancel(struct far_client *client, const struct far_session *session)
{
	struct far_prefetch_handle *handle;

	while ((handle = handle_of(client, session)) != NULL) {
		/* Not by a command: should the ring be full, only we could make room in it. One whose
		 * submit is still in the ring ends there: its session is not open any more. */
		if (atomic_exchange_explicit(&handle->cancelled, 1, memory_order_relaxed) == 0)
			far_prefetch_req_cancel(client->prefetch, &handle->req);
		handle_put(handle);
	}
}

/* Close: whatever its owner has not released is cancelled and released for it. */
void
far_client_handles_end(struct far_client *client)
{
	for (;;) {
		struct far_prefetch_handle *live = NULL;
		struct far_list *it;

		pthread_mutex_lock(&client->pool_lock);
		for (it = client->handles_live.next; it != &client->handles_live; it = it->next) {
			struct far_prefetch_handle *handle =
				FAR_CONTAINER_OF(it, struct far_prefetch_handle, node);

			if ((atomic_load(&handle->state) & FAR_HANDLE_RELEASED) == 0) {
				live = handle;
				break;
			}
		}
		pthread_mutex_unlock(&client->pool_lock);
		if (live == NULL)
			return;
		atomic_store_explicit(&live->readers, 1, memory_order_relaxed); /* all of them */
		far_prefetch_release(live);
	}
}

void
far_client_handles_free(struct far_client *client)
{
	struct far_list *node;

	FAR_ASSERT(far_list_empty(&client->handles_live));
	while ((node = far_resting_take(&client->handles_free, 0)) != NULL)
		handle_free(FAR_CONTAINER_OF(node, struct far_prefetch_handle, node));
}
