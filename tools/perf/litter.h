/* litter.h - a folder in /tmp of what was started for a benchmark; it goes also when a signal ends us. */
#ifndef FAR_TOOLS_PERF_LITTER_H
#define FAR_TOOLS_PERF_LITTER_H

#include <sys/types.h>

/* Owned by litter.c; one for each thing that was started. */
struct perf_litter;

/* A new folder of our own, with room for the files that litter.c has names of, and for nothing else.
 * From the first one on SIGINT, SIGTERM and SIGHUP take all folders away before they end the process,
 * where nobody had asked for them before. Thread: one at a time. NULL: too many, or /tmp is not to be
 * written to. */
struct perf_litter *perf_litter_take(void);
const char *perf_litter_folder(const struct perf_litter *litter);
/* The process that writes there: a signal ends it first. 0: it has ended. */
void perf_litter_child(struct perf_litter *litter, pid_t pid);
/* Removes files and folder; NULL is allowed. */
void perf_litter_give(struct perf_litter *litter);

#endif
