/* policy.h - where blocks are, where they go, who loads them, which stay: pure functions over numbers. */
#ifndef FAR_CONTROLLERS_POLICY_H
#define FAR_CONTROLLERS_POLICY_H

#include <stdbool.h>

#include "base/key.h"
#include "l2/l2.h"

struct far_policy;

/* An adapter that has a key, as plan is told of it. The numbers are the asker's own measurements. */
struct far_policy_found {
	uint32_t adapter;
	uint32_t size_bytes;   /* of the block there */
	uint64_t bytes_queued; /* that it was asked to load and has not ended */
	double ns_per_byte;    /* of what it loaded lately; 0: not known */
};

/*
 * The questions. An answer depends on the arguments alone: a policy decides, it never copies, waits,
 * fails or remembers. Indices are those of the set; only active adapters are named, each once.
 */
/* Adapters, best first; returns how many of @max were written. */
typedef uint32_t far_policy_adapters_fn(const struct far_policy *policy,
					const struct far_l2_set *set, const struct far_key *key,
					uint32_t *idx_out, uint32_t max);
/* Which of @found (in the order of route) loads the key: its adapter. @count > 0. */
typedef uint32_t far_policy_plan_fn(const struct far_policy *policy, const struct far_l2_set *set,
				    const struct far_key *key, const struct far_policy_found *found,
				    uint32_t count);
/* Whether L1 keeps a block that was prefetched for somebody when its last reader has gone. */
typedef bool far_policy_retain_fn(const struct far_policy *policy, const struct far_key *key,
				  uint32_t size_bytes);

/* Each question has somebody who answers it. far_policy_parse() fills all but @replicas. */
struct far_policy {
	far_policy_adapters_fn *route; /* which adapters may hold the key: they are asked */
	far_policy_adapters_fn *place; /* which adapters get a new block */
	far_policy_plan_fn *plan;
	far_policy_retain_fn *retain;
	uint32_t replicas; /* placement: copies of a block on different donors, 1.. */
};

/* A named policy answers some of the questions; NULL: leaves it to others. */
struct far_policy_answers {
	const char *name; /* also the value in the configuration */
	far_policy_adapters_fn *route;
	far_policy_adapters_fn *place;
	far_policy_plan_fn *plan;
	far_policy_retain_fn *retain;
	bool routes_sole; /* where one adapter alone is active, route names it, whatever the key */
};

/* Everything everywhere, in order; the lowest-numbered one loads; nothing is retained. */
extern const struct far_policy_answers far_policy_default;
/* Retains everything: prefetched blocks stay as evictable ones. */
extern const struct far_policy_answers far_policy_retaining;
/* Loads from where it would be here first: bytes queued and this block's, by the measured time per
 * byte. One that was not measured yet counts as fast as the fastest: it is tried. */
extern const struct far_policy_answers far_policy_fastest;
/*
 * Weighted rendezvous hashing over adapters' names: route the first @replicas + 1; the first of them
 * that has it loads. Of these place the first @replicas that are not away, and those that are where
 * there are no others: clients may disagree about who is alive, and find what each other stored.
 * Score of adapter a: -weight / ln(u), u = XXH64(name) mixed with the key, uniform in (0, 1)
 * (Schindelhauer and Schomaker, «Weighted Distributed Hash Tables», SPAA 2005). No address enters.
 */
extern const struct far_policy_answers far_policy_placement;

/**
 * far_policy_parse - makes a policy of names: "placement,fastest,retain".
 *
 * @text:   names, separated by commas, each once. Of several that answer a question the last one
 *          does; default answers the rest.
 * @policy: its four answers are written on success; replicas is the caller's.
 * @error:  one line on failure; an unknown name lists the known ones.
 *
 * Thread:  any.
 * Returns: 0, or -EINVAL.
 */
int far_policy_parse(const char *text, struct far_policy *policy, char error[256]);
/* "default, fastest, placement, retain" */
const char *far_policy_names(void);

/*
 * How the controllers ask. An answer that cannot be (an index out of range or of an adapter that is
 * not active, one named twice, one that has not got the key) is skipped and counted in @nonsense, and
 * the first one is warned of. Thread: any.
 */
static inline uint32_t far_policy_route(const struct far_policy *policy,
					const struct far_l2_set *set, const struct far_key *key,
					uint32_t idx_out[FAR_L2_SET_MAX], uint64_t *nonsense);
uint32_t far_policy_place(const struct far_policy *policy, const struct far_l2_set *set,
			  const struct far_key *key, uint32_t idx_out[FAR_L2_SET_MAX],
			  uint64_t *nonsense);
/* The adapter that route names for every key, for who has many: the only active one, if the policy says so
 * of itself. FAR_L2_SET_MAX: each key has to be asked for. */
uint32_t far_policy_route_sole(const struct far_policy *policy, const struct far_l2_set *set);
/* The position in @found of the one that loads; what default says if the answer cannot be. */
uint32_t far_policy_plan(const struct far_policy *policy, const struct far_l2_set *set,
			 const struct far_key *key, const struct far_policy_found *found,
			 uint32_t count, uint64_t *nonsense);
/* What is left of an answer to route, in its order. */
uint32_t far_policy_sift(const struct far_l2_set *set, uint32_t *idx, uint32_t count,
			 uint64_t *nonsense);

static inline uint32_t
far_policy_route(const struct far_policy *policy, const struct far_l2_set *set,
		 const struct far_key *key, uint32_t idx_out[FAR_L2_SET_MAX], uint64_t *nonsense)
{
	uint32_t count = policy->route(policy, set, key, idx_out, FAR_L2_SET_MAX);

	/* Mostly it names one, and is good. */
	if (count == 1 && far_l2_set_is_active(set, idx_out[0]))
		return 1;
	return far_policy_sift(set, idx_out, count, nonsense);
}

#endif
