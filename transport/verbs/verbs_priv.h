/* verbs_priv.h - the structures of the verbs transport, and what its files owe each other. */
#ifndef FAR_TRANSPORT_VERBS_VERBS_PRIV_H
#define FAR_TRANSPORT_VERBS_VERBS_PRIV_H

#include "transport/verbs/verbs.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/bitmap.h"
#include "base/list.h"
#include "base/pages.h"
#include "transport/host.h"
#include "transport/spin.h"
#include "transport/verbs/frame.h"
#include "transport/verbs/lib.h"

#define VERBS_CREDITS_DEFAULT 32U
#define VERBS_FRAMES          32U   /* receive buffers of a link */
#define VERBS_OPS_MAX         4096U /* posted and not told, per link; a power of two */
#define VERBS_PIECES_QUEUED   ((uint32_t)FAR_POST_OPS_MAX * FAR_PIECES_MAX)
#define VERBS_RING_BYTES      (256U * 1024U) /* messages that wait to be sent, or are on their way */
#define VERBS_CTLS            4U             /* frames of our own on their way */
#define VERBS_REGIONS_MAX     16384U         /* a power of two */
#define VERBS_PEER_SLICES_MAX 65536U         /* of what one peer exposes */
#define VERBS_LINKS_MAX       4096U          /* a power of two: a slot has 12 bits */
#define VERBS_DEVICES_MAX     8U
#define VERBS_SQ_DEPTH        256U /* work requests of one link that the device has */
#define VERBS_SQ_FRAMES       16U  /* of these, for frames alone */
#define VERBS_SGES_MAX        16U
#define VERBS_INLINE_BYTES    220U          /* asked for; what the device gives is used */
#define VERBS_WCS             32U           /* completions taken at once */
#define VERBS_WR_BYTES        (32ULL << 20) /* of one READ or WRITE; the port may allow less */
/* A device that moves bytes tells of it this often at least: it is judged by what it tells. */
#define VERBS_SIGNAL_BYTES (32ULL << 20)
/* Of one registration: some devices stop at 4 GiB, and pinning one at a time is long enough. Whole
 * huge pages of 2 MiB. */
#define VERBS_SLICE_BYTES (3584ULL << 20)
#define VERBS_SLICE_ALIGN (2ULL << 20)

#define VERBS_ACK_UNIT_NS      4096ULL
#define VERBS_ACK_TIMEOUT_NS   (268 * FAR_NS_PER_MS)
#define VERBS_RETRIES_DEFAULT  6U
#define VERBS_RETRIES_MAX      6U  /* 7 is for ever on some devices, and always for RNR */
#define VERBS_RNR_TIMER        12U /* 0.64 ms; the default stands for 655 ms */
#define VERBS_HELLO_TIMEOUT_NS (10 * FAR_NS_PER_S)
#define VERBS_RESOLVE_NS       (2 * FAR_NS_PER_S) /* of RDMA CM, for an address, and for a route */
/* How long the device may take to give back what it has of a link before its queue is destroyed. */
#define VERBS_DRAIN_NS (500 * FAR_NS_PER_MS)
/* How long a link that ends waits for its last messages to be with the peer: a few tries. */
#define VERBS_LINGER_NS (1 * FAR_NS_PER_S)
/* A link on which nothing moved for so long asks the peer's device whether it is there. */
#define VERBS_IDLE_NS (10 * FAR_NS_PER_S)

/* A device that has work and tells of nothing for so long is stuck: it gives up by itself before, after
 * 7 tries that may take four times as long as they were told; more where it is told to try longer. */
#define VERBS_STUCK_NS      (10 * FAR_NS_PER_S)
#define VERBS_STUCK_MORE_NS (500 * FAR_NS_PER_MS)

struct verbs_link;
struct verbs_device;
struct verbs_listener;
struct verbs_peer_key;

