/* pool_report.c - one table of columns: for people, as CSV, as JSON. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "tools/perf/pool.h"

#define MIB  1048576.0
#define GBIT 125000000.0
#define GB   1e9
#define US   1e3

enum figure {
	F_BYTES,
	F_BATCH,
	F_BLOCKS,
	F_REQUESTS,
	F_BW,
	F_RATE,
	F_P50,
	F_P90,
	F_P99,
	F_P999,
	F_MAX,
	F_CPU,
	F_DONOR_CPU,
	F_MESSAGES,
	F_LOOKUP,
	F_DATA,
	F_STALE,
	F_REREADS,
	F_LATE,
	F_MISSES,
	F_FAIR,
	F_MIN,
	F_AVG,
	F_CLIENTS,
	F_DONORS,
	F_KEYS,
	F_FOUND,
	F_ALL_BYTES,
	F_NS,
	F_CPU_KEY,
	F_DONOR_CPU_KEY,
	F_NOTES,
	F_EVENTS_LOST,
	F_LEAST,
	F_MOST,
	F_WRONG,
	F_CANCELLED,
	F_COUNT,
};

/* For programs: everything. */
static const struct column {
	const char *key; /* of CSV and JSON */
	int digits;
} columns[F_COUNT] = {
	[F_BYTES] = {"MsgSize", 0},
	[F_BATCH] = {"batch", 0},
	[F_BLOCKS] = {"blocks", 0},
	[F_REQUESTS] = {"n_iterations", 0},
	[F_BW] = {"BW_average", 2},
	[F_RATE] = {"MsgRate", 4},
	[F_P50] = {"t_typical", 1},
	[F_P90] = {"percentile_90", 1},
	[F_P99] = {"percentile_99", 1},
	[F_P999] = {"percentile_99.9", 1},
	[F_MAX] = {"t_max", 1},
	[F_CPU] = {"client_cpu_s_per_gb", 4},
	[F_DONOR_CPU] = {"donor_cpu_s_per_gb", 4},
	[F_MESSAGES] = {"messages", 0},
	[F_LOOKUP] = {"lookup_us", 1},
	[F_DATA] = {"data_us", 1},
	[F_STALE] = {"stale_rejects", 0},
	[F_REREADS] = {"rereads", 0},
	[F_LATE] = {"bytes_landed_after_cancel", 0},
	[F_MISSES] = {"misses", 0},
	[F_FAIR] = {"client_min_per_max", 2},
	[F_MIN] = {"t_min", 1},
	[F_AVG] = {"t_avg", 1},
	[F_CLIENTS] = {"clients", 0},
	[F_DONORS] = {"donors", 0},
	[F_KEYS] = {"keys", 0},
	[F_FOUND] = {"found", 0},
	[F_ALL_BYTES] = {"bytes", 0},
	[F_NS] = {"ns", 0},
	[F_CPU_KEY] = {"client_cpu_ns_per_key", 1},
	[F_DONOR_CPU_KEY] = {"donor_cpu_ns_per_key", 1},
	[F_NOTES] = {"touch_notes", 0},
	[F_EVENTS_LOST] = {"phases_lost", 0},
	[F_LEAST] = {"client_bytes_min", 0},
	[F_MOST] = {"client_bytes_max", 0},
	[F_WRONG] = {"wrong", 0},
	[F_CANCELLED] = {"cancelled", 0},
};

/* For people, in a line of a terminal: what a run is about. */
struct shown {
	const char *head, *unit;
	enum figure figure;
	int width;
};

static const struct shown table[] = {
	{"#bytes", "", F_BYTES, 9},   {"batch", "", F_BATCH, 6},
	{"BW avg", NULL, F_BW, 9}, /* the unit is chosen */
	{"keys", "M/sec", F_RATE, 8}, {"p50", "usec", F_P50, 9},
	{"p99", "usec", F_P99, 9},    {"max", "usec", F_MAX, 9},
	{"CPU", "s/GB", F_CPU, 7},    {"donor's", "s/GB", F_DONOR_CPU, 7},
	{"mess.", "", F_MESSAGES, 6}, {"lookup", "usec", F_LOOKUP, 8},
	{"data", "usec", F_DATA, 8},
};

/* Where no block moves. */
static const struct shown table_lookup[] = {
	{"blocks", "", F_BLOCKS, 9},
	{"batch", "", F_BATCH, 6},
	{"keys", "M/sec", F_RATE, 8},
	{"p50", "usec", F_P50, 9},
	{"p99", "usec", F_P99, 9},
	{"p99.9", "usec", F_P999, 9},
	{"max", "usec", F_MAX, 9},
	{"CPU", "ns/key", F_CPU_KEY, 8},
	{"donor's", "ns/key", F_DONOR_CPU_KEY, 8},
	{"mess.", "", F_MESSAGES, 6},
};

