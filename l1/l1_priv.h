/* l1_priv.h - what the files of l1 share: blocks, loans, extents, and who guards which field. */
#ifndef FAR_L1_L1_PRIV_H
#define FAR_L1_L1_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/mutant.h"
#include "l1/l1.h"

/*
 * Two kinds of work. What happens per read (lock, unlock, flip, touch) goes through the atomic word
 * of the block and of the loan and takes no lock. What changes the structure (which key has which
 * memory: insertion, removal, the arena, the eviction order) happens under far_l1.lock.
 * Lock ranks: check_lock, session gates, lock, stripe.lock. None is held while a listener runs.
 */

#define L1_NIL           0u /* index 0 of blocks and extents is used by nobody */
#define L1_RETRY         UINT32_MAX
#define L1_TAKEN         UINT32_MAX /* an extent that is not free and no block's: see arena.c */
#define L1_SLICE         128u /* keys worked on together, so that their cache misses overlap */
#define L1_FIND_STEPS    64u  /* along a chain, before the lock is taken */
#define L1_EVENTS        64u  /* told to a listener in one call */
#define L1_VICTIMS       64u  /* claimed together, so that their cache misses overlap */
#define L1_UNFILED       64u  /* blocks that wait for their place in the eviction order */
#define L1_TELLERS       64U  /* threads whose blocks that went have records still */
#define L1_LISTENERS_MAX 4u
#define L1_NAME_BYTES    48u

/* --- A block's word: state, flags, readers, generation. --- */
#define WORD_STATE_MASK   3ull
#define WORD_FREE         0ull /* a record without a block */
#define WORD_WRITE        1ull /* write-locked */
#define WORD_READY        2ull /* readable; read-locked while readers > 0 */
#define WORD_CLAIMED      3ull /* an evictor or delete has it; decided before lock is given back */
#define WORD_DOOMED       4ull /* gone for everybody but those who hold loans; see delete.c */
#define WORD_PINNED       8ull /* a reserve_write in progress answered "present" for it: spare it */
#define WORD_TEMPORARY    16ull /* the end of its last read loan dooms it, in the same step */
#define WORD_USES_SHIFT   5     /* uses since it is queued, 3 at most: for evict_s3fifo.c */
#define WORD_USES_MASK    (3ull << WORD_USES_SHIFT)
#define WORD_READER_SHIFT 7
#define WORD_READERS_MAX  ((1ull << 25) - 1)
#define WORD_GEN_SHIFT    32

static inline uint64_t
word_state(uint64_t word)
{
	return word & WORD_STATE_MASK;
}

static inline uint64_t
word_uses(uint64_t word)
{
	return (word & WORD_USES_MASK) >> WORD_USES_SHIFT;
}

/* One use more, three at most. */
static inline uint64_t
word_used(uint64_t word)
{
	return word_uses(word) == 3 ? word : word + (1ull << WORD_USES_SHIFT);
}

static inline uint64_t
word_readers(uint64_t word)
{
	return (word >> WORD_READER_SHIFT) & WORD_READERS_MAX;
}

static inline uint32_t
word_gen(uint64_t word)
{
	return (uint32_t)(word >> WORD_GEN_SHIFT);
}

/* Nobody would notice if it went. */
static inline bool
word_evictable(uint64_t word)
{
	word &= ~(WORD_TEMPORARY | WORD_USES_MASK);
	if (FAR_MUTANT(LOCK_ENDED) && word_state(word) == WORD_READY)
		word &= ~(WORD_READERS_MAX << WORD_READER_SHIFT);
	return (word & ~(UINT64_MAX << WORD_GEN_SHIFT)) == WORD_READY;
}

/* One cache line. Fields without a mark are written under far_l1.lock before the word makes the block
 * reachable, and are constant while it is. */
