/* sim.c - a rack from the start of a history to its end, with nothing left over. */
#include "tests/model/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mutant.h"

#define BURST_MAX   12 /* things that a late thread sees at once */
#define LATE_COPIES 16
#define LATE_NS     (400 * FAR_NS_PER_US)
#define END_ROUNDS  400
#define END_STEP_NS (10 * FAR_NS_PER_MS)

void
sim_fail(struct sim *sim, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(sim->report->why, sizeof(sim->report->why), fmt, args);
	va_end(args);
	_Exit(3);
}

/* ---- copies that a broken donor makes late ---- */

static struct sim *running;

static struct {
	uint64_t at_ns; /* 0: none */
	uint8_t *to;
	uint8_t bytes[SIM_BLOCK_MAX];
	size_t size_bytes;
} late[LATE_COPIES];

void
far_mutant_copy_late(void *to, const void *from, size_t size_bytes)
{
	for (uint32_t i = 0; running != NULL && i < LATE_COPIES; i++) {
		if (late[i].at_ns != 0)
			continue;
		FAR_ASSERT(size_bytes <= sizeof(late[i].bytes));
		late[i].at_ns = far_clock_now(running->clock) + LATE_NS;
		late[i].to = to;
		late[i].size_bytes = size_bytes;
		memcpy(late[i].bytes, from, size_bytes);
		return;
	}
	memcpy(to, from, size_bytes);
}

static void
late_copies_make(const struct sim *sim)
{
	uint64_t now_ns = far_clock_now(sim->clock);

	for (uint32_t i = 0; i < LATE_COPIES; i++) {
		if (late[i].at_ns == 0 || late[i].at_ns > now_ns)
			continue;
		memcpy(late[i].to, late[i].bytes, late[i].size_bytes);
		late[i].at_ns = 0;
	}
}

static void
turns(struct sim *sim)
{
	for (uint32_t i = 0; i < SIM_CLIENTS; i++)
		sim_client_turn(&sim->clients[i]);
	for (uint32_t i = 0; i < SIM_DONORS; i++)
		sim_donor_turn(&sim->donors[i]);
	if (FAR_MUTANT(SLOT_BEFORE_COPY))
		late_copies_make(sim);
}

void
sim_pass(struct sim *sim, uint64_t for_ns)
{
	uint64_t until_ns = far_clock_now(sim->clock) + for_ns, burst = 0;

	while (far_loop_step(sim->fabric, until_ns)) {
		sim->report->events++;
		/* A thread that is late now and then sees several things at once. */
		if (burst-- > 0)
			continue;
		burst = far_rng_below(&sim->rng, BURST_MAX);
		turns(sim);
	}
	turns(sim);
}

static void
sim_open(struct sim *sim, uint64_t seed)
{
	struct far_rng rng;
	struct far_loop_config loop = {
		.seed = seed,
		.latency_ns_min = 1000,
		.latency_ns_max = 12000,
		.reorder = true,
		.late_ns_max = 8 * FAR_NS_PER_MS,
	};

	far_rng_init(&rng, seed ^ 0xfab);
	loop.reexecute = (uint32_t)far_rng_below(&rng, 2) * 3000U;
	loop.drop_link = far_rng_below(&rng, 4) == 0 ? 6 : 0;
	loop.late = (uint32_t)far_rng_below(&rng, 3) * 300U;
	loop.sums_from = (uint32_t)far_rng_below(&rng, 2) * 64U;
	far_rng_init(&sim->rng, seed ^ 0x5c4ed);
	FAR_ASSERT(far_loop_fabric_open(&loop, &sim->fabric) == 0);
	sim->clock = far_loop_clock(sim->fabric);
	for (uint32_t i = 0; i < SIM_DONORS; i++) {
		struct sim_donor *donor = &sim->donors[i];

		donor->sim = sim;
		far_rng_init(&donor->rng, seed ^ (0xd0 + i));
		(void)snprintf(donor->name, sizeof(donor->name), "donor-%u", i);
		sim_donor_start(donor, false);
	}
	sim_landings_watch(sim);
	for (uint32_t i = 0; i < SIM_CLIENTS; i++) {
		struct sim_client *client = &sim->clients[i];

		client->sim = sim;
		client->number = i;
		far_rng_init(&client->rng, seed ^ (0xc0 + i));
		(void)snprintf(client->name, sizeof(client->name), "client-%u", i);
		sim_client_start(client);
	}
}

static bool
all_idle(const struct sim *sim)
{
	for (uint32_t i = 0; i < SIM_CLIENTS; i++)
		if (!sim_client_idle(&sim->clients[i]))
			return false;
	return true;
}

/* A fair schedule: everything works again, and so everything ends. */
static void
sim_close(struct sim *sim)
{
	struct sim_action mend = {.kind = SIM_MEND};

	sim_action_run(sim, &mend);
	for (uint32_t i = 0; i < SIM_DONORS; i++)
		sim_donor_pause(&sim->donors[i], false);
	for (uint32_t i = 0; i < SIM_CLIENTS; i++)
		sim_client_pause(&sim->clients[i], false);
	sim_pass(sim, 100 * FAR_NS_PER_MS);
	for (uint32_t i = 0; i < SIM_CLIENTS; i++)
		sim_client_quiesce(&sim->clients[i]);
	for (uint32_t i = 0; i < END_ROUNDS && !all_idle(sim); i++)
		sim_pass(sim, END_STEP_NS);
	if (!all_idle(sim))
		sim_fail(sim, "a fair schedule does not end");
	if (sim->submitted != sim->ended)
		sim_fail(sim, "%llu tasks of adapters were submitted, %llu ended",
			 (unsigned long long)sim->submitted, (unsigned long long)sim->ended);
	for (uint32_t i = 0; i < SIM_CLIENTS; i++)
		sim_client_close(&sim->clients[i]);
	for (uint32_t i = 0; i < SIM_DONORS; i++)
		sim_donor_close(&sim->donors[i]);
	far_loop_fabric_close(sim->fabric);
}

/* Lost links are what this is about; only what an assertion says is kept. */
static void
log_take(void *arg, enum far_log_level level, const char *line)
{
	struct sim_report *report = arg;

	if (level == FAR_LOG_ERROR && strstr(line, "assertion '") != NULL)
		(void)snprintf(report->why, sizeof(report->why), "%s", strstr(line, "assertion '"));
}

void
sim_run(const struct sim_history *history, struct sim_report *report)
{
	static struct sim sim;

	memset(&sim, 0, sizeof(sim));
	sim.report = report;
	running = &sim;
	far_log_sink_set(log_take, report);
	sim_open(&sim, history->seed);
	for (uint32_t i = 0; i < history->count; i++) {
		report->action_at = i;
		report->events++;
		sim_action_run(&sim, &history->actions[i]);
	}
	report->action_at = history->count;
	sim_close(&sim);
}
