/* ucx_priv.h - the structures of the ucx transport, and what its files owe each other. */
#ifndef FAR_TRANSPORT_UCX_UCX_PRIV_H
#define FAR_TRANSPORT_UCX_UCX_PRIV_H

#include "transport/ucx/ucx.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/bitmap.h"
#include "base/list.h"
#include "transport/host.h"
#include "transport/spin.h"
#include "transport/ucx/frame.h"
#include "transport/ucx/lib.h"

#define UCX_CREDITS_DEFAULT 32U
#define UCX_OPS_MAX         4096U /* posted and not told, per link; an id has 12 bits for it */
#define UCX_PIECES_QUEUED   ((size_t)FAR_POST_OPS_MAX * FAR_PIECES_MAX)
#define UCX_SERVE_MAX       1024U /* READs of one peer that wait here, and lists of them */
#define UCX_STREAM_MAX      (UCX_OPS_MAX + UCX_CREDITS_MAX)
#define UCX_RING_BYTES      (1024U * 1024U) /* messages that wait to be sent */
#define UCX_WINDOW_BYTES    (1024U * 1024U) /* 10 GB/s at 100 us there and back */
#define UCX_TX_MAX          6U      /* frames of one connection that UCX has and has not sent */
#define UCX_BULK_BYTES      126976U /* of a block in one frame: whole pages, room for headers */
#define UCX_READS_PER_FRAME 256U
#define UCX_REGIONS_MAX     16384U /* a power of two */
#define UCX_CONNS_WAITING   128U   /* made, and without a hello yet; more wait to be made */
#define UCX_REQUESTS_MAX    4096U  /* of a listener; there are no more descriptors */
#define UCX_CONN_BUCKETS    256U
#define UCX_TURN_FRAMES     4
#define UCX_NONE            UINT32_MAX
#define UCX_DEVICES_BYTES   256U                 /* names of interfaces */
#define UCX_GETS_MAX        256U                 /* that UCX has, per link */
#define UCX_GET_BYTES_MAX   (2U * 1024U * 1024U) /* of theirs */
#define UCX_GET_SLICE_BYTES (256U * 1024U)       /* a small READ waits for no more of a big one */

#define UCX_HELLO_TIMEOUT_NS (10 * FAR_NS_PER_S)
/* A link that waits for its peer and hears nothing at all for so long is dead. */
#define UCX_SILENCE_NS      (5 * FAR_NS_PER_S)
#define UCX_SILENCE_MORE_NS (500 * FAR_NS_PER_MS)
/* How long a connection whose link has ended may still deliver what it sent last. */
#define UCX_LINGER_NS (500 * FAR_NS_PER_MS)
#define UCX_REAP_NS   (2 * FAR_NS_PER_S)

struct ucx_link;
struct ucx_conn;
struct ucx_peer_key;
struct ucx_get;

/* A child of fork() must not touch anything of the parent's. */
struct ucx_transport {
	struct far_transport tp;
	struct far_clock *clock; /* borrowed */
	ucp_context_h context;
	ucp_worker_h worker;
	int worker_fd; /* UCX's; borrowed */
	int timer_fd;
	bool fabric;                     /* trust: fabric: RDMA alone, and READs are GETs */
	char devices[UCX_DEVICES_BYTES]; /* interfaces for TCP; "": all */
	bool posts_no_reads;
	bool handles;      /* a GET takes the handle of the memory that it fills */
	uint64_t timer_ns; /* when it fires, on the machine's clock; FAR_TIME_NEVER: not set */
	uint64_t nonce;
	uint64_t id_last; /* of links and regions; they never repeat */
	uint32_t credits;
	uint64_t bytes_max;      /* queued per transport; 0: no limit */
	uint64_t peer_bytes_max; /* queued per link; 0: no limit */
	uint64_t queued_bytes;
	uint32_t *alive; /* a word that is 0 in a child of fork(); NULL: compare the pid */
	pid_t pid;
	struct far_list links;     /* ucx_link.all_node */
	struct far_list conns;     /* ucx_conn.all_node */
	struct far_list listeners; /* ucx_listener.node */
	struct far_list work;      /* ucx_link.work_node: those with something to do */
	struct far_list conn_work; /* ucx_conn.work_node: the same, of those without a link */
	struct far_list resolving; /* names that nobody waits for any more */
	struct far_list buckets[UCX_CONN_BUCKETS]; /* ucx_conn.bucket_node, by endpoint */
	struct ucx_mem **slots;                    /* owned: UCX_REGIONS_MAX */
	uint32_t slot_hint;
	uint32_t inbox_count; /* messages of all links that were not delivered yet */
	bool urgent;          /* what arrived can be answered, or told: before UCX is asked again */
	uint64_t check_ns;    /* deadlines are looked at again then */
	struct far_spin spin;
	/* Of the poll that runs. */
	int budget;
	int work_done;
};

