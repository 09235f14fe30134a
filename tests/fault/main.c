/* main.c - the kill matrix: every cell in a process of its own, one table. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/fault/fault.h"

#define CELL_SECONDS  120U /* no cell takes longer, whatever hangs in it */
#define CELL_FAILED   3
#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"

/* clang-format off */
static const struct over overs[] = {
	{"shm", 250, 500, "lane_idle: 200ms\nrecall: 200ms\n", ""},
	{"ucx", 250, 500, "lane_idle: 200ms\nrecall: 200ms\n", ""},
	{"verbs", 1500, 2500, "lane_idle: 1s\nrecall: 1s\n", ""},
};
/* clang-format on */

struct arguments {
	char *over, *only, *group; /* NULL: not given */
	bool list;
};

static bool table_failed;

/* ---- one row ---- */

static void
time_print(uint64_t ns, bool late)
{
	if (ns == TIME_NONE)
		printf(" | -");
	else
		printf(" | %.1f%s", (double)ns / 1e6, late ? " !" : "");
}

static const char *
verdict(const struct outcome *outcome, int status)
{
	static char text[TEXT_BYTES + 32];

	if (outcome->skipped[0] != '\0')
		snprintf(text, sizeof(text), "skipped: %s", outcome->skipped);
	else if (!outcome->whole)
		snprintf(text, sizeof(text), "FAILED: the cell ended with status %d", status);
	else if (outcome->leaks[0] != '\0')
		snprintf(text, sizeof(text), "FAILED: %s", outcome->leaks);
	else
		snprintf(text, sizeof(text), "0");
	return text;
}

/* True: the cell is as it should be. */
static bool
row_print(const struct cell *cell, const struct over *over, const struct outcome *outcome,
	  int status)
{
	uint64_t limit_ns = over->deadline_ms * FAR_NS_PER_MS + LATE_NS_MARK;
	const char *text = verdict(outcome, status);

	printf("| %s | %s %s | %s | %" PRIu64 " | %" PRIu64 " | %" PRIu64, over->name, cell->group,
	       cell->fault, cell->what, outcome->requests, outcome->failed, outcome->wrong);
	time_print(outcome->miss_ns, outcome->miss_ns > limit_ns);
	printf(" | %" PRIu32, over->deadline_ms);
	time_print(outcome->reuse_ns, false);
	time_print(outcome->consistent_ns, false);
	printf(" | %s%s%s |\n", text, outcome->note[0] != '\0' ? "; " : "", outcome->note);
	(void)fflush(stdout);
	return outcome->skipped[0] != '\0' ||
	       (outcome->whole && outcome->wrong == 0 && outcome->leaks[0] == '\0');
}

static void
head_print(void)
{
	printf("| over | fault | stage | requests | failed | wrong bytes | to a miss [ms] | "
	       "deadline [ms] | to reuse [ms] | to consistent [ms] | leaked |\n"
	       "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n");
}

/* ---- one process ---- */

void
cell_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)fputs("failed: ", stderr);
	(void)vfprintf(stderr, format, args);
	(void)fputc('\n', stderr);
	va_end(args);
	(void)fflush(NULL);
	_exit(CELL_FAILED);
}

/* What the processes' helpers of other tests find wrong is said by cmocka. */
static struct {
	const struct cell *cell;
	const struct over *over;
	struct outcome *outcome;
} running;

static void
cell_as_test(void **state)
{
	(void)state;
	running.cell->run(running.cell, running.over, running.outcome);
}

static int
cell_here(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(cell_as_test)};

	running.cell = cell;
	running.over = over;
	running.outcome = outcome;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Its own group, so that what it started ends with it. */
static int
cell_run(const struct cell *cell, const struct over *over, struct outcome *outcome, int log_fd)
{
	uint64_t until_ns = far_now_ns() + rig_seconds(CELL_SECONDS) * FAR_NS_PER_S;
	pid_t pid;
	int status = 0;

	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		(void)setpgid(0, 0);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(log_fd, STDOUT_FILENO);
		(void)dup2(log_fd, STDERR_FILENO);
		status = cell_here(cell, over, outcome);
		(void)fflush(NULL);
		_exit(status);
	}
	if (pid < 0)
		return -1;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (far_now_ns() > until_ns)
			(void)kill(pid, SIGKILL);
		far_clock_sleep_until(far_now_ns() + FAR_NS_PER_MS);
	}
	(void)kill(-pid, SIGKILL);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void
