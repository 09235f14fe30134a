/* ucx_donor.c - the process whose memory the UCX GETs read: asleep, or busy where they need it. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "tests/bench/bench.h"
#include "tests/bench/ucx_worker.h"

#define PROGRESS_CALLS 64 /* between two looks at the socket */

/* Memory that UCX allocates itself: the only kind that its shared-memory transports can expose. */
static int
donor_map(struct bench_ucx *ucx, uint64_t set_bytes, ucp_mem_h *mem_out, void **base_out)
{
	ucp_mem_map_params_t params = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_LENGTH | UCP_MEM_MAP_PARAM_FIELD_FLAGS,
		.length = set_bytes,
		.flags = UCP_MEM_MAP_ALLOCATE,
	};
	ucp_mem_attr_t attr = {
		.field_mask = UCP_MEM_ATTR_FIELD_ADDRESS | UCP_MEM_ATTR_FIELD_LENGTH,
	};
	ucs_status_t status = ucp_mem_map(ucx->context, &params, mem_out);

	if (status == UCS_OK)
		status = ucp_mem_query(*mem_out, &attr);
	if (status != UCS_OK) {
		fprintf(stderr, "farpool-bench: UCX memory: %s\n", ucs_status_string(status));
		return -ENOMEM;
	}
	*base_out = attr.address;
	bench_fill(*base_out, 0, set_bytes);
	return 0;
}

static int
donor_hello(struct bench_ucx *ucx, int fd, ucp_mem_h mem, const void *base)
{
	struct bench_ucx_hello hello = {.addr = (uint64_t)(uintptr_t)base};
	ucp_address_t *address;
	size_t rkey_bytes, address_bytes;
	void *rkey;
	int rc;

	if (ucp_rkey_pack(ucx->context, mem, &rkey, &rkey_bytes) != UCS_OK)
		return -EIO;
	if (ucp_worker_get_address(ucx->worker, &address, &address_bytes) != UCS_OK) {
		ucp_rkey_buffer_release(rkey);
		return -EIO;
	}
	hello.rkey_bytes = (uint32_t)rkey_bytes;
	hello.worker_bytes = (uint32_t)address_bytes;
	rc = bench_ucx_send(fd, &hello, sizeof(hello));
	if (rc == 0)
		rc = bench_ucx_send(fd, rkey, rkey_bytes);
	if (rc == 0)
		rc = bench_ucx_send(fd, address, address_bytes);
	ucp_worker_release_address(ucx->worker, address);
	ucp_rkey_buffer_release(rkey);
	return rc;
}

/*
 * Progress is made until the client says that it is connected. From then on it only waits for the
 * end, so that a GET that needs us would not complete; or, where GETs do, it makes progress whenever
 * the client has said that it shall.
 */
static void
donor_serve(struct bench_ucx *ucx, int fd)
{
	bool busy = true;
	char byte;

	for (;;) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		int ready = poll(&wait, 1, busy ? 0 : -1);

		if (ready < 0 && errno != EINTR)
			return;
		if (ready > 0) {
			if (recv(fd, &byte, 1, 0) <= 0 || bench_ucx_send(fd, &byte, 1) < 0)
				return;
			busy = byte == BENCH_UCX_BUSY;
		}
		for (int i = 0; busy && i < PROGRESS_CALLS; i++)
			ucp_worker_progress(ucx->worker);
	}
}

int
bench_ucx_donor(int argc, char **argv)
{
	const struct bench_ucx_way *way;
	char why[BENCH_TEXT_BYTES] = "";
	struct bench_ucx ucx;
	ucp_mem_h mem;
	void *base;
	int fd;

	if (argc != 5)
		return 2;
	/* Whatever becomes of the benchmark, this process does not outlive it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = (int)strtol(argv[3], NULL, 10);
	way = bench_ucx_way_find(argv[2]);
	if (way == NULL)
		return 2;
	if (bench_ucx_open(&ucx, way, why, sizeof(why)) < 0) {
		fprintf(stderr, "farpool-bench: UCX donor: %s\n", why);
		return 1;
	}
	if (donor_map(&ucx, strtoull(argv[4], NULL, 10), &mem, &base) < 0) {
		bench_ucx_close(&ucx);
		return 1;
	}
	if (donor_hello(&ucx, fd, mem, base) == 0)
		donor_serve(&ucx, fd);
	ucp_mem_unmap(ucx.context, mem);
	bench_ucx_close(&ucx);
	return 0;
}
