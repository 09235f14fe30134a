/* notify.c - telling listeners what happened, once, while nothing of l1 is held. */
#include "l1/l1_priv.h"

int
far_l1_listen(struct far_l1 *l1, const struct far_l1_listener *listener)
{
	if (l1->listener_count == L1_LISTENERS_MAX)
		return -ENOMEM;
	if (listener->hold_written) {
		struct l1_session *s = far_l1_session_at(l1, listener->session);

		if (l1->holder >= 0 || listener->written == NULL || s == NULL ||
		    atomic_load(&s->id) != listener->session)
			return -EINVAL;
		l1->holder = (int)l1->listener_count;
	}
	l1->listeners[l1->listener_count++] = *listener;
	l1->told_written |= listener->written != NULL;
	l1->told_prefetched |= listener->prefetched != NULL;
	l1->told_deleted |= listener->deleted != NULL;
	l1->told_accessed |= listener->accessed != NULL;
	return 0;
}

void
far_l1_news_add(struct far_l1 *l1, struct l1_news *news, const struct l1_block *block,
		uint64_t loan)
{
	struct far_l1_event *event = &news->events[news->count];

	FAR_ASSERT(news->count < L1_EVENTS);
	far_l1_block_key(block, &event->key);
	event->loan = loan;
	event->why = FAR_L1_WHY_EVICTED;
	event->addr = block_addr(l1, block);
	event->size_bytes = atomic_load_explicit(&block->size_bytes, memory_order_relaxed);
	news->count++;
}

/* Loans are the holder's alone: the others see 0. */
static void
written_tell(struct far_l1 *l1, struct l1_news *news)
{
	uint64_t loans[L1_EVENTS];
	size_t count = news->count;

	for (size_t i = 0; i < count; i++) {
		loans[i] = news->events[i].loan;
		news->events[i].loan = 0;
	}
	for (uint32_t i = 0; i < l1->listener_count; i++) {
		struct far_l1_listener *to = &l1->listeners[i];

		if (to->written != NULL && (int)i != l1->holder)
			to->written(to->arg, news->events, count);
	}
	if (l1->holder < 0)
		return;
	for (size_t i = 0; i < count; i++)
		news->events[i].loan = loans[i];
	l1->listeners[l1->holder].written(l1->listeners[l1->holder].arg, news->events, count);
}

void
far_l1_news_tell(struct far_l1 *l1, enum l1_news_kind kind, struct l1_news *news)
{
	if (news->count > 0 && kind == NEWS_WRITTEN)
		written_tell(l1, news);
	for (uint32_t i = 0; i < l1->listener_count && news->count > 0 && kind != NEWS_WRITTEN;
	     i++) {
		struct far_l1_listener *to = &l1->listeners[i];

		if (kind == NEWS_PREFETCHED && to->prefetched != NULL)
			to->prefetched(to->arg, news->events, news->count);
		if (kind == NEWS_DELETED && to->deleted != NULL)
			to->deleted(to->arg, news->events, news->count);
		if (kind == NEWS_ACCESSED && to->accessed != NULL)
			to->accessed(to->arg, news->events, news->count);
	}
	news->count = 0;
}

void
far_l1_dead_tell(struct far_l1 *l1, struct l1_dead *dead)
{
	while (dead->head != L1_NIL) {
		struct l1_news news;
		uint32_t first = dead->head;
		uint32_t idx = first;

		news.count = 0;
		while (idx != L1_NIL && news.count < L1_EVENTS) {
			far_l1_news_add(l1, &news, &l1->blocks[idx], 0);
			news.events[news.count - 1].why = dead->why;
			idx = l1->blocks[idx].queue_next;
		}
		dead->head = idx;
		pthread_mutex_lock(&l1->lock);
		while (first != dead->head) {
			idx = l1->blocks[first].queue_next;
			far_l1_record_drop(l1, first);
			first = idx;
		}
		pthread_mutex_unlock(&l1->lock);
		far_l1_news_tell(l1, NEWS_DELETED, &news);
	}
	dead->count = 0;
}
