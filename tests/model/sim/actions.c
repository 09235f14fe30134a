/* actions.c - what can happen, how often, and a history of it out of a seed. */
#include <stdio.h>

#include "base/alloc.h"
#include "tests/model/sim/sim.h"

struct action_ops {
	const char *name;
	uint32_t
		weight; /* of 1000 or so; rare ones are rarer in most seeds, and frequent in some */
	bool fault;
};

static const struct action_ops table[SIM_KINDS] = {
	[SIM_WRITE] = {"write", 260, false},
	[SIM_PREFETCH] = {"prefetch", 300, false},
	[SIM_WARM] = {"warm", 30, false},
	[SIM_CANCEL] = {"cancel", 20, false},
	[SIM_RELEASE] = {"release", 260, false},
	[SIM_EVICT] = {"evict", 40, false},
	[SIM_DELETE] = {"delete", 20, false},
	[SIM_TEAR] = {"tear", 12, true},
	[SIM_DONOR_PAUSE] = {"donor-pause", 6, true},
	[SIM_DONOR_RESUME] = {"donor-resume", 40, false},
	[SIM_DONOR_KILL] = {"donor-kill", 2, true},
	[SIM_DONOR_SHRINK] = {"donor-shrink", 10, true},
	[SIM_CLIENT_PAUSE] = {"client-pause", 5, true},
	[SIM_CLIENT_RESUME] = {"client-resume", 60, false},
	[SIM_CLIENT_KILL] = {"client-kill", 1, true},
	[SIM_CUT] = {"cut", 4, true},
	[SIM_MEND] = {"mend", 60, false},
	[SIM_NO_MEMORY] = {"no-memory", 4, true},
	[SIM_REST] = {"rest", 6, false},
};

const char *
sim_kind_name(enum sim_kind kind)
{
	return table[kind].name;
}

uint32_t
sim_draw(const struct sim_action *action, uint32_t idx, uint32_t below)
{
	uint64_t hash = far_mix64((uint64_t)action->random << 32 | idx);

	return (uint32_t)((hash >> 32) * below >> 32);
}

/* Each seed has a mood: some faults often, most hardly ever. */
static uint32_t
weights_make(struct far_rng *rng, uint32_t weights[SIM_KINDS])
{
	uint32_t total = 0;

	for (uint32_t k = 0; k < SIM_KINDS; k++) {
		static const uint32_t moods[] = {0, 1, 1, 1, 4, 12};
		uint32_t mood = table[k].fault ? moods[far_rng_below(rng, 6)] : 1;

		weights[k] = table[k].weight * mood;
		total += weights[k];
	}
	return total;
}

int
sim_history_make(uint64_t seed, uint32_t count, struct sim_history *out)
{
	uint32_t weights[SIM_KINDS], total, pace;
	struct far_rng rng;

	*out = (struct sim_history){.seed = seed, .count = count};
	out->actions = far_zalloc_array(count, sizeof(*out->actions));
	if (out->actions == NULL)
		return -1;
	far_rng_init(&rng, seed ^ 0x5eed);
	total = weights_make(&rng, weights);
	pace = 4U << far_rng_below(&rng, 5);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t dice = far_rng_below(&rng, total);
		struct sim_action *action = &out->actions[i];

		while (dice >= weights[action->kind])
			dice -= weights[action->kind++];
		action->who = (uint8_t)far_rng_below(&rng, 256);
		action->run_us = (uint16_t)far_rng_below(&rng, pace);
		action->random = (uint32_t)far_rng_u64(&rng);
	}
	return 0;
}

static void
cut(struct sim *sim, const struct sim_action *action, bool on)
{
	for (uint32_t c = 0; c < SIM_CLIENTS; c++) {
		for (uint32_t d = 0; d < SIM_DONORS; d++) {
			bool chosen = c == action->who % SIM_CLIENTS &&
				      d == sim_draw(action, 0, SIM_DONORS);

			if (!on || chosen)
				far_loop_partition(sim->fabric, sim->clients[c].name,
						   sim->donors[d].name, on);
		}
	}
}

static void
donor_action_run(struct sim_donor *donor, const struct sim_action *action)
{
	switch ((enum sim_kind)action->kind) {
	case SIM_TEAR:
		sim_donor_tear(donor, action);
		break;
	case SIM_DONOR_PAUSE:
		sim_donor_pause(donor, true);
		break;
	case SIM_DONOR_RESUME:
		sim_donor_pause(donor, false);
		break;
	case SIM_DONOR_KILL:
		sim_donor_kill(donor, action);
		break;
	case SIM_DONOR_SHRINK:
		sim_donor_shrink(donor, action);
		break;
	default:
		break;
	}
}

static void
client_action_run(struct sim_client *client, const struct sim_action *action)
{
	switch ((enum sim_kind)action->kind) {
	case SIM_WRITE:
		sim_client_write(client, action);
		break;
	case SIM_PREFETCH:
	case SIM_WARM:
		sim_client_prefetch(client, action);
		break;
	case SIM_CANCEL:
		sim_client_cancel(client, action);
		break;
	case SIM_RELEASE:
		sim_client_release(client, action);
		break;
	case SIM_EVICT:
		sim_client_evict(client, action);
		break;
	case SIM_DELETE:
		sim_client_delete(client, action);
		break;
	case SIM_CLIENT_PAUSE:
		sim_client_pause(client, true);
		break;
	case SIM_CLIENT_RESUME:
		sim_client_pause(client, false);
		break;
	case SIM_CLIENT_KILL:
		sim_client_kill(client);
		break;
	default:
		break;
	}
}

void
sim_action_run(struct sim *sim, const struct sim_action *action)
{
	uint64_t run_ns = action->run_us * FAR_NS_PER_US;

	sim->report->actions[action->kind]++;
	switch ((enum sim_kind)action->kind) {
	case SIM_CUT:
		cut(sim, action, true);
		break;
	case SIM_MEND:
		cut(sim, action, false);
		break;
	case SIM_NO_MEMORY:
		far_alloc_fail_nth(1 + sim_draw(action, 0, 4));
		run_ns += 500 * FAR_NS_PER_US;
		break;
	case SIM_REST:
		run_ns += sim_draw(action, 0, 30) * FAR_NS_PER_MS;
		break;
	default:
		donor_action_run(&sim->donors[action->who % SIM_DONORS], action);
		client_action_run(&sim->clients[action->who % SIM_CLIENTS], action);
		break;
	}
	sim_pass(sim, run_ns);
	far_alloc_fail_nth(0);
}

void
sim_history_print(const struct sim_history *history)
{
	printf("fabric seed %llu\n", (unsigned long long)history->seed);
	for (uint32_t i = 0; i < history->count; i++) {
		const struct sim_action *action = &history->actions[i];

		printf("%4u  %-14s who %u  then %u us  (random %08x)\n", i,
		       sim_kind_name((enum sim_kind)action->kind), action->who % 2, action->run_us,
		       action->random);
	}
}
