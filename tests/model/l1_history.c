/* l1_history.c - random histories of every call of L1: codes and events as the reference has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "base/rng.h"
#include "tests/support/l1_reference.h"

/*
 * Few keys, an arena of 32 units, few loans, six sessions: everything runs out and races with
 * everything, one call at a time. Where L1 may choose (where a block lies, whom it evicts) its
 * choice is judged: it must have been allowed, needed, and, for LRU and blocks of one size, the
 * oldest.
 */
#define KEYS      40u /* 1 .. ; 0 is the zero key */
#define STEPS     10000u
#define HISTORIES 200u

struct world {
	struct far_clock_fake clock;
	struct far_rng rng;
	struct far_l1 *l1;
	uint8_t *arena;
	struct ref ref;
	bool exact; /* LRU and blocks of one unit: there is one right victim */
	uint32_t units_max;
	far_l1_session closed; /* one that is not open any more */
	/* What the last operation told. */
	struct ref_event told[REF_TOLD];
	uint32_t told_count;
	uint64_t told_all, heard_all; /* by both listeners, over the whole history */
	uint64_t held[REF_BATCH];
	uint32_t held_count;
	int rcs[REF_BATCH], want_rcs[REF_BATCH];
};

static uint64_t seed_first = 1;
static uint64_t seed_count = HISTORIES;
static uint64_t steps_done;
static uint64_t told_by_name[REF_DELETED + 1], told_by_why[FAR_L1_WHY_TEMPORARY + 1];

static uint64_t
below(struct world *w, uint64_t bound)
{
	return far_rng_below(&w->rng, bound);
}

static bool
chance(struct world *w, uint64_t percent)
{
	return below(w, 100) < percent;
}

static struct far_key
key_of(uint64_t n)
{
	struct far_key key;
	uint64_t half[2] = {n == 0 ? 0 : far_mix64(n), n};

	memcpy(key.bytes, half, sizeof(half));
	return key;
}

static uint64_t
number_of(const struct far_key *key)
{
	return far_key_hi(key);
}

/* ---- listeners ---- */

static void
hear(struct world *w, enum ref_name name, const struct far_l1_event *events, size_t count)
{
	assert_true(count > 0);
	w->told_all += count;
	for (size_t i = 0; i < count; i++) {
		assert_true(w->told_count < REF_TOLD);
		w->told[w->told_count++] = (struct ref_event){
			name, events[i].why, number_of(&events[i].key), events[i].loan};
		if (events[i].loan != 0)
			w->held[w->held_count++] = events[i].loan;
		told_by_name[name]++;
		told_by_why[events[i].why] += name == REF_DELETED;
	}
}

static void
on_written(void *arg, const struct far_l1_event *events, size_t count)
{
	hear(arg, REF_WRITTEN, events, count);
}

static void
on_prefetched(void *arg, const struct far_l1_event *events, size_t count)
{
	hear(arg, REF_PREFETCHED, events, count);
}

static void
on_accessed(void *arg, const struct far_l1_event *events, size_t count)
{
	hear(arg, REF_ACCESSED, events, count);
}

static void
on_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	hear(arg, REF_DELETED, events, count);
}

/* The other one: as many, and no loans. */
static void
on_any(void *arg, const struct far_l1_event *events, size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_int_equal(events[i].loan, 0);
	((struct world *)arg)->heard_all += count;
}

static int
event_compare(const void *a, const void *b)
{
	const struct ref_event *x = a, *y = b;

	if (x->name != REF_DELETED || y->name != REF_DELETED)
		return (x->name == REF_DELETED) - (y->name == REF_DELETED);
	if (x->why != y->why)
		return x->why < y->why ? -1 : 1;
	return (x->key > y->key) - (x->key < y->key);
}

/* Insertion: the order of those that are not deletions is a part of the promise. */
static void
events_sort(struct ref_event *events, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++)
		for (uint32_t j = i; j > 0 && event_compare(&events[j - 1], &events[j]) > 0; j--) {
			struct ref_event swap = events[j];

			events[j] = events[j - 1];
			events[j - 1] = swap;
		}
}

