/* shm_link.c - any packets, with any descriptors, from a peer on this host: they cost its link, no more. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/list.h"
#include "base/log.h"
#include "base/pages.h"
#include "tests/fuzz/input.h"
#include "transport/shm/frame.h"
#include "transport/shm/shm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

#define STEPS_MAX   64U
#define TOKENS_MAX  64U
#define POLLS_MAX   20000U
#define PAGE_BYTES  4096U
#define GRANT_BYTES 4096U /* the peer may write there; the page before and behind it is guarded */
#define GUARD       0xa5
#define NONCE       77U

/* Our end of the link. */
struct end {
	struct far_link_handler handler;
	struct far_link *link;
	bool lost, closed, disconnected;
	uint8_t tokens[TOKENS_MAX]; /* 1: posted, 2: done */
	uint32_t posted;
};

static struct world {
	struct input in;
	struct far_clock_fake clock;
	struct far_transport *tp;
	struct far_listener *listener;
	struct end end;
	struct far_mem *shown, *grant, *local;
	int fd; /* the peer's socket; -1: none */
	uint32_t crc32c;
	uint64_t seq;
} world;

/* What lives through all executions: memory of both sides. */
static struct {
	struct far_pages ours;    /* guard, grant, guard, landing */
	struct far_pages control; /* the peer's */
	struct far_pages theirs;
	int loose; /* a memfd that can shrink */
	int null;
} fixed;

static char address[64];

/* ---- our end ---- */

static void
end_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct end *end = FAR_CONTAINER_OF(handler, struct end, handler);

	FAR_ASSERT(!end->closed);
	switch (event->kind) {
	case FAR_EV_MESSAGE:
		FAR_ASSERT(!end->disconnected);
		FAR_ASSERT(event->msg_bytes <= FAR_MESSAGE_BYTES_MAX);
		FAR_ASSERT((uintptr_t)event->msg % 8 == 0);
		break;
	case FAR_EV_DONE:
		FAR_ASSERT(event->token > 0 && event->token <= end->posted);
		FAR_ASSERT(end->tokens[event->token - 1] == 1);
		FAR_ASSERT(event->status <= 0);
		end->tokens[event->token - 1] = 2;
		break;
	case FAR_EV_LOST:
		FAR_ASSERT(!end->lost);
		FAR_ASSERT(event->status < 0);
		end->lost = true;
		break;
	case FAR_EV_CLOSED:
		for (uint32_t i = 0; i < end->posted; i++)
			FAR_ASSERT(end->tokens[i] == 2);
		end->closed = true;
		end->link = NULL;
		break;
	case FAR_EV_CONNECTED:
	case FAR_EV_SENDABLE:
		break;
	}
}

static struct far_link_handler *
end_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	(void)arg;
	(void)hello;
	FAR_ASSERT(hello_bytes <= FAR_HELLO_BYTES_MAX);
	if (world.end.link != NULL || world.end.closed)
		return NULL;
	world.end.link = link;
	return &world.end.handler;
}

static void
end_disconnect(void)
{
	if (world.end.link == NULL || world.end.disconnected)
		return;
	world.end.disconnected = true;
	far_transport_disconnect(world.end.link);
}

/* A READ out of, or a WRITE into, a region that the peer may have announced. */
static void
end_post(uint8_t how, uint16_t at)
{
	struct far_piece piece = {
		.addr = world.local->base, .size_bytes = 64U << (how >> 5) % 7, .mem = world.local};
	struct far_op op = {.kind = (how & 1) != 0 ? FAR_OP_WRITE : FAR_OP_READ,
			    .pieces = &piece,
			    .piece_count = 1,
			    .remote_addr = at};
	uint64_t key[2] = {NONCE, how >> 1 & 3};

	if (world.end.link == NULL || world.end.disconnected || world.end.posted == TOKENS_MAX)
		return;
	memcpy(op.rkey.bytes, key, sizeof(key));
	if (op.kind == FAR_OP_WRITE && (how >> 3 & 1) != 0 && world.end.link->sums_from != 0)
		op.crc32c = &world.crc32c;
	op.token = ++world.end.posted;
	world.end.tokens[op.token - 1] = 1;
	if (far_transport_post(world.end.link, &op, 1) != 0)
		world.end.posted--;
}

