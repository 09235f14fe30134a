/* frame.c - any bytes as a control frame: refused, or taken apart within bounds and put together alike. */
#include "wire/frame.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	static uint64_t msg[FAR_FRAME_BYTES_MAX / 8 + 8], again[FAR_FRAME_BYTES_MAX / 8];
	struct far_frame frame;
	int rc;

	if (size_bytes > FAR_FRAME_BYTES_MAX + 8)
		return 0;
	memcpy(msg, data, size_bytes);
	/* Half of the inputs get a length that fits, so that more of them come further. */
	if (size_bytes >= 8 && data[3] == 0) {
		uint32_t length = (uint32_t)size_bytes;

		memcpy((uint8_t *)msg + 4, &length, sizeof(length));
	}
	rc = far_frame_decode(msg, size_bytes, &frame);
	if (rc == -EPROTO || rc == -EOPNOTSUPP)
		return 0;
	FAR_ASSERT(rc == 0);
	FAR_ASSERT(frame.head.size_bytes == size_bytes);
	FAR_ASSERT(frame.body == NULL || frame.body == (uint8_t *)msg + 16);
	FAR_ASSERT((frame.list != NULL) == (frame.count > 0));
	rc = far_frame_encode((enum far_frame_type)frame.head.type, frame.head.tag, frame.body,
			      frame.list, frame.count, again, sizeof(again));
	FAR_ASSERT(rc == (int)size_bytes);
	/* Flags are the sender's hint for those who do not know the type. */
	memset((uint8_t *)msg + 2, 0, 2);
	FAR_ASSERT(memcmp(msg, again, size_bytes) == 0);
	return 0;
}
