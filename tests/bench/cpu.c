/* cpu.c - farpool-bench-cpu: the processor time of a prefetch, beside the copies. */
#include "tests/bench/cpu.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/log.h"
#include "tests/bench/options.h"

#define AIM_US 20.0

static const struct cpu_row rows[] = {
	{"instant", "answers at once, moves nothing; L1 full: it evicts for each block",
	 CPU_INSTANT, 64 << 10, true, false},
	{"instant-room", "the same, and L1 has room", CPU_INSTANT, 64 << 10, false, false},
	{"recorded", "the same with the recorder on", CPU_INSTANT, 64 << 10, false, true},
	{"memory", "the memory adapter, blocks of 64 bytes; L1 full", CPU_MEMORY, 64, true, false},
	{"donor", "a farpoold over shm, blocks of 64 bytes, validated; L1 full", CPU_DONOR, 64,
	 true, false},
	{"donor-room", "the same, and L1 has room", CPU_DONOR, 64, false, false},
	{"hit", "all keys are in L1", CPU_HIT, 64 << 10, true, false},
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static const char *const part_names[CPU_PART_COUNT] = {"controllers", "l1", "adapter", "reads"};

static struct cpu_result results[ROW_COUNT];

static const struct argp_option options[] = {
	{"keys", 'k', "N", 0, "Keys of a prefetch (default 128)", 0},
	{"window", 'w', "N", 0, "prefetch.window_keys (default 64)", 0},
	{"rounds", 'r', "N", 0, "Rounds that are counted (default 9); one more goes before them",
	 0},
	{"count", 'c', "N", 0, "Prefetches of a round and a row (default 200)", 0},
	{"row", 'm', "NAME", 0, "Only this row of the table", 0},
	{"blocks", 'b', "N", 0, "Blocks that L1 holds (default 4096)", 0},
	{"json", 'j', "FILE", 0, "Write it as JSON too; - is the standard output", 0},
	{"farpoold", 'd', "PATH", 0, "The donor's program (default: the one of this build)", 0},
	{0},
};

static error_t
option_parse(int key, char *arg, struct argp_state *state)
{
	struct cpu_plan *plan = state->input;

	switch (key) {
	case 'k':
		plan->keys = (uint32_t)bench_option_number(arg, 1, 1024, "keys", state);
		return 0;
	case 'w':
		plan->window_keys = (uint32_t)bench_option_number(arg, 1, 1024, "window", state);
		return 0;
	case 'r':
		plan->round_count = (uint32_t)bench_option_number(arg, 1, 50, "rounds", state);
		return 0;
	case 'c':
		plan->prefetch_count = (uint32_t)bench_option_number(arg, 4, 200, "count", state);
		return 0;
	case 'm':
		plan->only = arg;
		return 0;
	case 'b':
		plan->l1_blocks =
			(uint32_t)bench_option_number(arg, 2048, 1 << 18, "blocks", state);
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

/* ---- what is said ---- */

static double
mean_of(const struct bench_samples *samples)
{
	double sum = 0;

	for (uint32_t i = 0; i < samples->count; i++)
		sum += samples->us[i];
	return samples->count > 0 ? sum / samples->count : 0;
}

static void
row_print(const struct cpu_plan *plan, const struct cpu_row *row, struct cpu_result *result)
{
	double median;

	if (result->why[0] != '\0') {
		printf("  %-13s not measured: %s\n", row->name, result->why);
		return;
	}
	median = bench_quantile(&result->prefetch, 0.5);
	printf("  %-13s %7.1f %7.1f %7.1f %7.1f %7.0f", row->name, median,
	       mean_of(&result->prefetch), bench_quantile(&result->prefetch, 0.1),
	       bench_quantile(&result->prefetch, 0.9), median * 1000 / plan->keys);
	for (int part = 0; part < CPU_PART_COUNT; part++)
		printf(" %11.1f", bench_quantile(&result->parts[part], 0.5));
	printf(" %7.1f %6.1f%s\n", bench_quantile(&result->release, 0.5), result->turns,
	       median > AIM_US ? "  above aim" : "");
}

static void
report(const struct cpu_plan *plan)
{
	printf("CPU time of one prefetch of %" PRIu32 " keys from submit to readable, in us "
	       "(aim %.0f)\n"
	       "  %-13s %7s %7s %7s %7s %7s %11s %11s %11s %11s %7s %6s\n",
	       plan->keys, AIM_US, "", "median", "mean", "p10", "p90", "ns/key", "controllers",
	       "l1", "adapter", "reads", "release", "turns");
	for (size_t i = 0; i < ROW_COUNT; i++)
		row_print(plan, &rows[i], &results[i]);
	printf("The clock's own %.2f us are taken off. Parts are medians of rounds of their own, "
	       "with "
	       "the stamps in them.\n",
	       results[0].clock_us);
	for (size_t i = 0; i < ROW_COUNT; i++)
		printf("  %-13s %s\n", rows[i].name, rows[i].text);
}

static json_t *
row_json(const struct cpu_row *row, struct cpu_result *result)
{
	json_t *parts = json_object();

	for (int part = 0; part < CPU_PART_COUNT; part++)
		json_object_set_new(parts, part_names[part],
				    json_real(bench_quantile(&result->parts[part], 0.5)));
	return json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "name",
		row->name, "text", row->text, "not_measured", result->why, "block_bytes",
		(json_int_t)row->block_bytes, "samples", (json_int_t)result->prefetch.count,
		"us_p50", bench_quantile(&result->prefetch, 0.5), "us_mean",
		mean_of(&result->prefetch), "us_p10", bench_quantile(&result->prefetch, 0.1),
		"us_p90", bench_quantile(&result->prefetch, 0.9), "release_us_p50",
		bench_quantile(&result->release, 0.5), "clock_us", result->clock_us, "turns",
		result->turns, "parts_us", parts);
}

static int
json_write(const struct cpu_plan *plan)
{
	json_t *array = json_array();
	struct bench_machine machine;

	bench_machine_read(&machine);
	for (size_t i = 0; i < ROW_COUNT; i++)
		json_array_append_new(array, row_json(&rows[i], &results[i]));
	return bench_json_put(
		json_pack("{s:s, s:o, s:I, s:I, s:I, s:f, s:o}", "farpool", FAR_VERSION, "machine",
			  bench_machine_json(&machine), "keys", (json_int_t)plan->keys,
			  "window_keys", (json_int_t)plan->window_keys, "l1_blocks",
			  (json_int_t)plan->l1_blocks, "aim_us", AIM_US, "rows", array),
		plan->json);
}

int
main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = option_parse,
		.doc = "Measures the processor time that one prefetch takes in controllers, L1 and "
		       "adapter, from submit until all keys are readable, with adapters whose "
		       "copies cost nothing or next to nothing.",
	};
	struct cpu_plan plan = {
		.keys = 128,
		.window_keys = 64,
		.prefetch_count = 200,
		.round_count = 9,
		.l1_blocks = 4096,
		.farpoold = FAR_BENCH_FARPOOLD,
	};
	int rc = 0;

	far_log_level_set(FAR_LOG_WARN);
	if (argp_parse(&argp, argc, argv, 0, NULL, &plan) != 0)
		return 2;
	for (size_t i = 0; i < ROW_COUNT; i++) {
		if (plan.only != NULL && strcmp(plan.only, rows[i].name) != 0)
			snprintf(results[i].why, BENCH_TEXT_BYTES, "not asked for");
		else if (cpu_row_run(&plan, &rows[i], &results[i]) < 0)
			rc = -EIO;
	}
	if (plan.json == NULL || strcmp(plan.json, "-") != 0)
		report(&plan);
	if (plan.json != NULL && json_write(&plan) < 0)
		rc = -EIO;
	return rc == 0 ? 0 : 1;
}
