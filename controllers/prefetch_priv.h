/* prefetch_priv.h - the parts of the prefetch controller: requests, windows, loads, lookups. */
#ifndef FAR_CONTROLLERS_PREFETCH_PRIV_H
#define FAR_CONTROLLERS_PREFETCH_PRIV_H

#include "controllers/prefetch.h"

/*
 * A request's keys are taken a window at a time. What is not in L1 becomes a load: one per key, which
 * belongs to its window and not to the request, and ends by itself. Requests hold interests in loads:
 * the views of their keys, in the load's list. A load is looked up (lookups: one task per adapter and
 * window), planned, reserved in L1, posted (tasks: runs of the window's slots), and flipped.
 *
 * A request that has a shape walks its cells first to find out which there are (request->finding): its
 * interests leave their loads as soon as one is found, and nothing is planned for them.
 *
 * Adapter events only record: they flip, decide views and mark requests dirty. Everything else, and
 * every callback, runs from the tick, so that nothing here is entered twice.
 */

/* Adapters kept per load to fall back to; more that have the key are unlocked at once. */
#define PREFETCH_FOUND_MAX 4
/* A lookup that takes longer than this does not hold up keys that were found elsewhere. */
#define PREFETCH_PATIENCE_NS (5 * FAR_NS_PER_MS)
/* What a request that waits for memory asks for halves as often as this, down to its first block. */
#define PREFETCH_AGE_NS      (8 * FAR_NS_PER_MS)
#define PREFETCH_WAIT_NS_MIN (1 * FAR_NS_PER_MS)
#define PREFETCH_WAIT_NS_MAX (64 * FAR_NS_PER_MS)
/* What is known of an adapter's pace is forgotten, so that one that was slow once is tried again. */
#define PREFETCH_PACE_NS FAR_NS_PER_S

/* view->stage: the load it waits for, as index + 1; whether another request had begun it; whether it
 * was found anywhere. */
#define PREFETCH_STAGE_JOINED (1U << 31)
#define PREFETCH_STAGE_FOUND  (1U << 30)
#define PREFETCH_STAGE_LOAD   (PREFETCH_STAGE_FOUND - 1)

struct prefetch_request {
	struct far_prefetch_req *req; /* NULL: free */
	struct far_list node;         /* active, waiting, ending or free */
	struct far_list dirty;
	uint32_t cursor;       /* the next key to begin */
	uint32_t limit;        /* keys from here on are not wanted: the first gap, or count */
	uint32_t trimmed;      /* the limit that was last carried out */
	uint32_t decided;      /* keys from the first whose end is known */
	uint32_t prefix_count; /* readable from the first */
	uint32_t loans;        /* views that hold a loan */
	uint32_t loads;        /* views that wait for a load that has memory */
	uint32_t loaded;       /* views that were read from an adapter */
	uint32_t joined;       /* views that waited for a load of another request's */
	bool ending;           /* cancelled: only ended() is left */
	bool finding;          /* with a shape: finds out which cells there are, and locks none */
	bool refold;           /* with a shape: a cell that is needed is missing */
	uint64_t due_ns;       /* its deadline, or when it has been finding for long enough */
	bool admitted;         /* past the queue for memory */
	uint64_t bytes_need;   /* of memory, as far as is known */
	uint64_t bytes_first;  /* of the block that it could not get */
	uint64_t waits_since;  /* 0: never waited */
	uint64_t wait_ns;      /* back-off */
	uint64_t retry_ns;     /* not before */
};

enum prefetch_load_state {
	PREFETCH_LOOKUP,   /* asked for */
	PREFETCH_FOUND,    /* a source is chosen; no memory yet */
	PREFETCH_RESERVED, /* has a buffer, in no task */
	PREFETCH_POSTED,   /* in a task: the buffer is the adapter's until done */
};

struct prefetch_found {
	uint32_t adapter;
	uint32_t size_bytes;
	bool locked;
	uint64_t hint[FAR_L2_HINT_WORDS];
};

struct prefetch_task;

