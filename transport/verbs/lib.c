/* lib.c - the verbs libraries are loaded where they are used: their functions, in one table. */
#include "transport/verbs/lib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define WHY_BYTES 512
#define NEXT_STEP "install libibverbs1, librdmacm1 and ibverbs-providers (Debian), or rdma-core"

const struct verbs_lib *far_verbs_lib;

static pthread_once_t load_once = PTHREAD_ONCE_INIT;
static struct verbs_lib found;
static int load_rc;
static char load_why[WHY_BYTES];

/* ---- what the headers have inline: each device's driver behind one pointer ---- */

static int
inline_poll_cq(struct ibv_cq *cq, int count, struct ibv_wc *wcs)
{
	return ibv_poll_cq(cq, count, wcs);
}

static int
inline_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_out)
{
	return ibv_post_recv(qp, wr, bad_out);
}

static int
inline_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_out)
{
	return ibv_post_send(qp, wr, bad_out);
}

static int
inline_req_notify_cq(struct ibv_cq *cq, int solicited_only)
{
	return ibv_req_notify_cq(cq, solicited_only);
}

/* ---- loading ---- */

static int
function_find(void *handle, const char *name, void *out, char *why, size_t why_bytes)
{
	void *function = dlsym(handle, name);

	if (function == NULL) {
		(void)snprintf(why, why_bytes, "%s: %s", dlerror(), NEXT_STEP);
		return -ENODEV;
	}
	/* POSIX says that a pointer to a function can be kept in one to an object; C does not. */
	memcpy(out, &function, sizeof(function));
	return 0;
}

static void *
library_open(const char *soname, char *why, size_t why_bytes)
{
	void *handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);

	if (handle == NULL)
		(void)snprintf(why, why_bytes, "%s: %s", dlerror(), NEXT_STEP);
	return handle;
}

int
far_verbs_lib_find(const char *lib_soname, const char *cm_soname, struct verbs_lib *out, char *why,
		   size_t why_bytes)
{
	/* Never unloaded, whatever came out: drivers that they loaded may still be used. */
	void *verbs = library_open(lib_soname, why, why_bytes);
	void *cm = verbs == NULL ? NULL : library_open(cm_soname, why, why_bytes);
	struct verbs_lib lib = {
		.ibv_poll_cq = inline_poll_cq,
		.ibv_post_recv = inline_post_recv,
		.ibv_post_send = inline_post_send,
		.ibv_req_notify_cq = inline_req_notify_cq,
	};
	int rc = 0;

	if (cm == NULL)
		return -ENODEV;
#define VERBS_LIB_FIND(name)                                                                       \
	if (rc == 0)                                                                               \
		rc = function_find(verbs, #name, &lib.name, why, why_bytes);
	VERBS_LIB_FUNCTIONS(VERBS_LIB_FIND)
#undef VERBS_LIB_FIND
#define VERBS_CM_FIND(name)                                                                        \
	if (rc == 0)                                                                               \
		rc = function_find(cm, #name, &lib.name, why, why_bytes);
	VERBS_CM_FUNCTIONS(VERBS_CM_FIND)
#undef VERBS_CM_FIND
	if (rc == 0)
		*out = lib;
	return rc;
}

static void
load_first(void)
{
	load_rc = far_verbs_lib_find(VERBS_LIB_SONAME, VERBS_CM_SONAME, &found, load_why,
				     sizeof(load_why));
	if (load_rc == 0)
		far_verbs_lib = &found;
}

int
far_verbs_lib_load_quietly(char *why, size_t why_bytes)
{
	(void)pthread_once(&load_once, load_first);
	if (load_rc < 0)
		(void)snprintf(why, why_bytes, "%s", load_why);
	return load_rc;
}

int
far_verbs_lib_load(void)
{
	char why[WHY_BYTES];
	int rc = far_verbs_lib_load_quietly(why, sizeof(why));

	if (rc < 0)
		far_log_error("verbs: %s", why);
	return rc;
}
