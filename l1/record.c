/* record.c - what the recorder is told of L1: one record per call, and of reads their number alone. */
#include "l1/l1_priv.h"

void
far_l1_record_add(const struct far_l1 *l1, enum far_record_kind kind, int why,
		  far_l1_session session, uint64_t keys, uint64_t bytes)
{
	struct far_record record = {
		.bytes = bytes,
		.keys = keys < UINT32_MAX ? (uint32_t)keys : UINT32_MAX,
		.session = session,
		.kind = (uint16_t)kind,
		.why = (int16_t)why,
		.adapter = FAR_RECORD_NO_ADAPTER,
	};

	if (keys > 0)
		far_recorder_add(l1->config.recorder, &record);
}

void
far_l1_record_granted(const struct far_l1 *l1, enum far_record_kind kind, far_l1_session session,
		      const struct far_l1_grant *grants, size_t count)
{
	uint64_t keys = 0, bytes = 0;

	if (l1->config.recorder == NULL)
		return;
	for (size_t i = 0; i < count; i++) {
		keys += grants[i].rc == 0;
		bytes += grants[i].rc == 0 ? grants[i].size_bytes : 0;
	}
	if (kind == FAR_RECORD_L1_READ_RESERVED)
		far_recorder_count(l1->config.recorder, kind, keys, bytes);
	else
		far_l1_record_add(l1, kind, 0, session, keys, bytes);
}
