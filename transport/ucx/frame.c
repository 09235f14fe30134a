/* frame.c - frames of a ucx link taken apart: any bytes in, a checked frame or -EPROTO out. */
#include "transport/ucx/frame.h"

#include <string.h>

static int
hello_parse(struct ucx_frame *frame)
{
	if (frame->body_bytes < sizeof(frame->u.hello))
		return -EPROTO;
	memcpy(&frame->u.hello, frame->body, sizeof(frame->u.hello));
	if (frame->u.hello.hello_bytes > FAR_HELLO_BYTES_MAX)
		return -EPROTO;
	/* With any of these at zero the link would stand still for ever. For each credit there is a
	 * place in the stream. */
	if (frame->u.hello.credits == 0 || frame->u.hello.credits > UCX_CREDITS_MAX ||
	    frame->u.hello.reads_max == 0 || frame->u.hello.window_bytes < UCX_FRAME_BYTES_MAX)
		return -EPROTO;
	return 0;
}

static int
msg_parse(struct ucx_frame *frame)
{
	struct ucx_frame_msg *msg = &frame->u.msg;

	if (frame->body_bytes <= sizeof(*msg))
		return -EPROTO;
	memcpy(msg, frame->body, sizeof(*msg));
	frame->body += sizeof(*msg);
	frame->body_bytes -= sizeof(*msg);
	if (msg->message_bytes == 0 || msg->message_bytes > FAR_MESSAGE_BYTES_MAX)
		return -EPROTO;
	if (msg->offset >= msg->message_bytes ||
	    frame->body_bytes > msg->message_bytes - msg->offset)
		return -EPROTO;
	return 0;
}

static int
reads_parse(const struct ucx_frame *frame)
{
	if (frame->body_bytes == 0 || frame->body_bytes % sizeof(struct ucx_frame_read) != 0)
		return -EPROTO;
	return 0;
}

/* Whether a record of @record_bytes with @size_bytes of data lies whole at @at. */
static bool
record_fits(const struct ucx_frame *frame, size_t at, size_t record_bytes, size_t size_bytes)
{
	return frame->body_bytes - at >= record_bytes &&
	       far_ucx_padded(size_bytes) <= frame->body_bytes - at - record_bytes;
}

static int
data_parse(const struct ucx_frame *frame)
{
	size_t at = 0;

	if (frame->body_bytes == 0)
		return -EPROTO;
	while (at < frame->body_bytes) {
		struct ucx_frame_data record;

		if (!record_fits(frame, at, sizeof(record), 0))
			return -EPROTO;
		memcpy(&record, frame->body + at, sizeof(record));
		if (!record_fits(frame, at, sizeof(record), record.size_bytes))
			return -EPROTO;
		if ((record.flags & ~UCX_FLAG_LAST) != 0 || record.status > 0)
			return -EPROTO;
		if (record.status != 0 &&
		    (record.size_bytes != 0 || (record.flags & UCX_FLAG_LAST) == 0))
			return -EPROTO;
		at += sizeof(record) + far_ucx_padded(record.size_bytes);
	}
	return 0;
}

static int
writes_parse(const struct ucx_frame *frame)
{
	size_t at = 0;

	if (frame->body_bytes == 0)
		return -EPROTO;
	while (at < frame->body_bytes) {
		struct ucx_frame_write record;

		if (!record_fits(frame, at, sizeof(record), 0))
			return -EPROTO;
		memcpy(&record, frame->body + at, sizeof(record));
		if (!record_fits(frame, at, sizeof(record), record.size_bytes))
			return -EPROTO;
		if ((record.flags & ~UCX_FLAG_LAST) != 0)
			return -EPROTO;
		at += sizeof(record) + far_ucx_padded(record.size_bytes);
	}
	return 0;
}

static int
write_done_parse(struct ucx_frame *frame)
{
	if (frame->body_bytes != sizeof(frame->u.write_done))
		return -EPROTO;
	memcpy(&frame->u.write_done, frame->body, sizeof(frame->u.write_done));
	if (frame->u.write_done.status > 0 || frame->u.write_done.zero != 0)
		return -EPROTO;
	return 0;
}

