/* port.c - the doctor on the ports of an RDMA device: state, MTU, GIDs, and the addresses they stand for. */
#include "tools/cli/doctor/files.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/doctor/doctor.h"

#define SYSFS_PORT     "/sys/class/infiniband/%s/ports/%u"
#define GIDS_SHOWN_MAX 8U
#define GIDS_MAX       1024U
#define MTU_GOOD       4096U
#define ROCE_BYTES     58U /* of headers in a packet of RoCE v2 over IPv6, with its checksum */

enum gid_type { GID_IB, GID_V1, GID_V2, GID_OTHER };

struct gid {
	uint32_t idx;
	enum gid_type type;
	uint8_t bytes[16];
	bool link_local;
	char text[INET6_ADDRSTRLEN];
	char interface[16]; /* "": not known */
};

struct port {
	const struct far_doctor_host *host;
	const char *device;
	unsigned number;
	bool infiniband;
	bool active;
	char interface[16];                     /* its network interface; "": none */
	const struct far_verbs_port_seen *seen; /* NULL: the libraries do not tell */
};

/* ---- what is there ---- */

static bool
bytes_take(const char *text, uint8_t out[16])
{
	struct in6_addr addr;

	if (inet_pton(AF_INET6, text, &addr) != 1)
		return false;
	memcpy(out, &addr, 16);
	return true;
}

static bool
is_mapped(const uint8_t bytes[16])
{
	static const uint8_t head[12] = {[10] = 0xff, [11] = 0xff};

	return memcmp(bytes, head, sizeof(head)) == 0;
}

/* An entry of the table that is in use. */
static bool
gid_read(const struct port *port, uint32_t idx, struct gid *out)
{
	static const uint8_t none[16];
	char text[64];

	*out = (struct gid){.idx = idx, .type = GID_OTHER};
	if (!far_doctor_read(port->host->root, text, sizeof(text), SYSFS_PORT "/gids/%" PRIu32,
			     port->device, port->number, idx) ||
	    !bytes_take(text, out->bytes) || memcmp(out->bytes, none, 16) == 0)
		return false;
	out->link_local = out->bytes[0] == 0xfe && (out->bytes[1] & 0xc0) == 0x80;
	(void)inet_ntop(is_mapped(out->bytes) ? AF_INET : AF_INET6,
			is_mapped(out->bytes) ? out->bytes + 12 : out->bytes, out->text,
			sizeof(out->text));
	(void)far_doctor_read(port->host->root, out->interface, sizeof(out->interface),
			      SYSFS_PORT "/gid_attrs/ndevs/%" PRIu32, port->device, port->number,
			      idx);
	if (port->infiniband)
		out->type = GID_IB;
	else if (far_doctor_read(port->host->root, text, sizeof(text),
				 SYSFS_PORT "/gid_attrs/types/%" PRIu32, port->device, port->number,
				 idx))
		out->type = strstr(text, "v2") != NULL ? GID_V2 : GID_V1;
	return true;
}

/* Those of RoCE say theirs; soft-RoCE says its parent; a device on PCI has a folder of them. */
static void
interface_find(struct port *port)
{
	static struct far_doctor_names names;
	const char *root = port->host->root;

	if (far_doctor_read(root, port->interface, sizeof(port->interface),
			    SYSFS_PORT "/gid_attrs/ndevs/0", port->device, port->number) ||
	    far_doctor_read(root, port->interface, sizeof(port->interface),
			    "/sys/class/infiniband/%s/parent", port->device))
		return;
	far_doctor_list(root, &names, "/sys/class/infiniband/%s/device/net", port->device);
	for (size_t i = 0; i < names.count; i++) {
		int64_t number = 0;

		/* Cards with one function for several ports tell them apart; hexadecimal. */
		if (!far_doctor_read_number(root, &number, "/sys/class/net/%s/dev_port",
					    names.names[i]))
			number = 0;
		if (names.count > 1 && number + 1 != port->number)
			continue;
		(void)snprintf(port->interface, sizeof(port->interface), "%.15s", names.names[i]);
		return;
	}
}

