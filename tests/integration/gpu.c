/* gpu.c - an L1 in GPU memory over real donors. The GPU is a stand-in: a libcuda.so.1 of ours, which
 * LD_LIBRARY_PATH leads to, whose memory is the host's. It says nothing of a real one's order and speed. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "farpool/memory.h"
#include "tests/support/rig.h"
#include "tests/support/tcp_port.h"
#include "tools/cli/fill.h"
#include "transport/mem/device.h"

#define BLOCK_BYTES 65536U
#define KEYS_MAX    256U
#define ON_GPU      "  memory: cuda\n"
#define STAGED      ON_GPU "  gpu_mapped: never\n"

struct world {
	struct rig rig;
	struct rig_donor *donor;
	struct far_client *client;
	struct far_key keys[KEYS_MAX];
};

static uint8_t bytes[BLOCK_BYTES];

static uint64_t
soon(void)
{
	return far_now_ns() + rig_seconds(20) * FAR_NS_PER_S;
}

static void
store(struct far_client *client, uint64_t id)
{
	struct far_key key;

	far_fill_key(id, BLOCK_BYTES, &key);
	far_fill_block(&key, bytes, BLOCK_BYTES);
	assert_int_equal(far_put(client, &key, bytes, BLOCK_BYTES), 0);
}

/* The donor has the first @stored keys, L1 has none. @l1: more lines below l1.size. */
static void
world_fill(struct world *world, uint32_t stored, const char *l1)
{
	world->donor = rig_donor_add(&world->rig, "donor-a", "64MiB", NULL);
	world->client = rig_client(&world->rig, "24MiB", l1);
	for (uint32_t i = 0; i < KEYS_MAX; i++)
		far_fill_key(i, BLOCK_BYTES, &world->keys[i]);
	for (uint32_t i = 0; i < stored; i++)
		store(world->client, i);
	assert_int_equal(far_flush(world->client, soon(), NULL), 0);
	assert_int_equal(far_clear(world->client, 0), stored);
}

static void
world_open(struct world *world, uint32_t stored, const char *l1)
{
	rig_open(&world->rig);
	world_fill(world, stored, l1);
}

static void
world_open_ucx(struct world *world, uint32_t stored, const char *l1)
{
	rig_open(&world->rig);
	rig_over_ucx(&world->rig, "127.0.0.1", "127.0.0.1", far_test_tcp_port(), NULL);
	world_fill(world, stored, l1);
}

/* Nothing is left behind of what the test did. */
static void
world_close(struct world *world)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	far_stats_get(world->client, &stats);
	assert_true(stats.l1_capacity_bytes > 0);
	assert_int_equal(stats.l1_locked_bytes, 0);
	assert_int_equal(far_client_try_close(world->client), 0);
	rig_close(&world->rig);
}

static struct far_prefetch_handle *
prefetch(struct world *world, size_t count, uint64_t deadline_ns)
{
	struct far_prefetch_options options = {.size_bytes = sizeof(options),
					       .deadline_ns = deadline_ns};
	struct far_prefetch_handle *handle = NULL;

	assert_int_equal(far_prefetch(world->client, world->keys, count, &options, &handle), 0);
	return handle;
}

static struct far_prefetch_status
wait_for(struct far_prefetch_handle *handle)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};

	assert_int_equal(far_prefetch_wait(handle, soon(), &status), 0);
	return status;
}

/* What is readable is right, as the GPU has it. */
static void
prefix_is_right(struct world *world, struct far_prefetch_handle *handle, uint64_t prefix)
{
	for (size_t i = 0; i < prefix; i++) {
		uint32_t size_bytes = 0;
		const void *data = NULL;

		assert_int_equal(far_prefetch_block(handle, i, &data, &size_bytes), 0);
		assert_int_equal(size_bytes, BLOCK_BYTES);
		memset(bytes, 0, sizeof(bytes));
		assert_int_equal(far_memory_read(world->client, bytes, data, size_bytes), 0);
		assert_int_equal(far_fill_check(&world->keys[i], bytes, size_bytes), 0);
	}
}

