/* fault.h - the kill matrix: cells, what they measure, and the scene that all of them play in. */
#ifndef FAR_TESTS_FAULT_FAULT_H
#define FAR_TESTS_FAULT_FAULT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "farpool/farpool.h"
#include "tests/support/rig.h"
#include "tests/support/stage.h"

#define BLOCK_BYTES  16384U
#define REQUEST_KEYS 8U
#define READS        4U  /* prefetches in flight when a fault comes */
#define STORE_BLOCKS 32U /* blocks that are */
#define STORE_ID     2000000U
#define PRELOADED    128U /* blocks that donors have before the fault */
#define TIME_NONE    UINT64_MAX
#define TEXT_BYTES   200
#define VICTIM       0 /* the donor's position; the other one stays whole */
#define OTHER        1
#define LATE_NS_MARK (100 * 1000000ULL) /* later than its deadline by this: marked in the table */
#define WAIT_SECONDS 15U

/* What differs from one transport to another. Times are wide enough for a machine that is busy. */
struct over {
	const char *name;     /* "shm", "ucx", "verbs" */
	uint32_t deadline_ms; /* of a prefetch */
	uint32_t stop_ms;     /* how long what is stopped stands still */
	uint32_t pause_ms;    /* of the observer, between requests */
	const char *memory;   /* of a donor */
	const char *donor_extra;
	const char *client_extra;
	/* Links may be lost without a fault: soft-RoCE of Linux 6.1, docs/faults.md. Then that somebody
	 * misses fails no cell. */
	bool loses_links;
};

enum fault {
	FAULT_KILL,
	FAULT_STOP,    /* and continue */
	FAULT_RESTART, /* kill, and start again at once */
};

/* Of one cell; shared with the process that prints it. */
struct outcome {
	uint64_t requests, failed, wrong;
	uint64_t miss_ns, reuse_ns, consistent_ns; /* TIME_NONE: none */
	uint64_t late_ns;         /* behind its own deadline, of the request that ended latest */
	bool whole;               /* the cell came to its end */
	bool reached;             /* the stage was hit */
	char skipped[TEXT_BYTES]; /* why, if it was */
	char leaks[TEXT_BYTES];   /* "": none */
	char note[TEXT_BYTES];
	char dir[96]; /* of its processes, until it has come to its end */
};

struct cell {
	const char *group; /* "donor", "client", "reader", "stranger" */
	const char *fault;
	const char *what; /* the stage, for people */
	enum fault kind;
	enum stage stage;
	bool brief; /* among the few that run where everything is slow */
	void (*run)(const struct cell *cell, const struct over *over, struct outcome *outcome);
};

/* A cell on its way to a row. */
struct cell_job {
	const struct cell *cell;
	struct outcome *outcome;
	uint64_t until_ns;
	pid_t pid;
	int log_fd;
	int status; /* of the process that ended */
	bool ended;
};

/* Runs them, so many at a time, and prints a row of each, in their order; @verbose: and the
 * end of its log. True: all is as it should be. */
bool cells_run(struct cell_job *jobs, size_t count, size_t at_once, const struct over *over,
	       bool verbose);
/* True: the cell is as it should be. */
bool row_print(const struct cell *cell, const struct over *over, const struct outcome *outcome,
	       int status);

/* Ends the cell, from whatever thread, with a line that says why. */
_Noreturn void cell_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define CELL_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			cell_fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition);            \
	} while (0)

/* ---- requests ---- */

struct request {
	struct far_prefetch_handle *handle;
	uint64_t ids[REQUEST_KEYS];
	struct far_key keys[REQUEST_KEYS];
	uint64_t began_ns, ended_ns, deadline_ns;
	uint64_t readable; /* from the first key on */
	uint32_t loaded_from[2];
	int gap_rc;
};

uint64_t ms_from_now(uint64_t ms);
void key_of(uint64_t id, struct far_key *out);
/* Starts a prefetch of request->ids, whatever is missing between them; @session may be NULL. */
void request_start(struct far_client *client, struct request *request, uint64_t deadline_ms,
		   struct far_session *session);
