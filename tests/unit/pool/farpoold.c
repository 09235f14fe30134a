/* farpoold.c - tests: the daemon as a process: it starts, says what is wrong, and ends when told to. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGS_MAX   16
#define READY_MS   60000 /* a bound against hanging, not an expectation */
#define TEXT_BYTES 8192

struct process {
	pid_t pid;
	int ready; /* read end of its --ready-fd */
	char log[200];
};

static char folder[64];

static void
path_make(char out[200], const char *name)
{
	snprintf(out, 200, "%s/%s", folder, name);
}

static struct process
start(const char *name, const char *const args[])
{
	const char *argv[ARGS_MAX + 4] = {FAR_TEST_FARPOOLD, "--ready-fd", "3"};
	struct process process;
	posix_spawn_file_actions_t actions;
	int fds[2];
	int count = 3;

	path_make(process.log, name);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	for (int i = 0; args[i] != NULL; i++)
		argv[count++] = args[i];
	argv[count] = NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], 3);
	posix_spawn_file_actions_addopen(&actions, 1, process.log, O_WRONLY | O_CREAT | O_TRUNC,
					 0600);
	posix_spawn_file_actions_adddup2(&actions, 1, 2);
	assert_int_equal(posix_spawn(&process.pid, FAR_TEST_FARPOOLD, &actions, NULL,
				     (char *const *)(uintptr_t)argv, environ),
			 0);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	process.ready = fds[0];
	return process;
}

/* Whether it said that it is ready; false: it ended before. */
static int
is_ready(struct process *process)
{
	struct pollfd poll_fd = {.fd = process->ready, .events = POLLIN};
	char byte;

	assert_int_equal(poll(&poll_fd, 1, READY_MS), 1);
	return read(process->ready, &byte, 1) == 1 && byte == '\n';
}

/* Its exit status; what it wrote is in @text. */
static int
end(struct process *process, char text[TEXT_BYTES])
{
	FILE *file;
	size_t size;
	int status;

	assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
	close(process->ready);
	file = fopen(process->log, "r");
	assert_non_null(file);
	size = fread(text, 1, TEXT_BYTES - 1, file);
	text[size] = '\0';
	fclose(file);
	unlink(process->log);
	if (!WIFEXITED(status))
		fail_msg("ended by signal %d: %s", WTERMSIG(status), text);
	return WEXITSTATUS(status);
}

static void
assert_says(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("'%s' lacks '%s'", text, part);
}

static void
serves_until_sigterm_and_ends_with_0(void **state)
{
	char listen[220], socket[200], text[TEXT_BYTES];
	struct stat st;

	(void)state;
	path_make(socket, "a.sock");
	snprintf(listen, sizeof(listen), "listen=shm:%s", socket);
	for (int round = 0; round < 2; round++) {
		static const int signals[] = {SIGTERM, SIGINT};
		const char *const args[] = {"name=donor-a", listen, "memory=64MiB", "segment=16MiB",
					    NULL};
		struct process process = start("a.log", args);

		assert_true(is_ready(&process));
		assert_int_equal(stat(socket, &st), 0);
		kill(process.pid, signals[round]);
		assert_int_equal(end(&process, text), 0);
		assert_says(text, "donor-a serves 64.0 MiB at shm:");
		assert_says(text, "epoch ");
		assert_null(strstr(text, "error"));
		assert_null(strstr(text, "warn"));
		assert_int_equal(stat(socket, &st), -1);
	}
}

static void
sigterm_before_all_memory_is_there_ends_it_too(void **state)
{
	char listen[220], socket[200], text[TEXT_BYTES];

	(void)state;
	path_make(socket, "early.sock");
	snprintf(listen, sizeof(listen), "listen=shm:%s", socket);
	for (int round = 0; round < 5; round++) {
		const char *const args[] = {"name=donor-a", listen, "memory=256MiB",
					    "segment=16MiB", NULL};
		struct process process = start("early.log", args);
		struct stat st;

		/* As soon as it listens, or a little later. */
		while (stat(socket, &st) < 0)
			usleep(500);
		usleep((useconds_t)round * 5000);
		kill(process.pid, SIGTERM);
		assert_int_equal(end(&process, text), 0);
		assert_null(strstr(text, "error"));
	}
}

