/* store_history.c - random histories of writes, faults, policies and time: every pair ends once, somewhere. */
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
 * The reference: blocks and pairs add up in the counters and in what was recorded, after every step
 * (ctl_rig_check_store); what a policy lets go of L1 is then with every adapter that was to get it; bytes that
 * an adapter reads are those of the key as long as it may read them (fake_l2 asserts it); the queue's bounds are
 * kept; and when all is over nothing is left: no loan, no memory, no task.
 */
#define KEYS      200
#define STEPS     500
#define HISTORIES 200
#define READERS   8

static struct ctl_rig rig;
static struct far_rng rng;
static uint64_t seed_first = 1;
static uint64_t seed_count = HISTORIES;
static uint64_t reads[READERS]; /* loans of readers; 0: none */
static uint64_t offered;        /* finished writes that L1 announced */
static uint32_t queue_max;
static uint64_t queue_bytes_max;
static bool is_quiesced;
static bool has_members; /* adapters come and go */

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

static uint32_t
size_of(uint64_t number)
{
	return 64 * (1 + (uint32_t)(number % 64));
}

static void
do_write(void)
{
	uint64_t number = below(KEYS);
	struct far_l1_want want = {.key = fake_l2_key(number), .size_bytes = size_of(number)};
	struct far_l1_grant grant;
	int rc;

	if (far_l1_reserve_write(rig.l1, rig.other, &want, 1, &grant) != 1)
		return;
	fake_l2_fill(&want.key, grant.addr, want.size_bytes);
	if (far_l1_finish_write(rig.l1, rig.other, &grant.loan, 1, &rc) == 1)
		offered++;
}

static void
do_read(void)
{
	struct far_key key = fake_l2_key(below(KEYS));
	uint64_t *loan = &reads[below(READERS)];
	struct far_l1_grant grant;
	int rc;

	if (*loan != 0) {
		assert_int_equal(far_l1_finish_read(rig.l1, rig.other, loan, 1, 1, &rc), 1);
		*loan = 0;
	} else if (far_l1_reserve_read(rig.l1, rig.other, &key, NULL, 1, 1, &grant) == 1) {
		assert_true(fake_l2_matches(&key, grant.addr, grant.size_bytes));
		*loan = grant.loan;
	}
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
	static const int rcs[] = {-EHOSTDOWN, -ENOSPC,   -ETIMEDOUT, -EIO,
				  -EAGAIN,    -EMSGSIZE, -ECANCELED};
	struct fake_l2 *fake = &rig.fakes[below(rig.fake_count)];

	switch (below(8)) {
	case 0:
		fake->down = chance(40);
		fake->l2.away = fake->down || chance(10);
		break;
	case 1:
		fake->held[FAR_L2_STORE] = chance(40);
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
		ctl_rig_fail(&rig, fake->l2.idx, below(KEYS), FAR_L2_STORE, rcs[below(7)],
			     1 + (uint32_t)below(4));
		break;
	}
}

/* A block that a policy let go is with as many as were to get it: who stands in for whom varies. */
static void
heard_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)arg;
	for (size_t i = 0; i < count; i++) {
		uint32_t idx[FAR_L2_SET_MAX];
		uint32_t named, have = 0;

		/* Who was to get it is not who would be now. */
		if (events[i].why != FAR_L1_WHY_TEMPORARY || has_members)
			continue;
		named = rig.store_policy.places->place(&rig.store_policy, &rig.set, &events[i].key,
						       idx, FAR_L2_SET_MAX);
		assert_true(named > 0);
		for (uint32_t k = 0; k < rig.fake_count; k++)
			have += fake_l2_has(&rig.fakes[k], &events[i].key);
		assert_true(have >= named);
	}
}

/* Adapters are taken out, leave when nobody names them, and come back as others of their name. */
static void
do_member(void)
{
	struct fake_l2 *fake = &rig.fakes[below(rig.fake_count)];
	uint32_t idx = fake->l2.idx;

	if (rig.set.items[idx] != &fake->l2) {
		if (fake->task_count == 0)
			(void)far_l2_set_add(&rig.set, &fake->l2);
	} else if (far_l2_set_is_active(&rig.set, idx)) {
		if (chance(30))
			far_l2_set_drain(&rig.set, idx);
	} else if (!far_store_names(rig.store, idx) && !far_prefetch_names(rig.prefetch, idx)) {
		(void)far_l2_set_remove(&rig.set, idx);
	}
}