/* Waits for its end, which has to come. */
void request_wait(struct request *request);
/* Wrong bytes of what it says is readable. */
uint64_t request_check(const struct request *request);
/* Writes and commits one block. True: it was taken, and is now somebody's to store. */
bool block_put(struct far_client *client, uint64_t id);

/* ---- the scene: two donors, and a client that goes on ---- */

struct observer {
	struct far_client *client;
	pthread_t reader, prober;
	_Atomic bool stops, holds_stores, stores_held;
	_Atomic uint64_t puts; /* blocks that L1 took */
};

struct baseline {
	size_t fds; /* ours */
	size_t donor_fds[2];
	uint64_t links[2];
};

struct scene {
	const struct over *over;
	struct outcome *outcome;
	struct rig rig;
	struct rig_donor *donors[2];
	struct stage_page *page; /* of the victim among the donors; NULL: none */
	struct observer observer;
	struct baseline before;
	uint64_t of_victim[PRELOADED]; /* preloaded blocks that this donor has */
	uint32_t of_victim_count;
	bool victim_gone;          /* it is not expected to come back */
	bool bystander;            /* the fault is a client's: the observer has to notice nothing */
	pthread_mutex_t lock;      /* of outcome */
	_Atomic uint64_t fault_ns; /* 0: not yet */
	_Atomic uint64_t over_ns;  /* from here on all has to work again; 0: not yet */
	_Atomic uint64_t sound_ns; /* when a store and its reading back worked, after that */
};

/* Fails the cell if anything of it does not work. @staged: the victim can stop itself. */
void scene_begin(struct scene *scene, const struct over *over, struct outcome *outcome,
		 bool staged);
/* The observer reads and stores from here on. */
void scene_load(struct scene *scene);
/* Nothing of the observer's is being stored when this returns, until scene_stores_go(). */
void scene_stores_hold(struct scene *scene);
void scene_stores_go(struct scene *scene);
/* Now. */
void scene_fault(struct scene *scene);
/* From here on all has to work again. */
void scene_fault_over(struct scene *scene);
/* Waits until it does, and for the end of the observer; looks for leaks; ends the rest. */
void scene_end(struct scene *scene);

/* Starts a program with a page for its stages. */
pid_t scene_spawn(struct scene *scene, const char *name, const char *const argv[],
		  struct stage_page **page_out);
/* Counts a request that ended. */
void scene_count(struct scene *scene, const struct request *request);
void scene_count_store(struct scene *scene, bool failed);
/* One value of a donor's own; TIME_NONE: it does not answer. */
uint64_t scene_donor_value(struct scene *scene, int donor, unsigned value);
/* Whether the links of both donors are those from before. */
bool scene_links_are_back(struct scene *scene);
void scene_leak(struct scene *scene, const char *what, uint64_t count);

/* What a client has left: nothing may be. Also that each of its requests ended once. Adds to @text. */
void client_leaks(struct far_client *client, uint64_t puts, char text[TEXT_BYTES]);
void text_add(char text[TEXT_BYTES], const char *what, uint64_t count);
/* Waits until the process stands still. */
void process_wait_stopped(pid_t pid);
/* How long it may take that a number becomes what it should be. */
uint64_t limit_ns(void);

/* ---- the cells ---- */

extern const struct cell donor_cells[], client_cells[], reader_cells[], stranger_cells[];
extern const size_t donor_cell_count, client_cell_count, reader_cell_count, stranger_cell_count;

/* This program as a client that a fault hits: --subject CONFIG STAGE DEADLINE-MS */
int subject_main(int argc, char **argv);
/* As a process that reads what a client lends: --reader ARENA BYTES, then ID OFFSET of each block */
int reader_process_main(int argc, char **argv);
/* As one of a crowd: --visitor CONFIG VISITS */
int visitor_main(int argc, char **argv);

#endif
