/* verbs_writer.c - a client that is stopped amid its stores, and goes on when others have its lanes. */
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

#include "base/clock.h"
#include "tests/support/fetch.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"
/* The network device behind that address. */
#define CABLE_VARIABLE "FAR_TEST_RDMA_CABLE"
#define LISTEN_PORT    7551U
#define WRITER         "--writer"
#define WRITER_ID      5000000U
#define WRITER_BYTES   4096U /* so that there are more of them than a queue pair takes */
#define WRITER_BLOCKS  4096U /* until it is stopped */
#define L1_SIZE        "16MiB"
#define NET_GOOD       "delay 2ms"
#define NET_SLOW       "delay 20ms" /* the writer is faster: there is always more to post */
#define BLOCKS         1536U        /* 96 MiB: three times what the donor has */
#define LONG_MS        20000U

/* ---- this program once more: stores until it is killed ---- */

static int
writer(const char *config)
{
	struct far_client *client = NULL;
	char error[512] = "";

	if (far_client_open_file(config, error, sizeof(error), &client) < 0 ||
	    far_client_wait_donors(client, far_now_ns() + rig_seconds(20) * FAR_NS_PER_S, error,
				   sizeof(error)) < 0) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	for (uint64_t id = WRITER_ID;; id++) {
		struct far_block *block;
		struct far_key key;

		far_fill_key(id, WRITER_BYTES, &key);
		while (far_reserve(client, &key, WRITER_BYTES, &block) < 0)
			(void)usleep(1000); /* all of L1 waits for the donor */
		far_fill_block(&key, far_block_buffer(block), WRITER_BYTES);
		(void)far_commit(block);
		if (id == WRITER_ID + WRITER_BLOCKS) {
			printf("stores\n");
			(void)fflush(stdout);
		}
	}
}

/* ---- the test ---- */

/* Lines of a log with both. */
static unsigned
log_count(const char *path, const char *part)
{
	FILE *file = fopen(path, "r");
	char line[1024];
	unsigned count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL)
		count += strstr(line, part) != NULL;
	(void)fclose(file);
	return count;
}

static void
network(const char *netem)
{
	char line[256];

	(void)snprintf(line, sizeof(line), "tc qdisc replace dev %s root netem %s limit 20000",
		       getenv(CABLE_VARIABLE), netem);
	if (system(line) != 0)
		fail_msg("%s does not work", line);
}

static void
wait_log(const char *path, const char *part)
{
	uint64_t until_ns = far_now_ns() + rig_seconds(5) * FAR_NS_PER_S;

	while (log_count(path, part) == 0) {
		if (far_now_ns() > until_ns)
			fail_msg("%s never says: %s", path, part);
		(void)usleep(20000);
	}
}

/*
 * The donor asks its lanes back, is not answered, and ends the link; then a successor fills all of the
 * donor's memory three times over, while the writer has WRITEs under way and more to post.
 */
static void
a_client_that_goes_on_too_late_spoils_no_block_of_another(void **state)
{
	struct fetch_outcome outcome = {0};
	struct rig rig;
	struct rig_donor *donor;
	struct far_client *client;
	char self[128] = "", line[64], errors[160];
	const char *argv[] = {self, WRITER, rig.client_config, NULL};
	pid_t pid;
	int status;
	(void)state;

	if (getenv(HOST_VARIABLE) == NULL || getenv(CABLE_VARIABLE) == NULL) {
		print_message("skipped: " HOST_VARIABLE ", " CABLE_VARIABLE
			      " name no address of an RDMA port and its cable\n");
		skip();
	}
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	rig_open(&rig);
	rig_over_verbs(&rig, getenv(HOST_VARIABLE), LISTEN_PORT);
	donor = rig_donor_add(&rig, "donor-a", "32MiB",
			      "block_min: 4KiB\nlane: 4MiB\nlane_idle: 500ms\nrecall: 1s\n");
	rig_client_config(&rig, L1_SIZE, "retry_max: 100ms\nstore:\n  batch: 1024\n");
	network(NET_SLOW);
	pid = rig_spawn(&rig, "writer", argv);
	rig_first_line(&rig, pid, "writer", line, sizeof(line));
	assert_string_equal(line, "stores\n");
	assert_int_equal(kill(pid, SIGSTOP), 0);
	wait_log(donor->log, "a lane was asked back and not ended");
	network(NET_GOOD);

	client = rig_client(&rig, L1_SIZE, "retry_max: 100ms\n");
	fetch_store(client, 0, BLOCKS);
	(void)snprintf(errors, sizeof(errors), "%s/writer.err", rig.dir);
	assert_int_equal(log_count(errors, "this connection died"), 0); /* it does not know yet */
	assert_int_equal(kill(pid, SIGCONT), 0);
	far_clock_sleep_until(far_now_ns() + 300 * FAR_NS_PER_MS);
	wait_log(errors, "this connection died");
	assert_true(rig_runs(pid));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);

	fetch_all(client, BLOCKS, LONG_MS, &outcome);
	print_message("note: a writer that went on too late: %u batches of its successor are "
		      "there, %u made room for later ones, %lu bytes are wrong\n",
		      outcome.whole, outcome.cut, (unsigned long)outcome.wrong);
	assert_int_equal(outcome.wrong, 0);
	assert_true(outcome.whole > 0);
	far_client_close(client);
	assert_int_equal(rig_donor_signal(donor, SIGTERM), 0);
	rig_close(&rig);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_client_that_goes_on_too_late_spoils_no_block_of_another),
	};

	if (argc == 3 && strcmp(argv[1], WRITER) == 0)
		return writer(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