struct prefetch_load {
	struct far_key key;
	uint64_t id;                    /* never repeats: lookups that come late are told apart */
	struct prefetch_load *next;     /* in its bucket, or free */
	struct far_list interests;      /* views; empty: abandoned */
	struct far_prefetch_view *only; /* the one that waits, while no other did */
	struct prefetch_window *window;
	uint32_t window_idx;
	enum prefetch_load_state state;
	bool pinned;        /* its interests are being walked: it is not ended under the walker */
	uint64_t ask_mask;  /* adapters to ask */
	uint64_t pend_mask; /* asked, not answered */
	int miss_rc;        /* the strongest reason so far why it is nowhere */
	uint32_t route_count;
	uint32_t found_count;
	uint32_t source;     /* of found: loads it */
	uint32_t size_bytes; /* from PREFETCH_FOUND on */
	uint64_t loan;       /* from PREFETCH_RESERVED on: the write loan */
	bool loan_is_over;   /* deleted by force under us: the flip has ended the loan */
	bool temporary;      /* the policy does not retain it: who waits at the flip may */
	void *addr;
	uint32_t charged_adapter;
	uint32_t charged_bytes; /* of its budget; 0: none */
	uint32_t planned_adapter;
	uint32_t planned_bytes; /* in that one's queue; 0: none */
	struct prefetch_task *task;
	uint32_t number; /* index + 1, for views' stages; for good */
	/* The rest above is set anew when a load begins; these are as long as their counts say. */
	uint8_t route[FAR_L2_SET_MAX];
	struct prefetch_found found[PREFETCH_FOUND_MAX]; /* in route order */
};

/* A load task: slots [first, first + task.count) of its window. */
struct prefetch_task {
	struct far_l2_task task;
	struct far_prefetch *ctl;
	struct prefetch_window *window;
	uint32_t first;
	uint32_t wanted; /* loads in it that somebody waits for */
	uint64_t posted_ns;
	bool live;
	bool cancelled;
};

/* What begins together. Arrays of window_keys each. */
struct prefetch_window {
	struct far_list node; /* live or free */
	uint64_t id;          /* never repeats: lookups that come late are told apart; 0: free */
	uint64_t request_id;  /* whose keys they are */
	uint64_t began_ns;
	uint32_t
		sole; /* the adapter that may have any of its keys; FAR_L2_SET_MAX: the policy is asked for each */
	uint64_t ask_mask; /* all that is to be asked, while nobody was: later the loads know */
	uint32_t lookups;  /* asked for it and not answered */
	uint32_t load_count;
	uint32_t live;                /* loads that have not ended */
	uint32_t begun;               /* of them, those that have no buffer */
	uint32_t ready;               /* and those that have one and are in no task */
	bool attention;               /* something came: step it */
	bool asks;                    /* a load may have somebody to ask */
	bool starved;                 /* waits for a lookup, a task or the byte budget */
	bool late;                    /* patience is over */
	struct prefetch_load **loads; /* in key order; NULL: ended */
	struct prefetch_load **slots; /* slots of tasks; NULL: free */
	struct far_l2_item *items;
	struct far_l2_piece *pieces;
	struct prefetch_task *tasks; /* at its first slot */
};

struct prefetch_ref {
	struct prefetch_load *load;
	uint64_t id;
};

/* A lookup task. Outlives loads and windows: it names loads by id. */
struct prefetch_lookup {
	struct far_l2_task task;
	struct far_prefetch *ctl;
	struct prefetch_lookup *next; /* free */
	bool live;
	bool cancelled;
	uint64_t request_id; /* whose window asked */
	struct prefetch_window *window;
	uint64_t window_id;
	uint64_t asked_ns;
	struct far_l2_item *items;
	struct prefetch_ref *refs;
};

struct prefetch_adapter {
	uint32_t lookups_live;
	uint32_t tasks_live;
	uint64_t bytes_in_flight;
	uint64_t bytes_planned; /* of loads that it is to load, from their plan to their end */
	double ns_per_byte;     /* of its load tasks, averaged over the last few; 0: none yet */
	uint64_t measured_ns;   /* when the last of them ended */
	uint32_t unlock_count;  /* keys that wait to be unlocked */
	struct far_key *unlock_keys; /* its row of the controller's; for good */
	uint32_t generation;         /* of the set, when it was met last */
};

struct far_prefetch {
	struct far_prefetch_config config;
	struct far_l1 *l1;
	const struct far_l2_set *set;
	const struct far_policy *policy;
	struct far_clock *clock;
	far_l1_session
		session; /* write loans, and the read loans of WARM requests while they live */
	uint64_t l1_capacity_bytes;

