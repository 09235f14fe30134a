/* read.c - readers: locking, unlocking and touching without a lock, a slice of keys at a time. */
#include "l1/lend.h"

#define FIND_TRIES_MAX 8u

/* One call: what is the same for all of its keys. */
struct read_call {
	struct far_l1 *l1;
	far_l1_session session;
	uint32_t readers;
	bool prefix; /* stop at the first key that is not granted */
	uint64_t now_ns;
};

/* One key of a call. */
struct read_key {
	const struct far_key *key;
	const uint32_t *size; /* NULL: any */
	uint64_t hash;
};

/* Look-ups of a slice, whose lines are asked for before they are needed. */
struct l1_ahead {
	const struct far_l1 *l1;
	const struct far_key *keys;
	size_t count;
	uint64_t *hashes; /* filled in on the way */
};

/* What a slice of a call works on. */
struct read_slice {
	const struct far_key *keys;
	const uint32_t *sizes; /* NULL: any */
	size_t count;
	uint64_t tick; /* of the first key */
	struct far_l1_grant *grants;
	uint64_t hashes[L1_SLICE];
	uint32_t blocks[L1_SLICE]; /* L1_NIL: not granted */
};

/*
 * Every key costs two lines that are in no cache once there are many: its bucket, then its record.
 * They are asked for a group of keys at a time, so that their misses overlap with each other (the
 * atomic steps on a block let nothing pass), and groups ahead, so that they overlap with the work.
 */
#define GROUP ((size_t)32)

L1_PREFETCHES
bucket_ask(const struct l1_ahead *ahead, size_t i)
{
	ahead->hashes[i] = key_hash(&ahead->keys[i]);
	__builtin_prefetch(&ahead->l1->buckets[bucket_of(ahead->l1, ahead->hashes[i])]);
}

static inline uint32_t
bucket_first(const struct l1_ahead *ahead, size_t i)
{
	const struct far_l1 *l1 = ahead->l1;

	return atomic_load_explicit(&l1->buckets[bucket_of(l1, ahead->hashes[i])],
				    memory_order_relaxed);
}

/* Where the first record of the chain is another key's, the next one will be needed. */
L1_PREFETCHES
chain_ask(const struct l1_ahead *ahead, size_t i)
{
	const struct l1_block *block = &ahead->l1->blocks[bucket_first(ahead, i)];

	if (atomic_load_explicit(&block->key[0], memory_order_relaxed) !=
	    far_key_lo(&ahead->keys[i]))
		__builtin_prefetch(&ahead->l1->blocks[atomic_load_explicit(&block->next,
									   memory_order_relaxed)],
				   1);
}

static inline size_t
group_end(const struct l1_ahead *ahead, size_t first)
{
	return first + GROUP < ahead->count ? first + GROUP : ahead->count;
}

static void
ahead_begin(const struct l1_ahead *ahead)
{
	for (size_t i = 0; i < ahead->count && i < 2 * GROUP; i++)
		bucket_ask(ahead, i);
	for (size_t i = 0; i < ahead->count && i < GROUP; i++)
		__builtin_prefetch(&ahead->l1->blocks[bucket_first(ahead, i)], 1);
}

/* Before the keys from @first, a multiple of GROUP, are worked on. */
static void
ahead_group(const struct l1_ahead *ahead, size_t first)
{
	for (size_t i = first + 2 * GROUP; i < group_end(ahead, first + 2 * GROUP); i++)
		bucket_ask(ahead, i);
	for (size_t i = first + GROUP; i < group_end(ahead, first + GROUP); i++)
		__builtin_prefetch(&ahead->l1->blocks[bucket_first(ahead, i)], 1);
	for (size_t i = first; i < group_end(ahead, first); i++)
		chain_ask(ahead, i);
}

/* Locks a block that was found; -EAGAIN: it was on its way elsewhere, look again (never, with the lock
 * held). */
static inline int
block_read_lock(const struct read_call *call, const struct read_key *k, uint32_t idx, uint64_t word,
		bool *first_out)
{
	struct l1_block *block = &call->l1->blocks[idx];
	uint32_t gen = word_gen(word);
	uint64_t to;

	do {
		if (word_gen(word) != gen || word_state(word) == WORD_CLAIMED)
			return -EAGAIN;
		if (word_state(word) != WORD_READY || (word & WORD_DOOMED) != 0)
			return -ENOENT;
		if (k->size != NULL &&
		    atomic_load_explicit(&block->size_bytes, memory_order_acquire) != *k->size) {
			word = atomic_load_explicit(&block->word, memory_order_relaxed);
			return word_gen(word) == gen ? -EMSGSIZE : -EAGAIN;
		}
		if (word_readers(word) + call->readers > WORD_READERS_MAX)
			return -EBUSY;
		*first_out = word_readers(word) == 0;
		to = word + ((uint64_t)call->readers << WORD_READER_SHIFT);
		if (call->l1->counts_uses)
			to = word_used(to);
		/* Acquire: the writer's bytes, published before its flip. Pairs with
		 * block_flip(). */
	} while (!atomic_compare_exchange_weak_explicit(
		&block->word, &word, to, memory_order_acquire, memory_order_acquire));
	return 0;
}

