/* loop.c - the contract suite over transport/loop: kind, and unkind under several seeds. */
#include "tests/contract/contract.h"

#include "transport/loop/loop.h"

static struct far_loop_config loop_config = {.sums_from = 1000};

static int
loop_open(struct contract *c)
{
	struct far_loop_fabric *fabric;

	assert_int_equal(far_loop_fabric_open(&loop_config, &fabric), 0);
	c->world = fabric;
	c->clock = far_loop_clock(fabric);
	snprintf(c->address, sizeof(c->address), "donor");
	c->config[DONOR].fabric = fabric;
	c->config[DONOR].host = "donor";
	c->config[CLIENT].fabric = fabric;
	c->config[CLIENT].host = "client";
	return 0;
}

static void
loop_close(struct contract *c)
{
	far_loop_fabric_close(c->world);
}

static void
loop_idle(struct contract *c)
{
	far_loop_step(c->world, far_clock_now(c->clock) + FAR_NS_PER_MS);
}

static void
loop_donor_kill(struct contract *c)
{
	far_loop_host_kill(c->world, "donor");
	far_loop_host_bury(c->tp[DONOR]);
	contract_donor_forget(c);
}

static const struct contract_backend loop_backend = {
	.name = "loop",
	.open = loop_open,
	.close = loop_close,
	.idle = loop_idle,
	.donor_kill = loop_donor_kill,
};

int
main(int argc, char **argv)
{
	const struct contract_backend backend = contract_gpu_backend(&loop_backend, argc, argv);
	int failed = contract_run(&backend, "kind");

	for (uint64_t seed = 1; seed <= 4; seed++) {
		char variant[32];

		loop_config = (struct far_loop_config){
			.seed = seed,
			.latency_ns_min = 1000,
			.latency_ns_max = 20000,
			.reorder = true,
			.reexecute = 20000,
			.late = 6000,
			.late_ns_max = 200000,
			.sums_from = seed % 2 == 0 ? 64 : 0,
		};
		snprintf(variant, sizeof(variant), "unkind, seed %u", (unsigned)seed);
		failed |= contract_run(&backend, variant);
	}
	return failed;
}
