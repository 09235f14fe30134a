/* bitmap.c - every operation against one that goes bit by bit, at sizes around the words. */
#include "base/bitmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/rng.h"

#define BITS_MAX  260
#define WORDS_MAX (BITS_MAX / 64 + 1)

static const size_t sizes[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 255, 256, 257};
#define SIZE_COUNT (sizeof(sizes) / sizeof(sizes[0]))

struct fixture {
	struct far_bitmap map;
	uint64_t words[WORDS_MAX];
	bool bits[BITS_MAX]; /* the reference */
};

/* About one bit in @one_in; 1: all ones. */
static void
fixture_fill(struct fixture *f, struct far_rng *rng, size_t bit_count, uint64_t one_in)
{
	memset(f->words, 0xa5, sizeof(f->words)); /* what init has to clear */
	memset(f->bits, 0, sizeof(f->bits));
	far_bitmap_init(&f->map, f->words, bit_count);
	for (size_t i = 0; i < bit_count; i++) {
		f->bits[i] = far_rng_below(rng, one_in) == 0;
		if (f->bits[i])
			far_bitmap_set(&f->map, i);
	}
}

/* Compares every bit, and the zero padding, with the reference. */
static void
fixture_check(const struct fixture *f)
{
	size_t bit_count = f->map.bit_count;

	for (size_t i = 0; i < bit_count; i++)
		assert_int_equal(far_bitmap_test(&f->map, i), f->bits[i]);
	for (size_t i = bit_count; i < far_bitmap_words(bit_count) * 64; i++)
		assert_int_equal(f->words[i / 64] >> (i % 64) & 1, 0);
}

static void
out_of_range_is_ignored_or_false(void **state)
{
	struct far_rng rng;
	struct fixture f;
	(void)state;

	far_rng_init(&rng, 1);
	for (size_t s = 0; s < SIZE_COUNT; s++) {
		fixture_fill(&f, &rng, sizes[s], 2);
		far_bitmap_set(&f.map, sizes[s]);
		far_bitmap_set(&f.map, SIZE_MAX);
		far_bitmap_clear(&f.map, sizes[s]);
		far_bitmap_clear(&f.map, SIZE_MAX);
		assert_false(far_bitmap_test(&f.map, sizes[s]));
		assert_false(far_bitmap_test(&f.map, SIZE_MAX));
		fixture_check(&f);
	}
}

static void
an_empty_bitmap_needs_no_words(void **state)
{
	struct far_bitmap map, other;
	char text[4] = "xxx";
	(void)state;

	far_bitmap_init(&map, NULL, 0);
	far_bitmap_init_prefix(&other, NULL, 0, 9);
	far_bitmap_copy(&other, &map);
	far_bitmap_not(&map, &other);
	far_bitmap_or(&map, &map, &other);
	assert_int_equal(far_bitmap_popcount(&map), 0);
	assert_int_equal(far_bitmap_leading_zeros(&map), 0);
	assert_int_equal(far_bitmap_leading_ones(&map), 0);
	assert_int_equal(far_bitmap_highest(&map), -1);
	assert_true(far_bitmap_equal(&map, &other));
	assert_int_equal(far_bitmap_format(&map, text, sizeof(text)), 0);
	assert_string_equal(text, "");
}

static void
a_prefix_sets_the_first_bits_and_no_more_than_there_are(void **state)
{
	(void)state;
	for (size_t s = 0; s < SIZE_COUNT; s++) {
		for (size_t prefix = 0; prefix <= sizes[s] + 3; prefix++) {
			size_t expect = prefix < sizes[s] ? prefix : sizes[s];
			struct fixture f;

			memset(f.words, 0xff, sizeof(f.words));
			far_bitmap_init_prefix(&f.map, f.words, sizes[s], prefix);
			for (size_t i = 0; i < BITS_MAX; i++)
				f.bits[i] = i < expect;
			fixture_check(&f);
			assert_int_equal(far_bitmap_leading_ones(&f.map), expect);
			assert_int_equal(far_bitmap_popcount(&f.map), expect);
			assert_int_equal(far_bitmap_highest(&f.map), (int64_t)expect - 1);
		}
	}
}

static void
a_range_sets_its_bits_and_leaves_the_others(void **state)
{
	struct far_rng rng;
	struct fixture f;
	(void)state;

	far_rng_init(&rng, 2);
	for (int round = 0; round < 4000; round++) {
		size_t bit_count = sizes[far_rng_below(&rng, SIZE_COUNT)];
		size_t first = far_rng_below(&rng, bit_count + 3);
		size_t end = far_rng_below(&rng, bit_count + 3);

		fixture_fill(&f, &rng, bit_count, 4);
		far_bitmap_set_range(&f.map, first, round % 16 == 0 ? SIZE_MAX : end);
		for (size_t i = first; i < bit_count && (round % 16 == 0 || i < end); i++)
			f.bits[i] = true;
		fixture_check(&f);
	}
}

