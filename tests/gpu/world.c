/* world.c - opens what the tests of the whole client need, and knows what every byte should be. */
#include "tests/gpu/world.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "tests/gpu/runner.h"

#define HOST_L1_BYTES (192ULL << 20)

static struct far_client *
client_open(struct world *world, struct far_client_options *options)
{
	struct far_donor_options donor = {.size_bytes = sizeof(donor),
					  .name = world->donor.name,
					  .address = world->donor.address};
	struct far_client *client = NULL;
	char error[256] = "";
	int rc;

	options->size_bytes = sizeof(*options);
	if (world->donor.address[0] != '\0') {
		options->donors = &donor;
		options->donor_count = 1;
	}
	rc = far_client_open(options, &client);
	if (rc < 0)
		runner_fail(__FILE__, __LINE__, "far_client_open: %s", far_strerror(rc));
	rc = far_client_wait_donors(client, far_now_ns() + WORLD_WAIT_NS, error, sizeof(error));
	if (rc < 0)
		runner_fail(__FILE__, __LINE__, "%s: %s", error, far_strerror(rc));
	return client;
}

static void
open_with(struct world *world, uint64_t donor_bytes, bool hasty)
{
	const struct gpu_donor_config config = {
		.name = "donor",
		.bytes = donor_bytes,
		.lane_bytes = hasty ? WORLD_BLOCK_MAX : WORLD_LANE_BYTES,
		.lanes_free = hasty ? 1 : 2,
		.grace_ns = hasty ? 0 : 50 * FAR_NS_PER_MS,
	};
	struct far_client_options options = {.name = "host", .l1_bytes = HOST_L1_BYTES};

	memset(world, 0, sizeof(*world));
	gpu_open(&world->gpu);
	gpu_donor_start(&world->donor, &config);
	world->host = client_open(world, &options);
}

void
world_open(struct world *world, uint64_t donor_bytes)
{
	open_with(world, donor_bytes, false);
}

void
world_open_hasty(struct world *world, uint64_t donor_bytes)
{
	open_with(world, donor_bytes, true);
}

void
world_close(struct world *world)
{
	far_client_close(world->host);
	if (world->donor.process.pid > 0)
		gpu_donor_stop(&world->donor);
	gpu_close(&world->gpu);
}

struct far_client *
world_client(struct world *world, enum world_path path, uint64_t l1_bytes, void *base)
{
	struct far_client_options options = {
		.name = "gpu",
		.l1_bytes = l1_bytes,
		.l1_memory = "cuda",
		.l1_gpu_mapped = path == WORLD_STAGED ? "never" : "auto",
		.l1_base = base,
	};

	return client_open(world, &options);
}

uint64_t
world_path_bytes(struct far_client *client, enum world_path path)
{
	const char *name = path == WORLD_STAGED ? "staged" : "mapped";
	struct far_memory_info info = {.size_bytes = sizeof(info)};
	uint64_t bytes = 0;

	CHECK_EQ(far_client_memory_get(client, &info), 0);
	CHECK_EQ(strcmp(info.kind, "cuda"), 0);
	for (uint32_t i = 0; i < info.path_count; i++)
		if (strcmp(info.paths[i].path, name) == 0)
			bytes += info.paths[i].bytes;
	return bytes;
}

void
world_client_close(struct far_client *client)
{
	uint64_t until_ns = far_now_ns() + WORLD_WAIT_NS;
	int rc;

	while ((rc = far_client_try_close(client)) == -EBUSY)
		CHECK(far_now_ns() < until_ns);
	CHECK_EQ(rc, 0);
}

/* ---- blocks ---- */

struct far_key
world_key(uint64_t number)
{
	uint64_t halves[2] = {far_mix64(number), far_mix64(~number)};
	struct far_key key;

	memcpy(key.bytes, halves, sizeof(key.bytes));
	return key;
}

