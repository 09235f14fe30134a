/* policy.h - which adapters may hold a key, which get a new block: pure functions over a set. */
#ifndef FAR_CONTROLLERS_POLICY_H
#define FAR_CONTROLLERS_POLICY_H

#include "base/key.h"
#include "l2/l2.h"

struct far_policy;

/* A policy decides; it never copies, waits or fails. Indices are those of the set. */
struct far_policy_ops {
	const char *name; /* also the value in the configuration */
	/* Which adapters may hold the key, best first; returns how many of @max were written. */
	uint32_t (*route)(const struct far_policy *policy, const struct far_l2_set *set,
			  const struct far_key *key, uint32_t *idx_out, uint32_t max);
	/* Which adapters get a new block, best first. */
	uint32_t (*place)(const struct far_policy *policy, const struct far_l2_set *set,
			  const struct far_key *key, uint32_t *idx_out, uint32_t max);
	/* Which of @found (adapters that have the key, in route order) loads it. @count > 0. */
	uint32_t (*plan)(const struct far_policy *policy, const struct far_l2_set *set,
			 const struct far_key *key, const uint32_t *found, uint32_t count);
};

struct far_policy {
	const struct far_policy_ops *ops;
	uint32_t replicas; /* placement: copies of a block on different donors, 1.. */
};

/* Everything everywhere: route and place all adapters in order; the lowest-numbered one loads. */
extern const struct far_policy_ops far_policy_default;
/*
 * Weighted rendezvous hashing over adapters' names: place the first @replicas, route those and one
 * more. Score of adapter a: -weight / ln(u), u = XXH64(name) mixed with the key, uniform in (0, 1)
 * (Schindelhauer and Schomaker, «Weighted Distributed Hash Tables», SPAA 2005). Neither addresses
 * nor who is up enter, so clients may disagree about who is alive.
 */
extern const struct far_policy_ops far_policy_placement;

/* By name; NULL if unknown. */
const struct far_policy_ops *far_policy_find(const char *name);
const char *far_policy_names(void);

#endif
