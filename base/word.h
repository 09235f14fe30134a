/* word.h - words that threads wait on: futexes of this process alone. */
#ifndef FAR_BASE_WORD_H
#define FAR_BASE_WORD_H

#include <stdatomic.h>
#include <stdint.h>

/* Waits for a value other than @value, until @deadline_ns of CLOCK_MONOTONIC. 0, or -ETIMEDOUT. Thread: any. */
int far_word_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns);
/* Wakes all who wait; after the store of what they wait for. Thread: any. */
void far_word_wake(_Atomic uint32_t *word);

#endif
