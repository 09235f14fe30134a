/* donor_roundtrip.c - a real pool and the donor adapter over the unkind fabric: no wrong byte, ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "l2/l2.h"
#include "pool/pool.h"
#include "transport/loop/loop.h"

#define SEEDS        6U    /* FARPOOL_SEEDS=n runs more, FARPOOL_SEED=n that one */
#define STEPS        3000U /* of one history */
#define LANE_BYTES   (4ULL << 20)
#define LANES        7U
#define POOL_BYTES   (LANES * LANE_BYTES)
#define BLOCK_MAX    (640U << 10)
#define KEYS         400U
#define RECENT       48U /* keys stored last: what readers ask for */
#define SLOTS        8U  /* tasks that live at once */
#define ITEMS        6U  /* of one task */
#define POISON_EVERY 4096U
#define POISON       0xdeadfee1deadfee1ULL
#define DEATHS_MAX   16U

/* A task of the history, with buffers of its own. */
struct slot {
	struct far_l2_task task;
	struct far_l2_item items[ITEMS];
	struct far_l2_piece pieces[ITEMS][3];
	uint32_t ids[ITEMS];
	uint8_t *buffers; /* ITEMS * BLOCK_MAX of the arena */
	bool live;
	bool poisoned; /* nobody may write to its buffers now */
};

struct world {
	uint64_t seed;
	struct far_rng rng;
	struct far_loop_fabric *fabric;
	struct far_clock *clock;
	/* The donor. */
	struct far_transport *donor_tp;
	struct far_pool *pool;
	uint8_t *index;
	uint8_t *segment;
	bool paused;
	bool storing; /* in the middle of a line: it does nothing else */
	bool cut;
	/* The client. */
	struct far_transport *tp;
	struct far_mem *arena_mem;
	uint8_t *arena;
	struct far_l2 *l2;
	struct slot slots[SLOTS];
	struct far_l2_item seen[KEYS]; /* what lookups said, however long ago */
	uint32_t recent[RECENT];
	/* What came of it. */
	uint64_t submitted;
	uint64_t ended;
	uint64_t loaded;
	uint64_t stored;
};

/* A killed process never runs its own clean-up; its memory is kept here, so that it is not lost. */
static struct far_pool *dead[4096];
static uint32_t dead_count;

static struct far_l2_status total;
static struct far_loop_counts total_fabric;
static uint64_t total_loaded;

/* ---- blocks: their bytes and length follow from their key ---- */

static struct far_key
key_of(uint32_t id)
{
	uint64_t words[2] = {far_mix64(id), far_mix64(id ^ 0xabcdef)};
	struct far_key key;

	memcpy(key.bytes, words, sizeof(key.bytes));
	return key;
}

static uint32_t
size_of(uint32_t id)
{
	if (id % 8 == 0)
		return 64 + id;
	return 65536 + (uint32_t)(far_mix64(id ^ 0x51ce) % (BLOCK_MAX - 65536));
}

static uint64_t
word_of(uint32_t id, uint32_t at)
{
	return ((uint64_t)id << 40 | at) * 0x9e3779b97f4a7c15ULL;
}

static void
block_fill(uint32_t id, uint8_t *to)
{
	uint32_t size = size_of(id);

	for (uint32_t at = 0; at < size; at += 8) {
		uint64_t word = word_of(id, at);

		memcpy(to + at, &word, size - at < 8 ? size - at : 8);
	}
}

static void
block_verify(const struct world *world, uint32_t id, const uint8_t *bytes)
{
	uint32_t size = size_of(id);

	for (uint32_t at = 0; at < size; at += 8) {
		uint64_t word = word_of(id, at);

		if (memcmp(bytes + at, &word, size - at < 8 ? size - at : 8) != 0)
			fail_msg("seed %llu: wrong byte served: block %u at %u of %u",
				 (unsigned long long)world->seed, id, at, size);
	}
}

static void
buffers_poison(struct slot *slot)
{
	const uint64_t poison = POISON;

	for (size_t at = 0; at < (size_t)ITEMS * BLOCK_MAX; at += POISON_EVERY)
		memcpy(slot->buffers + at, &poison, sizeof(poison));
	slot->poisoned = true;
}

