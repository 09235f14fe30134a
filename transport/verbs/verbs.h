/* verbs.h - the native RDMA transport; the table is all of it. */
#ifndef FAR_TRANSPORT_VERBS_VERBS_H
#define FAR_TRANSPORT_VERBS_VERBS_H

#include "transport/transport.h"

/* Addresses: "HOST:PORT", of a port of an RDMA device. */
extern const struct far_transport_ops far_verbs_ops;

#endif
