/* copy.c - every byte, at every alignment and around every threshold, and no byte beside it. */
#include "base/copy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/alloc.h"
#include "base/checksum.h"
#include "base/copy_priv.h"
#include "base/publish.h"
#include "base/rng.h"

#define AREA_BYTES ((size_t)70000)

struct fixture {
	unsigned char *from;
	unsigned char *to;
};

static int
setup(void **state)
{
	static struct fixture fixture;
	struct far_rng rng;

	far_rng_init(&rng, 1);
	fixture.from = far_zalloc_aligned(64, AREA_BYTES);
	fixture.to = far_zalloc_aligned(64, AREA_BYTES);
	assert_non_null(fixture.from);
	assert_non_null(fixture.to);
	for (size_t i = 0; i < AREA_BYTES; i++)
		fixture.from[i] = (unsigned char)far_rng_u64(&rng);
	*state = &fixture;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	far_free(f->from);
	far_free(f->to);
	return 0;
}

typedef void copy_fn(void *to, const void *from, size_t size_bytes);

static void
one_check(struct fixture *f, copy_fn *copy, size_t to_at, size_t from_at, size_t size)
{
	const size_t margin = 128;
	size_t start = to_at < margin ? 0 : to_at - margin;
	size_t end = to_at + size + margin;

	memset(f->to + start, 0x5a, end - start);
	copy(f->to + to_at, f->from + from_at, size);
	far_mem_publish();
	assert_memory_equal(f->to + to_at, f->from + from_at, size);
	for (size_t i = start; i < to_at; i++)
		assert_int_equal(f->to[i], 0x5a);
	for (size_t i = to_at + size; i < end; i++)
		assert_int_equal(f->to[i], 0x5a);
}

static void
copy_check(struct fixture *f, size_t to_at, size_t from_at, size_t size)
{
	one_check(f, far_copy_stream, to_at, from_at, size);
	one_check(f, far_copy_once, to_at, from_at, size);
}

static void
every_alignment_of_both_sides_is_exact(void **state)
{
	(void)state;
	for (size_t to_at = 0; to_at < 64; to_at++) {
		for (size_t from_at = 0; from_at < 64; from_at += 1 + from_at % 3)
			copy_check(*state, 128 + to_at, from_at, 4096 + to_at * 3 + from_at);
	}
}

static void
sizes_around_the_thresholds_are_exact(void **state)
{
	static const size_t around[] = {64, 256, 4096, 4096 + 64, 8192, 65536};

	for (size_t size = 0; size < 200; size++)
		copy_check(*state, 200, 3, size);
	for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
		for (size_t size = around[i] - 3; size <= around[i] + 3; size++)
			copy_check(*state, 191, 1, size);
	}
}

static void
random_copies_are_exact(void **state)
{
	struct far_rng rng;

	far_rng_init(&rng, 2);
	for (int round = 0; round < 500; round++) {
		size_t to_at = far_rng_below(&rng, 3000), from_at = far_rng_below(&rng, 3000);
		size_t size = far_rng_below(&rng, round % 4 == 0 ? 60000 : 9000);

		copy_check(*state, to_at, from_at, size);
	}
}

static void
every_kernel_of_this_processor_is_exact(void **state)
{
	struct fixture *f = *state;
	struct far_rng rng;

	far_rng_init(&rng, 3);
	for (const struct far_copy_kernel *kernel = far_copy_kernels; kernel->name != NULL;
	     kernel++) {
		if (!kernel->supported())
			continue;
		far_copy_kernel_fn *const copies[] = {kernel->copy, kernel->copy_past,
						      kernel->copy_pages};

		for (int round = 0; round < 600; round++) {
			far_copy_kernel_fn *copy = copies[round % 3];
			size_t size_end = round % 8 == 0 ? 60000 : 2000;
			size_t to_at = 64 + far_rng_below(&rng, 64);
			size_t from_at = far_rng_below(&rng, 64);
			size_t size = far_rng_below(&rng, size_end);

			memset(f->to, 0x5a, AREA_BYTES);
			far_copy_with(copy, (char *)f->to + to_at, (const char *)f->from + from_at,
				      size);
			far_mem_publish();
			assert_memory_equal(f->to + to_at, f->from + from_at, size);
			assert_int_equal(f->to[to_at - 1], 0x5a);
			assert_int_equal(f->to[to_at + size], 0x5a);
		}
	}
}

/* @kernel: NULL: that of the processor. */
static void
crc_check(struct fixture *f, far_copy_crc_kernel_fn *kernel, size_t to_at, size_t from_at,
	  size_t size, uint32_t crc)
{
	char *to = (char *)f->to + to_at;
	const char *from = (const char *)f->from + from_at;
	uint32_t got;

	memset(to - 1, 0x5a, size + 2);
	if (kernel == NULL)
		got = far_copy_crc32c(crc, to, from, size);
	else
		got = far_copy_crc_with(kernel, crc, to, from, size, size % 2 == 0);
	far_mem_publish();
	assert_memory_equal(to, from, size);
	assert_int_equal(to[-1], 0x5a);
	assert_int_equal(to[size], 0x5a);
	assert_int_equal(got, far_crc32c_portable(crc, from, size));
}

static void
a_copy_that_sums_is_exact_and_its_sum_is_that_of_the_table(void **state)
{
	struct fixture *f = *state;
	struct far_rng rng;

	far_rng_init(&rng, 4);
	for (size_t size = 0; size < 400; size++)
		crc_check(f, NULL, 64 + size % 64, size % 7, size, (uint32_t)size);
	for (size_t size = 4090; size < 4500; size++)
		crc_check(f, NULL, 64 + size % 64, size % 7, size, 0);
	for (const struct far_copy_crc_kernel *kernel = far_copy_crc_kernels; kernel->name != NULL;
	     kernel++) {
		if (!kernel->supported())
			continue;
		for (size_t size = 0; size < 1200; size++)
			crc_check(f, kernel->copy, 64 + size % 64, size % 5, size, 0);
		for (int round = 0; round < 200; round++)
			crc_check(f, kernel->copy, 64 + far_rng_below(&rng, 64),
				  far_rng_below(&rng, 64), far_rng_below(&rng, 60000),
				  (uint32_t)far_rng_u64(&rng));
	}
}

static void
a_sum_goes_on_from_piece_to_piece(void **state)
{
	struct fixture *f = *state;
	struct far_rng rng;

	far_rng_init(&rng, 5);
	for (int round = 0; round < 200; round++) {
		size_t size = far_rng_below(&rng, 65000);
		size_t cut = far_rng_below(&rng, size + 1);
		uint32_t crc = far_copy_crc32c(0, f->to, f->from, cut);

		crc = far_copy_crc32c(crc, f->to + cut, f->from + cut, size - cut);
		assert_int_equal(crc, far_crc32c_portable(0, f->from, size));
	}
}

static void
nothing_may_be_copied_from_nowhere(void **state)
{
	(void)state;
	assert_int_equal(far_copy_crc32c(7, NULL, NULL, 0), 7);
	far_copy_stream(NULL, NULL, 0);
	far_copy_once(NULL, NULL, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_alignment_of_both_sides_is_exact),
		cmocka_unit_test(sizes_around_the_thresholds_are_exact),
		cmocka_unit_test(random_copies_are_exact),
		cmocka_unit_test(every_kernel_of_this_processor_is_exact),
		cmocka_unit_test(a_copy_that_sums_is_exact_and_its_sum_is_that_of_the_table),
		cmocka_unit_test(a_sum_goes_on_from_piece_to_piece),
		cmocka_unit_test(nothing_may_be_copied_from_nowhere),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
