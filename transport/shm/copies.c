/* copies.c - the bytes of large READs: copied by the transport's thread, and by those that help it. */
#include "base/alloc.h"
#include "base/copy.h"
#include "base/helpers.h"
#include "transport/shm/shm_priv.h"

/* What one thread copies before it looks for more: some microseconds, for which the others may wait. */
#define SHARE_BYTES ((size_t)64 << 10)
/* Below this it is over before a sleeper is awake. */
#define WAKE_BYTES   (256U << 10)
#define HEAD_BYTES   ((size_t)256)
#define LINE_BYTES   ((size_t)64)
#define COPIES_COUNT 1024U
#define COPIERS_MAX  4U

int
far_shm_copies_init(struct shm_copies *copies, struct far_helpers *helpers)
{
	copies->copy = far_copy_once;
	copies->helpers = far_helpers_count(helpers) > 0 ? helpers : NULL;
	if (copies->helpers == NULL)
		return 0;
	copies->items = far_zalloc_array(COPIES_COUNT, sizeof(*copies->items));
	copies->shares = far_zalloc_array(COPIES_COUNT + 1, sizeof(*copies->shares));
	return copies->items == NULL || copies->shares == NULL ? -ENOMEM : 0;
}

void
far_shm_copies_fini(struct shm_copies *copies)
{
	far_free(copies->items);
	far_free(copies->shares);
	*copies = (struct shm_copies){0};
}

int64_t
far_shm_copiers(const struct shm_copies *copies)
{
	uint32_t count = 1 + far_helpers_count(copies->helpers);

	return count < COPIERS_MAX ? count : COPIERS_MAX;
}

static void
head_ask(const struct shm_copy *copy)
{
	for (size_t at = 0; at < HEAD_BYTES; at += LINE_BYTES)
		__builtin_prefetch(copy->from + at);
}

static void
share_copy(void *arg, uint32_t share)
{
	const struct shm_copies *copies = arg;
	uint32_t end = copies->shares[share + 1];

	for (uint32_t i = copies->shares[share]; i < end; i++) {
		const struct shm_copy *copy = &copies->items[i];

		if (i + 1 < end)
			head_ask(copy + 1);
		copies->copy(copy->to, copy->from, copy->size_bytes);
	}
}

void
far_shm_copies_run(struct shm_copies *copies)
{
	if (copies->count == 0)
		return;
	copies->shares[copies->share_count] = copies->count;
	far_helpers_run(copies->helpers, share_copy, copies, copies->share_count,
			copies->bytes >= WAKE_BYTES);
	copies->count = 0;
	copies->share_count = 0;
	copies->bytes = 0;
}

void
far_shm_copy(struct shm_copies *copies, uint8_t *to, const uint8_t *from, size_t size_bytes)
{
	if (copies->helpers == NULL) {
		copies->copy(to, from, size_bytes);
		return;
	}
	while (size_bytes > 0) {
		size_t size = size_bytes < SHARE_BYTES ? size_bytes : SHARE_BYTES;

		if (copies->count == COPIES_COUNT)
			far_shm_copies_run(copies);
		if (copies->count == 0 || copies->share_bytes + size > SHARE_BYTES) {
			copies->shares[copies->share_count++] = copies->count;
			copies->share_bytes = 0;
		}
		copies->items[copies->count++] = (struct shm_copy){to, from, size};
		copies->share_bytes += size;
		copies->bytes += size;
		to += size;
		from += size;
		size_bytes -= size;
	}
}
