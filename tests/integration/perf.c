/* perf.c - farpool-perf as people run it: what it moves, what it prints, and what it says when it cannot. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/rig.h"
#include "tests/support/tcp_port.h"
#include "transport/transport.h"

static struct rig_run run; /* large */

#define RUN(...)                                                                                   \
	do {                                                                                       \
		const char *const argv[] = {FAR_TEST_PERF, __VA_ARGS__, NULL};                     \
		rig_run(&run, 60, argv);                                                           \
	} while (0)

/* It failed, and said so in one line with both words. */
static void
assert_said(int status, const char *cause, const char *next)
{
	if (run.status != status || strstr(run.err, cause) == NULL || strstr(run.err, next) == NULL)
		fail_msg("status %d; wanted %d, '%s' and '%s'; said: %s", run.status, status, cause,
			 next, run.err);
}

static double
number(json_t *row, const char *name)
{
	json_t *value = json_object_get(row, name);

	if (!json_is_number(value))
		fail_msg("no number '%s'", name);
	return json_number_value(value);
}

/* Of a run with --json: how many sizes; each is consistent. */
static size_t
assert_consistent(const char *transport, bool one_sided)
{
	json_error_t error;
	json_t *root = json_loads(run.out, 0, &error), *info, *row;
	size_t i, count;

	if (run.status != 0 || root == NULL)
		fail_msg("status %d: %s %s", run.status, run.out, run.err);
	info = json_object_get(root, "test_info");
	assert_string_equal(json_string_value(json_object_get(info, "transport")), transport);
	assert_int_equal(json_is_true(json_object_get(info, "one_sided")), one_sided);
	json_array_foreach(json_object_get(root, "results"), i, row)
	{
		double bytes = number(row, "bytes");

		assert_true(bytes == number(row, "n_iterations") * number(row, "MsgSize"));
		assert_true(number(row, "ns") > 0);
		assert_int_equal((int)number(row, "wrong"), 0);
		if (json_object_get(row, "t_min") != NULL) {
			assert_true(number(row, "t_min") <= number(row, "t_typical"));
			assert_true(number(row, "t_typical") <= number(row, "percentile_99"));
			assert_true(number(row, "percentile_99") <= number(row, "percentile_99.9"));
			assert_true(number(row, "percentile_99.9") <= number(row, "t_max"));
		} else {
			double mib = bytes / number(row, "ns") * 1e9 / 1048576;

			assert_true(number(row, "BW_average") > mib * 0.999);
			assert_true(number(row, "BW_average") < mib * 1.001);
		}
	}
	count = json_array_size(json_object_get(root, "results"));
	json_decref(root);
	return count;
}

static void
each_test_runs_on_one_host_by_itself(void **state)
{
	(void)state;
	RUN("raw", "read", "--set", "16MiB", "-n", "500", "--json");
	assert_int_equal(assert_consistent("shm", true), 1);
	RUN("raw", "write", "--set", "16MiB", "-n", "500", "-q", "2", "--json");
	assert_int_equal(assert_consistent("shm", true), 1);
	RUN("raw", "lat", "--set", "16MiB", "-n", "500", "--json");
	assert_int_equal(assert_consistent("shm", true), 1);
	RUN("raw", "read", "--set", "16MiB", "-n", "200", "-a", "-e", "--json");
	assert_int_equal(assert_consistent("shm", true), 23);
	RUN("raw", "read", "--set", "16MiB", "-D", "1", "-q", "3", "--hot", "--json");
	assert_int_equal(assert_consistent("shm", true), 1);
}

static pid_t
server_start(struct rig *rig, const char *address)
{
	const char *const argv[] = {FAR_TEST_PERF, "server", "--set", "16MiB", address, NULL};
	pid_t pid = rig_spawn(rig, "server", argv);
	char line[256];

	rig_first_line(rig, pid, "server", line, sizeof(line));
	assert_non_null(strstr(line, "serves 16 MiB"));
	return pid;
}

static void
a_server_serves_one_client_after_the_other_and_ends_when_told(void **state)
{
	struct rig rig;
	char address[160];
	pid_t pid;
	(void)state;

	rig_open(&rig);
	snprintf(address, sizeof(address), "shm:%s/perf.sock", rig.dir);
	pid = server_start(&rig, address);
	for (int i = 0; i < 3; i++) {
		RUN("raw", i == 1 ? "write" : "read", "-n", "100", "--json", address);
		assert_int_equal(assert_consistent("shm", true), 1);
	}
	kill(pid, SIGTERM);
	rig_wait(&rig, pid, "server", 20, &run);
	assert_int_equal(run.status, 0);
	rig_close(&rig);
}

static void
over_ucx_it_says_that_the_peer_serves(void **state)
{
	struct rig rig;
	char address[64];
	pid_t pid;
	(void)state;

	if (far_transport_find("ucx") == NULL) {
		print_message("skipped: built without UCX\n");
		skip();
	}
	rig_open(&rig);
	snprintf(address, sizeof(address), "ucx:127.0.0.1:%u", far_test_tcp_port());
	pid = server_start(&rig, address);
	RUN("raw", "read", "-n", "100", "--json", address);
	assert_int_equal(assert_consistent("ucx", false), 1);
	RUN("raw", "write", "-n", "100", "--json", address);
	assert_int_equal(assert_consistent("ucx", false), 1);
	kill(pid, SIGTERM);
	rig_wait(&rig, pid, "server", 20, &run);
	assert_int_equal(run.status, 0);
	rig_close(&rig);
}

