/* session.c - who holds loans: opening, closing, and the gate that every call passes. */
#include "l1/lend.h"

#include <sched.h>
#include <stdio.h>

#include "base/log.h"

/*
 * A session's number is {generation, index + 1}: a closed one's is not valid again until its place was
 * used 65536 times more, and places are used in turn. The gate counts the calls of a session that are in
 * progress. Closing waits for it (only a flip that hands a loan to the session, or a written-listener's,
 * can be in it then), and so does far_l1_check, for all of them. What is waited for are calls that block
 * on nothing but far_l1.lock.
 */

struct l1_session *
far_l1_session_at(struct far_l1 *l1, far_l1_session session)
{
	uint32_t idx = (session & UINT16_MAX) - 1;

	return idx < l1->config.sessions_max ? &l1->sessions[idx] : NULL;
}

void
far_l1_session_count(struct far_l1 *l1, far_l1_session session, int64_t loans)
{
	if (loans != 0)
		atomic_fetch_add_explicit(&far_l1_session_at(l1, session)->loan_count, loans,
					  memory_order_relaxed);
}

int
far_l1_gate_enter_nested(struct far_l1 *l1, far_l1_session session)
{
	struct l1_session *s = far_l1_session_at(l1, session);

	if (s == NULL)
		return -EPERM;
	/* Counted first, then looked: pairs with the order in far_l1_session_close(). */
	atomic_fetch_add(&s->calls, 1);
	if (atomic_load(&s->id) == session)
		return 0;
	atomic_fetch_sub(&s->calls, 1);
	return -EPERM;
}

/* Until far_l1_check is done. */
static void
gate_wait(struct far_l1 *l1)
{
	pthread_mutex_lock(&l1->check_lock);
	pthread_mutex_unlock(&l1->check_lock);
}

int
far_l1_gate_enter(struct far_l1 *l1, far_l1_session session)
{
	int rc;

	for (;;) {
		rc = far_l1_gate_enter_nested(l1, session);
		if (rc < 0 || atomic_load(&l1->stopped) == 0)
			return rc;
		far_l1_gate_leave(l1, session);
		gate_wait(l1);
	}
}

void
far_l1_gate_leave(struct far_l1 *l1, far_l1_session session)
{
	atomic_fetch_sub(&far_l1_session_at(l1, session)->calls, 1);
}

int
far_l1_session_open(struct far_l1 *l1, const char *name, far_l1_session *out)
{
	int rc = -ENOMEM;

	pthread_mutex_lock(&l1->lock);
	for (uint32_t i = 0; i < l1->config.sessions_max; i++) {
		uint32_t at = (l1->session_next + i) % l1->config.sessions_max;
		struct l1_session *s = &l1->sessions[at];

		if (atomic_load(&s->id) != 0 || atomic_load(&s->closing) != 0 ||
		    atomic_load(&s->calls) != 0)
			continue;
		l1->session_next = at + 1;
		s->gen++;
		snprintf(s->name, sizeof(s->name), "%s", name != NULL ? name : "");
		s->overdue_count = 0;
		*out = ((uint32_t)s->gen << 16) | (at + 1);
		atomic_store(&s->id, *out);
		rc = 0;
		break;
	}
	pthread_mutex_unlock(&l1->lock);
	if (rc == 0)
		far_l1_record_add(l1, FAR_RECORD_L1_SESSION_OPENED, 0, *out, 1, 0);
	return rc;
}

/* Ends whatever the record lends to this session; returns how many loans (0 or 1). */
static int64_t
loan_end_of(struct far_l1 *l1, uint32_t idx, far_l1_session session, struct l1_dead *dead)
{
	struct l1_loan *loan = &l1->loans[idx];
	uint64_t word = atomic_load_explicit(&loan->word, memory_order_acquire);
	uint64_t handle = (word & ~LOAN_IDX_MASK) | idx;
	uint64_t unlocked_bytes = 0;
	uint32_t counts = (uint32_t)loan_counts(word);
	uint32_t block = L1_NIL;
	bool over = false;

	if ((word & LOAN_KIND_MASK) == LOAN_FREE ||
	    atomic_load_explicit(&loan->session, memory_order_acquire) != session)
		return 0;
	if (far_l1_loan_claim_write(l1, handle, session, &block) == 0) {
		unlocked_bytes = far_l1_abort_claimed(l1, &block, 1);
		far_l1_loan_end(l1, idx);
	} else if (far_l1_loan_give_back(l1, handle, session, counts, &block, &over) == 0) {
		FAR_ASSERT(over);
		if (far_l1_block_read_unlock(l1, block, counts, ticks_take(l1, 0), &unlocked_bytes))
			far_l1_doomed_free(l1, &block, 1, dead);
	} else {
		return 0;
	}
	locked_bytes_add(l1, session, 0, unlocked_bytes);
	far_l1_loans_give(l1, &idx, 1);
	return 1;
}

