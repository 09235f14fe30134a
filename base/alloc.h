/* alloc.h - control-path memory, counted, lockable and failable by tests. */
#ifndef FAR_BASE_ALLOC_H
#define FAR_BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed memory, or NULL. calloc's overflow check holds for the array form. Thread: any. */
void *far_zalloc(size_t size_bytes);
void *far_zalloc_array(size_t count, size_t item_bytes);
/* Whatever bytes it has: for large arrays whose items are set up when they are first taken. */
void *far_alloc_array(size_t count, size_t item_bytes);
/* Zeroed and aligned (a power of two >= 16); released with far_free() as well. */
void *far_zalloc_aligned(size_t align_bytes, size_t size_bytes);
char *far_strdup(const char *s);
/* Takes NULL. */
void far_free(void *p);

/* Bytes that far_zalloc*() handed out and far_free() has not taken back. Tests compare with zero. */
uint64_t far_alloc_live_bytes(void);

/* Tests only: the n-th allocation from now fails (1 = the next); 0 turns it off. */
void far_alloc_fail_nth(uint64_t n);
/* Tests only: between lock and unlock an allocation on the calling thread is a failed assertion. */
void far_alloc_lock(void);
void far_alloc_unlock(void);

#endif
