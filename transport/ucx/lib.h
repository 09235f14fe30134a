/* lib.h - the one way to UCX: its functions in a table, found when ucx: is first opened. */
#ifndef FAR_TRANSPORT_UCX_LIB_H
#define FAR_TRANSPORT_UCX_LIB_H

#include <ucp/api/ucp.h>
#include <ucs/debug/log_def.h>

#include "base/err.h"

#define UCX_LIB_SONAME "libucp.so.0" /* the libraries that it needs come with it */
/* What is used here is in every UCX from this one on, whichever headers this was built with. */
#define UCX_LIB_MAJOR     1U
#define UCX_LIB_MINOR     13U
#define UCX_HANDLES_FIRST 14U /* from here on a GET takes a handle of the memory that it fills */
/* 1.15 to 1.18 emulate a GET on every endpoint that notices a dead peer, over RDMA too. */
#define UCX_EMULATES_FIRST 15U
#define UCX_EMULATES_LAST  18U

/* Every function of UCX that this folder calls. Where a header has an inline function, it is the
 * one behind it that stands here: ucp_init() is ucp_init_version(). */
#define UCX_LIB_FUNCTIONS(X)                                                                       \
	X(ucp_am_send_nbx)                                                                         \
	X(ucp_cleanup)                                                                             \
	X(ucp_config_modify)                                                                       \
	X(ucp_config_print)                                                                        \
	X(ucp_config_read)                                                                         \
	X(ucp_config_release)                                                                      \
	X(ucp_conn_request_query)                                                                  \
	X(ucp_context_print_info)                                                                  \
	X(ucp_ep_close_nbx)                                                                        \
	X(ucp_ep_create)                                                                           \
	X(ucp_ep_flush_nbx)                                                                        \
	X(ucp_ep_rkey_unpack)                                                                      \
	X(ucp_get_nbx)                                                                             \
	X(ucp_get_version)                                                                         \
	X(ucp_init_version)                                                                        \
	X(ucp_listener_create)                                                                     \
	X(ucp_listener_destroy)                                                                    \
	X(ucp_listener_query)                                                                      \
	X(ucp_listener_reject)                                                                     \
	X(ucp_mem_map)                                                                             \
	X(ucp_mem_unmap)                                                                           \
	X(ucp_request_free)                                                                        \
	X(ucp_rkey_buffer_release)                                                                 \
	X(ucp_rkey_destroy)                                                                        \
	X(ucp_rkey_pack)                                                                           \
	X(ucp_worker_arm)                                                                          \
	X(ucp_worker_create)                                                                       \
	X(ucp_worker_destroy)                                                                      \
	X(ucp_worker_get_efd)                                                                      \
	X(ucp_worker_progress)                                                                     \
	X(ucp_worker_set_am_recv_handler)                                                          \
	X(ucs_log_push_handler)                                                                    \
	X(ucs_status_string)

struct ucx_lib {
#define UCX_LIB_MEMBER(name) __typeof__ (&(name))(name);
	UCX_LIB_FUNCTIONS(UCX_LIB_MEMBER)
#undef UCX_LIB_MEMBER
};

/* What every call of this folder goes through; NULL until far_ucx_lib_load() has succeeded. A test
 * points it at a table of its own after that, and back, with no transport open. */
extern const struct ucx_lib *far_ucx_lib;

/**
 * far_ucx_lib_load - loads UCX into this process, once; it stays until the process ends.
 *
 * While it is loaded, and only then, it is told to leave the process alone: no hooks in the memory
 * calls of the C library, no signal handlers. What an operator exported holds, and the log says so.
 * A UCX that the process has loaded before is used as it is.
 *
 * Thread:  any.
 * Returns: 0; -ENODEV: not on this host, or of another kind (the log says what to do); -ENOMEM.
 */
int far_ucx_lib_load(void);
/* The same for who tells of it himself. @why: of a failure, one line; untouched else. */
int far_ucx_lib_load_quietly(char *why, size_t why_bytes);

/* The same for one file, without settings; a test names others. @why: of a failure, one line. */
int far_ucx_lib_find(const char *soname, struct ucx_lib *out, char *why, size_t why_bytes);

#endif
