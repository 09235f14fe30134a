/* ucx_worker.c - one UCX context and worker that speaks over the transports asked for, and no other. */
#include "tests/bench/ucx_worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <ucs/config/global_opts.h>

#include "tests/bench/bench.h"

static const struct bench_ucx_way ways[] = {
	{.name = "posix", .tls = "posix,self"},
	{.name = "sysv", .tls = "sysv,self"},
	{.name = "all", .tls = "posix,sysv,cma,self"},
	{.name = "tcp", .tls = "tcp", .devices = "lo", .spins = true},
	{.name = "tcp64", .tls = "tcp", .devices = "lo", .tx_seg = "64k", .spins = true},
};

const struct bench_ucx_way *
bench_ucx_way_find(const char *name)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (strcmp(ways[i].name, name) == 0)
			return &ways[i];
	return NULL;
}

/* Up to 1.13 UCX looks its transports' settings up without the transport's name. */
static void
tx_seg_set(ucp_config_t *config, const char *value)
{
	unsigned major, minor, release;

	ucp_get_version(&major, &minor, &release);
	(void)ucp_config_modify(
		config, major == 1 && minor <= 13 ? "TX_SEG_SIZE" : "TCP_TX_SEG_SIZE", value);
}

void
bench_ucx_quiet(void)
{
	(void)ucs_global_opts_set_value("LOG_LEVEL", "error");
}

static int
ucx_failed(const char *what, ucs_status_t status, char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "%s: %s", what, ucs_status_string(status));
	return -EIO;
}

int
bench_ucx_open(struct bench_ucx *ucx, const struct bench_ucx_way *way, char *why, size_t why_bytes)
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
	status = ucp_config_modify(config, "TLS", way->tls);
	if (status == UCS_OK && way->devices != NULL)
		status = ucp_config_modify(config, "NET_DEVICES", way->devices);
	if (way->tx_seg != NULL)
		tx_seg_set(config, way->tx_seg);
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
