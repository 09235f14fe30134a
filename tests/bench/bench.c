/* bench.c - farpool-bench: prefetch bandwidth beside memcpy and UCX, interleaved, out of cold memory. */
#include "tests/bench/bench.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rng.h"
#include "farpool/farpool.h"

#define MIB                 ((uint64_t)1 << 20)
#define SET_BYTES_DEFAULT   (512 * MIB)
#define ROUNDS_DEFAULT      9
#define REQUEST_MIB_DEFAULT 64
/* What the movers hold at the same time, in sets: two regions, UCX's donors, L1s and the donor. */
#define MOVERS_REQUIRED 3 /* the first of them; UCX may be missing */
#define SETS_NEEDED     13

const uint64_t bench_sizes[BENCH_SIZES] = {64 << 10, 1 << 20, 4 << 20};

static const struct bench_mover_ops *const movers[] = {
	&bench_memcpy,    &bench_stream,   &bench_prefetch,
#ifdef FAR_HAVE_UCX
	&bench_ucx_posix, &bench_ucx_sysv, &bench_ucx_all,
#endif
};

#define MOVER_COUNT (sizeof(movers) / sizeof(movers[0]))
_Static_assert(MOVER_COUNT <= BENCH_MOVERS_MAX, "a result for each");

uint64_t
bench_word(uint64_t seed, uint64_t idx)
{
	return far_mix64(seed ^ (idx * 0x2545f4914f6cdd1dULL));
}

void
bench_fill(void *to, uint64_t seed, uint64_t size_bytes)
{
	uint64_t *words = to;

	for (uint64_t i = 0; i < size_bytes / sizeof(*words); i++)
		words[i] = bench_word(seed, i);
}

int
bench_ends_are(const void *at, uint64_t seed, uint64_t first_word, uint64_t size_bytes)
{
	const uint64_t *words = at;
	uint64_t last = size_bytes / sizeof(*words) - 1;

	return words[0] == bench_word(seed, first_word) &&
	       words[last] == bench_word(seed, first_word + last);
}

static int
spread_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct bench_spread
bench_spread_of(const double *values, uint32_t count)
{
	double sorted[BENCH_ROUNDS_MAX];
	struct bench_spread spread = {0};

	if (count == 0)
		return spread;
	memcpy(sorted, values, count * sizeof(*values));
	qsort(sorted, count, sizeof(*sorted), spread_compare);
	spread.median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
	spread.min = sorted[0];
	spread.max = sorted[count - 1];
	return spread;
}

/* ---- options ---- */

static const struct argp_option options[] = {
	{"rounds", 'r', "N", 0, "Rounds that are counted (default 9); one more goes before them",
	 0},
	{"set", 's', "MIB", 0, "Memory that each pass moves (default 512; more than any cache)", 0},
	{"request", 'q', "MIB", 0, "Size of one prefetch (default 64)", 0},
	{"in-flight", 'f', "N", 0, "Prefetches at a time (default 2)", 0},
	{"busy-poll", 'b', "US", 0, "How long farpool's thread spins before it sleeps (default 0)",
	 0},
	{"json", 'j', "FILE", 0, "Write every round as JSON too; - is the standard output", 0},
	{"farpoold", 'd', "PATH", 0, "The donor's program (default: the one of this build)", 0},
	{0},
};

static uint64_t
option_number(const char *text, uint64_t min, uint64_t max, const char *name,
	      struct argp_state *state)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < min || value > max)
		argp_error(state, "--%s takes a number from %" PRIu64 " to %" PRIu64 ", not '%s'",
			   name, min, max, text);
	return value;
}

