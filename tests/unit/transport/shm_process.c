/* shm_process.c - the shm transport between real processes: stopped, killed, forked. */
#include "tests/unit/transport/shm_world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define REGION_BYTES (1U << 20)

/* What the donor process tells us without the transport. */
struct report {
	_Atomic uint32_t listening;
	_Atomic uint32_t messages;
	_Atomic uint32_t lost;
	_Atomic uint32_t polls;
};

struct keys {
	struct far_remote read;
	struct far_remote write;
};

struct rig {
	char dir[64];
	char address[96];
	pid_t pid;
	struct report *report; /* shared */
	struct far_transport *tp;
	struct end end;
	struct memory local;
	struct keys keys;
};

/* ---- the donor process ---- */

struct donor {
	struct far_link_handler handler;
	struct report *report;
	struct far_mem *read;
	struct far_mem *write;
	struct far_transport *tp;
	bool greet;
	struct far_link *link;
};

static void
donor_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct donor *donor = FAR_CONTAINER_OF(handler, struct donor, handler);

	switch (event->kind) {
	case FAR_EV_MESSAGE:
		atomic_fetch_add(&donor->report->messages, 1);
		break;
	case FAR_EV_LOST:
		atomic_fetch_add(&donor->report->lost, 1);
		far_transport_disconnect(event->link);
		break;
	default:
		break;
	}
}

static struct far_link_handler *
donor_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct donor *donor = arg;

	(void)hello;
	(void)hello_bytes;
	donor->link = link;
	donor->greet = true;
	return &donor->handler;
}

