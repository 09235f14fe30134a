/* write.c - writers: reserving buffers, and the two ways out of a reservation, the flip and abort. */
#include "l1/grant.h"
#include "l1/lend.h"

#include "base/publish.h"

#define RECORDS_AHEAD ((size_t)8) /* keys whose lines are asked for before they are needed */
#define BUCKETS_AHEAD (2 * RECORDS_AHEAD)

/* One reserve_write. */
struct write_call {
	struct far_l1 *l1;
	far_l1_session session;
	uint64_t now_ns;
	uint64_t tick; /* of the first key */
	struct l1_places places;
	uint32_t loans[L1_SLICE]; /* taken and not used yet */
	size_t loan_count;
	size_t lent; /* loans that are not counted yet */
};

/* While a call runs, the grant of a key that was there says which block must be spared. */
static void
pin_set(struct far_l1 *l1, struct far_l1_grant *grant, uint32_t idx, uint64_t word)
{
	atomic_fetch_or_explicit(&l1->blocks[idx].word, WORD_PINNED, memory_order_relaxed);
	grant->offset_bytes = idx;
	grant->loan = word_gen(word);
}

static void
pin_clear(struct far_l1 *l1, struct far_l1_grant *grant, uint64_t tick)
{
	struct l1_block *block = &l1->blocks[grant->offset_bytes];

	l1->unpinned += grant->offset_bytes != L1_NIL;
	/* The generation tells whether the record is that block's still. Asking for it was a use. */
	if (grant->offset_bytes != L1_NIL &&
	    word_gen(atomic_load_explicit(&block->word, memory_order_relaxed)) == grant->loan) {
		atomic_store_explicit(&block->touched, tick, memory_order_relaxed);
		atomic_fetch_and_explicit(&block->word, ~WORD_PINNED, memory_order_relaxed);
	}
	grant->offset_bytes = 0;
	grant->loan = 0;
}

/* The hash of a key that is not granted yet waits in its grant. */
L1_PREFETCHES
bucket_ask(const struct far_l1 *l1, const struct far_l1_want *wants, size_t count, size_t i,
	   struct far_l1_grant *grants)
{
	if (i >= count)
		return;
	grants[i].loan = key_hash(&wants[i].key);
	__builtin_prefetch(&l1->buckets[bucket_of(l1, grants[i].loan)]);
}

/* The record that the key is compared with, if the bucket has one. */
L1_PREFETCHES
record_ask(const struct far_l1 *l1, size_t count, size_t i, const struct far_l1_grant *grants)
{
	if (i >= count)
		return;
	__builtin_prefetch(&l1->blocks[atomic_load_explicit(
		&l1->buckets[bucket_of(l1, grants[i].loan)], memory_order_relaxed)]);
}

static bool
want_is_valid(const struct far_l1_want *want, uint64_t capacity)
{
	return !far_key_is_zero(&want->key) && want->size_bytes != 0 &&
	       want->size_bytes <= capacity && (want->flags & ~FAR_L1_TEMPORARY) == 0;
}

/* The first pass, with the lock: what can be said without any memory. The rest have rc 0. */
static void
wants_sort(struct write_call *call, const struct far_l1_want *wants, size_t count,
	   struct far_l1_grant *grants)
{
	struct far_l1 *l1 = call->l1;
	uint64_t capacity = (uint64_t)l1->region_units_max << l1->align_shift;

	for (size_t i = 0; i < BUCKETS_AHEAD; i++)
		bucket_ask(l1, wants, count, i, grants);
	for (size_t i = 0; i < RECORDS_AHEAD; i++)
		record_ask(l1, count, i, grants);
	for (size_t i = 0; i < count; i++) {
		uint64_t hash = grants[i].loan;
		uint64_t word = 0;
		uint32_t idx;

		record_ask(l1, count, i + RECORDS_AHEAD, grants);
		bucket_ask(l1, wants, count, i + BUCKETS_AHEAD, grants);
		grants[i] = (struct far_l1_grant){.rc = 0, .loan = hash};
		if (!want_is_valid(&wants[i], capacity)) {
			grants[i] = (struct far_l1_grant){.rc = -EINVAL};
			continue;
		}
		idx = table_look(l1, &wants[i].key, hash, &word);
		if (idx == L1_NIL) {
			call->places.wanted++;
			continue;
		}
		grants[i].rc = -EEXIST;
		pin_set(l1, &grants[i], idx, word);
	}
}

