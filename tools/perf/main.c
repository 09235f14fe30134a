/* main.c - farpool-perf: the words choose what is measured, the rest is its own. */
#include <argp.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "farpool/farpool.h"
#include "tools/perf/perf.h"

static int
raw_read(int argc, char **argv)
{
	return perf_raw(PERF_READ, argc, argv);
}

static int
raw_write(int argc, char **argv)
{
	return perf_raw(PERF_WRITE, argc, argv);
}

static int
raw_lat(int argc, char **argv)
{
	return perf_raw(PERF_LAT, argc, argv);
}

struct command {
	const char *words[2]; /* the second may be NULL */
	int (*run)(int argc, char **argv);
	const char *text;
};

static const struct command commands[] = {
	{{"server", NULL}, perf_server, "lend memory to the raw tests of another process or host"},
	{{"raw", "read"}, raw_read, "bandwidth of READs over a transport alone (ib_read_bw)"},
	{{"raw", "write"}, raw_write, "bandwidth of WRITEs (ib_write_bw)"},
	{{"raw", "lat"}, raw_lat, "latency of READs, post to completion (ib_read_lat)"},
	{{"prefetch", NULL}, perf_prefetch, "blocks from donors into L1, through the whole client"},
	{{"store", NULL}, perf_store, "blocks from L1 to donors, until they are committed"},
	{{"mixed", NULL}, perf_mixed, "both at the same time"},
	{{"lookup", NULL}, perf_lookup, "keys in a donor's published index, nothing else"},
	{{"kv", NULL}, perf_kv, "the KV cache of a prefix of a model, whole and layer by layer"},
	{{"incast", NULL}, perf_incast, "many clients and one donor, one client and many donors"},
	{{"register", NULL}, perf_register, "mapping and registering memory: seconds per GiB"},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void
usage(FILE *out)
{
	fprintf(out, "usage: farpool-perf COMMAND [OPTION...] [ADDRESS]\n\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		char words[32];

		snprintf(words, sizeof(words), "%s %s", commands[i].words[0],
			 commands[i].words[1] != NULL ? commands[i].words[1] : "");
		fprintf(out, "  %-10s %s\n", words, commands[i].text);
	}
	fprintf(out, "\n  farpool-perf COMMAND --help tells more. farpool-perf --version: %s\n",
		far_version());
}

static int
command_run(const struct command *command, int argc, char **argv)
{
	int words = command->words[1] != NULL ? 2 : 1;
	char name[64];

	snprintf(name, sizeof(name), "farpool-perf %s%s%s", command->words[0], words > 1 ? " " : "",
		 words > 1 ? command->words[1] : "");
	argv[words] = name;
	return command->run(argc - words, argv + words);
}

int
main(int argc, char **argv)
{
	argp_err_exit_status = 2;
	far_log_level_set(FAR_LOG_ERROR);
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
		usage(stdout);
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		printf("farpool-perf %s\n", far_version());
		return 0;
	}
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		const struct command *command = &commands[i];

		if (argc < 2 || strcmp(argv[1], command->words[0]) != 0)
			continue;
		if (command->words[1] == NULL ||
		    (argc > 2 && strcmp(argv[2], command->words[1]) == 0))
			return command_run(command, argc, argv);
	}
	if (argc > 1)
		fprintf(stderr, "farpool-perf: no command '%s%s%s'\n\n", argv[1],
			argc > 2 ? " " : "", argc > 2 ? argv[2] : "");
	usage(stderr);
	return 2;
}
