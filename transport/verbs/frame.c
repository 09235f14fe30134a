/* frame.c - what the two ends say to each other, filled and taken apart; nothing of it is trusted. */
#include "transport/verbs/frame.h"

#include <string.h>

void
far_verbs_hello_fill(struct verbs_hello *out, uint64_t nonce, uint32_t credits, const void *hello,
		     size_t hello_bytes)
{
	FAR_ASSERT(hello_bytes <= FAR_HELLO_BYTES_MAX);
	*out = (struct verbs_hello){
		.magic = VERBS_HELLO_MAGIC,
		.version = VERBS_HELLO_VERSION,
		.hello_bytes = (uint8_t)hello_bytes,
		.credits = (uint16_t)credits,
		.nonce = nonce,
	};
	if (hello_bytes != 0)
		memcpy(out->hello, hello, hello_bytes);
}

int
far_verbs_hello_parse(const void *bytes, size_t size_bytes, struct verbs_hello *out,
		      uint8_t *version_out)
{
	struct verbs_hello hello;

	*version_out = 0;
	if (bytes == NULL || size_bytes < sizeof(hello))
		return -EPROTO;
	memcpy(&hello, bytes, sizeof(hello));
	if (hello.magic != VERBS_HELLO_MAGIC)
		return -EPROTO;
	*version_out = hello.version;
	if (hello.version != VERBS_HELLO_VERSION || hello.hello_bytes > FAR_HELLO_BYTES_MAX)
		return -EPROTO;
	if (hello.credits == 0 || hello.credits > VERBS_CREDITS_MAX)
		return -EPROTO;
	if (hello.frames < VERBS_FRAMES_MIN || hello.frames > VERBS_FRAMES_MAX)
		return -EPROTO;
	*out = hello;
	return 0;
}

int
far_verbs_frame_parse(const void *bytes, size_t size_bytes, struct verbs_frame_header *out,
		      const uint8_t **body_out)
{
	struct verbs_frame_header header;

	if (size_bytes < sizeof(header) || size_bytes > VERBS_FRAME_BYTES)
		return -EPROTO;
	memcpy(&header, bytes, sizeof(header));
	if (header.kind == 0 || header.kind >= VERBS_FRAME_KIND_END)
		return -EPROTO;
	if (header.body_bytes != size_bytes - sizeof(header))
		return -EPROTO;
	if (header.kind == VERBS_FRAME_CREDIT ? header.body_bytes != 0 : header.body_bytes == 0)
		return -EPROTO;
	if (header.total_bytes != 0 &&
	    (header.kind != VERBS_FRAME_MESSAGE || header.total_bytes > FAR_MESSAGE_BYTES_MAX ||
	     header.body_bytes > header.total_bytes))
		return -EPROTO;
	*out = header;
	*body_out = (const uint8_t *)bytes + sizeof(header);
	return 0;
}

int
far_verbs_frame_next_key(const uint8_t *body, size_t body_bytes, size_t *at,
			 struct verbs_frame_key *out, const uint8_t **rkeys_out)
{
	struct verbs_frame_key key;

	if (*at == body_bytes)
		return -ENOENT;
	if (body_bytes - *at < sizeof(key))
		return -EPROTO;
	memcpy(&key, body + *at, sizeof(key));
	if (key.slice_count == 0 || key.slice_count > VERBS_SLICES_MAX ||
	    far_verbs_key_bytes(key.slice_count) > body_bytes - *at)
		return -EPROTO;
	if (key.rights == 0 ||
	    (key.rights & ~(FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE)) != 0)
		return -EPROTO;
	/* As many slices as the size needs, and an end that can be reckoned with. */
	if (key.size_bytes == 0 || key.slice_bytes == 0 || key.size_bytes > UINT64_MAX - key.base ||
	    (key.size_bytes - 1) / key.slice_bytes + 1 != key.slice_count)
		return -EPROTO;
	*out = key;
	*rkeys_out = body + *at + sizeof(key);
	*at += far_verbs_key_bytes(key.slice_count);
	return 0;
}
