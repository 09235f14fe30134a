/* transport.h - the one contract of loop, shm, verbs and ucx: links, messages, one-sided lists. */
#ifndef FAR_TRANSPORT_TRANSPORT_H
#define FAR_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/rng.h"
#include "transport/address.h"
#include "transport/options.h"

/*
 * A transport and all that belongs to it is used by one thread, its owner. Nothing here blocks but
 * what says so: what takes time ends in an event, and events are given to handlers from
 * far_transport_poll() alone, never from inside another call. A handler may call anything here but
 * poll and close of the transport.
 */
struct far_transport;
struct far_listener;
struct far_device; /* transport/mem/device.h */
struct far_mapped; /* transport/mapped.h */

#define FAR_MESSAGE_BYTES_MAX 65536
#define FAR_HELLO_BYTES_MAX   32 /* fits RDMA CM's private data beside our own header */
#define FAR_POST_OPS_MAX      1024
#define FAR_PIECES_MAX        16

/* ---- capabilities: asked, not guessed ---- */
#define FAR_CAP_ONE_SIDED      (1U << 0) /* READs cost the peer's CPU nothing */
#define FAR_CAP_READ_ONLY_KEYS (1U << 1) /* a key without FAR_RIGHT_REMOTE_WRITE cannot write */
#define FAR_CAP_FENCED_WRITES  (1U << 2) /* after mem_dereg of a grant no late WRITE lands */
#define FAR_CAP_DOMAINS        (1U << 3) /* keys of one namespace do not work in another */
#define FAR_CAP_GPU_DIRECT     (1U << 4)
#define FAR_CAP_PEER_FD        (1U << 5) /* memory that a peer touches must have a descriptor */
#define FAR_CAP_ANY_THREAD     (1U << 6) /* its owner may change between two calls, under a lock */

struct far_caps {
	uint32_t flags;        /* FAR_CAP_* */
	uint32_t reads_max;    /* READs that the hardware keeps in flight per link; 0: no limit */
	uint64_t op_bytes_max; /* largest length of one op */
};

/* ---- memory ---- */
#define FAR_RIGHT_LOCAL        (1U << 0) /* target of our READs, source of our WRITEs */
#define FAR_RIGHT_REMOTE_READ  (1U << 1)
#define FAR_RIGHT_REMOTE_WRITE (1U << 2)

/* A remote key: a name, not a secret. The layout belongs to the transport. */
struct far_rkey {
	uint8_t bytes[16];
};

/* What a peer needs to reach a region: its first byte's address in the transport's terms. */
struct far_remote {
	uint64_t addr;
	struct far_rkey rkey;
};

/* What is registered. The memory is borrowed until mem_dereg. */
struct far_mem_source {
	void *base;
	size_t size_bytes;
	int fd;             /* memfd behind it, -1: none (see FAR_CAP_PEER_FD); borrowed, dup'ed */
	uint64_t fd_offset; /* of @base in the descriptor's file */
	bool relaxed; /* bulk memory: relaxed PCIe ordering allowed; false for index and flags */
	struct far_device *device; /* whose memory it is; NULL: the host's. Not every backend can:
				    * -EOPNOTSUPP, see transport/gpu/ */
	bool device_far; /* also where a processor lies between the device and the NIC: that is
			  * slower than a copy through the host on most of them */
};

/* A registration; backends embed it. Read only for everybody else. */
struct far_mem {
	struct far_transport *tp;
	void *base;
	size_t size_bytes;
	uint32_t rights;          /* FAR_RIGHT_* */
	struct far_remote remote; /* for peers, if the rights have a REMOTE one */
};

/* ---- one-sided lists ---- */
enum far_op_kind {
	FAR_OP_READ,  /* remote -> pieces */
	FAR_OP_WRITE, /* pieces -> remote */
};

/* Starts only after every READ before it in the same list has completed; nothing behind it in the
 * list starts before it does. */
#define FAR_OP_FENCE (1U << 0)

struct far_piece {
	void *addr;
	uint32_t size_bytes;
	struct far_mem *mem; /* the registration that @addr lies in */
};

