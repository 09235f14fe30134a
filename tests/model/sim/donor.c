/* donor.c - a donor's life: it lends, stands still, shrinks, dies, and is there again. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"
#include "tests/model/sim/sim.h"

#define SEGMENT_BYTES (SIM_LANES * SIM_LANE_BYTES)
#define POOL_BYTES    (SIM_SEGMENTS * SEGMENT_BYTES)
#define INDEX_BYTES   (256U << 10)
#define TORN_SLOTS    48U
#define FLIPS         24U
#define ERRAND_NS_MAX (40 * FAR_NS_PER_US)

/* ---- the shell: registrations take their time ---- */

static struct sim_errand *
errand_new(struct sim_donor *donor, uint32_t lane)
{
	for (uint32_t i = 0; i < SIM_ERRANDS; i++) {
		struct sim_errand *errand = &donor->errands[i];

		if (errand->at_ns != 0)
			continue;
		*errand = (struct sim_errand){
			.at_ns = far_clock_now(donor->sim->clock) + 1 +
				 far_rng_below(&donor->rng, ERRAND_NS_MAX),
			.lane = lane,
		};
		return errand;
	}
	sim_fail(donor->sim, "%s has more than %u registrations under way", donor->name,
		 SIM_ERRANDS);
}

static void
lane_register(struct far_pool_host *host, struct far_pool *pool, uint32_t lane,
	      const struct far_mem_source *source, struct far_link *link)
{
	struct sim_errand *errand =
		errand_new(FAR_CONTAINER_OF(host, struct sim_donor, host), lane);
	(void)pool;

	errand->source = *source;
	errand->link = link;
}

static void
lane_deregister(struct far_pool_host *host, struct far_pool *pool, uint32_t lane,
		struct far_mem *mem)
{
	struct sim_errand *errand =
		errand_new(FAR_CONTAINER_OF(host, struct sim_donor, host), lane);
	(void)pool;

	errand->end = true;
	errand->mem = mem;
}

static void
errands_run(struct sim_donor *donor)
{
	uint64_t now_ns = far_clock_now(donor->sim->clock);

	for (uint32_t i = 0; i < SIM_ERRANDS; i++) {
		struct sim_errand errand = donor->errands[i];
		struct far_mem *mem = NULL;
		int rc;

		if (errand.at_ns == 0 || errand.at_ns > now_ns)
			continue;
		donor->errands[i].at_ns = 0;
		if (errand.end) {
			far_transport_mem_dereg(errand.mem);
			far_pool_lane_deregistered(donor->pool, errand.lane);
			continue;
		}
		rc = far_transport_mem_reg(donor->tp, &errand.source, FAR_RIGHT_REMOTE_WRITE,
					   errand.link, &mem);
		far_pool_lane_registered(donor->pool, errand.lane, rc, mem);
	}
}

/* ---- its life ---- */

static void
config_make(struct sim_donor *donor, struct far_pool_config *config)
{
	*config = (struct far_pool_config){
		.name_space = "default",
		.capacity_bytes = POOL_BYTES,
		.segment_bytes = SEGMENT_BYTES,
		.lane_bytes = SIM_LANE_BYTES,
		.block_bytes_min = 1024,
		.grace_ns = far_rng_below(&donor->rng, 3) * 10 * FAR_NS_PER_US,
		.lanes_free_min = 1,
		.lanes_open_max = 4,
		.lane_idle_ns = 20 * FAR_NS_PER_MS,
		.recall_ns = 100 * FAR_NS_PER_MS,
		.hot_share_max = 25,
		.links_max = 8,
	};
	(void)snprintf(config->name, sizeof(config->name), "%s", donor->name);
}

static void
segment_lend(struct sim_donor *donor, uint32_t i)
{
	struct far_mem_source source = {
		.base = donor->segments[i],
		.size_bytes = SEGMENT_BYTES,
		.fd = -1,
	};
	int rc = far_pool_segment_add(donor->pool, &source, &donor->numbers[i]);

	/* What was never lent may stay so: the next action tries again. */
	if (rc < 0)
		donor->numbers[i] = 0;
}

