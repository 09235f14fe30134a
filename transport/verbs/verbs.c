/* verbs.c - the native RDMA transport: opening, closing, and its table. */
#include "transport/verbs/verbs_priv.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "transport/mapped.h"

/* ---- fork ---- */

/* A page that the kernel wipes in a child: a load instead of a system call for every call of ours.
 */
static void
alive_open(struct verbs_transport *tp)
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
far_verbs_is_child(const struct verbs_transport *tp)
{
	return tp->alive != NULL ? *(volatile uint32_t *)tp->alive == 0 : tp->pid != getpid();
}

/* ---- open and close ---- */

static int
arrays_open(struct verbs_transport *tp)
{
	tp->slots = far_zalloc_array(VERBS_REGIONS_MAX, sizeof(struct verbs_mem *));
	tp->link_slots = far_zalloc_array(VERBS_LINKS_MAX, sizeof(struct verbs_link *));
	tp->wrs = far_zalloc_array(far_verbs_tune.sq_depth, sizeof(*tp->wrs));
	tp->sges = far_zalloc_array((size_t)far_verbs_tune.sq_depth * VERBS_SGES_MAX,
				    sizeof(*tp->sges));
	return tp->slots == NULL || tp->link_slots == NULL || tp->wrs == NULL || tp->sges == NULL
		       ? -ENOMEM
		       : 0;
}