/* Nothing landed in these buffers since their task ended. */
static void
buffers_check(const struct world *world, struct slot *slot)
{
	const uint64_t poison = POISON;

	for (size_t at = 0; slot->poisoned && at < (size_t)ITEMS * BLOCK_MAX; at += POISON_EVERY) {
		if (memcmp(slot->buffers + at, &poison, sizeof(poison)) != 0)
			fail_msg("seed %llu: bytes landed after done",
				 (unsigned long long)world->seed);
	}
	slot->poisoned = false;
}

/* ---- the donor's life ---- */

static void
donor_start(struct world *world)
{
	struct far_pool_config config = {
		.name = "donor",
		.name_space = "default",
		.capacity_bytes = POOL_BYTES,
		.segment_bytes = POOL_BYTES,
		.lane_bytes = LANE_BYTES,
		.block_bytes_min = 64 << 10,
		.grace_ns = far_rng_below(&world->rng, 3) * 10 * FAR_NS_PER_US,
		.lanes_free_min = 1,
		.lanes_open_max = 3,
		.lane_idle_ns = 20 * FAR_NS_PER_MS,
		.recall_ns = 200 * FAR_NS_PER_MS,
		.hot_share_max = 25,
		.links_max = 8,
	};
	struct far_transport_config tp_config = {
		.clock = world->clock, .fabric = world->fabric, .host = "donor"};
	struct far_mem_source source = {
		.base = world->index, .size_bytes = far_pool_index_bytes(&config, 1), .fd = -1};
	struct far_pool_rails rails = {.tps = &world->donor_tp, .count = 1};
	struct far_listener *listener;
	uint32_t number;

	/* As after a reboot: the same addresses, the same keys, another epoch. */
	far_loop_keys_repeat(world->fabric);
	memset(world->index, 0, source.size_bytes);
	assert_int_equal(far_transport_open("loop", &tp_config, &world->donor_tp), 0);
	assert_int_equal(far_pool_open(&config, &rails, &source, world->clock, &world->rng, NULL,
				       &world->pool),
			 0);
	source =
		(struct far_mem_source){.base = world->segment, .size_bytes = POOL_BYTES, .fd = -1};
	assert_int_equal(far_pool_segment_add(world->pool, &source, &number), 0);
	assert_int_equal(far_transport_listen(world->donor_tp, "donor", far_pool_accept,
					      world->pool, &listener),
			 0);
}

static void world_run(struct world *world, uint64_t for_ns);

static void
donor_kill_and_restart(struct world *world)
{
	far_loop_host_kill(world->fabric, "donor");
	assert_true(dead_count < sizeof(dead) / sizeof(dead[0]));
	dead[dead_count++] = world->pool;
	world->pool = NULL;
	world_run(world, far_rng_below(&world->rng, 300 * FAR_NS_PER_US));
	far_loop_host_bury(world->donor_tp);
	world->donor_tp = NULL;
	world_run(world, far_rng_below(&world->rng, 2) * 300 * FAR_NS_PER_US);
	world->paused = false;
	donor_start(world);
}

/* ---- time ---- */

static void
world_poll(struct world *world)
{
	uint64_t now_ns = far_clock_now(world->clock);

	while (far_transport_poll(world->tp, 64) > 0)
		;
	(void)far_l2_tick(world->l2, now_ns);
	if (world->pool == NULL || world->paused || world->storing)
		return;
	while (far_transport_poll(world->donor_tp, 64) > 0)
		;
	(void)far_pool_tick(world->pool, far_clock_now(world->clock));
}

static void
world_run(struct world *world, uint64_t for_ns)
{
	uint64_t until_ns = far_clock_now(world->clock) + for_ns;
	uint32_t burst = 0;

	while (far_loop_step(world->fabric, until_ns)) {
		/* A thread that is late now and then sees several things at once. */
		if (burst-- > 0)
			continue;
		burst = (uint32_t)far_rng_below(&world->rng, 12);
		world_poll(world);
	}
	world_poll(world);
}

