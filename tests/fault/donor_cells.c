/* donor_cells.c - a donor is killed, stopped or restarted at each stage of a store and of a prefetch. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/fault/fault.h"

#define POLL_US 500

/* A client at the stage, in this process: what it has in flight is all that it has. */
struct subject {
	struct scene *scene;
	const struct cell *cell;
	struct far_client *client;
	pthread_t thread;
	uint64_t puts;
	bool frozen;             /* client's thread */
	_Atomic bool armed, hit; /* the stage is to be hit; it was */
	_Atomic bool at_stage;   /* idle, or holding */
	_Atomic bool lets_go;
};

static bool
is_store(enum stage stage)
{
	return stage <= STAGE_IDLE;
}

static pid_t
victim_pid(const struct scene *scene)
{
	return scene->donors[VICTIM]->pid;
}

/* It stands still, and does not come to see what is sent to it from here on. */
static void
strike(struct subject *subject)
{
	struct scene *scene = subject->scene;

	scene_fault(scene);
	if (subject->cell->kind != FAULT_STOP)
		CELL_CHECK(kill(victim_pid(scene), SIGKILL) == 0);
	atomic_store(&subject->hit, true);
}

static void
freeze(struct subject *subject)
{
	pid_t pid = victim_pid(subject->scene);

	if (subject->frozen)
		return;
	CELL_CHECK(kill(pid, SIGSTOP) == 0);
	process_wait_stopped(pid);
	subject->frozen = true;
}

static void
on_stage(void *arg, enum stage stage, bool before)
{
	struct subject *subject = arg;

	if (!atomic_load(&subject->armed) || atomic_load(&subject->hit) ||
	    stage != subject->cell->stage)
		return;
	if (before)
		freeze(subject);
	if (!before || stage == STAGE_FLIP)
		strike(subject);
}

/* ---- what the subject does ---- */

static void
until_let_go(struct subject *subject)
{
	uint64_t until_ns = limit_ns() + limit_ns() - far_now_ns();

	while (!atomic_load(&subject->lets_go)) {
		if (far_now_ns() > until_ns)
			cell_fail("nobody lets the subject go");
		(void)usleep(POLL_US);
	}
}

static void
subject_stores(struct subject *subject)
{
	struct far_flush_result before = {.size_bytes = sizeof(before)};
	struct far_flush_result after = {.size_bytes = sizeof(after)};

	(void)far_flush(subject->client, limit_ns(), &before);
	for (uint64_t i = 0; i < STORE_BLOCKS; i++)
		subject->puts += block_put(subject->client, STORE_ID + i);
	CELL_CHECK(far_flush(subject->client, limit_ns(), &after) == 0);
	scene_count_store(subject->scene,
			  after.failed + after.dropped > before.failed + before.dropped);
	atomic_store(&subject->at_stage, true);
	if (subject->cell->stage == STAGE_IDLE)
		until_let_go(subject);
}

static void
subject_reads(struct subject *subject)
{
	struct scene *scene = subject->scene;
	struct request requests[READS] = {0};

	for (size_t i = 0; i < READS; i++) {
		for (size_t k = 0; k < REQUEST_KEYS; k++)
			requests[i].ids[k] = scene->of_victim[i * REQUEST_KEYS + k];
		request_start(subject->client, &requests[i], scene->over->deadline_ms, NULL);
	}
	for (size_t i = 0; i < READS; i++)
		request_wait(&requests[i]);
	atomic_store(&subject->at_stage, true);
	if (subject->cell->stage == STAGE_HELD)
		until_let_go(subject);
	for (size_t i = 0; i < READS; i++) {
		scene_count(scene, &requests[i]); /* every byte of what it holds */
		far_prefetch_release(requests[i].handle);
	}
}

/* Until nothing in L1 is named by anybody. */
static void
reuse_wait(struct subject *subject)
{
	struct outcome *outcome = subject->scene->outcome;
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	uint64_t until_ns = limit_ns();

	do {
		(void)far_clear(subject->client, 0);
		far_stats_get(subject->client, &stats);
		if (stats.l1_used_bytes == 0 && stats.l1_loans == 0) {
			outcome->reuse_ns = far_now_ns() - atomic_load(&subject->scene->fault_ns);
			return;
		}
		(void)usleep(POLL_US);
	} while (far_now_ns() < until_ns);
}

static void *
subject_main_thread(void *arg)
{
	struct subject *subject = arg;

	atomic_store(&subject->armed, true);
	if (is_store(subject->cell->stage))
		subject_stores(subject);
	else
		subject_reads(subject);
	/* Those that hold let go when they are told to: that says nothing. */
	if (subject->cell->stage != STAGE_IDLE && subject->cell->stage != STAGE_HELD)
		reuse_wait(subject);
	return NULL;
}

