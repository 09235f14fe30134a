/* ucx_get.c - GETs over UCX's shared memory, out of a process that sleeps: its own way, as it comes. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/ucx_worker.h"

#define PART_BYTES_MAX     65536 /* of a packed key or address: a bound, not a size */
#define GET_DEADLINE_NS    (10 * FAR_NS_PER_S)
#define RECEIVE_DEADLINE_S 30

struct bench_mover {
	const struct bench_plan *plan; /* borrowed */
	struct bench_ucx ucx;
	ucp_ep_h ep;
	ucp_rkey_h rkey;
	uint64_t remote_addr;
	pid_t donor;
	int fd; /* our end; its closing ends the donor */
};

static int
donor_start(struct bench_mover *mover, const char *tls)
{
	char fd_text[16], set_text[24];
	char *argv[] = {"farpool-bench", BENCH_UCX_DONOR, NULL, fd_text, set_text, NULL};
	struct timeval timeout = {.tv_sec = RECEIVE_DEADLINE_S};
	posix_spawn_file_actions_t actions;
	char tls_text[64];
	int fds[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -EMFILE;
	setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	snprintf(tls_text, sizeof(tls_text), "%s", tls);
	argv[2] = tls_text;
	/* A dup onto itself takes close-on-exec off, in the child alone. */
	snprintf(fd_text, sizeof(fd_text), "%d", fds[1]);
	snprintf(set_text, sizeof(set_text), "%llu", (unsigned long long)mover->plan->set_bytes);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], fds[1]);
	rc = posix_spawn(&mover->donor, "/proc/self/exe", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	mover->fd = fds[0];
	if (rc != 0)
		mover->donor = 0;
	return rc == 0 ? 0 : -EIO;
}

static void
donor_stop(struct bench_mover *mover)
{
	if (mover->fd >= 0)
		close(mover->fd);
	if (mover->donor > 0) {
		kill(mover->donor, SIGKILL);
		waitpid(mover->donor, NULL, 0);
	}
}

static int
peer_attach(struct bench_mover *mover, const struct bench_ucx_hello *hello, char *parts)
{
	ucp_ep_params_t params = {
		.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS,
		.address = (const ucp_address_t *)(const void *)(parts + hello->rkey_bytes),
	};

	if (bench_ucx_receive(mover->fd, parts, hello->rkey_bytes + hello->worker_bytes) < 0)
		return -ECONNRESET;
	if (ucp_ep_create(mover->ucx.worker, &params, &mover->ep) != UCS_OK)
		return -ENOTCONN;
	if (ucp_ep_rkey_unpack(mover->ep, parts, &mover->rkey) != UCS_OK)
		return -EACCES;
	mover->remote_addr = hello->addr;
	return 0;
}

static int
peer_open(struct bench_mover *mover)
{
	struct bench_ucx_hello hello;
	char *parts;
	int rc;

	if (bench_ucx_receive(mover->fd, &hello, sizeof(hello)) < 0)
		return -ECONNRESET;
	if (hello.rkey_bytes > PART_BYTES_MAX || hello.worker_bytes > PART_BYTES_MAX)
		return -EPROTO;
	parts = far_zalloc((size_t)hello.rkey_bytes + hello.worker_bytes + 1);
	if (parts == NULL)
		return -ENOMEM;
	rc = peer_attach(mover, &hello, parts);
	far_free(parts);
	return rc;
}

/* Ends a request within its deadline; -ETIMEDOUT is what a GET that is not one-sided looks like. */
static int
request_wait(struct bench_mover *mover, ucs_status_ptr_t request)
{
	uint64_t deadline_ns;
	ucs_status_t status;

	if (request == NULL)
		return 0;
	if (UCS_PTR_IS_ERR(request))
		return -EIO;
	deadline_ns = far_clock_now(far_clock_real()) + GET_DEADLINE_NS;
	while ((status = ucp_request_check_status(request)) == UCS_INPROGRESS) {
		ucp_worker_progress(mover->ucx.worker);
		if (far_clock_now(far_clock_real()) >= deadline_ns)
			return -ETIMEDOUT;
	}
	ucp_request_free(request);
	return status == UCS_OK ? 0 : -EIO;
}

