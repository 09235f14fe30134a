/* shm_priv.h - the structures of the shm transport, and what its files owe each other. */
#ifndef FAR_TRANSPORT_SHM_SHM_PRIV_H
#define FAR_TRANSPORT_SHM_SHM_PRIV_H

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/bitmap.h"
#include "base/list.h"
#include "base/pages.h"
#include "transport/mapped.h"
#include "transport/shm/frame.h"
#include "transport/shm/shm.h"

#define SHM_CREDITS_DEFAULT 32U
#define SHM_CREDITS_MAX     4096U
/* A poll copies about this much at the most, times far_shm_copiers(); what is left waits for the next one. */
#define SHM_POLL_COPY_BYTES (1LL << 20)
#define SHM_SLICE_BYTES     (256LL << 10)
#define SHM_POLL_TURNS_MAX  64
/* Pulled, and the peer not told yet, while more of the same frame is to come: each word wakes it. */
#define SHM_UNTOLD_BYTES_MAX (4ULL << 20)
#define SHM_FRAMES_PER_TURN  32
/* Some 60 us of a checksum, which is what the writer waits for an answer. */
#define SHM_SUMS_FROM_BYTES  (512U << 10)
#define SHM_READ_OPS_MAX     4096U /* powers of two */
#define SHM_WRITE_OPS_MAX    2048U
#define SHM_PIECES_QUEUED    ((size_t)FAR_POST_OPS_MAX * FAR_PIECES_MAX)
#define SHM_RING_BYTES       (1U << 20)
#define SHM_REGIONS_MAX      16384U /* that one peer may announce */
#define SHM_HANDSHAKES_MAX   128U   /* links of one listener that have not said hello yet */
#define SHM_HELLO_TIMEOUT_NS (10 * FAR_NS_PER_S)
#define SHM_RETRY_NS         (2 * FAR_NS_PER_MS)
#define SHM_BACKLOG          128
#define SHM_FDS_MAX          4 /* taken from one packet; more than one is a broken peer */

/* ---- a table from 64-bit numbers to pointers ---- */
struct shm_table {
	struct shm_table_entry *entries; /* owned; NULL: empty */
	size_t mask;
	size_t count;
};

struct shm_table_entry {
	uint64_t id; /* 0: free */
	void *item;
};

/* May allocate. Returns 0, -ENOMEM. The id is new and not zero. */
int far_shm_table_put(struct shm_table *table, uint64_t id, void *item);
void *far_shm_table_find(const struct shm_table *table, uint64_t id); /* NULL: none */
void *far_shm_table_take(struct shm_table *table, uint64_t id);       /* removes; NULL: none */
void far_shm_table_fini(struct shm_table *table);

/* ---- what epoll points at ---- */
enum shm_watch_kind { SHM_WATCH_LINK, SHM_WATCH_LISTENER, SHM_WATCH_TIMER };

struct shm_watch {
	enum shm_watch_kind kind;
};

/* ---- the bytes of large READs ---- */
typedef void far_shm_copy_fn(void *to, const void *from, size_t size_bytes);

struct shm_copy {
	uint8_t *to;
	const uint8_t *from;
	size_t size_bytes;
};

/* Those of one slice, not copied yet; a share is what one thread takes at once. */
struct shm_copies {
	struct far_helpers *helpers; /* borrowed; NULL: each is copied when it is added */
	far_shm_copy_fn *copy;       /* far_copy_once(), but in tests */
	struct shm_copy *items;      /* owned */
	uint32_t *shares;            /* owned: the first item of each, and the end */
	uint32_t count;
	uint32_t share_count;
	size_t share_bytes; /* of the last one */
	size_t bytes;
};

struct shm_transport {
	struct far_transport tp;
	struct far_clock *clock; /* borrowed */
	uint64_t nonce;
	uint64_t id_last; /* of regions and links; they never repeat */
	uint32_t credits;
	uint64_t bytes_max;      /* queued per transport; 0: no limit */
	uint64_t peer_bytes_max; /* queued per link; 0: no limit */
	uint64_t queued_bytes[2];
	uint32_t *alive; /* a word that is 0 in a child of fork(); NULL: compare the pid */
	pid_t pid;
	int timer_fd;
	struct shm_watch timer;
	struct far_list links;     /* shm_link.all_node */
	struct far_list work;      /* shm_link.work_node: those with something to do */
	struct far_list waiting;   /* shm_link.wait_node: those with a deadline or a retry */
	struct far_list listeners; /* shm_listener.node */
	struct shm_table mems;     /* region id -> struct shm_mem */
	struct shm_mem **slots;    /* owned; a bit in each link's maps belongs to each */
	size_t slot_count;
	size_t slot_hint; /* where the search for a free one begins */
	uint8_t *rx;      /* one packet and a byte */
	struct shm_copies copies;
	/* Of the poll that runs. */
	int budget;
	int work_done;
	int64_t copy_left;
	uint32_t polls_blind; /* since the kernel was asked for events */
};