struct l1_block {
	_Atomic uint64_t word;
	_Atomic uint64_t key[2];
	_Atomic uint64_t touched; /* tick of the last use; any thread, no order needed */
	uint64_t queued; /* lock: where it is in the eviction order, as the policy has it */
	_Atomic uint32_t size_bytes;
	_Atomic uint32_t next; /* lock for writing: the bucket's chain */
	uint32_t unit;         /* where in the arena, in units of align_bytes */
	uint32_t extent;       /* lock */
	uint32_t queue_prev;   /* lock: eviction order; also free list and lists of victims */
	uint32_t queue_next;
};
_Static_assert(sizeof(struct l1_block) == 64, "a block's record is one cache line");

/* --- A loan's word: kind, counts, generation. A handle is {generation, index}. --- */
#define LOAN_IDX_BITS    26
#define LOAN_IDX_MASK    ((1ull << LOAN_IDX_BITS) - 1)
#define LOAN_KIND_MASK   3ull
#define LOAN_FREE        0ull
#define LOAN_WRITE       1ull
#define LOAN_READ        2ull
#define LOAN_BUSY        3ull /* somebody is ending or flipping it */
#define LOAN_COUNT_SHIFT 2
#define LOAN_COUNT_MAX   UINT16_MAX
#define LOAN_GEN_ONE     (1ull << LOAN_IDX_BITS)

static inline uint64_t
loan_counts(uint64_t word)
{
	return (word >> LOAN_COUNT_SHIFT) & LOAN_COUNT_MAX;
}

struct l1_loan {
	_Atomic uint64_t word;
	_Atomic uint64_t since_ns;
	_Atomic uint32_t block;
	_Atomic uint32_t session;
	_Atomic uint32_t reported; /* 1: named by report_overdue */
	uint32_t unused;
};
_Static_assert(sizeof(struct l1_loan) == 32, "two loans share a cache line");

/* A part of the loan records, and of the counters that every batch adds to. */
struct l1_stripe {
	_Alignas(64) pthread_mutex_t lock;
	uint32_t *free; /* a stack of indices, the last used on top */
	uint32_t free_count;
	uint32_t first;
	uint32_t end;
	_Atomic uint32_t fresh; /* [fresh, end) was never used; written under lock */
	_Alignas(64) _Atomic int64_t locked_bytes; /* of the sum over stripes */
	_Atomic uint64_t opened;                   /* batches in which a lock ended */
	_Atomic uint64_t denied;
};

/* Tells a lock-free look-up that a record left a chain of this shard while it looked. */
struct l1_shard {
	_Alignas(64) _Atomic uint64_t version;
};

struct l1_session {
	_Alignas(64) _Atomic uint32_t id; /* 0: closed */
	_Atomic uint32_t calls;           /* in progress */
	_Atomic uint32_t closing;         /* 1: closed, and still telling */
	_Atomic int64_t loan_count;
	uint16_t gen;             /* lock */
	char name[L1_NAME_BYTES]; /* lock */
	uint64_t overdue_count;   /* lock: filled by report_overdue */
	uint64_t overdue_oldest_ns;
};

/* --- The arena: extents in address order, free ones also in tries by size. --- */
struct l1_extent {
	uint32_t unit;
	uint32_t unit_count;
	uint32_t prev; /* neighbours by address */
	uint32_t next;
	uint32_t block; /* L1_NIL: free; L1_TAKEN: not free, and no block's */
	/* Free ones only, but for an open one. */
	uint32_t child[2];
	uint32_t
		parent; /* L1_NIL: not in a trie itself, but in the list of one that is; or a root */
	uint32_t peer_prev;
	uint32_t peer_next; /* others of this size, circular */
};

struct l1_arena {
	struct l1_extent *extents;
	uint32_t extent_fresh; /* records from here on were never used */
	uint32_t extent_free;  /* list through next */
	uint32_t extent_end;
	uint32_t first;      /* lowest address */
	uint32_t unit_count; /* walls included */
	uint32_t wall_count;
	uint32_t free_units;
	uint32_t roots[32];
	uint32_t root_map; /* bit b: roots[b] is set */
	uint32_t open;     /* a free one that is in no trie; L1_NIL: none */
	uint32_t open_for; /* the length that was cut off it last */
};