/* What a test makes small. */
struct verbs_tune {
	uint32_t sq_depth;
	uint64_t slice_bytes;
	uint64_t wr_bytes;
	uint64_t signal_bytes;
	uint64_t stuck_ns;
};
extern struct verbs_tune far_verbs_tune;

/* ---- what epoll and RDMA CM's ids point at ---- */
enum verbs_watch_kind {
	VERBS_WATCH_CM,
	VERBS_WATCH_TIMER,
	VERBS_WATCH_COMPLETIONS,
	VERBS_WATCH_ASYNC,
	VERBS_WATCH_LINK,
	VERBS_WATCH_LISTENER,
};

struct verbs_watch {
	enum verbs_watch_kind kind;
};

/* A child of fork() must not touch anything of the parent's. */
struct verbs_transport {
	struct far_transport tp;
	struct far_clock *clock; /* borrowed */
	struct rdma_event_channel *cm;
	struct verbs_watch cm_watch;
	struct verbs_watch timer_watch;
	int timer_fd;
	uint64_t timer_ns; /* when it fires, on the machine's clock; FAR_TIME_NEVER: not set */
	uint64_t nonce;
	uint64_t id_last; /* of links and regions; they never repeat */
	uint32_t credits;
	uint8_t ack_timeout; /* 4.096 us times two to the power of this */
	uint8_t retries;     /* of a work request that is not acknowledged */
	uint8_t rnr_retries; /* of a SEND that finds no receive buffer */
	uint64_t stuck_ns;   /* see VERBS_STUCK_NS */
	uint8_t traffic_class;
	uint8_t service_level;
	bool posts_no_reads;
	uint64_t bytes_max;      /* queued per transport; 0: no limit */
	uint64_t peer_bytes_max; /* queued per link; 0: no limit */
	uint64_t queued_bytes;
	uint64_t slice_bytes;
	uint32_t *alive; /* a word that is 0 in a child of fork(); NULL: compare the pid */
	pid_t pid;
	struct verbs_device *devices[VERBS_DEVICES_MAX]; /* owned; NULL: it failed and is gone */
	uint32_t device_count;                           /* places that were ever used */
	bool devices_dead;                               /* some failed and are not gone yet */
	struct far_list links;                           /* verbs_link.all_node */
	struct far_list work;      /* verbs_link.work_node: those with something to do */
	struct far_list listeners; /* verbs_listener.node */
	struct far_list resolving; /* names that nobody waits for any more */
	struct verbs_mem **slots;  /* owned: VERBS_REGIONS_MAX */
	uint32_t slot_hint;
	struct verbs_link **link_slots; /* owned: VERBS_LINKS_MAX */
	uint32_t link_hint;
	/* For one chain of work requests at a time. */
	struct ibv_send_wr *wrs; /* owned: VERBS_SQ_DEPTH */
	struct ibv_sge *sges;    /* owned: VERBS_SQ_DEPTH * VERBS_SGES_MAX */
	bool slept;              /* since the last poll */
	uint32_t polls_blind;    /* since descriptors were looked at */
	uint64_t check_ns;       /* deadlines are looked at again then */
	struct far_spin spin;
	/* Of the poll that runs. */
	uint64_t now_ns;
	int budget;
	int work_done;
};

/* ---- device.c ---- */
/* A device that this transport uses: everything here is ours alone, also where another transport of
 * the process uses the same one. */
struct verbs_device {
	struct verbs_transport *tp;
	struct verbs_watch completions_watch;
	struct verbs_watch async_watch;
	uint32_t idx;              /* in tp->devices */
	struct ibv_device *handle; /* borrowed: librdmacm's */
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_device_attr attr;
	uint32_t read_sges_max;
	uint32_t sges_max;
	uint64_t wr_bytes_max;
	bool dead;  /* it failed: no new links, and it goes with the last of its links */
	bool shown; /* in the log, with port and GID */
	/* Completions: as many places as there may be work requests. */
	uint32_t cq_size;
	uint32_t cq_needed;
	uint32_t cq_released; /* of these, by links that are gone, while some may be in it still */
	bool armed;
	uint32_t unacked;    /* events of the channel */
	uint64_t empty_seen; /* how often it was seen empty */
	struct ibv_wc wcs[VERBS_WCS];
	uint32_t wc_at;
	uint32_t wc_count;
};