/* ---- config.c: UCX's settings, its version, its log and its codes ---- */
/* Opens context and worker. Returns 0, -ENODEV (with the reason in the log), -ENOMEM. */
int far_ucx_open_worker(struct ucx_transport *tp);
void far_ucx_close_worker(struct ucx_transport *tp);
/* A context that can GET, beside that of a transport that cannot. Returns as above. */
int far_ucx_open_asker(struct ucx_transport *tp, ucp_context_h *out);
void far_ucx_close_asker(ucp_context_h asker);
/* Between the two, what UCX says goes to our log; they nest. */
/* What UCX says in calls of ours goes to our log from here on. */
void far_ucx_log_take(void);
void far_ucx_enter(void);
void far_ucx_leave(void);
/* A failed endpoint: -ECONNREFUSED where the peer never answered, else -ECONNRESET. */
int far_ucx_link_rc(ucs_status_t status, bool connecting);
/* A failed call: -ENOMEM, -EINVAL, -EADDRINUSE, ... */
int far_ucx_call_rc(ucs_status_t status);

/* ---- device.c ---- */
/* The interfaces that TCP needs for what @config says, "eth0,lo"; "": all that there are, since a
 * name has to be looked up, or an address stands for all. Returns 0, or -ENODEV: one is down (the
 * log says so). */
int far_ucx_devices_find(const struct far_transport_config *config, char *out, size_t out_bytes);

/* ---- memory.c ---- */
struct ucx_mem {
	struct far_mem mem;
	uint64_t region;
	uint64_t only_id; /* of a link; 0: all that it was exposed to */
	uint32_t slot;
	uint32_t ops;     /* outstanding ones of ours that name it */
	ucp_mem_h handle; /* UCX's registration; NULL: it has none */
	void *key;        /* UCX's, packed, for peers; NULL: it cannot be read */
	size_t key_bytes;
};

/* A key is {random number of the transport, region}; a region's low bits are its slot. */
static inline void
far_ucx_rkey_split(const struct far_rkey *rkey, uint64_t *nonce_out, uint64_t *region_out)
{
	memcpy(nonce_out, rkey->bytes, sizeof(*nonce_out));
	memcpy(region_out, rkey->bytes + sizeof(*nonce_out), sizeof(*region_out));
}

int far_ucx_mem_reg(struct far_transport *tp, const struct far_mem_source *source, uint32_t rights,
		    struct far_link *only, struct far_mem **out);
void far_ucx_mem_dereg(struct far_mem *mem);
int far_ucx_mem_expose(struct far_mem *mem, struct far_link *link);
void far_ucx_forget(struct far_link *link, const struct far_rkey *rkey);
/* Where the peer of @link may do what @right says. Returns 0, -ESTALE, -EACCES. */
int far_ucx_mem_find(const struct ucx_link *link, const struct far_rkey *rkey, uint64_t addr,
		     uint64_t size_bytes, uint32_t right, uint8_t **out);

/* ---- keys.c: with trust: fabric, UCX's keys: of what we, and what the peer, exposed ---- */
/* Registers with UCX what it has to know of @mem. Returns 0, -ENOMEM, -EINVAL. */
int far_ucx_key_make(struct ucx_mem *mem);
/* Nothing of @mem is UCX's any more: what a peer still asks for through its key costs the link. */
void far_ucx_key_drop(struct ucx_mem *mem);
/* Tells the peer, before anything that is sent from now on. */
void far_ucx_key_expose(struct ucx_link *link, const struct ucx_mem *mem);
/* Sends one frame of keys. Returns whether there was one. */
bool far_ucx_keys_send(struct ucx_link *link);
/* The peer's. Returns 0, or why the link ends. */
int far_ucx_keys_take(struct ucx_link *link, const struct ucx_frame *frame);
/* A key of the peer that allows a READ of that range. Returns 0, -ESTALE, -EACCES. */
int far_ucx_key_find(const struct ucx_link *link, const struct far_rkey *rkey, uint64_t addr,
		     uint64_t size_bytes, struct ucx_peer_key **out);
