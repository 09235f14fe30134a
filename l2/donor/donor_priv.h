/* donor_priv.h - what the files of l2/donor share: jobs that read, batches that write, one link. */
#ifndef FAR_L2_DONOR_DONOR_PRIV_H
#define FAR_L2_DONOR_DONOR_PRIV_H

#include <string.h>

#include "base/list.h"
#include "base/pages.h"
#include "l2/donor/donor.h"
#include "wire/frame.h"
#include "wire/index.h"

#define DONOR_TASKS_MAX 1024U
#define DONOR_ITEMS_MAX 1024U
#ifndef DONOR_JOBS               /* the simulation has fewer: more tasks wait for one */
#define DONOR_JOBS          16U  /* lists of READs in flight */
#define DONOR_JOB_ITEMS_MAX 128U /* keys of one lookup list */
#endif
#define DONOR_LOAD_BLOCKS_MAX 64U /* blocks of one load list */
#define DONOR_LOAD_BYTES_BEST (4ULL << 20)
#define DONOR_REREADS_MAX     8U /* of a torn line */
#define DONOR_FOLLOWS_MAX     2U /* of a block that moved under the read */
#define DONOR_BATCHES         8U /* COMMITs in flight */
#define DONOR_BATCH_BLOCKS    256U
#define DONOR_LANES           4U    /* one filled, one in reserve, the others being ended */
#define DONOR_PIECES_MAX      4096U /* of the data in one posted list */
#define DONOR_TABLE_CHUNK     1024U /* table lines of one READ */
#define DONOR_RECOVERS_NS     (100 * FAR_NS_PER_MS) /* between looks at one that recovers */
#define DONOR_TABLE_MAX       65536U
#define DONOR_RECALLS_MAX     64U
#define DONOR_REJECTS_MAX     8U
#define DONOR_TOUCH_KEYS      256U
#define DONOR_TOUCH_NS        (100 * FAR_NS_PER_MS)
#define DONOR_TOUCH_UNHEARD   8U /* TOUCH frames without a word from the donor */
#define DONOR_QUIESCE_NS      (100 * FAR_NS_PER_MS)
#define DONOR_REFUSED_FACTOR  10U /* how much slower a refused donor is asked again */
#define DONOR_STATS_ASKS      8U
#define DONOR_LIST_SETS       64U /* sets of one READ of a listing */

/* far_l2_item.rc while its task is live: above zero, so that no result is mistaken for it. */
enum {
	ITEM_QUEUED = 1, /* no job has it, or a job is reading for it */
	ITEM_TO_STORE,   /* looked up, not held: waits for a lane */
	ITEM_WRITTEN,    /* in a batch */
};

/* The words of far_l2_task.priv. */
enum {
	PRIV_STAGE,   /* enum donor_stage: which list it is on */
	PRIV_NEXT,    /* READ, STORE: items below were given to a job, a batch, or have ended */
	PRIV_LEFT,    /* items that have not ended */
	PRIV_LOOKING, /* STORE: items whose lookup has not ended */
	PRIV_END_RC,  /* positive errno for whatever is not posted; 0: none */
	PRIV_TAG,     /* DELETE: of its frame; 0: not sent */
};

enum donor_stage {
	STAGE_READ,  /* has items that no job has taken */
	STAGE_STORE, /* has items that wait for a lane */
	STAGE_DELETE,
	STAGE_BUSY,  /* all its items are with jobs and batches */
	STAGE_ENDED, /* done() is due */
	STAGE_COUNT
};

enum donor_link_state {
	LINK_IDLE, /* no link; next attempt at next_try_ns */
	LINK_CONNECTING,
	LINK_WELCOME, /* HELLO sent, or waiting for a credit to send it */
	LINK_HEADER,  /* reading the header */
	LINK_TABLE,   /* reading the segment table for the first time */
	LINK_UP,
	LINK_CLOSING, /* disconnected; FAR_EV_CLOSED is on the way */
};

/* hint words: the slot, then where it lies in the index memory, then the epoch. */
enum {
	HINT_SLOT = 0,
	HINT_AT = 8,
	HINT_EPOCH = 9,
};

/* One item of a job. */
struct donor_entry {
	uint16_t item;
	uint8_t follows;  /* how often its block was not where the hint said */
	uint8_t rereads;  /* of torn sets */
	bool look_up;     /* no slot to go by */
	bool table_tried; /* the table was read again for its segment */
	uint64_t bytes;   /* LOAD, STORE: of the item's pieces */
};

