/* route.c - the way to a donor before anything is sent: its name, our interface, the RDMA device. */
#include "tools/cli/doctor/files.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/cli/doctor/trip.h"
#include "transport/host.h"

#define LOOKUP_STEP_MS 5

/* ---- shm: a socket in the file system ---- */

static bool
socket_check(const struct far_address *address, struct far_doctor_report *report)
{
	const char *path = far_address_rest(address);
	const char *slash = strrchr(path, '/');
	struct stat info;

	if (stat(path, &info) < 0) {
		int error = errno;

		far_doctor_add(report, FAR_DOCTOR_FAIL, "address", "%s: %s", path, strerror(error));
		if (error == EACCES)
			far_doctor_fix(report, "run this as the donor's user");
		else
			far_doctor_fix(report, "start the donor on this host, or correct the path");
		if (slash != NULL && slash != path)
			far_doctor_fix(report, "in a container: docker run -v %.*s:%.*s",
				       (int)(slash - path), path, (int)(slash - path), path);
		return false;
	}
	if (!S_ISSOCK(info.st_mode)) {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "address", "%s is no socket", path);
		far_doctor_fix(report, "correct the path");
		return false;
	}
	far_doctor_add(report, FAR_DOCTOR_OK, "address", "a socket on this host");
	return true;
}

/* ---- names ---- */

/* The C library asks name servers for as long as it likes: aside, and we wait as long as we do. */
int
far_doctor_name_find(const char *text, uint64_t timeout_ns, struct sockaddr_storage *out)
{
	uint64_t deadline_ns = far_now_ns() + timeout_ns;
	struct far_resolve *resolve;
	/* A look-up that is not over by then goes on, and stays in this list. */
	static struct far_list dropped = {.prev = &dropped, .next = &dropped};
	socklen_t bytes;
	int rc = far_host_parse(text, out, &bytes);

	if (rc != -EAGAIN)
		return rc;
	rc = far_resolve_open(&dropped, text, &resolve);
	if (rc < 0)
		return rc;
	while ((rc = far_resolve_get(resolve, out, &bytes)) == -EAGAIN &&
	       far_now_ns() < deadline_ns)
		(void)poll(NULL, 0, LOOKUP_STEP_MS);
	far_resolve_drop(resolve);
	far_resolve_reap(&dropped, false);
	return rc == -EAGAIN ? -ETIMEDOUT : rc;
}

static bool
name_check(const struct far_doctor_trip *trip, const char *text, struct sockaddr_storage *peer,
	   struct far_doctor_report *report)
{
	char host[FAR_ADDRESS_BYTES_MAX] = "", port[6] = "";
	int rc;

	if (far_host_cut(text, host, port) < 0) {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "address", "'%s' is not HOST:PORT", text);
		far_doctor_fix(report, "write for example 10.0.0.3:7471, or [fd00::3]:7471");
		return false;
	}
	rc = far_doctor_name_find(text, trip->timeout_ns, peer);
	if (rc == 0)
		return true;
	far_doctor_add(report, FAR_DOCTOR_FAIL, "address", "the name '%s' %s", host,
		       rc == -ETIMEDOUT ? "was not found in time" : "is not known");
	far_doctor_fix(report, "getent hosts %s    (or write the address itself)", host);
	return false;
}

/* ---- interfaces ---- */

static void
gid_of(const struct sockaddr_storage *addr, uint8_t out[16])
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(out, 0, 16);
	if (addr->ss_family == AF_INET) {
		memcpy(&in, addr, sizeof(in));
		out[10] = 0xff;
		out[11] = 0xff;
		memcpy(out + 12, &in.sin_addr, 4);
	} else {
		memcpy(&in6, addr, sizeof(in6));
		memcpy(out, &in6.sin6_addr, 16);
	}
}