/* One descriptor for all: RDMA CM's, a timer for deadlines, and those of each device. */
static int
fds_open(struct verbs_transport *tp)
{
	int flags, rc;

	tp->tp.fd = epoll_create1(EPOLL_CLOEXEC);
	tp->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (tp->tp.fd < 0 || tp->timer_fd < 0)
		return errno == ENOMEM ? -ENOMEM : -EMFILE;
	tp->cm = far_verbs_lib->rdma_create_event_channel();
	if (tp->cm == NULL) {
		far_log_error("verbs: RDMA CM cannot be used (errno %d): load its kernel module "
			      "rdma_ucm",
			      errno);
		return errno == EMFILE || errno == ENOMEM ? -errno : -ENODEV;
	}
	flags = fcntl(tp->cm->fd, F_GETFL);
	if (flags < 0 || fcntl(tp->cm->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -EMFILE;
	rc = far_verbs_watch_add(tp, tp->cm->fd, &tp->cm_watch);
	return rc == 0 ? far_verbs_watch_add(tp, tp->timer_fd, &tp->timer_watch) : rc;
}

/* Takes half-open ones. */
static void
transport_fini(struct verbs_transport *tp)
{
	for (uint32_t i = tp->device_count; i > 0; i--)
		if (tp->devices[i - 1] != NULL)
			far_verbs_device_close(tp->devices[i - 1]);
	if (tp->cm != NULL)
		far_verbs_lib->rdma_destroy_event_channel(tp->cm);
	far_resolve_reap(&tp->resolving, true);
	if (tp->timer_fd >= 0)
		(void)close(tp->timer_fd);
	if (tp->tp.fd >= 0)
		(void)close(tp->tp.fd);
	if (tp->alive != NULL)
		(void)munmap(tp->alive, (size_t)sysconf(_SC_PAGESIZE));
	far_free(tp->slots);
	far_free(tp->link_slots);
	far_free(tp->wrs);
	far_free(tp->sges);
	far_free(tp);
}

/* How long a device may try before it gives up. */
static uint64_t
tries_ns(uint8_t ack_timeout, uint32_t retries)
{
	return 4 * (VERBS_ACK_UNIT_NS << ack_timeout) * (retries + 1);
}

static void
transport_init(struct verbs_transport *tp, const struct far_transport_config *config)
{
	const struct far_rdma_options *rdma = &config->rdma;
	uint64_t usual_ns;

	tp->tp.ops = &far_verbs_ops;
	/* A key reaches what was registered, with the rights that were, from any link of the
	 * device: no domains. */
	tp->tp.caps.flags = FAR_CAP_ONE_SIDED | FAR_CAP_READ_ONLY_KEYS | FAR_CAP_FENCED_WRITES;
	tp->tp.caps.op_bytes_max = (uint64_t)UINT32_MAX * FAR_PIECES_MAX;
	tp->tp.fd = -1;
	tp->timer_fd = -1;
	tp->timer_ns = FAR_TIME_NEVER;
	tp->cm_watch.kind = VERBS_WATCH_CM;
	tp->timer_watch.kind = VERBS_WATCH_TIMER;
	tp->clock = config->clock != NULL ? config->clock : far_clock_real();
	tp->credits =
		config->message_credits != 0 ? config->message_credits : VERBS_CREDITS_DEFAULT;
	tp->ack_timeout = far_verbs_timeout_exponent(
		rdma->ack_timeout_ns != 0 ? rdma->ack_timeout_ns : VERBS_ACK_TIMEOUT_NS);
	tp->retries = (uint8_t)(rdma->retries != 0 ? rdma->retries : VERBS_RETRIES_DEFAULT);
	tp->rnr_retries =
		(uint8_t)(rdma->rnr_retries != 0 ? rdma->rnr_retries : VERBS_RETRIES_DEFAULT);
	tp->stuck_ns = far_verbs_tune.stuck_ns;
	usual_ns =
		tries_ns(far_verbs_timeout_exponent(VERBS_ACK_TIMEOUT_NS), VERBS_RETRIES_DEFAULT);
	if (tries_ns(tp->ack_timeout, tp->retries) > usual_ns)
		tp->stuck_ns += tries_ns(tp->ack_timeout, tp->retries) - usual_ns;
	tp->traffic_class = (uint8_t)rdma->traffic_class;
	tp->service_level = (uint8_t)rdma->service_level;
	tp->posts_no_reads = config->posts_no_reads;
	tp->bytes_max = config->bytes_in_flight_max;
	tp->peer_bytes_max = config->peer_bytes_in_flight_max;
	far_spin_init(&tp->spin, config->spin_ns_max);
	far_list_init(&tp->links);
	far_list_init(&tp->work);
	far_list_init(&tp->listeners);
	far_list_init(&tp->resolving);
	/* Keys of an earlier process are not ours by accident. */
	far_random_bytes(&tp->nonce, sizeof(tp->nonce));
}

static int
verbs_open(const struct far_transport_config *config, struct far_transport **out)
{
	const struct far_rdma_options *rdma = &config->rdma;
	struct verbs_transport *tp;
	int rc;

	/* 7 retries are infinitely many on some devices. */
	if (config->message_credits > VERBS_CREDITS_MAX || rdma->retries > VERBS_RETRIES_MAX ||
	    rdma->rnr_retries > VERBS_RETRIES_MAX || rdma->traffic_class > UINT8_MAX ||
	    rdma->service_level > 15)
		return -EINVAL;
	rc = far_verbs_lib_load();
	if (rc < 0)
		return rc;
	tp = far_zalloc(sizeof(*tp));
	if (tp == NULL)
		return -ENOMEM;
	transport_init(tp, config);
	alive_open(tp);
	rc = arrays_open(tp);
	if (rc == 0)
		rc = far_verbs_devices_look(tp);
	if (rc == 0)
		rc = fds_open(tp);
	if (rc == 0)
		rc = far_verbs_devices_open(tp, config);
	if (rc < 0) {
		transport_fini(tp);
		return rc;
	}
	*out = &tp->tp;
	return 0;
}

static void
verbs_close(struct far_transport *ftp)
{
	struct verbs_transport *tp = VERBS_TP(ftp);

	if (far_verbs_is_child(tp))
		return;
	FAR_ASSERT(far_list_empty(&tp->listeners));
	FAR_ASSERT(far_list_empty(&tp->links));
	for (uint32_t i = 0; i < VERBS_REGIONS_MAX; i++)
		FAR_ASSERT(tp->slots[i] == NULL);
	transport_fini(tp);
}

const struct far_transport_ops far_verbs_ops = {
	.name = "verbs",
	.open = verbs_open,
	.close = verbs_close,
	.mem_reg = far_verbs_mem_reg,
	.mem_dereg = far_verbs_mem_dereg,
	.mem_expose = far_verbs_mem_expose,
	.listen = far_verbs_listen,
	.unlisten = far_verbs_unlisten,
	.connect = far_verbs_connect,
	.disconnect = far_verbs_disconnect,
	.forget = far_verbs_forget,
	.map = far_transport_maps_nothing,
	.post = far_verbs_post,
	.send = far_verbs_send,
	.poll = far_verbs_poll,
	.arm = far_verbs_arm,
};