void far_ucx_key_forget(struct ucx_link *link, const struct far_rkey *rkey);
void far_ucx_keys_fini(struct ucx_link *link);
struct ucx_peer_key {
	uint64_t region;
	uint64_t base;
	uint64_t size_bytes;
	ucp_rkey_h rkey; /* NULL: it cannot be read */
	uint32_t rights;
	uint32_t gets;  /* that UCX has */
	bool forgotten; /* goes with the last of them */
};
void far_ucx_peer_key_release(struct ucx_peer_key *key);

/* ---- get.c: with trust: fabric, READs ---- */
int far_ucx_gets_init(struct ucx_link *link);
void far_ucx_gets_fini(struct ucx_link *link);
/* Hands slices of READs to UCX, of each list in turn. Returns whether there were any. */
bool far_ucx_gets_start(struct ucx_link *link);

/* ---- proof.c: with trust: fabric, that a GET asks nothing of its target's process ---- */
/**
 * Proves it at an address of this host that shall be listened at, once per process; the log says
 * what came out. A step may take 10 s.
 *
 * Returns: 0; -ENODEV: it cannot be proved (the log says why and what to do), and is not tried
 *          again for a while; -EINVAL: an address that stands for all; -ENOMEM, -EMFILE: not tried.
 */
int far_ucx_prove(struct ucx_transport *tp, const struct sockaddr_storage *local);
/* The same for the address that this host would reach @peer from; a step may take 2 s. */
int far_ucx_prove_towards(struct ucx_transport *tp, const struct sockaddr_storage *peer,
			  socklen_t peer_bytes);
/* What both do, with any contexts: a test shows it one that emulates. @why: of a failure, "" else.
 * -ENODEV is the address's fault, all else is ours. */
int far_ucx_prove_with(ucp_context_h asker, ucp_context_h target,
		       const struct sockaddr_storage *local, uint64_t timeout_ns, char *why,
		       size_t why_bytes);

/* ---- conn.c: one UCX endpoint, with the buffers that UCX may still read ---- */
enum ucx_conn_state {
	UCX_CONN_OPEN,    /* ours to send on; the hello may still be on its way */
	UCX_CONN_DYING,   /* nothing is taken in; what was sent may still arrive */
	UCX_CONN_CLOSING, /* UCX was told to let go */
	UCX_CONN_CLOSED,
};

/* A frame being filled or sent. UCX reads it until its callback: nothing is sent from elsewhere. */
struct ucx_tx {
	struct ucx_conn *conn;
	struct ucx_tx *next;
	size_t size_bytes;
	uint8_t bytes[UCX_FRAME_BYTES_MAX];
};

struct ucx_conn {
	struct ucx_transport *tp;
	struct far_list all_node;
	struct far_list bucket_node;
	struct far_list work_node;
	ucp_ep_h ep; /* NULL: closed, or never made */
	enum ucx_conn_state state;
	struct ucx_link *link;         /* NULL: none yet, or no more */
	struct ucx_listener *listener; /* borrowed; until the hello */
	int rc;                        /* why it failed; 0: it has not */
	bool connector;
	bool greeted;       /* the peer's hello or welcome is here */
	bool hello_pending; /* @hello waits to be looked at outside progress */
	bool linger;        /* the peer shall see our last frame before it sees the end */
	uint64_t deadline_ns;
	uint32_t seq_out;
	uint32_t seq_in;
	uint64_t heard_ns;  /* when the last frame came */
	struct ucx_tx *txs; /* owned: UCX_TX_MAX */
	struct ucx_tx *tx_free;
	uint32_t tx_free_count;
	struct ucx_frame_hello hello;
	char peer[FAR_ADDRESS_BYTES_MAX];
};

/* @request: of @listener, taken even on failure; NULL: connect to @addr. Returns 0 or a listed
 * error. */
int far_ucx_conn_open(struct ucx_transport *tp, struct ucx_listener *listener,
		      ucp_conn_request_h request, const struct sockaddr *addr, socklen_t addr_bytes,
		      struct ucx_conn **out);
