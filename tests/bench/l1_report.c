/* l1_report.c - what was measured of an L1: aims first, then every line; and the same as JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "tests/bench/bench.h"
#include "tests/bench/l1.h"
#include "tests/bench/options.h"

#define AIM_READ_MOPS 10.0
#define AIM_LARGE     0.5 /* of the smallest size's rate */
#define AIM_THREADS   1.8 /* of one thread's, with two */

static const struct l1_bench_cell *
cell_find(const struct l1_bench_cell *cells, size_t count, const struct l1_bench_cell *like)
{
	for (size_t i = 0; i < count; i++)
		if (cells[i].what == like->what && cells[i].size_idx == like->size_idx &&
		    cells[i].batch == like->batch && cells[i].threads == like->threads)
			return &cells[i];
	return NULL;
}

static double
mops_of(const struct l1_bench_plan *plan, const struct l1_bench_cell *cell)
{
	return cell == NULL ? 0 : bench_spread_of(cell->mops, plan->round_count).median;
}

static double
cpu_of(const struct l1_bench_plan *plan, const struct l1_bench_cell *cell)
{
	return cell == NULL ? 0 : bench_spread_of(cell->cpu_ns, plan->round_count).median;
}

/* ---- aims ---- */

static void
aim_print(const char *text, double value, double aim)
{
	printf("  %-66s %6.2f", text, value);
	if (aim > 0)
		printf("  aim %.1f%s", aim, value < aim ? ", below" : "");
	printf("\n");
}

static void
aims_print(const struct l1_bench_plan *plan, const struct l1_bench_cell *cells, size_t count)
{
	for (int what = L1_BENCH_READ; what >= 0; what--) {
		struct l1_bench_cell like = {
			.what = (enum l1_bench_what)what, .batch = 256, .threads = 1};
		const struct l1_bench_cell *small = cell_find(cells, count, &like), *other;
		double aim = what == L1_BENCH_READ;
		char text[L1_BENCH_TEXT_BYTES];

		if (small == NULL)
			continue;
		snprintf(text, sizeof(text), "%s, %" PRIu64 " keys, one thread, M blocks/s",
			 l1_bench_name(small->what), plan->keys[0]);
		aim_print(text, mops_of(plan, small), aim * AIM_READ_MOPS);
		like.size_idx = plan->size_count - 1;
		other = cell_find(cells, count, &like);
		snprintf(text, sizeof(text), "%s, %" PRIu64 " keys, as a share of that",
			 l1_bench_name(small->what), plan->keys[like.size_idx]);
		if (plan->size_count > 1)
			aim_print(text, mops_of(plan, other) / mops_of(plan, small),
				  aim * AIM_LARGE);
		like.size_idx = 0;
		like.threads = plan->thread_count;
		other = cell_find(cells, count, &like);
		snprintf(text, sizeof(text), "%s, %" PRIu64 " keys, %u threads, as a multiple",
			 l1_bench_name(small->what), plan->keys[0], plan->thread_count);
		if (plan->thread_count > 1)
			aim_print(text, mops_of(plan, other) / mops_of(plan, small),
				  plan->thread_count == 2 ? aim * AIM_THREADS : 0);
	}
}

/* ---- tables ---- */

static void
cells_print(const struct l1_bench_plan *plan, const struct l1_bench_cell *cells, size_t count)
{
	printf("\n  %-6s %9s %6s %8s %11s %7s %7s %14s\n", "what", "keys", "batch", "threads",
	       "M blocks/s", "min", "max", "CPU ns/block");
	for (size_t i = 0; i < count; i++) {
		struct bench_spread spread = bench_spread_of(cells[i].mops, plan->round_count);

		printf("  %-6s %9" PRIu64 " %6u %8u %11.2f %7.2f %7.2f %14.1f\n",
		       l1_bench_name(cells[i].what), plan->keys[cells[i].size_idx], cells[i].batch,
		       cells[i].threads, spread.median, spread.min, spread.max,
		       cpu_of(plan, &cells[i]));
	}
	printf("\n  walk   no L1: per block a random line of an index, then a random record's, "
	       "twice an atomic addition\n  read   reserve_read and finish_read of random keys; "
	       "threads have keys of their own\n  write  reserve_write, which evicts as many, "
	       "finish_write_and_reserve_read, finish_read\n  %u interleaved rounds of %u ms, "
	       "medians; blocks of %u bytes that are never touched\n",
	       plan->round_count, plan->slice_ms, L1_BENCH_ALIGN_BYTES);
}

