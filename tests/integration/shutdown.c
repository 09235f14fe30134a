/* shutdown.c - a client is closed in any state, at any moment: in bounded time, with nothing left. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pages.h"
#include "base/rng.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define SEED        0x66617270U
#define ROUNDS      300
#define BLOCK_BYTES 16384U
#define IDS         512U /* four times what L1 holds */
#define KEYS_MAX    32U
#define PREFETCHES  200U
#define ROUND_S     60U /* far more than a close may take: a hang, not slowness, is what it finds */

static struct rig rig;
static struct far_rng rng;

static uint32_t
below(uint32_t bound)
{
	return (uint32_t)far_rng_below(&rng, bound);
}

static bool
one_in(uint32_t n)
{
	return below(n) == 0;
}

static void
ignore_line(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static struct far_key
random_key(void)
{
	struct far_key key;

	far_fill_key(below(IDS), BLOCK_BYTES, &key);
	return key;
}

static void
queue_stores(struct far_client *client, uint32_t count)
{
	while (count-- > 0) {
		struct far_key key = random_key();
		struct far_block *block;

		if (far_reserve(client, &key, BLOCK_BYTES, &block) != 0)
			continue;
		far_fill_block(&key, far_block_buffer(block), BLOCK_BYTES);
		/* Some are never finished. */
		if (!one_in(16))
			assert_int_equal(far_commit(block), 0);
	}
}

static void
submit_prefetches(struct far_client *client, uint32_t count, struct far_session *session)
{
	while (count-- > 0) {
		struct far_prefetch_options options = {
			.size_bytes = sizeof(options),
			.flags = one_in(8) ? FAR_PREFETCH_WARM_ONLY : 0,
			.deadline_ns = far_now_ns() + FAR_NS_PER_MS * (1 + below(2000)),
			.session = one_in(2) ? session : NULL,
		};
		struct far_prefetch_handle *handle;
		struct far_key keys[KEYS_MAX];
		uint32_t keys_count = 1 + below(KEYS_MAX);

		for (uint32_t i = 0; i < keys_count; i++)
			keys[i] = random_key();
		/* E2BIG and EBADF are answers too. */
		if (far_prefetch(client, keys, keys_count, &options, &handle) != 0)
			continue;
		if (one_in(8))
			far_prefetch_cancel(handle);
		if (one_in(3))
			far_prefetch_release(handle);
	}
}

static pid_t
reader_start(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	return pid;
}

static void
reader_end(pid_t pid)
{
	if (pid == 0)
		return;
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Opens, does some of what a client can be in, and closes. */
static void
live_and_die(void)
{
	struct far_session *session = NULL;
	struct far_client *client;
	struct far_block *block;
	pid_t reader = 0;
	bool stopped = one_in(24);
	char error[512];

	if (far_client_open_file(rig.client_config, error, sizeof(error), &client) != 0)
		fail_msg("%s", error);
	if (!one_in(4))
		assert_int_equal(
			far_client_wait_donors(client, far_now_ns() + 20 * FAR_NS_PER_S, NULL, 0),
			0);
	if (stopped)
		rig_donor_signal(&rig.donors[1], SIGSTOP);
	if (one_in(3)) {
		reader = one_in(2) ? reader_start() : 0;
		assert_int_equal(far_session_open(client, "reader", (int)reader, &session), 0);
	}
	if (one_in(2))
		queue_stores(client, below(200));
	if (one_in(2))
		submit_prefetches(client, below(PREFETCHES), session);
	if (reader != 0 && one_in(2)) {
		reader_end(reader);
		reader = 0;
	}
	if (one_in(4)) {
		struct far_key key = random_key();

		(void)far_get(client, &key, far_now_ns() + FAR_NS_PER_MS, &block);
	}
	if (one_in(4))
		(void)far_donor_remove(client, rig.donors[below(2)].name,
				       far_now_ns() + below(3) * FAR_NS_PER_MS + 1);
	if (one_in(2))
		submit_prefetches(client, below(PREFETCHES), session);
	if (one_in(2))
		far_clock_sleep_until(far_now_ns() + below(4000) * FAR_NS_PER_US);
	far_client_close(client);
	if (stopped)
		rig_donor_signal(&rig.donors[1], SIGCONT);
	reader_end(reader);
}

static void
client_closed_in_any_state_leaves_nothing(void **state)
{
	size_t descriptors = 0;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "16MiB", NULL);
	rig_donor_add(&rig, "donor-b", "16MiB", NULL);
	rig_client_config(&rig, "2MiB", NULL);
	far_log_sink_set(ignore_line, NULL);
	far_rng_init(&rng, SEED);
	for (int round = 0; round < ROUNDS; round++) {
		alarm(rig_seconds(ROUND_S));
		live_and_die();
		alarm(0);
		if (far_alloc_live_bytes() != 0 || far_pages_live_bytes() != 0)
			fail_msg("round %d: %llu bytes and %llu of pages are left", round,
				 (unsigned long long)far_alloc_live_bytes(),
				 (unsigned long long)far_pages_live_bytes());
		if (round == 0)
			descriptors = rig_fd_count(getpid());
		assert_int_equal(rig_fd_count(getpid()), descriptors);
	}
	far_log_sink_set(NULL, NULL);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(client_closed_in_any_state_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
