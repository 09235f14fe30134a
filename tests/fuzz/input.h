/* input.h - a fuzzer's bytes as choices: whatever is asked for beyond their end is zero. */
#ifndef FAR_TESTS_FUZZ_INPUT_H
#define FAR_TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
	const uint8_t *bytes;
	size_t left;
};

static inline uint8_t
input_u8(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->bytes++;
}

static inline uint16_t
input_u16(struct input *in)
{
	uint16_t low = input_u8(in);

	return (uint16_t)(low | input_u8(in) << 8);
}

static inline uint64_t
input_u64(struct input *in)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value |= (uint64_t)input_u8(in) << (8 * i);
	return value;
}

/* As many as there are, up to @max. */
static inline size_t
input_take(struct input *in, void *to, size_t max)
{
	size_t count = in->left < max ? in->left : max;

	if (count > 0)
		memcpy(to, in->bytes, count);
	in->bytes += count;
	in->left -= count;
	return count;
}

/* Numbers at the edges of their types, which chance finds late. */
static inline uint64_t
input_edge(struct input *in)
{
	uint8_t choice = input_u8(in);
	uint64_t power = 1ULL << (choice & 63);

	switch (choice >> 6) {
	case 0:
		return power;
	case 1:
		return power - 1;
	case 2:
		return 0 - power;
	default:
		return input_u64(in);
	}
}

#endif
