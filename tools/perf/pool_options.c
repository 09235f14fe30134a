/* pool_options.c - one table: letter, which modes take it, what it may be, where it goes. */
#include <argp.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/param.h"
#include "tools/perf/pool.h"

#define MIB            ((uint64_t)1 << 20)
#define BLOCK_MIN      64U
#define BLOCK_MAX      (64 * MIB)
#define SET_DEFAULT    (512 * MIB)
#define KEYS_MAX       100000000U
#define LOOKUP_MAX     1024U /* of one task of the adapter */
#define SECONDS_MAX    3600U
#define MEET_NS        (5 * FAR_NS_PER_S)
#define REQUESTS_MAX   1000000000U
#define JSON_DEFAULT   "perftest_out.json"
#define THROUGH_CLIENT (POOL_PREFETCH | POOL_STORE | POOL_MIXED | POOL_INCAST)
#define WITH_DONORS    (THROUGH_CLIENT | POOL_LOOKUP | POOL_KV)
#define EVERY          (WITH_DONORS | POOL_REGISTER)
#define AT(field)      offsetof(struct pool_options, field)

enum {
	KEY_THREADS = 256,
	KEY_WRITERS,
	KEY_CLIENTS,
	KEY_DONORS,
	KEY_RATE,
	KEY_CANCEL,
	KEY_SET,
	KEY_L1,
	KEY_KEYS,
	KEY_MISSES,
	KEY_HUGE,
	KEY_GBITS,
	KEY_OVER,
	KEY_FARPOOLD,
	KEY_CLIENT,
	KEY_TIMEOUT,
	KEY_JSON,
	KEY_CSV,
	KEY_QUIET,
	KEY_OUT_JSON,
	KEY_OUT_JSON_FILE,
	KEY_PLOT,
	KEY_MODEL,
	KEY_SHAPE,
	KEY_TOKENS,
	KEY_CHUNK,
	KEY_TP,
};

enum kind {
	FLAG,   /* bool */
	COUNT,  /* uint32_t */
	NUMBER, /* uint64_t */
	BYTES,  /* uint64_t */
	TEXT,   /* const char * */
	OTHER,  /* parse_other() */
};

