/* prefetch_world.h - what goes on around a prefetch controller: other writers, evictors, faulty adapters. */
#ifndef FAR_TESTS_MODEL_PREFETCH_WORLD_H
#define FAR_TESTS_MODEL_PREFETCH_WORLD_H

#include "tests/model/prefetch_model.h"
#include "tests/support/controllers_rig.h"
#include "tests/support/l1_evictor.h"
#include "tests/support/l1_wrap.h"

#define WORLD_BLOCK_BYTES 256U
#define WORLD_WRITES      4

/* A block that somebody else has reserved and not written yet. */
struct world_write {
	bool open;
	uint32_t key;
	struct far_l1_grant grant;
};

struct world {
	struct ctl_rig rig;
	struct model model;
	struct far_rng rng;
	struct l1_evictor evictor;
	struct far_key keys[MODEL_KEYS];
	struct world_write writes[WORLD_WRITES];
	uint32_t failing; /* memory adapters whose loads fail, as a mask */
	/* By the positions that they have, or had before they were removed. */
	struct far_l2 *adapters[MODEL_ADAPTERS];
	uint32_t adapter_count;
	uint32_t leaving; /* drained, or removed: its position; adapter_count: none */
	uint64_t seed;    /* of the history that runs; 0: none */
};

extern struct world world;

static inline uint64_t
below(uint64_t bound)
{
	return far_rng_below(&world.rng, bound);
}

static inline bool
chance(uint64_t percent)
{
	return below(100) < percent;
}

static inline uint64_t
world_now(void)
{
	return far_clock_now(&world.rig.clock.clock);
}

void world_open(uint64_t seed);
void world_close(void);
/* @dice: 0..59, what happens. */
void world_step(uint32_t dice);
/* Adapters do something, or not. */
void world_turn(void);
/* Adapters that were removed, over all histories. */
extern uint64_t world_removed;

/* Tells the model what adapters hold of a request's keys, and what they will do wrong. */
void world_observe(const struct model_req *req);
bool world_loading(uint32_t key);

void world_say_seed(void);
void world_say_seed_on_abort(void);

#endif
