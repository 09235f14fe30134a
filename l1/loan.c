/* loan.c - loans: numbers that their taker owns and gives back once, and the records behind them. */
#include "l1/l1_priv.h"

/*
 * A handle is {generation, index}; the record's word holds the same generation while the loan lives
 * and the next one afterwards, so a second release finds nothing, whoever has the record by then. A
 * change of the word by compare-and-swap proves that all that was read of the record before belonged
 * to this loan. Records are handed out by stripes, a batch at a time, the last used first.
 */

static uint32_t
stripe_fresh(const struct l1_stripe *stripe)
{
	return atomic_load_explicit(&stripe->fresh, memory_order_relaxed);
}

int
far_l1_loans_init(struct far_l1 *l1)
{
	uint32_t stripe_loans;

	l1->stripe_count = l1->config.shards;
	while (((uint64_t)l1->stripe_count << l1->stripe_shift) < l1->loans_max)
		l1->stripe_shift++;
	stripe_loans = 1u << l1->stripe_shift;
	l1->loans = far_l1_mem_alloc(l1->loans_max, sizeof(*l1->loans));
	l1->loans_free = far_l1_mem_alloc(l1->loans_max, sizeof(*l1->loans_free));
	l1->stripes = far_l1_mem_alloc(l1->stripe_count, sizeof(*l1->stripes));
	if (l1->loans == NULL || l1->loans_free == NULL || l1->stripes == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < l1->stripe_count; i++) {
		struct l1_stripe *stripe = &l1->stripes[i];
		uint64_t first = (uint64_t)i * stripe_loans;

		stripe->first = first < l1->loans_max ? (uint32_t)first : l1->loans_max;
		stripe->end = first + stripe_loans < l1->loans_max ? (uint32_t)first + stripe_loans
								   : l1->loans_max;
		atomic_init(&stripe->fresh, stripe->first);
		stripe->free = l1->loans_free + stripe->first;
		pthread_mutex_init(&stripe->lock, NULL);
	}
	return 0;
}

void
far_l1_loans_fini(struct far_l1 *l1)
{
	for (uint32_t i = 0; l1->stripes != NULL && i < l1->stripe_count; i++)
		pthread_mutex_destroy(&l1->stripes[i].lock);
	far_l1_mem_free(l1->stripes);
	far_l1_mem_free(l1->loans_free);
	far_l1_mem_free(l1->loans);
}

static size_t
stripe_take(struct l1_stripe *stripe, uint32_t *idxs, size_t count)
{
	size_t taken = 0;
	uint32_t fresh;

	pthread_mutex_lock(&stripe->lock);
	while (taken < count && stripe->free_count > 0)
		idxs[taken++] = stripe->free[--stripe->free_count];
	fresh = stripe_fresh(stripe);
	while (taken < count && fresh < stripe->end)
		idxs[taken++] = fresh++;
	atomic_store_explicit(&stripe->fresh, fresh, memory_order_relaxed);
	pthread_mutex_unlock(&stripe->lock);
	return taken;
}

size_t
far_l1_loans_take(struct far_l1 *l1, far_l1_session session, uint32_t *idxs, size_t count)
{
	uint32_t at = session % l1->stripe_count;
	size_t taken = 0;

	for (uint32_t i = 0; i < l1->stripe_count && taken < count; i++) {
		taken += stripe_take(&l1->stripes[at], idxs + taken, count - taken);
		at = at + 1 == l1->stripe_count ? 0 : at + 1;
	}
	return taken;
}

void
far_l1_loans_give(struct far_l1 *l1, const uint32_t *idxs, size_t count)
{
	size_t i = 0;

	while (i < count) {
		uint32_t at = idxs[i] >> l1->stripe_shift;
		struct l1_stripe *stripe = &l1->stripes[at];

		pthread_mutex_lock(&stripe->lock);
		for (; i < count && idxs[i] >> l1->stripe_shift == at; i++)
			stripe->free[stripe->free_count++] = idxs[i];
		pthread_mutex_unlock(&stripe->lock);
	}
}

static uint64_t
word_make(uint64_t gen_bits, uint64_t kind, uint32_t counts)
{
	return gen_bits | ((uint64_t)counts << LOAN_COUNT_SHIFT) | kind;
}

static uint64_t
gen_next(uint64_t word)
{
	uint64_t gen_bits = (word & ~LOAN_IDX_MASK) + LOAN_GEN_ONE;

	return gen_bits != 0 ? gen_bits : LOAN_GEN_ONE;
}

