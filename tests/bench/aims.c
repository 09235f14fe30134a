/* aims.c - farpool-bench: the table of aims, everything in it measured side by side in one run. */
#include "tests/bench/aims.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/helpers.h"
#include "base/log.h"
#include "base/pages.h"
#include "tests/bench/options.h"

#define MIB            ((uint64_t)1 << 20)
#define ROUNDS_DEFAULT 9
#define SET_MIN        (256 * MIB)
#define SET_MAX        (1024 * MIB) /* what it takes many times over has to fit */
#define SET_CACHES     6
#define REQUEST_BYTES  (64 * MIB)

static const struct argp_option options[] = {
	{"only", 'o', "ROW", 0,
	 "This row, or all rows that begin so: prefetch, redis-1m; may be given several times", 0},
	{"list", 'l', NULL, 0, "The rows and their aims; nothing is measured", 0},
	{"rounds", 'r', "N", 0, "Rounds that are counted (default 9); one more goes before them",
	 0},
	{"set", 's', "MIB", 0,
	 "Memory that each pass moves (default: 6 times the last-level cache, from 256 to 1024, as "
	 "it fits)",
	 0},
	{"busy-poll", 'b', "US", 0, "How long farpool's thread spins before it sleeps (default 0)",
	 0},
	{"helpers", 'y', "N", 0,
	 "Threads beside it that share in copies and checksums, as far as there are processors "
	 "(default 1)",
	 0},
	{"huge-pages", 'H', NULL, 0,
	 "2 MiB pages for all that is moved, of those that were reserved (vm.nr_hugepages), "
	 "instead "
	 "of ordinary ones",
	 0},
	{"anywhere", 'a', NULL, 0,
	 "Over tcp: let the kernel choose where both sides run, instead of half of the processors "
	 "for each",
	 0},
	{"json", 'j', "FILE", 0,
	 "Where every round goes as JSON; - is the standard output, in the table's place", 0},
	{"farpoold", 'd', "PATH", 0, "The donor's program (default: the one of this build)", 0},
	{0},
};

static void
only_add(struct aims *aims, const char *name, struct argp_state *state)
{
	bool known = false;

	for (size_t r = 0; r < aims_row_count; r++)
		known = known || strncmp(aims_rows[r].name, name, strlen(name)) == 0;
	if (!known || name[0] == '\0')
		argp_error(state, "no row '%s'; --list lists them", name);
	if (aims->only_count == AIMS_ONLY_MAX)
		argp_error(state, "--only is given more than %d times", AIMS_ONLY_MAX);
	aims->only[aims->only_count++] = name;
}

static error_t
option_parse(int key, char *arg, struct argp_state *state)
{
	struct aims *aims = state->input;
	struct bench_plan *plan = &aims->plan;

	switch (key) {
	case 'o':
		only_add(aims, arg, state);
		return 0;
	case 'l':
		aims_list();
		exit(0);
	case 'r':
		plan->round_count =
			(uint32_t)bench_option_number(arg, 1, AIMS_ROUNDS_MAX, "rounds", state);
		return 0;
	case 's':
		plan->set_bytes = bench_option_number(arg, 64, 1 << 16, "set", state) / 4 * 4 * MIB;
		return 0;
	case 'y':
		plan->helpers =
			(uint32_t)bench_option_number(arg, 0, FAR_HELPERS_MAX, "helpers", state);
		return 0;
	case 'b':
		plan->busy_poll_us =
			(uint32_t)bench_option_number(arg, 0, 1000000, "busy-poll", state);
		return 0;
	case 'H':
		plan->huge_pages = true;
		return 0;
	case 'a':
		plan->anywhere = true;
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

/* Several times the cache, so that what comes round again is not in it; less where that many sets do not
 * fit beside what others have. The table says how many times it is. */
static uint64_t
set_default(bool huge_pages)
{
	struct bench_machine machine;
	/* A quarter is the stores' donor's. */
	uint64_t bytes, fits = far_pages_available_bytes() / 8 * 5 / AIMS_SETS_MAX;

	bench_machine_read(&machine);
	bytes = (uint64_t)machine.cache_bytes * SET_CACHES;
	if (bytes > SET_MAX)
		bytes = SET_MAX;
	if (fits != 0 && bytes > fits && !huge_pages) /* reserved ones are in nobody's count */
		bytes = fits;
	bytes = bytes / (4 * MIB) * (4 * MIB);
	return bytes < SET_MIN ? SET_MIN : bytes;
}

static int
aims_measure(struct aims *aims)
{
	struct bench_plan *plan = &aims->plan;
	int rc, rc_json = 0;

	/* L1, of one set, has to hold what is in flight several times over. */
	plan->request_bytes = REQUEST_BYTES;
	if (plan->request_bytes > plan->set_bytes / 4)
		plan->request_bytes = plan->set_bytes / 4;
	aims->runs = far_zalloc_array(AIMS_RUNS_MAX, sizeof(*aims->runs));
	if (aims->runs == NULL)
		return -ENOMEM;
	bench_versions_get(aims->versions, &aims->version_count);
	rc = aims_run_all(aims);
	if (plan->json == NULL || strcmp(plan->json, "-") != 0)
		aims_report(aims);
	if (plan->json != NULL)
		rc_json = aims_json_write(aims);
	if (plan->json != NULL && rc_json == 0 && strcmp(plan->json, "-") != 0)
		printf("\nevery round: %s\n", plan->json);
	far_free(aims->runs);
	return rc == 0 ? rc_json : rc;
}

int
main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = option_parse,
		.doc = "Measures what farpool aims at, side by side with its yardsticks in "
		       "interleaved rounds of one run, out of memory that is in no cache: "
		       "prefetches and stores beside copies, UCX and Redis, lookups, processor "
		       "time and messages. A row below its aim says so, and is no failure; 1 is "
		       "returned where something of farpool's could not be measured.",
	};
	static struct aims aims = {
		.plan =
			{
				.round_count = ROUNDS_DEFAULT,
				.helpers = 1,
				.in_flight = 2,
				.farpoold = FAR_BENCH_FARPOOLD,
			},
	};
	int status;

	far_log_level_set(FAR_LOG_WARN);
	if (bench_child_run(argc, argv, &status))
		return status;
	aims.plan.set_bytes = set_default(aims.plan.huge_pages);
	if (argp_parse(&argp, argc, argv, 0, NULL, &aims) != 0)
		return 2;
	return aims_measure(&aims) == 0 ? 0 : 1;
}
