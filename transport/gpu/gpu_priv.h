/* gpu_priv.h - the structures of the wrapper, and what its files owe each other. */
#ifndef FAR_TRANSPORT_GPU_GPU_PRIV_H
#define FAR_TRANSPORT_GPU_GPU_PRIV_H

#include "transport/gpu/gpu.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/pages.h"
#include "transport/mapped.h"

#define GPU_LISTS_MAX   256U /* of one link, posted and not ended */
#define GPU_OPS_MAX     4096U
#define GPU_PIECES_MAX  32768U
#define GPU_SLICES_MAX  2048U
#define GPU_KEYS_MAX    4096U /* of one link, that are mapped; a power of two */
#define GPU_CHUNK_BYTES (16ULL << 10)
/* Inner READs that are told of together, at the most: what is copied on in one piece. */
#define GPU_GROUP_BYTES (1ULL << 20)
/* Of a list, put into one list of the inner transport: others come between. */
#define GPU_BATCH_BYTES (16ULL << 20)
#define GPU_NONE        UINT32_MAX

struct gpu_link;

/* ---- stage.c: the ring of pinned buffers ---- */
struct gpu_stage {
	struct far_pages pages;
	struct far_mem *mem; /* with the inner transport */
	bool pinned;
	uint8_t *used; /* owned: one per chunk */
	uint32_t chunk_count;
	uint32_t free_count;
	uint32_t cursor; /* where to look next: neighbours lie behind each other */
};

struct gpu_transport;

int far_gpu_stage_open(struct gpu_transport *tp, uint64_t size_bytes);
void far_gpu_stage_close(struct gpu_transport *tp);
/* Room for @size_bytes, or less, down to a chunk; @got_out says how much. NULL: none for this link now. */
uint8_t *far_gpu_stage_take(struct gpu_transport *tp, struct gpu_link *link, uint64_t size_bytes,
			    uint64_t *got_out);
void far_gpu_stage_give(struct gpu_transport *tp, struct gpu_link *link, const uint8_t *at,
			uint64_t size_bytes);

/* ---- mapped.c: peers' memory of this host, pinned for the copy engine ---- */
enum gpu_pin_state { PIN_QUEUED, PIN_READY, PIN_FAILED, PIN_LEAVING };

/* One mapping. The thread has it while it is queued or leaving. */
struct gpu_pin {
	struct far_list node;  /* tp->pins, but for the thread */
	struct far_list queue; /* the thread's, or its results */
	struct far_mapped *mapped;
	enum gpu_pin_state state;
	bool pinned;
	int rc;
	uint32_t keys;   /* of links, that name it */
	uint32_t copies; /* outstanding */
};

struct gpu_key {
	struct far_rkey rkey;
	struct gpu_pin *pin; /* NULL: free place */
	uint64_t offset;     /* of the key's first byte in the mapping */
	uint64_t size_bytes;
};

struct gpu_pinner {
	pthread_t thread;
	bool runs;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct far_list queue;   /* to be pinned, or unpinned */
	struct far_list results; /* pinned */
	_Atomic bool has_results;
	bool stop;
};

int far_gpu_pinner_open(struct gpu_transport *tp);
/* Unpins and releases all that is left. */
void far_gpu_pinner_close(struct gpu_transport *tp);
/* What the thread has done. Returns how much. */
int far_gpu_pinner_poll(struct gpu_transport *tp);
struct gpu_op;
/* Where the bytes of a READ are mapped and pinned. False: it goes another way. */
bool far_gpu_mapped_find(struct gpu_link *link, const struct gpu_op *op, struct gpu_pin **pin_out,
			 const uint8_t **from_out);
void far_gpu_mapped_forget(struct gpu_link *link, const struct far_rkey *rkey);
void far_gpu_mapped_fini(struct gpu_link *link);
/* No copy names it any more. */
void far_gpu_pin_copied(struct gpu_transport *tp, struct gpu_pin *pin);

/* ---- registrations ---- */
struct gpu_mem {
	struct far_mem mem;
	struct far_mem *inner; /* NULL: memory of the device that is staged */
	bool device;
};

static inline struct gpu_mem *
gpu_mem(struct far_mem *mem)
{
	return FAR_CONTAINER_OF(mem, struct gpu_mem, mem);
}

int far_gpu_mem_reg(struct far_transport *tp, const struct far_mem_source *source, uint32_t rights,
		    struct far_link *only, struct far_mem **out);