/* --- The eviction order: evict.c, and a file per policy. All under the lock. --- */
#define L1_WHEEL_BITS   12u /* of the tick, on each level */
#define L1_WHEEL_SLOTS  (1u << L1_WHEEL_BITS)
#define L1_WHEEL_LEVELS ((64u + L1_WHEEL_BITS - 1) / L1_WHEEL_BITS)
#define L1_WHEEL_WAYS   8u /* lists of one slot, but on level 0 */
#define L1_WHEEL_LISTS  (L1_WHEEL_SLOTS + (L1_WHEEL_LEVELS - 1) * L1_WHEEL_SLOTS * L1_WHEEL_WAYS)
#define L1_QUEUE_HEAD   0x80000000u /* set in queue_prev of the first block of a list */

/* One policy: which blocks go first. The table's blocks are in its order from their reservation on,
 * but for claimed ones; those in queue_prev are L1_NIL. */
struct l1_evict_ops {
	const char *name;
	/* Each use is counted in the block's word: WORD_USES. */
	bool counts_uses;
	/* Memory for its own: 0, -ENOMEM. */
	int (*init)(struct far_l1 *l1);
	/* Takes a half-built one. */
	void (*fini)(struct far_l1 *l1);
	/* New blocks, each under the tick of its last use, in the order in which they were made; counts them. */
	void (*add)(struct far_l1 *l1, const uint32_t *idxs, uint32_t count);
	void (*remove)(struct far_l1 *l1, uint32_t idx);
	/* The next to go that nobody holds, claimed: up to @max of them, 0: there is none. Locked ones
	 * stay in the order. */
	uint32_t (*claim)(struct far_l1 *l1, uint32_t *idxs_out, uint32_t max);
	/* Back into the order, near to where it was. */
	void (*unclaim)(struct far_l1 *l1, uint32_t idx);
	/* A claimed block is evicted indeed. */
	void (*evicted)(struct far_l1 *l1, uint32_t idx);
	/* 0 (the next to go) .. 48 */
	uint32_t (*worth)(const struct far_l1 *l1, uint32_t idx);
	/* Asserts its own invariants. */
	void (*check)(const struct far_l1 *l1);
};

extern const struct l1_evict_ops far_l1_evict_lru;
extern const struct l1_evict_ops far_l1_evict_s3fifo;

struct l1_wheel {
	uint64_t last;    /* nothing is filed under an older tick */
	uint32_t cascade; /* a slot whose blocks are being filed anew; UINT32_MAX: none */
	uint64_t maps[L1_WHEEL_LEVELS][L1_WHEEL_SLOTS / 64]; /* slots that have blocks */
	uint64_t words[L1_WHEEL_LEVELS];                     /* words of the map that are not 0 */
	uint32_t add_way;                                    /* of the next block that is filed */
	uint32_t heads[L1_WHEEL_LISTS];
};

struct l1_fifo {
	uint32_t head; /* the youngest */
	uint32_t tail;
	uint32_t count;
	uint32_t added; /* the last added, if it has not left; L1_NIL */
	uint64_t added_tick;
	uint64_t units;
};

struct l1_s3fifo {
	struct l1_fifo fifos[2];
	uint64_t *ghosts; /* sets of keys that were evicted; owned */
	uint64_t ghost_mask;
	uint32_t ghost_seq;
};

struct l1_queue {
	const struct l1_evict_ops *ops;
	uint32_t count;
	/* Blocks that a call has made and that are in no order yet: the policy gets them together, before it is asked
	 * for victims and before the lock is given back. */
	uint32_t unfiled_count;
	uint32_t unfiled[L1_UNFILED];
	union {
		struct l1_wheel wheel;
		struct l1_s3fifo s3fifo;
	};
};

/* Orders uses; time does not. Every batch writes it: a line of its own. */
struct l1_tick {
	_Alignas(64) _Atomic uint64_t last;
};

struct l1_region {
	uint8_t *base; /* of its first unit */
	uint64_t offset_bytes;
	uint32_t unit_first;
};

