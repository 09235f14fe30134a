/* shm_link.c - links of the shm transport: addresses, handshakes, credits, endings. */
#include "tests/unit/transport/shm_world.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "tests/support/log_capture.h"
#include "transport/shm/shm_priv.h"

static struct world world;

static uint64_t
in_ms(uint64_t ms)
{
	return far_clock_now(far_clock_real()) + ms * FAR_NS_PER_MS;
}

static void
connect_brings_hello_and_names_both_pids(void **state)
{
	char text[32];
	(void)state;

	world_open(&world);
	world_connect(&world);
	assert_int_equal(world.hello_bytes, 2);
	assert_memory_equal(world.hello, "hi", 2);
	(void)snprintf(text, sizeof(text), "pid %d", (int)getpid());
	assert_string_equal(world.c.link->peer, text);
	assert_string_equal(world.d.link->peer, text);
	world_close(&world);
}

static void
a_refused_opener_loses_its_link_and_nobody_else_hears_of_it(void **state)
{
	(void)state;

	world_open(&world);
	world.refuse = true;
	end_init(&world.c);
	assert_int_equal(far_transport_connect(world.client, world.address, NULL, 0, in_ms(20000),
					       &world.c.handler, &world.c.link),
			 0);
	world_wait(&world, world.c.lost == 1);
	assert_int_equal(world.c.lost_status, -ECONNREFUSED);
	assert_int_equal(world.accepts, 1);
	assert_int_equal(world.c.connected, 0);
	world_close(&world);
}

