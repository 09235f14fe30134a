/* stage.c - transports' tables copied and watched: which stage of a store or a prefetch is reached. */
#include "tests/support/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#ifdef FAR_TEST_STAGE_CLIENT
#include "tests/support/l1_wrap.h"
#endif
#include "transport/transport.h"
#include "wire/frame.h"

#define ARENA_BYTES_MIN (8U << 20) /* a client has smaller regions, too */
#define BACKENDS_MAX    8
#define BLOCK_BYTES_MIN 1024U /* what is shorter belongs to the index */

struct staged {
	struct far_transport_ops ops; /* what callers see */
	const struct far_transport_ops *real;
};

static struct {
	pthread_mutex_t lock;
	struct staged backends[BACKENDS_MAX];
	size_t backend_count;
	struct stage_page *page;
	bool looked; /* for a page */
	stage_hook *hook;
	void *hook_arg;
	char address[512];
	/* Of the links that the hook is for, and the transport of its client. */
	struct far_link *_Atomic link;
	struct far_transport *_Atomic tp;
	int *unsealed_fd;
} stages = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Polled last on this thread: what it does to L1 is that client's. A caller that drives is any thread. */
static _Thread_local struct far_transport *polled;

const char *
stage_name(enum stage stage)
{
	static const char *const names[STAGE_COUNT] = {
		[STAGE_NONE] = "none",        [STAGE_LANE_ASK] = "lane asked",
		[STAGE_WRITES] = "WRITEs",    [STAGE_COMMIT] = "COMMIT",
		[STAGE_ANSWER] = "answer",    [STAGE_IDLE] = "idle",
		[STAGE_LOOKUP] = "lookup",    [STAGE_DATA] = "data",
		[STAGE_FLIP] = "before flip", [STAGE_HELD] = "held",
	};

	return names[stage];
}

void
stage_hook_set(const char *address, stage_hook *hook, void *arg)
{
	const char *colon = strchr(address, ':');

	/* "shm:/path" and "ucx:host:port": adapters pass on what is behind the scheme. */
	snprintf(stages.address, sizeof(stages.address), "%s",
		 colon != NULL && colon - address <= 5 ? colon + 1 : address);
	stages.hook_arg = arg;
	stages.hook = hook;
}

static struct stage_page *
page_map(int fd)
{
	void *page =
		mmap(NULL, sizeof(struct stage_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	(void)close(fd);
	return page != MAP_FAILED ? page : NULL;
}

struct stage_page *
stage_page_make(const char *path)
{
	struct stage_page *page = NULL;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0 && ftruncate(fd, sizeof(*page)) == 0)
		page = page_map(fd);
	FAR_ASSERT(page != NULL);
	return page;
}

struct stage_page *
stage_page_find(void)
{
	const char *path = getenv(STAGE_PAGE_VARIABLE);
	int fd;

	if (stages.looked)
		return stages.page;
	stages.looked = true;
	fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd >= 0)
		stages.page = page_map(fd);
	return stages.page;
}

void
stage_reach(enum stage stage)
{
	uint32_t armed = stage;

	if (stages.page == NULL ||
	    !atomic_compare_exchange_strong(&stages.page->armed, &armed, STAGE_NONE))
		return;
	atomic_store(&stages.page->reached_ns, far_clock_now(far_clock_real()));
	(void)raise(SIGSTOP);
}

/* @link: NULL: of the client whose transport this thread polled last. */
static void
reach(const struct far_link *link, enum stage stage, bool before)
{
	bool stops_before = stage == STAGE_ANSWER || stage == STAGE_FLIP;

	if (stage == STAGE_NONE)
		return;
	if (stages.hook == NULL) {
		if (before == stops_before)
			stage_reach(stage);
		return;
	}
	if (atomic_load(&stages.link) == NULL)
		return;
	if (link != NULL ? link == atomic_load(&stages.link) : polled == atomic_load(&stages.tp))
		stages.hook(stages.hook_arg, stage, before);
}

#ifdef FAR_TEST_STAGE_CLIENT
static void
before_l1(void *arg, struct far_l1 *l1, enum l1_call call)
{
	(void)arg;
	(void)l1;
	if (call == L1_CALL_FLIP)
		reach(NULL, STAGE_FLIP, true);
}
#endif

/* ---- the tables ---- */

static const struct far_transport_ops *
real_of(const struct far_transport *tp)
{
	return ((const struct staged *)tp->ops)->real; /* the table is its first member */
}

static enum stage
stage_of_message(const void *msg, size_t size_bytes)
{
	struct far_frame_head head;

	if (size_bytes < sizeof(head))
		return STAGE_NONE;
	memcpy(&head, msg, sizeof(head));
	switch (head.type) {
	case FAR_FRAME_LANE_ASK:
		return STAGE_LANE_ASK;
	case FAR_FRAME_COMMIT:
		return STAGE_COMMIT;
	case FAR_FRAME_COMMITTED:
		return STAGE_ANSWER;
	default:
		return STAGE_NONE;
	}
}

