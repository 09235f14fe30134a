/* frame.c - takes packets from a peer apart without believing a number in them. */
#include "transport/shm/frame.h"

#include <string.h>

void
far_shm_frame_header_fill(struct shm_frame_header *header, enum shm_frame_kind kind,
			  size_t body_bytes, uint32_t credits)
{
	FAR_ASSERT(body_bytes <= FAR_MESSAGE_BYTES_MAX);
	*header = (struct shm_frame_header){
		.magic = SHM_FRAME_MAGIC,
		.version = SHM_FRAME_VERSION,
		.kind = (uint8_t)kind,
		.size_bytes = (uint32_t)(sizeof(*header) + body_bytes),
		.credits = credits,
	};
}

static int
hello_parse(struct shm_frame *frame)
{
	struct shm_frame_hello *hello = &frame->u.hello;

	if (frame->body_bytes < sizeof(*hello))
		return -EPROTO;
	memcpy(hello, frame->body, sizeof(*hello));
	if (hello->hello_bytes > FAR_HELLO_BYTES_MAX)
		return -EPROTO;
	/* Without a credit no message could ever be sent, and no sane peer buffers more. */
	if (hello->credits == 0 || hello->credits > UINT16_MAX)
		return -EPROTO;
	return 0;
}

static int
mem_parse(struct shm_frame *frame)
{
	struct shm_frame_mem *mem = &frame->u.mem;

	if (frame->body_bytes != sizeof(*mem))
		return -EPROTO;
	memcpy(mem, frame->body, sizeof(*mem));
	if (mem->size_bytes == 0 || mem->zero != 0 || mem->rights == 0)
		return -EPROTO;
	if (mem->rights & ~(FAR_RIGHT_LOCAL | FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE))
		return -EPROTO;
	/* Half the range is far beyond any address space, and the sum cannot wrap then. */
	if (mem->size_bytes > INT64_MAX || mem->fd_offset > INT64_MAX)
		return -EPROTO;
	return 0;
}

static int
write_parse(struct shm_frame *frame)
{
	size_t count = frame->body_bytes / sizeof(struct shm_frame_write);

	if (count == 0 || count > SHM_WRITE_PIECES_MAX ||
	    count * sizeof(struct shm_frame_write) != frame->body_bytes)
		return -EPROTO;
	for (size_t i = 0; i < count; i++) {
		struct shm_frame_write piece;

		memcpy(&piece, frame->body + i * sizeof(piece), sizeof(piece));
		if (piece.flags & ~(SHM_WRITE_LAST | SHM_WRITE_SUM))
			return -EPROTO;
	}
	frame->u.write_count = (uint32_t)count;
	return 0;
}

static int
write_done_parse(struct shm_frame *frame)
{
	struct shm_frame_write_done *done = &frame->u.write_done;

	if (frame->body_bytes < sizeof(*done))
		return -EPROTO;
	memcpy(done, frame->body, sizeof(*done));
	if (done->sum_count > SHM_WRITE_PIECES_MAX || done->status > 0 ||
	    frame->body_bytes != sizeof(*done) + done->sum_count * sizeof(uint32_t))
		return -EPROTO;
	/* What the peer says goes to our user: it has to be one of our codes. */
	if (done->status < 0 && !far_err_listed(done->status))
		done->status = -EIO;
	return 0;
}

int
far_shm_frame_parse(const void *packet, size_t size_bytes, struct shm_frame *out)
{
	struct shm_frame_header header;

	if (size_bytes < sizeof(header) || size_bytes > SHM_FRAME_BYTES_MAX)
		return -EPROTO;
	memcpy(&header, packet, sizeof(header));
	if (header.magic != SHM_FRAME_MAGIC || header.version != SHM_FRAME_VERSION)
		return -EPROTO;
	if (header.size_bytes != size_bytes || header.zero != 0)
		return -EPROTO;
	if (header.credits > UINT16_MAX)
		return -EPROTO;
	if (header.kind == 0 || header.kind >= SHM_FRAME_KIND_END)
		return -EPROTO;

	out->kind = (enum shm_frame_kind)header.kind;
	out->credits = header.credits;
	out->body = (const uint8_t *)packet + sizeof(header);
	out->body_bytes = size_bytes - sizeof(header);
	switch (out->kind) {
	case SHM_FRAME_HELLO:
	case SHM_FRAME_WELCOME:
		return hello_parse(out);
	case SHM_FRAME_MEM:
		return mem_parse(out);
	case SHM_FRAME_MEM_GONE:
		if (out->body_bytes != sizeof(out->u.mem_gone))
			return -EPROTO;
		memcpy(&out->u.mem_gone, out->body, sizeof(out->u.mem_gone));
		return 0;
	case SHM_FRAME_MSG:
		return out->body_bytes == 0 ? -EPROTO : 0;
	case SHM_FRAME_CREDIT:
		return out->body_bytes != 0 ? -EPROTO : 0;
	case SHM_FRAME_WRITE:
		return write_parse(out);
	case SHM_FRAME_WRITE_DONE:
		return write_done_parse(out);
	case SHM_FRAME_KIND_END:
		break;
	}
	return -EPROTO;
}
