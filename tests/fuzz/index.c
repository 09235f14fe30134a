/* index.c - any bytes as an index: a header that passes describes only memory that is there. */
#include "wire/index.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void
header_use(const struct far_index_header *header, uint64_t mapped_bytes)
{
	struct far_key key;
	uint64_t sets[2];

	FAR_ASSERT(header->live_at + 64 <= mapped_bytes);
	FAR_ASSERT(header->table_at + header->table_count * 64 <= mapped_bytes);
	memcpy(key.bytes, header->donor, sizeof(key.bytes));
	far_index_sets(&key, header->hash_seed, header->set_count, sets);
	for (int i = 0; i < 2; i++)
		FAR_ASSERT(header->sets_at + (sets[i] + 1) * FAR_SET_BYTES <= mapped_bytes);
	FAR_ASSERT(header->segment_bytes % header->lane_bytes == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	struct far_index_header header;
	struct far_index_segment line;
	struct far_index_live live;
	struct far_slot slot;
	uint64_t mapped_bytes = 1ULL << 30;
	int rc;

	if (size_bytes >= sizeof(header)) {
		memcpy(&header, data, sizeof(header));
		/* No fuzzer guesses a checksum: seal what it made, and judge the rest. */
		header.magic = FAR_INDEX_MAGIC;
		header.version = FAR_INDEX_VERSION;
		if (data[0] % 8 != 0)
			far_index_header_seal(&header);
		rc = far_index_header_check(&header, mapped_bytes);
		FAR_ASSERT(rc == 0 || rc == -EPROTO || rc == -EBADMSG);
		if (rc == 0)
			header_use(&header, mapped_bytes);
	}
	if (size_bytes >= 64) {
		memcpy(&slot, data, sizeof(slot));
		FAR_ASSERT(far_slot_check(&slot, 1) <= FAR_SLOT_TORN);
		far_slot_seal(&slot, 1);
		FAR_ASSERT((far_slot_check(&slot, 1) == FAR_SLOT_VALID) == (slot.size_bytes > 0));
		memcpy(&line, data, sizeof(line));
		rc = far_index_segment_check(&line, 1);
		FAR_ASSERT(rc == 0 || rc == -EBADMSG);
		memcpy(&live, data, sizeof(live));
		rc = far_index_live_check(&live);
		FAR_ASSERT(rc == 0 || rc == -EBADMSG);
	}
	return 0;
}
