/* l1.c - farpool-bench-l1: how many blocks a second an L1 lends, by keys, batch and threads. */
#include "tests/bench/l1.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/pages.h"
#include "tests/bench/options.h"

#define CELLS_MAX ((size_t)L1_BENCH_WHATS * L1_BENCH_SIZES_MAX * L1_BENCH_BATCHES * 2)
#define KEYS_MIN  4096
#define KEYS_MAX  50000000

static const uint32_t batches[L1_BENCH_BATCHES] = {1, 16, 256};
static const char *const names[L1_BENCH_WHATS] = {"walk", "read", "write"};

const char *
l1_bench_name(enum l1_bench_what what)
{
	return names[what];
}

/* ---- options ---- */

static const struct argp_option options[] = {
	{"keys", 'k', "N,N,...", 0, "Resident keys (default 10000,100000,1000000,10000000)", 0},
	{"batch", 'b', "N", 0, "Only this batch: 1, 16 or 256", 0},
	{"threads", 't', "N", 0, "Threads beside the figure for one (default 2)", 0},
	{"rounds", 'r', "N", 0, "Interleaved rounds (default 9)", 0},
	{"slice", 's', "MS", 0, "Length of one measurement in one round (default 50)", 0},
	{"only", 'o', "WHAT", 0, "walk, read, write or arena alone; may be given several times", 0},
	{"trace", 'T', "FILE", 0, "Sizes for the arena's part (default: the trace beside the tree)",
	 0},
	{"json", 'j', "FILE", 0, "Write every round as JSON too; - is the standard output", 0},
	{0},
};

static uint64_t
number_of(const char *text, char **end, uint64_t min, uint64_t max, struct argp_state *state)
{
	unsigned long long value;

	errno = 0;
	value = strtoull(text, end, 10);
	if (errno != 0 || *end == text || value < min || value > max)
		argp_error(state, "a number from %" PRIu64 " to %" PRIu64 " is needed, not '%s'",
			   min, max, text);
	return value;
}

static void
option_keys(struct l1_bench_plan *plan, const char *text, struct argp_state *state)
{
	char *end;

	plan->size_count = 0;
	for (;; text = end + 1) {
		if (plan->size_count == L1_BENCH_SIZES_MAX)
			argp_error(state, "--keys takes at most %d sizes", L1_BENCH_SIZES_MAX);
		plan->keys[plan->size_count++] = number_of(text, &end, KEYS_MIN, KEYS_MAX, state);
		if (*end == '\0')
			return;
		if (*end != ',')
			argp_error(state, "--keys takes numbers and commas, not '%s'", text);
	}
}

static void
option_only(struct l1_bench_plan *plan, const char *text, struct argp_state *state)
{
	for (int i = 0; i < L1_BENCH_WHATS; i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		plan->only[i] = true;
		return;
	}
	if (strcmp(text, "arena") != 0)
		argp_error(state, "--only takes walk, read, write or arena, not '%s'", text);
	plan->arenas = true;
}