/* Tells the end of temporaries: outside of the gate, while the slot stays taken. */
static void
close_tell(struct far_l1 *l1, struct l1_session *s, int64_t left, struct l1_dead *dead)
{
	atomic_store(&s->loan_count, left);
	atomic_store(&s->closing, 1);
	atomic_fetch_sub(&s->calls, 1);
	far_l1_dead_tell(l1, dead);
	for (;;) {
		atomic_fetch_add(&s->calls, 1);
		if (atomic_load(&l1->stopped) == 0)
			break;
		atomic_fetch_sub(&s->calls, 1);
		gate_wait(l1);
	}
	atomic_store(&s->closing, 0);
}

void
far_l1_session_close(struct far_l1 *l1, far_l1_session session)
{
	struct l1_session *s = far_l1_session_at(l1, session);
	struct l1_dead dead = {.head = L1_NIL, .why = FAR_L1_WHY_TEMPORARY};
	far_l1_session open = session;
	int64_t left, loans;

	if (s == NULL || far_l1_gate_enter(l1, session) < 0)
		return; /* closed already: harms nobody */
	/* Of two at once one closes it: both inside the gate, each would wait for the other to leave. */
	if (!atomic_compare_exchange_strong(&s->id, &open, 0)) {
		far_l1_gate_leave(l1, session);
		return;
	}
	/* Our own call is the one that stays, so that far_l1_check waits for us. */
	while (atomic_load(&s->calls) > 1)
		sched_yield();
	left = atomic_load(&s->loan_count);
	loans = left;
	for (uint32_t i = 0; i < l1->stripe_count && left > 0; i++) {
		struct l1_stripe *stripe = &l1->stripes[i];
		uint32_t end = atomic_load_explicit(&stripe->fresh, memory_order_relaxed);

		for (uint32_t idx = stripe->first; idx < end && left > 0; idx++) {
			left -= loan_end_of(l1, idx, session, &dead);
			if (dead.count >= L1_EVENTS)
				close_tell(l1, s, left, &dead);
		}
	}
	FAR_ASSERT(left == 0);
	atomic_store(&s->loan_count, 0);
	atomic_fetch_sub(&s->calls, 1);
	far_l1_dead_tell(l1, &dead);
	far_l1_record_add(l1, FAR_RECORD_L1_SESSION_CLOSED, 0, session, (uint64_t)loans + 1, 0);
}

/* Marks what is overdue and new, per session. Lock. Returns how many loans are overdue in all. */
static size_t
overdue_gather(struct far_l1 *l1, uint64_t now_ns, uint64_t age_ns)
{
	size_t count = 0;

	for (uint32_t i = 0; i < l1->stripe_count; i++) {
		struct l1_stripe *stripe = &l1->stripes[i];
		uint32_t end = atomic_load_explicit(&stripe->fresh, memory_order_relaxed);

		for (uint32_t idx = stripe->first; idx < end; idx++) {
			struct l1_loan *loan = &l1->loans[idx];
			uint64_t word = atomic_load_explicit(&loan->word, memory_order_acquire);
			uint64_t since =
				atomic_load_explicit(&loan->since_ns, memory_order_relaxed);
			uint32_t owner = atomic_load_explicit(&loan->session, memory_order_relaxed);
			struct l1_session *s = far_l1_session_at(l1, owner);

			if ((word & LOAN_KIND_MASK) == LOAN_FREE || since > now_ns ||
			    now_ns - since <= age_ns || s == NULL)
				continue;
			count++;
			if (atomic_exchange_explicit(&loan->reported, 1, memory_order_relaxed) != 0)
				continue;
			if (s->overdue_count == 0 || since < s->overdue_oldest_ns)
				s->overdue_oldest_ns = since;
			s->overdue_count++;
		}
	}
	return count;
}

size_t
far_l1_report_overdue(struct far_l1 *l1, uint64_t now_ns, uint64_t age_ns)
{
	size_t count;

	pthread_mutex_lock(&l1->lock);
	count = overdue_gather(l1, now_ns, age_ns);
	pthread_mutex_unlock(&l1->lock);
	for (uint32_t i = 0; i < l1->config.sessions_max; i++) {
		struct l1_session *s = &l1->sessions[i];
		char name[L1_NAME_BYTES];
		uint64_t fresh, oldest_ns;

		pthread_mutex_lock(&l1->lock);
		fresh = s->overdue_count;
		oldest_ns = s->overdue_oldest_ns;
		s->overdue_count = 0;
		memcpy(name, s->name, sizeof(name));
		pthread_mutex_unlock(&l1->lock);
		far_l1_record_add(l1, FAR_RECORD_L1_OVERDUE, 0, atomic_load(&s->id), fresh, 0);
		if (fresh > 0)
			far_log_warn(
				"l1 session '%s' holds %llu overdue loans, the oldest for %llu ms",
				name, (unsigned long long)fresh,
				(unsigned long long)((now_ns - oldest_ns) / FAR_NS_PER_MS));
	}
	return count;
}
