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

static struct scene {
	struct shm_copies copies;
	struct far_helpers *helpers;
	uint8_t *from;
	uint8_t *to;
} scene;

static void
scene_open(uint32_t helpers)
{
	scene.from = far_zalloc_aligned(64, AREA_BYTES);
	scene.to = far_zalloc_aligned(64, AREA_BYTES);
	assert_non_null(scene.from);
	assert_non_null(scene.to);
	for (size_t i = 0; i < AREA_BYTES; i++)
		scene.from[i] = (uint8_t)(i * 7 + (i >> 8));
	assert_int_equal(far_helpers_open("test", helpers, 0, &scene.helpers), 0);
	assert_int_equal(far_shm_copies_init(&scene.copies, scene.helpers), 0);
	assert_int_equal(far_shm_copiers(&scene.copies), 1 + helpers);
}

static void
scene_close(void)
{
	far_shm_copies_fini(&scene.copies);
	far_helpers_close(scene.helpers);
	far_free(scene.from);
	far_free(scene.to);
}

static void
large_ones_are_copied_by_several_at_once(void **state)
{
	(void)state;
	scene_open(1);
	atomic_store(&there, 0);
	atomic_store(&alone, false);
	scene.copies.copy = copy_and_meet;
	far_shm_copy(&scene.copies, scene.to, scene.from, AREA_BYTES);
	far_shm_copies_run(&scene.copies);
	assert_false(atomic_load(&alone));
	assert_memory_equal(scene.to, scene.from, AREA_BYTES);
	scene_close();
}

static void
more_than_can_wait_are_all_made(void **state)
{
	(void)state;
	scene_open(2);
	for (size_t i = 0; i < SMALL_COUNT; i++) {
		size_t at = (i * 1237 % SMALL_COUNT) * SMALL_BYTES;

		far_shm_copy(&scene.copies, scene.to + at, scene.from + at, SMALL_BYTES);
	}
	far_shm_copies_run(&scene.copies);
	assert_memory_equal(scene.to, scene.from, AREA_BYTES);
	/* Nothing waits any more. */
	memset(scene.to, 0, AREA_BYTES);
	far_shm_copies_run(&scene.copies);
	assert_int_equal(scene.to[1], 0);
	scene_close();
}

static void
without_helpers_each_is_made_at_once(void **state)
{
	(void)state;
	scene_open(0);
	calls = 0;
	scene.copies.copy = copy_and_count;
	far_shm_copy(&scene.copies, scene.to, scene.from, AREA_BYTES);
	assert_int_equal(calls, 1);
	assert_memory_equal(scene.to, scene.from, AREA_BYTES);
	far_shm_copies_run(&scene.copies);
	assert_int_equal(calls, 1);
	scene_close();
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