static uint64_t
bytes_by(const struct far_memory_info *info, const char *transport, const char *path)
{
	for (uint32_t i = 0; i < info->path_count; i++) {
		if (strcmp(info->paths[i].transport, transport) == 0 &&
		    strcmp(info->paths[i].path, path) == 0)
			return info->paths[i].bytes;
	}
	fail_msg("no path %s of %s", path, transport);
	return 0;
}

/* All that the donor has becomes readable, and went this way. */
static void
prefetched_by(struct world *world, uint32_t count, const char *transport, const char *path)
{
	struct far_donor_status donor = {.size_bytes = sizeof(donor)};
	struct far_memory_info info = {.size_bytes = sizeof(info)};
	struct far_prefetch_handle *handle = prefetch(world, count, soon());
	struct far_prefetch_status status = wait_for(handle);

	assert_int_equal(status.rc, 0);
	assert_int_equal(status.prefix_count, count);
	assert_int_equal(status.l2_bytes, (uint64_t)count * BLOCK_BYTES);
	prefix_is_right(world, handle, count);
	far_prefetch_release(handle);
	assert_int_equal(far_client_memory_get(world->client, &info), 0);
	assert_string_equal(info.kind, "cuda");
	assert_true(info.name[0] != '\0');
	assert_true(bytes_by(&info, transport, path) >= (uint64_t)count * BLOCK_BYTES);
	assert_int_equal(far_donor_status_get(world->client, 0, soon(), &donor), 0);
	assert_string_equal(donor.memory_path, path);
}

static void
blocks_of_this_host_are_copied_out_of_the_donors_pages(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, 64, ON_GPU);
	/* What is mapped is pinned beside: the first ones may go through the ring. */
	for (int i = 0; i < 100; i++) {
		struct far_memory_info info = {.size_bytes = sizeof(info)};
		struct far_prefetch_handle *handle = prefetch(&world, 64, soon());

		assert_int_equal(wait_for(handle).prefix_count, 64);
		far_prefetch_release(handle);
		assert_int_equal(far_client_memory_get(world.client, &info), 0);
		(void)far_clear(world.client, 0);
		if (info.mapped_bytes > 0)
			break;
		far_clock_sleep_until(far_now_ns() + 20 * FAR_NS_PER_MS);
	}
	prefetched_by(&world, 64, "shm", "mapped");
	world_close(&world);
}

static void
blocks_of_this_host_pass_the_ring_where_mapping_is_off(void **state)
{
	struct far_memory_info info = {.size_bytes = sizeof(info)};
	struct world world;

	(void)state;
	world_open(&world, 64, STAGED);
	prefetched_by(&world, 64, "shm", "staged");
	assert_int_equal(far_client_memory_get(world.client, &info), 0);
	assert_int_equal(bytes_by(&info, "shm", "mapped"), 0);
	world_close(&world);
}

static void
blocks_over_tcp_pass_the_ring(void **state)
{
	struct world world;

	(void)state;
	world_open_ucx(&world, 64, ON_GPU);
	prefetched_by(&world, 64, "ucx", "staged");
	world_close(&world);
}

/* 40 MiB through 24 MiB, several times: what was evicted is loaded again, into other places. */
static void
evicted_blocks_come_back_right(void **state)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	const uint32_t count = 160;
	struct world world;

	(void)state;
	rig_open(&world.rig);
	world.donor = rig_donor_add(&world.rig, "donor-a", "128MiB", NULL);
	world.client = rig_client(&world.rig, "6MiB", ON_GPU);
	for (uint32_t i = 0; i < count; i++) {
		far_fill_key(i, BLOCK_BYTES, &world.keys[i]);
		store(world.client, i);
		if (i % 16 == 15)
			assert_int_equal(far_flush(world.client, soon(), NULL), 0);
	}
	for (uint32_t at = 0; at + 40 <= count; at += 40) {
		struct far_prefetch_options options = {.size_bytes = sizeof(options),
						       .deadline_ns = soon()};
		struct far_prefetch_handle *handle;
		struct far_key *all = &world.keys[0];

		assert_int_equal(far_prefetch(world.client, all + at, 40, &options, &handle), 0);
		assert_int_equal(wait_for(handle).prefix_count, 40);
		for (uint32_t i = 0; i < 40; i++) {
			const void *data;
			uint32_t size_bytes;

			assert_int_equal(far_prefetch_block(handle, i, &data, &size_bytes), 0);
			assert_int_equal(far_memory_read(world.client, bytes, data, size_bytes), 0);
			assert_int_equal(far_fill_check(&all[at + i], bytes, size_bytes), 0);
		}
		far_prefetch_release(handle);
	}
	far_stats_get(world.client, &stats);
	assert_true(stats.l1_evicted_blocks > count / 2);
	world_close(&world);
}

