/* prefetch_history.c - random histories of the prefetch controller, a million steps, beside a small model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "controllers/prefetch_priv.h"
#include "tests/model/prefetch_world.h"

#include "base/err.h"

/*
 * Requests come, are cancelled and released; others write, delete and evict; adapters fail, lie, stall
 * and go down; time jumps. Whatever happens, each request ends once, no later than its deadline, with a
 * prefix that the model allows, and every byte of it is its key's for as long as its loans are held. When
 * all is over, nothing is left anywhere. Adapters scribble over the buffers of loads that have not
 * ended, and in a third of the histories an evictor runs behind every L1 call.
 */
#define STEPS 600
#ifdef FAR_DEBUG
#define HISTORIES 334 /* the sanitizers look for something else, and take eight times as long */
#else
#define HISTORIES 1667
#endif

enum slot_state {
	SLOT_FREE,
	SLOT_LIVE,
	SLOT_ENDED,
};

static struct ctl_req slots[MODEL_REQS];
static enum slot_state states[MODEL_REQS];
static bool cancelled[MODEL_REQS];
static uint64_t keys_counted; /* of requests that were not cancelled */
static uint64_t steps;
static uint64_t seed_first = 1;
static uint64_t seed_count = HISTORIES;

/* ---- what clients do ---- */

static void
request_make(struct ctl_req *req, struct model_req *expected)
{
	uint32_t first = (uint32_t)below(MODEL_KEYS);

	memset(expected, 0, sizeof(*expected));
	expected->count = (uint32_t)below(MODEL_REQ_KEYS);
	ctl_req_init(req, &world.rig, first, expected->count);
	req->req.mode = chance(25) ? FAR_PREFETCH_WARM : FAR_PREFETCH_LOOKUP;
	req->req.readers = 1 + (uint32_t)below(3);
	req->req.session = chance(50) ? world.rig.session : world.rig.other;
	req->req.deadline_ns = world_now() + below(chance(20) ? FAR_NS_PER_S : 40 * FAR_NS_PER_MS);
	for (uint32_t i = 0; i < expected->count; i++) {
		uint32_t number = (first + i) % MODEL_KEYS;

		if (i == 1 && chance(10))
			number = first;
		expected->keys[i] = number;
		req->keys[i] = world.keys[number];
	}
	if (chance(20))
		req->req.sizes = req->sizes;
	for (uint32_t i = 0; i < expected->count; i++) {
		req->sizes[i] = chance(2)    ? WORLD_BLOCK_BYTES * 2
				: chance(50) ? WORLD_BLOCK_BYTES
					     : 0;
		expected->fits[i] =
			req->req.sizes == NULL || req->sizes[i] != WORLD_BLOCK_BYTES * 2;
	}
}

static void
do_submit(void)
{
	struct ctl_req *req;
	struct model_req *expected;
	uint32_t slot;
	int rc;

	for (slot = 0; slot < MODEL_REQS && states[slot] != SLOT_FREE; slot++)
		;
	if (slot == MODEL_REQS)
		return;
	req = &slots[slot];
	expected = &world.model.reqs[slot];
	request_make(req, expected);
	if (req->req.mode == FAR_PREFETCH_LOOKUP && req->req.sizes == NULL && chance(60))
		ctl_req_lock_prefix(req);
	expected->l1_prefix_count = req->req.l1_prefix_count;
	rc = far_prefetch_submit(world.rig.prefetch, &req->req);
	if (rc == 0) {
		world_observe(expected);
		model_submit(&world.model, expected, world_loading);
		states[slot] = SLOT_LIVE;
		cancelled[slot] = false;
		return;
	}
	assert_int_equal(rc, -E2BIG);
	req->req.prefix_count = req->req.l1_prefix_count;
	ctl_req_release(req);
}

static void
do_cancel(void)
{
	uint32_t slot = (uint32_t)below(MODEL_REQS);

	if (states[slot] != SLOT_LIVE)
		return;
	cancelled[slot] = true;
	far_prefetch_req_cancel(world.rig.prefetch, &slots[slot].req);
}

/* The prefix that was reported, while it grows and after it has. */
static void
check_bytes(uint32_t slot)
{
	const struct ctl_req *req = &slots[slot];

	if (states[slot] == SLOT_FREE || cancelled[slot] || req->req.mode == FAR_PREFETCH_WARM)
		return;
	for (uint32_t i = 0; i < req->advanced_to; i++) {
		const struct far_prefetch_view *view = &req->views[i];

		assert_int_equal(view->rc, 0);
		assert_true(view->loan != 0);
		assert_true(fake_l2_matches(&req->keys[i], view->addr, view->size_bytes));
	}
}

static void
do_release(uint32_t slot)
{
	struct ctl_req *req = &slots[slot];

	if (states[slot] != SLOT_ENDED)
		return;
	/* Still right, after all that went on since it ended. */
	ctl_req_verify(req);
	states[slot] = SLOT_FREE;
	if (chance(20) && req->req.prefix_count > 0 && req->views[0].loan != 0) {
		/* More than was lent is refused, and changes nothing. */
		int rc;

		(void)far_l1_finish_read(world.rig.l1, req->req.session, &req->views[0].loan, 1,
					 req->req.readers + 1, &rc);
		assert_int_equal(rc, -EINVAL);
	}
	ctl_req_release(req);
}