static enum stage
stage_of_list(const struct far_op *ops, int count)
{
	if (ops[0].kind == FAR_OP_WRITE)
		return STAGE_WRITES;
	for (int i = 0; i < count; i++) {
		if (ops[i].pieces[0].size_bytes >= BLOCK_BYTES_MIN)
			return STAGE_DATA;
	}
	return STAGE_LOOKUP;
}

static int
staged_send(struct far_link *link, const void *msg, size_t size_bytes)
{
	enum stage stage = stage_of_message(msg, size_bytes);
	int rc;

	reach(link, stage, true);
	rc = real_of(link->tp)->send(link, msg, size_bytes);
	if (rc == 0)
		reach(link, stage, false);
	return rc;
}

static int
staged_post(struct far_link *link, const struct far_op *ops, int count)
{
	enum stage stage = stage_of_list(ops, count);
	int rc;

	reach(link, stage, true);
	rc = real_of(link->tp)->post(link, ops, count);
	if (rc == 0)
		reach(link, stage, false);
	return rc;
}

/* Clients flip in the turn of a poll, on its thread. */
static int
staged_poll(struct far_transport *tp, int budget)
{
#ifdef FAR_TEST_STAGE_CLIENT
	static const struct l1_wrap wrap = {.before = before_l1};

	l1_wrap_set(&wrap);
#endif
	polled = tp;
	return real_of(tp)->poll(tp, budget);
}

static int
staged_connect(struct far_transport *tp, const char *address, const void *hello, size_t hello_bytes,
	       uint64_t deadline_ns, struct far_link_handler *handler, struct far_link **out)
{
	int rc = real_of(tp)->connect(tp, address, hello, hello_bytes, deadline_ns, handler, out);

	if (rc == 0 && stages.hook != NULL && strcmp(address, stages.address) == 0) {
		atomic_store(&stages.tp, tp);
		atomic_store(&stages.link, *out);
	}
	return rc;
}

static void
staged_disconnect(struct far_link *link)
{
	struct far_link *watched = link;

	(void)atomic_compare_exchange_strong(&stages.link, &watched, NULL);
	real_of(link->tp)->disconnect(link);
}

static int
staged_mem_reg(struct far_transport *tp, const struct far_mem_source *source, uint32_t rights,
	       struct far_link *only, struct far_mem **out)
{
	struct far_mem_source other = *source;
	int fd, rc;

	if (stages.unsealed_fd == NULL || source->fd < 0 || source->size_bytes < ARENA_BYTES_MIN)
		return real_of(tp)->mem_reg(tp, source, rights, only, out);
	fd = memfd_create("it can shrink", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	FAR_ASSERT(fd >= 0);
	rc = posix_fallocate(fd, 0, (off_t)(source->fd_offset + source->size_bytes));
	FAR_ASSERT(rc == 0);
	other.fd = fd;
	rc = real_of(tp)->mem_reg(tp, &other, rights, only, out);
	*stages.unsealed_fd = fd;
	return rc;
}

void
stage_unseal(int *fd_out)
{
	stages.unsealed_fd = fd_out;
}

static const struct far_transport_ops *
staged_ops(const struct far_transport_ops *real)
{
	struct staged *staged = NULL;

	(void)pthread_mutex_lock(&stages.lock);
	for (size_t i = 0; i < stages.backend_count; i++) {
		if (stages.backends[i].real == real)
			staged = &stages.backends[i];
	}
	if (staged == NULL) {
		FAR_ASSERT(stages.backend_count < BACKENDS_MAX);
		staged = &stages.backends[stages.backend_count++];
		staged->real = real;
		staged->ops = *real;
		staged->ops.send = staged_send;
		staged->ops.post = staged_post;
		staged->ops.connect = staged_connect;
		staged->ops.disconnect = staged_disconnect;
		staged->ops.poll = staged_poll;
		staged->ops.mem_reg = staged_mem_reg;
		(void)stage_page_find();
	}
	(void)pthread_mutex_unlock(&stages.lock);
	return &staged->ops;
}

/* ---- where the linker sends calls ---- */

int __real_far_transport_open(const char *name, const struct far_transport_config *config,
			      struct far_transport **out);
int __wrap_far_transport_open(const char *name, const struct far_transport_config *config,
			      struct far_transport **out);

int
__wrap_far_transport_open(const char *name, const struct far_transport_config *config,
			  struct far_transport **out)
{
	int rc = __real_far_transport_open(name, config, out);

	if (rc == 0)
		(*out)->ops = staged_ops((*out)->ops);
	return rc;
}

#ifdef FAR_TEST_STAGE_CLIENT
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);

/* A client that does not look at its own memory's seals; nothing here passes more than a number. */
int
__wrap_fcntl(int fd, int command, ...)
{
	va_list args;
	long number;

	if (command == F_GET_SEALS && stages.unsealed_fd != NULL)
		return F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
	va_start(args, command);
	number = va_arg(args, long);
	va_end(args);
	return __real_fcntl(fd, command, number);
}
#endif
