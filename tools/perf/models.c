/* models.c - shapes of well-known models, out of the config.json that each is published with. */
#include "tools/perf/models.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LATENT(name, layers, size, source)                                                         \
	{                                                                                          \
		name, layers, 0, size, 2, 1, source                                                \
	}
#define GROUPED(name, layers, heads, size, from)                                                   \
	{                                                                                          \
		name, layers, heads, size, 2, 0, from                                              \
	}

/*
 * num_hidden_layers, num_key_value_heads, head_dim (or hidden_size / num_attention_heads), and for MLA
 * kv_lora_rank + qk_rope_head_dim. Layers with sliding windows are counted like the others: what a
 * prefix takes that is no longer than the window.
 */
static const struct model_shape models[] = {
	GROUPED("llama-2-7b", 32, 32, 128, "meta-llama/Llama-2-7b-hf"),
	GROUPED("llama-3.2-1b", 16, 8, 64, "meta-llama/Llama-3.2-1B"),
	GROUPED("llama-3.2-3b", 28, 8, 128, "meta-llama/Llama-3.2-3B"),
	GROUPED("llama-3.1-8b", 32, 8, 128, "meta-llama/Llama-3.1-8B"),
	GROUPED("llama-3.3-70b", 80, 8, 128, "meta-llama/Llama-3.3-70B-Instruct"),
	GROUPED("llama-3.1-405b", 126, 8, 128, "meta-llama/Llama-3.1-405B"),
	GROUPED("qwen2.5-7b", 28, 4, 128, "Qwen/Qwen2.5-7B"),
	GROUPED("qwen2.5-72b", 80, 8, 128, "Qwen/Qwen2.5-72B"),
	GROUPED("qwen3-8b", 36, 8, 128, "Qwen/Qwen3-8B"),
	GROUPED("qwen3-32b", 64, 8, 128, "Qwen/Qwen3-32B"),
	GROUPED("qwen3-235b-a22b", 94, 4, 128, "Qwen/Qwen3-235B-A22B"),
	GROUPED("mistral-7b", 32, 8, 128, "mistralai/Mistral-7B-v0.3"),
	GROUPED("mixtral-8x7b", 32, 8, 128, "mistralai/Mixtral-8x7B-v0.1"),
	GROUPED("mixtral-8x22b", 56, 8, 128, "mistralai/Mixtral-8x22B-v0.1"),
	GROUPED("gpt-oss-120b", 36, 8, 64, "openai/gpt-oss-120b"),
	LATENT("deepseek-v2-lite", 27, 576, "deepseek-ai/DeepSeek-V2-Lite"),
	LATENT("deepseek-v3", 61, 576, "deepseek-ai/DeepSeek-V3"),
};

#define MODEL_COUNT (sizeof(models) / sizeof(models[0]))

int
model_find(const char *name, struct model_shape *out)
{
	for (size_t i = 0; i < MODEL_COUNT; i++) {
		if (strcasecmp(name, models[i].name) != 0)
			continue;
		*out = models[i];
		return 0;
	}
	return -ENOENT;
}

int
model_parse(const char *text, struct model_shape *out)
{
	uint32_t *const numbers[] = {&out->layers, &out->kv_heads, &out->head_size,
				     &out->value_bytes};
	static const unsigned long most[] = {1000, 1024, 65536, 8};
	const char *at = text;

	*out = (struct model_shape){.source = "--shape"};
	snprintf(out->name, sizeof(out->name), "%.47s", text);
	for (int i = 0; i < 4; i++) {
		char *end;
		unsigned long value = strtoul(at, &end, 10);

		/* A sign, or nothing, is no digit. */
		if (*at < '0' || *at > '9' || value < 1 || value > most[i] ||
		    *end != (i < 3 ? ',' : '\0'))
			return -EINVAL;
		*numbers[i] = (uint32_t)value;
		at = end + 1;
	}
	return 0;
}

uint64_t
model_layer_bytes(const struct model_shape *shape, uint32_t tp)
{
	uint64_t heads = shape->kv_heads > tp ? shape->kv_heads / tp : 1;

	if (shape->latent)
		return (uint64_t)shape->head_size * shape->value_bytes;
	return 2 * heads * shape->head_size * shape->value_bytes;
}

uint64_t
model_token_bytes(const struct model_shape *shape, uint32_t tp)
{
	return shape->layers * model_layer_bytes(shape, tp);
}

void
model_list(FILE *out)
{
	fprintf(out, "%-18s %6s %8s %9s %12s  %s\n", "model", "layers", "KV heads", "head size",
		"bytes/token", "config.json of");
	for (size_t i = 0; i < MODEL_COUNT; i++) {
		const struct model_shape *m = &models[i];
		char heads[16] = "latent";

		if (!m->latent)
			snprintf(heads, sizeof(heads), "%u", m->kv_heads);
		fprintf(out, "%-18s %6u %8s %9u %12llu  %s\n", m->name, m->layers, heads,
			m->head_size, (unsigned long long)model_token_bytes(m, 1), m->source);
	}
}
