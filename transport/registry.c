/* registry.c - the transports of this build, by name. */
#include "transport/transport.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "transport/loop/loop.h"
#include "transport/mapped.h"
#include "transport/shm/shm.h"
#include "transport/ucx/ucx.h"
#include "transport/verbs/verbs.h"

/* One line per backend. */
static const struct far_transport_ops *const backends[] = {
	&far_shm_ops,
#ifdef FAR_HAVE_VERBS
	&far_verbs_ops,
#endif
#ifdef FAR_HAVE_UCX
	&far_ucx_ops,
#endif
	&far_loop_ops,
};
#define BACKEND_COUNT (sizeof(backends) / sizeof(backends[0]))

/* Checked here once: nobody else asks whether an entry is there. */
static void
table_check(const struct far_transport_ops *ops)
{
	FAR_ASSERT(ops->name != NULL);
	FAR_ASSERT(ops->open != NULL);
	FAR_ASSERT(ops->close != NULL);
	FAR_ASSERT(ops->mem_reg != NULL);
	FAR_ASSERT(ops->mem_dereg != NULL);
	FAR_ASSERT(ops->mem_expose != NULL);
	FAR_ASSERT(ops->listen != NULL);
	FAR_ASSERT(ops->unlisten != NULL);
	FAR_ASSERT(ops->connect != NULL);
	FAR_ASSERT(ops->disconnect != NULL);
	FAR_ASSERT(ops->forget != NULL);
	FAR_ASSERT(ops->map != NULL);
	FAR_ASSERT(ops->post != NULL);
	FAR_ASSERT(ops->send != NULL);
	FAR_ASSERT(ops->poll != NULL);
	FAR_ASSERT(ops->arm != NULL);
}

const struct far_transport_ops *
far_transport_find(const char *name)
{
	for (size_t i = 0; i < BACKEND_COUNT; i++) {
		if (strcmp(backends[i]->name, name) != 0)
			continue;
		table_check(backends[i]);
		return backends[i];
	}
	return NULL;
}

uint32_t
far_transport_rank(const char *name)
{
	/* Also of those that this build lacks: that they were passed over is worth saying. */
	static const char *const preference[] = {"shm", "verbs", "ucx", "loop"};
	uint32_t rank = 0;

	while (rank < sizeof(preference) / sizeof(preference[0]) &&
	       strcmp(preference[rank], name) != 0)
		rank++;
	return rank;
}

static void
unknown_log(const char *name)
{
	char known[128] = "";
	size_t used = 0;

	for (size_t i = 0; i < BACKEND_COUNT && used < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
					 i > 0 ? ", " : "", backends[i]->name);
	far_log_error("transport '%s' is unknown: this build has %s", name, known);
}

int
far_transport_open(const char *name, const struct far_transport_config *config,
		   struct far_transport **out)
{
	const struct far_transport_ops *ops = far_transport_find(name);

	if (ops == NULL) {
		unknown_log(name);
		return -ENODEV;
	}
	return ops->open(config, out);
}

void
far_transport_close(struct far_transport *tp)
{
	if (tp != NULL)
		tp->ops->close(tp);
}

int
far_transport_maps_nothing(struct far_link *link, const struct far_rkey *rkey,
			   struct far_mapped **out, uint64_t *offset_out, uint64_t *size_out)
{
	(void)link;
	(void)rkey;
	*out = NULL;
	*offset_out = 0;
	*size_out = 0;
	return -EOPNOTSUPP;
}
