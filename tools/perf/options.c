/* options.c - perftest's letters where they mean the same, and what it has no word for. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/param.h"
#include "tools/perf/perf.h"
#include "transport/transport.h"

#define SIZE_BW_DEFAULT  65536
#define SIZE_LAT_DEFAULT 4096
#define SIZE_MAX_BYTES   ((uint64_t)1 << 30)
#define SET_DEFAULT      ((uint64_t)512 << 20)
#define ITERATIONS_BW    5000
#define ITERATIONS_LAT   1000
#define ITERATIONS_MAX   10000000
#define DEPTH_DEFAULT    128
#define LINKS_MAX        64
#define DURATION_S_MAX   3600
#define TIMEOUT_NS       (5 * FAR_NS_PER_S)
#define OUT_JSON_DEFAULT "perftest_out.json"

enum {
	KEY_GBITS = 256,
	KEY_HOT,
	KEY_SET,
	KEY_HUGE,
	KEY_TIMEOUT,
	KEY_JSON,
	KEY_CSV,
	KEY_OUT_JSON,
	KEY_OUT_JSON_FILE,
	KEY_PLOT,
	KEY_QUIET,
};

static const struct argp_option rows[] = {
	{"size", 's', "SIZE", 0, "of an operation: 65536, 64KiB (default 64KiB; lat: 4KiB)", 0},
	{"all", 'a', NULL, 0, "sizes from 2 bytes to 8 MiB", 0},
	{"iters", 'n', "N", 0, "operations of each size (default 5000; lat: 1000)", 0},
	{"duration", 'D', "SECONDS", 0, "of each size, instead of -n", 0},
	{"qp", 'q', "N", 0, "links, each with a queue pair of its own over verbs (default 1)", 0},
	{"tx-depth", 't', "N", 0, "operations in flight on a link (default 128)", 0},
	{"post_list", 'l', "N", 0,
	 "operations in a list, with one doorbell and one completion (default: up to 1 MiB, at "
	 "most "
	 "a fourth of the depth)",
	 0},
	{"events", 'e', NULL, 0, "sleep on completion events instead of polling", 0},
	{"report_gbits", KEY_GBITS, NULL, 0, "Gb/sec instead of MiB/sec", 0},
	{"use_hugepages", KEY_HUGE, NULL, 0, "2 MiB pages at this end", 0},
	{"out_json", KEY_OUT_JSON, NULL, 0, "write " OUT_JSON_DEFAULT ", all sizes in it", 0},
	{"out_json_file", KEY_OUT_JSON_FILE, "FILE", 0, "write FILE instead", 0},
	{"set", KEY_SET, "SIZE", 0,
	 "memory that is walked through, more than any cache (default 512MiB, or what the server "
	 "has)",
	 1},
	{"hot", KEY_HOT, NULL, 0, "the same bytes again and again, as perftest does", 1},
	{"json", KEY_JSON, NULL, 0, "JSON on the standard output instead of the table", 1},
	{"csv", KEY_CSV, NULL, 0, "comma-separated values instead of the table", 1},
	{"plot", KEY_PLOT, "FILE.png|FILE.svg", 0,
	 "draw it, with gnuplot: bandwidth by size (-a), latency by size or percentile", 1},
	{"quiet", KEY_QUIET, NULL, 0, "no progress line on a terminal", 1},
	{"timeout", KEY_TIMEOUT, "TIME", 0, "of connecting, and of each wait (default 5s)", 1},
	/* Of perftest, so that its command lines work: what these ask for is always so here. */
	{"CPU-freq", 'F', NULL, OPTION_HIDDEN, NULL, 2},
	{"rdma_cm", 'R', NULL, OPTION_HIDDEN, NULL, 2},
	{"ib-dev", 'd', "DEVICE", OPTION_HIDDEN, NULL, 2},
	{"ib-port", 'i', "PORT", OPTION_HIDDEN, NULL, 2},
	{"gid-index", 'x', "INDEX", OPTION_HIDDEN, NULL, 2},
	{"mtu", 'm', "MTU", OPTION_HIDDEN, NULL, 2},
	{"outs", 'o', "N", OPTION_HIDDEN, NULL, 2},
	{"port", 'p', "PORT", OPTION_HIDDEN, NULL, 2},
	{"cq-mod", 'Q', "N", OPTION_HIDDEN, NULL, 2},
	{0},
};

/* Letters of perftest that ask for what is not chosen here, and what chooses it. */
static const struct {
	int key;
	const char *instead;
} elsewhere[] = {
	{'d', "the address chooses the device: verbs:HOST:PORT, of the network that it is in"},
	{'i', "the address chooses the port: verbs:HOST:PORT, of that port's network"},
	{'x', "rdma_cm chooses the GID that belongs to the address"},
	{'m', "rdma_cm chooses the path's MTU"},
	{'o', "reads in flight are negotiated; the head of the report says how many"},
	{'p', "the port is part of the address: verbs:HOST:PORT"},
	{'Q', "each list has one completion: -l N says how long lists are"},
};

int
perf_size_parse(const char *text, uint64_t *bytes_out)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno == 0 && end != text && *end == '\0' && text[0] != '-') {
		*bytes_out = value;
		return 0;
	}
	return far_size_parse(text, bytes_out);
}