	struct prefetch_request *requests;
	struct far_list requests_free;
	struct far_list active;  /* in order of submission */
	struct far_list waiting; /* hold nothing, wait for memory */
	struct far_list ending;  /* cancelled */
	struct far_list dirty;
	uint32_t requests_live;
	uint64_t request_id;
	uint64_t deadline_next;    /* no request is due before */
	uint64_t wait_next;        /* nobody in the queue for memory is tried before */
	uint32_t block_bytes_seen; /* guesses what a request needs that names no sizes */

	struct prefetch_load *loads;
	struct prefetch_load *loads_free;
	struct prefetch_load **buckets;
	uint64_t bucket_mask;
	uint32_t loads_live;
	uint64_t load_id;

	struct prefetch_window *windows;
	uint32_t windows_max;
	uint64_t window_id;
	struct far_list windows_free;
	struct far_list windows_live;
	/* Behind windows' and lookups' arrays. */
	struct prefetch_load **window_loads;
	struct far_l2_item *window_items;
	struct far_l2_piece *window_pieces;
	struct prefetch_task *window_tasks;

	struct prefetch_lookup *lookups;
	struct prefetch_lookup *lookups_free;
	struct far_l2_item *lookup_items;
	struct prefetch_ref *lookup_refs;
	uint32_t lookups_max;
	uint32_t lookups_live;

	struct prefetch_adapter adapters[FAR_L2_SET_MAX];
	struct far_key *unlock_keys; /* window_keys per adapter */
	uint64_t bytes_in_flight;
	uint64_t tick_ns; /* of the last tick */

	/* Scratch of one call, window_keys each. */
	uint32_t *picks;      /* indices of a request's keys */
	struct far_key *keys; /* those keys */
	struct far_l1_grant *grants;
	struct far_l1_want *wants;
	struct prefetch_ref *refs;
	uint64_t *loans;
	int *rcs;
	/* The same, keys_max bits each. */
	uint64_t *cell_words;
	uint64_t *need_words;
	uint64_t *chunk_words;

	bool kicked; /* something was freed or submitted: try to begin more */
	bool quiescing;
	struct far_record_tally tally; /* empty between calls */
	struct far_prefetch_counts counts;
};

/* prefetch.c: an adapter that is new at its position finds nothing of the one before it (asserted). */
void far_prefetch_adapter_renew(struct far_prefetch *ctl, uint32_t adapter);

/* prefetch_request.c */
bool far_prefetch_request_holds(const struct prefetch_request *request);
/* Decides a view: readable with this loan, or never (rc != 0). The view is in no load's list. */
void far_prefetch_view_grant(struct far_prefetch *ctl, struct far_prefetch_view *view,
			     const struct far_l1_grant *grant, int32_t adapter);
void far_prefetch_view_miss(struct far_prefetch *ctl, struct far_prefetch_view *view, int rc);
/* It holds nothing and found no memory: back to the queue, without its interests. */
void far_prefetch_request_wait(struct far_prefetch *ctl, struct prefetch_request *request,
			       uint32_t size_bytes);
/* Views [first, end) are not wanted any more: undecided ones get @rc, readable ones -ECANCELED. */
void far_prefetch_request_drop(struct far_prefetch *ctl, struct prefetch_request *request,
			       uint32_t first, uint32_t end, int rc, bool cancel);
/* What it may need of L1 for its undecided keys: by the sizes it names, else by the block that was
 * seen last. */
uint64_t far_prefetch_request_bytes(const struct far_prefetch *ctl,
				    const struct prefetch_request *request);
/* Prefix, gap, end. May call back; @request may be gone after it. */
void far_prefetch_request_settle(struct far_prefetch *ctl, struct prefetch_request *request);
/* By its deadline. */
void far_prefetch_request_expire(struct far_prefetch *ctl, struct prefetch_request *request);
void far_prefetch_request_cancel(struct far_prefetch *ctl, struct prefetch_request *request);
/* Runs ended() of a cancelled one. */
void far_prefetch_request_deliver(struct far_prefetch *ctl, struct prefetch_request *request);
/* Lets requests of the queue go that fit the memory that can be had now. */
void far_prefetch_request_admit(struct far_prefetch *ctl, uint64_t now_ns);

