/* verbs.c - donors over RDMA: read while they stand still, killed, cut off; and where there is none. */
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
#include "tests/support/fetch.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"
/* The network device behind that address, and the one that its cable leads to: what is cut. */
#define CABLE_VARIABLE "FAR_TEST_RDMA_CABLE"
#define PORT_VARIABLE  "FAR_TEST_RDMA_PORT"
#define LISTEN_PORT    7511U
#define BLOCKS         256U /* 16 MiB: four times the L1 below */
#define L1_SIZE        "4MiB"
#define LONG_MS        20000U
#define SHORT_MS       2000U
#define CUT_MS         3000U /* more than all retries take */
#define REFUSED_MIN    10U
#define ASKED_MAX      500U
#define LIVE           3U /* prefetches at a time: 3 MiB of the L1 */

static unsigned port = LISTEN_PORT;

struct scene {
	struct rig rig;
	struct rig_donor *donor;
	struct far_client *client;
};

static void
scene_begin(struct scene *scene, const char *extra)
{
	const char *host = getenv(HOST_VARIABLE);

	if (host == NULL) {
		print_message("skipped: " HOST_VARIABLE " names no address of an RDMA port\n");
		skip();
	}
	rig_open(&scene->rig);
	/* RDMA CM keeps a port that was used for a while. */
	rig_over_verbs(&scene->rig, host, port++);
	scene->donor = rig_donor_add(&scene->rig, "donor-a", "64MiB", "block_min: 4KiB\n");
	scene->client = rig_client(&scene->rig, L1_SIZE, extra);
	fetch_store(scene->client, 0, BLOCKS);
}

static void
scene_end(struct scene *scene)
{
	far_client_close(scene->client);
	assert_int_equal(rig_donor_signal(scene->donor, SIGTERM), 0);
	rig_close(&scene->rig);
}

static void
read_all(struct scene *scene)
{
	struct fetch_outcome outcome = {0};

	fetch_all(scene->client, BLOCKS, LONG_MS, &outcome);
	assert_int_equal(outcome.whole, BLOCKS / FETCH_BATCH);
	assert_int_equal(outcome.wrong, 0);
}

static uint64_t
donors_lost(struct scene *scene)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	far_stats_get(scene->client, &stats);
	return stats.donors_lost;
}

static void
wait_donors(struct scene *scene)
{
	char error[256] = "";

	assert_int_equal(far_client_wait_donors(scene->client,
						far_now_ns() + rig_seconds(20) * FAR_NS_PER_S,
						error, sizeof(error)),
			 0);
}

static void
a_donor_is_read_and_says_that_it_is_one_sided(void **state)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct scene scene;
	(void)state;

	scene_begin(&scene, "");
	assert_int_equal(
		far_donor_status_get(scene.client, 0, far_now_ns() + 5 * FAR_NS_PER_S, &status), 0);
	assert_string_equal(status.transport, "verbs");
	assert_int_equal(status.one_sided, 1);
	for (int round = 0; round < 3; round++)
		read_all(&scene);
	assert_int_equal(donors_lost(&scene), 0);
	scene_end(&scene);
}

static uint64_t
messages_sent(struct scene *scene)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	far_stats_get(scene->client, &stats);
	return stats.messages_sent;
}

/* Asks for what the donor would have to answer, until not one message more goes out. */
static void
credits_use_up(struct scene *scene)
{
	uint64_t sent = messages_sent(scene);
	uint32_t refused = 0, asked = 0;

	for (; refused < REFUSED_MIN && asked < ASKED_MAX; asked++) {
		uint64_t before = sent;
		struct far_key key;

		far_fill_key(2000000 + asked, 1, &key);
		assert_int_equal(far_delete(scene->client, &key, far_now_ns() + 20 * FAR_NS_PER_MS),
				 -ETIMEDOUT);
		sent = messages_sent(scene);
		refused = sent == before ? refused + 1 : 0;
	}
	if (refused < REFUSED_MIN)
		fail_msg("%u messages, and there are credits still", asked);
}

static void
a_stopped_donor_is_read_long_after_its_message_credits_ran_out(void **state)
{
	struct scene scene;
	uint64_t sent;
	(void)state;

	scene_begin(&scene, "store:\n  deadline: 200ms\n  tries: 1\n");
	rig_donor_signal(scene.donor, SIGSTOP);
	credits_use_up(&scene);
	sent = messages_sent(&scene);
	/* Blocks that cannot be stored now, and notes of what is read, would be sent. */
	for (uint64_t round = 0; round < 40; round++) {
		char data[4096] = {0};
		struct far_key key;

		far_fill_key(1000000 + round, sizeof(data), &key);
		(void)far_put(scene.client, &key, data, sizeof(data));
		if (round % 8 == 0)
			read_all(&scene);
	}
	assert_int_equal(messages_sent(&scene), sent);
	assert_int_equal(donors_lost(&scene), 0);
	rig_donor_signal(scene.donor, SIGCONT);
	read_all(&scene);
	fetch_store(scene.client, BLOCKS, FETCH_BATCH);
	assert_int_equal(donors_lost(&scene), 0);
	scene_end(&scene);
}

static void
a_killed_donor_is_a_miss_and_its_successor_is_used(void **state)
{
	struct fetch_outcome outcome = {0};
	struct scene scene;
	(void)state;

	scene_begin(&scene, "retry_max: 100ms\n");
	read_all(&scene);
	assert_int_equal(rig_donor_signal(scene.donor, SIGKILL), 128 + SIGKILL);
	fetch_all(scene.client, BLOCKS, SHORT_MS, &outcome);
	assert_true(outcome.cut > 0);
	assert_int_equal(outcome.wrong, 0);
	rig_donor_start(scene.donor);
	wait_donors(&scene);
	fetch_store(scene.client, 0, BLOCKS);
	read_all(&scene);
	scene_end(&scene);
}

