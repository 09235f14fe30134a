/* shm_frame.c - any bytes as a packet on the socket of a shm link: refused, or within bounds. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "transport/shm/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	struct shm_frame_header header;
	struct shm_frame frame;

	memset(&frame, 0xee, sizeof(frame));
	if (far_shm_frame_parse(data, size_bytes, &frame) < 0)
		return 0;
	FAR_ASSERT(frame.body == data + sizeof(header));
	FAR_ASSERT(frame.body_bytes == size_bytes - sizeof(header));
	FAR_ASSERT(frame.credits <= UINT16_MAX);
	switch (frame.kind) {
	case SHM_FRAME_HELLO:
	case SHM_FRAME_WELCOME:
		FAR_ASSERT(frame.u.hello.hello_bytes <= FAR_HELLO_BYTES_MAX);
		FAR_ASSERT(frame.u.hello.credits > 0);
		break;
	case SHM_FRAME_MEM:
		FAR_ASSERT(frame.u.mem.size_bytes > 0);
		FAR_ASSERT(frame.u.mem.fd_offset + frame.u.mem.size_bytes > frame.u.mem.fd_offset);
		break;
	case SHM_FRAME_WRITE:
		FAR_ASSERT(frame.u.write_count <= SHM_WRITE_PIECES_MAX);
		FAR_ASSERT(frame.u.write_count * sizeof(struct shm_frame_write) ==
			   frame.body_bytes);
		break;
	case SHM_FRAME_WRITE_DONE:
		FAR_ASSERT(frame.u.write_done.status <= 0);
		FAR_ASSERT(frame.u.write_done.sum_count <= SHM_WRITE_PIECES_MAX);
		FAR_ASSERT(frame.body_bytes ==
			   sizeof(frame.u.write_done) +
				   frame.u.write_done.sum_count * sizeof(uint32_t));
		break;
	default:
		break;
	}
	/* What was taken is built again from what it says. */
	far_shm_frame_header_fill(&header, frame.kind, frame.body_bytes, frame.credits);
	FAR_ASSERT(memcmp(&header, data, sizeof(header)) == 0);
	return 0;
}
