/* loan.c - the records behind loans: handed out by stripes, a batch at a time, the last used first. */
#include "l1/l1_priv.h"

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

int64_t
far_l1_locked_bytes(struct far_l1 *l1)
{
	int64_t sum = 0;

	for (uint32_t i = 0; i < l1->stripe_count; i++)
		sum += atomic_load_explicit(&l1->stripes[i].locked_bytes, memory_order_relaxed);
	return sum;
}
