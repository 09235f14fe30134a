/* verbs_peer.c - this program once more, as a writer or as a donor; what it did is in memory of both. */
#include "tests/unit/transport/verbs_peer.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "transport/verbs/verbs_priv.h"

#define ARGUMENT     "--peer"
#define WRITER_AHEAD 2U /* lists: there is always one that has begun and not ended */

/* ---- in that process: no assertion of cmocka reaches its parent ---- */

struct self {
	struct far_link_handler handler;
	struct verbs_peer_shared *shared;
	struct far_transport *tp;
	struct far_link *link;
	struct far_pages pages;
	struct far_mem *mem;
	struct far_remote remote; /* what the writer was given */
	bool granted, greet;
};

#define NEED(self, condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			atomic_store(&(self)->shared->failed, __LINE__);                           \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static void
self_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct self *self = FAR_CONTAINER_OF(handler, struct self, handler);
	struct verbs_peer_shared *shared = self->shared;

	switch (event->kind) {
	case FAR_EV_MESSAGE:
		NEED(self, event->msg_bytes == sizeof(self->remote));
		memcpy(&self->remote, event->msg, sizeof(self->remote));
		self->granted = true;
		break;
	case FAR_EV_DONE:
		if (event->status < 0 && atomic_load(&shared->done_status) == 0)
			atomic_store(&shared->done_status, event->status);
		atomic_fetch_add(&shared->dones, 1);
		break;
	case FAR_EV_LOST:
		atomic_store(&shared->lost_status, event->status);
		self->granted = false;
		far_transport_disconnect(event->link);
		break;
	case FAR_EV_CLOSED:
		self->link = NULL;
		break;
	default:
		break;
	}
}

static struct far_link_handler *
self_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct self *self = arg;

	(void)hello;
	(void)hello_bytes;
	self->link = link;
	self->greet = true;
	return &self->handler;
}

static void
self_memory(struct self *self, size_t size_bytes, uint32_t rights)
{
	struct far_mem_source source = {.size_bytes = size_bytes};

	NEED(self,
	     far_pages_map_shared("peer", size_bytes, FAR_PAGES_HUGE_OFF, -1, &self->pages) == 0);
	source.base = self->pages.base;
	source.fd = self->pages.fd;
	NEED(self, far_transport_mem_reg(self->tp, &source, rights, NULL, &self->mem) == 0);
}

static void
list_post(struct self *self)
{
	static struct far_piece pieces[FAR_POST_OPS_MAX];
	static struct far_op ops[FAR_POST_OPS_MAX];
	struct verbs_peer_shared *shared = self->shared;
	uint32_t source = atomic_fetch_add(&shared->posted, 1) % VERBS_PEER_SOURCES;

	for (uint32_t i = 0; i < shared->ops; i++) {
		pieces[i] = (struct far_piece){(uint8_t *)self->pages.base +
						       (size_t)source * shared->op_bytes,
					       shared->op_bytes, self->mem};
		ops[i] = (struct far_op){
			.kind = FAR_OP_WRITE,
			.remote_addr = self->remote.addr + (uint64_t)i * shared->op_bytes,
			.rkey = self->remote.rkey,
			.pieces = &pieces[i],
			.piece_count = 1,
		};
	}
	ops[shared->ops - 1].token = 1;
	NEED(self, far_transport_post(self->link, ops, (int)shared->ops) == 0);
}

static void
writer(struct self *self)
{
	struct verbs_peer_shared *shared = self->shared;
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + 10 * FAR_NS_PER_S;

	self_memory(self, (size_t)VERBS_PEER_SOURCES * shared->op_bytes, FAR_RIGHT_LOCAL);
	for (uint32_t i = 0; i < VERBS_PEER_SOURCES; i++)
		memset((uint8_t *)self->pages.base + (size_t)i * shared->op_bytes,
		       VERBS_PEER_FILL + (int)i, shared->op_bytes);
	NEED(self, far_transport_connect(self->tp, shared->address, "hi", 2, deadline_ns,
					 &self->handler, &self->link) == 0);
	while (self->link != NULL) {
		if (far_transport_poll(self->tp, 16) == 0)
			(void)usleep(50);
		while (self->granted && self->link->up &&
		       atomic_load(&shared->posted) - atomic_load(&shared->dones) < WRITER_AHEAD)
			list_post(self);
	}
	far_transport_mem_dereg(self->mem);
	far_transport_close(self->tp);
	atomic_store(&shared->closed, 1);
	_exit(0);
}