static const struct far_doctor_address *
address_of(const struct port *port, const uint8_t bytes[16])
{
	for (size_t i = 0; i < port->host->address_count; i++)
		if (memcmp(port->host->addresses[i].gid, bytes, 16) == 0)
			return &port->host->addresses[i];
	return NULL;
}

/* The first that a peer could be told; NULL: none. */
static const struct far_doctor_address *
address_usable(const struct port *port)
{
	for (size_t i = 0; i < port->host->address_count; i++) {
		const struct far_doctor_address *address = &port->host->addresses[i];

		if (!address->link_local && port->interface[0] != '\0' &&
		    strcmp(address->interface, port->interface) == 0)
			return address;
	}
	return NULL;
}

/* Whether another port carries this host's RDMA, so that this one may be left unused. */
static bool
others_active(const struct port *port)
{
	static struct far_doctor_names devices, ports;
	char text[64];

	far_doctor_list(port->host->root, &devices, "/sys/class/infiniband");
	for (size_t i = 0; i < devices.count; i++) {
		far_doctor_list(port->host->root, &ports, "/sys/class/infiniband/%s/ports",
				devices.names[i]);
		for (size_t j = 0; j < ports.count; j++)
			if (far_doctor_read(port->host->root, text, sizeof(text),
					    "/sys/class/infiniband/%s/ports/%s/state",
					    devices.names[i], ports.names[j]) &&
			    strstr(text, "ACTIVE") != NULL)
				return true;
	}
	return false;
}

/* ---- state ---- */

static void
state_fix(const struct port *port, const char *state, struct far_doctor_report *report)
{
	const char *root = port->host->root;
	char physical[64] = "";
	int64_t flags = 1;

	(void)far_doctor_read(root, physical, sizeof(physical), SYSFS_PORT "/phys_state",
			      port->device, port->number);
	if (port->interface[0] != '\0')
		(void)far_doctor_read_number(root, &flags, "/sys/class/net/%s/flags",
					     port->interface);
	if ((flags & 1) == 0)
		far_doctor_fix(report, "ip link set dev %s up", port->interface);
	else if (port->infiniband && strstr(state, "INIT") != NULL)
		far_doctor_fix(report, "systemctl start opensm    (or a switch's subnet manager)");
	else if (strstr(physical, "Disabled") != NULL && port->interface[0] == '\0')
		far_doctor_fix(report, "ip link show: bring its interface up");
	else
		far_doctor_fix(report,
			       "no signal: check cable, transceiver and the switch's port%s%s",
			       port->interface[0] != '\0' ? "; ethtool " : "", port->interface);
}

/* "4: ACTIVE" -> "ACTIVE" */
static const char *
word_of(const char *text)
{
	const char *colon = strstr(text, ": ");

	return colon != NULL ? colon + 2 : text;
}

static void
state_check(struct port *port, const char *name, struct far_doctor_report *report)
{
	const char *root = port->host->root;
	char state[64], layer[32] = "", rate[64] = "";
	bool known, addressed = address_usable(port) != NULL;

	(void)far_doctor_read(root, layer, sizeof(layer), SYSFS_PORT "/link_layer", port->device,
			      port->number);
	(void)far_doctor_read(root, rate, sizeof(rate), SYSFS_PORT "/rate", port->device,
			      port->number);
	known = far_doctor_read(root, state, sizeof(state), SYSFS_PORT "/state", port->device,
				port->number);
	port->infiniband = strcmp(layer, "InfiniBand") == 0;
	port->active = known && strstr(state, "ACTIVE") != NULL;
	far_doctor_add(report, FAR_DOCTOR_OK, name, "%s, %s%s%s%s%s",
		       known ? word_of(state) : "state not known",
		       port->infiniband ? "InfiniBand" : "Ethernet (RoCE)",
		       port->interface[0] != '\0' ? ", interface " : "", port->interface,
		       rate[0] != '\0' ? ", " : "", rate);
	if (port->active)
		return;
	/* A port that has an address was meant to be used; a spare one may be dark. */
	if (addressed || !others_active(port))
		far_doctor_worsen(report, FAR_DOCTOR_FAIL);
	else
		far_doctor_worsen(report, FAR_DOCTOR_WARN);
	if (!addressed)
		far_doctor_more(report, "its interface has no address: it is not in use");
	state_fix(port, known ? state : "", report);
}

