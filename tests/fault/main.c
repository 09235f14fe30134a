/* main.c - the kill matrix: every cell in a process of its own, one table. */
#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/clock.h"
#include "tests/fault/fault.h"

#define CELLS_MAX     128
#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"

/* clang-format off */
static struct over overs[] = {
	{"shm", 250, 500, 1, "64MiB", "lane_idle: 200ms\nrecall: 200ms\n", "", false},
	{"ucx", 250, 500, 1, "64MiB", "lane_idle: 200ms\nrecall: 200ms\n", "", false},
	/* An emulated guest on a busy machine is late, and loses packets: they are sent again soon, and often. */
	{"verbs", 3000, 4500, 20, "32MiB", "lane_idle: 1s\nrecall: 10s\nverbs:\n  ack_timeout: 500ms\n",
	 "verbs:\n  ack_timeout: 500ms\n", true},
};
/* clang-format on */

struct arguments {
	char *over, *only, *group; /* NULL: not given */
	size_t jobs;
	bool list, brief, verbose;
};

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

bool
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
	printf(" | %s%s%s", text, outcome->note[0] != '\0' ? "; " : "", outcome->note);
	if (outcome->late_ns > LATE_NS_MARK)
		printf("; a request ended %.0f ms behind its deadline !",
		       (double)outcome->late_ns / 1e6);
	printf(" |\n");
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

/* ---- all of them ---- */

static bool
is_asked(const struct cell *cell, const struct arguments *arguments)
{
	char name[256];

	snprintf(name, sizeof(name), "%s %s %s", cell->group, cell->fault, cell->what);
	return (!arguments->brief || cell->brief) &&
	       (arguments->only == NULL || strstr(name, arguments->only) != NULL) &&
	       (arguments->group == NULL || strcmp(arguments->group, cell->group) == 0);
}

static struct {
	struct cell_job jobs[CELLS_MAX];
	size_t count;
} table;

static void
cells_add(const struct cell *cells, size_t count, const struct arguments *arguments)
{
	for (size_t i = 0; i < count && table.count < CELLS_MAX; i++) {
		if (is_asked(&cells[i], arguments))
			table.jobs[table.count++].cell = &cells[i];
	}
}

static const struct argp_option options[] = {
	{"over", 'o', "TRANSPORT", 0, "shm (default), ucx, or verbs, at FAR_TEST_RDMA_HOST", 0},
	{"only", 'n', "NAME", 0, "Cells with these words in 'GROUP FAULT STAGE' alone", 0},
	{"group", 'g', "GROUP", 0, "donor, client, reader or stranger alone", 0},
	{"jobs", 'j', "N", 0, "Cells at a time: faster, and worse to measure by; 1", 0},
	{"brief", 'b', NULL, 0, "A third of the cells, for where everything is slow", 0},
	{"verbose", 'v', NULL, 0, "Show the end of each cell's log, not of failed ones alone", 0},
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
	case 'j':
		arguments->jobs = strtoul(arg, NULL, 10);
		if (arguments->jobs < 1 || arguments->jobs > CELLS_MAX)
			argp_error(state, "jobs '%s': a number of at least 1", arg);
		return 0;
	case 'b':
		arguments->brief = true;
		return 0;
	case 'v':
		arguments->verbose = true;
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

/* soft-RoCE of Linux 6.1 does; 6.12's does not. */
static bool
kernel_forgets_reads(void)
{
	struct utsname name;

	return uname(&name) == 0 && strncmp(name.release, "6.1.", 4) == 0;
}

static const struct over *
over_find(const char *name)
{
	for (size_t i = 0; i < sizeof(overs) / sizeof(overs[0]); i++) {
		if (strcmp(overs[i].name, name) != 0)
			continue;
		overs[i].loses_links = overs[i].loses_links && kernel_forgets_reads();
		return &overs[i];
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	struct arguments arguments = {.jobs = 1};
	const struct over *over;
	uint64_t begun_ns = far_now_ns();
	bool sound;

	if (argc > 1 && strcmp(argv[1], "--subject") == 0)
		return subject_main(argc, argv);
	if (argc > 1 && strcmp(argv[1], "--reader") == 0)
		return reader_process_main(argc, argv);
	if (argc > 1 && strcmp(argv[1], "--visitor") == 0)
		return visitor_main(argc, argv);
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
	cells_add(donor_cells, donor_cell_count, &arguments);
	cells_add(client_cells, client_cell_count, &arguments);
	cells_add(reader_cells, reader_cell_count, &arguments);
	cells_add(stranger_cells, stranger_cell_count, &arguments);
	if (table.count == 0) {
		fprintf(stderr, "farpool-faults: no cell is called that; --list names them\n");
		return 2;
	}
	for (size_t i = 0; arguments.list && i < table.count; i++)
		printf("%s %s %s\n", table.jobs[i].cell->group, table.jobs[i].cell->fault,
		       table.jobs[i].cell->what);
	if (arguments.list)
		return EXIT_SUCCESS;
	head_print();
	sound = cells_run(table.jobs, table.count, arguments.jobs, over, arguments.verbose);
	printf("%zu cells over %s in %.1f s%s\n", table.count, over->name,
	       (double)(far_now_ns() - begun_ns) / 1e9, sound ? "" : ": FAILED");
	return sound ? EXIT_SUCCESS : EXIT_FAILURE;
}
