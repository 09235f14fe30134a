/* prefetch_world.c - what goes on around a prefetch controller: other writers, evictors, faulty adapters. */
#include "tests/model/prefetch_world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "controllers/prefetch_priv.h"

struct world world;
uint64_t world_removed;

static const char *const policies[] = {"default", "retain", "placement", "fastest,retain",
				       "placement,fastest,retain"};

/* ---- keys and adapters by number ---- */

static uint32_t
number_of(const struct far_key *key)
{
	for (uint32_t i = 0; i < MODEL_KEYS; i++) {
		if (far_key_equal(&world.keys[i], key))
			return i;
	}
	return MODEL_KEYS; /* the evictor's */
}

/* NULL: a memory adapter. */
static struct fake_l2 *
fake_of(uint32_t adapter)
{
	return adapter < world.rig.fake_count ? &world.rig.fakes[adapter] : NULL;
}

static struct far_l2 *
memory_of(uint32_t adapter)
{
	return world.adapters[adapter];
}

bool
world_loading(uint32_t key)
{
	return far_prefetch_load_find(world.rig.prefetch, &world.keys[key]) != NULL;
}

static bool
fake_is_upset(struct fake_l2 *fake, const struct far_key *key)
{
	const struct fake_l2_block *block = fake_l2_block(fake, key);

	if (block->lie_left > 0)
		return true;
	/* Who answers -EAGAIN is asked again. */
	return (block->rc_lefts[FAR_L2_LOOKUP] > 0 && block->rcs[FAR_L2_LOOKUP] != -EAGAIN) ||
	       (block->rc_lefts[FAR_L2_LOAD] > 0 && block->rcs[FAR_L2_LOAD] != -EAGAIN);
}

static void
key_observe(uint32_t key)
{
	uint32_t before = world.model.held[key];

	world.model.held[key] = 0;
	world.model.upset[key] = 0;
	for (uint32_t a = 0; a < world.adapter_count; a++) {
		struct fake_l2 *fake = fake_of(a);
		bool held = fake != NULL ? fake_l2_has(fake, &world.keys[key])
					 : far_l2_memory_holds(memory_of(a), &world.keys[key]);

		if (held)
			world.model.held[key] |= 1U << a;
		if (fake != NULL && fake_is_upset(fake, &world.keys[key]))
			world.model.upset[key] |= 1U << a;
	}
	/* What has come there is not seen by a load that had asked before. */
	if ((world.model.held[key] & ~before) != 0 && world_loading(key))
		world.model.tainted[key] = true;
}

void
world_observe(const struct model_req *req)
{
	for (uint32_t i = 0; i < req->count; i++)
		key_observe(req->keys[i]);
}

/* ---- what L1 tells ---- */

static void
on_written(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)arg;
	for (size_t i = 0; i < count; i++) {
		uint32_t key = number_of(&events[i].key);

		if (key == MODEL_KEYS)
			continue;
		/* A load that has not reserved its buffer yet finds somebody there, who may go again. */
		model_upset(&world.model, key, 0, world_loading);
		model_resident(&world.model, key, true);
	}
}

static void
on_prefetched(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)arg;
	for (size_t i = 0; i < count; i++)
		model_resident(&world.model, number_of(&events[i].key), true);
}

static void
on_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)arg;
	for (size_t i = 0; i < count; i++) {
		uint32_t key = number_of(&events[i].key);

		if (key != MODEL_KEYS)
			model_resident(&world.model, key, false);
	}
}

/* ---- what others do to L1 ---- */

static void
write_begin(struct world_write *write)
{
	struct far_l1_want want = {.size_bytes = WORLD_BLOCK_BYTES};

	write->key = (uint32_t)below(MODEL_KEYS);
	want.key = world.keys[write->key];
	if (far_l1_reserve_write(world.rig.l1, world.rig.other, &want, 1, &write->grant) != 1)
		return;
	write->open = true;
	world.model.writing[write->key] = true;
	model_upset(&world.model, write->key, 0, world_loading);
}

static void
write_end(struct world_write *write)
{
	int rc;

	write->open = false;
	world.model.writing[write->key] = false;
	model_upset(&world.model, write->key, 0, world_loading);
	if (chance(30)) {
		(void)far_l1_abort_write(world.rig.l1, world.rig.other, &write->grant.loan, 1, &rc);
	} else {
		fake_l2_fill(&world.keys[write->key], write->grant.addr, WORLD_BLOCK_BYTES);
		(void)far_l1_finish_write(world.rig.l1, world.rig.other, &write->grant.loan, 1,
					  &rc);
	}
	/* -ENOENT: deleted by force. */
	assert_true(rc == 0 || rc == -ENOENT);
}

