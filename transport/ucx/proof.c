/* proof.c - that a GET asks nothing of its target's process: tried, at each address, before use. */
#include "transport/ucx/ucx_priv.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/pages.h"
#include "base/rng.h"

#define PAGE_BYTES   4096U
#define VERDICTS_MAX 64U /* addresses of this host; those beyond are proved each time */
#define STEP_NS      (50 * FAR_NS_PER_US)
/* Of each step; a GET that is emulated would take for ever. A donor that starts has nobody waiting,
 * and its host may be busy or its port cold; a client that connects has other donors to see to. */
#define LISTEN_TIMEOUT_NS  (10 * FAR_NS_PER_S)
#define CONNECT_TIMEOUT_NS (2 * FAR_NS_PER_S)
#define CLOSE_WAIT_NS      FAR_NS_PER_S
/* Whoever failed is not tried again at each attempt to connect: his caller has other donors. */
#define AGAIN_NS (15 * FAR_NS_PER_S)

/* Both ends in one thread, so that the target's does nothing whenever we do not. */
struct proof {
	ucp_context_h asker_context; /* borrowed */
	ucp_context_h context;       /* the target's; borrowed */
	ucp_worker_h asker;
	ucp_worker_h target;
	ucp_listener_h listener;
	ucp_conn_request_h request;
	ucp_ep_h asker_ep;
	ucp_ep_h target_ep;
	ucp_mem_h handle; /* of both pages */
	void *key;
	size_t key_bytes;
	ucp_rkey_h rkey;
	struct far_pages pages; /* the target's page, and the asker's */
	ucs_status_t failed;    /* an endpoint's */
	uint32_t pending;       /* requests that UCX has */
	bool asked;             /* a connection was asked for */
	bool target_rests;
	uint64_t timeout_ns;
	uint64_t deadline_ns;
};

/* ---- steps ---- */

static void
on_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
	struct proof *proof = arg;
	(void)ep;

	proof->failed = status;
}

static void
on_request(ucp_conn_request_h request, void *arg)
{
	struct proof *proof = arg;

	if (proof->asked) { /* somebody else's, or too late */
		(void)far_ucx_lib->ucp_listener_reject(proof->listener, request);
		return;
	}
	proof->asked = true;
	proof->request = request;
}

static void
on_done(void *request, ucs_status_t status, void *arg)
{
	struct proof *proof = arg;

	far_ucx_lib->ucp_request_free(request);
	proof->pending--;
	if (status != UCS_OK && proof->failed == UCS_OK)
		proof->failed = status;
}

static const ucp_request_param_t done_param = {
	.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
	.cb = {.send = on_done},
};

static void
request_count(struct proof *proof, ucs_status_ptr_t request)
{
	if (UCS_PTR_IS_PTR(request))
		proof->pending++;
	else if (UCS_PTR_IS_ERR(request) && proof->failed == UCS_OK)
		proof->failed = UCS_PTR_STATUS(request);
}

static void
deadline_set(struct proof *proof)
{
	proof->deadline_ns = far_clock_now(far_clock_real()) + proof->timeout_ns;
}

/* Returns false once the deadline has passed. */
static bool
step(struct proof *proof)
{
	struct far_clock *clock = far_clock_real();
	unsigned count = far_ucx_lib->ucp_worker_progress(proof->asker);
	uint64_t now_ns = far_clock_now(clock);

	if (!proof->target_rests)
		count += far_ucx_lib->ucp_worker_progress(proof->target);
	if (count == 0)
		far_clock_sleep_until(now_ns + STEP_NS);
	return now_ns < proof->deadline_ns;
}

static ucs_status_t
pending_wait(struct proof *proof)
{
	while (proof->pending > 0 && proof->failed == UCS_OK)
		if (!step(proof))
			return UCS_ERR_TIMED_OUT;
	return proof->failed;
}

static ucs_status_t
ep_make(struct proof *proof, ucp_worker_h worker, ucp_ep_params_t *params, ucp_ep_h *out)
{
	params->field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
	params->err_mode = UCP_ERR_HANDLING_MODE_PEER;
	params->err_handler.cb = on_error;
	params->err_handler.arg = proof;
	return far_ucx_lib->ucp_ep_create(worker, params, out);
}

static ucs_status_t
workers_make(struct proof *proof)
{
	ucp_worker_params_t params = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
		.thread_mode = UCS_THREAD_MODE_SERIALIZED,
	};
	ucs_status_t status =
		far_ucx_lib->ucp_worker_create(proof->asker_context, &params, &proof->asker);

	if (status == UCS_OK)
		status = far_ucx_lib->ucp_worker_create(proof->context, &params, &proof->target);
	return status;
}

