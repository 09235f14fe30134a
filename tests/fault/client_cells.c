/* client_cells.c - a client is killed or stopped at each stage, beside another one that goes on. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/fault/fault.h"

#define SUBJECT "subject"

/* ---- the client that is hit: this program once more ---- */

static void
stores_do(struct far_client *client, enum stage stage, unsigned *requests, unsigned *failed)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};
	uint64_t puts = 0;
	char leaks[TEXT_BYTES] = "";

	for (uint64_t i = 0; i < STORE_BLOCKS; i++)
		puts += block_put(client, STORE_ID + i);
	CELL_CHECK(far_flush(client, limit_ns(), &result) == 0);
	*requests += 1;
	*failed += result.failed + result.dropped > 0;
	if (stage == STAGE_IDLE)
		stage_reach(STAGE_IDLE);
	client_leaks(client, puts, leaks);
	if (leaks[0] != '\0')
		cell_fail("left: %s", leaks);
}

static void
reads_do(struct far_client *client, enum stage stage, uint64_t deadline_ms, unsigned *failed,
	 uint64_t *wrong)
{
	struct request requests[READS] = {0};
	char leaks[TEXT_BYTES] = "";

	for (uint64_t i = 0; i < READS; i++) {
		for (uint64_t k = 0; k < REQUEST_KEYS; k++)
			requests[i].ids[k] = i * REQUEST_KEYS + k;
		request_start(client, &requests[i], deadline_ms, NULL);
	}
	for (uint64_t i = 0; i < READS; i++)
		request_wait(&requests[i]);
	if (stage == STAGE_HELD)
		stage_reach(STAGE_HELD);
	for (uint64_t i = 0; i < READS; i++) {
		*failed += requests[i].readable < REQUEST_KEYS;
		*wrong += request_check(&requests[i]);
		far_prefetch_release(requests[i].handle);
	}
	client_leaks(client, 0, leaks);
	if (leaks[0] != '\0')
		cell_fail("left: %s", leaks);
}

