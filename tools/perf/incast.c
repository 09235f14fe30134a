/* incast.c - many clients read from one donor, one client from many, and one from one beside them: CLIENTS:DONORS. */
#include <stdio.h>

#include "base/alloc.h"
#include "tools/perf/pool.h"

static int
shape_run(struct pool *pool, const struct pool_options *given, const char *label, uint32_t clients,
	  uint32_t donors)
{
	struct pool_options options = *given;
	int status = 0;

	options.clients = clients;
	options.donors = donors;
	pool->options = &options;
	pool->label = label;
	for (uint32_t i = 0; i < options.size_count && status == 0; i++)
		status = pool_size_run(pool, options.sizes[i]);
	pool->options = given;
	return status;
}

int
perf_incast(int argc, char **argv)
{
	struct pool_options options;
	struct pool *pool = far_zalloc(sizeof(*pool));
	char many_clients[16], many_donors[16];
	int status;

	pool_options_parse(POOL_INCAST, argc, argv, &options);
	if (pool == NULL)
		return perf_fail("no memory");
	status = pool_begin(pool, &options);
	pool->clients_most = options.clients;
	snprintf(many_clients, sizeof(many_clients), "%u:1", options.clients);
	snprintf(many_donors, sizeof(many_donors), "1:%u", options.donors);
	if (status == 0)
		status = shape_run(pool, &options, "1:1", 1, 1);
	if (status == 0)
		status = shape_run(pool, &options, many_clients, options.clients, 1);
	if (status == 0)
		status = shape_run(pool, &options, many_donors, 1, options.donors);
	if (pool->row_count > 0 && pool_report_end(pool) != 0)
		status = 1;
	pool_end(pool);
	far_free(pool);
	return status;
}