static ucs_status_t
listener_make(struct proof *proof, const struct sockaddr_storage *local)
{
	ucp_listener_params_t params = {
		.field_mask =
			UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
		.sockaddr = {.addr = (const struct sockaddr *)local, .addrlen = sizeof(*local)},
		.conn_handler = {.cb = on_request, .arg = proof},
	};

	params.sockaddr.addrlen = local->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
							       : sizeof(struct sockaddr_in);
	return far_ucx_lib->ucp_listener_create(proof->target, &params, &proof->listener);
}

static ucs_status_t
connect_both(struct proof *proof)
{
	ucp_listener_attr_t attr = {.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR};
	ucp_ep_params_t asker = {
		.field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR,
		.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
	};
	ucp_ep_params_t target = {.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST};
	ucp_request_param_t param = done_param;
	ucs_status_t status = far_ucx_lib->ucp_listener_query(proof->listener, &attr);

	if (status != UCS_OK)
		return status;
	deadline_set(proof);
	asker.sockaddr.addr = (const struct sockaddr *)&attr.sockaddr;
	asker.sockaddr.addrlen = attr.sockaddr.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
								     : sizeof(struct sockaddr_in);
	status = ep_make(proof, proof->asker, &asker, &proof->asker_ep);
	while (status == UCS_OK && proof->request == NULL) {
		if (!step(proof))
			status = UCS_ERR_TIMED_OUT;
		else
			status = proof->failed;
	}
	if (status != UCS_OK)
		return status;
	target.conn_request = proof->request;
	proof->request = NULL; /* taken, whatever comes out */
	status = ep_make(proof, proof->target, &target, &proof->target_ep);
	if (status != UCS_OK)
		return status;
	/* Both have said all that they have to say to each other. */
	param.user_data = proof;
	request_count(proof, far_ucx_lib->ucp_ep_flush_nbx(proof->asker_ep, &param));
	request_count(proof, far_ucx_lib->ucp_ep_flush_nbx(proof->target_ep, &param));
	return pending_wait(proof);
}

static ucs_status_t
key_make(struct proof *proof)
{
	ucp_mem_map_params_t params = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
		.address = proof->pages.base,
		.length = proof->pages.size_bytes,
	};
	ucs_status_t status = far_ucx_lib->ucp_mem_map(proof->context, &params, &proof->handle);

	if (status == UCS_OK)
		status = far_ucx_lib->ucp_rkey_pack(proof->context, proof->handle, &proof->key,
						    &proof->key_bytes);
	return status;
}

static ucs_status_t
key_carry(struct proof *proof)
{
	return far_ucx_lib->ucp_ep_rkey_unpack(proof->asker_ep, proof->key, &proof->rkey);
}

/* The heart of it: from here on nobody looks at the target's worker. */
static ucs_status_t
get_alone(struct proof *proof)
{
	uint8_t *page = proof->pages.base;
	ucp_request_param_t param = done_param;
	ucs_status_t status;

	far_random_bytes(page, PAGE_BYTES);
	deadline_set(proof);
	proof->target_rests = true;
	param.user_data = proof;
	request_count(proof,
		      far_ucx_lib->ucp_get_nbx(proof->asker_ep, page + PAGE_BYTES, PAGE_BYTES,
					       (uintptr_t)page, proof->rkey, &param));
	status = pending_wait(proof);
	if (status == UCS_OK && memcmp(page, page + PAGE_BYTES, PAGE_BYTES) != 0)
		status = UCS_ERR_IO_ERROR;
	return status;
}

/* ---- the end ---- */

static void
ep_end(struct proof *proof, ucp_ep_h *ep)
{
	ucp_request_param_t param = done_param;

	if (*ep == NULL)
		return;
	param.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
	param.flags = UCP_EP_CLOSE_FLAG_FORCE;
	param.user_data = proof;
	request_count(proof, far_ucx_lib->ucp_ep_close_nbx(*ep, &param));
	*ep = NULL;
}

/* A request that nobody answered holds up RDMA CM for ever when its listener goes. */
static void
listener_end(struct proof *proof, bool expected)
{
	if (proof->listener == NULL)
		return;
	while (expected && !proof->asked && step(proof))
		;
	proof->asked = true; /* those that come now are refused at once */
	if (proof->request != NULL)
		(void)far_ucx_lib->ucp_listener_reject(proof->listener, proof->request);
	far_ucx_lib->ucp_listener_destroy(proof->listener);
}

