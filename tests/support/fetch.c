/* fetch.c - storing and prefetching blocks whose every byte can be checked. */
#include "tests/support/fetch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "tools/cli/fill.h"

#define FLUSH_S 20

void
fetch_store(struct far_client *client, uint64_t first, uint64_t count)
{
	for (uint64_t id = first; id < first + count; id++) {
		struct far_block *block;
		struct far_key key;

		far_fill_key(id, FETCH_BLOCK_BYTES, &key);
		assert_int_equal(far_reserve(client, &key, FETCH_BLOCK_BYTES, &block), 0);
		far_fill_block(&key, far_block_buffer(block), FETCH_BLOCK_BYTES);
		assert_int_equal(far_commit(block), 0);
		if (id % FETCH_BATCH == FETCH_BATCH - 1 || id + 1 == first + count)
			assert_int_equal(
				far_flush(client, far_now_ns() + FLUSH_S * FAR_NS_PER_S, NULL), 0);
	}
}

void
fetch_start(struct far_client *client, struct fetch *fetch, uint64_t first, uint32_t deadline_ms)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = far_now_ns() + deadline_ms * FAR_NS_PER_MS,
	};
	struct far_key keys[FETCH_BATCH];

	fetch->first = first;
	fetch->deadline_ns = options.deadline_ns;
	for (uint64_t i = 0; i < FETCH_BATCH; i++)
		far_fill_key(first + i, FETCH_BLOCK_BYTES, &keys[i]);
	assert_int_equal(far_prefetch(client, keys, FETCH_BATCH, &options, &fetch->handle), 0);
}

static void
late_count(const struct fetch *fetch, struct fetch_outcome *outcome)
{
	uint64_t late_ns = far_now_ns() - fetch->deadline_ns;

	outcome->late++;
	if (late_ns > outcome->late_ns_max)
		outcome->late_ns_max = late_ns;
}

void
fetch_end(struct fetch *fetch, struct fetch_outcome *outcome)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	int rc = far_prefetch_wait(fetch->handle, fetch->deadline_ns, &status);

	if (rc == -ETIMEDOUT) {
		rc = far_prefetch_wait(fetch->handle, fetch->deadline_ns + FAR_NS_PER_S, &status);
		late_count(fetch, outcome);
	}
	assert_int_equal(rc, 0);
	for (size_t i = 0; i < status.prefix_count; i++) {
		const void *data;
		struct far_key key;
		uint32_t size_bytes;

		far_fill_key(fetch->first + i, FETCH_BLOCK_BYTES, &key);
		assert_int_equal(far_prefetch_block(fetch->handle, i, &data, &size_bytes), 0);
		assert_int_equal(size_bytes, FETCH_BLOCK_BYTES);
		outcome->wrong += far_fill_check(&key, data, size_bytes);
	}
	if (status.prefix_count == FETCH_BATCH)
		outcome->whole++;
	else
		outcome->cut++;
	far_prefetch_release(fetch->handle);
}

void
fetch_all(struct far_client *client, uint64_t count, uint32_t deadline_ms,
	  struct fetch_outcome *outcome)
{
	for (uint64_t first = 0; first < count; first += FETCH_BATCH) {
		struct fetch fetch;

		fetch_start(client, &fetch, first, deadline_ms);
		fetch_end(&fetch, outcome);
	}
}