enum donor_phase {
	PHASE_LOOKUP,
	PHASE_LOAD,     /* data and validation */
	PHASE_VALIDATE, /* validation again: the live line was torn */
};

/* A list of READs for items of one task: posted, or waiting to be posted again. */
struct donor_job {
	struct far_list node; /* jobs_free, jobs_posted, jobs_blocked or jobs_table */
	uint32_t idx;
	struct far_l2_task *task;
	enum donor_phase phase;
	bool posted;
	bool alone; /* one block a list, since a list of several failed */
	uint32_t count;
	uint32_t active; /* entries[0..active) are in the posted list */
	uint32_t live_rereads;
	uint64_t seq;        /* of the post */
	uint64_t table_want; /* goes on when a table read with this number has ended */
	uint8_t *scratch;    /* DONOR_JOB_SCRATCH, registered */
	uint64_t sets[DONOR_JOB_ITEMS_MAX][2]; /* PHASE_LOOKUP: numbers of each entry's two sets */
	struct donor_entry entries[DONOR_JOB_ITEMS_MAX];
	struct far_rkey
		rkeys[DONOR_LOAD_BLOCKS_MAX]; /* PHASE_LOAD: that the active entries read by */
	struct {
		uint32_t crc32c; /* of what was read, by who copied it */
		bool told;
	} sums[DONOR_LOAD_BLOCKS_MAX]; /* of the active entries */
};

#define DONOR_SET_BYTES   ((uint64_t)FAR_SET_BYTES)
#define DONOR_JOB_SCRATCH (DONOR_SET_BYTES * 2 * DONOR_JOB_ITEMS_MAX)

enum donor_lane_state {
	LANE_NONE,
	LANE_OPEN,
	LANE_ENDING, /* END goes with its last COMMIT, or with an empty one */
};

struct donor_lane {
	enum donor_lane_state state;
	uint64_t serial;
	uint64_t addr;
	struct far_rkey rkey;
	uint64_t size_bytes;
	uint64_t fill_bytes;
	uint32_t unsent; /* batches whose COMMIT is not sent */
};

/* WRITEs and the COMMIT behind them. */
struct donor_batch {
	struct far_list node; /* batches_free, batches_unsent or batches_sent */
	uint32_t idx;
	bool written; /* its WRITEs have completed */
	bool summed;  /* their completions tell checksums that its COMMIT has to have */
	bool answered;
	uint64_t tag;
	uint64_t serial;
	struct far_rkey rkey;    /* of the lane that it is written to */
	struct donor_lane *lane; /* until the COMMIT is sent or the link is down */
	uint64_t fill_bytes;     /* of the lane, with this batch in it */
	uint32_t count;
	struct {
		struct far_l2_task *task;
		uint32_t item;
		bool summed; /* by whoever copies it */
	} entries[DONOR_BATCH_BLOCKS];
	struct far_frame_block blocks[DONOR_BATCH_BLOCKS];
	int32_t results[DONOR_BATCH_BLOCKS];
};

/* A segment that can be read. */
struct donor_segment {
	uint32_t number; /* 0: free place */
	uint64_t addr;
	uint64_t size_bytes;
	struct far_rkey rkey;
};

struct donor_segment_map {
	struct donor_segment *places; /* owned; open addressing, at most half full */
	uint32_t mask;
	uint32_t last; /* the place that was found last: mostly asked for again */
};

/* A segment that is going away; gone when no posted list can name it. */
struct donor_recall {
	uint32_t segment;
	struct far_rkey rkey;
	bool known;   /* rkey is set */
	bool drained; /* only the SEGMENT_GONE is missing */
	uint64_t seq; /* posts before this one may name it */
};

struct donor_stats_ask {
	uint64_t tag;          /* 0: free */
	bool lost;             /* the link that it went over is down */
	far_l2_stats_fn *done; /* one of the two */
	far_l2_usage_fn *usage_done;
	void *arg;
	uint64_t deadline_ns;
};

/* One of the donor's addresses. */
struct donor_path {
	struct far_address address;
	struct far_transport *tp;    /* borrowed; NULL: its transport is not open here */
	struct far_mem *arena;       /* borrowed; as registered with @tp */
	size_t tp_idx;               /* of @tp among those of the environment */
	struct far_mem *scratch_mem; /* owned */
	bool refused;                /* at last, for a reason that an operator has to mend */
	char note[128];              /* why it cannot be used, or why it failed */
};