/* In a line of their own, and only where there is something to say. */
static const struct {
	enum figure figure;
	const char *text;
} seldom[] = {
	{F_STALE, "stale"},   {F_REREADS, "read again"}, {F_LATE, "bytes landed late"},
	{F_MISSES, "missed"}, {F_CANCELLED, "given up"}, {F_FAIR, "least client of the most"},
};

static const char *
mode_name(enum pool_mode mode)
{
	switch (mode) {
	case POOL_PREFETCH:
		return "prefetch";
	case POOL_STORE:
		return "store";
	case POOL_MIXED:
		return "mixed";
	case POOL_LOOKUP:
		return "lookup";
	case POOL_KV:
		return "kv";
	case POOL_INCAST:
		return "incast";
	case POOL_REGISTER:
		return "register";
	}
	return "";
}

static double
per(uint64_t amount, uint64_t of)
{
	return of > 0 ? (double)amount / (double)of : NAN;
}

/* What was not measured is NAN. The processor time of lines that ran at once is of all their bytes. */
static void
figures_of(const struct pool *pool, const struct pool_row *row, double out[F_COUNT])
{
	static const enum figure costs[] = {F_CPU,      F_DONOR_CPU, F_CPU_KEY, F_DONOR_CPU_KEY,
					    F_MESSAGES, F_NOTES,     F_STALE,   F_REREADS,
					    F_LATE,     F_MISSES};
	const struct pool_counts *counts = &row->counts;
	uint64_t moved = counts->loaded_bytes + counts->stored_bytes;
	double s = (double)row->ns / (double)FAR_NS_PER_S;

	out[F_BYTES] = (double)row->size_bytes;
	out[F_BATCH] = (double)row->batch;
	out[F_BLOCKS] = (double)row->blocks;
	out[F_REQUESTS] = (double)row->requests;
	out[F_BW] = row->bytes > 0 && s > 0
			    ? (double)row->bytes / s / (pool->options->gbits ? GBIT : MIB)
			    : NAN;
	out[F_RATE] = s > 0 ? (double)row->keys / s / 1e6 : NAN;
	out[F_P50] = (double)perf_hist_rank(row->hist, 0.5) / US;
	out[F_P90] = (double)perf_hist_rank(row->hist, 0.9) / US;
	out[F_P99] = (double)perf_hist_rank(row->hist, 0.99) / US;
	out[F_P999] = (double)perf_hist_rank(row->hist, 0.999) / US;
	out[F_MAX] = (double)row->hist->max / US;
	out[F_MIN] = (double)row->hist->min / US;
	out[F_AVG] = perf_hist_mean(row->hist) / US;
	out[F_CPU] = per(counts->cpu_ns, moved);
	out[F_DONOR_CPU] = counts->donor_cpu_known ? per(counts->donor_cpu_ns, moved) : NAN;
	out[F_CPU_KEY] = per(counts->cpu_ns, row->keys);
	out[F_DONOR_CPU_KEY] = counts->donor_cpu_known ? per(counts->donor_cpu_ns, row->keys) : NAN;
	out[F_MESSAGES] = (double)counts->messages;
	out[F_NOTES] = (double)counts->touch_notes;
	out[F_LOOKUP] = per(row->phases.lookup_ns, row->phases.lookups) / US;
	out[F_DATA] = per(row->phases.data_ns, row->phases.loads) / US;
	out[F_STALE] = (double)counts->stale_rejects;
	out[F_REREADS] = (double)counts->rereads;
	out[F_LATE] = (double)counts->late_bytes;
	out[F_MISSES] = (double)counts->misses;
	out[F_FAIR] = row->clients > 1 ? per(row->client_bytes_min, row->client_bytes_max) : NAN;
	out[F_CLIENTS] = (double)row->clients;
	out[F_DONORS] = (double)row->donors;
	out[F_KEYS] = (double)row->keys;
	out[F_FOUND] = pool->options->mode == POOL_LOOKUP ? (double)row->found : NAN;
	out[F_ALL_BYTES] = (double)row->bytes;
	out[F_NS] = (double)row->ns;
	out[F_EVENTS_LOST] = (double)row->phases.lost;
	out[F_LEAST] = (double)row->client_bytes_min;
	out[F_MOST] = (double)row->client_bytes_max;
	out[F_WRONG] = (double)row->wrong;
	out[F_CANCELLED] = (double)row->cancelled;
	for (size_t i = 0; row->only_times && i < sizeof(costs) / sizeof(costs[0]); i++)
		out[costs[i]] = NAN;
}

/* ---- for people ---- */

