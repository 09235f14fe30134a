/* donors.c - donors that come and go under traffic: every prefetch ends, with the right bytes. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define BLOCK_BYTES 16384U
#define BLOCKS      256U
#define BATCH       32U

static uint64_t
soon(void)
{
	return far_now_ns() + 20 * FAR_NS_PER_S;
}

static void
store(struct far_client *client, uint64_t first, uint64_t count)
{
	for (uint64_t id = first; id < first + count; id++) {
		struct far_block *block;
		struct far_key key;

		far_fill_key(id, BLOCK_BYTES, &key);
		/* L1 may be full of blocks that are on their way. */
		if (far_reserve(client, &key, BLOCK_BYTES, &block) != 0)
			continue;
		far_fill_block(&key, far_block_buffer(block), BLOCK_BYTES);
		(void)far_commit(block);
	}
}

/* What is readable of a batch; NULL, or what is wrong. */
static const char *
read_batch(struct far_client *client, uint64_t first, uint64_t *readable)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = far_now_ns() + 5 * FAR_NS_PER_S,
	};
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_prefetch_handle *handle;
	struct far_key keys[BATCH];
	const char *wrong = NULL;

	for (uint64_t i = 0; i < BATCH; i++)
		far_fill_key(first + i, BLOCK_BYTES, &keys[i]);
	if (far_prefetch(client, keys, BATCH, &options, &handle) != 0)
		return "prefetch";
	if (far_prefetch_wait(handle, soon(), &status) != 0)
		return "no end";
	for (size_t i = 0; i < status.prefix_count; i++) {
		const void *data;
		uint32_t size_bytes;

		if (far_prefetch_block(handle, i, &data, &size_bytes) != 0 ||
		    far_fill_check(&keys[i], data, size_bytes) != 0)
			wrong = "bytes";
	}
	/* What a donor had been given before it was to go was not taken from it. */
	if (status.prefix_count < BATCH && status.gap_rc == -ECANCELED)
		wrong = "a load was cut off";
	*readable += status.prefix_count;
	far_prefetch_release(handle);
	return wrong;
}

struct traffic {
	struct far_client *client;
	_Atomic bool stop;
	uint64_t readable;
};

static void *
traffic_run(void *arg)
{
	struct traffic *traffic = arg;
	uint64_t at = 0;

	while (!atomic_load(&traffic->stop)) {
		const char *wrong;

		store(traffic->client, at % BLOCKS, 16);
		wrong = read_batch(traffic->client, at * 7 % (BLOCKS - BATCH), &traffic->readable);
		if (wrong != NULL)
			return (void *)(uintptr_t)wrong;
		at += 16;
	}
	return NULL;
}

static void
add_rig_donor(struct far_client *client, const struct rig_donor *donor)
{
	struct far_donor_options options = {
		.size_bytes = sizeof(options),
		.name = donor->name,
		.address = donor->address,
	};
	char error[256];
	int rc = far_donor_add(client, &options, error, sizeof(error));

	if (rc != 0)
		fail_msg("%s: %d", error, rc);
}

static void
wait_up(struct far_client *client)
{
	char error[512];

	if (far_client_wait_donors(client, soon(), error, sizeof(error)) != 0)
		fail_msg("%s", error);
}

static void
donor_removed_amid_traffic_ends_every_prefetch_with_right_bytes(void **state)
{
	struct traffic traffic[3] = {{0}};
	pthread_t threads[3];
	struct far_client *client;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	rig_donor_add(&rig, "donor-b", "64MiB", NULL);
	/* Smaller than what is read: L1 serves no round alone. */
	client = rig_client(&rig, "2MiB", NULL);
	for (size_t i = 0; i < 3; i++) {
		traffic[i].client = client;
		assert_int_equal(pthread_create(&threads[i], NULL, traffic_run, &traffic[i]), 0);
	}
	for (int round = 0; round < 12; round++) {
		const struct rig_donor *donor = &rig.donors[round % 2];

		assert_int_equal(far_donor_remove(client, donor->name, soon()), 0);
		far_clock_sleep_until(far_now_ns() + 20 * FAR_NS_PER_MS);
		add_rig_donor(client, donor);
		wait_up(client);
		far_clock_sleep_until(far_now_ns() + 20 * FAR_NS_PER_MS);
	}
	for (size_t i = 0; i < 3; i++) {
		void *wrong;

		atomic_store(&traffic[i].stop, true);
		pthread_join(threads[i], &wrong);
		if (wrong != NULL)
			fail_msg("%s", (const char *)wrong);
		assert_true(traffic[i].readable > 0);
	}
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	far_client_close(client);
	rig_close(&rig);
}

static void
donor_keeps_its_blocks_while_it_is_out(void **state)
{
	struct far_client *client;
	struct rig rig;
	uint64_t readable = 0;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	client = rig_client(&rig, "2MiB", NULL);
	store(client, 0, BATCH);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	assert_int_equal(far_donor_remove(client, "donor-a", soon()), 0);
	/* L1 holds 128 blocks: these push the first ones out, and have nowhere else to go. */
	store(client, BATCH, 200);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	assert_null(read_batch(client, 0, &readable));
	assert_int_equal(readable, 0);
	add_rig_donor(client, &rig.donors[0]);
	wait_up(client);
	assert_null(read_batch(client, 0, &readable));
	assert_int_equal(readable, BATCH);
	far_client_close(client);
	rig_close(&rig);
}

static void
stopped_donor_is_removed_within_the_deadline(void **state)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_client *client;
	struct rig rig;
	uint64_t readable = 0;
	int rc;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	rig_donor_add(&rig, "donor-b", "64MiB", NULL);
	client = rig_client(&rig, "4MiB", NULL);
	rig_donor_signal(&rig.donors[1], SIGSTOP);
	store(client, 0, BATCH * 2);
	/* Too soon for what it holds; it gets nothing new. */
	rc = far_donor_remove(client, "donor-b", far_now_ns() + 2 * FAR_NS_PER_MS);
	assert_true(rc == -ETIMEDOUT || rc == 0);
	if (rc == -ETIMEDOUT) {
		assert_int_equal(far_donor_status_find(client, "donor-b",
						       far_now_ns() + 50 * FAR_NS_PER_MS, &status),
				 0);
		assert_string_equal(status.state, "draining");
		wait_up(client);
		assert_int_equal(far_donor_remove(client, "donor-b", soon()), 0);
	}
	assert_int_equal(far_donor_status_find(client, "donor-b", soon(), &status), -ENOENT);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
	assert_null(read_batch(client, 0, &readable));
	assert_int_equal(readable, BATCH);
	rig_donor_signal(&rig.donors[1], SIGCONT);
	add_rig_donor(client, &rig.donors[1]);
	wait_up(client);
	far_client_close(client);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(donor_removed_amid_traffic_ends_every_prefetch_with_right_bytes),
		cmocka_unit_test(donor_keeps_its_blocks_while_it_is_out),
		cmocka_unit_test(stopped_donor_is_removed_within_the_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
