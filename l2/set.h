/* set.h - the adapters of one client, in order of priority: they come and go at run time. */
#ifndef FAR_L2_SET_H
#define FAR_L2_SET_H

#include <stdbool.h>
#include <stdint.h>

struct far_l2;

#define FAR_L2_SET_MAX     64
#define FAR_L2_SET_BUCKETS 128 /* twice as many: short chains */

/*
 * An adapter keeps its position for life; others come and go around it. Who keeps positions keeps
 * far_l2_set.generations beside them, or asserts that he has none left before far_l2_set_remove().
 */
struct far_l2_set {                           /* zeroed: empty */
	struct far_l2 *items[FAR_L2_SET_MAX]; /* NULL: a free position */
	uint32_t count;                       /* all taken positions are below it */
	uint64_t taken_mask;                  /* items that are not NULL */
	uint64_t active_mask;                 /* of them, those that policies may propose */
	uint32_t generations[FAR_L2_SET_MAX]; /* adapters that the position has had */
	uint8_t buckets[FAR_L2_SET_BUCKETS];  /* by hash of the name: position + 1; 0: free */
};

/* The lowest taken position from @idx on; FAR_L2_SET_MAX: none. */
static inline uint32_t
far_l2_set_next(const struct far_l2_set *set, uint32_t idx)
{
	uint64_t rest = idx < FAR_L2_SET_MAX ? set->taken_mask >> idx : 0;

	return rest != 0 ? idx + (uint32_t)__builtin_ctzll(rest) : FAR_L2_SET_MAX;
}

/* All adapters, drained ones too, in order of priority. */
#define FAR_L2_SET_FOR_EACH(set, idx)                                                              \
	for (uint32_t idx = far_l2_set_next((set), 0); (idx) < FAR_L2_SET_MAX;                     \
	     (idx) = far_l2_set_next((set), (idx) + 1))

/* How many there are, drained ones too; `count` has the holes in it. */
static inline uint32_t
far_l2_set_population(const struct far_l2_set *set)
{
	return (uint32_t)__builtin_popcountll(set->taken_mask);
}

static inline bool
far_l2_set_is_active(const struct far_l2_set *set, uint32_t idx)
{
	return idx < FAR_L2_SET_MAX && (set->active_mask >> idx & 1) != 0;
}

/* Takes the lowest free position; sets l2->idx. -EEXIST: a name twice, a drained one's included;
 * -E2BIG: more than FAR_L2_SET_MAX. */
int far_l2_set_add(struct far_l2_set *set, struct far_l2 *l2);
/* Policies propose it no longer; what it has been given goes on. Taken: asserted. */
void far_l2_set_drain(struct far_l2_set *set, uint32_t idx);
/* Frees position and name of a drained one (asserted) that nobody names any more; returns it. */
struct far_l2 *far_l2_set_remove(struct far_l2_set *set, uint32_t idx);
/* NULL if there is none; hashed, O(1). */
struct far_l2 *far_l2_set_find(const struct far_l2_set *set, const char *name);

#endif
