/* pool_report.c - one table of columns: for people, as CSV, as JSON. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/perf/pool.h"

#define MIB  1048576.0
#define GBIT 125000000.0
#define GB   1e9
#define US   1e3

/* In the order of the table below. */
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
	F_TABLE_END, /* what follows is for programs */
	F_MIN = F_TABLE_END,
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

static const struct column {
	const char *head; /* NULL: not in the table for people */
	int width, digits;
	const char *key; /* of CSV and JSON */
} columns[F_COUNT] = {
	[F_BYTES] = {"#bytes", 9, 0, "MsgSize"},
	[F_BATCH] = {"batch", 6, 0, "batch"},
	[F_BLOCKS] = {"blocks", 9, 0, "blocks"},
	[F_REQUESTS] = {"#iterations", 12, 0, "n_iterations"},
	[F_BW] = {"BW average", 11, 2, "BW_average"},
	[F_RATE] = {"keys[M/sec]", 12, 4, "MsgRate"},
	[F_P50] = {"p50[usec]", 10, 1, "t_typical"},
	[F_P90] = {"p90", 10, 1, "percentile_90"},
	[F_P99] = {"p99", 10, 1, "percentile_99"},
	[F_P999] = {"p99.9", 10, 1, "percentile_99.9"},
	[F_MAX] = {"max", 10, 1, "t_max"},
	[F_CPU] = {"CPU[s/GB]", 11, 4, "client_cpu_s_per_gb"},
	[F_DONOR_CPU] = {"donor CPU", 10, 4, "donor_cpu_s_per_gb"},
	[F_MESSAGES] = {"messages", 9, 0, "messages"},
	[F_LOOKUP] = {"lookup[usec]", 13, 1, "lookup_us"},
	[F_DATA] = {"data[usec]", 11, 1, "data_us"},
	[F_STALE] = {"stale", 6, 0, "stale_rejects"},
	[F_REREADS] = {"re-read", 8, 0, "rereads"},
	[F_LATE] = {"late[B]", 11, 0, "bytes_landed_after_cancel"},
	[F_MISSES] = {"missed", 7, 0, "misses"},
	[F_FAIR] = {"min/max", 8, 2, "client_min_per_max"},
	[F_MIN] = {NULL, 0, 1, "t_min"},
	[F_AVG] = {NULL, 0, 1, "t_avg"},
	[F_CLIENTS] = {NULL, 0, 0, "clients"},
	[F_DONORS] = {NULL, 0, 0, "donors"},
	[F_KEYS] = {NULL, 0, 0, "keys"},
	[F_FOUND] = {NULL, 0, 0, "found"},
	[F_ALL_BYTES] = {NULL, 0, 0, "bytes"},
	[F_NS] = {NULL, 0, 0, "ns"},
	[F_CPU_KEY] = {NULL, 0, 1, "client_cpu_ns_per_key"},
	[F_DONOR_CPU_KEY] = {NULL, 0, 1, "donor_cpu_ns_per_key"},
	[F_NOTES] = {NULL, 0, 0, "touch_notes"},
	[F_EVENTS_LOST] = {NULL, 0, 0, "phases_lost"},
	[F_LEAST] = {NULL, 0, 0, "client_bytes_min"},
	[F_MOST] = {NULL, 0, 0, "client_bytes_max"},
	[F_WRONG] = {NULL, 0, 0, "wrong"},
	[F_CANCELLED] = {NULL, 0, 0, "cancelled"},
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

/* Where no bytes move, processor time is per key. */
static enum figure
shown(const struct pool *pool, int f)
{
	if (pool->options->mode == POOL_LOOKUP && f == F_CPU)
		return F_CPU_KEY;
	if (pool->options->mode == POOL_LOOKUP && f == F_DONOR_CPU)
		return F_DONOR_CPU_KEY;
	return (enum figure)f;
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
	printf(" %-12s", "test");
	for (int f = 0; f < F_TABLE_END; f++)
		printf(" %*s", columns[f].width,
		       shown(pool, f) == F_CPU_KEY ? "CPU[ns/key]" : columns[f].head);
	if (options->mode == POOL_LOOKUP) {
		putchar('\n');
		fflush(stdout);
		return;
	}
	printf("\n %-12s %*s\n", "",
	       columns[F_BYTES].width + columns[F_BATCH].width + columns[F_BLOCKS].width +
		       columns[F_REQUESTS].width + columns[F_BW].width + 4,
	       options->gbits ? "[Gb/sec]" : "[MiB/sec]");
	fflush(stdout);
}

void
pool_report_row(const struct pool *pool, const struct pool_row *row)
{
	const struct pool_options *options = pool->options;
	double figures[F_COUNT];
	int end = options->csv ? F_COUNT : F_TABLE_END;

	if (options->json)
		return;
	if (!options->quiet && isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
	figures_of(pool, row, figures);
	printf(options->csv ? "%s" : " %-12s", row->what);
	for (int f = 0; f < end; f++) {
		int width = options->csv ? 0 : columns[f].width;
		enum figure of = options->csv ? (enum figure)f : shown(pool, f);

		printf(options->csv ? "," : " ");
		if (isnan(figures[of]))
			printf("%*s", width, options->csv ? "" : "-");
		else
			printf("%*.*f", width, columns[of].digits, figures[of]);
	}
	putchar('\n');
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