struct far_op {
	enum far_op_kind kind;
	uint32_t flags;       /* FAR_OP_* */
	uint64_t remote_addr; /* far_remote.addr plus an offset */
	struct far_rkey rkey;
	const struct far_piece *pieces; /* 1..FAR_PIECES_MAX; copied by post */
	uint32_t piece_count;
	uint64_t token; /* 0: no completion of its own, the next token of the list covers it */
	/* WRITE, where the link's sums_from is not 0, READ, where it has sums_reads: where the CRC-32C of its
	 * bytes, as they landed, is put before a completion that is 0; borrowed until it. NULL: nobody asks. */
	uint32_t *crc32c;
};

/* ---- events ---- */
enum far_event_kind {
	FAR_EV_CONNECTED, /* the link that connect() made is up */
	FAR_EV_MESSAGE,   /* bytes, aligned to 8, valid until the handler returns: then its credit
			   * goes back */
	FAR_EV_DONE, /* an op with this token ended, and so did those before it that it covers */
	FAR_EV_SENDABLE, /* a send or post that was answered -EAGAIN can be tried again */
	FAR_EV_LOST,     /* the link is dead, @status says why; once; then disconnect it */
	FAR_EV_CLOSED, /* after disconnect: nothing is outstanding, @link is gone after this call */
};

struct far_link;

struct far_event {
	enum far_event_kind kind;
	int status; /* DONE: 0 or negative errno; LOST: the reason */
	struct far_link *link;
	uint64_t token;  /* DONE */
	const void *msg; /* MESSAGE */
	size_t msg_bytes;
};

/* Who is told; embedded in its owner, who is found with FAR_CONTAINER_OF. */
struct far_link_handler {
	void (*event)(struct far_link_handler *handler, const struct far_event *event);
};

/* A connection; backends embed it. Read only for everybody else. */
struct far_link {
	struct far_transport *tp;
	struct far_link_handler *handler; /* set at connect and accept */
	char peer[FAR_ADDRESS_BYTES_MAX]; /* for people: "pid 4711", "10.0.0.3:7471" */
	bool up;                          /* messages and posts are accepted */
	/* Once up, 0: nobody tells checksums of WRITEs. Else who copies their bytes does if asked, and from so
	 * many bytes in a list on it pays to wait for that instead of reading them once more. See far_op. */
	uint32_t sums_from;
	/* READs are copied here, and summed on the way if asked: cheaper than to read them once more. */
	bool sums_reads;
};

/**
 * Asked for each incoming link, with the bytes that its opener gave to connect.
 * Returns the handler for the accepted link (borrowed until its FAR_EV_CLOSED), or NULL to refuse.
 * The link may be used from then on.
 */
typedef struct far_link_handler *far_accept_fn(void *arg, struct far_link *link, const void *hello,
					       size_t hello_bytes);

/*
 * The table that a backend fills, wholly; -EOPNOTSUPP from a typed stub where it lacks something.
 * Meanings and checks are at the far_transport_*() functions below: call those.
 */
struct far_transport_ops {
	const char *name; /* also the scheme of its addresses, "shm:..." */

	/* Control path: may allocate. */
	int (*open)(const struct far_transport_config *config, struct far_transport **out);
	void (*close)(struct far_transport *tp);
	int (*mem_reg)(struct far_transport *tp, const struct far_mem_source *source,
		       uint32_t rights, struct far_link *only, struct far_mem **out);
	void (*mem_dereg)(struct far_mem *mem);
	int (*mem_expose)(struct far_mem *mem, struct far_link *link);
	int (*listen)(struct far_transport *tp, const char *address, far_accept_fn *accept,
		      void *arg, struct far_listener **out);
	void (*unlisten)(struct far_listener *listener);
	int (*connect)(struct far_transport *tp, const char *address, const void *hello,
		       size_t hello_bytes, uint64_t deadline_ns, struct far_link_handler *handler,
		       struct far_link **out);
	void (*disconnect)(struct far_link *link);
	void (*forget)(struct far_link *link, const struct far_rkey *rkey);
	int (*map)(struct far_link *link, const struct far_rkey *rkey, struct far_mapped **out,
		   uint64_t *offset_out, uint64_t *size_out);

