/* worker.c - the attacker's UCX: a context with RMA, one connection, waits with a bound. */
#include "tests/support/attacker/attacker.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define AM_ID 1U /* farpool's */

static void
check(ucs_status_t status, const char *what)
{
	if (status == UCS_OK)
		return;
	fprintf(stderr, "attacker: %s: %s\n", what, ucs_status_string(status));
	exit(2);
}

uint64_t
attacker_now_ns(void)
{
	return far_clock_now(far_clock_real());
}

uint64_t
attacker_deadline_ns(unsigned seconds)
{
	return attacker_now_ns() + seconds * FAR_NS_PER_S;
}

/* ---- frames in ---- */

static void
answers_count(struct attacker *attacker, const struct ucx_frame *frame)
{
	struct ucx_frame_data record;
	size_t at = 0;

	while (far_ucx_frame_next_data(frame, &at, &record) != NULL) {
		attacker->answer_count++;
		attacker->answers_with_bytes += record.status == 0 || record.size_bytes != 0;
	}
}

static ucs_status_t
on_frame(void *arg, const void *header, size_t header_bytes, void *data, size_t data_bytes,
	 const ucp_am_recv_param_t *param)
{
	struct attacker *attacker = arg;
	struct ucx_frame frame;
	(void)header;
	(void)header_bytes;

	if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) || data_bytes > UCX_FRAME_BYTES_MAX)
		return UCS_OK;
	attacker->frame_count++;
	attacker->frame_bytes = data_bytes;
	memcpy(attacker->frame, data, data_bytes);
	if (far_ucx_frame_parse(attacker->frame, data_bytes, &frame) < 0)
		return UCS_OK;
	if (frame.kind == UCX_FRAME_WELCOME)
		attacker->welcome = frame.u.hello;
	else if (frame.kind == UCX_FRAME_DATA)
		answers_count(attacker, &frame);
	return UCS_OK;
}

/* ---- opening ---- */

void
attacker_open(struct attacker *attacker)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES,
		.features = UCP_FEATURE_RMA | UCP_FEATURE_AM,
	};
	ucp_worker_params_t worker_params = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
		.thread_mode = UCS_THREAD_MODE_SINGLE,
	};
	ucp_am_handler_param_t handler = {
		.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
			      UCP_AM_HANDLER_PARAM_FIELD_ARG,
		.id = AM_ID,
		.cb = on_frame,
		.arg = attacker,
	};
	ucp_config_t *config;

	memset(attacker, 0, sizeof(*attacker));
	setenv("UCX_TLS", "tcp", 1);
	setenv("UCX_SOCKADDR_TLS_PRIORITY", "tcp", 1);
	/* As farpool has it; two that differ in this never get to know each other. */
	setenv("UCX_CM_USE_ALL_DEVICES", "n", 1);
	check(ucp_config_read(NULL, NULL, &config), "ucp_config_read");
	check(ucp_init(&params, config, &attacker->context), "ucp_init");
	ucp_config_release(config);
	check(ucp_worker_create(attacker->context, &worker_params, &attacker->worker),
	      "ucp_worker_create");
	check(ucp_worker_set_am_recv_handler(attacker->worker, &handler), "AM handler");
}

static void
on_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
	struct attacker *attacker = arg;
	(void)status;

	if (ep == attacker->ep)
		attacker->lost = true;
}

static struct sockaddr_in
address_parse(const char *address)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	const char *colon = strrchr(address, ':');
	char host[64];

	if (colon == NULL || (size_t)(colon - address) >= sizeof(host)) {
		fprintf(stderr, "attacker: '%s' is no address\n", address);
		exit(2);
	}
	memcpy(host, address, (size_t)(colon - address));
	host[colon - address] = '\0';
	if (inet_pton(AF_INET, host, &addr.sin_addr) != 1) {
		fprintf(stderr, "attacker: '%s' is no address\n", host);
		exit(2);
	}
	addr.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	return addr;
}

bool
attacker_connect(struct attacker *attacker, const char *address)
{
	struct sockaddr_in addr = address_parse(address);
	ucp_ep_params_t params = {
		.field_mask = UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
			      UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_FLAGS |
			      UCP_EP_PARAM_FIELD_SOCK_ADDR,
		.err_mode = UCP_ERR_HANDLING_MODE_PEER,
		.err_handler = {.cb = on_error, .arg = attacker},
		.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
		.sockaddr = {.addr = (const struct sockaddr *)&addr, .addrlen = sizeof(addr)},
	};
	ucp_request_param_t none = {.op_attr_mask = 0};
	ucs_status_t status;

	attacker->lost = false;
	attacker->seq = 0;
	attacker->frame_count = 0;
	attacker->answer_count = 0;
	attacker->answers_with_bytes = 0;
	check(ucp_ep_create(attacker->worker, &params, &attacker->ep), "ucp_ep_create");
	return attacker_wait(attacker, ucp_ep_flush_nbx(attacker->ep, &none),
			     attacker_deadline_ns(ATTACKER_CONNECT_S), &status) &&
	       status == UCS_OK;
}

void
attacker_disconnect(struct attacker *attacker)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
		.flags = UCP_EP_CLOSE_FLAG_FORCE,
	};
	ucp_ep_h ep = attacker->ep;
	ucs_status_t status;

	attacker->ep = NULL;
	(void)attacker_wait(attacker, ucp_ep_close_nbx(ep, &param),
			    attacker_deadline_ns(ATTACKER_CLOSE_S), &status);
}

void
attacker_progress(struct attacker *attacker)
{
	if (ucp_worker_progress(attacker->worker) == 0)
		far_clock_sleep_until(attacker_now_ns() + 100 * FAR_NS_PER_US);
}

bool
attacker_wait(struct attacker *attacker, ucs_status_ptr_t request, uint64_t deadline_ns,
	      ucs_status_t *status_out)
{
	if (!UCS_PTR_IS_PTR(request)) {
		*status_out = UCS_PTR_STATUS(request);
		return true;
	}
	while ((*status_out = ucp_request_check_status(request)) == UCS_INPROGRESS) {
		if (attacker_now_ns() >= deadline_ns)
			return false; /* it stays with UCX: it may still end */
		attacker_progress(attacker);
	}
	ucp_request_free(request);
	return true;
}

void
attacker_say(struct attacker *attacker, const void *header, size_t header_bytes, const void *data,
	     size_t data_bytes, uint32_t flags)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
		.flags = UCP_AM_SEND_FLAG_REPLY | flags,
	};
	ucs_status_t status;

	/* Not even sent: the other side ended the connection before. */
	(void)attacker_wait(attacker,
			    ucp_am_send_nbx(attacker->ep, AM_ID, header, header_bytes, data,
					    data_bytes, &param),
			    attacker_deadline_ns(ATTACKER_WAIT_S), &status);
}
