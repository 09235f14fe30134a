/* loop_priv.h - what the files of the loop share: fabric, host, link, op and parcel. */
#ifndef FAR_TRANSPORT_LOOP_LOOP_PRIV_H
#define FAR_TRANSPORT_LOOP_LOOP_PRIV_H

#include "transport/loop/loop.h"

#include "base/list.h"

#define LOOP_LINE_BYTES       64
#define LOOP_OP_QUEUE_DEFAULT 4096
#define LOOP_CREDITS_DEFAULT  32
#define LOOP_CREDITS_MAX      4096
#define LOOP_MOMENTS_MAX      8 /* an op's lines are sampled or placed in up to so many groups */
#define LOOP_OP_BYTES_MAX     (1U << 30)
#define LOOP_HOST_BYTES_MAX   64

/*
 * Two things move the world. A timer is something that the network does at a moment of virtual
 * time, inside far_loop_step(): a line is sampled, a message arrives, a link dies. A notice is
 * something that a host has to be told: it waits in the host's ready queue until far_transport_poll().
 * Both are embedded in what they are about, so that neither needs memory when it happens.
 */
struct loop_timer {
	uint64_t at_ns;
	uint64_t seq;    /* equal times fire in the order of setting */
	size_t heap_idx; /* 0: not set */
	void (*fire)(struct loop_timer *timer);
};

enum loop_notice_kind {
	LOOP_NOTICE_REQUEST, /* a link asks to be accepted */
	LOOP_NOTICE_CONNECTED,
	LOOP_NOTICE_SENDABLE,
	LOOP_NOTICE_LOST,
	LOOP_NOTICE_CLOSED,
	LOOP_NOTICE_MESSAGE, /* embedded in a parcel */
	LOOP_NOTICE_DONE,    /* embedded in an op */
};
#define LOOP_LINK_NOTICES (LOOP_NOTICE_CLOSED + 1)

struct loop_notice {
	struct far_list node; /* in the host's ready queue */
	enum loop_notice_kind kind;
	bool queued;
	struct loop_link *link;
};

struct far_loop_fabric {
	struct far_clock clock; /* first: the clock's owner is found by a cast */
	uint64_t now_ns;
	struct far_loop_config config;
	struct far_rng rng;
	struct loop_timer **heap; /* [1..timer_count], the earliest first */
	size_t timer_count;
	size_t timer_max;      /* the heap's size */
	size_t timer_reserved; /* how many timers exist, set or not */
	uint64_t timer_seq;
	struct far_list hosts;
	struct far_list listeners;
	struct far_list cuts;
	uint64_t key_next;
	uint64_t addr_next;
	uint64_t link_next;
	struct far_loop_counts counts;
	far_loop_landing_fn *landing; /* NULL: nobody wants to know */
	void *landing_arg;
};

/* A transport: one end of the fabric. Several may carry one name: they live and die together. */
struct loop_host {
	struct far_transport tp;
	struct far_loop_fabric *fabric;
	char name[LOOP_HOST_BYTES_MAX];
	struct far_list node;  /* fabric->hosts */
	struct far_list ready; /* notices, oldest first */
	struct far_list links;
	struct far_list mems;
	size_t listener_count;
	uint32_t message_credits;
	uint64_t bytes_max;
	uint64_t peer_bytes_max;
	uint64_t bytes;         /* in flight, all links */
	uint32_t refused_count; /* links that wait for room to post */
	bool paused;
	bool dead;
};

/* Stands behind struct far_listener. */
struct loop_listener {
	struct far_list node; /* fabric->listeners */
	struct loop_host *host;
	far_accept_fn *accept;
	void *arg;
	char address[FAR_ADDRESS_BYTES_MAX];
};

struct loop_mem {
	struct far_mem mem;
	struct far_list node; /* host->mems */
	struct far_list keys; /* what peers were told of it */
	uint64_t only_link;   /* number of the one link that may use the key; 0: any */
	uint32_t pins;        /* pieces of our own ops that lie in it */
};

enum loop_parcel_kind {
	LOOP_PARCEL_ACCEPT, /* the acceptor's yes */
	LOOP_PARCEL_EXPOSE,
	LOOP_PARCEL_MESSAGE,
};

/* What travels from one end of a link to the other in order: nothing passes what was sent before. */
struct loop_parcel {
	struct far_list
		node; /* in the sender's outbox; a message at rest: in the receiver's inbox */
	struct loop_timer timer;
	struct loop_notice notice;
	enum loop_parcel_kind kind;
	bool due; /* it is there, but something before it may not be */
	struct loop_link
		*link; /* the sender's end on the way out; the receiver's on the way back */
	uint64_t writes_before; /* WRITEs posted on the link before it was sent */
	size_t size_bytes;
	uint8_t *data; /* a message's FAR_MESSAGE_BYTES_MAX, lent from the receiver's inbox */
};

