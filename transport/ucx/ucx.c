/* ucx.c - the transport over UCX: opening, polling, arming, and its table. */
#include "transport/ucx/ucx_priv.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "transport/mapped.h"

#define POLL_TURNS_MAX     16
#define LINK_TURNS_MAX     32
#define PROGRESS_CALLS_MAX 4
#define ARM_TRIES_MAX      4
#define DUE_NS_MIN         (200 * FAR_NS_PER_US)
#define CHECK_NS           FAR_NS_PER_MS
#define CLOSE_STEP_NS      (100 * FAR_NS_PER_US)

/* ---- fork ---- */

/* A page that the kernel wipes in a child: a load instead of a system call for every call of ours.
 */
static void
alive_open(struct ucx_transport *tp)
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
far_ucx_is_child(const struct ucx_transport *tp)
{
	return tp->alive != NULL ? *(volatile uint32_t *)tp->alive == 0 : tp->pid != getpid();
}

/* ---- open and close ---- */

/* One descriptor for both: UCX's, and a timer for deadlines. */
static int
fds_open(struct ucx_transport *tp)
{
	struct epoll_event event = {.events = EPOLLIN};

	tp->tp.fd = epoll_create1(EPOLL_CLOEXEC);
	tp->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (tp->tp.fd < 0 || tp->timer_fd < 0)
		return errno == ENOMEM ? -ENOMEM : -EMFILE;
	event.data.fd = tp->worker_fd;
	if (epoll_ctl(tp->tp.fd, EPOLL_CTL_ADD, tp->worker_fd, &event) < 0)
		return -ENOMEM;
	event.data.fd = tp->timer_fd;
	return epoll_ctl(tp->tp.fd, EPOLL_CTL_ADD, tp->timer_fd, &event) < 0 ? -ENOMEM : 0;
}

/* Takes half-open ones. The worker goes before the frames that it may still read. */
static void
transport_fini(struct ucx_transport *tp)
{
	struct far_list *node;

	far_ucx_close_worker(tp);
	while ((node = far_list_pop_front(&tp->conns)) != NULL)
		far_ucx_conn_free(FAR_CONTAINER_OF(node, struct ucx_conn, all_node));
	far_resolve_reap(&tp->resolving, true);
	if (tp->timer_fd >= 0)
		(void)close(tp->timer_fd);
	if (tp->tp.fd >= 0)
		(void)close(tp->tp.fd);
	if (tp->alive != NULL)
		(void)munmap(tp->alive, (size_t)sysconf(_SC_PAGESIZE));
	far_free(tp->slots);
	far_free(tp);
}

static int
ucx_open(const struct far_transport_config *config, struct far_transport **out)
{
	struct ucx_transport *tp;
	int rc;

	if (config->message_credits > UCX_CREDITS_MAX)
		return -EINVAL;
	tp = far_zalloc(sizeof(*tp));
	if (tp == NULL)
		return -ENOMEM;
	tp->tp.ops = &far_ucx_ops;
	tp->fabric = config->trust == FAR_TRUST_FABRIC;
	tp->posts_no_reads = config->posts_no_reads;
	/* A key of UCX's can always write, on any link of its device. */
	tp->tp.caps.flags =
		FAR_CAP_FENCED_WRITES |
		(tp->fabric ? FAR_CAP_ONE_SIDED : FAR_CAP_READ_ONLY_KEYS | FAR_CAP_DOMAINS);
	tp->tp.caps.op_bytes_max = (uint64_t)UINT32_MAX * FAR_PIECES_MAX;
	tp->tp.fd = -1;
	tp->timer_fd = -1;
	tp->timer_ns = FAR_TIME_NEVER;
	tp->clock = config->clock != NULL ? config->clock : far_clock_real();
	tp->credits = config->message_credits != 0 ? config->message_credits : UCX_CREDITS_DEFAULT;
	far_spin_init(&tp->spin, config->spin_ns_max);
	tp->bytes_max = config->bytes_in_flight_max;
	tp->peer_bytes_max = config->peer_bytes_in_flight_max;
	far_list_init(&tp->links);
	far_list_init(&tp->conns);
	far_list_init(&tp->listeners);
	far_list_init(&tp->work);
	far_list_init(&tp->conn_work);
	far_list_init(&tp->resolving);
	for (size_t i = 0; i < UCX_CONN_BUCKETS; i++)
		far_list_init(&tp->buckets[i]);
	/* Keys of an earlier process are not ours by accident. */
	far_random_bytes(&tp->nonce, sizeof(tp->nonce));
	alive_open(tp);
	tp->slots = far_zalloc_array(UCX_REGIONS_MAX, sizeof(*tp->slots));
	rc = tp->slots == NULL ? -ENOMEM : 0;
	if (rc == 0 && !tp->fabric)
		rc = far_ucx_devices_find(config, tp->devices, sizeof(tp->devices));
	if (rc == 0)
		rc = far_ucx_open_worker(tp);
	if (rc == 0)
		rc = fds_open(tp);
	if (rc < 0) {
		transport_fini(tp);
		return rc;
	}
	*out = &tp->tp;
	return 0;
}

