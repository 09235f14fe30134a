/*
 * farpool/farpool.h - borrow the spare memory of a rack's hosts as a second level for a KV cache.
 *
 * A client keeps an L1, an arena of blocks in this process, and treats every donor as an L2. A
 * prefetch finds blocks in the donors' published indexes and reads them, both one-sided, into
 * write-reserved L1 buffers, and flips each to read-locked in one atomic step.
 *
 * Times are absolute CLOCK_MONOTONIC nanoseconds (far_now_ns()); there is no call that waits
 * without one. Results are 0 or a negative errno of a closed list; far_strerror() says what to do
 * about it. A client does not survive fork(): in the child every call answers -EPERM.
 */
#ifndef FARPOOL_FARPOOL_H
#define FARPOOL_FARPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "farpool/key.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FAR_API __attribute__((visibility("default")))

struct far_client; /* an L1, its donors, and a thread that moves the bytes, with helpers */
struct far_prefetch_handle;
struct far_block;   /* a loan of one block in L1 */
struct far_session; /* whose loans end together: those of another process */

/* ---- opening ---- */

struct far_donor_options {
	size_t size_bytes; /* sizeof(struct far_donor_options) */
	const char *name;  /* of the donor that must answer; unique in the list */
	/* One per transport, separated by commas: "shm:/run/farpool/donor-a.sock,ucx:10.0.0.3:7471" */
	const char *address;
	double weight; /* configured capacity, any unit that all share; 0: 1 */
};

#define FAR_HELPERS_NONE UINT32_MAX

/* Zero in any field but size_bytes takes its default; see docs/configuration.md. */
struct far_client_options {
	size_t size_bytes;                      /* sizeof(struct far_client_options) */
	const char *name;                       /* for logs of donors; NULL: "client" */
	const char *name_space;                 /* NULL: "default" */
	uint64_t l1_bytes;                      /* arena; required */
	uint64_t block_bytes_min;               /* sizes L1's table; 0: 4 KiB */
	uint32_t l1_align_bytes;                /* 0: 4096 */
	const struct far_donor_options *donors; /* borrowed for the call */
	size_t donor_count;                     /* 0: L1 alone */
	uint32_t replicas;           /* copies of a stored block on different donors; 0: 1 */
	uint64_t connect_timeout_ns; /* of one attempt; 0: 1 s */
	uint64_t store_deadline_ns;  /* relative, of one try to store; 0: 5 s */
	uint32_t verify_always;      /* 1: CRC32C of every block that was read */
	uint32_t busy_poll_us;       /* how long the thread always spins before it sleeps */
	const char *transport;       /* "shm", "verbs", "ucx": that alone; NULL: "auto" */
	const char
		*trust; /* "fabric": ucx is one-sided, over RDMA, where any peer may write into what
			    * is exposed to it; NULL: "none" */
	const char *prefetch_policy; /* names, separated by commas; NULL: "placement,retain" */
	const char *l1_eviction;     /* "lru", "s3fifo", "none"; NULL: "lru" */
	double l1_evict_high; /* of l1_bytes: above it blocks are evicted ahead of need; 1: never; 0: 0.95 */
	double l1_evict_low;        /* and down to it, below the high mark; 0: 0.9 */
	const char *store_policy;   /* names, separated by commas; NULL: "default" */
	uint32_t store_admit_after; /* uses after which "admit_after_n" stores a block; 0: 2 */
	uint32_t l1_device;        /* with l1_memory "cuda": which GPU, as its driver counts them */
	const char *l1_memory;     /* "host", "cuda": on a GPU, see memory.h; NULL: "host" */
	const char *l1_gpu_direct; /* "near", "always", "never"; NULL: "near" */
	const char *l1_gpu_mapped; /* "auto", "never"; NULL: "auto" */
	/* NULL: the client allocates its arena. Else the caller's own memory on that GPU, l1_bytes of
	 * it within one allocation: borrowed until far_client_try_close() has returned 0. */
	void *l1_base;
	uint64_t l1_gpu_stage_bytes; /* 0: 64 MiB */
	uint64_t l1_gpu_slice_bytes; /* 0: 4 MiB */
	/* Threads that share in copies and checksums, as far as there are processors for them; 0: 1;
	 * FAR_HELPERS_NONE: none. */
	uint32_t helpers;
};