static void
world_open(struct world *world, uint64_t seed)
{
	struct far_loop_config loop = {
		.seed = seed,
		.latency_ns_min = 1000,
		.latency_ns_max = 12000,
		.reorder = true,
		.reexecute = 3000,
		.drop_link = seed % 3 == 0 ? 6 : 0,
		.late = 500,
		.late_ns_max = 8 * FAR_NS_PER_MS,
		.sums_from = seed % 2 == 0 ? 64 : 0,
	};
	struct far_transport_config tp_config = {.host = "client"};
	struct far_l2_env env = {.connect_timeout_ns = 5 * FAR_NS_PER_MS,
				 .retry_ns_min = 50 * FAR_NS_PER_US,
				 .retry_ns_max = 400 * FAR_NS_PER_US,
				 .client_name = "model"};
	struct far_l2_config config = {.type = "donor", .name = "donor", .address = "loop:donor"};
	struct far_mem_source source = {.size_bytes = (size_t)SLOTS * ITEMS * BLOCK_MAX, .fd = -1};
	char error[256];

	memset(world, 0, sizeof(*world));
	world->seed = seed;
	far_rng_init(&world->rng, seed ^ 0x5eed);
	assert_int_equal(far_loop_fabric_open(&loop, &world->fabric), 0);
	world->clock = far_loop_clock(world->fabric);
	world->index = far_zalloc_aligned(4096, 1 << 20);
	world->segment = far_zalloc_aligned(4096, POOL_BYTES);
	donor_start(world);

	tp_config.clock = world->clock;
	tp_config.fabric = world->fabric;
	assert_int_equal(far_transport_open("loop", &tp_config, &world->tp), 0);
	world->arena = far_zalloc_aligned(4096, source.size_bytes);
	source.base = world->arena;
	assert_int_equal(
		far_transport_mem_reg(world->tp, &source, FAR_RIGHT_LOCAL, NULL, &world->arena_mem),
		0);
	for (uint32_t i = 0; i < SLOTS; i++)
		world->slots[i].buffers = world->arena + (size_t)i * ITEMS * BLOCK_MAX;
	env.clock = world->clock;
	env.rng = &world->rng;
	env.transports = &world->tp;
	env.arenas = &world->arena_mem;
	env.transport_count = 1;
	assert_int_equal(far_l2_open(&config, &env, &world->l2, error), 0);
}

static void
totals_add(struct world *world)
{
	struct far_l2_status status;
	struct far_loop_counts counts;

	far_l2_status_get(world->l2, &status);
	far_loop_counts_get(world->fabric, &counts);
	total.stale_rejects += status.stale_rejects;
	total.torn_rereads += status.torn_rereads;
	total.moved_followed += status.moved_followed;
	total.stores += status.stores;
	total.stores_had += status.stores_had;
	total.lookup_hits += status.lookup_hits;
	total.times_down += status.times_down;
	total_fabric.reexecuted += counts.reexecuted;
	total_fabric.lines_reordered += counts.lines_reordered;
	total_fabric.links_dropped += counts.links_dropped;
	total_loaded += world->loaded;
}

static void
world_close(struct world *world)
{
	far_l2_quiesce(world->l2);
	for (int i = 0; i < 100 && !far_l2_quiesced(world->l2); i++)
		world_run(world, 10 * FAR_NS_PER_MS);
	assert_true(far_l2_quiesced(world->l2));
	assert_int_equal(world->submitted, world->ended); /* each exactly once */
	for (uint32_t i = 0; i < SLOTS; i++)
		buffers_check(world, &world->slots[i]);
	totals_add(world);
	/* Whatever the client went through, the donor's own books are in order. */
	far_pool_check(world->pool);
	far_pool_shutdown(world->pool);
	for (int i = 0; i < 400 && !far_pool_closing_done(world->pool); i++)
		world_run(world, 10 * FAR_NS_PER_MS);
	assert_true(far_pool_closing_done(world->pool));
	far_l2_close(world->l2);
	far_transport_mem_dereg(world->arena_mem);
	far_transport_close(world->tp);
	/* Its listener goes with it: the process ends here. */
	far_pool_close(world->pool);
	far_loop_host_kill(world->fabric, "donor");
	far_loop_host_bury(world->donor_tp);
	far_loop_fabric_close(world->fabric);
	far_free(world->arena);
	far_free(world->segment);
	far_free(world->index);
}

/* ---- the history ---- */

static struct world *running;

