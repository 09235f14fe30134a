/* main.c - histories in parallel, each in a process of its own; one that breaks a promise is made short. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/mark.h"
#include "base/mutant.h"
#include "tests/model/sim/sim.h"

#define JOBS_MAX      64
#define MARKS_MAX     128
#define ACTIONS       3000U
#define HISTORY_S_MAX 120 /* real seconds; a history takes less than one */
#define PROGRESS_NS   (2 * FAR_NS_PER_S)

struct shared {
	struct sim_report reports[JOBS_MAX + 1]; /* the last one is the shrinker's */
	uint64_t marks[MARKS_MAX];
};

struct options {
	uint64_t seed;
	uint64_t seeds;  /* 0: until so many events */
	uint64_t events; /* 0: by seeds */
	uint32_t actions;
	uint32_t jobs;
	bool marks;   /* every one has to be hit */
	bool mutants; /* all, one after the other: each has to be noticed */
};

static const struct {
	const char *name, *text;
} mutants[] = {{"none", "no rule is broken"},
#define MUTANT_ROW(name, text) {#name, text},
	       FAR_MUTANTS(MUTANT_ROW)
#undef MUTANT_ROW
};

static struct shared *shared;
static struct sim_report total;
static struct sim_report broken; /* of the history that broke a promise */
static uint64_t broken_seed;

/* ---- one history in a child ---- */

static pid_t
history_start(const struct sim_history *history, struct sim_report *report)
{
	pid_t pid;

	memset(report, 0, sizeof(*report));
	fflush(stdout);
	pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(HISTORY_S_MAX);
	far_marks_use(shared->marks, MARKS_MAX);
	sim_run(history, report);
	_Exit(0);
}

/* Whether it ended well; else why it did not. */
static bool
history_ended(int status, struct sim_report *report)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (report->why[0] == '\0')
		(void)snprintf(report->why, sizeof(report->why), "%s",
			       WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "it did not end"
			       : WIFSIGNALED(status) ? strsignal(WTERMSIG(status))
						     : "it ended early");
	return false;
}

static bool
history_holds(const struct sim_history *history, char why[SIM_WHY_BYTES])
{
	struct sim_report *report = &shared->reports[JOBS_MAX];
	pid_t pid = history_start(history, report);
	int status = 0;
	bool held;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return true;
	held = history_ended(status, report);
	(void)snprintf(why, SIM_WHY_BYTES, "%s", report->why);
	return held;
}

/* ---- a short history that still fails: runs of actions are left out, ever shorter ones (ddmin) ---- */

static void
actions_drop(struct sim_history *history, uint32_t from, uint32_t count)
{
	memmove(history->actions + from, history->actions + from + count,
		(history->count - from - count) * sizeof(*history->actions));
	history->count -= count;
}

static void
history_shrink(struct sim_history *history, char why[SIM_WHY_BYTES])
{
	struct sim_action *kept = far_zalloc_array(history->count, sizeof(*kept));
	uint32_t size = history->count / 2;

	if (kept == NULL)
		return;
	while (size > 0) {
		bool dropped = false;

		for (uint32_t from = 0; from + size <= history->count;) {
			uint32_t count = history->count;
			char new_why[SIM_WHY_BYTES];

			memcpy(kept, history->actions, count * sizeof(*kept));
			actions_drop(history, from, size);
			if (history_holds(history, new_why)) {
				memcpy(history->actions, kept, count * sizeof(*kept));
				history->count = count;
				from += size;
			} else {
				(void)snprintf(why, SIM_WHY_BYTES, "%s", new_why);
				dropped = true;
			}
			if (isatty(STDERR_FILENO))
				fprintf(stderr, "\r\033[Kshrinking: %u actions ", history->count);
		}
		if (!dropped || size > history->count)
			size = size > history->count ? history->count / 2 : size / 2;
	}
	far_free(kept);
}

static int
failed(const struct options *options, uint64_t seed, const struct sim_report *report)
{
	struct sim_history history;
	char why[SIM_WHY_BYTES];

	printf("\nseed %" PRIu64 ", action %u: %s\n", seed, report->action_at, report->why);
	(void)snprintf(why, sizeof(why), "%s", report->why);
	if (sim_history_make(seed, options->actions, &history) != 0)
		return 1;
	if (report->action_at + 1 < history.count)
		history.count = report->action_at + 1;
	if (history_holds(&history, why))
		history.count = options->actions;
	history_shrink(&history, why);
	printf("\nthe same in %u actions: %s\n", history.count, why);
	sim_history_print(&history);
	printf("again: farpool-sim --seed %" PRIu64 " --seeds 1 --actions %u\n", seed,
	       options->actions);
	far_free(history.actions);
	return 1;
}

