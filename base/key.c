/* key.c - a block's name: a digest over a versioned, length-prefixed encoding of its fields. */
#include "base/key.h"

#include <errno.h>

#define FIELD_BYTES_MAX ((size_t)1024)

static const uint8_t preamble[] = {'f', 'a', 'r', 'p', 'o', 'o', 'l', '-', 'k', 'e', 'y', 1};

struct encoding {
	uint8_t bytes[sizeof(preamble) + 4 * (4 + FIELD_BYTES_MAX) + 2 * sizeof(uint64_t)];
	size_t size_bytes;
};

static void
encode_u32(struct encoding *enc, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		enc->bytes[enc->size_bytes++] = (uint8_t)(v >> (8 * i));
}

static int
encode_bytes(struct encoding *enc, const void *data, size_t size_bytes)
{
	if (size_bytes > FIELD_BYTES_MAX)
		return -EINVAL;
	encode_u32(enc, (uint32_t)size_bytes);
	if (size_bytes != 0)
		memcpy(enc->bytes + enc->size_bytes, data, size_bytes);
	enc->size_bytes += size_bytes;
	return 0;
}

static int
encode_string(struct encoding *enc, const char *s, const char *fallback)
{
	if (s == NULL)
		s = fallback;
	return encode_bytes(enc, s, strnlen(s, FIELD_BYTES_MAX + 1));
}

int
far_key_digest(const struct far_key_fields *fields, struct far_key *out)
{
	struct encoding enc = {.size_bytes = 0};

	if (fields->chunk_hash == NULL || fields->chunk_hash_bytes == 0)
		return -EINVAL;
	memcpy(enc.bytes, preamble, sizeof(preamble));
	enc.size_bytes = sizeof(preamble);
	if (encode_string(&enc, fields->name_space, "default") < 0 ||
	    encode_string(&enc, fields->model, "") < 0 || encode_string(&enc, fields->salt, "") < 0)
		return -EINVAL;
	encode_u32(&enc, sizeof(fields->rank));
	encode_u32(&enc, fields->rank);
	encode_u32(&enc, sizeof(fields->group));
	encode_u32(&enc, fields->group);
	if (encode_bytes(&enc, fields->chunk_hash, fields->chunk_hash_bytes) < 0)
		return -EINVAL;
	far_blake2b(enc.bytes, enc.size_bytes, out->bytes, sizeof(out->bytes));
	return 0;
}

void
far_key_format(const struct far_key *key, char out[FAR_KEY_TEXT_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < sizeof(key->bytes); i++) {
		out[2 * i] = digits[key->bytes[i] >> 4];
		out[2 * i + 1] = digits[key->bytes[i] & 15];
	}
	out[FAR_KEY_TEXT_BYTES - 1] = '\0';
}

/* -1 if it is no hex digit, whatever the locale. */
static int
digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int
far_key_parse(const char *text, struct far_key *out)
{
	struct far_key key;

	if (strnlen(text, FAR_KEY_TEXT_BYTES) != FAR_KEY_TEXT_BYTES - 1)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(key.bytes); i++) {
		int high = digit_value(text[2 * i]);
		int low = digit_value(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		key.bytes[i] = (uint8_t)(high << 4 | low);
	}
	if (far_key_is_zero(&key))
		return -EINVAL;
	*out = key;
	return 0;
}
