/* verbs.c - the contract suite over transport/verbs: two devices, or one, of this host. */
#include "tests/contract/contract.h"

#include <stdlib.h>
#include <unistd.h>

#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"

/* Another for each test and process: RDMA CM keeps one that was used for a while. */
static unsigned
port_next(void)
{
	static unsigned given;

	return 20000U + ((unsigned)getpid() * 131U + given++) % 10000U;
}

static int
verbs_open_world(struct contract *c)
{
	c->clock = far_clock_real();
	snprintf(c->address, sizeof(c->address), "%s:%u", getenv(HOST_VARIABLE), port_next());
	return 0;
}

static void
verbs_close_world(struct contract *c)
{
	(void)c;
}

static void
verbs_idle(struct contract *c)
{
	(void)c;
	far_clock_sleep_until(far_clock_now(far_clock_real()) + 50 * FAR_NS_PER_US);
}

static const struct contract_backend verbs_backend = {
	.name = "verbs",
	.open = verbs_open_world,
	.close = verbs_close_world,
	.idle = verbs_idle,
	.donor_kill = NULL,
};

/* An argument is a variant with transport/gpu around the client, or a pattern of names of tests. */
int
main(int argc, char **argv)
{
	bool gpu = argc > 1 && strncmp(argv[1], "gpu-", 4) == 0;
	const struct contract_backend backend =
		contract_gpu_backend(&verbs_backend, gpu ? argc : 1, argv);

	if (getenv(HOST_VARIABLE) == NULL) {
		printf("skipped: %s names no address of an RDMA port of this host\n",
		       HOST_VARIABLE);
		return 77;
	}
	if (argc > 1 && !gpu)
		cmocka_set_test_filter(argv[1]);
	return contract_run(&backend, "RDMA");
}
