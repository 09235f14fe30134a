/* shm_copies.c - copies that wait, and are made by several threads at once or by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/helpers.h"
#include "transport/shm/shm_priv.h"

#define PATIENCE    (5 * FAR_NS_PER_S)
#define AREA_BYTES  ((size_t)1 << 20)
#define SMALL_BYTES 256
#define SMALL_COUNT (AREA_BYTES / SMALL_BYTES)

static _Atomic uint32_t there;
static atomic_bool alone; /* somebody waited for a second one in vain */
static uint32_t calls;

/* Ends when two threads are in it. */
static void
copy_and_meet(void *to, const void *from, size_t size_bytes)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + PATIENCE;

	memcpy(to, from, size_bytes);
	atomic_fetch_add(&there, 1);
	while (atomic_load(&there) < 2 && far_clock_now(far_clock_real()) < until_ns)
		(void)sched_yield();
	if (atomic_load(&there) < 2)
		atomic_store(&alone, true);
}

static void
copy_and_count(void *to, const void *from, size_t size_bytes)
{
	memcpy(to, from, size_bytes);
	calls++;
}

static void
areas_open(uint8_t **from, uint8_t **to)
{
	*from = far_zalloc_aligned(64, AREA_BYTES);
	*to = far_zalloc_aligned(64, AREA_BYTES);
	assert_non_null(*from);
	assert_non_null(*to);
	for (size_t i = 0; i < AREA_BYTES; i++)
		(*from)[i] = (uint8_t)(i * 7 + (i >> 8));
}

static void
large_ones_are_copied_by_several_at_once(void **state)
{
	struct shm_copies copies = {.helpers = NULL};
	struct far_helpers *helpers;
	uint8_t *from, *to;
	(void)state;

	areas_open(&from, &to);
	assert_int_equal(far_helpers_open("test", 1, 0, &helpers), 0);
	assert_int_equal(far_shm_copies_init(&copies, helpers), 0);
	assert_int_equal(far_shm_copiers(&copies), 2);
	atomic_store(&there, 0);
	atomic_store(&alone, false);
	copies.copy = copy_and_meet;
	far_shm_copy(&copies, to, from, AREA_BYTES);
	far_shm_copies_run(&copies);
	assert_false(atomic_load(&alone));
	assert_memory_equal(to, from, AREA_BYTES);
	far_shm_copies_fini(&copies);
	far_helpers_close(helpers);
	far_free(from);
	far_free(to);
}

static void
more_than_can_wait_are_all_made(void **state)
{
	struct shm_copies copies = {.helpers = NULL};
	struct far_helpers *helpers;
	uint8_t *from, *to;
	(void)state;

	areas_open(&from, &to);
	assert_int_equal(far_helpers_open("test", 2, 0, &helpers), 0);
	assert_int_equal(far_shm_copies_init(&copies, helpers), 0);
	for (size_t i = 0; i < SMALL_COUNT; i++) {
		size_t at = (i * 1237 % SMALL_COUNT) * SMALL_BYTES;

		far_shm_copy(&copies, to + at, from + at, SMALL_BYTES);
	}
	far_shm_copies_run(&copies);
	assert_memory_equal(to, from, AREA_BYTES);
	/* Nothing waits any more. */
	memset(to, 0, AREA_BYTES);
	far_shm_copies_run(&copies);
	assert_int_equal(to[1], 0);
	far_shm_copies_fini(&copies);
	far_helpers_close(helpers);
	far_free(from);
	far_free(to);
}

static void
without_helpers_each_is_made_at_once(void **state)
{
	struct shm_copies copies = {.helpers = NULL};
	struct far_helpers *none;
	uint8_t *from, *to;
	(void)state;

	areas_open(&from, &to);
	assert_int_equal(far_helpers_open("test", 0, 0, &none), 0);
	assert_int_equal(far_shm_copies_init(&copies, none), 0);
	assert_int_equal(far_shm_copiers(&copies), 1);
	calls = 0;
	copies.copy = copy_and_count;
	far_shm_copy(&copies, to, from, AREA_BYTES);
	assert_int_equal(calls, 1);
	assert_memory_equal(to, from, AREA_BYTES);
	far_shm_copies_run(&copies);
	assert_int_equal(calls, 1);
	far_shm_copies_fini(&copies);
	far_helpers_close(none);
	far_free(from);
	far_free(to);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_ones_are_copied_by_several_at_once),
		cmocka_unit_test(more_than_can_wait_are_all_made),
		cmocka_unit_test(without_helpers_each_is_made_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
