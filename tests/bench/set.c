/* set.c - the memory of a run, the pattern in it, and what all benchmarks say while they run. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "farpool/farpool.h"
#include "tests/bench/bench.h"

#define MIB ((uint64_t)1 << 20)

const uint64_t bench_sizes[BENCH_SIZES] = {64 << 10, 1 << 20, 4 << 20};
const uint64_t bench_latencies[BENCH_LATENCIES] = {BENCH_BESIDE_SMALL_BYTES, 64 << 10, 1 << 20};

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

int
bench_regions_open(struct bench_plan *plan, uint32_t sets_needed)
{
	/* Reserved ones are in nobody's count: who has too few is told when they are mapped. */
	uint64_t available = plan->huge_pages ? 0 : far_pages_available_bytes();
	enum far_pages_huge huge = plan->huge_pages ? FAR_PAGES_HUGE_ON : FAR_PAGES_HUGE_OFF;
	int rc;

	if (available != 0 && available < sets_needed * plan->set_bytes) {
		fprintf(stderr,
			"farpool-bench: %" PRIu32 " sets of %" PRIu64
			" MiB do not fit into the %" PRIu64
			" MiB that are available: choose a smaller --set (not below 8 times the "
			"cache)\n",
			sets_needed, plan->set_bytes / MIB, available / MIB);
		return -ENOMEM;
	}
	/* The same pages on both sides for all: what is compared is the way, not the page size. */
	rc = far_pages_map_shared("bench-from", plan->set_bytes, huge, -1, &plan->from);
	if (rc == 0)
		rc = far_pages_map_shared("bench-arena", plan->set_bytes, huge, -1, &plan->arena);
	if (rc < 0) {
		fprintf(stderr, "farpool-bench: no memory for the regions: %s%s\n",
			far_strerror(rc),
			plan->huge_pages ? ": reserve 2 MiB pages (vm.nr_hugepages), or leave out "
					   "--huge-pages"
					 : "");
		return rc;
	}
	bench_fill(plan->from.base, 0, plan->set_bytes);
	return 0;
}

void
bench_regions_close(struct bench_plan *plan)
{
	far_pages_unmap(&plan->arena);
	far_pages_unmap(&plan->from);
}

void
bench_progress(const char *format, ...)
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

bool
bench_child_run(int argc, char **argv, int *status_out)
{
#ifdef FAR_BENCH_UCX
	bench_ucx_quiet();
	if (argc > 1 && strcmp(argv[1], BENCH_UCX_DONOR) == 0) {
		*status_out = bench_ucx_donor(argc, argv);
		return true;
	}
#endif
	if (argc > 1 && strcmp(argv[1], BENCH_RAW_DONOR) == 0) {
		*status_out = bench_raw_donor(argc, argv);
		return true;
	}
	return false;
}
