/* perf_pool.c - farpool-perf with clients and donors: its numbers add up, and it fails with a next step. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/rig.h"
#include "transport/transport.h"

static struct rig_run run; /* large */

#define RUN(...)                                                                                   \
	do {                                                                                       \
		const char *const argv[] = {FAR_TEST_PERF, __VA_ARGS__, NULL};                     \
		rig_run(&run, 120, argv);                                                          \
	} while (0)

static double
number(json_t *row, const char *name)
{
	json_t *value = json_object_get(row, name);

	if (!json_is_number(value))
		fail_msg("no number '%s'", name);
	return json_number_value(value);
}

static json_t *
report(void)
{
	json_error_t error;
	json_t *root = json_loads(run.out, 0, &error);

	if (run.status != 0 || root == NULL)
		fail_msg("status %d: %s %s", run.status, run.out, run.err);
	return root;
}

/* It failed, and said so with both words. */
static void
assert_said(int status, const char *cause, const char *next)
{
	if (run.status != status || strstr(run.err, cause) == NULL || strstr(run.err, next) == NULL)
		fail_msg("status %d; wanted %d, '%s' and '%s'; said: %s", run.status, status, cause,
			 next, run.err);
}

/* What has to hold of every line, whatever was measured. */
static void
assert_adds_up(json_t *row)
{
	json_t *bucket;
	size_t i;
	double samples = 0;

	assert_true(number(row, "n_iterations") > 0);
	/* The next layer may have been there as soon as the one before. */
	assert_true(number(row, "ns") > 0 ||
		    strcmp(json_string_value(json_object_get(row, "test")), "layer-next") == 0);
	assert_true(number(row, "t_min") <= number(row, "t_typical"));
	assert_true(number(row, "t_typical") <= number(row, "percentile_90"));
	assert_true(number(row, "percentile_90") <= number(row, "percentile_99"));
	assert_true(number(row, "percentile_99") <= number(row, "percentile_99.9"));
	assert_true(number(row, "percentile_99.9") <= number(row, "t_max"));
	json_array_foreach(json_object_get(row, "histogram_ns"), i, bucket) samples +=
		json_number_value(json_array_get(bucket, 1));
	assert_true(samples == number(row, "n_iterations"));
	assert_int_equal((int)number(row, "wrong"), 0);
}

static void
assert_each_adds_up_but_bytes(json_t *root, size_t rows)
{
	json_t *row;
	size_t i;

	assert_int_equal(json_array_size(json_object_get(root, "results")), rows);
	json_array_foreach(json_object_get(root, "results"), i, row) assert_adds_up(row);
}

static void
assert_each_adds_up(json_t *root, size_t rows)
{
	json_t *row;
	size_t i;

	assert_each_adds_up_but_bytes(root, rows);
	json_array_foreach(json_object_get(root, "results"), i, row)
		assert_true(number(row, "bytes") == number(row, "keys") * number(row, "MsgSize"));
}

static void
a_prefetch_comes_from_the_donors_without_a_message(void **state)
{
	json_t *root, *info, *row;
	size_t i;
	(void)state;

	RUN("prefetch", "--set", "32MiB", "-s", "64KiB,1MiB", "-b", "2,4", "-n", "9", "--json");
	root = report();
	info = json_object_get(root, "test_info");
	assert_string_equal(json_string_value(json_object_get(info, "transport")), "shm");
	assert_string_equal(json_string_value(json_object_get(info, "path")), "one-sided");
	assert_each_adds_up(root, 4);
	json_array_foreach(json_object_get(root, "results"), i, row)
	{
		assert_true(number(row, "n_iterations") == 9);
		assert_true(number(row, "keys") == 9 * number(row, "batch"));
		/* The donors are awake now and then; not for each request. */
		assert_true(number(row, "messages") <= 4);
		assert_true(number(row, "lookup_us") > 0 && number(row, "data_us") > 0);
		assert_true(json_is_number(json_object_get(row, "donor_cpu_s_per_gb")));
	}
	json_decref(root);
}

