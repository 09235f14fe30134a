/* main.c - the attacker as a program: what tests start against a donor, and against a control. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tests/support/attacker/attacker.h"

static struct attacker attacker;

static int
usage(void)
{
	fprintf(stderr, "usage: victim PORT\n"
			"       get HOST:PORT hello|mute BYTES ADDRESS...\n"
			"       put HOST:PORT hello|mute TEXT ADDRESS...\n"
			"       throw HOST:PORT\n"
			"       crowd HOST:PORT COUNT SECONDS\n");
	return 2;
}

/* Connected, and, if asked for, known to a donor as a link that is in order. */
static bool
reach(const char *address, const char *manner)
{
	if (!attacker_connect(&attacker, address)) {
		fprintf(stderr, "attacker: %s does not answer\n", address);
		return false;
	}
	if (strcmp(manner, "hello") == 0 && !attacker_greet(&attacker)) {
		fprintf(stderr, "attacker: %s does not welcome\n", address);
		return false;
	}
	return true;
}

static unsigned
number(const char *text)
{
	return (unsigned)strtoul(text, NULL, 10);
}

static int
attack(int argc, char **argv)
{
	const char *const *rest = (const char *const *)argv + 5;

	if (argc == 3 && strcmp(argv[1], "victim") == 0)
		return attacker_be_victim(&attacker, argv[2]);
	if (argc == 3 && strcmp(argv[1], "throw") == 0)
		return attacker_throw(&attacker, argv[2]) == 0 ? 0 : 1;
	if (argc == 5 && strcmp(argv[1], "crowd") == 0)
		return attacker_crowd(&attacker, argv[2], number(argv[3]), number(argv[4]));
	if (argc < 6)
		return usage();
	if (!reach(argv[2], argv[3]))
		return 1;
	if (strcmp(argv[1], "get") == 0)
		return attacker_get(&attacker, number(argv[4]), rest, argc - 5);
	if (strcmp(argv[1], "put") == 0)
		return attacker_put(&attacker, argv[4], rest, argc - 5);
	return usage();
}

int
main(int argc, char **argv)
{
	int status;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc < 3)
		return usage();
	attacker_open(&attacker);
	status = attack(argc, argv);
	/* Requests that nobody will ever answer are left to the end of the process. */
	fflush(stdout);
	_exit(status);
}
