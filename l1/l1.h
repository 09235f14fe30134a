/* l1.h - the client's own blocks: an arena, a table, and one atomic word of state per block. */
#ifndef FAR_L1_L1_H
#define FAR_L1_L1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/key.h"
#include "base/recorder.h"

/*
 * Called from many threads at once. A block: absent -> write-locked -> ready -> read-locked(n) ->
 * ready ...; or write-locked -> aborted -> absent. Every lock is a loan: a number that its taker
 * owns and gives back once. Loans belong to sessions. No call waits for another holder.
 *
 * A temporary block is absent again when the last count of its read loans ends, in the same step: a
 * reader that comes then gets the block, which lives on for it, or -ENOENT. Until its first reader
 * it is like any other, evictable too. far_l1_retain() makes it one that stays, and
 * far_l1_let_go() the other way.
 *
 * Calls take batches and answer per key in their out array; they return how many keys were granted
 * (or ended) without error. Codes per key:
 *   0        granted
 *   -EINVAL  the zero key, a size of 0 or beyond the arena, or an unknown flag
 *   -ENOENT  not there, or not readable yet; finishing a write: the key was deleted by force
 *            meanwhile, the loan is over and nobody ever sees the block
 *   -EEXIST  present, being written, or given twice in this call (blocks are immutable)
 *   -EBUSY   locked; reserve_read: by 2^25 readers
 *   -ENOMEM  arena (free and evictable together), table or loans are full; for this key and, in
 *            reserve_write, all behind it
 *   -EMSGSIZE reserve_read: another length than the one asked for
 *   -EBADF   the loan is over, or never was: nothing was changed, nobody is harmed
 *   -EPERM   the loan belongs to another session, or the session is not open
 *
 * Keys of one call are taken as a prefix: its last key counts as used first and is evicted first
 * (LRU; S3-FIFO goes by uses before that). A key that reserve_write answers -EEXIST is not evicted
 * for another one of that call.
 */
struct far_l1;

typedef uint32_t far_l1_session; /* 0: none */

/* What a taker gets. Valid until its loan ends. */
struct far_l1_grant {
	int rc;
	uint32_t size_bytes; /* of the block */
	uint64_t loan;       /* 0 unless rc == 0 */
	void *addr;          /* in the arena */
	uint64_t
		offset_bytes; /* of addr in the arena; with more regions: as if one followed another */
};

#define FAR_L1_TEMPORARY 1u /* goes with its last reader; never announced as written */

/* What a writer wants. */
struct far_l1_want {
	struct far_key key;
	uint32_t size_bytes;
	uint32_t flags; /* 0 or FAR_L1_TEMPORARY */
};

enum far_l1_policy {
	FAR_L1_LRU,    /* the least recently used goes first */
	FAR_L1_S3FIFO, /* what was used once goes before what was used again: resists scans */
	FAR_L1_NONE,   /* never evicts */
};

#define FAR_L1_REGIONS_MAX 8u

struct far_l1_region {
	void *base;
	uint64_t size_bytes;
};

struct far_l1_config {
	void *base; /* the arena: borrowed, mapped and registered by the caller */
	uint64_t size_bytes;
	uint32_t align_bytes;     /* of every block: a power of two, 64..2 MiB; default 4096 */
	uint32_t block_bytes_min; /* sizes the table: arena / this, bounded by blocks_max */
	uint32_t blocks_max;      /* 0: from block_bytes_min */
	uint32_t loans_max;       /* live loans; 0: 4 * blocks_max, at least 4096 */
	uint32_t sessions_max;    /* 0: 256 */
	uint32_t shards;          /* a power of two, 0: 16 */
	enum far_l1_policy policy;
	void (*publish)(
		void *arg); /* makes bytes visible before the flip; NULL: far_mem_publish() */
	void *publish_arg;
	struct far_clock *clock;
	/* More memory, of other NUMA nodes or registrations, apart from base and from each other; none
	 * is ever added later. A block lies in one region: none is longer than the longest. Borrowed for
	 * the call, what they describe as base is. Up to FAR_L1_REGIONS_MAX - 1. */
	const struct far_l1_region *more;
	uint32_t more_count;
	struct far_recorder *recorder; /* borrowed; NULL: nothing is recorded */
};

