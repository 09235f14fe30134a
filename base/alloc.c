/* alloc.c - every heap byte of farpool passes here, so that tests can count, fail and forbid it. */
#include "base/alloc.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* Counters only: nothing is published through them, so every access is relaxed. */
static atomic_uint_fast64_t live_bytes;
/* Allocations left until one fails; 0: off. */
static atomic_uint_fast64_t fail_countdown;
static _Thread_local unsigned int lock_depth;

/* True if a test wants this allocation to fail. */
static bool
alloc_refused(void)
{
	uint_fast64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);

	FAR_ASSERT(lock_depth == 0);
	while (left != 0) {
		if (atomic_compare_exchange_weak_explicit(&fail_countdown, &left, left - 1,
							  memory_order_relaxed,
							  memory_order_relaxed))
			return left == 1;
	}
	return false;
}

/* The usable size is counted on both ways: it is the one number that free can find again without a
 * header of ours, which would hide an underrun from AddressSanitizer. */
static void *
alloc_counted(void *p)
{
	if (p != NULL)
		atomic_fetch_add_explicit(&live_bytes, malloc_usable_size(p), memory_order_relaxed);
	return p;
}

void *
far_zalloc(size_t size_bytes)
{
	return far_zalloc_array(1, size_bytes);
}

void *
far_zalloc_array(size_t count, size_t item_bytes)
{
	size_t size_bytes;

	if (alloc_refused())
		return NULL;
	/* Ours to check: AddressSanitizer's calloc stops the process instead of answering. */
	if (__builtin_mul_overflow(count, item_bytes, &size_bytes))
		return NULL;
	/* An empty array is a valid one: it has an address of its own. */
	return alloc_counted(calloc(1, size_bytes != 0 ? size_bytes : 1));
}

void *
far_alloc_array(size_t count, size_t item_bytes)
{
	size_t size_bytes;

	if (alloc_refused() || __builtin_mul_overflow(count, item_bytes, &size_bytes) ||
	    size_bytes > PTRDIFF_MAX)
		return NULL;
	return alloc_counted(malloc(size_bytes != 0 ? size_bytes : 1));
}

void *
far_zalloc_aligned(size_t align_bytes, size_t size_bytes)
{
	void *p = NULL;

	FAR_ASSERT(align_bytes >= 16);
	FAR_ASSERT((align_bytes & (align_bytes - 1)) == 0);
	if (alloc_refused())
		return NULL;
	if (size_bytes == 0)
		size_bytes = 1;
	if (posix_memalign(&p, align_bytes, size_bytes) != 0)
		return NULL;
	memset(p, 0, size_bytes);
	return alloc_counted(p);
}

char *
far_strdup(const char *s)
{
	size_t size_bytes = strlen(s) + 1;
	char *copy = far_zalloc(size_bytes);

	if (copy != NULL)
		memcpy(copy, s, size_bytes);
	return copy;
}

void
far_free(void *p)
{
	uint_fast64_t before;
	size_t size_bytes;

	if (p == NULL)
		return;
	size_bytes = malloc_usable_size(p);
	before = atomic_fetch_sub_explicit(&live_bytes, size_bytes, memory_order_relaxed);
	FAR_ASSERT(before >= size_bytes); /* not ours, or freed twice */
	free(p);
}

uint64_t
far_alloc_live_bytes(void)
{
	return atomic_load_explicit(&live_bytes, memory_order_relaxed);
}

void
far_alloc_fail_nth(uint64_t n)
{
	atomic_store_explicit(&fail_countdown, n, memory_order_relaxed);
}

void
far_alloc_lock(void)
{
	lock_depth++;
}

void
far_alloc_unlock(void)
{
	FAR_ASSERT(lock_depth > 0);
	lock_depth--;
}