static void
an_address_in_use_is_left_alone_and_a_stale_one_is_taken(void **state)
{
	struct far_listener *second = NULL;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char stale[108];
	int fd;
	(void)state;

	world_open(&world);
	assert_int_equal(
		far_transport_listen(world.client, world.address, world_accept, &world, &second),
		-EADDRINUSE);
	assert_null(second);
	world_connect(&world); /* whoever was there is still reachable */

	(void)snprintf(stale, sizeof(stale), "%s/stale", world.dir);
	memcpy(addr.sun_path, stale, strlen(stale) + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	(void)close(fd); /* dead, its name stays */
	assert_int_equal(far_transport_listen(world.client, stale, world_accept, &world, &second),
			 0);
	far_transport_unlisten(world.client, second);
	assert_int_equal(access(stale, F_OK), -1);
	world_close(&world);
}

static void
a_live_socket_of_another_kind_is_left_alone(void **state)
{
	struct far_listener *listener = NULL;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct far_link *link = NULL;
	char path[108];
	int fd;
	(void)state;

	world_open(&world);
	(void)snprintf(path, sizeof(path), "%s/stream", world.dir);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(far_transport_listen(world.donor, path, world_accept, &world, &listener),
			 -EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(far_transport_connect(world.client, path, NULL, 0, in_ms(1000),
					       &world.c.handler, &link),
			 -ECONNREFUSED);
	(void)close(fd);
	assert_int_equal(unlink(path), 0);
	world_close(&world);
}

static void
a_file_that_is_no_socket_is_never_removed(void **state)
{
	struct far_listener *listener = NULL;
	char path[108];
	int fd;
	(void)state;

	far_log_capture_start();
	far_log_capture_expect("no socket");
	world_open(&world);
	(void)snprintf(path, sizeof(path), "%s/file", world.dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(far_transport_listen(world.client, path, world_accept, &world, &listener),
			 -EINVAL);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(unlink(path), 0);
	world_close(&world);
	far_log_capture_finish();
}

static void
unlisten_leaves_the_socket_of_a_successor(void **state)
{
	struct far_listener *second = NULL;
	(void)state;

	world_open(&world);
	assert_int_equal(unlink(world.address), 0); /* an operator's rm */
	assert_int_equal(
		far_transport_listen(world.client, world.address, world_accept, &world, &second),
		0);
	far_transport_unlisten(world.donor, world.listener);
	world.listener = NULL;
	assert_int_equal(access(world.address, F_OK), 0);
	far_transport_unlisten(world.client, second);
	assert_int_equal(access(world.address, F_OK), -1);
	world_close(&world);
}

static void
abstract_names_work_and_bad_addresses_are_refused(void **state)
{
	char name[64], longest[200];
	struct far_listener *listener = NULL;
	struct far_link *link = NULL;
	(void)state;

	world_open(&world);
	(void)snprintf(name, sizeof(name), "@far-test-%d", (int)getpid());
	assert_int_equal(far_transport_listen(world.donor, name, world_accept, &world, &listener),
			 0);
	assert_int_equal(far_transport_connect(world.client, name, NULL, 0, in_ms(20000),
					       &world.c.handler, &world.c.link),
			 0);
	world_wait(&world, world.c.connected == 1 && world.d.link != NULL);
	far_transport_unlisten(world.donor, listener);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(far_transport_listen(world.donor, longest, world_accept, NULL, &listener),
			 -EINVAL);
	assert_int_equal(far_transport_listen(world.donor, "", world_accept, NULL, &listener),
			 -EINVAL);
	assert_int_equal(far_transport_listen(world.donor, "@", world_accept, NULL, &listener),
			 -EINVAL);
	assert_int_equal(far_transport_connect(world.client, longest, NULL, 0, in_ms(1000),
					       &world.c.handler, &link),
			 -EINVAL);
	assert_null(link);
	world_close(&world);
}

static void
nobody_there_is_refused_and_no_permission_says_so(void **state)
{
	struct far_link *link = NULL;
	char path[108];
	(void)state;

	world_open(&world);
	(void)snprintf(path, sizeof(path), "%s/nobody", world.dir);
	assert_int_equal(far_transport_connect(world.client, path, NULL, 0, in_ms(1000),
					       &world.c.handler, &link),
			 -ECONNREFUSED);
	(void)snprintf(path, sizeof(path), "%s/no/such/dir", world.dir);
	assert_int_equal(far_transport_connect(world.client, path, NULL, 0, in_ms(1000),
					       &world.c.handler, &link),
			 -ECONNREFUSED);
	if (geteuid() != 0) {
		assert_int_equal(chmod(world.address, 0), 0);
		assert_int_equal(far_transport_connect(world.client, world.address, NULL, 0,
						       in_ms(1000), &world.c.handler, &link),
				 -EACCES);
	}
	assert_null(link);
	world_close(&world);
}

static void
a_handshake_that_is_not_answered_ends_at_its_deadline(void **state)
{
	(void)state;

	world_open(&world);
	assert_int_equal(far_transport_connect(world.client, world.address, NULL, 0, in_ms(30),
					       &world.c.handler, &world.c.link),
			 0);
	alone_wait(world.client, world.c.lost == 1); /* the donor is not polled */
	assert_int_equal(world.c.lost_status, -ETIMEDOUT);
	far_transport_disconnect(world.c.link);
	alone_wait(world.client, world.c.link == NULL);
	world_close(&world);
}

static void
a_full_queue_of_the_listener_is_waited_for_without_blocking(void **state)
{
	int fds[SHM_BACKLOG + 8];
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int count = 0;
	(void)state;

	world_open(&world);
	memcpy(addr.sun_path, world.address, strlen(world.address) + 1);
	for (;;) {
		fds[count] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		assert_true(fds[count] >= 0);
		if (connect(fds[count], (struct sockaddr *)&addr, sizeof(addr)) < 0)
			break;
		count++;
		assert_true(count < SHM_BACKLOG + 8);
	}
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(far_transport_connect(world.client, world.address, NULL, 0, in_ms(20000),
					       &world.c.handler, &world.c.link),
			 0);
	for (int i = 0; i < 100; i++)
		(void)far_transport_poll(world.client, 8);
	assert_int_equal(world.c.connected + world.c.lost, 0);
	for (int i = 0; i <= count; i++)
		(void)close(fds[i]);
	world_wait(&world, world.c.connected == 1);
	world_close(&world);
}

static void
sleeping_on_the_descriptor_wakes_for_what_comes(void **state)
{
	struct pollfd wait = {.events = POLLIN};
	(void)state;

	world_open(&world);
	world_connect(&world);
	while (far_transport_poll(world.donor, 64) > 0 || far_transport_poll(world.client, 64) > 0)
		;
	assert_int_equal(far_transport_arm(world.donor), 0);
	wait.fd = world.donor->fd;
	assert_int_equal(poll(&wait, 1, 0), 0);
	assert_int_equal(far_transport_send(world.c.link, "x", 1), 0);
	assert_int_equal(poll(&wait, 1, 1000), 1);
	world_wait(&world, world.d.messages == 1);
	world_close(&world);
}

static void
a_waiting_opener_wakes_for_its_own_deadline(void **state)
{
	struct pollfd wait = {.events = POLLIN};
	(void)state;

	world_open(&world);
	assert_int_equal(far_transport_connect(world.client, world.address, NULL, 0, in_ms(20),
					       &world.c.handler, &world.c.link),
			 0);
	wait.fd = world.client->fd;
	while (world.c.lost == 0) {
		(void)far_transport_poll(world.client, 8);
		if (world.c.lost == 0 && far_transport_arm(world.client) == 0)
			assert_int_equal(poll(&wait, 1, 5000), 1);
	}
	assert_int_equal(world.c.lost_status, -ETIMEDOUT);
	world_close(&world);
}

/* ---- messages ---- */

static void
messages_arrive_once_in_order_and_stop_without_credit(void **state)
{
	uint32_t sent = 0;
	uint32_t seen;
	(void)state;

	world_open(&world);
	world_connect(&world);
	while (far_transport_send(world.c.link, &sent, sizeof(sent)) == 0)
		sent++;
	assert_int_equal(sent, 32); /* the default number of credits, and no more */
	world_wait(&world, world.d.messages == sent);
	memcpy(&seen, world.d.message, sizeof(seen));
	assert_int_equal(seen, sent - 1);
	world_wait(&world, world.c.sendable == 1);
	assert_int_equal(far_transport_send(world.c.link, &sent, sizeof(sent)), 0);
	world_close(&world);
}

static void
check_order(struct end *end, const struct far_event *event)
{
	if (event->kind == FAR_EV_MESSAGE)
		assert_int_equal(*(const uint8_t *)event->msg, (uint8_t)(end->messages - 1));
}

static void
the_largest_messages_queue_when_the_socket_is_full(void **state)
{
	static uint8_t big[FAR_MESSAGE_BYTES_MAX];
	uint32_t sent = 0;
	(void)state;

	world_open(&world);
	world_connect(&world);
	memset(big, 0x5a, sizeof(big));
	big[0] = 0;
	world.d.on_event = check_order;
	for (uint32_t round = 0; round < 10; round++) {
		while (far_transport_send(world.c.link, big, sizeof(big)) == 0)
			big[0] = (uint8_t)++sent;
		assert_true(sent >= (round + 1) * 8);
		world_wait(&world, world.d.messages == sent && world.c.sendable == round + 1);
		assert_int_equal(world.d.message_bytes, sizeof(big));
	}
	world_close(&world);
}

static void
data_path_calls_do_not_allocate(void **state)
{
	struct memory from, to;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	world_open(&world);
	world_connect(&world);
	memory_open(&from, world.donor, 65536, FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE,
		    NULL);
	memory_open(&to, world.client, 65536, FAR_RIGHT_LOCAL, NULL);
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	piece = (struct far_piece){.addr = to.base, .size_bytes = 65536, .mem = to.mem};
	op = op_make(FAR_OP_WRITE, &piece, &from.mem->remote, 0, 1);
	assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
	world_wait(&world, world.c.dones == 1); /* both sides know both regions now */
	far_alloc_lock();
	for (uint64_t token = 2; token < 200; token += 2) {
		op = op_make(FAR_OP_WRITE, &piece, &from.mem->remote, 0, token);
		assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
		op = op_make(FAR_OP_READ, &piece, &from.mem->remote, 0, token + 1);
		assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
		(void)far_transport_send(world.c.link, "m", 1);
		world_wait(&world, world.c.dones == token + 1);
	}
	far_alloc_unlock();
	memory_close(&to);
	memory_close(&from);
	world_close(&world);
}

/* ---- endings ---- */

static void
a_peer_that_leaves_is_lost_once_after_its_messages(void **state)
{
	(void)state;

	world_open(&world);
	world_connect(&world);
	assert_int_equal(far_transport_send(world.d.link, "a", 1), 0);
	assert_int_equal(far_transport_send(world.d.link, "b", 1), 0);
	world_wait(&world, world.c.messages == 2);
	far_transport_disconnect(world.d.link);
	world_wait(&world, world.d.link == NULL && world.c.lost == 1);
	assert_int_equal(world.c.lost_status, -ECONNRESET);
	assert_int_equal(far_transport_send(world.c.link, "x", 1), -ENOTCONN);
	world_close(&world);
}

static void
disconnect_on_event(struct end *end, const struct far_event *event)
{
	if (event->kind == FAR_EV_MESSAGE)
		far_transport_disconnect(event->link);
	(void)end;
}

static void
disconnect_in_the_middle_of_messages_delivers_no_more(void **state)
{
	(void)state;

	world_open(&world);
	world_connect(&world);
	world.d.on_event = disconnect_on_event;
	for (int i = 0; i < 5; i++)
		assert_int_equal(far_transport_send(world.c.link, "x", 1), 0);
	world_wait(&world, world.d.closed == 1 && world.c.lost == 1);
	assert_int_equal(world.d.messages, 1);
	assert_int_equal(world.d.lost, 0);
	world_close(&world);
}

static void
unlisten_in_accept_keeps_the_link(void **state)
{
	(void)state;

	world_open(&world);
	assert_int_equal(far_transport_connect(world.client, world.address, NULL, 0, in_ms(20000),
					       &world.c.handler, &world.c.link),
			 0);
	world_wait(&world, world.d.link != NULL);
	far_transport_unlisten(world.donor, world.listener);
	world.listener = NULL;
	world_wait(&world, world.c.connected == 1);
	assert_int_equal(far_transport_send(world.c.link, "x", 1), 0);
	world_wait(&world, world.d.messages == 1);
	world_close(&world);
}

static void
links_half_made_go_with_their_listener(void **state)
{
	int fd;
	(void)state;

	world_open(&world);
	fd = rogue_connect(&world); /* never says hello */
	for (int i = 0; i < 10; i++)
		(void)far_transport_poll(world.donor, 8);
	world_close(&world);
	(void)close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connect_brings_hello_and_names_both_pids),
		cmocka_unit_test(a_refused_opener_loses_its_link_and_nobody_else_hears_of_it),
		cmocka_unit_test(an_address_in_use_is_left_alone_and_a_stale_one_is_taken),
		cmocka_unit_test(a_live_socket_of_another_kind_is_left_alone),
		cmocka_unit_test(a_file_that_is_no_socket_is_never_removed),
		cmocka_unit_test(unlisten_leaves_the_socket_of_a_successor),
		cmocka_unit_test(abstract_names_work_and_bad_addresses_are_refused),
		cmocka_unit_test(nobody_there_is_refused_and_no_permission_says_so),
		cmocka_unit_test(a_handshake_that_is_not_answered_ends_at_its_deadline),
		cmocka_unit_test(a_full_queue_of_the_listener_is_waited_for_without_blocking),
		cmocka_unit_test(sleeping_on_the_descriptor_wakes_for_what_comes),
		cmocka_unit_test(a_waiting_opener_wakes_for_its_own_deadline),
		cmocka_unit_test(messages_arrive_once_in_order_and_stop_without_credit),
		cmocka_unit_test(the_largest_messages_queue_when_the_socket_is_full),
		cmocka_unit_test(data_path_calls_do_not_allocate),
		cmocka_unit_test(a_peer_that_leaves_is_lost_once_after_its_messages),
		cmocka_unit_test(disconnect_in_the_middle_of_messages_delivers_no_more),
		cmocka_unit_test(unlisten_in_accept_keeps_the_link),
		cmocka_unit_test(links_half_made_go_with_their_listener),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