/* NULL: UCX has not sent enough of the others. */
struct ucx_tx *far_ucx_tx_get(struct ucx_conn *conn, enum ucx_frame_kind kind);
/* Adds bytes to a frame; returns where they lie. They fit: asserted. */
void *far_ucx_tx_add(struct ucx_tx *tx, const void *bytes, size_t size_bytes);
static inline size_t
far_ucx_tx_room(const struct ucx_tx *tx)
{
	return UCX_FRAME_BYTES_MAX - tx->size_bytes;
}
/* Hands the frame to UCX. @tx is taken. */
void far_ucx_tx_send(struct ucx_tx *tx, uint32_t credits, uint32_t acked);
void far_ucx_tx_drop(struct ucx_tx *tx);
/* The connection failed: whoever uses it is told by its next turn. */
void far_ucx_conn_fail(struct ucx_conn *conn, int rc);
/* Nobody above uses it from here on: it ends by itself, within a bound. */
void far_ucx_conn_detach(struct ucx_conn *conn);
void far_ucx_conn_wake(struct ucx_conn *conn);
/* A turn of one that has no link. Returns how much was done; it may be gone. */
int far_ucx_conn_work(struct ucx_conn *conn);
/* The next moment at which it needs a look without an event; FAR_TIME_NEVER: none. */
uint64_t far_ucx_conn_due_ns(const struct ucx_conn *conn);
void far_ucx_conn_free(struct ucx_conn *conn);
/* UCX's handler of every frame. */
ucs_status_t far_ucx_on_frame(void *arg, const void *header, size_t header_bytes, void *data,
			      size_t data_bytes, const ucp_am_recv_param_t *param);

/* ---- listener.c ---- */
struct ucx_listener {
	struct ucx_transport *tp;
	struct far_list node;
	far_accept_fn *accept;
	void *arg;
	ucp_listener_h listener;
	uint32_t handshakes; /* connections that have not said hello */
	uint32_t request_count;
	uint32_t request_first;
	ucp_conn_request_h requests[UCX_REQUESTS_MAX]; /* taken in by progress, made by poll */
};

int far_ucx_listen(struct far_transport *tp, const char *address, far_accept_fn *accept, void *arg,
		   struct far_listener **out);
void far_ucx_unlisten(struct far_listener *listener);
/* Makes the connections that progress was asked for, while few are in a handshake. Returns how many. */
int far_ucx_listener_work(struct ucx_listener *listener);
bool far_ucx_listener_can_work(const struct ucx_listener *listener);

/* ---- queue.c: our one-sided lists ---- */
struct ucx_op {
	struct far_rkey rkey;
	uint64_t addr;
	uint64_t bytes;
	uint64_t moved; /* placed here (READ), or handed over (WRITE) */
	uint64_t token;
	uint64_t seq; /* WRITE: as it was sent */
	uint32_t piece_first;
	uint32_t piece; /* where @moved stands */
	uint32_t piece_offset;
	uint32_t next; /* in its list, or among the free */
	uint32_t list;
	uint32_t reads_before;  /* READs that end before it starts: those before the last fence */
	uint32_t writes_before; /* fenced WRITEs that start before it does */
	uint32_t generation;    /* of the entry */
	int32_t status;
	uint8_t kind;
	uint8_t flags;
	bool sent;
	bool done;
	uint32_t gets; /* READ with trust: fabric: slices that UCX has */
};

struct ucx_piece {
	void *addr;
	struct ucx_mem *mem;
	uint32_t size_bytes;
	uint32_t next;
};

struct ucx_op_list {
	struct far_list all_node;
	struct far_list ask_node; /* has READs to ask for */
	struct far_list end_node; /* has completions to tell */
	uint32_t head;            /* the oldest op that is not covered by a token that was told */
	uint32_t scan;            /* the first that is not known to be done */
	uint32_t ask;             /* the next READ to ask for */
	uint32_t reads_done;
	uint32_t reads_left;     /* not done yet */
	uint32_t writes_started; /* of the fenced ones */
	uint32_t next;           /* among the free */
	int32_t first_failure;
	uint16_t slot; /* its number on the wire, while it has READs there */
	bool has_slot;
};

struct ucx_queue {
	struct ucx_op *ops;        /* owned: UCX_OPS_MAX */
	struct ucx_piece *pieces;  /* owned: UCX_PIECES_QUEUED */
	struct ucx_op_list *lists; /* owned: UCX_OPS_MAX */
	uint16_t *slots;           /* owned: the free numbers of lists */
	uint32_t slot_count;
	/* Entries given back, and those never given out: a page is touched only when it is
	 * needed. */
	uint32_t op_free, op_fresh, op_free_count;
	uint32_t piece_free, piece_fresh, piece_free_count;
	uint32_t list_free, list_fresh;
	uint64_t bytes;
	struct far_list all;
	struct far_list asking;
	struct far_list ending;
	uint32_t reads_out; /* asked for and not done */
	uint32_t *unacked;  /* owned: WRITEs that were sent, in their order; UCX_OPS_MAX */
	uint32_t unacked_head, unacked_tail;
	uint64_t write_seq;
	uint32_t write_failures; /* here and now, and not told yet */
	struct {
		bool set;
		uint32_t ops;
		uint32_t pieces;
		uint64_t bytes;
	} refused; /* the list that was answered -EAGAIN last */
};

