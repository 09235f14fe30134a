/* reader_cells.c - a process that reads blocks of a client's L1: it ends, it stops, its client ends. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/fault/fault.h"
#include "tools/cli/fill.h"

#define READER    "reader"
#define ARGV_HEAD 4U
#define ARGV_MAX  (ARGV_HEAD + 2 * REQUEST_KEYS + 1)

/* ---- the reader: this program once more ---- */

static volatile sig_atomic_t asked_to_end;

static void
on_term(int signum)
{
	(void)signum;
	asked_to_end = 1;
}

static uint64_t
blocks_check(const uint8_t *arena, int argc, char **argv)
{
	uint64_t wrong = 0;

	for (int i = ARGV_HEAD; i + 1 < argc; i += 2) {
		struct far_key key;

		key_of(strtoull(argv[i], NULL, 10), &key);
		wrong += far_fill_check(&key, arena + strtoull(argv[i + 1], NULL, 10), BLOCK_BYTES);
	}
	return wrong;
}

/* Reads until it is told to end; 1: bytes were wrong. */
int
reader_process_main(int argc, char **argv)
{
	int fd = argc > (int)ARGV_HEAD ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
	const uint8_t *arena;
	uint64_t rounds = 0;

	if (fd < 0)
		return 2;
	arena = mmap(NULL, strtoull(argv[3], NULL, 10), PROT_READ, MAP_SHARED, fd, 0);
	if (arena == MAP_FAILED || signal(SIGTERM, on_term) == SIG_ERR)
		return 2;
	while (asked_to_end == 0) {
		if (blocks_check(arena, argc, argv) != 0)
			return 1;
		if (rounds++ == 0) {
			printf("reads\n");
			(void)fflush(stdout);
		}
	}
	return 0;
}

/* ---- a client in this process that lends to it ---- */

struct lender {
	struct far_client *client;
	struct far_session *session;
	struct request request;
	pid_t pid;
};

/* The program has to be there before its session: it reads what the first @lender's loan holds. */
static void
reader_start(struct scene *scene, struct lender *lender)
{
	char self[128] = "", arena[64], bytes[32], numbers[2 * REQUEST_KEYS][24], line[64];
	const char *argv[ARGV_MAX] = {self, "--reader", arena, bytes};
	uint64_t arena_bytes = 0;
	int fd = far_client_l1_fd(lender->client, &arena_bytes);

	CELL_CHECK(fd >= 0);
	CELL_CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(arena, sizeof(arena), "/proc/%d/fd/%d", (int)getpid(), fd);
	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)arena_bytes);
	for (uint64_t i = 0; i < REQUEST_KEYS; i++) {
		uint64_t offset = 0;
		uint32_t size_bytes = 0;

		CELL_CHECK(far_prefetch_offset(lender->request.handle, i, &offset, &size_bytes) ==
			   0);
		snprintf(numbers[2 * i], sizeof(numbers[0]), "%llu",
			 (unsigned long long)lender->request.ids[i]);
		snprintf(numbers[2 * i + 1], sizeof(numbers[0]), "%llu",
			 (unsigned long long)offset);
		argv[ARGV_HEAD + 2 * i] = numbers[2 * i];
		argv[ARGV_HEAD + 2 * i + 1] = numbers[2 * i + 1];
	}
	lender->pid = rig_spawn(&scene->rig, READER, argv);
	rig_first_line(&scene->rig, lender->pid, READER, line, sizeof(line));
}

static void
lend(struct scene *scene, struct lender *lender, struct request *request,
     struct far_session *session)
{
	for (uint64_t i = 0; i < REQUEST_KEYS; i++)
		request->ids[i] = i;
	request_start(lender->client, request, scene->over->deadline_ms, session);
	request_wait(request);
	CELL_CHECK(request->readable == REQUEST_KEYS);
	scene_count(scene, request);
}

static uint64_t
loans(struct far_client *client)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	far_stats_get(client, &stats);
	return stats.l1_loans;
}

/* What the reader's session holds, when nobody else holds anything. */
static void
lender_open(struct scene *scene, struct lender *lender)
{
	char error[256] = "";
	struct request own;

	if (far_client_open_file(scene->rig.client_config, error, sizeof(error), &lender->client) <
		    0 ||
	    far_client_wait_donors(lender->client, limit_ns(), error, sizeof(error)) < 0)
		cell_fail("the lender: %s", error);
	lend(scene, lender, &lender->request, NULL);
	own = lender->request;
	reader_start(scene, lender);
	CELL_CHECK(far_session_open(lender->client, READER, (int)lender->pid, &lender->session) ==
		   0);
	lend(scene, lender, &lender->request, lender->session);
	far_prefetch_release(own.handle);
	CELL_CHECK(loans(lender->client) == REQUEST_KEYS);
}

static void
lender_close(struct scene *scene, struct lender *lender)
{
	far_prefetch_release(lender->request.handle);
	far_session_close(lender->session);
	client_leaks(lender->client, 0, scene->outcome->leaks);
	far_client_close(lender->client);
}

static void
loans_end_wait(struct scene *scene, struct lender *lender)
{
	uint64_t until_ns = limit_ns();

	while (loans(lender->client) > 0) {
		if (far_now_ns() > until_ns)
			cell_fail("the session of a process that is gone holds its loans");
		(void)usleep(200);
	}
	scene->outcome->reuse_ns = far_now_ns() - atomic_load(&scene->fault_ns);
}

static void
reader_stands_still(struct scene *scene, struct lender *lender)
{
	struct rig_run *run = calloc(1, sizeof(*run));

	CELL_CHECK(run != NULL);
	process_wait_stopped(lender->pid);
	far_clock_sleep_until(atomic_load(&scene->fault_ns) + scene->over->stop_ms * FAR_NS_PER_MS);
	/* Never by time: it has to find its bytes. */
	(void)far_clear(lender->client, 0);
	CELL_CHECK(loans(lender->client) == REQUEST_KEYS);
	CELL_CHECK(kill(lender->pid, SIGCONT) == 0);
	far_clock_sleep_until(far_now_ns() + 50 * FAR_NS_PER_MS);
	CELL_CHECK(kill(lender->pid, SIGTERM) == 0);
	rig_wait(&scene->rig, lender->pid, READER, WAIT_SECONDS, run);
	scene->outcome->wrong += run->status == 1;
	CELL_CHECK(run->status <= 1);
	free(run);
}

static void
reader_run(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	static struct scene scene;
	static struct lender lender;
	int status;

	scene_begin(&scene, over, outcome, false);
	scene.bystander = true;
	scene_load(&scene);
	lender_open(&scene, &lender);
	CELL_CHECK(kill(lender.pid, cell->kind == FAULT_KILL ? SIGKILL : SIGSTOP) == 0);
	scene_fault(&scene);
	scene_fault_over(&scene);
	if (cell->kind == FAULT_STOP)
		reader_stands_still(&scene, &lender);
	loans_end_wait(&scene, &lender);
	if (cell->kind == FAULT_KILL)
		CELL_CHECK(waitpid(lender.pid, &status, 0) == lender.pid);
	lender_close(&scene, &lender);
	scene_end(&scene);
}

const struct cell reader_cells[] = {
	{"reader", "SIGKILL", "its session holds locks", FAULT_KILL, STAGE_HELD, false, reader_run},
	{"reader", "SIGSTOP", "its session holds locks", FAULT_STOP, STAGE_HELD, false, reader_run},
};

const size_t reader_cell_count = sizeof(reader_cells) / sizeof(reader_cells[0]);