static void
donor_main(const struct rig *rig)
{
	struct far_transport_config config = {.clock = far_clock_real()};
	struct donor donor = {.handler.event = donor_event, .report = rig->report};
	struct far_listener *listener;
	struct memory read, write;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (far_transport_open("shm", &config, &donor.tp) < 0 ||
	    far_transport_listen(donor.tp, rig->address, donor_accept, &donor, &listener) < 0)
		_exit(1);
	memory_open(&read, donor.tp, REGION_BYTES, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(&write, donor.tp, REGION_BYTES, FAR_RIGHT_REMOTE_WRITE, NULL);
	memset(read.base, 0x42, REGION_BYTES);
	atomic_store(&rig->report->listening, 1);
	for (;;) {
		struct pollfd wait = {.fd = donor.tp->fd, .events = POLLIN};

		atomic_fetch_add(&rig->report->polls, 1);
		if (far_transport_poll(donor.tp, 64) == 0 && far_transport_arm(donor.tp) == 0)
			(void)poll(&wait, 1, -1);
		if (donor.greet) {
			struct keys keys = {read.mem->remote, write.mem->remote};

			donor.greet = false;
			if (far_transport_mem_expose(read.mem, donor.link) < 0 ||
			    far_transport_mem_expose(write.mem, donor.link) < 0 ||
			    far_transport_send(donor.link, &keys, sizeof(keys)) < 0)
				_exit(2);
		}
	}
}

/* ---- the rig ---- */

static void
donor_start(struct rig *rig)
{
	atomic_store(&rig->report->listening, 0);
	rig->pid = fork();
	assert_true(rig->pid >= 0);
	if (rig->pid == 0)
		donor_main(rig);
	while (atomic_load(&rig->report->listening) == 0)
		(void)usleep(200);
}

static void
rig_open(struct rig *rig)
{
	struct far_transport_config config = {.clock = far_clock_real()};

	memset(rig, 0, sizeof(*rig));
	(void)snprintf(rig->dir, sizeof(rig->dir), "/tmp/far-shm-XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	(void)snprintf(rig->address, sizeof(rig->address), "%s/donor", rig->dir);
	rig->report = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(rig->report != MAP_FAILED);
	donor_start(rig); /* before anything of ours is open */
	assert_int_equal(far_transport_open("shm", &config, &rig->tp), 0);
	memory_open(&rig->local, rig->tp, REGION_BYTES, FAR_RIGHT_LOCAL, NULL);
}

static void
rig_connect(struct rig *rig)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + WORLD_WAIT_NS;
	char text[32];

	end_init(&rig->end);
	assert_int_equal(far_transport_connect(rig->tp, rig->address, NULL, 0, deadline_ns,
					       &rig->end.handler, &rig->end.link),
			 0);
	alone_wait(rig->tp, rig->end.messages == 1);
	assert_int_equal(rig->end.message_bytes, sizeof(rig->keys));
	memcpy(&rig->keys, rig->end.message, sizeof(rig->keys));
	(void)snprintf(text, sizeof(text), "pid %d", (int)rig->pid);
	assert_string_equal(rig->end.link->peer, text);
}

static void
donor_signal(struct rig *rig, int sig)
{
	int status;

	assert_int_equal(kill(rig->pid, sig), 0);
	if (sig == SIGSTOP) {
		assert_int_equal(waitpid(rig->pid, &status, WUNTRACED), rig->pid);
		assert_true(WIFSTOPPED(status));
	}
	if (sig == SIGKILL) {
		assert_int_equal(waitpid(rig->pid, &status, 0), rig->pid);
		rig->pid = 0;
	}
}

static void
rig_close(struct rig *rig)
{
	if (rig->end.link != NULL) {
		far_transport_disconnect(rig->end.link);
		alone_wait(rig->tp, rig->end.link == NULL);
	}
	memory_close(&rig->local);
	far_transport_close(rig->tp);
	if (rig->pid != 0)
		donor_signal(rig, SIGKILL);
	(void)unlink(rig->address); /* the dead leave theirs behind */
	assert_int_equal(rmdir(rig->dir), 0);
	assert_int_equal(munmap(rig->report, 4096), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
}

static int
post(struct rig *rig, enum far_op_kind kind, uint32_t size, uint64_t token)
{
	struct far_piece piece = {
		.addr = rig->local.base, .size_bytes = size, .mem = rig->local.mem};
	struct far_op op = op_make(
		kind, &piece, kind == FAR_OP_READ ? &rig->keys.read : &rig->keys.write, 0, token);

	return far_transport_post(rig->end.link, &op, 1);
}

/* ---- stopped ---- */

static void
a_stopped_donor_is_read_for_thousands_of_ops_without_credit_and_without_room(void **state)
{
	struct rig rig;
	uint64_t token = 0;
	uint64_t writes;
	int rc;
	(void)state;

	rig_open(&rig);
	rig_connect(&rig);
	donor_signal(&rig, SIGSTOP);
	do
		rc = far_transport_send(rig.end.link, "x", 1);
	while (rc == 0);
	assert_int_equal(rc, -EAGAIN);
	do
		rc = post(&rig, FAR_OP_WRITE, 64, ++token);
	while (rc == 0);
	assert_int_equal(rc, -EAGAIN);
	writes = token - 1;
	for (int i = 0; i < 8000; i++) {
		uint32_t size = i % 100 == 0 ? REGION_BYTES : 64;

		memset(rig.local.base, 0, 64);
		assert_int_equal(post(&rig, FAR_OP_READ, size, token), 0);
		alone_wait(rig.tp, rig.end.token_count[token] == 1);
		assert_int_equal(rig.end.token_status[token], 0);
		assert_int_equal(rig.local.base[0], 0x42);
		assert_int_equal(rig.local.base[size - 1], 0x42);
		token++;
	}
	assert_int_equal(rig.end.lost, 0);
	donor_signal(&rig, SIGCONT);
	alone_wait(rig.tp, rig.end.dones == writes + 8000 && rig.end.sendable > 0);
	assert_int_equal(far_transport_send(rig.end.link, "x", 1), 0);
	rig_close(&rig);
}

static void
a_stopped_donor_does_not_hold_up_who_leaves(void **state)
{
	struct rig rig;
	(void)state;

	rig_open(&rig);
	rig_connect(&rig);
	donor_signal(&rig, SIGSTOP);
	for (uint64_t token = 1; token <= 50; token++)
		assert_int_equal(post(&rig, FAR_OP_WRITE, 65536, token), 0);
	assert_int_equal(far_transport_send(rig.end.link, "commit", 6), 0);
	far_transport_disconnect(rig.end.link);
	alone_wait(rig.tp, rig.end.closed == 1);
	for (uint64_t token = 1; token <= 50; token++)
		assert_int_equal(rig.end.token_status[token], -ECANCELED);
	memset(rig.local.base, 0xbb, REGION_BYTES);
	donor_signal(&rig, SIGCONT);
	while (atomic_load(&rig.report->lost) == 0)
		(void)usleep(200);
	assert_int_equal(atomic_load(&rig.report->messages), 0);
	rig_close(&rig);
}

static void
connecting_to_a_stopped_donor_ends_at_the_deadline(void **state)
{
	struct rig rig;
	(void)state;

	rig_open(&rig);
	donor_signal(&rig, SIGSTOP);
	end_init(&rig.end);
	assert_int_equal(far_transport_connect(rig.tp, rig.address, NULL, 0,
					       far_clock_now(far_clock_real()) + 30 * FAR_NS_PER_MS,
					       &rig.end.handler, &rig.end.link),
			 0);
	alone_wait(rig.tp, rig.end.lost == 1);
	assert_int_equal(rig.end.lost_status, -ETIMEDOUT);
	rig_close(&rig);
}

/* ---- killed ---- */

static void
a_killed_donor_ends_every_op_and_a_new_one_takes_its_address(void **state)
{
	struct rig rig;
	(void)state;

	rig_open(&rig);
	rig_connect(&rig);
	donor_signal(&rig, SIGSTOP);
	for (uint64_t token = 1; token <= 100; token++)
		assert_int_equal(post(&rig, FAR_OP_WRITE, 4096, token), 0);
	donor_signal(&rig, SIGKILL);
	alone_wait(rig.tp, rig.end.lost == 1);
	assert_int_equal(rig.end.lost_status, -ECONNRESET);
	assert_int_equal(rig.end.dones, 100);
	for (uint64_t token = 1; token <= 100; token++)
		assert_int_equal(rig.end.token_status[token], -ECONNRESET);
	assert_int_equal(post(&rig, FAR_OP_READ, 64, 200), -ENOTCONN);
	far_transport_disconnect(rig.end.link);
	alone_wait(rig.tp, rig.end.link == NULL);

	donor_start(&rig);
	rig_connect(&rig);
	assert_int_equal(post(&rig, FAR_OP_READ, 64, 1), 0);
	alone_wait(rig.tp, rig.end.dones == 1);
	assert_int_equal(rig.end.token_status[1], 0);
	rig_close(&rig);
}

static void
an_idle_donor_sleeps(void **state)
{
	struct rig rig;
	uint32_t polls;
	(void)state;

	rig_open(&rig);
	rig_connect(&rig);
	for (uint64_t token = 1; token <= 100; token++) {
		assert_int_equal(post(&rig, FAR_OP_READ, 64, token), 0);
		alone_wait(rig.tp, rig.end.dones == token);
	}
	(void)usleep(20000); /* let it settle */
	polls = atomic_load(&rig.report->polls);
	for (uint64_t token = 101; token <= 2000; token++) {
		assert_int_equal(post(&rig, FAR_OP_READ, 64, token), 0);
		alone_wait(rig.tp, rig.end.dones == token);
	}
	assert_int_equal(atomic_load(&rig.report->polls), polls);
	rig_close(&rig);
}

/* ---- forked ---- */

static void
child_main(struct rig *rig)
{
	struct far_mem_source source = {.base = rig, .size_bytes = sizeof(*rig), .fd = -1};
	struct far_listener *listener;
	struct far_link *link = rig->end.link;
	struct far_mem *mem;
	int failed = 0;

	failed |= far_transport_send(link, "x", 1) != -EPERM;
	failed |= post(rig, FAR_OP_READ, 64, 1) != -EPERM;
	failed |= far_transport_poll(rig->tp, 1) != -EPERM;
	failed |= far_transport_arm(rig->tp) != -EPERM;
	failed |= far_transport_mem_reg(rig->tp, &source, FAR_RIGHT_LOCAL, NULL, &mem) != -EPERM;
	failed |= far_transport_listen(rig->tp, "@no", donor_accept, NULL, &listener) != -EPERM;
	failed |= far_transport_connect(rig->tp, rig->address, NULL, 0, 0, &rig->end.handler,
					&link) != -EPERM;
	/* What cannot answer does nothing. */
	far_transport_disconnect(rig->end.link);
	far_transport_mem_dereg(rig->local.mem);
	far_transport_close(rig->tp);
	_exit(failed);
}

static void
a_child_is_told_so_and_cannot_harm_its_parent(void **state)
{
	struct rig rig;
	pid_t pid;
	int status;
	(void)state;

	rig_open(&rig);
	rig_connect(&rig);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child_main(&rig);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(post(&rig, FAR_OP_READ, 64, 1), 0);
	assert_int_equal(far_transport_send(rig.end.link, "x", 1), 0);
	alone_wait(rig.tp, rig.end.dones == 1);
	assert_int_equal(rig.end.token_status[1], 0);
	while (atomic_load(&rig.report->messages) == 0)
		(void)far_transport_poll(rig.tp, 8);
	rig_close(&rig);
}

static void
a_child_that_lives_on_does_not_keep_a_link_up(void **state)
{
	struct rig rig;
	pid_t pid;
	int status;
	(void)state;

	rig_open(&rig);
	rig_connect(&rig);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			(void)pause();
	}
	far_transport_disconnect(rig.end.link);
	alone_wait(rig.tp, rig.end.closed == 1);
	while (atomic_load(&rig.report->lost) == 0)
		(void)usleep(200);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	rig_close(&rig);
}

static void
every_descriptor_is_closed_by_exec(void **state)
{
	struct rig rig;
	struct dirent *entry;
	DIR *dir;
	bool before[1024] = {false};
	(void)state;

	for (int fd = 0; fd < 1024; fd++)
		before[fd] = fcntl(fd, F_GETFD) >= 0;
	rig_open(&rig);
	rig_connect(&rig);
	dir = opendir("/proc/self/fd");
	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		int fd = (int)strtol(entry->d_name, NULL, 10);

		if (entry->d_name[0] == '.' || before[fd])
			continue;
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
	(void)closedir(dir);
	rig_close(&rig);
}

/* ---- many at once ---- */

static void
racer_main(const char *address, int start_fd, int out_fd)
{
	struct far_transport_config config = {.clock = far_clock_real()};
	struct far_transport *tp;
	struct far_listener *listener;
	char byte;
	int rc;

	if (far_transport_open("shm", &config, &tp) < 0)
		_exit(3);
	(void)!read(start_fd, &byte, 1); /* the end of it is the start */
	rc = far_transport_listen(tp, address, donor_accept, NULL, &listener);
	byte = (char)(rc == 0 ? 'w' : rc == -EADDRINUSE ? 'u' : 'e');
	(void)!write(out_fd, &byte, 1);
	for (;;)
		(void)pause();
}

static void
of_many_donors_starting_over_a_dead_one_exactly_one_listens(void **state)
{
	enum { RACERS = 6, ROUNDS = 10 };
	char dir[] = "/tmp/far-shm-XXXXXX";
	char address[64];
	(void)state;

	assert_non_null(mkdtemp(dir));
	(void)snprintf(address, sizeof(address), "%s/donor", dir);
	for (int round = 0; round < ROUNDS; round++) {
		pid_t pids[RACERS];
		int start[2], out[2];
		int won = 0, used = 0;

		/* The socket of the winner of the round before is stale now. */
		assert_int_equal(pipe(start), 0);
		assert_int_equal(pipe(out), 0);
		for (int i = 0; i < RACERS; i++) {
			pids[i] = fork();
			assert_true(pids[i] >= 0);
			if (pids[i] == 0) {
				(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
				(void)close(start[1]);
				racer_main(address, start[0], out[1]);
			}
		}
		(void)close(start[0]);
		(void)close(start[1]);
		for (int i = 0; i < RACERS; i++) {
			char byte = 0;

			assert_int_equal(read(out[0], &byte, 1), 1);
			won += byte == 'w';
			used += byte == 'u';
		}
		assert_int_equal(won, 1);
		assert_int_equal(used, RACERS - 1);
		for (int i = 0; i < RACERS; i++) {
			assert_int_equal(kill(pids[i], SIGKILL), 0);
			assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
		}
		(void)close(out[0]);
		(void)close(out[1]);
	}
	assert_int_equal(unlink(address), 0);
	assert_int_equal(rmdir(dir), 0); /* no name was left behind on the way */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_stopped_donor_is_read_for_thousands_of_ops_without_credit_and_without_room),
		cmocka_unit_test(a_stopped_donor_does_not_hold_up_who_leaves),
		cmocka_unit_test(connecting_to_a_stopped_donor_ends_at_the_deadline),
		cmocka_unit_test(a_killed_donor_ends_every_op_and_a_new_one_takes_its_address),
		cmocka_unit_test(an_idle_donor_sleeps),
		cmocka_unit_test(a_child_is_told_so_and_cannot_harm_its_parent),
		cmocka_unit_test(a_child_that_lives_on_does_not_keep_a_link_up),
		cmocka_unit_test(every_descriptor_is_closed_by_exec),
		cmocka_unit_test(of_many_donors_starting_over_a_dead_one_exactly_one_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
