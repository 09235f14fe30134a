/* lib.h - the one way to verbs: functions of two libraries in a table, found when verbs: is first opened. */
#ifndef FAR_TRANSPORT_VERBS_LIB_H
#define FAR_TRANSPORT_VERBS_LIB_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "base/err.h"

/* rdma-core 34 or newer has all that is named here. */
#define VERBS_LIB_SONAME "libibverbs.so.1"
#define VERBS_CM_SONAME  "librdmacm.so.1"

/* Every function of the libraries that this folder calls. Where a header has an inline function or a
 * macro, it is the one behind it that stands here. */
#define VERBS_LIB_FUNCTIONS(X)                                                                     \
	X(_ibv_query_gid_ex)                                                                       \
	X(ibv_ack_async_event)                                                                     \
	X(ibv_ack_cq_events)                                                                       \
	X(ibv_alloc_pd)                                                                            \
	X(ibv_close_device)                                                                        \
	X(ibv_create_comp_channel)                                                                 \
	X(ibv_create_cq)                                                                           \
	X(ibv_create_qp)                                                                           \
	X(ibv_dealloc_pd)                                                                          \
	X(ibv_dereg_mr)                                                                            \
	X(ibv_destroy_comp_channel)                                                                \
	X(ibv_destroy_cq)                                                                          \
	X(ibv_destroy_qp)                                                                          \
	X(ibv_free_device_list)                                                                    \
	X(ibv_get_async_event)                                                                     \
	X(ibv_get_cq_event)                                                                        \
	X(ibv_get_device_list)                                                                     \
	X(ibv_get_device_name)                                                                     \
	X(ibv_modify_qp)                                                                           \
	X(ibv_open_device)                                                                         \
	X(ibv_query_device)                                                                        \
	X(ibv_query_port)                                                                          \
	X(ibv_reg_dmabuf_mr)                                                                       \
	X(ibv_reg_mr_iova2)                                                                        \
	X(ibv_resize_cq)                                                                           \
	X(ibv_wc_status_str)
#define VERBS_CM_FUNCTIONS(X)                                                                      \
	X(rdma_accept)                                                                             \
	X(rdma_ack_cm_event)                                                                       \
	X(rdma_bind_addr)                                                                          \
	X(rdma_connect)                                                                            \
	X(rdma_create_event_channel)                                                               \
	X(rdma_create_id)                                                                          \
	X(rdma_destroy_event_channel)                                                              \
	X(rdma_destroy_id)                                                                         \
	X(rdma_disconnect)                                                                         \
	X(rdma_establish)                                                                          \
	X(rdma_event_str)                                                                          \
	X(rdma_free_devices)                                                                       \
	X(rdma_get_cm_event)                                                                       \
	X(rdma_get_devices)                                                                        \
	X(rdma_init_qp_attr)                                                                       \
	X(rdma_listen)                                                                             \
	X(rdma_notify)                                                                             \
	X(rdma_reject)                                                                             \
	X(rdma_resolve_addr)                                                                       \
	X(rdma_resolve_route)                                                                      \
	X(rdma_set_option)
/* Those that have no symbol, since each device brings its own: inline in the header. */
#define VERBS_INLINE_FUNCTIONS(X)                                                                  \
	X(ibv_poll_cq)                                                                             \
	X(ibv_post_recv)                                                                           \
	X(ibv_post_send)                                                                           \
	X(ibv_req_notify_cq)

struct verbs_lib {
#define VERBS_LIB_MEMBER(name) __typeof__ (&(name))(name);
	VERBS_LIB_FUNCTIONS(VERBS_LIB_MEMBER)
	VERBS_CM_FUNCTIONS(VERBS_LIB_MEMBER)
	VERBS_INLINE_FUNCTIONS(VERBS_LIB_MEMBER)
#undef VERBS_LIB_MEMBER
};

/* What every call of this folder goes through; NULL until far_verbs_lib_load() has succeeded. A test
 * points it at a table of its own after that, and back, with no transport open. */
extern const struct verbs_lib *far_verbs_lib;

/**
 * far_verbs_lib_load - loads libibverbs and librdmacm into this process, once; they stay.
 *
 * Neither hooks anything or starts a thread: docs/decisions/verbs-loaded-at-run-time.md.
 *
 * Thread:  any.
 * Returns: 0; -ENODEV: not on this host, or too old (the log says what to do).
 */
int far_verbs_lib_load(void);
/* The same for who tells of it himself. @why: of a failure, one line; untouched else. */
int far_verbs_lib_load_quietly(char *why, size_t why_bytes);

/* The same for two files; a test names others. @why: of a failure, one line. */
int far_verbs_lib_find(const char *lib_soname, const char *cm_soname, struct verbs_lib *out,
		       char *why, size_t why_bytes);

#endif
