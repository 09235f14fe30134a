/* bench_transport.c - READs and WRITEs of GPU memory over transport/gpu alone: no index, no L1. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/pages.h"
#include "tests/gpu/bench.h"
#include "tests/gpu/null.h"
#include "tests/gpu/runner.h"
#include "transport/gpu/gpu.h"

#define LIST_OPS_MAX 64
#define LIST_BYTES   (8ULL << 20) /* of blocks that are asked for together */
#define LISTS_MAX    12           /* on their way */
#define POLL_BUDGET  64
#define WAIT_NS      (20 * FAR_NS_PER_S)

/* ---- the process whose memory it is ---- */

struct hello {
	struct far_remote remote;
};

struct exposer {
	struct far_link_handler handler;
	struct far_link *link; /* NULL: nobody is connected */
	struct far_mem *mem;
	bool greet;
};

static void
exposer_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct exposer *exposer = FAR_CONTAINER_OF(handler, struct exposer, handler);

	if (event->kind == FAR_EV_LOST)
		far_transport_disconnect(event->link);
	else if (event->kind == FAR_EV_CLOSED)
		exposer->link = NULL;
}

static struct far_link_handler *
exposer_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct exposer *exposer = arg;

	(void)hello;
	(void)hello_bytes;
	if (exposer->link != NULL)
		return NULL;
	exposer->link = link;
	exposer->greet = true;
	return &exposer->handler;
}

int
bench_exposer_run(int argc, char **argv)
{
	struct far_transport_config config = {.clock = far_clock_real(),
					      .spin_ns_max = FAR_SPIN_NS_DEFAULT};
	struct exposer exposer = {.handler = {.event = exposer_event}};
	struct pollfd waits[2] = {{.events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
	struct far_mem_source source = {.fd = -1};
	struct far_listener *listener;
	struct far_transport *tp;
	struct far_pages pages;

	if (argc != 4)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	source.size_bytes = strtoull(argv[3], NULL, 10);
	CHECK_EQ(
		far_pages_map_shared("exposer", source.size_bytes, FAR_PAGES_HUGE_AUTO, -1, &pages),
		0);
	source.base = pages.base;
	source.fd = pages.fd;
	gpu_pattern_fill(pages.base, source.size_bytes, BENCH_SEED);
	CHECK_EQ(far_transport_open("shm", &config, &tp), 0);
	CHECK_EQ(far_transport_mem_reg(tp, &source, FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE,
				       NULL, &exposer.mem),
		 0);
	CHECK_EQ(far_transport_listen(tp, argv[2], exposer_accept, &exposer, &listener), 0);
	CHECK_EQ(write(STDOUT_FILENO, "r", 1), 1);
	waits[0].fd = tp->fd;
	while ((waits[1].revents & (POLLHUP | POLLERR)) == 0) {
		struct hello hello = {.remote = exposer.mem->remote};

		if (exposer.greet && exposer.link != NULL && exposer.link->up &&
		    far_transport_mem_expose(exposer.mem, exposer.link) == 0 &&
		    far_transport_send(exposer.link, &hello, sizeof(hello)) == 0)
			exposer.greet = false;
		if (far_transport_poll(tp, POLL_BUDGET) == 0 && far_transport_arm(tp) == 0)
			(void)poll(waits, 2, 100);
	}
	return 0; /* whoever reads still is in his last moments, too */
}

/* ---- the side with the GPU ---- */

struct bench_mover {
	struct bench *bench;
	struct far_link_handler handler;
	struct runner_process exposer; /* pid 0: none */
	char folder[64];
	struct far_transport *tp;
	struct far_link *link;
	struct far_mem *mem;
	struct far_remote remote;
	enum far_op_kind kind;
	bool ready, closed;
	uint64_t lists;        /* on their way */
	uint64_t staged_bytes; /* of a mapped one, before it is measured */
};

static void
mover_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct bench_mover *mover = FAR_CONTAINER_OF(handler, struct bench_mover, handler);
	struct hello hello;

	switch (event->kind) {
	case FAR_EV_CONNECTED:
		mover->ready = mover->exposer.pid == 0;
		break;
	case FAR_EV_MESSAGE:
		CHECK_EQ(event->msg_bytes, sizeof(hello));
		memcpy(&hello, event->msg, sizeof(hello));
		mover->remote = hello.remote;
		mover->ready = true;
		break;
	case FAR_EV_DONE:
		CHECK_EQ(event->status, 0);
		mover->lists--;
		break;
	case FAR_EV_LOST:
		runner_fail(__FILE__, __LINE__, "the link was lost: %d", event->status);
	case FAR_EV_CLOSED:
		mover->closed = true;
		break;
	default:
		break;
	}
}

static void
exposer_start(struct bench_mover *mover, char address[96])
{
	char size[32], byte;
	const char *argv[] = {"--exposer", address, size, NULL};

	snprintf(mover->folder, sizeof(mover->folder), "/tmp/farpool-gpu-XXXXXX");
	CHECK(mkdtemp(mover->folder) != NULL);
	snprintf(address, 96, "%s/sock", mover->folder);
	snprintf(size, sizeof(size), "%llu", (unsigned long long)mover->bench->set_bytes);
	runner_spawn(&mover->exposer, argv, -1);
	CHECK_EQ(read(mover->exposer.out_fd, &byte, 1), 1);
}

static void
ready_wait(struct bench_mover *mover)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + WAIT_NS;

	while (!mover->ready) {
		(void)far_transport_poll(mover->tp, POLL_BUDGET);
		CHECK(far_clock_now(far_clock_real()) < until_ns);
	}
}

