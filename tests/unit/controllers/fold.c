/* fold.c - the longest prefix that all groups serve, against its definition, on all small cases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "controllers/fold.h"

#include "base/err.h"

#define CELLS_MAX  512U
#define CHUNKS_MAX 64U

static uint64_t cell_words[CELLS_MAX / 64];
static uint64_t mask_words[CELLS_MAX / 64];
static uint64_t chunk_words[CHUNKS_MAX / 64];
static struct far_bitmap present;
static struct far_bitmap needed;
static struct far_bitmap servable;

static void
take_shape(const struct far_fold_shape *shape)
{
	uint32_t cells;

	assert_int_equal(far_fold_cells(shape, &cells), 0);
	assert_int_equal(cells, shape->chunks * shape->groups * shape->ranks);
	far_bitmap_init(&present, cell_words, cells);
	far_bitmap_init(&needed, mask_words, cells);
	far_bitmap_init(&servable, chunk_words, shape->chunks);
}

static size_t
cell(const struct far_fold_shape *shape, uint32_t chunk, uint32_t group, uint32_t rank)
{
	return ((size_t)chunk * shape->groups + group) * shape->ranks + rank;
}

/* The definition, cell by cell. */
static bool
is_needed(const struct far_fold_shape *shape, uint32_t length, uint32_t chunk, uint32_t group)
{
	int64_t window = shape->windows[group];

	if (chunk >= length)
		return false;
	return window <= 0 || (int64_t)chunk >= (int64_t)length - window;
}

static bool
is_servable(const struct far_fold_shape *shape, uint32_t length)
{
	for (uint32_t chunk = 0; chunk < shape->chunks; chunk++) {
		for (uint32_t group = 0; group < shape->groups; group++) {
			for (uint32_t rank = 0; rank < shape->ranks; rank++) {
				if (is_needed(shape, length, chunk, group) &&
				    !far_bitmap_test(&present, cell(shape, chunk, group, rank)))
					return false;
			}
		}
	}
	return true;
}

static void
check_fold(const struct far_fold_shape *shape)
{
	assert_int_equal(far_fold(shape, &present, &servable), 0);
	for (uint32_t length = 1; length <= shape->chunks; length++)
		assert_int_equal(far_bitmap_test(&servable, length - 1),
				 is_servable(shape, length));
}

static void
check_unfold(const struct far_fold_shape *shape)
{
	for (uint32_t length = 0; length <= shape->chunks + 2; length++) {
		uint32_t clamped = length < shape->chunks ? length : shape->chunks;

		assert_int_equal(far_unfold(shape, length, &needed), 0);
		for (uint32_t chunk = 0; chunk < shape->chunks; chunk++) {
			for (uint32_t group = 0; group < shape->groups; group++) {
				for (uint32_t rank = 0; rank < shape->ranks; rank++)
					assert_int_equal(
						far_bitmap_test(&needed,
								cell(shape, chunk, group, rank)),
						is_needed(shape, clamped, chunk, group));
			}
		}
	}
}

/* Every presence of every shape of at most ten cells, with windows from full attention to longer than
 * the prefix. */
static void
all_small_shapes_fold_and_unfold_as_defined(void **state)
{
	static const int32_t values[] = {-1, 0, 1, 2, 3, 9};
	enum { COUNT = sizeof(values) / sizeof(values[0]) };
	uint64_t checked = 0;

	(void)state;
	for (uint32_t groups = 1; groups <= 3; groups++) {
		for (uint32_t ranks = 1; ranks <= 2; ranks++) {
			for (uint32_t code = 0; code < COUNT * COUNT * (groups > 2 ? COUNT : 1);
			     code++) {
				int32_t windows[] = {values[code % COUNT],
						     values[code / COUNT % COUNT],
						     values[code / COUNT / COUNT]};

				for (uint32_t chunks = 0; chunks * groups * ranks <= 10; chunks++) {
					struct far_fold_shape shape = {chunks, groups, ranks,
								       windows};

					take_shape(&shape);
					check_unfold(&shape);
					for (uint64_t bits = 0; bits >> present.bit_count == 0;
					     bits++) {
						cell_words[0] = bits;
						check_fold(&shape);
						checked++;
					}
				}
			}
		}
	}
	assert_true(checked > 100000);
}

