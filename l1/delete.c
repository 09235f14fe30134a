/* delete.c - keys that go because somebody says so: at once, or into quarantine until let go. */
#include "l1/l1_priv.h"

#include "base/mark.h"

/*
 * A doomed block is gone for everybody but those who hold loans on it. One that was deleted by
 * force leaves the table here, and its memory is in quarantine; a temporary is doomed by its last
 * reader, who takes it out of the table right after (far_l1_doomed_free). Whoever ends the last
 * loan frees.
 */
enum doom {
	DOOM_UNLOCKED, /* nobody holds it: it can be claimed */
	DOOM_GONE,     /* its last reader was quicker */
	DOOM_READ,
	DOOM_WRITTEN,
};

/* With the lock: marks a locked block. */
static enum doom
block_doom(struct far_l1 *l1, uint32_t idx)
{
	struct l1_block *block = &l1->blocks[idx];
	uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);

	do {
		if (word_evictable(word))
			return DOOM_UNLOCKED;
		if (word & WORD_DOOMED)
			return DOOM_GONE;
		/* Pairs with the last unlock and with block_flip(): they see the mark or came
		 * first. */
	} while (!atomic_compare_exchange_weak_explicit(&block->word, &word, word | WORD_DOOMED,
							memory_order_acq_rel,
							memory_order_relaxed));
	return word_state(word) == WORD_WRITE ? DOOM_WRITTEN : DOOM_READ;
}

static void
deleted_add(struct far_l1 *l1, struct l1_news *news, uint32_t idx, enum far_l1_why why)
{
	if (!l1->told_deleted)
		return;
	far_l1_news_add(l1, news, &l1->blocks[idx], 0);
	news->events[news->count - 1].why = why;
}

/* With the lock: removes a block that is in the table. 0, -EBUSY or -ENOENT. Nobody gets the
 * record before the lock is given back, so that the event can be made at the end. @why: if
 * nobody holds it. */
static int
block_delete(struct far_l1 *l1, uint32_t idx, bool force, enum far_l1_why why, struct l1_news *news)
{
	struct l1_block *block = &l1->blocks[idx];

	/* A call that spares the block is telling its evictions just now: it loses. */
	if (atomic_fetch_and_explicit(&block->word, ~WORD_PINNED, memory_order_relaxed) &
	    WORD_PINNED)
		l1->unpinned++;
	while (!far_l1_block_claim(l1, idx)) {
		uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);
		enum doom doom;

		if (word_evictable(word))
			continue;
		if (word & WORD_DOOMED)
			return -ENOENT;
		if (!force)
			return -EBUSY;
		doom = block_doom(l1, idx);
		if (doom == DOOM_UNLOCKED)
			continue;
		if (doom == DOOM_GONE)
			return -ENOENT;
		far_l1_table_unlink(l1, idx);
		l1->quarantine_bytes += block_bytes(l1, idx);
		FAR_MARK("a held block is deleted by force: quarantine");
		if (doom == DOOM_READ)
			deleted_add(l1, news, idx, FAR_L1_WHY_FORCED);
		return 0;
	}
	far_l1_table_unlink(l1, idx);
	deleted_add(l1, news, idx, why);
	far_l1_block_end(l1, idx);
	far_l1_record_drop(l1, idx);
	return 0;
}

void
far_l1_doomed_free(struct far_l1 *l1, const uint32_t *idxs, size_t count, struct l1_dead *dead)
{
	uint64_t bytes = 0;

	pthread_mutex_lock(&l1->lock);
	for (size_t i = 0; i < count; i++) {
		struct l1_block *block = &l1->blocks[idxs[i]];
		bool tabled = block->queue_prev != L1_NIL; /* a temporary */

		FAR_ASSERT(atomic_load_explicit(&block->word, memory_order_relaxed) & WORD_DOOMED);
		bytes += block_bytes(l1, idxs[i]);
		if (tabled)
			far_l1_table_unlink(l1, idxs[i]);
		else
			l1->quarantine_bytes -= block_bytes(l1, idxs[i]);
		far_l1_block_end(l1, idxs[i]);
		if (tabled && l1->told_deleted) {
			block->queue_next = dead->head;
			dead->head = idxs[i];
			dead->count++;
		} else {
			far_l1_record_drop(l1, idxs[i]);
		}
	}
	pthread_mutex_unlock(&l1->lock);
	far_l1_record_add(l1, FAR_RECORD_L1_DOOMED_ENDED, 0, 0, count, bytes);
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
	struct l1_news news;
	size_t ok = 0;

	news.count = 0;
	pthread_mutex_lock(&l1->lock);
	for (size_t i = 0; i < count; i++) {
		uint64_t word = 0;
		uint32_t idx = L1_NIL;

		if (news.count == L1_EVENTS)
			news_flush(l1, &news);
		rcs_out[i] = far_key_is_zero(&keys[i]) ? -EINVAL : -ENOENT;
		if (rcs_out[i] == -ENOENT)
			idx = far_l1_table_find_locked(l1, &keys[i], key_hash(&keys[i]), &word);
		if (idx != L1_NIL)
			rcs_out[i] = block_delete(l1, idx, force, FAR_L1_WHY_DELETED, &news);
		ok += rcs_out[i] == 0;
	}
	pthread_mutex_unlock(&l1->lock);
	far_l1_news_tell(l1, NEWS_DELETED, &news);
	far_l1_record_add(l1, FAR_RECORD_L1_DELETED, 1, 0, ok, 0);
	return ok;
}

size_t
far_l1_clear(struct far_l1 *l1, bool force)
{
	struct l1_news news;
	size_t removed = 0;

	news.count = 0;
	pthread_mutex_lock(&l1->lock);
	for (uint32_t idx = 1; idx < l1->block_fresh; idx++) {
		uint64_t word;

		/* Others get their turn now and then. */
		if (news.count == L1_EVENTS || idx % 1024 == 0)
			news_flush(l1, &news);
		word = atomic_load_explicit(&l1->blocks[idx].word, memory_order_relaxed);
		if (word_state(word) == WORD_FREE || (word & WORD_DOOMED) != 0)
			continue;
		removed += block_delete(l1, idx, force, FAR_L1_WHY_CLEARED, &news) == 0;
	}
	pthread_mutex_unlock(&l1->lock);
	far_l1_news_tell(l1, NEWS_DELETED, &news);
	far_l1_record_add(l1, FAR_RECORD_L1_DELETED, 2, 0, removed, 0);
	return removed;
}