enum far_l1_why {
	FAR_L1_WHY_EVICTED,   /* for another block, or by far_l1_evict */
	FAR_L1_WHY_DELETED,   /* nobody held it */
	FAR_L1_WHY_CLEARED,   /* the same, by far_l1_clear */
	FAR_L1_WHY_FORCED,    /* by force while readers hold it: its memory is in quarantine */
	FAR_L1_WHY_TEMPORARY, /* its last read loan ended */
};

/* What happened to a block; @loan as the listener asked. */
struct far_l1_event {
	struct far_key key;
	uint64_t loan; /* written: a read loan of the listener's session, if hold_written */
	void *addr;    /* NULL: touched without a loan */
	uint32_t size_bytes;
	enum far_l1_why why; /* deleted only */
};

/*
 * Told once per event, on the thread that caused it, outside any lock of l1; may call l1; never
 * told nothing (@count > 0). NULL entries are skipped. A block that was never readable (aborted, or
 * deleted by force while it was written) is told under no name. What two threads tell of one key may
 * come in the other order: events are for counting and for starting work, the table is the truth.
 */
struct far_l1_listener {
	/* finish_write made it readable (not: the flip of a prefetch). With hold_written the flip
	 * took one more read lock, owned by @session, in the same atomic step: the block cannot be
	 * evicted before the listener gives the loan back. At most one listener may hold. */
	void (*written)(void *arg, const struct far_l1_event *events, size_t count);
	void (*prefetched)(void *arg, const struct far_l1_event *events, size_t count);
	void (*deleted)(void *arg, const struct far_l1_event *events, size_t count);
	void (*accessed)(void *arg, const struct far_l1_event *events, size_t count);
	void *arg;
	far_l1_session session;
	bool hold_written;
};

struct far_l1_usage {
	uint64_t capacity_bytes;
	uint64_t used_bytes;       /* allocated, with alignment, quarantine included */
	uint64_t locked_bytes;     /* write- or read-locked: not evictable */
	uint64_t quarantine_bytes; /* out of the table, still named by a loan */
	uint64_t block_count;      /* in the table */
	uint64_t loan_count;
	uint64_t evicted_blocks;
	uint64_t evicted_bytes;
	uint64_t denied_no_memory; /* keys answered -ENOMEM */
};

enum far_l1_state {
	FAR_L1_ABSENT,
	FAR_L1_WRITE_LOCKED,
	FAR_L1_READY,
	FAR_L1_READ_LOCKED,
};

/* Returns 0, -EINVAL (bounds above), -ENOMEM. */
int far_l1_open(const struct far_l1_config *config, struct far_l1 **out);
/* Every loan has ended and every session is closed: asserted. Takes NULL. */
void far_l1_close(struct far_l1 *l1);

/* @name: for messages about overdue holders; copied. Returns 0, -ENOMEM (sessions_max). */
int far_l1_session_open(struct far_l1 *l1, const char *name, far_l1_session *out);
/* Ends the session's read loans; its write loans are aborted, so no work request may name their
 * buffers any more. No call of the session runs beside it. Closing twice, also at once, harms nobody:
 * the second call does nothing, and does not wait for the first. */
void far_l1_session_close(struct far_l1 *l1, far_l1_session session);

/* Before any other thread uses the table; up to 4; never removed. -ENOMEM; -EINVAL: a second
 * holder, or one without an open session. */
int far_l1_listen(struct far_l1 *l1, const struct far_l1_listener *listener);

/* Grants in key order until memory (free plus evictable) ends; computed before the first eviction,
 * so nothing is evicted for a key that is not granted. A granted buffer is visible to nobody; its
 * ways out are a finish with a completion behind it, and abort. */
size_t far_l1_reserve_write(struct far_l1 *l1, far_l1_session session,
			    const struct far_l1_want *wants, size_t count,
			    struct far_l1_grant *grants_out);

/* Write-locked -> ready, announced as written (but for temporaries: not announced). The loans
 * are over. */
size_t far_l1_finish_write(struct far_l1 *l1, far_l1_session session, const uint64_t *loans,
			   size_t count, int *rcs_out);