static void
blocks_from_a_gpu_carry_no_checksum_and_are_read_by_hosts_that_verify(void **state)
{
	struct far_prefetch_handle *handle;
	struct world world;

	(void)state;
	world_open(&world, 32, ON_GPU);
	assert_int_equal(far_client_try_close(world.client), 0);
	world.client = rig_client(&world.rig, "24MiB", "verify: always\n");
	handle = prefetch(&world, 32, soon());
	assert_int_equal(wait_for(handle).prefix_count, 32);
	prefix_is_right(&world, handle, 32);
	far_prefetch_release(handle);
	world_close(&world);
}

static void
a_reserved_buffer_is_filled_on_the_gpu_and_bounds_are_checked(void **state)
{
	struct far_block *block = NULL;
	struct far_key key;
	struct world world;

	(void)state;
	world_open(&world, 0, ON_GPU);
	far_fill_key(7, BLOCK_BYTES, &key);
	far_fill_block(&key, bytes, BLOCK_BYTES);
	assert_int_equal(far_reserve(world.client, &key, BLOCK_BYTES, &block), 0);
	assert_int_equal(
		far_memory_write(world.client, far_block_buffer(block), bytes, BLOCK_BYTES), 0);
	/* Not in L1: before it, behind it, or far too long. */
	assert_int_equal(far_memory_write(world.client, bytes, bytes, 1), -EINVAL);
	assert_int_equal(far_memory_read(world.client, bytes, bytes, 1), -EINVAL);
	assert_int_equal(far_memory_read(world.client, bytes, far_block_buffer(block), SIZE_MAX),
			 -EINVAL);
	assert_int_equal(far_commit(block), 0);
	assert_int_equal(far_get(world.client, &key, soon(), &block), 0);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(far_memory_read(world.client, bytes, far_block_data(block), BLOCK_BYTES),
			 0);
	assert_int_equal(far_fill_check(&key, bytes, BLOCK_BYTES), 0);
	far_release(block);
	assert_int_equal(far_flush(world.client, soon(), NULL), 0);
	world_close(&world);
}

/* ---- while blocks are on their way ---- */

/* Enough that the signal meets some of them; whichever way the race goes, nothing wrong is served. */
static void
donor_lost_midway(struct world *world, int sig)
{
	struct far_prefetch_handle *handle =
		prefetch(world, KEYS_MAX, far_now_ns() + rig_seconds(2) * FAR_NS_PER_S);
	struct far_prefetch_status status;
	uint64_t asked_ns = far_now_ns();

	(void)rig_donor_signal(world->donor, sig);
	status = wait_for(handle);
	assert_true(far_now_ns() - asked_ns < rig_seconds(10) * FAR_NS_PER_S);
	prefix_is_right(world, handle, status.prefix_count);
	far_prefetch_release(handle);
	if (sig == SIGSTOP)
		(void)rig_donor_signal(world->donor, SIGCONT);
}

static void
a_donor_killed_midway_leaves_right_blocks_and_misses(void **state)
{
	struct world world;

	(void)state;
	for (int i = 0; i < 4; i++) {
		world_open(&world, KEYS_MAX, i % 2 == 0 ? ON_GPU : STAGED);
		donor_lost_midway(&world, SIGKILL);
		world_close(&world);
	}
	world_open_ucx(&world, KEYS_MAX, ON_GPU);
	donor_lost_midway(&world, SIGKILL);
	world_close(&world);
}

static void
a_donor_stopped_midway_is_read_on_or_missed_by_the_deadline(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, KEYS_MAX, STAGED);
	donor_lost_midway(&world, SIGSTOP);
	world_close(&world);
	world_open_ucx(&world, KEYS_MAX, ON_GPU);
	donor_lost_midway(&world, SIGSTOP);
	/* And it goes on with it. */
	(void)far_clear(world.client, 0);
	prefetched_by(&world, 64, "ucx", "staged");
	world_close(&world);
}