static void
loans_return(struct write_call *call)
{
	if (call->loan_count > 0)
		far_l1_loans_give(call->l1, call->loans, call->loan_count);
	call->loan_count = 0;
}

/* What was lent and replaced is filed and counted for all keys together, before the lock is given back. */
static void
lent_count(struct write_call *call)
{
	struct far_l1 *l1 = call->l1;
	struct l1_places *places = &call->places;

	far_l1_queue_file(l1);
	evicted_count(l1, &places->dead, places->replaced, places->replaced_bytes);
	places->replaced = 0;
	places->replaced_bytes = 0;
	locked_bytes_add(l1, call->session, l1->lending_bytes, 0);
	far_l1_session_count(l1, call->session, (int64_t)call->lent);
	l1->lending_bytes = 0;
	l1->summed = 0;
	call->lent = 0;
}

/* Evictions are told, and their records freed, while nothing is held. False: the session is gone. */
static bool
dead_flush(struct write_call *call)
{
	struct far_l1 *l1 = call->l1;

	far_l1_victims_return(l1, call->places.victims);
	lent_count(call);
	pthread_mutex_unlock(&l1->lock);
	loans_return(call);
	far_l1_gate_leave(l1, call->session);
	far_l1_dead_tell(l1, &call->places.dead);
	if (far_l1_gate_enter(l1, call->session) < 0)
		return false;
	pthread_mutex_lock(&l1->lock);
	return true;
}

/* Apart from the way that most keys go, whose entry is in registers. */
static __attribute__((noinline)) uint32_t
want_place(struct write_call *call, struct l1_entry entry, uint32_t units)
{
	return far_l1_place(call->l1, &call->places, &entry, units);
}

static int
want_grant(struct write_call *call, const struct far_l1_want *want, size_t left, uint64_t tick,
	   struct far_l1_grant *grant)
{
	struct far_l1 *l1 = call->l1;
	struct l1_lend lend = {
		.kind = LOAN_WRITE, .session = call->session, .now_ns = call->now_ns};
	struct l1_entry entry = {.key = &want->key,
				 .hash = grant->loan,
				 .tick = tick,
				 .size_bytes = want->size_bytes};
	uint32_t units = block_units(l1, want->size_bytes);
	uint64_t word = 0;
	uint32_t idx;

	/* Given twice in this call, or by another thread while our evictions were told. */
	if (table_look(l1, &want->key, grant->loan, &word) != L1_NIL)
		return -EEXIST;
	if (call->loan_count == 0)
		call->loan_count = far_l1_loans_take(l1, call->session, call->loans,
						     left < L1_SLICE ? left : L1_SLICE);
	if (call->loan_count == 0)
		return -ENOMEM;
	idx = place_at_once(l1, &call->places, &entry, units);
	if (idx == L1_NIL)
		idx = want_place(call, entry, units);
	if (idx == L1_NIL)
		return -ENOMEM;
	/* Before the loan: nobody else can flip it yet. */
	if (want->flags & FAR_L1_TEMPORARY)
		atomic_fetch_or_explicit(&l1->blocks[idx].word, WORD_TEMPORARY,
					 memory_order_relaxed);
	l1->lending_bytes += (uint64_t)units << l1->align_shift;
	call->lent++;
	grant->size_bytes = want->size_bytes;
	lend.block = idx;
	grant->loan = far_l1_loan_start(l1, call->loans[--call->loan_count], &lend);
	block_grant(l1, &l1->blocks[idx], grant);
	return 0;
}

/* The second pass, with the lock: grants in key order; returns the first key that memory did not
 * reach. Without the lock if *@inside became false: the session was closed by a listener. */
static size_t
wants_grant(struct write_call *call, const struct far_l1_want *wants, size_t count,
	    struct far_l1_grant *grants, bool *inside, size_t *granted)
{
	for (size_t i = 0; i < count; i++) {
		if (grants[i].rc != 0)
			continue;
		if (call->places.dead.count >= L1_EVENTS && !dead_flush(call)) {
			*inside = false;
			return i;
		}
		grants[i].rc = want_grant(call, &wants[i], count - i, call->tick - i, &grants[i]);
		call->places.wanted--;
		if (grants[i].rc == -ENOMEM)
			return i;
		if (grants[i].rc == 0)
			(*granted)++;
	}
	return count;
}

