/* placement.c - weighted rendezvous hashing: every client computes the same owners from names alone. */
#include "controllers/policy.h"

#include <math.h>
#include <stdbool.h>

#include "base/rng.h"

/*
 * Of all adapters the largest -weight / ln(u) wins, with u uniform in (0, 1) for each (name, key): an
 * adapter that joins takes keys for itself and moves none between the others, and each one's share is
 * its weight's share.
 */
static double
placement_score(const struct far_l2 *l2, const struct far_key *key, bool weighted)
{
	uint64_t h = far_mix64(far_mix64(l2->name_hash ^ far_key_lo(key)) ^ far_key_hi(key));
	/* 53 bits and a half: never 0, never 1, so the logarithm is finite and not zero. */
	double u = ((double)(h >> 11) + 0.5) * 0x1p-53;

	/* The score grows with u: where all weights are the same, u itself gives the same order. */
	return weighted ? -l2->weight / log(u) : u;
}

static bool
weights_differ(const struct far_l2_set *set)
{
	const struct far_l2 *first = NULL;

	for (uint32_t i = 0; i < set->count; i++) {
		const struct far_l2 *l2 = set->items[i];

		if (!far_l2_set_is_active(set, i))
			continue;
		if (first == NULL)
			first = l2;
		else if (l2->weight < first->weight || l2->weight > first->weight)
			return true;
	}
	return false;
}

/* It is the only one that is active: there is no order to find out. */
static inline bool
one_has_all(const struct far_l2_set *set)
{
	return set->active_mask != 0 && (set->active_mask & (set->active_mask - 1)) == 0;
}

/* The first @count of the order, best first. */
static uint32_t
placement_first(const struct far_l2_set *set, const struct far_key *key, uint32_t *idx_out,
		uint32_t count)
{
	double scores[FAR_L2_SET_MAX];
	uint32_t filled = 0;
	bool weighted;

	if (count > set->count)
		count = set->count;
	if (count == 0 || set->active_mask == 0)
		return 0;
	weighted = weights_differ(set);
	for (uint32_t i = 0; i < set->count; i++) {
		double score;
		uint32_t at;

		if (!far_l2_set_is_active(set, i))
			continue;
		score = placement_score(set->items[i], key, weighted);
		if (filled == count && score <= scores[filled - 1])
			continue;
		/* An insertion into a list of one to three: shorter than any sort. */
		at = filled < count ? filled++ : filled - 1;
		while (at > 0 && scores[at - 1] < score) {
			scores[at] = scores[at - 1];
			idx_out[at] = idx_out[at - 1];
			at--;
		}
		scores[at] = score;
		idx_out[at] = i;
	}
	return filled;
}

static uint32_t
placement_replicas(const struct far_policy *policy)
{
	if (policy->replicas == 0)
		return 1;
	return policy->replicas < FAR_L2_SET_MAX ? policy->replicas : FAR_L2_SET_MAX;
}

static uint32_t
placement_route(const struct far_policy *policy, const struct far_l2_set *set,
		const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	uint32_t count;

	if (one_has_all(set) && max > 0) {
		idx_out[0] = (uint32_t)__builtin_ctzll(set->active_mask);
		return 1;
	}
	count = placement_replicas(policy) + 1;
	return placement_first(set, key, idx_out, count < max ? count : max);
}

/*
 * As lookups ask one donor more, that one may stand in for one that is away, and no client needs to
 * know who else thinks so. Without a stand-in the one that is away is named: it may be back for a retry.
 */
static uint32_t
placement_place(const struct far_policy *policy, const struct far_l2_set *set,
		const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	uint32_t replicas = placement_replicas(policy), filled = 0;
	uint32_t first[FAR_L2_SET_MAX + 1];
	uint32_t count = placement_first(set, key, first, replicas + 1);

	if (replicas > max)
		replicas = max;
	for (int away = 0; away < 2; away++) {
		for (uint32_t i = 0; i < count && filled < replicas; i++) {
			if (set->items[first[i]]->away == (away != 0))
				idx_out[filled++] = first[i];
		}
	}
	return filled;
}

/* The best of the key's own order, so that each key's reads stay where its bytes are warm. */
static uint32_t
placement_plan(const struct far_policy *policy, const struct far_l2_set *set,
	       const struct far_key *key, const struct far_policy_found *found, uint32_t count)
{
	(void)policy;
	(void)set;
	(void)key;
	FAR_ASSERT(count > 0);
	return found[0].adapter;
}

const struct far_policy_answers far_policy_placement = {
	.name = "placement",
	.route = placement_route,
	.routes_sole = true,
	.place = placement_place,
	.plan = placement_plan,
};