/* Lets connections that nobody uses any more end in good order, for a while. */
static void
conns_drain(struct ucx_transport *tp)
{
	struct far_clock *clock = far_clock_real(); /* a test's may stand still */
	uint64_t until_ns = far_clock_now(clock) + UCX_LINGER_NS;

	while (!far_list_empty(&tp->conns) && far_clock_now(clock) < until_ns) {
		struct far_list *it, *next;
		unsigned progressed;

		far_ucx_enter();
		progressed = far_ucx_lib->ucp_worker_progress(tp->worker);
		far_ucx_leave();
		FAR_LIST_FOR_EACH_SAFE(it, next, &tp->conns)
		(void)far_ucx_conn_work(FAR_CONTAINER_OF(it, struct ucx_conn, all_node));
		if (progressed == 0)
			far_clock_sleep_until(far_clock_now(clock) + CLOSE_STEP_NS);
	}
}

static void
ucx_close(struct far_transport *ftp)
{
	struct ucx_transport *tp = UCX_TP(ftp);

	if (far_ucx_is_child(tp))
		return;
	FAR_ASSERT(far_list_empty(&tp->listeners));
	FAR_ASSERT(far_list_empty(&tp->links));
	for (uint32_t i = 0; i < UCX_REGIONS_MAX; i++)
		FAR_ASSERT(tp->slots[i] == NULL);
	conns_drain(tp);
	transport_fini(tp);
}

/* ---- poll ---- */

static void
deadlines_check(struct ucx_transport *tp, uint64_t now_ns)
{
	if (now_ns < tp->check_ns)
		return;
	tp->check_ns = now_ns + CHECK_NS;
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next)
		far_ucx_link_check(FAR_CONTAINER_OF(it, struct ucx_link, all_node), now_ns);
	for (struct far_list *it = tp->conns.next; it != &tp->conns; it = it->next) {
		struct ucx_conn *conn = FAR_CONTAINER_OF(it, struct ucx_conn, all_node);

		if (conn->link == NULL && now_ns >= far_ucx_conn_due_ns(conn))
			far_ucx_conn_wake(conn);
	}
	far_resolve_reap(&tp->resolving, false);
}

/* Takes in what arrived, unless messages of before wait for their handlers. */
static void
progress(struct ucx_transport *tp)
{
	far_ucx_enter();
	for (int i = 0; i < PROGRESS_CALLS_MAX && tp->inbox_count == 0 && !tp->urgent; i++) {
		unsigned count = far_ucx_lib->ucp_worker_progress(tp->worker);

		if (count == 0)
			break;
		tp->work_done += (int)count;
	}
	far_ucx_leave();
	for (struct far_list *it = tp->listeners.next; it != &tp->listeners; it = it->next)
		tp->work_done +=
			far_ucx_listener_work(FAR_CONTAINER_OF(it, struct ucx_listener, node));
}

static void
turns_give(struct ucx_transport *tp)
{
	tp->urgent = false;
	for (int i = 0; i < LINK_TURNS_MAX && tp->budget > 0; i++) {
		struct far_list *node = far_list_pop_front(&tp->work);
		struct ucx_link *link;

		if (node == NULL)
			break;
		link = FAR_CONTAINER_OF(node, struct ucx_link, work_node);
		if (far_ucx_link_work(link))
			far_ucx_link_wake(link);
	}
	for (int i = 0; i < LINK_TURNS_MAX; i++) {
		struct far_list *node = far_list_pop_front(&tp->conn_work);

		if (node == NULL)
			break;
		tp->work_done +=
			far_ucx_conn_work(FAR_CONTAINER_OF(node, struct ucx_conn, work_node));
	}
}

static int
ucx_poll(struct far_transport *ftp, int budget)
{
	struct ucx_transport *tp = UCX_TP(ftp);
	uint64_t now_ns;

	if (far_ucx_is_child(tp))
		return -EPERM;
	now_ns = far_clock_now(tp->clock);
	tp->budget = budget;
	tp->work_done = 0;
	deadlines_check(tp, now_ns);
	/* Each look at UCX is a system call: what waits to be sent does not wait for one. */
	turns_give(tp);
	for (int turn = 0; turn < POLL_TURNS_MAX && tp->budget > 0; turn++) {
		int before = tp->work_done;

		progress(tp);
		turns_give(tp);
		if (tp->work_done == before)
			break;
	}
	if (tp->work_done > 0)
		far_spin_found(&tp->spin, now_ns);
	else
		far_spin_idle(&tp->spin, now_ns);
	return tp->work_done;
}

/* ---- arm ---- */