/* @over_shm: or over the transport that moves nothing. */
static void
mover_open(struct bench *bench, enum far_op_kind kind, bool over_shm, bool mapped,
	   struct bench_mover **out)
{
	struct far_transport_config config = {.clock = far_clock_real(),
					      .spin_ns_max = FAR_SPIN_NS_DEFAULT};
	struct far_gpu_config gpu_config = {.device = bench->gpu.device,
					    .clock = far_clock_real(),
					    .paths_off = mapped ? 0 : 1U << FAR_GPU_MAPPED};
	struct far_mem_source source = {.base = bench->arena.base,
					.size_bytes = bench->set_bytes,
					.fd = -1,
					.relaxed = true,
					.device = bench->gpu.device};
	struct bench_mover *mover = calloc(1, sizeof(*mover));
	struct far_transport *inner;
	char address[96] = "";

	CHECK(mover != NULL);
	mover->bench = bench;
	mover->kind = kind;
	mover->handler.event = mover_event;
	if (over_shm) {
		exposer_start(mover, address);
		CHECK_EQ(far_transport_open("shm", &config, &inner), 0);
	} else {
		CHECK_EQ(null_transport_open(&inner), 0);
	}
	CHECK_EQ(far_gpu_open(inner, &gpu_config, &mover->tp), 0);
	CHECK_EQ(far_transport_mem_reg(mover->tp, &source, FAR_RIGHT_LOCAL, NULL, &mover->mem), 0);
	CHECK_EQ(far_transport_connect(mover->tp, address, NULL, 0,
				       far_clock_now(far_clock_real()) + WAIT_NS, &mover->handler,
				       &mover->link),
		 0);
	ready_wait(mover);
	*out = mover;
}

static void
mover_close(struct bench_mover *mover)
{
	char path[96];

	far_transport_disconnect(mover->link);
	while (!mover->closed)
		(void)far_transport_poll(mover->tp, POLL_BUDGET);
	far_transport_mem_dereg(mover->mem);
	far_transport_close(mover->tp);
	if (mover->exposer.pid > 0) {
		CHECK_EQ(runner_join(&mover->exposer, 10), 0);
		snprintf(path, sizeof(path), "%s/sock", mover->folder);
		(void)unlink(path);
		(void)rmdir(mover->folder);
	}
	free(mover);
}

/* Posts one list; false: it is full. */
static bool
list_post(struct bench_mover *mover, uint64_t at, uint64_t block_bytes, uint32_t count)
{
	struct far_piece pieces[LIST_OPS_MAX];
	struct far_op ops[LIST_OPS_MAX];
	int rc;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t offset = at + i * block_bytes;

		pieces[i] = (struct far_piece){
			.addr = (uint8_t *)mover->bench->arena.base + offset,
			.size_bytes = (uint32_t)block_bytes,
			.mem = mover->mem,
		};
		ops[i] = (struct far_op){
			.kind = mover->kind,
			.remote_addr = mover->remote.addr + offset,
			.rkey = mover->remote.rkey,
			.pieces = &pieces[i],
			.piece_count = 1,
			.token = i + 1 == count ? 1 : 0,
		};
	}
	rc = far_transport_post(mover->link, ops, (int)count);
	CHECK(rc == 0 || rc == -EAGAIN);
	mover->lists += rc == 0;
	return rc == 0;
}