struct shm_listener {
	struct shm_watch watch;
	struct shm_transport *tp;
	struct far_list node;
	far_accept_fn *accept;
	void *arg;
	int fd;
	int spare_fd; /* given up for a moment to shed a link when descriptors run out */
	uint32_t handshakes;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1]; /* "": abstract */
	dev_t dev;
	ino_t ino;
};

/* ---- memory ---- */
struct shm_mem {
	struct far_mem mem;
	uint64_t region;
	uint64_t only_id; /* of a link; 0: all that it was exposed to */
	uint64_t fd_offset;
	int fd; /* owned; -1: no peer ever maps it */
	size_t slot;
	uint32_t ops; /* outstanding ones of ours that name it */
};

/* One file of a peer's, mapped once, whatever number of regions lie in it. */
struct shm_mapping {
	struct far_list node;
	dev_t dev;
	ino_t ino;
	struct far_pages pages;
	bool is_file; /* a backing file, mapped here; else by far_pages_map_peer() */
	uint32_t regions;
	struct far_mapped mapped; /* for far_transport_map() */
	_Atomic uint32_t holds;   /* the link's, while it has regions in it, and those of others */
};

/* A region that the peer announced. */
struct shm_region {
	struct far_list node; /* in shm_link.faulting until every page is in our page table */
	uint64_t region;
	uint64_t size_bytes;
	uint32_t rights;
	const uint8_t *base; /* NULL: nothing that we could read */
	struct shm_mapping *mapping;
	size_t faulted_bytes;
};

/* ---- one-sided lists ---- */
struct shm_op {
	struct far_rkey rkey;
	uint64_t addr;
	uint64_t token;
	uint64_t bytes;
	union {
		uint64_t seq; /* WRITE: as it was sent; 0: it was not */
		uint64_t
			drain_mark; /* READ of an unknown key: waits until the socket was seen empty */
	};
	uint32_t *crc32c;     /* as in struct far_op */
	uint16_t piece_first; /* in the ring of pieces */
	int16_t status;       /* 0 or negative errno, once it is done */
	uint8_t piece_count;
	uint8_t kind;
	uint8_t flags;
	bool done;
};

_Static_assert(sizeof(struct shm_op) == 64, "a line each");
_Static_assert(SHM_PIECES_QUEUED <= UINT16_MAX + 1, "numbered by piece_first");

/*
 * A bounded queue of lists. Lists of READs alone have a queue of their own: they must go on when
 * the peer is stopped and its WRITEs stand still.
 */
struct shm_queue {
	struct shm_op *ops; /* owned */
	uint32_t op_count;  /* a power of two */
	struct far_piece *pieces;
	uint32_t head;   /* the oldest op that is not covered by a delivered token */
	uint32_t scan;   /* head..scan: done, waiting for their token */
	uint32_t ack;    /* scan..ack: WRITEs that the peer has answered for */
	uint32_t cursor; /* the next to run; before it: done, or sent to the peer */
	uint32_t tail;
	uint32_t piece_head;
	uint32_t piece_tail;
	int32_t first_failure; /* among head..scan */
	/* The op at the cursor. */
	uint32_t piece_idx;
	uint32_t piece_offset;
	uint64_t op_offset;
	uint32_t sum;   /* READ: of the bytes before that, if it is asked for */
	uint64_t bytes; /* of all ops in it */
	uint8_t idx;    /* 0: reads, 1: writes */
	/* The list that was answered -EAGAIN last. */
	struct {
		bool set;
		uint32_t ops;
		uint32_t pieces;
		uint64_t bytes;
	} refused;
};

_Static_assert((SHM_PIECES_QUEUED & (SHM_PIECES_QUEUED - 1)) == 0, "a power of two");

