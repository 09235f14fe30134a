/* prefetch_model.h - the prefetch controller in a hundred lines: what a prefix can be, and has to be. */
#ifndef FAR_TESTS_MODEL_PREFETCH_MODEL_H
#define FAR_TESTS_MODEL_PREFETCH_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define MODEL_KEYS     96
#define MODEL_ADAPTERS 8
#define MODEL_REQS     10
#define MODEL_REQ_KEYS 48

/*
 * Keys and adapters by number. From submit to end of a request the model remembers of each of its keys
 * whether it could be had at some moment (may), and whether it could be had all the time (must): it was
 * held where it is looked for, and nothing of that key went wrong. Where the two agree the prefix of a
 * request that ran to its end is known exactly; else it lies between them.
 */
struct model_req {
	bool live;
	uint32_t count;
	uint32_t l1_prefix_count; /* locked by the caller */
	uint32_t keys[MODEL_REQ_KEYS];
	bool fits[MODEL_REQ_KEYS]; /* it asks for the length that the block has */
	bool may[MODEL_REQ_KEYS];
	bool clean[MODEL_REQ_KEYS]; /* nothing went wrong with the key */
	bool must[MODEL_REQ_KEYS];  /* and it was there all the time */
};

struct model {
	uint32_t routes[MODEL_KEYS]; /* adapters that are asked for a key, as a mask */
	bool roomy;                  /* memory never ends */
	/* As the history tells it. */
	uint32_t held[MODEL_KEYS];  /* adapters that hold it, as a mask */
	uint32_t upset[MODEL_KEYS]; /* adapters that will answer wrongly about it */
	uint32_t down;              /* adapters that answer nothing, or anything wrongly */
	bool resident[MODEL_KEYS];  /* readable in L1 */
	bool writing[MODEL_KEYS];   /* somebody else writes it */
	bool stray[MODEL_KEYS]; /* deleted by force: may be in a store without anybody's telling */
	/* Something went wrong with it, or it came, while a load was under way: who joins that load has
	 * his share. */
	bool tainted[MODEL_KEYS];
	struct model_req reqs[MODEL_REQS];
	uint64_t ends;  /* of requests that ran to their end */
	uint64_t exact; /* of them, whose prefix was known */
};

/* @loading: a load of the key is under way. */
typedef bool model_loading_fn(uint32_t key);

void model_submit(struct model *model, struct model_req *req, model_loading_fn *loading);
/* Something went wrong with a key: at @adapters (a mask), or at all if 0. */
void model_upset(struct model *model, uint32_t key, uint32_t adapters, model_loading_fn *loading);
void model_put(struct model *model, uint32_t key, uint32_t adapter, model_loading_fn *loading);
void model_drop(struct model *model, uint32_t key, uint32_t adapter, model_loading_fn *loading);
/* An adapter is not to be relied on from now on, or is again for what is submitted from now on. */
void model_down(struct model *model, uint32_t adapter, bool down, model_loading_fn *loading);
/* A key is looked for elsewhere from now on, where it is held or not. */
void model_reroute(struct model *model, uint32_t key, uint32_t routes, model_loading_fn *loading);
void model_resident(struct model *model, uint32_t key, bool resident);
/* Bounds of the prefix of a request that ended by itself. */
void model_bounds(const struct model_req *req, uint32_t *min_out, uint32_t *max_out);

#endif