static void
counts_and_searches_agree_with_going_bit_by_bit(void **state)
{
	struct far_rng rng;
	struct fixture f;
	(void)state;

	far_rng_init(&rng, 3);
	for (int round = 0; round < 3000; round++) {
		size_t n = sizes[far_rng_below(&rng, SIZE_COUNT)];
		size_t ones = 0, zeros_run = n, ones_run = n, next = n;
		size_t from = far_rng_below(&rng, n + 70);
		int64_t highest = -1;

		fixture_fill(&f, &rng, n, 1 + far_rng_below(&rng, 40));
		if (n > 0 && round % 2 == 0) { /* nearly full: long runs of ones */
			far_bitmap_set_range(&f.map, 0, n);
			memset(f.bits, 1, n);
			f.bits[far_rng_below(&rng, n)] = false;
			for (size_t i = 0; i < n; i++) {
				if (!f.bits[i])
					far_bitmap_clear(&f.map, i);
			}
		}
		for (size_t i = n; i-- > 0;) {
			ones += f.bits[i];
			if (f.bits[i])
				zeros_run = i;
			else
				ones_run = i;
			if (f.bits[i] && i >= from)
				next = i;
			if (f.bits[i] && highest < 0)
				highest = (int64_t)i;
		}
		assert_int_equal(far_bitmap_popcount(&f.map), ones);
		assert_int_equal(far_bitmap_leading_zeros(&f.map), zeros_run);
		assert_int_equal(far_bitmap_leading_ones(&f.map), ones_run);
		assert_int_equal(far_bitmap_highest(&f.map), highest);
		assert_int_equal(far_bitmap_next(&f.map, from), next);
		assert_int_equal(far_bitmap_next(&f.map, SIZE_MAX), n);
		fixture_check(&f);
	}
}

static void
binary_operations_cut_to_the_shorter_operand(void **state)
{
	struct far_rng rng;
	struct fixture a, b, out;
	(void)state;

	far_rng_init(&rng, 4);
	for (int round = 0; round < 3000; round++) {
		size_t n = sizes[far_rng_below(&rng, SIZE_COUNT)];
		size_t m = sizes[far_rng_below(&rng, SIZE_COUNT)];
		int kind = round % 3;

		fixture_fill(&a, &rng, n, 2);
		fixture_fill(&b, &rng, m, 2);
		fixture_fill(&out, &rng, n < m ? n : m, 2);
		if (kind == 0)
			far_bitmap_and(&a.map, &b.map, &out.map);
		else if (kind == 1)
			far_bitmap_or(&a.map, &b.map, &out.map);
		else
			far_bitmap_andnot(&a.map, &b.map, &out.map);
		for (size_t i = 0; i < out.map.bit_count; i++)
			out.bits[i] = kind == 0   ? a.bits[i] && b.bits[i]
				      : kind == 1 ? a.bits[i] || b.bits[i]
						  : a.bits[i] && !b.bits[i];
		fixture_check(&out);
		fixture_check(&a);
		fixture_check(&b);
	}
}

static void
the_output_may_be_an_operand(void **state)
{
	struct far_rng rng;
	struct fixture a, b;
	(void)state;

	far_rng_init(&rng, 5);
	for (size_t s = 0; s < SIZE_COUNT; s++) {
		fixture_fill(&a, &rng, sizes[s], 2);
		fixture_fill(&b, &rng, sizes[s], 2);
		far_bitmap_andnot(&a.map, &b.map, &b.map);
		for (size_t i = 0; i < sizes[s]; i++)
			b.bits[i] = a.bits[i] && !b.bits[i];
		fixture_check(&b);
		far_bitmap_or(&a.map, &b.map, &a.map);
		fixture_check(&a);
	}
}

static void
not_leaves_the_padding_zero(void **state)
{
	struct far_rng rng;
	struct fixture a, out;
	(void)state;

	far_rng_init(&rng, 6);
	for (size_t s = 0; s < SIZE_COUNT; s++) {
		fixture_fill(&a, &rng, sizes[s], 3);
		fixture_fill(&out, &rng, sizes[s], 2);
		far_bitmap_not(&a.map, &out.map);
		for (size_t i = 0; i < sizes[s]; i++)
			out.bits[i] = !a.bits[i];
		fixture_check(&out);
		assert_int_equal(far_bitmap_popcount(&out.map),
				 sizes[s] - far_bitmap_popcount(&a.map));
	}
}

