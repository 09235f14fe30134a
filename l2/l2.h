/* l2.h - one remote store as the controllers see it: look up, load, store, delete, unlock. */
#ifndef FAR_L2_L2_H
#define FAR_L2_L2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/key.h"
#include "base/list.h"
#include "base/recorder.h"
#include "base/rng.h"
#include "l2/listing.h"
#include "l2/set.h"
#include "transport/transport.h"

/*
 * An adapter is a state machine of one owner thread. It is driven by far_l2_tick() and by the
 * events of its transport; a task ends through its done callback, exactly once, from one of these
 * two and never from inside far_l2_submit(). Call far_l2_tick() soon after a submit: what can be
 * answered at once is answered there. When done runs, nothing names the task's buffers any more: no
 * work request, no copy. That may be long after the caller's deadline; the caller keeps the buffers
 * until then.
 */
struct far_l2;
struct far_l2_task;

enum far_l2_kind {
	FAR_L2_LOOKUP, /* rc 0: there, with size and hint; locked once until far_l2_unlock() */
	FAR_L2_LOAD,  /* bytes into the pieces, validated: rc 0 means these are the block's bytes */
	FAR_L2_STORE, /* bytes from the pieces; rc 0 only when committed; -EEXIST: it had it */
	FAR_L2_DELETE, /* rc 0 or -ENOENT */
};

struct far_l2_piece {
	void *addr; /* in the arena or, for a LOAD, one of env.memories: else the item ends -EINVAL */
	uint32_t size_bytes;
};

#define FAR_L2_HINT_WORDS 10

/*
 * Results per item: 0; a miss: -ENOENT not held, -EMSGSIZE another length (size_bytes is then the
 * stored one), -ESTALE changed under the load, -EBADMSG checksum, -EHOSTDOWN store not reachable;
 * a failure: -ENOSPC full, -EEXIST (store: fine), -ETIMEDOUT (the adapter gave up before anything
 * was posted), -EAGAIN (more than tasks_max), -ECANCELED, -EIO.
 */
struct far_l2_item {
	struct far_key key;
	uint32_t size_bytes;   /* LOOKUP: asked for, 0 = any; the stored length when rc is 0.
				* LOAD: length of the whole block if known, 0 = any */
	uint32_t range_offset; /* LOAD: first byte of the block wanted; 0 with the whole length */
	uint32_t group;        /* STORE: the caller's tag */
	int rc;                /* out */
	const struct far_l2_piece *pieces; /* LOAD, STORE: borrowed until done */
	uint32_t piece_count;
	uint32_t crc32c; /* STORE: of the bytes, if has_crc */
	bool has_crc;
	uint64_t hint[FAR_L2_HINT_WORDS]; /* LOOKUP fills, LOAD takes: where it was seen; zero: none
					   */
};

/* Embedded in its owner; all borrowed until done. */
struct far_l2_task {
	enum far_l2_kind kind;
	struct far_l2_item *items;
	uint32_t count;       /* 1..far_l2_limits.items_max */
	uint64_t deadline_ns; /* nothing new is posted after it; what is posted is awaited */
	void (*done)(struct far_l2_task *task);
	/* The adapter's own from submit to done. */
	struct far_l2 *l2;
	struct far_list node;
	uint64_t priv[12];
};

struct far_l2_limits {
	uint32_t items_max; /* per task */
	uint32_t tasks_max; /* in flight; more are queued by the adapter up to this, then refused */
	uint64_t load_bytes_best; /* length of a load task that keeps it busy: windows are cut to it
				   */
};

enum far_l2_state {
	FAR_L2_CONNECTING, /* never been up since open */
	FAR_L2_UP,
	FAR_L2_DOWN,    /* answers -EHOSTDOWN at once, tries again by itself */
	FAR_L2_REFUSED, /* the store refused us, for a reason that an operator has to mend */
	FAR_L2_QUIESCED,
};

/* An address, and a reason. */
#define FAR_L2_TEXT_BYTES 448
#define FAR_L2_WHY_BYTES  256

