/* shutdown.c - a client that does not come up leaves nothing, and one that did ends from any state. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pages.h"
#include "farpool/farpool.h"

#define NTH_MAX 100000U /* more allocations than an open makes */

static void
ignore_line(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static size_t
descriptor_count(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static int
open_with_dead_donors(struct far_client **out)
{
	struct far_donor_options donors[2] = {
		{.size_bytes = sizeof(donors[0]), .name = "a", .address = "shm:/nonexistent/a"},
		{.size_bytes = sizeof(donors[1]), .name = "b", .address = "shm:/nonexistent/b"},
	};
	struct far_client_options options = {
		.size_bytes = sizeof(options),
		.l1_bytes = 1 << 20,
		.donors = donors,
		.donor_count = 2,
		.transport = "shm",
	};

	return far_client_open(&options, out);
}

static void
every_allocation_that_fails_while_opening_leaves_nothing(void **state)
{
	struct far_client *client = NULL;
	size_t descriptors;
	uint64_t nth = 0;
	int rc;

	(void)state;
	far_log_sink_set(ignore_line, NULL);
	assert_int_equal(open_with_dead_donors(&client), 0);
	far_client_close(client); /* libraries and the like are loaded now */
	descriptors = descriptor_count();
	do {
		client = NULL;
		far_alloc_fail_nth(++nth);
		rc = open_with_dead_donors(&client);
		far_alloc_fail_nth(0);
		if (rc < 0) {
			if (rc != -ENOMEM)
				fail_msg("allocation %llu failed: %d", (unsigned long long)nth, rc);
			assert_null(client);
			assert_int_equal(far_alloc_live_bytes(), 0);
			assert_int_equal(far_pages_live_bytes(), 0);
			assert_int_equal(descriptor_count(), descriptors);
		}
	} while (rc < 0 && nth < NTH_MAX);
	assert_int_equal(rc, 0);
	assert_true(nth > 20); /* it was not off */
	far_client_close(client);
	far_log_sink_set(NULL, NULL);
	assert_int_equal(far_alloc_live_bytes(), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
}

static void
close_right_behind_open_leaves_nothing(void **state)
{
	(void)state;
	far_log_sink_set(ignore_line, NULL);
	for (int i = 0; i < 50; i++) {
		struct far_prefetch_options options = {.size_bytes = sizeof(options)};
		struct far_prefetch_handle *handle;
		struct far_session *session;
		struct far_client *client;
		struct far_key keys[2] = {{{1}}, {{2}}};

		assert_int_equal(open_with_dead_donors(&client), 0);
		if (i % 2 != 0) {
			assert_int_equal(far_put(client, &keys[0], "x", 1), 0);
			assert_int_equal(far_session_open(client, "open", 0, &session), 0);
			options.session = i % 4 == 1 ? session : NULL;
			options.deadline_ns = far_now_ns() + FAR_NS_PER_S;
			assert_int_equal(far_prefetch(client, keys, 2, &options, &handle), 0);
			(void)far_donor_remove(client, "b", far_now_ns() + 1);
		}
		far_client_close(client);
		assert_int_equal(far_alloc_live_bytes(), 0);
		assert_int_equal(far_pages_live_bytes(), 0);
	}
	far_log_sink_set(NULL, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_that_fails_while_opening_leaves_nothing),
		cmocka_unit_test(close_right_behind_open_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