static void
subject_start(struct subject *subject)
{
	struct scene *scene = subject->scene;
	char error[256] = "";

	stage_hook_set(scene->donors[VICTIM]->address, on_stage, subject);
	if (far_client_open_file(scene->rig.client_config, error, sizeof(error), &subject->client) <
		    0 ||
	    far_client_wait_donors(subject->client, limit_ns(), error, sizeof(error)) < 0)
		cell_fail("the subject: %s", error);
	CELL_CHECK(pthread_create(&subject->thread, NULL, subject_main_thread, subject) == 0);
}

/* ---- the fault ---- */

static void
wait_for(_Atomic bool *what, const char *name)
{
	uint64_t until_ns = limit_ns();

	while (!atomic_load(what)) {
		if (far_now_ns() > until_ns)
			cell_fail("the stage was not reached: %s", name);
		(void)usleep(POLL_US);
	}
}

/* The donor stops itself, before it answers. */
static void
answer_wait(struct subject *subject)
{
	struct scene *scene = subject->scene;
	uint64_t until_ns = limit_ns();

	while (atomic_load(&scene->page->reached_ns) == 0) {
		if (far_now_ns() > until_ns)
			cell_fail("the stage was not reached: answer");
		(void)usleep(POLL_US);
	}
	process_wait_stopped(victim_pid(scene));
	strike(subject);
}

static void
fault_strike(struct subject *subject)
{
	enum stage stage = subject->cell->stage;

	if (stage == STAGE_ANSWER) {
		answer_wait(subject);
		scene_stores_go(subject->scene);
	} else if (stage == STAGE_IDLE || stage == STAGE_HELD) {
		wait_for(&subject->at_stage, stage_name(stage));
		freeze(subject);
		strike(subject);
	} else {
		wait_for(&subject->hit, stage_name(stage));
	}
}

static void
fault_end(struct subject *subject)
{
	struct scene *scene = subject->scene;
	struct rig_donor *victim = scene->donors[VICTIM];

	switch (subject->cell->kind) {
	case FAULT_STOP:
		far_clock_sleep_until(atomic_load(&scene->fault_ns) +
				      scene->over->stop_ms * FAR_NS_PER_MS);
		(void)rig_donor_signal(victim, SIGCONT);
		break;
	case FAULT_RESTART:
		(void)rig_donor_signal(victim, SIGKILL);
		rig_donor_start(victim);
		break;
	case FAULT_KILL:
		(void)rig_donor_signal(victim, SIGKILL);
		scene->victim_gone = true;
		break;
	}
	scene_fault_over(scene);
}

static void
donor_run(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	static struct scene scene;
	static struct subject subject;

	scene_begin(&scene, over, outcome, true);
	CELL_CHECK(scene.of_victim_count >= READS * REQUEST_KEYS);
	subject.scene = &scene;
	subject.cell = cell;
	scene_load(&scene);
	if (cell->stage == STAGE_ANSWER) {
		/* The answer that it stops before shall be to the subject. */
		scene_stores_hold(&scene);
		atomic_store(&scene.page->armed, STAGE_ANSWER);
	}
	subject_start(&subject);
	fault_strike(&subject);
	fault_end(&subject);
	atomic_store(&subject.lets_go, true);
	(void)pthread_join(subject.thread, NULL);
	client_leaks(subject.client, subject.puts, outcome->leaks);
	far_client_close(subject.client);
	scene_end(&scene);
}

/* clang-format off */
#define CELLS(stage, what, kill, stop, restart) \
	{"donor", "SIGKILL", what, FAULT_KILL, stage, kill, donor_run}, \
	{"donor", "SIGSTOP", what, FAULT_STOP, stage, stop, donor_run}, \
	{"donor", "restart", what, FAULT_RESTART, stage, restart, donor_run},

const struct cell donor_cells[] = {
	CELLS(STAGE_LANE_ASK, "store: lane asked for", false, false, true)
	CELLS(STAGE_WRITES, "store: WRITEs in flight", true, true, false)
	CELLS(STAGE_COMMIT, "store: COMMIT in flight", true, true, false)
	CELLS(STAGE_ANSWER, "store: slots are there, no answer", false, false, true)
	CELLS(STAGE_IDLE, "store: idle after", false, false, false)
	CELLS(STAGE_LOOKUP, "prefetch: lookup", false, false, true)
	CELLS(STAGE_DATA, "prefetch: data reads", true, true, false)
	CELLS(STAGE_FLIP, "prefetch: before the flip", true, false, false)
	CELLS(STAGE_HELD, "prefetch: held by reader", false, false, true)
};
/* clang-format on */

const size_t donor_cell_count = sizeof(donor_cells) / sizeof(donor_cells[0]);
