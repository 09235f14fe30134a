/* policy.c - the default policy, everything everywhere, and the list of policies by name. */
#include "controllers/policy.h"

#include <string.h>

static uint32_t
default_all(const struct far_policy *policy, const struct far_l2_set *set,
	    const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	uint32_t count = set->count < max ? set->count : max;

	(void)policy;
	(void)key;
	for (uint32_t i = 0; i < count; i++)
		idx_out[i] = i;
	return count;
}

static uint32_t
default_plan(const struct far_policy *policy, const struct far_l2_set *set,
	     const struct far_key *key, const uint32_t *found, uint32_t count)
{
	uint32_t lowest = found[0];

	(void)policy;
	(void)set;
	(void)key;
	FAR_ASSERT(count > 0);
	for (uint32_t i = 1; i < count; i++) {
		if (found[i] < lowest)
			lowest = found[i];
	}
	return lowest;
}

static const struct far_policy_ops *const policies[] = {
	&far_policy_default,
	&far_policy_placement,
};

const struct far_policy_ops *
far_policy_find(const char *name)
{
	if (name == NULL)
		return NULL;
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		if (strcmp(policies[i]->name, name) == 0)
			return policies[i];
	}
	return NULL;
}

const char *
far_policy_names(void)
{
	return "default, placement";
}

const struct far_policy_ops far_policy_default = {
	.name = "default",
	.route = default_all,
	.place = default_all,
	.plan = default_plan,
};
