/* session.c - loans of other processes: they end with their session or its process, and alone. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pages.h"
#include "client/config.h"
#include "farpool/farpool.h"
#include "tests/support/log_capture.h"

static uint64_t
soon(void)
{
	return far_now_ns() + 10 * FAR_NS_PER_S;
}

static struct far_client *
open_client(void)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = 1 << 20};
	struct far_client *client = NULL;

	far_log_capture_start();
	assert_int_equal(far_client_open(&options, &client), 0);
	return client;
}

static void
close_client(struct far_client *client)
{
	far_client_close(client);
	far_log_capture_finish();
	assert_int_equal(far_alloc_live_bytes(), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
}

static struct far_key
key_of(uint8_t n)
{
	return (struct far_key){{n, 1}};
}

static void
put(struct far_client *client, uint8_t n)
{
	struct far_key key = key_of(n);

	assert_int_equal(far_put(client, &key, "data", 4), 0);
	assert_int_equal(far_flush(client, soon(), NULL), 0);
}

static struct far_prefetch_handle *
lend(struct far_client *client, uint8_t n, struct far_session *session)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = soon(),
		.session = session,
	};
	struct far_prefetch_handle *handle;
	struct far_key key = key_of(n);

	assert_int_equal(far_prefetch(client, &key, 1, &options, &handle), 0);
	assert_int_equal(far_prefetch_wait(handle, soon(), NULL), 0);
	return handle;
}

static int
delete_key(struct far_client *client, uint8_t n)
{
	struct far_key key = key_of(n);

	return far_delete(client, &key, soon());
}

/* A process that does nothing. */
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
reader_kill(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void
loans_end_with_their_session_and_no_others_do(void **state)
{
	struct far_client *client = open_client();
	struct far_session *first;
	struct far_session *second;
	struct far_prefetch_handle *handles[3];
	const void *data;

	(void)state;
	put(client, 1);
	put(client, 2);
	assert_int_equal(far_session_open(client, "first", 0, &first), 0);
	assert_int_equal(far_session_open(client, "second", 0, &second), 0);
	handles[0] = lend(client, 1, first);
	handles[1] = lend(client, 2, first);
	handles[2] = lend(client, 2, second);
	assert_int_equal(delete_key(client, 1), -EBUSY);
	far_session_close(first);
	assert_int_equal(delete_key(client, 1), 0);
	assert_int_equal(delete_key(client, 2), -EBUSY);
	assert_int_equal(far_prefetch_block(handles[0], 0, &data, NULL), -EBADF);
	assert_int_equal(far_prefetch_block(handles[2], 0, &data, NULL), 0);
	for (size_t i = 0; i < 3; i++)
		far_prefetch_release(handles[i]);
	assert_int_equal(delete_key(client, 2), 0);
	far_session_close(second);
	close_client(client);
}

static void
process_that_is_gone_takes_its_loans_along_alone(void **state)
{
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_client *client = open_client();
	struct far_session *sessions[2];
	struct far_prefetch_handle *handles[2];
	struct far_prefetch_handle *late;
	struct far_key key = key_of(1);
	pid_t pids[2];
	int rc;

	(void)state;
	far_log_capture_expect("is gone");
	for (uint8_t i = 0; i < 2; i++) {
		put(client, i);
		pids[i] = reader_start();
		assert_int_equal(far_session_open(client, "reader", (int)pids[i], &sessions[i]), 0);
		handles[i] = lend(client, i, sessions[i]);
	}
	assert_int_equal(delete_key(client, 0), -EBUSY);
	reader_kill(pids[0]);
	while ((rc = delete_key(client, 0)) == -EBUSY)
		sched_yield();
	assert_int_equal(rc, 0);
	assert_int_equal(far_log_capture_count("session 'reader'"), 1);
	assert_int_equal(delete_key(client, 1), -EBUSY);
	options.deadline_ns = soon();
	options.session = sessions[0];
	assert_int_equal(far_prefetch(client, &key, 1, &options, &late), -EBADF);
	far_prefetch_release(handles[0]);
	far_session_close(sessions[0]);
	far_session_close(sessions[1]);
	assert_int_equal(delete_key(client, 1), 0);
	far_prefetch_release(handles[1]);
	reader_kill(pids[1]);
	close_client(client);
}

static void
reader_sees_the_bytes_at_their_offset_and_cannot_write(void **state)
{
	struct far_client *client = open_client();
	struct far_prefetch_handle *handle;
	struct far_key key = key_of(1);
	struct far_block *block;
	uint64_t size_bytes = 0;
	uint64_t offset = 0;
	uint32_t length = 0;
	const char *map;
	int fd;

	(void)state;
	put(client, 0);
	put(client, 1);
	fd = far_client_l1_fd(client, &size_bytes);
	assert_true(fd >= 0);
	assert_true(size_bytes >= 1 << 20);
	handle = lend(client, 1, NULL);
	assert_int_equal(far_prefetch_offset(handle, 0, &offset, &length), 0);
	assert_int_equal(far_prefetch_offset(handle, 1, &offset, &length), -EINVAL);
	assert_int_equal(far_get(client, &key, soon(), &block), 0);
	assert_int_equal(far_block_offset(block), offset);
	assert_int_equal(length, 4);
	map = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_memory_equal(map + offset, "data", 4);
	assert_ptr_equal(mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
			 MAP_FAILED);
	assert_int_equal(mprotect((void *)(uintptr_t)map, size_bytes, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(pwrite(fd, "x", 1, (off_t)offset), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	munmap((void *)(uintptr_t)map, size_bytes);
	far_release(block);
	far_prefetch_release(handle);
	close_client(client);
}

static void
sessions_that_make_no_sense_are_refused(void **state)
{
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_client *client = open_client();
	struct far_client_options other_options = {
		.size_bytes = sizeof(other_options),
		.l1_bytes = 1 << 20,
	};
	struct far_session *sessions[300];
	struct far_prefetch_handle *handle;
	struct far_client *other;
	struct far_key key = key_of(1);
	pid_t pid = reader_start();
	size_t count = 0;
	int rc;

	(void)state;
	assert_int_equal(far_session_open(client, NULL, 0, &sessions[0]), -EINVAL);
	assert_int_equal(far_session_open(client, "", 0, &sessions[0]), -EINVAL);
	assert_int_equal(far_session_open(client, "a", -1, &sessions[0]), -EINVAL);
	assert_int_equal(far_session_open(NULL, "a", 0, &sessions[0]), -EINVAL);
	reader_kill(pid);
	assert_int_equal(far_session_open(client, "a", (int)pid, &sessions[0]), -ENOENT);
	far_session_close(NULL);
	do {
		rc = far_session_open(client, "a", 0, &sessions[count]);
	} while (rc == 0 && ++count < 300);
	assert_int_equal(rc, -E2BIG);
	assert_int_equal(far_client_open(&other_options, &other), 0);
	options.deadline_ns = soon();
	options.session = sessions[0];
	assert_int_equal(far_prefetch(other, &key, 1, &options, &handle), -EINVAL);
	far_client_close(other);
	for (size_t i = 0; i < count; i++)
		far_session_close(sessions[i]);
	assert_int_equal(far_session_open(client, "again", 0, &sessions[0]), 0);
	close_client(client); /* closes it too */
}

/* ---- amid the calls of other threads ---- */
struct worker {
	struct far_client *client;
	struct far_session *session;
	bool warm;
};

static void *
work(void *arg)
{
	struct worker *worker = arg;

	for (uint32_t i = 0;; i++) {
		struct far_prefetch_options options = {
			.size_bytes = sizeof(options),
			.deadline_ns = soon(),
			.flags = worker->warm ? FAR_PREFETCH_WARM_ONLY : 0,
			.session = worker->session,
		};
		struct far_prefetch_handle *handle;
		struct far_key keys[3] = {key_of(1), key_of(2), key_of(99)};
		const void *data;
		int rc = far_prefetch(worker->client, keys, 2 + i % 2, &options, &handle);

		if (rc == -EBADF)
			return NULL;
		if (rc != 0)
			return "prefetch";
		if (i % 4 != 0 && far_prefetch_wait(handle, soon(), NULL) != 0)
			return "wait";
		rc = far_prefetch_block(handle, 0, &data, NULL);
		if (rc == 0 && !worker->warm && memcmp(data, "data", 4) != 0)
			return "bytes";
		if (i % 7 == 0)
			far_prefetch_cancel(handle);
		far_prefetch_release(handle);
	}
}

static void
process_that_goes_amid_prefetches_leaves_no_lock(void **state)
{
	struct far_client *client = open_client();

	(void)state;
	far_log_capture_expect("is gone");
	put(client, 1);
	put(client, 2);
	for (int round = 0; round < 20; round++) {
		struct far_stats stats = {.size_bytes = sizeof(stats)};
		struct far_session *session;
		struct worker workers[3];
		pthread_t threads[3];
		pid_t pid = reader_start();

		assert_int_equal(far_session_open(client, "reader", (int)pid, &session), 0);
		for (size_t i = 0; i < 3; i++) {
			workers[i] = (struct worker){client, session, i == 2};
			assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
		}
		reader_kill(pid);
		for (size_t i = 0; i < 3; i++) {
			void *failed;

			pthread_join(threads[i], &failed);
			if (failed != NULL)
				fail_msg("%s", (const char *)failed);
		}
		far_session_close(session);
		far_stats_get(client, &stats);
		assert_int_equal(stats.l1_locked_bytes, 0);
	}
	close_client(client);
}

static void
session_that_holds_too_long_is_named(void **state)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = 1 << 20};
	struct far_client_config config;
	char error[FAR_PARAM_ERROR_BYTES];
	struct far_session *session;
	struct far_client *client;
	uint64_t until_ns = soon();

	(void)state;
	far_log_capture_start();
	far_log_capture_expect("overdue");
	assert_int_equal(far_client_config_from_options(&options, &config, error), 0);
	config.lock_warn_ns = FAR_NS_PER_MS;
	assert_int_equal(far_client_open_config(&config, &client, error), 0);
	put(client, 1);
	assert_int_equal(far_session_open(client, "engine-17", 0, &session), 0);
	(void)lend(client, 1, session);
	while (far_log_capture_count("session 'engine-17' holds 1 overdue") == 0) {
		assert_true(far_now_ns() < until_ns);
		far_clock_sleep_until(far_now_ns() + 20 * FAR_NS_PER_MS);
	}
	/* It is told, and keeps what it holds. */
	assert_int_equal(delete_key(client, 1), -EBUSY);
	close_client(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loans_end_with_their_session_and_no_others_do),
		cmocka_unit_test(process_that_is_gone_takes_its_loans_along_alone),
		cmocka_unit_test(reader_sees_the_bytes_at_their_offset_and_cannot_write),
		cmocka_unit_test(sessions_that_make_no_sense_are_refused),
		cmocka_unit_test(process_that_goes_amid_prefetches_leaves_no_lock),
		cmocka_unit_test(session_that_holds_too_long_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