static const struct row {
	const char *name;
	int key;
	const char *arg;
	const char *text;
	unsigned int modes;
	enum kind kind;
	size_t offset;
	uint64_t min, max;
} table[] = {
	{"size", 's', "SIZE[,SIZE...]", "of a block: 65536, 64KiB (default 64KiB,1MiB,4MiB)",
	 THROUGH_CLIENT, OTHER, 0, 0, 0},
	{"all", 'a', NULL, "blocks of 4 KiB to 16 MiB", THROUGH_CLIENT, OTHER, 0, 0, 0},
	{"batch", 'b', "N[,N...]", "blocks of a request (default: 16 MiB of them; lookup: 256)",
	 THROUGH_CLIENT | POOL_LOOKUP, OTHER, 0, 0, 0},
	{"iters", 'n', "N",
	 "requests of each line (default: as many as the set has; mixed, incast: 5 seconds)",
	 WITH_DONORS, NUMBER, AT(requests), 1, REQUESTS_MAX},
	{"iters", 'n', "N", "rounds of each line (default 5)", POOL_REGISTER, NUMBER, AT(requests),
	 1, 1000},
	{"duration", 'D', "SECONDS", "of each line, instead of -n", THROUGH_CLIENT | POOL_LOOKUP,
	 OTHER, 0, 0, 0},
	{"tx-depth", 't', "N", "requests in flight, per thread (default 4)",
	 POOL_PREFETCH | POOL_MIXED | POOL_INCAST | POOL_LOOKUP, COUNT, AT(depth), 1,
	 POOL_DEPTH_MAX},
	{"threads", KEY_THREADS, "N", "of each client (default 1)", THROUGH_CLIENT, COUNT,
	 AT(threads), 1, POOL_THREADS_MAX},
	{"threads", KEY_THREADS, "N",
	 "1, 2, 4 and so on up to N that register at once (default: processors, up to 8)",
	 POOL_REGISTER, COUNT, AT(threads), 1, POOL_THREADS_MAX},
	{"writers", KEY_WRITERS, "N", "threads of each client that store (default 1)", POOL_MIXED,
	 COUNT, AT(writers), 1, POOL_THREADS_MAX},
	{"clients", KEY_CLIENTS, "N",
	 "in this process, each with an L1 and links (default 1; "
	 "incast: 4)",
	 THROUGH_CLIENT, COUNT, AT(clients), 1, POOL_CLIENTS_MAX},
	{"donors", KEY_DONORS, "N", "of our own (default 1; incast: 4)",
	 WITH_DONORS & ~(unsigned int)POOL_LOOKUP, COUNT, AT(donors), 1, POOL_DONORS_MAX},
	{"rate", KEY_RATE, "PER_SECOND",
	 "requests of all threads arrive at random moments, so many a second, whether or not the "
	 "ones before have ended; latency counts from when they were due",
	 POOL_PREFETCH | POOL_STORE, OTHER, 0, 0, 0},
	{"set", KEY_SET, "SIZE", "blocks at the donors, more than any cache (default 512MiB)",
	 THROUGH_CLIENT | POOL_REGISTER, BYTES, AT(set_bytes), MIB, MIB << 20},
	{"l1", KEY_L1, "SIZE", "of each client (default: four times what is in flight, or more)",
	 THROUGH_CLIENT | POOL_KV, BYTES, AT(l1_bytes), MIB, MIB << 20},
	{"keys", KEY_KEYS, "N[,N...]", "blocks in the index (default 10000,1000000)", POOL_LOOKUP,
	 OTHER, 0, 0, 0},
	{"misses", KEY_MISSES, "PERCENT", "of the keys are nobody's (default 0)", POOL_LOOKUP,
	 COUNT, AT(misses), 0, 100},
	{"model", KEY_MODEL, "NAME", "whose KV cache it is; 'list' lists them", POOL_KV, TEXT,
	 AT(model), 0, 0},
	{"shape", KEY_SHAPE, "LAYERS,KV_HEADS,HEAD_SIZE,BYTES", "instead of --model", POOL_KV, TEXT,
	 AT(shape), 0, 0},
	{"tokens", KEY_TOKENS, "N", "of the prefix (default 8192)", POOL_KV, NUMBER, AT(tokens), 1,
	 100000000},
	{"chunk", KEY_CHUNK, "TOKENS", "of one block (default 256)", POOL_KV, NUMBER,
	 AT(chunk_tokens), 1, 65536},
	{"tp", KEY_TP, "N", "ranks of tensor parallelism; one of them is measured (default 1)",
	 POOL_KV, COUNT, AT(tp), 1, 1024},
	{"use_hugepages", KEY_HUGE, NULL, "2 MiB pages, at donors of our own too", WITH_DONORS,
	 FLAG, AT(huge), 0, 0},
	{"report_gbits", KEY_GBITS, NULL, "Gb/sec instead of MiB/sec", THROUGH_CLIENT | POOL_KV,
	 FLAG, AT(gbits), 0, 0},
	{"over", KEY_OVER, "TRANSPORT",
	 "to donors of our own: shm, ucx, verbs:10.0.0.3, an address of this host (default shm)",
	 WITH_DONORS, TEXT, AT(over), 0, 0},
	{"over", KEY_OVER, "TRANSPORT", "where there is no ADDRESS: shm, ucx (default shm)",
	 POOL_REGISTER, TEXT, AT(over), 0, 0},
	{"cancel", KEY_CANCEL, "PERCENT",
	 "of the requests are given up while they are on their way; what lands all the same is "
	 "late (default 0)",
	 POOL_PREFETCH, COUNT, AT(cancels), 0, 99},
	{"farpoold", KEY_FARPOOLD, "FILE", "the donor's program (default: beside this one)",
	 WITH_DONORS, TEXT, AT(farpoold), 0, 0},
	{"client", KEY_CLIENT, "KEY=VALUE", "one key of the clients' configuration; repeat",
	 WITH_DONORS & ~(unsigned int)POOL_LOOKUP, OTHER, 0, 0, 0},
	{"timeout", KEY_TIMEOUT, "TIME", "of connecting (default 5s)", WITH_DONORS, OTHER, 0, 0, 0},
	{"json", KEY_JSON, NULL, "JSON on the standard output instead of the table", EVERY, FLAG,
	 AT(json), 0, 0},
	{"csv", KEY_CSV, NULL, "comma-separated values instead of the table", EVERY, FLAG, AT(csv),
	 0, 0},
	{"quiet", KEY_QUIET, NULL, "no progress line on a terminal", WITH_DONORS, FLAG, AT(quiet),
	 0, 0},
	{"out_json", KEY_OUT_JSON, NULL, "write " JSON_DEFAULT ", all lines in it", EVERY, OTHER, 0,
	 0, 0},
	{"out_json_file", KEY_OUT_JSON_FILE, "FILE", "write FILE instead", EVERY, TEXT,
	 AT(json_path), 0, 0},
	{"plot", KEY_PLOT, "FILE.png|FILE.svg", "draw it, with gnuplot", WITH_DONORS, TEXT,
	 AT(plot_path), 0, 0},
};