static error_t
option_parse(int key, char *arg, struct argp_state *state)
{
	struct bench_plan *plan = state->input;

	switch (key) {
	case 'r':
		plan->round_count =
			(uint32_t)option_number(arg, 1, BENCH_ROUNDS_MAX, "rounds", state);
		return 0;
	case 's':
		plan->set_bytes = option_number(arg, 64, 1 << 16, "set", state) / 4 * 4 * MIB;
		return 0;
	case 'q':
		plan->request_bytes = option_number(arg, 4, 256, "request", state) / 4 * 4 * MIB;
		return 0;
	case 'f':
		plan->in_flight = (uint32_t)option_number(arg, 1, 16, "in-flight", state);
		return 0;
	case 'b':
		plan->busy_poll_us = (uint32_t)option_number(arg, 0, 1000000, "busy-poll", state);
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

/* In place on a terminal, a line elsewhere; nothing ends it. */
__attribute__((format(printf, 1, 2))) static void
progress(const char *format, ...)
{
	char text[BENCH_TEXT_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%s", text);
	else if (text[0] != '\0')
		fprintf(stderr, "%s\n", text);
}

static int
regions_open(struct bench_plan *plan)
{
	uint64_t available = far_pages_available_bytes();
	int rc;

	if (available != 0 && available < SETS_NEEDED * plan->set_bytes) {
		fprintf(stderr,
			"farpool-bench: %d sets of %" PRIu64 " MiB do not fit into the %" PRIu64
			" MiB that are available: choose a smaller --set (not below 8 times the "
			"cache)\n",
			SETS_NEEDED, plan->set_bytes / MIB, available / MIB);
		return -ENOMEM;
	}
	/* Ordinary pages on both sides for all: what is compared is the way, not the page size. */
	rc = far_pages_map_shared("bench-from", plan->set_bytes, FAR_PAGES_HUGE_OFF, -1,
				  &plan->from);
	if (rc == 0)
		rc = far_pages_map_shared("bench-arena", plan->set_bytes, FAR_PAGES_HUGE_OFF, -1,
					  &plan->arena);
	if (rc < 0) {
		fprintf(stderr, "farpool-bench: no memory for the regions: %s\n", far_strerror(rc));
		return rc;
	}
	bench_fill(plan->from.base, 0, plan->set_bytes);
	return 0;
}

static void
mover_failed(struct bench_result *result, int rc)
{
	if (result->why[0] == '\0')
		snprintf(result->why, sizeof(result->why), "%s (%d)", far_strerror(rc), rc);
}

/* One pass of one mover; a mover that fails is out, with the reason. @round < 0 is not counted. */
static void
mover_pass(struct bench_result *result, struct bench_mover *mover, int size_idx, int round)
{
	uint64_t bytes = 0, ns = 1;
	int rc = result->ops->pass(mover, bench_sizes[size_idx], &bytes, &ns);

	if (rc < 0) {
		mover_failed(result, rc);
		return;
	}
	if (round >= 0)
		result->gbps[size_idx][round] = (double)bytes / (double)ns;
}

static void
rounds_run(const struct bench_plan *plan, struct bench_result *results, struct bench_mover **open)
{
	/* The first round is thrown away: it takes the page faults and connects what is lazy. */
	for (int round = -1; round < (int)plan->round_count; round++) {
		progress("round %d of %u", round + 1, plan->round_count);
		for (int s = 0; s < BENCH_SIZES; s++) {
			/* Nobody goes first every time. */
			for (size_t m = 0; m < MOVER_COUNT; m++) {
				size_t at = (m + (size_t)(round + 1)) % MOVER_COUNT;

				if (results[at].why[0] == '\0')
					mover_pass(&results[at], open[at], s, round);
			}
		}
	}
	progress("%s", "");
}

static int
bench_run(struct bench_plan *plan)
{
	static struct bench_result results[MOVER_COUNT];
	struct bench_mover *open[MOVER_COUNT] = {NULL};
	int rc = regions_open(plan);

	if (rc < 0)
		goto out;
	for (size_t m = 0; m < MOVER_COUNT; m++) {
		results[m].ops = movers[m];
		progress("opening %s", movers[m]->name);
		rc = movers[m]->open(plan, results[m].why, &open[m]);
		if (rc < 0)
			mover_failed(&results[m], rc);
	}
	rounds_run(plan, results, open);
	rc = bench_report(plan, results, MOVER_COUNT);
	for (size_t m = MOVER_COUNT; m-- > 0;) {
		if (open[m] != NULL)
			movers[m]->close(open[m]);
	}
	for (size_t m = 0; m < MOVERS_REQUIRED && rc == 0; m++)
		rc = results[m].why[0] != '\0' ? -EIO : 0;
out:
	far_pages_unmap(&plan->arena);
	far_pages_unmap(&plan->from);
	return rc;
}

int
main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = option_parse,
		.doc = "Measures farpool's prefetch from a donor on this machine beside memcpy, a "
		       "streaming copy and a UCX GET, in one run, out of memory that is in no "
		       "cache.",
	};
	struct bench_plan plan = {
		.set_bytes = SET_BYTES_DEFAULT,
		.round_count = ROUNDS_DEFAULT,
		.request_bytes = REQUEST_MIB_DEFAULT * MIB,
		.in_flight = 2,
		.farpoold = FAR_BENCH_FARPOOLD,
	};

#ifdef FAR_HAVE_UCX
	if (argc > 1 && strcmp(argv[1], BENCH_UCX_DONOR) == 0)
		return bench_ucx_donor(argc, argv);
#endif
	if (argp_parse(&argp, argc, argv, 0, NULL, &plan) != 0)
		return 2;
	far_log_level_set(FAR_LOG_WARN);
	return bench_run(&plan) == 0 ? 0 : 1;
}
