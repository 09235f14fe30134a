/* gpu.c - the wrapper: opening, polling, arming, and its table. */
#include "transport/gpu/gpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "transport/gpu/gpu_priv.h"

/* A copy of a megabyte takes 20 us: what ends so soon is not slept for, waking costs as much. */
#define COPY_SPIN_NS (50 * FAR_NS_PER_US)

const char *
far_gpu_path_name(enum far_gpu_path path)
{
	static const char *const names[FAR_GPU_PATHS] = {"direct", "mapped", "staged"};

	return names[path];
}

void
far_gpu_status_get(const struct far_transport *tp, struct far_gpu_status *out)
{
	*out = gpu_tp_const(tp)->status;
}

/* ---- open and close ---- */

static void
transport_free(struct gpu_transport *tp)
{
	far_gpu_pinner_close(tp);
	far_gpu_stage_close(tp);
	far_copier_close(tp->copier);
	if (tp->tp.fd >= 0)
		(void)close(tp->tp.fd);
	if (tp->wake_fd >= 0)
		(void)close(tp->wake_fd);
	far_free(tp->inner_pieces);
	far_free(tp);
}

static void
gpu_close(struct far_transport *ftp)
{
	struct gpu_transport *tp = gpu_tp(ftp);
	struct far_transport *inner = tp->inner;

	FAR_ASSERT(far_list_empty(&tp->links));
	transport_free(tp);
	far_transport_close(inner);
}

/* It is opened by far_gpu_open() alone. */
static int
gpu_open_by_name(const struct far_transport_config *config, struct far_transport **out)
{
	(void)config;
	(void)out;
	return -EINVAL;
}

