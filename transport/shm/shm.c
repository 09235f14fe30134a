/* shm.c - the transport of one host: opening, listening, connecting, and the turns of its links. */
#include "transport/shm/shm_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"

#define EVENTS_PER_POLL 64
/* While there is work, the kernel is asked for events only now and then. */
#define POLLS_BLIND_MAX 4

/* ---- fork ---- */

/* A page that the kernel wipes in a child: a load instead of a system call for every call of ours.
 */
static void
alive_open(struct shm_transport *tp)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	tp->pid = getpid();
	if (page == MAP_FAILED)
		return;
	if (madvise(page, size, MADV_WIPEONFORK) < 0) {
		(void)munmap(page, size);
		return;
	}
	tp->alive = page;
	*tp->alive = 1;
}

bool
far_shm_is_child(const struct shm_transport *tp)
{
	return tp->alive != NULL ? *(volatile uint32_t *)tp->alive == 0 : tp->pid != getpid();
}

void
far_shm_link_wake(struct shm_link *link)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);

	if (far_list_empty(&link->work_node))
		far_list_push_back(&tp->work, &link->work_node);
}

/* ---- open and close ---- */

static int
timer_open(struct shm_transport *tp)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &tp->timer};

	tp->timer.kind = SHM_WATCH_TIMER;
	tp->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (tp->timer_fd < 0)
		return errno == EMFILE || errno == ENFILE ? -EMFILE : -ENOMEM;
	return epoll_ctl(tp->tp.fd, EPOLL_CTL_ADD, tp->timer_fd, &event) < 0 ? -ENOMEM : 0;
}

/* Takes half-open ones. */
static void
transport_fini(struct shm_transport *tp)
{
	if (tp->timer_fd >= 0)
		(void)close(tp->timer_fd);
	if (tp->tp.fd >= 0)
		(void)close(tp->tp.fd);
	if (tp->alive != NULL)
		(void)munmap(tp->alive, (size_t)sysconf(_SC_PAGESIZE));
	far_shm_copies_fini(&tp->copies);
	far_shm_table_fini(&tp->mems);
	far_free(tp->slots);
	far_free(tp->rx);
	far_free(tp);
}

static int
shm_open_transport(const struct far_transport_config *config, struct far_transport **out)
{
	struct shm_transport *tp;
	int rc;

	if (config->message_credits > SHM_CREDITS_MAX)
		return -EINVAL;
	tp = far_zalloc(sizeof(*tp));
	if (tp == NULL)
		return -ENOMEM;
	tp->tp.ops = &far_shm_ops;
	tp->tp.caps.flags = FAR_CAP_ONE_SIDED | FAR_CAP_READ_ONLY_KEYS | FAR_CAP_FENCED_WRITES |
			    FAR_CAP_DOMAINS | FAR_CAP_PEER_FD | FAR_CAP_ANY_THREAD;
	tp->tp.caps.op_bytes_max = (uint64_t)UINT32_MAX * FAR_PIECES_MAX;
	tp->clock = config->clock != NULL ? config->clock : far_clock_real();
	tp->credits = config->message_credits != 0 ? config->message_credits : SHM_CREDITS_DEFAULT;
	tp->bytes_max = config->bytes_in_flight_max;
	tp->peer_bytes_max = config->peer_bytes_in_flight_max;
	tp->timer_fd = -1;
	far_list_init(&tp->links);
	far_list_init(&tp->work);
	far_list_init(&tp->waiting);
	far_list_init(&tp->listeners);
	/* Keys of an earlier process are not ours by accident. */
	far_random_bytes(&tp->nonce, sizeof(tp->nonce));
	alive_open(tp);
	tp->rx = far_zalloc(SHM_FRAME_BYTES_MAX + 1);
	tp->tp.fd = epoll_create1(EPOLL_CLOEXEC);
	rc = far_shm_copies_init(&tp->copies, config->helpers);
	if (tp->rx == NULL || rc < 0)
		rc = -ENOMEM;
	else if (tp->tp.fd < 0)
		rc = errno == ENOMEM ? -ENOMEM : -EMFILE;
	else
		rc = timer_open(tp);
	if (rc < 0) {
		transport_fini(tp);
		return rc;
	}
	*out = &tp->tp;
	return 0;
}

static void
shm_close(struct far_transport *ftp)
{
	struct shm_transport *tp = SHM_TP(ftp);
	struct far_list *it, *next;

	if (far_shm_is_child(tp))
		return;
	FAR_ASSERT(far_list_empty(&tp->listeners));
	FAR_ASSERT(tp->mems.count == 0);
	/* Those that nobody above has seen have no owner to close them. */
	FAR_LIST_FOR_EACH_SAFE(it, next, &tp->links)
	{
		struct shm_link *link = FAR_CONTAINER_OF(it, struct shm_link, all_node);

		FAR_ASSERT(link->link.handler == NULL);
		far_shm_link_free(link);
	}
	transport_fini(tp);
}

