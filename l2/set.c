/* set.c - the adapters of one client: by priority in an array, by name through a small hash. */
#include "l2/l2.h"

#include <string.h>

#include "base/checksum.h"

_Static_assert(FAR_L2_SET_MAX < 256, "positions are kept in bytes, plus one");

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

	if (set->buckets[at] != 0)
		return -EEXIST;
	if (set->count == FAR_L2_SET_MAX)
		return -E2BIG;
	l2->idx = set->count;
	l2->name_hash = far_xxh64(l2->name, strlen(l2->name), 0);
	set->items[set->count] = l2;
	set->count++;
	set->buckets[at] = (uint8_t)set->count;
	return 0;
}

struct far_l2 *
far_l2_set_find(const struct far_l2_set *set, const char *name)
{
	size_t at = bucket_find(set, name);

	return set->buckets[at] != 0 ? set->items[set->buckets[at] - 1] : NULL;
}
