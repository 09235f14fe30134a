/* l1.c - opening, closing and looking at an L1; the calls on keys are in read.c, write.c, delete.c. */
#include "l1/l1_priv.h"

#include <sys/mman.h>

#include "base/alloc.h"

#define BLOCKS_MAX_LIMIT (1u << 28)
#define LOANS_MAX_LIMIT  (1u << LOAN_IDX_BITS)
#define SHARDS_LIMIT     1024u
#define ALIGN_LIMIT      (2u << 20)

#define HUGE_BYTES (2ull << 20)

void *
far_l1_mem_alloc(size_t count, size_t item_bytes)
{
	size_t bytes = count * item_bytes; /* config_fit() and sizes_fit() bound both */
	size_t align = bytes >= HUGE_BYTES ? HUGE_BYTES : 64;
	uint8_t *raw = far_zalloc(bytes + 64 + align);
	uintptr_t at;

	if (raw == NULL)
		return NULL;
	at = ((uintptr_t)raw + 64 + align - 1) & ~(uintptr_t)(align - 1);
	/* What free needs lies in front. Advice only: without huge pages it is slower. */
	((void **)at)[-1] = raw;
	if (align == HUGE_BYTES)
		madvise((void *)at, bytes & ~(HUGE_BYTES - 1), MADV_HUGEPAGE);
	return (void *)at;
}

void
far_l1_mem_free(void *mem)
{
	if (mem != NULL)
		far_free(((void **)mem)[-1]);
}

