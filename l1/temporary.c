/* temporary.c - blocks that become temporary, or no longer are; read.c and delete.c end them. */
#include "l1/lend.h"

/*
 * The mark is a bit of the block's word, so that the end of the last loan and the end of the block
 * are one step. The holder of a loan sets and clears it; since the record may be another block's as
 * soon as the loan is over, the loan is looked at again after the word was read, and the generation
 * in the word does the rest.
 */

/* The block of a live loan of either kind. */
static int
loan_block(struct far_l1 *l1, far_l1_session session, uint64_t loan, uint32_t *idx_out)
{
	int rc = far_l1_loan_peek(l1, loan, session, LOAN_READ, idx_out);

	return rc == -EBADF ? far_l1_loan_peek(l1, loan, session, LOAN_WRITE, idx_out) : rc;
}

static int
mark_one(struct far_l1 *l1, far_l1_session session, uint64_t loan, bool temporary)
{
	for (;;) {
		uint32_t idx = L1_NIL, again = L1_NIL;
		int rc = loan_block(l1, session, loan, &idx);
		_Atomic uint64_t *at = &l1->blocks[idx].word;
		uint64_t word = atomic_load_explicit(at, memory_order_acquire);

		if (rc == 0)
			rc = loan_block(l1, session, loan, &again);
		if (rc < 0)
			return rc;
		/* A loan that was flipped between the looks is the same block's. */
		FAR_ASSERT(idx == again);
		if (word & WORD_DOOMED)
			return -ENOENT;
		if (((word & WORD_TEMPORARY) != 0) == temporary ||
		    atomic_compare_exchange_weak_explicit(at, &word, word ^ WORD_TEMPORARY,
							  memory_order_relaxed,
							  memory_order_relaxed))
			return 0;
	}
}

static size_t
mark_all(struct far_l1 *l1, far_l1_session session, const uint64_t *loans, size_t count,
	 bool temporary, int *rcs_out)
{
	int rc = far_l1_gate_enter(l1, session);
	size_t ok = 0;

	for (size_t i = 0; i < count; i++) {
		rcs_out[i] = rc == 0 ? mark_one(l1, session, loans[i], temporary) : rc;
		ok += rcs_out[i] == 0;
	}
	if (rc == 0)
		far_l1_gate_leave(l1, session);
	return ok;
}

size_t
far_l1_retain(struct far_l1 *l1, far_l1_session session, const uint64_t *loans, size_t count,
	      int *rcs_out)
{
	return mark_all(l1, session, loans, count, false, rcs_out);
}

size_t
far_l1_let_go(struct far_l1 *l1, far_l1_session session, const uint64_t *loans, size_t count,
	      int *rcs_out)
{
	return mark_all(l1, session, loans, count, true, rcs_out);
}
