/* ucx_worker.h - what both sides of the UCX measure share: one worker, and the first message. */
#ifndef FAR_TESTS_BENCH_UCX_WORKER_H
#define FAR_TESTS_BENCH_UCX_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ucp/api/ucp.h>

struct bench_ucx {
	ucp_context_h context;
	ucp_worker_h worker;
};

/* A way of UCX's, as both sides of it are told. */
struct bench_ucx_way {
	const char *name;
	const char *tls;     /* UCX's own list of transports */
	const char *devices; /* NULL: as UCX comes */
	const char *tx_seg;  /* of its TCP transport; NULL: as it comes */
	bool spins;          /* the other side makes progress all the time, instead of sleeping */
};

/* What the donor says on the socket; key and address of its worker follow. */
struct bench_ucx_hello {
	uint64_t addr;
	uint32_t rkey_bytes;
	uint32_t worker_bytes;
};

/* By name; NULL: there is none. */
const struct bench_ucx_way *bench_ucx_way_find(const char *name);

/* Returns 0 or a negative errno with the reason in @why. */
int bench_ucx_open(struct bench_ucx *ucx, const struct bench_ucx_way *way, char *why,
		   size_t why_bytes);
void bench_ucx_close(struct bench_ucx *ucx);

/* All of it, or a negative errno. The descriptor blocks; the other side ends it by dying. */
int bench_ucx_send(int fd, const void *from, size_t size_bytes);
int bench_ucx_receive(int fd, void *to, size_t size_bytes);

/* One byte each, to the donor; it answers with the same byte. */
#define BENCH_UCX_REST 'r' /* it sleeps until the next byte */
#define BENCH_UCX_BUSY 'b' /* it makes progress all the time */

#endif
