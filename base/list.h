/* list.h - a circular list whose links live in its members: no allocation, O(1) removal. */
#ifndef FAR_BASE_LIST_H
#define FAR_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct far_list {
	struct far_list *next;
	struct far_list *prev;
};

static inline void
far_list_init(struct far_list *list)
{
	list->next = list;
	list->prev = list;
}

static inline bool
far_list_empty(const struct far_list *list)
{
	return list->next == list;
}

static inline void
far_list_push_back(struct far_list *list, struct far_list *item)
{
	item->prev = list->prev;
	item->next = list;
	list->prev->next = item;
	list->prev = item;
}

static inline void
far_list_push_front(struct far_list *list, struct far_list *item)
{
	far_list_push_back(list->next, item);
}

/* Leaves the item pointing at itself: removing twice harms nobody. */
static inline void
far_list_remove(struct far_list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	far_list_init(item);
}

/* NULL if empty. */
static inline struct far_list *
far_list_pop_front(struct far_list *list)
{
	struct far_list *item = list->next;

	if (item == list)
		return NULL;
	far_list_remove(item);
	return item;
}

#define FAR_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* The body may remove @it, nothing else. */
#define FAR_LIST_FOR_EACH_SAFE(it, tmp, list)                                                      \
	for ((it) = (list)->next, (tmp) = (it)->next; (it) != (list);                              \
	     (it) = (tmp), (tmp) = (it)->next)

#endif
