/* ucx_get.c - UCX's own GETs: over shared memory out of a process that sleeps, over TCP out of a busy one. */
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
#include "tests/bench/process.h"
#include "tests/bench/ucx_worker.h"

#define PART_BYTES_MAX     65536 /* of a packed key or address: a bound, not a size */
#define GET_DEADLINE_NS    (10 * FAR_NS_PER_S)
#define RECEIVE_DEADLINE_S 30
#define WINDOW_MAX         64
#define TRY_ROUNDS         3 /* of each window, when the best is looked for */

struct bench_mover {
	const struct bench_plan *plan; /* borrowed */
	const struct bench_ucx_way *way;
	uint32_t windows[BENCH_SIZES]; /* GETs at a time */
	uint64_t once_at;              /* where the next single GET reads */
	char text[BENCH_TEXT_BYTES];
	struct bench_ucx ucx;
	ucp_ep_h ep;
	ucp_rkey_h rkey;
	uint64_t remote_addr;
	pid_t donor;
	int fd; /* our end; its closing ends the donor */
};

static int
donor_start(struct bench_mover *mover)
{
	char fd_text[16], set_text[24];
	char *argv[] = {"farpool-bench", BENCH_UCX_DONOR, NULL, fd_text, set_text, NULL};
	struct timeval timeout = {.tv_sec = RECEIVE_DEADLINE_S};
	posix_spawn_file_actions_t actions;
	char way_text[16];
	int fds[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -EMFILE;
	setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	snprintf(way_text, sizeof(way_text), "%s", mover->way->name);
	argv[2] = way_text;
	/* A dup onto itself takes close-on-exec off, in the child alone. */
	snprintf(fd_text, sizeof(fd_text), "%d", fds[1]);
	snprintf(set_text, sizeof(set_text), "%llu", (unsigned long long)mover->plan->set_bytes);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], fds[1]);
	if (mover->way->spins)
		bench_side_take(mover->plan, BENCH_SIDE_DONOR);
	rc = posix_spawn(&mover->donor, "/proc/self/exe", &actions, NULL, argv, environ);
	if (mover->way->spins)
		bench_side_take(mover->plan, BENCH_SIDE_CLIENT);
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
		if (ucp_worker_progress(mover->ucx.worker) == 0 &&
		    far_clock_now(far_clock_real()) >= deadline_ns)
			return -ETIMEDOUT;
	}
	ucp_request_free(request);
	return status == UCS_OK ? 0 : -EIO;
}

static ucs_status_ptr_t
get_start(struct bench_mover *mover, uint64_t at, uint64_t size_bytes)
{
	ucp_request_param_t param = {.op_attr_mask = 0};

	return ucp_get_nbx(mover->ep, (char *)mover->plan->arena.base + at, size_bytes,
			   mover->remote_addr + at, mover->rkey, &param);
}

/* GETs of the first @bytes of the set, @window at a time. */
static int
gets_run(struct bench_mover *mover, uint64_t block_bytes, uint64_t bytes, uint32_t window)
{
	ucs_status_ptr_t requests[WINDOW_MAX];
	uint64_t count = bytes / block_bytes, head = 0, tail = 0;
	int rc = 0;

	while (head < count) {
		int rc_one;

		while (rc == 0 && tail < count && tail - head < window) {
			requests[tail % window] = get_start(mover, tail * block_bytes, block_bytes);
			tail++;
		}
		if (head == tail)
			break;
		rc_one = request_wait(mover, requests[head++ % window]);
		rc = rc == 0 ? rc_one : rc;
	}
	return rc;
}

static int
ucx_pass(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out)
{
	const struct bench_plan *plan = mover->plan;
	const char *arena = plan->arena.base;
	pid_t peer = mover->way->spins ? mover->donor : 0;
	uint32_t window = 1;
	int rc;

	/* Over shared memory a GET is done when it returns: there is nothing to keep in flight. */
	for (int s = 0; s < BENCH_SIZES && mover->way->spins; s++)
		if (bench_sizes[s] == block_bytes)
			window = mover->windows[s];
	bench_pass_begin(out, peer);
	rc = gets_run(mover, block_bytes, plan->set_bytes, window);
	bench_pass_end(out, peer, plan->set_bytes);
	for (uint64_t at = 0; rc == 0 && at < plan->set_bytes; at += block_bytes) {
		if (!bench_ends_are(arena + at, 0, at / sizeof(uint64_t), block_bytes))
			rc = -EBADMSG;
	}
	return rc;
}

static int
ucx_once(struct bench_mover *mover, uint64_t block_bytes, uint64_t *ns_out)
{
	const struct bench_plan *plan = mover->plan;
	uint64_t at = mover->once_at + block_bytes <= plan->set_bytes ? mover->once_at : 0;
	uint64_t start_ns = far_clock_now(far_clock_real());
	int rc = request_wait(mover, get_start(mover, at, block_bytes));

	*ns_out = far_clock_now(far_clock_real()) - start_ns;
	mover->once_at = at + block_bytes;
	if (rc == 0 && !bench_ends_are((const char *)plan->arena.base + at, 0,
				       at / sizeof(uint64_t), block_bytes))
		rc = -EBADMSG;
	return rc;
}