/* Whether there are devices, and what the weakest can: sets caps and slice size. Returns 0,
 * -ENODEV. */
int far_verbs_devices_look(struct verbs_transport *tp);
/* Opens all that can be used: what is registered later is not registered while peers wait. Returns 0,
 * -ENODEV: there is none. */
int far_verbs_devices_all(struct verbs_transport *tp);
/* The transport's own use of the device that RDMA CM has chosen; opened when it is new,
 * and then all that is registered is registered with it. Returns 0 or a listed error. */
int far_verbs_device_get(struct verbs_transport *tp, struct ibv_context *context,
			 struct verbs_device **out);
void far_verbs_device_close(struct verbs_device *device);
/* Opens those that addresses of the configuration need. Returns 0, or why one of ours cannot be. */
int far_verbs_devices_open(struct verbs_transport *tp, const struct far_transport_config *config);
/* Places for so many completions more. Returns 0, -ENOMEM. */
int far_verbs_device_reserve(struct verbs_device *device, uint32_t count);
void far_verbs_device_release(struct verbs_device *device, uint32_t count);
/* Says once what links over it use. */
void far_verbs_device_show(struct verbs_device *device, uint8_t port, uint8_t gid_idx,
			   enum ibv_mtu mtu, uint32_t reads);
/* Nothing goes over it any more: every link of it is lost. */
void far_verbs_device_fail(struct verbs_device *device);
/* The same, and it has nothing any more when this returns: its context is closed. For what it does not
 * end when it is told to. */
void far_verbs_device_kill(struct verbs_device *device);
/* Closes those that failed, once their links have ended: the kernel may wait for that before it lets go
 * of the device, and one that comes back is another one. */
void far_verbs_devices_reap(struct verbs_transport *tp);
/* Takes what the device said by itself. Returns how many events. */
int far_verbs_async_take(struct verbs_device *device);

/* ---- mem.c ---- */
struct verbs_mem {
	struct far_mem mem;
	uint64_t region;
	uint64_t only_id; /* of a link; 0: all that it was exposed to */
	uint32_t slot;
	uint32_t ops; /* outstanding ones of ours that name it */
	uint32_t slice_count;
	bool relaxed;
	struct far_device *gpu;                 /* whose memory it is; NULL: the host's */
	struct ibv_mr **mrs[VERBS_DEVICES_MAX]; /* owned: slice_count of them; NULL: not there */
};

int far_verbs_mem_reg(struct far_transport *tp, const struct far_mem_source *source,
		      uint32_t rights, struct far_link *only, struct far_mem **out);
void far_verbs_mem_dereg(struct far_mem *mem);
int far_verbs_mem_expose(struct far_mem *mem, struct far_link *link);
/* Registers with a device what is registered already. Returns 0 or a listed error. */
int far_verbs_mems_adopt(struct verbs_device *device);
void far_verbs_mems_abandon(struct verbs_device *device);

/* ---- gpu.c: memory of a GPU, which the NIC reaches without the host's ---- */
/*
 * Fills @mrs, one per slice, with what the device gives; DMA-BUF first, then peer memory. Returns 0, or
 * -EOPNOTSUPP: neither, and the log says why; then nothing of @mrs is left.
 */
int far_verbs_gpu_register(struct verbs_mem *mem, struct verbs_device *device, struct ibv_mr **mrs,
			   unsigned access);
/* Whether the way between them is a good one. Returns 0, or -EOPNOTSUPP and says why. */
int far_verbs_gpu_near(const struct far_device *gpu, const struct verbs_device *device,
		       const char *sysfs);
