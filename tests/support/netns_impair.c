/* netns_impair.c - netem by tc(8); what it did, from tc's statistics and the kernel's counters. */
#include "tests/support/netns_impair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COMMAND_MAX 512

/* A command in the namespace that has this end of the cable. */
static void
command_at(const struct netns *netns, int end, const char *command, char out[COMMAND_MAX])
{
	if (end == 0)
		snprintf(out, COMMAND_MAX, "%s dev farpool0", command);
	else
		snprintf(out, COMMAND_MAX, "nsenter --net=%s/net %s dev farpool1", netns->path,
			 command);
}

static int
run_at(const struct netns *netns, int end, const char *command, const char *arguments)
{
	char begin[COMMAND_MAX];
	char whole[2 * COMMAND_MAX];

	command_at(netns, end, command, begin);
	snprintf(whole, sizeof(whole), "%s %s", begin, arguments);
	return system(whole) == 0 ? 0 : -1;
}

int
netns_impair(const struct netns *netns, const char *netem)
{
	char arguments[COMMAND_MAX];

	snprintf(arguments, sizeof(arguments), "root netem limit 20000 %s",
		 netem != NULL ? netem : "");
	for (int end = 0; end < 2; end++) {
		/* What was there goes first, if anything: the statistics begin anew. */
		(void)run_at(netns, end, "tc qdisc del", "root 2>/dev/null");
		if (netem == NULL)
			continue;
		/* One segment is one packet, else netem drops 64 KiB at a time. */
		if (run_at(netns, end, "ip link set", "gso_max_segs 1") < 0 ||
		    run_at(netns, end, "tc qdisc add", arguments) < 0)
			return -1;
	}
	return 0;
}

/* The number behind some words; the words have to be there. */
static uint64_t
number_behind(const char *line, const char *words)
{
	const char *at = strstr(line, words);
	char *end;
	uint64_t number;

	assert_non_null(at);
	number = strtoull(at + strlen(words), &end, 10);
	assert_true(end > at + strlen(words));
	return number;
}

/* " Sent 2366222 bytes 1703 pkt (dropped 0, ..." */
static void
traffic_of(const struct netns *netns, int end, uint64_t *bytes, struct netns_traffic *out)
{
	char command[COMMAND_MAX];
	char line[256];
	bool impaired = false;
	int found = 0;
	FILE *pipe;

	command_at(netns, end, "tc -s qdisc show", command);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	while (fgets(line, sizeof(line), pipe) != NULL) {
		impaired |= strstr(line, "qdisc netem") != NULL;
		if (strstr(line, " Sent ") == NULL)
			continue;
		found++;
		*bytes = number_behind(line, " Sent ");
		out->packets += number_behind(line, " bytes ");
		out->dropped += number_behind(line, "(dropped ");
	}
	assert_int_equal(pclose(pipe), 0);
	assert_true(impaired);
	assert_int_equal(found, 1);
}

void
netns_traffic(const struct netns *netns, struct netns_traffic *out)
{
	uint64_t from_us_bytes = 0;

	memset(out, 0, sizeof(*out));
	traffic_of(netns, 0, &from_us_bytes, out);
	traffic_of(netns, 1, &out->to_us_bytes, out);
}

/* Two lines that begin with "Tcp:": names, then values. */
static uint64_t
retransmitted_in(const char *path)
{
	char names[1024] = "";
	char values[1024] = "";
	char *name_rest = names;
	char *value_rest = values;
	FILE *file = fopen(path, "r");
	char *name;

	assert_non_null(file);
	while (strncmp(names, "Tcp:", 4) != 0 && fgets(names, sizeof(names), file) != NULL)
		;
	assert_non_null(fgets(values, sizeof(values), file));
	fclose(file);
	while ((name = strtok_r(name_rest, " \n", &name_rest)) != NULL) {
		const char *value = strtok_r(value_rest, " \n", &value_rest);

		assert_non_null(value);
		if (strcmp(name, "RetransSegs") == 0)
			return strtoull(value, NULL, 10);
	}
	fail_msg("%s has no RetransSegs", path);
	return 0;
}

uint64_t
netns_retransmitted(const struct netns *netns)
{
	char path[sizeof(netns->path) + 16];

	/* The process's network namespace, not the one of whoever mounted /proc. */
	snprintf(path, sizeof(path), "/proc/%d/net/snmp", (int)netns->holder);
	return retransmitted_in("/proc/self/net/snmp") + retransmitted_in(path);
}
