/* farpoold.h - the donor daemon's parts: its configuration, and the memory that it lends. */
#ifndef FAR_TOOLS_FARPOOLD_FARPOOLD_H
#define FAR_TOOLS_FARPOOLD_FARPOOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pages.h"
#include "base/param.h"
#include "pool/pool.h"
#include "transport/address.h"
#include "transport/options.h"

#define FARPOOLD_PATH_BYTES 240

struct farpoold_config {
	struct far_pool_config pool;
	char listen[FAR_ADDRESS_LIST_BYTES_MAX]; /* "shm:/run/farpool/a.sock,ucx:0.0.0.0:7471" */
	uint32_t trust;                          /* enum far_trust */
	struct far_rdma_options rdma;
	char backing[FARPOOLD_PATH_BYTES]; /* a folder; "": memory that ends with the process */
	uint32_t huge_pages;               /* enum far_pages_huge */
	uint32_t numa_node;                /* 0: any; else the node plus one */
	uint32_t log_level;                /* enum far_log_level */
	uint64_t busy_poll_ns;
};

/* Every parameter of the daemon: the pool's and its own. */
const struct far_param_table *farpoold_table(void);

/**
 * farpoold_config_load - a file, then key=value settings over it, then the checks of all together.
 *
 * @path: NULL: settings alone.
 *
 * Returns: 0, or a negative errno with one line in @error: where, what is wrong, what to do.
 */
int farpoold_config_load(const char *path, const char *const *settings, size_t setting_count,
			 struct farpoold_config *out, char error[FAR_PARAM_ERROR_BYTES]);

/* "1.5 GiB" */
#define FARPOOLD_SIZE_TEXT_BYTES 24
void farpoold_size_format(uint64_t bytes, char out[FARPOOLD_SIZE_TEXT_BYTES]);

struct farpoold_backing;

/* The memory that is lent: index first, then segments, one after the other. */
struct farpoold_memory {
	const struct farpoold_config *config; /* borrowed */
	uint32_t rail_count;                  /* sizes the index */
	struct farpoold_backing *backing;     /* borrowed; NULL: memfds */
	struct far_pages index;
	struct far_pages *segments; /* owned */
	uint32_t segment_count;     /* of the array */
	uint32_t mapped;            /* so many of them are mapped */
	uint64_t mapped_bytes;      /* what they lend */
};

/* Checks that all of it can be had, and maps the index. @backing: opened, or NULL. On failure one line in @error says how much
 * was asked for, how much there is, and what to do. */
int farpoold_memory_open(const struct farpoold_config *config, uint32_t rail_count,
			 struct farpoold_backing *backing, struct farpoold_memory *memory,
			 char error[FAR_PARAM_ERROR_BYTES]);
/* Maps the next segment; touches nothing but the segment's own entry, so that a worker thread may
 * call it. Returns as far_pages_map_shared(). */
int farpoold_memory_map(struct farpoold_memory *memory, struct far_pages *pages_out);
/* The bytes that the next segment lends; 0: all are mapped. */
uint64_t farpoold_memory_next_bytes(const struct farpoold_memory *memory);
/* What a predecessor's next segment is called by its slots; 0: it is a new one. */
uint32_t farpoold_memory_next_number(const struct farpoold_memory *memory);
/* Takes over what farpoold_memory_map() mapped. */
void farpoold_memory_keep(struct farpoold_memory *memory, const struct far_pages *pages);
void farpoold_memory_explain(const struct farpoold_memory *memory, int rc,
			     char error[FAR_PARAM_ERROR_BYTES]);
/* Takes a half-opened one. */
void farpoold_memory_close(struct farpoold_memory *memory);

#endif