/* Most are what an engine has, some are odd, a few are large. */
uint32_t
world_size(uint64_t number)
{
	uint64_t dice = far_mix64(number * 31 + 7);

	if (dice % 16 == 0)
		return 1 + (uint32_t)(dice >> 8) % 300000;
	if (dice % 16 == 1)
		return WORLD_BLOCK_MAX;
	return 65536U << (dice >> 8) % 4;
}

uint64_t
world_store_some(struct world *world, uint64_t first, uint64_t count)
{
	struct far_flush_result before = {.size_bytes = sizeof(before)}, after = before;
	uint8_t *bytes = malloc(WORLD_BLOCK_MAX);

	CHECK(bytes != NULL);
	CHECK_EQ(far_flush(world->host, far_now_ns() + WORLD_WAIT_NS, &before), 0);
	for (uint64_t n = first; n < first + count; n++) {
		struct far_key key = world_key(n);
		uint32_t size = world_size(n);
		int rc;

		gpu_pattern_fill(bytes, size, n);
		rc = far_put(world->host, &key, bytes, size);
		CHECK_EQ(rc, 0);
		/* No more than half of L1 may be on its way to a donor. */
		if (n % 16 == 15)
			CHECK_EQ(far_flush(world->host, far_now_ns() + WORLD_WAIT_NS, NULL), 0);
	}
	CHECK_EQ(far_flush(world->host, far_now_ns() + WORLD_WAIT_NS, &after), 0);
	free(bytes);
	return after.stored - before.stored;
}

void
world_store(struct world *world, uint64_t first, uint64_t count)
{
	CHECK_EQ(world_store_some(world, first, count), count);
}

/* ---- fetching ---- */

void
world_fetch_begin(struct world_fetch *fetch, struct far_client *client, uint64_t first,
		  uint32_t count, uint64_t deadline_ns, uint32_t flags)
{
	struct far_key keys[WORLD_BATCH_MAX];
	uint32_t sizes[WORLD_BATCH_MAX];
	struct far_prefetch_options options = {.size_bytes = sizeof(options),
					       .deadline_ns = deadline_ns,
					       .flags = flags,
					       .sizes = sizes,
					       .trim = FAR_TRIM_ALL};

	CHECK(count <= WORLD_BATCH_MAX);
	for (uint32_t i = 0; i < count; i++) {
		keys[i] = world_key(first + i);
		sizes[i] = world_size(first + i);
	}
	*fetch = (struct world_fetch){.client = client, .first = first, .count = count};
	CHECK_EQ(far_prefetch(client, keys, count, &options, &fetch->handle), 0);
}

uint32_t
world_fetch_check(struct world *world, struct world_fetch *fetch)
{
	struct gpu_range ranges[WORLD_BATCH_MAX];
	uint32_t readable = 0;
	uint64_t wrong;

	CHECK_EQ(far_prefetch_wait(fetch->handle, far_now_ns() + WORLD_WAIT_NS, NULL), 0);
	for (uint32_t i = 0; i < fetch->count; i++) {
		const void *data;
		uint32_t size;

		if (far_prefetch_block(fetch->handle, i, &data, &size) < 0)
			continue;
		CHECK_EQ(size, world_size(fetch->first + i));
		ranges[readable++] = (struct gpu_range){
			.at = data, .size_bytes = size, .seed = fetch->first + i};
	}
	if (readable == 0)
		return 0;
	wrong = gpu_ranges_wrong(&world->gpu, ranges, readable);
	if (wrong != 0)
		runner_fail(__FILE__, __LINE__, "%" PRIu64 " wrong bytes in blocks %" PRIu64 "..%u",
			    wrong, fetch->first, fetch->count);
	return readable;
}

void
world_fetch_end(struct world_fetch *fetch)
{
	far_prefetch_release(fetch->handle);
	fetch->handle = NULL;
}

void
world_fetch(struct world *world, struct far_client *client, uint64_t first, uint32_t count)
{
	struct world_fetch fetch;

	world_fetch_begin(&fetch, client, first, count, far_now_ns() + WORLD_WAIT_NS, 0);
	CHECK_EQ(world_fetch_check(world, &fetch), count);
	world_fetch_end(&fetch);
}