/* The key for a local byte, and how many bytes behind it have the same. */
static inline uint32_t
far_verbs_lkey(const struct verbs_transport *tp, const struct verbs_mem *mem, uint32_t device_idx,
	       const void *addr, uint64_t *left_out)
{
	uint64_t offset = (uintptr_t)addr - (uintptr_t)mem->mem.base;
	uint64_t slice = offset / tp->slice_bytes;

	*left_out = (slice + 1) * tp->slice_bytes - offset;
	return mem->mrs[device_idx][slice]->lkey;
}

/* ---- keys.c: the device's keys, of what we, and what the peer, exposed ---- */
struct verbs_peer_key {
	uint64_t region;
	uint64_t base;
	uint64_t size_bytes;
	uint64_t slice_bytes;
	uint32_t rights;
	uint32_t slice_count;
	uint32_t ops;   /* of ours that name it */
	bool forgotten; /* goes with the last of them */
	uint32_t rkeys[];
};

/* A key is {random number of the transport, region}; a region's low bits are its slot. */
static inline void
far_verbs_rkey_split(const struct far_rkey *rkey, uint64_t *nonce_out, uint64_t *region_out)
{
	memcpy(nonce_out, rkey->bytes, sizeof(*nonce_out));
	memcpy(region_out, rkey->bytes + sizeof(*nonce_out), sizeof(*region_out));
}

/* Fills a frame with what waits to be told. Returns the bytes of its body. */
uint32_t far_verbs_keys_fill(struct verbs_link *link, uint8_t *body);
/* The peer's. Returns 0, or why the link ends. */
int far_verbs_keys_take(struct verbs_link *link, const uint8_t *body, size_t body_bytes);
/* One that allows an op. Returns 0, -ESTALE, -EACCES. */
int far_verbs_key_find(const struct verbs_link *link, const struct far_op *op, uint64_t bytes,
		       struct verbs_peer_key **out);
void far_verbs_key_release(struct verbs_peer_key *key);
void far_verbs_forget(struct far_link *link, const struct far_rkey *rkey);
void far_verbs_keys_fini(struct verbs_link *link);

/* ---- queue.c: our one-sided lists, first in, first out ---- */
struct verbs_op {
	struct verbs_peer_key *key; /* NULL: it failed before it began */
	uint64_t addr;              /* in the region */
	uint64_t bytes;
	uint64_t token;
	uint32_t piece_count;
	int32_t status;
	uint8_t kind;
	uint8_t flags;
	bool done;
};

struct verbs_queue {
	struct verbs_op *ops;     /* owned: VERBS_OPS_MAX */
	struct far_piece *pieces; /* owned: VERBS_PIECES_QUEUED */
	uint32_t head;            /* the oldest op that is not covered by a token that was told */
	uint32_t scan;            /* head..scan: done, waiting for their token */
	uint32_t cursor;          /* the next for the device */
	uint32_t tail;
	uint32_t piece_head; /* of the op at @head */
	uint32_t piece_tail;
	int32_t first_failure; /* among head..scan */
	/* The op at the cursor. */
	uint32_t piece_next; /* its first piece */
	uint32_t piece;      /* where its next byte comes from or goes to */
	uint32_t piece_offset;
	uint64_t op_offset;
	bool fence;     /* the next work request waits for all READs before it */
	uint64_t bytes; /* of all ops in it */
	/* For messages: WRITEs given and begun, modulo 2^32, and those that failed and are not
	 * told. */
	uint32_t writes_pushed;
	uint32_t writes_begun;
	uint32_t write_failures;
	struct {
		bool set;
		uint32_t ops;
		uint32_t pieces;
		uint64_t bytes;
	} refused; /* the list that was answered -EAGAIN last */
};

