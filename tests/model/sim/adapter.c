/* adapter.c - a donor's adapter as it is, with its tasks looked at on their way in. */
#include <stdio.h>

#include "base/alloc.h"
#include "base/list.h"
#include "tests/model/sim/sim.h"

struct adapter {
	struct far_l2 l2; /* what the client sees */
	struct far_l2 *inner;
	struct sim_client *client;
};

static struct far_l2 *
inner_of(const struct far_l2 *l2)
{
	return FAR_CONTAINER_OF(l2, const struct adapter, l2)->inner;
}

static void
adapter_submit(struct far_l2 *l2, struct far_l2_task *task)
{
	sim_task_watch(FAR_CONTAINER_OF(l2, struct adapter, l2)->client, task);
	inner_of(l2)->ops->submit(inner_of(l2), task);
}

static void
adapter_cancel(struct far_l2 *l2, struct far_l2_task *task)
{
	inner_of(l2)->ops->cancel(inner_of(l2), task);
}

static void
adapter_unlock(struct far_l2 *l2, const struct far_key *keys, size_t count)
{
	inner_of(l2)->ops->unlock(inner_of(l2), keys, count);
}

static uint64_t
adapter_tick(struct far_l2 *l2, uint64_t now_ns)
{
	return inner_of(l2)->ops->tick(inner_of(l2), now_ns);
}

static void
adapter_status(const struct far_l2 *l2, struct far_l2_status *out)
{
	inner_of(l2)->ops->status(inner_of(l2), out);
}

static int
adapter_stats_ask(struct far_l2 *l2, far_l2_stats_fn *done, void *arg, uint64_t deadline_ns)
{
	return inner_of(l2)->ops->stats_ask(inner_of(l2), done, arg, deadline_ns);
}

static int
adapter_usage_ask(struct far_l2 *l2, far_l2_usage_fn *done, void *arg, uint64_t deadline_ns)
{
	return inner_of(l2)->ops->usage_ask(inner_of(l2), done, arg, deadline_ns);
}

static void
adapter_list(struct far_l2 *l2, struct far_l2_listing *listing)
{
	inner_of(l2)->ops->list(inner_of(l2), listing);
}

static void
adapter_quiesce(struct far_l2 *l2)
{
	inner_of(l2)->ops->quiesce(inner_of(l2));
}

static bool
adapter_quiesced(const struct far_l2 *l2)
{
	return inner_of(l2)->ops->quiesced(inner_of(l2));
}

static void
adapter_close(struct far_l2 *l2)
{
	inner_of(l2)->ops->close(inner_of(l2));
	far_free(FAR_CONTAINER_OF(l2, struct adapter, l2));
}

static const struct far_l2_ops adapter_ops = {
	.type = "watched",
	.submit = adapter_submit,
	.cancel = adapter_cancel,
	.unlock = adapter_unlock,
	.tick = adapter_tick,
	.status = adapter_status,
	.stats_ask = adapter_stats_ask,
	.usage_ask = adapter_usage_ask,
	.list = adapter_list,
	.quiesce = adapter_quiesce,
	.quiesced = adapter_quiesced,
	.close = adapter_close,
};

void
sim_adapters_open(struct sim_client *client)
{
	struct far_l2_env env = {
		.clock = client->sim->clock,
		.rng = &client->rng,
		.transports = &client->tp,
		.arenas = &client->mem,
		.transport_count = 1,
		.client_name = client->name,
		.connect_timeout_ns = 5 * FAR_NS_PER_MS,
		.retry_ns_min = 50 * FAR_NS_PER_US,
		.retry_ns_max = 400 * FAR_NS_PER_US,
	};
	char error[256], address[32];

	for (uint32_t d = 0; d < SIM_DONORS; d++) {
		struct far_l2_config config = {
			.type = "donor", .name = client->sim->donors[d].name, .address = address};
		struct adapter *adapter = far_zalloc(sizeof(*adapter));

		(void)snprintf(address, sizeof(address), "loop:%s", client->sim->donors[d].name);
		FAR_ASSERT(far_l2_open(&config, &env, &adapter->inner, error) == 0);
		adapter->client = client;
		adapter->l2 = *adapter->inner;
		adapter->l2.ops = &adapter_ops;
		FAR_ASSERT(far_l2_set_add(&client->set, &adapter->l2) == 0);
	}
}
