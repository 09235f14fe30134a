/* rng.h - random numbers as a parameter: seeded for tests, from the kernel for epochs. */
#ifndef FAR_BASE_RNG_H
#define FAR_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* xoshiro256** 1.0 (Blackman, Vigna; public domain), seeded through splitmix64. Not for secrets. */
struct far_rng {
	uint64_t state[4];
};

void far_rng_init(struct far_rng *rng, uint64_t seed);
uint64_t far_rng_u64(struct far_rng *rng);

/* Uniform in [0, bound) without modulo bias; bound > 0. */
uint64_t far_rng_below(struct far_rng *rng, uint64_t bound);

/* Unpredictable bytes from getrandom(2); aborts if the kernel has none. Thread: any. */
void far_random_bytes(void *out, size_t size_bytes);

/* splitmix64's finaliser: a fixed bijection, for placing and for filling test data. */
static inline uint64_t
far_mix64(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

#endif