static void
events_check(struct world *w)
{
	events_sort(w->told, w->told_count);
	events_sort(w->ref.told, w->ref.told_count);
	assert_int_equal(w->told_count, w->ref.told_count);
	for (uint32_t i = 0; i < w->told_count; i++) {
		assert_int_equal(w->told[i].name, w->ref.told[i].name);
		assert_int_equal(w->told[i].why, w->ref.told[i].why);
		assert_int_equal(w->told[i].key, w->ref.told[i].key);
		assert_int_equal(w->told[i].loan, w->ref.told[i].loan);
	}
	w->told_count = w->ref.told_count = w->held_count = 0;
}

static void
rcs_check(struct world *w, uint32_t count, size_t ok)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(w->rcs[i], w->want_rcs[i]);
		ok -= w->want_rcs[i] == 0;
	}
	assert_int_equal(ok, 0);
}

/* ---- what the operations are given ---- */

static far_l1_session
session_any(struct world *w)
{
	if (chance(w, 3))
		return chance(w, 50) ? w->closed : 0;
	for (;;) {
		far_l1_session session = w->ref.open[below(w, REF_SESSIONS)];

		if (session != 0)
			return session;
	}
}

static uint32_t
keys_any(struct world *w, uint64_t *numbers, struct far_key *keys)
{
	uint32_t count = 1 + (uint32_t)below(w, REF_BATCH);

	for (uint32_t i = 0; i < count; i++) {
		numbers[i] = chance(w, 1) ? 0 : 1 + below(w, KEYS);
		keys[i] = key_of(numbers[i]);
	}
	return count;
}

/* Numbers of now and of the past, mostly with the session that owns the first of them. */
static uint32_t
loans_any(struct world *w, enum ref_kind kind, uint64_t *handles, far_l1_session *session)
{
	uint32_t count = 1 + (uint32_t)below(w, chance(w, 70) ? 2 : REF_BATCH);

	*session = session_any(w);
	for (uint32_t i = 0; i < count; i++) {
		const struct ref_loan *loan = &w->ref.loans[below(w, REF_LOANS)];

		for (int tries = 0; tries < 4 && loan->kind != kind && chance(w, 90); tries++)
			loan = &w->ref.loans[below(w, REF_LOANS)];
		handles[i] = loan->handle;
		if (i == 0 && loan->session != 0 && chance(w, 95))
			*session = loan->session;
	}
	return count;
}

static uint64_t
bytes_of(const struct ref_block *block)
{
	return (uint64_t)block->units * REF_UNIT;
}

static void
bytes_check(const struct world *w, const struct ref_block *block)
{
	const uint8_t *bytes = w->arena + (size_t)block->first * REF_UNIT;

	assert_int_equal(bytes[0], block->fill);
	assert_int_equal(bytes[block->size_bytes / 2], block->fill);
	assert_int_equal(bytes[block->size_bytes - 1], block->fill);
}

static void
handles_check(const struct world *w, const uint64_t *handles, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t j = 0; j < REF_LOANS; j++)
			if (w->ref.loans[j].kind != REF_NONE &&
			    w->ref.loans[j].handle == handles[i])
				bytes_check(w, &w->ref.blocks[w->ref.loans[j].block]);
}

/* ---- judging what L1 chose ---- */

static bool
may_go(const struct world *w, uint32_t i, const bool *spared)
{
	const struct ref_block *block = &w->ref.blocks[i];

	return block->used && block->tabled && !ref_locked(block) && !spared[i];
}

/* The longest run that can be had for one more key. */
static uint32_t
run_longest(const struct world *w, const bool *spared)
{
	bool taken[REF_UNITS] = {false};
	uint32_t best = 0, run = 0;

	for (uint32_t i = 0; i < REF_BLOCKS; i++)
		if (w->ref.blocks[i].used && (w->ref.never_evicts || !may_go(w, i, spared)))
			for (uint32_t u = 0; u < w->ref.blocks[i].units; u++)
				taken[w->ref.blocks[i].first + u] = true;
	for (uint32_t u = 0; u < REF_UNITS; u++) {
		run = taken[u] ? 0 : run + 1;
		best = run > best ? run : best;
	}
	return best;
}