void far_gpu_mem_dereg(struct far_mem *mem);
int far_gpu_mem_expose(struct far_mem *mem, struct far_link *link);

/* ---- lists ---- */
struct gpu_op {
	struct gpu_list *list;
	struct far_rkey rkey;
	uint64_t remote_addr;
	uint64_t token;
	uint64_t bytes;
	uint64_t started; /* bytes that are on their way or ended; all: nothing more starts */
	uint64_t posted;  /* WRITE: bytes that the inner transport was given */
	uint32_t slices;  /* live */
	uint32_t piece_first;
	uint16_t piece_count;
	uint8_t kind;
	uint8_t flags;
	bool staged; /* its pieces are on the device, and the inner transport does not reach them */
	bool begun;  /* WRITE: messages may go behind it, or never will */
	int status;
};

enum gpu_slice_state {
	SLICE_FREE,
	SLICE_INNER,   /* an op of the inner transport */
	SLICE_WAITING, /* READ: landed in the ring, waits for the copier */
	SLICE_COPYING,
	SLICE_READY, /* WRITE: in the ring, waits for the inner transport */
};

/* A part of an op that goes its way by itself: an inner op, a copy, or both. */
struct gpu_slice {
	struct far_list node; /* free, waiting, copying or ready */
	struct gpu_link *link;
	struct gpu_list *list;
	struct gpu_op *op;
	enum gpu_slice_state state;
	enum far_gpu_path path;
	uint64_t op_offset;
	uint64_t size_bytes;
	uint64_t copied;       /* handed to the copier */
	uint64_t seq;          /* of its last copy */
	uint8_t *stage;        /* NULL: none */
	const uint8_t *mapped; /* NULL: none */
	struct gpu_pin *pin;   /* that @mapped lies in */
	uint32_t group_first;  /* of those that its completion covers; linked by next */
	uint32_t next;
};

struct gpu_list {
	struct far_list node; /* link->lists, in the order of posting */
	uint32_t op_first;    /* in the link's ring; of a flat list one op per token */
	uint32_t op_count;
	uint32_t piece_first;
	uint32_t piece_count;
	uint32_t at;       /* ops before it are wholly started */
	uint32_t reported; /* ops before it were told of */
	uint32_t slices;   /* live */
	uint32_t reads;    /* slices among them whose READ has not completed */
	bool flat;         /* went to the inner transport as it was */
	bool barrier;      /* nothing more starts before all slices have ended */
	bool live;
	uint64_t bytes; /* staged; on their way until it ends */
	int status;     /* of ops since the last token */
};

/* ---- links ---- */
struct gpu_link {
	struct far_link link;
	struct far_link *inner; /* NULL: it said CLOSED */
	struct far_link_handler inner_handler;
	struct far_list all_node;
	struct far_list run_node; /* tp->running: something of it may start */
	bool disconnected;
	bool lost;       /* it was told */
	int lost_status; /* ours, to be told; 0: none */
	bool inner_full; /* the inner transport refused a list: it tells when to try again */
	bool room_waits; /* no room in the ring, or for copies */
	/* A post or send of the user's was refused: SENDABLE follows. */
	bool user_waits_inner;                      /* by the inner transport */
	bool user_waits_writes;                     /* behind WRITEs that are not posted yet */
	uint32_t user_waits_ops, user_waits_pieces; /* for room in our own rings */
	uint64_t user_waits_bytes;
	uint64_t bytes;           /* of staged lists */
	uint32_t writes_unposted; /* ops that messages have to be behind */

	struct far_list lists; /* not ended */
	struct gpu_list *list_pool;
	struct gpu_op *ops; /* rings, owned */
	struct far_piece *pieces;
	struct gpu_slice *slices; /* pool, owned */
	uint32_t op_head, op_tail, piece_head, piece_tail;
	uint32_t list_head, list_tail;
	struct far_list slices_free;
	struct far_list writes_ready; /* slices */
	uint32_t slices_live;
	uint32_t chunks_held;
	struct gpu_key *keys; /* owned; NULL: none yet */
	uint32_t key_count;
};

static inline struct gpu_link *
gpu_link(struct far_link *link)
{
	return FAR_CONTAINER_OF(link, struct gpu_link, link);
}

struct gpu_listener {
	struct gpu_transport *tp;
	struct far_listener *inner;
	far_accept_fn *accept;
	void *arg;
};

