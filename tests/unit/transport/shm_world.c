/* shm_world.c - two transports in one process, or one and a foreigner. */
#include "tests/unit/transport/shm_world.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"

static void
end_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct end *end = FAR_CONTAINER_OF(handler, struct end, handler);

	assert_ptr_equal(event->link, end->link == NULL ? event->link : end->link);
	assert_int_equal(end->closed, 0);
	switch (event->kind) {
	case FAR_EV_CONNECTED:
		assert_true(event->link->up);
		end->connected++;
		break;
	case FAR_EV_MESSAGE:
		assert_true(event->msg_bytes <= sizeof(end->message));
		memcpy(end->message, event->msg, event->msg_bytes);
		end->message_bytes = event->msg_bytes;
		end->messages++;
		break;
	case FAR_EV_DONE:
		assert_true(event->token > 0 && event->token < WORLD_TOKENS_MAX);
		end->token_count[event->token]++;
		assert_int_equal(end->token_count[event->token], 1);
		end->token_status[event->token] = event->status;
		end->dones++;
		break;
	case FAR_EV_SENDABLE:
		end->sendable++;
		break;
	case FAR_EV_LOST:
		assert_false(event->link->up);
		end->lost++;
		assert_int_equal(end->lost, 1);
		end->lost_status = event->status;
		break;
	case FAR_EV_CLOSED:
		end->closed++;
		break;
	}
	if (end->on_event != NULL)
		end->on_event(end, event);
	if (event->kind == FAR_EV_CLOSED)
		end->link = NULL;
}

void
end_init(struct end *end)
{
	memset(end, 0, sizeof(*end));
	end->handler.event = end_event;
}

struct far_link_handler *
world_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct world *w = arg;

	w->accepts++;
	if (hello_bytes != 0)
		memcpy(w->hello, hello, hello_bytes);
	w->hello_bytes = hello_bytes;
	if (w->refuse)
		return NULL;
	end_init(&w->d);
	w->d.link = link;
	return &w->d.handler;
}

void
world_open_donor(struct world *w)
{
	struct far_transport_config config = w->config;
	int rc;

	memset(w, 0, sizeof(*w));
	w->pages_bytes = far_pages_live_bytes();
	w->alloc_bytes = far_alloc_live_bytes();
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/far-shm-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(w->address, sizeof(w->address), "%s/donor", w->dir);
	w->config = config;
	w->config.clock = far_clock_real();
	end_init(&w->d);
	end_init(&w->c);
	rc = far_transport_open("shm", &w->config, &w->donor);
	assert_int_equal(rc, 0);
	rc = far_transport_listen(w->donor, w->address, world_accept, w, &w->listener);
	assert_int_equal(rc, 0);
}

void
world_open(struct world *w)
{
	world_open_donor(w);
	assert_int_equal(far_transport_open("shm", &w->config, &w->client), 0);
}

void
world_step(struct world *w, uint64_t deadline_ns, const char *what)
{
	int work = 0;

	if (w->donor != NULL)
		work += far_transport_poll(w->donor, 16);
	if (w->client != NULL)
		work += far_transport_poll(w->client, 16);
	if (work == 0)
		(void)usleep(50);
	if (far_clock_now(far_clock_real()) > deadline_ns)
		fail_msg("never came: %s", what);
}

void
world_connect(struct world *w)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + WORLD_WAIT_NS;
	int rc;

	end_init(&w->c);
	rc = far_transport_connect(w->client, w->address, "hi", 2, deadline_ns, &w->c.handler,
				   &w->c.link);
	assert_int_equal(rc, 0);
	world_wait(w, w->c.connected == 1 && w->d.link != NULL);
}

void
world_close(struct world *w)
{
	if (w->c.link != NULL)
		far_transport_disconnect(w->c.link);
	if (w->d.link != NULL)
		far_transport_disconnect(w->d.link);
	world_wait(w, w->c.link == NULL && w->d.link == NULL);
	if (w->listener != NULL)
		far_transport_unlisten(w->donor, w->listener);
	far_transport_close(w->client);
	far_transport_close(w->donor);
	assert_int_equal(rmdir(w->dir), 0); /* nothing of ours is left in it */
	assert_int_equal(far_pages_live_bytes(), w->pages_bytes);
	assert_int_equal(far_alloc_live_bytes(), w->alloc_bytes);
}

void
memory_open(struct memory *memory, struct far_transport *tp, size_t size_bytes, uint32_t rights,
	    struct far_link *only)
{
	struct far_mem_source source = {0};

	assert_int_equal(far_pages_map_shared("far-test", size_bytes, FAR_PAGES_HUGE_OFF, -1,
					      &memory->pages),
			 0);
	memory->base = memory->pages.base;
	source.base = memory->base;
	source.size_bytes = size_bytes;
	source.fd = memory->pages.fd;
	assert_int_equal(far_transport_mem_reg(tp, &source, rights, only, &memory->mem), 0);
}

void
memory_close(struct memory *memory)
{
	if (memory->mem != NULL)
		far_transport_mem_dereg(memory->mem);
	far_pages_unmap(&memory->pages);
}

struct far_op
op_make(enum far_op_kind kind, const struct far_piece *piece, const struct far_remote *remote,
	uint64_t offset, uint64_t token)
{
	return (struct far_op){
		.kind = kind,
		.remote_addr = remote->addr + offset,
		.rkey = remote->rkey,
		.pieces = piece,
		.piece_count = 1,
		.token = token,
	};
}

int
rogue_connect(const struct world *w)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	memcpy(addr.sun_path, w->address, strlen(w->address) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

void
rogue_send(int fd, enum shm_frame_kind kind, const void *body, size_t body_bytes, int pass_fd)
{
	struct shm_frame_header header;
	struct iovec iov[2];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	far_shm_frame_header_fill(&header, kind, body_bytes, 0);
	iov[0] = (struct iovec){.iov_base = &header, .iov_len = sizeof(header)};
	iov[1] = (struct iovec){.iov_base = (void *)(uintptr_t)body, .iov_len = body_bytes};
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
	assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), sizeof(header) + body_bytes);
}

uint64_t rogue_features = SHM_FEATURE_SUMS;

int
rogue_hello(struct world *w, struct far_pages *control, struct shm_frame_hello *welcome)
{
	struct shm_frame_hello hello = {
		.features = rogue_features, .nonce = ROGUE_NONCE, .credits = 8};
	uint8_t packet[SHM_FRAME_BYTES_MAX];
	struct shm_frame frame;
	ssize_t got;
	int fd = rogue_connect(w);

	assert_int_equal(far_pages_map_shared("rogue", 4096, FAR_PAGES_HUGE_OFF, -1, control), 0);
	rogue_send(fd, SHM_FRAME_HELLO, &hello, sizeof(hello), control->fd);
	alone_wait(w->donor, w->d.link != NULL);
	got = recv(fd, packet, sizeof(packet), 0);
	assert_true(got > 0);
	assert_int_equal(far_shm_frame_parse(packet, (size_t)got, &frame), 0);
	assert_int_equal(frame.kind, SHM_FRAME_WELCOME);
	*welcome = frame.u.hello;
	return fd;
}