static void
evict(struct world *w, uint32_t at, const bool *spared, uint64_t *youngest)
{
	assert_false(w->ref.never_evicts);
	assert_true(may_go(w, at, spared));
	if (w->ref.blocks[at].stamp > *youngest)
		*youngest = w->ref.blocks[at].stamp;
	ref_evict(&w->ref, at);
}

static void
order_check(const struct world *w, const bool *spared, uint64_t youngest)
{
	for (uint32_t i = 0; w->exact && i < REF_BLOCKS; i++)
		if (may_go(w, i, spared))
			assert_true(w->ref.blocks[i].stamp >= youngest);
}

/* Evicted are exactly those whose memory the new block has: the events say the same. */
static void
grant_judge(struct world *w, far_l1_session session, uint64_t key, const struct far_l1_want *want,
	    const struct far_l1_grant *grant, const bool *spared, uint64_t stamp,
	    uint64_t *youngest)
{
	uint32_t first = (uint32_t)(grant->offset_bytes / REF_UNIT);
	uint32_t units = (want->size_bytes + REF_UNIT - 1) / REF_UNIT;
	struct ref_block *block;

	assert_true(ref_loan_count(&w->ref) < w->ref.loans_max);
	assert_int_equal(grant->offset_bytes % REF_UNIT, 0);
	assert_true(first + units <= REF_UNITS);
	assert_int_equal(grant->size_bytes, want->size_bytes);
	assert_ptr_equal(grant->addr, w->arena + grant->offset_bytes);
	assert_int_not_equal(grant->loan, 0);
	for (uint32_t i = 0; i < REF_BLOCKS; i++)
		if (w->ref.blocks[i].used && w->ref.blocks[i].first < first + units &&
		    first < w->ref.blocks[i].first + w->ref.blocks[i].units)
			evict(w, i, spared, youngest);
	block = &w->ref.blocks[ref_write(&w->ref, session, key, want, grant, stamp)->block];
	block->fill = (uint8_t)far_rng_u64(&w->rng);
	memset(grant->addr, block->fill, want->size_bytes);
}

static void
do_reserve_write(struct world *w)
{
	uint64_t numbers[REF_BATCH];
	struct far_key keys[REF_BATCH];
	struct far_l1_want wants[REF_BATCH];
	struct far_l1_grant grants[REF_BATCH];
	bool spared[REF_BLOCKS] = {false}, ended = false;
	far_l1_session session = session_any(w);
	uint32_t count = keys_any(w, numbers, keys);
	uint64_t stamp = w->ref.stamp + count, youngest = 0;
	bool open = ref_is_open(&w->ref, session);
	size_t ok;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t units = 1 + (uint32_t)below(w, w->units_max);

		wants[i] = (struct far_l1_want){.key = keys[i],
						.size_bytes = units * REF_UNIT -
							      (uint32_t)below(w, REF_UNIT),
						.flags = chance(w, 30) ? FAR_L1_TEMPORARY : 0};
		if (chance(w, 1))
			wants[i].size_bytes = chance(w, 50) ? 0 : REF_UNITS * REF_UNIT + 1;
		if (chance(w, 1))
			wants[i].flags = 2;
	}
	ref_wants(&w->ref, numbers, wants, count, w->want_rcs, spared);
	ok = far_l1_reserve_write(w->l1, session, wants, count, grants);
	for (uint32_t i = 0; i < count; i++) {
		int *rc = &w->want_rcs[i];

		w->rcs[i] = grants[i].rc;
		if (!open)
			*rc = -EPERM;
		else if (*rc == 0 && !ended && ref_find(&w->ref, numbers[i]) != REF_NOBODY)
			*rc = -EEXIST; /* twice in this call */
		if (open && *rc == 0 && !ended && grants[i].rc == -ENOMEM) {
			assert_true(ref_loan_count(&w->ref) == w->ref.loans_max ||
				    run_longest(w, spared) <
					    (wants[i].size_bytes + REF_UNIT - 1) / REF_UNIT);
			ended = true;
		}
		if (ended)
			*rc = -ENOMEM;
		if (*rc != 0) {
			assert_int_equal(grants[i].loan, 0);
			continue;
		}
		assert_int_equal(grants[i].rc, 0);
		grant_judge(w, session, numbers[i], &wants[i], &grants[i], spared, stamp - i,
			    &youngest);
	}
	order_check(w, spared, youngest);
	rcs_check(w, count, ok);
	if (!open)
		return;
	/* To ask for a block that was there is a use. */
	w->ref.stamp += 2ull * count;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = ref_find(&w->ref, numbers[i]);

		if (at != REF_NOBODY && spared[at] && wants[i].size_bytes != 0 &&
		    wants[i].size_bytes <= REF_UNITS * REF_UNIT && wants[i].flags != 2)
			w->ref.blocks[at].stamp = w->ref.stamp - i;
	}
}

