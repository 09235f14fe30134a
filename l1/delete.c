/* delete.c - keys that go because somebody says so: at once, or into quarantine until they are let go. */
#include "l1/l1_priv.h"

/* Marks a locked block: whoever ends its last loan frees the memory. False: nobody holds it. */
static bool
block_doom(struct far_l1 *l1, uint32_t idx)
{
	struct l1_block *block = &l1->blocks[idx];
	uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);

	do {
		if (word_evictable(word))
			return false;
		/* Pairs with the last unlock and with block_flip(): they see the mark or came first. */
	} while (!atomic_compare_exchange_weak_explicit(&block->word, &word, word | WORD_DOOMED,
							memory_order_acq_rel,
							memory_order_relaxed));
	return true;
}

/* With the lock: removes a block that is in the table. 0, or -EBUSY. Nobody gets the record before the
 * lock is given back, so that the event can be made at the end. */
static int
block_delete(struct far_l1 *l1, uint32_t idx, bool force, struct l1_news *news)
{
	struct l1_block *block = &l1->blocks[idx];
	/* A call that spares the block is telling its evictions just now: it loses. */
	uint64_t word = atomic_fetch_and_explicit(&block->word, ~WORD_PINNED, memory_order_relaxed);
	bool written = word_state(word) != WORD_WRITE;

	while (!far_l1_block_claim(l1, idx)) {
		word = atomic_load_explicit(&block->word, memory_order_relaxed);
		if (word_evictable(word))
			continue;
		if (!force)
			return -EBUSY;
		if (!block_doom(l1, idx))
			continue;
		written = word_state(atomic_load_explicit(&block->word, memory_order_relaxed)) !=
			  WORD_WRITE;
		far_l1_table_unlink(l1, idx);
		l1->quarantine_bytes += block_bytes(l1, idx);
		if (written && l1->told_deleted)
			far_l1_news_add(l1, news, block, 0);
		return 0;
	}
	far_l1_table_unlink(l1, idx);
	if (l1->told_deleted)
		far_l1_news_add(l1, news, block, 0);
	far_l1_block_end(l1, idx);
	far_l1_record_drop(l1, idx);
	return 0;
}

static void
news_flush(struct far_l1 *l1, struct l1_news *news)
{
	pthread_mutex_unlock(&l1->lock);
	far_l1_news_tell(l1, NEWS_DELETED, news);
	pthread_mutex_lock(&l1->lock);
}

size_t
far_l1_delete(struct far_l1 *l1, const struct far_key *keys, size_t count, bool force, int *rcs_out)
{
	struct l1_news news = {.count = 0};
	size_t ok = 0;

	pthread_mutex_lock(&l1->lock);
	for (size_t i = 0; i < count; i++) {
		uint64_t word = 0;
		uint32_t idx = L1_NIL;

		if (news.count == L1_EVENTS)
			news_flush(l1, &news);
		rcs_out[i] = far_key_is_zero(&keys[i]) ? -EINVAL : -ENOENT;
		if (rcs_out[i] == -ENOENT)
			idx = far_l1_table_find_locked(l1, &keys[i], &word);
		if (idx != L1_NIL)
			rcs_out[i] = block_delete(l1, idx, force, &news);
		ok += rcs_out[i] == 0;
	}
	pthread_mutex_unlock(&l1->lock);
	far_l1_news_tell(l1, NEWS_DELETED, &news);
	return ok;
}

size_t
far_l1_clear(struct far_l1 *l1, bool force)
{
	struct l1_news news = {.count = 0};
	size_t removed = 0;

	pthread_mutex_lock(&l1->lock);
	for (uint32_t idx = 1; idx < l1->block_fresh; idx++) {
		uint64_t word;

		/* Others get their turn now and then. */
		if (news.count == L1_EVENTS || idx % 1024 == 0)
			news_flush(l1, &news);
		word = atomic_load_explicit(&l1->blocks[idx].word, memory_order_relaxed);
		if (word_state(word) == WORD_FREE || (word & WORD_DOOMED) != 0)
			continue;
		removed += block_delete(l1, idx, force, &news) == 0;
	}
	pthread_mutex_unlock(&l1->lock);
	far_l1_news_tell(l1, NEWS_DELETED, &news);
	return removed;
}