static uint64_t
mover_move(struct bench_mover *mover, uint64_t block_bytes, uint64_t bytes)
{
	uint64_t start_ns = far_clock_now(far_clock_real()), at = 0;
	uint32_t count = block_bytes < LIST_BYTES ? (uint32_t)(LIST_BYTES / block_bytes) : 1;

	if (count > LIST_OPS_MAX)
		count = LIST_OPS_MAX;
	while (at < bytes || mover->lists > 0) {
		while (at < bytes && mover->lists < LISTS_MAX) {
			uint64_t left = (bytes - at) / block_bytes;
			uint32_t now = left < count ? (uint32_t)left : count;

			if (!list_post(mover, at, block_bytes, now))
				break;
			at += now * block_bytes;
		}
		(void)far_transport_poll(mover->tp, POLL_BUDGET);
		CHECK(far_clock_now(far_clock_real()) < start_ns + WAIT_NS);
	}
	return far_clock_now(far_clock_real()) - start_ns;
}

static uint64_t
mover_pass(struct bench_mover *mover, uint64_t block_bytes)
{
	return mover_move(mover, block_bytes, mover->bench->set_bytes);
}

static uint64_t
mover_once(struct bench_mover *mover)
{
	return mover_move(mover, BENCH_ONCE_BYTES, BENCH_ONCE_BYTES);
}

/* What a READ brought is the exposer's pattern. */
static void
load_check(struct bench_mover *mover)
{
	CHECK_EQ(gpu_wrong(&mover->bench->gpu, mover->bench->arena.base, mover->bench->set_bytes,
			   BENCH_SEED),
		 0);
}

static bool
free_load_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	(void)why;
	mover_open(bench, FAR_OP_READ, false, false, out);
	return true;
}

static bool
staged_load_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	(void)why;
	mover_open(bench, FAR_OP_READ, true, false, out);
	return true;
}

/* The exposer's memory is pinned beside the first READs: it is measured when that is over. */
static bool
mapped_load_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + WAIT_NS;
	struct far_gpu_status status;

	if ((bench->gpu.device->info.flags & FAR_DEVICE_MAP_READONLY) == 0) {
		snprintf(why, 160, "this GPU pins no memory that is mapped read-only");
		return false;
	}
	mover_open(bench, FAR_OP_READ, true, true, out);
	do {
		(void)mover_once(*out);
		far_gpu_status_get((*out)->tp, &status);
		CHECK(far_clock_now(far_clock_real()) < until_ns);
	} while (status.paths[FAR_GPU_MAPPED].bytes == 0);
	(*out)->staged_bytes = status.paths[FAR_GPU_STAGED].bytes;
	return true;
}

/* And none of it went through the ring. */
static void
mapped_check(struct bench_mover *mover)
{
	struct far_gpu_status status;

	far_gpu_status_get(mover->tp, &status);
	CHECK(status.paths[FAR_GPU_MAPPED].bytes >= mover->bench->set_bytes);
	CHECK_EQ(status.paths[FAR_GPU_STAGED].bytes, mover->staged_bytes);
	load_check(mover);
}

static bool
free_store_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	(void)why;
	mover_open(bench, FAR_OP_WRITE, false, false, out);
	return true;
}

static bool
staged_store_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	(void)why;
	mover_open(bench, FAR_OP_WRITE, true, false, out);
	return true;
}

const struct bench_mover_ops bench_mapped_load = {
	.name = "mapped",
	.text = "READs over shm, transport alone; the copy engine reads the peer's memory",
	.way = BENCH_LOAD,
	.aim = 0.95,
	.open = mapped_load_open,
	.pass = mover_pass,
	.once = mover_once,
	.check = mapped_check,
	.close = mover_close,
};

const struct bench_mover_ops bench_free_load = {
	.name = "staged-free",
	.text = "READs that cost nothing, transport alone: the ring and its copies",
	.way = BENCH_LOAD,
	.aim = 0.90,
	.open = free_load_open,
	.pass = mover_pass,
	.once = mover_once,
	.close = mover_close,
};

const struct bench_mover_ops bench_staged_load = {
	.name = "staged-shm",
	.text = "READs over shm, transport alone; a processor copies into the ring (see memcpy)",
	.way = BENCH_LOAD,
	.open = staged_load_open,
	.pass = mover_pass,
	.once = mover_once,
	.check = load_check,
	.close = mover_close,
};

const struct bench_mover_ops bench_free_store = {
	.name = "staged-free-out",
	.text = "WRITEs that cost nothing, transport alone",
	.way = BENCH_STORE,
	.aim = 0.90,
	.open = free_store_open,
	.pass = mover_pass,
	.once = mover_once,
	.close = mover_close,
};

const struct bench_mover_ops bench_staged_store = {
	.name = "staged-shm-out",
	.text = "WRITEs over shm, transport alone; the peer's processor copies them out",
	.way = BENCH_STORE,
	.open = staged_store_open,
	.pass = mover_pass,
	.once = mover_once,
	.close = mover_close,
};