struct far_donor {
	struct far_l2 l2;
	struct far_l2_env env;
	char name[FAR_NAME_BYTES_MAX + 1];
	char name_space[FAR_NAME_BYTES_MAX + 1];
	struct donor_path paths[FAR_ADDRESSES_MAX]; /* the preferred one first */
	uint32_t path_count;
	bool path_forced;            /* the configuration leaves no choice */
	struct donor_path *path;     /* in use, or tried next; what follows is of it */
	struct far_transport *tp;    /* borrowed */
	struct far_mem *arena;       /* borrowed; NULL: no L1, nothing can be loaded or stored */
	struct far_mem *scratch_mem; /* borrowed */
	struct far_pages pages;      /* owned scratch: jobs, header, table chunk, live line */
	uint8_t *scratch_header;
	uint8_t *scratch_table;
	uint8_t *scratch_live;
	uint8_t *scratch_list;

	/* link.c */
	struct far_link_handler handler;
	struct far_link *link; /* owned; NULL: none */
	enum donor_link_state link_state;
	enum far_l2_state state;
	int state_rc;
	char log_text[FAR_L2_TEXT_BYTES]; /* the last reason that was logged */
	char text[FAR_L2_TEXT_BYTES];
	bool hello_unsent;
	bool bye_sent;
	uint32_t attempts;
	uint64_t attempt_deadline_ns;
	uint64_t next_try_ns;
	uint64_t up_ns;
	uint64_t client_id;
	uint64_t tag_last;

	/* index.c */
	uint64_t epoch;
	uint64_t index_addr;
	uint32_t rail; /* of the table's lines that are for this link */
	struct far_rkey index_rkey;
	uint64_t index_bytes;
	struct far_index_header header;    /* checked copy */
	struct donor_segment_map map;      /* in use */
	struct donor_segment_map map_next; /* being filled by a table read */
	bool header_posted;
	bool table_reading;
	bool table_blocked; /* its next READ could not be posted yet */
	bool recovers;      /* its live line says so: it takes no blocks, and what it holds grows */
	uint32_t header_rereads;
	uint32_t table_at; /* line that the posted chunk begins with */
	uint32_t table_rereads;
	uint64_t table_started; /* number of the table read that was started last */
	uint64_t table_ended;
	uint64_t recovers_look_ns; /* when that line is read again, at the latest */
	struct donor_recall recalls[DONOR_RECALLS_MAX];
	uint32_t recall_count;
	uint32_t gone[DONOR_RECALLS_MAX]; /* recalled numbers, newest overwrite oldest */
	uint32_t gone_at;

	/* tasks */
	struct far_list stages[STAGE_COUNT];
	uint32_t tasks_live;
	bool ticking;
	bool quiescing;
	uint64_t deadline_next_ns; /* no live task has an earlier one that was not seen to */
	uint64_t quiesce_deadline_ns;

	/* lookup.c, load.c */
	struct donor_job *jobs; /* owned, DONOR_JOBS */
	struct far_list jobs_free;
	struct far_list jobs_posted;
	struct far_list jobs_blocked;
	struct far_list jobs_table;
	uint64_t post_seq;

	/* store.c */
	struct donor_batch *batches; /* owned, DONOR_BATCHES */
	struct far_list batches_free;
	struct far_list batches_unsent; /* in order of their WRITEs */
	struct far_list batches_sent;
	struct donor_lane lanes[DONOR_LANES];
	struct donor_lane *lane; /* being filled */
	struct donor_lane *reserve;
	uint32_t asks;       /* LANE_ASKs that were not answered */
	bool reserve_denied; /* until the next task */

	/* notes.c */
	struct far_key touch[DONOR_TOUCH_KEYS];
	uint32_t touch_count;
	bool touch_due; /* the tick said so */
	uint64_t touch_next_ns;
	uint32_t touch_unheard;
	uint8_t rejects[DONOR_REJECTS_MAX][FAR_SLOT_BYTES];
	uint32_t reject_count;
	struct donor_stats_ask stats_asks[DONOR_STATS_ASKS];

	/* list.c */
	struct far_list listings; /* the first is read for */
	struct far_list listings_ended;
	struct far_l2_listing *list_for; /* whose READ was posted last; NULL: it has ended */
	bool list_posted;
	uint32_t list_rereads;
	uint64_t list_set; /* the posted chunk */
	uint32_t list_set_count;

	struct far_l2_status status; /* counters only */

	/* Used while one list or frame is built, never longer. */
	struct far_op *ops;       /* owned, FAR_POST_OPS_MAX */
	struct far_piece *pieces; /* owned, DONOR_PIECES_MAX */
	struct far_key *keys;     /* owned, DONOR_ITEMS_MAX */
	uint64_t *frame;          /* owned, FAR_FRAME_BYTES_MAX */
};