size_t
far_l1_reserve_write(struct far_l1 *l1, far_l1_session session, const struct far_l1_want *wants,
		     size_t count, struct far_l1_grant *grants_out)
{
	struct l1_victims victims;
	struct write_call call = {
		.l1 = l1,
		.session = session,
		.places = {.victims = &victims, .dead = {.head = L1_NIL}},
	};
	bool inside = far_l1_gate_enter(l1, session) == 0;
	size_t granted = 0, end;
	uint64_t tick;
	int rest_rc;

	if (!inside) {
		for (size_t i = 0; i < count; i++)
			grants_out[i] = (struct far_l1_grant){.rc = -EPERM};
		return 0;
	}
	victims.next = victims.count = 0;
	call.now_ns = far_clock_now(l1->config.clock);
	call.tick = ticks_take(l1, count);
	pthread_mutex_lock(&l1->lock);
	wants_sort(&call, wants, count, grants_out);
	end = wants_grant(&call, wants, count, grants_out, &inside, &granted);
	if (!inside)
		pthread_mutex_lock(&l1->lock);
	tick = ticks_take(l1, count);
	rest_rc = inside ? -ENOMEM : -EPERM; /* the session may have been closed meanwhile */
	for (size_t i = 0; i < count && granted < count; i++) {
		if (grants_out[i].rc == -EEXIST)
			pin_clear(l1, &grants_out[i], tick - i);
		if (i >= end)
			grants_out[i] = (struct far_l1_grant){.rc = rest_rc};
	}
	l1->denied += inside ? count - end : 0;
	far_l1_victims_return(l1, &victims);
	lent_count(&call);
	pthread_mutex_unlock(&l1->lock);
	loans_return(&call);
	if (inside)
		far_l1_gate_leave(l1, session);
	far_l1_dead_tell(l1, &call.places.dead);
	far_l1_record_add(l1, FAR_RECORD_L1_EVICTED, 1, session, call.places.dead.evicted,
			  call.places.dead.evicted_bytes);
	far_l1_record_granted(l1, FAR_RECORD_L1_WRITE_RESERVED, session, grants_out, count);
	far_l1_record_add(l1, FAR_RECORD_L1_DENIED, rest_rc, session, count - end, 0);
	return granted;
}

/* The one step out of write-locked; false: the key was deleted by force, nobody may see the block. */
static bool
block_flip(struct far_l1 *l1, uint32_t idx, uint32_t readers)
{
	struct l1_block *block = &l1->blocks[idx];
	uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);
	uint64_t to;

	do {
		FAR_ASSERT(word_state(word) == WORD_WRITE);
		if (word & WORD_DOOMED)
			return false;
		to = (word & ~WORD_STATE_MASK) | WORD_READY |
		     ((uint64_t)readers << WORD_READER_SHIFT);
		/* Release: all that was written before publish(). Pairs with block_read_lock(). */
	} while (!atomic_compare_exchange_weak_explicit(
		&block->word, &word, to, memory_order_release, memory_order_relaxed));
	return true;
}

uint64_t
far_l1_abort_claimed(struct far_l1 *l1, const uint32_t *idxs, size_t count)
{
	uint64_t bytes = 0;

	if (count == 0)
		return 0;
	pthread_mutex_lock(&l1->lock);
	for (size_t i = 0; i < count; i++) {
		struct l1_block *block = &l1->blocks[idxs[i]];
		uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);

		FAR_ASSERT(word_state(word) == WORD_WRITE);
		bytes += block_bytes(l1, idxs[i]);
		if (word & WORD_DOOMED)
			l1->quarantine_bytes -= block_bytes(l1, idxs[i]);
		else
			far_l1_table_unlink(l1, idxs[i]);
		far_l1_block_end(l1, idxs[i]);
		far_l1_record_drop(l1, idxs[i]);
	}
	pthread_mutex_unlock(&l1->lock);
	return bytes;
}

/* How write loans end. */
struct finish_call {
	struct far_l1 *l1;
	far_l1_session session;
	uint32_t readers;      /* 0: finish_write */
	far_l1_session reader; /* owner of those, or of the hold; 0: nobody */
	uint64_t now_ns;
	uint64_t tick; /* of the next loan */
	uint64_t unlocked_bytes;
	uint64_t finished_bytes; /* with a recorder */
	size_t loans_ended;
	size_t loans_turned;  /* now the reader's */
	struct l1_news *news; /* while finish() runs */
};

