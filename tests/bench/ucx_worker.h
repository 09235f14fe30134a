/* ucx_worker.h - what both sides of the UCX measure share: one worker, and the first message. */
#ifndef FAR_TESTS_BENCH_UCX_WORKER_H
#define FAR_TESTS_BENCH_UCX_WORKER_H

#include <stddef.h>
#include <stdint.h>

#include <ucp/api/ucp.h>

struct bench_ucx {
	ucp_context_h context;
	ucp_worker_h worker;
};

/* What the donor says on the socket; key and address of its worker follow. */
struct bench_ucx_hello {
	uint64_t addr;
	uint32_t rkey_bytes;
	uint32_t worker_bytes;
};

/* @tls: UCX's own list of transports. Returns 0 or a negative errno with the reason in @why. */
int bench_ucx_open(struct bench_ucx *ucx, const char *tls, char *why, size_t why_bytes);
void bench_ucx_close(struct bench_ucx *ucx);

/* All of it, or a negative errno. The descriptor blocks; the other side ends it by dying. */
int bench_ucx_send(int fd, const void *from, size_t size_bytes);
int bench_ucx_receive(int fd, void *to, size_t size_bytes);

#endif
