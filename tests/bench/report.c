/* report.c - what a benchmark run says: the ratios first, then every number, and the same as JSON. */
#include "tests/bench/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <jansson.h>

#define MIB ((uint64_t)1 << 20)
#define AIM 0.85 /* of memcpy */

struct machine {
	char cpu[128];
	struct utsname name;
	long cpu_count;
	long cache_bytes;
};

/* The kernel's word: the C library's is wrong in some virtual machines. */
static long
cache_read(void)
{
	FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
	char text[32] = "";
	long bytes = 0;

	if (file != NULL) {
		if (fgets(text, sizeof(text), file) != NULL)
			bytes = strtol(text, NULL, 10) * 1024;
		fclose(file);
	}
	return bytes > 0 ? bytes : sysconf(_SC_LEVEL3_CACHE_SIZE);
}

static void
machine_read(struct machine *machine)
{
	char line[256];
	FILE *file = fopen("/proc/cpuinfo", "r");

	memset(machine, 0, sizeof(*machine));
	snprintf(machine->cpu, sizeof(machine->cpu), "unknown processor");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || colon == NULL)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(machine->cpu, sizeof(machine->cpu), "%.120s", colon + 2);
		break;
	}
	if (file != NULL)
		fclose(file);
	uname(&machine->name);
	machine->cpu_count = sysconf(_SC_NPROCESSORS_ONLN);
	machine->cache_bytes = cache_read();
}

static void
size_text(uint64_t bytes, char *out, size_t out_bytes)
{
	if (bytes >= MIB)
		snprintf(out, out_bytes, "%" PRIu64 " MiB", bytes / MIB);
	else
		snprintf(out, out_bytes, "%" PRIu64 " KiB", bytes >> 10);
}

static const struct bench_result *
result_of(const struct bench_result *results, size_t count, const struct bench_mover_ops *ops)
{
	for (size_t i = 0; i < count; i++) {
		if (results[i].ops == ops && results[i].why[0] == '\0')
			return &results[i];
	}
	return NULL;
}

/* Of medians: a ratio per round would weigh a disturbed round twice. */
static double
ratio_of(const struct bench_plan *plan, const struct bench_result *result,
	 const struct bench_result *base, int size_idx)
{
	double top = bench_spread_of(result->gbps[size_idx], plan->round_count).median;
	double bottom = bench_spread_of(base->gbps[size_idx], plan->round_count).median;

	return bottom > 0 ? top / bottom : 0;
}

static void
ratios_print(const struct bench_plan *plan, const struct bench_result *results, size_t count)
{
	const struct bench_result *copy = result_of(results, count, &bench_memcpy);
	const struct bench_result *prefetch = result_of(results, count, &bench_prefetch);

	printf("prefetch over shm, as a share of memcpy (aim %.2f)\n", AIM);
	for (int s = 0; s < BENCH_SIZES; s++) {
		char size[32];
		double ratio;

		size_text(bench_sizes[s], size, sizeof(size));
		if (copy == NULL || prefetch == NULL) {
			printf("  %8s  not measured\n", size);
			continue;
		}
		ratio = ratio_of(plan, prefetch, copy, s);
		printf("  %8s  %.2f%s\n", size, ratio, ratio < AIM ? "  below aim" : "");
	}
}

static void
table_print(const struct bench_plan *plan, const struct bench_result *results, size_t count)
{
	const struct bench_result *copy = result_of(results, count, &bench_memcpy);

	printf("\n  %-10s %8s %9s %7s %7s %9s\n", "", "block", "GB/s", "min", "max", "x memcpy");
	for (int s = 0; s < BENCH_SIZES; s++) {
		char size[32];

		size_text(bench_sizes[s], size, sizeof(size));
		for (size_t m = 0; m < count; m++) {
			struct bench_spread spread;

			if (results[m].why[0] != '\0')
				continue;
			spread = bench_spread_of(results[m].gbps[s], plan->round_count);
			printf("  %-10s %8s %9.2f %7.2f %7.2f", results[m].ops->name, size,
			       spread.median, spread.min, spread.max);
			if (copy != NULL)
				printf(" %9.2f", ratio_of(plan, &results[m], copy, s));
			printf("\n");
		}
	}
	printf("\n");
	for (size_t m = 0; m < count; m++) {
		printf("  %-10s %s\n", results[m].ops->name, results[m].ops->text);
		if (results[m].why[0] != '\0')
			printf("  %-10s NOT MEASURED: %s\n", "", results[m].why);
	}
}