/* ---- MTU ---- */

static void
mtu_check(const struct port *port, struct far_doctor_report *report)
{
	int64_t of_interface = 0;

	if (!port->active || port->seen == NULL || port->seen->rc != 0)
		return;
	if (port->interface[0] == '\0' || port->infiniband ||
	    !far_doctor_read_number(port->host->root, &of_interface, "/sys/class/net/%s/mtu",
				    port->interface)) {
		far_doctor_more(report, "MTU %" PRIu32 " of %" PRIu32, port->seen->mtu_bytes,
				port->seen->mtu_bytes_max);
		return;
	}
	far_doctor_more(report, "MTU %" PRIu32 " of %" PRIu32 ", that of %s is %" PRId64,
			port->seen->mtu_bytes, port->seen->mtu_bytes_max, port->interface,
			of_interface);
	if (port->seen->mtu_bytes >= MTU_GOOD || port->seen->mtu_bytes >= port->seen->mtu_bytes_max)
		return;
	far_doctor_worsen(report, FAR_DOCTOR_WARN);
	if (of_interface < MTU_GOOD + ROCE_BYTES) {
		far_doctor_more(report, "small packets cost speed");
		far_doctor_fix(report, "ip link set dev %s mtu 9000    (switch and peers alike)",
			       port->interface);
	} else {
		far_doctor_more(report, "the interface would carry %u", MTU_GOOD);
		far_doctor_fix(report, "ip link set dev %s down && ip link set dev %s up",
			       port->interface, port->interface);
	}
}

/* ---- GIDs ---- */

static const char *
type_name(enum gid_type type)
{
	static const char *const names[] = {"InfiniBand", "RoCE v1", "RoCE v2",
					    "of an unknown type"};

	return names[type];
}

struct gids {
	unsigned count;  /* in use */
	unsigned v2;     /* RoCE v2 or InfiniBand */
	unsigned usable; /* of those, beyond this link */
	unsigned shown;
	unsigned chosen; /* by an address of ours */
	bool mode_v1;    /* RDMA CM is told to prefer v1 */
};

/* RDMA CM takes the GID that is the address, in the version that it is set to. */
static bool
is_chosen(const struct port *port, const struct gids *gids, const struct gid *gid)
{
	if (gid->link_local || address_of(port, gid->bytes) == NULL)
		return false;
	return gid->type == (gids->mode_v1 ? GID_V1 : GID_V2);
}

static void
gid_add(const struct port *port, struct gids *gids, const struct gid *gid,
	struct far_doctor_report *report)
{
	bool chosen = is_chosen(port, gids, gid);

	gids->count++;
	gids->v2 += gid->type == GID_V2 || gid->type == GID_IB;
	gids->usable += (gid->type == GID_V2 && !gid->link_local) || gid->type == GID_IB;
	gids->chosen += chosen;
	/* Most tables have each address twice, and link-local ones that are of no use here. */
	if (!chosen && (gids->shown >= GIDS_SHOWN_MAX || gid->type == GID_V1 || gid->link_local))
		return;
	gids->shown++;
	if (chosen)
		far_doctor_more(report, "gid %" PRIu32 ": %s %s: used for verbs:%s%s%s:PORT",
				gid->idx, type_name(gid->type), gid->text,
				strchr(gid->text, ':') != NULL ? "[" : "", gid->text,
				strchr(gid->text, ':') != NULL ? "]" : "");
	else
		far_doctor_more(report, "gid %" PRIu32 ": %s %s%s", gid->idx, type_name(gid->type),
				gid->text, gid->type == GID_IB ? "" : ": no address of this host");
}

static void
address_fix(const struct port *port, struct far_doctor_report *report)
{
	far_doctor_fix(report, "ip address add 10.0.0.1/24 dev %s    (one that peers reach)",
		       port->interface[0] != '\0' ? port->interface : "INTERFACE");
}