static int
watch(struct gpu_transport *tp, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(tp->tp.fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -ENOMEM;
}

static int
descriptors_open(struct gpu_transport *tp)
{
	int rc;

	tp->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (tp->wake_fd < 0)
		return -EMFILE;
	if (tp->inner->fd < 0)
		return 0; /* busy-polled only, and so are we */
	tp->tp.fd = epoll_create1(EPOLL_CLOEXEC);
	if (tp->tp.fd < 0)
		return -EMFILE;
	rc = watch(tp, tp->inner->fd);
	return rc < 0 ? rc : watch(tp, tp->wake_fd);
}

static int
config_take(struct gpu_transport *tp, const struct far_gpu_config *config)
{
	struct far_gpu_config *ours = &tp->config;

	*ours = *config;
	if (ours->stage_bytes == 0)
		ours->stage_bytes = FAR_GPU_DEFAULT_STAGE_BYTES;
	if (ours->slice_bytes == 0)
		ours->slice_bytes = FAR_GPU_DEFAULT_SLICE_BYTES < ours->stage_bytes / 4
					    ? FAR_GPU_DEFAULT_SLICE_BYTES
					    : ours->stage_bytes / 4;
	if (ours->stage_bytes < (1ULL << 20) || ours->stage_bytes > (4ULL << 30) ||
	    ours->slice_bytes < (64ULL << 10) || ours->slice_bytes > ours->stage_bytes / 4)
		return -EINVAL;
	tp->device = config->device;
	return 0;
}

static const struct far_transport_ops wrapper_ops;

static int
parts_open(struct gpu_transport *tp, const struct far_gpu_config *config)
{
	int rc = config_take(tp, config);

	if (rc < 0)
		return rc;
	tp->inner_pieces = far_zalloc_array((size_t)FAR_POST_OPS_MAX * FAR_PIECES_MAX,
					    sizeof(*tp->inner_pieces));
	if (tp->inner_pieces == NULL)
		return -ENOMEM;
	rc = descriptors_open(tp);
	if (rc == 0)
		rc = far_copier_open(tp->device, &tp->copier);
	if (rc == 0)
		rc = far_gpu_stage_open(tp, tp->config.stage_bytes);
	if (rc == 0)
		rc = far_gpu_pinner_open(tp);
	return rc;
}

int
far_gpu_open(struct far_transport *inner, const struct far_gpu_config *config,
	     struct far_transport **out)
{
	struct gpu_transport *tp = far_zalloc(sizeof(*tp));
	struct far_gpu_path_status *mapped;
	int rc;

	if (tp == NULL)
		return -ENOMEM;
	tp->inner = inner;
	tp->ops = wrapper_ops;
	tp->ops.name = inner->ops->name;
	tp->tp.ops = &tp->ops;
	tp->tp.caps = inner->caps;
	tp->tp.caps.flags &= ~FAR_CAP_ANY_THREAD; /* a context is current on one thread */
	tp->tp.fd = -1;
	tp->wake_fd = -1;
	tp->stage.pages.fd = -1;
	far_list_init(&tp->links);
	far_list_init(&tp->running);
	far_list_init(&tp->pins);
	far_list_init(&tp->waiting);
	for (int i = 0; i < FAR_COPY_WAYS; i++)
		far_list_init(&tp->copying[i]);
	tp->maps = (config->paths_off & (1U << FAR_GPU_MAPPED)) == 0;
	mapped = &tp->status.paths[FAR_GPU_MAPPED];
	(void)snprintf(mapped->why, sizeof(mapped->why), "%s",
		       tp->maps ? "nothing was read from a donor of this host" : "switched off");
	rc = parts_open(tp, config);
	if (rc < 0) {
		transport_free(tp);
		return rc == -EOPNOTSUPP ? -EIO : rc;
	}
	*out = &tp->tp;
	return 0;
}

/* ---- progress ---- */

static int
links_run(struct gpu_transport *tp)
{
	struct far_list turn;
	struct far_list *node;
	int work = 0;

	/* Each once: what wakes it again waits for the next turn. */
	far_list_init(&turn);
	while ((node = far_list_pop_front(&tp->running)) != NULL)
		far_list_push_back(&turn, node);
	while ((node = far_list_pop_front(&turn)) != NULL) {
		struct gpu_link *link = FAR_CONTAINER_OF(node, struct gpu_link, run_node);

		work += far_gpu_lists_run(link);
		work += far_gpu_writes_run(link);
	}
	return work;
}

static int
gpu_poll(struct far_transport *ftp, int budget)
{
	struct gpu_transport *tp = gpu_tp(ftp);
	bool woken = !far_list_empty(&tp->running);
	int work;

	work = far_transport_poll(tp->inner, budget);
	work += far_gpu_pinner_poll(tp);
	work += far_gpu_copies_run(tp);
	work += links_run(tp);
	(void)far_copier_submit(tp->copier); /* a failure is told by its poll */
	if (woken || work > 0)
		work += far_gpu_links_report(tp);
	if (work > 0)
		tp->copies_since_ns = far_clock_now(tp->config.clock);
	return work;
}

static bool
copies_outstanding(const struct gpu_transport *tp)
{
	return !far_list_empty(&tp->copying[FAR_COPY_IN]) ||
	       !far_list_empty(&tp->copying[FAR_COPY_OUT]);
}

static int
gpu_arm(struct far_transport *ftp)
{
	struct gpu_transport *tp = gpu_tp(ftp);
	eventfd_t value;

	/* Wakes of before, whose news is taken or is found by what follows. */
	(void)eventfd_read(tp->wake_fd, &value);
	if (!far_list_empty(&tp->running) ||
	    atomic_load_explicit(&tp->pinner.has_results, memory_order_acquire))
		return -EAGAIN;
	if (copies_outstanding(tp) &&
	    far_clock_now(tp->config.clock) - tp->copies_since_ns < COPY_SPIN_NS)
		return -EAGAIN;
	if (far_transport_arm(tp->inner) == -EAGAIN)
		return -EAGAIN;
	return copies_outstanding(tp) ? far_copier_arm(tp->copier, tp->wake_fd) : 0;
}

static int
gpu_map(struct far_link *link, const struct far_rkey *rkey, struct far_mapped **out,
	uint64_t *offset_out, uint64_t *size_out)
{
	struct far_link *inner = gpu_link(link)->inner;

	return inner == NULL ? -ENOTCONN
			     : far_transport_map(inner, rkey, out, offset_out, size_out);
}

static const struct far_transport_ops wrapper_ops = {
	.open = gpu_open_by_name,
	.close = gpu_close,
	.mem_reg = far_gpu_mem_reg,
	.mem_dereg = far_gpu_mem_dereg,
	.mem_expose = far_gpu_mem_expose,
	.listen = far_gpu_listen,
	.unlisten = far_gpu_unlisten,
	.connect = far_gpu_connect,
	.disconnect = far_gpu_disconnect,
	.forget = far_gpu_forget,
	.map = gpu_map,
	.post = far_gpu_post,
	.send = far_gpu_send,
	.poll = gpu_poll,
	.arm = gpu_arm,
};