/* As a shell does that finds a backing: the same numbers; a segment that was not lent is a new one. */
static void
segments_restore(struct sim_donor *donor)
{
	for (uint32_t i = 0; i < SIM_SEGMENTS; i++) {
		struct far_mem_source source = {
			.base = donor->segments[i],
			.size_bytes = SEGMENT_BYTES,
			.fd = -1,
		};

		if (donor->numbers[i] == 0)
			continue;
		if (far_pool_segment_restore(donor->pool, &source, donor->numbers[i]) < 0)
			donor->numbers[i] = 0;
	}
	for (uint32_t i = 0; i < SIM_SEGMENTS; i++) {
		donor->draining[i] = false;
		if (donor->numbers[i] == 0)
			segment_lend(donor, i);
	}
}

static void
pool_open(struct sim_donor *donor, bool over)
{
	struct far_pool_rails rails = {.tps = &donor->tp, .count = 1};
	struct far_mem_source source = {.base = donor->index, .size_bytes = INDEX_BYTES, .fd = -1};
	struct far_pool_config config;
	int rc = -EINVAL;

	config_make(donor, &config);
	FAR_ASSERT(far_pool_index_bytes(&config, 1) <= INDEX_BYTES);
	if (over)
		rc = far_pool_reopen(&config, &rails, &source, donor->sim->clock, &donor->rng,
				     &donor->host, &donor->pool);
	if (rc == 0) {
		segments_restore(donor);
		return;
	}
	/* An index that cannot be taken over is removed. */
	memset(donor->index, 0, INDEX_BYTES);
	FAR_ASSERT(far_pool_open(&config, &rails, &source, donor->sim->clock, &donor->rng,
				 &donor->host, &donor->pool) == 0);
	for (uint32_t i = 0; i < SIM_SEGMENTS; i++) {
		donor->draining[i] = false;
		segment_lend(donor, i);
	}
}

void
sim_donor_start(struct sim_donor *donor, bool over)
{
	struct far_transport_config tp_config = {
		.clock = donor->sim->clock, .fabric = donor->sim->fabric, .host = donor->name};
	struct far_listener *listener;

	if (donor->index == NULL) {
		donor->index = far_zalloc_aligned(4096, INDEX_BYTES);
		for (uint32_t i = 0; i < SIM_SEGMENTS; i++)
			donor->segments[i] = far_zalloc_aligned(4096, SEGMENT_BYTES);
	}
	/* As after a reboot: the same addresses, the same keys, another epoch. */
	far_loop_keys_repeat(donor->sim->fabric);
	memset(donor->errands, 0, sizeof(donor->errands));
	donor->host = (struct far_pool_host){lane_register, lane_deregister};
	FAR_ASSERT(far_transport_open("loop", &tp_config, &donor->tp) == 0);
	pool_open(donor, over);
	FAR_ASSERT(far_transport_listen(donor->tp, donor->name, far_pool_accept, donor->pool,
					&listener) == 0);
	donor->paused = false;
	donor->lives++;
}

/* Memory that kept what it had, but for a few bits. */
static void
bits_flip(struct sim_donor *donor, const struct sim_action *action)
{
	for (uint32_t i = 0; i < FLIPS; i++) {
		uint8_t *segment = donor->segments[sim_draw(action, 10 + i, SIM_SEGMENTS)];
		uint32_t bit = 1U << sim_draw(action, 40 + i, 8);

		segment[sim_draw(action, 100 + i, SEGMENT_BYTES)] ^= (uint8_t)bit;
		donor->index[sim_draw(action, 200 + i, INDEX_BYTES)] ^= (uint8_t)bit;
	}
}

/* A killed process does not clean up: its pool is lost, and with the history's process its memory. */
void
sim_donor_kill(struct sim_donor *donor, const struct sim_action *action)
{
	far_loop_host_kill(donor->sim->fabric, donor->name);
	donor->pool = NULL;
	sim_pass(donor->sim, sim_draw(action, 0, 300) * FAR_NS_PER_US);
	far_loop_host_bury(donor->tp);
	donor->tp = NULL;
	sim_pass(donor->sim, sim_draw(action, 1, 2) * (300 * FAR_NS_PER_US));
	if (sim_draw(action, 2, 4) == 0)
		bits_flip(donor, action);
	/* Over a backing, or over memory that is empty again. */
	sim_donor_start(donor, sim_draw(action, 3, 3) != 0);
}

void
sim_donor_pause(struct sim_donor *donor, bool paused)
{
	donor->paused = paused;
	far_loop_host_pause(donor->sim->fabric, donor->name, paused);
}

