/* set.c - the adapters of one client: by priority in an array, by name through a small hash. */
#include "l2/set.h"

#include <string.h>

#include "base/checksum.h"
#include "l2/l2.h"

_Static_assert(FAR_L2_SET_MAX < 256, "positions are kept in bytes, plus one");
_Static_assert(FAR_L2_SET_MAX == 64, "positions are bits of a word");
_Static_assert((FAR_L2_SET_BUCKETS & (FAR_L2_SET_BUCKETS - 1)) == 0, "distances wrap");

static size_t
name_hash(const char *name)
{
	return (size_t)(far_xxh64(name, strlen(name), 0) % FAR_L2_SET_BUCKETS);
}

/* The bucket that holds @name, or the free one where it belongs: at most half of them are taken. */
static size_t
bucket_find(const struct far_l2_set *set, const char *name)
{
	size_t at = name_hash(name);

	while (set->buckets[at] != 0) {
		if (strcmp(set->items[set->buckets[at] - 1]->name, name) == 0)
			break;
		at = (at + 1) % FAR_L2_SET_BUCKETS;
	}
	return at;
}

int
far_l2_set_add(struct far_l2_set *set, struct far_l2 *l2)
{
	size_t at = bucket_find(set, l2->name);
	uint64_t free_mask = ~set->taken_mask;
	uint32_t idx;

	if (set->buckets[at] != 0)
		return -EEXIST;
	if (free_mask == 0)
		return -E2BIG;
	l2->name_hash = far_xxh64(l2->name, strlen(l2->name), 0);
	idx = (uint32_t)__builtin_ctzll(free_mask);
	FAR_ASSERT(set->items[idx] == NULL);
	l2->idx = idx;
	set->items[idx] = l2;
	set->taken_mask |= 1ULL << idx;
	set->active_mask |= 1ULL << idx;
	set->generations[idx]++;
	if (idx >= set->count)
		set->count = idx + 1;
	set->buckets[at] = (uint8_t)(idx + 1);
	return 0;
}

void
far_l2_set_drain(struct far_l2_set *set, uint32_t idx)
{
	FAR_ASSERT(idx < FAR_L2_SET_MAX);
	FAR_ASSERT(set->items[idx] != NULL);
	set->active_mask &= ~(1ULL << idx);
}

/* Frees the bucket, and moves up whoever was kept from it by others: a search ends at a free one. */
static void
bucket_free(struct far_l2_set *set, size_t hole)
{
	size_t at = hole;

	set->buckets[hole] = 0;
	for (;;) {
		size_t home;

		at = (at + 1) % FAR_L2_SET_BUCKETS;
		if (set->buckets[at] == 0)
			return;
		home = name_hash(set->items[set->buckets[at] - 1]->name);
		/* It may lie in the hole if its way from home to where it is leads over it. */
		if ((at - home) % FAR_L2_SET_BUCKETS < (at - hole) % FAR_L2_SET_BUCKETS)
			continue;
		set->buckets[hole] = set->buckets[at];
		set->buckets[at] = 0;
		hole = at;
	}
}

struct far_l2 *
far_l2_set_remove(struct far_l2_set *set, uint32_t idx)
{
	struct far_l2 *l2;
	size_t at;

	FAR_ASSERT(idx < FAR_L2_SET_MAX);
	FAR_ASSERT(!far_l2_set_is_active(set, idx));
	l2 = set->items[idx];
	FAR_ASSERT(l2 != NULL);
	at = bucket_find(set, l2->name);
	FAR_ASSERT(set->buckets[at] == idx + 1);
	bucket_free(set, at);
	set->items[idx] = NULL;
	set->taken_mask &= ~(1ULL << idx);
	while (set->count > 0 && set->items[set->count - 1] == NULL)
		set->count--;
	return l2;
}

struct far_l2 *
far_l2_set_find(const struct far_l2_set *set, const char *name)
{
	size_t at = bucket_find(set, name);

	return set->buckets[at] != 0 ? set->items[set->buckets[at] - 1] : NULL;
}
