/* gpu.c - the suite for any transport with transport/gpu around its client side. */
#include "tests/contract/contract.h"

#include <stdlib.h>

#include "tests/support/fake_device.h"
#include "transport/gpu/gpu.h"

static struct contract_gpu gpu;

struct contract_backend
contract_gpu_backend(const struct contract_backend *backend, int argc, char **argv)
{
	struct contract_backend out = *backend;

	if (argc < 2)
		return out;
	gpu.device_memory = strcmp(argv[1], "gpu-host") != 0;
	gpu.direct = strcmp(argv[1], "gpu-direct") == 0;
	gpu.mapped = strcmp(argv[1], "gpu-mapped") == 0;
	if (gpu.device_memory && !gpu.direct && !gpu.mapped && strcmp(argv[1], "gpu-staged") != 0) {
		printf("no such variant: %s\n", argv[1]);
		exit(1);
	}
	out.gpu = &gpu;
	/* The ring's turns are not the inner transport's. */
	out.lists_take_turns = false;
	return out;
}

void
contract_gpu_wrap(struct contract *c)
{
	struct far_gpu_config config = {
		.clock = c->clock,
		/* Small, so that everything is cut and waits for room. */
		.stage_bytes = 1ULL << 20,
		.slice_bytes = 128ULL << 10,
		.bytes_in_flight_max = c->config[CLIENT].bytes_in_flight_max,
		.peer_bytes_in_flight_max = c->config[CLIENT].peer_bytes_in_flight_max,
		.paths_off = (gpu.mapped ? 0U : 1U << FAR_GPU_MAPPED) |
			     (gpu.direct ? 0U : 1U << FAR_GPU_DIRECT),
	};
	struct far_transport *wrapped;

	gpu.device = config.device = fake_device_open(7);
	assert_int_equal(far_gpu_open(c->tp[CLIENT], &config, &wrapped), 0);
	assert_string_equal(wrapped->ops->name, c->backend->name);
	c->tp[CLIENT] = wrapped;
}

void
contract_gpu_check(const struct contract *c)
{
	struct far_gpu_status status;

	far_gpu_status_get(c->tp[CLIENT], &status);
	assert_int_equal(status.paths[FAR_GPU_DIRECT].used, gpu.direct);
}

void
contract_gpu_end(void)
{
	fake_device_close(gpu.device);
	gpu.device = NULL;
}