/**
 * far_client_open - opens a client from a struct.
 *
 * @options: borrowed for the call, strings copied.
 * @out:     set only on success; owned: far_client_close().
 *
 * Donors are connected in the background: far_client_wait_donors() waits for them. A donor that is
 * down is a miss, never a hang.
 *
 * Thread:  any. Takes about 0.3 s per GiB of L1.
 * Returns: 0, or
 *          -EINVAL  an option is out of range, two donors share a name, a donor has no address that
 *                   can be used on this host (the log names it);
 *          -ENODEV  the transport that is configured, or RDMA with trust "fabric", or the GPU, is not
 *                   to be had on this host;
 *          -EOPNOTSUPP l1_memory "cuda", and this build has none;
 *          -EIO     the GPU failed;
 *          -ENOMEM  the arena is larger than the memory that is available.
 */
FAR_API int far_client_open(const struct far_client_options *options, struct far_client **out);

/**
 * far_client_open_file - opens a client from a YAML file.
 *
 * @path:  the configuration; docs/configuration.md has every key.
 * @error: NULL, or where one line goes that names file, line, key and the next step.
 *
 * Thread:  any.
 * Returns: as far_client_open(), or -ENOENT, -EACCES (unreadable), -EOPNOTSUPP (built without
 *          libyaml).
 */
FAR_API int far_client_open_file(const char *path, char *error, size_t error_bytes,
				 struct far_client **out);

/**
 * far_client_wait_donors - waits until each donor is up, or refused us.
 *
 * @error: NULL, or where one line goes about the first donor that is not up.
 *
 * Thread:  any. Blocks until @deadline_ns.
 * Returns: 0: all are up; -ETIMEDOUT; -EHOSTDOWN; or the donor's own refusal (-ENODEV: another
 *          name, -EPROTO, ...).
 */
FAR_API int far_client_wait_donors(struct far_client *client, uint64_t deadline_ns, char *error,
				   size_t error_bytes);

/**
 * far_client_close - ends everything that the client has and frees it.
 *
 * @client: NULL is allowed. Handles and blocks of it end here: none may be used afterwards, and no
 *          other thread may be in a call.
 *
 * Stores that are queued are dropped; far_flush() first if they matter. Buffers that a donor may
 * still read are kept until it let go (its link is closed for that), then unmapped.
 *
 * Thread:  any. Blocks for at most 2 s.
 */
FAR_API void far_client_close(struct far_client *client);

/**
 * far_client_try_close - the same, but it tells whether a peer or a device still names memory of it.
 *
 * For memory that the caller gave (far_client_options.l1_base) and wants back: once this returned 0,
 * nothing reads or writes it any more.
 *
 * Thread:  any, as far_client_close(). Blocks for at most 2 s.
 * Returns: 0: it is closed and freed; -EBUSY: its memory may still be read and written, and the client
 *          takes nothing but this call, again, or far_client_close(), which gives up both; -EINVAL,
 *          -EPERM.
 */
FAR_API int far_client_try_close(struct far_client *client);

/* ---- keys and time ---- */

struct far_key_parts {
	size_t size_bytes;      /* sizeof(struct far_key_parts) */
	const char *name_space; /* NULL: "default" */
	const char *model;      /* NULL: "" */
	const char *salt;       /* tenant isolation; NULL: "" */
	uint32_t rank;
	uint32_t group;
	const void *chunk_hash;  /* the engine's content hash of the token chunk */
	size_t chunk_hash_bytes; /* 1..1024 */
};

/**
 * far_key_make - the digest of a block's fields (BLAKE2b-128 over a length-prefixed encoding).
 *
 * Thread:  any.
 * Returns: 0, or -EINVAL (no chunk hash, a field longer than 1024 bytes).
 */
FAR_API int far_key_make(const struct far_key_parts *parts, struct far_key *out);

/* Now, in the time that deadlines use. Thread: any. */
FAR_API uint64_t far_now_ns(void);

/* One sentence: what happened and what to do next. Static. Thread: any. */
FAR_API const char *far_strerror(int rc);

/* "0.1.0". Static. Thread: any. */
FAR_API const char *far_version(void);

/* ---- storing ---- */