static bool
is_power_of_two(uint64_t v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

/* Defaults filled in, bounds checked. */
static int
config_fit(struct far_l1_config *config)
{
	if (config->align_bytes == 0)
		config->align_bytes = 4096;
	if (config->sessions_max == 0)
		config->sessions_max = 256;
	if (config->shards == 0)
		config->shards = 16;
	if (config->clock == NULL)
		config->clock = far_clock_real();
	if (!is_power_of_two(config->align_bytes) || config->align_bytes < 64 ||
	    config->align_bytes > ALIGN_LIMIT)
		return -EINVAL;
	if (!is_power_of_two(config->shards) || config->shards > SHARDS_LIMIT)
		return -EINVAL;
	if (config->sessions_max >= UINT16_MAX || config->loans_max > LOANS_MAX_LIMIT)
		return -EINVAL;
	return (unsigned)config->policy <= FAR_L1_NONE ? 0 : -EINVAL;
}

/* One more region, from its first aligned byte on, behind a wall of one unit: 0, -EINVAL. */
static int
region_fit(struct far_l1 *l1, const struct far_l1_region *from, uint64_t *units,
	   uint64_t *offset_bytes)
{
	struct l1_region *region = &l1->regions[l1->region_count];
	uint64_t skip_bytes =
		(0 - (uint64_t)(uintptr_t)from->base) & ((1ull << l1->align_shift) - 1);
	uint64_t first = l1->region_count == 0 ? 0 : *units + 1;
	uint64_t here;

	if (from->base == NULL || from->size_bytes <= skip_bytes)
		return -EINVAL;
	here = (from->size_bytes - skip_bytes) >> l1->align_shift;
	if (here == 0 || here >= UINT32_MAX - first)
		return -EINVAL;
	region->base = (uint8_t *)from->base + skip_bytes;
	region->offset_bytes = *offset_bytes + skip_bytes;
	region->unit_first = (uint32_t)first;
	l1->region_count++;
	if (here > l1->region_units_max)
		l1->region_units_max = (uint32_t)here;
	*units = first + here;
	*offset_bytes += from->size_bytes;
	return 0;
}

static int
regions_fit(struct far_l1 *l1, uint64_t *units)
{
	struct far_l1_region first = {l1->config.base, l1->config.size_bytes};
	uint64_t offset_bytes = 0;
	int rc;

	l1->align_shift = (uint32_t)__builtin_ctzll(l1->config.align_bytes);
	if (l1->config.more_count >= FAR_L1_REGIONS_MAX)
		return -EINVAL;
	rc = region_fit(l1, &first, units, &offset_bytes);
	for (uint32_t i = 0; i < l1->config.more_count && rc == 0; i++)
		rc = region_fit(l1, &l1->config.more[i], units, &offset_bytes);
	l1->config.more = NULL; /* the caller's, and not needed any more */
	return rc;
}

/* What follows from the configuration. */
static int
sizes_fit(struct far_l1 *l1, uint32_t *units_out)
{
	const struct far_l1_config *config = &l1->config;
	uint64_t align = config->align_bytes;
	uint64_t block_min = config->block_bytes_min > align ? config->block_bytes_min : align;
	uint64_t units = 0, blocks, loans, buckets = config->shards;
	int rc = regions_fit(l1, &units);

	if (rc < 0)
		return rc;
	*units_out = (uint32_t)units;
	units -= l1->region_count - 1;
	blocks = (units << l1->align_shift) / block_min;
	if (blocks == 0)
		blocks = 1;
	if (config->blocks_max != 0 &&
	    (blocks > config->blocks_max || config->block_bytes_min == 0))
		blocks = config->blocks_max < units ? config->blocks_max : units;
	if (blocks > BLOCKS_MAX_LIMIT)
		return -EINVAL;
	loans = config->loans_max;
	if (loans == 0)
		loans = blocks * 4 < 4096 ? 4096 : blocks * 4;
	if (loans > LOANS_MAX_LIMIT)
		loans = LOANS_MAX_LIMIT;
	while (buckets < 4 * blocks)
		buckets *= 2;
	l1->blocks_max = (uint32_t)blocks;
	/* Index 0 is nobody; blocks that went keep their records until that was told, and so many
	 * threads may be on their way to tell it, a slice each. */
	l1->block_end = l1->blocks_max + L1_TELLERS * L1_SLICE + 2;
	l1->loans_max = (uint32_t)loans;
	l1->bucket_mask = buckets - 1;
	l1->shard_shift = (uint32_t)(__builtin_ctzll(buckets) - __builtin_ctz(config->shards));
	return 0;
}

static int
arena_open(struct far_l1 *l1, uint32_t units)
{
	uint32_t end = l1->region_count > 1 ? l1->regions[1].unit_first - 1 : units;
	int rc = far_l1_arena_init(&l1->arena, end, l1->block_end);

	for (uint32_t i = 1; i < l1->region_count && rc == 0; i++) {
		end = i + 1 < l1->region_count ? l1->regions[i + 1].unit_first - 1 : units;
		far_l1_arena_extend(&l1->arena, end - l1->regions[i].unit_first);
	}
	return rc;
}

static int
tables_open(struct far_l1 *l1, uint32_t units)
{
	int rc;

	l1->blocks = far_l1_mem_alloc(l1->block_end, sizeof(*l1->blocks));
	l1->buckets = far_l1_mem_alloc(l1->bucket_mask + 1, sizeof(*l1->buckets));
	l1->shards = far_l1_mem_alloc(l1->config.shards, sizeof(*l1->shards));
	l1->sessions = far_l1_mem_alloc(l1->config.sessions_max, sizeof(*l1->sessions));
	if (l1->blocks == NULL || l1->buckets == NULL || l1->shards == NULL || l1->sessions == NULL)
		return -ENOMEM;
	rc = far_l1_loans_init(l1);
	if (rc < 0)
		return rc;
	rc = far_l1_queue_init(l1);
	if (rc < 0)
		return rc;
	return arena_open(l1, units);
}

/* The way down of open and close: takes a half-built one. */
static void
tables_close(struct far_l1 *l1)
{
	far_l1_arena_fini(&l1->arena);
	far_l1_queue_fini(l1);
	far_l1_loans_fini(l1);
	far_l1_mem_free(l1->sessions);
	far_l1_mem_free(l1->shards);
	far_l1_mem_free(l1->buckets);
	far_l1_mem_free(l1->blocks);
	pthread_mutex_destroy(&l1->check_lock);
	pthread_mutex_destroy(&l1->lock);
	far_free(l1);
}

int
far_l1_open(const struct far_l1_config *config, struct far_l1 **out)
{
	struct far_l1 *l1 = far_zalloc_aligned(64, sizeof(*l1));
	uint32_t units = 0;
	int rc;

	if (l1 == NULL)
		return -ENOMEM;
	pthread_mutex_init(&l1->lock, NULL);
	pthread_mutex_init(&l1->check_lock, NULL);
	l1->config = *config;
	l1->holder = -1;
	l1->block_fresh = 1;
	atomic_store(&l1->ticks.last, 1);
	rc = config_fit(&l1->config);
	if (rc == 0)
		rc = sizes_fit(l1, &units);
	if (rc == 0)
		rc = tables_open(l1, units);
	if (rc < 0) {
		tables_close(l1);
		return rc;
	}
	*out = l1;
	return 0;
}

void
far_l1_close(struct far_l1 *l1)
{
	if (l1 == NULL)
		return;
	for (uint32_t i = 0; i < l1->config.sessions_max; i++)
		FAR_ASSERT(atomic_load(&l1->sessions[i].id) == 0);
	FAR_ASSERT(far_l1_locked_bytes(l1) == 0);
	FAR_ASSERT(l1->quarantine_bytes == 0);
	tables_close(l1);
}

enum far_l1_state
far_l1_state_get(struct far_l1 *l1, const struct far_key *key)
{
	uint64_t word = 0;
	uint32_t idx = far_l1_table_find(l1, key, key_hash(key), &word);

	if (idx == L1_RETRY || (idx != L1_NIL && word_state(word) == WORD_CLAIMED)) {
		pthread_mutex_lock(&l1->lock);
		idx = far_l1_table_find_locked(l1, key, key_hash(key), &word);
		pthread_mutex_unlock(&l1->lock);
	}
	if (idx == L1_NIL || word_state(word) == WORD_FREE)
		return FAR_L1_ABSENT;
	if (word_state(word) == WORD_WRITE)
		return FAR_L1_WRITE_LOCKED;
	return word_readers(word) > 0 ? FAR_L1_READ_LOCKED : FAR_L1_READY;
}

void
far_l1_usage_get(struct far_l1 *l1, struct far_l1_usage *out)
{
	uint32_t units;
	int64_t locked;

	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < l1->stripe_count; i++) {
		struct l1_stripe *stripe = &l1->stripes[i];

		pthread_mutex_lock(&stripe->lock);
		out->loan_count += atomic_load(&stripe->fresh) - stripe->first - stripe->free_count;
		pthread_mutex_unlock(&stripe->lock);
		out->denied_no_memory += atomic_load(&stripe->denied);
	}
	pthread_mutex_lock(&l1->lock);
	units = l1->arena.unit_count - l1->arena.wall_count;
	locked = far_l1_locked_bytes(l1);
	out->capacity_bytes = (uint64_t)units << l1->align_shift;
	out->used_bytes = (uint64_t)(units - l1->arena.free_units) << l1->align_shift;
	out->locked_bytes = locked > 0 ? (uint64_t)locked : 0;
	out->quarantine_bytes = l1->quarantine_bytes;
	out->block_count = l1->table_count;
	out->evicted_blocks = l1->evicted_blocks;
	out->evicted_bytes = l1->evicted_bytes;
	out->denied_no_memory += l1->denied;
	pthread_mutex_unlock(&l1->lock);
}

uint64_t
far_l1_block_bytes(const struct far_l1 *l1, uint32_t size_bytes)
{
	return block_footprint(l1, size_bytes);
}
