/* ucx_fabric.c - donors read over RDMA with trust: fabric: stopped, killed, and where there is none. */
#include <dirent.h>
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
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"
#define PORT          7491U
#define BLOCK_BYTES   16384U
#define BLOCKS        512U /* 8 MiB: four times the L1 below */
#define BATCH         32U

static void
rig_begin(struct rig *rig)
{
	const char *host = getenv(HOST_VARIABLE);

	if (host == NULL) {
		print_message("skipped: " HOST_VARIABLE " names no address of an RDMA port\n");
		skip();
	}
	rig_open(rig);
	rig_over_ucx(rig, host, host, PORT, NULL);
}

static void
store_all(struct far_client *client)
{
	for (uint64_t id = 0; id < BLOCKS; id++) {
		struct far_block *block;
		struct far_key key;

		far_fill_key(id, BLOCK_BYTES, &key);
		assert_int_equal(far_reserve(client, &key, BLOCK_BYTES, &block), 0);
		far_fill_block(&key, far_block_buffer(block), BLOCK_BYTES);
		assert_int_equal(far_commit(block), 0);
		if (id % BATCH == BATCH - 1)
			assert_int_equal(far_flush(client, far_now_ns() + 20 * FAR_NS_PER_S, NULL),
					 0);
	}
}

/* Prefetches all blocks, a batch at a time, and checks each byte. Returns how many there were. */
static uint64_t
read_all(struct far_client *client)
{
	uint64_t found = 0;

	for (uint64_t first = 0; first < BLOCKS; first += BATCH) {
		struct far_prefetch_options options = {
			.size_bytes = sizeof(options),
			.deadline_ns = far_now_ns() + 20 * FAR_NS_PER_S,
		};
		struct far_prefetch_status status = {.size_bytes = sizeof(status)};
		struct far_prefetch_handle *handle;
		struct far_key keys[BATCH];

		for (uint64_t i = 0; i < BATCH; i++)
			far_fill_key(first + i, BLOCK_BYTES, &keys[i]);
		assert_int_equal(far_prefetch(client, keys, BATCH, &options, &handle), 0);
		assert_int_equal(
			far_prefetch_wait(handle, options.deadline_ns + FAR_NS_PER_S, &status), 0);
		for (size_t i = 0; i < status.prefix_count; i++) {
			const void *data;
			uint32_t size_bytes;

			assert_int_equal(far_prefetch_block(handle, i, &data, &size_bytes), 0);
			assert_int_equal(far_fill_check(&keys[i], data, size_bytes), 0);
		}
		found += status.prefix_count;
		far_prefetch_release(handle);
	}
	return found;
}

static void
a_stopped_donor_is_read_and_says_that_it_is_one_sided(void **state)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct far_client *client;
	struct rig_donor *donor;
	struct rig rig;
	(void)state;

	rig_begin(&rig);
	donor = rig_donor_add(&rig, "donor-a", "64MiB", "trust: fabric\nblock_min: 4KiB\n");
	client = rig_client(&rig, "2MiB", "trust: fabric\nstore:\n  deadline: 200ms\n  tries: 1\n");
	store_all(client);
	assert_int_equal(far_donor_status_get(client, 0, far_now_ns() + 5 * FAR_NS_PER_S, &status),
			 0);
	assert_string_equal(status.transport, "ucx");
	assert_int_equal(status.one_sided, 1);
	rig_donor_signal(donor, SIGSTOP);
	for (int round = 0; round < 5; round++)
		assert_int_equal(read_all(client), BLOCKS);
	far_stats_get(client, &stats);
	assert_int_equal(stats.donors_lost, 0);
	assert_true(stats.bytes_loaded > 4ULL * BLOCKS * BLOCK_BYTES);
	rig_donor_signal(donor, SIGCONT);
	far_client_close(client);
	rig_close(&rig);
}

static void
a_killed_donor_is_a_miss_and_its_successor_is_used(void **state)
{
	struct far_client *client;
	struct rig_donor *donor;
	struct rig rig;
	char error[256];
	(void)state;

	rig_begin(&rig);
	donor = rig_donor_add(&rig, "donor-a", "64MiB", "trust: fabric\nblock_min: 4KiB\n");
	client = rig_client(&rig, "2MiB", "trust: fabric\nretry_max: 100ms\n");
	store_all(client);
	assert_int_equal(read_all(client), BLOCKS);
	assert_int_equal(rig_donor_signal(donor, SIGKILL), 128 + SIGKILL);
	assert_true(read_all(client) < BLOCKS); /* what L1 has of them */
	rig_donor_start(donor);
	assert_int_equal(far_client_wait_donors(client, far_now_ns() + 20 * FAR_NS_PER_S, error,
						sizeof(error)),
			 0);
	store_all(client);
	assert_int_equal(read_all(client), BLOCKS);
	far_client_close(client);
	rig_close(&rig);
}

static bool
host_has_rdma(void)
{
	DIR *dir = opendir("/sys/class/infiniband");
	bool any = false;

	if (dir == NULL)
		return false;
	for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
		any = any || entry->d_name[0] != '.';
	(void)closedir(dir);
	return any;
}

/* Neither the donor nor the client takes TCP instead. */
static void
without_an_rdma_device_it_is_an_error_that_says_so(void **state)
{
	static const char *const donor[] = {FAR_TEST_FARPOOLD,
					    "name=a",
					    "memory=64MiB",
					    "block_min=64KiB",
					    "trust=fabric",
					    "listen=ucx:127.0.0.1:7499",
					    NULL};
	struct far_donor_options address = {
		.size_bytes = sizeof(address), .name = "a", .address = "ucx:127.0.0.1:7499"};
	struct far_client_options options = {
		.size_bytes = sizeof(options),
		.l1_bytes = 2 << 20,
		.donors = &address,
		.donor_count = 1,
		.trust = "fabric",
	};
	struct far_client *client = NULL;
	struct rig_run *run;
	(void)state;

	if (host_has_rdma())
		skip();
	run = calloc(1, sizeof(*run));
	assert_non_null(run);
	rig_run(run, 20, donor);
	assert_int_equal(run->status, 1);
	assert_non_null(strstr(run->err, "trust: fabric needs an RDMA device"));
	assert_int_equal(far_client_open(&options, &client), -ENODEV);
	free(run);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_an_rdma_device_it_is_an_error_that_says_so),
		cmocka_unit_test(a_stopped_donor_is_read_and_says_that_it_is_one_sided),
		cmocka_unit_test(a_killed_donor_is_a_miss_and_its_successor_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
