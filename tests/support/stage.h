/* stage.h - a seam around transports and L1's flip: code of a test runs at each stage of a store or a prefetch. */
#ifndef FAR_TESTS_SUPPORT_STAGE_H
#define FAR_TESTS_SUPPORT_STAGE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A program that was linked with far_stages() (tests/support/stage.cmake) opens transports whose tables
 * are copies with a few functions of ours; what these see of messages and lists says which stage is
 * reached. Production code knows nothing of it and pays nothing for it.
 */
enum stage {
	STAGE_NONE,
	STAGE_LANE_ASK, /* a client sends LANE_ASK */
	STAGE_WRITES,   /* it posts a list of WRITEs */
	STAGE_COMMIT,   /* it sends the COMMIT behind them */
	STAGE_ANSWER,   /* a donor has stored the slots and sends COMMITTED */
	STAGE_IDLE,     /* all is stored and the lane is open: told by stage_reach() */
	STAGE_LOOKUP,   /* a client posts READs of index lines alone */
	STAGE_DATA,     /* it posts READs of blocks */
	STAGE_FLIP,     /* it is about to make loaded blocks readable */
	STAGE_HELD,     /* a reader holds them: told by stage_reach() */
	STAGE_COUNT,
};

const char *stage_name(enum stage stage);

/* Before the call that makes the stage, and after it was accepted. On the thread that makes it: the client's,
 * or a caller that drives. */
typedef void stage_hook(void *arg, enum stage stage, bool before);

/* Calls @hook from now on, of links that are made from now on to @address (as an adapter names it, with
 * or without its scheme), and of their client. Not while a client is open that matters. */
void stage_hook_set(const char *address, stage_hook *hook, void *arg);

/*
 * Instead of a hook: a page that two processes share. The one that reaches the stage which is armed there
 * disarms it, writes down the time and stops itself (SIGSTOP), all threads: a client behind the call, a donor in
 * front of its answer, and whoever flips in front of that.
 */
struct stage_page {
	_Atomic uint32_t armed; /* enum stage */
	_Atomic uint64_t reached_ns;
};

#define STAGE_PAGE_VARIABLE "FAR_TEST_STAGE_PAGE" /* its path, for programs that are started */

/* Makes the file and maps it. Lives as long as the process. */
struct stage_page *stage_page_make(const char *path);
/* Of the environment's path; NULL: none is named. */
struct stage_page *stage_page_find(void);
/* A stage that only the program itself knows of. */
void stage_reach(enum stage stage);

/* From now on an arena is registered with a descriptor that can shrink, which @fd_out gets, and nobody here
 * looks at seals. It is what a hostile client would do. NULL: no longer. */
void stage_unseal(int *fd_out);

#endif