/**
 * far_put - copies one block into L1 and queues it for the donors.
 *
 * @key:         copied. Blocks are immutable.
 * @data:        host memory, whatever L1 lies in; borrowed for the call.
 * @size_bytes:  1 byte to the donors' lane size; a longer one stays in L1 and is counted as not
 *               stored.
 *
 * Thread:  any.
 * Returns: 0: readable here, and on its way to the donors; -EEXIST: it was there, or is being
 *          written; -ENOMEM: L1 is full of locked blocks; -ENOENT: far_clear() by force removed it
 *          while it was written; -EINVAL; -EIO: the GPU failed, nothing is stored.
 */
FAR_API int far_put(struct far_client *client, const struct far_key *key, const void *data,
		    uint32_t size_bytes);

/**
 * far_reserve - a write-reserved buffer in L1 for one block, to be filled in place.
 *
 * @out: set only on success; the caller owns one loan and ends it with far_commit() or far_abort().
 *       The buffer is visible to nobody until then.
 *
 * Thread:  any.
 * Returns: as far_put().
 */
FAR_API int far_reserve(struct far_client *client, const struct far_key *key, uint32_t size_bytes,
			struct far_block **out);

/* Makes a reserved block readable and queues it for the donors; the loan is over. On a GPU, what fills
 * the buffer has completed before. Thread: any.
 * Returns: 0; -ENOENT: far_clear() by force removed it meanwhile (the loan is over all the same);
 *          -EINVAL: the block was not reserved for writing (the loan lives on). */
FAR_API int far_commit(struct far_block *block);

/* Gives a reserved buffer back: it was never there. Thread: any. Returns 0, or -EINVAL as far_commit(). */
FAR_API int far_abort(struct far_block *block);

struct far_flush_result {
	size_t size_bytes; /* sizeof(struct far_flush_result); set by the caller */
	uint64_t stored;   /* since the client was opened: blocks that a donor committed */
	uint64_t had;      /* that the donor had already */
	uint64_t failed;   /* given up, after retries */
	uint64_t dropped;  /* never tried: queue full */
};

/**
 * far_flush - waits until every block put before has ended at the donors, stored or not.
 *
 * @result: NULL, or counters since open.
 *
 * Thread:  any. Blocks until @deadline_ns.
 * Returns: 0, or -ETIMEDOUT (stores go on), -E2BIG, -ENOMEM (nothing was asked).
 */
FAR_API int far_flush(struct far_client *client, uint64_t deadline_ns,
		      struct far_flush_result *result);

/**
 * far_delete - removes a block from L1 and from every donor.
 *
 * Thread:  any. Blocks until @deadline_ns.
 * Returns: 0; -ENOENT: nobody had it; -EBUSY: it is locked in L1, being read or on its way to a
 *          donor (far_flush() first), and may be anywhere; -ETIMEDOUT, -EHOSTDOWN: a donor may
 *          still have it; -E2BIG, -ENOMEM: nothing was asked.
 */
FAR_API int far_delete(struct far_client *client, const struct far_key *key, uint64_t deadline_ns);

/* ---- L1 ---- */

#define FAR_BLOCK_ABSENT      0u
#define FAR_BLOCK_WRITING     1u /* reserved or on its way from a donor: visible to nobody yet */
#define FAR_BLOCK_READY       2u /* readable, and evictable */
#define FAR_BLOCK_READ_LOCKED 3u /* readable, held by somebody: a reader, or the way to a donor */

/**
 * far_l1_query - where each key stands in L1; donors are not asked, and nothing is locked.
 *
 * @states: one FAR_BLOCK_* per key; what it says may be over when it is read.
 *
 * Thread:  any. Does not block.
 * Returns: 0, or -EINVAL (nothing is written).
 */
FAR_API int far_l1_query(struct far_client *client, const struct far_key *keys, size_t count,
			 uint32_t *states);

/* Keys are wanted: those that are in L1 count as used now, the first as the latest. Returns 0, or
 * -EINVAL. Thread: any. Does not block. */
FAR_API int far_touch(struct far_client *client, const struct far_key *keys, size_t count);

/**
 * far_clear - empties L1; donors keep what they have.
 *
 * @force: 0: blocks that are locked stay. Else they leave the table as well; who holds one goes on
 *         reading it, its memory is free when the last loan is over, and a block that is being
 *         written is never seen.
 *
 * Thread:  any. Does not block.
 * Returns: how many blocks were removed, or -EINVAL.
 */
FAR_API int64_t far_clear(struct far_client *client, int force);

/* ---- reading ---- */