/* prefetch_rows.c: requests with a shape */
/* The cell is missing. */
void far_prefetch_rows_miss(struct prefetch_request *request, uint32_t idx);
/* Chooses the longest prefix that what there is can serve, and drops what it does not need. */
void far_prefetch_rows_fold(struct far_prefetch *ctl, struct prefetch_request *request);
/* What was not found by now is missing. */
void far_prefetch_rows_stop_finding(struct far_prefetch *ctl, struct prefetch_request *request);
/* Settles for what is readable, and what L1 has. */
void far_prefetch_rows_expire(struct far_prefetch *ctl, struct prefetch_request *request);

/* prefetch_window.c */
/* Begins the request's next window if there is room; false: nothing was begun. */
bool far_prefetch_window_begin(struct far_prefetch *ctl, struct prefetch_request *request,
			       uint64_t now_ns);
void far_prefetch_window_step(struct far_prefetch *ctl, struct prefetch_window *window,
			      uint64_t now_ns);

/* prefetch_load.c */
struct prefetch_load *far_prefetch_load_find(const struct far_prefetch *ctl,
					     const struct far_key *key);
void far_prefetch_load_join(struct far_prefetch *ctl, struct prefetch_load *load,
			    struct far_prefetch_view *view, bool joined);
/* It is known to be somewhere, with a length that the view wants. */
bool far_prefetch_load_has(const struct prefetch_load *load, const struct far_prefetch_view *view);
/* It was found with this length: those who wait for it are told, and those who want to know no more
 * wait no longer. The load may have ended after it. */
void far_prefetch_load_found(struct far_prefetch *ctl, struct prefetch_load *load,
			     uint32_t size_bytes);
/* The view waits no longer. A load without interests ends if it has no buffer at an adapter;
 * @cancel: a task that nobody waits for is cancelled. */
void far_prefetch_load_leave(struct far_prefetch *ctl, struct far_prefetch_view *view, bool cancel);
/* All interests get @rc; then the load is over. */
void far_prefetch_load_miss(struct far_prefetch *ctl, struct prefetch_load *load, int rc);
void far_prefetch_load_close(struct far_prefetch *ctl, struct prefetch_load *load);
/* Whether somebody waits for it who wants it to stay, whatever the policy says. */
bool far_prefetch_load_is_retained(const struct prefetch_load *load);
/* Chooses a source among the found that fits somebody; false: there is none. */
bool far_prefetch_load_plan(struct far_prefetch *ctl, struct prefetch_load *load);
void far_prefetch_load_found_drop(struct far_prefetch *ctl, struct prefetch_load *load,
				  uint32_t idx);

/* prefetch_task.c */
/* Plans what was looked up; buffers for planned loads in key order if it is the window's turn (@next); then
 * tasks for all that have one. Sets window->starved if something has to wait. */
void far_prefetch_window_reserve(struct far_prefetch *ctl, struct prefetch_window *window,
				 bool next);
void far_prefetch_window_post(struct far_prefetch *ctl, struct prefetch_window *window);
/* Nanoseconds per byte; 0: nothing recent is known. */
double far_prefetch_pace(const struct far_prefetch *ctl, uint32_t adapter);

/* prefetch_lookup.c */
/* Asks what is to be asked; sets window->starved if something has to wait. */
void far_prefetch_lookup_post(struct far_prefetch *ctl, struct prefetch_window *window);
/* What waits to be unlocked: at one adapter, at all. */
void far_prefetch_unlock_flush_one(struct far_prefetch *ctl, uint32_t adapter);
void far_prefetch_unlock_flush(struct far_prefetch *ctl);
/* Which of two reasons for a miss says more. */
int far_prefetch_miss_rc(int a, int b);

/* prefetch_record.c */
void far_prefetch_tell_begun(struct far_prefetch *ctl, const struct far_prefetch_req *req);
/* Its views and rc are final. */
void far_prefetch_tell_ended(struct far_prefetch *ctl, const struct far_prefetch_req *req);
void far_prefetch_tell_asked(struct far_prefetch *ctl, const struct far_l2_task *task,
			     enum far_record_kind kind, uint64_t request_id, uint64_t now_ns);
void far_prefetch_tell_answered(struct far_prefetch *ctl, const struct far_l2_task *task,
				enum far_record_kind kind, uint64_t request_id, uint64_t since_ns);
/* Counts it as well. */
void far_prefetch_tell_abandoned(struct far_prefetch *ctl, const struct prefetch_load *load,
				 int why);

#endif