struct far_l1 {
	struct l1_tick ticks;
	struct far_l1_config config; /* constant, defaults filled in */
	struct l1_region regions[FAR_L1_REGIONS_MAX];
	uint32_t region_count;
	uint32_t region_units_max; /* of the longest */
	uint32_t align_shift;
	uint32_t blocks_max;
	uint32_t block_end;
	uint32_t loans_max;
	uint32_t stripe_shift;
	uint32_t stripe_count;
	uint64_t bucket_mask;
	struct l1_block *blocks;
	_Atomic uint32_t *buckets;
	struct l1_shard *shards;
	struct l1_loan *loans;
	uint32_t *loans_free;
	struct l1_stripe *stripes;
	struct l1_session *sessions;
	struct far_l1_listener listeners[L1_LISTENERS_MAX];
	uint32_t listener_count;
	int holder; /* the listener with hold_written; -1: none */
	bool told_written, told_prefetched, told_deleted, told_accessed;
	bool counts_uses;     /* the policy's; here, where nobody writes */
	uint32_t shard_shift; /* bucket >> this is the shard */

	_Atomic uint32_t stopped; /* far_l1_check wants everybody out */
	pthread_mutex_t check_lock;

	pthread_mutex_t lock; /* guards all below, and the fields marked with it */
	struct l1_arena arena;
	struct l1_queue queue;
	uint32_t session_next; /* slots are used in turn, so that a number comes back late */
	uint32_t block_fresh;
	uint32_t block_free;    /* list through queue_next */
	uint32_t table_count;   /* blocks in the table */
	uint32_t record_count;  /* those and the doomed ones */
	uint32_t refused_units; /* no run is that long, while opened stays; 0: not known */
	uint64_t quarantine_bytes;
	uint64_t evicted_blocks;
	uint64_t evicted_bytes;
	uint64_t denied;
	uint64_t unpinned;       /* pins that ended */
	uint64_t refused_opened; /* see place.c */
	/* Of the reserve_write that holds the lock. */
	uint32_t summed;        /* 1: the sums over all stripes are known: see place.c */
	uint64_t lending_bytes; /* lent, and not in locked_bytes yet */
	uint64_t sum_opened;
	int64_t sum_locked_bytes;
};

/* Events on their way to listeners, gathered while no listener may run. Large, mostly for nobody: its
 * count alone is cleared. */
struct l1_news {
	size_t count;
	struct far_l1_event events[L1_EVENTS];
};

/* Blocks that went and whose records wait until that was told: a list through queue_next. */
struct l1_dead {
	uint32_t head;
	uint32_t count;
	enum far_l1_why why; /* of all of them */
	/* Evicted by its call, those that were told already included. */
	uint64_t evicted;
	uint64_t evicted_bytes;
};

/* Blocks that are claimed for a call that holds the lock, in the order in which they go: those that it does
 * not need after all are returned before it gives the lock back, or claims in another way. Large: next and
 * count alone are cleared. */
struct l1_victims {
	uint32_t next;
	uint32_t count;
	uint32_t idxs[L1_VICTIMS];
	uint64_t buckets[L1_VICTIMS]; /* of their keys */
};

static inline uint32_t
block_units(const struct far_l1 *l1, uint32_t size_bytes)
{
	return (uint32_t)(((uint64_t)size_bytes + (1ull << l1->align_shift) - 1) >>
			  l1->align_shift);
}

static inline uint64_t
block_footprint(const struct far_l1 *l1, uint32_t size_bytes)
{
	return (uint64_t)block_units(l1, size_bytes) << l1->align_shift;
}

/* Of the arena, by one who knows that the record stays this block's. */
static inline uint32_t
block_units_of(const struct far_l1 *l1, uint32_t idx)
{
	return block_units(l1,
			   atomic_load_explicit(&l1->blocks[idx].size_bytes, memory_order_relaxed));
}

static inline uint64_t
block_bytes(const struct far_l1 *l1, uint32_t idx)
{
	return (uint64_t)block_units_of(l1, idx) << l1->align_shift;
}