static const struct shown *
table_of(const struct pool *pool, size_t *count_out)
{
	bool lookup = pool->options->mode == POOL_LOOKUP;

	*count_out = lookup ? sizeof(table_lookup) / sizeof(table_lookup[0])
			    : sizeof(table) / sizeof(table[0]);
	return lookup ? table_lookup : table;
}

static void
head_print(const struct pool *pool)
{
	const struct pool_options *options = pool->options;
	const struct perf_place *place = &pool->place;

	printf("farpool-perf %s, farpool %s\n", mode_name(options->mode), far_version());
	printf(" Transport  : %s, %s%s\n", place->transport, pool->path,
	       place->own_server ? ", donors of our own on this host" : "");
	printf(" Donor      : %s\n", place->address);
	if (options->mode == POOL_INCAST)
		printf(" Load       : CLIENTS:DONORS as each line says, %u thread(s) each, ",
		       options->threads);
	else
		printf(" Load       : %u client(s) x %u thread(s), %u donor(s), ", options->clients,
		       options->threads,
		       options->address_count > 0 ? options->address_count : options->donors);
	if (options->rate > 0)
		printf("%.0f requests/s that arrive by themselves (latency: since due)\n",
		       options->rate);
	else
		printf("closed loop, %u in flight per thread\n", options->depth);
	if (options->mode == POOL_KV)
		printf(" Model      : %s (%s): %u layers, %llu bytes a token and rank; %llu tokens "
		       "in "
		       "chunks of %llu\n",
		       pool->shape.name, pool->shape.source, pool->shape.layers,
		       (unsigned long long)model_token_bytes(&pool->shape, options->tp),
		       (unsigned long long)options->tokens,
		       (unsigned long long)options->chunk_tokens);
	if (options->mode == POOL_LOOKUP)
		printf(" Index      : of so many blocks, last-level cache %llu MiB; keys at "
		       "random, %u "
		       "%% nobody's\n",
		       (unsigned long long)(place->llc_bytes >> 20), options->misses);
	else
		printf(" Memory     : %llu MiB at the donors, last-level cache %llu MiB%s, L1 in "
		       "pages of %llu KiB\n",
		       (unsigned long long)(place->set_bytes >> 20),
		       (unsigned long long)(place->llc_bytes >> 20),
		       place->set_bytes > place->llc_bytes ? "" : " (NOT cold: --set above it)",
		       (unsigned long long)(place->page_bytes >> 10));
	printf(" CPU        : %s, %s; RDMA: %s\n", place->cpu, place->kernel, place->rdma);
	printf(" Latency    : of one request, CLOCK_MONOTONIC; nearest rank, 0.8 %% upwards\n");
}

/* What it is, and below it what it is counted in. */
static void
heads_print(const struct pool *pool)
{
	size_t count;
	const struct shown *shown = table_of(pool, &count);

	printf(" %-12s", "test");
	for (size_t i = 0; i < count; i++)
		printf(" %*s", shown[i].width, shown[i].head);
	printf("\n %-12s", "");
	for (size_t i = 0; i < count; i++)
		printf(" %*s", shown[i].width,
		       shown[i].unit != NULL  ? shown[i].unit
		       : pool->options->gbits ? "Gb/sec"
					      : "MiB/sec");
	putchar('\n');
	fflush(stdout);
}

void
pool_report_head(const struct pool *pool)
{
	const struct pool_options *options = pool->options;

	if (options->json)
		return;
	if (options->csv) {
		printf("test");
		for (int f = 0; f < F_COUNT; f++)
			printf(",%s%s", columns[f].key,
			       f != F_BW        ? ""
			       : options->gbits ? "_gbit_s"
						: "_mib_s");
		putchar('\n');
		return;
	}
	head_print(pool);
	heads_print(pool);
}

static void
row_csv(const struct pool_row *row, const double figures[F_COUNT])
{
	printf("%s", row->what);
	for (int f = 0; f < F_COUNT; f++) {
		putchar(',');
		if (!isnan(figures[f]))
			printf("%.*f", columns[f].digits, figures[f]);
	}
	putchar('\n');
}

static void
row_print(const struct pool *pool, const struct pool_row *row, const double figures[F_COUNT])
{
	size_t count;
	const struct shown *shown = table_of(pool, &count);
	const char *before = "              ";

	printf(" %-12s", row->what);
	for (size_t i = 0; i < count; i++) {
		double value = figures[shown[i].figure];

		if (isnan(value))
			printf(" %*s", shown[i].width, "-");
		else /* what is long is so without its fraction */
			printf(" %*.*f", shown[i].width,
			       value < 1e6 ? columns[shown[i].figure].digits : 0, value);
	}
	putchar('\n');
	for (size_t i = 0; i < sizeof(seldom) / sizeof(seldom[0]); i++) {
		double value = figures[seldom[i].figure];

		if (isnan(value) || value <= 0)
			continue;
		printf("%s%s %.*f", before, seldom[i].text, columns[seldom[i].figure].digits,
		       value);
		before = ", ";
	}
	if (before[0] == ',')
		putchar('\n');
}