	/* Data path: never allocates, blocks, takes a lock or logs. */
	int (*post)(struct far_link *link, const struct far_op *ops, int count);
	int (*send)(struct far_link *link, const void *msg, size_t size_bytes);
	int (*poll)(struct far_transport *tp, int budget);
	int (*arm)(struct far_transport *tp);
};

/* An open transport; backends embed it. Read only for everybody else. */
struct far_transport {
	const struct far_transport_ops *ops;
	struct far_caps caps;
	int fd; /* becomes readable when poll has something to do, if armed; -1: busy-polled only */
};

/**
 * far_transport_open - opens a backend by name.
 *
 * @name:   "shm", "verbs", "ucx", "loop"; with anything else the log lists the known ones.
 * @config: borrowed for the call; clock, helpers and fabric outlive the transport, all else that it
 *          points at is borrowed for the call, too.
 * @out:    set only on success; owned: far_transport_close().
 *
 * Thread:  the caller becomes the owner.
 * Returns: 0, or -ENODEV (unknown, or not on this host), -ENOMEM, -EMFILE, -EINVAL.
 */
int far_transport_open(const char *name, const struct far_transport_config *config,
		       struct far_transport **out);

/* Every link is closed, every listener ended, every registration gone before: asserted. Takes NULL.
 */
void far_transport_close(struct far_transport *tp);

/**
 * far_transport_mem_reg - registers memory.
 *
 * @rights: FAR_RIGHT_*; a REMOTE_WRITE right reaches exactly [base, base + size).
 * @only:   the one link whose peer may use the remote key; NULL: every link it is exposed to.
 *
 * May be slow on hardware (0.1 s per GB and NIC): shells call it off their loops.
 * Returns: 0, or -ENOMEM, -EINVAL, -EOPNOTSUPP.
 */
static inline int
far_transport_mem_reg(struct far_transport *tp, const struct far_mem_source *source,
		      uint32_t rights, struct far_link *only, struct far_mem **out)
{
	FAR_ASSERT(source->base != NULL);
	FAR_ASSERT(source->size_bytes > 0);
	FAR_ASSERT(rights != 0);
	return tp->ops->mem_reg(tp, source, rights, only, out);
}

/**
 * far_transport_mem_dereg - ends a registration. After it returned no access through its key lands,
 * from whatever peer, however late. No op of ours that names it may be outstanding: asserted.
 */
static inline void
far_transport_mem_dereg(struct far_mem *mem)
{
	mem->tp->ops->mem_dereg(mem);
}

/**
 * far_transport_mem_expose - lets the peer of @link use the remote key: it can before any message
 * that is sent later on the link arrives. Outside message credits. Idempotent. A registration for
 * one link stays that link's: another that it is exposed to still cannot use it.
 *
 * Returns: 0, or -ENOTCONN, -ENOMEM.
 */
static inline int
far_transport_mem_expose(struct far_mem *mem, struct far_link *link)
{
	FAR_ASSERT(mem->tp == link->tp);
	return mem->tp->ops->mem_expose(mem, link);
}

/**
 * far_transport_listen - accepts links at an address.
 *
 * @address: without the scheme: a path for shm, a host name of the fabric for loop.
 *
 * Blocks, over ucx: while a name is looked up; with trust: fabric, for the trial of an address that
 * was not tried yet, up to 5 s.
 *
 * Returns: 0, or -EADDRINUSE (somebody answers there), -EINVAL, -EACCES, -EMFILE, -ENOMEM, -ENODEV
 *          (trust: fabric, and it is not proved that a READ there is one-sided: the log says why).
 */
static inline int
far_transport_listen(struct far_transport *tp, const char *address, far_accept_fn *accept,
		     void *arg, struct far_listener **out)
{
	return tp->ops->listen(tp, address, accept, arg, out);
}

/* Accepted links live on. Takes the listener of @tp. */
static inline void
far_transport_unlisten(struct far_transport *tp, struct far_listener *listener)
{
	tp->ops->unlisten(listener);
}