static void
do_turn(void)
{
	uint64_t now_ns = far_clock_now(&rig.clock.clock);
	struct far_store_counts counts;

	for (uint32_t i = 0; i < rig.fake_count; i++) {
		if (chance(70))
			(void)far_l2_tick(&rig.fakes[i].l2, now_ns);
	}
	if (chance(80))
		(void)far_store_tick(rig.store, now_ns);
	far_store_counts_get(rig.store, &counts);
	assert_true(counts.blocks_pending <= queue_max);
	/* One block may be longer than the bound. */
	assert_true(counts.bytes_pending <= queue_bytes_max || counts.blocks_pending == 1);
	assert_int_equal(offered, counts.blocks_queued - counts.blocks_by_hits +
					  counts.not_admitted + counts.dropped_queue_full +
					  counts.refused_closing);
	ctl_rig_check_store(&rig);
}

static void
do_step(void)
{
	uint64_t dice = below(100);

	if (dice < 45)
		do_write();
	else if (dice < 60)
		do_read();
	else if (dice < 64)
		do_delete();
	else if (dice < 65)
		(void)far_l1_clear(rig.l1, false);
	else if (dice < 74)
		do_fault();
	else if (dice < 77 && has_members)
		do_member();
	else if (dice < 90)
		far_clock_fake_advance(&rig.clock, below(5 * FAR_NS_PER_MS));
	do_turn();
}

static void
open_rig(void)
{
	static const char *const policies[] = {
		"default",           "placement",     "skip_l1",
		"placement,skip_l1", "admit_after_n", "placement,skip_l1,admit_after_n",
	};
	struct far_l1_listener listener = {.deleted = heard_deleted};
	struct ctl_options options = {.store = true, .recorder = true};

	options.fakes = 1 + (uint32_t)below(CTL_FAKES_MAX);
	options.l1_blocks = 8 + (uint32_t)below(120);
	options.store_policy = policies[below(6)];
	options.admit_after = 1 + (uint32_t)below(4);
	options.admit_keys = 64;
	queue_max = 2 + (uint32_t)below(32);
	queue_bytes_max = (1 + below(32)) * CTL_BLOCK_BYTES;
	options.store_config.queue_max = queue_max;
	options.store_config.queue_bytes_max = queue_bytes_max;
	options.store_config.bytes_in_flight_max = (1 + below(16)) * CTL_BLOCK_BYTES;
	options.store_config.batch_max = 1 + (uint32_t)below(16);
	options.store_config.tries_max = 1 + (uint32_t)below(4);
	options.store_config.retry_ns = below(4 * FAR_NS_PER_MS);
	options.store_config.deadline_ns = 1 + below(20 * FAR_NS_PER_MS);
	ctl_rig_open(&rig, &options);
	assert_int_equal(far_l1_listen(rig.l1, &listener), 0);
	for (uint32_t i = 0; i < rig.fake_count; i++) {
		rig.fakes[i].l2.limits.items_max = 1 + (uint32_t)below(16);
		rig.fakes[i].l2.limits.tasks_max = 4 * (uint32_t)below(4);
	}
}

static void
history(uint64_t seed)
{
	uint64_t barrier;
	uint64_t quiesce_at;

	far_rng_init(&rng, seed);
	memset(reads, 0, sizeof(reads));
	offered = 0;
	is_quiesced = false;
	has_members = chance(50);
	open_rig();
	barrier = far_store_barrier(rig.store);
	quiesce_at = chance(70) ? below(STEPS) : STEPS;
	for (uint32_t i = 0; i < STEPS; i++) {
		if (i == quiesce_at) {
			barrier = far_store_barrier(rig.store);
			far_store_quiesce(rig.store);
			is_quiesced = true;
		}
		do_step();
	}
	for (uint32_t i = 0; i < READERS; i++) {
		int rc;

		if (reads[i] != 0)
			assert_int_equal(
				far_l1_finish_read(rig.l1, rig.other, &reads[i], 1, 1, &rc), 1);
	}
	for (uint32_t i = 0; i < rig.fake_count; i++)
		rig.fakes[i].held[FAR_L2_STORE] = false;
	if (is_quiesced) {
		ctl_rig_advance(&rig, 60 * FAR_NS_PER_MS);
		assert_true(far_store_idle(rig.store));
		assert_true(far_store_passed(rig.store, barrier));
		assert_int_equal(ctl_rig_loans(&rig), 0);
	}
	ctl_rig_close(&rig);
}

static void
every_history_ends_each_pair_once_and_leaves_nothing(void **state)
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
		cmocka_unit_test(every_history_ends_each_pair_once_and_leaves_nothing),
	};

	/* One argument: that seed alone; two: so many from it. */
	if (argc > 1) {
		seed_first = strtoull(argv[1], NULL, 0);
		seed_count = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