struct gpu_transport {
	struct far_transport tp;
	struct far_transport_ops ops; /* with the inner one's name */
	struct far_transport *inner;
	struct far_gpu_config config;
	struct far_device *device;
	struct far_copier *copier;
	struct gpu_stage stage;
	struct gpu_pinner pinner;
	bool maps;       /* the inner transport may map something */
	bool pin_failed; /* that was told */
	int wake_fd;
	uint64_t bytes;           /* of staged lists */
	uint64_t copies_since_ns; /* when the copier was last given something */

	struct far_list links;
	uint32_t link_count;
	struct far_list running;
	struct far_list pins;
	struct far_list waiting;                   /* slices for the copier */
	struct far_list copying[FAR_COPY_WAYS];    /* slices, in the order of seq */
	struct far_op inner_ops[FAR_POST_OPS_MAX]; /* of the list that is being made */
	struct far_piece *inner_pieces;            /* owned: as many as a list may have */
	uint32_t batch[FAR_POST_OPS_MAX];          /* its slices */
	struct far_gpu_status status;
};

static inline struct gpu_transport *
gpu_tp(struct far_transport *tp)
{
	return FAR_CONTAINER_OF(tp, struct gpu_transport, tp);
}

static inline const struct gpu_transport *
gpu_tp_const(const struct far_transport *tp)
{
	return (const struct gpu_transport *)(const void *)((const char *)tp -
							    offsetof(struct gpu_transport, tp));
}

/* ---- link.c ---- */
int far_gpu_listen(struct far_transport *tp, const char *address, far_accept_fn *accept, void *arg,
		   struct far_listener **out);
void far_gpu_unlisten(struct far_listener *listener);
int far_gpu_connect(struct far_transport *tp, const char *address, const void *hello,
		    size_t hello_bytes, uint64_t deadline_ns, struct far_link_handler *handler,
		    struct far_link **out);
void far_gpu_disconnect(struct far_link *link);
void far_gpu_forget(struct far_link *link, const struct far_rkey *rkey);
int far_gpu_send(struct far_link *link, const void *msg, size_t size_bytes);
/* Tells of what has ended, and ends links. Returns how many events. */
int far_gpu_links_report(struct gpu_transport *tp);
/* Something of it may start now. */
void far_gpu_link_wake(struct gpu_link *link);
/* Room came: those that waited for it go on. */
void far_gpu_links_room(struct gpu_transport *tp);

/* ---- list.c: what is posted ---- */
int far_gpu_post(struct far_link *link, const struct far_op *ops, int count);
/* Whether so much would be taken now. */
bool far_gpu_link_takes(const struct gpu_link *link, uint32_t ops, uint32_t pieces, uint64_t bytes);
/* Starts what can start. Returns how much. */
int far_gpu_lists_run(struct gpu_link *link);
/* The inner transport ended one of ours. */
void far_gpu_inner_done(struct gpu_link *link, uint64_t token, int status);
/* What has not started never will. */
void far_gpu_lists_cancel(struct gpu_link *link, int status);
/* Tells of ops that have ended, in order. Returns how many events. */
int far_gpu_lists_report(struct gpu_link *link);

/* ---- slice.c: parts on their way ---- */
struct gpu_slice *far_gpu_slice_new(struct gpu_link *link, struct gpu_list *list, struct gpu_op *op,
				    uint64_t size_bytes);
/* It never was: its op has its bytes back. */
void far_gpu_slice_undo(struct gpu_slice *slice);
/* Nothing names its memory any more. */
void far_gpu_slice_end(struct gpu_slice *slice, int status);
/* A READ of the inner transport's ended. */
void far_gpu_slice_landed(struct gpu_slice *slice, int status);
/* Hands it to the copier as far as that takes it. Returns 0, -EAGAIN, -EIO. */
int far_gpu_slice_copy(struct gpu_slice *slice);
/* The same for one that just began. False: not a byte was taken, and that may be tried later. */
bool far_gpu_slice_copy_first(struct gpu_slice *slice);
/* Copies that ended, and those that waited. Returns how much. */
int far_gpu_copies_run(struct gpu_transport *tp);
/* WRITEs that are in the ring. Returns how much. */
int far_gpu_writes_run(struct gpu_link *link);
/* All of a WRITE is with the inner transport, or never will be. */
void far_gpu_op_begun(struct gpu_link *link, struct gpu_op *op);

#endif