/* Two big GETs are always on their way while small ones are timed. */
static int
ucx_beside(struct bench_mover *mover, uint64_t *ns, uint32_t *count_out)
{
	uint64_t big_bytes = BENCH_BESIDE_BIG_BYTES, at = 2 * big_bytes;
	ucs_status_ptr_t bigs[2] = {NULL, NULL};
	uint64_t until_ns = far_clock_now(far_clock_real()) + BENCH_BESIDE_NS;
	uint32_t done = 0;
	int rc = 0;

	if (at + BENCH_BESIDE_SMALL_BYTES > mover->plan->set_bytes)
		return -E2BIG;
	while (rc == 0 && done < BENCH_ONCE_COUNT && far_clock_now(far_clock_real()) < until_ns) {
		uint64_t start_ns;

		for (uint32_t b = 0; b < 2 && rc == 0; b++) {
			if (bigs[b] != NULL && ucp_request_check_status(bigs[b]) == UCS_INPROGRESS)
				continue;
			rc = request_wait(mover, bigs[b]);
			bigs[b] = rc == 0 ? get_start(mover, b * big_bytes, big_bytes) : NULL;
		}
		start_ns = far_clock_now(far_clock_real());
		if (rc == 0)
			rc = request_wait(mover, get_start(mover, at, BENCH_BESIDE_SMALL_BYTES));
		ns[done++] = far_clock_now(far_clock_real()) - start_ns;
	}
	*count_out = done;
	for (uint32_t b = 0; b < 2; b++) {
		int rc_big = request_wait(mover, bigs[b]);

		rc = rc == 0 ? rc_big : rc;
	}
	return rc;
}

static int
ucx_busy(struct bench_mover *mover, bool on)
{
	char byte = on ? BENCH_UCX_BUSY : BENCH_UCX_REST;
	int rc = bench_ucx_send(mover->fd, &byte, 1);

	return rc == 0 ? bench_ucx_receive(mover->fd, &byte, 1) : rc;
}

static const char *
ucx_note(const struct bench_mover *mover)
{
	return mover->text;
}

/* The best of several windows for each size, as good as a quarter of a set can tell. */
static int
windows_find(struct bench_mover *mover)
{
	static const uint32_t tries[] = {1, 2, 4, 8, 16, 32, WINDOW_MAX};
	uint64_t bytes = mover->plan->set_bytes / 4;
	size_t text = 0;
	int rc = 0;

	for (int s = 0; s < BENCH_SIZES; s++) {
		uint64_t best_ns = UINT64_MAX;

		for (size_t t = 0; t < TRY_ROUNDS * sizeof(tries) / sizeof(tries[0]) && rc == 0;
		     t++) {
			uint32_t window = tries[t % (sizeof(tries) / sizeof(tries[0]))];
			uint64_t start_ns = far_clock_now(far_clock_real()), ns;

			rc = gets_run(mover, bench_sizes[s], bytes, window);
			ns = far_clock_now(far_clock_real()) - start_ns;
			if (ns < best_ns) {
				best_ns = ns;
				mover->windows[s] = window;
			}
		}
		text += (size_t)snprintf(mover->text + text, sizeof(mover->text) - text, "%s%u",
					 s == 0 ? "GETs at a time, the best of 1 to 64: " : ", ",
					 mover->windows[s]);
	}
	return rc;
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

/* The first GET connects, with the donor's help; then the donor sleeps. */
static int
ucx_connect(struct bench_mover *mover)
{
	ucp_request_param_t param = {.op_attr_mask = 0};
	uint64_t word = 0;
	int rc = request_wait(mover, ucp_get_nbx(mover->ep, &word, sizeof(word), mover->remote_addr,
						 mover->rkey, &param));

	if (rc == 0)
		rc = request_wait(mover, ucp_ep_flush_nbx(mover->ep, &param));
	if (rc == 0 && mover->way->spins)
		rc = windows_find(mover);
	if (rc == 0)
		rc = ucx_busy(mover, false);
	return rc == 0 && word != bench_word(0, 0) ? -EBADMSG : rc;
}

static int
ucx_open(const struct bench_plan *plan, const char *name, char *why, struct bench_mover **out)
{
	struct bench_mover *mover = far_zalloc(sizeof(*mover));
	int rc;

	if (mover == NULL)
		return -ENOMEM;
	mover->plan = plan;
	mover->way = bench_ucx_way_find(name);
	mover->fd = -1;
	rc = donor_start(mover);
	if (rc == 0)
		rc = bench_ucx_open(&mover->ucx, mover->way, why, BENCH_TEXT_BYTES);
	if (rc == 0)
		rc = peer_open(mover);
	if (rc == 0)
		rc = ucx_connect(mover);
	if (rc < 0) {
		if (why[0] == '\0')
			snprintf(why, BENCH_TEXT_BYTES, "UCX_TLS=%s does not connect here",
				 mover->way->tls);
		ucx_close(mover);
		return rc;
	}
	*out = mover;
	return 0;
}

static int
posix_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return ucx_open(plan, "posix", why, out);
}

static int
sysv_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return ucx_open(plan, "sysv", why, out);
}

static int
all_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return ucx_open(plan, "all", why, out);
}

static int
tcp_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return ucx_open(plan, "tcp", why, out);
}

static int
tcp64_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return ucx_open(plan, "tcp64", why, out);
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

const struct bench_mover_ops bench_ucx_tcp = {
	.name = "ucp-get",
	.text = "ucp_get_nbx over UCX's TCP as it comes, out of a process that makes progress all "
		"the time",
	.role = BENCH_YARDSTICK,
	.open = tcp_open,
	.pass = ucx_pass,
	.once = ucx_once,
	.beside = ucx_beside,
	.busy = ucx_busy,
	.note = ucx_note,
	.close = ucx_close,
};

const struct bench_mover_ops bench_ucx_tcp64 = {
	.name = "ucp-get-64k",
	.text = "the same with UCX_TCP_TX_SEG_SIZE=64k on both sides",
	.role = BENCH_YARDSTICK,
	.open = tcp64_open,
	.pass = ucx_pass,
	.once = ucx_once,
	.beside = ucx_beside,
	.busy = ucx_busy,
	.note = ucx_note,
	.close = ucx_close,
};