static void
cancelled_and_late_prefetches_hold_nothing(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, KEYS_MAX, ON_GPU);
	for (uint64_t i = 0; i < 40; i++) {
		uint64_t in_ns = i * 50 * FAR_NS_PER_US;
		struct far_prefetch_handle *handle =
			prefetch(&world, KEYS_MAX, i % 2 == 0 ? soon() : far_now_ns() + in_ns + 1);
		struct far_prefetch_status status;

		far_clock_sleep_until(far_now_ns() + in_ns);
		if (i % 2 == 0)
			far_prefetch_cancel(handle);
		status = wait_for(handle);
		if (status.rc == 0)
			prefix_is_right(&world, handle, status.prefix_count);
		far_prefetch_release(handle);
		(void)far_clear(world.client, 0);
	}
	/* What was on its way has landed in buffers that nobody else had. */
	far_clock_sleep_until(far_now_ns() + 200 * FAR_NS_PER_MS);
	(void)far_clear(world.client, 0);
	world_close(&world);
}

static void
a_client_closes_with_blocks_on_their_way(void **state)
{
	static const char *const ways[] = {ON_GPU, STAGED};
	struct world world;

	(void)state;
	for (uint64_t i = 0; i < 10; i++) {
		world_open(&world, KEYS_MAX, ways[i % 2]);
		(void)prefetch(&world, KEYS_MAX, soon());
		far_clock_sleep_until(far_now_ns() + i * 100 * FAR_NS_PER_US);
		assert_int_equal(far_client_try_close(world.client), 0);
		rig_close(&world.rig);
	}
}

/* ---- memory of the caller's own ---- */

static void
l1_may_be_memory_that_the_caller_allocated(void **state)
{
	struct far_device_config device_config = {.kind = "cuda"};
	struct far_client_options options = {
		.size_bytes = sizeof(options), .l1_bytes = 8 << 20, .l1_memory = "cuda"};
	struct far_memory_info info = {.size_bytes = sizeof(info)};
	struct far_device_arena arena = {0};
	struct far_device *device = NULL;
	struct far_client *client;
	char error[256] = "";
	struct far_block *block;
	struct far_key key;

	(void)state;
	assert_int_equal(far_device_open(&device_config, &device, error), 0);
	assert_int_equal(far_device_arena_alloc(device, 8 << 20, &arena), 0);
	options.l1_base = arena.base;
	assert_int_equal(far_client_open(&options, &client), 0);
	assert_int_equal(far_client_memory_get(client, &info), 0);
	assert_int_equal(info.is_caller, 1);
	assert_ptr_equal(info.base, arena.base);
	assert_int_equal(far_client_l1_fd(client, NULL), -EOPNOTSUPP);
	store(client, 1);
	far_fill_key(1, BLOCK_BYTES, &key);
	assert_int_equal(far_get(client, &key, soon(), &block), 0);
	assert_int_equal(
		far_device_copy(device, FAR_COPY_OUT, bytes, far_block_data(block), BLOCK_BYTES),
		0);
	assert_int_equal(far_fill_check(&key, bytes, BLOCK_BYTES), 0);
	assert_true((uintptr_t)far_block_data(block) - (uintptr_t)arena.base < 8 << 20);
	far_release(block);
	assert_int_equal(far_client_try_close(client), 0);
	far_device_arena_free(device, &arena);
	far_device_close(device);
	/* And the host's is not. */
	options.l1_base = bytes;
	options.l1_bytes = 1 << 20;
	assert_int_equal(far_client_open(&options, &client), -EINVAL);
}