/**
 * far_get - borrow the block under one key, fetching it from a donor on a miss.
 *
 * @deadline_ns: absolute.
 * @out:         set only on success; the caller owns one loan and ends it with far_release().
 *
 * Thread:  any. Blocks until @deadline_ns.
 * Returns: 0, or -ENOENT: no tier holds the key; -EHOSTDOWN: a donor that may hold it is down;
 *          -ETIMEDOUT: nothing is held, late DMA lands in our quarantine; -EBUSY: it is being
 *          written by somebody; -ESTALE, -EBADMSG, -EIO: it changed or failed while it was read, a
 *          miss; -ENOMEM; -E2BIG: too many prefetches are live.
 */
FAR_API int far_get(struct far_client *client, const struct far_key *key, uint64_t deadline_ns,
		    struct far_block **out);

/* The bytes of a block: valid, and the same, until its loan ends; a device address where L1 lies on a
 * GPU. Thread: any. */
FAR_API const void *far_block_data(const struct far_block *block);
/* Where a reserved block is filled; NULL for one that is readable. Thread: any. */
FAR_API void *far_block_buffer(struct far_block *block);
FAR_API uint32_t far_block_size(const struct far_block *block);

/* Ends a reader's loan; NULL is allowed. Thread: any. */
FAR_API void far_release(struct far_block *block);

/* ---- prefetching ---- */

#define FAR_PREFETCH_WARM_ONLY 1u /* make blocks resident in L1, lock none */
/* What this request loads stays in L1, evictable, when its last reader has gone, or goes with him,
 * whatever prefetch.policy says. What was in L1 before is left as it is. One of the two. */
#define FAR_PREFETCH_RETAIN 2u
#define FAR_PREFETCH_LET_GO 4u /* not with WARM_ONLY, whose blocks stay */
/* For benchmarks: nothing is served that L1 has already. What nobody holds of it is deleted and loaded
 * anew; what somebody holds is a miss, -EBUSY. Not with windows. */
#define FAR_PREFETCH_PAST_L1 8u
/* The caller calls far_prefetch_wait() next. Nobody is woken for this request then: it may not begin, and
 * even its deadline may not end it, before somebody waits for it, cancels it or releases it. Saves two
 * wake-ups over shm; elsewhere the same as without. */
#define FAR_PREFETCH_WAIT_FOLLOWS 16u

/* Which of the keys that can be had are kept. */
#define FAR_TRIM_PREFIX 0u /* the run from the first key to the first gap */
#define FAR_TRIM_ALL    1u /* all, whatever is missing between them (LMCache: segmented, sparse) */

/* Zero in any field but the first two takes its default. */
struct far_prefetch_options {
	size_t size_bytes;     /* sizeof(struct far_prefetch_options) */
	uint64_t deadline_ns;  /* absolute; required */
	uint32_t flags;        /* FAR_PREFETCH_* */
	const uint32_t *sizes; /* NULL, or the length expected per key (another one is a miss) */
	uint32_t trim;         /* FAR_TRIM_* */
	/* Threads that each release the handle once; the blocks are held until the last has. 0: 1.
	 * (Readers in other processes have sessions of their own.) */
	uint32_t readers;
	/*
	 * @groups > 0: the keys are the cells of a model with sliding windows: a chunk of tokens is one
	 * block per group and rank, the cell of (chunk, group, rank) is key (chunk * groups + group) *
	 * ranks + rank. Group g needs all chunks of a prefix (windows[g] <= 0: full attention) or the
	 * last windows[g] of them. The longest prefix of chunks that can be served is chosen, and only
	 * the cells that it needs are loaded and kept; with FAR_TRIM_PREFIX.
	 */
	uint32_t groups;
	uint32_t ranks;              /* 1.. */
	const int32_t *windows;      /* [groups]; borrowed for the call */
	struct far_session *session; /* NULL, or who owns the loans: far_session_open() */
};

/**
 * far_prefetch - finds the longest prefix of @keys that some tier holds and makes it readable in
 * L1.
 *
 * @keys:    in order; copied. The prefix ends at the first key that cannot be had.
 * @count:   1..the client's prefetch.keys (default 4096).
 * @out:     set only on success; owned: far_prefetch_release().
 *
 * Blocks of the prefix that are in L1 are locked before this returns (not with windows or PAST_L1);
 * the rest moves in windows, each readable as soon as it has flipped. Locks on the blocks are held
 * until release. How many are found is known before they are read: far_prefetch_status.found_count.
 *
 * Thread:  any. Does not block.
 * Returns: 0, or -EINVAL (options that contradict each other; @count is not chunks * groups * ranks),
 *          -E2BIG (too many keys, or too many prefetches live), -ENOMEM; -EBADF: its session has
 *          ended.
 */
