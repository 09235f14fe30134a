/* rng.c - xoshiro256** for everything that a seed must repeat; getrandom(2) for the rest. */
#include "base/rng.h"

#include <errno.h>
#include <sys/random.h>

#include "base/assert.h"

static uint64_t
rotl64(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

void
far_rng_init(struct far_rng *rng, uint64_t seed)
{
	/* far_mix64 is one step of splitmix64; its outputs for four states in a row are never all
	 * zero, the one state that xoshiro could not leave. */
	for (size_t i = 0; i < 4; i++)
		rng->state[i] = far_mix64(seed + i * 0x9e3779b97f4a7c15ULL);
}

uint64_t
far_rng_u64(struct far_rng *rng)
{
	uint64_t *s = rng->state;
	uint64_t result = rotl64(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl64(s[3], 45);
	return result;
}

uint64_t
far_rng_below(struct far_rng *rng, uint64_t bound)
{
	uint64_t reject_below, draw;

	FAR_ASSERT(bound > 0);
	/* 2^64 mod bound draws too many would fall on the low values: they are drawn again. */
	reject_below = (0 - bound) % bound;
	do {
		draw = far_rng_u64(rng);
	} while (draw < reject_below);
	return draw % bound;
}

void
far_random_bytes(void *out, size_t size_bytes)
{
	char *to = out;

	while (size_bytes > 0) {
		ssize_t got = getrandom(to, size_bytes, 0);

		if (got < 0 && errno == EINTR)
			continue;
		/* An epoch that could repeat would let old bytes pass for new: better no process. */
		FAR_ASSERT(got > 0);
		to += got;
		size_bytes -= (size_t)got;
	}
}
