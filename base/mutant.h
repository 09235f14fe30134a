/* mutant.h - rules that keep a promise, each of which the simulation can break to see that it notices. */
#ifndef FAR_BASE_MUTANT_H
#define FAR_BASE_MUTANT_H

#include <stddef.h>

/* clang-format off */
#define FAR_MUTANTS(of) \
	of(VALIDATION_UNFENCED, "the second look at a slot is not fenced behind the data") \
	of(SLOT_COMPARED_BY_KEY, "the second look compares the key, not the whole slot") \
	of(TORN_SLOT_TAKEN, "a slot is taken whatever its checksum") \
	of(COMMIT_OVERTAKES, "a COMMIT arrives before the bytes that it speaks of") \
	of(BUFFER_FREED_EARLY, "a load's buffer is freed when nobody wants it, not when it ended") \
	of(FAILED_LOAD_ANNOUNCED, "a load that failed is flipped to readable") \
	of(LOCK_ENDED, "eviction takes blocks that are locked for reading") \
	of(DEADLINE_IGNORED, "a request waits for its loads, whatever its deadline") \
	of(LOST_LINK_FORGOTTEN, "what was on its way when a link was lost is never ended") \
	of(SLOT_BEFORE_COPY, "a hot block's slot names its new place before the bytes are there") \
	of(RECOVERED_UNCHECKED, "a donor that comes back believes its slots, whatever their bytes") \
	of(LANE_BEFORE_SWEEP, "a donor that comes back gives out lanes before it has looked at its slots")
/* clang-format on */

enum far_mutant {
	FAR_MUTANT_NONE,
#define FAR_MUTANT_ENUM(name, text) FAR_MUTANT_##name,
	FAR_MUTANTS(FAR_MUTANT_ENUM)
#undef FAR_MUTANT_ENUM
		FAR_MUTANT_COUNT,
};

/* Whether that rule is broken; never, but in the simulation's own build. */
#ifdef FAR_MARKS
extern enum far_mutant far_mutant;
#define FAR_MUTANT(name) (far_mutant == FAR_MUTANT_##name)
/* The copy is made later: what others see until then is what was there. */
void far_mutant_copy_late(void *to, const void *from, size_t size_bytes);
#else
#define FAR_MUTANT(name)                           0
#define far_mutant_copy_late(to, from, size_bytes) ((void)(to), (void)(from), (void)(size_bytes))
#endif

#endif