/* ---- listening ---- */

static int
shm_listen(struct far_transport *ftp, const char *address, far_accept_fn *accept, void *arg,
	   struct far_listener **out)
{
	struct shm_transport *tp = SHM_TP(ftp);
	struct epoll_event event = {.events = EPOLLIN};
	struct shm_listener *listener;

	if (far_shm_is_child(tp))
		return -EPERM;
	listener = far_zalloc(sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	listener->watch.kind = SHM_WATCH_LISTENER;
	listener->tp = tp;
	listener->accept = accept;
	listener->arg = arg;
	listener->fd = far_shm_socket_listen(listener, address);
	if (listener->fd < 0) {
		int rc = listener->fd;

		far_free(listener);
		return rc;
	}
	listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	event.data.ptr = &listener->watch;
	if (epoll_ctl(ftp->fd, EPOLL_CTL_ADD, listener->fd, &event) < 0) {
		far_shm_socket_unlisten(listener);
		far_free(listener);
		return -ENOMEM;
	}
	far_list_push_back(&tp->listeners, &listener->node);
	*out = (struct far_listener *)listener;
	return 0;
}

static void
shm_unlisten(struct far_listener *flistener)
{
	struct shm_listener *listener = (struct shm_listener *)flistener;
	struct shm_transport *tp = listener->tp;

	if (far_shm_is_child(tp))
		return;
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct shm_link *link = FAR_CONTAINER_OF(it, struct shm_link, all_node);

		if (link->listener == listener)
			far_shm_link_fail(link, -ECONNREFUSED);
	}
	FAR_ASSERT(listener->handshakes == 0);
	(void)epoll_ctl(tp->tp.fd, EPOLL_CTL_DEL, listener->fd, NULL);
	far_list_remove(&listener->node);
	far_shm_socket_unlisten(listener);
	far_free(listener);
}

/* Out of descriptors: a caller is better told no than left waiting, and the queue gets shorter. */
static void
listener_shed(struct shm_listener *listener)
{
	int fd;

	if (listener->spare_fd < 0)
		return;
	(void)close(listener->spare_fd);
	fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		(void)close(fd);
	listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void
listener_accept(struct shm_listener *listener)
{
	struct shm_transport *tp = listener->tp;

	for (int i = 0; i < SHM_FRAMES_PER_TURN; i++) {
		struct shm_link *link;
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE)
				listener_shed(listener);
			return;
		}
		tp->work_done++;
		if (listener->handshakes >= SHM_HANDSHAKES_MAX ||
		    far_shm_link_open(tp, &link) < 0) {
			(void)close(fd);
			continue;
		}
		link->fd = fd;
		link->state = SHM_HELLO_WAIT;
		link->listener = listener;
		listener->handshakes++;
		link->deadline_ns = far_clock_now(tp->clock) + SHM_HELLO_TIMEOUT_NS;
		far_list_push_back(&tp->waiting, &link->wait_node);
		(void)snprintf(link->link.peer, sizeof(link->link.peer), "pid %d",
			       (int)far_shm_socket_peer_pid(fd));
		if (far_shm_link_watch(link, fd) < 0)
			far_shm_link_free(link);
	}
}

/* ---- connecting ---- */

static int
shm_connect(struct far_transport *ftp, const char *address, const void *hello, size_t hello_bytes,
	    uint64_t deadline_ns, struct far_link_handler *handler, struct far_link **out)
{
	struct shm_transport *tp = SHM_TP(ftp);
	struct shm_link *link;
	int fd, rc;

	if (far_shm_is_child(tp))
		return -EPERM;
	rc = far_shm_link_open(tp, &link);
	if (rc < 0)
		return rc;
	rc = far_shm_address_parse(address, &link->addr, &link->addr_bytes);
	if (rc < 0)
		goto fail;
	rc = far_shm_link_prepare(link);
	if (rc < 0)
		goto fail;
	link->connector = true;
	link->deadline_ns = deadline_ns;
	link->hello_bytes = (uint32_t)hello_bytes;
	if (hello_bytes != 0)
		memcpy(link->hello, hello, hello_bytes);
	(void)snprintf(link->link.peer, sizeof(link->link.peer), "%s", address);
	link->state = SHM_CONNECTING;
	fd = far_shm_socket_connect(&link->addr, link->addr_bytes);
	rc = fd < 0 ? fd : far_shm_link_hello(link, fd);
	if (rc < 0 && rc != -EAGAIN)
		goto fail;
	link->link.handler = handler;
	far_list_push_back(&tp->waiting, &link->wait_node);
	*out = &link->link;
	return 0;

fail:
	far_shm_link_free(link);
	return rc == -ECONNRESET || rc == -EPROTO ? -ECONNREFUSED : rc;
}