/* A remote key as one reader knows it. Outlives the registration: a stale key is still a name. */
struct loop_key {
	struct far_list node;      /* in the reader's keys, the last used first */
	struct far_list mem_node;  /* in the registration's keys */
	struct loop_parcel parcel; /* brings it to the reader */
	struct loop_link *reader;
	struct loop_mem *mem; /* NULL: deregistered */
	struct far_rkey rkey;
	uint32_t pins; /* ops of the reader that name it */
};

/* A posted list. */
struct loop_batch {
	struct far_list node;   /* in the pool */
	struct far_list ops;    /* in posting order, until their completion was told */
	struct far_list *fence; /* every READ before this op has completed */
	struct far_list *cover; /* every op before this one is covered by a completion */
	int status;             /* first failure that no completion has told yet */
};

enum loop_op_state {
	LOOP_OP_WAITING,  /* behind its fence */
	LOOP_OP_FLYING,   /* its timer is its next moment */
	LOOP_OP_PARKED,   /* nobody answers: the link's end will end it */
	LOOP_OP_ENDING,   /* its timer is its end, with a status that stands already */
	LOOP_OP_FINISHED, /* waits for the ops before it, then for its turn to be told */
};

struct loop_op {
	struct far_list node;   /* batch->ops, or the pool */
	struct far_list flying; /* link->flying until it has finished */
	struct far_list write;  /* link->writes until a WRITE's last byte was placed */
	struct loop_timer timer;
	struct loop_notice notice;
	struct loop_batch *batch;
	struct loop_key *key; /* NULL: this side does not know it */
	enum loop_op_state state;
	enum far_op_kind kind;
	bool fence;
	bool again;      /* a READ: some of its lines will be sampled a second time */
	bool drop;       /* the link dies instead of its completion */
	uint8_t moment;  /* how many of its moments are over */
	uint8_t moments; /* in how many its lines are touched */
	int status;
	uint32_t piece_count;
	uint64_t token;
	uint64_t seed;      /* which line belongs to which moment */
	uint64_t end_ns;    /* when it completes */
	uint64_t write_seq; /* of the link's WRITEs */
	uint64_t remote_addr;
	uint64_t size_bytes;
	uint32_t *crc32c; /* as in struct far_op */
	struct far_rkey rkey;
	struct far_piece pieces[FAR_PIECES_MAX];
};

enum loop_link_state {
	LOOP_LINK_REQUESTED,  /* the passive end, before accept was asked */
	LOOP_LINK_CONNECTING, /* the active end, before the answer */
	LOOP_LINK_UP,
	LOOP_LINK_BROKEN,  /* until its owner disconnects */
	LOOP_LINK_CLOSING, /* until everything was told */
};

/* One end of a connection. */
struct loop_link {
	struct far_link link;
	struct loop_host *host;
	struct far_list node;   /* host->links */
	struct loop_link *peer; /* the other end; NULL: not there yet, or gone */
	uint64_t number;        /* never repeats */
	enum loop_link_state state;
	bool cut;       /* the path is gone for good */
	bool peer_dead; /* nobody executes what is posted from now on */
	bool settled;   /* closing: only outstanding ops are waited for */

	/* Its life. */
	struct loop_listener *listener; /* of a requested end */
	char address[FAR_ADDRESS_BYTES_MAX];
	uint8_t hello[FAR_HELLO_BYTES_MAX];
	size_t hello_bytes;
	struct loop_timer setup;    /* the request arrives */
	struct loop_timer deadline; /* of connect */
	struct loop_timer fate; /* the link dies, its loss is told, or its end is near: by state */
	int fate_status;
	struct loop_notice notices[LOOP_LINK_NOTICES];

	/* Messages. */
	struct far_list outbox; /* parcels on the way to the peer, in order */
	struct far_list inbox;  /* message parcels at rest: the peer's credits */
	struct loop_parcel *parcels;
	uint8_t *parcel_data;
	uint32_t parcel_count;
	struct loop_parcel accept;
	bool send_refused;

	/* One-sided ops. */
	struct far_list keys;   /* that the peer exposed to us */
	struct far_list flying; /* ops that have not finished */
	struct far_list writes; /* WRITEs with bytes not placed yet, in posting order */
	uint64_t write_seq;
	struct loop_op *ops; /* op_max of them; untouched ones cost no memory yet */
	struct far_list op_pool;
	struct loop_batch *batches;
	struct far_list batch_pool;
	uint32_t op_fresh; /* the first op that was never used, and so on */
	uint32_t batch_fresh;
	uint32_t op_max;
	uint32_t op_count;
	uint64_t bytes; /* in flight */
	bool post_refused;
};

