/* key.h - keys are digests of their fields, so they are uniform: placing takes their bits as hashes. */
#ifndef FAR_BASE_KEY_H
#define FAR_BASE_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "farpool/key.h"

/* The fields of a key, as their owner knows them. All borrowed for the call; lengths in bytes. */
struct far_key_fields {
	const char *name_space;  /* NULL: "default" */
	const char *model;       /* NULL: "" */
	const char *salt;        /* tenant isolation; NULL: "" */
	uint32_t rank;           /* KV rank as the engine packs it */
	uint32_t group;          /* object group */
	const void *chunk_hash;  /* the engine's content hash of the token chunk */
	size_t chunk_hash_bytes; /* 1..1024 */
};

/**
 * far_key_digest - BLAKE2b-128 over "farpool-key" 0x01, then each field as u32 LE length and bytes
 * (numbers: length 4, u32 LE), in the order of struct far_key_fields.
 *
 * Thread:  any.
 * Returns: 0, or -EINVAL (a string of more than 1024 bytes, no chunk hash).
 */
int far_key_digest(const struct far_key_fields *fields, struct far_key *out);

/* The hash behind it (RFC 7693, no key, @out_bytes 1..64): libsodium's, or the portable one, which
 * is always built so that tests can compare the two. */
void far_blake2b(const void *data, size_t size_bytes, uint8_t *out, size_t out_bytes);
void far_blake2b_portable(const void *data, size_t size_bytes, uint8_t *out, size_t out_bytes);

static inline bool
far_key_equal(const struct far_key *a, const struct far_key *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static inline bool
far_key_is_zero(const struct far_key *key)
{
	static const struct far_key zero;

	return far_key_equal(key, &zero);
}

/* The two halves of the digest, each a uniform 64-bit hash. */
static inline uint64_t
far_key_lo(const struct far_key *key)
{
	uint64_t v;

	memcpy(&v, key->bytes, sizeof(v));
	return v;
}

static inline uint64_t
far_key_hi(const struct far_key *key)
{
	uint64_t v;

	memcpy(&v, key->bytes + 8, sizeof(v));
	return v;
}

#define FAR_KEY_TEXT_BYTES 33
/* 32 lower-case hex digits and a terminator. */
void far_key_format(const struct far_key *key, char out[FAR_KEY_TEXT_BYTES]);
/* Exactly 32 hex digits, else -EINVAL; all zeros is -EINVAL too. */
int far_key_parse(const char *text, struct far_key *out);

#endif