log_show(int log_fd)
{
	char bytes[4096];
	off_t size = lseek(log_fd, 0, SEEK_END);
	off_t from = size > (off_t)sizeof(bytes) ? size - (off_t)sizeof(bytes) : 0;
	ssize_t count = pread(log_fd, bytes, sizeof(bytes), from);

	if (count > 0)
		(void)fwrite(bytes, 1, (size_t)count, stderr);
}

/* True: no cell failed. */
static bool
cell_do(const struct cell *cell, const struct over *over)
{
	struct outcome *outcome = mmap(NULL, sizeof(*outcome), PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int log_fd = memfd_create("log of a cell", MFD_CLOEXEC);
	bool sound;
	int status;

	if (outcome == MAP_FAILED || log_fd < 0) {
		perror("farpool-faults");
		return false;
	}
	outcome->miss_ns = outcome->reuse_ns = outcome->consistent_ns = TIME_NONE;
	status = cell_run(cell, over, outcome, log_fd);
	sound = row_print(cell, over, outcome, status);
	if (!sound)
		log_show(log_fd);
	(void)close(log_fd);
	(void)munmap(outcome, sizeof(*outcome));
	return sound;
}

/* ---- all of them ---- */

static bool
is_asked(const struct cell *cell, const struct arguments *arguments)
{
	char name[256];

	snprintf(name, sizeof(name), "%s %s %s", cell->group, cell->fault, cell->what);
	return (arguments->only == NULL || strstr(name, arguments->only) != NULL) &&
	       (arguments->group == NULL || strcmp(arguments->group, cell->group) == 0);
}

static unsigned
cells_do(const struct cell *cells, size_t count, const struct over *over,
	 const struct arguments *arguments)
{
	unsigned done = 0;

	for (size_t i = 0; i < count; i++) {
		if (!is_asked(&cells[i], arguments))
			continue;
		done++;
		if (arguments->list)
			printf("%s %s %s\n", cells[i].group, cells[i].fault, cells[i].what);
		else if (!cell_do(&cells[i], over))
			table_failed = true;
	}
	return done;
}

static const struct argp_option options[] = {
	{"over", 'o', "TRANSPORT", 0, "shm (default), ucx, or verbs, at FAR_TEST_RDMA_HOST", 0},
	{"only", 'n', "NAME", 0, "Cells with these words in 'GROUP FAULT STAGE' alone", 0},
	{"group", 'g', "GROUP", 0, "donor, client, reader or stranger alone", 0},
	{"list", 'l', NULL, 0, "Name the cells and end", 0},
	{0},
};

static error_t
parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case 'o':
		arguments->over = arg;
		return 0;
	case 'n':
		arguments->only = arg;
		return 0;
	case 'g':
		arguments->group = arg;
		return 0;
	case 'l':
		arguments->list = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Faults on real donors and clients, at each stage of a store and a prefetch: one "
	       "table. docs/faults.md says what its columns are.",
};

static const struct over *
over_find(const char *name)
{
	for (size_t i = 0; i < sizeof(overs) / sizeof(overs[0]); i++) {
		if (strcmp(overs[i].name, name) == 0)
			return &overs[i];
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	struct arguments arguments = {0};
	const struct over *over;
	uint64_t begun_ns = far_now_ns();
	unsigned done;

	if (argc > 1 && strcmp(argv[1], "--subject") == 0)
		return subject_main(argc, argv);
	if (argc > 1 && strcmp(argv[1], "--reader") == 0)
		return reader_process_main(argc, argv);
	argp_err_exit_status = 2;
	if (argp_parse(&argp, argc, argv, 0, NULL, &arguments) != 0)
		return EXIT_FAILURE;
	over = over_find(arguments.over != NULL ? arguments.over : "shm");
	if (over == NULL) {
		fprintf(stderr, "farpool-faults: no transport '%s': shm, ucx or verbs\n",
			arguments.over);
		return 2;
	}
	if (strcmp(over->name, "verbs") == 0 && getenv(HOST_VARIABLE) == NULL) {
		printf("skipped: " HOST_VARIABLE " names no address of an RDMA port\n");
		return 77;
	}
	if (!arguments.list)
		head_print();
	done = cells_do(donor_cells, donor_cell_count, over, &arguments);
	done += cells_do(client_cells, client_cell_count, over, &arguments);
	done += cells_do(reader_cells, reader_cell_count, over, &arguments);
	if (!arguments.list)
		printf("%u cells over %s in %.1f s%s\n", done, over->name,
		       (double)(far_now_ns() - begun_ns) / 1e9, table_failed ? ": FAILED" : "");
	return done > 0 && !table_failed ? EXIT_SUCCESS : EXIT_FAILURE;
}
