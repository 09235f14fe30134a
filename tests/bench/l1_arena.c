/* l1_arena.c - how full an arena gets with blocks of one size, of mixed sizes, and of a real trace's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <jansson.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "tests/bench/l1.h"

#define ALIGN       4096u
#define ARENA       ((uint64_t)128 << 20)
#define USES_MAX    400000u
#define LIVE_MAX    (ARENA / ALIGN)
#define TOKENS      512u /* of one block of the trace */
#define TOKEN_BYTES 128u /* a full block has 64 KiB then; the last one of a prompt what is left */
#define LINE_BYTES  (1u << 20)

/* A block that somebody wants, in the order in which it is wanted. */
struct use {
	uint64_t id;
	uint32_t size_bytes;
};

struct uses {
	struct use *at;
	uint32_t count;
};

/* ---- sizes ---- */

static void
uses_equal(struct uses *uses)
{
	for (uses->count = 0; uses->count < USES_MAX / 4; uses->count++)
		uses->at[uses->count] = (struct use){uses->count, 64 << 10};
}

/* As many of 4 to 8 KiB as of 128 to 256 KiB, and of all between. */
static void
uses_mixed(struct uses *uses)
{
	struct far_rng rng;

	far_rng_init(&rng, 1);
	for (uses->count = 0; uses->count < USES_MAX / 4; uses->count++) {
		uint64_t octave = (uint64_t)4096 << far_rng_below(&rng, 6);

		uses->at[uses->count] = (struct use){
			uses->count, (uint32_t)(octave + far_rng_below(&rng, octave) + 1)};
	}
}

static int
line_read(struct uses *uses, const char *line)
{
	json_t *root = json_loads(line, 0, NULL);
	json_t *ids = json_object_get(root, "hash_ids");
	json_int_t tokens = json_integer_value(json_object_get(root, "input_length"));
	size_t count = json_array_size(ids);

	for (size_t i = 0; i < count && uses->count < USES_MAX && tokens > 0; i++) {
		json_int_t here = tokens < TOKENS ? tokens : TOKENS;

		tokens -= here;
		uses->at[uses->count++] =
			(struct use){(uint64_t)json_integer_value(json_array_get(ids, i)),
				     (uint32_t)here * TOKEN_BYTES};
	}
	json_decref(root);
	return count > 0 ? 0 : -EINVAL;
}

static int
uses_trace(struct uses *uses, const char *path, char *why)
{
	gzFile file = gzopen(path, "rb");
	char *line = far_zalloc(LINE_BYTES);
	int rc = 0;

	uses->count = 0;
	if (file == NULL || line == NULL)
		rc = -ENOENT;
	while (rc == 0 && gzgets(file, line, LINE_BYTES) != NULL)
		rc = line_read(uses, line);
	if (rc == 0 && uses->count == 0)
		rc = -EINVAL;
	if (rc < 0)
		snprintf(why, L1_BENCH_TEXT_BYTES, "%s %s", path,
			 rc == -ENOENT ? "cannot be read" : "is no trace with input_length");
	if (file != NULL)
		gzclose(file);
	far_free(line);
	return rc;
}

/* ---- arenas ---- */

struct world {
	struct far_l1 *l1;
	void *arena; /* never touched */
	far_l1_session session;
};

static int
world_open(struct world *world, enum far_l1_policy policy)
{
	struct far_l1_config config = {.size_bytes = ARENA,
				       .align_bytes = ALIGN,
				       .block_bytes_min = ALIGN,
				       .policy = policy};
	int rc;

	world->arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (world->arena == MAP_FAILED)
		return -ENOMEM;
	config.base = world->arena;
	rc = far_l1_open(&config, &world->l1);
	if (rc == 0)
		rc = far_l1_session_open(world->l1, "bench", &world->session);
	return rc;
}

static void
world_close(struct world *world)
{
	if (world->session != 0)
		far_l1_session_close(world->l1, world->session);
	far_l1_close(world->l1);
	if (world->arena != MAP_FAILED)
		munmap(world->arena, ARENA);
}

