/* ways_report.c - what a suite says to people: ratios and aims first, then every number. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench/ways.h"

#define MIB ((uint64_t)1 << 20)

static const char *
size_text(uint64_t bytes, char out[32])
{
	if (bytes >= MIB)
		snprintf(out, 32, "%" PRIu64 " MiB", bytes / MIB);
	else
		snprintf(out, 32, "%" PRIu64 " KiB", bytes >> 10);
	return out;
}

static const struct bench_result *
result_of(const struct bench_table *table, enum bench_role role)
{
	for (size_t m = 0; m < table->suite->mover_count; m++)
		if (table->results[m].ops->role == role && table->results[m].why[0] == '\0')
			return &table->results[m];
	return NULL;
}

/* ---- ratios and aims ---- */

/* Of medians: a ratio per round would weigh a disturbed round twice. */
double
bench_ratio(const struct bench_plan *plan, const struct bench_table *table,
	    const struct bench_result *result, int size_idx)
{
	const struct bench_result *base = bench_yardstick(plan, table, size_idx);
	double top, bottom;

	if (base == NULL)
		return 0;
	top = bench_spread_of(result->gbps[size_idx], plan->round_count).median;
	bottom = bench_spread_of(base->gbps[size_idx], plan->round_count).median;
	return bottom > 0 ? top / bottom : 0;
}

const struct bench_result *
bench_yardstick(const struct bench_plan *plan, const struct bench_table *table, int size_idx)
{
	const struct bench_result *best = NULL;
	double best_gbps = 0;

	for (size_t m = 0; m < table->suite->mover_count; m++) {
		const struct bench_result *result = &table->results[m];
		double gbps;

		if (result->ops->role != BENCH_YARDSTICK || result->why[0] != '\0')
			continue;
		gbps = bench_spread_of(result->gbps[size_idx], plan->round_count).median;
		if (best == NULL || gbps > best_gbps) {
			best = result;
			best_gbps = gbps;
		}
	}
	return best;
}

static void
ratios_print(const struct bench_plan *plan, const struct bench_table *table)
{
	const struct bench_suite *suite = table->suite;
	const struct bench_result *subject = result_of(table, BENCH_SUBJECT);

	printf("%s, as a share of %s (aim %.2f)\n", suite->title, suite->yardstick, suite->aim);
	for (int s = 0; s < BENCH_SIZES; s++) {
		char size[32];
		double ratio;

		size_text(bench_sizes[s], size);
		if (subject == NULL || bench_yardstick(plan, table, s) == NULL) {
			printf("  %8s  not measured\n", size);
			continue;
		}
		ratio = bench_ratio(plan, table, subject, s);
		printf("  %8s  %.2f%s\n", size, ratio, ratio < suite->aim ? "  below aim" : "");
	}
}

/* The lowest median among the yardsticks; 0: there is none. */
static double
latency_best(const struct bench_table *table, int size_idx)
{
	double best = 0;

	for (size_t m = 0; m < table->suite->mover_count; m++) {
		struct bench_result *result = &table->results[m];
		double median;

		if (result->ops->role != BENCH_YARDSTICK || result->row[size_idx].count == 0)
			continue;
		median = bench_quantile(&result->row[size_idx], 0.5);
		if (best == 0 || median < best)
			best = median;
	}
	return best;
}

static void
latency_ratios_print(const struct bench_table *table)
{
	printf("latency of one block after the other, medians, as a multiple of %s (aim 1.00)\n",
	       table->suite->yardstick);
	for (int s = 0; s < BENCH_LATENCIES; s++) {
		double best = latency_best(table, s);
		char size[32];

		printf("  %8s", size_text(bench_latencies[s], size));
		for (size_t m = 0; m < table->suite->mover_count; m++) {
			struct bench_result *result = &table->results[m];
			double ratio;

			if (result->ops->role == BENCH_YARDSTICK || result->row[s].count == 0)
				continue;
			if (best == 0) {
				printf("  %s -", result->ops->name);
				continue;
			}
			ratio = bench_quantile(&result->row[s], 0.5) / best;
			printf("  %s %.2f%s", result->ops->name, ratio,
			       ratio > 1 ? ", above aim" : "");
		}
		printf("\n");
	}
}

/* ---- tables ---- */

static void
cpu_print(double seconds)
{
	if (seconds > 0)
		printf(" %9.2f", seconds);
	else
		printf(" %9s", "-");
}

