/* bench_client.c - the same through the public interface: prefetches from a donor, stores to one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "farpool/farpool.h"
#include "farpool/memory.h"
#include "tests/gpu/bench.h"
#include "tests/gpu/donor.h"
#include "tests/gpu/runner.h"

#define REQUEST_BYTES (64ULL << 20)
#define IN_FLIGHT     4
#define WARM_MAX      10
#define WAIT_NS       20000000000ULL
#define BUSY_POLL_US  5000U

struct bench_mover {
	struct bench *bench;
	struct gpu_donor donor;
	struct far_client *client;
	uint64_t stored;       /* blocks, each with a key of its own */
	uint64_t staged_bytes; /* of a mapped one, before it is measured */
};

/* Block @idx of those of a size; or, to be stored, of all. A key is a digest: every bit counts. */
static struct far_key
key_of(uint64_t size_bytes, uint64_t idx)
{
	uint64_t halves[2] = {far_mix64(size_bytes + idx), far_mix64(~idx)};
	struct far_key key;

	memcpy(key.bytes, halves, sizeof(key.bytes));
	return key;
}

static struct far_client *
client_open(struct bench_mover *mover, const char *memory, const char *mapped,
	    uint32_t busy_poll_us)
{
	struct far_donor_options donor = {.size_bytes = sizeof(donor),
					  .name = mover->donor.name,
					  .address = mover->donor.address};
	struct far_client_options options = {
		.size_bytes = sizeof(options),
		.l1_bytes = 3 * mover->bench->set_bytes,
		.block_bytes_min = bench_sizes[0],
		.donors = &donor,
		.donor_count = 1,
		.l1_memory = memory,
		.l1_gpu_mapped = mapped,
		.busy_poll_us = busy_poll_us,
		.store_deadline_ns = WAIT_NS,
	};
	struct far_client *client;
	char error[256] = "";

	CHECK_EQ(far_client_open(&options, &client), 0);
	CHECK_EQ(far_client_wait_donors(client, far_now_ns() + WAIT_NS, error, sizeof(error)), 0);
	return client;
}

static void
client_close(struct bench_mover *mover)
{
	far_client_close(mover->client);
	gpu_donor_stop(&mover->donor);
	free(mover);
}

static struct bench_mover *
mover_new(struct bench *bench, uint64_t donor_bytes)
{
	const struct gpu_donor_config config = {
		.name = "bench",
		.bytes = donor_bytes,
		.lane_bytes = BENCH_BLOCK_MAX,
		.lanes_free = bench->set_bytes / BENCH_BLOCK_MAX + 2,
		.grace_ns = 50000000,
	};
	struct bench_mover *mover = calloc(1, sizeof(*mover));

	CHECK(mover != NULL);
	mover->bench = bench;
	gpu_donor_start(&mover->donor, &config);
	return mover;
}

/* ---- loads ---- */

/* Every size has blocks of its own; all of them begin as the pattern does. */
static void
donor_fill(struct bench_mover *mover)
{
	struct far_client *writer = client_open(mover, "host", NULL, 0);
	struct far_flush_result result = {.size_bytes = sizeof(result)};

	for (int s = 0; s < BENCH_SIZES; s++) {
		uint64_t count = mover->bench->set_bytes / bench_sizes[s];

		for (uint64_t i = 0; i < count; i++) {
			struct far_key key = key_of(bench_sizes[s], i);
			uint32_t size = (uint32_t)bench_sizes[s];
			int rc = far_put(writer, &key, mover->bench->pinned, size);

			CHECK_EQ(rc, 0);
			/* No more than half of L1 may be on its way to a donor. */
			if ((i + 1) * size % BENCH_BLOCK_MAX == 0)
				CHECK_EQ(far_flush(writer, far_now_ns() + WAIT_NS, NULL), 0);
		}
		CHECK_EQ(far_flush(writer, far_now_ns() + WAIT_NS, &result), 0);
		CHECK_EQ(result.failed + result.dropped, 0);
	}
	far_client_close(writer);
}