/* far_l1_let_go() came between our look at the word and our last count: the block has no reader,
 * and goes unless somebody has locked it meanwhile (then he takes it along) or evicted it. */
static bool
temporary_doom(struct l1_block *block, uint64_t word)
{
	uint32_t gen = word_gen(word);

	while (word_gen(word) == gen && word_state(word) == WORD_READY && word_readers(word) == 0 &&
	       (word & (WORD_TEMPORARY | WORD_DOOMED)) == WORD_TEMPORARY) {
		if (atomic_compare_exchange_weak_explicit(&block->word, &word, word | WORD_DOOMED,
							  memory_order_acq_rel,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

/* The last count goes and the block is doomed in one step, so that a reader comes before it or
 * finds nothing. Returns what the word was, with the mark if it was set. */
static uint64_t
temporary_unlock(struct l1_block *block, uint32_t counts)
{
	uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);
	uint64_t doom;

	do {
		doom = (word & WORD_TEMPORARY) != 0 && word_readers(word) == counts ? WORD_DOOMED
										    : 0;
	} while (!atomic_compare_exchange_weak_explicit(
		&block->word, &word, (word - ((uint64_t)counts << WORD_READER_SHIFT)) | doom,
		memory_order_acq_rel, memory_order_relaxed));
	return word | doom;
}

bool
far_l1_block_read_unlock(struct far_l1 *l1, uint32_t idx, uint32_t counts, uint64_t tick,
			 uint64_t *unlocked_bytes)
{
	struct l1_block *block = &l1->blocks[idx];
	uint64_t footprint = block_bytes(l1, idx);
	uint64_t word;

	if (tick != 0)
		atomic_store_explicit(&block->touched, tick, memory_order_relaxed);
	/* Release: our reads are over. Pairs with block_claim(). From here on the record may
	 * be another block's. */
	if (tick == 0 ||
	    (atomic_load_explicit(&block->word, memory_order_relaxed) & WORD_TEMPORARY) == 0)
		word = atomic_fetch_sub_explicit(
			&block->word, (uint64_t)counts << WORD_READER_SHIFT, memory_order_acq_rel);
	else
		word = temporary_unlock(block, counts);
	FAR_ASSERT(word_readers(word) >= counts);
	if (word_readers(word) != counts)
		return false;
	*unlocked_bytes += footprint;
	if (tick != 0 && temporary_doom(block, word - ((uint64_t)counts << WORD_READER_SHIFT)))
		return true;
	return (word & WORD_DOOMED) != 0;
}

/* No block is ever under the zero key. */
static inline int
key_absent_rc(const struct far_key *key)
{
	return far_key_is_zero(key) ? -EINVAL : -ENOENT;
}

/* With the table's lock, as the way without failed too often. */
static __attribute__((noinline)) int
read_lock_slowly(const struct read_call *call, struct read_key key, uint32_t *idx_out,
		 bool *first_out)
{
	const struct read_key *k = &key; /* by value: elsewhere it is in registers */
	struct far_l1 *l1 = call->l1;
	uint64_t word = 0;
	int rc = key_absent_rc(k->key);

	/* Whoever had claimed it has decided when we get the lock. */
	pthread_mutex_lock(&l1->lock);
	*idx_out = far_l1_table_find_locked(l1, k->key, k->hash, &word);
	if (*idx_out != L1_NIL)
		rc = block_read_lock(call, k, *idx_out, word, first_out);
	pthread_mutex_unlock(&l1->lock);
	FAR_ASSERT(rc != -EAGAIN);
	return rc;
}

/* Locks one block for reading; @idx_out is of use if it was. */
static inline int
read_lock(const struct read_call *call, const struct read_key *k, uint32_t *idx_out,
	  bool *first_out)
{
	uint64_t word = 0;
	int rc = -EAGAIN;

	for (uint32_t i = 0; i < FIND_TRIES_MAX && rc == -EAGAIN; i++) {
		*idx_out = far_l1_table_find(call->l1, k->key, k->hash, &word);
		if (*idx_out == L1_NIL)
			return key_absent_rc(k->key);
		if (*idx_out != L1_RETRY)
			rc = block_read_lock(call, k, *idx_out, word, first_out);
	}
	return rc != -EAGAIN ? rc : read_lock_slowly(call, *k, idx_out, first_out);
}

static void
read_undo(struct far_l1 *l1, uint32_t idx, uint32_t readers, uint64_t *unlocked_bytes)
{
	struct l1_dead none = {.head = L1_NIL};

	if (far_l1_block_read_unlock(l1, idx, readers, 0, unlocked_bytes))
		far_l1_doomed_free(l1, &idx, 1, &none);
	FAR_ASSERT(none.head == L1_NIL); /* it was deleted by force, which was told then */
}

static void
grant_deny(struct far_l1_grant *grant, int rc)
{
	*grant = (struct far_l1_grant){.rc = rc};
}

/* Locks the blocks of a slice; returns how many keys it got to (all, but for a prefix). */
static size_t
slice_lock(const struct read_call *call, struct read_slice *s, size_t *granted,
	   uint64_t *locked_bytes)
{
	struct far_l1 *l1 = call->l1;
	struct l1_ahead ahead = {l1, s->keys, s->count, s->hashes};

	ahead_begin(&ahead);
	for (size_t i = 0; i < s->count; i++) {
		struct read_key k = {&s->keys[i], s->sizes != NULL ? &s->sizes[i] : NULL,
				     s->hashes[i]};
		bool first = false;
		uint32_t idx;
		int rc;

		if (i % GROUP == 0)
			ahead_group(&ahead, i);
		rc = read_lock(call, &k, &idx, &first);
		if (rc == 0) {
			s->blocks[i] = idx;
			(*granted)++;
			if (first)
				*locked_bytes += block_bytes(l1, idx);
			continue;
		}
		s->blocks[i] = L1_NIL;
		grant_deny(&s->grants[i], rc);
		if (call->prefix)
			return i + 1;
	}
	return s->count;
}

static void
grant_fill(const struct read_call *call, struct read_slice *s, size_t i, uint32_t loan)
{
	struct far_l1 *l1 = call->l1;
	struct l1_block *block = &l1->blocks[s->blocks[i]];
	struct far_l1_grant *grant = &s->grants[i];
	struct l1_lend lend = {.kind = LOAN_READ,
			       .counts = call->readers,
			       .block = s->blocks[i],
			       .session = call->session,
			       .now_ns = call->now_ns};

	atomic_store_explicit(&block->touched, s->tick - i, memory_order_relaxed);
	grant->rc = 0;
	grant->size_bytes = atomic_load_explicit(&block->size_bytes, memory_order_relaxed);
	grant->loan = far_l1_loan_start(l1, loan, &lend);
	block_grant(l1, block, grant);
}

/* Returns how many were granted; @reached: how many keys were looked at. */
static size_t
slice_reserve(const struct read_call *call, struct read_slice *s, size_t *reached)
{
	struct far_l1 *l1 = call->l1;
	uint32_t loans[L1_SLICE];
	uint64_t locked_bytes = 0, unlocked_bytes = 0;
	size_t granted = 0, locked, taken, used = 0, denied = 0;

	locked = slice_lock(call, s, &granted, &locked_bytes);
	*reached = locked;
	if (granted == 0)
		return 0;
	taken = far_l1_loans_take(l1, call->session, loans, granted);
	for (size_t i = 0; i < taken; i++)
		__builtin_prefetch(&l1->loans[loans[i]], 1);
	for (size_t i = 0; i < locked; i++) {
		if (s->blocks[i] == L1_NIL)
			continue;
		if (used < taken) {
			grant_fill(call, s, i, loans[used++]);
			continue;
		}
		read_undo(l1, s->blocks[i], call->readers, &unlocked_bytes);
		s->blocks[i] = L1_NIL;
		grant_deny(&s->grants[i], -ENOMEM);
		denied++;
		if (call->prefix && denied == 1)
			*reached = i + 1;
	}
	locked_bytes_add(l1, call->session, locked_bytes, unlocked_bytes);
	far_l1_session_count(l1, call->session, (int64_t)taken);
	if (denied > 0)
		atomic_fetch_add_explicit(&stripe_of_session(l1, call->session)->denied, denied,
					  memory_order_relaxed);
	return taken;
}

/* Tells the listeners about the granted keys, outside of the gate; false: the session is gone. */
static bool
slice_tell(const struct read_call *call, const struct read_slice *s, size_t reached)
{
	struct far_l1 *l1 = call->l1;
	struct l1_news news;

	news.count = 0;
	far_l1_gate_leave(l1, call->session);
	for (size_t i = 0; i < reached; i++) {
		if (s->blocks[i] == L1_NIL)
			continue;
		/* From the grant: the reader's own loan keeps the block, but nothing else does. */
		news.events[news.count++] = (struct far_l1_event){
			.key = s->keys[i],
			.addr = s->grants[i].addr,
			.size_bytes = s->grants[i].size_bytes,
		};
		if (news.count == L1_EVENTS)
			far_l1_news_tell(l1, NEWS_ACCESSED, &news);
	}
	far_l1_news_tell(l1, NEWS_ACCESSED, &news);
	return far_l1_gate_enter(l1, call->session) == 0;
}

static size_t
reserve(struct read_call *call, const struct far_key *keys, const uint32_t *sizes, size_t count,
	struct far_l1_grant *grants_out)
{
	struct far_l1 *l1 = call->l1;
	struct read_slice s;
	uint64_t tick = ticks_take(l1, count);
	size_t done = 0, granted = 0;
	bool inside = false;
	int rest_rc = -EINVAL;

	if (call->readers > 0 && call->readers <= LOAN_COUNT_MAX) {
		inside = far_l1_gate_enter(l1, call->session) == 0;
		rest_rc = inside ? -ENOENT : -EPERM;
	}
	call->now_ns = far_clock_now(l1->config.clock);
	while (done < count && inside) {
		size_t reached = 0, got;

		s.keys = keys + done;
		s.sizes = sizes != NULL ? sizes + done : NULL;
		s.count = count - done < L1_SLICE ? count - done : L1_SLICE;
		s.tick = tick - done;
		s.grants = grants_out + done;
		got = slice_reserve(call, &s, &reached);
		granted += got;
		done += reached;
		if (got > 0 && l1->told_accessed)
			inside = slice_tell(call, &s, reached);
		if (call->prefix && got < reached)
			break;
	}
	if (inside)
		far_l1_gate_leave(l1, call->session);
	for (; done < count; done++)
		grant_deny(&grants_out[done], rest_rc);
	far_l1_record_granted(l1, FAR_RECORD_L1_READ_RESERVED, call->session, grants_out, count);
	return granted;
}

size_t
far_l1_reserve_read(struct far_l1 *l1, far_l1_session session, const struct far_key *keys,
		    const uint32_t *sizes, size_t count, uint32_t readers,
		    struct far_l1_grant *grants_out)
{
	struct read_call call = {.l1 = l1, .session = session, .readers = readers};

	return reserve(&call, keys, sizes, count, grants_out);
}

size_t
far_l1_reserve_read_prefix(struct far_l1 *l1, far_l1_session session, const struct far_key *keys,
			   const uint32_t *sizes, size_t count, uint32_t readers,
			   struct far_l1_grant *grants_out)
{
	struct read_call call = {.l1 = l1, .session = session, .readers = readers, .prefix = true};

	return reserve(&call, keys, sizes, count, grants_out);
}

/* Returns how many loans of the slice were given back without error. */
static size_t
slice_finish(const struct read_call *call, const uint64_t *loans, size_t count, uint64_t tick,
	     struct l1_dead *dead, int *rcs_out)
{
	struct far_l1 *l1 = call->l1;
	uint32_t blocks[L1_SLICE], ended[L1_SLICE], doomed[L1_SLICE];
	size_t ended_count = 0, doomed_count = 0, ok = 0;
	uint64_t unlocked_bytes = 0;

	for (size_t i = 0; i < count; i++)
		if ((loans[i] & LOAN_IDX_MASK) < l1->loans_max)
			__builtin_prefetch(&l1->loans[loans[i] & LOAN_IDX_MASK], 1);
	for (size_t i = 0; i < count; i++) {
		bool over = false;

		blocks[i] = L1_NIL;
		rcs_out[i] = far_l1_loan_give_back(l1, loans[i], call->session, call->readers,
						   &blocks[i], &over);
		__builtin_prefetch(&l1->blocks[blocks[i]], 1);
		if (rcs_out[i] == 0 && over)
			ended[ended_count++] = (uint32_t)(loans[i] & LOAN_IDX_MASK);
	}
	for (size_t i = 0; i < count; i++) {
		if (rcs_out[i] != 0)
			continue;
		ok++;
		if (far_l1_block_read_unlock(l1, blocks[i], call->readers, tick - i,
					     &unlocked_bytes))
			doomed[doomed_count++] = blocks[i];
	}
	if (ended_count > 0)
		far_l1_loans_give(l1, ended, ended_count);
	if (doomed_count > 0)
		far_l1_doomed_free(l1, doomed, doomed_count, dead);
	locked_bytes_add(l1, call->session, 0, unlocked_bytes);
	far_l1_session_count(l1, call->session, -(int64_t)ended_count);
	return ok;
}

size_t
far_l1_finish_read(struct far_l1 *l1, far_l1_session session, const uint64_t *loans, size_t count,
		   uint32_t readers, int *rcs_out)
{
	struct read_call call = {.l1 = l1, .session = session, .readers = readers};
	struct l1_dead dead = {.head = L1_NIL, .why = FAR_L1_WHY_TEMPORARY};
	uint64_t tick = ticks_take(l1, count);
	int rc = readers == 0 ? -EINVAL : far_l1_gate_enter(l1, session);
	size_t ok = 0, done = 0;

	while (done < count && rc == 0) {
		size_t n = count - done < L1_SLICE ? count - done : L1_SLICE;

		ok += slice_finish(&call, loans + done, n, tick - done, &dead, rcs_out + done);
		done += n;
		if (dead.count == 0)
			continue;
		far_l1_gate_leave(l1, session);
		far_l1_dead_tell(l1, &dead);
		rc = far_l1_gate_enter(l1, session);
	}
	if (rc == 0)
		far_l1_gate_leave(l1, session);
	for (; done < count; done++)
		rcs_out[done] = rc;
	far_recorder_count(l1->config.recorder, FAR_RECORD_L1_READ_FINISHED, ok, 0);
	return ok;
}

int
far_l1_unsafe_read(struct far_l1 *l1, far_l1_session session, uint64_t loan,
		   struct far_l1_grant *out)
{
	uint32_t idx = L1_NIL;
	int rc = far_l1_gate_enter(l1, session);

	if (rc == 0) {
		rc = far_l1_loan_peek(l1, loan, session, LOAN_READ, &idx);
		far_l1_gate_leave(l1, session);
	}
	if (rc < 0) {
		grant_deny(out, rc);
		return rc;
	}
	out->rc = 0;
	out->size_bytes = atomic_load_explicit(&l1->blocks[idx].size_bytes, memory_order_relaxed);
	out->loan = loan;
	block_grant(l1, &l1->blocks[idx], out);
	return 0;
}

static void
use_count(struct l1_block *block, uint64_t word)
{
	uint32_t gen = word_gen(word);

	while (word_gen(word) == gen && word_used(word) != word &&
	       !atomic_compare_exchange_weak_explicit(&block->word, &word, word_used(word),
						      memory_order_relaxed, memory_order_relaxed))
		;
}

static void
touch_one(struct far_l1 *l1, const struct far_key *key, uint64_t hash, uint64_t tick,
	  struct l1_news *news)
{
	uint64_t word = 0;
	uint32_t idx = L1_RETRY;

	for (uint32_t i = 0; i < FIND_TRIES_MAX && idx == L1_RETRY; i++)
		idx = far_l1_table_find(l1, key, hash, &word);
	if (idx == L1_NIL || idx == L1_RETRY || word_state(word) != WORD_READY)
		return;
	/* A record that became another block's meanwhile is touched in vain, no more. */
	atomic_store_explicit(&l1->blocks[idx].touched, tick, memory_order_relaxed);
	if (l1->counts_uses)
		use_count(&l1->blocks[idx], word);
	if (l1->told_accessed)
		news->events[news->count++] = (struct far_l1_event){
			.key = *key,
			.size_bytes = atomic_load_explicit(&l1->blocks[idx].size_bytes,
							   memory_order_relaxed),
		};
}

void
far_l1_touch(struct far_l1 *l1, const struct far_key *keys, size_t count)
{
	uint64_t tick = ticks_take(l1, count);
	struct l1_news news;
	uint64_t hashes[L1_EVENTS];

	news.count = 0;
	for (size_t done = 0; done < count; done += L1_EVENTS) {
		size_t n = count - done < L1_EVENTS ? count - done : L1_EVENTS;
		struct l1_ahead ahead = {l1, keys + done, n, hashes};

		ahead_begin(&ahead);
		for (size_t i = 0; i < n; i++) {
			if (i % GROUP == 0)
				ahead_group(&ahead, i);
			touch_one(l1, &keys[done + i], hashes[i], tick - done - i, &news);
		}
		far_l1_news_tell(l1, NEWS_ACCESSED, &news);
	}
}
