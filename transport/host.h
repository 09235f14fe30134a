/* host.h - where a peer is on a network: "HOST:PORT", with names looked up aside. */
#ifndef FAR_TRANSPORT_HOST_H
#define FAR_TRANSPORT_HOST_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/list.h"
#include "transport/address.h"

/* Cuts "HOST:PORT" and "[HOST]:PORT". Thread: any. Returns 0, -EINVAL. */
int far_host_cut(const char *address, char host[FAR_ADDRESS_BYTES_MAX], char port[6]);
/* Takes literal addresses alone. Thread: any. Returns 0, -EAGAIN (a name), -EINVAL. */
int far_host_parse(const char *address, struct sockaddr_storage *out, socklen_t *bytes_out);
/* The other way; an address that is none of ours is said to be unknown. Thread: any. */
void far_host_format(const struct sockaddr_storage *addr, char out[FAR_ADDRESS_BYTES_MAX]);
/* For listeners: names too, looked up here and now. Thread: any; blocks. Returns 0, -EINVAL. */
int far_host_find(const char *address, struct sockaddr_storage *out, socklen_t *bytes_out);

/* A name being looked up; it may have to outlive whoever asked. Thread: one at a time, each. */
struct far_resolve;

/* @dropped: where it waits for its end when it was dropped before; outlives it. */
int far_resolve_open(struct far_list *dropped, const char *address, struct far_resolve **out);
/* Returns 0, -EAGAIN (not yet), -EINVAL (there is no such name). */
int far_resolve_get(struct far_resolve *resolve, struct sockaddr_storage *out,
		    socklen_t *bytes_out);
/* Takes NULL. */
void far_resolve_drop(struct far_resolve *resolve);
/* Frees those of @dropped that are over; with @wait all of them. */
void far_resolve_reap(struct far_list *dropped, bool wait);

#endif