static void
prefetch_begin(struct bench_mover *mover, uint64_t block_bytes, uint64_t first, uint64_t count,
	       struct far_prefetch_handle **out)
{
	static struct far_key keys[REQUEST_BYTES / BENCH_ONCE_BYTES];
	struct far_prefetch_options options = {.size_bytes = sizeof(options),
					       .deadline_ns = far_now_ns() + WAIT_NS,
					       .flags = FAR_PREFETCH_PAST_L1};

	for (uint64_t i = 0; i < count; i++)
		keys[i] = key_of(block_bytes, first + i);
	CHECK_EQ(far_prefetch(mover->client, keys, count, &options, out), 0);
}

/* Waits, looks whether all of it is there, and lets go. */
static void
prefetch_end(struct far_prefetch_handle *handle, uint64_t count)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};

	CHECK_EQ(far_prefetch_wait(handle, far_now_ns() + WAIT_NS, &status), 0);
	if (status.prefix_count != count)
		runner_fail(__FILE__, __LINE__, "%llu of %llu blocks: %s",
			    (unsigned long long)status.prefix_count, (unsigned long long)count,
			    far_strerror(status.gap_rc));
	far_prefetch_release(handle);
}

static uint64_t
load_pass(struct bench_mover *mover, uint64_t block_bytes)
{
	struct far_prefetch_handle *handles[IN_FLIGHT] = {NULL};
	uint64_t count = mover->bench->set_bytes / block_bytes;
	uint64_t each = block_bytes < REQUEST_BYTES ? REQUEST_BYTES / block_bytes : 1;
	uint64_t requests = (count + each - 1) / each;
	uint64_t start_ns;

	CHECK(far_clear(mover->client, 0) >= 0);
	start_ns = far_now_ns();
	for (uint64_t r = 0; r < requests + IN_FLIGHT; r++) {
		struct far_prefetch_handle **handle = &handles[r % IN_FLIGHT];

		if (r >= IN_FLIGHT) {
			uint64_t first = (r - IN_FLIGHT) * each;

			if (*handle != NULL)
				prefetch_end(*handle, first + each <= count ? each : count - first);
			*handle = NULL;
		}
		if (r < requests) {
			uint64_t left = count - r * each;

			prefetch_begin(mover, block_bytes, r * each, left < each ? left : each,
				       handle);
		}
	}
	return far_now_ns() - start_ns;
}

static uint64_t
load_once(struct bench_mover *mover)
{
	struct far_prefetch_handle *handle;
	uint64_t start_ns = far_now_ns();

	prefetch_begin(mover, BENCH_ONCE_BYTES, 0, 1, &handle);
	CHECK_EQ(far_prefetch_wait(handle, start_ns + WAIT_NS, NULL), 0);
	start_ns = far_now_ns() - start_ns;
	prefetch_end(handle, 1);
	return start_ns;
}

static void
load_check(struct bench_mover *mover)
{
	struct far_prefetch_handle *handle;
	const void *data;
	uint32_t size;

	prefetch_begin(mover, bench_sizes[3], 0, 1, &handle);
	CHECK_EQ(far_prefetch_wait(handle, far_now_ns() + WAIT_NS, NULL), 0);
	CHECK_EQ(far_prefetch_block(handle, 0, &data, &size), 0);
	CHECK_EQ(gpu_wrong(&mover->bench->gpu, data, size, BENCH_SEED), 0);
	far_prefetch_release(handle);
}

static void
load_open(struct bench *bench, bool mapped, uint32_t busy_poll_us, struct bench_mover **out)
{
	/* Twice what is stored: a donor that is written fast keeps lanes free for what comes next. */
	struct bench_mover *mover = mover_new(bench, 2 * BENCH_SIZES * bench->set_bytes);

	donor_fill(mover);
	mover->client = client_open(mover, "cuda", mapped ? "auto" : "never", busy_poll_us);
	*out = mover;
}

static bool
staged_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	(void)why;
	load_open(bench, false, 0, out);
	return true;
}

static uint64_t
path_bytes(struct far_client *client, const char *path)
{
	struct far_memory_info info = {.size_bytes = sizeof(info)};
	uint64_t bytes = 0;

	CHECK_EQ(far_client_memory_get(client, &info), 0);
	for (uint32_t i = 0; i < info.path_count; i++)
		if (strcmp(info.paths[i].path, path) == 0)
			bytes += info.paths[i].bytes;
	return bytes;
}