static inline const struct l1_region *
region_of(const struct far_l1 *l1, uint32_t unit)
{
	uint32_t i = l1->region_count - 1;

	while (unit < l1->regions[i].unit_first)
		i--;
	return &l1->regions[i];
}

static inline uint8_t *
block_addr(const struct far_l1 *l1, const struct l1_block *block)
{
	const struct l1_region *region = region_of(l1, block->unit);

	return region->base + ((uint64_t)(block->unit - region->unit_first) << l1->align_shift);
}

/* Where it lies, into its grant. */
static inline void
block_grant(const struct far_l1 *l1, const struct l1_block *block, struct far_l1_grant *grant)
{
	const struct l1_region *region = region_of(l1, block->unit);
	uint64_t at = (uint64_t)(block->unit - region->unit_first) << l1->align_shift;

	grant->addr = region->base + at;
	grant->offset_bytes = region->offset_bytes + at;
}

static inline uint64_t
key_hash(const struct far_key *key)
{
	/* Keys are digests already; the mix is for callers (tests) whose keys are not. */
	uint64_t h = (far_key_lo(key) ^ (far_key_hi(key) * 0x9e3779b97f4a7c15ULL));

	h = (h ^ (h >> 32)) * 0xbf58476d1ce4e5b9ULL;
	return h ^ (h >> 29);
}

static inline uint64_t
bucket_of(const struct far_l1 *l1, uint64_t hash)
{
	return hash & l1->bucket_mask;
}

static inline struct l1_stripe *
stripe_of_session(const struct far_l1 *l1, far_l1_session session)
{
	return &l1->stripes[session % l1->stripe_count];
}

/* A function that does nothing but prefetch is pure to gcc, which drops calls of those: inlined before it
 * finds that out. */
#define L1_PREFETCHES static inline __attribute__((always_inline)) void

L1_PREFETCHES
far_l1_table_prefetch(const struct far_l1 *l1, const struct far_key *key)
{
	__builtin_prefetch(&l1->buckets[bucket_of(l1, key_hash(key))]);
}

/* l1.c: zeroed, cache-line aligned, in huge pages where they can be had: look-ups in large tables miss
 * the TLB otherwise. Not touched before it is used. NULL: no memory. */
void *far_l1_mem_alloc(size_t count, size_t item_bytes);
/* Takes NULL. */
void far_l1_mem_free(void *mem);

static inline void
far_l1_block_key(const struct l1_block *block, struct far_key *out)
{
	uint64_t half[2] = {atomic_load_explicit(&block->key[0], memory_order_relaxed),
			    atomic_load_explicit(&block->key[1], memory_order_relaxed)};

	memcpy(out->bytes, half, sizeof(half));
}

/* arena.c. Lock. */
int far_l1_arena_init(struct l1_arena *arena, uint32_t unit_count, uint32_t block_records);
void far_l1_arena_fini(struct l1_arena *arena);
/* Before anything is taken: another region, which nothing that is taken reaches into from the one before. */
void far_l1_arena_extend(struct l1_arena *arena, uint32_t unit_count);
/* Best fit; L1_NIL: no free run is that long. */
uint32_t far_l1_arena_take(struct l1_arena *arena, uint32_t unit_count, uint32_t block);
/* The longest free one; L1_NIL: none is free. */
uint32_t far_l1_arena_longest(struct l1_arena *arena);
void far_l1_arena_give(struct l1_arena *arena, uint32_t extent);
/* Asserts its own invariants. */
void far_l1_arena_check(const struct l1_arena *arena);

/* table.c */
static inline bool
block_has_key(const struct l1_block *block, const struct far_key *key)
{
	return atomic_load_explicit(&block->key[0], memory_order_acquire) == far_key_lo(key) &&
	       atomic_load_explicit(&block->key[1], memory_order_acquire) == far_key_hi(key);
}

/* table.c has the why. The block under @key and its word; L1_NIL: absent; L1_RETRY: cannot tell without
 * the lock. */
