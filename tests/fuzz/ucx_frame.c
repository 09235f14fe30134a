/* ucx_frame.c - any bytes as a frame of a ucx link: refused, or every record within bounds. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "transport/ucx/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* Reads the first and the last byte of a record's data, so that the sanitizer sees where they lie. */
static uint32_t
touch(const uint8_t *bytes, size_t size_bytes)
{
	return size_bytes == 0 ? 0 : (uint32_t)bytes[0] + bytes[size_bytes - 1];
}

static void
records_walk(const struct ucx_frame *frame)
{
	struct ucx_frame_data data;
	struct ucx_frame_write write;
	struct ucx_frame_key key;
	const uint8_t *bytes;
	volatile uint32_t sum = 0;
	size_t at = 0;

	if (frame->kind == UCX_FRAME_DATA) {
		while ((bytes = far_ucx_frame_next_data(frame, &at, &data)) != NULL) {
			sum = sum + touch(bytes, data.size_bytes);
			FAR_ASSERT(data.status <= 0);
		}
		FAR_ASSERT(at == frame->body_bytes);
	} else if (frame->kind == UCX_FRAME_WRITE) {
		while ((bytes = far_ucx_frame_next_write(frame, &at, &write)) != NULL)
			sum = sum + touch(bytes, write.size_bytes);
		FAR_ASSERT(at == frame->body_bytes);
	} else if (frame->kind == UCX_FRAME_KEY) {
		while ((bytes = far_ucx_frame_next_key(frame, &at, &key)) != NULL) {
			sum = sum + touch(bytes, key.key_bytes);
			FAR_ASSERT(key.key_bytes <= UCX_KEY_BYTES_MAX);
			FAR_ASSERT(key.base + key.size_bytes > key.base);
			FAR_ASSERT(key.rights != 0);
		}
		FAR_ASSERT(at == frame->body_bytes);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	struct ucx_frame frame;

	memset(&frame, 0xee, sizeof(frame));
	if (far_ucx_frame_parse(data, size_bytes, &frame) < 0)
		return 0;
	FAR_ASSERT(frame.body > data);
	FAR_ASSERT(frame.body + frame.body_bytes == data + size_bytes);
	switch (frame.kind) {
	case UCX_FRAME_HELLO:
	case UCX_FRAME_WELCOME:
		FAR_ASSERT(frame.u.hello.hello_bytes <= FAR_HELLO_BYTES_MAX);
		FAR_ASSERT(frame.u.hello.credits > 0);
		FAR_ASSERT(frame.u.hello.credits <= UCX_CREDITS_MAX);
		FAR_ASSERT(frame.u.hello.window_bytes >= UCX_FRAME_BYTES_MAX);
		break;
	case UCX_FRAME_MSG:
		FAR_ASSERT(frame.u.msg.message_bytes <= FAR_MESSAGE_BYTES_MAX);
		FAR_ASSERT(frame.u.msg.offset + frame.body_bytes <= frame.u.msg.message_bytes);
		break;
	case UCX_FRAME_READ:
		FAR_ASSERT(frame.body_bytes % sizeof(struct ucx_frame_read) == 0);
		break;
	case UCX_FRAME_WRITE_DONE:
		FAR_ASSERT(frame.u.write_done.status <= 0);
		break;
	default:
		break;
	}
	records_walk(&frame);
	return 0;
}
