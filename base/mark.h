/* mark.h - rare paths that the simulation has to have taken; nothing at all in any other build. */
#ifndef FAR_BASE_MARK_H
#define FAR_BASE_MARK_H

#include <stddef.h>
#include <stdint.h>

#ifdef FAR_MARKS
/* Each stands in a section of its own, so that those that were never reached are known too. */
struct far_mark {
	const char *name;
};
void far_mark_hit(const struct far_mark *mark);

#define FAR_MARK(text)                                                                             \
	do {                                                                                       \
		static const struct far_mark far_mark_here                                         \
			__attribute__((section("far_marks"), used, aligned(8))) = {text};          \
		far_mark_hit(&far_mark_here);                                                      \
	} while (0)

/* Counts go to @counts from now on, by index; the caller's, at least far_marks_count() of them. */
void far_marks_use(uint64_t *counts, size_t count);
size_t far_marks_count(void);
const char *far_marks_name(size_t idx);
#else
#define FAR_MARK(text)                                                                             \
	do {                                                                                       \
	} while (0)
#endif

#endif