/* Takes half-made ones. The pages go last: until the workers are gone a late GET may land there. */
static void
proof_fini(struct proof *proof)
{
	bool expected = proof->asker_ep != NULL;

	proof->target_rests = proof->target == NULL;
	proof->deadline_ns = far_clock_now(far_clock_real()) + CLOSE_WAIT_NS;
	ep_end(proof, &proof->asker_ep);
	ep_end(proof, &proof->target_ep);
	while (proof->pending > 0 && step(proof))
		;
	if (proof->rkey != NULL)
		far_ucx_lib->ucp_rkey_destroy(proof->rkey);
	if (proof->key != NULL)
		far_ucx_lib->ucp_rkey_buffer_release(proof->key);
	listener_end(proof, expected);
	if (proof->asker != NULL)
		far_ucx_lib->ucp_worker_destroy(proof->asker);
	if (proof->target != NULL)
		far_ucx_lib->ucp_worker_destroy(proof->target);
	if (proof->handle != NULL)
		(void)far_ucx_lib->ucp_mem_unmap(proof->context, proof->handle);
	far_pages_unmap(&proof->pages);
}

static int
steps_take(struct proof *proof, const struct sockaddr_storage *local, char *why, size_t why_bytes)
{
	const char *what = "no worker";
	bool ours = true; /* of this process' memory and descriptors, and nothing of the address */
	ucs_status_t status = workers_make(proof);

	if (status == UCS_OK) {
		what = "no memory registered";
		status = key_make(proof);
	}
	if (status == UCS_OK) {
		what = "no listener there";
		ours = false;
		status = listener_make(proof, local);
	}
	if (status == UCS_OK) {
		what = "no connection to it";
		status = connect_both(proof);
	}
	if (status == UCS_OK) {
		what = "no key";
		status = key_carry(proof);
	}
	if (status == UCS_OK) {
		what = "a GET waits for its target's process";
		status = get_alone(proof);
	}
	if (status == UCS_OK)
		return 0;
	(void)snprintf(why, why_bytes, "%s: %s", what, far_ucx_lib->ucs_status_string(status));
	return ours || status == UCS_ERR_NO_MEMORY ? -ENOMEM : -ENODEV;
}

int
far_ucx_prove_with(ucp_context_h asker, ucp_context_h target, const struct sockaddr_storage *local,
		   uint64_t timeout_ns, char *why, size_t why_bytes)
{
	struct proof proof = {
		.asker_context = asker,
		.context = target,
		.failed = UCS_OK,
		.timeout_ns = timeout_ns,
	};
	struct sockaddr_storage any_port = *local;
	int rc;

	why[0] = '\0';
	if (local->ss_family == AF_INET6)
		((struct sockaddr_in6 *)&any_port)->sin6_port = 0;
	else
		((struct sockaddr_in *)&any_port)->sin_port = 0;
	rc = far_pages_map_shared("farpool-proof", 2UL * PAGE_BYTES, FAR_PAGES_HUGE_OFF, -1,
				  &proof.pages);
	if (rc < 0) {
		(void)snprintf(why, why_bytes, "no two pages: %s", far_err_text(rc));
		return rc;
	}
	far_ucx_enter();
	rc = steps_take(&proof, &any_port, why, why_bytes);
	proof_fini(&proof);
	far_ucx_leave();
	return rc;
}

/* ---- once per address ---- */

struct verdict {
	struct sockaddr_storage local;
	uint64_t until_ns; /* FAR_TIME_NEVER: proved; else it failed, and is not tried before */
};

/* Taken around the table alone; nothing is called under it. */
static pthread_mutex_t verdicts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct verdict verdicts[VERDICTS_MAX];
static uint32_t verdict_count;

static bool
host_is_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	struct sockaddr_in6 a6, b6;
	struct sockaddr_in a4, b4;

	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family != AF_INET6) {
		memcpy(&a4, a, sizeof(a4));
		memcpy(&b4, b, sizeof(b4));
		return a4.sin_addr.s_addr == b4.sin_addr.s_addr;
	}
	memcpy(&a6, a, sizeof(a6));
	memcpy(&b6, b, sizeof(b6));
	return memcmp(&a6.sin6_addr, &b6.sin6_addr, sizeof(a6.sin6_addr)) == 0 &&
	       a6.sin6_scope_id == b6.sin6_scope_id;
}