static inline uint32_t
far_l1_table_find(struct far_l1 *l1, const struct far_key *key, uint64_t hash, uint64_t *word_out)
{
	uint64_t bucket = bucket_of(l1, hash);
	struct l1_shard *shard = &l1->shards[bucket >> l1->shard_shift];
	uint64_t version = atomic_load_explicit(&shard->version, memory_order_acquire);
	/* Pairs with the release stores of far_l1_table_add() and far_l1_table_unlink(). */
	uint32_t idx = atomic_load_explicit(&l1->buckets[bucket], memory_order_acquire);

	for (uint32_t steps = 0; idx != L1_NIL; steps++) {
		struct l1_block *block = &l1->blocks[idx];
		uint64_t word = atomic_load_explicit(&block->word, memory_order_acquire);

		if (steps == L1_FIND_STEPS)
			return L1_RETRY;
		if (word_state(word) != WORD_FREE && (word & WORD_DOOMED) == 0 &&
		    block_has_key(block, key)) {
			uint64_t again = atomic_load_explicit(&block->word, memory_order_acquire);

			/* The key was read while the record was this block. */
			if (word_gen(again) != word_gen(word))
				return L1_RETRY;
			*word_out = again;
			return (again & WORD_DOOMED) == 0 ? idx : L1_RETRY;
		}
		idx = atomic_load_explicit(&block->next, memory_order_acquire);
	}
	if (atomic_load_explicit(&shard->version, memory_order_acquire) != version)
		return L1_RETRY;
	return L1_NIL;
}

/* The same for one who holds the lock: never L1_RETRY. In place, and by a call. */
static inline uint32_t
table_look(struct far_l1 *l1, const struct far_key *key, uint64_t hash, uint64_t *word_out)
{
	uint64_t bucket = bucket_of(l1, hash);
	uint32_t idx = atomic_load_explicit(&l1->buckets[bucket], memory_order_relaxed);

	for (; idx != L1_NIL;
	     idx = atomic_load_explicit(&l1->blocks[idx].next, memory_order_relaxed)) {
		if (!block_has_key(&l1->blocks[idx], key))
			continue;
		*word_out = atomic_load_explicit(&l1->blocks[idx].word, memory_order_acquire);
		/* A temporary whose end has come, and which its last reader is about to take out. */
		if ((*word_out & WORD_DOOMED) == 0)
			return idx;
	}
	return L1_NIL;
}

uint32_t far_l1_table_find_locked(struct far_l1 *l1, const struct far_key *key, uint64_t hash,
				  uint64_t *word_out);

/* A block that the table is to have. */
struct l1_entry {
	const struct far_key *key;
	uint64_t hash;
	uint64_t tick;
	uint32_t size_bytes;
};

static inline bool
far_l1_table_has_room(const struct far_l1 *l1)
{
	return l1->record_count < l1->blocks_max &&
	       (l1->block_free != L1_NIL || l1->block_fresh < l1->block_end);
}

/* Lock. Out of its chain and of the eviction order. */
void far_l1_table_unlink(struct far_l1 *l1, uint32_t idx);

/* Nobody's, and of the next generation. */
static inline void
block_word_free(struct l1_block *block)
{
	uint64_t word = atomic_load_explicit(&block->word, memory_order_acquire);

	FAR_ASSERT(word_state(word) != WORD_FREE);
	FAR_ASSERT(word_readers(word) == 0);
	atomic_store_explicit(&block->word, (uint64_t)(word_gen(word) + 1) << WORD_GEN_SHIFT,
			      memory_order_release);
}

/* Lock. Memory back to the arena (unless it was given to another block: extent L1_NIL), the word to
 * free; the record is the caller's until it drops it. */
static inline void
far_l1_block_end(struct far_l1 *l1, uint32_t idx)
{
	struct l1_block *block = &l1->blocks[idx];

	if (block->extent != L1_NIL)
		far_l1_arena_give(&l1->arena, block->extent);
	block->extent = L1_NIL;
	block_word_free(block);
	l1->record_count--;
}

static inline void
far_l1_record_drop(struct far_l1 *l1, uint32_t idx)
{
	l1->blocks[idx].queue_next = l1->block_free;
	l1->block_free = idx;
}