static void
a_store_has_ended_at_the_donors(void **state)
{
	json_t *root, *row;
	(void)state;

	RUN("store", "--set", "32MiB", "-s", "256KiB", "-b", "4", "-n", "8", "--threads", "2",
	    "--json");
	root = report();
	assert_each_adds_up(root, 1);
	row = json_array_get(json_object_get(root, "results"), 0);
	assert_true(number(row, "keys") == 32);
	/* COMMITs and their answers. */
	assert_true(number(row, "messages") >= 2);
	json_decref(root);
}

static void
readers_and_writers_run_at_once(void **state)
{
	json_t *root;
	(void)state;

	RUN("mixed", "--set", "32MiB", "-s", "256KiB", "-D", "1", "--clients", "2", "--donors", "2",
	    "--json");
	root = report();
	assert_each_adds_up(root, 2);
	json_decref(root);
}

static void
arrivals_do_not_wait_for_those_before_them(void **state)
{
	json_t *root, *row;
	(void)state;

	/* More than any machine can do: what cannot begin when it is due waits, and that counts. */
	RUN("prefetch", "--set", "32MiB", "-s", "256KiB", "-b", "4", "-n", "200", "--rate",
	    "1000000", "--json");
	root = report();
	assert_each_adds_up(root, 1);
	row = json_array_get(json_object_get(root, "results"), 0);
	assert_true(number(row, "n_iterations") == 200);
	/* All were due in the first instant, so the last waited for nearly all of the time. */
	assert_true(number(row, "t_max") * 1000 > number(row, "ns") * 0.8);
	json_decref(root);
}

static void
requests_that_are_given_up_are_not_counted_with_the_others(void **state)
{
	json_t *root, *row;
	(void)state;

	RUN("prefetch", "--set", "64MiB", "-s", "1MiB", "-b", "4", "-n", "400", "--cancel", "50",
	    "--json");
	root = report();
	assert_each_adds_up(root, 1);
	row = json_array_get(json_object_get(root, "results"), 0);
	assert_true(number(row, "cancelled") > 0 && number(row, "cancelled") < 300);
	assert_true(number(row, "cancelled") + number(row, "n_iterations") == 400);
	/* What lands after it was given up is counted, and is nobody's. */
	assert_true(number(row, "bytes_landed_after_cancel") <=
		    number(row, "cancelled") * 4 * 1048576);
	json_decref(root);
}

static void
a_picture_is_drawn_or_its_lack_is_said(void **state)
{
	const char *name = "/tmp/farpool-perf-test.svg";
	char begin[6] = "";
	FILE *file;
	(void)state;

	remove(name);
	RUN("prefetch", "--set", "32MiB", "-s", "256KiB,1MiB", "-b", "2", "-n", "4", "--plot",
	    name);
	file = fopen(name, "r");
	if (run.status != 0) {
		assert_said(1, name, "gnuplot-nox");
		assert_null(file);
		return;
	}
	assert_non_null(file);
	assert_int_equal(fread(begin, 1, 5, file), 5);
	assert_string_equal(begin, "<?xml");
	fclose(file);
	remove(name);
	RUN("raw", "read", "--set", "16MiB", "-n", "20", "-a", "--plot", name);
	assert_int_equal(run.status, 0);
	assert_int_equal(remove(name), 0);
	RUN("raw", "lat", "--set", "16MiB", "-n", "20", "--plot", name);
	assert_int_equal(run.status, 0);
	assert_int_equal(remove(name), 0);
	/* One size is no line. */
	RUN("raw", "read", "--plot", name);
	assert_said(2, "--plot", "-a");
}

