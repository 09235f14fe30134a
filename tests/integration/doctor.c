/* doctor.c - farpool doctor against real donors: paths proved, and what is said of those that fail. */
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
static struct rig_run run; /* large */
static char ucx[64];       /* the donor's address over TCP; "": this build has none */
static char path_text[RIG_OUTPUT_MAX];
static char path_flat[RIG_OUTPUT_MAX]; /* the same in one line */

static int
setup(void **state)
{
	(void)state;
	rig_open(&rig);
	ucx[0] = '\0';
#ifdef FAR_TEST_HAVE_UCX
	snprintf(ucx, sizeof(ucx), "ucx:127.0.0.1:%u", far_test_tcp_port());
	rig.also_listen = ucx;
#endif
	rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	rig_close(&rig);
	return 0;
}

/* Lines are wrapped where they are too long: words alone count. */
static void
flatten(const char *text, char *out)
{
	for (; *text != '\0'; text++) {
		bool blank = *text == ' ' || *text == '\n';

		if (!blank || text[1] == '\0' || (text[1] != ' ' && text[1] != '\n'))
			*out++ = (char)(blank ? ' ' : *text);
	}
	*out = '\0';
}

/* farpool doctor --to @address; path_text is what it says of the path alone. */
static void
doctor(const char *address, const char *option, const char *timeout)
{
	const char *argv[10] = {FAR_TEST_FARPOOL, "doctor", "--to", address, "--timeout", timeout};
	const char *begin;

	argv[6] = option;
	rig_run(&run, 120, argv);
	begin = strstr(run.out, "\nTo ");
	snprintf(path_text, sizeof(path_text), "%s", begin != NULL ? begin : "");
	flatten(path_text, path_flat);
}

/* Whether some line of the path begins with that verdict and name, and all of it has that text. */
static void
assert_path(int status, const char *verdict, const char *name, const char *text)
{
	char line[64];

	snprintf(line, sizeof(line), "\n  %-4s  %-18s ", verdict, name);
	if (run.status != status || strstr(path_text, line) == NULL ||
	    strstr(path_flat, text) == NULL)
		fail_msg("status %d; wanted %d, '%s', '%s'; said: %s%s", run.status, status,
			 line + 1, text, run.out, run.err);
}

static uint64_t
blocks_of_donor(void)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_client *client = rig_client(&rig, "16MiB", NULL);

	assert_int_equal(far_donor_status_get(client, 0, far_now_ns() + 10000000000ULL, &status),
			 0);
	far_client_close(client);
	assert_int_equal(status.usage_known, 1);
	return status.block_count;
}

static void
shared_memory_is_proved_one_sided_and_left_as_it_was(void **state)
{
	(void)state;
	doctor(rig.donors[0].address, NULL, "20s");
	assert_path(0, "ok", "donor", "donor-a, epoch ");
	assert_path(0, "ok", "store", "1 MiB ");
	assert_path(0, "ok", "read", "every byte is what was stored");
	assert_path(0, "ok", "path", "one-sided over shm");
	assert_path(0, "ok", "path", "messages during 21 reads: ");
	assert_path(0, "ok", "path", "CPU time of the donor's process: ");
	assert_int_equal(blocks_of_donor(), 0);
}

static void
ucx_over_tcp_is_said_to_be_served(void **state)
{
	(void)state;
	if (ucx[0] == '\0')
		skip();
	doctor(ucx, NULL, "20s");
	assert_path(0, "ok", "route", "interface lo, from 127.0.0.1");
	assert_path(0, "ok", "read", "every byte is what was stored");
	assert_path(0, "ok", "path", "served over ucx, by TCP");
	assert_null(strstr(path_text, "one-sided"));
}

static void
each_address_of_a_list_is_proved_by_itself(void **state)
{
	char list[320];
	(void)state;

	if (ucx[0] == '\0')
		skip();
	snprintf(list, sizeof(list), "%s,%s", ucx, rig.donors[0].address);
	doctor(list, NULL, "20s");
	assert_path(0, "ok", "path", "one-sided over shm");
	assert_path(0, "ok", "path", "served over ucx");
}

static void
donors_of_a_configuration_go_by_their_names(void **state)
{
	const char *const one[] = {FAR_TEST_FARPOOL, "doctor",  "--config", rig.client_config,
				   "--to",           "donor-a", NULL};
	const char *const all[] = {FAR_TEST_FARPOOL, "doctor", "--config", rig.client_config,
				   "--to",           "all",    NULL};
	const char *const none[] = {FAR_TEST_FARPOOL, "doctor",  "--config", rig.client_config,
				    "--to",           "donor-x", NULL};
	char heading[256];
	(void)state;

	snprintf(heading, sizeof(heading), "\nTo %s\n", rig.donors[0].address);
	rig_client_config(&rig, "16MiB", NULL);
	rig_run(&run, 60, one);
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, heading));
	rig_run(&run, 60, all);
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, heading));
	rig_run(&run, 60, none);
	assert_int_equal(run.status, 1);
	assert_non_null(strstr(run.err, "'donor-x' is no donor of --config"));
}

