/* netns_impair.h - a bad network: netem on both ends of the cable between two namespaces. */
#ifndef FAR_TESTS_SUPPORT_NETNS_IMPAIR_H
#define FAR_TESTS_SUPPORT_NETNS_IMPAIR_H

#include <stdint.h>

#include "tests/support/netns.h"

/* What went over the cable since it was impaired, to us and to the peer together. */
struct netns_traffic {
	uint64_t to_us_bytes;
	uint64_t packets;
	uint64_t dropped; /* by netem */
};

/* Puts netem in both directions, for example "delay 10ms" or "loss 1%"; NULL takes it away. Returns
 * 0, or -1 if it does not work: then this kernel has no netem, or iproute2's tc is missing. */
int netns_impair(const struct netns *netns, const char *netem);
/* Fails the test if the cable is not impaired. */
void netns_traffic(const struct netns *netns, struct netns_traffic *out);
/* Segments that TCP sent again, on either side, since the namespaces were made. */
uint64_t netns_retransmitted(const struct netns *netns);

#endif