static void
do_finish(struct world *w)
{
	uint64_t handles[REF_BATCH];
	far_l1_session session, reader = session_any(w);
	uint32_t count = loans_any(w, REF_WRITE, handles, &session);
	uint32_t how = (uint32_t)below(w, 3);
	uint32_t readers = chance(w, 1) ? 0 : 1 + (uint32_t)below(w, 3);
	size_t ok;

	handles_check(w, handles, count);
	if (how == 0)
		ok = far_l1_finish_write(w->l1, session, handles, count, w->rcs);
	else if (how == 1)
		ok = far_l1_abort_write(w->l1, session, handles, count, w->rcs);
	else
		ok = far_l1_finish_write_and_reserve_read(w->l1, session, handles, count, readers,
							  reader, w->rcs);
	ref_finish(&w->ref, how, session, handles, count, readers, reader, w->held, w->want_rcs);
	rcs_check(w, count, ok);
}

static void
do_reserve_read(struct world *w)
{
	uint64_t numbers[REF_BATCH];
	struct far_key keys[REF_BATCH];
	uint32_t sizes[REF_BATCH];
	struct far_l1_grant grants[REF_BATCH];
	far_l1_session session = session_any(w);
	uint32_t count = keys_any(w, numbers, keys);
	uint32_t readers = chance(w, 1) ? 0 : 1 + (uint32_t)below(w, 3);
	bool prefix = chance(w, 50), sized = chance(w, 30);
	size_t ok;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = ref_find(&w->ref, numbers[i]);

		sizes[i] = at == REF_NOBODY ? 1 : w->ref.blocks[at].size_bytes + chance(w, 10);
	}
	if (prefix)
		ok = far_l1_reserve_read_prefix(w->l1, session, keys, sized ? sizes : NULL, count,
						readers, grants);
	else
		ok = far_l1_reserve_read(w->l1, session, keys, sized ? sizes : NULL, count, readers,
					 grants);
	ref_reserve_read(&w->ref, session, numbers, sized ? sizes : NULL, count, readers, prefix,
			 grants, w->want_rcs);
	for (uint32_t i = 0; i < count; i++) {
		const struct ref_block *block;

		w->rcs[i] = grants[i].rc;
		if (w->want_rcs[i] != 0)
			continue;
		block = &w->ref.blocks[ref_find(&w->ref, numbers[i])];
		assert_int_equal(grants[i].size_bytes, block->size_bytes);
		assert_int_equal(grants[i].offset_bytes, (uint64_t)block->first * REF_UNIT);
		assert_ptr_equal(grants[i].addr, w->arena + grants[i].offset_bytes);
		bytes_check(w, block);
	}
	rcs_check(w, count, ok);
}

static void
do_finish_read(struct world *w)
{
	uint64_t handles[REF_BATCH];
	far_l1_session session;
	uint32_t count = loans_any(w, REF_READ, handles, &session);
	uint32_t readers = chance(w, 1) ? 0 : 1 + (uint32_t)below(w, 3);
	size_t ok;

	handles_check(w, handles, count);
	ok = far_l1_finish_read(w->l1, session, handles, count, readers, w->rcs);
	ref_finish_read(&w->ref, session, handles, count, readers, w->want_rcs);
	rcs_check(w, count, ok);
}