static json_t *
mover_json(const struct bench_plan *plan, const struct bench_result *result,
	   const struct bench_result *copy)
{
	json_t *object =
		json_pack("{s:s, s:s}", "name", result->ops->name, "text", result->ops->text);
	json_t *sizes = json_array();

	if (result->why[0] != '\0') {
		json_object_set_new(object, "not_measured", json_string(result->why));
		json_decref(sizes);
		return object;
	}
	for (int s = 0; s < BENCH_SIZES; s++) {
		struct bench_spread spread = bench_spread_of(result->gbps[s], plan->round_count);
		json_t *rounds = json_array();
		json_t *entry;

		for (uint32_t r = 0; r < plan->round_count; r++)
			json_array_append_new(rounds, json_real(result->gbps[s][r]));
		entry = json_pack("{s:I, s:f, s:f, s:f, s:o}", "block_bytes",
				  (json_int_t)bench_sizes[s], "gbps_median", spread.median,
				  "gbps_min", spread.min, "gbps_max", spread.max, "gbps_rounds",
				  rounds);
		if (copy != NULL)
			json_object_set_new(entry, "ratio_to_memcpy",
					    json_real(ratio_of(plan, result, copy, s)));
		json_array_append_new(sizes, entry);
	}
	json_object_set_new(object, "sizes", sizes);
	return object;
}

static int
json_write(const struct bench_plan *plan, const struct machine *machine,
	   const struct bench_result *results, size_t count)
{
	const struct bench_result *copy = result_of(results, count, &bench_memcpy);
	json_t *array = json_array();
	json_t *root;
	int rc;

	for (size_t m = 0; m < count; m++)
		json_array_append_new(array, mover_json(plan, &results[m], copy));
	root = json_pack("{s:s, s:{s:s, s:I, s:I, s:s, s:s}, s:I, s:I, s:I, s:I, s:s, s:f, s:o}",
			 "farpool", FAR_VERSION, "machine", "processor", machine->cpu, "processors",
			 (json_int_t)machine->cpu_count, "cache_bytes",
			 (json_int_t)machine->cache_bytes, "system", machine->name.sysname,
			 "release", machine->name.release, "set_bytes", (json_int_t)plan->set_bytes,
			 "rounds", (json_int_t)plan->round_count, "request_bytes",
			 (json_int_t)plan->request_bytes, "in_flight", (json_int_t)plan->in_flight,
			 "verify", "never", "aim_ratio_to_memcpy", AIM, "movers", array);
	if (root == NULL)
		return -EIO;
	if (strcmp(plan->json, "-") == 0)
		rc = json_dumpf(root, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF;
	else
		rc = json_dump_file(root, plan->json, JSON_INDENT(2)) == 0;
	json_decref(root);
	if (!rc)
		fprintf(stderr, "farpool-bench: %s cannot be written: choose another --json\n",
			plan->json);
	return rc ? 0 : -EIO;
}

int
bench_report(const struct bench_plan *plan, const struct bench_result *results, size_t count)
{
	struct machine machine;

	machine_read(&machine);
	if (plan->json != NULL && strcmp(plan->json, "-") == 0)
		return json_write(plan, &machine, results, count);
	ratios_print(plan, results, count);
	printf("\n  %s, %ld processors, cache %ld MiB, %s %s\n", machine.cpu, machine.cpu_count,
	       machine.cache_bytes >> 20, machine.name.sysname, machine.name.release);
	printf("  %u interleaved rounds, medians; each pass moves %" PRIu64
	       " MiB that are in no cache; ordinary\n  pages; one copying thread; prefetches of "
	       "%" PRIu64 " MiB, %u in flight; verify never\n",
	       plan->round_count, plan->set_bytes / MIB, plan->request_bytes / MIB,
	       plan->in_flight);
	table_print(plan, results, count);
	return plan->json != NULL ? json_write(plan, &machine, results, count) : 0;
}
