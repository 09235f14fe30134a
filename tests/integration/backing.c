/* backing.c - donors killed amid stores, again and again: what was answered is served, and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"
#include "wire/frame.h"

#define KILLS_DEFAULT  12 /* FAR_TEST_KILLS asks for more */
#define KILLS_OF_A_SET 10 /* then the donor starts empty: nothing is ever evicted */
#define BATCH          8U
#define ROUND_BYTES    (4U << 20) /* a writer rests behind that */
#define SIZE_MIN       64U
#define SIZE_MAX_BITS  10
#define ASK            64U
#define KILL_US_MAX    12000U
#define RECOVER_US_MAX 60000U

static struct far_rng rng;

/* 64 B to 64 KiB, most of them small; follows from the number. */
static uint32_t
size_of(uint64_t id)
{
	uint64_t hash = far_mix64(id);

	return SIZE_MIN + (uint32_t)(hash % (SIZE_MIN << (hash >> 32) % SIZE_MAX_BITS));
}

/* ---- the writer: a process of its own, which says how far donors have answered ---- */

static int
batch_store(struct far_client *client, uint64_t first)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};

	for (uint64_t id = first; id < first + BATCH; id++) {
		uint32_t size_bytes = size_of(id);
		struct far_block *block;
		struct far_key key;

		far_fill_key(id, size_bytes, &key);
		if (far_reserve(client, &key, size_bytes, &block) < 0)
			return -ENOMEM;
		far_fill_block(&key, far_block_buffer(block), size_bytes);
		if (far_commit(block) < 0)
			return -EIO;
	}
	if (far_flush(client, far_now_ns() + rig_seconds(10) * FAR_NS_PER_S, &result) < 0)
		return -EIO;
	return result.failed + result.dropped + result.had == 0 ? 0 : -EIO;
}

static int
write_until_killed(const char *config, uint64_t first)
{
	struct far_client *client;
	uint64_t bytes = 0;
	char error[512];

	if (far_client_open_file(config, error, sizeof(error), &client) < 0 ||
	    far_client_wait_donors(client, far_now_ns() + rig_seconds(10) * FAR_NS_PER_S, error,
				   sizeof(error)) < 0)
		return 1;
	for (uint64_t id = first;; id += BATCH) {
		uint64_t end = id + BATCH;

		if (bytes > ROUND_BYTES || batch_store(client, id) < 0)
			break;
		for (uint64_t i = id; i < end; i++)
			bytes += size_of(i);
		if (write(STDOUT_FILENO, &end, sizeof(end)) != sizeof(end))
			break;
	}
	pause();
	return 0;
}