static inline struct loop_host *
loop_host(struct far_transport *tp)
{
	return FAR_CONTAINER_OF(tp, struct loop_host, tp);
}

static inline struct loop_link *
loop_link(struct far_link *link)
{
	return FAR_CONTAINER_OF(link, struct loop_link, link);
}

/* ---- fabric.c: time and chance ---- */
void far_loop_timer_set(struct far_loop_fabric *fabric, struct loop_timer *timer, uint64_t at_ns);
/* Not set: nothing happens. */
void far_loop_timer_cancel(struct far_loop_fabric *fabric, struct loop_timer *timer);
/* Room in the heap for @count timers more: setting one never allocates. */
int far_loop_timers_reserve(struct far_loop_fabric *fabric, size_t count);
void far_loop_timers_release(struct far_loop_fabric *fabric, size_t count);
/* A time from now on at which something that starts now is through. */
uint64_t far_loop_arrival(struct far_loop_fabric *fabric);
/* True @chance times in 65536. */
bool far_loop_chance(struct far_loop_fabric *fabric, uint32_t chance);
struct loop_listener *far_loop_listener_find(struct far_loop_fabric *fabric, const char *address);

/* ---- loop.c: the ready queue ---- */
void far_loop_notice_push(struct loop_host *host, struct loop_notice *notice);
/* Not queued: nothing happens. */
void far_loop_notice_drop(struct loop_notice *notice);
void far_loop_link_tell(struct loop_link *link, enum loop_notice_kind kind);

/* ---- link.c: a link's life ---- */
int far_loop_connect(struct far_transport *tp, const char *address, const void *hello,
		     size_t hello_bytes, uint64_t deadline_ns, struct far_link_handler *handler,
		     struct far_link **out);
void far_loop_disconnect(struct far_link *base);
/* Asks the listener, and answers the peer. */
void far_loop_link_accept(struct loop_link *link);
/* The link dies here now; the peer finds out. */
void far_loop_link_break(struct loop_link *link, int status);
/* The link dies here after a latency, unless it does before. */
void far_loop_link_doom(struct loop_link *link, int status);
/* Closing, and nothing is left: says so. */
void far_loop_link_settle(struct loop_link *link);
/* Frees it, whatever state it is in; tells nobody. */
void far_loop_link_free(struct loop_link *link);

/* ---- parcel.c: what travels in order ---- */
int far_loop_send(struct far_link *base, const void *msg, size_t size_bytes);
int far_loop_inbox_open(struct loop_link *link, uint32_t credits);
void far_loop_inbox_close(struct loop_link *link);
void far_loop_parcel_post(struct loop_link *from, struct loop_parcel *parcel);
/* Lets arrive what is there and waits for nothing before it. */
void far_loop_outbox_deliver(struct loop_link *from);
void far_loop_outbox_drop(struct loop_link *from);
void far_loop_parcel_fire(struct loop_timer *timer);
/* Gives a message to its handler, and its credit back. */
void far_loop_message_tell(struct loop_parcel *parcel);

/* ---- memory.c: registrations and the keys that peers know ---- */
int far_loop_mem_reg(struct far_transport *tp, const struct far_mem_source *source, uint32_t rights,
		     struct far_link *only, struct far_mem **out);
void far_loop_mem_dereg(struct far_mem *base);
int far_loop_mem_expose(struct far_mem *base, struct far_link *link);
void far_loop_forget(struct far_link *base, const struct far_rkey *rkey);
/* The key has arrived. */
void far_loop_key_learn(struct loop_key *key);
void far_loop_key_free(struct loop_key *key);
struct loop_key *far_loop_key_find(struct loop_link *link, const struct far_rkey *rkey);
/* Where the bytes are, or NULL: the key does not allow this access (any more). */
uint8_t *far_loop_key_reach(const struct loop_key *key, enum far_op_kind kind, uint64_t addr,
			    uint64_t size_bytes);

/* ---- op.c: one-sided lists ---- */
int far_loop_post(struct far_link *base, const struct far_op *ops, int count);
int far_loop_ops_open(struct loop_link *link, uint32_t op_max);
void far_loop_ops_close(struct loop_link *link);
/* Each outstanding op of a dying link will end with @status. */
void far_loop_ops_flush(struct loop_link *link, int status);
/* Those of a dying process: some just stop. */
void far_loop_ops_freeze(struct loop_link *link);
/* Gives a completion to its handler. */
void far_loop_op_tell(struct loop_op *op);

/* ---- faults.c ---- */
bool far_loop_is_cut(const struct far_loop_fabric *fabric, const char *a, const char *b);
void far_loop_cuts_free(struct far_loop_fabric *fabric);

#endif