static inline struct shm_op *
far_shm_op_at(const struct shm_queue *queue, uint32_t idx)
{
	return &queue->ops[idx & (queue->op_count - 1)];
}

static inline struct far_piece *
far_shm_piece_at(const struct shm_queue *queue, uint32_t idx)
{
	return &queue->pieces[idx & (SHM_PIECES_QUEUED - 1)];
}

/* The op at the cursor is done. */
static inline void
far_shm_op_end(struct shm_queue *queue, struct shm_op *op, int status)
{
	op->done = true;
	op->status = (int16_t)status;
	queue->cursor++;
	queue->piece_idx = 0;
	queue->piece_offset = 0;
	queue->op_offset = 0;
	queue->sum = 0;
}

/* ---- links ---- */
enum shm_link_state {
	SHM_CONNECTING, /* the listener's queue is full: connect(2) again */
	SHM_HELLO_SENT,
	SHM_HELLO_WAIT, /* accepted by the kernel; nobody above knows of it */
	SHM_UP,
};

/* The page of its own that each side of a link shares with the other. */
struct shm_control {
	_Atomic uint32_t revoked; /* 1: no WRITE of this side is to be believed from here on */
};

struct shm_link {
	struct shm_watch watch;
	struct far_link link;
	struct far_list all_node;
	struct far_list work_node;
	struct far_list wait_node;
	uint64_t id;
	enum shm_link_state state;
	int fd;
	uint32_t epoll_events;
	int rc;       /* why it is dead; 0: it is not */
	bool told;    /* FAR_EV_LOST was given */
	bool closing; /* disconnect was called */
	bool connector;
	struct shm_listener *listener; /* borrowed, until the hello */
	uint64_t deadline_ns;
	struct sockaddr_un addr;
	socklen_t addr_bytes;
	uint8_t hello[FAR_HELLO_BYTES_MAX];
	uint32_t hello_bytes;

	struct far_pages control;      /* ours; struct shm_control at its start */
	struct far_pages peer_control; /* the peer's, read-only */
	uint64_t peer_nonce;

	/* Sending. */
	bool held;            /* the acceptor is being asked: nothing is sent yet */
	bool welcome_pending; /* goes before anything else */
	bool tx_blocked;      /* the socket is full: EPOLLOUT wakes us */
	bool tx_retry;        /* too many descriptors on their way: the timer wakes us */
	bool send_refused;    /* a send was answered -EAGAIN */
	uint32_t credits;     /* messages that we may send */
	uint32_t credits_max; /* what the peer gave at first */
	uint32_t owed;        /* credits that we have not given back yet */
	uint32_t rx_credits;  /* messages that the peer may send */
	uint8_t *ring;        /* owned: frames that the socket did not take, in order */
	uint32_t ring_head;
	uint32_t ring_tail;
	uint32_t ring_used;

	/* Receiving. */
	bool rx_ready;
	uint64_t drained; /* how often the socket was seen empty */

	/* WRITEs of ours: the last sequence number given, and how many failed here and now. */
	uint64_t write_seq;
	uint32_t write_failures;
	struct shm_queue reads;
	struct shm_queue writes;

	/* WRITEs of the peer: one frame of them at a time; what is behind it stays in the socket. */
	struct {
		uint8_t *frame; /* owned: SHM_WRITE_PIECES_MAX pieces */
		uint32_t count;
		uint32_t idx;
		uint32_t offset;
		uint64_t seq; /* done, all up to it */
		uint64_t seq_told;
		uint64_t bytes_untold;
		bool told_waits; /* a WRITE_DONE is in the ring: none overtakes it */
		uint32_t sum;    /* of the op that is being pulled */
		uint32_t sum_count;
		uint32_t sums[SHM_WRITE_PIECES_MAX]; /* of those that are done and not told */
	} pull;

	/* The peer's memory. */
	struct shm_table regions;
	struct far_list mappings;
	struct far_list faulting;

	/* Ours, a bit for each of tp->slots: the peer has been told, shall be told, may use it. */
	uint64_t *map_words; /* owned: three maps */
	struct far_bitmap announced;
	struct far_bitmap pending;
	struct far_bitmap exposed;
	uint32_t pending_count;
};

#define SHM_LINK(l) FAR_CONTAINER_OF((l), struct shm_link, link)
#define SHM_TP(t)   FAR_CONTAINER_OF((t), struct shm_transport, tp)