/* All is there again: what was on its way when the network was bad may still cost the link. */
static void
read_back(struct scene *scene)
{
	struct fetch_outcome outcome = {0};

	for (int round = 0; round < 10 && outcome.whole < BLOCKS / FETCH_BATCH; round++) {
		wait_donors(scene);
		outcome.whole = 0;
		fetch_all(scene->client, BLOCKS, LONG_MS, &outcome);
	}
	assert_int_equal(outcome.whole, BLOCKS / FETCH_BATCH);
	assert_int_equal(outcome.wrong, 0);
}

/* ---- the cable ---- */

static void
cable(const char *command, const char *variable)
{
	char line[256];

	(void)snprintf(line, sizeof(line), command, getenv(variable));
	if (system(line) != 0)
		fail_msg("%s does not work", line);
}

static void
scene_cut_begin(struct scene *scene)
{
	if (getenv(CABLE_VARIABLE) == NULL) {
		print_message("skipped: " CABLE_VARIABLE " names no network device\n");
		skip();
	}
	/* One that failed may have left it bad. */
	cable("tc qdisc del dev %s root 2>/dev/null; true", CABLE_VARIABLE);
	scene_begin(scene, "retry_max: 100ms\n");
}

/* Cuts while prefetches are on their way; they end in time, and nothing that came is wrong. */
static void
cut_amid(struct scene *scene, const char *cut, const char *mend, const char *variable)
{
	uint64_t lost = donors_lost(scene);
	struct fetch fetches[LIVE];
	struct fetch_outcome outcome = {0};

	for (uint64_t round = 0; round < 4; round++) {
		for (uint64_t i = 0; i < LIVE; i++)
			fetch_start(scene->client, &fetches[i],
				    (round * LIVE + i) % (BLOCKS / FETCH_BATCH) * FETCH_BATCH,
				    rig_seconds(1) * 1000U);
		if (round == 1)
			cable(cut, variable);
		for (uint64_t i = 0; i < LIVE; i++)
			fetch_end(&fetches[i], &outcome);
		if (round == 1)
			far_clock_sleep_until(far_now_ns() + CUT_MS * FAR_NS_PER_MS);
		if (round == 2)
			cable(mend, variable);
	}
	assert_int_equal(outcome.wrong, 0);
	assert_int_equal(outcome.late, 0);
	assert_true(donors_lost(scene) > lost);
	read_back(scene);
}

static void
silence_amid_prefetches_is_a_miss_and_the_donor_comes_back(void **state)
{
	struct scene scene;
	(void)state;

	scene_cut_begin(&scene);
	cut_amid(&scene, "tc qdisc add dev %s root netem loss 100%%", "tc qdisc del dev %s root",
		 CABLE_VARIABLE);
	scene_end(&scene);
}

static void
a_port_that_goes_down_amid_prefetches_is_a_miss_and_the_donor_comes_back(void **state)
{
	struct scene scene;
	(void)state;

	scene_cut_begin(&scene);
	cut_amid(&scene, "ip link set %s down", "ip link set %s up", PORT_VARIABLE);
	scene_end(&scene);
}

/* A link may be lost by that, and blocks be missed: soft-RoCE is not good at it. */
static void
loss_and_delay_change_no_byte(void **state)
{
	struct fetch_outcome outcome = {0};
	struct scene scene;
	(void)state;

	scene_cut_begin(&scene);
	cable("tc qdisc add dev %s root netem delay 2ms loss 1%% corrupt 1%% limit 20000",
	      CABLE_VARIABLE);
	fetch_all(scene.client, BLOCKS, SHORT_MS, &outcome);
	cable("tc qdisc del dev %s root", CABLE_VARIABLE);
	assert_int_equal(outcome.wrong, 0);
	assert_true(outcome.whole > 0);
	read_back(&scene);
	scene_end(&scene);
}

/* ---- without ---- */

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

static void
without_an_rdma_device_it_is_an_error_that_says_so(void **state)
{
	static const char *const donor[] = {FAR_TEST_FARPOOLD,
					    "name=a",
					    "memory=64MiB",
					    "block_min=64KiB",
					    "listen=verbs:127.0.0.1:7599",
					    NULL};
	struct far_donor_options address = {
		.size_bytes = sizeof(address), .name = "a", .address = "verbs:127.0.0.1:7599"};
	struct far_client_options options = {
		.size_bytes = sizeof(options),
		.l1_bytes = 2 << 20,
		.donors = &address,
		.donor_count = 1,
		.transport = "verbs",
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
	assert_non_null(strstr(run->err, "verbs: "));
	assert_int_equal(far_client_open(&options, &client), -ENODEV);
	free(run);
}

/* An argument is a pattern of names of tests. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_an_rdma_device_it_is_an_error_that_says_so),
		cmocka_unit_test(a_donor_is_read_and_says_that_it_is_one_sided),
		cmocka_unit_test(a_stopped_donor_is_read_long_after_its_message_credits_ran_out),
		cmocka_unit_test(a_killed_donor_is_a_miss_and_its_successor_is_used),
		cmocka_unit_test(loss_and_delay_change_no_byte),
		cmocka_unit_test(silence_amid_prefetches_is_a_miss_and_the_donor_comes_back),
		cmocka_unit_test(
			a_port_that_goes_down_amid_prefetches_is_a_miss_and_the_donor_comes_back),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
