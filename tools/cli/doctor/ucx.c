/* ucx.c - the doctor on UCX: its version, what it would use, and what is exported for it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "tools/cli/doctor/doctor.h"

/* Those that change which way bytes take; docs/decisions/ has why farpool sets them itself. */
static const char *const exported[] = {
	"UCX_TLS",         "UCX_NET_DEVICES",  "UCX_SOCKADDR_TLS_PRIORITY",
	"UCX_RNDV_THRESH", "UCX_PROTO_ENABLE",
};

static void
library_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	const struct far_ucx_inspection *ucx = &host->ucx;

	if (ucx->rc < 0) {
		bool failed = host->wanted.ucx || host->wanted.fabric || ucx->rc == -ETIMEDOUT;

		far_doctor_add(report, failed ? FAR_DOCTOR_FAIL : FAR_DOCTOR_NONE, "library", "%s",
			       ucx->error);
		if (ucx->rc == -ETIMEDOUT)
			far_doctor_fix(report,
				       "ucx_info -d; dmesg | grep -iE 'mlx|infiniband|rdma'");
		else if (ucx->rc == -EOPNOTSUPP)
			far_doctor_fix(report,
				       "apt-get install libucx-dev, then build farpool again");
		else
			far_doctor_fix(report, "apt-get install libucx0");
		return;
	}
	far_doctor_add(report, FAR_DOCTOR_OK, "library", "UCX %u.%u.%u, %s", ucx->major, ucx->minor,
		       ucx->release, ucx->path);
	if (!ucx->emulates)
		return;
	far_doctor_more(report, "with trust: fabric it is refused: 1.15 to 1.18 emulate one-sided "
				"reads");
	if (!host->wanted.fabric)
		return;
	far_doctor_worsen(report, FAR_DOCTOR_FAIL);
	far_doctor_fix(report, "install UCX 1.14 or older, or 1.19 or newer; or trust: none");
}

/* "tcp over eth0, lo" */
static unsigned
ways_add(const struct far_ucx_inspection *ucx, const char *transport, char *text, size_t text_bytes)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < ucx->way_count; i++) {
		size_t used = strlen(text);

		if (strcmp(ucx->ways[i].transport, transport) != 0)
			continue;
		(void)snprintf(text + used, text_bytes - used, "%s%s", count > 0 ? ", " : "",
			       ucx->ways[i].device);
		count++;
	}
	return count;
}

/* The others, each once: farpool uses none of them. */
static void
rest_add(const struct far_ucx_inspection *ucx, struct far_doctor_report *report)
{
	char text[256] = "";

	for (uint32_t i = 0; i < ucx->way_count; i++) {
		const char *name = ucx->ways[i].transport;
		size_t used = strlen(text);
		bool seen = strcmp(name, "tcp") == 0 || strncmp(name, "rc_", 3) == 0 ||
			    strncmp(name, "dc_", 3) == 0;

		for (uint32_t j = 0; j < i && !seen; j++)
			seen = strcmp(name, ucx->ways[j].transport) == 0;
		if (!seen)
			(void)snprintf(text + used, sizeof(text) - used, "%s%s",
				       used > 0 ? ", " : "", name);
	}
	if (text[0] != '\0')
		far_doctor_more(report, "also there, and not used by farpool: %s", text);
}

static void
tcp_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	char text[512] = "";

	if (ways_add(&host->ucx, "tcp", text, sizeof(text)) > 0) {
		far_doctor_add(report, FAR_DOCTOR_OK, "over TCP",
			       "%s: reads are served by the "
			       "donor's process",
			       text);
		rest_add(&host->ucx, report);
		return;
	}
	far_doctor_add(report,
		       host->wanted.ucx && !host->wanted.fabric ? FAR_DOCTOR_FAIL : FAR_DOCTOR_NONE,
		       "over TCP", "UCX has no transport tcp, or no interface is up");
	far_doctor_fix(report, "unset UCX_TLS UCX_NET_DEVICES");
	rest_add(&host->ucx, report);
}

static void
fabric_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	static const char *const transports[] = {"rc_verbs", "rc_mlx5", "dc_mlx5"};
	char text[512] = "";

	for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++) {
		char devices[256] = "";
		size_t used = strlen(text);

		if (ways_add(&host->ucx, transports[i], devices, sizeof(devices)) > 0)
			(void)snprintf(text + used, sizeof(text) - used, "%s%s over %s",
				       used > 0 ? "; " : "", transports[i], devices);
	}
	if (text[0] != '\0') {
		far_doctor_add(report, FAR_DOCTOR_OK, "over RDMA",
			       "%s: used with trust: fabric alone", text);
		return;
	}
	far_doctor_add(report, host->wanted.fabric ? FAR_DOCTOR_FAIL : FAR_DOCTOR_NONE, "over RDMA",
		       "UCX finds no RDMA device%s",
		       host->wanted.fabric ? ", and trust: fabric needs one" : "");
	if (far_doctor_rdma_count(host) > 0) {
		far_doctor_fix(report, "apt-get install ibverbs-providers");
		far_doctor_fix(report, "ucx_info -d    (or a UCX that was built with verbs)");
	} else if (host->wanted.fabric) {
		far_doctor_fix(report, "see RDMA above, or trust: none");
	}
}

static void
exported_check(struct far_doctor_report *report)
{
	for (size_t i = 0; i < sizeof(exported) / sizeof(exported[0]); i++) {
		const char *value = far_env_get(exported[i]);

		if (value == NULL)
			continue;
		far_doctor_add(report, FAR_DOCTOR_WARN, "exported",
			       "%s=%s: farpool chooses this "
			       "itself, and may not start with it",
			       exported[i], value);
		far_doctor_fix(report, "unset %s", exported[i]);
	}
}

void
far_doctor_ucx(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	far_doctor_group(report, "UCX");
	library_check(host, report);
	if (host->ucx.rc == 0) {
		tcp_check(host, report);
		fabric_check(host, report);
	}
	exported_check(report);
}