static error_t
option_parse(int key, char *arg, struct argp_state *state)
{
	struct l1_bench_plan *plan = state->input;

	switch (key) {
	case 'k':
		option_keys(plan, arg, state);
		return 0;
	case 'b':
		plan->batch =
			(uint32_t)bench_option_number(arg, 1, L1_BENCH_BATCH_MAX, "batch", state);
		for (int i = 0; i < L1_BENCH_BATCHES; i++)
			if (batches[i] == plan->batch)
				return 0;
		argp_error(state, "--batch takes 1, 16 or 256, not '%s'", arg);
		return 0;
	case 't':
		plan->thread_count = (uint32_t)bench_option_number(arg, 1, L1_BENCH_THREADS_MAX,
								   "threads", state);
		return 0;
	case 'r':
		plan->round_count =
			(uint32_t)bench_option_number(arg, 1, L1_BENCH_ROUNDS_MAX, "rounds", state);
		return 0;
	case 's':
		plan->slice_ms = (uint32_t)bench_option_number(arg, 1, 10000, "slice", state);
		return 0;
	case 'o':
		option_only(plan, arg, state);
		return 0;
	case 'T':
		plan->trace = arg;
		return 0;
	case 'j':
		plan->json = arg;
		return 0;
	case ARGP_KEY_END:
		if (plan->arenas)
			return 0;
		for (int i = 0; i < L1_BENCH_WHATS; i++)
			if (plan->only[i])
				return 0;
		plan->arenas = true;
		for (int i = 0; i < L1_BENCH_WHATS; i++)
			plan->only[i] = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- the run ---- */

static size_t
cells_list(const struct l1_bench_plan *plan, struct l1_bench_cell *cells)
{
	size_t count = 0;

	for (int what = 0; what < L1_BENCH_WHATS; what++) {
		for (uint32_t s = 0; s < plan->size_count && plan->only[what]; s++) {
			for (int b = 0; b < L1_BENCH_BATCHES; b++) {
				if (plan->batch != 0 && plan->batch != batches[b])
					continue;
				for (uint32_t t = 1; t <= plan->thread_count;
				     t += plan->thread_count > 1 ? plan->thread_count - 1 : 1) {
					struct l1_bench_cell *cell = &cells[count++];

					cell->what = (enum l1_bench_what)what;
					cell->size_idx = s;
					cell->batch = batches[b];
					cell->threads = t;
				}
			}
		}
	}
	return count;
}

static int
worlds_run(const struct l1_bench_plan *plan, struct l1_bench_world *worlds,
	   struct l1_bench_cell *cells, size_t count)
{
	int rc = 0;

	if (count == 0)
		return 0;
	for (uint32_t i = 0; i < plan->size_count && rc == 0; i++) {
		fprintf(stderr, "l1: filling %" PRIu64 " keys\n", plan->keys[i]);
		rc = l1_bench_open(plan, plan->keys[i], &worlds[i]);
	}
	for (uint32_t round = 0; round < plan->round_count && rc == 0; round++) {
		fprintf(stderr, "l1: round %u of %u\n", round + 1, plan->round_count);
		for (size_t i = 0; i < count && rc == 0; i++)
			rc = l1_bench_run(plan, &worlds[cells[i].size_idx], &cells[i], round);
	}
	return rc;
}

static int
plan_measure(const struct l1_bench_plan *plan, struct l1_bench_result *result)
{
	struct l1_bench_world worlds[L1_BENCH_SIZES_MAX] = {{0}};
	int rc;

	if (getloadavg(&result->load, 1) != 1)
		result->load = 0;
	result->cell_count = cells_list(plan, result->cells);
	rc = worlds_run(plan, worlds, result->cells, result->cell_count);
	for (uint32_t i = 0; i < plan->size_count; i++)
		l1_bench_close(&worlds[i]);
	if (rc < 0)
		fprintf(stderr, "farpool-bench-l1: %s (%d)\n",
			rc == -EIO ? "an answer was not the one that was due" : strerror(-rc), rc);
	if (rc == 0 && plan->arenas)
		result->sizes_count = l1_bench_arena(plan, result->sizes, result->why);
	return rc;
}

static int
plan_run(const struct l1_bench_plan *plan)
{
	struct l1_bench_result result = {
		.cells = far_zalloc_array(CELLS_MAX, sizeof(*result.cells))};
	uint64_t available = far_pages_available_bytes();
	bool silent = plan->json != NULL && strcmp(plan->json, "-") == 0;
	int rc = -ENOMEM;

	if (available != 0 && available < l1_bench_bytes(plan))
		fprintf(stderr,
			"farpool-bench-l1: %" PRIu64 " MiB are needed and %" PRIu64
			" MiB are available: choose fewer --keys\n",
			l1_bench_bytes(plan) >> 20, available >> 20);
	else if (result.cells != NULL)
		rc = plan_measure(plan, &result);
	if (rc == 0 && !silent)
		l1_bench_report(plan, &result);
	if (rc == 0 && plan->json != NULL)
		rc = l1_bench_json(plan, &result);
	far_free(result.cells);
	return rc;
}

int
main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = option_parse,
		.doc = "Measures an L1 alone: reserve_read and finish_read of random keys; "
		       "reserve_write, the flip and finish_read of new keys, each of which evicts "
		       "another; for batches of 1, 16 and 256, beside a random walk over as many "
		       "lines of memory, which is what this machine allows. Then how full mixed "
		       "sizes keep an arena.",
	};
	struct l1_bench_plan plan = {
		.keys = {10000, 100000, 1000000, 10000000},
		.size_count = 4,
		.thread_count = 2,
		.round_count = 9,
		.slice_ms = 50,
		.trace = FAR_BENCH_TRACE,
	};

	far_log_level_set(FAR_LOG_WARN);
	if (argp_parse(&argp, argc, argv, 0, NULL, &plan) != 0)
		return 2;
	return plan_run(&plan) == 0 ? 0 : 1;
}