static bool
mapped_open_with(struct bench *bench, uint32_t busy_poll_us, struct bench_mover **out,
		 char why[160])
{
	if ((bench->gpu.device->info.flags & FAR_DEVICE_MAP_READONLY) == 0) {
		snprintf(why, 160, "this GPU pins no memory that is mapped read-only");
		return false;
	}
	load_open(bench, true, busy_poll_us, out);
	/* Segments are pinned beside the first loads: until nothing is staged any more. */
	for (int i = 0; i < WARM_MAX; i++) {
		uint64_t before = path_bytes((*out)->client, "staged");

		for (int s = 0; s < BENCH_SIZES; s++)
			(void)load_pass(*out, bench_sizes[s]);
		if (path_bytes((*out)->client, "staged") == before)
			break;
	}
	(*out)->staged_bytes = path_bytes((*out)->client, "staged");
	return true;
}

static bool
mapped_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	return mapped_open_with(bench, 0, out, why);
}

static bool
awake_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	return mapped_open_with(bench, BUSY_POLL_US, out, why);
}

static void
mapped_close(struct bench_mover *mover)
{
	uint64_t staged = path_bytes(mover->client, "staged") - mover->staged_bytes;

	if (staged > 0)
		printf("prefetch, mapped: %llu MiB of what was measured were staged\n",
		       (unsigned long long)staged >> 20);
	client_close(mover);
}

const struct bench_mover_ops bench_client_mapped = {
	.name = "prefetch-mapped",
	.text = "far_prefetch() over shm: looked up, read by the copy engine, validated, flipped",
	.way = BENCH_LOAD,
	.open = mapped_open,
	.pass = load_pass,
	.once = load_once,
	.check = load_check,
	.close = mapped_close,
};

const struct bench_mover_ops bench_client_awake = {
	.name = "prefetch-awake",
	.text = "the same with busy_poll: 5 ms: the client's thread does not sleep in between",
	.way = BENCH_LOAD,
	.aim = 0.95,
	.open = awake_open,
	.pass = load_pass,
	.once = load_once,
	.check = load_check,
	.close = mapped_close,
};

const struct bench_mover_ops bench_client_staged = {
	.name = "prefetch-staged",
	.text = "far_prefetch() over shm, staged; a processor copies into the ring (see memcpy)",
	.way = BENCH_LOAD,
	.open = staged_open,
	.pass = load_pass,
	.once = load_once,
	.check = load_check,
	.close = client_close,
};

/* ---- stores ---- */

static bool
store_open(struct bench *bench, struct bench_mover **out, char why[160])
{
	struct bench_mover *mover = mover_new(bench, 4 * bench->set_bytes + 8 * BENCH_BLOCK_MAX);

	(void)why;
	mover->client = client_open(mover, "cuda", "never", 0);
	*out = mover;
	return true;
}

static uint64_t
store_pass(struct bench_mover *mover, uint64_t block_bytes)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};
	uint64_t count = mover->bench->set_bytes / block_bytes, start_ns;

	CHECK(far_clear(mover->client, 0) >= 0);
	start_ns = far_now_ns();
	for (uint64_t i = 0; i < count; i++) {
		struct far_key key = key_of(1, mover->stored++);
		struct far_block *block;

		CHECK_EQ(far_reserve(mover->client, &key, (uint32_t)block_bytes, &block), 0);
		CHECK_EQ(far_commit(block), 0);
	}
	CHECK_EQ(far_flush(mover->client, far_now_ns() + WAIT_NS, &result), 0);
	start_ns = far_now_ns() - start_ns;
	CHECK_EQ(result.stored, mover->stored);
	return start_ns;
}

const struct bench_mover_ops bench_client_store = {
	.name = "store",
	.text = "far_reserve(), far_commit(), far_flush() over shm; the donor copies the bytes out",
	.way = BENCH_STORE,
	.open = store_open,
	.pass = store_pass,
	.close = client_close,
};
