/* bitmap.c - fixed bitmaps; the bits beyond the size stay zero, so whole words can be compared. */
#include "base/bitmap.h"

#include <string.h>

#include "base/assert.h"

/* Ones in the last word of @bit_count bits; only if bit_count % 64 != 0. */
static uint64_t
tail_mask(size_t bit_count)
{
	return (UINT64_C(1) << (bit_count % 64)) - 1;
}

/* Cuts the bits beyond the size, which ~ and a longer operand leave behind. */
static void
tail_clear(struct far_bitmap *map)
{
	if (map->bit_count % 64 != 0)
		map->words[map->bit_count / 64] &= tail_mask(map->bit_count);
}

void
far_bitmap_init(struct far_bitmap *map, uint64_t *words, size_t bit_count)
{
	map->words = words;
	map->bit_count = bit_count;
	far_bitmap_clear_all(map);
}

void
far_bitmap_init_prefix(struct far_bitmap *map, uint64_t *words, size_t bit_count,
		       size_t prefix_count)
{
	far_bitmap_init(map, words, bit_count);
	far_bitmap_set_range(map, 0, prefix_count);
}

void
far_bitmap_set(struct far_bitmap *map, size_t idx)
{
	if (idx < map->bit_count)
		map->words[idx / 64] |= UINT64_C(1) << (idx % 64);
}

void
far_bitmap_clear(struct far_bitmap *map, size_t idx)
{
	if (idx < map->bit_count)
		map->words[idx / 64] &= ~(UINT64_C(1) << (idx % 64));
}

bool
far_bitmap_test(const struct far_bitmap *map, size_t idx)
{
	return idx < map->bit_count && (map->words[idx / 64] >> (idx % 64) & 1) != 0;
}

void
far_bitmap_set_range(struct far_bitmap *map, size_t first, size_t end)
{
	size_t word, last;
	uint64_t head;

	if (end > map->bit_count)
		end = map->bit_count;
	if (first >= end)
		return;
	word = first / 64;
	last = (end - 1) / 64;
	head = UINT64_MAX << (first % 64);
	for (; word < last; word++) {
		map->words[word] |= head;
		head = UINT64_MAX;
	}
	map->words[last] |= head & (UINT64_MAX >> (63 - (end - 1) % 64));
}

void
far_bitmap_clear_all(struct far_bitmap *map)
{
	size_t word_count = far_bitmap_words(map->bit_count);

	if (word_count != 0) /* memset(NULL, 0, 0) is undefined, and size 0 needs no words */
		memset(map->words, 0, word_count * sizeof(*map->words));
}

void
far_bitmap_copy(struct far_bitmap *to, const struct far_bitmap *from)
{
	size_t word_count = far_bitmap_words(from->bit_count);

	FAR_ASSERT(to->bit_count == from->bit_count);
	if (word_count != 0 && to->words != from->words)
		memcpy(to->words, from->words, word_count * sizeof(*to->words));
}

size_t
far_bitmap_popcount(const struct far_bitmap *map)
{
	size_t word_count = far_bitmap_words(map->bit_count);
	size_t ones = 0;

	for (size_t i = 0; i < word_count; i++)
		ones += (size_t)__builtin_popcountll(map->words[i]);
	return ones;
}

size_t
far_bitmap_leading_zeros(const struct far_bitmap *map)
{
	return far_bitmap_next(map, 0);
}

size_t
far_bitmap_leading_ones(const struct far_bitmap *map)
{
	size_t word_count = far_bitmap_words(map->bit_count);

	/* The zero padding ends the run of a bitmap that is full. */
	for (size_t i = 0; i < word_count; i++) {
		if (map->words[i] != UINT64_MAX)
			return i * 64 + (size_t)__builtin_ctzll(~map->words[i]);
	}
	return map->bit_count;
}