/* Our address towards the peer: a question about routes, nothing is sent. */
static int
source_find(const struct sockaddr_storage *peer, struct sockaddr_storage *out)
{
	int fd = socket(peer->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t bytes = sizeof(*out);
	int rc = 0;

	if (fd < 0)
		return -errno;
	memset(out, 0, sizeof(*out));
	if (connect(fd, (const struct sockaddr *)peer,
		    peer->ss_family == AF_INET ? sizeof(struct sockaddr_in)
					       : sizeof(struct sockaddr_in6)) < 0 ||
	    getsockname(fd, (struct sockaddr *)out, &bytes) < 0)
		rc = -errno;
	(void)close(fd);
	return rc;
}

static const char *
interface_of(const struct far_doctor_host *host, const struct sockaddr_storage *source)
{
	uint8_t gid[16];

	gid_of(source, gid);
	for (size_t i = 0; i < host->address_count; i++)
		if (memcmp(host->addresses[i].gid, gid, 16) == 0)
			return host->addresses[i].interface;
	return "lo";
}

static bool
interface_check(const struct far_doctor_trip *trip, const struct sockaddr_storage *peer,
		struct far_doctor_report *report)
{
	struct sockaddr_storage source = {.ss_family = AF_UNSPEC};
	char text[FAR_ADDRESS_BYTES_MAX];
	const char *interface;
	int64_t number;
	int rc = source_find(peer, &source);

	if (rc < 0) {
		far_host_format(peer, text);
		far_doctor_add(report, FAR_DOCTOR_FAIL, "route", "no way to %s: %s", text,
			       strerror(-rc));
		far_doctor_fix(report, "ip route get ADDRESS    (then add what is missing)");
		return false;
	}
	interface = interface_of(trip->host, &source);
	far_host_format(&source, text);
	/* The port is one of the question's own. */
	if (strrchr(text, ':') != NULL)
		*strrchr(text, ':') = '\0';
	far_doctor_add(report, FAR_DOCTOR_OK, "route", "interface %s, from %s", interface, text);
	if (far_doctor_read_number("", &number, "/sys/class/net/%s/mtu", interface))
		far_doctor_more(report, "MTU %" PRId64, number);
	if (far_doctor_read_number("", &number, "/sys/class/net/%s/speed", interface) && number > 0)
		far_doctor_more(report, "%" PRId64 " Mb/s", number);
	return true;
}

/* ---- RDMA ---- */

static void
rdma_failed(const struct far_verbs_route *route, int rc, const char *interface,
	    struct far_doctor_report *report)
{
	if (rc == -EOPNOTSUPP) {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "route", "this farpool has no verbs");
		far_doctor_fix(report, "see RDMA above");
	} else if (strcmp(interface, "lo") == 0) {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "route",
			       "RDMA does not go over lo: that is this host itself");
		far_doctor_fix(report, "use shm:, or this host's address on its RDMA network");
	} else if (rc == -ENODEV && route->device[0] == '\0') {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "route",
			       "no RDMA device leads there: packets would go over %s", interface);
		far_doctor_fix(report, "use the peer's address in the RDMA network: rdma link");
		far_doctor_fix(report, "or, in software, on both hosts: modprobe rdma_rxe");
		far_doctor_fix(report, "rdma link add rxe0 type rxe netdev %s", interface);
	} else if (rc == -EHOSTDOWN || rc == -ETIMEDOUT) {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "route",
			       "nobody there has this address (asked over %s)", interface);
		far_doctor_fix(report, "ip neigh; ping: is the host up, and in this network?");
	} else {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "route", "RDMA finds no %s%s%s: %s",
			       route->step, route->device[0] != '\0' ? " over " : "", route->device,
			       strerror(-rc));
		far_doctor_fix(report, "see RDMA above");
	}
}

static bool
rdma_check(const struct far_doctor_trip *trip, const struct sockaddr_storage *peer,
	   struct far_doctor_report *report)
{
	struct sockaddr_storage source = {.ss_family = AF_UNSPEC};
	struct far_verbs_route route;
	char text[FAR_ADDRESS_BYTES_MAX];
	const char *interface = "lo";
	int rc;

	far_host_format(peer, text);
	if (source_find(peer, &source) == 0)
		interface = interface_of(trip->host, &source);
	rc = far_verbs_route_find(text, trip->timeout_ns, &route);
	if (rc < 0) {
		rdma_failed(&route, rc, interface, report);
		return false;
	}
	far_doctor_add(report, FAR_DOCTOR_OK, "route", "%s port %" PRIu32 ", interface %s",
		       route.device, route.port, interface);
	if (route.gid_idx >= 0)
		far_doctor_more(report, "gid %" PRId32 " (%s), MTU %" PRIu32, route.gid_idx,
				route.gid_type, route.mtu_bytes);
	for (uint32_t i = 0; i < trip->host->verbs.device_count; i++)
		if (strcmp(trip->host->verbs.devices[i].name, route.device) == 0)
			far_doctor_more(report,
					"up to %" PRIu32
					" reads in flight, or what the peer serves",
					trip->host->verbs.devices[i].reads_asked_max);
	return true;
}

bool
far_doctor_route(const struct far_doctor_trip *trip, const struct far_address *address,
		 struct far_doctor_report *report)
{
	struct sockaddr_storage peer;

	if (strcmp(address->scheme, "shm") == 0)
		return socket_check(address, report);
	memset(&peer, 0, sizeof(peer));
	if (!name_check(trip, far_address_rest(address), &peer, report))
		return false;
	if (far_doctor_goes_by_rdma(trip, address))
		return rdma_check(trip, &peer, report);
	return interface_check(trip, &peer, report);
}
