/* params.c - the parameters of a pool: their table, their check, and sizes fitted to small donors. */
#include "pool/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "pool/pool_priv.h"

#define LANE_BYTES_DEFAULT    (16ULL << 20)
#define SEGMENT_BYTES_DEFAULT (256ULL << 20)
#define SEGMENT_BYTES_MAX     (64ULL << 30)
#define SEGMENTS_MAX          8192U /* each is a mapping, and a descriptor for a moment, at every client */
#define LANES_FITTED          32U /* a fitted donor has so many lanes, if the smallest lane allows it */
#define LANES_MIN             4U
#define MEMORY_MAX            (16ULL << 40)

#define AT(field) offsetof(struct far_pool_config, field)

static const struct far_param params[] = {
	{.name = "name",
	 .type = FAR_PARAM_STRING,
	 .offset = AT(name),
	 .min = 1,
	 .max = FAR_NAME_BYTES_MAX,
	 .fallback = NULL,
	 .help = "Name of this donor, unique in the rack and kept across restarts."},
	{.name = "namespace",
	 .type = FAR_PARAM_STRING,
	 .offset = AT(name_space),
	 .min = 1,
	 .max = FAR_NAME_BYTES_MAX,
	 .fallback = "default",
	 .help = "Pool of its own that clients ask for by this name."},
	{.name = "memory",
	 .type = FAR_PARAM_SIZE,
	 .offset = AT(capacity_bytes),
	 .min = LANES_MIN * FAR_LANE_BYTES_MIN,
	 .max = MEMORY_MAX,
	 .fallback = NULL,
	 .help = "Memory to lend, rounded down to whole lanes."},
	{.name = "segment",
	 .type = FAR_PARAM_SIZE,
	 .offset = AT(segment_bytes),
	 .min = 0,
	 .max = SEGMENT_BYTES_MAX,
	 .fallback = "0",
	 .help = "Unit in which memory is mapped, lent and taken back; 0: 256MiB, less where "
		 "memory is "
		 "small."},
	{.name = "lane",
	 .type = FAR_PARAM_SIZE,
	 .offset = AT(lane_bytes),
	 .min = 0,
	 .max = FAR_LANE_BYTES_MAX,
	 .fallback = "0",
	 .help = "Unit of writing and eviction, 4MiB to 64MiB, a power of two, and the largest "
		 "block; "
		 "0: 16MiB, less where memory is small."},
	{.name = "block_min",
	 .type = FAR_PARAM_SIZE,
	 .offset = AT(block_bytes_min),
	 .min = 64,
	 .max = FAR_BLOCK_BYTES_MAX,
	 .fallback = "64KiB",
	 .help = "Smallest block that the index is sized for; smaller ones are stored until it is "
		 "full."},
	{.name = "grace",
	 .type = FAR_PARAM_DURATION,
	 .offset = AT(grace_ns),
	 .min = 0,
	 .max = 60 * FAR_NS_PER_S,
	 .fallback = "50ms",
	 .help = "How long an emptied lane rests before it is written again; makes rejected reads "
		 "rare."},
	{.name = "lanes_free",
	 .type = FAR_PARAM_U64,
	 .offset = AT(lanes_free_min),
	 .min = 1,
	 .max = POOL_LANES_MAX,
	 .fallback = "2",
	 .help = "Lanes that eviction keeps free ahead of the writers."},
	{.name = "lanes_open_max",
	 .type = FAR_PARAM_U64,
	 .offset = AT(lanes_open_max),
	 .min = 0,
	 .max = POOL_LANES_MAX,
	 .fallback = "0",
	 .help = "Lanes granted to all writers together; 0: half of all."},
	{.name = "lane_idle",
	 .type = FAR_PARAM_DURATION,
	 .offset = AT(lane_idle_ns),
	 .min = FAR_NS_PER_MS,
	 .max = 3600 * FAR_NS_PER_S,
	 .fallback = "30s",
	 .help = "An open lane without a commit is asked back after this."},
	{.name = "recall",
	 .type = FAR_PARAM_DURATION,
	 .offset = AT(recall_ns),
	 .min = FAR_NS_PER_MS,
	 .max = 3600 * FAR_NS_PER_S,
	 .fallback = "5s",
	 .help = "A client that does not answer a recall, or says no hello, in this time is "
		 "disconnected."},
	{.name = "hot_share",
	 .type = FAR_PARAM_U64,
	 .offset = AT(hot_share_max),
	 .min = 0,
	 .max = 50,
	 .fallback = "25",
	 .help = "Percent of an evicted lane that may be kept because it was read."},
	{.name = "max_links",
	 .type = FAR_PARAM_U64,
	 .offset = AT(links_max),
	 .min = 1,
	 .max = 65536,
	 .fallback = "256",
	 .help = "Clients connected at the same time."},
};