#define ROWS (sizeof(table) / sizeof(table[0]))

static uint64_t
number(const char *text, const struct row *row, struct argp_state *state)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < row->min ||
	    value > row->max)
		argp_error(state, "--%s takes a number from %llu to %llu, not '%s'", row->name,
			   (unsigned long long)row->min, (unsigned long long)row->max, text);
	return value;
}

/* "64KiB,1MiB" */
static void
list(const char *what, char *text, bool bytes, uint64_t min, uint64_t max, uint64_t *out,
     uint32_t *count_out, struct argp_state *state)
{
	char *rest = text, *word;

	*count_out = 0;
	while ((word = strsep(&rest, ",")) != NULL) {
		uint64_t value = 0;
		int rc = bytes ? perf_size_parse(word, &value) : 0;

		if (!bytes) {
			char *end;

			value = strtoull(word, &end, 10);
			rc = end == word || *end != '\0' || word[0] == '-' ? -EINVAL : 0;
		}
		if (rc < 0 || value < min || value > max || *count_out == POOL_LIST_MAX)
			argp_error(state,
				   "%s takes up to %u of %llu to %llu, with commas, not "
				   "'%s'",
				   what, POOL_LIST_MAX, (unsigned long long)min,
				   (unsigned long long)max, word);
		else
			out[(*count_out)++] = value;
	}
}

