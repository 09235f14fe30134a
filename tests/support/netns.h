/* netns.h - two network namespaces and a cable between them, gone with the process that made them. */
#ifndef FAR_TESTS_SUPPORT_NETNS_H
#define FAR_TESTS_SUPPORT_NETNS_H

#include <stdbool.h>
#include <sys/types.h>

#define NETNS_OUR_HOST  "10.77.0.1"
#define NETNS_PEER_HOST "10.77.0.2"

struct netns {
	pid_t holder;  /* a process that does nothing but be in the other namespace */
	char path[64]; /* of it: "/proc/4711/ns" */
};

/* Moves this process, which must have one thread, into a namespace of its own, with a cable to
 * another. Returns 0, or -1 after printing why it cannot be done here. */
int netns_open(struct netns *netns);
/* Takes an end of the cable down, or up again: what the other end sends is lost without a word, and
 * it keeps its address. Fails the test if it does not work. */
enum netns_end { NETNS_OUR_END, NETNS_PEER_END };
void netns_cut(const struct netns *netns, enum netns_end end, bool cut);
void netns_close(struct netns *netns);

#endif
