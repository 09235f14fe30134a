/* donors.c - donors that come and go while a client runs; none of them is there, all are tried. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pages.h"
#include "farpool/farpool.h"

#define DONORS_MAX 64

static uint64_t
soon(void)
{
	return far_now_ns() + 10 * FAR_NS_PER_S;
}

static void
ignore_line(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static struct far_client *
open_client(void)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = 1 << 20};
	struct far_client *client = NULL;

	far_log_sink_set(ignore_line, NULL);
	assert_int_equal(far_client_open(&options, &client), 0);
	return client;
}

static void
close_client(struct far_client *client)
{
	far_client_close(client);
	far_log_sink_set(NULL, NULL);
	assert_int_equal(far_alloc_live_bytes(), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
}

static int
add(struct far_client *client, unsigned n, char *error, size_t error_bytes)
{
	char name[32];
	char address[64];
	struct far_donor_options options = {
		.size_bytes = sizeof(options),
		.name = name,
		.address = address,
	};

	snprintf(name, sizeof(name), "donor-%u", n);
	snprintf(address, sizeof(address), "shm:/nonexistent/farpool-%u.sock", n);
	return far_donor_add(client, &options, error, error_bytes);
}

static int
take_out(struct far_client *client, unsigned n)
{
	char name[32];

	snprintf(name, sizeof(name), "donor-%u", n);
	return far_donor_remove(client, name, soon());
}

/* How often the recorder was told that. */
static uint64_t
events_of(struct far_client *client, const char *name)
{
	struct far_event_counts counts = {.size_bytes = sizeof(counts)};

	for (size_t kind = 0; far_event_counts_get(client, kind, &counts) == 0; kind++) {
		if (strcmp(counts.name, name) == 0)
			return counts.events;
	}
	return UINT64_MAX;
}

static void
donor_is_added_found_removed_and_added_again(void **state)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_client *client = open_client();
	char error[256] = "?";

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(far_donor_status_find(client, "donor-7", soon(), &status),
				 -ENOENT);
		assert_int_equal(far_donor_status_get(client, 0, soon(), &status), -ENOENT);
		assert_int_equal(add(client, 7, error, sizeof(error)), 0);
		assert_string_equal(error, "");
		assert_int_equal(far_donor_status_find(client, "donor-7", soon(), &status), 0);
		assert_string_equal(status.name, "donor-7");
		assert_int_equal(far_donor_status_get(client, 0, soon(), &status), 0);
		assert_string_equal(status.name, "donor-7");
		assert_int_equal(take_out(client, 7), 0);
	}
	assert_int_equal(events_of(client, "adapter.added"), 3);
	assert_int_equal(events_of(client, "adapter.drained"), 3);
	assert_int_equal(events_of(client, "adapter.removed"), 3);
	assert_int_equal(events_of(client, "adapter.up"), 0);
	close_client(client);
}

static void
names_that_are_taken_or_unknown_are_told(void **state)
{
	struct far_client *client = open_client();
	char error[256] = "";
	char longer[80];

	(void)state;
	assert_int_equal(take_out(client, 1), -ENOENT);
	assert_int_equal(add(client, 1, NULL, 0), 0);
	assert_int_equal(add(client, 1, error, sizeof(error)), -EEXIST);
	assert_non_null(strstr(error, "donor-1"));
	assert_int_equal(take_out(client, 2), -ENOENT);
	assert_int_equal(take_out(client, 1), 0);
	assert_int_equal(take_out(client, 1), -ENOENT);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(far_donor_remove(client, longer, soon()), -ENOENT);
	close_client(client);
}

static void
options_that_make_no_sense_are_refused_with_a_line(void **state)
{
	struct far_client *client = open_client();
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_donor_options options = {.size_bytes = sizeof(options), .name = "a"};
	char error[256] = "";

	(void)state;
	assert_int_equal(far_donor_add(client, NULL, error, sizeof(error)), -EINVAL);
	assert_int_not_equal(error[0], '\0');
	assert_int_equal(far_donor_add(client, &options, error, sizeof(error)), -EINVAL);
	options.address = "pigeon:roof";
	assert_int_equal(far_donor_add(client, &options, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "pigeon:roof"));
	options.address = "nonsense";
	assert_int_equal(far_donor_add(client, &options, error, sizeof(error)), -EINVAL);
	options.size_bytes = 8;
	assert_int_equal(far_donor_add(client, &options, error, sizeof(error)), -EINVAL);
	assert_int_equal(far_donor_add(NULL, &options, NULL, 0), -EINVAL);
	assert_int_equal(far_donor_remove(client, NULL, soon()), -EINVAL);
	assert_int_equal(far_donor_remove(client, "a", 0), -EINVAL);
	assert_int_equal(far_donor_status_find(client, NULL, soon(), &status), -EINVAL);
	assert_int_equal(far_donor_status_get(client, 0, soon(), &status), -ENOENT);
	close_client(client);
}

