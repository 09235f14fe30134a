/* shm.h - the same host: memfds passed over a Unix socket, READs are copies by the reader. */
#ifndef FAR_TRANSPORT_SHM_SHM_H
#define FAR_TRANSPORT_SHM_SHM_H

#include "transport/transport.h"

extern const struct far_transport_ops far_shm_ops;

#endif