/* Write-locked -> absent: never visible, never announced. The loans are over. */
size_t far_l1_abort_write(struct far_l1 *l1, far_l1_session session, const uint64_t *loans,
			  size_t count, int *rcs_out);

/* The heart: one atomic step from write-locked to read-locked by @readers (1..65535), behind
 * publish. The loan stays valid and is now a read loan with that many counts, owned by
 * @reader_session. Announced as prefetched. */
size_t far_l1_finish_write_and_reserve_read(struct far_l1 *l1, far_l1_session session,
					    const uint64_t *loans, size_t count, uint32_t readers,
					    far_l1_session reader_session, int *rcs_out);

/* @sizes: NULL, or the lengths asked for. Announced as accessed. */
size_t far_l1_reserve_read(struct far_l1 *l1, far_l1_session session, const struct far_key *keys,
			   const uint32_t *sizes, size_t count, uint32_t readers,
			   struct far_l1_grant *grants_out);
/* The same up to the first key that is not granted; returns the prefix length, and the rest of
 * grants_out has rc != 0. */
size_t far_l1_reserve_read_prefix(struct far_l1 *l1, far_l1_session session,
				  const struct far_key *keys, const uint32_t *sizes, size_t count,
				  uint32_t readers, struct far_l1_grant *grants_out);

/* Gives back @readers counts of each loan; a loan is over when none is left; giving back more than
 * are left is -EINVAL for that loan, and nothing changes. */
size_t far_l1_finish_read(struct far_l1 *l1, far_l1_session session, const uint64_t *loans,
			  size_t count, uint32_t readers, int *rcs_out);

/* Temporary -> one that stays, by any loan on it, write or read: for the writer before its flip,
 * or a reader before its last release. 0 also for a block that is not temporary; -ENOENT: it was
 * deleted by force. Nothing is announced. */
size_t far_l1_retain(struct far_l1 *l1, far_l1_session session, const uint64_t *loans, size_t count,
		     int *rcs_out);

/* One that stays -> temporary, by any loan on it: its last reader takes it along, be it the
 * caller. By a write loan it is not announced as written either. -ENOENT: it was deleted by
 * force. */
size_t far_l1_let_go(struct far_l1 *l1, far_l1_session session, const uint64_t *loans, size_t count,
		     int *rcs_out);

/* The buffer behind a live read loan, without a new count: rc -EBADF, -EPERM. */
int far_l1_unsafe_read(struct far_l1 *l1, far_l1_session session, uint64_t loan,
		       struct far_l1_grant *out);

/* Removes keys: -ENOENT, -EBUSY. @force removes locked ones from the table as well; their memory is
 * in quarantine until their loans are over. */
size_t far_l1_delete(struct far_l1 *l1, const struct far_key *keys, size_t count, bool force,
		     int *rcs_out);
void far_l1_touch(struct far_l1 *l1, const struct far_key *keys, size_t count);
/* Everything that is not locked; with @force as delete. Returns how many were removed. */
size_t far_l1_clear(struct far_l1 *l1, bool force);

/* Evicts in the policy's order until @bytes are freed, @blocks_max blocks are gone or nothing
 * can go; ahead of need, so that a reservation seldom has to. Returns the bytes freed;
 * @blocks_out: NULL, or how many blocks. With FAR_L1_NONE nothing goes. */
uint64_t far_l1_evict(struct far_l1 *l1, uint64_t bytes, uint32_t blocks_max, uint32_t *blocks_out);

enum far_l1_state far_l1_state_get(struct far_l1 *l1, const struct far_key *key);
void far_l1_usage_get(struct far_l1 *l1, struct far_l1_usage *out);
/* Bytes of the arena that a block of this length takes. */
uint64_t far_l1_block_bytes(const struct far_l1 *l1, uint32_t size_bytes);
/* Loans older than @age_ns: counts them, logs each holder once (promise 4: warned, never ended). */
size_t far_l1_report_overdue(struct far_l1 *l1, uint64_t now_ns, uint64_t age_ns);
/* Every invariant, walked under all locks; asserts. */
void far_l1_check(struct far_l1 *l1);

#endif
