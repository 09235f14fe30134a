/* litter.c - a folder in /tmp of what was started for a benchmark; it goes also when a signal ends us. */
#include "tools/perf/litter.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LITTERS_MAX 64
#define FILE_COUNT  6
#define PATH_BYTES  64

/* Paths are made before they are needed: in a handler nothing can be. */
struct perf_litter {
	volatile sig_atomic_t live;
	volatile pid_t child; /* 0: none */
	char folder[PATH_BYTES];
	char files[FILE_COUNT][PATH_BYTES];
};

static const char *const names[FILE_COUNT] = {"donor.yaml",  "donor.log", "donor.sock",
					      "client.yaml", "raw.sock",  "redis.sock"};
static struct perf_litter litters[LITTERS_MAX];
static pid_t owner; /* children have the handler until they become another program */

static void
remove_all(struct perf_litter *litter)
{
	for (size_t i = 0; i < FILE_COUNT; i++)
		(void)unlink(litter->files[i]);
	(void)rmdir(litter->folder);
}

/* Nothing but calls that are safe in a handler. */
static void
on_signal(int number)
{
	for (size_t i = 0; i < LITTERS_MAX && getpid() == owner; i++) {
		struct perf_litter *litter = &litters[i];

		if (!litter->live)
			continue;
		if (litter->child > 0 && kill(litter->child, SIGKILL) == 0)
			(void)waitpid(litter->child, NULL, 0);
		remove_all(litter);
	}
	(void)signal(number, SIG_DFL);
	(void)raise(number);
}

static void
handlers_set(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction ours = {.sa_handler = on_signal}, before;

	(void)sigfillset(&ours.sa_mask);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
			(void)sigaction(numbers[i], &ours, NULL);
}

struct perf_litter *
perf_litter_take(void)
{
	struct perf_litter *litter = litters;

	while (litter < litters + LITTERS_MAX && litter->live)
		litter++;
	if (litter == litters + LITTERS_MAX)
		return NULL;
	if (owner == 0) {
		owner = getpid();
		handlers_set();
	}
	snprintf(litter->folder, sizeof(litter->folder), "/tmp/farpool-perf-XXXXXX");
	if (mkdtemp(litter->folder) == NULL)
		return NULL;
	for (size_t i = 0; i < FILE_COUNT; i++)
		snprintf(litter->files[i], sizeof(litter->files[i]), "%.40s/%s", litter->folder,
			 names[i]);
	litter->child = 0;
	litter->live = 1;
	return litter;
}

const char *
perf_litter_folder(const struct perf_litter *litter)
{
	return litter->folder;
}

void
perf_litter_child(struct perf_litter *litter, pid_t pid)
{
	litter->child = pid;
}

void
perf_litter_give(struct perf_litter *litter)
{
	if (litter == NULL)
		return;
	remove_all(litter);
	litter->live = 0;
}