void
pool_report_row(const struct pool *pool, const struct pool_row *row)
{
	const struct pool_options *options = pool->options;
	double figures[F_COUNT];

	perf_progress_end(options->quiet);
	if (options->json)
		return;
	figures_of(pool, row, figures);
	if (options->csv)
		row_csv(row, figures);
	else
		row_print(pool, row, figures);
	fflush(stdout);
}

/* ---- JSON ---- */

/* Buckets that have something: [upper end in ns, count]. */
static json_t *
hist_json(const struct perf_hist *hist)
{
	json_t *buckets = json_array();

	for (uint32_t i = 0; i < PERF_HIST_BUCKETS; i++)
		if (hist->buckets[i] > 0)
			json_array_append_new(buckets,
					      json_pack("[I, I]", (json_int_t)perf_hist_upper(i),
							(json_int_t)hist->buckets[i]));
	return buckets;
}

static json_t *
row_json(const struct pool *pool, const struct pool_row *row)
{
	double figures[F_COUNT];
	json_t *object = json_object();

	figures_of(pool, row, figures);
	json_object_set_new(object, "test", json_string(row->what));
	for (int f = 0; f < F_COUNT; f++) {
		json_t *value = json_null();

		if (!isnan(figures[f]))
			value = columns[f].digits == 0 ? json_integer((json_int_t)figures[f])
						       : json_real(figures[f]);
		json_object_set_new(object, columns[f].key, value);
	}
	json_object_set_new(object, "histogram_ns", hist_json(row->hist));
	return object;
}

static json_t *
info_json(const struct pool *pool)
{
	const struct pool_options *options = pool->options;
	const struct perf_place *place = &pool->place;

	return json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:i, s:i, s:i, s:f, s:I, s:I, s:I, s:s, s:s, "
		"s:s, s:s, s:s, s:s}",
		"test", mode_name(options->mode), "version", far_version(), "transport",
		place->transport, "address", place->address, "path", pool->path, "one_sided",
		(int)place->one_sided, "clients", (int)options->clients, "threads",
		(int)options->threads, "donors",
		(int)(options->address_count > 0 ? options->address_count : options->donors),
		"TX_depth", (int)options->depth, "rate", options->rate, "set_bytes",
		(json_int_t)place->set_bytes, "llc_bytes", (json_int_t)place->llc_bytes,
		"page_bytes", (json_int_t)place->page_bytes, "unit",
		options->gbits ? "Gb/sec" : "MiB/sec", "latency",
		options->rate > 0 ? "usec since a request was due" : "usec since it was made",
		"percentiles", "nearest rank, at most 0.8 % above", "cpu", place->cpu, "kernel",
		place->kernel, "rdma_devices", place->rdma);
}

static json_t *
model_json(const struct pool *pool)
{
	const struct model_shape *shape = &pool->shape;

	return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:b, s:i, s:I, s:I, s:I}", "name",
			 shape->name, "source", shape->source, "layers", (int)shape->layers,
			 "kv_heads", (int)shape->kv_heads, "head_size", (int)shape->head_size,
			 "value_bytes", (int)shape->value_bytes, "latent", shape->latent, "tp",
			 (int)pool->options->tp, "bytes_per_token",
			 (json_int_t)model_token_bytes(shape, pool->options->tp), "tokens",
			 (json_int_t)pool->options->tokens, "chunk_tokens",
			 (json_int_t)pool->options->chunk_tokens);
}

json_t *
pool_report_json(const struct pool *pool)
{
	json_t *root = json_object(), *rows = json_array();

	for (uint32_t i = 0; i < pool->row_count; i++)
		json_array_append_new(rows, row_json(pool, &pool->rows[i]));
	json_object_set_new(root, "test_info", info_json(pool));
	if (pool->options->mode == POOL_KV)
		json_object_set_new(root, "model", model_json(pool));
	json_object_set_new(root, "results", rows);
	return root;
}

int
pool_report_end(const struct pool *pool)
{
	const struct pool_options *options = pool->options;
	size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
	int status = 0;

	if (options->json || options->json_path != NULL) {
		json_t *root = pool_report_json(pool);

		if (options->json && json_dumpf(root, stdout, flags) != 0)
			status = perf_fail("the report cannot be written: %s", strerror(errno));
		if (options->json)
			putchar('\n');
		if (options->json_path != NULL &&
		    json_dump_file(root, options->json_path, flags) != 0)
			status = perf_fail("%s cannot be written: %s", options->json_path,
					   strerror(errno));
		json_decref(root);
	}
	if (options->plot_path != NULL && pool_plot(pool) != 0)
		status = 1;
	return status;
}