/* ---- all of them ---- */

static void
total_add(const struct sim_report *report)
{
	total.events += report->events;
	total.landings += report->landings;
	for (uint32_t i = 0; i < SIM_KINDS; i++)
		total.actions[i] += report->actions[i];
	for (uint32_t i = 0; i < SIM_CHECKS; i++)
		total.checks[i] += report->checks[i];
}

static void
progress(uint64_t done, uint64_t start_ns)
{
	static uint64_t next_ns;
	uint64_t now_ns = far_clock_now(far_clock_real());

	if (!isatty(STDERR_FILENO) || now_ns < next_ns)
		return;
	next_ns = now_ns + PROGRESS_NS;
	fprintf(stderr, "\r\033[K%" PRIu64 " histories, %.1f million events, %.0f s ", done,
		(double)total.events / 1e6, (double)(now_ns - start_ns) / 1e9);
}

static bool
more(const struct options *options, uint64_t started)
{
	return options->seeds > 0 ? started < options->seeds : total.events < options->events;
}

static int
histories_run(const struct options *options, uint64_t *done_out)
{
	pid_t pids[JOBS_MAX] = {0};
	uint64_t seeds[JOBS_MAX] = {0}, started = 0, live = 0;
	uint64_t start_ns = far_clock_now(far_clock_real());

	for (;;) {
		int status = 0;
		pid_t pid;
		uint32_t job;

		for (job = 0; job < options->jobs && more(options, started); job++) {
			struct sim_history history;

			if (pids[job] != 0)
				continue;
			seeds[job] = options->seed + started++;
			if (sim_history_make(seeds[job], options->actions, &history) != 0)
				return 1;
			pids[job] = history_start(&history, &shared->reports[job]);
			far_free(history.actions);
			if (pids[job] < 0)
				return 1;
			live++;
		}
		if (live == 0)
			return 0;
		pid = waitpid(-1, &status, 0);
		for (job = 0; job < options->jobs && pids[job] != pid; job++)
			;
		if (job == options->jobs)
			continue;
		pids[job] = 0;
		live--;
		(*done_out)++;
		total_add(&shared->reports[job]);
		progress(*done_out, start_ns);
		if (history_ended(status, &shared->reports[job]))
			continue;
		broken = shared->reports[job];
		broken_seed = seeds[job];
		return options->mutants ? 1 : failed(options, seeds[job], &broken);
	}
}

static int
covered(const struct options *options)
{
	size_t count = far_marks_count(), missed = 0;

	printf("\n%-14s %12s\n", "what happened", "times");
	for (uint32_t i = 0; i < SIM_KINDS; i++)
		printf("%-14s %12" PRIu64 "\n", sim_kind_name((enum sim_kind)i), total.actions[i]);
	printf("\n%-64s %12s\n", "promises put to the test", "times");
	printf("%-64s %12" PRIu64 "\n", "a served block had the bytes of its key",
	       total.checks[SIM_CHECK_BYTES]);
	printf("%-64s %12" PRIu64 "\n", "bytes landed in a buffer of a load that lived",
	       total.checks[SIM_CHECK_LANDING]);
	printf("%-64s %12" PRIu64 "\n", "an operation ended once", total.checks[SIM_CHECK_ENDED]);
	printf("%-64s %12" PRIu64 "\n", "loans, locks and bytes balanced",
	       total.checks[SIM_CHECK_BOOKS]);
	printf("%-64s %12" PRIu64 "\n", "no request outlived its deadline, by turns of its client",
	       total.checks[SIM_CHECK_DEADLINE]);
	printf("\n%-64s %12s\n", "rare paths", "times");
	for (size_t i = 0; i < count && i < MARKS_MAX; i++) {
		printf("%-64s %12" PRIu64 "%s\n", far_marks_name(i), shared->marks[i],
		       shared->marks[i] == 0 ? "  never" : "");
		missed += shared->marks[i] == 0;
	}
	if (missed > 0 && options->marks) {
		printf("%zu of %zu rare paths were never taken\n", missed, count);
		return 1;
	}
	return 0;
}