/* evict.c. Lock. */
/* The policy of the configuration: 0, -ENOMEM. */
int far_l1_queue_init(struct far_l1 *l1);
void far_l1_queue_fini(struct far_l1 *l1);

/* Gives the policy what waits for its place. */
static inline void
far_l1_queue_file(struct far_l1 *l1)
{
	uint32_t count = l1->queue.unfiled_count;

	l1->queue.unfiled_count = 0;
	if (count > 0)
		l1->queue.ops->add(l1, l1->queue.unfiled, count);
}

/* A new block, used last at the tick that it has. */
static inline void
far_l1_queue_add(struct far_l1 *l1, uint32_t idx)
{
	struct l1_queue *queue = &l1->queue;

	queue->unfiled[queue->unfiled_count++] = idx;
	if (queue->unfiled_count == L1_UNFILED)
		far_l1_queue_file(l1);
}

static inline void
far_l1_queue_remove(struct far_l1 *l1, uint32_t idx)
{
	if (l1->blocks[idx].queue_prev == L1_NIL)
		return; /* a claimed one */
	l1->queue.ops->remove(l1, idx);
	l1->queue.count--;
}

/* The next block to go that is not locked, claimed and out of the order; L1_NIL: none. */
static inline uint32_t
far_l1_queue_claim(struct far_l1 *l1)
{
	uint32_t idx;

	far_l1_queue_file(l1);
	return l1->queue.ops->claim(l1, &idx, 1) > 0 ? idx : L1_NIL;
}

/* One that was claimed already; L1_NIL: none is left. */
static inline uint32_t
far_l1_victims_take(struct l1_victims *victims)
{
	return victims->next < victims->count ? victims->idxs[victims->next++] : L1_NIL;
}

/* None is left: claims the next ones, up to @max if the policy says so many at once, and takes the first;
 * L1_NIL: none can go. */
uint32_t far_l1_victims_claim(struct far_l1 *l1, struct l1_victims *victims, uint32_t max);
/* Undoes the claims that are left: the last one first, so that the first is the next to go again. */
void far_l1_victims_return(struct far_l1 *l1, struct l1_victims *victims);

/* What it costs to lose this block: 0 (the next to go) .. 48. */
uint32_t far_l1_queue_worth(const struct far_l1 *l1, uint32_t idx);
/* Claims this block, which stays in the order: false if it is locked. */
static inline bool
block_claim(struct l1_block *block)
{
	uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);

	/* Acquire: the last reader's reads are over before the bytes are written again. */
	return word_evictable(word) &&
	       atomic_compare_exchange_strong_explicit(&block->word, &word,
						       (word & ~WORD_STATE_MASK) | WORD_CLAIMED,
						       memory_order_acq_rel, memory_order_relaxed);
}

static inline void
evicted_count(struct far_l1 *l1, struct l1_dead *dead, uint64_t blocks, uint64_t bytes)
{
	l1->evicted_blocks += blocks;
	l1->evicted_bytes += bytes;
	dead->evicted += blocks;
	dead->evicted_bytes += bytes;
}

/* The same, and it is out of the order. */
bool far_l1_block_claim(struct far_l1 *l1, uint32_t idx);
/* Undoes a claim. */
void far_l1_block_unclaim(struct far_l1 *l1, uint32_t idx);
/* A claimed block goes, to @dead if somebody wants to be told. */
void far_l1_block_evict(struct far_l1 *l1, uint32_t idx, struct l1_dead *dead);
void far_l1_queue_check(struct far_l1 *l1);

/* delete.c: the last loan of doomed blocks ended. Temporaries are still in the table: they leave it here,
 * and go to @dead if somebody wants to be told. Takes the lock. */
void far_l1_doomed_free(struct far_l1 *l1, const uint32_t *idxs, size_t count,
			struct l1_dead *dead);

/* place.c. Lock. */
/* Places for the keys of one call. */
struct l1_places {
	uint32_t wanted; /* keys that have none yet: so many victims may be needed */
	bool alike;      /* the last victim was as long as what was asked for */
	struct l1_victims *victims;
	struct l1_dead
		dead; /* what was evicted for them, but for the replaced that are not counted yet */
	uint64_t replaced;
	uint64_t replaced_bytes;
};

