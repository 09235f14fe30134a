/* fake_l2.h - a scripted adapter: ends, fails, delays, reorders tasks, or keeps them until told. */
#ifndef FAR_TESTS_SUPPORT_FAKE_L2_H
#define FAR_TESTS_SUPPORT_FAKE_L2_H

#include "l2/l2.h"

#define FAKE_L2_BLOCKS_MAX 1024
#define FAKE_L2_TASKS_MAX  512

struct fake_l2_block {
	struct far_key key;
	bool known; /* the row is taken */
	bool held;  /* it has the block */
	uint32_t size_bytes;
	uint32_t locks;
	uint32_t lookups; /* asked for, since open */
	uint32_t loads;   /* loaded without error, since open */
	uint32_t stores;  /* stored or had, since open */
	int rcs[4];       /* by enum far_l2_kind: what the next rc_lefts[] items answer instead */
	uint32_t rc_lefts[4];
	uint32_t lie_bytes; /* the next lie_left look-ups answer this length */
	uint32_t lie_left;
};

struct fake_l2 {
	struct far_l2 l2;
	struct far_clock *clock;
	struct far_rng rng;
	struct fake_l2_block blocks[FAKE_L2_BLOCKS_MAX];
	struct far_l2_task *tasks[FAKE_L2_TASKS_MAX]; /* accepted and not ended, in order */
	uint32_t task_count;
	bool held[4];     /* by kind: none ends, whatever deadline and cancel say */
	bool deaf_cancel; /* everything counts as posted: cancel and deadline change nothing */
	bool down;        /* -EHOSTDOWN at once */
	bool full;        /* stores end -ENOSPC */
	bool quiescing;
	bool reorder; /* ends tasks in any order */
	bool ticking;
	uint64_t delay_ns; /* from submit to end */
	/* Counted since open. */
	uint32_t submits[4];
	uint32_t cancels;
	uint32_t locks_live;
	uint32_t unlocks_unknown; /* unlocked without a lock: a bug of the caller */
	uint32_t batch_max[4];    /* items of the largest task */
	uint64_t bytes_live_max;  /* of pieces in tasks, at most */
};

/* Bytes of a block follow from its key. */
void fake_l2_fill(const struct far_key *key, void *out, uint32_t size_bytes);
bool fake_l2_matches(const struct far_key *key, const void *data, uint32_t size_bytes);
/* A key that is not zero, by number. */
struct far_key fake_l2_key(uint64_t number);

void fake_l2_init(struct fake_l2 *fake, const char *name, struct far_clock *clock, uint64_t seed);
/* The row of a key; made if it is not there. */
struct fake_l2_block *fake_l2_block(struct fake_l2 *fake, const struct far_key *key);
void fake_l2_put(struct fake_l2 *fake, const struct far_key *key, uint32_t size_bytes);
bool fake_l2_has(struct fake_l2 *fake, const struct far_key *key);
void fake_l2_drop(struct fake_l2 *fake, const struct far_key *key);
/* The next @count items of the kind for this key answer @rc; a load leaves garbage in its pieces. */
void fake_l2_fail(struct fake_l2 *fake, const struct far_key *key, enum far_l2_kind kind, int rc,
		  uint32_t count);
/* The next @count look-ups that find the key answer a wrong length. */
void fake_l2_lie(struct fake_l2 *fake, const struct far_key *key, uint32_t size_bytes,
		 uint32_t count);
/* Tasks of a kind that have not ended. */
uint32_t fake_l2_live(const struct fake_l2 *fake, enum far_l2_kind kind);
/* Writes garbage over the pieces of every live load: hardware may, until done. */
void fake_l2_scribble(struct fake_l2 *fake);

#endif