static void
donor(struct self *self)
{
	struct far_listener *listener;

	self_memory(self, VERBS_WORLD_BYTES, FAR_RIGHT_REMOTE_READ);
	memset(self->pages.base, 0x5a, VERBS_WORLD_BYTES);
	NEED(self, far_transport_listen(self->tp, self->shared->address, self_accept, self,
					&listener) == 0);
	atomic_store(&self->shared->listening, 1);
	for (;;) { /* until it is killed */
		if (far_transport_poll(self->tp, 16) == 0)
			(void)usleep(50);
		if (!self->greet)
			continue;
		self->greet = false;
		NEED(self, far_transport_mem_expose(self->mem, self->link) == 0);
		NEED(self, far_transport_send(self->link, &self->mem->remote,
					      sizeof(self->mem->remote)) == 0);
	}
}

static struct verbs_peer_shared *
shared_map(int fd)
{
	void *at = mmap(NULL, sizeof(struct verbs_peer_shared), PROT_READ | PROT_WRITE, MAP_SHARED,
			fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

void
verbs_peer_main(int argc, char **argv)
{
	struct far_transport_config config = {.clock = far_clock_real()};
	struct self self = {.handler.event = self_event};

	if (argc != 3 || strcmp(argv[1], ARGUMENT) != 0)
		return;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	self.shared = shared_map((int)strtol(argv[2], NULL, 10));
	if (self.shared == NULL)
		_exit(2);
	if (self.shared->sq_depth != 0)
		far_verbs_tune.sq_depth = self.shared->sq_depth;
	NEED(&self, far_transport_open("verbs", &config, &self.tp) == 0);
	if (self.shared->role == VERBS_PEER_WRITER)
		writer(&self);
	donor(&self);
}

/* ---- in the test ---- */

void
verbs_peer_open(struct verbs_peer *peer, enum verbs_peer_role role)
{
	peer->pid = 0;
	peer->fd = memfd_create("verbs-peer", 0); /* the new program keeps it */
	assert_true(peer->fd >= 0);
	assert_int_equal(ftruncate(peer->fd, sizeof(*peer->shared)), 0);
	peer->shared = shared_map(peer->fd);
	assert_non_null(peer->shared);
	peer->shared->role = role;
}

void
verbs_peer_start(struct verbs_peer *peer)
{
	char fd[16];
	char *const argv[] = {"verbs-peer", ARGUMENT, fd, NULL};

	(void)snprintf(fd, sizeof(fd), "%d", peer->fd);
	assert_int_equal(posix_spawn(&peer->pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
}

void
verbs_peer_stop(const struct verbs_peer *peer)
{
	int status;

	assert_int_equal(kill(peer->pid, SIGSTOP), 0);
	assert_int_equal(waitpid(peer->pid, &status, WUNTRACED), peer->pid);
	assert_true(WIFSTOPPED(status));
}

void
verbs_peer_close(struct verbs_peer *peer, int signal)
{
	int status;

	if (signal != 0)
		assert_int_equal(kill(peer->pid, signal), 0);
	assert_int_equal(waitpid(peer->pid, &status, 0), peer->pid);
	if (atomic_load(&peer->shared->failed) != 0)
		fail_msg("the peer gave up in line %d", atomic_load(&peer->shared->failed));
	if (signal != 0)
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == signal);
	else
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	(void)munmap(peer->shared, sizeof(*peer->shared));
	(void)close(peer->fd);
}
