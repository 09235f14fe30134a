/* ways.c - farpool-bench-ways: what farpool moves, beside what this machine can, interleaved, out of cold memory. */
#include "tests/bench/ways.h"

#include <argp.h>
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/helpers.h"
#include "base/log.h"
#include "tests/bench/options.h"

#define MIB                 ((uint64_t)1 << 20)
#define ROUNDS_DEFAULT      9
#define REQUEST_MIB_DEFAULT 64

static const struct bench_suite *const suites[] = {&bench_suite_shm, &bench_suite_tcp};

#define SUITE_COUNT (sizeof(suites) / sizeof(suites[0]))

struct choice {
	struct bench_plan plan;
	const struct bench_suite *only; /* NULL: all */
	uint64_t set_bytes;             /* 0: what the suite takes */
};

/* ---- options ---- */

static const struct argp_option options[] = {
	{"over", 'o', "WAY", 0, "shm or tcp alone (default: both, one after the other)", 0},
	{"rounds", 'r', "N", 0, "Rounds that are counted (default 9); one more goes before them",
	 0},
	{"set", 's', "MIB", 0,
	 "Memory that each pass moves (default 512, over tcp 256; more than any cache)", 0},
	{"request", 'q', "MIB", 0, "Size of one prefetch (default 64)", 0},
	{"in-flight", 'f', "N", 0, "Prefetches at a time (default 2)", 0},
	{"busy-poll", 'b', "US", 0, "How long farpool's thread spins before it sleeps (default 0)",
	 0},
	{"helpers", 'y', "N", 0,
	 "Threads beside it that share in copies and checksums, as far as there are processors "
	 "(default 1)",
	 0},
	{"anywhere", 'a', NULL, 0,
	 "Over tcp: let the kernel choose where both sides run, instead of half of the processors "
	 "for each",
	 0},
	{"mover", 'm', "NAME", 0, "Only this row of the tables; may be given several times", 0},
	{"json", 'j', "FILE", 0, "Write every round as JSON too; - is the standard output", 0},
	{"farpoold", 'd', "PATH", 0, "The donor's program (default: the one of this build)", 0},
	{0},
};

static const struct bench_suite *
suite_find(const char *name)
{
	for (size_t i = 0; i < SUITE_COUNT; i++)
		if (strcmp(suites[i]->name, name) == 0)
			return suites[i];
	return NULL;
}

static void
only_add(struct bench_plan *plan, const char *name, struct argp_state *state)
{
	bool known = false;
	size_t at = 0;

	for (size_t i = 0; i < SUITE_COUNT; i++)
		for (size_t m = 0; m < suites[i]->mover_count; m++)
			known = known || strcmp(suites[i]->movers[m]->name, name) == 0;
	while (at < BENCH_MOVERS_MAX && plan->only[at] != NULL)
		at++;
	if (!known || at == BENCH_MOVERS_MAX)
		argp_error(state, "--mover takes a name from the tables, not '%s'", name);
	plan->only[at] = name;
}

static error_t
option_parse(int key, char *arg, struct argp_state *state)
{
	struct choice *choice = state->input;
	struct bench_plan *plan = &choice->plan;

	switch (key) {
	case 'o':
		choice->only = suite_find(arg);
		if (choice->only == NULL)
			argp_error(state, "--over takes shm or tcp, not '%s'", arg);
		return 0;
	case 'r':
		plan->round_count =
			(uint32_t)bench_option_number(arg, 1, BENCH_ROUNDS_MAX, "rounds", state);
		return 0;
	case 's':
		choice->set_bytes =
			bench_option_number(arg, 64, 1 << 16, "set", state) / 4 * 4 * MIB;
		return 0;
	case 'q':
		plan->request_bytes =
			bench_option_number(arg, 4, 256, "request", state) / 4 * 4 * MIB;
		return 0;
	case 'f':
		plan->in_flight = (uint32_t)bench_option_number(arg, 1, 16, "in-flight", state);
		return 0;
	case 'y':
		plan->helpers =
			(uint32_t)bench_option_number(arg, 0, FAR_HELPERS_MAX, "helpers", state);
		return 0;
	case 'b':
		plan->busy_poll_us =
			(uint32_t)bench_option_number(arg, 0, 1000000, "busy-poll", state);
		return 0;
	case 'a':
		plan->anywhere = true;
		return 0;
	case 'm':
		only_add(plan, arg, state);
		return 0;
	case 'j':
		plan->json = arg;
		return 0;
	case 'd':
		plan->farpoold = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- the run ---- */

static int
suites_run(struct choice *choice)
{
	struct bench_table tables[SUITE_COUNT] = {{0}};
	struct bench_plan *plan = &choice->plan;
	bool silent = plan->json != NULL && strcmp(plan->json, "-") == 0;
	size_t count = 0;
	int rc = 0;

	for (size_t i = 0; i < SUITE_COUNT && rc == 0; i++) {
		struct bench_table *table = &tables[count];

		if (choice->only != NULL && choice->only != suites[i])
			continue;
		table->suite = suites[i];
		plan->set_bytes = choice->set_bytes != 0 ? choice->set_bytes : suites[i]->set_bytes;
		/* L1, of one set, has to hold what is in flight several times over. */
		if (plan->request_bytes > plan->set_bytes / 4)
			plan->request_bytes = plan->set_bytes / 4;
		rc = bench_suite_run(plan, table);
		/* What this machine does not have is said; it is an error for who asked for it. */
		if (rc == -ENODEV && choice->only == NULL)
			rc = 0;
		if (!silent)
			bench_report(plan, table);
		count++;
	}
	if (plan->json != NULL) {
		int rc_json = bench_json_write(plan, tables, count);

		rc = rc == 0 ? rc_json : rc;
	}
	for (size_t i = 0; i < count; i++)
		far_free(tables[i].results);
	return rc;
}

int
main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = option_parse,
		.doc = "Measures farpool's prefetch from a donor on this machine in one run beside "
		       "what the machine can do, out of memory that is in no cache: over shared "
		       "memory beside memcpy, a streaming copy and a UCX GET; over TCP on loopback "
		       "beside UCX's GET from a target that never sleeps, iperf3, ucx_perftest and "
		       "farpool's own transport without a pool, with latencies and the CPU of both "
		       "sides.",
	};
	struct choice choice = {
		.plan =
			{
				.round_count = ROUNDS_DEFAULT,
				.helpers = 1,
				.request_bytes = REQUEST_MIB_DEFAULT * MIB,
				.in_flight = 2,
				.farpoold = FAR_BENCH_FARPOOLD,
			},
	};

	int status;

	far_log_level_set(FAR_LOG_WARN);
	if (bench_child_run(argc, argv, &status))
		return status;
	if (argp_parse(&argp, argc, argv, 0, NULL, &choice) != 0)
		return 2;
	return suites_run(&choice) == 0 ? 0 : 1;
}