int
subject_main(int argc, char **argv)
{
	struct stage_page *page = stage_page_find();
	struct far_client *client = NULL;
	unsigned requests = 0, failed = 0;
	enum stage stage;
	uint64_t wrong = 0;
	char error[256] = "";

	if (argc != 5 || page == NULL)
		return 2;
	stage = (enum stage)strtoul(argv[3], NULL, 10);
	if (far_client_open_file(argv[2], error, sizeof(error), &client) < 0 ||
	    far_client_wait_donors(client, limit_ns(), error, sizeof(error)) < 0)
		cell_fail("%s", error);
	atomic_store(&page->armed, stage);
	if (stage <= STAGE_IDLE) {
		stores_do(client, stage, &requests, &failed);
	} else {
		reads_do(client, stage, strtoul(argv[4], NULL, 10), &failed, &wrong);
		requests = READS;
	}
	far_client_close(client);
	printf("%u %u %" PRIu64 "\n", requests, failed, wrong);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- what is seen from another one ---- */

static pid_t
subject_start(struct scene *scene, const struct cell *cell, struct stage_page **page_out)
{
	char self[128] = "", stage[16], deadline[16];
	const char *argv[] = {self, "--subject", scene->rig.client_config, stage, deadline, NULL};

	CELL_CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(stage, sizeof(stage), "%d", (int)cell->stage);
	snprintf(deadline, sizeof(deadline), "%u", scene->over->deadline_ms);
	return scene_spawn(scene, SUBJECT, argv, page_out);
}

static void
stage_wait(const struct stage_page *page, pid_t pid)
{
	uint64_t until_ns = limit_ns();

	while (atomic_load(&page->reached_ns) == 0) {
		if (far_now_ns() > until_ns)
			cell_fail("the stage was not reached");
		if (!rig_runs(pid))
			cell_fail("the subject ended before the stage");
		(void)usleep(500);
	}
	process_wait_stopped(pid);
}

/* The donors have got back what they gave the subject: lanes fenced, its link gone. */
static bool
reuse_note(struct scene *scene)
{
	if (scene->outcome->reuse_ns == TIME_NONE && scene_links_are_back(scene))
		scene->outcome->reuse_ns = far_now_ns() - atomic_load(&scene->fault_ns);
	return scene->outcome->reuse_ns != TIME_NONE;
}

static void
reuse_wait(struct scene *scene)
{
	uint64_t until_ns = limit_ns();

	while (!reuse_note(scene)) {
		if (far_now_ns() > until_ns)
			cell_fail("the subject's links are there still");
		(void)usleep(scene->over->pause_ms * 1000);
	}
}

/* Requests, failed ones, wrong bytes. */
static void
subject_counts(struct scene *scene, const char *text)
{
	uint64_t counts[3];
	const char *at = text;

	for (size_t i = 0; i < 3; i++) {
		char *end;

		counts[i] = strtoull(at, &end, 10);
		if (end == at)
			cell_fail("the subject said: %s", text);
		at = end;
	}
	(void)pthread_mutex_lock(&scene->lock);
	scene->outcome->requests += counts[0];
	scene->outcome->failed += counts[1];
	scene->outcome->wrong += counts[2];
	(void)pthread_mutex_unlock(&scene->lock);
}

static void
subject_goes_on(struct scene *scene, pid_t pid)
{
	struct rig_run *run = calloc(1, sizeof(*run));
	uint64_t until_ns = atomic_load(&scene->fault_ns) + scene->over->stop_ms * FAR_NS_PER_MS;

	CELL_CHECK(run != NULL);
	while (far_now_ns() < until_ns) {
		(void)reuse_note(scene);
		(void)usleep(scene->over->pause_ms * 1000);
	}
	CELL_CHECK(kill(pid, SIGCONT) == 0);
	rig_wait(&scene->rig, pid, SUBJECT, WAIT_SECONDS, run);
	if (run->status != 0)
		cell_fail("the subject ended with %d: %s", run->status, run->err);
	subject_counts(scene, run->out);
	free(run);
}

static void
client_run(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	static struct scene scene;
	struct stage_page *page;
	int status;
	pid_t pid;

	scene_begin(&scene, over, outcome, false);
	scene.bystander = true;
	scene_load(&scene);
	pid = subject_start(&scene, cell, &page);
	stage_wait(page, pid);
	if (cell->kind == FAULT_KILL) {
		scene_fault(&scene);
		CELL_CHECK(kill(pid, SIGKILL) == 0);
		scene_fault_over(&scene);
		CELL_CHECK(waitpid(pid, &status, 0) == pid);
	} else {
		scene_fault(&scene);
		scene_fault_over(&scene);
		subject_goes_on(&scene, pid);
	}
	reuse_wait(&scene);
	scene_end(&scene);
}

/* clang-format off */
#define CELLS(stage, what, kill, stop) \
	{"client", "SIGKILL", what, FAULT_KILL, stage, kill, client_run}, \
	{"client", "SIGSTOP", what, FAULT_STOP, stage, stop, client_run},

const struct cell client_cells[] = {
	CELLS(STAGE_LANE_ASK, "store: lane asked for", false, false)
	CELLS(STAGE_WRITES, "store: WRITEs in flight", true, true)
	CELLS(STAGE_COMMIT, "store: COMMIT in flight", false, false)
	CELLS(STAGE_IDLE, "store: idle, lane open", true, false)
	CELLS(STAGE_LOOKUP, "prefetch: lookup", false, false)
	CELLS(STAGE_DATA, "prefetch: data reads", true, false)
	CELLS(STAGE_FLIP, "prefetch: before the flip", false, false)
	CELLS(STAGE_HELD, "prefetch: held, locks in L1", false, true)
};
/* clang-format on */

const size_t client_cell_count = sizeof(client_cells) / sizeof(client_cells[0]);
