/* session.c - readers that are processes of their own: what one held ends with it, and no more. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/rig.h"
#include "tools/cli/fill.h"

#define BLOCK_BYTES 4096U

/* As examples/share.c has them. */
struct ask {
	uint64_t arena_bytes;
	uint64_t offset;
	uint32_t length;
	uint32_t reserved;
};

struct answer {
	uint64_t sum;
	uint32_t can_write;
	uint32_t reserved;
};

struct reader {
	pid_t pid;
	int sock;
	struct far_session *session;
	struct far_prefetch_handle *handle;
};

static uint64_t
soon(void)
{
	return far_now_ns() + 20 * FAR_NS_PER_S;
}

static void
reader_start(struct reader *reader, struct far_client *client)
{
	char number[16];
	int socks[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), 0);
	reader->pid = fork();
	if (reader->pid == 0) {
		close(socks[0]);
		snprintf(number, sizeof(number), "%d", socks[1]);
		execl(FAR_TEST_EXAMPLES "/example-share", "example-share", "--read", number,
		      (char *)NULL);
		_exit(127);
	}
	assert_true(reader->pid > 0);
	close(socks[1]);
	reader->sock = socks[0];
	assert_int_equal(far_session_open(client, "reader", (int)reader->pid, &reader->session), 0);
}

/* The block of that number, from the donor, lent to the reader's session. */
static void
reader_lend(struct reader *reader, struct far_client *client, uint64_t id)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = soon(),
		.session = reader->session,
	};
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_key key;

	far_fill_key(id, BLOCK_BYTES, &key);
	assert_int_equal(far_prefetch(client, &key, 1, &options, &reader->handle), 0);
	assert_int_equal(far_prefetch_wait(reader->handle, soon(), &status), 0);
	assert_int_equal(status.prefix_count, 1);
}

static void
reader_ask(struct reader *reader, struct far_client *client)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
	struct ask ask = {0};
	struct iovec iov = {&ask, sizeof(ask)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
	int fd = far_client_l1_fd(client, &ask.arena_bytes);

	assert_true(fd >= 0);
	assert_int_equal(far_prefetch_offset(reader->handle, 0, &ask.offset, &ask.length), 0);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	assert_int_equal(sendmsg(reader->sock, &msg, MSG_NOSIGNAL), sizeof(ask));
}

static void
reader_answers(struct reader *reader)
{
	struct answer answer;
	const uint8_t *data;
	const void *at;
	uint32_t size_bytes;
	uint64_t sum = 0;

	assert_int_equal(recv(reader->sock, &answer, sizeof(answer), 0), sizeof(answer));
	assert_int_equal(far_prefetch_block(reader->handle, 0, &at, &size_bytes), 0);
	data = at;
	for (uint32_t i = 0; i < size_bytes; i++)
		sum = sum * 31 + data[i];
	assert_true(answer.sum == sum);
	assert_int_equal(answer.can_write, 0);
}

static int
delete_id(struct far_client *client, uint64_t id)
{
	struct far_key key;

	far_fill_key(id, BLOCK_BYTES, &key);
	return far_delete(client, &key, soon());
}

static void
reader_killed_amid_its_reading_leaves_its_locks_and_no_others(void **state)
{
	struct reader readers[2];
	struct far_client *client;
	struct rig rig;
	int rc;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "16MiB", "block_min: 4KiB\n");
	client = rig_client(&rig, "1MiB", NULL);
	/* Twice what L1 holds: the first ones come from the donor. */
	for (uint64_t id = 0; id < 512; id++) {
		uint8_t bytes[BLOCK_BYTES];
		struct far_key key;

		far_fill_key(id, BLOCK_BYTES, &key);
		far_fill_block(&key, bytes, BLOCK_BYTES);
		assert_int_equal(far_put(client, &key, bytes, BLOCK_BYTES), 0);
		if (id % 32 == 31)
			assert_int_equal(far_flush(client, soon(), NULL), 0);
	}
	for (uint64_t i = 0; i < 2; i++) {
		reader_start(&readers[i], client);
		reader_lend(&readers[i], client, i);
		reader_ask(&readers[i], client);
		reader_answers(&readers[i]);
	}
	/* It is asked again, and may be reading. */
	reader_ask(&readers[0], client);
	assert_int_equal(kill(readers[0].pid, SIGKILL), 0);
	while ((rc = delete_id(client, 0)) == -EBUSY)
		sched_yield();
	assert_int_equal(rc, 0);
	assert_int_equal(delete_id(client, 1), -EBUSY);
	reader_ask(&readers[1], client);
	reader_answers(&readers[1]);
	for (size_t i = 0; i < 2; i++) {
		far_prefetch_release(readers[i].handle);
		far_session_close(readers[i].session);
		close(readers[i].sock);
		assert_int_equal(waitpid(readers[i].pid, &rc, 0), readers[i].pid);
		if (i == 1)
			assert_int_equal(rc, 0);
	}
	assert_int_equal(delete_id(client, 1), 0);
	far_client_close(client);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reader_killed_amid_its_reading_leaves_its_locks_and_no_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
