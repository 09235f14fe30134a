/* transports.c - a donor that listens in two ways: which one a client takes, and that it says why. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "farpool/farpool.h"
#include "tests/support/rig.h"
#include "tests/support/tcp_port.h"

static struct rig rig;
static struct rig_run run;
static char shm[256]; /* the donor's address on this host */
static char ucx[64];  /* the other one */
static char both[600];

static int
setup(void **state)
{
	(void)state;
	rig_open(&rig);
	snprintf(ucx, sizeof(ucx), "ucx:127.0.0.1:%u", far_test_tcp_port()); /* 0 fails at listen */
	rig.also_listen = ucx;
	rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	snprintf(shm, sizeof(shm), "%s", rig.donors[0].address);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	rig_close(&rig);
	return 0;
}

/* farpool COMMAND for donor-a at @addresses over @transport; what it said is in @run. */
static void
farpool(const char *command, const char *addresses, const char *transport, const char *key)
{
	const char *argv[16] = {FAR_TEST_FARPOOL, command};
	char donor[640], set[64];
	size_t count = 2;

	snprintf(donor, sizeof(donor), "--donor=donor-a=%s", addresses);
	snprintf(set, sizeof(set), "--set=transport=%s", transport);
	argv[count++] = donor;
	argv[count++] = set;
	argv[count++] = "--timeout=3s";
	if (key != NULL)
		argv[count++] = key;
	rig_run(&run, 60, argv);
}

static void
assert_status(const char *addresses, const char *transport, const char *says, const char *why)
{
	farpool("status", addresses, transport, NULL);
	if (run.status != 0 || strstr(run.out, says) == NULL || strstr(run.out, why) == NULL)
		fail_msg("status %d; wanted '%s' and '%s'; said: %s%s", run.status, says, why,
			 run.out, run.err);
}

static void
auto_takes_shared_memory_on_the_same_host_in_whatever_order(void **state)
{
	(void)state;

	snprintf(both, sizeof(both), "%s,%s", shm, ucx);
	assert_status(both, "auto", "shm  auto: the first choice answers", "one-sided");
	snprintf(both, sizeof(both), "%s,%s", ucx, shm);
	assert_status(both, "auto", "shm  auto: the first choice answers", "one-sided");
}

static void
auto_takes_ucx_where_no_socket_is_and_says_so(void **state)
{
	(void)state;
	snprintf(both, sizeof(both), "shm:/nonexistent/donor.sock,%s", ucx);
	assert_status(both, "auto", "ucx  auto: not shm:/nonexistent/donor.sock: nobody listens",
		      "served");
}

/* Hosts of a rack use the same path: the socket of another donor is not the one that is meant. */
static void
auto_passes_over_another_donor_at_the_same_path(void **state)
{
	(void)state;

	rig.also_listen = NULL;
	rig_donor_add(&rig, "donor-b", "64MiB", NULL);
	snprintf(both, sizeof(both), "%s,%s", rig.donors[1].address, ucx);
	assert_status(both, "auto", "donor-b.sock: this is donor-b, not donor-a", "served");
}

static void
auto_passes_over_what_this_build_does_not_have(void **state)
{
	(void)state;
	snprintf(both, sizeof(both), "verbs:127.0.0.1:7471,%s", ucx);
	assert_status(both, "auto", "verbs:127.0.0.1:7471: not ", "served");
}

static void
a_configured_transport_is_the_only_one(void **state)
{
	(void)state;

	snprintf(both, sizeof(both), "%s,%s", shm, ucx);
	assert_status(both, "ucx", "ucx  configured: transport: ucx", "served");
	assert_status(both, "shm", "shm  configured: transport: shm", "one-sided");
	/* No socket there, and ucx would answer: it is not asked. */
	snprintf(both, sizeof(both), "shm:/nonexistent/donor.sock,%s", ucx);
	farpool("get", both, "shm", "key");
	assert_int_not_equal(run.status, 0);
	assert_non_null(strstr(run.err, "shm:/nonexistent/donor.sock: nobody listens"));
	assert_null(strstr(run.err, "ucx:"));
}