uint64_t
far_l1_loan_start(struct far_l1 *l1, uint32_t idx, const struct l1_lend *lend)
{
	struct l1_loan *loan = &l1->loans[idx];
	uint64_t word = atomic_load_explicit(&loan->word, memory_order_relaxed);
	uint64_t gen_bits = gen_next(word);

	FAR_ASSERT((word & LOAN_KIND_MASK) == LOAN_FREE);
	atomic_store_explicit(&loan->since_ns, lend->now_ns, memory_order_relaxed);
	atomic_store_explicit(&loan->block, lend->block, memory_order_relaxed);
	atomic_store_explicit(&loan->session, lend->session, memory_order_relaxed);
	atomic_store_explicit(&loan->reported, 0, memory_order_relaxed);
	/* Pairs with the load in loan_open(). */
	atomic_store_explicit(&loan->word, word_make(gen_bits, lend->kind, lend->counts),
			      memory_order_release);
	return gen_bits | idx;
}

/* A live loan as it was found: a change of the word proves that it still was. */
struct opened {
	struct l1_loan *loan;
	uint64_t word;
	uint32_t block;
};

static int
loan_open(struct far_l1 *l1, uint64_t handle, far_l1_session session, uint64_t kind,
	  struct opened *out)
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

int
far_l1_loan_claim_write(struct far_l1 *l1, uint64_t handle, far_l1_session session,
			uint32_t *block_out)
{
	struct opened o;
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

int
far_l1_loan_give_back(struct far_l1 *l1, uint64_t handle, far_l1_session session, uint32_t counts,
		      uint32_t *block_out, bool *over_out)
{
	for (;;) {
		struct opened o;
		int rc = loan_open(l1, handle, session, LOAN_READ, &o);
		uint64_t to;

		if (rc < 0)
			return rc;
		if (counts > loan_counts(o.word))
			return -EINVAL;
		*block_out = o.block;
		*over_out = counts == loan_counts(o.word);
		to = *over_out ? word_make(gen_next(o.word), LOAN_FREE, 0)
			       : o.word - ((uint64_t)counts << LOAN_COUNT_SHIFT);
		if (atomic_compare_exchange_strong_explicit(
			    &o.loan->word, &o.word, to, memory_order_acq_rel, memory_order_relaxed))
			return 0;
	}
}

int
far_l1_loan_peek(struct far_l1 *l1, uint64_t handle, far_l1_session session, uint64_t kind,
		 uint32_t *block_out)
{
	struct opened o;
	int rc = loan_open(l1, handle, session, kind, &o);

	if (rc == 0)
		*block_out = o.block;
	return rc;
}

void
far_l1_loan_end(struct far_l1 *l1, uint32_t idx)
{
	struct l1_loan *loan = &l1->loans[idx];
	uint64_t word = atomic_load_explicit(&loan->word, memory_order_relaxed);

	FAR_ASSERT((word & LOAN_KIND_MASK) == LOAN_BUSY);
	atomic_store_explicit(&loan->word, word_make(gen_next(word), LOAN_FREE, 0),
			      memory_order_release);
}

uint64_t
far_l1_loan_turn_read(struct far_l1 *l1, uint32_t idx, uint32_t counts, far_l1_session session,
		      uint64_t now_ns, bool renew)
{
	struct l1_loan *loan = &l1->loans[idx];
	uint64_t word = atomic_load_explicit(&loan->word, memory_order_relaxed);
	uint64_t gen_bits = renew ? gen_next(word) : word & ~LOAN_IDX_MASK;

	FAR_ASSERT((word & LOAN_KIND_MASK) == LOAN_BUSY);
	atomic_store_explicit(&loan->since_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&loan->session, session, memory_order_relaxed);
	atomic_store_explicit(&loan->reported, 0, memory_order_relaxed);
	atomic_store_explicit(&loan->word, word_make(gen_bits, LOAN_READ, counts),
			      memory_order_release);
	return gen_bits | idx;
}

int64_t
far_l1_locked_bytes(struct far_l1 *l1)
{
	int64_t sum = 0;

	for (uint32_t i = 0; i < l1->stripe_count; i++)
		sum += atomic_load_explicit(&l1->stripes[i].locked_bytes, memory_order_relaxed);
	return sum;
}
