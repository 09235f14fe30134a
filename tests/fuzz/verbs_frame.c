/* verbs_frame.c - any bytes as private data or a SEND of a verbs peer: refused, or within bounds. */
#include "transport/verbs/frame.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void
hello_take(const uint8_t *data, size_t size_bytes)
{
	struct verbs_hello hello;
	uint8_t version;

	memset(&hello, 0xee, sizeof(hello));
	if (far_verbs_hello_parse(data, size_bytes, &hello, &version) < 0)
		return;
	FAR_ASSERT(version == VERBS_HELLO_VERSION);
	FAR_ASSERT(hello.hello_bytes <= sizeof(hello.hello));
	FAR_ASSERT(hello.credits > 0);
	FAR_ASSERT(hello.credits <= VERBS_CREDITS_MAX);
	FAR_ASSERT(hello.frames >= VERBS_FRAMES_MIN);
	FAR_ASSERT(hello.frames <= VERBS_FRAMES_MAX);
}

/* The first and the last byte of what a record points to, so that the sanitizer sees where it lies. */
static void
keys_walk(const uint8_t *body, size_t body_bytes)
{
	struct verbs_frame_key key;
	const uint8_t *rkeys;
	volatile uint32_t sum = 0;
	size_t at = 0;
	int rc;

	while ((rc = far_verbs_frame_next_key(body, body_bytes, &at, &key, &rkeys)) == 0) {
		FAR_ASSERT(at <= body_bytes);
		FAR_ASSERT(rkeys >= body);
		FAR_ASSERT(rkeys + (size_t)key.slice_count * 4 <= body + at);
		sum = sum + rkeys[0] + rkeys[(size_t)key.slice_count * 4 - 1];
		FAR_ASSERT(key.base + key.size_bytes > key.base);
		FAR_ASSERT(key.slice_bytes > 0);
		FAR_ASSERT((key.slice_count - 1) * key.slice_bytes < key.size_bytes);
		FAR_ASSERT(key.rights != 0);
	}
	FAR_ASSERT(rc == -EPROTO || at == body_bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	struct verbs_frame_header header;
	const uint8_t *body;

	hello_take(data, size_bytes);
	if (far_verbs_frame_parse(data, size_bytes, &header, &body) < 0)
		return 0;
	FAR_ASSERT(body + header.body_bytes == data + size_bytes);
	FAR_ASSERT(header.total_bytes <= FAR_MESSAGE_BYTES_MAX);
	if (header.kind == VERBS_FRAME_KEYS)
		keys_walk(body, header.body_bytes);
	return 0;
}
