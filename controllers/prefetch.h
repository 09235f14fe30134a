/* prefetch.h - from keys to read-locked L1 buffers: look up, plan, reserve, load, validate, flip.
 */
#ifndef FAR_CONTROLLERS_PREFETCH_H
#define FAR_CONTROLLERS_PREFETCH_H

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/recorder.h"
#include "controllers/fold.h"
#include "controllers/policy.h"
#include "l1/l1.h"
#include "l2/l2.h"

/* Used by one thread, its owner, which also drives the adapters. */
struct far_prefetch;

enum far_prefetch_mode {
	FAR_PREFETCH_LOOKUP, /* read-locked for the requester */
	FAR_PREFETCH_WARM,   /* resident and unlocked; locked by the controller until the end */
};

/* Which of the keys that can be had are kept. */
enum far_prefetch_trim {
	FAR_PREFETCH_TRIM_PREFIX, /* the run from the first key to the first gap */
	FAR_PREFETCH_TRIM_ALL,    /* all, whatever is missing between them */
	/* LMCache's two names of the latter: a prefix that may have holes, and keys here and there. */
	FAR_PREFETCH_TRIM_SEGMENTED = FAR_PREFETCH_TRIM_ALL,
	FAR_PREFETCH_TRIM_SPARSE = FAR_PREFETCH_TRIM_ALL,
};

/* What became of one key; results are final when the request has ended. */
struct far_prefetch_view {
	int rc; /* 0: readable (LOOKUP) or resident (WARM); -EINPROGRESS until decided; else why
		 * not; -ECANCELED behind the first gap, or out of the windows: not wanted */
	uint32_t size_bytes;
	uint64_t loan; /* read loan of the request's session; 0 in WARM mode */
	void *addr;
	int32_t adapter; /* it was loaded from; -1: it was in L1 */
	/* The controller's own until the request has ended. */
	struct far_list interest;
	struct far_prefetch_req *req;
	uint32_t stage;
};

struct far_prefetch_counts {
	uint64_t requests;
	uint64_t keys;
	uint64_t l1_hits; /* keys */
	uint64_t l2_hits;
	uint64_t loads_joined; /* keys that a load in flight for another request served */
	uint64_t bytes_loaded;
	uint64_t missed_not_found;
	uint64_t missed_donor_down;
	uint64_t missed_stale;
	uint64_t missed_checksum;
	uint64_t missed_length;
	uint64_t missed_no_memory;
	uint64_t missed_deadline;
	uint64_t missed_busy; /* the key was being written by somebody */
	uint64_t missed_error;
	uint64_t behind_gap;      /* keys not asked for because an earlier one was missing */
	uint64_t out_of_window;   /* cells that the prefix that is served does not need */
	uint64_t loads_abandoned; /* loads that ended after nobody wanted them */
	uint64_t deadline_hits;   /* requests that were answered by their deadline */
	uint64_t policy_nonsense; /* answers of the policy that could not be and were skipped */
};

/*
 * A request: filled in and owned by the caller, borrowed by the controller from submit until
 * @ended, which runs exactly once, from a later tick or adapter event, never inside submit or
 * cancel. After it no field is touched, though loads may still be on their way into L1.
 */