static struct verdict *
verdict_find(const struct sockaddr_storage *local)
{
	for (uint32_t i = 0; i < verdict_count; i++)
		if (host_is_equal(&verdicts[i].local, local))
			return &verdicts[i];
	return NULL;
}

/* Returns FAR_TIME_NEVER, until when it is refused, or 0: nobody knows. */
static uint64_t
verdict_get(const struct sockaddr_storage *local)
{
	const struct verdict *verdict;
	uint64_t until_ns;

	(void)pthread_mutex_lock(&verdicts_lock);
	verdict = verdict_find(local);
	until_ns = verdict != NULL ? verdict->until_ns : 0;
	(void)pthread_mutex_unlock(&verdicts_lock);
	return until_ns;
}

static void
verdict_set(const struct sockaddr_storage *local, uint64_t until_ns)
{
	struct verdict *verdict;

	(void)pthread_mutex_lock(&verdicts_lock);
	verdict = verdict_find(local);
	if (verdict == NULL && verdict_count < VERDICTS_MAX)
		verdict = &verdicts[verdict_count++];
	if (verdict != NULL)
		*verdict = (struct verdict){.local = *local, .until_ns = until_ns};
	(void)pthread_mutex_unlock(&verdicts_lock);
}

static bool
is_any(const struct sockaddr_storage *local)
{
	static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
	struct sockaddr_in6 in6;
	struct sockaddr_in in;

	if (local->ss_family == AF_INET6) {
		memcpy(&in6, local, sizeof(in6));
		return memcmp(&in6.sin6_addr, &any6, sizeof(any6)) == 0;
	}
	memcpy(&in, local, sizeof(in));
	return in.sin_addr.s_addr == htonl(INADDR_ANY);
}

static int
prove(struct ucx_transport *tp, const struct sockaddr_storage *local, uint64_t timeout_ns)
{
	ucp_context_h asker = tp->context;
	char name[FAR_ADDRESS_BYTES_MAX];
	uint64_t until_ns;
	char why[256];
	int rc = 0;

	far_host_format(local, name);
	if (is_any(local)) {
		far_log_error(
			"ucx: trust: fabric is for one RDMA port: listen at its address, not at "
			"%s",
			name);
		return -EINVAL;
	}
	until_ns = verdict_get(local);
	if (until_ns == FAR_TIME_NEVER)
		return 0;
	if (far_clock_now(far_clock_real()) < until_ns)
		return -ENODEV; /* it has been said why */
	if (tp->posts_no_reads)
		rc = far_ucx_open_asker(tp, &asker);
	if (rc < 0)
		return rc;
	rc = far_ucx_prove_with(asker, tp->context, local, timeout_ns, why, sizeof(why));
	if (asker != tp->context)
		far_ucx_close_asker(asker);
	if (rc < 0 && rc != -ENODEV) {
		/* Of the address nobody knows anything yet. */
		far_log_error("ucx: GET at %s was not tried: %s: see this process' memory, "
			      "RLIMIT_MEMLOCK and RLIMIT_NOFILE",
			      name, why);
		return rc;
	}
	if (rc < 0) {
		far_log_error(
			"ucx: GET at %s is not proved one-sided: %s: see that it is the address "
			"of an RDMA port, or leave trust: none",
			name, why);
		verdict_set(local, far_clock_now(far_clock_real()) + AGAIN_NS);
		return rc;
	}
	far_log_info("ucx: GET at %s is one-sided", name);
	verdict_set(local, FAR_TIME_NEVER);
	return 0;
}

int
far_ucx_prove(struct ucx_transport *tp, const struct sockaddr_storage *local)
{
	return prove(tp, local, LISTEN_TIMEOUT_NS);
}

/* A socket that is connected and never sent on knows the address that it would send from. */
int
far_ucx_prove_towards(struct ucx_transport *tp, const struct sockaddr_storage *peer,
		      socklen_t peer_bytes)
{
	struct sockaddr_storage local = {0};
	socklen_t local_bytes = sizeof(local);
	int fd = socket(peer->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = 0;

	if (fd < 0)
		return errno == EMFILE || errno == ENFILE ? -EMFILE : -ENOMEM;
	if (connect(fd, (const struct sockaddr *)peer, peer_bytes) < 0 ||
	    getsockname(fd, (struct sockaddr *)&local, &local_bytes) < 0)
		rc = -ECONNREFUSED; /* no way there, now */
	(void)close(fd);
	return rc < 0 ? rc : prove(tp, &local, CONNECT_TIMEOUT_NS);
}
