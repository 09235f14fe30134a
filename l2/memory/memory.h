/* memory.h - an adapter over this process's own memory: the simplest store that keeps every
 * promise. */
#ifndef FAR_L2_MEMORY_MEMORY_H
#define FAR_L2_MEMORY_MEMORY_H

#include "l2/l2.h"

/* For the registry. config: capacity_bytes (whole units count: 64 B each below 1 MiB, else 4 KiB),
 * latency_ns and bytes_per_s by env->clock. Evicts first in, first out, and nothing that is locked.
 */
int far_l2_memory_open(const struct far_l2_config *config, const struct far_l2_env *env,
		       struct far_l2 **out, char error[256]);

/* ---- for tests: what it holds, and faults; @l2 is a memory adapter (asserted) ---- */
struct far_l2_memory_counts {
	uint64_t blocks;          /* held now */
	uint64_t used_bytes;      /* by them, in whole units */
	uint64_t locks;           /* held now, over all keys */
	uint64_t evicted;         /* blocks, since open */
	uint64_t deletes;         /* keys that a DELETE removed */
	uint64_t unlocks;         /* keys unlocked */
	uint64_t unlocks_unknown; /* keys unlocked that had no lock: a bug of the caller */
	uint64_t tasks[4];        /* submitted, by enum far_l2_kind */
};
void far_l2_memory_counts_get(const struct far_l2 *l2, struct far_l2_memory_counts *out);
bool far_l2_memory_holds(const struct far_l2 *l2, const struct far_key *key);
uint32_t far_l2_memory_locks(const struct far_l2 *l2, const struct far_key *key);
/* While true, tasks are accepted and none of this kind ends, not even at its deadline: as if its
 * work requests were outstanding. A cancel waits too. */
void far_l2_memory_hold(struct far_l2 *l2, enum far_l2_kind kind, bool held);
/* While true, it is DOWN: tasks end -EHOSTDOWN. Locks and blocks stay. */
void far_l2_memory_down(struct far_l2 *l2, bool down);
/* Loses a block whatever locks it has, as a store does that breaks its word; false: not held. */
bool far_l2_memory_lose(struct far_l2 *l2, const struct far_key *key);
/* The next @count LOAD items end with @rc, their pieces half written. */
void far_l2_memory_fail_loads(struct far_l2 *l2, uint32_t count, int rc);

#endif
