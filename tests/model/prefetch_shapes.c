/* prefetch_shapes.c - random histories of requests, faults and time: what is read is right, once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

/*
 * The reference is short, since content follows from the key: whatever happens, each request ends once,
 * no later than its deadline, with a prefix whose every byte is its key's as long as its loans are held;
 * and when all is over, nothing is left anywhere. Adapters scribble over the buffers of loads that have
 * not ended, so a buffer that is given to somebody else too early shows.
 */
#define REQS      10
#define KEYS      96
#define STEPS     600
#define HISTORIES 150

enum slot_state {
	SLOT_FREE,
	SLOT_LIVE,
	SLOT_ENDED,
};

static struct ctl_rig rig;
static struct far_rng rng;
static const char *const policies[] = {"default", "retain", "placement", "fastest,retain",
				       "placement,fastest,retain"};
static struct ctl_req slots[REQS];
static struct far_fold_shape shapes[REQS];
static enum slot_state states[REQS];
static uint64_t keys_counted; /* of requests that were not cancelled */
static uint64_t seed_first = 1;
static uint64_t seed_count = HISTORIES;

static uint64_t
below(uint64_t bound)
{
	return far_rng_below(&rng, bound);
}

static bool
chance(uint64_t percent)
{
	return below(100) < percent;
}

/* ---- what clients do ---- */

/* Groups with windows, as many chunks as its keys make. */
static void
shape_choose(struct ctl_req *req)
{
	static const int32_t windows[][3] = {{-1, 2, 1}, {1, -1, 3}, {2, 1, 4}, {-1, -1, 0}};
	static const uint32_t counts[] = {1, 2, 3, 2};
	struct far_fold_shape *shape = &shapes[req - slots];
	uint32_t pick = (uint32_t)below(4);

	*shape = (struct far_fold_shape){
		.groups = counts[pick],
		.ranks = 1 + (uint32_t)below(2),
		.windows = windows[below(4)],
	};
	shape->chunks = req->req.count / (shape->groups * shape->ranks);
	req->req.count = shape->chunks * shape->groups * shape->ranks;
	req->readable.bit_count = req->req.count;
	req->req.trim = FAR_PREFETCH_TRIM_PREFIX;
	req->req.shape = shape;
}

static void
do_submit(void)
{
	struct ctl_req *req;
	uint32_t slot;
	int rc;

	for (slot = 0; slot < REQS && states[slot] != SLOT_FREE; slot++)
		;
	if (slot == REQS)
		return;
	req = &slots[slot];
	ctl_req_init(req, &rig, below(KEYS), (uint32_t)below(KEYS / 2));
	req->req.mode = chance(25) ? FAR_PREFETCH_WARM : FAR_PREFETCH_LOOKUP;
	req->req.trim = chance(30) ? FAR_PREFETCH_TRIM_ALL : FAR_PREFETCH_TRIM_PREFIX;
	req->req.readers = 1 + (uint32_t)below(3);
	req->req.session = chance(50) ? rig.session : rig.other;
	req->req.deadline_ns = far_clock_now(&rig.clock.clock) + below(40 * FAR_NS_PER_MS);
	if (chance(20)) {
		req->req.sizes = req->sizes;
		for (uint32_t i = 0; i < req->req.count; i++)
			req->sizes[i] = chance(2) ? 512 : chance(50) ? CTL_BLOCK_BYTES : 0;
	}
	if (chance(25))
		shape_choose(req);
	if (req->req.count > 2 && chance(10))
		req->keys[1] = req->keys[0];
	if (req->req.mode == FAR_PREFETCH_LOOKUP && req->req.sizes == NULL &&
	    req->req.shape == NULL && chance(60))
		ctl_req_lock_prefix(req);
	rc = far_prefetch_submit(rig.prefetch, &req->req);
	if (rc == 0) {
		states[slot] = SLOT_LIVE;
		return;
	}
	assert_int_equal(rc, -E2BIG);
	req->req.prefix_count = req->req.l1_prefix_count;
	ctl_req_release(req);
}

static void
do_cancel(void)
{
	uint32_t slot = (uint32_t)below(REQS);

	if (states[slot] == SLOT_LIVE)
		far_prefetch_req_cancel(rig.prefetch, &slots[slot].req);
}

static void
do_release(uint32_t slot)
{
	if (states[slot] != SLOT_ENDED)
		return;
	/* Still right, after all that went on since it ended. */
	ctl_req_verify(&slots[slot]);
	ctl_req_release(&slots[slot]);
	states[slot] = SLOT_FREE;
}

static void
do_write(void)
{
	struct far_l1_want want = {.key = fake_l2_key(below(KEYS)), .size_bytes = CTL_BLOCK_BYTES};
	struct far_l1_grant grant;
	int rc;

	if (far_l1_reserve_write(rig.l1, rig.other, &want, 1, &grant) != 1)
		return;
	if (chance(30)) {
		(void)far_l1_abort_write(rig.l1, rig.other, &grant.loan, 1, &rc);
	} else {
		fake_l2_fill(&want.key, grant.addr, CTL_BLOCK_BYTES);
		(void)far_l1_finish_write(rig.l1, rig.other, &grant.loan, 1, &rc);
	}
	assert_int_equal(rc, 0);
}

static void
do_delete(void)
{
	struct far_key key = fake_l2_key(below(KEYS));
	int rc;

	(void)far_l1_delete(rig.l1, &key, 1, chance(20), &rc);
}

/* ---- what the world does ---- */