/**
 * far_transport_connect - starts a link. FAR_EV_CONNECTED, or FAR_EV_LOST at the latest when
 * @deadline_ns has passed and poll runs.
 *
 * @hello: up to FAR_HELLO_BYTES_MAX bytes for the acceptor; copied.
 * @out:   owned: far_transport_disconnect() exactly once, whatever happened to the link.
 *
 * Blocks, over ucx with trust: fabric, for the trial of an address of this host that was not tried
 * yet, up to 5 s; where @address has a name, it is a poll that does. One that failed is not tried
 * again for 15 s.
 *
 * Returns: 0, or -EINVAL, -ECONNREFUSED, -EACCES, -EMFILE, -ENOMEM, -ENODEV as listen (then there
 *          is no link and no event).
 */
static inline int
far_transport_connect(struct far_transport *tp, const char *address, const void *hello,
		      size_t hello_bytes, uint64_t deadline_ns, struct far_link_handler *handler,
		      struct far_link **out)
{
	FAR_ASSERT(hello_bytes <= FAR_HELLO_BYTES_MAX);
	FAR_ASSERT(handler != NULL);
	return tp->ops->connect(tp, address, hello, hello_bytes, deadline_ns, handler, out);
}

/**
 * far_transport_disconnect - ends a link, up or lost: what is outstanding completes (-ECANCELED or
 * its own result), then FAR_EV_CLOSED says that no work request of the link is left anywhere.
 * Messages that were not delivered are dropped.
 */
static inline void
far_transport_disconnect(struct far_link *link)
{
	link->tp->ops->disconnect(link);
}

/* The owner will not use this remote key again (its segment was recalled): unmap it. No op of ours
 * that names it may be outstanding: asserted. Unknown keys are ignored. */
static inline void
far_transport_forget(struct far_link *link, const struct far_rkey *rkey)
{
	link->tp->ops->forget(link, rkey);
}

/**
 * far_transport_post - posts a list: all of it, or nothing.
 *
 * Ops of a list run in any order but for FAR_OP_FENCE. Completions come in the order of tokens in
 * the list. When an op fails, the token that covers it carries the first failure, and pieces of the
 * covered ops hold any bytes. Until its covering completion a READ's pieces may be written, and a
 * WRITE's read, at any moment.
 *
 * @count: 1..FAR_POST_OPS_MAX; the last op has a token.
 *
 * Returns: 0, or -EAGAIN (queue full: FAR_EV_SENDABLE follows; an idle link takes any list),
 *          -ENOTCONN.
 *          A key that does not allow the access fails the op with -EACCES, and may cost the link.
 *          A key that this side does not know is -ESTALE, on the op. A WRITE that fails, for
 *          whatever reason, may cost the link, and no message that was sent behind it arrives.
 */
static inline int
far_transport_post(struct far_link *link, const struct far_op *ops, int count)
{
	FAR_ASSERT(count > 0);
	FAR_ASSERT(count <= FAR_POST_OPS_MAX);
	FAR_ASSERT(ops[count - 1].token != 0);
	return link->tp->ops->post(link, ops, count);
}

/**
 * far_transport_send - sends a message; copied. Messages of a link arrive once, in order, and each
 * only after the bytes of all WRITEs posted before it on the link are visible at the peer.
 *
 * Returns: 0, or -EAGAIN (no credit or queue full; FAR_EV_SENDABLE follows), -ENOTCONN.
 */
static inline int
far_transport_send(struct far_link *link, const void *msg, size_t size_bytes)
{
	FAR_ASSERT(size_bytes > 0);
	FAR_ASSERT(size_bytes <= FAR_MESSAGE_BYTES_MAX);
	return link->tp->ops->send(link, msg, size_bytes);
}

/**
 * far_transport_poll - makes progress and gives events to handlers.
 *
 * @budget: about how many events at the most; copies are cut in slices so that a call stays short.
 *
 * Returns: the number of events and pieces of work done; 0: nothing to do now.
 */
static inline int
far_transport_poll(struct far_transport *tp, int budget)
{
	FAR_ASSERT(budget > 0);
	return tp->ops->poll(tp, budget);
}

/**
 * far_transport_arm - before sleeping on tp->fd: makes it readable for whatever comes from now on.
 *
 * Returns: 0: sleep; -EAGAIN: something is there already, or is expected at once: poll first.
 */
static inline int
far_transport_arm(struct far_transport *tp)
{
	return tp->ops->arm(tp);
}

/* registry.c: the table of @name, or NULL. */
const struct far_transport_ops *far_transport_find(const char *name);

#endif
