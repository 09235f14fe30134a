/* backing.h - a folder on tmpfs or hugetlbfs that keeps index and segments from one donor to the next. */
#ifndef FAR_TOOLS_FARPOOLD_BACKING_H
#define FAR_TOOLS_FARPOOLD_BACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/farpoold/farpoold.h"

/*
 * FOLDER/index             header, segment table, slots: wire/index.h
 * FOLDER/segment-NNNNNN    one per segment, by the number that slots call it by
 * FOLDER/index.new         an index that was never served
 *
 * The folder is locked (flock) as long as a donor has it open. The lock goes with the process's
 * descriptors; that its queue pairs are gone as well is told by its pidfd alone (owner.c).
 */
struct farpoold_segment_file {
	uint32_t number;
	uint64_t size_bytes;
};

struct farpoold_backing {
	char path[FARPOOLD_PATH_BYTES];
	int folder_fd;                       /* owned, locked */
	bool is_huge;                        /* hugetlbfs */
	uint64_t page_bytes;                 /* of the file system */
	bool over;                           /* there is an index to be taken over */
	bool owned;                          /* its header names us */
	uint64_t there_bytes;                /* memory that the files hold already */
	struct farpoold_segment_file *found; /* owned; by number */
	uint32_t found_count;
	uint32_t number_last; /* of found and made segments */
};

/**
 * farpoold_backing_open - makes or opens the folder, locks it, and looks at what is in it.
 *
 * Waits a few seconds for a predecessor that is on its way out. An index of another donor, release or
 * geometry is refused; a segment file that cannot be one is removed, with a warning.
 *
 * Returns: 0, or a negative errno with one line in @error and nothing left open.
 */
int farpoold_backing_open(const struct farpoold_config *config, uint32_t rail_count,
			  struct farpoold_backing *out, char error[FAR_PARAM_ERROR_BYTES]);
/* The index, mapped; a new one is called index.new until farpoold_backing_own(). As
 * far_pages_map_file(). */
int farpoold_backing_index_map(struct farpoold_backing *backing, uint64_t size_bytes,
			       enum far_pages_huge huge, int numa_node, struct far_pages *out);
/* A found segment by its number, or a new one (0) of the next number. Any one thread at a time. */
int farpoold_backing_segment_map(struct farpoold_backing *backing, uint32_t number,
				 uint64_t size_bytes, int numa_node, struct far_pages *out);
/* The pool is open over @index: its header names this process, and a new one gets its name. */
int farpoold_backing_own(struct farpoold_backing *backing, const struct far_pages *index);
/* No queue pair of ours is left, nor a mapping: the header names nobody. Takes a closed one. */
void farpoold_backing_close(struct farpoold_backing *backing);

/* ---- owner.c: which process, and is it gone ---- */

struct farpoold_owner {
	uint64_t pid;         /* 0: nobody */
	uint64_t pidns_inode; /* of the namespace that it is counted in */
	uint64_t start_ticks; /* tells it from a later process of the same number; 0: unknown */
	uint8_t boot_id[16];
};

void farpoold_owner_self(struct farpoold_owner *out);
/* Waits for its end, at most @wait_ms. 0: it is gone, and all that the kernel held for it.
 * -EBUSY: not, or it cannot be told; one line in @error. */
int farpoold_owner_gone(const struct farpoold_owner *owner, int wait_ms,
			char error[FAR_PARAM_ERROR_BYTES]);

#endif