static void
full_attention_alone_is_the_run_of_ones_that_all_groups_share(void **state)
{
	static const int32_t windows[] = {-1, 0};
	struct far_fold_shape shape = {40, 2, 3, windows};

	(void)state;
	take_shape(&shape);
	far_bitmap_set_range(&present, 0, present.bit_count);
	far_bitmap_clear(&present, cell(&shape, 17, 1, 2));
	far_bitmap_clear(&present, cell(&shape, 30, 0, 0));
	check_fold(&shape);
	assert_int_equal(far_bitmap_highest(&servable), 16);
	assert_int_equal(far_bitmap_popcount(&servable), 17);
}

static void
chunk_counts_only_if_all_ranks_have_it(void **state)
{
	static const int32_t windows[] = {1};
	struct far_fold_shape shape = {2, 1, 4, windows};

	(void)state;
	take_shape(&shape);
	far_bitmap_set_range(&present, 0, 8);
	far_bitmap_clear(&present, 6);
	check_fold(&shape);
	assert_int_equal(far_bitmap_highest(&servable), 0);
}

static void
servable_prefixes_have_holes_where_windows_do(void **state)
{
	/* Chunks 3 and 4 of a window of two: a prefix of five, and none of four or three. */
	static const int32_t windows[] = {2};
	struct far_fold_shape shape = {6, 1, 1, windows};

	(void)state;
	take_shape(&shape);
	far_bitmap_set_range(&present, 0, 1);
	far_bitmap_set_range(&present, 3, 5);
	check_fold(&shape);
	assert_int_equal(chunk_words[0], (1U << 0) | (1U << 4));
	assert_int_equal(far_unfold(&shape, 5, &needed), 0);
	assert_int_equal(mask_words[0], 3U << 3);
}

static void
gap_of_full_attention_limits_all_groups(void **state)
{
	static const int32_t windows[] = {-1, 2};
	struct far_fold_shape shape = {8, 2, 1, windows};

	(void)state;
	take_shape(&shape);
	far_bitmap_set_range(&present, 0, 16);
	far_bitmap_clear(&present, cell(&shape, 5, 0, 0));
	check_fold(&shape);
	assert_int_equal(far_bitmap_highest(&servable), 4);
	assert_int_equal(far_unfold(&shape, 5, &needed), 0);
	/* The window alone is kept of the second group. */
	assert_int_equal(far_bitmap_popcount(&needed), 5 + 2);
	assert_false(far_bitmap_test(&needed, cell(&shape, 2, 1, 0)));
	assert_true(far_bitmap_test(&needed, cell(&shape, 3, 1, 0)));
}

static void
shapes_that_cannot_be_are_refused(void **state)
{
	static const int32_t windows[] = {1};
	const struct far_fold_shape good = {4, 1, 1, windows};
	struct far_fold_shape bad[] = {
		{4, 0, 1, windows},        {4, 1, 0, windows},        {4, 1, 1, NULL},
		{1U << 31, 2, 1, windows}, {1, 1U << 31, 2, windows},
	};
	uint32_t cells = 7;

	(void)state;
	take_shape(&good);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(far_fold_cells(&bad[i], &cells), -EINVAL);
		assert_int_equal(far_fold(&bad[i], &present, &servable), -EINVAL);
		assert_int_equal(far_unfold(&bad[i], 1, &needed), -EINVAL);
	}
	assert_int_equal(cells, 7);
	/* Bitmaps of another size. */
	bad[0] = (struct far_fold_shape){5, 1, 1, windows};
	assert_int_equal(far_fold(&bad[0], &present, &servable), -EINVAL);
	assert_int_equal(far_unfold(&bad[0], 1, &needed), -EINVAL);
	far_bitmap_init(&servable, chunk_words, 3);
	assert_int_equal(far_fold(&good, &present, &servable), -EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_small_shapes_fold_and_unfold_as_defined),
		cmocka_unit_test(full_attention_alone_is_the_run_of_ones_that_all_groups_share),
		cmocka_unit_test(chunk_counts_only_if_all_ranks_have_it),
		cmocka_unit_test(servable_prefixes_have_holes_where_windows_do),
		cmocka_unit_test(gap_of_full_attention_limits_all_groups),
		cmocka_unit_test(shapes_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
