/* ucx_worker.c - one UCX context and worker that speaks over the transports asked for, and no other. */
#include "tests/bench/ucx_worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static int
ucx_failed(const char *what, ucs_status_t status, char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "%s: %s", what, ucs_status_string(status));
	return -EIO;
}

int
bench_ucx_open(struct bench_ucx *ucx, const char *tls, char *why, size_t why_bytes)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES,
		.features = UCP_FEATURE_RMA,
	};
	ucp_worker_params_t worker_params = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
		.thread_mode = UCS_THREAD_MODE_SINGLE,
	};
	ucp_config_t *config;
	ucs_status_t status = ucp_config_read(NULL, NULL, &config);

	memset(ucx, 0, sizeof(*ucx));
	if (status != UCS_OK)
		return ucx_failed("ucp_config_read", status, why, why_bytes);
	status = ucp_config_modify(config, "TLS", tls);
	if (status == UCS_OK)
		status = ucp_init(&params, config, &ucx->context);
	ucp_config_release(config);
	if (status != UCS_OK)
		return ucx_failed("ucp_init", status, why, why_bytes);
	status = ucp_worker_create(ucx->context, &worker_params, &ucx->worker);
	if (status != UCS_OK) {
		ucp_cleanup(ucx->context);
		ucx->context = NULL;
		return ucx_failed("ucp_worker_create", status, why, why_bytes);
	}
	return 0;
}

void
bench_ucx_close(struct bench_ucx *ucx)
{
	if (ucx->worker != NULL)
		ucp_worker_destroy(ucx->worker);
	if (ucx->context != NULL)
		ucp_cleanup(ucx->context);
	memset(ucx, 0, sizeof(*ucx));
}

int
bench_ucx_send(int fd, const void *from, size_t size_bytes)
{
	const char *at = from;

	while (size_bytes > 0) {
		ssize_t sent = send(fd, at, size_bytes, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return -ECONNRESET;
		at += sent;
		size_bytes -= (size_t)sent;
	}
	return 0;
}

int
bench_ucx_receive(int fd, void *to, size_t size_bytes)
{
	char *at = to;

	while (size_bytes > 0) {
		ssize_t got = recv(fd, at, size_bytes, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -ECONNRESET;
		at += got;
		size_bytes -= (size_t)got;
	}
	return 0;
}