/* Pages of an engine's pool on the GPU, and one piece of each block in the host's memory. */
static void
blocks_land_in_pages_of_the_callers_pool_on_the_gpu(void **state)
{
	enum { COUNT = 48, PAGES = 20, PAGE = 3072 };
	static struct far_load_piece pieces[COUNT][PAGES + 1];
	static struct far_load_key keys[COUNT];
	static uint8_t host[COUNT][BLOCK_BYTES - PAGES * PAGE];
	const uint64_t pool_bytes = COUNT * PAGES * PAGE;
	struct far_device_config device_config = {.kind = "cuda"};
	struct far_device_arena pool = {0};
	struct far_memory *memories[2];
	struct far_memory *none = NULL;
	struct far_device *device = NULL;
	struct far_load *load = NULL;
	struct world world;
	char error[256];

	(void)state;
	world_open(&world, COUNT, ON_GPU);
	assert_int_equal(far_device_open(&device_config, &device, error), 0);
	assert_int_equal(far_device_arena_alloc(device, pool_bytes, &pool), 0);
	assert_int_equal(far_memory_register(world.client, (char *)pool.base + pool.size_bytes - 1,
					     4096, "cuda", soon(), &none),
			 -EINVAL);
	assert_int_equal(
		far_memory_register(world.client, host, sizeof(host), "cuda", soon(), &none),
		-EINVAL);
	assert_int_equal(far_memory_register(world.client, pool.base, pool_bytes, "cuda", soon(),
					     &memories[0]),
			 0);
	assert_int_equal(
		far_memory_register(world.client, host, sizeof(host), "host", soon(), &memories[1]),
		0);
	for (uint32_t b = 0; b < COUNT; b++) {
		keys[b] = (struct far_load_key){
			.key = world.keys[b], .pieces = pieces[b], .piece_count = PAGES + 1};
		for (uint32_t p = 0; p < PAGES; p++)
			pieces[b][p] = (struct far_load_piece){
				.addr = (char *)pool.base + ((uint64_t)p * COUNT + b) * PAGE,
				.size_bytes = PAGE};
		pieces[b][PAGES] =
			(struct far_load_piece){.addr = host[b], .size_bytes = sizeof(host[b])};
	}
	assert_int_equal(far_load(world.client, keys, COUNT, soon(), &load), 0);
	assert_int_equal(far_load_wait(load, soon()), 0);
	for (uint32_t b = 0; b < COUNT; b++) {
		assert_int_equal(far_load_result(load, b), 0);
		for (uint32_t p = 0; p < PAGES; p++)
			assert_int_equal(far_device_copy(device, FAR_COPY_OUT, bytes + p * PAGE,
							 pieces[b][p].addr, PAGE),
					 0);
		memcpy(bytes + PAGES * PAGE, host[b], sizeof(host[b]));
		assert_int_equal(far_fill_check(&world.keys[b], bytes, BLOCK_BYTES), 0);
	}
	assert_int_equal(far_load_release(load, soon()), 0);
	assert_int_equal(far_memory_unregister(memories[0], soon()), 0);
	assert_int_equal(far_memory_unregister(memories[1], soon()), 0);
	far_device_arena_free(device, &pool);
	far_device_close(device);
	world_close(&world);
}

/* ---- what people see ---- */

static void
a_replay_on_the_gpu_serves_no_wrong_byte_and_names_it(void **state)
{
	static struct rig_run run;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	(void)rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	(void)rig_donor_add(&rig, "donor-b", "64MiB", NULL);
	rig_client_config(&rig, "16MiB", "");
	rig_run(&run, rig_seconds(120),
		(const char *const[]){FAR_TEST_FARPOOL, "replay", "-c", rig.client_config,
				      "--memory", "cuda", "--requests", "300", "--block", "32KiB",
				      "--quiet", "--json", NULL});
	if (run.status != 0)
		fail_msg("%s", run.err);
	assert_int_equal(rig_json_number(run.out, "wrong_bytes"), 0);
	assert_true(rig_json_number(run.out, "hits") > 500);
	assert_true(rig_json_number(run.out, "bytes_from_donors") > 0);
	assert_non_null(strstr(run.out, "\"kind\": \"cuda\""));
	assert_non_null(strstr(run.out, "\"memory_path\": \""));
	rig_run(&run, rig_seconds(60),
		(const char *const[]){FAR_TEST_FARPOOL, "status", "-c", rig.client_config, "-s",
				      "l1.memory=cuda", NULL});
	if (run.status != 0)
		fail_msg("%s", run.err);
	assert_non_null(strstr(run.out, "L1 is memory of GPU 0"));
	assert_non_null(strstr(run.out, "memory_path"));
	rig_close(&rig);
}

