/* options.h - what is chosen for a transport by those who configure a process. */
#ifndef FAR_TRANSPORT_OPTIONS_H
#define FAR_TRANSPORT_OPTIONS_H

#include "base/clock.h"

/* Of what peers can do that a transport could keep them from, at the price of speed. */
enum far_trust {
	FAR_TRUST_NONE,
	FAR_TRUST_FABRIC, /* ucx: whoever is on the fabric may write into what is exposed to him */
};
#define FAR_TRUST_CHOICES "none|fabric" /* in that order, for parameter tables */
/* docs/decisions/ucx-short-waits.md */
#define FAR_SPIN_NS_DEFAULT (50 * FAR_NS_PER_US)

#endif
