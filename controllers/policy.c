/* policy.c - who answers which question: policies by name, their composition, and what is believed. */
#include "controllers/policy.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

/* ---- default: everything everywhere ---- */

static uint32_t
default_all(const struct far_policy *policy, const struct far_l2_set *set,
	    const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	uint32_t count = 0;

	(void)policy;
	(void)key;
	for (uint32_t i = 0; i < set->count && count < max; i++) {
		if (far_l2_set_is_active(set, i))
			idx_out[count++] = i;
	}
	return count;
}

static uint32_t
default_plan(const struct far_policy *policy, const struct far_l2_set *set,
	     const struct far_key *key, const struct far_policy_found *found, uint32_t count)
{
	uint32_t lowest = found[0].adapter;

	(void)policy;
	(void)set;
	(void)key;
	FAR_ASSERT(count > 0);
	for (uint32_t i = 1; i < count; i++) {
		if (found[i].adapter < lowest)
			lowest = found[i].adapter;
	}
	return lowest;
}

static bool
default_retain(const struct far_policy *policy, const struct far_key *key, uint32_t size_bytes)
{
	(void)policy;
	(void)key;
	(void)size_bytes;
	return false;
}

const struct far_policy_answers far_policy_default = {
	.name = "default",
	.route = default_all,
	.routes_sole = true,
	.place = default_all,
	.plan = default_plan,
	.retain = default_retain,
};

/* ---- retain ---- */

static bool
retain_all(const struct far_policy *policy, const struct far_key *key, uint32_t size_bytes)
{
	(void)policy;
	(void)key;
	(void)size_bytes;
	return true;
}

const struct far_policy_answers far_policy_retaining = {
	.name = "retain",
	.retain = retain_all,
};

/* ---- fastest ---- */

static uint32_t
fastest_plan(const struct far_policy *policy, const struct far_l2_set *set,
	     const struct far_key *key, const struct far_policy_found *found, uint32_t count)
{
	double pace_min = 0;
	double best_ns = 0;
	uint32_t best = 0;

	(void)policy;
	(void)set;
	(void)key;
	FAR_ASSERT(count > 0);
	for (uint32_t i = 0; i < count; i++) {
		if (found[i].ns_per_byte > 0 && (pace_min <= 0 || found[i].ns_per_byte < pace_min))
			pace_min = found[i].ns_per_byte;
	}
	/* Nobody was measured: the shortest queue. */
	if (pace_min <= 0)
		pace_min = 1;
	for (uint32_t i = 0; i < count; i++) {
		double pace = found[i].ns_per_byte > 0 ? found[i].ns_per_byte : pace_min;
		double ns = pace * ((double)found[i].bytes_queued + found[i].size_bytes);

		if (i == 0 || ns < best_ns) {
			best = i;
			best_ns = ns;
		}
	}
	return found[best].adapter;
}

const struct far_policy_answers far_policy_fastest = {
	.name = "fastest",
	.plan = fastest_plan,
};

/* ---- by name ---- */

static const struct far_policy_answers *const policies[] = {
	&far_policy_default,
	&far_policy_fastest,
	&far_policy_placement,
	&far_policy_retaining,
};
#define POLICY_COUNT (sizeof(policies) / sizeof(policies[0]))

const char *
far_policy_names(void)
{
	return "default, fastest, placement, retain";
}

static size_t
policy_find(const char *name, size_t length)
{
	size_t i = 0;

	while (i < POLICY_COUNT && (strlen(policies[i]->name) != length ||
				    strncmp(policies[i]->name, name, length) != 0))
		i++;
	return i;
}

static void
policy_override(struct far_policy *policy, const struct far_policy_answers *by)
{
	if (by->route != NULL)
		policy->route = by->route;
	if (by->place != NULL)
		policy->place = by->place;
	if (by->plan != NULL)
		policy->plan = by->plan;
	if (by->retain != NULL)
		policy->retain = by->retain;
}

