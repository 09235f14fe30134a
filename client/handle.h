/* handle.h - a prefetch as its caller holds it: reusable, shared by the caller and the thread. */
#ifndef FAR_CLIENT_HANDLE_H
#define FAR_CLIENT_HANDLE_H

#include "client/client_priv.h"
#include "client/session.h"

#define FAR_HANDLE_ENDED    (1U << 0)
#define FAR_HANDLE_RELEASED (1U << 1)
#define FAR_HANDLE_WAITED   (1U << 2) /* somebody sleeps for its end, or did */

/* The count and whether it is final, in one word: both are read at once. */
#define FAR_HANDLE_FOUND(count, final) ((uint64_t)(count) << 1 | (uint64_t)(final))

/*
 * References: the caller's until release, the thread's until the request has ended, and one for a
 * cancel command that is on its way. The last one puts the handle back on the free list.
 */
struct far_prefetch_handle {
	struct far_prefetch_req req;
	struct far_fold_shape shape;
	struct far_command submit;
	struct far_command cancel;
	struct far_list node; /* in handles_live or handles_free, under pool_lock */
	struct far_client *client;
	_Atomic(struct far_session *) session; /* its loans' owner; NULL: the client */
	size_t capacity;                       /* keys that the arrays below have room for */
	struct far_key *keys;
	uint32_t *sizes;
	struct far_prefetch_view *views;
	struct far_l1_grant *grants;
	int32_t *windows; /* of req.shape */
	uint64_t *loans;
	int *rcs;
	_Atomic uint32_t refs;
	_Atomic uint32_t state; /* futex: FAR_HANDLE_* */
	_Atomic uint32_t cancelled;
	_Atomic uint32_t prefix_count;
	_Atomic uint64_t found;   /* FAR_HANDLE_FOUND() of the estimate */
	_Atomic uint32_t readers; /* that have not released it */
	uint32_t flags;           /* FAR_PREFETCH_* */
	_Atomic int event_fd;     /* -1: none was asked for */
	uint64_t l1_prefix;
	uint64_t submit_ns;
	/* Written before FAR_HANDLE_ENDED, read after it. */
	uint64_t ended_ns;
	uint64_t l2_bytes;
	uint32_t readable_count;
	uint32_t chunk_count;
	uint64_t request_id;
	int rc;
	int gap_rc;
};

#endif
