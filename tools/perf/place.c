/* place.c - the machine that a result belongs to. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "tools/perf/perf.h"

/* The first line of a file in sysfs, or "". */
static void
line_read(const char *path, char *out, size_t out_bytes)
{
	FILE *file = fopen(path, "r");

	out[0] = '\0';
	if (file == NULL)
		return;
	if (fgets(out, (int)out_bytes, file) != NULL)
		out[strcspn(out, "\n")] = '\0';
	fclose(file);
}

/* "491520K" of the highest level that the first processor has. */
static uint64_t
llc_bytes(void)
{
	uint64_t bytes = 0;

	for (int i = 0; i < 8; i++) {
		char path[96], text[32], *end;
		uint64_t kib;

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
		line_read(path, text, sizeof(text));
		kib = strtoull(text, &end, 10);
		if (*end == 'K')
			bytes = kib << 10;
	}
	return bytes;
}

/* Of each device the first port, where it is active. */
static void
rdma_read(char *out, size_t out_bytes)
{
	DIR *folder = opendir("/sys/class/infiniband");
	struct dirent *entry;
	size_t used = 0;

	snprintf(out, out_bytes, "none");
	while (folder != NULL && (entry = readdir(folder)) != NULL) {
		char path[320], state[32], rate[64];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/class/infiniband/%.100s/ports/1/state",
			 entry->d_name);
		line_read(path, state, sizeof(state));
		snprintf(path, sizeof(path), "/sys/class/infiniband/%.100s/ports/1/rate",
			 entry->d_name);
		line_read(path, rate, sizeof(rate));
		if (strstr(state, "ACTIVE") == NULL || used >= out_bytes)
			continue;
		used += (size_t)snprintf(out + used, out_bytes - used, "%s%.30s %.30s",
					 used > 0 ? ", " : "", entry->d_name, rate);
	}
	if (folder != NULL)
		closedir(folder);
}

void
perf_place_read(struct perf_place *place)
{
	struct utsname name;
	char line[256];
	FILE *file = fopen("/proc/cpuinfo", "r");

	*place = (struct perf_place){0};
	place->llc_bytes = llc_bytes();
	rdma_read(place->rdma, sizeof(place->rdma));
	snprintf(place->cpu, sizeof(place->cpu), "unknown processor");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		const char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || colon == NULL)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(place->cpu, sizeof(place->cpu), "%.120s", colon + 1 + (colon[1] == ' '));
		break;
	}
	if (file != NULL)
		fclose(file);
	if (uname(&name) == 0)
		snprintf(place->kernel, sizeof(place->kernel), "%.60s %.60s", name.sysname,
			 name.release);
}
