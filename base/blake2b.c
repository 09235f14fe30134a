/* blake2b.c - BLAKE2b without a key (RFC 7693): libsodium's, and a portable one beside it. */
#include "base/key.h"

#ifdef FAR_HAVE_SODIUM
#include <pthread.h>
#include <sodium.h>
#endif

#include "base/assert.h"

#define BLOCK_BYTES 128

struct blake2b {
	uint64_t h[8];
	uint64_t count_bytes;
};

static const uint64_t iv[8] = {
	0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
	0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL,
};

static const uint8_t sigma[12][16] = {
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	{14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
	{11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
	{7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
	{9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
	{2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
	{12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
	{13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
	{6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
	{10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	{14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

static uint64_t
rotr64(uint64_t x, int by)
{
	return x >> by | x << (64 - by);
}

static uint64_t
load64_le(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

static void
mix(uint64_t *v, int a, int b, int c, int d, const uint64_t xy[2])
{
	v[a] = v[a] + v[b] + xy[0];
	v[d] = rotr64(v[d] ^ v[a], 32);
	v[c] = v[c] + v[d];
	v[b] = rotr64(v[b] ^ v[c], 24);
	v[a] = v[a] + v[b] + xy[1];
	v[d] = rotr64(v[d] ^ v[a], 16);
	v[c] = v[c] + v[d];
	v[b] = rotr64(v[b] ^ v[c], 63);
}

static void
compress(struct blake2b *state, const uint8_t block[BLOCK_BYTES], bool last)
{
	/* Columns, then diagonals of the 4 x 4 state. */
	static const uint8_t lanes[8][4] = {
		{0, 4, 8, 12},  {1, 5, 9, 13},  {2, 6, 10, 14}, {3, 7, 11, 15},
		{0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13},  {3, 4, 9, 14},
	};
	uint64_t v[16], m[16];

	for (int i = 0; i < 8; i++) {
		v[i] = state->h[i];
		v[i + 8] = iv[i];
	}
	v[12] ^= state->count_bytes; /* the upper half of the count stays 0: sizes are size_t */
	if (last)
		v[14] = ~v[14];
	for (size_t i = 0; i < 16; i++)
		m[i] = load64_le(block + i * 8);
	for (int round = 0; round < 12; round++) {
		for (size_t i = 0; i < 8; i++) {
			const uint64_t xy[2] = {m[sigma[round][2 * i]], m[sigma[round][2 * i + 1]]};

			mix(v, lanes[i][0], lanes[i][1], lanes[i][2], lanes[i][3], xy);
		}
	}
	for (int i = 0; i < 8; i++)
		state->h[i] ^= v[i] ^ v[i + 8];
}

void
far_blake2b_portable(const void *data, size_t size_bytes, uint8_t *out, size_t out_bytes)
{
	const uint8_t *from = data;
	uint8_t block[BLOCK_BYTES] = {0};
	struct blake2b state = {.count_bytes = 0};

	FAR_ASSERT(out_bytes >= 1);
	FAR_ASSERT(out_bytes <= 64);
	memcpy(state.h, iv, sizeof(state.h));
	state.h[0] ^= 0x01010000ULL ^ out_bytes;
	/* The last block, full or not, carries the flag: so a full one is kept back. */
	while (size_bytes > BLOCK_BYTES) {
		state.count_bytes += BLOCK_BYTES;
		compress(&state, from, false);
		from += BLOCK_BYTES;
		size_bytes -= BLOCK_BYTES;
	}
	if (size_bytes != 0)
		memcpy(block, from, size_bytes);
	state.count_bytes += size_bytes;
	compress(&state, block, true);
	for (size_t i = 0; i < out_bytes; i++)
		out[i] = (uint8_t)(state.h[i / 8] >> (i % 8 * 8));
}

#ifdef FAR_HAVE_SODIUM
static bool sodium_usable; /* written once, before sodium_once lets anybody by */
static pthread_once_t sodium_once = PTHREAD_ONCE_INIT;

static void
sodium_start(void)
{
	sodium_usable = sodium_init() >= 0;
}
#endif

void
far_blake2b(const void *data, size_t size_bytes, uint8_t *out, size_t out_bytes)
{
#ifdef FAR_HAVE_SODIUM
	(void)pthread_once(&sodium_once, sodium_start);
	/* libsodium refuses digests shorter than 16 bytes. */
	if (sodium_usable && out_bytes >= crypto_generichash_blake2b_BYTES_MIN) {
		int rc = crypto_generichash_blake2b(out, out_bytes, data, size_bytes, NULL, 0);

		FAR_ASSERT(rc == 0);
		return;
	}
#endif
	far_blake2b_portable(data, size_bytes, out, out_bytes);
}