int far_ucx_queue_init(struct ucx_queue *queue);
void far_ucx_queue_fini(struct ucx_queue *queue);
int far_ucx_post(struct far_link *link, const struct far_op *ops, int count);
void far_ucx_op_end(struct ucx_link *link, uint32_t op_idx, int status);
/* Ends all that is not done, and that UCX has nothing of, with @rc. */
void far_ucx_queue_abort(struct ucx_link *link, int rc);
/* Gives out completions while the poll's budget lasts. Returns how many. */
int far_ucx_queue_complete(struct ucx_link *link);
bool far_ucx_queue_empty(const struct ucx_queue *queue);
/* Whether the list that was refused would be taken now. */
bool far_ucx_queue_ready(const struct ucx_link *link);
bool far_ucx_queue_names(const struct ucx_queue *queue, const struct far_rkey *rkey);

/* ---- serve.c: READs of the peer ---- */
struct ucx_request {
	struct far_rkey rkey;
	uint64_t addr;
	uint64_t bytes;
	uint64_t offset; /* served up to here */
	uint32_t id;
	uint32_t next;
	bool fence;
};

struct ucx_serve_list {
	struct far_list node;
	uint32_t head, tail;
};

struct ucx_serve {
	struct ucx_request *requests; /* owned: UCX_SERVE_MAX */
	struct ucx_serve_list *lists; /* owned: UCX_SERVE_MAX */
	uint32_t free;
	struct far_list active;
};

int far_ucx_serve_init(struct ucx_serve *serve);
void far_ucx_serve_fini(struct ucx_serve *serve);
/* Returns 0, -EPROTO. */
int far_ucx_serve_take(struct ucx_link *link, const struct ucx_frame *frame);
/* Sends one frame of data. Returns whether there was one. */
bool far_ucx_serve_send(struct ucx_link *link);

/* ---- links ---- */
struct ucx_stream_item {
	uint32_t op;    /* a WRITE; UCX_NONE: a message */
	uint32_t start; /* of the message in the ring */
	uint32_t bytes;
};

struct ucx_link {
	struct far_link link;
	struct far_list all_node;
	struct far_list work_node;
	uint64_t id;
	struct ucx_conn *conn;       /* NULL: none yet, or no more */
	struct far_resolve *resolve; /* NULL: the address is known */
	int rc;                      /* why it is dead; 0: it is not */
	bool told;                   /* FAR_EV_LOST was given */
	bool closing;                /* disconnect was called */
	bool greeted;                /* by the peer: welcome, or hello */
	bool connected_pending;
	bool greet_pending; /* ours goes before anything else */
	bool send_refused;  /* FAR_EV_SENDABLE is owed */
	uint64_t deadline_ns;
	uint64_t expect_ns;  /* since when an answer is due; 0: none is */
	uint64_t suspect_ns; /* since when the peer is taken for dead; 0: it is not */
	uint32_t hello_bytes;
	uint8_t hello[FAR_HELLO_BYTES_MAX];

	/* What the peer said. */
	uint64_t peer_nonce;
	uint32_t peer_reads_max;
	uint32_t peer_window_bytes;

	/* Messages. */
	uint32_t credits;     /* messages that we may send */
	uint32_t credits_max; /* what the peer gave at first */
	uint32_t owed;        /* credits that we have not given back yet */
	uint32_t rx_credits;  /* messages that the peer may send */
	uint8_t *ring;        /* owned */
	uint32_t ring_head, ring_tail, ring_used;
	struct ucx_stream_item *stream; /* owned: messages and WRITEs in their order */
	uint32_t stream_head, stream_tail;
	uint32_t stream_offset; /* of the message at the head */
	uint32_t untold_count;  /* with trust: fabric, of the keys below */
	uint8_t *inbox;         /* owned: size and bytes of messages that were not delivered */
	uint32_t inbox_bytes_max;
	uint32_t inbox_head, inbox_tail, inbox_count;
	uint32_t
		inbox_wrap; /* where older records end, when newer ones lie at the start; 0: none */
	uint8_t *partial;   /* owned: a message of which parts are missing */
	uint32_t partial_bytes, partial_total;

