/* publish.h - what makes bytes visible before the word that announces them. */
#ifndef FAR_BASE_PUBLISH_H
#define FAR_BASE_PUBLISH_H

#include <stdatomic.h>

/*
 * Every copy into memory that others read ends in a publish before the word that names it is stored:
 * the store fence that streaming (non-temporal) copies need on x86, a release fence elsewhere.
 * GPU memory has its own, handed to l1 as a function pointer.
 */
static inline void
far_mem_publish(void)
{
#if defined(__x86_64__)
	__builtin_ia32_sfence();
#endif
	atomic_thread_fence(memory_order_release);
}

#endif