FAR_API int far_prefetch(struct far_client *client, const struct far_key *keys, size_t count,
			 const struct far_prefetch_options *options,
			 struct far_prefetch_handle **out);

struct far_prefetch_status {
	size_t size_bytes; /* sizeof(struct far_prefetch_status); set by the caller */
	uint64_t request_id;
	uint64_t l1_prefix_hit_count; /* keys from the first that were in L1 at submit */
	uint64_t total_requested_keys;
	uint64_t prefix_count; /* keys from the first that are readable now */
	uint32_t ended;        /* 1: prefix_count is final */
	int32_t rc;            /* when ended: 0, -ETIMEDOUT (by its deadline), -ECANCELED */
	int32_t gap_rc;        /* when ended short: why the key at prefix_count is missing */
	uint32_t reserved;
	uint64_t l2_bytes;   /* when ended: loaded from donors, of what is readable */
	uint64_t latency_ns; /* when ended: submit to readable */
	/* The run of keys from the first that some tier holds, known before they are loaded. An
	 * estimate, as loads may still fail; it only grows. With windows: 0 until it is all cells of
	 * the chunks that can be served. */
	uint64_t found_count;
	uint64_t readable_count; /* keys that are readable now, or resident (WARM_ONLY) */
	uint32_t found_is_final; /* 1: found_count grows no more */
	uint32_t chunk_count;    /* when ended, with windows: chunks that are served */
};

/* The status now. Thread: any. Never blocks. */
FAR_API void far_prefetch_poll(struct far_prefetch_handle *handle,
			       struct far_prefetch_status *status);

/* Waits for the end. Thread: any. Blocks until @deadline_ns. Returns 0 (ended; see status), or
 * -ETIMEDOUT: it goes on. @status: NULL, or filled either way. Over shm a caller does the work of the
 * client's thread itself while that sleeps (prefetch.wait, docs/configuration.md). */
FAR_API int far_prefetch_wait(struct far_prefetch_handle *handle, uint64_t deadline_ns,
			      struct far_prefetch_status *status);

/* A descriptor that is readable once the prefetch has ended; the handle owns it. Thread: any.
 * Returns it, or -EMFILE. */
FAR_API int far_prefetch_event_fd(struct far_prefetch_handle *handle);

/* Gives up: the prefetch ends with -ECANCELED and holds nothing; loads that are on their way land
 * in buffers that nobody else has. NULL is allowed. Thread: any. Does not block. */
FAR_API void far_prefetch_cancel(struct far_prefetch_handle *handle);

/* One readable block: any of the prefix, also before the prefetch has ended; when it has, any that is
 * readable. @data stays valid until release or cancel. Thread: any.
 * Returns: 0; -EAGAIN: not decided yet; -ENOENT and the like: why the key is not readable; -ECANCELED:
 *          it is behind the first gap, or out of the windows. */
FAR_API int far_prefetch_block(struct far_prefetch_handle *handle, size_t idx, const void **data,
			       uint32_t *size_bytes);

/* Which keys are readable now, or resident (WARM_ONLY): bit i % 64 of word i / 64 is key i. @words:
 * (bit_count + 63) / 64 of them; all are written, bits beyond the request's keys are 0. Thread: any.
 * Returns: how many bits are set, or -EINVAL: fewer bits than keys. */
FAR_API int64_t far_prefetch_bitmap(struct far_prefetch_handle *handle, uint64_t *words,
				    size_t bit_count);

#define FAR_KEY_PENDING 0u /* not decided yet */
#define FAR_KEY_MISSING 1u
#define FAR_KEY_IN_L1   2u /* it was there */
#define FAR_KEY_LOADED  3u /* a donor had it */

struct far_prefetch_key {
	size_t size_bytes; /* sizeof(struct far_prefetch_key); set by the caller */
	uint32_t state;    /* FAR_KEY_* */
	int32_t rc;        /* missing: why, as far_prefetch_block() */
	uint32_t block_bytes;
	int32_t donor; /* loaded: from which one, as far_donor_status_get() counts; else -1 */
};

