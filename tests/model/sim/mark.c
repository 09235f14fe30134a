/* mark.c - how often rare paths were taken, and which rule is broken on purpose. */
#include "base/mark.h"

#include "base/mutant.h"

enum far_mutant far_mutant;

/* The linker's names. NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
extern const struct far_mark __start_far_marks[];
extern const struct far_mark __stop_far_marks[];
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

static uint64_t *counts;
static size_t counts_max;

void
far_marks_use(uint64_t *to, size_t count)
{
	counts = to;
	counts_max = count;
}

size_t
far_marks_count(void)
{
	return (size_t)(__stop_far_marks - __start_far_marks);
}

const char *
far_marks_name(size_t idx)
{
	return __start_far_marks[idx].name;
}

void
far_mark_hit(const struct far_mark *mark)
{
	size_t idx = (size_t)(mark - __start_far_marks);

	if (idx < counts_max)
		__atomic_fetch_add(&counts[idx], 1, __ATOMIC_RELAXED);
}
