/* memory_priv.h - what the files of the memory adapter share: what it holds, and where. */
#ifndef FAR_L2_MEMORY_MEMORY_PRIV_H
#define FAR_L2_MEMORY_MEMORY_PRIV_H

#include "base/list.h"
#include "l2/memory/memory.h"

#define UNIT_NONE        UINT32_MAX
#define ENTRY_NONE       UINT32_MAX
#define UNIT_BYTES_SMALL 64U
#define USAGE_ASKS       8U

/* A key that is held or locked. Its bytes lie in a chain of units. */
struct entry {
	struct far_list node; /* FIFO of held blocks, or the free entries; alone when only locked */
	struct far_key key;
	uint32_t hash_next;
	uint32_t unit_first; /* UNIT_NONE: locked, but the block is gone */
	uint32_t size_bytes;
	uint32_t group;
	uint32_t locks;
};

/* A question that was asked and not answered. */
struct usage_ask {
	far_l2_usage_fn *done; /* NULL: free */
	void *arg;
};

struct memory {
	struct far_l2 l2;
	struct far_clock *clock; /* borrowed */
	uint64_t latency_ns;
	uint64_t bytes_per_s;
	uint64_t wire_free_ns; /* the simulated wire is busy until then */
	uint8_t *units;        /* owned, unit_count * unit_bytes */
	uint32_t *unit_next;   /* owned: chains of the blocks, and of the free units */
	uint32_t unit_bytes;
	uint32_t unit_count;
	uint32_t unit_free_first;
	uint32_t units_free;
	struct entry *entries; /* owned */
	uint32_t entry_count;
	uint32_t *buckets; /* owned; a power of two of them */
	uint32_t bucket_mask;
	struct far_list entries_free;
	struct far_list fifo;  /* held blocks, oldest first */
	struct far_list tasks; /* in order of submission */
	uint32_t tasks_live;
	uint64_t block_bytes; /* held */
	struct far_list listings;
	struct usage_ask usage_asks[USAGE_ASKS];
	bool held[4];
	bool down;
	bool quiescing;
	bool ticking;
	uint32_t fail_loads;
	int fail_loads_rc;
	struct far_l2_memory_counts counts;
	struct far_l2_status status; /* counters only */
};

static inline uint32_t *
bucket_of(const struct memory *mem, const struct far_key *key)
{
	return &mem->buckets[(uint32_t)far_key_lo(key) & mem->bucket_mask];
}

static inline struct entry *
entry_find(const struct memory *mem, const struct far_key *key)
{
	uint32_t at = *bucket_of(mem, key);

	while (at != ENTRY_NONE && !far_key_equal(&mem->entries[at].key, key))
		at = mem->entries[at].hash_next;
	return at == ENTRY_NONE ? NULL : &mem->entries[at];
}

static inline bool
entry_held(const struct entry *entry)
{
	return entry != NULL && entry->unit_first != UNIT_NONE;
}

static inline uint64_t
item_bytes(const struct far_l2_item *item)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < item->piece_count; i++)
		bytes += item->pieces[i].size_bytes;
	return bytes;
}

/* items.c */
/* Does what the task asks for; its items have their results after it. */
void far_l2_memory_run(struct memory *mem, struct far_l2_task *task);
void far_l2_memory_unlock(struct memory *mem, const struct far_key *keys, size_t count);
/* Frees the bytes; locks stay, so that their holders' unlocks find them. */
void far_l2_memory_block_free(struct memory *mem, struct entry *entry);

#endif