static void
bandwidth_print(const struct bench_plan *plan, const struct bench_table *table)
{
	char times[32];

	snprintf(times, sizeof(times), "x %s", table->suite->yardstick);
	printf("\n  %-12s %8s %8s %7s %7s %10s %9s %9s\n", "bandwidth", "block", "GB/s", "min",
	       "max", times, "CPU s/GB", "donor's");
	for (int s = 0; s < BENCH_SIZES; s++) {
		for (size_t m = 0; m < table->suite->mover_count; m++) {
			const struct bench_result *result = &table->results[m];
			struct bench_spread spread;
			char size[32];

			if (result->why[0] != '\0')
				continue;
			spread = bench_spread_of(result->gbps[s], plan->round_count);
			printf("  %-12s %8s %8.2f %7.2f %7.2f %10.2f", result->ops->name,
			       size_text(bench_sizes[s], size), spread.median, spread.min,
			       spread.max, bench_ratio(plan, table, result, s));
			cpu_print(bench_spread_of(result->cpu[s], plan->round_count).median);
			cpu_print(bench_spread_of(result->peer_cpu[s], plan->round_count).median);
			printf("\n");
		}
	}
}

static void
quantiles_print(struct bench_samples *samples)
{
	printf(" %8.1f %8.1f", bench_quantile(samples, 0.5), bench_quantile(samples, 0.99));
}

static void
latency_print(const struct bench_table *table)
{
	printf("\n  %-12s %8s %8s %8s %8s %8s\n", "latency, us", "block", "p50", "p99", "idle p50",
	       "idle p99");
	for (int s = 0; s < BENCH_LATENCIES; s++) {
		for (size_t m = 0; m < table->suite->mover_count; m++) {
			struct bench_result *result = &table->results[m];
			char size[32];

			if (result->row[s].count == 0)
				continue;
			printf("  %-12s %8s", result->ops->name,
			       size_text(bench_latencies[s], size));
			quantiles_print(&result->row[s]);
			quantiles_print(&result->idle[s]);
			printf("\n");
		}
	}
	printf("\n  %" PRIu64 " KiB reads while %" PRIu64
	       " MiB blocks stream on the same link, us\n",
	       (uint64_t)BENCH_BESIDE_SMALL_BYTES >> 10, BENCH_BESIDE_BIG_BYTES / MIB);
	for (size_t m = 0; m < table->suite->mover_count; m++) {
		struct bench_result *result = &table->results[m];

		if (result->beside.count == 0)
			continue;
		printf("  %-12s %8s", result->ops->name, "");
		quantiles_print(&result->beside);
		printf("\n");
	}
}

static void
movers_print(const struct bench_plan *plan, const struct bench_table *table)
{
	printf("\n");
	for (size_t m = 0; m < table->suite->mover_count; m++) {
		const struct bench_result *result = &table->results[m];

		if (bench_is_left_out(plan, result->ops))
			continue;
		printf("  %-12s %s\n", result->ops->name, result->ops->text);
		if (result->note[0] != '\0')
			printf("  %-12s %s\n", "", result->note);
		if (result->why[0] != '\0')
			printf("  %-12s NOT MEASURED: %s\n", "", result->why);
	}
}

void
bench_report(const struct bench_plan *plan, const struct bench_table *table)
{
	const struct bench_suite *suite = table->suite;
	struct bench_machine machine;

	if (table->why[0] != '\0') {
		printf("%s: NOT MEASURED: %s\n\n", suite->title, table->why);
		return;
	}
	bench_machine_read(&machine);
	ratios_print(plan, table);
	if (suite->latency)
		latency_ratios_print(table);
	printf("\n  %s, %ld processors, cache %ld MiB, %s %s,\n  load %.1f before it began\n",
	       machine.cpu, machine.cpu_count, machine.cache_bytes >> 20, machine.system,
	       machine.release, table->load);
	printf("  %u interleaved rounds, medians; each pass moves %" PRIu64
	       " MiB that are in no cache;\n  %s; prefetches of %" PRIu64
	       " MiB, %u in flight; helpers: %u; verify never\n",
	       plan->round_count, table->set_bytes / MIB, bench_pages_text(plan),
	       plan->request_bytes / MIB, plan->in_flight, bench_helpers(plan));
	if (suite->apart)
		printf("  both sides %s\n", plan->anywhere
						    ? "where the kernel likes"
						    : "on their own half of the processors, as "
						      "on two hosts");
	bandwidth_print(plan, table);
	if (suite->latency)
		latency_print(table);
	movers_print(plan, table);
	printf("\n");
}