static void
task_done(struct far_l2_task *task)
{
	struct slot *slot = FAR_CONTAINER_OF(task, struct slot, task);
	struct world *world = running;

	assert_true(slot->live);
	slot->live = false;
	world->ended++;
	for (uint32_t i = 0; i < task->count; i++) {
		uint32_t id = slot->ids[i];
		int rc = task->items[i].rc;

		assert_true(rc <= 0);
		assert_int_not_equal(rc, -EINVAL);
		assert_int_not_equal(rc, -EMSGSIZE);
		if (task->kind == FAR_L2_LOOKUP && rc == 0) {
			assert_int_equal(task->items[i].size_bytes, size_of(id));
			world->seen[id] = task->items[i];
		}
		if (task->kind == FAR_L2_LOAD && rc == 0) {
			block_verify(world, id, slot->buffers + (size_t)i * BLOCK_MAX);
			world->loaded++;
		}
		if (task->kind == FAR_L2_STORE && rc == 0)
			world->recent[world->stored++ % RECENT] = id;
	}
	buffers_poison(slot);
}

/* One to three pieces, cut anywhere. */
static void
item_make(struct world *world, struct slot *slot, uint32_t i)
{
	uint8_t *buffer = slot->buffers + (size_t)i * BLOCK_MAX;
	uint32_t size = size_of(slot->ids[i]);
	uint32_t first = (uint32_t)far_rng_below(&world->rng, size);
	struct far_l2_item *item = &slot->items[i];

	memset(item, 0, sizeof(*item));
	item->key = key_of(slot->ids[i]);
	slot->pieces[i][0] = (struct far_l2_piece){buffer, first};
	slot->pieces[i][1] = (struct far_l2_piece){buffer + first, 0};
	slot->pieces[i][2] = (struct far_l2_piece){buffer + first, size - first};
	if (slot->task.kind == FAR_L2_LOAD || slot->task.kind == FAR_L2_STORE) {
		item->pieces = slot->pieces[i];
		item->piece_count = 3;
	}
	if (slot->task.kind == FAR_L2_STORE)
		block_fill(slot->ids[i], buffer);
	/* Remembered, from this epoch or an older one, or none. */
	if (slot->task.kind == FAR_L2_LOAD && far_rng_below(&world->rng, 4) > 0)
		memcpy(item->hint, world->seen[slot->ids[i]].hint, sizeof(item->hint));
}

/* Readers ask for what was stored lately, and for a few keys all the time: eviction moves those. */
static uint32_t
id_pick(struct world *world, enum far_l2_kind kind, uint32_t any)
{
	if (kind == FAR_L2_STORE || far_rng_below(&world->rng, 16) == 0)
		return any % KEYS;
	if (far_rng_below(&world->rng, 3) == 0)
		return (uint32_t)far_rng_below(&world->rng, 12);
	return world->recent[far_rng_below(&world->rng, RECENT)];
}

static void
task_start(struct world *world, struct slot *slot)
{
	static const enum far_l2_kind kinds[] = {
		FAR_L2_STORE, FAR_L2_STORE, FAR_L2_STORE, FAR_L2_STORE,  FAR_L2_LOOKUP,
		FAR_L2_LOAD,  FAR_L2_LOAD,  FAR_L2_LOAD,  FAR_L2_LOOKUP, FAR_L2_LOAD,
	};
	uint32_t from = (uint32_t)far_rng_below(&world->rng, KEYS);

	buffers_check(world, slot);
	memset(&slot->task, 0, sizeof(slot->task));
	slot->task.kind = kinds[far_rng_below(&world->rng, sizeof(kinds) / sizeof(kinds[0]))];
	if (far_rng_below(&world->rng, 40) == 0)
		slot->task.kind = FAR_L2_DELETE;
	slot->task.items = slot->items;
	slot->task.count = 1 + (uint32_t)far_rng_below(&world->rng, ITEMS);
	slot->task.deadline_ns = far_clock_now(world->clock) + 20 * FAR_NS_PER_US +
				 far_rng_below(&world->rng, 20 * FAR_NS_PER_MS);
	slot->task.done = task_done;
	for (uint32_t i = 0; i < slot->task.count; i++) {
		slot->ids[i] = id_pick(world, slot->task.kind, from + i);
		item_make(world, slot, i);
	}
	slot->live = true;
	world->submitted++;
	far_l2_submit(world->l2, &slot->task);
	if (far_rng_below(&world->rng, 24) == 0)
		far_l2_cancel(world->l2, &slot->task);
}

