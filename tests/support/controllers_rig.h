/* controllers_rig.h - L1, scripted adapters and a prefetch controller on a clock that stands still. */
#ifndef FAR_TESTS_SUPPORT_CONTROLLERS_RIG_H
#define FAR_TESTS_SUPPORT_CONTROLLERS_RIG_H

#include "controllers/prefetch.h"
#include "controllers/store.h"
#include "l2/memory/memory.h"
#include "tests/support/fake_l2.h"

#define CTL_FAKES_MAX    6
#define CTL_MEMORIES_MAX 2
#define CTL_KEYS_MAX     512
#define CTL_BLOCK_BYTES  4096U

/* Zeroed fields: the defaults of ctl_rig_open(). */
struct ctl_options {
	uint32_t fakes;    /* adapters; FAR_L2_SET_MAX: none */
	uint32_t memories; /* adapters of type memory behind them, 1 MiB each */
	uint64_t memory_latency_ns;
	uint32_t l1_blocks; /* 256 */
	enum far_l1_policy l1_policy;
	bool placement;     /* "placement,retain" */
	const char *policy; /* for far_policy_parse(); "retain" */
	bool store;         /* a store controller as well */
	struct far_prefetch_config prefetch;
	struct far_store_config store_config;
	const char *store_policy; /* names for far_store_policy_init(); NULL: none is given */
	uint32_t admit_after;
	uint32_t admit_keys; /* 1024 */
	bool recorder;
};

struct ctl_rig {
	struct far_clock_fake clock;
	void *arena;
	struct far_l1 *l1;
	far_l1_session session;
	far_l1_session other; /* of somebody else */
	/* CTL_FAKES_MAX; those below fake_count are ticked and checked, in the set or removed from it */
	struct fake_l2 *fakes;
	uint32_t fake_count;
	struct far_l2 *memories[CTL_MEMORIES_MAX];
	uint32_t memory_count;
	struct far_l2_set set;
	struct far_policy policy;
	struct far_prefetch *prefetch;
	struct far_store *store;
	struct far_store_policy store_policy;
	struct far_recorder *recorder; /* NULL: none */
	_Atomic uint32_t wakes;
	uint64_t live_bytes; /* before it was opened */
	uint64_t next_ns;    /* what the last tick asked for */
};

struct ctl_req {
	struct far_prefetch_req req;
	struct far_key keys[CTL_KEYS_MAX];
	uint32_t sizes[CTL_KEYS_MAX];
	struct far_prefetch_view views[CTL_KEYS_MAX];
	struct ctl_rig *rig;
	struct far_bitmap readable;
	uint64_t readable_words[CTL_KEYS_MAX / 64];
	uint32_t found_calls;
	uint32_t found_to;
	uint32_t advanced_count;
	uint32_t advanced_to;
	uint32_t ended_count;
	bool released;
};

/* cmocka fails the test if anything goes wrong here. */
void ctl_rig_open(struct ctl_rig *rig, const struct ctl_options *options);
/* Quiesces; then nothing may be left anywhere: loans, L1 memory, adapters' locks, allocations. */
void ctl_rig_close(struct ctl_rig *rig);
/* Adapters, then controllers, as a client's thread does, until nothing moves any more. */
void ctl_rig_run(struct ctl_rig *rig);
void ctl_rig_advance(struct ctl_rig *rig, uint64_t by_ns);
/* Fill a fake with keys [first, first + count). */
void ctl_rig_put(struct ctl_rig *rig, uint32_t fake, uint64_t first, uint32_t count);
/* The next @count items of the kind for this key answer @rc at this fake. */
void ctl_rig_fail(struct ctl_rig *rig, uint32_t fake, uint64_t number, enum far_l2_kind kind,
		  int rc, uint32_t count);
/* A block of L1, written and announced. */
void ctl_rig_write(struct ctl_rig *rig, uint64_t number, uint32_t size_bytes);
uint64_t ctl_rig_loans(struct ctl_rig *rig);
/* Every block and every pair that the store controller was given is in exactly one counter, and what was
 * recorded is what was counted. */
void ctl_rig_check_store(struct ctl_rig *rig);
bool ctl_rig_resident(struct ctl_rig *rig, uint64_t number);
uint32_t ctl_rig_locks(const struct ctl_rig *rig);

/* A request for keys [first, first + count), session of the rig, LOOKUP, one reader, 1 s. */
void ctl_req_init(struct ctl_req *req, struct ctl_rig *rig, uint64_t first, uint32_t count);
void ctl_req_submit(struct ctl_req *req);
/* Takes the L1 prefix as a client does. */
void ctl_req_lock_prefix(struct ctl_req *req);
/* Every byte of the prefix is right; asserts. */
void ctl_req_verify(const struct ctl_req *req);
/* Ended once, with this rc and prefix, every byte right; loans are given back. */
void ctl_req_expect(struct ctl_req *req, int rc, uint32_t prefix_count);
/* The same with the keys that are readable, wherever they are: "11011". */
void ctl_req_expect_keys(struct ctl_req *req, int rc, const char *bits);
void ctl_req_release(struct ctl_req *req);

#endif