int64_t
far_bitmap_highest(const struct far_bitmap *map)
{
	for (size_t i = far_bitmap_words(map->bit_count); i-- > 0;) {
		if (map->words[i] != 0)
			return (int64_t)(i * 64) + 63 - __builtin_clzll(map->words[i]);
	}
	return -1;
}

size_t
far_bitmap_next(const struct far_bitmap *map, size_t from)
{
	size_t word_count = far_bitmap_words(map->bit_count);
	uint64_t mask = UINT64_MAX << (from % 64);

	for (size_t i = from / 64; i < word_count; i++) {
		uint64_t word = map->words[i] & mask;

		if (word != 0)
			return i * 64 + (size_t)__builtin_ctzll(word);
		mask = UINT64_MAX;
	}
	return map->bit_count;
}

static void
operands_check(const struct far_bitmap *a, const struct far_bitmap *b, const struct far_bitmap *out)
{
	size_t least = a->bit_count < b->bit_count ? a->bit_count : b->bit_count;

	FAR_ASSERT(out->bit_count == least);
}

void
far_bitmap_and(const struct far_bitmap *a, const struct far_bitmap *b, struct far_bitmap *out)
{
	operands_check(a, b, out);
	for (size_t i = 0; i < far_bitmap_words(out->bit_count); i++)
		out->words[i] = a->words[i] & b->words[i];
	tail_clear(out);
}

void
far_bitmap_or(const struct far_bitmap *a, const struct far_bitmap *b, struct far_bitmap *out)
{
	operands_check(a, b, out);
	for (size_t i = 0; i < far_bitmap_words(out->bit_count); i++)
		out->words[i] = a->words[i] | b->words[i];
	tail_clear(out);
}

void
far_bitmap_andnot(const struct far_bitmap *a, const struct far_bitmap *b, struct far_bitmap *out)
{
	operands_check(a, b, out);
	for (size_t i = 0; i < far_bitmap_words(out->bit_count); i++)
		out->words[i] = a->words[i] & ~b->words[i];
	tail_clear(out);
}

void
far_bitmap_not(const struct far_bitmap *a, struct far_bitmap *out)
{
	FAR_ASSERT(out->bit_count == a->bit_count);
	for (size_t i = 0; i < far_bitmap_words(out->bit_count); i++)
		out->words[i] = ~a->words[i];
	tail_clear(out);
}

bool
far_bitmap_equal(const struct far_bitmap *a, const struct far_bitmap *b)
{
	size_t word_count = far_bitmap_words(a->bit_count);

	if (a->bit_count != b->bit_count)
		return false;
	return word_count == 0 || memcmp(a->words, b->words, word_count * sizeof(*a->words)) == 0;
}

size_t
far_bitmap_indices(const struct far_bitmap *map, size_t *idx_out, size_t max)
{
	size_t count = 0;

	for (size_t i = far_bitmap_next(map, 0); i < map->bit_count && count < max;
	     i = far_bitmap_next(map, i + 1))
		idx_out[count++] = i;
	return count;
}

size_t
far_bitmap_gather(const struct far_bitmap *map, const void *items, size_t item_count,
		  size_t item_bytes, void *out)
{
	const char *from = items;
	char *to = out;
	size_t count = 0;

	for (size_t i = far_bitmap_next(map, 0); i < map->bit_count && i < item_count;
	     i = far_bitmap_next(map, i + 1)) {
		memcpy(to + count * item_bytes, from + i * item_bytes, item_bytes);
		count++;
	}
	return count;
}

size_t
far_bitmap_format(const struct far_bitmap *map, char *out, size_t size_bytes)
{
	size_t count = map->bit_count;

	if (size_bytes == 0)
		return map->bit_count;
	if (count > size_bytes - 1)
		count = size_bytes - 1;
	for (size_t i = 0; i < count; i++)
		out[i] = far_bitmap_test(map, i) ? '1' : '0';
	out[count] = '\0';
	return map->bit_count;
}
