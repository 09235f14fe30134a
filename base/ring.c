/* ring.c - a bounded queue from many threads to one: a ticket per cell tells whose turn it is. */
#include "base/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/assert.h"

#define CAPACITY_MAX ((size_t)1 << 20)
#define LINE_BYTES   64

/* A cell is free for position p while its turn is p, and holds p's item while it is p + 1. */
struct ring_cell {
	atomic_size_t turn;
	void *item;
};

struct far_ring {
	/* Producers draw positions here; a line of its own, as the consumer never writes it. */
	_Alignas(LINE_BYTES) atomic_size_t tail;
	_Alignas(LINE_BYTES) size_t head; /* consumer only */
	size_t mask;
	struct ring_cell cells[];
};

int
far_ring_open(size_t capacity, struct far_ring **out)
{
	struct far_ring *ring;

	if (capacity < 2 || capacity > CAPACITY_MAX || (capacity & (capacity - 1)) != 0)
		return -EINVAL;
	ring = far_zalloc_aligned(LINE_BYTES, sizeof(*ring) + capacity * sizeof(ring->cells[0]));
	if (ring == NULL)
		return -ENOMEM;
	ring->mask = capacity - 1;
	for (size_t i = 0; i < capacity; i++)
		atomic_init(&ring->cells[i].turn, i);
	*out = ring;
	return 0;
}

void
far_ring_close(struct far_ring *ring)
{
	far_free(ring);
}

bool
far_ring_push(struct far_ring *ring, void *item)
{
	/* Relaxed: a position alone names nothing; the cell's turn orders its contents. */
	size_t pos = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	FAR_ASSERT(item != NULL);
	for (;;) {
		struct ring_cell *cell = &ring->cells[pos & ring->mask];
		/* pairs with the release in far_ring_pop: the consumer has taken the old item */
		size_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
		intptr_t ahead = (intptr_t)(turn - pos);

		if (ahead < 0)
			return false;
		if (ahead > 0) { /* another producer was faster: draw again */
			pos = atomic_load_explicit(&ring->tail, memory_order_relaxed);
			continue;
		}
		/* pairs with itself in other producers: each position has one owner */
		if (!atomic_compare_exchange_weak_explicit(
			    &ring->tail, &pos, pos + 1, memory_order_relaxed, memory_order_relaxed))
			continue;
		cell->item = item;
		/* pairs with the acquire in far_ring_pop */
		atomic_store_explicit(&cell->turn, pos + 1, memory_order_release);
		return true;
	}
}

void *
far_ring_pop(struct far_ring *ring)
{
	struct ring_cell *cell = &ring->cells[ring->head & ring->mask];
	void *item;

	/* pairs with the release in far_ring_push: the item, and all that was written before */
	if (atomic_load_explicit(&cell->turn, memory_order_acquire) != ring->head + 1)
		return NULL;
	item = cell->item;
	/* pairs with the acquire in far_ring_push: free for the position one round later */
	atomic_store_explicit(&cell->turn, ring->head + ring->mask + 1, memory_order_release);
	ring->head++;
	return item;
}