/* It was told to end while it measured; where its socket was, nothing is left. */
static void
assert_leaves_nothing(const char *const argv[], int signal_number)
{
	struct rig rig;
	char line[256], folder[64];
	const char *at;
	pid_t pid;

	rig_open(&rig);
	pid = rig_spawn(&rig, "perf", argv);
	rig_first_line(&rig, pid, "perf", line, sizeof(line));
	kill(pid, signal_number);
	rig_wait(&rig, pid, "perf", 20, &run);
	assert_int_equal(run.status, 128 + signal_number);
	at = strstr(run.out, "shm:/tmp/farpool-perf-");
	assert_non_null(at);
	snprintf(folder, sizeof(folder), "%.*s", (int)strcspn(at + 9, "/") + 5, at + 4);
	assert_int_equal(strlen(folder), strlen("/tmp/farpool-perf-XXXXXX"));
	assert_int_equal(access(folder, F_OK), -1);
	rig_close(&rig);
}

static void
a_signal_leaves_nothing_in_tmp(void **state)
{
	const char *const prefetch[] = {FAR_TEST_PERF, "prefetch", "--set", "32MiB", "-s",
					"256KiB",      "-D",       "60",    NULL};
	const char *const raw[] = {FAR_TEST_PERF, "raw", "read", "--set",
				   "16MiB",       "-D",  "60",   NULL};
	(void)state;

	assert_leaves_nothing(prefetch, SIGINT);
	assert_leaves_nothing(prefetch, SIGTERM);
	assert_leaves_nothing(raw, SIGINT);
}

static void
over_ucx_the_donor_serves(void **state)
{
	json_t *root, *info;
	(void)state;

	if (far_transport_find("ucx") == NULL) {
		print_message("skipped: built without UCX\n");
		skip();
	}
	RUN("prefetch", "--over", "ucx", "--set", "32MiB", "-s", "256KiB", "-n", "8", "--json");
	root = report();
	info = json_object_get(root, "test_info");
	assert_string_equal(json_string_value(json_object_get(info, "transport")), "ucx");
	assert_false(json_is_true(json_object_get(info, "one_sided")));
	assert_each_adds_up(root, 1);
	json_decref(root);
}

static void
lookups_find_what_is_there_and_nothing_else(void **state)
{
	json_t *root, *row;
	size_t i;
	(void)state;

	RUN("lookup", "--keys", "500,3000", "-b", "1,64", "-n", "40", "--json");
	root = report();
	assert_each_adds_up_but_bytes(root, 4);
	json_array_foreach(json_object_get(root, "results"), i, row)
	{
		assert_true(number(row, "n_iterations") == 40);
		assert_true(number(row, "keys") == 40 * number(row, "batch"));
		assert_true(number(row, "blocks") == (i < 2 ? 500 : 3000));
		assert_true(number(row, "bytes") == 0 && number(row, "messages") == 0);
		assert_true(number(row, "misses") == 0);
		assert_true(number(row, "found") == number(row, "keys"));
	}
	json_decref(root);
	/* Of keys that nobody has none is found, and no block that is there is missed. */
	RUN("lookup", "--keys", "500", "-b", "64", "-D", "1", "--misses", "50", "--json");
	root = report();
	assert_each_adds_up_but_bytes(root, 1);
	row = json_array_get(json_object_get(root, "results"), 0);
	assert_true(number(row, "misses") == 0);
	assert_true(number(row, "found") > number(row, "keys") * 0.4);
	assert_true(number(row, "found") < number(row, "keys") * 0.6);
	json_decref(root);
	RUN("lookup", "-b", "5000");
	assert_int_equal(run.status, 2);
	assert_non_null(strstr(run.err, "up to 1024 keys"));
}

