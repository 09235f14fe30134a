/* bitmap.h - a fixed number of bits, worked on a word at a time. Bit i is bit i%64 of word i/64. */
#ifndef FAR_BASE_BITMAP_H
#define FAR_BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The owner gives the words: far_bitmap_words(n) of them. Bits beyond bit_count stay zero. */
struct far_bitmap {
	uint64_t *words;
	size_t bit_count;
};

static inline size_t
far_bitmap_words(size_t bit_count)
{
	return bit_count / 64 + (bit_count % 64 != 0);
}

/* All bits zero; @words is borrowed for the life of the bitmap; bit_count 0 is legal. */
void far_bitmap_init(struct far_bitmap *map, uint64_t *words, size_t bit_count);
/* All bits zero but the first min(prefix_count, bit_count). */
void far_bitmap_init_prefix(struct far_bitmap *map, uint64_t *words, size_t bit_count,
			    size_t prefix_count);
/* Out of range: ignored (set, clear), false (test). */
void far_bitmap_set(struct far_bitmap *map, size_t idx);
void far_bitmap_clear(struct far_bitmap *map, size_t idx);
bool far_bitmap_test(const struct far_bitmap *map, size_t idx);
/* [first, end), end clamped to the size. */
void far_bitmap_set_range(struct far_bitmap *map, size_t first, size_t end);
void far_bitmap_clear_all(struct far_bitmap *map);
void far_bitmap_copy(struct far_bitmap *to, const struct far_bitmap *from); /* equal sizes */
size_t far_bitmap_popcount(const struct far_bitmap *map);
/* Index of the first set bit; bit_count if none ("leading" counts from bit 0). */
size_t far_bitmap_leading_zeros(const struct far_bitmap *map);
/* Length of the run of ones from bit 0: a prefix length. */
size_t far_bitmap_leading_ones(const struct far_bitmap *map);
/* -1 if none. */
int64_t far_bitmap_highest(const struct far_bitmap *map);
/* First set bit at or after @from; bit_count if none: for (i = next(m, 0); i < n; i = next(m, i + 1)). */
size_t far_bitmap_next(const struct far_bitmap *map, size_t from);
/* out's size must be min(a, b): the longer operand is cut. out may be a or b. */
void far_bitmap_and(const struct far_bitmap *a, const struct far_bitmap *b, struct far_bitmap *out);
void far_bitmap_or(const struct far_bitmap *a, const struct far_bitmap *b, struct far_bitmap *out);
void far_bitmap_andnot(const struct far_bitmap *a, const struct far_bitmap *b,
		       struct far_bitmap *out);
/* Same size; padding stays zero. */
void far_bitmap_not(const struct far_bitmap *a, struct far_bitmap *out);
bool far_bitmap_equal(const struct far_bitmap *a, const struct far_bitmap *b);
/* Ascending indices of the set bits, at most @max; returns how many were written. */
size_t far_bitmap_indices(const struct far_bitmap *map, size_t *idx_out, size_t max);
/* Copies the items at set indices, in order; indices at or beyond item_count are skipped.
 * Returns the number copied. */
size_t far_bitmap_gather(const struct far_bitmap *map, const void *items, size_t item_count,
			 size_t item_bytes, void *out);
/* "0110": index 0 first, terminated; cut to @size_bytes. Returns the length without the cut. */
size_t far_bitmap_format(const struct far_bitmap *map, char *out, size_t size_bytes);

#endif
