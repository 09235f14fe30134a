/* handle.h - a prefetch as its caller holds it: reusable, shared by the caller and the thread. */
#ifndef FAR_CLIENT_HANDLE_H
#define FAR_CLIENT_HANDLE_H

#include "client/client_priv.h"

#define FAR_HANDLE_ENDED    (1U << 0)
#define FAR_HANDLE_RELEASED (1U << 1)

/*
 * References: the caller's until release, the thread's until the request has ended, and one for a
 * cancel command that is on its way. The last one puts the handle back on the free list.
 */
struct far_prefetch_handle {
	struct far_prefetch_req req;
	struct far_command submit;
	struct far_command cancel;
	struct far_list node; /* in handles_live or handles_free, under pool_lock */
	struct far_client *client;
	size_t capacity; /* keys that the arrays below have room for */
	struct far_key *keys;
	uint32_t *sizes;
	struct far_prefetch_view *views;
	struct far_l1_grant *grants;
	uint64_t *loans;
	int *rcs;
	_Atomic uint32_t refs;
	_Atomic uint32_t state; /* futex: FAR_HANDLE_* */
	_Atomic uint32_t cancelled;
	_Atomic uint32_t prefix_count;
	_Atomic int event_fd; /* -1: none was asked for */
	uint64_t l1_prefix;
	uint64_t submit_ns;
	/* Written before FAR_HANDLE_ENDED, read after it. */
	uint64_t ended_ns;
	uint64_t l2_bytes;
	uint64_t request_id;
	int rc;
	int gap_rc;
};

#endif
