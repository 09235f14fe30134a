/* replay_command.c - farpool replay: its options, and what is checked before the first request. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/param.h"
#include "tools/cli/cli.h"
#include "tools/cli/replay.h"
#include "wire/index.h"

enum option_key {
	OPTION_GENERATE = 256,
	OPTION_SEED,
	OPTION_DEADLINE,
	OPTION_QUIET,
	OPTION_SUMMARY,
	OPTION_MEMORY,
	OPTION_DEVICE,
};

struct replay_options {
	struct far_cli_common common;
	const char *trace_path;
	uint64_t generate; /* conversations */
	uint64_t seed;
	uint64_t requests_max;
	uint64_t block_bytes;
	const char *l1_size;
	const char *memory;
	const char *device;
	double speed;
	uint64_t deadline_ns;
	bool quiet;
	bool summary; /* only say what the trace holds */
};

static const struct argp_option options[] = {
	{"trace", 'T', "FILE", 0, "JSON lines with timestamp and hash_ids, also .gz", 0},
	{"generate", OPTION_GENERATE, "N", 0,
	 "no trace: make N multi-turn conversations (default 200)", 0},
	{"seed", OPTION_SEED, "N", 0, "of the generator (default 1)", 0},
	{"requests", 'n', "N", 0, "stop after N requests", 0},
	{"block", 'b', "SIZE", 0, "bytes of a block (default 4KiB)", 0},
	{"l1", 'l', "SIZE", 0, "the client's L1 (default 256MiB, or the configuration's)", 0},
	{"memory", OPTION_MEMORY, "host|cuda", 0,
	 "where L1 lies (default host, or the configuration's); every byte is checked on a GPU too",
	 0},
	{"device", OPTION_DEVICE, "N", 0, "which GPU (default 0, or the configuration's)", 0},
	{"pace", 'p', "max|real|xN", 0,
	 "max: one request after the other, hits are exact (default); real: by timestamp; x10: ten "
	 "times faster",
	 0},
	{"deadline", OPTION_DEADLINE, "TIME", 0, "of each prefetch (default 2s)", 0},
	{"summary", OPTION_SUMMARY, NULL, 0,
	 "only count the trace's blocks and what perfect memory would hit; needs no donor", 0},
	{"quiet", OPTION_QUIET, NULL, 0, "no progress on standard error", 0},
	{0},
};

static uint64_t
number(const char *text, uint64_t min, uint64_t max, const char *what, struct argp_state *state)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < min ||
	    value > max)
		argp_error(state, "%s '%s': a whole number from %llu to %llu is needed", what, text,
			   (unsigned long long)min, (unsigned long long)max);
	return value;
}

static double
pace(const char *text, struct argp_state *state)
{
	double speed = 0;
	char *end;

	if (strcmp(text, "max") == 0)
		return 0;
	if (strcmp(text, "real") == 0)
		return 1;
	if (text[0] == 'x') {
		speed = strtod(text + 1, &end);
		if (end != text + 1 && *end == '\0' && isfinite(speed) && speed > 0)
			return speed;
	}
	argp_error(state, "pace '%s': write max, real, or for example x10", text);
	return 0;
}

static error_t
parse(int key, char *arg, struct argp_state *state)
{
	struct replay_options *replay = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &replay->common;
		return 0;
	case 'T':
		replay->trace_path = arg;
		return 0;
	case OPTION_GENERATE:
		replay->generate = number(arg, 1, 100000, "generate", state);
		return 0;
	case OPTION_SEED:
		replay->seed = number(arg, 0, UINT64_MAX, "seed", state);
		return 0;
	case 'n':
		replay->requests_max = number(arg, 1, 1000000000, "requests", state);
		return 0;
	case 'b':
		if (far_size_parse(arg, &replay->block_bytes) < 0 || replay->block_bytes == 0 ||
		    replay->block_bytes > FAR_BLOCK_BYTES_MAX)
			argp_error(state, "block '%s': write for example 64KiB, at most 64MiB",
				   arg);
		return 0;
	case 'l':
		replay->l1_size = arg;
		return 0;
	case OPTION_MEMORY:
		replay->memory = arg;
		return 0;
	case OPTION_DEVICE:
		replay->device = arg;
		return 0;
	case 'p':
		replay->speed = pace(arg, state);
		return 0;
	case OPTION_DEADLINE:
		if (far_duration_parse(arg, &replay->deadline_ns) < 0 || replay->deadline_ns == 0)
			argp_error(state, "deadline '%s': write for example 500ms", arg);
		return 0;
	case OPTION_QUIET:
		replay->quiet = true;
		return 0;
	case OPTION_SUMMARY:
		replay->summary = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "too many arguments: '%s'; a trace is given with --trace", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int
load(const struct replay_options *replay, struct far_trace *trace,
     struct far_trace_summary *summary)
{
	struct far_trace_generate generate = {
		.seed = replay->seed,
		.conversations = (uint32_t)replay->generate,
		.turns_max = 12,
		.system_blocks = 8,
		.turn_blocks_max = 6,
		.think_ns = 20 * FAR_NS_PER_S,
	};
	char error[FAR_TRACE_ERROR_BYTES] = "no memory for the trace";
	int rc;

	if (replay->trace_path != NULL)
		rc = far_trace_load(replay->trace_path, replay->requests_max, trace, error);
	else
		rc = far_trace_generate(&generate, replay->requests_max, trace);
	if (rc == 0) {
		rc = far_trace_summarise(trace, summary);
		if (rc < 0)
			far_trace_fini(trace);
	}
	return rc < 0 ? far_cli_fail("%s", error) : 0;
}

/* A request that cannot fit in L1 would be cut each time: say so before an hour of it. */
static int
check_room(struct far_client *client, const struct replay_options *replay,
	   const struct far_trace_summary *summary, uint64_t *l1_bytes_out)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	uint64_t needed = summary->request_blocks_max * replay->block_bytes;
	char a[32];
	char b[32];

	far_stats_get(client, &stats);
	*l1_bytes_out = stats.l1_capacity_bytes;
	if (needed <= stats.l1_capacity_bytes)
		return 0;
	return far_cli_fail(
		"the largest request has %u blocks, %s in all, and L1 has %s: raise --l1 or "
		"lower --block",
		summary->request_blocks_max, far_cli_bytes(needed, a),
		far_cli_bytes(stats.l1_capacity_bytes, b));
}