/* Each rule is broken in turn; the histories have to notice. */
static int
mutants_run(struct options *options)
{
	int missed = 0;

	printf("%-22s %-72s %12s  %s\n", "mutant", "rule that is broken", "events", "noticed by");
	for (int i = 1; i < FAR_MUTANT_COUNT; i++) {
		uint64_t done = 0;

		far_mutant = (enum far_mutant)i;
		memset(&total, 0, sizeof(total));
		printf("%-22s %-72s ", mutants[i].name, mutants[i].text);
		if (histories_run(options, &done) == 0) {
			printf("%12" PRIu64 "  nobody\n", total.events);
			missed++;
			continue;
		}
		printf("%12" PRIu64 "  seed %" PRIu64 ": %s\n", total.events, broken_seed,
		       broken.why);
		while (waitpid(-1, NULL, 0) > 0)
			;
	}
	printf("%d of %d mutants were noticed\n", FAR_MUTANT_COUNT - 1 - missed,
	       FAR_MUTANT_COUNT - 1);
	return missed == 0 ? 0 : 1;
}

static error_t
parse(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;
	char *end;
	unsigned long long value;

	switch (key) {
	case 'm':
		options->marks = true;
		return 0;
	case 'M':
		options->mutants = true;
		return 0;
	case 'x':
		for (int i = 1; i < FAR_MUTANT_COUNT; i++)
			if (strcmp(arg, mutants[i].name) == 0)
				far_mutant = (enum far_mutant)i;
		if (far_mutant == FAR_MUTANT_NONE)
			argp_error(state, "there is no mutant '%s'; see --mutants", arg);
		return 0;
	default:
		break;
	}
	if (key != 's' && key != 'n' && key != 'e' && key != 'a' && key != 'j')
		return ARGP_ERR_UNKNOWN;
	errno = 0;
	value = strtoull(arg, &end, 10);
	if (errno != 0 || *end != '\0' || end == arg || (key != 's' && value == 0) ||
	    (key == 'a' && value > 1000000) || (key == 'j' && value > JOBS_MAX))
		argp_error(state, "'%s' is no number that can be", arg);
	switch (key) {
	case 's':
		options->seed = value;
		break;
	case 'n':
		options->seeds = value;
		break;
	case 'e':
		options->events = value;
		options->seeds = 0;
		break;
	case 'a':
		options->actions = (uint32_t)value;
		break;
	default:
		options->jobs = (uint32_t)value;
		break;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	static const struct argp_option rows[] = {
		{"seed", 's', "N", 0, "the first seed (default 1)", 0},
		{"seeds", 'n', "N", 0, "histories (default 100)", 0},
		{"events", 'e', "N", 0, "as many histories as have N events, instead of --seeds",
		 0},
		{"actions", 'a', "N", 0, "of a history (default 3000)", 0},
		{"jobs", 'j', "N", 0, "histories at a time (default: all processors)", 0},
		{"mutant", 'x', "NAME", 0, "break this rule, and see it noticed", 0},
		{"mutants", 'M', NULL, 0, "break each rule in turn; fail if one is not noticed", 0},
		{"all-marks", 'm', NULL, 0, "fail if a rare path was never taken", 0},
		{0},
	};
	static const struct argp argp = {
		.options = rows,
		.parser = parse,
		.doc = "Racks of donors and clients over an unkind fabric, in virtual time: no "
		       "wrong byte, "
		       "nothing lost, nothing hangs. A history is a seed; one that breaks a "
		       "promise is made "
		       "short and printed.",
	};
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	struct options options = {.seed = 1, .seeds = 100, .actions = ACTIONS};
	uint64_t start_ns = far_clock_now(far_clock_real()), done = 0;
	int status;

	options.jobs = processors < 1 ? 1 : processors > JOBS_MAX ? JOBS_MAX : (uint32_t)processors;
	(void)argp_parse(&argp, argc, argv, 0, NULL, &options);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return 1;
	if (options.mutants)
		return mutants_run(&options);
	status = histories_run(&options, &done);
	if (status == 0)
		status = covered(&options);
	printf("%s: %" PRIu64 " histories from seed %" PRIu64 ", %" PRIu64 " events, %.1f s\n",
	       status == 0 ? "held" : "broken", done, options.seed, total.events,
	       (double)(far_clock_now(far_clock_real()) - start_ns) / 1e9);
	return status;
}