	/* Bytes of DATA and WRITE, modulo 2^32. */
	uint32_t bulk_out, bulk_acked;
	uint32_t bulk_in, bulk_told;

	/* WRITEs of the peer. */
	uint64_t write_seq;
	uint64_t write_seq_told;
	uint64_t write_offset; /* of the WRITE behind write_seq: placed up to here */
	int write_refused;     /* the WRITE behind write_seq was; 0: none */
	uint32_t turn;         /* counts what was sent, so that kinds of frames take turns */

	struct ucx_queue queue;
	struct ucx_serve serve;
	uint64_t exposed_words[UCX_REGIONS_MAX / 64];
	struct far_bitmap exposed;

	/* With trust: fabric. */
	struct ucx_get *gets; /* owned: UCX_GETS_MAX; NULL without */
	struct ucx_get *get_free;
	uint32_t gets_out; /* that UCX has: it may write to what they name */
	uint32_t get_bytes_out;
	uint64_t got_ns;                 /* when the first of them began, or the last one ended */
	struct ucx_peer_key **peer_keys; /* owned: UCX_REGIONS_MAX, by slot */
	uint64_t untold_words[UCX_REGIONS_MAX / 64];
	struct far_bitmap untold; /* slots of regions whose keys wait to be sent */
};

#define UCX_LINK(l) FAR_CONTAINER_OF((l), struct ucx_link, link)
#define UCX_TP(t)   FAR_CONTAINER_OF((t), struct ucx_transport, tp)

/* ---- link.c ---- */
int far_ucx_connect(struct far_transport *tp, const char *address, const void *hello,
		    size_t hello_bytes, uint64_t deadline_ns, struct far_link_handler *handler,
		    struct far_link **out);
void far_ucx_disconnect(struct far_link *link);
/* Asks the acceptor about a connection that said hello. */
void far_ucx_link_accept(struct ucx_conn *conn, struct ucx_listener *listener);
void far_ucx_link_fail(struct ucx_link *link, int rc);
void far_ucx_link_free(struct ucx_link *link);
void far_ucx_link_wake(struct ucx_link *link);
void far_ucx_link_emit(struct ucx_link *link, const struct far_event *event);
/* Gives the link a turn. Returns whether it wants another; it may be gone when it does not. */
bool far_ucx_link_work(struct ucx_link *link);
/* Looks at deadlines. */
void far_ucx_link_check(struct ucx_link *link, uint64_t now_ns);
/* Whether the peer owes us an answer. */
bool far_ucx_link_expects(const struct ucx_link *link);
uint64_t far_ucx_link_due_ns(const struct ucx_link *link);
/* The peer's hello or welcome. Returns 0, -EPROTO. */
int far_ucx_link_greeted(struct ucx_link *link, const struct ucx_frame_hello *hello);

/* ---- send.c: what leaves ---- */
int far_ucx_send(struct far_link *link, const void *msg, size_t size_bytes);
bool far_ucx_send_ready(const struct ucx_link *link);
/* Puts a WRITE behind what was posted and sent before. */
void far_ucx_stream_push_write(struct ucx_link *link, uint32_t op_idx);
/* Sends what waits. Returns how many frames went. */
int far_ucx_flush(struct ucx_link *link);
/* Hands a frame over, with what every header carries. @tx is taken. */
void far_ucx_frame_send(struct ucx_link *link, struct ucx_tx *tx);
/* How many more bytes of blocks may be on the way to the peer. */
uint32_t far_ucx_window(const struct ucx_link *link);

/* ---- receive.c: what arrives; inside progress, so nothing is told to anybody ---- */
/* Returns 0, or why the link ends. */
int far_ucx_receive(struct ucx_link *link, const struct ucx_frame *frame);
/* Room for what @credits allow the peer. Returns 0, -ENOMEM. */
int far_ucx_inbox_init(struct ucx_link *link, uint32_t credits);
/* Delivers messages while the budget lasts. Returns how many. */
int far_ucx_inbox_deliver(struct ucx_link *link);
void far_ucx_inbox_drop(struct ucx_link *link);

/* ---- ucx.c ---- */
bool far_ucx_is_child(const struct ucx_transport *tp);

#endif