int
far_policy_parse(const char *text, struct far_policy *policy, char error[256])
{
	struct far_policy parsed = {.replicas = policy->replicas};
	bool seen[POLICY_COUNT] = {false};
	const char *at = text;

	policy_override(&parsed, &far_policy_default);
	for (;;) {
		size_t length;
		size_t found;

		at += strspn(at, " ");
		length = strcspn(at, ", ");
		found = policy_find(at, length);
		if (found == POLICY_COUNT) {
			(void)snprintf(
				error, 256,
				"policy '%.*s' is not known: write some of %s, separated by commas",
				(int)(length < 64 ? length : 64), at, far_policy_names());
			return -EINVAL;
		}
		if (seen[found]) {
			(void)snprintf(error, 256, "policy '%s' is named twice: name each once",
				       policies[found]->name);
			return -EINVAL;
		}
		seen[found] = true;
		policy_override(&parsed, policies[found]);
		at += length;
		at += strspn(at, " ");
		if (*at == '\0')
			break;
		if (*at != ',') {
			(void)snprintf(error, 256, "policies in '%.64s' are separated by commas",
				       text);
			return -EINVAL;
		}
		at++;
	}
	*policy = parsed;
	return 0;
}

/* ---- what is believed ---- */

static void
nonsense_count(uint64_t *nonsense, const char *question)
{
	if ((*nonsense)++ == 0)
		far_log_warn("a policy's answer to '%s' cannot be: it is skipped, and counted from "
			     "now on",
			     question);
}

/* What is left of an answer, in its order. */
static uint32_t
adapters_sift(const struct far_l2_set *set, uint32_t *idx, uint32_t count, const char *question,
	      uint64_t *nonsense)
{
	uint64_t named = 0;
	uint32_t kept = 0;

	if (count > FAR_L2_SET_MAX) {
		nonsense_count(nonsense, question);
		count = FAR_L2_SET_MAX;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t adapter = idx[i];

		if (!far_l2_set_is_active(set, adapter) || (named & (1ULL << adapter)) != 0) {
			nonsense_count(nonsense, question);
			continue;
		}
		named |= 1ULL << adapter;
		idx[kept++] = adapter;
	}
	return kept;
}

uint32_t
far_policy_sift(const struct far_l2_set *set, uint32_t *idx, uint32_t count, uint64_t *nonsense)
{
	return adapters_sift(set, idx, count, "route", nonsense);
}

uint32_t
far_policy_route_sole(const struct far_policy *policy, const struct far_l2_set *set)
{
	uint64_t active = set->active_mask;

	if (active == 0 || (active & (active - 1)) != 0)
		return FAR_L2_SET_MAX;
	for (size_t i = 0; i < POLICY_COUNT; i++) {
		if (policies[i]->routes_sole && policies[i]->route == policy->route)
			return (uint32_t)__builtin_ctzll(active);
	}
	return FAR_L2_SET_MAX;
}

uint32_t
far_policy_place(const struct far_policy *policy, const struct far_l2_set *set,
		 const struct far_key *key, uint32_t idx_out[FAR_L2_SET_MAX], uint64_t *nonsense)
{
	uint32_t count = policy->place(policy, set, key, idx_out, FAR_L2_SET_MAX);

	return adapters_sift(set, idx_out, count, "place", nonsense);
}

static uint32_t
found_position(const struct far_policy_found *found, uint32_t count, uint32_t adapter)
{
	uint32_t at = 0;

	while (at < count && found[at].adapter != adapter)
		at++;
	return at;
}

uint32_t
far_policy_plan(const struct far_policy *policy, const struct far_l2_set *set,
		const struct far_key *key, const struct far_policy_found *found, uint32_t count,
		uint64_t *nonsense)
{
	uint32_t at = found_position(found, count, policy->plan(policy, set, key, found, count));

	if (at < count)
		return at;
	nonsense_count(nonsense, "plan");
	return found_position(found, count, default_plan(policy, set, key, found, count));
}