static void
do_write(void)
{
	struct world_write *write = &world.writes[below(WORLD_WRITES)];

	if (!write->open)
		write_begin(write);
	/* At once, or some steps later. */
	if (write->open && chance(60))
		write_end(write);
}

static void
do_delete(void)
{
	uint32_t key = (uint32_t)below(MODEL_KEYS);
	bool force = chance(20);
	int rc;

	if (force) {
		/* What is being stored is stored, though L1 does not know it any more. */
		world.model.stray[key] = true;
		model_upset(&world.model, key, 0, world_loading);
	}
	(void)far_l1_delete(world.rig.l1, &world.keys[key], 1, force, &rc);
	assert_true(rc == 0 || rc == -ENOENT || (rc == -EBUSY && !force));
}

/* ---- what adapters do ---- */

static struct put {
	struct far_l2_task task;
	struct far_l2_item item;
	struct far_l2_piece piece;
	bool live;
} put;

static void
put_done(struct far_l2_task *task)
{
	(void)task;
	put.live = false;
}

static uint8_t put_bytes[WORLD_BLOCK_BYTES];

/* Through its front door, by somebody else; one that does not answer at once is let be. */
static void
memory_put(uint32_t adapter, uint32_t key)
{
	if (put.live)
		return;
	fake_l2_fill(&world.keys[key], put_bytes, WORLD_BLOCK_BYTES);
	put.piece = (struct far_l2_piece){.addr = put_bytes, .size_bytes = WORLD_BLOCK_BYTES};
	put.item = (struct far_l2_item){
		.key = world.keys[key],
		.size_bytes = WORLD_BLOCK_BYTES,
		.pieces = &put.piece,
		.piece_count = 1,
	};
	put.task = (struct far_l2_task){
		.kind = FAR_L2_STORE,
		.items = &put.item,
		.count = 1,
		.deadline_ns = FAR_TIME_NEVER,
		.done = put_done,
	};
	put.live = true;
	model_put(&world.model, key, adapter, world_loading);
	far_l2_submit(memory_of(adapter), &put.task);
	(void)far_l2_tick(memory_of(adapter), world_now());
	/* It is not known when it comes, if it comes later. */
	world.model.stray[key] = world.model.stray[key] || put.live;
}

static void
adapter_put(uint32_t adapter, uint32_t key)
{
	if (fake_of(adapter) == NULL) {
		memory_put(adapter, key);
		return;
	}
	fake_l2_put(fake_of(adapter), &world.keys[key], WORLD_BLOCK_BYTES);
	model_put(&world.model, key, adapter, world_loading);
}

static void
adapter_drop(uint32_t adapter, uint32_t key)
{
	if (fake_of(adapter) != NULL)
		fake_l2_drop(fake_of(adapter), &world.keys[key]);
	else
		(void)far_l2_memory_lose(memory_of(adapter), &world.keys[key]);
	model_drop(&world.model, key, adapter, world_loading);
}

static void
do_content(void)
{
	uint32_t adapter = (uint32_t)below(world.adapter_count);
	uint32_t key = (uint32_t)below(MODEL_KEYS);

	if (chance(60))
		adapter_put(adapter, key);
	else
		adapter_drop(adapter, key);
}

static void
memory_fault(uint32_t adapter)
{
	static const int load_rcs[] = {-ESTALE, -EBADMSG, -EIO};
	struct far_l2 *l2 = memory_of(adapter);
	bool failing = (world.failing & (1U << adapter)) != 0;

	switch (below(3)) {
	case 0:
		far_l2_memory_down(l2, chance(40));
		break;
	case 1:
		far_l2_memory_hold(l2, (enum far_l2_kind)below(3), chance(40));
		return;
	default:
		failing = chance(50);
		far_l2_memory_fail_loads(l2, failing ? 1 + (uint32_t)below(4) : 0,
					 load_rcs[below(3)]);
		break;
	}
	world.failing &= ~(1U << adapter);
	world.failing |= (uint32_t)failing << adapter;
	{
		struct far_l2_status status;

		far_l2_status_get(l2, &status);
		model_down(&world.model, adapter, failing || status.state != FAR_L2_UP,
			   world_loading);
	}
}

