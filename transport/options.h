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

/* Of RDMA, which the verbs transport alone reads; in the types of parameter tables. */
struct far_rdma_options {
	uint64_t traffic_class;  /* 0 to 255, of RoCE; 0: as the host has it */
	uint64_t service_level;  /* 0 to 15; 0: as the host has it */
	uint64_t ack_timeout_ns; /* of one try, rounded up to 4.096 us times a power of two; 0:
				  * 268 ms */
	uint64_t retries;        /* after the first try, 1 to 6; 0: 6 */
	uint64_t rnr_retries;    /* of a message that finds no buffer, 1 to 6; 0: 6 */
};

/* Their rows, the same for all who configure a process. @at: the offset of a member of struct
 * far_rdma_options. */
/* It would make a line of each word. */
/* clang-format off */
#define FAR_RDMA_PARAMS(at)									\
	{"verbs.traffic_class", FAR_PARAM_U64, at(traffic_class), 0, 255, "0", NULL,		\
	 "The traffic class of RoCE packets, DSCP and ECN together (DSCP 26: 104); 0: as the "	\
	 "host has it."},									\
	{"verbs.service_level", FAR_PARAM_U64, at(service_level), 0, 15, "0", NULL,		\
	 "The service level, on RoCE the priority; 0: as the host has it."},			\
	{"verbs.ack_timeout", FAR_PARAM_DURATION, at(ack_timeout_ns), FAR_NS_PER_MS,		\
	 4 * FAR_NS_PER_S, "268ms", NULL,							\
	 "How long a device waits for the peer's before it tries again, rounded up to 4.096 us "\
	 "times a power of two; some take up to four times as long."},				\
	{"verbs.retries", FAR_PARAM_U64, at(retries), 1, 6, "6", NULL,				\
	 "Tries after the first, then the link is lost; 7 would be for ever on some devices."},	\
	{"verbs.rnr_retries", FAR_PARAM_U64, at(rnr_retries), 1, 6, "6", NULL,			\
	 "Tries, 0.64 ms apart, of a message that finds no buffer, then the link is lost: "	\
	 "credits see to it that none is needed; 7 would be for ever."}
/* clang-format on */

/* docs/decisions/ucx-short-waits.md */
#define FAR_SPIN_NS_DEFAULT (50 * FAR_NS_PER_US)

struct far_helpers;

/* What a transport is opened with. */
struct far_transport_config {
	struct far_clock *clock;           /* borrowed */
	uint32_t message_credits;          /* messages a peer may have on the way to us; 0: 32 */
	uint64_t bytes_in_flight_max;      /* per transport; 0: no limit */
	uint64_t peer_bytes_in_flight_max; /* per link; 0: no limit */
	struct far_rdma_options rdma;
	uint64_t
		spin_ns_max; /* waits up to this are spun through where they come in a row; 0: none */
	enum far_trust trust;
	/* shm: threads that take part in copying large READs; borrowed, and outlives the transport; NULL: none. */
	struct far_helpers *helpers;
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
