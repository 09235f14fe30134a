/* raw.h - the active end of a raw test: its links, and the pass that runs over them. */
#ifndef FAR_TOOLS_PERF_RAW_H
#define FAR_TOOLS_PERF_RAW_H

#include <sys/types.h>

#include "base/clock.h"
#include "base/pages.h"
#include "tools/perf/perf.h"
#include "tools/perf/raw_wire.h"

#define RAW_LINKS_MAX    64
#define RAW_ALL_SIZE_MAX ((uint64_t)8 << 20)

struct raw;
struct perf_litter;

struct raw_link {
	struct far_link_handler handler;
	struct raw *raw;
	struct far_link *link;
	struct far_remote remote;
	uint64_t set_bytes;
	uint64_t page_bytes;
	uint64_t cpu_ns; /* the server's last word */
	bool offered, told, blocked, closed;
	uint64_t posted, done; /* lists */
	uint64_t start, at;    /* of this pass, and where the next operation is, in the set */
	char version[32];
};

struct raw {
	struct perf_options *options; /* borrowed */
	struct perf_place place;
	struct far_transport *tp;
	struct far_pages pages;
	struct far_mem *mem;
	struct raw_link links[RAW_LINKS_MAX];
	uint32_t link_count;
	struct perf_litter *litter; /* of that server; NULL: none */
	pid_t server;               /* of our own; 0: none */
	char server_address[64];
	int rc; /* why it is over */
	/* of the pass that runs */
	uint64_t size_bytes;
	uint64_t list_ops;
	uint64_t *posted_ns, *done_ns; /* by list, in order of posts; NULL: not kept */
	uint64_t lists_kept;
	uint64_t lists_posted, lists_done;
	uint64_t shown_ns; /* when its progress was */
};

static inline uint64_t
raw_now(void)
{
	return far_clock_now(far_clock_real());
}

/* Starts a server if none is given, opens the transport, registers memory, connects; says itself what
 * went wrong. 0 or 1. raw_close() in any case. */
int raw_open(struct raw *raw);
/* Frees @raw, but for links that do not close: those end with the process. */
void raw_close(struct raw *raw);
/* What the server's process has used until now; 0 or a negative errno. */
int raw_peer_cpu(struct raw *raw, uint64_t *out);

#endif