/* Which list of READs or WRITEs a token belongs to: the kind above, the index of job or batch below. */
#define TOKEN_KIND_SHIFT 32
enum {
	TOKEN_JOB = 1,
	TOKEN_HEADER,
	TOKEN_TABLE,
	TOKEN_BATCH,
	TOKEN_LIST,
};

static inline uint64_t
donor_token(uint64_t kind, uint32_t idx)
{
	return kind << TOKEN_KIND_SHIFT | idx;
}

static inline bool
donor_is_up(const struct far_donor *donor)
{
	return donor->link_state == LINK_UP;
}

/* ---- donor.c: tasks ---- */
void far_donor_item_end(struct far_donor *donor, struct far_l2_task *task, uint32_t item, int rc);
void far_donor_task_stage(struct far_donor *donor, struct far_l2_task *task,
			  enum donor_stage stage);
/* Why nothing more may be posted for a task, or 0. */
int far_donor_task_end_rc(const struct far_donor *donor, const struct far_l2_task *task);
/* Ends what is not posted with @rc, now and later. */
void far_donor_task_stop(struct far_donor *donor, struct far_l2_task *task, int rc);
void far_donor_tasks_stop(struct far_donor *donor, int rc);
/* Posts and sends whatever can be: cheap when there is nothing. */
void far_donor_pump(struct far_donor *donor);
/* Calls done() of the tasks that had ended when it was called. */
void far_donor_flush(struct far_donor *donor);

/* ---- path.c: the ways to the donor, tried in their order ---- */
/* The scratch pages are there. -EINVAL, -ENOMEM with one line in @error. */
int far_donor_paths_open(struct far_donor *donor, const struct far_l2_config *config,
			 char error[256]);
void far_donor_paths_close(struct far_donor *donor);
void far_donor_path_failed(struct far_donor *donor, bool refused, const char *reason);
/* Goes on to the next; false: there is none behind this one. */
bool far_donor_path_next(struct far_donor *donor);
void far_donor_path_first(struct far_donor *donor);
/* Whether trying again soon is of no use over any of them. */
bool far_donor_paths_refused(const struct far_donor *donor);
/* Each address and what came of it; and why the present one is in use. */
void far_donor_paths_text(const struct far_donor *donor, char *out, size_t out_bytes);
void far_donor_path_why(const struct far_donor *donor, char *out, size_t out_bytes);

/* ---- link.c ---- */
void far_donor_link_init(struct far_donor *donor);
uint64_t far_donor_link_tick(struct far_donor *donor, uint64_t now_ns);
/* The link is of no more use: every task stops, the next attempt comes later. */
void far_donor_link_fail(struct far_donor *donor, int rc, const char *reason);
void far_donor_link_up(struct far_donor *donor);
/* A peer's text, for our log and our users: one line, printable. */
void far_donor_text_clean(char *text);
/* Leaves for good: with a BYE that the donor answers by closing, or at once. */
void far_donor_link_leave(struct far_donor *donor, bool now);
/* -EAGAIN: no credit; try again when pumped. */
int far_donor_send(struct far_donor *donor, enum far_frame_type type, uint64_t tag,
		   const void *body, const void *list, uint32_t count);

/* ---- index.c: header, table, segments ---- */
void far_donor_header_read(struct far_donor *donor);
void far_donor_header_done(struct far_donor *donor, int status);
/* Starts a table read unless one runs; returns the number of the first that begins from now on. */
uint64_t far_donor_table_read(struct far_donor *donor);
void far_donor_table_pump(struct far_donor *donor);
void far_donor_table_done(struct far_donor *donor, int status);
/* A live line that is whole and of the donor's epoch. */
void far_donor_live_take(struct far_donor *donor, const struct far_index_live *live);
uint64_t far_donor_index_tick(struct far_donor *donor, uint64_t now_ns);
void far_donor_index_reset(struct far_donor *donor);
const struct donor_segment *far_donor_segment_find(struct far_donor *donor, uint32_t number);
int far_donor_segment_recall(struct far_donor *donor, uint32_t number);
/* Says SEGMENT_GONE for what no posted list can name any more. */
void far_donor_recalls_pump(struct far_donor *donor);

/* ---- lookup.c: jobs, and their first phase ---- */
void far_donor_jobs_pump(struct far_donor *donor);
void far_donor_job_done(struct far_donor *donor, uint32_t idx, int status);
/* Goes on with what is left of it: posts its next list, waits, or ends. */
void far_donor_job_run(struct far_donor *donor, struct donor_job *job);
/* Posts donor->ops, the last of them with the job's token; when that cannot be now, the job waits and
 * is run again later. */