static pid_t
writer_start(const struct rig *rig, uint64_t first, int *pipe_out)
{
	posix_spawn_file_actions_t actions;
	char from[24], self[] = "/proc/self/exe", mode[] = "--writer", config[160];
	char *argv[] = {self, mode, config, from, NULL};
	int fds[2];
	pid_t pid;

	memcpy(config, rig->client_config, sizeof(config));
	(void)snprintf(from, sizeof(from), "%llu", (unsigned long long)first);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	assert_int_equal(posix_spawn(&pid, self, &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	*pipe_out = fds[0];
	return pid;
}

static void
writer_kill(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

/* The end of what was answered, as far as the writer could say. */
static uint64_t
answered_read(int pipe, uint64_t first)
{
	uint64_t end = first, next;

	while (read(pipe, &next, sizeof(next)) == sizeof(next)) {
		assert_int_equal(next, end + BATCH);
		end = next;
	}
	close(pipe);
	return end;
}

/* ---- what the successor serves ---- */

struct tally {
	uint64_t kills, answered, lost, either, either_served, never_served, wrong_bytes;
};

/* Blocks that are there, of @count from @first on; each of them has to be whole. */
static uint64_t
ask(struct far_client *client, uint64_t first, uint64_t count, struct tally *tally)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = far_now_ns() + rig_seconds(20) * FAR_NS_PER_S,
		.trim = FAR_TRIM_ALL,
	};
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_prefetch_handle *handle;
	struct far_key keys[ASK];
	uint64_t there = 0;

	assert_true(count <= ASK);
	for (uint64_t i = 0; i < count; i++)
		far_fill_key(first + i, size_of(first + i), &keys[i]);
	assert_int_equal(far_prefetch(client, keys, count, &options, &handle), 0);
	assert_int_equal(far_prefetch_wait(handle, options.deadline_ns, &status), 0);
	for (uint64_t i = 0; i < count; i++) {
		uint32_t size_bytes;
		const void *data;

		if (far_prefetch_block(handle, i, &data, &size_bytes) < 0)
			continue;
		there++;
		if (size_bytes != size_of(first + i))
			tally->wrong_bytes++;
		else
			tally->wrong_bytes += far_fill_check(&keys[i], data, size_bytes);
	}
	far_prefetch_release(handle);
	return there;
}

static uint64_t
ask_all(struct far_client *client, uint64_t first, uint64_t end, struct tally *tally)
{
	uint64_t there = 0;

	for (; first < end; first += ASK)
		there += ask(client, first, end - first < ASK ? end - first : ASK, tally);
	return there;
}

/* A run of blocks that one writer was answered for; behind them a batch that may be there or not. */
struct run {
	uint64_t first, end;
};

static void
serves_what_was_answered(struct rig *rig, const struct run *runs, int count, struct tally *tally)
{
	struct far_client *client = rig_client(rig, "48MiB", NULL);
	uint64_t last_end = runs[count - 1].end;

	for (int i = 0; i < count; i++)
		tally->lost += runs[i].end - runs[i].first -
			       ask_all(client, runs[i].first, runs[i].end, tally);
	tally->either += BATCH;
	tally->either_served += ask(client, last_end, BATCH, tally);
	tally->never_served += ask(client, last_end + BATCH, BATCH, tally);
	far_client_close(client);
}

/* One kill, of the donor first or of its writer, at any moment of the writer's life. */
static struct run
kill_once(struct rig *rig, uint64_t first)
{
	struct run run = {.first = first};
	struct pollfd begun = {.events = POLLIN};
	pid_t writer = writer_start(rig, first, &begun.fd);

	assert_int_equal(poll(&begun, 1, (int)rig_seconds(20) * 1000), 1);
	far_clock_sleep_until(far_now_ns() + far_rng_below(&rng, KILL_US_MAX) * FAR_NS_PER_US);
	if (far_rng_below(&rng, 4) == 0) {
		writer_kill(writer);
		far_clock_sleep_until(far_now_ns() + far_rng_below(&rng, 300) * FAR_NS_PER_US);
		assert_int_equal(rig_donor_signal(&rig->donors[0], SIGKILL), 128 + SIGKILL);
	} else {
		assert_int_equal(rig_donor_signal(&rig->donors[0], SIGKILL), 128 + SIGKILL);
		writer_kill(writer);
	}
	run.end = answered_read(begun.fd, first);
	return run;
}

static void
folder_remove(const char *folder)
{
	const char *const argv[] = {"/bin/rm", "-rf", folder, NULL};
	struct rig_run *run = malloc(sizeof(*run));

	assert_non_null(run);
	rig_run(run, 60, argv);
	assert_int_equal(run->status, 0);
	free(run);
}

static void
killed_donor_keeps_what_it_answered_and_nothing_else(void **state)
{
	const char *asked = getenv("FAR_TEST_KILLS");
	uint64_t kills = asked != NULL ? strtoull(asked, NULL, 10) : KILLS_DEFAULT;
	struct tally tally = {0};
	char folder[64], extra[128];
	uint64_t next = 1;

	(void)state;
	(void)snprintf(folder, sizeof(folder), "/dev/shm/farpool-test-%d", (int)getpid());
	(void)snprintf(extra, sizeof(extra), "backing: %s\nblock_min: 256B\n", folder);
	while (tally.kills < kills) {
		struct run runs[KILLS_OF_A_SET];
		struct rig rig;

		rig_open(&rig);
		rig_donor_add(&rig, "donor-a", "128MiB", extra);
		rig_client_config(&rig, "16MiB", NULL);
		for (int i = 0; i < KILLS_OF_A_SET && tally.kills < kills; i++) {
			runs[i] = kill_once(&rig, next);
			tally.kills++;
			tally.answered += runs[i].end - runs[i].first;
			next = runs[i].end + 2ULL * BATCH;
			/* Its successor may die as well, while it still looks. */
			while (far_rng_below(&rng, 3) == 0)
				rig_donor_start_and_kill(&rig.donors[0],
							 far_rng_below(&rng, RECOVER_US_MAX) *
								 FAR_NS_PER_US);
			rig_donor_start(&rig.donors[0]);
			serves_what_was_answered(&rig, runs, i + 1, &tally);
			rig_client_config(&rig, "16MiB", NULL);
		}
		rig_donor_signal(&rig.donors[0], SIGKILL);
		rig_close(&rig);
		folder_remove(folder);
	}
	printf("%llu kills: answered %llu, lost %llu; neither answered nor failed %llu, of them "
	       "served "
	       "%llu; never stored and served %llu; wrong bytes %llu\n",
	       (unsigned long long)tally.kills, (unsigned long long)tally.answered,
	       (unsigned long long)tally.lost, (unsigned long long)tally.either,
	       (unsigned long long)tally.either_served, (unsigned long long)tally.never_served,
	       (unsigned long long)tally.wrong_bytes);
	assert_int_equal(tally.lost, 0);
	assert_int_equal(tally.never_served, 0);
	assert_int_equal(tally.wrong_bytes, 0);
	assert_true(tally.answered > 0);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_donor_keeps_what_it_answered_and_nothing_else),
	};

	if (argc == 4 && strcmp(argv[1], "--writer") == 0)
		return write_until_killed(argv[2], strtoull(argv[3], NULL, 10));
	far_rng_init(&rng, far_now_ns());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