struct far_l2_status {
	enum far_l2_state state;
	int rc;                               /* why it is not up */
	char text[FAR_L2_TEXT_BYTES];         /* one line for people: path, peer, reason */
	char transport[FAR_SCHEME_BYTES_MAX]; /* that carries it now, or is tried; "": none */
	char why[FAR_L2_WHY_BYTES];           /* why that one, while it is up */
	bool one_sided;
	uint64_t epoch;
	uint32_t tasks_live;
	/* Counters since open. */
	uint64_t lookups, lookup_hits;
	uint64_t loads, load_bytes;
	uint64_t stores, store_bytes, stores_had;
	uint64_t stale_rejects;  /* loads whose validation failed */
	uint64_t torn_rereads;   /* index lines that were read again */
	uint64_t moved_followed; /* blocks found in another place of the same store */
	uint64_t crc_rejects;
	uint64_t length_misses;
	uint64_t messages_sent, messages_received;
	uint64_t touch_notes; /* messages among them that only carry touches */
	uint64_t times_down;
};

/* STATUS counters of the store itself, if it has any. */
typedef void far_l2_stats_fn(void *arg, int rc, const uint64_t *values, uint32_t count);

struct far_l2_ops {
	const char *type;
	struct far_l2_limits limits;
	void (*submit)(struct far_l2 *l2, struct far_l2_task *task);
	void (*cancel)(struct far_l2 *l2, struct far_l2_task *task);
	void (*unlock)(struct far_l2 *l2, const struct far_key *keys, size_t count);
	uint64_t (*tick)(struct far_l2 *l2, uint64_t now_ns);
	void (*status)(const struct far_l2 *l2, struct far_l2_status *out);
	int (*stats_ask)(struct far_l2 *l2, far_l2_stats_fn *done, void *arg, uint64_t deadline_ns);
	int (*usage_ask)(struct far_l2 *l2, far_l2_usage_fn *done, void *arg, uint64_t deadline_ns);
	void (*list)(struct far_l2 *l2, struct far_l2_listing *listing);
	void (*quiesce)(struct far_l2 *l2);
	bool (*quiesced)(const struct far_l2 *l2);
	void (*close)(struct far_l2 *l2);
};

/* Adapters embed it. Read only for everybody else. */
struct far_l2 {
	const struct far_l2_ops *ops;
	struct far_l2_limits limits;
	char name[64];      /* unique among adapters: placement hashes it */
	double weight;      /* > 0: configured capacity, in any unit that all share */
	uint32_t idx;       /* in its set; 0 is asked first */
	uint64_t name_hash; /* XXH64 of the name, from when it was added to a set: placement's */
	/* Takes no blocks: was not reached when it was tried last, or recovers. Kept by the adapter, read
	 * by placement. */
	bool away;
};

#define FAR_L2_MEMORIES_MAX   16U
#define FAR_L2_TRANSPORTS_MAX 8U

/*
 * Memory beside the arena that the pieces of a LOAD may lie in. Shared by all adapters of a client; its
 * owner, their thread, changes an entry while no task has a piece in it. They do not overlap.
 */
struct far_l2_memory {
	void *base; /* NULL: free place */
	uint64_t size_bytes;
	struct far_mem *mems[FAR_L2_TRANSPORTS_MAX]; /* mems[i] is registered with transports[i] */
};
struct far_l2_memories {
	struct far_l2_memory items[FAR_L2_MEMORIES_MAX];
};

/* What an adapter may use; all borrowed and outliving it. */
struct far_l2_env {
	struct far_clock *clock;
	struct far_rng *rng;
	/* For "donor": transports by address scheme, and their registrations of the L1 arena. */
	struct far_transport **transports;
	struct far_mem **arenas; /* arenas[i] is registered with transports[i] */
	/* Pieces lie on a device: their addresses are numbers, and nothing here touches a byte of them.
	 * Not with verify_always. */
	bool arena_is_device;
	const struct far_l2_memories *memories; /* NULL: none */
	size_t transport_count;
	const char *client_name;
	uint64_t connect_timeout_ns; /* of one attempt to connect and be welcomed */
	uint64_t retry_ns_min;       /* back-off between attempts */
	uint64_t retry_ns_max;
	bool verify_always;            /* CRC of every loaded block */
	struct far_helpers *helpers;   /* take part in checksums; borrowed; NULL: none */
	struct far_recorder *recorder; /* told when a donor goes up and down; NULL: none */
};

