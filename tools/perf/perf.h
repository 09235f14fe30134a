/* perf.h - what the parts of farpool-perf share: what was asked for, what was measured, and where. */
#ifndef FAR_TOOLS_PERF_PERF_H
#define FAR_TOOLS_PERF_PERF_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PERF_TEXT_BYTES 256

/* What is measured; the words are the command's. */
enum perf_test {
	PERF_READ,  /* raw read: bandwidth of READs */
	PERF_WRITE, /* raw write: bandwidth of WRITEs */
	PERF_LAT,   /* raw lat: READs one at a time, post to completion */
};

/* The meaning of perftest's letters is perftest's. */
struct perf_options {
	enum perf_test test;
	const char *address;   /* of a server; NULL: one of our own on this host, over shm */
	uint64_t size_bytes;   /* -s */
	bool all_sizes;        /* -a */
	uint64_t iterations;   /* -n, of each size */
	uint64_t duration_ns;  /* -D, of each size; 0: by iterations */
	uint32_t links;        /* -q */
	uint32_t depth;        /* -t: operations in flight on a link */
	uint32_t post_list;    /* -l: operations in a list; 0: what makes it 1 MiB */
	bool events;           /* -e: sleep where nothing has completed */
	bool gbits;            /* --report_gbits */
	bool hot;              /* --hot: the same bytes again and again */
	uint64_t set_bytes;    /* --set: the memory that is walked through */
	bool huge;             /* --use_hugepages */
	uint64_t timeout_ns;   /* --timeout: of connecting, and of each wait */
	bool json;             /* --json: instead of the table */
	bool csv;              /* --csv */
	bool quiet;            /* --quiet: no progress line on a terminal */
	const char *json_path; /* --out_json, --out_json_file; NULL: none */
	const char *plot_path; /* --plot; NULL: none */
};

/* Where it was measured; strings are for people. */
struct perf_place {
	char transport[16];
	char address[PERF_TEXT_BYTES];
	bool own_server;     /* on this host, started for the test */
	bool one_sided;      /* FAR_CAP_ONE_SIDED; else the server's process moves the bytes */
	uint32_t reads_max;  /* in flight per link; 0: the transport knows no limit */
	uint64_t set_bytes;  /* walked through; the smaller of what both ends have */
	uint64_t page_bytes; /* of this end's memory */
	uint64_t peer_page_bytes;
	char peer_version[32];
	uint64_t llc_bytes; /* of the last-level cache here; 0: not known */
	char cpu[128];
	char kernel[128];
	char rdma[128]; /* active ports of this host: "mlx5_0 400 Gb/sec (4X NDR)"; "none" */
};

/* Of one size. */
struct perf_result {
	uint64_t size_bytes;
	uint64_t iterations;     /* operations that completed */
	uint64_t ns;             /* first post to last completion; latency: of all samples */
	double peak_bytes_per_s; /* 0: not searched for */
	uint64_t cpu_ns;         /* of this process meanwhile */
	uint64_t peer_cpu_ns;    /* of the server's */
	uint64_t wrong;          /* READs whose bytes were not the server's */
	uint64_t *samples;       /* latency: ns, sorted; owned: perf_result_fini() */
	uint64_t sample_count;
};

void perf_result_fini(struct perf_result *result);

/* ---- options.c ---- */

/* argv[0] is the command with its words, "farpool-perf raw read". Exits on a bad option, with 2. */
void perf_options_parse(enum perf_test test, int argc, char **argv, struct perf_options *out);

/* "64KiB", or perftest's plain number of bytes. 0 or -EINVAL. */
int perf_size_parse(const char *text, uint64_t *bytes_out);

/* ---- samples.c: percentiles by nearest rank of sorted samples, in ns ---- */

struct perf_spread {
	double min_us, max_us, typical_us, avg_us, stdev_us, p99_us, p999_us;
};

void perf_samples_sort(uint64_t *samples, uint64_t count);
/* @share: 0 to 1. @count: > 0. */
uint64_t perf_samples_rank(const uint64_t *sorted, uint64_t count, double share);
struct perf_spread perf_samples_spread(const uint64_t *sorted, uint64_t count);
/* The best rate over windows from a post to a later completion; both in order of lists. 0: too many
 * lists to search through. */
double perf_peak(const uint64_t *posted_ns, const uint64_t *done_ns, uint64_t count,
		 uint64_t list_bytes);

/* ---- place.c: what this machine is; the rest is filled by who opens a transport ---- */

void perf_place_read(struct perf_place *place);

/* ---- report.c ---- */

void perf_report_head(const struct perf_options *options, const struct perf_place *place);
/* Prints the row of one size, in whichever format it has to appear at once. */
void perf_report_row(const struct perf_options *options, const struct perf_result *result);
/* JSON of all sizes, owned by the caller; NULL: no memory. */
json_t *perf_report_json(const struct perf_options *options, const struct perf_place *place,
			 const struct perf_result *results, size_t count);
/* Writes what is due at the end: 0 or 1, the exit status, and says why. */
int perf_report_end(const struct perf_options *options, const struct perf_place *place,
		    const struct perf_result *results, size_t count);
const char *perf_test_name(enum perf_test test);
/* A line on a terminal that the next one, or the result, takes the place of. */
void perf_progress(bool quiet, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void perf_progress_end(bool quiet);

/* ---- plot.c ---- */

/* Whether gnuplot knows what to make of it: .png or .svg. */
bool perf_plot_path_ok(const char *path);
/* Bandwidth by size; latency by size or, of one, by percentile. @count: > 0. 0 or 1, and says why. */
int perf_plot(const struct perf_options *options, const struct perf_place *place,
	      const struct perf_result *results, size_t count);

/* ---- the commands; each returns the exit status ---- */

int perf_server(int argc, char **argv);
int perf_raw(enum perf_test test, int argc, char **argv);
int perf_prefetch(int argc, char **argv);
int perf_store(int argc, char **argv);
int perf_mixed(int argc, char **argv);
int perf_lookup(int argc, char **argv);
int perf_kv(int argc, char **argv);
int perf_incast(int argc, char **argv);
int perf_register(int argc, char **argv);

/* Prints "farpool-perf: ..." on stderr; returns 1. */
int perf_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