static int
ucx_pass(struct bench_mover *mover, uint64_t block_bytes, uint64_t *bytes_out, uint64_t *ns_out)
{
	const struct bench_plan *plan = mover->plan;
	ucp_request_param_t param = {.op_attr_mask = 0};
	char *arena = plan->arena.base;
	uint64_t start_ns = far_clock_now(far_clock_real());

	/* Over shared memory a GET is done when it returns: there is nothing to keep in flight. */
	for (uint64_t at = 0; at < plan->set_bytes; at += block_bytes) {
		int rc = request_wait(mover,
				      ucp_get_nbx(mover->ep, arena + at, block_bytes,
						  mover->remote_addr + at, mover->rkey, &param));

		if (rc < 0)
			return rc;
	}
	*ns_out = far_clock_now(far_clock_real()) - start_ns;
	*bytes_out = plan->set_bytes;
	for (uint64_t at = 0; at < plan->set_bytes; at += block_bytes) {
		if (!bench_ends_are(arena + at, 0, at / sizeof(uint64_t), block_bytes))
			return -EBADMSG;
	}
	return 0;
}

static void
ucx_close(struct bench_mover *mover)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
		.flags = UCP_EP_CLOSE_FLAG_FORCE,
	};

	if (mover->rkey != NULL)
		ucp_rkey_destroy(mover->rkey);
	if (mover->ep != NULL)
		(void)request_wait(mover, ucp_ep_close_nbx(mover->ep, &param));
	bench_ucx_close(&mover->ucx);
	donor_stop(mover);
	far_free(mover);
}

static int
ucx_open(const struct bench_plan *plan, const char *tls, char *why, struct bench_mover **out)
{
	struct bench_mover *mover = far_zalloc(sizeof(*mover));
	ucp_request_param_t param = {.op_attr_mask = 0};
	uint64_t word = 0;
	int rc;

	if (mover == NULL)
		return -ENOMEM;
	mover->plan = plan;
	mover->fd = -1;
	rc = donor_start(mover, tls);
	if (rc == 0)
		rc = bench_ucx_open(&mover->ucx, tls, why, BENCH_TEXT_BYTES);
	if (rc == 0)
		rc = peer_open(mover);
	/* The first GET connects, with the donor's help; from the byte on the donor sleeps. */
	if (rc == 0)
		rc = request_wait(mover, ucp_get_nbx(mover->ep, &word, sizeof(word),
						     mover->remote_addr, mover->rkey, &param));
	if (rc == 0)
		rc = request_wait(mover, ucp_ep_flush_nbx(mover->ep, &param));
	if (rc == 0)
		rc = bench_ucx_send(mover->fd, "g", 1);
	if (rc == 0 && word != bench_word(0, 0))
		rc = -EBADMSG;
	if (rc < 0) {
		if (why[0] == '\0')
			snprintf(why, BENCH_TEXT_BYTES, "UCX_TLS=%s does not connect here", tls);
		ucx_close(mover);
		return rc;
	}
	*out = mover;
	return 0;
}

static int
posix_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return ucx_open(plan, "posix,self", why, out);
}

static int
sysv_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return ucx_open(plan, "sysv,self", why, out);
}

static int
all_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return ucx_open(plan, "posix,sysv,cma,self", why, out);
}

const struct bench_mover_ops bench_ucx_posix = {
	.name = "ucx-posix",
	.text = "ucp_get_nbx out of a sleeping process, UCX_TLS=posix,self",
	.open = posix_open,
	.pass = ucx_pass,
	.close = ucx_close,
};

const struct bench_mover_ops bench_ucx_sysv = {
	.name = "ucx-sysv",
	.text = "ucp_get_nbx out of a sleeping process, UCX_TLS=sysv,self",
	.open = sysv_open,
	.pass = ucx_pass,
	.close = ucx_close,
};

const struct bench_mover_ops bench_ucx_all = {
	.name = "ucx-all",
	.text = "ucp_get_nbx out of a sleeping process, UCX_TLS=posix,sysv,cma,self: UCX chooses",
	.open = all_open,
	.pass = ucx_pass,
	.close = ucx_close,
};