const struct far_param_table far_pool_params = {
	.title = "pool",
	.params = params,
	.count = sizeof(params) / sizeof(params[0]),
};

void
far_pool_config_fit(struct far_pool_config *config)
{
	uint64_t lane = config->lane_bytes;
	uint64_t segment = config->segment_bytes;

	if (lane == 0) {
		lane = LANE_BYTES_DEFAULT;
		while (lane > FAR_LANE_BYTES_MIN && config->capacity_bytes / lane < LANES_FITTED)
			lane /= 2;
		/* A segment that was asked for bounds its lanes. */
		while (segment != 0 && lane > FAR_LANE_BYTES_MIN && segment % lane != 0)
			lane /= 2;
	}
	if (segment == 0) {
		segment = SEGMENT_BYTES_DEFAULT;
		/* Four segments or more: the first one serves while the rest is being mapped. */
		while (segment > lane && config->capacity_bytes / segment < 4)
			segment /= 2;
		if (segment < lane)
			segment = lane;
	}
	config->lane_bytes = lane;
	config->segment_bytes = segment;
	config->capacity_bytes -= config->capacity_bytes % lane;
}

static bool
name_is_valid(const char *name)
{
	size_t length = strnlen(name, FAR_NAME_BYTES_MAX + 1);

	if (length == 0 || length > FAR_NAME_BYTES_MAX)
		return false;
	for (size_t i = 0; i < length; i++) {
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '.' || c == '_' || c == '-'))
			return false;
	}
	return true;
}

static int
refuse(char error[FAR_PARAM_ERROR_BYTES], const char *line)
{
	snprintf(error, FAR_PARAM_ERROR_BYTES, "%s", line);
	return -EINVAL;
}

/* Sizes that divide each other, or one line that says which one does not. */
static int
sizes_check(const struct far_pool_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	uint64_t lane = config->lane_bytes;

	if (lane < FAR_LANE_BYTES_MIN || lane > FAR_LANE_BYTES_MAX || (lane & (lane - 1)) != 0)
		return refuse(error, "lane: not a power of two from 4MiB to 64MiB: use 4MiB, 8MiB, "
				     "16MiB, 32MiB or 64MiB");
	if (config->segment_bytes < lane || config->segment_bytes % lane != 0 ||
	    config->segment_bytes > SEGMENT_BYTES_MAX) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "segment: not a multiple of lane (%" PRIu64
			 "MiB): use a multiple of it, 64GiB at the most",
			 lane >> 20);
		return -EINVAL;
	}
	if (config->capacity_bytes % lane != 0 || config->capacity_bytes / lane < LANES_MIN) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "memory: less than %u lanes of %" PRIu64
			 "MiB, or not a multiple of them: give "
			 "at least %" PRIu64 "MiB, or make lane smaller",
			 LANES_MIN, lane >> 20, LANES_MIN * (lane >> 20));
		return -EINVAL;
	}
	if (config->capacity_bytes / lane > POOL_LANES_MAX / 4)
		return refuse(error, "memory: too many lanes: make lane larger");
	if (config->capacity_bytes / config->segment_bytes > SEGMENTS_MAX)
		return refuse(error, "memory: more segments than clients can map: make segment "
				     "larger");
	return 0;
}

int
far_pool_config_check(const struct far_pool_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	struct far_index_layout layout;
	int rc;

	if (!name_is_valid(config->name))
		return refuse(error, "name: empty, longer than 63, or with other characters than "
				     "letters, digits, '.', '_' and '-': correct it");
	if (!name_is_valid(config->name_space))
		return refuse(error,
			      "namespace: empty, longer than 63, or with other characters than "
			      "letters, digits, '.', '_' and '-': correct it");
	rc = sizes_check(config, error);
	if (rc < 0)
		return rc;
	if (config->block_bytes_min == 0 || config->block_bytes_min > config->lane_bytes)
		return refuse(error,
			      "block_min: larger than a lane: make it smaller, or lane larger");
	if (config->lanes_free_min == 0 ||
	    config->lanes_free_min >= config->capacity_bytes / config->lane_bytes)
		return refuse(error,
			      "lanes_free: as many as there are lanes: make it smaller, or lend "
			      "more memory");
	if (config->hot_share_max > 50)
		return refuse(error,
			      "hot_share: more than 50: eviction would free too little, lower it");
	if (config->links_max == 0)
		return refuse(error, "max_links: nobody could connect: use 1 or more");
	if (config->recall_ns == 0 || config->lane_idle_ns == 0)
		return refuse(error, "recall, lane_idle: zero: use 1ms or more");
	rc = far_index_layout_make(config->capacity_bytes, config->block_bytes_min, 1, &layout);
	if (rc < 0 || layout.set_count * FAR_SET_SLOTS >= POOL_NONE)
		return refuse(error,
			      "block_min: the index would have more than 2^32 slots: make it "
			      "larger");
	return 0;
}