static void
a_prefix_is_timed_whole_and_layer_by_layer(void **state)
{
	json_t *root, *rows;
	(void)state;

	RUN("kv", "--shape", "4,2,32,2", "--tokens", "500", "--chunk", "64", "-n", "3", "--json");
	root = report();
	rows = json_object_get(root, "results");
	assert_each_adds_up(root, 4);
	/* 2 x 2 heads x 32 x 2 bytes: 256 of a token in a layer. 500 tokens are 8 chunks. */
	assert_true(number(json_object_get(root, "model"), "bytes_per_token") == 1024);
	assert_true(number(json_array_get(rows, 0), "MsgSize") == 64 * 1024);
	assert_true(number(json_array_get(rows, 0), "batch") == 8);
	assert_true(number(json_array_get(rows, 1), "MsgSize") == 64 * 256);
	assert_true(number(json_array_get(rows, 1), "n_iterations") == 3);
	assert_true(number(json_array_get(rows, 2), "n_iterations") == 9);
	assert_true(number(json_array_get(rows, 3), "batch") == 32);
	assert_true(number(json_array_get(rows, 1), "t_max") <=
		    number(json_array_get(rows, 3), "t_max"));
	/* First and next layers together are the whole. */
	assert_true(number(json_array_get(rows, 1), "ns") + number(json_array_get(rows, 2), "ns") ==
		    number(json_array_get(rows, 3), "ns"));
	json_decref(root);
	RUN("kv", "--model", "list");
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, "deepseek-v3"));
	RUN("kv", "--model", "hal-9000");
	assert_said(1, "'hal-9000'", "--model list");
	RUN("kv", "--model", "llama-3.1-405b");
	assert_said(1, "64 MiB", "--chunk");
	RUN("kv");
	assert_said(2, "--model", "--shape");
}

static void
many_clients_and_many_donors_stand_beside_one_of_each(void **state)
{
	const char *const shapes[] = {"1:1", "3:1", "1:2"};
	json_t *root, *row;
	size_t i;
	(void)state;

	RUN("incast", "--clients", "3", "--donors", "2", "--set", "64MiB", "-s", "256KiB", "-D",
	    "1", "--json");
	root = report();
	assert_each_adds_up(root, 3);
	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		row = json_array_get(json_object_get(root, "results"), i);
		assert_string_equal(json_string_value(json_object_get(row, "test")), shapes[i]);
		assert_true(number(row, "clients") == shapes[i][0] - '0');
		assert_true(number(row, "donors") == shapes[i][2] - '0');
		assert_true(number(row, "client_bytes_min") > 0);
		assert_true(number(row, "client_bytes_max") * number(row, "clients") >=
			    number(row, "bytes"));
	}
	json_decref(root);
	RUN("incast", "donor-a=shm:/tmp/x");
	assert_said(2, "no addresses", "--help");
}

static void
memory_is_mapped_and_registered_by_one_thread_and_by_more(void **state)
{
	json_t *root, *row;
	size_t i, count[2] = {0, 0};
	(void)state;

	RUN("register", "--set", "8MiB", "-n", "3", "--threads", "2", "--json");
	root = report();
	json_array_foreach(json_object_get(root, "results"), i, row)
	{
		assert_true(number(row, "n_iterations") == 3);
		assert_true(number(row, "bytes") == 8 << 20);
		assert_true(number(row, "s_per_gib_min") <= number(row, "s_per_gib"));
		assert_true(number(row, "s_per_gib") <= number(row, "s_per_gib_max"));
		assert_true(number(row, "s_per_gib_min") > 0);
		if (number(row, "page_bytes") == 4096)
			count[(int)number(row, "threads") - 1]++;
	}
	/* map, register, deregister; 2 MiB pages are not everywhere. */
	assert_int_equal(count[0], 3);
	assert_int_equal(count[1], 3);
	json_decref(root);
	RUN("register", "--over", "pigeon");
	assert_said(1, "pigeon", "farpool doctor");
}

static void
donors_that_are_there_are_used_and_left_as_they_were(void **state)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_client *client;
	struct rig rig;
	char address[512];
	json_t *root;
	(void)state;

	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "128MiB", "");
	snprintf(address, sizeof(address), "%s=%s", rig.donors[0].name, rig.donors[0].address);
	RUN("prefetch", "--set", "16MiB", "-s", "256KiB", "-b", "2", "-n", "8", "--json", address);
	root = report();
	assert_each_adds_up(root, 1);
	json_decref(root);
	client = rig_client(&rig, "16MiB", "");
	assert_int_equal(far_donor_status_get(client, 0, far_now_ns() + 20000000000ULL, &status),
			 0);
	assert_int_equal(status.block_count, 0);
	far_client_close(client);
	rig_close(&rig);
}

