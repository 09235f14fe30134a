/* l1_evictor.h - somebody who takes from L1, again and again, all that nobody holds. */
#ifndef FAR_TESTS_SUPPORT_L1_EVICTOR_H
#define FAR_TESTS_SUPPORT_L1_EVICTOR_H

#include "l1/l1.h"

struct l1_evictor {
	struct far_l1 *l1;
	far_l1_session session;
	uint32_t block_bytes; /* what it reserves when it reserves many */
	uint64_t rounds;
	uint64_t taken; /* blocks that were evicted or cleared */
	uint64_t key_next;
};

void l1_evictor_open(struct l1_evictor *evictor, struct far_l1 *l1, uint32_t block_bytes);
/*
 * The largest block that can be had, then as many small ones as can be had, both written over and
 * aborted: L1 evicts for them. An eviction ahead of need, and a clear. In another order each time, so
 * that each of the four finds a full L1.
 */
void l1_evictor_run(struct l1_evictor *evictor);
void l1_evictor_close(struct l1_evictor *evictor);

#endif
