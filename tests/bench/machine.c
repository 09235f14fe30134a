/* machine.c - what the numbers were measured on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/helpers.h"
#include "base/pages.h"
#include "tests/bench/bench.h"

/* The kernel's word: the C library's is wrong in some virtual machines. */
static long
cache_read(int level)
{
	char path[64];
	FILE *file;
	char text[32] = "";
	long bytes = 0;

	/* 0 and 1 are of the first level, for data and for instructions. */
	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", level);
	file = fopen(path, "r");
	if (file != NULL) {
		if (fgets(text, sizeof(text), file) != NULL)
			bytes = strtol(text, NULL, 10) * 1024;
		fclose(file);
	}
	return bytes > 0 ? bytes
			 : sysconf(level == 3 ? _SC_LEVEL3_CACHE_SIZE : _SC_LEVEL2_CACHE_SIZE);
}

void
bench_machine_read(struct bench_machine *machine)
{
	struct utsname name = {0};
	char line[256];
	FILE *file = fopen("/proc/cpuinfo", "r");

	memset(machine, 0, sizeof(*machine));
	snprintf(machine->cpu, sizeof(machine->cpu), "unknown processor");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || colon == NULL)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(machine->cpu, sizeof(machine->cpu), "%.120s", colon + 2);
		break;
	}
	if (file != NULL)
		fclose(file);
	(void)uname(&name);
	snprintf(machine->system, sizeof(machine->system), "%s", name.sysname);
	snprintf(machine->release, sizeof(machine->release), "%s", name.release);
	machine->cpu_count = sysconf(_SC_NPROCESSORS_ONLN);
	machine->cache_bytes = cache_read(3);
	machine->cache2_bytes = cache_read(2);
}

const char *
bench_pages_text(const struct bench_plan *plan)
{
	if (plan->huge_pages)
		return "2 MiB pages";
	/* perf_donor_start() leaves reserved ones alone, and the index with them. */
	return far_pages_reserved_bytes() > 0 ? "ordinary pages"
					      : "ordinary pages but for the index";
}

uint32_t
bench_helpers(const struct bench_plan *plan)
{
	uint32_t spare = far_helpers_spare();

	return plan->helpers < spare ? plan->helpers : spare;
}

double
bench_load(void)
{
	double load = 0;

	return getloadavg(&load, 1) == 1 ? load : 0;
}

void
bench_busy_read(struct bench_busy *busy)
{
	/* user nice system idle iowait irq softirq steal */
	enum { USER, NICE, SYSTEM, IDLE, WAIT, IRQ, SOFTIRQ, STEAL, KINDS };
	double tick_s = 1.0 / (double)sysconf(_SC_CLK_TCK), s[KINDS] = {0};
	char line[256] = "", *at = line + strlen("cpu ");
	FILE *file = fopen("/proc/stat", "r");

	*busy = (struct bench_busy){0};
	if (file == NULL)
		return;
	if (fgets(line, sizeof(line), file) != NULL && strncmp(line, "cpu ", 4) == 0) {
		for (int kind = 0; kind < KINDS; kind++)
			s[kind] = (double)strtoull(at, &at, 10) * tick_s;
		busy->used_s = s[USER] + s[NICE] + s[SYSTEM] + s[IRQ] + s[SOFTIRQ];
		busy->stolen_s = s[STEAL];
	}
	fclose(file);
}
