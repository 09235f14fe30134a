/* null.h - a transport whose READs and WRITEs end at once and move nothing: what is left is what is
 * around it. */
#ifndef FAR_TESTS_GPU_NULL_H
#define FAR_TESTS_GPU_NULL_H

#include "transport/transport.h"

/* Any address is connected to. Returns 0, or -ENOMEM, -EMFILE. */
int null_transport_open(struct far_transport **out);

#endif
