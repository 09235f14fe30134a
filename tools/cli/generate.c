/* generate.c - traffic for those who have no trace: multi-turn conversations, said to be such. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "tools/cli/trace.h"

#define SYSTEM_PROMPTS 4U

/* One conversation on its way: the ids of all its blocks so far. */
struct talk {
	uint64_t at_ns;
	uint32_t turns_left;
	uint32_t count;
	uint64_t *ids; /* room for FAR_TRACE_IDS_MAX */
};

static int
append(struct far_trace *trace, const struct talk *talk)
{
	struct far_trace_request *request = &trace->requests[trace->request_count];

	if (trace->id_count + talk->count > trace->id_capacity) {
		size_t wanted = (trace->id_count + talk->count) * 2;
		uint64_t *ids = far_zalloc_array(wanted, sizeof(*ids));

		if (ids == NULL)
			return -ENOMEM;
		if (trace->ids != NULL)
			memcpy(ids, trace->ids, trace->id_count * sizeof(*ids));
		far_free(trace->ids);
		trace->ids = ids;
		trace->id_capacity = wanted;
	}
	*request = (struct far_trace_request){
		.at_ns = talk->at_ns,
		.first = trace->id_count,
		.count = talk->count,
	};
	memcpy(&trace->ids[trace->id_count], talk->ids, talk->count * sizeof(*talk->ids));
	trace->id_count += talk->count;
	trace->request_count++;
	return 0;
}

/* Adds a turn's blocks: what the user said and the model answered. */
static void
talk_turn(struct talk *talk, const struct far_trace_generate *config, struct far_rng *rng,
	  uint64_t *next_id)
{
	uint64_t blocks = 1 + far_rng_below(rng, config->turn_blocks_max);

	while (blocks-- > 0 && talk->count < FAR_TRACE_IDS_MAX)
		talk->ids[talk->count++] = (*next_id)++;
}

static void
talk_start(struct talk *talk, const struct far_trace_generate *config, struct far_rng *rng)
{
	uint64_t prompt = far_rng_below(rng, SYSTEM_PROMPTS);

	for (uint32_t i = 0; i < config->system_blocks && i < FAR_TRACE_IDS_MAX / 2; i++)
		talk->ids[talk->count++] = prompt * config->system_blocks + i;
	talk->turns_left = 1 + (uint32_t)far_rng_below(rng, config->turns_max);
	talk->at_ns = far_rng_below(rng, config->think_ns * config->turns_max + 1);
}

static struct talk *
talk_next(struct talk *talks, uint32_t count)
{
	struct talk *first = NULL;

	for (uint32_t i = 0; i < count; i++) {
		if (talks[i].turns_left > 0 && (first == NULL || talks[i].at_ns < first->at_ns))
			first = &talks[i];
	}
	return first;
}

int
far_trace_generate(const struct far_trace_generate *config, size_t requests_max,
		   struct far_trace *out)
{
	uint64_t next_id = (uint64_t)SYSTEM_PROMPTS * config->system_blocks;
	size_t talk_ids = FAR_TRACE_IDS_MAX;
	struct talk *talks = NULL;
	uint64_t *ids = NULL;
	struct far_rng rng;
	struct talk *talk;
	int rc = -ENOMEM;

	memset(out, 0, sizeof(*out));
	snprintf(out->source, sizeof(out->source), "generated: %u conversations, seed %llu",
		 config->conversations, (unsigned long long)config->seed);
	far_rng_init(&rng, config->seed);
	talks = far_zalloc_array(config->conversations, sizeof(*talks));
	ids = far_zalloc_array(config->conversations * talk_ids, sizeof(*ids));
	out->request_capacity = (size_t)config->conversations * config->turns_max;
	out->requests = far_zalloc_array(out->request_capacity, sizeof(*out->requests));
	if (talks == NULL || ids == NULL || out->requests == NULL)
		goto end;
	for (uint32_t i = 0; i < config->conversations; i++) {
		talks[i].ids = &ids[i * talk_ids];
		talk_start(&talks[i], config, &rng);
	}
	rc = 0;
	while (rc == 0 && (talk = talk_next(talks, config->conversations)) != NULL) {
		if (requests_max > 0 && out->request_count == requests_max)
			break;
		talk_turn(talk, config, &rng, &next_id);
		rc = append(out, talk);
		talk->turns_left--;
		talk->at_ns += far_rng_below(&rng, 2 * config->think_ns + 1);
	}
end:
	far_free(talks);
	far_free(ids);
	if (rc < 0)
		far_trace_fini(out);
	return rc;
}