/* What became of one key. Thread: any. Returns: 0, or -EINVAL: no such key. */
FAR_API int far_prefetch_key_get(struct far_prefetch_handle *handle, size_t idx,
				 struct far_prefetch_key *key);

/* A reader has done with the handle: with the last of them (far_prefetch_options.readers) every loan of
 * it and the handle end; one that has not ended is cancelled first. NULL is allowed. Thread: any, once
 * per reader. Does not block. */
FAR_API void far_prefetch_release(struct far_prefetch_handle *handle);

/* ---- looking at it ---- */

/* Counters since open. New ones are added at the end; size_bytes says how many the caller knows. */
struct far_stats {
	size_t size_bytes; /* sizeof(struct far_stats); set by the caller */
	uint64_t l1_capacity_bytes, l1_used_bytes, l1_locked_bytes, l1_quarantine_bytes;
	uint64_t l1_block_count, l1_evicted_blocks, l1_evicted_bytes, l1_denied;
	uint64_t prefetches, prefetch_keys, l1_hits, l2_hits, bytes_loaded, loads_joined;
	uint64_t missed_not_found, missed_donor_down, missed_stale, missed_checksum, missed_length;
	uint64_t missed_no_memory, missed_deadline, missed_busy, missed_error, behind_gap;
	uint64_t loads_abandoned, prefetch_deadlines;
	uint64_t blocks_stored, bytes_stored, blocks_had, stores_dropped, stores_failed_down;
	uint64_t stores_failed_full, stores_failed_deadline, stores_failed_other, store_retries;
	uint64_t stores_pending;
	uint64_t stale_rejects, torn_rereads, moved_followed, crc_rejects;
	uint64_t messages_sent, messages_received, touch_notes, donors_lost;
	/* Ahead of need, among those of l1_evicted_*: rounds between the marks, and those that ended
	 * above the low one because the rest was locked. */
	uint64_t l1_evict_rounds, l1_evict_starved, l1_evicted_ahead_blocks, l1_evicted_ahead_bytes;
	uint64_t l1_loans; /* now */
	/* Cells that no prefix that was served needed; answers of prefetch.policy that cannot be. */
	uint64_t keys_out_of_window, prefetch_policy_invalid;
	/* Blocks that the store policy did not admit when they were written, or admitted by their hits
	 * later; that it placed nowhere; that were gone from L1 by then; that L1 gave up for it. */
	uint64_t stores_not_admitted, stores_by_hits, stores_unplaced, stores_gone, stores_let_go;
	/* Copies, one per donor that gets a block: in all; refused as the donor's share of the queue was
	 * full; given to another donor; answers of store.policy that cannot be. */
	uint64_t copies_placed, copies_refused, copies_moved, store_policy_invalid;
	uint64_t
		admit_forgotten; /* keys whose uses had to be forgotten before they were admitted */
	uint64_t store_bytes_pending;
};

/* Thread: any. */
FAR_API void far_stats_get(struct far_client *client, struct far_stats *stats);

/* What the client did to a batch of keys; docs/events.md has a line on each name. */
struct far_event_item {
	const char *name; /* "store.done"; static */
	uint64_t at_ns;   /* far_now_ns() */
	uint64_t request_id;
	uint64_t bytes;
	uint64_t took_ns; /* since what this ends began; 0: not known, or it ends nothing */
	uint32_t keys;
	uint32_t session;
	int32_t why;   /* 0, a negative errno, or what docs/events.md says */
	int32_t donor; /* as far_donor_status_get() counts; -1: none */
};

/**
 * far_events_read - copies what the client recorded since, in the order of its recording.
 *
 * @cursor: in and out: where to go on; 0 begins with the oldest that is kept.
 * @max:    the room in @events.
 * @lost:   out: how many were overwritten before they were read; NULL is allowed.
 *
 * Thread:  any, each with its own cursor. Does not block.
 * Returns: how many were copied, 0 at the end; -EOPNOTSUPP: `events` is 0; -EINVAL.
 */
FAR_API int64_t far_events_read(struct far_client *client, uint64_t *cursor,
				struct far_event_item *events, size_t max, uint64_t *lost);

/* Of one kind of event since open: exact, also where events were lost. */
struct far_event_counts {
	size_t size_bytes; /* sizeof(struct far_event_counts); set by the caller */
	const char *name;  /* static */
	const char *text;  /* one sentence; static */
	uint64_t events, keys, bytes;
};

