/* main.c - farpool: the command line. One word chooses the command, the rest is its own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/recorder.h"
#include "base/log.h"
#include "tools/cli/cli.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *text;
};

static const struct command commands[] = {
	{"put", far_cli_put, "store a file as one block"},
	{"get", far_cli_get, "read a block"},
	{"delete", far_cli_delete, "remove a block from every donor"},
	{"status", far_cli_status, "what each donor lends, holds and did"},
	{"replay", far_cli_replay, "replay real or generated traffic and print what it cost"},
	{"doctor", far_cli_doctor, "check this host, and prove a path to a donor"},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void
usage(FILE *out)
{
	fprintf(out, "usage: farpool COMMAND [OPTION...]\n\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].text);
	fprintf(out, "\n  farpool COMMAND --help tells more. farpool --version: %s\n",
		far_version());
}

/* The pages docs/ is made of; hidden, for ./dev docs. */
static int
reference(void)
{
	far_param_document(&far_client_params, stdout);
	return ferror(stdout) ? 1 : 0;
}

static int
events(void)
{
	far_recorder_document(stdout);
	return ferror(stdout) ? 1 : 0;
}

int
main(int argc, char **argv)
{
	argp_err_exit_status = 2;
	far_log_level_set(FAR_LOG_ERROR); /* each command says itself what went wrong */
	if (argc < 2) {
		usage(stderr);
		return 2;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
		usage(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("farpool %s\n", far_version());
		return 0;
	}
	if (strcmp(argv[1], "--reference") == 0)
		return reference();
	if (strcmp(argv[1], "--events") == 0)
		return events();
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		char name[64];

		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		snprintf(name, sizeof(name), "farpool %s", commands[i].name);
		argv[1] = name;
		return commands[i].run(argc - 1, argv + 1);
	}
	fprintf(stderr, "farpool: no command '%s'\n\n", argv[1]);
	usage(stderr);
	return 2;
}