static void
sizes_print(const struct l1_bench_sizes *sizes, uint32_t count, const char *why)
{
	printf("\n  %-8s %9s %11s %22s %22s %10s\n", "arena", "blocks", "mean bytes",
	       "used when refused", "used while evicting", "at least");
	for (uint32_t i = 0; i < count; i++)
		printf("  %-8s %9" PRIu64 " %11" PRIu64 " %21.1f%% %21.1f%% %9.1f%%\n",
		       sizes[i].name, sizes[i].blocks, sizes[i].bytes_mean, sizes[i].refused * 100,
		       sizes[i].evicting * 100, sizes[i].evicting_min * 100);
	if (why[0] != '\0')
		printf("  NOT MEASURED on a trace: %s\n", why);
}

void
l1_bench_report(const struct l1_bench_plan *plan, const struct l1_bench_result *result)
{
	struct bench_machine machine;

	bench_machine_read(&machine);
	aims_print(plan, result->cells, result->cell_count);
	printf("\n  %s, %ld processors, cache %ld MiB, %s %s,\n  load %.1f before it began\n",
	       machine.cpu, machine.cpu_count, machine.cache_bytes >> 20, machine.system,
	       machine.release, result->load);
	if (result->cell_count > 0)
		cells_print(plan, result->cells, result->cell_count);
	if (plan->arenas)
		sizes_print(result->sizes, result->sizes_count, result->why);
	printf("\n");
}

/* ---- JSON ---- */

static json_t *
rounds_json(const double *values, uint32_t count)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(array, json_real(values[i]));
	return array;
}

static json_t *
cell_json(const struct l1_bench_plan *plan, const struct l1_bench_cell *cell)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:o, s:o}", "what",
			 l1_bench_name(cell->what), "keys", (json_int_t)plan->keys[cell->size_idx],
			 "batch", (json_int_t)cell->batch, "threads", (json_int_t)cell->threads,
			 "mops_median", mops_of(plan, cell), "cpu_ns_median", cpu_of(plan, cell),
			 "mops_rounds", rounds_json(cell->mops, plan->round_count), "cpu_ns_rounds",
			 rounds_json(cell->cpu_ns, plan->round_count));
}

int
l1_bench_json(const struct l1_bench_plan *plan, const struct l1_bench_result *result)
{
	json_t *cells = json_array(), *sizes = json_array();
	struct bench_machine machine;

	bench_machine_read(&machine);
	for (size_t i = 0; i < result->cell_count; i++)
		json_array_append_new(cells, cell_json(plan, &result->cells[i]));
	for (uint32_t i = 0; i < result->sizes_count; i++) {
		const struct l1_bench_sizes *s = &result->sizes[i];

		json_array_append_new(sizes,
				      json_pack("{s:s, s:I, s:I, s:f, s:f, s:f}", "name", s->name,
						"blocks", (json_int_t)s->blocks, "bytes_mean",
						(json_int_t)s->bytes_mean, "used_when_refused",
						s->refused, "used_while_evicting", s->evicting,
						"used_while_evicting_min", s->evicting_min));
	}
	return bench_json_put(
		json_pack("{s:s, s:o, s:f, s:I, s:I, s:s, s:o, s:o}", "farpool", FAR_VERSION,
			  "machine", bench_machine_json(&machine), "load", result->load, "rounds",
			  (json_int_t)plan->round_count, "slice_ms", (json_int_t)plan->slice_ms,
			  "trace_not_measured", result->why, "cells", cells, "arenas", sizes),
		plan->json);
}