/* Flips one block whose loan is claimed; its loan ends or goes on as a read loan. Apart from the way that most go. */
static __attribute__((noinline)) int
finish_one(struct finish_call *call, uint32_t loan, uint32_t idx, uint32_t *ended, uint32_t *doomed,
	   size_t *doomed_count)
{
	struct far_l1 *l1 = call->l1;
	struct l1_block *block = &l1->blocks[idx];
	/* A temporary that is written is nobody's news: it must not be stored. */
	bool silent =
		call->readers == 0 &&
		(atomic_load_explicit(&block->word, memory_order_relaxed) & WORD_TEMPORARY) != 0;
	/* finish_write: the one read lock that the holding listener gets in the same step. */
	uint32_t counts = call->readers > 0 ? call->readers : call->reader != 0 && !silent;
	bool told = !silent && (call->readers > 0 ? l1->told_prefetched : l1->told_written);
	/* As long as the record is ours, and only if somebody wants to know. */
	uint64_t bytes = counts == 0 || l1->config.recorder != NULL ? block_bytes(l1, idx) : 0;
	uint64_t handle = 0;

	/* Ready without a reader is evictable at once: what needs the record comes before. */
	atomic_store_explicit(&block->touched, call->tick, memory_order_relaxed);
	if (told)
		far_l1_news_add(l1, call->news, block, 0);
	if (!block_flip(l1, idx, counts)) {
		if (told)
			call->news->count--;
		doomed[(*doomed_count)++] = idx;
		far_l1_loan_end(l1, loan);
		ended[call->loans_ended++] = loan;
		return -ENOENT;
	}
	call->finished_bytes += bytes;
	if (counts == 0) {
		call->unlocked_bytes += bytes;
		far_l1_loan_end(l1, loan);
		ended[call->loans_ended++] = loan;
		return 0;
	}
	handle = far_l1_loan_turn_read(l1, loan, counts, call->reader, call->now_ns,
				       call->readers == 0);
	call->loans_turned++;
	if (told)
		call->news->events[call->news->count - 1].loan = call->readers == 0 ? handle : 0;
	return 0;
}

/* Where its readers have it and nobody is told or counts bytes, as mostly, that is all. False: it was deleted by
 * force, and nothing was done. */
static inline bool
flip_plain(const struct finish_call *call, uint32_t loan, uint32_t idx)
{
	struct far_l1 *l1 = call->l1;

	atomic_store_explicit(&l1->blocks[idx].touched, call->tick, memory_order_relaxed);
	if (!block_flip(l1, idx, call->readers))
		return false;
	(void)far_l1_loan_turn_read(l1, loan, call->readers, call->reader, call->now_ns, false);
	return true;
}

static size_t
slice_finish(struct finish_call *call, const uint64_t *loans, size_t count, int *rcs_out)
{
	struct far_l1 *l1 = call->l1;
	uint32_t ended[L1_EVENTS], doomed[L1_EVENTS];
	bool plain = call->readers > 0 && !l1->told_prefetched && l1->config.recorder == NULL;
	size_t doomed_count = 0, ok = 0;

	call->unlocked_bytes = 0;
	call->loans_ended = 0;
	call->loans_turned = 0;
	for (size_t i = 0; i < count; i++)
		if ((loans[i] & LOAN_IDX_MASK) < l1->loans_max)
			__builtin_prefetch(&l1->loans[loans[i] & LOAN_IDX_MASK], 1);
	for (size_t i = 0; i < count; i++) {
		uint32_t loan = (uint32_t)(loans[i] & LOAN_IDX_MASK);
		uint32_t idx = L1_NIL;
		int rc = far_l1_loan_claim_write(l1, loans[i], call->session, &idx);

		if (rc == 0 && plain && flip_plain(call, loan, idx))
			call->loans_turned++;
		else if (rc == 0)
			rc = finish_one(call, loan, idx, ended, doomed, &doomed_count);
		rcs_out[i] = rc;
		call->tick--;
		ok += rc == 0;
	}
	call->unlocked_bytes += far_l1_abort_claimed(l1, doomed, doomed_count);
	if (call->loans_ended > 0)
		far_l1_loans_give(l1, ended, call->loans_ended);
	locked_bytes_add(l1, call->session, 0, call->unlocked_bytes);
	far_l1_session_count(l1, call->session, -(int64_t)(call->loans_ended + call->loans_turned));
	if (call->loans_turned > 0)
		far_l1_session_count(l1, call->reader, (int64_t)call->loans_turned);
	return ok;
}

/* Enters both gates; a written-listener whose session is gone holds nothing any more. */
static int
finish_enter(struct finish_call *call)
{
	int rc = far_l1_gate_enter(call->l1, call->session);

	if (rc < 0 || call->reader == 0)
		return rc;
	rc = far_l1_gate_enter_nested(call->l1, call->reader);
	if (rc == 0)
		return 0;
	if (call->readers == 0) {
		call->reader = 0;
		return 0;
	}
	far_l1_gate_leave(call->l1, call->session);
	return rc;
}

