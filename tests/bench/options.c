/* options.c - what the bench programs have in common at their ends: numbers that are asked for, JSON. */
#include "tests/bench/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t
bench_option_number(const char *text, uint64_t min, uint64_t max, const char *name,
		    struct argp_state *state)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	/* strtoull() takes a sign. */
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < min ||
	    value > max)
		argp_error(state, "--%s takes a number from %" PRIu64 " to %" PRIu64 ", not '%s'",
			   name, min, max, text);
	return value;
}

json_t *
bench_machine_json(const struct bench_machine *machine)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:s, s:s}", "processor", machine->cpu, "processors",
			 (json_int_t)machine->cpu_count, "cache_bytes",
			 (json_int_t)machine->cache_bytes, "cache2_bytes",
			 (json_int_t)machine->cache2_bytes, "system", machine->system, "release",
			 machine->release);
}

int
bench_json_put(json_t *root, const char *path)
{
	const size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
	bool ok = root != NULL;

	if (ok && strcmp(path, "-") == 0)
		ok = json_dumpf(root, stdout, flags) == 0 && putchar('\n') != EOF;
	else if (ok)
		ok = json_dump_file(root, path, flags) == 0;
	json_decref(root);
	if (!ok)
		fprintf(stderr, "%s: %s cannot be written: choose another --json\n",
			program_invocation_short_name, path);
	return ok ? 0 : -EIO;
}
