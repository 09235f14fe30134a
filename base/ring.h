/* ring.h - a bounded queue of pointers from many threads to one, without locks. */
#ifndef FAR_BASE_RING_H
#define FAR_BASE_RING_H

#include <stdbool.h>
#include <stddef.h>

struct far_ring;

/* @capacity: a power of two, 2..2^20. Returns 0, -EINVAL, -ENOMEM. */
int far_ring_open(size_t capacity, struct far_ring **out);
/* Takes NULL. The ring must be empty of anything that the caller still owns. */
void far_ring_close(struct far_ring *ring);
/* Any thread. False: full. A pushed pointer is visible, with all that was written before, to the
 * thread that pops it. */
bool far_ring_push(struct far_ring *ring, void *item);
/* One consumer thread. NULL: empty. */
void *far_ring_pop(struct far_ring *ring);

#endif