/* The donor is caught in the middle of storing a few lines of its index. */
static void
lines_tear(struct world *world)
{
	struct far_index_header header;
	uint64_t *words[64];

	if (world->pool == NULL)
		return;
	memcpy(&header, world->index, sizeof(header));
	for (int i = 0; i < 64; i++) {
		uint64_t slot = far_rng_below(&world->rng, header.set_count * FAR_SET_SLOTS);

		words[i] = (uint64_t *)(void *)(world->index + header.sets_at +
						slot * FAR_SLOT_BYTES + 8 * (slot % 8));
		*words[i] ^= 1ULL << 40;
	}
	world->storing = true;
	world_run(world, far_rng_below(&world->rng, 40 * FAR_NS_PER_US));
	world->storing = false;
	for (int i = 0; i < 64; i++)
		*words[i] ^= 1ULL << 40;
}

static void
fault_make(struct world *world)
{
	uint64_t dice = far_rng_below(&world->rng, 4000);

	if (dice < 2 && world->submitted > 100) {
		donor_kill_and_restart(world);
	} else if (dice > 3970) {
		lines_tear(world);
	} else if (dice < 16) {
		far_loop_host_pause(world->fabric, "donor", true);
		world->paused = true;
	} else if (dice < 22) {
		world->cut = !world->cut;
		far_loop_partition(world->fabric, "donor", "client", world->cut);
	} else if (dice < 800 && (world->paused || world->cut)) {
		far_loop_host_pause(world->fabric, "donor", false);
		world->paused = false;
		far_loop_partition(world->fabric, "donor", "client", false);
		world->cut = false;
	}
}

static void
history_run(uint64_t seed)
{
	static struct world world;
	uint32_t deaths = dead_count;

	running = &world;
	world_open(&world, seed);
	for (uint32_t step = 0; step < STEPS; step++) {
		struct slot *slot = &world.slots[far_rng_below(&world.rng, SLOTS)];

		if (dead_count - deaths < DEATHS_MAX)
			fault_make(&world);
		if (!slot->live)
			task_start(&world, slot);
		world_run(&world, far_rng_below(&world.rng, 60 * FAR_NS_PER_US));
	}
	far_loop_host_pause(world.fabric, "donor", false);
	world.paused = false;
	far_loop_partition(world.fabric, "donor", "client", false);
	world_run(&world, 100 * FAR_NS_PER_MS);
	world_close(&world);
}

static void
quiet(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static void
histories_over_an_unkind_fabric_serve_no_wrong_byte(void **state)
{
	const char *one = getenv("FARPOOL_SEED");
	uint64_t first = one != NULL ? strtoull(one, NULL, 0) : 1;
	const char *more = getenv("FARPOOL_SEEDS");
	uint64_t count = one != NULL ? 1 : more != NULL ? strtoull(more, NULL, 0) : SEEDS;

	(void)state;
	far_log_sink_set(quiet, NULL); /* lost links are what this is about */
	for (uint64_t seed = first; seed < first + count; seed++)
		history_run(seed);
	far_log_sink_set(NULL, NULL);
	print_message(
		"seeds %llu..%llu: %llu loaded, %llu stored, %llu had, "
		"%llu looked up; stale rejects %llu, torn rereads %llu, moved followed %llu, "
		"down %llu, killed %u; reexecuted %llu, reordered lines %llu, dropped %llu\n",
		(unsigned long long)first, (unsigned long long)(first + count - 1),
		(unsigned long long)total_loaded, (unsigned long long)total.stores,
		(unsigned long long)total.stores_had, (unsigned long long)total.lookup_hits,
		(unsigned long long)total.stale_rejects, (unsigned long long)total.torn_rereads,
		(unsigned long long)total.moved_followed, (unsigned long long)total.times_down,
		dead_count, (unsigned long long)total_fabric.reexecuted,
		(unsigned long long)total_fabric.lines_reordered,
		(unsigned long long)total_fabric.links_dropped);
	if (one != NULL)
		return;
	/* What these histories are for was met. */
	assert_true(total_loaded > 1000);
	assert_true(total.stale_rejects > 0);
	assert_true(total.torn_rereads > 0);
	assert_true(total.moved_followed > 0);
	assert_true(dead_count > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(histories_over_an_unkind_fabric_serve_no_wrong_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