static struct far_key
key_of(uint64_t id)
{
	struct far_key key;
	uint64_t half[2] = {far_mix64(id), id + 1};

	memcpy(key.bytes, half, sizeof(half));
	return key;
}

static int
put(struct world *world, const struct use *use)
{
	struct far_l1_want want = {.key = key_of(use->id), .size_bytes = use->size_bytes};
	struct far_l1_grant grant;
	int rc;

	far_l1_reserve_write(world->l1, world->session, &want, 1, &grant);
	if (grant.rc == 0)
		far_l1_finish_write(world->l1, world->session, &grant.loan, 1, &rc);
	return grant.rc;
}

static double
used_share(struct world *world)
{
	struct far_l1_usage usage;

	far_l1_usage_get(world->l1, &usage);
	return (double)usage.used_bytes / (double)usage.capacity_bytes;
}

/* Nothing is evicted: each refusal deletes blocks at random until there is room, and so on. */
static double
refused_measure(const struct uses *uses)
{
	struct world world = {0};
	uint64_t *live = far_zalloc_array(LIVE_MAX, sizeof(*live));
	uint64_t live_count = 0, refusals = 0;
	double used = 0;
	struct far_rng rng;

	far_rng_init(&rng, 2);
	if (live == NULL || world_open(&world, FAR_L1_NONE) < 0)
		goto done;
	for (uint32_t i = 0; i < uses->count; i++) {
		int rc;

		while ((rc = put(&world, &uses->at[i])) == -ENOMEM && live_count > 0) {
			uint64_t at = far_rng_below(&rng, live_count);
			struct far_key key = key_of(live[at]);

			/* The first ones come while the arena is filled from its beginning. */
			if (++refusals > 1000)
				used += used_share(&world);
			live[at] = live[--live_count];
			far_l1_delete(world.l1, &key, 1, false, &rc);
		}
		if (rc == 0)
			live[live_count++] = uses->at[i].id;
	}
done:
	world_close(&world);
	far_free(live);
	return refusals > 1000 ? used / (double)(refusals - 1000) : 0;
}

/* The oldest go. What is not used is what was evicted beyond need. */
static void
evicting_measure(const struct uses *uses, struct l1_bench_sizes *out)
{
	struct world world = {0};
	uint64_t samples = 0;
	double used = 0;

	out->evicting_min = 1;
	if (world_open(&world, FAR_L1_LRU) == 0) {
		for (uint32_t i = 0; i < uses->count; i++) {
			struct far_key key = key_of(uses->at[i].id);
			struct far_l1_usage usage;

			if (put(&world, &uses->at[i]) == -EEXIST)
				far_l1_touch(world.l1, &key, 1);
			far_l1_usage_get(world.l1, &usage);
			if (usage.evicted_blocks < 1000)
				continue;
			used += used_share(&world);
			if (used_share(&world) < out->evicting_min)
				out->evicting_min = used_share(&world);
			samples++;
		}
	}
	world_close(&world);
	out->evicting = samples > 0 ? used / (double)samples : 0;
}

static void
sizes_measure(const char *name, const struct uses *uses, struct l1_bench_sizes *out)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < uses->count; i++)
		bytes += uses->at[i].size_bytes;
	out->name = name;
	out->blocks = uses->count;
	out->bytes_mean = uses->count > 0 ? bytes / uses->count : 0;
	out->refused = refused_measure(uses);
	evicting_measure(uses, out);
}

uint32_t
l1_bench_arena(const struct l1_bench_plan *plan, struct l1_bench_sizes *out, char *why)
{
	struct uses uses = {.at = far_zalloc_array(USES_MAX, sizeof(*uses.at))};
	uint32_t count = 0;

	if (uses.at == NULL)
		return 0;
	uses_equal(&uses);
	sizes_measure("equal", &uses, &out[count++]);
	uses_mixed(&uses);
	sizes_measure("mixed", &uses, &out[count++]);
	if (uses_trace(&uses, plan->trace, why) == 0)
		sizes_measure("trace", &uses, &out[count++]);
	far_free(uses.at);
	return count;
}