/* Lines of the table; what stands above it says where donors are, however long that is. */
static void
assert_fits_a_terminal(void)
{
	const char *at = strstr(run.out, "\n test ");

	assert_non_null(at);
	for (at++; *at != '\0'; at += strcspn(at, "\n") + 1)
		assert_true(strcspn(at, "\n") <= 120);
}

static void
tables_and_csv_have_a_line_for_each(void **state)
{
	(void)state;
	RUN("prefetch", "--set", "32MiB", "-s", "256KiB", "-b", "2", "-n", "8");
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, "donor's"));
	assert_non_null(strstr(run.out, "\n prefetch        262144      2 "));
	assert_fits_a_terminal();
	RUN("lookup", "--keys", "500", "-n", "40", "--misses", "50");
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, "\n lookup             500    256 "));
	assert_fits_a_terminal();
	RUN("store", "--set", "32MiB", "-s", "256KiB", "-b", "2", "-n", "8", "--csv");
	assert_int_equal(run.status, 0);
	assert_int_equal(
		strncmp(run.out, "test,MsgSize,batch,blocks,n_iterations,BW_average_mib_s,", 56),
		0);
	assert_non_null(strstr(run.out, "\nstore,262144,2,128,8,"));
}

static void
what_cannot_be_done_is_said_with_a_next_step(void **state)
{
	(void)state;
	RUN("prefetch", "--farpoold", "/nonexistent/farpoold");
	assert_said(1, "/nonexistent/farpoold", "--farpoold FILE");
	RUN("prefetch", "--set", "1MiB", "-s", "256KiB", "-b", "8");
	assert_said(1, "in flight", "--set");
	RUN("prefetch", "donor-a=shm:/nonexistent/donor.sock", "--timeout", "500ms");
	assert_said(1, "donor-a", "/nonexistent/donor.sock");
	RUN("prefetch", "shm:/tmp/x");
	assert_said(2, "'shm:/tmp/x'", "NAME=ADDRESS");
	RUN("prefetch", "-s", "many");
	assert_said(2, "'many'", "-s");
	RUN("prefetch", "--client", "l1.eviction=fifo");
	assert_said(1, "l1.eviction", "lru");
	RUN("prefetch", "--rate", "-3");
	assert_said(2, "'-3'", "--rate");
	RUN("store", "--plot", "x.pdf");
	assert_said(2, "x.pdf", ".svg");
	/* Letters that mean nothing here. */
	RUN("store", "-t", "3");
	assert_said(2, "'t'", "--help");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_prefetch_comes_from_the_donors_without_a_message),
		cmocka_unit_test(a_store_has_ended_at_the_donors),
		cmocka_unit_test(readers_and_writers_run_at_once),
		cmocka_unit_test(arrivals_do_not_wait_for_those_before_them),
		cmocka_unit_test(requests_that_are_given_up_are_not_counted_with_the_others),
		cmocka_unit_test(a_picture_is_drawn_or_its_lack_is_said),
		cmocka_unit_test(a_signal_leaves_nothing_in_tmp),
		cmocka_unit_test(over_ucx_the_donor_serves),
		cmocka_unit_test(lookups_find_what_is_there_and_nothing_else),
		cmocka_unit_test(a_prefix_is_timed_whole_and_layer_by_layer),
		cmocka_unit_test(many_clients_and_many_donors_stand_beside_one_of_each),
		cmocka_unit_test(memory_is_mapped_and_registered_by_one_thread_and_by_more),
		cmocka_unit_test(donors_that_are_there_are_used_and_left_as_they_were),
		cmocka_unit_test(tables_and_csv_have_a_line_for_each),
		cmocka_unit_test(what_cannot_be_done_is_said_with_a_next_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