static void
polls(uint32_t count)
{
	for (uint32_t i = 0; i < count && far_transport_poll(world.tp, 64) > 0; i++)
		;
}

/* ---- the peer ---- */

static void
packet_send(const void *bytes, size_t size_bytes, int pass_fd)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size_bytes};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (world.fd < 0)
		return;
	if (pass_fd >= 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &pass_fd, sizeof(int));
	}
	(void)!sendmsg(world.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
frame_send(enum shm_frame_kind kind, const void *body, size_t body_bytes, uint32_t credits,
	   int pass_fd)
{
	static uint8_t packet[SHM_FRAME_BYTES_MAX];
	struct shm_frame_header header;

	far_shm_frame_header_fill(&header, kind, body_bytes, credits);
	memcpy(packet, &header, sizeof(header));
	if (body_bytes > 0)
		memcpy(packet + sizeof(header), body, body_bytes);
	packet_send(packet, sizeof(header) + body_bytes, pass_fd);
}

static int
descriptor(uint8_t which)
{
	const int fds[] = {fixed.theirs.fd, fixed.control.fd, fixed.loose,
			   fixed.null,      world.fd,         -1};

	return fds[which % (sizeof(fds) / sizeof(fds[0]))];
}

static void
peer_connect(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (world.fd >= 0)
		return;
	world.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	memcpy(addr.sun_path, address, strlen(address) + 1);
	FAR_ASSERT(connect(world.fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
}

static void
hello_send(uint8_t how)
{
	struct shm_frame_hello hello = {.features = (how >> 3 & 1) != 0 ? SHM_FEATURE_SUMS : 0,
					.nonce = NONCE,
					.credits = 1U << (how & 7)};

	hello.hello_bytes = (how >> 3 & 1) != 0 ? how : 4;
	frame_send(SHM_FRAME_HELLO, &hello, sizeof(hello), 0,
		   how >> 4 == 0 ? fixed.control.fd : descriptor(how >> 4));
}

static void
mem_send(uint8_t how)
{
	struct shm_frame_mem mem = {.region = how & 3,
				    .size_bytes = PAGE_BYTES,
				    .rights = FAR_RIGHT_REMOTE_READ | FAR_RIGHT_LOCAL};

	if ((how >> 2 & 1) != 0)
		mem.size_bytes = input_edge(&world.in);
	if ((how >> 3 & 1) != 0)
		mem.fd_offset = input_edge(&world.in);
	if ((how >> 4 & 1) != 0)
		mem.rights = input_u8(&world.in);
	frame_send(SHM_FRAME_MEM, &mem, sizeof(mem), 0, descriptor(how >> 5));
}

static void
write_send(uint8_t how)
{
	struct shm_frame_write pieces[4];
	uint32_t count = how & 3;

	memset(pieces, 0, sizeof(pieces));
	for (uint32_t i = 0; i < count; i++) {
		uint8_t shape = input_u8(&world.in);
		const struct far_mem *mem = (shape & 1) != 0 ? world.shown : world.grant;

		pieces[i] = (struct shm_frame_write){
			.source = shape >> 1 & 3, .size_bytes = 64, .flags = SHM_WRITE_LAST};
		if (mem != NULL)
			pieces[i].rkey = mem->remote.rkey;
		if ((shape >> 3 & 1) != 0)
			pieces[i].addr = input_edge(&world.in);
		if ((shape >> 4 & 1) != 0)
			pieces[i].source_offset = input_edge(&world.in);
		if ((shape >> 5 & 1) != 0)
			pieces[i].size_bytes = (uint32_t)input_edge(&world.in);
		if ((shape >> 6 & 1) != 0)
			pieces[i].flags = 0;
		pieces[i].seq = world.seq + 1;
		world.seq += pieces[i].flags & SHM_WRITE_LAST;
		pieces[i].flags |= (how >> 2 & 1) != 0 ? SHM_WRITE_SUM : 0;
		if (shape >> 7 != 0)
			pieces[i].seq = input_edge(&world.in);
	}
	frame_send(SHM_FRAME_WRITE, pieces, count * sizeof(pieces[0]), 0, -1);
}

static void
other_send(uint8_t how, uint8_t value)
{
	struct shm_frame_told told = {
		.done = {.seq = value, .status = -(int32_t)(how >> 5), .sum_count = how >> 3 & 3}};
	struct shm_frame_mem_gone gone = {.region = value & 3};
	static uint8_t bytes[600];
	size_t size_bytes;

	switch (how % 6) {
	case 0:
		frame_send(SHM_FRAME_MEM_GONE, &gone, sizeof(gone), 0, -1);
		break;
	case 1:
		frame_send(SHM_FRAME_WRITE_DONE, &told,
			   sizeof(told.done) + told.done.sum_count * sizeof(told.sums[0]), 0, -1);
		break;
	case 2:
		frame_send(SHM_FRAME_CREDIT, NULL, 0, value, -1);
		break;
	case 3:
		frame_send(SHM_FRAME_MSG, bytes, value, 0, -1);
		break;
	case 4:
		size_bytes = input_take(&world.in, bytes, value);
		frame_send((enum shm_frame_kind)(how >> 4), bytes, size_bytes, value, -1);
		break;
	default:
		size_bytes = input_take(&world.in, bytes, value);
		packet_send(bytes, size_bytes, descriptor(how >> 3));
		break;
	}
}

/* ---- what holds ---- */

static void
guards_check(void)
{
	const uint8_t *base = fixed.ours.base;
	uint8_t guard[PAGE_BYTES];

	memset(guard, GUARD, sizeof(guard));
	FAR_ASSERT(memcmp(base, guard, PAGE_BYTES) == 0);
	FAR_ASSERT(memcmp(base + 2 * (size_t)PAGE_BYTES, guard, PAGE_BYTES) == 0);
}

/* ---- steps ---- */

static void
step_run(void)
{
	uint8_t what = input_u8(&world.in);
	uint8_t a = input_u8(&world.in), b = input_u8(&world.in);
	uint32_t *revoked = fixed.control.base;

	switch (what % 16) {
	case 0:
		peer_connect();
		break;
	case 1:
		hello_send(a);
		break;
	case 2:
		mem_send(a);
		break;
	case 3:
	case 4:
		write_send(a);
		break;
	case 5:
	case 6:
		other_send(a, b);
		break;
	case 7:
		end_post(a, b);
		break;
	case 8:
		if (world.end.link != NULL && !world.end.disconnected)
			(void)far_transport_send(world.end.link, fixed.ours.base, 1 + a);
		break;
	case 9:
		end_disconnect();
		break;
	case 10:
		if (world.grant != NULL)
			far_transport_mem_dereg(world.grant);
		world.grant = NULL;
		break;
	case 11:
		*revoked = a & 1;
		break;
	case 12:
		if (world.fd >= 0)
			(void)close(world.fd);
		world.fd = -1;
		break;
	case 13:
		far_clock_fake_advance(&world.clock, FAR_NS_PER_MS << (a & 15));
		break;
	case 14:
		if (world.end.link != NULL && !world.end.disconnected) {
			(void)far_transport_mem_expose(world.shown, world.end.link);
			if (world.grant != NULL)
				(void)far_transport_mem_expose(world.grant, world.end.link);
		}
		break;
	default:
		break;
	}
	if (what >> 7 == 0)
		polls(1 + (what >> 4));
	guards_check();
}

/* ---- the world ---- */

static void
fixed_open(void)
{
	if (fixed.ours.base != NULL)
		return;
	(void)snprintf(address, sizeof(address), "/tmp/farpool-fuzz-%d.sock", (int)getpid());
	FAR_ASSERT(far_pages_map_shared("fuzz-ours", 4 * (size_t)PAGE_BYTES, FAR_PAGES_HUGE_OFF, -1,
					&fixed.ours) == 0);
	FAR_ASSERT(far_pages_map_shared("fuzz-control", PAGE_BYTES, FAR_PAGES_HUGE_OFF, -1,
					&fixed.control) == 0);
	FAR_ASSERT(far_pages_map_shared("fuzz-theirs", PAGE_BYTES, FAR_PAGES_HUGE_OFF, -1,
					&fixed.theirs) == 0);
	fixed.loose = memfd_create("fuzz-loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	FAR_ASSERT(ftruncate(fixed.loose, PAGE_BYTES) == 0);
	fixed.null = open("/dev/null", O_RDWR | O_CLOEXEC);
	memset(fixed.ours.base, GUARD, 3 * (size_t)PAGE_BYTES);
}

static struct far_mem *
mem_open(uint32_t page, uint32_t rights)
{
	struct far_mem_source source = {
		.base = (uint8_t *)fixed.ours.base + (size_t)page * PAGE_BYTES,
		.size_bytes = PAGE_BYTES,
		.fd = fixed.ours.fd,
		.fd_offset = (uint64_t)page * PAGE_BYTES,
	};
	struct far_mem *mem = NULL;

	FAR_ASSERT(far_transport_mem_reg(world.tp, &source, rights, NULL, &mem) == 0);
	return mem;
}

static void
world_open(void)
{
	struct far_transport_config config = {.clock = &world.clock.clock, .message_credits = 4};

	fixed_open();
	*(uint32_t *)fixed.control.base = 0;
	world.fd = -1;
	far_clock_fake_init(&world.clock, FAR_NS_PER_S);
	world.end.handler.event = end_event;
	FAR_ASSERT(far_transport_open("shm", &config, &world.tp) == 0);
	world.shown = mem_open(0, FAR_RIGHT_REMOTE_READ);
	world.grant = mem_open(1, FAR_RIGHT_REMOTE_WRITE);
	world.local = mem_open(3, FAR_RIGHT_LOCAL);
	FAR_ASSERT(far_transport_listen(world.tp, address, end_accept, NULL, &world.listener) == 0);
	/* Most peers come as far as a welcome. */
	peer_connect();
	hello_send(3);
	polls(16);
}

static void
world_close(void)
{
	end_disconnect();
	for (uint32_t i = 0; i < POLLS_MAX && world.end.link != NULL; i++)
		(void)far_transport_poll(world.tp, 64);
	FAR_ASSERT(world.end.link == NULL);
	far_transport_unlisten(world.tp, world.listener);
	if (world.fd >= 0)
		(void)close(world.fd);
	far_transport_mem_dereg(world.shown);
	far_transport_mem_dereg(world.local);
	if (world.grant != NULL)
		far_transport_mem_dereg(world.grant);
	polls(16);
	far_transport_close(world.tp);
	(void)unlink(address);
}

static void
no_log(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	/* The words of a failed assertion are why we are here. */
	if (level == FAR_LOG_ERROR && strncmp(line, "assertion", 9) == 0)
		fprintf(stderr, "%s\n", line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	uint64_t pages_bytes;

	far_log_sink_set(no_log, NULL);
	world = (struct world){.in = {.bytes = data, .left = size_bytes}};
	fixed_open();
	pages_bytes = far_pages_live_bytes();
	world_open();
	for (uint32_t i = 0; i < STEPS_MAX && world.in.left > 0; i++)
		step_run();
	world_close();
	FAR_ASSERT(far_alloc_live_bytes() == 0);
	FAR_ASSERT(far_pages_live_bytes() == pages_bytes);
	return 0;
}
