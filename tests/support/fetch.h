/* fetch.h - blocks whose bytes are known, stored and prefetched in batches: what tests over a network share. */
#ifndef FAR_TESTS_SUPPORT_FETCH_H
#define FAR_TESTS_SUPPORT_FETCH_H

#include <stdint.h>

#include "farpool/farpool.h"

#define FETCH_BLOCK_BYTES 65536U
#define FETCH_BATCH       16U /* blocks of one prefetch */

struct fetch {
	struct far_prefetch_handle *handle;
	uint64_t first; /* number of its first block */
	uint64_t deadline_ns;
};

/* Of prefetches that ended. */
struct fetch_outcome {
	uint32_t whole; /* all blocks */
	uint32_t cut;   /* fewer */
	uint64_t wrong; /* bytes of what was said to be there */
	uint32_t late;  /* said so later than their deadline */
	uint64_t late_ns_max;
};

/* Stores blocks @first..@first + @count, and waits until donors have them. Fails the test if one is
 * not taken. */
void fetch_store(struct far_client *client, uint64_t first, uint64_t count);
/* Starts one of FETCH_BATCH blocks that ends within @deadline_ms. */
void fetch_start(struct far_client *client, struct fetch *fetch, uint64_t first,
		 uint32_t deadline_ms);
/* Waits until its own deadline; what is not over by then fails the test after another second. Checks
 * every byte. */
void fetch_end(struct fetch *fetch, struct fetch_outcome *outcome);
/* One after the other over @count blocks. */
void fetch_all(struct far_client *client, uint64_t count, uint32_t deadline_ms,
	       struct fetch_outcome *outcome);

#endif
