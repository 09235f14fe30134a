/* registry.c - the types of adapters, in one plain array, and the way to open one. */
#include "l2/l2.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "l2/donor/donor.h"
#include "l2/fault/fault.h"
#include "l2/memory/memory.h"

/* A new type is a folder, a table of functions, a line here and its name in the text below. */
static const struct far_l2_type types[] = {
	{.name = "donor", .open = far_l2_donor_open},
	{.name = "fault", .open = far_l2_fault_open},
	{.name = "memory", .open = far_l2_memory_open},
};
static const char type_names[] = "donor, fault, memory";

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

/* A name stands in the array once, and in the text. */
static void
types_check(void)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		FAR_ASSERT(types[i].open != NULL);
		FAR_ASSERT(far_l2_type_find(types[i].name) == &types[i]);
		FAR_ASSERT(strstr(type_names, types[i].name) != NULL);
	}
}

int
far_l2_config_error(const struct far_l2_config *config, const char *field, char error[256],
		    const char *format, ...)
{
	const char *point = field != NULL ? field : "";
	va_list args;
	int used;

	if (config->where != NULL)
		used = snprintf(error, 256, "%.60s%s%.40s: ", config->where,
				field != NULL ? "." : "", point);
	else
		used = snprintf(error, 256, "adapter '%.40s': %.40s%s",
				config->name != NULL ? config->name : "", point,
				field != NULL ? ": " : "");
	va_start(args, format);
	(void)vsnprintf(error + used, 256 - (size_t)used, format, args);
	va_end(args);
	return -EINVAL;
}

static int
config_check(const struct far_l2_config *config, char error[256])
{
	if (config->type == NULL)
		return far_l2_config_error(config, "type", error, "missing: give one of %s",
					   type_names);
	if (far_l2_type_find(config->type) == NULL)
		return far_l2_config_error(config, "type", error,
					   "'%.40s' is unknown; known are %s", config->type,
					   type_names);
	if (config->name == NULL || config->name[0] == '\0')
		return far_l2_config_error(config, "name", error, "missing: give one");
	if (strlen(config->name) >= sizeof(((struct far_l2 *)NULL)->name))
		return far_l2_config_error(config, "name", error,
					   "'%.40s...' has more than %zu bytes", config->name,
					   sizeof(((struct far_l2 *)NULL)->name) - 1);
	/* Written so that a NaN is refused as well. */
	if (!(config->weight >= 0))
		return far_l2_config_error(config, "weight", error, "must not be negative");
	return 0;
}

int
far_l2_open(const struct far_l2_config *config, const struct far_l2_env *env, struct far_l2 **out,
	    char error[256])
{
	const struct far_l2_type *type;
	struct far_l2 *l2 = NULL;
	int rc;

	error[0] = '\0';
	types_check();
	rc = config_check(config, error);
	if (rc < 0)
		return rc;
	type = far_l2_type_find(config->type);
	rc = type->open(config, env, &l2, error);
	if (rc < 0)
		return rc;
	ops_check(l2->ops);
	if (l2->limits.items_max == 0)
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
