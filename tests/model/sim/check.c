/* check.c - what a broken promise looks like: bytes of another key, bytes that land in foreign buffers. */
#include <string.h>

#include "tests/model/sim/sim.h"

#define TASKS_MAX 256U

/* ---- blocks: bytes and length follow from the key ---- */

struct far_key
sim_key(uint32_t id)
{
	uint64_t words[2] = {far_mix64(id), far_mix64(id ^ 0xabcdefU)};
	struct far_key key;

	memcpy(key.bytes, words, sizeof(key.bytes));
	return key;
}

uint32_t
sim_size(uint32_t id)
{
	if (id % 8 == 0)
		return 64 + id;
	return 512 + (uint32_t)(far_mix64(id ^ 0x51ceU) % (SIM_BLOCK_MAX - 512));
}

static uint64_t
word_of(uint32_t id, uint32_t at)
{
	return ((uint64_t)id << 40 | at) * 0x9e3779b97f4a7c15ULL;
}

void
sim_block_fill(uint32_t id, uint8_t *to)
{
	uint32_t size = sim_size(id);

	for (uint32_t at = 0; at < size; at += 8) {
		uint64_t word = word_of(id, at);

		memcpy(to + at, &word, size - at < 8 ? size - at : 8);
	}
}

void
sim_block_check(struct sim *sim, uint32_t id, const void *bytes, uint32_t size_bytes,
		const char *where)
{
	const uint8_t *at_bytes = bytes;

	if (size_bytes != sim_size(id))
		sim_fail(sim, "%s: block %u has %u bytes instead of %u", where, id, size_bytes,
			 sim_size(id));
	for (uint32_t at = 0; at < size_bytes; at += 8) {
		uint64_t word = word_of(id, at);

		if (memcmp(at_bytes + at, &word, size_bytes - at < 8 ? size_bytes - at : 8) != 0)
			sim_fail(sim, "%s: wrong byte served: block %u at %u of %u", where, id, at,
				 size_bytes);
	}
	sim->report->checks[SIM_CHECK_BYTES]++;
}

/* ---- which buffers live loads name; adapters' tasks pass through here ---- */

struct watched {
	struct far_l2_task *task; /* NULL: free */
	const struct sim_client *client;
	void (*done)(struct far_l2_task *task);
};

static struct sim *watching;
static struct watched tasks[TASKS_MAX];
static uint32_t tasks_high; /* all that are used lie below it */

static bool
task_names(const struct far_l2_task *task, const uint8_t *from, const uint8_t *to)
{
	for (uint32_t i = 0; i < task->count; i++) {
		const struct far_l2_item *item = &task->items[i];

		for (uint32_t p = 0; p < item->piece_count; p++) {
			const uint8_t *piece = item->pieces[p].addr;

			if (from >= piece && to <= piece + item->pieces[p].size_bytes)
				return true;
		}
	}
	return false;
}

static bool
task_touches(const struct far_l2_task *task, const uint8_t *from, const uint8_t *to)
{
	for (uint32_t i = 0; i < task->count; i++) {
		const struct far_l2_item *item = &task->items[i];

		for (uint32_t p = 0; p < item->piece_count; p++) {
			const uint8_t *piece = item->pieces[p].addr;

			if (from < piece + item->pieces[p].size_bytes && to > piece)
				return true;
		}
	}
	return false;
}

/* Where the L1 of a client is told that bytes arrive. */
static void
landed(void *arg, const void *addr, uint64_t size_bytes)
{
	struct sim *sim = arg;
	const uint8_t *from = addr, *to = from + size_bytes;
	bool arena = false;

	sim->report->landings++;
	for (uint32_t c = 0; c < SIM_CLIENTS && !arena; c++) {
		const uint8_t *base = sim->clients[c].arena;

		arena = from >= base && from < base + SIM_ARENA_BYTES;
	}
	if (!arena)
		return; /* an adapter's own scratch */
	for (uint32_t i = 0; i < tasks_high; i++) {
		if (tasks[i].task != NULL && task_names(tasks[i].task, from, to)) {
			sim->report->checks[SIM_CHECK_LANDING]++;
			return;
		}
	}
	sim_fail(sim, "%u bytes landed in a buffer that no load names", (unsigned)size_bytes);
}

void
sim_landings_watch(struct sim *sim)
{
	watching = sim;
	memset(tasks, 0, sizeof(tasks));
	tasks_high = 0;
	far_loop_landing_set(sim->fabric, landed, sim);
}

void
sim_buffer_check(struct sim *sim, const void *bytes, uint32_t size_bytes, const char *where)
{
	const uint8_t *from = bytes;

	for (uint32_t i = 0; i < tasks_high; i++)
		if (tasks[i].task != NULL && tasks[i].task->kind == FAR_L2_LOAD &&
		    task_touches(tasks[i].task, from, from + size_bytes))
			sim_fail(sim, "%s: a buffer is handed out that a load still names", where);
}

static void
watched_done(struct far_l2_task *task)
{
	void (*done)(struct far_l2_task *) = NULL;

	for (uint32_t i = 0; i < tasks_high && done == NULL; i++) {
		if (tasks[i].task == task) {
			done = tasks[i].done;
			tasks[i].task = NULL;
		}
	}
	if (done == NULL)
		sim_fail(watching, "a task of an adapter ended twice");
	watching->ended++;
	watching->report->checks[SIM_CHECK_ENDED]++;
	task->done = done;
	done(task);
}

void
sim_task_watch(const struct sim_client *client, struct far_l2_task *task)
{
	uint32_t i = 0;

	while (i < TASKS_MAX && tasks[i].task != NULL)
		i++;
	if (i == TASKS_MAX)
		sim_fail(watching, "more than %u tasks live", TASKS_MAX);
	tasks[i] = (struct watched){.task = task, .client = client, .done = task->done};
	if (i >= tasks_high)
		tasks_high = i + 1;
	task->done = watched_done;
	watching->submitted++;
}

void
sim_tasks_forget(const struct sim_client *client)
{
	for (uint32_t i = 0; i < tasks_high; i++) {
		if (tasks[i].task != NULL && tasks[i].client == client) {
			tasks[i].task = NULL;
			watching->submitted--;
		}
	}
}