static int
keys_parse(const struct ucx_frame *frame)
{
	const uint32_t rights = FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE;
	size_t at = 0;

	if (frame->body_bytes == 0)
		return -EPROTO;
	while (at < frame->body_bytes) {
		struct ucx_frame_key record;

		if (!record_fits(frame, at, sizeof(record), 0))
			return -EPROTO;
		memcpy(&record, frame->body + at, sizeof(record));
		if (record.key_bytes > UCX_KEY_BYTES_MAX ||
		    !record_fits(frame, at, sizeof(record), record.key_bytes))
			return -EPROTO;
		if (record.rights == 0 || (record.rights & ~rights) != 0 ||
		    ((record.rights & FAR_RIGHT_REMOTE_READ) != 0) != (record.key_bytes != 0))
			return -EPROTO;
		/* No end of it beyond the end of memory. */
		if (record.size_bytes == 0 || record.size_bytes > (uint64_t)INT64_MAX ||
		    record.base > UINT64_MAX - record.size_bytes)
			return -EPROTO;
		at += sizeof(record) + far_ucx_padded(record.key_bytes);
	}
	return 0;
}

int
far_ucx_frame_parse(const void *packet, size_t size_bytes, struct ucx_frame *out)
{
	struct ucx_frame_header header;

	if (size_bytes < sizeof(header) || size_bytes > UCX_FRAME_BYTES_MAX)
		return -EPROTO;
	memcpy(&header, packet, sizeof(header));
	if (header.magic != UCX_FRAME_MAGIC || header.version != UCX_FRAME_VERSION ||
	    header.size_bytes != size_bytes || header.zero != 0)
		return -EPROTO;
	*out = (struct ucx_frame){
		.kind = (enum ucx_frame_kind)header.kind,
		.seq = header.seq,
		.credits = header.credits,
		.acked = header.acked,
		.body = (const uint8_t *)packet + sizeof(header),
		.body_bytes = size_bytes - sizeof(header),
	};
	switch (header.kind) {
	case UCX_FRAME_HELLO:
	case UCX_FRAME_WELCOME:
		return hello_parse(out);
	case UCX_FRAME_STATE:
		return out->body_bytes == 0 ? 0 : -EPROTO;
	case UCX_FRAME_MSG:
		return msg_parse(out);
	case UCX_FRAME_READ:
		return reads_parse(out);
	case UCX_FRAME_DATA:
		return data_parse(out);
	case UCX_FRAME_WRITE:
		return writes_parse(out);
	case UCX_FRAME_WRITE_DONE:
		return write_done_parse(out);
	case UCX_FRAME_KEY:
		return keys_parse(out);
	default:
		return -EPROTO;
	}
}

const uint8_t *
far_ucx_frame_next_data(const struct ucx_frame *frame, size_t *at, struct ucx_frame_data *out)
{
	const uint8_t *bytes = frame->body + *at + sizeof(*out);

	if (*at >= frame->body_bytes)
		return NULL;
	memcpy(out, frame->body + *at, sizeof(*out));
	*at += sizeof(*out) + far_ucx_padded(out->size_bytes);
	FAR_ASSERT(*at <= frame->body_bytes); /* far_ucx_frame_parse() has seen to it */
	return bytes;
}

const uint8_t *
far_ucx_frame_next_write(const struct ucx_frame *frame, size_t *at, struct ucx_frame_write *out)
{
	const uint8_t *bytes = frame->body + *at + sizeof(*out);

	if (*at >= frame->body_bytes)
		return NULL;
	memcpy(out, frame->body + *at, sizeof(*out));
	*at += sizeof(*out) + far_ucx_padded(out->size_bytes);
	FAR_ASSERT(*at <= frame->body_bytes);
	return bytes;
}

const uint8_t *
far_ucx_frame_next_key(const struct ucx_frame *frame, size_t *at, struct ucx_frame_key *out)
{
	const uint8_t *bytes = frame->body + *at + sizeof(*out);

	if (*at >= frame->body_bytes)
		return NULL;
	memcpy(out, frame->body + *at, sizeof(*out));
	*at += sizeof(*out) + far_ucx_padded(out->key_bytes);
	FAR_ASSERT(*at <= frame->body_bytes);
	return bytes;
}
