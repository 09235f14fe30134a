/* options.h - what is chosen for a transport by those who configure a process. */
#ifndef FAR_TRANSPORT_OPTIONS_H
#define FAR_TRANSPORT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

/* Of what peers can do that a transport could keep them from, at the price of speed. */
enum far_trust {
	FAR_TRUST_NONE,
	FAR_TRUST_FABRIC, /* ucx: whoever is on the fabric may write into what is exposed to him */
};
#define FAR_TRUST_CHOICES "none|fabric" /* in that order, for parameter tables */
/* docs/decisions/ucx-short-waits.md */
#define FAR_SPIN_NS_DEFAULT (50 * FAR_NS_PER_US)

/* What a transport is opened with. */
struct far_transport_config {
	struct far_clock *clock;           /* borrowed */
	uint32_t message_credits;          /* messages a peer may have on the way to us; 0: 32 */
	uint64_t bytes_in_flight_max;      /* per transport; 0: no limit */
	uint64_t peer_bytes_in_flight_max; /* per link; 0: no limit */
	uint32_t traffic_class;  /* 0 to 255, of RoCE; verbs alone reads it; 0: as it is */
	uint32_t service_level;  /* 0 to 15; verbs alone reads it; 0: as it is */
	uint64_t ack_timeout_ns; /* verbs: of one try, rounded up to 4.096 us times a power of two;
				  * 0: 268 ms */
	uint32_t retries;        /* verbs: after the first try, 1 to 6; 0: 6 */
	uint64_t
		spin_ns_max; /* waits up to this are spun through where they come in a row; 0: none */
	enum far_trust trust;
	bool posts_no_reads; /* it never will: a ucx process is then less open to its peers */
	/* What it is for, where that is known: ucx opens ports on the interfaces that these need,
	 * and on no other. Addresses without the scheme; borrowed for open. */
	const char *const *listens; /* ours */
	size_t listen_count;
	const char *const *peers; /* those that links are made to */
	size_t peer_count;
	void *fabric;     /* loop only: struct far_loop_fabric */
	const char *host; /* loop only: this host's name on the fabric */
};

#endif