int far_verbs_queue_init(struct verbs_queue *queue);
void far_verbs_queue_fini(struct verbs_queue *queue);
int far_verbs_post(struct far_link *link, const struct far_op *ops, int count);
/* Hands to the device what it takes, with one doorbell. Returns how many work requests. */
int far_verbs_queue_run(struct verbs_link *link);
/* Gives out completions while the poll's budget lasts. Returns how many. */
int far_verbs_queue_complete(struct verbs_link *link);
/* The device has nothing of the link: all that is not done ends with @rc. */
void far_verbs_queue_abort(struct verbs_queue *queue, int rc);
bool far_verbs_queue_empty(const struct verbs_queue *queue);
/* Whether the list that was refused would be taken now. */
bool far_verbs_queue_ready(const struct verbs_link *link);
/* Whether an outstanding op names that key. */
bool far_verbs_queue_names(const struct verbs_queue *queue, const struct verbs_peer_key *key);
static inline struct verbs_op *
far_verbs_op_at(const struct verbs_queue *queue, uint32_t idx)
{
	return &queue->ops[idx % VERBS_OPS_MAX];
}

/* ---- links ---- */
enum verbs_link_state {
	VERBS_NAME,     /* a name is being looked up */
	VERBS_ADDRESS,  /* RDMA CM looks for the device */
	VERBS_ROUTE,    /* and for the way */
	VERBS_ASKING,   /* the peer was asked */
	VERBS_ACCEPTED, /* by us; that the peer knows is not known yet */
	VERBS_UP,
};

/* What the device has of a link, in its order. */
enum verbs_wr_kind { VERBS_WR_OP, VERBS_WR_FRAME, VERBS_WR_CTL, VERBS_WR_END };

struct verbs_wr {
	uint32_t op; /* OP: its place in the queue; CTL: its buffer; END is nothing but the last */
	uint8_t kind;
	bool last; /* of its op */
};

struct verbs_link {
	struct far_link link;
	struct verbs_watch watch; /* of its id */
	struct far_list all_node;
	struct far_list work_node;
	uint64_t id; /* its low bits are its slot */
	enum verbs_link_state state;
	struct rdma_cm_id *cm_id;    /* owned; NULL: none */
	struct verbs_device *device; /* NULL: not known yet */
	struct ibv_qp *qp;           /* owned; NULL: none */
	uint32_t reserved;           /* places for completions */
	uint32_t access;             /* what its QP allows the peer: IBV_ACCESS_REMOTE_* */
	uint32_t inline_max;
	struct far_resolve *resolve; /* NULL: the address is known */
	int rc;                      /* why it is dead; 0: it is not */
	uint64_t hung_up_mark;
	uint64_t deadline_ns; /* of the handshake, of lingering, of draining */
	uint64_t moved_ns;    /* when the peer's device last answered */
	uint64_t busy_ns; /* since when ours has work that it will tell of, and tells of nothing */
	uint64_t suspect_ns;  /* since when it is taken for stuck; 0: it is not */
	bool qp_moves;        /* it has left INIT, and is not in error */
	bool asked;           /* the peer may hold a connection: it is told of the end */
	uint8_t reads_max;    /* of ours that the device keeps in flight */
	uint8_t reads_served; /* of the peer's */
	bool told;            /* FAR_EV_LOST was given */
	bool closing;         /* disconnect was called */
	bool shut;            /* nothing is sent or taken in any more */
	bool ready;           /* the peer can hear us */
	bool connected_pending;
	bool hung_up;      /* by the peer; what it said before may still be in the CQ: */
	bool send_refused; /* FAR_EV_SENDABLE is owed */
	bool lingering;
	bool flushed; /* all that the device still had to tell of what it was given is told */
	uint32_t hello_bytes;
	uint8_t hello[FAR_HELLO_BYTES_MAX];

	/* The send queue: what the device has, from head to tail. */
	struct verbs_wr *sq; /* owned: sq_depth */
	uint32_t sq_depth;
	uint32_t sq_head, sq_tail;
	uint32_t sq_unsignalled; /* since the last one that will be told */
	uint64_t sq_unsignalled_bytes;
	uint32_t frames_out; /* of them, frames */
	uint32_t ops_out;    /* and those of lists */

