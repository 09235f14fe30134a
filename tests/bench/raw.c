/* raw.c - READs over one link of a transport, from a process that only serves: no pool, no L1. */
#include "tests/bench/raw.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "tests/bench/bench.h"
#include "tests/bench/process.h"
#include "tools/perf/donor.h"

#define TRANSPORT    "ucx"
#define CONNECT_NS   (10 * FAR_NS_PER_S)
#define READ_NS      (20 * FAR_NS_PER_S)
#define CLOSE_NS     (2 * FAR_NS_PER_S)
#define WAIT_MS      100
#define SERVE_MS     60000
#define LIST_BYTES   ((uint64_t)1 << 20) /* of blocks that are asked for together */
#define LISTS_MAX    8                   /* on their way */
#define LIST_OPS_MAX 64
/* Tokens say what ended. */
#define TOKEN_LIST  1
#define TOKEN_SMALL 2
#define TOKEN_BIG   3

struct bench_mover {
	struct far_link_handler handler;
	const struct bench_plan *plan; /* borrowed */
	struct bench_process donor;
	struct far_transport *tp;
	struct far_link *link;
	struct far_mem *mem; /* the arena */
	struct far_remote remote;
	bool ready;
	bool closed;
	int rc;            /* why it is over */
	uint64_t ended[4]; /* by token */
	uint64_t once_at;  /* where the next single READ reads */
	uint64_t spin_ns;  /* as farpool's thread */
};

static void
on_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct bench_mover *mover = FAR_CONTAINER_OF(handler, struct bench_mover, handler);
	struct bench_raw_hello hello;

	switch (event->kind) {
	case FAR_EV_MESSAGE:
		if (event->msg_bytes == sizeof(hello)) {
			memcpy(&hello, event->msg, sizeof(hello));
			mover->remote = hello.remote;
			mover->ready = true;
		}
		break;
	case FAR_EV_DONE:
		mover->ended[event->token]++;
		if (event->status < 0 && mover->rc == 0)
			mover->rc = event->status;
		break;
	case FAR_EV_LOST:
		mover->rc = event->status;
		break;
	case FAR_EV_CLOSED:
		mover->closed = true;
		break;
	default:
		break;
	}
}

/* A turn, as farpool's thread takes them: it spins as long as it was told to, then it sleeps. */
static void
turn(struct bench_mover *mover)
{
	uint64_t until_ns;

	if (mover->spin_ns == 0) {
		bench_raw_turn(mover->tp, WAIT_MS);
		return;
	}
	until_ns = far_clock_now(far_clock_real()) + mover->spin_ns;
	do {
		if (far_transport_poll(mover->tp, LIST_OPS_MAX) > 0)
			return;
	} while (far_clock_now(far_clock_real()) < until_ns);
	bench_raw_turn(mover->tp, WAIT_MS);
}

/* Reads blocks from @at on into the same place of the arena. */
static int
read_post(struct bench_mover *mover, uint64_t at, uint64_t block_bytes, uint32_t count,
	  uint64_t token)
{
	struct far_piece pieces[LIST_OPS_MAX];
	struct far_op ops[LIST_OPS_MAX];

	for (uint32_t i = 0; i < count; i++) {
		uint64_t offset = at + i * block_bytes;

		pieces[i] = (struct far_piece){
			.addr = (char *)mover->plan->arena.base + offset,
			.size_bytes = (uint32_t)block_bytes,
			.mem = mover->mem,
		};
		ops[i] = (struct far_op){
			.kind = FAR_OP_READ,
			.remote_addr = mover->remote.addr + offset,
			.rkey = mover->remote.rkey,
			.pieces = &pieces[i],
			.piece_count = 1,
			.token = i + 1 == count ? token : 0,
		};
	}
	return far_transport_post(mover->link, ops, (int)count);
}

/* Until so many with that token have ended. */
static int
ended_wait(struct bench_mover *mover, uint64_t token, uint64_t count)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + READ_NS;

	while (mover->rc == 0 && mover->ended[token] < count) {
		turn(mover);
		if (far_clock_now(far_clock_real()) >= deadline_ns)
			mover->rc = -ETIMEDOUT;
	}
	return mover->rc;
}

static int
raw_pass(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out)
{
	uint64_t set_bytes = mover->plan->set_bytes, at = 0, lists = 0;
	uint32_t count = block_bytes < LIST_BYTES ? (uint32_t)(LIST_BYTES / block_bytes) : 1;
	const char *arena = mover->plan->arena.base;
	int rc = 0;

	mover->ended[TOKEN_LIST] = 0;
	bench_pass_begin(out, mover->donor.pid);
	while (rc == 0 && at < set_bytes) {
		if (lists - mover->ended[TOKEN_LIST] == LISTS_MAX) {
			rc = ended_wait(mover, TOKEN_LIST, lists - LISTS_MAX + 1);
			continue;
		}
		rc = read_post(mover, at, block_bytes, count, TOKEN_LIST);
		at += count * block_bytes;
		lists++;
	}
	if (rc == 0)
		rc = ended_wait(mover, TOKEN_LIST, lists);
	bench_pass_end(out, mover->donor.pid, set_bytes);
	for (at = 0; rc == 0 && at < set_bytes; at += block_bytes) {
		if (!bench_ends_are(arena + at, 0, at / sizeof(uint64_t), block_bytes))
			rc = -EBADMSG;
	}
	return rc;
}