/* ---- poll ---- */

static void
waiting_check(struct shm_transport *tp)
{
	struct far_list *it, *next;
	uint64_t now_ns;

	if (far_list_empty(&tp->waiting))
		return;
	now_ns = far_clock_now(tp->clock);
	FAR_LIST_FOR_EACH_SAFE(it, next, &tp->waiting)
	far_shm_link_wait_check(FAR_CONTAINER_OF(it, struct shm_link, wait_node), now_ns);
}

/* Marks what the kernel has news of; no handler runs in here. */
static void
events_gather(struct shm_transport *tp)
{
	struct epoll_event events[EVENTS_PER_POLL];
	int count = epoll_wait(tp->tp.fd, events, EVENTS_PER_POLL, 0);

	tp->polls_blind = 0;
	for (int i = 0; i < count; i++) {
		struct shm_watch *watch = events[i].data.ptr;
		struct shm_link *link;
		uint64_t ticks;

		switch (watch->kind) {
		case SHM_WATCH_TIMER:
			(void)!read(tp->timer_fd, &ticks, sizeof(ticks));
			break;
		case SHM_WATCH_LISTENER:
			listener_accept(FAR_CONTAINER_OF(watch, struct shm_listener, watch));
			break;
		case SHM_WATCH_LINK:
			link = FAR_CONTAINER_OF(watch, struct shm_link, watch);
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				link->rx_ready = true;
			if (link->tx_blocked && (events[i].events & EPOLLOUT)) {
				link->tx_blocked = false;
				(void)far_shm_link_watch(link, link->fd);
			}
			far_shm_link_wake(link);
			break;
		}
	}
}

static int
shm_poll(struct far_transport *ftp, int budget)
{
	struct shm_transport *tp = SHM_TP(ftp);
	int turns = 0;

	if (far_shm_is_child(tp))
		return -EPERM;
	tp->budget = budget;
	tp->work_done = 0;
	tp->copy_left = SHM_POLL_COPY_BYTES * far_shm_copiers(&tp->copies);
	waiting_check(tp);
	if (far_list_empty(&tp->work) || ++tp->polls_blind >= POLLS_BLIND_MAX)
		events_gather(tp);
	while (tp->budget > 0 && tp->copy_left > 0 && turns++ < SHM_POLL_TURNS_MAX) {
		struct far_list *node = far_list_pop_front(&tp->work);
		struct shm_link *link;

		if (node == NULL)
			break;
		link = FAR_CONTAINER_OF(node, struct shm_link, work_node);
		if (far_shm_link_work(link))
			far_shm_link_wake(link);
	}
	return tp->work_done;
}

/* When somebody waits, sleep ends with the first deadline or retry even if nothing else happens. */
static void
timer_arm(struct shm_transport *tp)
{
	uint64_t wait_ns = FAR_NS_PER_S;
	uint64_t now_ns = far_clock_now(tp->clock);
	struct itimerspec spec = {0};

	for (struct far_list *it = tp->waiting.next; it != &tp->waiting; it = it->next) {
		struct shm_link *link = FAR_CONTAINER_OF(it, struct shm_link, wait_node);
		uint64_t left_ns =
			link->deadline_ns > now_ns ? link->deadline_ns - now_ns : SHM_RETRY_NS;

		if (link->state == SHM_CONNECTING || link->tx_retry)
			left_ns = SHM_RETRY_NS;
		if (left_ns < wait_ns)
			wait_ns = left_ns;
	}
	if (wait_ns < SHM_RETRY_NS / 10)
		wait_ns = SHM_RETRY_NS / 10;
	spec.it_value.tv_sec = (time_t)(wait_ns / FAR_NS_PER_S);
	spec.it_value.tv_nsec = (long)(wait_ns % FAR_NS_PER_S);
	(void)timerfd_settime(tp->timer_fd, 0, &spec, NULL);
}

static int
shm_arm(struct far_transport *ftp)
{
	struct shm_transport *tp = SHM_TP(ftp);

	if (far_shm_is_child(tp))
		return -EPERM;
	if (!far_list_empty(&tp->work))
		return -EAGAIN;
	if (!far_list_empty(&tp->waiting))
		timer_arm(tp);
	return 0;
}

const struct far_transport_ops far_shm_ops = {
	.name = "shm",
	.open = shm_open_transport,
	.close = shm_close,
	.mem_reg = far_shm_mem_reg,
	.mem_dereg = far_shm_mem_dereg,
	.mem_expose = far_shm_mem_expose,
	.listen = shm_listen,
	.unlisten = shm_unlisten,
	.connect = shm_connect,
	.disconnect = far_shm_link_disconnect,
	.forget = far_shm_forget,
	.map = far_shm_map,
	.post = far_shm_post,
	.send = far_shm_send,
	.poll = shm_poll,
	.arm = shm_arm,
};