/* @kind: 0.. in the order of docs/events.md. Thread: any. Returns 0; -ENOENT: there are no more kinds;
 * -EOPNOTSUPP: `events` is 0; -EINVAL. */
FAR_API int far_event_counts_get(struct far_client *client, size_t kind,
				 struct far_event_counts *counts);

struct far_donor_status {
	size_t size_bytes; /* sizeof(struct far_donor_status); set by the caller */
	char name[64];
	char state[16]; /* "connecting", "up", "down", "refused"; "draining": being removed */
	char text[448]; /* one line for people: path, peer, reason */
	uint64_t epoch;
	uint32_t one_sided; /* 1: lookups and reads cost the donor nothing */
	int32_t rc;         /* why it is not up */
	uint64_t lookups, lookup_hits, load_bytes, store_bytes, messages_sent, messages_received;
	uint64_t times_down;
	/* The donor's own counters (farpool status): values in the order of wire/status.def. */
	uint64_t donor_value_count;
	uint64_t donor_values[64];
	char transport[16]; /* that carries its bytes now, or is being tried */
	char why[256];      /* why that one, while it is up */
	/* How full it is: 0, all of it, where usage_known is 0 (it did not answer). */
	uint32_t usage_known;
	uint32_t reserved;
	uint64_t capacity_bytes;
	uint64_t used_bytes; /* with what rounding and half-filled lanes take */
	uint64_t block_count;
	uint64_t block_bytes; /* their lengths */
	char memory_path[16]; /* with a GPU's L1: "direct", "mapped", "staged"; else "" */
};

/**
 * far_donor_status_get - one donor of the list, with its own counters if it answers.
 *
 * @idx: its position, 0..63. Those of the options keep theirs, 0..donor_count-1, until they are
 *       removed; a donor that is added takes the lowest free one.
 *
 * Thread:  any. Blocks until @deadline_ns for the donor's counters.
 * Returns: 0 (donor_value_count is 0 if it did not answer), or -ENOENT: nobody has that position.
 */
FAR_API int far_donor_status_get(struct far_client *client, size_t idx, uint64_t deadline_ns,
				 struct far_donor_status *status);

/* The same by name. -ENOENT: there is no such donor. Thread: any. Blocks as above. */
FAR_API int far_donor_status_find(struct far_client *client, const char *name, uint64_t deadline_ns,
				  struct far_donor_status *status);

#define FAR_LIST_BLOCKS_MAX 4096u /* in one page */

struct far_listed {
	struct far_key key;
	uint32_t block_bytes;
	uint32_t group; /* as its writer tagged it */
};

/**
 * far_list - a page of what a donor holds.
 *
 * @idx:    of the donor, as far_donor_status_get().
 * @cursor: in and out: 0 begins; 0 behind a page: that was all. It is the donor's, and valid while its
 *          epoch lasts.
 * @blocks: @max of them, 1..FAR_LIST_BLOCKS_MAX; written on success alone.
 * @count:  out: how many were. A page may be short, or empty, and not the last.
 *
 * What is there all the time is listed once; what comes or goes meanwhile, perhaps.
 *
 * Thread:  any. Blocks until @deadline_ns.
 * Returns: 0, or (the cursor is as it was) -ENOENT: no such donor; -ESTALE: the donor began a new life:
 *          begin anew; -EHOSTDOWN; -ETIMEDOUT; -EAGAIN, -E2BIG: too many at once; -EINVAL; -ENOMEM.
 */
FAR_API int far_list(struct far_client *client, size_t idx, uint64_t *cursor,
		     struct far_listed *blocks, size_t max, size_t *count, uint64_t deadline_ns);

/* ---- readers in other processes ---- */

/**
 * far_client_l1_fd - the arena, for another process to map.
 *
 * @size_bytes: NULL, or where the length goes that can be mapped.
 *
 * Pass it on with SCM_RIGHTS. The receiver maps it PROT_READ, MAP_SHARED; a writable mapping and
 * write() are refused by the kernel, as it is sealed (F_SEAL_FUTURE_WRITE), and it never shrinks.
 * What the receiver may rely on are the bytes of blocks that are lent: by a session, or as long as
 * the process of the client holds them for it. All of L1 is there to be read, though: hand it to
 * processes that may see all of it.
 *
 * Of an L1 on a GPU it is what cuMemImportFromShareableHandle takes (a POSIX descriptor, of the whole
 * allocation). Nothing there is sealed: the importer can write, and what it overwrites is served.
 *
 * Thread:  any.
 * Returns: the descriptor, which is the client's: not to be closed; -EOPNOTSUPP: there is none (memory
 *          of the caller's own, or a GPU that exports nothing); or -EPERM.
 */
