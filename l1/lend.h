/* lend.h - what happens to a loan's word: once or twice for each block of a batch, inlined for that. */
#ifndef FAR_L1_LEND_H
#define FAR_L1_LEND_H

#include "l1/l1_priv.h"

/*
 * A handle is {generation, index}; the record's word holds the same generation while the loan lives
 * and the next one afterwards, so a second release finds nothing, whoever has the record by then. A
 * change of the word by compare-and-swap proves that all that was read of the record before belonged
 * to this loan.
 */

static inline uint64_t
loan_word(uint64_t gen_bits, uint64_t kind, uint32_t counts)
{
	return gen_bits | ((uint64_t)counts << LOAN_COUNT_SHIFT) | kind;
}

static inline uint64_t
loan_gen_next(uint64_t word)
{
	uint64_t gen_bits = (word & ~LOAN_IDX_MASK) + LOAN_GEN_ONE;

	return gen_bits != 0 ? gen_bits : LOAN_GEN_ONE;
}

struct l1_lend {
	uint64_t kind;
	uint32_t counts;
	uint32_t block;
	far_l1_session session;
	uint64_t now_ns;
};

/* Makes a record that was taken a loan; returns the handle. */
static inline uint64_t
far_l1_loan_start(struct far_l1 *l1, uint32_t idx, const struct l1_lend *lend)
{
	struct l1_loan *loan = &l1->loans[idx];
	uint64_t word = atomic_load_explicit(&loan->word, memory_order_relaxed);
	uint64_t gen_bits = loan_gen_next(word);

	FAR_ASSERT((word & LOAN_KIND_MASK) == LOAN_FREE);
	atomic_store_explicit(&loan->since_ns, lend->now_ns, memory_order_relaxed);
	atomic_store_explicit(&loan->block, lend->block, memory_order_relaxed);
	atomic_store_explicit(&loan->session, lend->session, memory_order_relaxed);
	atomic_store_explicit(&loan->reported, 0, memory_order_relaxed);
	/* Pairs with the load in loan_open(). */
	atomic_store_explicit(&loan->word, loan_word(gen_bits, lend->kind, lend->counts),
			      memory_order_release);
	return gen_bits | idx;
}

/* A live loan as it was found: a change of the word proves that it still was. */
struct l1_opened {
	struct l1_loan *loan;
	uint64_t word;
	uint32_t block;
};

static inline int
loan_open(struct far_l1 *l1, uint64_t handle, far_l1_session session, uint64_t kind,
	  struct l1_opened *out)
{
	uint64_t idx = handle & LOAN_IDX_MASK;
	uint64_t word;

	if (idx >= l1->loans_max)
		return -EBADF;
	out->loan = &l1->loans[idx];
	word = atomic_load_explicit(&out->loan->word, memory_order_acquire);
	if (((word ^ handle) & ~LOAN_IDX_MASK) != 0 || (word & LOAN_KIND_MASK) != kind)
		return -EBADF;
	out->word = word;
	out->block = atomic_load_explicit(&out->loan->block, memory_order_acquire);
	if (atomic_load_explicit(&out->loan->session, memory_order_acquire) != session)
		return -EPERM;
	return 0;
}

/* Write loan -> busy, owned by the calling thread: 0, -EBADF, -EPERM. */
static inline int
far_l1_loan_claim_write(struct far_l1 *l1, uint64_t handle, far_l1_session session,
			uint32_t *block_out)
{
	struct l1_opened o;
	int rc = loan_open(l1, handle, session, LOAN_WRITE, &o);

	if (rc < 0)
		return rc;
	if (!atomic_compare_exchange_strong_explicit(&o.loan->word, &o.word,
						     (o.word & ~LOAN_KIND_MASK) | LOAN_BUSY,
						     memory_order_acquire, memory_order_relaxed))
		return -EBADF;
	*block_out = o.block;
	return 0;
}

/* Gives back @counts of a read loan: 0, -EBADF, -EPERM, -EINVAL. @over: it was the rest. */
static inline int
far_l1_loan_give_back(struct far_l1 *l1, uint64_t handle, far_l1_session session, uint32_t counts,
		      uint32_t *block_out, bool *over_out)
{
	for (;;) {
		struct l1_opened o;
		int rc = loan_open(l1, handle, session, LOAN_READ, &o);
		uint64_t to;

		if (rc < 0)
			return rc;
		if (counts > loan_counts(o.word))
			return -EINVAL;
		*block_out = o.block;
		*over_out = counts == loan_counts(o.word);
		to = *over_out ? loan_word(loan_gen_next(o.word), LOAN_FREE, 0)
			       : o.word - ((uint64_t)counts << LOAN_COUNT_SHIFT);
		if (atomic_compare_exchange_strong_explicit(
			    &o.loan->word, &o.word, to, memory_order_acq_rel, memory_order_relaxed))
			return 0;
	}
}

/* The block of a live loan of this kind: 0, -EBADF, -EPERM. */
static inline int
far_l1_loan_peek(struct far_l1 *l1, uint64_t handle, far_l1_session session, uint64_t kind,
		 uint32_t *block_out)
{
	struct l1_opened o;
	int rc = loan_open(l1, handle, session, kind, &o);

	if (rc == 0)
		*block_out = o.block;
	return rc;
}

/* Busy -> free. */
static inline void
far_l1_loan_end(struct far_l1 *l1, uint32_t idx)
{
	struct l1_loan *loan = &l1->loans[idx];
	uint64_t word = atomic_load_explicit(&loan->word, memory_order_relaxed);

	FAR_ASSERT((word & LOAN_KIND_MASK) == LOAN_BUSY);
	atomic_store_explicit(&loan->word, loan_word(loan_gen_next(word), LOAN_FREE, 0),
			      memory_order_release);
}

/* Busy -> on as a read loan, under the same or (@renew) a new handle. */
static inline uint64_t
far_l1_loan_turn_read(struct far_l1 *l1, uint32_t idx, uint32_t counts, far_l1_session session,
		      uint64_t now_ns, bool renew)
{
	struct l1_loan *loan = &l1->loans[idx];
	uint64_t word = atomic_load_explicit(&loan->word, memory_order_relaxed);
	uint64_t gen_bits = renew ? loan_gen_next(word) : word & ~LOAN_IDX_MASK;

	FAR_ASSERT((word & LOAN_KIND_MASK) == LOAN_BUSY);
	atomic_store_explicit(&loan->since_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&loan->session, session, memory_order_relaxed);
	atomic_store_explicit(&loan->reported, 0, memory_order_relaxed);
	atomic_store_explicit(&loan->word, loan_word(gen_bits, LOAN_READ, counts),
			      memory_order_release);
	return gen_bits | idx;
}

#endif