/* ---- what has to hold ---- */

static void
check_prefix(const struct ctl_req *req, const struct model_req *expected)
{
	uint32_t count = req->req.prefix_count;
	uint32_t min, max;

	model_bounds(expected, &min, &max);
	assert_true(count <= max);
	assert_true(count >= expected->l1_prefix_count);
	assert_true(count >= req->advanced_to);
	if (req->req.rc == -ETIMEDOUT)
		return;
	assert_int_equal(req->req.rc, 0);
	assert_true(count >= min);
	world.model.ends++;
	world.model.exact += min == max;
	/* Nowhere, and nobody had a reason to doubt it. */
	if (count < expected->count && !expected->may[count] && expected->clean[count] &&
	    expected->fits[count])
		assert_int_equal(req->views[count].rc, -ENOENT);
}

static void
check_ended(void)
{
	for (uint32_t i = 0; i < MODEL_REQS; i++) {
		const struct ctl_req *req = &slots[i];

		if (states[i] != SLOT_LIVE)
			continue;
		assert_true(req->ended_count <= 1);
		/* A tick has run since the deadline passed. */
		assert_true(req->ended_count == 1 || req->req.deadline_ns > world_now());
		if (req->ended_count == 0)
			continue;
		states[i] = SLOT_ENDED;
		world.model.reqs[i].live = false;
		ctl_req_verify(req);
		if (req->req.rc == -ECANCELED) {
			assert_true(cancelled[i]);
			assert_int_equal(req->req.prefix_count, 0);
			continue;
		}
		assert_true(req->req.rc == 0 || req->req.deadline_ns <= world_now());
		keys_counted += req->req.count;
		check_prefix(req, &world.model.reqs[i]);
	}
}

static void
check_counts(void)
{
	struct far_prefetch_counts c;

	far_prefetch_counts_get(world.rig.prefetch, &c);
	assert_int_equal(keys_counted, c.l1_hits + c.l2_hits + c.behind_gap + c.missed_not_found +
					       c.missed_donor_down + c.missed_stale +
					       c.missed_checksum + c.missed_length +
					       c.missed_no_memory + c.missed_deadline +
					       c.missed_busy + c.missed_error);
}

/* ---- one history ---- */

static void
do_turn(void)
{
	world_turn();
	(void)far_prefetch_tick(world.rig.prefetch, world_now());
	if (chance(70))
		(void)far_store_tick(world.rig.store, world_now());
	check_ended();
	if (chance(20))
		check_bytes((uint32_t)below(MODEL_REQS));
}

static void
do_step(void)
{
	uint64_t dice = below(100);

	steps++;
	if (dice < 20)
		do_submit();
	else if (dice < 24)
		do_cancel();
	else if (dice < 40)
		do_release((uint32_t)below(MODEL_REQS));
	else
		world_step((uint32_t)dice - 40);
	do_turn();
}

static void
after_l1_call(void *arg, struct far_l1 *l1, enum l1_call call)
{
	(void)arg;
	(void)call;
	if (l1 == world.rig.l1)
		l1_evictor_run(&world.evictor);
}

static void
history(uint64_t seed)
{
	struct l1_wrap wrap = {.after = after_l1_call};

	memset(states, 0, sizeof(states));
	keys_counted = 0;
	world_open(seed);
	if (chance(30))
		l1_wrap_set(&wrap);
	for (uint32_t i = 0; i < STEPS; i++)
		do_step();
	for (uint32_t i = 0; i < MODEL_REQS; i++)
		check_bytes(i);
	for (uint32_t i = 0; i < MODEL_REQS; i++)
		cancelled[i] = cancelled[i] || states[i] == SLOT_LIVE;
	far_prefetch_quiesce(world.rig.prefetch);
	do_turn();
	for (uint32_t i = 0; i < MODEL_REQS; i++) {
		assert_true(states[i] != SLOT_LIVE);
		do_release(i);
	}
	check_counts();
	l1_wrap_set(NULL);
	world_close();
}

static void
million_random_steps_differ_nowhere_from_the_model(void **state)
{
	uint64_t ends = 0, exact = 0;

	(void)state;
	for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
		world.seed = seed;
		history(seed);
		ends += world.model.ends;
		exact += world.model.exact;
	}
	world.seed = 0;
	print_message(
		"seeds %llu to %llu: %llu steps, %llu requests ran to their end, the prefix of "
		"%llu was known, %llu adapters were removed\n",
		(unsigned long long)seed_first, (unsigned long long)(seed_first + seed_count - 1),
		(unsigned long long)steps, (unsigned long long)ends, (unsigned long long)exact,
		(unsigned long long)world_removed);
	assert_true(seed_count < 10 || exact > 0);
}

static int
say_how_to_repeat(void **state)
{
	(void)state;
	world_say_seed();
	return 0;
}

static uint64_t
number_of(const char *text, uint64_t otherwise)
{
	return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(million_random_steps_differ_nowhere_from_the_model,
					  say_how_to_repeat),
	};

	/* One argument, or FAR_SEED: that seed alone; two: so many from it. */
	if (argc > 1 || getenv("FAR_SEED") != NULL) {
		seed_first = number_of(argc > 1 ? argv[1] : getenv("FAR_SEED"), 1);
		seed_count = number_of(argc > 2 ? argv[2] : NULL, 1);
	}
	world_say_seed_on_abort();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