FAR_API int far_client_l1_fd(struct far_client *client, uint64_t *size_bytes);

/* Where a block begins in the arena, in bytes. Thread: any. */
FAR_API uint64_t far_block_offset(const struct far_block *block);

/* The same for one readable block of a prefetch. Thread: any. Returns as far_prefetch_block(). */
FAR_API int far_prefetch_offset(struct far_prefetch_handle *handle, size_t idx,
				uint64_t *offset_bytes, uint32_t *size_bytes);

/**
 * far_session_open - somebody whose loans end together.
 *
 * @name: for the log, which names a session that holds loans longer than lock_warn; copied.
 * @pid:  0, or the process that reads: when it is gone, which its pidfd proves, the session ends by
 *        itself. It never ends by time. The caller makes sure that it is still the right process:
 *        that is its own child, or a peer whose socket is open (SO_PEERCRED).
 * @out:  set only on success; owned: far_session_close().
 *
 * Prefetches with far_prefetch_options.session are its own: their locks are held until they are
 * released or the session ends, whatever comes first.
 *
 * Thread:  any.
 * Returns: 0, or -EINVAL; -ENOENT: there is no such process; -E2BIG: about 250 sessions are open;
 *          -EMFILE, -ENOMEM.
 */
FAR_API int far_session_open(struct far_client *client, const char *name, int pid,
			     struct far_session **out);

/**
 * far_session_close - ends every loan of the session, and it; nobody else's loan is touched.
 *
 * @session: NULL is allowed. Not used afterwards, and no prefetch with it is in progress of being
 *           made. To be called too when its process is gone.
 *
 * Prefetches of it that have not ended are cancelled. From the end of a session on, handles of it
 * answer -EBADF to far_prefetch_block(), may be waited for and polled, and are to be released as
 * ever. far_client_close() closes sessions that are open.
 *
 * Thread:  any, once. Blocks for at most 2 s, usually for a turn of the client's thread.
 */
FAR_API void far_session_close(struct far_session *session);

/* ---- donors that come and go ---- */

/**
 * far_donor_add - one more donor, from now on.
 *
 * @options: borrowed for the call, strings copied.
 * @error:   NULL, or where one line goes: what is wrong with which field, and the next step.
 *
 * It is connected in the background and gets its share of new blocks; what was stored before stays
 * where it is. The first donor of a transport that the client has not used so far opens it, and the
 * client's thread moves nothing meanwhile (registering L1 takes about 0.3 s per GiB over RDMA). A
 * transport that is open stays on the network interfaces that it chose then.
 *
 * Thread:  any, several at once too. Blocks for at most 5 s.
 * Returns: 0, or
 *          -EINVAL  as far_client_open();
 *          -EEXIST  the client has a donor of that name, perhaps one that is being removed;
 *          -E2BIG   64 donors are the most, or too many calls are waiting;
 *          -ENODEV  its transport, asked for in the options, is not to be had here;
 *          -ENOMEM;
 *          -ETIMEDOUT the client's thread was busy for 5 s: it may still be added, see
 *                   far_donor_status_find().
 */
FAR_API int far_donor_add(struct far_client *client, const struct far_donor_options *options,
			  char *error, size_t error_bytes);

/**
 * far_donor_remove - lets a donor go: it gets nothing new, what it has been given ends, its link is
 * closed.
 *
 * Until half of the time to @deadline_ns loads and stores that are on their way to it may end by
 * themselves; then they end as if it had gone down: prefetches miss, stores are tried elsewhere or
 * counted as failed. The donor keeps its blocks, and has them when it is added again.
 *
 * Thread:  any, several at once too (two of one name both get 0). Blocks until @deadline_ns.
 * Returns: 0: it is gone, and its name and position are free;
 *          -ENOENT: there is none of that name;
 *          -ETIMEDOUT: it holds something still, gets nothing new, and is "draining" until it is
 *          removed by another call;
 *          -EINVAL, -ENOMEM, -E2BIG: nothing was asked.
 */
FAR_API int far_donor_remove(struct far_client *client, const char *name, uint64_t deadline_ns);

#ifdef __cplusplus
}
#endif

#endif
