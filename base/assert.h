/* assert.h - bugs of ours stop the process; the world's misbehaviour is returned, never asserted. */
#ifndef FAR_BASE_ASSERT_H
#define FAR_BASE_ASSERT_H

/* Logs, flushes and aborts. */
_Noreturn void far_assert_failed(const char *cond, const char *file, int line, const char *func);

/* On in every build: a wrong byte served costs more than a restart. One condition each. */
#define FAR_ASSERT(cond)                                                                           \
	do {                                                                                       \
		if (__builtin_expect(!(cond), 0))                                                  \
			far_assert_failed(#cond, __FILE__, __LINE__, __func__);                    \
	} while (0)

/* Expensive ones: on in sanitizer and debug builds. */
#if defined(FAR_DEBUG) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAR_DASSERT(cond) FAR_ASSERT(cond)
#else
#define FAR_DASSERT(cond) ((void)sizeof(cond))
#endif

#endif