/* ---- shm.c ---- */
/* True in a child of fork(): nothing of the parent's may be touched. */
bool far_shm_is_child(const struct shm_transport *tp);
/* The link has something to do: the next poll gives it a turn. */
void far_shm_link_wake(struct shm_link *link);

/* ---- socket.c: the kernel's side of it ---- */
/* "@name" is abstract. Returns 0, -EINVAL. */
int far_shm_address_parse(const char *address, struct sockaddr_un *out, socklen_t *bytes_out);
/* Returns a listening descriptor, or a negative errno; sets the listener's path, dev and ino. */
int far_shm_socket_listen(struct shm_listener *listener, const char *address);
void far_shm_socket_unlisten(struct shm_listener *listener);
/* Returns a descriptor, -EAGAIN (the listener's queue is full), -EPROTO (it is not of our kind), or
 * a listed error. */
int far_shm_socket_connect(const struct sockaddr_un *addr, socklen_t addr_bytes);
/* One frame, whole. @fd: passed along, borrowed; -1: none. Returns 0, -EAGAIN, -ENOMEM (try
 * again later), or another negative errno: the socket is dead. */
int far_shm_socket_send(int fd, const struct shm_frame_header *header, const void *body,
			size_t body_bytes, int pass_fd);
/* One packet. Returns its size, 0 at the end, -EAGAIN, -EPROTO (too long, too many descriptors),
 * -EMFILE (its descriptor found no place), or another negative errno. *fd_out: owned; -1: none. */
ssize_t far_shm_socket_receive(int fd, void *packet, size_t size_bytes, int *fd_out);
pid_t far_shm_socket_peer_pid(int fd); /* 0: not known here */

/* ---- memory.c ---- */
int far_shm_mem_reg(struct far_transport *tp, const struct far_mem_source *source, uint32_t rights,
		    struct far_link *only, struct far_mem **out);
void far_shm_mem_dereg(struct far_mem *mem);
int far_shm_mem_expose(struct far_mem *mem, struct far_link *link);
void far_shm_forget(struct far_link *link, const struct far_rkey *rkey);
int far_shm_map(struct far_link *link, const struct far_rkey *rkey, struct far_mapped **out,
		uint64_t *offset_out, uint64_t *size_out);
/* Makes the maps of a new link, one bit for each slot there is. Returns 0, -ENOMEM. */
int far_shm_maps_init(struct shm_link *link);
/* The peer shall learn of it before anything else is sent. Does not allocate. */
void far_shm_mem_announce(struct shm_link *link, struct shm_mem *mem);
/* Takes in what the peer announced; @fd is taken. Returns 0, or why the link has to go. */
int far_shm_region_add(struct shm_link *link, const struct shm_frame_mem *frame, int fd);
void far_shm_region_remove(struct shm_link *link, uint64_t region);
struct shm_region *far_shm_region_find(struct shm_link *link, uint64_t region);
/* Brings a slice of a new region into our page table. Returns whether there was one. */
bool far_shm_regions_fault(struct shm_link *link);
void far_shm_regions_fini(struct shm_link *link);
/* A page of the peer's. @fd is taken. Returns 0, or a negative errno. */
int far_shm_control_map(int fd, struct far_pages *out);
struct far_rkey far_shm_rkey_make(uint64_t nonce, uint64_t region);
void far_shm_rkey_split(const struct far_rkey *rkey, uint64_t *nonce_out, uint64_t *region_out);

/* ---- queue.c, reads.c: our one-sided lists ---- */
int far_shm_queue_init(struct shm_queue *queue, uint8_t idx, uint32_t op_count);
void far_shm_queue_fini(struct shm_queue *queue);
int far_shm_post(struct far_link *link, const struct far_op *ops, int count);
/* Copies, up to a slice. Returns how many ops or slices ran. */
int far_shm_queue_run(struct shm_link *link, struct shm_queue *queue);
/* Sends the WRITEs at the cursor as far as there is room. */
void far_shm_writes_send(struct shm_link *link);
/* The peer answered, @sums behind it, of any alignment. Returns 0, -EPROTO. */
int far_shm_writes_ack(struct shm_link *link, const struct shm_frame_write_done *done,
		       const uint8_t *sums);