/* When the next deadline is; FAR_TIME_NEVER: there is none. */
static uint64_t
due_find(const struct ucx_transport *tp)
{
	uint64_t due_ns = FAR_TIME_NEVER;

	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		uint64_t at_ns =
			far_ucx_link_due_ns(FAR_CONTAINER_OF(it, struct ucx_link, all_node));

		due_ns = at_ns < due_ns ? at_ns : due_ns;
	}
	for (struct far_list *it = tp->conns.next; it != &tp->conns; it = it->next) {
		const struct ucx_conn *conn = FAR_CONTAINER_OF(it, struct ucx_conn, all_node);
		uint64_t at_ns = conn->link != NULL ? FAR_TIME_NEVER : far_ucx_conn_due_ns(conn);

		due_ns = at_ns < due_ns ? at_ns : due_ns;
	}
	return due_ns;
}

/*
 * The timer is the machine's, whatever clock the transport was given. One that will fire before it is
 * needed is left alone, since deadlines that move with every answer would cost a system call each
 * time; one that has fired is set anew, which takes back an expiry that nobody has read.
 */
static void
timer_arm(struct ucx_transport *tp)
{
	uint64_t due_ns = due_find(tp), wait_ns = FAR_TIME_NEVER;
	uint64_t real_ns = far_clock_now(far_clock_real());
	bool fired = tp->timer_ns <= real_ns;
	struct itimerspec spec = {0};

	if (due_ns != FAR_TIME_NEVER) {
		uint64_t now_ns = far_clock_now(tp->clock);

		wait_ns = due_ns > now_ns + DUE_NS_MIN ? due_ns - now_ns : DUE_NS_MIN;
	}
	due_ns = far_time_after(real_ns, wait_ns);
	if (!fired && tp->timer_ns <= due_ns)
		return;
	tp->timer_ns = due_ns;
	if (due_ns != FAR_TIME_NEVER) {
		spec.it_value.tv_sec = (time_t)(due_ns / FAR_NS_PER_S);
		spec.it_value.tv_nsec = (long)(due_ns % FAR_NS_PER_S);
	}
	(void)timerfd_settime(tp->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

static bool
listeners_are_asked(const struct ucx_transport *tp)
{
	for (const struct far_list *it = tp->listeners.next; it != &tp->listeners; it = it->next)
		if (far_ucx_listener_can_work(FAR_CONTAINER_OF(it, struct ucx_listener, node)))
			return true;
	return false;
}

/* Who asked knows that it waits; who is asked never does, so a listener's process takes the next
 * request for as near as the last ones were. */
static bool
is_waiting(const struct ucx_transport *tp)
{
	if (!far_list_empty(&tp->listeners))
		return true;
	for (const struct far_list *it = tp->links.next; it != &tp->links; it = it->next)
		if (far_ucx_link_expects(FAR_CONTAINER_OF(it, struct ucx_link, all_node)))
			return true;
	return false;
}

static int
ucx_arm(struct far_transport *ftp)
{
	struct ucx_transport *tp = UCX_TP(ftp);
	ucs_status_t status = UCS_ERR_BUSY;

	if (far_ucx_is_child(tp))
		return -EPERM;
	if (!far_list_empty(&tp->work) || !far_list_empty(&tp->conn_work))
		return -EAGAIN;
	if (far_spin_again(&tp->spin, far_clock_now(tp->clock)) && is_waiting(tp))
		return -EAGAIN;
	/* UCX is busy also when an event was signalled that progress has long dealt with: with
	 * nothing more to do after it, the second try holds. */
	far_ucx_enter();
	for (int i = 0; i < ARM_TRIES_MAX; i++) {
		status = far_ucx_lib->ucp_worker_arm(tp->worker);
		if (status != UCS_ERR_BUSY || far_ucx_lib->ucp_worker_progress(tp->worker) > 0)
			break;
	}
	far_ucx_leave();
	if (!far_list_empty(&tp->work) || !far_list_empty(&tp->conn_work) ||
	    listeners_are_asked(tp))
		return -EAGAIN;
	if (status != UCS_OK)
		return -EAGAIN;
	timer_arm(tp);
	far_spin_slept(&tp->spin);
	return 0;
}

const struct far_transport_ops far_ucx_ops = {
	.name = "ucx",
	.open = ucx_open,
	.close = ucx_close,
	.mem_reg = far_ucx_mem_reg,
	.mem_dereg = far_ucx_mem_dereg,
	.mem_expose = far_ucx_mem_expose,
	.listen = far_ucx_listen,
	.unlisten = far_ucx_unlisten,
	.connect = far_ucx_connect,
	.disconnect = far_ucx_disconnect,
	.forget = far_ucx_forget,
	.map = far_transport_maps_nothing,
	.post = far_ucx_post,
	.send = far_ucx_send,
	.poll = ucx_poll,
	.arm = ucx_arm,
};
