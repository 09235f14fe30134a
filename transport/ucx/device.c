/* device.c - the interfaces that a process needs: UCX opens a port on each that it is given. */
#include "transport/ucx/ucx_priv.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

struct devices {
	const struct ifaddrs *all; /* owned by the caller */
	char *out;                 /* "eth0,eth1" */
	size_t out_bytes;
};

static bool
is_wildcard(const struct sockaddr_storage *addr)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memcpy(&in, addr, sizeof(in));
	memcpy(&in6, addr, sizeof(in6));
	return addr->ss_family == AF_INET ? in.sin_addr.s_addr == htonl(INADDR_ANY)
					  : IN6_IS_ADDR_UNSPECIFIED(&in6.sin6_addr);
}

static bool
hosts_equal(const struct sockaddr_storage *a, const struct sockaddr *b)
{
	struct sockaddr_in a4, b4;
	struct sockaddr_in6 a6, b6;

	if (b == NULL || a->ss_family != b->sa_family)
		return false;
	if (a->ss_family == AF_INET) {
		memcpy(&a4, a, sizeof(a4));
		memcpy(&b4, b, sizeof(b4));
		return a4.sin_addr.s_addr == b4.sin_addr.s_addr;
	}
	memcpy(&a6, a, sizeof(a6));
	memcpy(&b6, b, sizeof(b6));
	/* The same link-local address may stand at several interfaces: the scope tells them apart. */
	return memcmp(&a6.sin6_addr, &b6.sin6_addr, sizeof(a6.sin6_addr)) == 0 &&
	       (a6.sin6_scope_id == 0 || a6.sin6_scope_id == b6.sin6_scope_id);
}

/* The interface that has this address; 127.0.0.2 is nobody's, but that of 127.0.0.1 takes it. */
static const struct ifaddrs *
interface_of(const struct devices *devices, const struct sockaddr_storage *addr)
{
	struct sockaddr_in in;

	for (const struct ifaddrs *it = devices->all; it != NULL; it = it->ifa_next)
		if (hosts_equal(addr, it->ifa_addr))
			return it;
	memcpy(&in, addr, sizeof(in));
	if (addr->ss_family != AF_INET || ntohl(in.sin_addr.s_addr) >> 24 != 127)
		return NULL;
	for (const struct ifaddrs *it = devices->all; it != NULL; it = it->ifa_next)
		if ((it->ifa_flags & IFF_LOOPBACK) != 0)
			return it;
	return NULL;
}

/* The address that we would have towards a peer: asked of the routes, nothing is sent. */
static int
source_towards(const struct sockaddr_storage *peer, socklen_t peer_bytes,
	       struct sockaddr_storage *out)
{
	int fd = socket(peer->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t bytes = sizeof(*out);
	int rc = -1;

	memset(out, 0, sizeof(*out));
	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *)peer, peer_bytes) == 0)
		rc = getsockname(fd, (struct sockaddr *)out, &bytes);
	(void)close(fd);
	return rc;
}

static bool
is_listed(const char *list, const char *name)
{
	size_t name_bytes = strlen(name);

	for (const char *at = list; (at = strstr(at, name)) != NULL; at += name_bytes)
		if ((at == list || at[-1] == ',') &&
		    (at[name_bytes] == ',' || at[name_bytes] == '\0'))
			return true;
	return false;
}

/* False: one more has no room. @label: of an address: "eth0", or "eth0:1" of an alias, which is eth0 to
 * UCX. */
static bool
list_add(struct devices *devices, const char *label)
{
	size_t used = strlen(devices->out);
	char name[IF_NAMESIZE];

	(void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(label, ":"), label);
	if (is_listed(devices->out, name))
		return true;
	if (used + (used > 0) + strlen(name) >= devices->out_bytes)
		return false;
	(void)snprintf(devices->out + used, devices->out_bytes - used, "%s%s", used > 0 ? "," : "",
		       name);
	return true;
}

/* Adds what one address needs. Returns 0, -ENODEV (told), or -EAGAIN: it cannot be known now. */
static int
address_add(struct devices *devices, const char *address, bool ours)
{
	struct sockaddr_storage addr, local;
	const struct ifaddrs *interface;
	socklen_t addr_bytes;

	if (far_host_parse(address, &addr, &addr_bytes) < 0 || (ours && is_wildcard(&addr)))
		return -EAGAIN;
	if (ours)
		local = addr;
	else if (source_towards(&addr, addr_bytes, &local) < 0)
		return -EAGAIN;
	interface = interface_of(devices, &local);
	if (interface == NULL)
		return -EAGAIN;
	/* UCX looks for interfaces once: on one that comes up later it would never answer. One of
	 * many donors that cannot be reached is no reason for a client not to start. */
	if ((interface->ifa_flags & IFF_RUNNING) == 0 && !ours)
		return -EAGAIN;
	if ((interface->ifa_flags & IFF_RUNNING) == 0) {
		far_log_error("ucx: %s: interface %s is down: bring it up, then start again",
			      address, interface->ifa_name);
		return -ENODEV;
	}
	return list_add(devices, interface->ifa_name) ? 0 : -EAGAIN;
}

int
far_ucx_devices_find(const struct far_transport_config *config, char *out, size_t out_bytes)
{
	struct devices devices = {.out = out, .out_bytes = out_bytes};
	struct ifaddrs *all = NULL;
	int rc = 0;

	out[0] = '\0';
	if (config->listen_count + config->peer_count == 0 || getifaddrs(&all) < 0)
		return 0;
	devices.all = all;
	for (size_t i = 0; i < config->listen_count && rc == 0; i++)
		rc = address_add(&devices, config->listens[i], true);
	for (size_t i = 0; i < config->peer_count && rc == 0; i++)
		rc = address_add(&devices, config->peers[i], false);
	freeifaddrs(all);
	if (rc < 0)
		out[0] = '\0';
	return rc == -EAGAIN ? 0 : rc;
}
