/* spin.c - short waits are spun through, but only while most of them are short. */
#include "transport/spin.h"

void
far_spin_init(struct far_spin *spin, uint64_t ns_max)
{
	*spin = (struct far_spin){.ns_max = ns_max, .near_needed = FAR_SPIN_NEAR_MIN};
}

void
far_spin_idle(struct far_spin *spin, uint64_t now_ns)
{
	if (spin->idle_ns != 0)
		return;
	spin->idle_ns = now_ns;
	spin->slept = false;
}

void
far_spin_restart(struct far_spin *spin)
{
	spin->idle_ns = 0;
}

static void
needs_more(struct far_spin *spin)
{
	spin->near_needed *= 4;
	if (spin->near_needed > FAR_SPIN_NEAR_MAX)
		spin->near_needed = FAR_SPIN_NEAR_MAX;
}

/* A wait was near if spinning from its beginning would have caught its end: one that was spun through
 * in vain and ended right after that was not. */
void
far_spin_found(struct far_spin *spin, uint64_t now_ns)
{
	uint64_t wait_ns = now_ns - spin->idle_ns;

	if (spin->idle_ns == 0 || spin->ns_max == 0)
		return;
	spin->idle_ns = 0;
	if (wait_ns <= spin->ns_max) {
		spin->near_count += spin->near_count < 2 * spin->near_needed - 1;
		spin->caught_count += spin->on && !spin->slept;
		if (spin->caught_count >= FAR_SPIN_CAUGHT)
			spin->near_needed = FAR_SPIN_NEAR_MIN;
	} else {
		if (spin->on && spin->caught_count < FAR_SPIN_CAUGHT && wait_ns < 2 * spin->ns_max)
			needs_more(spin);
		spin->near_count /= 2;
		spin->caught_count = 0;
	}
	spin->on = spin->near_count >= spin->near_needed;
}

bool
far_spin_again(const struct far_spin *spin, uint64_t now_ns)
{
	return spin->on && spin->idle_ns != 0 && now_ns - spin->idle_ns < spin->ns_max;
}

void
far_spin_slept(struct far_spin *spin)
{
	spin->slept = true;
}
