/* handle_look.c - what a caller sees of its prefetch, at any moment and from any thread. */
#include "client/handle.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/word.h"

void
far_prefetch_poll(struct far_prefetch_handle *handle, struct far_prefetch_status *status)
{
	struct far_prefetch_status now = {.size_bytes = sizeof(now)};
	size_t size_bytes = status->size_bytes;
	uint64_t found;
	uint32_t state = atomic_load_explicit(&handle->state, memory_order_acquire);

	if (far_client_enter(handle->client) < 0)
		return;
	now.l1_prefix_hit_count = handle->l1_prefix;
	now.total_requested_keys = handle->req.count;
	/* Acquire: what was found by then is seen, too: it is never fewer. */
	now.prefix_count = atomic_load_explicit(&handle->prefix_count, memory_order_acquire);
	if ((state & FAR_HANDLE_ENDED) != 0) {
		now.ended = 1;
		now.rc = handle->rc;
		now.gap_rc = handle->gap_rc;
		now.request_id = handle->request_id;
		now.l2_bytes = handle->l2_bytes;
		now.latency_ns = handle->ended_ns - handle->submit_ns;
		now.chunk_count = handle->chunk_count;
	}
	now.readable_count = now.ended != 0 ? handle->readable_count : now.prefix_count;
	found = atomic_load_explicit(&handle->found, memory_order_relaxed);
	now.found_count = found >> 1;
	now.found_is_final = found & 1;
	/* An older caller knows fewer fields. */
	memcpy(status, &now, size_bytes < sizeof(now) ? size_bytes : sizeof(now));
	status->size_bytes = size_bytes;
}

int
far_prefetch_wait(struct far_prefetch_handle *handle, uint64_t deadline_ns,
		  struct far_prefetch_status *status)
{
	int rc = far_client_enter(handle->client);

	if (rc < 0)
		return rc;
	if ((atomic_load_explicit(&handle->state, memory_order_acquire) & FAR_HANDLE_ENDED) == 0)
		far_client_drive(handle->client, &handle->state, FAR_HANDLE_ENDED, deadline_ns);
	while (rc == 0 && (atomic_load_explicit(&handle->state, memory_order_acquire) &
			   FAR_HANDLE_ENDED) == 0) {
		/* Pairs with the step that ends it: that one sees who sleeps, or we see that it is over. */
		uint32_t state = atomic_fetch_or_explicit(&handle->state, FAR_HANDLE_WAITED,
							  memory_order_acq_rel);

		if ((state & FAR_HANDLE_ENDED) == 0)
			rc = far_word_wait(&handle->state, state | FAR_HANDLE_WAITED, deadline_ns);
	}
	if (status != NULL)
		far_prefetch_poll(handle, status);
	return rc;
}

int
far_prefetch_event_fd(struct far_prefetch_handle *handle)
{
	int none = -1;
	int fd = atomic_load_explicit(&handle->event_fd, memory_order_acquire);
	int rc = far_client_enter(handle->client);

	if (rc < 0)
		return rc;
	if (fd >= 0)
		return fd;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -EMFILE;
	if (!atomic_compare_exchange_strong(&handle->event_fd, &none, fd)) {
		close(fd);
		return none;
	}
	/* Pairs with handle_end(). */
	if ((atomic_load_explicit(&handle->state, memory_order_seq_cst) & FAR_HANDLE_ENDED) != 0)
		(void)eventfd_write(fd, 1);
	return fd;
}

/* Whether the key's view does not change any more. Acquires: it may be looked at then. */
static bool
view_is_final(struct far_prefetch_handle *handle, size_t idx, bool *ended_out)
{
	uint32_t state = atomic_load_explicit(&handle->state, memory_order_acquire);

	*ended_out = (state & FAR_HANDLE_ENDED) != 0;
	/* Pairs with req_advanced(): what is in the prefix is readable before the end. */
	return *ended_out ||
	       idx < atomic_load_explicit(&handle->prefix_count, memory_order_acquire);
}

int
far_prefetch_block(struct far_prefetch_handle *handle, size_t idx, const void **data,
		   uint32_t *size_bytes)
{
	const struct far_prefetch_view *view;
	bool ended;
	int rc = far_client_enter(handle->client);

	if (rc < 0)
		return rc;
	if (idx >= handle->req.count)
		return -EINVAL;
	if (!far_session_is_open(atomic_load(&handle->session)))
		return -EBADF;
	if (!view_is_final(handle, idx, &ended))
		return -EAGAIN;
	view = &handle->views[idx];
	if (view->rc != 0)
		return view->rc != -EINPROGRESS ? view->rc : -ENOENT;
	if (view->loan == 0 || (!ended && atomic_load(&handle->cancelled) != 0))
		return -ENOENT;
	*data = view->addr;
	if (size_bytes != NULL)
		*size_bytes = view->size_bytes;
	return 0;
}

int64_t
far_prefetch_bitmap(struct far_prefetch_handle *handle, uint64_t *words, size_t bit_count)
{
	struct far_bitmap map = {words, bit_count};
	size_t prefix;
	bool ended;
	int rc = far_client_enter(handle->client);

	if (rc < 0)
		return rc;
	if (words == NULL || bit_count < handle->req.count)
		return -EINVAL;
	(void)view_is_final(handle, 0, &ended);
	prefix = atomic_load_explicit(&handle->prefix_count, memory_order_acquire);
	far_bitmap_init_prefix(&map, words, bit_count, prefix);
	for (size_t i = prefix; ended && i < handle->req.count; i++) {
		if (handle->views[i].rc == 0)
			far_bitmap_set(&map, i);
	}
	return (int64_t)far_bitmap_popcount(&map);
}

int
far_prefetch_key_get(struct far_prefetch_handle *handle, size_t idx, struct far_prefetch_key *key)
{
	struct far_prefetch_key now = {.size_bytes = sizeof(now), .rc = -EAGAIN, .donor = -1};
	const struct far_prefetch_view *view;
	size_t size_bytes;
	bool ended;
	int rc = far_client_enter(handle->client);

	if (rc < 0)
		return rc;
	if (key == NULL || key->size_bytes < sizeof(key->size_bytes) || idx >= handle->req.count)
		return -EINVAL;
	if (view_is_final(handle, idx, &ended)) {
		view = &handle->views[idx];
		now.rc = view->rc;
		now.state = FAR_KEY_MISSING;
		if (view->rc == 0) {
			now.state = view->adapter < 0 ? FAR_KEY_IN_L1 : FAR_KEY_LOADED;
			now.block_bytes = view->size_bytes;
			now.donor = view->adapter;
		}
	}
	size_bytes = key->size_bytes;
	memcpy(key, &now, size_bytes < sizeof(now) ? size_bytes : sizeof(now));
	key->size_bytes = size_bytes;
	return 0;
}