static void
item_fault(uint32_t adapter)
{
	static const int rcs[] = {-ESTALE, -EBADMSG, -EIO, -ENOENT, -EHOSTDOWN, -EAGAIN};
	uint32_t key = (uint32_t)below(MODEL_KEYS);
	enum far_l2_kind kind = (enum far_l2_kind)below(3);
	struct fake_l2 *fake = fake_of(adapter);
	int rc = rcs[below(6)];

	if (kind != FAR_L2_STORE && rc != -EAGAIN)
		model_upset(&world.model, key, 1U << adapter, world_loading);
	fake_l2_fail(fake, &world.keys[key], kind, rc, 1 + (uint32_t)below(2));
}

static void
do_fault(void)
{
	uint32_t adapter = (uint32_t)below(world.adapter_count);
	struct fake_l2 *fake = fake_of(adapter);
	uint32_t key;

	if (fake == NULL) {
		memory_fault(adapter);
		return;
	}
	switch (below(9)) {
	case 0:
		fake->down = chance(40);
		model_down(&world.model, adapter, fake->down, world_loading);
		break;
	case 1:
		fake->held[below(3)] = chance(40);
		break;
	case 2:
		fake->deaf_cancel = chance(40);
		break;
	case 3:
		fake->delay_ns = chance(50) ? 0 : below(20 * FAR_NS_PER_MS);
		break;
	case 4:
		fake->reorder = chance(60);
		break;
	case 5:
		fake->full = chance(30);
		break;
	case 6:
		key = (uint32_t)below(MODEL_KEYS);
		model_upset(&world.model, key, 1U << adapter, world_loading);
		fake_l2_lie(fake, &world.keys[key], 1 + (uint32_t)below(8192), 1);
		break;
	default:
		item_fault(adapter);
		break;
	}
}

void
world_turn(void)
{
	for (uint32_t i = 0; i < world.adapter_count; i++) {
		if (fake_of(i) != NULL && chance(30))
			fake_l2_scribble(fake_of(i));
		if (chance(70))
			(void)far_l2_tick(world.adapters[i], world_now());
	}
}

/* ---- adapters come and go ---- */

static void
routes_learn(void)
{
	for (uint32_t k = 0; k < MODEL_KEYS; k++) {
		uint32_t idx[FAR_L2_SET_MAX];
		uint64_t nonsense = 0;
		uint32_t count = far_policy_route(&world.rig.policy, &world.rig.set, &world.keys[k],
						  idx, &nonsense);
		uint32_t routes = 0;

		for (uint32_t i = 0; i < count; i++)
			routes |= 1U << idx[i];
		key_observe(k);
		model_reroute(&world.model, k, routes, world_loading);
	}
}

/* One at a time, so that it comes back to the position that it had. */
static void
do_membership(void)
{
	struct far_l2_set *set = &world.rig.set;
	uint32_t at = world.leaving;

	if (at == world.adapter_count) {
		world.leaving = (uint32_t)below(world.adapter_count);
		far_l2_set_drain(set, world.leaving);
	} else if (set->items[at] == NULL) {
		assert_int_equal(far_l2_set_add(set, world.adapters[at]), 0);
		assert_int_equal(world.adapters[at]->idx, at);
		world.leaving = world.adapter_count;
	} else if (!far_prefetch_names(world.rig.prefetch, at) &&
		   !far_store_names(world.rig.store, at)) {
		/* Nobody names it: it owes nothing to anybody. */
		if (fake_of(at) != NULL) {
			assert_int_equal(fake_of(at)->locks_live, 0);
			assert_int_equal(fake_of(at)->task_count, 0);
		}
		assert_ptr_equal(far_l2_set_remove(set, at), world.adapters[at]);
		world_removed++;
	}
	routes_learn();
}

void
world_step(uint32_t dice)
{
	if (dice < 6)
		do_write();
	else if (dice < 8)
		do_delete();
	else if (dice < 10)
		(void)far_l1_clear(world.rig.l1, false);
	else if (dice < 11)
		l1_evictor_run(&world.evictor);
	else if (dice < 18)
		do_fault();
	else if (dice < 30)
		do_content();
	else if (dice < 40)
		far_clock_fake_advance(&world.rig.clock, below(5 * FAR_NS_PER_MS));
	else if (dice < 42)
		do_membership();
	else if (dice < 43)
		far_clock_fake_advance(&world.rig.clock, below(2 * FAR_NS_PER_S));
}

