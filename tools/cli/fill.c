/* fill.c - word i of a block is a mix of its key and i: no two blocks, and no two places, agree. */
#include "tools/cli/fill.h"

#include <string.h>

#include "base/assert.h"
#include "base/key.h"
#include "base/rng.h"

void
far_fill_key(uint64_t id, uint32_t block_bytes, struct far_key *out)
{
	struct far_key_fields fields = {
		.model = "replay",
		.group = block_bytes,
		.chunk_hash = &id,
		.chunk_hash_bytes = sizeof(id),
	};
	int rc = far_key_digest(&fields, out);

	FAR_ASSERT(rc == 0); /* the fields are ours */
}

/* A multiply and an add-shift per word: as fast as memory, and a bijection of (seed + i). */
static inline uint64_t
word_at(uint64_t lo, uint64_t hi, uint64_t i)
{
	uint64_t x = (lo + i) * 0x9e3779b97f4a7c15ULL;

	return (x ^ (x >> 32)) + hi;
}

void
far_fill_block(const struct far_key *key, void *data, size_t size_bytes)
{
	uint64_t lo = far_mix64(far_key_lo(key));
	uint64_t hi = far_key_hi(key);
	uint8_t *at = data;
	size_t words = size_bytes / 8;
	uint64_t last = word_at(lo, hi, words);

	for (size_t i = 0; i < words; i++) {
		uint64_t word = word_at(lo, hi, i);

		memcpy(at + i * 8, &word, sizeof(word));
	}
	memcpy(at + words * 8, &last, size_bytes % 8);
}

size_t
far_fill_check(const struct far_key *key, const void *data, size_t size_bytes)
{
	uint64_t lo = far_mix64(far_key_lo(key));
	uint64_t hi = far_key_hi(key);
	const uint8_t *at = data;
	size_t wrong = 0;

	for (size_t i = 0; i < size_bytes; i += 8) {
		uint64_t want = word_at(lo, hi, i / 8);
		size_t size = size_bytes - i < 8 ? size_bytes - i : 8;

		if (size == 8 && memcmp(at + i, &want, 8) == 0)
			continue;
		for (size_t b = 0; b < size; b++)
			wrong += at[i + b] != (uint8_t)(want >> (8 * b));
	}
	return wrong;
}