static void
read_only_stores_nothing_and_reads_what_is_there(void **state)
{
	char address[256];
	const char *const put[] = {FAR_TEST_FARPOOL,     "put", "--donor", address, "key",
				   rig.donors[0].config, NULL};
	(void)state;

	doctor(rig.donors[0].address, "--read-only", "20s");
	assert_path(0, "none", "read", "no block that could be read");
	assert_path(0, "ok", "path", "one-sided over shm");
	snprintf(address, sizeof(address), "donor-a=%s", rig.donors[0].address);
	rig_run(&run, 60, put);
	assert_int_equal(run.status, 0);
	doctor(rig.donors[0].address, "--read-only", "20s");
	assert_path(0, "ok", "read", "1 blocks that it held");
	assert_null(strstr(path_text, "store"));
	assert_int_equal(blocks_of_donor(), 1);
}

static void
an_address_where_nobody_is_says_what_to_do(void **state)
{
	(void)state;
	doctor("shm:/nonexistent/a.sock", NULL, "2s");
	assert_path(1, "fail", "address", "start the donor on this host");
	doctor("shm:/etc/passwd", NULL, "2s");
	assert_path(1, "fail", "address", "/etc/passwd is no socket");
	doctor("tcp:somewhere", NULL, "2s");
	assert_path(1, "fail", "address", "verbs:HOST:PORT");
	if (ucx[0] == '\0')
		return;
	doctor("ucx:127.0.0.1:1", NULL, "20s");
	assert_path(1, "fail", "connect", "with listen: ucx:127.0.0.1:1");
	doctor("ucx:no.such.name.invalid:1", NULL, "5s");
	assert_path(1, "fail", "address", "getent hosts no.such.name.invalid");
	doctor("ucx:127.0.0.1", NULL, "5s");
	assert_path(1, "fail", "address", "is not HOST:PORT");
}

static void
without_an_rdma_device_verbs_fails_and_says_why(void **state)
{
	(void)state;
	if (access("/sys/class/infiniband", F_OK) == 0)
		skip();
	doctor("verbs:127.0.0.1:7471", NULL, "2s");
	assert_path(1, "fail", "route", "fix: ");
	if (strstr(run.out, "fail  devices            none, and verbs is asked for") == NULL)
		fail_msg("nothing is said of devices: %s", run.out);
}

/* A socket file outlives a donor that was killed. */
static void
a_donor_that_was_killed_listens_no_more(void **state)
{
	(void)state;
	assert_int_equal(rig_donor_signal(&rig.donors[0], SIGKILL), 128 + SIGKILL);
	doctor(rig.donors[0].address, NULL, "5s");
	assert_path(1, "fail", "connect", "start the donor there, with listen: shm:");
	if (ucx[0] == '\0')
		return;
	doctor(ucx, NULL, "20s");
	assert_path(1, "fail", "connect", "nobody listens there");
}

static void
a_donor_that_is_stopped_costs_the_timeout_and_is_named(void **state)
{
	(void)state;
	rig_donor_signal(&rig.donors[0], SIGSTOP);
	doctor(rig.donors[0].address, NULL, "500ms");
	assert_path(1, "fail", "connect", "its process is stopped or overloaded");
	if (ucx[0] != '\0') {
		doctor(ucx, NULL, "500ms");
		assert_path(1, "fail", "connect", "its process is stopped or overloaded");
	}
	rig_donor_signal(&rig.donors[0], SIGCONT);
}

static void
another_namespace_is_refused_with_the_option_that_mends_it(void **state)
{
	(void)state;
	doctor(rig.donors[0].address, "--set=namespace=other", "20s");
	assert_path(1, "fail", "donor", "farpool doctor --set namespace=default");
}

static void
json_has_a_verdict_for_each_check(void **state)
{
	(void)state;
	doctor(rig.donors[0].address, "--json", "20s");
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, "\"fail\": 0"));
	assert_non_null(strstr(run.out, "\"verdict\": \"ok\""));
}

static void
a_configuration_asks_for_what_it_needs(void **state)
{
	char path[160];
	const char *const argv[] = {FAR_TEST_FARPOOL, "doctor", "--donor-config", path, NULL};
	FILE *file;
	(void)state;

	snprintf(path, sizeof(path), "%s/large.yaml", rig.dir);
	file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file,
		"name: large\nlisten: shm:%s/l.sock\nmemory: 8TiB\nlane: 64MiB\nsegment: "
		"64GiB\nhuge_pages: on\n",
		rig.dir);
	assert_int_equal(fclose(file), 0);
	rig_run(&run, 60, argv);
	assert_int_equal(run.status, 1);
	flatten(run.out, path_flat);
	assert_non_null(strstr(path_flat, "memory of the donor asks for 8 TiB: it will not start"));
	assert_non_null(strstr(run.out, "sysctl -w vm.nr_hugepages="));
	assert_string_equal(run.err, "");
	file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file, "nme: large\n");
	assert_int_equal(fclose(file), 0);
	rig_run(&run, 60, argv);
	assert_int_equal(run.status, 1);
	assert_non_null(strstr(run.out, "key 'nme': unknown"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(shared_memory_is_proved_one_sided_and_left_as_it_was),
		TEST(ucx_over_tcp_is_said_to_be_served),
		TEST(each_address_of_a_list_is_proved_by_itself),
		TEST(donors_of_a_configuration_go_by_their_names),
		TEST(read_only_stores_nothing_and_reads_what_is_there),
		TEST(an_address_where_nobody_is_says_what_to_do),
		TEST(without_an_rdma_device_verbs_fails_and_says_why),
		TEST(a_donor_that_was_killed_listens_no_more),
		TEST(a_donor_that_is_stopped_costs_the_timeout_and_is_named),
		TEST(another_namespace_is_refused_with_the_option_that_mends_it),
		TEST(json_has_a_verdict_for_each_check),
		TEST(a_configuration_asks_for_what_it_needs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