/* ---- open and close ---- */

static void
options_draw(struct ctl_options *options)
{
	options->store = true;
	options->fakes = 1 + (uint32_t)below(CTL_FAKES_MAX);
	options->memories = chance(50) ? (uint32_t)below(CTL_MEMORIES_MAX + 1) : 0;
	options->memory_latency_ns = chance(50) ? 0 : below(FAR_NS_PER_MS);
	options->policy = policies[below(sizeof(policies) / sizeof(policies[0]))];
	/* In every other history there is room for whatever can be locked, and more. */
	world.model.roomy = chance(50);
	options->l1_blocks = world.model.roomy ? 1024 : 8 + (uint32_t)below(120);
	options->l1_policy = chance(50) ? FAR_L1_LRU : FAR_L1_S3FIFO;
	options->prefetch.requests_max = 1 + (uint32_t)below(MODEL_REQS);
	options->prefetch.loads_max = 4 + (uint32_t)below(64);
	options->prefetch.window_keys = 1 + (uint32_t)below(16);
	options->prefetch.windows_ahead = 1 + (uint32_t)below(4);
	options->prefetch.window_bytes = chance(50) ? 0 : (1 + below(4)) * WORLD_BLOCK_BYTES;
	options->prefetch.bytes_in_flight_max = (2 + below(40)) * WORLD_BLOCK_BYTES;
	options->store_config.queue_max = 2 + (uint32_t)below(16);
	options->store_config.deadline_ns = 1 + below(20 * FAR_NS_PER_MS);
}

static void
adapters_fill(void)
{
	for (uint32_t i = 0; i < world.adapter_count; i++) {
		struct far_l2 *l2 = world.adapters[i];

		if (fake_of(i) != NULL) {
			l2->limits.items_max = 1 + (uint32_t)below(16);
			l2->limits.tasks_max = 4 * (uint32_t)below(4);
			l2->limits.load_bytes_best = below(8) * WORLD_BLOCK_BYTES;
		}
		for (uint32_t k = 0; k < MODEL_KEYS; k++) {
			if (chance(70))
				adapter_put(i, k);
		}
	}
}

void
world_open(uint64_t seed)
{
	struct far_l1_listener listener = {
		.written = on_written,
		.prefetched = on_prefetched,
		.deleted = on_deleted,
	};
	struct ctl_options options = {0};

	memset(&world, 0, sizeof(world));
	world.seed = seed;
	far_rng_init(&world.rng, seed);
	for (uint32_t i = 0; i < MODEL_KEYS; i++)
		world.keys[i] = fake_l2_key(i);
	options_draw(&options);
	ctl_rig_open(&world.rig, &options);
	assert_int_equal(far_l1_listen(world.rig.l1, &listener), 0);
	l1_evictor_open(&world.evictor, world.rig.l1, WORLD_BLOCK_BYTES);
	world.adapter_count = world.rig.set.count;
	world.leaving = world.adapter_count;
	for (uint32_t i = 0; i < world.adapter_count; i++)
		world.adapters[i] = world.rig.set.items[i];
	routes_learn();
	adapters_fill();
}

void
world_close(void)
{
	for (uint32_t i = 0; i < WORLD_WRITES; i++) {
		if (world.writes[i].open)
			write_end(&world.writes[i]);
	}
	l1_evictor_close(&world.evictor);
	ctl_rig_close(&world.rig);
	assert_false(put.live);
}

/* ---- which history it was ---- */

void
world_say_seed(void)
{
	char text[96];
	int bytes;

	if (world.seed == 0)
		return;
	bytes = snprintf(text, sizeof(text),
			 "to repeat it: FAR_SEED=%llu test-model-prefetch_history\n",
			 (unsigned long long)world.seed);
	if (bytes > 0 && write(STDERR_FILENO, text, (size_t)bytes) < 0)
		return;
}

static void
on_abort(int signal)
{
	(void)signal;
	world_say_seed();
}

void
world_say_seed_on_abort(void)
{
	struct sigaction action = {.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND};

	(void)sigaction(SIGABRT, &action, NULL);
}
