/* lend.h - a farpoold of a mover's own, and a client of it through the public interface. */
#ifndef FAR_TESTS_BENCH_LEND_H
#define FAR_TESTS_BENCH_LEND_H

#include "farpool/farpool.h"
#include "tests/bench/bench.h"
#include "tools/perf/donor.h"

struct bench_lend {
	struct perf_donor donor;
	struct far_client *client; /* NULL: not open */
};

struct bench_lend_config {
	const char *over; /* the transport: "shm", "ucx" */
	bool apart;       /* both sides stand for two hosts */
	uint64_t
		held_bytes; /* of blocks that the donor is to hold; lanes that are open come on top */
	uint64_t block_bytes; /* the index and L1 are made for it */
	uint64_t l1_bytes;
	uint64_t index_blocks; /* what the index is made for; 0: memory full of such blocks */
};

/* Both, connected. Returns 0, or a negative errno with the reason in @why (BENCH_TEXT_BYTES).
 * bench_lend_close() in any case. */
int bench_lend_open(const struct bench_plan *plan, const struct bench_lend_config *config,
		    char *why, struct bench_lend *lend);
/* Takes a zeroed struct. */
void bench_lend_close(struct bench_lend *lend);
/* All messages that the client sent and got, but notes of what was touched, which wait until there is
 * something else to say. */
uint64_t bench_lend_messages(const struct bench_lend *lend);

#endif