static error_t
parse_other(int key, char *arg, struct argp_state *state)
{
	struct pool_options *options = state->input;
	unsigned long long seconds;
	char *end;

	switch (key) {
	case 's':
		list("-s", arg, true, BLOCK_MIN, BLOCK_MAX, options->sizes, &options->size_count,
		     state);
		return 0;
	case 'b':
		list("-b", arg, false, 1, POOL_BATCH_MAX, options->batches, &options->batch_count,
		     state);
		return 0;
	case 'a':
		options->size_count = 0;
		for (uint64_t size = 4096; size <= 16 * MIB; size *= 2)
			options->sizes[options->size_count++] = size;
		return 0;
	case 'D':
		seconds = strtoull(arg, &end, 10);
		if (*end != '\0' || seconds == 0 || seconds > SECONDS_MAX)
			argp_error(state, "-D takes seconds, 1 to %u, not '%s'", SECONDS_MAX, arg);
		options->duration_ns = seconds * FAR_NS_PER_S;
		return 0;
	case KEY_KEYS:
		list("--keys", arg, false, 1, KEYS_MAX, options->keys, &options->key_count, state);
		return 0;
	case KEY_RATE:
		options->rate = strtod(arg, &end);
		if (*end != '\0' || !(options->rate > 0 && options->rate <= 1e8))
			argp_error(state, "--rate takes requests per second, not '%s'", arg);
		return 0;
	case KEY_CLIENT:
		if (strchr(arg, '=') == NULL || options->set_count == POOL_SETS_MAX)
			argp_error(state, "--client takes KEY=VALUE, as replicas=2, not '%s'", arg);
		else
			options->sets[options->set_count++] = arg;
		return 0;
	case KEY_TIMEOUT:
		if (far_duration_parse(arg, &options->timeout_ns) < 0 || options->timeout_ns == 0)
			argp_error(state, "--timeout takes a time, as 5s or 500ms, not '%s'", arg);
		return 0;
	case KEY_OUT_JSON:
		if (options->json_path == NULL)
			options->json_path = JSON_DEFAULT;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void
check(const struct pool_options *options, struct argp_state *state)
{
	if (options->json && options->csv)
		argp_error(state, "--json or --csv, not both");
	if (options->requests != 0 && options->duration_ns != 0)
		argp_error(state, "-n or -D, not both");
	if (options->plot_path != NULL && !perf_plot_path_ok(options->plot_path))
		argp_error(state, "--plot takes a name that ends with .png or .svg, not '%s'",
			   options->plot_path);
	if (options->mode == POOL_KV && (options->model == NULL) == (options->shape == NULL))
		argp_error(state, "--model NAME or --shape, one of the two; --model list lists "
				  "names");
	for (uint32_t i = 0; options->mode == POOL_LOOKUP && i < options->batch_count; i++)
		if (options->batches[i] > LOOKUP_MAX)
			argp_error(state, "a lookup asks for up to %u keys, not -b %llu",
				   LOOKUP_MAX, (unsigned long long)options->batches[i]);
	if (options->mode == POOL_LOOKUP && options->address_count > 1)
		argp_error(state, "lookup asks one donor");
	if (options->mode == POOL_INCAST && options->address_count > 0)
		argp_error(state, "incast starts its own donors: no addresses");
}

static error_t
parse(int key, char *arg, struct argp_state *state)
{
	struct pool_options *options = state->input;
	char *field = (char *)options;

	if (key == ARGP_KEY_ARG) {
		bool one = options->mode == POOL_REGISTER;

		if (options->address_count == (one ? 1 : POOL_DONORS_MAX))
			argp_error(state, "'%s' is one address too many", arg);
		if (!one && strchr(arg, '=') == NULL)
			argp_error(state,
				   "'%s': donors are written NAME=ADDRESS, as "
				   "donor-a=verbs:10.0.0.3:7471",
				   arg);
		options->addresses[options->address_count++] = arg;
		return 0;
	}
	if (key == ARGP_KEY_END) {
		check(options, state);
		return 0;
	}
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *row = &table[i];

		if (row->key != key || (row->modes & options->mode) == 0)
			continue;
		switch (row->kind) {
		case FLAG:
			*(bool *)(field + row->offset) = true;
			return 0;
		case COUNT:
			*(uint32_t *)(field + row->offset) = (uint32_t)number(arg, row, state);
			return 0;
		case NUMBER:
			*(uint64_t *)(field + row->offset) = number(arg, row, state);
			return 0;
		case BYTES:
			if (perf_size_parse(arg, (uint64_t *)(field + row->offset)) < 0 ||
			    *(uint64_t *)(field + row->offset) < row->min ||
			    *(uint64_t *)(field + row->offset) > row->max)
				argp_error(state, "--%s takes a size of 1MiB and more, not '%s'",
					   row->name, arg);
			return 0;
		case TEXT:
			*(const char **)(field + row->offset) = arg;
			return 0;
		case OTHER:
			return parse_other(key, arg, state);
		}
	}
	return ARGP_ERR_UNKNOWN;
}

static const char *
doc_of(enum pool_mode mode)
{
	switch (mode) {
	case POOL_PREFETCH:
		return "Prefetch blocks from donors into L1, past what L1 holds.";
	case POOL_STORE:
		return "Write blocks into L1 and wait until the donors have committed them.";
	case POOL_MIXED:
		return "Prefetch and store at the same time.";
	case POOL_LOOKUP:
		return "Ask donors' published indexes for keys; no block moves.";
	case POOL_KV:
		return "Make the KV cache of a prefix readable: whole, and layer by layer.";
	case POOL_INCAST:
		return "Prefetch with many clients from one donor, and with one client from many.";
	case POOL_REGISTER:
		return "Map memory and register it with a transport: seconds per GiB.\vADDRESS is "
		       "one of this "
		       "host, which names the transport and the device: verbs:10.0.0.3:7471.";
	}
	return "";
}

void
pool_options_parse(enum pool_mode mode, int argc, char **argv, struct pool_options *out)
{
	struct argp_option rows[ROWS + 1] = {{0}};
	struct argp argp = {.options = rows, .parser = parse, .doc = doc_of(mode)};
	size_t count = 0;

	for (size_t i = 0; i < ROWS; i++) {
		if ((table[i].modes & (unsigned int)mode) != 0)
			rows[count++] = (struct argp_option){.name = table[i].name,
							     .key = table[i].key,
							     .arg = table[i].arg,
							     .doc = table[i].text};
	}
	if (mode == POOL_REGISTER)
		argp.args_doc = "[ADDRESS]";
	else if (mode != POOL_INCAST)
		argp.args_doc = "[NAME=ADDRESS...]";
	*out = (struct pool_options){
		.mode = mode,
		.sizes = {64U << 10, MIB, 4 * MIB},
		.size_count = 3,
		.depth = 4,
		.threads = mode == POOL_REGISTER ? 0 : 1,
		.writers = 1,
		.clients = mode == POOL_INCAST ? 4 : 1,
		.donors = mode == POOL_INCAST ? 4 : 1,
		.set_bytes = SET_DEFAULT,
		.keys = {10000, 1000000},
		.key_count = 2,
		.over = "shm",
		.timeout_ns = 5 * FAR_NS_PER_S,
		.tokens = 8192,
		.chunk_tokens = 256,
		.tp = 1,
	};
	(void)argp_parse(&argp, argc, argv, 0, NULL, out);
	/* They are to meet, whoever is faster. */
	if ((mode == POOL_MIXED || mode == POOL_INCAST) && out->requests == 0 &&
	    out->duration_ns == 0)
		out->duration_ns = MEET_NS;
}