struct far_l2_config {
	const char *
		where; /* for errors: its place in the configuration, "donors[2]"; NULL: its name */
	const char *type;        /* "donor", "memory", "fault" */
	const char *name;        /* donor: the name that must answer */
	const char *address;     /* donor: "shm:/path,ucx:host:port" */
	const char *transport;   /* donor: the only scheme that is used; NULL, "auto": any */
	const char *name_space;  /* NULL: "default" */
	double weight;           /* 0: 1 */
	uint64_t capacity_bytes; /* memory */
	uint64_t latency_ns;     /* memory: simulated */
	uint64_t bytes_per_s;    /* memory: simulated, 0: unlimited */
	const struct far_l2_config *inner; /* fault: what it is put around; borrowed for the call */
	const char *faults; /* fault: rules, as l2/fault/README.md says; NULL: none */
	uint64_t seed;      /* fault: chooses keys where a rule has a rate */
};

/**
 * far_l2_open - makes an adapter of a registered type.
 *
 * Returns: 0, or -EINVAL with one line in @error that begins with place and field, as in
 *          "donors[2].address: ..." (unknown types list the known ones), -ENOMEM.
 *          A donor that cannot be reached is no error: its state says so.
 */
int far_l2_open(const struct far_l2_config *config, const struct far_l2_env *env,
		struct far_l2 **out, char error[256]);

static inline void
far_l2_submit(struct far_l2 *l2, struct far_l2_task *task)
{
	FAR_ASSERT(task->count > 0);
	FAR_ASSERT(task->count <= l2->limits.items_max);
	FAR_ASSERT(task->done != NULL);
	task->l2 = l2;
	l2->ops->submit(l2, task);
}

/* The task's owner has no more use for it: what is not posted ends -ECANCELED, done still follows.
 */
static inline void
far_l2_cancel(struct far_l2 *l2, struct far_l2_task *task)
{
	FAR_ASSERT(task->l2 == l2);
	l2->ops->cancel(l2, task);
}

/* Gives back one lookup's lock per key; always succeeds. */
static inline void
far_l2_unlock(struct far_l2 *l2, const struct far_key *keys, size_t count)
{
	l2->ops->unlock(l2, keys, count);
}

/* Asks the store how full it is. 0: @done follows, by the rules of tasks; else it does not:
 * -EHOSTDOWN, -EAGAIN (too many questions), -ECANCELED (quiesced). */
static inline int
far_l2_usage_ask(struct far_l2 *l2, far_l2_usage_fn *done, void *arg, uint64_t deadline_ns)
{
	return l2->ops->usage_ask(l2, done, arg, deadline_ns);
}

static inline void
far_l2_list(struct far_l2 *l2, struct far_l2_listing *listing)
{
	FAR_ASSERT(listing->entries_max > 0);
	FAR_ASSERT(listing->done != NULL);
	listing->rc = 0;
	listing->count = 0;
	l2->ops->list(l2, listing);
}

/* Ends due tasks, connects again, flushes batches. Returns when it wants to be called next. */
static inline uint64_t
far_l2_tick(struct far_l2 *l2, uint64_t now_ns)
{
	return l2->ops->tick(l2, now_ns);
}

static inline void
far_l2_status_get(const struct far_l2 *l2, struct far_l2_status *out)
{
	l2->ops->status(l2, out);
}

/* No new tasks are taken (they end -ECANCELED); far_l2_quiesced() is true when the last has ended
 * and the store was left in good order. Then close. */
static inline void
far_l2_quiesce(struct far_l2 *l2)
{
	l2->ops->quiesce(l2);
}

static inline bool
far_l2_quiesced(const struct far_l2 *l2)
{
	return l2->ops->quiesced(l2);
}

/* Quiesced before: asserted. Takes NULL. */
void far_l2_close(struct far_l2 *l2);

/* registry.c; for adapters: writes such a line, and returns -EINVAL. @field NULL: the whole of it. */
int far_l2_config_error(const struct far_l2_config *config, const char *field, char error[256],
			const char *format, ...) __attribute__((format(printf, 4, 5)));
struct far_l2_type {
	const char *name;
	int (*open)(const struct far_l2_config *config, const struct far_l2_env *env,
		    struct far_l2 **out, char error[256]);
};
const struct far_l2_type *far_l2_type_find(const char *name);
/* "donor, fault, memory" */
const char *far_l2_type_names(void);

#endif