static void
a_donors_client_is_refused_and_the_server_goes_on(void **state)
{
	struct rig rig;
	char address[160], donor[200];
	pid_t pid;
	(void)state;

	rig_open(&rig);
	snprintf(address, sizeof(address), "shm:%s/perf.sock", rig.dir);
	snprintf(donor, sizeof(donor), "donor-a=%s", address);
	pid = server_start(&rig, address);
	{
		const char *const argv[] = {FAR_TEST_FARPOOL, "get", "--donor", donor,
					    "--timeout",      "1s",  "key",     NULL};

		rig_run(&run, 60, argv);
		assert_int_not_equal(run.status, 0);
	}
	RUN("raw", "read", "-n", "100", "--json", address);
	assert_int_equal(assert_consistent("shm", true), 1);
	kill(pid, SIGTERM);
	rig_wait(&rig, pid, "server", 20, &run);
	rig_close(&rig);
}

static void
a_server_that_dies_or_stops_is_an_error_in_time(void **state)
{
	const int signals[] = {SIGKILL, SIGSTOP};
	(void)state;

	for (int i = 0; i < 2; i++) {
		struct rig rig;
		char address[160];
		pid_t server, client;
		/* Each write needs its server. */
		const char *const argv[] = {FAR_TEST_PERF, "raw", "write", "-D", "30",
					    "--timeout",   "1s",  address, NULL};

		rig_open(&rig);
		snprintf(address, sizeof(address), "shm:%s/perf.sock", rig.dir);
		server = server_start(&rig, address);
		client = rig_spawn(&rig, "client", argv);
		{
			char line[256];

			rig_first_line(&rig, client, "client", line, sizeof(line));
		}
		kill(server, signals[i]);
		rig_wait(&rig, client, "client", 20, &run);
		assert_said(1, address, signals[i] == SIGKILL ? "died" : "--timeout");
		kill(server, SIGKILL);
		waitpid(server, NULL, 0);
		rig_close(&rig);
	}
}

static void
the_table_has_the_columns_of_perftest(void **state)
{
	double columns[5];
	const char *at;
	(void)state;

	RUN("raw", "read", "--set", "16MiB", "-s", "4096", "-n", "1024");
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(
		run.out, " #bytes     #iterations    BW peak[MiB/sec]    BW average[MiB/sec]"));
	at = strstr(run.out, "\n 4096 ");
	assert_non_null(at);
	for (int i = 0; i < 5; i++) {
		char *end;

		columns[i] = strtod(at, &end);
		assert_true(end != at);
		at = end;
	}
	assert_true(columns[0] == 4096 && columns[1] == 1024);
	assert_true(columns[2] >= columns[3] * 0.99 && columns[3] > 0 && columns[4] > 0);
	RUN("raw", "read", "--set", "16MiB", "-n", "100", "--csv");
	assert_int_equal(run.status, 0);
	assert_int_equal(strncmp(run.out, "bytes,iterations,bw_peak_mib_s,", 31), 0);
	assert_non_null(strstr(run.out, "\n65536,"));
}

static void
what_cannot_be_done_is_said_with_a_next_step(void **state)
{
	(void)state;
	RUN("raw", "read", "nobody");
	assert_said(1, "'nobody'", "verbs:10.0.0.3:18515");
	RUN("raw", "read", "shm:/nonexistent/perf.sock");
	assert_said(1, "shm:/nonexistent/perf.sock", "farpool-perf server");
	RUN("raw", "read", "--set", "1MiB", "-s", "2MiB");
	assert_said(1, "2097152", "--set");
	RUN("raw", "read", "-t", "8", "-l", "16");
	assert_said(2, "-l 16", "-t 8");
	RUN("raw", "read", "-s", "many");
	assert_said(2, "'many'", "64KiB");
	RUN("raw", "read", "--json", "--csv");
	assert_said(2, "--json", "--csv");
	/* Whoever types what perftest takes is told where it is decided here. */
	RUN("raw", "read", "-d", "mlx5_0", "-i", "1");
	assert_said(2, "no -d", "verbs:HOST:PORT");
	RUN("raw", "read", "-x", "3");
	assert_said(2, "no -x", "rdma_cm");
	RUN("raw", "lat", "-F", "-R", "--set", "16MiB", "-n", "100", "--json");
	assert_int_equal(assert_consistent("shm", true), 1);
	RUN("raw", "swim");
	assert_said(2, "no command 'raw swim'", "raw read");
	RUN("server");
	assert_said(2, "address", "verbs:10.0.0.3:18515");
	RUN("server", "nonsense");
	assert_said(1, "'nonsense'", "shm:/tmp/perf.sock");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_test_runs_on_one_host_by_itself),
		cmocka_unit_test(a_server_serves_one_client_after_the_other_and_ends_when_told),
		cmocka_unit_test(over_ucx_it_says_that_the_peer_serves),
		cmocka_unit_test(a_donors_client_is_refused_and_the_server_goes_on),
		cmocka_unit_test(a_server_that_dies_or_stops_is_an_error_in_time),
		cmocka_unit_test(the_table_has_the_columns_of_perftest),
		cmocka_unit_test(what_cannot_be_done_is_said_with_a_next_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
