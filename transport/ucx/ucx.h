/* ucx.h - the transport over UCX: between hosts, without RDMA hardware. */
#ifndef FAR_TRANSPORT_UCX_UCX_H
#define FAR_TRANSPORT_UCX_UCX_H

#include "transport/transport.h"

/* Addresses: "HOST:PORT", "[IPV6]:PORT". In a build without UCX there is none of it. */
extern const struct far_transport_ops far_ucx_ops;

#endif