/* Gives out completions while the poll's budget lasts. Returns how many. */
int far_shm_queue_complete(struct shm_link *link, struct shm_queue *queue);
/* Ends all that is not done with @rc. */
void far_shm_queue_abort(struct shm_queue *queue, int rc);
bool far_shm_queue_empty(const struct shm_queue *queue);
/* Whether the list that was refused would be taken now. */
bool far_shm_queue_ready(const struct shm_link *link, const struct shm_queue *queue);
/* Whether an outstanding op names that key. */
bool far_shm_queue_names(const struct shm_queue *queue, const struct far_rkey *rkey);

/* ---- copies.c: the bytes of large READs ---- */
/* Returns 0, -ENOMEM: then it is to be ended all the same. */
int far_shm_copies_init(struct shm_copies *copies, struct far_helpers *helpers);
void far_shm_copies_fini(struct shm_copies *copies);
/* How many threads copy, as far as that makes it so many times as fast: 4 at the most. */
int64_t far_shm_copiers(const struct shm_copies *copies);
/* Copied when far_shm_copies_run() has returned, at the latest. */
void far_shm_copy(struct shm_copies *copies, uint8_t *to, const uint8_t *from, size_t size_bytes);
/* What was streamed here is visible to others after a far_mem_publish(). */
void far_shm_copies_run(struct shm_copies *copies);

/* ---- pull.c: the peer's WRITEs ---- */
/* Copies, up to a slice. Returns how many pieces of work were done; may end the link. */
int far_shm_pull_run(struct shm_link *link);
/* Whether the peer is to hear how far it has come: the frame is done, or much of it. */
bool far_shm_pull_is_to_tell(const struct shm_link *link);
/* The body of a WRITE_DONE up to @seq in @out, with all sums that wait. Returns its bytes. */
size_t far_shm_pull_tell(const struct shm_link *link, uint64_t seq, int status,
			 struct shm_frame_told *out);
/* It is on its way: nothing of it waits any more. */
void far_shm_pull_told(struct shm_link *link);
static inline bool
far_shm_pull_active(const struct shm_link *link)
{
	return link->pull.idx < link->pull.count;
}
/* Whether the peer has taken back what its WRITEs name. */
bool far_shm_peer_revoked(const struct shm_link *link);

/* ---- link.c ---- */
int far_shm_link_open(struct shm_transport *tp, struct shm_link **out);
void far_shm_link_free(struct shm_link *link);
/* Our half of a link that is about to be up: queues, ring, control page. Returns 0, -ENOMEM,
 * -EMFILE. */
int far_shm_link_prepare(struct shm_link *link);
/* Gives the link a turn. Returns whether it wants another; it may be gone when it does not. */
bool far_shm_link_work(struct shm_link *link);
/* The link is dead from here on; what is told about it is told by poll. */
void far_shm_link_fail(struct shm_link *link, int rc);
void far_shm_link_disconnect(struct far_link *link);
void far_shm_link_emit(struct shm_link *link, const struct far_event *event);
/* Sends the hello through a connected socket, which is taken. Returns 0 or a negative errno. */
int far_shm_link_hello(struct shm_link *link, int fd);
/* Makes epoll watch the link's socket for what it waits for. Returns 0 or a negative errno. */
int far_shm_link_watch(struct shm_link *link, int fd);
/* The link needs a look in a moment, without an event. */
void far_shm_link_retry(struct shm_link *link);
/* Looks at deadlines and retries of a link that waits. */
void far_shm_link_wait_check(struct shm_link *link, uint64_t now_ns);

/* ---- send.c ---- */
int far_shm_send(struct far_link *link, const void *msg, size_t size_bytes);
/* Puts a frame behind those before it. Returns 0, -EAGAIN (no room), -ENOTCONN. */
int far_shm_frame_push(struct shm_link *link, enum shm_frame_kind kind, const void *body,
		       size_t body_bytes);
/* Whether the ring takes a frame with a body of that size. */
bool far_shm_ring_has_room(const struct shm_link *link, size_t body_bytes);
/* Sends what waits. Returns how many frames went. */
int far_shm_flush(struct shm_link *link);
/* A WRITE_DONE into the ring, where the socket takes none. Returns 0, -EAGAIN (no room). */
int far_shm_write_done_queue(struct shm_link *link);
/* Whether a send that was refused would be taken now. */
bool far_shm_send_ready(const struct shm_link *link);

#endif