static uint64_t
number(const char *text, uint64_t min, uint64_t max, const char *what, struct argp_state *state)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < min ||
	    value > max)
		argp_error(state, "%s takes a number from %llu to %llu, not '%s'", what,
			   (unsigned long long)min, (unsigned long long)max, text);
	return value;
}

static uint64_t
size(const char *text, uint64_t min, uint64_t max, const char *what, struct argp_state *state)
{
	uint64_t bytes = 0;

	if (perf_size_parse(text, &bytes) < 0 || bytes < min || bytes > max)
		argp_error(state,
			   "%s takes a size from %llu to %llu bytes, as 65536 or 64KiB, not '%s'",
			   what, (unsigned long long)min, (unsigned long long)max, text);
	return bytes;
}

static error_t
parse_number(int key, char *arg, struct argp_state *state)
{
	struct perf_options *options = state->input;

	switch (key) {
	case 's':
		options->size_bytes = size(arg, 1, SIZE_MAX_BYTES, "-s", state);
		return 0;
	case 'n':
		options->iterations = number(arg, 1, ITERATIONS_MAX, "-n", state);
		return 0;
	case 'D':
		options->duration_ns = FAR_NS_PER_S * number(arg, 1, DURATION_S_MAX, "-D", state);
		return 0;
	case 'q':
		options->links = (uint32_t)number(arg, 1, LINKS_MAX, "-q", state);
		return 0;
	case 't':
		options->depth = (uint32_t)number(arg, 1, FAR_POST_OPS_MAX, "-t", state);
		return 0;
	case 'l':
		options->post_list = (uint32_t)number(arg, 1, FAR_POST_OPS_MAX, "-l", state);
		return 0;
	case KEY_SET:
		options->set_bytes = size(arg, 4096, (uint64_t)1 << 40, "--set", state);
		return 0;
	case KEY_TIMEOUT:
		if (far_duration_parse(arg, &options->timeout_ns) < 0 || options->timeout_ns == 0)
			argp_error(state, "--timeout takes a time, as 5s or 500ms, not '%s'", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t
parse(int key, char *arg, struct argp_state *state)
{
	struct perf_options *options = state->input;

	switch (key) {
	case 'a':
		options->all_sizes = true;
		return 0;
	case 'e':
		options->events = true;
		return 0;
	case 'F':
	case 'R':
		return 0;
	case KEY_GBITS:
		options->gbits = true;
		return 0;
	case KEY_HOT:
		options->hot = true;
		return 0;
	case KEY_HUGE:
		options->huge = true;
		return 0;
	case KEY_JSON:
		options->json = true;
		return 0;
	case KEY_CSV:
		options->csv = true;
		return 0;
	case KEY_OUT_JSON:
		if (options->json_path == NULL)
			options->json_path = OUT_JSON_DEFAULT;
		return 0;
	case KEY_OUT_JSON_FILE:
		options->json_path = arg;
		return 0;
	case KEY_PLOT:
		if (!perf_plot_path_ok(arg))
			argp_error(state,
				   "--plot takes a name that ends with .png or .svg, not '%s'",
				   arg);
		options->plot_path = arg;
		return 0;
	case KEY_QUIET:
		options->quiet = true;
		return 0;
	case ARGP_KEY_ARG:
		if (options->address != NULL)
			argp_error(state, "one server is enough: '%s' and '%s'", options->address,
				   arg);
		options->address = arg;
		return 0;
	case ARGP_KEY_END:
		if (options->json && options->csv)
			argp_error(state, "--json or --csv, not both");
		if (options->plot_path != NULL && options->test != PERF_LAT && !options->all_sizes)
			argp_error(state, "--plot draws bandwidth by size: with -a");
		if (options->post_list > options->depth)
			argp_error(state, "-l %u is more than -t %u lets in flight",
				   options->post_list, options->depth);
		return 0;
	default:
		for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
			if (elsewhere[i].key == key)
				argp_error(state, "no -%c: %s", key, elsewhere[i].instead);
		return parse_number(key, arg, state);
	}
}

void
perf_options_parse(enum perf_test test, int argc, char **argv, struct perf_options *out)
{
	static const struct argp argp = {
		.options = rows,
		.parser = parse,
		.args_doc = "[ADDRESS]",
		.doc = "Measure a transport between this process and `farpool-perf server`, "
		       "without pool "
		       "and L1.\vADDRESS is where the server listens: verbs:10.0.0.3:18515, "
		       "ucx:10.0.0.3:7473, shm:/tmp/perf.sock. Without one, a server is started on "
		       "this "
		       "host and reached over shared memory.",
	};

	*out = (struct perf_options){
		.test = test,
		.size_bytes = test == PERF_LAT ? SIZE_LAT_DEFAULT : SIZE_BW_DEFAULT,
		.iterations = test == PERF_LAT ? ITERATIONS_LAT : ITERATIONS_BW,
		.links = 1,
		.depth = DEPTH_DEFAULT,
		.set_bytes = SET_DEFAULT,
		.timeout_ns = TIMEOUT_NS,
	};
	(void)argp_parse(&argp, argc, argv, 0, NULL, out);
}
