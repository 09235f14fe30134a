/* shm.c - the contract suite over transport/shm: both sides in one thread, on the real clock. */
#include "tests/contract/contract.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/helpers.h"

#define HELPERS 2

static char directory[] = "/tmp/farpool-contract-XXXXXX";
static struct far_helpers *helpers;

static int
shm_open_world(struct contract *c)
{
	static unsigned number;

	c->clock = far_clock_real();
	/* A path of its own: a test that failed leaves its listener behind. */
	snprintf(c->address, sizeof(c->address), "%s/%u", directory, number++);
	/* Both sides are one thread: they take turns with them. */
	c->config[DONOR].helpers = helpers;
	c->config[CLIENT].helpers = helpers;
	return 0;
}

static void
shm_close_world(struct contract *c)
{
	/* What it made, it removed. */
	assert_int_not_equal(access(c->address, F_OK), 0);
}

static void
shm_idle(struct contract *c)
{
	(void)c;
	far_clock_sleep_until(far_clock_now(far_clock_real()) + 20 * FAR_NS_PER_US);
}

static const struct contract_backend shm_backend = {
	.name = "shm",
	.open = shm_open_world,
	.close = shm_close_world,
	.idle = shm_idle,
	.donor_kill = NULL,
};

int
main(int argc, char **argv)
{
	const struct contract_backend backend = contract_gpu_backend(&shm_backend, argc, argv);
	int failed;

	if (mkdtemp(directory) == NULL) {
		printf("no directory for sockets under /tmp\n");
		return 77;
	}
	failed = contract_run(&backend, "same host");
	if (argc == 1 && far_helpers_open("contract", HELPERS, FAR_HELPERS_SPIN_NS, &helpers) == 0)
		failed += contract_run(&backend, "same host, with helpers");
	far_helpers_close(helpers);
	rmdir(directory);
	return failed;
}
