/* registry.c - the types of adapters, in one plain array, and the way to open one. */
#include "l2/l2.h"

#include <stdio.h>
#include <string.h>

#include "l2/donor/donor.h"
#include "l2/memory/memory.h"

/* A new type is a folder, a table of functions, a line here and its name in the text below. */
static const struct far_l2_type types[] = {
	{.name = "donor", .open = far_l2_donor_open},
	{.name = "memory", .open = far_l2_memory_open},
};
static const char type_names[] = "donor, memory";

const struct far_l2_type *
far_l2_type_find(const char *name)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	}
	return NULL;
}

const char *
far_l2_type_names(void)
{
	return type_names;
}

static void
ops_check(const struct far_l2_ops *ops)
{
	FAR_ASSERT(ops->type != NULL);
	FAR_ASSERT(ops->submit != NULL);
	FAR_ASSERT(ops->cancel != NULL);
	FAR_ASSERT(ops->unlock != NULL);
	FAR_ASSERT(ops->tick != NULL);
	FAR_ASSERT(ops->status != NULL);
	FAR_ASSERT(ops->stats_ask != NULL);
	FAR_ASSERT(ops->usage_ask != NULL);
	FAR_ASSERT(ops->list != NULL);
	FAR_ASSERT(ops->quiesce != NULL);
	FAR_ASSERT(ops->quiesced != NULL);
	FAR_ASSERT(ops->close != NULL);
	FAR_ASSERT(ops->limits.items_max > 0);
	FAR_ASSERT(ops->limits.tasks_max > 0);
}

int
far_l2_open(const struct far_l2_config *config, const struct far_l2_env *env, struct far_l2 **out,
	    char error[256])
{
	const struct far_l2_type *type;
	struct far_l2 *l2 = NULL;
	int rc;

	error[0] = '\0';
	if (config->type == NULL || config->name == NULL || config->name[0] == '\0') {
		(void)snprintf(error, 256, "an adapter needs a type and a name: give both");
		return -EINVAL;
	}
	if (strlen(config->name) >= sizeof(l2->name)) {
		(void)snprintf(error, 256, "adapter '%.40s...': the name has more than %zu bytes",
			       config->name, sizeof(l2->name) - 1);
		return -EINVAL;
	}
	/* Written so that a NaN is refused as well. */
	if (!(config->weight >= 0)) {
		(void)snprintf(error, 256, "adapter '%s': the weight must not be negative",
			       config->name);
		return -EINVAL;
	}
	type = far_l2_type_find(config->type);
	if (type == NULL) {
		(void)snprintf(error, 256, "adapter '%s': type '%.40s' is unknown; known are %s",
			       config->name, config->type, type_names);
		return -EINVAL;
	}
	rc = type->open(config, env, &l2, error);
	if (rc < 0)
		return rc;
	ops_check(l2->ops);
	l2->limits = l2->ops->limits;
	(void)snprintf(l2->name, sizeof(l2->name), "%s", config->name);
	l2->weight = config->weight > 0 ? config->weight : 1;
	*out = l2;
	return 0;
}

void
far_l2_close(struct far_l2 *l2)
{
	if (l2 == NULL)
		return;
	FAR_ASSERT(far_l2_quiesced(l2));
	l2->ops->close(l2);
}