static void
equal_means_same_size_and_same_bits(void **state)
{
	struct far_rng rng;
	struct fixture a, b;
	(void)state;

	far_rng_init(&rng, 7);
	for (size_t s = 1; s < SIZE_COUNT; s++) {
		size_t idx;

		fixture_fill(&a, &rng, sizes[s], 2);
		fixture_fill(&b, &rng, sizes[s], 2);
		far_bitmap_copy(&b.map, &a.map);
		assert_true(far_bitmap_equal(&a.map, &b.map));
		idx = far_rng_below(&rng, sizes[s]);
		if (a.bits[idx])
			far_bitmap_clear(&b.map, idx);
		else
			far_bitmap_set(&b.map, idx);
		assert_false(far_bitmap_equal(&a.map, &b.map));
	}
	fixture_fill(&a, &rng, 65, 1);
	fixture_fill(&b, &rng, 66, 1);
	assert_false(far_bitmap_equal(&a.map, &b.map));
}

static void
indices_are_ascending_and_bounded(void **state)
{
	size_t idx[BITS_MAX];
	struct far_rng rng;
	struct fixture f;
	(void)state;

	far_rng_init(&rng, 8);
	for (int round = 0; round < 500; round++) {
		size_t n = sizes[far_rng_below(&rng, SIZE_COUNT)];
		size_t max = far_rng_below(&rng, n + 2);
		size_t count, expect = 0;

		fixture_fill(&f, &rng, n, 3);
		count = far_bitmap_indices(&f.map, idx, max);
		for (size_t i = 0; i < n && expect < max; i++) {
			if (f.bits[i])
				assert_int_equal(idx[expect++], i);
		}
		assert_int_equal(count, expect);
	}
}

static void
gather_takes_items_in_order_and_skips_those_that_are_missing(void **state)
{
	uint32_t items[BITS_MAX], out[BITS_MAX];
	struct far_rng rng;
	struct fixture f;
	(void)state;

	far_rng_init(&rng, 9);
	for (uint32_t i = 0; i < BITS_MAX; i++)
		items[i] = i * 3 + 1;
	for (int round = 0; round < 500; round++) {
		size_t n = sizes[far_rng_below(&rng, SIZE_COUNT)];
		size_t item_count = far_rng_below(&rng, BITS_MAX);
		size_t count, expect = 0;

		fixture_fill(&f, &rng, n, 3);
		count = far_bitmap_gather(&f.map, items, item_count, sizeof(items[0]), out);
		for (size_t i = 0; i < n && i < item_count; i++) {
			if (f.bits[i])
				assert_int_equal(out[expect++], items[i]);
		}
		assert_int_equal(count, expect);
	}
}

static void
text_begins_with_bit_zero_and_is_cut_to_its_buffer(void **state)
{
	uint64_t words[2];
	struct far_bitmap map;
	char text[8];
	(void)state;

	far_bitmap_init(&map, words, 5);
	far_bitmap_set_range(&map, 1, 3);
	assert_int_equal(far_bitmap_format(&map, text, sizeof(text)), 5);
	assert_string_equal(text, "01100");
	assert_int_equal(far_bitmap_format(&map, text, 3), 5);
	assert_string_equal(text, "01");
	assert_int_equal(far_bitmap_format(&map, text, 1), 5);
	assert_string_equal(text, "");
	assert_int_equal(far_bitmap_format(&map, NULL, 0), 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(out_of_range_is_ignored_or_false),
		cmocka_unit_test(an_empty_bitmap_needs_no_words),
		cmocka_unit_test(a_prefix_sets_the_first_bits_and_no_more_than_there_are),
		cmocka_unit_test(a_range_sets_its_bits_and_leaves_the_others),
		cmocka_unit_test(counts_and_searches_agree_with_going_bit_by_bit),
		cmocka_unit_test(binary_operations_cut_to_the_shorter_operand),
		cmocka_unit_test(the_output_may_be_an_operand),
		cmocka_unit_test(not_leaves_the_padding_zero),
		cmocka_unit_test(equal_means_same_size_and_same_bits),
		cmocka_unit_test(indices_are_ascending_and_bounded),
		cmocka_unit_test(gather_takes_items_in_order_and_skips_those_that_are_missing),
		cmocka_unit_test(text_begins_with_bit_zero_and_is_cut_to_its_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