static void
finish_leave(struct finish_call *call)
{
	if (call->reader != 0)
		far_l1_gate_leave(call->l1, call->reader);
	far_l1_gate_leave(call->l1, call->session);
}

static size_t
finish(struct finish_call *call, const uint64_t *loans, size_t count, int *rcs_out)
{
	struct far_l1 *l1 = call->l1;
	enum l1_news_kind kind = call->readers > 0 ? NEWS_PREFETCHED : NEWS_WRITTEN;
	struct l1_news news;
	size_t ok = 0, done = 0;
	int rc = 0;

	news.count = 0;
	call->news = &news;
	call->now_ns = far_clock_now(l1->config.clock);
	call->tick = ticks_take(l1, count);
	if (l1->config.publish != NULL)
		l1->config.publish(l1->config.publish_arg);
	else
		far_mem_publish();
	while (done < count) {
		size_t n = count - done < L1_EVENTS ? count - done : L1_EVENTS;

		rc = finish_enter(call);
		if (rc < 0)
			break;
		ok += slice_finish(call, loans + done, n, rcs_out + done);
		done += n;
		finish_leave(call);
		far_l1_news_tell(l1, kind, &news);
	}
	call->news = NULL;
	for (; done < count; done++)
		rcs_out[done] = rc;
	far_l1_record_add(l1, call->readers > 0 ? FAR_RECORD_L1_FLIPPED : FAR_RECORD_L1_WRITTEN, 0,
			  call->session, ok, call->finished_bytes);
	return ok;
}

size_t
far_l1_finish_write(struct far_l1 *l1, far_l1_session session, const uint64_t *loans, size_t count,
		    int *rcs_out)
{
	struct finish_call call = {.l1 = l1, .session = session};

	if (l1->holder >= 0)
		call.reader = l1->listeners[l1->holder].session;
	return finish(&call, loans, count, rcs_out);
}

size_t
far_l1_finish_write_and_reserve_read(struct far_l1 *l1, far_l1_session session,
				     const uint64_t *loans, size_t count, uint32_t readers,
				     far_l1_session reader_session, int *rcs_out)
{
	struct finish_call call = {
		.l1 = l1, .session = session, .readers = readers, .reader = reader_session};
	int rc = 0;

	if (readers == 0 || readers > LOAN_COUNT_MAX)
		rc = -EINVAL;
	else if (reader_session == 0)
		rc = -EPERM;
	if (rc == 0)
		return finish(&call, loans, count, rcs_out);
	for (size_t i = 0; i < count; i++)
		rcs_out[i] = rc;
	return 0;
}

size_t
far_l1_abort_write(struct far_l1 *l1, far_l1_session session, const uint64_t *loans, size_t count,
		   int *rcs_out)
{
	int rc = far_l1_gate_enter(l1, session);
	uint64_t bytes = 0;
	size_t ok = 0;

	if (rc < 0) {
		for (size_t i = 0; i < count; i++)
			rcs_out[i] = rc;
		return 0;
	}
	for (size_t done = 0; done < count; done += L1_SLICE) {
		size_t n = count - done < L1_SLICE ? count - done : L1_SLICE;
		uint32_t idxs[L1_SLICE], ended[L1_SLICE];
		size_t ended_count = 0;
		uint64_t unlocked_bytes;

		for (size_t i = 0; i < n; i++) {
			uint64_t loan = loans[done + i];

			rc = far_l1_loan_claim_write(l1, loan, session, &idxs[ended_count]);
			rcs_out[done + i] = rc;
			if (rc == 0)
				ended[ended_count++] = (uint32_t)(loan & LOAN_IDX_MASK);
		}
		unlocked_bytes = far_l1_abort_claimed(l1, idxs, ended_count);
		locked_bytes_add(l1, session, 0, unlocked_bytes);
		bytes += unlocked_bytes;
		for (size_t i = 0; i < ended_count; i++)
			far_l1_loan_end(l1, ended[i]);
		if (ended_count > 0)
			far_l1_loans_give(l1, ended, ended_count);
		far_l1_session_count(l1, session, -(int64_t)ended_count);
		ok += ended_count;
	}
	far_l1_gate_leave(l1, session);
	far_l1_record_add(l1, FAR_RECORD_L1_ABORTED, 0, session, ok, bytes);
	return ok;
}