static int
run(struct far_client *client, const struct replay_options *replay, const struct far_trace *trace,
    const struct far_trace_summary *summary)
{
	struct far_replay_config config = {
		.block_bytes = (uint32_t)replay->block_bytes,
		.speed = replay->speed,
		.deadline_ns = replay->deadline_ns,
		.store_ns = 10 * FAR_NS_PER_S,
		.progress = !replay->quiet,
	};
	struct far_replay_context context = {.trace = trace,
					     .summary = summary,
					     .config = &config,
					     .verify = replay->common.verify};
	char error[FAR_TRACE_ERROR_BYTES] = "";
	struct far_replay_result result;
	uint64_t wrong;
	int rc = check_room(client, replay, summary, &context.l1_bytes);

	if (rc != 0)
		return rc;
	rc = far_replay_run(client, trace, &config, &result, error);
	if (rc < 0) {
		far_replay_result_fini(&result);
		return far_cli_fail("the replay stopped at %s", error);
	}
	if (replay->common.json)
		far_replay_print_json(&result, &context, stdout);
	else
		far_replay_print(&result, &context, stdout);
	wrong = result.wrong_bytes;
	far_replay_result_fini(&result);
	if (wrong > 0)
		return far_cli_fail(
			"%llu wrong bytes were served: this is a bug in farpool, please "
			"report it with the table above",
			(unsigned long long)wrong);
	return 0;
}

static void
print_summary(const struct replay_options *replay, const struct far_trace *trace,
	      const struct far_trace_summary *summary)
{
	const char *format = replay->common.json ? "{\"requests\": %zu, \"references\": %llu, "
						   "\"distinct_blocks\": %llu, "
						   "\"perfect_hits\": %llu, "
						   "\"largest_request_blocks\": %u}\n"
						 : "requests %zu\nreferences %llu\n"
						   "distinct_blocks %llu\nperfect_hits %llu\n"
						   "largest_request_blocks %u\n";

	printf(format, trace->request_count, (unsigned long long)summary->references,
	       (unsigned long long)summary->distinct, (unsigned long long)summary->prefix_hits,
	       summary->request_blocks_max);
}

/* An option that is a key of the configuration; @text lives as long as @common. */
static void
set_key(struct far_cli_common *common, const char *key, const char *value, char text[80])
{
	if (value == NULL || common->set_count == FAR_CLI_SETS_MAX)
		return;
	snprintf(text, 80, "%s=%.60s", key, value);
	common->sets[common->set_count++] = text;
}

int
far_cli_replay(int argc, char **argv)
{
	static const struct argp_child children[] = {{&far_cli_argp, 0, "Common options:", 1}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Replay traffic: each request looks up its longest cached prefix, "
		       "prefetches it "
		       "into L1, checks every byte, and stores the blocks that it lacked.\vThe "
		       "bytes of "
		       "a block are made from its key. The exit status is 1 if a wrong byte was "
		       "served.",
		.children = children,
	};
	struct replay_options replay = {
		.generate = 200,
		.seed = 1,
		.block_bytes = 4096,
		.deadline_ns = 2 * FAR_NS_PER_S,
	};
	char sets[3][80];
	struct far_trace_summary summary = {0};
	struct far_client *client;
	struct far_trace trace = {0};
	int rc;

	far_cli_common_init(&replay.common);
	argp_parse(&argp, argc, argv, 0, NULL, &replay);
	set_key(&replay.common, "l1.size", replay.l1_size, sets[0]);
	set_key(&replay.common, "l1.memory", replay.memory, sets[1]);
	set_key(&replay.common, "l1.device", replay.device, sets[2]);
	if (load(&replay, &trace, &summary) != 0)
		return 1;
	if (replay.summary) {
		print_summary(&replay, &trace, &summary);
		far_trace_fini(&trace);
		return 0;
	}
	rc = far_cli_open(&replay.common, NULL, true, &client);
	if (rc == 0) {
		far_log_level_set(FAR_LOG_WARN); /* donors that are lost on the way */
		rc = run(client, &replay, &trace, &summary);
		far_client_close(client);
	}
	far_trace_fini(&trace);
	return rc;
}
