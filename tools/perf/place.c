/* place.c - the machine that a result belongs to. */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "tools/perf/perf.h"

/* "491520K" of the highest level that the first processor has. */
static uint64_t
llc_bytes(void)
{
	uint64_t bytes = 0;

	for (int i = 0; i < 8; i++) {
		unsigned long long kib = 0;
		char path[96];
		FILE *file;

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
		file = fopen(path, "r");
		if (file == NULL)
			break;
		if (fscanf(file, "%lluK", &kib) == 1)
			bytes = kib << 10;
		fclose(file);
	}
	return bytes;
}

void
perf_place_read(struct perf_place *place)
{
	struct utsname name;
	char line[256];
	FILE *file = fopen("/proc/cpuinfo", "r");

	*place = (struct perf_place){0};
	place->llc_bytes = llc_bytes();
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