static void
sixty_fifth_donor_is_refused_and_a_hole_is_filled_again(void **state)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_client *client = open_client();
	char error[256] = "";

	(void)state;
	for (unsigned n = 0; n < DONORS_MAX; n++)
		assert_int_equal(add(client, n, NULL, 0), 0);
	assert_int_equal(add(client, DONORS_MAX, error, sizeof(error)), -E2BIG);
	assert_non_null(strstr(error, "64"));
	assert_int_equal(take_out(client, 10), 0);
	assert_int_equal(far_donor_status_get(client, 10, soon(), &status), -ENOENT);
	assert_int_equal(far_donor_status_get(client, 11, soon(), &status), 0);
	assert_string_equal(status.name, "donor-11");
	assert_int_equal(add(client, DONORS_MAX, NULL, 0), 0);
	assert_int_equal(far_donor_status_get(client, 10, soon(), &status), 0);
	assert_string_equal(status.name, "donor-64");
	close_client(client);
}

/* ---- several threads ---- */
struct worker {
	struct far_client *client;
	unsigned seed;
};

/* All of them use the same four names. */
static void *
work(void *arg)
{
	struct worker *worker = arg;
	struct far_client *client = worker->client;
	unsigned x = worker->seed;

	for (int i = 0; i < 120; i++) {
		struct far_donor_status status = {.size_bytes = sizeof(status)};
		struct far_prefetch_options options = {
			.size_bytes = sizeof(options),
			.deadline_ns = soon(),
		};
		struct far_prefetch_handle *handle;
		struct far_key key = {{(uint8_t)(i + 1)}};
		char name[32];
		int rc;

		x = x * 1664525 + 1013904223;
		snprintf(name, sizeof(name), "donor-%u", (x >> 16) % 4);
		rc = add(client, (x >> 16) % 4, NULL, 0);
		if (rc != 0 && rc != -EEXIST)
			return "add";
		rc = far_donor_status_find(client, name, soon(), &status);
		if (rc != -ENOENT && (rc != 0 || strcmp(status.name, name) != 0))
			return "status";
		(void)far_donor_status_get(client, (x >> 18) % 4, soon(), &status);
		if (far_prefetch(client, &key, 1, &options, &handle) != 0)
			return "prefetch";
		rc = take_out(client, (x >> 20) % 4);
		if (rc != 0 && rc != -ENOENT)
			return "remove";
		if (far_prefetch_wait(handle, soon(), NULL) != 0)
			return "wait";
		far_prefetch_release(handle);
	}
	return NULL;
}

static void
threads_add_remove_and_ask_the_same_names_at_once(void **state)
{
	struct far_client *client = open_client();
	struct worker workers[4];
	pthread_t threads[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		workers[i] = (struct worker){client, i + 1};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (size_t i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		if (failed != NULL)
			fail_msg("%s", (const char *)failed);
	}
	close_client(client);
}

static void
failed_allocation_adds_nothing_and_leaks_nothing(void **state)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_client *client = open_client();
	uint64_t before = 0;
	int rc = -ENOMEM;

	(void)state;
	/* The transport stays open once it is: only what comes after it is compared. */
	assert_int_equal(add(client, 1, NULL, 0), 0);
	assert_int_equal(take_out(client, 1), 0);
	for (uint64_t nth = 1; rc != 0; nth++) {
		before = far_alloc_live_bytes();
		far_alloc_fail_nth(nth);
		rc = add(client, 1, NULL, 0);
		far_alloc_fail_nth(0);
		if (rc == 0)
			break;
		assert_int_equal(rc, -ENOMEM);
		assert_int_equal(far_alloc_live_bytes(), before);
		assert_int_equal(far_donor_status_find(client, "donor-1", soon(), &status),
				 -ENOENT);
		assert_true(nth < 1000);
	}
	close_client(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(donor_is_added_found_removed_and_added_again),
		cmocka_unit_test(names_that_are_taken_or_unknown_are_told),
		cmocka_unit_test(options_that_make_no_sense_are_refused_with_a_line),
		cmocka_unit_test(sixty_fifth_donor_is_refused_and_a_hole_is_filled_again),
		cmocka_unit_test(threads_add_remove_and_ask_the_same_names_at_once),
		cmocka_unit_test(failed_allocation_adds_nothing_and_leaks_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
