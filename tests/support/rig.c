/* rig.c - starting, stopping and killing real processes, with a bound on every wait. */
#include "tests/support/rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define SERVE_SECONDS 60
#define END_SECONDS   10
#define ARGV_MAX      32
#define UP_SECONDS    20
#define SLOWDOWN_MAX  999UL

unsigned int
rig_seconds(unsigned int seconds)
{
	const char *text = getenv("FARPOOL_TEST_SLOWDOWN");
	unsigned long factor = text != NULL ? strtoul(text, NULL, 10) : 1;

	if (factor < 1)
		factor = 1;
	return seconds * (unsigned int)(factor < SLOWDOWN_MAX ? factor : SLOWDOWN_MAX);
}

void
rig_open(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	snprintf(rig->dir, sizeof(rig->dir), "/tmp/farpool-test-XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	snprintf(rig->client_config, sizeof(rig->client_config), "%s/client.yaml", rig->dir);
}

void
rig_close(struct rig *rig)
{
	char command[160];

	for (size_t i = 0; i < rig->donor_count; i++) {
		if (rig->donors[i].pid != 0)
			(void)rig_donor_signal(&rig->donors[i], SIGKILL);
	}
	snprintf(command, sizeof(command), "rm -rf '%s'", rig->dir);
	assert_int_equal(system(command), 0);
}

void
rig_over_ucx(struct rig *rig, const char *listen_host, const char *address_host, unsigned port,
	     const char *netns)
{
	snprintf(rig->scheme, sizeof(rig->scheme), "ucx");
	snprintf(rig->listen_host, sizeof(rig->listen_host), "%s", listen_host);
	snprintf(rig->address_host, sizeof(rig->address_host), "%s", address_host);
	snprintf(rig->netns, sizeof(rig->netns), "%s", netns != NULL ? netns : "");
	rig->port = port;
}

void
rig_over_verbs(struct rig *rig, const char *host, unsigned port)
{
	rig_over_ucx(rig, host, host, port, NULL);
	snprintf(rig->scheme, sizeof(rig->scheme), "verbs");
}

/* A program that is started by a test which fails ends with it: the kernel sees to that. */
static void
argv_with_us(const char *const argv[], const char *out[ARGV_MAX])
{
	static const char *const with_us[] = {"/usr/bin/setpriv", "--pdeathsig", "KILL"};
	size_t count = 0;

	if (access(with_us[0], X_OK) == 0)
		for (; count < sizeof(with_us) / sizeof(with_us[0]); count++)
			out[count] = with_us[count];
	do {
		assert_true(count < ARGV_MAX);
		out[count++] = *argv;
	} while (*argv++ != NULL);
}

/* Output to files; the end of @ready_fd is passed on as descriptor 3 if it is not -1. */
static pid_t
spawn(const char *const argv[], const char *out, const char *err, int ready_fd)
{
	const char *full[ARGV_MAX];
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int rc;

	argv_with_us(argv, full);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_addopen(&actions, 2, err, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (ready_fd >= 0)
		posix_spawn_file_actions_adddup2(&actions, ready_fd, 3);
	/* UCX's are not closed by exec, and its peers' would be kept open by somebody else. */
	posix_spawn_file_actions_addclosefrom_np(&actions, ready_fd >= 0 ? 4 : 3);
	rc = posix_spawn(&pid, full[0], &actions, NULL, (char *const *)(uintptr_t)full, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc != 0)
		fail_msg("%s does not start: %s", argv[0], strerror(rc));
	return pid;
}

static void
show_file(const char *path)
{
	char line[1024];
	FILE *file = fopen(path, "r");

	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL)
		fputs(line, stderr);
	fclose(file);
}

/* The read end of its --ready-fd. */
static int
donor_spawn(struct rig_donor *donor)
{
	char net[sizeof(donor->netns) + 16], mnt[sizeof(donor->netns) + 16];
	const char *program = donor->program != NULL ? donor->program : FAR_TEST_FARPOOLD;
	const char *const argv[] = {"/usr/bin/nsenter", net,          mnt, program, "--config",
				    donor->config,      "--ready-fd", "3", NULL};
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	snprintf(net, sizeof(net), "--net=%s/net", donor->netns);
	snprintf(mnt, sizeof(mnt), "--mount=%s/mnt", donor->netns);
	/* It becomes the donor: the process is the same. */
	donor->pid =
		spawn(donor->netns[0] != '\0' ? argv : argv + 3, "/dev/null", donor->log, fds[1]);
	close(fds[1]);
	return fds[0];
}

void
rig_donor_start(struct rig_donor *donor)
{
	struct pollfd ready = {.events = POLLIN, .fd = donor_spawn(donor)};
	char byte;

	if (poll(&ready, 1, (int)rig_seconds(SERVE_SECONDS) * 1000) != 1 ||
	    read(ready.fd, &byte, 1) != 1) {
		show_file(donor->log);
		fail_msg("%s does not serve", donor->name);
	}
	close(ready.fd);
}

void
rig_donor_start_and_kill(struct rig_donor *donor, uint64_t after_ns)
{
	int ready = donor_spawn(donor);

	far_clock_sleep_until(far_now_ns() + after_ns);
	assert_int_equal(rig_donor_signal(donor, SIGKILL), 128 + SIGKILL);
	close(ready);
}

struct rig_donor *
rig_donor_add(struct rig *rig, const char *name, const char *memory, const char *extra)
{
	struct rig_donor *donor = &rig->donors[rig->donor_count++];
	char dir[sizeof(rig->dir)];
	FILE *file;

	assert_true(rig->donor_count <= RIG_DONORS_MAX);
	memcpy(dir, rig->dir, sizeof(dir));
	snprintf(donor->name, sizeof(donor->name), "%s", name);
	donor->program = rig->program;
	if (rig->listen_host[0] != '\0') {
		snprintf(donor->listen, sizeof(donor->listen), "%s:%s:%u", rig->scheme,
			 rig->listen_host, rig->port);
		snprintf(donor->address, sizeof(donor->address), "%s:%s:%u", rig->scheme,
			 rig->address_host, rig->port++);
		memcpy(donor->netns, rig->netns, sizeof(donor->netns));
	} else {
		snprintf(donor->listen, sizeof(donor->listen), "shm:%s/%s.sock", dir, name);
		memcpy(donor->address, donor->listen, sizeof(donor->address));
	}
	snprintf(donor->config, sizeof(donor->config), "%s/%s.yaml", dir, name);
	snprintf(donor->log, sizeof(donor->log), "%s/%s.log", dir, name);
	file = fopen(donor->config, "w");
	assert_non_null(file);
	fprintf(file, "name: %s\nlisten: %s%s%s\nmemory: %s\n%s", name, donor->listen,
		rig->also_listen != NULL ? "," : "",
		rig->also_listen != NULL ? rig->also_listen : "", memory,
		extra != NULL ? extra : "");
	assert_int_equal(fclose(file), 0);
	rig_donor_start(donor);
	return donor;
}

/* Bounded: a program that does not end is killed and fails the test. */
static int
wait_end(pid_t pid, unsigned int seconds)
{
	uint64_t until_ns = far_now_ns() + rig_seconds(seconds) * FAR_NS_PER_S;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (far_now_ns() > until_ns) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			fail_msg("pid %d did not end within %u s", (int)pid, rig_seconds(seconds));
		}
		far_clock_sleep_until(far_now_ns() + FAR_NS_PER_MS);
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int
rig_donor_signal(struct rig_donor *donor, int sig)
{
	int status = 0;

	assert_int_not_equal(donor->pid, 0);
	assert_int_equal(kill(donor->pid, sig), 0);
	if (sig == SIGKILL || sig == SIGTERM) {
		status = wait_end(donor->pid, END_SECONDS);
		donor->pid = 0;
	}
	return status;
}

void
rig_client_config(struct rig *rig, const char *l1_size, const char *extra)
{
	FILE *file = fopen(rig->client_config, "w");

	assert_non_null(file);
	fprintf(file, "name: test\nl1:\n  size: %s\n%sdonors:\n", l1_size,
		extra != NULL ? extra : "");
	for (size_t i = 0; i < rig->donor_count; i++)
		fprintf(file, "  - name: %s\n    address: %s\n", rig->donors[i].name,
			rig->donors[i].address);
	assert_int_equal(fclose(file), 0);
}

struct far_client *
rig_client(struct rig *rig, const char *l1_size, const char *extra)
{
	struct far_client *client = NULL;
	char error[512] = "";
	int rc;

	rig_client_config(rig, l1_size, extra);
	rc = far_client_open_file(rig->client_config, error, sizeof(error), &client);
	if (rc != 0)
		fail_msg("client: %s", error);
	rc = far_client_wait_donors(client, far_now_ns() + rig_seconds(UP_SECONDS) * FAR_NS_PER_S,
				    error, sizeof(error));
	if (rc != 0)
		fail_msg("donors: %s", error);
	return client;
}

static void
read_file(const char *path, char out[RIG_OUTPUT_MAX])
{
	FILE *file = fopen(path, "r");
	size_t size;

	assert_non_null(file);
	size = fread(out, 1, RIG_OUTPUT_MAX - 1, file);
	out[size] = '\0';
	fclose(file);
}

pid_t
rig_spawn(struct rig *rig, const char *name, const char *const argv[])
{
	char out[160];
	char err[160];

	snprintf(out, sizeof(out), "%s/%s.out", rig->dir, name);
	snprintf(err, sizeof(err), "%s/%s.err", rig->dir, name);
	(void)unlink(err);
	return spawn(argv, out, err, -1);
}

bool
rig_runs(pid_t pid)
{
	siginfo_t info = {0};

	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	return info.si_pid == 0;
}

void
rig_first_line(struct rig *rig, pid_t pid, const char *name, char *line, size_t line_bytes)
{
	uint64_t until_ns = far_now_ns() + END_SECONDS * FAR_NS_PER_S;
	char path[160];

	snprintf(path, sizeof(path), "%s/%s.out", rig->dir, name);
	for (;;) {
		FILE *file = fopen(path, "r");

		line[0] = '\0';
		if (file != NULL && fgets(line, (int)line_bytes, file) == NULL)
			line[0] = '\0';
		if (file != NULL)
			fclose(file);
		if (strchr(line, '\n') != NULL)
			return;
		if (far_now_ns() > until_ns || !rig_runs(pid))
			fail_msg("%s says nothing", name);
		far_clock_sleep_until(far_now_ns() + FAR_NS_PER_MS);
	}
}

void
rig_wait(struct rig *rig, pid_t pid, const char *name, unsigned int seconds, struct rig_run *run)
{
	char path[160];

	run->status = wait_end(pid, seconds);
	snprintf(path, sizeof(path), "%s/%s.out", rig->dir, name);
	read_file(path, run->out);
	snprintf(path, sizeof(path), "%s/%s.err", rig->dir, name);
	read_file(path, run->err);
}

void
rig_run(struct rig_run *run, unsigned int seconds, const char *const argv[])
{
	struct rig rig;
	pid_t pid;

	rig_open(&rig);
	pid = rig_spawn(&rig, "run", argv);
	rig_wait(&rig, pid, "run", seconds, run);
	rig_close(&rig);
}

size_t
rig_fd_count(pid_t pid)
{
	char path[64];
	size_t count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (dir == NULL)
		return 0;
	for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

uint64_t
rig_json_number(const char *json, const char *name)
{
	json_error_t cause;
	json_t *root = json_loads(json, 0, &cause);
	json_t *value;
	uint64_t number;

	if (root == NULL)
		fail_msg("no JSON: %s in: %.400s", cause.text, json);
	value = json_object_get(root, name);
	if (!json_is_integer(value))
		fail_msg("no number %s in: %.400s", name, json);
	number = (uint64_t)json_integer_value(value);
	json_decref(root);
	return number;
}
