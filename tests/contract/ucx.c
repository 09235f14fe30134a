/* ucx.c - the contract suite over transport/ucx: both sides in one thread, TCP on this host. */
#include "tests/contract/contract.h"

#include <stdlib.h>

#include "tests/support/tcp_port.h"

static int
ucx_open_world(struct contract *c)
{
	unsigned port = far_test_tcp_port();

	if (port == 0) {
		printf("no TCP port on 127.0.0.1\n");
		return -ENODEV;
	}
	c->clock = far_clock_real();
	snprintf(c->address, sizeof(c->address), "127.0.0.1:%u", port);
	return 0;
}

static void
ucx_close_world(struct contract *c)
{
	(void)c;
}

static void
ucx_idle(struct contract *c)
{
	(void)c;
	far_clock_sleep_until(far_clock_now(far_clock_real()) + 50 * FAR_NS_PER_US);
}

static const struct contract_backend ucx_backend = {
	.name = "ucx",
	.open = ucx_open_world,
	.close = ucx_close_world,
	.idle = ucx_idle,
	.donor_kill = NULL,
	.lists_take_turns = true,
};

int
main(int argc, char **argv)
{
	const struct contract_backend backend = contract_gpu_backend(&ucx_backend, argc, argv);
	/* Else it would listen on every interface of this machine. */
	if (setenv("UCX_NET_DEVICES", "lo", 1) < 0)
		return 1;
	return contract_run(&backend, "tcp");
}