struct far_prefetch_req {
	const struct far_key *keys;
	const uint32_t *sizes;           /* NULL, or lengths asked for; 0 any */
	struct far_prefetch_view *views; /* [count]; views of a locked L1 prefix are filled by the
					  * caller: rc 0, loan, addr, size, adapter -1 */
	uint32_t count;
	uint32_t l1_prefix_count; /* views that the caller has filled */
	enum far_prefetch_mode mode;
	enum far_prefetch_trim trim;
	/*
	 * NULL, or the keys are the cells of a model with windows; with TRIM_PREFIX and without an L1
	 * prefix. All are looked up, nothing is locked or loaded; then the longest prefix of chunks
	 * that can be served is chosen, and the cells that it needs are loaded and kept. Should one
	 * fail, it is the longest that can be served without it. Lookups take half of the time to
	 * the deadline at most: what was not found by then counts as missing.
	 */
	const struct far_fold_shape *shape;
	/* For benchmarks: nothing is served that L1 has already. What nobody holds of it is deleted and
	 * loaded anew; what somebody holds is a miss, -EBUSY. Without a shape or an L1 prefix. */
	bool past_l1;
	uint32_t readers;            /* counts of each read loan, 1.. */
	uint64_t deadline_ns;        /* answered by then with what is readable */
	far_l1_session session;      /* owns the loans; keys that come when it is closed: -EPERM */
	struct far_bitmap *readable; /* NULL, or a bit per key, borrowed; written when it ends */
	/* The run of readable keys from the first has grown to @prefix_count. */
	void (*advanced)(struct far_prefetch_req *req, uint32_t prefix_count);
	/* NULL, or: @found_count or @found_is_final has changed. */
	void (*found)(struct far_prefetch_req *req);
	/* Loans of the views with rc 0 are the requester's now, all others are released: the views
	 * [0 .. prefix_count), and with TRIM_ALL those behind gaps. */
	void (*ended)(struct far_prefetch_req *req);
	int rc;                /* out: 0; -ETIMEDOUT: by its deadline; -ECANCELED */
	uint32_t prefix_count; /* out: readable keys from the first */
	uint32_t chunk_count;  /* out, with a shape: chunks that are served */
	/* Out, from the submit on: the run of keys from the first that lookups have found so far. An
	 * estimate: their loads may still fail. It only grows; final when it can grow no more. With
	 * a shape: 0, until it is all cells of the chunks that can be served, and final. */
	uint32_t found_count;
	bool found_is_final;
	uint64_t request_id; /* out: grows by one with each submit */
	/* The controller's own. */
	struct far_list node;
	uint64_t priv[16];
};

struct far_prefetch_config {
	uint32_t requests_max; /* live; more are refused with -E2BIG */
	uint32_t keys_max;     /* of one request */
	uint32_t loads_max;    /* keys in flight from all adapters together: slots, preallocated */
	uint64_t bytes_in_flight_max;
	uint32_t window_keys;          /* keys that are looked up and loaded together: 64 */
	uint64_t window_bytes;         /* 0: the adapter's load_bytes_best */
	uint32_t windows_ahead;        /* windows of a request in flight: 4 */
	struct far_recorder *recorder; /* borrowed; NULL: nothing is recorded */
};

/* All borrowed and outliving the controller. Returns 0, -EINVAL, -ENOMEM. */
int far_prefetch_open(const struct far_prefetch_config *config, struct far_l1 *l1,
		      const struct far_l2_set *set, const struct far_policy *policy,
		      struct far_clock *clock, struct far_prefetch **out);
/* 0, or -EINVAL, -E2BIG, -ECANCELED (quiesced): then nothing was accepted, @ended does not run, and
 * the loans of the L1 prefix are still the caller's. */
int far_prefetch_submit(struct far_prefetch *ctl, struct far_prefetch_req *req);
/* @ended follows with -ECANCELED and prefix_count 0; every loan of the request is released. No
 * effect on a request that has ended. */
void far_prefetch_req_cancel(struct far_prefetch *ctl, struct far_prefetch_req *req);
/* Starts what can start, ends what is due; called after each round of adapter events, since all that
 * callbacks and new tasks wait for happens here. Returns when it wants to be called next. */
uint64_t far_prefetch_tick(struct far_prefetch *ctl, uint64_t now_ns);
/* Cancels all requests; far_prefetch_idle() is true when no request and no load is left. */
void far_prefetch_quiesce(struct far_prefetch *ctl);
bool far_prefetch_idle(const struct far_prefetch *ctl);
/* Anything here names the set's position @adapter: one that was drained may be removed when this is
 * false. False for good, as a drained one is proposed no more. Looks at all loads. */
bool far_prefetch_names(const struct far_prefetch *ctl, uint32_t adapter);
/* Idle before: asserted. Takes NULL. */
void far_prefetch_close(struct far_prefetch *ctl);
void far_prefetch_counts_get(const struct far_prefetch *ctl, struct far_prefetch_counts *out);

#endif
