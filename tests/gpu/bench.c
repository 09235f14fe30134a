/* bench.c - opens the movers, runs them in interleaved rounds, reports. */
#include "tests/gpu/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tests/gpu/donor.h"
#include "tests/gpu/runner.h"

#define SET_MIB_DEFAULT 256
#define ROUNDS_DEFAULT  7

const uint64_t bench_sizes[BENCH_SIZES] = {64ULL << 10, 256ULL << 10, 1ULL << 20,
					   4ULL << 20,  16ULL << 20,  64ULL << 20};

/* Each is opened before any runs: what writes over the pinned pattern does so when it was read. */
static const struct bench_mover_ops *const movers[] = {
	&bench_memcpy,       &bench_driver_load,   &bench_mapped_load,  &bench_free_load,
	&bench_staged_load,  &bench_client_mapped, &bench_client_awake, &bench_client_staged,
	&bench_driver_store, &bench_free_store,    &bench_staged_store, &bench_client_store,
};
#define MOVERS (sizeof(movers) / sizeof(movers[0]))

/* What it starts, and no test. */
const struct runner_test runner_tests[] = {{0}};
const struct runner_helper runner_helpers[] = {
	{"--donor", gpu_donor_run},
	{"--exposer", bench_exposer_run},
	{0},
};

static void
usage(void)
{
	puts("usage: farpool-gpu-bench [--rounds N] [--set MIB] [--only PART] [--json FILE]\n"
	     "\n"
	     "  --rounds N   interleaved rounds (default 7)\n"
	     "  --set MIB    moved per round, mover and size: a multiple of 64 (default 256)\n"
	     "  --only PART  movers whose name has this in it\n"
	     "  --json FILE  every round; - is the standard output");
}

/* Returns -1 to go on, or the exit status. */
static int
options_read(struct bench *bench, int argc, char **argv, const char **json_out)
{
	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--help") == 0 || value == NULL) {
			usage();
			return strcmp(argv[i], "--help") == 0 ? 0 : 2;
		}
		if (strcmp(argv[i], "--rounds") == 0)
			bench->rounds = (uint32_t)strtoul(value, NULL, 10);
		else if (strcmp(argv[i], "--set") == 0)
			bench->set_bytes = strtoull(value, NULL, 10) << 20;
		else if (strcmp(argv[i], "--only") == 0)
			bench->only = value;
		else if (strcmp(argv[i], "--json") == 0)
			*json_out = value;
		else
			return usage(), 2;
	}
	if (bench->rounds < 1 || bench->rounds > BENCH_ROUNDS_MAX || bench->set_bytes == 0 ||
	    bench->set_bytes % BENCH_BLOCK_MAX != 0)
		return usage(), 2;
	return -1;
}

static void
bench_open(struct bench *bench)
{
	void *pinned;

	gpu_open(&bench->gpu);
	if (bench->gpu.more.cuMemHostAlloc_fn == NULL)
		runner_skip("this driver is a stand-in: it says nothing of the speed of a GPU");
	CHECK_EQ(far_device_arena_alloc(bench->gpu.device, bench->set_bytes, &bench->arena), 0);
	CU(&bench->gpu,
	   bench->gpu.more.cuMemHostAlloc_fn(&pinned, bench->set_bytes, CU_MEMHOSTALLOC_PORTABLE));
	bench->pinned = pinned;
	gpu_pattern_fill(bench->pinned, bench->set_bytes, BENCH_SEED);
}

static void
bench_close(struct bench *bench)
{
	CU(&bench->gpu, bench->gpu.more.cuMemFreeHost_fn(bench->pinned));
	far_device_arena_free(bench->gpu.device, &bench->arena);
	gpu_close(&bench->gpu);
}

static void
round_run(struct bench *bench, struct bench_mover **open, struct bench_result *results,
	  uint32_t round)
{
	for (int s = 0; s < BENCH_SIZES; s++) {
		for (size_t m = 0; m < MOVERS; m++) {
			uint64_t ns;

			if (open[m] == NULL)
				continue;
			ns = movers[m]->pass(open[m], bench_sizes[s]);
			results[m].gbps[s][round] = (double)bench->set_bytes / (double)ns;
			if (round == 0 && movers[m]->check != NULL)
				movers[m]->check(open[m]);
		}
	}
}

/* Single blocks, in turns too. */
static void
once_run(struct bench_mover **open, struct bench_result *results)
{
	for (uint32_t i = 0; i < BENCH_ONCE_COUNT; i++) {
		for (size_t m = 0; m < MOVERS; m++) {
			if (open[m] == NULL || movers[m]->once == NULL)
				continue;
			results[m].us[i] = (double)movers[m]->once(open[m]) / 1000;
			results[m].once_count = i + 1;
		}
	}
}

static void
movers_run(struct bench *bench, struct bench_result *results)
{
	struct bench_mover *open[MOVERS] = {NULL};

	for (size_t m = 0; m < MOVERS; m++) {
		results[m].ops = movers[m];
		if (bench->only != NULL && strstr(movers[m]->name, bench->only) == NULL &&
		    movers[m] != &bench_driver_load && movers[m] != &bench_driver_store)
			snprintf(results[m].why, sizeof(results[m].why), "not asked for");
		else if (!movers[m]->open(bench, &open[m], results[m].why))
			open[m] = NULL;
	}
	for (uint32_t round = 0; round < bench->rounds; round++)
		round_run(bench, open, results, round);
	once_run(open, results);
	for (size_t m = 0; m < MOVERS; m++)
		if (open[m] != NULL)
			movers[m]->close(open[m]);
}

int
main(int argc, char **argv)
{
	static struct bench_result results[MOVERS];
	static struct bench bench = {.rounds = ROUNDS_DEFAULT,
				     .set_bytes = (uint64_t)SET_MIB_DEFAULT << 20};
	const char *json = NULL;
	int rc;

	if (argc > 1 && (strcmp(argv[1], "--donor") == 0 || strcmp(argv[1], "--exposer") == 0))
		return runner_main(argc, argv);
	rc = options_read(&bench, argc, argv, &json);
	if (rc >= 0)
		return rc;
	far_log_level_set(FAR_LOG_WARN);
	bench_open(&bench);
	movers_run(&bench, results);
	bench_report(&bench, results, MOVERS);
	rc = json == NULL ? 0 : bench_json_write(&bench, results, MOVERS, json);
	bench_close(&bench);
	if (rc < 0)
		fprintf(stderr, "farpool-gpu-bench: %s cannot be written\n", json);
	return rc < 0 ? 1 : 0;
}
