/* models.h - how many bytes of KV cache a token of a model is. */
#ifndef FAR_TOOLS_PERF_MODELS_H
#define FAR_TOOLS_PERF_MODELS_H

#include <stdint.h>
#include <stdio.h>

struct model_shape {
	char name[48]; /* as people say it */
	uint32_t layers;
	uint32_t kv_heads;  /* with @latent: 0 */
	uint32_t head_size; /* of one K, and of one V; with @latent: of both together, all heads */
	uint32_t value_bytes; /* 2: bfloat16 */
	int latent; /* one compressed vector instead of K and V, the same for every rank (MLA) */
	const char *source; /* static */
};

/* 0; -ENOENT: no such model. */
int model_find(const char *name, struct model_shape *out);
/* "32,8,128,2". 0, or -EINVAL. */
int model_parse(const char *text, struct model_shape *out);
void model_list(FILE *out);

/* Of one token in one layer, at one of @tp ranks: KV heads are split, or repeated where there are fewer. */
uint64_t model_layer_bytes(const struct model_shape *shape, uint32_t tp);
/* In all layers. */
uint64_t model_token_bytes(const struct model_shape *shape, uint32_t tp);

#endif