static void
do_unsafe_read(struct world *w)
{
	uint64_t handles[REF_BATCH] = {0};
	far_l1_session session;
	struct far_l1_grant grant;
	struct ref_loan *loan = NULL;
	int rc;

	(void)loans_any(w, REF_READ, handles, &session);
	rc = far_l1_unsafe_read(w->l1, session, handles[0], &grant);
	assert_int_equal(rc, ref_loan(&w->ref, session, handles[0], REF_READ, &loan));
	assert_int_equal(grant.rc, rc);
	if (rc != 0)
		return;
	assert_int_equal(grant.offset_bytes, (uint64_t)w->ref.blocks[loan->block].first * REF_UNIT);
	bytes_check(w, &w->ref.blocks[loan->block]);
}

static void
do_mark(struct world *w)
{
	uint64_t handles[REF_BATCH];
	far_l1_session session;
	uint32_t count = loans_any(w, chance(w, 50) ? REF_READ : REF_WRITE, handles, &session);
	bool temporary = chance(w, 40);
	size_t ok = temporary ? far_l1_let_go(w->l1, session, handles, count, w->rcs)
			      : far_l1_retain(w->l1, session, handles, count, w->rcs);

	for (uint32_t i = 0; i < count; i++)
		w->want_rcs[i] = ref_mark(&w->ref, session, handles[i], temporary);
	rcs_check(w, count, ok);
}

static void
do_delete(struct world *w)
{
	uint64_t numbers[REF_BATCH];
	struct far_key keys[REF_BATCH];
	uint32_t count = keys_any(w, numbers, keys);
	bool force = chance(w, 30);
	size_t ok = far_l1_delete(w->l1, keys, count, force, w->rcs);

	for (uint32_t i = 0; i < count; i++)
		w->want_rcs[i] = ref_delete(&w->ref, numbers[i], force, FAR_L1_WHY_DELETED);
	rcs_check(w, count, ok);
}

static void
do_clear(struct world *w)
{
	bool force = chance(w, 20);
	size_t removed = far_l1_clear(w->l1, force);

	for (uint64_t key = 1; key <= KEYS; key++)
		removed -= ref_delete(&w->ref, key, force, FAR_L1_WHY_CLEARED) == 0;
	assert_int_equal(removed, 0);
}

static void
do_touch(struct world *w)
{
	uint64_t numbers[REF_BATCH];
	struct far_key keys[REF_BATCH];
	uint32_t count = keys_any(w, numbers, keys);

	far_l1_touch(w->l1, keys, count);
	ref_touch(&w->ref, numbers, count);
}

static void
do_evict(struct world *w)
{
	bool nobody[REF_BLOCKS] = {false}, left = false;
	uint64_t bytes = below(w, 6ull * REF_UNIT), youngest = 0, sum = 0, last = 0;
	uint32_t blocks_max = (uint32_t)below(w, 4), blocks = 0;
	uint64_t freed = far_l1_evict(w->l1, bytes, blocks_max, &blocks);

	assert_int_equal(blocks, w->told_count);
	for (uint32_t i = 0; i < w->told_count; i++) {
		uint32_t at = ref_find(&w->ref, w->told[i].key);

		assert_int_not_equal(at, REF_NOBODY);
		evict(w, at, nobody, &youngest);
		/* They are told the last evicted first. */
		last = i == 0 ? bytes_of(&w->ref.blocks[at]) : last;
		sum += bytes_of(&w->ref.blocks[at]);
	}
	order_check(w, nobody, youngest);
	for (uint32_t i = 0; i < REF_BLOCKS; i++)
		left |= may_go(w, i, nobody);
	assert_int_equal(freed, sum);
	assert_true(blocks == 0 || freed - last < bytes);
	assert_true(freed >= bytes || blocks == blocks_max || w->ref.never_evicts || !left);
}

