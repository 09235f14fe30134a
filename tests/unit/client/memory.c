/* memory.c - what L1 lies in, copies by hand, and memory of the caller's own, without any donor. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pages.h"
#include "farpool/memory.h"
#include "tests/support/log_capture.h"

#define L1_BYTES (1U << 20)
#define LIVE_MAX 16U /* loads, as farpool/memory.h says */

static uint8_t mine[4096];
static struct far_key key = {{1, 2, 3}};

static uint64_t
soon(void)
{
	return far_now_ns() + 10 * FAR_NS_PER_S;
}

static int
setup(void **state)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = L1_BYTES};
	struct far_client *client = NULL;

	far_log_capture_start();
	assert_int_equal(far_client_open(&options, &client), 0);
	*state = client;
	return 0;
}

static int
teardown(void **state)
{
	assert_int_equal(far_client_try_close(*state), 0);
	assert_int_equal(far_alloc_live_bytes(), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
	far_log_capture_finish();
	return 0;
}

static void
host_memory_says_so_and_has_no_paths(void **state)
{
	struct far_memory_info info = {.size_bytes = sizeof(info)};

	assert_int_equal(far_client_memory_get(*state, &info), 0);
	assert_string_equal(info.kind, "host");
	assert_string_equal(info.name, "");
	assert_int_equal(info.path_count, 0);
	assert_true(info.l1_bytes >= L1_BYTES);
	assert_non_null(info.base);
	info.size_bytes--;
	assert_int_equal(far_client_memory_get(*state, &info), -EINVAL);
	assert_int_equal(far_client_memory_get(*state, NULL), -EINVAL);
}

static void
bytes_are_copied_into_l1_and_out_of_it_and_nowhere_else(void **state)
{
	struct far_memory_info info = {.size_bytes = sizeof(info)};
	struct far_client *client = *state;
	struct far_block *block;
	uint8_t back[64] = {0};
	char *end;

	assert_int_equal(far_reserve(client, &key, 64, &block), 0);
	memset(mine, 7, sizeof(mine));
	assert_int_equal(far_memory_write(client, far_block_buffer(block), mine, 64), 0);
	assert_int_equal(far_memory_read(client, back, far_block_buffer(block), 64), 0);
	assert_memory_equal(back, mine, 64);
	assert_int_equal(far_client_memory_get(client, &info), 0);
	end = (char *)(uintptr_t)info.base + info.l1_bytes;
	assert_int_equal(far_memory_read(client, back, end - 64, 64), 0);
	assert_int_equal(far_memory_read(client, back, end - 63, 64), -EINVAL);
	assert_int_equal(far_memory_read(client, back, (char *)(uintptr_t)info.base - 1, 1),
			 -EINVAL);
	assert_int_equal(far_memory_read(client, back, info.base, SIZE_MAX), -EINVAL);
	assert_int_equal(far_memory_write(client, mine, mine, 1), -EINVAL);
	assert_int_equal(far_memory_write(client, end - 64, NULL, 1), -EINVAL);
	assert_int_equal(far_abort(block), 0);
}

static void
a_range_is_registered_once_and_given_back(void **state)
{
	struct far_client *client = *state;
	struct far_memory_info info = {.size_bytes = sizeof(info)};
	struct far_memory *memory = NULL;
	struct far_memory *other = NULL;

	for (int i = 0; i < 40; i++) {
		assert_int_equal(far_memory_register(client, mine, 4096, "host", soon(), &memory),
				 0);
		assert_int_equal(
			far_memory_register(client, mine + 4095, 1, "host", soon(), &other),
			-EEXIST);
		assert_int_equal(far_memory_unregister(memory, soon()), 0);
	}
	assert_int_equal(far_client_memory_get(client, &info), 0);
	assert_int_equal(far_memory_register(client, (void *)(uintptr_t)info.base, 64, "host",
					     soon(), &other),
			 -EEXIST);
	assert_int_equal(far_memory_register(client, mine, UINT64_MAX, "host", soon(), &other),
			 -EINVAL);
	assert_int_equal(far_memory_register(client, mine, 64, NULL, soon(), &other), -EINVAL);
	assert_int_equal(far_memory_register(client, mine, 64, "cuda", soon(), &other),
			 -EOPNOTSUPP);
	assert_int_equal(far_memory_unregister(NULL, soon()), -EINVAL);
	assert_null(other);
	/* What is still registered goes with the client. */
	assert_int_equal(far_memory_register(client, mine, 4096, "host", soon(), &memory), 0);
}

/* ---- one range, given back by two callers at once ---- */
struct far_call;
int __real_far_call_wait(struct far_client *client, struct far_call *call, uint64_t deadline_ns);
int __wrap_far_call_wait(struct far_client *client, struct far_call *call, uint64_t deadline_ns);

static struct far_memory *twice; /* NULL: nobody comes in between */
static struct far_memory *taken_anew;

/* As another thread would: it gives the range back too, and a third one takes the place. */
int
__wrap_far_call_wait(struct far_client *client, struct far_call *call, uint64_t deadline_ns)
{
	struct far_memory *memory = twice;

	twice = NULL;
	if (memory != NULL) {
		assert_int_equal(far_memory_unregister(memory, soon()), 0);
		assert_int_equal(
			far_memory_register(client, mine, 4096, "host", soon(), &taken_anew), 0);
		assert_ptr_equal(taken_anew, memory);
	}
	return __real_far_call_wait(client, call, deadline_ns);
}

static void
range_that_is_given_back_twice_harms_no_other(void **state)
{
	struct far_client *client = *state;
	struct far_load_piece piece = {.addr = mine, .size_bytes = 64};
	struct far_load_key keys[1] = {{.key = key, .pieces = &piece, .piece_count = 1}};
	struct far_memory *memory = NULL;
	struct far_load *load = NULL;

	assert_int_equal(far_memory_register(client, mine, 4096, "host", soon(), &memory), 0);
	twice = memory;
	assert_int_equal(far_memory_unregister(memory, soon()), 0);
	/* The one that came in between has its range still. */
	assert_int_equal(far_load(client, keys, 1, soon(), &load), 0);
	assert_int_equal(far_load_release(load, soon()), 0);
	assert_int_equal(far_memory_unregister(taken_anew, soon()), 0);
	assert_int_equal(far_memory_unregister(taken_anew, soon()), -EBADF);
}

static void
without_donors_every_key_is_a_miss(void **state)
{
	struct far_client *client = *state;
	struct far_load_piece piece = {.addr = mine, .size_bytes = 64};
	struct far_load_key keys[2] = {{.key = key, .pieces = &piece, .piece_count = 1},
				       {.key = key, .pieces = &piece, .piece_count = 1}};
	struct far_memory *memory = NULL;
	struct far_load *load = NULL;

	assert_int_equal(far_load(client, keys, 1, soon(), &load), -EINVAL);
	assert_int_equal(far_memory_register(client, mine, 4096, "host", soon(), &memory), 0);
	for (size_t i = 0; i < 40; i++) {
		assert_int_equal(far_load(client, keys, 1 + i % 2, soon(), &load), 0);
		assert_int_equal(far_load_wait(load, soon()), 0);
		assert_int_equal(far_load_result(load, 0), -ENOENT);
		assert_int_equal(far_load_result(load, 1), i % 2 == 0 ? -EINVAL : -ENOENT);
		assert_int_equal(far_load_release(load, soon()), 0);
	}
	memset(&keys[1].key, 0, sizeof(keys[1].key));
	load = NULL;
	assert_int_equal(far_load(client, keys, 2, soon(), &load), -EINVAL);
	assert_int_equal(far_load(client, keys, 0, soon(), &load), -EINVAL);
	assert_int_equal(far_load(client, keys, 1 << 20, soon(), &load), -EINVAL);
	assert_int_equal(far_load(client, keys, 1, 0, &load), -EINVAL);
	piece.size_bytes = 0; /* no byte at all */
	assert_int_equal(far_load(client, keys, 1, soon(), &load), -EINVAL);
	assert_null(load);
	/* A refusal holds nothing. */
	assert_int_equal(far_memory_unregister(memory, soon()), 0);
}

static void
loads_after_the_first_allocate_nothing(void **state)
{
	struct far_client *client = *state;
	struct far_load_piece piece = {.addr = mine, .size_bytes = 64};
	struct far_load_key keys[1] = {{.key = key, .pieces = &piece, .piece_count = 1}};
	struct far_memory *memory = NULL;
	struct far_load *load = NULL;

	assert_int_equal(far_memory_register(client, mine, 4096, "host", soon(), &memory), 0);
	/* As many rest before one is used again. */
	for (uint32_t i = 0; i < LIVE_MAX + 4; i++) {
		if (i > LIVE_MAX)
			far_alloc_lock();
		assert_int_equal(far_load(client, keys, 1, soon(), &load), 0);
		assert_int_equal(far_load_wait(load, soon()), 0);
		assert_int_equal(far_load_release(load, soon()), 0);
		if (i > LIVE_MAX)
			far_alloc_unlock();
	}
}

static void
load_that_is_over_is_not_the_next_one(void **state)
{
	struct far_client *client = *state;
	struct far_load_piece piece = {.addr = mine, .size_bytes = 64};
	struct far_load_key keys[1] = {{.key = key, .pieces = &piece, .piece_count = 1}};
	struct far_memory *memory = NULL;
	struct far_load *over = NULL, *next = NULL;

	assert_int_equal(far_memory_register(client, mine, 4096, "host", soon(), &memory), 0);
	assert_int_equal(far_load(client, keys, 1, soon(), &over), 0);
	assert_int_equal(far_load_release(over, soon()), 0);
	assert_int_equal(far_load(client, keys, 1, soon(), &next), 0);
	far_load_cancel(over);
	assert_int_equal(far_load_release(over, soon()), -EBADF);
	assert_int_equal(far_load_wait(next, soon()), 0);
	assert_int_equal(far_load_result(next, 0), -ENOENT); /* and not cancelled */
	assert_int_equal(far_load_release(next, soon()), 0);
}

static void
load_that_is_released_twice_is_given_back_once(void **state)
{
	struct far_client *client = *state;
	struct far_load_piece piece = {.addr = mine, .size_bytes = 64};
	struct far_load_key keys[1] = {{.key = key, .pieces = &piece, .piece_count = 1}};
	struct far_memory *memory = NULL;
	struct far_load *loads[LIVE_MAX + 1];

	assert_int_equal(far_memory_register(client, mine, 4096, "host", soon(), &memory), 0);
	assert_int_equal(far_load(client, keys, 1, soon(), &loads[0]), 0);
	assert_int_equal(far_load_release(loads[0], soon()), 0);
	assert_int_equal(far_load_release(loads[0], soon()), -EBADF);
	/* It counts once: as many are live at a time as before, and no more. */
	for (size_t i = 0; i < LIVE_MAX; i++)
		assert_int_equal(far_load(client, keys, 1, soon(), &loads[i]), 0);
	assert_int_equal(far_load(client, keys, 1, soon(), &loads[LIVE_MAX]), -E2BIG);
	for (size_t i = 0; i < LIVE_MAX; i++)
		assert_int_equal(far_load_release(loads[i], soon()), 0);
	assert_int_equal(far_memory_unregister(memory, soon()), 0);
}

static void
a_gpu_that_is_not_there_is_an_error_with_a_reason(void **state)
{
	struct far_client_options options = {.size_bytes = sizeof(options),
					     .l1_bytes = L1_BYTES,
					     .l1_memory = "cuda",
					     .l1_device = 63};
	struct far_client *client = NULL;
	int rc;

	(void)state;
	far_log_capture_expect("l1.memory is cuda: ");
	rc = far_client_open(&options, &client);
	assert_true(rc == -ENODEV || rc == -EOPNOTSUPP);
	assert_null(client);
	assert_int_equal(far_log_capture_count("l1.memory is cuda: "), 1);
	options.verify_always = 1;
	far_log_capture_expect("verify is always and l1.memory cuda");
	assert_int_equal(far_client_open(&options, &client), -EINVAL);
	assert_int_equal(far_client_try_close(NULL), -EINVAL);
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		CLAIM(host_memory_says_so_and_has_no_paths),
		CLAIM(bytes_are_copied_into_l1_and_out_of_it_and_nowhere_else),
		CLAIM(a_range_is_registered_once_and_given_back),
		CLAIM(range_that_is_given_back_twice_harms_no_other),
		CLAIM(without_donors_every_key_is_a_miss),
		CLAIM(loads_after_the_first_allocate_nothing),
		CLAIM(load_that_is_over_is_not_the_next_one),
		CLAIM(load_that_is_released_twice_is_given_back_once),
		CLAIM(a_gpu_that_is_not_there_is_an_error_with_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