	/* Messages. */
	struct far_pages pages; /* receive buffers, buffers for frames of our own, the ring */
	struct ibv_mr *mr;      /* of them */
	uint8_t *rx, *ctl, *ring;
	uint64_t peer_nonce;
	uint32_t credits;     /* messages that we may send */
	uint32_t credits_max; /* what the peer gave at first */
	uint32_t owed;        /* credits that we have not given back yet */
	uint32_t rx_credits;  /* messages that the peer may send */
	uint32_t peer_frames; /* receive buffers of the peer that are free for us */
	uint32_t peer_frames_max;
	uint32_t frames_owed; /* of ours, posted again and not told */
	uint32_t repost_count;
	uint16_t repost[VERBS_FRAMES];
	uint32_t ctl_busy; /* a bit for each buffer */
	uint32_t ring_head, ring_next, ring_tail, ring_used;
	uint32_t ring_queued; /* frames that the device does not have yet */
	uint8_t *partial;     /* owned: a message of which parts are missing */
	uint32_t partial_bytes, partial_total;

	struct verbs_queue queue;
	struct verbs_peer_key **peer_keys; /* owned: VERBS_REGIONS_MAX, by slot; NULL: none yet */
	uint32_t peer_slices;              /* of all of them */
	/* Ours, a bit for each of tp->slots: the peer has been told, shall be told. */
	uint64_t told_words[VERBS_REGIONS_MAX / 64];
	uint64_t untold_words[VERBS_REGIONS_MAX / 64];
	struct far_bitmap told_map;
	struct far_bitmap untold;
	uint32_t untold_count;
};

#define VERBS_LINK(l) FAR_CONTAINER_OF((l), struct verbs_link, link)
#define VERBS_TP(t)   FAR_CONTAINER_OF((t), struct verbs_transport, tp)

static inline uint32_t
far_verbs_sq_room(const struct verbs_link *link)
{
	return link->sq_depth - (link->sq_tail - link->sq_head);
}

/* ---- what a completion says of itself ---- */
#define VERBS_ID_RECV (1ULL << 63)
static inline uint64_t
far_verbs_wr_id(const struct verbs_link *link, uint32_t idx)
{
	return (uint64_t)idx << 48 | link->id;
}

/* ---- link.c ---- */
int far_verbs_link_open(struct verbs_transport *tp, struct verbs_link **out);
void far_verbs_link_free(struct verbs_link *link);
/* NULL: it is gone. */
struct verbs_link *far_verbs_link_find(const struct verbs_transport *tp, uint64_t id);
void far_verbs_link_wake(struct verbs_link *link);
void far_verbs_link_emit(struct verbs_link *link, const struct far_event *event);
/* The link is dead from here on; what is told about it is told by poll. */
void far_verbs_link_fail(struct verbs_link *link, int rc);
void far_verbs_disconnect(struct far_link *link);
static inline bool
far_verbs_link_is_dead(const struct verbs_link *link)
{
	return link->rc != 0 || link->closing;
}
/* How an op ends that had no part in the end of its link. */
static inline int
far_verbs_link_flush_rc(const struct verbs_link *link)
{
	if (link->rc == -EACCES) /* that is said of one op alone */
		return -ECONNRESET;
	return link->rc != 0 ? link->rc : -ECANCELED;
}
/* Before the device is given something that it will tell of. */
void far_verbs_link_busy(struct verbs_link *link);
/* Gives the link a turn. Returns whether it wants another; it may be gone when it does not. */
bool far_verbs_link_work(struct verbs_link *link);
/* FAR_EV_CONNECTED, where it is due. Returns how many. */
int far_verbs_link_connected(struct verbs_link *link);
/* Looks at deadlines. */
void far_verbs_link_check(struct verbs_link *link, uint64_t now_ns);
uint64_t far_verbs_link_due_ns(const struct verbs_link *link);