void far_donor_job_post(struct far_donor *donor, struct donor_job *job, uint32_t op_count);
/* The job goes on when a table read that begins from now on has ended. */
void far_donor_job_want_table(struct far_donor *donor, struct donor_job *job);
/* Ends the items of @task's jobs that are not posted. */
void far_donor_jobs_stop(struct far_donor *donor, const struct far_l2_task *task, int rc);
void far_donor_jobs_table_ended(struct far_donor *donor);
/* Jobs posted before this number are all done. */
uint64_t far_donor_jobs_oldest(const struct far_donor *donor);
/* A STORE task whose lookups have ended goes on to wait for a lane. */
void far_donor_store_ready(struct far_donor *donor, struct far_l2_task *task);

/* ---- load.c ---- */
/* 0: it can be loaded, by its hint or after a lookup; else what it ends with. */
int far_donor_load_check(const struct far_donor *donor, const struct far_l2_item *item,
			 bool *look_up_out);
void far_donor_load_post(struct far_donor *donor, struct donor_job *job);
void far_donor_load_done(struct far_donor *donor, struct donor_job *job, int status);
/* The length of an item's pieces; UINT64_MAX if one lies in no memory that is registered. */
uint64_t far_donor_pieces_bytes(const struct far_donor *donor, const struct far_l2_item *item);

/* What donor->ops and donor->pieces hold while a list is built. */
struct donor_list {
	uint32_t ops;
	uint32_t pieces;
	uint32_t ops_max;
};
/* Appends ops like @like over the pieces of an item. False: no room, and the list is as it was. */
bool far_donor_list_add(struct far_donor *donor, struct donor_list *list,
			const struct far_l2_item *item, const struct far_op *like);

static inline void
donor_hint_slot(const struct far_l2_item *item, struct far_slot *slot_out)
{
	memcpy(slot_out, &item->hint[HINT_SLOT], sizeof(*slot_out));
}

static inline void
donor_hint_set(struct far_l2_item *item, const struct far_slot *slot, uint64_t at, uint64_t epoch)
{
	memcpy(&item->hint[HINT_SLOT], slot, sizeof(*slot));
	item->hint[HINT_AT] = at;
	item->hint[HINT_EPOCH] = epoch;
}

/* ---- store.c ---- */
void far_donor_store_pump(struct far_donor *donor);
void far_donor_batch_done(struct far_donor *donor, uint32_t idx, int status);
int far_donor_lane_granted(struct far_donor *donor, const struct far_frame_lane_grant *grant);
int far_donor_lane_full(struct far_donor *donor);
void far_donor_lane_recalled(struct far_donor *donor, uint64_t serial);
int far_donor_committed(struct far_donor *donor, const struct far_frame *frame);
/* The link is down: lanes are lost; batches whose WRITEs are done end. */
void far_donor_store_lost(struct far_donor *donor);
void far_donor_lanes_end(struct far_donor *donor);
bool far_donor_store_idle(const struct far_donor *donor);

/* ---- list.c ---- */
void far_donor_list(struct far_l2 *l2, struct far_l2_listing *listing);
void far_donor_list_pump(struct far_donor *donor);
void far_donor_list_done(struct far_donor *donor, int status);
uint64_t far_donor_list_tick(struct far_donor *donor, uint64_t now_ns);
void far_donor_list_flush(struct far_donor *donor);
void far_donor_listings_stop(struct far_donor *donor, int rc);

/* ---- notes.c: what nobody waits long for ---- */
void far_donor_touch(struct far_donor *donor, const struct far_key *key);
void far_donor_reject(struct far_donor *donor, const void *slot);
void far_donor_notes_pump(struct far_donor *donor);
uint64_t far_donor_notes_tick(struct far_donor *donor, uint64_t now_ns);
int far_donor_deleted(struct far_donor *donor, const struct far_frame *frame);
int far_donor_stats_ask(struct far_l2 *l2, far_l2_stats_fn *done, void *arg, uint64_t deadline_ns);
int far_donor_usage_ask(struct far_l2 *l2, far_l2_usage_fn *done, void *arg, uint64_t deadline_ns);
bool far_donor_is_asked(const struct far_donor *donor);
void far_donor_stats_got(struct far_donor *donor, const struct far_frame *frame);
void far_donor_notes_lost(struct far_donor *donor);

#endif