/* The stand-in is found by LD_LIBRARY_PATH alone: without it this host may well have no GPU. */
static void
a_host_without_a_gpu_says_so_where_it_was_asked_for(void **state)
{
	const char *path = getenv("LD_LIBRARY_PATH");
	static struct rig_run run;
	char kept[4096];
	struct rig rig;

	(void)state;
	assert_non_null(path);
	(void)snprintf(kept, sizeof(kept), "%s", path);
	rig_open(&rig);
	(void)rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	rig_client_config(&rig, "16MiB", ON_GPU "  device: 63\n");
	assert_int_equal(setenv("LD_LIBRARY_PATH", rig.dir, 1), 0);
	rig_run(&run, rig_seconds(60),
		(const char *const[]){FAR_TEST_FARPOOL, "status", "-c", rig.client_config, NULL});
	assert_int_equal(setenv("LD_LIBRARY_PATH", kept, 1), 0);
	assert_int_equal(run.status, 1);
	/* No driver here, or no GPU of that number where there is one. */
	if (strstr(run.err, "l1.memory is cuda: ") == NULL)
		fail_msg("%s", run.err);
	/* put, get and delete need none. */
	rig_run(&run, rig_seconds(60),
		(const char *const[]){FAR_TEST_FARPOOL, "get", "-c", rig.client_config, "nothing",
				      NULL});
	assert_int_equal(run.status, 1);
	assert_null(strstr(run.err, "cuda"));
	rig_close(&rig);
}

static void
a_configuration_that_cannot_be_names_file_and_cause(void **state)
{
	char error[512] = "";
	struct far_client *client = NULL;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	(void)rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	rig_client_config(&rig, "16MiB", ON_GPU "verify: always\n");
	assert_int_equal(far_client_open_file(rig.client_config, error, sizeof(error), &client),
			 -EINVAL);
	assert_non_null(strstr(error, rig.client_config));
	assert_non_null(strstr(error, "verify is always and l1.memory cuda"));
	rig_client_config(&rig, "16MiB", ON_GPU "  device: 63\n");
	assert_int_equal(far_client_open_file(rig.client_config, error, sizeof(error), &client),
			 -ENODEV);
	assert_non_null(strstr(error, rig.client_config));
	assert_non_null(strstr(error, "l1.memory is cuda: "));
	rig_client_config(&rig, "60TiB", ON_GPU);
	assert_int_equal(far_client_open_file(rig.client_config, error, sizeof(error), &client),
			 -ENOMEM);
	assert_non_null(strstr(error, "cannot be had on GPU 0"));
	assert_null(client);
	rig_close(&rig);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_of_this_host_are_copied_out_of_the_donors_pages),
		cmocka_unit_test(blocks_of_this_host_pass_the_ring_where_mapping_is_off),
		cmocka_unit_test(blocks_over_tcp_pass_the_ring),
		cmocka_unit_test(evicted_blocks_come_back_right),
		cmocka_unit_test(
			blocks_from_a_gpu_carry_no_checksum_and_are_read_by_hosts_that_verify),
		cmocka_unit_test(a_reserved_buffer_is_filled_on_the_gpu_and_bounds_are_checked),
		cmocka_unit_test(a_donor_killed_midway_leaves_right_blocks_and_misses),
		cmocka_unit_test(a_donor_stopped_midway_is_read_on_or_missed_by_the_deadline),
		cmocka_unit_test(cancelled_and_late_prefetches_hold_nothing),
		cmocka_unit_test(a_client_closes_with_blocks_on_their_way),
		cmocka_unit_test(l1_may_be_memory_that_the_caller_allocated),
		cmocka_unit_test(blocks_land_in_pages_of_the_callers_pool_on_the_gpu),
		cmocka_unit_test(a_replay_on_the_gpu_serves_no_wrong_byte_and_names_it),
		cmocka_unit_test(a_host_without_a_gpu_says_so_where_it_was_asked_for),
		cmocka_unit_test(a_configuration_that_cannot_be_names_file_and_cause),
	};

	return cmocka_run_group_tests_name("integration/gpu, over a stand-in for the GPU", tests,
					   NULL, NULL);
}