static void
do_fault(void)
{
	static const int load_rcs[] = {-ESTALE, -EBADMSG, -EIO, -ENOENT, -EHOSTDOWN, -EAGAIN};
	struct fake_l2 *fake = &rig.fakes[below(rig.set.count)];
	enum far_l2_kind kind = (enum far_l2_kind)below(3);

	switch (below(8)) {
	case 0:
		fake->down = chance(40);
		break;
	case 1:
		fake->held[kind] = chance(40);
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
	default:
		ctl_rig_fail(&rig, fake->l2.idx, below(KEYS), kind, load_rcs[below(6)],
			     1 + (uint32_t)below(2));
		break;
	}
}

static void
do_content(void)
{
	struct fake_l2 *fake = &rig.fakes[below(rig.set.count)];
	struct far_key key = fake_l2_key(below(KEYS));

	if (chance(60))
		fake_l2_put(fake, &key, CTL_BLOCK_BYTES);
	else
		fake_l2_drop(fake, &key);
}

static void
check_ended(void)
{
	uint64_t now_ns = far_clock_now(&rig.clock.clock);

	for (uint32_t i = 0; i < REQS; i++) {
		if (states[i] != SLOT_LIVE)
			continue;
		assert_true(slots[i].ended_count <= 1);
		/* A tick has run since the deadline passed. */
		assert_true(slots[i].ended_count == 1 || slots[i].req.deadline_ns > now_ns);
		if (slots[i].ended_count == 0)
			continue;
		states[i] = SLOT_ENDED;
		ctl_req_verify(&slots[i]);
		if (slots[i].req.rc != -ECANCELED)
			keys_counted += slots[i].req.count;
		else
			assert_int_equal(slots[i].req.prefix_count, 0);
		assert_true(slots[i].req.rc == -ECANCELED ||
			    slots[i].req.prefix_count >= slots[i].advanced_to);
	}
}

static void
do_turn(void)
{
	uint64_t now_ns = far_clock_now(&rig.clock.clock);

	for (uint32_t i = 0; i < rig.set.count; i++) {
		if (chance(30))
			fake_l2_scribble(&rig.fakes[i]);
		if (chance(70))
			(void)far_l2_tick(&rig.fakes[i].l2, now_ns);
	}
	(void)far_prefetch_tick(rig.prefetch, now_ns);
	if (chance(70))
		(void)far_store_tick(rig.store, now_ns);
	check_ended();
}

static void
do_step(void)
{
	uint64_t dice = below(100);

	if (dice < 20)
		do_submit();
	else if (dice < 24)
		do_cancel();
	else if (dice < 40)
		do_release((uint32_t)below(REQS));
	else if (dice < 46)
		do_write();
	else if (dice < 48)
		do_delete();
	else if (dice < 50)
		(void)far_l1_clear(rig.l1, false);
	else if (dice < 58)
		do_fault();
	else if (dice < 70)
		do_content();
	else if (dice < 80)
		far_clock_fake_advance(&rig.clock, below(5 * FAR_NS_PER_MS));
	do_turn();
}

static void
check_counts(void)
{
	struct far_prefetch_counts c;

	far_prefetch_counts_get(rig.prefetch, &c);
	assert_int_equal(keys_counted, c.l1_hits + c.l2_hits + c.behind_gap + c.missed_not_found +
					       c.missed_donor_down + c.missed_stale +
					       c.missed_checksum + c.missed_length +
					       c.missed_no_memory + c.missed_deadline +
					       c.missed_busy + c.missed_error + c.out_of_window);
}

static void
history(uint64_t seed)
{
	struct ctl_options options = {.store = true};

	far_rng_init(&rng, seed);
	options.fakes = 1 + (uint32_t)below(CTL_FAKES_MAX);
	options.policy = policies[below(sizeof(policies) / sizeof(policies[0]))];
	options.l1_blocks = 8 + (uint32_t)below(120);
	options.prefetch.requests_max = 1 + (uint32_t)below(REQS);
	options.prefetch.loads_max = 4 + (uint32_t)below(64);
	options.prefetch.window_keys = 1 + (uint32_t)below(16);
	options.prefetch.windows_ahead = 1 + (uint32_t)below(4);
	options.prefetch.window_bytes = chance(50) ? 0 : (1 + below(4)) * CTL_BLOCK_BYTES;
	options.prefetch.bytes_in_flight_max = (2 + below(40)) * CTL_BLOCK_BYTES;
	options.store_config.queue_max = 2 + (uint32_t)below(16);
	options.store_config.deadline_ns = 1 + below(20 * FAR_NS_PER_MS);
	memset(states, 0, sizeof(states));
	keys_counted = 0;
	ctl_rig_open(&rig, &options);
	for (uint32_t i = 0; i < rig.set.count; i++) {
		rig.fakes[i].l2.limits.items_max = 1 + (uint32_t)below(16);
		rig.fakes[i].l2.limits.tasks_max = 4 * (uint32_t)below(4);
		rig.fakes[i].l2.limits.load_bytes_best = below(8) * CTL_BLOCK_BYTES;
		for (uint64_t k = 0; k < KEYS; k++) {
			if (chance(70))
				ctl_rig_put(&rig, i, k, 1);
		}
	}
	for (uint32_t i = 0; i < STEPS; i++)
		do_step();
	far_prefetch_quiesce(rig.prefetch);
	do_turn();
	for (uint32_t i = 0; i < REQS; i++) {
		assert_true(states[i] != SLOT_LIVE);
		do_release(i);
	}
	check_counts();
	ctl_rig_close(&rig);
}

static void
every_history_reads_right_bytes_ends_once_and_leaves_nothing(void **state)
{
	(void)state;
	for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
		print_message("seed %llu\n", (unsigned long long)seed);
		history(seed);
	}
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_history_reads_right_bytes_ends_once_and_leaves_nothing),
	};

	/* One argument: that seed alone; two: so many from it. */
	if (argc > 1) {
		seed_first = strtoull(argv[1], NULL, 0);
		seed_count = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