/* A write-locked block for one key, in memory of @units; evicts what has to go for it and nothing else.
 * L1_NIL: there is no memory or no record, and nothing was evicted for want of memory. */
uint32_t far_l1_place(struct far_l1 *l1, struct l1_places *places, const struct l1_entry *entry,
		      uint32_t units);

/* loan.c */
int far_l1_loans_init(struct far_l1 *l1);
void far_l1_loans_fini(struct far_l1 *l1);
/* Up to @count free records; returns how many. */
size_t far_l1_loans_take(struct far_l1 *l1, far_l1_session session, uint32_t *idxs, size_t count);
void far_l1_loans_give(struct far_l1 *l1, const uint32_t *idxs, size_t count);

/* record.c: no-ops without a recorder. */
void far_l1_record_add(const struct far_l1 *l1, enum far_record_kind kind, int why,
		       far_l1_session session, uint64_t keys, uint64_t bytes);
/* The granted ones. */
void far_l1_record_granted(const struct far_l1 *l1, enum far_record_kind kind,
			   far_l1_session session, const struct far_l1_grant *grants, size_t count);

/* session.c: every call runs inside the gate of its session. */
/* 0, or -EPERM: not open. */
int far_l1_gate_enter(struct far_l1 *l1, far_l1_session session);
/* The same for one who is inside a gate already: does not wait for far_l1_check. */
int far_l1_gate_enter_nested(struct far_l1 *l1, far_l1_session session);
void far_l1_gate_leave(struct far_l1 *l1, far_l1_session session);
struct l1_session *far_l1_session_at(struct far_l1 *l1, far_l1_session session);
void far_l1_session_count(struct far_l1 *l1, far_l1_session session, int64_t loans);

/* notify.c */
enum l1_news_kind { NEWS_WRITTEN, NEWS_PREFETCHED, NEWS_DELETED, NEWS_ACCESSED };
void far_l1_news_add(struct far_l1 *l1, struct l1_news *news, const struct l1_block *block,
		     uint64_t loan);
/* Tells all listeners, empties @news. No lock, no gate. */
void far_l1_news_tell(struct far_l1 *l1, enum l1_news_kind kind, struct l1_news *news);
/* Tells the end of blocks and drops their records. Takes the lock. */
void far_l1_dead_tell(struct far_l1 *l1, struct l1_dead *dead);

/* write.c: write-locked blocks whose loans are claimed go; shared with session_close. Takes the lock.
 * Returns their bytes, no longer locked. */
uint64_t far_l1_abort_claimed(struct far_l1 *l1, const uint32_t *idxs, size_t count);
/* read.c: @counts readers of a block are gone; true: it is doomed and was the last, caller frees.
 * @tick: 0 takes back a lock that nobody was lent: no use, and no end of a temporary. */
bool far_l1_block_read_unlock(struct far_l1 *l1, uint32_t idx, uint32_t counts, uint64_t tick,
			      uint64_t *unlocked_bytes);

static inline void
locked_bytes_add(struct far_l1 *l1, far_l1_session session, uint64_t add, uint64_t sub)
{
	if (add != sub)
		atomic_fetch_add_explicit(&stripe_of_session(l1, session)->locked_bytes,
					  (int64_t)add - (int64_t)sub, memory_order_relaxed);
	if (sub != 0)
		atomic_fetch_add_explicit(&stripe_of_session(l1, session)->opened, 1,
					  memory_order_relaxed);
}
int64_t far_l1_locked_bytes(struct far_l1 *l1);

/* Ticks for a batch: the first key of a call is the youngest. Keys of one call are a prefix, and a
 * prefix with a hole in it is worth less than a shorter one, so its tail is evicted first. */
static inline uint64_t
ticks_take(struct far_l1 *l1, size_t count)
{
	return atomic_fetch_add_explicit(&l1->ticks.last, count + 1, memory_order_relaxed) + count;
}

#endif