static void
do_session(struct world *w)
{
	uint32_t at = (uint32_t)below(w, REF_SESSIONS);
	far_l1_session session = w->ref.open[at];
	uint32_t open = 0;

	for (uint32_t i = 0; i < REF_SESSIONS; i++)
		open += w->ref.open[i] != 0;
	if (session == 0) {
		assert_int_equal(far_l1_session_open(w->l1, "model", &w->ref.open[at]), 0);
		if (open + 1 == REF_SESSIONS)
			assert_int_equal(far_l1_session_open(w->l1, "more", &session), -ENOMEM);
	} else if (open > 1 && (session != w->ref.holder || chance(w, 2))) {
		far_l1_session_close(w->l1, session);
		far_l1_session_close(w->l1, session); /* harms nobody */
		ref_close(&w->ref, session);
		w->closed = session;
	}
}

static void
do_overdue(struct world *w)
{
	uint64_t age_ns = below(w, 2000);
	size_t count = far_l1_report_overdue(w->l1, w->ref.now_ns, age_ns);

	for (uint32_t i = 0; i < REF_LOANS; i++)
		if (w->ref.loans[i].kind != REF_NONE)
			count -= w->ref.now_ns - w->ref.loans[i].since_ns > age_ns;
	assert_int_equal(count, 0);
}

/* ---- the whole state ---- */

static void
state_check(struct world *w)
{
	struct far_l1_usage usage;
	uint64_t used = 0, locked = 0, quarantine = 0, count = 0;

	for (uint64_t n = 1; n <= KEYS; n++) {
		struct far_key key = key_of(n);
		uint32_t at = ref_find(&w->ref, n);
		enum far_l1_state want = FAR_L1_ABSENT;

		if (at != REF_NOBODY)
			want = w->ref.blocks[at].writing       ? FAR_L1_WRITE_LOCKED
			       : w->ref.blocks[at].readers > 0 ? FAR_L1_READ_LOCKED
							       : FAR_L1_READY;
		assert_int_equal(far_l1_state_get(w->l1, &key), want);
	}
	for (uint32_t i = 0; i < REF_BLOCKS; i++) {
		const struct ref_block *block = &w->ref.blocks[i];

		if (!block->used)
			continue;
		used += bytes_of(block);
		locked += ref_locked(block) ? bytes_of(block) : 0;
		quarantine += block->tabled ? 0 : bytes_of(block);
		count += block->tabled;
	}
	far_l1_usage_get(w->l1, &usage);
	assert_int_equal(usage.used_bytes, used);
	assert_int_equal(usage.locked_bytes, locked);
	assert_int_equal(usage.quarantine_bytes, quarantine);
	assert_int_equal(usage.block_count, count);
	assert_int_equal(usage.loan_count, ref_loan_count(&w->ref));
	assert_int_equal(w->told_all, w->heard_all);
}

static void
step(struct world *w)
{
	uint64_t dice = below(w, 1000);

	if (dice < 200)
		do_reserve_write(w);
	else if (dice < 420)
		do_finish(w);
	else if (dice < 560)
		do_reserve_read(w);
	else if (dice < 850)
		do_finish_read(w);
	else if (dice < 870)
		do_unsafe_read(w);
	else if (dice < 890)
		do_mark(w);
	else if (dice < 920)
		do_delete(w);
	else if (dice < 960)
		do_touch(w);
	else if (dice < 975)
		do_evict(w);
	else if (dice < 990)
		do_session(w);
	else if (dice < 993)
		do_clear(w);
	else if (dice < 996)
		do_overdue(w);
	else
		far_clock_fake_advance(&w->clock, below(w, 1000));
	w->ref.now_ns = far_clock_now(&w->clock.clock);
	events_check(w);
}