/* InfiniBand needs IP addresses too: peers are named by them. */
static void
infiniband_check(const struct port *port, struct far_doctor_report *report)
{
	if (port->interface[0] == '\0') {
		far_doctor_worsen(report, FAR_DOCTOR_FAIL);
		far_doctor_more(report, "it has no network interface, and peers are found by "
					"address");
		far_doctor_fix(report, "modprobe ib_ipoib");
	} else if (address_usable(port) == NULL) {
		far_doctor_worsen(report, FAR_DOCTOR_FAIL);
		far_doctor_more(report, "%s has no address, and peers are found by address",
				port->interface);
		address_fix(port, report);
	} else {
		far_doctor_more(report, "peers find it at verbs:%s:PORT",
				address_usable(port)->text);
	}
}

static void
roce_check(const struct port *port, const struct gids *gids, struct far_doctor_report *report)
{
	if (gids->count == 0) {
		far_doctor_worsen(report, FAR_DOCTOR_FAIL);
		far_doctor_more(report, "no GIDs: its interface is down or has no address");
		address_fix(port, report);
	} else if (gids->v2 == 0) {
		far_doctor_worsen(report, FAR_DOCTOR_WARN);
		far_doctor_more(report, "GIDs of RoCE v1 alone: it is not routed, and most peers "
					"speak v2");
		far_doctor_fix(report, "cma_roce_mode -d %s -p %u -m 2", port->device,
			       port->number);
	} else if (gids->usable == 0) {
		far_doctor_worsen(report, FAR_DOCTOR_WARN);
		far_doctor_more(report,
				"link-local GIDs alone: no peer can be told such an address");
		address_fix(port, report);
	} else if (gids->mode_v1) {
		far_doctor_worsen(report, FAR_DOCTOR_WARN);
		far_doctor_more(report, "connections are set to use RoCE v1: it is not routed");
		far_doctor_fix(report, "cma_roce_mode -d %s -p %u -m 2", port->device,
			       port->number);
	} else if (gids->chosen == 0) {
		far_doctor_worsen(report, FAR_DOCTOR_WARN);
		far_doctor_more(report, "none of them is an address of this network namespace");
		address_fix(port, report);
	}
}

static void
gids_check(const struct port *port, struct far_doctor_report *report)
{
	struct gids gids = {0};
	char mode[32];

	if (far_doctor_read(port->host->root, mode, sizeof(mode),
			    "/sys/kernel/config/rdma_cm/%s/ports/%u/default_roce_mode",
			    port->device, port->number))
		gids.mode_v1 = strstr(mode, "v1") != NULL;
	for (uint32_t i = 0;
	     i < GIDS_MAX && far_doctor_exists(port->host->root, SYSFS_PORT "/gids/%" PRIu32,
					       port->device, port->number, i);
	     i++) {
		struct gid gid;

		if (gid_read(port, i, &gid))
			gid_add(port, &gids, &gid, report);
	}
	/* Of a port that is down they say nothing: its state is what has to be mended. */
	if (!port->active)
		return;
	if (port->infiniband)
		infiniband_check(port, report);
	else
		roce_check(port, &gids, report);
}

void
far_doctor_ports(const struct far_doctor_host *host, const char *device,
		 struct far_doctor_report *report)
{
	static struct far_doctor_names ports;
	const struct far_verbs_device_seen *seen = NULL;

	for (uint32_t i = 0; i < host->verbs.device_count; i++)
		if (strcmp(host->verbs.devices[i].name, device) == 0)
			seen = &host->verbs.devices[i];
	far_doctor_list(host->root, &ports, "/sys/class/infiniband/%s/ports", device);
	for (size_t i = 0; i < ports.count && i < FAR_VERBS_INSPECT_PORTS; i++) {
		struct port port = {.host = host, .device = device};
		char name[FAR_DOCTOR_NAME_MAX];

		port.number = (unsigned)strtoul(ports.names[i], NULL, 10);
		for (uint32_t j = 0; seen != NULL && j < seen->port_count; j++)
			if (seen->ports[j].number == port.number)
				port.seen = &seen->ports[j];
		interface_find(&port);
		(void)snprintf(name, sizeof(name), "%.24s port %u", device, port.number);
		state_check(&port, name, report);
		mtu_check(&port, report);
		gids_check(&port, report);
	}
}