/* ---- qp.c ---- */
/* The smallest exponent that stands for @ns at least: 4.096 us times two to its power. 1 to 31. */
uint8_t far_verbs_timeout_exponent(uint64_t ns);
/* Queue pair, receive buffers, all posted: INIT. Returns 0 or a listed error. */
int far_verbs_qp_open(struct verbs_link *link);
/* INIT to RTS, with what RDMA CM knows of the peer. Returns 0, -ECONNRESET. */
int far_verbs_qp_start(struct verbs_link *link);
/* The peer may do what @access says, in addition. Returns 0, -ENOTCONN. */
int far_verbs_qp_allow(struct verbs_link *link, uint32_t access);
/* The device has not taken a chain that was accounted for, from @bad on: the link is lost. Returns
 * how many work requests it does not have. */
uint32_t far_verbs_chain_refused(struct verbs_link *link, const struct ibv_send_wr *wrs,
				 uint32_t count, const struct ibv_send_wr *bad);
/* Nothing more lands and nothing more leaves: the device gives back what it has, and says so behind
 * the last of it, as it tells of no success unasked. */
void far_verbs_qp_stop(struct verbs_link *link);
/* The device has nothing of the link any more, or is killed. */
void far_verbs_qp_close(struct verbs_link *link);
/* What it has of the device's is given back. Returns whether the device let go of what was posted. */
bool far_verbs_qp_release(struct verbs_link *link);

/* ---- cm.c: addresses, and who asks for whom ---- */
struct verbs_listener {
	struct verbs_watch watch;
	struct verbs_transport *tp;
	struct far_list node;
	far_accept_fn *accept;
	void *arg;
	struct rdma_cm_id *cm_id;
};

int far_verbs_listen(struct far_transport *tp, const char *address, far_accept_fn *accept,
		     void *arg, struct far_listener **out);
void far_verbs_unlisten(struct far_listener *listener);
int far_verbs_connect(struct far_transport *tp, const char *address, const void *hello,
		      size_t hello_bytes, uint64_t deadline_ns, struct far_link_handler *handler,
		      struct far_link **out);
/* Whether a name is known now; then goes on. */
void far_verbs_resolve_check(struct verbs_link *link);
/* Takes what RDMA CM says. Returns how many events. */
int far_verbs_cm_take(struct verbs_transport *tp);
/* The peer can hear us. */
void far_verbs_established(struct verbs_link *link);
/* errno of a call of theirs that failed, as a listed error. */
int far_verbs_call_rc(int error);

/* ---- msg.c ---- */
int far_verbs_send(struct far_link *link, const void *msg, size_t size_bytes);
bool far_verbs_send_ready(const struct verbs_link *link);
/* Sends what waits. Returns how many frames. */
int far_verbs_flush(struct verbs_link *link);
/* A frame that says nothing, and whose arrival is told. @final: nothing follows it, so that it may have
 * the peer's last buffer. Returns whether there was room. */
bool far_verbs_mark_send(struct verbs_link *link, bool final);
/* A frame has arrived in a buffer. Returns 0, or why the link ends. */
int far_verbs_receive(struct verbs_link *link, uint32_t buffer, uint32_t size_bytes);
/* Posts what was taken out of receive buffers. Returns 0, -ECONNRESET. */
int far_verbs_reposts(struct verbs_link *link);
/* A frame of ours is with the peer, or never will be. */
void far_verbs_frame_retire(struct verbs_link *link, const struct verbs_wr *wr);

/* ---- poll.c ---- */
int far_verbs_poll(struct far_transport *tp, int budget);
int far_verbs_arm(struct far_transport *tp);
/* Makes a descriptor wake the transport. Returns 0, -ENOMEM. */
int far_verbs_watch_add(struct verbs_transport *tp, int fd, struct verbs_watch *watch);
void far_verbs_watch_remove(struct verbs_transport *tp, int fd);

/* ---- verbs.c ---- */
bool far_verbs_is_child(const struct verbs_transport *tp);

#endif