static void
world_open(struct world *w, uint64_t seed)
{
	static const enum far_l1_policy policies[] = {FAR_L1_LRU, FAR_L1_S3FIFO, FAR_L1_NONE};
	struct far_l1_config config = {.size_bytes = (uint64_t)REF_UNITS * REF_UNIT,
				       .align_bytes = REF_UNIT,
				       .block_bytes_min = REF_UNIT,
				       .sessions_max = REF_SESSIONS};
	struct far_l1_listener plain = {.written = on_any,
					.prefetched = on_any,
					.deleted = on_any,
					.accessed = on_any,
					.arg = w};
	struct far_l1_listener full = {.written = on_written,
				       .prefetched = on_prefetched,
				       .deleted = on_deleted,
				       .accessed = on_accessed,
				       .arg = w};

	memset(w, 0, sizeof(*w));
	far_rng_init(&w->rng, seed);
	far_clock_fake_init(&w->clock, 1000);
	w->units_max = chance(w, 40) ? 1 : 2 + (uint32_t)below(w, 9);
	config.policy = policies[chance(w, 10) ? 2 : below(w, 2)];
	config.shards = 1u << below(w, 4);
	config.loans_max = chance(w, 50) ? 8 + (uint32_t)below(w, 8) : REF_LOANS - 1;
	config.clock = &w->clock.clock;
	w->exact = config.policy == FAR_L1_LRU && w->units_max == 1;
	w->ref.never_evicts = config.policy == FAR_L1_NONE;
	w->ref.loans_max = config.loans_max;
	w->ref.now_ns = far_clock_now(&w->clock.clock);
	w->arena = far_zalloc_aligned(REF_UNIT, config.size_bytes);
	assert_non_null(w->arena);
	config.base = w->arena;
	assert_int_equal(far_l1_open(&config, &w->l1), 0);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(far_l1_session_open(w->l1, "model", &w->ref.open[i]), 0);
	if (chance(w, 50)) {
		full.hold_written = true;
		full.session = w->ref.holder = w->ref.open[0];
	}
	assert_int_equal(far_l1_listen(w->l1, &full), 0);
	assert_int_equal(far_l1_listen(w->l1, &plain), 0);
}

static void
world_close(struct world *w)
{
	struct far_l1_usage usage;

	for (uint32_t i = 0; i < REF_SESSIONS; i++)
		if (w->ref.open[i] != 0)
			far_l1_session_close(w->l1, w->ref.open[i]);
	for (uint32_t i = 0; i < REF_SESSIONS; i++)
		ref_close(&w->ref, w->ref.open[i]);
	events_check(w);
	state_check(w);
	(void)far_l1_clear(w->l1, false);
	far_l1_check(w->l1);
	far_l1_usage_get(w->l1, &usage);
	assert_int_equal(usage.used_bytes + usage.quarantine_bytes + usage.locked_bytes, 0);
	assert_int_equal(usage.block_count + usage.loan_count, 0);
	far_l1_close(w->l1);
	far_free(w->arena);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
every_history_answers_and_tells_what_the_reference_does(void **state)
{
	static const char *const names[] = {"written", "prefetched", "accessed", "deleted:"};
	static const char *const whys[] = {"evicted", "deleted", "cleared", "forced", "temporary"};
	static struct world w;
	(void)state;

	for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
		print_message("seed %llu\n", (unsigned long long)seed);
		world_open(&w, seed);
		for (uint32_t i = 0; i < STEPS; i++) {
			step(&w);
			if (i % 16 == 0)
				state_check(&w);
			if (i % 256 == 0)
				far_l1_check(w.l1);
		}
		steps_done += STEPS;
		world_close(&w);
	}
	print_message("%llu steps told", (unsigned long long)steps_done);
	for (int i = 0; i <= REF_DELETED; i++)
		print_message(" %llu %s,", (unsigned long long)told_by_name[i], names[i]);
	for (int i = 0; i <= FAR_L1_WHY_TEMPORARY; i++) {
		print_message(" %llu %s", (unsigned long long)told_by_why[i], whys[i]);
		/* The histories are worth nothing where they do not come by. */
		assert_true(seed_count < 10 || told_by_why[i] > 0);
	}
	print_message("\n");
}

/* Overdue loans are named: as they should be. */
static void
no_log(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_history_answers_and_tells_what_the_reference_does),
	};

#ifdef FAR_DEBUG
	seed_count = HISTORIES / 10; /* a sanitizer takes its time */
#endif
	/* One argument: that seed alone; two: so many from it. */
	if (argc > 1) {
		seed_first = strtoull(argv[1], NULL, 0);
		seed_count = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	}
	far_log_sink_set(no_log, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
