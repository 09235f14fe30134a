/* bench_report.c - tables for people, JSON for programs; medians, and each round. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/bench.h"

#define AIM_BYTES (1ULL << 20) /* from here on an aim holds */

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double
bench_median(const double *values, uint32_t count)
{
	double sorted[BENCH_ONCE_COUNT > BENCH_ROUNDS_MAX ? BENCH_ONCE_COUNT : BENCH_ROUNDS_MAX];

	if (count == 0)
		return 0;
	memcpy(sorted, values, count * sizeof(*values));
	qsort(sorted, count, sizeof(*sorted), compare);
	return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

static const struct bench_result *
yardstick(const struct bench_result *results, size_t count, enum bench_way way)
{
	for (size_t i = 0; i < count; i++)
		if (results[i].ops->way == way &&
		    (results[i].ops == &bench_driver_load || results[i].ops == &bench_driver_store))
			return &results[i];
	return NULL;
}

/* The median of what each round gave: both sides of a round ran one after the other. */
static double
ratio(const struct bench *bench, const struct bench_result *result, const struct bench_result *to,
      int s)
{
	double ratios[BENCH_ROUNDS_MAX];

	for (uint32_t r = 0; r < bench->rounds; r++)
		ratios[r] = to->gbps[s][r] > 0 ? result->gbps[s][r] / to->gbps[s][r] : 0;
	return bench_median(ratios, bench->rounds);
}

static void
size_say(uint64_t bytes, char out[32])
{
	if (bytes < 1 << 20)
		snprintf(out, 32, "%llu KiB", (unsigned long long)bytes >> 10);
	else
		snprintf(out, 32, "%llu MiB", (unsigned long long)bytes >> 20);
}

static void
head_print(const char *title)
{
	char size[32];

	printf("\n%-18s", title);
	for (int s = 0; s < BENCH_SIZES; s++) {
		size_say(bench_sizes[s], size);
		printf("%10s", size);
	}
	printf("   64 KiB, us\n");
}

static void
row_print(const struct bench *bench, const struct bench_result *result)
{
	printf("%-18s", result->ops->name);
	if (result->why[0] != '\0') {
		printf("  not measured: %s\n", result->why);
		return;
	}
	for (int s = 0; s < BENCH_SIZES; s++)
		printf("%10.2f", bench_median(result->gbps[s], bench->rounds));
	if (result->once_count > 0)
		printf("%13.1f", bench_median(result->us, result->once_count));
	printf("\n");
}

static void
ratio_print(const struct bench *bench, const struct bench_result *result,
	    const struct bench_result *to)
{
	bool reached = true;

	printf("%-18s", result->ops->name);
	for (int s = 0; s < BENCH_SIZES; s++) {
		double share = ratio(bench, result, to, s);

		printf("%10.2f", share);
		reached = reached && (bench_sizes[s] < AIM_BYTES || share >= result->ops->aim);
	}
	if (result->ops->aim > 0)
		printf("   aim %.2f from 1 MiB on: %s", result->ops->aim,
		       reached ? "reached" : "missed");
	printf("\n");
}

static void
way_print(const struct bench *bench, const struct bench_result *results, size_t count,
	  enum bench_way way, const char *title)
{
	const struct bench_result *to = yardstick(results, count, way);

	head_print(title);
	for (size_t i = 0; i < count; i++)
		if (results[i].ops->way == way)
			row_print(bench, &results[i]);
	for (size_t i = 0; i < count && to != NULL && to->why[0] == '\0'; i++) {
		if (results[i].ops->way != way || results[i].why[0] != '\0' || &results[i] == to)
			continue;
		printf(" of driver: ");
		ratio_print(bench, &results[i], to);
	}
}

void
bench_report(const struct bench *bench, const struct bench_result *results, size_t count)
{
	const struct far_device_info *info = &bench->gpu.device->info;

	printf("%s, driver %s\n", info->name, info->driver);
	printf("GB/s, medians of %u interleaved rounds of %llu MiB; ratios are medians of each "
	       "round's\n",
	       bench->rounds, (unsigned long long)bench->set_bytes >> 20);
	for (size_t i = 0; i < count; i++)
		printf("  %-18s%s\n", results[i].ops->name, results[i].ops->text);
	way_print(bench, results, count, BENCH_HOST, "host");
	way_print(bench, results, count, BENCH_LOAD, "loads");
	way_print(bench, results, count, BENCH_STORE, "stores");
}

/* ---- JSON ---- */

/* Names and reasons of ours and the driver's: quotes and backslashes are all that could hurt. */
static void
string_print(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', file);
		fputc((unsigned char)*text < ' ' ? ' ' : *text, file);
	}
	fputc('"', file);
}

static void
pair_print(FILE *file, const char *name, const char *text)
{
	fprintf(file, "\"%s\": ", name);
	string_print(file, text);
	fputs(", ", file);
}

static void
sizes_print(FILE *file, const struct bench *bench, const struct bench_result *result,
	    const struct bench_result *to)
{
	fputs("\"sizes\": [", file);
	for (int s = 0; s < BENCH_SIZES; s++) {
		fprintf(file, "%s{\"block_bytes\": %llu, \"gbps_median\": %.3f, ",
			s > 0 ? ", " : "", (unsigned long long)bench_sizes[s],
			bench_median(result->gbps[s], bench->rounds));
		if (to != NULL && to != result && to->why[0] == '\0')
			fprintf(file, "\"ratio\": %.3f, ", ratio(bench, result, to, s));
		fputs("\"gbps_rounds\": [", file);
		for (uint32_t r = 0; r < bench->rounds; r++)
			fprintf(file, "%s%.3f", r > 0 ? ", " : "", result->gbps[s][r]);
		fputs("]}", file);
	}
	fputs("]", file);
}

int
bench_json_write(const struct bench *bench, const struct bench_result *results, size_t count,
		 const char *path)
{
	const struct far_device_info *info = &bench->gpu.device->info;
	FILE *file = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");

	if (file == NULL)
		return -EIO;
	fputs("{", file);
	pair_print(file, "farpool", FAR_VERSION);
	pair_print(file, "gpu", info->name);
	pair_print(file, "driver", info->driver);
	fprintf(file, "\"rounds\": %u, \"set_bytes\": %llu, \"movers\": [", bench->rounds,
		(unsigned long long)bench->set_bytes);
	for (size_t i = 0; i < count; i++) {
		fputs(i > 0 ? ",\n{" : "\n{", file);
		pair_print(file, "name", results[i].ops->name);
		pair_print(file, "text", results[i].ops->text);
		pair_print(file, "not_measured", results[i].why);
		if (results[i].once_count > 0)
			fprintf(file, "\"us_64kib_median\": %.2f, ",
				bench_median(results[i].us, results[i].once_count));
		fprintf(file, "\"aim\": %.2f%s", results[i].ops->aim,
			results[i].why[0] == '\0' ? ", " : "");
		if (results[i].why[0] == '\0')
			sizes_print(file, bench, &results[i],
				    yardstick(results, count, results[i].ops->way));
		fputs("}", file);
	}
	fputs("\n]}\n", file);
	if (file == stdout)
		return fflush(stdout) == 0 ? 0 : -EIO;
	return fclose(file) == 0 ? 0 : -EIO;
}