static void
second_donor_at_one_address_says_so(void **state)
{
	char listen[220], socket[200], text[TEXT_BYTES];
	struct process first, second;

	(void)state;
	path_make(socket, "b.sock");
	snprintf(listen, sizeof(listen), "listen=shm:%s", socket);
	{
		const char *const args[] = {"name=donor-b", listen, "memory=16MiB", NULL};

		first = start("b1.log", args);
		assert_true(is_ready(&first));
		second = start("b2.log", args);
	}
	assert_false(is_ready(&second));
	assert_int_not_equal(end(&second, text), 0);
	assert_says(text, "listen: 'shm:");
	assert_says(text, "another process listens there: stop it, or choose another address");
	kill(first.pid, SIGTERM);
	assert_int_equal(end(&first, text), 0);
}

/* Address, arguments, what is said. */
static void
refuses(const char *const args[], const char *part)
{
	struct process process = start("refused.log", args);
	char text[TEXT_BYTES];

	assert_false(is_ready(&process));
	assert_int_not_equal(end(&process, text), 0);
	assert_says(text, part);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1); /* one line */
}

static void
donor_without_its_memory_says_what_to_do(void **state)
{
	char listen[220], socket[200];
	const char *const args[] = {
		"name=donor-c", listen,          "memory=8TiB", "block_min=64MiB",
		"lane=64MiB",   "segment=64GiB", NULL};

	(void)state;
	path_make(socket, "c.sock");
	snprintf(listen, sizeof(listen), "listen=shm:%s", socket);
	refuses(args, "memory: 8.0 TiB and");
	refuses(args, "are available here");
	refuses(args, "lower 'memory:', or free memory");
}

static void
address_that_cannot_be_listened_at_is_named(void **state)
{
	static const char *const args[] = {"name=donor-d", "listen=shm:/nowhere/at/all.sock",
					   "memory=16MiB", NULL};

	(void)state;
	refuses(args, "listen: 'shm:/nowhere/at/all.sock'");
	refuses(args, "a folder that exists");
}

static void
retries_that_never_end_are_refused(void **state)
{
	static const char *const tries[] = {"name=donor-d", "listen=shm:/tmp/x.sock",
					    "memory=16MiB", "verbs.retries=7", NULL};
	static const char *const rnr[] = {"name=donor-d", "listen=shm:/tmp/x.sock", "memory=16MiB",
					  "verbs.rnr_retries=7", NULL};

	(void)state;
	refuses(tries, "key 'verbs.retries'");
	refuses(rnr, "key 'verbs.rnr_retries'");
}

static void
configuration_that_cannot_be_read_is_named(void **state)
{
	char missing[200], wrong[200];
	const char *const absent[] = {"--config", missing, NULL};
	const char *const broken[] = {"--config", wrong, NULL};
	const char *const check[] = {"--check", "--config", wrong, NULL};
	static const char *const nothing[] = {NULL};
	FILE *file;

	(void)state;
	path_make(missing, "missing.yaml");
	path_make(wrong, "wrong.yaml");
	file = fopen(wrong, "w");
	assert_non_null(file);
	fputs("name: a\nlisten: shm:/tmp/x.sock\nmemory: 1GiB\ngrace: 50\n", file);
	fclose(file);
	refuses(absent, missing);
	refuses(broken, "wrong.yaml:4: key 'grace'");
	refuses(check, "wrong.yaml:4: key 'grace'");
	refuses(nothing, "give --config FILE");
	unlink(wrong);
}

static void
check_starts_nothing(void **state)
{
	static const char *const args[] = {"--check", "--config", FAR_TEST_CONFIG, NULL};
	struct process process = start("check.log", args);
	char text[TEXT_BYTES];

	(void)state;
	assert_false(is_ready(&process));
	assert_int_equal(end(&process, text), 0);
	assert_says(text, "configuration of donor-a is good");
}

static int
folder_make(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "%s", "/tmp/farpoold-test-XXXXXX");
	return mkdtemp(folder) == NULL ? -1 : 0;
}

static int
folder_remove(void **state)
{
	(void)state;
	return rmdir(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(serves_until_sigterm_and_ends_with_0),
		cmocka_unit_test(sigterm_before_all_memory_is_there_ends_it_too),
		cmocka_unit_test(second_donor_at_one_address_says_so),
		cmocka_unit_test(donor_without_its_memory_says_what_to_do),
		cmocka_unit_test(address_that_cannot_be_listened_at_is_named),
		cmocka_unit_test(retries_that_never_end_are_refused),
		cmocka_unit_test(configuration_that_cannot_be_read_is_named),
		cmocka_unit_test(check_starts_nothing),
	};

	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
