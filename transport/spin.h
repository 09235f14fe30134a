/* spin.h - whether it is worth looking again instead of sleeping, from how long the last waits were. */
#ifndef FAR_TRANSPORT_FAR_SPIN_H
#define FAR_TRANSPORT_FAR_SPIN_H

#include <stdbool.h>
#include <stdint.h>

/* A short wait counts one, a long one halves: with so many the next is spun through. Five short ones
 * for each long one do it: then it costs about the CPU that sleeping would. */
#define FAR_SPIN_NEAR_MIN 8U
/* As many as that after waits that were spun through in vain and ended as soon as we slept: where the
 * other side needs the very processor that we spin on, all waits look short until we spin. */
#define FAR_SPIN_NEAR_MAX 4096U
/* So many that ended while we span say that it is not like that. */
#define FAR_SPIN_CAUGHT 4U

struct far_spin {
	uint64_t ns_max;  /* the longest wait that is spun through; 0: none is */
	uint64_t idle_ns; /* since when there is nothing to do; 0: there is */
	uint32_t near_count;
	uint32_t near_needed;
	uint32_t caught_count; /* waits that ended while we span, since the last that did not */
	bool on;
	bool slept; /* in this wait */
};

void far_spin_init(struct far_spin *spin, uint64_t ns_max);
/* There is nothing to do. */
void far_spin_idle(struct far_spin *spin, uint64_t now_ns);
/* Something came. */
void far_spin_found(struct far_spin *spin, uint64_t now_ns);
/* We asked for something ourselves: what has passed until now was no wait for it. */
void far_spin_restart(struct far_spin *spin);
/* Whether to look again rather than to sleep. */
bool far_spin_again(const struct far_spin *spin, uint64_t now_ns);
/* We sleep. */
void far_spin_slept(struct far_spin *spin);

#endif