static void
verbs_never_falls_back(void **state)
{
	(void)state;

	snprintf(both, sizeof(both), "%s,%s", shm, ucx);
	farpool("get", both, "verbs", "key");
	assert_int_not_equal(run.status, 0);
	assert_non_null(strstr(run.err, "donor 'donor-a': transport is verbs"));
	assert_non_null(strstr(run.err, "or write transport: auto"));
	snprintf(both, sizeof(both), "%s,verbs:127.0.0.1:7471", shm);
	farpool("get", both, "verbs", "key");
	assert_int_not_equal(run.status, 0);
}

/* One pool behind both: what is stored over one is read over the other. */
static void
blocks_stored_over_one_are_read_over_the_other(void **state)
{
	char donor[96];
	const char *const put[] = {FAR_TEST_FARPOOL,     "put", donor, "key",
				   rig.donors[0].config, NULL};
	(void)state;

	snprintf(donor, sizeof(donor), "--donor=donor-a=%s", ucx);
	rig_run(&run, 60, put);
	if (run.status != 0)
		fail_msg("put: %s", run.err);
	farpool("get", shm, "shm", "key");
	if (run.status != 0)
		fail_msg("get: %s", run.err);
	assert_non_null(strstr(run.out, "name: donor-a"));
	farpool("get", ucx, "ucx", "key");
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, "name: donor-a"));
	assert_int_equal(rig_donor_signal(&rig.donors[0], SIGTERM), 0);
}

/* UCX would open one on every interface, for whoever comes by. */
static void
ports_are_open_where_the_addresses_need_them_and_nowhere_else(void **state)
{
	struct far_donor_options donor = {
		.size_bytes = sizeof(donor), .name = "donor-a", .address = ucx};
	struct far_client_options options = {.size_bytes = sizeof(options),
					     .l1_bytes = 4 << 20,
					     .donors = &donor,
					     .donor_count = 1};
	struct far_client *client;
	unsigned elsewhere;
	char error[256];
	(void)state;

	assert_int_equal(far_test_tcp_listens(rig.donors[0].pid, NULL, 0, &elsewhere),
			 2); /* UCX's, and ours */
	assert_int_equal(elsewhere, 0);
	assert_int_equal(far_client_open(&options, &client), 0);
	assert_int_equal(
		far_client_wait_donors(client, far_now_ns() + 10000000000ULL, error, sizeof(error)),
		0);
	assert_int_equal(far_test_tcp_listens(getpid(), NULL, 0, &elsewhere), 1);
	assert_int_equal(elsewhere, 0);
	far_client_close(client);
}

static void
a_donor_that_cannot_listen_at_one_of_its_addresses_does_not_start(void **state)
{
	char path[192], listen[320], says[128];
	const char *const argv[] = {FAR_TEST_FARPOOLD, "name=donor-b", "memory=64MiB", listen,
				    NULL};
	(void)state;

	snprintf(path, sizeof(path), "%s/never.sock", rig.dir);
	snprintf(listen, sizeof(listen), "listen=shm:%s,%s", path, ucx);
	snprintf(says, sizeof(says), "listen: '%s': another process listens", ucx);
	rig_run(&run, 60, argv);
	assert_int_not_equal(run.status, 0);
	assert_non_null(strstr(run.err, says));
	assert_int_not_equal(access(path, F_OK), 0); /* nothing is left behind */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(auto_takes_shared_memory_on_the_same_host_in_whatever_order),
		TEST(auto_takes_ucx_where_no_socket_is_and_says_so),
		TEST(auto_passes_over_another_donor_at_the_same_path),
		TEST(auto_passes_over_what_this_build_does_not_have),
		TEST(a_configured_transport_is_the_only_one),
		TEST(verbs_never_falls_back),
		TEST(blocks_stored_over_one_are_read_over_the_other),
		TEST(ports_are_open_where_the_addresses_need_them_and_nowhere_else),
		TEST(a_donor_that_cannot_listen_at_one_of_its_addresses_does_not_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
