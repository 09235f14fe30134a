/* verbs_peer.h - the other end in a process of its own, which can be stopped and killed. */
#ifndef FAR_TESTS_UNIT_TRANSPORT_VERBS_PEER_H
#define FAR_TESTS_UNIT_TRANSPORT_VERBS_PEER_H

#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "tests/unit/transport/verbs_world.h"

#define VERBS_PEER_SOURCES 16U  /* a writer's lists come from one after the other */
#define VERBS_PEER_FILL    0xa0 /* what the first of them holds, and one more the next */

enum verbs_peer_role {
	VERBS_PEER_WRITER, /* connects, and overwrites what it is given, list by list */
	VERBS_PEER_DONOR,  /* listens; who connects may read VERBS_WORLD_BYTES of it */
};

/* What both processes see. */
struct verbs_peer_shared {
	/* Told. */
	enum verbs_peer_role role;
	char address[64];
	uint32_t sq_depth;      /* 0: as it is */
	uint32_t op_bytes, ops; /* of a writer's list */
	/* Answered. */
	_Atomic int failed; /* the line where it gave up */
	_Atomic uint32_t listening;
	_Atomic uint32_t posted; /* lists */
	_Atomic uint32_t dones;
	_Atomic int done_status; /* the first that failed */
	_Atomic int lost_status;
	_Atomic uint32_t closed;
};

struct verbs_peer {
	struct verbs_peer_shared *shared;
	int fd;
	pid_t pid;
};

/* Whether this process is one: then it is that until it ends, and this does not return. First of all in
 * main(): nothing of RDMA may be open before. */
void verbs_peer_main(int argc, char **argv);

/* Memory for both; what is told is set behind it, and before the start. */
void verbs_peer_open(struct verbs_peer *peer, enum verbs_peer_role role);
void verbs_peer_start(struct verbs_peer *peer);
/* The process stands still when this returns. */
void verbs_peer_stop(const struct verbs_peer *peer);
/* It has ended by itself, and well; or is ended by @signal. */
void verbs_peer_close(struct verbs_peer *peer, int signal);

#endif
