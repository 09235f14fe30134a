/* report.c - perftest's columns, then ours; the same as CSV and as JSON. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "farpool/farpool.h"
#include "tools/perf/perf.h"

#define MIB  1048576.0
#define GBIT 125000000.0 /* bytes: perftest's Gb are decimal, its MB are not */
#define GB   1e9
#define RULE                                                                                       \
	"------------------------------------------------------------------------------------"     \
	"-----------------------\n"

int
perf_fail(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "farpool-perf: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	return 1;
}

void
perf_progress(bool quiet, const char *fmt, ...)
{
	va_list args;

	if (quiet || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r\033[K");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
}

void
perf_progress_end(bool quiet)
{
	if (!quiet && isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
}

const char *
perf_test_name(enum perf_test test)
{
	static const char *const names[] = {"raw read", "raw write", "raw lat"};

	return names[test];
}

void
perf_result_fini(struct perf_result *result)
{
	far_free(result->samples);
	*result = (struct perf_result){0};
}

/* ---- what a result comes to ---- */

struct figures {
	double peak, average, mpps; /* in the unit that was asked for; millions of operations */
	double cpu, peer_cpu;       /* seconds per GB */
	struct perf_spread lat;
};

static struct figures
figures_of(const struct perf_options *options, const struct perf_result *result)
{
	double unit = options->gbits ? GBIT : MIB;
	double bytes = (double)result->iterations * (double)result->size_bytes;
	double s = (double)result->ns / (double)FAR_NS_PER_S;
	struct figures figures = {0};

	if (s > 0) {
		figures.average = bytes / s / unit;
		figures.mpps = (double)result->iterations / s / 1e6;
	}
	figures.peak = result->peak_bytes_per_s / unit;
	if (bytes > 0) {
		figures.cpu = (double)result->cpu_ns / GB / (bytes / GB);
		figures.peer_cpu = (double)result->peer_cpu_ns / GB / (bytes / GB);
	}
	if (result->sample_count > 0)
		figures.lat = perf_samples_spread(result->samples, result->sample_count);
	return figures;
}

static const char *
path_name(const struct perf_place *place)
{
	return place->one_sided ? "one-sided" : "served by the peer's process";
}

/* ---- table ---- */

static void
head_print(const struct perf_options *options, const struct perf_place *place)
{
	char reads[32] = "any number of";

	if (place->reads_max > 0)
		snprintf(reads, sizeof(reads), "%u", place->reads_max);
	printf(RULE "                    farpool-perf %s\n", perf_test_name(options->test));
	printf(" Transport       : %s, %s%s\n", place->transport, path_name(place),
	       place->own_server ? ", a server of our own" : "");
	printf(" Peer            : %s, farpool %s\n", place->address, place->peer_version);
	printf(" Links           : %u, tx depth %u, %s reads in flight each, %s\n", options->links,
	       options->test == PERF_LAT ? 1 : options->depth, reads,
	       options->events ? "events" : "polling");
	printf(" Memory          : %s, pages of %llu KiB here, %llu KiB there\n",
	       options->hot ? "the same bytes again and again" : "walked through, cold",
	       (unsigned long long)(place->page_bytes >> 10),
	       (unsigned long long)(place->peer_page_bytes >> 10));
	if (!options->hot)
		printf(" Set             : %llu MiB\n",
		       (unsigned long long)(place->set_bytes >> 20));
	printf(" CPU             : %s, %s\n", place->cpu, place->kernel);
	printf(" RDMA devices    : %s\n" RULE, place->rdma);
}

void
perf_report_head(const struct perf_options *options, const struct perf_place *place)
{
	const char *unit = options->gbits ? "Gb/sec" : "MiB/sec";

	if (options->json)
		return;
	if (options->csv) {
		printf(options->test == PERF_LAT
			       ? "bytes,iterations,t_min_us,t_max_us,t_typical_us,t_avg_us,t_stdev_"
				 "us,"
				 "p99_us,p999_us,client_cpu_s_per_gb,donor_cpu_s_per_gb,wrong\n"
			       : "bytes,iterations,bw_peak_%s,bw_average_%s,msg_rate_mpps,"
				 "client_cpu_s_per_gb,donor_cpu_s_per_gb,wrong\n",
		       options->gbits ? "gbit_s" : "mib_s", options->gbits ? "gbit_s" : "mib_s");
		return;
	}
	head_print(options, place);
	if (options->test == PERF_LAT)
		printf(" #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    "
		       "t_avg[usec]"
		       "    t_stdev[usec]   99%% percentile[usec]   99.9%% percentile[usec]\n");
	else
		printf(" #bytes     #iterations    BW peak[%s]    BW average[%s]   MsgRate[Mpps]"
		       "   CPU[s/GB]   donor CPU[s/GB]\n",
		       unit, unit);
	fflush(stdout);
}

static void
row_csv(const struct perf_options *options, const struct perf_result *result,
	const struct figures *f)
{
	printf("%llu,%llu,", (unsigned long long)result->size_bytes,
	       (unsigned long long)result->iterations);
	if (options->test == PERF_LAT)
		printf("%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f", f->lat.min_us, f->lat.max_us,
		       f->lat.typical_us, f->lat.avg_us, f->lat.stdev_us, f->lat.p99_us,
		       f->lat.p999_us);
	else
		printf("%.2f,%.2f,%.6f", f->peak, f->average, f->mpps);
	printf(",%.4f,%.4f,%llu\n", f->cpu, f->peer_cpu, (unsigned long long)result->wrong);
}

void
perf_report_row(const struct perf_options *options, const struct perf_result *result)
{
	struct figures f = figures_of(options, result);

	perf_progress_end(options->quiet);
	if (options->json)
		return;
	if (options->csv)
		row_csv(options, result, &f);
	else if (options->test == PERF_LAT)
		printf(" %-7llu %-10llu      %-7.2f        %-7.2f      %-7.2f         %-7.2f       "
		       " "
		       "%-7.2f         %-7.2f                 %-7.2f\n",
		       (unsigned long long)result->size_bytes,
		       (unsigned long long)result->iterations, f.lat.min_us, f.lat.max_us,
		       f.lat.typical_us, f.lat.avg_us, f.lat.stdev_us, f.lat.p99_us, f.lat.p999_us);
	else
		printf(" %-7llu    %-10llu       %-7.2f            %-7.2f             %-7.6f       "
		       " "
		       "%-7.4f     %-7.4f\n",
		       (unsigned long long)result->size_bytes,
		       (unsigned long long)result->iterations, f.peak, f.average, f.mpps, f.cpu,
		       f.peer_cpu);
	fflush(stdout);
}

/* ---- JSON: perftest's keys where it has them, and an array of results instead of the last one ---- */

static json_t *
result_json(const struct perf_options *options, const struct perf_result *result)
{
	struct figures f = figures_of(options, result);
	json_t *row = json_pack("{s:I, s:I}", "MsgSize", (json_int_t)result->size_bytes,
				"n_iterations", (json_int_t)result->iterations);

	if (row == NULL)
		return NULL;
	if (options->test == PERF_LAT) {
		json_object_set_new(row, "t_min", json_real(f.lat.min_us));
		json_object_set_new(row, "t_max", json_real(f.lat.max_us));
		json_object_set_new(row, "t_typical", json_real(f.lat.typical_us));
		json_object_set_new(row, "t_avg", json_real(f.lat.avg_us));
		json_object_set_new(row, "t_stdev", json_real(f.lat.stdev_us));
		json_object_set_new(row, "percentile_99", json_real(f.lat.p99_us));
		json_object_set_new(row, "percentile_99.9", json_real(f.lat.p999_us));
	} else {
		json_object_set_new(row, "BW_peak", json_real(f.peak));
		json_object_set_new(row, "BW_average", json_real(f.average));
		json_object_set_new(row, "MsgRate", json_real(f.mpps));
	}
	json_object_set_new(
		row, "bytes",
		json_integer((json_int_t)result->iterations * (json_int_t)result->size_bytes));
	json_object_set_new(row, "ns", json_integer((json_int_t)result->ns));
	json_object_set_new(row, "client_cpu_s_per_gb", json_real(f.cpu));
	json_object_set_new(row, "donor_cpu_s_per_gb", json_real(f.peer_cpu));
	json_object_set_new(row, "wrong", json_integer((json_int_t)result->wrong));
	return row;
}

static json_t *
info_json(const struct perf_options *options, const struct perf_place *place)
{
	return json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:i, s:i, s:s, s:s, s:I, s:b, s:I, s:I, s:s, "
		"s:s, s:s}",
		"test", perf_test_name(options->test), "version", far_version(), "peer_version",
		place->peer_version, "transport", place->transport, "address", place->address,
		"one_sided", (int)place->one_sided, "Number_of_qps", (int)options->links,
		"TX_depth", (int)options->depth, "Outstand_reads", (int)place->reads_max, "unit",
		options->test == PERF_LAT ? "usec"
		: options->gbits          ? "Gb/sec"
					  : "MiB/sec",
		"completions", options->events ? "events" : "polling", "set_bytes",
		(json_int_t)place->set_bytes, "hot", (int)options->hot, "page_bytes",
		(json_int_t)place->page_bytes, "peer_page_bytes",
		(json_int_t)place->peer_page_bytes, "cpu", place->cpu, "kernel", place->kernel,
		"rdma_devices", place->rdma);
}

json_t *
perf_report_json(const struct perf_options *options, const struct perf_place *place,
		 const struct perf_result *results, size_t count)
{
	json_t *root = json_object(), *rows = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(rows, result_json(options, &results[i]));
	json_object_set_new(root, "test_info", info_json(options, place));
	json_object_set_new(root, "results", rows);
	return root;
}

int
perf_report_end(const struct perf_options *options, const struct perf_place *place,
		const struct perf_result *results, size_t count)
{
	size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
	json_t *root;
	int status = 0;

	if (options->plot_path != NULL && perf_plot(options, place, results, count) != 0)
		status = 1;
	if (!options->json && options->json_path == NULL)
		return status;
	root = perf_report_json(options, place, results, count);
	if (options->json) {
		if (json_dumpf(root, stdout, flags) != 0)
			status = perf_fail("the report cannot be written: %s", strerror(errno));
		putchar('\n');
	}
	if (options->json_path != NULL && json_dump_file(root, options->json_path, flags) != 0)
		status = perf_fail("%s cannot be written: %s", options->json_path, strerror(errno));
	json_decref(root);
	return status;
}