static void
drained(void *arg, uint32_t segment)
{
	struct sim_donor *donor = arg;

	for (uint32_t i = 0; i < SIM_SEGMENTS; i++) {
		if (donor->draining[i] && donor->numbers[i] == segment) {
			donor->draining[i] = false;
			donor->numbers[i] = 0;
			/* Its memory is somebody else's now. */
			memset(donor->segments[i], 0xdb, SEGMENT_BYTES);
		}
	}
}

void
sim_donor_shrink(struct sim_donor *donor, const struct sim_action *action)
{
	uint32_t i = sim_draw(action, 0, SIM_SEGMENTS), lent = 0;

	if (donor->pool == NULL || donor->paused || donor->draining[i])
		return;
	for (uint32_t s = 0; s < SIM_SEGMENTS; s++)
		lent += donor->numbers[s] != 0 && !donor->draining[s];
	if (donor->numbers[i] == 0) {
		segment_lend(donor, i);
	} else if (lent > 1) {
		donor->draining[i] = true;
		if (far_pool_segment_drain(donor->pool, donor->numbers[i], drained, donor) < 0)
			donor->draining[i] = false;
	}
}

/* One that names a block, from anywhere on; any if there is none. */
static uint8_t *
slot_used(const struct sim_donor *donor, const struct far_index_header *header, uint32_t from)
{
	uint64_t count = header->set_count * FAR_SET_SLOTS;

	for (uint64_t i = 0; i < count; i++) {
		uint8_t *at = donor->index + header->sets_at + (from + i) % count * FAR_SLOT_BYTES;
		struct far_slot slot;

		memcpy(&slot, at, sizeof(slot));
		if ((slot.flags & FAR_SLOT_USED) != 0)
			return at;
	}
	return donor->index + header->sets_at;
}

/* It is caught in the middle of storing lines of its index: a reader has to see that they are torn. */
void
sim_donor_tear(struct sim_donor *donor, const struct sim_action *action)
{
	struct far_index_header header;
	struct far_index_live *live, was;
	uint64_t *words[TORN_SLOTS];

	if (donor->pool == NULL || donor->storing)
		return;
	memcpy(&header, donor->index, sizeof(header));
	for (uint32_t i = 0; i < TORN_SLOTS; i++) {
		uint8_t *slot = slot_used(donor, &header, sim_draw(action, i + 2, UINT32_MAX));

		words[i] = (uint64_t *)(void *)slot + sim_draw(action, i + 200, 8);
		*words[i] ^= 1ULL << 40;
	}
	/* Or its successor's line is there already, while the link to it still seems to live. */
	live = (struct far_index_live *)(void *)(donor->index + header.live_at);
	was = *live;
	switch (sim_draw(action, 1, 6)) {
	case 0:
		live->state ^= 1ULL << 40;
		break;
	case 1:
		live->epoch ^= 1;
		far_index_live_seal(live);
		break;
	default:
		break;
	}
	donor->storing = true;
	sim_pass(donor->sim, sim_draw(action, 0, 40) * FAR_NS_PER_US);
	donor->storing = false;
	*live = was;
	for (uint32_t i = 0; i < TORN_SLOTS; i++)
		*words[i] ^= 1ULL << 40;
}

void
sim_donor_turn(struct sim_donor *donor)
{
	if (donor->pool == NULL || donor->paused || donor->storing)
		return;
	while (far_transport_poll(donor->tp, 64) > 0)
		;
	errands_run(donor);
	(void)far_pool_tick(donor->pool, far_clock_now(donor->sim->clock));
}

void
sim_donor_close(struct sim_donor *donor)
{
	far_pool_check(donor->pool);
	far_pool_shutdown(donor->pool);
	for (uint32_t i = 0; i < 100 && !far_pool_closing_done(donor->pool); i++)
		sim_pass(donor->sim, 10 * FAR_NS_PER_MS);
	if (!far_pool_closing_done(donor->pool))
		sim_fail(donor->sim, "%s does not close", donor->name);
	far_pool_close(donor->pool);
	donor->pool = NULL;
	/* Its listener goes with it: the process ends here. */
	far_loop_host_kill(donor->sim->fabric, donor->name);
	far_loop_host_bury(donor->tp);
	donor->tp = NULL;
	far_free(donor->index);
	for (uint32_t i = 0; i < SIM_SEGMENTS; i++)
		far_free(donor->segments[i]);
}