static int
read_once(struct bench_mover *mover, uint64_t at, uint64_t block_bytes, uint64_t *ns_out)
{
	uint64_t start_ns = far_clock_now(far_clock_real());
	int rc;

	mover->ended[TOKEN_SMALL] = 0;
	rc = read_post(mover, at, block_bytes, 1, TOKEN_SMALL);
	if (rc == 0)
		rc = ended_wait(mover, TOKEN_SMALL, 1);
	*ns_out = far_clock_now(far_clock_real()) - start_ns;
	if (rc == 0 && !bench_ends_are((const char *)mover->plan->arena.base + at, 0,
				       at / sizeof(uint64_t), block_bytes))
		rc = -EBADMSG;
	return rc;
}

static int
raw_once(struct bench_mover *mover, uint64_t block_bytes, uint64_t *ns_out)
{
	uint64_t at = mover->once_at + block_bytes <= mover->plan->set_bytes ? mover->once_at : 0;

	mover->once_at = at + block_bytes;
	return read_once(mover, at, block_bytes, ns_out);
}

/* Two big READs are always on their way while small ones are timed. */
static int
raw_beside(struct bench_mover *mover, uint64_t *ns, uint32_t *count_out)
{
	uint64_t big_bytes = BENCH_BESIDE_BIG_BYTES, at = 2 * big_bytes, bigs = 0;
	uint64_t until_ns = far_clock_now(far_clock_real()) + BENCH_BESIDE_NS;
	uint32_t done = 0;
	int rc = 0;

	if (at + BENCH_BESIDE_SMALL_BYTES > mover->plan->set_bytes)
		return -E2BIG;
	mover->ended[TOKEN_BIG] = 0;
	while (rc == 0 && done < BENCH_ONCE_COUNT && far_clock_now(far_clock_real()) < until_ns) {
		for (; rc == 0 && bigs - mover->ended[TOKEN_BIG] < 2; bigs++)
			rc = read_post(mover, bigs % 2 * big_bytes, big_bytes, 1, TOKEN_BIG);
		if (rc == 0)
			rc = read_once(mover, at, BENCH_BESIDE_SMALL_BYTES, &ns[done++]);
	}
	*count_out = done;
	return rc == 0 ? ended_wait(mover, TOKEN_BIG, bigs) : rc;
}

static void
raw_close(struct bench_mover *mover)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + CLOSE_NS;

	if (mover->link != NULL) {
		far_transport_disconnect(mover->link);
		while (!mover->closed && far_clock_now(far_clock_real()) < deadline_ns)
			bench_raw_turn(mover->tp, WAIT_MS);
	}
	/* A link that does not close holds its transport: it ends with the process. */
	if (mover->link == NULL || mover->closed) {
		if (mover->mem != NULL)
			far_transport_mem_dereg(mover->mem);
		far_transport_close(mover->tp);
		bench_process_kill(&mover->donor);
		far_free(mover);
	}
}

static int
donor_start(struct bench_mover *mover, const char *address)
{
	struct pollfd wait = {.events = POLLIN};
	const char *argv[] = {"/proc/self/exe", BENCH_RAW_DONOR, TRANSPORT, address, NULL, NULL};
	char set_text[24], byte;
	int rc;

	snprintf(set_text, sizeof(set_text), "%llu", (unsigned long long)mover->plan->set_bytes);
	argv[4] = set_text;
	bench_side_take(mover->plan, BENCH_SIDE_DONOR);
	rc = bench_process_start(&mover->donor, argv, NULL, true);
	bench_side_take(mover->plan, BENCH_SIDE_CLIENT);
	if (rc < 0)
		return rc;
	wait.fd = mover->donor.out_fd;
	if (poll(&wait, 1, SERVE_MS) != 1 || read(wait.fd, &byte, 1) != 1)
		return -EHOSTDOWN;
	return 0;
}

static int
link_open(struct bench_mover *mover, const char *address)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + CONNECT_NS;
	int rc = far_transport_connect(mover->tp, address, NULL, 0, deadline_ns, &mover->handler,
				       &mover->link);

	while (rc == 0 && !mover->ready && mover->rc == 0) {
		bench_raw_turn(mover->tp, WAIT_MS);
		if (far_clock_now(far_clock_real()) >= deadline_ns)
			rc = -ETIMEDOUT;
	}
	return rc == 0 ? mover->rc : rc;
}

static int
raw_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	struct far_transport_config config = {.clock = far_clock_real(),
					      .spin_ns_max = FAR_SPIN_NS_DEFAULT};
	struct far_mem_source source = {.base = plan->arena.base,
					.size_bytes = plan->arena.size_bytes,
					.fd = plan->arena.fd};
	struct bench_mover *mover = far_zalloc(sizeof(*mover));
	char address[32];
	const char *peer = address;
	int rc;

	why[0] = '\0';
	if (mover == NULL)
		return -ENOMEM;
	mover->plan = plan;
	mover->handler.event = on_event;
	mover->spin_ns = plan->busy_poll_us * FAR_NS_PER_US;
	snprintf(address, sizeof(address), "127.0.0.1:%u", perf_port());
	config.peers = &peer;
	config.peer_count = 1;
	rc = donor_start(mover, address);
	if (rc == 0)
		rc = far_transport_open(TRANSPORT, &config, &mover->tp);
	if (rc == 0)
		rc = far_transport_mem_reg(mover->tp, &source, FAR_RIGHT_LOCAL, NULL, &mover->mem);
	if (rc == 0)
		rc = link_open(mover, address);
	if (rc < 0) {
		raw_close(mover);
		return rc;
	}
	*out = mover;
	return 0;
}

const struct bench_mover_ops bench_raw = {
	.name = "raw",
	.text = "READs over one link of farpool's transport, from a process that only serves",
	.required = true,
	.open = raw_open,
	.pass = raw_pass,
	.once = raw_once,
	.beside = raw_beside,
	.close = raw_close,
};
