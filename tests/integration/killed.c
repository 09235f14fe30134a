/* killed.c - donors that die in the middle: the replay goes on, and a restarted one is used again. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"
#include "wire/frame.h"

#define BLOCK_BYTES 65536U

/* Waits until the first donor has stored so many blocks. */
static void
wait_for_stored(struct far_client *watcher, uint64_t blocks)
{
	uint64_t until_ns = far_now_ns() + 60 * FAR_NS_PER_S;

	for (;;) {
		struct far_donor_status status = {.size_bytes = sizeof(status)};

		assert_int_equal(
			far_donor_status_get(watcher, 0, far_now_ns() + FAR_NS_PER_S, &status), 0);
		if (status.donor_value_count > FAR_STATUS_blocks_stored &&
		    status.donor_values[FAR_STATUS_blocks_stored] >= blocks)
			return;
		assert_true(far_now_ns() < until_ns);
		far_clock_sleep_until(far_now_ns() + 5 * FAR_NS_PER_MS);
	}
}

static void
replay_goes_on_when_a_donor_is_killed_and_uses_it_again(void **state)
{
	struct rig rig;
	struct rig_donor *donor;
	struct rig_run *run = malloc(sizeof(*run));
	struct far_client *watcher;
	pid_t replay;

	(void)state;
	assert_non_null(run);
	rig_open(&rig);
	donor = rig_donor_add(&rig, "donor-a", "512MiB", NULL);
	rig_donor_add(&rig, "donor-b", "512MiB", NULL);
	watcher = rig_client(&rig, "16MiB", "retry_max: 100ms\n");
	{
		const char *const argv[] = {FAR_TEST_FARPOOL,  "replay",     "--config",
					    rig.client_config, "--generate", "400",
					    "--block",         "32KiB",      "--deadline",
					    "500ms",           "--json",     NULL};

		replay = rig_spawn(&rig, "replay", argv);
	}
	wait_for_stored(watcher, 1500);
	assert_int_equal(rig_donor_signal(donor, SIGKILL), 128 + SIGKILL);
	far_clock_sleep_until(far_now_ns() + 300 * FAR_NS_PER_MS);
	rig_donor_start(donor);
	rig_wait(&rig, replay, "replay", 300, run);
	if (run->status != 0)
		fail_msg("replay ended with %d: %s", run->status, run->err);
	assert_int_equal(rig_json_number(run->out, "wrong_bytes"), 0);
	assert_int_equal(rig_json_number(run->out, "donors_lost"), 1);
	assert_true(rig_json_number(run->out, "hits") > 0);
	assert_true(rig_json_number(run->out, "hits") < rig_json_number(run->out, "perfect_hits"));
	{
		/* The new process, with nothing in it at its start, was stored to. */
		struct far_donor_status status = {.size_bytes = sizeof(status)};
		char error[256];

		assert_int_equal(far_client_wait_donors(watcher, far_now_ns() + 10 * FAR_NS_PER_S,
							error, sizeof(error)),
				 0);
		assert_int_equal(
			far_donor_status_get(watcher, 0, far_now_ns() + FAR_NS_PER_S, &status), 0);
		assert_true(status.donor_values[FAR_STATUS_blocks_stored] > 0);
	}
	far_client_close(watcher);
	rig_close(&rig);
	free(run);
}

static void
put_and_flush(struct far_client *client, uint64_t id, struct far_flush_result *result)
{
	struct far_block *block;
	struct far_key key;

	far_fill_key(id, BLOCK_BYTES, &key);
	assert_int_equal(far_reserve(client, &key, BLOCK_BYTES, &block), 0);
	far_fill_block(&key, far_block_buffer(block), BLOCK_BYTES);
	assert_int_equal(far_commit(block), 0);
	result->size_bytes = sizeof(*result);
	assert_int_equal(far_flush(client, far_now_ns() + 20 * FAR_NS_PER_S, result), 0);
}

static void
restarted_donor_is_used_again_and_serves_nothing_of_its_former_life(void **state)
{
	struct far_flush_result result;
	struct rig rig;
	struct rig_donor *donor;
	struct far_client *client;
	struct far_block *block;
	struct far_key key;
	char error[256];

	(void)state;
	rig_open(&rig);
	donor = rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	client = rig_client(&rig, "1MiB", "retry_max: 100ms\n");
	for (uint64_t id = 0; id < 64; id++)
		put_and_flush(client, id, &result);
	assert_int_equal(result.stored, 64);
	rig_donor_signal(donor, SIGKILL);
	/* A dead donor is a miss at once. L1 has room for sixteen blocks: the first one has left it. */
	far_fill_key(0, BLOCK_BYTES, &key);
	assert_int_equal(far_get(client, &key, far_now_ns() + 5 * FAR_NS_PER_S, &block),
			 -EHOSTDOWN);
	rig_donor_start(donor);
	assert_int_equal(far_client_wait_donors(client, far_now_ns() + 10 * FAR_NS_PER_S, error,
						sizeof(error)),
			 0);
	assert_int_equal(far_get(client, &key, far_now_ns() + 5 * FAR_NS_PER_S, &block), -ENOENT);
	put_and_flush(client, 0, &result);
	assert_int_equal(result.stored, 65);
	for (uint64_t id = 1000; id < 1032; id++)
		put_and_flush(client, id, &result);
	assert_int_equal(far_get(client, &key, far_now_ns() + 5 * FAR_NS_PER_S, &block), 0);
	assert_int_equal(far_fill_check(&key, far_block_data(block), BLOCK_BYTES), 0);
	far_release(block);
	far_client_close(client);
	rig_close(&rig);
}

static void
terminated_donor_ends_with_success_while_clients_are_connected(void **state)
{
	struct far_flush_result result;
	struct far_client *client;
	struct rig_donor *donor;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	donor = rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	client = rig_client(&rig, "4MiB", NULL);
	put_and_flush(client, 1, &result);
	assert_int_equal(rig_donor_signal(donor, SIGTERM), 0);
	far_client_close(client);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replay_goes_on_when_a_donor_is_killed_and_uses_it_again),
		cmocka_unit_test(
			restarted_donor_is_used_again_and_serves_nothing_of_its_former_life),
		cmocka_unit_test(terminated_donor_ends_with_success_while_clients_are_connected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
